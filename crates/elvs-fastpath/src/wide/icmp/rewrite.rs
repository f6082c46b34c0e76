//! Rewriting an ICMP or ICMPv6 error together with what it quotes.
//!
//! The sender of the quoted packet is whom the error goes to, and the error comes, as far as the connection's own ends know, from
//! the one that packet went to: an end that changes changes in both.
//!
//! **Invariant:** the error's own checksum, and that of a quoted IPv4 header, are as right afterwards as they were before.
//!
//! Called by the stages for errors of the wide table.

use elvs_common::{NextHop, WideAddress};

use super::Embedded;
use crate::checksum::Delta;
use crate::forward::address_frame;
use crate::frame::{Action, Frame};
use crate::icmp::PLAIN_IP;
use crate::wide::forward::age_packet;
use crate::wide::packet::{HEADER, WidePacket};

/// What an end of the quoted packet becomes.
pub(in crate::wide) struct NewEnd {
    pub(in crate::wide) address: WideAddress,
    /// Network order as loaded.
    pub(in crate::wide) port: u16,
    /// Whether it is the quoted packet's source, and the error's destination; else it is the other two.
    pub(in crate::wide) is_source: bool,
}

/// Rewrites an error of a connection by NAT, one of whose ends differs on either side of the director, and sends it on.
#[inline(always)]
pub(in crate::wide) fn translate<F: Frame>(
    frame: &mut F,
    packet: &WidePacket,
    embedded: &Embedded,
    end: &NewEnd,
    hop: &NextHop,
) -> Option<Action> {
    replace_end(frame, packet, embedded, end)?;
    send(frame, packet, hop)
}

/// The same of a connection by full NAT, both of whose ends differ.
#[inline(always)]
pub(in crate::wide) fn translate_both<F: Frame>(
    frame: &mut F,
    packet: &WidePacket,
    embedded: &Embedded,
    [source, destination]: [&NewEnd; 2],
    hop: &NextHop,
) -> Option<Action> {
    replace_end(frame, packet, embedded, source)?;
    replace_end(frame, packet, embedded, destination)?;
    send(frame, packet, hop)
}

/// Sends an error on.
#[inline(always)]
pub(super) fn send<F: Frame>(frame: &mut F, packet: &WidePacket, hop: &NextHop) -> Option<Action> {
    frame.forget();
    age_packet(frame, packet)?;
    frame.forget();
    address_frame(frame, hop)
}

/// Rewrites an end. As `ip_vs_nat_icmp` and `ip_vs_nat_icmp_v6` do, it leaves the checksum of the quoted header of the transport,
/// since little of what that covers is quoted and nobody checks it.
#[inline(always)]
fn replace_end<F: Frame>(
    frame: &mut F,
    packet: &WidePacket,
    embedded: &Embedded,
    new: &NewEnd,
) -> Option<()> {
    frame.forget();
    // All that was not read before is looked at before anything is written.
    frame.window::<4>(embedded.ports_at)?;
    let ends = &embedded.ends;
    let old_port = if new.is_source { ends.source_port } else { ends.destination_port };
    frame.forget();
    let moved = if packet.ipv6 {
        quoted6(frame, packet, embedded, new)?
    } else {
        quoted4(frame, embedded, new)?
    };
    frame.forget();
    let [s0, s1, d0, d1] = frame.window::<4>(embedded.ports_at)?;
    if new.is_source {
        [*s0, *s1] = new.port.to_ne_bytes();
    } else {
        [*d0, *d1] = new.port.to_ne_bytes();
    }
    // What changed in the quoted packet changed in the message.
    let moved = moved.half(old_port, new.port);
    frame.forget();
    let [_, _, c0, c1] = frame.window::<4>(packet.payload)?;
    [*c0, *c1] = moved.apply(u16::from_ne_bytes([*c0, *c1])).to_ne_bytes();
    frame.forget();
    if packet.ipv6 {
        let [_, _, _, _, _, _, _, _, addresses @ ..] = frame.window::<HEADER>(packet.offset)?;
        let (source, destination) = addresses.split_at_mut(16);
        let replaced = if new.is_source { destination } else { source };
        replaced.copy_from_slice(&new.address.bytes());
    } else {
        let outer = if new.is_source { packet.destination } else { packet.source };
        replace_v4(frame, packet.offset, outer, new.address, !new.is_source)?;
    }
    Some(())
}

/// Rewrites an address of a quoted IPv6 packet, and says what that, and the same of the error's own address, is to the message's
/// checksum, which covers both (RFC 4443 section 2.3).
#[inline(always)]
fn quoted6<F: Frame>(
    frame: &mut F,
    packet: &WidePacket,
    embedded: &Embedded,
    new: &NewEnd,
) -> Option<Delta> {
    let (old, outer) = if new.is_source {
        (embedded.ends.source, packet.destination)
    } else {
        (embedded.ends.destination, packet.source)
    };
    let [_, _, _, _, _, _, _, _, addresses @ ..] = frame.window::<HEADER>(embedded.at)?;
    let (source, destination) = addresses.split_at_mut(16);
    let replaced = if new.is_source { source } else { destination };
    replaced.copy_from_slice(&new.address.bytes());
    Some(Delta::default().wide(old, new.address).wide(outer, new.address))
}

/// As [`quoted6`], of IPv4, where the message's checksum covers the quoted header's and not the error's own addresses.
#[inline(always)]
fn quoted4<F: Frame>(frame: &mut F, embedded: &Embedded, new: &NewEnd) -> Option<Delta> {
    let ends = &embedded.ends;
    let old = if new.is_source { ends.source } else { ends.destination };
    replace_v4(frame, embedded.at, old, new.address, new.is_source)
}

/// Replaces an address of an IPv4 header, and mends its checksum; says what both are to a checksum that covers them.
#[inline(always)]
fn replace_v4<F: Frame>(
    frame: &mut F,
    at: usize,
    old: WideAddress,
    new: WideAddress,
    source: bool,
) -> Option<Delta> {
    let [_, _, _, _, _, _, _, _, _, _, c0, c1, addresses @ ..] = frame.window::<PLAIN_IP>(at)?;
    let (from, to) = addresses.split_at_mut(4);
    let replaced = if source { from } else { to };
    replaced.copy_from_slice(&new.v4().to_ne_bytes());
    let moved = Delta::default().word(old.v4(), new.v4());
    let old_sum = u16::from_ne_bytes([*c0, *c1]);
    let new_sum = moved.apply(old_sum);
    [*c0, *c1] = new_sum.to_ne_bytes();
    Some(moved.half(old_sum, new_sum))
}
