//! SCTP: what a packet's chunks say, the kernel's `sctp_states` table (`ip_vs_proto_sctp.c`), and the checksum after a change.
//!
//! A row of the table holds the next state for each of the fourteen states, four bits apiece, as in [`crate::tcp`].
//!
//! **Invariant:** a packet with a wrong checksum keeps a wrong one.
//!
//! Called by the wide path.

use elvs_common::SctpState;

use crate::frame::Frame;
use crate::packet::Transport;
use crate::tcp::{Direction, TcpFlags};

/// Bytes of the common header (RFC 9260 section 3.1).
const COMMON_HEADER: usize = 12;
/// Bytes of a chunk's header (section 3.2).
const CHUNK_HEADER: usize = 4;

/// Types of chunks (section 3.2).
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const ERROR: u8 = 9;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;

/// Event of a chunk, as its own type; all types without one count as DATA.
const DATA: u8 = 0;
/// Bit in the flags of a packet: its first chunk is an ABORT, so that it may open nothing.
const FIRST_ABORTS: u8 = 0x10;

/// Ports and flags of the packet whose common header lies at `offset`; `None` if its `length` bytes have no chunk.
#[inline(always)]
pub(crate) fn parse_sctp<F: Frame>(
    frame: &mut F,
    offset: usize,
    length: usize,
) -> Option<Transport> {
    if length < COMMON_HEADER + CHUNK_HEADER {
        return None;
    }
    let [p0, p1, p2, p3, _, _, _, _, _, _, _, _, chunk, _, l0, l1] = *frame.window::<16>(offset)?;
    let ports = u32::from_ne_bytes([p0, p1, p2, p3]);
    let next = chunk_end(u16::from_be_bytes([l0, l1]));
    let bundled = if next != 0 && COMMON_HEADER + next + CHUNK_HEADER <= length {
        frame.window::<CHUNK_HEADER>(offset + COMMON_HEADER + next).map(|[chunk, ..]| *chunk)
    } else {
        None
    };
    Some(Transport { ports, flags: sctp_event(chunk, bundled) })
}

/// Where the chunk after one of `length` bytes begins; 0 if that is less than its header, or more than a frame can have.
#[inline(always)]
const fn chunk_end(length: u16) -> usize {
    let end = length as usize + 3;
    if end < CHUNK_HEADER + 3 || end > 0x3fff { 0 } else { end & 0x3ffc }
}

/// What the types of a packet's first two chunks say: the event of the state table. An ABORT may follow the cookie and its
/// acknowledgement (`set_sctp_state`).
#[inline(always)]
pub const fn sctp_event(first: u8, second: Option<u8>) -> TcpFlags {
    let cookie = first == COOKIE_ECHO || first == COOKIE_ACK;
    if first == ABORT {
        return TcpFlags(ABORT | FIRST_ABORTS);
    }
    if cookie && matches!(second, Some(ABORT)) {
        return TcpFlags(ABORT);
    }
    let known = matches!(
        first,
        INIT | INIT_ACK
            | SHUTDOWN
            | SHUTDOWN_ACK
            | ERROR
            | COOKIE_ECHO
            | COOKIE_ACK
            | SHUTDOWN_COMPLETE
    );
    TcpFlags(if known { first } else { DATA })
}

/// Whether a packet may open an association: its first chunk is an INIT.
#[inline(always)]
pub(crate) const fn opens(flags: TcpFlags) -> bool {
    flags.0 == INIT
}

/// Whether a packet's first chunk is an ABORT.
#[inline(always)]
pub(crate) const fn aborts(flags: TcpFlags) -> bool {
    flags.0 & FIRST_ABORTS != 0
}

const fn row(next: [u8; 14]) -> u64 {
    let mut word = 0;
    let mut i = 0;
    while i < 14 {
        #[expect(
            clippy::indexing_slicing,
            reason = "constant evaluation; the index is bounded by the loop"
        )]
        let state = next[i] as u64;
        word |= state << (i * 4);
        i += 1;
    }
    word
}

const NO: u8 = SctpState::None as u8;
const I1: u8 = SctpState::Init1 as u8;
const IN: u8 = SctpState::Init as u8;
const CS: u8 = SctpState::CookieSent as u8;
const CR: u8 = SctpState::CookieReplied as u8;
const CW: u8 = SctpState::CookieWait as u8;
const CO: u8 = SctpState::Cookie as u8;
const CE: u8 = SctpState::CookieEchoed as u8;
const ES: u8 = SctpState::Established as u8;
const SS: u8 = SctpState::ShutdownSent as u8;
const SR: u8 = SctpState::ShutdownReceived as u8;
const SA: u8 = SctpState::ShutdownAckSent as u8;
const RJ: u8 = SctpState::Rejected as u8;
const CL: u8 = SctpState::Closed as u8;

const _: () = assert!(NO == 0);

//                                    NO  I1  IN  CS  CR  CW  CO  CE  ES  SS  SR  SA  RJ  CL
const INPUT_DATA: u64 = row([ES, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL]);
const INPUT_INIT: u64 = row([I1, IN, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, IN, IN]);
const INPUT_INIT_ACK: u64 = row([CW, CW, CW, CS, CR, CO, CO, CE, ES, SS, SR, SA, RJ, CL]);
const INPUT_COOKIE: u64 = row([CR, IN, IN, CR, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL]);
const INPUT_COOKIE_ACK: u64 = row([ES, I1, IN, CS, CR, CW, CO, ES, ES, SS, SR, SA, RJ, CL]);
const INPUT_SHUTDOWN: u64 = row([SR, I1, IN, CS, CR, CW, CO, CE, SR, SS, SR, SA, RJ, CL]);
const INPUT_SHUTDOWN_ACK: u64 = row([CL, IN, IN, CS, CR, CW, CO, CE, ES, CL, SR, CL, RJ, CL]);
const INPUT_COMPLETE: u64 = row([CL, CL, CL, CS, CR, CW, CO, CE, ES, SS, SR, CL, RJ, CL]);
const INPUT_ERROR: u64 = row([CL, I1, IN, CS, CR, CW, CO, CL, ES, SS, SR, SA, RJ, CL]);
const INPUT_ABORT: u64 = row([CL, CL, CL, CL, CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL]);

const OUTPUT_DATA: u64 = row([ES, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL]);
const OUTPUT_INIT: u64 = row([CW, CW, CW, CW, CW, CW, CW, CW, ES, CW, CW, CW, CW, CW]);
const OUTPUT_INIT_ACK: u64 = row([CS, CS, CS, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL]);
const OUTPUT_COOKIE: u64 = row([CE, CE, CE, CE, CE, CE, CE, CE, ES, SS, SR, SA, RJ, CL]);
const OUTPUT_COOKIE_ACK: u64 = row([ES, ES, ES, ES, ES, ES, ES, ES, ES, SS, SR, SA, RJ, CL]);
const OUTPUT_SHUTDOWN: u64 = row([SS, SS, SS, SS, SS, SS, SS, SS, SS, SS, SR, SA, RJ, CL]);
const OUTPUT_SHUTDOWN_ACK: u64 = row([SA, SA, SA, SA, SA, CW, CO, CE, ES, SA, SA, SA, RJ, CL]);
const OUTPUT_COMPLETE: u64 = row([CL, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL]);
const OUTPUT_ERROR: u64 = row([CL, CL, CL, CL, CL, CW, CO, CE, ES, SS, SR, SA, RJ, CL]);
const OUTPUT_ABORT: u64 = row([CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL]);

const ONLY_DATA: u64 = row([ES, I1, IN, CS, CR, ES, CO, CE, ES, SS, SR, SA, RJ, CL]);
const ONLY_INIT: u64 = row([I1, IN, IN, IN, IN, IN, CO, CE, ES, SS, SR, SA, IN, IN]);
const ONLY_INIT_ACK: u64 = row([CE, CE, CE, CE, CE, CE, CO, CE, ES, SS, SR, SA, RJ, CL]);
const ONLY_COOKIE: u64 = row([ES, ES, ES, ES, ES, ES, CO, CE, ES, SS, SR, SA, RJ, CL]);
const ONLY_COOKIE_ACK: u64 = row([ES, I1, IN, ES, ES, CW, ES, ES, ES, SS, SR, SA, RJ, CL]);
const ONLY_SHUTDOWN: u64 = row([SR, I1, IN, CS, CR, CW, CO, CE, SR, SS, SR, SA, RJ, CL]);
const ONLY_SHUTDOWN_ACK: u64 = row([CL, IN, IN, CS, CR, CW, CO, CE, CL, CL, SR, CL, RJ, CL]);
const ONLY_COMPLETE: u64 = row([CL, CL, CL, CL, CL, CW, CO, CE, ES, SS, CL, CL, RJ, CL]);
const ONLY_ERROR: u64 = row([CL, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL]);
const ONLY_ABORT: u64 = row([CL, CL, CL, CL, CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL]);

/// State after a packet with `flags` (see [`sctp_event`]) in `state` (bits of an [`SctpState`]).
#[inline(always)]
pub const fn next_sctp_state(direction: Direction, state: u8, flags: TcpFlags) -> u8 {
    let rows = match direction {
        Direction::Input => [
            INPUT_DATA,
            INPUT_INIT,
            INPUT_INIT_ACK,
            INPUT_COOKIE,
            INPUT_COOKIE_ACK,
            INPUT_SHUTDOWN,
            INPUT_SHUTDOWN_ACK,
            INPUT_COMPLETE,
            INPUT_ERROR,
            INPUT_ABORT,
        ],
        Direction::Output => [
            OUTPUT_DATA,
            OUTPUT_INIT,
            OUTPUT_INIT_ACK,
            OUTPUT_COOKIE,
            OUTPUT_COOKIE_ACK,
            OUTPUT_SHUTDOWN,
            OUTPUT_SHUTDOWN_ACK,
            OUTPUT_COMPLETE,
            OUTPUT_ERROR,
            OUTPUT_ABORT,
        ],
        Direction::InputOnly => [
            ONLY_DATA,
            ONLY_INIT,
            ONLY_INIT_ACK,
            ONLY_COOKIE,
            ONLY_COOKIE_ACK,
            ONLY_SHUTDOWN,
            ONLY_SHUTDOWN_ACK,
            ONLY_COMPLETE,
            ONLY_ERROR,
            ONLY_ABORT,
        ],
    };
    let [data, init, init_ack, cookie, cookie_ack, shutdown, shutdown_ack, complete, error, abort] =
        rows;
    let row = match flags.0 & 15 {
        INIT => init,
        INIT_ACK => init_ack,
        COOKIE_ECHO => cookie,
        COOKIE_ACK => cookie_ack,
        SHUTDOWN => shutdown,
        SHUTDOWN_ACK => shutdown_ack,
        SHUTDOWN_COMPLETE => complete,
        ERROR => error,
        ABORT => abort,
        _ => data,
    };
    (row >> ((state & 15) * 4) & 15) as u8
}

/// CRC32c's polynomial (RFC 9260 appendix A), least significant bit first, as everything here.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// What a change of both ports changes the CRC32c of a packet of `length` bytes by, common header included. `ports` are the
/// old ones exclusive-or the new ones, as loaded; the answer is to be exclusive-ored to the checksum, read little-endian.
///
/// A CRC is linear: the change is the remainder of the changed bits, shifted to where they lie, which takes a multiplication
/// for each bit of the length instead of a walk through the packet. That a checksum that was wrong stays wrong is the point:
/// IPVS computes it anew (`sctp_nat_csum`) and so gives damaged packets a good one.
#[inline(always)]
pub const fn checksum_change(ports: u32, length: u32) -> u32 {
    // The ports are the first four bytes: `ports` as bytes in packet order, by x to the power of 8 for each byte from there on.
    let change = u32::from_le(ports);
    let change = shift::<0>(change, length);
    let change = shift::<1>(change, length);
    let change = shift::<2>(change, length);
    let change = shift::<3>(change, length);
    let change = shift::<4>(change, length);
    let change = shift::<5>(change, length);
    let change = shift::<6>(change, length);
    let change = shift::<7>(change, length);
    let change = shift::<8>(change, length);
    let change = shift::<9>(change, length);
    let change = shift::<10>(change, length);
    let change = shift::<11>(change, length);
    let change = shift::<12>(change, length);
    let change = shift::<13>(change, length);
    let change = shift::<14>(change, length);
    shift::<15>(change, length)
}

/// A remainder times x to the power of 8 * 2^`BIT`, if the length has that bit.
#[inline(always)]
const fn shift<const BIT: u32>(remainder: u32, length: u32) -> u32 {
    let power = const { power(BIT) };
    if length >> BIT & 1 != 0 { multiply(power, remainder) } else { remainder }
}

/// x to the power of 8 * 2^`bit`.
const fn power(bit: u32) -> u32 {
    // x to the power of 8: bit 31 is that of 0.
    let mut power = 1 << 23;
    let mut i = 0;
    while i < bit {
        power = multiply(power, power);
        i += 1;
    }
    power
}

/// Product of two remainders.
#[inline(always)]
const fn multiply(factor: u32, remainder: u32) -> u32 {
    let mut product = 0;
    let (mut factor, mut term) = (factor, remainder);
    let mut i = 0;
    while i < 32 {
        product ^= term & (factor >> 31).wrapping_neg();
        factor <<= 1;
        term = term >> 1 ^ POLYNOMIAL & (term & 1).wrapping_neg();
        i += 1;
    }
    product
}

#[cfg(test)]
mod tests;
