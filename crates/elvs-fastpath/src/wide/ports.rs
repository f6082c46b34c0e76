//! Ports of the local addresses of full NAT.
//!
//! The free ports of an address lie in a ring: who opens a connection takes the one that was free for longest, who ended it
//! puts it back. A ring has an element for each port number, so it never overflows; an element says for which turn of the ring
//! it was written, so nobody takes one that is not there yet. A taken port's other word says where its connection is looked
//! for: in the chain of the home bucket that the client hashes to.
//!
//! **Invariant:** a port is in the ring or belongs to one connection, never both; whoever ended the connection, and nobody
//! else, puts it back.
//!
//! Called by the stages of full NAT, by whatever ends connections, and by the daemon's sweeper.

use elvs_common::{FIRST_LOCAL_PORT, LOCAL_PORTS};

use crate::atomic::Atomic64;
use crate::flow::{FlowMemory, Step, WideWords};

/// A local address.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Local<W> {
    /// The address; see [`elvs_common::WideAddress`].
    pub address: [W; 2],
    /// Ports taken from its ring so far.
    pub head: W,
    /// Ports put into its ring so far.
    pub tail: W,
    /// Connections that found its ring empty.
    pub exhausted: W,
    /// Datagrams that left in fragments, each numbered by it.
    pub datagrams: W,
    /// Zero.
    pub pad: [W; 2],
}

/// An element of the port table.
#[derive(Debug, Default)]
#[repr(C)]
pub struct PortSlot<W> {
    /// Of the port with this number: home bucket of its connection (low half) and 1 above it, or 0.
    pub flow: W,
    /// Of the ring's element with this number: a free port (lowest 16 bits) and the turn it was written for.
    pub free: W,
}

const _: () = assert!(size_of::<Local<u64>>() == 64);
const _: () = assert!(size_of::<PortSlot<u64>>() == 16);

/// Bit of [`PortSlot::flow`]: the port is in use.
const TAKEN: u64 = 1 << 32;
/// Times a port is tried to be taken when other CPUs are doing so.
const TAKE_TRIES: u32 = 16;

/// Memory of the wide table and of the local addresses.
pub trait WideMemory: FlowMemory<Addresses = WideWords<<Self as FlowMemory>::Word>> {
    /// Local address of an index.
    fn local(&self, index: u32) -> Option<&Local<Self::Word>>;

    /// Element of the port table; see [`elvs_common::LOCAL_PORTS`].
    fn port(&self, index: u32) -> Option<&PortSlot<Self::Word>>;
}

/// The local end of a connection, as the wide table has it: port (lowest 16 bits, network order as loaded) and index of the
/// local address (high half), both 0 of a connection without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalEnd(pub u64);

impl LocalEnd {
    /// Of its parts; the port in host order.
    #[inline(always)]
    pub const fn new(index: u32, port: u16) -> Self {
        Self((index as u64) << 32 | port.to_be() as u64)
    }

    /// Whether there is one.
    #[inline(always)]
    pub const fn is_some(self) -> bool {
        self.0 & 0xffff != 0
    }

    /// Index of the local address.
    #[inline(always)]
    pub const fn index(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Port, network order as loaded.
    #[inline(always)]
    pub const fn port(self) -> u16 {
        (self.0 & 0xffff) as u16
    }

    /// Its element of the port table.
    #[inline(always)]
    const fn element(self) -> u32 {
        self.index().wrapping_mul(LOCAL_PORTS).wrapping_add(u16::from_be(self.port()) as u32)
    }
}

/// Home bucket of the connection that a port belongs to.
#[inline(always)]
pub(super) fn home_of<M: WideMemory>(memory: &M, end: LocalEnd) -> Option<u32> {
    let word = memory.port(end.element())?.flow.load();
    (word & TAKEN != 0).then_some((word & 0xffff_ffff) as u32)
}

/// What came of asking a local address for a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is the asker's.
    Port(LocalEnd),
    /// All are in use.
    Exhausted,
    /// Other CPUs were faster too often.
    Contended,
}

/// Ports of a local address that are free.
pub fn free_ports<W: Atomic64>(local: &Local<W>) -> u64 {
    local.tail.load().wrapping_sub(local.head.load())
}

/// Makes an address's ring hold all of its ports; nobody else may use the address meanwhile.
pub fn fill_ring<M: WideMemory>(memory: &M, index: u32) {
    let Some(local) = memory.local(index) else { return };
    let first = index.wrapping_mul(LOCAL_PORTS);
    for turn in 0..LOCAL_PORTS {
        let Some(slot) = memory.port(first.wrapping_add(turn)) else { return };
        slot.flow.store(0);
        let port = FIRST_LOCAL_PORT.wrapping_add(turn);
        let free = port < LOCAL_PORTS;
        slot.free.store(if free { (turn as u64) << 16 | port as u64 } else { u64::MAX });
    }
    local.head.store(0);
    local.tail.store((LOCAL_PORTS - FIRST_LOCAL_PORT) as u64);
    local.exhausted.store(0);
}

/// Element of a ring that a turn falls on; there are as many as port numbers.
#[inline(always)]
const fn element_of(turn: u64) -> u32 {
    (turn & 0xffff) as u32
}

const _: () = assert!(LOCAL_PORTS == 0x1_0000);

/// Tries to take the port at the head of a ring.
struct Take<'a, M> {
    memory: &'a M,
    index: u64,
    /// The port, host order; 0 so far.
    port: u64,
    /// Whether the ring was found empty.
    empty: u64,
}

impl<M: WideMemory> Step for Take<'_, M> {
    #[inline(always)]
    fn step(&mut self, _round: u32) -> bool {
        let index = (self.index & 0xffff_ffff) as u32;
        let Some(local) = self.memory.local(index) else { return false };
        let head = local.head.load();
        if head == local.tail.load() {
            self.empty = 1;
            return false;
        }
        let element = element_of(head);
        let place = index.wrapping_mul(LOCAL_PORTS).wrapping_add(element);
        let Some(slot) = self.memory.port(place) else { return false };
        let found = slot.free.load();
        // Of another turn: who puts it there has not written it yet, or somebody has taken it meanwhile.
        if found >> 16 != head & 0xffff_ffff_ffff
            || local.head.compare_exchange(head, head.wrapping_add(1)).is_err()
        {
            return true;
        }
        self.port = found & 0xffff;
        false
    }
}

/// Takes a port of a local address for a connection with a home bucket.
#[inline(always)]
pub fn take_port<M: WideMemory>(memory: &M, index: u32, home: u32) -> Taken {
    let mut take = Take { memory, index: index as u64, port: 0, empty: 0 };
    memory.repeat(TAKE_TRIES, &mut take);
    if take.port == 0 {
        if take.empty == 0 {
            return Taken::Contended;
        }
        if let Some(local) = memory.local(index) {
            local.exhausted.fetch_add(1);
        }
        return Taken::Exhausted;
    }
    let end = LocalEnd::new(index, (take.port & 0xffff) as u16);
    if let Some(slot) = memory.port(end.element()) {
        slot.flow.store(TAKEN | home as u64);
    }
    Taken::Port(end)
}

/// Puts the port of a connection that has ended back; nothing of a connection without.
#[inline(always)]
pub fn give_port<M: WideMemory>(memory: &M, end: LocalEnd) {
    if !end.is_some() {
        return;
    }
    let index = end.index();
    let Some(local) = memory.local(index) else { return };
    if let Some(slot) = memory.port(end.element()) {
        slot.flow.store(0);
    }
    let turn = local.tail.fetch_add(1);
    let element = element_of(turn);
    if let Some(slot) = memory.port(index.wrapping_mul(LOCAL_PORTS).wrapping_add(element)) {
        slot.free.store(turn << 16 | u16::from_be(end.port()) as u64);
    }
}
