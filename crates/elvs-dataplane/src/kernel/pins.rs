//! Pins: which there are, and removing them.
//!
//! **Invariant:** a link is detached before its pin is removed, so its interface is free when this returns.
//!
//! Called when tables are opened and torn down.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use super::mapping::detach_pinned_link;
use super::paths::{complete_set, egress_of, link_of};
use crate::backend::AttachedMode;

/// Names in a directory; none if it does not exist.
pub(super) fn names(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}

/// Pins that a directory lacks.
pub(super) fn missing(directory: &Path) -> io::Result<Vec<&'static str>> {
    let names = names(directory)?;
    Ok(complete_set().filter(|name| !names.iter().any(|found| found == name)).collect())
}

/// Interfaces with a pinned link.
pub(super) fn links(directory: &Path) -> io::Result<BTreeMap<String, AttachedMode>> {
    let links = names(directory)?.into_iter().filter_map(|name| link_of(&name));
    Ok(links.map(|(mode, interface)| (interface, mode)).collect())
}

/// Interfaces with a pinned link of the program that looks at what they send.
pub(super) fn egress_links(directory: &Path) -> io::Result<BTreeSet<String>> {
    Ok(names(directory)?.iter().filter_map(|name| egress_of(name)).collect())
}

/// Detaches a pinned link and removes its pin.
pub(crate) fn remove_link(pin: &Path) -> io::Result<()> {
    match detach_pinned_link(pin) {
        // The interface is gone, and the program with it.
        Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(()) => {}
    }
    fs::remove_file(pin)
}

/// Removes a directory of pins; links first.
pub(super) fn remove_all(directory: &Path) -> io::Result<()> {
    let names = names(directory)?;
    let is_link = |name: &&String| link_of(name).is_some() || egress_of(name).is_some();
    for name in names.iter().filter(is_link) {
        remove_link(&directory.join(name))?;
    }
    for name in names.iter().filter(|name| !is_link(name)) {
        fs::remove_file(directory.join(name))?;
    }
    match fs::remove_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
