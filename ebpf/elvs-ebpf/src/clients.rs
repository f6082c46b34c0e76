//! Next hops of NAT clients: the kernel's routing table, behind a cache of the last second's answers.
//!
//! **Invariant:** a hop read from the cache was written whole for that very client: `tag` holds the address and a
//! sequence number that is odd while the slot is written.

use core::mem::offset_of;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::bpf_fib_lookup;
use aya_ebpf::helpers::generated::bpf_fib_lookup as fib_lookup;
use aya_ebpf::programs::XdpContext;
use elvs_common::NextHop;
use elvs_fastpath::{Atomic64, ClientHop};

use crate::maps::ELVS_CLIENTS;
use crate::word::Word;

/// Slots of the cache: 2 MiB.
pub const CLIENT_SLOTS: u32 = 1 << CLIENT_BITS;
const CLIENT_BITS: u32 = 16;
/// Ticks for which an answer is good: about a second, so that a changed route is followed soon.
const FRESH_TICKS: u32 = 16;

const AF_INET: u8 = 2;
const FIB_SUCCESS: i64 = 0;
const FIB_FORWARDING_DISABLED: i64 = 5;
const FIB_NO_NEIGHBOUR: i64 = 7;

/// One slot of the cache.
#[repr(C)]
pub struct ClientSlot {
    /// Client address (low half), sequence number (high half).
    tag: Word,
    /// Tick (low half), egress interface (high half).
    tick_ifindex: Word,
    /// [`NextHop::first`].
    first: Word,
    /// [`NextHop::second`].
    second: Word,
}

/// Next hop towards a client; `learned` is where its first packet came from.
#[inline(always)]
pub fn hop(ctx: &XdpContext, tick: u32, client: u32, learned: Option<NextHop>) -> ClientHop {
    let Some(slot) = ELVS_CLIENTS.get(client.wrapping_mul(0x9e37_79b1) >> (32 - CLIENT_BITS))
    else {
        return ClientHop::Unknown;
    };
    let cached = read(slot, client);
    if let Some((hop, seen)) = cached
        && tick.wrapping_sub(seen) <= FRESH_TICKS
    {
        return ClientHop::Known(hop);
    }
    let found = match route(ctx, client) {
        Ok(hop) => hop,
        // The neighbour is not resolved, or the host does not forward for itself: what the client's own packets came
        // from is as good.
        Err(FIB_NO_NEIGHBOUR | FIB_FORWARDING_DISABLED) => match (learned, cached) {
            (Some(hop), _) | (None, Some((hop, _))) => hop,
            (None, None) => return ClientHop::Unknown,
        },
        Err(_) => return ClientHop::Unknown,
    };
    write(slot, client, tick, &found);
    ClientHop::Known(found)
}

/// Next hop by the kernel's routing table, as if the host forwarded the packet of this run.
///
/// # Errors
///
/// The `BPF_FIB_LKUP_RET_*` code.
#[inline(always)]
pub fn route(ctx: &XdpContext, address: u32) -> Result<NextHop, i64> {
    let mut query = Query([0; 8]);
    let base = (&raw mut query).cast::<u8>();
    // SAFETY: the offsets are those of fields of this type and size in `struct bpf_fib_lookup`.
    unsafe {
        base.add(offset_of!(bpf_fib_lookup, family)).write(AF_INET);
        base.add(offset_of!(bpf_fib_lookup, ifindex))
            .cast::<u32>()
            .write(ctx.ingress_ifindex() as u32);
        base.add(offset_of!(bpf_fib_lookup, __bindgen_anon_4)).cast::<u32>().write(address);
    }
    // SAFETY: the context is the one the kernel gave; the query is ours and of the size given.
    let answer = unsafe { fib_lookup(ctx.as_ptr(), base.cast(), size_of::<Query>() as i32, 0) };
    if answer != FIB_SUCCESS {
        return Err(answer);
    }
    // SAFETY: as above; the helper has written these fields.
    unsafe {
        Ok(NextHop::new(
            mac(base.add(offset_of!(bpf_fib_lookup, dmac))),
            mac(base.add(offset_of!(bpf_fib_lookup, smac))),
            base.add(offset_of!(bpf_fib_lookup, ifindex)).cast::<u32>().read_volatile(),
        ))
    }
}

/// `struct bpf_fib_lookup` as words, so that it is cleared without a call.
#[repr(C, align(8))]
struct Query([u64; 8]);

const _: () = assert!(size_of::<Query>() == size_of::<bpf_fib_lookup>());

/// Reads a MAC address in three halves: the verifier wants aligned reads of the stack.
///
/// # Safety
///
/// Six readable bytes, aligned to two.
#[inline(always)]
unsafe fn mac(at: *const u8) -> [u8; 6] {
    let halves = at.cast::<u16>();
    // SAFETY: by contract.
    let [first, second, third] = unsafe {
        [halves.read_volatile(), halves.add(1).read_volatile(), halves.add(2).read_volatile()]
    };
    let [a, b] = first.to_ne_bytes();
    let [c, d] = second.to_ne_bytes();
    let [e, f] = third.to_ne_bytes();
    [a, b, c, d, e, f]
}

#[inline(always)]
fn read(slot: &ClientSlot, client: u32) -> Option<(NextHop, u32)> {
    let tag = slot.tag.load();
    if tag as u32 != client || tag >> 32 & 1 != 0 {
        return None;
    }
    let tick_ifindex = slot.tick_ifindex.load();
    let hop = NextHop {
        first: slot.first.load(),
        second: (slot.second.load() & 0xffff_ffff) as u32,
        ifindex: (tick_ifindex >> 32) as u32,
    };
    if slot.tag.load() != tag {
        return None;
    }
    (hop.ifindex != 0).then_some((hop, tick_ifindex as u32))
}

#[inline(always)]
fn write(slot: &ClientSlot, client: u32, tick: u32, hop: &NextHop) {
    let tag = slot.tag.load();
    let sequence = tag >> 32;
    // Whoever finds another CPU writing leaves it alone: the answer is only not cached.
    if sequence & 1 != 0
        || slot.tag.compare_exchange(tag, tag as u32 as u64 | (sequence | 1) << 32).is_err()
    {
        return;
    }
    slot.tick_ifindex.store(tick as u64 | (hop.ifindex as u64) << 32);
    slot.first.store(hop.first);
    slot.second.store(hop.second as u64);
    slot.tag.swap(client as u64 | (sequence.wrapping_add(2) & 0xffff_ffff) << 32);
}
