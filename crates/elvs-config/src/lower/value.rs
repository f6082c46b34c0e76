//! Words to values: numbers, ports, addresses and names.
//!
//! **Invariant:** every refusal names the value, the limit and the cure.
//!
//! Called by the rest of the lowering.

use std::net::{IpAddr, SocketAddr};

use crate::diagnostic::{Code, Reporter};
use crate::lexer::Word;
use crate::text::{nearest, one_of, quote};

/// A number between `min` and `max`.
pub(super) fn number(
    what: &str,
    word: &Word,
    min: u32,
    max: u32,
    reporter: &mut Reporter,
) -> Option<u32> {
    let digits = word.text.strip_prefix(['-', '+']).unwrap_or(&word.text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        let message = format!("{what} {} is not a number", quote(&word.text));
        reporter
            .error(Code::InvalidValue, word.extent, message)
            .help(format!("write a number from {min} to {max}"));
        return None;
    }
    let value = word.text.parse::<i128>().unwrap_or(i128::MAX);
    let fitting = u32::try_from(value).ok().filter(|v| (min..=max).contains(v));
    if fitting.is_none() {
        let shown = quote(&word.text).replace('`', "");
        let message = if value < i128::from(min) {
            format!("{what} {shown} is below {min}")
        } else {
            format!("{what} {shown} exceeds {max}")
        };
        reporter
            .error(Code::OutOfRange, word.extent, message)
            .help(format!("write a number from {min} to {max}"));
    }
    fitting
}

/// A port; 0 stands for no port, as in keepalived.
pub(super) fn port(word: &Word, reporter: &mut Reporter) -> Option<u16> {
    if !word.text.is_empty() && word.text.bytes().all(|b| b == b'0') {
        return Some(0);
    }
    let value = number("port", word, 1, u32::from(u16::MAX), reporter)?;
    u16::try_from(value).ok()
}

/// An IP address. A mask behind it is dropped with a warning: keepalived drops it too.
pub(super) fn address(what: &str, word: &Word, reporter: &mut Reporter) -> Option<IpAddr> {
    let (address, mask) = word.text.split_once('/').unwrap_or((&word.text, ""));
    if let Ok(parsed) = address.parse::<IpAddr>() {
        if !mask.is_empty() {
            let message =
                format!("{what} is one address: `/{}` has no meaning", mask.escape_debug());
            reporter
                .warning(Code::ValueReplaced, word.extent, message)
                .help(format!("write `{parsed}`"));
        }
        return Some(parsed);
    }
    let message = format!("{what} {} is not an IP address", quote(&word.text));
    let help = if let Ok(both) = word.text.parse::<SocketAddr>() {
        &format!("address and port are two words: write `{} {}`", both.ip(), both.port())
    } else if address.contains('-') {
        "write one address; ranges are for `virtual_server_group`"
    } else if address.starts_with(|c: char| c.is_ascii_alphabetic()) && !address.contains(':') {
        "write the address: names are not looked up"
    } else {
        "write it as 192.0.2.1 or 2001:db8::1"
    };
    reporter.error(Code::InvalidValue, word.extent, message).help(help);
    None
}

/// An address that one host can have.
pub(super) fn host_address(what: &str, word: &Word, reporter: &mut Reporter) -> Option<IpAddr> {
    let address = address(what, word, reporter)?;
    let wrong = if address.is_unspecified() {
        "the unspecified address"
    } else if address.is_multicast() {
        "a multicast address"
    } else if matches!(address, IpAddr::V4(v4) if v4.is_broadcast()) {
        "the broadcast address"
    } else if matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
        "an IPv4 address in IPv6 form, which is in no packet"
    } else {
        return Some(address);
    };
    let message = format!("{what} {address} is {wrong}");
    reporter.error(Code::InvalidValue, word.extent, message).help("write the address of one host");
    None
}

/// One of the names in `known`.
pub(super) fn name<T: Copy>(
    what: &str,
    word: &Word,
    known: &[(&'static str, T)],
    reporter: &mut Reporter,
) -> Option<T> {
    if let Some((_, value)) = known.iter().find(|(name, _)| *name == word.text) {
        return Some(*value);
    }
    let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
    let message = format!("unknown {what} {}", quote(&word.text));
    let help = match nearest(&word.text, names.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("write {}", one_of(&names)),
    };
    reporter.error(Code::UnknownName, word.extent, message).help(help);
    None
}
