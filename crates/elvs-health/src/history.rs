//! The last changes of a state.
//!
//! **Invariant:** no more than [`KEPT`] are kept.
//!
//! Called by [`crate::server`] and [`crate::unit`].

use std::collections::VecDeque;

use elvs_model::health::Transition;

use crate::clock::{Clock, Moment};

/// Changes that are kept of each real server and each virtual server.
pub(crate) const KEPT: usize = 16;

/// A change of state.
#[derive(Clone, Debug)]
pub(crate) struct Entry<S> {
    pub(crate) at: Moment,
    pub(crate) state: S,
    pub(crate) reason: String,
}

/// Adds a change, and forgets the oldest.
pub(crate) fn remember<S>(history: &mut VecDeque<Entry<S>>, entry: Entry<S>) {
    if history.len() >= KEPT {
        history.pop_front();
    }
    history.push_back(entry);
}

/// The changes as they are shown and saved.
pub(crate) fn shown<S: Copy>(history: &VecDeque<Entry<S>>, clock: Clock) -> Vec<Transition<S>> {
    let shown = |entry: &Entry<S>| Transition {
        at: clock.wall_of(entry.at),
        state: entry.state,
        reason: entry.reason.clone(),
    };
    history.iter().map(shown).collect()
}

/// The changes that were saved.
pub(crate) fn restored<S>(saved: Vec<Transition<S>>, clock: Clock) -> VecDeque<Entry<S>> {
    let over = saved.len().saturating_sub(KEPT);
    let entry = |saved: Transition<S>| Entry {
        at: clock.moment_of(saved.at),
        state: saved.state,
        reason: saved.reason,
    };
    saved.into_iter().skip(over).map(entry).collect()
}
