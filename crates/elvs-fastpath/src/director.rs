//! The life of one packet at the director.
//!
//! **Invariant:** a packet that belongs to no virtual service leaves as it came; every other one is forwarded, or
//! handed to the host's stack, or dropped, and the latter two are counted by reason.

use elvs_common::{
    Control, Counter, DestinationFlags, DestinationStats, FilterBits, ICMP, Method, TCP, UDP,
};

use crate::atomic::Atomic64;
use crate::flow::{
    FoundFlow, client_of, client_port_of, destination_of, flow_hash, home_bucket, search,
    virtual_of, virtual_port_of,
};
use crate::forward::{Rewrite, daemon_hop, is_ready, masquerade, passes, send, send_to};
use crate::fragment::{forward_fragment, lead_reply, lead_request};
use crate::frame::{Action, Frame, Verdict};
use crate::host::{ClientHop, Host, drop};
use crate::icmp::{forward_icmp, open_icmp};
use crate::open::{flow_key, open, open_at_once, open_remembered};
use crate::packet::{
    Ipv4, Kind, Transport, is_balanced, is_wide_protocol, kind, parse_ipv4, parse_plain,
    parse_transport, plain_addresses, plain_is_fragment, plain_protocol,
};
use crate::report::{Report, refuse_and_tell, report};
use crate::reset::{leave_removed, reset};
use crate::service::{
    find_real_server, has_call_servers, has_wide, is_virtual, may_be_real_server,
    tells_real_servers, virtual_tables,
};
use crate::side::Narrow;
use crate::sip::{find_call, open_for_server, send_for_server};
use crate::tcp::Direction;
use crate::track::{asks_anew, end_for, is_reuse, track};
use crate::tunnel::forward_tunnel;
use crate::wide::{
    connect_wide, flood_wide, forward_full_nat_fragment, forward_full_nat_icmp, forward_ipsec,
    forward_wide, forward_wide_fragment, forward_wide_icmp, open_full_nat, open_wide, persist_wide,
    reply_full_nat, reply_wide, send_full_nat, send_wide,
};

/// Times that [`forward_new`] is tried; the kernel allows as many tail calls.
pub const SCHEDULE_TRIES: u32 = 32;

/// Decides about one frame and rewrites it.
pub fn process<H: Host, F: Frame>(host: &H, frame: &mut F) -> Verdict {
    let mut action = forward_plain(host, frame);
    let mut tries = 0;
    while tries < SCHEDULE_TRIES {
        action = match action {
            Action::GENERAL => forward_general(host, frame),
            Action::ICMP => forward_icmp(host, frame),
            Action::FRAGMENT => forward_fragment(host, frame),
            Action::REPORT => report(host, frame),
            Action::SCHEDULE => forward_new(host, frame),
            Action::PERSIST => persist(host, frame),
            Action::WIDE => forward_wide(host, frame),
            Action::NARROW => forward_narrow(host, frame),
            Action::WIDE_REPLY => reply_wide(host, frame),
            Action::WIDE_OPEN => open_wide(host, frame),
            Action::WIDE_PERSIST => persist_wide(host, frame),
            Action::WIDE_CONNECT => connect_wide(host, frame),
            Action::WIDE_SEND => send_wide(host, frame),
            Action::WIDE_ICMP => forward_wide_icmp(host, frame),
            Action::WIDE_FRAGMENT => forward_wide_fragment(host, frame),
            Action::TUNNEL => forward_tunnel(host, frame),
            Action::FULL_NAT_OPEN => open_full_nat(host, frame),
            Action::FULL_NAT => send_full_nat(host, frame),
            Action::FULL_NAT_ICMP => forward_full_nat_icmp(host, frame),
            Action::FULL_NAT_FRAGMENT => forward_full_nat_fragment(host, frame),
            Action::FULL_NAT_REPLY => reply_full_nat(host, frame),
            Action::RESET => reset(host, frame),
            Action::ICMP_OPEN => open_icmp(host, frame),
            Action::IPSEC => forward_ipsec(host, frame),
            Action::SIP => find_call(host, frame),
            Action::SIP_SERVER => open_for_server(host, frame),
            Action::SIP_SEND => send_for_server(host, frame),
            Action::FLOOD => flood(host, frame),
            Action::WIDE_FLOOD => flood_wide(host, frame),
            decided => return decided.verdict(),
        };
        tries += 1;
    }
    drop(host, Counter::SchedulerContended).verdict()
}

/// First stage of [`process`]: forwards packets of known connections and passes what is not ours, for frames without
/// VLAN tags and IP options. [`Action::GENERAL`] leaves the frame to [`forward_general`], [`Action::SCHEDULE`] to
/// [`forward_new`].
///
/// There are stages because each is a program of its own in the kernel: the packets of known connections, nearly all
/// there are, run through little code with constant offsets, and the verifier through less.
#[inline(always)]
pub fn forward_plain<H: Host, F: Frame>(host: &H, frame: &mut F) -> Action {
    match kind(frame) {
        Kind::Plain => {
            // The rest of the header is read afterwards: what is read before a table is asked must be kept meanwhile.
            let Some((source, destination)) = plain_addresses(frame) else { return Action::PASS };
            let tables = virtual_tables(host, destination);
            if tables & FilterBits::WIDE != 0 {
                return Action::WIDE;
            }
            let to_virtual = tables & FilterBits::NARROW != 0;
            if !to_virtual && !may_be_real_server(host, source) {
                // A router's errors come from and go to addresses of its own.
                return if plain_protocol(frame) == Some(ICMP) {
                    Action::GENERAL
                } else {
                    Action::PASS
                };
            }
            // Twice, so that the protocol is a constant from here on.
            match plain_protocol(frame) {
                Some(TCP) => forward_plain_of(host, frame, TCP, to_virtual),
                Some(UDP) => forward_plain_of(host, frame, UDP, to_virtual),
                Some(ICMP) => Action::GENERAL,
                // SCTP, AH and ESP of either family are the wide stage's.
                _ => Action::WIDE,
            }
        }
        Kind::General => Action::GENERAL,
        Kind::Wide if has_wide(host) => Action::WIDE,
        Kind::Wide | Kind::Other => Action::PASS,
    }
}

#[inline(always)]
fn forward_plain_of<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    protocol: u8,
    to_virtual: bool,
) -> Action {
    match parse_plain(frame, protocol) {
        Some(ip) => forward_known::<true, _, _>(host, frame, &ip, to_virtual),
        // Fragments, and headers that contradict themselves.
        None => Action::GENERAL,
    }
}

/// As [`forward_plain`], for frames with VLAN tags or IP options, and fragments. [`Action::ICMP`] leaves the frame to
/// [`forward_icmp`], [`Action::FRAGMENT`] to [`forward_fragment`], [`Action::REPORT`] has [`report`] tell the sender.
#[inline(always)]
pub fn forward_general<H: Host, F: Frame>(host: &H, frame: &mut F) -> Action {
    match parse_ipv4(host, frame) {
        Some(ip) if ip.protocol == ICMP => Action::ICMP,
        Some(ip) => {
            let tables = virtual_tables(host, ip.destination);
            if tables & FilterBits::WIDE != 0 {
                return Action::WIDE;
            }
            let to_virtual = tables & FilterBits::NARROW != 0;
            if is_wide_protocol(ip.protocol) && (to_virtual || may_be_real_server(host, ip.source))
            {
                return Action::WIDE;
            }
            forward_ipv4(host, frame, &ip, to_virtual)
        }
        // IPv6 with VLAN tags.
        None if has_wide(host) => Action::WIDE,
        None => Action::PASS,
    }
}

/// As [`forward_general`], for packets that the wide stages have found to be none of theirs: the filter of virtual addresses
/// has but one bit for IPv4 addresses by full NAT and folded IPv6 addresses, and errs towards yes.
#[inline(always)]
pub fn forward_narrow<H: Host, F: Frame>(host: &H, frame: &mut F) -> Action {
    match parse_ipv4(host, frame) {
        Some(ip) if ip.protocol == ICMP => Action::ICMP,
        Some(ip) => {
            let tables = virtual_tables(host, ip.destination);
            forward_ipv4(host, frame, &ip, tables & FilterBits::NARROW != 0)
        }
        None => Action::PASS,
    }
}

/// An IPv4 packet of the table of IPv4 connections, fragments included.
#[inline(always)]
fn forward_ipv4<H: Host, F: Frame>(host: &H, frame: &mut F, ip: &Ipv4, to_virtual: bool) -> Action {
    if !ip.later || ip.malformed {
        forward_known::<false, _, _>(host, frame, ip, to_virtual)
    } else if is_balanced(ip.protocol) && (to_virtual || may_be_real_server(host, ip.source)) {
        Action::FRAGMENT
    } else {
        Action::PASS
    }
}

/// A packet of a known connection. The plain stage looks in the home bucket only and has no loops: connections elsewhere,
/// those that begin anew, contention and what is to be refused it leaves to the general one, which starts from the frame.
#[inline(always)]
fn forward_known<const PLAIN: bool, H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    ip: &Ipv4,
    to_virtual: bool,
) -> Action {
    if !is_balanced(ip.protocol) {
        return Action::PASS;
    }
    let mut otherwise = Action::PASS;
    if to_virtual {
        if ip.malformed {
            return refuse(host, ip.destination, Counter::Malformed);
        }
        let Some(transport) = parse_transport(frame, ip) else {
            if PLAIN {
                return Action::GENERAL;
            }
            return refuse(host, ip.destination, Counter::Malformed);
        };
        otherwise = request::<PLAIN, _, _>(host, frame, ip, &transport);
        if otherwise != Action::SCHEDULE {
            return otherwise;
        }
        // A client's address may look like a virtual one to the filter: it may still be a reply.
    }
    if !may_be_real_server(host, ip.source) || ip.malformed {
        return otherwise;
    }
    let Some(transport) = parse_transport(frame, ip) else { return otherwise };
    match reply::<PLAIN, _, _>(host, frame, ip, &transport) {
        Action::PASS if otherwise == Action::PASS && PLAIN && tells_real_servers(host) => {
            Action::GENERAL
        }
        Action::PASS if otherwise == Action::PASS && !PLAIN => {
            // The real server may begin by itself, for a service with the SIP engine.
            match if ip.protocol == UDP { begun_by_server(host, ip.fragment) } else { Action::PASS }
            {
                Action::PASS if tells_real_servers(host) => refuse_stray(host, ip, &transport),
                action => action,
            }
        }
        Action::PASS => otherwise,
        action => action,
    }
}

/// What becomes of a datagram of no known connection that a masqueraded real server sends to nobody virtual.
#[inline(always)]
pub(crate) fn begun_by_server<H: Host>(host: &H, fragment: bool) -> Action {
    if !fragment && has_call_servers(host) { Action::SIP_SERVER } else { Action::PASS }
}

/// A packet of no connection from what may be a masqueraded real server: if it is one, by its port, it is told
/// (`nat_icmp_send`); a reset is not.
#[inline(always)]
fn refuse_stray<H: Host>(host: &H, ip: &Ipv4, transport: &Transport) -> Action {
    if transport.flags.resets() {
        return Action::PASS;
    }
    let Some(index) = find_real_server(host, ip.source, transport.source_port(), ip.protocol)
    else {
        return Action::PASS;
    };
    let source = host.destination(index).map_or(0, |destination| destination.tunnel_source);
    refuse_and_tell(host, Counter::NoConnection, Report::PORT_UNREACHABLE, source)
}

/// Last stage of [`process`]: schedules a packet that belongs to no known connection. [`Action::SCHEDULE`] means that
/// another CPU moved the scheduler meanwhile: try again; [`Action::PERSIST`] that [`persist`] is to be called before. All
/// in all up to [`SCHEDULE_TRIES`] times.
#[inline(always)]
pub fn forward_new<H: Host, F: Frame>(host: &H, frame: &mut F) -> Action {
    match parse_new(host, frame) {
        Some((ip, transport)) => open::<Narrow, _, _>(host, frame, &ip, &transport),
        None => Action::PASS,
    }
}

/// The stage after [`forward_new`] for a client that a persistent service, or one that goes by locality, remembers nothing
/// of. [`Action::SCHEDULE`] goes back there: the service has changed meanwhile; [`Action::PERSIST`] means to try this again.
#[inline(always)]
pub fn persist<H: Host, F: Frame>(host: &H, frame: &mut F) -> Action {
    match parse_new(host, frame) {
        Some((ip, transport)) => open_remembered::<Narrow, _, _>(host, frame, &ip, &transport),
        None => Action::PASS,
    }
}

/// The stage after [`forward_new`] in flood mode; see [`crate::flood`].
#[inline(always)]
pub fn flood<H: Host, F: Frame>(host: &H, frame: &mut F) -> Action {
    let Some(ip) = parse_ipv4(host, frame) else { return Action::PASS };
    let Some(transport) = parse_transport(frame, &ip) else { return Action::PASS };
    crate::flood::forward::<Narrow, _, _>(host, frame, &ip, &transport)
}

/// Headers that the stages before have seen to be there.
#[inline(always)]
fn parse_new<H: Host, F: Frame>(host: &H, frame: &mut F) -> Option<(Ipv4, Transport)> {
    let ip = match (kind(frame), plain_protocol(frame), plain_is_fragment(frame)) {
        (Kind::Plain, Some(protocol), false) => parse_plain(frame, protocol),
        _ => parse_ipv4(host, frame),
    }?;
    let transport = parse_transport(frame, &ip)?;
    // One word, so that nothing of it is where something else was on another way through the header.
    let word = host.forget(ip.protocol as u64 | (ip.ttl as u64) << 8 | (ip.length as u64) << 16);
    let ip = Ipv4 {
        protocol: (word & 0xff) as u8,
        ttl: (word >> 8 & 0xff) as u8,
        length: (word >> 16 & 0xffff) as u16,
        ..ip
    };
    Some((ip, transport))
}

/// A packet that cannot be told apart: dropped if its address is virtual, else none of ours.
#[inline(always)]
fn refuse<H: Host>(host: &H, address: u32, why: Counter) -> Action {
    if is_virtual(host, address) { drop(host, why) } else { Action::PASS }
}

/// A packet towards what may be a virtual address.
#[inline(always)]
fn request<const PLAIN: bool, H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    ip: &Ipv4,
    transport: &Transport,
) -> Action {
    let key = flow_key(ip, transport);
    let hash = key.hash(host.seed());
    let home = home_bucket(hash, host.buckets());
    let Some(bucket) = host.bucket(home) else { return drop(host, Counter::Bug) };
    let insertions = bucket.insertions();
    let found = search::<PLAIN, _>(host, bucket, home, ip.protocol, &key.matches());
    if PLAIN && !found.hit && bucket.displaced().load() != 0 {
        return Action::GENERAL;
    }
    if found.hit {
        let anew = if PLAIN {
            asks_anew(ip.protocol, transport.flags)
        } else {
            is_reuse(host, ip.protocol, transport.flags, &found)
        };
        if !anew {
            let index = destination_of(found.ports_destination);
            let direction = Direction::of_request(found.control.method_bits());
            return known::<PLAIN, _, _>(host, frame, ip, transport, &found, index, direction);
        }
        if PLAIN {
            return Action::GENERAL;
        }
        end_for::<Narrow, _>(host, &found, Counter::Reused);
    }
    if PLAIN {
        open_at_once(host, frame, ip, transport, bucket, insertions)
    } else {
        Action::SCHEDULE
    }
}

/// A packet from the client of a known connection.
#[inline(always)]
fn known<const PLAIN: bool, H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    ip: &Ipv4,
    transport: &Transport,
    found: &FoundFlow<'_, H::Word>,
    index: u32,
    direction: Direction,
) -> Action {
    let Some(destination) = host.destination(index) else { return drop(host, Counter::Bug) };
    let hop = daemon_hop(destination);
    let method = found.control.method_bits();
    if PLAIN && (!is_ready(destination, hop) || !passes(ip, method, destination)) {
        return Action::GENERAL;
    }
    if destination.flags & DestinationFlags::AVAILABLE == 0 {
        if PLAIN {
            return Action::GENERAL;
        }
        let flags = destination.flags;
        return leave_removed::<Narrow, _>(host, ip, transport, found, flags);
    }
    if !track::<PLAIN, _, _, _>(host, ip.protocol, transport.flags, found, index, direction) {
        return Action::GENERAL;
    }
    host.add_stats(index, DestinationStats::input(ip.length as u64));
    if ip.fragment {
        lead_request(host, frame, ip, index, method);
    }
    if PLAIN {
        send_to::<PLAIN, _, _>(host, frame, ip, method, destination, hop)
    } else {
        send(host, frame, ip, method, index, destination)
    }
}

/// What tells a masqueraded connection by its client's and its real server's address and port. The connection's own method
/// counts: its destination may have another one by now.
#[inline(always)]
pub(crate) fn matches_reply<H: Host>(
    host: &H,
    addresses: [u32; 2],
    ports: [u16; 2],
) -> impl Fn(Control, u64, u64) -> bool + Copy {
    // What a loop keeps has eight bytes; see [`crate::flow::Step`].
    let wanted = [addresses.map(u64::from), ports.map(u64::from)];
    move |control: Control, addresses: u64, ports_destination: u64| {
        let [[client, address], [client_port, port]] = wanted;
        client_of(addresses) as u64 == client
            && client_port_of(ports_destination) as u64 == client_port
            && control.method_bits() == Method::Nat as u32
            && host.destination(destination_of(ports_destination)).is_some_and(|d| {
                // A destination on all ports gets the virtual one.
                let own = if d.port == 0 { virtual_port_of(ports_destination) } else { d.port };
                d.address as u64 == address && own as u64 == port
            })
    }
}

/// A packet from what may be a real server behind NAT.
#[inline(always)]
fn reply<const PLAIN: bool, H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    ip: &Ipv4,
    transport: &Transport,
) -> Action {
    let client = ip.destination;
    let client_port = transport.destination_port();
    let hash = flow_hash(client, client_port, ip.protocol, host.seed());
    let matches = matches_reply(host, [client, ip.source], [client_port, transport.source_port()]);
    let home = home_bucket(hash, host.buckets());
    let Some(bucket) = host.bucket(home) else { return drop(host, Counter::Bug) };
    let found = search::<PLAIN, _>(host, bucket, home, ip.protocol, &matches);
    // What real servers begin with is looked at by the general stage, too.
    if PLAIN && !found.hit && (ip.protocol == UDP || bucket.displaced().load() != 0) {
        return Action::GENERAL;
    }
    if !found.hit {
        return Action::PASS;
    }
    let index = destination_of(found.ports_destination);
    if ip.ttl <= 1 {
        if PLAIN {
            return Action::GENERAL;
        }
        // The stack would answer from its address on the real server's side.
        let source = host.destination(index).map_or(0, |destination| destination.tunnel_source);
        return refuse_and_tell(host, Counter::TtlExpired, Report::TIME_EXCEEDED, source);
    }
    if !track::<PLAIN, _, _, _>(
        host,
        ip.protocol,
        transport.flags,
        &found,
        index,
        Direction::Output,
    ) {
        return Action::GENERAL;
    }
    host.add_stats(index, DestinationStats::output(ip.length as u64));
    if ip.fragment {
        lead_reply(host, frame, ip, index, virtual_of(found.addresses));
    }
    let ClientHop::Known(hop) = host.client_hop(client, None) else {
        return drop(host, Counter::NoNextHop);
    };
    let rewrite = Rewrite {
        address: virtual_of(found.addresses),
        port: virtual_port_of(found.ports_destination),
        source: true,
    };
    masquerade::<PLAIN, _>(frame, ip, &hop, &rewrite).unwrap_or_else(|| drop(host, Counter::Bug))
}
