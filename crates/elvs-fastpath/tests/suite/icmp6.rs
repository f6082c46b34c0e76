//! ICMPv6 errors about known connections and of the director's own, and fragments of IPv6.

use elvs_common::{Counter, DestinationFlags, ICMPV6, Method, TCP, UDP, scheduler_id};
use elvs_fastpath::Verdict;

use crate::support::{
    ACK, CLIENT_GATEWAY, DESTINATION_OPTIONS, HOP_BY_HOP, Outcome, Packet6, ROUTING, SYN, Seen6,
    Table, extension, fragment, server_mac,
};

const CLIENT: &str = "[2001:db8::7]:40000";
const VIP: &str = "[fd00::100]:80";
/// A real server whose port is another one than the service's.
const SERVER: &str = "[fd01::22]:8080";
/// A router on the client's side.
const ROUTER: &str = "2001:db8:1::1";
/// A router on the real server's side.
const INNER_ROUTER: &str = "fd02::1";
/// Bytes of an IPv6 header.
const HEADER: usize = 40;
/// Type, code, rest of the header.
const ERRORS: [(u8, u8, u32); 5] = [(1, 0, 0), (1, 4, 0), (2, 0, 1_400), (3, 0, 0), (4, 1, 6)];

fn address(socket: &str) -> &str {
    socket.trim_start_matches('[').split(']').next().unwrap()
}

fn packet(protocol: u8, from: &str, to: &str, flags: u8) -> Packet6 {
    if protocol == TCP { Packet6::tcp(from, to, flags) } else { Packet6::udp(from, to) }
}

/// A service with one real server and one connection.
fn connected(protocol: u8, method: Method) -> Table {
    let mut table = Table::new(64);
    let service = table.add_service(protocol, VIP, scheduler_id::RR);
    table.add_destination(service, SERVER, method, 1);
    let outcome = run(&table, &packet(protocol, CLIENT, VIP, SYN));
    assert_eq!(outcome.verdict, Verdict::Transmit, "{:?}", outcome.counted);
    table
}

fn run(table: &Table, packet: &Packet6) -> Outcome {
    table.director.run(packet.build())
}

/// A packet of the service, or of its real server, to the client.
fn reply(protocol: u8, from: &str) -> Packet6 {
    Packet6 { payload: vec![7; 61], ..packet(protocol, from, CLIENT, ACK) }
}

/// Extension headers that must not matter.
fn extensions() -> Vec<Vec<(u8, Vec<u8>)>> {
    vec![
        vec![],
        vec![extension(HOP_BY_HOP, 1)],
        vec![extension(DESTINATION_OPTIONS, 2), extension(ROUTING, 3), fragment(0, false)],
    ]
}

/// Shapes of the error that must not matter.
fn shapes(error: &Packet6) -> Vec<Packet6> {
    let vlans = vec![(0x88a8, 7), (0x8100, 8)];
    let with = |extensions| Packet6 { extensions, ..error.clone() };
    let mut shapes: Vec<_> = extensions().into_iter().map(with).collect();
    shapes.push(Packet6 { vlans: vec![(0x8100, 5)], hop_limit: 2, ..error.clone() });
    shapes.push(Packet6 { vlans, padding: 9, flow: 0x0b_1234, ..error.clone() });
    shapes
}

/// The packet as quoted after a change of one end: headers and ports are the new one's, the rest stays as it was.
fn changed_quote(old: &Packet6, new: &Packet6, headers: usize, length: usize) -> Vec<u8> {
    let (old, new) = (old.ip_packet(), new.ip_packet());
    [&new[..headers + 4], &old[headers + 4..]].concat()[..length].to_vec()
}

fn pass(outcome: &Outcome, what: &str) {
    assert_eq!((outcome.verdict, &outcome.counted[..]), (Verdict::Pass, &[][..]), "{what}");
}

#[test]
fn errors_about_what_the_client_was_sent_reach_its_real_server() {
    for (protocol, method) in
        [TCP, UDP].into_iter().flat_map(|p| [Method::Dr, Method::Nat].map(|m| (p, m)))
    {
        let table = connected(protocol, method);
        for inner in extensions() {
            let of = |from| Packet6 { extensions: inner.clone(), ..reply(protocol, from) };
            let quoted = of(VIP).ip_packet();
            let headers = HEADER + inner.iter().map(|(_, rest)| rest.len() + 1).sum::<usize>();
            for (kind, code, rest) in ERRORS {
                for length in [headers + 4, headers + 9, quoted.len()] {
                    let error =
                        Packet6::icmp(ROUTER, address(VIP), kind, code, rest, &quoted[..length]);
                    for error in shapes(&error) {
                        let outcome = run(&table, &error);
                        assert_eq!(outcome.verdict, Verdict::Transmit, "{method:?} {error:?}");
                        assert_eq!(outcome.counted, [Counter::IcmpForwarded]);
                        let seen = Seen6::read(&outcome.frame.bytes);
                        let wanted = if method == Method::Nat {
                            let quote = changed_quote(&of(VIP), &of(SERVER), headers, length);
                            Packet6::icmp(ROUTER, address(SERVER), kind, code, rest, &quote)
                        } else {
                            error.clone()
                        };
                        let wanted = Packet6 {
                            destination: wanted.destination,
                            payload: wanted.payload,
                            hop_limit: error.hop_limit - 1,
                            ..error.clone()
                        };
                        let wanted = Seen6::read(&wanted.build());
                        assert_eq!(seen.destination_mac, server_mac(0));
                        assert_eq!((seen.header, seen.body), (wanted.header, wanted.body));
                        assert_eq!((seen.tags, seen.extensions), (wanted.tags, wanted.extensions));
                    }
                }
            }
        }
        assert!(table.director.stats(0).in_packets > 100);
    }
}

#[test]
fn errors_of_masqueraded_real_servers_reach_the_client() {
    for protocol in [TCP, UDP] {
        let table = connected(protocol, Method::Nat);
        let to = |to| Packet6 { payload: vec![9; 40], ..packet(protocol, CLIENT, to, ACK) };
        let quoted = to(SERVER).ip_packet();
        for from in [address(SERVER), INNER_ROUTER] {
            for (kind, code, rest) in ERRORS {
                for length in [HEADER + 4, HEADER + 21, quoted.len()] {
                    let error =
                        Packet6::icmp(from, address(CLIENT), kind, code, rest, &quoted[..length]);
                    for error in shapes(&error) {
                        let outcome = run(&table, &error);
                        assert_eq!(outcome.verdict, Verdict::Transmit, "{error:?}");
                        assert_eq!(outcome.counted, [Counter::IcmpReturned]);
                        let quote = changed_quote(&to(SERVER), &to(VIP), HEADER, length);
                        let (vip, client) = (address(VIP), address(CLIENT));
                        let wanted = Packet6::icmp(vip, client, kind, code, rest, &quote);
                        let hop_limit = error.hop_limit - 1;
                        let (source, payload) = (wanted.source, wanted.payload);
                        let wanted = Packet6 { source, payload, hop_limit, ..error.clone() };
                        let wanted = Seen6::read(&wanted.build());
                        let seen = Seen6::read(&outcome.frame.bytes);
                        assert_eq!(seen.destination_mac, CLIENT_GATEWAY);
                        assert_eq!((seen.header, seen.body), (wanted.header, wanted.body));
                    }
                }
            }
        }
        assert!(table.director.stats(0).out_packets > 0);
    }
}

/// Every value of the checksum: the second word takes each of them.
#[test]
fn checksums_are_right_for_every_value_of_the_sum() {
    let table = connected(TCP, Method::Nat);
    let quoted = reply(TCP, VIP).ip_packet();
    for rest in 0..=u32::from(u16::MAX) {
        let error = Packet6::icmp(ROUTER, address(VIP), 2, 0, rest, &quoted[..48]);
        // Reading it checks them.
        Seen6::read(&run(&table, &error).frame.bytes);
    }
}

#[test]
fn what_concerns_no_known_connection_is_passed() {
    let table = connected(TCP, Method::Nat);
    let quoted = reply(TCP, VIP);
    let icmp = |kind, quoted: &Packet6| {
        Packet6::icmp(ROUTER, address(VIP), kind, 0, 0, &quoted.ip_packet())
    };
    let to = |client: &str| Packet6 { destination: client.parse().unwrap(), ..quoted.clone() };
    let with = |header| Packet6 { extensions: vec![header], ..quoted.clone() };
    let error = icmp(1, &quoted);
    let cases = [
        ("echo request", icmp(128, &quoted)),
        ("echo reply", icmp(129, &quoted)),
        ("listener report", icmp(143, &quoted)),
        ("neighbour solicitation", icmp(135, &quoted)),
        ("neighbour advertisement", icmp(136, &quoted)),
        ("redirect", icmp(137, &quoted)),
        ("another client", icmp(1, &to("[2001:db8::8]:40000"))),
        ("another client's port", icmp(1, &to("[2001:db8::7]:40001"))),
        ("another protocol", icmp(1, &reply(UDP, VIP))),
        ("another service", icmp(1, &reply(TCP, "[fd00::100]:81"))),
        ("a later fragment", icmp(1, &with(fragment(3, true)))),
        ("what another host sent", icmp(1, &reply(TCP, "[fd00::101]:80"))),
        ("a fragmented error", Packet6 { extensions: vec![fragment(0, true)], ..error.clone() }),
        ("no real server's business", icmp(1, &Packet6 { protocol: 47, ..quoted.clone() })),
    ];
    for (what, packet) in cases {
        pass(&run(&table, &packet), what);
    }
    for length in 0..14 + 40 + 8 + 44 {
        let mut cut = error.build();
        cut.truncate(length);
        pass(&table.director.run(cut), "a cut frame");
    }
    for quote in 0..44 {
        let packet = Packet6::icmp(ROUTER, address(VIP), 1, 0, 0, &quoted.ip_packet()[..quote]);
        pass(&run(&table, &Packet6 { padding: 60, ..packet }), "a cut quote");
    }
    assert_eq!(run(&table, &error).verdict, Verdict::Transmit);
}

#[test]
fn errors_that_cannot_be_forwarded_are_not_answered() {
    for method in [Method::Dr, Method::Nat] {
        let mut table = connected(TCP, method);
        let quoted = reply(TCP, VIP).ip_packet();
        let error = Packet6::icmp(ROUTER, address(VIP), 2, 0, 1_400, &quoted);
        let outcome = run(&table, &Packet6 { hop_limit: 1, ..error.clone() });
        assert_eq!((outcome.verdict, outcome.counted), (Verdict::Drop, vec![Counter::TtlExpired]));
        table.director.destinations[0].mtu = 100;
        let outcome = run(&table, &error);
        assert_eq!((outcome.verdict, outcome.counted), (Verdict::Drop, vec![Counter::TooBig]));
        table.director.destinations[0].mtu = 0;
        table.director.destinations[0].next_hop = Default::default();
        assert_eq!(run(&table, &error).counted, [Counter::NoNextHop, Counter::FibFallback]);
        table.director.destinations[0].flags |= DestinationFlags::LOCAL;
        pass(&run(&table, &error), "a real server on the director");
    }
}

/// Reads an answer of the virtual address and compares it with the one that quotes `length` bytes of a packet.
fn answer(outcome: &Outcome, error: (u8, u8, u32), about: &Packet6, length: usize) {
    assert_eq!(outcome.verdict, Verdict::Transmit, "{:?}", outcome.counted);
    assert_eq!(outcome.counted[1..], [Counter::IcmpSent]);
    let (kind, code, rest) = error;
    let quote = &about.ip_packet()[..length];
    let wanted = Packet6::icmp(address(VIP), address(CLIENT), kind, code, rest, quote);
    let wanted = Packet6 { flow: about.flow & 0x0ff0_0000, vlans: about.vlans.clone(), ..wanted };
    let (seen, wanted) = (Seen6::read(&outcome.frame.bytes), Seen6::read(&wanted.build()));
    assert_eq!(seen.destination_mac, CLIENT_GATEWAY);
    assert_eq!((seen.header, seen.body), (wanted.header, wanted.body));
    assert_eq!((seen.tags, seen.padding), (wanted.tags, 0));
}

#[test]
fn refused_packets_are_answered_by_the_virtual_address() {
    for (protocol, method) in
        [TCP, UDP].into_iter().flat_map(|p| [Method::Dr, Method::Nat].map(|m| (p, m)))
    {
        for vlans in [vec![], vec![(0x8100, 9)], vec![(0x88a8, 9), (0x8100, 10)]] {
            for extensions in extensions() {
                for length in [0, 1, 2, 3, 1_100, 1_400] {
                    let packet = Packet6 {
                        payload: vec![5; length],
                        vlans: vlans.clone(),
                        extensions: extensions.clone(),
                        flow: 0x0a51_2345,
                        padding: 3,
                        ..packet(protocol, CLIENT, VIP, SYN)
                    };
                    let bytes = packet.ip_packet().len();
                    let quote = bytes.min(1_280 - 48);
                    let mut table = connected(protocol, method);
                    let spent = Packet6 { hop_limit: 1, ..packet.clone() };
                    answer(&run(&table, &spent), (3, 0, 0), &spent, quote);
                    for mtu in [1_300, 1_000] {
                        table.director.destinations[0].mtu = mtu;
                        if bytes > mtu as usize {
                            let told = mtu.max(1_280);
                            answer(&run(&table, &packet), (2, 0, told), &packet, quote);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_service_without_destination_is_an_unreachable_port() {
    for protocol in [TCP, UDP] {
        let mut table = Table::new(64);
        table.add_service(protocol, VIP, scheduler_id::RR);
        let packet = packet(protocol, CLIENT, VIP, SYN);
        let outcome = run(&table, &packet);
        assert_eq!(outcome.counted[0], Counter::NoDestination);
        answer(&outcome, (1, 4, 0), &packet, packet.ip_packet().len());
    }
}

#[test]
fn who_must_not_be_told_is_not() {
    let table = connected(UDP, Method::Dr);
    for source in ["[ff02::1]:9", "[::]:9", "[::1]:9"] {
        let packet = Packet6 { hop_limit: 1, ..Packet6::udp(source, VIP) };
        let outcome = run(&table, &packet);
        let wanted = vec![Counter::TtlExpired, Counter::IcmpWithheld];
        assert_eq!((outcome.verdict, outcome.counted), (Verdict::Drop, wanted), "{source}");
    }
    let mut frame = Packet6 { hop_limit: 1, ..Packet6::udp(CLIENT, VIP) }.build();
    frame[0] |= 1;
    let outcome = table.director.run(frame);
    assert_eq!(outcome.counted, [Counter::TtlExpired, Counter::IcmpWithheld]);
}

#[test]
fn answers_are_limited() {
    let table = connected(UDP, Method::Dr);
    let spent = Packet6 { hop_limit: 1, ..Packet6::udp(CLIENT, VIP) };
    let sent = |table: &Table| {
        (0..3_000).filter(|_| run(table, &spent).counted.contains(&Counter::IcmpSent)).count()
    };
    assert_eq!(sent(&table), 1_024);
    table.director.advance_ticks(1);
    assert_eq!(sent(&table), 64);
}

#[test]
fn a_reply_at_its_end_is_told_to_the_real_server_from_the_directors_address() {
    let mut table = connected(TCP, Method::Nat);
    let own = "fd01::10";
    let record = &mut table.director.destinations[0];
    record.tunnel_source6 = own.parse::<std::net::Ipv6Addr>().unwrap().octets();
    let reply = Packet6 { hop_limit: 1, ..reply(TCP, SERVER) };
    let outcome = run(&table, &reply);
    assert_eq!(outcome.counted, [Counter::TtlExpired, Counter::IcmpSent]);
    let wanted = Packet6::icmp(own, address(SERVER), 3, 0, 0, &reply.ip_packet());
    assert_eq!(Seen6::read(&outcome.frame.bytes).body, wanted.payload);
}

/// A datagram of UDP in three fragments, with a checksum over all of it; `before` stands in front of the fragment header.
fn fragments(whole: &Packet6, id: u32, before: &[(u8, Vec<u8>)]) -> Vec<Packet6> {
    let bytes = whole.ip_packet()[HEADER..].to_vec();
    let pieces = bytes.chunks(400).enumerate().map(|(n, piece)| {
        let more = (n + 1) * 400 < bytes.len();
        let mut header = fragment(u16::try_from(n * 50).unwrap(), more);
        header.1.splice(3.., id.to_be_bytes());
        let extensions = [before, &[header]].concat();
        // Bytes of a protocol without a header of its own, which is then named in the last extension header.
        (Packet6 { protocol: 255, extensions, payload: piece.to_vec(), ..whole.clone() }, UDP)
    });
    pieces.map(|(packet, protocol)| Packet6 { flags: protocol, ..packet }).collect()
}

/// The frame of such a fragment.
fn frame(piece: &Packet6) -> Vec<u8> {
    let mut frame = piece.build();
    let at = 54 + piece.extensions.iter().rev().skip(1).map(|(_, r)| r.len() + 1).sum::<usize>();
    assert_eq!(frame[at], 255);
    frame[at] = piece.flags;
    frame
}

/// Puts a datagram together again from what was sent and returns it as it would have been sent whole.
fn together(pieces: &[Outcome], before: &[(u8, Vec<u8>)]) -> Seen6 {
    let seen: Vec<_> = pieces.iter().map(|piece| Seen6::read(&piece.frame.bytes)).collect();
    let body: Vec<u8> = seen.iter().flat_map(|seen| seen.body.clone()).collect();
    let first = &pieces[0].frame.bytes;
    let skipped: usize = before.iter().map(|(_, rest)| rest.len() + 1).sum();
    let mut whole = first[..54].to_vec();
    whole[20] = UDP;
    whole[18..20].copy_from_slice(&u16::try_from(body.len()).unwrap().to_be_bytes());
    whole.extend(body);
    assert_eq!(seen[0].extensions.len(), skipped + 8);
    // Reading it checks the checksum.
    Seen6::read(&whole)
}

#[test]
fn fragments_follow_the_first_one() {
    for method in [Method::Dr, Method::Nat] {
        for before in [vec![], vec![extension(HOP_BY_HOP, 1), extension(ROUTING, 3)]] {
            let mut table = connected(UDP, method);
            // A client that has no connection yet.
            let client = "[2001:db8::9]:777";
            let whole = Packet6 { payload: vec![6; 1_001], ..Packet6::udp(client, VIP) };
            let pieces = fragments(&whole, 99, &before);
            let sent: Vec<_> =
                pieces.iter().map(|piece| table.director.run(frame(piece))).collect();
            assert!(sent[0].counted.is_empty(), "{:?}", sent[0].counted);
            for piece in &sent[1..] {
                assert_eq!(piece.counted, [Counter::FragmentForwarded]);
            }
            for piece in &sent {
                assert_eq!(piece.verdict, Verdict::Transmit);
                let seen = Seen6::read(&piece.frame.bytes);
                assert_eq!((seen.destination_mac, seen.header[7]), (server_mac(0), 63));
            }
            let received = together(&sent, &before);
            let to = if method == Method::Nat { SERVER } else { VIP };
            assert_eq!(received.destination(), to.parse().unwrap());
            assert_eq!(received.source(), client.parse().unwrap());
            assert_eq!(received.body[8..], [6; 1_001]);
            // A later one that does not fit is told of.
            table.director.destinations[0].mtu = 300;
            let outcome = table.director.run(frame(&pieces[1]));
            assert_eq!(outcome.counted, [Counter::TooBig, Counter::IcmpSent]);
            table.director.destinations[0].flags = 0;
            let outcome = table.director.run(frame(&pieces[1]));
            assert_eq!(outcome.counted, [Counter::DestinationGone]);
        }
    }
}

#[test]
fn fragments_of_replies_follow_the_first_one() {
    for before in [vec![], vec![extension(DESTINATION_OPTIONS, 2)]] {
        let table = connected(UDP, Method::Nat);
        let whole = Packet6 { payload: vec![8; 1_001], ..Packet6::udp(SERVER, CLIENT) };
        let sent: Vec<_> = fragments(&whole, 7, &before)
            .iter()
            .map(|piece| table.director.run(frame(piece)))
            .collect();
        for piece in &sent {
            assert_eq!(piece.verdict, Verdict::Transmit, "{:?}", piece.counted);
        }
        let received = together(&sent, &before);
        assert_eq!(received.source(), VIP.parse().unwrap());
        assert_eq!(received.destination(), CLIENT.parse().unwrap());
        assert_eq!(table.director.stats(0).out_packets, 3);
    }
}

#[test]
fn fragments_of_unknown_datagrams_are_the_stacks() {
    let table = connected(UDP, Method::Nat);
    let whole = Packet6 { payload: vec![6; 1_001], ..Packet6::udp(CLIENT, VIP) };
    let first = &fragments(&whole, 1, &[])[0];
    assert_eq!(table.director.run(frame(first)).verdict, Verdict::Transmit);
    let other = |client: &str, id| {
        let whole = Packet6 { source: client.parse().unwrap(), ..whole.clone() };
        let outcome = table.director.run(frame(&fragments(&whole, id, &[])[1]));
        assert_eq!((outcome.verdict, outcome.counted), (Verdict::Pass, vec![Counter::Fragment]));
    };
    other(CLIENT, 2);
    other("[2001:db8::8]:40000", 1);
    // The same fold.
    other("[2001:db8:1:0:1::7]:40000", 1);
    table.director.advance_seconds(31);
    other(CLIENT, 1);
    let icmp = Packet6 { flags: ICMPV6, ..fragments(&whole, 3, &[])[1].clone() };
    pass(&table.director.run(frame(&icmp)), "a later fragment of ICMPv6");
}

#[test]
fn a_cut_fragment_is_malformed() {
    let table = connected(UDP, Method::Dr);
    let whole = Packet6 { payload: vec![6; 1_001], ..Packet6::udp(CLIENT, VIP) };
    let pieces = fragments(&whole, 1, &[]);
    assert_eq!(table.director.run(frame(&pieces[0])).verdict, Verdict::Transmit);
    for piece in &pieces {
        let mut frame = frame(piece);
        frame.pop();
        let outcome = table.director.run(frame);
        let wanted = (Verdict::Drop, vec![Counter::Malformed]);
        assert_eq!((outcome.verdict, outcome.counted), wanted);
    }
}

/// RFC 7112: a first fragment has all headers.
#[test]
fn a_first_fragment_without_a_whole_header_is_malformed() {
    let table = connected(TCP, Method::Dr);
    for length in 0..20 {
        let whole = packet(TCP, CLIENT, VIP, SYN);
        let mut frame =
            Packet6 { extensions: vec![fragment(0, true)], payload: vec![1; 40], ..whole }.build();
        frame.truncate(14 + 48 + length);
        frame[18..20].copy_from_slice(&u16::try_from(8 + length).unwrap().to_be_bytes());
        let outcome = table.director.run(frame);
        let wanted = (Verdict::Drop, vec![Counter::Malformed]);
        assert_eq!((outcome.verdict, outcome.counted), wanted, "{length} bytes");
    }
}
