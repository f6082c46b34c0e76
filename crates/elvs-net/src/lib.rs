//! Linux networking: netlink, network namespaces, device offloads, sysctls, and the namespaces of tests and demo.
//!
//! **Invariant:** every handle belongs to the network namespace of the thread that opened it, and nothing here runs
//! another program. Everything made through a guard is gone when the guard is.
//!
//! Called by the daemon (next hops, warm neighbours, changes to watch), by `elvs demo` and by the lab (topologies).
//!
//! Layers, lowest first: [`Namespace`] (where a thread is), [`Netlink`] (links, addresses, routes, neighbours),
//! [`offload`] and [`sysctl`] (what netlink cannot say), [`bed`] (client, director and real servers as namespaces).

#![cfg(target_os = "linux")]
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "netlink attributes, messages and error kinds are open sets: what we do not know is not ours"
)]

mod address;
pub mod bed;
mod link;
mod namespace;
mod neighbour;
mod netlink;
mod next_hop;
pub mod offload;
mod route;
pub mod sysctl;
mod watch;
mod xdp;

pub use address::{Address, Subnets};
pub use link::Link;
pub use namespace::{Namespace, NamespaceError, NamespaceGuard};
pub use neighbour::Neighbour;
pub use netlink::{Netlink, NetlinkError};
pub use next_hop::{NextHop, NextHopError};
pub use route::Route;
pub use watch::{Event, Events};
