//! What the health monitor shows: virtual servers, their real servers, and every check with its last result.
//!
//! **Invariant:** views are snapshots; times are Unix milliseconds; every state stands beside its reason in words.
//!
//! Part of [`crate::health`]: the monitor fills these types; the API and `elvs status` show them.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::server::Watched;
use crate::{DestinationKey, ServiceKey};

/// Everything the monitor knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthView {
    /// Virtual servers in the order of the file.
    pub watched: Vec<WatchedView>,
    /// Checks that run; equal ones are run once.
    pub checks: usize,
    /// Checks that real servers asked for; those above [`Self::checks`] are spared by sharing.
    pub wanted: usize,
    /// Sessions of BFD; the driver's, which the monitor leaves empty.
    #[serde(default)]
    pub bfd: BfdSessions,
    /// Mails; the notifier's, which the monitor leaves empty.
    #[serde(default)]
    pub mail: MailView,
    /// Real servers that an operator keeps without new connections; the node's, which the monitor leaves empty.
    #[serde(default)]
    pub drained: Vec<Drained>,
}

/// A real server that gets no new connections until its operator says otherwise (`elvs drain`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Drained {
    /// The virtual service.
    pub service: ServiceKey,
    /// The real server in it.
    pub destination: DestinationKey,
}

/// What became of mails about virtual and real servers (`smtp_alert`) since the daemon was started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailView {
    /// Mails that wait, the one that is being sent among them.
    pub waiting: usize,
    /// Mails that a server took.
    pub sent: u64,
    /// Tries that failed and are repeated.
    pub tried_again: u64,
    /// Mails that were given up: why, and how many.
    pub dropped: Vec<(String, u64)>,
    /// Why the last try failed; `None` when a mail was sent since.
    pub trouble: Option<String>,
}

/// Sessions of BFD and what came for them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BfdSessions {
    /// The sessions in the order of the file.
    pub sessions: Vec<BfdSession>,
    /// Datagrams that were taken.
    pub received: u64,
    /// Datagrams that were refused: why, and how many.
    pub refused: Vec<(String, u64)>,
    /// UDP ports that cannot be received on, each with the system's words.
    pub closed_ports: Vec<String>,
}

/// A session of BFD (RFC 5880).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BfdSession {
    /// Name of the `bfd_instance`.
    pub instance: String,
    /// The neighbour.
    pub neighbor: IpAddr,
    /// Our state: `Up`, `Down`, `Init`, `AdminDown`.
    pub state: String,
    /// Since when, in Unix milliseconds.
    pub since: u64,
    /// Why it last left `Up`.
    pub diagnostic: String,
    /// The neighbour's state, as it last said.
    pub neighbor_state: String,
    /// Microseconds from one packet of ours to the next.
    pub transmit_us: u64,
    /// Microseconds of silence after which it is down; 0 before the neighbour is heard.
    pub detection_us: u64,
    /// Packets sent.
    pub sent: u64,
    /// Packets that the system refused to send.
    pub unsent: u64,
    /// Why the last one could not be sent, if it could not.
    pub trouble: Option<String>,
}

/// A virtual server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchedView {
    /// What it is.
    pub watched: Watched,
    /// Its name as keepalived writes it: `[10.0.0.100]:tcp:80`, `FWM 3`, `[group]:0`.
    pub name: String,
    /// The services that share its state.
    pub services: Vec<ServiceKey>,
    /// Whether it has its quorum.
    pub up: bool,
    /// Since when, in Unix milliseconds.
    pub since: u64,
    /// Weight that real servers must have together, reduced to what they can have.
    pub quorum: u32,
    /// How far beyond the quorum before it is gained or lost.
    pub hysteresis: u32,
    /// Weight of the real servers that are alive.
    pub weight: u64,
    /// The sorry server, if there is one.
    pub sorry_server: Option<SorryServerView>,
    /// Nothing is checked, for the VIP is not on this host (`ha_suspend`).
    pub suspended: bool,
    /// Its real servers in the order of the file, then those that were removed and still drain.
    pub servers: Vec<ServerView>,
    /// Its last changes, the newest last.
    pub history: Vec<Transition<bool>>,
}

/// A sorry server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SorryServerView {
    /// Which destination.
    pub key: DestinationKey,
    /// Whether it takes the traffic.
    pub in_use: bool,
}

/// A real server of a virtual server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerView {
    /// Which destination.
    pub key: DestinationKey,
    /// Its name as keepalived writes it: `[10.0.0.21]:tcp:80`.
    pub name: String,
    /// Its state.
    pub state: ServerState,
    /// Since when, in Unix milliseconds.
    pub since: u64,
    /// Why, in words.
    pub reason: String,
    /// Weight by which it is scheduled; `None` = it is not in the table.
    pub weight: Option<u32>,
    /// Weight of the configuration.
    pub configured_weight: u32,
    /// Until when the state lasts by itself (`suspect`, `held_down`, `slow_start`, `leaving`), in Unix milliseconds.
    pub until: Option<u64>,
    /// Its checks in the order of the file.
    pub checks: Vec<CheckView>,
    /// Its last changes, the newest last.
    pub history: Vec<Transition<ServerState>>,
}

/// State of a real server in one virtual server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    /// It works, as far as anybody knows.
    Up,
    /// It works again, and its weight grows to the full one.
    SlowStart,
    /// Its agent wants no new connections: weight 0.
    Draining,
    /// A check failed, or was not passed yet.
    Down,
    /// Too many of its connections failed.
    Suspect,
    /// Its checks pass, but it flapped: it waits until it is used again.
    HeldDown,
    /// Its agent took it out.
    Maintenance,
    /// It is no longer in the configuration, and its connections may end.
    Leaving,
}

impl ServerState {
    /// The word shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::SlowStart => "slow start",
            Self::Draining => "draining",
            Self::Down => "down",
            Self::Suspect => "suspect",
            Self::HeldDown => "held down",
            Self::Maintenance => "maintenance",
            Self::Leaving => "leaving",
        }
    }

    /// Whether the real server counts for the quorum.
    pub const fn alive(self) -> bool {
        matches!(self, Self::Up | Self::SlowStart | Self::Draining)
    }
}

/// A check of a real server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckView {
    /// Its keyword.
    pub kind: String,
    /// What it is directed at: address and port, program, file, or instance.
    pub target: String,
    /// Its state.
    pub state: CheckState,
    /// Since when, in Unix milliseconds.
    pub since: u64,
    /// What the last run found, in words; empty before the first.
    pub words: String,
    /// When the last run ended, in Unix milliseconds.
    pub last_run: Option<u64>,
    /// How long the last run took, in microseconds.
    pub latency_us: Option<u64>,
    /// When the next run begins, in Unix milliseconds; `None` while one runs, or where checks are suspended or told of changes.
    pub next_run: Option<u64>,
    /// Runs so far.
    pub runs: u64,
    /// Runs that failed.
    pub failures: u64,
    /// Runs that failed since the last one that did not.
    pub failures_in_row: u64,
    /// Real servers that share it, this one among them.
    pub shared_by: usize,
}

/// State of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    /// It has not run yet.
    Unknown,
    /// It passed.
    Up,
    /// It fails, and is tried again before that counts.
    Failing,
    /// It failed.
    Down,
}

impl CheckState {
    /// The word shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Failing => "failing",
            Self::Down => "down",
        }
    }
}

/// A change of state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition<S> {
    /// When, in Unix milliseconds.
    pub at: u64,
    /// The state from then on.
    pub state: S,
    /// Why, in words.
    pub reason: String,
}
