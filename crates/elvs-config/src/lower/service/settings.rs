//! Statements of a `virtual_server` block, each as its own value.
//!
//! **Invariant:** values are checked whether or not this release puts them into effect.
//!
//! Called before it is known what sort of service the block is.

use std::net::Ipv4Addr;

use elvs_model::{
    Family, ForwardingMethod, Netmask, OnDelete, Persistence, Protocol, Scheduler, SchedulerFlags,
    ServiceKey, VirtualService,
};

use super::super::real_server::MAX_WEIGHT;
use super::super::{Once, method, value};
use super::DEFAULT_PERSISTENCE;
use super::health::Health;
use crate::diagnostic::{Code, Reporter};
use crate::lexer::Word;
use crate::text::quote;
use crate::tree::Item;

/// Longest persistence of IPVS, in seconds: 31 days.
const MAX_PERSISTENCE: u32 = 2_678_400;

/// What the block says, where it could be read.
#[derive(Default)]
pub(super) struct Settings {
    pub scheduler: Once<Scheduler>,
    /// A scheduler is given and was refused, so that none is missing.
    pub scheduler_refused: bool,
    pub method: Once<ForwardingMethod>,
    /// A method is given and was refused, so that none is missing.
    pub method_refused: bool,
    pub protocol: Once<Protocol>,
    /// A protocol is given and was refused, so that none is missing.
    pub protocol_refused: bool,
    pub weight: Once<u32>,
    pub family: Once<Family>,
    pub persistence: Once<Persistence>,
    pub netmask: Once<Netmask>,
    pub engine: Once<String>,
    /// Name of the group of local addresses.
    pub local_group: Once<Word>,
    pub flags: SchedulerFlags,
    pub has_real_servers: bool,
    one_packet: Once<()>,
    pub on_delete: Once<OnDelete>,
    /// How the service is watched.
    pub health: Health,
}

const PROTOCOLS: [(&str, Protocol); 3] =
    [("TCP", Protocol::Tcp), ("UDP", Protocol::Udp), ("SCTP", Protocol::Sctp)];
const FAMILIES: [(&str, Family); 2] = [("inet", Family::Inet), ("inet6", Family::Inet6)];

impl Settings {
    pub fn read(item: &Item, reporter: &mut Reporter) -> Self {
        let mut settings = Self::default();
        for item in item.items() {
            if reporter.is_full() {
                break;
            }
            settings.statement(item, reporter);
            settings.health.read(item, reporter);
        }
        settings
    }

    fn statement(&mut self, item: &Item, reporter: &mut Reporter) {
        let keyword = item.keyword.text.as_str();
        match keyword {
            "real_server" => self.has_real_servers = true,
            "ops" => self.one_packet.set(item, (), reporter),
            "flag-1" | "sh-fallback" | "mh-fallback" => self.flags.0 |= SchedulerFlags::FLAG_1,
            "flag-2" | "sh-port" | "mh-port" => self.flags.0 |= SchedulerFlags::FLAG_2,
            "flag-3" => self.flags.0 |= SchedulerFlags::FLAG_3,
            "persistence_timeout" if item.arguments.is_empty() => {
                let persistence = Persistence { timeout: DEFAULT_PERSISTENCE };
                self.persistence.set(item, persistence, reporter);
            }
            _ => {
                if let Some(word) = item.arguments.first() {
                    self.value(keyword, item, word, reporter);
                }
            }
        }
    }

    /// Statements with a value.
    fn value(&mut self, keyword: &str, item: &Item, word: &Word, reporter: &mut Reporter) {
        match keyword {
            "lvs_sched" | "lb_algo" => match scheduler(word, reporter) {
                Some(scheduler) => self.scheduler.set(item, scheduler, reporter),
                None => self.scheduler_refused = true,
            },
            "lvs_method" | "lb_kind" => match method::method(item, reporter) {
                Some(method) => self.method.set(item, method, reporter),
                None => self.method_refused = true,
            },
            "protocol" => {
                let upper = Word { text: word.text.to_ascii_uppercase(), ..word.clone() };
                match value::name("protocol", &upper, &PROTOCOLS, reporter) {
                    Some(protocol) => self.protocol.set(item, protocol, reporter),
                    None => self.protocol_refused = true,
                }
            }
            "weight" => {
                if let Some(weight) = value::number("weight", word, 1, MAX_WEIGHT, reporter) {
                    self.weight.set(item, weight, reporter);
                }
            }
            "ip_family" => {
                if let Some(family) = value::name("ip_family", word, &FAMILIES, reporter) {
                    self.family.set(item, family, reporter);
                }
            }
            "persistence_timeout" => {
                let seconds = value::number(keyword, word, 1, MAX_PERSISTENCE, reporter);
                if let Some(timeout) = seconds {
                    self.persistence.set(item, Persistence { timeout }, reporter);
                }
            }
            "persistence_granularity" => {
                if let Some(netmask) = netmask(word, reporter) {
                    self.netmask.set(item, netmask, reporter);
                }
            }
            "on_delete" => {
                let known = OnDelete::ALL.map(|choice| (choice.name(), choice));
                if let Some(choice) = value::name(keyword, word, &known, reporter) {
                    self.on_delete.set(item, choice, reporter);
                }
            }
            "laddr_group_name" => self.local_group.set(item, word.clone(), reporter),
            "persistence_engine" => self.engine.set(item, word.text.clone(), reporter),
            _ => {}
        }
    }

    /// Puts the netmask into the service, if it is of the service's family.
    pub fn apply_netmask(&self, service: &mut VirtualService, reporter: &mut Reporter) {
        let Some((netmask, at)) = self.netmask.0 else { return };
        let family = service.key.family();
        let fits = matches!(
            (netmask, family),
            (Netmask::V4(_), Family::Inet) | (Netmask::V6(_), Family::Inet6)
        );
        if fits {
            service.netmask = netmask;
        } else {
            reporter
                .error(Code::MixedFamilies, at, "the netmask is not of the service's family")
                .help("write a mask such as 255.255.255.0 for IPv4, a prefix length for IPv6");
        }
    }

    /// Whether packets are scheduled one by one, which only UDP can be.
    pub fn one_packet(&self, key: &ServiceKey, reporter: &mut Reporter) -> bool {
        let Some(at) = self.one_packet.place() else { return false };
        let connected =
            matches!(key, ServiceKey::Address { protocol: Protocol::Tcp | Protocol::Sctp, .. });
        if connected {
            reporter
                .warning(
                    Code::ValueReplaced,
                    at,
                    "`ops` is for UDP services and has no meaning here",
                )
                .help("remove it");
        }
        !connected
    }
}

/// Persistence of `timeout` seconds.
pub(super) const fn persistence(timeout: u32) -> Option<Persistence> {
    Some(Persistence { timeout })
}

fn scheduler(word: &Word, reporter: &mut Reporter) -> Option<Scheduler> {
    let known = Scheduler::ALL.map(|scheduler| (scheduler.name(), scheduler));
    value::name("scheduler", word, &known, reporter)
}

/// An IPv4 mask, or an IPv6 prefix length.
fn netmask(word: &Word, reporter: &mut Reporter) -> Option<Netmask> {
    if let Ok(mask) = word.text.parse::<Ipv4Addr>() {
        return Some(Netmask::V4(mask.to_bits()));
    }
    let length = word.text.parse::<u8>().ok().filter(|length| (1..=128).contains(length));
    if length.is_none() {
        let message = format!("{} is neither a netmask nor a prefix length", quote(&word.text));
        reporter
            .error(Code::InvalidValue, word.extent, message)
            .help("write a mask such as 255.255.255.0 for IPv4, 1 to 128 for IPv6");
    }
    length.map(Netmask::V6)
}
