//! Passive checks: what became of connections, counted by the data plane and told to the monitor.
//!
//! **Invariant:** only destinations that a passive check is configured for are counted.
//!
//! Part of the node; [`sample`] is a task of the daemon.

use std::sync::Arc;
use std::time::Duration;

use elvs_model::{DestinationKey, ServiceKey};
use tokio::time::{MissedTickBehavior, interval};

use super::{Node, lock};
use crate::run::health::Sample;

/// Between two samples.
const PERIOD: Duration = Duration::from_secs(1);

/// Samples as long as the daemon runs.
pub(in crate::run) async fn sample(node: Arc<Node>) {
    let mut period = interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut counted = false;
    loop {
        period.tick().await;
        let of = lock(&node.passive).clone();
        // Once more when there are none left, so that the data plane stops counting.
        if of.is_empty() && !counted {
            continue;
        }
        counted = !of.is_empty();
        let (fates, flooded) = node.with_plane(|plane| (plane.fates(&of), plane.is_flooded()));
        // Half-open connections of a flood say nothing of real servers.
        if flooded {
            continue;
        }
        let samples = of.into_iter().zip(fates).map(|((service, destination), fates)| Sample {
            service,
            destination,
            opened: fates.opened,
            failed: fates.failed,
        });
        node.health.tell_of_connections(samples.collect());
    }
}

impl Node {
    /// Destinations to be counted from now on.
    pub(super) fn set_passive(&self, of: Vec<(ServiceKey, DestinationKey)>) {
        *lock(&self.passive) = of;
    }
}
