//! Where a packet to a real server goes: interface, addresses and MAC addresses in one answer.
//!
//! **Invariant:** a [`NextHop`] is on Ethernet and never on the machine itself: what the data plane can forward to.
//!
//! Called by the daemon for each destination, again after each route, address, link or neighbour event.

use std::net::IpAddr;

use crate::netlink::{Netlink, NetlinkError};

/// Everything that is needed to put a frame for a destination on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// Interface the frame leaves by.
    pub ifindex: u32,
    /// Address of the director towards the destination: outer source of a tunnel.
    pub source: IpAddr,
    /// Router on the way; `None` if the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// MAC address of the interface.
    pub source_mac: [u8; 6],
    /// MAC address of the gateway or the destination; `None` while unresolved (see [`Netlink::resolve`]).
    pub destination_mac: Option<[u8; 6]>,
    /// Largest IP packet in bytes, by the route if it says so, else by the interface.
    pub mtu: u32,
}

/// Why there is no next hop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NextHopError {
    /// No route, or one that refuses (`unreachable`, `prohibit`, `blackhole`).
    #[error("no route to {destination}")]
    NoRoute {
        /// Where to.
        destination: IpAddr,
    },
    /// The destination is an address of this machine.
    #[error("{destination} is an address of this machine")]
    Local {
        /// Where to.
        destination: IpAddr,
    },
    /// The interface has no Ethernet address.
    #[error("the route to {destination} leaves by {interface}, which is no Ethernet interface")]
    NotEthernet {
        /// Where to.
        destination: IpAddr,
        /// Name of the interface.
        interface: String,
    },
    /// The interface is administratively down.
    #[error("the route to {destination} leaves by {interface}, which is down")]
    Down {
        /// Where to.
        destination: IpAddr,
        /// Name of the interface.
        interface: String,
    },
    /// The director has no address of the destination's family to send from.
    #[error("no source address towards {destination}")]
    NoSource {
        /// Where to.
        destination: IpAddr,
    },
    /// A request failed for another reason.
    #[error("cannot find the next hop of {destination}")]
    Netlink {
        /// Where to.
        destination: IpAddr,
        /// The request's error.
        #[source]
        source: NetlinkError,
    },
}

impl NextHop {
    /// Address whose MAC address is needed: the gateway's, else the destination's own.
    pub fn neighbour(&self, destination: IpAddr) -> IpAddr {
        self.gateway.unwrap_or(destination)
    }
}

impl Netlink {
    /// The next hop towards a destination, by the kernel's routing table.
    ///
    /// # Errors
    /// [`NextHopError`], each variant one cause an operator can act on.
    pub async fn next_hop(&self, destination: IpAddr) -> Result<NextHop, NextHopError> {
        let failed = |source| NextHopError::Netlink { destination, source };
        let route = match self.route(destination).await {
            Ok(route) => route,
            Err(e) => match e.errno() {
                Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL) => {
                    return Err(NextHopError::NoRoute { destination });
                }
                _ => return Err(failed(e)),
            },
        };
        if route.local {
            return Err(NextHopError::Local { destination });
        }
        let ifindex = route.ifindex.ok_or(NextHopError::NoRoute { destination })?;
        let link = self.link_by_index(ifindex).await.map_err(failed)?;
        let source = route.source.ok_or(NextHopError::NoSource { destination })?;
        let (Some(source_mac), false) = (link.mac, link.loopback) else {
            return Err(NextHopError::NotEthernet { destination, interface: link.name });
        };
        if !link.up {
            return Err(NextHopError::Down { destination, interface: link.name });
        }
        let mut hop = NextHop {
            ifindex,
            source,
            gateway: route.gateway,
            source_mac,
            destination_mac: None,
            mtu: route.mtu.unwrap_or(link.mtu),
        };
        let neighbour = self.neighbour(ifindex, hop.neighbour(destination)).await;
        hop.destination_mac = neighbour.map_err(failed)?.and_then(|n| n.mac);
        Ok(hop)
    }
}
