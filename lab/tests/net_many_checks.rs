//! Ten thousand checks at one-second intervals: what they cost, and how late they are.
//!
//! CI runs [`CHECKS`] of them; `ELVS_CHECKS=10000` is all, with `ELVS_BIN` naming a release build. CPU time is that of the thread
//! that checks, user and kernel; the lateness of a check is how much longer than a second its mean period was.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that measures, and fails loudly"
)]

use std::collections::HashMap;
use std::env;
use std::fmt::Write;
use std::fs;
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use elvs_lab::bed::VIP;
use elvs_lab::{Daemon, Nginx, Topology, method, wait_until};
use elvs_model::ServiceKey;

/// Checks unless `ELVS_CHECKS` says otherwise.
const CHECKS: usize = 1_000;
const SERVERS: usize = 10;
const FIRST_PORT: usize = 10_000;
/// Time that is measured.
const TIME: Duration = Duration::from_secs(10);

fn config(topology: &Topology, services: usize) -> String {
    let mut text = String::new();
    for port in FIRST_PORT..FIRST_PORT + services {
        writeln!(
            text,
            "virtual_server {VIP} {port} {{\n    lvs_sched rr\n    lvs_method DR\n    protocol TCP"
        )
        .unwrap();
        for number in 1..=SERVERS {
            let address = topology.real_server(number).address;
            writeln!(
                text,
                "    real_server {address} {port} {{\n        TCP_CHECK {{\n            delay_loop 1\n            connect_timeout 5\n            retry 3\n        }}\n    }}"
            )
            .unwrap();
        }
        text.push_str("}\n");
    }
    text
}

/// Runs of each check, and how long the last one took.
fn runs(daemon: &Daemon) -> HashMap<(ServiceKey, IpAddr), (u64, Duration)> {
    let mut runs = HashMap::new();
    for watched in &daemon.health().watched {
        for server in &watched.servers {
            let check = &server.checks[0];
            let took = Duration::from_micros(check.latency_us.unwrap_or(0));
            runs.insert((watched.services[0], server.key.address), (check.runs, took));
        }
    }
    runs
}

/// CPU time that the thread of checks has had.
fn cpu_time(daemon: &Daemon) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.process.pid())).unwrap();
    let stats = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("stat")).unwrap());
    let stat = { stats }.find(|stat| stat.contains("(health)")).expect("the thread of checks");
    // proc(5): utime and stime are the 12th and 13th field after the name, in hundredths of a second.
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

#[test]
fn thousands_of_checks_run_and_none_is_forgotten() {
    let checks = env::var("ELVS_CHECKS").map_or(CHECKS, |n| n.parse().expect("a number"));
    let services = checks / SERVERS;
    let topology = Topology::new("checks", method::DR, u8::try_from(SERVERS).unwrap());
    let ports = format!("listen {FIRST_PORT}-{};", FIRST_PORT + services - 1);
    let hosts = &topology.bed().real_servers;
    let _nginx: Vec<Nginx> =
        hosts.iter().map(|host| Nginx::start_with(host, topology.directory(), &ports)).collect();
    let daemon = topology.daemon(Some(&config(&topology, services)));
    wait_until("every check to have run twice", || {
        let runs = runs(&daemon);
        runs.len() == services * SERVERS && runs.values().all(|(runs, _)| *runs >= 2)
    });
    let (before, cpu, begin) = (runs(&daemon), cpu_time(&daemon), Instant::now());
    thread::sleep(TIME);
    let (cpu, elapsed) = (cpu_time(&daemon) - cpu, begin.elapsed());
    let after = runs(&daemon);
    let mut late = Vec::new();
    for (key, (runs, took)) in &before {
        let made = after[key].0 - runs;
        assert!(made > 0, "{key:?} did not run in {elapsed:?}");
        let period = elapsed / u32::try_from(made).unwrap();
        late.push(period.saturating_sub(Duration::from_secs(1) + *took));
    }
    late.sort_unstable();
    let percentile = |percent: usize| late[(late.len() - 1) * percent / 100];
    let made: u64 = before.iter().map(|(key, (runs, _))| after[key].0 - runs).sum();
    println!(
        "{} checks, {made} runs in {elapsed:.1?}: {:.0} % of a core; late by {:.0?} (median), {:.0?} (99 %), {:.0?} (most)",
        late.len(),
        100.0 * cpu.as_secs_f64() / elapsed.as_secs_f64(),
        percentile(50),
        percentile(99),
        percentile(100)
    );
    let status = daemon.status();
    let there: usize = status.services.iter().map(|service| service.destinations.len()).sum();
    assert_eq!(there, services * SERVERS, "no real server was taken out");
}
