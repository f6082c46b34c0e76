//! Checks of a real server: `TCP_CHECK` to `FILE_CHECK`, and ELVS's own `PATH_CHECK` and `AGENT_CHECK`.
//!
//! **Invariant:** a check that is lowered can run: it has an address, a port where its kind needs one, and every time.
//!
//! Called for each real server, with what its blocks say of times and names.

mod connection;
mod http;
mod own;
mod track;
mod udp;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use elvs_model::health::{
    Check, CheckKind, DnsCheck, DnsType, MiscCheck, PingCheck, Schedule, SmtpCheck, Target,
    TcpCheck,
};
use elvs_model::{Destination, ServiceKey};

use self::connection::Connection;
pub(super) use self::http::host_name;
use super::shared::Shared;
use super::timing::{Defaults, Level, Times, Timing};
use super::{Once, script, value};
use crate::diagnostic::{Code, Reporter};
use crate::lexer::Word;
use crate::sources::Extent;
use crate::text::quote;
use crate::tree::Item;

/// keepalived's greeting in `SMTP_CHECK`.
const HELO_NAME: &str = "smtpchecker.keepalived.org";
/// Longest name in the DNS, with its dots (RFC 1035, 2.3.4).
const MAX_DNS_NAME: usize = 254;
/// Longest label of a name in the DNS.
const MAX_DNS_LABEL: usize = 63;
/// Longest `misc_timeout`: keepalived's.
const MAX_MISC_TIMEOUT: u32 = 4_294;

/// Keywords of checks.
const NAMES: [&str; 12] = [
    "TCP_CHECK",
    "HTTP_GET",
    "SSL_GET",
    "SMTP_CHECK",
    "DNS_CHECK",
    "MISC_CHECK",
    "PING_CHECK",
    "UDP_CHECK",
    "BFD_CHECK",
    "FILE_CHECK",
    "PATH_CHECK",
    "AGENT_CHECK",
];

/// Of all kinds but those below.
const USUAL: Defaults = Defaults { retry: 1, delay_before_retry: Some(Duration::from_secs(1)) };
const HTTP: Defaults = Defaults { retry: 1, delay_before_retry: Some(Duration::from_secs(3)) };
const DNS: Defaults = Defaults { retry: 3, delay_before_retry: None };
const MISC: Defaults = Defaults { retry: 0, ..USUAL };

/// What checks take from the blocks around them.
pub(super) struct Around<'a> {
    /// The real server's address.
    pub address: IpAddr,
    /// Its port as written; 0 = none.
    pub port: u16,
    pub times: Times,
    /// `virtualhost` of the real or virtual server.
    pub virtual_host: Option<&'a str>,
}

/// A check whose port and VIP may depend on the service.
#[derive(Clone)]
pub(super) struct Planned {
    kind: Kind,
    schedule: Schedule,
    /// Longest that one try may take.
    timeout: Option<Duration>,
    at: Extent,
}

#[derive(Clone)]
enum Kind {
    /// Complete, but for ports of 0, which are the destination's.
    Check(CheckKind),
    /// `PATH_CHECK`.
    Path(own::Path),
}

/// Every check of a real server.
pub(super) fn read(
    server: &Item,
    around: &Around<'_>,
    shared: &Shared<'_>,
    reporter: &mut Reporter,
) -> Vec<Planned> {
    let mut checks = Vec::new();
    for item in server.items() {
        if reporter.is_full() {
            break;
        }
        checks.extend(check(item, around, shared, reporter));
    }
    checks
}

fn check(
    item: &Item,
    around: &Around<'_>,
    shared: &Shared<'_>,
    reporter: &mut Reporter,
) -> Option<Planned> {
    let keyword = item.keyword.text.as_str();
    if !NAMES.contains(&keyword) {
        return None;
    }
    let mut block = Block::default();
    block.read(item, reporter);
    let times = block.timing.over(&around.times);
    let target = || block.connection.target(around, &times);
    let complete = |kind| Some(Kind::Check(kind));
    let (kind, defaults) = match keyword {
        "HTTP_GET" | "SSL_GET" => {
            let kind = http::check(item, target(), around.virtual_host, shared, reporter)?;
            (complete(CheckKind::Http(kind)), HTTP)
        }
        "SMTP_CHECK" => (complete(smtp(item, &block, around, &times, reporter)?), USUAL),
        "DNS_CHECK" => (complete(dns(item, target(), reporter)), DNS),
        "MISC_CHECK" => (complete(misc(item, reporter)?), MISC),
        "PING_CHECK" => {
            block.connection.without_ports(reporter);
            let target = Target { address: SocketAddr::new(target().address.ip(), 0), ..target() };
            (complete(CheckKind::Ping(PingCheck { target })), USUAL)
        }
        "UDP_CHECK" => (complete(udp::check(item, target(), reporter)?), USUAL),
        "BFD_CHECK" => (complete(track::bfd(item, shared, reporter)?), USUAL),
        "FILE_CHECK" => (complete(track::file(item, shared, reporter)?), USUAL),
        "PATH_CHECK" => (own::path(item, times.timeout(), reporter).map(Kind::Path), USUAL),
        "AGENT_CHECK" => {
            let kind = own::agent(item, target(), block.connection.has_port(), reporter)?;
            (complete(kind), USUAL)
        }
        _ => (complete(CheckKind::Tcp(TcpCheck { target: target() })), USUAL),
    };
    let by_event = matches!(keyword, "BFD_CHECK" | "FILE_CHECK");
    let schedule = if by_event {
        track::schedule(keyword == "BFD_CHECK" && times.alpha.unwrap_or(false))
    } else {
        times.schedule(defaults)
    };
    let timeout = (!by_event && keyword != "MISC_CHECK").then(|| times.timeout());
    block.connection.check(around, item, reporter);
    Some(Planned { kind: kind?, schedule, timeout, at: item.head() })
}

/// What the blocks of most checks have in common.
#[derive(Default)]
struct Block {
    timing: Timing,
    connection: Connection,
}

impl Block {
    fn read(&mut self, item: &Item, reporter: &mut Reporter) {
        for line in item.items() {
            self.timing.read(line, Level::Check, reporter);
            self.connection.read(line, reporter);
        }
    }
}

impl Planned {
    /// Where it stands.
    pub const fn place(&self) -> Extent {
        self.at
    }

    /// How long it takes to find the server down, from the first try to the last, if every try takes as long as it may;
    /// compared with the time between runs.
    pub fn slower_than_interval(&self) -> Option<(Duration, Duration)> {
        let timeout = self.timeout?;
        let Schedule { retry, delay_before_retry, delay_loop, .. } = self.schedule;
        let pauses = delay_before_retry.saturating_mul(retry);
        let whole = timeout.saturating_mul(retry.saturating_add(1)).saturating_add(pauses);
        (whole > delay_loop).then_some((whole, delay_loop))
    }

    /// The check for a destination of a service.
    pub fn resolve(
        &self,
        service: &ServiceKey,
        destination: &Destination,
        reporter: &mut Reporter,
    ) -> Option<Check> {
        let kind = match &self.kind {
            Kind::Path(path) => path.resolve(service, destination, self.at, reporter)?,
            Kind::Check(kind) => {
                let mut kind = kind.clone();
                let port = destination.key.port;
                let known = targets(&mut kind).all(|target| {
                    if target.address.port() == 0 {
                        target.address.set_port(port);
                    }
                    target.address.port() != 0
                });
                if !known {
                    let message = format!("{} has no port to connect to", kind.name());
                    reporter
                        .error(Code::MissingArgument, self.at, message)
                        .help("write `connect_port PORT`: the real server has none of its own");
                    return None;
                }
                kind
            }
        };
        Some(Check { kind, schedule: self.schedule.clone() })
    }
}

/// Targets of a check that connects to a port.
fn targets(kind: &mut CheckKind) -> impl Iterator<Item = &mut Target> {
    let targets = match kind {
        CheckKind::Tcp(check) => std::slice::from_mut(&mut check.target),
        CheckKind::Http(check) => std::slice::from_mut(&mut check.target),
        CheckKind::Smtp(check) => check.targets.as_mut_slice(),
        CheckKind::Dns(check) => std::slice::from_mut(&mut check.target),
        CheckKind::Udp(check) => std::slice::from_mut(&mut check.target),
        CheckKind::Agent(check) => std::slice::from_mut(&mut check.target),
        CheckKind::Misc(_)
        | CheckKind::Ping(_)
        | CheckKind::File(_)
        | CheckKind::Bfd(_)
        | CheckKind::Path(_) => &mut [],
    };
    targets.iter_mut()
}

/// `SMTP_CHECK`: the real server itself unless there are hosts alone.
fn smtp(
    item: &Item,
    block: &Block,
    around: &Around<'_>,
    times: &Times,
    reporter: &mut Reporter,
) -> Option<CheckKind> {
    let mut helo = Once::default();
    let mut hosts = Vec::new();
    for line in item.items() {
        match (line.keyword.text.as_str(), line.arguments.first()) {
            ("helo_name", Some(word)) => {
                if let Some(name) = greeting(word, reporter) {
                    helo.keep(line, name, reporter);
                }
            }
            ("host", _) => {
                let mut host = Block::default();
                host.read(line, reporter);
                host.connection.check(around, line, reporter);
                let times = host.timing.over(times);
                hosts.push(host.connection.target(around, &times));
            }
            _ => {}
        }
    }
    let mut targets = Vec::new();
    if hosts.is_empty() || block.connection.is_given() || block.timing.has_timeout() {
        targets.push(block.connection.target(around, times));
    }
    targets.append(&mut hosts);
    let helo_name = helo.get().cloned().unwrap_or_else(|| HELO_NAME.to_owned());
    Some(CheckKind::Smtp(SmtpCheck { targets, helo_name }))
}

/// A name for HELO, which is one word.
fn greeting(word: &Word, reporter: &mut Reporter) -> Option<String> {
    let bad = |c: char| c.is_whitespace() || c.is_control();
    if word.text.is_empty() || word.text.contains(bad) {
        let message = format!("helo_name {} is no host name", quote(&word.text));
        reporter
            .error(Code::InvalidValue, word.extent, message)
            .help("write the name that this host greets with, as in `helo_name lb.example.org`");
        return None;
    }
    Some(word.text.clone())
}

const DNS_TYPES: [(&str, DnsType); 9] = [
    ("A", DnsType::A),
    ("NS", DnsType::Ns),
    ("CNAME", DnsType::Cname),
    ("SOA", DnsType::Soa),
    ("MX", DnsType::Mx),
    ("TXT", DnsType::Txt),
    ("AAAA", DnsType::Aaaa),
    ("RRSIG", DnsType::Rrsig),
    ("DNSKEY", DnsType::Dnskey),
];

/// `DNS_CHECK`.
fn dns(item: &Item, target: Target, reporter: &mut Reporter) -> CheckKind {
    let mut record = Once::default();
    let mut name = Once::default();
    for line in item.items() {
        let Some(word) = line.arguments.first() else { continue };
        match line.keyword.text.as_str() {
            "type" => {
                let upper = Word { text: word.text.to_ascii_uppercase(), ..word.clone() };
                if let Some(known) = value::name("DNS type", &upper, &DNS_TYPES, reporter) {
                    record.set(line, known, reporter);
                }
            }
            "name" => {
                if let Some(given) = dns_name(word, reporter) {
                    name.keep(line, given, reporter);
                }
            }
            _ => {}
        }
    }
    let name = name.get().cloned().unwrap_or_else(|| ".".to_owned());
    CheckKind::Dns(DnsCheck { target, record: record.get().copied().unwrap_or_default(), name })
}

fn dns_name(word: &Word, reporter: &mut Reporter) -> Option<String> {
    let name = word.text.as_str();
    let labels = || name.strip_suffix('.').unwrap_or(name).split('.');
    let wrong = if name == "." {
        return Some(name.to_owned());
    } else if labels().any(str::is_empty) {
        "has an empty label"
    } else if labels().any(|label| label.len() > MAX_DNS_LABEL) {
        "has a label of more than 63 bytes"
    } else if name.len() > MAX_DNS_NAME {
        "has more than 254 bytes"
    } else if name.contains(|c: char| c.is_whitespace() || c.is_control()) {
        "has blanks"
    } else {
        return Some(name.to_owned());
    };
    let message = format!("DNS name {} {wrong}", quote(name));
    reporter
        .error(Code::InvalidValue, word.extent, message)
        .help("write it as example.org, or `.` for the root");
    None
}

/// `MISC_CHECK`.
fn misc(item: &Item, reporter: &mut Reporter) -> Option<CheckKind> {
    let mut command = Once::default();
    let mut refused = false;
    let mut timeout = Once::default();
    let mut dynamic = Once::default();
    let mut user = Once::default();
    for line in item.items() {
        match (line.keyword.text.as_str(), line.arguments.first()) {
            ("misc_path", Some(_)) => match script::alone(line, reporter) {
                Some(script) => command.set(line, script, reporter),
                None => refused = true,
            },
            ("misc_timeout", Some(word)) => {
                let seconds = value::number("misc_timeout", word, 0, MAX_MISC_TIMEOUT, reporter);
                if let Some(seconds) = seconds {
                    timeout.set(line, Duration::from_secs(seconds.into()), reporter);
                }
            }
            ("misc_dynamic", _) => {
                if let Some(on) = value::switch(line, reporter) {
                    dynamic.set(line, on, reporter);
                }
            }
            ("user", Some(_)) => {
                if let Some(name) = script::user(&line.arguments) {
                    user.set(line, name, reporter);
                }
            }
            _ => {}
        }
    }
    let Some(mut script) = command.get().cloned() else {
        if !refused {
            reporter
                .error(Code::MissingArgument, item.head(), "MISC_CHECK has no program to run")
                .help("write `misc_path \"PROGRAM ARGUMENT...\"`");
        }
        return None;
    };
    script.user = user.get().cloned();
    Some(CheckKind::Misc(MiscCheck {
        script,
        timeout: timeout.get().copied().filter(|timeout| !timeout.is_zero()),
        dynamic: dynamic.get() == Some(&true),
    }))
}

#[cfg(test)]
mod tests;
