//! Incremental Internet checksums (RFC 1624, equation 3: HC' = ~(~HC + ~m + m')).
//!
//! One's complement sums do not care for byte order as long as all words are loaded alike, so everything here works
//! on words as they lie in memory.

use elvs_common::WideAddress;

use crate::flow::Step;
use crate::frame::Frame;

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

/// Bytes that [`sum_of`] can sum up.
const LONGEST: u64 = 16_384 + 64;

/// Sum of the words of `length` bytes at `offset`, below 128, of a frame; `None` if it has not as many.
///
/// `forget` is that of the host, or the identity; see [`crate::Host::forget`].
#[inline(always)]
pub(crate) fn sum_of<F: Frame>(
    forget: impl Fn(u64) -> u64,
    frame: &mut F,
    offset: usize,
    length: u64,
) -> Option<u64> {
    if length > LONGEST {
        return None;
    }
    let at = offset as u64;
    let rounds = (forget(length >> 6) & 0x1ff) as u32;
    let mut blocks = Blocks { frame, at, sum: 0, short: 0 };
    F::repeat(rounds, &mut blocks);
    let (sum, short) = (forget(blocks.sum), blocks.short);
    if short != 0 {
        return None;
    }
    let at = forget(at + (length & !63)) & 0x7fff;
    let rounds = (forget(length >> 2) & 15) as u32;
    let mut words = Words { frame, at, sum, short: 0 };
    F::repeat(rounds, &mut words);
    let (mut sum, short) = (forget(words.sum), words.short);
    if short != 0 {
        return None;
    }
    frame.forget();
    let mut at = (forget(offset as u64 + (length & !3)) & 0x7fff) as usize;
    if length & 2 != 0 {
        sum += frame.half(at)? as u64;
        at += 2;
    }
    if length & 1 != 0 {
        let [last] = *frame.window::<1>(at)?;
        sum += u16::from_ne_bytes([last, 0]) as u64;
    }
    Some(sum)
}

/// The sum of blocks of 64 bytes.
struct Blocks<'a, F> {
    frame: &'a mut F,
    at: u64,
    sum: u64,
    short: u64,
}

impl<F: Frame> Step for Blocks<'_, F> {
    #[inline(always)]
    fn step(&mut self, index: u32) -> bool {
        self.frame.forget();
        let offset = (self.at & 0x7f) as usize + (index & 0x1ff) as usize * 64;
        match self.frame.sum::<16>(offset) {
            Some(sum) => self.sum += sum,
            None => self.short = 1,
        }
        self.short == 0
    }
}

/// The sum of single words.
struct Words<'a, F> {
    frame: &'a mut F,
    at: u64,
    sum: u64,
    short: u64,
}

impl<F: Frame> Step for Words<'_, F> {
    #[inline(always)]
    fn step(&mut self, index: u32) -> bool {
        self.frame.forget();
        let offset = (self.at & 0x7fff) as usize + (index & 15) as usize * 4;
        match self.frame.word(offset) {
            Some(word) => self.sum += word as u64,
            None => self.short = 1,
        }
        self.short == 0
    }
}

#[cfg(test)]
mod tests;
