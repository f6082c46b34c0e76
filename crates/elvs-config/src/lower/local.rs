//! `local_address_group`: the director's own addresses, by which full NAT reaches real servers.
//!
//! **Invariant:** a group that is lowered has at least one address, each one host's and each once; those of a service are of its
//! family and are nobody's virtual address.
//!
//! Called by the lowering of the root statements and of virtual servers.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use elvs_model::{
    DesiredService, Destination, Family, ForwardingMethod, LocalAddresses, LocalRange, Protocol,
    ServiceKey, VirtualService,
};

use super::{Once, defined_twice};
use crate::diagnostic::{Code, Reporter};
use crate::lexer::Word;
use crate::sources::Extent;
use crate::text::{nearest, quote};
use crate::tree::Item;

/// One group; without addresses if they could not be read.
struct Group {
    addresses: LocalAddresses,
    at: Extent,
}

/// Every `local_address_group` block.
#[derive(Default)]
pub(super) struct Groups {
    groups: HashMap<String, Group>,
}

/// A service's local addresses and where it names them.
pub(super) struct Named {
    pub addresses: LocalAddresses,
    pub at: Extent,
}

impl Groups {
    pub fn read(items: &[Item], reporter: &mut Reporter) -> Self {
        let mut groups = Self::default();
        for item in items.iter().filter(|item| item.keyword.text == "local_address_group") {
            if reporter.is_full() {
                break;
            }
            groups.group(item, reporter);
        }
        groups
    }

    fn group(&mut self, item: &Item, reporter: &mut Reporter) {
        let mut refused = false;
        let mut addresses = LocalAddresses::default();
        for line in item.items() {
            refused |= line_of_group(line, &mut addresses, reporter).is_none();
        }
        let Some(name) = item.arguments.first() else { return };
        if item.block.is_some() && item.items().is_empty() {
            let message = format!("local address group {} has no address", quote(&name.text));
            reporter.error(Code::MissingArgument, item.head(), message).help(
                "write one address, range (A-B) or prefix (A/length) a line between the braces",
            );
        }
        let at = item.head();
        if let Some(first) = self.groups.get(&name.text) {
            let cure = "join the two blocks, or rename one";
            defined_twice("local address group", name, cure, [first.at, at], reporter);
            return;
        }
        let addresses = if refused { LocalAddresses::default() } else { addresses };
        self.groups.insert(name.text.clone(), Group { addresses, at });
    }

    /// The local addresses of a virtual server; none of one that is not by full NAT.
    pub fn of_service(
        &self,
        service: &VirtualService,
        destinations: &[Destination],
        name: &Once<Word>,
        item: &Item,
        reporter: &mut Reporter,
    ) -> Option<Named> {
        if !destinations.iter().any(is_full_nat) {
            if let Some((_, at)) = &name.0
                && !destinations.is_empty()
            {
                reporter
                    .warning(
                        Code::NoEffect,
                        *at,
                        "local addresses are for FNAT, and no real server here is by it",
                    )
                    .help("write `lvs_method FNAT`, or remove the line");
            }
            return None;
        }
        check_service(service, destinations, item, reporter);
        let Some(word) = name.get() else {
            reporter
                .error(Code::MissingArgument, item.head(), "FNAT needs local addresses, and this virtual server has none")
                .help("write `laddr_group_name NAME`, and `local_address_group NAME { ADDRESS }` outside of every block");
            return None;
        };
        let Some(group) = self.groups.get(&word.text) else {
            let message = format!("there is no local address group {}", quote(&word.text));
            let help = match nearest(&word.text, self.groups.keys().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => {
                    "write `local_address_group NAME { ADDRESS }` outside of every block".to_owned()
                }
            };
            reporter.error(Code::UnknownName, word.extent, message).help(help);
            return None;
        };
        let family = service.key.family();
        let foreign = |address: &IpAddr| Family::of(*address) != family;
        if let Some(address) = group.addresses.iter().find(foreign) {
            let message = format!(
                "local address {address} is not of the virtual server's family; real servers answer to it"
            );
            reporter
                .error(Code::MixedFamilies, word.extent, message)
                .help("make a group for each address family")
                .related(group.at, "the group");
            return None;
        }
        Some(Named { addresses: group.addresses.clone(), at: word.extent })
    }
}

/// Adds the addresses of a line of a group; none if it is refused.
fn line_of_group(
    line: &Item,
    addresses: &mut LocalAddresses,
    reporter: &mut Reporter,
) -> Option<()> {
    let word = &line.keyword;
    if let Some(extra) = line.arguments.first() {
        let message = format!("{} after a local address has no meaning", quote(&extra.text));
        reporter.error(Code::ExtraArgument, extra.extent, message).help(
            "write addresses alone: ELVS finds the interface by its routes, where DPVS asks for it",
        );
        return None;
    }
    let range = match word.text.parse::<LocalRange>() {
        Ok(range) => range,
        Err(error) => {
            reporter
                .error(Code::InvalidValue, word.extent, error.to_string())
                .help("write one address, range (A-B) or prefix (A/length) a line");
            return None;
        }
    };
    for address in range.addresses() {
        if let Some(wrong) = unfit(address) {
            let message = format!("local address {address} is {wrong}");
            reporter
                .error(Code::InvalidValue, word.extent, message)
                .help("write addresses that the director has and real servers can answer to");
            return None;
        }
        if !addresses.insert(address) {
            let message = format!("local address {address} is in this group twice");
            reporter.warning(Code::Duplicate, word.extent, message).help("remove one of the two");
            return Some(());
        }
    }
    Some(())
}

/// What keeps an address from being a local one.
const fn unfit(address: IpAddr) -> Option<&'static str> {
    if address.is_unspecified() {
        return Some("the unspecified address");
    }
    if address.is_multicast() {
        return Some("a multicast address");
    }
    if address.is_loopback() {
        return Some("a loopback address");
    }
    match address {
        IpAddr::V4(v4) if v4.is_broadcast() => Some("the broadcast address"),
        IpAddr::V4(v4) if v4.is_link_local() => Some("a link-local address"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("a link-local address"),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            Some("an IPv4 address in IPv6 form, which is in no packet")
        }
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

const fn is_full_nat(destination: &Destination) -> bool {
    matches!(destination.method, ForwardingMethod::FullNat)
}

/// Whether a virtual server can be by full NAT.
fn check_service(
    service: &VirtualService,
    destinations: &[Destination],
    item: &Item,
    reporter: &mut Reporter,
) {
    let what = match service.key {
        ServiceKey::Fwmark { .. } => Some("services by firewall mark"),
        ServiceKey::Address { protocol: Protocol::Sctp, .. } => Some("SCTP"),
        ServiceKey::Address { .. } if service.one_packet => Some("one-packet scheduling (`ops`)"),
        ServiceKey::Address { .. } => None,
    };
    if let Some(what) = what {
        reporter
            .error(Code::NotInEffect, item.head(), format!("FNAT is not for {what}"))
            .help("use NAT, DR or TUN here, or a TCP or UDP service by address");
    }
    if let Some(other) = destinations.iter().find(|destination| !is_full_nat(destination)) {
        let message = format!(
            "FNAT cannot be mixed with another method in one virtual server: {} is by {}",
            other.key.address,
            method_name(other.method)
        );
        reporter
            .error(Code::InvalidValue, item.head(), message)
            .help("give all its real servers FNAT, or none");
    }
}

const fn method_name(method: ForwardingMethod) -> &'static str {
    match method {
        ForwardingMethod::Nat => "NAT",
        ForwardingMethod::Dr => "DR",
        ForwardingMethod::Tun(_) => "TUN",
        ForwardingMethod::FullNat => "FNAT",
    }
}

/// Compares the local addresses of all services, named where `places` say, with the virtual ones and with the room for them.
pub(super) fn compare(
    services: &[DesiredService],
    places: &HashMap<ServiceKey, Extent>,
    room: &Once<u32>,
    reporter: &mut Reporter,
) {
    let virtual_ones: HashMap<IpAddr, ServiceKey> = services
        .iter()
        .filter_map(|desired| match desired.service.key {
            key @ ServiceKey::Address { address, .. } => Some((address, key)),
            ServiceKey::Fwmark { .. } => None,
        })
        .collect();
    let mut all = HashSet::new();
    let mut last = None;
    for desired in services.iter().filter(|desired| !desired.local_addresses.is_empty()) {
        let Some(at) = places.get(&desired.service.key) else { continue };
        last = Some(*at);
        all.extend(desired.local_addresses.iter());
        let taken = desired.local_addresses.iter();
        let taken = taken.filter_map(|address| Some((address, virtual_ones.get(&address)?)));
        for (address, key) in taken.take(1) {
            let message = format!("local address {address} is the virtual address of {key}");
            reporter
                .error(Code::InvalidValue, *at, message)
                .help("give FNAT an address of its own");
        }
    }
    let count = u32::try_from(all.len()).unwrap_or(u32::MAX);
    if let Some((given, at)) = room.0
        && given < count
    {
        let message =
            format!("room for {given} local addresses, and the configuration has {count}");
        reporter
            .error(Code::OutOfRange, at, message)
            .help(format!("write `local_addresses {count}` or more: each takes 1 MiB"));
    } else if let Some(at) = last
        && count > LocalRange::MOST
    {
        let limit = LocalRange::MOST;
        reporter
            .error(
                Code::OutOfRange,
                at,
                format!("{count} local addresses: there is room for {limit}"),
            )
            .help("each takes 1 MiB and has 64512 ports: give fewer");
    }
}

#[cfg(test)]
mod tests;
