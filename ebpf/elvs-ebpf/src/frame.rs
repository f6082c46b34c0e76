//! A frame in the driver's memory.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail};
use aya_ebpf::programs::{TcContext, XdpContext};
use elvs_fastpath::{Frame, ShrinkFrame, Step};

use crate::host::repeat;

/// A number anywhere in memory.
#[derive(Clone, Copy)]
#[repr(C, packed)]
struct Unaligned<T>(T);

/// The frame of an XDP run.
pub struct XdpFrame<'a> {
    ctx: &'a XdpContext,
    start: usize,
    end: usize,
}

impl<'a> XdpFrame<'a> {
    /// Frame of a context.
    #[inline(always)]
    pub fn new(ctx: &'a XdpContext) -> Self {
        Self { ctx, start: ctx.data(), end: ctx.data_end() }
    }

    #[inline(always)]
    fn move_front(&mut self, by: i32) -> bool {
        // SAFETY: the context is the one the kernel gave; the call invalidates packet pointers, which are read anew.
        let moved = unsafe { bpf_xdp_adjust_head(self.ctx.as_ptr().cast(), by) } == 0;
        self.start = self.ctx.data();
        self.end = self.ctx.data_end();
        moved
    }
}

impl Frame for XdpFrame<'_> {
    #[inline(always)]
    fn window<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]> {
        let start = self.start + offset;
        if start + N > self.end {
            return None;
        }
        // SAFETY: the bytes lie between the packet's start and end, as the verifier checks once more; `self` is
        // borrowed for as long as the window.
        Some(unsafe { &mut *(start as *mut [u8; N]) })
    }

    #[inline(always)]
    fn word(&mut self, offset: usize) -> Option<u32> {
        let word = core::ptr::from_mut(self.window::<4>(offset)?).cast::<Unaligned<u32>>();
        // SAFETY: four bytes of the packet; volatile, so that they are loaded at once.
        Some(unsafe { word.read_volatile() }.0)
    }

    #[inline(always)]
    fn half(&mut self, offset: usize) -> Option<u16> {
        let half = core::ptr::from_mut(self.window::<2>(offset)?).cast::<Unaligned<u16>>();
        // SAFETY: two bytes of the packet; volatile, so that they are loaded at once.
        Some(unsafe { half.read_volatile() }.0)
    }

    #[inline(always)]
    fn byte(&mut self, offset: usize) -> Option<u8> {
        let start = self.start + offset;
        let after: usize;
        // SAFETY: adds to a register. Compilers would compare the byte's own place with the end, which tells the verifier
        // nothing.
        unsafe {
            core::arch::asm!(
                "{0} = {1}",
                "{0} += 1",
                out(reg) after,
                in(reg) start,
                options(pure, nomem, nostack)
            );
        }
        if after > self.end {
            return None;
        }
        // SAFETY: the byte before a place in the packet.
        Some(unsafe { (after as *const u8).sub(1).read_volatile() })
    }

    #[inline(always)]
    fn forget(&mut self) {
        let context = self.ctx.as_ptr().cast::<xdp_md>();
        // SAFETY: the context is the one the kernel gave; volatile, so that the values count as new ones.
        self.start = unsafe { (&raw const (*context).data).read_volatile() } as usize;
        // SAFETY: as above.
        self.end = unsafe { (&raw const (*context).data_end).read_volatile() } as usize;
    }

    #[inline(always)]
    fn length(&self) -> usize {
        self.end - self.start
    }

    #[inline(always)]
    fn grow_front<const N: usize>(&mut self) -> bool {
        self.move_front(-(N as i32))
    }

    #[inline(always)]
    fn shrink_front<const N: usize>(&mut self) -> bool {
        self.move_front(N as i32)
    }

    #[inline(always)]
    fn truncate(&mut self, length: usize) -> bool {
        let now: usize;
        // SAFETY: copies a register: compilers would make a subtraction of pointers of it, which the verifier refuses.
        unsafe {
            let length = self.length();
            core::arch::asm!("{0} = {1}", out(reg) now, in(reg) length, options(pure, nomem, nostack));
        }
        let by = length as i32 - now as i32;
        // SAFETY: as in `move_front`.
        let moved = unsafe { bpf_xdp_adjust_tail(self.ctx.as_ptr().cast(), by) } == 0;
        self.start = self.ctx.data();
        self.end = self.ctx.data_end();
        moved
    }

    #[inline(always)]
    fn grow_front_by(&mut self, bytes: usize) -> bool {
        self.move_front(-(bytes as i32))
    }

    #[inline(always)]
    fn sum<const N: usize>(&mut self, offset: usize) -> Option<u64> {
        let start = self.start + offset;
        if start + N * 4 > self.end {
            return None;
        }
        let words = start as *const Unaligned<u32>;
        let mut sum = 0;
        let mut word = 0;
        while word < N {
            // SAFETY: within the bytes just seen to be there.
            sum += unsafe { words.add(word).read_volatile() }.0 as u64;
            word += 1;
        }
        Some(sum)
    }

    #[inline(always)]
    fn repeat<S: Step>(times: u32, step: &mut S) {
        repeat(times, step);
    }

    #[inline(always)]
    fn ingress(&self) -> u32 {
        self.ctx.ingress_ifindex() as u32
    }
}

impl ShrinkFrame for XdpFrame<'_> {
    #[inline(always)]
    fn shrink_front_by(&mut self, bytes: usize) -> bool {
        self.move_front(bytes as i32)
    }
}

/// The frame of a classifier's run, to look at: what moves its ends is refused.
pub struct SocketFrame<'a> {
    ctx: &'a TcContext,
}

impl<'a> SocketFrame<'a> {
    /// Frame of a context.
    #[inline(always)]
    pub fn new(ctx: &'a TcContext) -> Self {
        Self { ctx }
    }
}

impl Frame for SocketFrame<'_> {
    #[inline(always)]
    fn window<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]> {
        let start = self.ctx.data() + offset;
        // Headers lie in the linear part, as the host's own stack builds them.
        if start + N > self.ctx.data_end() {
            return None;
        }
        // SAFETY: the bytes lie between the packet's start and end, as the verifier checks once more; `self` is
        // borrowed for as long as the window.
        Some(unsafe { &mut *(start as *mut [u8; N]) })
    }

    /// All of the packet's, not only those that lie in the linear part.
    #[inline(always)]
    fn length(&self) -> usize {
        self.ctx.len() as usize
    }

    #[inline(always)]
    fn grow_front<const N: usize>(&mut self) -> bool {
        false
    }

    #[inline(always)]
    fn shrink_front<const N: usize>(&mut self) -> bool {
        false
    }

    #[inline(always)]
    fn truncate(&mut self, _length: usize) -> bool {
        false
    }

    #[inline(always)]
    fn ingress(&self) -> u32 {
        0
    }
}
