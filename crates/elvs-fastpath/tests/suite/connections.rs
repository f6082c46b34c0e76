//! The life of connections: states, loads, statistics, reuse, removal, a full table.

use elvs_common::{
    BUCKET_SLOTS, CHAIN_BUCKETS, Counter, DestinationStats, Method, REFRESH_TICKS, TCP, TcpState,
    UDP, scheduler_id,
};
use elvs_fastpath::Verdict;

use crate::support::{ACK, FIN, Packet, RST, SYN, Seen, ServiceId, Table, ip, server_mac};

const CLIENT: &str = "192.0.2.7:40000";
const VIP: &str = "10.0.0.100:80";
const SERVER: &str = "10.1.0.21:8080";

/// A round robin service with `servers` real servers; the last one added, which is picked first, has the highest index.
fn service(buckets: u32, protocol: u8, method: Method, servers: u8) -> (Table, ServiceId) {
    let mut table = Table::new(buckets);
    let service = table.add_service(protocol, VIP, scheduler_id::RR);
    for number in 0..servers {
        table.add_destination(service, &format!("10.1.0.{}:8080", 21 + number), method, 1);
    }
    (table, service)
}

fn client(number: u32) -> String {
    format!("192.0.2.7:{}", 1_024 + number)
}

/// Who sends a packet.
#[derive(Clone, Copy, Debug)]
enum Side {
    Client,
    Server,
}
use Side::{Client, Server};
use TcpState::{Close, CloseWait, Established, FinWait, SynRecv, TimeWait};

type Step = (Side, u8, TcpState);
/// Packets that end an established connection, and the state they leave.
type End = (Method, &'static [(Side, u8)], TcpState);

/// Whole connections: who sends, flags, the state after it (`ip_vs_proto_tcp.c`).
const LIVES: &[(&str, Method, &[Step])] = &[
    (
        "NAT, client closes first",
        Method::Nat,
        &[
            (Client, SYN, SynRecv),
            (Server, SYN | ACK, SynRecv),
            (Client, ACK, Established),
            (Client, ACK, Established),
            (Server, ACK, Established),
            (Client, FIN | ACK, CloseWait),
            (Server, ACK, CloseWait),
            (Server, FIN | ACK, TimeWait),
            (Client, ACK, TimeWait),
        ],
    ),
    (
        "NAT, real server closes first",
        Method::Nat,
        &[
            (Client, SYN, SynRecv),
            (Server, SYN | ACK, SynRecv),
            (Client, ACK, Established),
            (Server, FIN | ACK, FinWait),
            (Client, ACK, FinWait),
            (Client, FIN | ACK, TimeWait),
            (Server, ACK, TimeWait),
        ],
    ),
    (
        "NAT, real server refuses",
        Method::Nat,
        &[(Client, SYN, SynRecv), (Server, RST | ACK, Close)],
    ),
    (
        "NAT, client resets",
        Method::Nat,
        &[(Client, SYN, SynRecv), (Client, ACK, Established), (Client, RST, Close)],
    ),
    (
        "DR, client closes",
        Method::Dr,
        &[
            (Client, SYN, SynRecv),
            (Client, SYN, SynRecv),
            (Client, ACK, Established),
            (Client, FIN | ACK, FinWait),
            (Client, ACK, FinWait),
        ],
    ),
    (
        "TUN, client resets",
        Method::Tun,
        &[
            (Client, SYN, SynRecv),
            (Client, ACK, Established),
            (Client, RST | ACK, Close),
            (Client, ACK, Close),
        ],
    ),
    (
        "DR, a SYN in FIN_WAIT goes on with the same real server",
        Method::Dr,
        &[
            (Client, SYN, SynRecv),
            (Client, ACK, Established),
            (Client, FIN | ACK, FinWait),
            (Client, SYN, SynRecv),
        ],
    ),
];

#[test]
fn states_loads_and_statistics_follow_whole_connections() {
    for (name, method, steps) in LIVES {
        let (table, _) = service(64, TCP, *method, 1);
        let key = Packet::tcp(CLIENT, VIP, 0).key();
        let mut wanted = DestinationStats { connections: 1, ..DestinationStats::default() };
        for (number, (side, flags, state)) in steps.iter().enumerate() {
            let at = format!("{name}, step {number}");
            let packet = match side {
                Client => Packet::tcp(CLIENT, VIP, *flags),
                Server => Packet::tcp(SERVER, CLIENT, *flags),
            };
            match side {
                Client => {
                    wanted.in_packets += 1;
                    wanted.in_bytes += 40;
                }
                Server => {
                    wanted.out_packets += 1;
                    wanted.out_bytes += 40;
                }
            }
            table.director.advance_seconds(1);
            let outcome = table.director.run(packet.build());
            assert_eq!(outcome.verdict, Verdict::Transmit, "{at}");
            assert_eq!(table.director.state(key), Some(*state), "{at}");
            let active = matches!(state, SynRecv | Established);
            let load = if active { (1, 0) } else { (0, 1) };
            assert_eq!(table.director.load_of(0), load, "{at}");
            assert_eq!(table.director.stats(0), wanted, "{at}");
            let tick = table.director.control(key).unwrap().tick();
            assert_eq!(tick, elvs_fastpath::Host::tick(&table.director), "{at}: last packet");
        }
        table.director.check_tables();
    }
}

#[test]
fn udp_connections_are_inactive_and_refreshed() {
    for method in [Method::Dr, Method::Nat, Method::Tun] {
        let (table, _) = service(64, UDP, method, 2);
        for _ in 0..3 {
            table.director.advance_seconds(100);
            let outcome = table.director.run(Packet::udp(CLIENT, VIP).build());
            let seen = Seen::read(&outcome.frame.bytes);
            assert_eq!(seen.destination_mac, server_mac(1), "one flow, one real server");
        }
        assert_eq!(table.director.load_of(1), (0, 1));
        assert_eq!(table.director.stats(1).in_packets, 3);
        assert_eq!(table.director.stats(1).in_bytes, 3 * 36);
        let control = table.director.control(Packet::udp(CLIENT, VIP).key()).unwrap();
        assert_eq!(control.tick(), elvs_fastpath::Host::tick(&table.director));
        table.director.check_tables();
    }
}

#[test]
fn a_busy_connection_is_refreshed_before_it_could_expire() {
    let (table, _) = service(64, UDP, Method::Dr, 1);
    let packet = Packet::udp(CLIENT, VIP);
    for _ in 0..1_000 {
        table.director.run(packet.build());
        let now = elvs_fastpath::Host::tick(&table.director);
        let tick = table.director.control(packet.key()).unwrap().tick();
        assert!(now - tick < REFRESH_TICKS, "{} ticks behind", now - tick);
        table.director.advance_ticks(3);
    }
}

#[test]
fn a_known_connection_keeps_its_real_server_whatever_its_weight() {
    let (mut table, id) = service(64, TCP, Method::Dr, 2);
    table.director.run(Packet::tcp(CLIENT, VIP, SYN).build());
    table.set_weight(id, 1, 0);
    table.add_destination(id, "10.1.0.99:8080", Method::Dr, 100);
    for flags in [ACK, ACK, FIN | ACK] {
        let outcome = table.director.run(Packet::tcp(CLIENT, VIP, flags).build());
        assert_eq!(Seen::read(&outcome.frame.bytes).destination_mac, server_mac(1));
    }
}

#[test]
fn packets_of_a_removed_destination_are_dropped_until_it_is_back() {
    let (mut table, id) = service(64, TCP, Method::Dr, 1);
    let packet = |flags| Packet::tcp(CLIENT, VIP, flags).build();
    table.director.run(packet(SYN));
    table.remove_destination(id, 0);
    let outcome = table.director.run(packet(ACK));
    assert_eq!((outcome.verdict, outcome.counted), (Verdict::Drop, vec![Counter::DestinationGone]));
    assert_eq!(table.director.load_of(0), (1, 0), "the connection is kept");
    assert_eq!(table.add_destination(id, SERVER, Method::Dr, 1), 0, "revived");
    assert_eq!(table.director.run(packet(ACK)).verdict, Verdict::Transmit);
    assert_eq!(table.director.stats(0).in_packets, 2);
}

#[test]
fn packets_of_a_removed_services_connections_are_dropped() {
    let (mut table, id) = service(64, TCP, Method::Dr, 1);
    table.director.run(Packet::tcp(CLIENT, VIP, SYN).build());
    table.remove_service(id);
    let outcome = table.director.run(Packet::tcp(CLIENT, VIP, ACK).build());
    assert_eq!(outcome.counted, [Counter::DestinationGone]);
    let outcome = table.director.run(Packet::tcp("192.0.2.8:1", VIP, SYN).build());
    assert_eq!((outcome.verdict, outcome.counted), (Verdict::Pass, vec![]), "no service any more");
}

#[test]
fn a_service_without_usable_destination_says_so_and_counts() {
    let (mut table, id) = service(64, TCP, Method::Dr, 1);
    table.set_weight(id, 0, 0);
    let outcome = table.director.run(Packet::tcp(CLIENT, VIP, SYN).build());
    assert_eq!(outcome.counted, [Counter::NoDestination, Counter::IcmpSent]);
    table.remove_destination(id, 0);
    let outcome = table.director.run(Packet::tcp(CLIENT, VIP, SYN).build());
    assert_eq!(outcome.counted, [Counter::NoDestination, Counter::IcmpSent]);
    assert_eq!(table.director.live().count(), 0);
}

#[test]
fn tcp_without_a_connection_goes_to_the_stack_unless_it_opens_one() {
    for flags in [ACK, FIN | ACK, RST, SYN | RST, SYN | ACK | RST, 0] {
        let (table, _) = service(64, TCP, Method::Dr, 1);
        let outcome = table.director.run(Packet::tcp(CLIENT, VIP, flags).build());
        assert_eq!(
            (outcome.verdict, outcome.counted),
            (Verdict::Pass, vec![Counter::NotSyn]),
            "flags {flags:#x}"
        );
        assert_eq!(table.director.live().count(), 0);
    }
    // IPVS never schedules what comes from FTP's data port.
    let (table, _) = service(64, TCP, Method::Dr, 1);
    let outcome = table.director.run(Packet::tcp("192.0.2.7:20", VIP, SYN).build());
    assert_eq!((outcome.verdict, outcome.counted), (Verdict::Pass, vec![Counter::NotSyn]));
}

/// Recorded on Linux 6.12: a SYN with ACK makes an entry in SYN_RECV, which active FTP in direct routing lives by.
#[test]
fn a_syn_with_ack_opens_a_connection_too() {
    let (table, _) = service(64, TCP, Method::Dr, 1);
    let outcome = table.director.run(Packet::tcp(CLIENT, VIP, SYN | ACK).build());
    assert_eq!((outcome.verdict, outcome.counted), (Verdict::Transmit, vec![]));
    assert_eq!(table.director.live().count(), 1);
}

#[test]
fn a_syn_in_time_wait_or_close_is_scheduled_anew() {
    let ends: [End; 3] = [
        (Method::Nat, &[(Client, FIN | ACK), (Server, FIN | ACK)], TimeWait),
        (Method::Nat, &[(Server, RST)], Close),
        (Method::Dr, &[(Client, RST)], Close),
    ];
    for (method, end, state) in ends {
        let (table, _) = service(64, TCP, method, 2);
        let syn = Packet::tcp(CLIENT, VIP, SYN);
        table.director.run(syn.build());
        table.director.run(Packet::tcp(CLIENT, VIP, ACK).build());
        for (side, flags) in end {
            let packet = match side {
                Client => Packet::tcp(CLIENT, VIP, *flags),
                Server => Packet::tcp("10.1.0.22:8080", CLIENT, *flags),
            };
            assert_eq!(table.director.run(packet.build()).verdict, Verdict::Transmit);
        }
        assert_eq!(table.director.state(syn.key()), Some(state));
        assert_eq!(table.director.load_of(1), (0, 1));
        let outcome = table.director.run(syn.build());
        assert_eq!(outcome.counted, [Counter::Reused], "{state:?}");
        assert_eq!(Seen::read(&outcome.frame.bytes).destination_mac, server_mac(0));
        assert_eq!(table.director.state(syn.key()), Some(SynRecv));
        assert_eq!((table.director.load_of(0), table.director.load_of(1)), ((1, 0), (0, 0)));
        table.director.check_tables();
    }
}

/// Connections that a table of one home bucket holds.
const CAPACITY: u32 = CHAIN_BUCKETS * BUCKET_SLOTS as u32;

#[test]
fn a_full_table_refuses_new_connections_and_keeps_the_established() {
    let (table, _) = service(1, TCP, Method::Dr, 1);
    for number in 0..CAPACITY {
        for flags in [SYN, ACK] {
            let packet = Packet::tcp(&client(number), VIP, flags);
            assert_eq!(table.director.run(packet.build()).verdict, Verdict::Transmit, "{number}");
        }
    }
    let outcome = table.director.run(Packet::tcp(&client(CAPACITY), VIP, SYN).build());
    assert_eq!((outcome.verdict, outcome.counted), (Verdict::Drop, vec![Counter::TableFull]));
    assert_eq!(table.director.load_of(0), (CAPACITY, 0));
    for number in 0..CAPACITY {
        let packet = Packet::tcp(&client(number), VIP, ACK);
        assert_eq!(table.director.run(packet.build()).verdict, Verdict::Transmit, "{number}");
    }
    table.director.check_tables();
}

#[test]
fn a_flood_of_syns_replaces_half_open_connections_and_no_others() {
    let (table, _) = service(1, TCP, Method::Dr, 2);
    for number in 0..CAPACITY / 2 {
        for flags in [SYN, ACK] {
            table.director.run(Packet::tcp(&client(number), VIP, flags).build());
        }
    }
    for number in CAPACITY / 2..CAPACITY * 4 {
        let outcome = table.director.run(Packet::tcp(&client(number), VIP, SYN).build());
        assert_eq!(outcome.verdict, Verdict::Transmit, "{number}");
        let evicted: &[Counter] = if number < CAPACITY { &[] } else { &[Counter::EvictedHalfOpen] };
        assert_eq!(outcome.counted, evicted, "{number}");
    }
    for number in 0..CAPACITY / 2 {
        let key = Packet::tcp(&client(number), VIP, 0).key();
        assert_eq!(table.director.state(key), Some(Established), "{number}");
    }
    table.director.check_tables();
}

#[test]
fn connections_give_way_after_their_states_timeout_and_not_before() {
    let states: [(&str, u8, &[u8], u32); 4] = [
        ("ESTABLISHED", TCP, &[SYN, ACK], 900),
        ("FIN_WAIT", TCP, &[SYN, ACK, FIN], 120),
        ("CLOSE", TCP, &[SYN, RST | ACK, ACK, RST], 10),
        ("UDP", UDP, &[0], 300),
    ];
    for (name, protocol, flags, seconds) in states {
        let (table, _) = service(1, protocol, Method::Dr, 1);
        let packet = |number: u32, flags: u8| {
            Packet { protocol, ..Packet::tcp(&client(number), VIP, flags) }.build()
        };
        for number in 0..CAPACITY {
            for flags in flags {
                table.director.run(packet(number, *flags));
            }
        }
        // A busy connection's tick may be that much older than its last packet.
        table.director.advance_seconds(seconds);
        table.director.advance_ticks(REFRESH_TICKS);
        let outcome = table.director.run(packet(CAPACITY, SYN));
        assert!(!outcome.counted.contains(&Counter::EvictedExpired), "{name}: {outcome:?}");
        table.director.advance_ticks(1);
        let outcome = table.director.run(packet(CAPACITY, SYN));
        assert_eq!(outcome.counted, [Counter::EvictedExpired], "{name}");
        assert_eq!(outcome.verdict, Verdict::Transmit, "{name}");
        table.director.check_tables();
    }
}

/// Another CPU's packet may carry a later tick than the one this CPU has read.
#[test]
fn a_connection_touched_in_the_next_tick_is_not_expired() {
    let (table, _) = service(1, TCP, Method::Dr, 1);
    for number in 0..CAPACITY {
        for flags in [SYN, ACK] {
            table.director.run(Packet::tcp(&client(number), VIP, flags).build());
        }
    }
    table.director.advance_ticks(u32::MAX);
    let outcome = table.director.run(Packet::tcp(&client(CAPACITY), VIP, SYN).build());
    assert_eq!(outcome.counted, [Counter::TableFull]);
}

#[test]
fn services_are_told_apart_by_address_port_and_protocol() {
    let mut table = Table::new(64);
    let mut expected = Vec::new();
    for address in ["10.0.0.100", "10.0.0.101"] {
        for port in [53, 80, 443, 8_080] {
            for protocol in [TCP, UDP] {
                let vip = format!("{address}:{port}");
                let id = table.add_service(protocol, &vip, scheduler_id::RR);
                let server = format!("10.1.0.21:{port}");
                expected.push((vip, protocol, table.add_destination(id, &server, Method::Dr, 1)));
            }
        }
    }
    for (number, (vip, protocol, destination)) in (0_u32..).zip(&expected) {
        let packet = Packet { protocol: *protocol, ..Packet::tcp(&client(number), vip, SYN) };
        let outcome = table.director.run(packet.build());
        let seen = Seen::read(&outcome.frame.bytes);
        assert_eq!(seen.destination_mac, server_mac(*destination), "{vip} {protocol}");
    }
    for vip in ["10.0.0.100:81", "10.0.0.102:80", "100.0.0.10:80", "10.0.0.100:0"] {
        let outcome = table.director.run(Packet::tcp(CLIENT, vip, SYN).build());
        assert_eq!((outcome.verdict, outcome.counted), (Verdict::Pass, vec![]), "{vip}");
    }
}

#[test]
fn an_address_that_collides_with_a_vip_in_the_filter_is_none() {
    let (table, _) = service(64, TCP, Method::Dr, 1);
    let bit = elvs_common::filter_place(ip("10.0.0.100"));
    let collides = (0x0b00_0000_u32..)
        .find(|address| elvs_common::filter_place(address.to_be()) == bit)
        .map(std::net::Ipv4Addr::from)
        .unwrap();
    let whole = Packet::tcp(CLIENT, &format!("{collides}:80"), SYN);
    let fragment = Packet { fragment: 0x2000, ..whole.clone() };
    for packet in [whole, fragment] {
        let outcome = table.director.run(packet.build());
        assert_eq!((outcome.verdict, outcome.counted), (Verdict::Pass, vec![]));
    }
}
