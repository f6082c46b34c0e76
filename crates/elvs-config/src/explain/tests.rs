use core::net::Ipv4Addr;
use std::path::PathBuf;

use elvs_model::health::{
    AgentCheck, BfdCheck, Check, CheckKind, FileCheck, HttpCheck, HttpVersion, MiscCheck, Passive,
    PingCheck, Schedule, Script, ServerHealth, SorryServer, StatusRange, Target, TcpCheck,
    TlsClient, TrackFile, UrlCheck,
};
use elvs_model::{
    Destination, DestinationKey, ForwardingMethod, Persistence, Protocol, Scheduler, ServiceKey,
    VirtualService,
};

use super::*;

fn schedule(retry: u32) -> Schedule {
    Schedule {
        delay_loop: Duration::from_secs(6),
        retry,
        delay_before_retry: Duration::from_secs(3),
        warmup: None,
        alpha: false,
        log_all_failures: false,
    }
}

fn target() -> Target {
    Target {
        address: "192.0.2.2:80".parse().unwrap(),
        source: None,
        source_port: None,
        interface: None,
        mark: 0,
        timeout: Duration::from_millis(2500),
    }
}

fn service() -> DesiredService {
    let address = Ipv4Addr::new(192, 0, 2, 1).into();
    let key = ServiceKey::Address { protocol: Protocol::Tcp, address, port: 80 };
    let key_of = |last| DestinationKey { address: Ipv4Addr::new(192, 0, 2, last).into(), port: 80 };
    let destination = Destination {
        key: key_of(2),
        method: ForwardingMethod::Dr,
        weight: 3,
        upper_threshold: 0,
        lower_threshold: 0,
    };
    let mut service = DesiredService {
        service: VirtualService::new(key, Scheduler::Wlc),
        destinations: vec![destination],
        local_addresses: elvs_model::LocalAddresses::default(),
        health: elvs_model::health::ServiceHealth::default(),
    };
    let mut health = ServerHealth::unwatched(key_of(2));
    health.checks =
        vec![Check { kind: CheckKind::Tcp(TcpCheck { target: target() }), schedule: schedule(2) }];
    service.health.servers = vec![health];
    service
}

fn explained(change: impl FnOnce(&mut Desired)) -> String {
    let mut desired = Desired { services: vec![service()], ..Desired::default() };
    change(&mut desired);
    explain(&desired)
}

#[test]
fn a_virtual_server_is_told_in_sentences() {
    let want = "\
Virtual server TCP 192.0.2.1:80
  New connections go to the real server with the fewest connections for its weight (wlc).
  Real server 192.0.2.2:80, weight 3, by direct routing: it has the virtual address itself and answers clients directly
    every 6 s a TCP connection to 192.0.2.2:80 within 2.5 s (TCP_CHECK); after 2 further failures 3 s apart it has failed
    while its check fails it is taken out
    at the start it gets connections until its first check fails
";
    assert_eq!(explained(|_| ()), want);
}

#[track_caller]
fn assert_tells(change: impl FnOnce(&mut DesiredService), line: &str) {
    let text = explained(|desired| change(&mut desired.services[0]));
    assert!(text.lines().any(|l| l.trim() == line), "`{line}` in:\n{text}");
}

fn with_check(kind: CheckKind, retry: u32) -> impl FnOnce(&mut DesiredService) {
    move |service| {
        service.health.servers[0].checks = vec![Check { kind, schedule: schedule(retry) }];
    }
}

#[test]
fn checks_say_what_is_tried() {
    let url = UrlCheck {
        path: "/alive".to_owned(),
        virtual_host: None,
        status: vec![StatusRange { first: 200, last: 299 }, StatusRange { first: 301, last: 301 }],
        digest: None,
        regex: None,
        tls_compliant: false,
    };
    let http = HttpCheck {
        target: target(),
        tls: Some(TlsClient { server_name: Some("a.example".to_owned()), ..TlsClient::default() }),
        version: HttpVersion::V1_1,
        virtual_host: Some("www.example.com".to_owned()),
        fast_recovery: false,
        urls: vec![url],
    };
    let get = || CheckKind::Http(http.clone());
    assert_tells(
        with_check(get(), 1),
        "every 6 s 1 page by HTTP/1.1 over TLS to 192.0.2.2:80 within 2.5 s (SSL_GET); after 1 further failure 3 s later it has failed",
    );
    assert_tells(with_check(get(), 1), "/alive of www.example.com: wanted status 200-299 or 301");
    assert_tells(
        with_check(get(), 1),
        "TLS with the name a.example; the certificate is not verified",
    );
    let misc = MiscCheck {
        script: Script { words: vec!["/bin/check".to_owned(), "a".to_owned()], user: None },
        timeout: Some(Duration::from_secs(4)),
        dynamic: true,
    };
    assert_tells(
        with_check(CheckKind::Misc(misc), 0),
        "every 6 s `/bin/check a`, ended after 4 s, which must end with 0 (MISC_CHECK); the first failure counts",
    );
    let from = Target { source: Some(Ipv4Addr::new(192, 0, 2, 9).into()), mark: 7, ..target() };
    assert_tells(
        with_check(CheckKind::Ping(PingCheck { target: from }), 0),
        "every 6 s an ICMP echo request to 192.0.2.2 from 192.0.2.9 with mark 7 within 2.5 s (PING_CHECK); the first failure counts",
    );
    assert_tells(
        with_check(CheckKind::Bfd(BfdCheck { instance: "B".to_owned() }), 0),
        "up while the BFD session B is up (BFD_CHECK)",
    );
    let file = TrackFile { name: "F".to_owned(), path: PathBuf::from("/run/f"), initial: None };
    let file = FileCheck { file, weight: -2, reverse: false };
    assert_tells(
        with_check(CheckKind::File(file), 0),
        "-2 times the number in /run/f is added to the weight (FILE_CHECK)",
    );
}

#[test]
fn an_agents_silence_is_no_failure() {
    let agent = || CheckKind::Agent(AgentCheck { target: target(), send: None });
    for retry in [0, 2] {
        assert_tells(
            with_check(agent(), retry),
            "every 6 s a line from the agent to 192.0.2.2:80 within 2.5 s sets weight and state (AGENT_CHECK); while it cannot be heard nothing changes",
        );
    }
}

#[test]
fn what_follows_is_told() {
    assert_tells(
        |s| s.health.servers.clear(),
        "not checked: it gets connections whether it works or not",
    );
    assert_tells(
        |s| s.health.servers[0].inhibit_on_failure = true,
        "while its check fails its weight becomes 0",
    );
    assert_tells(|s| s.health.alpha = true, "at the start it is down until it was checked");
    assert_tells(
        |s| s.service.persistence = Some(Persistence { timeout: 50 }),
        "Clients keep their real server for 50 s after the last connection.",
    );
    assert_tells(
        |s| (s.health.quorum, s.health.hysteresis) = (5, 1),
        "Quorum: it comes up with real servers of weight 6 together and goes down below 4.",
    );
    assert_tells(
        |s| s.health.drain = Some(Duration::from_secs(30)),
        "Connections of a removed real server go on for 30 s; then their packets are dropped.",
    );
    assert_tells(|s| s.destinations.clear(), "It has no real servers: nobody answers.");
    let passive = Passive {
        least: 10,
        percent: 50,
        window: Duration::from_secs(30),
        hold: Duration::from_secs(60),
    };
    assert_tells(
        move |s| s.health.servers[0].passive = Some(passive),
        "taken out for 60 s when 50 % of at least 10 new connections in 30 s come to nothing",
    );
    let sorry = |s: &mut DesiredService| {
        s.health.sorry_server = Some(SorryServer {
            destination: Destination { method: ForwardingMethod::Nat, ..s.destinations[0] },
            inhibit: false,
        });
    };
    assert_tells(
        sorry,
        "Without quorum 192.0.2.2:80 takes all connections, by NAT: its answers come back through this director.",
    );
    let notify = Script { words: vec!["/bin/up".to_owned(), "rs\u{1b}".to_owned()], user: None };
    assert_tells(
        |s| s.health.servers[0].notify_up = Some(notify),
        "runs `/bin/up rs\\u{1b}` when it comes up",
    );
}

#[test]
fn services_of_a_group_are_told_once() {
    let text = explained(|desired| {
        let group = elvs_model::health::ServiceGroup { name: "G".to_owned(), protocol: None };
        desired.services[0].health.group = Some(group);
        let mut second = desired.services[0].clone();
        second.service.key = ServiceKey::Fwmark { mark: 7, family: elvs_model::Family::Inet };
        desired.services.push(second);
    });
    assert!(text.starts_with("Virtual server group G: 2 virtual services of one state\n  Listens on TCP 192.0.2.1:80.\n  Listens on IPv4 packets with firewall mark 7.\n"), "{text}");
    assert_eq!(text.matches("Real server").count(), 1);
}

#[test]
fn the_director_comes_last() {
    assert_eq!(explain(&Desired::default()), "No virtual server: nothing is forwarded\n");
    let text = explained(|desired| {
        desired.timeouts = Some(elvs_model::Timeouts { tcp: 900, tcp_fin: 0, udp: 300 });
        desired.health.on_drift = elvs_model::health::OnDrift::Restore;
    });
    assert!(text.ends_with("\n\nThe director\n  Idle connections end after: TCP 900 s and UDP 300 s.\n  What somebody else changes in the table is changed back.\n"), "{text}");
}
