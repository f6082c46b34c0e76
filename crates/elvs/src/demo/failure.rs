//! `elvs demo --fail`: a real server fails, then all of them, then they come back.
//!
//! **Invariant:** requests go on all the time; those from the failure until the director knows of it are counted apart from
//! those after, of which none may fail.
//!
//! Called by the demo.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use comfy_table::{CellAlignment, Table};
use elvs_model::health::WatchedView;
use serde::Serialize;

use super::client::{self, Outcome, Requests};
use super::config::DETECTION;
use super::director::Director;
use super::options::{SORRY, Settings};
use super::report;
use super::stage::Stage;
use super::state::State;
use super::stop::Stop;

/// Requests between two looks at the director.
const PORTION: u16 = 10;
/// Between two requests while the director is watched.
const PACE: Duration = Duration::from_millis(5);
/// Longest wait for the director to see something.
const PATIENCE: Duration = Duration::from_secs(30);

/// A part of the demo.
#[derive(Clone, Debug, Serialize)]
struct Act {
    /// What happened at its beginning.
    event: String,
    /// How long it took until the director knew of it; `None` = nothing happened.
    detected_ms: Option<u128>,
    /// Requests until then, answered and failed.
    before: Counts,
    /// Requests after.
    after: Counts,
    /// Who may answer after.
    #[serde(skip)]
    expected: Vec<String>,
}

/// Requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct Counts {
    answered: BTreeMap<String, u64>,
    failed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_failure: Option<String>,
}

impl Counts {
    fn add(&mut self, outcome: Outcome) {
        for (server, number) in outcome.answers {
            *self.answered.entry(server).or_default() += number;
        }
        self.failed += outcome.failed;
        self.first_failure = self.first_failure.take().or(outcome.first_failure);
    }
}

/// Plays the four acts.
pub(super) fn perform(
    settings: &Settings,
    fail: u8,
    state: &mut State,
    stop: &Stop,
) -> Result<ExitCode> {
    let mut stage = Stage::build(settings, state, stop)?;
    if !settings.json {
        report::introduce(&mut io::stdout().lock(), settings, stage.config())?;
    }
    let mut director = stage.start_director(state, stop)?;
    let all: Vec<u8> = (1..=settings.plan().real_servers.saturating_sub(1)).collect();
    let names = |of: &mut dyn Iterator<Item = u8>| -> Vec<String> {
        of.map(|number| settings.name(number)).collect()
    };
    let mut sent = 0;
    let mut play = Play { settings, director: &mut director, stop, sent: &mut sent };
    let all_names = names(&mut all.iter().copied());
    let checked = |watched: &WatchedView| alive(watched) == all.len() && has_run(watched);
    let mut acts = vec![play.act(&stage, "all real servers work", all_names.clone(), checked)?];
    acts.iter_mut().for_each(|act| act.detected_ms = None);

    stage.fail(fail);
    let rest = names(&mut all.iter().copied().filter(|number| *number != fail));
    let event = format!("rs{fail} fails");
    acts.push(play.act(&stage, &event, rest, |watched| alive(watched) + 1 == all.len())?);

    all.iter().for_each(|number| stage.fail(*number));
    let sorry = |w: &WatchedView| w.sorry_server.is_some_and(|sorry| sorry.in_use);
    acts.push(play.act(&stage, "the others fail, too", vec![SORRY.to_owned()], sorry)?);

    for number in &all {
        stage.restore(*number, settings, state)?;
    }
    let back = |watched: &WatchedView| alive(watched) == all.len() && !sorry(watched);
    acts.push(play.act(&stage, "all come back", all_names, back)?);
    director.stop()?;
    finish(settings, &acts)
}

/// What the acts have in common.
struct Play<'a> {
    settings: &'a Settings,
    director: &'a mut Director,
    stop: &'a Stop,
    /// Requests so far, which decides on the next client port.
    sent: &'a mut u16,
}

impl Play<'_> {
    /// Sends requests until the director knows of an event, and then the number of the settings.
    fn act(
        &mut self,
        stage: &Stage,
        event: &str,
        expected: Vec<String>,
        knows: impl Fn(&WatchedView) -> bool,
    ) -> Result<Act> {
        let begin = Instant::now();
        let mut before = Counts::default();
        while !self.director.knows(&knows, expected.len())? {
            if begin.elapsed() > PATIENCE {
                bail!("{event}: the director does not see it within {} s", PATIENCE.as_secs());
            }
            before.add(self.send(stage, PORTION, PACE)?);
        }
        let detected_ms = Some(begin.elapsed().as_millis());
        let mut after = Counts::default();
        after.add(self.send(stage, self.settings.requests, Duration::ZERO)?);
        Ok(Act { event: event.to_owned(), detected_ms, before, after, expected })
    }

    fn send(&mut self, stage: &Stage, number: u16, pause: Duration) -> Result<Outcome> {
        let (stop, first) = (self.stop, *self.sent);
        let requests = Requests { number, first, pause, give_up: false, stop, done: &|| () };
        let outcome = client::send(stage.client(), &requests)?;
        *self.sent = first.wrapping_add(number);
        stop.check()?;
        Ok(outcome)
    }
}

fn alive(watched: &WatchedView) -> usize {
    watched.servers.iter().filter(|server| server.state.alive()).count()
}

/// Whether every check has a result, so that what is alive is known to be.
fn has_run(watched: &WatchedView) -> bool {
    let mut checks = watched.servers.iter().flat_map(|server| &server.checks);
    checks.all(|check| check.last_run.is_some())
}

impl Act {
    /// Why the act was not as it should be.
    fn complaint(&self) -> Option<String> {
        let event = &self.event;
        if let Some(why) = self.after.first_failure.as_ref().filter(|_| self.after.failed > 0) {
            return Some(format!(
                "{event}: {} requests failed afterwards: {why}",
                self.after.failed
            ));
        }
        let answered: Vec<&String> = self.after.answered.keys().collect();
        if answered != self.expected.iter().collect::<Vec<_>>() {
            return Some(format!("{event}: {answered:?} answered, not {:?}", self.expected));
        }
        let limit = DETECTION.as_millis();
        let late = self.detected_ms.filter(|took| *took > limit && event != BACK);
        late.map(|took| format!("{event}: seen after {took} ms, which is more than {limit} ms"))
    }
}

/// The last act: a check of a server that is down comes by its own clock, and must only come.
const BACK: &str = "all come back";

fn finish(settings: &Settings, acts: &[Act]) -> Result<ExitCode> {
    let complaints: Vec<String> = acts.iter().filter_map(Act::complaint).collect();
    let mut out = io::stdout().lock();
    if settings.json {
        let value = serde_json::json!({ "mode": settings.mode.name(), "acts": acts, "complaints": complaints });
        serde_json::to_writer(&mut out, &value)?;
        writeln!(out)?;
    } else {
        print(&mut out, settings, acts, &complaints)?;
    }
    out.flush()?;
    Ok(if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(
    out: &mut impl Write,
    settings: &Settings,
    acts: &[Act],
    complaints: &[String],
) -> io::Result<()> {
    let hosts = settings.plan().real_servers;
    let names: Vec<String> = (1..=hosts).map(|number| settings.name(number)).collect();
    let mut table = Table::new();
    table.load_style(report::TABLE);
    let fixed = ["", "requests", "failed"].map(str::to_owned);
    table.set_header(fixed.iter().chain(&names));
    for act in acts {
        let until = act.detected_ms.map_or_else(
            || "until all are checked".to_owned(),
            |took| format!("until the director knows, {}.{} s", took / 1_000, took % 1_000 / 100),
        );
        table.add_row([act.event.clone()]);
        for (when, counts) in [(until, &act.before), ("after".to_owned(), &act.after)] {
            let answered: u64 = counts.answered.values().sum();
            let numbers =
                [answered + counts.failed, counts.failed].map(|number| number.to_string());
            let by_server = names.iter().map(|name| counts.answered.get(name).copied());
            let by_server = by_server.map(|number| number.unwrap_or(0).to_string());
            let row = std::iter::once(format!("  {when}")).chain(numbers).chain(by_server);
            table.add_row(row);
        }
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    writeln!(out, "{table}\n")?;
    if complaints.is_empty() {
        return writeln!(
            out,
            "No request failed once the director knew, and only working servers got any."
        );
    }
    complaints.iter().try_for_each(|complaint| writeln!(out, "NOT as it should be: {complaint}"))
}
