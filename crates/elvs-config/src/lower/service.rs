//! `virtual_server`: services with their destinations.
//!
//! **Invariant:** no two services that are lowered have the same key, and no service two destinations with the same key.
//!
//! Called by the lowering of the root statements.

mod settings;

use std::collections::HashMap;
use std::net::IpAddr;

use elvs_model::health::ServiceHealth;
use elvs_model::{
    DesiredService, Destination, DestinationKey, Family, ForwardingMethod, LocalAddresses,
    Protocol, Scheduler, ServiceKey, VirtualService,
};

use self::settings::Settings;
use super::local::Groups;
use super::real_server::{self, Defaults};
use super::{method, value};
use crate::capabilities::Capabilities;
use crate::diagnostic::{Code, Reporter};
use crate::keywords::Feature;
use crate::sources::Extent;
use crate::text::{one_of, quote};
use crate::tree::Item;

/// Seconds that a client keeps its real server when no time is given.
const DEFAULT_PERSISTENCE: u32 = 360;

/// Every `virtual_server` block.
pub(super) struct Services {
    services: Vec<DesiredService>,
    /// Groups of local addresses.
    groups: Groups,
    /// Where each service names its local addresses.
    local_places: HashMap<ServiceKey, Extent>,
    /// Where each service stands.
    places: HashMap<ServiceKey, Extent>,
}

/// What a `virtual_server` line names.
enum Target {
    Address(IpAddr, u16),
    Fwmark(u32),
    Group,
}

impl Services {
    pub fn new(groups: Groups) -> Self {
        Self { services: Vec::new(), groups, local_places: HashMap::new(), places: HashMap::new() }
    }

    pub fn read(&mut self, item: &Item, capabilities: &Capabilities, reporter: &mut Reporter) {
        let target = target(item, reporter);
        let settings = Settings::read(item, reporter);
        let target = match target {
            Ok(target) => target,
            Err(vip) => {
                // Its real servers are read for their own mistakes.
                let heading =
                    Heading { vip, port: 0, family: vip.map(Family::of), understood: false };
                destinations(&heading, item, &settings, capabilities, reporter);
                return;
            }
        };
        let served = served(&target, item, capabilities, reporter);
        if served {
            check_settings(&settings, capabilities, reporter);
        }
        let protocol = protocol(&target, &settings, item, reporter);
        let Some(key) = key(&target, &settings, protocol, item) else { return };
        if let Some(first) = self.places.get(&key) {
            let message = format!("virtual server {key} is defined twice");
            reporter
                .error(Code::Duplicate, item.head(), message)
                .help("join the two blocks, or change address, port or protocol of one")
                .related(*first, "first defined here");
            return;
        }
        self.places.insert(key, item.head());
        let service = service(key, &settings, capabilities, item, reporter);
        let heading = Heading::of(&service.key);
        let destinations = destinations(&heading, item, &settings, capabilities, reporter);
        if !served {
            return;
        }
        if !settings.has_real_servers {
            reporter
                .warning(
                    Code::ValueReplaced,
                    item.head(),
                    format!("virtual server {key} has no real servers and is left out"),
                )
                .help("add `real_server ADDRESS PORT { }`; keepalived leaves it out too");
            return;
        }
        let name = &settings.local_group;
        let local = self.groups.of_service(&service, &destinations, name, item, reporter);
        let local_addresses = local.map_or_else(LocalAddresses::default, |named| {
            self.local_places.insert(key, named.at);
            named.addresses
        });
        let health = ServiceHealth::default();
        self.services.push(DesiredService { service, destinations, local_addresses, health });
    }

    /// The services, and where each names its local addresses.
    pub fn finish(self) -> (Vec<DesiredService>, HashMap<ServiceKey, Extent>) {
        (self.services, self.local_places)
    }
}

/// What real servers are compared with.
struct Heading {
    /// The VIP; none of a firewall-mark service.
    vip: Option<IpAddr>,
    port: u16,
    family: Option<Family>,
    understood: bool,
}

impl Heading {
    const fn of(key: &ServiceKey) -> Self {
        let (vip, port) = match key {
            ServiceKey::Address { address, port, .. } => (Some(*address), *port),
            ServiceKey::Fwmark { .. } => (None, 0),
        };
        Self { vip, port, family: Some(key.family()), understood: true }
    }

    /// Whether services of this sort are in effect.
    fn served(&self, capabilities: &Capabilities) -> bool {
        let by_mark = self.understood && capabilities.features.contains(&Feature::Fwmark);
        self.vip.is_some() || by_mark
    }
}

/// What the line names; of one that is not understood the address, if that was.
fn target(item: &Item, reporter: &mut Reporter) -> Result<Target, Option<IpAddr>> {
    let word = item.arguments.first().ok_or(None)?;
    let second = item.arguments.get(1);
    match word.text.as_str() {
        kind @ ("group" | "fwmark") if second.is_none() => {
            let what = if kind == "group" { "NAME" } else { "MARK" };
            reporter
                .error(Code::MissingArgument, item.head(), format!("`{kind}` has no {what}"))
                .help(format!("write `virtual_server {kind} {what} {{`"));
            Err(None)
        }
        "group" => Ok(Target::Group),
        "fwmark" => second
            .and_then(|word| value::number("firewall mark", word, 1, u32::MAX, reporter))
            .map(Target::Fwmark)
            .ok_or(None),
        _ => {
            let address = value::host_address("virtual server", word, reporter);
            let port = second.map_or(Some(0), |word| value::port(word, reporter));
            match (address, port) {
                (Some(address), Some(port)) => Ok(Target::Address(address, port)),
                (address, _) => Err(address),
            }
        }
    }
}

/// Whether services of this sort are in effect; says so if not.
fn served(
    target: &Target,
    item: &Item,
    capabilities: &Capabilities,
    reporter: &mut Reporter,
) -> bool {
    let (what, help) = match target {
        Target::Address(..) => return true,
        Target::Fwmark(_) if capabilities.features.contains(&Feature::Fwmark) => return true,
        Target::Fwmark(_) => (
            "services by firewall mark",
            "packets with this mark pass untouched; write `virtual_server ADDRESS PORT` instead",
        ),
        Target::Group => (
            "services of a group",
            "their packets pass untouched; write one `virtual_server ADDRESS PORT` for each address",
        ),
    };
    let message = format!("{what} are not yet in effect: this one is left out");
    reporter.warning(Code::NotInEffect, item.head(), message).help(help);
    false
}

/// Reports what this release's data plane does not have, where ignoring it would change who gets the traffic.
fn check_settings(settings: &Settings, capabilities: &Capabilities, reporter: &mut Reporter) {
    if let Some((scheduler, at)) = settings.scheduler.0
        && !capabilities.schedulers.contains(&scheduler)
    {
        let names: Vec<_> = capabilities.schedulers.iter().map(|s| s.name()).collect();
        let message = format!("scheduler `{scheduler}` is not in effect in this release");
        reporter.error(Code::NotInEffect, at, message).help(format!("use {}", one_of(&names)));
    }
    if let Some((given, at)) = settings.method.0 {
        method::check(given, at, capabilities, reporter);
    }
    if let Some((protocol, at)) = settings.protocol.0
        && !capabilities.protocols.contains(&protocol)
    {
        let names: Vec<_> = capabilities.protocols.iter().map(|p| p.name()).collect();
        let message = format!("{} services are not in effect in this release", protocol.name());
        reporter.error(Code::NotInEffect, at, message).help(format!("use {}", one_of(&names)));
    }
}

/// The protocol, where the service has one.
fn protocol(
    target: &Target,
    settings: &Settings,
    item: &Item,
    reporter: &mut Reporter,
) -> Option<Protocol> {
    match (target, settings.protocol.0) {
        (Target::Address(..), Some((protocol, _))) => Some(protocol),
        // The file is refused already; whichever protocol lets the rest of the block be checked.
        (Target::Address(..), None) if settings.protocol_refused => Some(Protocol::Tcp),
        (Target::Address(..), None) => {
            // The kernel's and keepalived's default, though most who leave it out mean TCP.
            reporter
                .warning(Code::DefaultAssumed, item.head(), "no protocol is given: UDP is served")
                .help("write `protocol TCP` or `protocol UDP`; keepalived takes UDP too");
            Some(Protocol::Udp)
        }
        (Target::Fwmark(_), Some((_, at))) => {
            reporter
                .warning(Code::ValueReplaced, at, "`protocol` has no meaning with a firewall mark")
                .help("remove it: the mark says which packets are meant");
            None
        }
        (Target::Fwmark(_) | Target::Group, _) => None,
    }
}

fn key(
    target: &Target,
    settings: &Settings,
    protocol: Option<Protocol>,
    item: &Item,
) -> Option<ServiceKey> {
    match *target {
        Target::Address(address, port) => {
            Some(ServiceKey::Address { protocol: protocol?, address, port })
        }
        Target::Fwmark(mark) => {
            let first = || {
                let server = item.items().iter().find(|i| i.keyword.text == "real_server")?;
                let address = server.arguments.first()?.text.parse().ok()?;
                Some(Family::of(address))
            };
            let family = settings.family.get().copied().or_else(first).unwrap_or(Family::Inet);
            Some(ServiceKey::Fwmark { mark, family })
        }
        Target::Group => None,
    }
}

/// The service with what is in effect of its settings.
fn service(
    key: ServiceKey,
    settings: &Settings,
    capabilities: &Capabilities,
    item: &Item,
    reporter: &mut Reporter,
) -> VirtualService {
    if settings.scheduler.place().is_none() && !settings.scheduler_refused {
        reporter
            .warning(Code::DefaultAssumed, item.head(), "no scheduler is given: wlc is used")
            .help("write `lvs_sched rr`, `lvs_sched wrr` or `lvs_sched wlc`");
    }
    let scheduler = settings.scheduler.get().copied().unwrap_or(Scheduler::Wlc);
    let mut service = VirtualService::new(key, scheduler);
    let has = |feature| capabilities.features.contains(&feature);
    if let ServiceKey::Address { address, port, .. } = key {
        check_address(address, port, item, capabilities, reporter);
        if port == 0 && capabilities.any_port && settings.persistence.get().is_none() {
            let message = format!(
                "a service on every port is persistent: {DEFAULT_PERSISTENCE} seconds are used"
            );
            reporter
                .warning(Code::ValueReplaced, item.head(), message)
                .help("write `persistence_timeout SECONDS`, or name a port");
            service.persistence = settings::persistence(DEFAULT_PERSISTENCE);
        }
    }
    if let ServiceKey::Fwmark { family, .. } = key
        && has(Feature::Fwmark)
        && !capabilities.families.contains(&family)
    {
        let message = "firewall-mark services of IPv6 are not in effect in this release";
        reporter
            .error(Code::NotInEffect, item.head(), message)
            .help("write `ip_family inet` and give IPv4 real servers, or comment the block out");
    }
    if has(Feature::Persistence) {
        service.persistence = settings.persistence.get().copied().or(service.persistence);
        settings.apply_netmask(&mut service, reporter);
    }
    if has(Feature::PersistenceEngine) {
        service.engine = settings.engine.get().cloned();
    }
    if has(Feature::OnePacket) {
        service.one_packet = settings.one_packet(&key, reporter);
    }
    service.on_delete = settings.on_delete.get().copied().unwrap_or_default();
    if has(Feature::SchedulerFlags) {
        service.flags = settings.flags;
    }
    service
}

fn check_address(
    address: IpAddr,
    port: u16,
    item: &Item,
    capabilities: &Capabilities,
    reporter: &mut Reporter,
) {
    let at = |index: usize| item.arguments.get(index).map_or_else(|| item.head(), |w| w.extent);
    if !capabilities.families.contains(&Family::of(address)) {
        let message = "virtual servers on IPv6 are not in effect in this release";
        reporter
            .error(Code::NotInEffect, at(0), message)
            .help("give an IPv4 address, or comment the block out");
    }
    if port == 0 && !capabilities.any_port {
        let message =
            "virtual servers on every port (no port, or port 0) are not in effect in this release";
        reporter
            .error(Code::NotInEffect, at(1), message)
            .help("name a port from 1 to 65535, one virtual_server for each");
    }
}

fn destinations(
    heading: &Heading,
    item: &Item,
    settings: &Settings,
    capabilities: &Capabilities,
    reporter: &mut Reporter,
) -> Vec<Destination> {
    let served = |family| capabilities.families.contains(&family);
    let defaults = Defaults {
        vip: heading.vip,
        port: heading.port,
        understood: heading.understood,
        family: heading.family,
        family_served: heading.family.is_some_and(served) && heading.served(capabilities),
        method: default_method(item, settings, reporter),
        weight: settings.weight.get().copied().unwrap_or(1),
    };
    let mut places: HashMap<DestinationKey, Extent> = HashMap::new();
    let mut destinations = Vec::new();
    for server in item.items().iter().filter(|i| i.keyword.text == "real_server") {
        if reporter.is_full() {
            break;
        }
        let destination = real_server::destination(server, &defaults, capabilities, reporter);
        let Some(destination) = destination else { continue };
        let key = destination.key;
        if let Some(first) = places.get(&key) {
            let shown = match key.address {
                IpAddr::V4(a) => format!("{a}:{}", key.port),
                IpAddr::V6(a) => format!("[{a}]:{}", key.port),
            };
            let message = format!("real server {shown} is in this virtual server twice");
            reporter
                .error(Code::Duplicate, server.head(), message)
                .help("remove one of the two; for a larger share raise its weight")
                .related(*first, "first named here");
            continue;
        }
        places.insert(key, server.head());
        destinations.push(destination);
    }
    destinations
}

/// Method of real servers that have none of their own.
fn default_method(item: &Item, settings: &Settings, reporter: &mut Reporter) -> ForwardingMethod {
    if let Some(method) = settings.method.get() {
        return *method;
    }
    let own = |server: &Item| server.items().iter().any(|i| i.keyword.text == "lvs_method");
    let mut servers = item.items().iter().filter(|i| i.keyword.text == "real_server");
    if !settings.method_refused
        && let Some(first) = servers.find(|server| !own(server))
    {
        let name = first.arguments.first().map_or("", |w| w.text.as_str());
        let message = format!("no forwarding method is given: NAT is used for {}", quote(name));
        reporter
            .warning(Code::DefaultAssumed, item.head(), message)
            .help("write `lvs_method NAT`, `lvs_method DR`, `lvs_method TUN` or `lvs_method FNAT`");
    }
    ForwardingMethod::Nat
}
