//! Looking for what the configuration asks for and the host does not have.
//!
//! **Invariant:** nothing waits for it, and what was said is said again only after it was not so for a while.
//!
//! Run by the daemon as a task.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::warn;

use super::Node;
use crate::host_findings::{Facts, Kind, judge};

/// Between two looks, however often the configuration is read.
const PAUSE: Duration = Duration::from_secs(5);

/// Looks after the configuration was read, and says what is new.
pub(in crate::run) async fn keep_looking(node: Arc<Node>) {
    let mut said: HashSet<String> = HashSet::new();
    loop {
        node.host_stale.notified().await;
        match look(&node).await {
            Ok(found) => {
                for line in found.iter().filter(|line| !said.contains(*line)) {
                    warn!("{line}");
                }
                said = found.into_iter().collect();
            }
            Err(error) => warn!("this host cannot be looked at: {error:#}"),
        }
        sleep(PAUSE).await;
    }
}

async fn look(node: &Node) -> Result<Vec<String>> {
    let desired = node.writer.lock().await.desired().clone();
    let facts = Facts::ask(&node.netlink, &desired).await?;
    // Files may be on a file system that takes its time.
    let findings = spawn_blocking(move || judge(&desired, &facts)).await?;
    // The router says which real servers cannot be reached.
    Ok(findings.without(Kind::Unreachable).lines())
}
