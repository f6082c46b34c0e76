//! Sets of packets: cells, and lists of cells of which the first one that a packet is in counts.
//!
//! **Invariant:** the operations are exact, and every cell is what one mark rule can match.
//!
//! Called by the readers of iptables and nftables, and by the walk through their chains.

use super::program::MAX_RULES;
use elvs_model::{Family, InterfaceName, IpProtocol, Mark, MarkRule, PortRange, Prefix};

/// Packets that fit everything it names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cell {
    pub family: Option<Family>,
    pub source: Option<Prefix>,
    pub destination: Option<Prefix>,
    pub protocol: Option<IpProtocol>,
    pub source_ports: Option<PortRange>,
    pub destination_ports: Option<PortRange>,
    pub interface: Option<InterfaceName>,
}

impl Cell {
    pub fn source(prefix: Prefix) -> Self {
        Self { family: Some(prefix.family()), source: Some(prefix), ..Self::default() }
    }

    pub fn destination(prefix: Prefix) -> Self {
        Self { family: Some(prefix.family()), destination: Some(prefix), ..Self::default() }
    }

    pub fn family(family: Family) -> Self {
        Self { family: Some(family), ..Self::default() }
    }

    pub fn protocol(protocol: IpProtocol) -> Self {
        Self { protocol: Some(protocol), ..Self::default() }
    }

    pub fn source_ports(ports: PortRange) -> Self {
        Self { source_ports: Some(ports), ..Self::default() }
    }

    pub fn destination_ports(ports: PortRange) -> Self {
        Self { destination_ports: Some(ports), ..Self::default() }
    }

    pub fn interface(name: InterfaceName) -> Self {
        Self { interface: Some(name), ..Self::default() }
    }

    /// Packets that are in both; `None` if there are none.
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        let narrower = |a: Prefix, b: Prefix| {
            if a.covers(b) { Some(b) } else { b.covers(a).then_some(a) }
        };
        let common = |a: PortRange, b: PortRange| {
            PortRange::new(a.first().max(b.first()), a.last().min(b.last()))
        };
        Some(Self {
            family: both(&self.family, &other.family, same)?,
            source: both(&self.source, &other.source, narrower)?,
            destination: both(&self.destination, &other.destination, narrower)?,
            protocol: both(&self.protocol, &other.protocol, same)?,
            source_ports: both(&self.source_ports, &other.source_ports, common)?,
            destination_ports: both(&self.destination_ports, &other.destination_ports, common)?,
            interface: both(&self.interface, &other.interface, same)?,
        })
    }

    /// The rule that gives its packets a mark.
    pub fn rule(&self, mark: Mark) -> MarkRule {
        // A rule has no word for a family: all its addresses say the same.
        let named = self.source.is_some() || self.destination.is_some();
        let every = self.family.filter(|_| !named).map(Prefix::all);
        MarkRule {
            source: self.source,
            destination: self.destination.or(every),
            protocol: self.protocol,
            source_ports: self.source_ports,
            destination_ports: self.destination_ports,
            interface: self.interface.clone(),
            mark,
        }
    }
}

/// Packets that match something: the first cell that a packet is in says whether it does; what is in none does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Packets(pub Vec<(Cell, bool)>);

impl Packets {
    /// Packets in one of `cells`.
    pub fn of(cells: Vec<Cell>) -> Self {
        Self(cells.into_iter().map(|cell| (cell, true)).collect())
    }

    /// Those of `cells` that are in none of `without`.
    pub fn but(cells: &[Cell], without: &[Cell]) -> Self {
        let away = intersect(cells, without).into_iter().map(|cell| (cell, false));
        Self(away.chain(cells.iter().map(|cell| (cell.clone(), true))).collect())
    }

    /// Packets that match both; `None` if that takes more than [`MAX_RULES`] cells.
    pub fn and(&self, other: &Self) -> Option<Self> {
        let mut both: Vec<(Cell, bool)> = Vec::new();
        for (cell, matches) in &self.0 {
            if !matches {
                both.push((cell.clone(), false));
                continue;
            }
            let common = other.0.iter().filter_map(|(theirs, matches)| {
                cell.intersect(theirs).map(|common| (common, *matches))
            });
            both.extend(common);
            // What is in this cell and in none of the other's must not be taken for a later cell's.
            both.push((cell.clone(), false));
            if both.len() > MAX_RULES {
                return None;
            }
        }
        while both.last().is_some_and(|(_, matches)| !matches) {
            both.pop();
        }
        Some(Self(both))
    }
}

/// Packets in one of `cells` and in one of `others`.
pub(super) fn intersect(cells: &[Cell], others: &[Cell]) -> Vec<Cell> {
    let pairs = cells.iter().flat_map(|cell| others.iter().map(move |other| (cell, other)));
    pairs.filter_map(|(cell, other)| cell.intersect(other)).collect()
}

/// Whether every packet of `inner` is in `outer`.
pub(super) fn covers(outer: &Cell, inner: &Cell) -> bool {
    outer.intersect(inner).as_ref() == Some(inner)
}

/// What two criteria have in common: `Some(None)` if neither is given, `None` if nothing.
fn both<T: Clone>(
    a: &Option<T>,
    b: &Option<T>,
    meet: impl Fn(T, T) -> Option<T>,
) -> Option<Option<T>> {
    match (a, b) {
        (Some(a), Some(b)) => meet(a.clone(), b.clone()).map(Some),
        (Some(one), None) | (None, Some(one)) => Some(Some(one.clone())),
        (None, None) => Some(None),
    }
}

fn same<T: PartialEq>(a: T, b: T) -> Option<T> {
    (a == b).then_some(a)
}

#[cfg(test)]
mod tests;
