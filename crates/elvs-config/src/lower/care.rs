//! How a real server is cared for beyond its checks: `slow_start`, `flap_damping`, `passive`, which keepalived does not have.
//!
//! **Invariant:** `off` in a real server undoes what its virtual server says.
//!
//! Called for virtual servers and real servers.

use std::time::Duration;

use elvs_model::health::{Damping, Passive};

use super::Once;
use super::value::{self, MIN_TIME};
use crate::diagnostic::{Code, Reporter};
use crate::lexer::Word;
use crate::tree::Item;

/// `passive` without options.
const PASSIVE: Passive = Passive {
    least: 20,
    percent: 50,
    window: Duration::from_secs(10),
    hold: Duration::from_secs(30),
};

/// Statements of one block; `None` inside = off.
#[derive(Default)]
pub(super) struct Care {
    slow_start: Once<Option<Duration>>,
    damping: Once<Option<Damping>>,
    passive: Once<Option<Passive>>,
}

/// What a block and those around it say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Given {
    pub slow_start: Option<Duration>,
    pub damping: Option<Damping>,
    pub passive: Option<Passive>,
}

impl Care {
    /// Takes a statement, if it is one of these.
    pub fn read(&mut self, item: &Item, reporter: &mut Reporter) {
        match (item.keyword.text.as_str(), item.arguments.as_slice()) {
            ("slow_start", [word, ..]) => {
                if let Some(time) = time_or_off("slow_start", word, reporter) {
                    self.slow_start.set(item, time, reporter);
                }
            }
            ("flap_damping", words @ [_, ..]) => {
                if let Some(damping) = damping(item, words, reporter) {
                    self.damping.set(item, damping, reporter);
                }
            }
            ("passive", words) => {
                if let Some(passive) = passive(words, reporter) {
                    self.passive.set(item, passive, reporter);
                }
            }
            _ => {}
        }
    }

    /// What is said here, and where nothing is, what `outer` says.
    pub fn over(&self, outer: &Given) -> Given {
        Given {
            slow_start: self.slow_start.get().copied().unwrap_or(outer.slow_start),
            damping: self.damping.get().copied().unwrap_or(outer.damping),
            passive: self.passive.get().copied().unwrap_or(outer.passive),
        }
    }
}

/// `SECONDS` or `off`.
pub(super) fn time_or_off(
    what: &str,
    word: &Word,
    reporter: &mut Reporter,
) -> Option<Option<Duration>> {
    if word.text == "off" {
        return Some(None);
    }
    value::seconds(what, word, MIN_TIME, reporter).map(Some)
}

/// `WINDOW FIRST MOST` or `off`.
fn damping(item: &Item, words: &[Word], reporter: &mut Reporter) -> Option<Option<Damping>> {
    let times = match words {
        [word] if word.text == "off" => return Some(None),
        [window, first, most, ..] => {
            let mut time = |what, word| value::seconds(what, word, MIN_TIME, reporter);
            (
                time("window", window),
                time("first hold-down", first),
                time("longest hold-down", most),
            )
        }
        [..] => {
            reporter
                .error(Code::MissingArgument, item.head(), "`flap_damping` needs three times")
                .help("write `flap_damping WINDOW FIRST MOST`, in seconds, or `flap_damping off`");
            return None;
        }
    };
    let (Some(window), Some(first), Some(most)) = times else { return None };
    if first > most {
        let (first, most) = (value::show_seconds(first), value::show_seconds(most));
        let message =
            format!("the first hold-down of {first} s is longer than the longest of {most} s");
        reporter
            .error(Code::OutOfRange, item.head(), message)
            .help("write `flap_damping WINDOW FIRST MOST`, the last one the longest");
        return None;
    }
    Some(Some(Damping { window, first, most }))
}

#[derive(Clone, Copy)]
enum Part {
    Least,
    Percent,
    Window,
    Hold,
}

const PARTS: [(&str, Part); 4] = [
    ("least", Part::Least),
    ("percent", Part::Percent),
    ("window", Part::Window),
    ("hold", Part::Hold),
];

/// `[least N] [percent N] [window SECONDS] [hold SECONDS]` or `off`.
fn passive(words: &[Word], reporter: &mut Reporter) -> Option<Option<Passive>> {
    if let [word] = words
        && matches!(word.text.as_str(), "on" | "off")
    {
        return Some((word.text == "on").then_some(PASSIVE));
    }
    let mut passive = PASSIVE;
    for pair in words.chunks(2) {
        let word = pair.first()?;
        let part = value::name("part of `passive`", word, &PARTS, reporter)?;
        let Some(given) = pair.get(1) else {
            let message = format!("`{}` has no value", word.text);
            reporter
                .error(Code::MissingArgument, word.extent, message)
                .help("write `passive [least N] [percent N] [window SECONDS] [hold SECONDS]`");
            return None;
        };
        match part {
            Part::Least => passive.least = value::number("least", given, 1, u32::MAX, reporter)?,
            Part::Percent => {
                let percent = value::number("percent", given, 1, 100, reporter)?;
                passive.percent = u8::try_from(percent).ok()?;
            }
            Part::Window => passive.window = value::seconds("window", given, MIN_TIME, reporter)?,
            Part::Hold => passive.hold = value::seconds("hold", given, MIN_TIME, reporter)?,
        }
    }
    Some(Some(passive))
}

#[cfg(test)]
mod tests;
