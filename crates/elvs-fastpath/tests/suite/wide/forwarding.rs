//! Direct routing, and masquerading both ways, byte for byte.

use elvs_common::{Counter, DestinationFlags, Method, NextHop, TCP, UDP, WideAddress};
use elvs_fastpath::Verdict;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::{CLIENT, MAPPED, SERVER, VIP, one_server, packet, run, sent};
use crate::support::{
    ACK, CLIENT_GATEWAY, DESTINATION_OPTIONS, DIRECTOR_MAC, HOP_BY_HOP, Packet6, ROUTING, SYN,
    Seen6, extension, fragment, server_mac,
};

/// Every shape a packet may have that must not matter.
fn shapes(protocol: u8) -> Vec<Packet6> {
    let plain = packet(protocol);
    let odd = Packet6 { payload: b"odd".to_vec(), ..plain.clone() };
    let with = |extensions: Vec<(u8, Vec<u8>)>| Packet6 { extensions, ..plain.clone() };
    let all = vec![
        extension(HOP_BY_HOP, 1),
        extension(DESTINATION_OPTIONS, 3),
        extension(ROUTING, 3),
        fragment(0, false),
        extension(DESTINATION_OPTIONS, 2),
    ];
    vec![
        Packet6 { vlans: vec![(0x8100, 0x2005)], ..plain.clone() },
        Packet6 { vlans: vec![(0x88a8, 7), (0x8100, 0x6006)], ..plain.clone() },
        Packet6 { vlans: vec![(0x8100, 7), (0x8100, 8)], ..plain.clone() },
        Packet6 { padding: 18, ..plain.clone() },
        Packet6 { padding: 1, ..odd.clone() },
        Packet6 { flow: 0x0bb_12345, hop_limit: 2, ..plain.clone() },
        Packet6 { hop_limit: 255, ..plain.clone() },
        Packet6 { payload: vec![0xff; 1_400], ..plain.clone() },
        with(vec![extension(HOP_BY_HOP, 1)]),
        with(vec![extension(HOP_BY_HOP, 32)]),
        with(vec![extension(DESTINATION_OPTIONS, 2)]),
        with(vec![extension(ROUTING, 3)]),
        // RFC 6946: an atomic fragment is a whole packet.
        with(vec![fragment(0, false)]),
        with(all.clone()),
        Packet6 { vlans: vec![(0x88a8, 7), (0x8100, 8)], padding: 2, ..with(all) },
        odd,
        plain,
    ]
}

/// A frame as it should be after the director.
fn wanted(packet: &Packet6, destination_mac: [u8; 6]) -> Seen6 {
    let aged = Packet6 { hop_limit: packet.hop_limit - 1, ..packet.clone() };
    Seen6 { destination_mac, source_mac: DIRECTOR_MAC, ..Seen6::read(&aged.build()) }
}

#[test]
fn dr_changes_the_mac_addresses_and_the_hop_limit_only() {
    for protocol in [TCP, UDP] {
        for packet in shapes(protocol) {
            let (table, _) = one_server(protocol, Method::Dr, SERVER);
            for what in ["new", "known"] {
                let seen = sent(&table, &packet);
                assert_eq!(seen, wanted(&packet, server_mac(0)), "{what}: {packet:?}");
            }
            assert_eq!(table.director.live_wide().count(), 1, "{packet:?}");
            assert_eq!(table.director.live().count(), 0, "{packet:?}");
        }
    }
}

#[test]
fn nat_rewrites_the_request_for_the_real_server_and_its_port() {
    for protocol in [TCP, UDP] {
        for packet in shapes(protocol) {
            let (table, _) = one_server(protocol, Method::Nat, MAPPED);
            for what in ["new", "known"] {
                let seen = sent(&table, &packet);
                let rewritten = Packet6 { destination: MAPPED.parse().unwrap(), ..packet.clone() };
                assert_eq!(seen, wanted(&rewritten, server_mac(0)), "{what}: {packet:?}");
            }
        }
    }
}

#[test]
fn nat_rewrites_the_reply_as_coming_from_the_service() {
    for protocol in [TCP, UDP] {
        let flags = if protocol == TCP { SYN | ACK } else { 0 };
        for shape in shapes(protocol) {
            let (table, _) = one_server(protocol, Method::Nat, MAPPED);
            sent(&table, &packet(protocol));
            let (source, destination) = (MAPPED.parse().unwrap(), CLIENT.parse().unwrap());
            let reply = Packet6 { source, destination, flags, ..shape };
            let seen = sent(&table, &reply);
            let rewritten = Packet6 { source: VIP.parse().unwrap(), ..reply.clone() };
            // The way back is the way that the client's first packet came.
            assert_eq!(seen, wanted(&rewritten, CLIENT_GATEWAY), "{reply:?}");
            let stats = table.director.stats(0);
            assert_eq!((stats.connections, stats.in_packets, stats.out_packets), (1, 1, 1));
            assert_eq!(stats.out_bytes, reply.ip_packet().len() as u64);
        }
    }
}

/// Every value of the checksum: the payload's first word is chosen so that the sum takes each of them.
#[test]
fn nat_keeps_checksums_right_for_every_value_of_the_sum() {
    for protocol in [TCP, UDP] {
        let (table, _) = one_server(protocol, Method::Nat, MAPPED);
        for word in 0..=u16::MAX {
            let payload = word.to_be_bytes().to_vec();
            let seen = sent(&table, &Packet6 { payload, ..packet(protocol) });
            assert_eq!(seen.destination(), MAPPED.parse().unwrap());
            if protocol == UDP {
                assert_ne!(seen.body[6..8], [0, 0], "RFC 8200 section 8.1: 0 is not allowed");
            }
        }
    }
}

#[test]
fn nat_passes_packets_of_its_real_server_that_are_no_replies() {
    let (table, _) = one_server(TCP, Method::Nat, MAPPED);
    sent(&table, &packet(TCP));
    let reply = Packet6::tcp(MAPPED, CLIENT, ACK);
    let others = [
        Packet6 { destination: "[2001:db8::7]:40001".parse().unwrap(), ..reply.clone() },
        Packet6 { destination: "[2001:db8::8]:40000".parse().unwrap(), ..reply.clone() },
        // The same folds.
        Packet6 { destination: "[2001:db8:1:0:1::7]:40000".parse().unwrap(), ..reply.clone() },
        Packet6 { source: "[fd01:0:1:0:1::22]:8080".parse().unwrap(), ..reply.clone() },
        Packet6 { source: "[fd01::22]:22".parse().unwrap(), ..reply.clone() },
        Packet6 { source: "[fd01::23]:8080".parse().unwrap(), ..reply.clone() },
        Packet6 { protocol: UDP, ..reply.clone() },
        Packet6 { protocol: 58, payload: vec![128, 0, 0, 0, 0, 1, 0, 1], ..reply.clone() },
        Packet6 { extensions: vec![fragment(1, true)], ..reply.clone() },
    ];
    for packet in others {
        let outcome = run(&table, &packet);
        assert_eq!((outcome.verdict, outcome.counted), (Verdict::Pass, vec![]), "{packet:?}");
    }
    assert_eq!(sent(&table, &reply).source(), VIP.parse().unwrap());
}

#[test]
fn nat_connections_survive_a_change_of_their_destinations_method() {
    let (mut table, _) = one_server(TCP, Method::Nat, MAPPED);
    sent(&table, &packet(TCP));
    table.director.destinations[0].method = Method::Dr as u32;
    let request = sent(&table, &Packet6::tcp(CLIENT, VIP, ACK));
    assert_eq!(request.destination(), MAPPED.parse().unwrap());
    let reply = sent(&table, &Packet6::tcp(MAPPED, CLIENT, SYN | ACK));
    assert_eq!(reply.source(), VIP.parse().unwrap());
}

#[test]
fn dr_passes_what_its_real_server_sends() {
    let (table, _) = one_server(TCP, Method::Dr, SERVER);
    sent(&table, &packet(TCP));
    let outcome = run(&table, &Packet6::tcp(SERVER, CLIENT, SYN | ACK));
    assert_eq!((outcome.verdict, outcome.counted), (Verdict::Pass, vec![]));
}

#[test]
fn frames_leave_by_the_interface_of_the_next_hop_that_is_selected() {
    for method in [Method::Dr, Method::Nat] {
        let (mut table, _) = one_server(TCP, method, MAPPED);
        table.director.destinations[0].next_hop[1] = NextHop::new([8; 6], [10; 6], 9);
        table.director.destinations[0].selector = 1;
        let outcome = run(&table, &packet(TCP));
        assert_eq!(outcome.verdict, Verdict::Redirect(9), "{method:?}");
        let seen = Seen6::read(&outcome.frame.bytes);
        assert_eq!((seen.destination_mac, seen.source_mac), ([8; 6], [10; 6]));
    }
}

#[test]
fn an_unresolved_next_hop_falls_back_to_the_kernels_routes() {
    let (mut table, _) = one_server(TCP, Method::Dr, SERVER);
    table.director.destinations[0].next_hop[0] = NextHop::default();
    let outcome = run(&table, &packet(TCP));
    assert_eq!(outcome.counted, [Counter::NoNextHop, Counter::FibFallback]);
    let address: std::net::Ipv6Addr = "fd01::22".parse().unwrap();
    let hop = NextHop::new([8; 6], [10; 6], 4);
    table.director.routes.insert(WideAddress::of_bytes(address.octets()), hop);
    let outcome = run(&table, &packet(TCP));
    assert_eq!(outcome.verdict, Verdict::Redirect(4));
    assert_eq!(outcome.counted, [Counter::FibFallback]);
    assert_eq!(Seen6::read(&outcome.frame.bytes).destination_mac, [8; 6]);
}

#[test]
fn a_nat_reply_without_a_way_to_its_client_is_dropped() {
    let (table, _) = one_server(TCP, Method::Nat, MAPPED);
    sent(&table, &packet(TCP));
    table.director.clients.lock().unwrap().clear();
    let outcome = run(&table, &Packet6::tcp(MAPPED, CLIENT, SYN | ACK));
    assert_eq!((outcome.verdict, outcome.counted), (Verdict::Drop, vec![Counter::NoNextHop]));
}

#[test]
fn a_local_destination_is_left_to_the_hosts_stack() {
    for (method, protocol) in [(Method::Dr, TCP), (Method::Nat, TCP), (Method::Nat, UDP)] {
        let (mut table, _) = one_server(protocol, method, MAPPED);
        table.director.destinations[0].flags |= DestinationFlags::LOCAL;
        for hop_limit in [64, 1] {
            let packet = Packet6 { hop_limit, ..packet(protocol) };
            let outcome = run(&table, &packet);
            assert_eq!((outcome.verdict, outcome.counted), (Verdict::Pass, vec![]), "{method:?}");
            let (active, inactive) = table.director.load_of(0);
            assert_eq!(active + inactive, 1, "{method:?}: the connection is kept");
            // Nobody forwards it: the MAC addresses and the hop limit stay.
            let to = if method == Method::Nat { MAPPED } else { VIP };
            let wanted =
                Seen6::read(&Packet6 { destination: to.parse().unwrap(), ..packet }.build());
            assert_eq!(Seen6::read(&outcome.frame.bytes), wanted, "{method:?}");
        }
    }
}

/// A real server on all ports gets the client's port (ipvsadm -r without one).
#[test]
fn nat_to_all_ports_keeps_the_virtual_port() {
    let (mut table, _) = one_server(TCP, Method::Nat, MAPPED);
    table.director.destinations[0].port = 0;
    let request = sent(&table, &packet(TCP));
    assert_eq!(request.destination(), SERVER.parse().unwrap());
    let reply = sent(&table, &Packet6::tcp(SERVER, CLIENT, SYN | ACK));
    assert_eq!(reply.source(), VIP.parse().unwrap());
}

fn extensions() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let one = prop_oneof![
        (1_u8..20).prop_map(|units| extension(HOP_BY_HOP, units)),
        (1_u8..20).prop_map(|units| extension(DESTINATION_OPTIONS, units)),
        Just(extension(ROUTING, 3)),
        Just(fragment(0, false)),
    ];
    proptest::collection::vec(one, 0..=6)
}

prop_compose! {
    /// A packet of any content from any client to the service.
    fn any_packet()(
        address in any::<[u8; 16]>(), port in 1_u16.., udp in any::<bool>(),
        payload in proptest::collection::vec(any::<u8>(), 0..100),
        (flow, hop_limit) in (0_u32..1 << 28, 2_u8..), extensions in extensions(),
        tags in 0_usize..3, padding in 0_usize..4,
    ) -> Packet6 {
        let source = std::net::SocketAddrV6::new(address.into(), port, 0, 0);
        let packet = if udp { Packet6::udp(CLIENT, VIP) } else { Packet6::tcp(CLIENT, VIP, SYN) };
        let vlans = [&[][..], &[(0x8100, 1)], &[(0x88a8, 2), (0x8100, 3)]][tags].to_vec();
        Packet6 { source, payload, flow, hop_limit, extensions, vlans, padding, ..packet }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1_024,
        rng_seed: RngSeed::Fixed(0x6),
        ..ProptestConfig::default()
    })]

    /// What is not to change comes out as it went in, and every checksum equals one computed anew.
    #[test]
    fn any_packet_is_rewritten_where_it_should_be_and_nowhere_else(
        request in any_packet(), answer in any_packet(), nat in any::<bool>(),
    ) {
        prop_assume!(request.source.ip().to_ipv4_mapped().is_none());
        // FTP's data port is never scheduled.
        prop_assume!(request.source.port() != 20);
        let (method, server) = if nat { (Method::Nat, MAPPED) } else { (Method::Dr, SERVER) };
        let (table, _) = one_server(request.protocol, method, server);
        let destination = if nat { server } else { VIP }.parse().unwrap();
        let rewritten = Packet6 { destination, ..request.clone() };
        for _ in ["new", "known"] {
            prop_assert_eq!(sent(&table, &request), wanted(&rewritten, server_mac(0)));
        }
        let protocol = request.protocol;
        let reply = Packet6 {
            source: server.parse().unwrap(), destination: request.source, protocol,
            flags: SYN | ACK, ..answer
        };
        if nat {
            let rewritten = Packet6 { source: VIP.parse().unwrap(), ..reply.clone() };
            prop_assert_eq!(sent(&table, &reply), wanted(&rewritten, CLIENT_GATEWAY));
        } else {
            prop_assert_eq!(run(&table, &reply).verdict, Verdict::Pass);
        }
        table.director.check_tables();
    }
}
