//! Schedulers that go round their list: round robin, plain and weighted (`ip_vs_rr.c`, `ip_vs_wrr.c`).
//!
//! **Invariant:** where a service stands in its list is one word, changed by compare-and-swap; whoever fails to change it
//! has picked nobody.

use elvs_common::{PoolEntry, SchedulerWord, ServiceFlags, ServiceRecord, scheduler_id};

use super::entry;
use crate::flow::Step;
use crate::host::{Host, is_overloaded};
use crate::service::low;

/// Where a scheduler goes next.
pub(crate) struct Next {
    /// As [`Scan::found`].
    found: u64,
    /// Scheduler word after the pick, or after none was found.
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
    /// As [`fits`] wants it.
    thresholds: u64,
    /// Destination in the low half, position after the entry found in the high half; 0 = none.
    found: u64,
}

impl<H: Host> Step for Scan<'_, H> {
    #[inline(always)]
    fn step(&mut self, round: u32) -> bool {
        let index = low(self.start).wrapping_add(round);
        match entry(self.host, low(self.pool_line), index) {
            Some(found) if fits(self.host, self.thresholds, &found, low(self.least)) => {
                self.found = found.destination as u64 | (index as u64 + 1) << 32;
                false
            }
            Some(_) => true,
            None => false,
        }
    }
}

/// Whether an entry has the weight wanted, and room for a connection (`thresholds` = 0: nobody has thresholds).
#[inline(always)]
fn fits<H: Host>(host: &H, thresholds: u64, entry: &PoolEntry, least: u32) -> bool {
    entry.weight >= least && (thresholds == 0 || !is_overloaded(host, entry.destination))
}

#[inline(always)]
const fn thresholds(service: &ServiceRecord) -> u64 {
    (service.flags & ServiceFlags::THRESHOLDS) as u64
}

/// First entry in `start..end` whose weight is at least `least`; see [`Scan::found`].
#[inline(always)]
fn scan<H: Host>(host: &H, service: &ServiceRecord, start: u32, end: u32, least: u32) -> u64 {
    if start >= end {
        return 0;
    }
    // The first one mostly is it; a loop is a call in the kernel.
    match entry(host, service.pool_line, start) {
        Some(found) if fits(host, thresholds(service), &found, least) => {
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
        thresholds: thresholds(service),
        found: 0,
    };
    host.repeat(end.saturating_sub(start), &mut scan);
    scan.found
}

/// Search for the greatest weight among the destinations that are not overloaded.
struct Greatest<'a, H> {
    host: &'a H,
    pool_line: u64,
    weight: u64,
}

impl<H: Host> Step for Greatest<'_, H> {
    #[inline(always)]
    fn step(&mut self, index: u32) -> bool {
        let Some(found) = entry(self.host, low(self.pool_line), index) else { return false };
        if (found.weight as u64) > self.weight && !is_overloaded(self.host, found.destination) {
            self.weight = found.weight as u64;
        }
        true
    }
}

#[inline(always)]
fn round_robin<H: Host>(host: &H, service: &ServiceRecord, state: SchedulerWord) -> Next {
    let entries = service.pool_entries;
    let start = state.position().min(entries);
    let mut found = scan(host, service, start, entries, 1);
    if found == 0 {
        found = scan(host, service, 0, start, 1);
    }
    if found == 0 {
        return Next { found, word: state };
    }
    Next { found, word: SchedulerWord::new(service.tag, (found >> 32) as u32, 0) }
}

/// IPVS walks from the last pick to the end of the list for a weight of at least `cw`; at the end it lowers `cw` by the
/// greatest common divisor (from 1 back to the greatest) and starts at the head, until it finds one. Without thresholds
/// the greatest weight always satisfies the next `cw`.
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
        if thresholds(service) != 0 {
            let mut greatest = Greatest { host, pool_line: service.pool_line as u64, weight: 0 };
            host.repeat(entries, &mut greatest);
            if greatest.weight == 0 {
                return nobody(service, state);
            }
            weight = lower_to(weight, low(greatest.weight), service.weight_step);
        }
        found = scan(host, service, 0, entries, weight);
    }
    Next { found, word: SchedulerWord::new(service.tag, (found >> 32) as u32, weight) }
}

/// The greatest weight of a round, `weight` or as many steps below it as needed, that is at most `greatest`.
#[inline(always)]
const fn lower_to(weight: u32, greatest: u32, step: u32) -> u32 {
    let above = weight.saturating_sub(greatest);
    let Some(steps) = above.wrapping_add(step).wrapping_sub(1).checked_div(step) else { return 1 };
    match weight.saturating_sub(steps.wrapping_mul(step)) {
        0 => 1,
        weight => weight,
    }
}

/// Where weighted round robin stands after a search in which all destinations were overloaded: at the head with the
/// greatest weight, or, when its last round had begun in the middle of the list, there with the least one.
#[inline(always)]
const fn nobody(service: &ServiceRecord, state: SchedulerWord) -> Next {
    let last_round =
        state.weight() <= service.weight_step || service.weight_max <= service.weight_step;
    let word = if state.position() != 0 && last_round {
        let least = if service.weight_max <= service.weight_step { service.weight_max } else { 1 };
        SchedulerWord::new(service.tag, state.position(), least)
    } else {
        SchedulerWord::new(service.tag, 0, service.weight_max)
    };
    Next { found: 0, word }
}
