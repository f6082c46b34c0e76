//! One run: which probes are sent when, and what their answers are.
//!
//! **Invariant:** ends by its deadline; what is asked beyond the service itself is asked only when that gave no answer, or
//! a bad one.
//!
//! Called by the prober, which owns the socket and the clock: it sends what [`Examination::poll_send`] gives, tells what it
//! hears, and calls [`Examination::handle_timeout`] at [`Examination::poll_timeout`], until
//! [`Examination::poll_finding`] has something.
//!
//! ```text
//!           ┌─ the service answers ─► claims of the VIP are waited for ─► passed, or failed
//!  asked ───┤
//!           └─ it refuses, or is silent for a while ─► asked again, with all that tells why ─► judged
//! ```

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use elvs_model::Protocol;
use elvs_model::health::Finding;

use super::hear::{Answer, Claim, News};
use super::judgement::{Evidence, Heard, judge};
use super::probe::{NUMBERS, Role, Way, ethertype_of};

/// A frame's payload that is to be sent to the real server's MAC address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) ethertype: u16,
    pub(super) payload: Vec<u8>,
}

/// One run of a check.
#[derive(Debug)]
pub(super) struct Examination {
    way: Way,
    evidence: Evidence,
    stage: Stage,
    /// [`Role::Onward`] is asked.
    onward: bool,
    /// Roles that were asked.
    asked: Vec<Role>,
    outgoing: VecDeque<Frame>,
    /// How long nothing is heard before more is asked.
    patience: Duration,
    /// The end of the run, whatever is heard.
    deadline: Instant,
    /// When the stage ends.
    due: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The service is asked.
    Asked,
    /// It answered; who claims the VIP, or refuses the datagram after all, is waited for.
    Answered,
    /// More is asked, to learn why it did not.
    Diagnosing,
    /// Nothing is waited for any more.
    Over,
}

impl Examination {
    /// Begins a run at `now`.
    pub(super) fn new(way: Way, now: Instant) -> Self {
        let timeout = way.check.timeout;
        let patience = (timeout / 4).min(PATIENCE);
        let mut run = Self {
            evidence: Evidence::default(),
            stage: Stage::Asked,
            onward: false,
            asked: Vec::new(),
            outgoing: VecDeque::new(),
            patience,
            deadline: now + timeout,
            due: now + patience,
            way,
        };
        run.ask(Role::Service);
        if run.way.check.protocol != Protocol::Tcp {
            // Many services keep silent about an empty datagram: then the echo says that the way is free.
            run.ask(run.way.echo());
        }
        if run.way.asks_back() {
            run.ask(Role::PlainEcho);
            run.ask(Role::Back);
        }
        run.ask_whose();
        run
    }

    /// The next frame to send.
    pub(super) fn poll_send(&mut self) -> Option<Frame> {
        self.outgoing.pop_front()
    }

    /// When [`Examination::handle_timeout`] is to be called, if nothing is heard before.
    pub(super) fn poll_timeout(&self) -> Instant {
        self.due.min(self.deadline)
    }

    /// What the run found, once it is over.
    pub(super) fn poll_finding(&self) -> Option<Finding> {
        (self.stage == Stage::Over).then(|| judge(&self.way, &self.evidence))
    }

    /// Takes what was heard.
    pub(super) fn handle_news(&mut self, news: News, now: Instant) {
        match news {
            News::Claim(claim) => self.handle_claim(claim),
            News::Answer { number, from, what } => {
                let Some(role) = Role::of(number) else { return };
                if number / NUMBERS != self.way.first / NUMBERS {
                    return;
                }
                if let Answer::Segment { acknowledged, .. } = what
                    && from == self.asked_of(role)
                {
                    // RFC 9293 section 3.10.7.3: also what acknowledges anything but this SYN, which is what a host says
                    // that still has a connection half open from before.
                    self.send(self.way.reset(role, acknowledged));
                }
                let Some(heard) = self.accept(role, from, what) else { return };
                self.evidence.note(role, heard);
            }
        }
        self.proceed(now);
    }

    /// Time has passed.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if now >= self.deadline {
            self.end();
        }
        if now < self.due {
            return;
        }
        match self.stage {
            Stage::Asked => self.diagnose(now),
            Stage::Answered if self.evidence.lacks_back(&self.way) => {
                self.ask(Role::Back);
                self.due = now + self.patience;
            }
            Stage::Answered => self.end(),
            Stage::Diagnosing if self.refused() => self.end(),
            // Lost packets are no reason to take a real server away: what nobody has answered is asked again.
            Stage::Diagnosing => {
                self.ask_all();
                self.due = now + self.patience;
            }
            Stage::Over => {}
        }
    }

    /// Goes on to the next stage, if what was heard allows.
    fn proceed(&mut self, now: Instant) {
        match self.stage {
            Stage::Over => {}
            Stage::Asked | Stage::Answered if self.refused() => self.learn_why(now),
            Stage::Asked | Stage::Diagnosing if self.evidence.works(&self.way) => {
                if self.settled() {
                    self.end();
                } else {
                    self.stage = Stage::Answered;
                    self.due = now + GRACE.min(self.patience);
                }
            }
            Stage::Diagnosing if self.refused() => self.learn_more(now),
            Stage::Answered if self.settled() => self.end(),
            Stage::Asked | Stage::Answered | Stage::Diagnosing => {}
        }
    }

    /// Whether a service that works needs no further look.
    fn settled(&self) -> bool {
        let claims = self.way.to_vip() && self.way.owns_vip;
        let back = !self.way.asks_back() || self.evidence.of(Role::Back) != Heard::Nothing;
        self.evidence.claim.is_some() || (self.evidence.answers() && !claims && back)
    }

    /// The service refuses. Hosts send few ICMP errors (`icmp_ratelimit`), so none is asked for in vain.
    fn learn_why(&mut self, now: Instant) {
        let service = self.evidence.of(Role::Service);
        if self.way.to_vip() && service.by_listener(self.way.check.protocol) {
            self.diagnose(now);
        } else if self.way.to_vip() && service.sent_on() {
            self.stage = Stage::Diagnosing;
            self.due = now + self.patience;
            self.ask(Role::VipEcho);
            self.learn_more(now);
        } else {
            self.end();
        }
    }

    /// More was heard about why the service refuses.
    fn learn_more(&mut self, now: Instant) {
        let heard = |role| self.evidence.of(role);
        if !heard(Role::Service).sent_on() {
            // The same at the real server's own address tells all there is to know.
            if heard(Role::Plain) != Heard::Nothing {
                self.end();
            }
            return;
        }
        match (heard(Role::VipEcho), heard(Role::Onward)) {
            // The VIP is there, and packets for it are sent on behind it: that is how containers have services. No such
            // packet can come back to this director, so it may go as far as a client's.
            (Heard::Answered, Heard::Nothing) if !self.onward => {
                self.onward = true;
                self.due = now + self.patience;
                self.ask(Role::Onward);
            }
            (Heard::Refused { .. }, _) | (_, Heard::Refused { .. }) => self.end(),
            (Heard::Nothing | Heard::Answered | Heard::Opened, _) => {}
        }
    }

    /// Nothing more is heard after this. A SYN that nobody has answered may be answered yet, or have been: a reset behind it
    /// ends what it opened, which would be in the way of a later run with these numbers.
    fn end(&mut self) {
        self.stage = Stage::Over;
        for role in std::mem::take(&mut self.asked) {
            if self.evidence.of(role) == Heard::Nothing {
                self.send(self.way.reset(role, self.way.isn.wrapping_add(1)));
            }
        }
    }

    /// Asks all that may tell why the service does not answer.
    fn diagnose(&mut self, now: Instant) {
        self.stage = Stage::Diagnosing;
        self.ask_all();
        self.due = now + self.patience;
    }

    fn ask_all(&mut self) {
        for role in Role::ALL.into_iter().filter(|role| *role != Role::Onward) {
            if self.evidence.of(role) == Heard::Nothing {
                self.ask(role);
            }
        }
        self.ask_whose();
    }

    /// Asks the real server whether it has the VIP, where that is this director's.
    fn ask_whose(&mut self) {
        if self.way.to_vip() && self.way.owns_vip && self.evidence.claim.is_none() {
            let question = self.way.question();
            self.outgoing.extend(question.map(|(ethertype, payload)| Frame { ethertype, payload }));
        }
    }

    fn refused(&self) -> bool {
        !self.evidence.answers() && matches!(self.evidence.of(Role::Service), Heard::Refused { .. })
    }

    /// The address that answers a role's probe.
    fn asked_of(&self, role: Role) -> IpAddr {
        let check = &self.way.check;
        match role {
            Role::Service => self.way.service().0,
            Role::Strange if self.way.sent_without_checksum() => check.vip,
            Role::VipEcho | Role::OtherSource | Role::Onward => check.vip,
            Role::Back
            | Role::Inner
            | Role::InnerEcho
            | Role::Plain
            | Role::PlainEcho
            | Role::Strange => check.real_server,
        }
    }

    /// What an answer means; `None` if it is none to that probe.
    fn accept(&self, role: Role, from: IpAddr, what: Answer) -> Option<Heard> {
        let asked = self.asked_of(role);
        let ours = |acknowledged: u32| acknowledged == self.way.isn.wrapping_add(1);
        match what {
            Answer::Segment { opens: true, acknowledged }
                if from == asked && ours(acknowledged) =>
            {
                Some(Heard::Opened)
            }
            Answer::Reset { acknowledged } if from == asked && ours(acknowledged) => {
                Some(Heard::Refused { refusal: None, by: from, whole: true })
            }
            Answer::Datagram | Answer::Echo if from == asked => Some(Heard::Answered),
            // An error quotes what was forwarded: in a tunnel that is addressed to the real server.
            Answer::Refused { refusal, quoted_to }
                if quoted_to == asked || quoted_to == self.way.check.real_server =>
            {
                let whole = quoted_to == asked;
                Some(Heard::Refused { refusal: Some(refusal), by: from, whole })
            }
            Answer::Segment { .. }
            | Answer::Reset { .. }
            | Answer::Datagram
            | Answer::Echo
            | Answer::Refused { .. } => None,
        }
    }

    /// A claim counts if it is of the VIP, by the real server, and the VIP is this director's.
    fn handle_claim(&mut self, claim: Claim) {
        let theirs = claim.address == self.way.check.vip && claim.mac == self.way.mac;
        if theirs && self.way.to_vip() && self.way.owns_vip && self.way.on_link {
            self.evidence.claim = self.evidence.claim.filter(|c| !c.asking).or(Some(claim));
        }
    }

    fn ask(&mut self, role: Role) {
        let packet = self.way.packet(role);
        if packet.is_some() && !self.asked.contains(&role) {
            self.asked.push(role);
        }
        self.send(packet);
    }

    fn send(&mut self, packet: Option<Vec<u8>>) {
        self.outgoing
            .extend(packet.map(|payload| Frame { ethertype: ethertype_of(&payload), payload }));
    }
}

/// Longest silence before more is asked; with a shorter timeout a quarter of that.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long another's claim of the VIP, a late refusal of a datagram, or an echo beside the answer is waited for. Hosts
/// answer such things in their interrupt handlers.
const GRACE: Duration = Duration::from_millis(250);

#[cfg(test)]
pub(super) mod tests;
