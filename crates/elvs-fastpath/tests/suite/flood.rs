//! New flows in flood mode: what stays out of the table, where it goes, who gives way to whom.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use elvs_common::{
    BUCKET_SLOTS, CHAIN_BUCKETS, Counter, FLOOD_WINDOW, Method, ServiceFlags, TCP, TcpState, UDP,
    scheduler_id,
};
use elvs_fastpath::{Narrow, Pick, Verdict, pick_stable};

use crate::support::{
    ACK, FIN, Packet, Packet6, RST, SYN, Seen, Seen6, ServiceId, Table, server_mac,
};

const VIP: &str = "10.0.0.100:80";
const VIP6: &str = "[fd00::100]:80";
const THRESHOLD: u32 = 10;

/// A service with real servers 10.1.0.21 and up, port 8080, of these weights.
fn service(protocol: u8, scheduler: u8, method: Method, weights: &[u32]) -> (Table, ServiceId) {
    let mut table = Table::new(64);
    table.director.settings.flood_threshold = THRESHOLD;
    let service = table.add_service(protocol, VIP, scheduler);
    for (number, weight) in weights.iter().enumerate() {
        let server = format!("10.1.0.{}:8080", 21 + number);
        table.add_destination(service, &server, method, *weight);
    }
    (table, service)
}

fn client(number: u32) -> String {
    format!("{}:{}", Ipv4Addr::from(0xc000_0200 + number / 40_000), 1_024 + number % 40_000)
}

/// Somebody who is no [`client`].
fn other(number: u32) -> String {
    format!("{}:{}", Ipv4Addr::from(0xc633_6400 + number / 40_000), 1_024 + number % 40_000)
}

fn tcp(client: &str, flags: u8) -> Packet {
    Packet::tcp(client, VIP, flags)
}

/// Sends a packet through; the destination it goes to.
fn sent(table: &Table, packet: &Packet) -> u32 {
    let outcome = table.director.run(packet.build());
    assert_eq!(outcome.verdict, Verdict::Transmit, "{packet:?}: {:?}", outcome.counted);
    let mac = Seen::read(&outcome.frame.bytes).destination_mac;
    let found = (0..100).find(|index| server_mac(*index) == mac);
    found.unwrap_or_else(|| panic!("{packet:?}: {:?}", outcome.counted))
}

/// Has as many flows open as there may be, and one more.
fn flood(table: &Table, protocol: u8) {
    for number in 0..=THRESHOLD {
        let from = other(number);
        let packet =
            if protocol == UDP { Packet::udp(&from, VIP) } else { Packet::tcp(&from, VIP, SYN) };
        sent(table, &packet);
    }
    assert_eq!(table.director.counter(Counter::FloodEntered), 1);
}

#[test]
fn above_the_threshold_a_syn_leaves_no_trace_and_its_flow_goes_on_all_the_same() {
    let (table, _) = service(TCP, scheduler_id::RR, Method::Dr, &[1, 1, 1]);
    let director = &table.director;
    for number in 0..THRESHOLD {
        sent(&table, &tcp(&other(number), SYN));
        assert!(director.state(tcp(&other(number), SYN).key()).is_some(), "flow {number}");
    }
    assert_eq!(director.counter(Counter::FloodEntered), 0);
    let lives: Vec<(String, u32)> =
        (0..50).map(|number| (client(number), sent(&table, &tcp(&client(number), SYN)))).collect();
    assert_eq!(director.counter(Counter::FloodEntered), 1);
    assert_eq!(director.counter(Counter::FloodStateless), 50);
    assert_eq!(director.live().count(), THRESHOLD as usize);
    for (client, server) in &lives {
        let key = tcp(client, SYN).key();
        assert_eq!(sent(&table, &tcp(client, SYN)), *server, "a SYN sent again");
        assert_eq!(sent(&table, &tcp(client, ACK)), *server, "the handshake's end");
        assert_eq!(director.state(key), Some(TcpState::SynRecv), "not confirmed");
        assert_eq!(sent(&table, &tcp(client, ACK)), *server, "data");
        assert_eq!(director.state(key), Some(TcpState::Established));
    }
    assert_eq!(director.counter(Counter::FloodProvisional), 50);
    table.director.check_tables();
    for (client, server) in &lives {
        assert_eq!(sent(&table, &tcp(client, FIN | ACK)), *server);
        assert_eq!(director.state(tcp(client, SYN).key()), Some(TcpState::FinWait));
    }
}

#[test]
fn flood_mode_lasts_until_a_second_has_few_new_flows() {
    let (table, _) = service(TCP, scheduler_id::RR, Method::Dr, &[1, 1]);
    let director = &table.director;
    flood(&table, TCP);
    // A window with more than half of the threshold, and one with half of it.
    for (new, counted) in [(THRESHOLD / 2 + 2, 0), (THRESHOLD / 2, 0), (1, 1)] {
        director.advance_ticks(FLOOD_WINDOW);
        for number in 0..new {
            sent(&table, &tcp(&client(number), SYN));
        }
        assert_eq!(director.counter(Counter::FloodLeft), counted, "{new} flows");
    }
    assert_eq!(director.state(tcp(&client(0), SYN).key()), Some(TcpState::SynRecv), "as usual");
    // For as long as a handshake takes its end is looked for.
    let handshake = director.settings.tcp_timeouts[TcpState::SynRecv as usize];
    let word = director.flood.load(std::sync::atomic::Ordering::Relaxed);
    assert_ne!(word, 0);
    director.advance_ticks(handshake - FLOOD_WINDOW);
    sent(&table, &tcp(&client(100), ACK));
    director.advance_ticks(1);
    let outcome = director.run(tcp(&client(101), ACK).build());
    assert_eq!((outcome.verdict, outcome.counted), (Verdict::Pass, vec![Counter::NotSyn]));
    assert_eq!(director.counter(Counter::FloodEntered), 1);
}

#[test]
fn without_a_threshold_there_is_no_flood() {
    let (mut table, _) = service(TCP, scheduler_id::RR, Method::Dr, &[1]);
    table.director.settings.flood_threshold = 0;
    let room = (64 + 120) * BUCKET_SLOTS as u32;
    for number in 0..2 * room {
        sent(&table, &tcp(&client(number), SYN));
    }
    assert!(table.director.counter(Counter::EvictedHalfOpen) > 0);
    assert_eq!(table.director.counter(Counter::FloodEntered), 0);
}

/// A chain full of half-open connections is a flood, however slow it comes.
#[test]
fn half_open_flows_that_have_to_give_way_are_a_flood() {
    let (mut table, _) = service(TCP, scheduler_id::RR, Method::Dr, &[1]);
    table.director.settings.flood_threshold = 1_000_000;
    let mut number = 0;
    while table.director.counter(Counter::FloodEntered) == 0 {
        assert_eq!(table.director.counter(Counter::EvictedHalfOpen), 0);
        sent(&table, &tcp(&client(number), SYN));
        if table.director.counter(Counter::EvictedHalfOpen) > 0 {
            sent(&table, &tcp(&client(number + 1), SYN));
        }
        number += 1;
    }
    assert_eq!(table.director.counter(Counter::EvictedHalfOpen), 1);
    assert_eq!(table.director.counter(Counter::FloodStateless), 1);
}

const SCHEDULERS: [u8; 14] = [
    scheduler_id::RR,
    scheduler_id::WRR,
    scheduler_id::LC,
    scheduler_id::WLC,
    scheduler_id::LBLC,
    scheduler_id::LBLCR,
    scheduler_id::DH,
    scheduler_id::SH,
    scheduler_id::SED,
    scheduler_id::NQ,
    scheduler_id::FO,
    scheduler_id::OVF,
    scheduler_id::MH,
    scheduler_id::TWOS,
];

#[test]
fn every_scheduler_has_a_flow_keep_its_real_server() {
    for scheduler in SCHEDULERS {
        for method in [Method::Dr, Method::Tun, Method::Nat] {
            let (table, _) = service(TCP, scheduler, method, &[30, 10, 20]);
            flood(&table, TCP);
            let mut used = BTreeMap::new();
            for number in 0..200 {
                // Each at an address of its own.
                let client = client(40_000 * number);
                let server = sent(&table, &tcp(&client, SYN));
                *used.entry(server).or_insert(0) += 1;
                assert_eq!(sent(&table, &tcp(&client, ACK)), server, "{scheduler} {method:?}");
                assert_eq!(sent(&table, &tcp(&client, ACK)), server, "{scheduler} {method:?}");
            }
            let alone = [
                scheduler_id::FO,
                scheduler_id::OVF,
                scheduler_id::DH,
                scheduler_id::LBLC,
                scheduler_id::LBLCR,
            ];
            let wanted = if alone.contains(&scheduler) { 1 } else { 3 };
            assert_eq!(used.len(), wanted, "{scheduler} {method:?}: {used:?}");
            if [scheduler_id::FO, scheduler_id::OVF].contains(&scheduler) {
                assert_eq!(used.keys().next(), Some(&0), "the greatest weight");
            }
            table.director.check_tables();
        }
    }
}

fn stable(table: &Table, client: &str) -> u32 {
    let key = tcp(client, SYN).key();
    let pick = pick_stable::<Narrow, _>(&table.director, &key, 2);
    let Pick::Destination(index) = pick else { panic!("{client}: {pick:?}") };
    index
}

#[test]
fn stable_picks_follow_the_weights_and_move_no_more_than_they_must() {
    const CLIENTS: u32 = 20_000;
    let (mut table, id) = service(TCP, scheduler_id::WLC, Method::Dr, &[1, 2, 0, 5]);
    let before: Vec<u32> = (0..CLIENTS).map(|number| stable(&table, &client(number))).collect();
    for (index, weight) in [1.0, 2.0, 0.0, 5.0].into_iter().enumerate() {
        let share =
            before.iter().filter(|at| **at as usize == index).count() as f64 / f64::from(CLIENTS);
        assert!((share - weight / 8.0).abs() < 0.03, "destination {index}: {share}");
    }
    table.add_destination(id, "10.1.0.99:8080", Method::Dr, 2);
    for (number, old) in (0..).zip(&before) {
        let new = stable(&table, &client(number));
        assert!(new == *old || new == 4, "client {number} from {old} to {new}");
    }
    table.remove_destination(id, 4);
    table.remove_destination(id, 1);
    for (number, old) in (0..).zip(&before) {
        let new = stable(&table, &client(number));
        assert!(new == *old || *old == 1, "client {number} from {old} to {new}");
    }
    // One that is overloaded is passed over, as by the schedulers.
    table.set_thresholds(3, 1, 0);
    sent(&table, &tcp(&other(0), SYN));
    while table.director.load_of(3).0 == 0 {
        let number = table.director.live().count() as u32;
        sent(&table, &tcp(&other(number), SYN));
    }
    assert!((0..100).all(|number| stable(&table, &client(number)) == 0));
}

#[test]
fn a_persistent_client_has_one_real_server_whatever_its_ports() {
    for scheduler in [scheduler_id::WLC, scheduler_id::SH, scheduler_id::MH] {
        let (mut table, id) = service(TCP, scheduler, Method::Dr, &[1, 1, 1, 1]);
        table.set_scheduler(id, scheduler, ServiceFlags::PORT);
        table.set_persistence(id, Some(Ipv4Addr::new(255, 255, 255, 0)));
        let known = sent(&table, &tcp("203.0.113.1:1024", SYN));
        flood(&table, TCP);
        let templates = table.director.live().count();
        for port in 2_000..2_050 {
            // Its network has a template.
            assert_eq!(sent(&table, &tcp(&format!("203.0.113.77:{port}"), SYN)), known);
        }
        for network in 0..20 {
            let servers: Vec<u32> = (0..20)
                .map(|n| sent(&table, &tcp(&format!("10.9.{network}.{n}:{}", 3_000 + n), SYN)))
                .collect();
            assert!(servers.iter().all(|server| *server == servers[0]), "{servers:?}");
        }
        assert_eq!(table.director.live().count(), templates, "no template of a half-open flow");
    }
}

#[test]
fn by_nat_half_open_flows_share_one_place_in_a_bucket() {
    let (table, _) = service(TCP, scheduler_id::RR, Method::Nat, &[1, 1]);
    let director = &table.director;
    let established: Vec<String> = (0..40).map(client).collect();
    for client in &established {
        director.advance_ticks(FLOOD_WINDOW);
        sent(&table, &tcp(client, SYN));
        sent(&table, &tcp(client, ACK));
    }
    flood(&table, TCP);
    for number in 0..20_000 {
        let client = client(1_000 + number);
        let server = sent(&table, &tcp(&client, SYN));
        // Its reply comes before the next SYN does.
        let from = format!("10.1.0.{}:8080", 21 + server);
        let reply = Packet::tcp(&from, &client, SYN | ACK);
        assert_eq!(director.run(reply.build()).verdict, Verdict::Transmit, "{client}");
    }
    let key = |client: &String| tcp(client, SYN).key();
    for client in &established {
        assert_eq!(director.state(key(client)), Some(TcpState::Established), "{client}");
    }
    let most = established.len() + director.settings.buckets as usize + THRESHOLD as usize;
    let live = director.live().count();
    assert!(live <= most, "{live} connections, more than {most}");
    assert_eq!(director.counter(Counter::TableFull), 0);
    // Who lost the place before the handshake was complete keeps the real server.
    let late = client(1_000);
    assert_eq!(director.state(key(&late)), None);
    let server = stable(&table, &late);
    assert_eq!(sent(&table, &tcp(&late, ACK)), server);
    assert_eq!(sent(&table, &tcp(&late, ACK)), server);
    assert_eq!(director.state(key(&late)), Some(TcpState::Established));
    director.check_tables();
}

/// Every slot of a chain taken by established connections: nobody gives way, new ones are refused, by NAT.
#[test]
fn a_table_full_of_established_connections_takes_none_and_loses_none() {
    let mut table = Table::new(1);
    let service = table.add_service(TCP, VIP, scheduler_id::RR);
    table.add_destination(service, "10.1.0.21:8080", Method::Nat, 1);
    let room = CHAIN_BUCKETS * BUCKET_SLOTS as u32;
    for number in 0..room {
        sent(&table, &tcp(&client(number), SYN));
        sent(&table, &tcp(&client(number), ACK));
    }
    table.director.settings.flood_threshold = 1;
    table.director.advance_ticks(FLOOD_WINDOW);
    let outcome = table.director.run(tcp(&other(0), SYN).build());
    assert_eq!(outcome.counted, [Counter::TableFull]);
    for number in 1..50 {
        let outcome = table.director.run(tcp(&other(number), SYN).build());
        assert!(outcome.counted.contains(&Counter::TableFull), "{:?}", outcome.counted);
    }
    for number in 0..room {
        let state = table.director.state(tcp(&client(number), SYN).key());
        assert_eq!(state, Some(TcpState::Established));
    }
    table.director.check_tables();
}

#[test]
fn a_flow_of_datagrams_is_kept_from_its_clients_second_one_on() {
    for method in [Method::Dr, Method::Nat] {
        let (table, _) = service(UDP, scheduler_id::RR, method, &[1, 1]);
        let director = &table.director;
        flood(&table, UDP);
        let (kept, lost) = (Packet::udp(&client(0), VIP), Packet::udp(&client(1), VIP));
        let servers = [sent(&table, &kept), sent(&table, &lost)];
        if method == Method::Nat {
            // The reply alone proves nothing: the address may be made up.
            let from = format!("10.1.0.{}:8080", 21 + servers[1]);
            let reply = Packet::udp(&from, &client(1));
            assert_eq!(director.run(reply.build()).verdict, Verdict::Transmit);
        }
        assert_eq!(sent(&table, &kept), servers[0]);
        for number in 100..5_000 {
            sent(&table, &Packet::udp(&client(number), VIP));
        }
        assert_eq!(director.control(kept.key()).unwrap().state(), 0);
        assert!(director.control(lost.key()).is_none(), "{method:?}");
        let most = 1 + director.settings.buckets as usize + THRESHOLD as usize;
        assert!(director.live().count() <= most, "{method:?}");
        assert_eq!(sent(&table, &kept), servers[0]);
        assert_eq!(sent(&table, &lost), servers[1], "the same real server as before");
        director.check_tables();
    }
}

#[test]
fn a_reset_of_a_flow_without_entry_reaches_its_real_server_and_makes_none() {
    let (table, _) = service(TCP, scheduler_id::RR, Method::Dr, &[1, 1, 1]);
    flood(&table, TCP);
    let live = table.director.live().count();
    for number in 0..20 {
        let client = client(number);
        let server = sent(&table, &tcp(&client, SYN));
        assert_eq!(sent(&table, &tcp(&client, RST)), server);
    }
    assert_eq!(table.director.live().count(), live);
    // Segments that say nothing of a handshake are nobody's.
    let outcome = table.director.run(tcp(&client(99), 0).build());
    assert_eq!((outcome.verdict, outcome.counted), (Verdict::Pass, vec![Counter::NotSyn]));
}

#[test]
fn one_packet_services_do_not_count() {
    let (mut table, id) = service(UDP, scheduler_id::RR, Method::Dr, &[1, 1]);
    table.set_scheduler(id, scheduler_id::RR, ServiceFlags::ONE_PACKET);
    for number in 0..10 * THRESHOLD {
        sent(&table, &Packet::udp(&client(number), VIP));
    }
    assert_eq!(table.director.counter(Counter::FloodEntered), 0);
    assert_eq!(table.director.live().count(), 0);
}

#[test]
fn ipv6_is_the_same() {
    for method in [Method::Dr, Method::Nat] {
        let mut table = Table::new(64);
        table.director.settings.flood_threshold = THRESHOLD;
        let id = table.add_service(TCP, VIP6, scheduler_id::WLC);
        for number in 1..=3 {
            table.add_destination(id, &format!("[fd01::{number}]:80"), method, 1);
        }
        let client =
            |number: u32| format!("[2001:db8::{:x}]:{}", number / 40_000, number % 40_000 + 1_024);
        let sent = |client: &str, flags| {
            let outcome = table.director.run(Packet6::tcp(client, VIP6, flags).build());
            assert_eq!(outcome.verdict, Verdict::Transmit, "{:?}", outcome.counted);
            let mac = Seen6::read(&outcome.frame.bytes).destination_mac;
            let found = (0..100).find(|index| server_mac(*index) == mac);
            found.unwrap_or_else(|| panic!("{client}: {:?}", outcome.counted))
        };
        for number in 0..THRESHOLD {
            sent(&client(number), SYN);
        }
        let lives: Vec<(String, u32)> =
            (100..3_000).map(|number| (client(number), sent(&client(number), SYN))).collect();
        let director = &table.director;
        assert_eq!(director.counter(Counter::FloodEntered), 1, "{method:?}");
        let provisional = if method == Method::Nat { 64 } else { 0 };
        let live = director.live_wide().count();
        assert!(live <= THRESHOLD as usize + provisional, "{method:?}: {live}");
        for (client, server) in lives.iter().take(50) {
            let key = Packet6::tcp(client, VIP6, SYN).key();
            assert_eq!(sent(client, ACK), *server, "{method:?}");
            assert_eq!(director.wide_state(key), Some(TcpState::SynRecv));
            assert_eq!(sent(client, ACK), *server, "{method:?}");
            assert_eq!(director.wide_state(key), Some(TcpState::Established));
        }
        director.check_tables();
    }
}
