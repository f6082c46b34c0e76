//! `cargo xtask ci`: everything that must hold before a change goes in, in the order in which faults are cheap to find.
//!
//! **Invariant:** CI runs this and nothing else that judges the code.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::{bpf, layers, process, test};

/// Options of `cargo xtask ci`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Leave out the tests.
    #[arg(long)]
    checks_only: bool,
}

/// Workspaces beside the main one whose sources are formatted alike.
const OTHER_WORKSPACES: &[&str] = &["ebpf/Cargo.toml", "fuzz/Cargo.toml"];

/// Runs all steps; the first that fails ends it.
pub fn run(root: &Path, options: Options) -> Result<()> {
    step("formatting", || formatting(root))?;
    step("layers", || layers::run(root))?;
    step("lints", || {
        process::run(process::cargo(root).args(["clippy", "--all-targets", "--", "-D", "warnings"]))
    })?;
    step("docs", || {
        let mut command = process::cargo(root);
        process::run(command.args(["doc", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))
    })?;
    step("BPF objects are those of their sources", || bpf::run(root, bpf::Options::check()))?;
    // Where tools of other versions stand, the check cannot compare bytes: tests then see what these tools make.
    step("BPF objects from source", || bpf::run(root, bpf::Options::default()))?;
    if options.checks_only {
        return Ok(());
    }
    step("tests", || test::run(root, test::Options::default()))
}

fn formatting(root: &Path) -> Result<()> {
    process::run(process::cargo(root).args(["fmt", "--all", "--check"]))?;
    for manifest in OTHER_WORKSPACES {
        let mut command: Command = process::cargo(root);
        process::run(command.args(["fmt", "--check", "--all", "--manifest-path", manifest]))?;
    }
    Ok(())
}

#[expect(clippy::print_stderr, reason = "a command-line tool shows where it is")]
fn step(name: &str, job: impl FnOnce() -> Result<()>) -> Result<()> {
    eprintln!("\n== {name}");
    let start = Instant::now();
    job().with_context(|| format!("step \"{name}\""))?;
    eprintln!("== {name}: {} s", start.elapsed().as_secs());
    Ok(())
}
