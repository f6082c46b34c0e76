//! IP addresses of interfaces.
//!
//! **Invariant:** an [`Address`] names one interface of the handle's namespace.
//!
//! Called by the daemon (which interface holds a VIP or its subnet) and by the test bed.

use std::collections::HashMap;
use std::net::IpAddr;

use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};

use crate::netlink::{Netlink, NetlinkError};

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// Interface that holds it.
    pub ifindex: u32,
    /// The address itself.
    pub address: IpAddr,
    /// Length of its subnet's prefix in bits.
    pub prefix_len: u8,
}

impl Address {
    /// Whether `other` is in this address's subnet.
    pub fn covers(&self, other: IpAddr) -> bool {
        match (self.address, other) {
            (IpAddr::V4(mine), IpAddr::V4(other)) => {
                let shift = 32_u32.saturating_sub(u32::from(self.prefix_len));
                mine.to_bits().checked_shr(shift) == other.to_bits().checked_shr(shift)
            }
            (IpAddr::V6(mine), IpAddr::V6(other)) => {
                let shift = 128_u32.saturating_sub(u32::from(self.prefix_len));
                mine.to_bits().checked_shr(shift) == other.to_bits().checked_shr(shift)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }

    /// Whether it is a host's address without a subnet: /32 or /128.
    const fn is_whole(&self) -> bool {
        match self.address {
            IpAddr::V4(_) => self.prefix_len == 32,
            IpAddr::V6(_) => self.prefix_len == 128,
        }
    }

    pub(crate) fn from_message(message: &AddressMessage) -> Option<Self> {
        let mut address = None;
        for attribute in &message.attributes {
            match attribute {
                // rtnetlink(7): on a point-to-point link IFA_ADDRESS is the peer, IFA_LOCAL the own address.
                AddressAttribute::Local(local) => address = Some(*local),
                AddressAttribute::Address(other) => {
                    address = address.or(Some(*other));
                }
                _ => {}
            }
        }
        Some(Self {
            ifindex: message.header.index,
            address: address?,
            prefix_len: message.header.prefix_len,
        })
    }
}

/// Subnets of interfaces other than loopback, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Subnets {
    /// The longest prefix first.
    wide: Vec<Address>,
    /// Addresses without a subnet.
    hosts: HashMap<IpAddr, Address>,
}

impl Subnets {
    /// The interface address that has `vip` in its subnet, the longest prefix first; loopback does not count.
    ///
    /// A VIP that is itself a /32 (or /128) on `lo` or elsewhere is found through the subnet that covers it, because
    /// that is the interface on which its packets arrive. A host address has no subnet: it is the answer only if nothing
    /// wider is there.
    pub fn of(&self, vip: IpAddr) -> Option<Address> {
        let wide = self.wide.iter().find(|address| address.covers(vip));
        wide.or_else(|| self.hosts.get(&vip)).copied()
    }
}

impl Netlink {
    /// All addresses of all interfaces of the namespace.
    ///
    /// # Errors
    /// [`NetlinkError`] of the request.
    pub async fn addresses(&self) -> Result<Vec<Address>, NetlinkError> {
        let found = self.list(|| self.handle.address().get().execute(), "addresses").await?;
        Ok(found.iter().filter_map(Address::from_message).collect())
    }

    /// The interface address that has `vip` in its subnet: see [`Subnets::of`].
    ///
    /// # Errors
    /// [`NetlinkError`] of the requests.
    pub async fn subnet_of(&self, vip: IpAddr) -> Result<Option<Address>, NetlinkError> {
        Ok(self.subnets().await?.of(vip))
    }

    /// The subnets of the namespace's interfaces, to look many addresses up.
    ///
    /// # Errors
    /// [`NetlinkError`] of the requests.
    pub async fn subnets(&self) -> Result<Subnets, NetlinkError> {
        let links = self.links().await?;
        let loopback = |ifindex| links.iter().any(|l| l.ifindex == ifindex && l.loopback);
        let mut found = self.addresses().await?;
        found.retain(|address| !loopback(address.ifindex));
        let (hosts, mut wide): (Vec<_>, Vec<_>) = found.into_iter().partition(Address::is_whole);
        wide.sort_by_key(|address| std::cmp::Reverse(address.prefix_len));
        Ok(Subnets { wide, hosts: hosts.into_iter().map(|host| (host.address, host)).collect() })
    }

    /// Whether an interface of the namespace holds the address.
    ///
    /// # Errors
    /// [`NetlinkError`] of the request.
    pub async fn is_local(&self, address: IpAddr) -> Result<bool, NetlinkError> {
        Ok(self.addresses().await?.iter().any(|a| a.address == address))
    }

    /// Gives an interface an address, which may be used at once: nobody looks for duplicates of an IPv6 address (RFC 4862
    /// section 5.4), as keepalived has it of its own.
    ///
    /// # Errors
    /// [`NetlinkError::Refused`] if it has it already.
    pub async fn add_address(
        &self,
        ifindex: u32,
        address: IpAddr,
        prefix_len: u8,
    ) -> Result<(), NetlinkError> {
        let mut request = self.handle.address().add(ifindex, address, prefix_len);
        if address.is_ipv6() {
            request.message_mut().header.flags = AddressHeaderFlags::Nodad;
        }
        let added = request.execute().await;
        added.map_err(|e| NetlinkError::of(e, "add address", format!("{address}/{prefix_len}")))
    }

    /// Takes an address from its interface.
    ///
    /// # Errors
    /// [`NetlinkError::Refused`] if it is not there.
    pub async fn delete_address(&self, address: Address) -> Result<(), NetlinkError> {
        let Address { ifindex, address, prefix_len } = address;
        let mut message =
            self.handle.address().add(ifindex, address, prefix_len).message_mut().clone();
        message.attributes.retain(|a| !matches!(a, AddressAttribute::Broadcast(_)));
        let deleted = self.handle.address().del(message).execute().await;
        deleted.map_err(|e| NetlinkError::of(e, "delete address", address))
    }
}

#[cfg(test)]
mod tests;
