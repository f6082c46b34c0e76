//! Network sysctls of the calling thread's network namespace.
//!
//! **Invariant:** `/proc/sys/net` shows the namespace of the thread that opens it, so these follow the caller.
//!
//! Called by the test bed and by `elvs demo`; later by `elvs realserver` and `elvs doctor`.

use std::fs;
use std::io;

/// Why a sysctl could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} /proc/sys/{key}")]
pub struct SysctlError {
    /// "read" or "set".
    operation: &'static str,
    /// Path below `/proc/sys`.
    key: String,
    /// The kernel's answer.
    #[source]
    source: io::Error,
}

impl SysctlError {
    /// Whether the kernel has no such sysctl.
    pub fn is_missing(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// Sets a sysctl, named by its path below `/proc/sys` (`net/ipv4/ip_forward`).
///
/// Slashes and not dots, because interface names may hold dots.
///
/// # Errors
/// [`SysctlError`] if there is none of that name, the value is refused or the caller may not.
pub fn set(key: &str, value: &str) -> Result<(), SysctlError> {
    fs::write(format!("/proc/sys/{key}"), value).map_err(|source| SysctlError {
        operation: "set",
        key: key.to_owned(),
        source,
    })
}

/// Reads a sysctl, without the line's end.
///
/// # Errors
/// [`SysctlError`] if there is none of that name.
pub fn read(key: &str) -> Result<String, SysctlError> {
    match fs::read_to_string(format!("/proc/sys/{key}")) {
        Ok(value) => Ok(value.trim_end().to_owned()),
        Err(source) => Err(SysctlError { operation: "read", key: key.to_owned(), source }),
    }
}
