//! `include` and its stricter kinds.
//!
//! **Invariant:** a file that includes itself, directly or through others, is refused with the line that closes the ring.
//!
//! Called by the reader of lines for lines that start with one of these words.

use super::{MAX_FILES, MAX_INCLUDE_DEPTH, Reader};
use crate::diagnostic::{Code, Severity};
use crate::lexer::Word;
use crate::mapped::Mapped;
use crate::source::{expand_braces, resolve};
use crate::sources::Extent;
use crate::text::quote;

/// Longest pattern: the kernel's PATH_MAX.
const MAX_PATTERN_BYTES: usize = 4096;

/// What of an `include` is an error (keepalived.conf(5), `include_check`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Checks {
    /// A file that cannot be read.
    readable: bool,
    /// A file name without wildcards that does not exist.
    missing: bool,
    /// A pattern with wildcards that matches nothing.
    wildcard: bool,
    /// One choice of braces that matches nothing.
    brace: bool,
}

impl Checks {
    const NONE: Self = Self { readable: false, missing: false, wildcard: false, brace: false };
    const READABLE: Self = Self { readable: true, ..Self::NONE };
    const MATCH: Self = Self { missing: true, ..Self::READABLE };
    const WILDCARD: Self = Self { wildcard: true, ..Self::MATCH };
    const BRACE: Self = Self { brace: true, ..Self::READABLE };
    const ALL: Self = Self { readable: true, missing: true, wildcard: true, brace: true };

    /// What the word of an include line asks for, and the pattern after the word.
    pub(super) fn of(line: &str) -> Option<(Self, &str)> {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let checks = match word {
            "include" => Self::NONE,
            "includer" => Self::READABLE,
            "includem" => Self::MATCH,
            "includew" => Self::WILDCARD,
            "includeb" => Self::BRACE,
            "includea" => Self::ALL,
            _ => return None,
        };
        Some((checks, rest.trim()))
    }

    /// What `include_check` with this option asks for.
    fn option(word: &str) -> Option<Self> {
        Some(match word {
            "read" | "readable" => Self::READABLE,
            "match" => Self { missing: true, ..Self::NONE },
            "wildcard_match" => Self { wildcard: true, ..Self::NONE },
            "brace_match" => Self { brace: true, ..Self::NONE },
            _ => return None,
        })
    }

    /// What either asks for.
    const fn and(self, other: Self) -> Self {
        Self {
            readable: self.readable || other.readable,
            missing: self.missing || other.missing,
            wildcard: self.wildcard || other.wildcard,
            brace: self.brace || other.brace,
        }
    }

    /// What this asks for and `other` does not.
    const fn without(self, other: Self) -> Self {
        Self {
            readable: self.readable && !other.readable,
            missing: self.missing && !other.missing,
            wildcard: self.wildcard && !other.wildcard,
            brace: self.brace && !other.brace,
        }
    }

    /// How bad it is that `pattern` matches nothing; `choice`: it is one of several choices of braces; `others`: of
    /// which others matched.
    fn unmatched(self, pattern: &str, choice: bool, others: bool) -> Severity {
        let wild = pattern.contains(['*', '?', '[']);
        let strict = match (wild, choice) {
            (true, _) => self.wildcard,
            (false, true) => self.brace,
            (false, false) => self.missing,
        };
        match strict {
            true => Severity::Error,
            false if wild || others => Severity::Note,
            false => Severity::Warning,
        }
    }
}

impl Reader<'_> {
    /// Sets what is an error in the include lines below, by the words of an `include_check`.
    pub(super) fn set_include_check(&mut self, words: &[Word]) {
        // As in keepalived, no option is all of them.
        let mut checks = if words.is_empty() { Checks::ALL } else { self.include_check };
        let mut anew = true;
        for word in words {
            let text = word.text.as_str();
            let name = text.trim_start_matches(['+', '-']);
            let Some(option) = Checks::option(name) else {
                let message = format!("unknown include check {}", quote(text));
                self.reporter.error(Code::UnknownName, word.extent, message).help(
                    "write `readable`, `match`, `wildcard_match` or `brace_match`, or nothing for all of them",
                );
                continue;
            };
            checks = match text.chars().next() {
                Some('+') => checks.and(option),
                Some('-') => checks.without(option),
                // The first plain word starts from nothing; every check looks whether the file is readable.
                _ if core::mem::take(&mut anew) => Checks::READABLE.and(option),
                _ => checks.and(option),
            };
        }
        self.include_check = checks;
    }

    /// Reads what an include line names; `word`: what its first word asks for.
    pub(super) fn include(&mut self, word: Checks, pattern: &str, line: &Mapped) {
        let at = line.whole();
        let checks = word.and(self.include_check);
        let quoted = pattern.strip_prefix('"').and_then(|p| p.strip_suffix('"'));
        let pattern = quoted.unwrap_or(pattern);
        if pattern.is_empty() {
            self.reporter
                .error(Code::MissingArgument, at, "`include` names no file")
                .help("write `include PATH`; a relative path starts in this file's directory");
            return;
        }
        let choices = if pattern.len() > MAX_PATTERN_BYTES { None } else { expand_braces(pattern) };
        let Some(choices) = choices else {
            self.reporter
                .error(
                    Code::TooLarge,
                    at,
                    "the pattern is longer than 4096 bytes or stands for more than 256",
                )
                .help("split it over several `include` lines");
            return;
        };
        let mut found = 0;
        let mut missing = Vec::new();
        for choice in &choices {
            match self.include_matches(checks, choice, at) {
                0 => missing.push(choice.as_str()),
                n => found += n,
            }
        }
        let none = found == 0;
        if choices.len() > 1 && !none {
            for pattern in missing {
                self.report_unmatched(checks.unmatched(pattern, true, true), pattern, at);
            }
        } else if none {
            let one = choices.first().map_or(pattern, String::as_str);
            let shown = if choices.len() > 1 { pattern } else { one };
            self.report_unmatched(checks.unmatched(one, choices.len() > 1, false), shown, at);
        }
    }

    fn report_unmatched(&mut self, severity: Severity, pattern: &str, at: Extent) {
        let message = format!("no file matches `{}`", pattern.escape_debug());
        self.reporter.report(severity, Code::IncludeUnmatched, at, message);
    }

    /// Reads every file that `pattern` matches; says how many it matched.
    fn include_matches(&mut self, checks: Checks, pattern: &str, at: Extent) -> usize {
        let from = self.open.last().map_or("", |f| self.sources.name(*f));
        let resolved = resolve(from, pattern);
        let paths = match self.source.matches(&resolved) {
            Ok(paths) => paths,
            Err(e) => {
                let message = format!("cannot look for `{}`: {e}", resolved.escape_debug());
                self.reporter.error(Code::Unreadable, at, message);
                // It was found wanting already: not reported once more as unmatched.
                return 1;
            }
        };
        for path in &paths {
            if self.exhausted {
                break;
            }
            self.include_file(checks, path, at);
        }
        paths.len()
    }

    fn include_file(&mut self, checks: Checks, path: &str, at: Extent) {
        if let Some(ring) = self.open.iter().position(|f| self.sources.name(*f) == path) {
            let mut chain: Vec<&str> =
                self.open.iter().skip(ring).map(|f| self.sources.name(*f)).collect();
            chain.push(path);
            let message = format!("files include each other without end: {}", chain.join(" -> "));
            self.reporter
                .error(Code::IncludeLimit, at, message)
                .help("remove one of these `include` lines");
            return;
        }
        if self.open.len() >= MAX_INCLUDE_DEPTH {
            let message = format!("`include` is nested more than {MAX_INCLUDE_DEPTH} deep");
            self.reporter.error(Code::IncludeLimit, at, message).help("include from fewer levels");
            return;
        }
        if self.files >= MAX_FILES {
            let message = format!("more than {MAX_FILES} files are included");
            return self.give_up(Some(at), message, "join small files");
        }
        match self.source.read(path) {
            Ok(bytes) => {
                // As in keepalived, what a file sets with `include_check` ends with it.
                let outer = self.include_check;
                self.read_bytes(path, bytes, Some(at));
                self.include_check = outer;
            }
            Err(e) => {
                let severity = if checks.readable { Severity::Error } else { Severity::Warning };
                let message = format!("cannot read {path}: {e}");
                self.reporter
                    .report(severity, Code::Unreadable, at, message)
                    .help("what it holds is not in effect; check its permissions");
            }
        }
    }
}
