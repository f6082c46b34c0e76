//! The texts that were read, and places in them.
//!
//! **Invariant:** an [`Extent`] is only made from text that [`Sources`] holds, so every diagnostic can show its line.
//!
//! Called by the reader of lines, which adds texts, and by the diagnostics, which turn extents into [`Span`]s.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Index of a text in [`Sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FileId(u32);

/// A stretch of one text: byte offsets, end exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Extent {
    /// The text.
    pub file: FileId,
    /// First byte.
    pub start: u32,
    /// Byte after the last.
    pub end: u32,
}

impl Extent {
    /// From the start of `self` to the end of `last`, if both are in one text; else `self`.
    pub fn to(self, last: Self) -> Self {
        if self.file == last.file && last.end >= self.start {
            Self { end: last.end, ..self }
        } else {
            self
        }
    }
}

/// A place in a configuration file, as people and editors count.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Span {
    /// Name of the file, as typed or as the `include` found it.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Characters marked, all on that line; at least 1.
    pub length: u32,
}

/// Every text that was read, by file name: what [`crate::render`] shows excerpts from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: Vec<SourceText>,
}

#[derive(Clone, Debug)]
struct SourceText {
    name: String,
    text: Arc<str>,
    /// Offset of the first byte of each line; never empty.
    lines: Vec<u32>,
}

impl Sources {
    /// Names of the files read, in the order in which they were first opened.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|f| f.name.as_str())
    }

    /// Line `line` (from 1) of the file, without its line end.
    pub fn line(&self, file: &str, line: u32) -> Option<&str> {
        let source = self.files.iter().find(|f| f.name == file)?;
        source.line(usize::try_from(line).ok()?.checked_sub(1)?)
    }

    /// The text already read under `name`.
    pub(crate) fn find(&self, name: &str) -> Option<FileId> {
        let index = self.files.iter().position(|f| f.name == name)?;
        u32::try_from(index).ok().map(FileId)
    }

    /// Adds a text; `None` when it is too long to be addressed by 32 bits.
    pub(crate) fn add(&mut self, name: &str, text: String) -> Option<FileId> {
        let id = FileId(u32::try_from(self.files.len()).ok()?);
        u32::try_from(text.len()).ok()?;
        let starts = text.bytes().zip(1u32..).filter(|(b, _)| *b == b'\n').map(|(_, next)| next);
        let lines = core::iter::once(0).chain(starts).collect();
        self.files.push(SourceText { name: name.to_owned(), text: text.into(), lines });
        Some(id)
    }

    /// The whole text.
    pub(crate) fn text(&self, file: FileId) -> Arc<str> {
        self.get(file).map_or_else(|| Arc::from(""), |f| Arc::clone(&f.text))
    }

    /// Name under which the text was read.
    pub(crate) fn name(&self, file: FileId) -> &str {
        self.get(file).map_or("", |f| f.name.as_str())
    }

    /// Where an extent is, cut to the line it starts on.
    pub(crate) fn span(&self, extent: Extent) -> Span {
        let Some(source) = self.get(extent.file) else {
            return Span { file: String::new(), line: 1, column: 1, length: 1 };
        };
        let line = source.lines.partition_point(|start| *start <= extent.start).saturating_sub(1);
        let start = source.lines.get(line).copied().unwrap_or(0);
        let text = source.line(line).unwrap_or("");
        let count = |until: u32| {
            let until = until.saturating_sub(start);
            text.char_indices()
                .take_while(move |(at, _)| u32::try_from(*at).is_ok_and(|a| a < until))
        };
        let before = count(extent.start).count();
        let through = count(extent.end).count();
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Span {
            file: source.name.clone(),
            line: number(line).saturating_add(1),
            column: number(before).saturating_add(1),
            length: number(through.saturating_sub(before)).max(1),
        }
    }

    fn get(&self, file: FileId) -> Option<&SourceText> {
        self.files.get(usize::try_from(file.0).ok()?)
    }
}

impl SourceText {
    /// Line by index from 0, without its line end.
    fn line(&self, index: usize) -> Option<&str> {
        let start = usize::try_from(*self.lines.get(index)?).ok()?;
        let rest = self.text.get(start..)?;
        let line = rest.split('\n').next().unwrap_or("");
        Some(line.strip_suffix('\r').unwrap_or(line))
    }
}

#[cfg(test)]
mod tests;
