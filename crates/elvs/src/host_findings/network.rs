//! Routes, addresses and interfaces.
//!
//! **Invariant:** a finding names an address or an interface of the configuration.
//!
//! Part of [`super`].

use std::net::IpAddr;
use std::slice;

use elvs_model::health::{CheckKind, Target};
use elvs_model::{Desired, DesiredService, Destination, ForwardingMethod, ServiceKey};

use super::facts::{Facts, Way};
use super::{Findings, Kind, Place, checks};

/// Says what of the network is not there.
pub(super) fn judge(desired: &Desired, facts: &Facts, findings: &mut Findings) {
    for (service, what, destination) in destinations(desired) {
        let address = destination.key.address;
        let place = Place::Service(&service.service.key);
        match facts.ways.get(&address) {
            Some(Way::None(reason)) => {
                let text = format!("{what} {address} cannot be reached: {reason}");
                findings.add(Kind::Unreachable, text, &place);
            }
            Some(Way::Gateway(gateway)) if destination.method == ForwardingMethod::Dr => {
                let text = format!(
                    "{what} {address} is behind gateway {gateway}: direct routing needs it on a network of this host; use TUN or FNAT"
                );
                findings.add(Kind::BehindGateway, text, &place);
            }
            Some(Way::Gateway(_) | Way::Direct | Way::Here) | None => {}
        }
    }
    for (address, use_of, place) in wanted(desired) {
        if !facts.own.contains(&address) {
            findings.add(Kind::Address, use_of.words(address), &place);
        }
    }
    for (name, place) in interfaces(desired) {
        if !facts.interfaces.contains(name) {
            findings.add(Kind::Interface, format!("interface {name} does not exist"), &place);
        }
    }
}

/// Every real server and sorry server, with its service and what it is.
pub(super) fn destinations(
    desired: &Desired,
) -> impl Iterator<Item = (&DesiredService, &'static str, &Destination)> {
    desired.services.iter().flat_map(|service| {
        let sorry = service.health.sorry_server.as_ref().map(|sorry| &sorry.destination);
        let servers = service.destinations.iter().map(|destination| ("real server", destination));
        let all = servers.chain(sorry.map(|destination| ("sorry server", destination)));
        all.map(move |(what, destination)| (service, what, destination))
    })
}

/// Addresses that this host should have, and what for.
pub(super) fn wanted(desired: &Desired) -> impl Iterator<Item = (IpAddr, Use, Place<'_>)> {
    let services = desired.services.iter();
    let virtual_addresses = services.clone().filter_map(|service| match &service.service.key {
        key @ ServiceKey::Address { address, .. } => {
            Some((*address, Use::Virtual, Place::Service(key)))
        }
        ServiceKey::Fwmark { .. } => None,
    });
    let locals = services.flat_map(|service| {
        let place = Place::Service(&service.service.key);
        service.local_addresses.iter().map(move |address| (address, Use::Local, place))
    });
    let sources = targets(desired, "bindto")
        .filter_map(|(target, place)| Some((target.source?, Use::Source, place)));
    let sessions = desired.health.bfd.iter();
    let sessions = sessions
        .filter_map(|session| Some((session.source?, Use::Source, Place::Bfd(&session.name))));
    virtual_addresses.chain(locals).chain(sources).chain(sessions)
}

/// Interfaces that are named.
fn interfaces(desired: &Desired) -> impl Iterator<Item = (&str, Place<'_>)> {
    let data_plane = desired.data_plane.interfaces.iter();
    let data_plane = data_plane.map(|name| (name.as_str(), Place::Setting("data_plane")));
    let marks = desired
        .marks
        .iter()
        .filter_map(|rule| Some((rule.interface.as_ref()?.as_str(), Place::Mark(rule))));
    let checks = targets(desired, "bind_if")
        .filter_map(|(target, place)| Some((target.interface.as_deref()?, place)));
    data_plane.chain(marks).chain(checks)
}

/// Where checks connect to, and the place of a keyword there.
fn targets<'a>(
    desired: &'a Desired,
    keyword: &'static str,
) -> impl Iterator<Item = (&'a Target, Place<'a>)> {
    checks(desired).flat_map(move |(service, server, kind)| {
        let targets = match kind {
            CheckKind::Tcp(check) => slice::from_ref(&check.target),
            CheckKind::Http(check) => slice::from_ref(&check.target),
            CheckKind::Smtp(check) => &check.targets,
            CheckKind::Dns(check) => slice::from_ref(&check.target),
            CheckKind::Ping(check) => slice::from_ref(&check.target),
            CheckKind::Udp(check) => slice::from_ref(&check.target),
            CheckKind::Agent(check) => slice::from_ref(&check.target),
            CheckKind::Misc(_) | CheckKind::File(_) | CheckKind::Bfd(_) | CheckKind::Path(_) => &[],
        };
        let key = &service.service.key;
        let place = Place::InCheck(keyword, kind.name(), server.key.address, key);
        targets.iter().map(move |target| (target, place))
    })
}

/// What an address of this host is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Clients send to it.
    Virtual,
    /// Real servers answer to it.
    Local,
    /// Checks are sent from it.
    Source,
}

impl Use {
    fn words(self, address: IpAddr) -> String {
        let length = if address.is_ipv4() { 32 } else { 128 };
        let cure = format!("`ip address add {address}/{length} dev INTERFACE`");
        match self {
            Self::Virtual => format!(
                "virtual address {address} is on no interface of this host, and `vrrp_instance` does not put it there yet: {cure}"
            ),
            Self::Local => format!(
                "local address {address} is on no interface of this host, so real servers' replies do not come here: {cure}"
            ),
            Self::Source => format!(
                "address {address}, which checks are sent from, is on no interface of this host"
            ),
        }
    }
}
