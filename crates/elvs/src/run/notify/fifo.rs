//! A FIFO that lines are written to.
//!
//! **Invariant:** writing never blocks and never tears a line: a line fits into the pipe whole or is left out and counted.
//!
//! Called by the notifier.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use elvs_model::health::ScriptUser;
use elvs_probe::script::{Identity, IdentityError};
use nix::libc::O_NONBLOCK;
use nix::sys::stat::Mode;
use nix::unistd::{chown, mkfifo};
use tracing::{info, warn};

/// Longest line that the kernel writes whole or not at all (pipe(7), PIPE_BUF).
const LONGEST: usize = 4_096;

/// Why a FIFO cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum FifoError {
    /// Something else has the name.
    #[error("{} is no FIFO: remove it, or name another path", .0.display())]
    NotAFifo(PathBuf),
    /// Whom it shall belong to.
    #[error("whom a FIFO shall belong to: {0}")]
    User(#[from] IdentityError),
    /// The system refuses.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// The operation.
        what: &'static str,
        /// The FIFO.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// An open FIFO; it is removed with this value if it was made by it.
#[derive(Debug)]
pub(super) struct Pipe {
    file: File,
    path: PathBuf,
    made: bool,
    /// Lines left out since the last one that was written.
    lost: u64,
}

impl Pipe {
    /// Opens a FIFO, and makes it if there is none, for `user`.
    ///
    /// It is opened for reading, too: so there is always a reader, and up to a pipe's capacity (64 KiB) is kept for
    /// one that starts late or starts again.
    pub(super) fn open(path: &Path, user: Option<&ScriptUser>) -> Result<Self, FifoError> {
        let owner = user.map(|user| Identity::of_daemon(Some(user))).transpose()?;
        let io = |what| move |source| FifoError::Io { what, path: path.to_owned(), source };
        let made = match fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_fifo() => false,
            Ok(_) => return Err(FifoError::NotAFifo(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR)
                    .map_err(|error| io("make")(error.into()))?;
                true
            }
            Err(error) => return Err(io("look at")(error)),
        };
        let mut options = OpenOptions::new();
        if made && let Some(owner) = owner {
            chown(path, Some(owner.uid()), Some(owner.gid()))
                .map_err(|error| io("give away")(error.into()))?;
        }
        let opened = options.read(true).write(true).custom_flags(O_NONBLOCK).open(path);
        Ok(Self { file: opened.map_err(io("open"))?, path: path.to_owned(), made, lost: 0 })
    }

    /// Writes a line; one that does not fit because nobody reads is left out.
    pub(super) fn write(&mut self, line: &str) {
        let line = format!("{line}\n");
        let written = if line.len() > LONGEST {
            Err(io::Error::from(io::ErrorKind::FileTooLarge))
        } else {
            self.file.write(line.as_bytes())
        };
        match written {
            Ok(_) => {
                let lost = std::mem::take(&mut self.lost);
                if lost > 0 {
                    info!("{} is read again; {lost} lines were left out", self.path.display());
                }
            }
            Err(error) => {
                self.lost += 1;
                if self.lost == 1 {
                    let path = self.path.display();
                    warn!("lines for {path} are left out until somebody reads it: {error}");
                }
            }
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        if self.lost > 0 {
            warn!("{}: {} lines were left out", self.path.display(), self.lost);
        }
        if self.made {
            // One that somebody else removed is gone as wanted.
            let _ = fs::remove_file(&self.path);
        }
    }
}
