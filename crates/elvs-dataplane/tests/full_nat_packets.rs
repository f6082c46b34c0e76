//! Full NAT through the very code of the data plane: both ends rewritten, the client named, ports taken and given back.

#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "tests fail loudly"
)]

mod support;

use std::net::Ipv4Addr;

use elvs_common::{Counter, FIRST_LOCAL_PORT, LOCAL_PORTS, TCP, TOA_KIND, UDP};
use elvs_dataplane::{Backend, FakePlane, MemoryFrame, Plane};
use elvs_fastpath::{Verdict, WideMemory, free_ports};
use elvs_model::{Change, ForwardingMethod, Scheduler, ServiceKey};

use support::{
    ACK, CLIENT, DNS, FIN, RST, SYN, VIP, WEB, add_service, count, destination, frame, plane,
    server, sweep,
};

const LOCAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 200);
const PORTS: u64 = (LOCAL_PORTS - FIRST_LOCAL_PORT) as u64;

fn director(service: ServiceKey) -> FakePlane {
    let destination = destination(1, 1, ForwardingMethod::FullNat);
    let changes = [
        add_service(service, Scheduler::Rr),
        Change::AddLocalAddress { service, address: LOCAL.into() },
        Change::AddDestination { service, destination },
    ];
    plane(changes).0
}

fn free(plane: &FakePlane) -> u64 {
    free_ports(plane.backend().wide().local(0).unwrap())
}

/// A frame's source and destination.
fn ends(frame: &MemoryFrame) -> ((Ipv4Addr, u16), (Ipv4Addr, u16)) {
    let bytes = &frame.bytes;
    let address = |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&bytes[at..at + 4]).unwrap());
    let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    ((address(26), port(34)), (address(30), port(36)))
}

/// Sum over a packet's transport part with its pseudo header, and over its IP header: both all ones if they are right.
fn sums(frame: &MemoryFrame) -> (u16, u16) {
    let fold = |bytes: &[u8], start: u64| {
        let mut sum = start;
        for pair in bytes.chunks(2) {
            sum += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::try_from(sum).unwrap()
    };
    let ip = &frame.bytes[14..];
    let length = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    assert_eq!(length, ip.len(), "the IP header's length");
    let transport = &ip[20..];
    let pseudo = u64::from(ip[9]) + u64::try_from(transport.len()).unwrap();
    (fold(&ip[12..], pseudo), fold(&ip[..20], 0))
}

/// Writes right checksums into a frame.
fn with_sums(mut frame: MemoryFrame) -> MemoryFrame {
    let at = if frame.bytes[23] == TCP { 50 } else { 40 };
    let (transport, header) = sums(&frame);
    frame.bytes[at..at + 2].copy_from_slice(&(!transport).to_be_bytes());
    frame.bytes[24..26].copy_from_slice(&(!header).to_be_bytes());
    assert_eq!(sums(&frame), (0xffff, 0xffff));
    frame
}

fn segment(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), flags: u8) -> MemoryFrame {
    with_sums(frame(TCP, from, to, flags))
}

/// The option in a segment's options, if it has any.
fn option(frame: &MemoryFrame) -> &[u8] {
    let end = 34 + usize::from(frame.bytes[46] >> 4) * 4;
    &frame.bytes[54..end]
}

#[test]
fn a_connection_is_rewritten_both_ways_and_names_its_client_until_it_is_answered() {
    let plane = director(WEB);
    let mut syn = segment((CLIENT, 4000), (VIP, 80), SYN);
    assert_eq!(plane.process(&mut syn), Verdict::Transmit);
    let (local, target) = ends(&syn);
    assert_eq!((local.0, target), (LOCAL, (server(1), 80)));
    assert!(u32::from(local.1) >= FIRST_LOCAL_PORT);
    let [a, b, c, d] = CLIENT.octets();
    let named = [TOA_KIND, 8, 15, 160, a, b, c, d];
    assert_eq!(option(&syn), named);
    assert_eq!(sums(&syn), (0xffff, 0xffff));
    assert_eq!(syn.bytes[22], 63, "time to live");
    assert_eq!(free(&plane), PORTS - 1);
    // The real server's SYN answers the local end, and announces 1,460 bytes a segment.
    let mut answer = frame(TCP, (server(1), 80), local, SYN | ACK);
    answer.bytes[46] = 0x60;
    answer.bytes.extend([2, 4, 5, 180]);
    answer.bytes[17] += 4;
    let mut answer = with_sums(answer);
    assert_eq!(plane.process(&mut answer), Verdict::Transmit);
    assert_eq!(ends(&answer), ((VIP, 80), (CLIENT, 4000)));
    assert_eq!(answer.bytes[54..58], [2, 4, 5, 172], "8 bytes less");
    assert_eq!(sums(&answer), (0xffff, 0xffff));
    // What completes the handshake, and what follows, names the client until the real server sends more than its SYN.
    for answered in [false, false, true] {
        if answered {
            let mut data = segment((server(1), 80), local, ACK);
            assert_eq!(plane.process(&mut data), Verdict::Transmit);
            assert_eq!(ends(&data), ((VIP, 80), (CLIENT, 4000)));
            assert_eq!(sums(&data), (0xffff, 0xffff));
        }
        let mut data = segment((CLIENT, 4000), (VIP, 80), ACK);
        assert_eq!(plane.process(&mut data), Verdict::Transmit);
        assert_eq!(ends(&data), (local, (server(1), 80)));
        assert_eq!(option(&data), if answered { &[][..] } else { &named[..] });
        assert_eq!(sums(&data), (0xffff, 0xffff));
    }
    let shown: Vec<_> = plane.connections().collect();
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0].client.to_string(), format!("{CLIENT}:4000"));
    assert_eq!(shown[0].destination.to_string(), format!("{}:80", server(1)));
}

#[test]
fn ports_come_back_when_connections_end_and_not_before() {
    let mut plane = director(WEB);
    for port in 1_001..=1_020 {
        assert_eq!(plane.process(&mut segment((CLIENT, port), (VIP, 80), SYN)), Verdict::Transmit);
    }
    assert_eq!(free(&plane), PORTS - 20);
    plane.backend().advance_seconds(62);
    assert_eq!(sweep(&mut plane), 20);
    assert_eq!(free(&plane), PORTS);
    // A SYN of a connection that is over takes a new port and gives the old one back.
    let mut first = segment((CLIENT, 1), (VIP, 80), SYN);
    plane.process(&mut first);
    let local = ends(&first).0;
    for flags in [ACK, ACK | RST] {
        plane.process(&mut segment((CLIENT, 1), (VIP, 80), flags));
    }
    let mut again = segment((CLIENT, 1), (VIP, 80), SYN);
    assert_eq!(plane.process(&mut again), Verdict::Transmit);
    assert_ne!(ends(&again).0, local);
    assert_eq!(free(&plane), PORTS - 1);
    assert_eq!(plane.process(&mut segment((server(1), 80), local, FIN | ACK)), Verdict::Pass);
}

#[test]
fn datagrams_have_no_option_and_strangers_go_to_the_stack() {
    let plane = director(DNS);
    let mut query = with_sums(frame(UDP, (CLIENT, 4000), (VIP, 53), 0));
    assert_eq!(plane.process(&mut query), Verdict::Transmit);
    let (local, target) = ends(&query);
    assert_eq!((local.0, target), (LOCAL, (server(1), 80)));
    assert_eq!(sums(&query), (0xffff, 0xffff));
    let mut answer = with_sums(frame(UDP, (server(1), 80), local, 0));
    assert_eq!(plane.process(&mut answer), Verdict::Transmit);
    assert_eq!(ends(&answer), ((VIP, 53), (CLIENT, 4000)));
    assert_eq!(sums(&answer), (0xffff, 0xffff));
    for from in [(server(1), 81), (server(2), 80)] {
        let mut stray = with_sums(frame(UDP, from, local, 0));
        let before = stray.clone();
        assert_eq!((plane.process(&mut stray), stray), (Verdict::Pass, before));
    }
}

#[test]
fn without_a_free_port_or_room_for_the_option_a_packet_is_refused_by_name() {
    let plane = director(WEB);
    let wide = plane.backend().wide();
    let local = wide.local(0).unwrap();
    let tail = local.tail.load(std::sync::atomic::Ordering::Relaxed);
    local.head.store(tail, std::sync::atomic::Ordering::Relaxed);
    let mut syn = segment((CLIENT, 1), (VIP, 80), SYN);
    let before = syn.clone();
    assert_eq!(plane.process(&mut syn), Verdict::Drop);
    assert_eq!(syn, before);
    assert_eq!(count(&plane, Counter::LocalPortsExhausted), 1);
    assert_eq!(local.exhausted.load(std::sync::atomic::Ordering::Relaxed), 1);
    local.head.store(tail - 1, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(plane.process(&mut syn), Verdict::Transmit);
    // 36 bytes of options leave room for four.
    let mut crowded = frame(TCP, (CLIENT, 1), (VIP, 80), ACK);
    crowded.bytes[46] = 0xe0;
    crowded.bytes.extend([1; 36]);
    crowded.bytes[17] += 36;
    assert_eq!(plane.process(&mut with_sums(crowded)), Verdict::Drop);
    assert_eq!(count(&plane, Counter::ToaNoRoom), 1);
}

#[test]
fn a_flood_takes_no_port_from_a_connection_and_leaves_one_for_the_next() {
    let mut plane = director(WEB);
    plane.set_flood_threshold(1);
    let begin = |port| {
        let mut syn = segment((CLIENT, port), (VIP, 80), SYN);
        assert_eq!(plane.process(&mut syn), Verdict::Transmit, "client port {port}");
        ends(&syn).0
    };
    // Established before there is a flood.
    let local = begin(4000);
    assert_eq!(plane.process(&mut segment((server(1), 80), local, SYN | ACK)), Verdict::Transmit);
    assert_eq!(plane.process(&mut segment((CLIENT, 4000), (VIP, 80), ACK)), Verdict::Transmit);
    // All but 20 of the ports are somebody else's.
    let ring = plane.backend().wide().local(0).unwrap();
    let tail = ring.tail.load(std::sync::atomic::Ordering::Relaxed);
    ring.head.store(tail - 20, std::sync::atomic::Ordering::Relaxed);
    for port in 5_000..6_000 {
        let taken = begin(port);
        assert_ne!(taken, local, "the connection's own port");
    }
    assert_eq!(free(&plane), 0);
    assert_eq!(count(&plane, Counter::LocalPortsExhausted), 0);
    assert!(plane.is_flooded());
    // The last one's handshake is completed all the same.
    let last = begin(6_000);
    assert_eq!(plane.process(&mut segment((server(1), 80), last, SYN | ACK)), Verdict::Transmit);
    for (client, own) in [(6_000, last), (4_000, local)] {
        let mut ack = segment((CLIENT, client), (VIP, 80), ACK);
        assert_eq!(plane.process(&mut ack), Verdict::Transmit);
        assert_eq!(ends(&ack), (own, (server(1), 80)));
    }
    // One that lost its entry is nobody's: its local end was in it.
    let mut lost = segment((CLIENT, 5_000), (VIP, 80), ACK);
    assert_eq!(plane.process(&mut lost), Verdict::Pass);
    plane.backend().advance_seconds(62);
    sweep(&mut plane);
    assert_eq!(plane.connections().count(), 2);
    assert_eq!(free(&plane), 19, "those of the half-open ones came back");
    assert!(!plane.is_flooded());
}
