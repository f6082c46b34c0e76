//! The SIP persistence engine over plain memory: what is listed of its templates, and how long they live.

#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "tests fail loudly"
)]

mod support;

use std::net::Ipv4Addr;

use elvs_common::{Counter, UDP};
use elvs_dataplane::{Backend, Connection, FakePlane, MemoryFrame, Plane};
use elvs_fastpath::Verdict;
use elvs_model::{
    Change, ConnectionState, ConnectionView, Destination, DestinationKey, ForwardingMethod,
    Netmask, Persistence, Protocol, Scheduler, ServiceKey, Table, Timeouts, VirtualService,
};
use support::*;

const SIP: ServiceKey = service(Protocol::Udp, 5060);
const OTHER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 77);

fn sip(timeout: u32, one_packet: bool) -> VirtualService {
    VirtualService {
        persistence: Some(Persistence { timeout }),
        netmask: Netmask::V4(0xffff_ff00),
        engine: Some("sip".to_owned()),
        one_packet,
        ..VirtualService::new(SIP, Scheduler::Rr)
    }
}

fn pool(timeout: u32, one_packet: bool) -> (FakePlane, Table) {
    plane([Change::AddService(sip(timeout, one_packet)), add(SIP, 1), add(SIP, 2), add(SIP, 3)])
}

/// A datagram to the service.
fn datagram(client: (Ipv4Addr, u16), payload: &[u8]) -> MemoryFrame {
    let mut frame = frame(UDP, client, (VIP, 5060), 0);
    frame.bytes.extend(payload);
    let length = (28 + payload.len()) as u16;
    frame.bytes[16..18].copy_from_slice(&length.to_be_bytes());
    frame.bytes[38..40].copy_from_slice(&(length - 20).to_be_bytes());
    frame
}

fn message(client: (Ipv4Addr, u16), call: &str) -> MemoryFrame {
    datagram(client, format!("INVITE x SIP/2.0\r\nCall-ID: {call}\r\n\r\n").as_bytes())
}

fn templates(plane: &FakePlane) -> Vec<Connection> {
    plane.connections().filter(|connection| connection.template).collect()
}

/// Sweeps often enough for a template to be found over, watched and ended, and for what is kept of it after that.
fn settle(plane: &mut FakePlane) {
    for _ in 0..6 {
        sweep(plane);
    }
}

fn kept(plane: &FakePlane) -> (usize, usize) {
    (plane.backend().calls().len(), plane.backend().callers().len())
}

#[test]
fn templates_are_listed_with_client_engine_and_call_id() {
    let (plane, _) = pool(60, true);
    let first = send(&plane, message((CLIENT, 5060), "one@h")).unwrap();
    assert_eq!(send(&plane, message((OTHER, 40_000), "one@h")), Ok(first));
    let shown = templates(&plane);
    assert_eq!(shown.len(), 1);
    let view = ConnectionView::from(shown[0].clone());
    assert_eq!(view.client.to_string(), "203.0.113.0:0");
    assert_eq!(view.service.to_string(), "192.0.2.10:5060");
    assert_eq!(view.destination.ip(), server(first));
    assert_eq!((view.protocol, view.state), (UDP, ConnectionState::None));
    assert_eq!(view.engine, Some(("sip".to_owned(), "one@h".to_owned())));
    assert_eq!(plane.connections().count(), 1, "every packet by itself");
    assert_eq!(send(&plane, datagram((CLIENT, 5060), b"keep alive")), Err(Verdict::Drop));
    assert_eq!(count(&plane, Counter::NoCallId), 1);
    let views = plane.service_views().unwrap();
    assert_eq!(views[0].destinations.iter().map(|view| view.persistent).sum::<u32>(), 1);
}

#[test]
fn a_template_that_is_over_leaves_nothing() {
    let (mut plane, _) = pool(60, true);
    let first = send(&plane, message((CLIENT, 5060), "one@h")).unwrap();
    settle(&mut plane);
    assert_eq!((templates(&plane).len(), kept(&plane)), (1, (1, 0)));
    plane.backend().advance_seconds(50);
    assert_eq!(send(&plane, message((CLIENT, 5060), "one@h")), Ok(first), "renewed");
    plane.backend().advance_seconds(50);
    settle(&mut plane);
    assert_eq!(templates(&plane).len(), 1);
    plane.backend().advance_seconds(20);
    settle(&mut plane);
    assert_eq!((templates(&plane).len(), kept(&plane)), (0, (0, 0)));
    assert_ne!(send(&plane, message((CLIENT, 5060), "one@h")), Ok(first), "the next turn");
}

#[test]
fn a_template_outlives_its_time_while_a_connection_is_of_its_call() {
    let (mut plane, mut table) = pool(60, false);
    change(
        &mut plane,
        &mut table,
        [Change::SetTimeouts(Timeouts { tcp: 0, tcp_fin: 0, udp: 900 })],
    );
    let first = send(&plane, message((CLIENT, 5060), "one@h")).unwrap();
    let second = send(&plane, message((CLIENT, 5061), "two@h")).unwrap();
    assert_ne!(first, second);
    assert_eq!(kept(&plane), (2, 2));
    for _ in 0..3 {
        // The one is kept alive without a word about its call, the other falls silent.
        plane.backend().advance_seconds(350);
        assert_eq!(send(&plane, datagram((CLIENT, 5060), b"\r\n\r\n")), Ok(first));
        settle(&mut plane);
    }
    let shown = templates(&plane);
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0].call_id.as_deref(), Some(&b"one@h"[..]));
    assert_eq!(shown[0].state, ConnectionState::None, "no answer passes the director");
    assert_eq!(kept(&plane), (1, 1));
    assert_eq!(send(&plane, message((OTHER, 1), "one@h")), Ok(first));
    for seconds in [2_000, 100] {
        plane.backend().advance_seconds(seconds);
        settle(&mut plane);
    }
    assert_eq!((plane.connections().count(), kept(&plane)), (0, (0, 0)));
    assert!(plane.recount().is_empty());
}

#[test]
fn an_engine_that_is_taken_away_leaves_the_clients_templates() {
    let (mut plane, mut table) = pool(60, true);
    send(&plane, message((CLIENT, 5060), "one@h")).unwrap();
    let plain = VirtualService { engine: None, ..sip(60, true) };
    change(&mut plane, &mut table, [Change::EditService(plain)]);
    let first = send(&plane, datagram((CLIENT, 5060), b"no call")).unwrap();
    assert_eq!(send(&plane, message((OTHER, 1), "two@h")), Ok(first));
    let mut shown: Vec<_> = templates(&plane)
        .into_iter()
        .map(|t| (t.client.to_string(), t.call_id.is_some()))
        .collect();
    shown.sort();
    let network = "203.0.113.0:0".to_owned();
    assert_eq!(shown, [(network.clone(), false), (network, true)]);
}

#[test]
fn without_persistence_the_engine_is_not_asked() {
    let service = VirtualService { persistence: None, ..sip(60, false) };
    let (plane, _) = plane([Change::AddService(service), add(SIP, 1)]);
    assert_eq!(send(&plane, datagram((CLIENT, 5060), b"no call")), Ok(1));
    assert_eq!(templates(&plane).len(), 0);
}

/// As [`add`], by NAT, on a port of its own.
fn add_masqueraded(last: u8) -> Change {
    let key = DestinationKey { address: server(last).into(), port: 5_080 };
    let destination = Destination { key, ..destination(last, 1, ForwardingMethod::Nat) };
    Change::AddDestination { service: SIP, destination }
}

#[test]
fn real_servers_behind_nat_begin_calls_from_the_virtual_address() {
    for one_packet in [false, true] {
        let service = Change::AddService(sip(60, one_packet));
        let (plane, _) = plane([service, add_masqueraded(1), add_masqueraded(2)]);
        // The client's own message says where it is.
        let first = send(&plane, message((CLIENT, 5060), "one@h")).unwrap();
        let other = 3 - first;
        let mut own = message((CLIENT, 5060), "own@h");
        own.bytes[26..30].copy_from_slice(&server(other).octets());
        own.bytes[30..34].copy_from_slice(&CLIENT.octets());
        own.bytes[34..38].copy_from_slice(&[0x13, 0xd8, 0x1b, 0x58]);
        let mut foreign = own.clone();
        foreign.bytes[35] -= 1;
        assert_eq!(plane.process(&mut foreign), Verdict::Pass, "another port");
        assert_eq!(plane.process(&mut own), Verdict::Transmit);
        assert_eq!(own.bytes[26..30], VIP.octets());
        assert_eq!(own.bytes[34..38], [0x13, 0xc4, 0x1b, 0x58], "from 5060 to 7000");
        assert_eq!(send(&plane, message((OTHER, 9), "own@h")), Ok(other));
        let connections = plane.connections().filter(|connection| !connection.template).count();
        assert_eq!(connections, if one_packet { 0 } else { 3 });
        assert_eq!(templates(&plane).len(), 2);
        assert!(plane.recount().is_empty());
    }
}
