//! What happened: results of checks, BFD sessions, addresses, connections, and time that passed.
//!
//! **Invariant:** effects of one virtual server come together, its destinations first.
//!
//! Part of [`crate::Monitor`].

use std::net::IpAddr;
use std::time::Duration;

use elvs_model::health::{Finding, Trial};
use elvs_model::{DestinationKey, ServiceKey};

use super::Monitor;
use crate::agenda::{Agenda, ServerId, Timer, UnitId};
use crate::check::{Checkers, Said};
use crate::notes::{Notes, check_mail};
use crate::schedule::Standing;
use crate::server::Server;
use crate::unit::Unit;
use crate::{CheckId, Due, Effect, LogLevel, Start, Time};

impl Monitor {
    pub(super) fn take_due(&mut self, now: Time) -> Due {
        let mut due = Due::default();
        while let Some((at, timer)) = self.agenda.take(now) {
            match timer {
                Timer::Check(id) => {
                    let planned = self.checkers.get_mut(&id).filter(|c| c.next == Some(at));
                    let Some(checker) = planned else { continue };
                    checker.next = None;
                    if let Some(what) = Trial::of(&checker.check) {
                        checker.began = Some(now);
                        due.starts.push(Start { check: id, what });
                    }
                }
                Timer::Server(unit, server) => {
                    due.effects.extend(self.deadline(now, at, unit, server));
                }
            }
        }
        due
    }

    pub(super) fn hear(
        &mut self,
        now: Time,
        id: CheckId,
        finding: &Finding,
        took: Duration,
    ) -> Vec<Effect> {
        let running = self.checkers.get_mut(&id).filter(|checker| checker.began.is_some());
        let Some(checker) = running else { return Vec::new() };
        let before = checker.said;
        checker.ended(now, finding, took);
        if let Some(next) = checker.next {
            self.agenda.enter(next, Timer::Check(id));
        }
        self.spread(now, id, before)
    }

    pub(super) fn hear_session(
        &mut self,
        now: Time,
        instance: &str,
        up: bool,
        words: &str,
    ) -> Vec<Effect> {
        self.sessions.insert(instance.to_owned(), (up, words.to_owned()));
        let mut told: Vec<CheckId> = Vec::new();
        told.extend(
            self.checkers.iter().filter(|(_, c)| c.session() == Some(instance)).map(|c| *c.0),
        );
        told.sort_unstable();
        let mut effects = Vec::new();
        for id in told {
            let Some(checker) = self.checkers.get_mut(&id) else { continue };
            let before = checker.said;
            checker.told(now, up, words);
            effects.extend(self.spread(now, id, before));
        }
        effects
    }

    pub(super) fn hear_address(&mut self, now: Time, address: IpAddr) -> Vec<Effect> {
        let mut effects = Vec::new();
        let mut concerned: Vec<CheckId> = Vec::new();
        for id in &self.order {
            let Some(unit) = self.units.get_mut(id) else { continue };
            if !unit.addresses().any(|own| own == address) {
                continue;
            }
            let suspended = unit.suspends(&self.vips);
            if suspended == unit.suspended {
                continue;
            }
            unit.suspended = suspended;
            let mut notes = Notes::new(&unit.name);
            let message = if suspended {
                format!("checks suspended: {address} is not on this host")
            } else {
                format!("checks resumed: {address} is on this host")
            };
            notes.log(LogLevel::Info, message);
            effects.extend(notes.into_effects());
            concerned.extend(unit.servers.iter().flat_map(Server::asked));
        }
        for id in concerned {
            self.suspend_or_resume(now, id);
        }
        effects
    }

    pub(super) fn hear_sample(
        &mut self,
        now: Time,
        service: &ServiceKey,
        destination: &DestinationKey,
        new: u64,
        failed: u64,
    ) -> Vec<Effect> {
        let Some((id, unit)) =
            self.by_service.get(service).and_then(|id| Some((*id, self.units.get_mut(id)?)))
        else {
            return Vec::new();
        };
        let Some(index) = unit.services().position(|key| key == service) else {
            return Vec::new();
        };
        let named = |server: &&mut Server| {
            let own = server.destinations.get(index).copied().flatten();
            server.alive && own.is_some_and(|own| own.key == *destination)
        };
        let Some(server) = unit.servers.iter_mut().find(named) else { return Vec::new() };
        server.sample(now, new, failed);
        let server = server.id;
        let mut others = unit.servers.iter().filter(|other| other.alive && other.id != server);
        // The last one stays: nobody is there to take its place.
        let Some(first) = others.next() else { return Vec::new() };
        let sums = others.map(|other| other.window.sums());
        let others = sums.fold(first.window.sums(), |(new, failed), sums| {
            (new.saturating_add(sums.0), failed.saturating_add(sums.1))
        });
        let named = unit.servers.iter_mut().find(|named| named.id == server);
        if !named.is_some_and(|named| named.suspect(now, others)) {
            return Vec::new();
        }
        let mut notes = Notes::new(&unit.name);
        unit.review_and_mail(now, server, &self.checkers, &mut notes);
        arm(&mut self.agenda, now, id, unit, server);
        told(unit, true, notes)
    }

    pub(super) fn stop(&mut self, now: Time) -> Vec<Effect> {
        let mut effects = Vec::new();
        for id in &self.order {
            let Some(unit) = self.units.get_mut(id) else { continue };
            let mut notes = Notes::new(&unit.name);
            unit.stop(now, &mut notes);
            effects.extend(notes.into_effects());
        }
        effects
    }

    /// Makes a check run or rest, by whether anybody who shares it wants it to run.
    pub(super) fn suspend_or_resume(&mut self, now: Time, id: CheckId) {
        let Some(checker) = self.checkers.get_mut(&id) else { return };
        let wants = |(unit, _): &(UnitId, ServerId)| {
            self.units.get(unit).is_some_and(|unit| !unit.suspended)
        };
        checker.suspended = !checker.shared_by.iter().any(wants);
        if checker.suspended {
            checker.next = None;
        } else if checker.next.is_none() && checker.began.is_none() && checker.runs() {
            let first = now + self.random.up_to(checker.warmup());
            checker.next = Some(first);
            self.agenda.enter(first, Timer::Check(id));
        }
    }

    /// Tells the real servers that share a check what it says now; `before` is what it said.
    fn spread(&mut self, now: Time, id: CheckId, before: Said) -> Vec<Effect> {
        let Some(checker) = self.checkers.get(&id) else { return Vec::new() };
        let after = checker.said;
        let changed = after.tries.standing != before.tries.standing
            || (after.weight, after.agent) != (before.weight, before.agent);
        let retried = checker.record.failures_in_row > 0
            && after.tries.standing != Standing::Down
            && checker.check.schedule.log_all_failures;
        if !changed && !retried {
            return Vec::new();
        }
        let mut effects = Vec::new();
        for (unit_id, server) in &checker.shared_by {
            let Some(unit) = self.units.get_mut(unit_id) else { continue };
            let notes = Notes::new(&unit.name);
            let news = News { now, id, before, server: *server };
            let (reviewed, notes) = news.tell(unit, &self.checkers, notes);
            arm(&mut self.agenda, now, *unit_id, unit, *server);
            effects.extend(told(unit, reviewed, notes));
        }
        effects
    }

    fn deadline(&mut self, now: Time, at: Time, id: UnitId, server: ServerId) -> Vec<Effect> {
        let Some(unit) = self.units.get_mut(&id) else { return Vec::new() };
        let mut notes = Notes::new(&unit.name);
        let Some(found) = unit.server_mut(server).filter(|found| found.wake == Some(at)) else {
            return Vec::new();
        };
        found.wake = None;
        if found.times.leaving.is_some_and(|leaving| leaving <= now) {
            notes.log_server(LogLevel::Info, &found.name, "drained".to_owned());
            unit.servers.retain(|other| other.id != server);
        } else {
            found.climb(now);
            unit.review_and_mail(now, server, &self.checkers, &mut notes);
            arm(&mut self.agenda, now, id, unit, server);
        }
        told(unit, true, notes)
    }
}

/// What a check says now, for one real server that shares it.
struct News {
    now: Time,
    id: CheckId,
    before: Said,
    server: ServerId,
}

impl News {
    /// Tells whether the table may have changed.
    fn tell(&self, unit: &mut Unit, checkers: &Checkers, mut notes: Notes) -> (bool, Notes) {
        let Some(checker) = checkers.get(&self.id) else { return (false, notes) };
        let Some(server) = unit.server_mut(self.server) else { return (false, notes) };
        let Some(asked) = server.checks.iter().find(|asked| asked.check == self.id) else {
            return (false, notes);
        };
        let (was_up, is_up) = (asked.up(&self.before), asked.up(&checker.said));
        let told_down = asked.told_down;
        let words = &checker.record.words;
        let (name, kind) = (server.name.clone(), checker.check.kind.name());
        let standing = (self.before.tries.standing, checker.said.tries.standing);
        if standing.0 != standing.1 || was_up != is_up {
            let retries = checker.check.retries().unwrap_or_default();
            let (level, message) = if is_up {
                (LogLevel::Info, format!("passed: {words}"))
            } else if standing == (Standing::Up, Standing::Down) && retries > 0 {
                (LogLevel::Warn, format!("failed after {retries} retries: {words}"))
            } else {
                (LogLevel::Warn, format!("failed: {words}"))
            };
            notes.log_check(level, &name, kind, message);
        } else if checker.said.tries.retries_next() {
            let delay = checker.check.schedule.delay_before_retry;
            let message = format!("failed, tried again in {delay:?}: {words}");
            notes.log_check(LogLevel::Info, &name, kind, message);
        }
        let alive = server.alive;
        let weight = server.full_weight();
        unit.review(self.now, self.server, checkers, &mut notes);
        let Some(server) = unit.server_mut(self.server) else { return (true, notes) };
        // keepalived, update_svr_checker_state(): a first failure is told though nobody took it for alive.
        let first_failure =
            standing == (Standing::Unknown, Standing::Down) && !was_up && !alive && !told_down;
        if first_failure && !server.alive {
            notes.server(&name, &server.health, false);
        }
        if was_up != is_up
            && server.health.mail
            && let Some(body) = check_mail(&checker.check.kind, is_up, words)
        {
            notes.server_mail(&name, server.alive, body);
        }
        (alive != server.alive || weight != server.full_weight(), notes)
    }
}

/// Enters the earliest deadline of a real server in the agenda.
pub(super) fn arm(agenda: &mut Agenda, now: Time, id: UnitId, unit: &mut Unit, server: ServerId) {
    let Some(server) = unit.server_mut(server) else { return };
    let Some(deadline) = server.deadline(now) else { return };
    // One that comes earlier stays: events must not put off the steps of a slow start.
    if server.wake.is_none_or(|wake| deadline < wake) {
        server.wake = Some(deadline);
        agenda.enter(deadline, Timer::Server(id, server.id));
    }
}

/// The effects of one virtual server: its destinations first, if they may have changed.
fn told(unit: &mut Unit, table: bool, notes: Notes) -> Vec<Effect> {
    let mut effects = if table { unit.publish() } else { Vec::new() };
    effects.extend(notes.into_effects());
    effects
}
