//! A line of text whose every byte remembers where it was written.
//!
//! **Invariant:** the pieces cover the text from its first byte, in order, without a gap.
//!
//! Made by the reader of lines, changed when parameters are replaced, taken apart by the lexer.

use core::ops::Range;

use crate::sources::{Extent, FileId};

/// Text with its origin.
#[derive(Clone, Debug)]
pub(crate) struct Mapped {
    text: String,
    pieces: Vec<Piece>,
    /// Where the line stands; the origin of an empty text.
    home: Extent,
}

/// A stretch of text with one origin.
#[derive(Clone, Copy, Debug)]
struct Piece {
    /// First byte in the text.
    at: usize,
    /// Where it was written.
    origin: Extent,
    /// Byte for byte as written; else it stands for the whole of `origin`.
    verbatim: bool,
}

impl Mapped {
    /// Text that stands in `file` at byte `start`.
    pub fn written(text: &str, file: FileId, start: usize) -> Self {
        let start = offset(start);
        let origin = Extent { file, start, end: start.saturating_add(offset(text.len())) };
        Self {
            text: text.to_owned(),
            pieces: vec![Piece { at: 0, origin, verbatim: true }],
            home: origin,
        }
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where the bytes `range` were written.
    pub fn extent(&self, range: Range<usize>) -> Extent {
        let first = self.place(range.start);
        let last = self.place(range.end.saturating_sub(1).max(range.start));
        Extent { end: last.end.max(first.start), ..first.to(last) }
    }

    /// Where the whole of it was written.
    pub fn whole(&self) -> Extent {
        self.extent(0..self.text.len())
    }

    /// The bytes `range` alone.
    pub fn slice(&self, range: Range<usize>) -> Self {
        let text = self.text.get(range.clone()).unwrap_or("").to_owned();
        Self { text, pieces: self.pieces_of(range), home: self.home }
    }

    /// The text with `range` replaced by `value`, which then stands for what was written at `range`.
    pub fn replaced(&self, range: Range<usize>, value: &str) -> Self {
        let origin = self.extent(range.clone());
        let pieces = vec![Piece { at: 0, origin, verbatim: false }];
        let value = Self { text: value.to_owned(), pieces, home: self.home };
        self.slice(0..range.start).joined(&value).joined(&self.slice(range.end..self.text.len()))
    }

    /// `self` followed by `next`.
    pub fn joined(mut self, next: &Self) -> Self {
        let at = self.text.len();
        if at == 0 && !next.text.is_empty() {
            return next.clone();
        }
        if !next.text.is_empty() {
            self.pieces.extend(next.pieces.iter().map(|p| Piece { at: p.at + at, ..*p }));
            self.text.push_str(&next.text);
        }
        self
    }

    /// Pieces of `range`, counted from its start.
    fn pieces_of(&self, range: Range<usize>) -> Vec<Piece> {
        let first = self.pieces.partition_point(|p| p.at <= range.start).saturating_sub(1);
        let inside = self.pieces.iter().skip(first).take_while(|p| p.at < range.end.max(1));
        inside
            .map(|p| {
                let cut = range.start.saturating_sub(p.at);
                let mut origin = p.origin;
                if p.verbatim {
                    origin.start = origin.start.saturating_add(offset(cut)).min(origin.end);
                }
                Piece { at: p.at.saturating_sub(range.start), origin, verbatim: p.verbatim }
            })
            .collect()
    }

    /// Where the byte `at` was written.
    fn place(&self, at: usize) -> Extent {
        let index = self.pieces.partition_point(|p| p.at <= at).saturating_sub(1);
        let Some(piece) = self.pieces.get(index) else {
            return self.home;
        };
        if !piece.verbatim {
            return piece.origin;
        }
        let start = piece.origin.start.saturating_add(offset(at - piece.at)).min(piece.origin.end);
        Extent { start, end: start.saturating_add(1).min(piece.origin.end), ..piece.origin }
    }
}

/// Offsets are within a file, and a file is at most 8 MiB long.
fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
