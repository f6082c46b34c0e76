//! What leaves the director: direct routing, masquerading both ways, tunnelling.

use elvs_common::{
    Counter, DestinationFlags, Method, NextHop, TCP, UDP, WideAddress, scheduler_id,
};
use elvs_fastpath::Verdict;

use crate::support::{
    ACK, CLIENT_GATEWAY, DIRECTOR_MAC, MemoryFrame, NIC, Packet, SYN, Seen, ServiceId, Table, ip,
    server_mac,
};

const CLIENT: &str = "10.0.0.1:46001";
const VIP: &str = "10.0.0.100:80";
const SERVER: &str = "10.0.0.22:80";
/// A real server whose port is another one than the service's.
const MAPPED: &str = "10.1.0.22:8080";

/// A service with one real server.
fn one_server(protocol: u8, method: Method, server: &str) -> (Table, ServiceId) {
    let mut table = Table::new(64);
    let service = table.add_service(protocol, VIP, scheduler_id::RR);
    table.add_destination(service, server, method, 1);
    (table, service)
}

fn packet(protocol: u8) -> Packet {
    if protocol == TCP { Packet::tcp(CLIENT, VIP, SYN) } else { Packet::udp(CLIENT, VIP) }
}

/// Every shape a packet may have that must not matter.
fn shapes(protocol: u8) -> Vec<Packet> {
    let plain = packet(protocol);
    let odd = Packet { payload: b"odd".to_vec(), ..plain.clone() };
    vec![
        Packet { vlans: vec![(0x8100, 0x2005)], ..plain.clone() },
        Packet { vlans: vec![(0x88a8, 7), (0x8100, 0x6006)], ..plain.clone() },
        Packet { vlans: vec![(0x8100, 7), (0x8100, 8)], ..plain.clone() },
        Packet { options: vec![1; 4], ..plain.clone() },
        Packet { options: vec![1; 40], vlans: vec![(0x8100, 7)], ..plain.clone() },
        Packet { padding: 18, ..plain.clone() },
        Packet { padding: 1, ..odd.clone() },
        Packet { tos: 0xb8, id: 0xffff, fragment: 0, ttl: 2, ..plain.clone() },
        Packet { ttl: 255, ..plain.clone() },
        Packet { payload: vec![0xff; 1_400], ..plain.clone() },
        odd,
        plain,
    ]
}

/// Sends a packet through and reads what comes out.
fn sent(table: &Table, packet: &Packet) -> Seen {
    let outcome = table.director.run(packet.build());
    assert_eq!(outcome.verdict, Verdict::Transmit, "{packet:?}");
    let seen = Seen::read(&outcome.frame.bytes);
    assert_eq!((seen.destination_mac, seen.source_mac), (server_mac(0), DIRECTOR_MAC));
    seen
}

#[test]
fn dr_changes_the_mac_addresses_and_the_time_to_live_only() {
    for protocol in [TCP, UDP] {
        for packet in shapes(protocol) {
            let (table, _) = one_server(protocol, Method::Dr, SERVER);
            let seen = sent(&table, &packet);
            let mut wanted = Seen::read(&Packet { ttl: packet.ttl - 1, ..packet.clone() }.build());
            wanted.destination_mac = server_mac(0);
            wanted.source_mac = DIRECTOR_MAC;
            assert_eq!(seen, wanted, "{packet:?}");
        }
    }
}

#[test]
fn nat_rewrites_the_request_for_the_real_server_and_its_port() {
    for protocol in [TCP, UDP] {
        for packet in shapes(protocol) {
            let (table, _) = one_server(protocol, Method::Nat, MAPPED);
            let seen = sent(&table, &packet);
            let destination = MAPPED.parse().unwrap();
            let wanted = Packet { ttl: packet.ttl - 1, destination, ..packet.clone() };
            let mut wanted = Seen::read(&wanted.build());
            wanted.destination_mac = server_mac(0);
            wanted.source_mac = DIRECTOR_MAC;
            assert_eq!(seen, wanted, "{packet:?}");
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
            let reply = Packet { source, destination, flags, ..shape };
            let outcome = table.director.run(reply.build());
            assert_eq!(outcome.verdict, Verdict::Transmit, "{reply:?}");
            let source = VIP.parse().unwrap();
            let wanted = Packet { source, ttl: reply.ttl - 1, ..reply.clone() };
            let mut wanted = Seen::read(&wanted.build());
            // The way back is the way that the client's first packet came.
            wanted.destination_mac = CLIENT_GATEWAY;
            wanted.source_mac = DIRECTOR_MAC;
            assert_eq!(Seen::read(&outcome.frame.bytes), wanted, "{reply:?}");
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
            let packet = Packet { payload, ..packet(protocol) };
            let seen = sent(&table, &packet);
            assert_eq!(seen.destination(), MAPPED.parse().unwrap());
            if protocol == UDP {
                assert_ne!(seen.body[6..8], [0, 0], "RFC 768: 0 would mean no checksum");
            }
        }
    }
}

#[test]
fn rfc768_nat_leaves_an_absent_udp_checksum_absent() {
    let (table, _) = one_server(UDP, Method::Nat, MAPPED);
    let seen = sent(&table, &Packet { udp_checksum: false, ..packet(UDP) });
    assert_eq!(seen.body[6..8], [0, 0]);
    let reply = Packet { udp_checksum: false, ..Packet::udp(MAPPED, CLIENT) };
    let outcome = table.director.run(reply.build());
    let seen = Seen::read(&outcome.frame.bytes);
    assert_eq!((seen.source(), &seen.body[6..8]), (VIP.parse().unwrap(), &[0, 0][..]));
}

#[test]
fn nat_passes_packets_of_its_real_server_that_are_no_replies() {
    let (table, _) = one_server(TCP, Method::Nat, MAPPED);
    sent(&table, &packet(TCP));
    let reply = Packet::tcp(MAPPED, CLIENT, ACK);
    let others = [
        Packet { destination: "10.0.0.1:46002".parse().unwrap(), ..reply.clone() },
        Packet { destination: "10.0.0.2:46001".parse().unwrap(), ..reply.clone() },
        Packet { source: "10.1.0.22:22".parse().unwrap(), ..reply.clone() },
        Packet { source: "10.1.0.23:8080".parse().unwrap(), ..reply.clone() },
        Packet { protocol: UDP, ..reply.clone() },
        Packet { protocol: 1, ..reply.clone() },
    ];
    for packet in others {
        let outcome = table.director.run(packet.build());
        assert_eq!((outcome.verdict, outcome.counted), (Verdict::Pass, vec![]), "{packet:?}");
    }
    assert_eq!(table.director.run(reply.build()).verdict, Verdict::Transmit);
}

/// One client port may have a connection to each of two services, and one real server may be behind both.
#[test]
fn nat_replies_are_told_from_a_dr_connection_to_the_same_server() {
    let mut table = Table::new(64);
    for (vip, method) in [("10.0.0.101:8080", Method::Dr), (VIP, Method::Nat)] {
        let id = table.add_service(TCP, vip, scheduler_id::RR);
        table.add_destination(id, MAPPED, method, 1);
        let outcome = table.director.run(Packet::tcp(CLIENT, vip, SYN).build());
        assert_eq!(outcome.verdict, Verdict::Transmit);
    }
    let outcome = table.director.run(Packet::tcp(MAPPED, CLIENT, SYN | ACK).build());
    assert_eq!(outcome.verdict, Verdict::Transmit);
    assert_eq!(Seen::read(&outcome.frame.bytes).source(), VIP.parse().unwrap());
}

/// `ipvsadm -e` may change a destination's forwarding method; IPVS's connections keep the one they began with.
#[test]
fn nat_connections_survive_a_change_of_their_destinations_method() {
    let (mut table, _) = one_server(TCP, Method::Nat, MAPPED);
    sent(&table, &packet(TCP));
    table.director.destinations[0].method = Method::Dr as u32;
    let request = sent(&table, &Packet::tcp(CLIENT, VIP, ACK));
    assert_eq!(request.destination(), MAPPED.parse().unwrap());
    let outcome = table.director.run(Packet::tcp(MAPPED, CLIENT, SYN | ACK).build());
    assert_eq!(outcome.verdict, Verdict::Transmit);
    assert_eq!(Seen::read(&outcome.frame.bytes).source(), VIP.parse().unwrap());
}

#[test]
fn dr_passes_what_its_real_server_sends() {
    let (table, _) = one_server(TCP, Method::Dr, SERVER);
    sent(&table, &packet(TCP));
    let outcome = table.director.run(Packet::tcp(SERVER, CLIENT, SYN | ACK).build());
    assert_eq!((outcome.verdict, outcome.counted), (Verdict::Pass, vec![]));
}

#[test]
fn tun_sends_the_outer_header_that_ipvs_was_recorded_with() {
    let (table, _) = one_server(TCP, Method::Tun, SERVER);
    // The SYN of the recording: 60 bytes, time to live 64 before the director, id 11877.
    let syn = Packet { id: 11_877, payload: vec![0; 20], ..packet(TCP) };
    let seen = sent(&table, &syn);
    let wanted = [
        0x45, 0x00, 0x00, 0x50, // tos 0x0, length 80
        0x00, 0x00, 0x40, 0x00, // id 0, flags [DF], offset 0
        0x3f, 0x04, 0x27, 0x8b, // ttl 63, proto IPIP (4)
        10, 0, 0, 10, // 10.0.0.10 > 10.0.0.22
        10, 0, 0, 22,
    ];
    assert_eq!(seen.header, wanted);
    let inner = seen.inner();
    assert_eq!(inner.header, Seen::read(&Packet { ttl: 63, ..syn.clone() }.build()).header);
    assert_eq!(inner.body, Seen::read(&syn.build()).body);
}

#[test]
fn tun_wraps_packets_of_every_shape() {
    for protocol in [TCP, UDP] {
        for packet in shapes(protocol) {
            let (table, _) = one_server(protocol, Method::Tun, SERVER);
            let seen = sent(&table, &packet);
            let inner = Seen::read(&Packet { ttl: packet.ttl - 1, ..packet.clone() }.build());
            assert_eq!(seen.tags, inner.tags, "{packet:?}");
            assert_eq!(seen.padding, inner.padding, "{packet:?}");
            assert_eq!(seen.ttl(), packet.ttl - 1, "{packet:?}");
            assert_eq!(seen.header[1], packet.tos, "{packet:?}");
            let wrapped = seen.inner();
            assert_eq!((wrapped.header, wrapped.body), (inner.header, inner.body), "{packet:?}");
        }
    }
}

/// Type of service and fragment bits inside, the same outside.
#[test]
fn tun_copies_type_of_service_and_dont_fragment() {
    const CASES: &[(&str, u8, u16, u8, [u8; 4])] = &[
        ("DF: no identification needed", 0, 0x4000, 0, [0, 0, 0x40, 0]),
        ("no DF: the inner identification", 0, 0, 0, [0x12, 0x34, 0, 0]),
        ("DSCP", 0xb8, 0x4000, 0xb8, [0, 0, 0x40, 0]),
        ("ECT(1)", 0x01, 0x4000, 0x01, [0, 0, 0x40, 0]),
        ("ECT(0)", 0x02, 0x4000, 0x02, [0, 0, 0x40, 0]),
        ("RFC 3168: CE becomes ECT(0)", 0xbb, 0x4000, 0xba, [0, 0, 0x40, 0]),
        ("the reserved bit stays inside", 0, 0xc000, 0, [0, 0, 0x40, 0]),
    ];
    for (name, tos, fragment, outer_tos, id_and_fragment) in CASES {
        let (table, _) = one_server(TCP, Method::Tun, SERVER);
        let outcome =
            table.director.run(Packet { tos: *tos, fragment: *fragment, ..packet(TCP) }.build());
        let seen = Seen::read(&outcome.frame.bytes);
        assert_eq!(seen.header[1], *outer_tos, "{name}");
        assert_eq!(seen.header[4..8], *id_and_fragment, "{name}");
        assert_eq!(seen.inner().header[1], *tos, "{name}");
    }
}

#[test]
fn tun_refuses_what_would_not_fit_the_way_to_the_real_server() {
    let (mut table, _) = one_server(UDP, Method::Tun, SERVER);
    let of_length = |length: usize| Packet { payload: vec![0; length - 28], ..packet(UDP) };
    assert_eq!(sent(&table, &of_length(1_480)).header[2..4], 1_500_u16.to_be_bytes());
    let outcome = table.director.run(of_length(1_481).build());
    assert_eq!(outcome.counted, [Counter::TunnelTooBig, Counter::IcmpSent]);
    table.director.destinations[0].mtu = 0;
    sent(&table, &of_length(9_000));
}

#[test]
fn tun_drops_when_there_is_no_room_in_front() {
    let (table, _) = one_server(TCP, Method::Tun, SERVER);
    for (headroom, verdict) in [(19, Verdict::Drop), (20, Verdict::Transmit)] {
        let frame = MemoryFrame { headroom, ..MemoryFrame::new(packet(TCP).build()) };
        let outcome = table.director.run_frame(frame);
        assert_eq!(outcome.verdict, verdict, "{headroom} bytes");
        let dropped = outcome.counted.contains(&Counter::NoHeadroom);
        assert_eq!(dropped, verdict == Verdict::Drop);
    }
}

#[test]
fn a_time_to_live_of_one_ends_here() {
    for method in [Method::Dr, Method::Nat, Method::Tun] {
        for ttl in [0, 1] {
            let (table, _) = one_server(TCP, method, MAPPED);
            let outcome = table.director.run(Packet { ttl, ..packet(TCP) }.build());
            let wanted = [Counter::TtlExpired, Counter::IcmpSent];
            assert_eq!(outcome.counted, wanted, "{method:?}, ttl {ttl}");
        }
    }
    let (table, _) = one_server(TCP, Method::Nat, MAPPED);
    sent(&table, &packet(TCP));
    let reply = Packet { ttl: 1, ..Packet::tcp(MAPPED, CLIENT, SYN | ACK) };
    let wanted = [Counter::TtlExpired, Counter::IcmpSent];
    assert_eq!(table.director.run(reply.build()).counted, wanted);
}

#[test]
fn frames_leave_by_the_interface_of_the_next_hop() {
    for method in [Method::Dr, Method::Nat, Method::Tun] {
        let (mut table, _) = one_server(TCP, method, MAPPED);
        table.director.destinations[0].next_hop[0].ifindex = 9;
        let outcome = table.director.run(packet(TCP).build());
        assert_eq!(outcome.verdict, Verdict::Redirect(9), "{method:?}");
    }
}

#[test]
fn the_selector_says_which_next_hop_is_in_use() {
    let (mut table, _) = one_server(TCP, Method::Dr, SERVER);
    let other = NextHop::new([8; 6], [10; 6], NIC);
    table.director.destinations[0].next_hop[1] = other;
    table.director.destinations[0].selector = 1;
    let outcome = table.director.run(packet(TCP).build());
    let seen = Seen::read(&outcome.frame.bytes);
    assert_eq!((seen.destination_mac, seen.source_mac), ([8; 6], [10; 6]));
}

#[test]
fn an_unresolved_next_hop_falls_back_to_the_kernels_routes() {
    let (mut table, _) = one_server(TCP, Method::Dr, SERVER);
    table.director.destinations[0].next_hop[0] = NextHop::default();
    let outcome = table.director.run(packet(TCP).build());
    assert_eq!(outcome.verdict, Verdict::Drop);
    assert_eq!(outcome.counted, [Counter::NoNextHop, Counter::FibFallback]);
    let hop = NextHop::new([8; 6], [10; 6], 4);
    table.director.routes.insert(WideAddress::of_v4(ip("10.0.0.22")), hop);
    let outcome = table.director.run(packet(TCP).build());
    assert_eq!(outcome.verdict, Verdict::Redirect(4));
    assert_eq!(outcome.counted, [Counter::FibFallback]);
    assert_eq!(Seen::read(&outcome.frame.bytes).destination_mac, [8; 6]);
}

#[test]
fn a_nat_reply_without_a_way_to_its_client_is_dropped() {
    let (table, _) = one_server(TCP, Method::Nat, MAPPED);
    sent(&table, &packet(TCP));
    table.director.clients.lock().unwrap().clear();
    let outcome = table.director.run(Packet::tcp(MAPPED, CLIENT, SYN | ACK).build());
    assert_eq!((outcome.verdict, outcome.counted), (Verdict::Drop, vec![Counter::NoNextHop]));
}

#[test]
fn a_local_destination_is_left_to_the_hosts_stack() {
    for method in [Method::Dr, Method::Nat, Method::Tun] {
        let (mut table, _) = one_server(TCP, method, MAPPED);
        table.director.destinations[0].flags |= DestinationFlags::LOCAL;
        let outcome = table.director.run(packet(TCP).build());
        assert_eq!((outcome.verdict, outcome.counted), (Verdict::Pass, vec![]), "{method:?}");
        assert_eq!(table.director.load_of(0), (1, 0), "{method:?}: the connection is kept");
        let seen = Seen::read(&outcome.frame.bytes);
        let expected = if method == Method::Nat { MAPPED } else { VIP };
        assert_eq!(seen.destination(), expected.parse().unwrap(), "{method:?}");
    }
}

/// The filter of virtual addresses errs towards yes: a client whose address falls on a VIP's bit is no VIP.
#[test]
fn nat_replies_reach_clients_whose_address_collides_with_a_vip_in_the_filter() {
    let (table, _) = one_server(TCP, Method::Nat, MAPPED);
    let bit = elvs_common::filter_place(ip("10.0.0.100"));
    let collides = (0x0b00_0000_u32..)
        .find(|address| elvs_common::filter_place(address.to_be()) == bit)
        .map(std::net::Ipv4Addr::from)
        .unwrap();
    let client = format!("{collides}:46001");
    sent(&table, &Packet::tcp(&client, VIP, SYN));
    let outcome = table.director.run(Packet::tcp(MAPPED, &client, SYN | ACK).build());
    assert_eq!(outcome.verdict, Verdict::Transmit, "reply to {client}");
    assert_eq!(Seen::read(&outcome.frame.bytes).source(), VIP.parse().unwrap());
}
