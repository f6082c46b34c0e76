//! Who is told, in which order and words.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::print_stdout,
    reason = "tests fail loudly"
)]

mod support;

use elvs_health::Monitor;
use elvs_model::Desired;
use elvs_model::health::{BfdCheck, Check, CheckKind};
use support::*;

fn loud(lasts: &[u8]) -> Desired {
    let mut config = service(lasts);
    config.health.mail = true;
    config.health.quorum_up = Some(script("quorum-up"));
    config.health.quorum_down = Some(script("quorum-down"));
    for server in &mut config.health.servers {
        server.mail = true;
        server.notify_up = Some(script("rs-up"));
        server.notify_down = Some(script("rs-down"));
    }
    desired(vec![config])
}

#[test]
fn keepalived_order_and_words_of_scripts_fifo_and_mails() {
    let mut world = World::new(loud(&[21]));
    let start =
        "mail Virtualserver [10.0.0.100]:tcp:80 - UP: => Starting with quorum up 1+0=1 <= 1 <=";
    assert_eq!(
        world.news(),
        ["script quorum-up of [10.0.0.100]:tcp:80", "fifo VS [10.0.0.100]:tcp:80 UP", start],
        "the start of the daemon is told"
    );
    world.pass(seconds(1));
    assert_eq!(world.news(), Vec::<String>::new(), "a first success is no change");
    world.kill("10.0.0.21");
    world.pass(seconds(15));
    assert_eq!(
        world.news(),
        [
            "table ",
            "script rs-down of [10.0.0.21]:tcp:80 of [10.0.0.100]:tcp:80",
            "fifo RS [10.0.0.21]:tcp:80 [10.0.0.100]:tcp:80 DOWN",
            "script quorum-down of [10.0.0.100]:tcp:80",
            "fifo VS [10.0.0.100]:tcp:80 DOWN",
            "mail Virtualserver [10.0.0.100]:tcp:80 - DOWN: => Lost quorum 1+0=1 <= 0 <=",
            "mail Realserver [10.0.0.21]:tcp:80 of virtual server [10.0.0.100]:tcp:80 - DOWN: => TCP CHECK failed on service <=",
        ]
    );
    world.revive("10.0.0.21");
    world.pass(seconds(15));
    assert_eq!(
        world.news(),
        [
            "table 21:1",
            "script rs-up of [10.0.0.21]:tcp:80 of [10.0.0.100]:tcp:80",
            "fifo RS [10.0.0.21]:tcp:80 [10.0.0.100]:tcp:80 UP",
            "script quorum-up of [10.0.0.100]:tcp:80",
            "fifo VS [10.0.0.100]:tcp:80 UP",
            "mail Virtualserver [10.0.0.100]:tcp:80 - UP: => Gained quorum 1+0=1 <= 1 <=",
            "mail Realserver [10.0.0.21]:tcp:80 of virtual server [10.0.0.100]:tcp:80 - UP: => TCP CHECK succeed on service <=",
        ]
    );
}

#[test]
fn keepalived_conf_rs_init_notifies() {
    let mut config = loud(&[21]);
    config.health.notifications.initial = true;
    let mut world = World::new(config);
    assert_eq!(
        world.news()[..2],
        [
            "script rs-up of [10.0.0.21]:tcp:80 of [10.0.0.100]:tcp:80",
            "fifo RS [10.0.0.21]:tcp:80 [10.0.0.100]:tcp:80 UP"
        ]
    );
}

#[test]
fn keepalived_conf_omega_tells_when_the_daemon_stops() {
    let mut config = loud(&[21, 22]);
    config.services[0].health.omega = true;
    let mut world = World::new(config);
    world.kill("10.0.0.22");
    world.pass(seconds(1));
    world.news();
    let effects = world.monitor.stopping(world.now);
    world.take(effects);
    assert_eq!(
        world.news(),
        [
            "script rs-down of [10.0.0.21]:tcp:80 of [10.0.0.100]:tcp:80",
            "fifo RS [10.0.0.21]:tcp:80 [10.0.0.100]:tcp:80 DOWN",
            "mail Realserver [10.0.0.21]:tcp:80 of virtual server [10.0.0.100]:tcp:80 - DOWN: => Shutting down <=",
            "script quorum-down of [10.0.0.100]:tcp:80",
            "fifo VS [10.0.0.100]:tcp:80 DOWN",
            "mail Virtualserver [10.0.0.100]:tcp:80 - DOWN: => Shutting down <=",
        ],
        "22 was down already"
    );
}

#[test]
fn a_real_server_that_is_removed_by_a_reload_is_told_of() {
    let mut world = World::new(loud(&[21, 22]));
    world.news();
    world.configure(loud(&[22]));
    assert_eq!(
        world.news(),
        [
            "script rs-down of [10.0.0.21]:tcp:80 of [10.0.0.100]:tcp:80",
            "fifo RS [10.0.0.21]:tcp:80 [10.0.0.100]:tcp:80 DOWN",
            "mail Realserver [10.0.0.21]:tcp:80 of virtual server [10.0.0.100]:tcp:80 - DOWN: => Removing <=",
        ]
    );
    world.configure(desired(Vec::new()));
    let news = world.news();
    assert_eq!(
        news[0..2],
        [
            "script rs-down of [10.0.0.22]:tcp:80 of [10.0.0.100]:tcp:80",
            "fifo RS [10.0.0.22]:tcp:80 [10.0.0.100]:tcp:80 DOWN"
        ]
    );
    assert_eq!(
        news[3..5],
        ["script quorum-down of [10.0.0.100]:tcp:80", "fifo VS [10.0.0.100]:tcp:80 DOWN"]
    );
}

#[test]
fn a_second_check_that_fails_changes_nothing_but_is_mailed() {
    let mut config = loud(&[21]);
    let mut other = tcp("10.0.0.21", 81);
    other.schedule.delay_loop = seconds(100);
    config.services[0].health.servers[0].checks.push(other);
    let mut world = World::new(config);
    world.kill("10.0.0.21");
    world.pass(seconds(1));
    let news = world.news();
    let count = |start: &str| news.iter().filter(|line| line.starts_with(start)).count();
    assert_eq!((count("script rs-down"), count("fifo RS"), count("mail Realserver")), (1, 1, 2));
    world.revive("10.0.0.21");
    world.pass(seconds(20));
    assert_eq!(world.destinations(), "", "one of two checks is still down");
    world.pass(seconds(100));
    assert_eq!(world.destinations(), "21:1");
}

#[test]
fn bfd_is_told_not_run_and_needs_no_retry() {
    let mut config = loud(&[21]);
    let kind = CheckKind::Bfd(BfdCheck { instance: "peer".to_owned() });
    let check = Check { kind, schedule: schedule() };
    config.services[0].health.servers[0].checks = vec![check];
    let mut world = World::new(config.clone());
    world.pass(seconds(100));
    assert!(world.began.is_empty());
    assert_eq!(world.destinations(), "21:1");
    world.news();
    let effects = world.monitor.bfd_changed(world.now, "peer", false, "detection time expired");
    world.take(effects);
    assert_eq!(world.destinations(), "");
    let mail = "mail Realserver [10.0.0.21]:tcp:80 of virtual server [10.0.0.100]:tcp:80 - DOWN: => BFD CHECK peer failed on service <=";
    assert!(world.news().contains(&mail.to_owned()));
    assert_eq!(world.monitor.bfd_changed(world.now, "other", false, "down"), []);

    let mut more = config.services[0].clone();
    more.service.key = key("10.0.0.101", 80);
    more.health.servers[0].notify_up = None;
    let other = more.service.key;
    config.services.push(more);
    world.configure(config);
    assert_eq!(weights(&world.table[&other]), "", "a service that comes later knows the session");
    let effects = world.monitor.bfd_changed(world.now, "peer", true, "three way handshake");
    world.take(effects);
    assert_eq!(
        (world.destinations(), weights(&world.table[&other])),
        ("21:1".into(), "21:1".into())
    );
}

#[test]
fn keepalived_conf_log_all_failures() {
    for (all, lines) in [(false, 0), (true, 2)] {
        let mut config = loud(&[21]);
        let schedule = &mut config.services[0].health.servers[0].checks[0].schedule;
        schedule.log_all_failures = all;
        schedule.retry = 2;
        let mut world = World::new(config);
        world.pass(seconds(5));
        world.kill("10.0.0.21");
        world.pass(seconds(100));
        let told = world.all_news();
        let tries = told.iter().filter(|line| line.contains("tried again in 2s"));
        assert_eq!(tries.count(), lines, "{told:#?}");
    }
}

/// What is told at the start after an orderly end.
fn told_after_end(mut world: World, goes_on: bool) -> Vec<String> {
    let saved = world.monitor.save_at_end(world.now, world.wall(), goes_on);
    let effects = world.monitor.stopping(world.now);
    world.take(effects);
    world.news();
    let text = serde_json::to_string(&saved).unwrap();
    world.monitor = Monitor::new(9);
    let wall = world.wall();
    world.monitor.restore(world.now, wall, serde_json::from_str(&text).unwrap());
    let before = world.table.clone();
    world.configure(world.desired.clone());
    assert_eq!(world.table, before);
    let told = world.news();
    world.pass(seconds(30));
    assert_eq!(world.news(), Vec::<String>::new(), "all is told by then");
    told
}

#[test]
fn keepalived_tells_at_every_start_how_things_stand() {
    let world = |omega: bool, dead: &[&str]| {
        let mut config = loud(&[21, 22]);
        config.services[0].health.omega = omega;
        config.services[0].health.mail = false;
        let mut world = World::new(config);
        dead.iter().for_each(|dead| world.kill(dead));
        world.pass(seconds(30));
        world
    };
    let server = |last: u8, up: bool| {
        let name = format!("[10.0.0.{last}]:tcp:80");
        let (script, word) = if up { ("rs-up", "UP") } else { ("rs-down", "DOWN") };
        [
            format!("script {script} of {name} of [10.0.0.100]:tcp:80"),
            format!("fifo RS {name} [10.0.0.100]:tcp:80 {word}"),
        ]
    };
    let service = |up: bool| {
        let (script, word) = if up { ("quorum-up", "UP") } else { ("quorum-down", "DOWN") };
        [
            format!("script {script} of [10.0.0.100]:tcp:80"),
            format!("fifo VS [10.0.0.100]:tcp:80 {word}"),
        ]
    };
    let (alive, half, none) = (&[][..], &["10.0.0.22"][..], &["10.0.0.21", "10.0.0.22"][..]);
    // The table was gone in between: quorum_up may set up what leads traffic here.
    assert_eq!(told_after_end(world(false, alive), false), service(true));
    assert_eq!(
        told_after_end(world(false, half), false),
        [server(22, false), service(true)].concat()
    );
    assert_eq!(
        told_after_end(world(false, none), false),
        [server(21, false), server(22, false), service(false)].concat()
    );
    // omega said that all is down, though the data plane went on.
    for goes_on in [false, true] {
        assert_eq!(
            told_after_end(world(true, half), goes_on),
            [server(21, true), server(22, false), service(true)].concat()
        );
    }
    assert_eq!(told_after_end(world(false, half), true), Vec::<String>::new(), "an upgrade");
}
