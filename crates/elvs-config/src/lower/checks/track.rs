//! `BFD_CHECK` and `FILE_CHECK`, which keepalived is told of rather than runs.
//!
//! **Invariant:** what a check names is defined in the configuration.
//!
//! Called by the lowering of checks.

use std::time::Duration;

use elvs_model::health::{BfdCheck, CheckKind, FileCheck, Schedule};

use crate::diagnostic::{Code, Reporter};
use crate::lexer::Word;
use crate::lower::shared::Shared;
use crate::lower::track::weight;
use crate::lower::{Once, value};
use crate::text::{nearest, quote};
use crate::tree::Item;

/// How often files and sessions are looked at: keepalived has no times for them, as it is told of every change.
const LOOK: Duration = Duration::from_secs(1);
/// Greatest weight of `FILE_CHECK`, above and below zero.
const MAX_WEIGHT: i32 = 2_147_483_647;

/// Schedule of checks that watch something.
pub(super) const fn schedule(alpha: bool) -> Schedule {
    Schedule {
        delay_loop: LOOK,
        retry: 0,
        delay_before_retry: LOOK,
        warmup: Some(Duration::ZERO),
        alpha,
        log_all_failures: false,
    }
}

pub(super) fn bfd(item: &Item, shared: &Shared<'_>, reporter: &mut Reporter) -> Option<CheckKind> {
    let word = named(item, "name", reporter)?;
    if !shared.session_names.contains(&word.text) {
        let known = shared.session_names.iter().map(String::as_str);
        unknown("bfd_instance", word, known, reporter);
        return None;
    }
    Some(CheckKind::Bfd(BfdCheck { instance: word.text.clone() }))
}

pub(super) fn file(item: &Item, shared: &Shared<'_>, reporter: &mut Reporter) -> Option<CheckKind> {
    let mut own = Once::default();
    for line in item.items().iter().filter(|line| line.keyword.text == "weight") {
        if let Some(given) = weight(line, MAX_WEIGHT, reporter) {
            own.set(line, given, reporter);
        }
    }
    for line in item.items().iter().filter(|line| line.keyword.text == "dynamic") {
        value::switch(line, reporter);
    }
    let word = named(item, "track_file", reporter)?;
    let Some(file) = shared.files.get(&word.text) else {
        unknown("track_file", word, shared.files.names(), reporter);
        return None;
    };
    let (weight, reverse) = own.get().copied().unwrap_or(file.weight);
    Some(CheckKind::File(FileCheck { file: file.file.clone(), weight, reverse }))
}

/// The word of the statement that names what is watched; the last one counts.
fn named<'a>(item: &'a Item, keyword: &str, reporter: &mut Reporter) -> Option<&'a Word> {
    let mut name = Once::default();
    for line in item.items().iter().filter(|line| line.keyword.text == keyword) {
        if let Some(word) = line.arguments.first() {
            name.set(line, word, reporter);
        }
    }
    let word = name.get().copied();
    if word.is_none() {
        let message = format!("{} names nothing to watch", item.keyword.text);
        reporter
            .error(Code::MissingArgument, item.head(), message)
            .help(format!("write `{keyword} NAME` in it"));
    }
    word
}

fn unknown<'a>(
    what: &str,
    word: &Word,
    known: impl Iterator<Item = &'a str>,
    reporter: &mut Reporter,
) {
    let message = format!("there is no {what} {}", quote(&word.text));
    let help = match nearest(&word.text, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("write a `{what} NAME {{ ... }}` block outside of every block"),
    };
    reporter.error(Code::UnknownName, word.extent, message).help(help);
}
