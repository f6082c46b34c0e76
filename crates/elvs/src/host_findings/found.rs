//! The findings, and how they are said.
//!
//! **Invariant:** lines are in the order of [`Kind`], and within it in the order in which they were found.
//!
//! Part of [`super`].

use std::collections::BTreeMap;

use indexmap::IndexMap;

use super::Place;

/// Lines of one kind; more are counted.
const MOST: usize = 10;

/// What kind of thing the host lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// No way to a real server. The daemon says this by itself, whenever it changes.
    Unreachable,
    /// Direct routing through a router.
    BehindGateway,
    /// An address that the host should have.
    Address,
    /// An interface.
    Interface,
    /// A program, or a user.
    Program,
    /// An expression or a file of TLS.
    Check,
    /// A FIFO.
    Fifo,
}

impl Kind {
    /// Many of the kind, with a verb.
    const fn words(self) -> &'static str {
        match self {
            Self::Unreachable => "real servers cannot be reached",
            Self::BehindGateway => "real servers by DR are behind a gateway",
            Self::Address => "addresses are not on this host",
            Self::Interface => "interfaces do not exist",
            Self::Program => "programs or users cannot be used",
            Self::Check => "checks cannot pass",
            Self::Fifo => "FIFOs cannot be used",
        }
    }
}

/// Where something was found.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Places {
    first: String,
    others: usize,
}

/// What a host lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings(BTreeMap<Kind, IndexMap<String, Places>>);

impl Findings {
    /// Adds a finding, or one more place of it.
    pub(super) fn add(&mut self, kind: Kind, text: String, place: &Place<'_>) {
        let of_kind = self.0.entry(kind).or_default();
        match of_kind.get_mut(&text) {
            Some(places) => places.others += 1,
            None => {
                of_kind.insert(text, Places { first: place.to_string(), others: 0 });
            }
        }
    }

    /// Leaves out what is of a kind.
    pub(crate) fn without(mut self, kind: Kind) -> Self {
        self.0.remove(&kind);
        self
    }

    /// A sentence for each.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (kind, of_kind) in &self.0 {
            lines.extend(of_kind.iter().take(MOST).map(|(text, places)| match places.others {
                0 => format!("{text} ({})", places.first),
                1 => format!("{text} ({}, and 1 more place)", places.first),
                n => format!("{text} ({}, and {n} more places)", places.first),
            }));
            if of_kind.len() > MOST {
                lines.push(format!("{} more {}", of_kind.len() - MOST, kind.words()));
            }
        }
        lines
    }
}
