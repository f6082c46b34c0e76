//! Passive checks: what the connections of a real server say of it.
//!
//! **Invariant:** no more than [`BUCKETS`] and one sums are kept, whatever the window and however often samples come. A real
//! server is suspect only if others do better: clients that never answer, as in a flood, look like servers that do not.
//!
//! Called by [`crate::server`].

use std::collections::VecDeque;
use std::fmt;

use elvs_model::health::Passive;

use crate::Time;

/// Parts that the window is looked at in.
const BUCKETS: u32 = 16;

/// Connections of one real server in the window.
#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    buckets: VecDeque<Bucket>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    began: Time,
    new: u64,
    failed: u64,
}

/// Connections that made a real server suspect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Suspicion {
    /// New connections in the window.
    pub(crate) new: u64,
    /// Of them, those that got no answer or a reset.
    pub(crate) failed: u64,
}

impl fmt::Display for Suspicion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { new, failed } = self;
        write!(f, "of {new} new connections {failed} got no answer or a reset")
    }
}

impl Window {
    /// Takes a sample.
    pub(crate) fn sample(&mut self, passive: &Passive, now: Time, new: u64, failed: u64) {
        self.buckets.retain(|bucket| now.saturating_sub(bucket.began) < passive.window);
        let width = passive.window / BUCKETS;
        match self.buckets.back_mut() {
            Some(last) if now.saturating_sub(last.began) < width => {
                last.new = last.new.saturating_add(new);
                last.failed = last.failed.saturating_add(failed);
            }
            _ => self.buckets.push_back(Bucket { began: now, new, failed }),
        }
    }

    /// New connections in the window, and those of them that got no answer or a reset.
    pub(crate) fn sums(&self) -> (u64, u64) {
        let sum =
            |count: fn(&Bucket) -> u64| self.buckets.iter().map(count).fold(0, u64::saturating_add);
        (sum(|b| b.new), sum(|b| b.failed))
    }

    /// Judges the window; `others` are the sums of the other real servers that are alive. If the real server is suspect, the
    /// window begins anew.
    pub(crate) fn judge(&mut self, passive: &Passive, others: (u64, u64)) -> Option<Suspicion> {
        let bad = |(new, failed): (u64, u64)| {
            u128::from(failed) * 100 >= u128::from(new) * u128::from(passive.percent)
        };
        let (new, failed) = self.sums();
        let enough = new >= u64::from(passive.least.max(1));
        let others_too = others.0 > 0 && bad(others);
        if !enough || !bad((new, failed)) || others_too {
            return None;
        }
        self.buckets.clear();
        Some(Suspicion { new, failed })
    }
}

#[cfg(test)]
mod tests;
