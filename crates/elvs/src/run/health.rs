//! Health checks: the thread that runs them, as the rest of the daemon sees it.
//!
//! Checks have a thread and a runtime of their own: what the daemon's thread does for the API, for a reload or for a new
//! table takes up to a second in the largest configurations, and would make checks late or time out. The monitor lives
//! on that thread alone. The two talk by [`Command`]s, each with its answer, and by the [`Outbox`].
//!
//! **Invariant:** destinations that checks decide on leave the thread by the outbox or within the answer to
//! [`Health::configure`], never by both; so what is taken from the outbox is never older than what is in force.
//!
//! Called by the node.

mod addresses;
mod checker;
mod drivers;
mod files;
mod outbox;
mod store;

use std::path::Path;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};
use elvs_model::health::HealthView;
use elvs_model::{Desired, DestinationKey, ServiceKey};
use tokio::sync::{Notify, mpsc, oneshot};

use checker::Checker;
pub(super) use outbox::{Outbox, Tables};
use store::Store;

/// What the daemon asks of the thread.
enum Command {
    /// Watch this from now on.
    Configure(Arc<Desired>, oneshot::Sender<Configured>),
    /// The last `Configure` was refused by the data plane: watch what was watched before.
    Revert(oneshot::Sender<()>),
    /// What the table would hold with another configuration.
    Plan(Box<Desired>, oneshot::Sender<Desired>),
    /// What became of connections since the last sample.
    Samples(Vec<Sample>),
    /// Everything that is known.
    View(oneshot::Sender<HealthView>),
    /// Save, say what `omega` asks for, and end; whether the data plane goes on.
    Stop(bool, oneshot::Sender<()>),
}

/// What follows from a configuration.
#[derive(Debug)]
pub(super) struct Configured {
    /// It as the table shall hold it now.
    pub(super) effective: Desired,
    /// Destinations whose connections are to be counted.
    pub(super) passive: Vec<(ServiceKey, DestinationKey)>,
}

/// What became of the connections of a destination since the last sample.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) service: ServiceKey,
    pub(super) destination: DestinationKey,
    /// Those that were opened.
    pub(super) opened: u64,
    /// Those that got no answer, or a reset.
    pub(super) failed: u64,
}

/// The thread.
pub(super) struct Health {
    commands: mpsc::UnboundedSender<Command>,
    /// What checks want done.
    pub(super) outbox: Arc<Outbox>,
    /// The thread ended by itself, which only a fault in it can bring about.
    pub(super) broken: Arc<Notify>,
}

impl Health {
    /// Starts the thread in the caller's network namespace; what an earlier daemon knew is in `state_dir`.
    ///
    /// # Errors
    /// The system gives no thread or runtime.
    pub(super) fn start(state_dir: &Path) -> Result<Self> {
        let (commands, asked) = mpsc::unbounded_channel();
        let outbox = Arc::new(Outbox::default());
        let broken = Arc::new(Notify::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let store = Store::in_directory(state_dir);
        let (out, alarm) = (outbox.clone(), Alarm(broken.clone()));
        let work = move || {
            let _alarm = alarm;
            runtime.block_on(async move { Checker::new(store, out).await.run(asked).await });
        };
        thread::Builder::new().name("health".to_owned()).spawn(work).context("no thread")?;
        Ok(Self { commands, outbox, broken })
    }

    /// Watches what a configuration asks for.
    ///
    /// The caller holds the node's writer lock until it has put the answer in force.
    ///
    /// # Errors
    /// The thread is broken.
    pub(super) async fn configure(&self, desired: &Desired) -> Result<Configured> {
        let desired = Arc::new(desired.clone());
        self.ask(|reply| Command::Configure(desired, reply)).await
    }

    /// Watches what was watched before the last [`Self::configure`], as if that had not been.
    ///
    /// # Errors
    /// The thread is broken.
    pub(super) async fn revert(&self) -> Result<()> {
        self.ask(Command::Revert).await
    }

    /// What the table would hold with another configuration.
    ///
    /// # Errors
    /// The thread is broken.
    pub(super) async fn plan(&self, desired: &Desired) -> Result<Desired> {
        let desired = Box::new(desired.clone());
        self.ask(|reply| Command::Plan(desired, reply)).await
    }

    /// Tells the monitor what became of connections.
    pub(super) fn tell_of_connections(&self, samples: Vec<Sample>) {
        // A broken thread is told of by those who wait for it.
        let _ = self.commands.send(Command::Samples(samples));
    }

    /// Everything that is known.
    ///
    /// # Errors
    /// The thread is broken.
    pub(super) async fn view(&self) -> Result<HealthView> {
        self.ask(Command::View).await
    }

    /// Saves what is known and ends the checks; what `omega` asks for is in the outbox then. `goes_on`: the data plane
    /// goes on without the daemon.
    ///
    /// # Errors
    /// The thread is broken.
    pub(super) async fn stop(&self, goes_on: bool) -> Result<()> {
        self.ask(|reply| Command::Stop(goes_on, reply)).await
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        // If the thread is gone the command is dropped, and with it the other end of the answer.
        let _ = self.commands.send(command(reply));
        answer.await.context("health checks do not run any more: restart the daemon")
    }
}

/// Rings when the thread ends.
struct Alarm(Arc<Notify>);

impl Drop for Alarm {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}
