//! `cargo xtask test`: the tests that a user runs, and their sum.
//!
//! **Invariant:** it succeeds only if every test of every kind ran and passed. Tests that need root are left out on
//! request only, and never in silence.

use std::ops::AddAssign;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::process;

/// The crate whose tests need root.
const LAB: &str = "elvs-lab";

/// The program that tests of the lab start: its path.
const BINARY: &str = "ELVS_BIN";

/// Options of `cargo xtask test`.
#[derive(Debug, Default, clap::Args)]
pub struct Options {
    /// Leave out the tests that need root (real programs in the kernel, network namespaces).
    #[arg(long)]
    host_only: bool,
    /// Run only tests whose name contains this.
    filter: Option<String>,
}

/// Runs the tests and prints their sum on a line of its own: `N passed, N failed`.
#[expect(clippy::print_stdout, reason = "the sum is the result")]
pub fn run(root: &Path, options: Options) -> Result<()> {
    if !options.host_only && !is_root()? {
        bail!(
            "the tests load programs into the kernel and make network namespaces: run them as root, or only those \
             of the host with `cargo xtask test --host-only`"
        );
    }
    let binary = build_binary(root)?;
    let mut total = Tally::default();
    let mut broken = Vec::new();
    for mut job in jobs(root, &binary, &options) {
        let mut tally = Tally::default();
        let succeeded = process::each_line(&mut job.command, |line| {
            println!("{line}");
            if let Some(result) = Tally::of_line(line) {
                tally += result;
            }
        })?;
        if !succeeded && tally.failed == 0 {
            // A test that does not compile, or one that took its process down.
            broken.push(job.name);
            tally.failed += 1;
        }
        total += tally;
    }
    if options.host_only {
        println!("\nleft out by --host-only: the tests that need root");
    }
    if total.ignored != 0 {
        println!("\n{} ignored", total.ignored);
    }
    for name in &broken {
        println!("\n{name}: ended without naming a failed test");
    }
    println!("\n{} passed, {} failed", total.passed, total.failed);
    ensure!(total.failed == 0, "{} failed", total.failed);
    ensure!(total.passed != 0, "no test ran");
    Ok(())
}

/// One run of `cargo test`.
struct Job {
    name: &'static str,
    command: Command,
}

fn jobs(root: &Path, binary: &Path, options: &Options) -> Vec<Job> {
    let mut host = process::cargo(root);
    host.args(["test", "--no-fail-fast", "--workspace", "--exclude", LAB]).env(BINARY, binary);
    let mut model = process::cargo(root);
    model
        .args(["test", "--no-fail-fast", "--release", "-p", "elvs-fastpath", "--test", "loom_flow"])
        // Flags of its own would make the other builds start anew.
        .args(["--target-dir".as_ref(), loom_folder(binary).as_os_str()])
        .env("RUSTFLAGS", "--cfg loom");
    let mut lab = process::cargo(root);
    lab.args(["test", "--no-fail-fast", "-p", LAB]).env(BINARY, binary);
    let filter = options.filter.as_deref();
    for command in [&mut host, &mut model] {
        command.args(filter);
    }
    // Each test has the machine to itself: names of namespaces and interfaces, and the processors, are shared.
    lab.args(filter).args(["--", "--test-threads=1"]);
    let mut jobs = vec![
        Job { name: "host tests", command: host },
        Job { name: "model check of the flow table", command: model },
    ];
    if !options.host_only {
        jobs.push(Job { name: "tests that need root", command: lab });
    }
    jobs
}

/// Builds the program as users get it, and returns where it is.
fn build_binary(root: &Path) -> Result<PathBuf> {
    process::run(process::cargo(root).args(["build", "--release", "-p", "elvs"]))?;
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .no_deps()
        .exec()
        .context("metadata of the workspace")?;
    let binary = metadata.target_directory.join("release/elvs");
    ensure!(binary.exists(), "{binary} is missing after its build");
    Ok(binary.into())
}

/// `loom` beside the folder `release` that holds the binary.
fn loom_folder(binary: &Path) -> PathBuf {
    binary.ancestors().nth(2).unwrap_or(binary).join("loom")
}

fn is_root() -> Result<bool> {
    Ok(std::fs::metadata("/proc/self").context("owner of this process")?.uid() == 0)
}

/// Counts of tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

impl Tally {
    /// The counts in a line like `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; ..`.
    fn of_line(line: &str) -> Option<Self> {
        let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let mut tally = Self::default();
        for count in counts.split("; ") {
            let (number, what) = count.split_once(' ')?;
            match what {
                "passed" => tally.passed = number.parse().ok()?,
                "failed" => tally.failed = number.parse().ok()?,
                "ignored" => tally.ignored = number.parse().ok()?,
                _ => {}
            }
        }
        Some(tally)
    }
}

#[cfg(test)]
mod tests;
