//! Words and values that both notations share.
//!
//! **Invariant:** what is not understood is an error that names it.
//!
//! Called by the readers of iptables and nftables.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::num::NonZeroU8;

use elvs_model::{Family, IpProtocol, Prefix};

/// Protocols by name, as iptables and nft write them, and by their names in `/etc/protocols`.
const PROTOCOLS: &[(&str, u8)] = &[
    ("icmp", 1),
    ("igmp", 2),
    ("ipip", 4),
    ("ipencap", 4),
    ("dccp", 33),
    ("ipv6", 41),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("icmpv6", 58),
    ("ipv6-icmp", 58),
    ("ospf", 89),
    ("vrrp", 112),
    ("udplite", 136),
];

/// A protocol by name or number; `None` = every one.
pub(super) fn protocol(text: &str) -> Result<Option<IpProtocol>, String> {
    if matches!(text, "all" | "0") {
        return Ok(None);
    }
    let named = PROTOCOLS.iter().find(|(name, _)| *name == text).map(|(_, number)| *number);
    let known = named.and_then(NonZeroU8::new).map(IpProtocol);
    let protocol = known.or_else(|| text.parse().ok());
    protocol.map(Some).ok_or_else(|| format!("protocol {text} is not known"))
}

/// The prefixes that make up the addresses from `first` to `last`, as few as can be.
pub(super) fn between(first: &str, last: &str) -> Result<Vec<Prefix>, String> {
    let wrong = || format!("{first}-{last} is no range of addresses");
    let (Ok(low), Ok(high)) = (first.parse::<IpAddr>(), last.parse::<IpAddr>()) else {
        return Err(wrong());
    };
    if low > high || Family::of(low) != Family::of(high) {
        return Err(wrong());
    }
    let mut prefixes = Vec::new();
    let mut next = Some(low);
    while let Some(address) = next {
        let full = if address.is_ipv4() { 32 } else { 128 };
        // The widest prefix that starts here and does not reach past the end; the narrowest one always fits.
        let starts = |prefix: &Prefix| prefix.address() == address && end(*prefix) <= high;
        let widest = (0..=full).filter_map(|length| Prefix::new(address, length)).find(starts);
        let Some(prefix) = widest else { return Err(wrong()) };
        prefixes.push(prefix);
        next = after(end(prefix)).filter(|address| *address <= high);
    }
    Ok(prefixes)
}

/// Length of a mask without holes.
pub(super) fn mask_length(mask: IpAddr) -> Option<u8> {
    let (ones, zeros, bits) = match mask {
        IpAddr::V4(mask) => (mask.to_bits().leading_ones(), mask.to_bits().trailing_zeros(), 32),
        IpAddr::V6(mask) => (mask.to_bits().leading_ones(), mask.to_bits().trailing_zeros(), 128),
    };
    (ones + zeros == bits).then_some(ones).and_then(|ones| ones.try_into().ok())
}

/// The highest address of a prefix.
fn end(prefix: Prefix) -> IpAddr {
    let length = u32::from(prefix.length());
    match prefix.address() {
        IpAddr::V4(first) => {
            let host = u32::MAX.checked_shr(length).unwrap_or(0);
            Ipv4Addr::from_bits(first.to_bits() | host).into()
        }
        IpAddr::V6(first) => {
            let host = u128::MAX.checked_shr(length).unwrap_or(0);
            Ipv6Addr::from_bits(first.to_bits() | host).into()
        }
    }
}

fn after(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => Some(Ipv4Addr::from_bits(address.to_bits().checked_add(1)?).into()),
        IpAddr::V6(address) => Some(Ipv6Addr::from_bits(address.to_bits().checked_add(1)?).into()),
    }
}

/// The words of a line: divided by blanks, but for those in double quotes; a backslash takes the next character as it is.
/// `None` if a quote is not closed.
pub(super) fn words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' => word.get_or_insert_default().extend(characters.next()),
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    (!quoted).then_some(words)
}

#[cfg(test)]
mod tests;
