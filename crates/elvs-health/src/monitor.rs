//! The monitor: the one value that the daemon talks to.
//!
//! **Invariant:** what it says of the table depends on its inputs and their times alone.
//!
//! Called by the daemon, from one task.

mod configure;
mod events;
mod keep;
mod plan;
mod show;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use elvs_model::health::{Check, CheckKind, Finding, HealthView, Watched};
use elvs_model::{Desired, Destination, DestinationKey, ServiceKey};

use crate::agenda::{Agenda, ServerId, UnitId};
use crate::check::Checkers;
use crate::clock::Clock;
use crate::random::Random;
use crate::state::SavedState;
use crate::unit::Unit;
use crate::{Due, Effect};

use keep::Restored;

/// Monotonic time since the start of the daemon; never goes back.
pub type Time = Duration;

/// Names a check while the daemon runs; never used again for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckId(pub(crate) u64);

/// Which real servers work, and what follows from it.
///
/// Order of calls: [`Self::new`], [`Self::restore`] if there is a saved state, [`Self::vip_present`] for addresses that
/// are on the host, [`Self::foresee`] of what is [`Self::foreseeable`], [`Self::configure`]; then any input at any time, with times that never go back. `now` is the
/// monotonic [`Time`], `wall` the Unix time in milliseconds.
#[derive(Debug)]
pub struct Monitor {
    random: Random,
    agenda: Agenda,
    checkers: Checkers,
    /// Which checker runs a check.
    by_check: HashMap<Arc<Check>, CheckId>,
    units: HashMap<UnitId, Unit>,
    /// Virtual servers in the order of the file.
    order: Vec<UnitId>,
    by_watched: HashMap<Watched, UnitId>,
    by_service: HashMap<ServiceKey, UnitId>,
    /// Destinations of services that nobody watches.
    unwatched: HashMap<ServiceKey, Vec<Destination>>,
    /// Addresses on this host.
    vips: HashSet<IpAddr>,
    /// BFD sessions, as last told: whether they are up, and why.
    sessions: HashMap<String, (bool, String)>,
    /// What an earlier daemon knew, until the first configuration.
    restored: Restored,
    /// What checks of the next configuration found before it.
    foreseen: HashMap<Check, Finding>,
    /// `rs_init_notifies`.
    initial: bool,
    /// The last name given to anything.
    named: u64,
}

impl Monitor {
    /// A monitor that watches nothing. `seed` decides how first runs are spread over time.
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            agenda: Agenda::default(),
            checkers: HashMap::new(),
            by_check: HashMap::new(),
            units: HashMap::new(),
            order: Vec::new(),
            by_watched: HashMap::new(),
            by_service: HashMap::new(),
            unwatched: HashMap::new(),
            vips: HashSet::new(),
            sessions: HashMap::new(),
            restored: Restored::default(),
            foreseen: HashMap::new(),
            initial: false,
            named: 0,
        }
    }

    /// Takes over what an earlier daemon knew; applied to what the next [`Self::configure`] names.
    pub fn restore(&mut self, now: Time, wall: u64, saved: SavedState) {
        self.restored = Restored::new(saved, Clock { now, wall });
    }

    /// What a later daemon needs to know.
    pub fn save(&self, now: Time, wall: u64) -> SavedState {
        self.saved(Clock { now, wall })
    }

    /// [`Self::save`] for a daemon that ends in order: the next one tells how things stand, as keepalived does at every
    /// start. Where the data plane `goes_on`, and without `omega`, there is nothing to tell.
    pub fn save_at_end(&self, now: Time, wall: u64, goes_on: bool) -> SavedState {
        self.saved_at_end(Clock { now, wall }, goes_on)
    }

    /// Checks that say at once what they find and would begin with [`Self::configure`] of `desired`: run before, and told
    /// by [`Self::foresee`], they spare the table a real server that is known not to work.
    pub fn foreseeable<'a>(&self, desired: &'a Desired) -> HashSet<&'a Check> {
        let servers = desired.services.iter().flat_map(|service| &service.health.servers);
        let checks = servers.flat_map(|server| &server.checks);
        let new = |check: &&Check| !self.by_check.contains_key(*check);
        checks.filter(|check| matches!(check.kind, CheckKind::File(_))).filter(new).collect()
    }

    /// What a check found before it begins; applied by the next [`Self::configure`] if that names it.
    pub fn foresee(&mut self, check: Check, finding: Finding) {
        self.foreseen.insert(check, finding);
    }

    /// Watches what `desired` asks for, by difference: what did not change keeps its state and its times.
    ///
    /// The effects hold no [`Effect::Destinations`]: the caller takes [`Self::effective`] of the same `desired` and applies
    /// that by difference.
    pub fn configure(&mut self, now: Time, desired: &Desired) -> Vec<Effect> {
        self.watch(now, desired)
    }

    /// What the table shall hold now: `desired`, last given to [`Self::configure`], with destinations left out, weights
    /// changed and sorry servers put in. Services that nobody watches are as they are.
    pub fn effective(&self, desired: &Desired) -> Desired {
        let mut effective = desired.clone();
        for service in &mut effective.services {
            if let Some(published) = self.published(&service.service.key) {
                service.destinations.clone_from(published);
            }
        }
        effective
    }

    /// Destinations that a service shall have now, the newest last; `None` = the service is not configured.
    pub fn destinations(&self, service: &ServiceKey) -> Option<Vec<Destination>> {
        self.published(service).or_else(|| self.unwatched.get(service)).cloned()
    }

    /// When [`Self::due`] has something to say next; it may turn out to be nothing.
    pub fn next_due(&self) -> Option<Time> {
        self.agenda.next()
    }

    /// What is due at `now`: checks to run, and what follows from time alone.
    pub fn due(&mut self, now: Time) -> Due {
        self.take_due(now)
    }

    /// A run of a check ended: what it found, and how long it took. Unknown checks (removed meanwhile) are ignored.
    pub fn finished(
        &mut self,
        now: Time,
        check: CheckId,
        finding: &Finding,
        took: Duration,
    ) -> Vec<Effect> {
        self.hear(now, check, finding, took)
    }

    /// A BFD session went up or down; `words` say why.
    pub fn bfd_changed(&mut self, now: Time, instance: &str, up: bool, words: &str) -> Vec<Effect> {
        self.hear_session(now, instance, up, words)
    }

    /// An address came to this host or left it (`ha_suspend`). Addresses are absent until told.
    pub fn vip_present(&mut self, now: Time, address: IpAddr, present: bool) -> Vec<Effect> {
        let changed = if present { self.vips.insert(address) } else { self.vips.remove(&address) };
        if changed { self.hear_address(now, address) } else { Vec::new() }
    }

    /// Destinations with passive checks: whose connections the daemon counts.
    pub fn passive(&self) -> Vec<(ServiceKey, DestinationKey)> {
        let units = self.order.iter().filter_map(|id| self.units.get(id));
        units.flat_map(Unit::passive).collect()
    }

    /// What became of the connections of a destination since the last sample: `new` ones were opened, `failed` ones got no
    /// answer or a reset.
    pub fn passive_sample(
        &mut self,
        now: Time,
        service: &ServiceKey,
        destination: &DestinationKey,
        new: u64,
        failed: u64,
    ) -> Vec<Effect> {
        self.hear_sample(now, service, destination, new, failed)
    }

    /// The daemon stops: what `omega` asks for. Nothing is called after it; [`Self::save_at_end`] goes
    /// before.
    pub fn stopping(&mut self, now: Time) -> Vec<Effect> {
        self.stop(now)
    }

    /// Everything the monitor knows.
    pub fn view(&self, now: Time, wall: u64) -> HealthView {
        self.shown(Clock { now, wall })
    }

    fn published(&self, service: &ServiceKey) -> Option<&Vec<Destination>> {
        let unit = self.units.get(self.by_service.get(service)?)?;
        unit.published.get(unit.services().position(|key| key == service)?)
    }

    const fn name(&mut self) -> u64 {
        self.named += 1;
        self.named
    }

    const fn name_server(&mut self) -> ServerId {
        ServerId(self.name())
    }
}
