//! How many failures of a check count, and when it runs next.
//!
//! **Invariant:** keepalived 2.4's, as read in its `check_api.c`, `check_tcp.c`, `check_http.c`, `check_dns.c` and
//! `check_misc.c`: only failures of a check that is up are tried again, and the first run's failure is final.
//!
//! Called by [`crate::check`] after each run.

use std::time::Duration;

use elvs_model::health::{Check, CheckKind};
use serde::{Deserialize, Serialize};

/// What a check's runs say together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Standing {
    /// It has not run, or not often enough.
    #[default]
    Unknown,
    /// The real server works.
    Up,
    /// It does not.
    Down,
}

/// The count of tries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tries {
    /// What they say together.
    pub(crate) standing: Standing,
    /// Failures in a row of a check that is not down; keepalived's `retry_it`.
    pub(crate) retried: u32,
    /// A check that was down passed once, and must once more.
    recovering: bool,
}

impl Tries {
    /// Before the first run, whose failure is final.
    pub(crate) fn new(check: &Check) -> Self {
        Self { retried: check.retries().unwrap_or_default(), ..Self::default() }
    }

    /// Before the first run of a check that took another one's place, which had failed `retried` times.
    pub(crate) fn lenient(check: &Check, retried: u32) -> Self {
        Self { retried: retried.min(check.retries().unwrap_or_default()), ..Self::default() }
    }

    /// As an event said, which needs no further try.
    pub(crate) fn told(up: bool) -> Self {
        let standing = if up { Standing::Up } else { Standing::Down };
        Self { standing, ..Self::default() }
    }

    /// A run passed.
    pub(crate) fn passed(&mut self, check: &Check) {
        self.retried = 0;
        self.recovering =
            self.standing == Standing::Down && !self.recovering && passes_twice(check);
        if !self.recovering {
            self.standing = Standing::Up;
        }
    }

    /// A run failed.
    pub(crate) fn failed(&mut self, check: &Check) {
        let Some(retries) = check.retries() else { return };
        self.recovering = false;
        if self.standing == Standing::Down {
            return;
        }
        if self.retried < retries {
            self.retried += 1;
        } else {
            *self = Self::told(false);
        }
    }

    /// Whether the next run is a retry.
    pub(crate) const fn retries_next(&self) -> bool {
        self.retried > 0
    }

    /// Time from the end of a run to the next one (of `MISC_CHECK`, from its beginning).
    pub(crate) fn delay(&self, check: &Check) -> Duration {
        let schedule = &check.schedule;
        let down = self.standing == Standing::Down && !self.recovering;
        if self.retries_next() {
            schedule.delay_before_retry
        } else if down && matches!(check.kind, CheckKind::Http(_)) {
            // check_http.c, epilog(): the longer of both while a URL is known to fail.
            schedule.delay_before_retry.max(schedule.delay_loop)
        } else {
            schedule.delay_loop
        }
    }
}

/// Whether the delay counts from the beginning of a run: check_misc.c counts from when the script was started.
pub(crate) const fn counts_from_start(check: &Check) -> bool {
    matches!(check.kind, CheckKind::Misc(_))
}

/// Whether a check that was down must pass twice: check_http.c tries the failed URL by itself first, then all of them,
/// unless `fast_recovery` is set.
const fn passes_twice(check: &Check) -> bool {
    matches!(&check.kind, CheckKind::Http(http) if !http.fast_recovery)
}

#[cfg(test)]
mod tests;
