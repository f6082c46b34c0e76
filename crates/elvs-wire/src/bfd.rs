//! Control packets of Bidirectional Forwarding Detection (RFC 5880 section 4.1), without authentication.
//!
//! **Invariant:** [`Control::parse`] of what [`Control::emit`] wrote is the same packet; every other byte string gives a
//! packet or a [`DecodeError`] that names the rule it breaks.
//!
//! Called by the BFD sessions of `elvs-health`.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |Vers |  Diag   |Sta|P|F|C|A|D|M|  Detect Mult  |    Length     |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                       My Discriminator                        |
//! |                      Your Discriminator                       |
//! |                    Desired Min TX Interval                    |
//! |                   Required Min RX Interval                    |
//! |                 Required Min Echo RX Interval                 |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```

use std::fmt;
use std::num::{NonZeroU8, NonZeroU32};

/// UDP port of control packets between neighbours on one link (RFC 5881 section 4).
pub const SINGLE_HOP_PORT: u16 = 3784;
/// UDP port of control packets between systems several hops apart (RFC 5883 section 5).
pub const MULTIHOP_PORT: u16 = 4784;
/// Lowest UDP port that control packets are sent from (RFC 5881 section 4).
pub const FIRST_SOURCE_PORT: u16 = 49152;
/// Bytes of a control packet without authentication section.
pub const LENGTH: usize = 24;

const VERSION: u8 = 1;
const POLL: u8 = 0x20;
const FINAL: u8 = 0x10;
const CONTROL_PLANE_INDEPENDENT: u8 = 0x08;
const AUTHENTICATION: u8 = 0x04;
const DEMAND: u8 = 0x02;
const MULTIPOINT: u8 = 0x01;

/// A control packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Control {
    /// Diag: why the sender's session last left the state Up.
    pub diagnostic: Diagnostic,
    /// Sta: the sender's state.
    pub state: State,
    /// P and F.
    pub sequence: Sequence,
    /// C: the sender's BFD does not share the fate of its control plane.
    pub control_plane_independent: bool,
    /// D: the sender asks that no periodic packets be sent to it.
    pub demand: bool,
    /// Detect Mult.
    pub detect_multiplier: NonZeroU8,
    /// My Discriminator: the sender's number of the session.
    pub my_discriminator: NonZeroU32,
    /// Your Discriminator: the receiver's number of the session as the sender knows it; `None` only in the states Down
    /// and AdminDown.
    pub your_discriminator: Option<NonZeroU32>,
    /// Desired Min TX Interval, in microseconds.
    pub desired_min_tx: u32,
    /// Required Min RX Interval, in microseconds; 0 = the sender wants no periodic packets.
    pub required_min_rx: u32,
    /// Required Min Echo RX Interval, in microseconds; 0 = the sender does not return echo packets.
    pub required_min_echo_rx: u32,
}

/// State of a session (RFC 5880 section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Held down by the operator.
    AdminDown,
    /// Nothing is heard, or the neighbour does not hear us.
    Down,
    /// The neighbour is heard.
    Init,
    /// Both hear each other.
    Up,
}

impl State {
    const fn to_bits(self) -> u8 {
        match self {
            Self::AdminDown => 0,
            Self::Down => 1,
            Self::Init => 2,
            Self::Up => 3,
        }
    }

    /// The state of two bits; higher ones do not count.
    const fn of_bits(bits: u8) -> Self {
        match bits & 0x03 {
            0 => Self::AdminDown,
            1 => Self::Down,
            2 => Self::Init,
            _ => Self::Up,
        }
    }
}

impl fmt::Display for State {
    /// The RFC's word.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::AdminDown => "AdminDown",
            Self::Down => "Down",
            Self::Init => "Init",
            Self::Up => "Up",
        })
    }
}

/// Poll and Final bits, of which a packet has one at most (RFC 5880 section 6.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Sequence {
    /// Neither.
    #[default]
    Neither,
    /// P: the sender asks for an answer with F.
    Poll,
    /// F: the answer.
    Final,
}

/// Reason of the last change of state; five bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Diagnostic(u8);

impl Diagnostic {
    /// No diagnostic.
    pub const NONE: Self = Self(0);
    /// Nothing was received for the detection time.
    pub const DETECTION_TIME_EXPIRED: Self = Self(1);
    /// The neighbour said that its session is down.
    pub const NEIGHBOR_SIGNALED_DOWN: Self = Self(3);
    /// The operator took the session down.
    pub const ADMINISTRATIVELY_DOWN: Self = Self(7);

    /// Diagnostic of a code; `None` above 31.
    pub const fn new(code: u8) -> Option<Self> {
        if code < 32 { Some(Self(code)) } else { None }
    }

    /// The code, 0 to 31.
    pub const fn code(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Diagnostic {
    /// The words of RFC 5880 section 4.1 (9: RFC 6428).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self.0 {
            0 => "no diagnostic",
            1 => "control detection time expired",
            2 => "echo function failed",
            3 => "neighbor signaled session down",
            4 => "forwarding plane reset",
            5 => "path down",
            6 => "concatenated path down",
            7 => "administratively down",
            8 => "reverse concatenated path down",
            9 => "mis-connectivity defect",
            code => return write!(f, "unknown diagnostic {code}"),
        })
    }
}

/// Rule of RFC 5880 that a byte string breaks; section 6.8.6 if no other is named.
///
/// Exhaustive on purpose: whoever receives has a counter for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum DecodeError {
    /// It ends before the header does.
    #[error("{got} bytes are fewer than the {LENGTH} of a control packet")]
    Short {
        /// Bytes there are.
        got: usize,
    },
    /// The version is not 1.
    #[error("version {got} is not 1")]
    Version {
        /// The version.
        got: u8,
    },
    /// Length is below that of the header, or beyond the end.
    #[error("length field {field} is outside of {LENGTH} to {bytes}")]
    Length {
        /// The field.
        field: u8,
        /// Bytes there are.
        bytes: usize,
    },
    /// Detect Mult is 0.
    #[error("detection multiplier is 0")]
    Multiplier,
    /// M is set.
    #[error("multipoint bit is set")]
    Multipoint,
    /// My Discriminator is 0.
    #[error("my discriminator is 0")]
    MyDiscriminator,
    /// Your Discriminator is 0 in a state that is reached only by knowing it.
    #[error("your discriminator is 0 in state {state}")]
    YourDiscriminator {
        /// The state.
        state: State,
    },
    /// A is set, and no authentication is in use.
    #[error("authentication bit is set, and no authentication is in use")]
    Authentication,
    /// P and F are set (section 6.5).
    #[error("poll and final bits are set together")]
    PollAndFinal,
}

impl Control {
    /// Reads a packet; bytes beyond its length field do not count.
    ///
    /// # Errors
    /// [`DecodeError`]: the first rule it breaks, in the RFC's order.
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        let short = DecodeError::Short { got: bytes.len() };
        let (&[first, flags, multiplier, length], rest) =
            bytes.split_first_chunk::<4>().ok_or(short)?;
        if first >> 5 != VERSION {
            return Err(DecodeError::Version { got: first >> 5 });
        }
        let (mine, rest) = word(rest).ok_or(short)?;
        let (yours, rest) = word(rest).ok_or(short)?;
        let (desired_min_tx, rest) = word(rest).ok_or(short)?;
        let (required_min_rx, rest) = word(rest).ok_or(short)?;
        let (required_min_echo_rx, _) = word(rest).ok_or(short)?;
        if usize::from(length) < LENGTH || usize::from(length) > bytes.len() {
            return Err(DecodeError::Length { field: length, bytes: bytes.len() });
        }
        let detect_multiplier = NonZeroU8::new(multiplier).ok_or(DecodeError::Multiplier)?;
        if flags & MULTIPOINT != 0 {
            return Err(DecodeError::Multipoint);
        }
        let my_discriminator = NonZeroU32::new(mine).ok_or(DecodeError::MyDiscriminator)?;
        let your_discriminator = NonZeroU32::new(yours);
        let state = State::of_bits(flags >> 6);
        if your_discriminator.is_none() && matches!(state, State::Init | State::Up) {
            return Err(DecodeError::YourDiscriminator { state });
        }
        if flags & AUTHENTICATION != 0 {
            return Err(DecodeError::Authentication);
        }
        let sequence = match (flags & POLL != 0, flags & FINAL != 0) {
            (false, false) => Sequence::Neither,
            (true, false) => Sequence::Poll,
            (false, true) => Sequence::Final,
            (true, true) => return Err(DecodeError::PollAndFinal),
        };
        Ok(Self {
            diagnostic: Diagnostic(first & 0x1f),
            state,
            sequence,
            control_plane_independent: flags & CONTROL_PLANE_INDEPENDENT != 0,
            demand: flags & DEMAND != 0,
            detect_multiplier,
            my_discriminator,
            your_discriminator,
            desired_min_tx,
            required_min_rx,
            required_min_echo_rx,
        })
    }

    /// Writes the packet.
    pub fn emit(&self) -> [u8; LENGTH] {
        let mut flags = self.state.to_bits() << 6;
        flags |= match self.sequence {
            Sequence::Neither => 0,
            Sequence::Poll => POLL,
            Sequence::Final => FINAL,
        };
        if self.control_plane_independent {
            flags |= CONTROL_PLANE_INDEPENDENT;
        }
        if self.demand {
            flags |= DEMAND;
        }
        let [m0, m1, m2, m3] = self.my_discriminator.get().to_be_bytes();
        let [y0, y1, y2, y3] = self.your_discriminator.map_or(0, NonZeroU32::get).to_be_bytes();
        let [t0, t1, t2, t3] = self.desired_min_tx.to_be_bytes();
        let [r0, r1, r2, r3] = self.required_min_rx.to_be_bytes();
        let [e0, e1, e2, e3] = self.required_min_echo_rx.to_be_bytes();
        let first = VERSION << 5 | self.diagnostic.0;
        #[rustfmt::skip]
        let bytes = [
            first, flags, self.detect_multiplier.get(), LENGTH_FIELD,
            m0, m1, m2, m3,
            y0, y1, y2, y3,
            t0, t1, t2, t3,
            r0, r1, r2, r3,
            e0, e1, e2, e3,
        ];
        bytes
    }
}

const LENGTH_FIELD: u8 = 24;

/// The next four bytes as a number in network order, and what follows.
fn word(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (first, rest) = bytes.split_first_chunk()?;
    Some((u32::from_be_bytes(*first), rest))
}

#[cfg(test)]
mod tests;
