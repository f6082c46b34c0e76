//! The health thread: asks the monitor what is due, runs it, and hands back what was found.
//!
//! **Invariant:** every run that was started ends with a finding, also one whose code failed: no check falls silent.
//!
//! Called by [`super::Health::start`].

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use elvs_health::{CheckId, Effect, Monitor, SavedState, Start};
use elvs_model::Desired;
use elvs_model::health::{Finding, Trial};
use elvs_net::{Event, Events, Netlink};
use elvs_probe::bfd::{Change, Standing};
use futures::future::join_all;
use futures::{FutureExt, StreamExt};
use tokio::sync::mpsc::{Receiver, UnboundedReceiver};
use tokio::task::{JoinHandle, JoinSet, spawn_blocking};
use tokio::time::{Sleep, sleep, sleep_until, timeout};
use tracing::{info, warn};

use super::addresses::Addresses;
use super::drivers::Drivers;
use super::files;
use super::outbox::Outbox;
use super::store::Store;
use super::{Command, Configured, Sample};

/// States are written at most this often, but at once after a quiet time.
const SAVE_PAUSE: Duration = Duration::from_secs(1);
/// After the network could not be watched.
const WATCH_PAUSE: Duration = Duration::from_secs(5);
/// Checks that take no time are waited for this long before a configuration is in force.
const FORESEE: Duration = Duration::from_secs(1);
/// Sleep when nothing is due.
const IDLE: Duration = Duration::from_secs(3_600);

/// A run that ended.
type Ran = (CheckId, Finding, Duration);

/// What the thread owns.
pub(super) struct Checker {
    monitor: Monitor,
    /// What [`elvs_health::Time`] counts from.
    start: Instant,
    desired: Arc<Desired>,
    /// Something was configured already.
    began: bool,
    /// What was watched before, for [`Command::Revert`].
    before: Option<(Arc<Desired>, SavedState)>,
    drivers: Drivers,
    /// What sessions of BFD say.
    sessions: Receiver<Change>,
    runs: JoinSet<Ran>,
    addresses: Addresses,
    network: Option<(Netlink, Events)>,
    /// When the network is looked for again if it is not watched.
    watch_after: tokio::time::Instant,
    outbox: Arc<Outbox>,
    store: Store,
    /// Something changed since the last save.
    unsaved: bool,
    save_after: tokio::time::Instant,
    writing: Option<JoinHandle<()>>,
}

impl Checker {
    /// A checker that takes over what an earlier daemon knew.
    pub(super) async fn new(store: Store, outbox: Arc<Outbox>) -> Self {
        let saved = store.load();
        let (drivers, sessions) = Drivers::new(saved.is_some());
        let mut checker = Self {
            monitor: Monitor::new(seed()),
            start: Instant::now(),
            desired: Arc::default(),
            began: false,
            before: None,
            drivers,
            sessions,
            runs: JoinSet::new(),
            addresses: Addresses::default(),
            network: None,
            watch_after: tokio::time::Instant::now(),
            outbox,
            store,
            unsaved: false,
            save_after: tokio::time::Instant::now(),
            writing: None,
        };
        if let Some(saved) = saved {
            checker.monitor.restore(checker.now(), wall(), saved);
        }
        checker.watch().await;
        checker
    }

    /// Works until it is told to stop, or nobody can tell it any more.
    pub(super) async fn run(mut self, mut asked: UnboundedReceiver<Command>) {
        loop {
            let due = self.until_due();
            tokio::select! {
                biased;
                command = asked.recv() => match command {
                    None => break,
                    Some(Command::Stop(goes_on, reply)) => {
                        self.stop(goes_on).await;
                        // Whoever asked may have gone.
                        let _ = reply.send(());
                        // A clean end is no alarm, so the thread waits until nobody listens.
                        while asked.recv().await.is_some() {}
                        break;
                    }
                    Some(command) => self.obey(command).await,
                },
                Some(ended) = self.runs.join_next(), if !self.runs.is_empty() => {
                    if let Ok((check, finding, took)) = ended {
                        let effects = self.monitor.finished(self.now(), check, &finding, took);
                        self.carry_out(effects);
                    }
                }
                Some(change) = self.sessions.recv() => self.on_session(&change),
                event = next_event(&mut self.network, self.watch_after) => self.on_network(event).await,
                () = sleep_until(self.save_after), if self.unsaved => self.save(),
                () = due => self.start_due(),
            }
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn until_due(&self) -> Sleep {
        let due = self.monitor.next_due();
        sleep(due.map_or(IDLE, |due| due.saturating_sub(self.now())))
    }

    fn start_due(&mut self) {
        let due = self.monitor.due(self.now());
        for Start { check, what } in due.starts {
            let run = run_to_its_end(self.drivers.run(what));
            self.runs.spawn(async move {
                let begin = Instant::now();
                (check, run.await, begin.elapsed())
            });
        }
        self.carry_out(due.effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        self.unsaved |= !effects.is_empty();
        self.outbox.put(effects);
    }

    /// An answer that nobody waits for any more is dropped.
    async fn obey(&mut self, command: Command) {
        match command {
            Command::Configure(desired, reply) => {
                let saved = self.monitor.save(self.now(), wall());
                self.before = Some((std::mem::replace(&mut self.desired, desired), saved));
                self.take_over().await;
                let effective = self.monitor.effective(&self.desired);
                let _ = reply.send(Configured { effective, passive: self.monitor.passive() });
            }
            Command::Revert(reply) => {
                if let Some((desired, saved)) = self.before.take() {
                    self.monitor = self.scratch(saved);
                    // Their names mean nothing to the new monitor.
                    self.runs = JoinSet::new();
                    self.desired = desired;
                    self.take_over().await;
                }
                let _ = reply.send(());
            }
            Command::Plan(desired, reply) => {
                let mut scratch = self.scratch(self.monitor.save(self.now(), wall()));
                scratch.configure(self.now(), &desired);
                let _ = reply.send(scratch.effective(&desired));
            }
            Command::Samples(samples) => {
                let now = self.now();
                for Sample { service, destination, opened, failed } in samples {
                    let effects =
                        self.monitor.passive_sample(now, &service, &destination, opened, failed);
                    self.carry_out(effects);
                }
            }
            Command::View(reply) => {
                let wall = wall();
                let mut view = self.monitor.view(self.now(), wall);
                view.bfd = self.drivers.bfd_sessions(wall).await;
                let _ = reply.send(view);
            }
            Command::Stop(..) => {}
        }
    }

    /// Watches `self.desired`.
    async fn take_over(&mut self) {
        let desired = self.desired.clone();
        self.drivers.configure(&desired).await;
        self.initialise_files(&desired).await;
        self.foresee(&desired).await;
        let effects = self.monitor.configure(self.now(), &self.desired);
        self.outbox.forget_tables();
        self.unsaved = true;
        self.carry_out(effects);
    }

    /// Gives files of checks their first values.
    async fn initialise_files(&mut self, desired: &Desired) {
        let start = !std::mem::replace(&mut self.began, true);
        let files = files::with_first_value(desired);
        // A file of a network could take its time. What failed is in the log.
        let _ = spawn_blocking(move || files::initialise(&files, start)).await;
    }

    /// Runs checks that take no time before a configuration is in force, as keepalived reads files before it begins.
    async fn foresee(&mut self, desired: &Desired) {
        let checks = self.monitor.foreseeable(desired);
        let runs = checks.into_iter().filter_map(|check| {
            let run = run_to_its_end(self.drivers.run(Trial::of(check)?));
            // What takes its time after all counts as any check that has not run.
            Some(async move { Some((check, timeout(FORESEE, run).await.ok()?)) })
        });
        for (check, finding) in join_all(runs).await.into_iter().flatten() {
            self.monitor.foresee(check.clone(), finding);
        }
    }

    /// A second monitor that knows what the first one did when it was saved.
    fn scratch(&self, saved: SavedState) -> Monitor {
        let mut monitor = Monitor::new(seed());
        monitor.restore(self.now(), wall(), saved);
        for address in self.addresses.all() {
            monitor.vip_present(self.now(), address, true);
        }
        monitor
    }

    /// Begins to watch the host's addresses, and reads them.
    async fn watch(&mut self) {
        self.watch_after = tokio::time::Instant::now() + WATCH_PAUSE;
        let opened = Netlink::new().and_then(|netlink| Ok((netlink, Netlink::watch()?)));
        match opened {
            Ok(network) => {
                self.network = Some(network);
                self.read_addresses().await;
            }
            Err(error) => warn!("addresses of this host cannot be watched (ha_suspend): {error}"),
        }
    }

    async fn read_addresses(&mut self) {
        let Some((netlink, _)) = &self.network else { return };
        match self.addresses.read(netlink).await {
            Ok(changes) => changes.into_iter().for_each(|change| self.on_address(change)),
            Err(error) => {
                warn!("addresses of this host cannot be read (ha_suspend): {error}");
                self.network = None;
            }
        }
    }

    async fn on_network(&mut self, event: Option<Event>) {
        match event {
            Some(Event::Lost) => self.read_addresses().await,
            Some(event) => {
                if let Some(change) = self.addresses.note(&event) {
                    self.on_address(change);
                }
            }
            // The socket failed, or there was none and the pause is over.
            None => self.watch().await,
        }
    }

    fn on_session(&mut self, change: &Change) {
        let up = match change.standing {
            Standing::Up => true,
            Standing::Down => false,
            Standing::Suspended => {
                info!(instance = change.instance, "BFD: {}", change.words);
                return;
            }
        };
        let effects = self.monitor.bfd_changed(self.now(), &change.instance, up, &change.words);
        self.carry_out(effects);
    }

    fn on_address(&mut self, (address, present): (std::net::IpAddr, bool)) {
        let effects = self.monitor.vip_present(self.now(), address, present);
        self.carry_out(effects);
    }

    /// Writes the states, by a thread of its own, for ten thousand checks are some megabytes.
    fn save(&mut self) {
        self.save_after = tokio::time::Instant::now() + SAVE_PAUSE;
        if self.writing.as_ref().is_some_and(|writing| !writing.is_finished()) {
            return;
        }
        self.unsaved = false;
        let (store, saved) = (self.store.clone(), self.monitor.save(self.now(), wall()));
        self.writing = Some(spawn_blocking(move || store.save(&saved)));
    }

    async fn stop(&mut self, goes_on: bool) {
        if let Some(writing) = self.writing.take() {
            // What it wrote, or not, is written again.
            let _ = writing.await;
        }
        self.store.save(&self.monitor.save_at_end(self.now(), wall(), goes_on));
        self.runs = JoinSet::new();
        let effects = self.monitor.stopping(self.now());
        self.outbox.put(effects);
    }
}

/// What a run finds, also if its code fails.
fn run_to_its_end(
    run: impl Future<Output = Finding> + Send + 'static,
) -> impl Future<Output = Finding> + Send + 'static {
    let run = AssertUnwindSafe(run).catch_unwind();
    run.map(|finding| {
        finding.unwrap_or_else(|_| Finding::failed("the check itself failed: please report it"))
    })
}

/// The next event of the network; `None` after a pause if it is not watched, or at once if that ended.
async fn next_event(
    network: &mut Option<(Netlink, Events)>,
    again: tokio::time::Instant,
) -> Option<Event> {
    match network {
        Some((_, events)) => {
            let event = events.next().await;
            if event.is_none() {
                *network = None;
            }
            event
        }
        None => {
            sleep_until(again).await;
            None
        }
    }
}

/// Unix time in milliseconds.
fn wall() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Different in each run, so that two directors do not check at the same moments.
fn seed() -> u64 {
    wall() ^ u64::from(std::process::id()).rotate_left(32)
}
