//! What one run of a check found.
//!
//! **Invariant:** a finding always says in words what was seen, so that nobody has to guess why a server is down.
//!
//! Part of [`crate::health`]: drivers of checks make findings, the monitor judges them.

use serde::{Deserialize, Serialize};

/// What one run of a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The result.
    pub result: CheckResult,
    /// It in words, without the server's name: `connect timed out after 3 s`, `HTTP 503, wanted 200-299`.
    pub words: String,
}

impl Finding {
    /// A run that found the server working.
    pub fn passed(words: impl Into<String>) -> Self {
        Self { result: CheckResult::Passed(WeightChange::None), words: words.into() }
    }

    /// A run that found it not working.
    pub fn failed(words: impl Into<String>) -> Self {
        Self { result: CheckResult::Failed, words: words.into() }
    }
}

/// Result of one run of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckResult {
    /// The server works.
    Passed(WeightChange),
    /// It does not.
    Failed,
    /// What its agent asks for.
    Agent(AgentReply),
}

/// What a check that passed does to the weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightChange {
    /// Nothing.
    #[default]
    None,
    /// It takes the configured one's place (`misc_dynamic`).
    Set(u32),
    /// It is added to the configured one, which does not fall below 0 (`FILE_CHECK`).
    Add(i64),
}

/// A line of an agent (HAProxy's configuration manual, `agent-check`): every part may be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentReply {
    /// Percent of the configured weight.
    pub percent: Option<u32>,
    /// `ready`, `drain`, `maint`: what an administrator would say.
    pub administrative: Option<AgentMode>,
    /// `up` is true; `down`, `failed` and `stopped` are false.
    pub up: Option<bool>,
    /// What follows `#`, or the word that was used.
    pub reason: Option<String>,
}

/// What an agent says of new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentMode {
    /// They are taken; undoes the two others.
    Ready,
    /// They are not, those there are go on: weight 0.
    Drain,
    /// The server is out: as if it were down.
    Maint,
}
