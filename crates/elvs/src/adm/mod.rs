//! `elvs adm`, and the names `ipvsadm`, `ipvsadm-save` and `ipvsadm-restore`: ipvsadm 1.31 to the byte.
//!
//! **Invariant:** parsing touches neither network nor daemon beyond name look-ups; what is printed depends only on the
//! director's answers.
//!
//! Called by the binary's entry point. The way through: [`parse()`] makes a [`Command`], [`run()`] carries it out on a
//! [`Director`].

mod command;
mod connections;
mod describe;
mod director;
mod draft;
mod format;
mod json;
mod listing;
mod names;
mod number;
mod option;
mod order;
mod parse;
mod run;
mod scan;
mod text;

use std::ffi::OsString;
use std::io::{self, BufReader, BufWriter};
use std::path::Path;

use elvs_api::{Client, ClientError};
use elvs_model::Change;

pub use command::{Columns, Command, Failure, List, Subject};
pub use describe::describe;
pub use director::{ConnectionIter, Director, DirectorError};
pub use names::{Names, SystemNames};
pub use parse::parse;
pub use run::{Streams, run};

/// Runs ipvsadm, or `ipvsadm-save` or `-restore` if `args[0]` says so, against the daemon on `socket`. Returns the
/// exit code.
pub fn main(args: Vec<OsString>, socket: &Path) -> u8 {
    let mut args = args.into_iter().map(|arg| arg.to_string_lossy().into_owned());
    let called = args.next().unwrap_or_default();
    let words: Vec<String> = args.collect();
    let mut output = BufWriter::new(io::stdout().lock());
    let mut errors = io::stderr().lock();
    let mut input = BufReader::new(io::stdin().lock());
    let mut streams = Streams { input: &mut input, output: &mut output, errors: &mut errors };
    let done = match base_name(&called) {
        "ipvsadm-save" => save(base_name(&called), &words, socket, &mut streams),
        "ipvsadm-restore" => restore(socket, &mut streams),
        "ipvsadm" => command(&called, &words, socket, &mut streams),
        _ => elvs_adm(&words, socket, &mut streams),
    };
    let done = done.and_then(|code| streams.output.flush().map(|()| code));
    done.unwrap_or_else(|error| {
        // A reader that has seen enough is no failure worth a message.
        if error.kind() != io::ErrorKind::BrokenPipe {
            // Nothing is left to tell if stderr is gone, too.
            let _ = writeln!(streams.errors, "cannot read or write: {error}");
        }
        1
    })
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn command(
    program: &str,
    words: &[String],
    socket: &Path,
    streams: &mut Streams<'_>,
) -> io::Result<u8> {
    let command = if words.is_empty() {
        Command::List(List::default())
    } else {
        match parse(program, words, &SystemNames) {
            Ok(command) => command,
            Err(failure) => {
                let (code, message) = first_trouble(failure, &Client::connect(socket).err());
                streams.errors.write_all(message.as_bytes())?;
                return Ok(code);
            }
        }
    };
    // These two need no daemon.
    if command == Command::Help {
        streams.output.write_all(text::help(program).as_bytes())?;
        return Ok(0);
    }
    if command == Command::Version {
        streams.output.write_all(text::VERSION.as_bytes())?;
        return Ok(0);
    }
    with_director(socket, streams, |director, streams| {
        run(command, program, director, &SystemNames, streams)
    })
}

/// What is said of a line with a mistake: ipvsadm tells who may not use it before it looks at the line.
fn first_trouble(failure: Failure, unreachable: &Option<ClientError>) -> (u8, String) {
    match unreachable {
        Some(error @ ClientError::Permission(_)) => (2, run::client_error(error)),
        Some(_) | None => (failure.code, failure.message),
    }
}

/// `elvs adm`: ipvsadm, whose help says what ELVS adds.
fn elvs_adm(words: &[String], socket: &Path, streams: &mut Streams<'_>) -> io::Result<u8> {
    let code = command("ipvsadm", words, socket, streams)?;
    if !words.is_empty() && parse("ipvsadm", words, &SystemNames) == Ok(Command::Help) {
        streams.output.write_all(text::EXTENSIONS.as_bytes())?;
    }
    Ok(code)
}

/// `ipvsadm-save [-n]`.
fn save(
    program: &str,
    words: &[String],
    socket: &Path,
    streams: &mut Streams<'_>,
) -> io::Result<u8> {
    if words.iter().any(|word| word.starts_with('-') && word != "-n") {
        streams.errors.write_all(text::save_help(program).as_bytes())?;
        return Ok(1);
    }
    let command = Command::Save { numeric: words.iter().any(|word| word == "-n") };
    with_director(socket, streams, |director, streams| {
        run(command, "ipvsadm", director, &SystemNames, streams)
    })
}

/// `ipvsadm-restore`: all of standard input is read before the table is cleared.
fn restore(socket: &Path, streams: &mut Streams<'_>) -> io::Result<u8> {
    let mut lines = Vec::new();
    let mut line = Vec::new();
    while streams.input.read_until(b'\n', &mut line)? != 0 {
        if !line.starts_with(b"#") {
            lines.extend_from_slice(&line);
        }
        line.clear();
    }
    // The script calls ipvsadm twice, and each call complains.
    if let Err(error @ ClientError::Permission(_)) = Client::connect(socket) {
        streams.errors.write_all(run::client_error(&error).as_bytes())?;
    }
    with_director(socket, streams, |director, streams| {
        let flush = Command::Change(Change::Flush);
        run(flush, "ipvsadm", director, &SystemNames, streams)?;
        let input = &mut lines.as_slice();
        let mut streams =
            Streams { input, output: &mut *streams.output, errors: &mut *streams.errors };
        run(Command::Restore, "ipvsadm", director, &SystemNames, &mut streams)
    })
}

fn with_director(
    socket: &Path,
    streams: &mut Streams<'_>,
    work: impl FnOnce(&mut dyn Director, &mut Streams<'_>) -> io::Result<u8>,
) -> io::Result<u8> {
    match Client::connect(socket) {
        Ok(mut client) => work(&mut client, streams),
        Err(error) => {
            streams.errors.write_all(run::client_error(&error).as_bytes())?;
            Ok(2)
        }
    }
}

#[cfg(test)]
mod tests;
