//! Ten thousand checks: none late, none mute, and one change is no work for the others.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::print_stdout,
    reason = "tests fail loudly"
)]

mod support;

use std::collections::HashMap;
use std::time::Duration;

use elvs_health::{CheckId, Effect, Monitor, Time};
use elvs_model::health::{Check, Finding, Schedule, ServerHealth};
use elvs_model::{Desired, DestinationKey};
use support::*;

const SERVICES: u16 = 1_000;
const SERVERS: u16 = 10;

/// 1,000 services of 10 real servers each, each with a check of its own.
fn large(delay_loop: Duration) -> Desired {
    let mut services = Vec::new();
    for number in 0..SERVICES {
        let vip = format!("10.1.{}.{}", number / 250, number % 250);
        let mut service = bare(key(&vip, 80));
        for server in 0..SERVERS {
            let address = format!("10.{}.{}.{}", 2 + server, number / 250, number % 250);
            let destination = destination(&address, 80, 1);
            let mut health = ServerHealth::unwatched(destination.key);
            let schedule = Schedule { delay_loop, warmup: None, ..schedule() };
            health.checks.push(Check { kind: tcp_kind(&address, 80), schedule });
            service.destinations.push(destination);
            service.health.servers.push(health);
        }
        services.push(service);
    }
    desired(services)
}

/// Runs all that is due from `now` to `end`, each run taking no time; tells the number of runs, the longest gap between
/// two runs of a check, and the longest that one was late.
fn run(
    monitor: &mut Monitor,
    mut now: Time,
    end: Time,
    mut finding: impl FnMut(u64) -> Finding,
) -> (u64, Duration, Duration) {
    let mut last: HashMap<CheckId, Time> = HashMap::new();
    let (mut runs, mut gap, mut late) = (0, Duration::ZERO, Duration::ZERO);
    while let Some(next) = monitor.next_due().filter(|next| *next <= end) {
        late = late.max(now.saturating_sub(next));
        now = now.max(next);
        for start in monitor.due(now).starts {
            if let Some(before) = last.insert(start.check, now) {
                gap = gap.max(now - before);
            }
            let effects =
                monitor.finished(now, start.check, &finding(runs), Duration::from_micros(50));
            assert_eq!(effects.len(), 0);
            runs += 1;
        }
    }
    assert_eq!(last.len(), usize::from(SERVICES * SERVERS), "no check is mute");
    (runs, gap, late)
}

#[test]
fn ten_thousand_checks_run_for_an_hour_without_one_late() {
    let delay_loop = seconds(30);
    let config = large(delay_loop);
    let mut monitor = Monitor::new(42);
    monitor.configure(Time::ZERO, &config);
    // The warmup: first successes are logged.
    while let Some(next) = monitor.next_due().filter(|next| *next < delay_loop) {
        for start in monitor.due(next).starts {
            monitor.finished(next, start.check, &Finding::passed("connected"), Duration::ZERO);
        }
    }
    let hour = seconds(3_600);
    let passed = Finding::passed("connected");
    let (runs, gap, late) =
        run(&mut monitor, delay_loop, delay_loop + hour - Duration::from_nanos(1), |_| {
            passed.clone()
        });
    assert_eq!(runs, 10_000 * 120);
    assert_eq!((gap, late), (delay_loop, Duration::ZERO));
}

#[test]
fn one_real_servers_change_concerns_its_service_alone() {
    let config = large(seconds(1));
    let mut monitor = Monitor::new(42);
    monitor.configure(Time::ZERO, &config);
    let mut named = 0;
    while named < 50 {
        let now = monitor.next_due().unwrap();
        for start in monitor.due(now).starts {
            let failed = Finding::failed("refused");
            let effects = monitor.finished(now, start.check, &failed, Duration::ZERO);
            let table = |effect: &&Effect| matches!(effect, Effect::Destinations { .. });
            assert_eq!(effects.iter().filter(table).count(), 1, "{effects:?}");
            named += 1;
        }
    }
}

#[test]
fn equal_checks_of_a_thousand_services_are_one() {
    let mut config = large(seconds(1));
    let shared = destination("10.2.0.0", 80, 1);
    for service in &mut config.services {
        service.destinations[0] = shared;
        service.health.servers[0] = config_of(shared.key);
    }
    let mut monitor = Monitor::new(42);
    monitor.configure(Time::ZERO, &config);
    let view = monitor.view(Time::ZERO, WALL);
    assert_eq!((view.checks, view.wanted), (9_001, 10_000));
    assert_eq!(view.watched[999].servers[0].checks[0].shared_by, 1_000);
}

fn config_of(key: DestinationKey) -> ServerHealth {
    let mut health = ServerHealth::unwatched(key);
    health.checks.push(tcp(&key.address.to_string(), 80));
    health
}

#[test]
fn every_check_runs_each_second_and_what_is_known_is_restored() {
    let config = large(seconds(1));
    let mut monitor = Monitor::new(42);
    monitor.configure(Time::ZERO, &config);
    let mut now = Time::ZERO;
    // In the first second each begins at a time of its own.
    for (time, wanted) in [(1, 10_000), (10, 100_000)] {
        let end = now + seconds(time);
        let mut runs = 0;
        while let Some(next) = monitor.next_due().filter(|next| *next <= end) {
            now = next;
            for start in monitor.due(now).starts {
                runs += 1;
                let passed = Finding::passed("connected");
                monitor.finished(now, start.check, &passed, Duration::ZERO);
            }
        }
        now = end;
        assert_eq!(runs, wanted);
    }
    assert_eq!(monitor.configure(now, &config), [], "an unchanged reload");
    let mut changed = config;
    changed.services[500].destinations[3].weight = 2;
    monitor.configure(now, &changed);
    let effective = monitor.effective(&changed);
    let saved = serde_json::to_string(&monitor.save(now, WALL)).unwrap();
    let mut later = Monitor::new(1);
    later.restore(Time::ZERO, WALL, serde_json::from_str(&saved).unwrap());
    later.configure(Time::ZERO, &changed);
    assert_eq!(later.effective(&changed), effective);
}
