//! A configuration, new or changed: what is watched from now on.
//!
//! **Invariant:** what did not change keeps its state, its counters and its times; a real server that had failed stays failed
//! until a check of it passes.
//!
//! Part of [`crate::Monitor`].

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use elvs_model::health::{Check, ServerHealth, ServerState, Watched};
use elvs_model::{Desired, DesiredService, Destination, DestinationKey};

use super::Monitor;
use super::events::arm;
use super::keep::Restored;
use crate::agenda::{ServerId, UnitId};
use crate::check::Checker;
use crate::names;
use crate::notes::Notes;
use crate::schedule::{Standing, Tries};
use crate::server::{Asked, Server};
use crate::state::SavedServer;
use crate::unit::Unit;
use crate::{CheckId, Effect, LogLevel, Time};

/// One virtual server of a configuration.
struct Block<'a> {
    watched: Watched,
    name: String,
    services: Vec<&'a DesiredService>,
}

/// One real server of a block.
struct Planned {
    health: ServerHealth,
    /// The destination that it is in each service.
    destinations: Vec<Option<Destination>>,
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
            unit.count(now, false, &mut notes);
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
        let mut notes = Notes::new(&block.name);
        let known = self.units.remove(&id);
        let mut unit = known.unwrap_or_else(|| Unit::new(block.watched.clone(), now));
        let drain = unit.health().and_then(|health| health.drain);
        let planned = plan(&block.services);
        unit.take_configuration(&block, &planned);
        let saved = self.restored.take_unit(&unit.watched);
        let mut saved_servers: HashMap<DestinationKey, SavedServer> = HashMap::new();
        let saved = saved.map(|(mut saved, clock)| {
            let servers = saved.servers.drain(..).map(|server| (server.key, server));
            saved_servers = servers.collect();
            (saved, clock)
        });
        let clock = saved.as_ref().map(|(_, clock)| *clock);
        let mut old: HashMap<DestinationKey, Server> = HashMap::new();
        let mut old_order = Vec::new();
        for server in unit.servers.drain(..) {
            old_order.push(server.key());
            old.insert(server.key(), server);
        }
        let keys: HashSet<DestinationKey> = planned.iter().map(|p| p.health.key).collect();
        for key in old_order.iter().filter(|key| !keys.contains(key)) {
            let Some(mut server) = old.remove(key) else { continue };
            Unit::tell_removed(&server, &mut notes);
            concerned.extend(server.asked());
            self.unshare(id, server.id, &std::mem::take(&mut server.checks), &[]);
            if server.times.leaving.is_some() {
                unit.servers.push(server);
            } else if let Some(drain) = drain.filter(|_| unit.is_member(server.id)) {
                server.leave(now, now + drain);
                unit.servers.push(server);
            }
        }
        let leaving = std::mem::take(&mut unit.servers);
        let mut reviewed = Vec::new();
        for planned in planned {
            let name = names::server(&unit.watched, &planned.health.key);
            let old = old.remove(&planned.health.key);
            let saved = saved_servers.remove(&planned.health.key).zip(clock);
            let mut server = match old {
                Some(server) if server.times.leaving.is_none() => server,
                Some(left) => Server::new(left.id, name, planned.health.clone(), now),
                None => Server::new(self.name_server(), name, planned.health.clone(), now),
            };
            let known = !server.destinations.is_empty();
            let before = Before {
                known: known || saved.is_some(),
                passes: match &saved {
                    Some((saved, _)) => saved.passes,
                    None => self.passes(&server),
                },
                checks: std::mem::take(&mut server.checks),
            };
            let weight = known.then(|| server.full_weight());
            server.health = planned.health;
            server.destinations = planned.destinations;
            server.checks = self.ask_for(now, id, &server, &before, concerned);
            concerned.extend(before.checks.iter().map(|asked| asked.check));
            self.unshare(id, server.id, &before.checks, &server.checks);
            if let Some((saved, clock)) = saved {
                saved.fill_server(&mut server, clock);
            }
            if before.known {
                reviewed.push(server.id);
                if let Some(old) = weight.filter(|old| *old != server.full_weight()) {
                    let new = server.full_weight();
                    let message = format!("weight changes from {old} to {new}");
                    notes.log_server(LogLevel::Info, &server.name, message);
                }
                server.adjust = server.ask(&self.checkers).adjust;
            } else {
                self.begin(now, &mut server, &mut notes);
            }
            unit.servers.push(server);
        }
        unit.servers.extend(leaving);
        if let Some((saved, clock)) = saved {
            saved.fill_unit(&mut unit, clock);
        }
        unit.suspended = unit.suspends(&self.vips);
        for server in reviewed {
            unit.review(now, server, &self.checkers, &mut notes);
        }
        unit.count(now, true, &mut notes);
        let servers: Vec<ServerId> = unit.servers.iter().map(|server| server.id).collect();
        for server in servers {
            arm(&mut self.agenda, now, id, &mut unit, server);
        }
        // All of its checks, for its `ha_suspend` may have changed.
        concerned.extend(unit.servers.iter().flat_map(Server::asked));
        // Not told: the caller asks for all destinations at once.
        unit.publish();
        self.units.insert(id, unit);
        notes.into_effects()
    }

    /// The first state of a real server.
    fn begin(&self, now: Time, server: &mut Server, notes: &mut Notes) {
        let verdict = server.ask(&self.checkers);
        server.adjust = verdict.adjust;
        server.alive = server.judge(now, &verdict);
        let (state, reason) = server.present_state(verdict);
        server.show(now, state, reason);
        if server.alive && self.initial {
            notes.server(&server.name, &server.health, true);
        }
    }

    fn passes(&self, server: &Server) -> bool {
        let down = server.ask(&self.checkers).down;
        down.is_none_or(|(state, _)| state != ServerState::Down)
    }

    /// Asks for the checks of a real server.
    fn ask_for(
        &mut self,
        now: Time,
        unit: UnitId,
        server: &Server,
        before: &Before,
        concerned: &mut HashSet<CheckId>,
    ) -> Vec<Asked> {
        let mut all = Vec::with_capacity(server.health.checks.len());
        for check in &server.health.checks {
            let (id, new) = self.share(now, check);
            if new {
                concerned.insert(id);
            }
            let had = before.checks.iter().find(|asked| asked.check == id).copied();
            // A real server that was up stays so until a new check says otherwise, one that was down until it passes.
            let presumed_up = if before.known { before.passes } else { !check.schedule.alpha };
            let asked = had.unwrap_or(Asked { check: id, presumed_up });
            if new && before.known && before.passes {
                self.go_on(id, check, before);
            }
            if let Some(checker) = self.checkers.get_mut(&id) {
                checker.shared_by.insert((unit, server.id));
            }
            all.push(asked);
        }
        all
    }

    /// A check that took the place of another one of its kind goes on counting its failures.
    fn go_on(&mut self, id: CheckId, check: &Check, before: &Before) {
        let of_its_kind = |asked: &Asked| {
            let checker = self.checkers.get(&asked.check)?;
            let same = checker.kind.name() == check.kind.name() && asked.check != id;
            same.then_some(checker.said.tries)
        };
        let tries = before.checks.iter().find_map(of_its_kind);
        let retried = tries.filter(|tries| tries.standing == Standing::Up);
        if let Some(checker) = self.checkers.get_mut(&id)
            && checker.said.tries.standing == Standing::Unknown
        {
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

impl Block<'_> {
    /// Whether a virtual server is configured so already.
    fn describes(&self, unit: &Unit) -> bool {
        unit.name == self.name && unit.config.iter().eq(self.services.iter().copied())
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

/// The virtual servers of a configuration, in its order; a group stands where its first service does.
fn blocks(desired: &Desired) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    let mut places: HashMap<Watched, usize> = HashMap::new();
    let mut ordinals: HashMap<&str, usize> = HashMap::new();
    for service in desired.services.iter().filter(|service| !service.health.is_default()) {
        let watched = service.watched();
        let place = places.get(&watched).and_then(|place| blocks.get_mut(*place));
        if let Some(block) = place {
            block.services.push(service);
            continue;
        }
        let ordinal = match &service.health.group {
            Some(group) => {
                let next = ordinals.entry(&group.name).or_default();
                std::mem::replace(next, *next + 1)
            }
            None => 0,
        };
        places.insert(watched.clone(), blocks.len());
        let name = names::watched(&watched, ordinal);
        blocks.push(Block { watched, name, services: vec![service] });
    }
    blocks
}

/// The real servers of a block: those of its first service, each with the destinations that stand at the same place in the
/// others, and what the others have beside.
fn plan(services: &[&DesiredService]) -> Vec<Planned> {
    let mut all: Vec<Planned> = Vec::new();
    for (index, service) in services.iter().enumerate() {
        let mut seen = HashSet::with_capacity(service.destinations.len());
        let own = service.destinations.iter().filter(|destination| seen.insert(destination.key));
        let healths: HashMap<DestinationKey, &ServerHealth> =
            service.health.servers.iter().map(|server| (server.key, server)).collect();
        for (place, destination) in own.enumerate() {
            let here = |planned: &&mut Planned| {
                let free = planned.destinations.len() <= index;
                free && planned.health.key.address == destination.key.address
            };
            let known = if index == 0 { None } else { all.get_mut(place).filter(here) };
            let planned = match known {
                Some(planned) => planned,
                None => {
                    let health = healths.get(&destination.key).map(|health| (*health).clone());
                    let health = health.unwrap_or_else(|| ServerHealth::unwatched(destination.key));
                    all.push(Planned { health, destinations: Vec::new() });
                    let Some(last) = all.last_mut() else { continue };
                    last
                }
            };
            planned.destinations.resize(index, None);
            planned.destinations.push(Some(*destination));
        }
    }
    for planned in &mut all {
        planned.destinations.resize(services.len(), None);
    }
    all
}
