//! Firewall-mark rules as packets are classified by them.
//!
//! **Invariant:** the rules keep their order; a rule of an interface that does not exist fits no packet.
//!
//! Called when a table is compiled.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use elvs_common::MarkLine;
use elvs_model::{Family, MarkRule, PortRange, Prefix, ServiceKey, Table};

use crate::route::network_order;

/// Interface of a rule whose interface does not exist.
const NOWHERE: u32 = u32::MAX;
/// Addresses of prefixes that are put into the filter one by one; beyond that every address counts as virtual.
const MOST_ADDRESSES: u64 = 4_096;

/// The rules of IPv4 as lines of the blob; `interfaces` has indexes by name.
pub(crate) fn lines(table: &Table, interfaces: &HashMap<String, u32>) -> Vec<MarkLine> {
    let rules = table.marks().iter().filter(|rule| rule.family() != Some(Family::Inet6));
    rules.map(|rule| line(rule, interfaces)).collect()
}

fn line(rule: &MarkRule, interfaces: &HashMap<String, u32>) -> MarkLine {
    let (source, source_mask) = words(rule.source);
    let (destination, destination_mask) = words(rule.destination);
    let ifindex = rule.interface.as_ref().map(|name| interfaces.get(name.as_str()).copied());
    MarkLine {
        addresses: u64::from(source) | u64::from(destination) << 32,
        masks: u64::from(source_mask) | u64::from(destination_mask) << 32,
        client_ports: range(rule.source_ports),
        virtual_ports: range(rule.destination_ports),
        mark: rule.mark.get(),
        ifindex: ifindex.map_or(0, |index| index.unwrap_or(NOWHERE)),
        protocol: rule.protocol.map_or(0, |protocol| protocol.number()),
    }
}

/// Address and mask of a prefix, network order.
fn words(prefix: Option<Prefix>) -> (u32, u32) {
    match prefix.map(|prefix| (prefix.address(), prefix.length())) {
        Some((IpAddr::V4(address), length)) => {
            (network_order(address), network_order(Ipv4Addr::from(mask(length))))
        }
        Some((IpAddr::V6(_), _)) | None => (0, 0),
    }
}

/// Netmask of a prefix length, host order.
fn mask(length: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0)
}

fn range(ports: Option<PortRange>) -> u32 {
    let (first, last) = ports.map_or((0, u16::MAX), |ports| (ports.first(), ports.last()));
    u32::from(first) | u32::from(last) << 16
}

/// Destinations of the rules whose marks name services: what clients may send to.
pub(crate) fn destinations(table: &Table) -> BTreeSet<Prefix> {
    let used: BTreeSet<u32> = table
        .services()
        .filter_map(|entry| match entry.service().key {
            ServiceKey::Fwmark { mark, family: Family::Inet } => Some(mark),
            ServiceKey::Fwmark { .. } | ServiceKey::Address { .. } => None,
        })
        .collect();
    let rules = table.marks().iter().filter(|rule| rule.family() != Some(Family::Inet6));
    let rules = rules.filter(|rule| used.contains(&rule.mark.get()));
    rules.map(|rule| rule.destination.unwrap_or(Prefix::all(Family::Inet))).collect()
}

/// Virtual addresses in prefixes; `None` if they are too many to be told apart from others.
pub(crate) fn addresses<'a>(
    prefixes: impl IntoIterator<Item = &'a Prefix>,
) -> Option<BTreeSet<Ipv4Addr>> {
    let mut addresses = BTreeSet::new();
    for prefix in prefixes {
        let IpAddr::V4(first) = prefix.address() else { continue };
        let count = u64::from(!mask(prefix.length())) + 1;
        let total = u64::try_from(addresses.len()).unwrap_or(u64::MAX);
        if total.saturating_add(count) > MOST_ADDRESSES {
            return None;
        }
        let first = u32::from(first);
        addresses.extend((first..=first | !mask(prefix.length())).map(Ipv4Addr::from));
    }
    Some(addresses)
}

#[cfg(test)]
mod tests;
