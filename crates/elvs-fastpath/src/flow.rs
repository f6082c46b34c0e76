//! The flow table: a set-associative table of our own in memory that kernel and daemon share.
//!
//! A bucket is four slots of 32 bytes (two adjacent cache lines). A connection lies in its home bucket, or, when that
//! is full, in one of the seven buckets after it (its *chain*). The home bucket is hashed from protocol, client
//! address and client port only, as IPVS's own table is: so a packet from the client and the real server's reply (NAT)
//! meet at the same slot, with one cache miss, and there is no second key that could be lost separately.
//!
//! | word of a slot | content |
//! |---|---|
//! | `control` | see [`Control`]: phase, state, generation, tick of the last packet |
//! | `addresses` | client address (low half), virtual address (high half), network order as loaded |
//! | `ports_destination` | client port, virtual port (network order as loaded), destination index (high half) |
//! | `aux` | slot 0: insertion lock of the bucket; slot 1: displaced counter; slots 2 and 3: reserved |
//!
//! # The slot protocol
//!
//! * **Read** (kernel, daemon; no lock): load `control`; if live, load the key words; load `control` again. If phase
//!   and generation are the same, everything read belongs to one connection.
//! * **Insert** (kernel): take the home bucket's lock; look again, another CPU may have been first; claim a free slot
//!   of the chain by compare-and-swap (free → claimed; chains of other home buckets compete for it); write the key
//!   words; publish by swapping in the live control word; release the lock. The lock makes look-and-insert of one
//!   home bucket one step, so a connection is never in the table twice. Only programs in the kernel take it, they are
//!   not preempted by the daemon, and waiting is bounded: who does not get it refuses the packet, counted.
//! * **Touch** (kernel): compare-and-swap of `control` to a new tick or state.
//! * **Free** (daemon when expired, kernel when it needs the slot): compare-and-swap of the very control word on
//!   which the decision was made. A packet that came in between changed the tick, so the swap fails and the
//!   connection stays. The generation goes up, so a reader in the middle notices.
//! * **Displaced counters**: before a connection is published at distance d, the counters of the d buckets it passed
//!   over go up by one; they go down after it was freed. A lookup goes on to the next bucket only where the counter
//!   is above 0, so most misses cost one bucket.
//!
//! **Invariant:** a live slot is found from its key by [`find_flow`]; a control word is changed by compare-and-swap
//! only; nobody but the claimer writes the words of a claimed slot.
//!
//! Called by the decision core, and by the daemon's sweeper ([`release_flow`]).

use elvs_common::{BUCKET_SLOTS, CHAIN_BUCKETS, Control};

use crate::atomic::Atomic64;

/// One slot.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Slot<W> {
    /// [`Control`] word.
    pub control: W,
    /// Client address, virtual address.
    pub addresses: W,
    /// Client port, virtual port, destination.
    pub ports_destination: W,
    /// See the module's table.
    pub aux: W,
}

/// One bucket.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub struct Bucket<W> {
    /// Its slots.
    pub slots: [Slot<W>; BUCKET_SLOTS],
}

const _: () = assert!(size_of::<Bucket<u64>>() == 128);
const _: () = assert!(size_of::<Slot<u64>>() == elvs_common::SLOT_BYTES);

impl<W> Bucket<W> {
    /// Slot of an index; only its low two bits count.
    #[inline(always)]
    pub fn slot(&self, index: u32) -> &Slot<W> {
        let [a, b, c, d] = &self.slots;
        match index & 3 {
            0 => a,
            1 => b,
            2 => c,
            _ => d,
        }
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

/// Memory with a flow table in it.
pub trait FlowMemory {
    /// Its words.
    type Word: Atomic64;

    /// Bucket of an index, `None` outside the table.
    fn bucket(&self, index: u32) -> Option<&Bucket<Self::Word>>;
}

/// What names a connection. Addresses and ports are as loaded from the packet (network order in memory).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowKey {
    /// Client address (low half), virtual address (high half).
    pub addresses: u64,
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

/// Slot of a bucket that a hash is looked for first; the others follow by exclusive or, so that its neighbour in the
/// same cache line comes second.
#[inline(always)]
const fn first_way(hash: u64) -> u32 {
    (hash & 3) as u32
}

/// Slots of a bucket.
const WAYS: u32 = 4;
const _: () = assert!(WAYS as usize == BUCKET_SLOTS);

/// A connection found in the table, as it was at one moment.
#[derive(Debug)]
pub struct FoundFlow<'a, W> {
    /// Its slot.
    pub slot: &'a Slot<W>,
    /// Bucket of the slot.
    pub bucket: u32,
    /// Control word.
    pub control: Control,
    /// Addresses word.
    pub addresses: u64,
    /// Ports and destination.
    pub ports_destination: u64,
}

/// Finds the live connection whose key words satisfy `matches` in the chain of a hash.
#[inline(always)]
pub fn find_flow<M: FlowMemory>(
    memory: &M,
    hash: u64,
    buckets: u32,
    protocol: u8,
    matches: impl Fn(u64, u64) -> bool,
) -> Option<FoundFlow<'_, M::Word>> {
    let home = home_bucket(hash, buckets);
    let mut distance = 0;
    while distance < CHAIN_BUCKETS {
        let index = home.wrapping_add(distance);
        let bucket = memory.bucket(index)?;
        let mut way = 0;
        while way < WAYS {
            let slot = bucket.slot(first_way(hash) ^ way);
            let control = Control(slot.control.load());
            if control.is_live_of(protocol) {
                let addresses = slot.addresses.load();
                let ports_destination = slot.ports_destination.load();
                if matches(addresses, ports_destination)
                    && control.same_connection(Control(slot.control.load()))
                {
                    return Some(FoundFlow {
                        slot,
                        bucket: index,
                        control,
                        addresses,
                        ports_destination,
                    });
                }
            }
            way += 1;
        }
        if bucket.displaced().load() == 0 {
            return None;
        }
        distance += 1;
    }
    None
}

/// A connection to insert.
#[derive(Clone, Copy, Debug)]
pub struct NewFlow {
    /// Its key.
    pub key: FlowKey,
    /// Its hash.
    pub hash: u64,
    /// Control word: live, with distance and generation 0.
    pub control: Control,
    /// Index of its destination.
    pub destination: u32,
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
#[derive(Debug, PartialEq, Eq)]
pub enum Inserted {
    /// The connection is in the table.
    Done,
    /// The connection is in the table; the one described here made room for it.
    Evicted {
        /// Why it could go.
        why: Eviction,
        /// Its control word.
        control: Control,
        /// Its destination.
        destination: u32,
    },
    /// It is there already, with this control word and destination.
    Exists {
        /// Its control word.
        control: Control,
        /// Its destination.
        destination: u32,
    },
    /// Every slot of the chain holds a connection that stays.
    Full,
    /// The lock was not to be had.
    Contended,
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
    flow: &NewFlow,
    eviction: impl Fn(Control) -> Eviction,
) -> Inserted {
    let home = home_bucket(flow.hash, buckets);
    let Some(home_bucket) = memory.bucket(home) else { return Inserted::Full };
    let mut tries = 0;
    while home_bucket.lock().compare_exchange(0, 1).is_err() {
        tries += 1;
        if tries == LOCK_TRIES {
            return Inserted::Contended;
        }
    }
    let inserted = insert_locked(memory, home, buckets, flow, eviction);
    home_bucket.lock().swap(0);
    inserted
}

#[inline(always)]
fn insert_locked<M: FlowMemory>(
    memory: &M,
    home: u32,
    buckets: u32,
    flow: &NewFlow,
    eviction: impl Fn(Control) -> Eviction,
) -> Inserted {
    let key = flow.key;
    let same = |addresses: u64, ports_destination: u64| {
        addresses == key.addresses && ports_of(ports_destination) == key.ports
    };
    if let Some(found) = find_flow(memory, flow.hash, buckets, key.protocol, same) {
        let destination = destination_of(found.ports_destination);
        return Inserted::Exists { control: found.control, destination };
    }
    // Two passes over the chain: a free slot, then one whose connection may go. Of the latter, the first that has
    // expired wins; else the first half-open one.
    let mut half_open = None;
    let mut pass = 0;
    while pass < 2 {
        let mut distance = 0;
        while distance < CHAIN_BUCKETS {
            let index = home.wrapping_add(distance);
            let Some(bucket) = memory.bucket(index) else { return Inserted::Full };
            let mut way = 0;
            while way < WAYS {
                let place = Place { home, distance, way: first_way(flow.hash) ^ way };
                let slot = bucket.slot(place.way);
                let control = Control(slot.control.load());
                if pass == 0 {
                    if control.is_free() && claim_and_fill(memory, slot, control, place, flow) {
                        return Inserted::Done;
                    }
                } else if control.is_live() {
                    match eviction(control) {
                        Eviction::Keep => {}
                        Eviction::HalfOpen if half_open.is_none() => half_open = Some(place),
                        Eviction::HalfOpen => {}
                        Eviction::Expired => {
                            if let Some(evicted) =
                                replace(memory, place, Eviction::Expired, flow, &eviction)
                            {
                                return evicted;
                            }
                        }
                    }
                }
                way += 1;
            }
            distance += 1;
        }
        pass += 1;
    }
    half_open
        .and_then(|place| replace(memory, place, Eviction::HalfOpen, flow, &eviction))
        .unwrap_or(Inserted::Full)
}

/// A slot by its place in a chain.
#[derive(Clone, Copy)]
struct Place {
    home: u32,
    distance: u32,
    way: u32,
}

/// Replaces the connection at a place if it still may go.
#[inline(always)]
fn replace<M: FlowMemory>(
    memory: &M,
    place: Place,
    why: Eviction,
    flow: &NewFlow,
    eviction: &impl Fn(Control) -> Eviction,
) -> Option<Inserted> {
    let index = place.home.wrapping_add(place.distance);
    let slot = memory.bucket(index)?.slot(place.way);
    let control = Control(slot.control.load());
    if !control.is_live() || eviction(control) != why {
        return None;
    }
    let destination = destination_of(slot.ports_destination.load());
    // The old connection's end is the claim of the slot: no one can take it in between.
    if slot.control.compare_exchange(control.0, control.freed().claimed().0).is_err() {
        return None;
    }
    lower_displaced(memory, index, control.distance());
    fill(memory, slot, control.freed(), place, flow);
    Some(Inserted::Evicted { why, control, destination })
}

#[inline(always)]
fn claim_and_fill<M: FlowMemory>(
    memory: &M,
    slot: &Slot<M::Word>,
    free: Control,
    place: Place,
    flow: &NewFlow,
) -> bool {
    if slot.control.compare_exchange(free.0, free.claimed().0).is_err() {
        return false;
    }
    fill(memory, slot, free, place, flow);
    true
}

/// Fills and publishes a slot that the caller has claimed.
#[inline(always)]
fn fill<M: FlowMemory>(
    memory: &M,
    slot: &Slot<M::Word>,
    free: Control,
    place: Place,
    flow: &NewFlow,
) {
    slot.addresses.store(flow.key.addresses);
    slot.ports_destination.store(flow.key.ports as u64 | (flow.destination as u64) << 32);
    let mut passed = 0;
    while passed < place.distance && passed < CHAIN_BUCKETS {
        if let Some(bucket) = memory.bucket(place.home.wrapping_add(passed)) {
            bucket.displaced().fetch_add(1);
        }
        passed += 1;
    }
    slot.control.swap(flow.control.with_generation_of(free).with_distance(place.distance).0);
}

/// Ends the connection in a slot, if its control word is still `control`; true if this call ended it.
///
/// The caller takes the connection off its destination's load.
#[inline(always)]
pub fn release_flow<M: FlowMemory>(
    memory: &M,
    bucket: u32,
    slot: &Slot<M::Word>,
    control: Control,
) -> bool {
    if slot.control.compare_exchange(control.0, control.freed().0).is_err() {
        return false;
    }
    lower_displaced(memory, bucket, control.distance());
    true
}

#[inline(always)]
fn lower_displaced<M: FlowMemory>(memory: &M, bucket: u32, distance: u32) {
    let home = bucket.wrapping_sub(distance);
    let mut passed = 0;
    while passed < distance && passed < CHAIN_BUCKETS {
        if let Some(bucket) = memory.bucket(home.wrapping_add(passed)) {
            bucket.displaced().fetch_add(u64::MAX);
        }
        passed += 1;
    }
}
