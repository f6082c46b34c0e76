//! The kernel's jiffies, which mark every connection with the time of its last packet.
//!
//! **Invariant:** the daemon judges ages by the clock that packets are marked with; it is read by running a program that
//! returns it.
//!
//! Called when the tables are opened, and for every sweep and listing.

use aya::TestRunOptions;
use aya::programs::{ProgramError, TestRun, Xdp};
use nix::time::{ClockId, clock_getres};

/// Bytes of the frame that the program is run on: the kernel wants an Ethernet header.
const FRAME: usize = 64;
/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;
/// Least and greatest `CONFIG_HZ` of any kernel (`kernel/Kconfig.hz` and those of the architectures).
const RATES: std::ops::RangeInclusive<u64> = 24..=1_200;

/// Why the clock cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClockError {
    /// The kernel does not tell.
    #[error("cannot ask for the length of a jiffy (clock_getres): {0}")]
    Resolution(#[from] nix::Error),
    /// It tells what cannot be.
    #[error("the kernel's coarse clock has a step of {0} ns, which is no jiffy")]
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

/// Jiffies per second of this kernel: its coarse clocks go on once a jiffy, and say so (`KTIME_LOW_RES` in
/// `include/linux/hrtimer_defs.h`).
pub(super) fn rate() -> Result<u32, ClockError> {
    let step = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE)?;
    let nanoseconds = i128::from(step.tv_sec()) * i128::from(SECOND) + i128::from(step.tv_nsec());
    rate_of(u64::try_from(nanoseconds).unwrap_or(0))
}

/// The rate of jiffies of that many nanoseconds, rounded to a whole number a second.
fn rate_of(nanoseconds: u64) -> Result<u32, ClockError> {
    let rate = (SECOND + nanoseconds / 2).checked_div(nanoseconds).unwrap_or(0);
    if RATES.contains(&rate)
        && let Ok(rate) = u32::try_from(rate)
    {
        return Ok(rate);
    }
    Err(ClockError::Rate(nanoseconds))
}

/// The shift that makes a tick about 64 ms.
pub(super) const fn tick_shift(jiffies_per_second: u32) -> u32 {
    // A twelfth of a second (83 ms) down to a power of two: 64 ms at 1000, 250; 53 ms at 300; 80 ms at 100.
    (jiffies_per_second / 12).ilog2()
}

#[cfg(test)]
mod tests {
    use super::{ClockError, rate, rate_of, tick_shift};

    #[test]
    fn a_tick_is_about_64_milliseconds() {
        let shifts = [(1_000, 6), (250, 4), (300, 4), (100, 3), (24, 1)];
        for (rate, shift) in shifts {
            assert_eq!(tick_shift(rate), shift, "{rate}");
        }
    }

    #[test]
    fn steps_of_the_coarse_clock_are_jiffies() {
        // Values of `TICK_NSEC` for `CONFIG_HZ`.
        let steps = [(10_000_000, 100), (4_000_000, 250), (3_333_333, 300), (1_000_000, 1_000)];
        for (step, hz) in steps {
            assert_eq!(rate_of(step).unwrap(), hz, "{step}");
        }
        for step in [0, 1, u64::MAX] {
            assert!(matches!(rate_of(step), Err(ClockError::Rate(_))), "{step}");
        }
    }

    #[test]
    fn this_kernel_has_a_rate() {
        assert!(rate().unwrap() >= 24);
    }
}
