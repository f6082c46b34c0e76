//! The kernel's jiffies, which mark every connection with the time of its last packet.
//!
//! **Invariant:** the daemon judges ages by the clock that packets are marked with; it is read by running a program that
//! returns it.
//!
//! Called when the tables are opened, and for every sweep and listing.

use std::time::{Duration, Instant};

use aya::TestRunOptions;
use aya::programs::{ProgramError, TestRun, Xdp};

/// Bytes of the frame that the program is run on: the kernel wants an Ethernet header.
const FRAME: usize = 64;
/// Time over which jiffies are counted.
const MEASURED: Duration = Duration::from_millis(50);
/// Values of the kernel's `CONFIG_HZ` (`kernel/Kconfig.hz`).
const KNOWN: [u32; 4] = [100, 250, 300, 1_000];
/// Longest wait for a jiffy to end.
const LONGEST_JIFFY: Duration = Duration::from_millis(100);

/// Why the clock cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClockError {
    /// The program does not run.
    #[error("the clock program does not run: {0}")]
    Run(#[from] ProgramError),
    /// The clock stands still.
    #[error("the kernel's jiffies stand still")]
    Still,
    /// It runs at a rate that no kernel is built with.
    #[error("the kernel counts {0} jiffies a second: expected 100, 250, 300 or 1000")]
    Rate(u64),
}

/// Jiffies now.
pub(super) fn jiffies(program: &Xdp) -> Result<u64, ProgramError> {
    let frame = [0; FRAME];
    let mut answer = [0; FRAME];
    let mut options = TestRunOptions::new();
    options.data_in = Some(&frame);
    options.data_out = Some(&mut answer);
    program.test_run(options)?;
    let [a, b, c, d, e, f, g, h, ..] = answer;
    Ok(u64::from_ne_bytes([a, b, c, d, e, f, g, h]))
}

/// Waits for the next jiffy to begin.
fn edge(program: &Xdp) -> Result<(u64, Instant), ClockError> {
    let begun = Instant::now();
    let first = jiffies(program)?;
    loop {
        let now = jiffies(program)?;
        if now != first {
            return Ok((now, Instant::now()));
        }
        if begun.elapsed() > LONGEST_JIFFY {
            return Err(ClockError::Still);
        }
    }
}

/// Jiffies per second of this kernel.
pub(super) fn rate(program: &Xdp) -> Result<u32, ClockError> {
    let (first, begun) = edge(program)?;
    std::thread::sleep(MEASURED);
    let (last, ended) = edge(program)?;
    snap(last.wrapping_sub(first), ended.duration_since(begun))
}

/// The known rate next to `jiffies` in `time`.
fn snap(jiffies: u64, time: Duration) -> Result<u32, ClockError> {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
    let measured = jiffies.saturating_mul(1_000_000) / micros;
    let near = |rate: &u32| measured.abs_diff(u64::from(*rate)) * 12 <= u64::from(*rate);
    KNOWN.into_iter().find(near).ok_or(ClockError::Rate(measured))
}

/// The shift that makes a tick about 64 ms.
pub(super) const fn tick_shift(jiffies_per_second: u32) -> u32 {
    // A twelfth of a second (83 ms) down to a power of two: 64 ms at 1000, 250; 53 ms at 300; 80 ms at 100.
    (jiffies_per_second / 12).ilog2()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{ClockError, snap, tick_shift};

    #[test]
    fn a_tick_is_about_64_milliseconds() {
        let shifts = [(1_000, 6), (250, 4), (300, 4), (100, 3)];
        for (rate, shift) in shifts {
            assert_eq!(tick_shift(rate), shift, "{rate}");
        }
    }

    #[test]
    fn measured_rates_snap_to_those_that_kernels_are_built_with() {
        let ms = Duration::from_millis;
        let rows = [(13, 52, 250), (15, 50, 300), (50, 50, 1_000), (53, 52, 1_000), (5, 50, 100)];
        for (jiffies, time, rate) in rows {
            assert_eq!(snap(jiffies, ms(time)).unwrap(), rate, "{jiffies} in {time} ms");
        }
        assert!(matches!(snap(1, ms(50)), Err(ClockError::Rate(20))));
        assert!(matches!(snap(0, ms(50)), Err(ClockError::Rate(0))));
    }
}
