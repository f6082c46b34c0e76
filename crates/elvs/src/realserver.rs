//! `elvs realserver`: a real server's side of tunnelling.
//!
//! **Invariant:** the program is on the interface only while this command runs.
//!
//! Called by the command line and, through the data plane's helper, by the demo.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};
use elvs_dataplane::helper::{self, Helper};
use elvs_model::XdpMode;

/// Options of `elvs realserver`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Take the outer header off IP-in-IP packets that arrive on this interface, until interrupted
    #[arg(long, value_name = "INTERFACE")]
    decap: String,
}

/// Decapsulates until SIGINT or SIGTERM.
///
/// # Errors
/// A program that cannot be loaded or attached.
pub fn run(options: &Options) -> Result<ExitCode> {
    let guard = helper::attach(Helper::Decap, &options.decap, XdpMode::Auto)
        .with_context(|| format!("cannot decapsulate on {}", options.decap))?;
    writeln!(
        io::stdout(),
        "decapsulating IP-in-IP on {} ({})",
        options.decap,
        guard.mode().name()
    )?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            result = tokio::signal::ctrl_c() => result,
            _ = term.recv() => Ok(()),
        }
    })?;
    Ok(ExitCode::SUCCESS)
}
