//! Local addresses of full NAT: the director's own, which take the place of clients' addresses.
//!
//! **Invariant:** a set holds an address once, in the order in which addresses were added; a range has at least one address and
//! all of them are of one family.
//!
//! Called by the table, and by whatever reads addresses from text.

use core::fmt;
use core::str::FromStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use indexmap::IndexSet;
use serde::{Deserialize, Serialize};

use crate::Family;

/// Local addresses of a service, each once, in the order in which they were added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LocalAddresses(IndexSet<IpAddr>);

impl LocalAddresses {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether an address is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// Adds one at the end; false if it was there.
    pub fn insert(&mut self, address: IpAddr) -> bool {
        self.0.insert(address)
    }

    /// Takes one out; false if it was not there.
    pub fn remove(&mut self, address: IpAddr) -> bool {
        self.0.shift_remove(&address)
    }

    /// They in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = IpAddr> + Clone + '_ {
        self.0.iter().copied()
    }
}

impl FromIterator<IpAddr> for LocalAddresses {
    fn from_iter<T: IntoIterator<Item = IpAddr>>(addresses: T) -> Self {
        Self(addresses.into_iter().collect())
    }
}

/// Addresses next to one another: `A`, `A-B`, `A-N` (with N in place of A's last byte, or last 16 bits in hexadecimal) or
/// `A/prefix`, which in IPv4 leaves out the network's own address and its broadcast address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalRange {
    family: Family,
    first: u128,
    last: u128,
}

/// Why a text is no range of local addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocalRangeError {
    /// Not of this form.
    #[error("`{0}` is not an address (A), a range (A-B) or a prefix (A/length)")]
    Syntax(String),
    /// Ends before it begins.
    #[error("the range `{0}` ends before it begins")]
    Order(String),
    /// From one family to the other.
    #[error("the range `{0}` begins in one address family and ends in another")]
    Mixed(String),
    /// More addresses than any table has room for.
    #[error("`{text}` is {count} addresses: a range may have {limit}", limit = LocalRange::MOST)]
    TooLong {
        /// The text.
        text: String,
        /// How many it has.
        count: u128,
    },
}

impl LocalRange {
    /// Most local addresses of a director, and so of a range: each takes 1 MiB, and 4 GiB are the most that every kernel has
    /// for a table.
    pub const MOST: u32 = 4_000;

    /// How many addresses it has, at least one.
    pub fn count(&self) -> u32 {
        u32::try_from(self.last - self.first).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// Family of the addresses.
    pub const fn family(&self) -> Family {
        self.family
    }

    /// The addresses in order.
    pub fn addresses(self) -> impl Iterator<Item = IpAddr> {
        (self.first..=self.last).map(move |bits| address_of(self.family, bits))
    }
}

fn address_of(family: Family, bits: u128) -> IpAddr {
    match family {
        Family::Inet => Ipv4Addr::from_bits(u32::try_from(bits).unwrap_or(u32::MAX)).into(),
        Family::Inet6 => Ipv6Addr::from_bits(bits).into(),
    }
}

fn bits_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl FromStr for LocalRange {
    type Err = LocalRangeError;

    fn from_str(text: &str) -> Result<Self, LocalRangeError> {
        let syntax = || LocalRangeError::Syntax(text.to_owned());
        let address = |part: &str| part.parse::<IpAddr>().ok().ok_or_else(syntax);
        let (family, first, last) = if let Some((first, last)) = text.split_once('-') {
            let first = address(first)?;
            let last = match last.parse() {
                Ok(last) => last,
                Err(_) => with_last_part(first, last).ok_or_else(syntax)?,
            };
            if Family::of(first) != Family::of(last) {
                return Err(LocalRangeError::Mixed(text.to_owned()));
            }
            (Family::of(first), bits_of(first), bits_of(last))
        } else if let Some((first, length)) = text.split_once('/') {
            let first = address(first)?;
            let family = Family::of(first);
            let (first, last) = in_prefix(first, length).ok_or_else(syntax)?;
            (family, first, last)
        } else {
            let only = address(text)?;
            (Family::of(only), bits_of(only), bits_of(only))
        };
        if last < first {
            return Err(LocalRangeError::Order(text.to_owned()));
        }
        let count = (last - first).saturating_add(1);
        if count > Self::MOST.into() {
            return Err(LocalRangeError::TooLong { text: text.to_owned(), count });
        }
        Ok(Self { family, first, last })
    }
}

/// An address with another last byte (IPv4, decimal) or last 16 bits (IPv6, hexadecimal), as keepalived writes ranges; `None` if the
/// text is no such part.
pub fn with_last_part(first: IpAddr, part: &str) -> Option<IpAddr> {
    let digits = |byte: u8| byte.is_ascii_hexdigit();
    if part.is_empty() || !part.bytes().all(digits) {
        return None;
    }
    Some(match first {
        IpAddr::V4(first) => {
            let [a, b, c, _] = first.octets();
            Ipv4Addr::new(a, b, c, part.parse().ok()?).into()
        }
        IpAddr::V6(first) => {
            let last = u128::from(u16::from_str_radix(part, 16).ok()?);
            Ipv6Addr::from_bits(first.to_bits() & !0xffff | last).into()
        }
    })
}

/// First and last address of a prefix that a host can have.
fn in_prefix(address: IpAddr, length: &str) -> Option<(u128, u128)> {
    let bits = if address.is_ipv4() { 32_u32 } else { 128 };
    let length: u32 = length.parse().ok().filter(|length| *length <= bits)?;
    let hosts = 1_u128.checked_shl(bits - length).map_or(u128::MAX, |count| count - 1);
    let first = bits_of(address) & !hosts;
    let last = first | hosts;
    // RFC 3021: the two addresses of a /31 are hosts.
    let whole = address.is_ipv6() || length >= 31;
    Some(if whole { (first, last) } else { (first + 1, last - 1) })
}

impl fmt::Display for LocalRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", address_of(self.family, self.first))?;
        if self.last == self.first {
            return Ok(());
        }
        write!(f, "-{}", address_of(self.family, self.last))
    }
}

#[cfg(test)]
mod tests;
