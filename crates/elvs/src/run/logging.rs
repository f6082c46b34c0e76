//! Logs: to the journal when the daemon's output goes there anyway, else to standard error.
//!
//! **Invariant:** one subscriber per process.
//!
//! Called once, by the daemon.

use std::io::IsTerminal;

use anyhow::{Context, Result};
use tracing::Level;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging at `level`.
///
/// # Errors
/// If logging was started before.
pub(super) fn start(level: Level) -> Result<()> {
    let registry = tracing_subscriber::registry().with(LevelFilter::from_level(level));
    // systemd sets this where standard error is the journal (systemd.exec(5)).
    if std::env::var_os("JOURNAL_STREAM").is_some()
        && let Ok(journal) = tracing_journald::layer()
    {
        return registry.with(journal).try_init().context("cannot start logging");
    }
    let text = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    registry.with(text).try_init().context("cannot start logging")
}
