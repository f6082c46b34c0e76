//! The unix socket that the daemon listens on.
//!
//! **Invariant:** only its owner and group may connect, and a socket on which a daemon still answers is never taken
//! away from it.
//!
//! Called by the daemon.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// Why the daemon cannot listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// A daemon answers there.
    #[error("another daemon answers on {}", .0.display())]
    Occupied(PathBuf),
    /// The path names something else.
    #[error("{} exists and is no socket: remove it or choose another with --socket", .0.display())]
    NotASocket(PathBuf),
    /// The system refused.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Listens on `path`: makes its directory, removes a socket that nobody answers on, and allows owner and group only.
///
/// Must be called inside a tokio runtime.
///
/// # Errors
/// See [`BindError`].
pub fn bind(path: &Path) -> Result<UnixListener, BindError> {
    let failed = |operation, path: &Path| {
        let path = path.to_owned();
        move |source| BindError::Io { operation, path, source }
    };
    if let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        fs::create_dir_all(directory).map_err(failed("create directory", directory))?;
    }
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(BindError::NotASocket(path.to_owned()));
        }
        Ok(_) => {
            if UnixStream::connect(path).is_ok() {
                return Err(BindError::Occupied(path.to_owned()));
            }
            fs::remove_file(path).map_err(failed("remove stale socket", path))?;
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(failed("examine", path)(e)),
    }
    let listener = UnixListener::bind(path).map_err(failed("listen on", path))?;
    fs::set_permissions(path, Permissions::from_mode(0o660))
        .map_err(failed("set the mode of", path))?;
    Ok(listener)
}
