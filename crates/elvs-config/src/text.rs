//! Words and numbers as messages show them.
//!
//! **Invariant:** what an operator typed cannot steer the terminal: control characters are escaped, long words cut.
//!
//! Called by every stage that writes messages.

use std::borrow::Cow;

/// Most characters of a foreign word that a message repeats.
const SHOWN: usize = 64;

/// A word from the file, for a message: in back quotes, escaped, cut to 64 characters.
pub(crate) fn quote(word: &str) -> String {
    let mut shown = String::new();
    for c in word.chars().take(SHOWN).filter(|c| *c != '\u{feff}') {
        match c {
            // Harmless between back quotes, and clearer as typed.
            '\\' | '"' | '\'' => shown.push(c),
            c => shown.extend(c.escape_debug()),
        }
    }
    let more = if word.chars().nth(SHOWN).is_some() { "..." } else { "" };
    format!("`{shown}{more}`")
}

/// Text with its control characters escaped.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let escape =
        |c: char| if c.is_control() { c.escape_debug().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}

/// `n thing`, with an s when there is not exactly one.
pub(crate) fn count(n: usize, thing: &str) -> String {
    if n == 1 { format!("1 {thing}") } else { format!("{n} {thing}s") }
}

/// Words in back quotes: "`a`", "`a` or `b`", "`a`, `b` or `c`".
pub(crate) fn one_of(words: &[&str]) -> String {
    join(words, "or")
}

/// Words in back quotes: "`a`, `b` and `c`".
pub(crate) fn all_of(words: &[&str]) -> String {
    join(words, "and")
}

fn join(words: &[&str], last: &str) -> String {
    let quoted: Vec<_> = words.iter().map(|w| format!("`{w}`")).collect();
    match quoted.split_last() {
        Some((end, [])) => end.clone(),
        Some((end, rest)) => format!("{} {last} {end}", rest.join(", ")),
        None => String::new(),
    }
}

/// The word of `known` nearest to `word`, if it is near enough to be meant.
pub(crate) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    const LONGEST: usize = 48;
    if word.len() > LONGEST {
        return None;
    }
    let lower = word.to_ascii_lowercase();
    let length = word.chars().count();
    let allowed = (length / 3).max(1);
    // Words of very different length are not near, and need not be compared letter by letter.
    let comparable = |k: &&str| k.chars().count().abs_diff(length) <= allowed;
    let distance = |k: &str| strsim::damerau_levenshtein(&lower, &k.to_ascii_lowercase());
    let near = known
        .into_iter()
        .filter(comparable)
        .map(|k| (distance(k), k))
        .filter(|(d, _)| *d <= allowed);
    near.min_by_key(|(d, k)| (*d, k.len().abs_diff(word.len()))).map(|(_, k)| k)
}

#[cfg(test)]
mod tests;
