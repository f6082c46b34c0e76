//! Interfaces of the node: which carry the program, and the host's own traffic.
//!
//! **Invariant:** nothing here fails a change of the table: what cannot be attached is told, and tried again with the next one.
//!
//! Part of the node.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{MutexGuard, PoisonError};

use elvs_model::{Desired, Table};
use tracing::{info, warn};

use super::Node;
use crate::run::interfaces;
use crate::run::local::Needs;

impl Node {
    /// Attaches the program to the interfaces that a table needs.
    pub(super) async fn attach(&self, table: &Table, desired: &Desired) {
        if table.marks().interfaces().next().is_some() {
            self.learn_interfaces().await;
        }
        self.check_locals(table).await;
        self.lock_wired().extend(super::addresses(table));
        let settings = &desired.data_plane;
        let wanted = match interfaces::wanted(&self.netlink, table, settings).await {
            Ok(wanted) => wanted,
            Err(error) => {
                warn!("interfaces cannot be found: {error}");
                return;
            }
        };
        let attached: BTreeSet<String> =
            self.with_plane(|plane| plane.attached()).into_iter().map(|(name, _)| name).collect();
        for name in wanted.difference(&attached) {
            match self.with_plane(|plane| plane.attach(name, settings.xdp_mode)) {
                Ok(mode) => info!(interface = %name, mode = mode.name(), "attached"),
                Err(error) => warn!("{error}"),
            }
        }
        self.attach_local(table, desired, &wanted).await;
        // Interfaces named by the configuration are all that carry the program; those found stay until the end.
        if !settings.interfaces.is_empty() {
            let others = attached.difference(&wanted).filter(|name| **name != self.pair.director);
            for name in others {
                match self.with_plane(|plane| plane.detach(name)) {
                    Ok(()) => info!(interface = %name, "detached"),
                    Err(error) => warn!("{error}"),
                }
            }
        }
    }

    /// Looks for local addresses that this host does not have: nobody would answer for them.
    async fn check_locals(&self, table: &Table) {
        let locals = table.services().flat_map(|service| service.local_addresses().iter());
        let mut foreign = BTreeSet::new();
        for address in locals.collect::<BTreeSet<_>>() {
            if !self.netlink.route(address).await.is_ok_and(|route| route.local) {
                foreign.insert(address);
            }
        }
        let before = std::mem::replace(&mut *self.lock_foreign_locals(), foreign.clone());
        for address in foreign.difference(&before) {
            warn!("local address {address} {}", foreign_local(*address));
        }
        for address in before.difference(&foreign) {
            info!("local address {address} is an address of this host, or not used any more");
        }
    }

    fn lock_foreign_locals(&self) -> MutexGuard<'_, BTreeSet<IpAddr>> {
        self.foreign_locals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Local addresses of full NAT that are no address of this host.
    pub(in crate::run) fn foreign_locals(&self) -> BTreeSet<IpAddr> {
        self.lock_foreign_locals().clone()
    }

    /// Has what the host itself sends looked at, where that may be the director's business.
    async fn attach_local(&self, table: &Table, desired: &Desired, wires: &BTreeSet<String>) {
        let off = desired.data_plane.without_local_traffic;
        let needs = if off { Needs::default() } else { Needs::of(&self.netlink, table).await };
        let known = self.with_plane(|plane| {
            plane.attached().iter().any(|(name, _)| *name == self.pair.director)
        });
        if off && known {
            if let Err(error) = self.with_plane(|plane| self.pair.disconnect(plane)) {
                warn!("{error:#}");
            }
            if let Err(error) = self.pair.remove(&self.netlink).await {
                warn!("{error:#}");
            }
            return;
        }
        if !needs.any() {
            return;
        }
        let made = match self.pair.make(&self.netlink).await {
            Ok(ways) => self.with_plane(|plane| self.pair.connect(plane, &ways)),
            Err(error) => Err(error),
        };
        if let Err(error) = made {
            warn!("the host's own traffic to its services is left to its stack: {error:#}");
            return;
        }
        let mut wanted = BTreeSet::from(["lo".to_owned()]);
        if needs.real_server {
            wanted.extend(wires.iter().cloned());
        }
        let attached: BTreeSet<String> =
            self.with_plane(|plane| plane.attached_egress()).into_iter().collect();
        for name in wanted.difference(&attached) {
            match self.with_plane(|plane| plane.attach_egress(name)) {
                Ok(()) => info!(interface = %name, "looking at what the host sends"),
                Err(error) => warn!("{error}"),
            }
        }
    }

    /// Learns the interfaces there are, for the firewall-mark rules that name one.
    async fn learn_interfaces(&self) {
        match interfaces::indexes(&self.netlink).await {
            Ok(indexes) => {
                if let Err(error) = self.with_plane(|plane| plane.set_interfaces(indexes)) {
                    warn!("firewall-mark rules keep the interfaces they had: {error}");
                }
            }
            Err(error) => warn!("interfaces cannot be listed: {error}"),
        }
    }

    /// Looks at interfaces again, after links or addresses changed.
    pub(in crate::run) async fn refresh_interfaces(&self) {
        let held = self.writer.lock().await;
        self.attach(&self.table(), held.desired()).await;
    }
}

/// What is wrong with a local address that this host does not have, and the cure.
pub(in crate::run) fn foreign_local(address: IpAddr) -> String {
    let length = if address.is_ipv4() { 32 } else { 128 };
    format!(
        "is not an address of this host, so real servers' replies do not come here: `ip address add {address}/{length} dev INTERFACE`"
    )
}
