//! Fragments of IPv6: those without ports follow the first one of their datagram, which has them.
//!
//! As [`crate::fragment`], with two differences: the first fragment is sent from here too, so that whole packets pay
//! nothing, and whoever sent a later one is told of its refusal, since RFC 4443 does not except them.
//!
//! **Invariant:** a fragment goes where the first one of its datagram went, by the same forwarding method, or nowhere.
//!
//! Called by [`crate::director`], and by the program of the stage.

use elvs_common::{
    Counter, DestinationFlags, DestinationRecord, DestinationStats, Method, NextHop, WideAddress,
};

use super::forward::{
    Ends, address_of, direct, hop_of, obstacle, own_address, readdress, send, tunnel,
};
use super::packet::{HEADER, WidePacket, fragment_header, parse_wide, read_transport};
use super::refuse;
use crate::forward::address_frame;
use crate::fragment::Fragment;
use crate::frame::{Action, Frame};
use crate::host::{ClientHop, Host, Note, drop};
use crate::report::{Report, refuse_and_tell_wide};
use crate::service::is_wide_virtual;

/// What names a datagram in fragments: addresses and identification (RFC 8200 section 4.5); of IPv4, whose datagrams by full
/// NAT are here too, also the protocol (RFC 791).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(C)]
pub struct WideFragmentKey {
    /// Source and destination, two words each as in [`WideAddress`].
    pub addresses: [u64; 4],
    /// Identification as loaded (low half), protocol of IPv4 (next byte).
    pub id: u64,
}

/// Where the fragments of a datagram of the wide table go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct WideFragment {
    /// Destination and method; in place of the address the number that the director has given a datagram by full NAT.
    pub way: Fragment,
    /// Virtual address of a reply, as in [`WideAddress`]; by full NAT the local address of a request, and of a reply its local
    /// end ([`crate::LocalEnd`]) and the real server's port.
    pub address: [u64; 2],
}

impl WideFragment {
    /// None.
    pub const NONE: Self = Self { way: Fragment::NONE, address: [0; 2] };
}

/// Bit of [`Note::Destination`]: the fragment is a reply, and its virtual port lies in the sixteen highest bits.
const REPLY: u64 = 1 << 40;
/// Where that port lies.
const PORT_SHIFT: u32 = 48;

/// Leaves a client's first fragment to the stage.
#[inline(always)]
pub(super) fn lead_request<H: Host>(host: &H, destination: u32, method: u32) -> Action {
    host.note(Note::Destination, destination as u64 | (method as u64) << 32);
    Action::WIDE_FRAGMENT
}

/// Leaves a real server's first fragment to the stage; it is to come from a virtual address and port.
#[inline(always)]
pub(super) fn lead_reply<H: Host>(
    host: &H,
    destination: u32,
    address: WideAddress,
    port: u16,
) -> Action {
    let [first, second] = address.0;
    host.note(Note::Source, first);
    host.note(Note::SourceEnd, second);
    host.note(Note::Destination, destination as u64 | REPLY | (port as u64) << PORT_SHIFT);
    Action::WIDE_FRAGMENT
}

/// Stage of [`crate::process`] for fragments of the wide table; where a first one goes is noted.
#[inline(always)]
pub fn forward_wide_fragment<H: Host, F: Frame>(host: &H, frame: &mut F) -> Action {
    let Some(mut packet) = parse_wide(host, frame) else { return Action::PASS };
    // Those of IPv4 are none of the wide table's.
    if !packet.ipv6 {
        return Action::PASS;
    }
    if packet.malformed {
        return refuse(host, &packet);
    }
    let Some(key) = key_of(frame, &packet) else { return Action::PASS };
    if !packet.later {
        return first(host, frame, &mut packet, &key);
    }
    let found = host.wide_fragment(&key);
    if !found.way.is_known(host.tick()) {
        return unknown(host, &packet);
    }
    if found.way.is_full_nat() {
        return Action::FULL_NAT_FRAGMENT;
    }
    let Some(destination) = host.destination(found.way.destination()) else {
        return drop(host, Counter::Bug);
    };
    if found.way.way & Fragment::REPLY != 0 {
        reply(host, frame, &packet, &found, destination)
    } else {
        request(host, frame, &packet, &found, destination)
    }
}

/// What names the datagram of a fragment.
#[inline(always)]
pub(super) fn key_of<F: Frame>(frame: &mut F, packet: &WidePacket) -> Option<WideFragmentKey> {
    let id = if packet.ipv6 {
        let place = fragment_header(frame, packet)?;
        frame.word(place + 4)? as u64
    } else {
        frame.half(packet.offset + 4)? as u64 | (packet.protocol as u64) << 32
    };
    let ([s0, s1], [d0, d1]) = (packet.source.0, packet.destination.0);
    Some(WideFragmentKey { addresses: [s0, s1, d0, d1], id })
}

/// A fragment of IPv6 whose datagram is not known.
#[inline(always)]
pub(super) fn unknown<H: Host>(host: &H, packet: &WidePacket) -> Action {
    if is_wide_virtual(host, packet.destination) {
        host.count(Counter::Fragment);
    }
    Action::PASS
}

/// A first fragment, whose destination is noted.
#[inline(always)]
fn first<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    packet: &mut WidePacket,
    key: &WideFragmentKey,
) -> Action {
    let Some(transport) = read_transport(host, frame, packet) else { return Action::PASS };
    let noted = host.noted(Note::Destination);
    let index = (noted & 0xffff_ffff) as u32;
    let method = (noted >> 32 & 0xff) as u32;
    let Some(destination) = host.destination(index) else { return drop(host, Counter::Bug) };
    if noted & REPLY == 0 {
        let way = Fragment::new(index, host.tick(), method as u64);
        host.remember_wide_fragment(key, &WideFragment { way, address: [0; 2] });
        return send(host, frame, packet, &transport, method, index, destination);
    }
    let address = [host.noted(Note::Source), host.noted(Note::SourceEnd)];
    let way = Fragment::new(index, host.tick(), Fragment::REPLY);
    host.remember_wide_fragment(key, &WideFragment { way, address });
    let ClientHop::Known(hop) = host.wide_client_hop(packet.destination, None) else {
        return drop(host, Counter::NoNextHop);
    };
    let ends = Ends {
        source: WideAddress(address),
        source_port: (noted >> PORT_SHIFT) as u16,
        destination: packet.destination,
        destination_port: transport.destination_port(),
    };
    readdress(host, frame, packet, &transport, &hop, &ends)
        .unwrap_or_else(|| drop(host, Counter::Bug))
}

/// A client's later fragment.
#[inline(always)]
fn request<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    packet: &WidePacket,
    found: &WideFragment,
    destination: &DestinationRecord,
) -> Action {
    if destination.flags & DestinationFlags::LOCAL != 0 {
        return Action::PASS;
    }
    if destination.flags & DestinationFlags::AVAILABLE == 0 {
        return drop(host, Counter::DestinationGone);
    }
    let (index, method) = (found.way.destination(), found.way.method());
    send_whole(host, frame, packet, method, index, destination, |host| {
        host.count(Counter::FragmentForwarded);
        host.add_stats(index, DestinationStats::input(packet.length as u64));
    })
}

/// Sends a client's packet of IPv6 to its destination, without regard to what follows its header; `count` is called if there is
/// nothing in the way.
#[inline(always)]
pub(super) fn send_whole<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    packet: &WidePacket,
    method: u32,
    index: u32,
    destination: &DestinationRecord,
    count: impl Fn(&H),
) -> Action {
    if let Some(why) = obstacle(host, frame, packet, method, destination) {
        return why;
    }
    let Some(hop) = hop_of(host, destination) else { return drop(host, Counter::NoNextHop) };
    count(host);
    let sent = match Method::from_bits(method) {
        Some(Method::Dr) => direct(frame, packet, &hop),
        Some(Method::Nat) => move_end(frame, packet, &hop, address_of(destination), false),
        Some(Method::Tun) => Some(tunnel(host, index)),
        Some(Method::FullNat) | None => None,
    };
    sent.unwrap_or_else(|| drop(host, Counter::Bug))
}

/// A real server's later fragment.
#[inline(always)]
fn reply<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    packet: &WidePacket,
    found: &WideFragment,
    destination: &DestinationRecord,
) -> Action {
    if packet.ttl <= 1 {
        let (why, report) = (Counter::TtlExpired, Report::TIME_EXCEEDED);
        return refuse_and_tell_wide(host, why, report, own_address(destination));
    }
    let ClientHop::Known(hop) = host.wide_client_hop(packet.destination, None) else {
        return drop(host, Counter::NoNextHop);
    };
    host.count(Counter::FragmentForwarded);
    host.add_stats(found.way.destination(), DestinationStats::output(packet.length as u64));
    move_end(frame, packet, &hop, WideAddress(found.address), true)
        .unwrap_or_else(|| drop(host, Counter::Bug))
}

/// Replaces one address of an IPv6 packet, ages it and sends it on; checksums of what follows the header are not touched.
#[inline(always)]
pub(super) fn move_end<F: Frame>(
    frame: &mut F,
    packet: &WidePacket,
    hop: &NextHop,
    address: WideAddress,
    source: bool,
) -> Option<Action> {
    frame.forget();
    let [_, _, _, _, _, _, _, limit, addresses @ ..] = frame.window::<HEADER>(packet.offset)?;
    *limit = limit.wrapping_sub(1);
    let (from, to) = addresses.split_at_mut(16);
    let replaced = if source { from } else { to };
    replaced.copy_from_slice(&address.bytes());
    frame.forget();
    address_frame(frame, hop)
}
