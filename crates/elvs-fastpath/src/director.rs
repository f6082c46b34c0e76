//! The life of one packet at the director.
//!
//! **Invariant:** a packet that belongs to no virtual service leaves as it came; every other one is forwarded, or
//! handed to the host's stack, or dropped, and the latter two are counted by reason.

use elvs_common::{
    Control, Counter, DestinationFlags, DestinationLoad, DestinationRecord, DestinationStats, Line,
    Method, NextHop, REFRESH_TICKS, TCP, TcpState, UDP, idle_ticks,
};

use crate::atomic::Atomic64;
use crate::flow::{
    Eviction, FlowKey, FoundFlow, Insertion, NewFlow, Slot, Step, client_of, client_port_of,
    destination_of, flow_hash, home_bucket, insert_flow, ports_of, release_flow, search_bucket,
    search_chain, virtual_of, virtual_port_of,
};
use crate::forward::{Hop, Rewrite, direct, masquerade, next_hop, tunnel};
use crate::frame::{Action, Frame, Verdict};
use crate::host::{ClientHop, Host, add_load};
use crate::packet::{
    Ipv4, Kind, Transport, is_balanced, kind, parse_ipv4, parse_plain, parse_transport,
    plain_addresses,
};
use crate::schedule::{Pick, pick};
use crate::service::{find_service, is_virtual, may_be_real_server, may_be_virtual};
use crate::tcp::{Direction, TcpFlags, next_state};

/// Times that [`forward_new`] is tried; the kernel allows as many tail calls.
pub const SCHEDULE_TRIES: u32 = 32;
/// Times a state change is repeated when another CPU changed the connection meanwhile.
const TRACK_TRIES: u32 = 4;
/// TCP port 20, as loaded: IPVS never schedules connections from it (active FTP's data connections).
const FTP_DATA: u16 = 20u16.to_be();

/// Decides about one frame and rewrites it.
pub fn process<H: Host, F: Frame>(host: &H, frame: &mut F) -> Verdict {
    let mut action = forward_plain(host, frame);
    if action == Action::GENERAL {
        action = forward_general(host, frame);
    }
    let mut tries = 0;
    while action == Action::SCHEDULE && tries < SCHEDULE_TRIES {
        action = forward_new(host, frame);
        tries += 1;
    }
    if action == Action::SCHEDULE {
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
            let Some(ip) = parse_plain(frame) else {
                // Fragments, and headers that contradict themselves.
                return if to_virtual { Action::GENERAL } else { Action::PASS };
            };
            // Twice, so that the protocol is a constant from here on.
            match ip.protocol {
                TCP => {
                    let ip = Ipv4 { protocol: TCP, ..ip };
                    forward_known::<true, _, _>(host, frame, &ip, to_virtual)
                }
                UDP => {
                    let ip = Ipv4 { protocol: UDP, ..ip };
                    forward_known::<true, _, _>(host, frame, &ip, to_virtual)
                }
                _ => Action::PASS,
            }
        }
        Kind::General => Action::GENERAL,
        Kind::Other => Action::PASS,
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
/// another CPU moved the scheduler meanwhile: try again, up to [`SCHEDULE_TRIES`] times.
#[inline(always)]
pub fn forward_new<H: Host, F: Frame>(host: &H, frame: &mut F) -> Action {
    // The stages before have seen that these two are there.
    let ip = if kind(frame) == Kind::Plain { parse_plain(frame) } else { parse_ipv4(host, frame) };
    let Some(ip) = ip else { return Action::PASS };
    let Some(transport) = parse_transport(frame, &ip) else { return Action::PASS };
    let Some(service) =
        find_service(host, ip.destination, transport.destination_port(), ip.protocol)
    else {
        return Action::PASS;
    };
    if ip.protocol == TCP && (!transport.flags.opens() || transport.source_port() == FTP_DATA) {
        host.count(Counter::NotSyn);
        return Action::PASS;
    }
    open(host, frame, &ip, &transport, service)
}

/// A packet that cannot be told apart: dropped if its address is virtual, else none of ours.
#[inline(always)]
fn refuse<H: Host>(host: &H, address: u32, why: Counter) -> Action {
    if is_virtual(host, address) { drop(host, why) } else { Action::PASS }
}

#[inline(always)]
fn drop<H: Host>(host: &H, why: Counter) -> Action {
    host.count(why);
    Action::DROP
}

#[inline(always)]
const fn flow_key(ip: &Ipv4, transport: &Transport) -> FlowKey {
    FlowKey {
        addresses: ip.source as u64 | (ip.destination as u64) << 32,
        ports: transport.ports,
        protocol: ip.protocol,
    }
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
    let hash = flow_hash(ip.source, transport.source_port(), ip.protocol, host.seed());
    let (wanted, ports) = (key.addresses, key.ports as u64);
    let matches = move |_: Control, addresses: u64, ports_destination: u64| {
        addresses == wanted && ports_of(ports_destination) as u64 == ports
    };
    let home = home_bucket(hash, host.buckets());
    let Some(bucket) = host.bucket(home) else { return drop(host, Counter::Bug) };
    let found = if PLAIN {
        search_bucket(bucket, home, hash, ip.protocol, &matches)
    } else {
        search_chain(host, bucket, home, hash, ip.protocol, &matches)
    };
    if PLAIN && !found.hit && bucket.displaced().load() != 0 {
        return Action::GENERAL;
    }
    if found.hit {
        if !is_reuse(ip.protocol, transport.flags, found.control) {
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
        end_for_reuse(host, &found);
    }
    Action::SCHEDULE
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
    if destination.flags & DestinationFlags::AVAILABLE == 0 {
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
    send(host, frame, ip, found.control.method_bits(), destination)
}

/// Keeps a connection's state and time of last packet; false if another CPU changed it meanwhile and the plain stage
/// leaves that to the general one.
#[inline(always)]
fn track<const PLAIN: bool, H: Host>(
    host: &H,
    protocol: u8,
    flags: TcpFlags,
    found: &FoundFlow<'_, H::Word>,
    destination: u32,
    direction: Direction,
) -> bool {
    let tick = host.tick();
    if advance(host, found.slot, found.control, protocol, flags, destination, direction, tick) {
        return true;
    }
    if PLAIN {
        return false;
    }
    let mut retrack = Retrack {
        host,
        slot: found.slot,
        control: found.control.0,
        packet: protocol as u64 | (flags.0 as u64) << 8,
        destination: destination as u64,
        direction: direction as u64,
        tick: tick as u64,
    };
    host.repeat(TRACK_TRIES, &mut retrack);
    true
}

/// One try at moving a connection on from `control`; true if nothing is left to do.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "the parts of a packet and of a connection")]
fn advance<H: Host>(
    host: &H,
    slot: &Slot<H::Word>,
    control: Control,
    protocol: u8,
    flags: TcpFlags,
    destination: u32,
    direction: Direction,
    tick: u32,
) -> bool {
    let (state, inactive) = if protocol == TCP {
        let state = next_state(direction, control.state(), flags);
        (state, !TcpState::is_active_bits(state))
    } else {
        (0, true)
    };
    if state == control.state() && idle_ticks(tick, control.tick()) < REFRESH_TICKS {
        return true;
    }
    let next = control.with_state(state, inactive).with_tick(tick);
    if slot.control.compare_exchange(control.0, next.0).is_err() {
        return false;
    }
    if inactive != control.inactive() {
        let left = DestinationLoad::unit(control.inactive());
        add_load(host, destination, DestinationLoad::unit(inactive).wrapping_sub(left));
    }
    true
}

/// Further tries, after another CPU changed the connection meanwhile.
struct Retrack<'a, H: Host> {
    host: &'a H,
    slot: &'a Slot<H::Word>,
    control: u64,
    /// Protocol (low byte), TCP flags (next byte).
    packet: u64,
    destination: u64,
    direction: u64,
    tick: u64,
}

impl<H: Host> Step for Retrack<'_, H> {
    #[inline(always)]
    fn step(&mut self, _round: u32) -> bool {
        let now = Control(self.slot.control.load());
        if !Control(self.control).same_connection(now) {
            return false;
        }
        let [protocol, flags, ..] = self.packet.to_le_bytes();
        let direction = if self.direction == Direction::Input as u64 {
            Direction::Input
        } else if self.direction == Direction::Output as u64 {
            Direction::Output
        } else {
            Direction::InputOnly
        };
        let destination = (self.destination & 0xffff_ffff) as u32;
        let tick = (self.tick & 0xffff_ffff) as u32;
        !advance(self.host, self.slot, now, protocol, TcpFlags(flags), destination, direction, tick)
    }
}

/// The first packet of a connection.
#[inline(always)]
fn open<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    ip: &Ipv4,
    transport: &Transport,
    service: &Line,
) -> Action {
    let key = flow_key(ip, transport);
    let hash = flow_hash(ip.source, transport.source_port(), ip.protocol, host.seed());
    let index = match pick(host, service) {
        Pick::Destination(index) => index,
        Pick::Nobody => return drop(host, Counter::NoDestination),
        Pick::Contended => return Action::SCHEDULE,
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
    let mut method_bits = method as u32;
    let mut connections = 1;
    let inserted = insert_flow(host, host.buckets(), &flow, &|other| evictable(host, other, tick));
    match inserted.outcome {
        Insertion::Done => {}
        Insertion::EvictedExpired | Insertion::EvictedHalfOpen => {
            let expired = inserted.outcome == Insertion::EvictedExpired;
            host.count(if expired { Counter::EvictedExpired } else { Counter::EvictedHalfOpen });
            let unit = DestinationLoad::unit(inserted.control.inactive());
            add_load(host, inserted.destination, unit.wrapping_neg());
        }
        Insertion::Exists => {
            host.count(Counter::InsertRace);
            index = inserted.destination;
            method_bits = inserted.control.method_bits();
            connections = 0;
        }
        Insertion::Full => return drop(host, Counter::TableFull),
        Insertion::Contended => return drop(host, Counter::InsertContended),
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
    if method_bits == Method::Nat as u32 {
        learn_client(host, frame, ip.source);
    }
    send(host, frame, ip, method_bits, destination)
}

/// Judges a connection that is in the way of a new one.
#[inline(always)]
fn evictable<H: Host>(host: &H, control: Control, tick: u32) -> Eviction {
    let idle = idle_ticks(tick, control.tick());
    if idle > host.timeout(control.protocol(), control.state()).saturating_add(REFRESH_TICKS) {
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
) -> Action {
    if destination.flags & DestinationFlags::LOCAL != 0 {
        return Action::PASS;
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
            let limit = if destination.mtu == 0 { u16::MAX as u32 } else { destination.mtu };
            if ip.length as u32 + 20 > limit {
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
            && host
                .destination(destination_of(ports_destination))
                .is_some_and(|d| d.address as u64 == address && d.port as u64 == port)
    };
    let home = home_bucket(hash, host.buckets());
    let Some(bucket) = host.bucket(home) else { return drop(host, Counter::Bug) };
    let found = if PLAIN {
        search_bucket(bucket, home, hash, ip.protocol, &matches)
    } else {
        search_chain(host, bucket, home, hash, ip.protocol, &matches)
    };
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
    masquerade(frame, ip, &Hop::of(&hop), &rewrite).unwrap_or_else(|| drop(host, Counter::Bug))
}
