//! Words of commands and expressions, which keepalived reads somewhat like a shell: `"` and `'` may quote a part of a word,
//! and `\` escapes are resolved (keepalived.conf(5), "Quoted strings").
//!
//! **Invariant:** total: what is not closed or escapes nothing is reported, and the word goes on.
//!
//! Called by the lexer for the arguments of [`KEYWORDS`].

use super::{Token, Word, braced_reference, undefined};
use crate::diagnostic::{Code, Reporter};
use crate::mapped::Mapped;

/// The keywords whose arguments are read so.
pub(super) const KEYWORDS: [&str; 19] = [
    "misc_path",
    "regex",
    "script",
    "quorum_up",
    "quorum_down",
    "notify",
    "notify_up",
    "notify_down",
    "notify_master",
    "notify_backup",
    "notify_fault",
    "notify_stop",
    "notify_deleted",
    "notify_master_rx_lower_pri",
    "startup_script",
    "shutdown_script",
    "notify_fifo_script",
    "vrrp_notify_fifo_script",
    "lvs_notify_fifo_script",
];

/// A word that starts at `start`; gives the byte after it.
pub(super) fn word(
    line: &Mapped,
    start: usize,
    reporter: &mut Reporter,
    out: &mut Vec<Token>,
) -> usize {
    let rest_at = |at: usize| line.text().get(at..).unwrap_or("");
    let mut text = String::new();
    let mut quoted = false;
    // The quote that is open, and where.
    let mut open: Option<(char, usize)> = None;
    let mut at = start;
    while let Some(c) = rest_at(at).chars().next() {
        match (c, open) {
            ('\\', _) => {
                at = escape(line, at, reporter, &mut text);
                continue;
            }
            (c, Some((quote, _))) if c == quote => open = None,
            (c, Some(_)) => text.push(c),
            ('"' | '\'', None) => {
                open = Some((c, at));
                quoted = true;
            }
            ('{' | '}', None) => break,
            (c, None) if c.is_whitespace() => break,
            ('$', None) if let Some(reference) = braced_reference(rest_at(at)) => {
                undefined(reference, line.extent(at..at + reference.len()), reporter);
                text.push_str(reference);
                at += reference.len();
                continue;
            }
            (c, None) => text.push(c),
        }
        at += c.len_utf8();
    }
    if let Some((quote, at)) = open {
        let (at, message) = (line.extent(at..at + 1), "quote is not closed on this line");
        reporter
            .error(Code::UnterminatedString, at, message)
            .help(format!("close it with `{quote}`; write a quote alone as `\\{quote}`"));
    }
    out.push(Token::Word(Word { text, extent: line.extent(start..at), quoted }));
    at
}

/// Adds what the escape at `start` stands for to `text`; gives the byte after it.
fn escape(line: &Mapped, start: usize, reporter: &mut Reporter, text: &mut String) -> usize {
    let rest = line.text().get(start + 1..).unwrap_or("");
    let mut chars = rest.chars();
    let Some(letter) = chars.next() else {
        text.push('\\');
        return start + 1;
    };
    let digits = |text: &str, radix: u32, most: usize| {
        text.chars().take(most).take_while(|c| c.is_digit(radix)).count()
    };
    // How many bytes follow the `\`, and the byte that they stand for.
    let (length, byte) = match letter {
        'x' if digits(chars.as_str(), 16, 1) > 0 => {
            let count = digits(chars.as_str(), 16, usize::MAX);
            // As in C, of more digits than a byte has the last ones count.
            let last = chars.as_str().get(count.saturating_sub(2)..count);
            (1 + count, last.and_then(|d| u8::from_str_radix(d, 16).ok()))
        }
        'c' if chars.as_str().starts_with(|c: char| c.is_ascii()) => {
            (2, chars.as_str().bytes().next().map(|byte| byte & 0x1f))
        }
        '0'..='7' => {
            let count = digits(rest, 8, 3);
            let value = rest.get(..count).and_then(|d| u32::from_str_radix(d, 8).ok());
            (count, value.and_then(|v| u8::try_from(v & 0xff).ok()))
        }
        'a' => (1, Some(0x07)),
        'b' => (1, Some(0x08)),
        'E' => (1, Some(0x1b)),
        'f' => (1, Some(0x0c)),
        'n' => (1, Some(b'\n')),
        'r' => (1, Some(b'\r')),
        't' => (1, Some(b'\t')),
        'v' => (1, Some(0x0b)),
        _ => (letter.len_utf8(), None),
    };
    let end = start + 1 + length;
    match byte {
        Some(byte) => text.push(char::from(byte)),
        None => text.push(letter),
    }
    if byte.is_none() && letter.is_alphanumeric() {
        let message = format!("`\\{letter}` is read as `{letter}`, as in keepalived");
        reporter
            .warning(Code::ValueReplaced, line.extent(start..end), message)
            .help(format!("write `\\\\{letter}` for a backslash before it"));
    }
    end
}

#[cfg(test)]
mod tests;
