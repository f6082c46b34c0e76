//! Locality: connections to one address go to one destination for as long as it is not overloaded (`ip_vs_lblc.c`).
//!
//! **Invariant:** which destination an address goes to is an entry of the flow table under a protocol number of its own;
//! it counts only while its destination is in the service's list.

use elvs_common::{
    Control, DestinationLoad, LOCALITY, REFRESH_TICKS, ServiceRecord, idle_ticks, template_protocol,
};

use super::{Choice, entry};
use crate::atomic::Atomic64;
use crate::flow::{
    FlowKey, Step, destination_of, flow_hash, home_bucket, ports_of, release_flow, search,
};
use crate::host::Host;
use crate::service::low;

/// Key of the entry for the address that a packet goes to.
#[inline(always)]
pub(super) const fn key(service: &ServiceRecord, opening: &FlowKey) -> FlowKey {
    FlowKey {
        addresses: service.index as u64 | (opening.address() as u64) << 32,
        ports: 0,
        protocol: template_protocol(LOCALITY),
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
    let key = key(service, opening);
    let (wanted, ports) = (key.addresses, key.ports as u64);
    let same = move |_: Control, addresses: u64, ports_destination: u64| {
        addresses == wanted && ports_of(ports_destination) as u64 == ports
    };
    let hash = flow_hash(key.client(), key.client_port(), key.protocol, host.seed());
    let home = home_bucket(hash, host.buckets());
    let Some(bucket) = host.bucket(home) else { return Choice::NOBODY };
    let found = search::<false, _>(host, bucket, home, key.protocol, &same);
    if !found.hit {
        return Choice::NOBODY;
    }
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
    let tick = host.tick();
    if idle_ticks(tick, found.control.tick()) >= REFRESH_TICKS {
        // Whoever changes it meanwhile renews it too.
        let _ =
            found.slot.control.compare_exchange(found.control.0, found.control.with_tick(tick).0);
    }
    Choice::of(destination)
}
