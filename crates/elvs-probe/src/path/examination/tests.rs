use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use elvs_model::health::{CheckResult, Finding, PathCheck};
use elvs_model::{ForwardingMethod, Protocol, TunnelKind};

use super::Examination;
use crate::path::hear::{Answer, Claim, News, Refusal, hear};
use crate::path::probe::{ARP, FIRST_NUMBER, IPV4, Role, Way};

const VIP: &str = "192.0.2.100";
const SERVER: &str = "192.0.2.21";
const DIRECTOR: &str = "192.0.2.1";
const ISN: u32 = 1000;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x21];

pub(in crate::path) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The way to a real server on the link of a director that does not have the VIP.
pub(in crate::path) fn way(method: ForwardingMethod, protocol: Protocol) -> Way {
    Way {
        check: PathCheck {
            vip: ip(VIP),
            port: 80,
            protocol,
            real_server: ip(SERVER),
            real_port: 80,
            method,
            timeout: Duration::from_secs(4),
        },
        ifindex: 2,
        own_mac: [2; 6],
        mac: MAC,
        neighbour: ip(SERVER),
        on_link: true,
        outer_source: ip(DIRECTOR),
        source: ip(DIRECTOR),
        other_source: None,
        holds_vip: false,
        owns_vip: false,
        first: FIRST_NUMBER,
        isn: ISN,
    }
}

/// What a host answers to a role's probe, always.
pub(in crate::path) type Script<'a> = &'a [(Role, &'a str, Answer)];

/// SYN and ACK.
pub(in crate::path) const OPENED: Answer = Answer::Segment { opens: true, acknowledged: ISN + 1 };
/// RST.
pub(in crate::path) const RESET: Answer = Answer::Reset { acknowledged: ISN + 1 };

/// An ICMP error about a packet to an address.
pub(in crate::path) fn error(refusal: Refusal, quoted_to: &str) -> Answer {
    Answer::Refused { refusal, quoted_to: ip(quoted_to) }
}

/// How a run went.
pub(in crate::path) struct Played {
    pub(in crate::path) finding: Finding,
    /// Roles in the order in which they were asked; a reset counts as its role's probe.
    pub(in crate::path) asked: Vec<Role>,
    pub(in crate::path) took: Duration,
}

/// Plays a run against a host that answers at once, and says `claim` to a question for the VIP.
pub(in crate::path) fn play(way: Way, script: Script, claim: Option<Claim>) -> Played {
    let start = Instant::now();
    let deadline = start + way.check.timeout;
    let mut now = start;
    let mut run = Examination::new(way, now);
    let mut asked = Vec::new();
    let mut heard = VecDeque::new();
    loop {
        while let Some(frame) = run.poll_send() {
            if frame.ethertype == ARP {
                heard.extend(claim.map(News::Claim));
                continue;
            }
            // The identification, or the low half of the flow label.
            let at = if frame.ethertype == IPV4 { 4 } else { 2 };
            let number = u16::from_be_bytes([frame.payload[at], frame.payload[at + 1]]);
            let role = Role::of(number).expect("a probe's number");
            asked.push(role);
            let answers = script.iter().filter(|(to, ..)| *to == role && !resets(&frame.payload));
            heard.extend(answers.map(|(_, from, what)| News::Answer {
                number,
                from: ip(from),
                what: *what,
            }));
        }
        if let Some(finding) = run.poll_finding() {
            return Played { finding, asked, took: now - start };
        }
        if let Some(news) = heard.pop_front() {
            run.handle_news(news, now);
            continue;
        }
        now = run.poll_timeout();
        assert!(now <= deadline, "a run ends in time");
        run.handle_timeout(now);
    }
}

/// Whether a packet is a reset, by itself, in IP in IP or in GUE.
fn resets(packet: &[u8]) -> bool {
    [0, 20, 32].into_iter().any(|outer| {
        let inner = hear(IPV4, MAC, packet.get(outer..).unwrap_or_default());
        matches!(inner, Some(News::Answer { what: Answer::Reset { .. }, .. }))
    })
}

const DR: ForwardingMethod = ForwardingMethod::Dr;

#[test]
fn a_service_that_answers_ends_the_run_at_once() {
    let played = play(way(DR, Protocol::Tcp), &[(Role::Service, VIP, OPENED)], None);
    assert!(matches!(played.finding.result, CheckResult::Passed(_)));
    assert_eq!(played.asked, [Role::Service, Role::Service], "SYN and RST");
    assert_eq!(played.took, Duration::ZERO);
}

#[test]
fn claims_of_the_vip_are_waited_for() {
    let way = Way { owns_vip: true, ..way(DR, Protocol::Tcp) };
    let played = play(way, &[(Role::Service, VIP, OPENED)], None);
    assert!(matches!(played.finding.result, CheckResult::Passed(_)));
    assert_eq!(played.took, Duration::from_millis(250));
}

/// A question that was lost is asked again with the SYN that was.
#[test]
fn who_has_the_vip_is_asked_again() {
    let now = Instant::now();
    let way = Way { owns_vip: true, ..way(DR, Protocol::Tcp) };
    let mut run = Examination::new(way, now);
    let questions = |run: &mut Examination| {
        std::iter::from_fn(|| run.poll_send()).filter(|f| f.ethertype == ARP).count()
    };
    assert_eq!(questions(&mut run), 1);
    run.handle_timeout(now + Duration::from_secs(1));
    assert_eq!(questions(&mut run), 1);
}

#[test]
fn silence_is_asked_again_until_the_deadline() {
    let played = play(way(DR, Protocol::Tcp), &[], None);
    assert_eq!(played.finding.result, CheckResult::Failed);
    assert_eq!(played.took, Duration::from_secs(4));
    let times = played.asked.iter().filter(|role| **role == Role::Service).count();
    assert_eq!(times, 4 + 1, "each second, and a reset: {:?}", played.asked);
}

#[test]
fn a_late_answer_passes() {
    let now = Instant::now();
    let mut run = Examination::new(way(DR, Protocol::Tcp), now);
    let late = now + Duration::from_secs(3);
    run.handle_timeout(now + Duration::from_secs(1));
    let number = Role::Service.number(FIRST_NUMBER);
    run.handle_news(News::Answer { number, from: ip(VIP), what: OPENED }, late);
    assert!(matches!(run.poll_finding().unwrap().result, CheckResult::Passed(_)));
}

/// What is not an answer to this run's probe changes nothing; a segment of a connection that there is not is reset.
#[test]
fn strangers_are_not_heard() {
    let number = Role::Service.number(FIRST_NUMBER);
    let forged = |what| News::Answer { number, from: ip(VIP), what };
    let segment = |opens, acknowledged| forged(Answer::Segment { opens, acknowledged });
    for (name, news, reset) in [
        ("another's acknowledgement", segment(true, 7), Some(7)),
        ("a connection half open from before", segment(false, 8), Some(8)),
        ("another's reset", forged(Answer::Reset { acknowledged: 7 }), None),
        ("another's address", News::Answer { number, from: ip(SERVER), what: OPENED }, None),
        ("another run's", News::Answer { number: number + 16, from: ip(VIP), what: OPENED }, None),
        (
            "a number of no role",
            News::Answer { number: number + 15, from: ip(VIP), what: OPENED },
            None,
        ),
        ("an error about others", forged(error(Refusal::Port, "203.0.113.9")), None),
    ] {
        let now = Instant::now();
        let mut run = Examination::new(way(DR, Protocol::Tcp), now);
        run.poll_send();
        run.handle_news(news, now);
        assert_eq!(run.poll_finding(), None, "{name}");
        assert_eq!(run.evidence.of(Role::Service), super::Heard::Nothing, "{name}");
        // The sequence number follows the ports.
        let sent = run.poll_send().map(|frame| {
            assert!(resets(&frame.payload), "{name}");
            u32::from_be_bytes(frame.payload[24..28].try_into().unwrap())
        });
        assert_eq!(sent, reset, "{name}");
    }
}

/// A SYN may be answered when nobody listens any more.
#[test]
fn a_run_that_ends_resets_what_is_unanswered() {
    let now = Instant::now();
    let mut run = Examination::new(way(DR, Protocol::Tcp), now);
    run.handle_timeout(now + Duration::from_secs(1));
    while run.poll_send().is_some() {}
    run.handle_timeout(now + Duration::from_secs(4));
    assert!(run.poll_finding().is_some());
    let sent: Vec<_> = std::iter::from_fn(|| run.poll_send()).collect();
    assert!(sent.iter().all(|frame| resets(&frame.payload)), "nothing is asked any more");
    let numbers = sent.iter().map(|frame| [frame.payload[4], frame.payload[5]]);
    let wanted = [Role::Service, Role::Plain].map(|role| role.number(FIRST_NUMBER).to_be_bytes());
    assert_eq!(numbers.collect::<Vec<_>>(), wanted);
}

/// A host without the tunnel's device is asked once: it sends few errors.
#[test]
fn a_refusal_that_says_all_ends_the_run() {
    let refused = error(Refusal::Protocol, SERVER);
    let tun = way(ForwardingMethod::Tun(TunnelKind::Ipip), Protocol::Tcp);
    let played = play(tun, &[(Role::Service, SERVER, refused)], None);
    assert_eq!(played.asked, [Role::Service]);
    assert_eq!(played.took, Duration::ZERO);
}

#[test]
fn claims_count_where_the_vip_is_the_directors() {
    let claim = Claim { address: ip(VIP), mac: MAC, asking: false };
    for (name, owns_vip, claim, passes) in [
        ("the real server's", true, claim, false),
        ("of a host that is no real server", true, Claim { mac: [9; 6], ..claim }, true),
        ("of another address", true, Claim { address: ip(SERVER), ..claim }, true),
        ("while another director has the VIP", false, claim, true),
    ] {
        let way = Way { owns_vip, ..way(DR, Protocol::Tcp) };
        let mut run = Examination::new(way, Instant::now());
        run.handle_news(News::Claim(claim), Instant::now());
        let number = Role::Service.number(FIRST_NUMBER);
        run.handle_news(News::Answer { number, from: ip(VIP), what: OPENED }, Instant::now());
        run.handle_timeout(run.poll_timeout());
        let finding = run.poll_finding().expect("an end");
        assert_eq!(matches!(finding.result, CheckResult::Passed(_)), passes, "{name}: {finding:?}");
    }
}

/// A container's service: the VIP is on the host, which sends packets on, so a probe with more hops follows.
#[test]
fn what_is_sent_on_may_go_further() {
    let sent_on = (Role::Service, SERVER, error(Refusal::Hops, VIP));
    let there = (Role::VipEcho, VIP, Answer::Echo);
    for (name, protocol, script, passes, onward) in [
        ("answers", Protocol::Tcp, &[sent_on, there, (Role::Onward, VIP, OPENED)][..], true, true),
        ("does not answer", Protocol::Tcp, &[sent_on, there][..], false, true),
        ("silent datagrams", Protocol::Udp, &[sent_on, there][..], true, true),
        (
            "refused datagrams",
            Protocol::Udp,
            &[sent_on, there, (Role::Onward, VIP, error(Refusal::Port, VIP))][..],
            false,
            true,
        ),
        (
            "no VIP",
            Protocol::Tcp,
            &[sent_on, (Role::VipEcho, SERVER, error(Refusal::Hops, VIP))][..],
            false,
            false,
        ),
    ] {
        let played = play(way(DR, protocol), script, None);
        let passed = matches!(played.finding.result, CheckResult::Passed(_));
        assert_eq!(passed, passes, "{name}: {:?}", played.finding);
        assert_eq!(played.asked.contains(&Role::Onward), onward, "{name}");
    }
}

#[test]
fn masquerading_needs_answers_through_the_director() {
    let nat = || Way { holds_vip: true, ..way(ForwardingMethod::Nat, Protocol::Tcp) };
    let service = (Role::Service, SERVER, OPENED);
    let (plain, back) = (Role::PlainEcho, Role::Back);
    let [plain, back] = [plain, back].map(|role| (role, SERVER, Answer::Echo));
    let played = play(nat(), &[service, plain, back], None);
    assert!(matches!(played.finding.result, CheckResult::Passed(_)), "{:?}", played.finding);
    assert_eq!(played.took, Duration::ZERO);

    let played = play(nat(), &[service, plain], None);
    assert!(played.finding.words.contains("make it the default gateway"), "{:?}", played.finding);
    assert_eq!(played.finding.result, CheckResult::Failed);
    assert_eq!(played.took, Duration::from_secs(4), "a lost packet is no reason");

    let played = play(nat(), &[service], None);
    assert!(matches!(played.finding.result, CheckResult::Passed(_)), "a host without echoes");
    assert_eq!(played.took, Duration::from_millis(250));

    let backup = way(ForwardingMethod::Nat, Protocol::Tcp);
    let played = play(backup, &[service], None);
    assert!(matches!(played.finding.result, CheckResult::Passed(_)), "another has the VIP");
}
