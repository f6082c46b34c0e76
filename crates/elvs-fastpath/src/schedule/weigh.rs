//! Schedulers that weigh every destination: wlc, lc, sed, nq, fo and ovf (`ip_vs_wlc.c` and its neighbours).
//!
//! **Invariant:** what is compared are products of whole numbers, never quotients; the first of equals wins.

use elvs_common::{DestinationLoad, ServiceRecord, scheduler_id};

use super::{Choice, entry};
use crate::atomic::Atomic64;
use crate::flow::Step;
use crate::host::Host;
use crate::service::low;

/// Search for the best destination.
struct Best<'a, H> {
    host: &'a H,
    scheduler: u64,
    pool_line: u64,
    /// [`Choice`] so far.
    choice: u64,
    /// Its weight, as far as the scheduler looks at it.
    weight: u64,
    /// Its load, as the scheduler counts it.
    overhead: u64,
}

impl<H: Host> Step for Best<'_, H> {
    #[inline(always)]
    fn step(&mut self, index: u32) -> bool {
        let Some(candidate) = entry(self.host, low(self.pool_line), index) else { return false };
        if candidate.weight == 0 {
            return true;
        }
        let Some(load) = self.host.load(candidate.destination) else { return false };
        let load = load.load();
        if load & DestinationLoad::OVERLOAD != 0 {
            return true;
        }
        let active = DestinationLoad::active(load) as u64;
        let inactive = DestinationLoad::inactive(load) as u64;
        let weight = candidate.weight as u64;
        let scheduler = (self.scheduler & 0xff) as u8;
        let (weight, overhead) = match scheduler {
            // Only the weight counts, and for ovf whether it is used up.
            scheduler_id::FO => (weight, 1),
            scheduler_id::OVF if active > weight => return true,
            scheduler_id::OVF => (weight, 1),
            scheduler_id::LC => (1, (active << 8) + active + inactive),
            scheduler_id::SED | scheduler_id::NQ => (weight, active + 1),
            _ => (weight, (active << 8) + active + inactive),
        };
        // A product needs at most 41 + 31 bits; it wraps, as the kernel's does, only above 2^32 connections of one
        // destination.
        let better = self.weight == 0
            || self.overhead.wrapping_mul(weight) > overhead.wrapping_mul(self.weight);
        let idle = scheduler == scheduler_id::NQ && active == 0;
        if better || idle {
            self.choice = Choice::of(candidate.destination).0;
            self.weight = weight;
            self.overhead = overhead;
        }
        !idle
    }
}

/// The best destination of a service.
///
/// wlc: least `((active << 8) + active + inactive) / weight`; lc: the same without weights; sed: least
/// `(active + 1) / weight`; nq: the first without active connections, else as sed; fo: greatest weight; ovf: greatest
/// weight among those that have at most as many active connections.
#[inline(always)]
pub(super) fn choose<H: Host>(host: &H, service: &ServiceRecord) -> Choice {
    let mut best = Best {
        host,
        scheduler: service.scheduler as u64,
        pool_line: service.pool_line as u64,
        choice: 0,
        weight: 0,
        overhead: 0,
    };
    host.repeat(service.pool_entries, &mut best);
    Choice(best.choice)
}
