//! The recorded run of keepalived 2.2.7, replayed: the same events in the same order.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::print_stdout,
    reason = "tests fail loudly"
)]

mod support;

use elvs_health::Effect;
use elvs_model::health::{
    Check, CheckKind, HttpCheck, HttpVersion, PingCheck, Schedule, ServerHealth, UrlCheck,
};
use elvs_model::{Desired, DesiredService, Family, ForwardingMethod, Protocol, ServiceKey};
use support::*;

fn recorded(second_weight: u32) -> Desired {
    let schedule = |retry_delay| Schedule {
        delay_loop: seconds(1),
        delay_before_retry: seconds(retry_delay),
        ..schedule()
    };
    let mut web = service(&[]);
    web.health.sorry_server = sorry("10.0.0.24", false);
    let http = CheckKind::Http(HttpCheck {
        target: target("10.0.0.21", 80),
        tls: None,
        version: HttpVersion::V1_0,
        virtual_host: None,
        fast_recovery: false,
        urls: vec![UrlCheck {
            path: "/".to_owned(),
            virtual_host: None,
            status: Vec::new(),
            digest: None,
            regex: None,
            tls_compliant: false,
        }],
    });
    add(&mut web, "10.0.0.21", 80, 1, Some(Check { kind: http, schedule: schedule(1) }));
    let tcp = Check { kind: tcp_kind("10.0.0.22", 80), schedule: schedule(1) };
    add(&mut web, "10.0.0.22", 80, second_weight, Some(tcp));
    web.health.servers[1].inhibit_on_failure = true;
    let mut mark = bare(ServiceKey::Fwmark { mark: 3, family: Family::Inet });
    let ping = CheckKind::Ping(PingCheck { target: target("10.0.0.23", 0) });
    add(&mut mark, "10.0.0.23", 0, 2, Some(Check { kind: ping, schedule: schedule(1) }));
    let address = ip("fd00::100");
    let mut dns = bare(ServiceKey::Address { protocol: Protocol::Udp, address, port: 53 });
    add(&mut dns, "fd01::21", 5000, 1, None);
    dns.destinations[0].method = ForwardingMethod::Nat;
    desired(vec![web, mark, dns])
}

fn add(service: &mut DesiredService, address: &str, port: u16, weight: u32, check: Option<Check>) {
    let destination = destination(address, port, weight);
    service.destinations.push(destination);
    let mut health = ServerHealth::unwatched(destination.key);
    health.checks.extend(check);
    service.health.servers.push(health);
}

#[test]
fn keepalived_log_the_same_events_in_the_same_order() {
    let mut world = World::new(recorded(3));
    assert_eq!(
        world.all_news(),
        [
            "log quorum gained: weight 4, 1 needed",
            "fifo VS [10.0.0.100]:tcp:80 UP",
            "log quorum gained: weight 2, 1 needed",
            "fifo VS FWM 3 UP",
            "log quorum gained: weight 1, 1 needed",
            "fifo VS [fd00::100]:udp:53 UP",
        ],
        "start"
    );
    assert_eq!(world.destinations(), "21:1 22:3");

    world.pass(seconds(2));
    let mut passed = world.all_news();
    passed.sort();
    assert_eq!(
        passed,
        [
            "log [10.0.0.21]:tcp:80 HTTP_GET passed: connected",
            "log [10.0.0.22]:tcp:80 TCP_CHECK passed: connected",
            "log [10.0.0.23]:none:0 PING_CHECK passed: connected",
        ]
    );

    world.kill("10.0.0.22");
    world.pass(seconds(3));
    assert_eq!(
        world.all_news(),
        [
            "table 21:1 22:0",
            "log [10.0.0.22]:tcp:80 TCP_CHECK failed after 1 retries: connection refused",
            "log [10.0.0.22]:tcp:80 disabled: TCP_CHECK: connection refused",
            "fifo RS [10.0.0.22]:tcp:80 [10.0.0.100]:tcp:80 DOWN",
        ]
    );

    world.kill("10.0.0.21");
    world.pass(seconds(3));
    assert_eq!(
        world.all_news(),
        [
            "table 22:0 24:1",
            "log [10.0.0.21]:tcp:80 HTTP_GET failed after 1 retries: connection refused",
            "log [10.0.0.21]:tcp:80 removed: HTTP_GET: connection refused",
            "fifo RS [10.0.0.21]:tcp:80 [10.0.0.100]:tcp:80 DOWN",
            "log quorum lost: weight 0, 1 needed",
            "log [10.0.0.24]:tcp:80 sorry server added",
            "log alive real servers removed",
            "fifo VS [10.0.0.100]:tcp:80 DOWN",
        ]
    );

    // The recording has the failed URL's success at :06, and the check's at :07.
    world.revive("10.0.0.21");
    let before = world.now;
    while world.told.is_empty() {
        world.pass(std::time::Duration::from_millis(500));
    }
    assert!(world.now > before + seconds(1), "one success of HTTP_GET is not enough");
    assert_eq!(
        world.all_news(),
        [
            "table 22:0 21:1",
            "log [10.0.0.21]:tcp:80 HTTP_GET passed: connected",
            "log [10.0.0.21]:tcp:80 added: HTTP_GET: connected",
            "fifo RS [10.0.0.21]:tcp:80 [10.0.0.100]:tcp:80 UP",
            "log quorum gained: weight 1, 1 needed",
            "log [10.0.0.24]:tcp:80 sorry server removed",
            "log alive real servers added",
            "fifo VS [10.0.0.100]:tcp:80 UP",
        ]
    );

    world.configure(recorded(5));
    assert_eq!(world.all_news(), ["log [10.0.0.22]:tcp:80 weight changes from 3 to 5"]);
    assert_eq!(world.destinations(), "22:0 21:1", "the reload repeats nothing");

    let effects: Vec<Effect> = world.monitor.stopping(world.now);
    world.take(effects);
    assert_eq!(
        world.all_news(),
        [
            "log [10.0.0.21]:tcp:80 shut down",
            "log [10.0.0.22]:tcp:80 shut down (disabled)",
            "log [10.0.0.23]:none:0 shut down",
            "log [fd01::21]:udp:5000 shut down",
        ],
        "without omega nobody is told"
    );
}
