//! A director over plain memory, and packets for it.

#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail loudly"
)]

pub mod full_nat;
pub mod packet;

use std::net::Ipv4Addr;

use elvs_common::{Counter, ICMP, NextHop, TCP, UDP};
use elvs_dataplane::{FakePlane, Load, MemoryFrame, Plane, Route};
use elvs_fastpath::Verdict;
use elvs_model::{
    Change, Destination, DestinationKey, ForwardingMethod, Protocol, Scheduler, ServiceKey, Table,
    VirtualService,
};

pub const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);
pub const NIC: u32 = 2;
pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const ACK: u8 = 0x10;

pub const WEB: ServiceKey = service(Protocol::Tcp, 80);
pub const DNS: ServiceKey = service(Protocol::Udp, 53);

pub const fn service(protocol: Protocol, port: u16) -> ServiceKey {
    ServiceKey::Address { protocol, address: std::net::IpAddr::V4(VIP), port }
}

pub const fn server(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

pub fn key(last: u8) -> DestinationKey {
    DestinationKey { address: server(last).into(), port: 80 }
}

pub fn destination(last: u8, weight: u32, method: ForwardingMethod) -> Destination {
    Destination { key: key(last), method, weight, upper_threshold: 0, lower_threshold: 0 }
}

pub fn apply(table: &mut Table, changes: impl IntoIterator<Item = Change>) {
    for change in changes {
        table.apply(&change).unwrap();
    }
}

pub fn add_service(key: ServiceKey, scheduler: Scheduler) -> Change {
    Change::AddService(VirtualService::new(key, scheduler))
}

pub fn add(service: ServiceKey, last: u8) -> Change {
    let destination = destination(last, 1, ForwardingMethod::Dr);
    Change::AddDestination { service, destination }
}

pub fn remove(service: ServiceKey, last: u8) -> Change {
    Change::DeleteDestination { service, destination: key(last) }
}

pub fn hop(last: u8) -> NextHop {
    NextHop::new([6, 0, 0, 0, 0, last], [2; 6], NIC)
}

/// A plane with a table in force, and routes to real servers 1 to 9.
pub fn plane(changes: impl IntoIterator<Item = Change>) -> (FakePlane, Table) {
    let mut plane = FakePlane::for_connections(256);
    for last in 1..10 {
        let route = Route { hop: Some(hop(last)), mtu: 1500, ..Route::default() };
        plane.set_route(server(last).into(), route);
    }
    let mut table = Table::new();
    apply(&mut table, changes);
    plane.install(&table).unwrap();
    (plane, table)
}

pub fn change(plane: &mut FakePlane, table: &mut Table, changes: impl IntoIterator<Item = Change>) {
    apply(table, changes);
    plane.install(table).unwrap();
}

pub fn frame(protocol: u8, source: (Ipv4Addr, u16), to: (Ipv4Addr, u16), flags: u8) -> MemoryFrame {
    let transport = if protocol == TCP { 20 } else { 8 };
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    bytes.extend([0x45, 0, 0, 20 + transport, 0, 1, 0x40, 0, 64, protocol, 0, 0]);
    bytes.extend(source.0.octets());
    bytes.extend(to.0.octets());
    bytes.extend(source.1.to_be_bytes());
    bytes.extend(to.1.to_be_bytes());
    if protocol == TCP {
        bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 2, 0, 0, 0, 0, 0]);
    } else {
        bytes.extend([0, 8, 0, 0]);
    }
    MemoryFrame::new(bytes, NIC)
}

/// Sends a segment to the web service; the real server it goes to, if it goes on.
pub fn tcp(plane: &FakePlane, port: u16, flags: u8) -> Result<u8, Verdict> {
    send(plane, frame(TCP, (CLIENT, port), (VIP, 80), flags))
}

pub fn udp(plane: &FakePlane, port: u16) -> Result<u8, Verdict> {
    send(plane, frame(UDP, (CLIENT, port), (VIP, 53), 0))
}

pub fn send(plane: &FakePlane, mut frame: MemoryFrame) -> Result<u8, Verdict> {
    match plane.process(&mut frame) {
        // An ICMP error to the client: the packet itself is gone.
        Verdict::Transmit if frame.bytes[23] == ICMP => Err(Verdict::Drop),
        Verdict::Transmit => Ok(frame.bytes[5]),
        verdict @ (Verdict::Pass | Verdict::Drop | Verdict::Redirect(_)) => Err(verdict),
    }
}

pub fn count(plane: &FakePlane, counter: Counter) -> u64 {
    plane.counters().unwrap().into_iter().find(|(c, _)| *c == counter).unwrap().1
}

pub fn load(plane: &FakePlane, service: ServiceKey, last: u8) -> (u32, u32) {
    let index = plane.destination_index(&service, &key(last)).unwrap();
    let Load { active, inactive } = plane.destination_load(index);
    (active, inactive)
}

/// Sweeps the whole table in slices; connections ended.
pub fn sweep(plane: &mut FakePlane) -> u64 {
    loop {
        if let Some(pass) = plane.sweep(16).pass {
            return pass.expired;
        }
    }
}
