//! What is asked of the node: by the file, by checks, and by hand.
//!
//! **Invariant:** `effective` is what the file says, as checks leave it, with what was done by hand put over it; the
//! table is changed by differences of it alone.
//!
//! Part of the node, which keeps it under its writer lock.

use std::collections::HashMap;

use elvs_model::health::{Drained, OnDrift};
use elvs_model::{
    Change, ChangeError, Desired, DesiredService, Destination, DestinationKey, LocalAddresses,
    ServiceKey, VirtualService, diff,
};
use indexmap::IndexSet;
use serde::{Deserialize, Serialize};

use crate::run::health::Tables;

/// Everything that is asked for.
#[derive(Debug, Default)]
pub(in crate::run) struct Held {
    /// The file.
    desired: Desired,
    /// What is to be in force.
    effective: Desired,
    /// Places in `desired`.
    in_file: HashMap<ServiceKey, usize>,
    /// Places in `effective`.
    places: HashMap<ServiceKey, usize>,
    /// What stays of what was done by hand.
    by_hand: ByHand,
}

/// What `ipvsadm` did to what the file says.
#[derive(Clone, Debug, Default)]
struct ByHand {
    /// Services that were changed or (`None`) deleted.
    services: HashMap<ServiceKey, Option<VirtualService>>,
    /// Destinations that were changed or (`None`) deleted.
    destinations: HashMap<(ServiceKey, DestinationKey), Option<Destination>>,
    /// Destinations that get no new connections, whatever the file and checks say (`elvs drain`).
    drained: IndexSet<Drained>,
}

/// What was done by hand, as it is kept on disk.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct KeptByHand {
    services: Vec<(ServiceKey, Option<VirtualService>)>,
    destinations: Vec<(ServiceKey, DestinationKey, Option<Destination>)>,
    drained: Vec<Drained>,
}

impl KeptByHand {
    /// What an orderly stop leaves: a real server that is being worked at stays without new connections.
    pub(super) fn after_stop(self) -> Self {
        Self { drained: self.drained, ..Self::default() }
    }

    /// Nothing was done.
    pub(super) const fn is_empty(&self) -> bool {
        self.services.is_empty() && self.destinations.is_empty() && self.drained.is_empty()
    }
}

impl ByHand {
    /// What of it stays, of two files: what the second says anew counts. What drains does so while the file names it.
    fn under(&self, before: &Desired, after: &Desired) -> Self {
        let mut stays = self.clone();
        if after.health.on_drift == OnDrift::Restore {
            stays.services.clear();
            stays.destinations.clear();
        }
        if stays.services.is_empty() && stays.destinations.is_empty() && stays.drained.is_empty() {
            return stays;
        }
        let (services_before, services_after) = (services(before), services(after));
        let (before, after) = (destinations(before), destinations(after));
        let same = |key: &(ServiceKey, DestinationKey)| {
            after.contains_key(key) && before.get(key) == after.get(key)
        };
        let service_stays = |key: &ServiceKey, now: &Option<VirtualService>| {
            let there = (services_before.get(key), services_after.get(key));
            let (Some(was), Some(is)) = there else { return false };
            let whole = || {
                was.local_addresses == is.local_addresses
                    && is.destinations.iter().all(|destination| same(&(*key, destination.key)))
            };
            was.service == is.service && (now.is_some() || whole())
        };
        stays.services.retain(|key, now| service_stays(key, now));
        stays.destinations.retain(|key, _| same(key));
        stays.drained.retain(|drained| after.contains_key(&(drained.service, drained.destination)));
        stays
    }
}

impl Held {
    /// What an earlier daemon was asked for.
    pub(super) fn restored(desired: Desired, kept: KeptByHand) -> Self {
        let destinations = kept.destinations.into_iter();
        let destinations = destinations.map(|(service, key, now)| ((service, key), now)).collect();
        let (services, drained) = (kept.services, kept.drained);
        let by_hand = ByHand {
            services: services.into_iter().collect(),
            destinations,
            drained: drained.into_iter().collect(),
        };
        Self { desired, by_hand, ..Self::default() }
    }

    /// What was done by hand and stays.
    pub(super) fn by_hand(&self) -> KeptByHand {
        let ByHand { services, destinations, drained } = &self.by_hand;
        let destinations = destinations.iter();
        KeptByHand {
            services: services.iter().map(|(key, now)| (*key, now.clone())).collect(),
            destinations: destinations
                .map(|((service, key), now)| (*service, *key, *now))
                .collect(),
            drained: drained.iter().copied().collect(),
        }
    }

    /// Real servers that drain, the last one last.
    pub(super) fn drained(&self) -> Vec<Drained> {
        self.by_hand.drained.iter().copied().collect()
    }

    /// Has a real server drain, or no longer; whether that is news. It is in force with the next [`Self::take_over`].
    ///
    /// # Errors
    /// The file does not name it.
    pub(super) fn drain(&mut self, server: Drained, on: bool) -> Result<bool, ChangeError> {
        let in_file = self.in_file.get(&server.service);
        let Some(service) = in_file.and_then(|place| self.desired.services.get(*place)) else {
            return Err(ChangeError::NoSuchService);
        };
        if find(&service.destinations, &server.destination).is_none() {
            return Err(ChangeError::NoSuchDestination);
        }
        let drained = &mut self.by_hand.drained;
        Ok(if on { drained.insert(server) } else { drained.shift_remove(&server) })
    }

    /// The destinations in force of a real server's service, with its own as it is planned.
    pub(super) fn with_planned(&self, server: Drained, planned: &Desired) -> Tables {
        let Drained { service, destination } = server;
        let in_force = self.places.get(&service);
        let in_force = in_force.and_then(|place| self.effective.services.get(*place));
        let planned = planned.services.iter().find(|there| there.service.key == service);
        let planned = planned.and_then(|service| find(&service.destinations, &destination));
        let Some((in_force, planned)) = in_force.zip(planned) else { return Tables::new() };
        let mut destinations = in_force.destinations.clone();
        for there in destinations.iter_mut().filter(|there| there.key == destination) {
            *there = *planned;
        }
        Tables::from([(service, destinations)])
    }

    /// What is asked for when a file is taken over, with what checks make of it.
    pub(super) fn with_file(&self, desired: Desired, mut effective: Desired) -> Self {
        let by_hand = self.by_hand.under(&self.desired, &desired);
        let in_file = places(&desired);
        let mut new = Self { desired, in_file, by_hand, ..Self::default() };
        effective.services.retain_mut(|service| {
            match new.by_hand.services.get(&service.service.key) {
                None => {}
                Some(None) => return false,
                Some(Some(changed)) => service.service = changed.clone(),
            }
            new.put_over(service.service.key, &mut service.destinations);
            true
        });
        new.places = places(&effective);
        new.effective = effective;
        new
    }

    /// The file.
    pub(in crate::run) const fn desired(&self) -> &Desired {
        &self.desired
    }

    /// What is to be in force.
    pub(super) const fn effective(&self) -> &Desired {
        &self.effective
    }

    /// Takes destinations over that checks decided on; answers the changes, and what undoes this.
    pub(super) fn take_over(&mut self, tables: &Tables) -> (Vec<Change>, Tables) {
        let (mut old, mut new) = (Desired::default(), Desired::default());
        let mut undo = Tables::new();
        for (key, destinations) in tables {
            let mut destinations = destinations.clone();
            self.put_over(*key, &mut destinations);
            let place = self.places.get(key).copied();
            let Some(service) = place.and_then(|place| self.effective.services.get_mut(place))
            else {
                continue;
            };
            if destinations == service.destinations {
                continue;
            }
            old.services.push(service.clone());
            undo.insert(*key, std::mem::replace(&mut service.destinations, destinations));
            new.services.push(service.clone());
        }
        (diff(&old, &new), undo)
    }

    /// Takes back what [`Self::take_over`] did.
    pub(super) fn undo(&mut self, undo: Tables) {
        for (key, destinations) in undo {
            let place = self.places.get(&key).copied();
            if let Some(service) = place.and_then(|place| self.effective.services.get_mut(place)) {
                service.destinations = destinations;
            }
        }
    }

    /// Whether somebody's change concerns what the file says.
    pub(super) fn concerns(&self, change: &Change) -> bool {
        let known = |key: &ServiceKey| self.in_file.contains_key(key);
        match change {
            Change::AddService(service) | Change::EditService(service) => known(&service.key),
            Change::DeleteService(key)
            | Change::AddDestination { service: key, .. }
            | Change::EditDestination { service: key, .. }
            | Change::DeleteDestination { service: key, .. }
            | Change::AddLocalAddress { service: key, .. }
            | Change::DeleteLocalAddress { service: key, .. } => known(key),
            Change::Flush => !self.in_file.is_empty(),
            Change::SetTimeouts(_) => self.desired.timeouts.is_some(),
            Change::AddMark(_) | Change::StartSync(_) | Change::StopSync(_) => false,
            Change::DeleteMark(rule) => self.desired.marks.iter().any(|known| known == rule),
            Change::Set { setting, .. } => {
                self.desired.settings.changed().any(|(changed, _)| changed == *setting)
            }
        }
    }

    /// Takes note of changes by hand that stay.
    pub(super) fn keep(&mut self, changes: &[Change], fates: &[Result<(), ChangeError>]) {
        for (change, fate) in changes.iter().zip(fates) {
            if fate.is_err() || !self.concerns(change) {
                continue;
            }
            match change {
                Change::DeleteService(key) => self.delete_service(key),
                Change::Flush => {
                    let all: Vec<ServiceKey> = self.in_file.keys().copied().collect();
                    all.iter().for_each(|key| self.delete_service(key));
                }
                Change::AddService(service) => self.add_service(service),
                Change::EditService(service) => self.edit_service(service),
                Change::AddDestination { service, destination }
                | Change::EditDestination { service, destination } => {
                    self.keep_destination(*service, destination.key, Some(*destination));
                }
                Change::DeleteDestination { service, destination } => {
                    self.keep_destination(*service, *destination, None);
                }
                Change::AddLocalAddress { .. }
                | Change::DeleteLocalAddress { .. }
                | Change::SetTimeouts(_)
                | Change::AddMark(_)
                | Change::DeleteMark(_)
                | Change::Set { .. }
                | Change::StartSync(_)
                | Change::StopSync(_) => {}
            }
        }
    }

    fn delete_service(&mut self, key: &ServiceKey) {
        self.by_hand.services.insert(*key, None);
        self.by_hand.destinations.retain(|(service, _), _| service != key);
        let Some(place) = self.places.remove(key) else { return };
        self.effective.services.swap_remove(place);
        if let Some(moved) = self.effective.services.get(place) {
            self.places.insert(moved.service.key, place);
        }
    }

    /// One that was deleted, so it comes without real servers.
    fn add_service(&mut self, service: &VirtualService) {
        let key = service.key;
        let in_file = self.in_file.get(&key).and_then(|place| self.desired.services.get(*place));
        let Some(in_file) = in_file else { return };
        let gone = in_file.destinations.iter().map(|destination| ((key, destination.key), None));
        self.by_hand.destinations.extend(gone);
        self.by_hand.services.insert(key, Some(service.clone()));
        self.places.insert(key, self.effective.services.len());
        self.effective.services.push(DesiredService {
            service: service.clone(),
            destinations: Vec::new(),
            local_addresses: LocalAddresses::default(),
            health: in_file.health.clone(),
        });
    }

    fn edit_service(&mut self, service: &VirtualService) {
        self.by_hand.services.insert(service.key, Some(service.clone()));
        let place = self.places.get(&service.key).copied();
        if let Some(there) = place.and_then(|place| self.effective.services.get_mut(place)) {
            there.service = service.clone();
        }
    }

    /// Puts what was done by hand over a list of destinations. What checks took out stays out.
    fn put_over(&self, service: ServiceKey, destinations: &mut Vec<Destination>) {
        if self.by_hand.destinations.is_empty() && self.by_hand.drained.is_empty() {
            return;
        }
        destinations.retain_mut(|destination| {
            let there = match self.by_hand.destinations.get(&(service, destination.key)) {
                None => true,
                Some(None) => false,
                Some(Some(changed)) => {
                    // Weight 0 is also how checks keep new connections away from a server.
                    let kept_away = destination.weight == 0
                        && self.weight_in_file(&service, &destination.key) != Some(0);
                    let weight = if kept_away { 0 } else { changed.weight };
                    *destination = Destination { weight, ..*changed };
                    true
                }
            };
            if self.by_hand.drained.contains(&Drained { service, destination: destination.key }) {
                destination.weight = 0;
            }
            there
        });
    }

    /// What the file says of a destination's weight.
    fn weight_in_file(&self, service: &ServiceKey, key: &DestinationKey) -> Option<u32> {
        let service = self.desired.services.get(*self.in_file.get(service)?)?;
        find(&service.destinations, key).map(|destination| destination.weight)
    }

    /// What is in force is as somebody's hand made it.
    fn keep_destination(
        &mut self,
        service: ServiceKey,
        key: DestinationKey,
        now: Option<Destination>,
    ) {
        self.by_hand.destinations.insert((service, key), now);
        if now.is_some_and(|now| now.weight > 0) {
            // The last word counts.
            self.by_hand.drained.shift_remove(&Drained { service, destination: key });
        }
        let place = self.places.get(&service).copied();
        let Some(service) = place.and_then(|place| self.effective.services.get_mut(place)) else {
            return;
        };
        match now {
            None => service.destinations.retain(|destination| destination.key != key),
            Some(now) => {
                let mut there = service.destinations.iter_mut();
                if let Some(destination) = there.find(|destination| destination.key == key) {
                    *destination = now;
                }
            }
        }
    }
}

fn find<'a>(all: &'a [Destination], key: &DestinationKey) -> Option<&'a Destination> {
    all.iter().find(|destination| destination.key == *key)
}

fn places(desired: &Desired) -> HashMap<ServiceKey, usize> {
    let services = desired.services.iter().enumerate();
    services.map(|(place, service)| (service.service.key, place)).collect()
}

fn services(desired: &Desired) -> HashMap<ServiceKey, &DesiredService> {
    desired.services.iter().map(|service| (service.service.key, service)).collect()
}

fn destinations(desired: &Desired) -> HashMap<(ServiceKey, DestinationKey), &Destination> {
    let of = |service: &'_ elvs_model::DesiredService| service.service.key;
    let all = desired.services.iter();
    all.flat_map(|service| service.destinations.iter().map(move |d| ((of(service), d.key), d)))
        .collect()
}

#[cfg(test)]
mod tests;
