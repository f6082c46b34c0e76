//! Drift: the table is not what the configuration says, because somebody changed it with `ipvsadm` or by the API.
//!
//! **Invariant:** either the change stays or the file's word is restored, by `on_drift`; the log says which.
//!
//! Part of the node; [`restore`] is a task of the daemon.

use std::sync::Arc;
use std::time::Duration;

use elvs_model::health::OnDrift;
use elvs_model::{Change, ChangeError, Desired, DesiredService, Settings, Table, diff};
use tokio::time::sleep;
use tracing::{info, warn};

use super::Node;
use super::held::Held;
use super::merge::merge;

/// Changes by hand that come together are looked at together.
const SETTLE: Duration = Duration::from_secs(1);

impl Node {
    /// Takes note of changes by hand, some of which were made.
    pub(super) fn note_drift(
        &self,
        held: &mut Held,
        changes: &[Change],
        fates: &[Result<(), ChangeError>],
    ) {
        let made = changes.iter().zip(fates).filter(|(_, fate)| fate.is_ok());
        let drifted: Vec<&Change> =
            made.map(|(change, _)| change).filter(|change| held.concerns(change)).collect();
        if drifted.is_empty() {
            return;
        }
        match held.desired().health.on_drift {
            OnDrift::Keep => {
                for change in drifted {
                    let words = words(change);
                    info!(
                        "drift: by hand, {words}; it is kept until the configuration says otherwise (on_drift keep)"
                    );
                }
                held.keep(changes, fates);
                if let Err(error) = self.keep_by_hand(held.by_hand()) {
                    warn!("a daemon that starts after a crash will not know of it: {error:#}");
                }
            }
            OnDrift::Restore => {
                for change in drifted {
                    let words = words(change);
                    info!("drift: by hand, {words}; it will be undone (on_drift restore)");
                }
                self.drifted.notify_one();
            }
        }
    }

    /// Makes the table what the configuration says, checks considered; answers the changes.
    async fn restore_drift(&self) -> Vec<Change> {
        let held = self.writer.lock().await;
        if held.desired().health.on_drift != OnDrift::Restore {
            return Vec::new();
        }
        let mut table = self.table();
        let changes = differences(&table, held.effective());
        if changes.is_empty() {
            return changes;
        }
        merge(&mut table, &changes);
        if let Err(error) = self.put_in_force(&table, held.desired()).await {
            warn!("drift cannot be undone: {error:#}");
            return Vec::new();
        }
        changes
    }
}

/// Undoes what was done by hand, where the configuration wants that.
pub(in crate::run) async fn restore(node: Arc<Node>) {
    loop {
        node.drifted.notified().await;
        sleep(SETTLE).await;
        for change in node.restore_drift().await {
            info!("drift: restored: {}", words(&change));
        }
    }
}

/// Changes that lead from a table to what a configuration says. What the configuration does not speak of stays:
/// other services, and settings that it leaves out.
fn differences(table: &Table, effective: &Desired) -> Vec<Change> {
    let present = |service: &DesiredService| {
        let there = table.service(&service.service.key)?;
        Some(DesiredService {
            service: there.service().clone(),
            destinations: there.destinations().rev().copied().collect(),
            local_addresses: there.local_addresses().clone(),
            health: service.health.clone(),
        })
    };
    let mut settings = Settings::default();
    for (setting, _) in effective.settings.changed() {
        // A value that is in force is valid.
        let _ = settings.set(setting, table.settings().value(setting));
    }
    let present = Desired {
        services: effective.services.iter().filter_map(present).collect(),
        timeouts: effective.timeouts.map(|_| table.timeouts()),
        marks: {
            let there = |rule: &&elvs_model::MarkRule| table.marks().iter().any(|m| m == *rule);
            effective.marks.iter().filter(there).cloned().collect()
        },
        settings,
        ..effective.clone()
    };
    diff(&present, effective)
}

/// A change in words.
fn words(change: &Change) -> String {
    use std::net::SocketAddr;
    let at = |key: &elvs_model::DestinationKey| SocketAddr::new(key.address, key.port);
    match change {
        Change::AddService(service) => format!("service {} added", service.key),
        Change::EditService(service) => format!("service {} edited", service.key),
        Change::DeleteService(key) => format!("service {key} deleted"),
        Change::AddDestination { service, destination } => {
            format!("real server {} added to {service}", at(&destination.key))
        }
        Change::EditDestination { service, destination } => {
            let (to, weight) = (at(&destination.key), destination.weight);
            format!("real server {to} of {service} edited: weight {weight}")
        }
        Change::DeleteDestination { service, destination } => {
            format!("real server {} deleted from {service}", at(destination))
        }
        Change::AddLocalAddress { service, address } => {
            format!("local address {address} added to {service}")
        }
        Change::DeleteLocalAddress { service, address } => {
            format!("local address {address} deleted from {service}")
        }
        Change::Flush => "everything deleted".to_owned(),
        Change::SetTimeouts(timeouts) => {
            format!("timeouts set to {} {} {}", timeouts.tcp, timeouts.tcp_fin, timeouts.udp)
        }
        Change::AddMark(rule) => format!("mark rule added: {rule}"),
        Change::DeleteMark(rule) => format!("mark rule deleted: {rule}"),
        Change::Set { setting, value } => format!("{} set to {value}", setting.name()),
        Change::StartSync(_) | Change::StopSync(_) => "synchronisation daemon changed".to_owned(),
    }
}

#[cfg(test)]
mod tests;
