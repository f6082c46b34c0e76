//! A director: the tables in force, who has which index in them, and how they change.
//!
//! **Invariant:** a change is done in this order: state file, destination records that become available, blob, records
//! that become unavailable. So a packet never meets a destination that is scheduled and not there, and a daemon that
//! dies in between finds the change in the state file and completes it.
//!
//! Called through [`crate::Plane`].

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::atomic::Ordering;

use elvs_common::{
    Control, Counter, DestinationFlags, DestinationLoad, DestinationRecord, HeaderFlags,
    LAYOUT_VERSION, Line, Method, ServiceFlags, SettingFlags, Settings, TcpState, TunnelKind,
    scheduler_id, ticks_from_seconds,
};
use elvs_fastpath::{Atomic64, destination_of};
use elvs_model::{
    DestinationKey, DestinationView, Family, Netmask, OnDelete, Rates, ServiceKey, ServiceView,
    Setting, Statistics, Table,
};

use crate::assignments::{AssignError, Assignments, DestinationSlot, ServiceSlot};
use crate::backend::{Backend, BackendError};
use crate::compile::{CompileError, Known, compile};
use crate::connection::entries;
use crate::defence::{self, Defence};
use crate::estimator::Estimator;
use crate::marks;
use crate::plane::{Fates, Load, LoadDifference};
use crate::route::{Route, folded};
use crate::state::{State, StateError, Store};
use crate::statistics::since;
use crate::sweep::{Memories, SweepReport, Sweeper};

/// Word of the blob's header that counts generations.
const GENERATION_WORD: usize = 2;

/// Word of the blob's header that has its flags.
const FLAGS_WORD: usize = 3;

/// What installing a table came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Whether a new configuration was put in force; false if nothing that packets see differed.
    pub swapped: bool,
    /// Configurations put in force so far.
    pub generation: u64,
}

/// Why a table was not installed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// It does not fit, or is not forwarded.
    #[error(transparent)]
    Assign(#[from] AssignError),
    /// It does not fit.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The state file cannot be written.
    #[error(transparent)]
    State(#[from] StateError),
    /// The kernel refused.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// A director over some backend.
#[derive(Debug)]
pub struct Director<B> {
    backend: B,
    store: Option<Store>,
    table: Table,
    assignments: Assignments,
    generation: u64,
    /// Lines in force; empty = unknown.
    lines: Vec<Line>,
    routes: HashMap<IpAddr, Route>,
    /// Indexes of interfaces by name, for firewall-mark rules.
    interfaces: HashMap<String, u32>,
    sweeper: Sweeper,
    defence: Defence,
    /// Free memory of the host when it was last looked at, pages.
    free_pages: Option<u64>,
    /// Entries that the defence has dropped.
    dropped_entries: u64,
    service_rates: HashMap<ServiceKey, Estimator>,
    destination_rates: HashMap<u32, Estimator>,
    /// Connections of destinations whose fate somebody asks for, as last told.
    asked: HashMap<u32, u64>,
}

impl<B: Backend> Director<B> {
    /// A director over new tables, with nothing in force yet.
    pub(crate) fn new(backend: B, store: Option<Store>) -> Self {
        Self::adopt(backend, store, State { layout: LAYOUT_VERSION, ..State::default() })
    }

    /// A director over tables that the state belongs to. The caller installs the state's table, which completes a
    /// change that was interrupted.
    pub(crate) fn adopt(backend: B, store: Option<Store>, state: State) -> Self {
        let State { layout: _, generation, table, assignments } = state;
        Self {
            backend,
            store,
            table,
            assignments,
            generation,
            lines: Vec::new(),
            routes: HashMap::new(),
            interfaces: HashMap::new(),
            sweeper: Sweeper::default(),
            defence: Defence::default(),
            free_pages: None,
            dropped_entries: 0,
            service_rates: HashMap::new(),
            destination_rates: HashMap::new(),
            asked: HashMap::new(),
        }
    }

    /// The tables.
    pub const fn backend(&self) -> &B {
        &self.backend
    }

    /// The tables.
    pub const fn backend_mut(&mut self) -> &mut B {
        &mut self.backend
    }

    /// Who has which index.
    pub const fn assignments(&self) -> &Assignments {
        &self.assignments
    }

    pub(crate) const fn table_in_force(&self) -> &Table {
        &self.table
    }

    pub(crate) fn put_in_force(&mut self, table: &Table) -> Result<Installed, InstallError> {
        let assignments = self.assignments.for_table(table, &self.backend)?;
        let swapped = self.change(table.clone(), assignments)?;
        self.defence = self.level();
        self.write_settings(table);
        Ok(Installed { swapped, generation: self.generation })
    }

    /// Goes over to a table and its assignments; whether that took a swap.
    fn change(&mut self, table: Table, assignments: Assignments) -> Result<bool, InstallError> {
        let lines = self.compile(&table, &assignments)?;
        let swap = lines != self.lines;
        let generation = self.generation + u64::from(swap);
        let lines = if swap { with_generation(lines, generation) } else { lines };
        let new = State { layout: LAYOUT_VERSION, generation, table, assignments };
        self.save(&new)?;
        let old = State {
            layout: LAYOUT_VERSION,
            generation: self.generation,
            table: std::mem::replace(&mut self.table, new.table),
            assignments: std::mem::replace(&mut self.assignments, new.assignments),
        };
        self.assignments.write_locals(&self.backend);
        self.write_present(&old.assignments);
        if swap && let Err(error) = self.backend.swap_blob(&lines) {
            self.table = old.table.clone();
            let failed = std::mem::replace(&mut self.assignments, old.assignments.clone());
            self.write_present(&failed);
            self.clear_removed();
            self.save(&old)?;
            return Err(error.into());
        }
        self.generation = generation;
        self.lines = lines;
        self.clear_removed();
        self.forget_locality(&old.assignments);
        self.follow_rates(&old.assignments);
        Ok(swap)
    }

    /// Has the services forget what lblc or lblcr remembered for them if another scheduler came (`ip_vs_unbind_scheduler`).
    fn forget_locality(&self, before: &Assignments) {
        let by_locality = [scheduler_id::LBLC, scheduler_id::LBLCR];
        let was = before.services().filter(|slot| by_locality.contains(&slot.scheduler));
        let changed = was.filter(|was| {
            let now = self.assignments.service(&was.key);
            now.is_some_and(|now| now.index == was.index && now.scheduler != was.scheduler)
        });
        let indexes: HashSet<u32> = changed.map(|slot| slot.index).collect();
        if !indexes.is_empty() {
            Sweeper::forget_services(&self.backend, &indexes);
        }
    }

    /// Lines with the generation in force.
    fn compile(&self, table: &Table, assignments: &Assignments) -> Result<Vec<Line>, CompileError> {
        let services: Vec<_> = assignments.services().cloned().collect();
        // Without any service of a family IPVS takes its hooks out: packets of old connections are nobody's any more.
        let families: BTreeSet<Family> = services.iter().map(|slot| slot.key.family()).collect();
        let served = |address: &IpAddr| families.contains(&Family::of(*address));
        let marked = assignments.marked().iter().filter(|prefix| served(&prefix.address()));
        let marks = marks::compile(table, &families, &marked.copied().collect(), &self.interfaces);
        let mut known = Known {
            addresses: assignments.virtual_addresses(),
            masqueraded: assignments.masqueraded_addresses(),
            locals: assignments.local_indexes(),
            told: if table.settings().is_on(Setting::NatIcmpSend) {
                assignments.masqueraded_servers()
            } else {
                BTreeMap::new()
            },
        };
        known.retain(served);
        let lines = compile(&services, &known, &marks, self.generation)?.lines;
        Ok(if defence::may_act(table.settings()) { defended(lines) } else { lines })
    }

    fn save(&self, state: &State) -> Result<(), StateError> {
        self.store.as_ref().map_or(Ok(()), |store| store.save(state))
    }

    /// Writes the records of destinations in the table; `before` are the assignments that the records are of.
    fn write_present(&mut self, before: &Assignments) {
        let Self { assignments, backend, routes, table, .. } = self;
        let settings = backend.settings();
        for (service, key, slot) in assignments.destinations().filter(|(_, _, slot)| slot.present) {
            let known = before.destination(service, key).is_some_and(|old| old.index == slot.index);
            let old = if known { backend.record(slot.index) } else { None };
            let home = assignments.service(service);
            let before = old.unwrap_or_default();
            let mut record = destination_record(before, key, slot, routes);
            let entry = table.service(service).and_then(|entry| entry.destination(key));
            record.flags &= !(DestinationFlags::QUIESCED | DestinationFlags::RESET);
            // It stays as it is when the destination is removed.
            if table.service(service).is_some_and(|e| e.service().on_delete == OnDelete::Reset) {
                record.flags |= DestinationFlags::RESET;
            }
            if entry.is_some_and(|destination| destination.weight == 0) {
                record.flags |= DestinationFlags::QUIESCED;
            }
            if let Some(home) = home {
                follow_service(&mut record, home, &settings);
            }
            if old != Some(record) {
                backend.write_record(slot.index, &record);
            }
            // A new threshold that leaves more room lets connections in again (`__ip_vs_update_dest`).
            let upper = record.upper_threshold;
            if (upper == 0 || upper > before.upper_threshold)
                && let Some(load) = backend.load(slot.index)
            {
                load.fetch_and(!DestinationLoad::OVERLOAD, Ordering::AcqRel);
            }
        }
    }

    /// Takes the records of removed destinations out of service.
    fn clear_removed(&mut self) {
        let Self { assignments, backend, .. } = self;
        for (_, _, slot) in assignments.destinations().filter(|(_, _, slot)| !slot.present) {
            if let Some(mut record) = backend.record(slot.index)
                && record.flags & DestinationFlags::AVAILABLE != 0
            {
                record.flags &= !DestinationFlags::AVAILABLE;
                backend.write_record(slot.index, &record);
            }
        }
    }

    /// Ends the rates of what is gone, and starts those of what is new at 0.
    fn follow_rates(&mut self, before: &Assignments) {
        let Self { assignments, destination_rates, service_rates, .. } = self;
        let indexes: BTreeSet<u32> =
            assignments.destinations().map(|(_, _, slot)| slot.index).collect();
        destination_rates.retain(|index, _| indexes.contains(index));
        service_rates.retain(|key, _| assignments.service(key).is_some());
        for (service, key, slot) in assignments.destinations() {
            if before.destination(service, key).is_none() {
                destination_rates.insert(slot.index, Estimator::default());
            }
        }
        for slot in assignments.services() {
            if before.service(&slot.key).is_none() {
                service_rates.insert(slot.key, Estimator::default());
            }
        }
    }

    fn write_settings(&mut self, table: &Table) {
        let timeouts = table.timeouts();
        let old = self.backend.settings();
        let ticks = |s| ticks_from_seconds(s, old.jiffies_per_second, old.tick_shift);
        let Defence { drop_rate, secure_tcp, .. } = self.defence;
        let secure = if secure_tcp { SettingFlags::SECURE_TCP } else { 0 };
        let flags = setting_flags(table.settings()) | secure;
        let mut settings = Settings { udp_timeout: ticks(timeouts.udp), flags, drop_rate, ..old };
        let states = (0..).zip(Settings::TCP_SECONDS);
        for (timeout, (state, initial)) in settings.tcp_timeouts.iter_mut().zip(states) {
            *timeout = ticks(if state == TcpState::Established as u8 {
                timeouts.tcp
            } else if state == TcpState::FinWait as u8 {
                timeouts.tcp_fin
            } else {
                initial
            });
        }
        if settings != old {
            self.backend.write_settings(&settings);
        }
    }

    /// The defence level by the settings and what is free now.
    fn level(&self) -> Defence {
        let (settings, record) = (self.table.settings(), self.backend.settings());
        let occupied = self.sweeper.occupied();
        Defence::of(settings, defence::available(settings, &record, occupied, self.free_pages))
    }

    /// Puts the defence level of this moment in force, and drops entries if that asks for it.
    pub(crate) fn keep_defence(&mut self, free_pages: Option<u64>) -> Defence {
        self.free_pages = free_pages;
        let level = self.level();
        if level != self.defence {
            self.defence = level;
            let table = self.table.clone();
            self.write_settings(&table);
        }
        if level.drop_entry {
            let [first, _] = self.backend.settings().seed;
            let seed = first ^ self.backend.now().jiffies;
            self.dropped_entries += Sweeper::drop_entries(&self.backend, seed);
        }
        level
    }

    /// Whether the defence level depends on how much memory the host has.
    pub(crate) fn asks_for_memory(&self) -> bool {
        defence::is_automatic(self.table.settings())
    }

    /// The settings as the kernel shows them.
    pub(crate) fn shown_settings(&self) -> elvs_model::Settings {
        self.defence.shown(self.table.settings())
    }

    /// Every counter: those of packets, and what the sweeper did.
    pub(crate) fn all_counters(&self) -> Result<Vec<(Counter, u64)>, BackendError> {
        let count = |counter: &Counter| {
            let swept = if *counter == Counter::DropEntry { self.dropped_entries } else { 0 };
            Ok((*counter, self.backend.counter(*counter)?.saturating_add(swept)))
        };
        Counter::ALL.iter().map(count).collect()
    }

    pub(crate) fn keep_route(&mut self, address: IpAddr, route: Route) {
        if self.routes.insert(address, route) == Some(route) {
            return;
        }
        let Self { assignments, backend, .. } = self;
        for (_, key, slot) in assignments.destinations() {
            if key.address != address {
                continue;
            }
            if let Some(old) = backend.record(slot.index) {
                let mut record = old;
                route.write(&mut record);
                if record != old {
                    backend.write_record(slot.index, &record);
                }
            }
        }
    }

    pub(crate) fn keep_interfaces(
        &mut self,
        interfaces: HashMap<String, u32>,
    ) -> Result<(), InstallError> {
        if self.interfaces == interfaces {
            return Ok(());
        }
        self.interfaces = interfaces;
        if self.table.marks().interfaces().next().is_some() {
            self.change(self.table.clone(), self.assignments.clone())?;
        }
        Ok(())
    }

    /// A slice of a pass, as it would be so many ticks from now.
    pub(crate) fn sweep_slice(&mut self, buckets: u32, ahead: u32) -> SweepReport {
        let settings = self.table.settings();
        let seconds = |setting| u32::try_from(settings.number(setting)).unwrap_or(u32::MAX);
        let orphans = self.assignments.destinations().filter(|(_, _, slot)| slot.orphan);
        let memories = Memories {
            lblc: seconds(Setting::LblcExpiration),
            lblcr: seconds(Setting::LblcrExpiration),
            orphans: orphans.map(|(_, _, slot)| slot.index).collect(),
        };
        let report = self.sweeper.slice(&self.backend, buckets, ahead, &memories);
        if report.pass.is_some() {
            self.sweeper.clear_calls(&mut self.backend);
            let (assignments, table) = (&self.assignments, &self.table);
            let weights = || {
                let present = assignments.destinations().filter(|(_, _, slot)| slot.present);
                let weighed = present.filter_map(|(service, key, slot)| {
                    let destination = table.service(service)?.destination(key)?;
                    Some((slot.index, destination.weight))
                });
                weighed.collect()
            };
            self.sweeper.judge_sets(&self.backend, ahead, memories.lblcr, weights);
        }
        report
    }

    pub(crate) fn collect_removed(&mut self) -> Result<usize, InstallError> {
        let slots = self.assignments.destinations().map(|(_, _, slot)| slot.present);
        let locals = self.assignments.locals().map(|(_, slot)| slot.present);
        if slots.chain(locals).all(|present| present) {
            return Ok(0);
        }
        let mut assignments = self.assignments.clone();
        let freed = assignments.collect(&self.backend, &self.memories())?;
        if freed == 0 {
            self.assignments = assignments;
        } else {
            self.change(self.table.clone(), assignments)?;
        }
        Ok(freed)
    }

    pub(crate) fn zero_statistics(
        &mut self,
        service: Option<&ServiceKey>,
    ) -> Result<(), InstallError> {
        let mut assignments = self.assignments.clone();
        assignments.zero(service, &self.backend)?;
        self.save(&State {
            layout: LAYOUT_VERSION,
            generation: self.generation,
            table: self.table.clone(),
            assignments: assignments.clone(),
        })?;
        let chosen = |key: &ServiceKey| service.is_none_or(|service| service == key);
        for (key, _, slot) in assignments.destinations() {
            if chosen(key) {
                self.destination_rates.insert(slot.index, Estimator::default());
            }
        }
        for slot in assignments.services() {
            if chosen(&slot.key) {
                self.service_rates.insert(slot.key, Estimator::default());
            }
        }
        self.assignments = assignments;
        Ok(())
    }

    pub(crate) fn move_rates(&mut self) -> Result<(), BackendError> {
        if !self.table.settings().is_on(Setting::RunEstimation) {
            self.destination_rates.clear();
            self.service_rates.clear();
            return Ok(());
        }
        let Self { assignments, backend, destination_rates, service_rates, .. } = self;
        let services = assignments.service_statistics(backend)?;
        for (_, _, slot) in assignments.destinations() {
            let counted = since(&backend.statistics(slot.index)?, &slot.baseline);
            move_rate(destination_rates, slot.index, &counted);
        }
        for (key, total) in services {
            move_rate(service_rates, key, &total);
        }
        Ok(())
    }

    /// See [`crate::Plane::fates`].
    pub(crate) fn take_fates(&mut self, of: &[(ServiceKey, DestinationKey)]) -> Vec<Fates> {
        let Self { assignments, backend, sweeper, asked, .. } = self;
        let index = |(service, key): &(ServiceKey, DestinationKey)| {
            assignments.destination(service, key).map(|slot| slot.index)
        };
        let indexes: Vec<Option<u32>> = of.iter().map(index).collect();
        let failed = sweeper.unanswered(indexes.iter().flatten().copied().collect());
        let before = std::mem::take(asked);
        let fates = |index: Option<u32>| {
            let Some(index) = index else { return Fates::default() };
            let opened = backend.statistics(index).unwrap_or_default().connections;
            asked.insert(index, opened);
            let Some(known) = before.get(&index) else { return Fates::default() };
            let failed = failed.get(&index).copied().unwrap_or_default();
            Fates { opened: opened.saturating_sub(*known), failed }
        };
        indexes.into_iter().map(fates).collect()
    }

    pub(crate) fn rates_of(&self, index: u32) -> Rates {
        self.destination_rates.get(&index).map(Estimator::rates).unwrap_or_default()
    }

    pub(crate) fn views(&self) -> Result<Vec<ServiceView>, BackendError> {
        let totals = self.assignments.service_statistics(&self.backend)?;
        let persistent = self.assignments.services().any(|service| service.persistence.is_some());
        let templates = if persistent { self.templates() } else { HashMap::new() };
        let mut views = Vec::with_capacity(self.table.services().len());
        for entry in self.table.services() {
            let service = entry.service().clone();
            let mut destinations = Vec::with_capacity(entry.destinations().len());
            for destination in entry.destinations() {
                let slot = self.assignments.destination(&service.key, &destination.key);
                destinations.push(self.destination_view(*destination, slot, &templates)?);
            }
            let locals = entry.local_addresses().iter();
            let locals = locals.map(|address| self.assignments.local_view(&self.backend, address));
            let rates = self.service_rates.get(&service.key).map(Estimator::rates);
            views.push(ServiceView {
                statistics: totals.get(&service.key).copied().unwrap_or_default(),
                rates: rates.unwrap_or_default(),
                service,
                destinations,
                local_addresses: locals.collect(),
            });
        }
        Ok(views)
    }

    fn destination_view(
        &self,
        destination: elvs_model::Destination,
        slot: Option<&DestinationSlot>,
        templates: &HashMap<u32, u32>,
    ) -> Result<DestinationView, BackendError> {
        let mut view = DestinationView {
            destination,
            active: 0,
            inactive: 0,
            persistent: 0,
            statistics: Statistics::default(),
            rates: Rates::default(),
        };
        if let Some(slot) = slot {
            let load = Load::of(self.backend.load(slot.index).map_or(0, Atomic64::load));
            (view.active, view.inactive) = (load.active, load.inactive);
            view.persistent = templates.get(&slot.index).copied().unwrap_or_default();
            view.statistics = since(&self.backend.statistics(slot.index)?, &slot.baseline);
            view.rates = self.rates_of(slot.index);
        }
        Ok(view)
    }

    /// Persistence templates of each destination's index.
    fn templates(&self) -> HashMap<u32, u32> {
        self.counted(|control| control.is_template() && !control.is_locality())
    }

    /// Entries that are no connections of each destination's index: its templates, and what lblc and lblcr remember.
    fn memories(&self) -> HashMap<u32, u32> {
        self.counted(|control| control.is_template())
    }

    /// Entries of a kind of each destination's index.
    fn counted(&self, is_meant: impl Fn(Control) -> bool) -> HashMap<u32, u32> {
        let mut counts = HashMap::new();
        for live in entries(&self.backend, 0, u32::MAX) {
            if is_meant(live.control) {
                *counts.entry(destination_of(live.ports_destination)).or_default() += 1;
            }
        }
        counts
    }

    pub(crate) fn load_differences(&self) -> Vec<LoadDifference> {
        let recorded = |index| {
            let load = self.backend.load(index).map(Atomic64::load);
            load.map(|load| load & !DestinationLoad::OVERLOAD)
        };
        let before: Vec<u64> = (0..).map_while(recorded).collect();
        let mut counted: HashMap<u32, u64> = HashMap::new();
        for live in entries(&self.backend, 0, u32::MAX) {
            if !live.control.is_template() {
                let load = counted.entry(destination_of(live.ports_destination)).or_default();
                *load = load.wrapping_add(DestinationLoad::unit(live.control.inactive()));
            }
        }
        let assigned = self.assignments.destinations().map(|(_, _, slot)| slot.index);
        let indexes: BTreeSet<u32> = assigned.chain(counted.keys().copied()).collect();
        let differences = indexes.into_iter().filter_map(|index| {
            let counted = counted.get(&index).copied().unwrap_or_default();
            let recorded = recorded(index).unwrap_or_default();
            let before = usize::try_from(index).ok().and_then(|at| before.get(at).copied());
            // Packets of this destination came while it was counted: nothing can be said of it.
            let moved = before.is_some_and(|before| before != recorded);
            (counted != recorded && !moved).then(|| LoadDifference {
                index,
                counted: Load::of(counted),
                recorded: Load::of(recorded),
            })
        });
        differences.collect()
    }

    pub(crate) fn remove_everything(&mut self) -> Result<(), BackendError> {
        let removed = self.backend.teardown();
        if let Some(store) = self.store.take() {
            store.remove().map_err(|error| BackendError {
                what: "removing the state file".to_owned(),
                source: std::io::Error::other(error),
            })?;
        }
        removed
    }
}

/// The record of a destination in the table, from the one it had.
fn destination_record(
    old: DestinationRecord,
    key: &DestinationKey,
    slot: &DestinationSlot,
    routes: &HashMap<IpAddr, Route>,
) -> DestinationRecord {
    let (upper_threshold, lower_threshold) = slot.thresholds;
    let (family, address6) = match key.address {
        IpAddr::V4(_) => (0, [0; 16]),
        IpAddr::V6(address) => (DestinationFlags::IPV6, address.octets()),
    };
    // IPv4 in IPv4 is the only tunnel that the first stages write themselves.
    let plain =
        slot.tunnel.kind == TunnelKind::IPIP && (family == 0 || slot.method != Method::Tun as u32);
    let wrapped = if plain { 0 } else { DestinationFlags::ENCAPSULATED };
    let own = DestinationFlags::IPV6 | DestinationFlags::ENCAPSULATED;
    let mut record = DestinationRecord {
        flags: old.flags & !own | family | wrapped | DestinationFlags::AVAILABLE,
        method: slot.method,
        address: folded(key.address),
        address6,
        port: key.port.to_be(),
        tunnel_kind: slot.tunnel.kind,
        tunnel_port: slot.tunnel.port.to_be(),
        tunnel_flags: slot.tunnel.flags,
        upper_threshold,
        lower_threshold,
        ..old
    };
    if let Some(route) = routes.get(&key.address) {
        route.write(&mut record);
    }
    record
}

/// Settings that packets depend on.
fn setting_flags(settings: &elvs_model::Settings) -> u32 {
    let reuse = settings.number(Setting::ConnReuseMode);
    let flags = [
        (settings.is_on(Setting::SloppyTcp), SettingFlags::SLOPPY_TCP),
        (settings.is_on(Setting::SloppySctp), SettingFlags::SLOPPY_SCTP),
        (settings.is_on(Setting::ExpireNodestConn), SettingFlags::EXPIRE_NODEST_CONN),
        (settings.is_on(Setting::ExpireQuiescentTemplate), SettingFlags::EXPIRE_QUIESCENT_TEMPLATE),
        (settings.is_on(Setting::CacheBypass), SettingFlags::CACHE_BYPASS),
        (settings.is_on(Setting::ScheduleIcmp), SettingFlags::SCHEDULE_ICMP),
        (reuse == 0, SettingFlags::NO_REUSE),
        (reuse & 2 != 0, SettingFlags::REUSE_FIN_WAIT),
    ];
    flags.into_iter().filter(|(on, _)| *on).fold(0, |flags, (_, flag)| flags | flag)
}

/// Writes what a destination's record has of its service.
fn follow_service(record: &mut DestinationRecord, service: &ServiceSlot, settings: &Settings) {
    record.service = service.index;
    (record.persistence_ticks, record.persistence_mask, record.persistence_prefix) = (0, 0, 0);
    record.flags &= !(DestinationFlags::SHARED_TEMPLATE
        | DestinationFlags::IPV6_SERVICE
        | DestinationFlags::SIP);
    if service.flags & ServiceFlags::SIP != 0 {
        record.flags |= DestinationFlags::SIP;
    }
    if service.key.family() == Family::Inet6 {
        record.flags |= DestinationFlags::IPV6_SERVICE;
    }
    if let Some(persistence) = service.persistence {
        let (hz, shift) = (settings.jiffies_per_second, settings.tick_shift);
        record.persistence_ticks = ticks_from_seconds(persistence.timeout, hz, shift);
        match persistence.mask {
            Netmask::V4(mask) => record.persistence_mask = mask.to_be(),
            Netmask::V6(prefix) => record.persistence_prefix = u32::from(prefix),
        }
        if persistence.shared {
            record.flags |= DestinationFlags::SHARED_TEMPLATE;
        }
        record.template_address = match service.key {
            ServiceKey::Fwmark { mark, .. } => mark.to_be(),
            ServiceKey::Address { .. } => 0,
        };
    }
}

/// Lines that have the program's first stage leave new connections to the one that schedules.
fn defended(mut lines: Vec<Line>) -> Vec<Line> {
    if let Some(word) = lines.first_mut().and_then(|line| line.0.get_mut(FLAGS_WORD)) {
        *word |= HeaderFlags::DEFENDED;
    }
    lines
}

fn with_generation(mut lines: Vec<Line>, generation: u64) -> Vec<Line> {
    if let Some(word) = lines.first_mut().and_then(|line| line.0.get_mut(GENERATION_WORD)) {
        *word = generation;
    }
    lines
}

fn move_rate<K: Eq + std::hash::Hash>(
    rates: &mut HashMap<K, Estimator>,
    key: K,
    counted: &Statistics,
) {
    rates
        .entry(key)
        .and_modify(|estimator| estimator.update(counted))
        .or_insert_with(|| Estimator::new(counted));
}

#[cfg(test)]
mod tests;
