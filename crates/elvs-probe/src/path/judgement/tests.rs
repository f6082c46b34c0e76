use std::time::Duration;

use elvs_model::health::CheckResult;
use elvs_model::{ForwardingMethod, Protocol, TunnelChecksum, TunnelKind};

use crate::path::examination::tests::{OPENED, RESET, Script, error, ip, play, way};
use crate::path::hear::{Answer, Claim, Refusal};
use crate::path::probe::{Role, Way};

const VIP: &str = "192.0.2.100";
const SERVER: &str = "192.0.2.21";
const DR: ForwardingMethod = ForwardingMethod::Dr;
const NAT: ForwardingMethod = ForwardingMethod::Nat;
const TUN: ForwardingMethod = ForwardingMethod::Tun(TunnelKind::Ipip);
const GUE: ForwardingMethod =
    ForwardingMethod::Tun(TunnelKind::Gue { port: 6080, checksum: TunnelChecksum::None });
const TCP: Protocol = Protocol::Tcp;
const UDP: Protocol = Protocol::Udp;

/// The words of a run against a host; a failure's begin with `-`.
fn words(way: Way, script: Script) -> String {
    let finding = play(way, script, None).finding;
    match finding.result {
        CheckResult::Passed(_) => finding.words,
        CheckResult::Failed | CheckResult::Agent(_) => format!("- {}", finding.words),
    }
}

#[test]
fn what_passes() {
    for (method, protocol, script, wanted) in [
        (
            DR,
            TCP,
            &[(Role::Service, VIP, OPENED)][..],
            "a SYN for 192.0.2.100:80 sent to 02:00:00:00:00:21 was accepted",
        ),
        (
            GUE,
            TCP,
            &[(Role::Service, VIP, OPENED)],
            "a SYN for 192.0.2.100:80 sent to 192.0.2.21 by GUE (port 6080) was accepted",
        ),
        (NAT, TCP, &[(Role::Service, SERVER, OPENED)], "a SYN for 192.0.2.21:80 was accepted"),
        (
            DR,
            UDP,
            &[(Role::Service, VIP, Answer::Datagram)],
            "a datagram for 192.0.2.100:80 sent to 02:00:00:00:00:21 was answered",
        ),
        (
            TUN,
            UDP,
            &[(Role::VipEcho, VIP, Answer::Echo)],
            "a datagram for 192.0.2.100:80 sent to 192.0.2.21 by IPIP was not refused, and an echo took the same way",
        ),
        (
            NAT,
            UDP,
            &[(Role::PlainEcho, SERVER, Answer::Echo)],
            "a datagram for 192.0.2.21:80 was not refused, and an echo took the same way",
        ),
        (
            DR,
            Protocol::Sctp,
            &[(Role::Service, VIP, Answer::Echo)],
            "an echo for 192.0.2.100:80 sent to 02:00:00:00:00:21 was answered",
        ),
    ] {
        assert_eq!(words(way(method, protocol), script), wanted);
        let took = play(way(method, protocol), script, None).took;
        assert!(took <= Duration::from_millis(250), "{wanted}: after {took:?}");
    }
}

/// Direct routing and masquerading: a host with each fault, and the words for it.
#[test]
fn what_direct_routing_and_masquerading_lack() {
    let alive = (Role::PlainEcho, SERVER, Answer::Echo);
    let plain = (Role::Plain, SERVER, OPENED);
    let asked = "a SYN for 192.0.2.100:80 sent to 02:00:00:00:00:21";
    let missing = "is the VIP on lo of the real server?";
    for (method, protocol, script, wanted) in [
        (DR, TCP, &[plain, alive][..], format!("no answer to {asked}: {missing} (the same to 192.0.2.21:80 is answered)")),
        (DR, TCP, &[alive], format!("no answer to {asked}: {missing} (192.0.2.21 itself answers by the same way)")),
        (
            DR,
            TCP,
            &[(Role::Service, SERVER, error(Refusal::Hops, VIP))],
            format!("{asked} was not for the real server, which would have sent it on (time exceeded from 192.0.2.21): {missing}"),
        ),
        (
            DR,
            TCP,
            &[(Role::VipEcho, VIP, Answer::Echo), alive],
            format!("no answer to {asked}, though the VIP answers an echo by the same way: does a firewall drop it, or is the service's backlog full?"),
        ),
        (
            DR,
            TCP,
            &[(Role::Service, VIP, RESET), plain],
            format!("{asked} was refused (reset), the same to 192.0.2.21:80 was not: the service listens at the real server's own address only; let it listen at 192.0.2.100:80 as well"),
        ),
        (
            DR,
            TCP,
            &[(Role::Service, VIP, RESET), (Role::Plain, SERVER, RESET)],
            format!("{asked} was refused (reset): nothing listens at 192.0.2.100:80"),
        ),
        (
            DR,
            TCP,
            &[(Role::Service, VIP, error(Refusal::Port, VIP))],
            format!("{asked} was refused by 192.0.2.100 (port unreachable): does a firewall reject it?"),
        ),
        (
            DR,
            TCP,
            &[(Role::Service, SERVER, error(Refusal::Prohibited, VIP))],
            format!("{asked} was refused by 192.0.2.21 (prohibited: by a firewall's rules)"),
        ),
        (
            DR,
            UDP,
            &[(Role::Service, VIP, error(Refusal::Port, VIP)), alive],
            "a datagram for 192.0.2.100:80 sent to 02:00:00:00:00:21 was refused (port unreachable), the same to 192.0.2.21:80 was not: the service listens at the real server's own address only; let it listen at 192.0.2.100:80 as well".to_owned(),
        ),
        (
            DR,
            TCP,
            &[],
            format!("no answer to {asked}, nor to anything for 192.0.2.21: the real server has a MAC address, but drops all of 192.0.2.1's packets (rp_filter or a firewall), or has just gone"),
        ),
        (
            NAT,
            TCP,
            &[alive],
            "no answer to a SYN for 192.0.2.21:80, though the real server answers an echo: does a firewall drop it, or nat_icmp_send of this director refuse its answer?".to_owned(),
        ),
        (
            NAT,
            TCP,
            &[(Role::Service, SERVER, RESET)],
            "a SYN for 192.0.2.21:80 was refused (reset): nothing listens at 192.0.2.21:80".to_owned(),
        ),
    ] {
        assert_eq!(words(way(method, protocol), script), format!("- {wanted}"));
    }
}

#[test]
fn another_source_that_is_answered_shows_rp_filter() {
    let way = Way { other_source: Some(ip("198.51.100.1")), ..way(DR, TCP) };
    assert_eq!(
        words(way, &[(Role::OtherSource, VIP, OPENED)]),
        "- no answer to a SYN for 192.0.2.100:80 sent to 02:00:00:00:00:21 from 192.0.2.1, but to the same from \
         198.51.100.1: rp_filter of the real server, or its route back to 192.0.2.1"
    );
}

/// Tunnels: which of the devices, the VIP and rp_filter it is.
#[test]
fn what_tunnels_lack() {
    let alive = (Role::PlainEcho, SERVER, Answer::Echo);
    let tells = (Role::Strange, SERVER, error(Refusal::Protocol, SERVER));
    let asked = "a SYN for 192.0.2.100:80 sent to 192.0.2.21 by IPIP";
    for (name, script, wanted) in [
        (
            "no device",
            &[(Role::Service, SERVER, error(Refusal::Protocol, SERVER))][..],
            format!(
                "{asked} was not taken out of the tunnel (protocol unreachable): the real server has no IPIP device for 192.0.2.21; make one, or run `elvs realserver --decap` there"
            ),
        ),
        (
            "no device, the first error lost",
            &[alive, (Role::InnerEcho, SERVER, error(Refusal::Port, SERVER))],
            format!(
                "{asked} was not taken out of the tunnel (port unreachable): the real server has no IPIP device for 192.0.2.21; make one, or run `elvs realserver --decap` there"
            ),
        ),
        (
            "rp_filter",
            &[alive, tells],
            format!(
                "no answer to {asked}, nor to anything else through the tunnel, which the real server does not refuse as it refuses other packets: rp_filter drops what comes out of its IPIP device; set net.ipv4.conf.all.rp_filter and that of the device to 0"
            ),
        ),
        (
            "no ICMP errors",
            &[alive],
            format!(
                "no answer to {asked}, nor to anything else through the tunnel, though 192.0.2.21 itself answers: no IPIP device, or rp_filter on it, or a firewall (the real server sends no ICMP errors that would tell)"
            ),
        ),
        (
            "no VIP",
            &[alive, tells, (Role::InnerEcho, SERVER, Answer::Echo)],
            format!(
                "no answer to {asked}: is the VIP on lo of the real server? (192.0.2.21 itself answers by the same way)"
            ),
        ),
        (
            "a router's error",
            &[(Role::Service, "203.0.113.1", error(Refusal::Hops, SERVER))],
            format!("{asked} was refused by 203.0.113.1 (time exceeded)"),
        ),
    ] {
        assert_eq!(words(way(TUN, TCP), script), format!("- {wanted}"), "{name}");
    }
    // GUE over IPv6 without checksums, where hosts are silent about what they refuse.
    let six = || {
        let mut way = way(GUE, TCP);
        way.check.real_server = ip("2001:db8::21");
        way.outer_source = ip("2001:db8::1");
        way
    };
    let alive = (Role::PlainEcho, "2001:db8::21", Answer::Echo);
    for (strange, wanted) in [
        (
            ("2001:db8::21", error(Refusal::Port, "2001:db8::21")),
            "the real server has no GUE (port 6080) device",
        ),
        ((VIP, Answer::Echo), "but to an echo in a datagram that has a checksum"),
        (
            ("2001:db8::21", Answer::Datagram),
            "is the VIP on lo of the real server? If it is, a firewall",
        ),
    ] {
        let (from, what) = strange;
        let words = words(six(), &[alive, (Role::Strange, from, what)]);
        assert!(words.starts_with('-') && words.contains(wanted), "{words}");
    }
    let far = Way { on_link: false, ..way(TUN, TCP) };
    assert_eq!(
        words(far, &[]),
        format!(
            "- no answer to {asked}, nor to anything for 192.0.2.21: the real server is down, or not reachable from 192.0.2.1"
        )
    );
}

#[test]
fn what_a_claim_of_the_vip_says() {
    let owns = || Way { owns_vip: true, ..way(DR, TCP) };
    let script: Script = &[(Role::Service, VIP, OPENED)];
    for (asking, wanted) in [
        (
            false,
            "answers ARP for the VIP (192.0.2.100 is at 02:00:00:00:00:21) and so draws clients away: set arp_ignore=1",
        ),
        (
            true,
            "announces the VIP in ARP requests of its own (192.0.2.100 is at 02:00:00:00:00:21) and so draws clients away: set arp_announce=2",
        ),
    ] {
        let claim = Claim { address: ip(VIP), mac: [2, 0, 0, 0, 0, 0x21], asking };
        let finding = play(owns(), script, Some(claim)).finding;
        assert_eq!(finding.result, CheckResult::Failed);
        assert!(finding.words.contains(wanted), "{}", finding.words);
    }
}
