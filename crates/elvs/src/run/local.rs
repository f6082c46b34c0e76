//! What the director's own host sends: a pair of interfaces between its stack and the director's program.
//!
//! The stack has one end, the director's program is attached to the other, so that to the program the host is one more
//! client, and one more real server, behind an interface. A classifier on the loopback device and on the director's
//! interfaces puts into the pair what is the director's business.
//!
//! **Invariant:** the pair is made when it is first needed and goes with the data plane; without it everything else works.
//!
//! Called by the node.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context, Result};
use elvs_common::{LOCAL_MTU, LocalPort, NextHop};
use elvs_dataplane::Plane;
use elvs_model::{ForwardingMethod, Table, XdpMode};
use elvs_net::offload::{self, Offload};
use elvs_net::{Link, Netlink, NetlinkError, sysctl};
use tracing::warn;

use super::interfaces::virtual_addresses;

/// Names of the pair's ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    /// The end that belongs to the host's stack.
    pub(super) stack: String,
    /// The end that carries the director's program.
    pub(super) director: String,
}

/// What of the host's own traffic is the director's business.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// A virtual address is the host's own, so its clients go by the loopback device.
    pub(super) clients: bool,
    /// A masqueraded real server is the host itself.
    pub(super) real_server: bool,
}

impl Needs {
    /// What a table needs, by the kernel's routing.
    pub(super) async fn of(netlink: &Netlink, table: &Table) -> Self {
        let destinations = table.services().flat_map(|service| service.destinations());
        let masqueraded = destinations.filter(|d| d.method == ForwardingMethod::Nat);
        let masqueraded: BTreeSet<IpAddr> = masqueraded.map(|d| d.key.address).collect();
        Self {
            clients: any_local(netlink, &virtual_addresses(table)).await,
            real_server: any_local(netlink, &masqueraded).await,
        }
    }

    /// Whether the pair is needed.
    pub(super) const fn any(self) -> bool {
        self.clients || self.real_server
    }
}

/// Whether one of some addresses is the host's own.
async fn any_local(netlink: &Netlink, addresses: &BTreeSet<IpAddr>) -> bool {
    for address in addresses {
        if netlink.route(*address).await.is_ok_and(|route| route.local) {
            return true;
        }
    }
    false
}

impl Pair {
    /// The pair of an instance. Interface names have 15 bytes at most, names of instances may have more.
    pub(super) fn of(instance: &str) -> Self {
        if instance == "default" {
            return Self { stack: "elvs-local".to_owned(), director: "elvs-xdp".to_owned() };
        }
        // FNV-1a.
        let hash = instance
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        Self { stack: format!("elvs{hash:08x}-l"), director: format!("elvs{hash:08x}-x") }
    }

    /// Makes the pair, or takes over the one that is there, and answers the ways from either end to the other.
    pub(super) async fn make(&self, netlink: &Netlink) -> Result<[(LocalPort, NextHop); 2]> {
        match netlink.link(&self.stack).await {
            Ok(_) => {}
            Err(NetlinkError::NoSuchInterface { .. }) => {
                netlink.add_veth_pair(&self.stack, &self.director).await?;
            }
            Err(error) => return Err(error.into()),
        }
        self.configure()?;
        let stack = self.bring_up(netlink, &self.stack).await?;
        // Without a program a veth device takes no frames that its other end's program sends.
        netlink.pass_frames(stack.ifindex).await?;
        let director = self.bring_up(netlink, &self.director).await?;
        let mac = |link: &Link| {
            link.mac.with_context(|| format!("interface {} has no MAC address", link.name))
        };
        let (inner, outer) = (mac(&stack)?, mac(&director)?);
        Ok([
            (LocalPort::ToDirector, NextHop::new(outer, inner, stack.ifindex)),
            (LocalPort::ToStack, NextHop::new(inner, outer, director.ifindex)),
        ])
    }

    async fn bring_up(&self, netlink: &Netlink, name: &str) -> Result<Link> {
        let link = netlink.link(name).await?;
        if link.mtu != LOCAL_MTU {
            netlink.set_mtu(link.ifindex, LOCAL_MTU).await?;
        }
        if !link.up {
            netlink.set_up(link.ifindex).await?;
        }
        Ok(link)
    }

    /// Packets on the pair come from addresses of the host itself, which the kernel refuses anywhere else; the program sees
    /// packets of their final size with whole checksums.
    fn configure(&self) -> Result<()> {
        for name in [&self.stack, &self.director] {
            sysctl::set(&format!("net/ipv4/conf/{name}/accept_local"), "1")?;
            sysctl::set(&format!("net/ipv4/conf/{name}/rp_filter"), "0")?;
            // IPv6 without an address, so that nobody speaks on the pair. A kernel without IPv6 has no such words.
            for (word, value) in [
                ("addr_gen_mode", "1"),
                ("accept_ra", "0"),
                ("disable_ipv6", "0"),
                ("forwarding", "1"),
            ] {
                match sysctl::set(&format!("net/ipv6/conf/{name}/{word}"), value) {
                    Err(error) if !error.is_missing() => return Err(error.into()),
                    Ok(()) | Err(_) => {}
                }
            }
            for offload in [Offload::TxChecksum, Offload::Tso, Offload::Gso] {
                offload::set(name, offload, false)?;
            }
        }
        // The routing table is asked for the clients of a local real server as if their replies were forwarded.
        sysctl::set(&format!("net/ipv4/conf/{}/forwarding", self.director), "1")?;
        if sysctl::read("net/ipv4/conf/all/rp_filter")? == "1" {
            warn!(
                "net.ipv4.conf.all.rp_filter is 1: replies to this host's own clients are refused by it; set it to 0 or 2 (interfaces have their own)"
            );
        }
        Ok(())
    }

    /// Removes the pair, if it is there.
    pub(super) async fn remove(&self, netlink: &Netlink) -> Result<()> {
        match netlink.link(&self.stack).await {
            Ok(link) => Ok(netlink.delete_link(link.ifindex).await?),
            Err(NetlinkError::NoSuchInterface { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Has a plane use the pair.
    pub(super) fn connect(
        &self,
        plane: &mut dyn Plane,
        ways: &[(LocalPort, NextHop); 2],
    ) -> Result<()> {
        // In the driver: what a classifier has redirected, generic XDP passes by (`netif_receive_generic_xdp`).
        plane.attach(&self.director, XdpMode::Native)?;
        for (port, way) in ways {
            plane.set_local_hop(*port, way)?;
        }
        Ok(())
    }

    /// Has a plane use the pair no more.
    pub(super) fn disconnect(&self, plane: &mut dyn Plane) -> Result<()> {
        for interface in plane.attached_egress() {
            plane.detach_egress(&interface)?;
        }
        for port in [LocalPort::ToDirector, LocalPort::ToStack] {
            plane.set_local_hop(port, &NextHop::default())?;
        }
        Ok(plane.detach(&self.director)?)
    }
}

#[cfg(test)]
mod tests {
    use super::Pair;

    #[test]
    fn interface_names_fit_and_differ_by_instance() {
        let names = ["default", "a", "b", "an-instance-with-a-name-of-32-byt"].map(Pair::of);
        for pair in &names {
            assert!(pair.stack.len() <= 15 && pair.director.len() <= 15, "{pair:?}");
            assert_ne!(pair.stack, pair.director);
            assert_eq!(names.iter().filter(|other| *other == pair).count(), 1, "{pair:?}");
        }
    }
}
