//! Reload by difference: the ordered changes that lead from one configuration to the next.
//!
//! **Invariant:** what both configurations share appears in no change, so connections, counters and the order of
//! untouched destinations survive a reload. Mark rules have no state: of them only the order is kept.
//!
//! Called by the daemon on reload, and by [`Table::from_desired`](crate::Table::from_desired).

use std::collections::{HashMap, HashSet};

use crate::table::INITIAL_TIMEOUTS;
use crate::{
    Change, Desired, DesiredService, Destination, DestinationKey, ForwardingMethod, MarkRule,
    MarkRules, ServiceKey, Setting, Timeouts,
};

/// Changes that turn the table made from `old` into the one made from `new`: deletions first, then edits, then
/// additions in the order of the new file, then deletions of local addresses, of which a service may need one until then; empty when nothing differs.
///
/// A timeout or setting that `new` leaves out, or a timeout that it sets to 0, goes back to IPVS's initial value, as it would on a fresh start.
pub fn diff(old: &Desired, new: &Desired) -> Vec<Change> {
    let before = by_key(old);
    let after = by_key(new);
    let mut changes = Vec::new();
    for (service, destinations) in in_order(old, &before) {
        let key = service.service.key;
        match after.get(&key) {
            None => changes.push(Change::DeleteService(key)),
            Some((_, kept)) => {
                let gone = destinations.order.iter().filter(|d| !stays(d, kept));
                changes.extend(
                    gone.map(|d| Change::DeleteDestination { service: key, destination: d.key }),
                );
            }
        }
    }
    let (mut edits, mut additions, mut last) = (Vec::new(), Vec::new(), Vec::new());
    for (service, destinations) in in_order(new, &after) {
        let key = service.service.key;
        let known = before.get(&key);
        match known {
            None => additions.push(Change::AddService(service.service.clone())),
            Some((was, _)) if was.service != service.service => {
                edits.push(Change::EditService(service.service.clone()));
            }
            Some(_) => {}
        }
        let had = known.map(|(was, _)| &was.local_addresses);
        let new_ones = service.local_addresses.iter();
        let new_ones = new_ones.filter(|address| had.is_none_or(|had| !had.contains(*address)));
        additions.extend(new_ones.map(|address| Change::AddLocalAddress { service: key, address }));
        let gone = had.into_iter().flat_map(|had| had.iter());
        let gone = gone.filter(|address| !service.local_addresses.contains(*address));
        // The last one of a service by full NAT goes only after another came.
        let keeps = had.is_some_and(|had| service.local_addresses.iter().any(|a| had.contains(a)));
        let bare = !keeps && destinations.order.iter().any(|d| is_full_nat(d));
        let when = if bare { &mut last } else { &mut edits };
        when.extend(gone.map(|address| Change::DeleteLocalAddress { service: key, address }));
        for &&destination in &destinations.order {
            let was = known.and_then(|(_, was)| was.by_key.get(&destination.key));
            match was.filter(|was| is_full_nat(was) == is_full_nat(&destination)) {
                None => additions.push(Change::AddDestination { service: key, destination }),
                Some(&&was) if was != destination => {
                    edits.push(Change::EditDestination { service: key, destination });
                }
                Some(_) => {}
            }
        }
    }
    changes.append(&mut edits);
    changes.append(&mut additions);
    changes.append(&mut last);
    changes.append(&mut mark_changes(&old.marks, &new.marks));
    changes.extend(Setting::all().filter_map(|setting| {
        let value = new.settings.value(setting);
        (value != old.settings.value(setting)).then_some(Change::Set { setting, value })
    }));
    let timeouts = effective(new);
    if timeouts != effective(old) {
        changes.push(Change::SetTimeouts(timeouts));
    }
    changes
}

/// Whether a destination is edited if anything; going over to full NAT or from it, a service begins anew: it cannot mix methods.
fn stays(destination: &Destination, kept: &Destinations<'_>) -> bool {
    let now = kept.by_key.get(&destination.key);
    now.is_some_and(|now| is_full_nat(now) == is_full_nat(destination))
}

const fn is_full_nat(destination: &Destination) -> bool {
    matches!(destination.method, ForwardingMethod::FullNat)
}

/// Destinations of one service; of two with one key the first counts.
struct Destinations<'a> {
    order: Vec<&'a Destination>,
    by_key: HashMap<DestinationKey, &'a Destination>,
}

type Services<'a> = HashMap<ServiceKey, (&'a DesiredService, Destinations<'a>)>;

fn by_key(desired: &Desired) -> Services<'_> {
    let mut services = HashMap::with_capacity(desired.services.len());
    for service in &desired.services {
        let mut seen = HashSet::with_capacity(service.destinations.len());
        let order: Vec<_> = service.destinations.iter().filter(|d| seen.insert(d.key)).collect();
        let by_key = order.iter().map(|d| (d.key, *d)).collect();
        services
            .entry(service.service.key)
            .or_insert_with(|| (service, Destinations { order, by_key }));
    }
    services
}

/// The services of `services` in the order of the file.
fn in_order<'a, 'b>(
    desired: &'a Desired,
    services: &'b Services<'a>,
) -> impl Iterator<Item = (&'a DesiredService, &'b Destinations<'a>)> {
    desired.services.iter().filter_map(|service| {
        let (first, destinations) = services.get(&service.service.key)?;
        std::ptr::eq(*first, service).then_some((service, destinations))
    })
}

/// Mark rules that go, then those that come, in the order of the new file. Rules are added at the end, so one that is kept
/// and that another one now comes before is taken out and added again.
fn mark_changes(old: &MarkRules, new: &MarkRules) -> Vec<Change> {
    let kept: HashSet<&MarkRule> = new.iter().collect();
    let (stay, gone): (Vec<_>, Vec<_>) = old.iter().partition(|rule| kept.contains(rule));
    let in_place = stay.iter().zip(new).take_while(|(old, new)| **old == *new).count();
    let moved = stay.into_iter().skip(in_place);
    let deleted = gone.into_iter().chain(moved).cloned().map(Change::DeleteMark);
    let added = new.iter().skip(in_place).cloned().map(Change::AddMark);
    deleted.chain(added).collect()
}

fn effective(desired: &Desired) -> Timeouts {
    desired.timeouts.map_or(INITIAL_TIMEOUTS, |timeouts| timeouts.or(INITIAL_TIMEOUTS))
}

#[cfg(test)]
mod tests;
