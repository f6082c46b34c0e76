//! What the monitor wants done: destinations of the table, notifications, log lines, runs of checks.
//!
//! **Invariant:** effects are to be carried out in their order; those of one change are together, the table first.
//!
//! Part of the crate's interface.

use elvs_model::health::{Script, Trial};
use elvs_model::{Destination, ServiceKey};

use crate::CheckId;

/// Something the daemon shall do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The service shall have these destinations, in the order in which they were added (the newest last).
    Destinations {
        /// Which service.
        service: ServiceKey,
        /// All of its destinations.
        destinations: Vec<Destination>,
    },
    /// Somebody is told.
    Notify(Notice),
    /// A line for the log.
    Log(LogLine),
}

/// Who is told, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// `notify_up`, `notify_down`, `quorum_up`, `quorum_down`.
    Script {
        /// The virtual or real server that it is about, as keepalived names it: scripts of one object run in order.
        about: String,
        /// The program.
        script: Script,
    },
    /// A line, without its end, for `lvs_notify_fifo` and `notify_fifo`: `VS [10.0.0.100]:tcp:80 UP`.
    Fifo(String),
    /// A mail.
    Mail {
        /// The subject without the `[router_id] ` before it.
        subject: String,
        /// The body.
        body: String,
    },
}

/// A line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How much it matters.
    pub level: LogLevel,
    /// The virtual server's name as keepalived writes it: `[10.0.0.100]:tcp:80`.
    pub service: String,
    /// The real server's name, if it is about one.
    pub server: Option<String>,
    /// Keyword of the check, if it is about one.
    pub check: Option<&'static str>,
    /// What happened, without the names above.
    pub message: String,
}

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Good to know.
    Info,
    /// Something does not work.
    Warn,
}

/// What is due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Checks that shall be run now; each ends with [`crate::Monitor::finished`].
    pub starts: Vec<Start>,
    /// What followed from time alone: hold-downs that ended, weights that grew, servers that have drained.
    pub effects: Vec<Effect>,
}

/// A check to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Which; given back with the finding.
    pub check: CheckId,
    /// What to do.
    pub what: Trial,
}
