//! The test bed: a client, a director and real servers as network namespaces around a switch.
//!
//! **Invariant:** nothing is made outside the bed's own namespaces, all of whose names begin with its prefix; dropping
//! the [`Bed`] removes them all, and [`Bed::remove_leftovers`] those of a run that could not.
//!
//! Called by `elvs demo` and by the lab.
//!
//! ```text
//!  DR, TUN,
//!  FULLNAT:   client ──┐                          NAT:   client ── br0 ── director ── br1 ──┬── rs1
//!           director ──┼── br0 (switch)                          (VIP)                     └── rs2
//!        rs1, rs2, .. ─┘
//! ```
//! The bridges stand in a namespace of their own, `PREFIXswitch`. Addresses are fixed ([`CLIENT`], [`VIP`], ...), as
//! every bed is a world of its own.

mod host;
mod wide;

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::MetadataExt;

use elvs_model::ForwardingMethod;

pub use host::Host;
pub use wide::{CLIENT6, DIRECTOR_INSIDE6, DIRECTOR6, LOCAL6, VIP6};

use crate::namespace::{Namespace, NamespaceError, NamespaceGuard};
use crate::netlink::{Netlink, NetlinkError};
use crate::offload::{self, Offload, OffloadError};
use crate::sysctl::{self, SysctlError};

/// The client's address.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// The director's own address on the client's side.
pub const DIRECTOR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
/// The director's own address on the real servers' side (NAT only).
pub const DIRECTOR_INSIDE: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 10);
/// The virtual address: on the director, and in DR and TUN also on `lo` of every real server.
pub const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
/// The director's local address (FULLNAT only).
pub const LOCAL: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 200);
/// Most real servers a bed can have.
pub const MAX_REAL_SERVERS: u8 = 32;

/// What a bed shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Beginning of every namespace's name, unique on the machine among beds that live at the same time.
    pub prefix: String,
    /// Forwarding method the hosts are set up for.
    pub method: ForwardingMethod,
    /// Number of real servers, 1..=[`MAX_REAL_SERVERS`].
    pub real_servers: u8,
}

/// Namespaces that live as long as this value.
#[derive(Debug)]
pub struct Bed {
    /// The plan it was built by.
    pub plan: Plan,
    /// Where requests come from.
    pub client: Host,
    /// Where the daemon runs.
    pub director: Host,
    /// Real servers, `rs1` first.
    pub real_servers: Vec<Host>,
    /// Holds the bridges.
    pub switch: NamespaceGuard,
}

/// Why a bed cannot be built or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BedError {
    /// The number of real servers is out of range.
    #[error("{got} real servers: 1 to {MAX_REAL_SERVERS} are possible")]
    RealServers {
        /// The number asked for.
        got: u8,
    },
    /// A namespace could not be made, entered or removed.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// A link, address or route could not be made.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// An offload could not be switched.
    #[error(transparent)]
    Offload(#[from] OffloadError),
    /// A sysctl could not be set.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
}

impl Bed {
    /// Builds the bed of a plan.
    ///
    /// # Errors
    /// [`BedError`]; what was built until then is removed again.
    pub fn build(plan: Plan) -> Result<Self, BedError> {
        if plan.real_servers == 0 || plan.real_servers > MAX_REAL_SERVERS {
            return Err(BedError::RealServers { got: plan.real_servers });
        }
        let namespace = |name: &str| Namespace::create(&format!("{}{name}", plan.prefix));
        let switch = namespace("switch")?;
        let client = Host::new("client", CLIENT, namespace("client")?);
        let director = Host::new("director", DIRECTOR, namespace("director")?);
        let mut real_servers = Vec::new();
        for number in 1..=plan.real_servers {
            let name = format!("rs{number}");
            let host = Host::new(&name, plan.real_server(number), namespace(&name)?);
            real_servers.push(host);
        }
        let bed = Self { plan, client, director, real_servers, switch };
        bed.wire()?;
        bed.client.configure(&[(CLIENT, 24)], None, &[])?;
        bed.configure_director()?;
        for host in &bed.real_servers {
            bed.configure_real_server(host)?;
        }
        Ok(bed)
    }

    /// Gives the namespaces up: they outlive the value.
    pub fn keep(self) {
        self.switch.keep();
        for host in [self.client, self.director].into_iter().chain(self.real_servers) {
            host.keep();
        }
    }

    /// All hosts: client, director, real servers.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        [&self.client, &self.director].into_iter().chain(&self.real_servers)
    }

    /// Removes every namespace whose name begins with `prefix`; returns their names.
    ///
    /// Processes in them live on: see [`processes_in`].
    ///
    /// # Errors
    /// [`NamespaceError`] if one cannot be removed.
    pub fn remove_leftovers(prefix: &str) -> Result<Vec<String>, NamespaceError> {
        let names = Namespace::list(prefix)?;
        names.iter().try_for_each(|name| Namespace::delete(name))?;
        Ok(names)
    }

    /// Bridges and cables; the director's ports take frames that it sends by XDP_TX.
    ///
    /// Every cable is a veth pair: `eth0` (and `eth1`) in the host, the host's name in the switch.
    fn wire(&self) -> Result<(), BedError> {
        let nat = matches!(self.plan.method, ForwardingMethod::Nat);
        self.switch.with_netlink(async |netlink: Netlink| {
            host::without_ipv6()?;
            let outside = netlink.add_bridge("br0").await?.ifindex;
            let inside = if nat { netlink.add_bridge("br1").await?.ifindex } else { outside };
            let mtu = self.plan.inner_mtu();
            cable(&netlink, &self.client, "eth0", outside).await?;
            let port = cable(&netlink, &self.director, "eth0", outside).await?;
            netlink.set_mtu(port, mtu).await?;
            netlink.pass_frames(port).await?;
            if nat {
                let port = cable(&netlink, &self.director, "eth1", inside).await?;
                netlink.pass_frames(port).await?;
            }
            for host in &self.real_servers {
                let port = cable(&netlink, host, "eth0", inside).await?;
                netlink.set_mtu(port, mtu).await?;
            }
            Ok::<_, BedError>(())
        })
    }

    fn configure_director(&self) -> Result<(), BedError> {
        let mut addresses = vec![(DIRECTOR, 24), (VIP, 32)];
        if self.plan.method == ForwardingMethod::FullNat {
            addresses.push((LOCAL, 32));
        }
        match self.plan.method {
            ForwardingMethod::Nat => self.director.configure(
                &addresses,
                Some((DIRECTOR_INSIDE, 24)),
                // ipvsadm(8), NAT: the director is the real servers' router and must not tell them of a shorter way.
                &[
                    ("net/ipv4/ip_forward", "1"),
                    ("net/ipv4/conf/all/send_redirects", "0"),
                    ("net/ipv4/conf/eth0/send_redirects", "0"),
                    ("net/ipv4/conf/eth1/send_redirects", "0"),
                ],
            ),
            ForwardingMethod::Dr | ForwardingMethod::FullNat | ForwardingMethod::Tun(_) => {
                self.director.configure(&addresses, None, &[])?;
                self.director.set_mtu(self.plan.inner_mtu())
            }
        }
    }

    fn configure_real_server(&self, host: &Host) -> Result<(), BedError> {
        let own = [(host.address, 24)];
        match self.plan.method {
            ForwardingMethod::Nat => {
                host.configure(&own, None, &[])?;
                host.namespace.with_netlink(async |netlink: Netlink| {
                    let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
                    netlink.add_route(any, 0, DIRECTOR_INSIDE.into()).await?;
                    Ok::<_, BedError>(())
                })
            }
            ForwardingMethod::FullNat => host.configure(&own, None, &[]),
            ForwardingMethod::Dr | ForwardingMethod::Tun(_) => {
                // The VIP is local but never announced: the classical "RS script" of LVS.
                host.configure(
                    &own,
                    None,
                    &[
                        ("net/ipv4/conf/all/arp_ignore", "1"),
                        ("net/ipv4/conf/all/arp_announce", "2"),
                    ],
                )?;
                host.set_mtu(self.plan.inner_mtu())?;
                host.namespace.with_netlink(async |netlink: Netlink| {
                    let lo = netlink.link("lo").await?.ifindex;
                    netlink.add_address(lo, VIP.into(), 32).await?;
                    Ok::<_, BedError>(())
                })
            }
        }
    }
}

impl Plan {
    /// Largest IP packet between director and real servers: in TUN there is room for the outer header, as operators
    /// must provide it, so that a full packet of the client still fits.
    pub const fn inner_mtu(&self) -> u32 {
        match self.method {
            ForwardingMethod::Nat | ForwardingMethod::Dr | ForwardingMethod::FullNat => 1500,
            ForwardingMethod::Tun(_) => 1600,
        }
    }

    /// Address of a real server, counted from 1: .21 and up, on the director's inner side for NAT.
    pub const fn real_server(&self, number: u8) -> Ipv4Addr {
        let last = 20_u8.saturating_add(number);
        match self.method {
            ForwardingMethod::Nat => Ipv4Addr::new(10, 1, 0, last),
            ForwardingMethod::Dr | ForwardingMethod::FullNat | ForwardingMethod::Tun(_) => {
                Ipv4Addr::new(10, 0, 0, last)
            }
        }
    }
}

/// Ids of the processes that are in a namespace whose name begins with `prefix`.
///
/// # Errors
/// [`NamespaceError`] if the namespaces cannot be listed; a name without a namespace counts for nothing.
pub fn processes_in(prefix: &str) -> Result<Vec<i32>, NamespaceError> {
    let inodes: BTreeSet<u64> = Namespace::list(prefix)?
        .iter()
        .filter_map(|name| Namespace::open(name).ok()?.inode().ok())
        .collect();
    let Ok(entries) = fs::read_dir("/proc") else {
        return Ok(Vec::new());
    };
    let in_bed = |pid: &i32| {
        // The link's target is the namespace, so following it gives the namespace's inode.
        fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|m| inodes.contains(&m.ino()))
    };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(pids.filter(in_bed).collect())
}

/// Joins a host's interface to a bridge of the switch; returns the index of the switch's port.
async fn cable(
    netlink: &Netlink,
    host: &Host,
    interface: &str,
    bridge: u32,
) -> Result<u32, BedError> {
    let port =
        if interface == "eth0" { host.name.clone() } else { format!("{}-{interface}", host.name) };
    let link = netlink.add_veth(&port, interface, &host.namespace).await?;
    netlink.set_bridge(link.ifindex, bridge).await?;
    for offload in [Offload::TxChecksum, Offload::Tso, Offload::Gso] {
        offload::set(&port, offload, false)?;
    }
    netlink.set_up(link.ifindex).await?;
    Ok(link.ifindex)
}
