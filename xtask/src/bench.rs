//! `cargo xtask bench`: starts the benchmark, which is a program of its own.
//!
//! **Invariant:** this program does not depend on the one that it starts: the latter holds the objects that `cargo xtask bpf`
//! makes, and could not be built before them.

use std::path::Path;

use anyhow::Result;

use crate::process;

/// Options of `cargo xtask bench`: those of the benchmark.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Handed on as they are.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Builds the benchmark and runs it.
///
/// # Errors
///
/// If it cannot be built, or fails.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    let mut command = process::cargo(root);
    command.args(["run", "--quiet", "--release", "-p", "bench", "--"]);
    process::run(command.args(&options.arguments))
}
