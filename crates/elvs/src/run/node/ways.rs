//! Ways to real servers: which addresses there are, and what is wrong with the way to some.
//!
//! **Invariant:** ways are known and kept for every real server of the table and of the configuration, those that are down
//! included, so that a recovery finds its way at once.
//!
//! Part of the node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::MutexGuard;

use elvs_dataplane::Route;
use elvs_model::{Desired, Table};
use tracing::{info, warn};

use super::{Node, Problem, lock};
use crate::run::routes::{Learned, learn};

impl Node {
    /// Learns the way to addresses and tells the plane.
    pub(in crate::run) async fn learn(&self, addresses: &BTreeSet<IpAddr>) {
        lock(&self.learned).extend(addresses);
        for (address, Learned { route, problem }) in learn(&self.netlink, addresses).await {
            self.set_route(address, route);
            let mut problems = self.problems();
            let before = match &problem {
                Some(problem) => problems.insert(address, problem.clone()),
                None => problems.remove(&address),
            };
            drop(problems);
            match (&before, &problem) {
                (before, Some(problem)) if before.as_ref() != Some(problem) => {
                    warn!("real server {address} cannot be reached: {}", problem.text);
                }
                (Some(_), None) => info!("real server {address} can be reached"),
                (_, _) => {}
            }
        }
    }

    fn set_route(&self, address: IpAddr, route: Route) {
        self.with_plane(|plane| plane.set_route(address, route));
    }

    pub(super) fn forget_unused(&self) {
        let used = self.real_servers();
        self.problems().retain(|address, _| used.contains(address));
        lock(&self.learned).retain(|address| used.contains(address));
    }

    pub(super) fn lock_wired(&self) -> MutexGuard<'_, BTreeSet<IpAddr>> {
        lock(&self.wired)
    }

    /// Real servers in the table and in the configuration.
    pub(in crate::run) fn real_servers(&self) -> BTreeSet<IpAddr> {
        let mut servers = self.with_plane(|plane| addresses(plane.table()));
        servers.extend(self.lock_configured().iter());
        servers
    }

    pub(super) fn set_configured(&self, desired: &Desired) {
        let destinations = desired.services.iter().flat_map(|service| {
            let sorry = service.health.sorry_server.as_ref().map(|sorry| &sorry.destination);
            service.destinations.iter().chain(sorry)
        });
        *self.lock_configured() = destinations.map(|destination| destination.key.address).collect();
    }

    pub(super) fn lock_configured(&self) -> MutexGuard<'_, BTreeSet<IpAddr>> {
        lock(&self.configured)
    }

    pub(in crate::run) fn problems(&self) -> MutexGuard<'_, BTreeMap<IpAddr, Problem>> {
        lock(&self.problems)
    }
}

/// Addresses of a table's real servers.
pub(super) fn addresses(table: &Table) -> BTreeSet<IpAddr> {
    let destinations = table.services().flat_map(|service| service.destinations());
    destinations.map(|destination| destination.key.address).collect()
}
