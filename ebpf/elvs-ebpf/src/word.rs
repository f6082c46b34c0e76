//! The atomic word in the kernel.

use core::cell::UnsafeCell;
use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xadd, atomic_xchg};

use elvs_fastpath::Atomic64;

/// A 64-bit word of a map that other CPUs and the daemon access too.
#[repr(transparent)]
pub struct Word(UnsafeCell<u64>);

// SAFETY: every access is a single volatile or atomic instruction; see `Atomic64` below.
unsafe impl Sync for Word {}

const ORDER: AtomicOrdering = AtomicOrdering::SeqCst;

// SAFETY of every block below: the word lies in a map's memory, which outlives the program's run, is aligned to eight
// bytes, and is only accessed by single volatile or atomic instructions.
impl Atomic64 for Word {
    #[inline(always)]
    fn load(&self) -> u64 {
        // SAFETY: see above. Loads are not reordered on x86-64; weakly ordered machines rely on the dependency of the
        // second control load on nothing, so they need BPF's load-acquire (v4, Linux 6.15) before they are supported.
        unsafe { self.0.get().read_volatile() }
    }

    #[inline(always)]
    fn store(&self, value: u64) {
        // SAFETY: see above.
        unsafe { self.0.get().write_volatile(value) }
    }

    #[inline(always)]
    fn compare_exchange(&self, current: u64, new: u64) -> Result<(), u64> {
        // SAFETY: see above.
        let (old, _) =
            unsafe { atomic_cxchg::<u64, { ORDER }, { ORDER }>(self.0.get(), current, new) };
        if old == current { Ok(()) } else { Err(old) }
    }

    #[inline(always)]
    fn swap(&self, value: u64) -> u64 {
        // SAFETY: see above.
        unsafe { atomic_xchg::<u64, { ORDER }>(self.0.get(), value) }
    }

    #[inline(always)]
    fn fetch_add(&self, value: u64) -> u64 {
        // SAFETY: see above.
        unsafe { atomic_xadd::<u64, u64, { ORDER }>(self.0.get(), value) }
    }
}
