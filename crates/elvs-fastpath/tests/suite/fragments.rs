//! Datagrams in fragments: those without ports follow the first one.

use elvs_common::{Counter, Method, TCP, UDP, scheduler_id};
use elvs_fastpath::Verdict;

use crate::support::{CLIENT_GATEWAY, DIRECTOR_MAC, Packet, SYN, Seen, Table, ip, server_mac};

const CLIENT: &str = "192.0.2.1:46001";
const VIP: &str = "10.0.0.100:80";
const SERVERS: [&str; 2] = ["10.1.0.22:8080", "10.1.0.23:8080"];
const METHODS: [Method; 3] = [Method::Dr, Method::Nat, Method::Tun];
/// Where the datagram is cut, bytes of IP payload.
const CUTS: [usize; 4] = [0, 1_024, 2_048, 3_000];

fn servers(protocol: u8, method: Method) -> Table {
    let mut table = Table::new(64);
    let service = table.add_service(protocol, VIP, scheduler_id::RR);
    for server in SERVERS {
        table.add_destination(service, server, method, 1);
    }
    table
}

/// A packet of 3,000 bytes behind its IP header.
fn whole(protocol: u8, source: &str, destination: &str, id: u16) -> Packet {
    let packet = if protocol == TCP {
        Packet::tcp(source, destination, SYN)
    } else {
        Packet::udp(source, destination)
    };
    let header = if protocol == TCP { 20 } else { 8 };
    let payload = (0..=250).cycle().take(3_000 - header).collect();
    Packet { payload, id, fragment: 0, ..packet }
}

/// The frames of a packet's fragments.
fn fragments(packet: &Packet) -> Vec<Vec<u8>> {
    let body = packet.ip_packet().split_off(20);
    let pieces = CUTS.windows(2).map(|cut| {
        let last = cut[1] == body.len();
        let piece = Packet {
            protocol: 255,
            payload: body[cut[0]..cut[1]].to_vec(),
            fragment: (cut[0] / 8) as u16 | if last { 0 } else { 0x2000 },
            ..packet.clone()
        };
        let mut frame = piece.build();
        let at = frame.len() - piece.payload.len() - 20;
        // The protocol, and the checksum by RFC 1624.
        frame[at + 9] = packet.protocol;
        let sum = u16::from_be_bytes([frame[at + 10], frame[at + 11]]);
        let sum = u32::from(sum) + u32::from(255 - packet.protocol);
        let sum = (sum & 0xffff) + (sum >> 16);
        frame[at + 10..at + 12].copy_from_slice(&(sum as u16).to_be_bytes());
        Seen::read(&frame);
        frame
    });
    pieces.collect()
}

/// Sends frames through and puts what comes out together; checks the checksum of the whole.
fn reassembled(table: &Table, frames: &[Vec<u8>], mac: [u8; 6]) -> Seen {
    let mut seen: Option<Seen> = None;
    let mut identifications = Vec::new();
    for frame in frames {
        let outcome = table.director.run(frame.clone());
        assert_eq!(outcome.verdict, Verdict::Transmit, "{:?}", outcome.counted);
        let outer = Seen::read(&outcome.frame.bytes);
        assert_eq!((outer.destination_mac, outer.source_mac), (mac, DIRECTOR_MAC));
        identifications.push([outer.header[4], outer.header[5]]);
        let piece = if outer.header[9] == 4 { outer.inner() } else { outer.clone() };
        if outer.header[9] == 4 {
            assert_eq!(outer.header[6..8], [0, 0], "the outer packet is whole");
        } else {
            identifications.pop();
        }
        match &mut seen {
            None => seen = Some(piece),
            Some(seen) => {
                let offset = u16::from_be_bytes([piece.header[6], piece.header[7]]) & 0x1fff;
                assert_eq!(usize::from(offset) * 8, seen.body.len());
                assert_eq!(piece.header[12..20], seen.header[12..20], "addresses");
                seen.body.extend(piece.body);
            }
        }
    }
    let count = identifications.len();
    identifications.sort_unstable();
    identifications.dedup();
    assert_eq!(identifications.len(), count, "outer packets are told apart");
    let seen = seen.unwrap();
    let packet = Packet {
        source: seen.source(),
        destination: seen.destination(),
        ..Packet::udp(CLIENT, VIP)
    };
    // The checksum of the whole: made anew by who is sent the same bytes.
    let header = if seen.header[9] == TCP { 20 } else { 8 };
    let again = Packet {
        protocol: seen.header[9],
        flags: SYN,
        payload: seen.body[header..].to_vec(),
        ..packet
    };
    assert_eq!(seen.body, again.ip_packet()[20..]);
    seen
}

#[test]
fn a_datagram_in_fragments_goes_to_one_real_server() {
    for protocol in [TCP, UDP] {
        for method in METHODS {
            for vlans in [vec![], vec![(0x8100, 5)]] {
                let table = servers(protocol, method);
                // The newest real server is first in IPVS's list; the second datagram is of the same connection.
                for id in [1, 2] {
                    let packet = whole(protocol, CLIENT, VIP, id);
                    let frames = fragments(&Packet { vlans: vlans.clone(), ..packet });
                    let seen = reassembled(&table, &frames, server_mac(1));
                    let wanted = if method == Method::Nat { SERVERS[1] } else { VIP };
                    assert_eq!(seen.destination(), wanted.parse().unwrap());
                    assert_eq!(seen.source(), CLIENT.parse().unwrap());
                }
                assert_eq!(table.director.live().count(), 1);
                let stats = table.director.stats(1);
                assert_eq!((stats.connections, stats.in_packets), (1, 6));
                assert_eq!(table.director.counter(Counter::FragmentForwarded), 4);
                assert_eq!(table.director.counter(Counter::Fragment), 0);
                table.director.check_tables();
            }
        }
    }
}

#[test]
fn fragments_of_a_masqueraded_real_server_reach_the_client() {
    for protocol in [TCP, UDP] {
        let table = servers(protocol, Method::Nat);
        let request =
            if protocol == TCP { Packet::tcp(CLIENT, VIP, SYN) } else { Packet::udp(CLIENT, VIP) };
        assert_eq!(table.director.run(request.build()).verdict, Verdict::Transmit);
        let frames = fragments(&whole(protocol, SERVERS[1], CLIENT, 7));
        let seen = reassembled(&table, &frames, CLIENT_GATEWAY);
        assert_eq!(seen.source(), VIP.parse().unwrap());
        assert_eq!(seen.destination(), CLIENT.parse().unwrap());
        assert_eq!(table.director.stats(1).out_packets, 3);
    }
}

#[test]
fn one_packet_services_forward_whole_datagrams() {
    let mut table = Table::new(64);
    let service = table.add_service(UDP, VIP, scheduler_id::RR);
    for server in SERVERS {
        table.add_destination(service, server, Method::Nat, 1);
    }
    table.set_scheduler(service, scheduler_id::RR, elvs_common::ServiceFlags::ONE_PACKET);
    for (id, server) in [(1, 1), (2, 0), (3, 1)] {
        let frames = fragments(&whole(UDP, CLIENT, VIP, id));
        reassembled(&table, &frames, server_mac(server));
    }
    assert_eq!(table.director.live().count(), 0);
}

#[test]
fn two_datagrams_at_once_are_told_apart() {
    let table = servers(UDP, Method::Dr);
    let other = "192.0.2.2:46001";
    // The same identification from two clients, and two of one client that go to two services.
    let first = fragments(&whole(UDP, CLIENT, VIP, 1));
    let second = fragments(&whole(UDP, other, VIP, 1));
    for (one, two) in first.iter().zip(&second) {
        for (frame, server) in [(one, 1), (two, 0)] {
            let outcome = table.director.run(frame.clone());
            assert_eq!(Seen::read(&outcome.frame.bytes).destination_mac, server_mac(server));
        }
    }
}

#[test]
fn fragments_whose_first_is_not_known_are_passed_and_counted() {
    let table = servers(UDP, Method::Nat);
    let frames = fragments(&whole(UDP, CLIENT, VIP, 1));
    let unknown = |frame: &[u8]| {
        let outcome = table.director.run(frame.to_vec());
        assert_eq!((outcome.verdict, outcome.counted), (Verdict::Pass, vec![Counter::Fragment]));
    };
    unknown(&frames[1]);
    unknown(&frames[2]);
    assert_eq!(table.director.run(frames[0].clone()).verdict, Verdict::Transmit);
    assert_eq!(table.director.run(frames[1].clone()).verdict, Verdict::Transmit);
    table.director.advance_seconds(29);
    assert_eq!(table.director.run(frames[2].clone()).verdict, Verdict::Transmit);
    table.director.advance_seconds(2);
    unknown(&frames[2]);
    // Another identification, another protocol, another host.
    unknown(&fragments(&whole(UDP, CLIENT, VIP, 2))[1]);
    unknown(&fragments(&whole(TCP, CLIENT, VIP, 1))[1]);
    let outcome = table.director.run(fragments(&whole(UDP, CLIENT, "10.0.0.99:80", 1))[1].clone());
    assert_eq!((outcome.verdict, outcome.counted), (Verdict::Pass, vec![]));
    // What a real server sends may be no reply at all.
    let outcome = table.director.run(fragments(&whole(UDP, SERVERS[1], CLIENT, 1))[1].clone());
    assert_eq!((outcome.verdict, outcome.counted), (Verdict::Pass, vec![]));
}

#[test]
fn fragments_that_cannot_be_forwarded_are_dropped_by_reason() {
    for method in METHODS {
        let mut table = servers(UDP, method);
        let frames = fragments(&whole(UDP, CLIENT, VIP, 1));
        assert_eq!(table.director.run(frames[0].clone()).verdict, Verdict::Transmit);
        let refused = |table: &Table, frame: &[u8], why: &[Counter]| {
            let outcome = table.director.run(frame.to_vec());
            assert_eq!((outcome.verdict, &outcome.counted[..]), (Verdict::Drop, why), "{method:?}");
        };
        let old = Packet { ttl: 1, ..whole(UDP, CLIENT, VIP, 1) };
        // RFC 1122 section 3.2.2: no answer about any fragment but the first.
        refused(&table, &fragments(&old)[1], &[Counter::TtlExpired]);
        table.director.destinations[1].mtu = 1_000;
        refused(&table, &frames[1], &[Counter::NotFragmented]);
        // What is left of it fits.
        assert_eq!(table.director.run(frames[2].clone()).verdict, Verdict::Transmit);
        table.director.destinations[1].mtu = 1_500;
        table.director.destinations[1].next_hop = Default::default();
        refused(&table, &frames[1], &[Counter::NoNextHop, Counter::FibFallback]);
        table.director.destinations[1].flags = 0;
        refused(&table, &frames[1], &[Counter::DestinationGone]);
    }
}

#[test]
fn the_first_fragment_of_an_expired_packet_is_answered() {
    let table = servers(UDP, Method::Dr);
    let frames = fragments(&Packet { ttl: 1, ..whole(UDP, CLIENT, VIP, 1) });
    let outcome = table.director.run(frames[0].clone());
    assert_eq!(outcome.counted, [Counter::TtlExpired, Counter::IcmpSent]);
    assert_eq!(ip(&Seen::read(&outcome.frame.bytes).source().ip().to_string()), ip("10.0.0.100"));
}

/// RFC 1858: ports must not be put together from several fragments.
#[test]
fn a_first_fragment_without_a_whole_header_is_malformed() {
    let table = servers(TCP, Method::Dr);
    let mut packet = whole(TCP, CLIENT, VIP, 1);
    packet.payload.clear();
    let mut frame = packet.build();
    frame.truncate(14 + 20 + 16);
    frame[17] = 36;
    frame[20] = 0x20;
    let outcome = table.director.run(frame);
    assert_eq!((outcome.verdict, outcome.counted), (Verdict::Drop, vec![Counter::Malformed]));
}
