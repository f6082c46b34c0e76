//! The life of one packet at the director.
//!
//! **Invariant:** a packet that belongs to no virtual service leaves as it came; every other one is forwarded, or
//! handed to the host's stack, or dropped, and the latter two are counted by reason.

use elvs_common::{
    Control, Counter, DestinationFlags, DestinationStats, Method, SettingFlags, TCP, UDP,
};

use crate::atomic::Atomic64;
use crate::flow::{
    FoundFlow, client_of, client_port_of, destination_of, flow_hash, home_bucket, search,
    virtual_of, virtual_port_of,
};
use crate::forward::{Rewrite, daemon_hop, is_ready, masquerade, send, send_to};
use crate::frame::{Action, Frame, Verdict};
use crate::host::{ClientHop, Host, drop};
use crate::open::{flow_key, open, open_at_once, open_remembered};
use crate::packet::{
    Ipv4, Kind, Transport, is_balanced, kind, parse_ipv4, parse_plain, parse_transport,
    plain_addresses, plain_protocol,
};
use crate::service::{is_virtual, may_be_real_server, may_be_virtual};
use crate::tcp::Direction;
use crate::track::{asks_anew, end_for, is_reuse, track};
use crate::tunnel::forward_tunnel;

/// Times that [`forward_new`] is tried; the kernel allows as many tail calls.
pub const SCHEDULE_TRIES: u32 = 32;

/// Decides about one frame and rewrites it.
pub fn process<H: Host, F: Frame>(host: &H, frame: &mut F) -> Verdict {
    let mut action = forward_plain(host, frame);
    if action == Action::GENERAL {
        action = forward_general(host, frame);
    }
    let mut tries = 0;
    while tries < SCHEDULE_TRIES {
        action = match action {
            Action::SCHEDULE => forward_new(host, frame),
            Action::PERSIST => persist(host, frame),
            Action::TUNNEL => forward_tunnel(host, frame),
            decided => return decided.verdict(),
        };
        tries += 1;
    }
    if action == Action::SCHEDULE || action == Action::PERSIST {
        action = drop(host, Counter::SchedulerContended);
    }
    action.verdict()
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
            let to_virtual = may_be_virtual(host, destination);
            if !to_virtual && !may_be_real_server(host, source) {
                return Action::PASS;
            }
            // Twice, so that the protocol is a constant from here on.
            match plain_protocol(frame) {
                Some(TCP) => forward_plain_of(host, frame, TCP, to_virtual),
                Some(UDP) => forward_plain_of(host, frame, UDP, to_virtual),
                _ => Action::PASS,
            }
        }
        Kind::General => Action::GENERAL,
        Kind::Other => Action::PASS,
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
        None if to_virtual => Action::GENERAL,
        None => Action::PASS,
    }
}

/// As [`forward_plain`], for frames with VLAN tags or IP options.
#[inline(always)]
pub fn forward_general<H: Host, F: Frame>(host: &H, frame: &mut F) -> Action {
    match parse_ipv4(host, frame) {
        Some(ip) => {
            forward_known::<false, _, _>(host, frame, &ip, may_be_virtual(host, ip.destination))
        }
        None => Action::PASS,
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
        if ip.fragment || ip.malformed {
            let why = if ip.fragment { Counter::Fragment } else { Counter::Malformed };
            return refuse(host, ip.destination, why);
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
    if !may_be_real_server(host, ip.source) || ip.fragment || ip.malformed {
        return otherwise;
    }
    let Some(transport) = parse_transport(frame, ip) else { return otherwise };
    match reply::<PLAIN, _, _>(host, frame, ip, &transport) {
        Action::PASS => otherwise,
        action => action,
    }
}

/// Last stage of [`process`]: schedules a packet that belongs to no known connection. [`Action::SCHEDULE`] means that
/// another CPU moved the scheduler meanwhile: try again; [`Action::PERSIST`] that [`persist`] is to be called before. All
/// in all up to [`SCHEDULE_TRIES`] times.
#[inline(always)]
pub fn forward_new<H: Host, F: Frame>(host: &H, frame: &mut F) -> Action {
    match parse_new(host, frame) {
        Some((ip, transport)) => open(host, frame, &ip, &transport),
        None => Action::PASS,
    }
}

/// The stage after [`forward_new`] for a client that a persistent service, or one that goes by locality, remembers nothing
/// of. [`Action::SCHEDULE`] goes back there: the service has changed meanwhile; [`Action::PERSIST`] means to try this again.
#[inline(always)]
pub fn persist<H: Host, F: Frame>(host: &H, frame: &mut F) -> Action {
    match parse_new(host, frame) {
        Some((ip, transport)) => open_remembered(host, frame, &ip, &transport),
        None => Action::PASS,
    }
}

/// Headers that the stages before have seen to be there.
#[inline(always)]
fn parse_new<H: Host, F: Frame>(host: &H, frame: &mut F) -> Option<(Ipv4, Transport)> {
    let ip = match (kind(frame), plain_protocol(frame)) {
        (Kind::Plain, Some(protocol)) => parse_plain(frame, protocol),
        _ => parse_ipv4(host, frame),
    }?;
    let transport = parse_transport(frame, &ip)?;
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
            let direction = if found.control.method_bits() == Method::Nat as u32 {
                Direction::Input
            } else {
                Direction::InputOnly
            };
            return known::<PLAIN, _, _>(host, frame, ip, transport, &found, index, direction);
        }
        if PLAIN {
            return Action::GENERAL;
        }
        end_for(host, &found, Counter::Reused);
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
    if PLAIN && !is_ready(destination, hop) {
        return Action::GENERAL;
    }
    if destination.flags & DestinationFlags::AVAILABLE == 0 {
        if !PLAIN && host.settings() & SettingFlags::EXPIRE_NODEST_CONN != 0 {
            end_for(host, found, Counter::ExpiredNodest);
            return Action::SCHEDULE;
        }
        return drop(host, Counter::DestinationGone);
    }
    if !track::<PLAIN, _>(host, ip.protocol, transport.flags, found, index, direction) {
        return Action::GENERAL;
    }
    host.add_stats(
        index,
        DestinationStats {
            in_packets: 1,
            in_bytes: ip.length as u64,
            ..DestinationStats::default()
        },
    );
    let method = found.control.method_bits();
    if PLAIN {
        send_to(host, frame, ip, method, destination, hop)
    } else {
        send(host, frame, ip, method, index, destination)
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
    // The connection's own method counts: its destination may have another one by now.
    let wanted =
        [client as u64, client_port as u64, ip.source as u64, transport.source_port() as u64];
    let matches = move |control: Control, addresses: u64, ports_destination: u64| {
        let [client, client_port, address, port] = wanted;
        client_of(addresses) as u64 == client
            && client_port_of(ports_destination) as u64 == client_port
            && control.method_bits() == Method::Nat as u32
            && host.destination(destination_of(ports_destination)).is_some_and(|d| {
                // A destination on all ports gets the virtual one.
                let own = if d.port == 0 { virtual_port_of(ports_destination) } else { d.port };
                d.address as u64 == address && own as u64 == port
            })
    };
    let home = home_bucket(hash, host.buckets());
    let Some(bucket) = host.bucket(home) else { return drop(host, Counter::Bug) };
    let found = search::<PLAIN, _>(host, bucket, home, ip.protocol, &matches);
    if PLAIN && !found.hit && bucket.displaced().load() != 0 {
        return Action::GENERAL;
    }
    if !found.hit {
        return Action::PASS;
    }
    if ip.ttl <= 1 {
        return drop(host, Counter::TtlExpired);
    }
    let index = destination_of(found.ports_destination);
    if !track::<PLAIN, _>(host, ip.protocol, transport.flags, &found, index, Direction::Output) {
        return Action::GENERAL;
    }
    host.add_stats(
        index,
        DestinationStats {
            out_packets: 1,
            out_bytes: ip.length as u64,
            ..DestinationStats::default()
        },
    );
    let ClientHop::Known(hop) = host.client_hop(client, None) else {
        return drop(host, Counter::NoNextHop);
    };
    let rewrite = Rewrite {
        address: virtual_of(found.addresses),
        port: virtual_port_of(found.ports_destination),
        source: true,
    };
    masquerade(frame, ip, &hop, &rewrite).unwrap_or_else(|| drop(host, Counter::Bug))
}
