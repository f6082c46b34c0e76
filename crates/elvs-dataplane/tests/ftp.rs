//! A persistent service on port 21 over plain memory: FTP's data connections go where the control connection is
//! (`ip_vs_service_find`).

#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "tests fail loudly"
)]

mod support;

use std::net::Ipv4Addr;

use elvs_common::{Counter, TCP};
use elvs_dataplane::{FakePlane, Plane};
use elvs_fastpath::Verdict;
use elvs_model::{
    Change, Destination, DestinationKey, ForwardingMethod, Netmask, Persistence, Protocol,
    Scheduler, ServiceKey, VirtualService,
};
use support::*;

const FTP: ServiceKey = service(Protocol::Tcp, 21);

fn ftp(persistence: Option<u32>) -> Change {
    Change::AddService(VirtualService {
        persistence: persistence.map(|timeout| Persistence { timeout }),
        netmask: Netmask::V4(u32::MAX),
        ..VirtualService::new(FTP, Scheduler::Rr)
    })
}

fn with_port(last: u8, weight: u32, method: ForwardingMethod) -> Destination {
    let key = DestinationKey { address: server(last).into(), port: 21 };
    Destination { key, ..destination(last, weight, method) }
}

fn add_server(last: u8, method: ForwardingMethod) -> Change {
    Change::AddDestination { service: FTP, destination: with_port(last, 1, method) }
}

fn connect(plane: &FakePlane, client: (Ipv4Addr, u16), port: u16) -> Result<u8, Verdict> {
    send(plane, frame(TCP, client, (VIP, port), SYN))
}

#[test]
fn data_connections_go_where_the_control_connection_is() {
    let dr = ForwardingMethod::Dr;
    let (plane, _) = plane([ftp(Some(300)), add_server(1, dr), add_server(2, dr)]);
    let clients = [CLIENT, Ipv4Addr::new(203, 0, 113, 6)];
    let servers = clients.map(|client| connect(&plane, (client, 40_000), 21).unwrap());
    assert_ne!(servers[0], servers[1]);
    for (client, server) in clients.into_iter().zip(servers) {
        for port in [20, 1_024, 50_000, u16::MAX] {
            assert_eq!(connect(&plane, (client, 40_001), port), Ok(server), "{port}");
        }
        // The rest of the address is not FTP's.
        for port in [19, 22, 80, 1_023] {
            assert_eq!(connect(&plane, (client, 40_002), port), Err(Verdict::Pass), "{port}");
        }
    }
    // Listed by the port that they go to; the template is for all of them.
    let listed: Vec<_> = plane.connections().filter(|c| c.client.ip() == CLIENT).collect();
    let template: Vec<_> = listed.iter().filter(|c| c.template).collect();
    assert_eq!(template.len(), 1);
    assert_eq!((template[0].service.port(), template[0].destination.port()), (0, 0));
    let mut ports: Vec<_> = listed
        .iter()
        .filter(|c| !c.template)
        .map(|c| (c.service.port(), c.destination.port()))
        .collect();
    ports.sort_unstable();
    assert_eq!(ports, [20, 21, 1_024, 50_000, u16::MAX].map(|port| (port, port)));
    assert!(plane.recount().is_empty());
}

#[test]
fn a_service_on_the_port_itself_comes_first_and_one_on_all_ports_last() {
    let dr = ForwardingMethod::Dr;
    let own = service(Protocol::Tcp, 8_080);
    let all = service(Protocol::Tcp, 0);
    let any = VirtualService {
        persistence: Some(Persistence { timeout: 300 }),
        ..VirtualService::new(all, Scheduler::Rr)
    };
    let (plane, _) = plane([
        ftp(Some(300)),
        add_server(1, dr),
        add_service(own, Scheduler::Rr),
        add(own, 2),
        Change::AddService(any),
        add(all, 3),
    ]);
    // A client of each: the template on all ports is one, whichever of the two services it is of.
    let ports = [(21, 1), (20, 1), (50_000, 1), (8_080, 2), (80, 3), (22, 3)];
    for (last, (port, wanted)) in (1..).zip(ports) {
        let client = Ipv4Addr::new(203, 0, 113, last);
        assert_eq!(connect(&plane, (client, 1), port), Ok(wanted), "{port}");
    }
}

#[test]
fn what_does_not_keep_its_port_or_its_clients_takes_the_control_connection_only() {
    for (persistence, method) in [(None, ForwardingMethod::Dr), (Some(300), ForwardingMethod::Nat)]
    {
        let (plane, _) = plane([ftp(persistence), add_server(1, method)]);
        assert!(connect(&plane, (CLIENT, 1), 21).is_ok());
        assert_eq!(connect(&plane, (CLIENT, 2), 50_000), Err(Verdict::Pass));
    }
}

#[test]
fn without_a_real_server_only_the_control_connection_is_refused() {
    let (mut plane, mut table) = plane([ftp(Some(300)), add_server(1, ForwardingMethod::Dr)]);
    let quiesced = with_port(1, 0, ForwardingMethod::Dr);
    let edit = Change::EditDestination { service: FTP, destination: quiesced };
    change(&mut plane, &mut table, [edit]);
    assert_eq!(connect(&plane, (CLIENT, 1), 50_000), Err(Verdict::Pass));
    assert_eq!(count(&plane, Counter::NoDestination), 0);
    assert_eq!(connect(&plane, (CLIENT, 2), 21), Err(Verdict::Drop));
    assert_eq!(count(&plane, Counter::NoDestination), 1);
}
