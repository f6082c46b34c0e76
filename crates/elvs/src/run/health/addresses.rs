//! Addresses of this host, for virtual servers with `ha_suspend`.
//!
//! **Invariant:** an address is there as long as one interface has it.
//!
//! Called by the health thread.

use std::collections::HashSet;
use std::net::IpAddr;

use elvs_net::{Address, Event, Netlink, NetlinkError};

/// The host's addresses.
#[derive(Debug, Default)]
pub(super) struct Addresses(HashSet<(u32, IpAddr)>);

impl Addresses {
    /// Reads them all; answers what came and what went.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) async fn read(
        &mut self,
        netlink: &Netlink,
    ) -> Result<Vec<(IpAddr, bool)>, NetlinkError> {
        let found = netlink.addresses().await?;
        Ok(self.replace(found.iter().map(|address| (address.ifindex, address.address)).collect()))
    }

    fn replace(&mut self, found: HashSet<(u32, IpAddr)>) -> Vec<(IpAddr, bool)> {
        let distinct = |all: &HashSet<(u32, IpAddr)>| -> HashSet<IpAddr> {
            all.iter().map(|(_, address)| *address).collect()
        };
        let (before, after) = (distinct(&self.0), distinct(&found));
        self.0 = found;
        let gone = before.difference(&after).map(|address| (*address, false));
        gone.chain(after.difference(&before).map(|address| (*address, true))).collect()
    }

    /// Takes note of an event; answers an address that came or went by it.
    pub(super) fn note(&mut self, event: &Event) -> Option<(IpAddr, bool)> {
        let (Address { ifindex, address, .. }, comes) = match event {
            Event::AddressAdded(address) => (*address, true),
            Event::AddressRemoved(address) => (*address, false),
            Event::LinkChanged(_)
            | Event::LinkRemoved { .. }
            | Event::RouteChanged
            | Event::NeighbourChanged(_)
            | Event::NeighbourRemoved { .. }
            | Event::Lost => return None,
        };
        let before = self.has(address);
        if comes {
            self.0.insert((ifindex, address));
        } else {
            self.0.remove(&(ifindex, address));
        }
        let after = self.has(address);
        (before != after).then_some((address, after))
    }

    /// All of them, each once.
    pub(super) fn all(&self) -> HashSet<IpAddr> {
        self.0.iter().map(|(_, address)| *address).collect()
    }

    fn has(&self, address: IpAddr) -> bool {
        self.0.iter().any(|(_, known)| *known == address)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use elvs_net::{Address, Event};

    use super::Addresses;

    #[test]
    fn an_address_goes_when_the_last_interface_loses_it() {
        let vip = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        let on = |ifindex| Address { ifindex, address: vip, prefix_len: 32 };
        let mut addresses = Addresses::default();
        assert_eq!(addresses.replace([(1, vip)].into()), [(vip, true)]);
        assert_eq!(addresses.note(&Event::AddressAdded(on(2))), None);
        assert_eq!(addresses.note(&Event::AddressRemoved(on(1))), None);
        assert_eq!(addresses.note(&Event::RouteChanged), None);
        assert_eq!(addresses.all(), [vip].into());
        assert_eq!(addresses.note(&Event::AddressRemoved(on(2))), Some((vip, false)));
        assert_eq!(addresses.note(&Event::AddressRemoved(on(2))), None);
        assert_eq!(addresses.note(&Event::AddressAdded(on(2))), Some((vip, true)));
        assert_eq!(addresses.replace([].into()), [(vip, false)]);
    }
}
