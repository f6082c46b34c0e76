//! IPv6: what leaves the director, what it refuses, and the life of connections in the wide table.

mod forwarding;
mod lives;
mod refused;
mod services;

use elvs_common::{Method, TCP, scheduler_id};
use elvs_fastpath::Verdict;

use crate::support::{Outcome, Packet6, SYN, Seen6, ServiceId, Table, server_mac};

const CLIENT: &str = "[2001:db8::7]:40000";
const VIP: &str = "[fd00::100]:80";
const SERVER: &str = "[fd01::22]:80";
/// A real server whose port is another one than the service's.
const MAPPED: &str = "[fd01::22]:8080";

/// A service with one real server.
fn one_server(protocol: u8, method: Method, server: &str) -> (Table, ServiceId) {
    let mut table = Table::new(64);
    let service = table.add_service(protocol, VIP, scheduler_id::RR);
    table.add_destination(service, server, method, 1);
    (table, service)
}

/// A service of TCP with some real servers behind direct routing; the newest, which is picked first, has the highest index.
fn pool(buckets: u32, scheduler: u8, servers: u8) -> (Table, ServiceId) {
    let mut table = Table::new(buckets);
    let service = table.add_service(TCP, VIP, scheduler);
    for number in 1..=servers {
        table.add_destination(service, &format!("[fd01::{number}]:80"), Method::Dr, 100);
    }
    (table, service)
}

fn packet(protocol: u8) -> Packet6 {
    if protocol == TCP { Packet6::tcp(CLIENT, VIP, SYN) } else { Packet6::udp(CLIENT, VIP) }
}

fn client(number: u32) -> String {
    format!("[2001:db8::7]:{}", 1_024 + number)
}

fn run(table: &Table, packet: &Packet6) -> Outcome {
    table.director.run(packet.build())
}

/// Sends a packet through and reads what comes out.
fn sent(table: &Table, packet: &Packet6) -> Seen6 {
    let outcome = run(table, packet);
    assert_eq!(outcome.verdict, Verdict::Transmit, "{packet:?}: {:?}", outcome.counted);
    Seen6::read(&outcome.frame.bytes)
}

/// Destination that a client's packet is sent to, of those behind direct routing.
fn sent_to(table: &Table, packet: &Packet6) -> u32 {
    let mac = sent(table, packet).destination_mac;
    (0..).find(|index| server_mac(*index) == mac).unwrap()
}
