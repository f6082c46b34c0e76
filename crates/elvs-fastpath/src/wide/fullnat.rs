//! Full NAT: both ends of a packet are rewritten. The director takes the client's place by an address of its own, so a real
//! server answers to it wherever it is, and the client's address goes along in a TCP option (TOA).
//!
//! **Invariant:** a connection has a port of a local address from before its first packet leaves until it ends, and the
//! option is on every segment of the client's until the real server has sent more than its SYN: a real server never takes
//! a connection for the director's own.
//!
//! Called by [`crate::director`].

mod fragment;
mod icmp;

use elvs_common::{
    Control, Counter, DestinationRecord, DestinationStats, LocalLine, Method, ServiceFlags, TCP,
    TOA_IPV4_LENGTH, TOA_IPV6_LENGTH, TOA_KIND, WideAddress,
};

pub use self::fragment::forward_full_nat_fragment;
pub use self::icmp::forward_full_nat_icmp;
use super::forward::{Ends, address_of, hop_of, obstacle, readdress};
use super::packet::WidePacket;
use super::ports::{LocalEnd, Taken, WideMemory, give_port, home_of, take_port};
use crate::atomic::Atomic64;
use crate::checksum::Delta;
use crate::flood::{is_provisional, provisional};
use crate::flow::{
    Addresses, FlowKey, FlowMemory, FoundOf, Step, WideValue, client_port_of, destination_of,
    find_from, home_bucket, release_flow, virtual_port_of, wide_addresses,
};
use crate::frame::{Action, Frame};
use crate::host::{ClientHop, Host, Note, drop, give_load, take_load};
use crate::open::{Path, Remembered, is_secure, opened};
use crate::packet::{Transport, is_balanced};
use crate::report::{Report, refuse_and_tell_wide};
use crate::service::{find_wide_service, low, service_record};
use crate::side::Wide;
use crate::tcp::{Direction, TcpFlags};
use crate::track::track;

/// The stage that opens a connection by full NAT to the destination that is noted.
#[inline(always)]
pub fn open_full_nat<H: Host, F: Frame>(host: &H, frame: &mut F) -> Action {
    let Some((packet, transport)) = super::parse(host, frame) else { return Action::PASS };
    if !is_balanced(packet.protocol) {
        return drop(host, Counter::ProtocolRefused);
    }
    if packet.fragment && packet.protocol == TCP {
        return drop(host, Counter::FragmentRefused);
    }
    let noted = host.noted(Note::Destination);
    let (index, flood) = (low(noted), noted >> 32 != 0);
    let key = Wide::key(&packet, &transport);
    let end = match allot(host, &key, frame.ingress()) {
        Taken::Port(end) => end,
        // Tried again with the port that has become free, as often as the kernel allows if another CPU takes it first.
        Taken::Exhausted if flood && make_room(host, &key) => return Action::FULL_NAT_OPEN,
        Taken::Exhausted => return drop(host, Counter::LocalPortsExhausted),
        Taken::Contended => return drop(host, Counter::InsertContended),
    };
    let [c0, c1, v0, v1, _] = key.addresses;
    let key = FlowKey { addresses: [c0, c1, v0, v1, end.0], ..key };
    let method = Method::FullNat as u32;
    let secure = is_secure(host);
    let mut control = opened(host, packet.protocol, transport.flags, method, secure);
    let remembered = if flood {
        control = provisional(control);
        host.count(Counter::FloodProvisional);
        host.wide_remember_provisional(&key, control, index)
    } else {
        host.wide_remember(&key, control, index)
    };
    if remembered != Remembered::New {
        give_port(host.wide(), end);
    }
    match remembered {
        Remembered::New => give_load(host, index, control.inactive()),
        // Another CPU was first: its entry has a port of its own.
        Remembered::Known { .. } => {
            host.count(Counter::InsertRace);
            return Action::WIDE;
        }
        Remembered::Full => return drop(host, Counter::TableFull),
        Remembered::Contended | Remembered::Unwanted => {
            return drop(host, Counter::InsertContended);
        }
    }
    host.add_stats(
        index,
        DestinationStats { connections: 1, ..DestinationStats::input(packet.length as u64) },
    );
    Wide::learn_client(host, frame, &packet);
    leave(host, &packet, index, end, control)
}

/// Leaves a client's packet to the stage that sends it.
#[inline(always)]
pub(super) fn leave<H: Host>(
    host: &H,
    packet: &WidePacket,
    index: u32,
    end: LocalEnd,
    control: Control,
) -> Action {
    let named = control.protocol() == TCP && !control.answered();
    host.note(Note::Destination, index as u64 | (named as u64) << 32);
    host.note(Note::LocalEnd, end.0);
    if packet.fragment { Action::FULL_NAT_FRAGMENT } else { Action::FULL_NAT }
}

/// Buckets that are looked through for a connection whose port a flood may have.
const ROOM_BUCKETS: u32 = 64;

/// Search for a connection by full NAT that has not been confirmed, from a bucket on; ends one.
struct MakeRoom<'a, H> {
    host: &'a H,
    home: u64,
    made: u64,
}

impl<H: Host> Step for MakeRoom<'_, H> {
    #[inline(always)]
    fn step(&mut self, round: u32) -> bool {
        // On from the table's end at its beginning.
        let index = low(self.home).wrapping_add(round >> 2);
        let Some(index) = index.checked_rem(self.host.wide_buckets()) else { return false };
        let memory = self.host.wide();
        let Some(bucket) = memory.bucket(index) else { return false };
        let slot = bucket.slot(round);
        let control = Control(slot.control.load());
        let end = slot.addresses.local_end();
        let goes = control.is_live() && is_provisional(control) && LocalEnd(end).is_some();
        let destination = destination_of(slot.ports_destination.load());
        if !goes || !release_flow(memory, index, slot, control) {
            return true;
        }
        self.host.count(Counter::EvictedHalfOpen);
        take_load(self.host, destination, control);
        give_port(memory, LocalEnd(end));
        self.made = 1;
        false
    }
}

/// Ends a connection that has not been confirmed near the home of a new one, for its port.
#[inline(always)]
fn make_room<H: Host>(host: &H, key: &FlowKey<WideValue>) -> bool {
    let home = home_bucket(key.hash(host.seed()), host.wide_buckets());
    let mut room = MakeRoom { host, home: home as u64, made: 0 };
    host.repeat(ROOM_BUCKETS * 4, &mut room);
    room.made != 0
}

/// Search for a local address of a service with a free port.
struct Allot<'a, H> {
    host: &'a H,
    /// Line next to the service's list.
    line: u64,
    addresses: u64,
    /// The one to begin with.
    first: u64,
    home: u64,
    /// [`LocalEnd`] found.
    end: u64,
    /// Whether other CPUs were in the way.
    contended: u64,
}

impl<H: Host> Step for Allot<'_, H> {
    #[inline(always)]
    fn step(&mut self, round: u32) -> bool {
        let addresses = low(self.addresses);
        let mut nth = low(self.first).wrapping_add(round);
        if nth >= addresses {
            nth = nth.wrapping_sub(addresses);
        }
        let (back, place) = LocalLine::place(nth);
        let Some(line) = self.host.line(low(self.line).wrapping_sub(back)) else { return false };
        let Some(word) = line.0.get((place / 4 % 8) as usize) else { return false };
        let index = (word >> (place % 4 * 16) & 0xffff) as u32;
        match take_port(self.host.wide(), index, low(self.home)) {
            Taken::Port(end) => {
                self.end = end.0;
                false
            }
            Taken::Exhausted => true,
            Taken::Contended => {
                self.contended = 1;
                true
            }
        }
    }
}

/// A port of a local address of the service of a packet. Connections begin with an address at random, so that all are used
/// alike.
#[inline(always)]
fn allot<H: Host>(host: &H, key: &FlowKey<WideValue>, ingress: u32) -> Taken {
    let Some(line) = find_wide_service(host, key, ingress) else { return Taken::Exhausted };
    let service = service_record(line);
    if service.flags & ServiceFlags::FULL_NAT == 0 {
        return Taken::Exhausted;
    }
    let persistent = service.flags & ServiceFlags::PERSISTENT != 0;
    let at = service.pool_line.wrapping_sub(if persistent { 2 } else { 1 });
    let addresses = host.line(at).map_or(0, |line| low(line.0[0]));
    let mut allot = Allot {
        host,
        line: at as u64,
        addresses: addresses as u64,
        first: host.random().checked_rem(addresses).unwrap_or(0) as u64,
        home: home_bucket(key.hash(host.seed()), host.wide_buckets()) as u64,
        end: 0,
        contended: 0,
    };
    host.repeat(addresses, &mut allot);
    let end = LocalEnd(allot.end);
    if end.is_some() {
        Taken::Port(end)
    } else if allot.contended != 0 {
        Taken::Contended
    } else {
        Taken::Exhausted
    }
}

/// Address of a local end.
#[inline(always)]
fn local_address<H: Host>(host: &H, end: LocalEnd) -> Option<WideAddress> {
    let [first, second] = &host.wide().local(end.index())?.address;
    Some(WideAddress([first.load(), second.load()]))
}

/// The stage that sends a client's packet of a connection by full NAT, whose destination and local end are noted.
#[inline(always)]
pub fn send_full_nat<H: Host, F: Frame>(host: &H, frame: &mut F) -> Action {
    let Some((packet, transport)) = super::parse(host, frame) else { return Action::PASS };
    if !is_balanced(packet.protocol) {
        return drop(host, Counter::ProtocolRefused);
    }
    let noted = host.noted(Note::Destination);
    let Some(destination) = host.destination(low(noted)) else { return drop(host, Counter::Bug) };
    let end = LocalEnd(host.noted(Note::LocalEnd));
    let Some(local) = local_address(host, end) else { return drop(host, Counter::Bug) };
    if let Some(why) = obstacle(host, frame, &packet, Method::FullNat as u32, destination) {
        return why;
    }
    let Some(hop) = hop_of(host, destination) else { return drop(host, Counter::NoNextHop) };
    let ends = ends_of(local, end, destination, &transport);
    let sent = readdress(host, frame, &packet, &transport, &hop, &ends);
    let action = sent.unwrap_or_else(|| drop(host, Counter::Bug));
    if noted >> 32 == 0 || action == Action::DROP {
        return action;
    }
    name_client(host, frame, &packet, &transport, destination, action)
}

/// Both ends of a client's packet as it leaves.
#[inline(always)]
fn ends_of(
    local: WideAddress,
    end: LocalEnd,
    destination: &DestinationRecord,
    transport: &Transport,
) -> Ends {
    let own = destination.port;
    Ends {
        source: local,
        source_port: end.port(),
        destination: address_of(destination),
        // A destination on all ports gets the virtual one.
        destination_port: if own == 0 { transport.destination_port() } else { own },
    }
}

/// Puts the client's address and port in front of the options of a segment that is otherwise ready to leave. Without room for
/// it a SYN leaves as it is, since real servers look at what completes the handshake; other segments are refused.
#[inline(always)]
fn name_client<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    packet: &WidePacket,
    transport: &Transport,
    destination: &DestinationRecord,
    action: Action,
) -> Action {
    frame.forget();
    let grown = packet.length + if packet.ipv6 { TOA_IPV6_LENGTH } else { TOA_IPV4_LENGTH } as u32;
    let fits = destination.mtu == 0 || grown <= destination.mtu;
    let put = match (fits, packet.ipv6, packet.offset, packet.payload - packet.offset) {
        (false, _, _, _) => None,
        (true, false, 14, 20) => put_option::<_, 54, 8>(frame, packet, transport),
        (true, false, 18, 20) => put_option::<_, 58, 8>(frame, packet, transport),
        (true, false, 22, 20) => put_option::<_, 62, 8>(frame, packet, transport),
        (true, true, 14, 40) => put_option::<_, 74, 20>(frame, packet, transport),
        (true, true, 18, 40) => put_option::<_, 78, 20>(frame, packet, transport),
        (true, true, 22, 40) => put_option::<_, 82, 20>(frame, packet, transport),
        // IP options, extension headers.
        (true, _, _, _) => None,
    };
    if put.is_some() || transport.flags.opens() {
        return action;
    }
    drop(host, Counter::ToaNoRoom)
}

/// Replaces two bytes of a frame, as loaded, and says what that is to a checksum.
#[inline(always)]
fn replace<F: Frame>(frame: &mut F, at: usize, new: u16, moved: Delta) -> Option<Delta> {
    let place = frame.window::<2>(at)?;
    let old = u16::from_ne_bytes(*place);
    *place = new.to_ne_bytes();
    Some(moved.half(old, new))
}

/// Applies a change to a checksum of a frame.
#[inline(always)]
fn mend<F: Frame>(frame: &mut F, at: usize, moved: Delta) -> Option<()> {
    let place = frame.window::<2>(at)?;
    *place = moved.apply(u16::from_ne_bytes(*place)).to_ne_bytes();
    Some(())
}

/// Puts an option of `N` bytes behind the first `HEAD` bytes of a frame, which end with the first 20 of a TCP header. `None`
/// if there is no room for it; nothing has changed then.
#[inline(always)]
fn put_option<F: Frame, const HEAD: usize, const N: usize>(
    frame: &mut F,
    packet: &WidePacket,
    transport: &Transport,
) -> Option<()> {
    let (tcp, longer) = (HEAD - 20, u16::try_from(N).ok()?);
    // Offset of the data in words of four bytes, 15 at most, in the upper half of its byte (RFC 9293 section 3.1).
    let [offset, flags] = frame.half(tcp + 12)?.to_ne_bytes();
    let words = u8::try_from(N / 4).ok()?;
    if (offset >> 4) + words > 15 || !frame.grow_front::<N>() {
        return None;
    }
    let mut at = 0;
    while at < HEAD {
        let bytes = *frame.window::<2>(at + N)?;
        *frame.window::<2>(at)? = bytes;
        at += 2;
    }
    let option = option_of::<N>(packet, transport)?;
    *frame.window::<N>(HEAD)? = option;
    // The length is in the pseudo header.
    let mut moved = Delta::default().half(0, longer.to_be());
    let mut at = 0;
    while at < N {
        moved = moved.half(0, frame.half(HEAD + at)?);
        at += 2;
    }
    let grown = u16::from_ne_bytes([offset + (words << 4), flags]);
    let moved = replace(frame, tcp + 12, grown, moved)?;
    mend(frame, tcp + 16, moved)?;
    if N == TOA_IPV6_LENGTH as usize {
        let length = u16::from_be(frame.half(tcp - 36)?).wrapping_add(longer);
        replace(frame, tcp - 36, length.to_be(), Delta::default())?;
    } else {
        let length = u16::from_be(frame.half(tcp - 18)?).wrapping_add(longer);
        let moved = replace(frame, tcp - 18, length.to_be(), Delta::default())?;
        mend(frame, tcp - 10, moved)?;
    }
    Some(())
}

/// The option: kind, length, port and address of the client.
#[inline(always)]
fn option_of<const N: usize>(packet: &WidePacket, transport: &Transport) -> Option<[u8; N]> {
    let mut option = [0; N];
    let [p0, p1] = transport.source_port().to_ne_bytes();
    let (front, address) = option.split_at_mut(4);
    front.copy_from_slice(&[TOA_KIND, u8::try_from(N).ok()?, p0, p1]);
    if N == TOA_IPV6_LENGTH as usize {
        address.copy_from_slice(packet.source.bytes().get(..N - 4)?);
    } else {
        address.copy_from_slice(packet.source.v4().to_ne_bytes().get(..N - 4)?);
    }
    Some(option)
}

/// The stage for packets from what may be a real server to a local address, whose index is noted. What is no reply goes to the
/// host's stack.
#[inline(always)]
pub fn reply_full_nat<H: Host, F: Frame>(host: &H, frame: &mut F) -> Action {
    let Some((packet, transport)) = super::parse(host, frame) else { return Action::PASS };
    if !is_balanced(packet.protocol) {
        return Action::PASS;
    }
    if packet.fragment {
        return fragment::lead_reply(host);
    }
    let end = LocalEnd(host.noted(Note::LocalEnd) | transport.destination_port() as u64);
    let server = (packet.source, transport.source_port());
    let Some(found) = local_flow(host, end, server, packet.protocol) else { return Action::PASS };
    answer(host, frame, &packet, &transport, &found)
}

/// The connection of a protocol that has a local end, if it goes to a real server's address and port.
#[inline(always)]
fn local_flow<H: Host>(
    host: &H,
    end: LocalEnd,
    server: (WideAddress, u16),
    protocol: u8,
) -> Option<FoundOf<'_, H::Wide>> {
    let home = home_of(host.wide(), end)?;
    let (WideAddress([s0, s1]), port) = server;
    // What a loop keeps has eight bytes.
    let wanted = [end.0, s0, s1, port as u64];
    let matches = move |control: Control, addresses: WideValue, ports_destination: u64| {
        let ([end, s0, s1, own], [_, _, _, _, local]) = (wanted, addresses);
        local == end
            && control.method_bits() == Method::FullNat as u32
            && host.destination(destination_of(ports_destination)).is_some_and(|d| {
                // A destination on all ports gets the virtual one.
                let port = if d.port == 0 { virtual_port_of(ports_destination) } else { d.port };
                let [a0, a1] = address_of(d).0;
                (a0 ^ s0) | (a1 ^ s1) == 0 && port as u64 == own
            })
    };
    find_from(host.wide(), home, protocol, &matches)
}

/// A real server's packet of a known connection.
#[inline(always)]
fn answer<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    packet: &WidePacket,
    transport: &Transport,
    found: &FoundOf<'_, H::Wide>,
) -> Action {
    if packet.ttl <= 1 {
        // The real server knows the director by the local address.
        let (why, report) = (Counter::TtlExpired, Report::TIME_EXCEEDED);
        return refuse_and_tell_wide(host, why, report, packet.destination);
    }
    let Some([c0, c1, v0, v1, _]) = wide_addresses(found) else {
        return drop(host, Counter::InsertContended);
    };
    let index = destination_of(found.ports_destination);
    let flags = transport.flags;
    if packet.protocol == TCP && !flags.syn() && !found.control.answered() {
        // Whoever changes it meanwhile lets the next packet do this.
        let answered = found.control.with_answered().0;
        let _ = found.slot.control.compare_exchange(found.control.0, answered);
    }
    track::<false, _, _, _>(host, packet.protocol, flags, found, index, Direction::Output);
    host.add_stats(index, DestinationStats::output(packet.length as u64));
    let client = WideAddress([c0, c1]);
    let ClientHop::Known(hop) = host.wide_client_hop(client, None) else {
        return drop(host, Counter::NoNextHop);
    };
    if packet.protocol == TCP && flags.0 & SYN_ACK == SYN_ACK {
        leave_room(frame, packet);
    }
    let ends = Ends {
        source: WideAddress([v0, v1]),
        source_port: virtual_port_of(found.ports_destination),
        destination: client,
        destination_port: client_port_of(found.ports_destination),
    };
    readdress(host, frame, packet, transport, &hop, &ends)
        .unwrap_or_else(|| drop(host, Counter::Bug))
}

const SYN_ACK: u8 = TcpFlags::SYN | TcpFlags::ACK;
/// Kind and length of the option "maximum segment size" (RFC 9293 section 3.7.1).
const SEGMENT_SIZE: [u8; 2] = [2, 4];
/// Segment size below which nothing is taken off.
const LEAST_SEGMENT: u16 = 256;

/// Lowers the segment size that a real server's SYN announces, so that there is room for the client's address in what the client
/// sends: the option is the first one wherever a stack sends it.
#[inline(always)]
fn leave_room<F: Frame>(frame: &mut F, packet: &WidePacket) -> Option<()> {
    let room = if packet.ipv6 { TOA_IPV6_LENGTH } else { TOA_IPV4_LENGTH } as u16;
    let [header @ .., k, l, s0, s1] = frame.window::<24>(packet.payload)?;
    let [.., offset, _, _, _, c0, c1, _, _] = header;
    let size = u16::from_be_bytes([*s0, *s1]);
    if *offset >> 4 < 6 || [*k, *l] != SEGMENT_SIZE || size < LEAST_SEGMENT {
        return None;
    }
    let smaller = (size - room).to_be();
    let moved = Delta::default().half(size.to_be(), smaller);
    [*c0, *c1] = moved.apply(u16::from_ne_bytes([*c0, *c1])).to_ne_bytes();
    [*s0, *s1] = smaller.to_ne_bytes();
    Some(())
}
