//! Flap damping: a real server that fails soon after each recovery waits longer each time.
//!
//! **Invariant:** a hold-down is never longer than `most`, and a real server that stayed up for `window` begins anew.
//!
//! Called by [`crate::server`].

use std::time::Duration;

use elvs_model::health::Damping;
use serde::{Deserialize, Serialize};

/// How often a real server flapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Flaps(u32);

impl Flaps {
    /// It failed, having been up for `up` since its last recovery (`None` = it never had to recover).
    pub(crate) fn failed(&mut self, damping: &Damping, up: Option<Duration>) {
        let flap = up.is_some_and(|up| up < damping.window);
        self.0 = if flap { self.0.saturating_add(1) } else { 0 };
    }

    /// How long its next recovery waits.
    pub(crate) fn hold(self, damping: &Damping) -> Duration {
        let Some(doublings) = self.0.checked_sub(1) else { return Duration::ZERO };
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        damping.first.saturating_mul(factor).min(damping.most)
    }
}

#[cfg(test)]
mod tests;
