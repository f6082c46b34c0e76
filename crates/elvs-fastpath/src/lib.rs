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
mod flood;
mod flow;
mod forward;
mod fragment;
mod frame;
mod host;
mod icmp;
mod local;
mod mark;
mod open;
mod packet;
mod report;
mod reset;
mod schedule;
mod sctp;
mod service;
mod side;
mod sip;
mod tcp;
mod track;
mod tunnel;
mod wide;

pub use atomic::Atomic64;
pub use decap::decapsulate;
pub use director::{
    SCHEDULE_TRIES, flood, forward_general, forward_narrow, forward_new, forward_plain, persist,
    process,
};
pub use flood::has_room;
pub use flow::{
    AddressValue, Addresses, Bucket, BucketOf, Claim, Eviction, FlowKey, FlowMemory, FoundFlow,
    FoundOf, Inserted, Insertion, NewFlow, Slot, SlotOf, Step, ValueOf, WideBucket, WideValue,
    WideWords, claim_at_home, client_of, client_port_of, destination_of, find_flow, find_key,
    flow_hash, home_bucket, insert_flow, ports_of, release_flow, virtual_of, virtual_port_of,
    wide_addresses, wide_hash,
};
pub use fragment::{Fragment, FragmentKey, forward_fragment};
pub use frame::{Action, Frame, ShrinkFrame, Verdict};
pub use host::{ClientHop, Host, Note};
pub use icmp::{forward_icmp, open_icmp};
pub use local::is_own_traffic;
pub use open::{Remembered, memorize, memory_control, remember, remember_provisional};
pub use report::report;
pub use reset::reset;
pub use schedule::{
    Asked, Located, MAGLEV_PRIMES, MAX_POOL, MaglevEntry, MaglevProgress, Pick, carry_over,
    dh_table, locate, memory_key, mh_table, pick, pick_stable, sh_table, wrr_parameters,
};
pub use sctp::{checksum_change, next_sctp_state, sctp_event};
pub use service::{find_service, find_wide_service, service_record};
pub use side::{Narrow, Side, Wide};
pub use sip::{find_call, open_for_server, send_for_server};
pub use tcp::{Direction, TcpFlags, next_secure_state, next_state};
pub use tunnel::{forward_tunnel, largest_inner};
pub use wide::{
    Local, LocalEnd, PortSlot, Taken, WideFragment, WideFragmentKey, WideMemory, connect_wide,
    fill_ring, flood_wide, forward_full_nat_fragment, forward_full_nat_icmp, forward_ipsec,
    forward_wide, forward_wide_fragment, forward_wide_icmp, free_ports, give_port, open_full_nat,
    open_wide, persist_wide, reply_full_nat, reply_wide, send_full_nat, send_wide, take_port,
};
