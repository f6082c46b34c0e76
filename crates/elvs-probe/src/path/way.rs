//! How packets reach a real server: what the kernel knows of it.
//!
//! **Invariant:** the probe's source is never the VIP, which the real server would answer to itself.
//!
//! Called by the prober at the beginning of each run.

use std::net::IpAddr;
use std::time::Duration;

use elvs_model::health::PathCheck;
use elvs_net::{Address, Netlink, NextHop, NextHopError};

use super::probe::Way;

/// Why no probe can be sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoWay {
    /// The real server is this host.
    #[error("the real server is this host")]
    Local,
    /// The kernel has no way to it.
    #[error("{}", words(.0))]
    NextHop(#[from] NextHopError),
    /// The kernel does not say which addresses there are.
    #[error("the director's addresses cannot be read: {}", words(.0))]
    Addresses(#[from] elvs_net::NetlinkError),
    /// Nobody answered for the neighbour's address.
    #[error("no answer to {protocol} for {neighbour}: {who} is down, or not on that link")]
    NoNeighbour {
        /// "ARP" or "neighbour solicitations".
        protocol: &'static str,
        /// Whose MAC address is wanted.
        neighbour: IpAddr,
        /// "the real server" or "the router to the real server".
        who: &'static str,
    },
    /// There is no address to send from.
    #[error(
        "the director has no {family} address but the VIP to send a probe from: give it one of its own"
    )]
    NoSource {
        /// "IPv4" or "IPv6".
        family: &'static str,
    },
}

/// Finds the way; waits for the neighbour's MAC address, so the caller bounds it.
pub(super) async fn find(
    netlink: &Netlink,
    check: &PathCheck,
    first: u16,
    isn: u32,
) -> Result<Way, NoWay> {
    let hop = match netlink.next_hop(check.real_server).await {
        Ok(hop) => hop,
        Err(NextHopError::Local { .. }) => return Err(NoWay::Local),
        Err(error) => return Err(error.into()),
    };
    let addresses = netlink.addresses().await?;
    let sources = Sources::choose(check, &hop, &addresses)?;
    let mac = match hop.destination_mac {
        Some(mac) => mac,
        None => resolve(netlink, check, &hop).await?,
    };
    Ok(Way {
        check: check.clone(),
        ifindex: hop.ifindex,
        own_mac: hop.source_mac,
        mac,
        neighbour: hop.neighbour(check.real_server),
        on_link: hop.gateway.is_none(),
        outer_source: sources.outer,
        source: sources.inner,
        other_source: sources.other,
        holds_vip: addresses.iter().any(|a| a.address == check.vip),
        owns_vip: hop.gateway.is_none() && owns(check.vip, hop.ifindex, &addresses),
        first,
        isn,
    })
}

/// What stands for [`find`]'s result when it takes too long.
pub(super) fn unresolved(check: &PathCheck) -> String {
    let protocol = protocol_of(check.real_server);
    format!(
        "no answer to {protocol} for {} or its router: it is down, or not on that link",
        check.real_server
    )
}

async fn resolve(netlink: &Netlink, check: &PathCheck, hop: &NextHop) -> Result<[u8; 6], NoWay> {
    let neighbour = hop.neighbour(check.real_server);
    let who =
        if hop.gateway.is_some() { "the router to the real server" } else { "the real server" };
    // Refused for an entry that is being resolved already: then waiting is all there is to do.
    let _ = netlink.resolve(hop.ifindex, neighbour).await;
    for _ in 0..LOOKS {
        tokio::time::sleep(BETWEEN_LOOKS).await;
        match netlink.neighbour(hop.ifindex, neighbour).await? {
            Some(entry) if entry.mac.is_some() => return Ok(entry.mac.unwrap_or_default()),
            Some(entry) if entry.failed => break,
            Some(_) | None => {}
        }
    }
    Err(NoWay::NoNeighbour { protocol: protocol_of(neighbour), neighbour, who })
}

/// Addresses that probes are sent from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sources {
    outer: IpAddr,
    inner: IpAddr,
    other: Option<IpAddr>,
}

impl Sources {
    /// Chooses: towards the real server what the kernel would take, unless that looks like a VIP (of an IPv6 interface the
    /// kernel likes the /128 best); in the client's place the same, or if the VIP is of the other family an address of that
    /// on the same interface.
    fn choose(check: &PathCheck, hop: &NextHop, addresses: &[Address]) -> Result<Self, NoWay> {
        let kernels = addresses.iter().find(|a| a.address == hop.source);
        let outer = if kernels.is_some_and(is_whole) || hop.source == check.vip {
            best(check, hop, addresses, check.real_server, None)?
        } else {
            hop.source
        };
        let inner = if check.vip.is_ipv4() == outer.is_ipv4() {
            outer
        } else {
            best(check, hop, addresses, check.vip, None)?
        };
        let other = best(check, hop, addresses, check.vip, Some(inner)).ok();
        Ok(Self { outer, inner, other })
    }
}

/// The address of `like`'s family that is the likeliest to be the director's own, and not another service's.
fn best(
    check: &PathCheck,
    hop: &NextHop,
    addresses: &[Address],
    like: IpAddr,
    except: Option<IpAddr>,
) -> Result<IpAddr, NoWay> {
    let fits = |a: &&Address| {
        a.address.is_ipv4() == like.is_ipv4()
            && a.address != check.vip
            && Some(a.address) != except
            && !a.address.is_loopback()
            && !is_link_local(a.address)
            // What stands behind another service is a VIP of every real server, too.
            && (except.is_none() || !is_whole(a))
    };
    let rank = |a: &&Address| {
        (is_whole(a), a.address != hop.source, a.ifindex != hop.ifindex, !a.covers(like))
    };
    let family = if like.is_ipv4() { "IPv4" } else { "IPv6" };
    let found = addresses.iter().filter(fits).min_by_key(rank);
    found.map(|a| a.address).ok_or(NoWay::NoSource { family })
}

/// Whether the VIP is this host's and others on the interface's link ask for it there.
fn owns(vip: IpAddr, ifindex: u32, addresses: &[Address]) -> bool {
    let held = addresses.iter().any(|a| a.address == vip);
    let there = |a: &&Address| a.ifindex == ifindex && (a.address == vip || a.covers(vip));
    held && addresses.iter().any(|a| there(&a))
}

/// An address without a subnet.
const fn is_whole(address: &Address) -> bool {
    match address.address {
        IpAddr::V4(_) => address.prefix_len == 32,
        IpAddr::V6(_) => address.prefix_len == 128,
    }
}

const fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

const fn protocol_of(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "ARP" } else { "neighbour solicitations" }
}

/// An error with what caused it.
fn words(error: &impl std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// The kernel asks three times, a second apart, before it gives a neighbour up (`mcast_solicit`, `retrans_time_ms`).
const LOOKS: u32 = 80;
/// Between two looks at the neighbour's entry.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests;
