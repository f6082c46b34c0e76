//! The services that packets are for: tables as the daemon would have them, made of the same changes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use elvs_model::{
    Change, Destination, DestinationKey, Family, ForwardingMethod, Mark, MarkRule, Persistence,
    Prefix, Protocol, Scheduler, ServiceKey, Table, TunnelChecksum, TunnelKind, VirtualService,
};

use crate::packets::{RPORT, VPORT};

/// Local addresses of the full NAT service that is measured: ports for 1,096,704 connections.
pub const LOCALS: u32 = 17;
/// Local addresses of all profiles: those of either family, and one more of the services beside.
pub const ALL_LOCALS: u32 = 2 * (LOCALS + 1);
/// First mark of services by firewall mark; further ones count up.
const MARK: u32 = 7;
/// Seconds that persistence templates last.
const PERSISTENCE: Persistence = Persistence { timeout: 300 };

/// IP in IP.
pub const IPIP: ForwardingMethod = ForwardingMethod::Tun(TunnelKind::Ipip);
/// Generic UDP encapsulation without a checksum.
pub const GUE: ForwardingMethod =
    ForwardingMethod::Tun(TunnelKind::Gue { port: 5555, checksum: TunnelChecksum::None });
/// Generic routing encapsulation without a checksum.
pub const GRE: ForwardingMethod =
    ForwardingMethod::Tun(TunnelKind::Gre { checksum: TunnelChecksum::None });

/// The service that packets are for.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Forwarding method of its destinations.
    pub method: ForwardingMethod,
    /// Whether it is of IPv6.
    pub wide: bool,
    /// Its scheduler.
    pub scheduler: Scheduler,
    /// Destinations, all of weight 1.
    pub destinations: u32,
    /// Whether it has persistence.
    pub persistent: bool,
    /// By firewall mark, which a rule gives, instead of by address and port.
    pub marked: bool,
    /// Whether services beside it use what this one does not.
    pub others: bool,
}

/// A service of IPv4 by direct routing and round robin with one destination.
pub const PLAIN: Setup = Setup {
    method: ForwardingMethod::Dr,
    wide: false,
    scheduler: Scheduler::Rr,
    destinations: 1,
    persistent: false,
    marked: false,
    others: false,
};

impl Setup {
    /// The same by another method.
    pub const fn by(self, method: ForwardingMethod) -> Self {
        Self { method, ..self }
    }

    /// The same of IPv6.
    pub const fn of_ipv6(self) -> Self {
        Self { wide: true, ..self }
    }

    /// The same with another scheduler and that many destinations.
    pub const fn scheduled(self, scheduler: Scheduler, destinations: u32) -> Self {
        Self { scheduler, destinations, ..self }
    }

    /// The same with persistence.
    pub const fn persistent(self) -> Self {
        Self { persistent: true, ..self }
    }

    /// The same by firewall mark.
    pub const fn marked(self) -> Self {
        Self { marked: true, ..self }
    }

    /// The same with services beside it that use every feature.
    pub const fn beside_others(self) -> Self {
        Self { others: true, ..self }
    }

    /// Whether it is by full NAT.
    pub fn is_full_nat(&self) -> bool {
        self.method == ForwardingMethod::FullNat
    }

    /// Whether its connections are in the wide table.
    pub fn in_wide_table(&self) -> bool {
        self.wide || self.is_full_nat()
    }

    /// Port of its real servers.
    pub const fn port(&self) -> u16 {
        match self.method {
            ForwardingMethod::Nat | ForwardingMethod::FullNat => RPORT,
            ForwardingMethod::Dr | ForwardingMethod::Tun(_) => VPORT,
        }
    }

    /// The table with it.
    pub fn table(&self) -> Result<Table> {
        let mut table = Table::new();
        if self.others {
            for (number, other) in (1..).zip(OTHERS) {
                other.add(&mut table, number)?;
            }
        }
        self.add(&mut table, 0)?;
        Ok(table)
    }

    /// Addresses of all real servers in [`Self::table`].
    pub fn servers(&self) -> Vec<IpAddr> {
        let mut servers: Vec<_> =
            (0..self.destinations).map(|number| server(self.wide, number)).collect();
        if self.others {
            servers.extend([server(false, 0), server(true, 0)]);
        }
        servers
    }

    /// Adds the service, on the virtual address of a number, to a table.
    fn add(&self, table: &mut Table, number: u8) -> Result<()> {
        let address = vip(self.wide, number);
        for (protocol, key) in self.keys(number) {
            let service = VirtualService {
                persistence: self.persistent.then_some(PERSISTENCE),
                ..VirtualService::new(key, self.scheduler)
            };
            apply(table, Change::AddService(service))?;
            let locals = if number == 0 { 0..LOCALS } else { LOCALS..LOCALS + 1 };
            for local in locals.filter(|_| self.is_full_nat()) {
                apply(
                    table,
                    Change::AddLocalAddress {
                        service: key,
                        address: numbered(self.wide, 2, local + 1),
                    },
                )?;
            }
            for place in 0..self.destinations {
                let port = if self.marked { 0 } else { self.port() };
                let destination = Destination {
                    key: DestinationKey { address: server(self.wide, place), port },
                    method: self.method,
                    weight: 1,
                    upper_threshold: 0,
                    lower_threshold: 0,
                };
                apply(table, Change::AddDestination { service: key, destination })?;
            }
            if self.marked && protocol == Protocol::Tcp {
                let length = if self.wide { 128 } else { 32 };
                let prefix = Prefix::new(address, length).context("no such prefix")?;
                let mark = Mark(MARK + u32::from(number));
                let rule = MarkRule { destination: Some(prefix), ..MarkRule::new(mark) };
                apply(table, Change::AddMark(rule))?;
            }
        }
        Ok(())
    }

    /// Keys of the service on the virtual address of a number: one for each protocol, or the mark.
    fn keys(&self, number: u8) -> Vec<(Protocol, ServiceKey)> {
        let address = vip(self.wide, number);
        if self.marked {
            let key =
                ServiceKey::Fwmark { mark: MARK + u32::from(number), family: Family::of(address) };
            return vec![(Protocol::Tcp, key)];
        }
        [Protocol::Tcp, Protocol::Udp]
            .map(|protocol| (protocol, ServiceKey::Address { protocol, address, port: VPORT }))
            .to_vec()
    }
}

/// Services beside the one that is measured: every method, family and kind that it is not.
const OTHERS: [Setup; 10] = [
    PLAIN.by(ForwardingMethod::FullNat),
    PLAIN.by(ForwardingMethod::FullNat).of_ipv6(),
    PLAIN.of_ipv6(),
    PLAIN.by(ForwardingMethod::Nat).of_ipv6(),
    PLAIN.by(ForwardingMethod::Nat),
    PLAIN.by(GUE),
    PLAIN.by(GRE),
    PLAIN.persistent(),
    PLAIN.scheduled(Scheduler::Wlc, 1),
    PLAIN.marked(),
];

fn apply(table: &mut Table, change: Change) -> Result<()> {
    table.apply(&change).with_context(|| format!("{change:?}"))
}

/// An address of one of the benchmark's networks: 10.NETWORK.0.0/16 or fd00:NETWORK::/96.
fn numbered(wide: bool, network: u8, number: u32) -> IpAddr {
    let [_, _, high, low] = number.to_be_bytes();
    if wide {
        Ipv6Addr::from_bits(prefix6(network) | u128::from(number)).into()
    } else {
        Ipv4Addr::new(10, network, high, low).into()
    }
}

fn prefix6(network: u8) -> u128 {
    0xfd00_u128 << 112 | u128::from(network) << 96
}

/// An address whose last four bytes are filled in later.
pub fn prefix_of(wide: bool, network: u8) -> IpAddr {
    if wide { Ipv6Addr::from_bits(prefix6(network)).into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

/// Virtual address of a number.
pub fn vip(wide: bool, number: u8) -> IpAddr {
    numbered(wide, 0, 100 + u32::from(number))
}

/// Real server of a number.
pub fn server(wide: bool, number: u32) -> IpAddr {
    numbered(wide, 1, 21 + number)
}
