//! How frames reach a real server.
//!
//! **Invariant:** a packet sees a next hop whole: the new one is written to the copy not in use, then selected.
//!
//! Called by the daemon, which learns routes and neighbours from the kernel, and by the director, which writes them
//! into destination records.

use std::net::{IpAddr, Ipv4Addr};

use elvs_common::{DestinationFlags, DestinationRecord, NextHop, WideAddress};

/// How frames reach a real server's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// MAC addresses and interface; `None` = not resolved, the program asks the kernel's routing table.
    pub hop: Option<NextHop>,
    /// Longest IP packet on the way, bytes; 0 = unknown.
    pub mtu: u32,
    /// Source of the outer header towards it, if the director has an address on the way.
    pub tunnel_source: Option<IpAddr>,
    /// The address is the director's own.
    pub local: bool,
}

impl Route {
    /// Writes the route into a record.
    pub(crate) fn write(&self, record: &mut DestinationRecord) {
        let hop = self.hop.unwrap_or_default();
        let [first, second] = &mut record.next_hop;
        let (used, unused) =
            if record.selector & 1 == 0 { (first, second) } else { (second, first) };
        if *used != hop {
            *unused = hop;
            record.selector = (record.selector & 1) ^ 1;
        }
        record.mtu = self.mtu;
        (record.tunnel_source, record.tunnel_source6) = match self.tunnel_source {
            Some(IpAddr::V4(source)) => (network_order(source), [0; 16]),
            Some(IpAddr::V6(source)) => (0, source.octets()),
            None => (0, [0; 16]),
        };
        record.flags = if self.local {
            record.flags | DestinationFlags::LOCAL
        } else {
            record.flags & !DestinationFlags::LOCAL
        };
    }
}

/// An address as packets hold it, loaded as a word.
pub(crate) const fn network_order(address: Ipv4Addr) -> u32 {
    u32::from_ne_bytes(address.octets())
}

/// What stands for an address where there is room for 32 bits, loaded as a word: itself, or the fold of an IPv6 address.
pub(crate) const fn folded(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(address) => network_order(address),
        IpAddr::V6(address) => WideAddress::of_bytes(address.octets()).fold(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use elvs_common::{DestinationFlags, DestinationRecord, NextHop};

    use super::{Route, network_order};

    fn hop(last: u8) -> NextHop {
        NextHop::new([last; 6], [2; 6], 3)
    }

    #[test]
    fn a_new_hop_goes_to_the_unused_copy() {
        let mut record = DestinationRecord { flags: 1, ..DestinationRecord::default() };
        let route = Route { hop: Some(hop(1)), mtu: 1500, local: true, ..Route::default() };
        route.write(&mut record);
        assert_eq!((record.selector, record.next_hop), (1, [NextHop::default(), hop(1)]));
        assert_eq!(record.flags, DestinationFlags::AVAILABLE | DestinationFlags::LOCAL);
        route.write(&mut record);
        assert_eq!(record.selector, 1, "the same hop changes nothing");
        Route { hop: Some(hop(2)), ..Route::default() }.write(&mut record);
        assert_eq!((record.selector, record.next_hop), (0, [hop(2), hop(1)]));
        assert_eq!((record.flags, record.mtu), (DestinationFlags::AVAILABLE, 0));
        Route::default().write(&mut record);
        assert_eq!((record.selector, record.next_hop), (1, [hop(2), NextHop::default()]));
    }

    #[test]
    fn a_tunnel_has_the_source_of_its_next_hops_family() {
        let mut record = DestinationRecord::default();
        let source: Ipv6Addr = "fd00::9".parse().unwrap();
        Route { tunnel_source: Some(source.into()), ..Route::default() }.write(&mut record);
        assert_eq!((record.tunnel_source, record.tunnel_source6), (0, source.octets()));
        let source = Ipv4Addr::new(192, 0, 2, 9);
        Route { tunnel_source: Some(source.into()), ..Route::default() }.write(&mut record);
        assert_eq!((record.tunnel_source, record.tunnel_source6), (network_order(source), [0; 16]));
        Route::default().write(&mut record);
        assert_eq!((record.tunnel_source, record.tunnel_source6), (0, [0; 16]));
    }
}
