//! The monitor: the one value that the daemon talks to.
//!
//! **Invariant:** what it says of the table depends on its inputs and their times alone.
//!
//! Called by the daemon, from one task.

use std::net::IpAddr;
use std::time::Duration;

use elvs_model::health::{Finding, HealthView};
use elvs_model::{Desired, Destination, DestinationKey, ServiceKey};

use crate::state::SavedState;
use crate::{Due, Effect};

/// Monotonic time since the start of the daemon; never goes back.
pub type Time = Duration;

/// Names a check while the daemon runs; never used again for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckId(u64);

/// Which real servers work, and what follows from it.
///
/// Order of calls: [`Self::new`], [`Self::restore`] if there is a saved state, [`Self::vip_present`] for addresses that
/// are on the host, [`Self::configure`]; then any input at any time, with times that never go back. `now` is the
/// monotonic [`Time`], `wall` the Unix time in milliseconds.
#[derive(Debug)]
pub struct Monitor {
    desired: Desired,
}

impl Monitor {
    /// A monitor that watches nothing. `seed` decides how first runs are spread over time.
    pub fn new(_seed: u64) -> Self {
        Self { desired: Desired::default() }
    }

    /// Takes over what an earlier daemon knew; applied to what the next [`Self::configure`] names.
    pub fn restore(&mut self, _now: Time, _wall: u64, _saved: SavedState) {}

    /// What a later daemon needs to know.
    pub fn save(&self, _now: Time, _wall: u64) -> SavedState {
        SavedState::default()
    }

    /// Watches what `desired` asks for, by difference: what did not change keeps its state and its times.
    ///
    /// The effects hold no [`Effect::Destinations`]: the caller takes [`Self::effective`] of the same `desired` and applies
    /// that by difference.
    pub fn configure(&mut self, _now: Time, desired: &Desired) -> Vec<Effect> {
        self.desired = desired.clone();
        Vec::new()
    }

    /// What the table shall hold now: `desired`, last given to [`Self::configure`], with destinations left out, weights
    /// changed and sorry servers put in. Services that nobody watches are as they are.
    pub fn effective(&self, desired: &Desired) -> Desired {
        desired.clone()
    }

    /// Destinations that a service shall have now, the newest last; `None` = the service is not configured.
    pub fn destinations(&self, service: &ServiceKey) -> Option<Vec<Destination>> {
        let found = self.desired.services.iter().find(|s| s.service.key == *service)?;
        Some(found.destinations.clone())
    }

    /// When [`Self::due`] has something to say next.
    pub fn next_due(&self) -> Option<Time> {
        None
    }

    /// What is due at `now`: checks to run, and what follows from time alone.
    pub fn due(&mut self, _now: Time) -> Due {
        Due::default()
    }

    /// A run of a check ended: what it found, and how long it took. Unknown checks (removed meanwhile) are ignored.
    pub fn finished(
        &mut self,
        _now: Time,
        _check: CheckId,
        _finding: &Finding,
        _took: Duration,
    ) -> Vec<Effect> {
        Vec::new()
    }

    /// A BFD session went up or down; `words` say why.
    pub fn bfd_changed(
        &mut self,
        _now: Time,
        _instance: &str,
        _up: bool,
        _words: &str,
    ) -> Vec<Effect> {
        Vec::new()
    }

    /// An address came to this host or left it (`ha_suspend`). Addresses are absent until told.
    pub fn vip_present(&mut self, _now: Time, _address: IpAddr, _present: bool) -> Vec<Effect> {
        Vec::new()
    }

    /// Destinations with passive checks, in no particular order: whose connections the daemon counts.
    pub fn passive(&self) -> Vec<(ServiceKey, DestinationKey)> {
        Vec::new()
    }

    /// What became of the connections of a destination since the last sample: `new` ones were opened, `failed` ones got no
    /// answer or a reset.
    pub fn passive_sample(
        &mut self,
        _now: Time,
        _service: &ServiceKey,
        _destination: &DestinationKey,
        _new: u64,
        _failed: u64,
    ) -> Vec<Effect> {
        Vec::new()
    }

    /// The daemon stops: what `omega` asks for. Nothing is called after it but [`Self::save`], which is best called before.
    pub fn stopping(&mut self, _now: Time) -> Vec<Effect> {
        Vec::new()
    }

    /// Everything the monitor knows.
    pub fn view(&self, _now: Time, _wall: u64) -> HealthView {
        HealthView::default()
    }
}
