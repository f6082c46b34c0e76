//! A configuration, new or changed: what is watched from now on.
//!
//! **Invariant:** what did not change keeps its state, its counters and its times; a real server that had failed stays failed
//! until a check of it passes.
//!
//! Part of [`crate::Monitor`].

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use elvs_model::health::{Check, ServerState, Watched};
use elvs_model::{Desired, DestinationKey, ServiceKey};

use super::Monitor;
use super::events::arm;
use super::keep::Restored;
use super::plan::{Block, Planned, blocks, plan};
use crate::agenda::{ServerId, UnitId};
use crate::check::{Checker, Said};
use crate::clock::Clock;
use crate::names;
use crate::notes::Notes;
use crate::schedule::{Standing, Tries};
use crate::server::{Asked, Server};
use crate::state::SavedServer;
use crate::unit::{Count, Unit};
use crate::{CheckId, Effect, LogLevel, Time};

/// One virtual server while it is configured.
struct Reload<'a> {
    now: Time,
    id: UnitId,
    notes: Notes,
    /// Checks that may have to begin, or to rest.
    concerned: &'a mut HashSet<CheckId>,
}

/// What a real server was before its checks were replaced.
struct Before {
    /// It was there.
    known: bool,
    /// None of its checks had failed.
    passes: bool,
    checks: Vec<Asked>,
}

impl Monitor {
    pub(super) fn watch(&mut self, now: Time, desired: &Desired) -> Vec<Effect> {
        self.initial = desired.health.notifications.initial;
        let blocks = blocks(desired);
        let mut concerned = HashSet::new();
        let mut effects = self.retire_all_but(&blocks, now, &mut concerned);
        self.order.clear();
        for block in blocks {
            let known = self.by_watched.get(&block.watched).copied();
            let id = known.unwrap_or_else(|| UnitId(self.name()));
            self.by_watched.insert(block.watched.clone(), id);
            self.order.push(id);
            let same = self.units.get(&id).is_some_and(|unit| block.describes(unit));
            if !same {
                effects.extend(self.configure_unit(now, id, block, &mut concerned));
            }
        }
        self.forget_unshared();
        let mut concerned: Vec<CheckId> = concerned.into_iter().collect();
        concerned.sort_unstable();
        for check in concerned {
            self.suspend_or_resume(now, check);
        }
        self.restored = Restored::default();
        self.foreseen.clear();
        self.index(desired);
        effects
    }

    /// Virtual servers that are no longer in the configuration go.
    fn retire_all_but(
        &mut self,
        blocks: &[Block<'_>],
        now: Time,
        concerned: &mut HashSet<CheckId>,
    ) -> Vec<Effect> {
        let stay: HashSet<&Watched> = blocks.iter().map(|block| &block.watched).collect();
        let gone = |id: &UnitId| self.units.get(id).is_some_and(|u| !stay.contains(&u.watched));
        let gone: Vec<UnitId> = self.order.iter().copied().filter(gone).collect();
        let mut effects = Vec::new();
        for id in gone {
            let Some(mut unit) = self.units.remove(&id) else { continue };
            self.by_watched.remove(&unit.watched);
            let mut notes = Notes::new(&unit.name);
            notes.log(LogLevel::Info, "removed from the configuration".to_owned());
            for server in &mut unit.servers {
                Unit::tell_removed(server, &mut notes);
                server.alive = false;
                concerned.extend(server.asked());
                self.unshare(id, server.id, &server.checks, &[]);
            }
            unit.count(now, Count::Runs, &mut notes);
            effects.extend(notes.into_effects());
        }
        effects
    }

    fn configure_unit(
        &mut self,
        now: Time,
        id: UnitId,
        block: Block<'_>,
        concerned: &mut HashSet<CheckId>,
    ) -> Vec<Effect> {
        let mut reload = Reload { now, id, notes: Notes::new(&block.name), concerned };
        let known = self.units.remove(&id);
        let is_known = known.is_some();
        let mut unit = known.unwrap_or_else(|| Unit::new(block.watched.clone(), now));
        let planned = plan(&block.services);
        let services: Vec<ServiceKey> = unit.services().copied().collect();
        unit.take_configuration(&block, &planned);
        let mut saved = self.restored.take_unit(&unit.watched);
        let when = if is_known || saved.is_some() { Count::Configured } else { Count::Begins };
        let keys: HashSet<DestinationKey> = planned.iter().map(|p| p.health.key).collect();
        let old = std::mem::take(&mut unit.servers).into_iter();
        let (stay, gone): (Vec<Server>, Vec<Server>) =
            old.partition(|server| keys.contains(&server.key()));
        let leaving = self.let_go(&mut reload, &unit, gone, &services);
        let mut stay: HashMap<DestinationKey, Server> =
            stay.into_iter().map(|server| (server.key(), server)).collect();
        let mut known = Vec::new();
        for planned in planned {
            let key = planned.health.key;
            let saved = saved.as_mut().and_then(|saved| saved.take_server(&key));
            let was_known = stay.contains_key(&key) || saved.is_some();
            let name = names::server(&unit.watched, &planned.written());
            let server = match stay.remove(&key) {
                Some(server) if server.times.leaving.is_none() => server,
                Some(left) => Server::new(left.id, name, planned.health.clone(), now),
                None => Server::new(self.name_server(), name, planned.health.clone(), now),
            };
            let server = self.configure_server(&mut reload, server, planned, saved);
            if was_known {
                known.push(server.id);
            }
            unit.servers.push(server);
        }
        unit.servers.extend(leaving);
        if let Some(saved) = saved {
            let tell = saved.tell();
            saved.fill_unit(&mut unit);
            if let Some(tell) = tell {
                unit.tell_again(tell, &mut reload.notes);
            }
        }
        unit.suspended = unit.suspends(&self.vips);
        for server in known {
            unit.review(now, server, &self.checkers, &mut reload.notes);
        }
        unit.count(now, when, &mut reload.notes);
        let servers: Vec<ServerId> = unit.servers.iter().map(|server| server.id).collect();
        for server in servers {
            arm(&mut self.agenda, now, id, &mut unit, server);
        }
        // All of its checks, for its `ha_suspend` may have changed.
        reload.concerned.extend(unit.servers.iter().flat_map(Server::asked));
        // Not told: the caller asks for all destinations at once.
        unit.publish();
        self.units.insert(id, unit);
        reload.notes.into_effects()
    }

    /// Real servers that are no longer configured: those that drain stay for a while.
    fn let_go(
        &mut self,
        reload: &mut Reload<'_>,
        unit: &Unit,
        gone: Vec<Server>,
        services: &[ServiceKey],
    ) -> Vec<Server> {
        let drain = unit.health().and_then(|health| health.drain);
        let mut leaving = Vec::new();
        for mut server in gone {
            Unit::tell_removed(&server, &mut reload.notes);
            reload.concerned.extend(server.asked());
            self.unshare(reload.id, server.id, &std::mem::take(&mut server.checks), &[]);
            let was = |key: &ServiceKey| services.iter().position(|was| was == key);
            let destination = |key| server.destinations.get(was(key)?).copied().flatten();
            server.destinations = unit.services().map(destination).collect();
            let nowhere = server.destinations.iter().flatten().next().is_none();
            if nowhere || !unit.is_member(server.id) {
                continue;
            }
            if server.times.leaving.is_none() {
                let Some(drain) = drain else { continue };
                server.leave(reload.now, reload.now + drain);
            }
            leaving.push(server);
        }
        leaving
    }

    fn configure_server(
        &mut self,
        reload: &mut Reload<'_>,
        mut server: Server,
        planned: Planned,
        saved: Option<(SavedServer, Clock)>,
    ) -> Server {
        let stayed = !server.destinations.is_empty();
        let before = Before {
            known: stayed || saved.is_some(),
            passes: match &saved {
                Some((saved, _)) => saved.passes,
                None => self.passes(&server),
            },
            checks: std::mem::take(&mut server.checks),
        };
        let weight = server.full_weight();
        server.take_health(planned.health);
        server.destinations = planned.destinations;
        server.checks = self.ask_for(reload, &server, &before);
        reload.concerned.extend(before.checks.iter().map(|asked| asked.check));
        self.unshare(reload.id, server.id, &before.checks, &server.checks);
        let new_weight = server.full_weight();
        if stayed && weight != new_weight {
            let message = format!("weight changes from {weight} to {new_weight}");
            reload.notes.log_server(LogLevel::Info, &server.name, message);
        } else if let Some((saved, clock)) = saved {
            saved.fill_server(&mut server, clock);
            server.adjust = server.ask(&self.checkers).adjust;
        }
        if !before.known {
            self.begin(reload.now, &mut server, &mut reload.notes);
        }
        server
    }

    /// The first state of a real server. A check that it shares may have failed already: that is told, as keepalived tells
    /// it once the check has run.
    fn begin(&self, now: Time, server: &mut Server, notes: &mut Notes) {
        let verdict = server.ask(&self.checkers);
        server.adjust = verdict.adjust;
        server.alive = server.judge(now, &verdict);
        let failed = verdict.failed;
        let (state, reason) = server.present_state(verdict);
        server.show(now, state, reason);
        if server.alive && self.initial {
            notes.server(&server.name, &server.health, true);
        }
        if failed {
            notes.log_server(LogLevel::Warn, &server.name, format!("down: {}", server.reason));
            notes.server(&server.name, &server.health, false);
            if server.health.mail {
                notes.server_mail(&server.name, false, format!("=> {} <=", server.reason));
            }
        }
    }

    fn passes(&self, server: &Server) -> bool {
        let down = server.ask(&self.checkers).down;
        down.is_none_or(|(state, _)| state != ServerState::Down)
    }

    /// Asks for the checks of a real server.
    fn ask_for(&mut self, reload: &mut Reload<'_>, server: &Server, before: &Before) -> Vec<Asked> {
        let mut all = Vec::with_capacity(server.health.checks.len());
        for check in &server.health.checks {
            let (id, new) = self.share(reload.now, check);
            if new {
                reload.concerned.insert(id);
            }
            let had = before.checks.iter().find(|asked| asked.check == id).copied();
            // A real server that was up stays so until a new check says otherwise, one that was down until it passes.
            let presumed_up = if before.known { before.passes } else { !check.schedule.alpha };
            let told_down = before.known && !before.passes && server.times.fell;
            let asked = had.unwrap_or(Asked { check: id, presumed_up, told_down });
            if new && before.known {
                self.go_on(id, check, before);
            }
            if let Some(checker) = self.checkers.get_mut(&id) {
                checker.shared_by.insert((reload.id, server.id));
            }
            all.push(asked);
        }
        all
    }

    /// A check that took the place of another one of its kind goes on counting its failures, and the weight that the other
    /// one asked for stays until it has run.
    fn go_on(&mut self, id: CheckId, check: &Check, before: &Before) {
        let of_its_kind = |asked: &Asked| {
            let checker = self.checkers.get(&asked.check)?;
            let same = checker.check.kind.name() == check.kind.name() && asked.check != id;
            same.then_some(checker.said)
        };
        let said = before.checks.iter().find_map(of_its_kind);
        let Some(checker) = self.checkers.get_mut(&id) else { return };
        if checker.said.tries.standing != Standing::Unknown {
            return;
        }
        if let Some(said) = said {
            checker.said = Said { tries: checker.said.tries, ..said };
        }
        if before.passes {
            let tries = said.map(|said| said.tries);
            let retried = tries.filter(|tries| tries.standing == Standing::Up);
            let retried = retried.map_or(0, |tries| tries.retried);
            checker.said.tries = Tries::lenient(check, retried);
        }
    }

    /// The checker of a check, and whether it is a new one.
    fn share(&mut self, now: Time, check: &Check) -> (CheckId, bool) {
        if let Some(id) = self.by_check.get(check) {
            return (*id, false);
        }
        let id = CheckId(self.name());
        let check = Arc::new(check.clone());
        let mut checker = Checker::new(check.clone(), now);
        self.restored.fill_check(&mut checker);
        if let Some(finding) = self.foreseen.remove(&*check) {
            checker.foreseen(now, &finding);
        }
        let session = checker.session().and_then(|session| self.sessions.get(session));
        if let Some((up, words)) = session {
            checker.told(now, *up, words);
        }
        self.checkers.insert(id, checker);
        self.by_check.insert(check, id);
        (id, true)
    }

    /// A real server no longer asks for `old` checks that are not among `new` ones.
    fn unshare(&mut self, unit: UnitId, server: ServerId, old: &[Asked], new: &[Asked]) {
        for asked in old {
            if new.iter().all(|kept| kept.check != asked.check)
                && let Some(checker) = self.checkers.get_mut(&asked.check)
            {
                checker.shared_by.swap_remove(&(unit, server));
            }
        }
    }

    fn forget_unshared(&mut self) {
        self.checkers.retain(|_, checker| !checker.shared_by.is_empty());
        self.by_check.retain(|_, id| self.checkers.contains_key(id));
    }

    fn index(&mut self, desired: &Desired) {
        self.by_service.clear();
        for id in &self.order {
            let Some(unit) = self.units.get(id) else { continue };
            self.by_service.extend(unit.services().map(|key| (*key, *id)));
        }
        let unwatched =
            desired.services.iter().filter(|s| !self.by_service.contains_key(&s.service.key));
        self.unwatched = unwatched.map(|s| (s.service.key, s.destinations.clone())).collect();
    }
}

impl Unit {
    fn take_configuration(&mut self, block: &Block<'_>, planned: &[Planned]) {
        self.name.clone_from(&block.name);
        self.config = block.services.iter().map(|service| (*service).clone()).collect();
        let weights = planned.iter().filter_map(|p| p.destinations.iter().flatten().next());
        let weight = weights.map(|destination| destination.weight).fold(0, u32::saturating_add);
        let health = self.health();
        self.quorum = health.map_or(1, |health| health.quorum).min(weight).max(1);
        let hysteresis = self.health().map_or(0, |health| health.hysteresis);
        self.hysteresis = hysteresis.min(self.quorum - 1);
    }
}
