//! The maps. Names, layouts and sizes are the contract in `elvs-common`.

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::btf_maps::{Array as BtfArray, ArrayOfMaps};
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, ProgramArray};
use elvs_common::{
    BLOB_LINES, CALLS, COUNTERS, Call, Caller, DestinationRecord, DestinationStats, FRAGMENTS,
    Line, LocalPort, MAX_DESTINATIONS, MAX_SERVICES, NOTES, NextHop, PROGRAMS, Settings,
};
use elvs_fastpath::{
    Bucket, Fragment, FragmentKey, Local, PortSlot, WideBucket, WideFragment, WideFragmentKey,
};

use crate::clients::{CLIENT_SLOTS, ClientSlot, WIDE_CLIENT_SLOTS, WideClientSlot};
use crate::word::Word;

/// A configuration blob.
pub type Blob = BtfArray<Line, { BLOB_LINES }, { BPF_F_MMAPABLE as usize }>;

/// Flow table; the daemon sets its size.
#[map]
pub static ELVS_FLOWS: Array<Bucket<Word>> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Wide flow table; the daemon sets its size.
#[map]
pub static ELVS_WIDE: Array<WideBucket<Word>> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Local addresses of full NAT; the daemon sets their number.
#[map]
pub static ELVS_LOCALS: Array<Local<Word>> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Ports of local addresses; the daemon sets their number.
#[map]
pub static ELVS_PORTS: Array<PortSlot<Word>> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Next hops of IPv6 clients of NAT services.
#[map]
pub static ELVS_CLIENTS6: Array<WideClientSlot> = Array::with_max_entries(WIDE_CLIENT_SLOTS, 0);

/// Configuration in force.
#[btf_map]
pub static ELVS_CONFIG: ArrayOfMaps<Blob, 1> = ArrayOfMaps::new();

/// Destination records.
#[map]
pub static ELVS_DESTS: Array<DestinationRecord> =
    Array::with_max_entries(MAX_DESTINATIONS, BPF_F_MMAPABLE);

/// Load words.
#[map]
pub static ELVS_LOADS: Array<Word> = Array::with_max_entries(MAX_DESTINATIONS, BPF_F_MMAPABLE);

/// Per-CPU statistics.
#[map]
pub static ELVS_STATS: PerCpuArray<DestinationStats> =
    PerCpuArray::with_max_entries(MAX_DESTINATIONS, 0);

/// Scheduler words.
#[map]
pub static ELVS_SCHEDS: Array<Word> = Array::with_max_entries(MAX_SERVICES, BPF_F_MMAPABLE);

/// Counters by reason.
#[map]
pub static ELVS_COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS as u32, 0);

/// The [`elvs_common::FloodWord`] of all CPUs.
#[map]
pub static ELVS_FLOOD: Array<Word> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Settings.
#[map]
pub static ELVS_SETTINGS: Array<Settings> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Programs that others go on to.
#[map]
pub static ELVS_PROGS: ProgramArray = ProgramArray::with_max_entries(PROGRAMS, 0);

/// Words per CPU; see [`crate::host`]. The first is for the verifier, the others are notes.
#[map]
pub static ELVS_SCRATCH: PerCpuArray<[u64; NOTES]> = PerCpuArray::with_max_entries(1, 0);

/// Next hops of NAT clients.
#[map]
pub static ELVS_CLIENTS: Array<ClientSlot> = Array::with_max_entries(CLIENT_SLOTS, 0);

/// Datagrams whose first fragment has been forwarded.
#[map]
pub static ELVS_FRAGMENTS: LruHashMap<FragmentKey, Fragment> =
    LruHashMap::with_max_entries(FRAGMENTS, 0);

/// The same of IPv6.
#[map]
pub static ELVS_FRAGS6: LruHashMap<WideFragmentKey, WideFragment> =
    LruHashMap::with_max_entries(FRAGMENTS, 0);

/// Call-IDs that templates go by, by their hash. It takes room for those that there are.
#[map]
pub static ELVS_CALLS: HashMap<u64, Call> = HashMap::with_max_entries(CALLS, BPF_F_NO_PREALLOC);

/// Connections of services with the SIP engine, and the hash of each one's Call-ID.
#[map]
pub static ELVS_CALLERS: HashMap<Caller, u64> = HashMap::with_max_entries(CALLS, BPF_F_NO_PREALLOC);

/// A Call-ID before it is put among the others.
#[map]
pub static ELVS_CALL: PerCpuArray<Call> = PerCpuArray::with_max_entries(1, 0);

/// Next hops between the host's own stack and the director, by [`LocalPort`].
#[map]
pub static ELVS_LOCAL: Array<NextHop> = Array::with_max_entries(LocalPort::COUNT, 0);

/// Buckets that hash values map to; set when the program is loaded.
#[unsafe(no_mangle)]
static ELVS_BUCKETS: u32 = 1;

/// As [`ELVS_BUCKETS`], of the wide table.
#[unsafe(no_mangle)]
static ELVS_WIDE_BUCKETS: u32 = 1;

/// Secret of the flow hash; set when the program is loaded.
#[unsafe(no_mangle)]
static ELVS_SEED: [u64; 2] = [0; 2];

/// Tick = jiffies >> this; set when the program is loaded.
#[unsafe(no_mangle)]
static ELVS_TICK_SHIFT: u32 = 0;

/// UDP port that GUE packets come to on a real server; set when the program is loaded.
#[unsafe(no_mangle)]
static ELVS_GUE_PORT: u16 = 6080;

/// What was set when the program was loaded. The verifier knows these values as constants.
#[inline(always)]
pub fn buckets() -> u32 {
    // SAFETY: a static of this program; volatile, since the loader replaces the value that the compiler sees.
    unsafe { core::ptr::read_volatile(&raw const ELVS_BUCKETS) }
}

/// As [`buckets`], of the wide table.
#[inline(always)]
pub fn wide_buckets() -> u32 {
    // SAFETY: as above.
    unsafe { core::ptr::read_volatile(&raw const ELVS_WIDE_BUCKETS) }
}

/// Secret of the flow hash.
#[inline(always)]
pub fn seed() -> [u64; 2] {
    let first = (&raw const ELVS_SEED).cast::<u64>();
    // SAFETY: as above; the second element lies eight bytes on.
    unsafe { [core::ptr::read_volatile(first), core::ptr::read_volatile(first.add(1))] }
}

/// Tick = jiffies >> this.
#[inline(always)]
pub fn tick_shift() -> u32 {
    // SAFETY: as above.
    unsafe { core::ptr::read_volatile(&raw const ELVS_TICK_SHIFT) }
}

/// UDP port of GUE, host order.
#[inline(always)]
pub fn gue_port() -> u16 {
    // SAFETY: as above.
    unsafe { core::ptr::read_volatile(&raw const ELVS_GUE_PORT) }
}
