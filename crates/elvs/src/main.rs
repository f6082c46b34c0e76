//! The `elvs` binary: hands the command line to the part it names.
//!
//! **Invariant:** nothing is decided here. Exit codes: 0 done, 1 refused or failed, 2 wrong usage or no daemon; those of
//! ipvsadm for `elvs adm`.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use elvs::cli::{Cli, Command, DEFAULT_SOCKET, documented};
use elvs::{adm, check, demo, drain, mark, realserver, run, settings, simulate, status};
use elvs_api::ClientError;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let called = args.first().map(Path::new).and_then(Path::file_name).unwrap_or_default();
    if called.to_string_lossy().starts_with("ipvsadm") {
        return ExitCode::from(adm::main(args, &socket_from_environment()));
    }
    let cli = Cli::parse_from(args);
    dispatch(&cli).unwrap_or_else(|error| {
        // Nothing is left to tell if standard error is gone, too.
        let _ = writeln!(io::stderr(), "elvs: {error:#}");
        if !matches!(error.downcast_ref(), Some(ClientError::NoDaemon(_))) {
            return ExitCode::FAILURE;
        }
        let _ = writeln!(
            io::stderr(),
            "start one with `elvs run -f FILE`, or `elvs run` for an empty table"
        );
        ExitCode::from(2)
    })
}

fn dispatch(cli: &Cli) -> Result<ExitCode> {
    match &cli.command {
        Command::Run(options) => run::run(options, &cli.socket),
        Command::Adm { args } => {
            let args = std::iter::once(OsString::from("elvs")).chain(args.iter().cloned());
            Ok(ExitCode::from(adm::main(args.collect(), &cli.socket)))
        }
        Command::Drain(options) => drain::run(options, &cli.socket),
        Command::Mark(options) => mark::run(options, &cli.socket),
        Command::Set(options) => settings::set(options, &cli.socket),
        Command::Get(options) => settings::get(options, &cli.socket),
        Command::Check(options) => check::run(options, &cli.socket),
        Command::Simulate(options) => simulate::run(options),
        Command::Status(options) => status::run(options, &cli.socket),
        Command::Demo(options) => demo::run(options),
        Command::DemoServer(options) => demo::run_server(options).map(|()| ExitCode::SUCCESS),
        Command::Realserver(options) => realserver::run(options),
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut documented(), "elvs", &mut io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Command::Man { command } => man(command.as_deref()),
    }
}

fn man(command: Option<&str>) -> Result<ExitCode> {
    let mut page = documented();
    page.build();
    let page = match command {
        None => page,
        Some(name) => page
            .find_subcommand(name)
            .with_context(|| format!("there is no command `{name}`: see `elvs --help`"))?
            .clone(),
    };
    clap_mangen::Man::new(page).render(&mut io::stdout())?;
    Ok(ExitCode::SUCCESS)
}

fn socket_from_environment() -> PathBuf {
    std::env::var_os("ELVS_SOCKET").unwrap_or_else(|| DEFAULT_SOCKET.into()).into()
}
