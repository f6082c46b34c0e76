//! `schedule_icmp`: ICMP errors of no connection go where the connection's packets would.

use std::net::Ipv4Addr;

use elvs_common::{Counter, Method, SettingFlags, TCP, TcpState, UDP, scheduler_id};
use elvs_fastpath::Verdict;

use crate::support::{ACK, Packet, Packet6, SYN, Table};

const CLIENT: &str = "192.0.2.1:46001";
const VIP: &str = "10.0.0.100:80";
const ROUTER: &str = "203.0.113.1";
const CLIENT6: &str = "[2001:db8::7]:40000";
const VIP6: &str = "[fd00::100]:80";
const ROUTER6: &str = "2001:db8:1::1";

/// Services of both families, scheduled by the client's address, with four real servers each; none knows a connection.
fn table(protocol: u8, method: Method, on: bool) -> Table {
    let mut table = Table::new(64);
    for (address, server) in [(VIP, "10.1.0.2N:8080"), (VIP6, "[fd01::2N]:8080")] {
        let service = table.add_service(protocol, address, scheduler_id::SH);
        for number in 1..=4 {
            let server = server.replace('N', &number.to_string());
            table.add_destination(service, &server, method, 1);
        }
    }
    if on {
        table.director.settings.flags |= SettingFlags::SCHEDULE_ICMP;
    }
    table
}

/// The client's first packet, and an error about an answer to it.
fn packets(protocol: u8) -> [(Vec<u8>, Vec<u8>); 2] {
    let (request, reply) = if protocol == TCP {
        (Packet::tcp(CLIENT, VIP, SYN), Packet::tcp(VIP, CLIENT, ACK))
    } else {
        (Packet::udp(CLIENT, VIP), Packet::udp(VIP, CLIENT))
    };
    let error = Packet::icmp(ROUTER, "10.0.0.100", 3, 4, 1_400, &reply.ip_packet());
    let (request6, reply6) = if protocol == TCP {
        (Packet6::tcp(CLIENT6, VIP6, SYN), Packet6::tcp(VIP6, CLIENT6, ACK))
    } else {
        (Packet6::udp(CLIENT6, VIP6), Packet6::udp(VIP6, CLIENT6))
    };
    let error6 = Packet6::icmp(ROUTER6, "fd00::100", 2, 0, 1_400, &reply6.ip_packet());
    [(request.build(), error.build()), (request6.build(), error6.build())]
}

#[test]
fn an_error_goes_where_the_connection_would_and_as_it_would() {
    for protocol in [TCP, UDP] {
        for method in [Method::Dr, Method::Nat] {
            for (request, error) in packets(protocol) {
                let known = table(protocol, method, false);
                known.director.run(request);
                let wanted = known.director.run(error.clone());
                assert_eq!(wanted.counted, [Counter::IcmpForwarded]);
                let outcome = table(protocol, method, true).director.run(error.clone());
                assert_eq!((outcome.verdict, outcome.counted), (wanted.verdict, wanted.counted));
                assert_eq!(outcome.frame, wanted.frame, "{protocol} {method:?}");
                let off = table(protocol, method, false).director.run(error);
                assert_eq!((off.verdict, off.counted), (Verdict::Pass, vec![]), "0 is the default");
            }
        }
    }
}

#[test]
fn it_opens_an_inactive_connection_that_the_clients_packets_follow() {
    let table = table(TCP, Method::Dr, true);
    let [(_, error), (_, error6)] = packets(TCP);
    let key = Packet::tcp(CLIENT, VIP, SYN).key();
    table.director.run(error.clone());
    assert_eq!(table.director.state(key), Some(TcpState::None));
    let destination = table.director.destination_of_key(key).unwrap();
    assert_eq!(table.director.load_of(destination), (0, 1));
    assert_eq!(table.director.stats(destination).connections, 1);
    table.director.run(error);
    assert_eq!(table.director.stats(destination).connections, 1, "the second error knows it");
    let outcome = table.director.run(Packet::tcp(CLIENT, VIP, ACK).build());
    assert_eq!((outcome.verdict, outcome.counted), (Verdict::Transmit, vec![]));
    assert_eq!(table.director.load_of(destination), (1, 0));
    table.director.run(error6);
    let key = Packet6::tcp(CLIENT6, VIP6, SYN).key();
    assert_eq!(table.director.wide_state(key), Some(TcpState::None));
    table.director.check_tables();
}

#[test]
fn what_cannot_be_scheduled_is_dropped_or_left_to_the_stack() {
    let [(_, error), (_, error6)] = packets(TCP);
    let mut without = Table::new(64);
    without.director.settings.flags |= SettingFlags::SCHEDULE_ICMP;
    for vip in [VIP, VIP6] {
        without.add_service(TCP, vip, scheduler_id::RR);
    }
    for error in [&error, &error6] {
        let outcome = without.director.run(error.clone());
        // Errors are never answered by errors.
        assert_eq!(outcome.counted, [Counter::NoDestination]);
        assert_eq!(outcome.verdict, Verdict::Drop);
    }
    let mut shedding = table(TCP, Method::Dr, true);
    shedding.director.settings.drop_rate = 1;
    assert_eq!(shedding.director.run(error.clone()).counted, [Counter::DropPacket]);
    let mut persistent = Table::new(64);
    persistent.director.settings.flags |= SettingFlags::SCHEDULE_ICMP;
    let service = persistent.add_service(TCP, VIP, scheduler_id::RR);
    persistent.add_destination(service, "10.1.0.21:80", Method::Dr, 1);
    persistent.set_persistence(service, Some(Ipv4Addr::BROADCAST));
    let outcome = persistent.director.run(error.clone());
    assert_eq!((outcome.verdict, outcome.counted), (Verdict::Pass, vec![]), "nothing remembered");
    persistent.director.run(Packet::tcp("192.0.2.1:1", VIP, SYN).build());
    let outcome = persistent.director.run(error);
    assert_eq!(outcome.counted, [Counter::IcmpForwarded], "by the client's template");
    let udp = table(UDP, Method::Dr, true);
    let outcome = udp.director.run(error6);
    assert_eq!((outcome.verdict, outcome.counted), (Verdict::Pass, vec![]), "another protocol's");
}
