//! `include` and its stricter kinds.
//!
//! **Invariant:** a file that includes itself, directly or through others, is refused with the line that closes the ring.
//!
//! Called by the reader of lines for lines that start with one of these words.

use super::{MAX_FILES, MAX_INCLUDE_DEPTH, Reader};
use crate::diagnostic::{Code, Severity};
use crate::mapped::Mapped;
use crate::source::{expand_braces, resolve};
use crate::sources::Extent;

/// Longest pattern: the kernel's PATH_MAX.
const MAX_PATTERN_BYTES: usize = 4096;

/// Which of the include words it is: what it makes an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `include`: nothing.
    Plain,
    /// `includer`: a file that cannot be read.
    Readable,
    /// `includem`: also a file name without wildcards that does not exist.
    Match,
    /// `includew`: also a pattern with wildcards that matches nothing.
    WildcardMatch,
    /// `includeb`: also one choice of braces that matches nothing.
    BraceMatch,
    /// `includea`: all of these.
    All,
}

impl Kind {
    /// The kind of an include line, and the pattern after the word.
    pub(super) fn of(line: &str) -> Option<(Self, &str)> {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let kind = match word {
            "include" => Self::Plain,
            "includer" => Self::Readable,
            "includem" => Self::Match,
            "includew" => Self::WildcardMatch,
            "includeb" => Self::BraceMatch,
            "includea" => Self::All,
            _ => return None,
        };
        Some((kind, rest.trim()))
    }

    /// How bad it is that `pattern` matches nothing; `choice`: it is one of several choices of braces.
    fn unmatched(self, pattern: &str, choice: bool) -> Severity {
        let wild = pattern.contains(['*', '?', '[']);
        let strict = match self {
            Self::Plain | Self::Readable => false,
            Self::Match => !wild && !choice,
            Self::WildcardMatch => !choice,
            Self::BraceMatch => choice && !wild,
            Self::All => true,
        };
        if strict {
            Severity::Error
        } else if wild || choice {
            Severity::Note
        } else {
            Severity::Warning
        }
    }
}

impl Reader<'_> {
    /// Reads what an include line names.
    pub(super) fn include(&mut self, kind: Kind, pattern: &str, line: &Mapped) {
        let at = line.whole();
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
            match self.include_matches(kind, choice, at) {
                0 => missing.push(choice.as_str()),
                n => found += n,
            }
        }
        let none = found == 0;
        if choices.len() > 1 && !none {
            for pattern in missing {
                self.report_unmatched(kind.unmatched(pattern, true), pattern, at);
            }
        } else if none {
            let one = choices.first().map_or(pattern, String::as_str);
            let shown = if choices.len() > 1 { pattern } else { one };
            let severity = if kind == Kind::BraceMatch && choices.len() > 1 {
                Severity::Error
            } else {
                kind.unmatched(one, false)
            };
            self.report_unmatched(severity, shown, at);
        }
    }

    fn report_unmatched(&mut self, severity: Severity, pattern: &str, at: Extent) {
        let message = format!("no file matches `{}`", pattern.escape_debug());
        self.reporter.report(severity, Code::IncludeUnmatched, at, message);
    }

    /// Reads every file that `pattern` matches; says how many it matched.
    fn include_matches(&mut self, kind: Kind, pattern: &str, at: Extent) -> usize {
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
            self.include_file(kind, path, at);
        }
        paths.len()
    }

    fn include_file(&mut self, kind: Kind, path: &str, at: Extent) {
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
            Ok(bytes) => self.read_bytes(path, bytes, Some(at)),
            Err(e) => {
                let severity =
                    if kind == Kind::Plain { Severity::Warning } else { Severity::Error };
                let message = format!("cannot read {path}: {e}");
                self.reporter
                    .report(severity, Code::Unreadable, at, message)
                    .help("what it holds is not in effect; check its permissions");
            }
        }
    }
}
