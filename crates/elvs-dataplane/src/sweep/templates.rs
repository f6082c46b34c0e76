//! Persistence templates: how long they live, and that they live for as long as the connections they led to.
//!
//! **Invariant:** a template ends only after a whole pass in which none of its connections was met, or since its destination
//! was removed.
//!
//! Called by the sweeper, and by the list of connections.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicU64;

use elvs_common::{Settings, ticks_from_seconds};
use elvs_fastpath::{Atomic64, FlowKey, WideValue, destination_of, ports_of};

use super::Moment;
use crate::backend::Backend;
use crate::connection::Live;

/// What a persistence template goes by: its words in the table without the destination.
type TemplateKey = (WideValue, u32, u8);

/// Ticks that a template lives on at a time while it has connections, and after each use from then on (`ip_vs_conn_expire`).
fn minute_ticks(settings: &Settings) -> u32 {
    ticks_from_seconds(CONTROLLED_S, settings.jiffies_per_second, settings.tick_shift)
}

/// The same in seconds.
const CONTROLLED_S: u32 = 60;

/// Ticks after its last use at which a template's time is over.
pub(crate) fn template_ticks<B: Backend>(backend: &B, settings: &Settings, live: &Live) -> u32 {
    if live.control.prolonged() {
        return minute_ticks(settings);
    }
    let record = backend.record(destination_of(live.ports_destination));
    record.map_or(0, |record| record.persistence_ticks)
}

/// Persistence templates whose time is over, and whether connections keep them: a template lives at least as long as
/// the connections it led to (`n_control` in IPVS).
#[derive(Clone, Debug, Default)]
pub(super) struct Templates {
    /// Found to be due in this pass.
    due: HashSet<TemplateKey>,
    /// Found to be due in the pass before; true once a connection was met in this one.
    watched: HashMap<TemplateKey, bool>,
    /// As `watched` was at the end of the pass before.
    judged: HashMap<TemplateKey, bool>,
}

impl Templates {
    pub(super) fn next_pass(&mut self) {
        self.judged = std::mem::take(&mut self.watched);
        self.watched = self.due.drain().map(|key| (key, false)).collect();
    }

    /// Meets a connection of a template.
    pub(super) fn mark(&mut self, key: &FlowKey<WideValue>) {
        if let Some(met) = self.watched.get_mut(&(key.addresses, key.ports, key.protocol)) {
            *met = true;
        }
    }

    /// Meets a template; whether it is to end.
    pub(super) fn is_over<B: Backend>(
        &mut self,
        moment: &Moment<'_, B>,
        control: &AtomicU64,
        live: &Live,
    ) -> bool {
        if moment.flushes(live) {
            return true;
        }
        let ticks = template_ticks(moment.backend, moment.settings, live);
        let idle = moment.now.idle(live.control.tick());
        if idle <= ticks {
            return false;
        }
        let key = (live.addresses, ports_of(live.ports_destination), live.control.protocol());
        match self.judged.get(&key) {
            Some(false) => return true,
            Some(true) => {
                let minute = minute_ticks(moment.settings).max(1);
                // A minute from when its time was over, or as many as have passed since.
                let minutes = (idle - ticks) / minute * minute;
                let tick = live.control.tick().wrapping_add(ticks).wrapping_add(minutes);
                let prolonged = live.control.with_prolonged().with_tick(tick);
                // If a packet was first, it has renewed the template itself.
                let _ = Atomic64::compare_exchange(control, live.control.0, prolonged.0);
            }
            None if !self.watched.contains_key(&key) => {
                self.due.insert(key);
            }
            None => {}
        }
        false
    }
}
