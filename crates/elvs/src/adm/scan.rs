//! Words of a command line, read as libpopt reads them.
//!
//! **Invariant:** options come out in the order typed, and nothing behind an option is looked at before it is taken,
//! so that the first mistake on the line is the one reported.
//!
//! Called by the argument reader.

use super::option::{Kind, Meaning, SPELLINGS, Spelling, Takes, Verb};

/// Reads options one at a time; words that are none are kept aside.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    words: &'a [String],
    next: usize,
    /// What is left of a word of bundled short options.
    bundle: &'a str,
    /// `--` was seen: every further word is an argument.
    only_arguments: bool,
    arguments: Vec<&'a str>,
    /// The command is one of full NAT's, which alone has the letters that ipvsadm does not know.
    full_nat: bool,
}

/// What libpopt says of a word it cannot read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ScanError {
    pub(super) word: String,
    pub(super) problem: &'static str,
}

impl<'a> Scanner<'a> {
    pub(super) const fn new(words: &'a [String]) -> Self {
        let arguments = Vec::new();
        Self { words, next: 0, bundle: "", only_arguments: false, arguments, full_nat: false }
    }

    /// What the command is decides whether `-z` and `-F` are letters at all.
    pub(super) const fn is_for(&mut self, verb: Verb) {
        self.full_nat = matches!(verb, Verb::AddLocal | Verb::DeleteLocal);
    }

    /// The next option with its value.
    pub(super) fn option(&mut self) -> Result<Option<(Meaning, Option<&'a str>)>, ScanError> {
        while self.bundle.is_empty() {
            let Some(word) = self.words.get(self.next).map(String::as_str) else {
                return Ok(None);
            };
            self.next += 1;
            match word.strip_prefix('-') {
                Some("-") if !self.only_arguments => self.only_arguments = true,
                Some("") | None => self.arguments.push(word),
                Some(_) if self.only_arguments => self.arguments.push(word),
                Some(rest) => match rest.strip_prefix('-') {
                    Some(long) => return self.long(long).map(Some),
                    None => self.bundle = rest,
                },
            }
        }
        self.short().map(Some)
    }

    /// The word the last option was in.
    pub(super) fn last_word(&self) -> &'a str {
        let last = self.next.checked_sub(1).and_then(|last| self.words.get(last));
        last.map(String::as_str).unwrap_or_default()
    }

    /// Words that are no options, after the last option was read.
    pub(super) fn into_arguments(self) -> Vec<&'a str> {
        self.arguments
    }

    fn long(&mut self, word: &'a str) -> Result<(Meaning, Option<&'a str>), ScanError> {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        let spelling = SPELLINGS.iter().find(|s| s.long == name);
        let spelling = spelling.ok_or_else(|| self.error(UNKNOWN))?;
        self.take(spelling, value)
    }

    fn short(&mut self) -> Result<(Meaning, Option<&'a str>), ScanError> {
        let mut rest = self.bundle.chars();
        let letter = rest.next();
        self.bundle = rest.as_str();
        let known = |s: &&Spelling| {
            let own = matches!(s.meaning, Meaning::Kind(Kind::LocalAddress | Kind::Ifname));
            s.short.is_some() && s.short == letter && (self.full_nat || !own)
        };
        let spelling = SPELLINGS.iter().find(known);
        let spelling = spelling.ok_or_else(|| self.error(UNKNOWN))?;
        if spelling.takes == Takes::Nothing && !self.bundle.starts_with('=') {
            return Ok((spelling.meaning, None));
        }
        let value = std::mem::take(&mut self.bundle);
        let value = value.strip_prefix('=').or_else(|| (!value.is_empty()).then_some(value));
        self.take(spelling, value)
    }

    /// An option whose value, if one was attached to it, is `attached`.
    fn take(
        &mut self,
        spelling: &Spelling,
        attached: Option<&'a str>,
    ) -> Result<(Meaning, Option<&'a str>), ScanError> {
        if spelling.takes == Takes::Nothing {
            return match attached {
                Some(_) => Err(self.error("option does not take an argument")),
                None => Ok((spelling.meaning, None)),
            };
        }
        if attached.is_some() {
            return Ok((spelling.meaning, attached));
        }
        let following = self.words.get(self.next).map(String::as_str);
        let value = match (following, spelling.takes) {
            (None, Takes::Value) => return Err(self.error("missing argument")),
            (Some(word), Takes::PerhapsValue) if word.starts_with('-') => None,
            (word, Takes::Value | Takes::PerhapsValue | Takes::Nothing) => word,
        };
        self.next += usize::from(value.is_some());
        Ok((spelling.meaning, value))
    }

    /// libpopt names the word it read last.
    fn error(&self, problem: &'static str) -> ScanError {
        ScanError { word: self.last_word().to_owned(), problem }
    }
}

const UNKNOWN: &str = "unknown option";

#[cfg(test)]
mod tests;
