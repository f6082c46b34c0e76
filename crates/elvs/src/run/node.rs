//! The node: the one plane, what the configuration asks for, and what is wrong at the moment.
//!
//! **Invariant:** the table changes under `writer`; `plane` is locked for short, never across an await.
//!
//! Called by the daemon's tasks and by its API.

mod drain;
mod drift;
mod effects;
mod held;
mod host;
mod merge;
mod passive;
mod ways;
mod wires;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use elvs_api::Plan;
use elvs_dataplane::{InstallError, Plane};
use elvs_model::health::{HealthSettings, Notifications, OnDrift, ServiceHealth};
use elvs_model::{
    Change, ChangeError, DataPlaneSettings, Desired, DesiredService, DestinationKey, ServiceKey,
    SyncDaemon, Table, diff,
};
use elvs_net::Netlink;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tracing::{info, warn};

use super::ConfigFile;
use super::health::Health;
use super::local::Pair;
use super::notify::Notifier;
pub(super) use drift::restore as restore_drift;
pub(super) use effects::carry_out as carry_out_effects;
use held::{Held, KeptByHand};
pub(super) use host::keep_looking as keep_looking_at_host;
use merge::merge;
pub(super) use passive::sample as sample_connections;
use ways::addresses;
pub(super) use wires::foreign_local;

/// A running director.
pub(super) struct Node {
    plane: Mutex<Box<dyn Plane>>,
    /// Whoever changes the table or the configuration holds this.
    writer: tokio::sync::Mutex<Held>,
    /// The thread that runs checks.
    pub(super) health: Health,
    /// Who tells others.
    pub(super) notifier: Arc<Notifier>,
    /// The table was changed by hand, and the file's word is to be restored.
    drifted: Notify,
    /// Real servers of the configuration, also those that are down: their next hops are kept, so that they are in use
    /// at once when they return.
    configured: Mutex<BTreeSet<IpAddr>>,
    /// Destinations whose connections passive checks go by.
    passive: Mutex<Vec<(ServiceKey, DestinationKey)>>,
    /// Addresses that the way to was looked for.
    learned: Mutex<BTreeSet<IpAddr>>,
    /// Real servers whose interfaces were looked for.
    wired: Mutex<BTreeSet<IpAddr>>,
    /// Interfaces must be looked at with the next look at routes.
    pub(super) wires_stale: AtomicBool,
    netlink: Netlink,
    problems: Mutex<BTreeMap<IpAddr, Problem>>,
    /// Local addresses of full NAT that are no address of this host.
    foreign_locals: Mutex<BTreeSet<IpAddr>>,
    /// The configuration was read: what this host lacks must be looked for.
    host_stale: Notify,
    /// Addresses of real servers changed: next hops must be looked at.
    pub(super) routes_stale: Notify,
    pub(super) instance: String,
    /// The interfaces by which the host's own traffic gets here.
    pub(super) pair: Pair,
    pub(super) config: Option<ConfigFile>,
    pub(super) started: Instant,
    desired_file: PathBuf,
    by_hand_file: PathBuf,
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
        health: Health,
        instance: &str,
        config: Option<ConfigFile>,
        state_dir: &Path,
    ) -> Self {
        Self {
            plane: Mutex::new(plane),
            writer: tokio::sync::Mutex::default(),
            health,
            notifier: Arc::default(),
            drifted: Notify::new(),
            configured: Mutex::default(),
            passive: Mutex::default(),
            learned: Mutex::default(),
            wired: Mutex::default(),
            wires_stale: AtomicBool::new(false),
            netlink,
            problems: Mutex::new(BTreeMap::new()),
            foreign_locals: Mutex::new(BTreeSet::new()),
            host_stale: Notify::new(),
            routes_stale: Notify::new(),
            instance: instance.to_owned(),
            pair: Pair::of(instance),
            config,
            started: Instant::now(),
            desired_file: state_dir.join("desired.json"),
            by_hand_file: state_dir.join("by-hand.json"),
        }
    }

    /// Puts in force what the configuration asks for and checks know, on top of what was adopted: services that an earlier
    /// daemon took from its configuration and that are gone from it go; those that `ipvsadm` made stay, unless
    /// `lvs_flush` wants an empty table to begin with.
    pub(super) async fn start(&self, desired: Desired) -> Result<()> {
        let mut held = self.writer.lock().await;
        self.check_interfaces(&desired).await?;
        let before: Desired = kept(&self.desired_file);
        let configured = self.health.configure(&desired).await?;
        let earlier = Held::restored(before.clone(), kept(&self.by_hand_file));
        let new = earlier.with_file(desired, configured.effective);
        let mut table = self.table();
        if new.desired().health.flush_at_start {
            let foreign = foreign(&table, new.effective());
            merge(&mut table, &foreign);
        }
        // An adopted director may have lost a configuration's services to ipvsadm, or never had them.
        let mut changes = diff(&before, new.effective());
        changes.extend(diff(&Desired::default(), new.effective()));
        merge(&mut table, &changes);
        if !table.sync_daemons().is_empty() {
            warn!("{}", SyncDaemon::WARNING);
        }
        self.set_configured(new.desired());
        self.put_in_force(&table, new.desired()).await?;
        self.notifier.configure(&new.desired().health.notifications);
        self.set_passive(configured.passive);
        *held = new;
        self.keep_by_hand(held.by_hand())?;
        self.host_stale.notify_one();
        self.keep_desired(held.desired())
    }

    /// Reads the configuration again and makes the changes; answers how many.
    pub(super) async fn reload(&self) -> Result<usize> {
        let file = self.config_file()?;
        let mut held = self.writer.lock().await;
        let desired = super::read_config(file)?;
        self.check_interfaces(&desired).await?;
        for warning in at_next_start(held.desired(), &desired) {
            warn!("{warning}");
        }
        let same = desired == *held.desired();
        let configured = self.health.configure(&desired).await?;
        let new = held.with_file(desired, configured.effective);
        let changes = diff(held.effective(), new.effective());
        let mut table = self.table();
        for (change, error) in merge(&mut table, &changes) {
            info!("{error}, because of a change by ipvsadm: {change:?}");
        }
        self.set_configured(new.desired());
        if let Err(error) = self.put_in_force(&table, new.desired()).await {
            self.set_configured(held.desired());
            self.health.revert().await?;
            return Err(error.into());
        }
        self.notifier.configure(&new.desired().health.notifications);
        self.set_passive(configured.passive);
        *held = new;
        self.host_stale.notify_one();
        if !same {
            self.keep_by_hand(held.by_hand())?;
            self.keep_desired(held.desired())?;
        }
        if held.desired().health.on_drift == OnDrift::Restore {
            self.drifted.notify_one();
        }
        Ok(changes.len())
    }

    /// What a reload would do, with the daemon's own file or with another configuration.
    pub(super) async fn plan(&self, desired: Option<Desired>) -> Result<Plan> {
        let held = self.writer.lock().await;
        let mut findings = Vec::new();
        let desired = match desired {
            Some(desired) => desired,
            None => {
                let (desired, found) = super::read_file(self.config_file()?)?;
                findings.extend(found.iter().map(ToString::to_string));
                desired
            }
        };
        self.check_interfaces(&desired).await?;
        findings.extend(at_next_start(held.desired(), &desired));
        let effective = self.health.plan(&desired).await?;
        let new = held.with_file(desired, effective);
        Ok(Plan { changes: diff(held.effective(), new.effective()), findings })
    }

    fn config_file(&self) -> Result<&ConfigFile> {
        match &self.config {
            Some(file) => Ok(file),
            None => bail!("the daemon was started without a configuration file"),
        }
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
        let mut held = self.writer.lock().await;
        let mut table = self.table();
        let mut fates: Vec<Result<(), ChangeError>> = Vec::with_capacity(changes.len());
        for change in changes {
            let fate = if let Change::StartSync(daemon) = change {
                let link = self.netlink.link(&daemon.interface).await;
                table.start_sync(daemon.clone(), link.ok().map(|link| link.mtu))
            } else {
                change.in_effect().and_then(|()| table.apply(change))
            };
            let refused = fate.is_err();
            fates.push(fate);
            if atomic && refused {
                return fates;
            }
        }
        if fates.iter().any(Result::is_ok)
            && let Err(error) = self.put_in_force(&table, held.desired()).await
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
        self.note_drift(&mut held, changes, &fates);
        fates
    }

    /// Learns the way to every real server of a table, installs it, and attaches the program where it is needed.
    async fn put_in_force(&self, table: &Table, desired: &Desired) -> Result<(), InstallError> {
        let mut wanted = addresses(table);
        wanted.extend(self.lock_configured().iter());
        let new: BTreeSet<IpAddr> = wanted.difference(&lock(&self.learned)).copied().collect();
        self.learn(&new).await;
        let flood = desired.data_plane.flood_threshold;
        self.with_plane(|plane| {
            plane.set_flood_threshold(flood.unwrap_or(DataPlaneSettings::FLOOD_THRESHOLD));
            plane.install(table)
        })?;
        self.forget_unused();
        self.attach(table, desired).await;
        self.routes_stale.notify_one();
        Ok(())
    }

    pub(super) fn table(&self) -> Table {
        self.with_plane(|plane| plane.table().clone())
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

    /// Ends checks, says what `omega` asks for, and waits until it is said, for at most `limit`; answers who is told of the
    /// rest. `goes_on`: the data plane goes on without the daemon.
    pub(super) async fn stop(&self, limit: Duration, goes_on: bool) -> Notifications {
        if let Err(error) = self.health.stop(goes_on).await {
            warn!("{error:#}");
        }
        self.carry_out_effects().await;
        self.notifier.finish(limit).await;
        self.writer.lock().await.desired().health.notifications.clone()
    }

    /// Empties the table if `lvs_flush_on_stop` wants that.
    pub(super) async fn flush_if_asked(&self) -> Result<()> {
        let held = self.writer.lock().await;
        if !held.desired().health.flush_at_stop {
            return Ok(());
        }
        let mut table = self.table();
        table.apply(&Change::Flush)?;
        self.with_plane(|plane| plane.install(&table))?;
        info!("the table is empty (lvs_flush_on_stop)");
        Ok(())
    }

    /// Detaches and removes everything.
    pub(super) async fn teardown(&self) -> Result<()> {
        self.with_plane(|plane| plane.teardown())?;
        self.pair.remove(&self.netlink).await?;
        self.keep_by_hand(kept::<KeptByHand>(&self.by_hand_file).after_stop())?;
        remove(&self.desired_file)
    }

    /// Keeps what the configuration asked for, so that the next daemon knows what came from it.
    fn keep_desired(&self, desired: &Desired) -> Result<()> {
        keep(&self.desired_file, &tables_of(desired))
    }

    /// Keeps what was done by hand: a real server that was drained stays so when the daemon is killed.
    fn keep_by_hand(&self, by_hand: KeptByHand) -> Result<()> {
        if by_hand.is_empty() {
            return remove(&self.by_hand_file);
        }
        keep(&self.by_hand_file, &by_hand)
    }
}

/// What an earlier daemon kept in a file.
fn kept<T: DeserializeOwned + Default>(file: &Path) -> T {
    let Ok(bytes) = fs::read(file) else { return T::default() };
    serde_json::from_slice(&bytes).unwrap_or_else(|error| {
        warn!("{} is unreadable and ignored: {error}", file.display());
        T::default()
    })
}

/// Replaces a file whole.
fn keep(file: &Path, value: &impl Serialize) -> Result<()> {
    let new = file.with_extension("new");
    fs::write(&new, serde_json::to_vec(value)?)
        .and_then(|()| fs::rename(&new, file))
        .with_context(|| format!("cannot write {}", file.display()))
}

fn remove(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A mutex whose holder panicked still has a whole value: none is changed in steps.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All that may be in the table because of a configuration, sorry servers included. How it is checked is left out: there may be
/// passwords in it.
fn tables_of(desired: &Desired) -> Desired {
    let services = desired.services.iter().map(|service| {
        let sorry = service.health.sorry_server.as_ref().map(|sorry| sorry.destination);
        DesiredService {
            service: service.service.clone(),
            destinations: service.destinations.iter().copied().chain(sorry).collect(),
            local_addresses: service.local_addresses.clone(),
            health: ServiceHealth::default(),
        }
    });
    Desired {
        services: services.collect(),
        timeouts: desired.timeouts,
        data_plane: desired.data_plane.clone(),
        marks: desired.marks.clone(),
        settings: desired.settings.clone(),
        health: HealthSettings::default(),
    }
}

/// What takes out of a table all that is not asked for.
fn foreign(table: &Table, effective: &Desired) -> Vec<Change> {
    let services = table.services().map(|there| DesiredService {
        service: there.service().clone(),
        destinations: there.destinations().rev().copied().collect(),
        local_addresses: there.local_addresses().clone(),
        health: ServiceHealth::default(),
    });
    let present = Desired { services: services.collect(), ..effective.clone() };
    diff(&present, effective)
}

/// Settings that a reload does not change, in words.
fn at_next_start(before: &Desired, after: &Desired) -> Vec<String> {
    let (before, after) = (&before.data_plane, &after.data_plane);
    let word = |keyword: &str| {
        format!("data_plane {keyword} takes effect when the daemon is stopped and started")
    };
    let changed = [
        (before.connections != after.connections, "connections"),
        (before.local_addresses != after.local_addresses, "local_addresses"),
    ];
    changed.into_iter().filter(|(changed, _)| *changed).map(|(_, keyword)| word(keyword)).collect()
}

#[cfg(test)]
mod tests;
