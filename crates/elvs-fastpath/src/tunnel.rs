//! Wrapping a packet for a tunnel other than IPv4 in IPv4: GUE, GRE, and IP in IP where a family is IPv6.
//!
//! **Invariant:** a packet is changed only when it is certain that it can be sent; what leaves is what the kernel's
//! `ip_vs_tunnel_xmit` and `ip_vs_tunnel_xmit_v6` send for a packet that came with its checksum complete.
//!
//! Called by [`crate::process`] and by the stage of its own in the kernel, after [`crate::forward`] has left the
//! destination's index in [`Note::Destination`].

use elvs_common::{
    Counter, DestinationFlags, DestinationRecord, NextHop, TCP, TunnelFlags, TunnelKind, UDP,
    WideAddress,
};

use crate::checksum::{fold, sum_of};
use crate::flow::flow_hash;
use crate::forward::{age, leave};
use crate::frame::{Action, Frame};
use crate::host::{Host, Note, drop};
use crate::packet::{IPV4, IPV6, Link};
use crate::report::{Report, refuse_and_tell_wide};
use crate::wide::hop_of;

/// Longest packet that is wrapped, bytes with its outer headers: what [`sum_of`] sums up.
const LONGEST: u32 = 16_384;
/// Bytes of a UDP header and of a GUE header without private data.
const GUE: usize = 12;
/// The same as a length.
const GUE_BYTES: u32 = 12;
/// IP protocol numbers of what an outer header may be followed by.
const IPIP: u8 = 4;
const IPV6_IN_IP: u8 = 41;
const GRE: u8 = 47;
/// The kernel's `ip_local_port_range`, from which `udp_flow_src_port` takes source ports.
const FIRST_PORT: u64 = 32_768;
const PORTS: u64 = 60_999 - FIRST_PORT;

/// What an outer header takes over from the packet inside.
#[derive(Clone, Copy)]
struct Inner {
    /// Bytes of the packet.
    length: u64,
    v6: bool,
    hop_limit: u8,
    /// Type of service, or traffic class.
    tos: u8,
    dont_fragment: u8,
    id: [u8; 2],
    /// Hash of the sender's end.
    hash: u64,
}

/// Bytes that a destination's tunnel puts in front of a packet.
#[inline(always)]
const fn overhead(destination: &DestinationRecord) -> (u32, u32) {
    let outer = if destination.flags & DestinationFlags::IPV6 != 0 { 40 } else { 20 };
    let sums = destination.tunnel_flags & TunnelFlags::CSUM != 0;
    let own = match destination.tunnel_kind {
        TunnelKind::GUE => GUE_BYTES,
        TunnelKind::GRE if sums => 8,
        TunnelKind::GRE => 4,
        _ => 0,
    };
    (outer, own)
}

/// Longest packet, in bytes, that fits into the tunnel to a destination on the way there.
#[inline(always)]
pub const fn largest_inner(destination: &DestinationRecord) -> u32 {
    let known = destination.mtu != 0 && destination.mtu < LONGEST;
    let limit = if known { destination.mtu } else { LONGEST };
    let (outer, own) = overhead(destination);
    limit.saturating_sub(outer + own)
}

/// Wraps a packet for the tunnel to the destination in [`Note::Destination`] and sends it there.
#[inline(always)]
pub fn forward_tunnel<H: Host, F: Frame>(host: &H, frame: &mut F) -> Action {
    let index = (host.noted(Note::Destination) & 0xffff_ffff) as u32;
    let Some(destination) = host.opaque(host.destination(index)) else {
        return drop(host, Counter::Bug);
    };
    let Some(link) = Link::read(frame) else { return drop(host, Counter::Malformed) };
    let offset = (host.forget(link.offset as u64) & 0x1f) as usize;
    let inner = match link.ethertype {
        IPV4 => read_v4(host, frame, offset),
        IPV6 => read_v6(host, frame, offset),
        _ => None,
    };
    let Some(inner) = inner else { return drop(host, Counter::Malformed) };
    if inner.hop_limit <= 1 {
        return drop(host, Counter::TtlExpired);
    }
    if inner.length > largest_inner(destination) as u64 {
        return refuse_too_big(host, frame, &inner, offset, destination);
    }
    let Some(hop) = hop_of(host, destination) else { return drop(host, Counter::NoNextHop) };
    let (outer, own) = overhead(destination);
    if !frame.grow_front_by((outer + own) as usize) {
        return drop(host, Counter::NoHeadroom);
    }
    wrap(host, frame, &link, offset, &inner, destination, &hop)
        .unwrap_or_else(|| drop(host, Counter::Bug))
}

/// Refuses a packet that does not fit into its tunnel; its sender is told, unless routers would have to fragment the packet.
#[inline(always)]
fn refuse_too_big<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    inner: &Inner,
    offset: usize,
    destination: &DestinationRecord,
) -> Action {
    if !inner.v6 && inner.dont_fragment == 0 {
        return drop(host, Counter::NotFragmented);
    }
    let asked = if inner.v6 {
        frame.window::<16>(offset + 24).map(|bytes| WideAddress::of_bytes(*bytes))
    } else {
        frame.word(offset + 16).map(WideAddress::of_v4)
    };
    let Some(asked) = asked else { return drop(host, Counter::TunnelTooBig) };
    let report = Report::too_big(largest_inner(destination));
    refuse_and_tell_wide(host, Counter::TunnelTooBig, report, asked)
}

/// The IPv4 packet at `offset`; `None` if its lengths contradict each other or the frame.
#[inline(always)]
fn read_v4<H: Host, F: Frame>(host: &H, frame: &mut F, offset: usize) -> Option<Inner> {
    let frame_length = frame.length();
    let [version_ihl, tos, l0, l1, i0, i1, f0, f1, hop_limit, protocol, ..] =
        *frame.window::<20>(offset)?;
    let source = frame.word(offset + 12)?;
    let header = ((version_ihl & 15) as usize) * 4;
    let length = u16::from_be_bytes([l0, l1]);
    if version_ihl >> 4 != 4
        || header < 20
        || (length as usize) < header
        || offset + length as usize > frame_length
    {
        return None;
    }
    let fragment = u16::from_be_bytes([f0, f1]) & 0x3fff != 0;
    let protocol_of_ports = if fragment { 0 } else { protocol };
    let hash = end_hash(host, frame, source, protocol, protocol_of_ports, offset + header);
    let dont_fragment = f0 & 0x40;
    // RFC 6864: an atomic datagram's identification means nothing; the kernel sends 0.
    let id = if dont_fragment != 0 { [0; 2] } else { [i0, i1] };
    Some(Inner { length: length as u64, v6: false, hop_limit, tos, dont_fragment, id, hash })
}

/// The same of an IPv6 packet.
#[inline(always)]
fn read_v6<H: Host, F: Frame>(host: &H, frame: &mut F, offset: usize) -> Option<Inner> {
    let frame_length = frame.length();
    let [first, second, _, _, l0, l1, protocol, hop_limit] = *frame.window::<8>(offset)?;
    let source = WideAddress::of_bytes(*frame.window::<16>(offset + 8)?).fold();
    let length = u16::from_be_bytes([l0, l1]) as usize + 40;
    if first >> 4 != 6 || offset + length > frame_length {
        return None;
    }
    let hash = end_hash(host, frame, source, protocol, protocol, offset + 40);
    let tos = first << 4 | second >> 4;
    let [.., i0, i1] = host.random().to_ne_bytes();
    // The kernel lets routers on the way fragment what carries IPv6 in IPv4.
    let (dont_fragment, id) = (0, [i0, i1]);
    Some(Inner { length: length as u64, v6: true, hop_limit, tos, dont_fragment, id, hash })
}

/// Hash of a packet's sender: address and, if the protocol has them where they are looked for, port.
#[inline(always)]
fn end_hash<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    source: u32,
    protocol: u8,
    of_ports: u8,
    at: usize,
) -> u64 {
    const SCTP: u8 = 132;
    let has_ports = of_ports == TCP || of_ports == UDP || of_ports == SCTP;
    let port = if has_ports { frame.half(at).unwrap_or(0) } else { 0 };
    flow_hash(source, port, protocol, host.seed())
}

/// Source port of a flow's UDP datagrams, as `udp_flow_src_port` spreads a hash over the ports.
#[inline(always)]
const fn source_port(hash: u64) -> [u8; 2] {
    let hash = (hash ^ hash >> 32) & 0xffff_ffff;
    let hash = (hash ^ hash << 16) & 0xffff_ffff;
    let [.., high, low] = (FIRST_PORT + ((hash * PORTS) >> 32)).to_be_bytes();
    [high, low]
}

/// Two bytes as a word of a sum.
#[inline(always)]
const fn word([a, b]: [u8; 2]) -> u64 {
    u16::from_ne_bytes([a, b]) as u64
}

/// The last two bytes of a length in network order.
#[inline(always)]
const fn be16(length: u64) -> [u8; 2] {
    let [.., high, low] = length.to_be_bytes();
    [high, low]
}

/// Writes all headers; there is room for them in front already. `None` is a bug.
#[inline(always)]
fn wrap<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    link: &Link,
    offset: usize,
    inner: &Inner,
    destination: &DestinationRecord,
    hop: &NextHop,
) -> Option<Action> {
    let (outer, own) = overhead(destination);
    let own_at = (host.forget(offset as u64 + outer as u64) & 0x7f) as usize;
    let inner_at = (host.forget(offset as u64 + (outer + own) as u64) & 0x7f) as usize;
    frame.forget();
    if inner.v6 {
        let [.., hop_limit] = frame.window::<8>(inner_at)?;
        *hop_limit = hop_limit.wrapping_sub(1);
    } else {
        age(frame.window::<20>(inner_at)?);
    }
    let kind = destination.tunnel_kind;
    let sums = if kind == TunnelKind::GUE {
        TunnelFlags::CSUM | TunnelFlags::REMCSUM
    } else {
        TunnelFlags::CSUM
    };
    let sum = if kind != TunnelKind::IPIP && destination.tunnel_flags & sums != 0 {
        Some(sum_of(|value| host.forget(value), frame, inner_at, inner.length)?)
    } else {
        None
    };
    let protocol = match kind {
        TunnelKind::GUE => {
            gue(frame, own_at, inner, destination, sum)?;
            UDP
        }
        TunnelKind::GRE => {
            gre(frame, own_at, inner, sum)?;
            GRE
        }
        _ => inner_protocol(inner),
    };
    let length = own as u64 + inner.length;
    let to_v6 = destination.flags & DestinationFlags::IPV6 != 0;
    if to_v6 {
        outer_v6(frame, offset, inner, destination, protocol, length)?;
    } else {
        outer_v4(frame, offset, inner, destination, protocol, length)?;
    }
    link.write(frame, offset, hop.addresses(), if to_v6 { IPV6 } else { IPV4 })?;
    Some(leave(frame, hop))
}

#[inline(always)]
const fn inner_protocol(inner: &Inner) -> u8 {
    if inner.v6 { IPV6_IN_IP } else { IPIP }
}

/// Complement of a sum; 0 is sent as all ones, for tunnels of either kind (`skb_checksum_help`).
#[inline(always)]
const fn checksum(sum: u64) -> [u8; 2] {
    let folded = !fold(sum);
    if folded == 0 { [0xff; 2] } else { folded.to_ne_bytes() }
}

/// Writes a UDP and a GUE header (`ipvs_gue_encap`); `sum` is that of the packet inside if UDP is to have a checksum.
///
/// There is no private data for remote checksums: the kernel adds it only to packets of its own that come with their
/// checksum unfinished, and a checksum over everything otherwise.
#[inline(always)]
fn gue<F: Frame>(
    frame: &mut F,
    at: usize,
    inner: &Inner,
    destination: &DestinationRecord,
    sum: Option<u64>,
) -> Option<()> {
    let source = source_port(inner.hash);
    let port = destination.tunnel_port.to_ne_bytes();
    let length = be16(GUE as u64 + inner.length);
    let protocol = [0, inner_protocol(inner)];
    let check = match sum {
        None => [0; 2],
        Some(sum) => {
            let ends = if destination.flags & DestinationFlags::IPV6 != 0 {
                ends_of(&destination.tunnel_source6, &destination.address6)
            } else {
                destination.tunnel_source as u64 + destination.address as u64
            };
            let pseudo = ends + word([0, UDP]) + word(length);
            checksum(sum + pseudo + word(source) + word(port) + word(length) + word(protocol))
        }
    };
    let ([s0, s1], [p0, p1], [l0, l1], [c0, c1], [g0, g1]) =
        (source, port, length, check, protocol);
    *frame.window::<GUE>(at)? = [s0, s1, p0, p1, l0, l1, c0, c1, g0, g1, 0, 0];
    Some(())
}

/// Sum of two IPv6 addresses.
#[inline(always)]
const fn ends_of(source: &[u8; 16], destination: &[u8; 16]) -> u64 {
    let WideAddress([a, b]) = WideAddress::of_bytes(*source);
    let WideAddress([c, d]) = WideAddress::of_bytes(*destination);
    const fn halves(word: u64) -> u64 {
        (word & 0xffff_ffff) + (word >> 32)
    }
    halves(a) + halves(b) + halves(c) + halves(d)
}

/// Writes a GRE header (`ipvs_gre_encap`), with the checksum if `sum` is given.
#[inline(always)]
fn gre<F: Frame>(frame: &mut F, at: usize, inner: &Inner, sum: Option<u64>) -> Option<()> {
    let [p0, p1] = (if inner.v6 { IPV6 } else { IPV4 }).to_be_bytes();
    match sum {
        None => *frame.window::<4>(at)? = [0, 0, p0, p1],
        Some(sum) => {
            let [c0, c1] = checksum(sum + word([0x80, 0]) + word([p0, p1]));
            *frame.window::<8>(at)? = [0x80, 0, p0, p1, c0, c1, 0, 0];
        }
    }
    Some(())
}

/// Type of service of an outer header. RFC 3168 section 9.1.1, full functionality: "congestion experienced" is not
/// copied outwards.
#[inline(always)]
const fn outer_tos(tos: u8) -> u8 {
    if tos & 3 == 3 { tos & !1 } else { tos }
}

/// Writes an outer IPv4 header before `length` bytes.
#[inline(always)]
fn outer_v4<F: Frame>(
    frame: &mut F,
    at: usize,
    inner: &Inner,
    destination: &DestinationRecord,
    protocol: u8,
    length: u64,
) -> Option<()> {
    let tos = outer_tos(inner.tos);
    let [l0, l1] = be16(length + 20);
    let [i0, i1] = inner.id;
    let df = inner.dont_fragment;
    let ttl = inner.hop_limit.wrapping_sub(1);
    let sum = word([0x45, tos])
        + word([l0, l1])
        + word([i0, i1])
        + word([df, 0])
        + word([ttl, protocol])
        + destination.tunnel_source as u64
        + destination.address as u64;
    let [c0, c1] = (!fold(sum)).to_ne_bytes();
    let [s0, s1, s2, s3] = destination.tunnel_source.to_ne_bytes();
    let [t0, t1, t2, t3] = destination.address.to_ne_bytes();
    *frame.window::<20>(at)? =
        [0x45, tos, l0, l1, i0, i1, df, 0, ttl, protocol, c0, c1, s0, s1, s2, s3, t0, t1, t2, t3];
    Some(())
}

/// Writes an outer IPv6 header before `length` bytes.
#[inline(always)]
fn outer_v6<F: Frame>(
    frame: &mut F,
    at: usize,
    inner: &Inner,
    destination: &DestinationRecord,
    protocol: u8,
    length: u64,
) -> Option<()> {
    let tos = outer_tos(inner.tos);
    let [l0, l1] = be16(length);
    let hop_limit = inner.hop_limit.wrapping_sub(1);
    *frame.window::<8>(at)? = [0x60 | tos >> 4, tos << 4, 0, 0, l0, l1, protocol, hop_limit];
    *frame.window::<16>(at + 8)? = destination.tunnel_source6;
    *frame.window::<16>(at + 24)? = destination.address6;
    Some(())
}
