//! A line of text to tokens: words, quoted strings and braces.
//!
//! **Invariant:** total: every line yields tokens, whatever its bytes; what is odd is reported beside them.
//!
//! Called by the reader of lines with comments already cut off and parameters already replaced.

mod shell;

use crate::diagnostic::{Code, Reporter};
use crate::mapped::Mapped;
use crate::sources::Extent;

/// A word as the configuration language sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    /// Text, without quotes and with escapes resolved.
    pub text: String,
    /// Where it stands.
    pub extent: Extent,
    /// Written in double quotes.
    pub quoted: bool,
}

/// The smallest parts of the language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// A word or a quoted string.
    Word(Word),
    /// `{`
    Open(Extent),
    /// `}`
    Close(Extent),
    /// The end of a line, which ends a statement.
    End,
}

/// Appends the tokens of one line, and [`Token::End`], to `tokens`.
pub(crate) fn tokenise(line: &Mapped, reporter: &mut Reporter, tokens: &mut Vec<Token>) {
    let text = line.text();
    let mut at = 0;
    // Whether the words to come are those of a keyword whose arguments are read like a shell's.
    let mut shell = false;
    let mut starts_statement = true;
    while let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) {
        let extent = line.extent(at..at + c.len_utf8());
        match c {
            c if c.is_whitespace() => at += c.len_utf8(),
            '{' | '}' => {
                tokens.push(if c == '{' { Token::Open(extent) } else { Token::Close(extent) });
                at += 1;
                (shell, starts_statement) = (false, true);
            }
            _ => {
                at = match c {
                    _ if shell => shell::word(line, at, reporter, tokens),
                    '"' => string(line, at, reporter, tokens),
                    _ => word(line, at, reporter, tokens),
                };
                if core::mem::take(&mut starts_statement)
                    && let Some(Token::Word(keyword)) = tokens.last()
                {
                    shell = !keyword.quoted && shell::KEYWORDS.contains(&keyword.text.as_str());
                }
            }
        }
    }
    tokens.push(Token::End);
}

/// A quoted string that starts at `start`; gives the byte after it.
fn string(line: &Mapped, start: usize, reporter: &mut Reporter, out: &mut Vec<Token>) -> usize {
    let rest = line.text().get(start + 1..).unwrap_or("");
    let mut text = String::new();
    let mut chars = rest.char_indices();
    let mut end = None;
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                end = Some(start + 1 + at + 1);
                break;
            }
            '\\' => match chars.next() {
                Some((_, escaped @ ('"' | '\\'))) => text.push(escaped),
                Some((_, other)) => text.extend(['\\', other]),
                None => text.push('\\'),
            },
            c => text.push(c),
        }
    }
    if end.is_none() {
        reporter
            .error(
                Code::UnterminatedString,
                line.extent(start..start + 1),
                "quote is not closed on this line",
            )
            .help("close it with `\"`; write a quote inside a string as `\\\"`");
    }
    let end = end.unwrap_or_else(|| line.text().len());
    out.push(Token::Word(Word { text, extent: line.extent(start..end), quoted: true }));
    end
}

/// A bare word that starts at `start`; gives the byte after it.
fn word(line: &Mapped, start: usize, reporter: &mut Reporter, out: &mut Vec<Token>) -> usize {
    let rest_at = |at: usize| line.text().get(at..).unwrap_or("");
    let mut text = String::new();
    let mut at = start;
    while let Some(c) = rest_at(at).chars().next() {
        match c {
            '"' | '{' | '}' => break,
            c if c.is_whitespace() => break,
            '$' if let Some(reference) = braced_reference(rest_at(at)) => {
                undefined(reference, line.extent(at..at + reference.len()), reporter);
                text.push_str(reference);
                at += reference.len();
            }
            '\\' => {
                let escaped = rest_at(at + 1).chars().next();
                if !matches!(escaped, Some('#' | '!')) {
                    text.push('\\');
                }
                text.extend(escaped);
                at += 1 + escaped.map_or(0, char::len_utf8);
            }
            c => {
                text.push(c);
                at += c.len_utf8();
            }
        }
    }
    out.push(Token::Word(Word { text, extent: line.extent(start..at), quoted: false }));
    at
}

/// Says that a parameter is not defined.
fn undefined(reference: &str, at: Extent, reporter: &mut Reporter) {
    let message = format!("parameter `{reference}` is not defined and stays as it is");
    let help = format!("define it above with `${}=VALUE`", name_of(reference));
    reporter.warning(Code::UndefinedParameter, at, message).help(help);
}

/// `${NAME}` or `${NAME ARGS}` at the start of `text`.
pub(crate) fn braced_reference(text: &str) -> Option<&str> {
    let inside = text.strip_prefix("${")?;
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ' ' | '\t');
    // Looks no further than the first character that cannot belong to it, so that a line is read in linear time.
    let close = inside.find(|c| !is_part(c))?;
    let starts_well = inside.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    (starts_well && inside.get(close..)?.starts_with('}')).then(|| text.get(..close + 3)).flatten()
}

/// Name inside `${NAME ARGS}`.
fn name_of(reference: &str) -> &str {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let inside = reference.trim_start_matches(['$', '{']);
    inside.split(|c| !is_part(c)).next().unwrap_or("")
}

#[cfg(test)]
mod tests;
