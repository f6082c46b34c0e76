//! What this process may do and where it may pin.
//!
//! **Invariant:** a missing permission is reported by name before anything was made.
//!
//! Called when tables are opened.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

/// Where the BPF file system is by convention.
const BPF_FS: &str = "/sys/fs/bpf";

/// Capabilities that loading and attaching need, by number (`linux/capability.h`).
const NEEDED: [(u32, &str); 3] = [(12, "CAP_NET_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];
/// Stands for the last two on kernels that are asked by old rules.
const SYS_ADMIN: u32 = 21;

/// Why this process cannot have pins.
#[derive(Debug, thiserror::Error)]
pub enum PermissionError {
    /// Capabilities are missing.
    #[error("missing capability {}: run as root, or grant it with setcap(8) or systemd's AmbientCapabilities=", .0.join(", "))]
    Capabilities(Vec<&'static str>),
    /// The BPF file system could not be mounted.
    #[error(
        "cannot mount the BPF file system at {path}: {reason}; mount it with `mount -t bpf bpf {path}`"
    )]
    Mount {
        /// Where.
        path: &'static str,
        /// Why.
        reason: String,
    },
    /// The pin root is on another file system.
    #[error(
        "{path} is not on a BPF file system; use a directory under /sys/fs/bpf, or mount one there with `mount -t bpf bpf {path}`"
    )]
    NotBpf {
        /// The pin root.
        path: PathBuf,
    },
}

/// Checks the capabilities of this process.
pub(super) fn check_capabilities() -> Result<(), PermissionError> {
    // Where /proc is missing, the kernel's own refusals have to do.
    let Ok(status) = fs::read_to_string("/proc/self/status") else { return Ok(()) };
    let missing = missing_capabilities(&status);
    if missing.is_empty() { Ok(()) } else { Err(PermissionError::Capabilities(missing)) }
}

fn missing_capabilities(status: &str) -> Vec<&'static str> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let Some(Ok(set)) = line.map(|line| u64::from_str_radix(line.trim(), 16)) else {
        return Vec::new();
    };
    let has = |bit: u32| set >> bit & 1 != 0;
    NEEDED
        .into_iter()
        .filter(|(bit, _)| !has(*bit) && (*bit == 12 || !has(SYS_ADMIN)))
        .map(|(_, name)| name)
        .collect()
}

/// Sees to it that pins can be made under a directory.
pub(crate) fn prepare_pins(root: &Path) -> Result<(), PermissionError> {
    check_capabilities()?;
    ensure_bpf_fs(root).map(drop)
}

/// Sees to it that a directory can be made for pins; whether the file system had to be mounted.
pub(super) fn ensure_bpf_fs(root: &Path) -> Result<bool, PermissionError> {
    if on_bpf_fs(root) {
        return Ok(false);
    }
    if !root.starts_with(BPF_FS) || on_bpf_fs(Path::new(BPF_FS)) {
        return Err(PermissionError::NotBpf { path: root.into() });
    }
    mount(Some("bpf"), BPF_FS, Some("bpf"), MsFlags::empty(), None::<&str>)
        .map_err(|error| PermissionError::Mount { path: BPF_FS, reason: error.to_string() })?;
    Ok(true)
}

/// Whether a path, or the nearest ancestor that exists, is on a BPF file system.
fn on_bpf_fs(path: &Path) -> bool {
    path.ancestors()
        .find_map(|ancestor| statfs(ancestor).ok())
        .is_some_and(|found| found.filesystem_type() == BPF_FS_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::missing_capabilities;

    #[test]
    fn missing_capabilities_are_named() {
        let rows: [(&str, &[&str]); 5] = [
            ("Name:\tx\nCapEff:\t000001ffffffffff\n", &[]),
            ("CapEff:\t0000000000000000\n", &["CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF"]),
            ("CapEff:\t0000000000201000\n", &[]),
            ("CapEff:\t0000008000001000\n", &["CAP_PERFMON"]),
            ("no such line\n", &[]),
        ];
        for (status, missing) in rows {
            assert_eq!(missing_capabilities(status), missing, "{status}");
        }
    }
}
