//! Sets of packets: cells, and what is left of one when another is taken away.
//!
//! **Invariant:** the operations are exact; what a mark rule cannot say (every protocol but one, every interface but one)
//! is an error, never an approximation.
//!
//! Called by the readers of iptables and nftables, and by the walk through their chains.

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

    /// Packets that are in this one and not in `other`, as cells that do not overlap.
    ///
    /// # Errors
    /// What a mark rule would have to say and cannot.
    pub fn subtract(&self, other: &Self) -> Result<Vec<Self>, &'static str> {
        let Some(common) = self.intersect(other) else { return Ok(vec![self.clone()]) };
        let mut parts = Vec::new();
        // What is left to be split; each step takes away what differs from `common` in one respect.
        let mut rest = self.clone();
        if rest.family != common.family {
            let others = [Family::Inet, Family::Inet6].into_iter();
            let others = others.filter(|family| Some(*family) != common.family);
            parts.extend(others.map(|family| Self { family: Some(family), ..rest.clone() }));
            rest.family = common.family;
        }
        if let Some(inner) = common.source.filter(|_| rest.source != common.source) {
            let outside = outside(rest.source, inner);
            parts.extend(outside.map(|source| Self { source: Some(source), ..rest.clone() }));
            rest.source = common.source;
        }
        if let Some(inner) = common.destination.filter(|_| rest.destination != common.destination) {
            let outside = outside(rest.destination, inner);
            let part = |destination| Self { destination: Some(destination), ..rest.clone() };
            parts.extend(outside.map(part));
            rest.destination = common.destination;
        }
        if rest.protocol != common.protocol {
            return Err("a mark rule cannot say \"every protocol but one\"");
        }
        if let Some(inner) =
            common.source_ports.filter(|_| rest.source_ports != common.source_ports)
        {
            let sides = beside(rest.source_ports, inner);
            parts.extend(sides.map(|ports| Self { source_ports: Some(ports), ..rest.clone() }));
            rest.source_ports = common.source_ports;
        }
        if let Some(inner) =
            common.destination_ports.filter(|_| rest.destination_ports != common.destination_ports)
        {
            let sides = beside(rest.destination_ports, inner);
            let part = |ports| Self { destination_ports: Some(ports), ..rest.clone() };
            parts.extend(sides.map(part));
            rest.destination_ports = common.destination_ports;
        }
        if rest.interface != common.interface {
            return Err("a mark rule cannot say \"every interface but one\"");
        }
        Ok(parts)
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

/// Packets in one of `cells` and in one of `others`.
pub(super) fn intersect(cells: &[Cell], others: &[Cell]) -> Vec<Cell> {
    let pairs = cells.iter().flat_map(|cell| others.iter().map(move |other| (cell, other)));
    pairs.filter_map(|(cell, other)| cell.intersect(other)).collect()
}

/// Packets in one of `cells` and not in `other`.
pub(super) fn subtract(cells: &[Cell], other: &Cell) -> Result<Vec<Cell>, &'static str> {
    let mut parts = Vec::with_capacity(cells.len());
    for cell in cells {
        parts.extend(cell.subtract(other)?);
    }
    Ok(parts)
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

/// The addresses of `outer`, or of the family, that are not in `inner`.
fn outside(outer: Option<Prefix>, inner: Prefix) -> impl Iterator<Item = Prefix> {
    let within = move |part: &Prefix| outer.is_none_or(|outer| outer.covers(*part));
    inner.complement().into_iter().filter(within)
}

/// The ports of `outer`, or of all, below and above `inner`.
fn beside(outer: Option<PortRange>, inner: PortRange) -> impl Iterator<Item = PortRange> {
    let outer = outer.unwrap_or(PortRange::ALL);
    let below = inner.first().checked_sub(1).and_then(|last| PortRange::new(outer.first(), last));
    let above = inner.last().checked_add(1).and_then(|first| PortRange::new(first, outer.last()));
    below.into_iter().chain(above)
}

#[cfg(test)]
mod tests;
