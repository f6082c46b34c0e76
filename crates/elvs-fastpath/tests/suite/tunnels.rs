//! Tunnels by GUE and GRE and of mixed families: what leaves the director, held against frames that the kernel's IPVS was
//! recorded with, and what the real server's side makes of them.

use elvs_common::{
    Counter, DestinationFlags, DestinationRecord, Method, TCP, TunnelFlags, TunnelKind, UDP,
    scheduler_id,
};
use elvs_fastpath::{Host, Note, Verdict, decapsulate, forward_tunnel, largest_inner};

use crate::support::{
    ACK, CLIENT_GATEWAY, DIRECTOR_MAC, Director, MemoryFrame, Packet, Random, SYN, Table, ip,
    server_mac,
};

const GUE_PORT: u16 = 6080;
const IPIP: u8 = 4;
const IPV6: u8 = 41;
const GRE: u8 = 47;
/// Tunnels by ipvsadm's words for them.
const TUNNELS: [(&str, u16, u16); 6] = [
    ("ipip", TunnelKind::IPIP, 0),
    ("gue_nocsum", TunnelKind::GUE, 0),
    ("gue_csum", TunnelKind::GUE, TunnelFlags::CSUM),
    ("gue_remcsum", TunnelKind::GUE, TunnelFlags::REMCSUM),
    ("gre", TunnelKind::GRE, 0),
    ("gre_csum", TunnelKind::GRE, TunnelFlags::CSUM),
];

/// RFC 1071 over all of some bytes.
fn sum(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let mut sum = 0_u64;
    for pair in bytes.chunks(2) {
        sum += u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

/// Recorded frames of a tunnel.
fn recorded(name: &str) -> Vec<Vec<u8>> {
    let lines = include_str!("../golden/tunnels.txt").lines();
    let frames = lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let byte = |hex: &str, at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    let frames: Vec<Vec<u8>> =
        frames.map(|hex| (0..hex.len()).step_by(2).map(|at| byte(hex, at)).collect()).collect();
    assert_eq!(frames.len(), 4, "{name}: two datagrams by IPv4 and two by IPv6");
    frames
}

/// An IP packet taken apart: addresses, protocol, what follows. All lengths and the header's checksum are right.
struct Ip {
    ends: Vec<u8>,
    protocol: u8,
    header: Vec<u8>,
    body: Vec<u8>,
}

impl Ip {
    fn read(packet: &[u8]) -> Self {
        let (header, length) = if packet[0] >> 4 == 4 {
            assert_eq!(sum(&[&packet[..20]]), 0, "IP checksum");
            (20, usize::from(u16::from_be_bytes([packet[2], packet[3]])))
        } else {
            (40, 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]])))
        };
        let (ends, protocol) = if header == 20 { (12..20, packet[9]) } else { (8..40, packet[6]) };
        Self {
            ends: packet[ends].to_vec(),
            protocol,
            header: packet[..header].to_vec(),
            body: packet[header..length].to_vec(),
        }
    }

    /// Checksum over the pseudo header and everything after the IP header; 0 if that has the right one in it.
    fn check(&self) -> u16 {
        let length = u32::try_from(self.body.len()).unwrap().to_be_bytes();
        sum(&[&self.ends, &[0, 0, 0, self.protocol], &length, &self.body])
    }
}

/// What a tunnel's packet holds, and that it is whole: checksums that must be there are recomputed, others are not there.
fn unwrapped(packet: &[u8], kind: u16, flags: u16) -> Vec<u8> {
    let outer = Ip::read(packet);
    let (protocol, inner) = match kind {
        TunnelKind::GUE => {
            assert_eq!(outer.protocol, UDP);
            let header = &outer.body[..12];
            let port = u16::from_be_bytes([header[0], header[1]]);
            assert!((32_768..60_999).contains(&port), "source port {port}");
            assert_eq!(header[2..4], GUE_PORT.to_be_bytes());
            assert_eq!(header[4..6], u16::try_from(outer.body.len()).unwrap().to_be_bytes());
            assert_eq!((header[8], &header[10..]), (0, &[0, 0][..]), "no private data");
            if flags == 0 {
                assert_eq!(header[6..8], [0, 0]);
            } else {
                assert_ne!(header[6..8], [0, 0]);
                assert_eq!(outer.check(), 0, "UDP checksum");
            }
            (header[9], outer.body[12..].to_vec())
        }
        TunnelKind::GRE => {
            assert_eq!(outer.protocol, GRE);
            let protocol = match outer.body[2..4] {
                [8, 0] => IPIP,
                [0x86, 0xdd] => IPV6,
                _ => panic!("{:02x?}", outer.body),
            };
            let header = if flags == 0 { 4 } else { 8 };
            if flags == 0 {
                assert_eq!(outer.body[..2], [0, 0]);
            } else {
                assert_eq!((&outer.body[..2], &outer.body[6..8]), (&[0x80, 0][..], &[0, 0][..]));
                assert_eq!(sum(&[&outer.body]), 0, "GRE checksum");
            }
            (protocol, outer.body[header..].to_vec())
        }
        _ => (outer.protocol, outer.body.clone()),
    };
    assert_eq!(protocol, if inner[0] >> 4 == 6 { IPV6 } else { IPIP });
    inner
}

/// The packet with its time to live raised (`by` 1) or lowered.
fn aged(packet: &[u8], by: i8) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[0] >> 4 == 6 {
        packet[7] = packet[7].wrapping_add_signed(by);
    } else {
        packet[8] = packet[8].wrapping_add_signed(by);
        packet[10..12].fill(0);
        let header = usize::from(packet[0] & 15) * 4;
        let check = sum(&[&packet[..header]]);
        packet[10..12].copy_from_slice(&check.to_be_bytes());
    }
    packet
}

fn framed(tags: &[u8], packet: &[u8]) -> Vec<u8> {
    let ethertype: [u8; 2] = if packet[0] >> 4 == 6 { [0x86, 0xdd] } else { [8, 0] };
    [&DIRECTOR_MAC, &CLIENT_GATEWAY, tags, &ethertype, packet].concat()
}

/// A director with one destination that is tunnelled to.
fn director(kind: u16, flags: u16, v6: bool) -> Table {
    let mut table = Table::new(64);
    for protocol in [TCP, UDP] {
        let service = table.add_service(protocol, "10.0.0.100:80", scheduler_id::RR);
        table.add_destination(service, "10.0.0.21:80", Method::Tun, 1);
    }
    for record in &mut table.director.destinations {
        record.tunnel_kind = kind;
        record.tunnel_port = GUE_PORT.to_be();
        record.tunnel_flags = flags;
        record.flags |= DestinationFlags::ENCAPSULATED;
        if v6 {
            record.flags |= DestinationFlags::IPV6;
            record.address6 = "fd00::21".parse::<std::net::Ipv6Addr>().unwrap().octets();
            record.tunnel_source6 = "fd00::10".parse::<std::net::Ipv6Addr>().unwrap().octets();
        }
    }
    table
}

/// The stage alone, on a packet of either family.
fn wrapped(director: &Director, frame: Vec<u8>) -> (Verdict, Vec<u8>) {
    let mut frame = MemoryFrame::new(frame);
    director.note(Note::Destination, 0);
    let verdict = forward_tunnel(director, &mut frame).verdict();
    (verdict, frame.bytes)
}

/// Everything but what the kernel makes of a secret or leaves to a device: source ports and checksums of UDP, GRE's.
fn comparable(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame[12..].to_vec();
    let (at, protocol) = if frame[0] == 8 { (22, frame[11]) } else { (42, frame[8]) };
    match protocol {
        UDP => {
            frame[at..at + 2].fill(0);
            frame[at + 6..at + 8].fill(0);
        }
        GRE if frame[at] == 0x80 => frame[at + 4..at + 6].fill(0),
        _ => {}
    }
    frame
}

#[test]
fn every_tunnel_sends_what_the_kernel_was_recorded_with() {
    for (name, kind, flags) in TUNNELS {
        for frame in recorded(name) {
            let v6 = frame[12] == 0x86;
            // Unfinished checksums are of no use here.
            let inner = match kind {
                TunnelKind::GUE => Ip::read(&frame[14..]).body[12..].to_vec(),
                TunnelKind::GRE => {
                    Ip::read(&frame[14..]).body[if flags == 0 { 4 } else { 8 }..].to_vec()
                }
                _ => Ip::read(&frame[14..]).body,
            };
            let mut table = director(kind, flags, v6);
            table.director.destinations[0].address = ip("10.0.0.21");
            let (verdict, sent) = wrapped(&table.director, framed(&[], &aged(&inner, 1)));
            assert_eq!(verdict, Verdict::Transmit, "{name}");
            assert_eq!(comparable(&sent), comparable(&frame), "{name}");
            assert_eq!(sent[..6], server_mac(0), "{name}");
            assert_eq!(unwrapped(&sent[14..], kind, flags), inner, "{name}");
        }
    }
}

/// The packets of a recording, without their tunnel and as they came: one by IPv4, one by IPv6.
fn both_families() -> [Vec<u8>; 2] {
    let frames = recorded("ipip");
    [0, 2].map(|at: usize| aged(&Ip::read(&frames[at][14..]).body, 1))
}

#[test]
fn every_family_travels_in_every_other_with_its_vlan_tags() {
    const TAGS: [&[u8]; 3] = [&[], &[0x81, 0, 0, 7], &[0x88, 0xa8, 0, 7, 0x81, 0, 0x60, 8]];
    for (name, kind, flags) in TUNNELS {
        for v6 in [false, true] {
            let table = director(kind, flags, v6);
            for packet in both_families() {
                for tags in TAGS {
                    let came = framed(tags, &packet);
                    let (verdict, sent) = wrapped(&table.director, came);
                    assert_eq!(verdict, Verdict::Transmit, "{name}");
                    assert_eq!(sent[12..12 + tags.len()], *tags, "{name}");
                    let ethertype = &sent[12 + tags.len()..14 + tags.len()];
                    assert_eq!(ethertype, if v6 { [0x86, 0xdd] } else { [8, 0] }, "{name}");
                    let outer = &sent[14 + tags.len()..];
                    assert_eq!(unwrapped(outer, kind, flags), aged(&packet, -1), "{name}");
                    let header = Ip::read(outer).header;
                    let hops = if v6 { header[7] } else { header[8] };
                    assert_eq!(hops, 63, "{name}");

                    let mut frame = MemoryFrame::new(sent.clone());
                    assert_eq!(decapsulate(|word| word, &mut frame, GUE_PORT), Some(()), "{name}");
                    let mut wanted = framed(tags, &aged(&packet, -1));
                    wanted[..12].copy_from_slice(&sent[..12]);
                    assert_eq!(frame.bytes, wanted, "{name}");
                }
            }
        }
    }
}

#[test]
fn checksums_hold_for_packets_of_every_length() {
    let mut random = Random::new(7);
    for (name, kind, flags) in TUNNELS {
        let mut table = director(kind, flags, false);
        table.director.destinations[0].mtu = 0;
        for length in (0..200).chain([1_000, 1_453, 8_999, 9_000, 16_000]) {
            let payload = (0..length).map(|_| random.next() as u8).collect();
            let packet = Packet { payload, ..Packet::udp("10.0.0.1:46001", "10.0.0.100:80") };
            let (verdict, sent) = wrapped(&table.director, packet.build());
            assert_eq!(verdict, Verdict::Transmit, "{name}, {length} bytes");
            let inner = unwrapped(&sent[14..], kind, flags);
            assert_eq!(inner, aged(&packet.build()[14..], -1), "{name}, {length} bytes");
            let mut frame = MemoryFrame::new(sent);
            assert_eq!(decapsulate(|word| word, &mut frame, GUE_PORT), Some(()), "{name}");
        }
    }
}

/// The whole way: first packet, later ones, tags and options, and the counters and loads as for any tunnel.
#[test]
fn connections_go_through_the_stage() {
    for (name, kind, flags) in TUNNELS {
        for v6 in [false, true] {
            for vlans in [vec![], vec![(0x8100, 7)]] {
                let table = director(kind, flags, v6);
                let syn = Packet { vlans, ..Packet::tcp("10.0.0.1:46001", "10.0.0.100:80", SYN) };
                let ack = Packet { flags: ACK, payload: vec![7; 99], ..syn.clone() };
                let option = Packet { options: vec![1; 4], ..ack.clone() };
                let mut ports = Vec::new();
                for packet in [&syn, &ack, &option] {
                    let outcome = table.director.run(packet.build());
                    assert_eq!(outcome.verdict, Verdict::Transmit, "{name}");
                    let at = 14 + packet.vlans.len() * 4;
                    let outer = &outcome.frame.bytes[at..];
                    let inner = unwrapped(outer, kind, flags);
                    assert_eq!(inner, aged(&packet.build()[at..], -1), "{name}");
                    ports.push(Ip::read(outer).body[..2].to_vec());
                }
                if kind == TunnelKind::GUE {
                    assert!(ports.iter().all(|port| *port == ports[0]), "one flow, one port");
                }
                let stats = table.director.stats(0);
                assert_eq!((stats.connections, stats.in_packets), (1, 3), "{name}");
                table.director.check_tables();
            }
        }
    }
}

#[test]
fn type_of_service_and_dont_fragment_are_the_outer_ones_too() {
    for (tos, outer) in [(0xb8, 0xb8), (1, 1), (2, 2), (0xbb, 0xba)] {
        let packet = Packet { tos, fragment: 0, ..Packet::udp("10.0.0.1:46001", "10.0.0.100:80") };
        let (_, sent) = wrapped(&director(TunnelKind::GUE, 0, false).director, packet.build());
        assert_eq!((sent[15], &sent[18..22]), (outer, &[0x12, 0x34, 0, 0][..]));
        let (_, sent) = wrapped(&director(TunnelKind::GRE, 0, true).director, packet.build());
        assert_eq!(sent[14..18], [0x60 | outer >> 4, outer << 4, 0, 0]);
        // IPv6 in IPv4 may be fragmented on the way.
        let mut packet = both_families()[1].clone();
        packet[0] = 0x60 | tos >> 4;
        packet[1] = tos << 4;
        let (_, sent) =
            wrapped(&director(TunnelKind::IPIP, 0, false).director, framed(&[], &packet));
        assert_eq!((sent[15], &sent[20..22]), (outer, &[0, 0][..]));
    }
}

#[test]
fn what_does_not_fit_is_dropped_and_changed_in_nothing() {
    let sizes = [
        (TunnelKind::IPIP, 0, false, 1_480),
        (TunnelKind::IPIP, 0, true, 1_460),
        (TunnelKind::GUE, 0, false, 1_468),
        (TunnelKind::GUE, TunnelFlags::REMCSUM, true, 1_448),
        (TunnelKind::GRE, 0, false, 1_476),
        (TunnelKind::GRE, TunnelFlags::CSUM, false, 1_472),
        (TunnelKind::GRE, TunnelFlags::CSUM, true, 1_452),
    ];
    for (kind, flags, v6, largest) in sizes {
        let table = director(kind, flags, v6);
        assert_eq!(largest_inner(&table.director.destinations[0]), largest);
        let of_length = |length: u32| {
            let payload = vec![3; length as usize - 28];
            Packet { payload, ..Packet::udp("10.0.0.1:46001", "10.0.0.100:80") }.build()
        };
        assert_eq!(table.director.run(of_length(largest)).verdict, Verdict::Transmit);
        let outcome = table.director.run(of_length(largest + 1));
        assert_eq!(outcome.counted, [Counter::TunnelTooBig, Counter::IcmpSent]);
        let room = (1_500 - largest) as usize;
        for (headroom, verdict) in [(room - 1, Verdict::Drop), (room, Verdict::Transmit)] {
            let frame = MemoryFrame { headroom, ..MemoryFrame::new(of_length(100)) };
            let outcome = table.director.run_frame(frame);
            assert_eq!(outcome.verdict, verdict);
            assert_eq!(outcome.counted.contains(&Counter::NoHeadroom), verdict == Verdict::Drop);
        }
    }
}

#[test]
fn unresolved_next_hops_and_spent_packets_are_counted() {
    let mut table = director(TunnelKind::GRE, 0, false);
    let packet = Packet::udp("10.0.0.1:46001", "10.0.0.100:80");
    let spent = Packet { ttl: 1, ..packet.clone() };
    let outcome = table.director.run(spent.build());
    assert_eq!(outcome.counted, [Counter::TtlExpired, Counter::IcmpSent]);
    for record in &mut table.director.destinations {
        let hop = record.next_hop[0];
        *record = DestinationRecord { next_hop: Default::default(), ..*record };
        table.director.routes.insert(elvs_common::WideAddress::of_v4(ip("10.0.0.21")), hop);
    }
    let outcome = table.director.run(packet.build());
    assert_eq!((outcome.verdict, outcome.counted), (Verdict::Transmit, vec![Counter::FibFallback]));
    table.director.routes.clear();
    let outcome = table.director.run(packet.build());
    assert_eq!(outcome.counted, [Counter::NoNextHop, Counter::FibFallback]);
}

/// Finishes the UDP checksum of a recorded frame, as its device would have.
fn finished(mut frame: Vec<u8>) -> Vec<u8> {
    let at = if frame[12] == 8 { 34 } else { 54 };
    frame[at + 6..at + 8].fill(0);
    let check = Ip::read(&frame[14..]).check();
    frame[at + 6..at + 8].copy_from_slice(&check.to_be_bytes());
    frame
}

#[test]
fn remote_checksums_are_finished_on_the_real_server() {
    // The same datagrams with and without.
    for (partial, whole) in recorded("gue_remcsum_partial").into_iter().zip(recorded("gue_csum")) {
        let mut frame = MemoryFrame::new(finished(partial.clone()));
        assert_eq!(decapsulate(|word| word, &mut frame, GUE_PORT), Some(()));
        let (seen, wanted) = (Ip::read(&frame.bytes[14..]), Ip::read(&whole[14..]).body);
        assert_eq!(seen.body, Ip::read(&wanted[12..]).body);
        assert_eq!(seen.check(), 0, "the checksum inside");
        // Nobody vouches for this one.
        let mut unsure = finished(partial);
        let at = if unsure[12] == 8 { 34 } else { 54 };
        unsure[at + 6..at + 8].fill(0);
        let mut frame = MemoryFrame::new(unsure.clone());
        assert_eq!(decapsulate(|word| word, &mut frame, GUE_PORT), None);
        assert_eq!(frame.bytes, unsure);
    }
}

/// Every bit of every outer header, turned over: either it means nothing to the tunnel, or the frame is left alone. With a
/// checksum, no bit of the packet inside can be changed either.
#[test]
fn what_the_real_server_does_not_understand_stays_as_it_came() {
    for (name, kind, flags) in TUNNELS {
        let (_, sent) =
            wrapped(&director(kind, flags, false).director, framed(&[], &both_families()[0]));
        let inner = sent.len() - 36;
        let own = 34..if flags == 0 { inner } else { sent.len() };
        for bit in own.start * 8..own.end * 8 {
            let mut frame = sent.clone();
            frame[bit / 8] ^= 1 << (bit % 8);
            let mut seen = MemoryFrame::new(frame.clone());
            let taken = decapsulate(|word| word, &mut seen, GUE_PORT);
            // Without a checksum, the source port may be any, and a checksum that appears is wrong.
            let meaningless = kind == TunnelKind::GUE && flags == 0 && bit / 8 < 36;
            assert_eq!(taken.is_some(), meaningless, "{name}, bit {bit}");
            if taken.is_none() {
                assert_eq!(seen.bytes, frame, "{name}, bit {bit}");
            }
        }
        for end in 0..sent.len() {
            let mut seen = MemoryFrame::new(sent[..end].to_vec());
            assert_eq!(decapsulate(|word| word, &mut seen, GUE_PORT), None, "{name}, {end} bytes");
        }
    }
}
