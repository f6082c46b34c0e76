//! ICMPv6 errors of the director's own: whoever sent a packet that is refused is told why.
//!
//! As [`crate::report()`], by the rules of RFC 4443: up to 1,280 bytes in all, and none where section 2.4 forbids it.
//!
//! **Invariant:** the packet's own refusal is counted before; here is counted whether it was answered.
//!
//! Called by [`crate::report()`].

use elvs_common::{Counter, ICMPV6, WideAddress};

use super::packet::{HEADER, WidePacket, parse_wide};
use crate::checksum::{fold, sum_of};
use crate::frame::{Action, Frame};
use crate::host::{Host, Note, drop};
use crate::packet::is_balanced;
use crate::report::{Report, allowed, withhold};

/// Bytes of an IPv6 header and an ICMPv6 header.
const HEADERS: usize = 48;
/// Least MTU that IPv6 has, and the most that an error takes.
const MIN_MTU: u32 = 1_280;
/// Most bytes quoted.
const MAX_QUOTE: usize = 1_280 - HEADERS;
/// Hop limit of an answer.
const HOP_LIMIT: u8 = 64;

/// A packet that an answer is about.
struct Quoted {
    source: WideAddress,
    /// Traffic class in the lower bits of the first byte and the upper ones of the second.
    class: [u8; 2],
    /// Bytes that are quoted.
    length: usize,
}

/// Turns a refused packet of IPv6 into the answer to its sender, or drops it.
#[inline(always)]
pub(crate) fn report_wide<H: Host, F: Frame>(host: &H, frame: &mut F, report: Report) -> Action {
    let Some(packet) = parse_wide(host, frame) else {
        return withhold(host, report, Counter::IcmpWithheld);
    };
    frame.forget();
    // The bytes between the MAC addresses and the IP header: Ethernet type and VLAN tags.
    let answered = match packet.offset {
        14 => answer::<_, _, 2>(host, frame, &packet, report),
        18 => answer::<_, _, 6>(host, frame, &packet, report),
        _ => answer::<_, _, 10>(host, frame, &packet, report),
    };
    answered.unwrap_or_else(|| withhold(host, report, Counter::IcmpWithheld))
}

/// `TAGS` bytes lie between the MAC addresses and the IP header.
#[inline(always)]
fn answer<H: Host, F: Frame, const TAGS: usize>(
    host: &H,
    frame: &mut F,
    packet: &WidePacket,
    report: Report,
) -> Option<Action> {
    let source = WideAddress([host.noted(Note::Source), host.noted(Note::SourceEnd)]);
    let quoted = quoted::<_, _, TAGS>(host, frame, packet)?;
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5] = *frame.window::<12>(0)?;
    let tags = *frame.window::<TAGS>(12)?;
    if source == WideAddress::default() || d0 & 1 != 0 {
        return None;
    }
    if !allowed(host, report.budget()) {
        return Some(withhold(host, report, Counter::IcmpLimited));
    }
    if !frame.grow_front::<HEADERS>() {
        return None;
    }
    if !frame.truncate(12 + TAGS + HEADERS + quoted.length) {
        return Some(drop(host, Counter::Bug));
    }
    *frame.window::<12>(0)? = [s0, s1, s2, s3, s4, s5, d0, d1, d2, d3, d4, d5];
    *frame.window::<TAGS>(12)? = tags;
    write_ip::<_, TAGS>(frame, &quoted, source)?;
    write_icmp::<_, _, TAGS>(host, frame, report, quoted.length)?;
    host.count(Counter::IcmpSent);
    Some(Action::TRANSMIT)
}

/// The packet that is there; `None` if it must not be answered (RFC 4443 section 2.4).
#[inline(always)]
fn quoted<H: Host, F: Frame, const TAGS: usize>(
    host: &H,
    frame: &mut F,
    packet: &WidePacket,
) -> Option<Quoted> {
    let available = (host.forget(frame.length() as u64) & 0xffff) as usize;
    let available = available.saturating_sub(12 + TAGS);
    let [first, second, _, _, _, _, _, _, addresses @ ..] = *frame.window::<HEADER>(12 + TAGS)?;
    let [s0, ..] = addresses;
    let [.., d0, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = addresses;
    let source = packet.source.0;
    // Nobody, the host itself and groups are never told, nor is who sent to groups; nor is an error ever answered by one.
    let nobody = source == [0, 0] || source == [0, LOOPBACK] || s0 == 0xff || d0 == 0xff;
    if !packet.ipv6 || nobody || !is_balanced(packet.protocol) {
        return None;
    }
    let length = (packet.length as usize).min(available).min(MAX_QUOTE);
    (length >= HEADER).then_some(Quoted {
        source: packet.source,
        class: [first & 0x0f, second & 0xf0],
        length,
    })
}

/// Second word of the loopback address.
const LOOPBACK: u64 = 1u64.to_be();

/// The answer's IP header.
#[inline(always)]
fn write_ip<F: Frame, const TAGS: usize>(
    frame: &mut F,
    quoted: &Quoted,
    source: WideAddress,
) -> Option<()> {
    let [class, more] = quoted.class;
    let [l0, l1, ..] = (HEADERS - HEADER + quoted.length).to_le_bytes();
    let [version, flow, f0, f1, p0, p1, next, limit, addresses @ ..] =
        frame.window::<HEADER>(12 + TAGS)?;
    *version = 0x60 | class;
    *flow = more;
    [*f0, *f1] = [0; 2];
    [*p0, *p1] = [l1, l0];
    *next = ICMPV6;
    *limit = HOP_LIMIT;
    let (from, to) = addresses.split_at_mut(16);
    from.copy_from_slice(&source.bytes());
    to.copy_from_slice(&quoted.source.bytes());
    Some(())
}

/// The answer's ICMPv6 header, between an IPv6 header and `quoted` bytes that are there.
#[inline(always)]
fn write_icmp<H: Host, F: Frame, const TAGS: usize>(
    host: &H,
    frame: &mut F,
    report: Report,
    quoted: usize,
) -> Option<()> {
    let start = 12 + TAGS + HEADERS;
    let (kind, code, rest) = message(report);
    let [r0, r1, r2, r3] = rest.to_be_bytes();
    let [l0, l1, ..] = (HEADERS - HEADER + quoted).to_le_bytes();
    // The pseudo-header is length, next header and both addresses.
    let addresses = sum_of(|sum| host.forget(sum), frame, 12 + TAGS + 8, 32)?;
    let sum = u16::from_ne_bytes([l1, l0]) as u64
        + u16::from_ne_bytes([0, ICMPV6]) as u64
        + u16::from_ne_bytes([kind, code]) as u64
        + u16::from_ne_bytes([r0, r1]) as u64
        + u16::from_ne_bytes([r2, r3]) as u64
        + addresses
        + sum_of(|sum| host.forget(sum), frame, start, quoted as u64)?;
    let [c0, c1] = (!fold(sum)).to_ne_bytes();
    *frame.window::<8>(12 + TAGS + HEADER)? = [kind, code, c0, c1, r0, r1, r2, r3];
    Some(())
}

/// Type, code and second word of the message that says in ICMPv6 what a report says in ICMP.
#[inline(always)]
const fn message(report: Report) -> (u8, u8, u32) {
    if report.kind() != Report::UNREACHABLE {
        // Hop limit exceeded in transit.
        return (3, 0, 0);
    }
    if report.code() != Report::FRAGMENTATION_NEEDED {
        // Port unreachable.
        return (1, 4, 0);
    }
    // Packet too big. RFC 8200 section 5: every link takes that many.
    let mtu = if report.rest() < MIN_MTU { MIN_MTU } else { report.rest() };
    (2, 0, mtu)
}
