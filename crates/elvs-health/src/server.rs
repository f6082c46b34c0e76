//! A real server in one virtual server: whether it is alive, and with which weight.
//!
//! **Invariant:** it is alive if all its checks are up, it is not suspect, not held down, and its agent did not take it out.
//!
//! Called by [`crate::unit`].

use std::collections::VecDeque;
use std::time::Duration;

use elvs_model::health::{AgentMode, ServerHealth, ServerState, WeightChange};
use elvs_model::{Destination, DestinationKey};

use crate::agenda::ServerId;
use crate::check::{Checker, Checkers, Said};
use crate::clock::Moment;
use crate::damping::Flaps;
use crate::history::{Entry, remember};
use crate::passive::{Suspicion, Window};
use crate::schedule::Standing;
use crate::{CheckId, Time};

/// Weights are at most this: IPVS keeps them in an `int`.
const MOST_WEIGHT: i64 = i32::MAX as i64;

/// Slow start changes a weight no more often than this.
const RAMP_STEP: Duration = Duration::from_secs(1);

/// A real server in one virtual server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) id: ServerId,
    pub(crate) name: String,
    pub(crate) health: ServerHealth,
    /// The destination that it is in each service of the virtual server, in their order.
    pub(crate) destinations: Vec<Option<Destination>>,
    /// Its checks, in the order of the file.
    pub(crate) checks: Vec<Asked>,
    /// It counts for the quorum.
    pub(crate) alive: bool,
    pub(crate) adjust: Adjust,
    pub(crate) state: ServerState,
    pub(crate) since: Moment,
    pub(crate) reason: String,
    pub(crate) history: VecDeque<Entry<ServerState>>,
    pub(crate) times: Times,
    pub(crate) window: Window,
    /// What made it suspect last.
    pub(crate) suspicion: Suspicion,
    /// The earliest of its deadlines, as entered in the agenda.
    pub(crate) wake: Option<Time>,
}

/// A check that a real server asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) check: CheckId,
    /// What it counts as until it has run.
    pub(crate) presumed_up: bool,
    /// It took the place of another one, whose failure was told.
    pub(crate) told_down: bool,
}

/// What happened to a real server when, and until when it lasts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Times {
    /// It failed at least once.
    pub(crate) fell: bool,
    pub(crate) flaps: Flaps,
    /// How long the recovery from its last failure waits.
    pub(crate) penalty: Duration,
    /// When it last came back.
    pub(crate) recovered: Option<Moment>,
    pub(crate) held_until: Option<Time>,
    pub(crate) suspect_until: Option<Time>,
    pub(crate) ramp: Option<Ramp>,
    /// It was removed from the configuration, and drains until then.
    pub(crate) leaving: Option<Time>,
}

/// A weight that grows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ramp {
    pub(crate) began: Moment,
    /// How far it was at the last step.
    pub(crate) reached: Duration,
    pub(crate) whole: Duration,
}

/// What checks make of a configured weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Adjust {
    sets: i64,
    sum: i64,
    percent: u32,
    drain: bool,
}

impl Adjust {
    const NONE: Self = Self { sets: 0, sum: 0, percent: 100, drain: false };

    /// The weight, without slow start. Several changes add up, as keepalived's `effective_weight` does.
    fn apply(&self, configured: u32) -> u32 {
        if self.drain {
            return 0;
        }
        let configured = i64::from(configured);
        let weight = configured.saturating_sub(self.sets.saturating_mul(configured));
        let weight = weight.saturating_add(self.sum).clamp(0, MOST_WEIGHT);
        let part = (weight.saturating_mul(i64::from(self.percent)) / 100).min(MOST_WEIGHT);
        // A share of something is something, unless none was asked for.
        let least = i64::from(weight > 0 && self.percent > 0);
        u32::try_from(part.max(least)).unwrap_or(0)
    }

    const fn add(&mut self, change: WeightChange) {
        match change {
            WeightChange::None => {}
            WeightChange::Set(weight) => {
                self.sets += 1;
                self.sum = self.sum.saturating_add(weight as i64);
            }
            WeightChange::Add(difference) => self.sum = self.sum.saturating_add(difference),
        }
    }
}

/// What the checks of a real server say together.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// State and reason of the first check that keeps it from being alive.
    pub(crate) down: Option<(ServerState, String)>,
    /// One of them ran and failed, rather than not having run.
    pub(crate) failed: bool,
    pub(crate) adjust: Adjust,
    /// Keyword and words of the check that ran last.
    pub(crate) last: Option<String>,
}

impl Asked {
    /// Whether the check counts as up by what it said.
    pub(crate) const fn up(&self, said: &Said) -> bool {
        match said.tries.standing {
            Standing::Unknown => self.presumed_up,
            Standing::Up => !said.agent.down,
            Standing::Down => false,
        }
    }
}

impl Server {
    /// A real server that nothing is known of.
    pub(crate) fn new(id: ServerId, name: String, health: ServerHealth, now: Time) -> Self {
        Self {
            id,
            name,
            health,
            destinations: Vec::new(),
            checks: Vec::new(),
            alive: false,
            adjust: Adjust::NONE,
            state: ServerState::Down,
            since: Moment::from(now),
            reason: String::new(),
            history: VecDeque::new(),
            times: Times::default(),
            window: Window::default(),
            suspicion: Suspicion::default(),
            wake: None,
        }
    }

    /// What names it in the first service.
    pub(crate) const fn key(&self) -> DestinationKey {
        self.health.key
    }

    /// Weight of the configuration.
    pub(crate) fn configured_weight(&self) -> u32 {
        self.destinations.iter().flatten().next().map_or(0, |destination| destination.weight)
    }

    /// Weight that counts for the quorum: the full one, though it may still grow to it.
    pub(crate) fn full_weight(&self) -> u32 {
        self.adjust.apply(self.configured_weight())
    }

    /// Weight that a destination is scheduled with while it is alive.
    pub(crate) fn scheduled_weight(&self, configured: u32) -> u32 {
        let full = self.adjust.apply(configured);
        let Some(ramp) = self.times.ramp else { return full };
        let part = u128::from(full) * ramp.reached.as_millis() / ramp.whole.as_millis().max(1);
        u32::try_from(part).unwrap_or(full).clamp(full.min(1), full)
    }

    /// The checks it asked for.
    pub(crate) fn asked(&self) -> impl Iterator<Item = CheckId> {
        self.checks.iter().map(|asked| asked.check)
    }

    /// Takes a sample of its connections.
    pub(crate) fn sample(&mut self, now: Time, new: u64, failed: u64) {
        if let Some(passive) = &self.health.passive {
            self.window.sample(passive, now, new, failed);
        }
    }

    /// Tells whether it is suspect by its connections; `others` as in [`Window::judge`].
    pub(crate) fn suspect(&mut self, now: Time, others: (u64, u64)) -> bool {
        let Some(passive) = self.health.passive else { return false };
        let Some(suspicion) = self.window.judge(&passive, others) else { return false };
        self.times.suspect_until = Some(now + passive.hold);
        self.suspicion = suspicion;
        true
    }

    /// What its checks say.
    pub(crate) fn ask(&self, checkers: &Checkers) -> Verdict {
        let mut adjust = Adjust::NONE;
        let mut down: Option<(ServerState, String)> = None;
        let mut last: Option<&Checker> = None;
        let mut any_failed = false;
        for asked in &self.checks {
            let Some(checker) = checkers.get(&asked.check) else { continue };
            adjust.add(checker.said.weight);
            adjust.percent = checker.said.agent.percent.unwrap_or(adjust.percent);
            adjust.drain |= checker.said.agent.mode == Some(AgentMode::Drain);
            if last.is_none_or(|last| checker.record.ended > last.record.ended) {
                last = Some(checker);
            }
            let failed = !asked.up(&checker.said);
            any_failed |= failed && checker.said.tries.standing != Standing::Unknown;
            let out = checker.said.agent.mode == Some(AgentMode::Maint);
            let state = if failed { ServerState::Down } else { ServerState::Maintenance };
            // A failed check says more than maintenance.
            let says_more = down.as_ref().is_none_or(|(told, _)| *told != ServerState::Down);
            if (failed && says_more) || (out && down.is_none()) {
                down = Some((state, words_of(checker)));
            }
        }
        Verdict { down, failed: any_failed, adjust, last: last.map(words_of) }
    }

    /// Whether it is alive now, by what its checks say and by its own deadlines, which are set where one begins.
    pub(crate) fn judge(&mut self, now: Time, verdict: &Verdict) -> bool {
        let times = &mut self.times;
        times.suspect_until = times.suspect_until.filter(|until| *until > now);
        if let Some((state, _)) = &verdict.down {
            times.held_until = None;
            times.fell |= verdict.failed;
            if *state == ServerState::Down
                && let (true, Some(damping)) = (self.alive, &self.health.damping)
            {
                let up = times.recovered.map(|recovered| recovered.until(now));
                times.flaps.failed(damping, up);
                times.penalty = times.flaps.hold(damping);
            }
            return false;
        }
        if times.suspect_until.is_some() {
            return false;
        }
        if !self.alive && !times.penalty.is_zero() {
            let until = *times.held_until.get_or_insert(now + times.penalty);
            if until > now {
                return false;
            }
        }
        times.penalty = Duration::ZERO;
        times.held_until = None;
        true
    }

    /// It became alive or ceased to be.
    pub(crate) fn become_alive(&mut self, now: Time, alive: bool) {
        self.alive = alive;
        self.times.ramp = None;
        if !alive {
            self.times.fell = true;
        } else if self.times.fell {
            let began = Moment::from(now);
            self.times.recovered = Some(began);
            let whole = self.health.slow_start.filter(|whole| !whole.is_zero());
            self.times.ramp = whole.map(|whole| Ramp { began, reached: Duration::ZERO, whole });
        }
    }

    /// Goes one step further with a growing weight; tells whether that ended.
    pub(crate) fn climb(&mut self, now: Time) -> bool {
        let Some(ramp) = &mut self.times.ramp else { return false };
        let elapsed = ramp.began.until(now);
        if elapsed < ramp.whole {
            ramp.reached = elapsed;
            return false;
        }
        self.times.ramp = None;
        true
    }

    /// It is configured anew: what is no longer asked for ends.
    pub(crate) fn take_health(&mut self, health: ServerHealth) {
        self.health = health;
        let whole = self.health.slow_start.filter(|whole| !whole.is_zero());
        let ramp = self.times.ramp.zip(whole);
        self.times.ramp = ramp.map(|(ramp, whole)| Ramp { whole, ..ramp });
        self.times.suspect_until =
            self.times.suspect_until.filter(|_| self.health.passive.is_some());
        if self.health.damping.is_none() {
            self.times.penalty = Duration::ZERO;
        }
    }

    /// It is no longer configured: it gets no new connections, and goes at a deadline.
    pub(crate) fn leave(&mut self, now: Time, until: Time) {
        self.alive = false;
        self.health.checks.clear();
        self.health.passive = None;
        self.times = Times { leaving: Some(until), ..Times::default() };
        self.show(now, ServerState::Leaving, "removed from the configuration".to_owned());
    }

    /// The state to be shown, and why.
    pub(crate) fn present_state(&self, verdict: Verdict) -> (ServerState, String) {
        let times = &self.times;
        let said = || verdict.last.clone().unwrap_or_else(|| self.unchecked());
        match verdict.down {
            Some((state, words)) => (state, words),
            None if times.suspect_until.is_some() => {
                (ServerState::Suspect, self.suspicion.to_string())
            }
            None if times.held_until.is_some() => (
                ServerState::HeldDown,
                format!("failed again soon after it came back; now {}", said()),
            ),
            None if verdict.adjust.drain => (ServerState::Draining, said()),
            None if times.ramp.is_some() => (ServerState::SlowStart, said()),
            None => (ServerState::Up, said()),
        }
    }

    fn unchecked(&self) -> String {
        if self.checks.is_empty() { "no check".to_owned() } else { "not checked yet".to_owned() }
    }

    /// Shows a state from now on, and remembers it.
    pub(crate) fn show(&mut self, now: Time, state: ServerState, reason: String) {
        if self.state == state && !self.reason.is_empty() {
            return;
        }
        self.state = state;
        self.since = Moment::from(now);
        remember(&mut self.history, Entry { at: self.since, state, reason: reason.clone() });
        self.reason = reason;
    }

    /// Its earliest deadline after `now`.
    pub(crate) fn deadline(&self, now: Time) -> Option<Time> {
        let times = &self.times;
        let step = times.ramp.map(|ramp| {
            let left = ramp.whole.saturating_sub(ramp.began.until(now));
            now + left.min(RAMP_STEP).max(Duration::from_millis(1))
        });
        [times.held_until, times.suspect_until, step, times.leaving].into_iter().flatten().min()
    }
}

fn words_of(checker: &Checker) -> String {
    let words = match checker.record.words.as_str() {
        "" => "not passed yet",
        words => words,
    };
    format!("{}: {words}", checker.check.kind.name())
}
