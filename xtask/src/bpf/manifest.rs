//! The file beside the committed objects that says what they were built from.
//!
//! **Invariant:** it names every object, so that an object that was edited, added or lost is found without a compiler.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::build::Object;
use super::sources;
use super::toolchain::Versions;

/// Its name, in the folder of the objects.
pub const MANIFEST: &str = "manifest.json";

/// What the objects were built from, with what, and what they are.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// SHA-256 over the sources.
    pub sources: String,
    /// The tools that built the objects.
    pub tools: Versions,
    /// The objects by file name.
    pub objects: BTreeMap<String, Entry>,
}

/// One object.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// SHA-256 of the file.
    pub sha256: String,
    /// Size in bytes.
    pub size: usize,
}

impl Entry {
    fn of(bytes: &[u8]) -> Self {
        Self { sha256: sources::digest_of(bytes), size: bytes.len() }
    }
}

impl Manifest {
    /// The manifest of objects just built.
    pub fn new(sources: String, tools: Versions, objects: &[Object]) -> Self {
        let objects =
            objects.iter().map(|object| (object.name.clone(), Entry::of(&object.bytes))).collect();
        Self { sources, tools, objects }
    }

    /// Reads the manifest of a folder.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST);
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("read {}; `cargo xtask bpf` makes it", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("read {}", path.display()))
    }

    /// Writes the manifest to a folder.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(MANIFEST);
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(&path, text + "\n").with_context(|| format!("write {}", path.display()))
    }

    /// What differs between the manifest and the objects' files.
    pub fn compare_files(&self, folder: &Path) -> Result<Vec<String>> {
        let mut faults = Vec::new();
        for (name, entry) in &self.objects {
            match std::fs::read(folder.join(name)) {
                Ok(bytes) => faults.extend(differs(name, "committed", entry, &bytes)),
                Err(error) => faults.push(format!("{name}: {error}")),
            }
        }
        Ok(faults)
    }

    /// What differs between the manifest and a rebuild.
    pub fn compare(&self, rebuilt: &[Object]) -> Vec<String> {
        let mut faults = Vec::new();
        for object in rebuilt {
            match self.objects.get(&object.name) {
                Some(entry) => {
                    faults.extend(differs(&object.name, "rebuilt", entry, &object.bytes))
                }
                None => faults
                    .push(format!("{}: built from source, but not in {MANIFEST}", object.name)),
            }
        }
        for name in self.objects.keys() {
            if !rebuilt.iter().any(|object| object.name == *name) {
                faults.push(format!("{name}: in {MANIFEST}, but no source builds it"));
            }
        }
        faults
    }
}

fn differs(name: &str, which: &str, expected: &Entry, bytes: &[u8]) -> Option<String> {
    let found = Entry::of(bytes);
    (found != *expected).then(|| {
        format!(
            "{name}: {which} object has {} bytes and SHA-256 {}, {MANIFEST} says {} and {}",
            found.size, found.sha256, expected.size, expected.sha256
        )
    })
}

#[cfg(test)]
mod tests;
