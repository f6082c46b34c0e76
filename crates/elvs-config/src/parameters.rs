//! Parameters: `$NAME=value` definitions and the places where `$NAME` and `${NAME}` are used.
//!
//! **Invariant:** a value is replaced where it is used, with what is defined at that point; nothing undefined is touched.
//!
//! Called by the reader of lines.

use core::ops::Range;
use std::collections::HashMap;

use crate::lexer::braced_reference;
use crate::mapped::Mapped;

/// Values by name.
#[derive(Debug, Default)]
pub(crate) struct Parameters {
    values: HashMap<String, Value>,
}

/// What a name stands for.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// Text within a line.
    Text(String),
    /// Whole lines, each to be read as if it stood where the name stands.
    Lines(Vec<Mapped>),
}

impl Value {
    /// Its bytes, and `each` for every line.
    pub fn cost(&self, each: usize) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Lines(lines) => lines.iter().map(|l| l.text().len() + each).sum(),
        }
    }
}

/// A use of a parameter in a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference<'a> {
    /// Bytes of the line that it takes up.
    pub range: Range<usize>,
    /// Its name.
    pub name: &'a str,
    /// Words after the name, inside the braces.
    pub arguments: &'a str,
}

/// Name and value of `$NAME=value`; a name has ASCII letters, digits and `_` and does not start with a digit.
pub(crate) fn definition(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.strip_prefix('$')?.split_once('=')?;
    is_name(name).then_some((name, value.trim_start()))
}

/// The first use of a parameter at or after byte `from`; whether it is defined is not looked at.
///
/// `${NAME}` counts anywhere, `$NAME` only where white space, `,`, `)` or the end of the line follows.
pub(crate) fn reference(line: &str, from: usize) -> Option<Reference<'_>> {
    let mut at = from;
    loop {
        at += line.get(at..)?.find('$')?;
        let rest = line.get(at..)?;
        if let Some(found) = braced_reference(rest) {
            let inside = found.get(2..found.len() - 1)?;
            let (name, arguments) = inside.split_once([' ', '\t']).unwrap_or((inside, ""));
            let arguments = arguments.trim();
            return Some(Reference { range: at..at + found.len(), name, arguments });
        }
        let bare = rest.get(1..)?;
        let end = bare.find(|c: char| !is_name_part(c)).unwrap_or(bare.len());
        let follows = bare.get(end..)?.chars().next();
        let name = bare.get(..end)?;
        if is_name(name) && follows.is_none_or(|c| c.is_whitespace() || matches!(c, ',' | ')')) {
            return Some(Reference { range: at..at + 1 + end, name, arguments: "" });
        }
        at += 1;
    }
}

impl Parameters {
    /// Defines `name`, or defines it anew.
    pub fn define(&mut self, name: &str, value: Value) {
        self.values.insert(name.to_owned(), value);
    }

    /// What `name` stands for here.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }
}

/// Whether `name` can be the name of a parameter.
pub(crate) fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(is_name_part)
}

fn is_name_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests;
