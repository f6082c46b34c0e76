//! Hashes the files that the kernel's objects are built from.
//!
//! **Invariant:** the digest changes with every name and byte of a source and with nothing else: tests are left out,
//! and so are the checkout's place, file times and the order in which a folder lists its files.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// Folders, seen from the checkout's root, whose sources end up in an object.
const FOLDERS: &[&str] = &["ebpf", "crates/elvs-common", "crates/elvs-fastpath"];

/// Folders in them that hold no source of an object.
const LEFT_OUT: &[&str] = &["target", "tests", "benches", "examples"];

/// SHA-256, in hexadecimal, over names and contents of all sources.
pub fn digest(root: &Path) -> Result<String> {
    let mut digest = Sha256::new();
    for path in list(root)? {
        let full = root.join(&path);
        let bytes = std::fs::read(&full).with_context(|| format!("read {}", full.display()))?;
        digest.update(format!("{} {}\n", path.display(), bytes.len()));
        digest.update(&bytes);
    }
    Ok(hex(&digest.finalize()))
}

/// SHA-256 of bytes, in hexadecimal.
pub fn digest_of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The sources in order of their names, seen from the root.
fn list(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> = FOLDERS.iter().map(PathBuf::from).collect();
    while let Some(folder) = folders.pop() {
        let full = root.join(&folder);
        let entries =
            std::fs::read_dir(&full).with_context(|| format!("list {}", full.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("list {}", full.display()))?;
            let kind =
                entry.file_type().with_context(|| format!("kind of {}", entry.path().display()))?;
            let path = folder.join(entry.file_name());
            let name = entry.file_name().to_string_lossy().into_owned();
            if kind.is_dir() && !LEFT_OUT.contains(&name.as_str()) {
                folders.push(path);
            } else if kind.is_file() && is_source(&name) {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn is_source(name: &str) -> bool {
    let kind = Path::new(name).extension().unwrap_or_default();
    name == "Cargo.lock" || kind == "toml" || (kind == "rs" && name != "tests.rs")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
