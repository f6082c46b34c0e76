//! The data plane as the daemon sees it: tables to install, connections to list, interfaces to attach to.
//!
//! **Invariant:** whatever is decided here is decided over [`Backend`], so that the tables of the kernel
//! ([`DataPlane`]) and those of tests and simulations ([`FakePlane`]) are written, swept and read by the same code.
//! The state file is written before the kernel's tables change, so a daemon that is killed at any moment finds on its
//! next start what it needs to adopt them.
//!
//! Called by the daemon through [`Plane`], by `elvs realserver` through [`helper`], and by tests.
//!
//! Layers, lowest first: [`Backend`] (memory, clock, attachment), [`Assignments`] (who has which index),
//! [`compile`] (the configuration blob), [`Director`] (all of it together).

mod assignments;
mod backend;
mod calls;
mod compile;
mod connection;
mod defence;
mod director;
mod estimator;
mod heap;
pub mod helper;
mod kernel;
mod marks;
mod plane;
mod record;
mod route;
mod state;
mod statistics;
mod sweep;

pub use assignments::{AssignError, Assignments, DestinationSlot, LocalSlot, ServiceSlot};
pub use backend::{AttachError, AttachedMode, Backend, BackendError, Now};
pub use compile::{Blob, CompileError, Known, compile};
pub use connection::{Connection, Connections};
pub use defence::Defence;
pub use director::{Director, InstallError, Installed};
pub use estimator::Estimator;
pub use heap::{FakePlane, Heap, MemoryFrame};
pub use kernel::{
    DEFAULT_CONNECTIONS, DataPlane, Kernel, LoadError, OpenError, Opened, Options, PIN_ROOT,
    PermissionError, STATE_ROOT, Warning, open,
};
pub use plane::{Fates, Load, LoadDifference, Plane};
pub use route::Route;
pub use state::StateError;
pub use sweep::{Pass, SweepReport};
