//! How times, errors and bytes from outside are said in the words of a finding.
//!
//! **Invariant:** words are one line of printable characters of bounded length, whatever a server sent.
//!
//! Called by every driver.

use std::io;
use std::time::Duration;

use nix::errno::Errno;

/// A time as people say it: `3 s`, `1.5 s`, `250 ms`.
pub(crate) fn time(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{} ms", duration.as_millis())
    } else {
        format!("{} s", duration.as_secs_f64())
    }
}

/// What the system says of an error, without its number: `connection refused`.
pub(crate) fn error(error: &io::Error) -> String {
    let text = match error.raw_os_error() {
        Some(number) => Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    };
    lowercase_first(&text)
}

/// Bytes that a server sent, in quotes: printable, and cut after 60 characters.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes.get(..SHOWN * 4).unwrap_or(bytes));
    let mut shown: String = text.trim_end().chars().take(SHOWN).flat_map(printable).collect();
    if text.trim_end().chars().count() > SHOWN {
        shown.push_str("...");
    }
    format!("\"{shown}\"")
}

/// The text with a small first letter, unless the first word is an acronym.
fn lowercase_first(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        (Some(first), Some(second)) if first.is_uppercase() && !second.is_uppercase() => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => text.to_owned(),
    }
}

fn printable(character: char) -> impl Iterator<Item = char> {
    let escaped = character.is_control() || character == '"' || character == '\\';
    let (plain, code) =
        if escaped { (None, Some(character.escape_default())) } else { (Some(character), None) };
    plain.into_iter().chain(code.into_iter().flatten())
}

/// Characters of a server's bytes that are shown.
const SHOWN: usize = 60;

#[cfg(test)]
mod tests;
