//! The defence levels over plain memory (`drop_entry`, `drop_packet`, `secure_tcp`), `nat_icmp_send` and `on_delete reset`.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail loudly"
)]

use elvs_common::Counter;
use elvs_dataplane::{Backend, Defence, FakePlane, Plane, Route};
use elvs_fastpath::Verdict;
use elvs_model::{
    Change, ConnectionState, OnDelete, Persistence, Scheduler, ServiceKey, Setting, Table,
    VirtualService,
};

mod support;

use support::*;

fn set(setting: Setting, value: &str) -> Change {
    Change::Set { setting, value: setting.value(value).unwrap() }
}

/// A plane with a web and a DNS service of one real server each, and settings.
fn with_settings(settings: &[(Setting, &str)]) -> (FakePlane, Table) {
    let services = [add_service(DNS, Scheduler::Rr), add(DNS, 1)];
    let services = services.into_iter().chain([add_service(WEB, Scheduler::Rr), add(WEB, 1)]);
    plane(services.chain(settings.iter().map(|(setting, value)| set(*setting, value))))
}

/// Has the defence look at a part of the table as often as it takes to have met everything; entries dropped.
fn defend(plane: &mut FakePlane) -> u64 {
    let before = count(plane, Counter::DropEntry);
    for _ in 0..2_000 {
        plane.backend().advance_jiffies(1);
        plane.defend(None);
    }
    count(plane, Counter::DropEntry) - before
}

#[test]
fn drop_entry_ends_half_open_connections_and_no_established_ones() {
    let (mut plane, _) = with_settings(&[(Setting::DropEntry, "3")]);
    for port in 0..40 {
        assert_eq!(tcp(&plane, 1_000 + port, SYN), Ok(1));
    }
    for port in 0..10 {
        assert_eq!(tcp(&plane, 1_000 + port, ACK), Ok(1));
    }
    assert_eq!(tcp(&plane, 1_010, FIN), Ok(1));
    assert_eq!(defend(&mut plane), 29, "all but the established ones and the one in TIME_WAIT");
    let states: Vec<ConnectionState> = plane.connections().map(|c| c.state).collect();
    let in_state = |state| states.iter().filter(|s| **s == state).count();
    assert_eq!(in_state(ConnectionState::Established), 10);
    assert_eq!(in_state(ConnectionState::TimeWait), 1);
    assert_eq!(load(&plane, WEB, 1), (10, 1), "loads follow");
    assert_eq!(plane.recount(), [], "no load is wrong");
}

#[test]
fn drop_entry_looks_at_a_thirty_second_of_the_table_at_a_time() {
    let (mut plane, _) = with_settings(&[(Setting::DropEntry, "3")]);
    let buckets = plane.backend().settings().buckets;
    for port in 0..200 {
        assert_eq!(tcp(&plane, 1_000 + port, SYN), Ok(1));
    }
    plane.defend(None);
    let most = u64::from(buckets / 32) * 4;
    assert!(count(&plane, Counter::DropEntry) <= most, "no more than its slots: {most}");
}

#[test]
fn drop_entry_ends_udp_flows_after_an_idle_minute() {
    let (mut plane, _) = with_settings(&[(Setting::DropEntry, "3")]);
    for port in 0..20 {
        assert_eq!(udp(&plane, 1_000 + port), Ok(1));
    }
    assert_eq!(defend(&mut plane), 0);
    plane.backend().advance_seconds(61);
    for port in 0..5 {
        assert_eq!(udp(&plane, 1_000 + port), Ok(1));
    }
    assert_eq!(defend(&mut plane), 15);
    assert_eq!(load(&plane, DNS, 1), (0, 5));
}

#[test]
fn drop_entry_ends_templates_that_no_established_connection_was_made_by() {
    let persistent = |key| {
        let persistence = Some(Persistence { timeout: 3_600 });
        let service = VirtualService::new(key, Scheduler::Rr);
        Change::AddService(VirtualService { persistence, ..service })
    };
    let (mut plane, _) = plane([persistent(WEB), add(WEB, 1), set(Setting::DropEntry, "3")]);
    let from = |last: u8, flags| {
        let client = std::net::Ipv4Addr::new(203, 0, 113, last);
        send(&plane, frame(elvs_common::TCP, (client, 5_000), (VIP, 80), flags))
    };
    assert_eq!((from(1, SYN), from(2, SYN), from(2, ACK)), (Ok(1), Ok(1), Ok(1)));
    sweep(&mut plane);
    assert_eq!(defend(&mut plane), 1, "the half-open connection");
    plane.backend().advance_seconds(61);
    assert_eq!(defend(&mut plane), 1, "and its template");
    let left: Vec<_> = plane.connections().map(|c| (c.template, c.client.ip())).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left.iter().all(|(_, client)| client.to_string() == "203.0.113.2"), "{left:?}");
}

#[test]
fn nothing_is_dropped_unless_asked_for() {
    let (mut plane, _) = with_settings(&[(Setting::DropEntry, "1"), (Setting::DropPacket, "1")]);
    for port in 0..40 {
        assert_eq!(tcp(&plane, 1_000 + port, SYN), Ok(1));
    }
    assert_eq!(defend(&mut plane), 0);
    assert_eq!(plane.live_connections(), 40);
}

#[test]
fn modes_act_while_memory_is_low_and_say_so() {
    let all = [Setting::DropEntry, Setting::DropPacket, Setting::SecureTcp];
    let (mut plane, _) = with_settings(&all.map(|setting| (setting, "1")));
    assert!(plane.asks_for_memory());
    let shown = |plane: &FakePlane| all.map(|setting| plane.settings().number(setting));
    let low = plane.defend(Some(512));
    assert_eq!(low, Defence { drop_entry: true, drop_rate: 2, secure_tcp: true });
    assert_eq!((plane.backend().settings().drop_rate, shown(&plane)), (2, [2, 2, 2]));
    let sent: Vec<bool> = (0..4).map(|port| tcp(&plane, 1_000 + port, SYN).is_ok()).collect();
    assert_eq!(sent, [false, true, false, true]);
    assert_eq!(plane.connections().next().unwrap().state, ConnectionState::SynAck);
    assert_eq!(plane.connections().next().unwrap().expires_s, 120);
    assert_eq!(plane.defend(Some(1_024)), Defence::default());
    assert_eq!((plane.backend().settings().drop_rate, shown(&plane)), (0, [1, 1, 1]));
    assert_eq!(tcp(&plane, 2_000, SYN), Ok(1));
    assert_eq!(plane.table().settings().number(Setting::DropEntry), 1, "as it was set");
}

#[test]
fn modes_act_while_the_flow_table_is_nearly_full() {
    let (mut plane, _) = with_settings(&[(Setting::DropPacket, "1")]);
    let capacity = u16::try_from(plane.capacity()).unwrap();
    for port in 0..capacity - capacity / 32 {
        assert_eq!(tcp(&plane, 1_000 + port, SYN), Ok(1));
    }
    assert_eq!(plane.defend(None), Defence::default(), "not met yet");
    sweep(&mut plane);
    assert_eq!(plane.defend(None).drop_rate, 2, "half of a sixteenth is left");
}

#[test]
fn mode_3_acts_at_once_with_am_droprate() {
    let (mut plane, mut table) = with_settings(&[(Setting::DropPacket, "3")]);
    assert!(!plane.asks_for_memory());
    assert_eq!(plane.backend().settings().drop_rate, 10);
    let dropped = (0..20).filter(|port| tcp(&plane, 1_000 + port, SYN).is_err()).count();
    assert_eq!((dropped, count(&plane, Counter::DropPacket)), (2, 2));
    change(&mut plane, &mut table, [set(Setting::AmDroprate, "1")]);
    assert_eq!(tcp(&plane, 2_000, SYN), Err(Verdict::Drop), "every one");
    change(&mut plane, &mut table, [set(Setting::DropPacket, "0")]);
    assert_eq!(tcp(&plane, 2_000, SYN), Ok(1));
    assert_eq!(tcp(&plane, 1_001, ACK), Ok(1), "known ones go on all the time");
}

fn resetting(key: ServiceKey, on_delete: OnDelete) -> VirtualService {
    VirtualService { on_delete, ..VirtualService::new(key, Scheduler::Rr) }
}

/// What becomes of the client's next packet: whether it is answered by a reset.
fn is_reset(plane: &FakePlane) -> bool {
    let before = count(plane, Counter::ResetSent);
    let sent = tcp(plane, 1_000, ACK);
    let answered = count(plane, Counter::ResetSent) - before == 1;
    assert!(answered || sent == Err(Verdict::Drop), "{sent:?}");
    answered
}

#[test]
fn on_delete_says_what_becomes_of_a_removed_destinations_connections() {
    for on_delete in OnDelete::ALL {
        let service = resetting(WEB, on_delete);
        let (mut plane, mut table) = plane([Change::AddService(service), add(WEB, 1)]);
        assert_eq!(tcp(&plane, 1_000, SYN), Ok(1));
        change(&mut plane, &mut table, [add(WEB, 2), remove(WEB, 1)]);
        assert_eq!(is_reset(&plane), on_delete == OnDelete::Reset);
        assert_eq!(plane.recount(), []);
    }
}

#[test]
fn a_deleted_service_resets_the_connections_of_its_destinations() {
    let services = [Change::AddService(resetting(WEB, OnDelete::Reset)), add(WEB, 1)];
    let others = [add_service(DNS, Scheduler::Rr), add(DNS, 1)];
    let (mut plane, mut table) = plane(services.into_iter().chain(others));
    assert_eq!(tcp(&plane, 1_000, SYN), Ok(1));
    change(&mut plane, &mut table, [Change::DeleteService(WEB)]);
    assert!(is_reset(&plane));
}

#[test]
fn on_delete_is_edited_like_everything_else_of_a_service() {
    let (mut plane, mut table) = plane([add_service(WEB, Scheduler::Rr), add(WEB, 1)]);
    assert_eq!(tcp(&plane, 1_000, SYN), Ok(1));
    change(&mut plane, &mut table, [Change::EditService(resetting(WEB, OnDelete::Reset))]);
    change(&mut plane, &mut table, [remove(WEB, 1)]);
    change(&mut plane, &mut table, [Change::EditService(resetting(WEB, OnDelete::Drop))]);
    assert!(is_reset(&plane), "it was removed before");
    change(&mut plane, &mut table, [add(WEB, 1)]);
    assert_eq!(tcp(&plane, 1_000, SYN), Ok(1));
    change(&mut plane, &mut table, [remove(WEB, 1)]);
    assert!(!is_reset(&plane));
}

#[test]
fn nat_icmp_send_tells_the_real_servers_of_the_table_and_no_others() {
    let masqueraded = |last| {
        let destination = destination(last, 1, elvs_model::ForwardingMethod::Nat);
        Change::AddDestination { service: WEB, destination }
    };
    let changes = [add_service(WEB, Scheduler::Rr), masqueraded(1), masqueraded(2)];
    let (mut plane, mut table) = plane(changes);
    for last in [1, 2] {
        let tunnel_source = Some(std::net::IpAddr::from([10, 0, 0, 10]));
        let route = Route { hop: Some(hop(last)), mtu: 1500, tunnel_source, ..Route::default() };
        plane.set_route(server(last).into(), route);
    }
    let stray = |plane: &FakePlane, last, port, protocol| {
        let before = count(plane, Counter::NoConnection);
        let sent = send(plane, frame(protocol, (server(last), port), (CLIENT, 9_999), ACK));
        let told = count(plane, Counter::NoConnection) - before == 1;
        assert!(told && sent == Err(Verdict::Drop) || sent == Err(Verdict::Pass), "{sent:?}");
        told
    };
    let tcp = elvs_common::TCP;
    assert!(!stray(&plane, 1, 80, tcp), "0 is the default");
    change(&mut plane, &mut table, [set(Setting::NatIcmpSend, "1")]);
    assert!(stray(&plane, 1, 80, tcp) && stray(&plane, 2, 80, tcp));
    assert!(!stray(&plane, 1, 81, tcp), "another port");
    assert!(!stray(&plane, 1, 80, elvs_common::UDP), "another protocol");
    change(&mut plane, &mut table, [remove(WEB, 2)]);
    assert!(stray(&plane, 1, 80, tcp));
    assert!(!stray(&plane, 2, 80, tcp), "not any more");
    change(&mut plane, &mut table, [set(Setting::NatIcmpSend, "0")]);
    assert!(!stray(&plane, 1, 80, tcp));
}
