//! Packets of the wide table: IPv6, and IPv4 by full NAT.
//!
//! **Invariant:** as [`crate::director`]; what differs is how addresses are read, kept and rewritten.
//!
//! Called by [`crate::director`].

mod forward;
mod fragment;
mod fullnat;
mod icmp;
mod ipsec;
mod packet;
mod ports;
mod report;

use elvs_common::{
    Control, Counter, DestinationFlags, DestinationStats, FILTER_REAL_SERVER_LINE, FILTER_VIP_LINE,
    ICMPV6, Method, SCTP, SettingFlags, TCP, UDP, WideAddress,
};

pub(crate) use self::forward::hop_of;
pub(crate) use self::forward::{Ends, own_address, readdress};
use self::forward::{address_of, send};
pub use self::fragment::{WideFragment, WideFragmentKey, forward_wide_fragment};
use self::fragment::{lead_reply, lead_request};
pub use self::fullnat::{
    forward_full_nat_fragment, forward_full_nat_icmp, open_full_nat, reply_full_nat, send_full_nat,
};
pub use self::icmp::forward_wide_icmp;
pub(crate) use self::icmp::open_wide_icmp;
use self::ipsec::follows_ike;
pub use self::ipsec::forward_ipsec;
pub(crate) use self::packet::read_transport;
pub(crate) use self::packet::{WidePacket, parse_wide};
pub use self::ports::{
    Local, LocalEnd, PortSlot, Taken, WideMemory, fill_ring, free_ports, give_port, take_port,
};
pub(crate) use self::report::report_wide;
use crate::director::begun_by_server;
use crate::flood;
use crate::flow::{
    Addresses, FlowKey, FoundOf, WideValue, client_port_of, destination_of, find_flow,
    virtual_port_of, wide_addresses, wide_hash,
};
use crate::frame::{Action, Frame};
use crate::host::{ClientHop, Host, Note, drop};
use crate::open::{Path, arrival, connect, may_open_any, open, open_remembered};
use crate::packet::{Transport, is_balanced};
use crate::report::{Report, refuse_and_tell_wide};
use crate::reset::leave_removed;
use crate::sctp;
use crate::service::{
    find_local, find_wide_real_server, is_any_virtual, is_full_nat, may_be_either, may_be_wide,
    may_be_wide_real_server, tells_real_servers,
};
use crate::side::{self, Wide};
use crate::tcp::Direction;
use crate::track::{end_for, is_reuse, track};

/// The stage for packets of the wide table: forwards those from clients of known connections and passes what is not ours.
/// [`Action::WIDE_REPLY`] leaves the frame to [`reply_wide`], [`Action::WIDE_OPEN`] to [`open_wide`], [`Action::NARROW`] to
/// [`forward_narrow`](crate::forward_narrow).
#[inline(always)]
pub fn forward_wide<H: Host, F: Frame>(host: &H, frame: &mut F) -> Action {
    let Some(mut packet) = parse_wide(host, frame) else { return Action::PASS };
    if follows_ike(packet.protocol) {
        let ours = is_to_virtual(host, &packet) || is_from_real_server(host, &packet);
        return if ours { Action::IPSEC } else { Action::PASS };
    }
    // First fragments have ports.
    let with_ports = is_balanced(packet.protocol) || packet.protocol == SCTP && !packet.fragment;
    if packet.later || !with_ports {
        return without_ports(host, &packet);
    }
    if !is_to_virtual(host, &packet) {
        let reply = is_from_real_server(host, &packet);
        return if reply { Action::WIDE_REPLY } else { none_of_ours(&packet) };
    }
    if packet.malformed {
        return refuse(host, &packet);
    }
    let Some(transport) = read_transport(host, frame, &mut packet) else {
        return refuse(host, &packet);
    };
    match request(host, frame, &packet, &transport) {
        // A client's address may look like a virtual one to the filter: it may still be a reply.
        Action::WIDE_OPEN if is_from_real_server(host, &packet) => Action::WIDE_REPLY,
        action => action,
    }
}

/// The stage for packets from what may be real servers behind NAT, if no client of a known connection sent them.
#[inline(always)]
pub fn reply_wide<H: Host, F: Frame>(host: &H, frame: &mut F) -> Action {
    let Some(mut packet) = parse_wide(host, frame) else { return Action::PASS };
    if !packet.malformed
        && let Some(transport) = read_transport(host, frame, &mut packet)
    {
        if let Some(index) = find_local(host, packet.destination) {
            host.note(Note::LocalEnd, (index as u64) << 32);
            return Action::FULL_NAT_REPLY;
        }
        let action = reply(host, frame, &packet, &transport);
        if action != Action::PASS {
            return action;
        }
        let stray = packet.ipv6 && is_balanced(packet.protocol);
        if stray && !is_to_virtual(host, &packet) && tells_real_servers(host) {
            return refuse_stray(host, &packet, &transport);
        }
    }
    if is_to_virtual(host, &packet) {
        return Action::WIDE_OPEN;
    }
    if packet.ipv6 && packet.protocol == UDP && !packet.malformed {
        return begun_by_server(host, packet.fragment);
    }
    none_of_ours(&packet)
}

/// As that of IPv4: a packet of no connection from what may be a masqueraded real server.
#[inline(always)]
fn refuse_stray<H: Host>(host: &H, packet: &WidePacket, transport: &Transport) -> Action {
    if transport.flags.resets() {
        return Action::PASS;
    }
    let (port, protocol) = (transport.source_port(), packet.protocol);
    let Some(index) = find_wide_real_server(host, packet.source, port, protocol) else {
        return Action::PASS;
    };
    let source = host.destination(index).map_or(WideAddress([0; 2]), own_address);
    refuse_and_tell_wide(host, Counter::NoConnection, Report::PORT_UNREACHABLE, source)
}

/// The stage after [`forward_wide`] for packets of no known connection; as [`crate::forward_new`].
#[inline(always)]
pub fn open_wide<H: Host, F: Frame>(host: &H, frame: &mut F) -> Action {
    let Some((packet, transport)) = parse(host, frame) else { return Action::PASS };
    // An address may have services of both tables, and a service that goes over to full NAT connections of the other one.
    if !is_of_its_own(&packet)
        && (is_later(host, &packet, &transport)
            || !is_full_nat(host, &Wide::key(&packet, &transport), frame.ingress()))
    {
        return Action::NARROW;
    }
    open::<Wide, _, _>(host, frame, &packet, &transport)
}

/// Whether a packet opens no connection.
#[inline(always)]
fn is_later<H: Host>(host: &H, packet: &WidePacket, transport: &Transport) -> bool {
    packet.protocol == TCP
        && !transport.flags.opens()
        && host.settings() & SettingFlags::SLOPPY_TCP == 0
}

/// The stage after [`open_wide`]; as [`crate::persist`].
#[inline(always)]
pub fn persist_wide<H: Host, F: Frame>(host: &H, frame: &mut F) -> Action {
    match parse(host, frame) {
        Some((packet, transport)) => {
            open_remembered::<Wide, _, _>(host, frame, &packet, &transport)
        }
        None => Action::PASS,
    }
}

/// The stage after [`open_wide`] in flood mode; see [`crate::flood`].
#[inline(always)]
pub fn flood_wide<H: Host, F: Frame>(host: &H, frame: &mut F) -> Action {
    match parse(host, frame) {
        Some((packet, transport)) => flood::forward::<Wide, _, _>(host, frame, &packet, &transport),
        None => Action::PASS,
    }
}

/// The stage after [`persist_wide`], which has noted the destination of a new connection.
#[inline(always)]
pub fn connect_wide<H: Host, F: Frame>(host: &H, frame: &mut F) -> Action {
    let Some((packet, transport)) = parse(host, frame) else { return Action::PASS };
    let key = Wide::key(&packet, &transport);
    let noted = host.noted(Note::Destination);
    let (index, once) = ((noted & 0xffff_ffff) as u32, noted >> 32 != 0);
    connect::<Wide, _, _>(host, frame, &packet, &transport, &key, index, once)
}

/// The stage after [`open_wide`] and [`connect_wide`] for a packet whose destination they have noted: sends it there.
#[inline(always)]
pub fn send_wide<H: Host, F: Frame>(host: &H, frame: &mut F) -> Action {
    let Some((packet, transport)) = parse(host, frame) else { return Action::PASS };
    let noted = host.noted(Note::Destination);
    let index = (noted & 0xffff_ffff) as u32;
    let Some(destination) = host.destination(index) else { return drop(host, Counter::Bug) };
    send(host, frame, &packet, &transport, (noted >> 32) as u32, index, destination)
}

/// Whether a packet may go to a virtual address (a filter).
#[inline(always)]
fn is_to_virtual<H: Host>(host: &H, packet: &WidePacket) -> bool {
    may_be_virtual(host, packet.destination, packet.protocol)
}

/// Whether a packet may come from a real server behind NAT (a filter).
#[inline(always)]
fn is_from_real_server<H: Host>(host: &H, packet: &WidePacket) -> bool {
    may_be_real_server(host, packet.source, packet.protocol)
}

/// Whether an address may have a virtual service over a protocol in this table (a filter).
#[inline(always)]
fn may_be_virtual<H: Host>(host: &H, address: WideAddress, protocol: u8) -> bool {
    if is_balanced(protocol) {
        may_be_wide(host, address)
    } else {
        may_be_either(host, address, FILTER_VIP_LINE)
    }
}

/// Whether an address may be that of a real server behind NAT of such a service (a filter).
#[inline(always)]
fn may_be_real_server<H: Host>(host: &H, address: WideAddress, protocol: u8) -> bool {
    if is_balanced(protocol) {
        may_be_wide_real_server(host, address)
    } else {
        may_be_either(host, address, FILTER_REAL_SERVER_LINE)
    }
}

/// Headers of a datagram that the stage before has seen to be there.
#[inline(always)]
pub(crate) fn parse_datagram<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
) -> Option<(WidePacket, Transport)> {
    let packet = parse_wide(host, frame)?;
    if packet.protocol != UDP {
        return None;
    }
    // A constant, so that nothing of other protocols is in the program.
    let mut packet = WidePacket { protocol: UDP, ..packet };
    let transport = read_transport(host, frame, &mut packet)?;
    Some((WidePacket { protocol: UDP, ..packet }, transport))
}

/// Headers that the stage before has seen to be there.
#[inline(always)]
pub(crate) fn parse<H: Host, F: Frame>(host: &H, frame: &mut F) -> Option<(WidePacket, Transport)> {
    let mut packet = parse_wide(host, frame)?;
    let transport = read_transport(host, frame, &mut packet)?;
    Some((packet, transport))
}

/// A packet of no connection of the wide table and for no service of its own. One of IPv4 looked like one because of an
/// address that has the place of another in the filter.
#[inline(always)]
const fn none_of_ours(packet: &WidePacket) -> Action {
    if is_of_its_own(packet) { Action::PASS } else { Action::NARROW }
}

/// Whether a packet has no other stages than these.
#[inline(always)]
const fn is_of_its_own(packet: &WidePacket) -> bool {
    packet.ipv6 || packet.protocol == SCTP
}

/// A packet that cannot be told apart: dropped if its address is virtual, else none of ours.
#[inline(always)]
fn refuse<H: Host>(host: &H, packet: &WidePacket) -> Action {
    if is_any_virtual(host, packet.destination) {
        drop(host, Counter::Malformed)
    } else {
        none_of_ours(packet)
    }
}

/// A packet that has no ports, or none of those balanced: some of IPv6 have stages of their own. The sum of SCTP in fragments
/// cannot be corrected.
#[inline(always)]
fn without_ports<H: Host>(host: &H, packet: &WidePacket) -> Action {
    if packet.protocol == SCTP {
        if is_any_virtual(host, packet.destination) {
            host.count(Counter::Fragment);
        }
        return Action::PASS;
    }
    if !packet.ipv6 {
        if !packet.later || !is_balanced(packet.protocol) {
            return Action::NARROW;
        }
        if packet.malformed {
            return refuse(host, packet);
        }
        return Action::FULL_NAT_FRAGMENT;
    }
    if packet.protocol == ICMPV6 {
        return Action::WIDE_ICMP;
    }
    let ours = packet.later
        && (may_be_wide(host, packet.destination) || may_be_wide_real_server(host, packet.source));
    if ours { Action::WIDE_FRAGMENT } else { Action::PASS }
}

/// A later fragment of IPv4 of no datagram by full NAT.
#[inline(always)]
fn not_ours<H: Host>(host: &H, packet: &WidePacket) -> Action {
    if is_any_virtual(host, packet.destination) { Action::FRAGMENT } else { Action::NARROW }
}

/// A packet towards what may be a virtual address.
#[inline(always)]
fn request<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    packet: &WidePacket,
    transport: &Transport,
) -> Action {
    let key = Wide::key(packet, transport);
    let Some(found) = side::find::<Wide, _>(host, &key) else { return Action::WIDE_OPEN };
    if is_reuse(host, packet.protocol, transport.flags, &found) {
        end_for::<Wide, _>(host, &found, Counter::Reused);
        return Action::WIDE_OPEN;
    }
    known(host, frame, packet, transport, &found)
}

/// A packet from the client of a known connection.
#[inline(always)]
fn known<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    packet: &WidePacket,
    transport: &Transport,
    found: &FoundOf<'_, H::Wide>,
) -> Action {
    let index = destination_of(found.ports_destination);
    let Some(destination) = host.destination(index) else { return drop(host, Counter::Bug) };
    if destination.flags & DestinationFlags::AVAILABLE == 0 {
        let flags = destination.flags;
        return leave_removed::<Wide, _>(host, packet, transport, found, flags);
    }
    let method = found.control.method_bits();
    let direction = Direction::of_request(method);
    track::<false, _, _, _>(host, packet.protocol, transport.flags, found, index, direction);
    host.add_stats(index, DestinationStats::input(packet.length as u64));
    if method == Method::FullNat as u32 {
        let end = LocalEnd(found.slot.addresses.local_end());
        return fullnat::leave(host, packet, index, end, found.control);
    }
    if packet.fragment {
        return lead_request(host, index, method);
    }
    send(host, frame, packet, transport, method, index, destination)
}

/// What tells a masqueraded connection by its client's and its real server's address and port; see
/// [`crate::director::matches_reply`].
#[inline(always)]
fn matches_reply<H: Host>(
    host: &H,
    addresses: [WideAddress; 2],
    ports: [u16; 2],
) -> impl Fn(Control, WideValue, u64) -> bool + Copy {
    let ([WideAddress([c0, c1]), WideAddress([s0, s1])], [client_port, port]) = (addresses, ports);
    // What a loop keeps has eight bytes.
    let wanted = [c0, c1, client_port as u64, s0, s1, port as u64];
    move |control: Control, addresses: WideValue, ports_destination: u64| {
        let ([c0, c1, port, s0, s1, own], [k0, k1, ..]) = (wanted, addresses);
        (k0 ^ c0) | (k1 ^ c1) == 0
            && client_port_of(ports_destination) as u64 == port
            && control.method_bits() == Method::Nat as u32
            && host.destination(destination_of(ports_destination)).is_some_and(|d| {
                // A destination on all ports gets the virtual one.
                let port = if d.port == 0 { virtual_port_of(ports_destination) } else { d.port };
                let [a0, a1] = address_of(d).0;
                (a0 ^ s0) | (a1 ^ s1) == 0 && port as u64 == own
            })
    }
}

/// The masqueraded connection whose client a packet answers.
#[inline(always)]
pub(crate) fn find_answered<'a, H: Host>(
    host: &'a H,
    packet: &WidePacket,
    transport: &Transport,
) -> Option<FoundOf<'a, H::Wide>> {
    let (client, client_port) = (packet.destination, transport.destination_port());
    let hash = wide_hash(client, client_port, packet.protocol, host.seed());
    let matches =
        matches_reply(host, [client, packet.source], [client_port, transport.source_port()]);
    find_flow(host.wide(), hash, host.wide_buckets(), packet.protocol, &matches)
}

/// A packet from what may be a real server behind NAT.
#[inline(always)]
fn reply<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    packet: &WidePacket,
    transport: &Transport,
) -> Action {
    let (client, client_port) = (packet.destination, transport.destination_port());
    let Some(found) = find_answered(host, packet, transport) else { return Action::PASS };
    let index = destination_of(found.ports_destination);
    if packet.ttl <= 1 {
        // The stack would answer from its address on the real server's side.
        let source = host.destination(index).map_or(WideAddress([0; 2]), own_address);
        return refuse_and_tell_wide(host, Counter::TtlExpired, Report::TIME_EXCEEDED, source);
    }
    let flags = transport.flags;
    track::<false, _, _, _>(host, packet.protocol, flags, &found, index, Direction::Output);
    host.add_stats(index, DestinationStats::output(packet.length as u64));
    let ClientHop::Known(hop) = host.wide_client_hop(client, None) else {
        return drop(host, Counter::NoNextHop);
    };
    let Some([_, _, v0, v1, _]) = wide_addresses(&found) else {
        return drop(host, Counter::InsertContended);
    };
    if packet.fragment {
        return lead_reply(
            host,
            index,
            WideAddress([v0, v1]),
            virtual_port_of(found.ports_destination),
        );
    }
    let ends = Ends {
        source: WideAddress([v0, v1]),
        source_port: virtual_port_of(found.ports_destination),
        destination: client,
        destination_port: client_port,
    };
    readdress(host, frame, packet, transport, &hop, &ends)
        .unwrap_or_else(|| drop(host, Counter::Bug))
}

impl Path for Wide {
    type Packet = WidePacket;

    const IS_WIDE: bool = true;
    const OPEN: Action = Action::WIDE_OPEN;
    const REMEMBER: Action = Action::WIDE_PERSIST;
    const FLOOD: Action = Action::WIDE_FLOOD;

    #[inline(always)]
    fn key(packet: &WidePacket, transport: &Transport) -> FlowKey<WideValue> {
        let ([c0, c1], [a0, a1]) = (packet.source.0, packet.destination.0);
        FlowKey {
            addresses: [c0, c1, a0, a1, 0],
            ports: transport.ports,
            protocol: packet.protocol,
        }
    }

    #[inline(always)]
    fn protocol(packet: &WidePacket) -> u8 {
        packet.protocol
    }

    #[inline(always)]
    fn length(packet: &WidePacket) -> u64 {
        packet.length as u64
    }

    #[inline(always)]
    fn may_open<H: Host>(host: &H, packet: &WidePacket, transport: &Transport) -> bool {
        if packet.protocol == SCTP {
            let sloppy = host.settings() & SettingFlags::SLOPPY_SCTP != 0;
            return sctp::opens(transport.flags) || sloppy && !sctp::aborts(transport.flags);
        }
        may_open_any(host, packet.protocol, transport)
    }

    #[inline(always)]
    fn learn_client<H: Host, F: Frame>(host: &H, frame: &mut F, packet: &WidePacket) {
        if let Some(hop) = arrival(frame) {
            host.wide_client_hop(packet.source, Some(hop));
        }
    }

    #[inline(always)]
    fn refuse_for_nobody<H: Host>(host: &H, packet: &WidePacket) -> Action {
        forward::refuse(host, packet, Counter::NoDestination, Report::PORT_UNREACHABLE)
    }

    #[inline(always)]
    fn refuse_for_removed<H: Host>(host: &H, packet: &WidePacket) -> Action {
        forward::refuse(host, packet, Counter::DestinationGone, Report::PORT_UNREACHABLE)
    }

    #[inline(always)]
    fn connect<H: Host, F: Frame>(
        host: &H,
        _frame: &mut F,
        _packet: &WidePacket,
        _transport: &Transport,
        _key: &FlowKey<WideValue>,
        index: u32,
        once: bool,
    ) -> Action {
        host.note(Note::Destination, index as u64 | (once as u64) << 32);
        Action::WIDE_CONNECT
    }

    #[inline(always)]
    fn diverts<H: Host>(host: &H, index: u32, method: u32, flood: bool) -> Option<Action> {
        if method != Method::FullNat as u32 {
            return None;
        }
        host.note(Note::Destination, index as u64 | (flood as u64) << 32);
        Some(Action::FULL_NAT_OPEN)
    }

    #[inline(always)]
    fn send<H: Host, F: Frame>(
        host: &H,
        _frame: &mut F,
        packet: &WidePacket,
        method: u32,
        index: u32,
    ) -> Action {
        if packet.fragment {
            return lead_request(host, index, method);
        }
        host.note(Note::Destination, index as u64 | (method as u64) << 32);
        Action::WIDE_SEND
    }
}
