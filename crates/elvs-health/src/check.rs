//! One check that runs: its results, its times, and who shares it.
//!
//! **Invariant:** at most one run is under way, and one next run is planned; never both.
//!
//! Called by the monitor.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use elvs_model::health::{
    AgentMode, AgentReply, Check, CheckKind, CheckResult, CheckState, Finding, WeightChange,
};
use indexmap::IndexSet;
use serde::{Deserialize, Serialize};

use crate::agenda::{ServerId, UnitId};
use crate::clock::Moment;
use crate::schedule::{Standing, Tries, counts_from_start};
use crate::{CheckId, Time};

/// The checks that run.
pub(crate) type Checkers = HashMap<CheckId, Checker>;

/// A check that runs.
#[derive(Debug)]
pub(crate) struct Checker {
    /// What it is.
    pub(crate) check: Arc<Check>,
    /// The real servers that share it.
    pub(crate) shared_by: IndexSet<(UnitId, ServerId)>,
    /// What its runs say.
    pub(crate) said: Said,
    /// Counters and words.
    pub(crate) record: Record,
    /// When the next run begins.
    pub(crate) next: Option<Time>,
    /// When the run under way began.
    pub(crate) began: Option<Time>,
    /// Nobody who shares it wants it to run.
    pub(crate) suspended: bool,
}

/// What the runs of a check say of the real servers that share it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Said {
    /// Whether it is up.
    pub(crate) tries: Tries,
    /// What becomes of the weight.
    pub(crate) weight: WeightChange,
    /// What an agent asked for.
    pub(crate) agent: Agent,
}

/// What an agent asked for, all replies taken together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Agent {
    /// Percent of the configured weight.
    pub(crate) percent: Option<u32>,
    /// `drain` or `maint`, unless `ready` came since.
    pub(crate) mode: Option<AgentMode>,
    /// It called itself down.
    pub(crate) down: bool,
}

/// Counters of a check, and what it found last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    /// The last finding.
    pub(crate) words: String,
    /// When the standing last changed.
    pub(crate) since: Moment,
    /// When the last run ended.
    pub(crate) ended: Option<Moment>,
    /// How long it took.
    pub(crate) took: Option<Duration>,
    /// Runs.
    pub(crate) runs: u64,
    /// Runs that failed.
    pub(crate) failures: u64,
    /// Runs that failed since the last that did not.
    pub(crate) failures_in_row: u64,
}

impl Checker {
    /// A check that has not run.
    pub(crate) fn new(check: Arc<Check>, now: Time) -> Self {
        Self {
            shared_by: IndexSet::new(),
            said: Said { tries: Tries::new(&check), ..Said::default() },
            record: Record { since: Moment::from(now), ..Record::default() },
            next: None,
            began: None,
            suspended: false,
            check,
        }
    }

    /// Whether it runs by the clock; `BFD_CHECK` is told of changes.
    pub(crate) fn runs(&self) -> bool {
        !matches!(self.check.kind, CheckKind::Bfd(_))
    }

    /// The BFD session that it follows.
    pub(crate) fn session(&self) -> Option<&str> {
        if let CheckKind::Bfd(bfd) = &self.check.kind { Some(&bfd.instance) } else { None }
    }

    /// How late the first run may be.
    pub(crate) fn warmup(&self) -> Duration {
        // keepalived reads files before anything else: check_file.c, "we know the state of the checker immediately".
        let at_once = matches!(self.check.kind, CheckKind::File(_));
        let schedule = &self.check.schedule;
        let warmup = schedule.warmup.unwrap_or(schedule.delay_loop);
        if at_once { Duration::ZERO } else { warmup }
    }

    /// It found something before it begins. Its first run is still to come.
    pub(crate) fn foreseen(&mut self, now: Time, finding: &Finding) {
        self.judge(now, finding);
    }

    /// A run ended. The next one is planned.
    pub(crate) fn ended(&mut self, now: Time, finding: &Finding, took: Duration) {
        let began = self.began.take();
        self.judge(now, finding);
        self.record.took = Some(took);
        if !self.suspended {
            let from = began.filter(|_| counts_from_start(&self.check)).unwrap_or(now);
            self.next = Some((from + self.said.tries.delay(&self.check)).max(now));
        }
    }

    /// An event said that it is up or down.
    pub(crate) fn told(&mut self, now: Time, up: bool, words: &str) {
        let before = self.said.tries.standing;
        self.said.tries = Tries::told(up);
        self.note(now, before, up, words);
    }

    /// How the check is shown.
    pub(crate) fn state(&self) -> CheckState {
        let fails = self.record.failures_in_row > 0;
        match self.said.tries.standing {
            Standing::Down => CheckState::Down,
            Standing::Up | Standing::Unknown if fails => CheckState::Failing,
            Standing::Up => CheckState::Up,
            Standing::Unknown => CheckState::Unknown,
        }
    }

    fn judge(&mut self, now: Time, finding: &Finding) {
        let before = self.said.tries.standing;
        let passed = match &finding.result {
            CheckResult::Passed(weight) => {
                self.said.tries.passed(&self.check);
                self.said.weight = *weight;
                true
            }
            CheckResult::Agent(reply) => {
                self.said.tries.passed(&self.check);
                self.said.agent.heard(reply);
                !self.said.agent.down
            }
            CheckResult::Failed => {
                self.said.tries.failed(&self.check);
                false
            }
        };
        self.note(now, before, passed, &finding.words);
    }

    fn note(&mut self, now: Time, before: Standing, passed: bool, words: &str) {
        let record = &mut self.record;
        record.runs += 1;
        record.failures += u64::from(!passed);
        record.failures_in_row = if passed { 0 } else { record.failures_in_row + 1 };
        record.ended = Some(Moment::from(now));
        if record.words != words {
            words.clone_into(&mut record.words);
        }
        if self.said.tries.standing != before {
            record.since = Moment::from(now);
        }
    }
}

impl Agent {
    /// A reply came: what it leaves out stays.
    fn heard(&mut self, reply: &AgentReply) {
        self.percent = reply.percent.or(self.percent);
        self.down = reply.up.map_or(self.down, |up| !up);
        if let Some(mode) = reply.administrative {
            self.mode = (mode != AgentMode::Ready).then_some(mode);
        }
    }
}
