use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::health::ServiceHealth;
use crate::{
    ForwardingMethod, LocalAddresses, Persistence, Protocol, Scheduler, SettingValue, Settings,
    Table, TunnelKind, VirtualService,
};

fn service(port: u16, scheduler: Scheduler) -> VirtualService {
    let address = "10.0.0.100".parse().unwrap();
    VirtualService::new(ServiceKey::Address { protocol: Protocol::Tcp, address, port }, scheduler)
}

fn destination(last: u8, weight: u32) -> Destination {
    Destination {
        key: DestinationKey { address: [10, 0, 0, last].into(), port: 80 },
        method: ForwardingMethod::Dr,
        weight,
        upper_threshold: 0,
        lower_threshold: 0,
    }
}

fn mark_rules(marks: &[u32]) -> MarkRules {
    marks.iter().map(|mark| format!("--mark {mark}").parse().unwrap()).collect()
}

fn desired(services: Vec<(VirtualService, Vec<Destination>)>) -> Desired {
    let services = services
        .into_iter()
        .map(|(service, destinations)| DesiredService {
            service,
            destinations,
            local_addresses: LocalAddresses::default(),
            health: ServiceHealth::default(),
        })
        .collect();
    Desired { services, ..Desired::default() }
}

#[test]
fn an_unchanged_configuration_changes_nothing() {
    let same = desired(vec![(service(80, Scheduler::Rr), vec![destination(21, 1)])]);
    assert_eq!(diff(&same, &same), []);
}

#[test]
fn deletes_then_edits_then_adds_in_file_order() {
    let old = desired(vec![
        (service(80, Scheduler::Rr), vec![destination(21, 1), destination(22, 1)]),
        (service(81, Scheduler::Rr), vec![destination(21, 1)]),
        (service(82, Scheduler::Rr), vec![]),
    ]);
    let new = desired(vec![
        (service(90, Scheduler::Wlc), vec![destination(31, 1)]),
        (service(80, Scheduler::Wrr), vec![destination(23, 2), destination(22, 5)]),
        (service(82, Scheduler::Rr), vec![]),
    ]);
    let (k80, k81, k90) = (
        service(80, Scheduler::Rr).key,
        service(81, Scheduler::Rr).key,
        service(90, Scheduler::Rr).key,
    );
    assert_eq!(
        diff(&old, &new),
        [
            Change::DeleteDestination { service: k80, destination: destination(21, 1).key },
            Change::DeleteService(k81),
            Change::EditService(service(80, Scheduler::Wrr)),
            Change::EditDestination { service: k80, destination: destination(22, 5) },
            Change::AddService(service(90, Scheduler::Wlc)),
            Change::AddDestination { service: k90, destination: destination(31, 1) },
            Change::AddDestination { service: k80, destination: destination(23, 2) },
        ]
    );
}

#[test]
fn timeouts_left_out_go_back_to_the_initial_ones() {
    let plain = Desired::default();
    let timeouts = Some(Timeouts { tcp: 60, tcp_fin: 0, udp: 0 });
    let set = Desired { timeouts, ..Desired::default() };
    assert_eq!(
        diff(&plain, &set),
        [Change::SetTimeouts(Timeouts { tcp: 60, tcp_fin: 120, udp: 300 })]
    );
    assert_eq!(
        diff(&set, &plain),
        [Change::SetTimeouts(Timeouts { tcp: 900, tcp_fin: 120, udp: 300 })]
    );
    let spelt_out = Some(Timeouts { tcp: 60, tcp_fin: 120, udp: 0 });
    assert_eq!(diff(&set, &Desired { timeouts: spelt_out, ..Desired::default() }), []);
}

#[test]
fn mark_rules_are_changed_from_the_first_difference_on() {
    let with = |marks: &[u32]| Desired { marks: mark_rules(marks), ..Desired::default() };
    let shown = |old: &[u32], new: &[u32]| -> Vec<String> {
        let text = |change: &Change| {
            if let Change::AddMark(rule) = change {
                return format!("+{}", rule.mark);
            }
            let Change::DeleteMark(rule) = change else { panic!("{change:?}") };
            format!("-{}", rule.mark)
        };
        diff(&with(old), &with(new)).iter().map(text).collect()
    };
    assert_eq!(shown(&[1, 2], &[1, 2, 3]), ["+3"]);
    assert_eq!(shown(&[1, 2, 3], &[1, 3]), ["-2"]);
    assert_eq!(shown(&[1, 2, 3], &[1, 4, 2]), ["-3", "-2", "+4", "+2"]);
    assert_eq!(shown(&[1, 2], &[2, 1]), ["-1", "-2", "+2", "+1"]);
}

fn any_destination() -> impl Strategy<Value = Destination> {
    let methods = prop_oneof![
        Just(ForwardingMethod::Dr),
        Just(ForwardingMethod::Nat),
        Just(ForwardingMethod::Tun(TunnelKind::Ipip)),
    ];
    (1u8..6, 0u32..3, methods)
        .prop_map(|(last, weight, method)| Destination { method, ..destination(last, weight) })
}

/// Local addresses, and whether the real servers are by full NAT.
fn any_locals() -> impl Strategy<Value = (bool, LocalAddresses)> {
    let some = proptest::collection::btree_set(200u8..204, 1..4);
    let some = some.prop_map(|last| last.into_iter().map(|last| [10, 0, 0, last].into()).collect());
    prop_oneof![
        some.clone().prop_map(|locals| (true, locals)),
        some.prop_map(|locals| (false, locals)),
        Just((false, LocalAddresses::default())),
    ]
}

fn any_service() -> impl Strategy<Value = (VirtualService, Vec<Destination>)> {
    let schedulers = prop_oneof![Just(Scheduler::Rr), Just(Scheduler::Wlc)];
    let persistence = proptest::option::of((1u32..3).prop_map(|timeout| Persistence { timeout }));
    (1u16..6, schedulers, persistence, proptest::collection::vec(any_destination(), 0..5)).prop_map(
        |(port, scheduler, persistence, destinations)| {
            (VirtualService { persistence, ..service(port, scheduler) }, destinations)
        },
    )
}

prop_compose! {
    fn any_desired()(
        services in proptest::collection::vec(any_service(), 0..5),
        locals in proptest::collection::vec(any_locals(), 5),
        timeouts in proptest::option::of((0u32..3, 0u32..3, 0u32..3)),
        set in proptest::option::of((0usize..Setting::all().len(), 0i64..4)),
        marks in proptest::sample::subsequence(vec![1u32, 2, 3, 4, 5], 0..5).prop_shuffle(),
    ) -> Desired {
        let mut seen = HashSet::new();
        let services = services.into_iter().filter(|(s, _)| seen.insert(s.key)).collect();
        let timeouts = timeouts.map(|(tcp, tcp_fin, udp)| Timeouts { tcp, tcp_fin, udp });
        let mut settings = Settings::default();
        let mut desired = desired(services);
        for (service, (full_nat, locals)) in desired.services.iter_mut().zip(locals) {
            if full_nat {
                service.destinations.iter_mut().for_each(|d| d.method = ForwardingMethod::FullNat);
            }
            service.local_addresses = locals;
        }
        if let Some((index, number)) = set {
            // A value that the setting does not take leaves the defaults.
            let _ = settings.set(Setting::all().nth(index).unwrap(), SettingValue::Number(number));
        }
        Desired { timeouts, marks: mark_rules(&marks), settings, ..desired }
    }
}

/// A service with its destinations and local addresses without their orders.
type Content = (VirtualService, BTreeMap<DestinationKey, Destination>, BTreeSet<IpAddr>);

/// The table without its orders.
fn content(table: &Table) -> BTreeMap<String, Content> {
    table
        .services()
        .map(|s| {
            let destinations = s.destinations().map(|d| (d.key, *d)).collect();
            let locals = s.local_addresses().iter().collect();
            (s.service().key.to_string(), (s.service().clone(), destinations, locals))
        })
        .collect()
}

proptest! {
    #[test]
    fn leads_from_the_old_table_to_the_new(old in any_desired(), new in any_desired()) {
        let mut table = Table::from_desired(&old).unwrap();
        let changes = diff(&old, &new);
        for change in &changes {
            prop_assert_eq!(table.apply(change), Ok(()), "{:?}", change);
        }
        let fresh = Table::from_desired(&new).unwrap();
        prop_assert_eq!(content(&table), content(&fresh));
        prop_assert_eq!(table.timeouts(), fresh.timeouts());
        prop_assert_eq!(table.marks(), fresh.marks());
        prop_assert_eq!(table.settings(), fresh.settings());
        let before = Table::from_desired(&old).unwrap();
        prop_assert_eq!(changes.is_empty(), content(&before) == content(&fresh)
            && before.timeouts() == fresh.timeouts()
            && before.marks() == fresh.marks()
            && before.settings() == fresh.settings());
    }
}
