//! Connections of the wide table: states, loads, statistics, reuse, removal, a full table.

use elvs_common::{
    BUCKET_SLOTS, CHAIN_BUCKETS, Counter, DestinationStats, Method, REFRESH_TICKS, SettingFlags,
    TCP, TcpState, UDP, scheduler_id,
};
use elvs_fastpath::Verdict;

use super::{CLIENT, MAPPED, VIP, client, one_server, packet, pool, run, sent, sent_to};
use crate::support::{ACK, FIN, Packet6, RST, SYN};

/// Whole connections by masquerading: who sends (the client: true), flags, the state after it (`ip_vs_proto_tcp.c`).
const LIVES: &[&[(bool, u8, TcpState)]] = &[
    &[
        (true, SYN, TcpState::SynRecv),
        (false, SYN | ACK, TcpState::SynRecv),
        (true, ACK, TcpState::Established),
        (false, ACK, TcpState::Established),
        (true, FIN | ACK, TcpState::CloseWait),
        (false, ACK, TcpState::CloseWait),
        (false, FIN | ACK, TcpState::TimeWait),
        (true, ACK, TcpState::TimeWait),
    ],
    &[
        (true, SYN, TcpState::SynRecv),
        (false, SYN | ACK, TcpState::SynRecv),
        (true, ACK, TcpState::Established),
        (true, RST, TcpState::Close),
    ],
];

#[test]
fn states_loads_and_statistics_follow_whole_connections() {
    for life in LIVES {
        let (table, _) = one_server(TCP, Method::Nat, MAPPED);
        let key = Packet6::tcp(CLIENT, VIP, SYN).key();
        let mut stats = DestinationStats { connections: 1, ..DestinationStats::default() };
        for (number, (from_client, flags, state)) in life.iter().enumerate() {
            let packet = if *from_client {
                stats.in_packets += 1;
                stats.in_bytes += 60;
                Packet6::tcp(CLIENT, VIP, *flags)
            } else {
                stats.out_packets += 1;
                stats.out_bytes += 60;
                Packet6::tcp(MAPPED, CLIENT, *flags)
            };
            sent(&table, &packet);
            assert_eq!(table.director.wide_state(key), Some(*state), "packet {number} of {life:?}");
            assert_eq!(table.director.stats(0), stats, "packet {number} of {life:?}");
            table.director.check_tables();
        }
        let active = table.director.load_of(0);
        assert_eq!(active, (0, 1), "inactive in the end");
    }
}

#[test]
fn udp_connections_are_inactive() {
    let (table, _) = one_server(UDP, Method::Nat, MAPPED);
    sent(&table, &packet(UDP));
    sent(&table, &Packet6::udp(MAPPED, CLIENT));
    assert_eq!(table.director.load_of(0), (0, 1));
    table.director.check_tables();
}

#[test]
fn a_known_connection_keeps_its_real_server_whatever_its_weight() {
    let (mut table, service) = pool(64, scheduler_id::WRR, 3);
    let first = sent_to(&table, &packet(TCP));
    table.set_weight(service, first, 0);
    for _ in 0..5 {
        assert_eq!(sent_to(&table, &Packet6::tcp(CLIENT, VIP, ACK)), first);
    }
    for number in 0..6 {
        assert_ne!(sent_to(&table, &Packet6::tcp(&client(number), VIP, SYN)), first);
    }
}

#[test]
fn tcp_without_a_connection_goes_to_the_stack_unless_it_opens_one() {
    let (table, _) = one_server(TCP, Method::Dr, MAPPED);
    for (flags, source) in [(ACK, CLIENT), (RST, CLIENT), (FIN, CLIENT), (SYN, "[2001:db8::7]:20")]
    {
        let outcome = run(&table, &Packet6::tcp(source, VIP, flags));
        assert_eq!((outcome.verdict, outcome.counted), (Verdict::Pass, vec![Counter::NotSyn]));
    }
    assert_eq!(table.director.live_wide().count(), 0);
}

#[test]
fn packets_of_a_removed_destination_are_dropped_until_it_is_back() {
    let (mut table, service) = one_server(TCP, Method::Nat, MAPPED);
    sent(&table, &packet(TCP));
    table.remove_destination(service, 0);
    let outcome = run(&table, &Packet6::tcp(CLIENT, VIP, ACK));
    assert_eq!((outcome.verdict, outcome.counted), (Verdict::Drop, vec![Counter::DestinationGone]));
    table.add_destination(service, MAPPED, Method::Nat, 1);
    sent(&table, &Packet6::tcp(CLIENT, VIP, ACK));
    table.remove_service(service);
    let outcome = run(&table, &Packet6::tcp(CLIENT, VIP, ACK));
    assert_eq!(outcome.counted, [Counter::DestinationGone], "the service is gone");
    table.director.check_tables();
}

#[test]
fn expire_nodest_conn_has_a_gone_destinations_connections_scheduled_anew() {
    let (mut table, service) = pool(64, scheduler_id::RR, 2);
    table.director.settings.flags |= SettingFlags::EXPIRE_NODEST_CONN;
    let first = sent_to(&table, &packet(TCP));
    let udp = table.add_service(UDP, VIP, scheduler_id::RR);
    let gone = table.add_destination(udp, "[fd01::9]:80", Method::Dr, 1);
    sent(&table, &packet(UDP));
    let other = table.add_destination(udp, "[fd01::a]:80", Method::Dr, 1);
    table.remove_destination(service, first);
    table.remove_destination(udp, gone);
    let outcome = run(&table, &Packet6::tcp(CLIENT, VIP, ACK));
    let wanted = [Counter::NotSyn, Counter::ExpiredNodest];
    assert!(wanted.iter().all(|counter| outcome.counted.contains(counter)), "{outcome:?}");
    assert_eq!(table.director.live_wide().count(), 1, "that of UDP");
    let outcome = run(&table, &packet(UDP));
    assert_eq!(outcome.counted, [Counter::ExpiredNodest]);
    assert_eq!(table.director.find_wide(packet(UDP).key()).unwrap().1, other);
    table.director.check_tables();
}

#[test]
fn a_syn_in_time_wait_or_close_is_scheduled_anew() {
    let ends: [&[u8]; 2] = [&[SYN, ACK, FIN | ACK, ACK, FIN], &[SYN, ACK, RST]];
    for flags in ends {
        let (table, _) = pool(64, scheduler_id::RR, 2);
        let first = sent_to(&table, &Packet6::tcp(CLIENT, VIP, flags[0]));
        for flags in &flags[1..] {
            assert_eq!(sent_to(&table, &Packet6::tcp(CLIENT, VIP, *flags)), first);
        }
        let state = table.director.wide_state(packet(TCP).key()).unwrap();
        let outcome = run(&table, &packet(TCP));
        let anew = matches!(state, TcpState::TimeWait | TcpState::Close);
        let counted: &[Counter] = if anew { &[Counter::Reused] } else { &[] };
        assert_eq!(outcome.counted, counted, "{state:?}");
        let now = table.director.find_wide(packet(TCP).key()).unwrap().1;
        assert_eq!(now != first, anew, "{state:?}");
        assert_eq!(table.director.live_wide().count(), 1);
        table.director.check_tables();
    }
}

/// Slots of the chain of the one home bucket.
const CAPACITY: u32 = CHAIN_BUCKETS * BUCKET_SLOTS as u32;

#[test]
fn a_full_table_refuses_new_connections_and_keeps_the_established() {
    let (table, _) = pool(1, scheduler_id::RR, 1);
    for number in 0..CAPACITY {
        for flags in [SYN, ACK] {
            sent(&table, &Packet6::tcp(&client(number), VIP, flags));
        }
    }
    let outcome = run(&table, &Packet6::tcp(&client(CAPACITY), VIP, SYN));
    assert_eq!((outcome.verdict, outcome.counted), (Verdict::Drop, vec![Counter::TableFull]));
    assert_eq!(table.director.load_of(0), (CAPACITY, 0));
    for number in 0..CAPACITY {
        sent(&table, &Packet6::tcp(&client(number), VIP, ACK));
    }
    table.director.check_tables();
}

#[test]
fn a_flood_of_syns_replaces_half_open_connections_and_no_others() {
    let (table, _) = pool(1, scheduler_id::RR, 2);
    for number in 0..CAPACITY / 2 {
        for flags in [SYN, ACK] {
            sent(&table, &Packet6::tcp(&client(number), VIP, flags));
        }
    }
    for number in CAPACITY / 2..CAPACITY * 4 {
        // Half-open is a connection of direct routing in SYN_SENT, or SYN_RECV: its client has said nothing more.
        let outcome = run(&table, &Packet6::tcp(&client(number), VIP, SYN));
        assert_eq!(outcome.verdict, Verdict::Transmit, "{number}");
        let evicted: &[Counter] = if number < CAPACITY { &[] } else { &[Counter::EvictedHalfOpen] };
        assert_eq!(outcome.counted, evicted, "{number}");
    }
    for number in 0..CAPACITY / 2 {
        let key = Packet6::tcp(&client(number), VIP, 0).key();
        assert_eq!(table.director.wide_state(key), Some(TcpState::Established), "{number}");
    }
    table.director.check_tables();
}

#[test]
fn connections_give_way_after_their_states_timeout_and_not_before() {
    let states: [(&str, u8, &[u8], u32); 3] = [
        ("ESTABLISHED", TCP, &[SYN, ACK], 900),
        ("FIN_WAIT", TCP, &[SYN, ACK, FIN], 120),
        ("UDP", UDP, &[0], 300),
    ];
    for (name, protocol, flags, seconds) in states {
        let (mut table, _) = pool(1, scheduler_id::RR, 1);
        let udp = table.add_service(UDP, VIP, scheduler_id::RR);
        table.add_destination(udp, "[fd01::9]:80", Method::Dr, 1);
        let packet = |number: u32, flags: u8| Packet6 {
            protocol,
            ..Packet6::tcp(&client(number), VIP, flags)
        };
        for number in 0..CAPACITY {
            for flags in flags {
                sent(&table, &packet(number, *flags));
            }
        }
        // A busy connection's tick may be that much older than its last packet.
        table.director.advance_seconds(seconds);
        table.director.advance_ticks(REFRESH_TICKS);
        let outcome = run(&table, &packet(CAPACITY, SYN));
        assert_eq!(outcome.counted, [Counter::TableFull], "{name}");
        table.director.advance_ticks(1);
        let outcome = run(&table, &packet(CAPACITY, SYN));
        assert_eq!(outcome.counted, [Counter::EvictedExpired], "{name}");
        table.director.check_tables();
    }
}
