use std::time::Duration;

use super::*;

const PASSIVE: Passive = Passive {
    least: 10,
    percent: 50,
    window: Duration::from_secs(16),
    hold: Duration::from_secs(30),
};

fn at(seconds: u64) -> Time {
    Duration::from_secs(seconds)
}

/// Takes a sample and judges, the others as given.
fn judged(
    window: &mut Window,
    now: Time,
    new: u64,
    failed: u64,
    others: (u64, u64),
) -> Option<Suspicion> {
    window.sample(&PASSIVE, now, new, failed);
    window.judge(&PASSIVE, others)
}

#[test]
fn judges_only_enough_connections_in_the_window() {
    let mut window = Window::default();
    assert_eq!(judged(&mut window, at(0), 9, 9, (0, 0)), None, "too few");
    assert_eq!(
        judged(&mut window, at(16), 9, 9, (0, 0)),
        None,
        "the first sample is out of the window"
    );
    let suspicion = Some(Suspicion { new: 10, failed: 9 });
    assert_eq!(judged(&mut window, at(17), 1, 0, (0, 0)), suspicion);
    assert_eq!(judged(&mut window, at(18), 1, 1, (0, 0)), None, "began anew");
}

#[test]
fn the_share_decides() {
    let mut window = Window::default();
    assert_eq!(judged(&mut window, at(0), 100, 49, (0, 0)), None);
    let suspicion = Some(Suspicion { new: 102, failed: 51 });
    assert_eq!(judged(&mut window, at(1), 2, 2, (0, 0)), suspicion);
}

#[test]
fn memory_is_bounded() {
    let mut window = Window::default();
    for sample in 0..10_000_u64 {
        window.sample(&PASSIVE, Duration::from_millis(10 * sample), 10, 0);
        assert!(window.buckets.len() <= 17, "{}", window.buckets.len());
    }
}

#[test]
fn who_does_no_worse_than_the_others_is_not_suspect() {
    let mut window = Window::default();
    assert_eq!(judged(&mut window, at(0), 20, 20, (40, 20)), None);
    let suspicion = Some(Suspicion { new: 20, failed: 20 });
    assert_eq!(judged(&mut window, at(1), 0, 0, (40, 19)), suspicion);
}
