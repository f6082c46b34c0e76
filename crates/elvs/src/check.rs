//! `elvs check`: reads a configuration and reports every mistake.
//!
//! **Invariant:** nothing is touched but the files named; the exit code is 0 only for a file that `elvs run` takes.
//!
//! Called by the command line.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use elvs_config::{Diagnostic, Outcome, Severity, render};
use serde::Serialize;

use crate::files;

/// Options of `elvs check`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Configuration file
    #[arg(short, long, value_name = "FILE", default_value = crate::run::DEFAULT_CONFIG)]
    file: PathBuf,
    /// Name for which `@id` lines count; the first label of this host's name if not given
    #[arg(short = 'i', long, value_name = "ID")]
    config_id: Option<String>,
    /// Print the findings as JSON
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
}

/// Checks a file.
///
/// # Errors
/// Output that cannot be written.
pub fn run(options: &Options) -> Result<ExitCode> {
    let path = options.file.to_string_lossy();
    let outcome = match &options.config_id {
        Some(id) => files::read_as(&path, id.clone()),
        None => files::read(&path),
    };
    let mut out = io::stdout().lock();
    if options.json {
        print_json(&mut out, &path, &outcome)?;
    } else {
        let colour = io::stdout().is_terminal();
        out.write_all(render(&outcome.diagnostics, &outcome.sources, colour).as_bytes())?;
        writeln!(out, "{path}: {}", summary(&outcome))?;
    }
    out.flush()?;
    Ok(if outcome.desired.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_json(out: &mut impl Write, path: &str, outcome: &Outcome) -> Result<()> {
    let findings = Findings {
        file: path.to_owned(),
        ok: outcome.desired.is_some(),
        services: outcome.desired.as_ref().map_or(0, |desired| desired.services.len()),
        diagnostics: &outcome.diagnostics,
    };
    serde_json::to_writer_pretty(&mut *out, &findings)?;
    writeln!(out)?;
    Ok(())
}

fn summary(outcome: &Outcome) -> String {
    let count = |severity| outcome.diagnostics.iter().filter(|d| d.severity == severity).count();
    let (errors, warnings, notes) =
        (count(Severity::Error), count(Severity::Warning), count(Severity::Note));
    match &outcome.desired {
        Some(desired) => {
            let real_servers: usize = desired.services.iter().map(|s| s.destinations.len()).sum();
            format!(
                "ok: {} virtual services, {real_servers} real servers; {warnings} warnings, {notes} notes",
                desired.services.len()
            )
        }
        None => format!("refused: {errors} errors, {warnings} warnings, {notes} notes"),
    }
}
