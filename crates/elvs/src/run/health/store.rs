//! The file that keeps what checks found across a restart, orderly or not.
//!
//! **Invariant:** the file is replaced whole by renaming, so it is never seen half written. An unreadable one costs the
//! states, not the start.
//!
//! Called by the health thread.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use elvs_health::SavedState;
use tracing::warn;

/// Name of the file in the instance's state directory.
const FILE: &str = "health.json";

/// The file.
#[derive(Clone, Debug)]
pub(super) struct Store(PathBuf);

impl Store {
    /// The file of an instance.
    pub(super) fn in_directory(directory: &Path) -> Self {
        Self(directory.join(FILE))
    }

    /// What an earlier daemon kept.
    pub(super) fn load(&self) -> Option<SavedState> {
        let text = match fs::read(&self.0) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                warn!("states of checks are not taken over: {}: {error}", self.0.display());
                return None;
            }
        };
        match serde_json::from_slice(&text) {
            Ok(saved) => Some(saved),
            Err(error) => {
                warn!("states of checks are not taken over: {}: {error}", self.0.display());
                None
            }
        }
    }

    /// Keeps it.
    pub(super) fn save(&self, saved: &SavedState) {
        let part = self.0.with_extension("json.part");
        let written = serde_json::to_vec(saved).map_err(io::Error::from);
        let written = written.and_then(|text| fs::write(&part, text));
        if let Err(error) = written.and_then(|()| fs::rename(&part, &self.0)) {
            warn!("states of checks are not kept: {}: {error}", self.0.display());
        }
    }
}
