//! What is due when.
//!
//! **Invariant:** things due at the same time come in the order in which they were entered. An entry is not taken out when it
//! no longer holds: who takes it asks whether it does.
//!
//! Called by the monitor.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::{CheckId, Time};

/// Names a virtual server while the daemon runs; never used again for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct UnitId(pub(crate) u64);

/// Names a real server of a virtual server while the daemon runs; never used again for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ServerId(pub(crate) u64);

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A run of a check.
    Check(CheckId),
    /// A deadline of a real server.
    Server(UnitId, ServerId),
}

/// The times and what is due at them.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    heap: BinaryHeap<Reverse<(Time, u64, Timer)>>,
    entered: u64,
}

impl Agenda {
    /// Enters something.
    pub(crate) fn enter(&mut self, at: Time, timer: Timer) {
        self.entered += 1;
        self.heap.push(Reverse((at, self.entered, timer)));
    }

    /// The earliest time.
    pub(crate) fn next(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    /// Takes the earliest entry that is due at `now`, with its time.
    pub(crate) fn take(&mut self, now: Time) -> Option<(Time, Timer)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((at, _, timer))| (at, timer))
    }
}
