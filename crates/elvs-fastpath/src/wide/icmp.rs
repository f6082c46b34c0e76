//! ICMPv6 errors about packets of known connections, and ICMP errors about those of SCTP: found by the header that they quote,
//! and sent to whom they concern.
//!
//! | quoted packet | from | goes to |
//! |---|---|---|
//! | virtual service to client | a router of the client's, or the client | the real server, by the connection's forwarding method (`ip_vs_in_icmp_v6`, `ip_vs_in_icmp`) |
//! | client to masqueraded real server | the real server, or a router on the way | the client, as about what it sent to the service (`ip_vs_out_icmp_v6`, `ip_vs_out_icmp`) |
//!
//! All errors of ICMPv6 are such messages; everything else (neighbour discovery, echo requests, multicast listeners), and what
//! concerns no known connection, unless `schedule_icmp` has it scheduled, is the stack's business.
//!
//! **Invariant:** an error is changed only if it came to the address that sent the packet it quotes (RFC 4443 section 2.4,
//! RFC 792).
//!
//! Called by [`crate::director`], and by the program of the stage.

mod rewrite;

use elvs_common::{Counter, DestinationFlags, DestinationStats, ICMPV6, Method, SCTP, WideAddress};

use self::rewrite::send;
pub(super) use self::rewrite::{NewEnd, translate, translate_both};
use super::forward::{Ends, address_of, fits, hop_of, tunnel};
use super::packet::{HEADER, WidePacket, parse_wide, two_addresses, walk};
use super::{matches_reply, may_be_real_server, may_be_virtual};
use crate::flow::{
    FlowKey, WideValue, destination_of, find_flow, virtual_port_of, wide_addresses, wide_hash,
};
use crate::frame::{Action, Frame};
use crate::host::{ClientHop, Host, drop};
use crate::icmp::{PLAIN_IP, of_nobody};
use crate::open::open_for_error;
use crate::packet::{FRAGMENT_OFFSET, is_balanced};
use crate::service::find_local;
use crate::side::{self, Wide};

/// Bytes of a message's own header, of either family.
pub(super) const MESSAGE: usize = 8;
/// Bit of the type of ICMPv6 messages that are no errors (RFC 4443 section 2.1).
const INFORMATIONAL: u8 = 0x80;

/// A packet that an error of either family quotes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Embedded {
    /// Offset of its IP header.
    pub(super) at: usize,
    /// Offset of its ports.
    pub(super) ports_at: usize,
    pub(super) protocol: u8,
    pub(super) ends: Ends,
}

/// Whether ICMPv6 messages of a type are errors.
#[inline(always)]
pub(super) const fn is_error6(kind: u8) -> bool {
    kind & INFORMATIONAL == 0
}

impl Embedded {
    /// Key of the connection of a packet to its client.
    #[inline(always)]
    pub(super) const fn key(&self) -> FlowKey<WideValue> {
        let Ends { source, source_port, destination, destination_port } = self.ends;
        FlowKey::wide(destination, source, destination_port, source_port, self.protocol)
    }
}

/// As [`crate::open_icmp`], of the wide table.
#[inline(always)]
pub(crate) fn open_wide_icmp<H: Host, F: Frame>(host: &H, frame: &mut F) -> Action {
    let Some(packet) = parse_wide(host, frame) else { return Action::PASS };
    let Some(embedded) = embedded(host, frame, &packet) else { return Action::PASS };
    // Of IPv4 the others were looked at before.
    if !packet.ipv6 && embedded.protocol != SCTP {
        return Action::PASS;
    }
    let again = if packet.ipv6 { Action::WIDE_ICMP } else { Action::FULL_NAT_ICMP };
    open_for_error::<Wide, _>(host, &embedded.key(), frame.ingress(), again)
}

/// Stage of [`crate::process`] for ICMPv6.
#[inline(always)]
pub fn forward_wide_icmp<H: Host, F: Frame>(host: &H, frame: &mut F) -> Action {
    let Some(packet) = parse_wide(host, frame) else { return Action::PASS };
    // A whole error has 1,280 bytes at most; who fragments one has the stack look at it.
    if !packet.ipv6 || packet.protocol != ICMPV6 || packet.fragment || packet.malformed {
        return Action::PASS;
    }
    let Some([kind, ..]) = frame.window::<MESSAGE>(packet.payload) else { return Action::PASS };
    if !is_error6(*kind) {
        return Action::PASS;
    }
    let Some(embedded) = embedded(host, frame, &packet) else { return Action::PASS };
    if embedded.ends.source != packet.destination {
        return Action::PASS;
    }
    match forward_error(host, frame, &packet, &embedded) {
        // A local address is in the filter too.
        Action::PASS | Action::ICMP_OPEN if find_local(host, embedded.ends.source).is_some() => {
            Action::FULL_NAT_ICMP
        }
        action => action,
    }
}

/// Forwards an error about a packet of a connection that is not by full NAT, if it is about one.
#[inline(always)]
pub(super) fn forward_error<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    packet: &WidePacket,
    embedded: &Embedded,
) -> Action {
    if may_be_real_server(host, embedded.ends.destination, embedded.protocol) {
        let action = of_real_server(host, frame, packet, embedded);
        if action != Action::PASS {
            return action;
        }
    }
    if may_be_virtual(host, embedded.ends.source, embedded.protocol) {
        return of_client(host, frame, packet, embedded);
    }
    Action::PASS
}

/// The packet that an error quotes; `None` if it has no ports or they are not there.
#[inline(always)]
pub(super) fn embedded<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    packet: &WidePacket,
) -> Option<Embedded> {
    let at = packet.payload + MESSAGE;
    let (source, destination, word) = if packet.ipv6 {
        let [version, _, _, _, _, _, next, _, addresses @ ..] = *frame.window::<HEADER>(at)?;
        let (source, destination) = two_addresses(addresses);
        let chain = walk::<false, F>(frame, next, at + HEADER);
        let usable = version >> 4 == 6 && !chain.cut && !chain.later;
        (source, destination, word(chain.end, chain.protocol, usable))
    } else {
        let header = *frame.window::<PLAIN_IP>(at)?;
        let [version, _, _, _, _, _, f0, f1, _, protocol, _, _, addresses @ ..] = header;
        let [s0, s1, s2, s3, d0, d1, d2, d3] = addresses;
        let length = ((version & 15) as usize) * 4;
        let later = u16::from_be_bytes([f0, f1]) & FRAGMENT_OFFSET != 0;
        let usable = version >> 4 == 4 && length >= PLAIN_IP && !later;
        (
            WideAddress::of_v4(u32::from_ne_bytes([s0, s1, s2, s3])),
            WideAddress::of_v4(u32::from_ne_bytes([d0, d1, d2, d3])),
            word(at + length, protocol, usable),
        )
    };
    let word = host.forget(word);
    let (ports_at, protocol) = ((word & 0x7fff) as usize, (word >> 16 & 0xff) as u8);
    let end = packet.offset + packet.length as usize;
    if word >> 24 & 1 == 0 || !(is_balanced(protocol) || protocol == SCTP) || ports_at + 4 > end {
        return None;
    }
    let [p0, p1, q0, q1] = *frame.window::<4>(ports_at)?;
    Some(Embedded {
        at,
        ports_at,
        protocol,
        ends: Ends {
            source,
            source_port: u16::from_ne_bytes([p0, p1]),
            destination,
            destination_port: u16::from_ne_bytes([q0, q1]),
        },
    })
}

/// What a walk through headers came to, so that the kernel's verifier does not go on from each way by itself.
#[inline(always)]
const fn word(ports_at: usize, protocol: u8, usable: bool) -> u64 {
    ports_at as u64 | (protocol as u64) << 16 | (usable as u64) << 24
}

/// An error about a packet of a virtual service to its client.
#[inline(always)]
fn of_client<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    packet: &WidePacket,
    embedded: &Embedded,
) -> Action {
    let key = embedded.key();
    let Some(found) = side::find::<Wide, _>(host, &key) else { return of_nobody(host) };
    let index = destination_of(found.ports_destination);
    let method = found.control.method_bits();
    let Some(destination) = host.destination(index) else { return drop(host, Counter::Bug) };
    if method == Method::FullNat as u32 {
        return Action::FULL_NAT_ICMP;
    }
    if destination.flags & DestinationFlags::LOCAL != 0 {
        return Action::PASS;
    }
    if packet.ttl <= 1 {
        return drop(host, Counter::TtlExpired);
    }
    if method != Method::Tun as u32 && !fits(packet, destination) {
        return drop(host, Counter::TooBig);
    }
    let Some(hop) = hop_of(host, destination) else { return drop(host, Counter::NoNextHop) };
    host.count(Counter::IcmpForwarded);
    host.add_stats(index, DestinationStats::input(packet.length as u64));
    let sent = match Method::from_bits(method) {
        Some(Method::Dr) => send(frame, packet, &hop),
        Some(Method::Nat) => {
            let port =
                if destination.port == 0 { embedded.ends.source_port } else { destination.port };
            let server = address_of(destination);
            let end = NewEnd { address: server, port, is_source: true };
            translate(frame, packet, embedded, &end, &hop)
        }
        Some(Method::Tun) => Some(tunnel(host, index)),
        Some(Method::FullNat) | None => None,
    };
    sent.unwrap_or_else(|| drop(host, Counter::Bug))
}

/// An error about a packet of a client to a masqueraded real server.
#[inline(always)]
fn of_real_server<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    packet: &WidePacket,
    embedded: &Embedded,
) -> Action {
    let (client, client_port) = (embedded.ends.source, embedded.ends.source_port);
    let hash = wide_hash(client, client_port, embedded.protocol, host.seed());
    let ports = [client_port, embedded.ends.destination_port];
    let matches = matches_reply(host, [client, embedded.ends.destination], ports);
    let found = find_flow(host.wide(), hash, host.wide_buckets(), embedded.protocol, &matches);
    let Some(found) = found else { return Action::PASS };
    if packet.ttl <= 1 {
        return drop(host, Counter::TtlExpired);
    }
    let ClientHop::Known(hop) = host.wide_client_hop(client, None) else {
        return drop(host, Counter::NoNextHop);
    };
    let Some([_, _, v0, v1, _]) = wide_addresses(&found) else {
        return drop(host, Counter::InsertContended);
    };
    host.count(Counter::IcmpReturned);
    host.add_stats(
        destination_of(found.ports_destination),
        DestinationStats::output(packet.length as u64),
    );
    let port = virtual_port_of(found.ports_destination);
    let end = NewEnd { address: WideAddress([v0, v1]), port, is_source: false };
    translate(frame, packet, embedded, &end, &hop).unwrap_or_else(|| drop(host, Counter::Bug))
}
