//! SIGINT, SIGTERM and SIGHUP: asked for at every step, so that the way out is always the ordinary one.
//!
//! **Invariant:** a signal never ends the process by itself; it makes the next [`Stop::check`] fail, and what was built
//! is taken down by its guards.
//!
//! Called by every part of the demo that waits or repeats.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

/// Whether the operator wants to stop.
#[derive(Clone, Debug)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Takes the signals over, for the rest of the process.
    pub fn on_signals() -> Result<Self> {
        let stop = Self(Arc::default());
        let flag = Arc::clone(&stop.0);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (mut interrupt, mut terminate, mut hangup) = {
            let _inside = runtime.enter();
            let listen = |kind| signal(kind).context("cannot listen for signals");
            (
                listen(SignalKind::interrupt())?,
                listen(SignalKind::terminate())?,
                listen(SignalKind::hangup())?,
            )
        };
        std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
                flag.store(true, Ordering::Relaxed);
                // Further signals are swallowed: taking down is under way and is bounded.
                std::future::pending::<()>().await;
            });
        });
        Ok(stop)
    }

    /// Whether a signal came.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Fails once a signal came.
    pub fn check(&self) -> Result<()> {
        if self.requested() {
            bail!("stopped by a signal");
        }
        Ok(())
    }
}
