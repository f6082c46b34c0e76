//! Which service a packet of IPv6 is for, and what its properties do.

use std::net::Ipv6Addr;

use elvs_common::{Counter, Method, ServiceFlags, TCP, UDP, scheduler_id};
use elvs_fastpath::Verdict;

use super::{VIP, client, packet, pool, run, sent, sent_to};
use crate::support::{Packet6, SYN, Table};

#[test]
fn services_are_told_apart_by_address_port_and_protocol() {
    let mut table = Table::new(64);
    let mut expected = Vec::new();
    // The third and fourth have the fold of the first.
    for address in ["fd00::100", "fd00::101", "fd00:0:5::5:0:100", "fd00:0:0:7:0:7:0:100"] {
        for port in [53, 80, 443] {
            for protocol in [TCP, UDP] {
                let vip = format!("[{address}]:{port}");
                let id = table.add_service(protocol, &vip, scheduler_id::RR);
                let server = format!("[fd01::21]:{port}");
                expected.push((vip, protocol, table.add_destination(id, &server, Method::Dr, 1)));
            }
        }
    }
    for (number, (vip, protocol, destination)) in (0_u32..).zip(&expected) {
        let packet = Packet6 { protocol: *protocol, ..Packet6::tcp(&client(number), vip, SYN) };
        assert_eq!(sent_to(&table, &packet), *destination, "{vip} {protocol}");
        assert_eq!(sent_to(&table, &packet), *destination, "{vip} {protocol}, known");
    }
    for vip in ["[fd00::100]:81", "[fd00::102]:80", "[fd00:0:1:0:1::100]:80", "[fd00::100]:0"] {
        let outcome = run(&table, &Packet6::tcp(&client(999), vip, SYN));
        assert_eq!((outcome.verdict, outcome.counted), (Verdict::Pass, vec![]), "{vip}");
    }
    table.director.check_tables();
}

/// Clients of one fold and port lie in buckets of their own, or not: they are different connections.
#[test]
fn clients_of_the_same_fold_are_different_connections() {
    let (table, _) = pool(1, scheduler_id::RR, 2);
    let clients = ["[2001:db8::7]:4000", "[2001:db8:1:0:1::7]:4000", "[2001:db8:2:0:2::7]:4000"];
    let firsts = clients.map(|client| sent_to(&table, &Packet6::tcp(client, VIP, SYN)));
    assert_eq!(firsts, [1, 0, 1]);
    assert_eq!(clients.map(|client| sent_to(&table, &Packet6::tcp(client, VIP, 0x10))), firsts);
    assert_eq!(table.director.live_wide().count(), 3);
}

#[test]
fn a_service_on_all_ports_takes_what_no_other_service_takes() {
    let mut table = Table::new(64);
    let all = table.add_service(TCP, "[fd00::100]:0", scheduler_id::RR);
    table.set_persistence6(all, Some(128));
    let any = table.add_destination(all, "[fd01::1]:0", Method::Dr, 1);
    let http = table.add_service(TCP, VIP, scheduler_id::RR);
    let own = table.add_destination(http, "[fd01::2]:80", Method::Dr, 1);
    for (port, wanted) in [(80, own), (81, any), (22, any)] {
        let packet = Packet6::tcp(&client(port), &format!("[fd00::100]:{port}"), SYN);
        assert_eq!(sent_to(&table, &packet), wanted, "{port}");
    }
}

#[test]
fn persistence_goes_by_the_clients_prefix() {
    for (prefix, same, other) in [
        (128, "2001:db8::1", "2001:db8::2"),
        (64, "2001:db8::ffff:1", "2001:db8:0:1::1"),
        (48, "2001:db8:0:ffff::1", "2001:db8:1::1"),
        (57, "2001:db8:0:7f::9", "2001:db8:0:80::9"),
    ] {
        let (mut table, service) = pool(64, scheduler_id::RR, 3);
        table.set_persistence6(service, Some(prefix));
        let open = |address: &str, port: u32| {
            sent_to(&table, &Packet6::tcp(&format!("[{address}]:{port}"), VIP, SYN))
        };
        let first = open("2001:db8::1", 4_000);
        for port in 0..6 {
            assert_eq!(open(same, 5_000 + port), first, "{prefix}");
        }
        let second = open(other, 6_000);
        assert_ne!(second, first, "round robin goes on for another prefix than {prefix}");
        assert_eq!(open(other, 6_001), second, "{prefix}");
        // Connections and two templates.
        assert_eq!(table.director.live_wide().count(), 1 + 6 + 2 + 2, "{prefix}");
        table.director.check_tables();
    }
}

#[test]
fn persistence_follows_a_template_until_its_destination_is_removed() {
    let (mut table, service) = pool(64, scheduler_id::RR, 2);
    table.set_persistence6(service, Some(64));
    let first = sent_to(&table, &Packet6::tcp(&client(0), VIP, SYN));
    table.remove_destination(service, first);
    let second = sent_to(&table, &Packet6::tcp(&client(1), VIP, SYN));
    assert_ne!(second, first);
    assert_eq!(sent_to(&table, &Packet6::tcp(&client(2), VIP, SYN)), second);
    table.director.check_tables();
}

fn address(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

#[test]
fn marks_come_before_addresses_and_the_first_rule_that_fits_counts() {
    let (mut table, _) = pool(64, scheduler_id::RR, 1);
    let mut marked = Vec::new();
    for mark in [1, 2, 3] {
        let id = table.add_marked_service6(mark, scheduler_id::RR);
        marked.push(table.add_destination(id, &format!("[fd01::{mark}00]:0"), Method::Dr, 1));
    }
    let any = (Ipv6Addr::UNSPECIFIED, 0);
    table.add_mark6((address("2001:db8:1::"), 48), (address("fd00::100"), 128), 1);
    table.add_mark6(any, (address("fd00::"), 120), 2);
    table.add_mark6((address("2001:db8:3::"), 57), any, 3);
    let to = |client: &str, vip: &str| sent_to(&table, &Packet6::tcp(client, vip, SYN));
    assert_eq!(to("[2001:db8:1:9::1]:1024", VIP), marked[0]);
    assert_eq!(to("[2001:db8:2::1]:1024", VIP), 0, "no rule: the service by address");
    assert_eq!(to("[2001:db8:1::1]:1024", "[fd00::ff]:22"), marked[1]);
    assert_eq!(to("[2001:db8:3::1]:1024", "[fd00::100]:80"), marked[2]);
    assert_eq!(to("[2001:db8:3:7f::1]:1024", "[fdff::100]:80"), marked[2]);
    assert_eq!(to("[2001:db8:3:7f::1]:1024", "[fdff::100]:80"), marked[2], "known");
    let outcome = run(&table, &Packet6::tcp("[2001:db8:3:80::1]:1024", "[fdff::100]:80", SYN));
    assert_eq!((outcome.verdict, outcome.counted), (Verdict::Pass, vec![]), "beyond the prefix");
    table.director.check_tables();
}

#[test]
fn one_packet_scheduling_remembers_nothing() {
    let mut table = Table::new(64);
    let id = table.add_service(UDP, VIP, scheduler_id::RR);
    for number in 1..=3 {
        table.add_destination(id, &format!("[fd01::{number}]:53"), Method::Dr, 1);
    }
    table.set_scheduler(id, scheduler_id::RR, ServiceFlags::ONE_PACKET);
    let turns: Vec<u32> = (0..6).map(|_| sent_to(&table, &packet(UDP))).collect();
    assert_eq!(turns, [2, 1, 0, 2, 1, 0]);
    assert_eq!(table.director.live_wide().count(), 0);
    assert_eq!(table.director.stats(0).connections, 2);
}

#[test]
fn an_upper_threshold_is_kept() {
    let (mut table, service) = pool(64, scheduler_id::RR, 2);
    table.set_thresholds(0, 2, 1);
    table.set_thresholds(1, 2, 1);
    for number in 0..4 {
        sent(&table, &Packet6::tcp(&client(number), VIP, SYN));
    }
    assert_eq!([0, 1].map(|index| table.director.load_of(index)), [(2, 0), (2, 0)]);
    let outcome = run(&table, &Packet6::tcp(&client(4), VIP, SYN));
    assert_eq!(
        (outcome.verdict, outcome.counted),
        (Verdict::Transmit, vec![Counter::NoDestination, Counter::IcmpSent])
    );
    table.set_thresholds(0, 3, 1);
    assert_eq!(sent_to(&table, &Packet6::tcp(&client(5), VIP, SYN)), 0);
    assert_eq!(table.list(service).len(), 2);
}

/// Hashing schedulers go by the folded addresses: two addresses of a fold are one to them, as in IPVS.
#[test]
fn hashing_schedulers_are_steady_and_go_by_the_fold() {
    for scheduler in [scheduler_id::SH, scheduler_id::DH, scheduler_id::MH] {
        let (table, _) = pool(256, scheduler, 5);
        let mut seen = std::collections::BTreeSet::new();
        for number in 0..40_u16 {
            let to = |client: &str, port: u16| {
                sent_to(&table, &Packet6::tcp(&format!("[{client}]:{port}"), VIP, SYN))
            };
            let first = to(&format!("2001:db8::{number:x}"), 4_000);
            assert_eq!(to(&format!("2001:db8::{number:x}"), 4_001), first, "{scheduler}");
            assert_eq!(to(&format!("2001:db8:9:0:9::{number:x}"), 4_000), first, "{scheduler}");
            seen.insert(first);
        }
        let one = scheduler == scheduler_id::DH;
        assert_eq!(seen.len() == 1, one, "{scheduler}: dh goes by the virtual address alone");
    }
}

#[test]
fn lblc_and_lblcr_remember_an_addresss_destination() {
    for scheduler in [scheduler_id::LBLC, scheduler_id::LBLCR] {
        let (mut table, id) = pool(64, scheduler, 3);
        let first = sent_to(&table, &Packet6::tcp(&client(0), VIP, SYN));
        for number in 1..5 {
            let picked = sent_to(&table, &Packet6::tcp(&client(number), VIP, SYN));
            assert_eq!(picked, first, "{scheduler}: the address is remembered");
        }
        assert_eq!(table.director.live_wide().count(), 5 + 1, "{scheduler}: and one memory");
        assert_eq!(table.director.live().count(), 0, "{scheduler}");
        table.remove_destination(id, first);
        let second = sent_to(&table, &Packet6::tcp(&client(9), VIP, SYN));
        assert_ne!(second, first, "{scheduler}");
        assert_eq!(sent_to(&table, &Packet6::tcp(&client(10), VIP, SYN)), second);
        table.director.check_tables();
    }
}

#[test]
fn every_scheduler_serves_ipv6() {
    let schedulers = [
        scheduler_id::RR,
        scheduler_id::WRR,
        scheduler_id::LC,
        scheduler_id::WLC,
        scheduler_id::SED,
        scheduler_id::NQ,
        scheduler_id::FO,
        scheduler_id::OVF,
        scheduler_id::TWOS,
    ];
    for scheduler in schedulers {
        let (table, _) = pool(64, scheduler, 3);
        for number in 0..9 {
            sent(&table, &Packet6::tcp(&client(number), VIP, SYN));
        }
        assert_eq!(table.director.live_wide().count(), 9, "{scheduler}");
        table.director.check_tables();
    }
}
