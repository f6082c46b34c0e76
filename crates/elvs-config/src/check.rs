//! Judges the tree by the keyword table: unknown words, argument counts, blocks, and what is not yet in effect.
//!
//! **Invariant:** every statement of a file is either known to the table or reported; nothing is passed over in silence.
//!
//! Called by [`crate::read`] before the tree is lowered; the lowering relies on it for missing and extra arguments.

use std::collections::{BTreeSet, HashMap};

use crate::capabilities::Capabilities;
use crate::diagnostic::{Code, Reporter};
use crate::keywords::{self, Body, Context, Keyword, Support};
use crate::sources::Extent;
use crate::text::{all_of, count, nearest, one_of, quote};
use crate::tree::Item;

/// Judges the statements of a whole configuration.
pub(crate) fn check(items: &[Item], capabilities: &Capabilities, reporter: &mut Reporter) {
    let ledger = Ledger::default();
    let mut checker = Checker { capabilities, reporter, ledger, hints: HashMap::new() };
    checker.items(items, Context::Root, None);
    let Checker { reporter, ledger, .. } = checker;
    ledger.report(reporter);
}

struct Checker<'a> {
    capabilities: &'a Capabilities,
    reporter: &'a mut Reporter,
    ledger: Ledger,
    /// Hints given already: finding one takes long, and a sequence may repeat a word a million times.
    hints: HashMap<(String, Context), Option<String>>,
}

impl Checker<'_> {
    /// Statements in one block; `outer`: the keyword not in effect whose block they are in.
    fn items(&mut self, items: &[Item], context: Context, outer: Option<&'static str>) {
        for item in items {
            if self.reporter.is_full() {
                return;
            }
            match keywords::lookup(&item.keyword.text, context) {
                Some(row) => self.item(item, row, outer),
                None => self.unknown(item, context),
            }
        }
    }

    fn item(&mut self, item: &Item, row: &'static Keyword, outer: Option<&'static str>) {
        self.arguments(item, row);
        self.block(item, row);
        let in_effect = match row.support {
            Support::Applied => true,
            Support::Needs(feature) => self.capabilities.features.contains(&feature),
            Support::NotYet | Support::NoEffect => false,
        };
        match outer {
            Some(outer) => self.ledger.inside(outer, row.name),
            None if !in_effect => self.ledger.enter(row, item.keyword.extent),
            None => {}
        }
        if let Body::Block(context) = row.body {
            let outer = if in_effect { outer } else { outer.or(Some(row.name)) };
            self.items(item.items(), context, outer);
        }
    }

    fn arguments(&mut self, item: &Item, row: &Keyword) {
        let given = item.arguments.len();
        let name = row.name;
        let usage = || format!("write `{}`", format!("{name} {}", row.arguments.usage).trim_end());
        if given < row.arguments.min {
            let message = match given {
                0 => format!("`{name}` has no argument"),
                n => format!("`{name}` has only {}", count(n, "argument")),
            };
            self.reporter.error(Code::MissingArgument, item.head(), message).help(usage());
        }
        let Some(extra) = row.arguments.max.and_then(|max| item.arguments.get(max)) else { return };
        let message = format!("{} is one argument too many for `{name}`", quote(&extra.text));
        let at = item.arguments.last().map_or(extra.extent, |last| extra.extent.to(last.extent));
        match row.support {
            Support::Applied | Support::Needs(_) => {
                self.reporter.error(Code::ExtraArgument, at, message).help(usage());
            }
            // keepalived ignores further words; where nothing is in effect that harms nobody.
            Support::NotYet | Support::NoEffect => {
                self.reporter.warning(Code::ExtraArgument, at, message).help(usage());
            }
        }
    }

    fn block(&mut self, item: &Item, row: &Keyword) {
        let name = row.name;
        match (row.body, &item.block) {
            (Body::None, Some(block)) => {
                self.reporter
                    .error(Code::UnexpectedBlock, block.open, format!("`{name}` has no block"))
                    .help("remove the braces and what is between them");
            }
            (Body::Block(_) | Body::Lines, None) => {
                let message = format!("`{name}` needs a block");
                let usage = format!("{name} {}", row.arguments.usage);
                self.reporter
                    .error(Code::MissingBlock, item.head(), message)
                    .help(format!("write `{} {{ ... }}`", usage.trim_end()));
            }
            (Body::None, None) | (Body::Block(_) | Body::Lines, Some(_)) => {}
        }
    }

    fn unknown(&mut self, item: &Item, context: Context) {
        let word = item.keyword.text.as_str();
        let at = item.keyword.extent;
        let elsewhere = keywords::named(word);
        if elsewhere.is_empty() {
            let message = format!("unknown keyword {} {}", quote(word), context.phrase());
            let key = (word.to_owned(), context);
            let hint = self.hints.entry(key).or_insert_with(|| hint(word, context)).clone();
            self.reporter.error(Code::UnknownKeyword, at, message).help_if(hint);
            return;
        }
        let contexts: BTreeSet<Context> =
            elsewhere.iter().flat_map(|row| row.contexts).copied().collect();
        let message = format!("`{word}` does not belong {}", place(context));
        let help = if contexts.len() == 1 && contexts.contains(&Context::Root) {
            format!("`{word}` stands outside every block; is a `}}` missing above it?")
        } else {
            let blocks: Vec<_> =
                contexts.iter().filter(|c| **c != Context::Root).map(|c| c.name()).collect();
            let outside =
                if contexts.contains(&Context::Root) { "outside every block or " } else { "" };
            format!("it belongs {outside}in a {} block", one_of(&blocks))
        };
        self.reporter.error(Code::MisplacedKeyword, at, message).help(help);
    }
}

fn place(context: Context) -> String {
    if context == Context::Root { "here, outside every block".to_owned() } else { context.phrase() }
}

/// What an unknown word may have been meant to be.
fn hint(word: &str, context: Context) -> Option<String> {
    if word.parse::<std::net::IpAddr>().is_ok() {
        return Some(
            "an address starts no statement; is the keyword before it missing?".to_owned(),
        );
    }
    if let Some(near) = nearest(word, keywords::words(context)) {
        return Some(format!("did you mean `{near}`?"));
    }
    let near = nearest(word, keywords::KEYWORDS.iter().map(|row| row.name))?;
    let context = keywords::named(near).first()?.contexts.first()?;
    Some(format!("did you mean `{near}`? It belongs {}", context.phrase()))
}

/// Keywords that are known and not in effect, each counted.
#[derive(Default)]
struct Ledger {
    entries: HashMap<&'static str, Entry>,
}

struct Entry {
    row: &'static Keyword,
    places: usize,
    first: Extent,
    /// Keywords used in its blocks.
    inside: BTreeSet<&'static str>,
}

impl Ledger {
    fn enter(&mut self, row: &'static Keyword, at: Extent) {
        let new = Entry { row, places: 0, first: at, inside: BTreeSet::new() };
        self.entries.entry(row.name).or_insert(new).places += 1;
    }

    fn inside(&mut self, outer: &'static str, name: &'static str) {
        if let Some(entry) = self.entries.get_mut(outer) {
            entry.inside.insert(name);
        }
    }

    /// One note for each keyword, at its first place.
    fn report(self, reporter: &mut Reporter) {
        let mut entries: Vec<_> = self.entries.into_values().collect();
        entries.sort_by_key(|e| e.first);
        for entry in entries {
            let name = entry.row.name;
            let places = match entry.places {
                1 => String::new(),
                n => format!(" ({n} places, the first one here)"),
            };
            let inside: Vec<_> = entry.inside.into_iter().collect();
            let inside = match inside.as_slice() {
                [] => String::new(),
                words => format!("; nor is what it holds: {}", all_of(words)),
            };
            let (code, message) = match entry.row.support {
                Support::NoEffect => {
                    (Code::NoEffect, format!("`{name}` has no meaning for ELVS{places}"))
                }
                Support::Applied | Support::Needs(_) | Support::NotYet => {
                    (Code::NotInEffect, format!("`{name}` is not yet in effect{places}{inside}"))
                }
            };
            let help = (!entry.row.note.is_empty()).then(|| entry.row.note.to_owned());
            reporter.note(code, entry.first, message).help_if(help);
        }
    }
}

#[cfg(test)]
mod tests;
