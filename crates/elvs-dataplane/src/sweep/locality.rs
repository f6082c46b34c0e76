//! The sets of lblcr: which destinations the connections to one address have, entry by entry in the flow table, as whole sets.
//!
//! **Invariant:** a verdict is carried out in the pass after the one that gave it, on an entry that is still the same.
//!
//! Called by the sweeper.

use std::collections::{HashMap, HashSet};

use elvs_common::Control;
use elvs_fastpath::{WideValue, destination_of};

use crate::backend::Now;
use crate::connection::Live;

/// Sets as the last passes saw them.
#[derive(Clone, Debug, Default)]
pub(super) struct Sets {
    /// Met in this pass, by their addresses in the table.
    met: HashMap<WideValue, Vec<Member>>,
    /// As they were at the end of the pass before.
    known: HashMap<WideValue, Known>,
    /// What is to become of entries in this pass.
    verdicts: HashMap<(WideValue, u32), Verdict>,
}

/// A destination in a set.
#[derive(Clone, Copy, Debug)]
struct Member {
    destination: u32,
    /// Tick of its last use.
    tick: u32,
    place: u16,
}

/// What is remembered of a set.
#[derive(Clone, Debug)]
struct Known {
    /// Tick at which a destination last came or went (`lastmod` in IPVS).
    modified: u32,
    destinations: HashSet<u32>,
}

/// What becomes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It stays.
    Stays,
    /// It ends, if it was not used since.
    Expires,
    /// It ends: its destination is the most loaded of a set that did not change for long.
    Leaves,
    /// It gets another place.
    Moves(u16),
}

/// What the judge of a set is told of a destination.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Burden {
    /// Its weight; 0 if it is not in its service's list.
    pub(crate) weight: u32,
    /// `(active << 8) + active + inactive`.
    pub(crate) overhead: u64,
}

/// Places are given anew from this one on.
const MANY: u16 = Control::PLACES / 2;

impl Sets {
    /// Meets an entry; what is to become of it.
    pub(super) fn meet(&mut self, live: &Live) -> Verdict {
        let destination = destination_of(live.ports_destination);
        let verdict = self.verdicts.remove(&(live.addresses, destination));
        let verdict = verdict.unwrap_or(Verdict::Stays);
        let place = match verdict {
            Verdict::Leaves => return verdict,
            Verdict::Moves(place) => place,
            Verdict::Stays | Verdict::Expires => live.control.place(),
        };
        let member = Member { destination, tick: live.control.tick(), place };
        self.met.entry(live.addresses).or_default().push(member);
        verdict
    }

    /// Whether there is anything to judge.
    pub(super) fn is_empty(&self) -> bool {
        self.met.is_empty() && self.known.is_empty()
    }

    /// Judges the sets of the pass that ends, as `ip_vs_lblcr_schedule` does when a set is looked up and `ip_vs_lblcr_full_check`
    /// now and then: one that was not used for `expiration` ticks ends; one that was used, and has not changed for so long, loses
    /// its most loaded destination.
    pub(super) fn judge(&mut self, now: Now, expiration: u32, burden: impl Fn(u32) -> Burden) {
        self.verdicts.clear();
        let mut before = std::mem::take(&mut self.known);
        for (addresses, members) in std::mem::take(&mut self.met) {
            let unused = |members: &mut dyn Iterator<Item = &Member>| {
                members.map(|member| now.idle(member.tick)).min().unwrap_or(u32::MAX)
            };
            let used = unused(&mut members.iter());
            if used > expiration {
                let ends = |m: &Member| ((addresses, m.destination), Verdict::Expires);
                self.verdicts.extend(members.iter().map(ends));
                continue;
            }
            let known = before.remove(&addresses);
            let is_new = |m: &&Member| {
                known.as_ref().is_none_or(|known| !known.destinations.contains(&m.destination))
            };
            let newest = unused(&mut members.iter().filter(is_new));
            let kept = known.as_ref().map_or(u32::MAX, |known| now.idle(known.modified));
            let mut modified = newest.min(kept);
            let mut destinations: HashSet<u32> = members.iter().map(|m| m.destination).collect();
            let due = modified.checked_sub(used).is_some_and(|since| since > expiration);
            if due && let Some(most) = most_loaded(&members, &burden).filter(|_| members.len() > 1)
            {
                self.verdicts.insert((addresses, most), Verdict::Leaves);
                destinations.remove(&most);
                modified = 0;
            }
            self.renumber(addresses, members, known.as_ref());
            let modified = now.tick().wrapping_sub(modified);
            self.known.insert(addresses, Known { modified, destinations });
        }
    }

    /// Gives the members of a set the first places there are, in their order, if the set is about to run out of them, or a
    /// newcomer's is not the last: while a destination is not in its service's list, nobody sees its place.
    fn renumber(&mut self, addresses: WideValue, mut members: Vec<Member>, known: Option<&Known>) {
        let is_new = |m: &Member| known.is_none_or(|k| !k.destinations.contains(&m.destination));
        members.sort_by_key(|member| (is_new(member), member.place));
        let in_order = members.iter().is_sorted_by(|a, b| a.place < b.place);
        if in_order && members.iter().all(|member| member.place < MANY) {
            return;
        }
        for (place, member) in (0..).zip(members) {
            let verdict = self.verdicts.entry((addresses, member.destination));
            verdict.or_insert(Verdict::Moves(place));
        }
    }
}

/// The most loaded destination of a set, by load over weight; of equals the newest (`ip_vs_dest_set_max`).
fn most_loaded(members: &[Member], burden: &impl Fn(u32) -> Burden) -> Option<u32> {
    let mut ordered: Vec<&Member> = members.iter().collect();
    ordered.sort_by_key(|member| std::cmp::Reverse(member.place));
    let mut most: Option<(u32, Burden)> = None;
    for member in ordered {
        let candidate = burden(member.destination);
        if candidate.weight == 0 {
            continue;
        }
        let wide = |load: u64, weight: u32| u128::from(load) * u128::from(weight);
        let is_more = most.is_none_or(|(_, most)| {
            wide(most.overhead, candidate.weight) < wide(candidate.overhead, most.weight)
        });
        if is_more {
            most = Some((member.destination, candidate));
        }
    }
    most.map(|(destination, _)| destination)
}
