//! When checks run: `delay_loop`, `retry`, `delay_before_retry`, `warmup`, `connect_timeout`, `alpha`, `log_all_failures`.
//!
//! **Invariant:** what a check does not say is its real server's, then its virtual server's, then keepalived's default.
//!
//! Called for virtual servers, real servers and checks.

use std::time::Duration;

use elvs_model::health::Schedule;

use super::Once;
use super::value::{self, MAX_TIME, MIN_TIME, Unit};
use crate::diagnostic::{Code, Reporter};
use crate::tree::Item;

/// keepalived's `delay_loop`.
const DELAY_LOOP: Duration = Duration::from_secs(60);
/// keepalived's `connect_timeout`.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest `connect_timeout`: keepalived's, 32 bits of microseconds.
const MAX_TIMEOUT: Duration = Duration::from_micros(4_294_967_295);
/// What a `delay_before_retry` of 0 is taken as, so that a failing check does not run without pause.
const LEAST_PAUSE: Duration = Duration::from_millis(1);

/// Whose statement it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// A virtual or real server: `retry` is at least 1 there, as in keepalived.
    Server,
    /// A check.
    Check,
}

/// Statements of one block.
#[derive(Default)]
pub(super) struct Timing {
    retry: Once<u32>,
    delay_before_retry: Once<Duration>,
    warmup: Once<Duration>,
    timeout: Once<Duration>,
    delay_loop: Once<Duration>,
    alpha: Once<bool>,
    log_all_failures: Once<bool>,
}

/// What a block and those around it say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    pub retry: Option<u32>,
    pub delay_before_retry: Option<Duration>,
    pub warmup: Option<Duration>,
    pub timeout: Option<Duration>,
    pub delay_loop: Option<Duration>,
    pub alpha: Option<bool>,
    pub log_all_failures: Option<bool>,
}

/// Defaults of one kind of check.
#[derive(Clone, Copy)]
pub(super) struct Defaults {
    pub retry: u32,
    /// `None` = `delay_loop`.
    pub delay_before_retry: Option<Duration>,
}

impl Timing {
    /// Takes a statement, if it is one of these.
    pub fn read(&mut self, item: &Item, level: Level, reporter: &mut Reporter) {
        let keyword = item.keyword.text.as_str();
        match (keyword, item.arguments.first()) {
            ("alpha", _) => {
                if let Some(on) = value::switch(item, reporter) {
                    self.alpha.set(item, on, reporter);
                }
            }
            ("log_all_failures", _) => {
                if let Some(on) = value::switch(item, reporter) {
                    self.log_all_failures.set(item, on, reporter);
                }
            }
            ("retry" | "nb_get_retry", Some(word)) => {
                let least = u32::from(level == Level::Server);
                if let Some(tries) = value::number(keyword, word, least, u32::MAX, reporter) {
                    self.retry.set(item, tries, reporter);
                }
            }
            ("delay_before_retry", Some(word)) => {
                let time = value::seconds(keyword, word, Duration::ZERO, reporter);
                if let Some(time) = time {
                    self.delay_before_retry.set(item, pause(item, time, reporter), reporter);
                }
            }
            ("warmup", Some(word)) => {
                let time = value::seconds(keyword, word, Duration::ZERO, reporter);
                if let Some(time) = time {
                    self.warmup.set(item, time, reporter);
                }
            }
            ("connect_timeout", Some(word)) => {
                let limits = (MIN_TIME, MAX_TIMEOUT);
                if let Some(time) = value::time(keyword, word, Unit::Seconds, limits, reporter) {
                    self.timeout.set(item, time, reporter);
                }
            }
            ("delay_loop", Some(word)) => {
                let limits = (MIN_TIME, MAX_TIME);
                if let Some(time) = value::time(keyword, word, Unit::Seconds, limits, reporter) {
                    self.delay_loop.set(item, time, reporter);
                }
            }
            _ => {}
        }
    }

    /// Whether `connect_timeout` is given here.
    pub const fn has_timeout(&self) -> bool {
        self.timeout.0.is_some()
    }

    /// What is said here, and where nothing is, what `outer` says.
    pub fn over(&self, outer: &Times) -> Times {
        Times {
            retry: self.retry.get().copied().or(outer.retry),
            delay_before_retry: self.delay_before_retry.get().copied().or(outer.delay_before_retry),
            warmup: self.warmup.get().copied().or(outer.warmup),
            timeout: self.timeout.get().copied().or(outer.timeout),
            delay_loop: self.delay_loop.get().copied().or(outer.delay_loop),
            alpha: self.alpha.get().copied().or(outer.alpha),
            log_all_failures: self.log_all_failures.get().copied().or(outer.log_all_failures),
        }
    }
}

/// A `delay_before_retry`; none at all is replaced.
fn pause(item: &Item, time: Duration, reporter: &mut Reporter) -> Duration {
    if !time.is_zero() {
        return time;
    }
    let shown = value::show_seconds(LEAST_PAUSE);
    let message = format!("a check cannot be retried without pause: {shown} seconds are used");
    reporter
        .warning(Code::ValueReplaced, item.head(), message)
        .help(format!("write `delay_before_retry {shown}` or more"));
    LEAST_PAUSE
}

impl Times {
    /// The schedule of a check.
    pub fn schedule(&self, defaults: Defaults) -> Schedule {
        let delay_loop = self.delay_loop.unwrap_or(DELAY_LOOP);
        let pause = self.delay_before_retry.or(defaults.delay_before_retry);
        Schedule {
            delay_loop,
            retry: self.retry.unwrap_or(defaults.retry),
            delay_before_retry: pause.unwrap_or(delay_loop),
            warmup: self.warmup,
            alpha: self.alpha.unwrap_or(false),
            log_all_failures: self.log_all_failures.unwrap_or(false),
        }
    }

    /// Longest that one try may take.
    pub fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(TIMEOUT)
    }
}
