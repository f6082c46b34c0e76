//! Moments that may lie before the start of the daemon, and how they stand to the wall clock.
//!
//! **Invariant:** a moment shown is never later than the wall clock, unless it is a deadline.
//!
//! Called by whatever keeps a `since`, and where states are saved, restored and shown.

use std::time::Duration;

use crate::Time;

/// Milliseconds since the start of the daemon; below 0 for what an earlier daemon saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(i64);

impl From<Time> for Moment {
    fn from(time: Time) -> Self {
        Self(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
    }
}

impl Moment {
    /// Time from `self` to `now`.
    pub(crate) fn until(self, now: Time) -> Duration {
        let elapsed = Self::from(now).0.saturating_sub(self.0);
        Duration::from_millis(u64::try_from(elapsed).unwrap_or(0))
    }
}

/// What the wall clock showed at a monotonic time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// The monotonic time.
    pub(crate) now: Time,
    /// The Unix time, in milliseconds.
    pub(crate) wall: u64,
}

impl Clock {
    /// Unix milliseconds of a moment.
    pub(crate) fn wall_of(self, moment: Moment) -> u64 {
        let ahead = moment.0.saturating_sub(Moment::from(self.now).0);
        self.wall.saturating_add_signed(ahead)
    }

    /// Unix milliseconds of a monotonic time.
    pub(crate) fn wall_at(self, time: Time) -> u64 {
        self.wall_of(Moment::from(time))
    }

    /// The moment of Unix milliseconds.
    pub(crate) fn moment_of(self, wall: u64) -> Moment {
        let wall = i64::try_from(wall).unwrap_or(i64::MAX);
        let ours = i64::try_from(self.wall).unwrap_or(i64::MAX);
        Moment(Moment::from(self.now).0.saturating_add(wall.saturating_sub(ours)))
    }

    /// The monotonic time of Unix milliseconds; `now` for what is past.
    pub(crate) fn deadline_of(self, wall: u64) -> Time {
        self.now + Duration::from_millis(wall.saturating_sub(self.wall))
    }
}
