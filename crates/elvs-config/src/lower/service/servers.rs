//! The real servers of a virtual server, and the destinations that they are in each of its services.
//!
//! **Invariant:** no service has two destinations with the same key.
//!
//! Called for each virtual server, and then for each of its services.

use std::collections::HashMap;
use std::net::IpAddr;

use elvs_model::{Destination, DestinationKey, ForwardingMethod};

use super::settings::Settings;
use crate::capabilities::Capabilities;
use crate::diagnostic::{Code, Reporter};
use crate::lower::real_server::{self, Heading, RealServer};
use crate::lower::shared::Shared;
use crate::sources::Extent;
use crate::text::quote;
use crate::tree::Item;

/// Every real server of a block that can be read.
pub(super) fn servers(
    item: &Item,
    settings: &Settings,
    shared: &Shared<'_>,
    reporter: &mut Reporter,
) -> Vec<RealServer> {
    let defaults = settings.health.defaults(
        default_method(item, settings, reporter),
        settings.weight.get().copied().unwrap_or(1),
        &shared.global,
    );
    let mut servers = Vec::new();
    for server in item.items().iter().filter(|i| i.keyword.text == "real_server") {
        if reporter.is_full() {
            break;
        }
        servers.extend(real_server::read(server, &defaults, shared, reporter));
    }
    servers
}

/// The destinations of one service.
pub(super) fn destinations<'a>(
    servers: &'a [RealServer],
    heading: &Heading,
    capabilities: &Capabilities,
    reporter: &mut Reporter,
) -> Vec<(&'a RealServer, Destination)> {
    let mut places: HashMap<DestinationKey, Extent> = HashMap::new();
    let mut destinations = Vec::new();
    for server in servers {
        let Some(destination) = server.destination(heading, capabilities, reporter) else {
            continue;
        };
        let key = destination.key;
        if let Some(first) = places.get(&key) {
            let shown = match key.address {
                IpAddr::V4(a) => format!("{a}:{}", key.port),
                IpAddr::V6(a) => format!("[{a}]:{}", key.port),
            };
            let message = format!("real server {shown} is in this virtual server twice");
            reporter
                .error(Code::Duplicate, server.at, message)
                .help("remove one of the two; for a larger share raise its weight")
                .related(*first, "first named here");
            continue;
        }
        places.insert(key, server.at);
        destinations.push((server, destination));
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
