//! `elvs check`: reads a configuration, reports every mistake, and says what the file means and would change.
//!
//! **Invariant:** nothing is touched but the files named, the daemon only asked (`--diff`), this host only looked at; the exit code is 0 only for a
//! file that `elvs run` takes.
//!
//! Called by the command line.

mod changes;
mod keywords;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use elvs_api::{Client, Plan};
use elvs_config::{Diagnostic, Outcome, Severity, explain, render};
use elvs_model::Desired;
use serde::Serialize;

use crate::{files, host_findings};

/// Options of `elvs check`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Configuration file
    #[arg(short, long, value_name = "FILE", default_value = crate::run::DEFAULT_CONFIG)]
    file: PathBuf,
    /// Name for which `@id` lines count; the first label of this host's name if not given
    #[arg(short = 'i', long, value_name = "ID")]
    config_id: Option<String>,
    /// Print what the file means, in plain words
    #[arg(long)]
    explain: bool,
    /// Print what a reload with this file would change in the running director
    #[arg(long)]
    diff: bool,
    /// Leave out what the file asks for and this host does not have, on a host that is not to run it
    #[arg(long)]
    no_host: bool,
    /// Print the keywords of the language, or those of one block, for editors and completion
    #[arg(long, value_name = "BLOCK", num_args = 0..=1, conflicts_with_all = ["explain", "diff"])]
    keywords: Option<Option<String>>,
    /// Print the findings, and what else was asked for, as JSON
    #[arg(long)]
    json: bool,
}

/// The JSON form.
#[derive(Serialize)]
struct Findings<'a> {
    file: String,
    ok: bool,
    services: usize,
    diagnostics: &'a [Diagnostic],
    /// What this host lacks, unless that was left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    meaning: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<&'a Plan>,
}

/// Checks a file; `socket` is that of the daemon that `--diff` asks.
///
/// # Errors
/// Output that cannot be written, a block that is none, and with `--diff` no daemon or one that refuses the file.
pub fn run(options: &Options, socket: &Path) -> Result<ExitCode> {
    let colour = io::stdout().is_terminal();
    let mut out = io::stdout().lock();
    let taken = write(options, socket, colour, &mut out)?;
    out.flush()?;
    Ok(if taken { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Writes what was asked for; says whether the file is one to run.
fn write(options: &Options, socket: &Path, colour: bool, out: &mut impl Write) -> Result<bool> {
    if let Some(block) = &options.keywords {
        keywords::print(out, block.as_deref(), options.json)?;
        return Ok(true);
    }
    let path = options.file.to_string_lossy();
    let outcome = match &options.config_id {
        Some(id) => files::read_as(&path, id.clone()),
        None => files::read(&path),
    };
    let plan = match &outcome.desired {
        Some(desired) if options.diff => Some(plan(desired, socket)?),
        Some(_) | None => None,
    };
    let host = outcome.desired.as_ref().filter(|_| !options.no_host).map(host_findings::of_this);
    if options.json {
        print_json(out, options, &outcome, host.as_deref(), plan.as_ref())?;
    } else {
        out.write_all(render(&outcome.diagnostics, &outcome.sources, colour).as_bytes())?;
        writeln!(out, "{path}: {}", summary(&outcome))?;
        if let Some(lines) = host.filter(|lines| !lines.is_empty()) {
            writeln!(out, "\non this host:")?;
            lines.iter().try_for_each(|line| writeln!(out, "warning: {line}"))?;
        }
        if let Some(desired) = outcome.desired.as_ref().filter(|_| options.explain) {
            write!(out, "\n{}", explain(desired))?;
        }
        if let Some(plan) = &plan {
            print_plan(out, plan)?;
        }
    }
    Ok(outcome.desired.is_some())
}

/// What the daemon would change.
fn plan(desired: &Desired, socket: &Path) -> Result<Plan> {
    let mut client = Client::connect(socket)?;
    client.plan(Some(desired)).context("the daemon was asked what a reload would change")
}

fn print_plan(out: &mut impl Write, plan: &Plan) -> io::Result<()> {
    writeln!(out)?;
    for finding in &plan.findings {
        writeln!(out, "{finding}")?;
    }
    match plan.changes.len() {
        0 => writeln!(out, "a reload would change nothing"),
        n => {
            writeln!(out, "a reload would make {}:", counted(n, "change"))?;
            changes::lines(&plan.changes).iter().try_for_each(|line| writeln!(out, "  {line}"))
        }
    }
}

fn print_json(
    out: &mut impl Write,
    options: &Options,
    outcome: &Outcome,
    host: Option<&[String]>,
    plan: Option<&Plan>,
) -> Result<()> {
    let desired = outcome.desired.as_ref();
    let findings = Findings {
        file: options.file.to_string_lossy().into_owned(),
        ok: desired.is_some(),
        services: desired.map_or(0, |desired| desired.services.len()),
        diagnostics: &outcome.diagnostics,
        host,
        meaning: desired.filter(|_| options.explain).map(explain),
        plan,
    };
    serde_json::to_writer_pretty(&mut *out, &findings)?;
    writeln!(out)?;
    Ok(())
}

fn summary(outcome: &Outcome) -> String {
    let count = |severity, one: &str| {
        counted(outcome.diagnostics.iter().filter(|d| d.severity == severity).count(), one)
    };
    let (errors, warnings, notes) = (
        count(Severity::Error, "error"),
        count(Severity::Warning, "warning"),
        count(Severity::Note, "note"),
    );
    match &outcome.desired {
        Some(desired) => {
            let real_servers: usize = desired.services.iter().map(|s| s.destinations.len()).sum();
            let services = counted(desired.services.len(), "virtual service");
            let real_servers = counted(real_servers, "real server");
            format!("ok: {services}, {real_servers}; {warnings}, {notes}")
        }
        None => format!("refused: {errors}, {warnings}, {notes}"),
    }
}

/// A number of things, of which `one` is the name of one.
fn counted(number: usize, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

#[cfg(test)]
mod tests;
