//! `elvs realserver`: a real server's side of tunnelling and of FULLNAT.
//!
//! **Invariant:** the programs run only while this command does, or until `--clean` takes away what `--pin` left.
//!
//! Called by the command line and, through the data plane's helper, by the demo.

mod toa;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};
use elvs_dataplane::helper;
use elvs_model::XdpMode;

/// Options of `elvs realserver`.
#[derive(Clone, Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Options {
    /// Take the outer headers off IP-in-IP, GRE and GUE packets that arrive on this interface, until interrupted
    #[arg(long, value_name = "INTERFACE", required = true)]
    decap: Option<String>,
    /// UDP port that GUE packets come to: the director's --tun-port
    #[arg(
        long,
        value_name = "PORT",
        default_value_t = helper::GUE_PORT,
        value_parser = clap::value_parser!(u16).range(1..),
    )]
    gue_port: u16,
    /// What else to do
    #[command(subcommand)]
    command: Option<Command>,
}

/// What a real server can do besides.
#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// Behind FULLNAT: let programs see the true client in accept() and getpeername()
    Toa(toa::Options),
}

/// Does what the options say until SIGINT or SIGTERM.
///
/// # Errors
/// A program that cannot be loaded or attached.
pub fn run(options: &Options) -> Result<ExitCode> {
    match (&options.command, &options.decap) {
        (Some(Command::Toa(options)), _) => toa::run(options),
        (None, Some(interface)) => decapsulate(interface, options.gue_port),
        (None, None) => anyhow::bail!("nothing to do: name --decap INTERFACE or a subcommand"),
    }
}

fn decapsulate(interface: &str, gue_port: u16) -> Result<ExitCode> {
    let guard = helper::attach_decap(interface, XdpMode::Auto, gue_port)
        .with_context(|| format!("cannot decapsulate on {interface}"))?;
    writeln!(
        io::stdout(),
        "decapsulating IP-in-IP, GRE and GUE (UDP port {gue_port}) on {interface} ({})",
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
