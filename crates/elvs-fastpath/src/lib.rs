//! The decision core: what happens to one packet, from its bytes to a verdict.
//!
//! **Invariant:** no I/O, no clock, no allocation, no panic. Everything it reads comes through [`Host`] and [`Frame`],
//! so the program in the kernel, the tests, the fuzzers and the daemon's sweeper run the very same code.
//!
//! Called by the XDP program with maps behind [`Host`], and on the host with plain memory behind it.
#![no_std]
#![cfg_attr(not(test), forbid(unsafe_code))]

mod atomic;
mod checksum;
mod decap;
mod director;
mod flow;
mod forward;
mod frame;
mod host;
mod mark;
mod open;
mod packet;
mod schedule;
mod service;
mod tcp;
mod track;
mod tunnel;

pub use atomic::Atomic64;
pub use decap::decapsulate;
pub use director::{SCHEDULE_TRIES, forward_general, forward_new, forward_plain, persist, process};
pub use flow::{
    Bucket, Claim, Eviction, FlowKey, FlowMemory, FoundFlow, Inserted, Insertion, NewFlow, Slot,
    Step, claim_at_home, client_of, client_port_of, destination_of, find_flow, find_key, flow_hash,
    home_bucket, insert_flow, ports_of, release_flow, virtual_of, virtual_port_of,
};
pub use frame::{Action, Frame, ShrinkFrame, Verdict};
pub use host::{ClientHop, Host, Note};
pub use open::{Remembered, remember};
pub use schedule::{
    Located, MAGLEV_PRIMES, MAX_POOL, MaglevEntry, MaglevProgress, Pick, carry_over, dh_table,
    locate, mh_table, pick, sh_table, wrr_parameters,
};
pub use service::{find_service, service_record};
pub use tcp::{Direction, TcpFlags, next_state};
pub use tunnel::{forward_tunnel, largest_inner};
