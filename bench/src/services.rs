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
/// Most local addresses of the services beside it: one of either family.
pub const OTHER_LOCALS: u32 = 2;
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
    /// Services beside it, on virtual addresses of their own.
    pub beside: Beside,
    /// Number of its virtual address.
    pub number: u8,
}

/// A service of IPv4 by direct routing and round robin with one destination.
pub const PLAIN: Setup = Setup {
    method: ForwardingMethod::Dr,
    wide: false,
    scheduler: Scheduler::Rr,
    destinations: 1,
    persistent: false,
    marked: false,
    beside: Beside::Nothing,
    number: 0,
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

    /// The same with services beside it.
    pub const fn beside(self, beside: Beside) -> Self {
        Self { beside, ..self }
    }

    /// Whether it is by full NAT.
    pub fn is_full_nat(&self) -> bool {
        self.method == ForwardingMethod::FullNat
    }

    /// Whether its connections are in the wide table.
    pub fn in_wide_table(&self) -> bool {
        self.wide || self.is_full_nat()
    }

    /// Whether a daemon that had this service has nothing left of it that the other's packets could meet: it knows the virtual and
    /// local addresses of removed services for a while, and where they lie in its tables is where others do not.
    pub fn can_precede(&self, other: &Self) -> bool {
        self.wide == other.wide
            && self.is_full_nat() == other.is_full_nat()
            && self.beside == other.beside
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
        for (number, other) in (FIRST_OTHER..).zip(self.beside.services()) {
            Self { number, ..*other }.add(&mut table, 1)?;
        }
        self.add(&mut table, LOCALS)?;
        Ok(table)
    }

    /// Addresses of all real servers in [`Self::table`].
    pub fn servers(&self) -> Vec<IpAddr> {
        let mut servers: Vec<_> =
            (0..self.destinations).map(|number| server(self.wide, number)).collect();
        servers.extend(self.beside.services().iter().map(|other| server(other.wide, 0)));
        servers
    }

    /// Adds the service to a table; by full NAT with that many local addresses.
    fn add(&self, table: &mut Table, locals: u32) -> Result<()> {
        for (protocol, key) in self.keys() {
            let service = VirtualService {
                persistence: self.persistent.then_some(PERSISTENCE),
                ..VirtualService::new(key, self.scheduler)
            };
            apply(table, Change::AddService(service))?;
            for local in (0..locals).filter(|_| self.is_full_nat()) {
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
                let prefix = Prefix::new(self.vip(), length).context("no such prefix")?;
                let rule =
                    MarkRule { destination: Some(prefix), ..MarkRule::new(Mark(self.mark())) };
                apply(table, Change::AddMark(rule))?;
            }
        }
        Ok(())
    }

    /// Keys of the service: one for each protocol, or the mark.
    fn keys(&self) -> Vec<(Protocol, ServiceKey)> {
        let address = self.vip();
        if self.marked {
            let key = ServiceKey::Fwmark { mark: self.mark(), family: Family::of(address) };
            return vec![(Protocol::Tcp, key)];
        }
        [Protocol::Tcp, Protocol::Udp]
            .map(|protocol| (protocol, ServiceKey::Address { protocol, address, port: VPORT }))
            .to_vec()
    }

    /// Its virtual address.
    pub fn vip(&self) -> IpAddr {
        numbered(self.wide, 0, 100 + u32::from(self.number))
    }

    fn mark(&self) -> u32 {
        MARK + u32::from(self.number)
    }
}

/// Number of the first service beside the one that is measured.
const FIRST_OTHER: u8 = 100;

/// What services there are beside the one that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// None.
    Nothing,
    /// Some of every method, family and kind, but none by firewall mark.
    Others,
    /// One by firewall mark, and its rule.
    Marks,
}

impl Beside {
    /// They.
    pub const fn services(self) -> &'static [Setup] {
        match self {
            Self::Nothing => &[],
            Self::Others => OTHERS,
            Self::Marks => MARKED,
        }
    }
}

const MARKED: &[Setup] = &[PLAIN.marked()];
const OTHERS: &[Setup] = &[
    PLAIN.by(ForwardingMethod::FullNat),
    PLAIN.by(ForwardingMethod::FullNat).of_ipv6(),
    PLAIN.of_ipv6(),
    PLAIN.by(ForwardingMethod::Nat).of_ipv6(),
    PLAIN.by(ForwardingMethod::Nat),
    PLAIN.by(GUE),
    PLAIN.by(GRE),
    PLAIN.persistent(),
    PLAIN.scheduled(Scheduler::Wlc, 1),
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

/// An address that is no virtual one.
pub fn stranger(wide: bool) -> IpAddr {
    numbered(wide, 0, 99)
}

/// The director's own address towards the real servers.
pub fn director(wide: bool) -> IpAddr {
    numbered(wide, 1, 10)
}

/// Real server of a number.
pub fn server(wide: bool, number: u32) -> IpAddr {
    numbered(wide, 1, 21 + number)
}
