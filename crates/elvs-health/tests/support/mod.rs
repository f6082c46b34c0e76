//! A monitor with a simulated clock, and configurations for it.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::print_stdout,
    reason = "tests fail loudly"
)]
#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use elvs_health::{CheckId, Effect, Monitor, Notice, Start, Time};
use elvs_model::health::{
    Check, CheckKind, Finding, Schedule, Script, ServerHealth, ServiceHealth, SorryServer, Target,
    TcpCheck, Trial,
};
use elvs_model::{
    Desired, DesiredService, Destination, DestinationKey, ForwardingMethod, LocalAddresses,
    Protocol, Scheduler, ServiceKey, VirtualService,
};

pub fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn key(address: &str, port: u16) -> ServiceKey {
    ServiceKey::Address { protocol: Protocol::Tcp, address: ip(address), port }
}

pub fn destination(address: &str, port: u16, weight: u32) -> Destination {
    Destination {
        key: DestinationKey { address: ip(address), port },
        method: ForwardingMethod::Dr,
        weight,
        upper_threshold: 0,
        lower_threshold: 0,
    }
}

/// `delay_loop 10 retry 1 delay_before_retry 2 warmup 0`.
pub fn schedule() -> Schedule {
    Schedule {
        delay_loop: seconds(10),
        retry: 1,
        delay_before_retry: seconds(2),
        warmup: Some(Duration::ZERO),
        alpha: false,
        log_all_failures: false,
    }
}

pub fn target(address: &str, port: u16) -> Target {
    Target {
        address: SocketAddr::new(ip(address), port),
        source: None,
        source_port: None,
        interface: None,
        mark: 0,
        timeout: seconds(5),
    }
}

pub fn tcp_kind(address: &str, port: u16) -> CheckKind {
    CheckKind::Tcp(TcpCheck { target: target(address, port) })
}

pub fn tcp(address: &str, port: u16) -> Check {
    Check { kind: tcp_kind(address, port), schedule: schedule() }
}

pub fn script(word: &str) -> Script {
    Script { words: vec![word.to_owned()], user: None }
}

/// A service on 10.0.0.100:80 with `TCP_CHECK` of the real servers `10.0.0.<last>` of weight 1.
pub fn service(lasts: &[u8]) -> DesiredService {
    let addresses: Vec<String> = lasts.iter().map(|last| format!("10.0.0.{last}")).collect();
    let mut service = bare(key("10.0.0.100", 80));
    for address in &addresses {
        let destination = destination(address, 80, 1);
        service.destinations.push(destination);
        let mut health = ServerHealth::unwatched(destination.key);
        health.checks.push(tcp(address, 80));
        service.health.servers.push(health);
    }
    service
}

pub fn bare(key: ServiceKey) -> DesiredService {
    DesiredService {
        service: VirtualService::new(key, Scheduler::Wrr),
        destinations: Vec::new(),
        local_addresses: LocalAddresses::default(),
        health: ServiceHealth::default(),
    }
}

pub fn sorry(address: &str, inhibit: bool) -> Option<SorryServer> {
    Some(SorryServer { destination: destination(address, 80, 1), inhibit })
}

pub fn desired(services: Vec<DesiredService>) -> Desired {
    Desired { services, ..Desired::default() }
}

/// A monitor, its time, and real servers that work or not.
pub struct World {
    pub monitor: Monitor,
    pub now: Time,
    pub desired: Desired,
    /// Addresses of real servers that do not work.
    pub dead: Vec<IpAddr>,
    /// What happened, in words.
    pub told: Vec<String>,
    /// The table, kept by the effects alone.
    pub table: HashMap<ServiceKey, Vec<Destination>>,
    /// Runs that have not ended: when they will, and what was started.
    pub running: Vec<(Time, Start)>,
    /// Times at which runs of each check began.
    pub began: HashMap<CheckId, Vec<Time>>,
    /// How long a run takes.
    pub takes: Duration,
}

/// The wall clock when the monotonic one shows 0.
pub const WALL: u64 = 1_800_000_000_000;

impl World {
    pub fn new(desired: Desired) -> Self {
        let mut world = Self {
            monitor: Monitor::new(7),
            now: Duration::ZERO,
            desired: Desired::default(),
            dead: Vec::new(),
            told: Vec::new(),
            table: HashMap::new(),
            running: Vec::new(),
            began: HashMap::new(),
            takes: Duration::ZERO,
        };
        world.configure(desired);
        world
    }

    pub fn wall(&self) -> u64 {
        WALL + u64::try_from(self.now.as_millis()).unwrap()
    }

    pub fn configure(&mut self, desired: Desired) {
        let effects = self.monitor.configure(self.now, &desired);
        for effect in &effects {
            assert!(!matches!(effect, Effect::Destinations { .. }), "configure tells no table");
        }
        self.table = self
            .monitor
            .effective(&desired)
            .services
            .into_iter()
            .map(|service| (service.service.key, service.destinations))
            .collect();
        self.desired = desired;
        self.take(effects);
    }

    pub fn kill(&mut self, address: &str) {
        self.dead.push(ip(address));
    }

    pub fn revive(&mut self, address: &str) {
        self.dead.retain(|dead| *dead != ip(address));
    }

    /// Lets time pass: checks run, and end with what the real servers are at that time.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let ends = self.running.iter().map(|(at, _)| *at).min();
            let next = ends.into_iter().chain(self.monitor.next_due()).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            self.end_runs();
            let due = self.monitor.due(self.now);
            self.take(due.effects);
            for start in due.starts {
                self.began.entry(start.check).or_default().push(self.now);
                self.running.push((self.now + self.takes, start));
            }
            self.end_runs();
        }
        self.now = end;
    }

    fn end_runs(&mut self) {
        let (ended, running): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.running).into_iter().partition(|(at, _)| *at <= self.now);
        self.running = running;
        for (_, start) in ended {
            let finding = self.finding(&start.what);
            let effects = self.monitor.finished(self.now, start.check, &finding, self.takes);
            self.take(effects);
        }
    }

    fn finding(&self, what: &Trial) -> Finding {
        let address = match what {
            Trial::Tcp(check) => check.target.address.ip(),
            Trial::Http(check) => check.target.address.ip(),
            Trial::Ping(check) => check.target.address.ip(),
            other => panic!("no finding for {other:?}"),
        };
        if self.dead.contains(&address) {
            Finding::failed("connection refused")
        } else {
            Finding::passed("connected")
        }
    }

    /// Applies effects, and writes down what they tell.
    pub fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            let line = match effect {
                Effect::Destinations { service, destinations } => {
                    let line = format!("table {}", weights(&destinations));
                    self.table.insert(service, destinations);
                    line
                }
                Effect::Notify(Notice::Script { about, script }) => {
                    format!("script {} of {about}", script.words[0])
                }
                Effect::Notify(Notice::Fifo(line)) => format!("fifo {line}"),
                Effect::Notify(Notice::Mail { subject, body }) => format!("mail {subject}: {body}"),
                Effect::Log(line) => {
                    let names = [line.server.as_deref(), line.check];
                    let names = names.into_iter().flatten().map(|name| format!("{name} "));
                    format!("log {}{}", names.collect::<String>(), line.message)
                }
            };
            self.told.push(line);
        }
    }

    /// What was told since the last call, without log lines.
    pub fn news(&mut self) -> Vec<String> {
        let told = std::mem::take(&mut self.told);
        told.into_iter().filter(|line| !line.starts_with("log ")).collect()
    }

    /// What was told since the last call.
    pub fn all_news(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }

    /// Destinations of the first service: last byte of the address and weight.
    pub fn destinations(&self) -> String {
        weights(&self.table[&self.desired.services[0].service.key])
    }
}

/// `21:1 22:3`.
pub fn weights(destinations: &[Destination]) -> String {
    let one = |destination: &Destination| {
        let address = destination.key.address.to_string();
        let last = address.rsplit(['.', ':']).next().unwrap().to_owned();
        format!("{last}:{}", destination.weight)
    };
    destinations.iter().map(one).collect::<Vec<_>>().join(" ")
}
