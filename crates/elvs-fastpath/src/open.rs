//! The first packet of a connection.
//!
//! **Invariant:** a connection is in the table before its first packet leaves; who gets no place in it is refused.
//!
//! Called by [`crate::director`].

use elvs_common::{
    Control, Counter, DestinationLoad, DestinationStats, Method, NextHop, REFRESH_TICKS,
    SettingFlags, TCP, TcpState, idle_ticks,
};

use crate::atomic::Atomic64;
use crate::flood::{self, is_provisional};
use crate::flow::{
    Bucket, Entry, Eviction, FlowKey, Inserted, Insertion, claim_at_home, insert_entry,
    insert_provisional,
};
use crate::forward::{daemon_hop, is_ready, passes, send, send_to};
use crate::fragment::lead_request;
use crate::frame::{Action, Frame};
use crate::host::{Host, Note, add_load, drop, give_load, take_load};
use crate::packet::{Ipv4, Transport};
use crate::report::{Report, refuse_and_tell};
use crate::schedule::{Asked, Located, Pick, memory_key, pick_at_once};
use crate::service::{find_service_at_once, service_record};
use crate::side::{Narrow, Side};
use crate::sip::{found_by_call, look_for_call};
use crate::tcp::{Direction, TcpFlags, next_secure_state};
use crate::track::next;

/// TCP port 20, as loaded: IPVS never schedules connections from it (active FTP's data connections).
const FTP_DATA: u16 = 20u16.to_be();

#[inline(always)]
pub(crate) const fn flow_key(ip: &Ipv4, transport: &Transport) -> FlowKey {
    FlowKey {
        addresses: ip.source as u64 | (ip.destination as u64) << 32,
        ports: transport.ports,
        protocol: ip.protocol,
    }
}

/// Whether a packet of no known connection may open one.
#[inline(always)]
pub(crate) const fn may_open(protocol: u8, transport: &Transport) -> bool {
    protocol != TCP || transport.flags.opens() && !is_ftp_data(transport)
}

/// Whether a packet comes from the port of active FTP's data connections.
#[inline(always)]
pub(crate) const fn is_ftp_data(transport: &Transport) -> bool {
    transport.source_port() == FTP_DATA
}

/// As [`may_open`] for TCP, by `sloppy_tcp`: any packet but a reset.
#[inline(always)]
pub(crate) fn may_open_sloppily<H: Host>(host: &H, transport: &Transport) -> bool {
    host.settings() & SettingFlags::SLOPPY_TCP != 0
        && !transport.flags.resets()
        && !is_ftp_data(transport)
}

/// Whether a packet of no known connection may open one by the settings in force.
#[inline(always)]
pub(crate) fn may_open_any<H: Host>(host: &H, protocol: u8, transport: &Transport) -> bool {
    may_open(protocol, transport) || may_open_sloppily(host, transport)
}

/// Control word of a connection after its first packet, to a destination of a forwarding method's bits; `secure` as
/// [`is_secure`].
#[inline(always)]
pub(crate) fn opened<H: Host>(
    host: &H,
    protocol: u8,
    flags: TcpFlags,
    method: u32,
    secure: bool,
) -> Control {
    let (tick, direction) = (host.tick(), Direction::of_request(method));
    // No state has number 0 in every protocol.
    let (state, inactive) = if secure && protocol == TCP {
        let state = next_secure_state(direction, TcpState::None as u8, flags);
        (state, !TcpState::is_active_bits(state))
    } else {
        next(host, protocol, direction, 0, flags)
    };
    Control::live(protocol, state, Method::Nat, inactive, tick).with_method_bits(method)
}

/// As [`open`], without loops: where the scheduler's turn is plain to see and the home bucket has room. Otherwise nothing
/// has happened, and the answer is [`Action::SCHEDULE`]. `insertions` are those of the home bucket before the connection
/// was looked for there and not found, and nothing displaced either.
#[inline(always)]
pub(crate) fn open_at_once<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    ip: &Ipv4,
    transport: &Transport,
    home: &Bucket<H::Word>,
    insertions: u64,
) -> Action {
    if !may_open(ip.protocol, transport) {
        return Action::SCHEDULE;
    }
    let Some(service) = find_service_at_once(
        host,
        ip.source,
        ip.destination,
        transport.destination_port(),
        ip.protocol,
    ) else {
        return Action::SCHEDULE;
    };
    let service = service_record(service);
    let Some(scheduler) = host.scheduler(service.index) else { return Action::SCHEDULE };
    let turn = scheduler.load();
    let next = pick_at_once(host, &service, turn);
    if !next.is_some() {
        return Action::SCHEDULE;
    }
    let index = next.destination();
    let Some(destination) = host.destination(index) else { return Action::SCHEDULE };
    let hop = daemon_hop(destination);
    let method = destination.method;
    if !is_ready(destination, hop) || !passes(ip, method, destination) {
        return Action::SCHEDULE;
    }
    let tick = host.tick();
    if !host.admits_at_once(tick) {
        return Action::SCHEDULE;
    }
    let claim = claim_at_home(home, insertions);
    if !claim.taken {
        return Action::SCHEDULE;
    }
    if scheduler.compare_exchange(turn, next.word.0).is_err() {
        claim.give_back();
        return Action::SCHEDULE;
    }
    let control = opened(host, ip.protocol, transport.flags, method, false);
    claim.publish(&flow_key(ip, transport), control, index);
    add_load(host, index, DestinationLoad::unit(control.inactive()));
    host.add_stats(index, first_packet(ip.length as u64));
    if method == Method::Nat as u32 {
        Narrow::learn_client(host, frame, ip);
    }
    send_to::<true, _, _>(host, frame, ip, method, destination, hop)
}

#[inline(always)]
fn first_packet(length: u64) -> DestinationStats {
    DestinationStats { connections: 1, ..DestinationStats::input(length) }
}

/// How packets of one side are read and sent on.
pub(crate) trait Path: Side {
    /// A packet's headers.
    type Packet;

    /// Whether its connections are in the wide table.
    const IS_WIDE: bool;
    /// [`forward_new`](crate::director::forward_new), or the like of it.
    const OPEN: Action;
    /// [`persist`](crate::director::persist), or the like of it.
    const REMEMBER: Action;
    /// [`flood`](crate::director::flood), or the like of it.
    const FLOOD: Action;

    /// Key of the connection that a packet opens.
    fn key(packet: &Self::Packet, transport: &Transport) -> FlowKey<Self::Value>;

    /// IP protocol number.
    fn protocol(packet: &Self::Packet) -> u8;

    /// Bytes of the IP packet.
    fn length(packet: &Self::Packet) -> u64;

    /// Whether a packet of no known connection may open one.
    #[inline(always)]
    fn may_open<H: Host>(host: &H, packet: &Self::Packet, transport: &Transport) -> bool {
        may_open(Self::protocol(packet), transport) || may_open_sloppily(host, transport)
    }

    /// Remembers the hop a NAT client's first packet came from, so that the reply need not wait for its neighbour.
    fn learn_client<H: Host, F: Frame>(host: &H, frame: &mut F, packet: &Self::Packet);

    /// Refuses a packet for whose service there is no destination; its sender is told, by TCP as well (`ip_vs_leave`).
    fn refuse_for_nobody<H: Host>(host: &H, packet: &Self::Packet) -> Action;

    /// Refuses a packet of a connection whose destination was removed, and that is to be told so.
    fn refuse_for_removed<H: Host>(host: &H, packet: &Self::Packet) -> Action;

    /// [`connect`], after something was remembered.
    fn connect<H: Host, F: Frame>(
        host: &H,
        frame: &mut F,
        packet: &Self::Packet,
        transport: &Transport,
        key: &FlowKey<Self::Value>,
        index: u32,
        once: bool,
    ) -> Action;

    /// The stage that makes connections by a forwarding method's bits, if it is another one; it finds the destination noted,
    /// and whether that is for a flood.
    fn diverts<H: Host>(host: &H, index: u32, method: u32, flood: bool) -> Option<Action>;

    /// Sends a packet of no connection, or the first one of a connection, to a destination.
    fn send<H: Host, F: Frame>(
        host: &H,
        frame: &mut F,
        packet: &Self::Packet,
        method: u32,
        index: u32,
    ) -> Action;
}

impl Path for Narrow {
    type Packet = Ipv4;

    const IS_WIDE: bool = false;
    const OPEN: Action = Action::SCHEDULE;
    const REMEMBER: Action = Action::PERSIST;
    const FLOOD: Action = Action::FLOOD;

    #[inline(always)]
    fn key(packet: &Ipv4, transport: &Transport) -> FlowKey {
        flow_key(packet, transport)
    }

    #[inline(always)]
    fn protocol(packet: &Ipv4) -> u8 {
        packet.protocol
    }

    #[inline(always)]
    fn length(packet: &Ipv4) -> u64 {
        packet.length as u64
    }

    #[inline(always)]
    fn learn_client<H: Host, F: Frame>(host: &H, frame: &mut F, packet: &Ipv4) {
        if let Some(hop) = arrival(frame) {
            host.client_hop(packet.source, Some(hop));
        }
    }

    #[inline(always)]
    fn refuse_for_nobody<H: Host>(host: &H, packet: &Ipv4) -> Action {
        let (why, report) = (Counter::NoDestination, Report::PORT_UNREACHABLE);
        refuse_and_tell(host, why, report, packet.destination)
    }

    #[inline(always)]
    fn refuse_for_removed<H: Host>(host: &H, packet: &Ipv4) -> Action {
        let (why, report) = (Counter::DestinationGone, Report::PORT_UNREACHABLE);
        refuse_and_tell(host, why, report, packet.destination)
    }

    #[inline(always)]
    fn connect<H: Host, F: Frame>(
        host: &H,
        frame: &mut F,
        packet: &Ipv4,
        transport: &Transport,
        key: &FlowKey,
        index: u32,
        once: bool,
    ) -> Action {
        connect::<Self, _, _>(host, frame, packet, transport, key, index, once)
    }

    #[inline(always)]
    fn diverts<H: Host>(host: &H, _index: u32, method: u32, _flood: bool) -> Option<Action> {
        // Whole packets of such services are the wide stages', so this is a fragment.
        (method == Method::FullNat as u32).then(|| drop(host, Counter::FragmentRefused))
    }

    #[inline(always)]
    fn send<H: Host, F: Frame>(
        host: &H,
        frame: &mut F,
        packet: &Ipv4,
        method: u32,
        index: u32,
    ) -> Action {
        let Some(destination) = host.destination(index) else { return drop(host, Counter::Bug) };
        if packet.fragment {
            lead_request(host, frame, packet, index, method);
        }
        send(host, frame, packet, method, index, destination)
    }
}

/// Opens a connection if the packet may do that and goes to a virtual service.
#[inline(always)]
pub(crate) fn open<P: Path, H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    packet: &P::Packet,
    transport: &Transport,
) -> Action {
    let key = P::key(packet, transport);
    if !P::may_open(host, packet, transport) {
        if flood::may_follow(host, P::protocol(packet), transport) {
            return P::FLOOD;
        }
        if P::find_service(host, &key, frame.ingress()).is_some() {
            host.count(Counter::NotSyn);
        }
        return Action::PASS;
    }
    if !flood::admits(host) {
        return P::FLOOD;
    }
    let (index, once) = match P::pick(host, &key, frame.ingress(), Asked::Destination) {
        Pick::Destination(index) => (index, false),
        Pick::Once(index) => {
            flood::forgo(host);
            (index, true)
        }
        Pick::Nobody => return P::refuse_for_nobody(host, packet),
        Pick::Contended => return P::OPEN,
        Pick::NoService => return Action::PASS,
        Pick::NoTemplate => {
            // No Call-ID of an earlier packet is taken for this one's.
            host.note(Note::Call, 0);
            return P::REMEMBER;
        }
        Pick::ByCall => return look_for_call::<P, _>(host, false),
        Pick::OnceByCall => return look_for_call::<P, _>(host, true),
        Pick::Shed => return drop(host, Counter::DropPacket),
        Pick::Bypass => return bypass(host),
    };
    connect::<P, _, _>(host, frame, packet, transport, &key, index, once)
}

/// As [`open`], for a client that a persistent service, or one that goes by locality, remembers nothing of: the scheduler
/// chooses, and that is remembered. [`Path::REMEMBER`] says that another CPU was in the way: try again.
#[inline(always)]
pub(crate) fn open_remembered<P: Path, H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    packet: &P::Packet,
    transport: &Transport,
) -> Action {
    let key = P::key(packet, transport);
    let ingress = frame.ingress();
    let located = match found_by_call(host) {
        0 => P::locate(host, &key, ingress),
        found => found.into(),
    };
    let (index, once) = match located {
        Located::Destination(index) => (index, false),
        Located::Once(index) => (index, true),
        Located::Newcomer(place) => {
            let (index, once) = match P::pick(host, &key, ingress, Asked::Scheduler) {
                Pick::Destination(index) => (index, false),
                Pick::Once(index) => (index, true),
                Pick::Nobody => return P::refuse_for_nobody(host, packet),
                Pick::Contended => return P::REMEMBER,
                Pick::Bypass => return bypass(host),
                Pick::NoService => return Action::PASS,
                Pick::NoTemplate | Pick::ByCall | Pick::OnceByCall | Pick::Shed => {
                    return P::OPEN;
                }
            };
            match P::memorize(host, &key, ingress, index, place) {
                Remembered::New => (index, once),
                Remembered::Known { destination, method: _ } => (destination, once),
                Remembered::Unwanted => return P::OPEN,
                Remembered::Full => return drop(host, Counter::TableFull),
                Remembered::Contended => return drop(host, Counter::InsertContended),
            }
        }
    };
    P::connect(host, frame, packet, transport, &key, index, once)
}

/// Has an ICMP error of no connection open one by the packet that it quotes, if `schedule_icmp` says so: a director that a
/// router sends the error to need not be the one that knows the connection (`ip_vs_try_to_schedule`). `again` is the stage
/// that finds it. What a service remembers no connections of (one-packet scheduling), and clients of whom a persistent one
/// remembers nothing, are left to the stack.
#[inline(always)]
pub(crate) fn open_for_error<S: Side, H: Host>(
    host: &H,
    key: &FlowKey<S::Value>,
    ingress: u32,
    again: Action,
) -> Action {
    let index = match S::pick(host, key, ingress, Asked::Destination) {
        Pick::Destination(index) => index,
        Pick::Nobody => return drop(host, Counter::NoDestination),
        Pick::Shed => return drop(host, Counter::DropPacket),
        Pick::Once(_)
        | Pick::NoService
        | Pick::NoTemplate
        | Pick::ByCall
        | Pick::OnceByCall
        | Pick::Contended
        | Pick::Bypass => return Action::PASS,
    };
    let Some(destination) = host.destination(index) else { return drop(host, Counter::Bug) };
    let method = destination.method;
    if method == Method::FullNat as u32 {
        return Action::PASS;
    }
    // No packet of the connection was seen: the state of one that was not, with the shortest of timeouts.
    let none = TcpState::None as u8;
    let control = Control::live(key.protocol, none, Method::Nat, true, host.tick());
    match S::remember(host, key, control.with_method_bits(method), index) {
        Remembered::New => {
            give_load(host, index, true);
            let stats = DestinationStats { connections: 1, ..DestinationStats::default() };
            host.add_stats(index, stats);
            again
        }
        Remembered::Known { .. } => again,
        Remembered::Full => drop(host, Counter::TableFull),
        Remembered::Contended | Remembered::Unwanted => drop(host, Counter::InsertContended),
    }
}

/// Leaves a packet to the host, which routes it to its own destination (`ip_vs_bypass_xmit`); no connection is kept, since
/// later packets of TCP are left to the host as well.
#[inline(always)]
fn bypass<H: Host>(host: &H) -> Action {
    host.count(Counter::CacheBypass);
    Action::PASS
}

/// Whether new connections go by the state table for attacks.
#[inline(always)]
pub(crate) fn is_secure<H: Host>(host: &H) -> bool {
    host.settings() & SettingFlags::SECURE_TCP != 0
}

/// Makes a connection to a destination, unless it is for `once`, and forwards its first packet.
#[inline(always)]
pub(crate) fn connect<P: Path, H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    packet: &P::Packet,
    transport: &Transport,
    key: &FlowKey<P::Value>,
    index: u32,
    once: bool,
) -> Action {
    let Some(destination) = host.destination(index) else { return drop(host, Counter::Bug) };
    let mut index = index;
    let mut method = destination.method;
    let mut connections = 1;
    if let Some(stage) = P::diverts(host, index, method, false) {
        return stage;
    }
    if !once {
        let control = opened(host, P::protocol(packet), transport.flags, method, is_secure(host));
        match P::remember(host, key, control, index) {
            Remembered::New => give_load(host, index, control.inactive()),
            Remembered::Known { destination, method: known } => {
                host.count(Counter::InsertRace);
                index = destination;
                method = known;
                connections = 0;
            }
            Remembered::Full => return drop(host, Counter::TableFull),
            Remembered::Contended | Remembered::Unwanted => {
                return drop(host, Counter::InsertContended);
            }
        }
    }
    host.add_stats(index, DestinationStats { connections, ..first_packet(P::length(packet)) });
    if method == Method::Nat as u32 {
        P::learn_client(host, frame, packet);
    }
    P::send(host, frame, packet, method, index)
}

/// What came of putting an entry into the flow table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remembered {
    /// It is there.
    New,
    /// It was there already: another CPU was first.
    Known {
        /// Its destination.
        destination: u32,
        /// Bits of its forwarding method.
        method: u32,
    },
    /// There is no room for it.
    Full,
    /// Another CPU was inserting into the same part of the table for too long.
    Contended,
    /// The service, which may have changed meanwhile, remembers no choices.
    Unwanted,
}

/// Bit of [`Remembered::Known`] in a word.
const KNOWN: u64 = 1 << 63;

/// A [`Remembered`] in one word, as a function of its own returns it in the kernel.
impl From<Remembered> for u64 {
    #[inline(always)]
    fn from(remembered: Remembered) -> Self {
        match remembered {
            Remembered::New => 0,
            Remembered::Full => 1,
            Remembered::Contended => 2,
            Remembered::Unwanted => 3,
            Remembered::Known { destination, method } => {
                KNOWN | (method as Self) << 32 | destination as Self
            }
        }
    }
}

impl From<u64> for Remembered {
    #[inline(always)]
    fn from(word: u64) -> Self {
        match word {
            0 => Self::New,
            1 => Self::Full,
            2 => Self::Contended,
            3 => Self::Unwanted,
            word => {
                let destination = (word & 0xffff_ffff) as u32;
                Self::Known { destination, method: (word >> 32 & 7) as u32 }
            }
        }
    }
}

/// Puts an entry into the flow table. One that has to make room for it is counted, and taken off its destination's load.
#[inline(always)]
pub fn remember<S: Side, H: Host>(
    host: &H,
    key: &FlowKey<S::Value>,
    control: Control,
    destination: u32,
) -> Remembered {
    let hash = key.hash(host.seed());
    let flow = Entry { key, hash, control, destination };
    let tick = control.tick();
    let inserted = insert_entry(S::memory(host), S::buckets(host), &flow, &|other| {
        evictable(host, other, tick)
    });
    if inserted.outcome == Insertion::EvictedHalfOpen {
        flood::press(host);
    }
    settle::<S, _>(host, &inserted)
}

/// As [`remember`], for an entry that gives way to others: it takes the place of one like it near its home, and a free one only
/// where there is none.
#[inline(always)]
pub fn remember_provisional<S: Side, H: Host>(
    host: &H,
    key: &FlowKey<S::Value>,
    control: Control,
    destination: u32,
) -> Remembered {
    let hash = key.hash(host.seed());
    let flow = Entry { key, hash, control, destination };
    let tick = control.tick();
    let inserted = insert_provisional(S::memory(host), S::buckets(host), &flow, &|other| {
        evictable(host, other, tick)
    });
    settle::<S, _>(host, &inserted)
}

/// Ends what an insertion had to replace.
#[inline(always)]
fn settle<S: Side, H: Host>(host: &H, inserted: &Inserted) -> Remembered {
    match inserted.outcome {
        Insertion::Done => return Remembered::New,
        Insertion::Exists => {
            let method = inserted.control.method_bits();
            return Remembered::Known { destination: inserted.destination, method };
        }
        Insertion::Full => return Remembered::Full,
        Insertion::Contended => return Remembered::Contended,
        Insertion::EvictedExpired => host.count(Counter::EvictedExpired),
        Insertion::EvictedHalfOpen => host.count(Counter::EvictedHalfOpen),
    }
    take_load(host, inserted.destination, inserted.control);
    S::give_back(host, inserted.local_end);
    Remembered::New
}

/// Puts the entry into the flow table that remembers a scheduler's choice for a packet: its client's template, or its
/// address's memory, there with its `place` among the destinations of a set.
#[inline(always)]
pub fn memorize<S: Side, H: Host>(
    host: &H,
    opening: &FlowKey<S::Value>,
    ingress: u32,
    destination: u32,
    place: u16,
) -> Remembered {
    let Some(key) = memory_key::<S, _>(host, opening, ingress, destination) else {
        return Remembered::Unwanted;
    };
    let control = memory_control(host, key.protocol, place);
    remember::<S, _>(host, S::stash(host, &key), control, destination)
}

/// Control word of an entry that remembers a scheduler's choice.
#[inline(always)]
pub fn memory_control<H: Host>(host: &H, protocol: u8, place: u16) -> Control {
    Control::live(protocol, 0, Method::Nat, false, host.tick()).with_place(place)
}

/// Judges a connection that is in the way of a new one.
#[inline(always)]
fn evictable<H: Host>(host: &H, control: Control, tick: u32) -> Eviction {
    if control.is_template() {
        return Eviction::Keep;
    }
    let idle = idle_ticks(tick, control.tick());
    if idle > host.timeout(control.protocol(), control.state()).saturating_add(REFRESH_TICKS) {
        Eviction::Expired
    } else if is_provisional(control) {
        Eviction::HalfOpen
    } else {
        Eviction::Keep
    }
}

/// The hop that a frame came from, as the next hop of an answer.
#[inline(always)]
pub(crate) fn arrival<F: Frame>(frame: &mut F) -> Option<NextHop> {
    let ifindex = frame.ingress();
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5] = *frame.window::<12>(0)?;
    Some(NextHop::new([s0, s1, s2, s3, s4, s5], [d0, d1, d2, d3, d4, d5], ifindex))
}
