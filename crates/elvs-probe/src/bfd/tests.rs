use std::net::{IpAddr, Ipv6Addr, UdpSocket};
use std::num::NonZeroU32;

use elvs_health::bfd::Endpoint;

use super::*;

const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

#[test]
fn rfc5881_4_each_session_has_a_source_port_of_its_own_from_49152_on() {
    let mut port = u16::MAX - 1;
    let sockets: Vec<UdpSocket> =
        (0..5).map(|_| outbox::bind(LOOPBACK, &mut port).unwrap()).collect();
    let ports: Vec<u16> = sockets.iter().map(|s| s.local_addr().unwrap().port()).collect();
    assert!(ports.iter().all(|port| *port >= 49152), "{ports:?}");
    let mut distinct = ports.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), 5, "{ports:?}");
}

#[test]
fn a_source_address_that_is_not_there_is_told_and_counted() {
    let mut outbox = Outbox::new(1);
    let session = NonZeroU32::MIN;
    let endpoint = Endpoint {
        neighbor: LOOPBACK,
        source: Some([192, 0, 2, 1].into()),
        multihop: false,
        ttl: 255,
    };
    outbox.send(session, endpoint, &[0; 24]);
    let report = outbox.report(view(session));
    assert_eq!((report.sent, report.unsent), (0, 1));
    let words = report.trouble.unwrap();
    assert!(words.starts_with("cannot send to 127.0.0.1: "), "{words}");
    outbox.close(session);
    assert_eq!(outbox.report(view(session)).trouble, None);
}

fn view(discriminator: NonZeroU32) -> SessionView {
    SessionView {
        instance: "a".to_owned(),
        discriminator,
        neighbor: Ipv6Addr::LOCALHOST.into(),
        state: elvs_wire::bfd::State::Down,
        since: Instant::now(),
        diagnostic: elvs_wire::bfd::Diagnostic::NONE,
        neighbor_state: elvs_wire::bfd::State::Down,
        neighbor_diagnostic: elvs_wire::bfd::Diagnostic::NONE,
        transmit_interval: Duration::ZERO,
        detection_time: Duration::ZERO,
    }
}

#[tokio::test]
async fn the_timer_expires_after_its_time_and_forgets_what_is_set_anew() {
    let mut timer = Timer::new().unwrap();
    let at = Instant::now() + Duration::from_micros(300);
    timer.set(Some(at));
    timer.expired().await;
    assert!(Instant::now() >= at);
    timer.set(Some(Instant::now()));
    timer.set(Some(Instant::now() + Duration::from_secs(3600)));
    tokio::select! {
        biased;
        () = timer.expired() => panic!("an hour has not passed"),
        () = tokio::task::yield_now() => {}
    }
}

#[tokio::test]
async fn of_changes_that_wait_the_newest_counts_and_suspended_changes_nothing() {
    let (_commands, orders) = mpsc::channel(1);
    let (changes, mut taken) = mpsc::channel(1);
    let mut driver = Driver::new(orders, changes).unwrap();
    for standing in [Standing::Down, Standing::Up, Standing::Suspended] {
        let instance = "a".to_owned();
        driver.say(Change { instance, standing, words: String::new() });
    }
    hand_over(&mut driver.waiting, &driver.changes).await.unwrap();
    assert_eq!(taken.recv().await.map(|change| change.standing), Some(Standing::Up));
    assert!(driver.waiting.is_empty());
}
