//! What the kernel says of the network that a configuration speaks of.
//!
//! **Invariant:** the kernel is asked once for each address, and once for all interfaces and their addresses.
//!
//! Part of [`super`].

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use elvs_model::Desired;
use elvs_net::{Link, Netlink, NetlinkError, NextHopError, Route};

use super::network;

/// Facts about a host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// Names of its interfaces.
    pub(super) interfaces: HashSet<String>,
    /// Addresses that are its own, of those that were asked for.
    pub(super) own: HashSet<IpAddr>,
    /// Ways to real servers.
    pub(super) ways: HashMap<IpAddr, Way>,
}

/// The way to a real server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// None; the host itself.
    Here,
    /// On a network of the host.
    Direct,
    /// Through this router.
    Gateway(IpAddr),
    /// None, for this reason.
    None(String),
}

impl Facts {
    /// Asks the kernel for what a configuration depends on.
    ///
    /// # Errors
    /// It does not answer.
    pub(crate) async fn ask(netlink: &Netlink, desired: &Desired) -> Result<Self, NetlinkError> {
        let links = netlink.links().await?;
        let links: HashMap<u32, Link> =
            links.into_iter().map(|link| (link.ifindex, link)).collect();
        let addresses = netlink.addresses().await?;
        let mut facts = Self {
            interfaces: links.values().map(|link| link.name.clone()).collect(),
            own: addresses.into_iter().map(|address| address.address).collect(),
            ways: HashMap::new(),
        };
        let servers: BTreeSet<IpAddr> =
            network::destinations(desired).map(|(_, _, d)| d.key.address).collect();
        for address in servers {
            let way = match netlink.route(address).await {
                Ok(route) => Way::of(address, route, &links),
                Err(error) => Way::None(match error.errno() {
                    Some(_) => NextHopError::NoRoute { destination: address }.to_string(),
                    None => error.to_string(),
                }),
            };
            facts.ways.insert(address, way);
        }
        let wanted: BTreeSet<IpAddr> =
            network::wanted(desired).map(|(address, ..)| address).collect();
        for address in wanted {
            // One that is not on an interface may be routed to the host itself (ip-route(8), type local).
            if !facts.own.contains(&address)
                && netlink.route(address).await.is_ok_and(|route| route.local)
            {
                facts.own.insert(address);
            }
        }
        Ok(facts)
    }
}

impl Way {
    /// What a route is worth to the data plane, which sends Ethernet frames.
    fn of(destination: IpAddr, route: Route, links: &HashMap<u32, Link>) -> Self {
        if route.local {
            return Self::Here;
        }
        let Some(link) = route.ifindex.and_then(|ifindex| links.get(&ifindex)) else {
            return Self::None(NextHopError::NoRoute { destination }.to_string());
        };
        let interface = link.name.clone();
        if link.mac.is_none() || link.loopback {
            return Self::None(NextHopError::NotEthernet { destination, interface }.to_string());
        }
        if !link.up {
            return Self::None(NextHopError::Down { destination, interface }.to_string());
        }
        route.gateway.map_or(Self::Direct, Self::Gateway)
    }
}
