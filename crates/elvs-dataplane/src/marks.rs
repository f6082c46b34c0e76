//! Firewall-mark rules as packets are classified by them.
//!
//! **Invariant:** the rules keep their order; a rule of an interface that does not exist fits no packet.
//!
//! Called when a table is compiled.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use elvs_common::{MarkLine, WideAddress, WideMark};
use elvs_model::{Family, MarkRule, PortRange, Prefix, ServiceKey, Table};

use crate::compile::{Marks, wide_mask};
use crate::route::network_order;

/// Interface of a rule whose interface does not exist.
const NOWHERE: u32 = u32::MAX;
/// Addresses of prefixes that are put into the filter one by one; beyond that every address counts as virtual.
const MOST_ADDRESSES: u32 = 4_096;

/// The rules of `families` as lines of the blob, and the virtual addresses in `prefixes`; `interfaces` has indexes by name.
pub(crate) fn compile(
    table: &Table,
    families: &BTreeSet<Family>,
    prefixes: &BTreeSet<Prefix>,
    interfaces: &HashMap<String, u32>,
) -> Marks {
    let rules = |family: Family| {
        let all = table.marks().iter().filter(move |_| families.contains(&family));
        all.filter(move |rule| rule.family().is_none_or(|of| of == family))
    };
    let of = |family: Family| prefixes.iter().filter(move |prefix| prefix.family() == family);
    let narrow = addresses(of(Family::Inet));
    let wide = addresses(of(Family::Inet6));
    Marks {
        rules: rules(Family::Inet).map(|rule| line(rule, interfaces)).collect(),
        wide_rules: rules(Family::Inet6).map(|rule| wide_line(rule, interfaces)).collect(),
        every_address: narrow.is_none(),
        every_wide_address: wide.is_none(),
        addresses: narrow.into_iter().chain(wide).flatten().collect(),
    }
}

fn line(rule: &MarkRule, interfaces: &HashMap<String, u32>) -> MarkLine {
    let (source, source_mask) = words(rule.source);
    let (destination, destination_mask) = words(rule.destination);
    MarkLine {
        addresses: u64::from(source) | u64::from(destination) << 32,
        masks: u64::from(source_mask) | u64::from(destination_mask) << 32,
        ..rest(rule, interfaces)
    }
}

fn wide_line(rule: &MarkRule, interfaces: &HashMap<String, u32>) -> WideMark {
    let (client, client_mask) = wide_words(rule.source);
    let (address, address_mask) = wide_words(rule.destination);
    WideMark { client, client_mask, address, address_mask, rest: rest(rule, interfaces) }
}

/// What a rule looks at beyond the addresses.
fn rest(rule: &MarkRule, interfaces: &HashMap<String, u32>) -> MarkLine {
    let ifindex = rule.interface.as_ref().map(|name| interfaces.get(name.as_str()).copied());
    MarkLine {
        addresses: 0,
        masks: 0,
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

/// Address and mask of a prefix of IPv6.
fn wide_words(prefix: Option<Prefix>) -> ([u64; 2], [u64; 2]) {
    match prefix.map(|prefix| (prefix.address(), prefix.length())) {
        Some((IpAddr::V6(address), length)) => {
            (WideAddress::of_bytes(address.octets()).0, wide_mask(length).0)
        }
        Some((IpAddr::V4(_), _)) | None => ([0; 2], [0; 2]),
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
    let used: BTreeSet<(u32, Family)> = table
        .services()
        .filter_map(|entry| match entry.service().key {
            ServiceKey::Fwmark { mark, family } => Some((mark, family)),
            ServiceKey::Address { .. } => None,
        })
        .collect();
    let mut destinations = BTreeSet::new();
    for rule in table.marks().iter() {
        for family in [Family::Inet, Family::Inet6] {
            let fits = rule.family().is_none_or(|of| of == family);
            if fits && used.contains(&(rule.mark.get(), family)) {
                destinations.insert(rule.destination.unwrap_or_else(|| Prefix::all(family)));
            }
        }
    }
    destinations
}

/// Virtual addresses in prefixes of one family; `None` if they are too many to be told apart from others.
fn addresses<'a>(prefixes: impl IntoIterator<Item = &'a Prefix>) -> Option<BTreeSet<IpAddr>> {
    let mut addresses = BTreeSet::new();
    for prefix in prefixes {
        let width = match prefix.family() {
            Family::Inet => 32,
            Family::Inet6 => 128,
        };
        let count = 1_u32.checked_shl(width - u32::from(prefix.length()))?;
        let total = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
        if total.saturating_add(count) > MOST_ADDRESSES {
            return None;
        }
        // The first address of a prefix has zeroes where the others count.
        addresses.extend((0..count).map(|place| match prefix.address() {
            IpAddr::V4(first) => IpAddr::V4(Ipv4Addr::from(u32::from(first) | place)),
            IpAddr::V6(first) => IpAddr::V6(Ipv6Addr::from(u128::from(first) | u128::from(place))),
        }));
    }
    Some(addresses)
}

#[cfg(test)]
mod tests;
