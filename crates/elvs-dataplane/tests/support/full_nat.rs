//! A service by full NAT of either family and protocol, with its real servers, local addresses and clients.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use elvs_common::{NextHop, TCP, UDP};
use elvs_dataplane::{FakePlane, Plane, Route};
use elvs_model::{
    Change, Destination, DestinationKey, ForwardingMethod, Protocol, Scheduler, ServiceKey, Table,
};

use super::packet::{DIRECTOR_MAC, Packet};
use super::{NIC, add_service, apply};

/// Longest packet on the way to every real server.
pub const MTU: u32 = 1_500;

pub const fn server_mac(last: u8) -> [u8; 6] {
    [6, 0, 0, 0, 0, last]
}

/// What of the service is chosen.
#[derive(Clone, Copy, Debug)]
pub struct Site {
    pub v6: bool,
    pub tcp: bool,
}

impl Site {
    fn address(self, v4: [u8; 4]) -> IpAddr {
        let [_, _, subnet, last] = v4;
        if self.v6 {
            Ipv6Addr::new(0xfd00, v4[0].into(), 0, 0, 0, 0, subnet.into(), last.into()).into()
        } else {
            Ipv4Addr::from(v4).into()
        }
    }

    pub fn service(self) -> SocketAddr {
        SocketAddr::new(self.address([192, 0, 2, 10]), 80)
    }

    pub fn client(self, last: u8) -> SocketAddr {
        SocketAddr::new(self.address([203, 0, 113, last]), 40_000)
    }

    pub fn server(self, last: u8) -> IpAddr {
        self.address([10, 0, 1, last])
    }

    pub fn mapped(self, last: u8) -> SocketAddr {
        SocketAddr::new(self.server(last), 8_080)
    }

    pub fn local(self, last: u8) -> IpAddr {
        self.address([10, 0, 3, last])
    }

    /// A service of the virtual address.
    pub fn key_on(self, tcp: bool, port: u16) -> ServiceKey {
        let protocol = if tcp { Protocol::Tcp } else { Protocol::Udp };
        ServiceKey::Address { protocol, address: self.service().ip(), port }
    }

    pub fn key(self) -> ServiceKey {
        self.key_on(self.tcp, 80)
    }

    pub fn destination(self, last: u8, weight: u32) -> Destination {
        let mapped = self.mapped(last);
        Destination {
            key: DestinationKey { address: mapped.ip(), port: mapped.port() },
            method: ForwardingMethod::FullNat,
            weight,
            upper_threshold: 0,
            lower_threshold: 0,
        }
    }

    pub fn packet(self, from: SocketAddr, to: SocketAddr, flags: u8) -> Packet {
        Packet { flags, ..Packet::new(if self.tcp { TCP } else { UDP }, from, to) }
    }

    /// The service with a local address and real servers.
    pub fn table(self, servers: u8) -> Table {
        let service = self.key();
        let mut table = Table::new();
        let local = Change::AddLocalAddress { service, address: self.local(1) };
        apply(&mut table, [add_service(service, Scheduler::Rr), local]);
        for last in 1..=servers {
            let destination = self.destination(last, 1);
            apply(&mut table, [Change::AddDestination { service, destination }]);
        }
        table
    }

    /// A plane with a table in force, and routes to real servers 1 to 9.
    pub fn plane_with(self, table: &Table) -> FakePlane {
        let mut plane = FakePlane::for_connections(1_024);
        for last in 1..10 {
            let hop = Some(NextHop::new(server_mac(last), DIRECTOR_MAC, NIC));
            plane.set_route(self.server(last), Route { hop, mtu: MTU, ..Route::default() });
        }
        plane.install(table).unwrap();
        plane
    }

    /// A plane with one real server.
    pub fn plane(self) -> FakePlane {
        self.plane_with(&self.table(1))
    }
}
