//! What tests that need root share: beds of network namespaces, real servers, clients, the daemon.
//!
//! **Invariant:** a test that needs root or a program fails without it and says so; it never passes silently. What a
//! test starts ends with the test, also when it panics.
//!
//! Called by `lab/tests`. Everything here panics instead of returning errors: a test has nobody to return them to.

#![allow(clippy::panic, clippy::expect_used, reason = "a test that cannot run must fail loudly")]

mod cgroup;
mod client;
mod daemon;
mod ftp;
pub mod method;
mod nginx;
mod process;
mod tagger;
mod tap;
pub mod toa;
mod topology;
mod transfer;
mod tunnel;
pub mod wire;

pub use cgroup::Cgroup;
pub use client::{Session, Wrk};
pub use daemon::{Daemon, program};
pub use elvs_net::bed;
pub use ftp::{LARGE, PASSIVE_PORTS, Vsftpd};
pub use nginx::Nginx;
pub use process::{Process, output_of, wait_until};
pub use tagger::{Tagger, Tags};
pub use tap::{Sent, Tap};
pub use toa::Toa;
pub use topology::Topology;
pub use transfer::{Echo, TRANSFER};
pub use tunnel::{TUNNEL, TunnelDevice};
pub use wire::Wire;

/// Fails the test if it does not run as root.
///
/// # Panics
/// Without root: network namespaces, XDP and raw sockets need it.
pub fn require_root() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test needs root: run `cargo xtask test` as root"
    );
}
