//! `elvs status`: the whole node on one screen.
//!
//! **Invariant:** what is wrong comes first and names its cause; nothing is hidden because it is 0 and fine.
//!
//! Called by the command line.

mod health;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use elvs_api::{Client, Status};
use elvs_model::ServiceView;
use elvs_model::health::HealthView;
use serde::Serialize;

use health::Health;

/// Options of `elvs status`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Show every check: state, last result, next run, and the last changes
    #[arg(long)]
    health: bool,
    /// Print the status as JSON
    #[arg(long)]
    json: bool,
}

/// Prints the status of the daemon on `socket`.
///
/// # Errors
/// No daemon, or output that cannot be written.
pub fn run(options: &Options, socket: &Path) -> Result<ExitCode> {
    let mut client = Client::connect(socket)?;
    let health = client.health().context("cannot read the results of checks")?;
    let mut out = io::stdout().lock();
    if options.health {
        if options.json {
            print_json(&mut out, &health)?;
        } else {
            Health::new(&health, now()).print(&mut out)?;
        }
    } else {
        let status = client.status().context("cannot read the status")?;
        if options.json {
            print_json(&mut out, &Everything { status: &status, health: &health })?;
        } else {
            print(&mut out, &status, &Health::new(&health, now()))?;
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// The JSON form: the status, and checks beside it.
#[derive(Serialize)]
struct Everything<'a> {
    #[serde(flatten)]
    status: &'a Status,
    health: &'a HealthView,
}

fn print_json(out: &mut impl Write, value: &impl Serialize) -> Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)?;
    Ok(())
}

/// Unix time in milliseconds.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn print(out: &mut impl Write, status: &Status, health: &Health<'_>) -> io::Result<()> {
    writeln!(
        out,
        "elvs {}  instance {}  pid {}  up {}",
        status.version,
        status.instance,
        status.pid,
        duration(status.uptime_s)
    )?;
    let config = status.config.as_ref().map(|path| path.to_string_lossy());
    writeln!(out, "configuration  {}", config.as_deref().unwrap_or("none"))?;
    let interfaces: Vec<String> =
        status.interfaces.iter().map(|i| format!("{} ({})", i.name, i.mode.name())).collect();
    let interfaces = if interfaces.is_empty() { "none".to_owned() } else { interfaces.join(", ") };
    writeln!(out, "interfaces     {interfaces}")?;
    if !status.local_traffic.is_empty() {
        writeln!(out, "own traffic    {}", status.local_traffic.join(", "))?;
    }
    writeln!(
        out,
        "connections    {} of {}, tables {} MiB",
        status.connections,
        status.connection_capacity,
        status.table_bytes >> 20
    )?;
    if status.flooded {
        writeln!(out, "FLOOD          half-open flows are kept out of the table")?;
    }
    health.summary(out)?;
    for problem in &status.unresolved {
        writeln!(
            out,
            "PROBLEM        {} -> {}: {}",
            problem.service, problem.destination, problem.problem
        )?;
    }
    for local in &status.foreign_local_addresses {
        writeln!(out, "PROBLEM        local address {} {}", local.address, local.problem)?;
    }
    for drop in &status.drops {
        writeln!(out, "dropped        {} {}", drop.reason, drop.packets)?;
    }
    for event in &status.events {
        writeln!(out, "counted        {} {}", event.reason, event.packets)?;
    }
    for service in &status.services {
        print_service(out, service, health)?;
    }
    Ok(())
}

fn print_service(out: &mut impl Write, view: &ServiceView, health: &Health<'_>) -> io::Result<()> {
    writeln!(
        out,
        "\n{} {}  {} connections/s, {} packets/s in",
        view.service.key, view.service.scheduler, view.rates.connections, view.rates.in_packets
    )?;
    for destination in view.destinations.iter().rev() {
        let key = destination.destination.key;
        writeln!(
            out,
            "  {:<24} {:<6} weight {:<5} active {:<8} inactive {:<8} connections {:<10} packets {}{}",
            SocketAddr::new(key.address, key.port).to_string(),
            destination.destination.method.listing_name(),
            destination.destination.weight,
            destination.active,
            destination.inactive,
            destination.statistics.connections,
            destination.statistics.in_packets,
            health.word(&view.service.key, &key)
        )?;
    }
    health.absent(out, &view.service.key)?;
    for local in &view.local_addresses {
        writeln!(
            out,
            "  {:<24} local  ports in use {:<8} free {:<8} exhausted {}",
            local.address.to_string(),
            local.in_use,
            local.free,
            local.exhausted
        )?;
    }
    Ok(())
}

fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn durations_read_well() {
        assert_eq!(duration(59), "59 s");
        assert_eq!(duration(61), "1 min 1 s");
        assert_eq!(duration(3_600), "1 h 0 min");
        assert_eq!(duration(90_000), "1 d 1 h");
    }
}
