//! The health monitor: which real servers work, and what follows from it.
//!
//! **Invariant:** no I/O and no clock: time is a parameter, effects are returned values.
//!
//! Called by the daemon.

pub mod bfd;
