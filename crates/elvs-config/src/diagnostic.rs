//! What the reader has to say about a configuration: severity, code, message, cure and place.
//!
//! **Invariant:** every refusal or oversight names its place and its code; nothing an operator wrote is passed over
//! without one, and none is said twice. After [`MAX_DIAGNOSTICS`] findings one last diagnostic says that more were left out.
//!
//! Called by every stage of the reader; shown by `elvs check` and by the daemon's log.

use std::collections::HashSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::sources::{Extent, Sources, Span};
use crate::text::printable;

/// Findings kept of one reading; a file that is not a configuration at all would otherwise yield one per line.
pub const MAX_DIAGNOSTICS: usize = 1000;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing is applied from this file.
    Error,
    /// Applied, but probably not as meant.
    Warning,
    /// Good to know.
    Note,
}

impl Severity {
    /// Word that stands before the message.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// What kind of finding it is; stable, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Code {
    /// A keyword nobody knows.
    UnknownKeyword,
    /// A keyword that belongs in another block.
    MisplacedKeyword,
    /// A keyword without an argument it needs.
    MissingArgument,
    /// More arguments than the keyword takes.
    ExtraArgument,
    /// A keyword that needs `{ ... }` and has none.
    MissingBlock,
    /// A keyword that has `{ ... }` and takes none.
    UnexpectedBlock,
    /// Braces that do not pair.
    UnbalancedBrace,
    /// A quote that is not closed on its line.
    UnterminatedString,
    /// A value that cannot be read.
    InvalidValue,
    /// A number outside its limits.
    OutOfRange,
    /// A name that is none of those possible here.
    UnknownName,
    /// The same service, server or setting twice.
    Duplicate,
    /// Address families that do not go together.
    MixedFamilies,
    /// Known, and not in effect in this release.
    NotInEffect,
    /// Known, and without meaning for ELVS.
    NoEffect,
    /// A value was not given and the default is worth a word.
    DefaultAssumed,
    /// Taken as it is written, and probably not what is meant.
    Doubtful,
    /// A value is replaced by one that works.
    ValueReplaced,
    /// A file that cannot be read.
    Unreadable,
    /// An `include` that finds nothing.
    IncludeUnmatched,
    /// Files that include each other without end, or too many of them.
    IncludeLimit,
    /// A feature of keepalived's language that is not supported.
    UnsupportedSyntax,
    /// A `$NAME` that is not defined.
    UndefinedParameter,
    /// A text, line or expansion larger than the limit.
    TooLarge,
    /// Blocks nested deeper than the limit.
    TooDeep,
    /// Bytes that are no text.
    Encoding,
    /// More findings than are kept.
    TooMany,
}

/// A further place that explains a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// What is there.
    pub message: String,
    /// Where.
    pub span: Span,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What kind it is.
    pub code: Code,
    /// What is wrong: lower case, names value and limit.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// Where it is.
    pub span: Span,
    /// Places that explain it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub related: Vec<Label>,
}

impl fmt::Display for Diagnostic {
    /// One line: `FILE:LINE:COLUMN: error: message`, as editors and compilers write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Span { file, line, column, .. } = &self.span;
        let file = printable(file);
        write!(f, "{file}:{line}:{column}: {}: {}", self.severity.name(), self.message)
    }
}

/// Collects findings while texts are read.
#[derive(Debug, Default)]
pub(crate) struct Reporter {
    findings: Vec<Finding>,
    /// What was found already: a line that `~SEQ` or a parameter repeats is reported once.
    seen: HashSet<(Extent, Code, String)>,
    /// A finding that is not kept.
    repeated: Option<Finding>,
    overflow: Option<Extent>,
    errors: bool,
}

/// A finding before its extents are turned into spans.
#[derive(Debug)]
pub(crate) struct Finding {
    severity: Severity,
    code: Code,
    message: String,
    help: Option<String>,
    extent: Extent,
    related: Vec<(Extent, String)>,
}

impl Finding {
    /// Adds the cure.
    pub fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    /// Adds the cure, if there is one.
    pub fn help_if(&mut self, help: Option<String>) -> &mut Self {
        if help.is_some() {
            self.help = help;
        }
        self
    }

    /// Adds a further place.
    pub fn related(&mut self, extent: Extent, message: impl Into<String>) -> &mut Self {
        self.related.push((extent, message.into()));
        self
    }
}

impl Reporter {
    /// Records an error.
    pub fn error(&mut self, code: Code, at: Extent, message: impl Into<String>) -> &mut Finding {
        self.report(Severity::Error, code, at, message.into())
    }

    /// Records a warning.
    pub fn warning(&mut self, code: Code, at: Extent, message: impl Into<String>) -> &mut Finding {
        self.report(Severity::Warning, code, at, message.into())
    }

    /// Records a note.
    pub fn note(&mut self, code: Code, at: Extent, message: impl Into<String>) -> &mut Finding {
        self.report(Severity::Note, code, at, message.into())
    }

    /// Records a finding.
    pub fn report(
        &mut self,
        severity: Severity,
        code: Code,
        extent: Extent,
        message: String,
    ) -> &mut Finding {
        self.errors |= severity == Severity::Error;
        // Names of files and words of the file are in it.
        let message = printable(&message).into_owned();
        let finding = Finding { severity, code, message, help: None, extent, related: Vec::new() };
        if self.findings.len() < MAX_DIAGNOSTICS
            && !self.seen.insert((extent, code, finding.message.clone()))
        {
            return self.repeated.insert(finding);
        }
        if self.findings.len() >= MAX_DIAGNOSTICS {
            // The slot past the limit is overwritten, and replaced at the end by the word that there are more.
            // That is an error: reading stops early, and what was not read must not be left out in silence.
            self.errors = true;
            self.overflow.get_or_insert(extent);
            self.findings.truncate(MAX_DIAGNOSTICS);
        }
        self.findings.push_mut(finding)
    }

    /// Whether an error was recorded.
    pub fn has_errors(&self) -> bool {
        self.errors
    }

    /// Whether further findings would be left out.
    pub fn is_full(&self) -> bool {
        self.overflow.is_some()
    }

    /// The diagnostics: errors and warnings in the order of the text, then notes.
    pub fn finish(mut self, sources: &Sources) -> Vec<Diagnostic> {
        self.findings.truncate(MAX_DIAGNOSTICS);
        self.findings
            .sort_by_key(|f| (f.severity == Severity::Note, f.extent.file, f.extent.start));
        if let Some(at) = self.overflow {
            self.findings.push(Finding {
                severity: Severity::Error,
                code: Code::TooMany,
                message: format!("more than {MAX_DIAGNOSTICS} findings; the rest is left out"),
                help: Some("is this a keepalived configuration?".to_owned()),
                extent: at,
                related: Vec::new(),
            });
        }
        let place = |(extent, message)| Label { message, span: sources.span(extent) };
        let diagnostic = |f: Finding| Diagnostic {
            severity: f.severity,
            code: f.code,
            message: f.message,
            help: f.help,
            span: sources.span(f.extent),
            related: f.related.into_iter().map(place).collect(),
        };
        self.findings.into_iter().map(diagnostic).collect()
    }
}
