//! Changes of the table as lines for people: what a reload would do.
//!
//! **Invariant:** one line for each change, in the order in which they would be made.
//!
//! Called by `elvs check --diff`.

use std::net::{IpAddr, SocketAddr};

use elvs_model::{
    Change, Destination, DestinationKey, ForwardingMethod, Netmask, OnDelete, ServiceKey,
    SyncDaemon, Timeouts, TunnelKind, VirtualService,
};

/// A line for each change: `+` what is added, `~` what is changed, `-` what is removed.
pub(super) fn lines(changes: &[Change]) -> Vec<String> {
    changes.iter().map(line).collect()
}

fn line(change: &Change) -> String {
    match change {
        Change::AddService(service) => format!("+ virtual service {}", service_words(service)),
        Change::EditService(service) => format!("~ virtual service {}", service_words(service)),
        Change::DeleteService(key) => format!("- virtual service {key} and its real servers"),
        Change::AddDestination { service, destination } => {
            format!("+ real server {}", destination_words(service, destination))
        }
        Change::EditDestination { service, destination } => {
            format!("~ real server {}", destination_words(service, destination))
        }
        Change::DeleteDestination { service, destination } => {
            format!("- real server {} of {service}", endpoint(destination))
        }
        Change::AddLocalAddress { service, address } => {
            format!("+ local address {address} of {service}")
        }
        Change::DeleteLocalAddress { service, address } => {
            format!("- local address {address} of {service}")
        }
        Change::Flush => "- every virtual service and real server".to_owned(),
        Change::SetTimeouts(timeouts) => timeouts_words(*timeouts),
        Change::AddMark(rule) => format!("+ mark rule {rule}"),
        Change::DeleteMark(rule) => format!("- mark rule {rule}"),
        Change::Set { setting, value } => format!("~ setting {setting} = {value}"),
        Change::StartSync(SyncDaemon { role, interface, .. }) => {
            format!("+ sync daemon, {} on {interface}", role.name())
        }
        Change::StopSync(role) => format!("- sync daemon, {}", role.name()),
    }
}

fn service_words(service: &VirtualService) -> String {
    let mut words = format!("{}, {}", service.key, service.scheduler);
    if service.flags.0 != 0 {
        words += &format!(", flags {:#04x}", service.flags.0);
    }
    if let Some(persistence) = service.persistence {
        words += &format!(", persistent {} s", persistence.timeout);
    }
    match service.netmask {
        Netmask::V4(u32::MAX) | Netmask::V6(128) => {}
        Netmask::V4(mask) => words += &format!(", netmask {}", std::net::Ipv4Addr::from(mask)),
        Netmask::V6(length) => words += &format!(", prefix /{length}"),
    }
    if service.one_packet {
        words += ", one packet";
    }
    if let Some(engine) = &service.engine {
        words += &format!(", engine {engine}");
    }
    if service.on_delete != OnDelete::Drop {
        words += &format!(", on_delete {}", service.on_delete.name());
    }
    words
}

fn destination_words(service: &ServiceKey, destination: &Destination) -> String {
    let method = match destination.method {
        ForwardingMethod::Nat => "NAT",
        ForwardingMethod::Dr => "DR",
        ForwardingMethod::FullNat => "FULLNAT",
        ForwardingMethod::Tun(TunnelKind::Ipip) => "TUN",
        ForwardingMethod::Tun(TunnelKind::Gue { .. }) => "TUN by GUE",
        ForwardingMethod::Tun(TunnelKind::Gre { .. }) => "TUN by GRE",
    };
    let mut words = format!(
        "{} of {service}, {method}, weight {}",
        endpoint(&destination.key),
        destination.weight
    );
    if destination.upper_threshold != 0 || destination.lower_threshold != 0 {
        let (upper, lower) = (destination.upper_threshold, destination.lower_threshold);
        words += &format!(", thresholds {upper} and {lower}");
    }
    words
}

fn endpoint(key: &DestinationKey) -> String {
    match key.address {
        IpAddr::V4(address) => format!("{address}:{}", key.port),
        IpAddr::V6(_) => SocketAddr::new(key.address, key.port).to_string(),
    }
}

fn timeouts_words(timeouts: Timeouts) -> String {
    let all = [("tcp", timeouts.tcp), ("tcpfin", timeouts.tcp_fin), ("udp", timeouts.udp)];
    let set = all.iter().filter(|(_, seconds)| *seconds != 0);
    let words: Vec<String> = set.map(|(name, seconds)| format!("{name} {seconds} s")).collect();
    format!("~ timeouts {}", words.join(", "))
}

#[cfg(test)]
mod tests;
