//! Diagnostics as text for a terminal or a log.
//!
//! **Invariant:** without colour each diagnostic starts a line with `FILE:LINE:COLUMN: severity: message`, so that
//! editors can jump to it.
//!
//! Called by `elvs check`, and by `elvs run` for the log.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use anstyle::{AnsiColor, Style};

use crate::diagnostic::{Diagnostic, Severity};
use crate::sources::{Sources, Span};
use crate::text::printable;

/// Longest line that is shown; longer ones say where they are and no more.
const MAX_EXCERPT_BYTES: usize = 1000;

/// Diagnostics with the lines they speak of; `colour` adds ANSI colours.
pub fn render(diagnostics: &[Diagnostic], sources: &Sources, colour: bool) -> String {
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let mut out = String::new();
    for diagnostic in diagnostics {
        out.push_str(&head(diagnostic, colour));
        out.push('\n');
        let body = body(diagnostic, sources, &renderer);
        for line in body.lines() {
            out.push_str(line.trim_end());
            out.push('\n');
        }
    }
    out
}

/// The first line: all that a log or an editor needs.
fn head(diagnostic: &Diagnostic, colour: bool) -> String {
    if !colour {
        return diagnostic.to_string();
    }
    let Span { file, line, column, .. } = &diagnostic.span;
    let file = printable(file);
    let bold = Style::new().bold();
    let severity = match diagnostic.severity {
        Severity::Error => AnsiColor::BrightRed,
        Severity::Warning => AnsiColor::BrightYellow,
        Severity::Note => AnsiColor::BrightCyan,
    };
    let severity_style = severity.on_default().bold();
    let (name, message) = (diagnostic.severity.name(), &diagnostic.message);
    format!(
        "{bold}{file}:{line}:{column}:{bold:#} {severity_style}{name}:{severity_style:#} {bold}{message}{bold:#}"
    )
}

/// Excerpts and help.
fn body(diagnostic: &Diagnostic, sources: &Sources, renderer: &Renderer) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Note => Level::NOTE,
    };
    let mut group = Group::with_level(level);
    // Notes are many and each says all in its first line.
    let shown = diagnostic.severity != Severity::Note;
    if let Some((text, range)) = excerpt(&diagnostic.span, sources).filter(|_| shown) {
        let line = usize::try_from(diagnostic.span.line).unwrap_or(1);
        let mark = AnnotationKind::Primary.span(range);
        group = group.element(Snippet::source(text).line_start(line).annotation(mark));
    }
    for label in &diagnostic.related {
        if let Some((text, range)) = excerpt(&label.span, sources) {
            let line = usize::try_from(label.span.line).unwrap_or(1);
            let mark = AnnotationKind::Context.span(range).label(label.message.as_str());
            group = group.element(
                Snippet::source(text)
                    .line_start(line)
                    .path(printable(&label.span.file))
                    .annotation(mark),
            );
        }
    }
    if let Some(help) = &diagnostic.help {
        if group.is_empty() {
            return format!("  = help: {help}");
        }
        group = group.element(Level::HELP.message(help.as_str()));
    }
    if group.is_empty() { String::new() } else { renderer.render(&[group]) }
}

/// The line of a span, and the bytes of it that the span covers.
fn excerpt<'a>(span: &Span, sources: &'a Sources) -> Option<(&'a str, core::ops::Range<usize>)> {
    let line = sources.line(&span.file, span.line)?;
    if line.is_empty() || line.len() > MAX_EXCERPT_BYTES {
        return None;
    }
    let byte = |column: u32| {
        let nth = usize::try_from(column).ok()?;
        line.char_indices().nth(nth).map(|(at, _)| at)
    };
    let first = span.column.checked_sub(1)?;
    let start = byte(first).unwrap_or(line.len());
    let end = byte(first.saturating_add(span.length)).unwrap_or(line.len());
    Some((line, start..end))
}

#[cfg(test)]
mod tests;
