//! Wrapper for the benchmark: writes a template packet over the frame, makes it another flow's each time, and goes on
//! to the program under test by tail call. The same wrapper before a program that does nothing is the floor.
//!
//! **Invariant:** the frame that the program under test sees depends on the template and the packet's number only.
//!
//! Run by `cargo xtask bench` with `BPF_PROG_TEST_RUN`.
#![no_std]
#![no_main]

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::xdp_action;
use aya_ebpf::helpers::generated::bpf_xdp_adjust_head;
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::{Array, ProgramArray};
use aya_ebpf::programs::XdpContext;

/// What the wrapper does; the layout is mirrored by the benchmark.
#[repr(C)]
pub struct Job {
    /// First bytes of the packet.
    template: [u64; 8],
    /// Number of the next packet.
    next: u64,
    /// Flows - 1; flows are a power of two.
    mask: u64,
    /// Offset of the address that tells flows apart: 26 (source) or 30 (destination).
    address_at: u64,
    /// Offset of the port that tells flows apart: 34 (source) or 36 (destination).
    port_at: u64,
}

/// The job.
#[map]
pub static BENCH_JOB: Array<Job> = Array::with_max_entries(1, 0);

/// The program under test.
#[map]
pub static BENCH_PROGS: ProgramArray = ProgramArray::with_max_entries(1, 0);

const FRAME: usize = 64;

/// The wrapper.
#[xdp]
pub fn bench_wrap(ctx: XdpContext) -> u32 {
    match prepare(&ctx) {
        Some(()) => {
            // SAFETY: the program takes the same context.
            unsafe { BENCH_PROGS.tail_call(&ctx, 0) };
            xdp_action::XDP_ABORTED
        }
        None => xdp_action::XDP_ABORTED,
    }
}

/// The program that does nothing.
#[xdp]
pub fn bench_floor(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_TX
}

#[inline(always)]
fn prepare(ctx: &XdpContext) -> Option<()> {
    // A program that put a header in front left the frame longer.
    if ctx.data_end() - ctx.data() > FRAME {
        // SAFETY: the context is the kernel's; packet pointers are read anew below.
        if unsafe { bpf_xdp_adjust_head(ctx.as_ptr().cast(), 20) } != 0 {
            return None;
        }
    }
    let start = ctx.data();
    if start + FRAME > ctx.data_end() {
        return None;
    }
    let job = BENCH_JOB.get_ptr_mut(0)?;
    // SAFETY: the benchmark runs one packet at a time.
    let job = unsafe { &mut *job };
    let number = job.next;
    job.next = number.wrapping_add(1);
    // A bijection of 0..=mask without a stride that a prefetcher could follow.
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) & job.mask;
    let mixed = (mixed ^ mixed >> 9) & job.mask;
    let flow = mixed.wrapping_mul(0xd6e8_feb8_6659_fd93) & job.mask;
    let frame = start as *mut u64;
    let mut word = 0;
    while word < 8 {
        // SAFETY: within the 64 bytes checked above.
        unsafe { frame.add(word).write_volatile(job.template[word]) };
        word += 1;
    }
    let address = (0x0a40_0000u32 + (flow >> 10) as u32).to_be();
    let port = (0x4000u16 + (flow & 1023) as u16).to_be();
    let bytes = start as *mut u8;
    // SAFETY: both offsets are within the 64 bytes checked above.
    unsafe {
        if job.address_at == 26 {
            bytes.add(26).cast::<u32>().write_volatile(address);
        } else {
            bytes.add(30).cast::<u32>().write_volatile(address);
        }
        if job.port_at == 34 {
            bytes.add(34).cast::<u16>().write_volatile(port);
        } else {
            bytes.add(36).cast::<u16>().write_volatile(port);
        }
    }
    Some(())
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
