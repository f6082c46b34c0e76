//! Rates as IPVS estimates them (`ip_vs_est.c` of Linux 6.12): an exponentially weighted mean with weight 1/4, moved
//! every two seconds.
//!
//! **Invariant:** rates are pure functions of the sequence of counters; there is no clock in here.
//!
//! Called by the director every [`Estimator::PERIOD`].

use std::time::Duration;

use elvs_model::{Rates, Statistics};

/// The estimator of one service or destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimator {
    last: Statistics,
    connections: Mean<COUNT_UP, COUNT_DOWN>,
    in_packets: Mean<COUNT_UP, COUNT_DOWN>,
    out_packets: Mean<COUNT_UP, COUNT_DOWN>,
    in_bytes: Mean<BYTES_UP, BYTES_DOWN>,
    out_bytes: Mean<BYTES_UP, BYTES_DOWN>,
}

/// Binary places that a count of two seconds is moved up by, and that a mean is moved down by when it is shown; the
/// difference of one halves it to a rate per second.
const COUNT_UP: u32 = 9;
const COUNT_DOWN: u32 = 10;
const BYTES_UP: u32 = 4;
const BYTES_DOWN: u32 = 5;

/// One mean, scaled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mean<const UP: u32, const DOWN: u32>(u64);

impl<const UP: u32, const DOWN: u32> Mean<UP, DOWN> {
    fn update(&mut self, now: u64, last: u64) {
        let new = now.wrapping_sub(last).wrapping_shl(UP);
        let step = new.wrapping_sub(self.0).cast_signed() >> 2;
        self.0 = self.0.wrapping_add_signed(step);
    }

    const fn shown(self) -> u64 {
        self.0.wrapping_add((1 << UP) - 1) >> DOWN
    }
}

impl Estimator {
    /// Time between two updates.
    pub const PERIOD: Duration = Duration::from_secs(2);

    /// An estimator that starts from these counters with rates of 0.
    pub fn new(now: &Statistics) -> Self {
        Self { last: *now, ..Self::default() }
    }

    /// Takes the counters of now; to be called every [`Self::PERIOD`].
    pub fn update(&mut self, now: &Statistics) {
        self.connections.update(now.connections, self.last.connections);
        self.in_packets.update(now.in_packets, self.last.in_packets);
        self.out_packets.update(now.out_packets, self.last.out_packets);
        self.in_bytes.update(now.in_bytes, self.last.in_bytes);
        self.out_bytes.update(now.out_bytes, self.last.out_bytes);
        self.last = *now;
    }

    /// Rates per second.
    pub const fn rates(&self) -> Rates {
        Rates {
            connections: self.connections.shown(),
            in_packets: self.in_packets.shown(),
            out_packets: self.out_packets.shown(),
            in_bytes: self.in_bytes.shown(),
            out_bytes: self.out_bytes.shown(),
        }
    }
}

#[cfg(test)]
mod tests {
    use elvs_model::Statistics;

    use super::Estimator;

    fn counters(n: u64) -> Statistics {
        Statistics {
            connections: n,
            in_packets: n * 10,
            out_packets: 0,
            in_bytes: n * 1_000,
            out_bytes: n,
        }
    }

    #[test]
    fn a_steady_rate_is_reached_and_forgotten_by_quarters() {
        let mut estimator = Estimator::default();
        // 100 connections in 2 s: 50 a second, a quarter of it at first.
        estimator.update(&counters(100));
        let rates = estimator.rates();
        assert_eq!((rates.connections, rates.in_packets, rates.in_bytes), (12, 125, 12_500));
        let mut total = 100;
        for _ in 0..60 {
            total += 100;
            estimator.update(&counters(total));
        }
        let rates = estimator.rates();
        assert_eq!((rates.connections, rates.in_packets), (50, 500));
        assert_eq!((rates.in_bytes, rates.out_bytes, rates.out_packets), (50_000, 50, 0));
        estimator.update(&counters(total));
        assert_eq!(estimator.rates().connections, 37);
        for _ in 0..100 {
            estimator.update(&counters(total));
        }
        assert_eq!(estimator.rates(), elvs_model::Rates::default());
    }

    #[test]
    fn the_sums_are_those_of_the_kernels_formula() {
        // est += (delta << 9 - est) >> 2 with a floor towards minus infinity; shown (est + 0x1ff) >> 10.
        let mut estimator = Estimator::default();
        let mut est: i64 = 0;
        let mut total = 0;
        for delta in [1_u64, 0, 7, 3, 1_000_000, 0, 0, 12] {
            total += delta;
            estimator.update(&Statistics { connections: total, ..Statistics::default() });
            est += ((delta << 9).cast_signed() - est) >> 2;
            assert_eq!(estimator.rates().connections, ((est + 0x1ff) >> 10).cast_unsigned());
        }
    }

    #[test]
    fn a_new_estimator_starts_at_the_counters_it_is_given() {
        let mut estimator = Estimator::new(&counters(1_000_000));
        estimator.update(&counters(1_000_000));
        assert_eq!(estimator.rates(), elvs_model::Rates::default());
    }
}
