//! ICMP and ICMPv6 errors about connections by full NAT, whose both ends differ on either side of the director.
//!
//! | quoted packet | from | goes to |
//! |---|---|---|
//! | virtual service to client | a router of the client's, or the client | the real server, from the local address, as about what it sent there |
//! | local address to real server | the real server, or a router on the way | the client, from the virtual address, as about what it sent there |
//!
//! Of the local address, since real servers by full NAT need no way to anybody else.
//!
//! **Invariant:** an error is changed only if it came to the address that sent the packet it quotes (RFC 792, RFC 4443
//! section 2.4).
//!
//! Called by [`crate::director`], and by the program of the stage.

use elvs_common::{
    Counter, DestinationFlags, DestinationStats, ICMP, ICMPV6, Method, NextHop, WideAddress,
};

use super::{local_address, local_flow};
use crate::checksum::Delta;
use crate::flow::{FoundOf, client_port_of, destination_of, virtual_port_of, wide_addresses};
use crate::forward::address_frame;
use crate::frame::{Action, Frame};
use crate::host::{ClientHop, Host, drop};
use crate::icmp::{PLAIN_IP, is_error};
use crate::service::find_local;
use crate::side::{self, Wide};
use crate::wide::forward::{Ends, address_of, fits, hop_of, move_ends};
use crate::wide::icmp::{Embedded, MESSAGE, embedded, is_error6};
use crate::wide::packet::{HEADER, WidePacket, parse_wide};
use crate::wide::ports::LocalEnd;

/// What becomes of an error: both ends of the packet it quotes, and its own.
struct Translation {
    quoted: Ends,
    source: WideAddress,
    destination: WideAddress,
}

/// The stage for errors that may concern a connection by full NAT.
#[inline(always)]
pub fn forward_full_nat_icmp<H: Host, F: Frame>(host: &H, frame: &mut F) -> Action {
    let Some(packet) = parse_wide(host, frame) else { return Action::PASS };
    let protocol = if packet.ipv6 { ICMPV6 } else { ICMP };
    if packet.protocol != protocol || packet.fragment || packet.malformed {
        return Action::PASS;
    }
    let Some([kind, ..]) = frame.window::<MESSAGE>(packet.payload) else { return Action::PASS };
    let error = if packet.ipv6 { is_error6(*kind) } else { is_error(*kind) };
    if !error {
        return Action::PASS;
    }
    let Some(embedded) = embedded(host, frame, &packet) else { return Action::PASS };
    if embedded.ends.source != packet.destination {
        return Action::PASS;
    }
    match find_local(host, embedded.ends.source) {
        Some(index) => of_real_server(host, frame, &packet, &embedded, index),
        None => of_client(host, frame, &packet, &embedded),
    }
}

/// An error about a packet of a virtual service to its client.
#[inline(always)]
fn of_client<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    packet: &WidePacket,
    embedded: &Embedded,
) -> Action {
    let ends = &embedded.ends;
    let key = embedded.key();
    let Some(found) = side::find::<Wide, _>(host, &key) else { return Action::PASS };
    let index = destination_of(found.ports_destination);
    let Some(destination) = host.destination(index) else { return drop(host, Counter::Bug) };
    let unfit = found.control.method_bits() != Method::FullNat as u32;
    if unfit || destination.flags & DestinationFlags::LOCAL != 0 {
        return Action::PASS;
    }
    let Some([_, _, _, _, end]) = wide_addresses(&found) else {
        return drop(host, Counter::InsertContended);
    };
    let end = LocalEnd(end);
    let Some(local) = local_address(host, end) else { return drop(host, Counter::Bug) };
    if packet.ttl <= 1 {
        return drop(host, Counter::TtlExpired);
    }
    if !fits(packet, destination) {
        return drop(host, Counter::TooBig);
    }
    let Some(hop) = hop_of(host, destination) else { return drop(host, Counter::NoNextHop) };
    host.count(Counter::IcmpForwarded);
    host.add_stats(index, DestinationStats::input(packet.length as u64));
    let server = address_of(destination);
    let port = if destination.port == 0 { ends.source_port } else { destination.port };
    let translation = Translation {
        quoted: Ends {
            source: server,
            source_port: port,
            destination: local,
            destination_port: end.port(),
        },
        source: local,
        destination: server,
    };
    translate(frame, packet, embedded, &translation, &hop)
        .unwrap_or_else(|| drop(host, Counter::Bug))
}

/// An error about a packet from the local address of an index to a real server.
#[inline(always)]
fn of_real_server<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    packet: &WidePacket,
    embedded: &Embedded,
    index: u32,
) -> Action {
    let ends = &embedded.ends;
    let end = LocalEnd((index as u64) << 32 | ends.source_port as u64);
    let server = (ends.destination, ends.destination_port);
    let Some(found) = local_flow(host, end, server, embedded.protocol) else {
        return Action::PASS;
    };
    if packet.ttl <= 1 {
        return drop(host, Counter::TtlExpired);
    }
    return_error(host, frame, packet, embedded, &found)
}

#[inline(always)]
fn return_error<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    packet: &WidePacket,
    embedded: &Embedded,
    found: &FoundOf<'_, H::Wide>,
) -> Action {
    let Some([c0, c1, v0, v1, _]) = wide_addresses(found) else {
        return drop(host, Counter::InsertContended);
    };
    let (client, service) = (WideAddress([c0, c1]), WideAddress([v0, v1]));
    let ClientHop::Known(hop) = host.wide_client_hop(client, None) else {
        return drop(host, Counter::NoNextHop);
    };
    host.count(Counter::IcmpReturned);
    host.add_stats(
        destination_of(found.ports_destination),
        DestinationStats::output(packet.length as u64),
    );
    let translation = Translation {
        quoted: Ends {
            source: client,
            source_port: client_port_of(found.ports_destination),
            destination: service,
            destination_port: virtual_port_of(found.ports_destination),
        },
        source: service,
        destination: client,
    };
    translate(frame, packet, embedded, &translation, &hop)
        .unwrap_or_else(|| drop(host, Counter::Bug))
}

/// Rewrites an error and what it quotes, and sends it on. As `ip_vs_nat_icmp` does, it leaves the checksum of the quoted TCP or
/// UDP header, since little of what that covers is quoted and nobody checks it.
#[inline(always)]
fn translate<F: Frame>(
    frame: &mut F,
    packet: &WidePacket,
    embedded: &Embedded,
    translation: &Translation,
    hop: &NextHop,
) -> Option<Action> {
    let (old, new) = (&embedded.ends, &translation.quoted);
    frame.forget();
    frame.window::<4>(embedded.ports_at)?;
    frame.forget();
    // What changes in the quoted packet changes in the message.
    let moved =
        if packet.ipv6 { quoted6(frame, embedded, new)? } else { quoted4(frame, embedded, new)? };
    frame.forget();
    let [s0, s1] = new.source_port.to_ne_bytes();
    let [d0, d1] = new.destination_port.to_ne_bytes();
    *frame.window::<4>(embedded.ports_at)? = [s0, s1, d0, d1];
    let moved = moved
        .half(old.source_port, new.source_port)
        .half(old.destination_port, new.destination_port);
    frame.forget();
    let (source, destination) = (translation.source, translation.destination);
    move_ends(frame, packet, source, destination, true)?;
    let moved = if packet.ipv6 {
        // They are summed up with the message (RFC 4443 section 2.3).
        moved.wide(packet.source, source).wide(packet.destination, destination)
    } else {
        moved
    };
    frame.forget();
    let [_, _, c0, c1] = frame.window::<4>(packet.payload)?;
    [*c0, *c1] = moved.apply(u16::from_ne_bytes([*c0, *c1])).to_ne_bytes();
    frame.forget();
    address_frame(frame, hop)
}

/// Rewrites the addresses of a quoted IPv6 packet, and says what that is to a checksum.
#[inline(always)]
fn quoted6<F: Frame>(frame: &mut F, embedded: &Embedded, new: &Ends) -> Option<Delta> {
    let [_, _, _, _, _, _, _, _, addresses @ ..] = frame.window::<HEADER>(embedded.at)?;
    let (source, destination) = addresses.split_at_mut(16);
    source.copy_from_slice(&new.source.bytes());
    destination.copy_from_slice(&new.destination.bytes());
    let old = &embedded.ends;
    Some(Delta::default().wide(old.source, new.source).wide(old.destination, new.destination))
}

/// As [`quoted6`], of IPv4 and with the header's own checksum.
#[inline(always)]
fn quoted4<F: Frame>(frame: &mut F, embedded: &Embedded, new: &Ends) -> Option<Delta> {
    let header = frame.window::<PLAIN_IP>(embedded.at)?;
    let [_, _, _, _, _, _, _, _, _, _, c0, c1, addresses @ ..] = header;
    let (source, destination) = addresses.split_at_mut(4);
    source.copy_from_slice(&new.source.v4().to_ne_bytes());
    destination.copy_from_slice(&new.destination.v4().to_ne_bytes());
    let old = &embedded.ends;
    let moved = Delta::default()
        .word(old.source.v4(), new.source.v4())
        .word(old.destination.v4(), new.destination.v4());
    let old_sum = u16::from_ne_bytes([*c0, *c1]);
    let new_sum = moved.apply(old_sum);
    [*c0, *c1] = new_sum.to_ne_bytes();
    Some(moved.half(old_sum, new_sum))
}
