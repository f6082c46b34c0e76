//! Call-IDs that persistence templates go by: what is kept of them beside the flow tables ends after the templates and the
//! connections it is of.
//!
//! **Invariant:** something is forgotten only after two whole passes in which nothing was found that it is of. A packet that takes
//! up a Call-ID at the very end of the second leaves its template without: it is listed without, and balanced as before.
//!
//! Called by [`crate::Director`] at the end of each pass.

use std::collections::HashSet;

use elvs_common::{CallHash, Caller};
use elvs_fastpath::{FlowKey, WideValue, client_port_of, find_key};

use crate::backend::Backend;
use crate::connection::Live;

/// The hash in a template's key, if it goes by a Call-ID.
pub(crate) fn call_of_template(live: &Live) -> Option<CallHash> {
    if !live.control.is_template() || live.control.is_locality() {
        return None;
    }
    CallHash::of_ends(live.client().v4(), client_port_of(live.ports_destination))
}

/// What nothing was found of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leftovers {
    /// Call-IDs whose templates were met in this pass.
    met: HashSet<CallHash>,
    /// Call-IDs without a template after the pass before.
    calls: HashSet<CallHash>,
    /// Connections that were gone after the pass before.
    callers: HashSet<Caller>,
}

impl Leftovers {
    /// Meets an entry of a flow table that stays.
    pub(crate) fn meet(&mut self, live: &Live) {
        self.met.extend(call_of_template(live));
    }

    /// Forgets what is left over after a pass.
    pub(crate) fn clear<B: Backend>(&mut self, backend: &mut B) {
        let met = std::mem::take(&mut self.met);
        let calls = backend.calls().into_iter().filter(|call| !met.contains(call)).collect();
        let before = std::mem::replace(&mut self.calls, calls);
        for call in before.intersection(&self.calls) {
            backend.forget_call(*call);
        }
        let gone = backend.callers().into_iter().filter(|caller| !is_there(backend, caller));
        let callers = gone.collect();
        let before = std::mem::replace(&mut self.callers, callers);
        for caller in before.intersection(&self.callers) {
            backend.forget_caller(caller);
        }
    }
}

/// Whether a connection is in one of the tables.
fn is_there<B: Backend>(backend: &B, caller: &Caller) -> bool {
    let settings = backend.settings();
    let key = key_of(caller);
    let narrow = key.wide_address().is_v4()
        && find_key(backend, &key.fold(), settings.buckets, settings.seed).is_some();
    narrow || find_key(backend.wide(), &key, settings.wide_buckets, settings.seed).is_some()
}

fn key_of(caller: &Caller) -> FlowKey<WideValue> {
    let [c0, c1, a0, a1, rest] = *caller;
    let [p0, p1, p2, p3, protocol, ..] = rest.to_le_bytes();
    let ports = u32::from_le_bytes([p0, p1, p2, p3]);
    FlowKey { addresses: [c0, c1, a0, a1, 0], ports, protocol }
}
