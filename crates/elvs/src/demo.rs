//! `elvs demo`: a client, a director and real servers on this machine, real traffic, and what came of it.
//!
//! **Invariant:** the director is the product itself (`elvs run` with a configuration file); the demo only stands
//! around it. Whatever happens, also Ctrl-C and also a crash of an earlier run, nothing of a demo stays behind unless
//! `--keep` asked for it.
//!
//! Called by the command line.

mod client;
mod config;
mod director;
mod failure;
mod options;
mod owed;
mod process;
mod report;
mod server;
mod stage;
mod state;
mod stop;
mod witness;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};

pub use options::{DemoScheduler, Mode, Options};
pub use server::{Options as ServerOptions, run as run_server};

use client::Requests;
use options::Settings;
use report::Report;
use stage::Stage;
use state::State;
use stop::Stop;
use witness::Witness;

/// Runs the demo and says how it went: success only if every request was answered and every real server got exactly
/// what the scheduler owes it.
///
/// # Errors
/// What kept the demo from running: no root, options that contradict each other, a daemon that does not start.
pub fn run(options: &Options) -> Result<ExitCode> {
    if !nix::unistd::geteuid().is_root() {
        writeln!(
            io::stderr(),
            "elvs demo needs root, because it makes network namespaces: try `sudo elvs demo`"
        )?;
        return Ok(ExitCode::FAILURE);
    }
    let settings = Settings::try_from(options)?;
    let stop = Stop::on_signals()?;
    let mut state = State::lock()?;
    let leftovers = state.remove_leftovers()?;
    if options.clean {
        say_cleaned(&leftovers, options.json)?;
        return Ok(ExitCode::SUCCESS);
    }
    let done = match settings.fail {
        Some(fail) => failure::perform(&settings, fail, &mut state, &stop),
        None => perform(&settings, &mut state, &stop).and_then(|r| finish(&settings, &r)),
    };
    match done {
        Ok(code) => Ok(code),
        // The reason is the signal, whatever failed because of it.
        Err(_) if stop.requested() => Ok(ExitCode::from(INTERRUPTED)),
        Err(error) => Err(error),
    }
}

/// Builds everything, sends the requests, takes everything down again unless it is to be kept.
fn perform(settings: &Settings, state: &mut State, stop: &Stop) -> Result<Report> {
    let stage = Stage::build(settings, state, stop)?;
    if !settings.json {
        report::introduce(&mut io::stdout().lock(), settings, stage.config())?;
    }
    let mut director = stage.start_director(state, stop)?;
    let before = director.facts()?;
    let witness = Witness::start(stage.client(), stage.director_mac()?)?;
    let bar = progress(settings);
    let outcome = client::send(
        stage.client(),
        &Requests {
            number: settings.requests,
            first: 0,
            pause: Duration::ZERO,
            give_up: true,
            stop,
            done: &|| bar.inc(1),
        },
    );
    bar.finish_and_clear();
    let outcome = outcome?;
    let replies = witness.finish()?;
    let after = director.facts()?;
    stop.check()?;
    let report = Report::new(settings, outcome, replies, after.since(&before));
    if settings.keep {
        stage.keep();
        state.keep();
        director.keep();
    } else {
        director.stop()?;
    }
    Ok(report)
}

fn finish(settings: &Settings, report: &Report) -> Result<ExitCode> {
    let mut out = io::stdout().lock();
    if settings.json {
        serde_json::to_writer(&mut out, &report.json()).context("cannot write the report")?;
        writeln!(out)?;
    } else {
        report.print(&mut out)?;
        if settings.keep {
            report::explain_keep(&mut out)?;
        }
    }
    out.flush()?;
    Ok(if report.kept_promise() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn say_cleaned(leftovers: &[String], json: bool) -> Result<()> {
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, &serde_json::json!({ "removed": leftovers }))?;
        writeln!(out)?;
    } else if leftovers.is_empty() {
        writeln!(out, "nothing to remove: no demo was left")?;
    } else {
        writeln!(out, "removed {}", leftovers.join(", "))?;
    }
    Ok(())
}

/// A bar on a terminal, nothing elsewhere.
fn progress(settings: &Settings) -> ProgressBar {
    if settings.json {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(settings.requests.into());
    match ProgressStyle::with_template("  requests [{bar:40}] {pos}/{len} {per_sec}") {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    }
}

/// Beginning of the names of the demo's namespaces.
const PREFIX: &str = "elvs-demo-";

/// Exit status after SIGINT, as a shell reports it.
const INTERRUPTED: u8 = 130;
