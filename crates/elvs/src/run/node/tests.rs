use std::net::{IpAddr, Ipv4Addr};

use elvs_model::{
    Change, Destination, DestinationKey, ForwardingMethod, Protocol, Scheduler, ServiceKey, Table,
    VirtualService,
};

use super::{addresses, merge};

fn service(scheduler: Scheduler) -> VirtualService {
    let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    VirtualService::new(
        ServiceKey::Address { protocol: Protocol::Tcp, address, port: 80 },
        scheduler,
    )
}

fn destination(last: u8, weight: u32) -> Destination {
    Destination {
        key: DestinationKey { address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)), port: 80 },
        method: ForwardingMethod::Dr,
        weight,
        upper_threshold: 0,
        lower_threshold: 0,
    }
}

#[test]
fn a_configuration_wins_over_what_ipvsadm_left() {
    let mut table = Table::new();
    let key = service(Scheduler::Rr).key;
    table.apply(&Change::AddService(service(Scheduler::Wlc))).unwrap();
    table.apply(&Change::AddDestination { service: key, destination: destination(2, 9) }).unwrap();
    let changes = [
        Change::AddService(service(Scheduler::Rr)),
        Change::AddDestination { service: key, destination: destination(2, 1) },
        Change::EditDestination { service: key, destination: destination(3, 4) },
        Change::DeleteDestination { service: key, destination: destination(4, 1).key },
    ];
    let met = merge(&mut table, &changes);
    assert_eq!(met.len(), 4, "{met:?}");
    let entry = table.service(&key).unwrap();
    assert_eq!(entry.service().scheduler, Scheduler::Rr);
    let weights: Vec<u32> = entry.destinations().map(|d| d.weight).collect();
    assert_eq!(weights, [4, 1], "newest first");
    assert_eq!(addresses(&table).len(), 2);
}
