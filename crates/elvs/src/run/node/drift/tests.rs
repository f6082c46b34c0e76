use std::net::{IpAddr, Ipv4Addr};

use elvs_model::health::ServiceHealth;
use elvs_model::{
    Change, Desired, DesiredService, Destination, DestinationKey, ForwardingMethod, LocalAddresses,
    Protocol, Scheduler, ServiceKey, Table, Timeouts, VirtualService,
};

use super::differences;

fn key(port: u16) -> ServiceKey {
    let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    ServiceKey::Address { protocol: Protocol::Tcp, address, port }
}

fn server(last: u8) -> Destination {
    Destination {
        key: DestinationKey { address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)), port: 80 },
        method: ForwardingMethod::Dr,
        weight: 1,
        upper_threshold: 0,
        lower_threshold: 0,
    }
}

#[test]
fn what_the_file_says_is_restored_and_the_rest_left_alone() {
    let timeouts = Timeouts { tcp: 800, tcp_fin: 100, udp: 200 };
    let service = |port| DesiredService {
        service: VirtualService::new(key(port), Scheduler::Rr),
        destinations: vec![server(2), server(3)],
        local_addresses: LocalAddresses::default(),
        health: ServiceHealth::default(),
    };
    let desired = Desired {
        services: vec![service(80), service(81)],
        timeouts: Some(timeouts),
        ..Desired::default()
    };
    let mut table = Table::from_desired(&desired).unwrap();
    assert_eq!(differences(&table, &desired), []);
    let drained = Destination { weight: 0, ..server(3) };
    let by_hand = [
        Change::DeleteService(key(81)),
        Change::DeleteDestination { service: key(80), destination: server(2).key },
        Change::EditDestination { service: key(80), destination: drained },
        Change::AddDestination { service: key(80), destination: server(9) },
        Change::AddService(VirtualService::new(key(99), Scheduler::Wlc)),
        Change::SetTimeouts(Timeouts { tcp: 1, tcp_fin: 1, udp: 1 }),
    ];
    for change in &by_hand {
        table.apply(change).unwrap();
    }
    let changes = differences(&table, &desired);
    for change in &changes {
        table.apply(change).unwrap();
    }
    assert_eq!(differences(&table, &desired), []);
    assert!(table.service(&key(99)).is_some(), "a service that the file does not name");
    assert_eq!(table.timeouts(), timeouts);
    assert!(table.service(&key(80)).unwrap().destination(&server(9).key).is_none());
    assert_eq!(table.service(&key(81)).unwrap().destinations().len(), 2);
}
