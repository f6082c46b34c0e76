//! The flow table: a set-associative table of our own in memory that kernel and daemon share.
//!
//! A bucket is four slots of 32 bytes (two adjacent cache lines). A connection lies in its home bucket, or, when that
//! is full, in one of the other fifteen of its *chain* ([`chain_offset`]). The home bucket is hashed from protocol, client
//! address and client port only, as IPVS's own table is: so a packet from the client and the real server's reply (NAT)
//! meet at the same slot, with one cache miss, and there is no second key that could be lost separately.
//!
//! | word of a slot | content |
//! |---|---|
//! | `control` | see [`Control`]: phase, state, generation, tick of the last packet |
//! | `addresses` | client address (low half), virtual address (high half), network order as loaded; see [`Addresses`] for the wide table |
//! | `ports_destination` | client port, virtual port (network order as loaded), destination index (high half) |
//! | `aux` | slot 0: insertion lock of the bucket, odd while it is taken, raised by 2 with each insertion; slot 1: displaced counter; slots 2 and 3: reserved |
//!
//! # The slot protocol
//!
//! * **Read** (kernel, daemon; no lock): load `control`; if live, load the key words; load `control` again. If phase
//!   and generation are the same, everything read belongs to one connection.
//! * **Insert** (kernel): take the home bucket's lock; look again, another CPU may have been first; claim a free slot
//!   of the chain by compare-and-swap (free → claimed; chains of other home buckets compete for it); write the key
//!   words; publish by storing the live control word; release the lock. The lock makes look-and-insert of one
//!   home bucket one step, so a connection is never in the table twice. Only programs in the kernel take it, they are
//!   not preempted by the daemon, and waiting is bounded: who does not get it refuses the packet, counted. Who takes the
//!   lock as it was before a search that found nothing need not look again.
//! * **Touch** (kernel): compare-and-swap of `control` to a new tick or state.
//! * **Free** (daemon when expired, kernel when it needs the slot): compare-and-swap of the very control word on
//!   which the decision was made. A packet that came in between changed the tick, so the swap fails and the
//!   connection stays. The generation goes up, so a reader in the middle notices.
//! * **Displaced counters**: before a connection is published at distance d, the counters of the d buckets it passed
//!   over go up by one; they go down after it was freed. A lookup goes on to the next bucket only where the counter
//!   is above 0, so most misses cost one bucket.
//!
//! The **wide table**, for IPv6 and full NAT, is the same with slots of 64 bytes (a cache line each): five words of addresses
//! instead of one, which everything here is generic over.
//!
//! **Invariant:** a live slot is found from its key by [`find_flow`]; a control word is changed by compare-and-swap
//! only; nobody but the claimer writes the words of a claimed slot.
//!
//! Called by the decision core, and by the daemon's sweeper ([`release_flow`]).

use elvs_common::{BUCKET_SLOTS, CHAIN_BUCKETS, Control, WideAddress, chain_offset};

use crate::atomic::Atomic64;

/// Words of a slot that hold addresses, and what is read of them at once.
pub trait Addresses {
    /// What is read.
    type Value: AddressValue;

    /// Reads them one by one.
    fn read(&self) -> Self::Value;

    /// Writes them one by one; for who has claimed the slot.
    fn write(&self, value: Self::Value);

    /// The local end of full NAT; 0 = none.
    fn local_end(&self) -> u64;
}

/// Addresses of one connection.
pub trait AddressValue: Copy + PartialEq {
    /// What a search keeps of a found connection's addresses.
    type Kept: Copy;

    /// How a search holds the addresses it looks for: what lies on the stack of a program in the kernel is scarce.
    type Wanted<'a>: Copy;

    /// What is kept of no connection.
    const NONE: Self::Kept;

    /// What is kept of a connection.
    fn kept(self) -> Self::Kept;

    /// These addresses, to be looked for.
    fn wanted(&self) -> Self::Wanted<'_>;

    /// Whether they name the connection looked for, ports apart.
    fn is(self, wanted: Self::Wanted<'_>) -> bool;

    /// As the wide table has them.
    fn widened(self) -> WideValue;

    /// See [`FlowKey::hash`].
    fn hash(self, client_port: u16, protocol: u8, seed: [u64; 2]) -> u64;
}

impl<W: Atomic64> Addresses for W {
    type Value = u64;

    #[inline(always)]
    fn read(&self) -> u64 {
        self.load()
    }

    #[inline(always)]
    fn write(&self, value: u64) {
        self.store(value);
    }

    #[inline(always)]
    fn local_end(&self) -> u64 {
        0
    }
}

impl AddressValue for u64 {
    type Kept = Self;
    type Wanted<'a> = Self;

    const NONE: Self = 0;

    #[inline(always)]
    fn kept(self) -> Self {
        self
    }

    #[inline(always)]
    fn wanted(&self) -> Self {
        *self
    }

    #[inline(always)]
    fn is(self, wanted: Self) -> bool {
        self == wanted
    }

    #[inline(always)]
    fn widened(self) -> WideValue {
        let ([c0, c1], [v0, v1]) =
            (WideAddress::of_v4(client_of(self)).0, WideAddress::of_v4(virtual_of(self)).0);
        [c0, c1, v0, v1, 0]
    }

    #[inline(always)]
    fn hash(self, client_port: u16, protocol: u8, seed: [u64; 2]) -> u64 {
        flow_hash(client_of(self), client_port, protocol, seed)
    }
}

/// Addresses of a slot of the wide table: client's and virtual address, two words each ([`WideAddress`]), and the local
/// end of full NAT: port (lowest 16 bits, network order as loaded) and index of the local address (high half).
#[derive(Debug, Default)]
#[repr(C)]
pub struct WideWords<W>([W; 5]);

/// What [`WideWords`] hold.
pub type WideValue = [u64; 5];

impl<W: Atomic64> Addresses for WideWords<W> {
    type Value = WideValue;

    #[inline(always)]
    fn read(&self) -> WideValue {
        let [a, b, c, d, e] = &self.0;
        [a.load(), b.load(), c.load(), d.load(), e.load()]
    }

    #[inline(always)]
    fn write(&self, value: WideValue) {
        let ([a, b, c, d, e], [v, w, x, y, z]) = (&self.0, value);
        a.store(v);
        b.store(w);
        c.store(x);
        d.store(y);
        e.store(z);
    }

    #[inline(always)]
    fn local_end(&self) -> u64 {
        let [.., end] = &self.0;
        end.load()
    }
}

impl AddressValue for WideValue {
    type Kept = ();
    type Wanted<'a> = &'a Self;

    const NONE: () = ();

    #[inline(always)]
    fn kept(self) {}

    #[inline(always)]
    fn wanted(&self) -> &Self {
        self
    }

    #[inline(always)]
    fn is(self, wanted: &Self) -> bool {
        let ([a, b, c, d, _], [v, w, x, y, _]) = (self, *wanted);
        (a ^ v) | (b ^ w) | (c ^ x) | (d ^ y) == 0
    }

    #[inline(always)]
    fn widened(self) -> WideValue {
        self
    }

    #[inline(always)]
    fn hash(self, client_port: u16, protocol: u8, seed: [u64; 2]) -> u64 {
        let [first, second, ..] = self;
        wide_hash(WideAddress([first, second]), client_port, protocol, seed)
    }
}

/// One slot.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Slot<W, A = W> {
    /// [`Control`] word.
    pub control: W,
    /// Client address, virtual address.
    pub addresses: A,
    /// Client port, virtual port, destination.
    pub ports_destination: W,
    /// See the module's table.
    pub aux: W,
}

/// One bucket.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub struct Bucket<W, A = W> {
    /// Its slots.
    pub slots: [Slot<W, A>; BUCKET_SLOTS],
}

/// A bucket of the wide table.
pub type WideBucket<W> = Bucket<W, WideWords<W>>;

const _: () = assert!(size_of::<Bucket<u64>>() == 128);
const _: () = assert!(size_of::<Slot<u64>>() == elvs_common::SLOT_BYTES);
const _: () = assert!(size_of::<WideBucket<u64>>() == 256);

impl<W, A> Bucket<W, A> {
    /// Slot of an index; only its low two bits count.
    #[inline(always)]
    pub fn slot(&self, index: u32) -> &Slot<W, A> {
        // An address computed, not a branch taken: hash bits are unpredictable.
        #[expect(clippy::indexing_slicing, reason = "the mask keeps the index inside")]
        &self.slots[(index & 3) as usize]
    }

    #[inline(always)]
    const fn lock(&self) -> &W {
        let [first, ..] = &self.slots;
        &first.aux
    }

    /// Counter of connections that passed over this bucket.
    #[inline(always)]
    pub const fn displaced(&self) -> &W {
        let [_, second, ..] = &self.slots;
        &second.aux
    }
}

impl<W: Atomic64, A> Bucket<W, A> {
    /// How often connections of this home bucket were inserted, and whether one is being; for [`claim_at_home`].
    #[inline(always)]
    pub fn insertions(&self) -> u64 {
        self.lock().load()
    }

    /// Takes the lock if it is open.
    #[inline(always)]
    fn try_lock(&self) -> bool {
        let open = self.lock().load() & !1;
        self.lock().compare_exchange(open, open | 1).is_ok()
    }

    /// Opens the lock; only for who has taken it.
    #[inline(always)]
    fn unlock(&self) {
        self.lock().store(self.lock().load().wrapping_add(1));
    }
}

/// Memory with a flow table in it.
pub trait FlowMemory {
    /// Its words.
    type Word: Atomic64;

    /// Its words that hold addresses: one, or those of the wide table.
    type Addresses: Addresses;

    /// Bucket of an index, `None` outside the table.
    fn bucket(&self, index: u32) -> Option<&BucketOf<Self>>;

    /// Runs a step with 0, 1, 2 ... below `times`, until it answers false.
    ///
    /// The kernel has a loop of its own for this, because its verifier walks through every round of an ordinary one.
    fn repeat<S: Step>(&self, times: u32, step: &mut S) {
        let mut index = 0;
        while index < times && step.step(index) {
            index += 1;
        }
    }
}

/// A bucket of a memory.
pub type BucketOf<M> = Bucket<<M as FlowMemory>::Word, <M as FlowMemory>::Addresses>;

/// A slot of a memory.
pub type SlotOf<M> = Slot<<M as FlowMemory>::Word, <M as FlowMemory>::Addresses>;

/// What is read of the addresses of a slot of a memory.
pub type ValueOf<M> = <<M as FlowMemory>::Addresses as Addresses>::Value;

/// What a search keeps of them.
type KeptOf<A> = <<A as Addresses>::Value as AddressValue>::Kept;

/// A connection found in a memory.
pub type FoundOf<'a, M> = FoundFlow<
    'a,
    <M as FlowMemory>::Word,
    <M as FlowMemory>::Addresses,
    KeptOf<<M as FlowMemory>::Addresses>,
>;

/// Body of a loop; see [`FlowMemory::repeat`].
///
/// Implementors have fields of eight bytes only: the verifier refuses the unaligned stores into the stack that smaller
/// neighbours get merged into.
pub trait Step {
    /// One round; false ends the loop.
    fn step(&mut self, index: u32) -> bool;
}

/// What names a connection. Addresses and ports are as loaded from the packet (network order in memory).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct FlowKey<V = u64> {
    /// Client address (low half), virtual address (high half), or those of [`WideWords`].
    pub addresses: V,
    /// Client port (low half), virtual port (high half).
    pub ports: u32,
    /// IP protocol number.
    pub protocol: u8,
}

impl FlowKey {
    /// Key of its parts.
    #[inline(always)]
    pub const fn new(client: u32, address: u32, client_port: u16, port: u16, protocol: u8) -> Self {
        Self {
            addresses: client as u64 | (address as u64) << 32,
            ports: client_port as u32 | (port as u32) << 16,
            protocol,
        }
    }

    /// Client's address, as loaded.
    #[inline(always)]
    pub const fn client(&self) -> u32 {
        client_of(self.addresses)
    }

    /// Virtual address, as loaded.
    #[inline(always)]
    pub const fn address(&self) -> u32 {
        virtual_of(self.addresses)
    }

    /// Client's port, as loaded.
    #[inline(always)]
    pub const fn client_port(&self) -> u16 {
        client_port_of(self.ports as u64)
    }

    /// Virtual port, as loaded.
    #[inline(always)]
    pub const fn port(&self) -> u16 {
        virtual_port_of(self.ports as u64)
    }
}

impl FlowKey<WideValue> {
    /// Key of its parts; addresses of both families.
    #[inline(always)]
    pub const fn wide(
        client: WideAddress,
        address: WideAddress,
        client_port: u16,
        port: u16,
        protocol: u8,
    ) -> Self {
        let ([c0, c1], [a0, a1]) = (client.0, address.0);
        let ports = client_port as u32 | (port as u32) << 16;
        Self { addresses: [c0, c1, a0, a1, 0], ports, protocol }
    }

    /// Client's address.
    #[inline(always)]
    pub const fn wide_client(&self) -> WideAddress {
        let [first, second, ..] = self.addresses;
        WideAddress([first, second])
    }

    /// Virtual address.
    #[inline(always)]
    pub const fn wide_address(&self) -> WideAddress {
        let [_, _, first, second, _] = self.addresses;
        WideAddress([first, second])
    }

    /// The same with both addresses folded: all that schedulers want to know of it.
    #[inline(always)]
    pub const fn fold(&self) -> FlowKey {
        let (client, address) = (self.wide_client().fold(), self.wide_address().fold());
        let addresses = client as u64 | (address as u64) << 32;
        FlowKey { addresses, ports: self.ports, protocol: self.protocol }
    }
}

impl<V: AddressValue> FlowKey<V> {
    /// Hash of the client's end; see [`flow_hash`].
    #[inline(always)]
    pub fn hash(&self, seed: [u64; 2]) -> u64 {
        self.addresses.hash(client_port_of(self.ports as u64), self.protocol, seed)
    }

    /// Whether an entry of its protocol is that of this key, for [`find_flow`].
    #[inline(always)]
    pub fn matches(&self) -> impl Fn(Control, V, u64) -> bool + Copy {
        matches(&self.addresses, self.ports)
    }
}

/// [`FlowKey::matches`] of its parts.
#[inline(always)]
fn matches<V: AddressValue>(addresses: &V, ports: u32) -> impl Fn(Control, V, u64) -> bool + Copy {
    // What a loop keeps has eight bytes; see [`Step`].
    let (wanted, ports) = (addresses.wanted(), ports as u64);
    move |_, addresses: V, ports_destination| {
        addresses.is(wanted) && ports_of(ports_destination) as u64 == ports
    }
}

/// Hash of the client's end of a connection.
///
/// Multiply-mix with a secret seed: an outsider cannot aim at one bucket without knowing it.
#[inline(always)]
pub const fn flow_hash(client: u32, client_port: u16, protocol: u8, seed: [u64; 2]) -> u64 {
    let [add, multiply] = seed;
    let key = (client as u64) << 32 | (client_port as u64) << 16 | protocol as u64;
    let mixed = (key ^ add).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 32).wrapping_mul(multiply | 1);
    mixed ^ mixed >> 29
}

/// As [`flow_hash`], of an address of the wide table.
#[inline(always)]
pub const fn wide_hash(client: WideAddress, client_port: u16, protocol: u8, seed: [u64; 2]) -> u64 {
    let ([add, multiply], [first, second]) = (seed, client.0);
    let mixed = (first ^ add).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 32 ^ second).wrapping_mul(multiply | 1);
    let rest = (client_port as u64) << 8 | protocol as u64;
    let mixed = (mixed ^ mixed >> 29 ^ rest.wrapping_mul(0xd6e8_feb8_6659_fd93))
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 32
}

/// Home bucket of a hash in a table of `buckets`.
#[inline(always)]
pub const fn home_bucket(hash: u64, buckets: u32) -> u32 {
    (((hash >> 32) * buckets as u64) >> 32) as u32
}

/// Destination in a `ports_destination` word.
#[inline(always)]
pub const fn destination_of(ports_destination: u64) -> u32 {
    (ports_destination >> 32) as u32
}

/// Client and virtual port in a `ports_destination` word, as [`FlowKey::ports`] has them.
#[inline(always)]
pub const fn ports_of(ports_destination: u64) -> u32 {
    (ports_destination & 0xffff_ffff) as u32
}

/// Client port in a `ports_destination` word, network order as loaded.
#[inline(always)]
pub const fn client_port_of(ports_destination: u64) -> u16 {
    (ports_destination & 0xffff) as u16
}

/// Virtual port in a `ports_destination` word, network order as loaded.
#[inline(always)]
pub const fn virtual_port_of(ports_destination: u64) -> u16 {
    (ports_destination >> 16 & 0xffff) as u16
}

/// Client address in an `addresses` word, network order as loaded.
#[inline(always)]
pub const fn client_of(addresses: u64) -> u32 {
    (addresses & 0xffff_ffff) as u32
}

/// Virtual address in an `addresses` word, network order as loaded.
#[inline(always)]
pub const fn virtual_of(addresses: u64) -> u32 {
    (addresses >> 32) as u32
}

/// Slots of a bucket.
const WAYS: u32 = 4;
const _: () = assert!(WAYS as usize == BUCKET_SLOTS);

/// A connection found in the table, as it was at one moment.
#[derive(Clone, Copy, Debug)]
pub struct FoundFlow<'a, W, A = W, V = u64> {
    /// Whether there is one; the other fields mean something only then.
    pub hit: bool,
    /// Its slot.
    pub slot: &'a Slot<W, A>,
    /// Bucket of the slot.
    pub bucket: u32,
    /// Control word.
    pub control: Control,
    /// Addresses, of the table of IPv4 connections only; see [`wide_addresses`].
    pub addresses: V,
    /// Ports and destination.
    pub ports_destination: u64,
}

/// Addresses of a connection found in the wide table; `None` if it has ended meanwhile.
#[inline(always)]
pub fn wide_addresses<W: Atomic64>(
    found: &FoundFlow<'_, W, WideWords<W>, ()>,
) -> Option<WideValue> {
    let addresses = found.slot.addresses.read();
    let same = found.control.same_connection(Control(found.slot.control.load()));
    same.then_some(addresses)
}

/// Finds the live connection whose control word, addresses and ports satisfy `matches` in the chain of a hash.
#[inline(always)]
pub fn find_flow<'a, M: FlowMemory>(
    memory: &'a M,
    hash: u64,
    buckets: u32,
    protocol: u8,
    matches: &(impl Fn(Control, ValueOf<M>, u64) -> bool + Copy),
) -> Option<FoundOf<'a, M>> {
    find_from(memory, home_bucket(hash, buckets), protocol, matches)
}

/// As [`find_flow`], from a home bucket on.
#[inline(always)]
pub(crate) fn find_from<'a, M: FlowMemory>(
    memory: &'a M,
    home: u32,
    protocol: u8,
    matches: &(impl Fn(Control, ValueOf<M>, u64) -> bool + Copy),
) -> Option<FoundOf<'a, M>> {
    let found = search_chain(memory, memory.bucket(home)?, home, protocol, matches);
    found.hit.then_some(found)
}

/// Finds the live connection of a key.
#[inline(always)]
pub fn find_key<'a, M: FlowMemory>(
    memory: &'a M,
    key: &FlowKey<ValueOf<M>>,
    buckets: u32,
    seed: [u64; 2],
) -> Option<FoundOf<'a, M>> {
    find_parts(memory, &key.addresses, key.ports, key.protocol, buckets, seed)
}

/// As [`find_key`], of a key's parts.
#[inline(always)]
pub(crate) fn find_parts<'a, M: FlowMemory>(
    memory: &'a M,
    addresses: &ValueOf<M>,
    ports: u32,
    protocol: u8,
    buckets: u32,
    seed: [u64; 2],
) -> Option<FoundOf<'a, M>> {
    let hash = addresses.hash(client_port_of(ports as u64), protocol, seed);
    find_flow(memory, hash, buckets, protocol, &matches(addresses, ports))
}

/// As [`find_flow`], from the home bucket on. Every field of the answer always has a value: the verifier refuses the
/// reads of registers without one that an `Option` is compiled to.
#[inline(always)]
fn search_chain<'a, M: FlowMemory>(
    memory: &'a M,
    bucket: &'a BucketOf<M>,
    home: u32,
    protocol: u8,
    matches: &(impl Fn(Control, ValueOf<M>, u64) -> bool + Copy),
) -> FoundOf<'a, M> {
    let found = search_bucket(bucket, home, protocol, matches);
    if found.hit || bucket.displaced().load() == 0 {
        return found;
    }
    search_displaced(memory, found, home, protocol, matches)
}

/// [`search_chain`], or only its home bucket.
#[inline(always)]
pub(crate) fn search<'a, const HOME_ONLY: bool, M: FlowMemory>(
    memory: &'a M,
    bucket: &'a BucketOf<M>,
    home: u32,
    protocol: u8,
    matches: &(impl Fn(Control, ValueOf<M>, u64) -> bool + Copy),
) -> FoundOf<'a, M> {
    if HOME_ONLY {
        search_bucket(bucket, home, protocol, matches)
    } else {
        search_chain(memory, bucket, home, protocol, matches)
    }
}

/// The rest of [`search_chain`].
#[inline(always)]
fn search_displaced<'a, M: FlowMemory>(
    memory: &'a M,
    found: FoundOf<'a, M>,
    home: u32,
    protocol: u8,
    matches: &(impl Fn(Control, ValueOf<M>, u64) -> bool + Copy),
) -> FoundOf<'a, M> {
    let place = home as u64 | (protocol as u64) << 32;
    let mut search = Displaced { memory, place, matches: *matches };
    memory.repeat(CHAIN_BUCKETS - 1, &mut search);
    let distance = search.place >> DISTANCE_SHIFT;
    if distance == 0 {
        return found;
    }
    let index = home.wrapping_add(chain_offset((distance & 15) as u32));
    match memory.bucket(index) {
        Some(bucket) => search_bucket(bucket, index, protocol, matches),
        None => found,
    }
}

/// The connection wanted, if it is in a bucket.
#[inline(always)]
fn search_bucket<'a, W: Atomic64, A: Addresses>(
    bucket: &'a Bucket<W, A>,
    index: u32,
    protocol: u8,
    matches: &(impl Fn(Control, A::Value, u64) -> bool + Copy),
) -> FoundFlow<'a, W, A, KeptOf<A>> {
    let mut found = FoundFlow {
        hit: false,
        slot: bucket.slot(0),
        bucket: index,
        control: Control(0),
        addresses: <A::Value as AddressValue>::NONE,
        ports_destination: 0,
    };
    let mut round = 0;
    while round < WAYS {
        let slot = bucket.slot(round);
        let control = Control(slot.control.load());
        if control.is_live_of(protocol) {
            let addresses = slot.addresses.read();
            let ports_destination = slot.ports_destination.load();
            if matches(control, addresses, ports_destination)
                && control.same_connection(Control(slot.control.load()))
            {
                found = FoundFlow {
                    hit: true,
                    slot,
                    bucket: index,
                    control,
                    addresses: addresses.kept(),
                    ports_destination,
                };
                break;
            }
        }
        round += 1;
    }
    found
}

/// A free slot of its home bucket for a connection that is in none, and the bucket's lock.
///
/// Every field always has a value: the kernel's verifier refuses what an `Option` is compiled to.
#[derive(Debug)]
pub struct Claim<'a, W> {
    /// Whether it was to be had; if not, nothing is claimed and the lock is open.
    pub taken: bool,
    bucket: &'a Bucket<W>,
    slot: &'a Slot<W>,
    /// Control word of the free slot.
    free: Control,
    /// Lock word when it is open again.
    after: u64,
}

impl<W: Atomic64> Claim<'_, W> {
    /// Makes the slot the connection's.
    #[inline(always)]
    pub fn publish(self, key: &FlowKey, control: Control, destination: u32) {
        fill_slot(self.slot, self.free, control, key, destination);
        self.bucket.lock().store(self.after);
    }

    /// Leaves everything as it was before.
    #[inline(always)]
    pub fn give_back(self) {
        self.slot.control.store(self.free.0);
        self.bucket.lock().store(self.after);
    }
}

/// First half of an insertion where nothing is in the way, without loops: the bucket's [`Bucket::insertions`] are what
/// they were before a search of it that found nothing and nothing displaced, and it has a free slot. Whoever gets no
/// claim inserts by [`insert_flow`].
#[inline(always)]
pub fn claim_at_home<W: Atomic64>(bucket: &Bucket<W>, insertions: u64) -> Claim<'_, W> {
    let open = insertions & !1;
    let mut claim = Claim {
        taken: false,
        bucket,
        slot: bucket.slot(0),
        free: Control(0),
        after: open.wrapping_add(2),
    };
    if bucket.lock().compare_exchange(open, open | 1).is_err() {
        return claim;
    }
    let mut round = 0;
    while round < WAYS {
        let slot = bucket.slot(round);
        let control = Control(slot.control.load());
        if control.is_free() {
            // Chains of other home buckets compete for the slot.
            claim.taken = slot.control.compare_exchange(control.0, control.claimed().0).is_ok();
            claim.slot = slot;
            claim.free = control;
            break;
        }
        round += 1;
    }
    if !claim.taken {
        bucket.lock().store(claim.after);
    }
    claim
}

/// Search through the buckets after the home bucket.
struct Displaced<'a, M, F: Copy> {
    memory: &'a M,
    /// Home bucket (low half), protocol (next byte), distance of the bucket found (above; 0 = none): one word, because the
    /// stack of a call within a call is short.
    place: u64,
    matches: F,
}

/// Where the distance lies in [`Displaced::place`].
const DISTANCE_SHIFT: u32 = 40;

impl<M: FlowMemory, F: Fn(Control, ValueOf<M>, u64) -> bool + Copy> Step for Displaced<'_, M, F> {
    #[inline(always)]
    fn step(&mut self, round: u32) -> bool {
        let distance = round + 1;
        let at = ((self.place & 0xffff_ffff) as u32).wrapping_add(chain_offset(distance));
        let Some(bucket) = self.memory.bucket(at) else { return false };
        if search_bucket(bucket, at, (self.place >> 32 & 0xff) as u8, &self.matches).hit {
            self.place |= (distance as u64) << DISTANCE_SHIFT;
            return false;
        }
        bucket.displaced().load() != 0
    }
}

/// A connection to insert.
#[derive(Clone, Copy, Debug)]
pub struct NewFlow<V = u64> {
    /// Its key.
    pub key: FlowKey<V>,
    /// Its hash.
    pub hash: u64,
    /// Control word: live, with distance and generation 0.
    pub control: Control,
    /// Index of its destination.
    pub destination: u32,
}

impl<V: AddressValue> NewFlow<V> {
    #[inline(always)]
    const fn entry(&self) -> Entry<'_, V> {
        let Self { key, hash, control, destination } = self;
        Entry { key, hash: *hash, control: *control, destination: *destination }
    }
}

/// A [`NewFlow`] whose key lies elsewhere: for the wide table in the kernel not on the stack, which is too short for it.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a, V> {
    pub(crate) key: &'a FlowKey<V>,
    pub(crate) hash: u64,
    pub(crate) control: Control,
    pub(crate) destination: u32,
}

/// What may happen to a connection that is in the way when the chain is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// It stays.
    Keep,
    /// It may go if nothing better is found.
    HalfOpen,
    /// It is over and goes at once.
    Expired,
}

/// What an insertion came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Insertion {
    /// The connection is in the table.
    Done,
    /// The connection is in the table; another one, which had expired, made room for it.
    EvictedExpired,
    /// The connection is in the table; another one, which was half-open, made room for it.
    EvictedHalfOpen,
    /// It is there already.
    Exists,
    /// Every slot of the chain holds a connection that stays.
    Full,
    /// The lock was not to be had.
    Contended,
}

/// What an insertion came to, and the other connection it met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inserted {
    /// What happened.
    pub outcome: Insertion,
    /// Control word of the connection that was there or had to go; 0 if there is none.
    pub control: Control,
    /// Destination of that connection.
    pub destination: u32,
    /// Local end of the connection that had to go; see [`Addresses::local_end`].
    pub local_end: u64,
}

impl Inserted {
    #[inline(always)]
    const fn only(outcome: Insertion) -> Self {
        Self { outcome, control: Control(0), destination: 0, local_end: 0 }
    }
}

/// Times the lock is tried before a packet is refused; one try is some 20 ns, a holder is done within 500 ns.
const LOCK_TRIES: u32 = 128;

/// Inserts a connection, or finds it if another CPU was first.
///
/// `eviction` judges the connections in the way when no slot is free. The caller keeps the load of destinations.
#[inline(always)]
pub fn insert_flow<M: FlowMemory>(
    memory: &M,
    buckets: u32,
    flow: &NewFlow<ValueOf<M>>,
    eviction: &impl Fn(Control) -> Eviction,
) -> Inserted {
    insert_entry(memory, buckets, &flow.entry(), eviction)
}

/// [`insert_flow`].
#[inline(always)]
pub(crate) fn insert_entry<M: FlowMemory>(
    memory: &M,
    buckets: u32,
    flow: &Entry<'_, ValueOf<M>>,
    eviction: &impl Fn(Control) -> Eviction,
) -> Inserted {
    insert::<false, _>(memory, buckets, flow, eviction)
}

/// As [`insert_flow`], for a connection that gives way itself: in its home bucket it replaces one that may go; if none may, it
/// takes a free slot; if there is none, what there is in the chain, again those that may go first. So such connections
/// have one slot in a bucket each, and more only where there were more before.
#[inline(always)]
pub(crate) fn insert_provisional<M: FlowMemory>(
    memory: &M,
    buckets: u32,
    flow: &Entry<'_, ValueOf<M>>,
    eviction: &impl Fn(Control) -> Eviction,
) -> Inserted {
    insert::<true, _>(memory, buckets, flow, eviction)
}

#[inline(always)]
fn insert<const PROVISIONAL: bool, M: FlowMemory>(
    memory: &M,
    buckets: u32,
    flow: &Entry<'_, ValueOf<M>>,
    eviction: &impl Fn(Control) -> Eviction,
) -> Inserted {
    let home = home_bucket(flow.hash, buckets);
    let Some(bucket) = memory.bucket(home) else { return Inserted::only(Insertion::Full) };
    if !bucket.try_lock() {
        let mut wait = Lock { memory, home: home as u64, taken: 0 };
        memory.repeat(LOCK_TRIES, &mut wait);
        if wait.taken == 0 {
            return Inserted::only(Insertion::Contended);
        }
    }
    let inserted = insert_locked::<PROVISIONAL, _>(memory, bucket, home, flow, eviction);
    bucket.unlock();
    inserted
}

/// Wait for a bucket's lock.
struct Lock<'a, M> {
    memory: &'a M,
    home: u64,
    taken: u64,
}

impl<M: FlowMemory> Step for Lock<'_, M> {
    #[inline(always)]
    fn step(&mut self, _round: u32) -> bool {
        let Some(bucket) = self.memory.bucket((self.home & 0xffff_ffff) as u32) else {
            return false;
        };
        if !bucket.try_lock() {
            return true;
        }
        self.taken = 1;
        false
    }
}

#[inline(always)]
fn insert_locked<const PROVISIONAL: bool, M: FlowMemory>(
    memory: &M,
    bucket: &BucketOf<M>,
    home: u32,
    flow: &Entry<'_, ValueOf<M>>,
    eviction: &impl Fn(Control) -> Eviction,
) -> Inserted {
    let key = flow.key;
    let found = search_chain(memory, bucket, home, key.protocol, &key.matches());
    if found.hit {
        let destination = destination_of(found.ports_destination);
        return Inserted {
            outcome: Insertion::Exists,
            control: found.control,
            destination,
            local_end: 0,
        };
    }
    if PROVISIONAL {
        let place = victim_at(memory, home, WAYS, eviction);
        if let Some(place) = Place::decode(home, place) {
            return replace(memory, place, flow, eviction);
        }
    }
    let mut round = 0;
    while round < WAYS {
        let slot = bucket.slot(round);
        let control = Control(slot.control.load());
        if control.is_free()
            && slot.control.compare_exchange(control.0, control.claimed().0).is_ok()
        {
            fill_slot(slot, control, flow.control, flow.key, flow.destination);
            return Inserted::only(Insertion::Done);
        }
        round += 1;
    }
    if PROVISIONAL {
        let place = victim_at(memory, home, CHAIN_BUCKETS * WAYS, eviction);
        if let Some(place) = Place::decode(home, place) {
            return replace(memory, place, flow, eviction);
        }
    }
    let mut free = Free { memory, home: home as u64, place: 0, control: 0 };
    memory.repeat(CHAIN_BUCKETS * WAYS, &mut free);
    if let Some(place) = Place::decode(home, free.place) {
        fill(memory, Control(free.control), place, flow);
        return Inserted::only(Insertion::Done);
    }
    if PROVISIONAL {
        return Inserted::only(Insertion::Full);
    }
    let place = victim_at(memory, home, CHAIN_BUCKETS * WAYS, eviction);
    match Place::decode(home, place) {
        Some(place) => replace(memory, place, flow, eviction),
        None => Inserted::only(Insertion::Full),
    }
}

/// [`Place`] of a connection that may go among the first `slots` of a chain; 0 = none.
#[inline(always)]
fn victim_at<M: FlowMemory>(
    memory: &M,
    home: u32,
    slots: u32,
    eviction: &impl Fn(Control) -> Eviction,
) -> u64 {
    let mut victim = Victim { memory, home: home as u64, eviction, place: 0 };
    memory.repeat(slots, &mut victim);
    victim.place
}

/// A slot by its place in a chain.
#[derive(Clone, Copy)]
struct Place {
    home: u32,
    distance: u32,
    way: u32,
}

impl Place {
    /// The `round`th slot of a chain in the order in which slots are tried.
    #[inline(always)]
    const fn of_round(home: u64, round: u32) -> Self {
        Self { home: (home & 0xffff_ffff) as u32, distance: round >> 2 & 15, way: round & 3 }
    }

    /// As a word above 0.
    #[inline(always)]
    const fn encode(self) -> u64 {
        (self.distance << 2 | self.way) as u64 + 1
    }

    /// The place in a word; 0 holds none.
    #[inline(always)]
    const fn decode(home: u32, word: u64) -> Option<Self> {
        match word.checked_sub(1) {
            Some(word) => {
                Some(Self { home, distance: (word >> 2 & 15) as u32, way: (word & 3) as u32 })
            }
            None => None,
        }
    }

    #[inline(always)]
    const fn bucket(self) -> u32 {
        self.home.wrapping_add(chain_offset(self.distance))
    }
}

/// Search for a free slot; ends with one claimed.
struct Free<'a, M> {
    memory: &'a M,
    home: u64,
    /// [`Place`] claimed; 0 = none.
    place: u64,
    /// Control word that the slot had.
    control: u64,
}

impl<M: FlowMemory> Step for Free<'_, M> {
    #[inline(always)]
    fn step(&mut self, round: u32) -> bool {
        let place = Place::of_round(self.home, round);
        let Some(bucket) = self.memory.bucket(place.bucket()) else { return false };
        let slot = bucket.slot(place.way);
        let control = Control(slot.control.load());
        if !control.is_free()
            || slot.control.compare_exchange(control.0, control.claimed().0).is_err()
        {
            return true;
        }
        self.place = place.encode();
        self.control = control.0;
        false
    }
}

/// Search for a connection that may go: the first that has expired, else the first half-open one.
struct Victim<'a, M, E> {
    memory: &'a M,
    home: u64,
    eviction: &'a E,
    /// [`Place`] of the connection; 0 = none.
    place: u64,
}

impl<M: FlowMemory, E: Fn(Control) -> Eviction> Step for Victim<'_, M, E> {
    #[inline(always)]
    fn step(&mut self, round: u32) -> bool {
        let place = Place::of_round(self.home, round);
        let Some(bucket) = self.memory.bucket(place.bucket()) else { return false };
        let control = Control(bucket.slot(place.way).control.load());
        if !control.is_live() {
            return true;
        }
        match (self.eviction)(control) {
            Eviction::Keep => true,
            Eviction::HalfOpen => {
                if self.place == 0 {
                    self.place = place.encode();
                }
                true
            }
            Eviction::Expired => {
                self.place = place.encode();
                false
            }
        }
    }
}

/// Replaces the connection at a place if it still may go.
#[inline(always)]
fn replace<M: FlowMemory>(
    memory: &M,
    place: Place,
    flow: &Entry<'_, ValueOf<M>>,
    eviction: &impl Fn(Control) -> Eviction,
) -> Inserted {
    let Some(bucket) = memory.bucket(place.bucket()) else {
        return Inserted::only(Insertion::Full);
    };
    let slot = bucket.slot(place.way);
    let control = Control(slot.control.load());
    let outcome = match eviction(control) {
        Eviction::Expired if control.is_live() => Insertion::EvictedExpired,
        Eviction::HalfOpen if control.is_live() => Insertion::EvictedHalfOpen,
        Eviction::Expired | Eviction::HalfOpen | Eviction::Keep => {
            return Inserted::only(Insertion::Full);
        }
    };
    let destination = destination_of(slot.ports_destination.load());
    let local_end = slot.addresses.local_end();
    // The old connection's end is the claim of the slot: no one can take it in between.
    if slot.control.compare_exchange(control.0, control.freed().claimed().0).is_err() {
        return Inserted::only(Insertion::Full);
    }
    shift_displaced(
        memory,
        place.bucket().wrapping_sub(chain_offset(control.distance())),
        control.distance(),
        u64::MAX,
    );
    fill(memory, control.freed(), place, flow);
    Inserted { outcome, control, destination, local_end }
}

/// Fills and publishes a slot that the caller has claimed; `free` is the control word it had.
#[inline(always)]
fn fill<M: FlowMemory>(memory: &M, free: Control, place: Place, flow: &Entry<'_, ValueOf<M>>) {
    let Some(bucket) = memory.bucket(place.bucket()) else { return };
    shift_displaced(memory, place.home, place.distance, 1);
    let control = flow.control.with_distance(place.distance);
    fill_slot(bucket.slot(place.way), free, control, flow.key, flow.destination);
}

#[inline(always)]
fn fill_slot<W: Atomic64, A: Addresses>(
    slot: &Slot<W, A>,
    free: Control,
    control: Control,
    key: &FlowKey<A::Value>,
    destination: u32,
) {
    slot.addresses.write(key.addresses);
    slot.ports_destination.store(key.ports as u64 | (destination as u64) << 32);
    slot.control.store(control.with_generation_of(free).0);
}

/// Ends the connection in a slot, if its control word is still `control`; true if this call ended it.
///
/// The caller takes the connection off its destination's load.
#[inline(always)]
pub fn release_flow<M: FlowMemory>(
    memory: &M,
    bucket: u32,
    slot: &SlotOf<M>,
    control: Control,
) -> bool {
    if slot.control.compare_exchange(control.0, control.freed().0).is_err() {
        return false;
    }
    shift_displaced(
        memory,
        bucket.wrapping_sub(chain_offset(control.distance())),
        control.distance(),
        u64::MAX,
    );
    true
}

/// Adds to the displaced counters of the first `distance` buckets of the chain of `home`.
#[inline(always)]
fn shift_displaced<M: FlowMemory>(memory: &M, home: u32, distance: u32, by: u64) {
    if distance != 0 {
        memory.repeat(distance, &mut Shift { memory, home: home as u64, by });
    }
}

/// Change of displaced counters.
struct Shift<'a, M> {
    memory: &'a M,
    home: u64,
    by: u64,
}

impl<M: FlowMemory> Step for Shift<'_, M> {
    #[inline(always)]
    fn step(&mut self, index: u32) -> bool {
        let Some(bucket) = self
            .memory
            .bucket(((self.home & 0xffff_ffff) as u32).wrapping_add(chain_offset(index)))
        else {
            return false;
        };
        bucket.displaced().fetch_add(self.by);
        true
    }
}
