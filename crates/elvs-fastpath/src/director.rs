//! The life of one packet at the director.
//!
//! **Invariant:** a packet that belongs to no virtual service leaves as it came; every other one is forwarded, or
//! handed to the host's stack, or dropped, and the latter two are counted by reason.

use elvs_common::{
    Control, Counter, DestinationFlags, DestinationLoad, DestinationRecord, DestinationStats,
    Method, NextHop, ServiceRecord, TCP, TcpState,
};

use crate::atomic::Atomic64;
use crate::flow::{
    Eviction, FlowKey, FoundFlow, Inserted, NewFlow, client_of, client_port_of, destination_of,
    find_flow, flow_hash, insert_flow, ports_of, release_flow, virtual_of, virtual_port_of,
};
use crate::forward::{Rewrite, direct, masquerade, next_hop, tunnel};
use crate::frame::{Frame, Verdict};
use crate::host::{ClientHop, Host, add_load};
use crate::packet::{Ipv4, Transport, is_balanced, parse_ipv4, parse_transport};
use crate::schedule::{Pick, pick};
use crate::service::{find_service, is_virtual, may_be_real_server, may_be_virtual};
use crate::tcp::{Direction, TcpFlags, next_state};

/// Times a state change is repeated when another CPU changed the connection meanwhile.
const TRACK_TRIES: u32 = 4;
/// TCP port 20, as loaded: IPVS never schedules connections from it (active FTP's data connections).
const FTP_DATA: u16 = 20u16.to_be();

/// Decides about one frame and rewrites it.
#[inline(always)]
pub fn process<H: Host, F: Frame>(host: &H, frame: &mut F) -> Verdict {
    let Some(ip) = parse_ipv4(frame) else { return Verdict::Pass };
    if may_be_virtual(host, ip.destination) {
        if !is_balanced(ip.protocol) {
            return Verdict::Pass;
        }
        if ip.fragment || ip.malformed {
            return refuse(
                host,
                ip.destination,
                if ip.fragment { Counter::Fragment } else { Counter::Malformed },
            );
        }
        let Some(transport) = parse_transport(frame, &ip) else {
            return refuse(host, ip.destination, Counter::Malformed);
        };
        return request(host, frame, &ip, &transport);
    }
    if may_be_real_server(host, ip.source)
        && is_balanced(ip.protocol)
        && !ip.fragment
        && !ip.malformed
        && let Some(transport) = parse_transport(frame, &ip)
    {
        return reply(host, frame, &ip, &transport);
    }
    Verdict::Pass
}

/// A packet that cannot be told apart: dropped if its address is virtual, else none of ours.
#[inline(always)]
fn refuse<H: Host>(host: &H, address: u32, why: Counter) -> Verdict {
    if is_virtual(host, address) { drop(host, why) } else { Verdict::Pass }
}

#[inline(always)]
fn drop<H: Host>(host: &H, why: Counter) -> Verdict {
    host.count(why);
    Verdict::Drop
}

/// A packet towards what may be a virtual address.
#[inline(always)]
fn request<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    ip: &Ipv4,
    transport: &Transport,
) -> Verdict {
    let key = FlowKey {
        addresses: ip.source as u64 | (ip.destination as u64) << 32,
        ports: transport.ports,
        protocol: ip.protocol,
    };
    let hash = flow_hash(ip.source, transport.source_port(), ip.protocol, host.seed());
    let matches = |addresses: u64, ports_destination: u64| {
        addresses == key.addresses && ports_of(ports_destination) == key.ports
    };
    if let Some(found) = find_flow(host, hash, host.buckets(), ip.protocol, matches) {
        if !is_reuse(ip.protocol, transport.flags, found.control) {
            let index = destination_of(found.ports_destination);
            let direction = if found.control.method_bits() == Method::Nat as u32 {
                Direction::Input
            } else {
                Direction::InputOnly
            };
            return known(host, frame, ip, transport, &found, index, direction);
        }
        end_for_reuse(host, &found);
    }
    let Some(service) =
        find_service(host, ip.destination, transport.destination_port(), ip.protocol)
    else {
        return Verdict::Pass;
    };
    if ip.protocol == TCP && (!transport.flags.opens() || transport.source_port() == FTP_DATA) {
        host.count(Counter::NotSyn);
        return Verdict::Pass;
    }
    open(host, frame, ip, transport, &service, key, hash)
}

/// Whether a SYN meets a connection that is over (`net.ipv4.vs.conn_reuse_mode` 1, `is_new_conn_expected`).
#[inline(always)]
const fn is_reuse(protocol: u8, flags: TcpFlags, control: Control) -> bool {
    protocol == TCP
        && flags.syn()
        && (control.state() == TcpState::TimeWait as u8 || control.state() == TcpState::Close as u8)
}

#[inline(always)]
fn end_for_reuse<H: Host>(host: &H, found: &FoundFlow<'_, H::Word>) {
    if release_flow(host, found.bucket, found.slot, found.control) {
        host.count(Counter::Reused);
        let unit = DestinationLoad::unit(found.control.inactive());
        add_load(host, destination_of(found.ports_destination), unit.wrapping_neg());
    }
}

/// A packet from the client of a known connection.
#[inline(always)]
fn known<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    ip: &Ipv4,
    transport: &Transport,
    found: &FoundFlow<'_, H::Word>,
    index: u32,
    direction: Direction,
) -> Verdict {
    let Some(destination) = host.destination(index) else { return drop(host, Counter::Bug) };
    if destination.flags & DestinationFlags::AVAILABLE == 0 {
        return drop(host, Counter::DestinationGone);
    }
    track(host, ip.protocol, transport.flags, found, index, direction);
    host.add_stats(
        index,
        DestinationStats {
            in_packets: 1,
            in_bytes: ip.length as u64,
            ..DestinationStats::default()
        },
    );
    send(host, frame, ip, found.control.method_bits(), destination)
}

/// Keeps a connection's state and time of last packet.
#[inline(always)]
fn track<H: Host>(
    host: &H,
    protocol: u8,
    flags: TcpFlags,
    found: &FoundFlow<'_, H::Word>,
    destination: u32,
    direction: Direction,
) {
    let tick = host.tick();
    let mut control = found.control;
    let mut tries = 0;
    while tries < TRACK_TRIES {
        let (state, inactive) = if protocol == TCP {
            let state = next_state(direction, control.state(), flags);
            (state, !TcpState::is_active_bits(state))
        } else {
            (0, true)
        };
        let next = control.with_state(state, inactive).with_tick(tick);
        if next == control {
            return;
        }
        if found.slot.control.compare_exchange(control.0, next.0).is_ok() {
            if inactive != control.inactive() {
                let moved = DestinationLoad::unit(inactive)
                    .wrapping_sub(DestinationLoad::unit(control.inactive()));
                add_load(host, destination, moved);
            }
            return;
        }
        let now = Control(found.slot.control.load());
        if !control.same_connection(now) {
            return;
        }
        control = now;
        tries += 1;
    }
}

/// The first packet of a connection.
#[inline(always)]
fn open<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    ip: &Ipv4,
    transport: &Transport,
    service: &ServiceRecord,
    key: FlowKey,
    hash: u64,
) -> Verdict {
    let index = match pick(host, service) {
        Pick::Destination(index) => index,
        Pick::Nobody => return drop(host, Counter::NoDestination),
        Pick::Contended => return drop(host, Counter::SchedulerContended),
    };
    let Some(destination) = host.destination(index) else { return drop(host, Counter::Bug) };
    let Some(method) = Method::from_bits(destination.method) else {
        return drop(host, Counter::Bug);
    };
    let direction = if method == Method::Nat { Direction::Input } else { Direction::InputOnly };
    let tick = host.tick();
    let (state, inactive) = if ip.protocol == TCP {
        let state = next_state(direction, TcpState::None as u8, transport.flags);
        (state, !TcpState::is_active_bits(state))
    } else {
        (0, true)
    };
    let control = Control::live(ip.protocol, state, method, inactive, tick);
    let flow = NewFlow { key, hash, control, destination: index };
    let mut index = index;
    let mut connections = 1;
    match insert_flow(host, host.buckets(), &flow, |other| evictable(host, other, tick)) {
        Inserted::Done => {}
        Inserted::Evicted { why, control, destination } => {
            host.count(if why == Eviction::Expired {
                Counter::EvictedExpired
            } else {
                Counter::EvictedHalfOpen
            });
            add_load(host, destination, DestinationLoad::unit(control.inactive()).wrapping_neg());
        }
        Inserted::Exists { destination, .. } => {
            host.count(Counter::InsertRace);
            index = destination;
            connections = 0;
        }
        Inserted::Full => return drop(host, Counter::TableFull),
        Inserted::Contended => return drop(host, Counter::InsertContended),
    }
    if connections == 1 {
        add_load(host, index, DestinationLoad::unit(inactive));
    }
    host.add_stats(
        index,
        DestinationStats {
            connections,
            in_packets: 1,
            in_bytes: ip.length as u64,
            ..DestinationStats::default()
        },
    );
    let Some(destination) = host.destination(index) else { return drop(host, Counter::Bug) };
    if destination.method == Method::Nat as u32 {
        learn_client(host, frame, ip.source);
    }
    send(host, frame, ip, destination.method, destination)
}

/// Judges a connection that is in the way of a new one.
#[inline(always)]
fn evictable<H: Host>(host: &H, control: Control, tick: u32) -> Eviction {
    let idle = tick.wrapping_sub(control.tick());
    if idle > host.timeout(control.protocol(), control.state()) {
        Eviction::Expired
    } else if control.protocol() == TCP && TcpState::is_half_open_bits(control.state()) {
        Eviction::HalfOpen
    } else {
        Eviction::Keep
    }
}

/// Remembers the hop a NAT client's first packet came from, so that the reply need not wait for ARP.
#[inline(always)]
fn learn_client<H: Host, F: Frame>(host: &H, frame: &mut F, client: u32) {
    let ifindex = frame.ingress();
    if let Some([d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5]) = frame.window::<12>(0) {
        let hop = NextHop {
            destination_mac: [*s0, *s1, *s2, *s3, *s4, *s5],
            source_mac: [*d0, *d1, *d2, *d3, *d4, *d5],
            ifindex,
        };
        host.client_hop(client, Some(hop));
    }
}

/// Sends a client's packet to its destination.
#[inline(always)]
fn send<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    ip: &Ipv4,
    method: u32,
    destination: &DestinationRecord,
) -> Verdict {
    if destination.flags & DestinationFlags::LOCAL != 0 {
        return Verdict::Pass;
    }
    if ip.ttl <= 1 {
        return drop(host, Counter::TtlExpired);
    }
    let Some(hop) = next_hop(host, destination) else { return drop(host, Counter::NoNextHop) };
    let sent = match Method::from_bits(method) {
        Some(Method::Dr) => direct(frame, ip, &hop),
        Some(Method::Nat) => {
            let rewrite =
                Rewrite { address: destination.address, port: destination.port, source: false };
            masquerade(frame, ip, &hop, &rewrite)
        }
        Some(Method::Tun) => {
            if destination.mtu != 0 && ip.length as u32 + 20 > destination.mtu {
                return drop(host, Counter::TunnelTooBig);
            }
            match tunnel(frame, ip, &hop, destination) {
                None => return drop(host, Counter::NoHeadroom),
                sent => sent,
            }
        }
        None => None,
    };
    sent.unwrap_or_else(|| drop(host, Counter::Bug))
}

/// A packet from what may be a real server behind NAT.
#[inline(always)]
fn reply<H: Host, F: Frame>(host: &H, frame: &mut F, ip: &Ipv4, transport: &Transport) -> Verdict {
    let client = ip.destination;
    let client_port = transport.destination_port();
    let hash = flow_hash(client, client_port, ip.protocol, host.seed());
    let matches = |addresses: u64, ports_destination: u64| {
        client_of(addresses) == client
            && client_port_of(ports_destination) == client_port
            && host.destination(destination_of(ports_destination)).is_some_and(|d| {
                d.address == ip.source
                    && d.port == transport.source_port()
                    && d.method == Method::Nat as u32
            })
    };
    let Some(found) = find_flow(host, hash, host.buckets(), ip.protocol, matches) else {
        return Verdict::Pass;
    };
    if found.control.method_bits() != Method::Nat as u32 {
        return Verdict::Pass;
    }
    if ip.ttl <= 1 {
        return drop(host, Counter::TtlExpired);
    }
    let index = destination_of(found.ports_destination);
    track(host, ip.protocol, transport.flags, &found, index, Direction::Output);
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
