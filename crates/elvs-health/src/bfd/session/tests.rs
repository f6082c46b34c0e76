use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// keepalived's defaults with 10 ms both ways, multiplier 5.
const PARAMETERS: Parameters = Parameters {
    min_tx: 10_000,
    min_rx: 10_000,
    idle_tx: 1_000_000,
    multiplier: NonZeroU8::new(5).unwrap(),
    passive: false,
    least_ttl: 255,
};

const MINE: NonZeroU32 = NonZeroU32::new(0x1111).unwrap();
const THEIRS: NonZeroU32 = NonZeroU32::new(0x2222).unwrap();

fn session(parameters: Parameters, now: Instant) -> Session {
    Session::new(parameters, MINE, 7, Begin::Down, now)
}

/// A packet of a neighbour that wants 20 ms both ways and has multiplier 3.
fn packet(state: State) -> Control {
    Control {
        diagnostic: Diagnostic::NONE,
        state,
        sequence: Sequence::Neither,
        control_plane_independent: false,
        demand: false,
        detect_multiplier: NonZeroU8::new(3).unwrap(),
        my_discriminator: THEIRS,
        your_discriminator: Some(MINE),
        desired_min_tx: 20_000,
        required_min_rx: 20_000,
        required_min_echo_rx: 0,
    }
}

fn hear(session: &mut Session, packet: &Control, now: Instant) {
    session.handle_packet(packet, Some(255), now).unwrap();
}

fn sent(session: &mut Session) -> Vec<Control> {
    let mut packets = Vec::new();
    while let Some(action) = session.poll_action() {
        if let Action::Send(packet) = action {
            packets.push(packet);
        }
    }
    packets
}

fn causes(session: &mut Session) -> Vec<Cause> {
    let mut causes = Vec::new();
    while let Some(action) = session.poll_action() {
        if let Action::Changed(cause) = action {
            causes.push(cause);
        }
    }
    causes
}

/// A session that is up, its Poll Sequence ended, nothing left to be done.
fn up(parameters: Parameters, now: Instant) -> Session {
    let mut session = session(parameters, now);
    hear(&mut session, &packet(State::Down), now);
    hear(&mut session, &packet(State::Up), now);
    hear(&mut session, &Control { sequence: Sequence::Final, ..packet(State::Up) }, now);
    assert_eq!((session.state(), session.poll), (State::Up, Poll::Idle));
    sent(&mut session);
    session
}

/// Lets time pass until `end`; the times at which packets went out, and the packets.
fn run(session: &mut Session, end: Instant) -> Vec<(Instant, Control)> {
    let mut all = Vec::new();
    while let Some(at) = session.poll_timeout()
        && at <= end
    {
        session.handle_timeout(at);
        all.extend(sent(session).into_iter().map(|packet| (at, packet)));
    }
    all
}

#[test]
fn rfc5880_6_2_every_state_and_every_state_of_the_neighbour() {
    use State::{AdminDown, Down, Init, Up};
    let none = Diagnostic::NONE;
    let signaled = Diagnostic::NEIGHBOR_SIGNALED_DOWN;
    let cases = [
        (Down, AdminDown, Down, none),
        (Down, Down, Init, none),
        (Down, Init, Up, none),
        (Down, Up, Down, none),
        (Init, AdminDown, Down, signaled),
        (Init, Down, Init, none),
        (Init, Init, Up, none),
        (Init, Up, Up, none),
        (Up, AdminDown, Down, signaled),
        (Up, Down, Down, signaled),
        (Up, Init, Up, none),
        (Up, Up, Up, none),
        (AdminDown, AdminDown, AdminDown, Diagnostic::ADMINISTRATIVELY_DOWN),
        (AdminDown, Down, AdminDown, Diagnostic::ADMINISTRATIVELY_DOWN),
        (AdminDown, Init, AdminDown, Diagnostic::ADMINISTRATIVELY_DOWN),
        (AdminDown, Up, AdminDown, Diagnostic::ADMINISTRATIVELY_DOWN),
    ];
    for (from, heard, to, diagnostic) in cases {
        let now = Instant::now();
        let mut session = session(PARAMETERS, now);
        match from {
            Down => {}
            Init => hear(&mut session, &packet(Down), now),
            Up => hear(&mut session, &packet(Init), now),
            AdminDown => session.shut_down(now),
        }
        assert_eq!(session.state(), from);
        hear(&mut session, &packet(heard), now);
        let got = (session.state(), session.diagnostic());
        assert_eq!(got, (to, diagnostic), "in {from}, neighbour says {heard}");
    }
}

#[test]
fn rfc5880_6_2_three_way_handshake_between_two_sessions() {
    let start = Instant::now();
    let mut a = Session::new(PARAMETERS, MINE, 1, Begin::Down, start);
    let mut b =
        Session::new(Parameters { min_tx: 50_000, ..PARAMETERS }, THEIRS, 2, Begin::Down, start);
    let mut heard = Vec::new();
    // The link takes 1 ms.
    for step in 0..3_000 {
        let now = start + MS * step;
        for packet in std::mem::take(&mut heard) {
            let Control { my_discriminator, .. } = packet;
            hear(if my_discriminator == MINE { &mut b } else { &mut a }, &packet, now);
        }
        for session in [&mut a, &mut b] {
            session.handle_timeout(now);
            heard.extend(sent(session));
        }
    }
    assert_eq!((a.state(), b.state()), (State::Up, State::Up));
    assert_eq!((a.poll, b.poll), (Poll::Idle, Poll::Idle));
    assert_eq!((a.transmit_interval(), b.transmit_interval()), (10 * MS, 50 * MS));
    assert_eq!((a.detection_time(), b.detection_time()), (250 * MS, 50 * MS));
}

#[test]
fn a_session_says_down_until_it_is_up_and_up_once() {
    let now = Instant::now();
    let mut session = session(PARAMETERS, now);
    assert_eq!(causes(&mut session), [Cause::Begun]);
    hear(&mut session, &packet(State::Down), now);
    assert_eq!(causes(&mut session), []);
    hear(&mut session, &packet(State::Up), now);
    hear(&mut session, &packet(State::Up), now);
    assert_eq!(causes(&mut session), [Cause::Heard { detection_time: 60 * MS }]);
}

#[test]
fn a_patient_session_says_nothing_for_three_idle_intervals() {
    let now = Instant::now();
    let patient = || Session::new(PARAMETERS, MINE, 7, Begin::Patient, now);
    let mut unheard = patient();
    assert_eq!(causes(&mut unheard), []);
    for (later, said) in [(2_999, vec![]), (3_000, vec![Cause::Begun]), (9_000, vec![])] {
        let end = now + MS * later;
        let mut causes = Vec::new();
        while let Some(at) = unheard.poll_timeout().filter(|at| *at <= end) {
            unheard.handle_timeout(at);
            causes.extend(self::causes(&mut unheard));
        }
        assert_eq!(causes, said, "after {later} ms");
    }

    let mut heard = patient();
    hear(&mut heard, &packet(State::Init), now + 2 * SECOND);
    assert_eq!(causes(&mut heard), [Cause::Heard { detection_time: 60 * MS }]);
    heard.handle_timeout(now + 3 * SECOND);
    let silence = Cause::Silence { detection_time: 60 * MS };
    assert_eq!(causes(&mut heard), [silence], "and not that it was never up");
}

#[test]
fn rfc5880_6_8_4_silence_of_the_detection_time_is_down() {
    let now = Instant::now();
    let mut session = up(PARAMETERS, now);
    // 3 x max(10 ms, 20 ms).
    assert_eq!(session.detection_time(), 60 * MS);
    session.handle_timeout(now + 60 * MS - Duration::from_micros(1));
    assert_eq!(session.state(), State::Up);
    session.handle_timeout(now + 60 * MS);
    assert_eq!(session.state(), State::Down);
    assert_eq!(session.diagnostic(), Diagnostic::DETECTION_TIME_EXPIRED);
    let mut actions: Vec<Action> = std::iter::from_fn(|| session.poll_action()).collect();
    let Some(Action::Send(packet)) = actions.pop() else { panic!("{actions:?}") };
    let silence = Action::Changed(Cause::Silence { detection_time: 60 * MS });
    assert_eq!(actions.pop(), Some(silence));
    assert_eq!((packet.state, packet.your_discriminator), (State::Down, None));
    assert_eq!(packet.desired_min_tx, 1_000_000, "no less than a second outside of Up");
}

#[test]
fn rfc5880_6_8_1_silence_while_down_forgets_the_discriminator_without_a_word() {
    let now = Instant::now();
    let mut session = session(PARAMETERS, now);
    hear(&mut session, &packet(State::AdminDown), now);
    assert_eq!(session.neighbor.discriminator, Some(THEIRS));
    causes(&mut session);
    session.handle_timeout(now + 60 * MS);
    assert_eq!(session.neighbor, Neighbor::UNHEARD);
    assert_eq!(session.diagnostic(), Diagnostic::NONE);
    assert_eq!(causes(&mut session), []);
}

#[test]
fn each_packet_defers_the_detection() {
    let now = Instant::now();
    let mut session = up(PARAMETERS, now);
    for step in 1..100 {
        let now = now + 59 * MS * step;
        session.handle_timeout(now);
        assert_eq!(session.state(), State::Up, "step {step}");
        hear(&mut session, &packet(State::Up), now);
    }
}

#[test]
fn a_neighbour_that_is_down_is_down_with_its_reason() {
    let now = Instant::now();
    let mut session = up(PARAMETERS, now);
    let diagnostic = Diagnostic::DETECTION_TIME_EXPIRED;
    hear(&mut session, &Control { diagnostic, ..packet(State::Down) }, now);
    let cause = Cause::NeighborDown { diagnostic };
    assert_eq!(causes(&mut session), [cause]);
    assert_eq!(
        cause.to_string(),
        "neighbor says that the session is down: control detection time expired"
    );
}

#[test]
fn rfc5882_4_2_a_neighbour_out_of_service_is_no_failure() {
    let now = Instant::now();
    let mut session = up(PARAMETERS, now);
    hear(&mut session, &packet(State::AdminDown), now);
    assert_eq!(session.state(), State::Down);
    let causes = causes(&mut session);
    assert_eq!(causes, [Cause::NeighborAdminDown]);
    assert_eq!(causes[0].standing(), Standing::Suspended);
}

#[test]
fn rfc5880_6_8_2_intervals_are_the_greater_of_both_wishes() {
    // (min_tx, min_rx, theirs: desired_min_tx, required_min_rx, multiplier) -> (interval, detection time) in ms
    let cases = [
        ((10, 10, 20, 20, 3), (20, 60)),
        ((30, 10, 20, 20, 3), (30, 60)),
        ((10, 30, 20, 20, 3), (20, 90)),
        ((10, 10, 0, 1, 1), (10, 10)),
        ((10, 10, 1000, 5000, 255), (5000, 255_000)),
    ];
    for ((min_tx, min_rx, desired, required, multiplier), (interval, detection)) in cases {
        let now = Instant::now();
        let parameters = Parameters { min_tx: min_tx * 1000, min_rx: min_rx * 1000, ..PARAMETERS };
        let mut session = up(parameters, now);
        let packet = Control {
            desired_min_tx: desired * 1000,
            required_min_rx: required * 1000,
            detect_multiplier: NonZeroU8::new(multiplier).unwrap(),
            ..packet(State::Up)
        };
        hear(&mut session, &packet, now);
        let got = (session.transmit_interval(), session.detection_time());
        let case = (min_tx, min_rx, desired, required, multiplier);
        assert_eq!(got, (MS * interval, MS * detection), "{case:?}");
    }
}

/// The jittered gaps between 1,000 packets, neighbour's packets keeping the session up.
fn gaps(multiplier: u8) -> Vec<Duration> {
    let now = Instant::now();
    let multiplier = NonZeroU8::new(multiplier).unwrap();
    let mut session = up(Parameters { multiplier, ..PARAMETERS }, now);
    session.silent_at = None;
    let packets = run(&mut session, now + 20 * SECOND);
    packets.windows(2).map(|pair| pair[1].0 - pair[0].0).collect()
}

#[test]
fn rfc5880_6_8_7_jitter_takes_up_to_a_quarter() {
    // 20 ms, as the neighbour requires.
    for (multiplier, shortest, longest) in [(1, 15, 18), (2, 15, 20), (255, 15, 20)] {
        let gaps = gaps(multiplier);
        assert!(gaps.len() > 1000, "{}", gaps.len());
        let (least, most) = (*gaps.iter().min().unwrap(), *gaps.iter().max().unwrap());
        assert!(least >= MS * shortest && least < MS * (shortest + 1), "{multiplier}: {least:?}");
        assert!(most <= MS * longest && most > MS * (longest - 1), "{multiplier}: {most:?}");
    }
    assert_eq!(gaps(5), gaps(5), "equal seeds, equal jitter");
}

#[test]
fn keepalived_conf_idle_tx_while_not_up() {
    let now = Instant::now();
    let mut session = session(Parameters { idle_tx: 2_000_000, ..PARAMETERS }, now);
    let packets = run(&mut session, now + 20 * SECOND);
    assert_eq!(packets[0].0, now, "the first at once");
    assert!((10..=14).contains(&packets.len()), "{} in 20 s", packets.len());
    for (_, packet) in packets {
        assert_eq!((packet.desired_min_tx, packet.required_min_rx), (2_000_000, 10_000));
        assert_eq!((packet.state, packet.your_discriminator), (State::Down, None));
        assert_eq!(packet.required_min_echo_rx, 0, "echo packets are not returned");
    }
}

#[test]
fn rfc5880_6_8_3_idle_tx_is_a_second_at_least() {
    let instance = instance();
    let short = BfdInstance { idle_tx: 10 * MS, ..instance };
    assert_eq!(Parameters::from(&short).idle_tx, 1_000_000);
}

#[test]
fn keepalived_conf_max_hops() {
    for (ttl, max_hops, least) in [(255, 0, 255), (255, 1, 254), (64, 64, 0), (64, 255, 0)] {
        let instance = BfdInstance { ttl, max_hops, ..instance() };
        assert_eq!(Parameters::from(&instance).least_ttl, least, "ttl {ttl}, hops {max_hops}");
    }
}

fn instance() -> BfdInstance {
    BfdInstance {
        name: "peer".to_owned(),
        neighbor: [10, 0, 0, 2].into(),
        source: None,
        min_rx: 10 * MS,
        min_tx: 10 * MS,
        idle_tx: SECOND,
        multiplier: 5,
        passive: false,
        ttl: 255,
        max_hops: 0,
        multihop: false,
    }
}

#[test]
fn rfc5881_5_refuses_what_came_over_a_router() {
    let now = Instant::now();
    let mut session = session(PARAMETERS, now);
    let refused = session.handle_packet(&packet(State::Down), Some(254), now);
    assert_eq!(refused, Err(Refusal::HopLimit { got: 254, least: 255 }));
    let refused = session.handle_packet(&packet(State::Down), None, now);
    assert_eq!(refused, Err(Refusal::NoHopLimit));
    assert_eq!((session.state(), session.neighbor), (State::Down, Neighbor::UNHEARD));
    let mut session = up(Parameters { least_ttl: 0, ..PARAMETERS }, now);
    assert_eq!(session.handle_packet(&packet(State::Down), None, now), Ok(()));
}

#[test]
fn keepalived_conf_passive_waits_for_the_neighbour() {
    let now = Instant::now();
    let mut session = session(Parameters { passive: true, ..PARAMETERS }, now);
    assert_eq!(session.poll_timeout(), None);
    hear(&mut session, &packet(State::Down), now);
    let packets = sent(&mut session);
    assert_eq!(packets.len(), 1, "it answers at once");
    assert_eq!((packets[0].state, packets[0].your_discriminator), (State::Init, Some(THEIRS)));
    hear(&mut session, &packet(State::Up), now);
    assert_eq!(session.state(), State::Up);
    sent(&mut session);
    run(&mut session, now + 60 * MS);
    assert_eq!((session.state(), session.poll_timeout()), (State::Down, None));
}

#[test]
fn rfc5880_6_5_going_up_polls_until_the_final() {
    let now = Instant::now();
    let mut session = session(PARAMETERS, now);
    hear(&mut session, &packet(State::Init), now);
    let packets = sent(&mut session);
    assert_eq!(packets.len(), 1);
    let Control { state, sequence, desired_min_tx, .. } = packets[0];
    assert_eq!((state, sequence, desired_min_tx), (State::Up, Sequence::Poll, 10_000));
    // A lower interval is used at once, and each packet polls.
    let packets = run(&mut session, now + 50 * MS);
    assert!(packets.len() >= 2, "{packets:?}");
    assert!(packets.iter().all(|(_, packet)| packet.sequence == Sequence::Poll));
    let now = now + 50 * MS;
    hear(&mut session, &Control { sequence: Sequence::Final, ..packet(State::Up) }, now);
    let packets = run(&mut session, now + 50 * MS);
    assert!(packets.len() >= 2, "{packets:?}");
    assert!(packets.iter().all(|(_, packet)| packet.sequence == Sequence::Neither));
}

#[test]
fn rfc5880_6_5_a_poll_is_answered_at_once_beside_the_timetable() {
    let now = Instant::now();
    let mut session = up(PARAMETERS, now);
    let planned = session.next_send;
    let poll = Control { sequence: Sequence::Poll, ..packet(State::Up) };
    hear(&mut session, &poll, now + MS);
    let packets = sent(&mut session);
    assert_eq!(packets.iter().map(|p| p.sequence).collect::<Vec<_>>(), [Sequence::Final]);
    assert_eq!(session.next_send, planned);
}

#[test]
fn rfc5880_6_8_3_a_higher_min_tx_waits_for_the_final() {
    let now = Instant::now();
    let mut session = up(Parameters { min_tx: 30_000, ..PARAMETERS }, now);
    session.reconfigure(Parameters { min_tx: 100_000, ..PARAMETERS }, now);
    assert_eq!(session.transmit_interval(), 30 * MS);
    let packets = run(&mut session, now + 40 * MS);
    assert_eq!(packets[0].1.desired_min_tx, 100_000, "it is announced");
    assert_eq!(packets[0].1.sequence, Sequence::Poll);
    hear(&mut session, &Control { sequence: Sequence::Final, ..packet(State::Up) }, now);
    assert_eq!(session.transmit_interval(), 100 * MS);
}

#[test]
fn rfc5880_6_8_3_a_lower_min_rx_waits_for_the_final() {
    let now = Instant::now();
    let mut session = up(Parameters { min_rx: 100_000, ..PARAMETERS }, now);
    session.reconfigure(Parameters { min_rx: 50_000, ..PARAMETERS }, now);
    assert_eq!(session.detection_time(), 300 * MS);
    hear(&mut session, &Control { sequence: Sequence::Final, ..packet(State::Up) }, now);
    assert_eq!(session.detection_time(), 150 * MS);
    // A higher one counts at once.
    session.reconfigure(Parameters { min_rx: 80_000, ..PARAMETERS }, now);
    assert_eq!(session.detection_time(), 240 * MS);
}

#[test]
fn a_change_during_a_poll_sequence_polls_again() {
    let now = Instant::now();
    let mut session = up(PARAMETERS, now);
    let last = Control { sequence: Sequence::Final, ..packet(State::Up) };
    session.reconfigure(Parameters { min_tx: 30_000, ..PARAMETERS }, now);
    session.reconfigure(Parameters { min_tx: 90_000, ..PARAMETERS }, now);
    hear(&mut session, &last, now);
    assert_eq!((session.poll, session.transmit_interval()), (Poll::Running, 20 * MS));
    hear(&mut session, &last, now);
    assert_eq!((session.poll, session.transmit_interval()), (Poll::Idle, 90 * MS));
}

#[test]
fn an_equal_reconfiguration_polls_nobody() {
    let now = Instant::now();
    let mut session = up(PARAMETERS, now);
    let planned = session.next_send;
    session.reconfigure(PARAMETERS, now);
    assert_eq!((session.poll, session.next_send), (Poll::Idle, planned));
}

#[test]
fn rfc5880_6_6_a_neighbour_in_demand_mode_gets_no_periodic_packets() {
    let now = Instant::now();
    let mut session = up(PARAMETERS, now);
    let demand = Control { demand: true, ..packet(State::Up) };
    hear(&mut session, &demand, now);
    assert_eq!(session.next_send, None);
    hear(&mut session, &Control { sequence: Sequence::Poll, ..demand }, now);
    assert_eq!(sent(&mut session)[0].sequence, Sequence::Final, "it is answered all the same");
    session.reconfigure(Parameters { min_tx: 30_000, ..PARAMETERS }, now);
    assert!(session.next_send.is_some(), "and polled");
    hear(&mut session, &Control { sequence: Sequence::Final, ..demand }, now);
    assert_eq!(session.next_send, None);
}

#[test]
fn rfc5880_6_8_7_a_neighbour_that_requires_zero_gets_no_periodic_packets() {
    let now = Instant::now();
    let mut session = up(PARAMETERS, now);
    hear(&mut session, &Control { required_min_rx: 0, ..packet(State::Up) }, now);
    assert_eq!(session.next_send, None);
    hear(&mut session, &packet(State::Up), now);
    assert!(session.next_send.is_some());
    // One that is silent after it is spoken to again.
    hear(&mut session, &Control { required_min_rx: 0, ..packet(State::Up) }, now);
    run(&mut session, now + 60 * MS);
    assert!(session.next_send.is_some());
}

#[test]
fn rfc5880_6_8_16_shutting_down_tells_the_neighbour_once() {
    let now = Instant::now();
    let mut session = up(PARAMETERS, now);
    session.shut_down(now);
    let packets = sent(&mut session);
    assert_eq!(packets.len(), 1);
    let Control { state, diagnostic, .. } = packets[0];
    assert_eq!((state, diagnostic), (State::AdminDown, Diagnostic::ADMINISTRATIVELY_DOWN));
    assert_eq!(session.poll_timeout(), None);
    hear(&mut session, &Control { sequence: Sequence::Poll, ..packet(State::Up) }, now);
    session.reconfigure(Parameters { min_rx: 1, ..PARAMETERS }, now);
    assert_eq!((session.poll_action(), session.poll_timeout()), (None, None));
}

#[test]
fn a_passive_session_that_heard_nobody_tells_nobody() {
    let now = Instant::now();
    let mut session = session(Parameters { passive: true, ..PARAMETERS }, now);
    session.shut_down(now);
    assert_eq!(sent(&mut session), []);
}

#[derive(Clone, Debug)]
enum Op {
    Hear { state: u8, sequence: u8, demand: bool, multiplier: u8, tx: u32, rx: u32 },
    Wait(u32),
    Reconfigure { tx: u32, rx: u32, multiplier: u8, passive: bool },
}

fn interval() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(1), 1u32..100_000, any::<u32>()]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (0u8..4, 0u8..3, any::<bool>(), 1u8.., interval(), interval()).prop_map(
            |(state, sequence, demand, multiplier, tx, rx)| Op::Hear {
                state,
                sequence,
                demand,
                multiplier,
                tx,
                rx
            }
        ),
        (0u32..5_000_000).prop_map(Op::Wait),
        (1u32..100_000, 1u32..100_000, 1u8.., any::<bool>()).prop_map(
            |(tx, rx, multiplier, passive)| Op::Reconfigure { tx, rx, multiplier, passive }
        ),
    ]
}

proptest! {
    /// What holds whatever the neighbour sends: the module's invariant, and that timeouts get something done.
    #[test]
    fn invariants_hold_after_any_inputs(ops in prop::collection::vec(op(), 0..60), passive: bool) {
        let mut now = Instant::now();
        let mut session = session(Parameters { passive, ..PARAMETERS }, now);
        for op in ops {
            match op {
                Op::Hear { state, sequence, demand, multiplier, tx, rx } => {
                    let state = [State::AdminDown, State::Down, State::Init, State::Up]
                        [usize::from(state)];
                    let sequence = [Sequence::Neither, Sequence::Poll, Sequence::Final]
                        [usize::from(sequence)];
                    let packet = Control {
                        sequence,
                        demand,
                        detect_multiplier: NonZeroU8::new(multiplier).unwrap(),
                        desired_min_tx: tx,
                        required_min_rx: rx,
                        ..packet(state)
                    };
                    hear(&mut session, &packet, now);
                }
                Op::Wait(microseconds) => {
                    let end = now + micros(microseconds);
                    // Ten steps; what is overdue after them is done at the next wait.
                    for _ in 0..10 {
                        let Some(at) = session.poll_timeout().filter(|at| *at <= end) else { break };
                        now = now.max(at);
                        session.handle_timeout(now);
                        prop_assert!(session.poll_timeout().is_none_or(|next| next > now));
                    }
                    now = now.max(end);
                }
                Op::Reconfigure { tx, rx, multiplier, passive } => {
                    let parameters = Parameters {
                        min_tx: tx,
                        min_rx: rx,
                        multiplier: NonZeroU8::new(multiplier).unwrap(),
                        passive,
                        ..PARAMETERS
                    };
                    session.reconfigure(parameters, now);
                }
            }
            for sent in sent(&mut session) {
                prop_assert_eq!(Control::parse(&sent.emit()), Ok(sent), "the neighbour takes it");
                if sent.state != State::Up {
                    prop_assert!(sent.desired_min_tx >= LEAST_IDLE_TX);
                }
            }
        }
    }
}
