//! ICMP errors: about known connections, forwarded; about packets that are refused, sent.

use elvs_common::{
    Counter, DestinationFlags, Method, NextHop, TCP, UDP, WideAddress, scheduler_id,
};
use elvs_fastpath::Verdict;

use crate::support::{
    ACK, CLIENT_GATEWAY, DIRECTOR_ADDRESS, DIRECTOR_MAC, MemoryFrame, NIC, Outcome, Packet, SYN,
    Seen, ServiceId, Table, ip, server_mac,
};

const CLIENT: &str = "192.0.2.1:46001";
const VIP: &str = "10.0.0.100:80";
/// A real server whose port is another one than the service's.
const SERVER: &str = "10.1.0.22:8080";
/// A router on the client's side.
const ROUTER: &str = "203.0.113.1";
/// A router on the real server's side.
const INNER_ROUTER: &str = "10.2.0.1";
const METHODS: [Method; 3] = [Method::Dr, Method::Nat, Method::Tun];
/// What IPVS forwards: type, code, rest of the header.
const ERRORS: [(u8, u8, u32); 5] = [(3, 1, 0), (3, 3, 0), (3, 4, 1_400), (4, 0, 0), (11, 0, 0)];

fn address(socket: &str) -> &str {
    socket.split(':').next().unwrap()
}

fn request(protocol: u8) -> Packet {
    if protocol == TCP { Packet::tcp(CLIENT, VIP, SYN) } else { Packet::udp(CLIENT, VIP) }
}

/// A packet of the service, or of its real server, to the client.
fn reply(protocol: u8, from: &str) -> Packet {
    let payload = vec![7; 60];
    let packet =
        if protocol == TCP { Packet::tcp(from, CLIENT, ACK) } else { Packet::udp(from, CLIENT) };
    Packet { payload, ..packet }
}

/// A service with one real server and one connection.
fn connected(protocol: u8, method: Method) -> (Table, ServiceId) {
    let mut table = Table::new(64);
    let service = table.add_service(protocol, VIP, scheduler_id::RR);
    table.add_destination(service, SERVER, method, 1);
    let outcome = table.director.run(request(protocol).build());
    assert_eq!(outcome.verdict, Verdict::Transmit);
    (table, service)
}

/// Quotes of a packet of `whole` bytes with a header of `header` bytes: the least there is, some more, all.
fn quotes(header: usize, whole: usize) -> [usize; 4] {
    [header + 4, header + 8, header + 19, whole]
}

/// Shapes of the error that must not matter.
fn shapes(error: &Packet) -> Vec<Packet> {
    vec![
        error.clone(),
        Packet { vlans: vec![(0x8100, 5)], ..error.clone() },
        Packet { vlans: vec![(0x88a8, 7), (0x8100, 8)], ..error.clone() },
        Packet { options: vec![1; 8], ..error.clone() },
        Packet { padding: 9, tos: 0xc0, ttl: 2, ..error.clone() },
    ]
}

/// The quoted packet after a change of one end: header and ports are the new packet's, the rest stays as it was quoted.
fn changed_quote(old: &Packet, new: &Packet, length: usize) -> Vec<u8> {
    let (old_bytes, new_bytes) = (old.ip_packet(), new.ip_packet());
    let ports_end = 20 + old.options.len() + 4;
    [&new_bytes[..ports_end], &old_bytes[ports_end..]].concat()[..length].to_vec()
}

fn pass(outcome: &Outcome, what: &str) {
    assert_eq!((outcome.verdict, &outcome.counted[..]), (Verdict::Pass, &[][..]), "{what}");
}

#[test]
fn errors_about_what_the_client_was_sent_reach_its_real_server() {
    for protocol in [TCP, UDP] {
        for method in METHODS {
            let (table, _) = connected(protocol, method);
            let quoted = reply(protocol, VIP).ip_packet();
            for (kind, code, rest) in ERRORS {
                for length in quotes(20, quoted.len()) {
                    let quote = &quoted[..length];
                    let error = Packet::icmp(ROUTER, address(VIP), kind, code, rest, quote);
                    for error in shapes(&error) {
                        let outcome = table.director.run(error.build());
                        assert_eq!(outcome.verdict, Verdict::Transmit, "{method:?} {error:?}");
                        assert_eq!(outcome.counted, [Counter::IcmpForwarded]);
                        let seen = Seen::read(&outcome.frame.bytes);
                        assert_eq!(seen.destination_mac, server_mac(0));
                        let error = Packet { ttl: error.ttl - 1, ..error };
                        match method {
                            Method::Nat => assert_eq!(seen.body, nat(protocol, &error, length)),
                            Method::Tun => {
                                assert_eq!(seen.destination().ip().to_string(), address(SERVER));
                                let inner = seen.inner();
                                let wanted = Seen::read(&error.build());
                                assert_eq!(
                                    (inner.header, inner.body),
                                    (wanted.header, wanted.body)
                                );
                            }
                            Method::Dr | Method::FullNat => {
                                let wanted = Seen::read(&error.build());
                                assert_eq!((seen.header, seen.body), (wanted.header, wanted.body));
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Body of an error about a reply of the service as its masqueraded real server gets it.
fn nat(protocol: u8, error: &Packet, length: usize) -> Vec<u8> {
    let quote = changed_quote(&reply(protocol, VIP), &reply(protocol, SERVER), length);
    let rest = u32::from_be_bytes(error.payload[4..8].try_into().unwrap());
    let (kind, code) = (error.payload[0], error.payload[1]);
    Packet::icmp(ROUTER, address(SERVER), kind, code, rest, &quote).payload
}

#[test]
fn nat_sends_an_error_to_the_real_servers_address() {
    let (table, _) = connected(TCP, Method::Nat);
    let quoted = reply(TCP, VIP).ip_packet();
    let error = Packet::icmp(ROUTER, address(VIP), 3, 4, 1_400, &quoted[..28]);
    let seen = Seen::read(&table.director.run(error.build()).frame.bytes);
    assert_eq!(seen.source().ip().to_string(), ROUTER);
    assert_eq!(seen.destination().ip().to_string(), address(SERVER));
    assert_eq!((seen.ttl(), table.director.stats(0).in_packets), (63, 2));
}

#[test]
fn a_quoted_header_with_options_is_understood() {
    let (table, _) = connected(UDP, Method::Nat);
    let with_options = |from: &str| Packet { options: vec![1; 12], ..reply(UDP, from) };
    let quoted = with_options(VIP).ip_packet();
    let error = Packet::icmp(ROUTER, address(VIP), 11, 0, 0, &quoted[..40]);
    let seen = Seen::read(&table.director.run(error.build()).frame.bytes);
    assert_eq!(seen.body[8..], changed_quote(&with_options(VIP), &with_options(SERVER), 40));
}

/// Every value of the checksum: the second word takes each of them.
#[test]
fn checksums_are_right_for_every_value_of_the_sum() {
    let (table, _) = connected(TCP, Method::Nat);
    let quoted = reply(TCP, VIP).ip_packet();
    for rest in 0..=u32::from(u16::MAX) {
        let error = Packet::icmp(ROUTER, address(VIP), 3, 4, rest, &quoted[..28]);
        // Reading it checks them.
        Seen::read(&table.director.run(error.build()).frame.bytes);
    }
}

#[test]
fn errors_of_masqueraded_real_servers_reach_the_client() {
    let to_server = |protocol| {
        let payload = vec![9; 40];
        let packet = if protocol == TCP {
            Packet::tcp(CLIENT, SERVER, ACK)
        } else {
            Packet::udp(CLIENT, SERVER)
        };
        Packet { payload, ..packet }
    };
    for protocol in [TCP, UDP] {
        let (table, _) = connected(protocol, Method::Nat);
        let old = to_server(protocol);
        let new = Packet { destination: VIP.parse().unwrap(), ..old.clone() };
        let quoted = old.ip_packet();
        for (from, (kind, code, rest)) in
            [address(SERVER), INNER_ROUTER].iter().flat_map(|from| ERRORS.map(|e| (from, e)))
        {
            for length in quotes(20, quoted.len()) {
                let error =
                    Packet::icmp(from, address(CLIENT), kind, code, rest, &quoted[..length]);
                for error in shapes(&error) {
                    let outcome = table.director.run(error.build());
                    assert_eq!(outcome.verdict, Verdict::Transmit, "{error:?}");
                    assert_eq!(outcome.counted, [Counter::IcmpReturned]);
                    let quote = changed_quote(&old, &new, length);
                    let wanted =
                        Packet::icmp(address(VIP), address(CLIENT), kind, code, rest, &quote);
                    let wanted =
                        Packet { ttl: error.ttl - 1, payload: wanted.payload, ..error.clone() };
                    let source = format!("{}:0", address(VIP)).parse().unwrap();
                    let mut wanted = Seen::read(&Packet { source, ..wanted }.build());
                    wanted.destination_mac = CLIENT_GATEWAY;
                    wanted.source_mac = DIRECTOR_MAC;
                    assert_eq!(Seen::read(&outcome.frame.bytes), wanted, "{error:?}");
                }
            }
        }
        assert!(table.director.stats(0).out_packets > 0);
    }
}

#[test]
fn what_concerns_no_known_connection_is_passed() {
    let (table, _) = connected(TCP, Method::Nat);
    let quoted = reply(TCP, VIP);
    let icmp =
        |kind, quoted: &Packet| Packet::icmp(ROUTER, address(VIP), kind, 0, 0, &quoted.ip_packet());
    let to = |client: &str| Packet { destination: client.parse().unwrap(), ..quoted.clone() };
    let error = icmp(3, &quoted);
    let cases = [
        ("echo request", icmp(8, &quoted)),
        ("echo reply", icmp(0, &quoted)),
        ("redirect", icmp(5, &quoted)),
        ("parameter problem", icmp(12, &quoted)),
        ("another client", icmp(3, &to("192.0.2.2:46001"))),
        ("another client's port", icmp(3, &to("192.0.2.1:46002"))),
        ("another protocol", icmp(3, &reply(UDP, VIP))),
        ("another service", icmp(3, &reply(TCP, "10.0.0.100:81"))),
        ("a later fragment", icmp(3, &Packet { fragment: 3, ..quoted.clone() })),
        ("what another host sent", icmp(3, &reply(TCP, "10.0.0.101:80"))),
        ("a fragmented error", Packet { fragment: 0x2000, ..error.clone() }),
        ("no real server's business", icmp(3, &Packet { protocol: 47, ..quoted.clone() })),
    ];
    for (what, packet) in cases {
        pass(&table.director.run(packet.build()), what);
    }
    let whole = error.build();
    for length in 0..14 + 20 + 8 + 24 {
        let mut cut = error.build();
        cut.truncate(length);
        pass(&table.director.run(cut), "a cut frame");
    }
    for quote in 0..24 {
        let quoted = &quoted.ip_packet()[..quote];
        let packet = Packet::icmp(ROUTER, address(VIP), 3, 0, 0, quoted);
        pass(&table.director.run(Packet { padding: 60, ..packet }.build()), "a cut quote");
    }
    assert_eq!(table.director.run(whole).verdict, Verdict::Transmit);
}

#[test]
fn errors_that_cannot_be_forwarded_are_not_answered() {
    for method in METHODS {
        let (mut table, _) = connected(TCP, method);
        let quoted = reply(TCP, VIP).ip_packet();
        let error = Packet::icmp(ROUTER, address(VIP), 3, 4, 1_400, &quoted);
        let outcome = table.director.run(Packet { ttl: 1, ..error.clone() }.build());
        assert_eq!((outcome.verdict, outcome.counted), (Verdict::Drop, vec![Counter::TtlExpired]));
        table.director.destinations[0].mtu = 100;
        let outcome = table.director.run(error.build());
        assert_eq!((outcome.verdict, outcome.counted), (Verdict::Drop, vec![Counter::TooBig]));
        table.director.destinations[0].mtu = 0;
        table.director.destinations[0].next_hop = [NextHop::default(); 2];
        let outcome = table.director.run(error.build());
        assert_eq!(outcome.counted, [Counter::NoNextHop, Counter::FibFallback]);
        table.director.destinations[0].flags |= DestinationFlags::LOCAL;
        pass(&table.director.run(error.build()), "a real server on the director");
    }
}

/// A router's error about an outer packet that carries `inner`.
fn tunnel_error(inner: &[u8], kind: u8, code: u8, rest: u32) -> Packet {
    let outer = Packet {
        protocol: 4,
        payload: inner.to_vec(),
        ..Packet::tcp(&format!("{DIRECTOR_ADDRESS}:0"), &format!("{}:0", address(SERVER)), 0)
    };
    Packet::icmp(INNER_ROUTER, DIRECTOR_ADDRESS, kind, code, rest, &outer.ip_packet())
}

/// Reads an answer and compares it with the one that quotes `length` bytes of a packet.
fn answer(outcome: &Outcome, error: (u8, u8, u32), about: &[u8], length: usize) -> Seen {
    let seen = Seen::read(&outcome.frame.bytes);
    let (kind, code, rest) = error;
    let wanted = Packet::icmp(address(VIP), address(CLIENT), kind, code, rest, &about[..length]);
    assert_eq!(seen.body, wanted.payload, "{error:?}");
    assert_eq!(seen.source().ip().to_string(), address(VIP));
    assert_eq!(seen.destination().ip().to_string(), address(CLIENT));
    assert_eq!((seen.ttl(), seen.header[6], seen.header[7], seen.padding), (64, 0, 0, 0));
    seen
}

#[test]
fn errors_about_a_tunnel_are_told_to_the_client() {
    for protocol in [TCP, UDP] {
        // (the router's MTU, that of the director's own link, what the client is told)
        let rows =
            [(1_400, 1_500, 1_380), (1_400, 1_300, 1_280), (0, 1_500, 532), (1_400, 0, 1_380)];
        for (path, own, told) in rows {
            let (mut table, _) = connected(protocol, Method::Tun);
            table.director.destinations[0].mtu = own;
            let inner = Packet { payload: vec![3; 900], ..request(protocol) }.ip_packet();
            let gateway = NextHop::new([2, 9, 9, 9, 9, 9], DIRECTOR_MAC, NIC + 1);
            table
                .director
                .clients
                .lock()
                .unwrap()
                .insert(WideAddress::of_v4(ip(address(CLIENT))), gateway);
            for quote in [24, 28, 61, 500] {
                let error = tunnel_error(&inner[..quote], 3, 4, path);
                let outcome = table.director.run(error.build());
                if quote < 28 {
                    let wanted = vec![Counter::IcmpTunnel, Counter::IcmpWithheld];
                    assert_eq!((outcome.verdict, outcome.counted), (Verdict::Pass, wanted));
                    continue;
                }
                assert_eq!(outcome.verdict, Verdict::Redirect(NIC + 1));
                assert_eq!(outcome.counted, [Counter::IcmpTunnel, Counter::IcmpSent]);
                let seen = answer(&outcome, (3, 4, told), &inner, quote & !3);
                assert_eq!(seen.destination_mac, [2, 9, 9, 9, 9, 9]);
            }
            let outcome = table.director.run(tunnel_error(&inner[..100], 3, 1, 0).build());
            answer(&outcome, (3, 1, 0), &inner, 100);
        }
    }
}

#[test]
fn a_tunnels_error_goes_back_to_its_router_where_the_host_does_not_route() {
    let (table, _) = connected(TCP, Method::Tun);
    let inner = request(TCP).ip_packet();
    for vlans in [vec![], vec![(0x8100, 9)], vec![(0x88a8, 9), (0x8100, 10)]] {
        let error = Packet { vlans: vlans.clone(), ..tunnel_error(&inner, 3, 4, 1_400) };
        let outcome = table.director.run(error.build());
        assert_eq!(outcome.verdict, Verdict::Transmit);
        let seen = answer(&outcome, (3, 4, 1_380), &inner, inner.len());
        assert_eq!((seen.destination_mac, seen.source_mac), (CLIENT_GATEWAY, DIRECTOR_MAC));
        assert_eq!(seen.tags.len(), 2 + vlans.len() * 4);
    }
}

#[test]
fn errors_about_other_tunnels_are_passed() {
    let (table, _) = connected(TCP, Method::Tun);
    let inner = request(TCP).ip_packet();
    let fragmentable = Packet { fragment: 0, ..request(TCP) }.ip_packet();
    let good = tunnel_error(&inner, 3, 4, 1_400);
    // Offsets in the ICMP message: 8 is the outer header, 28 the inner one.
    let with = |at: usize, bytes: &[u8]| {
        let mut payload = good.payload.clone();
        payload[at..at + bytes.len()].copy_from_slice(bytes);
        Packet { payload, ..good.clone() }
    };
    let cases = [
        ("from another director", with(8 + 15, &[11])),
        ("to another server", with(8 + 19, &[23])),
        ("a later outer fragment", with(8 + 7, &[1])),
        ("an outer header with options", with(8, &[0x46])),
        ("another client", with(28 + 15, &[9])),
        ("a later inner fragment", with(28 + 7, &[1])),
        ("IPv6 inside", with(28, &[0x65])),
        ("an error with options", Packet { options: vec![1; 4], ..good.clone() }),
        ("an inner packet that may be fragmented", tunnel_error(&fragmentable, 3, 4, 1_400)),
        ("an inner header that is cut", tunnel_error(&inner[..8], 3, 4, 1_400)),
    ];
    for (what, packet) in cases {
        pass(&table.director.run(packet.build()), what);
    }
    assert_eq!(table.director.run(good.build()).counted, [Counter::IcmpTunnel, Counter::IcmpSent]);
    let (table, _) = connected(TCP, Method::Dr);
    pass(&table.director.run(good.build()), "a connection without a tunnel");
}

#[test]
fn what_does_not_fit_is_answered_with_the_mtu() {
    // (method, what is counted, bytes in front)
    let rows = [
        (Method::Dr, Counter::TooBig, 0),
        (Method::Nat, Counter::TooBig, 0),
        (Method::Tun, Counter::TunnelTooBig, 20),
    ];
    for (method, why, outer) in rows {
        let (mut table, _) = connected(TCP, method);
        table.director.destinations[0].mtu = 1_400;
        let of_length = |length: u32| Packet {
            payload: vec![5; length as usize - 40],
            flags: ACK,
            ..request(TCP)
        };
        let packet = of_length(1_400 - outer);
        assert_eq!(table.director.run(packet.build()).verdict, Verdict::Transmit, "it fits");
        let vlans = [vec![], vec![(0x8100, 9)], vec![(0x88a8, 9), (0x8100, 10)]];
        for vlans in vlans {
            let packet = Packet { vlans: vlans.clone(), ..of_length(1_401 - outer) };
            let outcome = table.director.run(packet.build());
            assert_eq!(outcome.verdict, Verdict::Transmit);
            assert_eq!(outcome.counted, [why, Counter::IcmpSent]);
            // RFC 1812 section 4.3.2.3: 576 bytes in all.
            let seen = answer(&outcome, (3, 4, 1_400 - outer), &packet.ip_packet(), 548);
            assert_eq!((seen.destination_mac, seen.source_mac), (CLIENT_GATEWAY, DIRECTOR_MAC));
            assert_eq!(seen.tags.len(), 2 + vlans.len() * 4);
        }
        let packet = Packet { fragment: 0, ..of_length(1_401 - outer) };
        let outcome = table.director.run(packet.build());
        assert_eq!(outcome.counted, [Counter::NotFragmented], "{method:?} without DF");
        assert_eq!(outcome.verdict, Verdict::Drop);
        table.director.destinations[0].mtu = 0;
        let packet = of_length(9_000);
        assert_eq!(table.director.run(packet.build()).verdict, Verdict::Transmit, "no MTU known");
    }
}

#[test]
fn an_answer_quotes_what_there_is() {
    for (ttl, length) in [(1, 40), (1, 41), (1, 43), (0, 44), (1, 575), (1, 1_400)] {
        for options in [vec![], vec![1; 40]] {
            let (table, _) = connected(TCP, Method::Dr);
            let length = length - 40;
            let packet =
                Packet { ttl, options, payload: vec![5; length], tos: 0x2e, ..request(TCP) };
            let whole = packet.ip_packet();
            let outcome = table.director.run(packet.build());
            assert_eq!(outcome.counted, [Counter::TtlExpired, Counter::IcmpSent]);
            let seen = answer(&outcome, (11, 0, 0), &whole, whole.len().min(548) & !3);
            // RFC 1812 section 4.3.2.5: internetwork control, the type of service copied.
            assert_eq!(seen.header[1], 0xce);
        }
    }
}

#[test]
fn a_service_without_destination_is_an_unreachable_port() {
    for protocol in [TCP, UDP] {
        for flags in [0, 1] {
            let mut table = Table::new(64);
            let service = table.add_service(protocol, VIP, scheduler_id::RR);
            if flags == 1 {
                table.set_persistence(service, Some([255, 255, 255, 255].into()));
            }
            let packet = request(protocol);
            let outcome = table.director.run(packet.build());
            assert_eq!(outcome.counted, [Counter::NoDestination, Counter::IcmpSent]);
            let whole = packet.ip_packet();
            answer(&outcome, (3, 3, 0), &whole, whole.len() & !3);
        }
    }
}

#[test]
fn a_reply_at_its_end_is_told_to_the_real_server_from_the_directors_address() {
    let (mut table, _) = connected(TCP, Method::Nat);
    let packet = Packet { ttl: 1, ..reply(TCP, SERVER) };
    let outcome = table.director.run(packet.build());
    assert_eq!(outcome.counted, [Counter::TtlExpired, Counter::IcmpSent]);
    let seen = Seen::read(&outcome.frame.bytes);
    assert_eq!(seen.source().ip().to_string(), DIRECTOR_ADDRESS);
    assert_eq!(seen.destination().ip().to_string(), address(SERVER));
    assert_eq!(seen.body[8..], packet.ip_packet());
    table.director.destinations[0].tunnel_source = 0;
    let outcome = table.director.run(packet.build());
    assert_eq!(outcome.verdict, Verdict::Drop);
    assert_eq!(outcome.counted, [Counter::TtlExpired, Counter::IcmpWithheld]);
}

#[test]
fn rfc1122_some_are_never_answered() {
    let expired = |client: &str| Packet { source: client.parse().unwrap(), ttl: 1, ..request(TCP) };
    for client in ["0.0.0.0:1", "127.0.0.1:1", "224.0.0.5:1", "255.255.255.255:1", "240.0.0.1:1"] {
        let (table, _) = connected(TCP, Method::Dr);
        let outcome = table.director.run(expired(client).build());
        assert_eq!(outcome.verdict, Verdict::Drop, "{client}");
        assert_eq!(outcome.counted, [Counter::TtlExpired, Counter::IcmpWithheld], "{client}");
    }
    let (table, _) = connected(TCP, Method::Dr);
    let mut frame = expired("192.0.2.7:1").build();
    frame[0] = 0xff;
    let outcome = table.director.run(frame);
    assert_eq!(outcome.counted, [Counter::TtlExpired, Counter::IcmpWithheld], "broadcast frame");
    let frame = MemoryFrame { headroom: 27, ..MemoryFrame::new(expired("192.0.2.7:1").build()) };
    let outcome = table.director.run_frame(frame);
    assert_eq!(outcome.counted, [Counter::TtlExpired, Counter::IcmpWithheld], "no room");
}

#[test]
fn answers_are_limited_and_path_mtu_discovery_has_a_limit_of_its_own() {
    let (mut table, _) = connected(TCP, Method::Dr);
    table.director.destinations[0].mtu = 600;
    let expired = Packet { ttl: 1, ..request(TCP) }.build();
    let big = Packet { payload: vec![0; 600], flags: ACK, ..request(TCP) }.build();
    let sent = |frame: &[u8], times: u32| -> u32 {
        (0..times)
            .map(|_| {
                u32::from(table.director.run(frame.to_vec()).counted.contains(&Counter::IcmpSent))
            })
            .sum()
    };
    assert_eq!(sent(&expired, 3_000), 1_024);
    assert_eq!(sent(&big, 3_000), 1_024);
    assert_eq!(table.director.counter(Counter::IcmpLimited), 2 * (3_000 - 1_024));
    table.director.advance_ticks(1);
    assert_eq!((sent(&expired, 100), sent(&big, 100)), (64, 64));
    table.director.advance_seconds(3_600);
    assert_eq!((sent(&expired, 2_000), sent(&big, 2_000)), (1_024, 1_024));
}
