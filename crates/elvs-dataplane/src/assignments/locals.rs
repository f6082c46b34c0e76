//! Who has which index: of local addresses of full NAT, for their records and their rings of ports.
//!
//! **Invariant:** an index belongs to one address until all of its ports are free again; the record of an address that has an
//! index holds the address, and its ring was filled before that was written.
//!
//! Called by [`super::Assignments`] and by [`crate::Director`].

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::AtomicU64;

use elvs_common::{FIRST_LOCAL_PORT, LOCAL_PORTS, WideAddress};
use elvs_fastpath::{Atomic64, Local, WideMemory, fill_ring, free_ports};
use elvs_model::{LocalAddressView, Table, TableService};
use serde::{Deserialize, Serialize};

use super::{AssignError, Assignments, Free};
use crate::backend::Backend;

/// Ports of a local address.
const PORTS: u64 = (LOCAL_PORTS - FIRST_LOCAL_PORT) as u64;

/// A local address's place in the kernel's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalSlot {
    /// Index of its record and its ring of ports.
    pub index: u16,
    /// Whether a service has it.
    pub present: bool,
}

impl Assignments {
    /// Local addresses, removed ones included.
    pub fn locals(&self) -> impl ExactSizeIterator<Item = (IpAddr, LocalSlot)> {
        self.locals.iter().map(|(address, slot)| (*address, *slot))
    }

    /// Indexes of all of them.
    pub(crate) fn local_indexes(&self) -> BTreeMap<IpAddr, u16> {
        self.locals().map(|(address, slot)| (address, slot.index)).collect()
    }

    /// Gives every local address of a table an index.
    pub(super) fn place_locals<B: Backend>(
        &mut self,
        table: &Table,
        backend: &B,
    ) -> Result<(), AssignError> {
        // Packets that were on their way when an address was removed may still take a port of it; they are done by the next
        // change.
        self.locals.retain(|_, slot| slot.present || !is_idle(backend, slot.index));
        for slot in self.locals.values_mut() {
            slot.present = false;
        }
        let limit = backend.settings().locals;
        let mut free = Free::new(self.locals.values().map(|slot| u32::from(slot.index)));
        for entry in table.services() {
            for address in entry.local_addresses().iter() {
                if let Some(slot) = self.locals.get_mut(&address) {
                    slot.present = true;
                    continue;
                }
                let index = free.next();
                let Some(index) = u16::try_from(index).ok().filter(|_| index < limit) else {
                    let wanted: Vec<_> =
                        table.services().flat_map(|entry| entry.local_addresses().iter()).collect();
                    let gone = self.locals.keys().filter(|address| !wanted.contains(address));
                    return Err(AssignError::TooManyLocals {
                        service: entry.service().key,
                        address,
                        limit,
                        lingering: gone.count(),
                    });
                };
                self.locals.insert(address, LocalSlot { index, present: true });
            }
        }
        Ok(())
    }

    /// Indexes of the local addresses of a service by full NAT.
    pub(super) fn locals_of(&self, entry: &TableService) -> Vec<u16> {
        if !entry.is_full_nat() {
            return Vec::new();
        }
        let slots = entry.local_addresses().iter().filter_map(|address| self.locals.get(&address));
        slots.map(|slot| slot.index).collect()
    }

    /// Gives up the indexes of removed local addresses that no connection uses any more; how many.
    pub(super) fn collect_locals<B: Backend>(&mut self, backend: &B) -> usize {
        let before = self.locals.len();
        self.locals.retain(|_, slot| slot.present || !is_idle(backend, slot.index));
        before - self.locals.len()
    }

    /// Fills the rings of addresses that were given an index, and writes their records.
    pub(crate) fn write_locals<B: Backend>(&self, backend: &B) {
        for (address, slot) in self.locals() {
            let index = u32::from(slot.index);
            let Some(local) = backend.wide().local(index) else { continue };
            let words = WideAddress::of_bytes(mapped(address)).0;
            if local.address.each_ref().map(Atomic64::load) == words {
                continue;
            }
            // A daemon that ends in between begins again: the address is not there yet.
            fill_ring(backend.wide(), index);
            for (word, value) in local.address.iter().zip(words) {
                Atomic64::store(word, value);
            }
        }
    }

    /// A local address as it is listed.
    pub(crate) fn local_view<B: Backend>(&self, backend: &B, address: IpAddr) -> LocalAddressView {
        let slot = self.locals.get(&address);
        let local = slot.and_then(|slot| backend.wide().local(u32::from(slot.index)));
        let free = local.map_or(0, free_of);
        let ports = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        LocalAddressView {
            address,
            in_use: ports(PORTS - free),
            free: ports(free),
            exhausted: local.map_or(0, |local| Atomic64::load(&local.exhausted)),
        }
    }
}

/// Free ports of an address: head and tail are read one after the other, while packets move them.
fn free_of(local: &Local<AtomicU64>) -> u64 {
    free_ports(local).min(PORTS)
}

/// Whether no connection uses a port of the address with an index.
fn is_idle<B: Backend>(backend: &B, index: u16) -> bool {
    backend.wide().local(u32::from(index)).is_none_or(|local| free_of(local) == PORTS)
}

/// An address as the wide table has it: one of IPv4 in IPv6 form.
pub(crate) fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}
