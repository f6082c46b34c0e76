//! Replies of an SMTP server (RFC 5321, 4.2).
//!
//! **Invariant:** total: any bytes are a line of a reply or a named fault.
//!
//! Called by the driver of `SMTP_CHECK`, line by line.

use thiserror::Error;

use crate::words;

/// Puts the lines of one reply together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SmtpReply {
    code: Option<u16>,
    lines: usize,
}

/// Why lines are no reply.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SmtpFault {
    /// A line does not begin with three digits and a space, a hyphen or its end.
    #[error("{} is no SMTP reply", words::quoted(.0))]
    NoReply(Vec<u8>),
    /// The lines of one reply have different codes.
    #[error("code {then} after code {first} in one SMTP reply")]
    Codes {
        /// Code of the first line.
        first: u16,
        /// Another code.
        then: u16,
    },
    /// A reply has no end.
    #[error("an SMTP reply of more than {SMTP_LINES} lines")]
    Endless,
}

impl SmtpReply {
    /// Takes the next line, without its end: the reply's code if this was the last line of it.
    ///
    /// # Errors
    /// Why the line is not one of a reply.
    pub fn line(&mut self, line: &[u8]) -> Result<Option<u16>, SmtpFault> {
        let (code, rest) = match line {
            [a @ b'2'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9', rest @ ..] => {
                let digit = |byte: u8| u16::from(byte - b'0');
                (digit(*a) * 100 + digit(*b) * 10 + digit(*c), rest)
            }
            _ => return Err(SmtpFault::NoReply(line.to_vec())),
        };
        let first = *self.code.get_or_insert(code);
        if first != code {
            return Err(SmtpFault::Codes { first, then: code });
        }
        self.lines += 1;
        match rest.first() {
            None | Some(b' ') => Ok(Some(code)),
            Some(b'-') if self.lines < SMTP_LINES => Ok(None),
            Some(b'-') => Err(SmtpFault::Endless),
            Some(_) => Err(SmtpFault::NoReply(line.to_vec())),
        }
    }
}

/// Most lines of one reply.
const SMTP_LINES: usize = 100;

#[cfg(test)]
mod tests;
