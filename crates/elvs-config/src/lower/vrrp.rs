//! What `vrrp_instance` blocks say that virtual servers depend on, and what keepalived would do otherwise than they read.
//!
//! **Invariant:** reads only; nothing of VRRP is lowered here.
//!
//! Called by the lowering of the root statements.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use elvs_model::{DesiredService, ServiceKey};

use super::tally::Tally;
use crate::diagnostic::{Code, Reporter};
use crate::sources::Extent;
use crate::tree::Item;

/// Reports `nopreempt` of an instance that begins as master.
pub(super) fn check_preemption(items: &[Item], reporter: &mut Reporter) {
    for instance in instances(items) {
        let find = |word: &str| instance.items().iter().rfind(|i| i.keyword.text == word);
        let Some(nopreempt) = find("nopreempt") else { continue };
        let state = find("state").and_then(|item| item.arguments.first());
        let Some(state) = state.filter(|state| state.text == "MASTER") else { continue };
        reporter
            .warning(
                Code::Doubtful,
                nopreempt.head(),
                "`nopreempt` has no effect with `state MASTER`",
            )
            .help("write `state BACKUP`: the priority says who becomes master")
            .related(state.extent, "the state");
    }
}

/// Reports virtual servers on addresses that no instance carries, if there is an instance at all.
pub(super) fn check_addresses(
    items: &[Item],
    services: &[DesiredService],
    places: &HashMap<ServiceKey, Extent>,
    reporter: &mut Reporter,
) {
    if instances(items).next().is_none() {
        return;
    }
    let carried = carried(items);
    let mut missing = Tally::default();
    let mut seen = HashSet::new();
    for desired in services {
        let ServiceKey::Address { address, .. } = desired.service.key else { continue };
        let Some(at) = places.get(&desired.service.key) else { continue };
        if !carried.contains(&address) && seen.insert(address) {
            missing.count_with(*at, || format!("no vrrp_instance carries the address {address}"));
        }
    }
    missing.warn(
        reporter,
        "addresses",
        "write it in the `virtual_ipaddress` of the instance that moves it; without one it does not move to another director",
    );
}

fn instances(items: &[Item]) -> impl Iterator<Item = &Item> {
    items.iter().filter(|item| item.keyword.text == "vrrp_instance")
}

/// Addresses of instances, and those that are always there.
fn carried(items: &[Item]) -> HashSet<IpAddr> {
    let blocks = instances(items).flat_map(Item::items).filter(|item| {
        matches!(item.keyword.text.as_str(), "virtual_ipaddress" | "virtual_ipaddress_excluded")
    });
    let fixed = items.iter().filter(|item| item.keyword.text == "static_ipaddress");
    blocks
        .chain(fixed)
        .flat_map(Item::items)
        .filter_map(|line| line.keyword.text.split('/').next()?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests;
