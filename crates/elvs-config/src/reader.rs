//! Files to tokens: comments, `include`, `@id` conditions and `$NAME` parameters are resolved here.
//!
//! **Invariant:** terminates on every input: files, depth, line length and expansions are bounded, and what a bound cuts
//! off is reported as an error.
//!
//! Called by [`crate::read`]; gives the token stream of a whole configuration to the tree builder.

mod builtin;
mod include;
mod sequence;

use core::ops::Range;

use crate::diagnostic::{Code, Reporter};
use crate::lexer::{Token, Word, tokenise};
use crate::mapped::Mapped;
use crate::parameters::{self, Parameters, Value};
use crate::source::{MAX_FILE_BYTES, Source};
use crate::sources::{Extent, FileId, Sources};

/// Longest line, in bytes, before and after parameters are replaced.
const MAX_LINE_BYTES: usize = 64 << 10;
/// Bytes read in all files together.
const MAX_TOTAL_BYTES: usize = 16 << 20;
/// Files read, counting a file each time it is included.
const MAX_FILES: usize = 1024;
/// Files that include one another, the first one counted.
const MAX_INCLUDE_DEPTH: usize = 16;
/// Parameters replaced in one line.
const MAX_REPLACEMENTS: usize = 256;
/// Multi-line parameters that use one another, and `~SEQ` and `~LST` on one line.
const MAX_EXPANSION_DEPTH: usize = 16;
/// Bytes copied where parameters, `~SEQ` and `~LST` are expanded: each expansion counts the line that it makes.
const MAX_EXPANDED_BYTES: usize = 128 << 20;
/// What an expansion costs beyond its bytes.
const EXPANSION_COST: usize = 64;
/// Words, braces and line ends of all files together, expansions included.
const MAX_TOKENS: usize = 4 << 20;

/// Reads a configuration into one stream of tokens.
pub(crate) struct Reader<'a> {
    source: &'a dyn Source,
    config_id: &'a str,
    /// Texts read.
    pub sources: Sources,
    /// Findings.
    pub reporter: Reporter,
    /// Tokens of all files, in the order in which they take effect.
    pub tokens: Vec<Token>,
    parameters: Parameters,
    /// Files being read, outermost first.
    open: Vec<FileId>,
    /// Multi-line definition whose next line is awaited; without a name where its `@id` is not this node's.
    defining: Option<(Option<String>, Vec<Mapped>)>,
    /// What the `include_check` read last makes an error of every include line.
    include_check: include::Checks,
    /// How often `_RANDOM` was used.
    random_numbers: u64,
    bytes: usize,
    files: usize,
    expanded: usize,
    /// A bound was hit, and reported: nothing more is read.
    pub exhausted: bool,
}

impl<'a> Reader<'a> {
    /// A reader that takes `@id` lines for `config_id`.
    pub fn new(source: &'a dyn Source, config_id: &'a str) -> Self {
        Self {
            source,
            config_id,
            sources: Sources::default(),
            reporter: Reporter::default(),
            tokens: Vec::new(),
            parameters: Parameters::default(),
            open: Vec::new(),
            defining: None,
            include_check: include::Checks::default(),
            random_numbers: 0,
            bytes: 0,
            files: 0,
            expanded: 0,
            exhausted: false,
        }
    }

    /// Reads the file that the operator named.
    pub fn read_entry(&mut self, path: &str) {
        match self.source.read(path) {
            Ok(bytes) => self.read_bytes(path, bytes, None),
            Err(e) => {
                // An empty text stands in, so that the finding has a place.
                if let Some(file) = self.sources.add(path, String::new()) {
                    let at = Extent { file, start: 0, end: 0 };
                    self.reporter
                        .error(Code::Unreadable, at, format!("cannot read the file: {e}"))
                        .help("check the path and its permissions");
                }
            }
        }
    }

    /// Reads a file's bytes; `from` is the include line that named it.
    fn read_bytes(&mut self, path: &str, bytes: Vec<u8>, from: Option<Extent>) {
        let size = bytes.len();
        if size > MAX_FILE_BYTES {
            let at = from.or_else(|| self.empty_text(path));
            let message = format!("{path} has more than {MAX_FILE_BYTES} bytes, the limit");
            return self.give_up(at, message, "split it with `include`");
        }
        if self.bytes.saturating_add(size) > MAX_TOTAL_BYTES {
            let message = format!("the files have more than {MAX_TOTAL_BYTES} bytes together");
            return self.give_up(from, message, "is a file included many times over?");
        }
        self.bytes += size;
        let known = self.sources.find(path);
        let Some(file) = known.or_else(|| self.add_text(path, bytes)) else { return };
        self.files += 1;
        self.open.push(file);
        self.read_lines(file);
        self.open.pop();
        self.end_definition();
    }

    /// Adds a text to the sources, as UTF-8 as it can be.
    fn add_text(&mut self, path: &str, bytes: Vec<u8>) -> Option<FileId> {
        match String::from_utf8(bytes) {
            Ok(text) => self.sources.add(path, text),
            Err(e) => {
                let bad = e.utf8_error().valid_up_to();
                let file =
                    self.sources.add(path, String::from_utf8_lossy(e.as_bytes()).into_owned())?;
                let at = Mapped::written("", file, bad).whole();
                self.reporter
                    .warning(Code::Encoding, at, "the file is not UTF-8 from here on")
                    .help("bytes that are no UTF-8 are read as U+FFFD; save the file as UTF-8");
                Some(file)
            }
        }
    }

    fn read_lines(&mut self, file: FileId) {
        let text = self.sources.text(file);
        let mut start = 0;
        for line in text.split('\n') {
            if self.exhausted {
                return;
            }
            let content = line.strip_suffix('\r').unwrap_or(line);
            let skip = if start == 0 && content.starts_with('\u{feff}') { 3 } else { 0 };
            self.read_line(content.get(skip..).unwrap_or(""), file, start + skip);
            start += line.len() + 1;
        }
    }

    /// Reads one line as it stands in a file.
    fn read_line(&mut self, line: &str, file: FileId, start: usize) {
        if line.is_empty() {
            // As in keepalived, an empty line ends a multi-line definition whatever the line before it ends with.
            return self.end_definition();
        }
        let whole = || Mapped::written(line.get(..1).unwrap_or(""), file, start).whole();
        if line.len() > MAX_LINE_BYTES {
            let message = format!("line has {} bytes, more than {MAX_LINE_BYTES}", line.len());
            self.reporter.error(Code::TooLarge, whole(), message).help("split the line");
            return;
        }
        if let Some(at) = line.find('\0') {
            let at = Mapped::written("\0", file, start + at).whole();
            self.reporter.error(Code::Encoding, at, "NUL byte in the line").help("remove it");
            return;
        }
        let (end, continued) = content_end(line);
        let content = line.get(..end).unwrap_or("").trim_end();
        let blanks = content.len() - content.trim_start().len();
        let content = content.trim_start();
        if content.is_empty() && !continued {
            return;
        }
        let mapped = Mapped::written(content, file, start + blanks);
        if self.defining.is_some() {
            self.continue_definition(mapped, continued);
        } else if continued && self.start_definition(&mapped) {
            // The lines that follow are its value.
        } else if continued {
            let at = Mapped::written("\\", file, start + end).whole();
            self.reporter
                .error(
                    Code::UnsupportedSyntax,
                    at,
                    "`\\` at the end of a line continues nothing here",
                )
                .help("only a `$NAME=value` definition can go on over several lines");
        } else if let Some((checks, pattern)) = include::Checks::of(content) {
            self.include(checks, pattern, &mapped);
        } else {
            self.statement(mapped, 0);
        }
    }

    /// Resolves conditions, definitions and parameters of a line, then takes it apart.
    fn statement(&mut self, mut line: Mapped, depth: usize) {
        let mut replacements = 0;
        let mut from = 0;
        while !self.exhausted {
            let blanks = line.text().len() - line.text().trim_start().len();
            let text = line.text().trim_start();
            if text.starts_with('@') {
                let Some(rest) = self.conditions(text) else { return };
                line = line.slice(line.text().len() - rest..line.text().len());
                from = 0;
                continue;
            }
            if let Some((name, value)) = parameters::definition(text) {
                return self.parameters.define(name, Value::Text(value.to_owned()));
            }
            if sequence::starts(text) {
                let line = line.slice(blanks..line.text().len());
                return self.repeat(&line, depth);
            }
            let Some((range, value)) = self.next_value(&line, from) else {
                return self.finish_line(&line);
            };
            replacements += 1;
            if replacements > MAX_REPLACEMENTS || !self.may_expand(&line, &value) {
                return self.endless(line.extent(range));
            }
            match value {
                Value::Text(value) => {
                    from = range.start;
                    line = line.replaced(range, &value);
                }
                Value::Lines(lines) => return self.expand(&line, range, &lines, depth),
            }
        }
    }

    /// Counts what replacing a use in `line` by `value` costs; false when it is too much.
    fn may_expand(&mut self, line: &Mapped, value: &Value) -> bool {
        let copied = line.text().len().saturating_add(value.cost(EXPANSION_COST));
        self.expanded = self.expanded.saturating_add(copied).saturating_add(EXPANSION_COST);
        line.text().len() <= MAX_LINE_BYTES && self.expanded <= MAX_EXPANDED_BYTES
    }

    /// Length of what follows all the conditions that `text` starts with, if the line counts on this node.
    fn conditions(&self, mut text: &str) -> Option<usize> {
        while let Some(condition) = text.strip_prefix('@') {
            let rest = self.condition(condition)?;
            text = text.get(text.len() - rest..)?;
        }
        Some(text.len())
    }

    /// Length of what follows `@id` or `@^id`, if the line counts on this node.
    fn condition(&self, condition: &str) -> Option<usize> {
        let (negated, condition) = match condition.strip_prefix('^') {
            Some(rest) => (true, rest),
            None => (false, condition),
        };
        let (id, rest) = condition.split_once([' ', '\t'])?;
        ((id == self.config_id) != negated).then(|| rest.trim_start().len())
    }

    /// The next use of something defined at or after `from`, and its value.
    fn next_value(&mut self, line: &Mapped, mut from: usize) -> Option<(Range<usize>, Value)> {
        loop {
            let found = parameters::reference(line.text(), from)?;
            let at = line.extent(found.range.clone());
            let value = match self.parameters.value(found.name) {
                // As in keepalived, a multi-line value takes effect only where the line ends with its name.
                Some(Value::Lines(_)) if found.range.end < line.text().trim_end().len() => None,
                Some(value) if found.arguments.is_empty() => Some(value.clone()),
                Some(_) => None,
                None => self.builtin(found.name, found.arguments, at).map(Value::Text),
            };
            match value {
                Some(value) => return Some((found.range, value)),
                None => from = found.range.end,
            }
        }
    }

    /// Reads the lines of a multi-line parameter in the place of its name.
    fn expand(&mut self, line: &Mapped, range: Range<usize>, lines: &[Mapped], depth: usize) {
        if depth >= MAX_EXPANSION_DEPTH {
            return self.endless(line.extent(range));
        }
        let before = line.slice(0..range.start);
        let Some((first, rest)) = lines.split_first() else {
            return self.statement(before, depth + 1);
        };
        self.statement(before.joined(first), depth + 1);
        for line in rest {
            self.statement(line.clone(), depth + 1);
        }
    }

    /// Takes a line with nothing left to replace apart.
    fn finish_line(&mut self, line: &Mapped) {
        let text = line.text().trim();
        if include::Checks::of(text).is_some() {
            self.reporter
                .error(
                    Code::UnsupportedSyntax,
                    line.whole(),
                    "`include` cannot be conditional or come from a parameter",
                )
                .help("write `include` at the start of a line of its own");
            return;
        }
        let before = self.tokens.len();
        tokenise(line, &mut self.reporter, &mut self.tokens);
        if self.tokens.len() > MAX_TOKENS {
            let message = format!("the configuration has more than {MAX_TOKENS} words");
            return self.give_up(Some(line.whole()), message, "does an expansion repeat too much?");
        }
        if text.starts_with("include_check") {
            let added = self.tokens.get(before..).unwrap_or_default();
            let words: Vec<Word> = added
                .iter()
                .filter_map(|t| if let Token::Word(word) = t { Some(word.clone()) } else { None })
                .collect();
            if let Some((keyword, options)) = words.split_first()
                && keyword.text == "include_check"
            {
                self.set_include_check(options);
            }
        }
    }

    /// Starts the multi-line definition that `line` may be; false if it is none.
    fn start_definition(&mut self, line: &Mapped) -> bool {
        // What stands behind an `@id`, of this node or not, has to be known to be a definition before it is judged.
        let mut text = line.text();
        let mut here = true;
        while let Some(condition) = text.strip_prefix('@') {
            let rest = condition.split_once([' ', '\t']).map_or("", |(_, rest)| rest).trim_start();
            here &= self.condition(condition).is_some();
            text = rest;
        }
        let Some((name, value)) = parameters::definition(text) else { return false };
        let value = line.slice(line.text().len() - value.len()..line.text().len());
        let lines = if value.text().is_empty() { Vec::new() } else { vec![value] };
        self.defining = Some((here.then(|| name.to_owned()), lines));
        true
    }

    fn continue_definition(&mut self, line: Mapped, continued: bool) {
        if let Some((_, lines)) = &mut self.defining
            && !line.text().is_empty()
        {
            lines.push(line);
        }
        if !continued {
            self.end_definition();
        }
    }

    fn end_definition(&mut self) {
        if let Some((Some(name), lines)) = self.defining.take() {
            self.parameters.define(&name, Value::Lines(lines));
        }
    }

    fn endless(&mut self, at: Extent) {
        let message = "parameters expand to more than the limit";
        self.give_up(Some(at), message.to_owned(), "does a parameter use itself?");
    }

    fn give_up(&mut self, at: Option<Extent>, message: String, help: &str) {
        self.exhausted = true;
        if let Some(at) = at {
            self.reporter.error(Code::TooLarge, at, message).help(help);
        }
    }

    /// A place in a file whose text is not kept.
    fn empty_text(&mut self, path: &str) -> Option<Extent> {
        let file = self.sources.add(path, String::new())?;
        Some(Extent { file, start: 0, end: 0 })
    }
}

/// Byte at which a line's comment, its trailing `\` or the line itself ends, and whether it was a `\`.
fn content_end(line: &str) -> (usize, bool) {
    let mut quoted = false;
    let mut bytes = line.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => quoted = !quoted,
            b'\\' if bytes.next().is_none() => return (at, true),
            b'#' | b'!' if !quoted => return (at, false),
            _ => {}
        }
    }
    (line.len(), false)
}

#[cfg(test)]
mod tests;
