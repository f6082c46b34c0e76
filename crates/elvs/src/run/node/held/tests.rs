use std::net::{IpAddr, Ipv4Addr};

use elvs_model::health::{Drained, HealthSettings, OnDrift, ServiceHealth};
use elvs_model::{
    Change, ChangeError, Desired, DesiredService, Destination, DestinationKey, ForwardingMethod,
    LocalAddresses, Protocol, Scheduler, ServiceKey, VirtualService,
};

use super::Held;
use crate::run::health::Tables;

fn vip() -> ServiceKey {
    let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    ServiceKey::Address { protocol: Protocol::Tcp, address, port: 80 }
}

fn server(last: u8, weight: u32) -> Destination {
    Destination {
        key: DestinationKey { address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)), port: 80 },
        method: ForwardingMethod::Dr,
        weight,
        upper_threshold: 0,
        lower_threshold: 0,
    }
}

fn file(destinations: &[Destination]) -> Desired {
    let service = DesiredService {
        service: VirtualService::new(vip(), Scheduler::Rr),
        destinations: destinations.to_vec(),
        local_addresses: LocalAddresses::default(),
        health: ServiceHealth::default(),
    };
    let health = HealthSettings { on_drift: OnDrift::Keep, ..HealthSettings::default() };
    Desired { services: vec![service], health, ..Desired::default() }
}

fn held(destinations: &[Destination]) -> Held {
    Held::default().with_file(file(destinations), file(destinations))
}

fn table(destinations: &[Destination]) -> Tables {
    Tables::from([(vip(), destinations.to_vec())])
}

#[test]
fn only_what_checks_changed_is_changed_and_it_can_be_undone() {
    let (one, two) = (server(2, 1), server(3, 1));
    let mut held = held(&[one, two]);
    assert_eq!(held.take_over(&table(&[one, two])).0, []);
    let gone = Change::DeleteDestination { service: vip(), destination: two.key };
    let (changes, undo) = held.take_over(&table(&[one]));
    assert_eq!(changes, std::slice::from_ref(&gone));
    assert_eq!(held.take_over(&table(&[one])).0, []);
    held.undo(undo);
    assert_eq!(held.take_over(&table(&[one])).0, [gone]);
    let back = Change::AddDestination { service: vip(), destination: two };
    assert_eq!(held.take_over(&table(&[one, two])).0, [back]);
}

#[test]
fn what_was_done_by_hand_outlives_checks_and_reloads_until_the_file_changes() {
    let (one, two) = (server(2, 1), server(3, 1));
    let mut held = held(&[one, two]);
    let drained = Destination { weight: 0, ..one };
    let by_hand = [
        Change::EditDestination { service: vip(), destination: drained },
        Change::DeleteDestination { service: vip(), destination: two.key },
    ];
    held.keep(&by_hand, &[Ok(()), Ok(())]);
    assert_eq!(held.effective().services[0].destinations, [drained]);
    // It fails and comes back, and is drained still; the other one stays away.
    let gone = Change::DeleteDestination { service: vip(), destination: one.key };
    assert_eq!(held.take_over(&table(&[two])).0, [gone]);
    let back = Change::AddDestination { service: vip(), destination: drained };
    assert_eq!(held.take_over(&table(&[two, one])).0, [back]);
    // The file says something else of the first.
    let heavier = server(2, 7);
    let reloaded = held.with_file(file(&[heavier, two]), file(&[heavier, two]));
    assert_eq!(reloaded.effective().services[0].destinations, [heavier]);
    // By hand again, back to what it was.
    let mut held = reloaded;
    let added = Change::AddDestination { service: vip(), destination: two };
    held.keep(&[added], &[Ok(())]);
    let (changes, _) = held.take_over(&table(&[heavier, two]));
    assert_eq!(changes, [Change::AddDestination { service: vip(), destination: two }]);
}

#[test]
fn what_was_done_by_hand_outlives_the_daemon_but_not_a_file_that_changed_meanwhile() {
    let (one, two) = (server(2, 1), server(3, 1));
    let mut held = held(&[one, two]);
    let drained = Destination { weight: 0, ..one };
    let by_hand = [
        Change::EditDestination { service: vip(), destination: drained },
        Change::DeleteDestination { service: vip(), destination: two.key },
    ];
    held.keep(&by_hand, &[Ok(()), Ok(())]);
    let kept: super::KeptByHand =
        serde_json::from_str(&serde_json::to_string(&held.by_hand()).unwrap()).unwrap();
    let next = Held::restored(file(&[one, two]), kept.clone());
    let next = next.with_file(file(&[one, two]), file(&[one, two]));
    assert_eq!(next.effective().services[0].destinations, [drained]);
    let heavier = server(3, 9);
    let next = Held::restored(file(&[one, two]), kept.clone());
    let next = next.with_file(file(&[one, heavier]), file(&[one, heavier]));
    assert_eq!(next.effective().services[0].destinations, [drained, heavier]);
    // An orderly stop left nothing.
    let next = Held::restored(Desired::default(), kept);
    let next = next.with_file(file(&[one, two]), file(&[one, two]));
    assert_eq!(next.effective().services[0].destinations, [one, two]);
}

#[test]
fn what_the_file_does_not_speak_of_is_no_drift() {
    let held = held(&[server(2, 1)]);
    let other = ServiceKey::Fwmark { mark: 7, family: elvs_model::Family::Inet };
    assert!(!held.concerns(&Change::DeleteService(other)));
    assert!(!held.concerns(&Change::AddService(VirtualService::new(other, Scheduler::Rr))));
    assert!(held.concerns(&Change::DeleteService(vip())));
    assert!(held.concerns(&Change::Flush));
    assert!(!Held::default().concerns(&Change::Flush));
}

/// The file's own 0 is no check's.
#[test]
fn a_weight_by_hand_stays_where_the_file_says_0() {
    let (quiet, other, by_hand) = (server(2, 0), server(3, 1), server(2, 5));
    let mut held = held(&[quiet, other]);
    held.keep(&[Change::EditDestination { service: vip(), destination: by_hand }], &[Ok(())]);
    let gone = Change::DeleteDestination { service: vip(), destination: other.key };
    assert_eq!(held.take_over(&table(&[quiet])).0, [gone]);
    let again = held.with_file(file(&[quiet, other]), file(&[quiet, other]));
    assert_eq!(again.effective().services[0].destinations, [by_hand, other]);
}

/// As the next daemon finds it after a crash.
fn crashed(held: &Held, before: Desired, after: Desired) -> Held {
    let kept = serde_json::to_string(&held.by_hand()).unwrap();
    let next = Held::restored(before, serde_json::from_str(&kept).unwrap());
    next.with_file(after.clone(), after)
}

#[test]
fn a_service_that_was_deleted_by_hand_stays_away_until_the_file_says_something_else_of_it() {
    let (one, two) = (server(2, 1), server(3, 1));
    for deletion in [Change::DeleteService(vip()), Change::Flush] {
        let mut held = held(&[one, two]);
        held.keep(&[deletion], &[Ok(())]);
        assert_eq!(held.effective().services, []);
        assert_eq!(held.take_over(&table(&[one])).0, [], "nor do checks bring it back");
        for next in [
            held.with_file(file(&[one, two]), file(&[one, two])),
            crashed(&held, file(&[one, two]), file(&[one, two])),
        ] {
            assert_eq!(next.effective().services, [], "the file says the same");
            assert!(next.concerns(&Change::AddService(VirtualService::new(vip(), Scheduler::Rr))));
        }
        let more = file(&[one, two, server(4, 1)]);
        let next = crashed(&held, file(&[one, two]), more.clone());
        assert_eq!(next.effective().services, more.services, "the file says more");
        let mut other = file(&[one, two]);
        other.services[0].service.scheduler = Scheduler::Wlc;
        let next = held.with_file(other.clone(), other.clone());
        assert_eq!(next.effective().services, other.services, "the file says something else");
        assert!(next.by_hand().is_empty());
        let mut restored = file(&[one, two]);
        restored.health.on_drift = OnDrift::Restore;
        let next = held.with_file(restored.clone(), restored.clone());
        assert_eq!(next.effective().services, restored.services);
    }
}

#[test]
fn a_service_that_was_edited_or_made_again_by_hand_outlives_the_daemon() {
    let (one, two) = (server(2, 1), server(3, 1));
    let mut held = held(&[one, two]);
    let edited = VirtualService::new(vip(), Scheduler::Wlc);
    held.keep(&[Change::EditService(edited.clone())], &[Ok(())]);
    let next = crashed(&held, file(&[one, two]), file(&[one, two]));
    assert_eq!(next.effective().services[0].service, edited);
    assert_eq!(next.effective().services[0].destinations, [one, two]);
    // Deleted and made again, it has what was put in it by hand.
    let made = VirtualService::new(vip(), Scheduler::Lc);
    let by_hand = [
        Change::DeleteService(vip()),
        Change::AddService(made.clone()),
        Change::AddDestination { service: vip(), destination: server(3, 5) },
    ];
    held.keep(&by_hand, &[Ok(()), Ok(()), Ok(())]);
    let next = crashed(&held, file(&[one, two]), file(&[one, two]));
    assert_eq!(next.effective().services[0].service, made);
    assert_eq!(next.effective().services[0].destinations, [server(3, 5)]);
}

/// Places of the others are right after one went.
#[test]
fn checks_go_on_for_the_services_that_are_left() {
    let other = ServiceKey::Fwmark { mark: 7, family: elvs_model::Family::Inet };
    let mut both = file(&[server(2, 1)]);
    let second = DesiredService {
        service: VirtualService::new(other, Scheduler::Rr),
        ..both.services[0].clone()
    };
    both.services.push(second);
    let mut held = Held::default().with_file(both.clone(), both);
    held.keep(&[Change::DeleteService(vip())], &[Ok(())]);
    let gone = Change::DeleteDestination { service: other, destination: server(2, 1).key };
    assert_eq!(held.take_over(&Tables::from([(other, Vec::new())])).0, [gone]);
}

#[test]
fn a_drained_real_server_stays_so_whatever_checks_and_file_say() {
    let (one, two) = (server(2, 5), server(3, 1));
    let drained = Destination { weight: 0, ..one };
    let which = Drained { service: vip(), destination: one.key };
    let mut held = held(&[one, two]);
    assert_eq!(held.drain(which, true), Ok(true));
    assert_eq!(held.drain(which, true), Ok(false));
    let (changes, _) = held.take_over(&table(&[one, two]));
    assert_eq!(changes, [Change::EditDestination { service: vip(), destination: drained }]);
    assert_eq!(held.take_over(&table(&[server(2, 3), two])).0, [], "a check's weight");
    for on_drift in [OnDrift::Keep, OnDrift::Restore] {
        let mut heavier = file(&[server(2, 9), two]);
        heavier.health.on_drift = on_drift;
        for next in [
            held.with_file(heavier.clone(), heavier.clone()),
            crashed(&held, file(&[one, two]), heavier.clone()),
            // An orderly stop.
            Held::restored(Desired::default(), held.by_hand().after_stop())
                .with_file(heavier.clone(), heavier.clone()),
        ] {
            assert_eq!(next.effective().services[0].destinations, [drained, two]);
        }
    }
    assert_eq!(held.drain(which, false), Ok(true));
    let back = Change::EditDestination { service: vip(), destination: server(2, 3) };
    // Another one's weight is not this command's business.
    let planned = held.with_planned(which, &file(&[server(2, 3), server(3, 8)]));
    assert_eq!(held.take_over(&planned).0, [back]);
    assert_eq!(held.with_planned(which, &file(&[two])), Tables::new(), "it is down");
}

#[test]
fn a_drain_ends_with_a_weight_by_hand_and_with_its_real_server() {
    let (one, two) = (server(2, 5), server(3, 1));
    let which = Drained { service: vip(), destination: one.key };
    let mut held = held(&[one, two]);
    held.drain(which, true).unwrap();
    let without = held.with_file(file(&[two]), file(&[two]));
    assert_eq!(without.drained(), []);
    let still = Change::EditDestination { service: vip(), destination: server(2, 0) };
    held.keep(&[still], &[Ok(())]);
    assert_eq!(held.drained(), [which]);
    let edit = Change::EditDestination { service: vip(), destination: server(2, 4) };
    held.keep(&[edit], &[Ok(())]);
    assert_eq!(held.drained(), []);
    let other = Drained { destination: server(9, 1).key, ..which };
    assert_eq!(held.drain(other, true), Err(ChangeError::NoSuchDestination));
    let mark = ServiceKey::Fwmark { mark: 7, family: elvs_model::Family::Inet };
    let other = Drained { service: mark, ..which };
    assert_eq!(held.drain(other, true), Err(ChangeError::NoSuchService));
}
