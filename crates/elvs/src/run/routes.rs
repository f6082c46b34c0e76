//! The router: next hops of real servers, learned from the kernel and kept warm.
//!
//! **Invariant:** a next hop is looked up before the first packet needs it, and again whenever links, addresses, routes
//! or neighbours change. The kernel keeps the neighbours resolved by itself.
//!
//! Called by the node when real servers appear, and run by the daemon as a task.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use elvs_common::NextHop;
use elvs_dataplane::Route;
use elvs_net::{Event, Netlink, NextHopError};
use futures::StreamExt;
use tokio::time::{Instant, sleep, timeout};
use tracing::warn;

use super::node::{Node, Problem};

/// Longest wait for neighbours to answer before a table is installed without them.
const PATIENCE: Duration = Duration::from_millis(600);
/// Pause between two looks at neighbours.
const PAUSE: Duration = Duration::from_millis(20);
/// Changes that come together are looked at together.
const SETTLE: Duration = Duration::from_millis(30);
/// Everything is looked at again after this long without a change.
const REFRESH: Duration = Duration::from_secs(10);

/// What was learned of one address.
pub(super) struct Learned {
    pub(super) route: Route,
    pub(super) problem: Option<Problem>,
}

/// Learns the way to each address; waits a little for neighbours that have to be resolved first.
pub(super) async fn learn(
    netlink: &Netlink,
    addresses: &BTreeSet<IpAddr>,
) -> BTreeMap<IpAddr, Learned> {
    let deadline = Instant::now() + PATIENCE;
    let mut learned = BTreeMap::new();
    let mut open = addresses.clone();
    let mut first = true;
    while !open.is_empty() {
        for address in std::mem::take(&mut open) {
            let found = look(netlink, address, first).await;
            if found.route.hop.is_none() && !found.route.local {
                open.insert(address);
            }
            learned.insert(address, found);
        }
        first = false;
        if Instant::now() >= deadline {
            break;
        }
        if !open.is_empty() {
            sleep(PAUSE).await;
        }
    }
    learned
}

/// Looks at one address; `ask` makes the kernel resolve its neighbour.
async fn look(netlink: &Netlink, address: IpAddr, ask: bool) -> Learned {
    let hop = match netlink.next_hop(address).await {
        Ok(hop) => hop,
        Err(NextHopError::Local { .. }) => {
            return Learned { route: Route { local: true, ..Route::default() }, problem: None };
        }
        Err(error) => {
            let problem = Problem { neighbour: None, text: error.to_string() };
            return Learned { route: Route::default(), problem: Some(problem) };
        }
    };
    let neighbour = hop.neighbour(address);
    if ask && let Err(error) = netlink.keep_resolved(hop.ifindex, neighbour).await {
        warn!("neighbour {neighbour} cannot be kept resolved: {error}");
    }
    let problem = hop.destination_mac.is_none().then(|| Problem {
        neighbour: Some(neighbour),
        text: format!(
            "next hop {neighbour} does not answer {}: is it up, on this network, and is its link connected?",
            if neighbour.is_ipv4() { "ARP" } else { "neighbour solicitations" }
        ),
    });
    let tunnel_source = Some(hop.source);
    let hop_to = hop
        .destination_mac
        .map(|destination_mac| NextHop::new(destination_mac, hop.source_mac, hop.ifindex));
    Learned { route: Route { hop: hop_to, mtu: hop.mtu, tunnel_source, local: false }, problem }
}

/// Keeps next hops and interfaces as the kernel has them.
pub(super) async fn keep(node: Arc<Node>) {
    loop {
        let mut events = match Netlink::watch() {
            Ok(events) => events,
            Err(error) => {
                warn!("the network cannot be watched: {error}");
                sleep(REFRESH).await;
                continue;
            }
        };
        loop {
            node.learn(&node.real_servers()).await;
            let mut links_changed = false;
            if node.wires_stale.swap(false, Ordering::Relaxed) {
                node.refresh_interfaces().await;
            }
            tokio::select! {
                event = events.next() => match event {
                    Some(event) => links_changed = concerns_links(&event),
                    None => break,
                },
                () = node.routes_stale.notified() => {}
                () = sleep(REFRESH) => {}
            }
            // What else has happened by now is covered by the next look.
            while let Ok(Some(event)) = timeout(SETTLE, events.next()).await {
                links_changed |= concerns_links(&event);
            }
            if links_changed {
                node.refresh_interfaces().await;
            }
        }
    }
}

const fn concerns_links(event: &Event) -> bool {
    match event {
        Event::LinkChanged(_)
        | Event::LinkRemoved { .. }
        | Event::AddressAdded(_)
        | Event::AddressRemoved(_)
        | Event::RouteChanged
        | Event::Lost => true,
        Event::NeighbourChanged(_) | Event::NeighbourRemoved { .. } => false,
    }
}
