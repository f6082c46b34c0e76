//! The decision core's tables, in maps.

use core::ffi::c_void;

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_jiffies64, bpf_loop};
use aya_ebpf::programs::XdpContext;
use elvs_common::{
    CallHash, Caller, Control, Counter, DestinationRecord, DestinationStats, Line, NOTES, NextHop,
    WideAddress,
};
use elvs_fastpath::{
    Asked, Bucket, ClientHop, Direction, FlowKey, FlowMemory, Fragment, FragmentKey, Host, Local,
    Located, Narrow, Note, Pick, PortSlot, Remembered, Step, TcpFlags, Wide, WideBucket,
    WideFragment, WideFragmentKey, WideMemory, WideValue, WideWords, checksum_change,
    destination_of, has_room, locate, memorize, memory_control, memory_key, next_sctp_state, pick,
    pick_stable, ports_of, remember, remember_provisional,
};

use crate::clients;
use crate::maps::{
    Blob, ELVS_CALL, ELVS_CALLERS, ELVS_CALLS, ELVS_CONFIG, ELVS_COUNTERS, ELVS_DESTS, ELVS_FLOOD,
    ELVS_FLOWS, ELVS_FRAGMENTS, ELVS_FRAGS6, ELVS_LOADS, ELVS_LOCALS, ELVS_PORTS, ELVS_SCHEDS,
    ELVS_SCRATCH, ELVS_SETTINGS, ELVS_STATS, ELVS_WIDE, buckets, seed, tick_shift, wide_buckets,
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
    type Addresses = Word;

    #[inline(always)]
    fn bucket(&self, index: u32) -> Option<&Bucket<Word>> {
        ELVS_FLOWS.get(index)
    }

    #[inline(always)]
    fn repeat<S: Step>(&self, times: u32, step: &mut S) {
        repeat(times, step);
    }
}

/// The wide flow table.
pub struct WideFlows;

impl FlowMemory for WideFlows {
    type Word = Word;
    type Addresses = WideWords<Word>;

    #[inline(always)]
    fn bucket(&self, index: u32) -> Option<&WideBucket<Word>> {
        ELVS_WIDE.get(index)
    }

    #[inline(always)]
    fn repeat<S: Step>(&self, times: u32, step: &mut S) {
        repeat(times, step);
    }
}

impl WideMemory for WideFlows {
    #[inline(always)]
    fn local(&self, index: u32) -> Option<&Local<Word>> {
        ELVS_LOCALS.get(index)
    }

    #[inline(always)]
    fn port(&self, index: u32) -> Option<&PortSlot<Word>> {
        ELVS_PORTS.get(index)
    }
}

impl Host for KernelHost<'_> {
    type Wide = WideFlows;

    #[inline(always)]
    fn wide(&self) -> &WideFlows {
        &WideFlows
    }

    #[inline(always)]
    fn wide_buckets(&self) -> u32 {
        wide_buckets()
    }

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
    fn pick(&self, opening: &FlowKey, _ingress: u32, asked: Asked) -> Pick {
        let how = opening.protocol as u32 | (asked as u32) << ASKED_SHIFT;
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
    fn wide_pick(&self, opening: &FlowKey<WideValue>, _ingress: u32, asked: Asked) -> Pick {
        leave_key(opening);
        elvs_wide_pick(self.ctx.ctx, asked as u32).into()
    }

    #[inline(always)]
    fn wide_locate(&self, opening: &FlowKey<WideValue>, _ingress: u32) -> Located {
        leave_key(opening);
        elvs_wide_locate(self.ctx.ctx).into()
    }

    #[inline(always)]
    fn wide_remember(
        &self,
        key: &FlowKey<WideValue>,
        control: Control,
        destination: u32,
    ) -> Remembered {
        leave_key(key);
        elvs_wide_remember(self.ctx.ctx, control.0, destination).into()
    }

    #[inline(always)]
    fn memorize(
        &self,
        opening: &FlowKey,
        _ingress: u32,
        destination: u32,
        place: u16,
    ) -> Remembered {
        let ports_protocol = opening.ports as u64 | (opening.protocol as u64) << 32;
        elvs_memorize(self.ctx.ctx, opening.addresses, ports_protocol, destination, place).into()
    }

    #[inline(always)]
    fn wide_stash<'b>(&'b self, key: &'b FlowKey<WideValue>) -> &'b FlowKey<WideValue> {
        leave_key(key);
        left_key().unwrap_or(key)
    }

    #[inline(always)]
    fn wide_memorize(
        &self,
        opening: &FlowKey<WideValue>,
        _ingress: u32,
        destination: u32,
        place: u16,
    ) -> Remembered {
        leave_key(opening);
        if elvs_wide_memory(self.ctx.ctx, destination) == 0 {
            return Remembered::Unwanted;
        }
        let Some(key) = left_key() else { return Remembered::Full };
        let control = memory_control(self, key.protocol, place);
        elvs_wide_remember(self.ctx.ctx, control.0, destination).into()
    }

    #[inline(always)]
    fn sctp_state(&self, direction: Direction, state: u8, flags: TcpFlags) -> u8 {
        let how = direction as u32 | (state as u32) << 8 | (flags.0 as u32) << 16;
        (elvs_sctp_state(how) & 0xff) as u8
    }

    #[inline(always)]
    fn sctp_checksum_change(&self, ports: u32, length: u32) -> u32 {
        elvs_sctp_sum(ports, length)
    }

    #[inline(always)]
    fn pick_stable(&self, opening: &FlowKey, _ingress: u32) -> Pick {
        let protocol = opening.protocol;
        elvs_pick_stable(self.ctx.ctx, opening.addresses, opening.ports, protocol).into()
    }

    #[inline(always)]
    fn wide_pick_stable(&self, opening: &FlowKey<WideValue>, _ingress: u32) -> Pick {
        leave_key(opening);
        elvs_wide_stable(self.ctx.ctx).into()
    }

    #[inline(always)]
    fn remember_provisional(
        &self,
        key: &FlowKey,
        control: Control,
        destination: u32,
    ) -> Remembered {
        let ports_destination = key.ports as u64 | (destination as u64) << 32;
        elvs_provide(self.ctx.ctx, key.addresses, ports_destination, control.0).into()
    }

    #[inline(always)]
    fn wide_remember_provisional(
        &self,
        key: &FlowKey<WideValue>,
        control: Control,
        destination: u32,
    ) -> Remembered {
        leave_key(key);
        elvs_wide_provide(self.ctx.ctx, control.0, destination).into()
    }

    #[inline(always)]
    fn flood_threshold(&self) -> u32 {
        ELVS_SETTINGS.get(0).map_or(0, |settings| settings.flood_threshold)
    }

    #[inline(always)]
    fn flood_word(&self) -> Option<&Word> {
        ELVS_FLOOD.get(0)
    }

    #[inline(always)]
    fn admits_at_once(&self, tick: u32) -> bool {
        let Some(notes) = ELVS_SCRATCH.get_ptr_mut(0) else { return false };
        // SAFETY: this CPU's element, within its words.
        let word = unsafe { &mut *notes.cast::<u64>().add(Note::NewFlows as usize) };
        let room = has_room(*word, tick);
        if room {
            *word = word.wrapping_sub(1);
        }
        room
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
    fn remember_fragment(&self, key: &FragmentKey, fragment: &Fragment) {
        elvs_lead(key.addresses, key.datagram, fragment.destination_tick, fragment.way);
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey) -> Fragment {
        // SAFETY: integers, of which any value is valid. Another CPU may take the element for another datagram at this very
        // moment; then this fragment goes astray, and its receiver waits for it in vain or finds the checksum wrong.
        unsafe { ELVS_FRAGMENTS.get(key) }.copied().unwrap_or(Fragment::NONE)
    }

    #[inline(always)]
    fn remember_wide_fragment(&self, key: &WideFragmentKey, fragment: &WideFragment) {
        // One that finds no room is not remembered: its fragments go to the stack, counted.
        let _ = ELVS_FRAGS6.insert(key, fragment, 0);
    }

    #[inline(always)]
    fn wide_fragment(&self, key: &WideFragmentKey) -> WideFragment {
        // SAFETY: as in `fragment`.
        unsafe { ELVS_FRAGS6.get(key) }.copied().unwrap_or(WideFragment::NONE)
    }

    #[inline(always)]
    fn knows_call(&self, hash: CallHash) -> bool {
        ELVS_CALLS.get_ptr(&hash.0).is_some()
    }

    #[inline(always)]
    fn draft_call(&self, index: u32, byte: u8) {
        let Some(call) = ELVS_CALL.get_ptr_mut(0) else { return };
        // SAFETY: this CPU's element, which no other program of this CPU interrupts.
        let call = unsafe { &mut *call };
        if let Some(place) = call.id.get_mut((index & 0xff) as usize) {
            *place = byte;
        }
    }

    #[inline(always)]
    fn keep_call(&self, hash: CallHash, client: WideAddress, length: u64) -> bool {
        let Some(call) = ELVS_CALL.get_ptr_mut(0) else { return false };
        // SAFETY: as above.
        let call = unsafe { &mut *call };
        (call.client, call.length) = (client, length);
        ELVS_CALLS.insert(&hash.0, &*call, 0).is_ok()
    }

    #[inline(always)]
    fn keep_caller(&self, caller: &Caller, hash: CallHash) -> bool {
        ELVS_CALLERS.insert(caller, &hash.0, 0).is_ok()
    }

    #[inline(always)]
    fn settings(&self) -> u32 {
        ELVS_SETTINGS.get(0).map_or(0, |settings| settings.flags)
    }

    #[inline(always)]
    fn drop_rate(&self) -> u32 {
        ELVS_SETTINGS.get(0).map_or(0, |settings| settings.drop_rate)
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
    fn wide_client_hop(&self, client: WideAddress, learned: Option<NextHop>) -> ClientHop {
        clients::wide_hop(self.ctx, self.tick(), client, learned)
    }

    #[inline(always)]
    fn wide_route(&self, address: WideAddress) -> Option<NextHop> {
        if address.is_v4() {
            return self.route(address.v4());
        }
        clients::route6(self.ctx, address).ok()
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

/// Place of [`Asked`] in the last argument of [`elvs_pick`]; the protocol lies below it.
const ASKED_SHIFT: u32 = 8;

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
    let asked = Asked::of_bits(how >> ASKED_SHIFT);
    pick::<Narrow, _>(&host, &FlowKey { addresses, ports, protocol }, ingress, asked).into()
}

/// [`KernelHost::locate`] as a global function; the answer is a [`Located`] as a word.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn elvs_locate(ctx: *mut xdp_md, addresses: u64, ports: u32, protocol: u8) -> u64 {
    let ctx = XdpContext::new(ctx);
    let Some(host) = KernelHost::new(&ctx) else { return Located::Newcomer(0).into() };
    // SAFETY: the context of this run.
    let ingress = unsafe { (*ctx.ctx).ingress_ifindex };
    locate::<Narrow, _>(&host, &FlowKey { addresses, ports, protocol }, ingress).into()
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
    remember::<Narrow, _>(&host, &key, control, destination_of(ports_destination)).into()
}

/// [`KernelHost::pick_stable`] as a global function; the answer is a [`Pick`] as a word.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn elvs_pick_stable(
    ctx: *mut xdp_md,
    addresses: u64,
    ports: u32,
    protocol: u8,
) -> u64 {
    let ctx = XdpContext::new(ctx);
    let Some(host) = KernelHost::new(&ctx) else { return Pick::NoService.into() };
    // SAFETY: the context of this run.
    let ingress = unsafe { (*ctx.ctx).ingress_ifindex };
    pick_stable::<Narrow, _>(&host, &FlowKey { addresses, ports, protocol }, ingress).into()
}

/// [`KernelHost::remember_provisional`] as a global function; see [`elvs_remember`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn elvs_provide(
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
    remember_provisional::<Narrow, _>(&host, &key, control, destination_of(ports_destination))
        .into()
}

/// First of the notes that a key of the wide table is left in; those before are [`Note`]s.
const KEY_NOTE: usize = 8;

const _: () = assert!(KEY_NOTE + size_of::<FlowKey<WideValue>>() / 8 <= NOTES);

/// Leaves a key for a global function: there are more words in it than arguments.
#[inline(always)]
fn leave_key(key: &FlowKey<WideValue>) {
    let Some(notes) = ELVS_SCRATCH.get_ptr_mut(0) else { return };
    let words = notes.cast::<u64>();
    let [a, b, c, d, e] = key.addresses;
    let rest = key.ports as u64 | (key.protocol as u64) << 32;
    // SAFETY: this CPU's element, within its words; volatile, since a function of its own reads them.
    unsafe {
        words.add(KEY_NOTE).write_volatile(a);
        words.add(KEY_NOTE + 1).write_volatile(b);
        words.add(KEY_NOTE + 2).write_volatile(c);
        words.add(KEY_NOTE + 3).write_volatile(d);
        words.add(KEY_NOTE + 4).write_volatile(e);
        words.add(KEY_NOTE + 5).write_volatile(rest);
    }
}

/// The key that was left, where it was left.
#[inline(always)]
fn left_key<'a>() -> Option<&'a FlowKey<WideValue>> {
    let found = ELVS_SCRATCH.get_ptr_mut(0)?.cast::<u64>();
    let words: *const u64;
    // SAFETY: copies a register. Not pure, so it stays behind the check above: compilers would add the offset before it, which
    // older verifiers (Linux 6.12) refuse.
    unsafe {
        core::arch::asm!("{0} = {1}", out(reg) words, in(reg) found, options(nomem, nostack));
    }
    // SAFETY: this CPU's element, which nobody writes while a function reads it; a key is six such words.
    Some(unsafe { &*words.add(KEY_NOTE).cast() })
}

/// [`KernelHost::wide_pick`] as a global function; see [`elvs_pick`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn elvs_wide_pick(ctx: *mut xdp_md, asked: u32) -> u64 {
    let ctx = XdpContext::new(ctx);
    let Some(host) = KernelHost::new(&ctx) else { return Pick::NoService.into() };
    let Some(key) = left_key() else { return Pick::NoService.into() };
    // SAFETY: the context of this run.
    let ingress = unsafe { (*ctx.ctx).ingress_ifindex };
    pick::<Wide, _>(&host, key, ingress, Asked::of_bits(asked)).into()
}

/// [`KernelHost::wide_locate`] as a global function; see [`elvs_locate`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn elvs_wide_locate(ctx: *mut xdp_md) -> u64 {
    let ctx = XdpContext::new(ctx);
    let Some(host) = KernelHost::new(&ctx) else { return Located::Newcomer(0).into() };
    let Some(key) = left_key() else { return Located::Newcomer(0).into() };
    // SAFETY: the context of this run.
    let ingress = unsafe { (*ctx.ctx).ingress_ifindex };
    locate::<Wide, _>(&host, key, ingress).into()
}

/// [`KernelHost::wide_remember`] as a global function; see [`elvs_remember`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn elvs_wide_remember(ctx: *mut xdp_md, control: u64, destination: u32) -> u64 {
    let ctx = XdpContext::new(ctx);
    let Some(host) = KernelHost::new(&ctx) else { return Remembered::Full.into() };
    let Some(key) = left_key() else { return Remembered::Full.into() };
    remember::<Wide, _>(&host, key, Control(control), destination).into()
}

/// [`KernelHost::wide_pick_stable`] as a global function; see [`elvs_pick_stable`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn elvs_wide_stable(ctx: *mut xdp_md) -> u64 {
    let ctx = XdpContext::new(ctx);
    let Some(host) = KernelHost::new(&ctx) else { return Pick::NoService.into() };
    let Some(key) = left_key() else { return Pick::NoService.into() };
    // SAFETY: the context of this run.
    let ingress = unsafe { (*ctx.ctx).ingress_ifindex };
    pick_stable::<Wide, _>(&host, key, ingress).into()
}

/// [`KernelHost::wide_remember_provisional`] as a global function; see [`elvs_remember`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn elvs_wide_provide(ctx: *mut xdp_md, control: u64, destination: u32) -> u64 {
    let ctx = XdpContext::new(ctx);
    let Some(host) = KernelHost::new(&ctx) else { return Remembered::Full.into() };
    let Some(key) = left_key() else { return Remembered::Full.into() };
    remember_provisional::<Wide, _>(&host, key, Control(control), destination).into()
}

/// The first half of [`KernelHost::wide_memorize`] as a global function: leaves the key of what is to be remembered in
/// place of the packet's; 0 = nothing is.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn elvs_wide_memory(ctx: *mut xdp_md, destination: u32) -> u32 {
    let ctx = XdpContext::new(ctx);
    let Some(host) = KernelHost::new(&ctx) else { return 0 };
    let Some(opening) = left_key() else { return 0 };
    // SAFETY: the context of this run.
    let ingress = unsafe { (*ctx.ctx).ingress_ifindex };
    match memory_key::<Wide, _>(&host, opening, ingress, destination) {
        Some(key) => {
            leave_key(&key);
            1
        }
        None => 0,
    }
}

/// [`KernelHost::memorize`] as a global function; see [`elvs_remember`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn elvs_memorize(
    ctx: *mut xdp_md,
    addresses: u64,
    ports_protocol: u64,
    destination: u32,
    place: u16,
) -> u64 {
    let ctx = XdpContext::new(ctx);
    let Some(host) = KernelHost::new(&ctx) else { return Remembered::Full.into() };
    let protocol = (ports_protocol >> 32 & 0xff) as u8;
    let opening = FlowKey { addresses, ports: ports_of(ports_protocol), protocol };
    // SAFETY: the context of this run.
    let ingress = unsafe { (*ctx.ctx).ingress_ifindex };
    memorize::<Narrow, _>(&host, &opening, ingress, destination, place).into()
}

/// [`KernelHost::sctp_state`] as a global function: direction, state and flags in a byte each.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn elvs_sctp_state(how: u32) -> u32 {
    let [direction, state, flags, _] = how.to_le_bytes();
    let direction = if direction == Direction::Input as u8 {
        Direction::Input
    } else if direction == Direction::Output as u8 {
        Direction::Output
    } else {
        Direction::InputOnly
    };
    next_sctp_state(direction, state, TcpFlags(flags)).into()
}

/// [`KernelHost::sctp_checksum_change`] as a global function.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn elvs_sctp_sum(ports: u32, length: u32) -> u32 {
    checksum_change(ports, length)
}

/// [`KernelHost::remember_fragment`] as a global function: key and value lie on its stack, not on that of its callers, who
/// have none left. The answer means nothing.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn elvs_lead(addresses: u64, datagram: u64, destination_tick: u64, way: u64) -> u32 {
    let (key, fragment) = (FragmentKey { addresses, datagram }, Fragment { destination_tick, way });
    // One that finds no room is not remembered: its fragments go to the stack, counted.
    ELVS_FRAGMENTS.insert(&key, &fragment, 0).is_ok().into()
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
