//! The probes of one run: what each asks, and the packet that asks it.
//!
//! **Invariant:** a run's probes have numbers of their own, [`Role::number`]; no two runs at one time share any.
//!
//! Called by [`super::examination`]; [`super::way`] finds out what a [`Way`] says.

use std::net::IpAddr;

use elvs_model::health::PathCheck;
use elvs_model::{ForwardingMethod, Protocol, TunnelChecksum, TunnelKind};

use super::packet::{self, Ends, FAR, NEAR};

/// First number of the first run: probes come from the ports above it, which Linux gives to nobody by itself
/// (`ip_local_port_range` ends at 60999), and a probe's answer is told from a connection's by both ends anyway.
pub(super) const FIRST_NUMBER: u16 = 0xf000;
/// Numbers of a run.
pub(super) const NUMBERS: u16 = 16;

/// What a probe asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Does the service answer a client? What the check is about.
    Service,
    /// Is the VIP there? An echo that takes the client's way.
    VipEcho,
    /// Do tunnelled packets arrive? To the real server's own address and port, through the tunnel.
    Inner,
    /// The same by an echo.
    InnerEcho,
    /// Does the service answer at the real server's own address?
    Plain,
    /// Does the real server answer at all? An echo to its own address.
    PlainEcho,
    /// Does the real server tell of what it refuses? What no host takes.
    ///
    /// Hosts drop UDP over IPv6 without a checksum in silence, also where nobody listens (RFC 8200 section 8.1): of such a
    /// tunnel the question is what becomes of an echo to the VIP in a datagram that has one.
    Strange,
    /// Does another source address get an answer? As [`Role::Service`], from another address of the director.
    OtherSource,
    /// As [`Role::Service`], but the real server may send it on: to a container that has the service.
    Onward,
    /// Does the real server answer through this director, as masquerading needs it? An echo from the VIP to the real
    /// server's own address. No SYN: its answer may open a connection of a service that has all ports, as IPVS has it
    /// (`tcp_conn_schedule`).
    Back,
}

impl Role {
    /// All of them, in the order of their numbers.
    pub(super) const ALL: [Self; 10] = [
        Self::Service,
        Self::VipEcho,
        Self::Inner,
        Self::InnerEcho,
        Self::Plain,
        Self::PlainEcho,
        Self::Strange,
        Self::OtherSource,
        Self::Onward,
        Self::Back,
    ];

    /// Which of its run's numbers is its.
    const fn offset(self) -> u16 {
        match self {
            Self::Service => 0,
            Self::VipEcho => 1,
            Self::Inner => 2,
            Self::InnerEcho => 3,
            Self::Plain => 4,
            Self::PlainEcho => 5,
            Self::Strange => 6,
            Self::OtherSource => 7,
            Self::Onward => 8,
            Self::Back => 9,
        }
    }

    /// Its number in the run whose first is `first`.
    pub(super) const fn number(self, first: u16) -> u16 {
        first + self.offset()
    }

    /// The role of a number.
    pub(super) fn of(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.offset() == number % NUMBERS)
    }
}

/// How packets reach the real server, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Way {
    /// What is checked.
    pub(super) check: PathCheck,
    /// Interface that frames leave by.
    pub(super) ifindex: u32,
    /// Its MAC address.
    pub(super) own_mac: [u8; 6],
    /// MAC address of the real server, or of the router on the way to it.
    pub(super) mac: [u8; 6],
    /// Whose that is.
    pub(super) neighbour: IpAddr,
    /// The real server is on the link: `mac` is its own.
    pub(super) on_link: bool,
    /// The director's address towards the real server.
    pub(super) outer_source: IpAddr,
    /// The director's address that takes the client's place: of the VIP's family.
    pub(super) source: IpAddr,
    /// Another of that kind.
    pub(super) other_source: Option<IpAddr>,
    /// The VIP is an address of this director.
    pub(super) holds_vip: bool,
    /// It is so on that link, so nobody else may claim it there.
    pub(super) owns_vip: bool,
    /// First of the run's numbers.
    pub(super) first: u16,
    /// Sequence number of the run's SYNs.
    pub(super) isn: u32,
}

impl Way {
    /// Whether the real server gets what is addressed to the VIP.
    pub(super) const fn to_vip(&self) -> bool {
        match self.check.method {
            ForwardingMethod::Dr | ForwardingMethod::Tun(_) => true,
            ForwardingMethod::Nat | ForwardingMethod::FullNat => false,
        }
    }

    /// Address and port that the real server sees, and answers from.
    pub(super) const fn service(&self) -> (IpAddr, u16) {
        if self.to_vip() {
            (self.check.vip, self.check.port)
        } else {
            (self.check.real_server, self.check.real_port)
        }
    }

    /// The echo that takes the service's way.
    pub(super) const fn echo(&self) -> Role {
        if self.to_vip() { Role::VipEcho } else { Role::PlainEcho }
    }

    /// Whether the real server has to answer through this director, and one that has the VIP can see whether it does.
    pub(super) fn asks_back(&self) -> bool {
        self.check.method == ForwardingMethod::Nat && self.holds_vip && self.same_family()
    }

    /// Whether the VIP and the real server's own address are of one family.
    pub(super) const fn same_family(&self) -> bool {
        self.check.vip.is_ipv4() == self.check.real_server.is_ipv4()
    }

    /// The probe of a role from the IP header on; `None` where there is nothing to ask.
    pub(super) fn packet(&self, role: Role) -> Option<Vec<u8>> {
        let number = role.number(self.first);
        let check = &self.check;
        let vip = |from| Ends { from, to: check.vip, hops: self.hops(), number };
        let plain = Ends { from: self.outer_source, to: check.real_server, hops: FAR, number };
        let inner = Ends { from: self.source, to: check.real_server, hops: NEAR, number };
        let back = Ends { from: check.vip, ..plain };
        match role {
            Role::Service if !self.to_vip() => self.ask(plain, check.real_port),
            Role::Service => self.forward(number, &self.ask(vip(self.source), check.port)?),
            Role::OtherSource if self.to_vip() => {
                self.forward(number, &self.ask(vip(self.other_source?), check.port)?)
            }
            Role::Onward if self.to_vip() => {
                let ends = Ends { hops: FAR, ..vip(self.source) };
                self.forward(number, &self.ask(ends, check.port)?)
            }
            Role::Back if self.asks_back() => packet::echo(back),
            Role::VipEcho if self.to_vip() => {
                self.forward(number, &packet::echo(vip(self.source))?)
            }
            Role::Inner if self.tunnelled() && self.same_family() => {
                self.forward(number, &self.ask(inner, check.real_port)?)
            }
            Role::InnerEcho if self.tunnelled() && self.same_family() => {
                self.forward(number, &packet::echo(inner)?)
            }
            Role::Plain if self.to_vip() => self.ask(plain, check.real_port),
            Role::PlainEcho => packet::echo(plain),
            Role::Strange => match check.method {
                ForwardingMethod::Tun(TunnelKind::Gue { port, .. })
                    if self.sent_without_checksum() =>
                {
                    let kind = TunnelKind::Gue { port, checksum: TunnelChecksum::Csum };
                    packet::wrap(plain, kind, &packet::echo(vip(self.source))?)
                }
                ForwardingMethod::Tun(kind) => packet::strange(plain, kind),
                ForwardingMethod::Nat | ForwardingMethod::Dr | ForwardingMethod::FullNat => None,
            },
            Role::OtherSource
            | Role::Onward
            | Role::Back
            | Role::VipEcho
            | Role::Inner
            | Role::InnerEcho
            | Role::Plain => None,
        }
    }

    /// The reset that ends what a role's SYN has opened; `None` where it was none.
    pub(super) fn reset(&self, role: Role, sequence: u32) -> Option<Vec<u8>> {
        if self.check.protocol != Protocol::Tcp {
            return None;
        }
        let number = role.number(self.first);
        let check = &self.check;
        let plain = Ends { from: self.outer_source, to: check.real_server, hops: FAR, number };
        let near = |from, to| Ends { from, to, hops: self.hops(), number };
        match role {
            Role::Service if self.to_vip() => self.forward(
                number,
                &packet::reset(near(self.source, check.vip), check.port, sequence)?,
            ),
            Role::Onward => {
                let ends = Ends { hops: FAR, ..near(self.source, check.vip) };
                self.forward(number, &packet::reset(ends, check.port, sequence)?)
            }
            Role::OtherSource => self.forward(
                number,
                &packet::reset(near(self.other_source?, check.vip), check.port, sequence)?,
            ),
            Role::Inner => self.forward(
                number,
                &packet::reset(near(self.source, check.real_server), check.real_port, sequence)?,
            ),
            Role::Service | Role::Plain => packet::reset(plain, check.real_port, sequence),
            Role::VipEcho | Role::InnerEcho | Role::PlainEcho | Role::Strange | Role::Back => None,
        }
    }

    /// The question whose address the director's own is: who has the VIP?
    pub(super) fn question(&self) -> Option<(u16, Vec<u8>)> {
        match (self.check.vip, self.source) {
            (IpAddr::V4(vip), IpAddr::V4(from)) => {
                Some((ARP, packet::arp_request(self.own_mac, from, vip)))
            }
            (IpAddr::V6(vip), IpAddr::V6(from)) => {
                Some((IPV6, packet::solicitation(self.own_mac, from, vip)?))
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
        }
    }

    /// Hops of what the real server gets as a client's packet: none are left for it to send the packet on, unless the
    /// packet has to pass a router before.
    const fn hops(&self) -> u8 {
        if self.tunnelled() || self.on_link { NEAR } else { FAR }
    }

    /// Whether packets travel inside others.
    pub(super) const fn tunnelled(&self) -> bool {
        matches!(self.check.method, ForwardingMethod::Tun(_))
    }

    /// Whether the outer header is UDP over IPv6 without a checksum.
    pub(super) const fn sent_without_checksum(&self) -> bool {
        self.check.real_server.is_ipv6()
            && matches!(
                self.check.method,
                ForwardingMethod::Tun(TunnelKind::Gue { checksum: TunnelChecksum::None, .. })
            )
    }

    /// What opens a connection of the service's protocol. SCTP has no probe of its own: an echo says that the way is free.
    fn ask(&self, ends: Ends, port: u16) -> Option<Vec<u8>> {
        match self.check.protocol {
            Protocol::Tcp => packet::syn(ends, port, self.isn),
            Protocol::Udp => packet::datagram(ends, port),
            Protocol::Sctp => packet::echo(ends),
        }
    }

    /// A packet as the director forwards it: wrapped, or as it is.
    fn forward(&self, number: u16, inner: &[u8]) -> Option<Vec<u8>> {
        let ForwardingMethod::Tun(kind) = self.check.method else { return Some(inner.to_vec()) };
        let (from, to) = (self.outer_source, self.check.real_server);
        packet::wrap(Ends { from, to, hops: FAR, number }, kind, inner)
    }
}

/// Ethernet types (IANA "IEEE 802 Numbers").
pub(super) const ARP: u16 = 0x0806;
/// IPv4.
pub(super) const IPV4: u16 = 0x0800;
/// IPv6.
pub(super) const IPV6: u16 = 0x86dd;

/// The Ethernet type of an IP packet.
pub(super) fn ethertype_of(packet: &[u8]) -> u16 {
    if packet.first().is_some_and(|first| first >> 4 == 6) { IPV6 } else { IPV4 }
}

#[cfg(test)]
mod tests;
