//! Expiry: walks the flow table in slices and ends the connections that no packet has come for.
//!
//! **Invariant:** a connection ends only if its control word is still the one that was judged; its load is taken off
//! its destination exactly once, by whoever ended it.
//!
//! Called by the daemon about once a second through [`crate::Plane`].

use elvs_common::{Control, DestinationLoad, REFRESH_TICKS, Settings};
use elvs_fastpath::{Atomic64, destination_of, release_flow};

use crate::backend::{Backend, Now};

/// What one slice of a pass came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Connections ended in this slice.
    pub expired: u64,
    /// Connections that stayed in this slice.
    pub live: u64,
    /// Totals of the pass that this slice completed; the next slice starts again at the first bucket.
    pub pass: Option<Pass>,
}

/// Totals of a pass over the whole table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// Connections ended.
    pub expired: u64,
    /// Connections that stayed.
    pub live: u64,
}

/// Where the walk stands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sweeper {
    bucket: u32,
    pass: Pass,
}

impl Sweeper {
    /// Walks up to `buckets` buckets on.
    pub(crate) fn slice<B: Backend>(&mut self, backend: &B, buckets: u32) -> SweepReport {
        let settings = backend.settings();
        let now = backend.now();
        let mut report = SweepReport::default();
        for _ in 0..buckets {
            let Some(bucket) = backend.bucket(self.bucket) else {
                self.add(&report);
                report.pass = Some(self.pass);
                *self = Self::default();
                return report;
            };
            for slot in &bucket.slots {
                let control = Control(Atomic64::load(&slot.control));
                if !control.is_live() {
                    continue;
                }
                if !has_expired(&settings, now, control) {
                    report.live += 1;
                    continue;
                }
                let destination = destination_of(Atomic64::load(&slot.ports_destination));
                if !release_flow(backend, self.bucket, slot, control) {
                    report.live += 1;
                    continue;
                }
                report.expired += 1;
                if let Some(load) = backend.load(destination) {
                    let unit = DestinationLoad::unit(control.inactive());
                    Atomic64::fetch_add(load, unit.wrapping_neg());
                }
            }
            self.bucket += 1;
        }
        self.add(&report);
        report
    }

    const fn add(&mut self, report: &SweepReport) {
        self.pass.expired += report.expired;
        self.pass.live += report.live;
    }
}

fn has_expired(settings: &Settings, now: Now, control: Control) -> bool {
    // A packet need not have renewed a tick that was younger than that.
    let timeout = settings.timeout(control.protocol(), control.state());
    now.idle(control.tick()) > timeout.saturating_add(REFRESH_TICKS)
}
