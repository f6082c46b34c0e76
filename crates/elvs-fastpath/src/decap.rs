//! The far end of a tunnel: outer headers off, for a real server without tunnel devices.
//!
//! **Invariant:** a packet whose outer headers are not understood to the last bit, or whose checksum is wrong, is left as
//! it came: it is for the host's stack to answer or to count.
//!
//! Called by the real server's program.

use elvs_common::UDP;

use crate::checksum::{fold, sum_of};
use crate::frame::ShrinkFrame;
use crate::packet::{IPV4, IPV6, Link};

/// IP protocol numbers.
const IPIP: u8 = 4;
const IPV6_IN_IP: u8 = 41;
const GRE: u8 = 47;
/// Flag of private data in a GUE header.
const PRIVATE: u16 = 1;
/// Flag of remote checksum offload in private data.
const REMOTE_CHECKSUM: u32 = 1 << 31;

/// The outer IP header.
#[derive(Clone, Copy)]
struct Outer {
    protocol: u8,
    /// Bytes of the header.
    header: u64,
    /// Bytes after it.
    payload: u64,
    /// Sum of the addresses.
    ends: u64,
}

/// What a tunnel's own header says of the packet in it.
#[derive(Clone, Copy)]
struct Wrapped {
    v6: bool,
    /// Bytes of the header.
    header: u64,
    /// Where a checksum that is to be finished begins in the packet inside, and where it goes.
    remote: Option<(u64, u64)>,
}

impl Wrapped {
    /// The packet of an IP protocol number after a header.
    const fn of_protocol(protocol: u8, header: u64) -> Option<Self> {
        match protocol {
            IPIP => Some(Self { v6: false, header, remote: None }),
            IPV6_IN_IP => Some(Self { v6: true, header, remote: None }),
            _ => None,
        }
    }
}

/// Takes the outer headers off a packet that came through a tunnel: IP in IP, GRE, and GUE to the UDP port `gue`, host
/// order. `None` says that it is none, and then nothing has changed.
///
/// `forget` is [`crate::Host::forget`] in the kernel.
#[inline(always)]
pub fn decapsulate<F: ShrinkFrame>(
    forget: impl Fn(u64) -> u64 + Copy,
    frame: &mut F,
    gue: u16,
) -> Option<()> {
    let link = Link::read(frame)?;
    let offset = (forget(link.offset as u64) & 0x1f) as usize;
    let outer = match link.ethertype {
        IPV4 => outer_v4(frame, offset)?,
        IPV6 => outer_v6(frame, offset)?,
        _ => return None,
    };
    let at = (forget(offset as u64 + outer.header) & 0x7f) as usize;
    let wrapped = match outer.protocol {
        UDP => read_gue(forget, frame, at, &outer, gue)?,
        GRE => read_gre(forget, frame, at, &outer)?,
        protocol => Wrapped::of_protocol(protocol, 0)?,
    };
    let inner = (forget(at as u64 + wrapped.header) & 0xff) as usize;
    let [version, ..] = *frame.window::<20>(inner)?;
    if version >> 4 != (if wrapped.v6 { 6 } else { 4 }) {
        return None;
    }
    let addresses = *frame.window::<12>(0)?;
    let length = outer.payload.checked_sub(wrapped.header)?;
    if let Some((start, field)) = wrapped.remote {
        finish_checksum(forget, frame, inner, length, start, field)?;
    }
    if !frame.shrink_front_by(((outer.header + wrapped.header) & 0xff) as usize) {
        return None;
    }
    link.write(frame, offset, addresses, if wrapped.v6 { IPV6 } else { IPV4 })
}

#[inline(always)]
fn outer_v4<F: ShrinkFrame>(frame: &mut F, offset: usize) -> Option<Outer> {
    let frame_length = frame.length();
    let [version_ihl, _, l0, l1, _, _, f0, f1, _, protocol, ..] = *frame.window::<20>(offset)?;
    let ends = frame.word(offset + 12)? as u64 + frame.word(offset + 16)? as u64;
    let length = u16::from_be_bytes([l0, l1]) as u64;
    let fragment = u16::from_be_bytes([f0, f1]) & 0x3fff != 0;
    if version_ihl != 0x45
        || fragment
        || length < 20
        || offset as u64 + length > frame_length as u64
    {
        return None;
    }
    Some(Outer { protocol, header: 20, payload: length - 20, ends })
}

#[inline(always)]
fn outer_v6<F: ShrinkFrame>(frame: &mut F, offset: usize) -> Option<Outer> {
    let frame_length = frame.length();
    let [first, _, _, _, l0, l1, protocol, _] = *frame.window::<8>(offset)?;
    let ends = frame.sum::<8>(offset + 8)?;
    let payload = u16::from_be_bytes([l0, l1]) as u64;
    if first >> 4 != 6 || offset as u64 + 40 + payload > frame_length as u64 {
        return None;
    }
    Some(Outer { protocol, header: 40, payload, ends })
}

/// A UDP and a GUE header of variant 0 (draft-ietf-intarea-gue; `gue_udp_recv`).
#[inline(always)]
fn read_gue<F: ShrinkFrame>(
    forget: impl Fn(u64) -> u64 + Copy,
    frame: &mut F,
    at: usize,
    outer: &Outer,
    port: u16,
) -> Option<Wrapped> {
    let [_, _, p0, p1, l0, l1, c0, c1, first, protocol, f0, f1] = *frame.window::<12>(at)?;
    let length = u16::from_be_bytes([l0, l1]) as u64;
    // Neither another variant nor a control message.
    if u16::from_be_bytes([p0, p1]) != port || length != outer.payload || first >> 5 != 0 {
        return None;
    }
    let words = first as u64 & 0x1f;
    let remote = match u16::from_be_bytes([f0, f1]) {
        0 if words == 0 => None,
        PRIVATE if words == 2 => {
            let [v0, v1, v2, v3, s0, s1, d0, d1] = *frame.window::<8>(at + 12)?;
            if u32::from_be_bytes([v0, v1, v2, v3]) != REMOTE_CHECKSUM {
                return None;
            }
            let place = |high, low| u16::from_be_bytes([high, low]) as u64;
            Some((place(s0, s1), place(d0, d1)))
        }
        _ => return None,
    };
    // RFC 768: 0 means that the sender computed none.
    if [c0, c1] != [0; 2] {
        let pseudo = outer.ends + word([0, UDP]) + word([l0, l1]);
        if fold(sum_of(forget, frame, at, length)? + pseudo) != 0xffff {
            return None;
        }
    } else if remote.is_some() {
        // A checksum that nobody vouches for is not to be finished.
        return None;
    }
    let inner = Wrapped::of_protocol(protocol, 12 + words * 4)?;
    Some(Wrapped { remote, ..inner })
}

/// A GRE header (RFC 2784), which may have a checksum and nothing else.
#[inline(always)]
fn read_gre<F: ShrinkFrame>(
    forget: impl Fn(u64) -> u64 + Copy,
    frame: &mut F,
    at: usize,
    outer: &Outer,
) -> Option<Wrapped> {
    let [f0, f1, p0, p1] = *frame.window::<4>(at)?;
    let header = match [f0, f1] {
        [0, 0] => 4,
        [0x80, 0] => 8,
        _ => return None,
    };
    if header == 8 && fold(sum_of(forget, frame, at, outer.payload)?) != 0xffff {
        return None;
    }
    let v6 = match u16::from_be_bytes([p0, p1]) {
        IPV4 => false,
        IPV6 => true,
        _ => return None,
    };
    Some(Wrapped { v6, header, remote: None })
}

/// Finishes a transport checksum that the other end of the tunnel left to this one (`gue_remcsum`): its field holds the sum
/// of the pseudo header.
#[inline(always)]
fn finish_checksum<F: ShrinkFrame>(
    forget: impl Fn(u64) -> u64 + Copy,
    frame: &mut F,
    inner: usize,
    length: u64,
    start: u64,
    field: u64,
) -> Option<()> {
    // Headers of IPv4 and IPv6 are shorter than this, and the sum takes words from where it begins.
    if start & 1 != 0 || start >= 64 || field < start || field >= 128 || field + 2 > length {
        return None;
    }
    // Where a sum may begin is bounded: the packet's beginning is summed up as well and taken off again.
    let whole = sum_of(forget, frame, inner, length)?;
    let before = sum_of(forget, frame, inner, start)?;
    let sum = fold(whole) as u64 + (!fold(before)) as u64;
    let place = (forget(inner as u64 + field) & 0x1ff) as usize;
    *frame.window::<2>(place)? = (!fold(sum)).to_ne_bytes();
    Some(())
}

/// Two bytes as a word of a sum.
#[inline(always)]
const fn word([a, b]: [u8; 2]) -> u64 {
    u16::from_ne_bytes([a, b]) as u64
}
