//! What checks want done, until the daemon does it.
//!
//! **Invariant:** of two lists of one service only the newer is kept; notices keep their order.
//!
//! Filled by the health thread, emptied by the node.

use std::sync::{Mutex, MutexGuard, PoisonError};

use elvs_health::{Effect, LogLevel, LogLine, Notice};
use elvs_model::{Destination, ServiceKey};
use indexmap::IndexMap;
use tokio::sync::Notify;
use tracing::{info, warn};

/// Destinations that services shall have now, the newest last.
pub(crate) type Tables = IndexMap<ServiceKey, Vec<Destination>>;

/// What is to be done.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    batch: Mutex<Batch>,
    /// There is something.
    pub(crate) ready: Notify,
}

#[derive(Debug, Default)]
struct Batch {
    tables: Tables,
    notices: Vec<Notice>,
}

impl Outbox {
    /// Puts effects in; lines for the log go there at once.
    pub(super) fn put(&self, effects: Vec<Effect>) {
        if effects.is_empty() {
            return;
        }
        let mut batch = self.lock();
        for effect in effects {
            match effect {
                Effect::Destinations { service, destinations } => {
                    batch.tables.insert(service, destinations);
                }
                Effect::Notify(notice) => batch.notices.push(notice),
                Effect::Log(line) => log(&line),
            }
        }
        let ready = !batch.tables.is_empty() || !batch.notices.is_empty();
        drop(batch);
        if ready {
            self.ready.notify_one();
        }
    }

    /// Forgets destinations that were not taken: a new configuration says all of them.
    pub(super) fn forget_tables(&self) {
        self.lock().tables.clear();
    }

    /// Takes what is there.
    pub(crate) fn take(&self) -> (Tables, Vec<Notice>) {
        let batch = std::mem::take(&mut *self.lock());
        (batch.tables, batch.notices)
    }

    /// Puts back what could not be put in force, unless there is something newer.
    pub(crate) fn put_back(&self, tables: Tables) {
        let mut batch = self.lock();
        for (service, destinations) in tables {
            batch.tables.entry(service).or_insert(destinations);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Batch> {
        self.batch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn log(line: &LogLine) {
    let (service, server) = (line.service.as_str(), line.server.as_deref());
    let message = line.message.as_str();
    match line.level {
        LogLevel::Info => info!(service, server, check = line.check, "{message}"),
        LogLevel::Warn => warn!(service, server, check = line.check, "{message}"),
    }
}
