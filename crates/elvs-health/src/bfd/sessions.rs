//! All sessions: which datagram is whose, which deadline is next, and what a new configuration changes.
//!
//! **Invariant:** a session's key is its discriminator. The index of deadlines holds each session once, at its
//! [`Session::poll_timeout`].
//!
//! Called by the driver in `elvs-probe`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use elvs_model::health::BfdInstance;
use elvs_wire::bfd::{Control, Diagnostic, State};

use super::jitter::Chance;
use super::refusal::{Refusal, Refusals};
use super::session::{Action, Begin, Parameters, Session, Standing};

/// All sessions of a director.
///
/// Inputs are [`configure`](Self::configure), [`handle_datagram`](Self::handle_datagram) and
/// [`handle_timeout`](Self::handle_timeout); times never go back from one to the next. After each,
/// [`poll_effect`](Self::poll_effect) until `None`, then [`poll_timeout`](Self::poll_timeout).
#[derive(Debug)]
pub struct Sessions {
    chance: Chance,
    entries: BTreeMap<NonZeroU32, Entry>,
    by_name: BTreeMap<String, NonZeroU32>,
    by_neighbor: BTreeMap<(IpAddr, bool), Vec<NonZeroU32>>,
    deadlines: BTreeSet<(Instant, NonZeroU32)>,
    effects: VecDeque<Effect>,
    refusals: Refusals,
}

#[derive(Debug)]
struct Entry {
    instance: BfdInstance,
    session: Session,
    /// As in the index of deadlines.
    deadline: Option<Instant>,
    since: Instant,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send a packet, at once.
    Send {
        /// Discriminator of the session, by which the driver keeps its socket.
        session: NonZeroU32,
        /// From where to where.
        endpoint: Endpoint,
        /// The packet.
        packet: Control,
    },
    /// The session is over, and its socket may go.
    Close {
        /// Its discriminator.
        session: NonZeroU32,
    },
    /// A session says something else about its path.
    Changed(Change),
}

/// From where to where a session's packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `neighbor_ip`.
    pub neighbor: IpAddr,
    /// `source_ip`; `None` = the kernel's choice.
    pub source: Option<IpAddr>,
    /// `multihop`: UDP port 4784 in place of 3784.
    pub multihop: bool,
    /// `ttl` or `hoplimit` of what is sent.
    pub ttl: u8,
}

impl From<&BfdInstance> for Endpoint {
    fn from(instance: &BfdInstance) -> Self {
        let BfdInstance { neighbor, source, multihop, ttl, .. } = *instance;
        Self { neighbor, source, multihop, ttl }
    }
}

/// A session says something else about its path than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Name of the `bfd_instance`.
    pub instance: String,
    /// What it says now.
    pub standing: Standing,
    /// Why, in words, the neighbour's address first.
    pub words: String,
}

/// A datagram that came to one of the two ports.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Payload.
    pub bytes: &'a [u8],
    /// Address it came from.
    pub source: IpAddr,
    /// Address it was sent to, if the kernel said so.
    pub destination: Option<IpAddr>,
    /// Whether it came to port 4784.
    pub multihop: bool,
    /// TTL or hop limit it came with, if the kernel said so.
    pub ttl: Option<u8>,
}

/// A session as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionView {
    /// Name of the `bfd_instance`.
    pub instance: String,
    /// Our number of the session; another one after a restart.
    pub discriminator: NonZeroU32,
    /// `neighbor_ip`.
    pub neighbor: IpAddr,
    /// Our state.
    pub state: State,
    /// When it was reached.
    pub since: Instant,
    /// Why the session last left Up.
    pub diagnostic: Diagnostic,
    /// The neighbour's state, as it last said.
    pub neighbor_state: State,
    /// Its diagnostic.
    pub neighbor_diagnostic: Diagnostic,
    /// From one packet to the next.
    pub transmit_interval: Duration,
    /// Longest silence that is borne; zero before the neighbour is heard.
    pub detection_time: Duration,
}

impl Sessions {
    /// None yet. Jitter and discriminators follow from the seed, which shall differ from one start to the next.
    pub fn new(seed: u64) -> Self {
        Self {
            chance: Chance::new(seed),
            entries: BTreeMap::new(),
            by_name: BTreeMap::new(),
            by_neighbor: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            effects: VecDeque::new(),
            refusals: Refusals::default(),
        }
    }

    /// The instances that shall be from now on. Equal ones go on untouched; one that only has other parameters keeps
    /// its session; one that is gone tells its neighbour AdminDown. Of two with the same neighbour, source address and
    /// port the first counts, as in keepalived, and the other one is down with a word.
    pub fn configure(&mut self, instances: &[BfdInstance], now: Instant) {
        self.set(instances, Begin::Down, now);
    }

    /// The same for a director that takes over from another: sessions that begin keep to themselves for three idle
    /// intervals that they are not up.
    pub fn take_over(&mut self, instances: &[BfdInstance], now: Instant) {
        self.set(instances, Begin::Patient, now);
    }

    /// A datagram that came to one of the two ports.
    pub fn handle_datagram(&mut self, datagram: &Datagram<'_>, now: Instant) {
        if let Err(refusal) = self.take(datagram, now) {
            self.refusals.count(refusal);
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, key)) = self.deadlines.first().copied()
            && at <= now
        {
            self.with(key, now, |session| session.handle_timeout(now));
        }
    }

    /// What is to be done next; `None` if nothing.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due; `None` = never.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Instances that have sessions, by name.
    pub fn instances(&self) -> impl Iterator<Item = &BfdInstance> {
        self.by_name.values().filter_map(|key| self.entries.get(key)).map(|entry| &entry.instance)
    }

    /// Sessions as an operator sees them, by name.
    pub fn view(&self) -> Vec<SessionView> {
        let keys = self.by_name.values();
        keys.filter_map(|key| Some(self.entries.get(key)?.view(*key))).collect()
    }

    /// Datagrams that were refused.
    pub const fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Finds the datagram's session (RFC 5880 section 6.8.6, RFC 5881 section 3) and gives it the packet.
    fn take(&mut self, datagram: &Datagram<'_>, now: Instant) -> Result<(), Refusal> {
        let packet = Control::parse(datagram.bytes)?;
        let key = match packet.your_discriminator {
            Some(key) => key,
            None => self.of_neighbor(datagram).ok_or(Refusal::UnknownNeighbor)?,
        };
        let unknown = Refusal::UnknownDiscriminator { got: key.get() };
        let entry = self.entries.get(&key).ok_or(unknown)?;
        if entry.instance.multihop != datagram.multihop {
            return Err(Refusal::OtherPort);
        }
        let mut taken = Ok(());
        self.with(key, now, |session| taken = session.handle_packet(&packet, datagram.ttl, now));
        taken
    }

    /// The session of a datagram that names none: one with its destination for `source_ip` before one without.
    fn of_neighbor(&self, datagram: &Datagram<'_>) -> Option<NonZeroU32> {
        let keys = self.by_neighbor.get(&(datagram.source, datagram.multihop))?;
        let source = |key: &NonZeroU32| self.entries.get(key).map(|entry| entry.instance.source);
        let with = |wanted: Option<IpAddr>| keys.iter().find(|key| source(key) == Some(wanted));
        let bound = datagram.destination.and_then(|address| with(Some(address)));
        bound.or_else(|| with(None)).copied()
    }

    fn set(&mut self, instances: &[BfdInstance], begin: Begin, now: Instant) {
        let mut wanted: BTreeMap<&str, &BfdInstance> = BTreeMap::new();
        let mut taken: BTreeMap<Identity, &str> = BTreeMap::new();
        for instance in instances {
            match taken.get(&identity(instance)) {
                Some(first) => self.effects.push_back(twin(instance, first)),
                None => {
                    taken.insert(identity(instance), &instance.name);
                    wanted.insert(&instance.name, instance);
                }
            }
        }
        let gone = |entry: &&Entry| {
            let kept = wanted.get(entry.instance.name.as_str());
            kept.is_none_or(|wanted| identity(wanted) != identity(&entry.instance))
        };
        let gone: Vec<String> =
            self.entries.values().filter(gone).map(|entry| entry.instance.name.clone()).collect();
        gone.iter().for_each(|name| self.remove(name, now));
        for instance in wanted.into_values() {
            match self.by_name.get(&instance.name) {
                Some(key) => self.change(*key, instance, now),
                None => self.add(instance, begin, now),
            }
        }
    }

    fn add(&mut self, instance: &BfdInstance, begin: Begin, now: Instant) {
        let key = self.unused_discriminator();
        let seed = self.chance.next();
        let session = Session::new(Parameters::from(instance), key, seed, begin, now);
        let entry = Entry { instance: instance.clone(), session, deadline: None, since: now };
        self.entries.insert(key, entry);
        self.by_name.insert(instance.name.clone(), key);
        self.by_neighbor.entry((instance.neighbor, instance.multihop)).or_default().push(key);
        self.with(key, now, |_| {});
    }

    fn change(&mut self, key: NonZeroU32, instance: &BfdInstance, now: Instant) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        if entry.instance != *instance {
            entry.instance = instance.clone();
            let parameters = Parameters::from(instance);
            self.with(key, now, |session| session.reconfigure(parameters, now));
        }
    }

    fn remove(&mut self, name: &str, now: Instant) {
        let Some(key) = self.by_name.remove(name) else { return };
        self.with(key, now, |session| session.shut_down(now));
        self.effects.push_back(Effect::Close { session: key });
        let Some(entry) = self.entries.remove(&key) else { return };
        if let Some(at) = entry.deadline {
            self.deadlines.remove(&(at, key));
        }
        let neighbor = (entry.instance.neighbor, entry.instance.multihop);
        if let Some(keys) = self.by_neighbor.get_mut(&neighbor) {
            keys.retain(|other| *other != key);
            if keys.is_empty() {
                self.by_neighbor.remove(&neighbor);
            }
        }
    }

    /// Does something with a session, collects what follows and notes its next deadline.
    fn with(&mut self, key: NonZeroU32, now: Instant, work: impl FnOnce(&mut Session)) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let state = entry.session.state();
        work(&mut entry.session);
        if entry.session.state() != state {
            entry.since = now;
        }
        while let Some(action) = entry.session.poll_action() {
            self.effects.push_back(entry.effect(key, action));
        }
        let deadline = entry.session.poll_timeout();
        if let Some(at) = std::mem::replace(&mut entry.deadline, deadline) {
            self.deadlines.remove(&(at, key));
        }
        self.deadlines.extend(deadline.map(|at| (at, key)));
    }

    fn unused_discriminator(&mut self) -> NonZeroU32 {
        loop {
            let [a, b, c, d, ..] = self.chance.next().to_le_bytes();
            if let Some(key) = NonZeroU32::new(u32::from_le_bytes([a, b, c, d]))
                && !self.entries.contains_key(&key)
            {
                return key;
            }
        }
    }
}

impl Entry {
    fn effect(&self, key: NonZeroU32, action: Action) -> Effect {
        match action {
            Action::Send(packet) => {
                Effect::Send { session: key, endpoint: Endpoint::from(&self.instance), packet }
            }
            Action::Changed(cause) => Effect::Changed(Change {
                instance: self.instance.name.clone(),
                standing: cause.standing(),
                words: format!("{}: {cause}", self.instance.neighbor),
            }),
        }
    }

    fn view(&self, key: NonZeroU32) -> SessionView {
        let (neighbor_state, neighbor_diagnostic) = self.session.neighbor();
        SessionView {
            instance: self.instance.name.clone(),
            discriminator: key,
            neighbor: self.instance.neighbor,
            state: self.session.state(),
            since: self.since,
            diagnostic: self.session.diagnostic(),
            neighbor_state,
            neighbor_diagnostic,
            transmit_interval: self.session.transmit_interval(),
            detection_time: self.session.detection_time(),
        }
    }
}

/// What makes two instances the same session to the neighbour.
type Identity = (IpAddr, Option<IpAddr>, bool);

const fn identity(instance: &BfdInstance) -> Identity {
    (instance.neighbor, instance.source, instance.multihop)
}

fn twin(instance: &BfdInstance, first: &str) -> Effect {
    let BfdInstance { name, neighbor, .. } = instance;
    Effect::Changed(Change {
        instance: name.clone(),
        standing: Standing::Down,
        words: format!(
            "{neighbor}: ignored, as {first} has the same neighbor, source address and port"
        ),
    })
}

#[cfg(test)]
mod tests;
