//! AH and ESP: they follow the flow of the IKE that agreed on them, from port 500 to port 500 (`ip_vs_proto_ah_esp.c`).
//!
//! **Invariant:** they open no connection; without one of IKE they are left to the stack. NAT rewrites addresses alone.
//!
//! Called by [`super::forward_wide`].

use elvs_common::{AH, Counter, DestinationFlags, DestinationStats, ESP, Method, UDP, WideAddress};

use super::forward::own_address;
use super::fragment::{move_end, send_whole};
use super::packet::{WidePacket, parse_wide};
use crate::director::matches_reply;
use crate::flow::{
    FlowKey, destination_of, find_flow, flow_hash, virtual_of, wide_addresses, wide_hash,
};
use crate::forward::{address_frame, send};
use crate::fragment::readdress;
use crate::frame::{Action, Frame};
use crate::host::{ClientHop, Host, drop};
use crate::open::Path;
use crate::packet::{Ipv4, Transport, parse_ipv4};
use crate::report::{Report, refuse_and_tell, refuse_and_tell_wide};
use crate::side::{self, Narrow, Wide};
use crate::tcp::{Direction, TcpFlags};
use crate::track::track;

/// Port of IKE, as loaded.
const IKE: u16 = 500u16.to_be();

/// Ports of IKE, as a UDP header has them.
const PORTS: Transport = Transport { ports: IKE as u32 | (IKE as u32) << 16, flags: TcpFlags(0) };

/// Whether packets of a protocol follow an IKE flow.
#[inline(always)]
pub(super) const fn follows_ike(protocol: u8) -> bool {
    protocol == AH || protocol == ESP
}

/// Stage of [`crate::process`] for AH and ESP, fragments included: their headers need not be read.
#[inline(always)]
pub fn forward_ipsec<H: Host, F: Frame>(host: &H, frame: &mut F) -> Action {
    match parse_ipv4(host, frame) {
        Some(ip) if ip.malformed => Action::PASS,
        Some(ip) => narrow(host, frame, &forgotten(host, ip)),
        None => wide(host, frame),
    }
}

/// The same packet, but the kernel's verifier does not go on from each way through its header by itself.
#[inline(always)]
fn forgotten<H: Host>(host: &H, ip: Ipv4) -> Ipv4 {
    let word = ip.payload as u64
        | (ip.protocol as u64) << 16
        | (ip.ttl as u64) << 24
        | (ip.length as u64) << 32
        | (ip.fragment as u64) << 48;
    let word = host.forget(word);
    Ipv4 {
        payload: (word & 0x7f) as usize,
        protocol: (word >> 16 & 0xff) as u8,
        ttl: (word >> 24 & 0xff) as u8,
        length: (word >> 32 & 0xffff) as u16,
        fragment: word >> 48 & 1 != 0,
        later: false,
        malformed: false,
        ..ip
    }
}

/// By the table of IPv4 connections.
#[inline(always)]
fn narrow<H: Host, F: Frame>(host: &H, frame: &mut F, ip: &Ipv4) -> Action {
    let key = FlowKey::new(ip.source, ip.destination, IKE, IKE, UDP);
    let Some(found) = side::find::<Narrow, _>(host, &key) else {
        return narrow_reply(host, frame, ip);
    };
    let index = destination_of(found.ports_destination);
    let Some(destination) = host.destination(index) else { return drop(host, Counter::Bug) };
    if destination.flags & DestinationFlags::AVAILABLE == 0 {
        return drop(host, Counter::DestinationGone);
    }
    let method = found.control.method_bits();
    let direction = Direction::of_request(method);
    track::<false, _, _, _>(host, UDP, PORTS.flags, &found, index, direction);
    host.add_stats(index, DestinationStats::input(ip.length as u64));
    send(host, frame, ip, method, index, destination)
}

/// From what may be a real server behind NAT.
#[inline(always)]
fn narrow_reply<H: Host, F: Frame>(host: &H, frame: &mut F, ip: &Ipv4) -> Action {
    let client = ip.destination;
    let matches = matches_reply(host, [client, ip.source], [IKE, IKE]);
    let hash = flow_hash(client, IKE, UDP, host.seed());
    let found = find_flow(host, hash, host.buckets(), UDP, &matches);
    let Some(found) = found else { return Action::PASS };
    let index = destination_of(found.ports_destination);
    if ip.ttl <= 1 {
        let source = host.destination(index).map_or(0, |destination| destination.tunnel_source);
        return refuse_and_tell(host, Counter::TtlExpired, Report::TIME_EXCEEDED, source);
    }
    track::<false, _, _, _>(host, UDP, PORTS.flags, &found, index, Direction::Output);
    host.add_stats(index, DestinationStats::output(ip.length as u64));
    let ClientHop::Known(hop) = host.client_hop(client, None) else {
        return drop(host, Counter::NoNextHop);
    };
    frame.forget();
    if !readdress(frame, ip, virtual_of(found.addresses), true) {
        return drop(host, Counter::Bug);
    }
    frame.forget();
    address_frame(frame, &hop).unwrap_or(Action::DROP)
}

/// By the wide table.
#[inline(always)]
fn wide<H: Host, F: Frame>(host: &H, frame: &mut F) -> Action {
    let Some(packet) = parse_wide(host, frame) else { return Action::PASS };
    if packet.malformed {
        return Action::PASS;
    }
    let key = FlowKey { protocol: UDP, ..Wide::key(&packet, &PORTS) };
    let Some(found) = side::find::<Wide, _>(host, &key) else {
        return wide_reply(host, frame, &packet);
    };
    let index = destination_of(found.ports_destination);
    let Some(destination) = host.destination(index) else { return drop(host, Counter::Bug) };
    if destination.flags & DestinationFlags::AVAILABLE == 0 {
        return drop(host, Counter::DestinationGone);
    }
    let method = found.control.method_bits();
    // Without ports a reply could not be told from another client's.
    if method == Method::FullNat as u32 {
        return drop(host, Counter::ProtocolRefused);
    }
    let direction = Direction::of_request(method);
    track::<false, _, _, _>(host, UDP, PORTS.flags, &found, index, direction);
    host.add_stats(index, DestinationStats::input(packet.length as u64));
    if destination.flags & DestinationFlags::LOCAL != 0 {
        return Action::PASS;
    }
    send_whole(host, frame, &packet, method, index, destination, |_| ())
}

/// From what may be a real server behind NAT.
#[inline(always)]
fn wide_reply<H: Host, F: Frame>(host: &H, frame: &mut F, packet: &WidePacket) -> Action {
    let client = packet.destination;
    let matches = super::matches_reply(host, [client, packet.source], [IKE, IKE]);
    let hash = wide_hash(client, IKE, UDP, host.seed());
    let found = find_flow(host.wide(), hash, host.wide_buckets(), UDP, &matches);
    let Some(found) = found else { return Action::PASS };
    let index = destination_of(found.ports_destination);
    if packet.ttl <= 1 {
        let source = host.destination(index).map_or(WideAddress([0; 2]), own_address);
        return refuse_and_tell_wide(host, Counter::TtlExpired, Report::TIME_EXCEEDED, source);
    }
    track::<false, _, _, _>(host, UDP, PORTS.flags, &found, index, Direction::Output);
    host.add_stats(index, DestinationStats::output(packet.length as u64));
    let ClientHop::Known(hop) = host.wide_client_hop(client, None) else {
        return drop(host, Counter::NoNextHop);
    };
    let Some([_, _, v0, v1, _]) = wide_addresses(&found) else {
        return drop(host, Counter::InsertContended);
    };
    move_end(frame, packet, &hop, WideAddress([v0, v1]), true)
        .unwrap_or_else(|| drop(host, Counter::Bug))
}
