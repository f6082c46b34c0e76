//! Where texts come from: the reader asks a [`Source`] for files, matches of a pattern and environment variables.
//!
//! **Invariant:** the crate itself opens nothing; whoever calls it decides what a path means.
//!
//! Implemented by the daemon over the file system and by [`MapSource`] over memory.

use std::collections::BTreeMap;

/// Files and environment of a configuration.
pub trait Source {
    /// Bytes of the file at `path`, a path as typed or as [`Source::matches`] gave it.
    ///
    /// An implementation should stop reading after [`MAX_FILE_BYTES`] and one byte: longer files are refused.
    ///
    /// # Errors
    /// Says why the file cannot be read.
    fn read(&self, path: &str) -> Result<Vec<u8>, SourceError>;

    /// Paths of the regular files that `pattern` matches, sorted; empty when there are none.
    ///
    /// `*`, `?` and `[...]` stand for what glob(7) says; a pattern without them names one file.
    /// Braces are expanded by the reader before it asks.
    ///
    /// # Errors
    /// Says why the pattern or a directory cannot be read.
    fn matches(&self, pattern: &str) -> Result<Vec<String>, SourceError>;

    /// Value of an environment variable, for `${_ENV NAME}`.
    fn environment(&self, name: &str) -> Option<String>;
}

/// Longest file that is read: 8 MiB.
pub const MAX_FILE_BYTES: usize = 8 << 20;

/// Why a source gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// There is no such file.
    #[error("no such file")]
    NotFound,
    /// Access is denied.
    #[error("permission denied")]
    PermissionDenied,
    /// It is a directory, a device or the like.
    #[error("not a regular file")]
    NotAFile,
    /// The pattern is malformed.
    #[error("malformed pattern: {0}")]
    Pattern(&'static str),
    /// The system said otherwise.
    #[error("{0}")]
    System(String),
}

/// Files in memory: for tests, for `elvs demo`, and for configurations that arrive over the API.
#[derive(Clone, Debug, Default)]
pub struct MapSource {
    files: BTreeMap<String, Vec<u8>>,
    environment: BTreeMap<String, String>,
}

impl MapSource {
    /// A source with one file.
    pub fn single(path: &str, text: impl Into<Vec<u8>>) -> Self {
        Self::default().with_file(path, text)
    }

    /// Adds a file.
    #[must_use]
    pub fn with_file(mut self, path: &str, text: impl Into<Vec<u8>>) -> Self {
        self.files.insert(path.to_owned(), text.into());
        self
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn with_environment(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }
}

impl Source for MapSource {
    fn read(&self, path: &str) -> Result<Vec<u8>, SourceError> {
        self.files.get(path).cloned().ok_or(SourceError::NotFound)
    }

    fn matches(&self, pattern: &str) -> Result<Vec<String>, SourceError> {
        let matcher = glob::Pattern::new(pattern).map_err(|e| SourceError::Pattern(e.msg))?;
        let options = glob::MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: true,
        };
        let matched = self.files.keys().filter(|path| matcher.matches_with(path, options));
        Ok(matched.cloned().collect())
    }

    fn environment(&self, name: &str) -> Option<String> {
        self.environment.get(name).cloned()
    }
}

/// `path` as seen from the file `from`: relative paths start in its directory.
pub(crate) fn resolve(from: &str, path: &str) -> String {
    match from.rsplit_once('/') {
        Some((directory, _)) if !path.starts_with('/') => format!("{directory}/{path}"),
        _ => path.to_owned(),
    }
}

/// Directory of a file, `.` when its path has none.
pub(crate) fn directory(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) => "/",
        Some((directory, _)) => directory,
        None => ".",
    }
}

/// Patterns that `{a,b}` stands for, as csh expands it; `None` when there are more than 256 or they nest wildly.
pub(crate) fn expand_braces(pattern: &str) -> Option<Vec<String>> {
    const MOST: usize = 256;
    const ROUNDS: usize = 4096;
    let mut open = vec![pattern.to_owned()];
    let mut done = Vec::new();
    // Each round takes the first pair of braces off one pattern.
    for _ in 0..ROUNDS {
        let Some(next) = open.pop() else { return Some(done) };
        let Some((before, choices, after)) = first_braces(&next) else {
            done.push(next);
            if done.len() > MOST {
                return None;
            }
            continue;
        };
        open.extend(choices.iter().rev().map(|choice| format!("{before}{choice}{after}")));
        if open.len() > MOST {
            return None;
        }
    }
    None
}

/// Text before the first complete pair of braces, the choices in it, and the text after it.
fn first_braces(pattern: &str) -> Option<(&str, Vec<&str>, &str)> {
    let start = pattern.find('{')?;
    let inside = pattern.get(start + 1..)?;
    let mut depth = 0usize;
    let mut choice = 0;
    let mut choices = Vec::new();
    for (at, c) in inside.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                choices.push(inside.get(choice..at)?);
                return Some((pattern.get(..start)?, choices, inside.get(at + 1..)?));
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                choices.push(inside.get(choice..at)?);
                choice = at + 1;
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests;
