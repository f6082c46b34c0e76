//! The tables behind the decision core, in plain memory.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use elvs_common::{
    COUNTERS, Call, CallHash, Caller, Control, Counter, CounterKind, DestinationFlags,
    DestinationLoad, DestinationRecord, DestinationStats, Line, Method, NOTES, NextHop, Settings,
    TAIL_BUCKETS, TcpState, WideAddress, chain_offset, ticks_from_seconds,
};
use elvs_fastpath::{
    Addresses, Bucket, ClientHop, FlowKey, FlowMemory, Fragment, FragmentKey, Host, Local, Note,
    PortSlot, Slot, Verdict, WideBucket, WideFragment, WideFragmentKey, WideMemory, WideValue,
    WideWords, destination_of, process, release_flow,
};

use super::frame::MemoryFrame;

/// Ticks of the tests: jiffies of 1 ms, 64 to a tick.
const JIFFIES_PER_SECOND: u32 = 1_000;
const TICK_SHIFT: u32 = 6;

/// Memory of a director.
pub struct Director {
    /// Flow table with the tail that chains run into.
    pub flows: Vec<Bucket<AtomicU64>>,
    /// Wide flow table, as many buckets.
    pub wide: WideFlows,
    /// Configuration in force.
    pub blob: Vec<Line>,
    /// Destination records.
    pub destinations: Vec<DestinationRecord>,
    /// Load words of destinations.
    pub loads: Vec<AtomicU64>,
    /// Scheduler words of services.
    pub schedulers: Vec<AtomicU64>,
    /// Next hops of NAT clients.
    pub clients: Mutex<HashMap<WideAddress, NextHop>>,
    /// The kernel's routing table.
    pub routes: HashMap<WideAddress, NextHop>,
    /// Settings.
    pub settings: Settings,
    stats: Mutex<HashMap<u32, DestinationStats>>,
    counters: Vec<AtomicU64>,
    tick: AtomicU32,
    random: AtomicU64,
    notes: [AtomicU64; NOTES],
    /// See [`elvs_common::FloodWord`].
    pub flood: AtomicU64,
    fragments: Mutex<HashMap<(u64, u64), Fragment>>,
    wide_fragments: Mutex<HashMap<([u64; 4], u64), WideFragment>>,
    /// Call-IDs that are kept.
    pub calls: Mutex<HashMap<u64, Call>>,
    /// Connections that it is kept of which Call-ID they belong to.
    pub callers: Mutex<HashMap<Caller, CallHash>>,
    draft: Mutex<[u8; 256]>,
}

/// What became of one frame.
#[derive(Debug)]
pub struct Outcome {
    /// The verdict.
    pub verdict: Verdict,
    /// The frame after it.
    pub frame: MemoryFrame,
    /// What was counted.
    pub counted: Vec<Counter>,
}

impl Director {
    /// A director without services whose flow table has `buckets` buckets.
    pub fn new(buckets: u32) -> Self {
        let seconds = |s| ticks_from_seconds(s, JIFFIES_PER_SECOND, TICK_SHIFT);
        let mut tcp_timeouts = [0; 16];
        for (timeout, default) in tcp_timeouts.iter_mut().zip(Settings::TCP_SECONDS) {
            *timeout = seconds(default);
        }
        let mut sctp_timeouts = [0; 16];
        for (timeout, default) in sctp_timeouts.iter_mut().zip(Settings::SCTP_SECONDS) {
            *timeout = seconds(default);
        }
        Self {
            flows: (0..buckets + TAIL_BUCKETS).map(|_| Bucket::default()).collect(),
            wide: WideFlows {
                flows: (0..buckets + TAIL_BUCKETS).map(|_| Bucket::default()).collect(),
                ..WideFlows::default()
            },
            blob: Vec::new(),
            destinations: Vec::new(),
            loads: Vec::new(),
            schedulers: Vec::new(),
            clients: Mutex::default(),
            routes: HashMap::new(),
            settings: Settings {
                tcp_timeouts,
                udp_timeout: seconds(Settings::UDP_SECONDS),
                buckets,
                jiffies_per_second: JIFFIES_PER_SECOND,
                tick_shift: TICK_SHIFT,
                connections: buckets * 4,
                flags: 0,
                wide_buckets: buckets,
                wide_connections: buckets * 4,
                locals: 0,
                pad: 0,
                flood_threshold: 0,
                seed: [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210],
                sctp_timeouts,
                drop_rate: 0,
            },
            stats: Mutex::default(),
            counters: (0..COUNTERS).map(|_| AtomicU64::new(0)).collect(),
            tick: AtomicU32::new(1_000_000),
            notes: Default::default(),
            flood: AtomicU64::new(0),
            fragments: Mutex::default(),
            wide_fragments: Mutex::default(),
            calls: Mutex::default(),
            callers: Mutex::default(),
            draft: Mutex::new([0; 256]),
            random: AtomicU64::new(0x2545_f491_4f6c_dd1d),
        }
    }

    /// Lets time pass.
    pub fn advance_seconds(&self, seconds: u32) {
        self.advance_ticks(ticks_from_seconds(seconds, JIFFIES_PER_SECOND, TICK_SHIFT));
    }

    /// Lets time pass.
    pub fn advance_ticks(&self, ticks: u32) {
        self.tick.fetch_add(ticks, Ordering::Relaxed);
    }

    /// Processes a frame of the default interface and checks what holds for every frame; see [`Self::run_frame`].
    pub fn run(&self, bytes: Vec<u8>) -> Outcome {
        self.run_frame(MemoryFrame::new(bytes))
    }

    /// Processes a frame and checks what holds for every frame: passed and dropped ones are as they came, a drop has
    /// exactly one reason, a frame that is sent has none, but the one that it is an answer to.
    pub fn run_frame(&self, mut frame: MemoryFrame) -> Outcome {
        let before = self.counts();
        let original = frame.clone();
        let verdict = process(self, &mut frame);
        let counted: Vec<Counter> = Counter::ALL
            .iter()
            .zip(before.iter().zip(self.counts()))
            .flat_map(|(counter, (old, new))| (*old..new).map(|_| *counter))
            .collect();
        let of_kind = |kind| counted.iter().filter(|c| c.kind() == kind).count();
        let (drops, passes) = (of_kind(CounterKind::Drop), of_kind(CounterKind::Pass));
        match verdict {
            Verdict::Pass => {
                assert_eq!(drops, 0, "passed, but counted {counted:?}");
                // A masqueraded packet for the host itself has its address and port changed.
                let own = |d: &DestinationRecord| {
                    d.flags & DestinationFlags::LOCAL != 0 && d.method == Method::Nat as u32
                };
                if !self.destinations.iter().any(own) {
                    assert_eq!(frame, original, "passed, but changed");
                }
            }
            Verdict::Drop => {
                assert_eq!((drops, passes), (1, 0), "dropped, but counted {counted:?}");
                assert_eq!(frame, original, "dropped, but changed");
            }
            Verdict::Transmit | Verdict::Redirect(_) => {
                // An answer takes the place of a packet that was refused, or of a tunnel's error.
                let answer =
                    counted.contains(&Counter::IcmpSent) || counted.contains(&Counter::ResetSent);
                let refused = usize::from(answer && !counted.contains(&Counter::IcmpTunnel));
                assert_eq!((drops, passes), (refused, 0), "sent, but counted {counted:?}");
            }
        }
        Outcome { verdict, frame, counted }
    }

    fn counts(&self) -> Vec<u64> {
        self.counters.iter().map(|c| c.load(Ordering::Relaxed)).collect()
    }

    /// Value of a counter.
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters[counter as usize].load(Ordering::Relaxed)
    }

    /// Statistics of a destination.
    pub fn stats(&self, destination: u32) -> DestinationStats {
        self.stats.lock().unwrap().get(&destination).copied().unwrap_or_default()
    }

    /// Active and inactive connections of a destination by its load word.
    pub fn load_of(&self, destination: u32) -> (u32, u32) {
        let word = self.loads[destination as usize].load(Ordering::Relaxed);
        (DestinationLoad::active(word), DestinationLoad::inactive(word))
    }

    /// Active and inactive connections of a destination by counting its slots.
    pub fn counted_load(&self, destination: u32) -> (u32, u32) {
        let narrow = self.live().map(|(_, slot)| (&slot.control, &slot.ports_destination));
        let wide = self.live_wide().map(|(_, slot)| (&slot.control, &slot.ports_destination));
        let mut load = (0, 0);
        for (control, ports_destination) in narrow.chain(wide) {
            if destination_of(ports_destination.load(Ordering::Relaxed)) == destination {
                let control = Control(control.load(Ordering::Relaxed));
                if control.is_template() {
                    continue;
                }
                *(if control.inactive() { &mut load.1 } else { &mut load.0 }) += 1;
            }
        }
        load
    }

    /// Checks what holds between packets: loads are those of the slots, displaced counters those of the distances,
    /// locks are open, no key is in the table twice.
    pub fn check_tables(&self) {
        for destination in 0..self.destinations.len() as u32 {
            assert_eq!(
                self.load_of(destination),
                self.counted_load(destination),
                "load of destination {destination}"
            );
        }
        check_flows(self);
    }

    /// Live slots with the index of their bucket.
    pub fn live(&self) -> impl Iterator<Item = (u32, &Slot<AtomicU64>)> {
        live_in(&self.flows)
    }

    /// As [`Self::live`], of the wide table.
    pub fn live_wide(&self) -> impl Iterator<Item = (u32, &WideSlot)> {
        live_in(&self.wide.flows)
    }

    /// Control word and destination of the connection of a key of the wide table, found by looking at all of them.
    pub fn find_wide(&self, key: FlowKey<WideValue>) -> Option<(Control, u32)> {
        self.live_wide().find_map(|(_, slot)| {
            let control = Control(slot.control.load(Ordering::Relaxed));
            let ports = slot.ports_destination.load(Ordering::Relaxed);
            let found = control.protocol() == key.protocol
                && slot.addresses.read()[..4] == key.addresses[..4]
                && ports as u32 == key.ports;
            found.then(|| (control, destination_of(ports)))
        })
    }

    /// TCP state of the connection of a key of the wide table.
    pub fn wide_state(&self, key: FlowKey<WideValue>) -> Option<TcpState> {
        self.find_wide(key).map(|(control, _)| TcpState::of_bits(control.state()))
    }

    /// Bucket and slot of the connection of a key, found by looking at all of them.
    pub fn place(&self, key: FlowKey) -> Option<(u32, &Slot<AtomicU64>)> {
        self.live().find(|(_, slot)| {
            let control = Control(slot.control.load(Ordering::Relaxed));
            let ports = slot.ports_destination.load(Ordering::Relaxed) as u32;
            control.protocol() == key.protocol
                && slot.addresses.load(Ordering::Relaxed) == key.addresses
                && ports == key.ports
        })
    }

    /// Ends the connection of a key as the daemon's sweeper does; false if it is not there.
    pub fn expire(&self, key: FlowKey) -> bool {
        let Some((bucket, slot)) = self.place(key) else { return false };
        let control = Control(slot.control.load(Ordering::Relaxed));
        let destination = destination_of(slot.ports_destination.load(Ordering::Relaxed));
        assert!(release_flow(self, bucket, slot, control));
        if control.is_template() {
            return true;
        }
        let unit = DestinationLoad::unit(control.inactive());
        let load = &self.loads[destination as usize];
        load.fetch_sub(unit, Ordering::Relaxed);
        let record = &self.destinations[destination as usize];
        let (upper, lower) = (record.upper_threshold, record.lower_threshold);
        let judged = DestinationLoad::judge_removed(load.load(Ordering::Relaxed), upper, lower);
        load.store(judged, Ordering::Relaxed);
        true
    }

    /// Control word of the connection of a key.
    pub fn control(&self, key: FlowKey) -> Option<Control> {
        self.place(key).map(|(_, slot)| Control(slot.control.load(Ordering::Relaxed)))
    }

    /// Destination of the connection of a key.
    pub fn destination_of_key(&self, key: FlowKey) -> Option<u32> {
        self.place(key)
            .map(|(_, slot)| (slot.ports_destination.load(Ordering::Relaxed) >> 32) as u32)
    }

    /// TCP state of the connection of a key.
    pub fn state(&self, key: FlowKey) -> Option<TcpState> {
        self.control(key).map(|control| TcpState::of_bits(control.state()))
    }
}

/// A slot of the wide table.
pub type WideSlot = Slot<AtomicU64, WideWords<AtomicU64>>;

fn live_in<A>(
    buckets: &[Bucket<AtomicU64, A>],
) -> impl Iterator<Item = (u32, &Slot<AtomicU64, A>)> {
    buckets.iter().enumerate().flat_map(|(index, bucket)| {
        bucket
            .slots
            .iter()
            .filter(|slot| Control(slot.control.load(Ordering::Relaxed)).is_live())
            .map(move |slot| (index as u32, slot))
    })
}

/// Checks the flow tables of a memory that nobody is changing.
pub fn check_flows(director: &Director) {
    check_buckets(&director.flows);
    check_buckets(&director.wide.flows);
}

fn check_buckets<A: Addresses<Value: Debug + Eq + Hash>>(buckets: &[Bucket<AtomicU64, A>]) {
    let mut displaced = vec![0_u64; buckets.len()];
    let mut keys = HashMap::new();
    for (index, slot) in live_in(buckets) {
        let control = Control(slot.control.load(Ordering::Relaxed));
        let home = index - chain_offset(control.distance());
        for passed in 0..control.distance() {
            displaced[(home + chain_offset(passed)) as usize] += 1;
        }
        let ports = slot.ports_destination.load(Ordering::Relaxed) as u32;
        let key = (slot.addresses.read(), ports, control.protocol());
        if let Some(other) = keys.insert(key, index) {
            panic!("an entry of bucket {other} is in bucket {index} again: ports {ports:x}");
        }
    }
    for (index, (bucket, wanted)) in buckets.iter().zip(displaced).enumerate() {
        let found = bucket.displaced().load(Ordering::Relaxed);
        assert_eq!(found, wanted, "displaced counter of bucket {index}");
        assert_eq!(bucket.slots[0].aux.load(Ordering::Relaxed) & 1, 0, "lock of bucket {index}");
        for slot in &bucket.slots {
            let control = Control(slot.control.load(Ordering::Relaxed));
            assert!(control.is_live() || control.is_free(), "claimed slot in bucket {index}");
        }
    }
}

impl FlowMemory for Director {
    type Word = AtomicU64;
    type Addresses = AtomicU64;

    fn bucket(&self, index: u32) -> Option<&Bucket<AtomicU64>> {
        self.flows.get(index as usize)
    }
}

/// The wide flow table.
#[derive(Default)]
pub struct WideFlows {
    /// Its buckets.
    pub flows: Vec<WideBucket<AtomicU64>>,
    /// Local addresses of full NAT.
    pub locals: Vec<Local<AtomicU64>>,
    /// Their ports.
    pub ports: Vec<PortSlot<AtomicU64>>,
}

impl WideMemory for WideFlows {
    fn local(&self, index: u32) -> Option<&Local<AtomicU64>> {
        self.locals.get(index as usize)
    }

    fn port(&self, index: u32) -> Option<&PortSlot<AtomicU64>> {
        self.ports.get(index as usize)
    }
}

impl FlowMemory for WideFlows {
    type Word = AtomicU64;
    type Addresses = WideWords<AtomicU64>;

    fn bucket(&self, index: u32) -> Option<&WideBucket<AtomicU64>> {
        self.flows.get(index as usize)
    }
}

impl Host for Director {
    type Wide = WideFlows;

    fn wide(&self) -> &WideFlows {
        &self.wide
    }

    fn wide_buckets(&self) -> u32 {
        self.settings.wide_buckets
    }

    fn tick(&self) -> u32 {
        self.tick.load(Ordering::Relaxed)
    }

    fn buckets(&self) -> u32 {
        self.settings.buckets
    }

    fn seed(&self) -> [u64; 2] {
        self.settings.seed
    }

    fn line(&self, index: u32) -> Option<&Line> {
        self.blob.get(index as usize)
    }

    fn destination(&self, index: u32) -> Option<&DestinationRecord> {
        self.destinations.get(index as usize)
    }

    fn load(&self, index: u32) -> Option<&AtomicU64> {
        self.loads.get(index as usize)
    }

    fn scheduler(&self, index: u32) -> Option<&AtomicU64> {
        self.schedulers.get(index as usize)
    }

    fn add_stats(&self, index: u32, added: DestinationStats) {
        let mut all = self.stats.lock().unwrap();
        let stats = all.entry(index).or_default();
        stats.connections += added.connections;
        stats.in_packets += added.in_packets;
        stats.out_packets += added.out_packets;
        stats.in_bytes += added.in_bytes;
        stats.out_bytes += added.out_bytes;
    }

    fn random(&self) -> u32 {
        // xorshift64: any numbers will do, the same ones in every run.
        let next = |x: u64| {
            let x = x ^ x << 13;
            let x = x ^ x >> 7;
            x ^ x << 17
        };
        let drawn =
            self.random.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |x| Some(next(x)));
        (next(drawn.unwrap()) >> 32) as u32
    }

    fn note(&self, note: Note, value: u64) {
        self.notes[note as usize].store(value, Ordering::Relaxed);
    }

    fn noted(&self, note: Note) -> u64 {
        self.notes[note as usize].load(Ordering::Relaxed)
    }

    fn remember_fragment(&self, key: &FragmentKey, fragment: &Fragment) {
        self.fragments.lock().unwrap().insert((key.addresses, key.datagram), *fragment);
    }

    fn fragment(&self, key: &FragmentKey) -> Fragment {
        let fragments = self.fragments.lock().unwrap();
        fragments.get(&(key.addresses, key.datagram)).copied().unwrap_or(Fragment::NONE)
    }

    fn remember_wide_fragment(&self, key: &WideFragmentKey, fragment: &WideFragment) {
        self.wide_fragments.lock().unwrap().insert((key.addresses, key.id), *fragment);
    }

    fn wide_fragment(&self, key: &WideFragmentKey) -> WideFragment {
        let fragments = self.wide_fragments.lock().unwrap();
        fragments.get(&(key.addresses, key.id)).copied().unwrap_or(WideFragment::NONE)
    }

    fn knows_call(&self, hash: CallHash) -> bool {
        self.calls.lock().unwrap().contains_key(&hash.0)
    }

    fn draft_call(&self, index: u32, byte: u8) {
        self.draft.lock().unwrap()[index as usize] = byte;
    }

    fn keep_call(&self, hash: CallHash, client: WideAddress, length: u64) -> bool {
        let call = Call { client, length, id: *self.draft.lock().unwrap() };
        self.calls.lock().unwrap().insert(hash.0, call);
        true
    }

    fn keep_caller(&self, caller: &Caller, hash: CallHash) -> bool {
        self.callers.lock().unwrap().insert(*caller, hash);
        true
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
        self.counters[counter as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn client_hop(&self, client: u32, learned: Option<NextHop>) -> ClientHop {
        self.wide_client_hop(WideAddress::of_v4(client), learned)
    }

    fn wide_client_hop(&self, client: WideAddress, learned: Option<NextHop>) -> ClientHop {
        let mut clients = self.clients.lock().unwrap();
        if let (Some(hop), None) = (learned, clients.get(&client)) {
            clients.insert(client, hop);
        }
        clients.get(&client).map_or(ClientHop::Unknown, |hop| ClientHop::Known(*hop))
    }

    fn route(&self, address: u32) -> Option<NextHop> {
        self.wide_route(WideAddress::of_v4(address))
    }

    fn wide_route(&self, address: WideAddress) -> Option<NextHop> {
        self.routes.get(&address).copied()
    }
}
