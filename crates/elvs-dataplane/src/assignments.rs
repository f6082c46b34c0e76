//! Who has which index: of services for their scheduler words, of destinations for their records, loads and counters.
//!
//! **Invariant:** an index belongs to one (service, real server) for as long as a connection refers to it, and for
//! [`LINGER_S`] after; a real server that is added again meanwhile gets it back, and its connections work again
//! (IPVS's trash list, `ip_vs_trash_get_dest`). A service's scheduler word changes its tag only when its list,
//! a weight or its scheduler changes, or wrr's destinations are edited, so an unchanged service keeps its place in the turn.
//!
//! Called by [`crate::Director`], which keeps them in the state file.

mod locals;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use elvs_common::{
    DestinationLoad, FilterBits, MAX_DESTINATIONS, Method, SchedulerWord, ServiceFlags,
    TunnelFlags, scheduler_id,
};
use elvs_fastpath::{
    Atomic64, MaglevEntry, MaglevProgress, carry_over, dh_table, mh_table, sh_table, wrr_parameters,
};
use elvs_model::{
    Destination, DestinationKey, Family, ForwardingMethod, Netmask, Prefix, Protocol, Scheduler,
    SchedulerFlags, ServiceKey, Setting, Settings, Statistics, Table, TunnelChecksum, TunnelKind,
    VirtualService,
};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::backend::{Backend, BackendError, Now};
use crate::compile::virtual_address;
use crate::marks;
use crate::route::folded;
use crate::statistics::{since, sum};

pub use locals::LocalSlot;
pub(crate) use locals::mapped;

/// Seconds for which a removed destination keeps its index after its last connection (IPVS: `IP_VS_DEST_TRASH_PERIOD`).
pub(crate) const LINGER_S: u64 = 120;

/// A service's place in the kernel's tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSlot {
    /// The service.
    pub key: ServiceKey,
    /// Index of its scheduler word.
    pub index: u32,
    /// See [`elvs_common::scheduler_id`].
    pub scheduler: u8,
    /// See [`elvs_common::ServiceFlags`].
    pub flags: u8,
    /// Tag of its scheduler words.
    pub tag: u16,
    /// Scheduler word to start from.
    pub initial: u64,
    /// Persistence of a persistent service.
    pub persistence: Option<PersistenceSlot>,
    /// Entries of its table if mh schedules it (`mh_table_size`).
    #[serde(default = "default_mh_entries")]
    pub mh_entries: u32,
    /// Indexes of its local addresses of full NAT; empty if it is by another method.
    #[serde(default)]
    pub locals: Vec<u16>,
    /// Whether it takes FTP's data connections, too.
    #[serde(default)]
    pub takes_ftp_data: bool,
    /// Edits of its destinations so far, see [`elvs_model::TableService::edits`].
    #[serde(default)]
    pub edits: u64,
    /// Its scheduling list, newest first.
    pub pool: Vec<PoolSlot>,
    /// Statistics of destinations that are gone.
    pub retired: Statistics,
}

/// Persistence of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersistenceSlot {
    /// Idle time after which a template expires, seconds.
    pub timeout: u32,
    /// Bits of a client's address that count.
    pub mask: Netmask,
    /// Whether all ports share a template: services on all ports, and FTP's.
    pub shared: bool,
}

/// One entry of a scheduling list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolSlot {
    /// Index of the destination.
    pub destination: u32,
    /// Weight.
    pub weight: u32,
    /// Last weight above 0, by which mh makes its table; 0 if it never had one.
    pub last_weight: u32,
    /// Address of the destination.
    pub address: IpAddr,
    /// Its port, host order.
    pub port: u16,
}

impl ServiceSlot {
    /// Entries of the scheduler's hash table; 0 without one.
    pub(crate) const fn table_entries(&self) -> u32 {
        match self.scheduler {
            scheduler_id::DH | scheduler_id::SH => 256,
            scheduler_id::MH => self.mh_entries,
            _ => 0,
        }
    }

    /// See [`elvs_common::ServiceRecord::start`].
    pub(crate) fn start(&self) -> u64 {
        if self.scheduler == scheduler_id::TWOS {
            self.pool.iter().map(|entry| u64::from(entry.weight)).sum()
        } else {
            self.initial
        }
    }

    /// The scheduler's hash table, of positions in the pool; empty without one.
    pub(crate) fn table(&self) -> Vec<u16> {
        let weights: Vec<u32> = self.pool.iter().map(|entry| entry.weight).collect();
        match self.scheduler {
            scheduler_id::DH => dh_table(self.pool.len()).collect(),
            scheduler_id::SH => sh_table(&weights).collect(),
            scheduler_id::MH => {
                let family = self.key.family();
                let list: Vec<MaglevEntry> =
                    self.pool.iter().map(|entry| entry.maglev(family)).collect();
                let mut table = vec![0; usize::try_from(self.mh_entries).unwrap_or(0)];
                mh_table(&list, &mut vec![MaglevProgress::default(); list.len()], &mut table);
                table
            }
            _ => Vec::new(),
        }
    }
}

impl PoolSlot {
    /// As mh looks at it in a service of a family. It folds addresses by that, not by their own family, so in a service of
    /// IPv4 it sees the first word of an IPv6 address only (`ip_vs_mh_permutate`).
    fn maglev(&self, service: Family) -> MaglevEntry {
        let address = match (self.address, service) {
            (IpAddr::V6(address), Family::Inet) => {
                let [a, b, c, d, ..] = address.octets();
                u32::from_be_bytes([a, b, c, d])
            }
            (address, _) => u32::from_be(folded(address)),
        };
        MaglevEntry { address, port: self.port, last_weight: self.last_weight }
    }
}

/// Entries of mh's tables, one of the kernel's primes.
fn mh_entries(settings: &Settings) -> u32 {
    u32::try_from(settings.number(Setting::MhTableSize)).unwrap_or_default()
}

/// What a state written before the size could be set was made with.
fn default_mh_entries() -> u32 {
    mh_entries(&Settings::default())
}

/// A destination's place in the kernel's tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationSlot {
    /// Index of its record, load word and statistics.
    pub index: u32,
    /// Bits of [`Method`].
    pub method: u32,
    /// Its tunnel; that of ipip if it has none.
    #[serde(default)]
    pub tunnel: TunnelSlot,
    /// Upper and lower threshold of its connections; 0 = none.
    pub thresholds: (u32, u32),
    /// Whether it is or was masqueraded: connections from then still have their replies rewritten.
    pub masqueraded: bool,
    /// [`FilterBits`] of the tables that its connections are and were in.
    #[serde(default = "narrow_table")]
    pub tables: u64,
    /// Whether it is in its service's table.
    pub present: bool,
    /// Its service was removed after it: coming back, it starts with new statistics.
    pub orphan: bool,
    /// Tick since when nothing refers to it, once it was removed.
    pub idle_since: Option<u32>,
    /// Statistics of the index that are not its own.
    pub baseline: Statistics,
}

/// A destination's tunnel as its record has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelSlot {
    /// See [`elvs_common::TunnelKind`].
    pub kind: u16,
    /// UDP port of GUE, host order.
    pub port: u16,
    /// See [`TunnelFlags`].
    pub flags: u16,
}

impl TunnelSlot {
    const fn of(method: ForwardingMethod) -> Self {
        use elvs_common::TunnelKind as Kind;
        let (kind, port, checksum) = match method {
            ForwardingMethod::Tun(TunnelKind::Gue { port, checksum }) => {
                (Kind::GUE, port, checksum)
            }
            ForwardingMethod::Tun(TunnelKind::Gre { checksum }) => (Kind::GRE, 0, checksum),
            ForwardingMethod::Tun(TunnelKind::Ipip)
            | ForwardingMethod::Nat
            | ForwardingMethod::Dr
            | ForwardingMethod::FullNat => (Kind::IPIP, 0, TunnelChecksum::None),
        };
        let flags = match checksum {
            TunnelChecksum::None => 0,
            TunnelChecksum::Csum => TunnelFlags::CSUM,
            TunnelChecksum::Remcsum => TunnelFlags::REMCSUM,
        };
        Self { kind, port, flags }
    }
}

/// Why indexes could not be assigned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AssignError {
    /// Too many local addresses of full NAT.
    #[error(
        "no room for local address {address} of {service}: {limit} are in use, {lingering} of them removed ones that connections still use; `local_addresses` in the `data_plane` block makes room for more, 1 MiB each, with a stop and a start"
    )]
    TooManyLocals {
        /// The service.
        service: ServiceKey,
        /// The address.
        address: IpAddr,
        /// Addresses there is room for.
        limit: u32,
        /// Removed ones among them.
        lingering: usize,
    },
    /// Too many destinations.
    #[error(
        "no room for real server {address} of {service}: {limit} are in use, {lingering} of them removed ones that connections still refer to"
    )]
    TooManyDestinations {
        /// The service.
        service: ServiceKey,
        /// The real server.
        address: IpAddr,
        /// Destinations there is room for.
        limit: u32,
        /// Removed ones among them.
        lingering: usize,
    },
    /// The kernel's tables cannot be read.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// Indexes of everything in the kernel's tables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignments {
    #[serde(with = "indexmap::map::serde_seq")]
    services: IndexMap<ServiceKey, ServiceSlot>,
    #[serde(with = "indexmap::map::serde_seq")]
    destinations: IndexMap<(ServiceKey, DestinationKey), DestinationSlot>,
    /// Local addresses of full NAT, removed ones included.
    #[serde(default, with = "indexmap::map::serde_seq")]
    locals: IndexMap<IpAddr, LocalSlot>,
    /// What clients may send to by firewall marks, and could while destinations that are still known came to be.
    marked: BTreeSet<Prefix>,
}

impl Assignments {
    /// Services in the table's order.
    pub fn services(&self) -> impl ExactSizeIterator<Item = &ServiceSlot> {
        self.services.values()
    }

    /// One service.
    pub fn service(&self, key: &ServiceKey) -> Option<&ServiceSlot> {
        self.services.get(key)
    }

    /// Destinations, removed ones included.
    pub fn destinations(
        &self,
    ) -> impl ExactSizeIterator<Item = (&ServiceKey, &DestinationKey, &DestinationSlot)> {
        self.destinations.iter().map(|((service, key), slot)| (service, key, slot))
    }

    /// One destination, removed ones included.
    pub fn destination(
        &self,
        service: &ServiceKey,
        key: &DestinationKey,
    ) -> Option<&DestinationSlot> {
        self.destinations.get(&(*service, *key))
    }

    /// Virtual addresses of destinations, removed ones included, with [`FilterBits`] of the tables of their connections.
    pub(crate) fn virtual_addresses(&self) -> BTreeMap<IpAddr, u64> {
        let slots = self.destinations.iter();
        tables_of(slots.filter_map(|((key, _), slot)| Some((virtual_address(key)?, slot.tables))))
    }

    /// Real servers whose replies are rewritten, those of removed destinations included, with [`FilterBits`] of the tables of
    /// their connections.
    pub(crate) fn masqueraded_addresses(&self) -> BTreeMap<IpAddr, u64> {
        let masqueraded = self.destinations.iter().filter(|(_, slot)| slot.masqueraded);
        tables_of(masqueraded.map(|((_, key), slot)| (key.address, slot.tables)))
    }

    /// Masqueraded real servers in the table by address, port and protocol, with an index of theirs; those of a firewall
    /// mark are of every protocol (`ip_vs_has_real_service`). On all ports there is none.
    pub(crate) fn masqueraded_servers(&self) -> BTreeMap<(IpAddr, u16, u8), u32> {
        let present = self.destinations.iter().filter(|((_, key), slot)| {
            slot.present && slot.method == Method::Nat as u32 && key.port != 0
        });
        let of = |((service, key), slot): (&(ServiceKey, DestinationKey), &DestinationSlot)| {
            let protocols: &[Protocol] = match service {
                ServiceKey::Address { protocol, .. } => &[*protocol],
                ServiceKey::Fwmark { .. } => &[Protocol::Tcp, Protocol::Udp],
            };
            let (key, index) = (*key, slot.index);
            protocols
                .iter()
                .map(move |protocol| ((key.address, key.port, protocol.number()), index))
                .collect::<Vec<_>>()
        };
        present.flat_map(of).collect()
    }

    /// The assignments for another table: what stays keeps its index.
    ///
    /// # Errors
    ///
    /// [`AssignError`] if the table does not fit.
    pub fn for_table<B: Backend>(&self, table: &Table, backend: &B) -> Result<Self, AssignError> {
        let mut next = self.clone();
        for ((service, key), slot) in &mut next.destinations {
            let entry = table.service(service);
            let present = entry.is_some_and(|entry| entry.destination(key).is_some());
            if slot.present && !present {
                slot.idle_since = None;
            }
            slot.present = present;
            slot.orphan |= entry.is_none();
        }
        next.services.clear();
        let mut free_services = Free::new(self.services.values().map(|s| s.index));
        let mut free = Free::new(self.destinations.values().map(|d| d.index));
        next.place_locals(table, backend)?;
        for entry in table.services() {
            let service = entry.service();
            let known = self.services.get(&service.key);
            let mut pool = Vec::with_capacity(entry.destinations().len());
            for destination in entry.destinations() {
                let index = next.place(&service.key, destination, &mut free, backend)?;
                pool.push(pool_slot(known, index, destination));
            }
            let index = known.map_or_else(|| free_services.next(), |slot| slot.index);
            let word = backend.scheduler(index).map_or(0, Atomic64::load);
            let mode = Mode {
                scheduler: scheduler_number(service.scheduler),
                flags: flags(service, entry.destinations()),
                persistence: persistence(service),
                mh_entries: mh_entries(table.settings()),
                edits: entry.edits(),
            };
            let mut slot = schedule(known, service.key, index, mode, pool, SchedulerWord(word));
            slot.locals = next.locals_of(entry);
            slot.takes_ftp_data = takes_ftp_data(service, entry.destinations());
            next.services.insert(service.key, slot);
        }
        let current = marks::destinations(table);
        let lingers = next.destinations.keys().any(|(service, _)| is_marked(service));
        next.marked = if lingers { &next.marked | &current } else { current };
        Ok(next)
    }

    /// What clients may send to by firewall marks.
    pub(crate) const fn marked(&self) -> &BTreeSet<Prefix> {
        &self.marked
    }

    /// Index of a destination that is in the table.
    fn place<B: Backend>(
        &mut self,
        service: &ServiceKey,
        destination: &Destination,
        free: &mut Free,
        backend: &B,
    ) -> Result<u32, AssignError> {
        let method = match destination.method {
            ForwardingMethod::Nat => Method::Nat,
            ForwardingMethod::Dr => Method::Dr,
            ForwardingMethod::Tun(_) => Method::Tun,
            ForwardingMethod::FullNat => Method::FullNat,
        };
        let masqueraded = matches!(method, Method::Nat | Method::FullNat);
        let tables = tables(service, method);
        let tunnel = TunnelSlot::of(destination.method);
        let thresholds = (destination.upper_threshold, destination.lower_threshold);
        if let Some(slot) = self.destinations.get_mut(&(*service, destination.key)) {
            slot.method = method as u32;
            slot.tunnel = tunnel;
            slot.thresholds = thresholds;
            slot.masqueraded |= masqueraded;
            slot.tables |= tables;
            slot.present = true;
            slot.idle_since = None;
            if slot.orphan {
                slot.orphan = false;
                slot.baseline = backend.statistics(slot.index)?;
            }
            return Ok(slot.index);
        }
        let index = free.next();
        if index >= MAX_DESTINATIONS {
            let lingering = self.destinations.values().filter(|slot| !slot.present).count();
            return Err(AssignError::TooManyDestinations {
                service: *service,
                address: destination.key.address,
                limit: MAX_DESTINATIONS,
                lingering,
            });
        }
        let slot = DestinationSlot {
            index,
            method: method as u32,
            tunnel,
            thresholds,
            masqueraded,
            tables,
            present: true,
            orphan: false,
            idle_since: None,
            baseline: backend.statistics(index)?,
        };
        self.destinations.insert((*service, destination.key), slot);
        Ok(index)
    }

    /// Gives up the indexes of removed destinations that no connection has referred to for two minutes, and of removed local
    /// addresses that none uses; how many.
    /// `memories` are the persistence templates of each index, and what lblc and lblcr remember of it.
    ///
    /// # Errors
    ///
    /// [`BackendError`] if their statistics cannot be read.
    pub fn collect<B: Backend>(
        &mut self,
        backend: &B,
        memories: &HashMap<u32, u32>,
    ) -> Result<usize, BackendError> {
        let now = backend.now();
        let linger = linger_ticks(backend, now);
        let mut freed = Vec::new();
        for (key, slot) in &mut self.destinations {
            if slot.present {
                continue;
            }
            let load = backend.load(slot.index).map_or(0, Atomic64::load);
            let connections = DestinationLoad::total(load)
                + u64::from(memories.get(&slot.index).copied().unwrap_or_default());
            match slot.idle_since {
                _ if connections > 0 => slot.idle_since = None,
                None => slot.idle_since = Some(now.tick()),
                Some(since) if u64::from(now.idle(since)) >= linger => freed.push(*key),
                Some(_) => {}
            }
        }
        for key in &freed {
            let Some(slot) = self.destinations.shift_remove(key) else { continue };
            if slot.orphan {
                continue;
            }
            if let Some(service) = self.services.get_mut(&key.0) {
                let counted = since(&backend.statistics(slot.index)?, &slot.baseline);
                service.retired = sum(&service.retired, &counted);
            }
        }
        Ok(freed.len() + self.collect_locals(backend))
    }

    /// Statistics of every service: of its destinations, removed ones included.
    ///
    /// # Errors
    ///
    /// [`BackendError`] if they cannot be read.
    pub fn service_statistics<B: Backend>(
        &self,
        backend: &B,
    ) -> Result<HashMap<ServiceKey, Statistics>, BackendError> {
        let mut totals: HashMap<ServiceKey, Statistics> =
            self.services.values().map(|slot| (slot.key, slot.retired)).collect();
        for ((service, _), slot) in &self.destinations {
            if let Some(total) = totals.get_mut(service)
                && !slot.orphan
            {
                *total = sum(total, &since(&backend.statistics(slot.index)?, &slot.baseline));
            }
        }
        Ok(totals)
    }

    /// Starts the statistics of a service, or of all, again from 0 (`ipvsadm -Z`).
    ///
    /// # Errors
    ///
    /// [`BackendError`] if they cannot be read; then nothing was changed.
    pub fn zero<B: Backend>(
        &mut self,
        key: Option<&ServiceKey>,
        backend: &B,
    ) -> Result<(), BackendError> {
        let chosen = |service: &ServiceKey| key.is_none_or(|key| key == service);
        let mut next = self.clone();
        for ((service, _), slot) in &mut next.destinations {
            if chosen(service) {
                slot.baseline = backend.statistics(slot.index)?;
            }
        }
        for (service, slot) in &mut next.services {
            if chosen(service) {
                slot.retired = Statistics::default();
            }
        }
        *self = next;
        Ok(())
    }
}

/// [`FilterBits`] of the table of a service's connections to a destination by a method.
const fn tables(service: &ServiceKey, method: Method) -> u64 {
    match (service.family(), method) {
        (Family::Inet6, _) | (Family::Inet, Method::FullNat) => FilterBits::WIDE,
        (Family::Inet, Method::Nat | Method::Dr | Method::Tun) => FilterBits::NARROW,
    }
}

/// What a state was written with before there was another table.
const fn narrow_table() -> u64 {
    FilterBits::NARROW
}

/// Addresses, each with the bits of all that have it.
fn tables_of(addresses: impl Iterator<Item = (IpAddr, u64)>) -> BTreeMap<IpAddr, u64> {
    let mut found = BTreeMap::new();
    for (address, tables) in addresses {
        *found.entry(address).or_default() |= tables;
    }
    found
}

const fn is_marked(service: &ServiceKey) -> bool {
    matches!(service, ServiceKey::Fwmark { .. })
}

fn linger_ticks<B: Backend>(backend: &B, now: Now) -> u64 {
    let jiffies = LINGER_S * u64::from(backend.settings().jiffies_per_second);
    jiffies.div_ceil(1 << now.tick_shift)
}

/// A service's slot for its scheduling list; `word` is its scheduler word in the kernel's table.
fn schedule(
    known: Option<&ServiceSlot>,
    key: ServiceKey,
    index: u32,
    mode: Mode,
    pool: Vec<PoolSlot>,
    word: SchedulerWord,
) -> ServiceSlot {
    let Mode { scheduler, flags, persistence, mh_entries, edits } = mode;
    if let Some(known) = known
        && known.scheduler == scheduler
        && known.pool == pool
        && (known.edits == edits || scheduler != scheduler_id::WRR)
    {
        return ServiceSlot { flags, persistence, mh_entries, edits, ..known.clone() };
    }
    let parameters = wrr_parameters(pool.iter().map(|entry| entry.weight));
    let retired = known.map(|slot| slot.retired).unwrap_or_default();
    let old_tag = known.map_or_else(|| word.tag(), |slot| slot.tag);
    // Neither the tag in force nor the one that the word in the table still has.
    let mut tag = old_tag.wrapping_add(1);
    if tag == word.tag() {
        tag = tag.wrapping_add(1);
    }
    let indexes =
        |pool: &[PoolSlot]| pool.iter().map(|entry| entry.destination).collect::<Vec<_>>();
    let initial = match known {
        Some(known) if known.scheduler == scheduler => {
            let old = if word.tag() == known.tag { word } else { SchedulerWord(known.initial) };
            let (before, after) = (indexes(&known.pool), indexes(&pool));
            carry_over(scheduler, old, &before, &after, parameters, true, tag)
        }
        Some(_) | None => {
            carry_over(scheduler, SchedulerWord::default(), &[], &[], parameters, true, tag)
        }
    };
    let initial = initial.0;
    ServiceSlot {
        key,
        index,
        scheduler,
        flags,
        tag,
        initial,
        persistence,
        mh_entries,
        locals: Vec::new(),
        takes_ftp_data: false,
        edits,
        pool,
        retired,
    }
}

/// How a service's connections are scheduled, apart from its destinations.
#[derive(Clone, Copy)]
struct Mode {
    scheduler: u8,
    flags: u8,
    persistence: Option<PersistenceSlot>,
    mh_entries: u32,
    edits: u64,
}

/// The persistence engine.
pub(crate) const SIP_ENGINE: &str = "sip";

/// FTP's port: its control and data connections share a template.
pub(crate) const FTP: u16 = 21;

/// Whether a service takes the data connections of its FTP clients, too (`ip_vs_service_find`): they keep their port, so none
/// does by a method that rewrites it.
fn takes_ftp_data<'a>(
    service: &VirtualService,
    mut destinations: impl Iterator<Item = &'a Destination>,
) -> bool {
    let ftp = matches!(service.key, ServiceKey::Address { protocol: Protocol::Tcp, port: FTP, .. });
    let kept =
        |d: &Destination| matches!(d.method, ForwardingMethod::Dr | ForwardingMethod::Tun(_));
    ftp && service.persistence.is_some() && destinations.all(kept)
}

fn persistence(service: &VirtualService) -> Option<PersistenceSlot> {
    let timeout = service.persistence?.timeout;
    let shared = match service.key {
        ServiceKey::Address { port, .. } => port == 0 || port == FTP,
        ServiceKey::Fwmark { .. } => true,
    };
    Some(PersistenceSlot { timeout, mask: service.netmask, shared })
}

/// Entry of a scheduling list; `known` is its service before the change.
fn pool_slot(known: Option<&ServiceSlot>, index: u32, destination: &Destination) -> PoolSlot {
    let before = known.and_then(|slot| slot.pool.iter().find(|entry| entry.destination == index));
    let last_weight = match (destination.weight, before) {
        (0, Some(before)) => before.last_weight,
        (weight, _) => weight,
    };
    PoolSlot {
        destination: index,
        weight: destination.weight,
        last_weight,
        address: destination.key.address,
        port: destination.key.port,
    }
}

/// [`ServiceFlags`] of a service.
fn flags<'a>(
    service: &VirtualService,
    mut destinations: impl Iterator<Item = &'a Destination> + Clone,
) -> u8 {
    let full_nat = destinations.clone().any(|d| d.method == ForwardingMethod::FullNat);
    let thresholds = destinations.any(|destination| destination.upper_threshold != 0);
    scheduler_flags(service)
        | if full_nat { ServiceFlags::FULL_NAT } else { 0 }
        | if thresholds { ServiceFlags::THRESHOLDS } else { 0 }
        | if service.persistence.is_some() { ServiceFlags::PERSISTENT } else { 0 }
        | if service.one_packet { ServiceFlags::ONE_PACKET } else { 0 }
        | if goes_by_calls(service) { ServiceFlags::SIP } else { 0 }
}

/// Whether a service's templates go by Call-IDs; without persistence, the engine is not asked.
fn goes_by_calls(service: &VirtualService) -> bool {
    service.persistence.is_some() && service.engine.as_deref() == Some(SIP_ENGINE)
}

/// Those of its scheduler: they mean something to sh and mh only.
const fn scheduler_flags(service: &VirtualService) -> u8 {
    if !matches!(service.scheduler, Scheduler::Sh | Scheduler::Mh) {
        return 0;
    }
    let fallback = service.flags.0 & SchedulerFlags::FLAG_1 != 0;
    let port = service.flags.0 & SchedulerFlags::FLAG_2 != 0;
    (if fallback { ServiceFlags::FALLBACK } else { 0 })
        | (if port { ServiceFlags::PORT } else { 0 })
}

const fn scheduler_number(scheduler: Scheduler) -> u8 {
    match scheduler {
        Scheduler::Rr => scheduler_id::RR,
        Scheduler::Wrr => scheduler_id::WRR,
        Scheduler::Wlc => scheduler_id::WLC,
        Scheduler::Lc => scheduler_id::LC,
        Scheduler::Sed => scheduler_id::SED,
        Scheduler::Nq => scheduler_id::NQ,
        Scheduler::Fo => scheduler_id::FO,
        Scheduler::Ovf => scheduler_id::OVF,
        Scheduler::Dh => scheduler_id::DH,
        Scheduler::Sh => scheduler_id::SH,
        Scheduler::Mh => scheduler_id::MH,
        Scheduler::Twos => scheduler_id::TWOS,
        Scheduler::Lblc => scheduler_id::LBLC,
        Scheduler::Lblcr => scheduler_id::LBLCR,
    }
}

/// Indexes not in use, lowest first.
struct Free {
    used: BTreeSet<u32>,
    next: u32,
}

impl Free {
    fn new(used: impl Iterator<Item = u32>) -> Self {
        Self { used: used.collect(), next: 0 }
    }

    fn next(&mut self) -> u32 {
        while self.used.contains(&self.next) {
            self.next += 1;
        }
        let index = self.next;
        self.next += 1;
        index
    }
}

#[cfg(test)]
mod tests;
