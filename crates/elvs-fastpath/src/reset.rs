//! Connections whose destination was removed, and the resets by which their clients are told to connect anew.
//!
//! IPVS drops their packets until they expire, or has them scheduled anew (`expire_nodest_conn`); `on_delete reset` of a
//! service is ELVS's own. The reset is that of a host which knows no such connection (RFC 9293 section 3.10.7.1), comes from
//! the virtual address and port, and leaves by the way that the packet came. It is never longer than the packet and ends the
//! entry, so there is one for each connection, and no limit.
//!
//! **Invariant:** the packet's own refusal is counted before; here is counted whether it was answered. A reset is never
//! answered by one.
//!
//! Called by the stages that look for connections, and by the program that answers.

use elvs_common::{Counter, DestinationFlags, SettingFlags, TCP, WideAddress};

use crate::checksum::fold;
use crate::flow::FoundOf;
use crate::frame::{Action, Frame};
use crate::host::{Host, drop};
use crate::open::Path;
use crate::packet::{Transport, parse_ipv4};
use crate::tcp::TcpFlags;
use crate::track::end_for;
use crate::wide::{WidePacket, parse_wide};

/// Bytes of a TCP header without options.
const SEGMENT: usize = 20;
/// Its length as IPv6 and checksums have it, in one byte.
const SEGMENT_BYTE: u8 = 20;
/// Bytes of an IPv4 header without options.
const IPV4_HEADER: usize = 20;
/// Length of a reset of IPv4, in one byte.
const IPV4_BYTE: u8 = 40;
/// Bytes of an IPv6 header.
const IPV6_HEADER: usize = 40;
/// Time to live, or hop limit, of a reset.
const TTL: u8 = 64;
/// Least frame that Ethernet has, without its checksum: a frame that is cut keeps as much.
const LEAST_FRAME: usize = 60;

/// A client's packet of a connection whose destination, with these flags, was removed.
#[inline(always)]
pub(crate) fn leave_removed<P: Path, H: Host>(
    host: &H,
    packet: &P::Packet,
    transport: &Transport,
    found: &FoundOf<'_, P::Memory<H>>,
    destination_flags: u32,
) -> Action {
    let resets = destination_flags & DestinationFlags::RESET != 0;
    let expires = host.settings() & SettingFlags::EXPIRE_NODEST_CONN != 0;
    if !resets && !expires {
        return drop(host, Counter::DestinationGone);
    }
    // In one place, since the kernel's verifier walks through it for each.
    end_for::<P, _>(host, found, Counter::ExpiredNodest);
    let tcp = P::protocol(packet) == TCP;
    // A client that connects anew is not told to: its connection goes elsewhere at once.
    let anew = if tcp && resets { transport.flags.syn() } else { expires };
    if anew {
        return P::OPEN;
    }
    if !tcp {
        return P::refuse_for_removed(host, packet);
    }
    host.count(Counter::DestinationGone);
    if transport.flags.resets() { Action::DROP } else { Action::RESET }
}

/// Stage of [`crate::process`] that turns a refused segment into the reset that answers it, or drops it.
#[inline(always)]
pub fn reset<H: Host, F: Frame>(host: &H, frame: &mut F) -> Action {
    let answered = match parse_ipv4(host, frame) {
        Some(ip) => {
            frame.forget();
            let header = ip.payload - ip.offset;
            answer(frame, ip.payload, ip.length as usize, header)
                .and_then(|answer| write_ipv4(host, frame, ip.offset, &answer))
        }
        None => parse_wide(host, frame).and_then(|packet| {
            frame.forget();
            let header = packet.payload - packet.offset;
            answer(frame, packet.payload, packet.length as usize, header)
                .and_then(|answer| write_ipv6(host, frame, &packet, &answer))
        }),
    };
    answered.unwrap_or(Action::DROP)
}

/// A reset's words, as they are loaded.
struct Answer {
    /// Source port (low half) and destination port.
    ports: u32,
    sequence: u32,
    acknowledgement: u32,
    flags: u8,
}

/// The answer to the segment at an offset of a packet of `length` bytes, behind `header` bytes of it (RFC 9293 section
/// 3.10.7.1).
#[inline(always)]
fn answer<F: Frame>(frame: &mut F, at: usize, length: usize, header: usize) -> Option<Answer> {
    let [p0, p1, q0, q1, s0, s1, s2, s3, a0, a1, a2, a3, words, flags, ..] =
        *frame.window::<SEGMENT>(at)?;
    let ports = u32::from_ne_bytes([q0, q1, p0, p1]);
    let flags = TcpFlags(flags);
    if flags.resets() {
        return None;
    }
    if flags.0 & TcpFlags::ACK != 0 {
        // "<SEQ=SEG.ACK><CTL=RST>"
        let sequence = u32::from_ne_bytes([a0, a1, a2, a3]);
        return Some(Answer { ports, sequence, acknowledgement: 0, flags: TcpFlags::RST });
    }
    // "<SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>"
    let data = length.checked_sub(header)?.checked_sub(((words >> 4) as usize) * 4)?;
    #[expect(clippy::cast_possible_truncation, reason = "at most 65,575 bytes")]
    let data = data as u32;
    let controls = flags.syn() as u32 + (flags.0 & TcpFlags::FIN != 0) as u32;
    let next = u32::from_be_bytes([s0, s1, s2, s3]).wrapping_add(data).wrapping_add(controls);
    let flags = TcpFlags::RST | TcpFlags::ACK;
    Some(Answer { ports, sequence: 0, acknowledgement: next.to_be(), flags })
}

/// Cuts the frame to an answer that ends at `end`, and sends it back by its MAC addresses.
#[inline(always)]
fn turn<H: Host, F: Frame>(host: &H, frame: &mut F, end: usize) -> Option<Action> {
    frame.forget();
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5] = *frame.window::<12>(0)?;
    if d0 & 1 != 0 {
        return None;
    }
    let there = (host.forget(frame.length() as u64) & 0xffff) as usize;
    let kept = if end < LEAST_FRAME { LEAST_FRAME } else { end };
    if there > kept && !frame.truncate(kept) {
        return Some(drop(host, Counter::Bug));
    }
    frame.forget();
    *frame.window::<12>(0)? = [s0, s1, s2, s3, s4, s5, d0, d1, d2, d3, d4, d5];
    frame.forget();
    host.count(Counter::ResetSent);
    Some(Action::TRANSMIT)
}

/// Writes an answer over the packet at an offset.
#[inline(always)]
fn write_ipv4<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    offset: usize,
    answer: &Answer,
) -> Option<Action> {
    frame.forget();
    let [_, tos, _, _, _, _, _, _, _, _, _, _, s0, s1, s2, s3, d0, d1, d2, d3] =
        *frame.window::<IPV4_HEADER>(offset)?;
    let action = turn(host, frame, offset + IPV4_HEADER + SEGMENT)?;
    if action != Action::TRANSMIT {
        return Some(action);
    }
    // The class of service of the segment without its congestion bits, identification 0 and "don't fragment", as Linux
    // resets (`tcp_v4_send_reset`).
    let tos = tos & 0xfc;
    let addresses = word(d0, d1) + word(d2, d3) + word(s0, s1) + word(s2, s3);
    let sum = word(0x45, tos) + word(0, IPV4_BYTE) + word(0x40, 0) + word(TTL, TCP) + addresses;
    let [c0, c1] = (!fold(sum)).to_ne_bytes();
    *frame.window::<IPV4_HEADER>(offset)? =
        [0x45, tos, 0, IPV4_BYTE, 0, 0, 0x40, 0, TTL, TCP, c0, c1, d0, d1, d2, d3, s0, s1, s2, s3];
    write_segment(frame, offset + IPV4_HEADER, answer, addresses)?;
    Some(action)
}

/// As [`write_ipv4`], of IPv6.
#[inline(always)]
fn write_ipv6<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    packet: &WidePacket,
    answer: &Answer,
) -> Option<Action> {
    let offset = packet.offset;
    frame.forget();
    let [class, more] = *frame.window::<2>(offset)?;
    let action = turn(host, frame, offset + IPV6_HEADER + SEGMENT)?;
    if action != Action::TRANSMIT {
        return Some(action);
    }
    let [version, flow, f0, f1, p0, p1, next, limit, addresses @ ..] =
        frame.window::<IPV6_HEADER>(offset)?;
    *version = 0x60 | class & 0x0f;
    *flow = more & 0xc0;
    [*f0, *f1] = [0; 2];
    [*p0, *p1] = [0, SEGMENT_BYTE];
    *next = TCP;
    *limit = TTL;
    let (from, to) = addresses.split_at_mut(16);
    from.copy_from_slice(&packet.destination.bytes());
    to.copy_from_slice(&packet.source.bytes());
    let addresses = halves(packet.source) + halves(packet.destination);
    write_segment(frame, offset + IPV6_HEADER, answer, addresses)?;
    Some(action)
}

/// Writes an answer's TCP header, for whose checksum `addresses` is the sum of both addresses.
#[inline(always)]
fn write_segment<F: Frame>(
    frame: &mut F,
    at: usize,
    answer: &Answer,
    addresses: u64,
) -> Option<()> {
    let pseudo = addresses + word(0, TCP) + word(0, SEGMENT_BYTE);
    let numbers = answer.sequence as u64 + answer.acknowledgement as u64;
    let sum = pseudo + answer.ports as u64 + numbers + word(WORDS, answer.flags);
    let [c0, c1] = (!fold(sum)).to_ne_bytes();
    frame.forget();
    let [p0, p1, q0, q1] = answer.ports.to_ne_bytes();
    let [s0, s1, s2, s3] = answer.sequence.to_ne_bytes();
    let [a0, a1, a2, a3] = answer.acknowledgement.to_ne_bytes();
    *frame.window::<SEGMENT>(at)? =
        [p0, p1, q0, q1, s0, s1, s2, s3, a0, a1, a2, a3, WORDS, answer.flags, 0, 0, c0, c1, 0, 0];
    Some(())
}

/// Data offset of a header without options, in the upper half of its byte.
const WORDS: u8 = 5 << 4;

/// Two bytes as they are summed up.
#[inline(always)]
const fn word(first: u8, second: u8) -> u64 {
    u16::from_ne_bytes([first, second]) as u64
}

/// Sum of an address, in halves of its words.
#[inline(always)]
const fn halves(address: WideAddress) -> u64 {
    let [first, second] = address.0;
    (first & 0xffff_ffff) + (first >> 32) + (second & 0xffff_ffff) + (second >> 32)
}
