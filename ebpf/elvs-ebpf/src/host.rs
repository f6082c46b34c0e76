//! The decision core's tables, in maps.

use core::ffi::c_void;

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_jiffies64, bpf_loop};
use aya_ebpf::programs::XdpContext;
use elvs_common::{Control, Counter, DestinationRecord, DestinationStats, Line, NOTES, NextHop};
use elvs_fastpath::{
    Bucket, ClientHop, FlowKey, FlowMemory, Host, Located, Note, Pick, Remembered, Step,
    destination_of, locate, pick, ports_of, remember,
};

use crate::clients;
use crate::maps::{
    Blob, ELVS_CONFIG, ELVS_COUNTERS, ELVS_DESTS, ELVS_FLOWS, ELVS_LOADS, ELVS_SCHEDS,
    ELVS_SCRATCH, ELVS_SETTINGS, ELVS_STATS, buckets, seed, tick_shift,
};
use crate::word::Word;

/// The maps, and the configuration that was in force when the packet came.
pub struct KernelHost<'a> {
    ctx: &'a XdpContext,
    blob: &'static Blob,
}

impl<'a> KernelHost<'a> {
    /// `None` while the daemon has installed no configuration.
    #[inline(always)]
    pub fn new(ctx: &'a XdpContext) -> Option<Self> {
        Some(Self { ctx, blob: ELVS_CONFIG.get(0)? })
    }
}

impl FlowMemory for KernelHost<'_> {
    type Word = Word;

    #[inline(always)]
    fn bucket(&self, index: u32) -> Option<&Bucket<Word>> {
        ELVS_FLOWS.get(index)
    }

    #[inline(always)]
    fn repeat<S: Step>(&self, times: u32, step: &mut S) {
        repeat(times, step);
    }
}

impl Host for KernelHost<'_> {
    #[inline(always)]
    fn tick(&self) -> u32 {
        // SAFETY: a helper call without arguments; the verifier turns it into one load.
        let jiffies = unsafe { bpf_jiffies64() };
        (jiffies >> tick_shift()) as u32
    }

    #[inline(always)]
    fn buckets(&self) -> u32 {
        buckets()
    }

    #[inline(always)]
    fn seed(&self) -> [u64; 2] {
        seed()
    }

    #[inline(always)]
    fn line(&self, index: u32) -> Option<&Line> {
        self.blob.get(index)
    }

    #[inline(always)]
    fn destination(&self, index: u32) -> Option<&DestinationRecord> {
        ELVS_DESTS.get(index)
    }

    #[inline(always)]
    fn load(&self, index: u32) -> Option<&Word> {
        ELVS_LOADS.get(index)
    }

    #[inline(always)]
    fn scheduler(&self, index: u32) -> Option<&Word> {
        ELVS_SCHEDS.get(index)
    }

    #[inline(always)]
    fn add_stats(&self, index: u32, added: DestinationStats) {
        let Some(stats) = ELVS_STATS.get_ptr_mut(index) else { return };
        // SAFETY: this CPU's element; programs of one CPU do not interrupt one another.
        let stats = unsafe { &mut *stats };
        stats.connections = stats.connections.wrapping_add(added.connections);
        stats.in_packets = stats.in_packets.wrapping_add(added.in_packets);
        stats.out_packets = stats.out_packets.wrapping_add(added.out_packets);
        stats.in_bytes = stats.in_bytes.wrapping_add(added.in_bytes);
        stats.out_bytes = stats.out_bytes.wrapping_add(added.out_bytes);
    }

    #[inline(always)]
    fn random(&self) -> u32 {
        // SAFETY: a helper call without arguments.
        unsafe { bpf_get_prandom_u32() }
    }

    #[inline(always)]
    fn pick(&self, opening: &FlowKey, _ingress: u32, scheduled: bool) -> Pick {
        let how = opening.protocol as u32 | if scheduled { SCHEDULED } else { 0 };
        elvs_pick(self.ctx.ctx, opening.addresses, opening.ports, how).into()
    }

    #[inline(always)]
    fn locate(&self, opening: &FlowKey, _ingress: u32) -> Located {
        elvs_locate(self.ctx.ctx, opening.addresses, opening.ports, opening.protocol).into()
    }

    #[inline(always)]
    fn remember(&self, key: &FlowKey, control: Control, destination: u32) -> Remembered {
        let ports_destination = key.ports as u64 | (destination as u64) << 32;
        elvs_remember(self.ctx.ctx, key.addresses, ports_destination, control.0).into()
    }

    #[inline(always)]
    fn note(&self, note: Note, value: u64) {
        let Some(notes) = ELVS_SCRATCH.get_ptr_mut(0) else { return };
        // SAFETY: this CPU's element, within its words; volatile, since another program reads it.
        unsafe { notes.cast::<u64>().add(note as usize % NOTES).write_volatile(value) };
    }

    #[inline(always)]
    fn noted(&self, note: Note) -> u64 {
        let Some(notes) = ELVS_SCRATCH.get_ptr_mut(0) else { return 0 };
        // SAFETY: as above.
        unsafe { notes.cast::<u64>().add(note as usize % NOTES).read_volatile() }
    }

    #[inline(always)]
    fn settings(&self) -> u32 {
        ELVS_SETTINGS.get(0).map_or(0, |settings| settings.flags)
    }

    #[inline(always)]
    fn timeout(&self, protocol: u8, state: u8) -> u32 {
        ELVS_SETTINGS.get(0).map_or(u32::MAX, |settings| settings.timeout(protocol, state))
    }

    #[inline(always)]
    fn count(&self, counter: Counter) {
        if let Some(count) = ELVS_COUNTERS.get_ptr_mut(counter as u32) {
            // SAFETY: this CPU's element; programs of one CPU do not interrupt one another.
            unsafe { *count = (*count).wrapping_add(1) };
        }
    }

    #[inline(always)]
    fn client_hop(&self, client: u32, learned: Option<NextHop>) -> ClientHop {
        clients::hop(self.ctx, self.tick(), client, learned)
    }

    #[inline(always)]
    fn opaque<'a, T>(&self, pointer: Option<&'a T>) -> Option<&'a T> {
        let raw = pointer.map_or(core::ptr::null(), core::ptr::from_ref);
        let copy: *const T;
        // SAFETY: copies a register. No empty instruction: its line information would name the place of the next one, and
        // the kernel refuses two lines for one place.
        unsafe {
            core::arch::asm!("{0} = {1}", out(reg) copy, in(reg) raw, options(pure, nomem, nostack))
        };
        // SAFETY: the pointer is the one given, or null.
        unsafe { copy.as_ref() }
    }

    #[inline(always)]
    fn forget(&self, value: u64) -> u64 {
        forget(value)
    }

    #[inline(always)]
    fn route(&self, address: u32) -> Option<NextHop> {
        clients::route(self.ctx, address).ok()
    }
}

/// Bit in the last argument of [`elvs_pick`]; the protocol lies below it.
const SCHEDULED: u32 = 1 << 8;

/// [`KernelHost::pick`] as a global function: the verifier walks through it once, for all arguments there may be. The answer
/// is a [`Pick`] as a word.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn elvs_pick(ctx: *mut xdp_md, addresses: u64, ports: u32, how: u32) -> u64 {
    let ctx = XdpContext::new(ctx);
    // A new look at the configuration: service and list are of the same one, whichever the packet began with.
    let Some(host) = KernelHost::new(&ctx) else { return Pick::NoService.into() };
    let protocol = (how & 0xff) as u8;
    // SAFETY: the context of this run.
    let ingress = unsafe { (*ctx.ctx).ingress_ifindex };
    pick(&host, &FlowKey { addresses, ports, protocol }, ingress, how & SCHEDULED != 0).into()
}

/// [`KernelHost::locate`] as a global function; the answer is a [`Located`] as a word.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn elvs_locate(ctx: *mut xdp_md, addresses: u64, ports: u32, protocol: u8) -> u64 {
    let ctx = XdpContext::new(ctx);
    let Some(host) = KernelHost::new(&ctx) else { return Located::Newcomer(0).into() };
    // SAFETY: the context of this run.
    let ingress = unsafe { (*ctx.ctx).ingress_ifindex };
    locate(&host, &FlowKey { addresses, ports, protocol }, ingress).into()
}

/// [`KernelHost::remember`] as a global function; the answer is a [`Remembered`] as a word.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn elvs_remember(
    ctx: *mut xdp_md,
    addresses: u64,
    ports_destination: u64,
    control: u64,
) -> u64 {
    let ctx = XdpContext::new(ctx);
    let Some(host) = KernelHost::new(&ctx) else { return Remembered::Full.into() };
    let control = Control(control);
    let key =
        FlowKey { addresses, ports: ports_of(ports_destination), protocol: control.protocol() };
    remember(&host, &key, control, destination_of(ports_destination)).into()
}

/// [`FlowMemory::repeat`] by `bpf_loop`.
#[inline(always)]
pub fn repeat<S: Step>(times: u32, step: &mut S) {
    let callback: unsafe extern "C" fn(u32, *mut c_void) -> i64 = round::<S>;
    // SAFETY: the callback takes the context it is given here, which outlives the call.
    unsafe { bpf_loop(times, callback as *mut c_void, core::ptr::from_mut(step).cast(), 0) };
}

/// [`Host::forget`].
#[inline(always)]
pub fn forget(value: u64) -> u64 {
    let Some(word) = ELVS_SCRATCH.get_ptr_mut(0) else { return value };
    let word = word.cast::<u64>();
    // SAFETY: this CPU's element, volatile so that the value really goes through memory.
    unsafe { word.write_volatile(value) };
    // SAFETY: as above.
    unsafe { word.read_volatile() }
}

/// One round of [`FlowMemory::repeat`] as `bpf_loop` calls it: 0 goes on, 1 ends.
///
/// # Safety
///
/// `step` points to the loop's `S`, which nobody else uses meanwhile.
unsafe extern "C" fn round<S: Step>(index: u32, step: *mut c_void) -> i64 {
    // SAFETY: by contract.
    let step = unsafe { &mut *step.cast::<S>() };
    if step.step(index) { 0 } else { 1 }
}
