//! Mails that wait, how often each is tried, and what became of the others. No I/O and no clock.
//!
//! **Invariant:** mails are sent in the order of what they tell; each ends as sent or as dropped, with a reason.
//!
//! Called by the notifier, which tries the first one.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime};

use elvs_model::health::MailView;

/// Mails that may wait, the one that is being sent among them.
pub(in crate::run::notify) const MOST_WAITING: usize = 256;
/// From a try that failed to the next one; the failure after the last pause is final. Together they outlast what a
/// failover takes of the network: spanning tree, neighbour tables, the mail server's own failover.
const PAUSES: [Duration; 3] =
    [Duration::from_secs(10), Duration::from_secs(30), Duration::from_secs(90)];

/// A mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::run::notify) struct Letter {
    /// Its subject, without the name of this director.
    pub(in crate::run::notify) subject: String,
    /// Its text.
    pub(in crate::run::notify) body: String,
    /// When it happened.
    pub(in crate::run::notify) date: SystemTime,
}

/// Why a mail was not sent in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::run::notify) enum Dropped {
    /// As many wait as may.
    QueueFull,
    /// The server refused it for good (RFC 5321 section 4.2.1, 5yz), or an address is none.
    Refused,
    /// All tries failed.
    TriesOver,
    /// The configuration names no server any more.
    NoServer,
    /// The daemon ended.
    Stopped,
}

impl Dropped {
    /// In words.
    pub(in crate::run::notify) const fn words(self) -> &'static str {
        match self {
            Self::QueueFull => "too many mails wait",
            Self::Refused => "refused for good",
            Self::TriesOver => "all tries failed",
            Self::NoServer => "mail is no longer configured",
            Self::Stopped => "the daemon ended",
        }
    }
}

/// The queue.
#[derive(Debug, Default)]
pub(in crate::run::notify) struct Queue {
    /// The first one is being sent; each with the tries that failed.
    waiting: VecDeque<(Letter, usize)>,
    sent: u64,
    tried_again: u64,
    dropped: BTreeMap<Dropped, u64>,
    /// Why the last try failed.
    trouble: Option<String>,
}

impl Queue {
    /// Takes a mail; answers whether it is the first, so that somebody must begin to send.
    ///
    /// # Errors
    /// Too many wait.
    pub(in crate::run::notify) fn push(&mut self, letter: Letter) -> Result<bool, Dropped> {
        if self.waiting.len() >= MOST_WAITING {
            self.count(Dropped::QueueFull);
            return Err(Dropped::QueueFull);
        }
        self.waiting.push_back((letter, 0));
        Ok(self.waiting.len() == 1)
    }

    /// The mail to be sent now.
    pub(in crate::run::notify) fn first(&self) -> Option<Letter> {
        self.waiting.front().map(|(letter, _)| letter.clone())
    }

    /// Whether the first one has failed as often as it may.
    pub(in crate::run::notify) fn tries_over(&self) -> bool {
        self.waiting.front().is_some_and(|(_, failed)| *failed > PAUSES.len())
    }

    /// The first one was sent.
    pub(in crate::run::notify) fn sent(&mut self) {
        self.waiting.pop_front();
        self.sent += 1;
        self.trouble = None;
    }

    /// The first one failed, which counts for all that wait: they would have met the same server, and so none is told
    /// hours late. Answers how long to wait until it is tried again; `None` = that was the last try.
    pub(in crate::run::notify) fn failed(&mut self, why: &str) -> Option<Duration> {
        self.trouble = Some(why.to_owned());
        for (_, failed) in &mut self.waiting {
            *failed += 1;
        }
        let (_, failed) = self.waiting.front()?;
        let pause = PAUSES.get(failed.checked_sub(1)?).copied();
        self.tried_again += u64::from(pause.is_some());
        pause
    }

    /// The first one is given up.
    pub(in crate::run::notify) fn drop_first(&mut self, why: Dropped) {
        self.waiting.pop_front();
        self.count(why);
    }

    /// What is shown.
    pub(in crate::run::notify) fn view(&self) -> MailView {
        let dropped = self.dropped.iter().map(|(why, number)| (why.words().to_owned(), *number));
        MailView {
            waiting: self.waiting.len(),
            sent: self.sent,
            tried_again: self.tried_again,
            dropped: dropped.collect(),
            trouble: self.trouble.clone(),
        }
    }

    fn count(&mut self, why: Dropped) {
        *self.dropped.entry(why).or_default() += 1;
    }
}

#[cfg(test)]
mod tests;
