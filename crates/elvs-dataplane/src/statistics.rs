//! Arithmetic of statistics: what was counted since a baseline.
//!
//! **Invariant:** the kernel's counters only ever grow; `ipvsadm -Z` moves a baseline and writes nothing the program
//! writes.
//!
//! Called by the assignments and the estimators.

use elvs_model::Statistics;

/// Applies `of` to each pair of counters.
fn each(a: &Statistics, b: &Statistics, of: impl Fn(u64, u64) -> u64) -> Statistics {
    Statistics {
        connections: of(a.connections, b.connections),
        in_packets: of(a.in_packets, b.in_packets),
        out_packets: of(a.out_packets, b.out_packets),
        in_bytes: of(a.in_bytes, b.in_bytes),
        out_bytes: of(a.out_bytes, b.out_bytes),
    }
}

/// What was counted between `baseline` and `now`.
pub(crate) fn since(now: &Statistics, baseline: &Statistics) -> Statistics {
    each(now, baseline, u64::wrapping_sub)
}

/// Both together.
pub(crate) fn sum(a: &Statistics, b: &Statistics) -> Statistics {
    each(a, b, u64::wrapping_add)
}
