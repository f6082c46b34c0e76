//! Bytes that nobody should send: truncated, contradictory, random. Nothing panics, nothing is read or changed that is
//! not there; every frame meets the checks in [`crate::support::Director::run_frame`] as well.

use elvs_common::{Counter, Method, TCP, UDP, scheduler_id};
use elvs_fastpath::Verdict;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::support::{ACK, MemoryFrame, Packet, SYN, Seen, Table};

const CLIENT: &str = "192.0.2.7:40000";
const NAT_VIP: &str = "10.0.0.100:80";
const DR_VIP: &str = "10.0.0.101:80";
const TUN_VIP: &str = "10.0.0.102:53";
const SERVER: &str = "10.1.0.21:8080";

/// A director with services of each method and protocol.
fn director() -> Table {
    let mut table = Table::new(16);
    for protocol in [TCP, UDP] {
        for (vip, method) in [(NAT_VIP, Method::Nat), (DR_VIP, Method::Dr), (TUN_VIP, Method::Tun)]
        {
            let id = table.add_service(protocol, vip, scheduler_id::WRR);
            table.add_destination(id, SERVER, method, 2);
        }
    }
    table
}

fn packets() -> Vec<Packet> {
    let mut packets = Vec::new();
    for vip in [NAT_VIP, DR_VIP, TUN_VIP] {
        for vlans in [vec![], vec![(0x8100, 5)], vec![(0x88a8, 5), (0x8100, 6)]] {
            for options in [vec![], vec![1; 40]] {
                let tcp = Packet { vlans: vlans.clone(), options, ..Packet::tcp(CLIENT, vip, SYN) };
                packets.push(Packet { payload: b"data".to_vec(), ..tcp.clone() });
                packets.push(Packet { protocol: UDP, ..tcp });
            }
        }
    }
    packets
}

#[test]
fn a_frame_cut_anywhere_is_passed_or_dropped_as_malformed() {
    for packet in packets() {
        let whole = packet.build();
        let header_end = 14 + 4 * packet.vlans.len() + 20;
        for length in 0..whole.len() {
            let table = director();
            let outcome = table.director.run(whole[..length].to_vec());
            let at = format!("{packet:?} cut to {length}");
            if length < header_end {
                assert_eq!((outcome.verdict, outcome.counted), (Verdict::Pass, vec![]), "{at}");
            } else {
                assert_eq!(outcome.counted, [Counter::Malformed], "{at}");
            }
            assert_eq!(table.director.live().count(), 0, "{at}");
        }
        let table = director();
        assert_eq!(table.director.run(whole).verdict, Verdict::Transmit, "{packet:?}");
    }
}

#[test]
fn a_cut_reply_of_a_real_server_is_passed() {
    let table = director();
    table.director.run(Packet::tcp(CLIENT, NAT_VIP, SYN).build());
    let whole = Packet::tcp(SERVER, CLIENT, SYN | ACK).build();
    for length in 0..whole.len() {
        let outcome = table.director.run(whole[..length].to_vec());
        assert_eq!((outcome.verdict, outcome.counted), (Verdict::Pass, vec![]), "{length}");
    }
    assert_eq!(table.director.run(whole).verdict, Verdict::Transmit);
}

/// Offset in an untagged frame, value put there, what is counted.
#[test]
fn contradictory_headers_to_a_vip_are_dropped_as_malformed() {
    const CASES: &[(&str, usize, &[u8])] = &[
        ("header of 16 bytes", 14, &[0x44]),
        ("header of 0 bytes", 14, &[0x40]),
        ("header longer than the packet", 14, &[0x4f]),
        ("total length 0", 16, &[0, 0]),
        ("total length below the header", 16, &[0, 19]),
        ("no room for the TCP header", 16, &[0, 39]),
        ("total length above the frame", 16, &[0, 41]),
        ("total length 65535", 16, &[0xff, 0xff]),
    ];
    for (name, offset, bytes) in CASES {
        let table = director();
        let mut frame = Packet::tcp(CLIENT, NAT_VIP, SYN).build();
        frame[*offset..*offset + bytes.len()].copy_from_slice(bytes);
        let outcome = table.director.run(frame);
        assert_eq!(outcome.counted, [Counter::Malformed], "{name}");
    }
}

#[test]
fn what_is_not_ours_is_untouched() {
    let tcp = Packet::tcp(CLIENT, NAT_VIP, SYN);
    let with_ethertype = |ethertype: [u8; 2]| {
        let mut frame = tcp.build();
        frame[12..14].copy_from_slice(&ethertype);
        frame
    };
    let version = |byte: u8| {
        let mut frame = tcp.build();
        frame[14] = byte;
        frame
    };
    let tags = |tags: &[(u16, u16)]| Packet { vlans: tags.to_vec(), ..tcp.clone() }.build();
    let cases = [
        ("ARP", with_ethertype([0x08, 0x06])),
        ("IPv6", with_ethertype([0x86, 0xdd])),
        ("802.3 length", with_ethertype([0x00, 0x2e])),
        ("version 6 in an IPv4 frame", version(0x65)),
        ("version 0", version(0x05)),
        ("three VLAN tags", tags(&[(0x8100, 1), (0x8100, 2), (0x8100, 3)])),
        ("ICMP to the VIP", Packet { protocol: 1, ..tcp.clone() }.build()),
        ("GRE to the VIP", Packet { protocol: 47, ..tcp.clone() }.build()),
        ("another address", Packet::tcp(CLIENT, "10.0.0.200:80", SYN).build()),
        ("another port", Packet::tcp(CLIENT, "10.0.0.100:81", SYN).build()),
        ("a fragment to another address", {
            Packet { fragment: 0x2000, ..Packet::udp(CLIENT, "10.0.0.200:80") }.build()
        }),
        ("nothing", Vec::new()),
        ("zeros", vec![0; 64]),
        ("ones", vec![0xff; 64]),
    ];
    for (name, frame) in cases {
        let table = director();
        let outcome = table.director.run(frame);
        assert_eq!((outcome.verdict, outcome.counted), (Verdict::Pass, vec![]), "{name}");
        assert_eq!(table.director.live().count(), 0, "{name}");
    }
}

/// A frame that is nearly a packet: a good one with some bytes overwritten and its end cut.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let edits = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    (any::<prop::sample::Index>(), edits, any::<prop::sample::Index>(), any::<bool>()).prop_map(
        |(which, edits, cut, cuts)| {
            let mut choices: Vec<Vec<u8>> = packets().iter().map(Packet::build).collect();
            choices.push(Packet::tcp(SERVER, CLIENT, SYN | ACK).build());
            choices.push(Packet::udp(SERVER, CLIENT).build());
            let mut frame = choices.swap_remove(which.index(choices.len()));
            for (at, byte) in edits {
                let at = at.index(frame.len());
                frame[at] = byte;
            }
            if cuts {
                frame.truncate(cut.index(frame.len()));
            }
            frame
        },
    )
}

/// Sends a frame on a director with connections of every kind; the checks are in `run_frame` and `check_tables`.
fn survives(frames: Vec<Vec<u8>>, headroom: usize) {
    let table = director();
    for vip in [NAT_VIP, DR_VIP, TUN_VIP] {
        table.director.run(Packet::tcp(CLIENT, vip, SYN).build());
        table.director.run(Packet::udp(CLIENT, vip).build());
    }
    for bytes in frames {
        let length = bytes.len();
        let frame = MemoryFrame { headroom, ..MemoryFrame::new(bytes) };
        let outcome = table.director.run_frame(frame);
        let grown = outcome.frame.bytes.len() - length;
        assert!(grown == 0 || grown == 20 && outcome.verdict == Verdict::Transmit);
        assert!(!outcome.counted.contains(&Counter::Bug), "a packet made tables contradict");
    }
    table.director.check_tables();
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512,
        rng_seed: RngSeed::Fixed(0xbad),
        ..ProptestConfig::default()
    })]

    #[test]
    fn arbitrary_bytes_never_panic(
        frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..8),
    ) {
        survives(frames, 256);
    }

    #[test]
    fn arbitrary_bytes_behind_an_ethernet_header_never_panic(
        frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 14..120), 1..8),
        tagged in any::<bool>(),
    ) {
        let frames = frames.into_iter().map(|mut frame| {
            let ethertype = if tagged { [0x81, 0] } else { [8, 0] };
            frame[12..14].copy_from_slice(&ethertype);
            frame
        });
        survives(frames.collect(), 256);
    }

    #[test]
    fn nearly_good_packets_never_panic(
        frames in proptest::collection::vec(nearly(), 1..12),
        headroom in prop_oneof![Just(0_usize), Just(256)],
    ) {
        survives(frames, headroom);
    }

    #[test]
    fn what_is_sent_has_right_checksums_if_it_came_with_them(
        payload in proptest::collection::vec(any::<u8>(), 0..60),
        client in any::<[u8; 4]>(), port in any::<u16>(),
        tos in any::<u8>(), id in any::<u16>(), ttl in 2_u8..,
        words in 0_usize..=10, udp in any::<bool>(), vip in 0_usize..3,
    ) {
        let table = director();
        let client = format!("{}:{port}", std::net::Ipv4Addr::from(client));
        let vip = [NAT_VIP, DR_VIP, TUN_VIP][vip];
        let packet = if udp { Packet::udp(&client, vip) } else { Packet::tcp(&client, vip, SYN) };
        let packet = Packet { payload, tos, id, ttl, options: vec![1; words * 4], ..packet };
        let outcome = table.director.run(packet.build());
        if outcome.verdict == Verdict::Transmit {
            let seen = Seen::read(&outcome.frame.bytes);
            if vip == TUN_VIP {
                seen.inner();
            }
        } else {
            // FTP's data port is the only one that is not scheduled.
            prop_assert_eq!(outcome.counted, [Counter::NotSyn]);
            prop_assert_eq!((packet.source.port(), udp), (20, false));
        }
    }
}
