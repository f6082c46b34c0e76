//! What outlives a restart of the daemon.
//!
//! **Invariant:** times are Unix milliseconds, for no monotonic clock outlives a restart; a check is known by a fingerprint,
//! so that no password of a configuration is written to disk.
//!
//! Part of the crate's interface: the daemon writes it to a file when it stops, and reads it when it starts.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use elvs_model::DestinationKey;
use elvs_model::health::{Check, ServerState, Transition, Watched};
use serde::{Deserialize, Serialize};

use crate::check::Said;
use crate::damping::Flaps;

/// State of checks, real servers and virtual servers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SavedState {
    pub(crate) watched: Vec<SavedWatched>,
    pub(crate) checks: Vec<SavedCheck>,
}

/// A virtual server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedWatched {
    pub(crate) watched: Watched,
    pub(crate) up: bool,
    pub(crate) since: u64,
    pub(crate) history: Vec<Transition<bool>>,
    pub(crate) servers: Vec<SavedServer>,
    /// Who is among the destinations, the newest last; `None` is the sorry server.
    pub(crate) members: Vec<Option<DestinationKey>>,
    /// The daemon ended in order: what is told of again at the next start.
    #[serde(default)]
    pub(crate) tell: Option<Tell>,
}

/// What the next daemon tells of, though it did not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Tell {
    /// How the virtual server stands, and which real servers are down: the table was gone in between.
    Standing,
    /// All of it, for `omega` told that everything is down.
    Everything,
}

/// A real server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedServer {
    pub(crate) key: DestinationKey,
    pub(crate) alive: bool,
    /// No check had failed.
    pub(crate) passes: bool,
    pub(crate) state: ServerState,
    pub(crate) since: u64,
    pub(crate) reason: String,
    pub(crate) history: Vec<Transition<ServerState>>,
    pub(crate) fell: bool,
    pub(crate) flaps: Flaps,
    pub(crate) penalty: Duration,
    pub(crate) recovered: Option<u64>,
    pub(crate) held_until: Option<u64>,
    pub(crate) suspect_until: Option<u64>,
    /// When its weight began to grow.
    pub(crate) ramp: Option<u64>,
}

/// A check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedCheck {
    pub(crate) fingerprint: u64,
    pub(crate) said: Said,
    pub(crate) words: String,
    pub(crate) since: u64,
    pub(crate) ended: Option<u64>,
    pub(crate) runs: u64,
    pub(crate) failures: u64,
    pub(crate) failures_in_row: u64,
}

/// What a check is known by on disk. Two different checks of one configuration have the same one with a chance of 2⁻⁶⁴.
pub(crate) fn fingerprint(check: &Check) -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    check.hash(&mut hasher);
    hasher.finish()
}

/// FNV-1a (draft-eastlake-fnv), for the standard library's hash may differ between releases of Rust.
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
