//! IPv6 in a bed: the same hosts with a second set of addresses.
//!
//! **Invariant:** an address of this module may be used at once: nobody looks for duplicates of it.
//!
//! Called through [`Bed::add_ipv6`].

use std::net::{IpAddr, Ipv6Addr};

use elvs_model::ForwardingMethod;

use super::{Bed, BedError, Host, Netlink, Plan, sysctl};

/// The client's IPv6 address.
pub const CLIENT6: Ipv6Addr = address(0, 0x1);
/// The director's own IPv6 address on the client's side.
pub const DIRECTOR6: Ipv6Addr = address(0, 0x10);
/// The director's own IPv6 address on the real servers' side (NAT only).
pub const DIRECTOR_INSIDE6: Ipv6Addr = address(1, 0x10);
/// The virtual IPv6 address: where [`super::VIP`] is.
pub const VIP6: Ipv6Addr = address(0, 0x100);

/// The director's local IPv6 address (FULLNAT only).
pub const LOCAL6: Ipv6Addr = address(0, 0x200);

/// `fd00::LAST` outside, `fd01::LAST` inside.
const fn address(side: u16, last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00 + side, 0, 0, 0, 0, 0, 0, last)
}

impl Plan {
    /// IPv6 address of a real server, counted from 1: `fd00::21` and up in hexadecimal, `fd01::21` and up for NAT.
    pub const fn real_server6(&self, number: u8) -> Ipv6Addr {
        let side = if matches!(self.method, ForwardingMethod::Nat) { 1 } else { 0 };
        address(side, 0x20_u16.saturating_add(number as u16))
    }
}

impl Bed {
    /// Switches IPv6 on in every host and gives each its address, the director and the real servers also the VIP and
    /// the routes that their forwarding method asks for.
    ///
    /// # Errors
    /// [`BedError`], also on a kernel without IPv6.
    pub fn add_ipv6(&self) -> Result<(), BedError> {
        give(&self.client, &["eth0"], &[("eth0", CLIENT6, 64)])?;
        let nat = matches!(self.plan.method, ForwardingMethod::Nat);
        let full_nat = matches!(self.plan.method, ForwardingMethod::FullNat);
        let outside = [("eth0", DIRECTOR6, 64), ("eth0", VIP6, 128)];
        if nat {
            let all = [&outside[..], &[("eth1", DIRECTOR_INSIDE6, 64)]].concat();
            give(&self.director, &["eth0", "eth1"], &all)?;
            self.director.namespace.with_netlink(async |_: Netlink| {
                Ok::<_, BedError>(sysctl::set("net/ipv6/conf/all/forwarding", "1")?)
            })?;
        } else if full_nat {
            let all = [&outside[..], &[("eth0", LOCAL6, 128)]].concat();
            give(&self.director, &["eth0"], &all)?;
        } else {
            give(&self.director, &["eth0"], &outside)?;
        }
        for (host, number) in self.real_servers.iter().zip(1..) {
            let own = ("eth0", self.plan.real_server6(number), 64);
            if nat {
                give(host, &["eth0"], &[own])?;
                host.namespace.with_netlink(async |netlink: Netlink| {
                    let any = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
                    Ok::<_, BedError>(netlink.add_route(any, 0, DIRECTOR_INSIDE6.into()).await?)
                })?;
            } else if full_nat {
                give(host, &["eth0"], &[own])?;
            } else {
                // The address of an interface is announced on that interface alone, so nobody hears of one on lo.
                give(host, &["lo", "eth0"], &[own, ("lo", VIP6, 128)])?;
            }
        }
        Ok(())
    }
}

/// Switches IPv6 on, without a search for duplicates, and sets addresses.
fn give(
    host: &Host,
    interfaces: &[&str],
    addresses: &[(&str, Ipv6Addr, u8)],
) -> Result<(), BedError> {
    host.namespace.with_netlink(async |netlink: Netlink| {
        for interface in ["all", "default"].iter().chain(interfaces) {
            sysctl::set(&format!("net/ipv6/conf/{interface}/accept_dad"), "0")?;
            sysctl::set(&format!("net/ipv6/conf/{interface}/accept_ra"), "0")?;
        }
        for interface in ["all", "default"].iter().chain(interfaces) {
            sysctl::set(&format!("net/ipv6/conf/{interface}/disable_ipv6"), "0")?;
        }
        for (interface, address, prefix_len) in addresses {
            let ifindex = netlink.link(interface).await?.ifindex;
            netlink.add_address(ifindex, IpAddr::V6(*address), *prefix_len).await?;
        }
        Ok(())
    })
}
