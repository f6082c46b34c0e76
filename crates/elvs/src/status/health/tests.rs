use std::net::{IpAddr, Ipv4Addr};

use elvs_model::health::{
    BfdSession, BfdSessions, CheckState, CheckView, Drained, HealthView, MailView, ServerState,
    ServerView, SorryServerView, Transition, Watched, WatchedView,
};
use elvs_model::{DestinationKey, Protocol, ServiceKey};

use super::Health;

fn key(last: u8) -> DestinationKey {
    DestinationKey { address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)), port: 80 }
}

fn service() -> ServiceKey {
    let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100));
    ServiceKey::Address { protocol: Protocol::Tcp, address, port: 80 }
}

fn down() -> ServerView {
    let reason = "TCP_CHECK 10.0.0.21:80: connection refused".to_owned();
    ServerView {
        key: key(21),
        name: "[10.0.0.21]:tcp:80".to_owned(),
        state: ServerState::Down,
        since: 97_000,
        reason: reason.clone(),
        weight: None,
        configured_weight: 3,
        until: None,
        checks: vec![CheckView {
            kind: "TCP_CHECK".to_owned(),
            target: "10.0.0.21:80".to_owned(),
            state: CheckState::Down,
            since: 97_000,
            words: "connection refused".to_owned(),
            last_run: Some(99_000),
            latency_us: Some(450),
            next_run: Some(101_500),
            runs: 12,
            failures: 4,
            failures_in_row: 4,
            shared_by: 2,
        }],
        history: vec![
            Transition { at: 10_000, state: ServerState::Up, reason: "passed".to_owned() },
            Transition { at: 97_000, state: ServerState::Down, reason },
        ],
    }
}

fn view() -> HealthView {
    let watched = WatchedView {
        watched: Watched::Service(service()),
        name: "[10.0.0.100]:tcp:80".to_owned(),
        services: vec![service()],
        up: false,
        since: 97_000,
        quorum: 1,
        hysteresis: 0,
        weight: 0,
        sorry_server: Some(SorryServerView { key: key(24), in_use: true }),
        suspended: false,
        servers: vec![down()],
        history: vec![Transition { at: 97_000, state: false, reason: "lost".to_owned() }],
    };
    HealthView { watched: vec![watched], checks: 1, wanted: 2, ..HealthView::default() }
}

#[test]
fn the_whole_of_it_in_words() {
    let view = view();
    let mut out = Vec::new();
    Health::new(&view, 100_000).print(&mut out).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "\
checks         1 run for 1 real servers, of which 0 work
PROBLEM        [10.0.0.100]:tcp:80 has no quorum for 3 s: weight 0 of 1, sorry server 10.0.0.24:80 serves

[10.0.0.100]:tcp:80  DOWN for 3 s, weight 0, quorum 1
  sorry server 10.0.0.24:80 serves
  3 s ago: down: lost
  10.0.0.21:80  down for 3 s, not in the table
    TCP_CHECK 10.0.0.21:80: connection refused
    TCP_CHECK 10.0.0.21:80  down for 3 s, shared by 2 real servers
      ran 1 s ago in 0.4 ms: connection refused; failed 4 times in a row; next in 2 s; 4 of 12 runs failed
    3 s ago: down: TCP_CHECK 10.0.0.21:80: connection refused
    1 min 30 s ago: up: passed
"
    );
}

#[test]
fn a_real_servers_line_says_how_it_is() {
    let view = view();
    let health = Health::new(&view, 100_000);
    assert_eq!(health.word(&service(), &key(24)), "  sorry server");
    assert_eq!(health.word(&service(), &key(21)), "  down 3 s");
    assert_eq!(health.word(&service(), &key(99)), "");
    let mut out = Vec::new();
    health.absent(&mut out, &service()).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "  10.0.0.21:80             down for 3 s: TCP_CHECK 10.0.0.21:80: connection refused\n"
    );
}

#[test]
fn sessions_of_bfd_in_words() {
    let session = BfdSession {
        instance: "rack1-rs1".to_owned(),
        neighbor: "10.0.0.21".parse().unwrap(),
        state: "Up".to_owned(),
        since: 40_000,
        diagnostic: "no diagnostic".to_owned(),
        neighbor_state: "Up".to_owned(),
        transmit_us: 50_000,
        detection_us: 250_500,
        sent: 1_200,
        unsent: 2,
        trouble: Some("no buffer space".to_owned()),
    };
    let bfd = BfdSessions {
        sessions: vec![session],
        received: 1_150,
        refused: vec![("the TTL is too low".to_owned(), 3)],
        closed_ports: vec!["3784: address in use".to_owned()],
    };
    let view = HealthView { bfd, ..view() };
    let mut out = Vec::new();
    Health::new(&view, 100_000).print_sessions(&mut out).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "
BFD, 1150 packets received
  3 refused: the TTL is too low
  PROBLEM nothing is received: 3784: address in use
  rack1-rs1 10.0.0.21  Up for 1 min 0 s, the neighbour Up
    a packet every 50.0 ms, down after 250.5 ms of silence; 1200 sent; last diagnostic: no diagnostic
    2 not sent: no buffer space
"
    );
}

#[test]
fn mails_that_do_not_get_away_are_a_problem() {
    let trouble = "mail server 10.0.0.25 port 25 did not take it: connection refused";
    let mail = MailView {
        waiting: 2,
        sent: 7,
        tried_again: 4,
        dropped: vec![("all tries failed".to_owned(), 3)],
        trouble: Some(trouble.to_owned()),
    };
    let view = HealthView { mail, ..view() };
    let (mut summary, mut section) = (Vec::new(), Vec::new());
    Health::new(&view, 100_000).summary(&mut summary).unwrap();
    Health::new(&view, 100_000).print_mail(&mut section).unwrap();
    let summary = String::from_utf8(summary).unwrap();
    assert!(summary.contains(&format!("PROBLEM        mail: {trouble}\n")), "{summary}");
    assert_eq!(
        String::from_utf8(section).unwrap(),
        format!(
            "
mail, 7 sent, 2 wait, 4 tried again
  3 not sent: all tries failed
  the last try: {trouble}
"
        )
    );
}

#[test]
fn a_drained_real_server_says_so() {
    let drained = vec![Drained { service: service(), destination: key(21) }];
    let view = HealthView { drained, ..view() };
    let health = Health::new(&view, 100_000);
    assert_eq!(health.word(&service(), &key(21)), "  down 3 s  drained by hand");
    let mut out = Vec::new();
    health.print(&mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let line = "    drained by hand from TCP 10.0.0.100:80, until `elvs drain --off`\n";
    assert!(text.contains(line), "{text}");
}
