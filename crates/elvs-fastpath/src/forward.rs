//! Sending a packet on: direct routing, masquerading both ways, tunnelling.
//!
//! **Invariant:** a packet is changed only when it is certain that it can be sent; a refusal leaves it as it came.

use elvs_common::{AH, Counter, DestinationFlags, DestinationRecord, ESP, Method, NextHop, UDP};

use crate::checksum::{Delta, fold};
use crate::fragment::readdress;
use crate::frame::{Action, Frame};
use crate::host::{Host, Note, drop};
use crate::packet::Ipv4;
use crate::report::{Report, refuse_and_tell};

/// Bytes of the outer IPv4 header.
const OUTER_LENGTH: u32 = 20;
/// The same, to count offsets by.
const OUTER: usize = OUTER_LENGTH as usize;
/// IP protocol number of IPv4 in IPv4 (RFC 2003).
const IPIP: u8 = 4;

/// The rewriting of one end of a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rewrite {
    /// New address, network order as loaded.
    pub(crate) address: u32,
    /// New port, network order as loaded; 0 = it stays.
    pub(crate) port: u16,
    /// Rewrites the source instead of the destination.
    pub(crate) source: bool,
}

/// Next hop of a destination as the daemon found it; interface 0 = not resolved.
#[inline(always)]
pub(crate) const fn daemon_hop(destination: &DestinationRecord) -> &NextHop {
    // An address computed, not a branch taken.
    #[expect(clippy::indexing_slicing, reason = "the mask keeps the index inside")]
    &destination.next_hop[(destination.selector & 1) as usize]
}

/// Whether packets may go straight to a destination's next hop: it is in its service's table and another host, no stage
/// of its own has to wrap them, and the daemon has found the hop.
#[inline(always)]
pub(crate) const fn is_ready(destination: &DestinationRecord, hop: &NextHop) -> bool {
    const WANTED: u32 =
        DestinationFlags::AVAILABLE | DestinationFlags::LOCAL | DestinationFlags::ENCAPSULATED;
    let flags = destination.flags & WANTED;
    flags == DestinationFlags::AVAILABLE && hop.ifindex != 0
}

/// Whether a client's packet outlives the director and fits the way to a destination by a forwarding method's bits.
#[inline(always)]
pub(crate) const fn passes(ip: &Ipv4, method: u32, destination: &DestinationRecord) -> bool {
    ip.ttl > 1 && fits(ip, method, destination)
}

/// Whether a client's packet fits the way to a destination.
#[inline(always)]
pub(crate) const fn fits(ip: &Ipv4, method: u32, destination: &DestinationRecord) -> bool {
    // 0, an unknown MTU, becomes the greatest. A packet has more than one byte.
    ip.length as u32 + outer(method) - 1 <= destination.mtu.wrapping_sub(1)
}

/// Bytes that a forwarding method puts in front of a packet.
#[inline(always)]
pub(crate) const fn outer(method: u32) -> u32 {
    if method == Method::Tun as u32 { OUTER_LENGTH } else { 0 }
}

/// Refuses a packet that does not fit the way to its destination. Its sender is told if it forbids fragments
/// (`ensure_mtu_is_adequate`); the others IPVS leaves to the stack to fragment, which a program in the driver cannot do.
#[inline(always)]
fn refuse_too_big<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    ip: &Ipv4,
    method: u32,
    destination: &DestinationRecord,
) -> Action {
    let dont_fragment = frame
        .window::<20>(ip.offset)
        .is_some_and(|[_, _, _, _, _, _, flags, ..]| *flags & 0x40 != 0);
    if !dont_fragment {
        return drop(host, Counter::NotFragmented);
    }
    let tunnel = method == Method::Tun as u32;
    let why = if tunnel { Counter::TunnelTooBig } else { Counter::TooBig };
    let mtu = destination.mtu.saturating_sub(outer(method));
    refuse_and_tell(host, why, Report::too_big(mtu), ip.destination)
}

/// Sends a client's packet to its destination.
#[inline(always)]
pub(crate) fn send<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    ip: &Ipv4,
    method: u32,
    index: u32,
    destination: &DestinationRecord,
) -> Action {
    if destination.flags & DestinationFlags::LOCAL != 0 {
        return deliver(frame, ip, method, destination);
    }
    if ip.ttl <= 1 {
        return refuse_and_tell(host, Counter::TtlExpired, Report::TIME_EXCEEDED, ip.destination);
    }
    if destination.flags & DestinationFlags::ENCAPSULATED != 0 && method == Method::Tun as u32 {
        host.note(Note::Destination, index as u64);
        return Action::TUNNEL;
    }
    if !fits(ip, method, destination) {
        return refuse_too_big(host, frame, ip, method, destination);
    }
    let Some(hop) = next_hop(host, destination) else { return drop(host, Counter::NoNextHop) };
    send_to::<false, _, _>(host, frame, ip, method, destination, &hop)
}

/// Leaves a client's packet to the host's stack, whose own address the destination has. A masqueraded one gets that
/// address and port first; its time to live stays, since nobody forwards it.
#[inline(always)]
fn deliver<F: Frame>(
    frame: &mut F,
    ip: &Ipv4,
    method: u32,
    destination: &DestinationRecord,
) -> Action {
    if method != Method::Nat as u32 {
        return Action::PASS;
    }
    let rewrite = Rewrite { address: destination.address, port: destination.port, source: false };
    // Who looked for its ports has seen that the packet is long enough; a shorter one is the stack's.
    let _ = rewrite_end::<false, _>(frame, ip, &rewrite);
    Action::PASS
}

/// Next hop of a destination: the daemon's, else the kernel's routing table.
#[inline(always)]
pub(crate) fn next_hop<H: Host>(host: &H, destination: &DestinationRecord) -> Option<NextHop> {
    let hop = daemon_hop(destination);
    if hop.ifindex != 0 {
        return Some(*hop);
    }
    host.count(Counter::FibFallback);
    if destination.flags & DestinationFlags::IPV6 != 0 {
        return None;
    }
    host.route(destination.address)
}

/// Sends a client's packet, which [`passes`], to a next hop of its destination. Frames are `PLAIN` where every offset is a
/// constant.
#[inline(always)]
pub(crate) fn send_to<const PLAIN: bool, H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    ip: &Ipv4,
    method: u32,
    destination: &DestinationRecord,
    hop: &NextHop,
) -> Action {
    let sent = match Method::from_bits(method) {
        Some(Method::Dr) => direct::<PLAIN, _>(frame, ip, hop),
        // No ports, and a checksum that only the ends can make.
        Some(Method::Nat) if !PLAIN && (ip.protocol == AH || ip.protocol == ESP) => {
            readdress(frame, ip, destination.address, false).then(|| frame.forget());
            address_frame(frame, hop)
        }
        Some(Method::Nat) => {
            let rewrite =
                Rewrite { address: destination.address, port: destination.port, source: false };
            masquerade::<PLAIN, _>(frame, ip, hop, &rewrite)
        }
        Some(Method::Tun) => match tunnel(frame, ip, hop, destination) {
            None => return drop(host, Counter::NoHeadroom),
            sent => sent,
        },
        // Connections of full NAT are in the wide table.
        Some(Method::FullNat) | None => None,
    };
    sent.unwrap_or_else(|| drop(host, Counter::Bug))
}

/// Direct routing: the frame goes to the real server's MAC address, the packet keeps its addresses.
#[inline(always)]
fn direct<const PLAIN: bool, F: Frame>(frame: &mut F, ip: &Ipv4, hop: &NextHop) -> Option<Action> {
    let header = frame.window::<20>(ip.offset)?;
    age(header);
    if !PLAIN {
        frame.forget();
    }
    address_frame(frame, hop)
}

/// Masquerading: one end of the packet is rewritten, checksums are updated.
#[inline(always)]
pub(crate) fn masquerade<const PLAIN: bool, F: Frame>(
    frame: &mut F,
    ip: &Ipv4,
    hop: &NextHop,
    rewrite: &Rewrite,
) -> Option<Action> {
    rewrite_end::<true, _>(frame, ip, rewrite)?;
    if !PLAIN {
        frame.forget();
    }
    address_frame(frame, hop)
}

/// Rewrites one end of a packet, updates its checksums, and ages it if it is `FORWARDED`. Nothing is changed if the answer
/// is `None`.
#[inline(always)]
fn rewrite_end<const FORWARDED: bool, F: Frame>(
    frame: &mut F,
    ip: &Ipv4,
    rewrite: &Rewrite,
) -> Option<()> {
    // All windows are looked at before anything is written.
    let old_port = if ip.protocol == UDP {
        let datagram = frame.window::<8>(ip.payload)?;
        let [s0, s1, d0, d1, ..] = *datagram;
        if rewrite.source { u16::from_ne_bytes([s0, s1]) } else { u16::from_ne_bytes([d0, d1]) }
    } else {
        let segment = frame.window::<18>(ip.payload)?;
        let [s0, s1, d0, d1, ..] = *segment;
        if rewrite.source { u16::from_ne_bytes([s0, s1]) } else { u16::from_ne_bytes([d0, d1]) }
    };
    let header = frame.window::<20>(ip.offset)?;
    let old_address = if rewrite.source { ip.source } else { ip.destination };
    let [a0, a1, a2, a3] = rewrite.address.to_ne_bytes();
    let [.., s0, s1, s2, s3, d0, d1, d2, d3] = header;
    if rewrite.source {
        (*s0, *s1, *s2, *s3) = (a0, a1, a2, a3);
    } else {
        (*d0, *d1, *d2, *d3) = (a0, a1, a2, a3);
    }
    let moved = Delta::default().word(old_address, rewrite.address);
    let [_, _, _, _, _, _, _, _, _, _, c0, c1, ..] = header;
    [*c0, *c1] = moved.apply(u16::from_ne_bytes([*c0, *c1])).to_ne_bytes();
    if FORWARDED {
        age(header);
    }
    let new_port = if rewrite.port == 0 { old_port } else { rewrite.port };
    let moved = moved.half(old_port, new_port);
    let port = new_port.to_ne_bytes();
    if ip.protocol == UDP {
        let [s0, s1, d0, d1, _, _, c0, c1] = frame.window::<8>(ip.payload)?;
        if rewrite.source {
            [*s0, *s1] = port;
        } else {
            [*d0, *d1] = port;
        }
        let checksum = u16::from_ne_bytes([*c0, *c1]);
        // RFC 768: 0 means that the sender computed none, and a sum of 0 is sent as all ones.
        if checksum != 0 {
            let sum = moved.apply(checksum);
            [*c0, *c1] = if sum == 0 { [0xff; 2] } else { sum.to_ne_bytes() };
        }
    } else {
        let [s0, s1, d0, d1, _, _, _, _, _, _, _, _, _, _, _, _, c0, c1] =
            frame.window::<18>(ip.payload)?;
        if rewrite.source {
            [*s0, *s1] = port;
        } else {
            [*d0, *d1] = port;
        }
        [*c0, *c1] = moved.apply(u16::from_ne_bytes([*c0, *c1])).to_ne_bytes();
    }
    Some(())
}

/// Tunnelling, IP in IP: time to live and type of service are copied from the inner header, and "don't fragment" is
/// (`ip_vs_tunnel_xmit` with `pmtu_disc` 1). The caller has
/// seen that the packet fits the MTU. `None` if there is no room in front.
#[inline(always)]
fn tunnel<F: Frame>(
    frame: &mut F,
    ip: &Ipv4,
    hop: &NextHop,
    destination: &DestinationRecord,
) -> Option<Action> {
    frame.forget();
    // The bytes between the MAC addresses and the IP header: Ethernet type and VLAN tags.
    match ip.offset {
        14 => encapsulate::<F, 2>(frame, ip, hop, destination),
        18 => encapsulate::<F, 6>(frame, ip, hop, destination),
        _ => encapsulate::<F, 10>(frame, ip, hop, destination),
    }
}

/// `TAGS` bytes lie between the MAC addresses and the IP header.
#[inline(always)]
fn encapsulate<F: Frame, const TAGS: usize>(
    frame: &mut F,
    ip: &Ipv4,
    hop: &NextHop,
    destination: &DestinationRecord,
) -> Option<Action> {
    let tags = *frame.window::<TAGS>(12)?;
    let header = frame.window::<20>(12 + TAGS)?;
    let [_, tos, _, _, i0, i1, f0, f1, ..] = *header;
    if !frame.grow_front::<OUTER>() {
        return None;
    }
    let inner = frame.window::<20>(12 + TAGS + OUTER)?;
    age(inner);
    // RFC 3168 section 9.1.1, full functionality: "congestion experienced" is not copied outwards.
    let tos = if tos & 3 == 3 { tos & !1 } else { tos };
    let dont_fragment = f0 & 0x40;
    // RFC 6864: an atomic datagram's identification means nothing; the kernel sends 0.
    let [i0, i1] = if dont_fragment != 0 {
        [0, 0]
    } else if ip.fragment {
        // The fragments of a datagram have one identification, and their outer packets must not.
        [i0 ^ f0 & 0x1f, i1 ^ f1]
    } else {
        [i0, i1]
    };
    let [l0, l1] = ip.length.wrapping_add(20).to_be_bytes();
    let source = destination.tunnel_source.to_ne_bytes();
    let target = destination.address.to_ne_bytes();
    let ttl = ip.ttl.wrapping_sub(1);
    let word = |a: u8, b: u8| u16::from_ne_bytes([a, b]) as u64;
    let [s0, s1, s2, s3] = source;
    let [t0, t1, t2, t3] = target;
    let sum = word(0x45, tos)
        + word(l0, l1)
        + word(i0, i1)
        + word(dont_fragment, 0)
        + word(ttl, IPIP)
        + word(s0, s1)
        + word(s2, s3)
        + word(t0, t1)
        + word(t2, t3);
    let [c0, c1] = (!fold(sum)).to_ne_bytes();
    let outer = frame.window::<20>(12 + TAGS)?;
    *outer = [
        0x45,
        tos,
        l0,
        l1,
        i0,
        i1,
        dont_fragment,
        0,
        ttl,
        IPIP,
        c0,
        c1,
        s0,
        s1,
        s2,
        s3,
        t0,
        t1,
        t2,
        t3,
    ];
    *frame.window::<TAGS>(12)? = tags;
    address_frame(frame, hop)
}

/// Lowers the time to live by one (RFC 1812 section 5.3.1); the caller has seen that it is above 1.
#[inline(always)]
pub(crate) fn age(header: &mut [u8; 20]) {
    let [_, _, _, _, _, _, _, _, ttl, _, c0, c1, ..] = header;
    *ttl = ttl.wrapping_sub(1);
    // RFC 1141: the word with the time to live goes down by 0x0100, so the checksum goes up by as much, and the carry
    // goes round.
    let sum = u16::from_ne_bytes([*c0, *c1]) as u32 + u16::from_ne_bytes([1, 0]) as u32;
    let [low, high, ..] = (sum + (sum >= 0xffff) as u32).to_le_bytes();
    [*c0, *c1] = u16::from_le_bytes([low, high]).to_ne_bytes();
}

/// Where a frame for a next hop goes.
#[inline(always)]
pub(crate) fn leave<F: Frame>(frame: &F, hop: &NextHop) -> Action {
    if hop.ifindex == frame.ingress() { Action::TRANSMIT } else { Action::redirect(hop.ifindex) }
}

/// Writes the Ethernet addresses and says where the frame goes.
#[inline(always)]
pub(crate) fn address_frame<F: Frame>(frame: &mut F, hop: &NextHop) -> Option<Action> {
    let ethernet = frame.window::<12>(0)?;
    *ethernet = hop.addresses();
    Some(leave(frame, hop))
}
