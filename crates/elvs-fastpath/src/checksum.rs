//! Incremental Internet checksums (RFC 1624, equation 3: HC' = ~(~HC + ~m + m')).
//!
//! One's complement sums do not care for byte order as long as all words are loaded alike, so everything here works
//! on words as they lie in memory.

use elvs_common::WideAddress;

/// A change of checksummed data, summed up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Delta(u64);

impl Delta {
    /// Replaces a 32-bit word.
    #[inline(always)]
    pub(crate) const fn word(self, old: u32, new: u32) -> Self {
        Self(self.0 + !old as u64 + new as u64)
    }

    /// Replaces a 16-bit word.
    #[inline(always)]
    pub(crate) const fn half(self, old: u16, new: u16) -> Self {
        Self(self.0 + !old as u64 + new as u64)
    }

    /// Replaces an address of 128 bits.
    #[inline(always)]
    pub(crate) const fn wide(self, old: WideAddress, new: WideAddress) -> Self {
        let ([o0, o1], [n0, n1]) = (old.0, new.0);
        self.long(o0, n0).long(o1, n1)
    }

    #[inline(always)]
    const fn long(self, old: u64, new: u64) -> Self {
        self.word((old & 0xffff_ffff) as u32, (new & 0xffff_ffff) as u32)
            .word((old >> 32) as u32, (new >> 32) as u32)
    }

    /// The checksum after the change.
    #[inline(always)]
    pub(crate) const fn apply(self, checksum: u16) -> u16 {
        !fold(self.0 + !checksum as u64)
    }
}

/// Folds a sum of words into 16 bits. Sums of up to 2^16 words of 32 bits do not overflow.
#[inline(always)]
pub(crate) const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    #[expect(clippy::cast_possible_truncation, reason = "folded: at most 16 bits are left")]
    let folded = sum as u16;
    folded
}

#[cfg(test)]
mod tests;
