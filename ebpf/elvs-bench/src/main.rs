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

/// Bytes of a frame: an Ethernet header, IPv6, TCP and a little payload.
const FRAME: usize = 80;
/// Most flows.
const FLOWS: u32 = 1 << 20;

/// What the wrapper does; the layout is mirrored by the benchmark.
#[repr(C)]
pub struct Job {
    /// The packet.
    template: [u64; FRAME / 8],
    /// Number of the next packet.
    next: u64,
    /// Flows - 1; flows are a power of two.
    mask: u64,
    /// Where address and port are that tell flows apart: 0 and 1 source and destination of IPv4, 2 and 3 of IPv6.
    place: u64,
    /// A flow's number is its port below this many bits, and its address above.
    port_bits: u64,
    /// Whether address and port come from `BENCH_ENDS` instead.
    listed: u64,
}

/// The job.
#[map]
pub static BENCH_JOB: Array<Job> = Array::with_max_entries(1, 0);

/// The program under test, and the one that does nothing.
#[map]
pub static BENCH_PROGS: ProgramArray = ProgramArray::with_max_entries(2, 0);

/// Address (low half) and port (above) of each flow, as loaded, for packets to ends that the program under test chose.
#[map]
pub static BENCH_ENDS: Array<u64> = Array::with_max_entries(FLOWS, 0);

/// The wrapper before the program under test.
#[xdp]
pub fn bench_wrap(ctx: XdpContext) -> u32 {
    if prepare(&ctx).is_some() {
        // SAFETY: the program takes the same context.
        unsafe { BENCH_PROGS.tail_call(&ctx, 0) };
    }
    xdp_action::XDP_ABORTED
}

/// The same before the program that does nothing.
#[xdp]
pub fn bench_base(ctx: XdpContext) -> u32 {
    if prepare(&ctx).is_some() {
        // SAFETY: as above.
        unsafe { BENCH_PROGS.tail_call(&ctx, 1) };
    }
    xdp_action::XDP_ABORTED
}

/// The program that does nothing.
#[xdp]
pub fn bench_floor(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_TX
}

#[inline(always)]
fn prepare(ctx: &XdpContext) -> Option<()> {
    // A program that put a header in front, or an option inside, left the frame longer.
    let grown = (ctx.data_end() - ctx.data()) as i64 - FRAME as i64;
    if grown > 0 {
        // SAFETY: the context is the kernel's; packet pointers are read anew below.
        if unsafe { bpf_xdp_adjust_head(ctx.as_ptr().cast(), grown as i32) } != 0 {
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
    let (address, port) = end_of(job, number)?;
    let frame = start as *mut u64;
    let mut word = 0;
    while word < FRAME / 8 {
        // SAFETY: within the bytes checked above.
        unsafe { frame.add(word).write_volatile(job.template[word]) };
        word += 1;
    }
    // Constant offsets: the verifier need not follow any.
    match job.place {
        0 => write_end(start, 26, 34, address, port),
        1 => write_end(start, 30, 36, address, port),
        2 => write_end(start, 34, 54, address, port),
        _ => write_end(start, 50, 56, address, port),
    }
    Some(())
}

/// Address (its last four bytes) and port, as they are stored, of the packet of a number.
#[inline(always)]
fn end_of(job: &Job, number: u64) -> Option<(u32, u16)> {
    if job.listed != 0 {
        let end = *BENCH_ENDS.get((number & job.mask) as u32)?;
        return Some((end as u32, (end >> 32) as u16));
    }
    // A bijection of 0..=mask without a stride that a prefetcher could follow.
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) & job.mask;
    let mixed = (mixed ^ mixed >> 9) & job.mask;
    let flow = mixed.wrapping_mul(0xd6e8_feb8_6659_fd93) & job.mask;
    let bits = job.port_bits & 15;
    let address = 0x0a40_0000u32 + (flow >> bits) as u32;
    let port = 0x4000u16 + (flow & ((1 << bits) - 1)) as u16;
    Some((address.to_be(), port.to_be()))
}

#[inline(always)]
fn write_end(start: usize, address_at: usize, port_at: usize, address: u32, port: u16) {
    // SAFETY: the caller has checked the frame's length, and both offsets are within it.
    unsafe {
        ((start + address_at) as *mut u32).write_volatile(address);
        ((start + port_at) as *mut u16).write_volatile(port);
    }
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
