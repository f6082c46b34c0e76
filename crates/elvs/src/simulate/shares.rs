//! Who got how many connections, and whether two sets of random shares can be of the same kind.
//!
//! **Invariant:** every placed connection is counted once, at its destination, also when that was removed since.
//!
//! Called by [`super::run`].

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use elvs_model::{DestinationKey, ServiceKey, Table};
use serde::Serialize;

use super::host::Fate;
use super::run::Difference;

/// Standard deviations of a normal distribution beyond which one value in a thousand lies.
const SIGMA: f64 = 3.09;

/// Connections by service and destination.
#[derive(Debug, Default)]
pub(super) struct Shares {
    services: HashMap<ServiceKey, Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    connections: BTreeMap<DestinationKey, u64>,
    refused: u64,
}

/// Shares of one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct ServiceShares {
    /// The service.
    pub(super) service: String,
    /// Its destinations, oldest first; then those that were removed.
    pub(super) destinations: Vec<DestinationShare>,
    /// Connections that nobody took.
    pub(super) refused: u64,
}

/// Share of one destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct DestinationShare {
    /// Address and port.
    pub(super) server: String,
    /// Weight; none if it was removed.
    pub(super) weight: Option<u32>,
    /// Connections it got.
    pub(super) connections: u64,
    /// Of the service's connections, hundredths of a per cent.
    pub(super) share_per_10000: u64,
}

impl Shares {
    /// Counts the connections that an event made.
    pub(super) fn count(&mut self, service: ServiceKey, fate: &Fate) {
        let counts = self.services.entry(service).or_default();
        match fate {
            Ok(placed) => {
                if let Some(destination) = placed.destination {
                    *counts.connections.entry(destination.key).or_default() += placed.new;
                }
            }
            Err(_) => counts.refused += 1,
        }
    }

    /// Shares of the services in a table, in its order, then of those that were removed from it.
    pub(super) fn of_table(mut self, table: &Table) -> Vec<ServiceShares> {
        let mut all = Vec::new();
        for entry in table.services() {
            let key = &entry.service().key;
            let mut counts = self.services.remove(key).unwrap_or_default();
            let present: Vec<_> = entry
                .destinations()
                .rev()
                .map(|d| {
                    (d.key, Some(d.weight), counts.connections.remove(&d.key).unwrap_or_default())
                })
                .collect();
            all.push(service_shares(key, present, counts));
        }
        let mut removed: Vec<_> = self.services.into_iter().collect();
        removed.sort_by_key(|(key, _)| key.to_string());
        all.extend(removed.into_iter().map(|(key, counts)| service_shares(&key, vec![], counts)));
        all
    }
}

fn service_shares(
    key: &ServiceKey,
    mut destinations: Vec<(DestinationKey, Option<u32>, u64)>,
    counts: Counts,
) -> ServiceShares {
    destinations.extend(counts.connections.into_iter().map(|(key, count)| (key, None, count)));
    let total = destinations.iter().map(|(_, _, count)| count).sum::<u64>().max(1);
    let share = |(key, weight, connections): (DestinationKey, _, u64)| DestinationShare {
        server: std::net::SocketAddr::new(key.address, key.port).to_string(),
        weight,
        connections,
        share_per_10000: (connections * 10_000 + total / 2) / total,
    };
    ServiceShares {
        service: key.to_string(),
        destinations: destinations.into_iter().map(share).collect(),
        refused: counts.refused,
    }
}

/// Expected and found shares of services whose scheduler draws random numbers.
#[derive(Debug, Default)]
pub(super) struct RandomShares {
    services: Vec<RandomService>,
}

#[derive(Debug)]
struct RandomService {
    key: ServiceKey,
    /// Line of its first event.
    line: usize,
    /// Expected and found connections by real server.
    servers: BTreeMap<IpAddr, (u32, u32)>,
}

impl RandomShares {
    /// An event of a service was expected at one server and came to another.
    pub(super) fn count(&mut self, line: usize, key: ServiceKey, expected: IpAddr, got: IpAddr) {
        let at = self.services.iter().position(|service| service.key == key);
        let service = match at.and_then(|at| self.services.get_mut(at)) {
            Some(service) => service,
            None => {
                let service = RandomService { key, line, servers: BTreeMap::new() };
                self.services.push_mut(service)
            }
        };
        service.servers.entry(expected).or_default().0 += 1;
        service.servers.entry(got).or_default().1 += 1;
    }

    /// The first service whose shares are too far from the expected ones.
    pub(super) fn difference(&self) -> Option<Difference> {
        let service = self.services.iter().find(|service| !alike(&service.servers))?;
        let list = |of: fn(&(u32, u32)) -> u32| {
            let counts = service.servers.iter().map(|(ip, counts)| format!("{ip} {}", of(counts)));
            counts.collect::<Vec<_>>().join(", ")
        };
        Some(Difference {
            line: service.line,
            subject: format!("shares of {}", service.key),
            expected: list(|counts| counts.0),
            got: list(|counts| counts.1),
        })
    }
}

/// Whether two samples of equal size can be of one distribution: the two-sample chi-square statistic stays below the
/// value that one pair of equal kind in a thousand exceeds.
fn alike(servers: &BTreeMap<IpAddr, (u32, u32)>) -> bool {
    let statistic: f64 = servers
        .values()
        .map(|&(expected, got)| {
            let difference = f64::from(expected) - f64::from(got);
            difference * difference / (f64::from(expected) + f64::from(got))
        })
        .sum();
    let freedom = u32::try_from(servers.len().saturating_sub(1)).unwrap_or(u32::MAX);
    if freedom == 0 {
        return statistic == 0.0;
    }
    statistic <= chi_square_bound(f64::from(freedom))
}

/// Value that a chi-square variable exceeds once in a thousand times (approximation of Wilson and Hilferty).
fn chi_square_bound(freedom: f64) -> f64 {
    let spread = 2.0 / (9.0 * freedom);
    freedom * SIGMA.mul_add(spread.sqrt(), 1.0 - spread).powi(3)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn alike_counts(counts: &[(u32, u32)]) -> bool {
        let addresses = (1..).map(|n: u8| IpAddr::from(Ipv4Addr::new(10, 0, 0, n)));
        alike(&addresses.zip(counts.iter().copied()).collect())
    }

    #[test]
    fn the_bound_is_that_of_the_tables() {
        // 0.999 quantiles of the chi-square distribution.
        for (freedom, quantile) in [(2.0, 13.82), (3.0, 16.27), (10.0, 29.59), (100.0, 149.45)] {
            let bound = chi_square_bound(freedom);
            assert!((bound / quantile - 1.0_f64).abs() < 0.03, "{freedom}: {bound}");
        }
    }

    #[test]
    fn random_shares_may_differ_a_little() {
        assert!(alike_counts(&[(100, 110), (200, 195), (300, 295)]));
        assert!(!alike_counts(&[(100, 170), (200, 200), (300, 230)]));
        assert!(!alike_counts(&[(100, 300), (200, 200), (300, 100)]));
        assert!(alike_counts(&[(7, 7)]));
        assert!(!alike_counts(&[(60, 0), (0, 60)]), "another server altogether");
    }
}
