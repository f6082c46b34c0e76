//! What outlives a restart of the daemon.
//!
//! **Invariant:** times are Unix milliseconds, for no monotonic clock outlives a restart.
//!
//! Part of the crate's interface: the daemon writes it to a file when it stops, and reads it when it starts.

use serde::{Deserialize, Serialize};

/// State of checks, real servers and virtual servers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SavedState {}
