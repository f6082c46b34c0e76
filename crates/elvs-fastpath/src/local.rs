//! Packets that the director's own host sends: which of them are the director's business.
//!
//! **Invariant:** nothing is decided or changed here: what is chosen goes through [`crate::process`] like a packet that
//! came by a wire, and what is not chosen leaves as it would without us.
//!
//! Called by the program that looks at what leaves by the loopback device and by the director's interfaces.

use elvs_common::FilterBits;

use crate::director::matches_reply;
use crate::flow::{find_flow, find_key, flow_hash};
use crate::frame::Frame;
use crate::host::Host;
use crate::open::{Path, flow_key, may_open_any};
use crate::packet::{Ipv4, Transport, is_balanced, parse_ipv4, parse_transport};
use crate::service::{
    find_service, find_wide_service, may_be_real_server, may_be_wide, may_be_wide_real_server,
    virtual_tables,
};
use crate::side::{self, Wide};
use crate::wide::{WidePacket, find_answered, parse_wide, read_transport};

/// Whether a packet of the host's own is the director's business: on the loopback device a client's packet to a virtual
/// service (`ip_vs_local_request4`, `ip_vs_local_request6` in IPVS), on any device the reply of a real server that is the
/// director itself, whose connection is masqueraded (`ip_vs_local_reply4`, `ip_vs_local_reply6`).
///
/// Packets over TCP and UDP are; of a datagram in fragments none is, nor the reply of a real server by full NAT.
#[inline(always)]
pub fn is_own_traffic<H: Host, F: Frame>(host: &H, frame: &mut F, loopback: bool) -> bool {
    is_narrow(host, frame, loopback) || is_wide(host, frame, loopback)
}

/// Whether it is that of the table of IPv4.
#[inline(always)]
fn is_narrow<H: Host, F: Frame>(host: &H, frame: &mut F, loopback: bool) -> bool {
    let Some(ip) = parse_ipv4(host, frame) else { return false };
    if ip.fragment || ip.malformed || !is_balanced(ip.protocol) {
        return false;
    }
    let to_virtual = loopback && virtual_tables(host, ip.destination) & FilterBits::NARROW != 0;
    let from_real_server = may_be_real_server(host, ip.source);
    if !to_virtual && !from_real_server {
        return false;
    }
    let Some(transport) = parse_transport(frame, &ip) else { return false };
    to_virtual && is_request(host, &ip, &transport)
        || from_real_server && is_reply(host, &ip, &transport)
}

/// Whether a packet is of a known connection, or may open one. Others would come back from the director's program to the
/// host, where they are already.
#[inline(always)]
fn is_request<H: Host>(host: &H, ip: &Ipv4, transport: &Transport) -> bool {
    let key = flow_key(ip, transport);
    find_key(host, &key, host.buckets(), host.seed()).is_some()
        || may_open_any(host, ip.protocol, transport) && find_service(host, &key, 0).is_some()
}

/// Whether a packet answers a client of a masqueraded connection.
#[inline(always)]
fn is_reply<H: Host>(host: &H, ip: &Ipv4, transport: &Transport) -> bool {
    let (client, port) = (ip.destination, transport.destination_port());
    let hash = flow_hash(client, port, ip.protocol, host.seed());
    let matches = matches_reply(host, [client, ip.source], [port, transport.source_port()]);
    find_flow(host, hash, host.buckets(), ip.protocol, &matches).is_some()
}

/// Whether it is that of the wide table: IPv6, and IPv4 by full NAT.
#[inline(always)]
fn is_wide<H: Host, F: Frame>(host: &H, frame: &mut F, loopback: bool) -> bool {
    let Some(mut packet) = parse_wide(host, frame) else { return false };
    if packet.fragment || packet.malformed || !is_balanced(packet.protocol) {
        return false;
    }
    let to_virtual = loopback && may_be_wide(host, packet.destination);
    let from_real_server = packet.ipv6 && may_be_wide_real_server(host, packet.source);
    if !to_virtual && !from_real_server {
        return false;
    }
    let Some(transport) = read_transport(host, frame, &mut packet) else { return false };
    to_virtual && is_wide_request(host, &packet, &transport)
        || from_real_server && find_answered(host, &packet, &transport).is_some()
}

/// As [`is_request`].
#[inline(always)]
fn is_wide_request<H: Host>(host: &H, packet: &WidePacket, transport: &Transport) -> bool {
    let key = Wide::key(packet, transport);
    side::find::<Wide, _>(host, &key).is_some()
        || may_open_any(host, packet.protocol, transport)
            && find_wide_service(host, &key, 0).is_some()
}
