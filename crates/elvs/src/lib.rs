//! The parts of the `elvs` binary.
//!
//! **Invariant:** what can be tested without the process it runs in lives here; `main.rs` only wires.
//!
//! Called by `main.rs` and by this crate's tests.

pub mod adm;
pub mod check;
pub mod cli;
pub mod demo;
pub mod drain;
mod files;
mod host_findings;
pub mod mark;
pub mod realserver;
pub mod run;
pub mod settings;
pub mod simulate;
pub mod status;
#[cfg(test)]
mod test_daemon;
