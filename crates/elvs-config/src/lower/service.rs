//! `virtual_server`: services with their destinations.
//!
//! **Invariant:** no two services that are lowered have the same key, and no service two destinations with the same key; there are
//! no more services than the data plane has room for.
//!
//! Called by the lowering of the root statements.

mod build;
mod health;
mod room;
mod servers;
mod settings;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use elvs_model::health::{ServerHealth, ServiceGroup, ServiceHealth};
use elvs_model::{DesiredService, Family, LocalAddresses, Protocol, ServiceKey};

use self::health::Plan;
use self::room::Room;
use self::servers::{destinations, servers};
use self::settings::Settings;
use super::group::{self, Entry};
use super::real_server::{Heading, RealServer};
use super::shared::Shared;
use super::tally::Tally;
use super::{MAX_SERVICES, value};
use crate::capabilities::Capabilities;
use crate::diagnostic::{Code, Reporter};
use crate::keywords::Feature;
use crate::lexer::Word;
use crate::sources::Extent;
use crate::text::quote;
use crate::tree::Item;

/// Seconds that a client keeps its real server when no time is given.
const DEFAULT_PERSISTENCE: u32 = 360;

/// Every `virtual_server` block.
#[derive(Default)]
pub(super) struct Services {
    services: Vec<DesiredService>,
    /// Where each service names its local addresses.
    local_places: HashMap<ServiceKey, Extent>,
    /// Where each service stands.
    places: HashMap<ServiceKey, Extent>,
    /// Checks that take longer than the time between them.
    slow: Tally,
    /// Alerts that are asked for.
    alerts: Tally,
    room: Room,
}

/// What lowering gave.
pub(super) struct Lowered {
    pub services: Vec<DesiredService>,
    /// Where each service names its local addresses.
    pub local_places: HashMap<ServiceKey, Extent>,
    /// Where each service stands.
    pub places: HashMap<ServiceKey, Extent>,
    /// Where alerts are asked for first.
    pub alert_at: Option<Extent>,
}

/// What a `virtual_server` line names.
enum Target {
    Address(IpAddr, u16),
    Fwmark(u32),
    /// Name of a group.
    Group(Word),
}

/// A `virtual_server` block, as far as it says the same for each of its services.
struct Block<'a> {
    item: &'a Item,
    settings: &'a Settings,
    servers: Vec<RealServer>,
    plan: Plan,
    group: Option<ServiceGroup>,
    /// One of its services is on every port.
    any_port: bool,
}

/// One service with where it names its local addresses.
struct Built {
    desired: DesiredService,
    local_at: Option<Extent>,
}

impl Services {
    pub fn read(&mut self, item: &Item, shared: &Shared<'_>, reporter: &mut Reporter) {
        let target = target(item, reporter);
        let settings = Settings::read(item, reporter);
        let servers = servers(item, &settings, shared, reporter);
        self.count(&settings, &servers);
        let plan = settings.health.plan(&settings, &servers, shared, reporter);
        let target = match target {
            Ok(target) => target,
            Err(vip) => {
                // Its real servers are compared with each other for their own mistakes.
                let (port, family, family_served) = (0, vip.map(Family::of), false);
                let heading = Heading {
                    vip,
                    port,
                    family,
                    understood: false,
                    family_served,
                    in_group: false,
                };
                destinations(&servers, &heading, shared.capabilities, reporter);
                return;
            }
        };
        let served = served(&target, item, shared.capabilities, reporter);
        if served {
            build::check_settings(&settings, shared.capabilities, reporter);
        }
        let Some(entries) = entries(&target, item, shared, reporter) else { return };
        let mut block =
            Block { item, settings: &settings, servers, plan, group: None, any_port: false };
        let keys = block.keys(&target, &entries, shared.capabilities, reporter);
        build::check_defaults(&settings, block.any_port, shared.capabilities, item, reporter);
        if served && !settings.has_real_servers {
            let shown = match (&target, keys.first()) {
                (Target::Group(name), _) => format!("group {}", quote(&name.text)),
                (_, Some((key, _))) => key.to_string(),
                (_, None) => return,
            };
            let message = format!("virtual server {shown} has no real servers and is left out");
            reporter
                .warning(Code::ValueReplaced, item.head(), message)
                .help("add `real_server ADDRESS PORT { }`; keepalived leaves it out too");
            return;
        }
        build::check_care(&keys, &settings, &block.servers, reporter);
        self.add(&block, &keys, served, shared, reporter);
    }

    /// Counts what is said once for the whole file.
    fn count(&mut self, settings: &Settings, servers: &[RealServer]) {
        self.alerts.count(settings.health.alert_at());
        for server in servers {
            self.alerts.count(server.alert_at);
            for check in &server.checks {
                if let Some((whole, interval)) = check.slower_than_interval() {
                    self.slow.count_with(check.place(), || {
                        let (whole, interval) =
                            (value::show_seconds(whole), value::show_seconds(interval));
                        format!(
                            "a server that does not answer is found down after {whole} s, while `delay_loop` is {interval} s"
                        )
                    });
                }
            }
        }
    }

    /// Adds the services of a block. What is true of them all is said of the first on each port.
    fn add(
        &mut self,
        block: &Block<'_>,
        keys: &[(ServiceKey, Extent)],
        served: bool,
        shared: &Shared<'_>,
        reporter: &mut Reporter,
    ) {
        if !self.room.take(block.item, keys.len(), block.servers.len(), reporter) {
            return;
        }
        let mut ports = HashSet::new();
        let mut fresh = Vec::new();
        for (key, at) in keys {
            if reporter.is_full() {
                break;
            }
            if let Some(first) = self.places.get(key) {
                twice(*key, *at, *first, reporter);
                break;
            }
            self.places.insert(*key, block.item.head());
            let port = match key {
                ServiceKey::Address { port, .. } => Some(*port),
                ServiceKey::Fwmark { .. } => None,
            };
            let named = |server: &RealServer| {
                heading(key, shared.capabilities).vip == Some(server.address())
            };
            let built = if ports.insert(port) || block.servers.iter().any(named) {
                block.build(*key, shared, reporter)
            } else {
                let mut quiet = Reporter::default();
                let built = block.build(*key, shared, &mut quiet);
                if quiet.has_errors() {
                    block.build(*key, shared, reporter);
                    break;
                }
                built
            };
            fresh.push(built);
        }
        if !served {
            return;
        }
        for Built { desired, local_at } in fresh {
            let key = desired.service.key;
            self.local_places.extend(local_at.map(|at| (key, at)));
            self.services.push(desired);
        }
    }

    /// The services; what was counted is said.
    pub fn finish(self, reporter: &mut Reporter) -> Lowered {
        self.slow.note(
            reporter,
            "checks",
            "raise `delay_loop`, or lower `connect_timeout`, `retry` or `delay_before_retry`, if it shall be found sooner",
        );
        Lowered {
            services: self.services,
            local_places: self.local_places,
            places: self.places,
            alert_at: self.alerts.first(),
        }
    }
}

fn twice(key: ServiceKey, at: Extent, first: Extent, reporter: &mut Reporter) {
    reporter
        .error(Code::Duplicate, at, format!("virtual server {key} is defined twice"))
        .help("join the two blocks, or change address, port or protocol of one")
        .related(first, "first defined here");
}

impl Block<'_> {
    /// Keys of the services, each with where it stands.
    fn keys(
        &mut self,
        target: &Target,
        entries: &[(Entry, Extent)],
        capabilities: &Capabilities,
        reporter: &mut Reporter,
    ) -> Vec<(ServiceKey, Extent)> {
        let is_mark = |entry: &Entry| matches!(entry, Entry::Mark(..));
        let marks = entries.iter().all(|(entry, _)| is_mark(entry));
        let protocol = build::protocol(marks, self.settings, self.item, reporter);
        self.any_port = entries.iter().any(|(e, _)| matches!(e, Entry::Addresses { port: 0, .. }));
        if let Target::Group(name) = target {
            self.group = Some(ServiceGroup { name: name.text.clone(), protocol });
        }
        self.plan.check_suspend(entries.iter().any(|(entry, _)| is_mark(entry)), reporter);
        let with_marks = capabilities.features.contains(&Feature::Fwmark);
        let mut keys = Vec::new();
        for (entry, at) in entries {
            // In a group the place is the group's line, which says which of them is meant.
            match *entry {
                Entry::Addresses { first, last, port } => {
                    let protocol = protocol.unwrap_or(Protocol::Udp);
                    let left = (MAX_SERVICES + 1).saturating_sub(keys.len());
                    keys.extend(
                        group::addresses(first, last)
                            .take(left)
                            .map(|address| (ServiceKey::Address { protocol, address, port }, *at)),
                    );
                }
                Entry::Mark(mark, family) => {
                    let written = || build::family_of_marks(self.settings, self.item);
                    let family = family.unwrap_or_else(written);
                    if with_marks || !matches!(target, Target::Group(..)) {
                        keys.push((ServiceKey::Fwmark { mark, family }, *at));
                    } else {
                        not_by_mark(*at, reporter);
                    }
                }
            }
        }
        keys
    }

    fn build(&self, key: ServiceKey, shared: &Shared<'_>, reporter: &mut Reporter) -> Built {
        let capabilities = shared.capabilities;
        let service =
            build::service(key, self.settings, self.any_port, capabilities, self.item, reporter);
        let heading = Heading { in_group: self.group.is_some(), ..heading(&key, capabilities) };
        let mut destinations_of = Vec::new();
        let mut watched: Vec<ServerHealth> = Vec::new();
        for (server, destination) in destinations(&self.servers, &heading, capabilities, reporter) {
            watched.push(server.health(&key, &destination, reporter));
            destinations_of.push(destination);
        }
        let destinations = destinations_of;
        let health = ServiceHealth {
            group: self.group.clone(),
            servers: watched,
            ..self.plan.finish(&heading, capabilities, reporter)
        };
        let name = &self.settings.local_group;
        let local = shared.local.of_service(&service, &destinations, name, self.item, reporter);
        let (local_addresses, local_at) = match local {
            Some(named) => (named.addresses, Some(named.at)),
            None => (LocalAddresses::default(), None),
        };
        let desired = DesiredService { service, destinations, local_addresses, health };
        Built { desired, local_at }
    }
}

const fn heading_of(key: &ServiceKey) -> (Option<IpAddr>, u16) {
    match key {
        ServiceKey::Address { address, port, .. } => (Some(*address), *port),
        ServiceKey::Fwmark { .. } => (None, 0),
    }
}

fn heading(key: &ServiceKey, capabilities: &Capabilities) -> Heading {
    let (vip, port) = heading_of(key);
    let family = key.family();
    let kind_served = vip.is_some() || capabilities.features.contains(&Feature::Fwmark);
    let family_served = kind_served && capabilities.families.contains(&family);
    Heading { vip, port, family: Some(family), understood: true, family_served, in_group: false }
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
        "group" => second.map(|word| Target::Group(word.clone())).ok_or(None),
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
    match target {
        Target::Address(..) | Target::Group(..) => true,
        Target::Fwmark(_) if capabilities.features.contains(&Feature::Fwmark) => true,
        Target::Fwmark(_) => {
            not_by_mark(item.head(), reporter);
            false
        }
    }
}

fn not_by_mark(at: Extent, reporter: &mut Reporter) {
    let message = "services by firewall mark are not yet in effect: this one is left out";
    reporter
        .warning(Code::NotInEffect, at, message)
        .help("packets with this mark pass untouched; write `virtual_server ADDRESS PORT` instead");
}

/// The addresses and marks that the line stands for; none if its group could not be read.
fn entries(
    target: &Target,
    item: &Item,
    shared: &Shared<'_>,
    reporter: &mut Reporter,
) -> Option<Vec<(Entry, Extent)>> {
    let at = item.head();
    match target {
        Target::Address(address, port) => {
            Some(vec![(Entry::Addresses { first: *address, last: *address, port: *port }, at)])
        }
        Target::Fwmark(mark) => Some(vec![(Entry::Mark(*mark, None), at)]),
        Target::Group(word) => {
            let group = shared.groups.get(word, reporter)?;
            (!group.entries.is_empty()).then(|| group.entries.clone())
        }
    }
}
