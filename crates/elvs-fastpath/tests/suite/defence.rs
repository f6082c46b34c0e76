//! `drop_packet`, `secure_tcp`, `cache_bypass` and `nat_icmp_send` as packets meet them.

use std::net::Ipv4Addr;

use elvs_common::{
    Counter, Method, SECURE_SYN_RECV, SettingFlags, TCP, TcpState, UDP, scheduler_id,
};
use elvs_fastpath::{Action, Verdict, forward_plain};

use crate::support::{
    ACK, FIN, MemoryFrame, Packet, Packet6, RST, SYN, Seen, Seen6, ServiceId, Table,
};

const CLIENT: &str = "192.0.2.7:40000";
const VIP: &str = "10.0.0.100:80";
const SERVER: &str = "10.1.0.21:8080";
const CLIENT6: &str = "[2001:db8::7]:40000";
const VIP6: &str = "[fd00::100]:80";
const SERVER6: &str = "[fd01::21]:8080";

/// A service with one real server, and a defence that may be in the way.
fn service(protocol: u8, method: Method) -> (Table, ServiceId) {
    let mut table = Table::new(256);
    let service = table.add_service(protocol, VIP, scheduler_id::RR);
    table.add_destination(service, SERVER, method, 1);
    table.defend();
    (table, service)
}

fn syn(port: u32) -> Vec<u8> {
    Packet::tcp(&format!("192.0.2.7:{}", 1_024 + port), VIP, SYN).build()
}

fn syn6(port: u32) -> Vec<u8> {
    Packet6::tcp(&format!("[2001:db8::7]:{}", 1_024 + port), VIP6, SYN).build()
}

#[test]
fn without_a_rate_no_connection_is_dropped() {
    let (table, _) = service(TCP, Method::Dr);
    assert!((0..50).all(|port| table.director.run(syn(port)).verdict == Verdict::Transmit));
}

#[test]
fn one_of_so_many_new_connections_is_dropped() {
    for rate in [1, 2, 3, 10] {
        let (mut table, _) = service(TCP, Method::Dr);
        let wide = table.add_service(TCP, VIP6, scheduler_id::RR);
        table.add_destination(wide, SERVER6, Method::Dr, 1);
        table.defend();
        table.director.settings.drop_rate = rate;
        for frame in [syn as fn(u32) -> Vec<u8>, syn6] {
            let dropped: Vec<bool> = (0..30)
                .map(|port| {
                    let outcome = table.director.run(frame(port));
                    let shed = outcome.verdict == Verdict::Drop;
                    assert_eq!(shed, outcome.counted == [Counter::DropPacket], "{outcome:?}");
                    shed
                })
                .collect();
            let wanted: Vec<bool> = (0..30).map(|port| port % rate == 0).collect();
            assert_eq!(dropped, wanted, "rate {rate}");
        }
    }
}

#[test]
fn a_lower_rate_takes_effect_at_once() {
    let (mut table, _) = service(TCP, Method::Dr);
    table.director.settings.drop_rate = 1_000_000;
    table.director.run(syn(0));
    table.director.settings.drop_rate = 2;
    let dropped: Vec<bool> =
        (1..5).map(|port| table.director.run(syn(port)).verdict == Verdict::Drop).collect();
    assert_eq!(dropped, [false, true, false, true]);
}

#[test]
fn only_new_connections_of_services_are_dropped() {
    let (mut table, _) = service(TCP, Method::Nat);
    table.director.run(Packet::tcp(CLIENT, VIP, SYN).build());
    table.director.settings.drop_rate = 1;
    let passes = [
        (Packet::tcp(CLIENT, VIP, ACK), Verdict::Transmit, vec![]),
        (Packet::tcp(SERVER, CLIENT, SYN | ACK), Verdict::Transmit, vec![]),
        (Packet::tcp("192.0.2.8:1", VIP, ACK), Verdict::Pass, vec![Counter::NotSyn]),
        (Packet::tcp("192.0.2.8:1", "10.0.0.100:81", SYN), Verdict::Pass, vec![]),
    ];
    for (packet, verdict, counted) in passes {
        let outcome = table.director.run(packet.build());
        assert_eq!((outcome.verdict, outcome.counted), (verdict, counted), "{packet:?}");
    }
    let outcome = table.director.run(Packet::tcp("192.0.2.8:1", VIP, SYN).build());
    assert_eq!(outcome.counted, [Counter::DropPacket]);
}

#[test]
fn a_persistent_client_is_counted_once() {
    let (mut table, id) = service(TCP, Method::Dr);
    table.set_persistence(id, Some(Ipv4Addr::BROADCAST));
    table.defend();
    table.director.settings.drop_rate = 2;
    let dropped: Vec<bool> =
        (0..6).map(|port| table.director.run(syn(port)).verdict == Verdict::Drop).collect();
    assert_eq!(dropped, [true, false, true, false, true, false]);
}

#[test]
fn the_first_stage_opens_connections_unless_a_defence_may_act() {
    let mut table = Table::new(64);
    let service = table.add_service(TCP, VIP, scheduler_id::RR);
    table.add_destination(service, SERVER, Method::Dr, 1);
    let opened = |table: &Table, port| {
        forward_plain(&table.director, &mut MemoryFrame::new(syn(port))) != Action::SCHEDULE
    };
    // The first flow of all begins the count of new ones (flood defence).
    table.director.run(syn(1));
    assert!(opened(&table, 3));
    table.defend();
    assert!(!opened(&table, 2));
}

type Step = (bool, u8, TcpState);

/// Whole connections under `secure_tcp`: whether the client sends, flags, the state after it (`tcp_states_dos`).
const LIVES: &[(&str, Method, &[Step])] = &[
    (
        "NAT: established when the real server has acknowledged",
        Method::Nat,
        &[
            (true, SYN, TcpState::SynRecv),
            (true, ACK, TcpState::SynRecv),
            (true, SYN, TcpState::SynRecv),
            (false, SYN | ACK, TcpState::SynAck),
            (true, ACK, TcpState::SynAck),
            (true, FIN | ACK, TcpState::SynAck),
            (true, SYN, TcpState::SynAck),
            (false, ACK, TcpState::Established),
            (true, ACK, TcpState::Established),
            (true, FIN | ACK, TcpState::CloseWait),
        ],
    ),
    (
        "NAT: a client that resets",
        Method::Nat,
        &[
            (true, SYN, TcpState::SynRecv),
            (true, RST, TcpState::SynRecv),
            (false, SYN | ACK, TcpState::SynAck),
            (true, RST, TcpState::Close),
        ],
    ),
    (
        "DR: replies are never seen",
        Method::Dr,
        &[
            (true, SYN, TcpState::SynAck),
            (true, SYN, TcpState::SynAck),
            (true, ACK, TcpState::Established),
            (true, SYN, TcpState::Established),
            (true, FIN | ACK, TcpState::FinWait),
            // The kernel: SYNACK. A connection that is not opened anew has left that table for good.
            (true, SYN, TcpState::SynRecv),
        ],
    ),
];

#[test]
fn states_under_secure_tcp_are_the_kernels() {
    for (name, method, steps) in LIVES {
        let (mut table, _) = service(TCP, *method);
        table.director.settings.flags |= SettingFlags::SECURE_TCP | SettingFlags::NO_REUSE;
        let key = Packet::tcp(CLIENT, VIP, 0).key();
        for (number, (from_client, flags, state)) in steps.iter().enumerate() {
            let packet = if *from_client {
                Packet::tcp(CLIENT, VIP, *flags)
            } else {
                Packet::tcp(SERVER, CLIENT, *flags)
            };
            assert_eq!(table.director.run(packet.build()).verdict, Verdict::Transmit, "{name}");
            assert_eq!(table.director.state(key), Some(*state), "{name}: packet {number}");
            table.director.check_tables();
        }
    }
}

#[test]
fn states_under_secure_tcp_are_the_same_for_ipv6() {
    for (name, method, steps) in LIVES {
        let mut table = Table::new(64);
        let service = table.add_service(TCP, VIP6, scheduler_id::RR);
        table.add_destination(service, SERVER6, *method, 1);
        table.director.settings.flags |= SettingFlags::SECURE_TCP | SettingFlags::NO_REUSE;
        let key = Packet6::tcp(CLIENT6, VIP6, 0).key();
        for (number, (from_client, flags, state)) in steps.iter().enumerate() {
            let packet = if *from_client {
                Packet6::tcp(CLIENT6, VIP6, *flags)
            } else {
                Packet6::tcp(SERVER6, CLIENT6, *flags)
            };
            assert_eq!(table.director.run(packet.build()).verdict, Verdict::Transmit, "{name}");
            assert_eq!(table.director.wide_state(key), Some(*state), "{name}: packet {number}");
        }
    }
}

#[test]
fn half_open_connections_of_secure_tcp_are_active_and_expire_as_others() {
    let (mut table, _) = service(TCP, Method::Nat);
    table.director.settings.flags |= SettingFlags::SECURE_TCP;
    table.director.run(Packet::tcp(CLIENT, VIP, SYN).build());
    assert_eq!(table.director.load_of(0), (1, 0));
    let control = table.director.control(Packet::tcp(CLIENT, VIP, 0).key()).unwrap();
    assert_eq!(control.state(), SECURE_SYN_RECV);
    let timeouts = table.director.settings.tcp_timeouts;
    let [timeout, secure] = [TcpState::SynRecv as u8, SECURE_SYN_RECV].map(usize::from);
    assert_eq!(timeouts[timeout], timeouts[secure]);
    assert!(TcpState::is_half_open_bits(SECURE_SYN_RECV), "it gives way when a bucket is full");
}

/// Services of a firewall mark without destinations, of both families.
fn marked() -> Table {
    let mut table = Table::new(64);
    table.add_marked_service(1, scheduler_id::RR);
    table.add_mark(Ipv4Addr::new(198, 51, 100, 0), Ipv4Addr::new(255, 255, 255, 0), 1);
    table.add_marked_service6(2, scheduler_id::RR);
    let to = ("2001:db8:1::".parse().unwrap(), 48);
    table.add_mark6(("::".parse().unwrap(), 0), to, 2);
    table
}

#[test]
fn a_mark_without_destinations_leaves_packets_to_the_host_with_cache_bypass() {
    let packets = [
        Packet::tcp(CLIENT, "198.51.100.9:80", SYN).build(),
        Packet::udp(CLIENT, "198.51.100.9:53").build(),
        Packet6::tcp(CLIENT6, "[2001:db8:1::9]:80", SYN).build(),
    ];
    for packet in packets {
        let mut table = marked();
        let outcome = table.director.run(packet.clone());
        assert_eq!(outcome.counted, [Counter::NoDestination, Counter::IcmpSent]);
        table.director.settings.flags |= SettingFlags::CACHE_BYPASS;
        let outcome = table.director.run(packet);
        assert_eq!((outcome.verdict, outcome.counted), (Verdict::Pass, vec![Counter::CacheBypass]));
    }
}

#[test]
fn cache_bypass_is_for_services_by_mark_alone() {
    for protocol in [TCP, UDP] {
        let (mut table, id) = service(protocol, Method::Dr);
        table.director.settings.flags |= SettingFlags::CACHE_BYPASS;
        table.remove_destination(id, 0);
        let packet =
            if protocol == TCP { Packet::tcp(CLIENT, VIP, SYN) } else { Packet::udp(CLIENT, VIP) };
        let outcome = table.director.run(packet.build());
        assert_eq!(outcome.counted, [Counter::NoDestination, Counter::IcmpSent]);
    }
}

#[test]
fn real_servers_are_told_of_packets_of_no_connection_with_nat_icmp_send() {
    let mut table = Table::new(64);
    let service = table.add_service(TCP, VIP, scheduler_id::RR);
    table.add_destination(service, SERVER, Method::Nat, 1);
    let strays = [
        Packet::tcp(SERVER, CLIENT, ACK),
        Packet::tcp(SERVER, CLIENT, SYN),
        Packet { vlans: vec![(0x8100, 7)], ..Packet::tcp(SERVER, CLIENT, ACK) },
        Packet::udp(SERVER, CLIENT),
    ];
    for packet in &strays {
        let outcome = table.director.run(packet.build());
        assert_eq!((outcome.verdict, outcome.counted), (Verdict::Pass, vec![]), "not without it");
    }
    table.tell_real_servers();
    for packet in &strays {
        let outcome = table.director.run(packet.build());
        assert_eq!(outcome.verdict, Verdict::Transmit, "{packet:?}");
        assert_eq!(outcome.counted, [Counter::NoConnection, Counter::IcmpSent]);
        let seen = Seen::read(&outcome.frame.bytes);
        assert_eq!((seen.header[9], &seen.body[..2]), (1, &[3, 3][..]), "port unreachable");
        assert_eq!(seen.header[12..16], [10, 0, 0, 10], "from the director's address there");
        assert_eq!(seen.header[16..20], packet.source.ip().octets());
        assert_eq!(seen.body[8..28], packet.ip_packet()[..20], "about the packet");
    }
    let others = [
        Packet::tcp(SERVER, CLIENT, RST),
        Packet::tcp("10.1.0.21:8081", CLIENT, ACK),
        Packet::tcp("10.1.0.22:8080", CLIENT, ACK),
    ];
    for packet in others {
        let outcome = table.director.run(packet.build());
        assert_eq!((outcome.verdict, outcome.counted), (Verdict::Pass, vec![]), "{packet:?}");
    }
}

#[test]
fn replies_of_connections_are_not_touched_by_nat_icmp_send() {
    let mut table = Table::new(64);
    let service = table.add_service(TCP, VIP, scheduler_id::RR);
    table.add_destination(service, SERVER, Method::Nat, 1);
    table.tell_real_servers();
    table.director.run(Packet::tcp(CLIENT, VIP, SYN).build());
    let outcome = table.director.run(Packet::tcp(SERVER, CLIENT, SYN | ACK).build());
    assert_eq!((outcome.verdict, outcome.counted), (Verdict::Transmit, vec![]));
}

#[test]
fn real_servers_of_ipv6_are_told_as_well() {
    let mut table = Table::new(64);
    let service = table.add_service(TCP, VIP6, scheduler_id::RR);
    let index = table.add_destination(service, SERVER6, Method::Nat, 1);
    let own: std::net::Ipv6Addr = "fd01::10".parse().unwrap();
    table.director.destinations[index as usize].tunnel_source6 = own.octets();
    let packet = Packet6::tcp(SERVER6, CLIENT6, ACK).build();
    assert_eq!(table.director.run(packet.clone()).verdict, Verdict::Pass, "not without it");
    table.tell_real_servers();
    let outcome = table.director.run(packet);
    assert_eq!(outcome.counted, [Counter::NoConnection, Counter::IcmpSent]);
    let seen = Seen6::read(&outcome.frame.bytes);
    assert_eq!((seen.protocol, &seen.body[..2]), (58, &[1, 4][..]), "port unreachable");
    assert_eq!(seen.header[8..24], own.octets());
    for packet in [Packet6::tcp(SERVER6, CLIENT6, RST), Packet6::tcp("[fd01::21]:1", CLIENT6, ACK)]
    {
        assert_eq!(table.director.run(packet.build()).verdict, Verdict::Pass, "{packet:?}");
    }
}
