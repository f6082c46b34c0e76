//! `cargo xtask test`: the tests that a user runs, and their sum.
//!
//! **Invariant:** it succeeds only if every test that it ran passed; what it leaves out, on request or for want of a
//! program, it names beside the sum. In CI it leaves out nothing.

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

/// Programs of other projects that tests of the lab start, with Debian's package of each.
const PEERS: &[(&str, &str)] = &[
    ("bird", "bird2"),
    ("curl", "curl"),
    ("keepalived", "keepalived"),
    ("nginx", "nginx-light"),
    ("postfix", "postfix"),
    ("unbound", "unbound"),
    ("vsftpd", "vsftpd"),
    ("wrk", "wrk"),
];

/// Files of the lab whose tests need them.
const PEER_TESTS: &[&str] = &[
    "net_affinity",
    "net_bad_input",
    "net_bfd",
    "net_checks",
    "net_demo",
    "net_ftp",
    "net_health",
    "net_ipv6",
    "net_local",
    "net_many_checks",
    "net_marks",
    "net_modes",
    "net_path_check",
    "net_reload",
    "net_reload_storm",
    "net_restart",
    "net_toa_nginx",
    "peer_keepalived_config",
];

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
    let missing = missing_peers();
    if !options.host_only && !missing.is_empty() && std::env::var_os("CI").is_some() {
        bail!("CI runs all tests, but some need what is not installed: {}", missing.join(" "));
    }
    let without_peers = !missing.is_empty();
    let binary = build_binary(root)?;
    let mut total = Tally::default();
    let mut broken = Vec::new();
    for mut job in jobs(root, &binary, &options, &lab_tests(root, without_peers)?) {
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
        println!("\nLEFT OUT by --host-only: the tests that need root");
    } else if without_peers {
        println!(
            "\nLEFT OUT, because programs are not installed: {} (apt-get install {})",
            PEER_TESTS.join(", "),
            missing.join(" ")
        );
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

fn jobs(root: &Path, binary: &Path, options: &Options, lab_tests: &[String]) -> Vec<Job> {
    let mut host = process::cargo(root);
    host.args(["test", "--no-fail-fast", "--workspace", "--exclude", LAB]).env(BINARY, binary);
    let mut model = process::cargo(root);
    model
        .args(["test", "--no-fail-fast", "--release", "-p", "elvs-fastpath", "--test", "loom_flow"])
        // Flags of its own would make the other builds start anew.
        .args(["--target-dir".as_ref(), loom_folder(binary).as_os_str()])
        .env("RUSTFLAGS", "--cfg loom");
    let mut lab = process::cargo(root);
    lab.args(["test", "--no-fail-fast", "-p", LAB, "--lib"]).env(BINARY, binary);
    for name in lab_tests {
        lab.args(["--test", name]);
    }
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
    let binary = process::metadata(root)?.target_directory.join("release/elvs");
    ensure!(binary.exists(), "{binary} is missing after its build");
    Ok(binary.into())
}

/// Debian's packages of the peers that are not installed.
fn missing_peers() -> Vec<&'static str> {
    let missing = PEERS.iter().filter(|(program, _)| process::which(program).is_none());
    missing.map(|(_, package)| *package).collect()
}

/// Names of the lab's test files.
fn lab_tests(root: &Path, without_peers: bool) -> Result<Vec<String>> {
    let metadata = process::metadata(root)?;
    let lab = metadata.packages.iter().find(|package| package.name == LAB);
    let lab = lab.with_context(|| format!("no package {LAB}"))?;
    let names = lab.targets.iter().filter(|target| target.is_test()).map(|target| &target.name);
    let wanted = names.filter(|name| !without_peers || !PEER_TESTS.contains(&name.as_str()));
    Ok(wanted.cloned().collect())
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
