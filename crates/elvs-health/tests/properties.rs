//! Random configurations, findings and events: what must hold whatever happens.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::print_stdout,
    reason = "tests fail loudly"
)]

mod support;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use elvs_health::Monitor;
use elvs_model::health::{
    AgentCheck, AgentMode, AgentReply, BfdCheck, Check, CheckKind, CheckResult, CheckState,
    Damping, Finding, MiscCheck, Passive, ServerHealth, ServerState, ServiceGroup, Trial,
    WatchedView, WeightChange,
};
use elvs_model::{Desired, DesiredService, DestinationKey, ServiceKey};
use proptest::collection::vec;
use proptest::prelude::*;
use support::*;

#[derive(Clone, Debug)]
enum Event {
    Configure(Box<Desired>),
    Reload,
    Restart,
    /// Time passes; runs find what the list says, over and over.
    Pass(u64, Vec<u8>),
    Bfd(bool),
    Vip(u8, bool),
    Sample(u8, u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => configuration().prop_map(|desired| Event::Configure(Box::new(desired))),
        1 => Just(Event::Reload),
        1 => Just(Event::Restart),
        6 => (1_u64..40, vec(any::<u8>(), 1..8)).prop_map(|(time, found)| Event::Pass(time, found)),
        1 => any::<bool>().prop_map(Event::Bfd),
        1 => (0_u8..3, any::<bool>()).prop_map(|(vip, there)| Event::Vip(vip, there)),
        1 => (1_u8..5, 0_u64..20).prop_map(|(server, failed)| Event::Sample(server, failed)),
    ]
}

fn configuration() -> impl Strategy<Value = Desired> {
    let services = vec((virtual_server(), vec(real_server(), 0..4)), 0..4);
    services.prop_map(|services| {
        let mut all = Vec::new();
        // One block of the file makes the services of a group: a real server has one weight in all of them.
        let mut weights = HashMap::new();
        for (vip, (mut service, servers)) in services.into_iter().enumerate() {
            service.service.key = key(&format!("10.0.0.10{vip}"), 80);
            let mut seen = HashSet::new();
            for (weight, server) in servers {
                if seen.insert(server.key) {
                    let of_group = *weights.entry(server.key).or_insert(weight);
                    let weight = if service.health.group.is_some() { of_group } else { weight };
                    let address = server.key.address.to_string();
                    service.destinations.push(destination(&address, 80, weight));
                    service.health.servers.push(server);
                }
            }
            all.push(service);
        }
        desired(all)
    })
}

fn virtual_server() -> impl Strategy<Value = DesiredService> {
    let sorry_server = prop_oneof![Just(None), any::<bool>().prop_map(|i| sorry("10.0.0.99", i))];
    let grouped = prop::bool::weighted(0.3);
    let drain = prop::option::weighted(0.3, 1_u64..50);
    (1_u32..5, 0_u32..3, sorry_server, prop::bool::weighted(0.2), grouped, drain).prop_map(
        |(quorum, hysteresis, sorry_server, ha_suspend, grouped, drain)| {
            let mut service = bare(key("10.0.0.100", 80));
            let health = &mut service.health;
            (health.quorum, health.hysteresis) = (quorum, hysteresis);
            (health.sorry_server, health.ha_suspend) = (sorry_server, ha_suspend);
            health.drain = drain.map(seconds);
            let group = || ServiceGroup { name: "group".to_owned(), protocol: None };
            health.group = grouped.then(group);
            service
        },
    )
}

fn real_server() -> impl Strategy<Value = (u32, ServerHealth)> {
    let rest = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let last = 1_u8..5;
    (last, 0_u32..4, vec((0_u8..4, 0_u32..3, any::<bool>()), 0..3), rest).prop_map(
        |(last, weight, checks, (inhibit, slow, damped, passive))| {
            let address = format!("10.0.0.{last}");
            let mut health = ServerHealth::unwatched(destination(&address, 80, 0).key);
            health.inhibit_on_failure = inhibit;
            health.slow_start = slow.then_some(seconds(7));
            let damping = Damping { window: seconds(40), first: seconds(5), most: seconds(15) };
            health.damping = damped.then_some(damping);
            let watch = Passive { least: 5, percent: 60, window: seconds(20), hold: seconds(9) };
            health.passive = passive.then_some(watch);
            let check = |(kind, retry, alpha): (u8, u32, bool)| {
                let schedule = elvs_model::health::Schedule { retry, alpha, ..schedule() };
                Check { kind: self::kind(kind, &address), schedule }
            };
            health.checks = checks.into_iter().map(check).collect();
            (weight, health)
        },
    )
}

fn kind(kind: u8, address: &str) -> CheckKind {
    match kind {
        0 => tcp_kind(address, 80),
        1 => CheckKind::Bfd(BfdCheck { instance: "peer".to_owned() }),
        2 => CheckKind::Agent(AgentCheck { target: target(address, 9), send: None }),
        _ => {
            let script = script("/check");
            CheckKind::Misc(MiscCheck { script, timeout: None, dynamic: true })
        }
    }
}

/// What a run finds, by a random byte.
fn finding(what: &Trial, byte: u8) -> Finding {
    let words = format!("byte {byte}");
    let passed = |change| CheckResult::Passed(change);
    let reply = |percent, administrative, up| {
        CheckResult::Agent(AgentReply { percent, administrative, up, reason: None })
    };
    let result = match (what, byte % 8) {
        (_, 0..=2) => CheckResult::Failed,
        (Trial::Agent(_), 3) => reply(Some(50), None, Some(true)),
        (Trial::Agent(_), 4) => reply(None, Some(AgentMode::Drain), None),
        (Trial::Agent(_), 5) => reply(None, Some(AgentMode::Maint), None),
        (Trial::Agent(_), 6) => reply(None, None, Some(false)),
        (Trial::Agent(_), _) => reply(None, Some(AgentMode::Ready), Some(true)),
        (Trial::Misc { .. }, 3) => passed(WeightChange::Set(u32::from(byte) / 50)),
        (Trial::Misc { .. }, 4) => passed(WeightChange::Add(i64::from(byte) - 250)),
        _ => passed(WeightChange::None),
    };
    Finding { result, words }
}

fn pass(world: &mut World, time: Duration, found: &[u8]) {
    let end = world.now + time;
    let mut found = found.iter().cycle();
    while let Some(next) = world.monitor.next_due().filter(|next| *next <= end) {
        world.now = world.now.max(next);
        let due = world.monitor.due(world.now);
        apply(world, due.effects);
        for start in due.starts {
            let finding = finding(&start.what, *found.next().unwrap());
            let effects = world.monitor.finished(world.now, start.check, &finding, seconds(0));
            apply(world, effects);
        }
    }
    world.now = end;
}

/// Applies effects; those who stay in a table keep their order.
fn apply(world: &mut World, effects: Vec<elvs_health::Effect>) {
    let before = world.table.clone();
    for effect in effects {
        let mut places: HashMap<ServiceKey, Vec<DestinationKey>> = HashMap::new();
        for (service, table) in &world.table {
            places.insert(*service, table.iter().map(|d| d.key).collect());
        }
        let named = match &effect {
            elvs_health::Effect::Destinations { service, .. } => Some(*service),
            _ => None,
        };
        world.take(vec![effect]);
        let Some(service) = named else { continue };
        let now: Vec<DestinationKey> = world.table[&service].iter().map(|d| d.key).collect();
        let stayed = |keys: &[DestinationKey], other: &[DestinationKey]| -> Vec<DestinationKey> {
            keys.iter().filter(|key| other.contains(key)).copied().collect()
        };
        let was = &places[&service];
        assert_eq!(stayed(was, &now), stayed(&now, was), "order of those who stay, of {before:?}");
        let kept = stayed(&now, was).len();
        assert!(now[..kept].iter().all(|key| was.contains(key)), "newcomers come last");
    }
}

fn happen(world: &mut World, event: Event) {
    match event {
        Event::Configure(desired) => world.configure(*desired),
        Event::Reload => {
            world.told.clear();
            let before = world.monitor.view(world.now, world.wall());
            world.configure(world.desired.clone());
            assert_eq!(world.told, Vec::<String>::new(), "an unchanged reload tells nothing");
            assert_eq!(world.monitor.view(world.now, world.wall()), before);
        }
        Event::Restart => restart(world),
        Event::Pass(time, found) => pass(world, seconds(time), &found),
        Event::Bfd(up) => {
            let effects = world.monitor.bfd_changed(world.now, "peer", up, "told");
            apply(world, effects);
        }
        Event::Vip(vip, there) => {
            let address = ip(&format!("10.0.0.10{vip}"));
            let effects = world.monitor.vip_present(world.now, address, there);
            apply(world, effects);
        }
        Event::Sample(server, failed) => {
            let watched = world.monitor.passive();
            let of_it =
                watched.into_iter().find(|(_, key)| key.address == ip(&format!("10.0.0.{server}")));
            let Some((service, key)) = of_it else { return };
            let effects = world.monitor.passive_sample(world.now, &service, &key, 10, failed);
            apply(world, effects);
        }
    }
}

/// A daemon that restarts: its state is saved and restored. What drained is gone then, by design.
fn restart(world: &mut World) {
    let leaving = |unit: &WatchedView| unit.servers.iter().any(|s| s.state == ServerState::Leaving);
    let view = world.monitor.view(world.now, world.wall());
    if view.watched.iter().any(leaving) {
        return;
    }
    let text = serde_json::to_string(&world.monitor.save(world.now, world.wall())).unwrap();
    let mut later = Monitor::new(3);
    later.restore(world.now, world.wall(), serde_json::from_str(&text).unwrap());
    let effects = later.configure(world.now, &world.desired);
    let told = |effect: &elvs_health::Effect| matches!(effect, elvs_health::Effect::Notify(_));
    assert_eq!(effects.iter().filter(|e| told(e)).count(), 0, "nobody is told: {effects:?}");
    assert_eq!(later.effective(&world.desired), world.monitor.effective(&world.desired));
    let after = later.view(world.now, world.wall());
    for (old, new) in view.watched.iter().zip(&after.watched) {
        let states = |unit: &WatchedView| -> Vec<_> {
            unit.servers.iter().map(|s| (s.state, s.since, s.reason.clone(), s.weight)).collect()
        };
        assert_eq!((old.up, old.since, states(old)), (new.up, new.since, states(new)));
        assert_eq!(old.history, new.history);
    }
    // Addresses and sessions are told anew by the daemon; here the old monitor goes on.
}

fn holds(world: &World) {
    let effective = world.monitor.effective(&world.desired);
    for service in &effective.services {
        let key = service.service.key;
        assert_eq!(service.destinations, world.table[&key], "effects and effective() agree");
        assert_eq!(world.monitor.destinations(&key).as_ref(), Some(&service.destinations));
    }
    let view = world.monitor.view(world.now, world.wall());
    for unit in &view.watched {
        let (quorum, hysteresis) = (u64::from(unit.quorum), u64::from(unit.hysteresis));
        if unit.up {
            assert!(unit.weight > 0 && unit.weight >= quorum - hysteresis, "{unit:?}");
        } else {
            assert!(unit.weight < quorum + hysteresis, "{unit:?}");
        }
        let in_use = unit.sorry_server.is_some_and(|sorry| sorry.in_use);
        assert_eq!(in_use, !unit.up && unit.sorry_server.is_some());
        for server in &unit.servers {
            let alive = server.state.alive();
            let failed = server.checks.iter().any(|check| check.state == CheckState::Down);
            assert!(!(alive && failed), "{server:?}");
            match server.weight {
                Some(0) => {}
                Some(_) => assert!(alive && !in_use, "{server:?}"),
                None => assert!(!alive || in_use, "{server:?}"),
            }
            for check in &server.checks {
                let runs = check.kind != "BFD_CHECK" && !unit.suspended;
                assert!(!runs || check.next_run.is_some(), "mute: {check:?}");
                assert!(check.next_run.is_none_or(|next| next >= world.wall()), "late: {check:?}");
            }
        }
        let listed: usize = unit.servers.iter().map(|s| usize::from(s.weight.is_some())).sum();
        let sorry = unit.sorry_server.is_some_and(|_| {
            world.table[&unit.services[0]].iter().any(|d| d.key.address == ip("10.0.0.99"))
        });
        if unit.services.len() == 1 {
            assert_eq!(world.table[&unit.services[0]].len(), listed + usize::from(sorry));
        }
    }
    let services = &world.desired.services;
    if services.iter().all(|service| service.health.group.is_none()) {
        let servers = services.iter().flat_map(|service| &service.health.servers);
        let asked: Vec<HashSet<&Check>> = servers.map(|s| s.checks.iter().collect()).collect();
        assert_eq!(view.wanted, asked.iter().map(HashSet::len).sum::<usize>());
        assert_eq!(view.checks, asked.iter().flatten().collect::<HashSet<_>>().len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_table_is_what_health_and_quorum_say(events in vec(event(), 1..25)) {
        let mut world = World::new(Desired::default());
        for event in events {
            happen(&mut world, event);
            holds(&world);
        }
    }
}
