use std::net::Ipv4Addr;
use std::num::NonZeroU8;

use elvs_wire::bfd::Sequence;
use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn instance(name: &str, last: u8) -> BfdInstance {
    BfdInstance {
        name: name.to_owned(),
        neighbor: address(last),
        source: None,
        min_rx: 10 * MS,
        min_tx: 10 * MS,
        idle_tx: 1000 * MS,
        multiplier: 5,
        passive: false,
        ttl: 255,
        max_hops: 0,
        multihop: false,
    }
}

fn address(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, last).into()
}

fn packet(state: State, your: Option<NonZeroU32>) -> Control {
    Control {
        diagnostic: Diagnostic::NONE,
        state,
        sequence: Sequence::Neither,
        control_plane_independent: false,
        demand: false,
        detect_multiplier: NonZeroU8::new(3).unwrap(),
        my_discriminator: NonZeroU32::new(99).unwrap(),
        your_discriminator: your,
        desired_min_tx: 20_000,
        required_min_rx: 20_000,
        required_min_echo_rx: 0,
    }
}

fn effects(sessions: &mut Sessions) -> Vec<Effect> {
    std::iter::from_fn(|| sessions.poll_effect()).collect()
}

/// Packets that are sent: of which session, to whom, in which state.
fn sent(effects: &[Effect]) -> Vec<(NonZeroU32, IpAddr, State)> {
    let packets = effects.iter().filter_map(|effect| match effect {
        Effect::Send { session, endpoint, packet } => {
            Some((*session, endpoint.neighbor, packet.state))
        }
        Effect::Close { .. } | Effect::Changed(_) => None,
    });
    packets.collect()
}

fn changes(effects: Vec<Effect>) -> Vec<(String, Standing, String)> {
    let changed = effects.into_iter().filter_map(|effect| match effect {
        Effect::Changed(Change { instance, standing, words }) => Some((instance, standing, words)),
        Effect::Send { .. } | Effect::Close { .. } => None,
    });
    changed.collect()
}

/// A datagram from 10.0.0.LAST to the port of single hop with TTL 255.
fn datagram(bytes: &[u8], last: u8) -> Datagram<'_> {
    let destination = Some(address(1));
    Datagram { bytes, source: address(last), destination, multihop: false, ttl: Some(255) }
}

fn states(sessions: &Sessions) -> Vec<(String, State)> {
    sessions.view().into_iter().map(|view| (view.instance, view.state)).collect()
}

#[test]
fn a_datagram_is_its_discriminator_s_or_else_its_sender_s() {
    let now = Instant::now();
    let mut sessions = Sessions::new(1);
    sessions.configure(&[instance("a", 2), instance("b", 3)], now);
    assert_eq!(changes(effects(&mut sessions)).len(), 2, "each says that it begins");
    sessions.handle_timeout(now);
    let sent = sent(&effects(&mut sessions));
    assert_eq!(sent.len(), 2);
    let a = sent.iter().find(|(_, neighbor, _)| *neighbor == address(2)).unwrap().0;
    sessions.handle_datagram(&datagram(&packet(State::Down, None).emit(), 3), now);
    let down = |name: &str| (name.to_owned(), State::Down);
    assert_eq!(states(&sessions), [down("a"), ("b".to_owned(), State::Init)]);
    // RFC 5880 section 6.3: with a discriminator the source address does not count.
    sessions.handle_datagram(&datagram(&packet(State::Init, Some(a)).emit(), 77), now);
    assert_eq!(states(&sessions)[0], ("a".to_owned(), State::Up));
    let said = changes(effects(&mut sessions));
    let words = "10.0.0.2: session is up, and down after 60ms of silence";
    assert_eq!(said, [("a".to_owned(), Standing::Up, words.to_owned())]);
    assert_eq!(sessions.refusals().iter().count(), 0);
}

#[test]
fn each_refusal_is_counted_under_its_name() {
    let now = Instant::now();
    let mut sessions = Sessions::new(1);
    sessions.configure(&[instance("a", 2)], now);
    sessions.handle_timeout(now);
    let key = sent(&effects(&mut sessions))[0].0;
    let good = packet(State::Down, Some(key)).emit();
    let edited = |index: usize, value: u8| {
        let mut bytes = good.to_vec();
        bytes[index] = value;
        bytes
    };
    let no_your = |state| packet(state, None).emit().to_vec();
    let other = NonZeroU32::new(key.get().wrapping_add(1));
    let near = datagram(&[], 2);
    let multihop = Datagram { multihop: true, ..near };
    let stranger = Datagram { source: address(9), ..near };
    let far = Datagram { ttl: Some(254), ..near };
    let unknown = Datagram { ttl: None, ..near };
    let cases: &[(&str, Vec<u8>, Datagram<'_>)] = &[
        ("short", good[..23].to_vec(), near),
        ("version", edited(0, 0x40), near),
        ("length", edited(3, 25), near),
        ("multiplier", edited(2, 0), near),
        ("multipoint", edited(1, 0x41), near),
        ("my_discriminator", edited(7, 0), near),
        ("your_discriminator", no_your(State::Up), near),
        ("authentication", edited(1, 0x44), near),
        ("poll_and_final", edited(1, 0x70), near),
        ("unknown_discriminator", packet(State::Down, other).emit().to_vec(), near),
        ("unknown_neighbor", no_your(State::Down), stranger),
        ("unknown_neighbor", no_your(State::Down), multihop),
        ("other_port", good.to_vec(), multihop),
        ("hop_limit", good.to_vec(), far),
        ("no_hop_limit", good.to_vec(), unknown),
    ];
    for (name, bytes, envelope) in cases {
        let before = sessions.refusals().of(name);
        let sum: u64 = sessions.refusals().iter().map(|(_, count)| count).sum();
        sessions.handle_datagram(&Datagram { bytes, ..*envelope }, now);
        assert_eq!(sessions.refusals().of(name), before + 1, "{name}");
        let after: u64 = sessions.refusals().iter().map(|(_, count)| count).sum();
        assert_eq!(after, sum + 1, "{name} and no other");
        assert_eq!(states(&sessions), [("a".to_owned(), State::Down)], "{name}");
    }
}

#[test]
fn keepalived_conf_source_ip_tells_sessions_of_one_neighbour_apart() {
    let now = Instant::now();
    let mut sessions = Sessions::new(1);
    let bound = BfdInstance { source: Some(address(1)), ..instance("bound", 2) };
    sessions.configure(&[instance("any", 2), bound], now);
    let bytes = packet(State::Down, None).emit();
    let init = |sessions: &Sessions| {
        let states = states(sessions).into_iter();
        states.filter(|(_, s)| *s == State::Init).map(|(name, _)| name).collect::<Vec<_>>()
    };
    sessions.handle_datagram(&datagram(&bytes, 2), now);
    assert_eq!(init(&sessions), ["bound"]);
    let destination = Some(address(7));
    sessions.handle_datagram(&Datagram { destination, ..datagram(&bytes, 2) }, now);
    assert_eq!(init(&sessions), ["any", "bound"]);
}

#[test]
fn keepalived_conf_of_two_equal_instances_the_first_counts() {
    let now = Instant::now();
    let mut sessions = Sessions::new(1);
    sessions.configure(&[instance("z", 2), instance("a", 2)], now);
    assert_eq!(sessions.instances().map(|i| i.name.as_str()).collect::<Vec<_>>(), ["z"]);
    let (name, standing, words) = changes(effects(&mut sessions)).remove(0);
    assert_eq!((name.as_str(), standing), ("a", Standing::Down));
    assert_eq!(words, "10.0.0.2: ignored, as z has the same neighbor, source address and port");
}

#[test]
fn a_reload_touches_only_what_changed() {
    let now = Instant::now();
    let mut sessions = Sessions::new(1);
    let all = [instance("a", 2), instance("b", 3), instance("c", 4), instance("d", 5)];
    sessions.configure(&all, now);
    sessions.handle_timeout(now);
    for (key, neighbor, _) in sent(&effects(&mut sessions)) {
        let bytes = packet(State::Init, Some(key)).emit();
        sessions.handle_datagram(&Datagram { source: neighbor, ..datagram(&bytes, 2) }, now);
    }
    assert!(states(&sessions).iter().all(|(_, state)| *state == State::Up));
    effects(&mut sessions);
    let before = sessions.by_name.clone();

    let [a, b, c, _] = all;
    let b = BfdInstance { min_tx: 50 * MS, ..b };
    let c = BfdInstance { neighbor: address(6), ..c };
    sessions.configure(&[a, b, c], now);
    let after = effects(&mut sessions);
    let sent = sent(&after);
    let told: Vec<_> = sent.iter().map(|(_, to, state)| (*to, *state)).collect();
    assert_eq!(told, [(address(4), State::AdminDown), (address(5), State::AdminDown)]);
    let closed = after.iter().filter(|effect| matches!(effect, Effect::Close { .. }));
    assert_eq!(closed.count(), 2, "{after:?}");
    let said = changes(after);
    assert_eq!(said.len(), 1);
    assert_eq!((said[0].0.as_str(), said[0].1), ("c", Standing::Down), "another neighbour");
    let up = |name: &str| (name.to_owned(), State::Up);
    assert_eq!(states(&sessions), [up("a"), up("b"), ("c".to_owned(), State::Down)]);
    assert_eq!((before["a"], before["b"]), (sessions.by_name["a"], sessions.by_name["b"]));
    sessions.configure(&[], now);
    assert_eq!((sessions.poll_timeout(), sessions.by_neighbor.len()), (None, 0));
}

#[test]
fn a_director_that_takes_over_says_nothing_of_what_is_up_soon() {
    let now = Instant::now();
    let mut sessions = Sessions::new(1);
    sessions.take_over(&[instance("a", 2), instance("b", 3)], now);
    sessions.handle_timeout(now);
    let before = effects(&mut sessions);
    let a = sent(&before).iter().find(|(_, to, _)| *to == address(2)).unwrap().0;
    assert_eq!(changes(before), []);
    sessions.handle_datagram(&datagram(&packet(State::Init, Some(a)).emit(), 2), now);
    let said = |sessions: &mut Sessions| {
        let said = changes(effects(sessions)).into_iter();
        said.map(|(name, standing, _)| (name, standing)).collect::<Vec<_>>()
    };
    assert_eq!(said(&mut sessions), [("a".to_owned(), Standing::Up)]);
    sessions.handle_timeout(now + 3000 * MS);
    let silent = ["a", "b"].map(|name| (name.to_owned(), Standing::Down));
    assert_eq!(said(&mut sessions), silent);
}

/// Two directors and a link of 3 ms that loses every `nth` packet, 40 simulated seconds.
fn simulate(nth: u32, cut: std::ops::Range<u128>) -> Vec<(u128, usize, String, Standing)> {
    let start = Instant::now();
    let mut sides = [Sessions::new(11), Sessions::new(12)];
    sides[0].configure(&[instance("to-b", 2)], start);
    sides[1].configure(&[instance("to-a", 1)], start);
    let mut flying: Vec<(Instant, usize, Control)> = Vec::new();
    let mut said = Vec::new();
    let mut count = 0;
    let mut now = start;
    while now < start + Duration::from_secs(40) {
        flying.sort_by_key(|(at, ..)| *at);
        while flying.first().is_some_and(|(at, ..)| *at <= now) {
            let (_, to, packet) = flying.remove(0);
            let source = address(if to == 0 { 2 } else { 1 });
            let bytes = packet.emit();
            sides[to].handle_datagram(&Datagram { source, ..datagram(&bytes, 2) }, now);
        }
        for (index, side) in sides.iter_mut().enumerate() {
            side.handle_timeout(now);
            for effect in effects(side) {
                match effect {
                    Effect::Send { packet, .. } => {
                        count += 1;
                        let cut = cut.contains(&(now - start).as_millis());
                        if !cut && (nth == 0 || count % nth != 0) {
                            flying.push((now + 3 * MS, 1 - index, packet));
                        }
                    }
                    Effect::Changed(Change { instance, standing, .. }) => {
                        said.push(((now - start).as_millis(), index, instance, standing));
                    }
                    Effect::Close { .. } => {}
                }
            }
        }
        let timeouts = sides.iter().filter_map(Sessions::poll_timeout);
        let next = timeouts.chain(flying.iter().map(|(at, ..)| *at)).min();
        now = next.unwrap_or(now + MS).max(now + Duration::from_micros(1));
    }
    said
}

#[test]
fn two_directors_come_up_notice_a_cut_and_recover() {
    let said = simulate(0, 10_000..20_000);
    let of = |index: usize| {
        let own = said.iter().filter(move |(_, who, ..)| *who == index);
        own.map(|(at, _, _, standing)| (*at, *standing)).collect::<Vec<_>>()
    };
    for side in [0, 1] {
        let [(_, begun), (up_at, up), (down_at, down), (again_at, again)] = of(side)[..] else {
            panic!("{:?}", of(side));
        };
        let standings = [begun, up, down, again];
        assert_eq!(standings, [Standing::Down, Standing::Up, Standing::Down, Standing::Up]);
        assert!(up_at < 2_500, "{up_at} ms");
        // 5 x 10 ms after the last packet, which was up to 10 ms before and took 3 ms.
        assert!((10_040..=10_054).contains(&down_at), "{down_at} ms");
        assert!((20_000..22_500).contains(&again_at), "{again_at} ms");
    }
}

#[test]
fn a_link_that_loses_every_third_packet_keeps_its_session() {
    let said = simulate(3, 0..0);
    assert_eq!(said.len(), 4, "{said:?}");
}

prop_compose! {
    /// A packet that a neighbour may send first, with one byte changed.
    fn damaged()(index in 0usize..24, value: u8) -> Vec<u8> {
        let mut bytes = packet(State::Down, None).emit().to_vec();
        bytes[index] = value;
        bytes
    }
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![damaged(), prop::collection::vec(any::<u8>(), 0..40)]
}

proptest! {
    #[test]
    fn each_datagram_is_taken_or_counted(
        bytes in any_bytes(),
        multihop: bool,
        ttl in prop_oneof![Just(Some(255)), any::<Option<u8>>()],
    ) {
        let now = Instant::now();
        let mut sessions = Sessions::new(1);
        sessions.configure(&[instance("a", 2)], now);
        let heard = Datagram { multihop, ttl, ..datagram(&bytes, 2) };
        sessions.handle_datagram(&heard, now);
        let parsed = Control::parse(&bytes);
        let taken = parsed.is_ok_and(|packet| packet.your_discriminator.is_none());
        let counted = u64::from(!(taken && !multihop && ttl == Some(255)));
        prop_assert_eq!(sessions.refusals().iter().map(|(_, count)| count).sum::<u64>(), counted);
    }
}
