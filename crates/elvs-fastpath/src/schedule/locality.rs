//! Locality: connections to one address go to one destination for as long as it is not overloaded (`ip_vs_lblc.c`), or
//! to the least loaded of a set that grows when all of it is (`ip_vs_lblcr.c`).
//!
//! **Invariant:** that an address goes to a destination is an entry of the flow table under a protocol number of its own;
//! it counts only while the destination is in the service's list.

use elvs_common::{
    Control, DestinationLoad, LBLC_PORTS, LOCALITY, REFRESH_TICKS, ServiceFlags, ServiceRecord,
    idle_ticks, scheduler_id, template_protocol,
};

use super::{Choice, ONCE, careless, entry};
use crate::atomic::Atomic64;
use crate::flow::{FlowKey, FoundFlow, Step, destination_of, find_parts, release_flow};
use crate::host::Host;
use crate::service::low;
use crate::side::{self, Side};

/// Protocol number of the entries.
pub(crate) const MEMORY: u8 = template_protocol(LOCALITY);

/// Keeps an entry that is used.
#[inline(always)]
fn renew<H: Host, A, V>(host: &H, found: &FoundFlow<'_, H::Word, A, V>) {
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
    /// Whether the scheduler would find anybody.
    usable: u64,
}

impl<H: Host> Step for Review<'_, H> {
    #[inline(always)]
    fn step(&mut self, index: u32) -> bool {
        let Some(found) = entry(self.host, low(self.pool_line), index) else { return false };
        let weight = found.weight as u64;
        if found.destination as u64 == self.destination {
            self.weight = weight;
        }
        let load = self.host.load(found.destination).map_or(0, |load| load.load());
        if (DestinationLoad::active(load) as u64) * 2 < weight {
            self.idle = 1;
        }
        if weight != 0 && load & DestinationLoad::OVERLOAD == 0 {
            self.usable = 1;
        }
        true
    }
}

#[inline(always)]
fn active<H: Host>(host: &H, destination: u32) -> u64 {
    host.load(destination).map_or(0, |load| DestinationLoad::active(load.load()) as u64)
}

/// Destination of the address that a packet goes to. An entry whose destination was removed, quiesced or is overloaded,
/// while another one is half idle, is ended if there is anybody to take its place.
#[inline(always)]
pub(super) fn find<S: Side, H: Host>(
    host: &H,
    service: &ServiceRecord,
    opening: &FlowKey<S::Value>,
) -> Choice {
    let key = S::locality_key(service, opening, LBLC_PORTS);
    let Some(found) = side::find::<S, _>(host, &key) else { return Choice::NOBODY };
    let destination = destination_of(found.ports_destination);
    let mut review = Review {
        host,
        pool_line: service.pool_line as u64,
        destination: destination as u64,
        weight: 0,
        idle: 0,
        usable: 0,
    };
    host.repeat(service.pool_entries, &mut review);
    let overloaded = active(host, destination) > review.weight && review.idle != 0;
    if review.weight == 0 || overloaded {
        if review.usable != 0 {
            // Whoever changes it meanwhile has found it good for another packet, or ends it as well.
            let _ = release_flow(S::memory(host), found.bucket, found.slot, found.control);
        }
        return Choice::NOBODY;
    }
    renew(host, &found);
    Choice::of(destination)
}

/// Search for the least loaded destination of the set of an address.
struct Members<'a, S: Side, H> {
    host: &'a H,
    pool_line: u64,
    /// Addresses of the set's entries.
    addresses: &'a S::Value,
    /// [`Choice`] so far, and above it the place in which it came into the set.
    choice: u64,
    weight: u64,
    /// Its overhead, `(active << 8) + active + inactive`.
    load: u64,
    /// Whether somebody in the list has less than half as many active connections as its weight ([`IDLE`]), and the place of
    /// the next newcomer.
    state: u64,
}

/// Where the place lies in [`Members::choice`].
const ORDER_SHIFT: u32 = 40;
/// Bit of [`Members::state`].
const IDLE: u64 = 1 << 16;
/// Places in a set; among equals the newest wins. The daemon renumbers a set before they run out.
const PLACES: u64 = Control::PLACES as u64;

impl<S: Side, H: Host> Step for Members<'_, S, H> {
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
        let found = find_parts(
            S::memory(self.host),
            self.addresses,
            candidate.destination,
            MEMORY,
            S::buckets(self.host),
            self.host.seed(),
        );
        let Some(member) = found else { return true };
        let order = member.control.place() as u64;
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
    Newcomer(u16),
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
            Self::Newcomer((word & 0xffff) as u16)
        } else if word & ONCE != 0 {
            Self::Once(choice.destination())
        } else {
            Self::Destination(choice.destination())
        }
    }
}

/// The destination of a new connection to a service whose scheduler is lblcr, if the set of its address has one.
#[inline(always)]
pub fn locate<S: Side, H: Host>(host: &H, opening: &FlowKey<S::Value>, ingress: u32) -> Located {
    let Some(line) = S::find_exact_service(host, opening, ingress) else {
        return Located::Newcomer(0);
    };
    let service = careless(line);
    let persistent = service.flags & ServiceFlags::PERSISTENT != 0;
    if service.scheduler != scheduler_id::LBLCR || persistent {
        return Located::Newcomer(0);
    }
    let key = S::locality_key(&service, opening, 0);
    let key = S::stash(host, &key);
    let mut members = Members::<S, _> {
        host,
        pool_line: service.pool_line as u64,
        addresses: &key.addresses,
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
        return Located::Newcomer((members.state % PLACES) as u16);
    }
    let (memory, buckets) = (S::memory(host), S::buckets(host));
    let found =
        find_parts(memory, &key.addresses, choice.destination(), MEMORY, buckets, host.seed());
    if let Some(found) = found {
        renew(host, &found);
    }
    if service.flags & ServiceFlags::ONE_PACKET != 0 {
        return Located::Once(choice.destination());
    }
    Located::Destination(choice.destination())
}
