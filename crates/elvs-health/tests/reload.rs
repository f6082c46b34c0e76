//! Reloads and restarts: what did not change keeps its state.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::print_stdout,
    reason = "tests fail loudly"
)]

mod support;

use std::collections::HashSet;
use std::time::Duration;

use elvs_health::{Monitor, SavedState};
use elvs_model::Desired;
use elvs_model::health::{
    Check, CheckKind, CheckResult, CheckState, FileCheck, Finding, MiscCheck, Schedule,
    ServerState, TrackFile, WeightChange,
};
use support::*;

#[test]
fn an_unchanged_configuration_has_no_effect_and_moves_no_run() {
    let config = desired(vec![service(&[21, 22])]);
    let mut world = World::new(config.clone());
    world.kill("10.0.0.22");
    world.pass(seconds(13));
    let (view, due) = (world.monitor.view(world.now, world.wall()), world.monitor.next_due());
    world.news();
    world.configure(config);
    assert_eq!(world.all_news(), Vec::<String>::new());
    assert_eq!(world.monitor.view(world.now, world.wall()), view);
    assert_eq!(world.monitor.next_due(), due);
    world.pass(seconds(100));
    assert!(world.began.values().all(|times| times.len() == 12), "no run was lost or doubled");
}

#[test]
fn keepalived_1720_a_failed_real_server_stays_failed_over_a_reload_and_comes_back() {
    let mut world = World::new(desired(vec![service(&[21, 22])]));
    world.kill("10.0.0.21");
    world.pass(seconds(1));
    assert_eq!(world.destinations(), "22:1");
    world.configure(desired(vec![service(&[21, 22, 23])]));
    assert_eq!(world.destinations(), "22:1 23:1");
    world.pass(seconds(30));
    assert_eq!(world.destinations(), "22:1 23:1");
    world.revive("10.0.0.21");
    world.pass(seconds(10));
    assert_eq!(world.destinations(), "22:1 23:1 21:1");
}

#[test]
fn keepalived_1144_it_stays_failed_when_the_checks_parameters_change() {
    let changed = |delay_loop, port| {
        let mut config = service(&[21, 22]);
        config.health.servers[0].checks[0].schedule.delay_loop = seconds(delay_loop);
        config.health.servers[0].checks[0].kind = tcp_kind("10.0.0.21", port);
        desired(vec![config])
    };
    let mut world = World::new(changed(10, 80));
    world.kill("10.0.0.21");
    world.pass(seconds(1));
    for (delay_loop, port) in [(11, 80), (11, 8080), (10, 80)] {
        world.configure(changed(delay_loop, port));
        assert_eq!(world.destinations(), "22:1");
        world.pass(seconds(30));
        assert_eq!(world.destinations(), "22:1", "the new check fails as well");
    }
    world.configure(changed(12, 80));
    world.revive("10.0.0.21");
    world.pass(seconds(1));
    assert_eq!(world.destinations(), "22:1 21:1", "one success of the new check");
}

#[test]
fn a_real_server_that_works_is_not_taken_out_by_new_parameters() {
    let config = |retry, alpha| {
        let mut config = service(&[21]);
        config.health.servers[0].checks[0].schedule.retry = retry;
        config.health.servers[0].checks[0].schedule.alpha = alpha;
        desired(vec![config])
    };
    let mut world = World::new(config(2, true));
    world.pass(seconds(1));
    world.configure(config(3, true));
    assert_eq!(world.destinations(), "21:1");
    assert_eq!(world.news().last().unwrap(), "fifo VS [10.0.0.100]:tcp:80 UP");
    world.kill("10.0.0.21");
    world.pass(seconds(5));
    assert_eq!(world.destinations(), "21:1", "its failures are retried");
    world.pass(seconds(5));
    assert_eq!(world.destinations(), "");
}

#[test]
fn failures_that_were_counted_stay_counted() {
    let config = |retry| {
        let mut config = service(&[21]);
        config.health.servers[0].checks[0].schedule.retry = retry;
        desired(vec![config])
    };
    let mut world = World::new(config(3));
    world.pass(seconds(1));
    world.kill("10.0.0.21");
    world.pass(seconds(10));
    world.configure(config(2));
    world.pass(seconds(3));
    assert_eq!(world.destinations(), "", "one failure before, two after");
}

#[test]
fn checks_that_go_leave_nothing_behind() {
    let mut world = World::new(desired(vec![service(&[21])]));
    world.kill("10.0.0.21");
    world.pass(seconds(1));
    let mut config = service(&[21]);
    config.health.servers[0].checks.clear();
    world.configure(desired(vec![config]));
    assert_eq!(world.destinations(), "21:1", "without checks it is up");
    assert!(world.news().contains(&"fifo RS [10.0.0.21]:tcp:80 [10.0.0.100]:tcp:80 UP".to_owned()));
    world.configure(desired(Vec::new()));
    let view = world.monitor.view(world.now, world.wall());
    assert_eq!((view.checks, view.wanted, view.watched.len()), (0, 0, 0));
    world.pass(seconds(20));
    assert_eq!(world.monitor.next_due(), None);
}

#[test]
fn a_finding_of_a_removed_check_is_ignored() {
    let mut world = World::new(desired(vec![service(&[21])]));
    world.takes = seconds(5);
    world.kill("10.0.0.21");
    world.pass(seconds(1));
    world.configure(desired(vec![service(&[22])]));
    world.pass(seconds(20));
    assert_eq!(world.destinations(), "22:1");
}

#[test]
fn keepalived_2358_equal_checks_are_run_once() {
    let first = service(&[21, 22]);
    let mut second = first.clone();
    second.service.key = key("10.0.0.101", 80);
    let mut third = service(&[22]);
    third.service.key = key("10.0.0.102", 80);
    let mut world = World::new(desired(vec![first.clone(), second.clone(), third]));
    world.kill("10.0.0.22");
    world.pass(seconds(1));
    assert_eq!(world.began.len(), 2);
    assert!(world.table.values().all(|table| !weights(table).contains("22")));
    let view = world.monitor.view(world.now, world.wall());
    assert_eq!((view.checks, view.wanted), (2, 5));
    assert_eq!(view.watched[2].servers[0].checks[0].shared_by, 3);
    // Who comes later takes part in what is known.
    let mut fourth = service(&[22]);
    fourth.service.key = key("10.0.0.103", 80);
    let late = fourth.service.key;
    world.configure(desired(vec![second, first, fourth]));
    assert_eq!(weights(&world.table[&late]), "");
    let view = world.monitor.view(world.now, world.wall());
    assert_eq!((view.checks, view.wanted), (2, 5));
}

#[test]
fn a_sorry_server_that_goes_gives_those_that_live_back() {
    let config = |with_sorry: bool| {
        let mut config = service(&[21, 22]);
        config.health.quorum = 2;
        config.health.sorry_server = sorry("10.0.0.99", false).filter(|_| with_sorry);
        desired(vec![config])
    };
    let mut world = World::new(config(true));
    world.kill("10.0.0.21");
    world.pass(seconds(1));
    assert_eq!(world.destinations(), "99:1");
    world.configure(config(false));
    assert_eq!(world.destinations(), "22:1");
    world.configure(config(true));
    assert_eq!(world.destinations(), "99:1");
}

#[test]
fn drain_of_a_removed_real_server() {
    let config = |lasts: &[u8]| {
        let mut config = service(lasts);
        config.health.drain = Some(seconds(30));
        desired(vec![config])
    };
    let mut world = World::new(config(&[21, 22, 23]));
    world.configure(config(&[22, 23]));
    assert_eq!(world.destinations(), "21:0 22:1 23:1");
    let view = world.monitor.view(world.now, world.wall());
    let leaving = view.watched[0].servers.last().unwrap();
    assert_eq!((leaving.state, leaving.until), (ServerState::Leaving, Some(WALL + 30_000)));
    world.pass(seconds(20));
    world.configure(config(&[23]));
    assert_eq!(world.destinations(), "21:0 22:0 23:1");
    world.configure(config(&[22, 23]));
    assert_eq!(world.destinations(), "21:0 22:1 23:1", "22 is back in its place");
    world.pass(seconds(10));
    assert_eq!(world.destinations(), "22:1 23:1");
    world.pass(seconds(100));
    assert_eq!(world.destinations(), "22:1 23:1");
}

/// The next step of its slow start comes after it has gone out of the configuration.
#[test]
fn a_removed_real_server_in_slow_start_stays_out() {
    let config = |lasts: &[u8]| {
        let mut config = service(lasts);
        config.health.drain = Some(seconds(30));
        for server in &mut config.health.servers {
            server.slow_start = Some(seconds(60));
        }
        desired(vec![config])
    };
    let mut world = World::new(config(&[21, 22]));
    world.kill("10.0.0.21");
    world.pass(seconds(10));
    world.revive("10.0.0.21");
    world.pass(seconds(10));
    assert_eq!(world.destinations(), "22:1 21:1");
    world.configure(config(&[22]));
    assert_eq!(world.destinations(), "22:1 21:0");
    world.pass(seconds(5));
    assert_eq!(world.destinations(), "22:1 21:0", "no new connections while it drains");
    world.pass(seconds(25));
    assert_eq!(world.destinations(), "22:1");
}

#[test]
fn issue_4_a_failed_real_server_stays_failed_over_a_restart() {
    let mut config = service(&[21, 22, 23]);
    config.health.sorry_server = sorry("10.0.0.99", true);
    config.health.quorum = 2;
    let config = desired(vec![config]);
    let mut world = World::new(config.clone());
    world.kill("10.0.0.21");
    world.pass(seconds(1));
    world.revive("10.0.0.21");
    world.pass(seconds(15));
    world.kill("10.0.0.22");
    world.pass(seconds(15));
    assert_eq!(world.destinations(), "23:1 99:0 21:1");
    let saved = world.monitor.save(world.now, world.wall());
    let saved: SavedState = serde_json::from_str(&serde_json::to_string(&saved).unwrap()).unwrap();
    let before = world.monitor.view(world.now, world.wall());

    let wall = world.wall() + 1_000;
    world.monitor = Monitor::new(1);
    world.now = seconds(0);
    world.running.clear();
    world.monitor.restore(world.now, wall, saved);
    world.all_news();
    world.configure(config);
    assert_eq!(world.all_news(), Vec::<String>::new(), "nobody is told of what is known");
    assert_eq!(world.destinations(), "23:1 99:0 21:1", "order and weights are the same");
    let after = world.monitor.view(world.now, wall);
    for (old, new) in before.watched[0].servers.iter().zip(&after.watched[0].servers) {
        assert_eq!((old.state, old.since, &old.reason), (new.state, new.since, &new.reason));
        assert_eq!(old.history, new.history);
        let (old, new) = (&old.checks[0], &new.checks[0]);
        assert_eq!((old.state, old.since, old.runs), (new.state, new.since, new.runs));
    }
    assert_eq!(after.watched[0].servers[1].checks[0].state, CheckState::Down);
    world.revive("10.0.0.22");
    world.pass(seconds(10));
    assert_eq!(world.destinations(), "23:1 99:0 21:1 22:1");
}

#[test]
fn a_restart_with_changed_checks_keeps_the_failure_too() {
    let mut world = World::new(desired(vec![service(&[21, 22])]));
    world.kill("10.0.0.21");
    world.pass(seconds(1));
    let saved = world.monitor.save(world.now, world.wall());
    let wall = world.wall();
    world.monitor = Monitor::new(1);
    world.now = seconds(0);
    world.running.clear();
    world.monitor.restore(world.now, wall, saved);
    let mut config = service(&[21, 22]);
    config.health.servers[0].checks[0].schedule.retry = 5;
    world.configure(desired(vec![config]));
    assert_eq!(world.destinations(), "22:1");
    world.revive("10.0.0.21");
    world.pass(seconds(1));
    assert_eq!(world.destinations(), "22:1 21:1");
}

#[test]
fn no_password_is_in_a_saved_state() {
    let mut config = service(&[21]);
    let misc = elvs_model::health::MiscCheck {
        script: script("/check --password=secret"),
        timeout: None,
        dynamic: false,
    };
    config.health.servers[0].checks[0].kind = elvs_model::health::CheckKind::Misc(misc);
    let world = World::new(desired(vec![config]));
    let saved = serde_json::to_string(&world.monitor.save(world.now, world.wall())).unwrap();
    assert!(saved.contains("10.0.0.21") && !saved.contains("secret"), "{saved}");
}

#[test]
fn a_virtual_server_that_comes_later_tells_what_its_checks_found_already() {
    let at = |address: &str, lasts: &[u8]| {
        let mut config = service(lasts);
        config.service.key = key(address, 80);
        for server in &mut config.health.servers {
            server.mail = true;
        }
        config
    };
    let first = at("10.0.0.100", &[21]);
    let mut world = World::new(desired(vec![first.clone()]));
    world.kill("10.0.0.21");
    world.pass(seconds(1));
    world.news();
    let (half, none) = (at("10.0.0.101", &[21, 22]), at("10.0.0.102", &[21]));
    let all = desired(vec![first, half, none]);
    world.configure(all.clone());
    let down = |service: &str| {
        [
            format!("fifo RS [10.0.0.21]:tcp:80 [{service}]:tcp:80 DOWN"),
            format!(
                "mail Realserver [10.0.0.21]:tcp:80 of virtual server [{service}]:tcp:80 - DOWN: \
                 => TCP_CHECK: connection refused <="
            ),
        ]
    };
    let [half_fifo, half_mail] = down("10.0.0.101");
    let [none_fifo, none_mail] = down("10.0.0.102");
    assert_eq!(
        world.news(),
        [
            half_fifo.as_str(),
            &half_mail,
            "fifo VS [10.0.0.101]:tcp:80 UP",
            &none_fifo,
            &none_mail,
            "fifo VS [10.0.0.102]:tcp:80 DOWN",
        ]
    );
    world.configure(all);
    world.pass(seconds(30));
    assert_eq!(world.news(), Vec::<String>::new(), "it is told once");
    world.revive("10.0.0.21");
    world.pass(seconds(10));
    let up = "fifo VS [10.0.0.102]:tcp:80 UP".to_owned();
    assert!(world.news().contains(&up), "and so is what follows");
}

#[test]
fn keepalived_files_are_read_before_anything_else() {
    let file = |weight| Check {
        kind: CheckKind::File(FileCheck {
            file: TrackFile { name: "f".to_owned(), path: "/f".into(), initial: None },
            weight,
            reverse: false,
        }),
        schedule: schedule(),
    };
    let mut config = service(&[21, 22, 23]);
    config.health.servers[1].checks = vec![file(0)];
    config.health.servers[2].checks = vec![file(4)];
    let config = desired(vec![config]);
    let mut world = World::new(Desired::default());
    assert_eq!(world.monitor.foreseeable(&config), HashSet::from([&file(0), &file(4)]));
    world.monitor.foresee(file(0), Finding::failed("file says 1, wanted 0"));
    let result = CheckResult::Passed(WeightChange::Add(4));
    world.monitor.foresee(file(4), Finding { result, words: "file says 1".to_owned() });
    world.configure(config.clone());
    assert_eq!(world.destinations(), "21:1 23:5", "it is in no table, not even for a moment");
    let told = world.news();
    let down = "fifo RS [10.0.0.22]:tcp:80 [10.0.0.100]:tcp:80 DOWN";
    assert_eq!(told, [down, "fifo VS [10.0.0.100]:tcp:80 UP"]);
    assert!(world.monitor.foreseeable(&config).is_empty(), "they run now");
    assert_eq!(world.monitor.next_due(), Some(world.now), "at once");
    // What nothing was foreseen of counts as up until its first run.
    let mut blind = World::new(config);
    assert_eq!(blind.destinations(), "21:1 22:1 23:1");
    assert_eq!(blind.news(), ["fifo VS [10.0.0.100]:tcp:80 UP"]);
}

#[test]
fn a_weight_that_a_check_asked_for_stays_when_the_check_is_changed() {
    let config = |delay_loop| {
        let mut config = service(&[21]);
        let script = script("/weight");
        let kind = CheckKind::Misc(MiscCheck { script, timeout: None, dynamic: true });
        let delay_loop = seconds(delay_loop);
        let schedule = Schedule { delay_loop, warmup: Some(delay_loop), ..schedule() };
        config.health.servers[0].checks = vec![Check { kind, schedule }];
        desired(vec![config])
    };
    let run = |world: &mut World, weight| {
        world.now = world.monitor.next_due().unwrap();
        let starts = world.monitor.due(world.now).starts;
        let result = CheckResult::Passed(WeightChange::Set(weight));
        let finding = Finding { result, words: String::new() };
        for start in starts {
            let effects = world.monitor.finished(world.now, start.check, &finding, Duration::ZERO);
            world.take(effects);
        }
    };
    let mut world = World::new(config(10));
    run(&mut world, 0);
    assert_eq!(world.destinations(), "21:0");
    world.news();
    world.configure(config(60));
    assert_eq!(world.destinations(), "21:0", "not the configured weight until the first run");
    assert_eq!(world.news(), Vec::<String>::new());
    run(&mut world, 7);
    assert_eq!(world.destinations(), "21:7");
}
