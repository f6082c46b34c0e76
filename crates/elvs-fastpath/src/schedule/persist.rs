//! Persistence: a client's connections to a service go to one destination for as long as its template lives
//! (`ip_vs_sched_persist`).
//!
//! **Invariant:** a template is an entry of the flow table under a protocol number of its own, so it is inserted, found
//! and freed by the protocol of all entries; no destination's load counts it.

use elvs_common::{
    CallHash, Counter, DestinationFlags, PersistenceLine, ServiceFlags, ServiceRecord, SettingFlags,
};

use super::Choice;
use crate::atomic::Atomic64;
use crate::flow::{FlowKey, destination_of, release_flow};
use crate::host::{Host, Note};
use crate::side::{self, Side};

/// Key of the template of a client's connections to a persistent service, as if it went by no Call-IDs.
#[inline(always)]
pub(super) fn client_key<S: Side, H: Host>(
    host: &H,
    service: &ServiceRecord,
    opening: &FlowKey<S::Value>,
) -> Option<FlowKey<S::Value>> {
    let line = PersistenceLine::of_line(host.line(service.pool_line.wrapping_sub(1))?);
    Some(S::template_key(&line, opening))
}

/// Key of the template of a client's connections to a persistent service; of one that goes by Call-IDs that of the Call-ID that
/// [`crate::find_call`] has noted, if it has.
#[inline(always)]
pub(super) fn key<S: Side, H: Host>(
    host: &H,
    service: &ServiceRecord,
    opening: &FlowKey<S::Value>,
) -> Option<FlowKey<S::Value>> {
    let key = client_key::<S, _>(host, service, opening)?;
    if service.flags & ServiceFlags::SIP == 0 {
        return Some(key);
    }
    match host.noted(Note::Call) {
        0 => None,
        hash => Some(S::call_key(&key, CallHash(hash))),
    }
}

/// Destination of a client's template, which lives on from now. One whose destination was removed, or has
/// weight 0 with `expire_quiescent_template`, is ended.
#[inline(always)]
pub(super) fn find<S: Side, H: Host>(
    host: &H,
    service: &ServiceRecord,
    opening: &FlowKey<S::Value>,
) -> Choice {
    let Some(key) = key::<S, _>(host, service, opening) else { return Choice::NOBODY };
    let Some(found) = side::find::<S, _>(host, &key) else { return Choice::NOBODY };
    let index = destination_of(found.ports_destination);
    let flags = host.destination(index).map_or(0, |destination| destination.flags);
    let quiesced = flags & DestinationFlags::QUIESCED != 0
        && host.settings() & SettingFlags::EXPIRE_QUIESCENT_TEMPLATE != 0;
    if flags & DestinationFlags::AVAILABLE == 0 || quiesced {
        if release_flow(S::memory(host), found.bucket, found.slot, found.control) {
            host.count(Counter::TemplateReplaced);
        }
        return Choice::NOBODY;
    }
    // Whoever changes it meanwhile renews it too, or ends it as this packet came.
    let _ = found
        .slot
        .control
        .compare_exchange(found.control.0, found.control.with_tick(host.tick()).0);
    Choice::of(index)
}
