//! `elvs simulate`: what schedulers do with given servers and clients, by the data plane's own code, without a network.
//!
//! **Invariant:** the same script, seed and release give the same output on every machine. Nothing is touched but the
//! file named.
//!
//! Called by the command line. The way through: `script` reads, `run` carries out on `host`, `report`
//! prints.

mod clients;
mod conversation;
mod host;
mod packet;
mod report;
mod run;
mod script;
mod shares;

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::adm::{Names, SystemNames};
use run::{Report, Settings};
use script::Mistake;

/// Exit code for a script that cannot be run.
const UNUSABLE: u8 = 2;

/// Options of `elvs simulate`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = FORM)]
pub struct Options {
    /// Script; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Compare with the places that the script's events end in; exit 1 at the first that differs
    #[arg(long)]
    check: bool,
    /// Start of the random numbers of scheduler twos
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Say how many clients of dh, sh and mh each added, edited or deleted real server moved
    #[arg(long)]
    moved: bool,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

/// The form of a script, for `--help` and the man page.
const FORM: &str = "\
A script has one of these on each line:
  ipvsadm ...                           a command of ipvsadm changes or lists the table
  elvs mark add ...                     a rule that gives packets a firewall mark
  open NAME PROTO SRC:PORT DST:PORT     a connection that stays; PROTO is tcp, udp or sctp
  close NAME                            it ends
  short PROTO SRC:PORT DST:PORT         a connection that is opened and closed again
  packet udp SRC:PORT DST:PORT          one datagram
  wait SECONDS                          time passes, and entries expire
  list                                  ipvsadm -Ln
  # comment

open, short and packet are printed with ` -> ADDR:PORT` or ` -> none`. Lines that end so already are
expectations, which --check compares; an address without a port means any port. What goes to a
service of scheduler twos is compared by shares: they may differ by as much as two honest draws do
in all but one case of a thousand (two-sample chi-square).

Exit codes: 0 done, 1 a difference, 2 a script that cannot be run.";

/// Runs a script.
///
/// # Errors
/// Output that cannot be written.
pub fn run(options: &Options) -> Result<ExitCode> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut errors = io::stderr().lock();
    let file = options.file.to_string_lossy();
    let text = match read(&options.file) {
        Ok(text) => text,
        Err(error) => {
            writeln!(errors, "elvs: {error:#}")?;
            return Ok(ExitCode::from(UNUSABLE));
        }
    };
    let settings = Settings { seed: options.seed, check: options.check, moved: options.moved };
    let code = match simulate(&text, &SystemNames, settings) {
        Ok(report) => {
            print(&file, &report, settings, options.json, &mut out)?;
            ExitCode::from(u8::from(report.checked.difference.is_some()))
        }
        Err(mistakes) if options.json => {
            report::json_mistakes(&file, &mistakes, &mut out)?;
            ExitCode::from(UNUSABLE)
        }
        Err(mistakes) => {
            for mistake in mistakes {
                writeln!(errors, "{file}:{}: {}", mistake.line, mistake.message)?;
            }
            ExitCode::from(UNUSABLE)
        }
    };
    out.flush()?;
    Ok(code)
}

fn read(file: &Path) -> Result<String> {
    let bytes = if file == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes).context("standard input cannot be read")?;
        bytes
    } else {
        fs::read(file).with_context(|| format!("script {} cannot be read", file.display()))?
    };
    String::from_utf8(bytes)
        .with_context(|| format!("script {} is no text (UTF-8)", file.display()))
}

fn simulate(text: &str, names: &dyn Names, settings: Settings) -> Result<Report, Vec<Mistake>> {
    let script = script::read(text, names)?;
    if settings.check && script.lines.iter().all(|line| line.expected.is_none()) {
        let message = "there is nothing to check: no event ends in ` -> ADDR` or ` -> none`; \
                       a run without --check prints them so";
        return Err(vec![Mistake { line: text.lines().count(), message: message.to_owned() }]);
    }
    run::run(&script, names, settings).map_err(|mistake| vec![mistake])
}

fn print(
    file: &str,
    report: &Report,
    settings: Settings,
    json: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    if json {
        report::json(file, report, settings, out)
    } else if settings.check {
        report::checked(file, &report.checked, out)
    } else {
        report::text(report, out)
    }
}
