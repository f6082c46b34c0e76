//! Schedulers: IPVS's picks for the same history (`ip_vs_rr.c`, `ip_vs_wrr.c`, `ip_vs_wlc.c` of Linux 6.12).
//!
//! **Invariant:** a pick depends on the scheduling list, the scheduler word and the load words, on nothing else. Lists
//! are in IPVS's order, newest destination first; among equals the first in the list wins.

use elvs_common::{
    DestinationLoad, Line, POOL_ENTRIES_PER_LINE, PoolEntry, SchedulerWord, ServiceRecord,
    scheduler_id,
};

use crate::atomic::Atomic64;
use crate::flow::Step;
use crate::host::Host;
use crate::service::{low, service_record};

/// Most destinations of one service.
pub const MAX_POOL: u32 = 1_024;

/// What a scheduler answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// This destination.
    Destination(u32),
    /// No destination can take a connection.
    Nobody,
    /// Another CPU moved the scheduler meanwhile: pick again.
    Contended,
}

/// Chooses the destination of a new connection to a service, which is given by its line in the configuration.
#[inline(always)]
pub fn pick<H: Host>(host: &H, service: &Line) -> Pick {
    let record = service_record(service);
    if record.scheduler == scheduler_id::WLC {
        return weighted_least_connections(host, &record);
    }
    let Some(word) = host.scheduler(record.index) else { return Pick::Nobody };
    let found = word.load();
    let state = state(&record, found);
    let next = if record.scheduler == scheduler_id::RR {
        round_robin(host, &record, state)
    } else {
        weighted_round_robin(host, &record, state)
    };
    if next.found == 0 {
        return Pick::Nobody;
    }
    if word.compare_exchange(found, next.word.0).is_err() {
        return Pick::Contended;
    }
    Pick::Destination(low(next.found))
}

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
    if state.tag() == service.tag { state } else { SchedulerWord(service.initial_word) }
}

/// What [`pick`] would choose, without loops: only round robin, weighted or not, and only if the next entry of the list
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

/// Entry of a scheduling list.
#[inline(always)]
fn entry<H: Host>(host: &H, pool_line: u32, index: u32) -> Option<PoolEntry> {
    let line = host.line(pool_line.wrapping_add(index / POOL_ENTRIES_PER_LINE))?;
    let word = line.0.get((index % POOL_ENTRIES_PER_LINE) as usize)?;
    Some(PoolEntry { destination: (word & 0xffff_ffff) as u32, weight: (word >> 32) as u32 })
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

/// Search for the least `overhead / weight`.
struct Least<'a, H> {
    host: &'a H,
    pool_line: u64,
    destination: u64,
    /// Weight of the best so far; 0 = none.
    weight: u64,
    overhead: u64,
}

impl<H: Host> Step for Least<'_, H> {
    #[inline(always)]
    fn step(&mut self, index: u32) -> bool {
        let Some(candidate) = entry(self.host, low(self.pool_line), index) else { return false };
        let weight = candidate.weight as u64;
        if weight == 0 {
            return true;
        }
        let Some(load) = self.host.load(candidate.destination) else { return false };
        let overhead = overhead(load.load());
        if self.weight == 0
            || self.overhead.wrapping_mul(weight) > overhead.wrapping_mul(self.weight)
        {
            self.destination = candidate.destination as u64;
            self.weight = weight;
            self.overhead = overhead;
        }
        true
    }
}

/// Least `overhead / weight`, overhead being `(active << 8) + active + inactive`, compared without division.
///
/// A product needs at most 41 + 31 bits; it wraps, as the kernel's does, only above 2^32 connections of one destination.
#[inline(always)]
fn weighted_least_connections<H: Host>(host: &H, service: &ServiceRecord) -> Pick {
    let mut least =
        Least { host, pool_line: service.pool_line as u64, destination: 0, weight: 0, overhead: 0 };
    host.repeat(service.pool_entries, &mut least);
    if least.weight == 0 { Pick::Nobody } else { Pick::Destination(low(least.destination)) }
}

#[inline(always)]
const fn overhead(load: u64) -> u64 {
    let active = DestinationLoad::active(load) as u64;
    (active << 8) + active + DestinationLoad::inactive(load) as u64
}

/// `di` and `mw` of a weighted round robin list: greatest common divisor of the weights above 0 (1 if there are
/// none), and the greatest weight less `di - 1`.
pub fn wrr_parameters(weights: impl Iterator<Item = u32> + Clone) -> (u32, u32) {
    let step = weights.clone().filter(|w| *w > 0).fold(0, gcd).max(1);
    let greatest = weights.max().unwrap_or(0);
    (step, if greatest == 0 { 0 } else { greatest - (step - 1) })
}

const fn gcd(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The scheduler word for a changed list, from the word and the list before the change.
///
/// Lists are destination indexes in list order. Round robin keeps its place: it stands at the last used destination,
/// or, if that is gone, at the one before it (`ip_vs_rr_del_dest`). Weighted round robin starts at the head with the
/// current weight adjusted (`ip_vs_wrr_dest_changed`), but only when the list or a weight changed (`changed`).
pub fn carry_over(
    scheduler: u8,
    old: SchedulerWord,
    old_list: &[u32],
    new_list: &[u32],
    parameters: (u32, u32),
    changed: bool,
    tag: u16,
) -> SchedulerWord {
    let (step, greatest) = parameters;
    if scheduler == scheduler_id::WRR && changed {
        let weight = match old.weight() {
            0 => greatest,
            weight if weight > greatest => greatest,
            weight if step > 1 => weight / step * step + 1,
            weight => weight,
        };
        return SchedulerWord::new(tag, 0, weight);
    }
    let used = usize::try_from(old.position()).unwrap_or(0).min(old_list.len());
    let position = old_list
        .iter()
        .take(used)
        .rev()
        .find_map(|destination| new_list.iter().position(|d| d == destination))
        .map_or(0, |index| index + 1);
    SchedulerWord::new(tag, u32::try_from(position).unwrap_or(0), old.weight())
}
