//! `~SEQ` and `~LST`: lines that are read once for each value of a list.
//!
//! **Invariant:** reading the head takes time in its length; values are made one at a time, so a sequence of billions
//! costs nothing until it is walked, which the reader bounds.
//!
//! Called by the reader of lines for lines that start with one of these words.

use super::{EXPANSION_COST, MAX_EXPANDED_BYTES, MAX_EXPANSION_DEPTH, MAX_REPLACEMENTS, Reader};
use crate::diagnostic::Code;
use crate::mapped::Mapped;
use crate::parameters::{Value, is_name};
use crate::text::quote;

const HELP: &str = "write `~SEQ(NAME, LAST) ...`, `~SEQ(NAME, FIRST, LAST) ...`, `~SEQ(NAME, FIRST, STEP, LAST) ...` or `~LST(NAME, VALUE, VALUE...) ...`";

impl Reader<'_> {
    /// Reads a line that starts with `~SEQ` or `~LST` once for each round.
    pub(super) fn repeat(&mut self, line: &Mapped, depth: usize) {
        if depth >= MAX_EXPANSION_DEPTH {
            return self.endless(line.extent(0..4));
        }
        let Some(line) = self.with_numbers(line) else { return };
        let word = line.extent(0..4);
        let (sequence, start) = match parse(line.text()) {
            Ok(parsed) => parsed,
            Err(fault) => {
                let message = format!("{} is malformed: {fault}", quote(line.text()));
                self.reporter.error(Code::InvalidValue, word, message).help(HELP);
                return;
            }
        };
        let rest = line.slice(start..line.text().len());
        let names = sequence.names.clone();
        for values in sequence {
            for (name, value) in names.iter().zip(values) {
                self.parameters.define(name, Value::Text(value));
            }
            self.expanded = self.expanded.saturating_add(rest.text().len() + EXPANSION_COST);
            if self.expanded > MAX_EXPANDED_BYTES {
                return self.endless(word);
            }
            self.statement(rest.clone(), depth + 1);
            if self.exhausted {
                return;
            }
        }
    }

    /// A `~SEQ` line with the parameters among its numbers replaced; `None` when that has no end.
    fn with_numbers(&mut self, line: &Mapped) -> Option<Mapped> {
        let Some(numbers) = numbers(line.text()) else { return Some(line.clone()) };
        let mut head = line.slice(0..numbers.end);
        let mut from = numbers.start;
        let mut replacements = 0;
        while let Some((range, value)) = self.next_value(&head, from) {
            replacements += 1;
            if replacements > MAX_REPLACEMENTS || !self.may_expand(&head, &value) {
                self.endless(head.extent(range));
                return None;
            }
            // Lines are no number: they stay, and are found malformed.
            let Value::Text(value) = value else { break };
            from = range.start;
            head = head.replaced(range, &value);
        }
        Some(head.joined(&line.slice(numbers.end..line.text().len())))
    }
}

/// The head of a `~SEQ` or `~LST` line: which names get which values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sequence {
    /// Names defined in each round.
    pub names: Vec<String>,
    rounds: Rounds,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rounds {
    /// `~SEQ`: the number of the next round, if there is one.
    Numbers { next: Option<i64>, step: i64, last: i64, hex: bool },
    /// `~LST`: values of each round still to come, last one first.
    Values(Vec<Vec<String>>),
}

impl Iterator for Sequence {
    /// One value for each of the names.
    type Item = Vec<String>;

    fn next(&mut self) -> Option<Vec<String>> {
        match &mut self.rounds {
            Rounds::Numbers { next, step, last, hex } => {
                let number = next.take()?;
                let following = number.checked_add(*step);
                *next = following.filter(|n| if *step > 0 { n <= last } else { n >= last });
                Some(vec![if *hex { format!("{number:x}") } else { number.to_string() }])
            }
            Rounds::Values(values) => values.pop(),
        }
    }
}

/// Which of the two words a line starts with.
pub(super) fn starts(line: &str) -> bool {
    line.starts_with("~SEQ") || line.starts_with("~LST")
}

/// Bytes of a `~SEQ` line between its first comma and its `)`: where parameters are replaced before it is read.
pub(super) fn numbers(line: &str) -> Option<core::ops::Range<usize>> {
    let close = line.starts_with("~SEQ").then(|| line.find(')'))??;
    let comma = line.get(..close)?.find(',')?;
    Some(comma + 1..close)
}

/// Reads the head of a line; gives the byte at which the line that is repeated starts.
///
/// # Errors
/// Says what is wrong with it.
pub(super) fn parse(line: &str) -> Result<(Sequence, usize), String> {
    if line.starts_with("~SEQ") { parse_numbers(line) } else { parse_values(line) }
}

/// `~SEQ(NAME[, START][, STEP], END)` and `~SEQx`.
fn parse_numbers(line: &str) -> Result<(Sequence, usize), String> {
    let rest = line.get(4..).unwrap_or("");
    let (hex, rest) = rest.strip_prefix('x').map_or((false, rest), |rest| (true, rest));
    let rest = rest.trim_start().strip_prefix('(').ok_or("`(` is missing after `~SEQ`")?;
    let (inside, after) = rest.split_once(')').ok_or("`)` is missing")?;
    let mut words = inside.split(',').map(str::trim);
    let name = name(words.next().unwrap_or(""))?;
    let numbers = words.map(number).collect::<Result<Vec<_>, _>>()?;
    let (start, step, last) = match *numbers.as_slice() {
        [end] => (if end < 0 { -1 } else { 1 }, if end < 1 { -1 } else { 1 }, end),
        [start, end] => (start, if start <= end { 1 } else { -1 }, end),
        [start, step, end] => (start, step, end),
        [] => return Err("the last number is missing".to_owned()),
        [..] => return Err("there are more than three numbers".to_owned()),
    };
    if step == 0 || (start < last && step < 0) || (start > last && step > 0) {
        return Err(format!("steps of {step} never lead from {start} to {last}"));
    }
    if hex && (start < 0 || last < 0) {
        return Err("`~SEQx` has no negative numbers".to_owned());
    }
    let rounds = Rounds::Numbers { next: Some(start), step, last, hex };
    Ok((Sequence { names: vec![name], rounds }, line.len() - after.trim_start().len()))
}

/// A whole number as strtol(3) reads it: decimal, hexadecimal after `0x`, octal after `0`.
fn number(word: &str) -> Result<i64, String> {
    let (sign, digits) = match word.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", word.strip_prefix('+').unwrap_or(word)),
    };
    let hex = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let octal = digits.strip_prefix('0').filter(|rest| !rest.is_empty());
    let (digits, radix) = match (hex, octal) {
        (Some(digits), _) => (digits, 16),
        (None, Some(digits)) => (digits, 8),
        (None, None) => (digits, 10),
    };
    let wrong = || format!("{} is no whole number", quote(word));
    if !digits.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(wrong());
    }
    i64::from_str_radix(&format!("{sign}{digits}"), radix).map_err(|_fault| wrong())
}

/// `~LST(NAME, VALUE...)` and `~LST({NAME...}, {VALUE...}...)`.
fn parse_values(line: &str) -> Result<(Sequence, usize), String> {
    let rest = line.get(4..).unwrap_or("").trim_start();
    let mut rest = rest.strip_prefix('(').ok_or("`(` is missing after `~LST`")?;
    let names = group(&mut rest)?;
    let names = names.into_iter().map(|n| name(&n)).collect::<Result<Vec<_>, _>>()?;
    let mut values = Vec::new();
    while let Some(after) = rest.strip_prefix(',') {
        rest = after;
        let mut round = group(&mut rest)?;
        if round.len() > names.len() {
            let (given, wanted) = (round.len(), names.len());
            return Err(format!("a round has {given} values for {wanted} names"));
        }
        round.resize(names.len(), String::new());
        values.push(round);
    }
    let after = rest.strip_prefix(')').ok_or("`,` or `)` is missing")?;
    if values.is_empty() {
        return Err("there are no values".to_owned());
    }
    values.reverse();
    let rounds = Rounds::Values(values);
    Ok((Sequence { names, rounds }, line.len() - after.trim_start().len()))
}

/// One word, or `{ ... }` with several, at the start of `rest`, which is then what follows.
fn group(rest: &mut &str) -> Result<Vec<String>, String> {
    let text = rest.trim_start();
    let (inside, after) = match text.strip_prefix('{') {
        Some(text) => text.split_once('}').ok_or("`}` is missing")?,
        None => text.split_at(text.find([',', ')', '}']).unwrap_or(text.len())),
    };
    *rest = after.trim_start();
    let words: Vec<String> = inside.split(',').map(|w| w.trim().to_owned()).collect();
    match words.iter().find(|w| w.contains(char::is_whitespace)) {
        Some(word) => Err(format!("`,` is missing in {}", quote(word))),
        None => Ok(words),
    }
}

fn name(word: &str) -> Result<String, String> {
    match word {
        "" => Err("the name is missing".to_owned()),
        word if is_name(word) => Ok(word.to_owned()),
        word => Err(format!("{} is no name of a parameter", quote(word))),
    }
}

#[cfg(test)]
mod tests;
