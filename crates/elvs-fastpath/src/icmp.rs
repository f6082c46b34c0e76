//! ICMP errors about packets of known connections: found by the header that they quote, and sent to whom they concern.
//!
//! | quoted packet | from | goes to |
//! |---|---|---|
//! | virtual service to client | a router of the client's, or the client | the real server, by the connection's forwarding method (`ip_vs_in_icmp`) |
//! | client to masqueraded real server | the real server, or a router on the way | the client, as about what it sent to the service (`ip_vs_out_icmp`) |
//! | tunnel's outer packet with the client's in it | a router on the way to the real server | the client, as the director's own error (`ip_vs_in_icmp`) |
//!
//! Destination unreachable, source quench and time exceeded are such errors; everything else, echo requests among it, and
//! what concerns no known connection, unless `schedule_icmp` has it scheduled, is the stack's business.
//!
//! **Invariant:** an error is changed only if it came to the address that sent the packet it quotes (RFC 792).
//!
//! Called by [`crate::director`], and by the program of the stage.

use elvs_common::{
    Counter, DestinationFlags, DestinationRecord, DestinationStats, FilterBits, Method, NextHop,
    SCTP, SettingFlags,
};

use crate::checksum::Delta;
use crate::director::matches_reply;
use crate::flow::{FlowKey, destination_of, find_flow, find_key, flow_hash};
use crate::flow::{virtual_of, virtual_port_of};
use crate::forward::{address_frame, fits, next_hop, outer, send_to};
use crate::fragment::readdress;
use crate::frame::{Action, Frame};
use crate::host::{ClientHop, Host, drop};
use crate::open::open_for_error;
use crate::packet::{FRAGMENT_OFFSET, Ipv4, is_balanced, parse_ipv4};
use crate::report::{Report, tell};
use crate::service::{may_be_real_server, virtual_tables};
use crate::side::Narrow;
use crate::wide::open_wide_icmp;

/// Type of a source quench (RFC 792), which IPVS forwards still.
const SOURCE_QUENCH: u8 = 4;
/// IP protocol number of IPv4 in IPv4 (RFC 2003).
const IPIP: u8 = 4;
/// Bytes of an ICMP header.
const HEADER: usize = 8;
/// Bytes of an IPv4 header without options.
pub(crate) const PLAIN_IP: usize = 20;

/// A packet that an ICMP error quotes.
#[derive(Clone, Copy, Debug)]
struct Embedded {
    /// Offset of its IP header.
    at: usize,
    /// Offset of its ports.
    ports_at: usize,
    source: u32,
    destination: u32,
    protocol: u8,
    source_port: u16,
    destination_port: u16,
    dont_fragment: bool,
}

impl Embedded {
    /// Key of the connection of a packet to its client.
    #[inline(always)]
    const fn key(&self) -> FlowKey {
        FlowKey::new(
            self.destination,
            self.source,
            self.destination_port,
            self.source_port,
            self.protocol,
        )
    }
}

/// What becomes of an error about a packet that a service sent and that is of no known connection.
#[inline(always)]
pub(crate) fn of_nobody<H: Host>(host: &H) -> Action {
    if host.settings() & SettingFlags::SCHEDULE_ICMP != 0 {
        Action::ICMP_OPEN
    } else {
        Action::PASS
    }
}

/// Stage of [`crate::process`] after [`forward_icmp`] and [`crate::forward_wide_icmp`] for errors of no known connection:
/// opens one, and goes back.
#[inline(always)]
pub fn open_icmp<H: Host, F: Frame>(host: &H, frame: &mut F) -> Action {
    let Some(ip) = parse_ipv4(host, frame) else { return open_wide_icmp(host, frame) };
    let payload = (host.forget(ip.payload as u64) & 0x7f) as usize;
    let ip = Ipv4 { payload, ..ip };
    match embedded(frame, &ip, payload + HEADER) {
        Some(embedded) => {
            let (key, ingress) = (embedded.key(), frame.ingress());
            open_for_error::<Narrow, _>(host, &key, ingress, Action::ICMP)
        }
        None => {
            frame.forget();
            open_wide_icmp(host, frame)
        }
    }
}

/// Stage of [`crate::process`] for ICMP.
#[inline(always)]
pub fn forward_icmp<H: Host, F: Frame>(host: &H, frame: &mut F) -> Action {
    let Some(ip) = parse_ipv4(host, frame) else { return Action::PASS };
    // A whole error has 576 bytes at most; who fragments one has the stack look at it.
    if ip.fragment || ip.malformed {
        return Action::PASS;
    }
    // Which kind of header it was does not matter any more.
    let payload = (host.forget(ip.payload as u64) & 0x7f) as usize;
    let ip = Ipv4 { payload, ..ip };
    let Some([kind, code, _, _, r0, r1, r2, r3]) = frame.window::<HEADER>(payload) else {
        return Action::PASS;
    };
    let (kind, code, rest) = (*kind, *code, u32::from_be_bytes([*r0, *r1, *r2, *r3]));
    if !is_error(kind) {
        return Action::PASS;
    }
    let at = payload + HEADER;
    let Some([protocol]) = frame.window::<1>(at + 9) else { return Action::PASS };
    if *protocol == IPIP {
        return tunnel_error(host, frame, &ip, at, kind, code, rest);
    }
    // Its connections are of the wide table.
    if *protocol == SCTP {
        return Action::FULL_NAT_ICMP;
    }
    let Some(embedded) = embedded(frame, &ip, at) else { return Action::PASS };
    if embedded.source != ip.destination {
        return Action::PASS;
    }
    if may_be_real_server(host, embedded.destination) {
        let action = of_real_server(host, frame, &ip, &embedded);
        if action != Action::PASS {
            return action;
        }
    }
    let tables = virtual_tables(host, embedded.source);
    if tables & FilterBits::NARROW != 0 {
        let action = of_client(host, frame, &ip, &embedded);
        let unknown = action == Action::PASS || action == Action::ICMP_OPEN;
        if !unknown || tables & FilterBits::WIDE == 0 {
            return action;
        }
    }
    if tables & FilterBits::WIDE != 0 { Action::FULL_NAT_ICMP } else { Action::PASS }
}

/// Whether messages of a type are errors.
#[inline(always)]
pub(crate) const fn is_error(kind: u8) -> bool {
    kind == Report::UNREACHABLE || kind == SOURCE_QUENCH || kind == Report::EXCEEDED
}

/// The packet quoted at an offset; `None` if it has no ports or they are not there.
#[inline(always)]
fn embedded<F: Frame>(frame: &mut F, ip: &Ipv4, at: usize) -> Option<Embedded> {
    let [version_ihl, _, _, _, _, _, f0, f1, _, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] =
        *frame.window::<PLAIN_IP>(at)?;
    let header = ((version_ihl & 15) as usize) * 4;
    let fragment = u16::from_be_bytes([f0, f1]) & FRAGMENT_OFFSET != 0;
    if version_ihl >> 4 != 4 || header < PLAIN_IP || fragment || !is_balanced(protocol) {
        return None;
    }
    let ports_at = at + header;
    if ports_at + 4 > ip.offset + ip.length as usize {
        return None;
    }
    let [p0, p1, q0, q1] = *frame.window::<4>(ports_at)?;
    Some(Embedded {
        at,
        ports_at,
        source: u32::from_ne_bytes([s0, s1, s2, s3]),
        destination: u32::from_ne_bytes([d0, d1, d2, d3]),
        protocol,
        source_port: u16::from_ne_bytes([p0, p1]),
        destination_port: u16::from_ne_bytes([q0, q1]),
        dont_fragment: f0 & 0x40 != 0,
    })
}

/// An error about a packet of a virtual service to its client.
#[inline(always)]
fn of_client<H: Host, F: Frame>(host: &H, frame: &mut F, ip: &Ipv4, embedded: &Embedded) -> Action {
    let key = embedded.key();
    let Some(found) = find_key(host, &key, host.buckets(), host.seed()) else {
        return of_nobody(host);
    };
    let index = destination_of(found.ports_destination);
    let method = found.control.method_bits();
    let Some(destination) = host.destination(index) else { return drop(host, Counter::Bug) };
    if destination.flags & DestinationFlags::LOCAL != 0 {
        return Action::PASS;
    }
    if ip.ttl <= 1 {
        return drop(host, Counter::TtlExpired);
    }
    if !fits(ip, method, destination) {
        return drop(host, Counter::TooBig);
    }
    let Some(hop) = next_hop(host, destination) else { return drop(host, Counter::NoNextHop) };
    host.count(Counter::IcmpForwarded);
    host.add_stats(index, DestinationStats::input(ip.length as u64));
    if method != Method::Nat as u32 {
        return send_to::<false, _, _>(host, frame, ip, method, destination, &hop);
    }
    let port = if destination.port == 0 { embedded.source_port } else { destination.port };
    let own = Own { address: destination.address, port, replaces_source: true };
    translate(host, frame, ip, embedded, &own, &hop)
}

/// An error about a packet of a client to a masqueraded real server.
#[inline(always)]
fn of_real_server<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    ip: &Ipv4,
    embedded: &Embedded,
) -> Action {
    let (client, client_port) = (embedded.source, embedded.source_port);
    let hash = flow_hash(client, client_port, embedded.protocol, host.seed());
    let matches = matches_reply(
        host,
        [client, embedded.destination],
        [client_port, embedded.destination_port],
    );
    let Some(found) = find_flow(host, hash, host.buckets(), embedded.protocol, &matches) else {
        return Action::PASS;
    };
    if ip.ttl <= 1 {
        return drop(host, Counter::TtlExpired);
    }
    let ClientHop::Known(hop) = host.client_hop(client, None) else {
        return drop(host, Counter::NoNextHop);
    };
    host.count(Counter::IcmpReturned);
    host.add_stats(
        destination_of(found.ports_destination),
        DestinationStats::output(ip.length as u64),
    );
    let own = Own {
        address: virtual_of(found.addresses),
        port: virtual_port_of(found.ports_destination),
        replaces_source: false,
    };
    translate(host, frame, ip, embedded, &own, &hop)
}

/// What one end of the quoted packet becomes; the error's other end becomes the same address.
struct Own {
    address: u32,
    port: u16,
    /// Replaces the quoted packet's source, and the error's destination; else the other two.
    replaces_source: bool,
}

/// Rewrites an error of a masqueraded connection (`ip_vs_nat_icmp`): as there, the checksum of the quoted TCP or UDP header
/// stays, since little of what it covers is quoted and nobody checks it.
#[inline(always)]
fn translate<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    ip: &Ipv4,
    embedded: &Embedded,
    own: &Own,
    hop: &NextHop,
) -> Action {
    let translated = rewrite_quoted(frame, ip, embedded, own)
        .filter(|()| readdress(frame, ip, own.address, !own.replaces_source))
        .and_then(|()| {
            frame.forget();
            address_frame(frame, hop)
        });
    translated.unwrap_or_else(|| drop(host, Counter::Bug))
}

#[inline(always)]
fn rewrite_quoted<F: Frame>(
    frame: &mut F,
    ip: &Ipv4,
    embedded: &Embedded,
    own: &Own,
) -> Option<()> {
    let (old, old_port) = if own.replaces_source {
        (embedded.source, embedded.source_port)
    } else {
        (embedded.destination, embedded.destination_port)
    };
    let header = frame.window::<PLAIN_IP>(embedded.at)?;
    let [a0, a1, a2, a3] = own.address.to_ne_bytes();
    let [_, _, _, _, _, _, _, _, _, _, c0, c1, s0, s1, s2, s3, d0, d1, d2, d3] = header;
    if own.replaces_source {
        (*s0, *s1, *s2, *s3) = (a0, a1, a2, a3);
    } else {
        (*d0, *d1, *d2, *d3) = (a0, a1, a2, a3);
    }
    let moved = Delta::default().word(old, own.address);
    let old_sum = u16::from_ne_bytes([*c0, *c1]);
    let new_sum = moved.apply(old_sum);
    [*c0, *c1] = new_sum.to_ne_bytes();
    let ports = frame.window::<4>(embedded.ports_at)?;
    let [s0, s1, d0, d1] = ports;
    if own.replaces_source {
        [*s0, *s1] = own.port.to_ne_bytes();
    } else {
        [*d0, *d1] = own.port.to_ne_bytes();
    }
    // What changed in the quoted packet changed in the message.
    let moved = moved.half(old_sum, new_sum).half(old_port, own.port);
    let [_, _, c0, c1] = frame.window::<4>(ip.payload)?;
    [*c0, *c1] = moved.apply(u16::from_ne_bytes([*c0, *c1])).to_ne_bytes();
    Some(())
}

/// An error about an outer packet of ours: the sender of the inner one is told, as long as enough of it is quoted.
#[inline(always)]
fn tunnel_error<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    ip: &Ipv4,
    at: usize,
    kind: u8,
    code: u8,
    rest: u32,
) -> Action {
    // Neither routers' errors nor our outer headers have options.
    if ip.payload - ip.offset != PLAIN_IP {
        return Action::PASS;
    }
    let Some([version_ihl, _, _, _, _, _, f0, f1, _, _, _, _, s0, s1, s2, s3, d0, d1, d2, d3]) =
        frame.window::<PLAIN_IP>(at)
    else {
        return Action::PASS;
    };
    let source = u32::from_ne_bytes([*s0, *s1, *s2, *s3]);
    let server = u32::from_ne_bytes([*d0, *d1, *d2, *d3]);
    let fragment = u16::from_be_bytes([*f0, *f1]) & FRAGMENT_OFFSET != 0;
    if *version_ihl != 0x45 || fragment || source != ip.destination {
        return Action::PASS;
    }
    let Some(inner) = embedded(frame, ip, at + PLAIN_IP) else { return Action::PASS };
    let key = FlowKey::new(
        inner.source,
        inner.destination,
        inner.source_port,
        inner.destination_port,
        inner.protocol,
    );
    let Some(found) = find_key(host, &key, host.buckets(), host.seed()) else {
        return Action::PASS;
    };
    let Some(destination) = host.destination(destination_of(found.ports_destination)) else {
        return drop(host, Counter::Bug);
    };
    if found.control.method_bits() != Method::Tun as u32 || !is_tunnel(destination, source, server)
    {
        return Action::PASS;
    }
    let rest = if kind == Report::UNREACHABLE && code == Report::FRAGMENTATION_NEEDED {
        if !inner.dont_fragment {
            return Action::PASS;
        }
        Report::inner_mtu(rest & 0xffff, destination.mtu, outer(found.control.method_bits()))
    } else {
        rest
    };
    host.count(Counter::IcmpTunnel);
    tell(host, Report::tunnelled(kind, code, rest), inner.destination)
}

/// Whether an outer packet goes to a destination.
#[inline(always)]
const fn is_tunnel(destination: &DestinationRecord, source: u32, server: u32) -> bool {
    destination.address == server && destination.tunnel_source == source
}
