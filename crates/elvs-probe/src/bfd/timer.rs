//! A timer finer than the runtime's millisecond (timerfd_create(2)): BFD counts in microseconds.
//!
//! **Invariant:** it never expires before its time.
//!
//! Called by the driver.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// One timer.
#[derive(Debug)]
pub(super) struct Timer {
    descriptor: AsyncFd<Descriptor>,
    armed: Option<Instant>,
}

#[derive(Debug)]
struct Descriptor(TimerFd);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Timer {
    /// To be called inside a runtime.
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        let timer = Descriptor(timer);
        // SAFETY: `TimerFd` owns its descriptor and never exchanges it; it is dropped with the `AsyncFd`.
        let descriptor = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) }?;
        Ok(Self { descriptor, armed: None })
    }

    /// Sets the time at which it expires; `None` = never. What has expired unread is forgotten.
    pub(super) fn set(&mut self, at: Option<Instant>) {
        if at == self.armed {
            return;
        }
        let timer = &self.descriptor.get_ref().0;
        let set = match at {
            None => timer.unset(),
            Some(at) => {
                // Zero would switch it off.
                let wait = at.saturating_duration_since(Instant::now()).max(INSTANTLY);
                let wait = Expiration::OneShot(TimeSpec::from_duration(wait));
                timer.set(wait, TimerSetTimeFlags::empty())
            }
        };
        match set {
            Ok(()) => self.armed = at,
            Err(error) => tracing::error!("cannot set the timer of BFD: {error}"),
        }
    }

    /// Waits until it expires. May be cancelled.
    pub(super) async fn expired(&mut self) {
        let wait = |timer: &Descriptor| timer.0.wait().map_err(io::Error::from);
        let expired = self.descriptor.async_io(Interest::READABLE, wait).await;
        self.armed = None;
        if let Err(error) = expired {
            tracing::error!("cannot read the timer of BFD: {error}");
        }
    }
}

const INSTANTLY: Duration = Duration::from_nanos(1);
