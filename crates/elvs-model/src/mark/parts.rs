//! What a mark rule compares: prefixes, protocols, ports, interfaces; and the mark itself.
//!
//! **Invariant:** every value has one text, which reads back as the same value; a prefix has no bits beyond its length, a
//! range of ports never ends before it starts, and a protocol is never 0.
//!
//! Called by [`MarkRule`](super::MarkRule) and by whoever reads rules from text.

use core::fmt;
use core::num::NonZeroU8;
use core::str::FromStr;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{Family, Protocol};

/// Why a word is no value of a mark rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MarkSyntaxError {
    /// Neither an address nor an address with a length.
    #[error(
        "`{0}` is no prefix: write an address or ADDRESS/LENGTH, such as 192.0.2.0/24 or 2001:db8::/32"
    )]
    Prefix(String),
    /// Bits behind the prefix: two readings of what is meant.
    #[error(
        "`{given}` has bits behind its length: write `{network}`, or `{address}` for the one address"
    )]
    HostBits {
        /// The text.
        given: String,
        /// What the length leaves.
        network: IpNet,
        /// The address without the length.
        address: IpAddr,
    },
    /// Neither a port nor two.
    #[error("`{0}` is no port or range of ports: write N or FIRST:LAST, each from 0 to 65535")]
    Ports(String),
    /// A range that ends before it starts.
    #[error("ports `{0}` end before they start: write the lower one first")]
    EmptyRange(String),
    /// No protocol.
    #[error(
        "`{0}` is no protocol: write tcp, udp, sctp or a number from 1 to 255, and leave it out for every protocol"
    )]
    Protocol(String),
    /// No name that a network interface can have.
    #[error("`{0}` is no interface name: write 1 to 15 bytes, as `ip link` shows it")]
    Interface(String),
    /// No mark.
    #[error(
        "`{0}` is no mark: write a number from 1 to 4294967295, decimal or 0x hexadecimal, or none for packets that shall stay unmarked"
    )]
    Mark(String),
}

/// Addresses that share their first bits; length 0 is every address of the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix(IpNet);

impl Prefix {
    /// The prefix of `length` bits that `address` is in; `None` if the family's addresses are shorter.
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        IpNet::new(address, length).ok().map(|net| Self(net.trunc()))
    }

    /// Every address of a family.
    pub const fn all(family: Family) -> Self {
        match family {
            Family::Inet => {
                Self(IpNet::V4(ipnet::Ipv4Net::new_assert(core::net::Ipv4Addr::UNSPECIFIED, 0)))
            }
            Family::Inet6 => {
                Self(IpNet::V6(ipnet::Ipv6Net::new_assert(core::net::Ipv6Addr::UNSPECIFIED, 0)))
            }
        }
    }

    /// The lowest address.
    pub const fn address(self) -> IpAddr {
        match self.0 {
            IpNet::V4(net) => IpAddr::V4(net.addr()),
            IpNet::V6(net) => IpAddr::V6(net.addr()),
        }
    }

    /// Bits that all its addresses share: 0..=32 or 0..=128.
    pub fn length(self) -> u8 {
        self.0.prefix_len()
    }

    /// Family of its addresses.
    pub const fn family(self) -> Family {
        Family::of(self.address())
    }

    /// Whether an address is in it.
    pub fn contains(self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// Whether every address of `other` is in it.
    pub fn covers(self, other: Self) -> bool {
        self.0.contains(&other.0)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Prefix {
    type Err = MarkSyntaxError;

    fn from_str(text: &str) -> Result<Self, MarkSyntaxError> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(address.into()));
        }
        let Ok(net) = text.parse::<IpNet>() else {
            return Err(MarkSyntaxError::Prefix(text.to_owned()));
        };
        let network = net.trunc();
        if network != net {
            let (given, address) = (text.to_owned(), net.addr());
            return Err(MarkSyntaxError::HostBits { given, network, address });
        }
        Ok(Self(net))
    }
}

/// An IP protocol number (IANA "Assigned Internet Protocol Numbers"), never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IpProtocol(pub NonZeroU8);

impl IpProtocol {
    /// The number.
    pub const fn number(self) -> u8 {
        self.0.get()
    }

    /// The transport protocol whose services IPVS has, if it is one.
    pub fn transport(self) -> Option<Protocol> {
        TRANSPORTS.into_iter().find(|known| known.number() == self.number())
    }
}

const TRANSPORTS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

impl From<Protocol> for IpProtocol {
    fn from(protocol: Protocol) -> Self {
        // None of the three is 0, so the other branch never comes to pass.
        Self(NonZeroU8::new(protocol.number()).unwrap_or(NonZeroU8::MIN))
    }
}

impl fmt::Display for IpProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.transport() {
            Some(known) => f.write_str(&known.name().to_ascii_lowercase()),
            None => write!(f, "{}", self.number()),
        }
    }
}

impl FromStr for IpProtocol {
    type Err = MarkSyntaxError;

    fn from_str(text: &str) -> Result<Self, MarkSyntaxError> {
        let known = TRANSPORTS.into_iter().find(|known| known.name().eq_ignore_ascii_case(text));
        if let Some(known) = known {
            return Ok(known.into());
        }
        let number = digits(text).and_then(|digits| digits.parse().ok()).map(Self);
        number.ok_or_else(|| MarkSyntaxError::Protocol(text.to_owned()))
    }
}

/// Ports from the first to the last, both included, in host order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// Every port.
    pub const ALL: Self = Self { first: 0, last: u16::MAX };

    /// Ports `first` to `last`; `None` if `last` is below `first`.
    pub const fn new(first: u16, last: u16) -> Option<Self> {
        if first <= last { Some(Self { first, last }) } else { None }
    }

    /// One port.
    pub const fn one(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// The lowest port.
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The highest port.
    pub const fn last(self) -> u16 {
        self.last
    }

    /// Whether a port is in it.
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}:{}", self.first, self.last)
        }
    }
}

impl FromStr for PortRange {
    type Err = MarkSyntaxError;

    /// `N`, `FIRST:LAST` as iptables writes it, or `FIRST-LAST` as nft does.
    fn from_str(text: &str) -> Result<Self, MarkSyntaxError> {
        let wrong = || MarkSyntaxError::Ports(text.to_owned());
        let port =
            |word: &str| digits(word).and_then(|digits| digits.parse().ok()).ok_or_else(wrong);
        let (first, last) = match text.split_once([':', '-']) {
            Some((first, last)) => (port(first)?, port(last)?),
            None => (port(text)?, port(text)?),
        };
        Self::new(first, last).ok_or_else(|| MarkSyntaxError::EmptyRange(text.to_owned()))
    }
}

/// Name of a network interface, as `ip link` shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InterfaceName(String);

impl InterfaceName {
    /// Longest name: the kernel's `IFNAMSIZ` without the final NUL.
    pub const MAX_BYTES: usize = 15;

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for InterfaceName {
    type Err = MarkSyntaxError;

    /// What `dev_valid_name` (`net/core/dev.c`) takes; a `+` or `*` at the end would be a pattern and is refused.
    fn from_str(name: &str) -> Result<Self, MarkSyntaxError> {
        let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
        let special = matches!(name, "" | "." | "..") || name.ends_with(['+', '*']);
        if special || name.len() > Self::MAX_BYTES || name.contains(bad) {
            return Err(MarkSyntaxError::Interface(name.to_owned()));
        }
        Ok(Self(name.to_owned()))
    }
}

/// A firewall mark, or none: packets of such a rule stay unmarked, whatever later rules say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mark(pub u32);

impl Mark {
    /// No mark.
    pub const NONE: Self = Self(0);

    /// The number; 0 = none, which is what unmarked packets have.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NONE => f.write_str("none"),
            Self(number) => number.fmt(f),
        }
    }
}

impl FromStr for Mark {
    type Err = MarkSyntaxError;

    /// `none`, decimal, or hexadecimal after `0x`.
    fn from_str(text: &str) -> Result<Self, MarkSyntaxError> {
        if text == "none" {
            return Ok(Self::NONE);
        }
        let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
        let number = match hexadecimal {
            Some(hex) if hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
                u32::from_str_radix(hex, 16).ok()
            }
            Some(_) => None,
            None => digits(text).and_then(|digits| digits.parse().ok()),
        };
        let mark = number.filter(|number| *number != 0).map(Self);
        mark.ok_or_else(|| MarkSyntaxError::Mark(text.to_owned()))
    }
}

/// The text, if it is nothing but digits: Rust's own parsers also take a sign.
fn digits(text: &str) -> Option<&str> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then_some(text)
}

/// A type whose serialised form is its text.
macro_rules! as_text {
    ($($name:ty),*) => {$(
        impl TryFrom<String> for $name {
            type Error = MarkSyntaxError;

            fn try_from(text: String) -> Result<Self, MarkSyntaxError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    )*};
}

as_text!(Prefix, IpProtocol, PortRange, InterfaceName);
