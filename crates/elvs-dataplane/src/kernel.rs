//! The kernel's tables: maps of the XDP program, mapped into this process and pinned beyond its life.
//!
//! **Invariant:** everything under the pin directory belongs to one load of the program and is complete: it is pinned
//! beside and moved into place by one rename. Whoever holds the instance's lock is the only one who writes.
//!
//! Called by [`crate::Director`].

mod clock;
mod link;
mod mapping;
mod object;
mod open;
mod paths;
mod permission;
mod pins;
mod tables;

pub use open::{
    DEFAULT_CONNECTIONS, OpenError, Opened, Options, PIN_ROOT, STATE_ROOT, Warning, open,
};
pub use tables::{DataPlane, Kernel};

pub use object::LoadError;
pub use permission::PermissionError;

pub(crate) use link::attach_program;
pub(crate) use object::load_helper;
pub(crate) use paths::{escape, unescape};
pub(crate) use permission::prepare_pins;
pub(crate) use pins::remove_link as remove_pinned_link;
pub(crate) use tables::{buckets_for, settings_for, wide_for};
