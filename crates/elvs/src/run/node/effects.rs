//! What checks want done, done: the table first, then those who are told.
//!
//! **Invariant:** whatever came together is one change of the table. A change that the data plane refuses is tried
//! again until it is taken or something newer takes its place.
//!
//! Part of the node; [`carry_out`] is a task of the daemon.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use elvs_health::Notice;
use elvs_model::Change;
use tokio::time::sleep;
use tracing::{debug, error};

use super::Node;
use super::merge::merge;
use crate::run::notify;

/// After the data plane refused a table.
const RETRY: Duration = Duration::from_secs(1);

/// Carries out what checks want as long as the daemon runs.
pub(in crate::run) async fn carry_out(node: Arc<Node>) {
    loop {
        node.health.outbox.ready.notified().await;
        while !node.carry_out_effects().await {
            sleep(RETRY).await;
        }
    }
}

impl Node {
    /// Carries out what is there; whether nothing is left to be tried again.
    pub(in crate::run) async fn carry_out_effects(&self) -> bool {
        let mut held = self.writer.lock().await;
        // Taken under the lock: a reload in between would have made it old.
        let (tables, notices) = self.health.outbox.take();
        let (changes, undo) = held.take_over(&tables);
        let done = self.change_destinations(&changes);
        if !done {
            held.undo(undo);
            self.health.outbox.put_back(tables);
        }
        drop(held);
        for notice in notices {
            self.tell(notice);
        }
        done
    }

    pub(super) fn change_destinations(&self, changes: &[Change]) -> bool {
        if changes.is_empty() {
            return true;
        }
        let mut table = self.table();
        for (change, error) in merge(&mut table, changes) {
            debug!("{error}, because of a change by hand: {change:?}");
        }
        if let Err(error) = self.with_plane(|plane| plane.install(&table)) {
            error!("results of checks are not in force yet, and are tried again: {error:#}");
            return false;
        }
        self.look_for_wires(changes);
        true
    }

    /// A real server that was not in any table so far may be reached by another interface, or be this host.
    fn look_for_wires(&self, changes: &[Change]) {
        let wired = self.lock_wired();
        let new = changes.iter().any(|change| {
            matches!(change, Change::AddDestination { destination, .. }
                if !wired.contains(&destination.key.address))
        });
        drop(wired);
        if new {
            self.wires_stale.store(true, Ordering::Relaxed);
            self.routes_stale.notify_one();
        }
    }

    fn tell(&self, notice: Notice) {
        let notice = match notice {
            Notice::Script { about, script } => notify::Notice::Script { about, script },
            Notice::Fifo(line) => notify::Notice::Line(line),
            Notice::Mail { subject, body } => notify::Notice::Mail { subject, body },
        };
        self.notifier.tell(notice);
    }
}
