//! Numbers and addresses as the C library reads them.
//!
//! **Invariant:** what `strtol`, `atoi` and `inet_aton` accept is accepted here, and nothing more; scripts
//! rely on octal addresses and leading signs.
//!
//! Called by the argument reader.

use std::net::Ipv4Addr;

/// A whole decimal number in `range` (`strtol` with nothing left over).
pub(super) fn number(text: &str, range: std::ops::RangeInclusive<u32>) -> Option<u32> {
    let (negative, digits) = sign(text);
    let value: u32 = digits_only(digits)?.parse().ok()?;
    let value = if negative && value != 0 { return None } else { value };
    range.contains(&value).then_some(value)
}

/// The number a text starts with (`atoi`), 0 without one.
pub(super) fn leading_number(text: &str) -> i64 {
    let (negative, rest) = sign(text);
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let value = rest.get(..end).unwrap_or_default().parse().unwrap_or(0i64);
    if negative { -value } else { value }
}

/// An IPv4 address in one to four parts, each decimal, octal (leading 0) or hexadecimal (leading 0x): `inet_aton`.
///
/// What follows white space is not looked at.
pub(super) fn inet_aton(text: &str) -> Option<Ipv4Addr> {
    let text = text.split(is_space).next()?;
    let mut parts = text.split('.').map(part).collect::<Option<Vec<u32>>>()?;
    if parts.len() > 4 {
        return None;
    }
    let last = parts.pop()?;
    // The last part fills all the bytes that the parts before it leave.
    let bytes_left = 4 - u32::try_from(parts.len()).ok()?;
    if u64::from(last) >= 1u64 << (8 * bytes_left) {
        return None;
    }
    let mut address = last;
    for (part, shift) in parts.into_iter().zip([24, 16, 8]) {
        address |= u32::from(u8::try_from(part).ok()?) << shift;
    }
    Some(Ipv4Addr::from(address))
}

fn part(text: &str) -> Option<u32> {
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let (digits, radix) = match (hex, text.strip_prefix('0')) {
        (Some(digits), _) => (digits, 16),
        (None, Some(digits)) if !digits.is_empty() => (digits, 8),
        (None, Some(_) | None) => (text, 10),
    };
    // from_str_radix would take a sign.
    if !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    u32::from_str_radix(digits, radix).ok()
}

fn sign(text: &str) -> (bool, &str) {
    let text = text.trim_start_matches(is_space);
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

fn digits_only(text: &str) -> Option<&str> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then_some(text)
}

/// `isspace` in the C locale.
pub(super) const fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}

#[cfg(test)]
mod tests;
