//! The SIP persistence engine: who has the same Call-ID goes to the same real server.

use std::net::{Ipv4Addr, Ipv6Addr};

use elvs_common::{Counter, Method, NextHop, ServiceFlags, TCP, UDP, WideAddress, scheduler_id};
use elvs_fastpath::Verdict;

use crate::support::{NIC, Packet, Packet6, SYN, Seen, Seen6, ServiceId, Table, server_mac};

const VIP: &str = "192.0.2.100:5060";
const EVERYBODY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
const ONE_BY_ONE: Ipv4Addr = Ipv4Addr::BROADCAST;

/// A service with the engine and three real servers, the first of which in rr's list is destination 2.
fn pool(mask: Ipv4Addr, flags: u8) -> (Table, ServiceId) {
    let mut table = Table::new(64);
    let service = table.add_service(UDP, VIP, scheduler_id::RR);
    table.set_scheduler(service, scheduler_id::RR, ServiceFlags::SIP | flags);
    table.set_persistence(service, Some(mask));
    for server in 1..=3 {
        table.add_destination(service, &format!("10.0.0.2{server}:5060"), Method::Dr, 1);
    }
    (table, service)
}

fn message(client: &str, call: &str) -> Packet {
    let payload = format!("INVITE sip:a@b SIP/2.0\r\nVia: x\r\nCall-ID: {call}\r\n\r\n");
    Packet { payload: payload.into_bytes(), ..Packet::udp(client, VIP) }
}

/// Destination that a packet was sent to.
fn sent_to(table: &Table, packet: &Packet) -> u32 {
    let outcome = table.director.run(packet.build());
    assert_eq!(outcome.verdict, Verdict::Transmit, "{:?}", outcome.counted);
    assert_eq!(outcome.counted, [], "{packet:?}");
    destination_of(&outcome.frame.bytes)
}

fn destination_of(frame: &[u8]) -> u32 {
    (0..3).find(|destination| frame[..6] == server_mac(*destination)).unwrap()
}

#[test]
fn messages_of_one_call_go_to_one_server_whoever_sends_them() {
    let (table, _) = pool(EVERYBODY, ServiceFlags::ONE_PACKET);
    let calls = ["one@h", "two@h", "three@h", "four@h"];
    let firsts = calls.map(|call| sent_to(&table, &message("198.51.100.1:5060", call)));
    assert_eq!(firsts, [2, 1, 0, 2]);
    for client in ["198.51.100.1:5060", "198.51.100.1:40000", "203.0.113.9:5060"] {
        assert_eq!(calls.map(|call| sent_to(&table, &message(client, call))), firsts, "{client}");
    }
    // Templates only: every message was scheduled by itself.
    assert_eq!(table.director.live().count(), 4);
    assert!(table.director.callers.lock().unwrap().is_empty());
    table.director.check_tables();
}

#[test]
fn clients_that_the_mask_tells_apart_have_calls_of_their_own() {
    let (table, _) = pool(ONE_BY_ONE, ServiceFlags::ONE_PACKET);
    let sent = |client| sent_to(&table, &message(client, "one@h"));
    assert_eq!(["198.51.100.1:1", "198.51.100.2:1", "198.51.100.1:2"].map(sent), [2, 1, 2]);
    let (table, _) = pool(Ipv4Addr::new(255, 255, 255, 0), ServiceFlags::ONE_PACKET);
    let sent = |client| sent_to(&table, &message(client, "one@h"));
    assert_eq!(["198.51.100.1:1", "198.51.100.2:1", "198.51.101.1:2"].map(sent), [2, 2, 1]);
}

#[test]
fn what_was_found_is_kept_for_listings() {
    let (table, _) = pool(Ipv4Addr::new(255, 255, 255, 0), 0);
    let first = message("198.51.100.7:5060", "longer-than-the-next@h");
    sent_to(&table, &first);
    sent_to(&table, &message("198.51.100.8:5060", "one@h"));
    let calls = table.director.calls.lock().unwrap();
    let mut kept: Vec<_> = calls.values().map(|call| (call.client, call.id().to_vec())).collect();
    kept.sort();
    let network = WideAddress::of_v4(u32::from_ne_bytes([198, 51, 100, 0]));
    let wanted = [&b"longer-than-the-next@h"[..], b"one@h"].map(|id| (network, id.to_vec()));
    assert_eq!(kept, wanted);
    // Connections say which call they are of.
    let callers = table.director.callers.lock().unwrap();
    assert_eq!(callers.len(), 2);
    assert!(callers.values().all(|hash| calls.contains_key(&hash.0)));
    assert!(callers.keys().any(|caller| caller[1] == widened("198.51.100.7")));
}

fn widened(address: &str) -> u64 {
    let address: Ipv4Addr = address.parse().unwrap();
    WideAddress::of_v4(u32::from_ne_bytes(address.octets())).0[1]
}

#[test]
fn a_known_connection_needs_no_call_id() {
    let (table, _) = pool(EVERYBODY, 0);
    let first = message("198.51.100.1:5060", "one@h");
    let destination = sent_to(&table, &first);
    let later = Packet { payload: b"keep alive".to_vec(), ..first };
    assert_eq!(sent_to(&table, &later), destination);
    assert_eq!(table.director.live().count(), 2, "template and connection");
    table.director.check_tables();
}

#[test]
fn what_has_no_call_id_is_dropped_and_counted() {
    let (mut table, service) = pool(EVERYBODY, ServiceFlags::ONE_PACKET);
    let dropped = |table: &Table, frame: Vec<u8>| {
        let outcome = table.director.run(frame);
        assert_eq!((outcome.verdict, outcome.counted), (Verdict::Drop, vec![Counter::NoCallId]));
    };
    for payload in [&b""[..], b"x", b"INVITE\r\nCall-ID: one@h", b"a\r\nCall-ID: one@h x\r\n"] {
        let packet = Packet { payload: payload.to_vec(), ..Packet::udp("198.51.100.1:1", VIP) };
        dropped(&table, packet.build());
    }
    // Bytes of the frame behind the packet are none of the message.
    let mut cut = message("198.51.100.1:1", "one@h");
    cut.payload.truncate(cut.payload.len() - 4);
    let mut frame = cut.build();
    frame.extend(b"\r\n\r\n");
    dropped(&table, frame);
    assert_eq!(table.director.live().count(), 0);
    // The engine knows UDP only, so by IPVS, too, no connection of TCP gets through a service with it.
    let tcp = table.add_service(TCP, "192.0.2.100:80", scheduler_id::RR);
    table.set_scheduler(tcp, scheduler_id::RR, ServiceFlags::SIP);
    table.set_persistence(tcp, Some(EVERYBODY));
    table.add_destination(tcp, "10.0.0.21:80", Method::Dr, 1);
    dropped(&table, Packet::tcp("198.51.100.1:1", "192.0.2.100:80", SYN).build());
    // A service that is not persistent does not ask.
    table.set_persistence(service, None);
    table.set_scheduler(service, scheduler_id::RR, 0);
    sent_to(&table, &Packet::udp("198.51.100.1:1", VIP));
}

#[test]
fn a_template_ends_with_its_server() {
    let (mut table, service) = pool(EVERYBODY, ServiceFlags::ONE_PACKET);
    let call = message("198.51.100.1:5060", "one@h");
    let first = sent_to(&table, &call);
    table.remove_destination(service, first);
    let outcome = table.director.run(call.build());
    assert_eq!(outcome.counted, [Counter::TemplateReplaced]);
    let second = destination_of(&outcome.frame.bytes);
    assert_ne!(second, first);
    assert_eq!(sent_to(&table, &call), second);
}

#[test]
fn calls_of_another_packet_are_nobodys() {
    // A plain persistent service beside one with the engine: its templates are the client's.
    let (mut table, _) = pool(EVERYBODY, ServiceFlags::ONE_PACKET);
    let plain = table.add_service(UDP, "192.0.2.100:53", scheduler_id::RR);
    table.set_persistence(plain, Some(EVERYBODY));
    let server = table.add_destination(plain, "10.0.0.31:53", Method::Dr, 1);
    for round in 0..3 {
        sent_to(&table, &message("198.51.100.1:5060", &format!("call{round}")));
        let query = Packet::udp(&format!("198.51.100.{round}:1"), "192.0.2.100:53");
        let outcome = table.director.run(query.build());
        assert_eq!(outcome.verdict, Verdict::Transmit);
        assert_eq!(outcome.frame.bytes[..6], server_mac(server));
    }
    // Three calls, one template of everybody, three connections of the plain service.
    assert_eq!(table.director.live().count(), 7);
    table.director.check_tables();
}

#[test]
fn by_ipv6_as_by_ipv4() {
    let mut table = Table::new(64);
    let service = table.add_service(UDP, "[fd00::100]:5060", scheduler_id::RR);
    table.set_scheduler(service, scheduler_id::RR, ServiceFlags::SIP);
    table.set_persistence6(service, Some(112));
    let servers: Vec<u32> = (1..=3)
        .map(|n| table.add_destination(service, &format!("[fd01::2{n}]:5060"), Method::Dr, 1))
        .collect();
    let sent = |client: &str, call: &str| {
        let payload = format!("BYE x\r\ni: {call}\r\n\r\n").into_bytes();
        let packet = Packet6 { payload, ..Packet6::udp(client, "[fd00::100]:5060") };
        let outcome = table.director.run(packet.build());
        assert_eq!((outcome.verdict, outcome.counted), (Verdict::Transmit, vec![]), "{client}");
        *servers.iter().find(|d| outcome.frame.bytes[..6] == server_mac(**d)).unwrap()
    };
    let first = sent("[2001:db8::1]:5060", "one@h");
    assert_ne!(sent("[2001:db8::1]:5061", "two@h"), first);
    assert_eq!(sent("[2001:db8::2]:5060", "one@h"), first, "another client of the network");
    assert_ne!(sent("[2001:db8::1:1]:5060", "one@h"), first, "another network");
    let calls = table.director.calls.lock().unwrap();
    assert_eq!(calls.len(), 3);
    assert!(calls.values().all(|call| !call.client.is_v4() && call.id().len() == 5));
    drop(calls);
    table.director.check_tables();
}

/// A datagram of a masqueraded real server to a client.
fn from_server(server: u32, to: &str, call: &str) -> Packet {
    Packet { ttl: 9, ..message_to(&format!("10.0.0.2{}:5060", server + 1), to, call) }
}

fn message_to(from: &str, to: &str, call: &str) -> Packet {
    let payload = format!("SIP/2.0 200 OK\r\nCall-ID: {call}\r\n\r\n");
    Packet { payload: payload.into_bytes(), ..Packet::udp(from, to) }
}

/// As [`pool`], by NAT; the way to every client is known.
fn masqueraded(flags: u8) -> (Table, ServiceId) {
    let mut table = Table::new(64);
    let service = table.add_service(UDP, VIP, scheduler_id::RR);
    table.set_scheduler(service, scheduler_id::RR, ServiceFlags::SIP | flags);
    table.set_persistence(service, Some(EVERYBODY));
    for server in 1..=3 {
        table.add_destination(service, &format!("10.0.0.2{server}:5060"), Method::Nat, 1);
    }
    let hop = NextHop::new(server_mac(99), [2; 6], NIC);
    for client in ["198.51.100.1", "198.51.100.2", "203.0.113.9"] {
        let client = WideAddress([0, widened(client)]);
        table.director.clients.lock().unwrap().insert(client, hop);
    }
    (table, service)
}

/// Destination that a packet was sent to by NAT, from its rewritten address.
fn translated_to(table: &Table, packet: &Packet) -> u32 {
    let outcome = table.director.run(packet.build());
    assert_eq!((outcome.verdict, outcome.counted), (Verdict::Transmit, vec![]));
    let seen = Seen::read(&outcome.frame.bytes);
    u32::from(seen.destination().ip().octets()[3]) - 21
}

fn answered(table: &Table, packet: &Packet) {
    let outcome = table.director.run(packet.build());
    assert_eq!((outcome.verdict, outcome.counted), (Verdict::Transmit, vec![]), "{packet:?}");
    let seen = Seen::read(&outcome.frame.bytes);
    assert_eq!(seen.source().to_string(), VIP);
    assert_eq!((seen.destination(), seen.ttl()), (packet.destination, packet.ttl - 1));
    assert_eq!(outcome.frame.bytes[..6], server_mac(99));
}

#[test]
fn answers_without_a_connection_come_from_the_service() {
    let (table, _) = masqueraded(ServiceFlags::ONE_PACKET);
    let asked = translated_to(&table, &message("198.51.100.1:5060", "one@h"));
    answered(&table, &from_server(asked, "198.51.100.1:5060", "one@h"));
    assert_eq!(table.director.live().count(), 1, "the template");
    let stats = table.director.stats(asked);
    assert_eq!((stats.connections, stats.in_packets, stats.out_packets), (2, 1, 1));
    // A call that a real server begins comes back to it.
    let other = (asked + 1) % 3;
    answered(&table, &from_server(other, "203.0.113.9:7000", "own@h"));
    for client in ["203.0.113.9:7000", "198.51.100.2:1"] {
        assert_eq!(translated_to(&table, &message(client, "own@h")), other);
    }
    assert_eq!(table.director.live().count(), 2);
    assert!(table.director.callers.lock().unwrap().is_empty());
    table.director.check_tables();
}

#[test]
fn a_call_that_a_real_server_begins_has_a_connection() {
    let (table, _) = masqueraded(0);
    answered(&table, &from_server(1, "203.0.113.9:7000", "own@h"));
    answered(&table, &from_server(1, "203.0.113.9:7000", "another@h"));
    assert_eq!(table.director.live().count(), 2, "template and connection");
    let reply = Packet { payload: b"no call".to_vec(), ..message("203.0.113.9:7000", "") };
    assert_eq!(translated_to(&table, &reply), 1, "by the connection");
    assert_eq!(translated_to(&table, &message("198.51.100.2:1", "own@h")), 1, "by the call");
    let stats = table.director.stats(1);
    assert_eq!((stats.connections, stats.in_packets, stats.out_packets), (2, 2, 2));
    assert_eq!(table.director.callers.lock().unwrap().len(), 2);
    table.director.check_tables();
}

#[test]
fn other_datagrams_of_real_servers_leave_as_they_came() {
    let (table, _) = masqueraded(ServiceFlags::ONE_PACKET);
    let passed = |packet: &Packet| {
        let outcome = table.director.run(packet.build());
        assert_eq!((outcome.verdict, outcome.counted), (Verdict::Pass, vec![]), "{packet:?}");
    };
    // No Call-ID, no port of a real server, no real server.
    passed(&Packet::udp("10.0.0.21:5060", "203.0.113.9:7000"));
    passed(&message_to("10.0.0.21:5061", "203.0.113.9:7000", "one@h"));
    passed(&message_to("10.0.0.99:5060", "203.0.113.9:7000", "one@h"));
    let mut first = from_server(0, "203.0.113.9:7000", "one@h");
    first.fragment = 0x2000;
    passed(&first);
    assert_eq!(table.director.live().count(), 0);
    // One that would not outlive the director is refused.
    let mut last = from_server(0, "203.0.113.9:7000", "one@h");
    last.ttl = 1;
    let outcome = table.director.run(last.build());
    assert!(outcome.counted.contains(&Counter::TtlExpired), "{:?}", outcome.counted);
    // And one whose way back is not known.
    let outcome = table.director.run(from_server(0, "192.0.2.9:7000", "two@h").build());
    assert_eq!((outcome.verdict, outcome.counted), (Verdict::Drop, vec![Counter::NoNextHop]));
}

#[test]
fn a_real_server_that_is_gone_begins_nothing() {
    let (mut table, service) = masqueraded(ServiceFlags::ONE_PACKET);
    table.remove_destination(service, 0);
    let outcome = table.director.run(from_server(0, "203.0.113.9:7000", "one@h").build());
    assert_eq!((outcome.verdict, outcome.counted), (Verdict::Pass, vec![]));
}

#[test]
fn answers_over_ipv6_come_from_the_service() {
    for flags in [0, ServiceFlags::ONE_PACKET] {
        let mut table = Table::new(64);
        let vip = "[fd00::100]:5060";
        let service = table.add_service(UDP, vip, scheduler_id::RR);
        table.set_scheduler(service, scheduler_id::RR, ServiceFlags::SIP | flags);
        table.set_persistence6(service, Some(1));
        for server in 1..=2 {
            table.add_destination(service, &format!("[fd01::2{server}]:5060"), Method::Nat, 1);
        }
        let hop = NextHop::new(server_mac(99), [2; 6], NIC);
        let client: Ipv6Addr = "2001:db8::9".parse().unwrap();
        let client = WideAddress::of_bytes(client.octets());
        table.director.clients.lock().unwrap().insert(client, hop);
        let payload = b"SIP/2.0 200 OK\r\nCall-ID: own@h\r\n\r\n".to_vec();
        let packet = Packet6 { payload, ..Packet6::udp("[fd01::21]:5060", "[2001:db8::9]:7000") };
        let outcome = table.director.run(packet.build());
        assert_eq!((outcome.verdict, outcome.counted), (Verdict::Transmit, vec![]));
        let seen = Seen6::read(&outcome.frame.bytes);
        assert_eq!(seen.source().to_string(), vip);
        assert_eq!(table.director.live_wide().count(), if flags == 0 { 2 } else { 1 });
        let payload = b"ACK x\r\nCall-ID: own@h\r\n\r\n".to_vec();
        let packet = Packet6 { payload, ..Packet6::udp("[2001:db8::7]:1", vip) };
        let outcome = table.director.run(packet.build());
        assert_eq!(Seen6::read(&outcome.frame.bytes).destination().to_string(), "[fd01::21]:5060");
        table.director.check_tables();
    }
}
