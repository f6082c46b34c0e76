//! A virtual server in words: what it listens on, how it schedules and forwards, its real servers, its quorum.
//!
//! **Invariant:** services of one group are told once, with all their addresses.
//!
//! Part of [`super::explain`].

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use elvs_model::health::{Script, ServerHealth, ServiceHealth};
use elvs_model::{
    DesiredService, Destination, ForwardingMethod, Netmask, OnDelete, Scheduler, SchedulerFlags,
    ServiceKey, TunnelChecksum, TunnelKind, VirtualService,
};

use super::{Page, checks, list, time};
use crate::text::count;

/// Services that one block makes.
pub(super) fn explain(services: &[&DesiredService], page: &mut Page) {
    let Some(first) = services.first() else { return };
    match &first.health.group {
        None => {
            let of =
                if matches!(first.service.key, ServiceKey::Fwmark { .. }) { "of " } else { "" };
            page.head(format!("Virtual server {of}{}", listens(&first.service.key)));
        }
        Some(group) => {
            let services = count(services.len(), "virtual service");
            page.head(format!("Virtual server group {}: {services} of one state", group.name));
        }
    }
    if first.health.group.is_some() {
        for service in services {
            page.line(1, format!("Listens on {}.", listens(&service.service.key)));
        }
    }
    schedules(&first.service, page);
    deletes(first, page);
    real_servers(first, page);
    quorum(first, page);
}

/// What a service listens on.
fn listens(key: &ServiceKey) -> String {
    match key {
        ServiceKey::Address { protocol, address, port: 0 } => {
            format!("{} {address}, every port", protocol.name())
        }
        key @ ServiceKey::Address { .. } => key.to_string(),
        ServiceKey::Fwmark { mark, family } => {
            let family = match family {
                elvs_model::Family::Inet => "IPv4",
                elvs_model::Family::Inet6 => "IPv6",
            };
            format!("{family} packets with firewall mark {mark}")
        }
    }
}

fn schedules(service: &VirtualService, page: &mut Page) {
    let what = if service.one_packet { "Each packet goes" } else { "New connections go" };
    let scheduler = service.scheduler;
    page.line(1, format!("{what} {} ({scheduler}){}.", words_of(scheduler), flags(service)));
    if service.one_packet {
        page.line(1, "Packets of one client may reach different real servers (ops).".to_owned());
    }
    if let Some(persistence) = service.persistence {
        let clients = match service.netmask {
            Netmask::V4(u32::MAX) | Netmask::V6(128) => "Clients keep".to_owned(),
            Netmask::V4(mask) => {
                format!("Clients that are the same under the netmask {} keep", Ipv4Addr::from(mask))
            }
            Netmask::V6(length) => format!("Clients of one /{length} network keep"),
        };
        let by =
            service.engine.as_ref().map(|e| format!(", told apart by {e}")).unwrap_or_default();
        let timeout = persistence.timeout;
        page.line(
            1,
            format!("{clients} their real server for {timeout} s after the last connection{by}."),
        );
    }
}

/// How a scheduler chooses, after "go".
const fn words_of(scheduler: Scheduler) -> &'static str {
    match scheduler {
        Scheduler::Rr => "to the real servers in turn",
        Scheduler::Wrr => "to the real servers in turn, by weight",
        Scheduler::Lc => "to the real server with the fewest connections",
        Scheduler::Wlc => "to the real server with the fewest connections for its weight",
        Scheduler::Lblc => {
            "to the real server that serves the destination address, unless it has too many connections"
        }
        Scheduler::Lblcr => {
            "to the real servers that serve the destination address, to which one is added when they have too many connections"
        }
        Scheduler::Dh => "to a real server by hash of the destination address",
        Scheduler::Sh => "to a real server by hash of the client's address",
        Scheduler::Mh => "to a real server by Maglev hash of the client's address",
        Scheduler::Sed => {
            "to the real server that would serve them soonest by weight and connections"
        }
        Scheduler::Nq => {
            "to an idle real server, and without one to that which would serve them soonest"
        }
        Scheduler::Fo => "to the real server of the highest weight",
        Scheduler::Ovf => {
            "to the real server of the highest weight until it has as many connections as its weight, then to the next"
        }
        Scheduler::Twos => "to the less loaded of two real servers taken by chance",
    }
}

fn flags(service: &VirtualService) -> String {
    let hashes = matches!(service.scheduler, Scheduler::Sh | Scheduler::Mh);
    let names = [
        (
            SchedulerFlags::FLAG_1,
            if hashes { "to another real server if that one is not available" } else { "flag-1" },
        ),
        (SchedulerFlags::FLAG_2, if hashes { "with the client's port" } else { "flag-2" }),
        (SchedulerFlags::FLAG_3, "flag-3"),
    ];
    let set = names.iter().filter(|(bit, _)| service.flags.0 & bit != 0);
    set.map(|(_, words)| format!(", {words}")).collect()
}

/// What becomes of a removed real server's connections.
fn deletes(service: &DesiredService, page: &mut Page) {
    let drain = service.health.drain;
    let end = match (service.service.on_delete, drain) {
        (OnDelete::Drop, None) => return,
        (OnDelete::Drop, Some(_)) => "their packets are dropped",
        (OnDelete::Reset, _) => "they are reset",
    };
    page.line(
        1,
        match drain {
            None => format!("Connections of a removed real server: {end} at once."),
            Some(limit) => format!(
                "Connections of a removed real server go on for {}; then {end}.",
                time(limit)
            ),
        },
    );
}

fn real_servers(service: &DesiredService, page: &mut Page) {
    if service.destinations.is_empty() {
        page.line(1, "It has no real servers: nobody answers.".to_owned());
    }
    for destination in &service.destinations {
        let way = way(destination.method);
        let weight = match destination.weight {
            0 => "weight 0 (no new connections)".to_owned(),
            weight => format!("weight {weight}"),
        };
        page.line(1, format!("Real server {}, {weight}, {way}", endpoint(destination)));
        if destination.upper_threshold != 0 {
            let upper = destination.upper_threshold;
            let below = match destination.lower_threshold {
                0 => "less than three quarters of that".to_owned(),
                lower => format!("less than {lower}"),
            };
            page.line(
                2,
                format!("from {upper} connections on it gets no new ones until it has {below}"),
            );
        }
        let health = service.health.server(&destination.key);
        watched(health, &service.health, page);
    }
    if !service.local_addresses.is_empty() {
        let addresses: Vec<String> =
            service.local_addresses.iter().map(|a| a.to_string()).collect();
        page.line(1, format!("Real servers see connections from {}.", list(&addresses)));
    }
}

/// How a real server is watched, and what follows.
fn watched(health: Option<&ServerHealth>, service: &ServiceHealth, page: &mut Page) {
    let Some(health) = health else {
        return page.line(2, "not checked: it gets connections whether it works or not".to_owned());
    };
    if health.checks.is_empty() {
        page.line(2, "not checked: it gets connections whether it works or not".to_owned());
    }
    for check in &health.checks {
        for line in checks::words(check) {
            page.line(2, line);
        }
    }
    let down = if health.inhibit_on_failure { "its weight becomes 0" } else { "it is taken out" };
    if !health.checks.is_empty() {
        let several = if health.checks.len() > 1 { "one of its checks" } else { "its check" };
        page.line(2, format!("while {several} fails {down}"));
        if service.alpha || health.checks.iter().all(|check| check.schedule.alpha) {
            page.line(2, "at the start it is down until it was checked".to_owned());
        } else if !health.checks.iter().any(|check| check.schedule.alpha) {
            page.line(2, "at the start it gets connections until its first check fails".to_owned());
        }
    }
    if let Some(time_up) = health.slow_start {
        page.line(
            2,
            format!("after it came back its weight grows to the full one in {}", time(time_up)),
        );
    }
    if let Some(passive) = health.passive {
        page.line(
            2,
            format!(
                "taken out for {} when {} % of at least {} new connections in {} come to nothing",
                time(passive.hold),
                passive.percent,
                passive.least,
                time(passive.window)
            ),
        );
    }
    if let Some(damping) = health.damping {
        page.line(2, format!(
            "a failure within {} of its return keeps it out for {}, twice as long each time, at most {}",
            time(damping.window), time(damping.first), time(damping.most)
        ));
    }
    let run = |script: &Option<Script>, when: &str| {
        let words = script.as_ref()?.words.join(" ");
        Some(format!("runs `{words}` when it {when}"))
    };
    let mut told = Vec::new();
    told.extend(run(&health.notify_up, "comes up"));
    told.extend(run(&health.notify_down, "goes down"));
    if health.mail {
        told.push("mail is sent when it comes up or goes down".to_owned());
    }
    if !told.is_empty() {
        page.line(2, list(&told));
    }
}

fn quorum(service: &DesiredService, page: &mut Page) {
    let health = &service.health;
    let run = |script: &Option<Script>, when: &str| {
        let words = script.as_ref()?.words.join(" ");
        Some(format!("`{words}` is run when it is {when}"))
    };
    let mut told = Vec::new();
    told.extend(run(&health.quorum_up, "gained"));
    told.extend(run(&health.quorum_down, "lost"));
    if health.mail {
        told.push("mail is sent when it is gained or lost".to_owned());
    }
    let default = health.quorum == 1 && health.hysteresis == 0;
    if !default || !told.is_empty() || health.sorry_server.is_some() {
        let (gained, lost) = (
            health.quorum.saturating_add(health.hysteresis),
            health.quorum.saturating_sub(health.hysteresis),
        );
        let limits = if gained == lost {
            format!("it is up with real servers of weight {gained} together")
        } else {
            format!(
                "it comes up with real servers of weight {gained} together and goes down below {lost}"
            )
        };
        let told = if told.is_empty() { String::new() } else { format!("; {}", list(&told)) };
        page.line(1, format!("Quorum: {limits}{told}."));
    }
    if let Some(sorry) = &health.sorry_server {
        let destination = &sorry.destination;
        let idle = if sorry.inhibit { ", and has weight 0 otherwise" } else { "" };
        page.line(
            1,
            format!(
                "Without quorum {} takes all connections, {}{idle}.",
                endpoint(destination),
                way(destination.method)
            ),
        );
    }
    if health.ha_suspend {
        page.line(
            1,
            "Nothing is checked while the address is on no interface of this host.".to_owned(),
        );
    }
    if health.omega {
        page.line(1, "When the daemon stops, the scripts of going down are run.".to_owned());
    }
}

/// Address and port of a real server.
fn endpoint(destination: &Destination) -> String {
    let key = destination.key;
    match (key.address, key.port) {
        (address, 0) => format!("{address}, the client's port"),
        (IpAddr::V4(address), port) => format!("{address}:{port}"),
        (address @ IpAddr::V6(_), port) => SocketAddr::new(address, port).to_string(),
    }
}

/// How packets reach a real server.
fn way(method: ForwardingMethod) -> String {
    match method {
        ForwardingMethod::Nat => "by NAT: its answers come back through this director".to_owned(),
        ForwardingMethod::Dr => {
            "by direct routing: it has the virtual address itself and answers clients directly"
                .to_owned()
        }
        ForwardingMethod::FullNat => {
            "by full NAT: it sees a local address of this director in place of the client's"
                .to_owned()
        }
        ForwardingMethod::Tun(kind) => {
            let tunnel = match kind {
                TunnelKind::Ipip => "IP in IP".to_owned(),
                TunnelKind::Gue { port, checksum } => {
                    format!("GUE to UDP port {port}{}", checksum_words(checksum))
                }
                TunnelKind::Gre { checksum } => format!("GRE{}", checksum_words(checksum)),
            };
            format!(
                "by a tunnel ({tunnel}): it has the virtual address itself and answers clients directly"
            )
        }
    }
}

const fn checksum_words(checksum: TunnelChecksum) -> &'static str {
    match checksum {
        TunnelChecksum::None => "",
        TunnelChecksum::Csum => " with checksums",
        TunnelChecksum::Remcsum => " with remote checksum offload",
    }
}
