//! The backend over the kernel's maps.
//!
//! **Invariant:** maps are pinned before they are used here, so dropping this changes nothing in the kernel.
//!
//! Called by [`crate::Director`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use aya::maps::{Array, ArrayOfMaps, HashMap, Map, MapData, MapError, MapInfo, PerCpuArray};
use aya::programs::{SchedClassifier, Xdp};
use aya_obj::generated::{BPF_F_MMAPABLE, bpf_map_type};
use aya_obj::programs::XdpAttachType;
use elvs_common::{
    BLOB_LINES, COUNTERS, Call, CallHash, Caller, Counter, DestinationRecord, FloodWord, Line,
    LocalPort, NextHop, SCTP_STATES, Settings, TCP_STATES, map_names, program_names,
    ticks_from_seconds,
};
use elvs_fastpath::{Bucket, FlowMemory, Local, PortSlot, WideBucket, WideMemory, WideWords};
use elvs_model::{Statistics, XdpMode};

use super::clock;
use super::link::{attach_egress, attach_program};
use super::mapping::Mapping;
use super::paths::{Paths, egress_pin, link_pin};
use super::pins;
use crate::backend::{AttachError, AttachedMode, Backend, BackendError, Now};
use crate::director::Director;
use crate::record::{RECORD_WORDS, from_words, to_words};

/// The data plane in the kernel.
pub type DataPlane = Director<Kernel>;

/// The kernel's tables.
pub struct Kernel {
    paths: Paths,
    flows: Mapping,
    wide: WideFlows,
    records: Mapping,
    loads: Mapping,
    schedulers: Mapping,
    settings: Mapping,
    flood: Mapping,
    config: ArrayOfMaps<MapData, MapData>,
    statistics: PerCpuArray<MapData, [u64; 5]>,
    counters: PerCpuArray<MapData, u64>,
    calls: HashMap<MapData, u64, [u64; Call::WORDS]>,
    callers: HashMap<MapData, Caller, u64>,
    director: Xdp,
    clock: Xdp,
    last_jiffies: AtomicU64,
    egress: SchedClassifier,
    local: Array<MapData, [u64; 2]>,
    attached: Attached,
    bytes: u64,
    /// Held for as long as this instance is served.
    _lock: File,
}

/// Interfaces that programs are attached to.
#[derive(Debug, Default)]
pub(super) struct Attached {
    /// The director's, by how it is.
    pub(super) links: BTreeMap<String, AttachedMode>,
    /// The one that looks at what they send.
    pub(super) egress: BTreeSet<String>,
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernel")
            .field("pins", &self.paths.pins)
            .field("attached", &self.attached)
            .finish_non_exhaustive()
    }
}

/// Buckets of a table for that many connections: half of its slots stay free, so nearly all lie in their home bucket.
pub(crate) const fn buckets_for(connections: u32) -> u32 {
    let buckets = connections.div_ceil(2);
    if buckets < 8 { 8 } else { buckets }
}

/// Connections of the wide table beside one for that many, if nothing else is said.
pub(crate) const fn wide_for(connections: u32) -> u32 {
    let wide = connections / 4;
    if wide == 0 { 1 } else { wide }
}

/// Settings of new tables, with IPVS's timeouts.
pub(crate) fn settings_for(
    connections: u32,
    wide_connections: u32,
    locals: u32,
    jiffies_per_second: u32,
    tick_shift: u32,
    seed: [u64; 2],
) -> Settings {
    let ticks = |seconds| ticks_from_seconds(seconds, jiffies_per_second, tick_shift);
    let mut tcp_timeouts = [0; 16];
    for (timeout, seconds) in tcp_timeouts.iter_mut().zip(Settings::TCP_SECONDS) {
        *timeout = ticks(seconds);
    }
    let mut sctp_timeouts = [0; 16];
    for (timeout, seconds) in sctp_timeouts.iter_mut().zip(Settings::SCTP_SECONDS) {
        *timeout = ticks(seconds);
    }
    const { assert!(TCP_STATES <= 16 && SCTP_STATES <= 16) };
    Settings {
        tcp_timeouts,
        udp_timeout: ticks(Settings::UDP_SECONDS),
        buckets: buckets_for(connections),
        jiffies_per_second,
        tick_shift,
        connections,
        flags: 0,
        wide_buckets: buckets_for(wide_connections),
        wide_connections,
        locals,
        pad: 0,
        seed,
        sctp_timeouts,
        drop_rate: 0,
        flood_threshold: 0,
    }
}

/// Why pinned tables could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {reason}")]
pub(super) struct TableError {
    pub(super) name: String,
    pub(super) reason: String,
}

fn table_error(name: &str) -> impl Fn(&dyn std::fmt::Display) -> TableError + '_ {
    move |reason| TableError { name: name.to_owned(), reason: reason.to_string() }
}

impl Kernel {
    /// Opens the tables pinned in `directory`.
    pub(super) fn open(
        directory: &Path,
        paths: Paths,
        lock: File,
        attached: Attached,
    ) -> Result<Self, TableError> {
        let program = |name: &'static str| {
            Xdp::from_pin(directory.join(name), XdpAttachType::Interface)
                .map_err(|error| table_error(name)(&error))
        };
        let config = map_of(directory, map_names::CONFIG)?;
        let statistics = map_of(directory, map_names::STATS)?;
        let counters = map_of(directory, map_names::COUNTERS)?;
        let local = map_of(directory, map_names::LOCAL)?;
        let calls = map_of(directory, map_names::CALLS)?;
        let callers = map_of(directory, map_names::CALLERS)?;
        let egress = SchedClassifier::from_pin(directory.join(program_names::EGRESS))
            .map_err(|error| table_error(program_names::EGRESS)(&error))?;
        let map_error = |name| move |error: MapError| table_error(name)(&error);
        let bytes = bytes_of_maps(directory)?;
        let clock = program(program_names::CLOCK)?;
        let now =
            clock::jiffies(&clock).map_err(|error| table_error(program_names::CLOCK)(&error))?;
        Ok(Self {
            flows: mapped(directory, map_names::FLOWS)?,
            wide: WideFlows {
                flows: mapped(directory, map_names::WIDE_FLOWS)?,
                locals: mapped(directory, map_names::LOCALS)?,
                ports: mapped(directory, map_names::PORTS)?,
            },
            records: mapped(directory, map_names::DESTINATIONS)?,
            loads: mapped(directory, map_names::LOADS)?,
            schedulers: mapped(directory, map_names::SCHEDULERS)?,
            settings: mapped(directory, map_names::SETTINGS)?,
            flood: mapped(directory, map_names::FLOOD)?,
            config: config.try_into().map_err(map_error(map_names::CONFIG))?,
            statistics: statistics.try_into().map_err(map_error(map_names::STATS))?,
            counters: counters.try_into().map_err(map_error(map_names::COUNTERS))?,
            local: local.try_into().map_err(map_error(map_names::LOCAL))?,
            calls: calls.try_into().map_err(map_error(map_names::CALLS))?,
            callers: callers.try_into().map_err(map_error(map_names::CALLERS))?,
            egress,
            director: program(program_names::DIRECTOR)?,
            clock,
            last_jiffies: AtomicU64::new(now),
            attached,
            bytes,
            paths,
            _lock: lock,
        })
    }

    /// Settings pinned in a directory.
    pub(super) fn settings_at(directory: &Path) -> Result<Settings, TableError> {
        Ok(read_settings(&mapped(directory, map_names::SETTINGS)?))
    }

    /// Writes the settings pinned in a directory, all of them.
    pub(super) fn write_settings_at(
        directory: &Path,
        settings: &Settings,
    ) -> Result<(), TableError> {
        write_settings(&mapped(directory, map_names::SETTINGS)?, settings);
        Ok(())
    }

    fn remove_link(&mut self, interface: &str, mode: AttachedMode) -> io::Result<()> {
        let pin = link_pin(&self.paths.pins, mode, interface);
        pins::remove_link(&pin)?;
        self.attached.links.remove(interface);
        Ok(())
    }
}

fn map_of(directory: &Path, name: &str) -> Result<Map, TableError> {
    let error = table_error(name);
    let data = MapData::from_pin(directory.join(name)).map_err(|e| error(&e))?;
    Map::from_map_data(data).map_err(|e| error(&e))
}

/// Maps all elements of an array.
fn mapped(directory: &Path, name: &str) -> Result<Mapping, TableError> {
    let error = table_error(name);
    let map = MapData::from_pin(directory.join(name)).map_err(|e| error(&e))?;
    let info = map.info().map_err(|e| error(&e))?;
    let element = usize::try_from(info.value_size()).unwrap_or(usize::MAX).next_multiple_of(8);
    let entries = usize::try_from(info.max_entries()).unwrap_or(usize::MAX);
    let bytes = element.checked_mul(entries).and_then(NonZeroUsize::new);
    let bytes = bytes.ok_or_else(|| error(&"the map has no size"))?;
    Mapping::new(map.fd(), bytes).map_err(|e| error(&e))
}

/// Memory of the pinned maps and of the blob in force.
fn bytes_of_maps(directory: &Path) -> Result<u64, TableError> {
    let cpus = aya::util::nr_cpus().map_or(1, |cpus| u64::try_from(cpus).unwrap_or(1));
    let blob = u64::try_from(BLOB_LINES * size_of::<Line>()).unwrap_or(0);
    let mut total = blob;
    for name in map_names::ALL {
        let info = MapInfo::from_pin(directory.join(name)).map_err(|e| table_error(name)(&e))?;
        let per_cpu = matches!(info.map_type(), Ok(aya::maps::MapType::PerCpuArray));
        // A hash table takes room for what is in it.
        let hash = matches!(info.map_type(), Ok(aya::maps::MapType::Hash));
        let copies = match (hash, per_cpu) {
            (true, _) => 0,
            (false, true) => cpus,
            (false, false) => 1,
        };
        let element = u64::from(info.value_size()).next_multiple_of(8);
        total += element * u64::from(info.max_entries()) * copies;
    }
    Ok(total)
}

fn settings_words(settings: &Settings) -> impl Iterator<Item = u32> {
    let [first, second] = settings.seed;
    let halves = |word: u64| {
        let [a, b, c, d, e, f, g, h] = word.to_ne_bytes();
        [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])]
    };
    settings
        .tcp_timeouts
        .into_iter()
        .chain([
            settings.udp_timeout,
            settings.buckets,
            settings.jiffies_per_second,
            settings.tick_shift,
            settings.connections,
            settings.flags,
            settings.wide_buckets,
            settings.wide_connections,
            settings.locals,
            settings.pad,
        ])
        .chain(halves(first))
        .chain(halves(second))
        .chain(settings.sctp_timeouts)
        .chain([settings.drop_rate, settings.flood_threshold])
}

fn settings_of(mut words: impl Iterator<Item = u32>) -> Settings {
    let mut next = || words.next().unwrap_or_default();
    let mut tcp_timeouts = [0; 16];
    for timeout in &mut tcp_timeouts {
        *timeout = next();
    }
    let (udp_timeout, buckets, jiffies_per_second) = (next(), next(), next());
    let (tick_shift, connections, flags) = (next(), next(), next());
    let (wide_buckets, wide_connections) = (next(), next());
    let (locals, pad) = (next(), next());
    let mut seed = [0; 2];
    for word in &mut seed {
        let [a, b, c, d] = next().to_ne_bytes();
        let [e, f, g, h] = next().to_ne_bytes();
        *word = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
    }
    let mut sctp_timeouts = [0; 16];
    for timeout in &mut sctp_timeouts {
        *timeout = next();
    }
    Settings {
        tcp_timeouts,
        udp_timeout,
        buckets,
        jiffies_per_second,
        tick_shift,
        connections,
        flags,
        wide_buckets,
        wide_connections,
        locals,
        pad,
        seed,
        sctp_timeouts,
        drop_rate: next(),
        flood_threshold: next(),
    }
}

fn read_settings(memory: &Mapping) -> Settings {
    settings_of(memory.slice::<AtomicU32>().iter().map(|word| word.load(Ordering::Acquire)))
}

fn write_settings(memory: &Mapping, settings: &Settings) {
    for (word, value) in memory.slice::<AtomicU32>().iter().zip(settings_words(settings)) {
        word.store(value, Ordering::Release);
    }
}

fn refused(what: impl Into<String>) -> impl FnOnce(MapError) -> BackendError {
    let what = what.into();
    move |error| BackendError { what, source: io::Error::other(error) }
}

fn element<T>(values: &[T], index: u32) -> Option<&T> {
    values.get(usize::try_from(index).ok()?)
}

impl FlowMemory for Kernel {
    type Word = AtomicU64;
    type Addresses = AtomicU64;

    #[inline]
    fn bucket(&self, index: u32) -> Option<&Bucket<AtomicU64>> {
        element(self.flows.slice(), index)
    }
}

/// The wide flow table.
#[derive(Debug)]
pub struct WideFlows {
    flows: Mapping,
    locals: Mapping,
    ports: Mapping,
}

impl FlowMemory for WideFlows {
    type Word = AtomicU64;
    type Addresses = WideWords<AtomicU64>;

    #[inline]
    fn bucket(&self, index: u32) -> Option<&WideBucket<AtomicU64>> {
        element(self.flows.slice(), index)
    }
}

impl WideMemory for WideFlows {
    fn local(&self, index: u32) -> Option<&Local<AtomicU64>> {
        element(self.locals.slice(), index)
    }

    fn port(&self, index: u32) -> Option<&PortSlot<AtomicU64>> {
        element(self.ports.slice(), index)
    }
}

impl Backend for Kernel {
    type Wide = WideFlows;

    fn wide(&self) -> &WideFlows {
        &self.wide
    }

    fn now(&self) -> Now {
        // If the program cannot run, time stands still: nothing expires early.
        let jiffies = match clock::jiffies(&self.clock) {
            Ok(jiffies) => jiffies,
            Err(_) => self.last_jiffies.load(Ordering::Relaxed),
        };
        self.last_jiffies.store(jiffies, Ordering::Relaxed);
        Now { jiffies, tick_shift: self.settings().tick_shift }
    }

    fn settings(&self) -> Settings {
        read_settings(&self.settings)
    }

    fn write_settings(&mut self, settings: &Settings) {
        let new = Settings {
            tcp_timeouts: settings.tcp_timeouts,
            udp_timeout: settings.udp_timeout,
            sctp_timeouts: settings.sctp_timeouts,
            flags: settings.flags,
            drop_rate: settings.drop_rate,
            flood_threshold: settings.flood_threshold,
            ..self.settings()
        };
        write_settings(&self.settings, &new);
    }

    fn flood(&self) -> FloodWord {
        let word = element(self.flood.slice::<AtomicU64>(), 0);
        FloodWord(word.map_or(0, |word| word.load(Ordering::Acquire)))
    }

    fn load(&self, index: u32) -> Option<&AtomicU64> {
        element(self.loads.slice(), index)
    }

    fn scheduler(&self, index: u32) -> Option<&AtomicU64> {
        element(self.schedulers.slice(), index)
    }

    fn record(&self, index: u32) -> Option<DestinationRecord> {
        let words: &[[AtomicU64; RECORD_WORDS]] = self.records.slice::<AtomicU64>().as_chunks().0;
        Some(from_words(element(words, index)?.each_ref().map(|w| w.load(Ordering::Acquire))))
    }

    fn write_record(&mut self, index: u32, record: &DestinationRecord) {
        let words: &[[AtomicU64; RECORD_WORDS]] = self.records.slice::<AtomicU64>().as_chunks().0;
        let Some([first, rest @ ..]) = element(words, index) else { return };
        let [selector, values @ ..] = to_words(record);
        for (word, value) in rest.iter().zip(values) {
            word.store(value, Ordering::Release);
        }
        first.store(selector, Ordering::Release);
    }

    fn swap_blob(&mut self, lines: &[Line]) -> Result<(), BackendError> {
        let entries = u32::try_from(BLOB_LINES).unwrap_or(u32::MAX);
        let value = u32::try_from(size_of::<Line>()).unwrap_or(u32::MAX);
        let kind = bpf_map_type::BPF_MAP_TYPE_ARRAY as u32;
        let map = aya_obj::Map::new_from_params(kind, 4, value, entries, BPF_F_MMAPABLE);
        let map = MapData::create(map, "ELVS_BLOB", None)
            .map_err(refused("making a configuration blob"))?;
        let bytes = const { NonZeroUsize::new(BLOB_LINES * size_of::<Line>()).expect("above 0") };
        let memory = Mapping::new(map.fd(), bytes).map_err(|source| BackendError {
            what: "mapping a configuration blob".to_owned(),
            source,
        })?;
        let words = lines.iter().flat_map(|line| line.0);
        for (word, value) in memory.slice::<AtomicU64>().iter().zip(words) {
            word.store(value, Ordering::Relaxed);
        }
        self.config.set(0, &map, 0).map_err(refused("putting a configuration blob in force"))
    }

    fn statistics(&self, index: u32) -> Result<Statistics, BackendError> {
        let values = self
            .statistics
            .get(&index, 0)
            .map_err(refused(format!("reading statistics of destination {index}")))?;
        let mut total = Statistics::default();
        for [connections, in_packets, out_packets, in_bytes, out_bytes] in values.iter().copied() {
            let cpu = Statistics { connections, in_packets, out_packets, in_bytes, out_bytes };
            total = crate::statistics::sum(&total, &cpu);
        }
        Ok(total)
    }

    fn counter(&self, counter: Counter) -> Result<u64, BackendError> {
        const { assert!(COUNTERS <= u32::MAX as usize) };
        let values = self
            .counters
            .get(&(counter as u32), 0)
            .map_err(refused(format!("reading counter {}", counter.name())))?;
        Ok(values.iter().fold(0, |total: u64, value| total.wrapping_add(*value)))
    }

    fn call(&self, hash: CallHash) -> Option<Call> {
        self.calls.get(&hash.0, 0).ok().map(|words| Call::of_words(&words))
    }

    fn calls(&self) -> Vec<CallHash> {
        // Only the daemon removes keys, so the walk ends; what it misses is found the next time.
        self.calls.keys().filter_map(Result::ok).map(CallHash).collect()
    }

    fn forget_call(&mut self, hash: CallHash) {
        // One that is gone already is what was wanted.
        let _ = self.calls.remove(&hash.0);
    }

    fn call_of(&self, caller: &Caller) -> Option<CallHash> {
        self.callers.get(caller, 0).ok().map(CallHash)
    }

    fn callers(&self) -> Vec<Caller> {
        self.callers.keys().filter_map(Result::ok).collect()
    }

    fn forget_caller(&mut self, caller: &Caller) {
        // As above.
        let _ = self.callers.remove(caller);
    }

    fn memory_bytes(&self) -> u64 {
        self.bytes
    }

    fn attach(&mut self, interface: &str, mode: XdpMode) -> Result<AttachedMode, AttachError> {
        if let Some(mode) = self.attached.links.get(interface) {
            return Ok(*mode);
        }
        let attachment = attach_program(&mut self.director, interface, mode)?;
        let path = link_pin(&self.paths.pins, attachment.mode, interface);
        attachment.link.pin(&path).map_err(|error| AttachError::Pin {
            interface: interface.to_owned(),
            path: path.display().to_string(),
            reason: error.to_string(),
        })?;
        self.attached.links.insert(interface.to_owned(), attachment.mode);
        Ok(attachment.mode)
    }

    fn detach(&mut self, interface: &str) -> Result<(), BackendError> {
        let Some(mode) = self.attached.links.get(interface).copied() else { return Ok(()) };
        self.remove_link(interface, mode)
            .map_err(|source| BackendError { what: format!("detaching from {interface}"), source })
    }

    fn attached(&self) -> Vec<(String, AttachedMode)> {
        self.attached.links.iter().map(|(name, mode)| (name.clone(), *mode)).collect()
    }

    fn set_local_hop(&mut self, port: LocalPort, hop: &NextHop) -> Result<(), BackendError> {
        let [[a, b, c, d], [e, f, g, h]] = [hop.second, hop.ifindex].map(u32::to_ne_bytes);
        let words = [hop.first, u64::from_ne_bytes([a, b, c, d, e, f, g, h])];
        self.local
            .set(port as u32, words, 0)
            .map_err(refused("writing the way between stack and director"))
    }

    fn attach_egress(&mut self, interface: &str) -> Result<(), AttachError> {
        if self.attached.egress.contains(interface) {
            return Ok(());
        }
        let link = attach_egress(&mut self.egress, interface)?;
        let path = egress_pin(&self.paths.pins, interface);
        link.pin(&path).map_err(|error| AttachError::Pin {
            interface: interface.to_owned(),
            path: path.display().to_string(),
            reason: error.to_string(),
        })?;
        self.attached.egress.insert(interface.to_owned());
        Ok(())
    }

    fn detach_egress(&mut self, interface: &str) -> Result<(), BackendError> {
        if self.attached.egress.contains(interface) {
            pins::remove_link(&egress_pin(&self.paths.pins, interface)).map_err(|source| {
                BackendError { what: format!("detaching from what {interface} sends"), source }
            })?;
            self.attached.egress.remove(interface);
        }
        Ok(())
    }

    fn attached_egress(&self) -> Vec<String> {
        self.attached.egress.iter().cloned().collect()
    }

    fn teardown(&mut self) -> Result<(), BackendError> {
        let mut first = Ok(());
        for interface in self.attached_egress() {
            let detached = self.detach_egress(&interface);
            first = first.and(detached);
        }
        for (interface, _) in self.attached() {
            let detached = self.detach(&interface);
            first = first.and(detached);
        }
        let removed = pins::remove_all(&self.paths.pins).and_then(|()| {
            // Other layouts' pins were removed when this one's were made.
            match fs::remove_dir(&self.paths.instance) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                Ok(()) | Err(_) => Ok(()),
            }
        });
        let removed = removed.map_err(|source| BackendError {
            what: format!("removing the pins in {}", self.paths.pins.display()),
            source,
        });
        first.and(removed)
    }
}
