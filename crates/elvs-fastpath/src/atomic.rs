//! The one atomic word type that kernel and daemon share.

/// A 64-bit word in shared memory.
///
/// The kernel's side is made of BPF atomic instructions (each a full barrier) and volatile accesses; the host's side
/// is [`core::sync::atomic::AtomicU64`]; the model check uses loom's.
pub trait Atomic64 {
    /// Reads the word; later reads of the same slot are not moved before it.
    fn load(&self) -> u64;
    /// Writes the word; for words that only their owner writes. Who reads the new value sees also what its writer did
    /// before: a slot's claim comes before its words.
    fn store(&self, value: u64);
    /// Replaces `current` by `new`, or says what was there instead.
    ///
    /// # Errors
    ///
    /// The value found, when it was not `current`.
    fn compare_exchange(&self, current: u64, new: u64) -> Result<(), u64>;
    /// Writes `value` after everything written before; returns the old value.
    fn swap(&self, value: u64) -> u64;
    /// Adds, wrapping; returns the old value.
    fn fetch_add(&self, value: u64) -> u64;
}

#[cfg(not(target_arch = "bpf"))]
impl Atomic64 for core::sync::atomic::AtomicU64 {
    #[inline(always)]
    fn load(&self) -> u64 {
        Self::load(self, core::sync::atomic::Ordering::Acquire)
    }

    #[inline(always)]
    fn store(&self, value: u64) {
        Self::store(self, value, core::sync::atomic::Ordering::Release);
    }

    #[inline(always)]
    fn compare_exchange(&self, current: u64, new: u64) -> Result<(), u64> {
        use core::sync::atomic::Ordering::{AcqRel, Acquire};
        Self::compare_exchange(self, current, new, AcqRel, Acquire).map(|_| ())
    }

    #[inline(always)]
    fn swap(&self, value: u64) -> u64 {
        Self::swap(self, value, core::sync::atomic::Ordering::AcqRel)
    }

    #[inline(always)]
    fn fetch_add(&self, value: u64) -> u64 {
        Self::fetch_add(self, value, core::sync::atomic::Ordering::AcqRel)
    }
}
