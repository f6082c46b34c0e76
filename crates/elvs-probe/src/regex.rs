//! Perl-compatible expressions of `regex`, by PCRE2 itself: its options have no equal in the `regex` crate.
//!
//! **Invariant:** a search ends after a bounded number of steps, whatever the expression and the text.
//!
//! Called by the driver of `HTTP_GET` and `SSL_GET`.

use std::ptr::{self, NonNull};

use elvs_model::health::RegexRule;
use pcre2_sys as pcre;
use thiserror::Error;

/// Why there is no answer to whether a text matches.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum RegexError {
    /// Not an option of `regex_options`.
    #[error("unknown regex option {0}")]
    Option(String),
    /// Not an expression.
    #[error("invalid regex at byte {offset}: {reason}")]
    Invalid { offset: usize, reason: String },
    /// The library has no memory left.
    #[error("no memory for a regex")]
    Memory,
    /// The search was ended: too many steps, or not the encoding that `utf` asks for.
    #[error("regex gave up: {0}")]
    Search(String),
}

/// A compiled expression.
#[derive(Debug)]
pub(crate) struct Regex {
    code: NonNull<pcre::pcre2_code_8>,
}

// SAFETY: compiled code is never changed after it was made (pcre2api(3), "Multithreading": "the compiled code is
// read-only"; JIT, which would change it, is not used), and it is freed once, by whoever drops it.
unsafe impl Send for Regex {}
// SAFETY: as above; every search has a match block of its own.
unsafe impl Sync for Regex {}

impl Regex {
    /// Compiles the rule's expression.
    ///
    /// # Errors
    /// Why it cannot be.
    pub(crate) fn new(rule: &RegexRule) -> Result<Self, RegexError> {
        let mut options = 0;
        for name in &rule.options {
            let known = OPTIONS.iter().find(|(option, _)| option.eq_ignore_ascii_case(name));
            options |= known.ok_or_else(|| RegexError::Option(name.clone()))?.1;
        }
        let (mut error, mut offset) = (0, 0);
        // SAFETY: the pattern is readable for its length, the out-pointers are valid, no context is given.
        let code = unsafe {
            pcre::pcre2_compile_8(
                rule.pattern.as_ptr(),
                rule.pattern.len(),
                options,
                &raw mut error,
                &raw mut offset,
                ptr::null_mut(),
            )
        };
        match NonNull::new(code) {
            Some(code) => Ok(Self { code }),
            None => Err(RegexError::Invalid { offset, reason: message(error) }),
        }
    }

    /// Where the first match at `start` or later begins, or `None`.
    ///
    /// # Errors
    /// The search did not come to an end.
    pub(crate) fn find(&self, text: &[u8], start: usize) -> Result<Option<usize>, RegexError> {
        if start > text.len() {
            return Ok(None);
        }
        let limits = Limits::new()?;
        let found = Match::new(self)?;
        // SAFETY: code, match block and context are live; the text is readable for its length, and start is within.
        let result = unsafe {
            pcre::pcre2_match_8(
                self.code.as_ptr(),
                text.as_ptr(),
                text.len(),
                start,
                0,
                found.0.as_ptr(),
                limits.0.as_ptr(),
            )
        };
        match result {
            pcre::PCRE2_ERROR_NOMATCH => Ok(None),
            error if error < 0 => Err(RegexError::Search(message(error))),
            _ => Ok(Some(found.begin())),
        }
    }
}

impl Drop for Regex {
    fn drop(&mut self) {
        // SAFETY: made by pcre2_compile_8 and freed nowhere else.
        unsafe { pcre::pcre2_code_free_8(self.code.as_ptr()) };
    }
}

/// Results of one search.
struct Match(NonNull<pcre::pcre2_match_data_8>);

impl Match {
    fn new(regex: &Regex) -> Result<Self, RegexError> {
        // SAFETY: the code is live; no general context is given.
        let block = unsafe {
            pcre::pcre2_match_data_create_from_pattern_8(regex.code.as_ptr(), ptr::null_mut())
        };
        NonNull::new(block).map(Self).ok_or(RegexError::Memory)
    }

    /// Where the match begins; only after a search that found one.
    fn begin(&self) -> usize {
        // SAFETY: the block is live.
        let pairs = unsafe { pcre::pcre2_get_ovector_pointer_8(self.0.as_ptr()) };
        // SAFETY: a block made from a pattern has at least one pair, and a match has set it.
        unsafe { *pairs }
    }
}

impl Drop for Match {
    fn drop(&mut self) {
        // SAFETY: made by pcre2_match_data_create_from_pattern_8 and freed nowhere else.
        unsafe { pcre::pcre2_match_data_free_8(self.0.as_ptr()) };
    }
}

/// How far a search may go.
struct Limits(NonNull<pcre::pcre2_match_context_8>);

impl Limits {
    fn new() -> Result<Self, RegexError> {
        // SAFETY: no general context is given.
        let context = unsafe { pcre::pcre2_match_context_create_8(ptr::null_mut()) };
        let limits = NonNull::new(context).map(Self).ok_or(RegexError::Memory)?;
        // SAFETY: the context is live.
        unsafe { pcre::pcre2_set_match_limit_8(limits.0.as_ptr(), MATCH_LIMIT) };
        // SAFETY: the context is live.
        unsafe { pcre::pcre2_set_heap_limit_8(limits.0.as_ptr(), HEAP_LIMIT_KIB) };
        Ok(limits)
    }
}

impl Drop for Limits {
    fn drop(&mut self) {
        // SAFETY: made by pcre2_match_context_create_8 and freed nowhere else.
        unsafe { pcre::pcre2_match_context_free_8(self.0.as_ptr()) };
    }
}

/// What the library says of an error.
fn message(error: i32) -> String {
    let mut buffer = [0; 256];
    // SAFETY: the buffer is writable for its length; the library ends what it writes with 0.
    let length =
        unsafe { pcre::pcre2_get_error_message_8(error, buffer.as_mut_ptr(), buffer.len()) };
    let text = usize::try_from(length).ok().and_then(|length| buffer.get(..length));
    text.map_or_else(|| format!("error {error}"), |text| String::from_utf8_lossy(text).into())
}

/// Steps of a search, after which it is given up: some tens of milliseconds.
const MATCH_LIMIT: u32 = 1_000_000;

/// Memory of a search.
const HEAP_LIMIT_KIB: u32 = 8192;

/// Options of `regex_options` (keepalived.conf(5)) and what PCRE2 calls them.
const OPTIONS: &[(&str, u32)] = &[
    ("allow_empty_class", pcre::PCRE2_ALLOW_EMPTY_CLASS),
    ("alt_bsux", pcre::PCRE2_ALT_BSUX),
    ("alt_circumflex", pcre::PCRE2_ALT_CIRCUMFLEX),
    ("alt_verbnames", pcre::PCRE2_ALT_VERBNAMES),
    ("auto_callout", pcre::PCRE2_AUTO_CALLOUT),
    ("caseless", pcre::PCRE2_CASELESS),
    ("dollar_endonly", pcre::PCRE2_DOLLAR_ENDONLY),
    ("dotall", pcre::PCRE2_DOTALL),
    ("dupnames", pcre::PCRE2_DUPNAMES),
    ("extended", pcre::PCRE2_EXTENDED),
    ("firstline", pcre::PCRE2_FIRSTLINE),
    ("match_unset_backref", pcre::PCRE2_MATCH_UNSET_BACKREF),
    ("multiline", pcre::PCRE2_MULTILINE),
    ("never_backslash_c", pcre::PCRE2_NEVER_BACKSLASH_C),
    ("never_ucp", pcre::PCRE2_NEVER_UCP),
    ("never_utf", pcre::PCRE2_NEVER_UTF),
    ("no_auto_capture", pcre::PCRE2_NO_AUTO_CAPTURE),
    ("no_auto_possess", pcre::PCRE2_NO_AUTO_POSSESS),
    ("no_dotstar_anchor", pcre::PCRE2_NO_DOTSTAR_ANCHOR),
    ("no_start_optimize", pcre::PCRE2_NO_START_OPTIMIZE),
    ("ucp", pcre::PCRE2_UCP),
    ("ungreedy", pcre::PCRE2_UNGREEDY),
    ("use_offset_limit", pcre::PCRE2_USE_OFFSET_LIMIT),
    ("utf", pcre::PCRE2_UTF),
];

#[cfg(test)]
mod tests;
