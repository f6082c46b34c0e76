//! Persistence, services on all ports, one-packet scheduling and connection thresholds over plain memory: who gets a
//! connection, and how long that is remembered.

#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "tests fail loudly"
)]

mod support;

use std::net::{IpAddr, Ipv4Addr};

use std::sync::atomic::Ordering;

use elvs_common::{Control, Counter, TCP, UDP};
use elvs_dataplane::{FakePlane, Plane};
use elvs_fastpath::{FlowMemory, Verdict};
use elvs_model::{
    Change, ConnectionState, Destination, DestinationKey, Family, ForwardingMethod, Netmask,
    Persistence, Protocol, Scheduler, ServiceKey, Setting, Table, VirtualService,
};
use support::*;

const OTHER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 77);
const STRANGER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 5);

/// A persistent service on a key, of a scheduler that takes turns.
fn persistent(key: ServiceKey, timeout: u32, mask: u32) -> Change {
    let service = VirtualService::new(key, Scheduler::Rr);
    let persistence = Some(Persistence { timeout });
    Change::AddService(VirtualService { persistence, netmask: Netmask::V4(mask), ..service })
}

fn connect(plane: &FakePlane, client: (Ipv4Addr, u16), port: u16) -> Result<u8, Verdict> {
    send(plane, frame(TCP, client, (VIP, port), SYN))
}

/// Sweeps often enough for a template to be found over, watched and ended.
fn settle(plane: &mut FakePlane) {
    for _ in 0..4 {
        sweep(plane);
    }
}

fn templates(plane: &FakePlane) -> usize {
    plane.connections().filter(|connection| connection.template).count()
}

fn with_thresholds(last: u8, upper: u32, lower: u32) -> Destination {
    Destination {
        upper_threshold: upper,
        lower_threshold: lower,
        ..destination(last, 1, ForwardingMethod::Dr)
    }
}

fn add_limited(last: u8, upper: u32, lower: u32) -> Change {
    Change::AddDestination { service: WEB, destination: with_thresholds(last, upper, lower) }
}

fn edit_limited(last: u8, upper: u32, lower: u32) -> Change {
    Change::EditDestination { service: WEB, destination: with_thresholds(last, upper, lower) }
}

#[test]
fn clients_of_one_network_share_a_template_and_others_do_not() {
    let changes = [persistent(WEB, 300, 0xffff_ff00), add(WEB, 1), add(WEB, 2), add(WEB, 3)];
    let (mut plane, _) = plane(changes);
    let first = connect(&plane, (CLIENT, 1), 80).unwrap();
    for port in 2..9 {
        assert_eq!(connect(&plane, (CLIENT, port), 80), Ok(first));
        assert_eq!(connect(&plane, (OTHER, port), 80), Ok(first));
    }
    assert_ne!(connect(&plane, (STRANGER, 1), 80), Ok(first));
    let shown: Vec<_> = plane.connections().filter(|connection| connection.template).collect();
    assert_eq!(shown.len(), 2);
    let shown = shown.iter().find(|template| template.destination.ip() == server(first)).unwrap();
    assert_eq!(shown.client.to_string(), "203.0.113.0:0");
    assert_eq!(shown.service.to_string(), "192.0.2.10:80");
    assert_eq!((shown.protocol, shown.state, shown.expires_s), (TCP, ConnectionState::None, 300));
    let views = plane.service_views().unwrap();
    let counted: Vec<_> = views[0].destinations.iter().map(|view| view.persistent).collect();
    assert_eq!(counted.iter().sum::<u32>(), 2);
    // It is assured once a connection of it was established.
    assert_eq!(send(&plane, frame(TCP, (CLIENT, 1), (VIP, 80), ACK)), Ok(first));
    sweep(&mut plane);
    let states = |plane: &FakePlane| {
        let templates = plane.connections().filter(|connection| connection.template);
        templates.map(|template| (template.client.ip(), template.state)).collect::<Vec<_>>()
    };
    let mut shown = states(&plane);
    shown.sort_by_key(|(client, _)| *client);
    let network = |address: [u8; 4]| IpAddr::from(address);
    assert_eq!(
        shown,
        [
            (network([198, 51, 100, 0]), ConnectionState::None),
            (network([203, 0, 113, 0]), ConnectionState::Assured),
        ]
    );
    // Templates are no connections.
    assert_eq!(plane.live_connections(), 16);
    assert!(plane.recount().is_empty());
    assert_eq!(sweep(&mut plane), 0);
}

#[test]
fn a_template_outlives_its_time_only_while_it_has_connections() {
    let (mut plane, _) = plane([persistent(WEB, 100, u32::MAX), add(WEB, 1), add(WEB, 2)]);
    let first = connect(&plane, (CLIENT, 1), 80).unwrap();
    assert_eq!(send(&plane, frame(TCP, (CLIENT, 1), (VIP, 80), ACK)), Ok(first));
    for _ in 0..5 {
        plane.backend().advance_seconds(130);
        settle(&mut plane);
        assert_eq!(templates(&plane), 1, "the connection is still there");
    }
    // A further connection renews it, as all it has from then on for a minute.
    assert_eq!(connect(&plane, (CLIENT, 2), 80), Ok(first));
    // A tick may have begun a little before its packet.
    let left = plane.connections().find(|c| c.template).unwrap().expires_s;
    assert!((59..=60).contains(&left), "{left}");
    plane.backend().advance_seconds(1_000);
    settle(&mut plane);
    assert_eq!((plane.live_connections(), templates(&plane)), (0, 0));
    assert_ne!(connect(&plane, (CLIENT, 1), 80), Ok(first), "the scheduler's next turn");
}

#[test]
fn a_template_of_udp_is_assured_if_answers_pass_the_director() {
    for (method, state) in [
        (ForwardingMethod::Nat, ConnectionState::Assured),
        (ForwardingMethod::Dr, ConnectionState::None),
    ] {
        let destination = destination(1, 1, method);
        let added = Change::AddDestination { service: DNS, destination };
        let (mut plane, _) = plane([persistent(DNS, 300, u32::MAX), added]);
        assert_eq!(udp(&plane, 1), Ok(1));
        sweep(&mut plane);
        assert_eq!(plane.connections().find(|c| c.template).unwrap().state, state);
    }
}

#[test]
fn a_template_of_a_short_time_that_was_prolonged_lives_for_a_minute() {
    let (mut plane, _) = plane([persistent(DNS, 10, u32::MAX), add(DNS, 1), add(DNS, 2)]);
    let first = udp(&plane, 1).unwrap();
    // Until its flow is over, after 300 seconds, it is prolonged by whole minutes: to the 310th.
    for _ in 0..31 {
        plane.backend().advance_seconds(10);
        settle(&mut plane);
    }
    assert_eq!((plane.live_connections(), templates(&plane)), (0, 1), "310 seconds");
    plane.backend().advance_seconds(1);
    settle(&mut plane);
    assert_eq!(templates(&plane), 0);
    let second = udp(&plane, 2).unwrap();
    assert_ne!(second, first, "the scheduler's next turn");
    plane.backend().advance_seconds(11);
    settle(&mut plane);
    plane.backend().advance_seconds(55);
    settle(&mut plane);
    assert_eq!(templates(&plane), 1, "66 of its 70 seconds");
}

#[test]
fn expire_nodest_conn_ends_connections_and_templates_of_removed_destinations_without_a_packet() {
    let (mut plane, mut table) = plane([
        set("expire_nodest_conn", "1"),
        persistent(WEB, 300, u32::MAX),
        add(WEB, 1),
        add(WEB, 2),
    ]);
    for (client, last) in [(CLIENT, 2), (STRANGER, 1)] {
        assert_eq!(connect(&plane, (client, 1), 80), Ok(last));
        assert_eq!(send(&plane, frame(TCP, (client, 1), (VIP, 80), ACK)), Ok(last));
    }
    change(&mut plane, &mut table, [remove(WEB, 2)]);
    assert_eq!(sweep(&mut plane), 2, "a connection and its template");
    change(&mut plane, &mut table, [add(WEB, 2)]);
    assert_eq!((load(&plane, WEB, 1), load(&plane, WEB, 2)), ((1, 0), (0, 0)));
    assert_eq!(templates(&plane), 1);
    assert!(plane.recount().is_empty());
    // Without it they stay for the time that the destination is away.
    change(&mut plane, &mut table, [set("expire_nodest_conn", "0"), remove(WEB, 1)]);
    assert_eq!(sweep(&mut plane), 0);
}

#[test]
fn a_template_without_connections_ends_in_time() {
    let (mut plane, _) = plane([persistent(WEB, 400, u32::MAX), add(WEB, 1)]);
    connect(&plane, (CLIENT, 1), 80).unwrap();
    plane.backend().advance_seconds(399);
    settle(&mut plane);
    assert_eq!((plane.live_connections(), templates(&plane)), (0, 1));
    plane.backend().advance_seconds(2);
    settle(&mut plane);
    assert_eq!(templates(&plane), 0);
}

#[test]
fn a_quiesced_server_keeps_its_clients_and_a_removed_one_loses_them() {
    let (mut plane, mut table) = plane([persistent(WEB, 300, u32::MAX), add(WEB, 1), add(WEB, 2)]);
    let first = connect(&plane, (CLIENT, 1), 80).unwrap();
    let quiesced = destination(first, 0, ForwardingMethod::Dr);
    let quiesce = Change::EditDestination { service: WEB, destination: quiesced };
    change(&mut plane, &mut table, [quiesce]);
    assert_eq!(connect(&plane, (CLIENT, 2), 80), Ok(first));
    change(&mut plane, &mut table, [remove(WEB, first)]);
    let second = connect(&plane, (CLIENT, 3), 80).unwrap();
    assert_ne!(second, first);
    assert_eq!(count(&plane, Counter::TemplateReplaced), 1);
    assert_eq!(connect(&plane, (CLIENT, 4), 80), Ok(second));
    assert_eq!(templates(&plane), 1);
}

#[test]
fn an_index_is_not_given_up_while_a_template_names_it() {
    let (mut plane, mut table) =
        plane([persistent(WEB, 2_000, u32::MAX), add(WEB, 1), add(WEB, 2)]);
    let first = connect(&plane, (CLIENT, 1), 80).unwrap();
    change(&mut plane, &mut table, [remove(WEB, first)]);
    for _ in 0..5 {
        plane.backend().advance_seconds(200);
        settle(&mut plane);
        assert_eq!(plane.collect().unwrap(), 0);
    }
    assert_eq!(templates(&plane), 1);
    plane.backend().advance_seconds(1_100);
    settle(&mut plane);
    assert_eq!((templates(&plane), plane.collect().unwrap()), (0, 0));
    plane.backend().advance_seconds(200);
    assert_eq!(plane.collect().unwrap(), 1);
}

#[test]
fn a_service_on_all_ports_takes_those_that_no_other_service_has() {
    let every = service(Protocol::Tcp, 0);
    let nat = Change::AddDestination {
        service: every,
        destination: Destination {
            key: DestinationKey { address: server(3).into(), port: 0 },
            ..destination(3, 1, ForwardingMethod::Nat)
        },
    };
    let (plane, _) = plane([
        persistent(every, 300, u32::MAX),
        nat,
        add_service(WEB, Scheduler::Rr),
        add(WEB, 1),
    ]);
    assert_eq!(connect(&plane, (CLIENT, 1), 80), Ok(1));
    for port in [21, 22, 8_080, 65_535] {
        let mut sent = frame(TCP, (CLIENT, 2), (VIP, port), SYN);
        assert_eq!(plane.process(&mut sent), Verdict::Transmit, "{port}");
        assert_eq!(sent.bytes[30..34], server(3).octets());
        assert_eq!(sent.bytes[36..38], port.to_be_bytes(), "masquerading keeps the port");
        // And its reply finds the way back.
        let mut reply = frame(TCP, (server(3), port), (CLIENT, 2), SYN | ACK);
        assert_eq!(plane.process(&mut reply), Verdict::Transmit, "{port}");
        assert_eq!(reply.bytes[26..30], VIP.octets());
        assert_eq!(reply.bytes[34..36], port.to_be_bytes());
        let shown = plane.connections().find(|c| c.service.port() == port).unwrap();
        assert_eq!(shown.destination.port(), port);
    }
    assert_eq!(templates(&plane), 1, "all ports share it");
    assert_eq!(send(&plane, frame(UDP, (CLIENT, 2), (VIP, 53), 0)), Err(Verdict::Pass));
}

#[test]
fn one_packet_services_remember_nothing_and_schedule_every_packet() {
    let service = VirtualService::new(DNS, Scheduler::Rr);
    let once = Change::AddService(VirtualService { one_packet: true, ..service });
    let (mut plane, mut table) = plane([once, add(DNS, 1), add(DNS, 2)]);
    let picks: Vec<_> = (0..4).map(|_| udp(&plane, 5).unwrap()).collect();
    assert_eq!(picks, [2, 1, 2, 1]);
    assert_eq!(plane.connections().count(), 0);
    let statistics = plane.service_statistics(&DNS).unwrap();
    assert_eq!((statistics.connections, statistics.in_packets), (4, 4));
    // Also where the scheduler remembers the address.
    for scheduler in [Scheduler::Lblc, Scheduler::Lblcr] {
        let service = VirtualService { one_packet: true, ..VirtualService::new(DNS, scheduler) };
        change(&mut plane, &mut table, [Change::EditService(service)]);
        let first = udp(&plane, 5).unwrap();
        assert_eq!((udp(&plane, 5), udp(&plane, 6)), (Ok(first), Ok(first)), "{scheduler}");
        assert_eq!(plane.connections().count(), 0, "{scheduler}");
    }
    let edited = VirtualService::new(DNS, Scheduler::Rr);
    change(&mut plane, &mut table, [Change::EditService(edited)]);
    assert_eq!(udp(&plane, 5), Ok(2), "the scheduler begins at the head");
    assert_eq!(udp(&plane, 5), Ok(2));
    assert_eq!(plane.connections().count(), 1);
}

#[test]
fn thresholds_close_and_open_a_server_as_ipvs_does() {
    // (lower threshold, connections at which it opens again)
    for (lower, opens_at) in [(0, 2), (2, 1), (3, 2)] {
        let (mut plane, _) = plane([add_service(WEB, Scheduler::Rr), add_limited(1, 4, lower)]);
        for port in 0..4 {
            assert_eq!(connect(&plane, (CLIENT, port), 80), Ok(1));
            plane.backend().advance_seconds(5);
        }
        assert_eq!(connect(&plane, (CLIENT, 10), 80), Err(Verdict::Drop));
        assert_eq!(count(&plane, Counter::NoDestination), 1);
        // Half-open connections expire one by one.
        plane.backend().advance_seconds(43);
        for left in (0..4).rev() {
            assert_eq!(sweep(&mut plane), 1, "lower {lower}, {left} left");
            assert_eq!(load(&plane, WEB, 1), (left, 0));
            let open = left <= opens_at;
            let expected = if open { Ok(1) } else { Err(Verdict::Drop) };
            // A datagram's worth of asking: the connection goes away again at once.
            assert_eq!(connect(&plane, (STRANGER, left as u16), 80), expected, "{lower} {left}");
            if open {
                break;
            }
            plane.backend().advance_seconds(5);
        }
        assert!(plane.recount().is_empty());
    }
}

#[test]
fn a_higher_threshold_opens_a_server_at_once_and_a_lower_one_waits() {
    let (mut plane, mut table) =
        plane([add_service(WEB, Scheduler::Wlc), add_limited(1, 2, 0), add_limited(2, 0, 0)]);
    change(&mut plane, &mut table, [remove(WEB, 2)]);
    for port in 0..2 {
        assert_eq!(connect(&plane, (CLIENT, port), 80), Ok(1));
    }
    assert_eq!(connect(&plane, (CLIENT, 2), 80), Err(Verdict::Drop));
    change(&mut plane, &mut table, [edit_limited(1, 2, 1)]);
    assert_eq!(connect(&plane, (CLIENT, 2), 80), Err(Verdict::Drop), "not more room than before");
    change(&mut plane, &mut table, [edit_limited(1, 3, 0)]);
    assert_eq!(connect(&plane, (CLIENT, 2), 80), Ok(1));
    assert_eq!(connect(&plane, (CLIENT, 3), 80), Err(Verdict::Drop));
    change(&mut plane, &mut table, [edit_limited(1, 0, 0)]);
    assert_eq!(connect(&plane, (CLIENT, 3), 80), Ok(1));
    assert_eq!(load(&plane, WEB, 1), (4, 0));
}

#[test]
fn a_table_in_force_forgets_no_template_when_it_changes() {
    let (mut plane, mut table) = plane([persistent(WEB, 300, u32::MAX), add(WEB, 1), add(WEB, 2)]);
    let mut homes = Vec::new();
    for client in 1..40 {
        let address = Ipv4Addr::new(198, 51, 100, client);
        homes.push((address, connect(&plane, (address, 1), 80).unwrap()));
    }
    for last in 3..9 {
        change(&mut plane, &mut table, [add(WEB, last)]);
        for (address, home) in &homes {
            assert_eq!(connect(&plane, (*address, u16::from(last)), 80), Ok(*home));
        }
    }
    assert_eq!(table, *(plane.table() as &Table));
}

const MARKED: ServiceKey = ServiceKey::Fwmark { mark: 7, family: Family::Inet };

fn mark(rule: &str) -> Change {
    Change::AddMark(rule.parse().unwrap())
}

fn add_portless(service: ServiceKey, last: u8, method: ForwardingMethod) -> Change {
    let key = DestinationKey { address: server(last).into(), port: 0 };
    let destination = Destination { key, ..destination(last, 1, method) };
    Change::AddDestination { service, destination }
}

#[test]
fn a_mark_gathers_addresses_ports_and_protocols_in_one_service() {
    let (mut plane, mut table) = plane([
        mark("--destination 192.0.2.10 --protocol tcp --destination-port 80:443 --mark 7"),
        mark("--destination 192.0.2.10 --protocol udp --mark 7"),
        mark("--source 198.51.100.0/24 --interface eth9 --mark 7"),
        add_service(MARKED, Scheduler::Rr),
        add_portless(MARKED, 1, ForwardingMethod::Dr),
        add_portless(MARKED, 2, ForwardingMethod::Nat),
        // The mark comes before the address and port.
        add_service(WEB, Scheduler::Rr),
        add(WEB, 3),
    ]);
    let turns: Vec<_> = [80, 443, 81].map(|port| connect(&plane, (CLIENT, port), port)).into();
    assert_eq!(turns, [Ok(2), Ok(1), Ok(2)]);
    assert_eq!(udp(&plane, 5), Ok(1));
    assert_eq!(connect(&plane, (CLIENT, 1), 444), Err(Verdict::Pass), "outside the range");
    let mut reply = frame(TCP, (server(2), 81), (CLIENT, 81), SYN | ACK);
    assert_eq!(plane.process(&mut reply), Verdict::Transmit);
    assert_eq!(reply.bytes[26..30], VIP.octets());
    // A rule of an interface that does not exist fits nothing, until there is one of that name.
    assert_eq!(connect(&plane, (STRANGER, 1), 444), Err(Verdict::Pass));
    plane.set_interfaces([("eth9".to_owned(), NIC)].into()).unwrap();
    assert!(connect(&plane, (STRANGER, 1), 444).is_ok());
    assert_eq!(connect(&plane, (CLIENT, 1), 444), Err(Verdict::Pass));
    // Without the rules, known connections go on and new ones are the other service's.
    let rules: Vec<_> = table.marks().iter().cloned().map(Change::DeleteMark).collect();
    change(&mut plane, &mut table, rules);
    assert_eq!(send(&plane, frame(TCP, (CLIENT, 443), (VIP, 443), ACK)), Ok(1));
    assert!(send(&plane, frame(TCP, (STRANGER, 1), (VIP, 444), ACK)).is_ok());
    assert_eq!(connect(&plane, (CLIENT, 2), 80), Ok(3));
}

#[test]
fn persistence_by_mark_is_one_template_for_all_its_addresses_and_ports() {
    let (mut plane, _) = plane([
        mark("--destination 192.0.2.0/24 --mark 7"),
        persistent(MARKED, 60, u32::MAX),
        add_portless(MARKED, 1, ForwardingMethod::Dr),
        add_portless(MARKED, 2, ForwardingMethod::Dr),
    ]);
    let first = connect(&plane, (CLIENT, 1), 80).unwrap();
    for (to, port) in [(VIP, 443), (Ipv4Addr::new(192, 0, 2, 99), 21)] {
        assert_eq!(send(&plane, frame(TCP, (CLIENT, 2), (to, port), SYN)), Ok(first));
    }
    assert_eq!(udp(&plane, 5), Ok(first));
    let shown: Vec<_> = plane.connections().filter(|connection| connection.template).collect();
    assert_eq!(shown.len(), 1);
    assert_eq!((shown[0].protocol, shown[0].service.to_string().as_str()), (0, "0.0.0.7:0"));
    // It lives as long as the longest of its connections, UDP's five minutes.
    plane.backend().advance_seconds(200);
    settle(&mut plane);
    assert_eq!(templates(&plane), 1);
    plane.backend().advance_seconds(200);
    settle(&mut plane);
    assert_eq!(templates(&plane), 0);
}

#[test]
fn what_locality_remembers_is_no_connection_and_ends_with_its_destination() {
    for scheduler in [Scheduler::Lblc, Scheduler::Lblcr] {
        let (mut plane, mut table) =
            plane([add_service(WEB, scheduler), add(WEB, 1), add(WEB, 2), add(WEB, 3)]);
        let first = connect(&plane, (CLIENT, 1), 80).unwrap();
        assert_eq!(connect(&plane, (CLIENT, 2), 80), Ok(first));
        assert_eq!(plane.connections().count(), 2, "{scheduler}");
        assert_eq!(plane.live_connections(), 2);
        assert!(plane.recount().is_empty());
        assert_eq!(sweep(&mut plane), 0);
        change(&mut plane, &mut table, [remove(WEB, first)]);
        let second = connect(&plane, (CLIENT, 3), 80).unwrap();
        assert_ne!(second, first);
        assert_eq!(connect(&plane, (CLIENT, 4), 80), Ok(second));
        // Half a day later it still is so; a day after the last use it is forgotten.
        plane.backend().advance_seconds(43_000);
        settle(&mut plane);
        assert_eq!(connect(&plane, (CLIENT, 5), 80), Ok(second));
        plane.backend().advance_seconds(86_500);
        settle(&mut plane);
        let entries: usize = (0..plane.table_buckets())
            .filter_map(|index| plane.backend().bucket(index))
            .flat_map(|bucket| &bucket.slots)
            .filter(|slot| Control(slot.control.load(Ordering::Relaxed)).is_live())
            .count();
        assert_eq!(entries, 0, "{scheduler}");
    }
}

#[test]
fn what_locality_remembers_of_a_destination_holds_when_it_is_back() {
    for scheduler in [Scheduler::Lblc, Scheduler::Lblcr] {
        let (mut plane, mut table) =
            plane([add_service(WEB, scheduler), add(WEB, 1), add(WEB, 2), add(WEB, 3)]);
        let first = connect(&plane, (CLIENT, 1), 80).unwrap();
        change(&mut plane, &mut table, [remove(WEB, first)]);
        // Its connection is over long before, and its index is kept for what is remembered.
        plane.backend().advance_seconds(43_000);
        settle(&mut plane);
        assert_eq!(plane.connections().count(), 0, "{scheduler}");
        assert_eq!(plane.collect().unwrap(), 0, "{scheduler}");
        plane.backend().advance_seconds(200);
        assert_eq!(plane.collect().unwrap(), 0, "{scheduler}");
        // Who knew nothing of the address would choose the newest of equals.
        change(&mut plane, &mut table, [add(WEB, first), add(WEB, 4)]);
        for port in 2..4 {
            assert_eq!(connect(&plane, (CLIENT, port), 80), Ok(first), "{scheduler}");
        }
        // With its service goes what that remembered.
        let others = (1..=3).map(|last| add(WEB, last));
        change(&mut plane, &mut table, [Change::DeleteService(WEB)]);
        plane.backend().advance_seconds(1_000);
        settle(&mut plane);
        change(&mut plane, &mut table, [add_service(WEB, scheduler)]);
        change(&mut plane, &mut table, others);
        let third = connect(&plane, (CLIENT, 1), 80).unwrap();
        assert_eq!(third, 3, "{scheduler}: the newest of equals");
    }
}

fn set(name: &str, value: &str) -> Change {
    let setting: Setting = name.parse().unwrap();
    Change::Set { setting, value: setting.value(value).unwrap() }
}

#[test]
fn sloppy_tcp_lets_any_segment_but_a_reset_open_a_connection() {
    let (mut plane, mut table) = plane([add_service(WEB, Scheduler::Rr), add(WEB, 1)]);
    assert_eq!(tcp(&plane, 1, ACK), Err(Verdict::Pass));
    change(&mut plane, &mut table, [set("sloppy_tcp", "1")]);
    assert_eq!(tcp(&plane, 1, ACK), Ok(1));
    assert_eq!(plane.connections().next().unwrap().state, ConnectionState::Established);
    assert_eq!(tcp(&plane, 2, RST), Err(Verdict::Pass));
    assert_eq!(tcp(&plane, 3, RST | ACK), Err(Verdict::Pass));
    change(&mut plane, &mut table, [set("sloppy_tcp", "0")]);
    assert_eq!(tcp(&plane, 4, ACK), Err(Verdict::Pass));
}

#[test]
fn expire_nodest_conn_ends_connections_of_removed_destinations_at_once() {
    let (mut plane, mut table) = plane([add_service(WEB, Scheduler::Rr), add(WEB, 1), add(WEB, 2)]);
    for port in 1..4 {
        let server = tcp(&plane, port, SYN).unwrap();
        assert_eq!(tcp(&plane, port, ACK), Ok(server));
    }
    assert_eq!(load(&plane, WEB, 2), (2, 0));
    change(&mut plane, &mut table, [remove(WEB, 2)]);
    assert_eq!(tcp(&plane, 1, ACK), Err(Verdict::Drop), "as the kernel does without it");
    change(&mut plane, &mut table, [set("expire_nodest_conn", "1")]);
    assert_eq!(tcp(&plane, 1, ACK), Err(Verdict::Pass), "for the host's stack to reset");
    assert_eq!(tcp(&plane, 3, SYN), Ok(1), "scheduled anew");
    assert_eq!(count(&plane, Counter::ExpiredNodest), 2);
    assert_eq!(plane.live_connections(), 2);
    assert!(plane.recount().is_empty());
    // A SYN also leaves a destination of weight 0, and other segments do not.
    change(&mut plane, &mut table, [add(WEB, 3)]);
    let quiesced = destination(1, 0, ForwardingMethod::Dr);
    change(
        &mut plane,
        &mut table,
        [Change::EditDestination { service: WEB, destination: quiesced }],
    );
    assert_eq!(tcp(&plane, 2, ACK), Ok(1));
    assert_eq!(tcp(&plane, 2, SYN), Ok(3));
}

#[test]
fn conn_reuse_mode_says_which_connections_a_syn_takes_for_over() {
    // (mode, last segment before the SYN, whether the SYN is scheduled anew)
    let rows = [
        ("0", RST, false),
        ("1", RST, true),
        ("1", FIN | ACK, false),
        ("2", FIN | ACK, true),
        ("3", RST, true),
    ];
    for (mode, last, anew) in rows {
        let (plane, _) = plane([
            add_service(WEB, Scheduler::Rr),
            add(WEB, 1),
            add(WEB, 2),
            set("conn_reuse_mode", mode),
        ]);
        let first = tcp(&plane, 1, SYN).unwrap();
        for flags in [ACK, last] {
            assert_eq!(tcp(&plane, 1, flags), Ok(first));
        }
        assert_eq!(tcp(&plane, 1, SYN).unwrap() != first, anew, "mode {mode}, {last:#x}");
        assert_eq!(count(&plane, Counter::Reused), u64::from(anew));
    }
}

#[test]
fn expire_quiescent_template_makes_persistent_clients_leave_weight_0() {
    let (mut plane, mut table) = plane([persistent(WEB, 300, u32::MAX), add(WEB, 1), add(WEB, 2)]);
    let first = connect(&plane, (CLIENT, 1), 80).unwrap();
    let quiesced = destination(first, 0, ForwardingMethod::Dr);
    change(
        &mut plane,
        &mut table,
        [Change::EditDestination { service: WEB, destination: quiesced }],
    );
    assert_eq!(connect(&plane, (CLIENT, 2), 80), Ok(first));
    change(&mut plane, &mut table, [set("expire_quiescent_template", "1")]);
    let second = connect(&plane, (CLIENT, 3), 80).unwrap();
    assert_ne!(second, first);
    assert_eq!(connect(&plane, (CLIENT, 4), 80), Ok(second));
}

#[test]
fn lblc_expiration_is_how_long_an_address_is_remembered() {
    let (mut plane, _) = plane([
        set("lblc_expiration", "1000"),
        add_service(WEB, Scheduler::Lblc),
        add(WEB, 1),
        add(WEB, 2),
    ]);
    connect(&plane, (CLIENT, 1), 80).unwrap();
    let entries = |plane: &FakePlane| {
        (0..plane.table_buckets())
            .filter_map(|index| plane.backend().bucket(index))
            .flat_map(|bucket| &bucket.slots)
            .filter(|slot| Control(slot.control.load(Ordering::Relaxed)).is_locality())
            .count()
    };
    plane.backend().advance_seconds(990);
    settle(&mut plane);
    assert_eq!(entries(&plane), 1);
    plane.backend().advance_seconds(20);
    settle(&mut plane);
    assert_eq!(entries(&plane), 0);
}
