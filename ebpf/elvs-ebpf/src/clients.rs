//! Next hops of NAT clients: the kernel's routing table, behind a cache of the last second's answers.
//!
//! **Invariant:** a hop read from the cache was written whole for that very client: `tag` holds the address and a
//! sequence number that is odd while the slot is written.

use core::mem::offset_of;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::bpf_fib_lookup;
use aya_ebpf::helpers::generated::bpf_fib_lookup as fib_lookup;
use aya_ebpf::programs::XdpContext;
use elvs_common::{LocalPort, NextHop, WideAddress};
use elvs_fastpath::{Atomic64, ClientHop};

use crate::maps::{ELVS_CLIENTS, ELVS_CLIENTS6, ELVS_LOCAL};
use crate::word::Word;

/// Slots of the cache: 2 MiB.
pub const CLIENT_SLOTS: u32 = 1 << CLIENT_BITS;
const CLIENT_BITS: u32 = 16;
/// Ticks for which an answer is good: about a second, so that a changed route is followed soon.
const FRESH_TICKS: u32 = 16;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const FIB_SUCCESS: i64 = 0;
const FIB_NOT_FORWARDED: i64 = 4;
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

/// What a cache says of a client. Every field always has a value: the verifier refuses what an `Option` is compiled to.
struct Cached {
    /// Whether it says anything.
    hit: bool,
    hop: NextHop,
    /// Tick of its learning.
    seen: u32,
}

impl Cached {
    const NOTHING: Self =
        Self { hit: false, hop: NextHop { first: 0, second: 0, ifindex: 0 }, seen: 0 };

    #[inline(always)]
    fn of(hop: NextHop, seen: u32) -> Self {
        Self { hit: hop.ifindex != 0, hop, seen }
    }

    #[inline(always)]
    fn is_fresh(&self, tick: u32) -> bool {
        self.hit && tick.wrapping_sub(self.seen) <= FRESH_TICKS
    }
}

/// The routing table's answer, or what is as good: a client on this very host is reached through its own port; where the neighbour is not resolved, or the host does not forward for
/// itself, the hop that the client's own packets came from.
#[inline(always)]
fn fresh(
    route: Result<NextHop, i64>,
    learned: Option<NextHop>,
    cached: &Cached,
) -> Option<NextHop> {
    match route {
        Ok(hop) => Some(hop),
        Err(FIB_NOT_FORWARDED) => {
            ELVS_LOCAL.get(LocalPort::ToStack as u32).filter(|hop| hop.ifindex != 0).copied()
        }
        Err(FIB_NO_NEIGHBOUR | FIB_FORWARDING_DISABLED) => match learned {
            Some(hop) => Some(hop),
            None if cached.hit => Some(cached.hop),
            None => None,
        },
        Err(_) => None,
    }
}

/// Next hop towards a client; `learned` is where its first packet came from.
#[inline(always)]
pub fn hop(ctx: &XdpContext, tick: u32, client: u32, learned: Option<NextHop>) -> ClientHop {
    let Some(slot) = ELVS_CLIENTS.get(client.wrapping_mul(0x9e37_79b1) >> (32 - CLIENT_BITS))
    else {
        return ClientHop::Unknown;
    };
    let cached = read(slot, client);
    if cached.is_fresh(tick) {
        return ClientHop::Known(cached.hop);
    }
    let Some(found) = fresh(route(ctx, client), learned, &cached) else {
        return ClientHop::Unknown;
    };
    write(slot, client, tick, &found);
    ClientHop::Known(found)
}

/// One slot of the cache of IPv6 clients.
#[repr(C, align(64))]
pub struct WideClientSlot {
    /// Sequence number, odd while the slot is written.
    sequence: Word,
    address: [Word; 2],
    /// Tick (low half), egress interface (high half).
    tick_ifindex: Word,
    /// [`NextHop::first`].
    first: Word,
    /// [`NextHop::second`].
    second: Word,
}

/// Slots of the cache of IPv6 clients: 1 MiB.
pub const WIDE_CLIENT_SLOTS: u32 = 1 << WIDE_CLIENT_BITS;
const WIDE_CLIENT_BITS: u32 = 14;

/// As [`hop`], towards a client of either family.
#[inline(always)]
pub fn wide_hop(
    ctx: &XdpContext,
    tick: u32,
    client: WideAddress,
    learned: Option<NextHop>,
) -> ClientHop {
    if client.is_v4() {
        return hop(ctx, tick, client.v4(), learned);
    }
    let place = client.fold().wrapping_mul(0x9e37_79b1) >> (32 - WIDE_CLIENT_BITS);
    let Some(slot) = ELVS_CLIENTS6.get(place) else { return ClientHop::Unknown };
    let cached = slot.read(client);
    if cached.is_fresh(tick) {
        return ClientHop::Known(cached.hop);
    }
    let Some(found) = fresh(route6(ctx, client), learned, &cached) else {
        return ClientHop::Unknown;
    };
    slot.write(client, tick, &found);
    ClientHop::Known(found)
}

impl WideClientSlot {
    #[inline(always)]
    fn read(&self, client: WideAddress) -> Cached {
        let sequence = self.sequence.load();
        let ([first, second], [a0, a1]) = (&self.address, client.0);
        if sequence & 1 != 0 || first.load() != a0 || second.load() != a1 {
            return Cached::NOTHING;
        }
        let tick_ifindex = self.tick_ifindex.load();
        let hop = NextHop {
            first: self.first.load(),
            second: (self.second.load() & 0xffff_ffff) as u32,
            ifindex: (tick_ifindex >> 32) as u32,
        };
        if self.sequence.load() != sequence {
            return Cached::NOTHING;
        }
        Cached::of(hop, tick_ifindex as u32)
    }

    #[inline(always)]
    fn write(&self, client: WideAddress, tick: u32, hop: &NextHop) {
        let sequence = self.sequence.load();
        // Whoever finds another CPU writing leaves it alone: the answer is only not cached.
        if sequence & 1 != 0 || self.sequence.compare_exchange(sequence, sequence | 1).is_err() {
            return;
        }
        let ([first, second], [a0, a1]) = (&self.address, client.0);
        first.store(a0);
        second.store(a1);
        self.tick_ifindex.store(tick as u64 | (hop.ifindex as u64) << 32);
        self.first.store(hop.first);
        self.second.store(hop.second as u64);
        self.sequence.swap(sequence.wrapping_add(2));
    }
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
        base.add(offset_of!(bpf_fib_lookup, __bindgen_anon_4)).cast::<u32>().write(address);
    }
    ask(ctx, &mut query)
}

/// As [`route`], towards an IPv6 address.
///
/// # Errors
///
/// The `BPF_FIB_LKUP_RET_*` code.
#[inline(always)]
pub fn route6(ctx: &XdpContext, address: WideAddress) -> Result<NextHop, i64> {
    let mut query = Query([0; 8]);
    let base = (&raw mut query).cast::<u8>();
    let halves = offset_of!(bpf_fib_lookup, __bindgen_anon_4);
    let [first, second] = address.0;
    // SAFETY: as above; the address lies at a multiple of four, so it is written in words of four bytes.
    unsafe {
        base.add(offset_of!(bpf_fib_lookup, family)).write(AF_INET6);
        let words = base.add(halves).cast::<u32>();
        words.write_volatile(first as u32);
        words.add(1).write_volatile((first >> 32) as u32);
        words.add(2).write_volatile(second as u32);
        words.add(3).write_volatile((second >> 32) as u32);
    }
    ask(ctx, &mut query)
}

/// Asks the kernel's routing table.
#[inline(always)]
fn ask(ctx: &XdpContext, query: &mut Query) -> Result<NextHop, i64> {
    let base = core::ptr::from_mut(query).cast::<u8>();
    // SAFETY: as above.
    unsafe {
        base.add(offset_of!(bpf_fib_lookup, ifindex))
            .cast::<u32>()
            .write(ctx.ingress_ifindex() as u32);
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
fn read(slot: &ClientSlot, client: u32) -> Cached {
    let tag = slot.tag.load();
    if tag as u32 != client || tag >> 32 & 1 != 0 {
        return Cached::NOTHING;
    }
    let tick_ifindex = slot.tick_ifindex.load();
    let hop = NextHop {
        first: slot.first.load(),
        second: (slot.second.load() & 0xffff_ffff) as u32,
        ifindex: (tick_ifindex >> 32) as u32,
    };
    if slot.tag.load() != tag {
        return Cached::NOTHING;
    }
    Cached::of(hop, tick_ifindex as u32)
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
