//! A director whose tables are plain memory: for tests of the upper half and for simulations.
//!
//! **Invariant:** packets go through the very decision core that runs in the kernel ([`elvs_fastpath::process`]), over
//! tables that the very code of the real data plane wrote; only clock, routes and interfaces are made up.
//!
//! Called by tests of this crate and of the daemon, and by `elvs simulate`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use elvs_common::{
    BLOB_LINES, CALLS, COUNTERS, Call, CallHash, Caller, Counter, DestinationRecord,
    DestinationStats, FloodWord, LOCAL_PORTS, Line, LocalPort, MAX_DESTINATIONS, MAX_SERVICES,
    NOTES, NextHop, Settings, TAIL_BUCKETS, WideAddress,
};
use elvs_fastpath::{
    Bucket, ClientHop, FlowMemory, Fragment, FragmentKey, Frame, Host, Local, Note, PortSlot,
    Verdict, WideBucket, WideFragment, WideFragmentKey, WideMemory, WideWords, process,
};
use elvs_model::{Statistics, XdpMode};

use crate::backend::{AttachError, AttachedMode, Backend, BackendError, Now};
use crate::director::Director;
use crate::kernel::{buckets_for, settings_for, wide_for};
use crate::sweep::Pass;

/// Jiffies a second of the made-up clock.
const JIFFIES_PER_SECOND: u32 = 1_000;
/// Its tick: 64 ms.
const TICK_SHIFT: u32 = 6;
/// Jiffies at which the clock starts: some days after boot.
const START: u64 = 1 << 28;
/// Local addresses of full NAT there is room for if nothing else is said.
const LOCALS: u32 = 2;
/// Secret of its flow hash; fixed, so that a test fails the same way twice.
const SEED: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];

/// A data plane in plain memory.
pub type FakePlane = Director<Heap>;

impl FakePlane {
    /// A data plane without services for that many connections. Every interface that is asked for exists and has native
    /// XDP.
    pub fn for_connections(connections: u32) -> Self {
        Self::new(Heap::new(connections), None)
    }

    /// The same with room for that many connections in each of the two tables, and for that many local addresses of full
    /// NAT.
    pub fn with_room(connections: u32, locals: u32) -> Self {
        Self::new(Heap::with_room(connections, connections, locals), None)
    }

    /// Ends what a pass over the whole table would end so many ticks from now if no packet came until then. Totals of
    /// the pass.
    pub fn sweep_ahead(&mut self, ticks: u32) -> Pass {
        loop {
            let buckets = self.backend().settings.buckets;
            if let Some(pass) = self.sweep_slice(buckets, ticks).pass {
                return pass;
            }
        }
    }

    /// Runs a frame through the decision core.
    pub fn process(&self, frame: &mut MemoryFrame) -> Verdict {
        process(self.backend(), frame)
    }
}

/// Tables in plain memory.
#[derive(Debug)]
pub struct Heap {
    flows: Vec<Bucket<AtomicU64>>,
    wide: WideFlows,
    lines: Vec<Line>,
    records: Vec<DestinationRecord>,
    loads: Vec<AtomicU64>,
    schedulers: Vec<AtomicU64>,
    statistics: Vec<[AtomicU64; 5]>,
    counters: Vec<AtomicU64>,
    settings: Settings,
    jiffies: AtomicU64,
    clients: Mutex<BTreeMap<WideAddress, NextHop>>,
    attached: BTreeMap<String, AttachedMode>,
    egress: BTreeSet<String>,
    refuses_swaps: bool,
    random: AtomicU64,
    notes: [AtomicU64; NOTES],
    flood: AtomicU64,
    fragments: Mutex<BTreeMap<FragmentKey, Fragment>>,
    wide_fragments: Mutex<BTreeMap<WideFragmentKey, WideFragment>>,
    calls: Mutex<Calls>,
}

/// What is kept of Call-IDs.
#[derive(Debug)]
struct Calls {
    draft: [u8; 256],
    kept: BTreeMap<u64, Call>,
    callers: BTreeMap<Caller, CallHash>,
}

/// Keeps something in a table as large as the programs'; false if it is full.
fn keep<K: Ord, V>(kept: &mut BTreeMap<K, V>, key: K, value: V) -> bool {
    let there = kept.len() < CALLS as usize || kept.contains_key(&key);
    if there {
        kept.insert(key, value);
    }
    there
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn words(count: u32) -> Vec<AtomicU64> {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

fn at<T>(values: &[T], index: u32) -> Option<&T> {
    values.get(usize::try_from(index).ok()?)
}

impl Heap {
    /// Tables for that many connections.
    pub fn new(connections: u32) -> Self {
        Self::with_room(connections, wide_for(connections), LOCALS)
    }

    fn with_room(connections: u32, wide_connections: u32, locals: u32) -> Self {
        let buckets = buckets_for(connections);
        let wide_buckets = buckets_for(wide_connections);
        let lines = usize::try_from(MAX_DESTINATIONS).unwrap_or(0);
        Self {
            flows: (0..buckets + TAIL_BUCKETS).map(|_| Bucket::default()).collect(),
            wide: WideFlows {
                flows: (0..wide_buckets + TAIL_BUCKETS).map(|_| Bucket::default()).collect(),
                locals: (0..locals).map(|_| Local::default()).collect(),
                ports: (0..locals.saturating_mul(LOCAL_PORTS))
                    .map(|_| PortSlot::default())
                    .collect(),
            },
            lines: Vec::new(),
            records: vec![DestinationRecord::default(); lines],
            loads: words(MAX_DESTINATIONS),
            schedulers: words(MAX_SERVICES),
            statistics: (0..MAX_DESTINATIONS).map(|_| <[AtomicU64; 5]>::default()).collect(),
            counters: (0..COUNTERS).map(|_| AtomicU64::new(0)).collect(),
            settings: settings_for(
                connections,
                wide_connections,
                locals,
                JIFFIES_PER_SECOND,
                TICK_SHIFT,
                SEED,
            ),
            jiffies: AtomicU64::new(START),
            clients: Mutex::default(),
            attached: BTreeMap::new(),
            egress: BTreeSet::new(),
            refuses_swaps: false,
            random: AtomicU64::new(0),
            notes: Default::default(),
            flood: AtomicU64::new(0),
            fragments: Mutex::default(),
            wide_fragments: Mutex::default(),
            calls: Mutex::new(Calls {
                draft: [0; 256],
                kept: BTreeMap::new(),
                callers: BTreeMap::new(),
            }),
        }
    }

    /// Refuses configuration blobs from now on, as the kernel does without memory, or takes them again.
    pub const fn refuse_swaps(&mut self, refuse: bool) {
        self.refuses_swaps = refuse;
    }

    /// Starts the random numbers that schedulers draw anew; without this they are those of seed 0.
    pub fn seed_random(&self, seed: u64) {
        self.random.store(seed, Ordering::Relaxed);
    }

    /// Lets time pass.
    pub fn advance_seconds(&self, seconds: u32) {
        self.advance_jiffies(u64::from(seconds) * u64::from(JIFFIES_PER_SECOND));
    }

    /// Lets time pass; a jiffy is a millisecond.
    pub fn advance_jiffies(&self, jiffies: u64) {
        self.jiffies.fetch_add(jiffies, Ordering::AcqRel);
    }
}

impl FlowMemory for Heap {
    type Word = AtomicU64;
    type Addresses = AtomicU64;

    fn bucket(&self, index: u32) -> Option<&Bucket<AtomicU64>> {
        at(&self.flows, index)
    }
}

/// The wide flow table in plain memory.
#[derive(Debug)]
pub struct WideFlows {
    flows: Vec<WideBucket<AtomicU64>>,
    locals: Vec<Local<AtomicU64>>,
    ports: Vec<PortSlot<AtomicU64>>,
}

impl WideMemory for WideFlows {
    fn local(&self, index: u32) -> Option<&Local<AtomicU64>> {
        at(&self.locals, index)
    }

    fn port(&self, index: u32) -> Option<&PortSlot<AtomicU64>> {
        at(&self.ports, index)
    }
}

impl FlowMemory for WideFlows {
    type Word = AtomicU64;
    type Addresses = WideWords<AtomicU64>;

    fn bucket(&self, index: u32) -> Option<&WideBucket<AtomicU64>> {
        at(&self.flows, index)
    }
}

impl Host for Heap {
    type Wide = WideFlows;

    fn wide(&self) -> &WideFlows {
        &self.wide
    }

    fn wide_buckets(&self) -> u32 {
        self.settings.wide_buckets
    }

    fn tick(&self) -> u32 {
        Backend::now(self).tick()
    }

    fn buckets(&self) -> u32 {
        self.settings.buckets
    }

    fn seed(&self) -> [u64; 2] {
        self.settings.seed
    }

    fn line(&self, index: u32) -> Option<&Line> {
        static ZERO: Line = Line([0; 8]);
        let past = usize::try_from(index).is_ok_and(|index| index < BLOB_LINES);
        at(&self.lines, index).or_else(|| past.then_some(&ZERO))
    }

    fn destination(&self, index: u32) -> Option<&DestinationRecord> {
        at(&self.records, index)
    }

    fn load(&self, index: u32) -> Option<&AtomicU64> {
        at(&self.loads, index)
    }

    fn scheduler(&self, index: u32) -> Option<&AtomicU64> {
        at(&self.schedulers, index)
    }

    fn add_stats(&self, index: u32, added: DestinationStats) {
        let values = [
            added.connections,
            added.in_packets,
            added.out_packets,
            added.in_bytes,
            added.out_bytes,
        ];
        for (word, value) in at(&self.statistics, index).into_iter().flatten().zip(values) {
            word.fetch_add(value, Ordering::Relaxed);
        }
    }

    fn random(&self) -> u32 {
        // splitmix64: the state is a counter, so that drawing is one addition.
        let drawn = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mixed = (drawn ^ drawn >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) >> 32) as u32
    }

    fn note(&self, note: Note, value: u64) {
        if let Some(word) = self.notes.get(note as usize) {
            word.store(value, Ordering::Relaxed);
        }
    }

    fn noted(&self, note: Note) -> u64 {
        self.notes.get(note as usize).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    fn remember_fragment(&self, key: &FragmentKey, fragment: &Fragment) {
        let mut fragments = self.fragments.lock().unwrap_or_else(PoisonError::into_inner);
        fragments.insert(*key, *fragment);
    }

    fn fragment(&self, key: &FragmentKey) -> Fragment {
        let fragments = self.fragments.lock().unwrap_or_else(PoisonError::into_inner);
        fragments.get(key).copied().unwrap_or(Fragment::NONE)
    }

    fn remember_wide_fragment(&self, key: &WideFragmentKey, fragment: &WideFragment) {
        let mut fragments = self.wide_fragments.lock().unwrap_or_else(PoisonError::into_inner);
        fragments.insert(*key, *fragment);
    }

    fn wide_fragment(&self, key: &WideFragmentKey) -> WideFragment {
        let fragments = self.wide_fragments.lock().unwrap_or_else(PoisonError::into_inner);
        fragments.get(key).copied().unwrap_or(WideFragment::NONE)
    }

    fn knows_call(&self, hash: CallHash) -> bool {
        lock(&self.calls).kept.contains_key(&hash.0)
    }

    fn draft_call(&self, index: u32, byte: u8) {
        let mut calls = lock(&self.calls);
        let place = usize::try_from(index).ok().and_then(|index| calls.draft.get_mut(index));
        if let Some(place) = place {
            *place = byte;
        }
    }

    fn keep_call(&self, hash: CallHash, client: WideAddress, length: u64) -> bool {
        let mut calls = lock(&self.calls);
        let id = calls.draft;
        keep(&mut calls.kept, hash.0, Call { client, length, id })
    }

    fn keep_caller(&self, caller: &Caller, hash: CallHash) -> bool {
        keep(&mut lock(&self.calls).callers, *caller, hash)
    }

    fn settings(&self) -> u32 {
        self.settings.flags
    }

    fn drop_rate(&self) -> u32 {
        self.settings.drop_rate
    }

    fn timeout(&self, protocol: u8, state: u8) -> u32 {
        self.settings.timeout(protocol, state)
    }

    fn flood_threshold(&self) -> u32 {
        self.settings.flood_threshold
    }

    fn flood_word(&self) -> Option<&AtomicU64> {
        Some(&self.flood)
    }

    fn count(&self, counter: Counter) {
        if let Some(word) = at(&self.counters, counter as u32) {
            word.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn client_hop(&self, client: u32, learned: Option<NextHop>) -> ClientHop {
        self.wide_client_hop(WideAddress::of_v4(client), learned)
    }

    fn wide_client_hop(&self, client: WideAddress, learned: Option<NextHop>) -> ClientHop {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hop) = learned {
            clients.insert(client, hop);
        }
        clients.get(&client).map_or(ClientHop::Unknown, |hop| ClientHop::Known(*hop))
    }

    fn route(&self, _address: u32) -> Option<NextHop> {
        None
    }

    fn wide_route(&self, _address: WideAddress) -> Option<NextHop> {
        None
    }
}

impl Backend for Heap {
    type Wide = WideFlows;

    fn wide(&self) -> &WideFlows {
        &self.wide
    }

    fn now(&self) -> Now {
        Now { jiffies: self.jiffies.load(Ordering::Acquire), tick_shift: self.settings.tick_shift }
    }

    fn settings(&self) -> Settings {
        self.settings
    }

    fn write_settings(&mut self, settings: &Settings) {
        self.settings.tcp_timeouts = settings.tcp_timeouts;
        self.settings.udp_timeout = settings.udp_timeout;
        self.settings.sctp_timeouts = settings.sctp_timeouts;
        self.settings.flags = settings.flags;
        self.settings.drop_rate = settings.drop_rate;
        self.settings.flood_threshold = settings.flood_threshold;
    }

    fn flood(&self) -> FloodWord {
        FloodWord(self.flood.load(Ordering::Relaxed))
    }

    fn load(&self, index: u32) -> Option<&AtomicU64> {
        Host::load(self, index)
    }

    fn scheduler(&self, index: u32) -> Option<&AtomicU64> {
        Host::scheduler(self, index)
    }

    fn record(&self, index: u32) -> Option<DestinationRecord> {
        at(&self.records, index).copied()
    }

    fn write_record(&mut self, index: u32, record: &DestinationRecord) {
        let Ok(index) = usize::try_from(index) else { return };
        if let Some(old) = self.records.get_mut(index) {
            *old = *record;
        }
    }

    fn swap_blob(&mut self, lines: &[Line]) -> Result<(), BackendError> {
        if self.refuses_swaps {
            return Err(BackendError {
                what: "making a configuration blob".to_owned(),
                source: std::io::ErrorKind::OutOfMemory.into(),
            });
        }
        self.lines = lines.to_vec();
        Ok(())
    }

    fn statistics(&self, index: u32) -> Result<Statistics, BackendError> {
        let Some([connections, in_packets, out_packets, in_bytes, out_bytes]) =
            at(&self.statistics, index)
        else {
            return Ok(Statistics::default());
        };
        let value = |word: &AtomicU64| word.load(Ordering::Relaxed);
        Ok(Statistics {
            connections: value(connections),
            in_packets: value(in_packets),
            out_packets: value(out_packets),
            in_bytes: value(in_bytes),
            out_bytes: value(out_bytes),
        })
    }

    fn counter(&self, counter: Counter) -> Result<u64, BackendError> {
        Ok(at(&self.counters, counter as u32).map_or(0, |word| word.load(Ordering::Relaxed)))
    }

    fn call(&self, hash: CallHash) -> Option<Call> {
        lock(&self.calls).kept.get(&hash.0).copied()
    }

    fn calls(&self) -> Vec<CallHash> {
        lock(&self.calls).kept.keys().copied().map(CallHash).collect()
    }

    fn forget_call(&mut self, hash: CallHash) {
        lock(&self.calls).kept.remove(&hash.0);
    }

    fn call_of(&self, caller: &Caller) -> Option<CallHash> {
        lock(&self.calls).callers.get(caller).copied()
    }

    fn callers(&self) -> Vec<Caller> {
        lock(&self.calls).callers.keys().copied().collect()
    }

    fn forget_caller(&mut self, caller: &Caller) {
        lock(&self.calls).callers.remove(caller);
    }

    fn memory_bytes(&self) -> u64 {
        let sizes = [
            size_of_val(self.flows.as_slice()),
            size_of_val(self.wide.flows.as_slice()),
            size_of_val(self.wide.ports.as_slice()),
            size_of_val(self.lines.as_slice()),
            size_of_val(self.records.as_slice()),
            size_of_val(self.loads.as_slice()),
            size_of_val(self.schedulers.as_slice()),
            size_of_val(self.statistics.as_slice()),
            size_of_val(self.counters.as_slice()),
        ];
        sizes.into_iter().filter_map(|size| u64::try_from(size).ok()).sum()
    }

    fn attach(&mut self, interface: &str, mode: XdpMode) -> Result<AttachedMode, AttachError> {
        let mode = match mode {
            XdpMode::Auto | XdpMode::Native => AttachedMode::Native,
            XdpMode::Generic => AttachedMode::Generic,
        };
        Ok(*self.attached.entry(interface.to_owned()).or_insert(mode))
    }

    fn detach(&mut self, interface: &str) -> Result<(), BackendError> {
        self.attached.remove(interface);
        Ok(())
    }

    fn attached(&self) -> Vec<(String, AttachedMode)> {
        self.attached.iter().map(|(name, mode)| (name.clone(), *mode)).collect()
    }

    fn set_local_hop(&mut self, _port: LocalPort, _hop: &NextHop) -> Result<(), BackendError> {
        Ok(())
    }

    fn attach_egress(&mut self, interface: &str) -> Result<(), AttachError> {
        self.egress.insert(interface.to_owned());
        Ok(())
    }

    fn detach_egress(&mut self, interface: &str) -> Result<(), BackendError> {
        self.egress.remove(interface);
        Ok(())
    }

    fn attached_egress(&self) -> Vec<String> {
        self.egress.iter().cloned().collect()
    }

    fn teardown(&mut self) -> Result<(), BackendError> {
        self.egress.clear();
        self.attached.clear();
        Ok(())
    }
}

/// A frame in a vector, with XDP's room in front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryFrame {
    /// Bytes, Ethernet header first.
    pub bytes: Vec<u8>,
    /// Bytes that may be put in front.
    pub headroom: usize,
    /// Interface it came from.
    pub ingress: u32,
}

impl MemoryFrame {
    /// A frame that came from an interface.
    pub const fn new(bytes: Vec<u8>, ingress: u32) -> Self {
        Self { bytes, headroom: 256, ingress }
    }
}

impl Frame for MemoryFrame {
    fn window<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]> {
        self.bytes.get_mut(offset..offset.checked_add(N)?)?.try_into().ok()
    }

    fn length(&self) -> usize {
        self.bytes.len()
    }

    fn grow_front<const N: usize>(&mut self) -> bool {
        let Some(left) = self.headroom.checked_sub(N) else { return false };
        self.headroom = left;
        self.bytes.splice(0..0, [0; N]);
        true
    }

    fn shrink_front<const N: usize>(&mut self) -> bool {
        if self.bytes.len() < N {
            return false;
        }
        self.headroom += N;
        self.bytes.drain(..N);
        true
    }

    fn truncate(&mut self, length: usize) -> bool {
        self.bytes.truncate(length);
        self.bytes.len() == length
    }

    fn ingress(&self) -> u32 {
        self.ingress
    }
}
