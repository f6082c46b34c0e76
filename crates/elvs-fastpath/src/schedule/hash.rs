//! Schedulers that hash: dh, sh and mh (`ip_vs_dh.c`, `ip_vs_sh.c`, `ip_vs_mh.c`), and the making of their tables.
//!
//! **Invariant:** the same list and the same client give the same destination; a table names positions in the list it
//! was made from.

use elvs_common::{
    PoolEntry, ServiceFlags, ServiceRecord, TABLE_ENTRIES_PER_LINE, TABLE_NOBODY, scheduler_id,
};

use super::{Choice, entry};
use crate::flow::{FlowKey, Step};
use crate::host::{Host, is_overloaded};
use crate::service::low;

/// Entries of the tables of dh and sh (`IP_VS_DH_TAB_SIZE`, `IP_VS_SH_TAB_SIZE`).
const TABLE: u32 = 256;
/// Sizes that mh's table may have: the kernel's primes (`CONFIG_IP_VS_MH_TAB_INDEX` 8 to 17).
pub const MAGLEV_PRIMES: [u32; 10] =
    [251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131_071];
/// Keys of mh's two hashes.
const FIRST_KEY: u64 = 2_654_435_761;
const SECOND_KEY: u64 = 2_654_446_892;

/// `hash_32` of Linux to eight bits.
#[inline(always)]
const fn hash_8(value: u32) -> u32 {
    value.wrapping_mul(0x61c8_8647) >> 24
}

/// `hsiphash_1u32` of a 64-bit Linux with twice the same key: SipHash-1-3 of four bytes, the lower half.
#[inline(always)]
const fn hsiphash(value: u32, key: u64) -> u32 {
    let mut v = [
        0x736f_6d65_7073_6575 ^ key,
        0x646f_7261_6e64_6f6d ^ key,
        0x6c79_6765_6e65_7261 ^ key,
        0x7465_6462_7974_6573 ^ key,
    ];
    let block = 4 << 56 | value as u64;
    let [_, _, _, v3] = &mut v;
    *v3 ^= block;
    v = sip_round(v);
    let [v0, _, v2, _] = &mut v;
    *v0 ^= block;
    *v2 ^= 0xff;
    let [v0, v1, v2, v3] = sip_round(sip_round(sip_round(v)));
    ((v0 ^ v1 ^ v2 ^ v3) & 0xffff_ffff) as u32
}

#[inline(always)]
const fn sip_round(v: [u64; 4]) -> [u64; 4] {
    let [mut v0, mut v1, mut v2, mut v3] = v;
    v0 = v0.wrapping_add(v1);
    v1 = v1.rotate_left(13) ^ v0;
    v0 = v0.rotate_left(32);
    v2 = v2.wrapping_add(v3);
    v3 = v3.rotate_left(16) ^ v2;
    v0 = v0.wrapping_add(v3);
    v3 = v3.rotate_left(21) ^ v0;
    v2 = v2.wrapping_add(v1);
    v1 = v1.rotate_left(17) ^ v2;
    v2 = v2.rotate_left(32);
    [v0, v1, v2, v3]
}

/// Entry of the table for a hashed value at an offset; `entries` is above 0.
#[inline(always)]
fn place(scheduler: u8, value: u32, offset: u32, entries: u32) -> u32 {
    if scheduler == scheduler_id::MH {
        hsiphash(value.wrapping_add(offset), FIRST_KEY).checked_rem(entries).unwrap_or(0)
    } else {
        hash_8(value).wrapping_add(offset) & (TABLE - 1)
    }
}

/// The destination in an entry of a service's table; weight 0 if it cannot be used.
#[inline(always)]
fn lookup<H: Host>(host: &H, table_line: u32, pool_line: u32, place: u32) -> Option<PoolEntry> {
    let line = host.line(table_line.wrapping_add(place / TABLE_ENTRIES_PER_LINE))?;
    let word = line.0.get((place / 4 % 8) as usize)?;
    let position = (word >> (place % 4 * 16) & 0xffff) as u16;
    if position == TABLE_NOBODY {
        return None;
    }
    let found = entry(host, pool_line, position as u32)?;
    let usable = found.weight != 0 && !is_overloaded(host, found.destination);
    Some(if usable { found } else { PoolEntry { weight: 0, ..found } })
}

/// Search for a destination that can be used, at one offset after the other.
struct Probe<'a, H> {
    host: &'a H,
    scheduler: u64,
    table_line: u64,
    pool_line: u64,
    entries: u64,
    value: u64,
    /// Offset to begin with: the place that the client hashes to.
    first: u64,
    /// [`Choice`] found.
    choice: u64,
}

impl<H: Host> Step for Probe<'_, H> {
    #[inline(always)]
    fn step(&mut self, round: u32) -> bool {
        let entries = low(self.entries);
        let mut offset = low(self.first).wrapping_add(round);
        if offset >= entries {
            offset = offset.wrapping_sub(entries);
        }
        let scheduler = (self.scheduler & 0xff) as u8;
        let place = place(scheduler, low(self.value), offset, entries);
        match lookup(self.host, low(self.table_line), low(self.pool_line), place) {
            Some(found) if found.weight == 0 => true,
            Some(found) => {
                self.choice = Choice::of(found.destination).0;
                false
            }
            None => false,
        }
    }
}

/// The destination that a client hashes to; dh hashes the virtual address instead.
#[inline(always)]
pub(super) fn choose<H: Host>(host: &H, service: &ServiceRecord, opening: &FlowKey) -> Choice {
    let entries = service.table_entries;
    if entries == 0 {
        return Choice::NOBODY;
    }
    let address =
        if service.scheduler == scheduler_id::DH { opening.address() } else { opening.client() };
    let mut value = u32::from_be(address);
    if service.flags & ServiceFlags::PORT != 0 {
        value = value.wrapping_add(u16::from_be(opening.client_port()) as u32);
    }
    let place = place(service.scheduler, value, 0, entries);
    let Some(found) = lookup(host, service.table_line, service.pool_line, place) else {
        return Choice::NOBODY;
    };
    if found.weight != 0 {
        return Choice::of(found.destination);
    }
    if service.flags & ServiceFlags::FALLBACK == 0 {
        return Choice::NOBODY;
    }
    let mut probe = Probe {
        host,
        scheduler: service.scheduler as u64,
        table_line: service.table_line as u64,
        pool_line: service.pool_line as u64,
        entries: entries as u64,
        value: value as u64,
        first: place as u64,
        choice: 0,
    };
    host.repeat(entries, &mut probe);
    Choice(probe.choice)
}

/// Table of dh: the destinations of a list of `length` in turn. Entries are positions in the list.
pub fn dh_table(length: usize) -> impl Iterator<Item = u16> {
    (0..TABLE).map(move |place| position((place as usize).checked_rem(length)))
}

/// Table of sh: each destination of a list as often in a row as its weight says, at least once.
pub fn sh_table(weights: &[u32]) -> impl Iterator<Item = u16> + '_ {
    let turns = weights.iter().enumerate().cycle().flat_map(|(at, weight)| {
        core::iter::repeat_n(position(Some(at)), (*weight).clamp(1, TABLE) as usize)
    });
    turns.chain(core::iter::repeat(TABLE_NOBODY)).take(TABLE as usize)
}

/// A destination as mh looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaglevEntry {
    /// IPv4 address, host order.
    pub address: u32,
    /// Port, host order.
    pub port: u16,
    /// Last weight above 0, or 0 if it never had one.
    pub last_weight: u32,
}

/// Fills `table`, whose length is one of [`MAGLEV_PRIMES`], with positions in a list: the destinations take turns, and each
/// takes the next free entries of its own permutation, as many as its share of the weights (`ip_vs_mh_populate`).
///
/// `progress` has an element per destination and is overwritten.
pub fn mh_table(list: &[MaglevEntry], progress: &mut [MaglevProgress], table: &mut [u16]) {
    table.fill(TABLE_NOBODY);
    let size = u32::try_from(table.len()).unwrap_or(u32::MAX);
    let divisor = list.iter().fold(0, |d, entry| super::gcd(d, entry.last_weight)).max(1);
    let greatest = list.iter().map(|entry| entry.last_weight / divisor).max().unwrap_or(0);
    if greatest == 0 || size < 2 {
        return;
    }
    // The greatest weight gets no more turns in a row than half as many bits as the table's size has can count
    // (`ip_vs_mh_shift_weight` with `IP_VS_MH_TAB_BITS`).
    let bits = (u32::BITS - size.leading_zeros()) / 2;
    let shift = (u32::BITS - greatest.leading_zeros()).saturating_sub(bits);
    for (entry, state) in list.iter().zip(progress.iter_mut()) {
        let value = entry.address.wrapping_add(entry.port as u32);
        let offset = hsiphash(value, FIRST_KEY) % size;
        let skip = hsiphash(value, SECOND_KEY) % (size - 1) + 1;
        let share = (entry.last_weight / divisor) >> shift;
        let turns = if share == 0 { (entry.last_weight != 0) as u32 } else { share };
        *state = MaglevProgress { at: offset, skip, turns };
    }
    let mut free = size;
    while free > 0 {
        for (at, state) in (0..).zip(progress.iter_mut()).take(list.len()) {
            let mut turns = state.turns.min(free);
            while turns > 0 {
                let slot = table.get_mut(state.at as usize);
                state.at = (state.at + state.skip) % size;
                if let Some(slot) = slot.filter(|slot| **slot == TABLE_NOBODY) {
                    *slot = at;
                    free -= 1;
                    turns -= 1;
                }
            }
        }
    }
}

/// How far [`mh_table`] has come with one destination.
#[derive(Clone, Copy, Debug, Default)]
pub struct MaglevProgress {
    /// Next entry of its permutation.
    at: u32,
    /// Distance to the one after.
    skip: u32,
    /// Entries it takes in a row.
    turns: u32,
}

fn position(at: Option<usize>) -> u16 {
    at.and_then(|at| u16::try_from(at).ok()).unwrap_or(TABLE_NOBODY)
}

#[cfg(test)]
mod tests;
