//! Words to values: numbers, times, switches, ports, addresses and names.
//!
//! **Invariant:** every refusal names the value, the limit and the cure.
//!
//! Called by the rest of the lowering.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::diagnostic::{Code, Reporter};
use crate::lexer::Word;
use crate::text::{nearest, one_of, quote};
use crate::tree::Item;

/// Longest interface name: the kernel's IFNAMSIZ without the final NUL.
const MAX_INTERFACE_BYTES: usize = 15;
/// Longest time that is taken: a year. keepalived takes more, which nobody means.
pub(super) const MAX_TIME: Duration = Duration::from_secs(31_536_000);
/// Shortest time that is not none: keepalived's resolution.
pub(super) const MIN_TIME: Duration = Duration::from_micros(1);

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

/// A whole number between `min` and `max`, which may be below zero.
pub(super) fn signed(
    what: &str,
    word: &Word,
    min: i32,
    max: i32,
    reporter: &mut Reporter,
) -> Option<i32> {
    let value = word.text.parse::<i32>().ok().filter(|value| (min..=max).contains(value));
    if value.is_none() {
        let message = format!("{what} {} is no number from {min} to {max}", quote(&word.text));
        reporter
            .error(Code::OutOfRange, word.extent, message)
            .help(format!("write a whole number from {min} to {max}"));
    }
    value
}

/// What a decimal number counts.
#[derive(Clone, Copy)]
pub(super) enum Unit {
    Seconds,
    Milliseconds,
}

impl Unit {
    const fn name(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Milliseconds => "milliseconds",
        }
    }

    /// Digits after the point that count: down to a microsecond.
    const fn digits(self) -> usize {
        match self {
            Self::Seconds => 6,
            Self::Milliseconds => 3,
        }
    }

    /// The time as the number that is written.
    fn show(self, time: Duration) -> String {
        let micros = time.as_micros();
        let scale = 10_u128.pow(u32::try_from(self.digits()).unwrap_or(0));
        let (whole, part) = (micros / scale, micros % scale);
        if part == 0 {
            return whole.to_string();
        }
        let part = format!("{part:0width$}", width = self.digits());
        format!("{whole}.{}", part.trim_end_matches('0'))
    }
}

/// A time in seconds as messages show it.
pub(super) fn show_seconds(time: Duration) -> String {
    Unit::Seconds.show(time)
}

/// A time, as a decimal number of the unit; digits below a microsecond are dropped with a warning.
pub(super) fn time(
    what: &str,
    word: &Word,
    unit: Unit,
    (min, max): (Duration, Duration),
    reporter: &mut Reporter,
) -> Option<Duration> {
    let name = unit.name();
    let range = format!("write {name} from {} to {}", unit.show(min), unit.show(max));
    let (whole, part) = word.text.split_once('.').unwrap_or((&word.text, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && part.is_empty()) || !digits(whole) || !digits(part) {
        let message = format!("{what} {} is not a number of {name}", quote(&word.text));
        reporter.error(Code::InvalidValue, word.extent, message).help(range);
        return None;
    }
    let kept = part.get(..unit.digits()).unwrap_or(part);
    let micros = format!("{whole}{kept:0<width$}", width = unit.digits());
    let time = micros.parse().ok().map(Duration::from_micros);
    let Some(time) = time.filter(|time| (min..=max).contains(time)) else {
        let message = format!(
            "{what} {} is not within {} to {} {name}",
            quote(&word.text),
            unit.show(min),
            unit.show(max)
        );
        reporter.error(Code::OutOfRange, word.extent, message).help(range);
        return None;
    };
    if part.bytes().skip(unit.digits()).any(|digit| digit != b'0') {
        let shown = unit.show(time);
        let message =
            format!("{what} {} is finer than a microsecond: {shown} is used", quote(&word.text));
        reporter.warning(Code::ValueReplaced, word.extent, message).help(format!("write {shown}"));
    }
    Some(time)
}

/// A time in seconds, at most [`MAX_TIME`].
pub(super) fn seconds(
    what: &str,
    word: &Word,
    min: Duration,
    reporter: &mut Reporter,
) -> Option<Duration> {
    time(what, word, Unit::Seconds, (min, MAX_TIME), reporter)
}

const SWITCHES: [(&str, bool); 6] =
    [("on", true), ("off", false), ("yes", true), ("no", false), ("true", true), ("false", false)];

/// The switch of a statement: on if it has no argument.
pub(super) fn switch(item: &Item, reporter: &mut Reporter) -> Option<bool> {
    let Some(word) = item.arguments.first() else { return Some(true) };
    name(&format!("value of `{}`", item.keyword.text), word, &SWITCHES, reporter)
}

/// Name of a network interface.
pub(super) fn interface(word: &Word, reporter: &mut Reporter) -> Option<String> {
    let name = word.text.as_str();
    let shown = quote(name);
    let mut refuse = |code, message: String| {
        reporter.error(code, word.extent, message).help("write the name as `ip link` shows it");
    };
    if name.len() > MAX_INTERFACE_BYTES {
        let size = name.len();
        let limit = MAX_INTERFACE_BYTES;
        let message = format!("interface name {shown} has {size} bytes, more than {limit}");
        refuse(Code::OutOfRange, message);
        return None;
    }
    let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if name.is_empty() || name == "." || name == ".." || name.contains(bad) {
        refuse(Code::InvalidValue, format!("{shown} is no interface name"));
        return None;
    }
    Some(name.to_owned())
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
