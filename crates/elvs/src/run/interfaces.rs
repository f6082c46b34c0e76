//! Which interfaces carry the program: those the configuration names, else those found from addresses and routes.
//!
//! **Invariant:** only Ethernet interfaces are found; the loopback device never is.
//!
//! Called by the node.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use elvs_model::{DataPlaneSettings, Family, InterfaceName, Prefix, ServiceKey, Table};
use elvs_net::{Netlink, NetlinkError};

/// An address of nobody (RFC 5737, RFC 3849), whose route is the default route.
const fn elsewhere(family: Family) -> IpAddr {
    match family {
        Family::Inet => IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)),
        Family::Inet6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    }
}

/// Names of the interfaces that a table needs: where packets for its virtual addresses arrive, and where its real
/// servers are reached (replies of masqueraded ones arrive there), and where its local addresses of full NAT are.
///
/// # Errors
/// Requests to the kernel that failed.
pub(super) async fn wanted(
    netlink: &Netlink,
    table: &Table,
    settings: &DataPlaneSettings,
) -> Result<BTreeSet<String>, NetlinkError> {
    if !settings.interfaces.is_empty() {
        return Ok(settings.interfaces.iter().cloned().collect());
    }
    let mut indexes = BTreeSet::new();
    let subnets = netlink.subnets().await?;
    for vip in virtual_addresses(table) {
        match subnets.of(vip) {
            Some(address) => {
                indexes.insert(address.ifindex);
            }
            // The VIP is routed to this host: its packets come by the way that leads elsewhere.
            None => {
                let route = netlink.route(elsewhere(Family::of(vip))).await.ok();
                indexes.extend(route.and_then(|route| route.ifindex));
            }
        }
    }
    let locals = table.services().flat_map(|service| service.local_addresses().iter());
    for local in locals.collect::<BTreeSet<_>>() {
        indexes.extend(subnets.of(local).map(|address| address.ifindex));
    }
    let destinations = table.services().flat_map(|service| service.destinations());
    for address in destinations.map(|d| d.key.address).collect::<BTreeSet<_>>() {
        if let Ok(route) = netlink.route(address).await
            && !route.local
        {
            indexes.extend(route.ifindex);
        }
    }
    let named: BTreeSet<&str> = table.marks().interfaces().map(InterfaceName::as_str).collect();
    let links = netlink.links().await?;
    let usable = links.into_iter().filter(|link| !link.loopback && link.mac.is_some());
    let found =
        usable.filter(|link| indexes.contains(&link.ifindex) || named.contains(link.name.as_str()));
    Ok(found.map(|link| link.name).collect())
}

/// Indexes of all interfaces, by name.
///
/// # Errors
/// Requests to the kernel that failed.
pub(super) async fn indexes(netlink: &Netlink) -> Result<HashMap<String, u32>, NetlinkError> {
    let links = netlink.links().await?;
    Ok(links.into_iter().map(|link| (link.name, link.ifindex)).collect())
}

/// An address for each mark rule that its packets may go to; for one of both families, in each that has a service by its
/// mark.
fn marked_addresses(table: &Table) -> BTreeSet<IpAddr> {
    let mut addresses = BTreeSet::new();
    for rule in table.marks().iter().filter(|rule| rule.interface.is_none()) {
        for family in [Family::Inet, Family::Inet6] {
            let by_mark = ServiceKey::Fwmark { mark: rule.mark.get(), family };
            let fits = match rule.family() {
                Some(of) => of == family,
                None => table.service(&by_mark).is_some(),
            };
            if fits {
                let address = rule.destination.map(Prefix::address);
                addresses.insert(address.unwrap_or_else(|| elsewhere(family)));
            }
        }
    }
    addresses
}

/// Addresses of a table's services.
pub(super) fn virtual_addresses(table: &Table) -> BTreeSet<IpAddr> {
    let keys = table.services().map(|service| service.service().key);
    keys.filter_map(|key| match key {
        ServiceKey::Address { address, .. } => Some(address),
        ServiceKey::Fwmark { .. } => None,
    })
    .chain(marked_addresses(table))
    .collect()
}
