//! The line of an agent (HAProxy's configuration manual, `agent-check`).
//!
//! **Invariant:** total: any bytes are a line or a named fault.
//!
//! Called by the driver of `AGENT_CHECK`.

use elvs_model::health::{AgentMode, AgentReply};
use thiserror::Error;

use crate::words;

/// What an agent's line says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentLine {
    /// What is done.
    pub reply: AgentReply,
    /// Words that nothing is done about, as they came: `maxconn:30`, or words that are not known.
    pub ignored: Vec<String>,
}

/// Why a line says nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AgentFault {
    /// Nothing in it is known.
    #[error("agent said {}, of which nothing is known", words::quoted(.0))]
    Unknown(Vec<u8>),
    /// Nothing is in it.
    #[error("agent said nothing")]
    Empty,
}

impl AgentLine {
    /// Reads a line, up to its first CR or LF.
    ///
    /// # Errors
    /// It says nothing that is known.
    pub fn parse(bytes: &[u8]) -> Result<Self, AgentFault> {
        let end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
        let bytes = end.and_then(|end| bytes.get(..end)).unwrap_or(bytes);
        let text = String::from_utf8_lossy(bytes);
        let (text, reason) = match text.split_once('#') {
            Some((text, reason)) => (text, Some(reason.trim())),
            None => (&*text, None),
        };
        let mut line = Self::default();
        let mut known = false;
        for word in text.split([' ', '\t', ',']).filter(|word| !word.is_empty()) {
            if take(&mut line.reply, word) {
                known = true;
            } else {
                line.ignored.push(word.to_owned());
            }
        }
        if let Some(reason) = reason.filter(|reason| !reason.is_empty()) {
            line.reply.reason = Some(reason.to_owned());
        }
        match (known, bytes.trim_ascii().is_empty()) {
            (true, _) => Ok(line),
            (false, true) => Err(AgentFault::Empty),
            // Only what HAProxy knows and this director does not is still an answer.
            (false, false) if line.only_limits() => Ok(line),
            (false, false) => Err(AgentFault::Unknown(bytes.to_vec())),
        }
    }

    fn only_limits(&self) -> bool {
        let limit = |word: &String| word.to_ascii_lowercase().starts_with("maxconn:");
        !self.ignored.is_empty() && self.ignored.iter().all(limit)
    }
}

/// Takes one word; false if it means nothing.
fn take(reply: &mut AgentReply, word: &str) -> bool {
    let lower = word.to_ascii_lowercase();
    match lower.as_str() {
        "ready" => reply.administrative = Some(AgentMode::Ready),
        "drain" => reply.administrative = Some(AgentMode::Drain),
        "maint" => reply.administrative = Some(AgentMode::Maint),
        "up" => reply.up = Some(true),
        "down" | "failed" | "stopped" => {
            reply.up = Some(false);
            reply.reason = Some(lower);
        }
        _ => match lower.strip_suffix('%').and_then(|number| number.parse().ok()) {
            Some(percent) => reply.percent = Some(percent),
            None => return false,
        },
    }
    true
}

#[cfg(test)]
mod tests;
