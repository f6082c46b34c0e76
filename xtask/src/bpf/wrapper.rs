//! Stands before rustc while the kernel's programs are built, and takes the checkout's place out of what it is told.
//!
//! Cargo makes a crate's `-C metadata` from the crate's absolute path, and symbols from that; debug information (hence
//! BTF line information) names source files. Both would make the object's bytes depend on the machine.
//!
//! **Invariant:** two checkouts of the same sources give rustc the same metadata and the same mapped file names.
//! Cargo calls it, by `RUSTC_WRAPPER`, as `xtask RUSTC ARGUMENTS..`.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// Set, to the checkout's root, in the environment of a build whose rustc is wrapped.
pub const CHECKOUT: &str = "ELVS_BPF_CHECKOUT";

/// The checkout whose kernel programs are being built, when this process was started in rustc's place.
pub fn wrapped_checkout() -> Option<PathBuf> {
    std::env::var_os(CHECKOUT).map(PathBuf::from)
}

/// Becomes rustc; returns only when that is impossible.
pub fn run(checkout: &Path) -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let rustc = arguments.next().context("rustc wrapper started without rustc")?;
    let mut command = Command::new(&rustc);
    match Package::from_environment() {
        Some(package) => command.args(stable(arguments, &package, checkout)),
        // Cargo asking rustc about itself.
        None => command.args(arguments),
    };
    Err(command.exec()).with_context(|| format!("start {}", Path::new(&rustc).display()))
}

/// The package that Cargo says rustc compiles.
struct Package {
    folder: PathBuf,
    name: String,
    version: String,
}

impl Package {
    fn from_environment() -> Option<Self> {
        let text = |name| std::env::var(name).ok();
        Some(Self {
            folder: std::env::var_os("CARGO_MANIFEST_DIR")?.into(),
            name: text("CARGO_PKG_NAME")?,
            version: text("CARGO_PKG_VERSION")?,
        })
    }
}

/// The arguments with metadata that names the package's version only (rustc adds the crate's name itself), and with
/// the package's folder mapped to its name.
fn stable(
    arguments: impl Iterator<Item = OsString>,
    package: &Package,
    checkout: &Path,
) -> Vec<OsString> {
    let ours = package.folder.starts_with(checkout);
    let mut stable: Vec<OsString> = arguments
        .map(|argument| match argument.to_str() {
            Some(text) if ours && text.starts_with("metadata=") => {
                format!("metadata={}", package.version).into()
            }
            _ => argument,
        })
        .collect();
    let mut map = OsString::from("--remap-path-prefix=");
    map.push(&package.folder);
    map.push(OsStr::new("="));
    map.push(format!("{}-{}", package.name, package.version));
    stable.push(map);
    stable
}

#[cfg(test)]
mod tests;
