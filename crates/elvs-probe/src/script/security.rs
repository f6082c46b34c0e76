//! `enable_script_security`: whether others than root can change what root would run.
//!
//! **Invariant:** every part of the path is examined, of the path as written and of the one that it leads to.
//!
//! Part of [`crate::script`].

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::words;

/// Why root does not run a program.
#[derive(Debug, Error)]
pub enum Insecure {
    /// Not an absolute path, so that where it leads depends on the environment.
    #[error("script security: {} is not an absolute path", .0.display())]
    Relative(PathBuf),
    /// It cannot be examined.
    #[error("script security: {}: {}", .path.display(), words::error(.source))]
    Unknown {
        /// The program, or what leads to it.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Owner.
    #[error("script security: {} belongs to user {owner}, not to root", .path.display())]
    Owner {
        /// The program, or what leads to it.
        path: PathBuf,
        /// Number of the user.
        owner: u32,
    },
    /// Mode.
    #[error("script security: {} may be written to by others than root (mode {mode:o})", .path.display())]
    Mode {
        /// The program, or what leads to it.
        path: PathBuf,
        /// The lowest 12 bits of its mode.
        mode: u32,
    },
}

/// Looks at everything on the way to a program.
///
/// # Errors
/// Others than root can change it.
pub(super) fn examine(program: &Path) -> Result<(), Insecure> {
    if !program.is_absolute() {
        return Err(Insecure::Relative(program.to_owned()));
    }
    let real = program
        .canonicalize()
        .map_err(|source| Insecure::Unknown { path: program.to_owned(), source })?;
    program.ancestors().chain(real.ancestors()).try_for_each(examine_one)
}

fn examine_one(path: &Path) -> Result<(), Insecure> {
    let path = path.to_owned();
    let metadata = match path.symlink_metadata() {
        Ok(metadata) => metadata,
        Err(source) => return Err(Insecure::Unknown { path, source }),
    };
    if metadata.uid() != 0 {
        return Err(Insecure::Owner { path, owner: metadata.uid() });
    }
    let mode = metadata.mode() & 0o7777;
    let writable = mode & 0o002 != 0 || (metadata.gid() != 0 && mode & 0o020 != 0);
    // A link has no mode of its own; in a sticky directory nobody replaces what is root's.
    let harmless = metadata.is_symlink() || (metadata.is_dir() && mode & 0o1000 != 0);
    if writable && !harmless { Err(Insecure::Mode { path, mode }) } else { Ok(()) }
}
