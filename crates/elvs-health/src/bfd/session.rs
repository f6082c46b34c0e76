//! One session: state machine, timers and Poll Sequences (RFC 5880 sections 6.2, 6.5 and 6.8).
//!
//! **Invariant:** state and the neighbour's discriminator agree: in Init and Up the discriminator is known. Outside of
//! Up no less than a second is announced as transmit interval.
//!
//! Called by [`super::Sessions`].

use std::collections::VecDeque;
use std::fmt;
use std::num::{NonZeroU8, NonZeroU32};
use std::time::{Duration, Instant};

use elvs_model::health::BfdInstance;
use elvs_wire::bfd::{Control, Diagnostic, Sequence, State};

use super::jitter::Chance;
use super::refusal::Refusal;

/// A session with one neighbour.
///
/// Inputs are [`handle_packet`](Self::handle_packet), [`handle_timeout`](Self::handle_timeout) and the operator's
/// [`reconfigure`](Self::reconfigure) and [`shut_down`](Self::shut_down); times never go back from one to the next.
/// After each, [`poll_action`](Self::poll_action) until `None`, then
/// [`poll_timeout`](Self::poll_timeout).
///
/// ```text
///                              +--+
///                              |  | UP, ADMIN DOWN, TIMER
///                              |  V
///                      DOWN  +------+  INIT
///               +------------|      |------------+
///               |            | DOWN |            |
///               |  +-------->|      |<--------+  |
///               |  |         +------+         |  |
///               |  | ADMIN DOWN,              |  |
///               |  | TIMER        ADMIN DOWN, |  |
///               V  |              DOWN, TIMER |  V
///             +------+                      +------+
///        +----|      |                      |      |----+
///    DOWN|    | INIT |--------------------->|  UP  |    |INIT, UP
///        +--->|      | INIT, UP             |      |<---+
///             +------+                      +------+
/// ```
/// (RFC 5880 section 6.2; the labels are the neighbour's state.)
#[derive(Clone, Debug)]
pub struct Session {
    parameters: Parameters,
    discriminator: NonZeroU32,
    chance: Chance,
    state: State,
    diagnostic: Diagnostic,
    neighbor: Neighbor,
    /// bfd.DesiredMinTxInterval, as announced.
    desired_min_tx: u32,
    /// What it was before a Poll Sequence that is to raise it, else the same.
    min_tx_in_use: u32,
    /// What bfd.RequiredMinRxInterval was before a Poll Sequence that is to lower it, else the same.
    min_rx_in_use: u32,
    poll: Poll,
    /// When the last packet went out, and the jittered interval's base that the next was planned with.
    last_sent: Option<Instant>,
    planned_with: Duration,
    next_send: Option<Instant>,
    silent_at: Option<Instant>,
    /// When a session that is not up by then says so.
    unheard_at: Option<Instant>,
    actions: VecDeque<Action>,
}

/// What a session says before it has heard anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// That it is down.
    Down,
    /// Nothing for three idle intervals, as it takes over from one that may have been up: by then it is up, or says that
    /// it is down.
    Patient,
}

/// What the operator chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// `min_tx` in microseconds.
    pub min_tx: u32,
    /// `min_rx` in microseconds, above 0.
    pub min_rx: u32,
    /// `idle_tx` in microseconds, a second at least (RFC 5880 section 6.8.3).
    pub idle_tx: u32,
    /// `multiplier`.
    pub multiplier: NonZeroU8,
    /// `passive`: nothing is sent until the neighbour is heard.
    pub passive: bool,
    /// Least TTL of what is taken; 0 = any. keepalived's rule: `ttl` less `max_hops`, and no check with 255.
    pub least_ttl: u8,
}

impl From<&BfdInstance> for Parameters {
    /// Times beyond an hour and some minutes are cut to what the packet can carry.
    fn from(instance: &BfdInstance) -> Self {
        let microseconds = |d: Duration| u32::try_from(d.as_micros()).unwrap_or(u32::MAX);
        Self {
            min_tx: microseconds(instance.min_tx).max(1),
            min_rx: microseconds(instance.min_rx).max(1),
            idle_tx: microseconds(instance.idle_tx).max(LEAST_IDLE_TX),
            multiplier: NonZeroU8::new(instance.multiplier).unwrap_or(NonZeroU8::MIN),
            passive: instance.passive,
            least_ttl: match instance.max_hops {
                u8::MAX => 0,
                hops => instance.ttl.saturating_sub(hops),
            },
        }
    }
}

/// What the neighbour last said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Neighbor {
    discriminator: Option<NonZeroU32>,
    state: State,
    diagnostic: Diagnostic,
    multiplier: u8,
    min_tx: u32,
    min_rx: u32,
    demand: bool,
}

impl Neighbor {
    /// Of whom nothing is heard: bfd.RemoteMinRxInterval begins at 1 (RFC 5880 section 6.8.1).
    const UNHEARD: Self = Self {
        discriminator: None,
        state: State::Down,
        diagnostic: Diagnostic::NONE,
        multiplier: 0,
        min_tx: 0,
        min_rx: 1,
        demand: false,
    };
}

/// Whether a Poll Sequence is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Poll {
    Idle,
    Running,
    /// Something changed meanwhile: the Final that comes may answer for what was before, so another follows.
    RunningThenAgain,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this to the neighbour, at once.
    Send(Control),
    /// The session says something else about the path than before.
    Changed(Cause),
}

/// What a session says about the path to the neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It works in both directions.
    Up,
    /// It does not, or it is not known yet.
    Down,
    /// Nothing: the neighbour's operator took its session down, which is no failure of the path. What was known before
    /// stays (RFC 5882 section 4.2; keepalived tells its checkers nothing either).
    Suspended,
}

/// Why a session's standing changed; displayed in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It has just begun, or has not been up since.
    Begun,
    /// Both sides hear each other.
    Heard {
        /// After this long a silence it will be down.
        detection_time: Duration,
    },
    /// Nothing was received for the detection time.
    Silence {
        /// The detection time.
        detection_time: Duration,
    },
    /// The neighbour does not hear us, or began anew.
    NeighborDown {
        /// What it gives for reason.
        diagnostic: Diagnostic,
    },
    /// The neighbour's operator took the session down.
    NeighborAdminDown,
}

impl Cause {
    /// What the session says with it.
    pub const fn standing(self) -> Standing {
        match self {
            Self::Heard { .. } => Standing::Up,
            Self::Begun | Self::Silence { .. } | Self::NeighborDown { .. } => Standing::Down,
            Self::NeighborAdminDown => Standing::Suspended,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begun => write!(f, "no session yet"),
            Self::Heard { detection_time } => {
                write!(f, "session is up, and down after {detection_time:?} of silence")
            }
            Self::Silence { detection_time } => {
                write!(f, "nothing received for {detection_time:?}, the detection time")
            }
            Self::NeighborDown { diagnostic } => {
                write!(f, "neighbor says that the session is down: {diagnostic}")
            }
            Self::NeighborAdminDown => {
                write!(f, "neighbor has taken the session out of service; what was known stays")
            }
        }
    }
}

impl Session {
    /// A session that has heard nothing; it begins to send at once unless it is passive.
    pub fn new(
        parameters: Parameters,
        discriminator: NonZeroU32,
        seed: u64,
        begin: Begin,
        now: Instant,
    ) -> Self {
        let mut session = Self {
            parameters,
            discriminator,
            chance: Chance::new(seed),
            state: State::Down,
            diagnostic: Diagnostic::NONE,
            neighbor: Neighbor::UNHEARD,
            desired_min_tx: parameters.idle_tx,
            min_tx_in_use: parameters.idle_tx,
            min_rx_in_use: parameters.min_rx,
            poll: Poll::Idle,
            last_sent: None,
            planned_with: Duration::ZERO,
            next_send: None,
            silent_at: None,
            unheard_at: None,
            actions: VecDeque::new(),
        };
        match begin {
            Begin::Down => session.actions.push_back(Action::Changed(Cause::Begun)),
            Begin::Patient => session.unheard_at = Some(now + 3 * micros(parameters.idle_tx)),
        }
        session.plan(now);
        session
    }

    /// A packet of the neighbour, which the caller has found to be this session's, and the TTL it came with.
    ///
    /// # Errors
    /// [`Refusal::NoHopLimit`], [`Refusal::HopLimit`]; it has then no effect.
    pub fn handle_packet(
        &mut self,
        packet: &Control,
        ttl: Option<u8>,
        now: Instant,
    ) -> Result<(), Refusal> {
        let least = self.parameters.least_ttl;
        if least > 0 {
            let got = ttl.ok_or(Refusal::NoHopLimit)?;
            if got < least {
                return Err(Refusal::HopLimit { got, least });
            }
        }
        if self.state == State::AdminDown {
            return Ok(());
        }
        self.neighbor = Neighbor {
            discriminator: Some(packet.my_discriminator),
            state: packet.state,
            diagnostic: packet.diagnostic,
            multiplier: packet.detect_multiplier.get(),
            min_tx: packet.desired_min_tx,
            min_rx: packet.required_min_rx,
            demand: packet.demand,
        };
        if packet.sequence == Sequence::Final {
            self.end_poll();
        }
        let changed = self.follow(packet.state);
        self.silent_at = Some(now + self.detection_time());
        if packet.sequence == Sequence::Poll {
            // Without respect to timers, state and demand mode (section 6.5); it says what changed as well.
            self.send(Sequence::Final, now);
        } else if changed && self.transmits() {
            // Section 6.8.7: what differs from the last packet is told at once.
            self.send_periodic(now);
        }
        self.plan(now);
        Ok(())
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.silent_at.is_some_and(|at| at <= now) {
            self.fall_silent(now);
        }
        if self.unheard_at.is_some_and(|at| at <= now) {
            self.unheard_at = None;
            self.actions.push_back(Action::Changed(Cause::Begun));
        }
        self.plan(now);
        if self.next_send.is_some_and(|at| at <= now) {
            self.send_periodic(now);
        }
        self.plan(now);
    }

    /// Other parameters; the session goes on, with a Poll Sequence if it is up and an interval changed.
    pub fn reconfigure(&mut self, parameters: Parameters, now: Instant) {
        let old = std::mem::replace(&mut self.parameters, parameters);
        if self.state == State::AdminDown {
            return;
        }
        if parameters.min_rx != old.min_rx {
            if self.state == State::Up {
                // Section 6.8.3: a lower one counts when the neighbour has confirmed it.
                self.min_rx_in_use = self.min_rx_in_use.max(parameters.min_rx);
                self.start_poll();
            } else {
                self.min_rx_in_use = parameters.min_rx;
            }
        }
        self.set_desired_min_tx();
        self.plan(now);
    }

    /// Takes the session down for good; the neighbour is told once, if it may know of us.
    pub fn shut_down(&mut self, now: Instant) {
        let tell = self.neighbor.discriminator.is_some() || !self.parameters.passive;
        self.state = State::AdminDown;
        self.diagnostic = Diagnostic::ADMINISTRATIVELY_DOWN;
        self.poll = Poll::Idle;
        self.set_desired_min_tx();
        self.silent_at = None;
        self.unheard_at = None;
        if tell {
            self.send(Sequence::Neither, now);
        }
        self.plan(now);
    }

    /// What is to be done next; `None` if nothing.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due; `None` = never.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.next_send, self.silent_at, self.unheard_at].into_iter().flatten().min()
    }

    /// State.
    pub const fn state(&self) -> State {
        self.state
    }

    /// Why the session last left Up.
    pub const fn diagnostic(&self) -> Diagnostic {
        self.diagnostic
    }

    /// State and diagnostic the neighbour last spoke of.
    pub const fn neighbor(&self) -> (State, Diagnostic) {
        (self.neighbor.state, self.neighbor.diagnostic)
    }

    /// From one packet to the next, jitter aside (RFC 5880 section 6.8.2).
    pub fn transmit_interval(&self) -> Duration {
        micros(self.min_tx_in_use.max(self.neighbor.min_rx))
    }

    /// Longest silence of the neighbour that is borne (RFC 5880 section 6.8.4); zero before it is heard.
    pub fn detection_time(&self) -> Duration {
        micros(self.min_rx_in_use.max(self.neighbor.min_tx)) * u32::from(self.neighbor.multiplier)
    }

    /// The neighbour is in this state: section 6.2's diagram. Whether our state changed.
    fn follow(&mut self, neighbor: State) -> bool {
        let (next, diagnostic) = match (self.state, neighbor) {
            (State::Down, State::Down) => (State::Init, Diagnostic::NONE),
            (State::Down, State::Init) | (State::Init, State::Init | State::Up) => {
                (State::Up, Diagnostic::NONE)
            }
            (State::Init | State::Up, State::AdminDown) | (State::Up, State::Down) => {
                (State::Down, Diagnostic::NEIGHBOR_SIGNALED_DOWN)
            }
            (State::AdminDown, _)
            | (State::Down, State::AdminDown | State::Up)
            | (State::Init, State::Down)
            | (State::Up, State::Init | State::Up) => return false,
        };
        let cause = match (next, neighbor) {
            (State::Up, _) => Cause::Heard { detection_time: self.detection_time() },
            (_, State::AdminDown) => Cause::NeighborAdminDown,
            _ => Cause::NeighborDown { diagnostic: self.neighbor.diagnostic },
        };
        self.enter(next, diagnostic, cause);
        true
    }

    /// Enters another state; leaving and reaching Up are told.
    fn enter(&mut self, next: State, diagnostic: Diagnostic, cause: Cause) {
        let was = std::mem::replace(&mut self.state, next);
        self.diagnostic = diagnostic;
        self.set_desired_min_tx();
        if next != State::Up {
            self.poll = Poll::Idle;
            self.min_rx_in_use = self.parameters.min_rx;
        }
        // Between Down and Init nothing is known, as before.
        if was == State::Up || next == State::Up {
            self.unheard_at = None;
            self.actions.push_back(Action::Changed(cause));
        }
    }

    /// The detection time has passed: section 6.8.4, and bfd.RemoteDiscr of 6.8.1.
    fn fall_silent(&mut self, now: Instant) {
        let detection_time = self.detection_time();
        self.silent_at = None;
        self.neighbor = Neighbor::UNHEARD;
        if matches!(self.state, State::Init | State::Up) {
            let cause = Cause::Silence { detection_time };
            self.enter(State::Down, Diagnostic::DETECTION_TIME_EXPIRED, cause);
            if self.transmits() {
                self.send_periodic(now);
            }
        }
    }

    /// bfd.DesiredMinTxInterval of the state (section 6.8.3); a higher one is used when the neighbour has confirmed it.
    fn set_desired_min_tx(&mut self) {
        let up = self.state == State::Up;
        let desired = if up { self.parameters.min_tx } else { self.parameters.idle_tx };
        if up && desired != self.desired_min_tx {
            self.start_poll();
        }
        self.desired_min_tx = desired;
        self.min_tx_in_use = if up { self.min_tx_in_use.min(desired) } else { desired };
    }

    const fn start_poll(&mut self) {
        self.poll = match self.poll {
            Poll::Idle => Poll::Running,
            Poll::Running | Poll::RunningThenAgain => Poll::RunningThenAgain,
        };
    }

    const fn end_poll(&mut self) {
        match self.poll {
            Poll::Idle => {}
            Poll::RunningThenAgain => self.poll = Poll::Running,
            Poll::Running => {
                self.poll = Poll::Idle;
                self.min_tx_in_use = self.desired_min_tx;
                self.min_rx_in_use = self.parameters.min_rx;
            }
        }
    }

    /// Whether periodic packets may be sent (section 6.8.7).
    fn transmits(&self) -> bool {
        let asked_for_silence = self.neighbor.demand
            && self.state == State::Up
            && self.neighbor.state == State::Up
            && self.poll == Poll::Idle;
        self.state != State::AdminDown
            && self.neighbor.min_rx != 0
            && !(self.parameters.passive && self.neighbor.discriminator.is_none())
            && !asked_for_silence
    }

    /// Sets the time of the next packet, if the interval changed or there was none.
    fn plan(&mut self, now: Instant) {
        if !self.transmits() {
            self.next_send = None;
            return;
        }
        let interval = self.transmit_interval();
        if self.next_send.is_none() || interval != self.planned_with {
            self.planned_with = interval;
            let wait = self.chance.shorten(interval, self.parameters.multiplier.get());
            self.next_send = Some(self.last_sent.map_or(now, |sent| now.max(sent + wait)));
        }
    }

    fn send_periodic(&mut self, now: Instant) {
        let sequence = if self.poll == Poll::Idle { Sequence::Neither } else { Sequence::Poll };
        self.send(sequence, now);
        self.next_send = None;
    }

    fn send(&mut self, sequence: Sequence, now: Instant) {
        if sequence != Sequence::Final {
            self.last_sent = Some(now);
        }
        self.actions.push_back(Action::Send(Control {
            diagnostic: self.diagnostic,
            state: self.state,
            sequence,
            // The daemon and what it decides go together.
            control_plane_independent: false,
            demand: false,
            detect_multiplier: self.parameters.multiplier,
            my_discriminator: self.discriminator,
            your_discriminator: self.neighbor.discriminator,
            desired_min_tx: self.desired_min_tx,
            required_min_rx: self.parameters.min_rx,
            // Echo packets are not returned.
            required_min_echo_rx: 0,
        }));
    }
}

/// Least transmit interval outside of Up, in microseconds (RFC 5880 section 6.8.3).
const LEAST_IDLE_TX: u32 = 1_000_000;

const fn micros(microseconds: u32) -> Duration {
    Duration::from_micros(microseconds as u64)
}

#[cfg(test)]
mod tests;
