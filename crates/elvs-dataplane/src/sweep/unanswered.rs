//! Connections that did not come about: what passive checks go by.
//!
//! **Invariant:** each is counted once, in the pass that first finds it so.
//!
//! Called by the sweeper; only connections of destinations that somebody asks for are looked at.

use std::collections::{HashMap, HashSet};

use elvs_common::{Method, SECURE_SYN_RECV, TCP, TcpState};
use elvs_fastpath::{WideValue, destination_of};

use crate::connection::Live;

/// Counts of connections that did not come about, by index of their destination.
#[derive(Clone, Debug, Default)]
pub(super) struct Unanswered {
    asked: HashSet<u32>,
    /// Those of the pass before that were counted, by their addresses and the word with their ports.
    counted: HashSet<(WideValue, u64)>,
    /// Those of this pass.
    met: HashSet<(WideValue, u64)>,
    /// Found since they were last taken.
    found: HashMap<u32, u64>,
}

impl Unanswered {
    /// Has the connections of these destinations looked at, and of no others; answers what was found of each since the last
    /// call.
    pub(super) fn take(&mut self, asked: HashSet<u32>) -> HashMap<u32, u64> {
        self.asked = asked;
        std::mem::take(&mut self.found)
    }

    /// Meets a connection, which has been without a packet for `idle` ticks; `second` of them are one.
    pub(super) fn meet(&mut self, live: &Live, idle: u32, second: u32) {
        let destination = destination_of(live.ports_destination);
        if !self.asked.contains(&destination) {
            return;
        }
        let Some(counts) = did_not_come_about(live, idle >= second) else { return };
        let id = (live.addresses, live.ports_destination);
        if self.counted.contains(&id) {
            self.met.insert(id);
        } else if counts {
            *self.found.entry(destination).or_default() += 1;
            self.met.insert(id);
        }
    }

    /// A pass is over.
    pub(super) fn next_pass(&mut self) {
        self.counted = std::mem::take(&mut self.met);
    }
}

/// Whether a connection of TCP that is not open counts as one that did not come about: half-open for longer than any answer
/// takes, or reset. A real server's reset is seen where its replies pass the director; elsewhere the connection stays half-open.
/// `None`: it is open, or over.
fn did_not_come_about(live: &Live, is_old: bool) -> Option<bool> {
    let (control, state) = (live.control, live.control.state());
    let half_open = [TcpState::SynRecv as u8, TcpState::SynAck as u8, SECURE_SYN_RECV];
    if control.protocol() != TCP {
        None
    } else if half_open.contains(&state) {
        Some(is_old)
    } else {
        let reset = state == TcpState::Close as u8;
        (reset && Method::replies_pass(control.method_bits())).then_some(true)
    }
}

#[cfg(test)]
mod tests;
