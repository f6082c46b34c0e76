//! ICMP and ICMPv6 errors about connections by full NAT, whose both ends differ on either side of the director.
//!
//! | quoted packet | from | goes to |
//! |---|---|---|
//! | virtual service to client | a router of the client's, or the client | the real server, from the local address, as about what it sent there |
//! | local address to real server | the real server, or a router on the way | the client, from the virtual address, as about what it sent there |
//!
//! From the local address, since real servers by full NAT need no way to anybody else.
//!
//! **Invariant:** an error is changed only if it came to the address that sent the packet it quotes (RFC 792, RFC 4443
//! section 2.4).
//!
//! Called by [`crate::director`], and by the program of the stage.

use elvs_common::{
    Counter, DestinationFlags, DestinationStats, ICMP, ICMPV6, Method, SCTP, WideAddress,
};

use super::{local_address, local_flow};
use crate::flow::{FoundOf, client_port_of, destination_of, virtual_port_of, wide_addresses};
use crate::frame::{Action, Frame};
use crate::host::{ClientHop, Host, drop};
use crate::icmp::is_error;
use crate::service::find_local;
use crate::side::{self, Wide};
use crate::wide::forward::{address_of, fits, hop_of};
use crate::wide::icmp::{
    Embedded, MESSAGE, NewEnd, embedded, forward_error, is_error6, translate_both,
};
use crate::wide::packet::{WidePacket, parse_wide};
use crate::wide::ports::LocalEnd;

/// The stage for errors that may concern a connection by full NAT, and for those of IPv4 about SCTP.
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
    // The other errors of IPv4 about connections of this table.
    if !packet.ipv6 && embedded.protocol == SCTP {
        return forward_error(host, frame, &packet, &embedded);
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
    let source = NewEnd { address: server, port, is_source: true };
    let destination = NewEnd { address: local, port: end.port(), is_source: false };
    translate_both(frame, packet, embedded, [&source, &destination], &hop)
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
    let port = client_port_of(found.ports_destination);
    let source = NewEnd { address: client, port, is_source: true };
    let port = virtual_port_of(found.ports_destination);
    let destination = NewEnd { address: service, port, is_source: false };
    translate_both(frame, packet, embedded, [&source, &destination], &hop)
        .unwrap_or_else(|| drop(host, Counter::Bug))
}
