//! Virtual services and destinations, in the words of IPVS.
//!
//! **Invariant:** spelling at the borders (`wlc`, `Masq`, `tcp`) is converted here and nowhere else.

use core::fmt;
use core::str::FromStr;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Transport protocol of a virtual service.
///
/// The order is IPVS's listing order: by IP protocol number (TCP 6, UDP 17, SCTP 132).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP, IP protocol 6.
    Tcp,
    /// UDP, IP protocol 17.
    Udp,
    /// SCTP, IP protocol 132.
    Sctp,
}

impl Protocol {
    /// IP protocol number (IANA "Assigned Internet Protocol Numbers").
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// Upper-case name as `ipvsadm -L` prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }
}

/// Address family of a firewall-mark service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    Inet,
    /// IPv6.
    Inet6,
}

impl Family {
    /// Family of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Inet,
            IpAddr::V6(_) => Self::Inet6,
        }
    }
}

/// What names a virtual service: protocol, VIP and port, or a firewall mark (`ipvsadm -t/-u/--sctp-service/-f`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceKey {
    /// Protocol, virtual address and port; port 0 stands for every port (a persistent service).
    Address {
        /// Transport protocol.
        protocol: Protocol,
        /// Virtual IP address.
        address: IpAddr,
        /// Port in host order; 0 = every port.
        port: u16,
    },
    /// Firewall mark and address family.
    Fwmark {
        /// Mark, never 0.
        mark: u32,
        /// Family of the packets it covers.
        family: Family,
    },
}

impl ServiceKey {
    /// Address family of the service's packets.
    pub const fn family(&self) -> Family {
        match self {
            Self::Address { address, .. } => Family::of(*address),
            Self::Fwmark { family, .. } => *family,
        }
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address { protocol, address: IpAddr::V4(a), port } => {
                write!(f, "{} {a}:{port}", protocol.name())
            }
            Self::Address { protocol, address: IpAddr::V6(a), port } => {
                write!(f, "{} [{a}]:{port}", protocol.name())
            }
            Self::Fwmark { mark, family: Family::Inet } => write!(f, "FWM {mark}"),
            Self::Fwmark { mark, family: Family::Inet6 } => write!(f, "FWM {mark} IPv6"),
        }
    }
}

/// How a destination is chosen for a new connection (`ipvsadm -s`, keepalived `lvs_sched`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheduler {
    /// Round robin.
    Rr,
    /// Weighted round robin.
    Wrr,
    /// Least connections.
    Lc,
    /// Weighted least connections, ipvsadm's default.
    Wlc,
    /// Locality-based least connections.
    Lblc,
    /// Locality-based least connections with replication.
    Lblcr,
    /// Destination hashing.
    Dh,
    /// Source hashing.
    Sh,
    /// Maglev hashing.
    Mh,
    /// Shortest expected delay.
    Sed,
    /// Never queue.
    Nq,
    /// Weighted failover.
    Fo,
    /// Weighted overflow.
    Ovf,
    /// Power of two choices.
    Twos,
}

impl Scheduler {
    /// Every scheduler that IPVS has, in the order of `ipvsadm -h`.
    pub const ALL: [Self; 14] = [
        Self::Rr,
        Self::Wrr,
        Self::Lc,
        Self::Wlc,
        Self::Lblc,
        Self::Lblcr,
        Self::Dh,
        Self::Sh,
        Self::Sed,
        Self::Nq,
        Self::Fo,
        Self::Ovf,
        Self::Mh,
        Self::Twos,
    ];

    /// Name as typed and printed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rr => "rr",
            Self::Wrr => "wrr",
            Self::Lc => "lc",
            Self::Wlc => "wlc",
            Self::Lblc => "lblc",
            Self::Lblcr => "lblcr",
            Self::Dh => "dh",
            Self::Sh => "sh",
            Self::Mh => "mh",
            Self::Sed => "sed",
            Self::Nq => "nq",
            Self::Fo => "fo",
            Self::Ovf => "ovf",
            Self::Twos => "twos",
        }
    }
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scheduler {
    type Err = UnknownName;

    fn from_str(s: &str) -> Result<Self, UnknownName> {
        Self::ALL.into_iter().find(|k| k.name() == s).ok_or_else(|| UnknownName(s.to_owned()))
    }
}

/// A word that names nothing we know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown name `{0}`")]
pub struct UnknownName(pub String);

/// Scheduler flags (`ipvsadm -b`): bit meanings depend on the scheduler.
///
/// Bits are IPVS's: 0x08 flag-1 (sh-fallback, mh-fallback), 0x10 flag-2 (sh-port, mh-port), 0x20 flag-3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SchedulerFlags(pub u8);

impl SchedulerFlags {
    /// flag-1: fallback of sh and mh.
    pub const FLAG_1: u8 = 0x08;
    /// flag-2: port hashing of sh and mh.
    pub const FLAG_2: u8 = 0x10;
    /// flag-3.
    pub const FLAG_3: u8 = 0x20;
}

/// Netmask by which persistent clients are grouped (`ipvsadm -M`).
///
/// IPv4 masks need not be contiguous (IPVS accepts `0.0.0.24`), so they are kept as 32 bits, host order;
/// IPv6 ones are a prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Netmask {
    /// IPv4 mask, host order; 0xffff_ffff groups nothing.
    V4(u32),
    /// IPv6 prefix length, 1..=128; 128 groups nothing.
    V6(u8),
}

/// Persistence of a service (`ipvsadm -p`): one client keeps its destination for `timeout` seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Persistence {
    /// Seconds, 1..=2_678_400.
    pub timeout: u32,
}

/// What becomes of the connections of a destination that is deleted: ELVS's own (`on_delete`, `--on-delete`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDelete {
    /// Their packets are dropped until they expire, or the destination is added again, as with IPVS; with
    /// `expire_nodest_conn` they are scheduled anew.
    #[default]
    Drop,
    /// The next packet of the client is answered by a reset (by ICMP port unreachable if it is not TCP), and the connection
    /// ends, so that the client connects anew at once.
    Reset,
}

impl OnDelete {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Drop, Self::Reset];

    /// The word typed and printed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Reset => "reset",
        }
    }
}

impl FromStr for OnDelete {
    type Err = UnknownName;

    fn from_str(s: &str) -> Result<Self, UnknownName> {
        Self::ALL.into_iter().find(|k| k.name() == s).ok_or_else(|| UnknownName(s.to_owned()))
    }
}

/// A virtual service: the key and how its connections are scheduled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualService {
    /// What names it.
    pub key: ServiceKey,
    /// How a destination is chosen.
    pub scheduler: Scheduler,
    /// Flags of the scheduler.
    #[serde(default)]
    pub flags: SchedulerFlags,
    /// Client affinity, if any.
    #[serde(default)]
    pub persistence: Option<Persistence>,
    /// Grouping of persistent clients; kept (as IPVS does) even without persistence.
    pub netmask: Netmask,
    /// One-packet scheduling (`-o`).
    #[serde(default)]
    pub one_packet: bool,
    /// Persistence engine (`--pe`), e.g. `sip`.
    #[serde(default)]
    pub engine: Option<String>,
    /// What becomes of the connections of a destination that is deleted.
    #[serde(default)]
    pub on_delete: OnDelete,
}

impl VirtualService {
    /// A service with IPVS's defaults for everything but the key and the scheduler.
    pub const fn new(key: ServiceKey, scheduler: Scheduler) -> Self {
        Self {
            key,
            scheduler,
            flags: SchedulerFlags(0),
            persistence: None,
            netmask: match key.family() {
                Family::Inet => Netmask::V4(u32::MAX),
                Family::Inet6 => Netmask::V6(128),
            },
            one_packet: false,
            engine: None,
            on_delete: OnDelete::Drop,
        }
    }
}

/// Checksum option of a GUE or GRE tunnel (`--tun-nocsum`, `--tun-csum`, `--tun-remcsum`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TunnelChecksum {
    /// No checksum.
    #[default]
    None,
    /// Checksum.
    Csum,
    /// Remote checksum offload (GUE only).
    Remcsum,
}

/// Encapsulation of a tunnelled destination (`--tun-type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TunnelKind {
    /// IP in IP (RFC 2003).
    Ipip,
    /// Generic UDP encapsulation.
    Gue {
        /// UDP port of the real server, never 0.
        port: u16,
        /// Checksum option.
        checksum: TunnelChecksum,
    },
    /// Generic routing encapsulation (RFC 2784).
    Gre {
        /// Checksum option; never [`TunnelChecksum::Remcsum`].
        checksum: TunnelChecksum,
    },
}

/// How a packet reaches its real server (`ipvsadm -m/-g/-i`, keepalived `lvs_method`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForwardingMethod {
    /// Masquerading: addresses and ports are rewritten, replies come back through the director.
    Nat,
    /// Direct routing: only the MAC address changes.
    Dr,
    /// Tunnelling: the packet travels inside another.
    Tun(TunnelKind),
    /// Both ends are rewritten: a local address of the director takes the place of the client's (DPVS's FULLNAT).
    FullNat,
}

impl ForwardingMethod {
    /// Word in the `Forward` column of `ipvsadm -L`.
    pub const fn listing_name(self) -> &'static str {
        match self {
            Self::Nat => "Masq",
            Self::Dr => "Route",
            Self::Tun(_) => "Tunnel",
            Self::FullNat => "FullNat",
        }
    }
}

/// What names a destination inside its virtual service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DestinationKey {
    /// Address of the real server.
    pub address: IpAddr,
    /// Port in host order; 0 only in a firewall-mark or port-0 service.
    pub port: u16,
}

/// A real server inside one virtual service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Destination {
    /// What names it.
    pub key: DestinationKey,
    /// How packets reach it.
    pub method: ForwardingMethod,
    /// Scheduling weight, 0..=2_147_483_647; 0 quiesces.
    pub weight: u32,
    /// Connections at which it counts as overloaded; 0 = off.
    #[serde(default)]
    pub upper_threshold: u32,
    /// Connections below which it stops being overloaded; 0 = three quarters of the upper threshold.
    #[serde(default)]
    pub lower_threshold: u32,
}
