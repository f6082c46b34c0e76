//! One machine of the bed.
//!
//! **Invariant:** its interfaces send complete frames: no checksum, no segmentation is left to a device.
//!
//! Called by [`super::Bed`].

use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::process::Command;

use super::{BedError, Namespace, NamespaceGuard, Netlink, Offload, offload, sysctl};

/// A machine of the bed: a namespace with `eth0`, and `eth1` for a NAT director.
#[derive(Debug)]
pub struct Host {
    /// `client`, `director`, `rs1`, ...
    pub name: String,
    /// Its own address on `eth0`.
    pub address: Ipv4Addr,
    /// Its namespace.
    pub namespace: NamespaceGuard,
}

impl Host {
    pub(super) fn new(name: &str, address: Ipv4Addr, namespace: NamespaceGuard) -> Self {
        Self { name: name.to_owned(), address, namespace }
    }

    /// A command that will run on this host.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.namespace.command(program)
    }

    /// MAC address of an interface of this host.
    ///
    /// # Errors
    /// [`BedError::Netlink`] if there is no such interface.
    pub fn mac(&self, interface: &str) -> Result<Option<[u8; 6]>, BedError> {
        self.namespace.with_netlink(async |netlink: Netlink| {
            Ok::<_, BedError>(netlink.link(interface).await?.mac)
        })
    }

    /// Sets the largest IP packet of `eth0`.
    pub(super) fn set_mtu(&self, mtu: u32) -> Result<(), BedError> {
        self.namespace.with_netlink(async |netlink: Netlink| {
            let ifindex = netlink.link("eth0").await?.ifindex;
            Ok(netlink.set_mtu(ifindex, mtu).await?)
        })
    }

    pub(super) fn keep(self) -> Option<Namespace> {
        self.namespace.keep()
    }

    /// Addresses `eth0` (and `eth1`, if `inside` is given), takes offloads off, sets sysctls, brings all up.
    pub(super) fn configure(
        &self,
        addresses: &[(Ipv4Addr, u8)],
        inside: Option<(Ipv4Addr, u8)>,
        sysctls: &[(&str, &str)],
    ) -> Result<(), BedError> {
        let inside: Vec<_> = inside.into_iter().collect();
        self.namespace.with_netlink(async |netlink: Netlink| {
            without_ipv6()?;
            let lo = netlink.link("lo").await?.ifindex;
            netlink.set_up(lo).await?;
            for (interface, addresses) in [("eth0", addresses), ("eth1", inside.as_slice())] {
                if addresses.is_empty() {
                    continue;
                }
                complete_frames(interface)?;
                let link = netlink.link(interface).await?;
                for (address, prefix_len) in addresses {
                    netlink.add_address(link.ifindex, (*address).into(), *prefix_len).await?;
                }
                sysctl::set(&format!("net/ipv4/conf/{interface}/rp_filter"), "0")?;
                netlink.set_up(link.ifindex).await?;
            }
            // The kernel takes the higher of "all" and the interface's own (ip-sysctl.rst).
            sysctl::set("net/ipv4/conf/all/rp_filter", "0")?;
            sysctls.iter().try_for_each(|(key, value)| sysctl::set(key, value))?;
            Ok(())
        })
    }
}

fn complete_frames(interface: &str) -> Result<(), BedError> {
    for offload in [Offload::TxChecksum, Offload::Tso, Offload::Gso] {
        offload::set(interface, offload, false)?;
    }
    Ok(())
}

/// Switches IPv6 off in the calling thread's namespace, so that no neighbour discovery mixes with what is counted.
///
/// To be called before an interface is made or comes up.
pub(super) fn without_ipv6() -> Result<(), BedError> {
    for which in ["all", "default"] {
        match sysctl::set(&format!("net/ipv6/conf/{which}/disable_ipv6"), "1") {
            // A kernel without IPv6 has nothing to switch off.
            Err(error) if !error.is_missing() => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}
