//! Datagrams in fragments by full NAT, of either family.
//!
//! All clients' datagrams leave with the same few addresses, so two clients that number theirs alike would have a real server
//! put pieces of different ones together: each gets a number of the local address's own (RFC 6864 section 4.3). Replies keep
//! theirs, as with masquerading.
//!
//! **Invariant:** a fragment goes where the first one of its datagram went, under the same number, or nowhere.
//!
//! Called by [`crate::director`], and by the program of the stage.

use elvs_common::{
    Counter, DestinationFlags, DestinationRecord, DestinationStats, Method, NextHop, UDP,
    WideAddress,
};

use super::{answer, ends_of, local_address, local_flow};
use crate::atomic::Atomic64;
use crate::checksum::Delta;
use crate::flow::{destination_of, wide_addresses};
use crate::forward::address_frame;
use crate::fragment::Fragment;
use crate::frame::{Action, Frame};
use crate::host::{ClientHop, Host, Note, drop};
use crate::packet::Transport;
use crate::report::{Report, refuse_and_tell_wide};
use crate::service::low;
use crate::wide::forward::{address_of, hop_of, move_ends, obstacle, readdress};
use crate::wide::fragment::{WideFragment, WideFragmentKey, key_of, unknown};
use crate::wide::packet::{WidePacket, fragment_header, parse_wide, read_transport};
use crate::wide::ports::{LocalEnd, WideMemory};
use crate::wide::{not_ours, refuse};

/// Bit of [`Note::Destination`]: the first fragment is a real server's.
const REPLY: u64 = 1 << 40;

/// Leaves a real server's first fragment to the stage; the index of the local address is noted.
#[inline(always)]
pub(super) fn lead_reply<H: Host>(host: &H) -> Action {
    host.note(Note::Destination, REPLY);
    Action::FULL_NAT_FRAGMENT
}

/// Stage of [`crate::process`] for fragments of connections by full NAT: first ones whose connection is noted, and later ones.
#[inline(always)]
pub fn forward_full_nat_fragment<H: Host, F: Frame>(host: &H, frame: &mut F) -> Action {
    let Some(packet) = parse_wide(host, frame) else { return Action::PASS };
    if packet.malformed {
        return refuse(host, &packet);
    }
    let Some(key) = key_of(frame, &packet) else { return Action::PASS };
    if packet.later {
        return later(host, frame, &packet, &key);
    }
    // A segment in fragments has no room for the client's address.
    if packet.protocol != UDP {
        return drop(host, Counter::FragmentRefused);
    }
    let mut packet = WidePacket { protocol: UDP, ..packet };
    let Some(transport) = read_transport(host, frame, &mut packet) else { return Action::PASS };
    // A constant, so that nothing of other protocols is in the program.
    let packet = WidePacket { protocol: UDP, ..packet };
    if host.noted(Note::Destination) & REPLY == 0 {
        first_request(host, frame, &packet, &transport, &key)
    } else {
        first_reply(host, frame, &packet, &transport, &key)
    }
}

/// A client's first fragment.
#[inline(always)]
fn first_request<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    packet: &WidePacket,
    transport: &Transport,
    key: &WideFragmentKey,
) -> Action {
    let (index, method) = (low(host.noted(Note::Destination)), Method::FullNat as u32);
    let Some(destination) = host.destination(index) else { return drop(host, Counter::Bug) };
    let end = LocalEnd(host.noted(Note::LocalEnd));
    let Some(local) = local_address(host, end) else { return drop(host, Counter::Bug) };
    if let Some(why) = obstacle(host, frame, packet, method, destination) {
        return why;
    }
    let Some(hop) = hop_of(host, destination) else { return drop(host, Counter::NoNextHop) };
    let Some(number) = next_number(host, end) else { return drop(host, Counter::Bug) };
    let way = Fragment::new(index, host.tick(), method as u64 | (number as u64) << 32);
    host.remember_wide_fragment(key, &WideFragment { way, address: local.0 });
    let ends = ends_of(local, end, destination, transport);
    renumber(frame, packet, number)
        .and_then(|()| readdress(host, frame, packet, transport, &hop, &ends))
        .unwrap_or_else(|| drop(host, Counter::Bug))
}

/// A real server's first fragment. Its connection is looked for again with each later one, so it is remembered by its local
/// end and the real server's port.
#[inline(always)]
fn first_reply<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    packet: &WidePacket,
    transport: &Transport,
    key: &WideFragmentKey,
) -> Action {
    let end = LocalEnd(host.noted(Note::LocalEnd) | transport.destination_port() as u64);
    let port = transport.source_port();
    let Some(found) = local_flow(host, end, (packet.source, port), UDP) else {
        return Action::PASS;
    };
    let way = Fragment::REPLY | Method::FullNat as u64;
    let index = destination_of(found.ports_destination);
    let way = Fragment::new(index, host.tick(), way);
    host.remember_wide_fragment(key, &WideFragment { way, address: [end.0, port as u64] });
    answer(host, frame, packet, transport, &found)
}

/// A fragment without ports.
#[inline(always)]
fn later<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    packet: &WidePacket,
    key: &WideFragmentKey,
) -> Action {
    let found = host.wide_fragment(key);
    if !found.way.is_known(host.tick()) || !found.way.is_full_nat() {
        return if packet.ipv6 { unknown(host, packet) } else { not_ours(host, packet) };
    }
    if found.way.way & Fragment::REPLY != 0 {
        return later_reply(host, frame, packet, &found);
    }
    match host.destination(found.way.destination()) {
        Some(destination) => later_request(host, frame, packet, &found, destination),
        None => drop(host, Counter::Bug),
    }
}

/// A client's later fragment.
#[inline(always)]
fn later_request<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    packet: &WidePacket,
    found: &WideFragment,
    destination: &DestinationRecord,
) -> Action {
    if destination.flags & DestinationFlags::AVAILABLE == 0 {
        return drop(host, Counter::DestinationGone);
    }
    if let Some(why) = obstacle(host, frame, packet, Method::FullNat as u32, destination) {
        return why;
    }
    let Some(hop) = hop_of(host, destination) else { return drop(host, Counter::NoNextHop) };
    host.count(Counter::FragmentForwarded);
    host.add_stats(found.way.destination(), DestinationStats::input(packet.length as u64));
    let ends = (WideAddress(found.address), address_of(destination));
    renumber(frame, packet, found.way.number())
        .and_then(|()| send(frame, packet, &hop, ends))
        .unwrap_or_else(|| drop(host, Counter::Bug))
}

/// A real server's later fragment. Without its connection it is the stack's business, whose address it goes to.
#[inline(always)]
fn later_reply<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    packet: &WidePacket,
    found: &WideFragment,
) -> Action {
    let [end, port] = found.address;
    let server = (packet.source, (port & 0xffff) as u16);
    let Some(flow) = local_flow(host, LocalEnd(end), server, UDP) else { return Action::PASS };
    if packet.ttl <= 1 {
        let (why, report) = (Counter::TtlExpired, Report::TIME_EXCEEDED);
        return refuse_and_tell_wide(host, why, report, packet.destination);
    }
    let Some([c0, c1, v0, v1, _]) = wide_addresses(&flow) else {
        return drop(host, Counter::InsertContended);
    };
    let client = WideAddress([c0, c1]);
    let ClientHop::Known(hop) = host.wide_client_hop(client, None) else {
        return drop(host, Counter::NoNextHop);
    };
    host.count(Counter::FragmentForwarded);
    host.add_stats(found.way.destination(), DestinationStats::output(packet.length as u64));
    send(frame, packet, &hop, (WideAddress([v0, v1]), client))
        .unwrap_or_else(|| drop(host, Counter::Bug))
}

/// Sends a fragment without ports on, from one address to the other.
#[inline(always)]
fn send<F: Frame>(
    frame: &mut F,
    packet: &WidePacket,
    hop: &NextHop,
    (source, destination): (WideAddress, WideAddress),
) -> Option<Action> {
    frame.forget();
    move_ends(frame, packet, source, destination, true)?;
    frame.forget();
    address_frame(frame, hop)
}

/// Number of the next datagram in fragments from a local address.
#[inline(always)]
fn next_number<H: Host>(host: &H, end: LocalEnd) -> Option<u32> {
    Some(low(host.wide().local(end.index())?.datagrams.fetch_add(1)))
}

/// Gives a fragment's datagram a number: its lower half in IPv4.
#[inline(always)]
fn renumber<F: Frame>(frame: &mut F, packet: &WidePacket, number: u32) -> Option<()> {
    frame.forget();
    if packet.ipv6 {
        let place = fragment_header(frame, packet)?;
        *frame.window::<4>(place + 4)? = number.to_be_bytes();
        return Some(());
    }
    let [_, _, _, _, i0, i1, _, _, _, _, c0, c1] = frame.window::<12>(packet.offset)?;
    let old = u16::from_ne_bytes([*i0, *i1]);
    let new = ((number & 0xffff) as u16).to_be();
    [*i0, *i1] = new.to_ne_bytes();
    let moved = Delta::default().half(old, new);
    [*c0, *c1] = moved.apply(u16::from_ne_bytes([*c0, *c1])).to_ne_bytes();
    Some(())
}
