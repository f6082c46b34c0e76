//! The control word of a flow-table slot: one `u64` that says all that changes during a connection's life.
//!
//! | bits | field |
//! |---|---|
//! | 0-1 | phase: free, claimed, live |
//! | 2-5 | protocol state ([`crate::TcpState`]; 0 for UDP) |
//! | 6-9 | distance: the bucket's place in the chain of its home bucket ([`crate::chain_offset`]) |
//! | 10-12 | forwarding method of the connection |
//! | 13 | inactive: counted in the destination's inactive connections |
//! | 14 | established: its persistence template knows of it, or is such a template |
//! | 15 | answered: the real server has sent more than its SYN (full NAT); of a persistence template: prolonged |
//! | 16-23 | IP protocol number, or that of a persistence template ([`crate::template_protocol`]) |
//! | 24-31 | generation: raised each time the slot is freed |
//! | 32-63 | tick of the last packet |
//!
//! An entry of lblcr has neither method nor state: bits 2-5 (low half) and 10-15 are its place in the set of its address.
//!
//! **Invariant:** a control word is only ever changed by compare-and-swap of the whole word (or by the owner of a
//! claimed slot), so whoever frees a slot knows that no packet refreshed it in between.

/// Phase of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Holds nothing.
    Free = 0,
    /// Being filled or emptied by the one who claimed it.
    Claimed = 1,
    /// Holds a connection.
    Live = 2,
}

/// Forwarding method of a connection; numbers are IPVS's `IP_VS_CONN_F_FWD_MASK` values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Method {
    /// Masquerading.
    Nat = 0,
    /// Tunnelling.
    Tun = 2,
    /// Direct routing.
    Dr = 3,
    /// Both ends rewritten: the director's own address takes the place of the client's. Not in IPVS; the number is unused there.
    FullNat = 5,
}

impl Method {
    /// Method of a number; anything unknown is `None`.
    #[inline(always)]
    pub const fn from_bits(bits: u32) -> Option<Self> {
        match bits {
            0 => Some(Self::Nat),
            2 => Some(Self::Tun),
            3 => Some(Self::Dr),
            5 => Some(Self::FullNat),
            _ => None,
        }
    }

    /// Whether the replies of connections by a method's bits pass the director.
    #[inline(always)]
    pub const fn replies_pass(bits: u32) -> bool {
        bits & 2 == 0
    }
}

/// A control word. See the module's table for its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Control(pub u64);

const PHASE: u64 = 0x3;
const STATE_SHIFT: u32 = 2;
const STATE: u64 = 0xf << STATE_SHIFT;
const DISTANCE_SHIFT: u32 = 6;
const DISTANCE: u64 = 0xf << DISTANCE_SHIFT;
const METHOD_SHIFT: u32 = 10;
const METHOD: u64 = 0x7 << METHOD_SHIFT;
const INACTIVE: u64 = 1 << 13;
const ASSURED: u64 = 1 << 14;
const ANSWERED: u64 = 1 << 15;
/// Upper bits of the place of an entry of lblcr.
const PLACE: u64 = METHOD | INACTIVE | ASSURED | ANSWERED;
const PROTOCOL_SHIFT: u32 = 16;
const PROTOCOL: u64 = 0xff << PROTOCOL_SHIFT;
const GENERATION_SHIFT: u32 = 24;
const GENERATION: u64 = 0xff << GENERATION_SHIFT;
const TICK_SHIFT: u32 = 32;

impl Control {
    /// A live connection of generation 0; see the accessors for the fields.
    #[inline(always)]
    pub const fn live(protocol: u8, state: u8, method: Method, inactive: bool, tick: u32) -> Self {
        Self(
            Phase::Live as u64
                | (state as u64) << STATE_SHIFT & STATE
                | (method as u64) << METHOD_SHIFT
                | if inactive { INACTIVE } else { 0 }
                | (protocol as u64) << PROTOCOL_SHIFT
                | (tick as u64) << TICK_SHIFT,
        )
    }

    /// The same word in phase "claimed".
    #[inline(always)]
    pub const fn claimed(self) -> Self {
        Self(self.0 & !PHASE | Phase::Claimed as u64)
    }

    /// What the slot becomes when it is freed: phase free, next generation, nothing else.
    #[inline(always)]
    pub const fn freed(self) -> Self {
        Self((self.0 & GENERATION).wrapping_add(1 << GENERATION_SHIFT) & GENERATION)
    }

    /// This word, which has generation 0, with the generation of a free one, which has nothing else.
    #[inline(always)]
    pub const fn with_generation_of(self, free: Self) -> Self {
        Self(self.0 | free.0)
    }

    /// With another forwarding method; see [`Self::method_bits`].
    #[inline(always)]
    pub const fn with_method_bits(self, bits: u32) -> Self {
        Self(self.0 & !METHOD | (bits as u64) << METHOD_SHIFT & METHOD)
    }

    /// With another distance (0..=15).
    #[inline(always)]
    pub const fn with_distance(self, distance: u32) -> Self {
        Self(self.0 & !DISTANCE | (distance as u64) << DISTANCE_SHIFT & DISTANCE)
    }

    /// With another state.
    #[inline(always)]
    pub const fn with_state(self, state: u8, inactive: bool) -> Self {
        Self(
            self.0 & !(STATE | INACTIVE)
                | (state as u64) << STATE_SHIFT & STATE
                | if inactive { INACTIVE } else { 0 },
        )
    }

    /// Marked as established, for persistence.
    #[inline(always)]
    pub const fn with_assured(self) -> Self {
        Self(self.0 | ASSURED)
    }

    /// Whether it is marked as established, for persistence.
    #[inline(always)]
    pub const fn assured(self) -> bool {
        self.0 & ASSURED != 0
    }

    /// Marked as answered by the real server.
    #[inline(always)]
    pub const fn with_answered(self) -> Self {
        Self(self.0 | ANSWERED)
    }

    /// Whether the real server has sent more than its SYN; kept for full NAT only.
    #[inline(always)]
    pub const fn answered(self) -> bool {
        self.0 & ANSWERED != 0
    }

    /// Marked as prolonged; of persistence templates only.
    #[inline(always)]
    pub const fn with_prolonged(self) -> Self {
        self.with_answered()
    }

    /// Whether a persistence template was prolonged, since it had connections when its time was over: from then on it lives for
    /// a minute after each use, whatever its service says (`ip_vs_conn_expire`).
    #[inline(always)]
    pub const fn prolonged(self) -> bool {
        self.answered()
    }

    /// With another tick.
    #[inline(always)]
    pub const fn with_tick(self, tick: u32) -> Self {
        Self(self.0 & 0xffff_ffff | (tick as u64) << TICK_SHIFT)
    }

    /// Whether it is a live connection of `protocol`.
    #[inline(always)]
    pub const fn is_live_of(self, protocol: u8) -> bool {
        self.0 & (PHASE | PROTOCOL) == Phase::Live as u64 | (protocol as u64) << PROTOCOL_SHIFT
    }

    /// Whether it is a live connection.
    #[inline(always)]
    pub const fn is_live(self) -> bool {
        self.0 & PHASE == Phase::Live as u64
    }

    /// Whether the slot is free.
    #[inline(always)]
    pub const fn is_free(self) -> bool {
        self.0 & PHASE == Phase::Free as u64
    }

    /// Whether `later`, read after this word, still belongs to the same connection.
    #[inline(always)]
    pub const fn same_connection(self, later: Self) -> bool {
        (self.0 ^ later.0) & (PHASE | GENERATION) == 0
    }

    /// Whether it is no connection but a persistence template or a scheduler's memory: no destination's load counts it.
    #[inline(always)]
    pub const fn is_template(self) -> bool {
        crate::is_template(self.protocol())
    }

    /// Whether it is what a scheduler that goes by locality remembers.
    #[inline(always)]
    pub const fn is_locality(self) -> bool {
        self.protocol() == crate::template_protocol(crate::LOCALITY)
    }

    /// Protocol state, 0..=15.
    #[inline(always)]
    pub const fn state(self) -> u8 {
        ((self.0 & STATE) >> STATE_SHIFT) as u8
    }

    /// With a place in the set of an address, 0..[`Self::PLACES`]; of entries of lblcr only.
    #[inline(always)]
    pub const fn with_place(self, place: u16) -> Self {
        let place = place as u64;
        Self(
            self.0 & !(STATE | PLACE)
                | place << STATE_SHIFT & STATE
                | place >> 4 << METHOD_SHIFT & PLACE,
        )
    }

    /// Place in the set of an address; of entries of lblcr only.
    #[inline(always)]
    pub const fn place(self) -> u16 {
        let place = (self.0 & STATE) >> STATE_SHIFT | (self.0 & PLACE) >> METHOD_SHIFT << 4;
        (place & 0x3ff) as u16
    }

    /// Places in a set.
    pub const PLACES: u16 = 1_024;

    /// Place of the slot's bucket in the chain of its home bucket, 0..=15.
    #[inline(always)]
    pub const fn distance(self) -> u32 {
        ((self.0 & DISTANCE) >> DISTANCE_SHIFT) as u32
    }

    /// Bits of the forwarding method; see [`Method::from_bits`].
    #[inline(always)]
    pub const fn method_bits(self) -> u32 {
        ((self.0 & METHOD) >> METHOD_SHIFT) as u32
    }

    /// Whether the connection is counted as inactive.
    #[inline(always)]
    pub const fn inactive(self) -> bool {
        self.0 & INACTIVE != 0
    }

    /// IP protocol number.
    #[inline(always)]
    pub const fn protocol(self) -> u8 {
        ((self.0 & PROTOCOL) >> PROTOCOL_SHIFT) as u8
    }

    /// Tick of the last packet.
    #[inline(always)]
    pub const fn tick(self) -> u32 {
        (self.0 >> TICK_SHIFT) as u32
    }
}

#[cfg(test)]
mod tests;
