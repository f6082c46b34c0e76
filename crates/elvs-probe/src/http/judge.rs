//! What an answer to a request of `HTTP_GET` or `SSL_GET` is worth.
//!
//! **Invariant:** memory is bounded by [`WINDOW`], whatever the length of the body.
//!
//! Called by the driver, with what it receives.

use std::fmt::Write as _;
use std::sync::Arc;

use elvs_model::health::{RegexRule, StatusRange, UrlCheck};
use md5::{Digest, Md5};
use thiserror::Error;

use crate::regex::{Regex, RegexError};

/// Why an answer is not the one that was wanted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Unwanted {
    /// `status_code`.
    #[error("HTTP {got}, wanted {}", ranges(.wanted))]
    Status { got: u16, wanted: Vec<StatusRange> },
    /// `digest`.
    #[error("digest {}, wanted {}", hex(.got), hex(.wanted))]
    Digest { got: [u8; 16], wanted: [u8; 16] },
    /// `regex`.
    #[error("regex \"{pattern}\" matches nothing in {}", searched(*.seen))]
    NoMatch { pattern: String, seen: usize },
    /// `regex_no_match`.
    #[error("regex \"{pattern}\" matches at byte {at}, wanted no match")]
    Match { pattern: String, at: usize },
    /// No answer of the regex.
    #[error(transparent)]
    Regex(#[from] RegexError),
    /// A body that is not digested to its end.
    #[error("body is longer than {DIGESTED} bytes, too long for a digest")]
    TooLong,
}

/// Judges one answer.
pub(crate) struct Judge<'a> {
    url: &'a UrlCheck,
    digest: Option<Md5>,
    regex: Option<(&'a RegexRule, Arc<Regex>)>,
    window: Vec<u8>,
    seen: usize,
}

/// Whether the rest of a body matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// It may.
    Matters,
    /// Nothing in it can change the judgement.
    Ignored,
}

impl<'a> Judge<'a> {
    /// Judges an answer with this status; `regex` is the compiled one of `url`.
    ///
    /// # Errors
    /// The status is not a wanted one.
    pub(crate) fn new(
        url: &'a UrlCheck,
        regex: Option<Arc<Regex>>,
        status: u16,
    ) -> Result<Self, Unwanted> {
        let wanted = |range: &StatusRange| (range.first..=range.last).contains(&status);
        if !url.status.is_empty() && !url.status.iter().any(wanted) {
            return Err(Unwanted::Status { got: status, wanted: url.status.clone() });
        }
        Ok(Self {
            url,
            digest: url.digest.map(|_| Md5::new()),
            regex: url.regex.as_ref().zip(regex),
            window: Vec::new(),
            seen: 0,
        })
    }

    /// Takes the next part of the body.
    ///
    /// # Errors
    /// The body is too long for what is wanted of it.
    pub(crate) fn feed(&mut self, part: &[u8]) -> Result<Rest, Unwanted> {
        self.seen = self.seen.saturating_add(part.len());
        if self.regex.is_some() {
            let room = WINDOW.saturating_sub(self.window.len());
            self.window.extend_from_slice(part.get(..room).unwrap_or(part));
        }
        match &mut self.digest {
            Some(_) if self.seen > DIGESTED => Err(Unwanted::TooLong),
            Some(digest) => {
                digest.update(part);
                Ok(Rest::Matters)
            }
            None if self.seen >= WINDOW => Ok(Rest::Ignored),
            None => Ok(Rest::Matters),
        }
    }

    /// The judgement, when the body has ended.
    ///
    /// # Errors
    /// What is not as wanted.
    pub(crate) fn end(self) -> Result<(), Unwanted> {
        if let Some((digest, wanted)) = self.digest.zip(self.url.digest) {
            let got = digest.finalize().into();
            if got != wanted {
                return Err(Unwanted::Digest { got, wanted });
            }
        }
        let Some((rule, regex)) = self.regex else { return Ok(()) };
        let before = |at: &usize| rule.max_offset == 0 || *at < rule.max_offset;
        let found = regex.find(&self.window, rule.min_offset)?.filter(before);
        let pattern = || rule.pattern.clone();
        match (found, rule.must_not_match) {
            (Some(at), true) => Err(Unwanted::Match { pattern: pattern(), at }),
            (None, false) => Err(Unwanted::NoMatch { pattern: pattern(), seen: self.seen }),
            (Some(_), false) | (None, true) => Ok(()),
        }
    }
}

/// Status codes as the configuration has them: `200-299, 401`.
fn ranges(ranges: &[StatusRange]) -> String {
    let one = |range: &StatusRange| {
        if range.first == range.last {
            range.first.to_string()
        } else {
            format!("{}-{}", range.first, range.last)
        }
    };
    ranges.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn hex(digest: &[u8; 16]) -> String {
    digest.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn searched(seen: usize) -> String {
    if seen > WINDOW {
        format!("the first {WINDOW} bytes of the body")
    } else {
        format!("the {seen} bytes of the body")
    }
}

/// Bytes of a body that a regex sees, and after which a body of which nothing is wanted is read no further.
pub(crate) const WINDOW: usize = 1 << 20;

/// Bytes of a body that are digested.
const DIGESTED: usize = 16 << 20;

#[cfg(test)]
mod tests;
