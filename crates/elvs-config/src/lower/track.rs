//! `track_file` and `bfd_instance`: what checks may watch.
//!
//! **Invariant:** each has a name of its own; a file has a path, a session a neighbour and a source of one family.
//!
//! Called by the lowering of the root statements, before virtual servers are read.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use elvs_model::Family;
use elvs_model::health::{BfdInstance, TrackFile};

use super::value::{self, Unit};
use super::{Once, defined_twice};
use crate::diagnostic::{Code, Reporter};
use crate::lexer::Word;
use crate::sources::Extent;
use crate::text::quote;
use crate::tree::Item;

/// Greatest weight in `track_file`, above and below zero: VRRP's.
const MAX_WEIGHT: i32 = 254;
/// What is done about two blocks of one name.
const TWICE: &str = "remove one of the two, or rename it";
/// Longest name of a `bfd_instance`: keepalived's.
const MAX_SESSION_NAME: usize = 31;
/// Longest time of BFD: 32 bits of microseconds.
const MAX_BFD_TIME: Duration = Duration::from_micros(4_294_967_295);
/// Shortest `idle_tx` (RFC 5880, 6.8.3).
const MIN_IDLE: Duration = Duration::from_secs(1);
/// TTL of packets sent over IPv4, hop limit over IPv6: keepalived's.
const TTL: (u8, u8) = (255, 64);

/// A file with the weight that it has where a check gives none.
pub(super) struct File {
    pub file: TrackFile,
    pub weight: (i32, bool),
    at: Extent,
}

/// Every `track_file` block.
#[derive(Default)]
pub(super) struct Files {
    files: HashMap<String, File>,
}

impl Files {
    pub fn read(items: &[Item], reporter: &mut Reporter) -> Self {
        let mut files = Self::default();
        let blocks = items
            .iter()
            .filter(|item| matches!(item.keyword.text.as_str(), "track_file" | "vrrp_track_file"));
        for item in blocks {
            if reporter.is_full() {
                break;
            }
            files.file(item, reporter);
        }
        files
    }

    pub fn get(&self, name: &str) -> Option<&File> {
        self.files.get(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    fn file(&mut self, item: &Item, reporter: &mut Reporter) {
        let Some(name) = item.arguments.first() else { return };
        let mut path = Once::default();
        let mut own = Once::default();
        let mut initial = Once::default();
        for line in item.items() {
            match (line.keyword.text.as_str(), line.arguments.first()) {
                ("file", Some(word)) => path.keep(line, PathBuf::from(&word.text), reporter),
                ("weight", Some(_)) => {
                    if let Some(given) = weight(line, MAX_WEIGHT, reporter) {
                        own.keep(line, given, reporter);
                    }
                }
                ("init_file", _) => {
                    if let Some(given) = init_file(line, reporter) {
                        initial.set(line, given, reporter);
                    }
                }
                _ => {}
            }
        }
        let Some(path) = path.get().cloned() else {
            let message = format!("track_file {} has no file", quote(&name.text));
            reporter
                .error(Code::MissingArgument, item.head(), message)
                .help("write `file PATH` in it");
            return;
        };
        if let Some(first) = self.files.get(&name.text) {
            defined_twice("track_file", name, TWICE, [first.at, item.head()], reporter);
            return;
        }
        let file = TrackFile { name: name.text.clone(), path, initial: initial.get().copied() };
        let weight = own.get().copied().unwrap_or((1, false));
        self.files.insert(name.text.clone(), File { file, weight, at: item.head() });
    }
}

/// `weight N [reverse|noreverse]`.
pub(super) fn weight(line: &Item, most: i32, reporter: &mut Reporter) -> Option<(i32, bool)> {
    let number = value::signed("weight", line.arguments.first()?, -most, most, reporter)?;
    let Some(word) = line.arguments.get(1) else { return Some((number, false)) };
    const DIRECTIONS: [(&str, bool); 2] = [("reverse", true), ("noreverse", false)];
    Some((number, value::name("direction", word, &DIRECTIONS, reporter)?))
}

/// `init_file [VALUE] [overwrite]`.
fn init_file(line: &Item, reporter: &mut Reporter) -> Option<(i32, bool)> {
    let mut initial = (0, false);
    for word in &line.arguments {
        if word.text == "overwrite" {
            initial.1 = true;
        } else {
            initial.0 = value::signed("init_file", word, i32::MIN, i32::MAX, reporter)?;
        }
    }
    Some(initial)
}

/// Every `bfd_instance`, in the order of the file, and the names of all, those with mistakes included.
pub(super) fn sessions(
    items: &[Item],
    reporter: &mut Reporter,
) -> (Vec<BfdInstance>, HashSet<String>) {
    let mut places: HashMap<String, Extent> = HashMap::new();
    let mut ends = HashMap::new();
    let mut sessions = Vec::new();
    for item in items.iter().filter(|item| item.keyword.text == "bfd_instance") {
        if reporter.is_full() {
            break;
        }
        let Some(name) = item.arguments.first() else { continue };
        if let Some(first) = places.get(&name.text) {
            defined_twice("bfd_instance", name, TWICE, [*first, item.head()], reporter);
            continue;
        }
        places.insert(name.text.clone(), item.head());
        let Some(session) = session(item, name, reporter) else { continue };
        // Packets of two such sessions would come from and go to the same.
        let between = (session.neighbor, session.source, session.multihop);
        if let Some(twin) = ends.insert(between, session.name.clone()) {
            let message = format!(
                "bfd_instance {} has the neighbour and the source of {}",
                quote(&name.text),
                quote(&twin)
            );
            reporter.error(Code::Duplicate, item.head(), message).help(
                "use the first one in both places: there is one session between two addresses",
            );
            continue;
        }
        sessions.push(session);
    }
    (sessions, places.into_keys().collect())
}

/// Statements of one `bfd_instance`.
#[derive(Default)]
struct Session {
    neighbor: Once<IpAddr>,
    source: Once<IpAddr>,
    min_rx: Once<Duration>,
    min_tx: Once<Duration>,
    idle_tx: Once<Duration>,
    multiplier: Once<u8>,
    passive: Once<bool>,
    ttl: Once<u8>,
    max_hops: Once<u8>,
    multihop: Once<bool>,
    refused: bool,
}

impl Session {
    /// Takes a statement; none if it is refused.
    fn statement(&mut self, line: &Item, reporter: &mut Reporter) -> Option<()> {
        let keyword = line.keyword.text.as_str();
        let millis = |word: &Word, least: Duration, reporter: &mut Reporter| {
            value::time(keyword, word, Unit::Milliseconds, (least, MAX_BFD_TIME), reporter)
        };
        let small = |word: &Word, least: u32, reporter: &mut Reporter| {
            let number = value::number(keyword, word, least, u8::MAX.into(), reporter)?;
            u8::try_from(number).ok()
        };
        let least = Duration::from_millis(1);
        match (keyword, line.arguments.first()) {
            ("passive", _) => self.passive.set(line, value::switch(line, reporter)?, reporter),
            ("multihop", _) => self.multihop.set(line, value::switch(line, reporter)?, reporter),
            ("neighbor_ip" | "neighbour_ip", Some(word)) => {
                let address = value::host_address(keyword, word, reporter)?;
                self.neighbor.set(line, address, reporter);
            }
            ("source_ip", Some(word)) => {
                let address = value::host_address(keyword, word, reporter)?;
                self.source.set(line, address, reporter);
            }
            ("min_rx", Some(word)) => {
                self.min_rx.set(line, millis(word, least, reporter)?, reporter);
            }
            ("min_tx", Some(word)) => {
                self.min_tx.set(line, millis(word, least, reporter)?, reporter);
            }
            ("idle_tx", Some(word)) => {
                self.idle_tx.set(line, millis(word, MIN_IDLE, reporter)?, reporter);
            }
            ("multiplier", Some(word)) => {
                self.multiplier.set(line, small(word, 1, reporter)?, reporter);
            }
            ("ttl" | "hoplimit", Some(word)) => {
                self.ttl.set(line, small(word, 1, reporter)?, reporter);
            }
            ("max_hops", Some(word)) => {
                // As in keepalived, -1 counts none either.
                let hops = if word.text == "-1" { u8::MAX } else { small(word, 0, reporter)? };
                self.max_hops.set(line, hops, reporter);
            }
            _ => {}
        }
        Some(())
    }
}

fn session(item: &Item, name: &Word, reporter: &mut Reporter) -> Option<BfdInstance> {
    let mut session = Session::default();
    for line in item.items() {
        if session.statement(line, reporter).is_none() {
            session.refused = true;
        }
    }
    if name.text.len() > MAX_SESSION_NAME {
        let message = format!("{} has more than {MAX_SESSION_NAME} bytes", quote(&name.text));
        reporter.error(Code::OutOfRange, name.extent, message).help("give it a shorter name");
        return None;
    }
    if session.refused {
        return None;
    }
    let Some(neighbor) = session.neighbor.get().copied() else {
        let message = format!("bfd_instance {} has no neighbour", quote(&name.text));
        reporter
            .error(Code::MissingArgument, item.head(), message)
            .help("write `neighbor_ip ADDRESS` in it");
        return None;
    };
    if let Some((source, at)) = session.source.0
        && Family::of(source) != Family::of(neighbor)
    {
        let message = format!("source_ip {source} is not of the family of {neighbor}");
        reporter
            .error(Code::MixedFamilies, at, message)
            .help("write an address of the neighbour's family");
        return None;
    }
    let usual = if neighbor.is_ipv4() { TTL.0 } else { TTL.1 };
    let ttl = session.ttl.get().copied().unwrap_or(usual);
    Some(BfdInstance {
        name: name.text.clone(),
        neighbor,
        source: session.source.get().copied(),
        min_rx: session.min_rx.get().copied().unwrap_or(Duration::from_millis(10)),
        min_tx: session.min_tx.get().copied().unwrap_or(Duration::from_millis(10)),
        idle_tx: session.idle_tx.get().copied().unwrap_or(MIN_IDLE),
        multiplier: session.multiplier.get().copied().unwrap_or(5),
        passive: session.passive.get() == Some(&true),
        ttl,
        max_hops: max_hops(&session.max_hops, ttl, reporter),
        multihop: session.multihop.get() == Some(&true),
    })
}

/// 255 counts no hops; another number is at most the TTL.
fn max_hops(given: &Once<u8>, ttl: u8, reporter: &mut Reporter) -> u8 {
    let Some((hops, at)) = given.0 else { return 0 };
    if hops <= ttl || hops == u8::MAX {
        return hops;
    }
    let message = format!("max_hops {hops} exceeds the TTL of {ttl}: {ttl} is used");
    reporter.warning(Code::ValueReplaced, at, message).help(format!("write `max_hops {ttl}`"));
    ttl
}

#[cfg(test)]
mod tests;
