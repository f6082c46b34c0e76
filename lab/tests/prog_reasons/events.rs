//! Rare events: connections that end early or make room, ICMP errors both ways, answers that are not given, fragments.

use std::net::SocketAddr;

use elvs_common::{Counter, TCP, TcpState, UDP};
use elvs_fastpath::Verdict;
use elvs_lab::method;
use elvs_model::{Change, ForwardingMethod, Persistence, Setting};
use elvs_net::sysctl;

use crate::bench::{ACK, Bench, Family, Fixture, RST, SYN};
use crate::packet::Packet;
use crate::refusals::fragments;
use crate::tamper::{self, Fill};
use crate::way;

pub const FIXTURES: [Fixture; 18] = [
    ("evicted_expired", evicted_expired),
    ("evicted_half_open", evicted_half_open),
    ("expired_nodest", expired_nodest),
    ("reused", reused),
    ("template_replaced", template_replaced),
    ("fib_fallback", fib_fallback),
    ("icmp_forwarded by direct routing", icmp_forwarded),
    ("icmp_forwarded by NAT", icmp_forwarded_by_nat),
    ("icmp_returned", icmp_returned),
    ("icmp_forwarded by full NAT", icmp_forwarded_by_full_nat),
    ("icmp_returned by full NAT", icmp_returned_by_full_nat),
    ("icmp_tunnel", icmp_tunnel),
    ("icmp_limited", icmp_limited),
    ("icmp_withheld", icmp_withheld),
    ("fragment_forwarded", fragment_forwarded),
    ("fragment_forwarded by NAT", fragment_forwarded_by_nat),
    ("fragment_forwarded by full NAT", fragment_forwarded_by_full_nat),
    ("fragments of two clients by full NAT", fragments_of_two_clients_by_full_nat),
];

fn evicted_expired(bench: &mut Bench) {
    const LONG_AGO: u32 = 100_000;
    bench.serve(method::DR, 1);
    tamper::load_nobody(&bench.both);
    tamper::everywhere(&bench.both, &Fill { state: TcpState::Established as u8, ago: LONG_AGO });
    for packet in [bench.tcp(SYN), bench.udp()] {
        bench.sends(&packet, &bench.to_server(&packet, 1), &[Counter::EvictedExpired]);
    }
}

fn evicted_half_open(bench: &mut Bench) {
    bench.serve(method::DR, 1);
    tamper::load_nobody(&bench.both);
    tamper::everywhere(&bench.both, &Fill { state: TcpState::SynRecv as u8, ago: 0 });
    for packet in [bench.tcp(SYN), bench.udp()] {
        bench.sends(&packet, &bench.to_server(&packet, 1), &[Counter::EvictedHalfOpen]);
    }
}

/// Puts the second real server in the place of the first.
fn replace_server(bench: &mut Bench) {
    bench.remove(method::DR, 1);
    let services = [TCP, UDP].map(|protocol| bench.key(protocol));
    let destination = bench.destination(method::DR, 2, 1);
    bench.change(services.map(|service| Change::AddDestination { service, destination }));
}

fn expired_nodest(bench: &mut Bench) {
    bench.serve(method::DR, 1);
    bench.set(Setting::ExpireNodestConn, 1);
    for packet in [bench.tcp(SYN), bench.udp()] {
        bench.sends(&packet, &bench.to_server(&packet, 1), &[]);
    }
    replace_server(bench);
    for packet in [bench.tcp(SYN), bench.udp()] {
        bench.redirects(&packet, &bench.to_server(&packet, 2), &[Counter::ExpiredNodest]);
    }
    // What opens no connection finds none any more.
    bench.remove(method::DR, 2);
    bench.passes(&bench.tcp(ACK), &[Counter::ExpiredNodest, Counter::NotSyn]);
}

fn reused(bench: &mut Bench) {
    bench.serve(method::DR, 1);
    let over = [(SYN, &[][..]), (ACK, &[]), (RST, &[]), (SYN, &[Counter::Reused])];
    for (flags, counted) in over {
        let packet = bench.tcp(flags);
        bench.sends(&packet, &bench.to_server(&packet, 1), counted);
    }
}

fn template_replaced(bench: &mut Bench) {
    let persistence = Some(Persistence { timeout: 300 });
    bench.serve_with(
        |service| elvs_model::VirtualService { persistence, ..service },
        |_| (),
        method::DR,
        1,
        1,
    );
    let next =
        |packet: Packet, port| Packet { from: SocketAddr::new(packet.from.ip(), port), ..packet };
    for packet in [bench.tcp(SYN), bench.udp()] {
        bench.sends(&packet, &bench.to_server(&packet, 1), &[]);
    }
    replace_server(bench);
    for packet in [bench.tcp(SYN), bench.udp()] {
        let packet = next(packet, 40_001);
        bench.redirects(&packet, &bench.to_server(&packet, 2), &[Counter::TemplateReplaced]);
        let packet = next(packet, 40_002);
        bench.redirects(&packet, &bench.to_server(&packet, 2), &[]);
    }
}

/// The kernel's routing table knows the way, as it says where the host routes.
fn fib_fallback(bench: &mut Bench) {
    let routes = match bench.family {
        Family::V4 => "net/ipv4/conf/all/forwarding",
        Family::V6 => "net/ipv6/conf/all/forwarding",
    };
    for method in [method::DR, method::NAT] {
        bench.begin_anew();
        bench.serve(method, way::LAST);
        for packet in [bench.tcp(SYN), bench.udp(), bench.udp()] {
            sysctl::set(routes, "1").unwrap();
            let ran = bench.both.run_kernel(&packet.build(), 0);
            sysctl::set(routes, "0").unwrap();
            let to = if method == method::NAT { bench.mapped(way::LAST) } else { packet.to };
            let sent = Packet { to, ..packet.forwarded(bench.way.far, bench.way.near) }.build();
            let (verdict, counted) = (Verdict::Redirect(0), [Counter::FibFallback]);
            bench.check(&ran, "the program", verdict, &sent, &counted);
            bench.note(verdict, &counted);
        }
    }
}

/// "Host unreachable" or "address unreachable" about a packet, of which so many bytes are quoted.
fn unreachable(
    bench: &Bench,
    about: &[u8],
    from: SocketAddr,
    to: SocketAddr,
    bytes: usize,
) -> Packet {
    let (kind, code) = if bench.family == Family::V4 { (3, 1) } else { (1, 3) };
    let quoted = &about[..bytes.min(about.len())];
    Packet::icmp(from.ip(), to.ip(), kind, code, 0, quoted)
}

/// Bytes of the IP header.
const fn header(bench: &Bench) -> usize {
    match bench.family {
        Family::V4 => 20,
        Family::V6 => 40,
    }
}

fn opened(bench: &mut Bench, method: elvs_model::ForwardingMethod) {
    bench.serve(method, 1);
    for packet in [bench.tcp(SYN), bench.udp()] {
        let to = if method == method::NAT { bench.mapped(1) } else { packet.to };
        let sent = Packet { to, ..bench.to_server(&packet, 1) };
        bench.sends(&packet, &sent, &[]);
    }
}

fn icmp_forwarded(bench: &mut Bench) {
    opened(bench, method::DR);
    let (client, service) = (bench.client(), bench.service());
    let router = SocketAddr::new(bench.router(), 0);
    for about in [Packet::tcp(service, client, ACK), Packet::udp(service, client)] {
        // Eight bytes of what follows the IP header are enough.
        for bytes in [header(bench) + 8, 500] {
            let error = unreachable(bench, &about.ip(), router, service, bytes);
            bench.sends(&error, &bench.to_server(&error, 1), &[Counter::IcmpForwarded]);
        }
    }
}

/// A packet as it is quoted: with other ends, but the transport checksum of another.
fn quoted(packet: &Packet, sums_of: &Packet, header: usize) -> Vec<u8> {
    let (mut bytes, other) = (packet.ip(), sums_of.ip());
    let at = header + if packet.protocol == TCP { 16 } else { 6 };
    bytes[at..at + 2].copy_from_slice(&other[at..at + 2]);
    bytes
}

fn icmp_forwarded_by_nat(bench: &mut Bench) {
    opened(bench, method::NAT);
    let (client, service, mapped) = (bench.client(), bench.service(), bench.mapped(1));
    let router = SocketAddr::new(bench.router(), 0);
    for about in [Packet::tcp(service, client, ACK), Packet::udp(service, client)] {
        let own = quoted(&Packet { from: mapped, ..about.clone() }, &about, header(bench));
        for bytes in [header(bench) + 8, 500] {
            let error = unreachable(bench, &about.ip(), router, service, bytes);
            let sent = unreachable(bench, &own, router, mapped, bytes);
            bench.sends(&error, &bench.to_server(&sent, 1), &[Counter::IcmpForwarded]);
        }
    }
}

fn icmp_returned(bench: &mut Bench) {
    opened(bench, method::NAT);
    let (client, service, mapped) = (bench.client(), bench.service(), bench.mapped(1));
    for about in [Packet::tcp(client, mapped, ACK), Packet::udp(client, mapped)] {
        let asked = quoted(&Packet { to: service, ..about.clone() }, &about, header(bench));
        for bytes in [header(bench) + 8, 500] {
            let error = unreachable(bench, &about.ip(), mapped, client, bytes);
            let sent = unreachable(bench, &asked, service, client, bytes);
            bench.sends(&error, &bench.to_client(&sent), &[Counter::IcmpReturned]);
        }
    }
}

/// Local ends of the client's two connections by full NAT.
fn opened_by_full_nat(bench: &mut Bench) -> [SocketAddr; 2] {
    bench.serve(ForwardingMethod::FullNat, 1);
    let tcp = bench.full_nat(&bench.tcp(SYN), 1, true);
    [tcp, bench.full_nat(&bench.udp(), 1, false)]
}

fn icmp_forwarded_by_full_nat(bench: &mut Bench) {
    let locals = opened_by_full_nat(bench);
    let (client, service, mapped) = (bench.client(), bench.service(), bench.mapped(1));
    let router = SocketAddr::new(bench.router(), 0);
    let sent = [Packet::tcp(service, client, ACK), Packet::udp(service, client)];
    for (about, local) in sent.iter().zip(locals) {
        let own =
            quoted(&Packet { from: mapped, to: local, ..about.clone() }, about, header(bench));
        for bytes in [header(bench) + 8, 500] {
            let error = unreachable(bench, &about.ip(), router, service, bytes);
            let sent = unreachable(bench, &own, local, mapped, bytes);
            bench.sends(&error, &bench.to_server(&sent, 1), &[Counter::IcmpForwarded]);
        }
    }
}

fn icmp_returned_by_full_nat(bench: &mut Bench) {
    let locals = opened_by_full_nat(bench);
    let (client, service, mapped) = (bench.client(), bench.service(), bench.mapped(1));
    let router = SocketAddr::new(bench.router(), 0);
    for from in [mapped, router] {
        let sent = [Packet::tcp(locals[0], mapped, ACK), Packet::udp(locals[1], mapped)];
        for (about, local) in sent.iter().zip(locals) {
            let asked = quoted(
                &Packet { from: client, to: service, ..about.clone() },
                about,
                header(bench),
            );
            for bytes in [header(bench) + 8, 500] {
                let error = unreachable(bench, &about.ip(), from, local, bytes);
                let sent = unreachable(bench, &asked, service, client, bytes);
                bench.sends(&error, &bench.to_client(&sent), &[Counter::IcmpReturned]);
            }
        }
    }
    // Of no connection, and not to whom sent it.
    let stranger = SocketAddr::new(locals[1].ip(), 1_023);
    let about = Packet::udp(stranger, mapped);
    let strange = unreachable(bench, &about.ip(), mapped, stranger, 500);
    bench.passes(&strange, &[]);
    let about = Packet::udp(locals[1], mapped);
    let elsewhere = unreachable(bench, &about.ip(), mapped, service, 500);
    bench.passes(&elsewhere, &[]);
}

fn icmp_tunnel(bench: &mut Bench) {
    if bench.family == Family::V6 {
        return;
    }
    bench.serve(method::TUN, 1);
    let client = bench.tcp(ACK);
    let syn = bench.tcp(SYN);
    let outer = |inner: &Packet| {
        let ends = [bench.director(), bench.server(1)].map(|address| SocketAddr::new(address, 0));
        Packet { payload: inner.ip(), id: 0, ..Packet::new(4, ends[0], ends[1]) }
    };
    let aged = |packet: &Packet| Packet { ttl: packet.ttl - 1, ..packet.clone() };
    let sent = bench.to_server(&Packet { ttl: 64, ..outer(&aged(&syn)) }, 1);
    let quoted = outer(&aged(&client)).ip();
    let (router, director) = (bench.router(), bench.director());
    bench.sends(&syn, &sent, &[]);
    for (code, rest, told) in [([3, 4], 1_400, 1_380), ([11, 0], 0, 0)] {
        let error = Packet::icmp(router, director, code[0], code[1], rest, &quoted);
        let answer = bench.answer(&aged(&client), code, told);
        bench.sends(&error, &answer, &[Counter::IcmpTunnel, Counter::IcmpSent]);
    }
}

fn icmp_limited(bench: &mut Bench) {
    bench.serve(method::DR, 1);
    bench.both.exhaust_budgets();
    let hopless = Packet { ttl: 1, ..bench.udp() };
    bench.drops(&hopless, &[Counter::TtlExpired, Counter::IcmpLimited]);
    let long = Packet { payload: vec![7; 1_480], ..bench.udp() };
    bench.drops(&long, &[Counter::TooBig, Counter::IcmpLimited]);
    bench.both.renew_budgets();
}

/// Nobody is told of what came to everybody, nor is who has no address.
fn icmp_withheld(bench: &mut Bench) {
    bench.serve(method::DR, 1);
    let hopless = Packet { ttl: 1, ..bench.udp() };
    let everybody = Packet { to_mac: [0xff; 6], ..hopless.clone() };
    bench.drops(&everybody, &[Counter::TtlExpired, Counter::IcmpWithheld]);
    let itself = if bench.family == Family::V4 { "127.0.0.1:9" } else { "[::1]:9" };
    let loopback = Packet { from: itself.parse().unwrap(), ..hopless };
    bench.drops(&loopback, &[Counter::TtlExpired, Counter::IcmpWithheld]);
}

fn fragment_forwarded(bench: &mut Bench) {
    bench.serve(method::DR, 1);
    for whole in [bench.udp(), bench.tcp(SYN)] {
        let [first, last] = fragments(&whole);
        bench.sends(&first, &bench.to_server(&first, 1), &[]);
        bench.sends(&last, &bench.to_server(&last, 1), &[Counter::FragmentForwarded]);
    }
}

fn fragment_forwarded_by_nat(bench: &mut Bench) {
    bench.serve(method::NAT, 1);
    let mapped = bench.mapped(1);
    let [first, last] = fragments(&bench.udp());
    let to_server = |packet: &Packet| Packet { to: mapped, ..bench.to_server(packet, 1) };
    let sent = [&first, &last].map(to_server);
    bench.sends(&first, &sent[0], &[]);
    bench.sends(&last, &sent[1], &[Counter::FragmentForwarded]);
    let [first, last] = fragments(&Packet::udp(mapped, bench.client()));
    let service = bench.service();
    let to_client = |packet: &Packet| Packet { from: service, ..bench.to_client(packet) };
    let sent = [&first, &last].map(to_client);
    bench.sends(&first, &sent[0], &[]);
    bench.sends(&last, &sent[1], &[Counter::FragmentForwarded]);
}

fn fragment_forwarded_by_full_nat(bench: &mut Bench) {
    bench.serve(ForwardingMethod::FullNat, 1);
    // The second datagram is of a known connection.
    let mut local = None;
    for id in [0x5678, 0x5679] {
        let [first, last] = fragments(&bench.udp()).map(|packet| Packet { id, ..packet });
        let sent = bench.full_nat_fragment(&first);
        assert_eq!(*local.get_or_insert(sent.from), sent.from);
        let sent =
            Packet { from: sent.from, to: sent.to, id: sent.id, ..bench.to_server(&last, 1) };
        bench.sends(&last, &sent, &[Counter::FragmentForwarded]);
        let other = Packet { id: id ^ 0x100, ..last };
        bench.passes(&other, &[Counter::Fragment]);
    }
    let local = local.unwrap();
    let [first, last] = fragments(&Packet::udp(bench.mapped(1), local));
    let (service, client) = (bench.service(), bench.client());
    let to_client =
        |packet: &Packet| Packet { from: service, to: client, ..bench.to_client(packet) };
    let sent = [&first, &last].map(to_client);
    bench.sends(&first, &sent[0], &[]);
    bench.sends(&last, &sent[1], &[Counter::FragmentForwarded]);
}

/// Clients number their datagrams alike; the real server, to whom all come from one address, must not.
fn fragments_of_two_clients_by_full_nat(bench: &mut Bench) {
    bench.serve(ForwardingMethod::FullNat, 1);
    let other = SocketAddr::new(bench.client().ip(), bench.client().port() ^ 1);
    let numbers = [bench.client(), other].map(|client| {
        let [first, _] = fragments(&Packet::udp(client, bench.service()));
        bench.full_nat_fragment(&first).id
    });
    assert_ne!(numbers[0], numbers[1]);
}
