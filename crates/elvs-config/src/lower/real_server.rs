//! `real_server`: a destination of one virtual service, and how it is watched.
//!
//! **Invariant:** a destination's address is one host's and not the VIP; DR and TUN keep the service's port.
//!
//! Called for each real server of a virtual server: once to read it, then for each service that the virtual server stands for.

use std::collections::HashSet;
use std::net::IpAddr;

use elvs_model::health::{Check, Script, ServerHealth};
use elvs_model::{Destination, DestinationKey, Family, ForwardingMethod, ServiceKey};

use super::care::{Care, Given};
use super::checks::{self, Around, Planned};
use super::shared::Shared;
use super::timing::{Level, Times, Timing};
use super::{Once, method, script, value};
use crate::capabilities::Capabilities;
use crate::diagnostic::{Code, Reporter};
use crate::keywords::Feature;
use crate::sources::Extent;
use crate::tree::Item;

/// Largest weight: the kernel's, an `int`.
pub(super) const MAX_WEIGHT: u32 = 2_147_483_647;

/// What a virtual server gives to its real servers.
pub(super) struct Defaults<'a> {
    /// Method of real servers that have none of their own.
    pub method: ForwardingMethod,
    /// Weight of real servers that have none of their own.
    pub weight: u32,
    /// Times of their checks.
    pub times: Times,
    /// `slow_start`, `flap_damping` and `passive`.
    pub care: Given,
    /// `inhibit_on_failure`.
    pub inhibit: bool,
    /// `virtualhost`.
    pub virtual_host: Option<&'a str>,
}

/// What real servers are compared with: one service of a virtual server.
pub(super) struct Heading {
    /// The VIP; none of a firewall-mark service.
    pub vip: Option<IpAddr>,
    /// Port of the service; 0 = every port, or a firewall mark.
    pub port: u16,
    /// Family of the service, where it is known.
    pub family: Option<Family>,
    /// Whether the service's own line was understood; if not, nothing is compared with it.
    pub understood: bool,
    /// Whether the family is in effect.
    pub family_served: bool,
    /// Whether the service is one of a group's.
    pub in_group: bool,
}

/// Statements of the block.
#[derive(Default)]
struct Settings {
    weight: Once<u32>,
    method: Once<ForwardingMethod>,
    upper: Once<u32>,
    lower: Once<u32>,
    inhibit: Once<bool>,
    alert: Once<bool>,
    notify_up: Once<Script>,
    notify_down: Once<Script>,
    virtual_host: Once<String>,
    timing: Timing,
    care: Care,
}

impl Settings {
    fn read(item: &Item, reporter: &mut Reporter) -> Self {
        let mut settings = Self::default();
        for item in item.items() {
            settings.timing.read(item, Level::Server, reporter);
            settings.care.read(item, reporter);
            settings.statement(item, reporter);
        }
        settings
    }

    fn statement(&mut self, item: &Item, reporter: &mut Reporter) {
        let keyword = item.keyword.text.as_str();
        match (keyword, item.arguments.first()) {
            ("weight" | "uthreshold" | "lthreshold", Some(word)) => {
                let set = match keyword {
                    "weight" => &mut self.weight,
                    "uthreshold" => &mut self.upper,
                    _ => &mut self.lower,
                };
                if let Some(number) = value::number(keyword, word, 0, MAX_WEIGHT, reporter) {
                    set.set(item, number, reporter);
                }
            }
            ("lvs_method", Some(_)) => {
                if let Some(method) = method::method(item, reporter) {
                    self.method.set(item, method, reporter);
                }
            }
            ("inhibit_on_failure" | "smtp_alert", _) => {
                let Some(on) = value::switch(item, reporter) else { return };
                let alert = keyword == "smtp_alert";
                let set = if alert { &mut self.alert } else { &mut self.inhibit };
                set.set(item, on, reporter);
            }
            ("notify_up" | "notify_down", Some(_)) => {
                let Some(script) = script::with_user(item, reporter) else { return };
                let up = keyword == "notify_up";
                let set = if up { &mut self.notify_up } else { &mut self.notify_down };
                set.keep(item, script, reporter);
            }
            ("virtualhost", Some(word)) => {
                if let Some(name) = checks::host_name(word, reporter) {
                    self.virtual_host.set(item, name, reporter);
                }
            }
            _ => {}
        }
    }
}

/// A `real_server` block, as far as it says the same whatever the service.
pub(super) struct RealServer {
    /// Its line.
    pub at: Extent,
    /// Where its address stands.
    address_at: Extent,
    address: IpAddr,
    port: Option<(u16, Extent)>,
    /// How packets reach it.
    pub method: ForwardingMethod,
    /// Its weight.
    pub weight: u32,
    upper: u32,
    lower: u32,
    /// `inhibit_on_failure`.
    pub inhibit: bool,
    /// Where alerts are asked for.
    pub alert_at: Option<Extent>,
    mail: bool,
    notify_up: Option<Script>,
    notify_down: Option<Script>,
    /// `slow_start`, `flap_damping` and `passive`.
    pub care: Given,
    /// Its checks.
    pub checks: Vec<Planned>,
}

/// Reads a `real_server` statement, if it can be read.
pub(super) fn read(
    item: &Item,
    defaults: &Defaults<'_>,
    shared: &Shared<'_>,
    reporter: &mut Reporter,
) -> Option<RealServer> {
    let settings = Settings::read(item, reporter);
    let method = settings.method.get().copied().unwrap_or(defaults.method);
    if let Some(at) = settings.method.place() {
        method::check(method, at, shared.capabilities, reporter);
    }
    let (upper, lower) = thresholds(&settings, shared.capabilities, reporter);
    let word = item.arguments.first()?;
    let address = value::host_address("real server", word, reporter)?;
    if matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()) {
        let message = format!("real server {address} is a link-local address");
        reporter
            .error(Code::InvalidValue, word.extent, message)
            .help("write an address that names one host whatever the interface, as IPVS asks for");
        return None;
    }
    let port = match item.arguments.get(1) {
        Some(word) => Some((value::port(word, reporter)?, word.extent)),
        None => None,
    };
    let around = Around {
        address,
        port: port.map_or(0, |(port, _)| port),
        times: settings.timing.over(&defaults.times),
        virtual_host: settings.virtual_host.get().map(String::as_str).or(defaults.virtual_host),
    };
    let alert = settings.alert.get().copied();
    Some(RealServer {
        at: item.head(),
        address_at: word.extent,
        address,
        port,
        method,
        weight: settings.weight.get().copied().unwrap_or(defaults.weight),
        upper,
        lower,
        inhibit: settings.inhibit.get().copied().unwrap_or(defaults.inhibit),
        alert_at: settings.alert.place().filter(|_| alert == Some(true)),
        mail: shared.global.mails(alert, true),
        notify_up: settings.notify_up.get().cloned(),
        notify_down: settings.notify_down.get().cloned(),
        care: settings.care.over(&defaults.care),
        checks: checks::read(item, &around, shared, reporter),
    })
}

impl RealServer {
    /// The destination in one service, if it fits.
    pub fn destination(
        &self,
        heading: &Heading,
        capabilities: &Capabilities,
        reporter: &mut Reporter,
    ) -> Option<Destination> {
        let server = Server {
            what: "real server",
            address: self.address,
            at: self.address_at,
            port: self.port,
            method: self.method,
        };
        Some(Destination {
            key: server.key(heading, capabilities, reporter)?,
            method: self.method,
            weight: self.weight,
            upper_threshold: self.upper,
            lower_threshold: self.lower,
        })
    }

    /// Its address.
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// Whether it is written with this address and port.
    pub fn is_at(&self, address: IpAddr, port: Option<u16>) -> bool {
        self.address == address && self.port.map(|(port, _)| port) == port
    }

    /// How the destination of a service is watched.
    pub fn health(
        &self,
        service: &ServiceKey,
        destination: &Destination,
        reporter: &mut Reporter,
    ) -> ServerHealth {
        let mut checks: Vec<Check> = Vec::new();
        let mut seen = HashSet::new();
        for planned in &self.checks {
            let Some(check) = planned.resolve(service, destination, reporter) else { continue };
            if !seen.insert(check.clone()) {
                let message = format!("this {} is in the real server already", check.kind.name());
                reporter
                    .warning(Code::Duplicate, planned.place(), message)
                    .help("remove one of the two; one is run");
                continue;
            }
            checks.push(check);
        }
        ServerHealth {
            key: destination.key,
            checks,
            inhibit_on_failure: self.inhibit,
            notify_up: self.notify_up.clone(),
            notify_down: self.notify_down.clone(),
            mail: self.mail,
            slow_start: self.care.slow_start,
            passive: self.care.passive,
            damping: self.care.damping,
        }
    }
}

/// A real or sorry server as it is written.
pub(super) struct Server {
    pub what: &'static str,
    pub address: IpAddr,
    pub at: Extent,
    pub port: Option<(u16, Extent)>,
    pub method: ForwardingMethod,
}

impl Server {
    /// What names it in a service, if it fits.
    pub fn key(
        &self,
        heading: &Heading,
        capabilities: &Capabilities,
        reporter: &mut Reporter,
    ) -> Option<DestinationKey> {
        let Self { what, address, .. } = *self;
        self.check_family(heading, capabilities, reporter);
        if heading.vip == Some(address) && heading.in_group {
            let message = format!(
                "{what} {address} is an address of the group: the service there goes without it"
            );
            reporter
                .warning(Code::Doubtful, self.at, message)
                .help("take the address out of the group, or write the server's own address");
            return None;
        }
        if heading.vip == Some(address) {
            let message = format!("{what} {address} is the VIP itself");
            reporter.error(Code::InvalidValue, self.at, message).help(
                "write the real server's own address; with DR and TUN it also has the VIP, on lo",
            );
            return None;
        }
        Some(DestinationKey { address, port: self.port(heading, reporter) })
    }

    /// The port: as written with NAT and FNAT; with DR and TUN the packet is not changed, so it is the service's.
    fn port(&self, heading: &Heading, reporter: &mut Reporter) -> u16 {
        let Some((port, at)) = self.port else { return heading.port };
        match self.method {
            _ if !heading.understood => port,
            // A firewall mark has no port: each packet keeps its own, unless NAT is told another one.
            ForwardingMethod::Dr | ForwardingMethod::Tun(_) if heading.vip.is_none() => {
                if port != 0 && !heading.in_group {
                    let name = self.method_name();
                    let message = format!(
                        "{name} by firewall mark cannot change the port: {port} is ignored"
                    );
                    reporter
                        .warning(Code::ValueReplaced, at, message)
                        .help("leave it out, or write 0; checks go to it all the same");
                }
                0
            }
            _ if port == 0 || port == heading.port => heading.port,
            ForwardingMethod::Nat | ForwardingMethod::FullNat => port,
            ForwardingMethod::Dr | ForwardingMethod::Tun(_) => {
                let name = self.method_name();
                let service = heading.port;
                let message =
                    format!("{name} cannot change the port: {service} is used, not {port}");
                reporter
                    .warning(Code::ValueReplaced, at, message)
                    .help(format!("write {service}, or use NAT or FNAT, which map ports"));
                service
            }
        }
    }

    const fn method_name(&self) -> &'static str {
        if matches!(self.method, ForwardingMethod::Dr) { "DR" } else { "TUN" }
    }

    fn check_family(
        &self,
        heading: &Heading,
        capabilities: &Capabilities,
        reporter: &mut Reporter,
    ) {
        let Self { what, address, .. } = *self;
        let family = Family::of(address);
        let name = |family| match family {
            Family::Inet => "IPv4",
            Family::Inet6 => "IPv6",
        };
        if let Some(service) = heading.family
            && service != family
            && !matches!(self.method, ForwardingMethod::Tun(_))
        {
            let message = format!(
                "{what} {address} is {} in a virtual server of {}",
                name(family),
                name(service)
            );
            reporter
                .error(Code::MixedFamilies, self.at, message)
                .help("use one family for both; only TUN can carry one family inside the other");
        } else if heading.family_served && !capabilities.families.contains(&family) {
            let message = format!("{} {what}s are not in effect in this release", name(family));
            reporter
                .error(Code::NotInEffect, self.at, message)
                .help(format!("give the {what}'s IPv4 address"));
        }
    }
}

/// Thresholds that are in effect.
fn thresholds(
    settings: &Settings,
    capabilities: &Capabilities,
    reporter: &mut Reporter,
) -> (u32, u32) {
    let upper = settings.upper.get().copied().unwrap_or(0);
    let lower = settings.lower.get().copied().unwrap_or(0);
    if let Some(at) = settings.lower.place().filter(|_| lower > upper) {
        report_thresholds(lower, upper, at, reporter);
    }
    if capabilities.features.contains(&Feature::Thresholds) { (upper, lower) } else { (0, 0) }
}

fn report_thresholds(lower: u32, upper: u32, at: Extent, reporter: &mut Reporter) {
    let message = format!("lthreshold {lower} exceeds uthreshold {upper}");
    let help = "lthreshold is where an overloaded real server takes connections again";
    reporter.error(Code::OutOfRange, at, message).help(help);
}
