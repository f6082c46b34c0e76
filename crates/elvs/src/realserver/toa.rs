//! `elvs realserver toa`: programs on a real server behind FULLNAT see the true client.
//!
//! **Invariant:** nothing is attached without a prefix whose options are believed, since whoever is believed can name
//! any client.
//!
//! Called by `elvs realserver`.

mod cgroup;
mod programs;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use elvs_common::ToaCounter;
use ipnet::IpNet;
use tokio::signal::unix::{SignalKind, signal};

use programs::{Attached, Counters, Pins};

/// Options of `elvs realserver toa`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
The director's FULLNAT puts the client's address into TCP option 254 (TOA) of a connection's first segments. While this \
command runs, accept() and getpeername() of programs in the control group answer with that address, for connections \
established from then on. SIGUSR1 prints the counters.")]
pub struct Options {
    /// Believe options from these source addresses: the director's local addresses (repeatable)
    #[arg(
        long,
        value_name = "PREFIX",
        value_parser = prefix,
        required_unless_present_any = ["status", "clean"],
    )]
    trust: Vec<IpNet>,
    /// Control group (v2) whose programs shall see clients; default: all of the machine
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
    /// Attach, keep it so without this process, and return
    #[arg(long)]
    pin: bool,
    /// Print the counters of what --pin left
    #[arg(long, conflicts_with_all = ["trust", "cgroup", "pin", "clean"])]
    status: bool,
    /// Take away what --pin left
    #[arg(long, conflicts_with_all = ["trust", "cgroup", "pin"])]
    clean: bool,
    /// Print reports as JSON, one line each
    #[arg(long)]
    json: bool,
}

/// Does what the options say.
///
/// # Errors
/// No cgroup2 hierarchy, programs that the kernel refuses, pins that are there already or not at all.
pub fn run(options: &Options) -> Result<ExitCode> {
    let pins = Pins::standard();
    if options.status {
        report(options, "status", None, &Counters::pinned(&pins)?)?;
    } else if options.clean {
        let counters = Counters::pinned(&pins).and_then(|counters| counters.read());
        pins.remove()?;
        // Pins of an older version may lack counters; they are gone all the same.
        print(options, "removed", None, &counters.unwrap_or_default())?;
    } else {
        attach(options, &pins)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn attach(options: &Options, pins: &Pins) -> Result<()> {
    let group = cgroup::find(options.cgroup.as_deref())?;
    if options.pin {
        pins.ensure_absent()?;
    }
    let attached = Attached::attach(&group, &options.trust)?;
    let place = Some(group.path.display().to_string());
    if options.pin {
        let counters = attached.pin(pins)?;
        return report(options, "pinned", place, &counters);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Before anyone is told that it is time to send signals.
        let listen = |kind| signal(kind).context("cannot listen for signals");
        let mut terminate = listen(SignalKind::terminate())?;
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut look = listen(SignalKind::user_defined1())?;
        // As text, counters come when they are asked for.
        let start = if options.json { attached.counters.read()? } else { Vec::new() };
        print(options, "attached", place.clone(), &start)?;
        loop {
            tokio::select! {
                _ = terminate.recv() => return anyhow::Ok(()),
                _ = interrupt.recv() => return Ok(()),
                _ = look.recv() => {
                    report(options, "attached", place.clone(), &attached.counters)?;
                }
            }
        }
    })?;
    report(options, "detached", place.clone(), &attached.counters)
}

/// What `--json` prints.
#[derive(Debug, serde::Serialize)]
struct Report<'a> {
    state: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cgroup: Option<String>,
    #[serde(skip_serializing_if = "<[IpNet]>::is_empty")]
    trust: &'a [IpNet],
    counters: BTreeMap<&'static str, u64>,
}

fn report(
    options: &Options,
    state: &str,
    group: Option<String>,
    counters: &Counters,
) -> Result<()> {
    print(options, state, group, &counters.read()?)
}

fn print(
    options: &Options,
    state: &str,
    cgroup: Option<String>,
    values: &[(ToaCounter, u64)],
) -> Result<()> {
    let mut out = io::stdout().lock();
    if options.json {
        let counters = values.iter().map(|(counter, value)| (counter.name(), *value)).collect();
        let report = Report { state, cgroup, trust: &options.trust, counters };
        serde_json::to_writer(&mut out, &report)?;
        writeln!(out)?;
    } else {
        write!(out, "{state}")?;
        if let Some(group) = &cgroup {
            let trust: Vec<String> = options.trust.iter().map(ToString::to_string).collect();
            write!(out, ": control group {group}, believing {}", trust.join(" "))?;
        }
        writeln!(out)?;
        for (counter, value) in values {
            writeln!(out, "  {:<13} {value:>10}  {}", counter.name(), counter.help().trim())?;
        }
    }
    out.flush()?;
    Ok(())
}

/// Reads `ADDRESS` or `ADDRESS/LENGTH`.
fn prefix(text: &str) -> Result<IpNet, String> {
    let net = match text.parse::<IpNet>() {
        Ok(net) => net,
        Err(_not_a_prefix) => {
            text.parse::<std::net::IpAddr>().map(IpNet::from).map_err(|_neither| {
                format!("`{text}` is neither an address nor a prefix such as 192.0.2.0/24")
            })?
        }
    };
    if net.addr() != net.network() {
        return Err(format!("{net} has bits beyond its length: {} is meant?", net.trunc()));
    }
    Ok(net)
}

#[cfg(test)]
mod tests;
