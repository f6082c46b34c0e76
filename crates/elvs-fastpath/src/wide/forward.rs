//! Sending a packet of either family on: direct routing, and rewriting of either end or both.
//!
//! **Invariant:** a packet is changed only when it is certain that it can be sent; a refusal leaves it as it came.

use elvs_common::{
    Counter, DestinationFlags, DestinationRecord, Method, NextHop, SCTP, UDP, WideAddress,
};

use super::packet::WidePacket;
use crate::checksum::Delta;
use crate::forward::{address_frame, age, daemon_hop};
use crate::frame::{Action, Frame};
use crate::host::{Host, Note, drop};
use crate::packet::Transport;
use crate::report::{Report, refuse_and_tell_wide};

/// Both ends of a packet as they are to be; ports in network order as loaded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) source: WideAddress,
    pub(crate) source_port: u16,
    pub(crate) destination: WideAddress,
    pub(crate) destination_port: u16,
}

/// Address of a destination.
#[inline(always)]
pub(crate) const fn address_of(destination: &DestinationRecord) -> WideAddress {
    if destination.flags & DestinationFlags::IPV6 != 0 {
        WideAddress::of_bytes(destination.address6)
    } else {
        WideAddress::of_v4(destination.address)
    }
}

/// The director's own address towards a destination; of zeroes if it has none.
#[inline(always)]
pub(crate) const fn own_address(destination: &DestinationRecord) -> WideAddress {
    if destination.flags & DestinationFlags::IPV6 != 0 {
        WideAddress::of_bytes(destination.tunnel_source6)
    } else {
        WideAddress::of_v4(destination.tunnel_source)
    }
}

/// Next hop of a destination: the daemon's, else the kernel's routing table.
#[inline(always)]
pub(crate) fn hop_of<H: Host>(host: &H, destination: &DestinationRecord) -> Option<NextHop> {
    let hop = daemon_hop(destination);
    if hop.ifindex != 0 {
        return Some(*hop);
    }
    host.count(Counter::FibFallback);
    host.wide_route(address_of(destination))
}

/// Sends a client's packet to its destination.
#[inline(always)]
pub(crate) fn send<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    packet: &WidePacket,
    transport: &Transport,
    method: u32,
    index: u32,
    destination: &DestinationRecord,
) -> Action {
    let hop = if destination.flags & DestinationFlags::LOCAL != 0 {
        // The host's stack has the virtual address too; masqueraded, the packet gets the destination's first.
        if method != Method::Nat as u32 {
            return Action::PASS;
        }
        NextHop::default()
    } else {
        if let Some(why) = obstacle(host, frame, packet, method, destination) {
            return why;
        }
        if method == Method::Tun as u32 {
            return tunnel(host, index);
        }
        let Some(hop) = hop_of(host, destination) else { return drop(host, Counter::NoNextHop) };
        hop
    };
    let sent = match Method::from_bits(method) {
        Some(Method::Dr) => direct(frame, packet, &hop),
        Some(Method::Nat) => {
            let own = destination.port;
            let ends = Ends {
                source: packet.source,
                source_port: transport.source_port(),
                destination: address_of(destination),
                destination_port: if own == 0 { transport.destination_port() } else { own },
            };
            rewrite::<true, _, _>(host, frame, packet, transport, &hop, &ends)
        }
        Some(Method::Tun | Method::FullNat) | None => None,
    };
    sent.unwrap_or_else(|| drop(host, Counter::Bug))
}

/// Whether a packet of either family fits the way to a destination.
#[inline(always)]
pub(crate) const fn fits(packet: &WidePacket, destination: &DestinationRecord) -> bool {
    // 0, an unknown MTU, becomes the greatest. A packet has more than one byte.
    packet.length - 1 <= destination.mtu.wrapping_sub(1)
}

/// Refuses a client's packet that does not outlive the director, or does not fit the way to its destination; its sender is
/// told. No router fragments IPv6 (RFC 8200 section 4.5). What fits into a tunnel its stage knows.
#[inline(always)]
pub(crate) fn obstacle<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    packet: &WidePacket,
    method: u32,
    destination: &DestinationRecord,
) -> Option<Action> {
    if packet.ttl <= 1 {
        return Some(refuse(host, packet, Counter::TtlExpired, Report::TIME_EXCEEDED));
    }
    if method == Method::Tun as u32 || fits(packet, destination) {
        return None;
    }
    let told = packet.ipv6
        || frame
            .window::<8>(packet.offset)
            .is_some_and(|[_, _, _, _, _, _, flags, _]| *flags & 0x40 != 0);
    if !told {
        return Some(drop(host, Counter::NotFragmented));
    }
    Some(refuse(host, packet, Counter::TooBig, Report::too_big(destination.mtu)))
}

/// Refuses a client's packet and has it told by the virtual address.
#[inline(always)]
pub(crate) fn refuse<H: Host>(
    host: &H,
    packet: &WidePacket,
    why: Counter,
    report: Report,
) -> Action {
    refuse_and_tell_wide(host, why, report, packet.destination)
}

/// Leaves a packet to the stage that wraps it for the tunnel to a destination.
#[inline(always)]
pub(crate) fn tunnel<H: Host>(host: &H, index: u32) -> Action {
    host.note(Note::Destination, index as u64);
    Action::TUNNEL
}

/// Direct routing: the frame goes to the real server's MAC address, the packet keeps its addresses.
#[inline(always)]
pub(crate) fn direct<F: Frame>(
    frame: &mut F,
    packet: &WidePacket,
    hop: &NextHop,
) -> Option<Action> {
    frame.forget();
    age_packet(frame, packet)?;
    address_frame(frame, hop)
}

/// Takes one off a packet's time to live or hop limit.
#[inline(always)]
pub(super) fn age_packet<F: Frame>(frame: &mut F, packet: &WidePacket) -> Option<()> {
    if packet.ipv6 {
        let [_, _, _, _, _, _, _, limit] = frame.window::<8>(packet.offset)?;
        *limit = limit.wrapping_sub(1);
    } else {
        age(frame.window::<20>(packet.offset)?);
    }
    Some(())
}

/// Rewrites both ends of a packet and its checksums, and sends it on. An end that stays is rewritten by itself.
#[inline(always)]
pub(crate) fn readdress<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    packet: &WidePacket,
    transport: &Transport,
    hop: &NextHop,
    ends: &Ends,
) -> Option<Action> {
    rewrite::<false, _, _>(host, frame, packet, transport, hop, ends)
}

/// As [`readdress`]. If `LOCAL`, a hop by no interface leaves the packet to the host's stack; its time to live stays, since
/// nobody forwards it.
#[inline(always)]
fn rewrite<const LOCAL: bool, H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    packet: &WidePacket,
    transport: &Transport,
    hop: &NextHop,
    ends: &Ends,
) -> Option<Action> {
    let new_ports = ends.source_port as u32 | (ends.destination_port as u32) << 16;
    let stays = LOCAL && hop.ifindex == 0;
    let change = if packet.protocol == SCTP && new_ports != transport.ports {
        let header = ((packet.payload - packet.offset) as u64 & 0xffff) as u32;
        let length = packet.length.wrapping_sub(header);
        host.sctp_checksum_change(transport.ports ^ new_ports, length)
    } else {
        0
    };
    frame.forget();
    // All windows are looked at before anything is written.
    if packet.protocol == UDP {
        frame.window::<8>(packet.payload)?;
        frame.forget();
    } else if packet.protocol == SCTP {
        frame.window::<12>(packet.payload)?;
    } else {
        frame.window::<18>(packet.payload)?;
    }
    let moved = move_ends(frame, packet, ends.source, ends.destination, !stays)?;
    let moved = moved
        .half(transport.source_port(), ends.source_port)
        .half(transport.destination_port(), ends.destination_port);
    let [s0, s1] = ends.source_port.to_ne_bytes();
    let [d0, d1] = ends.destination_port.to_ne_bytes();
    *frame.window::<4>(packet.payload)? = [s0, s1, d0, d1];
    if packet.protocol == SCTP {
        // RFC 9260 section 6.8: it covers no addresses.
        let sum = frame.window::<4>(packet.payload + 8)?;
        *sum = (u32::from_le_bytes(*sum) ^ change).to_le_bytes();
        frame.forget();
        return if stays { Some(Action::PASS) } else { address_frame(frame, hop) };
    }
    let checksum = if packet.protocol == UDP { 6 } else { 16 };
    let [c0, c1] = frame.window::<2>(packet.payload + checksum)?;
    let old = u16::from_ne_bytes([*c0, *c1]);
    if packet.protocol != UDP {
        [*c0, *c1] = moved.apply(old).to_ne_bytes();
    } else if old != 0 {
        // RFC 768: 0 means that the sender computed none, and a sum of 0 is sent as all ones.
        let sum = moved.apply(old);
        [*c0, *c1] = if sum == 0 { [0xff; 2] } else { sum.to_ne_bytes() };
    }
    frame.forget();
    if stays { Some(Action::PASS) } else { address_frame(frame, hop) }
}

/// Rewrites the addresses of a packet's header, and ages it if it is forwarded; says what the addresses are to a checksum that
/// covers them.
#[inline(always)]
pub(super) fn move_ends<F: Frame>(
    frame: &mut F,
    packet: &WidePacket,
    source: WideAddress,
    destination: WideAddress,
    forwarded: bool,
) -> Option<Delta> {
    if packet.ipv6 {
        let [_, _, _, _, _, _, _, limit, addresses @ ..] = frame.window::<40>(packet.offset)?;
        *limit = limit.wrapping_sub(forwarded as u8);
        let (from, to) = addresses.split_at_mut(16);
        from.copy_from_slice(&source.bytes());
        to.copy_from_slice(&destination.bytes());
        return Some(
            Delta::default().wide(packet.source, source).wide(packet.destination, destination),
        );
    }
    let header = frame.window::<20>(packet.offset)?;
    let [_, _, _, _, _, _, _, _, _, _, c0, c1, addresses @ ..] = header;
    let (from, to) = addresses.split_at_mut(4);
    from.copy_from_slice(&source.v4().to_ne_bytes());
    to.copy_from_slice(&destination.v4().to_ne_bytes());
    let moved = Delta::default()
        .word(packet.source.v4(), source.v4())
        .word(packet.destination.v4(), destination.v4());
    [*c0, *c1] = moved.apply(u16::from_ne_bytes([*c0, *c1])).to_ne_bytes();
    if forwarded {
        age(header);
    }
    Some(moved)
}
