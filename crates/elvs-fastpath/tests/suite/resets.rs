//! Connections of removed destinations whose service says `on_delete reset`.

use elvs_common::{Counter, Method, SettingFlags, TCP, TcpState, UDP, scheduler_id};
use elvs_fastpath::Verdict;

use crate::support::{
    ACK, CLIENT_GATEWAY, DESTINATION_OPTIONS, DIRECTOR_MAC, FIN, Packet, Packet6, RST, SYN, Seen,
    Seen6, ServiceId, Table, extension,
};

const CLIENT: &str = "192.0.2.7:40000";
const VIP: &str = "10.0.0.100:80";
const SERVER: &str = "10.1.0.21:8080";
const CLIENT6: &str = "[2001:db8::7]:40000";
const VIP6: &str = "[fd00::100]:80";
const SERVER6: &str = "[fd01::21]:8080";

/// Reasons of a connection that is ended and answered.
const ANSWERED: [Counter; 3] =
    [Counter::DestinationGone, Counter::ExpiredNodest, Counter::ResetSent];

/// A service with an established connection to a destination that was removed.
fn removed(protocol: u8, method: Method) -> (Table, ServiceId) {
    let mut table = Table::new(64);
    let service = table.add_service(protocol, VIP, scheduler_id::RR);
    let destination = table.add_destination(service, SERVER, method, 1);
    table.set_reset(destination);
    let packets = if protocol == TCP {
        vec![Packet::tcp(CLIENT, VIP, SYN), Packet::tcp(CLIENT, VIP, ACK)]
    } else {
        vec![Packet::udp(CLIENT, VIP)]
    };
    for packet in packets {
        assert_eq!(table.director.run(packet.build()).verdict, Verdict::Transmit);
    }
    table.remove_destination(service, destination);
    (table, service)
}

/// As [`removed`], of IPv6.
fn removed6(protocol: u8) -> (Table, ServiceId) {
    let mut table = Table::new(64);
    let service = table.add_service(protocol, VIP6, scheduler_id::RR);
    let destination = table.add_destination(service, SERVER6, Method::Nat, 1);
    table.set_reset(destination);
    let packet = if protocol == TCP {
        Packet6::tcp(CLIENT6, VIP6, SYN)
    } else {
        Packet6::udp(CLIENT6, VIP6)
    };
    assert_eq!(table.director.run(packet.build()).verdict, Verdict::Transmit);
    table.remove_destination(service, destination);
    (table, service)
}

/// Sequence number, acknowledgement and flags of a segment without options and data.
fn numbers(segment: &[u8]) -> (u32, u32, u8) {
    assert_eq!((segment.len(), segment[12]), (20, 0x50), "{segment:02x?}");
    assert_eq!((&segment[14..16], &segment[18..]), (&[0, 0][..], &[0, 0][..]), "{segment:02x?}");
    let word = |at: usize| u32::from_be_bytes(segment[at..at + 4].try_into().unwrap());
    (word(4), word(8), segment[13])
}

/// Flags, bytes of data, and the answer to SEG.SEQ 1 and SEG.ACK 2 (RFC 9293 section 3.10.7.1).
const ANSWERS: &[(u8, usize, (u32, u32, u8))] = &[
    (ACK, 0, (2, 0, RST)),
    (ACK, 1_400, (2, 0, RST)),
    (FIN | ACK, 3, (2, 0, RST)),
    (0, 0, (0, 1, RST | ACK)),
    (0, 7, (0, 8, RST | ACK)),
    (FIN, 7, (0, 9, RST | ACK)),
];

#[test]
fn rfc9293_3_10_7_1_resets_have_the_numbers_that_the_client_accepts() {
    for method in [Method::Dr, Method::Nat, Method::Tun] {
        for (flags, data, wanted) in ANSWERS {
            let (table, _) = removed(TCP, method);
            let packet =
                Packet { payload: vec![7; *data], tos: 0xb9, ..Packet::tcp(CLIENT, VIP, *flags) };
            let outcome = table.director.run(packet.build());
            assert_eq!((outcome.verdict, &outcome.counted[..]), (Verdict::Transmit, &ANSWERED[..]));
            let seen = Seen::read(&outcome.frame.bytes);
            assert_eq!(numbers(&seen.body), *wanted, "{method:?} {flags:#x} {data}");
            assert_eq!(seen.source().to_string(), VIP);
            assert_eq!(seen.destination().to_string(), CLIENT);
            assert_eq!((seen.destination_mac, seen.source_mac), (CLIENT_GATEWAY, DIRECTOR_MAC));
            assert_eq!((seen.ttl(), seen.header[1]), (64, 0xb8), "without congestion bits");
            assert_eq!(&seen.header[4..8], [0, 0, 0x40, 0], "identification, don't fragment");
            assert_eq!(table.director.live().count(), 0, "the connection is over");
            assert_eq!(table.director.load_of(0), (0, 0));
            table.director.check_tables();
        }
    }
}

#[test]
fn rfc9293_3_10_7_1_resets_of_ipv6_have_the_same_numbers() {
    for (flags, data, wanted) in ANSWERS {
        for extensions in [vec![], vec![extension(DESTINATION_OPTIONS, 2)]] {
            let (table, _) = removed6(TCP);
            let packet = Packet6 {
                payload: vec![7; *data],
                flow: 0x0b9_12345,
                extensions,
                ..Packet6::tcp(CLIENT6, VIP6, *flags)
            };
            let outcome = table.director.run(packet.build());
            assert_eq!((outcome.verdict, &outcome.counted[..]), (Verdict::Transmit, &ANSWERED[..]));
            let seen = Seen6::read(&outcome.frame.bytes);
            assert_eq!(numbers(&seen.body), *wanted, "{flags:#x} {data}");
            assert_eq!(seen.source().to_string(), VIP6);
            assert_eq!(seen.destination().to_string(), CLIENT6);
            assert_eq!((seen.destination_mac, seen.source_mac), (CLIENT_GATEWAY, DIRECTOR_MAC));
            assert_eq!(seen.header[..8], [0x6b, 0x80, 0, 0, 0, 20, TCP, 64]);
            assert_eq!((seen.extensions.len(), seen.padding), (0, 0));
            assert_eq!(table.director.live_wide().count(), 0, "the connection is over");
        }
    }
}

#[test]
fn tags_stay_and_options_go() {
    for vlans in [vec![(0x8100, 7)], vec![(0x88a8, 7), (0x8100, 8)]] {
        let (table, _) = removed(TCP, Method::Dr);
        let options = vec![1, 1, 1, 0];
        let packet = Packet { vlans, options, ..Packet::tcp(CLIENT, VIP, ACK) };
        let sent = packet.build();
        let outcome = table.director.run(sent.clone());
        assert_eq!(outcome.verdict, Verdict::Transmit, "{:?}", outcome.counted);
        let seen = Seen::read(&outcome.frame.bytes);
        assert_eq!(seen.tags, Seen::read(&sent).tags);
        assert_eq!((seen.header.len(), numbers(&seen.body)), (20, (2, 0, RST)));
    }
}

#[test]
fn a_frame_is_not_cut_below_what_ethernet_has() {
    for (data, padding, left) in [(0, 6, 6), (0, 0, 0), (100, 0, 6), (2, 40, 6)] {
        let (table, _) = removed(TCP, Method::Dr);
        let packet = Packet { payload: vec![7; data], padding, ..Packet::tcp(CLIENT, VIP, ACK) };
        let outcome = table.director.run(packet.build());
        assert_eq!(Seen::read(&outcome.frame.bytes).padding, left, "{data} {padding}");
    }
}

#[test]
fn a_reset_is_never_answered_by_one_but_ends_the_connection() {
    let (table, _) = removed(TCP, Method::Dr);
    let outcome = table.director.run(Packet::tcp(CLIENT, VIP, RST).build());
    assert_eq!(outcome.verdict, Verdict::Drop);
    assert_eq!(outcome.counted, [Counter::DestinationGone, Counter::ExpiredNodest]);
    assert_eq!(table.director.live().count(), 0);
}

#[test]
fn a_client_that_connects_anew_goes_to_another_real_server_at_once() {
    let (mut table, service) = removed(TCP, Method::Dr);
    let other = table.add_destination(service, "10.1.0.22:8080", Method::Dr, 1);
    let packet = Packet::tcp(CLIENT, VIP, SYN);
    let outcome = table.director.run(packet.build());
    assert_eq!(outcome.verdict, Verdict::Transmit);
    assert_eq!(outcome.counted, [Counter::ExpiredNodest]);
    assert_eq!(table.director.destination_of_key(packet.key()), Some(other));
    assert_eq!(table.director.state(packet.key()), Some(TcpState::SynRecv));
}

#[test]
fn udp_is_answered_by_port_unreachable_and_scheduled_anew_with_expire_nodest_conn() {
    let packet = Packet::udp(CLIENT, VIP).build();
    let (mut table, service) = removed(UDP, Method::Dr);
    table.add_destination(service, "10.1.0.22:8080", Method::Dr, 1);
    let outcome = table.director.run(packet.clone());
    let told = [Counter::DestinationGone, Counter::ExpiredNodest, Counter::IcmpSent];
    assert_eq!((outcome.verdict, &outcome.counted[..]), (Verdict::Transmit, &told[..]));
    let seen = Seen::read(&outcome.frame.bytes);
    assert_eq!((seen.header[9], &seen.body[..2]), (1, &[3, 3][..]));
    assert_eq!(table.director.run(packet.clone()).counted, [], "the next one goes elsewhere");
    let (mut table, service) = removed(UDP, Method::Dr);
    table.add_destination(service, "10.1.0.22:8080", Method::Dr, 1);
    table.director.settings.flags |= SettingFlags::EXPIRE_NODEST_CONN;
    let outcome = table.director.run(packet);
    assert_eq!(outcome.counted, [Counter::ExpiredNodest], "no packet is lost");
}

#[test]
fn udp_of_ipv6_is_answered_by_port_unreachable() {
    let (table, _) = removed6(UDP);
    let outcome = table.director.run(Packet6::udp(CLIENT6, VIP6).build());
    let told = [Counter::DestinationGone, Counter::ExpiredNodest, Counter::IcmpSent];
    assert_eq!((outcome.verdict, &outcome.counted[..]), (Verdict::Transmit, &told[..]));
    let seen = Seen6::read(&outcome.frame.bytes);
    assert_eq!((seen.protocol, &seen.body[..2]), (58, &[1, 4][..]));
}

#[test]
fn expire_nodest_conn_leaves_resets_to_on_delete() {
    let (table, _) = removed(TCP, Method::Dr);
    let mut table = table;
    table.director.settings.flags |= SettingFlags::EXPIRE_NODEST_CONN;
    let outcome = table.director.run(Packet::tcp(CLIENT, VIP, ACK).build());
    assert_eq!(outcome.counted, ANSWERED, "and not left to the host's stack");
}

#[test]
fn a_destination_that_is_back_has_its_connections_again() {
    let (mut table, service) = removed(TCP, Method::Dr);
    assert_eq!(table.add_destination(service, SERVER, Method::Dr, 1), 0);
    let outcome = table.director.run(Packet::tcp(CLIENT, VIP, ACK).build());
    assert_eq!((outcome.verdict, outcome.counted), (Verdict::Transmit, vec![]));
}

#[test]
fn a_quiesced_destination_keeps_its_connections() {
    let mut table = Table::new(64);
    let service = table.add_service(TCP, VIP, scheduler_id::RR);
    let destination = table.add_destination(service, SERVER, Method::Dr, 1);
    table.set_reset(destination);
    table.director.run(Packet::tcp(CLIENT, VIP, SYN).build());
    table.set_weight(service, destination, 0);
    let outcome = table.director.run(Packet::tcp(CLIENT, VIP, ACK).build());
    assert_eq!((outcome.verdict, outcome.counted), (Verdict::Transmit, vec![]));
}
