//! The health monitor: which real servers work, and what follows from it.
//!
//! **Invariant:** no I/O and no clock: time is a parameter, effects are returned values. The same inputs at the same
//! times give the same effects.
//!
//! Called by the daemon: it tells the [`Monitor`] of configurations, starts the checks that [`Monitor::due`] names,
//! hands back their findings, and carries out the [`Effect`]s in their order.

mod agenda;
pub mod bfd;
mod check;
mod clock;
mod damping;
mod effect;
mod history;
mod monitor;
mod names;
mod notes;
mod passive;
mod random;
mod schedule;
mod server;
mod state;
mod unit;

pub use effect::{Due, Effect, LogLevel, LogLine, Notice, Start};
pub use monitor::{CheckId, Monitor, Time};
pub use state::SavedState;
