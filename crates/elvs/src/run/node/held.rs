//! What is asked of the node: by the file, by checks, and by hand.
//!
//! **Invariant:** `effective` is what the file says, as checks leave it, with what was done by hand put over it; the
//! table is changed by differences of it alone.
//!
//! Part of the node, which keeps it under its writer lock.

use std::collections::HashMap;

use elvs_model::health::OnDrift;
use elvs_model::{Change, ChangeError, Desired, Destination, DestinationKey, ServiceKey, diff};

use crate::run::health::Tables;

/// Everything that is asked for.
#[derive(Debug, Default)]
pub(in crate::run) struct Held {
    /// The file.
    desired: Desired,
    /// What is to be in force.
    effective: Desired,
    /// Places in `effective`.
    places: HashMap<ServiceKey, usize>,
    /// Destinations of the file that `ipvsadm` changed or (`None`) deleted, and that stay so.
    by_hand: HashMap<(ServiceKey, DestinationKey), Option<Destination>>,
}

/// A destination that was changed by hand, or (`None`) deleted, as it is kept on disk.
pub(super) type ByHand = (ServiceKey, DestinationKey, Option<Destination>);

impl Held {
    /// What an earlier daemon was asked for.
    pub(super) fn restored(desired: Desired, by_hand: Vec<ByHand>) -> Self {
        let by_hand = by_hand.into_iter().map(|(service, key, now)| ((service, key), now));
        Self { desired, by_hand: by_hand.collect(), ..Self::default() }
    }

    /// What was done by hand and stays.
    pub(super) fn by_hand(&self) -> Vec<ByHand> {
        self.by_hand.iter().map(|((service, key), now)| (*service, *key, *now)).collect()
    }

    /// What is asked for when a file is taken over, with what checks make of it.
    pub(super) fn with_file(&self, desired: Desired, mut effective: Desired) -> Self {
        let mut by_hand = HashMap::new();
        if desired.health.on_drift == OnDrift::Keep && !self.by_hand.is_empty() {
            let (before, after) = (destinations(&self.desired), destinations(&desired));
            // What the file says anew counts.
            let stays = |key: &(ServiceKey, DestinationKey)| {
                after.contains_key(key) && before.get(key) == after.get(key)
            };
            by_hand = self.by_hand.clone();
            by_hand.retain(|key, _| stays(key));
        }
        let places = effective.services.iter().enumerate();
        let places = places.map(|(place, service)| (service.service.key, place)).collect();
        let mut new = Self { desired, effective: Desired::default(), places, by_hand };
        for service in &mut effective.services {
            new.put_over(service.service.key, &mut service.destinations);
        }
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
        let known = |key: &ServiceKey| self.places.contains_key(key);
        match change {
            Change::AddService(service) | Change::EditService(service) => known(&service.key),
            Change::DeleteService(key)
            | Change::AddDestination { service: key, .. }
            | Change::EditDestination { service: key, .. }
            | Change::DeleteDestination { service: key, .. }
            | Change::AddLocalAddress { service: key, .. }
            | Change::DeleteLocalAddress { service: key, .. } => known(key),
            Change::Flush => !self.places.is_empty(),
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
            let Some((service, key, now)) = change.of_destination() else { continue };
            let kept = ((service, key), now);
            self.by_hand.insert(kept.0, kept.1);
            self.change_effective(kept);
        }
    }

    /// Puts what was done by hand over a list of destinations. What checks took out stays out.
    fn put_over(&self, service: ServiceKey, destinations: &mut Vec<Destination>) {
        if self.by_hand.is_empty() {
            return;
        }
        destinations.retain_mut(|destination| {
            match self.by_hand.get(&(service, destination.key)) {
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
            }
        });
    }

    /// What the file says of a destination's weight.
    fn weight_in_file(&self, service: &ServiceKey, key: &DestinationKey) -> Option<u32> {
        // Services are in the same order in both.
        let service = self.desired.services.get(*self.places.get(service)?)?;
        service.destinations.iter().find(|d| d.key == *key).map(|d| d.weight)
    }

    /// What is in force is as somebody's hand made it.
    fn change_effective(
        &mut self,
        ((service, key), now): ((ServiceKey, DestinationKey), Option<Destination>),
    ) {
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

fn destinations(desired: &Desired) -> HashMap<(ServiceKey, DestinationKey), &Destination> {
    let of = |service: &'_ elvs_model::DesiredService| service.service.key;
    let all = desired.services.iter();
    all.flat_map(|service| service.destinations.iter().map(move |d| ((of(service), d.key), d)))
        .collect()
}

#[cfg(test)]
mod tests;
