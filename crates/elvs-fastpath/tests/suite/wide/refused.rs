//! IPv6 packets that are refused, and those that are none of the director's business.

use elvs_common::{Counter, Method, TCP, UDP, scheduler_id};
use elvs_fastpath::Verdict;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::{CLIENT, MAPPED, VIP, one_server, packet, run};
use crate::support::{
    ACK, DESTINATION_OPTIONS, HOP_BY_HOP, MemoryFrame, Packet, Packet6, ROUTING, SYN, Seen, Table,
    extension, folded, fragment,
};

const DR_VIP: &str = "[fd00::101]:80";

/// A director with services of each method and protocol, of both families.
fn director() -> Table {
    let mut table = Table::new(16);
    for protocol in [TCP, UDP] {
        for (vip, method) in [(VIP, Method::Nat), (DR_VIP, Method::Dr)] {
            let id = table.add_service(protocol, vip, scheduler_id::WRR);
            table.add_destination(id, MAPPED, method, 2);
        }
        let id = table.add_service(protocol, "10.0.0.100:80", scheduler_id::WRR);
        table.add_destination(id, "10.1.0.21:8080", Method::Nat, 1);
    }
    table
}

fn packets() -> Vec<Packet6> {
    let mut packets = Vec::new();
    for vip in [VIP, DR_VIP] {
        for vlans in [vec![], vec![(0x8100, 5)], vec![(0x88a8, 5), (0x8100, 6)]] {
            for extensions in [
                vec![],
                vec![extension(HOP_BY_HOP, 2)],
                vec![extension(DESTINATION_OPTIONS, 1), extension(ROUTING, 3), fragment(0, false)],
            ] {
                let vlans = vlans.clone();
                let tcp = Packet6 { vlans, extensions, ..Packet6::tcp(CLIENT, vip, SYN) };
                packets.push(Packet6 { payload: b"data".to_vec(), ..tcp.clone() });
                packets.push(Packet6 { protocol: UDP, ..tcp });
            }
        }
    }
    packets
}

#[test]
fn a_frame_cut_anywhere_is_passed_or_dropped_as_malformed() {
    for packet in packets() {
        let whole = packet.build();
        let mut end = 14 + 4 * packet.vlans.len() + 40;
        let mut known = end;
        for (_, rest) in &packet.extensions {
            known = end + 8;
            end += 1 + rest.len();
        }
        for length in 0..whole.len() {
            let table = director();
            let outcome = table.director.run(whole[..length].to_vec());
            let at = format!("{packet:?} cut to {length}");
            // What the last extension header names is not known before its first eight bytes are there.
            if length < known {
                assert_eq!((outcome.verdict, outcome.counted), (Verdict::Pass, vec![]), "{at}");
            } else {
                assert_eq!(outcome.counted, [Counter::Malformed], "{at}");
            }
            assert_eq!(table.director.live_wide().count(), 0, "{at}");
        }
        let table = director();
        assert_eq!(table.director.run(whole).verdict, Verdict::Transmit, "{packet:?}");
    }
}

#[test]
fn a_cut_reply_of_a_real_server_is_passed() {
    let table = director();
    run(&table, &packet(TCP));
    let whole = Packet6::tcp(MAPPED, CLIENT, SYN | ACK).build();
    for length in 0..whole.len() {
        let outcome = table.director.run(whole[..length].to_vec());
        assert_eq!((outcome.verdict, outcome.counted), (Verdict::Pass, vec![]), "{length}");
    }
    assert_eq!(table.director.run(whole).verdict, Verdict::Transmit);
}

/// Offset in an untagged frame with one extension header, value put there.
#[test]
fn contradictory_headers_to_a_vip_are_dropped_as_malformed() {
    const CASES: &[(&str, usize, &[u8])] = &[
        ("payload of 0 bytes", 18, &[0, 0]),
        ("payload shorter than the extension header", 18, &[0, 7]),
        ("no room for the TCP header", 18, &[0, 27]),
        ("payload longer than the frame", 18, &[0, 29]),
        ("payload of 65535 bytes", 18, &[0xff, 0xff]),
        ("extension header longer than the packet", 55, &[4]),
        ("extension header of 2048 bytes", 55, &[255]),
    ];
    for (name, offset, bytes) in CASES {
        let table = director();
        let extensions = vec![extension(HOP_BY_HOP, 1)];
        let mut frame = Packet6 { extensions, ..packet(TCP) }.build();
        frame[*offset..*offset + bytes.len()].copy_from_slice(bytes);
        let outcome = table.director.run(frame);
        assert_eq!(outcome.counted, [Counter::Malformed], "{name}");
    }
}

#[test]
fn later_fragments_of_unknown_datagrams_are_counted() {
    for (name, header) in [("middle", fragment(100, true)), ("last", fragment(100, false))] {
        for vip in [VIP, DR_VIP] {
            for before in [vec![], vec![extension(HOP_BY_HOP, 1)]] {
                let table = director();
                let extensions = [before, vec![header.clone()]].concat();
                let packet = Packet6 { extensions, ..Packet6::udp(CLIENT, vip) };
                let outcome = run(&table, &packet);
                let wanted = (Verdict::Pass, vec![Counter::Fragment]);
                assert_eq!((outcome.verdict, outcome.counted), wanted, "{name} to {vip}");
            }
        }
    }
}

#[test]
fn a_hop_limit_of_one_ends_here() {
    for method in [Method::Dr, Method::Nat] {
        for hop_limit in [0, 1] {
            let (table, _) = one_server(TCP, method, MAPPED);
            let outcome = run(&table, &Packet6 { hop_limit, ..packet(TCP) });
            let wanted = [Counter::TtlExpired, Counter::IcmpSent];
            assert_eq!(outcome.counted, wanted, "{method:?}, {hop_limit}");
        }
    }
    let (table, _) = one_server(TCP, Method::Nat, MAPPED);
    run(&table, &packet(TCP));
    let reply = Packet6 { hop_limit: 1, ..Packet6::tcp(MAPPED, CLIENT, SYN | ACK) };
    // The director has no address on that side.
    let outcome = run(&table, &reply);
    let wanted = (Verdict::Drop, vec![Counter::TtlExpired, Counter::IcmpWithheld]);
    assert_eq!((outcome.verdict, outcome.counted), wanted);
}

#[test]
fn what_is_not_ours_is_untouched() {
    let icmp = |kind: u8| Packet6 {
        protocol: 58,
        payload: vec![kind, 0, 0, 0, 0, 0, 0, 0],
        hop_limit: 255,
        ..packet(TCP)
    };
    let to = |destination: &str| Packet6::tcp(CLIENT, destination, SYN);
    let cases = [
        ("echo to the VIP", icmp(128)),
        ("a neighbour solicitation to the VIP", icmp(135)),
        ("a packet too big to the VIP", icmp(2)),
        ("DCCP to the VIP", Packet6 { protocol: 33, ..packet(TCP) }),
        ("ESP to the VIP", Packet6 { protocol: 50, ..packet(TCP) }),
        ("no next header", Packet6 { protocol: 59, ..packet(TCP) }),
        ("another address", to("[fd00::200]:80")),
        ("another port", to("[fd00::100]:81")),
        ("an address of the same fold", to("[fd00:0:1:0:1::100]:80")),
        ("multicast", to("[ff02::1]:80")),
        ("a mapped destination", to("[::ffff:10.0.0.100]:80")),
        ("a mapped client", Packet6::tcp("[::ffff:192.0.2.7]:40000", VIP, SYN)),
        ("three VLAN tags", {
            Packet6 { vlans: vec![(0x8100, 1), (0x8100, 2), (0x8100, 3)], ..packet(TCP) }
        }),
        ("a fragment to another address", {
            Packet6 { extensions: vec![fragment(0, true)], ..to("[fd00::200]:80") }
        }),
        ("a cut extension header to another address", {
            Packet6 { protocol: HOP_BY_HOP, payload: vec![6, 9], ..to("[fd00::200]:80") }
        }),
    ];
    for (name, packet) in cases {
        let table = director();
        let outcome = run(&table, &packet);
        assert_eq!((outcome.verdict, outcome.counted), (Verdict::Pass, vec![]), "{name}");
        assert_eq!(table.director.live_wide().count() + table.director.live().count(), 0, "{name}");
    }
    let table = director();
    let mut version = packet(TCP).build();
    version[14] = 0x45;
    assert_eq!(table.director.run(version).verdict, Verdict::Pass);
}

/// Extension headers are read over up to a limit; what lies behind more of them is not TCP or UDP to the director.
#[test]
fn packets_behind_more_extension_headers_than_are_read_are_passed() {
    for (count, verdict) in [(6, Verdict::Transmit), (7, Verdict::Pass)] {
        let extensions = vec![extension(DESTINATION_OPTIONS, 1); count];
        let outcome = run(&director(), &Packet6 { extensions, ..packet(TCP) });
        assert_eq!((outcome.verdict, outcome.counted), (verdict, vec![]), "{count}");
    }
}

/// A number whose place in the filter is that of the VIP's fold.
fn colliding(from: u32) -> std::net::Ipv4Addr {
    let vip: std::net::SocketAddr = VIP.parse().unwrap();
    let place = elvs_common::filter_place(folded(vip.ip()));
    (from..).find(|address| elvs_common::filter_place(address.to_be()) == place).unwrap().into()
}

/// The filter of virtual addresses errs towards yes: an IPv4 address may fall on an IPv6 VIP's place.
#[test]
fn ipv4_services_are_untouched_by_an_ipv6_address_of_the_same_place() {
    for vlans in [vec![], vec![(0x8100, 5)]] {
        let mut table = director();
        let vip = format!("{}:80", colliding(0x0a00_0100));
        for protocol in [TCP, UDP] {
            let id = table.add_service(protocol, &vip, scheduler_id::RR);
            table.add_destination(id, "10.1.0.22:8080", Method::Nat, 1);
            let client = "192.0.2.7:40001";
            let packet = if protocol == TCP {
                Packet::tcp(client, &vip, SYN)
            } else {
                Packet::udp(client, &vip)
            };
            let packet = Packet { vlans: vlans.clone(), ..packet };
            for what in ["new", "known"] {
                let outcome = table.director.run(packet.build());
                assert_eq!(outcome.verdict, Verdict::Transmit, "{what} {:?}", outcome.counted);
                Seen::read(&outcome.frame.bytes);
            }
        }
        assert_eq!((table.director.live().count(), table.director.live_wide().count()), (2, 0));
        let outcome = table.director.run(Packet::tcp("192.0.2.7:40002", &vip, ACK).build());
        assert_eq!((outcome.verdict, outcome.counted), (Verdict::Pass, vec![Counter::NotSyn]));
        let cut = Packet { vlans: vlans.clone(), ..Packet::tcp(CLIENT4, &vip, SYN) }.build();
        let outcome = table.director.run(cut[..cut.len() - 1].to_vec());
        assert_eq!(outcome.counted, [Counter::Malformed]);
    }
}

const CLIENT4: &str = "192.0.2.7:40000";

#[test]
fn ipv4_replies_reach_clients_whose_address_has_the_place_of_an_ipv6_one() {
    for vlans in [vec![], vec![(0x8100, 5)]] {
        let table = director();
        let client = format!("{}:40000", colliding(0x0b00_0000));
        let request = Packet { vlans: vlans.clone(), ..Packet::tcp(&client, "10.0.0.100:80", SYN) };
        assert_eq!(table.director.run(request.build()).verdict, Verdict::Transmit);
        let reply = Packet::tcp("10.1.0.21:8080", &client, SYN | ACK);
        let outcome = table.director.run(Packet { vlans, ..reply }.build());
        assert_eq!(outcome.verdict, Verdict::Transmit, "reply to {client}");
        let seen = Seen::read(&outcome.frame.bytes);
        assert_eq!(seen.source(), "10.0.0.100:80".parse().unwrap());
        // What is no reply goes to the stack, which may be another's way.
        let other = Packet::tcp("10.1.0.99:8080", &client, SYN | ACK);
        assert_eq!(table.director.run(other.build()).verdict, Verdict::Pass);
    }
}

/// The same among IPv6 addresses: a client's fold may be a VIP's.
#[test]
fn replies_reach_clients_whose_address_has_the_fold_of_a_vip() {
    let table = director();
    let client = "[fd00:0:1:0:1::100]:40000";
    assert_eq!(run(&table, &Packet6::tcp(client, VIP, SYN)).verdict, Verdict::Transmit);
    let outcome = run(&table, &Packet6::tcp(MAPPED, client, SYN | ACK));
    assert_eq!(outcome.verdict, Verdict::Transmit);
    let other = run(&table, &Packet6::tcp("[fd01::99]:80", client, SYN | ACK));
    assert_eq!((other.verdict, other.counted), (Verdict::Pass, vec![]));
}

/// A frame that is nearly a packet: a good one with some bytes overwritten and its end cut.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let edits = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    (any::<prop::sample::Index>(), edits, any::<prop::sample::Index>(), any::<bool>()).prop_map(
        |(which, edits, cut, cuts)| {
            let mut choices: Vec<Vec<u8>> = packets().iter().map(Packet6::build).collect();
            choices.push(Packet6::tcp(MAPPED, CLIENT, SYN | ACK).build());
            choices.push(Packet6::udp(MAPPED, CLIENT).build());
            choices.push(Packet::tcp("10.1.0.21:8080", "192.0.2.7:40000", ACK).build());
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

/// Sends frames on a director with connections of every kind; the checks are in `run_frame` and `check_tables`.
fn survives(frames: impl IntoIterator<Item = Vec<u8>>) {
    let table = director();
    for vip in [VIP, DR_VIP] {
        run(&table, &Packet6::tcp(CLIENT, vip, SYN));
        run(&table, &Packet6::udp(CLIENT, vip));
    }
    for bytes in frames {
        let length = bytes.len();
        let outcome = table.director.run_frame(MemoryFrame::new(bytes));
        let answer = outcome.counted.contains(&Counter::IcmpSent);
        assert!(answer || outcome.frame.bytes.len() == length);
        assert!(!outcome.counted.contains(&Counter::Bug), "a packet made tables contradict");
    }
    table.director.check_tables();
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512,
        rng_seed: RngSeed::Fixed(0xbad6),
        ..ProptestConfig::default()
    })]

    #[test]
    fn arbitrary_bytes_behind_an_ethernet_header_never_panic(
        frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 18..160), 1..8),
        tagged in any::<bool>(),
    ) {
        survives(frames.into_iter().map(|mut frame| {
            if tagged {
                frame[12..14].copy_from_slice(&[0x81, 0]);
                frame[16..18].copy_from_slice(&[0x86, 0xdd]);
            } else {
                frame[12..14].copy_from_slice(&[0x86, 0xdd]);
            }
            frame
        }));
    }

    #[test]
    fn nearly_good_packets_never_panic(frames in proptest::collection::vec(nearly(), 1..12)) {
        survives(frames);
    }
}
