//! Tries and their spacing under a simulated clock, as keepalived has them.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::print_stdout,
    reason = "tests fail loudly"
)]

mod support;

use std::time::Duration;

use elvs_model::health::{CheckKind, CheckResult, Finding, MiscCheck, WeightChange};
use support::*;

/// Seconds at which the only check of `world` ran.
fn runs(world: &World) -> Vec<u64> {
    assert_eq!(world.began.len(), 1);
    world.began.values().flatten().map(Duration::as_secs).collect()
}

#[test]
fn keepalived_3_9_spacing_of_an_up_check() {
    let mut world = World::new(desired(vec![service(&[21])]));
    world.pass(seconds(25));
    assert_eq!(runs(&world), [0, 10, 20]);
}

#[test]
fn keepalived_3_9_retries_then_down_then_every_delay_loop_then_up() {
    let mut config = service(&[21]);
    config.health.servers[0].checks[0].schedule.retry = 3;
    let mut world = World::new(desired(vec![config]));
    world.pass(seconds(5));
    world.kill("10.0.0.21");
    world.pass(seconds(10));
    assert_eq!(world.destinations(), "21:1", "three failures are not four");
    world.pass(seconds(1));
    assert_eq!(world.destinations(), "");
    world.pass(seconds(20));
    world.revive("10.0.0.21");
    world.pass(seconds(14));
    assert_eq!(world.destinations(), "21:1");
    assert_eq!(runs(&world), [0, 10, 12, 14, 16, 26, 36, 46]);
}

#[test]
fn keepalived_3_9_the_first_failure_is_final() {
    let mut config = service(&[21]);
    config.health.servers[0].checks[0].schedule.retry = 3;
    let mut world = World::new(desired(vec![config]));
    world.kill("10.0.0.21");
    assert_eq!(world.destinations(), "21:1", "there until its first check failed");
    world.pass(seconds(11));
    assert_eq!(world.destinations(), "");
    assert_eq!(runs(&world), [0, 10]);
}

#[test]
fn keepalived_3_9_alpha_waits_for_the_first_success() {
    let mut config = service(&[21]);
    config.health.servers[0].checks[0].schedule.alpha = true;
    let mut world = World::new(desired(vec![config]));
    world.kill("10.0.0.21");
    assert_eq!(world.destinations(), "");
    world.pass(seconds(1));
    assert_eq!(world.news(), ["fifo RS [10.0.0.21]:tcp:80 [10.0.0.100]:tcp:80 DOWN"]);
    world.revive("10.0.0.21");
    world.pass(seconds(10));
    assert_eq!(world.destinations(), "21:1");
}

#[test]
fn the_next_run_counts_from_the_end_of_the_last() {
    let mut world = World::new(desired(vec![service(&[21])]));
    world.takes = seconds(4);
    world.pass(seconds(29));
    assert_eq!(runs(&world), [0, 14, 28]);
}

#[test]
fn keepalived_check_misc_counts_from_the_start_of_the_script() {
    let mut config = service(&[21]);
    let kind = MiscCheck { script: script("/check"), timeout: None, dynamic: false };
    config.health.servers[0].checks[0].kind = CheckKind::Misc(kind);
    let mut monitor = elvs_health::Monitor::new(1);
    monitor.configure(seconds(0), &desired(vec![config]));
    let passed = Finding { result: CheckResult::Passed(WeightChange::None), words: String::new() };
    let start = monitor.due(seconds(0)).starts.remove(0);
    monitor.finished(seconds(4), start.check, &passed, seconds(4));
    assert_eq!(monitor.next_due(), Some(seconds(10)));
    let start = monitor.due(seconds(10)).starts.remove(0);
    monitor.finished(seconds(25), start.check, &passed, seconds(15));
    assert_eq!(monitor.next_due(), Some(seconds(25)), "one that took too long: at once");
}

#[test]
fn keepalived_3_9_warmup_spreads_first_runs() {
    for (warmup, most) in [(None, 10), (Some(seconds(3)), 3)] {
        let mut config = service(&(1..=200).collect::<Vec<u8>>());
        for server in &mut config.health.servers {
            server.checks[0].schedule.warmup = warmup;
        }
        let mut world = World::new(desired(vec![config]));
        world.pass(seconds(10));
        assert_eq!(world.began.len(), 200, "every check ran within the longest warmup");
        let first = |times: &Vec<Duration>| times[0];
        let early = world.began.values().map(first).filter(|at| *at < seconds(most) / 2).count();
        assert!((70..=130).contains(&early), "{early} of 200 in the first half of {most} s");
        assert!(world.began.values().map(first).all(|at| at <= seconds(most)));
    }
}

#[test]
fn a_run_that_does_not_end_is_not_started_again_and_ends_once() {
    let mut monitor = elvs_health::Monitor::new(1);
    monitor.configure(seconds(0), &desired(vec![service(&[21])]));
    let start = monitor.due(seconds(0)).starts.remove(0);
    assert_eq!(monitor.due(seconds(100)).starts, []);
    monitor.finished(seconds(100), start.check, &Finding::passed("connected"), seconds(1));
    let failed = Finding::failed("refused");
    for _ in 0..5 {
        assert_eq!(monitor.finished(seconds(101), start.check, &failed, seconds(1)), []);
    }
    assert_eq!(monitor.next_due(), Some(seconds(110)));
}
