//! What the demo keeps outside its namespaces: `/run/elvs/demo`, and the data plane's pins.
//!
//! **Invariant:** one demo at a time; the lock on the directory is held as long as this value lives.
//!
//! Called by the demo at its start (leftovers) and its end.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use elvs_net::bed::{self, Bed};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::{PREFIX, process};

/// The demo's directory, locked.
pub(super) struct State {
    _lock: Flock<File>,
    kept: bool,
}

impl State {
    /// Makes and locks the directory.
    pub fn lock() -> Result<Self> {
        loop {
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(DIRECTORY)
                .with_context(|| format!("cannot make {DIRECTORY}"))?;
            let directory =
                File::open(DIRECTORY).with_context(|| format!("cannot open {DIRECTORY}"))?;
            let lock = match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => lock,
                Err((_, Errno::EWOULDBLOCK)) => bail!("another `elvs demo` is running"),
                Err((_, e)) => return Err(e).with_context(|| format!("cannot lock {DIRECTORY}")),
            };
            // The demo that ended between `open` and `lock` took the directory with it.
            let same = fs::metadata(DIRECTORY)
                .is_ok_and(|now| lock.metadata().is_ok_and(|locked| locked.ino() == now.ino()));
            if same {
                return Ok(Self { _lock: lock, kept: false });
            }
        }
    }

    /// Removes what an earlier demo left: processes, namespaces, pins, files. Returns what there was.
    pub fn remove_leftovers(&mut self) -> Result<Vec<String>> {
        let mut removed = Vec::new();
        let recorded = fs::read_to_string(path(PROCESSES)).unwrap_or_default();
        // A number alone could be anybody's by now: only a process that is still in the demo's namespaces is ours.
        let present = bed::processes_in(PREFIX)?;
        let pids: Vec<i32> = recorded.lines().filter_map(|line| line.parse().ok()).collect();
        let pids: Vec<i32> = pids.into_iter().filter(|pid| present.contains(pid)).collect();
        process::terminate(&pids);
        removed.extend(pids.iter().map(|pid| format!("process {pid}")));
        removed.extend(Bed::remove_leftovers(PREFIX)?);
        remove_files()?;
        Ok(removed)
    }

    /// Notes a process, so that a later run can end it if this one cannot.
    pub fn record(&mut self, pid: u32) -> Result<()> {
        let file = path(PROCESSES);
        let opened = OpenOptions::new().create(true).append(true).open(&file);
        opened
            .and_then(|mut file| writeln!(file, "{pid}"))
            .with_context(|| format!("cannot write {}", file.display()))
    }

    /// Lets everything stay.
    pub fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if !self.kept && remove_files().is_ok() {
            // The lock is still held, so nobody else can be using the directory.
            let _ = fs::remove_dir(DIRECTORY);
        }
    }
}

/// A file of the demo.
pub(super) fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// Removes the directory's files and the data plane's pins.
fn remove_files() -> Result<()> {
    let pins = Path::new("/sys/fs/bpf/elvs").join(INSTANCE);
    match fs::remove_dir_all(&pins) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            return Err(e).with_context(|| format!("cannot remove {}", pins.display()));
        }
        Ok(()) | Err(_) => {}
    }
    for entry in fs::read_dir(DIRECTORY).with_context(|| format!("cannot read {DIRECTORY}"))? {
        let file = entry?.path();
        fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
    }
    Ok(())
}

/// Name of the daemon's instance, which names its pins.
pub(super) const INSTANCE: &str = "demo";

/// Where the demo keeps its files.
const DIRECTORY: &str = "/run/elvs/demo";

/// Ids of the demo's processes, one a line.
const PROCESSES: &str = "processes";
