//! What the director does against floods and for peers of connections that are no more, where a setting or a service asks
//! for it.

use std::net::SocketAddr;

use elvs_common::{Counter, TCP, TcpState};
use elvs_dataplane::Plane;
use elvs_fastpath::Verdict;
use elvs_lab::method;
use elvs_model::{
    Change, Family as AddressFamily, ForwardingMethod, Mark, MarkRule, OnDelete, Persistence,
    Prefix, Scheduler, ServiceKey, Setting, VirtualService,
};

use crate::bench::{ACK, Bench, FIN, Family, Fixture, RST, SYN};
use crate::packet::Packet;
use crate::tamper::{self, Fill};
use crate::verdicts::shapes;

const FULL_NAT: ForwardingMethod = ForwardingMethod::FullNat;
/// Least bytes of a frame that is cut.
const LEAST_FRAME: usize = 60;

pub const FIXTURES: [Fixture; 7] = [
    ("drop_packet", drop_packet),
    ("drop_entry", drop_entry),
    ("cache_bypass", cache_bypass),
    ("flood", flood),
    ("no_connection", no_connection),
    ("reset_sent", reset_sent),
    ("what on_delete reset does not reset", not_reset),
];

/// A core enters flood mode, keeps what is half-open out of its table, and leaves it.
fn flood(bench: &mut Bench) {
    const LONG_AGO: u32 = 1_000;
    bench.serve(method::DR, 1);
    bench.both.set_flood_threshold(10);
    let from = |packet: Packet, port: u16| Packet {
        from: SocketAddr::new(packet.from.ip(), port),
        ..packet
    };
    let sends = |bench: &mut Bench, packet: &Packet, counted: &[Counter]| {
        let sent = bench.to_server(packet, 1);
        bench.sends(packet, &sent, counted);
    };
    let syn = from(bench.tcp(SYN), 1);
    bench.both.fill_windows(0, 0);
    sends(bench, &syn, &[Counter::FloodEntered, Counter::FloodStateless]);
    bench.both.fill_windows(0, 20);
    sends(bench, &syn, &[Counter::FloodStateless]);
    // What completes the handshake has an entry, and so has a datagram; the next is of a known flow.
    let datagram = from(bench.udp(), 2);
    for packet in [from(bench.tcp(ACK), 1), datagram] {
        sends(bench, &packet, &[Counter::FloodProvisional]);
        sends(bench, &packet, &[]);
    }
    bench.both.fill_windows(LONG_AGO, 20);
    let next = from(bench.tcp(SYN), 3);
    sends(bench, &next, &[Counter::FloodLeft]);
    sends(bench, &from(bench.tcp(ACK), 3), &[]);
    bench.both.set_flood_threshold(0);
}

/// A packet leaves for the real server; how is what other fixtures are about.
fn sends_on(bench: &Bench, packet: &Packet) {
    for ran in bench.run(&packet.build()) {
        assert_eq!((ran.verdict, ran.counted), (Verdict::Transmit, vec![]));
    }
}

/// Of every new connection, and of no known one.
fn drop_packet(bench: &mut Bench) {
    let persistence = Some(Persistence { timeout: 300 });
    for method in [method::DR, method::NAT, method::TUN, FULL_NAT] {
        bench.begin_anew();
        bench.serve(method, 1);
        sends_on(bench, &bench.tcp(SYN));
        shed_all(bench);
        sends_on(bench, &bench.tcp(ACK));
        bench.set(Setting::DropPacket, 0);
        sends_on(bench, &bench.udp());
    }
    for engine in [None, Some("sip".to_owned())] {
        let remembering =
            |service| VirtualService { persistence, engine: engine.clone(), ..service };
        bench.begin_anew();
        bench.serve_with(remembering, |_| (), method::DR, 1, 1);
        shed_all(bench);
    }
}

fn shed_all(bench: &mut Bench) {
    bench.set(Setting::DropPacket, 3);
    bench.set(Setting::AmDroprate, 1);
    for packet in shapes(bench, &bench.udp()) {
        bench.drops(&packet, &[Counter::DropPacket]);
    }
}

/// By the daemon, once a second: as many as are gone.
fn drop_entry(bench: &mut Bench) {
    bench.serve(method::DR, 1);
    tamper::load_nobody(&bench.both);
    bench.set(Setting::DropEntry, 3);
    for (state, ends) in [(TcpState::Established, false), (TcpState::SynRecv, true)] {
        tamper::everywhere(&bench.both, &tamper::Forget);
        tamper::everywhere(&bench.both, &Fill { state: state as u8, ago: 0 });
        for plane in bench.both.planes() {
            let count = |plane: &dyn Plane| {
                let counters = plane.counters().unwrap();
                counters.into_iter().find(|(counter, _)| *counter == Counter::DropEntry).unwrap().1
            };
            let entries = |plane: &dyn Plane| plane.connections().count() as u64;
            let before = (count(plane), entries(plane));
            assert!(plane.defend(None).drop_entry);
            let dropped = count(plane) - before.0;
            assert_eq!(before.1 - entries(plane), dropped, "{state:?}");
            assert_eq!(dropped > 0, ends, "{state:?}");
        }
    }
    bench.note_counter(Counter::DropEntry);
}

/// Services of a firewall mark without destinations.
fn cache_bypass(bench: &mut Bench) {
    const MARK: u32 = 7;
    let family = match bench.family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    };
    let service = ServiceKey::Fwmark { mark: MARK, family };
    let length = if bench.family == Family::V4 { 32 } else { 128 };
    let rule =
        MarkRule { destination: Prefix::new(bench.vip(), length), ..MarkRule::new(Mark(MARK)) };
    bench.change([
        Change::AddMark(rule.clone()),
        Change::AddService(VirtualService::new(service, Scheduler::Rr)),
    ]);
    let packets = [bench.tcp(SYN), bench.udp()];
    let [_, unreachable, _] = bench.codes();
    for packet in &packets {
        let answer = bench.answer(packet, unreachable, 0);
        bench.sends(packet, &answer, &[Counter::NoDestination, Counter::IcmpSent]);
    }
    bench.set(Setting::CacheBypass, 1);
    for packet in packets.iter().flat_map(|packet| shapes(bench, packet)).collect::<Vec<_>>() {
        bench.passes(&packet, &[Counter::CacheBypass]);
    }
    // A service by its address does not.
    let key = bench.key(TCP);
    bench.change([
        Change::DeleteMark(rule),
        Change::AddService(VirtualService::new(key, Scheduler::Rr)),
    ]);
    let answer = bench.answer(&packets[0], unreachable, 0);
    bench.sends(&packets[0], &answer, &[Counter::NoDestination, Counter::IcmpSent]);
}

/// A masqueraded real server is told from the director's address on its side.
fn no_connection(bench: &mut Bench) {
    bench.serve(method::NAT, 1);
    let (mapped, client) = (bench.mapped(1), bench.client());
    let strays: Vec<Packet> = [
        Packet::tcp(mapped, client, ACK),
        Packet::tcp(mapped, client, SYN | ACK),
        Packet::udp(mapped, client),
    ]
    .iter()
    .flat_map(|packet| shapes(bench, packet))
    .collect();
    for packet in &strays {
        bench.passes(packet, &[]);
    }
    bench.set(Setting::NatIcmpSend, 1);
    let [_, unreachable, _] = bench.codes();
    for packet in &strays {
        let answer = bench.answer_from(bench.director(), packet, unreachable, 0);
        bench.sends(packet, &answer, &[Counter::NoConnection, Counter::IcmpSent]);
    }
    // Neither a reset nor who is none of the real servers.
    bench.passes(&Packet::tcp(mapped, client, RST), &[]);
    for from in [std::net::SocketAddr::new(mapped.ip(), 8_081), bench.mapped(2)] {
        bench.passes(&Packet::udp(from, client), &[]);
    }
}

/// Reasons of a segment that a reset answers.
const RESET: [Counter; 3] = [Counter::DestinationGone, Counter::ExpiredNodest, Counter::ResetSent];

/// The services over TCP and UDP with a real server, whose removal resets its connections.
fn serve_resetting(bench: &mut Bench, method: ForwardingMethod) {
    bench.begin_anew();
    let resetting = |service| VirtualService { on_delete: OnDelete::Reset, ..service };
    bench.serve_with(resetting, |_| (), method, 1, 1);
}

/// The frame that answers a segment with a reset of these numbers and flags: cut, to its shortest or to that of Ethernet.
fn reset_of(about: &Packet, numbers: [u32; 2], flags: u8) -> Vec<u8> {
    let reset = Packet {
        to_mac: about.from_mac,
        from_mac: about.to_mac,
        vlans: about.vlans.clone(),
        tos: about.tos & 0xfc,
        id: 0,
        numbers,
        window: 0,
        ..Packet::tcp(about.to, about.from, flags)
    };
    let (mut frame, came) = (reset.build(), about.build());
    if let Some(rest) = came.get(frame.len()..came.len().min(LEAST_FRAME)) {
        frame.extend(rest);
    }
    frame
}

/// Answers to segments of numbers 1 and 2 by RFC 9293 section 3.10.7.1: flags, bytes of data, numbers and flags.
const ANSWERS: [(u8, usize, [u32; 2], u8); 5] = [
    (ACK, 0, [2, 0], RST),
    (ACK, 1_000, [2, 0], RST),
    (FIN | ACK, 3, [2, 0], RST),
    (0, 7, [0, 8], RST | ACK),
    (FIN, 7, [0, 9], RST | ACK),
];

fn reset_sent(bench: &mut Bench) {
    for method in [method::DR, method::NAT, method::TUN, FULL_NAT] {
        for (flags, data, numbers, answered) in ANSWERS {
            let segment = Packet { payload: vec![7; data], ..bench.tcp(flags) };
            for shape in 0..shapes(bench, &segment).len() {
                serve_resetting(bench, method);
                let indexes = bench.indexes(TCP, method, 1);
                let before = tamper::held(&bench.both, indexes);
                sends_on(bench, &bench.tcp(SYN));
                assert_ne!(tamper::held(&bench.both, indexes), before);
                bench.remove(method, 1);
                let segment = Packet { payload: vec![7; data], ..bench.tcp(flags) };
                let segment = shapes(bench, &segment).swap_remove(shape);
                let wanted = reset_of(&segment, numbers, answered);
                bench.expect(&segment.build(), Verdict::Transmit, &wanted, &RESET);
                // It was the connection's end.
                assert_eq!(tamper::held(&bench.both, indexes), before, "{method:?}");
                bench.passes(&bench.tcp(ACK), &[Counter::NotSyn]);
            }
        }
    }
}

fn not_reset(bench: &mut Bench) {
    const ENDED: [Counter; 2] = [Counter::DestinationGone, Counter::ExpiredNodest];
    let [_, unreachable, _] = bench.codes();
    for method in [method::DR, method::NAT, method::TUN, FULL_NAT] {
        serve_resetting(bench, method);
        for packet in [bench.tcp(SYN), bench.udp()] {
            sends_on(bench, &packet);
        }
        bench.remove(method, 1);
        // A reset is never answered by one.
        bench.drops(&bench.tcp(RST), &ENDED);
        let datagram = bench.udp();
        let told = bench.answer(&datagram, unreachable, 0);
        bench.sends(&datagram, &told, &[&ENDED[..], &[Counter::IcmpSent]].concat());
        // Who connects anew goes elsewhere, if there is anybody.
        serve_resetting(bench, method);
        sends_on(bench, &bench.tcp(SYN));
        bench.remove(method, 1);
        let syn = bench.tcp(SYN);
        let told = bench.answer(&syn, unreachable, 0);
        let counted = [Counter::ExpiredNodest, Counter::NoDestination, Counter::IcmpSent];
        bench.sends(&syn, &told, &counted);
    }
}
