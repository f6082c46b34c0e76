//! Firewall marks: the rules by which a packet gets the mark that names its virtual service.
//!
//! XDP runs before netfilter, so the marks of iptables and nftables do not exist yet when ELVS sees a packet; these rules
//! take their place. **They are tried in order, and the first that matches gives the mark**, as in a routing table. In
//! iptables and nftables it is the other way round: setting a mark does not end a chain, so of several matching rules the
//! last one counts. `elvs mark import` turns such chains round.
//!
//! **Invariant:** a rule in a [`Table`](crate::Table) has addresses of one family, and ports only with a protocol that
//! has ports; no two rules are the same.
//!
//! Called by the table, the configuration reader, the commands, and the data plane, which compiles the rules.

mod parts;

use core::fmt;
use core::str::FromStr;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use parts::{InterfaceName, IpProtocol, Mark, MarkSyntaxError, PortRange, Prefix};

use crate::Family;

/// One rule: packets that fit everything it names get its mark.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MarkRule {
    /// Addresses that the packet comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Prefix>,
    /// Addresses that the packet goes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<Prefix>,
    /// Protocol of the packet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<IpProtocol>,
    /// Ports that the packet comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_ports: Option<PortRange>,
    /// Ports that the packet goes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_ports: Option<PortRange>,
    /// Interface that the packet arrives on, below any VLAN or bridge: the one that carries the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<InterfaceName>,
    /// The mark it gets; in JSON 0 is none.
    pub mark: Mark,
}

/// Why a rule makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MarkRuleError {
    /// No packet has addresses of both families.
    #[error(
        "source {source_prefix} and destination {destination_prefix} are of different families: no packet fits both"
    )]
    Families {
        /// The source.
        source_prefix: Prefix,
        /// The destination.
        destination_prefix: Prefix,
    },
    /// Ports of a protocol that has none, or of none at all.
    #[error("ports need protocol tcp, udp or sctp")]
    Ports,
}

/// What a rule looks at in a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkedPacket<'a> {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Source port in host order; 0 where the protocol has none.
    pub source_port: u16,
    /// Destination port in host order; 0 where the protocol has none.
    pub destination_port: u16,
    /// Interface it arrives on.
    pub interface: &'a str,
}

impl MarkRule {
    /// A rule that matches every packet.
    pub const fn new(mark: Mark) -> Self {
        Self {
            source: None,
            destination: None,
            protocol: None,
            source_ports: None,
            destination_ports: None,
            interface: None,
            mark,
        }
    }

    /// Whether some packet can match.
    ///
    /// # Errors
    /// Why none can, or why its ports mean nothing.
    pub fn check(&self) -> Result<(), MarkRuleError> {
        if let (Some(source_prefix), Some(destination_prefix)) = (self.source, self.destination)
            && source_prefix.family() != destination_prefix.family()
        {
            return Err(MarkRuleError::Families { source_prefix, destination_prefix });
        }
        let has_ports = self.source_ports.is_some() || self.destination_ports.is_some();
        if has_ports && self.protocol.and_then(IpProtocol::transport).is_none() {
            return Err(MarkRuleError::Ports);
        }
        Ok(())
    }

    /// Family of the packets it matches; `None` = both.
    pub fn family(&self) -> Option<Family> {
        self.source.or(self.destination).map(Prefix::family)
    }

    /// Whether a packet fits everything the rule names.
    pub fn matches(&self, packet: &MarkedPacket<'_>) -> bool {
        self.source.is_none_or(|prefix| prefix.contains(packet.source))
            && self.destination.is_none_or(|prefix| prefix.contains(packet.destination))
            && self.protocol.is_none_or(|protocol| protocol.number() == packet.protocol)
            && self.source_ports.is_none_or(|ports| ports.contains(packet.source_port))
            && self.destination_ports.is_none_or(|ports| ports.contains(packet.destination_port))
            && self.interface.as_ref().is_none_or(|name| name.as_str() == packet.interface)
    }

    /// Whether it matches every packet that `other` matches, criterion by criterion, so that `other` behind it is never
    /// reached.
    pub fn covers(&self, other: &Self) -> bool {
        fn within<T>(ours: Option<T>, theirs: Option<T>, covers: impl Fn(T, T) -> bool) -> bool {
            match (ours, theirs) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(ours), Some(theirs)) => covers(ours, theirs),
            }
        }
        let ports = |ours: PortRange, theirs: PortRange| {
            ours.contains(theirs.first()) && ours.contains(theirs.last())
        };
        within(self.source, other.source, Prefix::covers)
            && within(self.destination, other.destination, Prefix::covers)
            && within(self.protocol, other.protocol, |a, b| a == b)
            && within(self.source_ports, other.source_ports, ports)
            && within(self.destination_ports, other.destination_ports, ports)
            && within(self.interface.as_ref(), other.interface.as_ref(), |a, b| a == b)
    }
}

/// The options of `elvs mark add`, in one order.
impl fmt::Display for MarkRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn option(
            f: &mut fmt::Formatter<'_>,
            name: &str,
            value: Option<&dyn fmt::Display>,
        ) -> fmt::Result {
            value.map_or(Ok(()), |value| write!(f, "--{name} {value} "))
        }
        fn shown<T: fmt::Display>(value: &Option<T>) -> Option<&dyn fmt::Display> {
            value.as_ref().map(|value| value as &dyn fmt::Display)
        }
        option(f, "source", shown(&self.source))?;
        option(f, "destination", shown(&self.destination))?;
        option(f, "protocol", shown(&self.protocol))?;
        option(f, "source-port", shown(&self.source_ports))?;
        option(f, "destination-port", shown(&self.destination_ports))?;
        option(f, "interface", shown(&self.interface))?;
        write!(f, "--mark {}", self.mark)
    }
}

/// Why a line is no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MarkRuleSyntaxError {
    /// A word that is no option of a rule.
    #[error(
        "`{0}` is no option of a mark rule: those are --source, --destination, --protocol, --source-port, --destination-port, --interface and --mark"
    )]
    Option(String),
    /// An option without its value.
    #[error("`{0}` has no value")]
    NoValue(String),
    /// An option that was given before.
    #[error("`{0}` is given twice")]
    Twice(String),
    /// No mark.
    #[error("a mark rule needs --mark N")]
    NoMark,
    /// A value that cannot be read.
    #[error(transparent)]
    Value(#[from] MarkSyntaxError),
    /// Values that do not go together.
    #[error(transparent)]
    Rule(#[from] MarkRuleError),
}

impl FromStr for MarkRule {
    type Err = MarkRuleSyntaxError;

    /// Reads what [`Display`](fmt::Display) writes, in any order.
    fn from_str(text: &str) -> Result<Self, MarkRuleSyntaxError> {
        fn set<T: FromStr<Err = MarkSyntaxError>>(
            place: &mut Option<T>,
            option: &str,
            value: &str,
        ) -> Result<(), MarkRuleSyntaxError> {
            match place.replace(value.parse()?) {
                None => Ok(()),
                Some(_) => Err(MarkRuleSyntaxError::Twice(option.to_owned())),
            }
        }
        let mut mark = None;
        let mut rule = Self::new(Mark::NONE);
        let mut words = text.split_whitespace();
        while let Some(option) = words.next() {
            let mut value =
                || words.next().ok_or_else(|| MarkRuleSyntaxError::NoValue(option.to_owned()));
            match option {
                "--source" => set(&mut rule.source, option, value()?)?,
                "--destination" => set(&mut rule.destination, option, value()?)?,
                "--protocol" => set(&mut rule.protocol, option, value()?)?,
                "--source-port" => set(&mut rule.source_ports, option, value()?)?,
                "--destination-port" => set(&mut rule.destination_ports, option, value()?)?,
                "--interface" => set(&mut rule.interface, option, value()?)?,
                "--mark" => set(&mut mark, option, value()?)?,
                _ => return Err(MarkRuleSyntaxError::Option(option.to_owned())),
            }
        }
        rule.mark = mark.ok_or(MarkRuleSyntaxError::NoMark)?;
        rule.check()?;
        Ok(rule)
    }
}

/// Rules in the order in which they are tried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MarkRules(Vec<MarkRule>);

impl MarkRules {
    /// The rules, first to be tried first.
    pub fn as_slice(&self) -> &[MarkRule] {
        &self.0
    }

    /// The rules, first to be tried first.
    pub fn iter(&self) -> core::slice::Iter<'_, MarkRule> {
        self.0.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Interfaces that rules name, in their order; one that several name comes several times.
    pub fn interfaces(&self) -> impl Iterator<Item = &InterfaceName> {
        self.iter().filter_map(|rule| rule.interface.as_ref())
    }

    /// Adds a rule behind the others.
    pub fn push(&mut self, rule: MarkRule) {
        self.0.push(rule);
    }

    /// Takes a rule out; `None` if it is not there.
    pub fn remove(&mut self, rule: &MarkRule) -> Option<MarkRule> {
        let place = self.0.iter().position(|known| known == rule)?;
        Some(self.0.remove(place))
    }

    /// The mark of a packet: that of the first rule that matches; [`Mark::NONE`] if none does.
    pub fn mark_of(&self, packet: &MarkedPacket<'_>) -> Mark {
        self.iter().find(|rule| rule.matches(packet)).map_or(Mark::NONE, |rule| rule.mark)
    }
}

impl FromIterator<MarkRule> for MarkRules {
    fn from_iter<T: IntoIterator<Item = MarkRule>>(rules: T) -> Self {
        Self(rules.into_iter().collect())
    }
}

impl<'a> IntoIterator for &'a MarkRules {
    type Item = &'a MarkRule;
    type IntoIter = core::slice::Iter<'a, MarkRule>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests;
