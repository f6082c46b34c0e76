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

#[test]
fn judges_only_enough_connections_in_the_window() {
    let mut window = Window::default();
    assert_eq!(window.sample(&PASSIVE, at(0), 9, 9), None, "too few");
    assert_eq!(
        window.sample(&PASSIVE, at(16), 9, 9),
        None,
        "the first sample is out of the window"
    );
    let suspicion = Some(Suspicion { new: 10, failed: 9 });
    assert_eq!(window.sample(&PASSIVE, at(17), 1, 0), suspicion);
    assert_eq!(window.sample(&PASSIVE, at(18), 1, 1), None, "began anew");
}

#[test]
fn the_share_decides() {
    let mut window = Window::default();
    assert_eq!(window.sample(&PASSIVE, at(0), 100, 49), None);
    let suspicion = Some(Suspicion { new: 102, failed: 51 });
    assert_eq!(window.sample(&PASSIVE, at(1), 2, 2), suspicion);
}

#[test]
fn memory_is_bounded() {
    let mut window = Window::default();
    for sample in 0..10_000_u64 {
        window.sample(&PASSIVE, Duration::from_millis(10 * sample), 10, 0);
        assert!(window.buckets.len() <= 17, "{}", window.buckets.len());
    }
}
