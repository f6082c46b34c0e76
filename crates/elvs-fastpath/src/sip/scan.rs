//! Finding the Call-ID in a message, byte by byte.
//!
//! **Invariant:** the answer is that of `get_callid` and `ct_sip_get_header` of Linux 6.12, oddities included: what is no SIP but
//! has such a line has a Call-ID; the first line has none; the first character after a line's end is not looked at as one.

use elvs_common::CALL_ID_LENGTH;

use crate::flow::Step;
use crate::frame::Frame;
use crate::host::Host;

/// Bytes of a frame that are looked at.
const LONGEST: u64 = 0x7fff;

/// The header's name in lower case; its short form is `i`.
const NAME: [u8; 7] = *b"call-id";

/// What the next byte is. Each is a constant of its own, and no counter is compared with anything: of what is compared the
/// kernel's verifier walks through every value.
mod state {
    /// Somewhere in a line.
    pub(super) const LINE: u64 = 0;
    /// The first one of a line, unless it ends the one before.
    pub(super) const AFTER_CR: u64 = 1;
    /// The first one of a line.
    pub(super) const FIRST: u64 = 2;
    /// After the short form of the name.
    pub(super) const SHORT: u64 = 3;
    /// Before the colon.
    pub(super) const COLON: u64 = 4;
    /// After a carriage return before the colon.
    pub(super) const COLON_CR: u64 = 5;
    /// The first one of a continuation line before the colon.
    pub(super) const COLON_FOLD: u64 = 6;
    /// White space of such a line.
    pub(super) const COLON_SPACE: u64 = 7;
    /// Before the value: the same four.
    pub(super) const VALUE: u64 = 8;
    pub(super) const VALUE_CR: u64 = 9;
    pub(super) const VALUE_FOLD: u64 = 10;
    pub(super) const VALUE_SPACE: u64 = 11;
    /// In the value, before `@`.
    pub(super) const WORD: u64 = 12;
    /// The first one after it.
    pub(super) const DOMAIN: u64 = 13;
    /// The others.
    pub(super) const DOMAIN_REST: u64 = 14;
    /// Found.
    pub(super) const FOUND: u64 = 15;
    /// There is none.
    pub(super) const NONE: u64 = 16;
    /// In the name: so many characters of it have come.
    pub(super) const NAME: u64 = 32;
}

/// A Call-ID in a message. Every field always has a value: the verifier refuses what an `Option` is compiled to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Whether there is one.
    pub(super) hit: bool,
    /// Hash of it.
    pub(super) hash: u64,
    /// Where it begins in the message.
    pub(super) place: u64,
    /// Its bytes: 1..=255.
    pub(super) length: u64,
}

/// The Call-ID of the message between two offsets of a frame; its hash begins with `seed`.
///
/// `forget` is that of the host, or the identity; see [`Host::forget`].
#[inline(always)]
pub(super) fn find<F: Frame>(
    forget: impl Fn(u64) -> u64,
    frame: &mut F,
    start: u64,
    end: u64,
    seed: [u64; 2],
) -> Found {
    let [first, factor] = seed;
    let length = forget(end.saturating_sub(start)).min(LONGEST);
    // Nothing that the verifier knows of one way through the headers, and not of another.
    frame.forget();
    let (start, zero) = (forget(start), forget(0));
    let mut scan = Scan {
        frame,
        start,
        state: state::LINE,
        hash: first,
        first,
        factor: factor | 1,
        place: zero,
        length: zero,
        resume: zero,
    };
    F::repeat((length & LONGEST) as u32, &mut scan);
    let (place, length) = (forget(scan.place), forget(scan.length));
    let hash = scan.hash ^ scan.hash >> 32;
    let hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Found { hit: scan.state == state::FOUND, hash: hash ^ hash >> 29, place, length }
}

/// The walk through a message.
struct Scan<'a, F> {
    frame: &'a mut F,
    start: u64,
    state: u64,
    hash: u64,
    /// What the hash begins with.
    first: u64,
    factor: u64,
    /// Where the value begins.
    place: u64,
    /// Its bytes, once it is found.
    length: u64,
    /// Line ends before this are not looked at.
    resume: u64,
}

impl<F: Frame> Step for Scan<'_, F> {
    #[inline(always)]
    fn step(&mut self, index: u32) -> bool {
        self.frame.forget();
        let offset = (self.start & 0x7f_ffff).wrapping_add(index as u64);
        if offset > LONGEST {
            self.state = state::NONE;
            return false;
        }
        let Some(byte) = self.frame.byte((offset & LONGEST) as usize) else {
            self.state = state::NONE;
            return false;
        };
        self.read(index as u64, byte);
        self.state != state::FOUND && self.state != state::NONE
    }
}

impl<F> Scan<'_, F> {
    #[inline(always)]
    fn read(&mut self, at: u64, byte: u8) {
        match self.state {
            state::LINE => self.in_line(at, byte),
            state::AFTER_CR if byte == b'\n' => self.state = state::FIRST,
            state::AFTER_CR | state::FIRST => self.state = first(byte),
            state::SHORT if is_letter(byte) => self.state = state::LINE,
            state::SHORT | state::COLON => self.state = before(byte, state::COLON),
            state::COLON_CR if byte == b'\n' => self.state = state::COLON_FOLD,
            state::COLON_CR | state::COLON_FOLD => self.state = fold(byte, state::COLON_SPACE),
            state::COLON_SPACE => self.state = after_fold(byte),
            state::VALUE => match before(byte, state::VALUE) {
                state::NONE => self.begin(at, byte),
                next => self.state = next,
            },
            state::VALUE_CR if byte == b'\n' => self.state = state::VALUE_FOLD,
            state::VALUE_CR | state::VALUE_FOLD => self.state = fold(byte, state::VALUE_SPACE),
            state::VALUE_SPACE if is_blank(byte) => {}
            state::VALUE_SPACE => self.begin(at, byte),
            state::WORD if byte == b'@' => self.take(byte, state::DOMAIN),
            state::WORD if is_word(byte) => self.take(byte, state::WORD),
            state::DOMAIN | state::DOMAIN_REST if is_word(byte) => {
                self.take(byte, state::DOMAIN_REST);
            }
            state::DOMAIN => self.begin_anew(at, byte),
            state::WORD | state::DOMAIN_REST => self.end(at, byte),
            name => self.in_name(name, at, byte),
        }
    }

    /// Looks for the end of the line.
    #[inline(always)]
    fn in_line(&mut self, at: u64, byte: u8) {
        if at < self.resume {
            return;
        }
        self.state = match byte {
            b'\r' => state::AFTER_CR,
            b'\n' => state::FIRST,
            _ => state::LINE,
        };
    }

    #[inline(always)]
    fn in_name(&mut self, name: u64, at: u64, byte: u8) {
        let come = (name & 7) as usize;
        if NAME.get(come).is_some_and(|wanted| *wanted == byte.to_ascii_lowercase()) {
            self.state = if come + 1 == NAME.len() { state::COLON } else { name + 1 };
        } else {
            self.state = state::LINE;
            self.in_line(at, byte);
        }
    }

    /// The first byte of what may be a value.
    #[inline(always)]
    fn begin(&mut self, at: u64, byte: u8) {
        self.place = at;
        self.hash = self.first;
        if is_word(byte) {
            self.take(byte, state::WORD);
        } else {
            self.begin_anew(at, byte);
        }
    }

    /// A value is none: `get_callid` looks for another one from there on, and adds up where it was.
    #[inline(always)]
    fn begin_anew(&mut self, at: u64, byte: u8) {
        self.resume = self.resume.wrapping_add(self.place);
        self.state = state::LINE;
        self.in_line(at, byte);
    }

    #[inline(always)]
    fn take(&mut self, byte: u8, next: u64) {
        self.hash = (self.hash ^ byte as u64).wrapping_mul(self.factor);
        self.state = next;
    }

    /// The byte after a value, which must end the line.
    #[inline(always)]
    fn end(&mut self, at: u64, byte: u8) {
        self.length = at.wrapping_sub(self.place);
        let ended = byte == b'\r' || byte == b'\n';
        self.state =
            if ended && self.length <= CALL_ID_LENGTH { state::FOUND } else { state::NONE };
    }
}

/// The state after a line's first byte.
#[inline(always)]
const fn first(byte: u8) -> u64 {
    match byte {
        b'c' | b'C' => state::NAME | 1,
        b'i' | b'I' => state::SHORT,
        _ => state::LINE,
    }
}

/// The state after a byte before the colon or the value, `here`; [`state::NONE`] if it is neither white space nor the colon.
#[inline(always)]
const fn before(byte: u8, here: u64) -> u64 {
    match byte {
        b' ' | b'\t' => here,
        b'\r' => here + 1,
        b'\n' => here + 2,
        b':' if here == state::COLON => state::VALUE,
        _ => state::NONE,
    }
}

/// The state after the first byte of a line that must be a continuation.
#[inline(always)]
const fn fold(byte: u8, next: u64) -> u64 {
    if is_blank(byte) { next } else { state::NONE }
}

/// The state after a byte of a continuation line before the colon.
#[inline(always)]
const fn after_fold(byte: u8) -> u64 {
    match byte {
        b' ' | b'\t' => state::COLON_SPACE,
        b':' => state::VALUE,
        _ => state::NONE,
    }
}

#[inline(always)]
const fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// `isalpha` of the kernel, whose characters are those of Latin-1.
#[inline(always)]
const fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte >= 0xc0 && byte != 0xd7 && byte != 0xf7
}

/// `iswordc` of `nf_conntrack_sip.c`.
#[inline(always)]
const fn is_word(byte: u8) -> bool {
    is_letter(byte)
        || byte.is_ascii_digit()
        || matches!(byte, b'!' | b'"' | b'%' | b'('..=b'+' | b':' | b'<' | b'>' | b'?')
        || matches!(byte, b'[' ..= b']' | b'_' | b'`' | b'{' | b'}' | b'~' | b'-' ..= b'/' | b'\'')
}

/// Drafts `length` bytes of a frame at an offset as a Call-ID.
#[inline(always)]
pub(super) fn copy<H: Host, F: Frame>(host: &H, frame: &mut F, start: u64, length: u64) {
    let rounds = (host.forget(length) & 0xff) as u32;
    F::repeat(rounds, &mut Copy { host, frame, start: host.forget(start) });
}

struct Copy<'a, H, F> {
    host: &'a H,
    frame: &'a mut F,
    start: u64,
}

impl<H: Host, F: Frame> Step for Copy<'_, H, F> {
    #[inline(always)]
    fn step(&mut self, index: u32) -> bool {
        self.frame.forget();
        let offset = self.start.wrapping_add(index as u64) & LONGEST;
        let Some(byte) = self.frame.byte(offset as usize) else { return false };
        self.host.draft_call(index, byte);
        true
    }
}

#[cfg(test)]
mod tests;
