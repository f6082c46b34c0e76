//! Services by full NAT: who has which local address, and what becomes of its ports.

#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "tests fail loudly"
)]

mod support;

use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;

use elvs_common::{Method, TCP, UDP, WideAddress};
use elvs_dataplane::{Backend, FakePlane, InstallError, MemoryFrame, Plane};
use elvs_fastpath::{Verdict, WideMemory};
use elvs_model::{Change, ForwardingMethod, LocalAddressView, Scheduler, ServiceKey, Table};
use support::{
    ACK, CLIENT, DNS, SYN, VIP, WEB, add_service, change, destination, frame, plane, remove,
    server, sweep,
};

const LOCAL: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 200);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 201);
const PORTS: u32 = 64_512;

fn local(service: ServiceKey, address: Ipv4Addr) -> Change {
    Change::AddLocalAddress { service, address: address.into() }
}

fn without(service: ServiceKey, address: Ipv4Addr) -> Change {
    Change::DeleteLocalAddress { service, address: address.into() }
}

fn add(service: ServiceKey, last: u8) -> Change {
    let destination = destination(last, 1, ForwardingMethod::FullNat);
    Change::AddDestination { service, destination }
}

fn web() -> (FakePlane, Table) {
    plane([add_service(WEB, Scheduler::Rr), local(WEB, LOCAL), add(WEB, 1)])
}

fn views(plane: &FakePlane) -> Vec<LocalAddressView> {
    plane.service_views().unwrap().remove(0).local_addresses
}

fn in_use(plane: &FakePlane) -> u32 {
    views(plane)[0].in_use
}

/// Addresses and ports of a frame.
fn ends(frame: &MemoryFrame) -> ((Ipv4Addr, u16), (Ipv4Addr, u16)) {
    let address = |at: usize| Ipv4Addr::from_octets(frame.bytes[at..at + 4].try_into().unwrap());
    let port = |at: usize| u16::from_be_bytes(frame.bytes[at..at + 2].try_into().unwrap());
    ((address(26), port(34)), (address(30), port(36)))
}

/// Opens a connection; the local port it got.
fn open(plane: &FakePlane, port: u16) -> u16 {
    let mut syn = frame(TCP, (CLIENT, port), (VIP, 80), SYN);
    assert_eq!(plane.process(&mut syn), Verdict::Transmit);
    let ((source, local_port), to) = ends(&syn);
    assert_eq!((source, to), (LOCAL, (server(1), 80)));
    local_port
}

#[test]
fn both_ends_are_rewritten_and_replies_find_back() {
    let (plane, _) = web();
    assert_eq!(in_use(&plane), 0);
    let port = open(&plane, 4_000);
    assert!(port >= 1_024);
    assert_eq!(in_use(&plane), 1);
    let (mut ask, client) = (frame(TCP, (CLIENT, 4_000), (VIP, 80), ACK), (CLIENT, 4_000));
    let mut answer = frame(TCP, (server(1), 80), (LOCAL, port), SYN | ACK);
    assert_eq!(plane.process(&mut answer), Verdict::Transmit);
    assert_eq!(ends(&answer), ((VIP, 80), client));
    assert_eq!(plane.process(&mut ask), Verdict::Transmit);
    assert_eq!(ends(&ask), ((LOCAL, port), (server(1), 80)));
    let connections: Vec<_> = plane.connections().collect();
    let [connection] = connections.as_slice() else { panic!("{connections:?}") };
    assert_eq!((connection.client, connection.service), (client.into(), (VIP, 80).into()));
    assert_eq!(connection.destination, (server(1), 80).into());
}

#[test]
fn a_connection_that_expires_gives_its_port_back_once() {
    let (mut plane, _) = web();
    let ports = [open(&plane, 4_000), open(&plane, 4_001)];
    assert_ne!(ports[0], ports[1]);
    assert_eq!(in_use(&plane), 2);
    plane.backend().advance_seconds(3_600);
    assert_eq!(sweep(&mut plane), 2);
    assert_eq!((in_use(&plane), views(&plane)[0].free), (0, PORTS));
    assert_eq!(sweep(&mut plane), 0);
    assert_eq!((in_use(&plane), views(&plane)[0].free), (0, PORTS));
    assert!(plane.recount().is_empty());
}

#[test]
fn a_removed_local_address_keeps_its_index_until_its_ports_are_free() {
    let (mut plane, mut table) = web();
    let port = open(&plane, 4_000);
    change(&mut plane, &mut table, [local(WEB, OTHER), without(WEB, LOCAL)]);
    let index = |plane: &FakePlane, address: Ipv4Addr| {
        let mut locals = plane.assignments().locals();
        locals.find(|(found, _)| *found == address).map(|(_, slot)| (slot.index, slot.present))
    };
    assert_eq!(index(&plane, LOCAL), Some((0, false)));
    assert_eq!(index(&plane, OTHER), Some((1, true)));
    // Its connection goes on.
    let mut answer = frame(TCP, (server(1), 80), (LOCAL, port), SYN | ACK);
    assert_eq!(plane.process(&mut answer), Verdict::Transmit);
    assert_eq!(ends(&answer).0, (VIP, 80));
    plane.collect().unwrap();
    assert_eq!(index(&plane, LOCAL), Some((0, false)));
    plane.backend().advance_seconds(3_600);
    assert_eq!(sweep(&mut plane), 1);
    assert_eq!(plane.collect().unwrap(), 1);
    assert_eq!(index(&plane, LOCAL), None);
    let third = Ipv4Addr::new(10, 0, 0, 202);
    change(&mut plane, &mut table, [local(WEB, third)]);
    assert_eq!(index(&plane, third), Some((0, true)), "the index is given anew");
    let record = plane.backend().wide().local(0).unwrap();
    let words = record.address.each_ref().map(|word| word.load(Ordering::Relaxed));
    assert_eq!(words, WideAddress::of_v4(u32::from_ne_bytes(third.octets())).0);
}

#[test]
fn more_local_addresses_than_there_is_room_for_are_refused_by_keyword() {
    let (mut plane, mut table) = web();
    let more = [OTHER, Ipv4Addr::new(10, 0, 0, 202)].map(|address| local(WEB, address));
    support::apply(&mut table, more);
    let Err(error @ InstallError::Assign(_)) = plane.install(&table) else { panic!("installed") };
    let text = error.to_string();
    for part in ["local address 10.0.0.202", "2 are in use", "`local_addresses`", "1 MiB"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(views(&plane).len(), 1, "what was in force stays");
}

#[test]
fn services_share_an_address_and_take_no_port_twice() {
    let (plane, _) = plane([
        add_service(WEB, Scheduler::Rr),
        local(WEB, LOCAL),
        add(WEB, 1),
        add_service(DNS, Scheduler::Rr),
        local(DNS, LOCAL),
        add(DNS, 1),
    ]);
    let port = open(&plane, 4_000);
    let mut query = frame(UDP, (CLIENT, 4_000), (VIP, 53), 0);
    assert_eq!(plane.process(&mut query), Verdict::Transmit);
    let ((source, other), to) = ends(&query);
    assert_eq!((source, to), (LOCAL, (server(1), 80)));
    assert_ne!(port, other);
    assert_eq!(in_use(&plane), 2);
}

#[test]
fn a_service_by_another_method_shares_the_virtual_address() {
    let nat = destination(1, 1, ForwardingMethod::Nat);
    let (plane, _) = plane([
        add_service(WEB, Scheduler::Rr),
        local(WEB, LOCAL),
        add(WEB, 1),
        add_service(DNS, Scheduler::Rr),
        Change::AddDestination { service: DNS, destination: nat },
    ]);
    open(&plane, 4_000);
    let mut query = frame(UDP, (CLIENT, 4_000), (VIP, 53), 0);
    assert_eq!(plane.process(&mut query), Verdict::Transmit);
    assert_eq!(ends(&query), ((CLIENT, 4_000), (server(1), 80)));
    let mut answer = frame(UDP, (server(1), 80), (CLIENT, 4_000), 0);
    assert_eq!(plane.process(&mut answer), Verdict::Transmit);
    assert_eq!(ends(&answer), ((VIP, 53), (CLIENT, 4_000)));
    assert_eq!(in_use(&plane), 1);
}

#[test]
fn a_service_goes_over_to_full_nat_for_new_connections() {
    let nat = destination(1, 1, ForwardingMethod::Nat);
    let (mut plane, mut table) = plane([
        add_service(WEB, Scheduler::Rr),
        Change::AddDestination { service: WEB, destination: nat },
    ]);
    let mut syn = frame(TCP, (CLIENT, 4_000), (VIP, 80), SYN);
    assert_eq!(plane.process(&mut syn), Verdict::Transmit);
    assert_eq!(ends(&syn).0, (CLIENT, 4_000));
    change(&mut plane, &mut table, [remove(WEB, 1), local(WEB, LOCAL), add(WEB, 1)]);
    open(&plane, 4_001);
    let index = plane.destination_index(&WEB, &support::key(1)).unwrap();
    assert_eq!(plane.backend().record(index).unwrap().method, Method::FullNat as u32);
    assert_eq!(support::load(&plane, WEB, 1).0 + support::load(&plane, WEB, 1).1, 2);
}

#[test]
fn the_next_daemon_leaves_rings_in_use_as_they_are() {
    let (mut plane, table) = web();
    open(&plane, 4_000);
    plane.install(&table).unwrap();
    assert_eq!(in_use(&plane), 1, "an address that has its index is not filled again");
}
