//! Power of two choices (`ip_vs_twos.c`): two destinations drawn by weight, the less loaded of them takes the connection.
//!
//! **Invariant:** both draws see the same list, so each finds somebody unless all weights are 0.

use elvs_common::{DestinationLoad, ServiceFlags, ServiceRecord};

use super::{Choice, entry};
use crate::atomic::Atomic64;
use crate::flow::Step;
use crate::host::{Host, is_overloaded};
use crate::service::low;

/// Sum of the weights of those that are not overloaded.
struct Sum<'a, H> {
    host: &'a H,
    pool_line: u64,
    total: u64,
}

impl<H: Host> Step for Sum<'_, H> {
    #[inline(always)]
    fn step(&mut self, index: u32) -> bool {
        let Some(entry) = entry(self.host, low(self.pool_line), index) else { return false };
        if !is_overloaded(self.host, entry.destination) {
            // Forgotten, because the verifier would follow the sum through every round.
            self.total = self.host.forget(self.total.wrapping_add(entry.weight as u64));
        }
        true
    }
}

/// One draw.
struct Draw<'a, H> {
    host: &'a H,
    pool_line: u64,
    /// Whether somebody has thresholds.
    thresholds: u64,
    /// Weight to go.
    rest: u64,
    /// [`Choice`] drawn.
    choice: u64,
    /// Its weight.
    weight: u64,
}

impl<H: Host> Step for Draw<'_, H> {
    #[inline(always)]
    fn step(&mut self, index: u32) -> bool {
        let Some(entry) = entry(self.host, low(self.pool_line), index) else { return false };
        let weight = entry.weight as u64;
        if weight == 0 || self.thresholds != 0 && is_overloaded(self.host, entry.destination) {
            return true;
        }
        if self.rest <= weight {
            self.choice = Choice::of(entry.destination).0;
            self.weight = weight;
            return false;
        }
        self.rest -= weight;
        true
    }
}

/// The destination of a service for a new connection.
///
/// A draw is from 0 to the sum of the weights, both included, so the first of the list is drawn a little more often, as in
/// the kernel.
#[inline(always)]
pub(super) fn choose<H: Host>(host: &H, service: &ServiceRecord) -> Choice {
    let thresholds = (service.flags & ServiceFlags::THRESHOLDS) as u64;
    let total = if thresholds == 0 {
        service.start
    } else {
        let mut sum = Sum { host, pool_line: service.pool_line as u64, total: 0 };
        host.repeat(service.pool_entries, &mut sum);
        sum.total
    };
    if total == 0 {
        return Choice::NOBODY;
    }
    let first = draw(host, service, total);
    let second = draw(host, service, total);
    if overhead(host, second.choice).wrapping_mul(first.weight)
        < overhead(host, first.choice).wrapping_mul(second.weight)
    {
        Choice(second.choice)
    } else {
        Choice(first.choice)
    }
}

#[inline(always)]
fn draw<'a, H: Host>(host: &'a H, service: &ServiceRecord, total: u64) -> Draw<'a, H> {
    let random = (host.random() as u64) << 32 | host.random() as u64;
    let rest = random.checked_rem(total.wrapping_add(1)).unwrap_or(0);
    let mut draw = Draw {
        host,
        pool_line: service.pool_line as u64,
        thresholds: (service.flags & ServiceFlags::THRESHOLDS) as u64,
        rest,
        choice: 0,
        weight: 0,
    };
    host.repeat(service.pool_entries, &mut draw);
    draw
}

#[inline(always)]
fn overhead<H: Host>(host: &H, choice: u64) -> u64 {
    let Some(load) = host.load(Choice(choice).destination()) else { return 0 };
    let load = load.load();
    let active = DestinationLoad::active(load) as u64;
    (active << 8) + active + DestinationLoad::inactive(load) as u64
}
