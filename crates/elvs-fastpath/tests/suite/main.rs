//! Tests of the decision core from outside, on a director in plain memory.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that meets the unexpected shall fail"
)]

mod connections;
mod defence;
mod flood;
mod flow_table;
mod forwarding;
mod fragments;
mod golden;
mod hostile;
mod icmp;
mod icmp6;
mod icmp_scheduled;
mod resets;
mod schedulers;
mod sip;
mod stress;
#[path = "../support/mod.rs"]
mod support;
mod tunnels;
mod wide;
