//! Driver of BFD: sockets and a clock for the sessions of `elvs_health::bfd`.
//!
//! **Invariant:** all sessions live on one thread of their own, before others in turn, so that no other work of the
//! daemon makes a neighbour wait for a packet. Datagrams that have come are read before a silence is believed. The queue of commands is
//! bounded (the sender waits); of changes that the receiver has not taken yet, the newest of each instance is kept.
//!
//! Called by the daemon.

mod inbox;
mod outbox;
mod timer;

use std::collections::BTreeMap;
use std::future::pending;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use elvs_model::health::BfdInstance;
use nix::libc;
use tokio::sync::mpsc::error::SendError;
use tokio::sync::{mpsc, oneshot};

pub use elvs_health::bfd::{Change, SessionView, Standing};

use elvs_health::bfd::{Effect, Sessions};
use inbox::Inbox;
use outbox::Outbox;
use timer::Timer;

/// All BFD sessions of a director, on a thread of their own.
///
/// Dropping it, like [`shut_down`](Self::shut_down), tells every neighbour AdminDown and ends the thread.
#[derive(Debug)]
pub struct Bfd {
    /// `None` once it is to end.
    commands: Option<mpsc::Sender<Command>>,
    thread: Option<JoinHandle<()>>,
}

/// Why BFD cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The thread could not be made.
    #[error("cannot start the thread of BFD")]
    Thread(#[source] io::Error),
    /// Its runtime or its timer could not be made.
    #[error("cannot start the timer of BFD")]
    Timer(#[source] io::Error),
}

/// The thread has ended before its time, which only a fault of ours can bring about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the thread of BFD has ended")]
pub struct Ended;

/// What an operator sees of BFD.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BfdView {
    /// Sessions, by name of the `bfd_instance`.
    pub sessions: Vec<SessionReport>,
    /// Datagrams that were refused: reason and number, by reason.
    pub refused: Vec<(&'static str, u64)>,
    /// Datagrams that were taken.
    pub received: u64,
    /// UDP ports that cannot be received on, each with the system's words.
    pub closed_ports: Vec<String>,
}

/// A session as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionReport {
    /// The session.
    pub session: SessionView,
    /// Packets sent.
    pub sent: u64,
    /// Packets that the system refused to send.
    pub unsent: u64,
    /// Why the last one could not be sent, if it could not.
    pub trouble: Option<String>,
}

#[derive(Debug)]
enum Command {
    Configure(Vec<BfdInstance>),
    View(oneshot::Sender<BfdView>),
}

impl Bfd {
    /// Starts with these instances, in the calling thread's network namespace; what sessions say goes to `changes`.
    ///
    /// Every instance says [`Standing::Down`] first, as nothing is known of its path yet. A port that is taken is tried
    /// again every few seconds, as is a source address that is not there.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub fn spawn(
        instances: Vec<BfdInstance>,
        changes: mpsc::Sender<Change>,
    ) -> Result<Self, StartError> {
        Self::start(instances, Sessions::configure, changes)
    }

    /// The same for a daemon that goes on where another was killed, and knows what that one knew: an instance that is not
    /// up says [`Standing::Down`] only after three of its idle intervals, so what was up is not taken out meanwhile.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub fn take_over(
        instances: Vec<BfdInstance>,
        changes: mpsc::Sender<Change>,
    ) -> Result<Self, StartError> {
        Self::start(instances, Sessions::take_over, changes)
    }

    /// The instances that shall be from now on: equal ones go on, removed ones tell AdminDown.
    ///
    /// # Errors
    /// [`Ended`].
    pub async fn configure(&self, instances: Vec<BfdInstance>) -> Result<(), Ended> {
        self.order(Command::Configure(instances)).await
    }

    /// What is to be seen now.
    ///
    /// # Errors
    /// [`Ended`].
    pub async fn view(&self) -> Result<BfdView, Ended> {
        let (answer, answered) = oneshot::channel();
        self.order(Command::View(answer)).await?;
        answered.await.or(Err(Ended))
    }

    /// Tells every neighbour AdminDown and ends the thread.
    pub fn shut_down(self) {
        drop(self);
    }

    fn start(
        instances: Vec<BfdInstance>,
        begin: fn(&mut Sessions, &[BfdInstance], Instant),
        changes: mpsc::Sender<Change>,
    ) -> Result<Self, StartError> {
        let (commands, orders) = mpsc::channel(COMMANDS);
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let thread = Builder::new().name("elvs-bfd".to_owned());
        let work = move || {
            go_first();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
            let driver = runtime.and_then(|runtime| {
                let driver = runtime.block_on(async { Driver::new(orders, changes) })?;
                Ok((runtime, driver))
            });
            // Whoever started it waits for this word.
            match driver {
                Ok((runtime, driver)) => {
                    let _ = tell.send(Ok(()));
                    runtime.block_on(driver.run(&instances, begin));
                }
                Err(error) => {
                    let _ = tell.send(Err(error));
                }
            }
        };
        let thread = thread.spawn(work).map_err(StartError::Thread)?;
        let bfd = Self { commands: Some(commands), thread: Some(thread) };
        match told.recv() {
            Ok(Ok(())) => Ok(bfd),
            Ok(Err(error)) => Err(StartError::Timer(error)),
            Err(_) => Err(StartError::Timer(io::Error::other(Ended))),
        }
    }

    async fn order(&self, command: Command) -> Result<(), Ended> {
        let commands = self.commands.as_ref().ok_or(Ended)?;
        commands.send(command).await.or(Err(Ended))
    }
}

impl Drop for Bfd {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of BFD ended by a panic");
        }
    }
}

/// What runs on the thread.
struct Driver {
    sessions: Sessions,
    inbox: Inbox,
    outbox: Outbox,
    timer: Timer,
    retry: Option<Instant>,
    received: u64,
    orders: mpsc::Receiver<Command>,
    changes: mpsc::Sender<Change>,
    /// Changes that are not taken yet, the newest of each instance.
    waiting: BTreeMap<String, Change>,
}

impl Driver {
    fn new(orders: mpsc::Receiver<Command>, changes: mpsc::Sender<Change>) -> io::Result<Self> {
        Ok(Self {
            sessions: Sessions::new(seed()),
            inbox: Inbox::default(),
            outbox: Outbox::new(seed()),
            timer: Timer::new()?,
            retry: None,
            received: 0,
            orders,
            changes,
            waiting: BTreeMap::new(),
        })
    }

    /// Cancelled never: it ends when the other end of its orders is dropped.
    async fn run(
        mut self,
        instances: &[BfdInstance],
        begin: fn(&mut Sessions, &[BfdInstance], Instant),
    ) {
        begin(&mut self.sessions, instances, Instant::now());
        self.carry_out();
        self.open_ports();
        loop {
            self.receive();
            let now = Instant::now();
            self.sessions.handle_timeout(now);
            if self.retry.is_some_and(|at| at <= now) {
                self.open_ports();
            }
            self.carry_out();
            let next = [self.sessions.poll_timeout(), self.retry].into_iter().flatten().min();
            self.timer.set(next);
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(Command::Configure(instances)) => self.configure(&instances),
                    // One that asked and went away needs no answer.
                    Some(Command::View(answer)) => drop(answer.send(self.view())),
                    None => break,
                },
                () = self.inbox.readable() => {}
                () = self.timer.expired() => {}
                taken = hand_over(&mut self.waiting, &self.changes) => if taken.is_err() {
                    // Nobody wants to know any more.
                    break;
                },
            }
        }
        self.sessions.configure(&[], Instant::now());
        self.carry_out();
    }

    fn configure(&mut self, instances: &[BfdInstance]) {
        self.waiting.retain(|name, _| instances.iter().any(|instance| instance.name == *name));
        self.sessions.configure(instances, Instant::now());
        self.carry_out();
        self.open_ports();
    }

    /// Opens and closes ports as the instances want; those of a port that cannot be opened are told why.
    fn open_ports(&mut self) {
        let failed = self.inbox.open(self.sessions.instances());
        for (instance, words) in failed {
            tracing::warn!("BFD {instance}: {words}");
            self.say(Change { instance, standing: Standing::Down, words });
        }
        let closed = self.inbox.closed().next().is_some();
        self.retry = closed.then(|| Instant::now() + RETRY);
    }

    /// Reads what has come; a flood is left to the next turns.
    fn receive(&mut self) {
        for _ in 0..DATAGRAMS {
            let Some(received) = self.inbox.receive() else { return };
            self.received += 1;
            self.sessions.handle_datagram(&received.datagram(), Instant::now());
        }
    }

    fn carry_out(&mut self) {
        while let Some(effect) = self.sessions.poll_effect() {
            match effect {
                Effect::Send { session, endpoint, packet } => {
                    self.outbox.send(session, endpoint, &packet.emit());
                }
                Effect::Close { session } => self.outbox.close(session),
                Effect::Changed(change) => self.say(change),
            }
        }
    }

    fn say(&mut self, change: Change) {
        // It says that what was known stays: so does what waits.
        if change.standing == Standing::Suspended && self.waiting.contains_key(&change.instance) {
            return;
        }
        self.waiting.insert(change.instance.clone(), change);
    }

    fn view(&self) -> BfdView {
        let refused: Vec<_> = self.sessions.refusals().iter().collect();
        let sum: u64 = refused.iter().map(|(_, count)| count).sum();
        BfdView {
            sessions: self.sessions.view().into_iter().map(|s| self.outbox.report(s)).collect(),
            received: self.received.saturating_sub(sum),
            refused,
            closed_ports: self.inbox.closed().collect(),
        }
    }
}

/// Gives the calling thread the highest of the ordinary priorities (setpriority(2): `who` 0 is the thread). Without the
/// right to it, or if the kernel refuses, BFD runs as it is; with intervals of some 10 ms that is late on a busy machine.
fn go_first() {
    // SAFETY: the call takes numbers alone and touches no memory of ours.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, HIGHEST_PRIORITY) } != 0 {
        let error = io::Error::last_os_error();
        tracing::warn!("BFD runs without priority (CAP_SYS_NICE): {error}");
    }
}

/// Waits until one of the changes is taken. May be cancelled: it then waits on.
async fn hand_over(
    waiting: &mut BTreeMap<String, Change>,
    changes: &mpsc::Sender<Change>,
) -> Result<(), SendError<()>> {
    if waiting.is_empty() {
        return pending().await;
    }
    let permit = changes.reserve().await?;
    if let Some((_, change)) = waiting.pop_first() {
        permit.send(change);
    }
    Ok(())
}

/// A number that differs from one start to the next: the standard library's source for its hash tables.
fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Nice value.
const HIGHEST_PRIORITY: i32 = -20;
/// Commands that wait at most.
const COMMANDS: usize = 16;
/// Datagrams read in one turn.
const DATAGRAMS: usize = 256;
/// Until a port is tried again.
const RETRY: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
