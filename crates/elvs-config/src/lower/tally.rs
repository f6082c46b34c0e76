//! What is said once for a whole file, however often it occurs.
//!
//! **Invariant:** a file with ten thousand checks gets no more findings of one kind than one.
//!
//! Called by the lowering of virtual servers.

use crate::diagnostic::{Code, Reporter};
use crate::sources::Extent;

/// Places counted, with what is said of the first.
#[derive(Default)]
pub(super) struct Tally {
    first: Option<(Extent, String)>,
    places: usize,
}

impl Tally {
    /// Counts a place, if there is one.
    pub fn count(&mut self, at: Option<Extent>) {
        if let Some(at) = at {
            self.count_with(at, String::new);
        }
    }

    /// Counts a place; `words` are asked for of the first one.
    pub fn count_with(&mut self, at: Extent, words: impl FnOnce() -> String) {
        self.places += 1;
        if self.first.is_none() {
            self.first = Some((at, words()));
        }
    }

    /// The first place.
    pub fn first(&self) -> Option<Extent> {
        self.first.as_ref().map(|(at, _)| *at)
    }

    /// The words of the first place, with how many of these `things` there are.
    fn message(&self, things: &str) -> Option<(Extent, String)> {
        let (at, words) = self.first.as_ref()?;
        let more = match self.places {
            1 => String::new(),
            n => format!(" ({n} {things}, the first one here)"),
        };
        Some((*at, format!("{words}{more}")))
    }

    /// Says it as a note.
    pub fn note(&self, reporter: &mut Reporter, things: &str, help: &str) {
        if let Some((at, message)) = self.message(things) {
            reporter.note(Code::Doubtful, at, message).help(help);
        }
    }

    /// Says it as a warning.
    pub fn warn(&self, reporter: &mut Reporter, things: &str, help: &str) {
        if let Some((at, message)) = self.message(things) {
            reporter.warning(Code::Doubtful, at, message).help(help);
        }
    }
}
