//! State that outlives a restart: what is saved, and what becomes of it at the next start.
//!
//! **Invariant:** a state that was saved and restored gives the same destinations for the same configuration, and tells
//! nobody of anything, unless it was saved at an orderly end.
//!
//! Part of [`crate::Monitor`].

use std::collections::HashMap;

use elvs_model::DestinationKey;
use elvs_model::health::{Check, ServerState, Watched};

use super::Monitor;
use crate::check::{Checker, Record};
use crate::clock::Clock;
use crate::history;
use crate::server::{Ramp, Server, Times};
use crate::state::{SavedCheck, SavedServer, SavedState, SavedWatched, Tell, fingerprint};
use crate::unit::{Member, Unit};

/// What an earlier daemon knew.
#[derive(Debug, Default)]
pub(super) struct Restored {
    watched: HashMap<Watched, SavedWatched>,
    checks: HashMap<u64, SavedCheck>,
    clock: Option<Clock>,
}

impl Restored {
    pub(super) fn new(saved: SavedState, clock: Clock) -> Self {
        Self {
            watched: saved.watched.into_iter().map(|unit| (unit.watched.clone(), unit)).collect(),
            checks: saved.checks.into_iter().map(|check| (check.fingerprint, check)).collect(),
            clock: Some(clock),
        }
    }

    /// Gives a new check the results it had; tells whether there were any.
    pub(super) fn fill_check(&self, checker: &mut Checker) -> bool {
        let Some(clock) = self.clock else { return false };
        if self.checks.is_empty() {
            return false;
        }
        let Some(saved) = self.checks.get(&fingerprint(&checker.check)) else { return false };
        checker.said = saved.said;
        checker.record = Record {
            words: saved.words.clone(),
            since: clock.moment_of(saved.since),
            ended: saved.ended.map(|ended| clock.moment_of(ended)),
            took: None,
            runs: saved.runs,
            failures: saved.failures,
            failures_in_row: saved.failures_in_row,
        };
        true
    }

    /// What was known of a virtual server.
    pub(super) fn take_unit(&mut self, watched: &Watched) -> Option<RestoredUnit> {
        let (mut unit, clock) = (self.watched.remove(watched)?, self.clock?);
        let servers = unit.servers.drain(..).map(|server| (server.key, server)).collect();
        Some(RestoredUnit { unit, servers, clock })
    }
}

/// What an earlier daemon knew of a virtual server.
pub(super) struct RestoredUnit {
    unit: SavedWatched,
    servers: HashMap<DestinationKey, SavedServer>,
    clock: Clock,
}

impl RestoredUnit {
    /// What was known of one of its real servers.
    pub(super) fn take_server(&mut self, key: &DestinationKey) -> Option<(SavedServer, Clock)> {
        Some((self.servers.remove(key)?, self.clock))
    }

    /// What is to be told of again.
    pub(super) const fn tell(&self) -> Option<Tell> {
        self.unit.tell
    }

    /// Gives a new virtual server the state it had; its real servers are those of the configuration.
    pub(super) fn fill_unit(self, unit: &mut Unit) {
        let (saved, clock) = (self.unit, self.clock);
        unit.up = saved.up;
        unit.since = clock.moment_of(saved.since);
        unit.history = history::restored(saved.history, clock);
        let ids: HashMap<DestinationKey, Member> =
            unit.servers.iter().map(|server| (server.key(), Member::Server(server.id))).collect();
        let member = |key: &Option<DestinationKey>| match key {
            Some(key) => ids.get(key).copied(),
            None => Some(Member::Sorry),
        };
        unit.members = saved.members.iter().filter_map(member).collect();
    }
}

impl SavedServer {
    /// Gives a new real server the state it had.
    pub(super) fn fill_server(self, server: &mut Server, clock: Clock) {
        server.alive = self.alive;
        server.state = self.state;
        server.since = clock.moment_of(self.since);
        server.reason = self.reason;
        server.history = history::restored(self.history, clock);
        let whole = server.health.slow_start;
        server.times = Times {
            fell: self.fell,
            flaps: self.flaps,
            penalty: self.penalty,
            recovered: self.recovered.map(|at| clock.moment_of(at)),
            held_until: self.held_until.map(|at| clock.deadline_of(at)),
            suspect_until: self.suspect_until.map(|at| clock.deadline_of(at)),
            ramp: self.ramp.zip(whole).map(|(began, whole)| {
                let began = clock.moment_of(began);
                Ramp { began, reached: began.until(clock.now), whole }
            }),
            leaving: None,
        };
        server.climb(clock.now);
    }
}

impl Monitor {
    pub(super) fn saved(&self, clock: Clock) -> SavedState {
        let units = self.order.iter().filter_map(|id| self.units.get(id));
        let mut checks: Vec<_> = self.checkers.iter().collect();
        checks.sort_unstable_by_key(|(id, _)| **id);
        SavedState {
            watched: units.map(|unit| self.saved_unit(unit, clock)).collect(),
            checks: checks.into_iter().map(|(_, checker)| saved_check(checker, clock)).collect(),
        }
    }

    pub(super) fn saved_at_end(&self, clock: Clock, goes_on: bool) -> SavedState {
        let mut saved = self.saved(clock);
        let units = self.order.iter().filter_map(|id| self.units.get(id));
        for (watched, unit) in saved.watched.iter_mut().zip(units) {
            watched.tell = match (unit.health().is_some_and(|health| health.omega), goes_on) {
                (true, _) => Some(Tell::Everything),
                (false, false) => Some(Tell::Standing),
                (false, true) => None,
            };
        }
        saved
    }

    fn saved_unit(&self, unit: &Unit, clock: Clock) -> SavedWatched {
        let staying = unit.servers.iter().filter(|server| server.times.leaving.is_none());
        let key = |member: &Member| match member {
            Member::Sorry => Some(None),
            Member::Server(id) => {
                let server = unit.servers.iter().find(|server| server.id == *id)?;
                Some(Some(server.key()))
            }
        };
        SavedWatched {
            watched: unit.watched.clone(),
            up: unit.up,
            since: clock.wall_of(unit.since),
            history: history::shown(&unit.history, clock),
            servers: staying.map(|server| self.saved_server(server, clock)).collect(),
            members: unit.members.iter().filter_map(key).collect(),
            tell: None,
        }
    }

    fn saved_server(&self, server: &Server, clock: Clock) -> SavedServer {
        let times = &server.times;
        let down = server.ask(&self.checkers).down;
        SavedServer {
            key: server.key(),
            alive: server.alive,
            passes: down.is_none_or(|(state, _)| state != ServerState::Down),
            state: server.state,
            since: clock.wall_of(server.since),
            reason: server.reason.clone(),
            history: history::shown(&server.history, clock),
            fell: times.fell,
            flaps: times.flaps,
            penalty: times.penalty,
            recovered: times.recovered.map(|at| clock.wall_of(at)),
            held_until: times.held_until.map(|at| clock.wall_at(at)),
            suspect_until: times.suspect_until.map(|at| clock.wall_at(at)),
            ramp: times.ramp.map(|ramp| clock.wall_of(ramp.began)),
        }
    }
}

fn saved_check(checker: &Checker, clock: Clock) -> SavedCheck {
    let check: &Check = &checker.check;
    let record = &checker.record;
    SavedCheck {
        fingerprint: fingerprint(check),
        said: checker.said,
        words: record.words.clone(),
        since: clock.wall_of(record.since),
        ended: record.ended.map(|ended| clock.wall_of(ended)),
        runs: record.runs,
        failures: record.failures,
        failures_in_row: record.failures_in_row,
    }
}
