//! The services of a virtual server: their keys, and what of its settings is in effect.
//!
//! **Invariant:** a service that is built asks for nothing that this release's data plane does not have.
//!
//! Called for each address or mark of a virtual server.

use std::net::IpAddr;

use elvs_model::{Family, Protocol, Scheduler, ServiceKey, VirtualService};

use super::DEFAULT_PERSISTENCE;
use super::settings::{self, Settings};
use crate::capabilities::Capabilities;
use crate::diagnostic::{Code, Reporter};
use crate::keywords::Feature;
use crate::lower::method;
use crate::lower::real_server::RealServer;
use crate::sources::Extent;
use crate::text::one_of;
use crate::tree::Item;

/// Reports what this release's data plane does not have, where ignoring it would change who gets the traffic.
pub(super) fn check_settings(
    settings: &Settings,
    capabilities: &Capabilities,
    reporter: &mut Reporter,
) {
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

/// The protocol, where the services by address have one; `marks`: there are services by firewall mark alone.
pub(super) fn protocol(
    marks: bool,
    settings: &Settings,
    item: &Item,
    reporter: &mut Reporter,
) -> Option<Protocol> {
    match settings.protocol.0 {
        Some((_, at)) if marks => {
            reporter
                .warning(Code::ValueReplaced, at, "`protocol` has no meaning with a firewall mark")
                .help("remove it: the mark says which packets are meant");
            None
        }
        None if marks => None,
        Some((protocol, _)) => Some(protocol),
        // The file is refused already; whichever protocol lets the rest of the block be checked.
        None if settings.protocol_refused => Some(Protocol::Tcp),
        None => {
            // The kernel's and keepalived's default, though most who leave it out mean TCP.
            reporter
                .warning(Code::DefaultAssumed, item.head(), "no protocol is given: UDP is served")
                .help("write `protocol TCP` or `protocol UDP`; keepalived takes UDP too");
            Some(Protocol::Udp)
        }
    }
}

/// Family of a firewall mark: as written, or its first real server's.
pub(super) fn family_of_marks(settings: &Settings, item: &Item) -> Family {
    let first = || {
        let server = item.items().iter().find(|i| i.keyword.text == "real_server")?;
        let address = server.arguments.first()?.text.parse().ok()?;
        Some(Family::of(address))
    };
    settings.family.get().copied().or_else(first).unwrap_or(Family::Inet)
}

/// Reports what is assumed of services of every kind.
pub(super) fn check_defaults(
    settings: &Settings,
    any_port: bool,
    capabilities: &Capabilities,
    item: &Item,
    reporter: &mut Reporter,
) {
    if settings.scheduler.place().is_none() && !settings.scheduler_refused {
        reporter
            .warning(Code::DefaultAssumed, item.head(), "no scheduler is given: wlc is used")
            .help("write `lvs_sched rr`, `lvs_sched wrr` or `lvs_sched wlc`");
    }
    if any_port && capabilities.any_port && settings.persistence.get().is_none() {
        let message = format!(
            "a service on every port is persistent: {DEFAULT_PERSISTENCE} seconds are used"
        );
        reporter
            .warning(Code::ValueReplaced, item.head(), message)
            .help("write `persistence_timeout SECONDS`, or name a port");
    } else if let (Some(at), true) =
        (settings.netmask.place(), settings.persistence.get().is_none())
    {
        let message = format!(
            "`persistence_granularity` makes a service persistent: {DEFAULT_PERSISTENCE} seconds are used"
        );
        reporter
            .warning(Code::DefaultAssumed, at, message)
            .help("write `persistence_timeout SECONDS`, or remove the line");
    }
}

/// Reports care of real servers that the service's kind has no use for.
pub(super) fn check_care(
    keys: &[(ServiceKey, Extent)],
    settings: &Settings,
    servers: &[RealServer],
    reporter: &mut Reporter,
) {
    let udp = |(key, _): &(ServiceKey, Extent)| {
        matches!(key, ServiceKey::Address { protocol: Protocol::Udp, .. })
    };
    let watched = servers.iter().find(|server| server.care.passive.is_some());
    if let Some(server) = watched.filter(|_| keys.iter().any(udp)) {
        reporter
            .warning(
                Code::NoEffect,
                server.at,
                "`passive` has no meaning with UDP, which opens no connections",
            )
            .help("remove it, or write a check");
    }
    let Some(scheduler) = settings.scheduler.get().copied() else { return };
    // They ask of a weight but whether it is 0.
    let weightless = matches!(scheduler, Scheduler::Rr | Scheduler::Lc | Scheduler::Dh);
    let slow = servers.iter().find(|server| server.care.slow_start.is_some());
    if let Some(server) = slow.filter(|_| weightless) {
        let message = format!(
            "`slow_start` has no effect: scheduler {scheduler} takes no account of weights"
        );
        reporter
            .warning(Code::NoEffect, server.at, message)
            .help("write `lvs_sched wrr`, `lvs_sched wlc` or another one with weights");
    }
}

/// The service with what is in effect of its settings; `any_port`: one of the virtual server's is on every port.
pub(super) fn service(
    key: ServiceKey,
    settings: &Settings,
    any_port: bool,
    capabilities: &Capabilities,
    item: &Item,
    reporter: &mut Reporter,
) -> VirtualService {
    let scheduler = settings.scheduler.get().copied().unwrap_or(Scheduler::Wlc);
    let mut service = VirtualService::new(key, scheduler);
    let has = |feature| capabilities.features.contains(&feature);
    if let ServiceKey::Address { address, port, .. } = key {
        check_address(address, port, item, capabilities, reporter);
        if any_port && capabilities.any_port && settings.persistence.get().is_none() {
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
        let implied = settings.netmask.get().and(settings::persistence(DEFAULT_PERSISTENCE));
        let written = settings.persistence.get().copied();
        service.persistence = written.or(service.persistence).or(implied);
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
