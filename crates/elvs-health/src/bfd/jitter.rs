//! Numbers that look like chance and follow from a seed.
//!
//! **Invariant:** equal seeds give equal numbers.
//!
//! Called by the sessions: for the jitter of RFC 5880 section 6.8.7 and for discriminators.

use std::time::Duration;

/// The generator SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
#[derive(Clone, Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A transmit interval less up to a quarter; with a multiplier of 1 also less a tenth at least, so that the
    /// neighbour's detection time is never missed by one packet alone (RFC 5880 section 6.8.7).
    pub(super) fn shorten(&mut self, interval: Duration, multiplier: u8) -> Duration {
        let longest = if multiplier == 1 { interval * 9 / 10 } else { interval };
        let shortest = interval * 3 / 4;
        let span = longest.saturating_sub(shortest).as_micros();
        let added = u128::from(self.next()) % (span + 1);
        shortest + Duration::from_micros(u64::try_from(added).unwrap_or(0))
    }
}
