//! Names and numbers as ipvsadm prints them.
//!
//! **Invariant:** widths, cuts and suffixes are ipvsadm's.
//!
//! Called by the listings, the listing of connections and `-S`.

use std::net::{IpAddr, Ipv4Addr};

use elvs_model::{Family, Protocol, Scheduler, SchedulerFlags, ServiceKey, VirtualService};

use super::names::Names;

/// Turns addresses and ports into text, with names or without.
#[derive(Clone, Copy)]
pub(super) struct Namer<'a> {
    /// `None` with `-n`.
    names: Option<&'a dyn Names>,
}

impl<'a> Namer<'a> {
    pub(super) fn new(names: &'a dyn Names, numeric: bool) -> Self {
        Self { names: (!numeric).then_some(names) }
    }

    /// `address:port`; the port has a name only where the protocol is known.
    pub(super) fn endpoint(self, address: IpAddr, port: u16, protocol: Option<Protocol>) -> String {
        let host = self.names.and_then(|names| names.host_of(address));
        let host = host.unwrap_or_else(|| address_text(address));
        let service = self.names.zip(protocol).and_then(|(n, p)| n.service_of(port, p));
        let service = service.unwrap_or_else(|| port.to_string());
        let text = match address {
            IpAddr::V4(_) => format!("{host}:{service}"),
            IpAddr::V6(_) => format!("[{host}]:{service}"),
        };
        cut(&text, NAME_BYTES).to_owned()
    }

    /// The service as the first column of a listing shows it.
    pub(super) fn listed_service(self, key: &ServiceKey) -> String {
        match *key {
            ServiceKey::Address { protocol, address, port } => {
                let name = self.endpoint(address, port, Some(protocol));
                let line = format!("{:<4} {name}", protocol.name());
                match address {
                    IpAddr::V4(_) => cut(&line, SERVICE_COLUMN).to_owned(),
                    IpAddr::V6(_) => line,
                }
            }
            ServiceKey::Fwmark { mark, family } => match family {
                Family::Inet => format!("FWM  {}", signed(mark)),
                Family::Inet6 => format!("FWM  {} IPv6", signed(mark)),
            },
        }
    }

    /// The service as `-S` writes it.
    pub(super) fn saved_service(self, key: &ServiceKey) -> String {
        match *key {
            ServiceKey::Address { protocol, address, port } => {
                let option = match protocol {
                    Protocol::Tcp => "-t",
                    Protocol::Udp => "-u",
                    Protocol::Sctp => "--sctp-service",
                };
                format!("{option} {}", self.endpoint(address, port, Some(protocol)))
            }
            ServiceKey::Fwmark { mark, family } => match family {
                Family::Inet => format!("-f {}", signed(mark)),
                Family::Inet6 => format!("-f {} -6", signed(mark)),
            },
        }
    }
}

/// Protocol by which a destination's port is named: none in a firewall-mark service.
pub(super) const fn port_protocol(key: &ServiceKey) -> Option<Protocol> {
    match key {
        ServiceKey::Address { protocol, .. } => Some(*protocol),
        ServiceKey::Fwmark { .. } => None,
    }
}

/// An address as `inet_ntop` of the C library writes it: the last 32 bits in dots where the 96 before are 0, which the
/// standard library does in IPv4-mapped addresses alone.
pub(super) fn address_text(address: IpAddr) -> String {
    let IpAddr::V6(v6) = address else { return address.to_string() };
    match v6.segments() {
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => {
            let [a, b] = high.to_be_bytes();
            let [c, d] = low.to_be_bytes();
            format!("::{}", Ipv4Addr::new(a, b, c, d))
        }
        _ => v6.to_string(),
    }
}

/// The scheduler's flags by name, comma between; `None` without any, empty if the only one has no name.
pub(super) fn flags(service: &VirtualService) -> Option<String> {
    const ALL: u8 = SchedulerFlags::FLAG_1 | SchedulerFlags::FLAG_2 | SchedulerFlags::FLAG_3;
    if service.flags.0 & ALL == 0 {
        return None;
    }
    // ipvsadm has no name for flag-3 of sh and mh.
    let names: &[&str] = match service.scheduler {
        Scheduler::Sh => &["sh-fallback", "sh-port"],
        Scheduler::Mh => &["mh-fallback", "mh-port"],
        Scheduler::Rr
        | Scheduler::Wrr
        | Scheduler::Lc
        | Scheduler::Wlc
        | Scheduler::Lblc
        | Scheduler::Lblcr
        | Scheduler::Dh
        | Scheduler::Sed
        | Scheduler::Nq
        | Scheduler::Fo
        | Scheduler::Ovf
        | Scheduler::Twos => &["flag-1", "flag-2", "flag-3"],
    };
    let bits = [SchedulerFlags::FLAG_1, SchedulerFlags::FLAG_2, SchedulerFlags::FLAG_3];
    let set = names.iter().zip(bits).filter(|(_, bit)| service.flags.0 & bit != 0);
    Some(set.map(|(name, _)| *name).collect::<Vec<_>>().join(","))
}

/// A counter in nine columns, shortened by K, M, G or T unless `exact`.
pub(super) fn large(number: u64, exact: bool) -> String {
    if exact {
        let text = number.to_string();
        let width = if text.len() <= 8 { 9 } else { text.len() + 1 };
        return format!("{text:>width$}");
    }
    match number {
        0..100_000_000 => format!("{number:9}"),
        100_000_000..1_000_000_000 => format!("{:8}K", number / 1_000),
        1_000_000_000..100_000_000_000 => format!("{:8}M", number / 1_000_000),
        100_000_000_000..100_000_000_000_000 => format!("{:8}G", number / 1_000_000_000),
        100_000_000_000_000.. => format!("{:8}T", number / 1_000_000_000_000),
    }
}

/// The first `bytes` bytes, less what would split a character.
pub(super) fn cut(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}

/// Width at which an IPv4 service is cut in a listing.
const SERVICE_COLUMN: usize = 33;

/// ipvsadm keeps a name and port in 60 bytes, the last of which ends the string.
const NAME_BYTES: usize = 59;

/// Marks are printed as C's `int`: 4294967295 as -1.
const fn signed(mark: u32) -> i32 {
    mark.cast_signed()
}

#[cfg(test)]
mod tests;
