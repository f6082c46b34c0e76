//! Quorum, hysteresis, sorry servers and inhibited failures.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::print_stdout,
    reason = "tests fail loudly"
)]

mod support;

use elvs_model::health::ServiceGroup;
use elvs_model::{Family, ServiceKey};
use support::*;

#[test]
fn keepalived_3_9_quorum_and_hysteresis() {
    struct Case {
        name: &'static str,
        quorum: u32,
        hysteresis: u32,
        /// Real servers that die one after the other, until the quorum is lost.
        lost_at: usize,
        /// Real servers that must live for it to be gained.
        gained_at: usize,
    }
    let cases = [
        Case { name: "default", quorum: 1, hysteresis: 0, lost_at: 4, gained_at: 1 },
        Case { name: "quorum 3", quorum: 3, hysteresis: 0, lost_at: 2, gained_at: 3 },
        Case { name: "hysteresis", quorum: 2, hysteresis: 1, lost_at: 4, gained_at: 3 },
        Case { name: "more than there is", quorum: 9, hysteresis: 0, lost_at: 1, gained_at: 4 },
        Case { name: "hysteresis too large", quorum: 2, hysteresis: 9, lost_at: 4, gained_at: 3 },
    ];
    for case in cases {
        let mut config = service(&[21, 22, 23, 24]);
        config.health.quorum = case.quorum;
        config.health.hysteresis = case.hysteresis;
        let mut world = World::new(desired(vec![config]));
        world.pass(seconds(1));
        let up = |world: &World| world.monitor.view(world.now, world.wall()).watched[0].up;
        if !up(&world) {
            assert!(case.quorum + case.hysteresis > 4, "{}", case.name);
        }
        for (dead, last) in [21, 22, 23, 24].iter().enumerate() {
            assert_eq!(up(&world), dead < case.lost_at, "{}: {dead} dead", case.name);
            world.kill(&format!("10.0.0.{last}"));
            world.pass(seconds(15));
        }
        for (alive, last) in [21, 22, 23, 24].iter().enumerate() {
            assert_eq!(up(&world), alive >= case.gained_at, "{}: {alive} alive", case.name);
            world.revive(&format!("10.0.0.{last}"));
            world.pass(seconds(15));
        }
        assert!(up(&world), "{}", case.name);
    }
}

#[test]
fn sorry_server_takes_over_from_those_that_live_and_gives_back_in_the_order_of_the_file() {
    let mut config = service(&[21, 22, 23]);
    config.health.quorum = 2;
    config.health.sorry_server = sorry("10.0.0.99", false);
    let mut world = World::new(desired(vec![config]));
    world.pass(seconds(1));
    assert_eq!(world.destinations(), "21:1 22:1 23:1");
    world.news();
    world.kill("10.0.0.21");
    world.kill("10.0.0.22");
    world.pass(seconds(15));
    assert_eq!(world.destinations(), "99:1", "23 lives, but is not enough");
    let news = world.news();
    assert_eq!(news[0], "table 22:1 23:1");
    assert_eq!(news[2], "table 99:1");
    world.revive("10.0.0.22");
    world.pass(seconds(15));
    world.revive("10.0.0.21");
    world.pass(seconds(15));
    assert_eq!(world.destinations(), "22:1 23:1 21:1", "21 came after the quorum was gained");
}

#[test]
fn without_a_sorry_server_those_that_live_stay_though_the_quorum_is_lost() {
    let mut config = service(&[21, 22]);
    config.health.quorum = 2;
    let mut world = World::new(desired(vec![config]));
    world.kill("10.0.0.21");
    world.pass(seconds(15));
    assert_eq!(world.destinations(), "22:1");
    assert!(world.news().contains(&"fifo VS [10.0.0.100]:tcp:80 DOWN".to_owned()));
}

#[test]
fn keepalived_conf_sorry_server_inhibit() {
    let mut config = service(&[21]);
    config.health.sorry_server = sorry("10.0.0.99", true);
    let mut world = World::new(desired(vec![config]));
    assert_eq!(world.destinations(), "21:1 99:0");
    world.kill("10.0.0.21");
    world.pass(seconds(15));
    assert_eq!(world.destinations(), "99:1");
    world.revive("10.0.0.21");
    world.pass(seconds(15));
    assert_eq!(world.destinations(), "99:0 21:1");
}

#[test]
fn keepalived_conf_inhibit_on_failure_keeps_the_place() {
    let mut config = service(&[21, 22]);
    config.health.servers[0].inhibit_on_failure = true;
    config.health.servers[0].checks[0].schedule.alpha = true;
    let mut world = World::new(desired(vec![config]));
    assert_eq!(world.destinations(), "21:0 22:1", "alpha too: it is there with weight 0");
    world.pass(seconds(1));
    assert_eq!(world.destinations(), "21:1 22:1");
    world.kill("10.0.0.21");
    world.pass(seconds(15));
    assert_eq!(world.destinations(), "21:0 22:1");
    world.revive("10.0.0.21");
    world.pass(seconds(15));
    assert_eq!(world.destinations(), "21:1 22:1");
}

#[test]
fn whoever_comes_back_comes_last() {
    let mut world = World::new(desired(vec![service(&[21, 22, 23])]));
    world.kill("10.0.0.21");
    world.pass(seconds(15));
    world.revive("10.0.0.21");
    world.pass(seconds(15));
    assert_eq!(world.destinations(), "22:1 23:1 21:1");
}

#[test]
fn a_real_server_may_be_the_sorry_server_too() {
    let mut config = service(&[21, 22]);
    config.health.quorum = 2;
    config.health.sorry_server = sorry("10.0.0.21", false);
    let mut world = World::new(desired(vec![config]));
    assert_eq!(world.destinations(), "21:1 22:1");
    world.kill("10.0.0.22");
    world.pass(seconds(15));
    assert_eq!(world.destinations(), "21:1");

    let mut config = service(&[21, 22]);
    config.health.quorum = 2;
    config.health.servers[0].inhibit_on_failure = true;
    config.health.sorry_server = sorry("10.0.0.21", false);
    let mut world = World::new(desired(vec![config]));
    world.kill("10.0.0.21");
    world.pass(seconds(15));
    assert_eq!(world.destinations(), "21:1", "in use as the sorry server, though it failed");

    let mut config = service(&[21, 22]);
    config.health.sorry_server = sorry("10.0.0.21", true);
    let mut world = World::new(desired(vec![config]));
    assert_eq!(world.destinations(), "21:1 22:1");
    world.kill("10.0.0.21");
    world.pass(seconds(15));
    assert_eq!(world.destinations(), "22:1 21:0", "shown as the sorry server that is not in use");
    world.revive("10.0.0.21");
    world.pass(seconds(15));
    assert_eq!(world.destinations(), "22:1 21:1");
}

#[test]
fn alpha_with_a_sorry_server_starts_with_it() {
    let mut config = service(&[21]);
    config.health.sorry_server = sorry("10.0.0.99", false);
    config.health.servers[0].checks[0].schedule.alpha = true;
    let mut world = World::new(desired(vec![config]));
    assert_eq!(world.destinations(), "99:1");
    assert_eq!(world.news(), ["fifo VS [10.0.0.100]:tcp:80 DOWN"], "told at the start");
    world.pass(seconds(1));
    assert_eq!(world.destinations(), "21:1");
}

#[test]
fn services_of_a_group_have_one_quorum_and_are_told_of_once() {
    let group = Some(ServiceGroup { name: "web".to_owned(), protocol: None });
    let mut first = service(&[21, 22]);
    first.health.quorum = 2;
    first.health.group = group;
    first.health.sorry_server = sorry("10.0.0.99", false);
    let mut second = first.clone();
    second.service.key = key("10.0.0.101", 80);
    let other = second.service.key;
    let mut world = World::new(desired(vec![first, second]));
    world.pass(seconds(1));
    assert_eq!(world.news(), ["fifo VS [web]:0 UP"]);
    world.kill("10.0.0.21");
    world.pass(seconds(15));
    assert_eq!(
        world.news(),
        [
            "table 99:1",
            "table 99:1",
            "fifo RS [10.0.0.21]:none:80 [web]:0 DOWN",
            "fifo VS [web]:0 DOWN",
        ]
    );
    assert_eq!(weights(&world.table[&other]), "99:1");
    let view = world.monitor.view(world.now, world.wall());
    assert_eq!((view.watched.len(), view.watched[0].services.len()), (1, 2));
    assert_eq!((view.checks, view.wanted), (2, 2), "the group asks once for each server");
}

#[test]
fn a_services_ports_may_differ_in_a_group() {
    let group = Some(ServiceGroup { name: "web".to_owned(), protocol: None });
    let mut http = service(&[21, 22]);
    http.health.group = group;
    let mut https = http.clone();
    https.service.key = key("10.0.0.100", 443);
    for (destination, server) in https.destinations.iter_mut().zip(&mut https.health.servers) {
        destination.key.port = 443;
        server.key.port = 443;
    }
    let other = https.service.key;
    let mut world = World::new(desired(vec![http, https]));
    world.kill("10.0.0.21");
    world.pass(seconds(1));
    assert_eq!(world.destinations(), "22:1");
    assert_eq!(weights(&world.table[&other]), "22:1");
    assert_eq!(world.table[&other][0].key.port, 443);
}

#[test]
fn keepalived_a_real_server_of_a_group_is_named_by_its_port_also_after_a_mark() {
    let group = Some(ServiceGroup { name: "web".to_owned(), protocol: None });
    let mut http = service(&[21]);
    http.health.group = group;
    // A firewall mark has no port under DR.
    let mut mark = http.clone();
    mark.service.key = ServiceKey::Fwmark { mark: 5, family: Family::Inet };
    mark.destinations[0].key.port = 0;
    mark.health.servers[0].key.port = 0;
    let mut world = World::new(desired(vec![mark, http]));
    world.kill("10.0.0.21");
    world.pass(seconds(1));
    let down = "fifo RS [10.0.0.21]:none:80 [web]:0 DOWN".to_owned();
    assert!(world.news().contains(&down));
}
