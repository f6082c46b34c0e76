//! Locality: connections to one address go to one destination for as long as it is not overloaded (`ip_vs_lblc.c`), or
//! to the least loaded of a set that grows when all of it is (`ip_vs_lblcr.c`).
//!
//! **Invariant:** that an address goes to a destination is an entry of the flow table under a protocol number of its own;
//! it counts only while the destination is in the service's list.

use elvs_common::{
    DestinationLoad, LBLC_PORTS, LOCALITY, REFRESH_TICKS, ServiceFlags, ServiceRecord, idle_ticks,
    scheduler_id, template_protocol,
};

use super::{Choice, ONCE, entry, record};
use crate::atomic::Atomic64;
use crate::flow::{FlowKey, FoundFlow, Step, destination_of, find_key, release_flow};
use crate::host::Host;
use crate::service::low;

/// Key of the entry that leads packets to an address to a destination.
#[inline(always)]
pub(super) const fn key(service: &ServiceRecord, opening: &FlowKey, destination: u32) -> FlowKey {
    key_of(
        service.index as u64 | (opening.address() as u64) << 32,
        if service.scheduler == scheduler_id::LBLCR { destination } else { LBLC_PORTS },
    )
}

#[inline(always)]
const fn key_of(addresses: u64, ports: u32) -> FlowKey {
    FlowKey { addresses, ports, protocol: template_protocol(LOCALITY) }
}

/// The entry of a key.
#[inline(always)]
fn entry_of<'a, H: Host>(host: &'a H, key: &FlowKey) -> Option<FoundFlow<'a, H::Word>> {
    find_key(host, key, host.buckets(), host.seed())
}

/// Keeps an entry that is used.
#[inline(always)]
fn renew<H: Host>(host: &H, found: &FoundFlow<'_, H::Word>) {
    let tick = host.tick();
    if idle_ticks(tick, found.control.tick()) >= REFRESH_TICKS {
        // Whoever changes it meanwhile renews it too.
        let _ =
            found.slot.control.compare_exchange(found.control.0, found.control.with_tick(tick).0);
    }
}

/// What a service's list says of one destination.
struct Review<'a, H> {
    host: &'a H,
    pool_line: u64,
    destination: u64,
    /// Its weight; 0 if it is not in the list.
    weight: u64,
    /// Whether somebody has less than half as many active connections as its weight.
    idle: u64,
}

impl<H: Host> Step for Review<'_, H> {
    #[inline(always)]
    fn step(&mut self, index: u32) -> bool {
        let Some(found) = entry(self.host, low(self.pool_line), index) else { return false };
        let weight = found.weight as u64;
        if found.destination as u64 == self.destination {
            self.weight = weight;
        }
        if active(self.host, found.destination) * 2 < weight {
            self.idle = 1;
        }
        true
    }
}

#[inline(always)]
fn active<H: Host>(host: &H, destination: u32) -> u64 {
    host.load(destination).map_or(0, |load| DestinationLoad::active(load.load()) as u64)
}

/// Destination of the address that a packet goes to. An entry whose destination was removed, quiesced or is overloaded,
/// while another one is half idle, is ended.
#[inline(always)]
pub(super) fn find<H: Host>(host: &H, service: &ServiceRecord, opening: &FlowKey) -> Choice {
    let Some(found) = entry_of(host, &key(service, opening, LBLC_PORTS)) else {
        return Choice::NOBODY;
    };
    let destination = destination_of(found.ports_destination);
    let mut review = Review {
        host,
        pool_line: service.pool_line as u64,
        destination: destination as u64,
        weight: 0,
        idle: 0,
    };
    host.repeat(service.pool_entries, &mut review);
    let overloaded = active(host, destination) > review.weight && review.idle != 0;
    if review.weight == 0 || overloaded {
        // Whoever changes it meanwhile has found it good for another packet, or ends it as well.
        let _ = release_flow(host, found.bucket, found.slot, found.control);
        return Choice::NOBODY;
    }
    renew(host, &found);
    Choice::of(destination)
}

/// Search for the least loaded destination of the set of an address.
struct Members<'a, H> {
    host: &'a H,
    pool_line: u64,
    /// Addresses word of the set's entries.
    addresses: u64,
    /// [`Choice`] so far, and above it the place in which it came into the set.
    choice: u64,
    weight: u64,
    /// Its overhead, `(active << 8) + active + inactive`.
    load: u64,
    /// Whether somebody in the list has less than half as many active connections as its weight (bit 8), and the place of
    /// the next newcomer.
    state: u64,
}

/// Where the place lies in [`Members::choice`].
const ORDER_SHIFT: u32 = 40;
/// Bit of [`Members::state`].
const IDLE: u64 = 1 << 8;
/// Places in a set that are told apart; among equals the newest wins.
const PLACES: u64 = 16;

impl<H: Host> Step for Members<'_, H> {
    #[inline(always)]
    fn step(&mut self, index: u32) -> bool {
        let Some(candidate) = entry(self.host, low(self.pool_line), index) else { return false };
        let Some(load) = self.host.load(candidate.destination) else { return false };
        let load = load.load();
        let active = DestinationLoad::active(load) as u64;
        let weight = candidate.weight as u64;
        if active * 2 < weight {
            self.state |= IDLE;
        }
        let key = key_of(self.addresses, candidate.destination);
        let Some(member) = entry_of(self.host, &key) else { return true };
        let order = member.control.state() as u64;
        if self.state % PLACES <= order {
            self.state = (self.state & IDLE) | ((order + 1) % PLACES);
        }
        if weight == 0 || load & DestinationLoad::OVERLOAD != 0 {
            return true;
        }
        let overhead = (active << 8) + DestinationLoad::total(load);
        let (ours, theirs) = (overhead.wrapping_mul(self.weight), self.load.wrapping_mul(weight));
        if self.weight == 0 || ours < theirs || ours == theirs && order > self.choice >> ORDER_SHIFT
        {
            self.choice = Choice::of(candidate.destination).0 | order << ORDER_SHIFT;
            self.weight = weight;
            self.load = overhead;
        }
        true
    }
}

/// What the set of an address comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Located {
    /// The least loaded destination of the set, which is not overloaded.
    Destination(u32),
    /// The same, for this packet alone.
    Once(u32),
    /// The scheduler chooses, and its choice comes into the set at this place.
    Newcomer(u8),
}

/// A [`Located`] in one word, as a function of its own returns it in the kernel.
impl From<Located> for u64 {
    #[inline(always)]
    fn from(located: Located) -> Self {
        match located {
            Located::Destination(destination) => Choice::of(destination).0,
            Located::Once(destination) => Choice::of(destination).0 | ONCE,
            Located::Newcomer(place) => place as Self,
        }
    }
}

impl From<u64> for Located {
    #[inline(always)]
    fn from(word: u64) -> Self {
        let choice = Choice(word);
        if !choice.is_some() {
            Self::Newcomer((word & 0xff) as u8)
        } else if word & ONCE != 0 {
            Self::Once(choice.destination())
        } else {
            Self::Destination(choice.destination())
        }
    }
}

/// The destination of a new connection to a service whose scheduler is lblcr, if the set of its address has one.
#[inline(always)]
pub fn locate<H: Host>(host: &H, opening: &FlowKey, ingress: u32) -> Located {
    let Some(service) = record(host, opening, ingress) else { return Located::Newcomer(0) };
    let persistent = service.flags & ServiceFlags::PERSISTENT != 0;
    if service.scheduler != scheduler_id::LBLCR || persistent {
        return Located::Newcomer(0);
    }
    let addresses = key(&service, opening, 0).addresses;
    let mut members = Members {
        host,
        pool_line: service.pool_line as u64,
        addresses,
        choice: 0,
        weight: 0,
        load: 0,
        state: 0,
    };
    host.repeat(service.pool_entries, &mut members);
    let choice = Choice(members.choice);
    let overloaded =
        members.state & IDLE != 0 && active(host, choice.destination()) > members.weight;
    if !choice.is_some() || overloaded {
        return Located::Newcomer((members.state % PLACES) as u8);
    }
    if let Some(found) = entry_of(host, &key_of(addresses, choice.destination())) {
        renew(host, &found);
    }
    if service.flags & ServiceFlags::ONE_PACKET != 0 {
        return Located::Once(choice.destination());
    }
    Located::Destination(choice.destination())
}
