//! Schedulers that go round their list: round robin, plain and weighted (`ip_vs_rr.c`, `ip_vs_wrr.c`).
//!
//! **Invariant:** where a service stands in its list is one word, changed by compare-and-swap; whoever fails to change it
//! has picked nobody.

use elvs_common::{SchedulerWord, ServiceRecord, scheduler_id};

use super::entry;
use crate::flow::Step;
use crate::host::Host;
use crate::service::low;

/// Where a scheduler goes next.
pub(crate) struct Next {
    /// As [`Scan::found`].
    found: u64,
    /// Scheduler word after the pick.
    pub(crate) word: SchedulerWord,
}

impl Next {
    const NOBODY: Self = Self { found: 0, word: SchedulerWord(0) };

    /// Whether there is a destination.
    #[inline(always)]
    pub(crate) const fn is_some(&self) -> bool {
        self.found != 0
    }

    /// The destination.
    #[inline(always)]
    pub(crate) const fn destination(&self) -> u32 {
        low(self.found)
    }
}

/// State of a service's scheduler, from its word as loaded: one of another blob does not count.
#[inline(always)]
const fn state(service: &ServiceRecord, word: u64) -> SchedulerWord {
    let state = SchedulerWord(word);
    if state.tag() == service.tag { state } else { SchedulerWord(service.start) }
}

/// What [`super::pick`] would choose, without loops: only round robin, weighted or not, and only if the next entry of the list
/// is the one. `word` is the scheduler word as loaded.
#[inline(always)]
pub(crate) fn pick_at_once<H: Host>(host: &H, service: &ServiceRecord, word: u64) -> Next {
    let state = state(service, word);
    let wraps = state.position() >= service.pool_entries;
    let (least, weight) = if service.scheduler == scheduler_id::RR {
        (1, 0)
    } else if service.scheduler == scheduler_id::WRR {
        let current = state.weight().max(1);
        let weight = if wraps { lower(service, current) } else { current };
        (weight.max(1), weight)
    } else {
        return Next::NOBODY;
    };
    let position = if wraps { 0 } else { state.position() };
    let Some(entry) = entry(host, service.pool_line, position) else { return Next::NOBODY };
    if entry.weight < least || service.pool_entries == 0 {
        return Next::NOBODY;
    }
    let position = position as u64 + 1;
    Next {
        found: entry.destination as u64 | position << 32,
        word: SchedulerWord::new(service.tag, low(position), weight),
    }
}

/// The weight that a weighted round robin's next round wants.
#[inline(always)]
const fn lower(service: &ServiceRecord, weight: u32) -> u32 {
    match weight.saturating_sub(service.weight_step) {
        0 => service.weight_max,
        weight => weight,
    }
}

/// Where a service's scheduler goes next; `word` is its word as loaded.
#[inline(always)]
pub(super) fn next<H: Host>(host: &H, service: &ServiceRecord, word: u64) -> Next {
    let state = state(service, word);
    if service.scheduler == scheduler_id::RR {
        round_robin(host, service, state)
    } else {
        weighted_round_robin(host, service, state)
    }
}

/// Search for the first entry from `start` on whose weight is at least `least`.
struct Scan<'a, H> {
    host: &'a H,
    pool_line: u64,
    start: u64,
    least: u64,
    /// Destination in the low half, position after the entry found in the high half; 0 = none.
    found: u64,
}

impl<H: Host> Step for Scan<'_, H> {
    #[inline(always)]
    fn step(&mut self, round: u32) -> bool {
        let index = low(self.start).wrapping_add(round);
        match entry(self.host, low(self.pool_line), index) {
            Some(found) if (found.weight as u64) < self.least => true,
            Some(found) => {
                self.found = found.destination as u64 | (index as u64 + 1) << 32;
                false
            }
            None => false,
        }
    }
}

/// First entry in `start..end` whose weight is at least `least`; see [`Scan::found`].
#[inline(always)]
fn scan<H: Host>(host: &H, service: &ServiceRecord, start: u32, end: u32, least: u32) -> u64 {
    if start >= end {
        return 0;
    }
    // The first one mostly is it; a loop is a call in the kernel.
    match entry(host, service.pool_line, start) {
        Some(found) if found.weight >= least => {
            return found.destination as u64 | (start as u64 + 1) << 32;
        }
        Some(_) => {}
        None => return 0,
    }
    let start = start.wrapping_add(1);
    let mut scan = Scan {
        host,
        pool_line: service.pool_line as u64,
        start: start as u64,
        least: least as u64,
        found: 0,
    };
    host.repeat(end.saturating_sub(start), &mut scan);
    scan.found
}

#[inline(always)]
fn round_robin<H: Host>(host: &H, service: &ServiceRecord, state: SchedulerWord) -> Next {
    let entries = service.pool_entries;
    let start = state.position().min(entries);
    let mut found = scan(host, service, start, entries, 1);
    if found == 0 {
        found = scan(host, service, 0, start, 1);
    }
    Next { found, word: SchedulerWord::new(service.tag, (found >> 32) as u32, 0) }
}

/// IPVS walks from the last pick to the end of the list for a weight of at least `cw`; at the end it lowers `cw` by the
/// greatest common divisor (from 1 back to the greatest) and starts at the head, where the greatest weight always
/// satisfies it.
#[inline(always)]
fn weighted_round_robin<H: Host>(host: &H, service: &ServiceRecord, state: SchedulerWord) -> Next {
    if service.weight_max == 0 {
        return Next { found: 0, word: state };
    }
    let entries = service.pool_entries;
    let mut weight = state.weight().max(1);
    let mut found = scan(host, service, state.position(), entries, weight);
    if found == 0 {
        weight = lower(service, weight);
        found = scan(host, service, 0, entries, weight);
    }
    Next { found, word: SchedulerWord::new(service.tag, (found >> 32) as u32, weight) }
}
