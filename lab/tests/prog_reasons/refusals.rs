//! Packets that are dropped, and packets for a virtual service that are left to the host's stack.

use std::net::SocketAddr;

use elvs_common::{Counter, TcpState, UDP};
use elvs_dataplane::MemoryFrame;
use elvs_fastpath::Verdict;
use elvs_lab::method;
use elvs_model::{
    Change, Destination, DestinationKey, ForwardingMethod, Scheduler, ServiceKey, TunnelChecksum,
    TunnelKind, VirtualService,
};

use crate::bench::{ACK, Bench, FIN, Family, Fixture, MTU, RST, SYN};
use crate::both::INGRESS;
use crate::packet::Packet;
use crate::tamper::{self, Fill, Locks, Misdirect};

const FULL_NAT: ForwardingMethod = ForwardingMethod::FullNat;

pub const FIXTURES: [Fixture; 24] = [
    ("destination_gone", destination_gone),
    ("destination_gone of a fragment", destination_gone_of_a_fragment),
    ("no_destination", no_destination),
    ("no_next_hop", no_next_hop),
    ("no_next_hop of a reply", no_next_hop_of_a_reply),
    ("table_full", table_full),
    ("ttl_expired", ttl_expired),
    ("ttl_expired of a reply", ttl_expired_of_a_reply),
    ("ttl_expired of full NAT", ttl_expired_of_full_nat),
    ("tunnel_too_big", tunnel_too_big),
    ("too_big", too_big),
    ("too_big of full NAT", too_big_of_full_nat),
    ("not_fragmented", not_fragmented),
    ("malformed", malformed),
    ("insert_contended", insert_contended),
    ("fragment_refused", fragment_refused),
    ("fragment_refused of a reply", fragment_refused_of_a_reply),
    ("protocol_refused", protocol_refused),
    ("local_ports_exhausted", local_ports_exhausted),
    ("toa_no_room", toa_no_room),
    ("no_headroom", no_headroom),
    ("bug", bug),
    ("not_syn", not_syn),
    ("fragment", fragment),
];

/// A packet of so many bytes.
fn long(packet: &Packet, length: u32) -> Packet {
    let short = packet.ip().len() - packet.payload.len();
    Packet { payload: vec![7; length as usize - short], ..packet.clone() }
}

/// The first fragment of a datagram and its last.
pub fn fragments(packet: &Packet) -> [Packet; 2] {
    let id = 0x5678;
    let whole = Packet { dont_fragment: false, id, payload: vec![1; 24], ..packet.clone() };
    let first = Packet { fragment: Some((0, true)), ..whole.clone() };
    [first, Packet { fragment: Some((4, false)), ..whole }]
}

fn destination_gone(bench: &mut Bench) {
    bench.serve(method::DR, 1);
    for packet in [bench.tcp(SYN), bench.udp()] {
        bench.sends(&packet, &bench.to_server(&packet, 1), &[]);
    }
    bench.remove(method::DR, 1);
    for packet in [bench.tcp(ACK), bench.udp()] {
        bench.drops(&packet, &[Counter::DestinationGone]);
    }
}

fn destination_gone_of_a_fragment(bench: &mut Bench) {
    bench.serve(method::DR, 1);
    let [first, last] = fragments(&bench.udp());
    bench.sends(&first, &bench.to_server(&first, 1), &[]);
    bench.remove(method::DR, 1);
    bench.drops(&last, &[Counter::DestinationGone]);
}

fn no_destination(bench: &mut Bench) {
    bench.serve_with(|service| service, |_| (), method::DR, 1, 0);
    let [_, unreachable, _] = bench.codes();
    for packet in [bench.tcp(SYN), bench.udp(), tagged(&bench.udp())] {
        let answer = bench.answer(&packet, unreachable, 0);
        bench.sends(&packet, &answer, &[Counter::NoDestination, Counter::IcmpSent]);
    }
}

fn tagged(packet: &Packet) -> Packet {
    Packet { vlans: vec![(0x8100, 5)], ..packet.clone() }
}

fn no_next_hop(bench: &mut Bench) {
    for method in [method::DR, method::NAT] {
        bench.begin_anew();
        bench.serve(method, 9);
        let (tcp, udp) = (bench.tcp(SYN), bench.udp());
        for packet in [tcp, udp] {
            bench.drops(&packet, &[Counter::FibFallback, Counter::NoNextHop]);
        }
    }
}

/// The client's packets came by another director.
fn no_next_hop_of_a_reply(bench: &mut Bench) {
    bench.serve(method::NAT, 1);
    let (client, service) = (bench.client(), bench.service());
    tamper::connect(&bench.both, client, service, bench.indexes(UDP, method::NAT, 1));
    let reply = Packet::udp(bench.mapped(1), client);
    bench.drops(&reply, &[Counter::NoNextHop]);
}

fn table_full(bench: &mut Bench) {
    bench.serve(method::DR, 1);
    tamper::everywhere(&bench.both, &Fill { state: TcpState::Established as u8, ago: 0 });
    for packet in [bench.tcp(SYN), bench.udp()] {
        bench.drops(&packet, &[Counter::TableFull]);
    }
}

fn ttl_expired(bench: &mut Bench) {
    let [exceeded, ..] = bench.codes();
    for method in [method::DR, method::NAT, method::TUN] {
        bench.begin_anew();
        bench.serve(method, 1);
        for packet in [bench.tcp(SYN), bench.udp(), tagged(&bench.udp())] {
            let packet = Packet { ttl: 1, ..packet };
            let answer = bench.answer(&packet, exceeded, 0);
            bench.sends(&packet, &answer, &[Counter::TtlExpired, Counter::IcmpSent]);
        }
    }
}

/// The real server is told from the director's address on its side.
fn ttl_expired_of_a_reply(bench: &mut Bench) {
    bench.serve(method::NAT, 1);
    let request = bench.udp();
    let sent = Packet { to: bench.mapped(1), ..bench.to_server(&request, 1) };
    bench.sends(&request, &sent, &[]);
    let reply = Packet { ttl: 1, ..Packet::udp(bench.mapped(1), bench.client()) };
    let [exceeded, ..] = bench.codes();
    let answer = bench.answer_from(bench.director(), &reply, exceeded, 0);
    bench.sends(&reply, &answer, &[Counter::TtlExpired, Counter::IcmpSent]);
}

/// The real server knows the director by the local address.
fn ttl_expired_of_full_nat(bench: &mut Bench) {
    bench.serve(FULL_NAT, 1);
    let [exceeded, ..] = bench.codes();
    for packet in [bench.tcp(SYN), bench.udp()] {
        let packet = Packet { ttl: 1, ..packet };
        let answer = bench.answer(&packet, exceeded, 0);
        bench.sends(&packet, &answer, &[Counter::TtlExpired, Counter::IcmpSent]);
    }
    let local = bench.full_nat(&bench.udp(), 1, false);
    let reply = Packet { ttl: 1, ..Packet::udp(bench.mapped(1), local) };
    let answer = bench.answer(&reply, exceeded, 0);
    bench.sends(&reply, &answer, &[Counter::TtlExpired, Counter::IcmpSent]);
}

fn tunnel_too_big(bench: &mut Bench) {
    let [.., needed] = bench.codes();
    let outer = if bench.family == Family::V4 { 20 } else { 40 };
    let gre = ForwardingMethod::Tun(TunnelKind::Gre { checksum: TunnelChecksum::None });
    for (method, overhead) in [(method::TUN, outer), (gre, outer + 4)] {
        bench.begin_anew();
        bench.serve(method, 1);
        let packet = long(&bench.udp(), MTU - overhead + 1);
        let answer = bench.answer(&packet, needed, MTU - overhead);
        bench.sends(&packet, &answer, &[Counter::TunnelTooBig, Counter::IcmpSent]);
    }
}

fn too_big(bench: &mut Bench) {
    let [.., needed] = bench.codes();
    for method in [method::DR, method::NAT] {
        bench.begin_anew();
        bench.serve(method, 1);
        let packet = long(&bench.udp(), MTU + 1);
        let answer = bench.answer(&packet, needed, MTU);
        bench.sends(&packet, &answer, &[Counter::TooBig, Counter::IcmpSent]);
    }
}

fn too_big_of_full_nat(bench: &mut Bench) {
    bench.serve(FULL_NAT, 1);
    let [.., needed] = bench.codes();
    let packet = long(&bench.udp(), MTU + 1);
    let answer = bench.answer(&packet, needed, MTU);
    bench.sends(&packet, &answer, &[Counter::TooBig, Counter::IcmpSent]);
}

fn not_fragmented(bench: &mut Bench) {
    if bench.family == Family::V6 {
        return;
    }
    let cases = [(method::DR, MTU), (method::NAT, MTU), (FULL_NAT, MTU), (method::TUN, MTU - 20)];
    for (method, most) in cases {
        bench.begin_anew();
        bench.serve(method, 1);
        let packet = Packet { dont_fragment: false, ..long(&bench.udp(), most + 1) };
        bench.drops(&packet, &[Counter::NotFragmented]);
    }
}

fn malformed(bench: &mut Bench) {
    for method in [method::DR, method::NAT, FULL_NAT] {
        bench.begin_anew();
        bench.serve(method, 1);
        for packet in [bench.tcp(SYN), bench.udp(), tagged(&bench.udp())] {
            let frame = packet.build();
            // The lengths in the headers say that there is more.
            let cut = &frame[..frame.len() - 1];
            bench.expect(cut, Verdict::Drop, cut, &[Counter::Malformed]);
        }
    }
}

fn insert_contended(bench: &mut Bench) {
    bench.serve(method::DR, 1);
    tamper::everywhere(&bench.both, &Locks(true));
    for packet in [bench.tcp(SYN), bench.udp()] {
        bench.drops(&packet, &[Counter::InsertContended]);
    }
    tamper::everywhere(&bench.both, &Locks(false));
    for packet in [bench.tcp(SYN), bench.udp()] {
        bench.sends(&packet, &bench.to_server(&packet, 1), &[]);
    }
}

/// A segment in fragments has no room for the client's address.
fn fragment_refused(bench: &mut Bench) {
    bench.serve(FULL_NAT, 1);
    let [first, _] = fragments(&bench.tcp(SYN));
    bench.drops(&first, &[Counter::FragmentRefused]);
}

fn fragment_refused_of_a_reply(bench: &mut Bench) {
    bench.serve(FULL_NAT, 1);
    let local = bench.full_nat(&bench.tcp(SYN), 1, true);
    let [first, _] = fragments(&Packet::tcp(bench.mapped(1), local, ACK));
    bench.drops(&first, &[Counter::FragmentRefused]);
    // A known connection's.
    let [first, _] = fragments(&bench.tcp(ACK));
    bench.drops(&first, &[Counter::FragmentRefused]);
}

/// ESP of a client whose IKE goes by full NAT.
fn protocol_refused(bench: &mut Bench) {
    let ServiceKey::Address { protocol, address, .. } = bench.key(UDP) else { return };
    let service = ServiceKey::Address { protocol, address, port: 500 };
    let destination = Destination {
        key: DestinationKey { address: bench.server(1), port: 500 },
        ..bench.destination(FULL_NAT, 1, 1)
    };
    bench.change([
        Change::AddService(VirtualService::new(service, Scheduler::Rr)),
        Change::AddLocalAddress { service, address: bench.local() },
        Change::AddDestination { service, destination },
    ]);
    let ends = [bench.client().ip(), address].map(|address| SocketAddr::new(address, 500));
    let ike = Packet::udp(ends[0], ends[1]);
    let [kernel, host] = bench.run(&ike.build());
    assert_eq!((kernel.verdict, host.verdict), (Verdict::Transmit, Verdict::Transmit));
    const ESP: u8 = 50;
    let esp = Packet { payload: vec![7; 64], ..Packet::new(ESP, ends[0], ends[1]) };
    match bench.family {
        // Its flow is in the wide table, where ESP of IPv4 is not looked for.
        Family::V4 => bench.passes(&esp, &[]),
        Family::V6 => bench.drops(&esp, &[Counter::ProtocolRefused]),
    }
}

fn local_ports_exhausted(bench: &mut Bench) {
    bench.serve(FULL_NAT, 1);
    let heads = tamper::exhaust_ports(&bench.both);
    for packet in [bench.tcp(SYN), bench.udp()] {
        bench.drops(&packet, &[Counter::LocalPortsExhausted]);
    }
    tamper::give_ports(&bench.both, heads);
    bench.full_nat(&bench.tcp(SYN), 1, true);
}

/// A SYN without room for the option leaves without it, what completes the handshake does not leave.
fn toa_no_room(bench: &mut Bench) {
    bench.serve(FULL_NAT, 1);
    let crowded = |packet: Packet| Packet { tcp_options: vec![1; 36], ..packet };
    bench.full_nat(&crowded(bench.tcp(SYN)), 1, false);
    bench.drops_rewritten(&crowded(bench.tcp(ACK)), &[Counter::ToaNoRoom]);
    let full = long(&bench.tcp(ACK), MTU);
    bench.drops_rewritten(&full, &[Counter::ToaNoRoom]);
}

/// Metadata in front of a packet, as another program may have put it there, takes up XDP's room.
fn no_headroom(bench: &mut Bench) {
    bench.serve(method::TUN, 1);
    for packet in [bench.tcp(SYN), bench.udp()] {
        let frame = packet.build();
        let kernel = bench.both.run_kernel(&frame, 212);
        let narrow = MemoryFrame { headroom: 19, ..MemoryFrame::new(frame.clone(), INGRESS) };
        let host = bench.both.run_host(narrow);
        for (ran, whose) in [(kernel, "the program"), (host, "the host")] {
            bench.check(&ran, whose, Verdict::Drop, &frame, &[Counter::NoHeadroom]);
        }
        bench.note(Verdict::Drop, &[Counter::NoHeadroom]);
    }
}

/// Connections of a destination that there cannot be.
fn bug(bench: &mut Bench) {
    bench.serve(method::DR, 1);
    for packet in [bench.tcp(SYN), bench.udp()] {
        bench.sends(&packet, &bench.to_server(&packet, 1), &[]);
    }
    tamper::everywhere(&bench.both, &Misdirect);
    for packet in [bench.tcp(ACK), bench.udp()] {
        bench.drops(&packet, &[Counter::Bug]);
    }
}

fn not_syn(bench: &mut Bench) {
    for method in [method::DR, method::NAT, method::TUN, FULL_NAT] {
        bench.begin_anew();
        bench.serve(method, 1);
        for packet in [bench.tcp(ACK), tagged(&bench.tcp(FIN | ACK)), bench.tcp(RST)] {
            bench.passes(&packet, &[Counter::NotSyn]);
        }
    }
}

fn fragment(bench: &mut Bench) {
    for method in [method::DR, method::NAT, FULL_NAT] {
        bench.begin_anew();
        bench.serve(method, 1);
        for packet in [bench.tcp(SYN), bench.udp()] {
            let [_, last] = fragments(&packet);
            bench.passes(&last, &[Counter::Fragment]);
        }
    }
}
