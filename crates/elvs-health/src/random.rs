//! Chance, from a seed.
//!
//! **Invariant:** the same seed gives the same numbers.
//!
//! Called by the monitor, to spread first runs over time.

use std::time::Duration;

/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// Numbers from a seed.
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A time from 0 to `most`.
    pub(crate) fn up_to(&mut self, most: Duration) -> Duration {
        let most = most.as_nanos();
        // The upper half of the product: even over 0..=most, without a division.
        let nanos = (u128::from(self.next()) * (most + 1)) >> 64;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
