//! A connection's life after its first packet: state, time of the last packet, and a new beginning after its end.
//!
//! **Invariant:** a connection is changed by compare-and-swap of its control word only, and the load of its destination
//! follows by whoever won.
//!
//! Called by [`crate::director`].

use elvs_common::{
    Control, Counter, DestinationFlags, DestinationLoad, Method, REFRESH_TICKS, SCTP, SctpState,
    SettingFlags, TCP, TcpState, idle_ticks,
};

use crate::atomic::Atomic64;
use crate::flow::{Addresses, FoundFlow, FoundOf, Step, destination_of, release_flow};
use crate::host::{Host, add_load, take_load};
use crate::sctp;
use crate::side::Side;
use crate::tcp::{Direction, TcpFlags, next_state};

/// Times a state change is repeated when another CPU changed the connection meanwhile.
const TRACK_TRIES: u32 = 4;

/// Whether a packet of a known connection asks for a new one: what that comes to, [`is_reuse`] says.
#[inline(always)]
pub(crate) const fn asks_anew(protocol: u8, flags: TcpFlags) -> bool {
    protocol == TCP && flags.syn() || protocol == SCTP && sctp::opens(flags)
}

/// Whether a packet opens a connection anew whose entry is still there: a SYN to one that is over by `conn_reuse_mode`
/// (`is_new_conn_expected`), or to one whose destination has weight 0 with `expire_nodest_conn`.
#[inline(always)]
pub(crate) fn is_reuse<H: Host, A, V>(
    host: &H,
    protocol: u8,
    flags: TcpFlags,
    found: &FoundFlow<'_, H::Word, A, V>,
) -> bool {
    if !asks_anew(protocol, flags) {
        return false;
    }
    let settings = host.settings();
    if settings & SettingFlags::EXPIRE_NODEST_CONN != 0 {
        let destination = host.destination(destination_of(found.ports_destination));
        if destination.is_some_and(|d| d.flags & DestinationFlags::QUIESCED != 0) {
            return true;
        }
    }
    let state = found.control.state();
    if protocol == SCTP {
        return settings & SettingFlags::NO_REUSE == 0 && state == SctpState::Closed as u8;
    }
    let silent = !Method::replies_pass(found.control.method_bits());
    let half_over =
        state == TcpState::FinWait as u8 && silent && settings & SettingFlags::REUSE_FIN_WAIT != 0;
    let over = state == TcpState::TimeWait as u8 || state == TcpState::Close as u8;
    settings & SettingFlags::NO_REUSE == 0 && (over || half_over)
}

#[inline(always)]
pub(crate) fn end_for<S: Side, H: Host>(host: &H, found: &FoundOf<'_, S::Memory<H>>, why: Counter) {
    let local_end = found.slot.addresses.local_end();
    if release_flow(S::memory(host), found.bucket, found.slot, found.control) {
        host.count(why);
        take_load(host, destination_of(found.ports_destination), found.control);
        S::give_back(host, local_end);
    }
}

/// Keeps a connection's state and time of last packet; false if another CPU changed it meanwhile and the plain stage
/// leaves that to the general one.
#[inline(always)]
pub(crate) fn track<const PLAIN: bool, H: Host, A, V>(
    host: &H,
    protocol: u8,
    flags: TcpFlags,
    found: &FoundFlow<'_, H::Word, A, V>,
    destination: u32,
    direction: Direction,
) -> bool {
    let tick = host.tick();
    if advance(
        host,
        &found.slot.control,
        found.control,
        protocol,
        flags,
        destination,
        direction,
        tick,
    ) {
        return true;
    }
    if PLAIN {
        return false;
    }
    let mut retrack = Retrack {
        host,
        word: &found.slot.control,
        control: found.control.0,
        packet: protocol as u64 | (flags.0 as u64) << 8,
        destination: destination as u64,
        direction: direction as u64,
        tick: tick as u64,
    };
    host.repeat(TRACK_TRIES, &mut retrack);
    true
}

/// State of a connection after a packet, and whether it is inactive then.
#[inline(always)]
pub(crate) fn next<H: Host>(
    host: &H,
    protocol: u8,
    direction: Direction,
    state: u8,
    flags: TcpFlags,
) -> (u8, bool) {
    if protocol == TCP {
        let state = next_state(direction, state, flags);
        (state, !TcpState::is_active_bits(state))
    } else if protocol == SCTP {
        let state = host.sctp_state(direction, state, flags);
        (state, !SctpState::is_active_bits(state))
    } else if direction as u8 == Direction::Output as u8 {
        // Only its client confirms a provisional entry.
        (state, true)
    } else {
        (0, true)
    }
}

/// One try at moving a connection on from `control`; true if nothing is left to do.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "the parts of a packet and of a connection")]
fn advance<H: Host>(
    host: &H,
    word: &H::Word,
    control: Control,
    protocol: u8,
    flags: TcpFlags,
    destination: u32,
    direction: Direction,
    tick: u32,
) -> bool {
    let (state, inactive) = next(host, protocol, direction, control.state(), flags);
    if state == control.state() && idle_ticks(tick, control.tick()) < REFRESH_TICKS {
        return true;
    }
    let next = control.with_state(state, inactive).with_tick(tick);
    if word.compare_exchange(control.0, next.0).is_err() {
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
    word: &'a H::Word,
    control: u64,
    /// Protocol (low byte), flags (next byte).
    packet: u64,
    destination: u64,
    direction: u64,
    tick: u64,
}

impl<H: Host> Step for Retrack<'_, H> {
    #[inline(always)]
    fn step(&mut self, _round: u32) -> bool {
        let now = Control(self.word.load());
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
        !advance(self.host, self.word, now, protocol, TcpFlags(flags), destination, direction, tick)
    }
}
