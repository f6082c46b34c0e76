//! Schedulers: IPVS's picks for the same history (`ip_vs_rr.c`, `ip_vs_wrr.c`, `ip_vs_wlc.c` of Linux 6.12).
//!
//! **Invariant:** a pick depends on the scheduling list, the scheduler word and the load words, on nothing else. Lists
//! are in IPVS's order, newest destination first; among equals the first in the list wins.

use elvs_common::{
    DestinationLoad, POOL_ENTRIES_PER_LINE, PoolEntry, SchedulerWord, ServiceRecord, scheduler_id,
};

use crate::atomic::Atomic64;
use crate::host::Host;

/// Most destinations of one service.
pub const MAX_POOL: u32 = 1_024;

/// Times a pick is repeated when another CPU moved the scheduler meanwhile.
const TRIES: u32 = 8;

/// What a scheduler answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// This destination.
    Destination(u32),
    /// No destination can take a connection.
    Nobody,
    /// Other CPUs moved the scheduler too often.
    Contended,
}

/// Chooses the destination of a new connection.
#[inline(always)]
pub fn pick<H: Host>(host: &H, service: &ServiceRecord) -> Pick {
    if service.scheduler == scheduler_id::WLC {
        return weighted_least_connections(host, service);
    }
    let Some(word) = host.scheduler(service.index) else { return Pick::Nobody };
    let mut tries = 0;
    while tries < TRIES {
        let found = word.load();
        let mut state = SchedulerWord(found);
        if state.tag() != service.tag {
            state = SchedulerWord(service.initial_word);
        }
        let next = if service.scheduler == scheduler_id::RR {
            round_robin(host, service, state)
        } else {
            weighted_round_robin(host, service, state)
        };
        let Some((entry, next)) = next else { return Pick::Nobody };
        if word.compare_exchange(found, next.0).is_ok() {
            return Pick::Destination(entry.destination);
        }
        tries += 1;
    }
    Pick::Contended
}

/// Entry of a scheduling list.
#[inline(always)]
fn entry<H: Host>(host: &H, service: &ServiceRecord, index: u32) -> Option<PoolEntry> {
    let line = host.line(service.pool_line.wrapping_add(index / POOL_ENTRIES_PER_LINE))?;
    let word = line.0.get((index % POOL_ENTRIES_PER_LINE) as usize)?;
    Some(PoolEntry { destination: (word & 0xffff_ffff) as u32, weight: (word >> 32) as u32 })
}

/// First entry at or after the state's position, wrapping once, whose weight is at least `least`.
#[inline(always)]
fn next_from<H: Host>(
    host: &H,
    service: &ServiceRecord,
    start: u32,
    least: u32,
) -> Option<(PoolEntry, u32)> {
    let entries = service.pool_entries;
    let mut index = if start >= entries { 0 } else { start };
    let mut seen = 0;
    while seen < MAX_POOL {
        if seen >= entries {
            return None;
        }
        let found = entry(host, service, index)?;
        if found.weight >= least {
            return Some((found, index));
        }
        index += 1;
        if index >= entries {
            index = 0;
        }
        seen += 1;
    }
    None
}

#[inline(always)]
fn round_robin<H: Host>(
    host: &H,
    service: &ServiceRecord,
    state: SchedulerWord,
) -> Option<(PoolEntry, SchedulerWord)> {
    let (found, index) = next_from(host, service, state.position(), 1)?;
    Some((found, SchedulerWord::new(service.tag, index + 1, 0)))
}

/// IPVS walks from the last pick to the end of the list for a weight of at least `cw`; at the end it lowers `cw` by the
/// greatest common divisor (from 1 back to the greatest) and starts at the head, where the greatest weight always
/// satisfies it.
#[inline(always)]
fn weighted_round_robin<H: Host>(
    host: &H,
    service: &ServiceRecord,
    state: SchedulerWord,
) -> Option<(PoolEntry, SchedulerWord)> {
    if service.weight_max == 0 {
        return None;
    }
    let weight = state.weight();
    let lowered = match weight.checked_sub(service.weight_step) {
        Some(lowered) if lowered > 0 => lowered,
        _ => service.weight_max,
    };
    let entries = service.pool_entries;
    let mut index = state.position();
    let mut least = weight;
    if index >= entries {
        index = 0;
        least = lowered;
    }
    let mut seen = 0;
    while seen < 2 * MAX_POOL {
        let found = entry(host, service, index)?;
        if found.weight >= least && found.weight > 0 {
            return Some((found, SchedulerWord::new(service.tag, index + 1, least)));
        }
        index += 1;
        if index >= entries {
            if least != weight || lowered == weight && seen >= entries {
                return None;
            }
            index = 0;
            least = lowered;
        }
        seen += 1;
    }
    None
}

/// Least `overhead / weight`, overhead being `(active << 8) + active + inactive`, compared without division.
#[inline(always)]
fn weighted_least_connections<H: Host>(host: &H, service: &ServiceRecord) -> Pick {
    let mut best = PoolEntry { destination: 0, weight: 0 };
    let mut best_overhead = 0;
    let mut index = 0;
    while index < MAX_POOL {
        if index >= service.pool_entries {
            break;
        }
        let Some(candidate) = entry(host, service, index) else { return Pick::Nobody };
        if candidate.weight > 0 {
            let Some(load) = host.load(candidate.destination) else { return Pick::Nobody };
            let overhead = overhead(load.load());
            if best.weight == 0
                || best_overhead * (candidate.weight as u64) > overhead * (best.weight as u64)
            {
                best = candidate;
                best_overhead = overhead;
            }
        }
        index += 1;
    }
    if best.weight == 0 { Pick::Nobody } else { Pick::Destination(best.destination) }
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
