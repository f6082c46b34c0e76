//! `real_server`: a destination of one virtual service.
//!
//! **Invariant:** a destination's address is one host's and not the VIP; DR and TUN keep the service's port.
//!
//! Called for each real server of a virtual server whose own settings could be read.

use std::net::IpAddr;

use elvs_model::{Destination, DestinationKey, Family, ForwardingMethod};

use super::{Once, method, value};
use crate::capabilities::Capabilities;
use crate::diagnostic::{Code, Reporter};
use crate::keywords::Feature;
use crate::lexer::Word;
use crate::sources::Extent;
use crate::tree::Item;

/// Largest weight: the kernel's, an `int`.
pub(super) const MAX_WEIGHT: u32 = 2_147_483_647;

/// What a virtual server gives to its real servers.
pub(super) struct Defaults {
    /// The VIP; none in a firewall-mark service.
    pub vip: Option<IpAddr>,
    /// Port of the service; 0 = every port, or a firewall mark.
    pub port: u16,
    /// Whether the service's own line was understood; if not, nothing is compared with it.
    pub understood: bool,
    /// Family of the service, where it is known.
    pub family: Option<Family>,
    /// Whether the family is in effect.
    pub family_served: bool,
    /// Method of real servers that have none of their own.
    pub method: ForwardingMethod,
    /// Weight of real servers that have none of their own.
    pub weight: u32,
}

/// Statements of the block.
#[derive(Default)]
struct Settings {
    weight: Once<u32>,
    method: Once<ForwardingMethod>,
    upper: Once<u32>,
    lower: Once<u32>,
}

impl Settings {
    fn read(item: &Item, reporter: &mut Reporter) -> Self {
        let mut settings = Self::default();
        for item in item.items() {
            let Some(word) = item.arguments.first() else { continue };
            let mut number = |what| value::number(what, word, 0, MAX_WEIGHT, reporter);
            match item.keyword.text.as_str() {
                "weight" => {
                    if let Some(n) = number("weight") {
                        settings.weight.set(item, n, reporter);
                    }
                }
                "uthreshold" => {
                    if let Some(n) = number("uthreshold") {
                        settings.upper.set(item, n, reporter);
                    }
                }
                "lthreshold" => {
                    if let Some(n) = number("lthreshold") {
                        settings.lower.set(item, n, reporter);
                    }
                }
                "lvs_method" => {
                    if let Some(method) = method::method(item, reporter) {
                        settings.method.set(item, method, reporter);
                    }
                }
                _ => {}
            }
        }
        settings
    }
}

/// The destination of a `real_server` statement, if it can be read.
pub(super) fn destination(
    item: &Item,
    defaults: &Defaults,
    capabilities: &Capabilities,
    reporter: &mut Reporter,
) -> Option<Destination> {
    let settings = Settings::read(item, reporter);
    let method = settings.method.get().copied().unwrap_or(defaults.method);
    if let Some(at) = settings.method.place() {
        method::check(method, at, capabilities, reporter);
    }
    let word = item.arguments.first()?;
    let address = value::host_address("real server", word, reporter)?;
    if matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()) {
        let message = format!("real server {address} is a link-local address");
        reporter
            .error(Code::InvalidValue, word.extent, message)
            .help("write an address that names one host whatever the interface, as IPVS asks for");
        return None;
    }
    check_family(address, word, method, defaults, capabilities, reporter);
    if defaults.vip == Some(address) {
        let message = format!("real server {address} is the VIP itself");
        reporter.error(Code::InvalidValue, word.extent, message).help(
            "write the real server's own address; with DR and TUN it also has the VIP, on lo",
        );
        return None;
    }
    let port = port(item, method, defaults, reporter)?;
    let (upper, lower) = thresholds(&settings, capabilities, reporter);
    Some(Destination {
        key: DestinationKey { address, port },
        method,
        weight: settings.weight.get().copied().unwrap_or(defaults.weight),
        upper_threshold: upper,
        lower_threshold: lower,
    })
}

/// The port: as written with NAT and FNAT; with DR and TUN the packet is not changed, so it is the service's.
fn port(
    item: &Item,
    method: ForwardingMethod,
    defaults: &Defaults,
    reporter: &mut Reporter,
) -> Option<u16> {
    let Some(word) = item.arguments.get(1) else { return Some(defaults.port) };
    let port = value::port(word, reporter)?;
    match method {
        // Without a port of its own a firewall-mark service keeps what is written, as IPVS does.
        _ if !defaults.understood || defaults.vip.is_none() => Some(port),
        _ if port == 0 || port == defaults.port => Some(defaults.port),
        ForwardingMethod::Nat | ForwardingMethod::FullNat => Some(port),
        ForwardingMethod::Dr | ForwardingMethod::Tun(_) => {
            let name = if method == ForwardingMethod::Dr { "DR" } else { "TUN" };
            let service = defaults.port;
            let message = format!("{name} cannot change the port: {service} is used, not {port}");
            reporter
                .warning(Code::ValueReplaced, word.extent, message)
                .help(format!("write {service}, or use NAT or FNAT, which map ports"));
            Some(service)
        }
    }
}

fn check_family(
    address: IpAddr,
    word: &Word,
    method: ForwardingMethod,
    defaults: &Defaults,
    capabilities: &Capabilities,
    reporter: &mut Reporter,
) {
    let family = Family::of(address);
    let name = |family| match family {
        Family::Inet => "IPv4",
        Family::Inet6 => "IPv6",
    };
    if let Some(service) = defaults.family
        && service != family
        && !matches!(method, ForwardingMethod::Tun(_))
    {
        let message = format!(
            "real server {address} is {} in a virtual server of {}",
            name(family),
            name(service)
        );
        reporter
            .error(Code::MixedFamilies, word.extent, message)
            .help("use one family for both; only TUN can carry one family inside the other");
    } else if defaults.family_served && !capabilities.families.contains(&family) {
        let message = format!("{} real servers are not in effect in this release", name(family));
        reporter
            .error(Code::NotInEffect, word.extent, message)
            .help("give the real server's IPv4 address");
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
