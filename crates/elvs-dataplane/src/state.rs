//! The state file: what a restarted daemon needs to adopt the kernel's tables.
//!
//! **Invariant:** the file is replaced whole by renaming, so it is never seen half written; it is written before the
//! kernel's tables change.
//!
//! Called by [`crate::Director`] and by `open`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use elvs_common::LAYOUT_VERSION;
use elvs_model::Table;
use serde::{Deserialize, Serialize};

use crate::assignments::Assignments;

/// Name of the file in the instance's state directory.
const FILE: &str = "table.json";

/// Why the state file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// A file operation failed.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// The operation.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not what this version writes.
    #[error("{path} is not a state file of this version: {reason}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// What the file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// [`LAYOUT_VERSION`] of the tables it belongs to.
    pub(crate) layout: u32,
    /// Swaps so far.
    pub(crate) generation: u64,
    /// The table.
    pub(crate) table: Table,
    /// Indexes.
    pub(crate) assignments: Assignments,
}

/// The file of one instance.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    directory: PathBuf,
}

impl Store {
    /// The store in an instance's state directory, which is made if missing.
    pub(crate) fn new(directory: &Path) -> Result<Self, StateError> {
        let io = |source| StateError::Io { what: "create", path: directory.into(), source };
        fs::create_dir_all(directory).map_err(io)?;
        Ok(Self { directory: directory.into() })
    }

    fn file(&self) -> PathBuf {
        self.directory.join(FILE)
    }

    /// Replaces the file.
    pub(crate) fn save(&self, state: &State) -> Result<(), StateError> {
        let path = self.file();
        let part = self.directory.join("table.json.part");
        let text = serde_json::to_vec(state).map_err(|error| StateError::Format {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        let io = |what, path: &Path| {
            let path = path.to_path_buf();
            move |source| StateError::Io { what, path, source }
        };
        let mut file = File::create(&part).map_err(io("create", &part))?;
        file.write_all(&text).map_err(io("write", &part))?;
        file.sync_all().map_err(io("write", &part))?;
        fs::rename(&part, &path).map_err(io("replace", &path))
    }

    /// Reads the file; `None` if there is none.
    pub(crate) fn load(&self) -> Result<Option<State>, StateError> {
        let path = self.file();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StateError::Io { what: "read", path, source }),
        };
        let state: State = serde_json::from_slice(&text).map_err(|error| StateError::Format {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        if state.layout != LAYOUT_VERSION {
            let reason = format!("it belongs to layout {}, not {LAYOUT_VERSION}", state.layout);
            return Err(StateError::Format { path, reason });
        }
        Ok(Some(state))
    }

    /// Removes the file.
    pub(crate) fn remove(&self) -> Result<(), StateError> {
        let path = self.file();
        match fs::remove_file(&path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(StateError::Io { what: "remove", path, source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use elvs_common::LAYOUT_VERSION;

    use super::{State, StateError, Store};

    #[test]
    fn a_state_is_read_back_replaced_and_removed() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(&directory.path().join("a/b")).unwrap();
        assert!(store.load().unwrap().is_none());
        for generation in [1, 2] {
            let state = State { layout: LAYOUT_VERSION, generation, ..State::default() };
            store.save(&state).unwrap();
            assert_eq!(store.load().unwrap(), Some(state));
        }
        store.remove().unwrap();
        store.remove().unwrap();
        assert!(store.load().unwrap().is_none());
    }

    #[test]
    fn damaged_files_and_other_layouts_are_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path()).unwrap();
        store.save(&State { layout: LAYOUT_VERSION + 1, ..State::default() }).unwrap();
        let error = store.load().unwrap_err();
        assert!(matches!(error, StateError::Format { .. }));
        assert!(error.to_string().contains("layout"), "{error}");
        std::fs::write(directory.path().join("table.json"), b"{\"layout\":1,").unwrap();
        assert!(matches!(store.load(), Err(StateError::Format { .. })));
    }
}
