//! `UDP_CHECK` and its hexadecimal strings.
//!
//! **Invariant:** a pattern's mask is as long as its bytes; the least length of a reply is not above the greatest.
//!
//! Called by the lowering of checks.

use elvs_model::health::{CheckKind, ReplyPattern, Target, UdpCheck};

use crate::diagnostic::{Code, Reporter};
use crate::lexer::Word;
use crate::lower::{Once, value};
use crate::text::quote;
use crate::tree::Item;

/// keepalived's `max_reply_length`.
const MAX_LENGTH: u16 = 255;
/// Longest payload and pattern: what a UDP datagram of IPv4 can carry.
const MAX_BYTES: usize = 65_507;

pub(super) fn check(item: &Item, target: Target, reporter: &mut Reporter) -> Option<CheckKind> {
    let mut payload = Once::default();
    let mut reply: Once<Option<ReplyPattern>> = Once::default();
    let mut lengths: [Once<u16>; 2] = Default::default();
    let mut refused = false;
    for line in item.items() {
        match (line.keyword.text.as_str(), line.arguments.as_slice()) {
            ("payload", words @ [_, ..]) => match hex(words, false, reporter) {
                Some(pattern) => payload.set(line, pattern.bytes, reporter),
                None => refused = true,
            },
            ("require_reply", []) => reply.set(line, None, reporter),
            ("require_reply", words) => match hex(words, true, reporter) {
                Some(pattern) => reply.set(line, Some(pattern), reporter),
                None => refused = true,
            },
            (keyword @ ("min_reply_length" | "max_reply_length"), [word, ..]) => {
                let [min, max] = &mut lengths;
                let length = if keyword == "min_reply_length" { min } else { max };
                let bytes = value::number(keyword, word, 0, u16::MAX.into(), reporter);
                if let Some(bytes) = bytes.and_then(|bytes| u16::try_from(bytes).ok()) {
                    length.set(line, bytes, reporter);
                }
            }
            _ => {}
        }
    }
    let [min, max] = &lengths;
    let least = min.get().copied().unwrap_or(0);
    let most = max.get().copied().unwrap_or(MAX_LENGTH);
    if least > most {
        let message = format!("min_reply_length {least} exceeds max_reply_length {most}");
        reporter
            .error(Code::OutOfRange, item.head(), message)
            .help("no reply could pass: raise `max_reply_length`, which is 255 if not given");
        return None;
    }
    if let Some(at) = min.place().or_else(|| max.place())
        && reply.get().is_none()
        && !refused
    {
        reporter
            .warning(Code::NoEffect, at, "the length of a reply matters only with `require_reply`")
            .help("write `require_reply`, or remove the line");
    }
    (!refused).then(|| {
        CheckKind::Udp(UdpCheck {
            target,
            payload: payload.get().cloned(),
            require_reply: reply.get().is_some(),
            reply: reply.get().cloned().flatten(),
            min_length: least,
            max_length: most,
        })
    })
}

/// Bytes as keepalived reads them: blanks end a byte, one digit alone is a byte; with `wild` an `x` is any half of a byte.
fn hex(words: &[Word], wild: bool, reporter: &mut Reporter) -> Option<ReplyPattern> {
    let mut pattern = ReplyPattern { bytes: Vec::new(), mask: Vec::new() };
    for word in words {
        for group in word.text.split_whitespace() {
            let mut halves = group.chars().map(|c| half(c, wild));
            while let Some(first) = halves.next() {
                let byte = match (first, halves.next()) {
                    (Some(low), None) => Some((low, (0, 0xf))),
                    (Some(high), Some(Some(low))) => Some((low, high)),
                    (None, _) | (_, Some(None)) => None,
                };
                let Some((low, high)) = byte else {
                    let digits = if wild {
                        "hexadecimal digits, or X for any"
                    } else {
                        "hexadecimal digits"
                    };
                    let message =
                        format!("{} is not made of hexadecimal digits", quote(&word.text));
                    reporter
                        .error(Code::InvalidValue, word.extent, message)
                        .help(format!("write bytes of two {digits}, as in `00ff 2a`"));
                    return None;
                };
                pattern.bytes.push(high.0 << 4 | low.0);
                pattern.mask.push(high.1 << 4 | low.1);
            }
        }
    }
    let length = pattern.bytes.len();
    let at = words.first()?.extent.to(words.last()?.extent);
    if length == 0 || length > MAX_BYTES {
        let message = format!("{length} bytes are not within 1 to {MAX_BYTES}");
        reporter
            .error(Code::OutOfRange, at, message)
            .help("write what fits into one datagram, in hexadecimal digits");
        return None;
    }
    Some(pattern)
}

/// Value and mask of half a byte.
fn half(c: char, wild: bool) -> Option<(u8, u8)> {
    if wild && c.eq_ignore_ascii_case(&'x') {
        return Some((0, 0));
    }
    let digit = c.to_digit(16)?;
    Some((u8::try_from(digit).ok()?, 0xf))
}
