//! The node: the one plane, what the configuration asks for, and what is wrong at the moment.
//!
//! **Invariant:** the table changes under `writer`; `plane` is locked for short, never across an await.
//!
//! Called by the daemon's tasks and by its API.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use elvs_dataplane::{InstallError, Plane, Route};
use elvs_model::{Change, ChangeError, DataPlaneSettings, Desired, SyncDaemon, Table, diff};
use elvs_net::Netlink;
use tokio::sync::Notify;
use tracing::{info, warn};

use super::interfaces;
use super::local::{Needs, Pair};
use super::routes::{Learned, learn};

/// A running director.
pub(super) struct Node {
    plane: Mutex<Box<dyn Plane>>,
    /// Whoever changes the table or the configuration holds this.
    writer: tokio::sync::Mutex<Desired>,
    netlink: Netlink,
    problems: Mutex<BTreeMap<IpAddr, Problem>>,
    /// Local addresses of full NAT that are no address of this host.
    foreign_locals: Mutex<BTreeSet<IpAddr>>,
    /// Addresses of real servers changed: next hops must be looked at.
    pub(super) routes_stale: Notify,
    pub(super) instance: String,
    /// The interfaces by which the host's own traffic gets here.
    pub(super) pair: Pair,
    pub(super) config: Option<PathBuf>,
    pub(super) started: Instant,
    desired_file: PathBuf,
}

/// Why a real server cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// The neighbour that does not answer, if a route was found at all.
    pub(super) neighbour: Option<IpAddr>,
    /// As a sentence.
    pub(super) text: String,
}

impl Node {
    pub(super) fn new(
        plane: Box<dyn Plane>,
        netlink: Netlink,
        instance: &str,
        config: Option<PathBuf>,
        state_dir: &Path,
    ) -> Self {
        Self {
            plane: Mutex::new(plane),
            writer: tokio::sync::Mutex::new(Desired::default()),
            netlink,
            problems: Mutex::new(BTreeMap::new()),
            foreign_locals: Mutex::new(BTreeSet::new()),
            routes_stale: Notify::new(),
            instance: instance.to_owned(),
            pair: Pair::of(instance),
            config,
            started: Instant::now(),
            desired_file: state_dir.join("desired.json"),
        }
    }

    /// Puts in force what the configuration asks for, on top of what was adopted: services that an earlier daemon took
    /// from its configuration and that are gone from it go; those that `ipvsadm` made stay.
    pub(super) async fn start(&self, desired: Desired) -> Result<()> {
        let mut current = self.writer.lock().await;
        self.check_interfaces(&desired).await?;
        let before = match fs::read(&self.desired_file) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                warn!("{} is unreadable and ignored: {error}", self.desired_file.display());
                Desired::default()
            }),
            Err(_) => Desired::default(),
        };
        // An adopted director may have lost a configuration's services to ipvsadm, or never had them.
        let mut table = self.table();
        let mut changes = diff(&before, &desired);
        changes.extend(diff(&Desired::default(), &desired));
        merge(&mut table, &changes);
        if !table.sync_daemons().is_empty() {
            warn!("{}", SyncDaemon::WARNING);
        }
        self.put_in_force(&table, &desired).await?;
        *current = desired;
        self.keep_desired(&current)
    }

    /// Reads the configuration again and makes the changes; answers how many.
    pub(super) async fn reload(&self) -> Result<usize> {
        let Some(file) = &self.config else {
            bail!("the daemon was started without a configuration file");
        };
        let mut current = self.writer.lock().await;
        let desired = super::read_config(file)?;
        self.check_interfaces(&desired).await?;
        if desired.data_plane.connections != current.data_plane.connections {
            warn!("data_plane connections takes effect when the daemon is stopped and started");
        }
        if desired.data_plane.local_addresses != current.data_plane.local_addresses {
            warn!("data_plane local_addresses takes effect when the daemon is stopped and started");
        }
        let changes = diff(&current, &desired);
        let mut table = self.table();
        for (change, error) in merge(&mut table, &changes) {
            info!("{error}, because of a change by ipvsadm: {change:?}");
        }
        self.put_in_force(&table, &desired).await?;
        *current = desired;
        self.keep_desired(&current)?;
        Ok(changes.len())
    }

    /// Refuses a configuration that names an interface which does not exist.
    async fn check_interfaces(&self, desired: &Desired) -> Result<()> {
        for name in &desired.data_plane.interfaces {
            let named = || format!("data_plane names interface {name}");
            self.netlink.link(name).await.with_context(named)?;
        }
        Ok(())
    }

    /// Makes changes of the API, in order; answers each one's fate.
    pub(super) async fn apply(
        &self,
        changes: &[Change],
        atomic: bool,
    ) -> Vec<Result<(), ChangeError>> {
        let desired = self.writer.lock().await;
        let mut table = self.table();
        let mut fates: Vec<Result<(), ChangeError>> = Vec::with_capacity(changes.len());
        for change in changes {
            let fate = if let Change::StartSync(daemon) = change {
                let link = self.netlink.link(&daemon.interface).await;
                table.start_sync(daemon.clone(), link.ok().map(|link| link.mtu))
            } else {
                change.in_effect(&table).and_then(|()| table.apply(change))
            };
            let refused = fate.is_err();
            fates.push(fate);
            if atomic && refused {
                return fates;
            }
        }
        if fates.iter().any(Result::is_ok)
            && let Err(error) = self.put_in_force(&table, &desired).await
        {
            let refused = ChangeError::Unsupported(format!("{error:#}"));
            return fates
                .into_iter()
                .map(|fate| fate.and_then(|()| Err(refused.clone())))
                .collect();
        }
        let started = |(change, fate): &(&Change, &Result<(), ChangeError>)| {
            matches!(change, Change::StartSync(_)) && fate.is_ok()
        };
        if changes.iter().zip(&fates).any(|pair| started(&pair)) {
            warn!("{}", SyncDaemon::WARNING);
        }
        fates
    }

    /// Learns the way to every real server of a table, installs it, and attaches the program where it is needed.
    async fn put_in_force(&self, table: &Table, desired: &Desired) -> Result<(), InstallError> {
        let old = addresses(&self.table());
        let new: BTreeSet<IpAddr> = addresses(table).difference(&old).copied().collect();
        self.learn(&new).await;
        let flood = desired.data_plane.flood_threshold;
        self.with_plane(|plane| {
            plane.set_flood_threshold(flood.unwrap_or(DataPlaneSettings::FLOOD_THRESHOLD));
            plane.install(table)
        })?;
        self.forget_problems(table);
        self.attach(table, desired).await;
        self.routes_stale.notify_one();
        Ok(())
    }

    /// Learns the way to addresses and tells the plane.
    pub(super) async fn learn(&self, addresses: &BTreeSet<IpAddr>) {
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

    fn forget_problems(&self, table: &Table) {
        let used = addresses(table);
        self.problems().retain(|address, _| used.contains(address));
    }

    /// Attaches the program to the interfaces that a table needs.
    async fn attach(&self, table: &Table, desired: &Desired) {
        if table.marks().interfaces().next().is_some() {
            self.learn_interfaces().await;
        }
        self.check_locals(table).await;
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
    pub(super) fn foreign_locals(&self) -> BTreeSet<IpAddr> {
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
    pub(super) async fn refresh_interfaces(&self) {
        let desired = self.writer.lock().await;
        self.attach(&self.table(), &desired).await;
    }

    /// Real servers in the table.
    pub(super) fn real_servers(&self) -> BTreeSet<IpAddr> {
        addresses(&self.table())
    }

    pub(super) fn table(&self) -> Table {
        self.with_plane(|plane| plane.table().clone())
    }

    pub(super) fn problems(&self) -> MutexGuard<'_, BTreeMap<IpAddr, Problem>> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the plane.
    pub(super) fn with_plane<T>(&self, work: impl FnOnce(&mut dyn Plane) -> T) -> T {
        let mut plane = self.plane.lock().unwrap_or_else(PoisonError::into_inner);
        work(plane.as_mut())
    }

    /// Index of an interface, for status.
    pub(super) async fn ifindex(&self, name: &str) -> u32 {
        self.netlink.link(name).await.map_or(0, |link| link.ifindex)
    }

    /// Detaches and removes everything.
    pub(super) async fn teardown(&self) -> Result<()> {
        self.with_plane(|plane| plane.teardown())?;
        self.pair.remove(&self.netlink).await?;
        match fs::remove_file(&self.desired_file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Keeps what the configuration asked for, so that the next daemon knows what came from it.
    fn keep_desired(&self, desired: &Desired) -> Result<()> {
        let new = self.desired_file.with_extension("new");
        fs::write(&new, serde_json::to_vec(desired)?)
            .and_then(|()| fs::rename(&new, &self.desired_file))
            .with_context(|| format!("cannot write {}", self.desired_file.display()))
    }
}

/// What is wrong with a local address that this host does not have, and the cure.
pub(super) fn foreign_local(address: IpAddr) -> String {
    let length = if address.is_ipv4() { 32 } else { 128 };
    format!(
        "is not an address of this host, so real servers' replies do not come here: `ip address add {address}/{length} dev INTERFACE`"
    )
}

/// Addresses of a table's real servers.
fn addresses(table: &Table) -> BTreeSet<IpAddr> {
    let destinations = table.services().flat_map(|service| service.destinations());
    destinations.map(|destination| destination.key.address).collect()
}

/// Makes a configuration's changes on a table that `ipvsadm` may have changed too: what is there already is edited,
/// what is gone already is left. Answers the changes that met something else than expected.
fn merge<'a>(table: &mut Table, changes: &'a [Change]) -> Vec<(&'a Change, ChangeError)> {
    let mut met = Vec::new();
    for change in changes {
        let Err(error) = table.apply(change) else { continue };
        let instead = match (change, &error) {
            (Change::AddService(service), ChangeError::ServiceExists) => {
                Some(Change::EditService(service.clone()))
            }
            (Change::EditService(service), ChangeError::NoSuchService) => {
                Some(Change::AddService(service.clone()))
            }
            (Change::AddDestination { service, destination }, ChangeError::DestinationExists) => {
                Some(Change::EditDestination { service: *service, destination: *destination })
            }
            (Change::EditDestination { service, destination }, ChangeError::NoSuchDestination) => {
                Some(Change::AddDestination { service: *service, destination: *destination })
            }
            (_, _) => None,
        };
        if let Some(instead) = instead
            && let Err(error) = table.apply(&instead)
        {
            met.push((change, error));
            continue;
        }
        met.push((change, error));
    }
    met
}

#[cfg(test)]
mod tests;
