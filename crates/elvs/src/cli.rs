//! The command line: one definition of every flag, from which parser, help, man pages and completions come.
//!
//! **Invariant:** parsing touches neither network nor kernel.
//!
//! Called by `main.rs` and `cargo xtask`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand};

use crate::{adm, check, demo, drain, mark, realserver, run, settings, simulate, status};

/// Where the daemon listens unless `--socket` or `ELVS_SOCKET` says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/elvs/elvs.sock";

/// ELVS: Linux Virtual Server on XDP
#[derive(Debug, Parser)]
#[command(name = "elvs", version, about, propagate_version = true)]
pub struct Cli {
    /// Socket of the daemon; every director on a machine has its own
    #[arg(long, global = true, value_name = "PATH", env = "ELVS_SOCKET", default_value = DEFAULT_SOCKET)]
    pub socket: PathBuf,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The command line as man pages and completions describe it: with the options of `elvs adm`, which ipvsadm's own rules
/// read.
pub fn documented() -> clap::Command {
    Cli::command().mut_subcommand("adm", |adm| adm::describe(&adm))
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon in the foreground
    Run(run::Options),
    /// ipvsadm 1.31: change and list the table of the running director
    #[command(disable_help_flag = true)]
    Adm {
        /// Arguments of ipvsadm; `elvs adm -h` lists them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
        args: Vec<OsString>,
    },
    /// Let a real server get no new connections, until `--off`; what it has goes on
    Drain(drain::Options),
    /// Firewall marks: which packets get which mark, for `ipvsadm -f` and `virtual_server fwmark`
    Mark(mark::Options),
    /// Set one of the settings that IPVS has under `net.ipv4.vs`
    Set(settings::SetOptions),
    /// Print the settings that IPVS has under `net.ipv4.vs`, or the value of one
    Get(settings::GetOptions),
    /// Read a configuration and report every mistake
    Check(check::Options),
    /// Run a script of connections through the schedulers, without a network
    Simulate(simulate::Options),
    /// Show the whole node on one screen
    Status(status::Options),
    /// Watch real traffic being spread: a client, a director and real servers on this machine
    Demo(demo::Options),
    /// A real server's side of tunnelling and FULLNAT
    Realserver(realserver::Options),
    /// Print the completion script of a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the man page, or that of a command
    Man {
        /// The command
        command: Option<String>,
    },
    /// A real server of the demo
    #[command(hide = true)]
    DemoServer(demo::ServerOptions),
}
