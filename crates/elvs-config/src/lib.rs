//! Reads `keepalived.conf`: text to tokens, to a tree, to [`elvs_model::Desired`], with every mistake placed and explained.
//!
//! **Invariant:** total and without I/O: any bytes give an [`Outcome`] in bounded time and memory, files come through a
//! [`Source`], and a configuration with an error is never half applied: it has no [`Outcome::desired`].
//!
//! Called by `elvs run` at start and on reload, by `elvs check`, and by `elvs demo` for the file that it writes.
//!
//! ```
//! use elvs_config::{MapSource, Options, read, render};
//!
//! let text = "virtual_server 192.0.2.1 80 {\n  lvs_sched wwrr\n  lvs_method DR\n  protocol TCP\n}\n";
//! let outcome = read(&MapSource::single("web.conf", text), "web.conf", &Options::default());
//! assert!(outcome.desired.is_none());
//! let shown = render(&outcome.diagnostics, &outcome.sources, false);
//! assert!(shown.starts_with("web.conf:1:1: warning: virtual server TCP 192.0.2.1:80 has no real servers"));
//! assert!(shown.contains("web.conf:2:13: error: unknown scheduler `wwrr`"));
//! assert!(shown.contains("help: did you mean `wrr`?"));
//! ```

mod capabilities;
mod check;
mod compatibility;
mod diagnostic;
mod explain;
mod keywords;
mod lexer;
mod lower;
mod mapped;
mod parameters;
mod reader;
mod render;
mod source;
mod sources;
mod text;
mod tree;

use elvs_model::Desired;

pub use capabilities::Capabilities;
pub use compatibility::compatibility_page;
pub use diagnostic::{Code, Diagnostic, Label, MAX_DIAGNOSTICS, Severity};
pub use explain::explain;
pub use keywords::{Arguments, Body, Context, Feature, KEYWORDS, Keyword, Support};
pub use render::render;
pub use source::{MAX_FILE_BYTES, MapSource, Source, SourceError};
pub use sources::{Sources, Span};

/// How a configuration is read.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What `@id` lines are compared with and `${_INSTANCE}` gives; keepalived takes the first label of the node name.
    pub config_id: String,
    /// What can be put into effect.
    pub capabilities: Capabilities,
}

/// What reading a configuration gave.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What the configuration asks for; `None` when a diagnostic is an error.
    pub desired: Option<Desired>,
    /// Findings: errors and warnings in the order of the text, then notes.
    pub diagnostics: Vec<Diagnostic>,
    /// The texts read, for [`render`].
    pub sources: Sources,
}

/// Reads the configuration in the file `entry`, a path as the operator typed it.
pub fn read(source: &dyn Source, entry: &str, options: &Options) -> Outcome {
    let mut reader = reader::Reader::new(source, &options.config_id);
    reader.read_entry(entry);
    let reader::Reader { sources, mut reporter, tokens, exhausted, .. } = reader;
    if exhausted {
        // Half a configuration would be told of mistakes that the whole does not have.
        return Outcome { desired: None, diagnostics: reporter.finish(&sources), sources };
    }
    let items = tree::build(tokens, &mut reporter);
    check::check(&items, &options.capabilities, &mut reporter);
    let desired = lower::lower(&items, &options.capabilities, &mut reporter);
    let desired = (!reporter.has_errors()).then_some(desired);
    Outcome { desired, diagnostics: reporter.finish(&sources), sources }
}
