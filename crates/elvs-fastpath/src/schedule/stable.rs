//! Picks that nothing has to be remembered for: the destination is a function of the packet and of the list.
//!
//! **Invariant:** who is hashed goes to the same destination for as long as that is in the list with its weight, whatever else
//! is added to the list or taken off it (rendezvous hashing), but for those whom a newcomer wins.

use elvs_common::{ServiceFlags, ServiceRecord, scheduler_id};

use super::{Choice, Pick, entry, hash, persist, record, weigh};
use crate::flow::{FlowKey, Step};
use crate::host::{Host, is_overloaded};
use crate::service::low;
use crate::side::Side;

/// Search for the destination that is nearest to a client.
struct Nearest<'a, H> {
    host: &'a H,
    pool_line: u64,
    /// Hash of who is to be sent somewhere.
    who: u64,
    /// Whether destinations may be overloaded.
    thresholds: u64,
    /// [`Choice`] so far.
    choice: u64,
    /// Its distance, and the weight to divide it by.
    distance: u64,
    weight: u64,
}

/// `-log2(drawn / 2^32)` with 24 bits behind the point, the logarithm between powers of two by a straight line: destinations
/// that draw numbers and are compared by this, divided by their weights, win as often as their weights say.
#[inline(always)]
const fn distance(drawn: u32) -> u64 {
    let drawn = drawn | 1;
    let zeros = drawn.leading_zeros();
    let fraction = ((drawn << zeros) << 1 >> 8) as u64;
    ((zeros as u64 + 1) << 24) - fraction
}

/// What a destination draws for somebody.
#[inline(always)]
const fn draw(who: u64, destination: u32) -> u32 {
    let mixed = (who ^ (destination as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 32).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed >> 32) as u32
}

impl<H: Host> Step for Nearest<'_, H> {
    #[inline(always)]
    fn step(&mut self, index: u32) -> bool {
        let Some(candidate) = entry(self.host, low(self.pool_line), index) else { return false };
        let out = candidate.weight == 0
            || self.thresholds != 0 && is_overloaded(self.host, candidate.destination);
        if out {
            return true;
        }
        let (distance, weight) =
            (distance(draw(self.who, candidate.destination)), candidate.weight as u64);
        // A product needs at most 30 + 32 bits.
        if self.weight == 0
            || distance.wrapping_mul(self.weight) < self.distance.wrapping_mul(weight)
        {
            self.choice = Choice::of(candidate.destination).0;
            self.distance = distance;
            self.weight = weight;
        }
        true
    }
}

/// Chooses a destination that any other packet of the same flow is given too, whether or not an entry remembers it.
///
/// A persistent client's template comes first; where it has none, its connections go the same way by its (masked) address.
/// dh, sh and mh choose as ever, lblc and lblcr by the virtual address, fo and ovf the greatest weight; for all others each
/// flow has a place of its own, by the weights.
#[inline(always)]
pub fn pick_stable<S: Side, H: Host>(host: &H, opening: &FlowKey<S::Value>, ingress: u32) -> Pick {
    let Some(service) = record::<S, _>(host, opening, ingress) else { return Pick::NoService };
    let flow = S::fold(opening);
    let persistent = service.flags & ServiceFlags::PERSISTENT != 0;
    let mut who = flow.hash(host.seed());
    if persistent {
        let found = persist::find::<S, _>(host, &service, opening);
        if found.is_some() {
            return Pick::Destination(found.destination());
        }
        let Some(key) = persist::key::<S, _>(host, &service, opening) else { return Pick::Nobody };
        who = S::fold(&key).hash(host.seed());
    }
    let choice = match service.scheduler {
        scheduler_id::FO | scheduler_id::OVF => {
            weigh::choose(host, &ServiceRecord { scheduler: scheduler_id::FO, ..service })
        }
        scheduler_id::DH | scheduler_id::SH | scheduler_id::MH if !persistent => {
            hash::choose(host, &service, &flow)
        }
        scheduler_id::LBLC | scheduler_id::LBLCR if !persistent => {
            nearest(host, &service, FlowKey::new(flow.address(), 0, 0, 0, 0).hash(host.seed()))
        }
        _ => nearest(host, &service, who),
    };
    if !choice.is_some() {
        return Pick::Nobody;
    }
    if service.flags & ServiceFlags::ONE_PACKET != 0 {
        return Pick::Once(choice.destination());
    }
    Pick::Destination(choice.destination())
}

#[inline(always)]
fn nearest<H: Host>(host: &H, service: &ServiceRecord, who: u64) -> Choice {
    let mut nearest = Nearest {
        host,
        pool_line: service.pool_line as u64,
        who,
        thresholds: (service.flags & ServiceFlags::THRESHOLDS) as u64,
        choice: 0,
        distance: 0,
        weight: 0,
    };
    host.repeat(service.pool_entries, &mut nearest);
    Choice(nearest.choice)
}
