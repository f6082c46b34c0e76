//! Every verdict, by every forwarding method, both ways.

use std::net::SocketAddr;

use elvs_common::{TCP, UDP};
use elvs_dataplane::Route;
use elvs_fastpath::Verdict;
use elvs_lab::method;
use elvs_model::{ForwardingMethod, TunnelChecksum, TunnelKind};

use crate::bench::{ACK, Bench, ELSEWHERE, FIN, Family, Fixture, SYN};
use crate::packet::{GATEWAY_MAC, Packet};

pub const FIXTURES: [Fixture; 8] = [
    ("what is nobody's passes", strangers),
    ("direct routing", direct),
    ("NAT both ways", masqueraded),
    ("tunnels", tunnels),
    ("GUE", gue),
    ("full NAT both ways", full_nat),
    ("a real server on the director", local),
    ("replies leave the way the client's packets came", replies_leave_elsewhere),
];

/// Untagged, tagged, tagged twice, with options or extension headers, and padded.
pub fn shapes(bench: &Bench, packet: &Packet) -> Vec<Packet> {
    let tagged = |vlans: &[(u16, u16)]| Packet { vlans: vlans.to_vec(), ..packet.clone() };
    let more = match bench.family {
        Family::V4 => Packet { ip_options: vec![1; 8], ..packet.clone() },
        Family::V6 => {
            let extensions = vec![crate::packet::extension(crate::packet::HOP_BY_HOP, 2)];
            Packet { extensions, ..packet.clone() }
        }
    };
    vec![
        packet.clone(),
        tagged(&[(0x8100, 5)]),
        tagged(&[(0x88a8, 5), (0x8100, 6)]),
        more,
        Packet { padding: 6, tos: 0x28, ..packet.clone() },
    ]
}

/// A packet of every protocol, new and known.
fn requests(bench: &Bench) -> Vec<Packet> {
    let all = [bench.tcp(SYN), bench.tcp(ACK), bench.tcp(FIN | ACK), bench.udp(), bench.udp()];
    all.iter().flat_map(|packet| shapes(bench, packet)).collect()
}

fn strangers(bench: &mut Bench) {
    bench.serve(method::NAT, 1);
    let elsewhere = SocketAddr::new(bench.server(200), 80);
    for packet in
        [Packet::tcp(bench.client(), elsewhere, SYN), Packet::udp(bench.client(), elsewhere)]
    {
        for packet in shapes(bench, &packet) {
            bench.passes(&packet, &[]);
        }
    }
    let echo = if bench.family == Family::V4 { 8 } else { 128 };
    let echo = Packet::icmp(bench.client().ip(), bench.vip(), echo, 0, 7, b"echo");
    bench.passes(&echo, &[]);
    let other = Packet { payload: vec![0; 20], ..Packet::new(89, bench.client(), bench.service()) };
    bench.passes(&other, &[]);
    // Of no connection.
    bench.passes(&Packet::udp(bench.mapped(1), bench.client()), &[]);
}

fn leaves(bench: &mut Bench, last: u8, packet: &Packet, wanted: &Packet) {
    if last == 1 {
        bench.sends(packet, wanted, &[]);
    } else {
        bench.redirects(packet, wanted, &[]);
    }
}

fn direct(bench: &mut Bench) {
    for last in [1, 2] {
        bench.begin_anew();
        bench.serve(method::DR, last);
        for packet in requests(bench) {
            let packet = from_port(&packet, last);
            leaves(bench, last, &packet, &bench.to_server(&packet, last));
        }
    }
}

/// Connections to the two real servers have ports of their own.
fn from_port(packet: &Packet, last: u8) -> Packet {
    let port = packet.from.port() + u16::from(last);
    Packet { from: SocketAddr::new(packet.from.ip(), port), ..packet.clone() }
}

fn masqueraded(bench: &mut Bench) {
    for last in [1, 2] {
        bench.begin_anew();
        bench.serve(method::NAT, last);
        let mapped = bench.mapped(last);
        for packet in requests(bench) {
            let packet = from_port(&packet, last);
            let sent = Packet { to: mapped, ..bench.to_server(&packet, last) };
            leaves(bench, last, &packet, &sent);
        }
        let client = from_port(&bench.udp(), last).from;
        for reply in [Packet::tcp(mapped, client, SYN | ACK), Packet::udp(mapped, client)] {
            for reply in shapes(bench, &reply) {
                let sent = Packet { from: bench.service(), ..bench.to_client(&reply) };
                bench.sends(&reply, &sent, &[]);
            }
        }
    }
}

/// What follows the outer header: its protocol, and the bytes.
fn wrapped(method: ForwardingMethod, own: (u8, u16), inner: Vec<u8>) -> (u8, Vec<u8>) {
    const GRE: u8 = 47;
    let (protocol, [high, low]) = (own.0, own.1.to_be_bytes());
    let ForwardingMethod::Tun(TunnelKind::Gre { checksum }) = method else {
        return (protocol, inner);
    };
    if checksum == TunnelChecksum::None {
        return (GRE, [&[0, 0, high, low], &inner[..]].concat());
    }
    let mut summed = [&[0x80, 0, high, low, 0, 0, 0, 0], &inner[..]].concat();
    let sum = !crate::packet::sum_of(&summed, 0);
    summed[4..6].copy_from_slice(&sum.to_be_bytes());
    (GRE, summed)
}

fn tunnels(bench: &mut Bench) {
    let (protocol, ethertype) = if bench.family == Family::V4 { (4, 0x0800) } else { (41, 0x86dd) };
    let gre = |checksum| ForwardingMethod::Tun(TunnelKind::Gre { checksum });
    for last in [1, 2] {
        for method in [method::TUN, gre(TunnelChecksum::None), gre(TunnelChecksum::Csum)] {
            bench.begin_anew();
            bench.serve(method, last);
            for packet in requests(bench) {
                let packet = from_port(&packet, last);
                let inner = Packet { ttl: packet.ttl - 1, ..packet.clone() }.ip();
                let (protocol, payload) = wrapped(method, (protocol, ethertype), inner);
                let ends = [bench.director(), bench.server(last)].map(|a| SocketAddr::new(a, 0));
                let outer = Packet {
                    payload,
                    tos: packet.tos,
                    vlans: packet.vlans.clone(),
                    padding: packet.padding,
                    id: 0,
                    ..Packet::new(protocol, ends[0], ends[1])
                };
                leaves(bench, last, &packet, &bench.to_server(&outer, last));
            }
        }
    }
}

/// The source port is a hash with a secret of each director.
fn gue(bench: &mut Bench) {
    let protocol = if bench.family == Family::V4 { 4 } else { 41 };
    for checksum in [TunnelChecksum::None, TunnelChecksum::Csum] {
        bench.begin_anew();
        bench.serve(ForwardingMethod::Tun(TunnelKind::Gue { port: 6_080, checksum }), 1);
        for packet in requests(bench) {
            let inner = Packet { ttl: packet.ttl - 1, ..packet.clone() }.ip();
            let to = SocketAddr::new(bench.server(1), 6_080);
            let [kernel, host] = bench.run(&packet.build());
            for (ran, whose) in [(kernel, "the program"), (host, "the host")] {
                let from = Packet::read(&ran.frame).from;
                assert!((32_768..60_999).contains(&from.port()), "{from}");
                let outer = Packet {
                    payload: [&[0, protocol, 0, 0], &inner[..]].concat(),
                    udp_checksum: checksum != TunnelChecksum::None,
                    tos: packet.tos,
                    vlans: packet.vlans.clone(),
                    padding: packet.padding,
                    id: 0,
                    ..Packet::udp(SocketAddr::new(bench.director(), from.port()), to)
                };
                let wanted = bench.to_server(&outer, 1).build();
                bench.check(&ran, whose, Verdict::Transmit, &wanted, &[]);
            }
        }
    }
}

fn full_nat(bench: &mut Bench) {
    for last in [1, 2] {
        bench.begin_anew();
        bench.serve(ForwardingMethod::FullNat, last);
        let mapped = bench.mapped(last);
        for protocol in [TCP, UDP] {
            let tcp = protocol == TCP;
            let packets = if tcp {
                [SYN, ACK].map(|flags| bench.tcp(flags))
            } else {
                [bench.udp(), bench.udp()]
            };
            let [open, next] = packets.map(|packet| from_port(&packet, last));
            let client = open.from;
            let local = bench.full_nat(&open, last, tcp);
            let tagged = Packet { vlans: vec![(0x8100, 5)], ..next.clone() };
            assert_eq!(bench.full_nat(&tagged, last, tcp), local);
            // 1,460 bytes a segment, less the option.
            let sized = |size: u16| [&[2, 4], &size.to_be_bytes()[..], &[1, 1, 4, 2]].concat();
            let room = if bench.family == Family::V4 { 8 } else { 20 };
            let answer = if tcp {
                Packet { tcp_options: sized(1_460), ..Packet::tcp(mapped, local, SYN | ACK) }
            } else {
                Packet::udp(mapped, local)
            };
            let tcp_options = if tcp { sized(1_460 - room) } else { Vec::new() };
            let service = bench.service();
            let sent =
                Packet { from: service, to: client, tcp_options, ..bench.to_client(&answer) };
            bench.sends(&answer, &sent, &[]);
            // The option is on every segment until the real server has sent more than its SYN.
            bench.full_nat(&next, last, tcp);
            let data =
                if tcp { Packet::tcp(mapped, local, ACK) } else { Packet::udp(mapped, local) };
            for data in shapes(bench, &Packet { payload: b"data".to_vec(), ..data }) {
                let sent = Packet { from: service, to: client, ..bench.to_client(&data) };
                bench.sends(&data, &sent, &[]);
            }
            for packet in shapes(bench, &next) {
                assert_eq!(bench.full_nat(&packet, last, false), local);
            }
        }
    }
    // Of no connection.
    bench.passes(&Packet::udp(bench.mapped(2), SocketAddr::new(bench.local(), 60_000)), &[]);
}

/// The host's own stack gets the packet, by NAT with the real server's address and port.
fn local(bench: &mut Bench) {
    let route = Route { local: true, ..Route::default() };
    bench.both.set_route(bench.server(3), route);
    bench.serve(method::DR, 3);
    for packet in requests(bench) {
        bench.passes(&packet, &[]);
    }
    if bench.family == Family::V4 {
        bench.begin_anew();
        bench.serve(method::NAT, 3);
        for packet in requests(bench) {
            let packet = from_port(&packet, 3);
            let delivered = Packet { to: bench.mapped(3), ..packet.clone() };
            bench.expect(&packet.build(), Verdict::Pass, &delivered.build(), &[]);
        }
    }
}

/// A client behind another router than the real server's replies come from.
fn replies_leave_elsewhere(bench: &mut Bench) {
    bench.serve(method::NAT, 2);
    let request = bench.udp();
    let sent = Packet { to: bench.mapped(2), ..bench.to_server(&request, 2) };
    bench.redirects(&request, &sent, &[]);
    let reply =
        Packet { from_mac: [6, 0, 0, 0, 0, 2], ..Packet::udp(bench.mapped(2), bench.client()) };
    let sent = Packet { from: bench.service(), ..bench.to_client(&reply) };
    assert_eq!(sent.to_mac, GATEWAY_MAC);
    bench.sends(&reply, &sent, &[]);
    assert_ne!(ELSEWHERE, crate::both::INGRESS);
}
