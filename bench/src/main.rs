//! `cargo xtask bench`: nanoseconds per packet of the real programs, by `BPF_PROG_TEST_RUN`.
//!
//! A wrapper program writes a template packet over the frame, makes it one of N flows in an order that no prefetcher
//! follows, and goes on to the program under test by tail call. The same wrapper before a program that does nothing
//! is the floor, measured in turn with it; figures are net of it. The machine is shared, so the least and the median
//! of several runs are given, and nothing is asserted about them. What one load from the flow table takes is measured beside
//! them: a packet of one of very many flows waits for one.
//!
//! **Invariant:** what is measured is what the daemon would have in force: its own code opens the programs and fills their tables,
//! in an instance and a network namespace of their own. A packet that is not dealt with as its profile says ends the measurement.
//!
//! Started by `cargo xtask bench`; a program of its own because it is built with the objects that `cargo xtask bpf` makes.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing,
    reason = "a measurement is printed, and tables of its own making that do not fit shall end it"
)]

mod packets;
mod profiles;
mod services;
mod tables;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use aya::programs::{TestRun, TestRunOptions, Xdp};
use clap::Parser;
use serde::Serialize;

use profiles::{Chosen, Kind, MOST_FLOWS, PROFILES, Profile, TABLE_LOAD};
use tables::Tables;

/// Measures nanoseconds per packet of the committed objects; needs root, and takes some four minutes.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
struct Options {
    /// Print a JSON list instead of the table.
    #[arg(long)]
    json: bool,
    /// Only the profile of this name, or all that have this in their names; several are separated by commas.
    #[arg(long, value_delimiter = ',')]
    profile: Vec<String>,
    /// Only this number of flows: 1, 1024, 65536 or 1048576.
    #[arg(long, value_parser = flows)]
    flows: Option<u64>,
    /// Runs of each measurement, at least 7.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(7..=1000))]
    runs: u32,
}

/// One measurement.
#[derive(Debug, Serialize)]
struct Measurement {
    profile: &'static str,
    flows: u64,
    floor_ns: f64,
    min_ns: f64,
    median_ns: f64,
}

/// Distinct flows that are measured.
const FLOWS: [u64; 4] = [1, 1_024, 65_536, MOST_FLOWS];
/// Packets of one run, of known connections.
const PACKETS: u64 = 1 << 18;

fn flows(text: &str) -> Result<u64, String> {
    let known = text.parse().ok().filter(|flows| FLOWS.contains(flows));
    known.ok_or_else(|| format!("measured are {FLOWS:?}"))
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let chosen = Chosen::new(&options.profile)?;
    let mut tables = Tables::load(&root().join("crates/elvs-dataplane/bpf"))?;
    let mut measurements = Vec::new();
    let mut take = |measurement: Measurement| {
        if !options.json {
            print_row(&measurement);
        }
        measurements.push(measurement);
    };
    if !options.json {
        println!("ns per packet, net of the floor");
        println!("{:<26} {:>9} {:>8} {:>8} {:>8}", "profile", "flows", "floor", "min", "median");
    }
    let wanted = |flows: &u64| options.flows.is_none_or(|only| only == *flows);
    for profile in PROFILES.iter().filter(|profile| chosen.has(profile.name)) {
        tables.configure(&profile.setup).with_context(|| format!("profile {}", profile.name))?;
        for flows in FLOWS.into_iter().filter(wanted).filter(|flows| profile.has(*flows)) {
            let measured = measure(&mut tables, profile, flows, options.runs)
                .with_context(|| format!("profile {} with {flows} flows", profile.name))?;
            take(measured);
        }
    }
    if chosen.has(TABLE_LOAD) {
        tables.configure(&services::PLAIN)?;
        for flows in FLOWS.into_iter().filter(wanted) {
            take(table_load(&tables, flows, options.runs)?);
        }
    }
    if measurements.is_empty() {
        bail!("no profile of that name is measured with that number of flows");
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&measurements)?);
    }
    Ok(())
}

/// The checkout's root folder.
fn root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.parent().unwrap_or_else(|| Path::new(".")).to_path_buf()
}

fn print_row(measured: &Measurement) {
    let Measurement { profile, flows, floor_ns, min_ns, median_ns } = measured;
    println!("{profile:<26} {flows:>9} {floor_ns:>8.1} {min_ns:>8.1} {median_ns:>8.1}");
}

fn table_load(tables: &Tables, flows: u64, runs: u32) -> Result<Measurement> {
    let mut times = Vec::new();
    for _ in 0..runs {
        times.push(tables.load_time(flows, PACKETS.max(flows))?);
    }
    let min_ns = least(&times);
    let median_ns = median(&mut times);
    Ok(Measurement { profile: TABLE_LOAD, flows, floor_ns: 0.0, min_ns, median_ns })
}

fn measure(tables: &mut Tables, profile: &Profile, flows: u64, runs: u32) -> Result<Measurement> {
    tables.clear(&profile.setup);
    prepare(tables, profile, flows)?;
    let verdict = if profile.kind == Kind::Passes { XDP_PASS } else { XDP_TX };
    let opens = profile.kind == Kind::Opens;
    let packets = if opens { flows } else { PACKETS };
    // Short runs are repeated: the table is emptied between them.
    let rounds = if opens { (65_536 / flows).max(1) } else { 1 };
    let mut floors = Vec::new();
    let mut totals = Vec::new();
    for run in 0..=u64::from(runs) {
        // Runs of less packets than flows go on where the one before stopped.
        let first = if opens { 0 } else { run * packets };
        let mut floor = 0.0;
        let mut total = 0.0;
        for _ in 0..rounds {
            tables.job(profile, profile.packet, flows, first)?;
            floor += run_packets(tables, tables.base()?, XDP_TX, packets)?;
            if opens {
                tables.clear_flows(&profile.setup, flows);
            }
            tables.job(profile, profile.packet, flows, first)?;
            total += run_packets(tables, tables.wrapper()?, verdict, packets)?;
            if opens && tables.knows_no_place() {
                check_flows(tables, profile, flows)?;
            }
        }
        // The first run warms up caches and branch predictors.
        if run > 0 {
            let rounds = f64::from(u32::try_from(rounds)?);
            floors.push(floor / rounds);
            totals.push(total / rounds);
        }
    }
    tables.check(profile)?;
    let floor_ns = median(&mut floors);
    let median_ns = median(&mut totals) - floor_ns;
    let min_ns = least(&totals) - floor_ns;
    Ok(Measurement { profile: profile.name, flows, floor_ns, min_ns, median_ns })
}

/// Sends every flow the packets that come before the one that is measured.
fn prepare(tables: &mut Tables, profile: &Profile, flows: u64) -> Result<()> {
    for (number, packet) in profile.prepare.iter().enumerate() {
        tables.job(profile, *packet, flows, 0)?;
        run_packets(tables, tables.wrapper()?, XDP_TX, flows)?;
        if number == 0 && profile.setup.is_full_nat() {
            tables.list_ends(flows)?;
        }
    }
    if !profile.prepare.is_empty() {
        check_flows(tables, profile, flows)?;
    }
    Ok(())
}

/// Checks that every flow has its connection.
fn check_flows(tables: &mut Tables, profile: &Profile, flows: u64) -> Result<()> {
    let found = tables.look_around(&profile.setup);
    ensure!(
        found == flows,
        "{found} connections lie in the table; counters: {:?}",
        tables.counters()?
    );
    Ok(())
}

/// XDP actions (`enum xdp_action`).
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;

/// Runs a wrapper; answers nanoseconds per packet.
fn run_packets(tables: &Tables, wrapper: &Xdp, verdict: u32, packets: u64) -> Result<f64> {
    let frame = [0; packets::FRAME];
    let mut options = TestRunOptions::new();
    options.data_in = Some(&frame);
    options.repeat = u32::try_from(packets)?;
    let result = wrapper.test_run(options).context("BPF_PROG_TEST_RUN")?;
    ensure!(
        result.return_value == verdict,
        "the program answered {}, not {verdict}; counters: {:?}",
        result.return_value,
        tables.counters()?
    );
    Ok(result.duration.as_secs_f64() * 1e9)
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
