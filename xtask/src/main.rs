//! `cargo xtask`: the project's build, check and measuring jobs; CI runs the same commands that people type.
//!
//! **Invariant:** a job that cannot do its work fails and says why; none passes by leaving something out.

mod bench;
mod bpf;
mod ci;
mod layers;
mod process;
mod test;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

/// Builds, checks and tests ELVS.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    job: Job,
}

#[derive(Debug, Subcommand)]
enum Job {
    /// Builds what runs in the kernel and writes the objects with their manifest; needs the BPF toolchain.
    Bpf(bpf::Options),
    /// Measures nanoseconds per packet of the committed objects; needs root. `cargo xtask bench --help` names its options.
    #[command(disable_help_flag = true)]
    Bench(bench::Options),
    /// Fails on a dependency between the crates that the architecture forbids.
    Layers,
    /// Runs all tests: those of the host, then those that need root.
    Test(test::Options),
    /// Runs everything that CI runs: formatting, lints, docs, layers, the BPF build and its check, the tests.
    Ci(ci::Options),
}

fn main() -> ExitCode {
    if let Some(checkout) = bpf::wrapped_checkout() {
        return report(bpf::run_wrapped(&checkout));
    }
    let arguments = Arguments::parse();
    report(checkout().and_then(|root| match arguments.job {
        Job::Bpf(options) => bpf::run(&root, options),
        Job::Bench(options) => bench::run(&root, &options),
        Job::Layers => layers::run(&root),
        Job::Test(options) => test::run(&root, options),
        Job::Ci(options) => ci::run(&root, options),
    }))
}

#[expect(clippy::print_stderr, reason = "a command-line tool says what failed")]
fn report(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The checkout's root folder.
fn checkout() -> Result<PathBuf> {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let root = manifest.parent().unwrap_or_else(|| Path::new("."));
    root.canonicalize().with_context(|| format!("checkout {}", root.display()))
}
