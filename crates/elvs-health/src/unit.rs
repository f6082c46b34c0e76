//! A virtual server: its quorum, its sorry server, and the destinations that follow.
//!
//! **Invariant:** a real server is among the destinations if it is alive and the sorry server does not stand in, or if its
//! failure is shown by weight 0; whoever comes back comes last.
//!
//! Called by the monitor.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;

use elvs_model::health::{ServiceHealth, Watched};
use elvs_model::{DesiredService, Destination, DestinationKey, ServiceKey};

use crate::agenda::ServerId;
use crate::check::Checkers;
use crate::clock::Moment;
use crate::history::{Entry, remember};
use crate::notes::{Notes, Occasion, REMOVING, SHUTTING_DOWN};
use crate::server::Server;
use crate::state::Tell;
use crate::{Effect, LogLevel, Time};

/// A virtual server.
#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) watched: Watched,
    pub(crate) name: String,
    /// What it was configured by: one service, or those of its group.
    pub(crate) config: Vec<DesiredService>,
    /// Quorum and hysteresis, as far as the real servers can reach them.
    pub(crate) quorum: u32,
    pub(crate) hysteresis: u32,
    pub(crate) servers: Vec<Server>,
    pub(crate) up: bool,
    pub(crate) since: Moment,
    pub(crate) history: VecDeque<Entry<bool>>,
    /// Its checks do not run: `ha_suspend`.
    pub(crate) suspended: bool,
    /// Who is among the destinations, the newest last.
    pub(crate) members: Vec<Member>,
    /// What was last said of each service's destinations.
    pub(crate) published: Vec<Vec<Destination>>,
}

/// When weight is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    /// The virtual server is new, and nothing of it was restored.
    Begins,
    /// It was configured again.
    Configured,
    /// It runs.
    Runs,
}

/// One of the destinations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Member {
    Server(ServerId),
    Sorry,
}

impl Unit {
    /// A virtual server of which nothing is configured yet.
    pub(crate) fn new(watched: Watched, now: Time) -> Self {
        Self {
            watched,
            name: String::new(),
            config: Vec::new(),
            quorum: 1,
            hysteresis: 0,
            servers: Vec::new(),
            up: false,
            since: Moment::from(now),
            history: VecDeque::new(),
            suspended: false,
            members: Vec::new(),
            published: Vec::new(),
        }
    }

    /// Health as configured; that of the first service of a group counts.
    pub(crate) fn health(&self) -> Option<&ServiceHealth> {
        self.config.first().map(|service| &service.health)
    }

    /// Its services.
    pub(crate) fn services(&self) -> impl Iterator<Item = &ServiceKey> {
        self.config.iter().map(|service| &service.service.key)
    }

    /// Its virtual addresses; a firewall mark has none.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.services().filter_map(|key| match key {
            ServiceKey::Address { address, .. } => Some(*address),
            ServiceKey::Fwmark { .. } => None,
        })
    }

    /// Whether its checks rest while only `present` are addresses of this host.
    pub(crate) fn suspends(&self, present: &HashSet<IpAddr>) -> bool {
        let mut addresses = self.addresses().peekable();
        self.health().is_some_and(|health| health.ha_suspend)
            && addresses.peek().is_some()
            && !addresses.any(|address| present.contains(&address))
    }

    /// Its destinations with passive checks.
    pub(crate) fn passive(&self) -> impl Iterator<Item = (ServiceKey, DestinationKey)> {
        let watched = |server: &&Server| server.health.passive.is_some();
        let servers = self.servers.iter().filter(watched);
        servers.flat_map(|server| {
            let pairs = self.services().zip(&server.destinations);
            pairs.filter_map(|(service, own)| Some((*service, own.as_ref()?.key)))
        })
    }

    /// Whether the sorry server takes the traffic.
    pub(crate) fn sorry_in_use(&self) -> bool {
        !self.up && self.health().is_some_and(|health| health.sorry_server.is_some())
    }

    /// Weight of the real servers that are alive.
    pub(crate) fn weight(&self) -> u64 {
        let alive = self.servers.iter().filter(|server| server.alive);
        alive.map(|server| u64::from(server.full_weight())).sum()
    }

    /// Whether a real server is among the destinations.
    pub(crate) fn is_member(&self, id: ServerId) -> bool {
        self.members.contains(&Member::Server(id))
    }

    /// A real server.
    pub(crate) fn server_mut(&mut self, id: ServerId) -> Option<&mut Server> {
        self.servers.iter_mut().find(|server| server.id == id)
    }

    /// Judges a real server anew, after anything that concerns it; tells what follows, and whether it became alive or
    /// ceased to be.
    pub(crate) fn review(
        &mut self,
        now: Time,
        id: ServerId,
        checkers: &Checkers,
        notes: &mut Notes,
    ) -> bool {
        let Some(server) = self.servers.iter_mut().find(|server| server.id == id) else {
            return false;
        };
        // A deadline of its time in the configuration may still come; it has no checks any more that could fail.
        if server.times.leaving.is_some() {
            return false;
        }
        let verdict = server.ask(checkers);
        let old = server.full_weight();
        server.adjust = verdict.adjust;
        let new = server.full_weight();
        if old != new {
            let rest = if server.alive { "" } else { ", once it is alive" };
            let message = format!("weight changes from {old} to {new}{rest}");
            notes.log_server(LogLevel::Info, &server.name, message);
        }
        let alive = server.judge(now, &verdict);
        let changed = alive != server.alive;
        if changed {
            server.become_alive(now, alive);
        }
        let (state, reason) = server.present_state(verdict);
        if changed {
            let inhibit = server.health.inhibit_on_failure;
            let (level, verb) = match (alive, inhibit) {
                (true, true) => (LogLevel::Info, "enabled"),
                (true, false) => (LogLevel::Info, "added"),
                (false, true) => (LogLevel::Warn, "disabled"),
                (false, false) => (LogLevel::Warn, "removed"),
            };
            notes.log_server(level, &server.name, format!("{verb}: {reason}"));
            notes.server(&server.name, &server.health, alive);
        }
        server.show(now, state, reason);
        if changed || old != new {
            self.count(now, Count::Runs, notes);
        }
        changed
    }

    /// As [`Self::review`], where no check says anything that would be mailed.
    pub(crate) fn review_and_mail(
        &mut self,
        now: Time,
        id: ServerId,
        checkers: &Checkers,
        notes: &mut Notes,
    ) {
        let changed = self.review(now, id, checkers, notes);
        if let Some(server) = self.server_mut(id).filter(|s| changed && s.health.mail) {
            notes.server_mail(&server.name, server.alive, format!("=> {} <=", server.reason));
        }
    }

    /// Counts the weight that is alive: the quorum may be gained or lost.
    pub(crate) fn count(&mut self, now: Time, when: Count, notes: &mut Notes) {
        let weight = self.weight();
        let (quorum, hysteresis) = (self.quorum, self.hysteresis);
        let gained_at = u64::from(quorum) + u64::from(hysteresis);
        // At least 1, for the hysteresis is below the quorum: without any weight the quorum is lost.
        let lost_below = u64::from(quorum.saturating_sub(hysteresis));
        let up = weight >= if self.up { lost_below } else { gained_at };
        // While no check has run nothing is known that could be told, but for the sorry server that comes in.
        let known_down =
            when == Count::Begins && self.servers.iter().any(|server| server.times.fell);
        let starts_down = !up && self.history.is_empty() && (known_down || self.has_sorry());
        if up == self.up && !starts_down {
            return;
        }
        let threshold = if up { gained_at } else { lost_below };
        let first = when != Count::Runs;
        let occasion = Occasion::Change { first, quorum, hysteresis, threshold, weight };
        let gained = match (up, starts_down) {
            (true, _) => "gained",
            (false, true) => "missing",
            (false, false) => "lost",
        };
        let reason = format!("quorum {gained}: weight {weight}, {threshold} needed");
        let level = if up { LogLevel::Info } else { LogLevel::Warn };
        notes.log(level, reason.clone());
        // At the first count the sorry server has not been there, so there is none to be removed.
        if !(up && self.history.is_empty()) {
            self.log_sorry(up, notes);
        }
        self.up = up;
        self.since = Moment::from(now);
        remember(&mut self.history, Entry { at: self.since, state: up, reason });
        if let Some(health) = self.health() {
            notes.quorum(health, up, occasion);
        }
    }

    /// The daemon stops: what `omega` asks for.
    pub(crate) fn stop(&mut self, now: Time, notes: &mut Notes) {
        let Some(health) = self.config.first().map(|service| service.health.clone()) else {
            return;
        };
        for server in self.servers.iter_mut().filter(|server| server.times.leaving.is_none()) {
            let inhibited = server.health.inhibit_on_failure && !server.alive;
            let rest = if inhibited { " (disabled)" } else { "" };
            let message = format!("shut down{rest}");
            notes.log_server(LogLevel::Info, &server.name, message);
            if std::mem::take(&mut server.alive) && health.omega {
                notes.server(&server.name, &server.health, false);
                if server.health.mail {
                    notes.server_mail(&server.name, false, SHUTTING_DOWN.to_owned());
                }
            }
        }
        self.up = false;
        self.since = Moment::from(now);
        if health.omega {
            notes.quorum(&health, false, Occasion::Stop);
        }
    }

    /// The daemon began again after an orderly end: how things stand, as they were restored.
    pub(crate) fn tell_again(&self, tell: Tell, notes: &mut Notes) {
        let Some(health) = self.health() else { return };
        for server in &self.servers {
            // One that is not alive and never failed has not been told of yet.
            let told = server.alive && tell == Tell::Everything;
            if told || (!server.alive && server.times.fell) {
                notes.server(&server.name, &server.health, server.alive);
            }
        }
        // At an empty history nothing was told yet.
        if !self.history.is_empty() {
            let (quorum, hysteresis) = (self.quorum, self.hysteresis);
            let threshold = u64::from(quorum) + u64::from(hysteresis);
            let weight = self.weight();
            let first = true;
            let occasion = Occasion::Change { first, quorum, hysteresis, threshold, weight };
            notes.quorum(health, self.up, occasion);
        }
    }

    /// A real server goes out of the configuration.
    pub(crate) fn tell_removed(server: &Server, notes: &mut Notes) {
        if server.times.leaving.is_some() {
            return;
        }
        notes.log_server(LogLevel::Info, &server.name, "removed from the configuration".to_owned());
        if server.alive {
            notes.server(&server.name, &server.health, false);
            if server.health.mail {
                notes.server_mail(&server.name, false, REMOVING.to_owned());
            }
        }
    }

    /// Works out who is among the destinations now; tells which services' destinations changed.
    pub(crate) fn publish(&mut self) -> Vec<Effect> {
        self.settle();
        let mut effects = Vec::new();
        for (index, service) in self.config.iter().enumerate() {
            let destinations = self.render(index);
            if self.published.get(index) != Some(&destinations) {
                let service = service.service.key;
                effects.push(Effect::Destinations { service, destinations: destinations.clone() });
                self.published.resize(self.published.len().max(index + 1), Vec::new());
                if let Some(published) = self.published.get_mut(index) {
                    *published = destinations;
                }
            }
        }
        self.published.truncate(self.config.len());
        effects
    }

    fn has_sorry(&self) -> bool {
        self.health().is_some_and(|health| health.sorry_server.is_some())
    }

    fn log_sorry(&self, up: bool, notes: &mut Notes) {
        let Some(sorry) = self.health().and_then(|health| health.sorry_server.as_ref()) else {
            return;
        };
        let name = crate::names::server(&self.watched, &sorry.destination.key);
        let (verb, others) = match (up, sorry.inhibit) {
            (true, false) => ("removed", "added"),
            (true, true) => ("disabled", "added"),
            (false, false) => ("added", "removed"),
            (false, true) => ("enabled", "removed"),
        };
        notes.log_server(LogLevel::Info, &name, format!("sorry server {verb}"));
        notes.log(LogLevel::Info, format!("alive real servers {others}"));
    }

    /// Takes out of the members who does not belong there, and adds who does, in the order of the file.
    fn settle(&mut self) {
        let sorry_in_use = self.sorry_in_use();
        let inhibit = self.health().and_then(|health| health.sorry_server.as_ref());
        let sorry = sorry_in_use || inhibit.is_some_and(|sorry| sorry.inhibit);
        let belongs = |server: &Server| {
            (server.alive && !sorry_in_use)
                || server.health.inhibit_on_failure
                || server.times.leaving.is_some()
        };
        let servers = self.servers.iter().filter(|server| belongs(server));
        let mut wanted: Vec<Member> = servers.map(|server| Member::Server(server.id)).collect();
        if sorry {
            wanted.push(Member::Sorry);
        }
        let belong: HashSet<Member> = wanted.iter().copied().collect();
        self.members.retain(|member| belong.contains(member));
        let there: HashSet<Member> = self.members.iter().copied().collect();
        self.members.extend(wanted.into_iter().filter(|member| !there.contains(member)));
    }

    /// Destinations of one of its services.
    fn render(&self, index: usize) -> Vec<Destination> {
        let sorry_in_use = self.sorry_in_use();
        let sorry = self.config.get(index).and_then(|s| s.health.sorry_server.as_ref());
        let mut seen: HashSet<DestinationKey> = HashSet::with_capacity(self.members.len());
        // A real server may be the sorry server too: then what is in use counts.
        let twice = sorry.map(|sorry| sorry.destination.key);
        let by_id: HashMap<ServerId, &Server> =
            self.servers.iter().map(|server| (server.id, server)).collect();
        let destination = |member: &Member| match member {
            Member::Server(id) => {
                let server = by_id.get(id)?;
                let destination = (*server.destinations.get(index)?)?;
                let weight = self.weight_now(server, destination.weight).unwrap_or(0);
                let stands_in = sorry_in_use && twice == Some(destination.key);
                (!stands_in).then_some(Destination { weight, ..destination })
            }
            Member::Sorry => {
                let destination = sorry?.destination;
                let own = |server: &&Server| {
                    let own = server.destinations.get(index).copied().flatten();
                    self.is_member(server.id) && own.is_some_and(|own| own.key == destination.key)
                };
                if !sorry_in_use && self.servers.iter().any(|server| own(&server)) {
                    return None;
                }
                let weight = if sorry_in_use { destination.weight } else { 0 };
                Some(Destination { weight, ..destination })
            }
        };
        let all = self.members.iter().filter_map(destination);
        all.filter(|destination| seen.insert(destination.key)).collect()
    }

    /// Weight that a real server is scheduled with, if it gets new connections.
    fn weight_now(&self, server: &Server, configured: u32) -> Option<u32> {
        let scheduled = server.alive && !self.sorry_in_use();
        scheduled.then(|| server.scheduled_weight(configured))
    }

    /// Weight that a real server has in the table; `None` = it is not there.
    pub(crate) fn weight_in_table(&self, server: &Server) -> Option<u32> {
        let member = self.members.contains(&Member::Server(server.id));
        member.then(|| self.weight_now(server, server.configured_weight()).unwrap_or(0))
    }
}
