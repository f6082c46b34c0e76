//! Drivers of checks: one run of a check against a real server, and what it found.
//!
//! **Invariant:** a run ends within its timeout, whatever the server does, and never panics on what it sends.
//!
//! Called by the daemon, when the health monitor says that a check is due.

pub mod path;
