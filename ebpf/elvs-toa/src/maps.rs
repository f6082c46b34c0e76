//! The maps. Names, layouts and sizes are the contract in `elvs-common`.

use aya_ebpf::btf_maps::SkStorage;
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::{LpmTrie, PerCpuArray};
use elvs_common::{TOA_COUNTERS as COUNTERS, TOA_MAX_TRUSTED, ToaClient, ToaCounter};

/// The client of each connection.
#[btf_map]
pub static TOA_CLIENTS: SkStorage<ToaClient> = SkStorage::new();

/// Prefixes whose options are believed.
#[map]
pub static TOA_TRUSTED: LpmTrie<[u32; 4], u32> = LpmTrie::with_max_entries(TOA_MAX_TRUSTED, 0);

/// Counters.
#[map]
pub static TOA_COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS as u32, 0);

/// Counts one. Programs of one CPU may interrupt each other, and then one of two counts may be lost.
#[inline(always)]
pub fn count(counter: ToaCounter) {
    if let Some(value) = TOA_COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: an element of the map, this CPU's own.
        unsafe { *value = (*value).wrapping_add(1) };
    }
}
