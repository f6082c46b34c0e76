//! Files of `FILE_CHECK` that the configuration gives a first value (`init_file`).
//!
//! **Invariant:** what somebody wrote is overwritten only where `overwrite` is said, and never by a reload.
//!
//! Called by the checker before a configuration is in force.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;

use elvs_model::Desired;
use elvs_model::health::{CheckKind, TrackFile};
use nix::fcntl::OFlag;
use tracing::{info, warn};

/// Files of a configuration with a first value, each once.
pub(super) fn with_first_value(desired: &Desired) -> HashSet<TrackFile> {
    let servers = desired.services.iter().flat_map(|service| &service.health.servers);
    let checks = servers.flat_map(|server| &server.checks);
    let files = checks.filter_map(|check| {
        if let CheckKind::File(check) = &check.kind { Some(&check.file) } else { None }
    });
    files.filter(|file| file.initial.is_some()).cloned().collect()
}

/// Gives files their first values; `start` when the daemon starts rather than reloads.
pub(super) fn initialise(files: &HashSet<TrackFile>, start: bool) {
    for file in files {
        let Some((value, overwrite)) = file.initial else { continue };
        let (name, path) = (&file.name, file.path.display());
        match write(file, value, overwrite && start) {
            Ok(true) => info!("track_file {name}: {path} is set to {value} (init_file)"),
            Ok(false) => {}
            Err(error) => warn!("track_file {name}: {path} cannot be set to {value}: {error}"),
        }
    }
}

/// Whether anything was written. A file that is there is written only with `overwrite`.
fn write(file: &TrackFile, value: i32, overwrite: bool) -> io::Result<bool> {
    let mut options = File::options();
    options.write(true).mode(0o644).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
    match fs::metadata(&file.path) {
        Ok(_) if !overwrite => return Ok(false),
        Ok(there) if !there.is_file() => {
            return Err(io::Error::other("it is no regular file"));
        }
        Ok(_) => options.truncate(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => options.create_new(true),
        Err(error) => return Err(error),
    };
    writeln!(options.open(&file.path)?, "{value}")?;
    Ok(true)
}

#[cfg(test)]
mod tests;
