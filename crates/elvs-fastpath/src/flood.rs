//! New flows when there are too many of them: half-open ones stay out of the table, and what has none of its own there goes
//! where a hash says.
//!
//! Each CPU counts the flows that it opens in a second. One more than [`elvs_common::Settings::flood_threshold`], or a half-open
//! one that has to give way because its whole chain is full, and the CPU is in *flood mode* until a second had fewer than half as
//! many. In flood mode
//!
//! * a SYN by direct routing or a tunnel leaves no trace: its real server is the one that [`pick_stable`](crate::pick_stable)
//!   names, by the packet and the list alone;
//! * the segment that completes the handshake, which is of no known flow, is sent the same way. For as long as a
//!   handshake takes after the flood it is looked at so on all CPUs;
//! * it, UDP, and a SYN by NAT, whose reply has to be recognised, get a *provisional* entry: one that gives way to the next,
//!   with one such place in each bucket, until another packet of its client's (TCP: or its server's) confirms it. Who has
//!   lost the entry gets another, and the same real server.
//!
//! **Invariant:** entries of confirmed flows are neither ended nor replaced here, and the known-flow path does not come here.
//!
//! Called by [`crate::open`] and as stages of [`crate::process`].

use elvs_common::{
    Control, Counter, DestinationStats, FLOOD_WINDOW, FloodWord, Method, SCTP, SctpState, TCP,
    TcpState, UDP,
};

use crate::atomic::Atomic64;
use crate::frame::{Action, Frame};
use crate::host::{Host, Note, drop, give_load};
use crate::open::{Path, Remembered, is_ftp_data, is_secure, may_open, opened};
use crate::packet::Transport;
use crate::schedule::Pick;
use crate::service::low;

/// UDP state of an entry that no second packet of its client's has confirmed; tracking makes it 0.
pub(crate) const UNCONFIRMED: u8 = 1;

/// A window of new flows: the tick it began at (high half), flows that may still open in it (low half).
#[inline(always)]
const fn window(begun: u32, left: u32) -> u64 {
    (begun as u64) << 32 | left as u64
}

/// Whether a window has room for a new flow at `tick`.
#[inline(always)]
pub const fn has_room(window: u64, tick: u32) -> bool {
    low(window) != 0 && tick.wrapping_sub((window >> 32) as u32) < FLOOD_WINDOW
}

/// Whether a flow may open as usual; each is counted once. If not, its packet is [`forward`]'s.
#[inline(always)]
pub(crate) fn admits<H: Host>(host: &H) -> bool {
    let tick = host.tick();
    if host.admits_at_once(tick) {
        return true;
    }
    let threshold = host.flood_threshold();
    let found = host.noted(Note::NewFlows);
    // Flows seen in this window, in flood mode; 0 = it is not on.
    let seen = low(host.noted(Note::Flood));
    let age = tick.wrapping_sub((found >> 32) as u32);
    if threshold == 0 || found == 0 || age >= FLOOD_WINDOW {
        if threshold == 0 || seen <= threshold / 2 || age >= 2 * FLOOD_WINDOW {
            if seen != 0 {
                host.count(Counter::FloodLeft);
                host.note(Note::Flood, 0);
            }
            host.note(
                Note::NewFlows,
                window(tick, if threshold == 0 { u32::MAX } else { threshold - 1 }),
            );
            return true;
        }
        host.note(Note::NewFlows, window(tick, 0));
        host.note(Note::Flood, 1);
    } else if seen == 0 {
        host.count(Counter::FloodEntered);
        host.note(Note::Flood, threshold as u64);
    } else {
        host.note(Note::Flood, seen.saturating_add(1) as u64);
    }
    if let Some(word) = host.flood_word() {
        let now = FloodWord::at(tick).0;
        // Read first: the line is shared by all CPUs.
        if word.load() != now {
            word.store(now);
        }
    }
    false
}

/// Takes back the count of a flow of which nothing is kept.
#[inline(always)]
pub(crate) fn forgo<H: Host>(host: &H) {
    host.note(Note::NewFlows, host.noted(Note::NewFlows).saturating_add(1));
}

/// Turns flood mode on with the next new flow: a half-open one had to give way.
#[inline(always)]
pub(crate) fn press<H: Host>(host: &H) {
    if host.flood_threshold() != 0 {
        host.note(Note::NewFlows, host.noted(Note::NewFlows) >> 32 << 32);
    }
}

/// Whether a segment that opens nothing may be of a flow that a flood kept out of the table, and so is [`forward`]'s.
#[inline(always)]
pub(crate) fn may_follow<H: Host>(host: &H, protocol: u8, transport: &Transport) -> bool {
    let flags = transport.flags;
    protocol == TCP
        && (flags.acknowledges() || flags.resets())
        && !is_ftp_data(transport)
        && host.flood_word().is_some_and(|word| {
            let handshake = host.timeout(TCP, TcpState::SynRecv as u8);
            FloodWord(word.load()).within(host.tick(), handshake)
        })
}

/// The stage for packets of no known flow in flood mode.
#[inline(always)]
pub(crate) fn forward<P: Path, H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    packet: &P::Packet,
    transport: &Transport,
) -> Action {
    let (key, protocol) = (P::key(packet, transport), P::protocol(packet));
    let opens = may_open(protocol, transport);
    let (index, once) = match P::pick_stable(host, &key, frame.ingress()) {
        Pick::Destination(index) => (index, false),
        Pick::Once(index) => (index, true),
        Pick::Nobody if opens => return P::refuse_for_nobody(host, packet),
        Pick::Nobody => return not_syn(host),
        Pick::Contended
        | Pick::NoService
        | Pick::NoTemplate
        | Pick::ByCall
        | Pick::OnceByCall
        | Pick::Shed
        | Pick::Bypass => return Action::PASS,
    };
    let Some(destination) = host.destination(index) else { return drop(host, Counter::Bug) };
    let method = destination.method;
    if method == Method::FullNat as u32 {
        // Without its entry a flow's local end is not known.
        if !opens {
            return not_syn(host);
        }
        return P::diverts(host, index, method, true).unwrap_or(Action::DROP);
    }
    let traceless =
        protocol == TCP && (transport.flags.resets() || opens && !Method::replies_pass(method));
    let control = provisional(opened(host, protocol, transport.flags, method, is_secure(host)));
    let remembered = if once || traceless {
        Remembered::Unwanted
    } else {
        P::remember_provisional(host, &key, control, index)
    };
    let mut to = (index, method);
    match remembered {
        Remembered::New => {
            host.count(Counter::FloodProvisional);
            give_load(host, index, control.inactive());
            if method == Method::Nat as u32 {
                P::learn_client(host, frame, packet);
            }
        }
        Remembered::Known { destination, method } => to = (destination, method),
        // The reply would find no way back.
        Remembered::Full if Method::replies_pass(method) => return drop(host, Counter::TableFull),
        Remembered::Contended if Method::replies_pass(method) => {
            return drop(host, Counter::InsertContended);
        }
        Remembered::Full | Remembered::Contended | Remembered::Unwanted => {
            host.count(Counter::FloodStateless);
        }
    }
    let (index, method) = to;
    host.add_stats(
        index,
        DestinationStats {
            connections: (remembered == Remembered::New) as u64,
            ..DestinationStats::input(P::length(packet))
        },
    );
    P::send(host, frame, packet, method, index)
}

/// Leaves a segment of no known connection to the stack.
#[inline(always)]
fn not_syn<H: Host>(host: &H) -> Action {
    host.count(Counter::NotSyn);
    Action::PASS
}

/// A new flow's control word in a state that gives way.
#[inline(always)]
pub(crate) const fn provisional(control: Control) -> Control {
    match control.protocol() {
        TCP => control.with_state(TcpState::SynRecv as u8, false),
        UDP => control.with_state(UNCONFIRMED, true),
        _ => control,
    }
}

/// Whether an entry has not been confirmed: it may give way to another.
#[inline(always)]
pub(crate) const fn is_provisional(control: Control) -> bool {
    match control.protocol() {
        TCP => TcpState::is_half_open_bits(control.state()),
        UDP => control.state() == UNCONFIRMED,
        SCTP => SctpState::is_half_open_bits(control.state()),
        _ => false,
    }
}
