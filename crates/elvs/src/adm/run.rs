//! Carries a [`Command`] out on a director.
//!
//! **Invariant:** exit codes are ipvsadm's: 0, 1 for a listing that finds nothing, 2 for a director that cannot be
//! asked, 255 for a refusal.
//!
//! Called by the entry point, and by tests with a table in memory.

use std::io::{self, BufRead, Write};

use elvs_api::ClientError;
use elvs_model::{Change, ChangeError, ServiceKey, ServiceView, SyncDaemon};

use super::command::{Command, List, Subject};
use super::director::{Director, DirectorError};
use super::format::Namer;
use super::names::Names;
use super::parse::{parse, try_help};
use super::{connections, json, listing, text};

/// Where a command reads and writes.
pub struct Streams<'a> {
    /// Lines for `-R`.
    pub input: &'a mut dyn BufRead,
    /// Listings.
    pub output: &'a mut dyn Write,
    /// Errors.
    pub errors: &'a mut dyn Write,
}

/// Carries `command` out; `program` is the name that texts call ipvsadm by. Returns the exit code.
///
/// # Errors
/// Failures of the streams.
pub fn run(
    command: Command,
    program: &str,
    director: &mut dyn Director,
    names: &dyn Names,
    streams: &mut Streams<'_>,
) -> io::Result<u8> {
    if command == Command::Restore {
        return restore(program, director, names, streams);
    }
    Ok(one(command, program, director, names, streams)?.code)
}

/// How a command ended.
struct Ended {
    code: u8,
    /// Whether ipvsadm leaves even in the middle of `-R`.
    for_good: bool,
}

/// Why a command stopped early.
pub(super) enum Trouble {
    Director(DirectorError),
    Stream(io::Error),
    /// A listing of a service that does not exist.
    NoSuchService,
}

impl From<DirectorError> for Trouble {
    fn from(error: DirectorError) -> Self {
        Self::Director(error)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Stream(error)
    }
}

/// Lines of standard input, each a command line.
fn restore(
    program: &str,
    director: &mut dyn Director,
    names: &dyn Names,
    streams: &mut Streams<'_>,
) -> io::Result<u8> {
    let mut code = 0;
    let mut line = Vec::new();
    loop {
        line.clear();
        if streams.input.read_until(b'\n', &mut line)? == 0 {
            return Ok(code);
        }
        let words = words(&String::from_utf8_lossy(&line));
        if words.is_empty() {
            continue;
        }
        let ended = match parse(program, &words, names) {
            Ok(command) => one(command, program, director, names, streams)?,
            Err(failure) => {
                streams.errors.write_all(failure.message.as_bytes())?;
                Ended { code: failure.code, for_good: failure.fatal }
            }
        };
        code = ended.code;
        if ended.for_good {
            return Ok(code);
        }
    }
}

/// Words of a line, without the program's name wherever it stands. Form feeds and vertical tabs part no words.
fn words(line: &str) -> Vec<String> {
    let words =
        line.split([' ', '\t', '\r', '\n']).filter(|word| !word.is_empty() && *word != "ipvsadm");
    words.map(str::to_owned).collect()
}

fn one(
    command: Command,
    program: &str,
    director: &mut dyn Director,
    names: &dyn Names,
    streams: &mut Streams<'_>,
) -> io::Result<Ended> {
    let leaves = matches!(command, Command::Help | Command::Version | Command::Restore);
    match carry_out(command, program, director, names, streams) {
        Ok(code) => Ok(Ended { code, for_good: leaves }),
        Err(Trouble::Stream(error)) => Err(error),
        Err(Trouble::NoSuchService) => {
            writeln!(streams.errors, "{}", ChangeError::NoSuchService)?;
            Ok(Ended { code: 1, for_good: true })
        }
        Err(Trouble::Director(DirectorError::Refused(error))) => {
            writeln!(streams.errors, "{error}")?;
            Ok(Ended { code: 255, for_good: false })
        }
        Err(Trouble::Director(DirectorError::Client(error))) => {
            streams.errors.write_all(client_error(&error).as_bytes())?;
            Ok(Ended { code: 2, for_good: true })
        }
    }
}

fn carry_out(
    command: Command,
    program: &str,
    director: &mut dyn Director,
    names: &dyn Names,
    streams: &mut Streams<'_>,
) -> Result<u8, Trouble> {
    match command {
        Command::Service { edit: false, service } => {
            director.apply(&Change::AddService(service))?
        }
        Command::Service { edit: true, service } => {
            director.apply(&Change::EditService(service))?
        }
        Command::UnknownScheduler { edit, service } => unknown_scheduler(edit, service, director)?,
        Command::Change(change) => {
            director.apply(&change)?;
            if matches!(change, Change::StartSync(_)) {
                writeln!(streams.errors, "{program}: warning: {}", SyncDaemon::WARNING)?;
            }
        }
        Command::Changes(changes) => director.apply_all(&changes)?,
        Command::Zero(service) => director.zero(service)?,
        Command::List(list) => show(&list, director, names, streams.output)?,
        Command::Save { numeric } => {
            listing::save(director.services()?, Namer::new(names, numeric), streams.output)?;
        }
        Command::Help => streams.output.write_all(text::help(program).as_bytes())?,
        Command::Version => streams.output.write_all(text::VERSION.as_bytes())?,
        // Only in the input of -R: ipvsadm refuses to recurse.
        Command::Restore => {
            let failure = try_help(program);
            streams.errors.write_all(failure.message.as_bytes())?;
            return Ok(failure.code);
        }
    }
    Ok(0)
}

/// Looks first at what the kernel looks at before the scheduler.
fn unknown_scheduler(
    edit: bool,
    service: ServiceKey,
    director: &mut dyn Director,
) -> Result<(), DirectorError> {
    let known = director.services()?.iter().any(|view| view.service.key == service);
    let error = match (edit, known) {
        (false, true) => ChangeError::ServiceExists,
        (true, false) => ChangeError::NoSuchService,
        (false, false) | (true, true) => ChangeError::SchedulerNotFound,
    };
    Err(error.into())
}

fn show(
    list: &List,
    director: &mut dyn Director,
    names: &dyn Names,
    out: &mut dyn Write,
) -> Result<(), Trouble> {
    if list.json {
        return json::show(list, director, out);
    }
    let namer = Namer::new(names, list.numeric);
    match &list.subject {
        Subject::All => {
            listing::banner(director.info()?.connection_table_size, out)?;
            listing::list(director.services()?, list, namer, out)?;
        }
        Subject::Service(key) => {
            listing::list(service(*key, director)?, list, namer, out)?;
        }
        Subject::Connections(filter) => {
            let found = director.connections(filter)?;
            connections::title(list.persistent, out)?;
            for connection in found {
                connections::line(&connection?, list.persistent, namer, out)?;
            }
        }
        Subject::Timeouts => {
            let timeouts = director.timeouts()?;
            let (tcp, tcp_fin, udp) = (timeouts.tcp, timeouts.tcp_fin, timeouts.udp);
            writeln!(out, "Timeout (tcp tcpfin udp): {tcp} {tcp_fin} {udp}")?;
        }
        Subject::LocalAddresses(key) => {
            listing::local_addresses(services_of(*key, director)?, namer, out)?;
        }
        Subject::Daemons => {
            for daemon in director.sync_daemons()? {
                sync_daemon(&daemon, out)?;
            }
        }
    }
    Ok(())
}

/// One service as a list, or all of them.
pub(super) fn services_of(
    key: Option<ServiceKey>,
    director: &mut dyn Director,
) -> Result<Vec<ServiceView>, Trouble> {
    match key {
        Some(key) => service(key, director),
        None => Ok(director.services()?),
    }
}

/// The one service, as a list.
pub(super) fn service(
    key: ServiceKey,
    director: &mut dyn Director,
) -> Result<Vec<ServiceView>, Trouble> {
    let mut services = director.services()?;
    services.retain(|view| view.service.key == key);
    if services.is_empty() {
        return Err(Trouble::NoSuchService);
    }
    Ok(services)
}

fn sync_daemon(daemon: &SyncDaemon, out: &mut dyn Write) -> io::Result<()> {
    let SyncDaemon { role, interface, syncid, maxlen, group, port, ttl } = daemon;
    let role = role.name();
    writeln!(
        out,
        "{role} sync daemon (mcast={interface}, syncid={syncid}, maxlen={maxlen}, group={group}, port={port}, ttl={ttl})"
    )
}

/// Why the daemon could not be asked, in one or two lines.
pub(super) fn client_error(error: &ClientError) -> String {
    match error {
        // What ipvsadm says to everybody but root.
        ClientError::Permission(_) => {
            "Can't initialize ipvs: Permission denied (you must be root)\n\
             Are you sure that IP Virtual Server is built in the kernel or as module?\n"
                .to_owned()
        }
        ClientError::NoDaemon(_) => format!(
            "{error}\nstart one with `elvs run -f FILE`, or `elvs run` for an empty table\n"
        ),
        ClientError::Connect { .. }
        | ClientError::Version { .. }
        | ClientError::Http { .. }
        | ClientError::Answer { .. }
        | ClientError::Api(_)
        | ClientError::Runtime(_)
        | _ => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(error);
            while let Some(cause) = source {
                text.push_str(": ");
                text.push_str(&cause.to_string());
                source = cause.source();
            }
            text.push('\n');
            text
        }
    }
}

#[cfg(test)]
mod tests;
