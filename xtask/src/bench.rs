//! `cargo xtask bench`: nanoseconds per packet of the real program, by `BPF_PROG_TEST_RUN`.
//!
//! A wrapper program writes a template packet over the frame, makes it one of N flows in an order that no prefetcher
//! follows, and goes on to the program under test by tail call. The same wrapper before a program that does nothing
//! is the floor, measured in turn with it; figures are net of it. The machine is shared, so the least and the median
//! of several runs are given, and nothing is asserted. What one load from the flow table takes is measured beside them:
//! a packet of one of very many flows waits for one.

mod packets;
mod tables;

use std::path::Path;

use anyhow::{Context, Result, bail};
use aya::programs::{TestRun, TestRunOptions, Xdp};
use serde::Serialize;

use packets::{PROFILES, Profile};
use tables::Tables;

/// Options of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Print a JSON list instead of the table.
    #[arg(long)]
    json: bool,
    /// Only profiles whose name contains this.
    #[arg(long)]
    profile: Option<String>,
    /// Only this number of flows.
    #[arg(long)]
    flows: Option<u64>,
    /// Runs of each measurement, at least 7.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(7..=1000))]
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
const FLOWS: [u64; 4] = [1, 1_024, 65_536, 1_048_576];
/// Name of the measurement that is no packet's: one load from the flow table that waits for the one before.
const TABLE_LOAD: &str = "one-table-load";
/// Packets of one run.
const PACKETS: u64 = 1 << 20;

/// Runs the benchmark and prints it.
///
/// # Errors
///
/// What the kernel refused, or an object that is missing.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    let objects = root.join("crates/elvs-dataplane/bpf");
    let mut tables = Tables::load(&objects)?;
    let mut measurements = Vec::new();
    if !options.json {
        println!("ns per packet, net of the floor");
        println!("{:<22} {:>9} {:>8} {:>8} {:>8}", "profile", "flows", "floor", "min", "median");
    }
    for profile in PROFILES {
        if options.profile.as_ref().is_some_and(|wanted| !profile.name.contains(wanted.as_str())) {
            continue;
        }
        for flows in FLOWS {
            // One opening packet is over before it can be timed.
            if options.flows.is_some_and(|wanted| wanted != flows) || profile.opens && flows == 1 {
                continue;
            }
            let measured = measure(&mut tables, profile, flows, options.runs)
                .with_context(|| format!("profile {} with {flows} flows", profile.name))?;
            measurements.push(measured);
            if !options.json {
                print_row(measurements.last());
            }
        }
    }
    if options.profile.as_ref().is_none_or(|wanted| TABLE_LOAD.contains(wanted.as_str())) {
        tables.clear_all();
        for flows in FLOWS.into_iter().filter(|n| options.flows.is_none_or(|wanted| wanted == *n)) {
            let mut times = Vec::new();
            for _ in 0..options.runs {
                times.push(tables.load_time(flows, PACKETS)?);
            }
            let least = times.iter().copied().fold(f64::INFINITY, f64::min);
            let middle = median(&mut times);
            measurements.push(Measurement {
                profile: TABLE_LOAD,
                flows,
                floor_ns: 0.0,
                min_ns: least,
                median_ns: middle,
            });
            if !options.json {
                print_row(measurements.last());
            }
        }
    }
    if measurements.is_empty() {
        bail!("no profile and number of flows match");
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&measurements)?);
    }
    Ok(())
}

fn print_row(measured: Option<&Measurement>) {
    if let Some(Measurement { profile, flows, floor_ns, min_ns, median_ns }) = measured {
        println!("{profile:<22} {flows:>9} {floor_ns:>8.1} {min_ns:>8.1} {median_ns:>8.1}");
    }
}

fn measure(tables: &mut Tables, profile: &Profile, flows: u64, runs: u32) -> Result<Measurement> {
    tables.configure(profile.method, &profile.service)?;
    tables.clear_all();
    for packet in profile.prepare {
        tables.job(&packet.bytes(), packet, flows)?;
        run_packets(tables, Behind::Program { verdict: XDP_TX }, flows)?;
    }
    let bytes = profile.packet.bytes();
    let verdict = if profile.forwarded { XDP_TX } else { XDP_PASS };
    let packets = if profile.opens { flows } else { PACKETS };
    // Short runs are repeated: the table is emptied between them.
    let rounds = if profile.opens { (65_536 / flows).max(1) } else { 1 };
    let mut floors = Vec::new();
    let mut totals = Vec::new();
    for run in 0..=runs {
        let mut floor = 0.0;
        let mut total = 0.0;
        for _ in 0..rounds {
            tables.job(&bytes, &profile.packet, flows)?;
            floor += run_packets(tables, Behind::Nothing, packets)?;
            if profile.opens {
                tables.clear_flows(profile.packet.protocol(), flows)?;
            }
            tables.job(&bytes, &profile.packet, flows)?;
            total += run_packets(tables, Behind::Program { verdict }, packets)?;
        }
        // The first run warms up caches and branch predictors.
        if run > 0 {
            let rounds = f64::from(u32::try_from(rounds)?);
            floors.push(floor / rounds);
            totals.push(total / rounds);
        }
    }
    tables.check(profile)?;
    let floor = median(&mut floors);
    let middle = median(&mut totals);
    let least = totals.iter().copied().fold(f64::INFINITY, f64::min);
    Ok(Measurement {
        profile: profile.name,
        flows,
        floor_ns: floor,
        min_ns: least - floor,
        median_ns: middle - floor,
    })
}

/// What stands behind the wrapper.
#[derive(Clone, Copy)]
enum Behind {
    /// A program that does nothing.
    Nothing,
    /// The program under test, which has to answer so.
    Program { verdict: u32 },
}

/// XDP actions (`enum xdp_action`).
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;

/// Runs the wrapper; answers nanoseconds per packet.
fn run_packets(tables: &mut Tables, behind: Behind, packets: u64) -> Result<f64> {
    tables.target(matches!(behind, Behind::Program { .. }))?;
    let frame = [0; packets::FRAME];
    let program: &Xdp = tables.wrapper()?;
    let mut options = TestRunOptions::new();
    options.data_in = Some(&frame);
    options.repeat = u32::try_from(packets)?;
    let result = program.test_run(options).context("BPF_PROG_TEST_RUN")?;
    let wanted = match behind {
        Behind::Nothing => XDP_TX,
        Behind::Program { verdict } => verdict,
    };
    if result.return_value != wanted {
        bail!(
            "the program answered {}, not {wanted}; counters: {:?}",
            result.return_value,
            tables.counters()?
        );
    }
    Ok(result.duration.as_secs_f64() * 1e9)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
