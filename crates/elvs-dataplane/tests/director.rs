//! The director over plain memory: what is installed decides packets, and what packets do is listed, swept and counted.

#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "tests fail loudly"
)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use elvs_common::{Control, Counter, DestinationFlags, DestinationLoad, Method, TCP, UDP};
use elvs_dataplane::{
    AttachedMode, Backend, CompileError, DEFAULT_CONNECTIONS, FakePlane, InstallError, Plane, Route,
};
use elvs_fastpath::{Eviction, FlowKey, Insertion, NewFlow, Verdict, flow_hash, insert_flow};
use elvs_model::{
    Change, ConnectionState, Destination, DestinationKey, ForwardingMethod, Netmask, Persistence,
    Protocol, Scheduler, ServiceKey, Table, Timeouts, TunnelKind, VirtualService, XdpMode,
};

mod support;

use support::*;

#[test]
fn each_state_expires_after_its_own_timeout_and_shows_it() {
    type Row = (u8, &'static [u8], ConnectionState, u32, (u32, u32));
    let rows: [Row; 7] = [
        (TCP, &[SYN], ConnectionState::SynRecv, 60, (1, 0)),
        (TCP, &[SYN, ACK], ConnectionState::Established, 900, (1, 0)),
        (TCP, &[SYN, ACK, FIN | ACK], ConnectionState::FinWait, 120, (0, 1)),
        (TCP, &[SYN, ACK, RST], ConnectionState::Close, 10, (0, 1)),
        (TCP, &[SYN, RST], ConnectionState::SynRecv, 60, (1, 0)),
        (UDP, &[0], ConnectionState::Udp, 300, (0, 1)),
        (UDP, &[0, 0], ConnectionState::Udp, 300, (0, 1)),
    ];
    for (protocol, flags, state, timeout, loaded) in rows {
        let name = format!("{protocol} {flags:?}");
        let dns = [add_service(DNS, Scheduler::Rr), add(DNS, 1)];
        let web = [add_service(WEB, Scheduler::Rr), add(WEB, 1)];
        let (mut plane, _) = plane(dns.into_iter().chain(web));
        let service = if protocol == TCP { WEB } else { DNS };
        for flags in flags {
            let sent = if protocol == TCP { tcp(&plane, 99, *flags) } else { udp(&plane, 99) };
            assert_eq!(sent, Ok(1), "{name}");
        }
        let listed: Vec<_> = plane.connections().collect();
        assert_eq!(listed.len(), 1, "{name}");
        assert_eq!((listed[0].state, listed[0].expires_s), (state, timeout), "{name}");
        assert_eq!(load(&plane, service, 1), loaded, "{name}");
        plane.backend().advance_jiffies(1);
        assert_eq!(plane.connections().next().unwrap().expires_s, timeout - 1, "{name}");
        plane.backend().advance_seconds(timeout - 1);
        assert_eq!(sweep(&mut plane), 0, "{name}");
        assert_eq!(plane.live_connections(), 1, "{name}");
        assert_eq!(plane.connections().next().unwrap().expires_s, 0, "{name}");
        plane.backend().advance_seconds(2);
        assert_eq!(sweep(&mut plane), 1, "{name}");
        assert_eq!((plane.live_connections(), plane.connections().count()), (0, 0), "{name}");
        assert_eq!(load(&plane, service, 1), (0, 0), "{name}");
        assert!(plane.recount().is_empty(), "{name}");
    }
}

#[test]
fn a_sweep_ahead_of_its_time_ends_what_will_be_over_by_then() {
    let (mut plane, _) = plane([add_service(WEB, Scheduler::Rr), add(WEB, 1)]);
    tcp(&plane, 1, SYN).unwrap();
    plane.backend().advance_seconds(59);
    assert_eq!(plane.sweep_ahead(10).live, 1);
    plane.backend().advance_seconds(1);
    assert_eq!(sweep(&mut plane), 0, "the sweeper grants half a second");
    assert_eq!(plane.sweep_ahead(10).expired, 1);
    assert_eq!(plane.live_connections(), 0);
}

#[test]
fn timeouts_change_without_a_swap_and_apply_to_connections_there_are() {
    let (mut plane, mut table) = plane([add_service(WEB, Scheduler::Rr), add(WEB, 1)]);
    tcp(&plane, 1, SYN).unwrap();
    tcp(&plane, 1, ACK).unwrap();
    apply(&mut table, [Change::SetTimeouts(Timeouts { tcp: 30, tcp_fin: 0, udp: 0 })]);
    assert!(!plane.install(&table).unwrap().swapped);
    assert_eq!(plane.connections().next().unwrap().expires_s, 30);
    plane.backend().advance_seconds(32);
    assert_eq!(sweep(&mut plane), 1);
}

#[test]
fn a_removed_destination_keeps_its_index_while_anything_refers_to_it() {
    let (mut plane, mut table) = plane([add_service(WEB, Scheduler::Rr), add(WEB, 1), add(WEB, 2)]);
    assert_eq!(tcp(&plane, 1, SYN), Ok(2), "the newest is first");
    let index = plane.destination_index(&WEB, &key(2)).unwrap();
    change(&mut plane, &mut table, [remove(WEB, 2)]);
    assert_eq!(tcp(&plane, 1, ACK), Err(Verdict::Drop));
    assert_eq!(count(&plane, Counter::DestinationGone), 1);
    assert_eq!(plane.connections().count(), 1, "still listed");
    plane.backend().advance_seconds(50);
    assert_eq!(plane.collect().unwrap(), 0);
    assert_eq!(sweep(&mut plane), 0);
    change(&mut plane, &mut table, [add(WEB, 2)]);
    assert_eq!(plane.destination_index(&WEB, &key(2)), Some(index), "revived");
    assert_eq!(tcp(&plane, 1, ACK), Ok(2), "its connections work again");

    change(&mut plane, &mut table, [remove(WEB, 2)]);
    plane.backend().advance_seconds(1_000);
    assert_eq!(plane.collect().unwrap(), 0, "a connection refers to it");
    assert_eq!(sweep(&mut plane), 1);
    assert_eq!(plane.collect().unwrap(), 0, "idle from here on");
    plane.backend().advance_seconds(119);
    assert_eq!(plane.collect().unwrap(), 0);
    plane.backend().advance_seconds(2);
    assert_eq!(plane.collect().unwrap(), 1);
    assert_eq!(plane.destination_index(&WEB, &key(2)), None);
    assert_eq!(plane.service_statistics(&WEB).unwrap().in_packets, 2, "its packets stay counted");
    change(&mut plane, &mut table, [add(WEB, 3)]);
    assert_eq!(plane.destination_index(&WEB, &key(3)), Some(index), "lowest free index");
    let statistics = plane.destination_statistics(&WEB, &key(3)).unwrap();
    assert_eq!(statistics.connections, 0, "it does not inherit the counters");
}

#[test]
fn a_removed_service_drops_its_connections_packets_until_nothing_is_left() {
    let (mut plane, mut table) = plane([
        add_service(WEB, Scheduler::Rr),
        add(WEB, 1),
        add_service(service(Protocol::Tcp, 8080), Scheduler::Rr),
    ]);
    tcp(&plane, 1, SYN).unwrap();
    change(&mut plane, &mut table, [Change::DeleteService(WEB)]);
    assert_eq!(tcp(&plane, 1, ACK), Err(Verdict::Drop));
    assert_eq!(tcp(&plane, 2, SYN), Err(Verdict::Pass), "new connections are the host's");
    change(&mut plane, &mut table, [add_service(WEB, Scheduler::Rr), add(WEB, 1)]);
    assert_eq!(tcp(&plane, 1, ACK), Ok(1));
    let statistics = plane.destination_statistics(&WEB, &key(1)).unwrap();
    assert_eq!(
        (statistics.connections, statistics.in_packets),
        (0, 1),
        "another service's counters"
    );
    // Without any service IPVS takes its hooks out.
    change(&mut plane, &mut table, [Change::Flush]);
    assert_eq!(tcp(&plane, 1, ACK), Err(Verdict::Pass));
    assert_eq!(plane.connections().count(), 1);
}

#[test]
fn turns_go_on_over_changes_of_other_services_and_of_the_list() {
    let (mut plane, mut table) =
        plane([add_service(WEB, Scheduler::Rr), add(WEB, 1), add(WEB, 2), add(WEB, 3)]);
    let port = std::cell::Cell::new(0);
    let next = |plane: &FakePlane| {
        port.set(port.get() + 1);
        tcp(plane, port.get(), SYN).unwrap()
    };
    assert_eq!(next(&plane), 3);
    change(&mut plane, &mut table, [add_service(DNS, Scheduler::Wlc), add(DNS, 1)]);
    assert_eq!([next(&plane), next(&plane), next(&plane)], [2, 1, 3]);
    change(&mut plane, &mut table, [add(WEB, 4)]);
    assert_eq!([next(&plane), next(&plane), next(&plane), next(&plane)], [2, 1, 4, 3]);
    change(&mut plane, &mut table, [remove(WEB, 2)]);
    assert_eq!([next(&plane), next(&plane), next(&plane)], [1, 4, 3]);
    let edited = VirtualService::new(WEB, Scheduler::Wrr);
    change(&mut plane, &mut table, [Change::EditService(edited)]);
    assert_eq!([next(&plane), next(&plane), next(&plane), next(&plane)], [4, 3, 1, 4]);
}

#[test]
fn an_edit_begins_the_turn_of_weighted_round_robin_anew_even_if_it_changes_nothing() {
    let edit = || Change::EditDestination {
        service: WEB,
        destination: destination(1, 1, ForwardingMethod::Dr),
    };
    for (scheduler, anew) in [(Scheduler::Wrr, true), (Scheduler::Rr, false)] {
        let (mut plane, mut table) =
            plane([add_service(WEB, scheduler), add(WEB, 1), add(WEB, 2), add(WEB, 3)]);
        assert_eq!(tcp(&plane, 1, SYN), Ok(3));
        change(&mut plane, &mut table, [add_service(DNS, Scheduler::Wlc)]);
        assert_eq!(tcp(&plane, 2, SYN), Ok(2), "another service's change does not");
        change(&mut plane, &mut table, [edit()]);
        assert_eq!(tcp(&plane, 3, SYN), Ok(if anew { 3 } else { 1 }));
        change(&mut plane, &mut table, [Change::EditService(VirtualService::new(WEB, scheduler))]);
        assert_eq!(tcp(&plane, 4, SYN), Ok(if anew { 2 } else { 3 }), "nor does the service's");
    }
}

#[test]
fn weights_are_shared_out_exactly() {
    let weighted = |last, weight| Change::AddDestination {
        service: WEB,
        destination: destination(last, weight, ForwardingMethod::Dr),
    };
    let services = [
        add_service(WEB, Scheduler::Wrr),
        weighted(1, 1),
        weighted(2, 2),
        weighted(3, 3),
        weighted(4, 0),
    ];
    let (plane, _) = plane(services);
    let mut shares = [0; 5];
    for port in 1_001..=1_600 {
        shares[usize::from(tcp(&plane, port, SYN).unwrap())] += 1;
    }
    assert_eq!(shares, [0, 100, 200, 300, 0]);
    assert!(plane.recount().is_empty());
}

#[test]
fn replies_of_masqueraded_servers_are_found_and_counted() {
    let masqueraded = Change::AddDestination {
        service: WEB,
        destination: destination(1, 1, ForwardingMethod::Nat),
    };
    let (plane, _) = plane([add_service(WEB, Scheduler::Rr), masqueraded]);
    assert_eq!(tcp(&plane, 7, SYN), Ok(1));
    let reply = frame(TCP, (server(1), 80), (CLIENT, 7), SYN | ACK);
    assert!(send(&plane, reply).is_ok());
    let foreign = frame(TCP, (server(1), 80), (CLIENT, 8), SYN | ACK);
    assert_eq!(send(&plane, foreign), Err(Verdict::Pass), "no connection of ours");
    let statistics = plane.service_statistics(&WEB).unwrap();
    assert_eq!((statistics.in_packets, statistics.out_packets), (1, 1));
    assert_eq!((statistics.in_bytes, statistics.out_bytes), (40, 40));
}

#[test]
fn zeroing_and_removal_keep_the_sums_right() {
    let (mut plane, mut table) = plane([
        add_service(WEB, Scheduler::Rr),
        add(WEB, 1),
        add(WEB, 2),
        add_service(DNS, Scheduler::Rr),
        add(DNS, 1),
    ]);
    let packets =
        |plane: &FakePlane, key: &ServiceKey| plane.service_statistics(key).unwrap().in_packets;
    for port in 1..=4 {
        tcp(&plane, port, SYN).unwrap();
    }
    udp(&plane, 1).unwrap();
    assert_eq!((packets(&plane, &WEB), packets(&plane, &DNS)), (4, 1));
    change(&mut plane, &mut table, [remove(WEB, 1)]);
    assert_eq!(packets(&plane, &WEB), 4, "a removed destination's packets stay the service's");
    plane.zero(Some(&WEB)).unwrap();
    assert_eq!((packets(&plane, &WEB), packets(&plane, &DNS)), (0, 1));
    tcp(&plane, 5, SYN).unwrap();
    let views = plane.service_views().unwrap();
    assert_eq!(views.len(), 2);
    assert_eq!(views[0].statistics.connections, 1);
    assert_eq!(views[0].destinations.len(), 1);
    let view = &views[0].destinations[0];
    assert_eq!((view.active, view.inactive, view.persistent), (3, 0, 0));
    assert_eq!(view.statistics.connections, 1);
    plane.zero(None).unwrap();
    assert_eq!((packets(&plane, &WEB), packets(&plane, &DNS)), (0, 0));
}

#[test]
fn rates_follow_traffic_from_the_first_packet_of_a_service() {
    let (mut plane, _) = plane([add_service(WEB, Scheduler::Rr), add(WEB, 1)]);
    for port in 1_001..=1_100 {
        tcp(&plane, port, SYN).unwrap();
    }
    plane.estimate().unwrap();
    let views = plane.service_views().unwrap();
    // 100 in 2 s are 50 a second; the first step goes a quarter of the way.
    assert_eq!(views[0].rates.connections, 12);
    assert_eq!(views[0].destinations[0].rates.in_packets, 12);
    assert_eq!(views[0].rates.in_bytes, 500);
    for _ in 0..100 {
        plane.estimate().unwrap();
    }
    assert_eq!(plane.service_views().unwrap()[0].rates, elvs_model::Rates::default());
}

#[test]
fn a_table_that_does_not_fit_changes_nothing() {
    let (mut plane, table) = plane([add_service(WEB, Scheduler::Rr), add(WEB, 1)]);
    tcp(&plane, 1, SYN).unwrap();
    let too_many = (0..1_025_u32).map(|n| Change::AddDestination {
        service: DNS,
        destination: Destination {
            key: DestinationKey { address: Ipv4Addr::from(0x0a01_0000 + n).into(), port: 53 },
            ..destination(1, 1, ForwardingMethod::Dr)
        },
    });
    let mut other = table.clone();
    apply(&mut other, std::iter::once(add_service(DNS, Scheduler::Rr)).chain(too_many));
    let error = plane.install(&other).unwrap_err();
    assert!(error.to_string().contains("1025"), "{error}");
    let refused = matches!(error, InstallError::Compile(CompileError::TooManyDestinations { .. }));
    assert!(refused, "{error:?}");
    assert_eq!(plane.table(), &table);
    assert!(!plane.install(&table).unwrap().swapped);
    assert_eq!(tcp(&plane, 1, ACK), Ok(1));
}

#[test]
fn records_of_ipv6_have_both_addresses_prefix_and_route() {
    let vip: Ipv6Addr = "2001:db8::10".parse().unwrap();
    let real: Ipv6Addr = "fd00::b".parse().unwrap();
    let web = ServiceKey::Address { protocol: Protocol::Tcp, address: vip.into(), port: 80 };
    let tunnel = ForwardingMethod::Tun(TunnelKind::Ipip);
    let far = |address: IpAddr, method| Destination {
        key: DestinationKey { address, port: 80 },
        ..destination(1, 1, method)
    };
    let (six, four) = (far(real.into(), ForwardingMethod::Nat), far(server(1).into(), tunnel));
    let service = VirtualService {
        persistence: Some(Persistence { timeout: 300 }),
        netmask: Netmask::V6(64),
        ..VirtualService::new(web, Scheduler::Rr)
    };
    let (mut plane, mut table) = plane([
        Change::AddService(service),
        Change::AddDestination { service: web, destination: six },
        Change::AddDestination { service: web, destination: four },
    ]);
    let source: Ipv6Addr = "fd00::1".parse().unwrap();
    let tunnel_source = Some(source.into());
    let route = Route { hop: Some(hop(11)), mtu: 1_480, tunnel_source, local: false };
    plane.set_route(real.into(), route);
    let record = |plane: &FakePlane, service, destination: Destination| {
        let index = plane.destination_index(&service, &destination.key).unwrap();
        plane.backend().record(index).unwrap()
    };
    let found = record(&plane, web, six);
    let wanted =
        DestinationFlags::AVAILABLE | DestinationFlags::IPV6 | DestinationFlags::IPV6_SERVICE;
    assert_eq!(found.flags, wanted);
    assert_eq!((found.address6, found.tunnel_source6), (real.octets(), source.octets()));
    assert_eq!((found.persistence_prefix, found.persistence_mask, found.mtu), (64, 0, 1_480));
    assert_eq!(found.next_hop[found.selector as usize], hop(11));
    let found = record(&plane, web, four);
    assert_eq!(found.flags, DestinationFlags::AVAILABLE | DestinationFlags::IPV6_SERVICE);
    assert_eq!((found.address6, found.address), ([0; 16], u32::from_ne_bytes([10, 0, 0, 1])));
    let destination = far(real.into(), tunnel);
    let changes =
        [add_service(WEB, Scheduler::Rr), Change::AddDestination { service: WEB, destination }];
    change(&mut plane, &mut table, changes);
    let found = record(&plane, WEB, destination);
    let wanted =
        DestinationFlags::AVAILABLE | DestinationFlags::IPV6 | DestinationFlags::ENCAPSULATED;
    assert_eq!(found.flags, wanted);
    assert_eq!((found.address6, found.tunnel_source6), (real.octets(), source.octets()));
}

#[test]
fn routes_reach_destinations_before_and_after_they_are_installed() {
    let (mut plane, mut table) = plane([add_service(WEB, Scheduler::Rr), add(WEB, 1)]);
    assert_eq!(tcp(&plane, 1, SYN), Ok(1));
    plane.set_route(server(1).into(), Route { hop: Some(hop(77)), ..Route::default() });
    assert_eq!(tcp(&plane, 1, ACK), Ok(77));
    plane.set_route(server(1).into(), Route::default());
    assert_eq!(tcp(&plane, 1, ACK), Err(Verdict::Drop));
    assert_eq!(count(&plane, Counter::NoNextHop), 1);
    plane.set_route(server(1).into(), Route { local: true, ..Route::default() });
    assert_eq!(tcp(&plane, 1, ACK), Err(Verdict::Pass), "the director's own address");
    change(&mut plane, &mut table, [add(WEB, 20)]);
    assert_eq!(tcp(&plane, 2, SYN), Err(Verdict::Drop), "no route yet");
    assert_eq!(tcp(&plane, 3, SYN), Err(Verdict::Pass));
    plane.set_route(server(20).into(), Route { hop: Some(hop(20)), ..Route::default() });
    assert_eq!(tcp(&plane, 2, ACK), Ok(20));
}

#[test]
fn interfaces_are_listed_by_name() {
    let (mut plane, _) = plane([]);
    assert_eq!(plane.attach("eth1", XdpMode::Generic).unwrap(), AttachedMode::Generic);
    assert_eq!(plane.attach("eth0", XdpMode::Auto).unwrap(), AttachedMode::Native);
    let names: Vec<String> = plane.attached().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["eth0", "eth1"]);
    plane.detach("eth1").unwrap();
    plane.teardown().unwrap();
    assert!(plane.attached().is_empty());
}

#[test]
fn a_million_connections_are_found_listed_and_expired() {
    const MILLION: u32 = 1_000_000;
    let mut plane = FakePlane::for_connections(DEFAULT_CONNECTIONS);
    let mut table = Table::new();
    apply(&mut table, [add_service(DNS, Scheduler::Rr), add(DNS, 1), add(DNS, 2)]);
    plane.install(&table).unwrap();
    let settings = plane.backend().settings();
    let tick = plane.backend().now().tick();
    let index = |last| plane.destination_index(&DNS, &key(last)).unwrap();
    let targets = [index(1), index(2)];
    for n in 0..MILLION {
        let client = (0x0a40_0000 + n / 40_000).to_be();
        let port = ((1_024 + n % 40_000) as u16).to_be();
        let destination = targets[(n % 2) as usize];
        let flow = NewFlow {
            key: FlowKey::new(client, u32::from_ne_bytes(VIP.octets()), port, 53_u16.to_be(), UDP),
            hash: flow_hash(client, port, UDP, settings.seed),
            control: Control::live(UDP, 0, Method::Dr, true, tick),
            destination,
        };
        let inserted = insert_flow(plane.backend(), settings.buckets, &flow, &|_| Eviction::Keep);
        assert_eq!(inserted.outcome, Insertion::Done, "connection {n}");
        let word = Backend::load(plane.backend(), destination).unwrap();
        word.fetch_add(DestinationLoad::INACTIVE, std::sync::atomic::Ordering::Relaxed);
    }
    let mut seen = vec![false; MILLION as usize];
    for connection in plane.connections() {
        let std::net::IpAddr::V4(client) = connection.client.ip() else { panic!("IPv4") };
        let client = u32::from(client) - 0x0a40_0000;
        let n = (client * 40_000 + u32::from(connection.client.port()) - 1_024) as usize;
        assert!(!std::mem::replace(&mut seen[n], true), "{connection:?} is listed twice");
        assert_eq!(connection.index, targets[n % 2]);
    }
    assert!(seen.iter().all(|seen| *seen));
    assert!(plane.recount().is_empty());
    assert_eq!(sweep(&mut plane), 0);
    assert_eq!(plane.live_connections(), u64::from(MILLION));
    plane.backend().advance_seconds(302);
    assert_eq!(sweep(&mut plane), u64::from(MILLION));
    assert_eq!((load(&plane, DNS, 1), load(&plane, DNS, 2)), ((0, 0), (0, 0)));
    assert!(plane.recount().is_empty());
    let bytes = plane.memory_bytes();
    let wide = 144 * u64::from(DEFAULT_CONNECTIONS) / 4;
    assert!(bytes < 72 * u64::from(DEFAULT_CONNECTIONS) + wide + (8 << 20), "{bytes}");
}
