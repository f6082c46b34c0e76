//! What keepalived has in part or not at all: weights by checks, agents, slow start, damping, passive checks, suspension.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::print_stdout,
    reason = "tests fail loudly"
)]

mod support;

use elvs_health::{Monitor, Start, Time};
use elvs_model::health::{
    AgentCheck, AgentMode, AgentReply, CheckKind, CheckResult, Damping, Finding, MiscCheck,
    Passive, ServerState, WeightChange,
};
use elvs_model::{Desired, DestinationKey};
use support::*;

fn weighted(kind: CheckKind, weight: u32) -> Desired {
    let mut config = service(&[21]);
    config.destinations[0].weight = weight;
    config.health.servers[0].checks[0].kind = kind;
    desired(vec![config])
}

fn misc() -> CheckKind {
    CheckKind::Misc(MiscCheck { script: script("/check"), timeout: None, dynamic: true })
}

fn agent() -> CheckKind {
    CheckKind::Agent(AgentCheck { target: target("10.0.0.21", 9), send: None })
}

/// Lets the only check run once with a result.
fn run(world: &mut World, result: CheckResult) {
    let next = world.monitor.next_due().unwrap();
    world.now = next;
    let start: Start = world.monitor.due(next).starts.remove(0);
    let finding = Finding { result, words: "told so".to_owned() };
    let effects = world.monitor.finished(next, start.check, &finding, seconds(0));
    world.take(effects);
}

fn state(world: &World, place: usize) -> ServerState {
    world.monitor.view(world.now, world.wall()).watched[0].servers[place].state
}

#[test]
fn keepalived_misc_dynamic_sets_the_weight() {
    let mut world = World::new(weighted(misc(), 5));
    world.all_news();
    run(&mut world, CheckResult::Passed(WeightChange::Set(9)));
    assert_eq!(world.destinations(), "21:9");
    assert_eq!(
        world.all_news(),
        [
            "table 21:9",
            "log [10.0.0.21]:tcp:80 MISC_CHECK passed: told so",
            "log [10.0.0.21]:tcp:80 weight changes from 5 to 9"
        ]
    );
    run(&mut world, CheckResult::Passed(WeightChange::Set(0)));
    assert_eq!(world.destinations(), "21:0");
    assert!(world.news().contains(&"fifo VS [10.0.0.100]:tcp:80 DOWN".to_owned()), "no weight");
    run(&mut world, CheckResult::Passed(WeightChange::None));
    assert_eq!(world.destinations(), "21:5");
}

#[test]
fn keepalived_file_check_adds_to_the_weight() {
    let mut world = World::new(weighted(misc(), 5));
    for (add, shown) in [(3, "21:8"), (-4, "21:1"), (-9, "21:0"), (i64::MAX, "21:2147483647")] {
        run(&mut world, CheckResult::Passed(WeightChange::Add(add)));
        assert_eq!(world.destinations(), shown);
    }
}

#[test]
fn haproxy_agent_replies() {
    let mut world = World::new(weighted(agent(), 10));
    let say = |percent, administrative, up| {
        CheckResult::Agent(AgentReply { percent, administrative, up, reason: None })
    };
    for (result, shown, shown_state) in [
        (say(Some(50), None, None), "21:5", ServerState::Up),
        (say(Some(1), None, None), "21:1", ServerState::Up),
        (say(Some(250), None, None), "21:25", ServerState::Up),
        (say(None, Some(AgentMode::Drain), None), "21:0", ServerState::Draining),
        (CheckResult::Failed, "21:0", ServerState::Draining),
        (say(None, Some(AgentMode::Ready), None), "21:25", ServerState::Up),
        (say(None, Some(AgentMode::Maint), None), "", ServerState::Maintenance),
        (say(None, None, Some(true)), "", ServerState::Maintenance),
        (say(Some(100), Some(AgentMode::Ready), None), "21:10", ServerState::Up),
        (say(None, None, Some(false)), "", ServerState::Down),
        (CheckResult::Failed, "", ServerState::Down),
        (say(Some(20), None, None), "", ServerState::Down),
        (say(None, None, Some(true)), "21:2", ServerState::Up),
        (CheckResult::Failed, "21:2", ServerState::Up),
    ] {
        let name = format!("{result:?}");
        run(&mut world, result);
        assert_eq!(
            (world.destinations().as_str(), state(&world, 0)),
            (shown, shown_state),
            "{name}"
        );
    }
}

#[test]
fn the_first_check_that_failed_is_the_reason_before_maintenance() {
    let mut config = weighted(agent(), 1);
    let checks = &mut config.services[0].health.servers[0].checks;
    checks.push(tcp("10.0.0.21", 80));
    checks.push(tcp("10.0.0.21", 81));
    let mut world = World::new(config);
    let starts = world.monitor.due(seconds(0)).starts;
    let reply = AgentReply { administrative: Some(AgentMode::Maint), ..AgentReply::default() };
    let agent = Finding { result: CheckResult::Agent(reply), words: "maint".to_owned() };
    let findings = [agent, Finding::failed("refused"), Finding::failed("reset")];
    let reasons = ["AGENT_CHECK: maint", "TCP_CHECK: refused", "TCP_CHECK: refused"];
    let states = [ServerState::Maintenance, ServerState::Down, ServerState::Down];
    for (place, start) in starts.iter().enumerate() {
        let effects = world.monitor.finished(seconds(0), start.check, &findings[place], seconds(0));
        world.take(effects);
        let view = world.monitor.view(world.now, world.wall());
        let server = &view.watched[0].servers[0];
        assert_eq!((server.state, server.reason.as_str()), (states[place], reasons[place]));
    }
}

#[test]
fn slow_start_grows_by_one_change_a_second() {
    let mut config = service(&[21]);
    config.destinations[0].weight = 100;
    config.health.servers[0].slow_start = Some(seconds(5));
    let mut world = World::new(desired(vec![config]));
    world.pass(seconds(5));
    assert_eq!(world.destinations(), "21:100", "the first time is no recovery");
    world.kill("10.0.0.21");
    world.pass(seconds(10));
    world.revive("10.0.0.21");
    world.news();
    world.pass(seconds(7));
    assert_eq!((world.destinations().as_str(), state(&world, 0)), ("21:1", ServerState::SlowStart));
    let view = world.monitor.view(world.now, world.wall());
    assert_eq!(
        (view.watched[0].weight, view.watched[0].up),
        (100, true),
        "the quorum counts it whole"
    );
    world.pass(seconds(10));
    let tables: Vec<String> =
        world.news().into_iter().filter(|line| line.starts_with("table")).collect();
    assert_eq!(
        tables,
        ["table 21:1", "table 21:20", "table 21:40", "table 21:60", "table 21:80", "table 21:100"]
    );
    assert_eq!(state(&world, 0), ServerState::Up);
}

#[test]
fn slow_start_goes_on_whatever_else_happens() {
    let mut config = service(&[21]);
    config.destinations[0].weight = 100;
    let server = &mut config.health.servers[0];
    server.slow_start = Some(seconds(10));
    let mut noisy = tcp("10.0.0.22", 80);
    noisy.schedule.retry = 1_000;
    noisy.schedule.log_all_failures = true;
    noisy.schedule.delay_before_retry = std::time::Duration::from_millis(300);
    server.checks.push(noisy);
    let mut world = World::new(desired(vec![config]));
    world.pass(seconds(5));
    world.kill("10.0.0.21");
    world.pass(seconds(10));
    world.revive("10.0.0.21");
    world.kill("10.0.0.22");
    world.pass(seconds(10));
    let mut steps = Vec::new();
    for _ in 0..100 {
        world.pass(std::time::Duration::from_millis(100));
        steps.push(world.destinations());
    }
    steps.dedup();
    let one_a_second = ["21:30", "21:40", "21:50", "21:60", "21:70", "21:80", "21:90", "21:100"];
    assert_eq!(steps, one_a_second);
}

#[test]
fn flap_damping_holds_down_longer_each_time() {
    let mut config = service(&[21, 22]);
    let damping = Damping { window: seconds(60), first: seconds(20), most: seconds(50) };
    config.health.servers[0].damping = Some(damping);
    config.health.servers[0].checks[0].schedule.retry = 0;
    config.health.servers[0].checks[0].schedule.delay_loop = seconds(1);
    let mut world = World::new(desired(vec![config]));
    world.pass(seconds(1));
    let mut waits = Vec::new();
    for _ in 0..5 {
        world.kill("10.0.0.21");
        world.pass(seconds(2));
        assert_eq!(world.destinations(), "22:1");
        world.revive("10.0.0.21");
        let mut wait = 0;
        while state(&world, 0) != ServerState::Up {
            world.pass(seconds(1));
            wait += 1;
        }
        waits.push(wait - 1);
    }
    assert_eq!(waits, [0, 20, 40, 50, 50]);
    world.pass(seconds(60));
    world.kill("10.0.0.21");
    world.pass(seconds(2));
    world.revive("10.0.0.21");
    world.pass(seconds(1));
    assert_eq!(state(&world, 0), ServerState::Up, "it had been up for long enough");
}

#[test]
fn a_failure_while_held_down_starts_the_wait_anew() {
    let mut config = service(&[21]);
    let damping = Damping { window: seconds(60), first: seconds(20), most: seconds(50) };
    config.health.servers[0].damping = Some(damping);
    config.health.servers[0].checks[0].schedule.retry = 0;
    let mut world = World::new(desired(vec![config]));
    for _ in 0..2 {
        world.kill("10.0.0.21");
        world.pass(seconds(10));
        world.revive("10.0.0.21");
        world.pass(seconds(10));
    }
    assert_eq!(state(&world, 0), ServerState::HeldDown);
    world.kill("10.0.0.21");
    world.pass(seconds(10));
    assert_eq!(state(&world, 0), ServerState::Down);
    world.revive("10.0.0.21");
    world.pass(seconds(25));
    assert_eq!(state(&world, 0), ServerState::HeldDown);
    world.pass(seconds(5));
    assert_eq!(state(&world, 0), ServerState::Up);
}

#[test]
fn only_a_failure_is_held_down() {
    let mut config = weighted(agent(), 1);
    let damping = Damping { window: seconds(60), first: seconds(20), most: seconds(50) };
    config.services[0].health.servers[0].damping = Some(damping);
    let mut world = World::new(config);
    let say = |administrative, up| {
        CheckResult::Agent(AgentReply { percent: None, administrative, up, reason: None })
    };
    for up in [true, false, true, false, true] {
        run(&mut world, say(None, Some(up)));
    }
    assert_eq!(state(&world, 0), ServerState::HeldDown, "two failures within a minute");
    run(&mut world, say(None, Some(true)));
    let deadline = world.monitor.next_due().unwrap();
    world.now = deadline;
    let due = world.monitor.due(deadline);
    world.take(due.effects);
    assert_eq!(state(&world, 0), ServerState::Up);
    for start in due.starts {
        world.monitor.finished(world.now, start.check, &Finding::passed("up"), seconds(0));
    }
    run(&mut world, say(Some(AgentMode::Maint), None));
    assert_eq!(state(&world, 0), ServerState::Maintenance);
    run(&mut world, say(Some(AgentMode::Ready), None));
    assert_eq!(state(&world, 0), ServerState::Up, "maintenance is no flap");
}

#[test]
fn passive_checks_take_a_suspect_out_for_a_while() {
    let mut config = service(&[21, 22]);
    let passive = Passive { least: 10, percent: 50, window: seconds(10), hold: seconds(30) };
    config.health.servers[0].passive = Some(passive);
    config.health.servers[0].mail = true;
    let mut world = World::new(desired(vec![config]));
    let service = key("10.0.0.100", 80);
    let watched = DestinationKey { address: ip("10.0.0.21"), port: 80 };
    let other = DestinationKey { address: ip("10.0.0.22"), port: 80 };
    assert_eq!(world.monitor.passive(), [(service, watched)]);
    world.pass(seconds(1));
    let sample = |world: &mut World, key, new, failed| {
        let effects = world.monitor.passive_sample(world.now, &service, &key, new, failed);
        world.take(effects);
        world.destinations()
    };
    assert_eq!(sample(&mut world, watched, 10, 4), "21:1 22:1");
    assert_eq!(sample(&mut world, other, 100, 100), "21:1 22:1", "it has no passive check");
    world.news();
    assert_eq!(sample(&mut world, watched, 2, 2), "22:1");
    let reason = "of 12 new connections 6 got no answer or a reset";
    let about = "Realserver [10.0.0.21]:tcp:80 of virtual server [10.0.0.100]:tcp:80";
    assert_eq!(
        world.news(),
        [
            "table 22:1",
            "fifo RS [10.0.0.21]:tcp:80 [10.0.0.100]:tcp:80 DOWN",
            &format!("mail {about} - DOWN: => {reason} <="),
        ]
    );
    let view = world.monitor.view(world.now, world.wall());
    let server = &view.watched[0].servers[0];
    assert_eq!(server.state, ServerState::Suspect);
    assert_eq!(server.reason, reason);
    assert_eq!(server.until, Some(world.wall() + 30_000));
    world.pass(seconds(29));
    assert_eq!(world.destinations(), "22:1", "its active checks pass all the while");
    world.pass(seconds(1));
    assert_eq!(world.destinations(), "22:1 21:1");
}

#[test]
fn clients_that_never_answer_take_nobody_out() {
    let mut config = service(&[21, 22]);
    let passive = Passive { least: 10, percent: 50, window: seconds(10), hold: seconds(30) };
    for server in &mut config.health.servers {
        server.passive = Some(passive);
    }
    let mut world = World::new(desired(vec![config]));
    let service = key("10.0.0.100", 80);
    world.pass(seconds(1));
    let sample = |world: &mut World, last: u8, new, failed| {
        let key = DestinationKey { address: ip(&format!("10.0.0.{last}")), port: 80 };
        let effects = world.monitor.passive_sample(world.now, &service, &key, new, failed);
        world.take(effects);
        world.destinations()
    };
    sample(&mut world, 21, 9, 9);
    assert_eq!(sample(&mut world, 22, 100, 90), "21:1 22:1", "both fail");
    assert_eq!(sample(&mut world, 21, 100, 90), "21:1 22:1", "both fail");
    sample(&mut world, 22, 300, 0);
    assert_eq!(sample(&mut world, 21, 1, 1), "22:1", "one does better");
    assert_eq!(sample(&mut world, 22, 3_000, 3_000), "22:1", "the last one stays");
}

#[test]
fn keepalived_conf_ha_suspend() {
    let mut config = service(&[21]);
    config.health.ha_suspend = true;
    let mut plain = service(&[22]);
    plain.service.key = key("10.0.0.101", 80);
    let mut world = World::new(desired(vec![config.clone(), plain.clone()]));
    let runs = |world: &World| -> Vec<usize> {
        let view = world.monitor.view(world.now, world.wall());
        let runs = view.watched.iter().map(|unit| unit.servers[0].checks[0].runs);
        runs.map(|runs| usize::try_from(runs).unwrap()).collect()
    };
    let tell = |world: &mut World, address: &str, present| {
        let effects = world.monitor.vip_present(world.now, ip(address), present);
        world.take(effects);
    };
    world.pass(seconds(15));
    assert_eq!(runs(&world), [0, 2]);
    assert!(world.monitor.view(world.now, world.wall()).watched[0].suspended);
    tell(&mut world, "10.0.0.101", true);
    world.pass(seconds(10));
    assert_eq!(runs(&world), [0, 3], "another address");
    tell(&mut world, "10.0.0.100", true);
    tell(&mut world, "10.0.0.100", true);
    world.pass(seconds(10));
    assert_eq!(runs(&world), [2, 4]);
    tell(&mut world, "10.0.0.100", false);
    world.pass(seconds(50));
    assert_eq!(runs(&world)[0], 2);
    assert_eq!(world.destinations(), "21:1", "suspended, it stays as it was");
    tell(&mut world, "10.0.0.100", true);
    world.configure(desired(vec![config, plain]));
    world.pass(seconds(1));
    assert_eq!(runs(&world)[0], 3);
}

#[test]
fn checks_suspended_and_resumed_run_no_more_often() {
    let mut config = service(&[21]);
    config.health.ha_suspend = true;
    config.health.servers[0].checks[0].schedule.warmup = None;
    let mut world = World::new(desired(vec![config]));
    for present in [true, false, true, false, true] {
        let effects = world.monitor.vip_present(world.now, ip("10.0.0.100"), present);
        world.take(effects);
        world.pass(std::time::Duration::from_millis(10));
    }
    world.pass(seconds(100));
    let times: Vec<Time> = world.began.values().flatten().copied().collect();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] == seconds(10)), "{times:?}");
}

#[test]
fn a_shared_check_runs_while_one_of_those_who_share_it_is_not_suspended() {
    let mut first = service(&[21]);
    first.health.ha_suspend = true;
    let mut second = service(&[21]);
    second.service.key = key("10.0.0.101", 80);
    let mut world = World::new(desired(vec![first.clone(), second]));
    world.pass(seconds(1));
    assert_eq!(world.began.len(), 1);
    world.configure(desired(vec![first]));
    world.pass(seconds(100));
    assert_eq!(world.began.values().flatten().count(), 1, "the other one went");
}

#[test]
fn what_nobody_watches_is_left_alone() {
    let mut config = bare(key("10.0.0.100", 80));
    config.destinations.push(destination("10.0.0.21", 80, 7));
    let config = desired(vec![config]);
    let mut monitor = Monitor::new(1);
    assert_eq!(monitor.configure(Time::ZERO, &config), []);
    assert_eq!(monitor.effective(&config), config);
    assert_eq!(
        monitor.destinations(&key("10.0.0.100", 80)).unwrap(),
        config.services[0].destinations
    );
    assert_eq!(monitor.destinations(&key("10.0.0.9", 80)), None);
    assert_eq!(monitor.next_due(), None);
}
