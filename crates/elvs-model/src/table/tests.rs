use super::*;
use crate::{Persistence, Protocol, Scheduler};

fn key(port: u16) -> ServiceKey {
    let address = "10.0.0.100".parse().unwrap();
    ServiceKey::Address { protocol: Protocol::Tcp, address, port }
}

fn destination(address: &str) -> Destination {
    Destination {
        key: DestinationKey { address: address.parse().unwrap(), port: 80 },
        method: ForwardingMethod::Dr,
        weight: 1,
        upper_threshold: 0,
        lower_threshold: 0,
    }
}

fn add(table: &mut Table, destination: Destination) -> Result<(), ChangeError> {
    table.apply(&Change::AddDestination { service: key(80), destination })
}

fn edit(table: &mut Table, destination: Destination) -> Result<(), ChangeError> {
    table.apply(&Change::EditDestination { service: key(80), destination })
}

fn table_with_service() -> Table {
    let mut table = Table::new();
    table.apply(&Change::AddService(VirtualService::new(key(80), Scheduler::Rr))).unwrap();
    table
}

#[test]
fn lists_destinations_newest_first_and_services_as_created() {
    let mut table = table_with_service();
    table.apply(&Change::AddService(VirtualService::new(key(22), Scheduler::Rr))).unwrap();
    for address in ["10.0.0.21", "10.0.0.23", "10.0.0.22"] {
        add(&mut table, destination(address)).unwrap();
    }
    let services: Vec<_> = table.services().map(|s| s.service().key).collect();
    assert_eq!(services, [key(80), key(22)]);
    let order: Vec<_> = table.service(&key(80)).unwrap().destinations().map(|d| d.key).collect();
    let expected: Vec<_> =
        ["10.0.0.22", "10.0.0.23", "10.0.0.21"].map(|a| destination(a).key).into();
    assert_eq!(order, expected);
    // Editing keeps the place in the list.
    edit(&mut table, Destination { weight: 9, ..destination("10.0.0.23") }).unwrap();
    let order: Vec<_> = table.service(&key(80)).unwrap().destinations().map(|d| d.key).collect();
    assert_eq!(order, expected);
}

#[test]
fn edits_are_counted_and_are_no_difference() {
    let mut table = table_with_service();
    add(&mut table, destination("10.0.0.21")).unwrap();
    let before = table.clone();
    edit(&mut table, destination("10.0.0.21")).unwrap();
    edit(&mut table, destination("10.0.0.22")).unwrap_err();
    assert_eq!(table.service(&key(80)).unwrap().edits(), 1);
    assert_eq!(table, before);
}

#[test]
fn refuses_as_the_kernel_does() {
    let mut table = table_with_service();
    add(&mut table, destination("10.0.0.21")).unwrap();
    let service = |port| VirtualService::new(key(port), Scheduler::Wlc);
    let with_engine = VirtualService { engine: Some("nosuch".to_owned()), ..service(81) };
    let v6_mask = VirtualService { netmask: Netmask::V6(64), ..service(81) };
    let elsewhere = |destination| Change::AddDestination { service: key(81), destination };
    let here = |destination| Change::AddDestination { service: key(80), destination };
    let edit = |destination| Change::EditDestination { service: key(80), destination };
    let new = destination("10.0.0.22");
    let gue = |port| {
        let kind = TunnelKind::Gue { port, checksum: crate::TunnelChecksum::None };
        Destination { method: ForwardingMethod::Tun(kind), ..new }
    };
    let heavy = Destination { weight: 1 << 31, ..new };
    let low_only = Destination { lower_threshold: 2, ..new };
    let crossed = Destination { upper_threshold: 1, lower_threshold: 2, ..new };
    let known = destination("10.0.0.21");
    let cases = [
        ("service exists", Change::AddService(service(80)), ChangeError::ServiceExists),
        ("unknown engine", Change::AddService(with_engine), ChangeError::SchedulerNotFound),
        ("mask of another family", Change::AddService(v6_mask), ChangeError::Invalid),
        ("edit unknown", Change::EditService(service(81)), ChangeError::NoSuchService),
        ("delete unknown", Change::DeleteService(key(81)), ChangeError::NoSuchService),
        ("add to unknown", elsewhere(new), ChangeError::ServiceNotDefined),
        ("destination exists", here(known), ChangeError::DestinationExists),
        ("weight", here(heavy), ChangeError::OutOfRange),
        ("weight in edit", edit(Destination { weight: 1 << 31, ..known }), ChangeError::OutOfRange),
        ("-y without -x", here(low_only), ChangeError::OutOfRange),
        ("-y above -x", here(crossed), ChangeError::OutOfRange),
        ("range before existence", edit(low_only), ChangeError::OutOfRange),
        ("edit unknown destination", edit(new), ChangeError::NoSuchDestination),
        ("gue port", here(gue(0)), ChangeError::Invalid),
        ("unspecified", here(destination("0.0.0.0")), ChangeError::Invalid),
        ("multicast", here(destination("224.0.0.1")), ChangeError::Invalid),
        ("broadcast", here(destination("255.255.255.255")), ChangeError::Invalid),
        ("mixed families without tunnel", here(destination("fd00::21")), ChangeError::Invalid),
        (
            "delete from unknown",
            Change::DeleteDestination { service: key(81), destination: new.key },
            ChangeError::ServiceNotDefined,
        ),
        (
            "delete unknown destination",
            Change::DeleteDestination { service: key(80), destination: new.key },
            ChangeError::NoSuchDestination,
        ),
        (
            "timeout beyond the kernel's jiffies",
            Change::SetTimeouts(Timeouts { tcp: 8_589_935, tcp_fin: 0, udp: 0 }),
            ChangeError::Invalid,
        ),
    ];
    let before = table.clone();
    for (name, change, expected) in cases {
        assert_eq!(table.apply(&change), Err(expected), "{name}");
        assert_eq!(table, before, "{name} changed the table");
    }
    table.apply(&here(gue(6080))).unwrap();
}

#[test]
fn accepts_a_tunnelled_destination_of_the_other_family_and_the_largest_weight() {
    let mut table = table_with_service();
    let method = ForwardingMethod::Tun(TunnelKind::Ipip);
    add(&mut table, Destination { method, ..destination("fd00::21") }).unwrap();
    add(&mut table, Destination { weight: i32::MAX as u32, ..destination("10.0.0.25") }).unwrap();
    assert_eq!(table.service(&key(80)).unwrap().destinations().len(), 2);
}

#[test]
fn edits_replace_the_service_and_keep_its_destinations() {
    let mut table = table_with_service();
    add(&mut table, destination("10.0.0.21")).unwrap();
    let edited = VirtualService {
        persistence: Some(Persistence { timeout: 120 }),
        ..VirtualService::new(key(80), Scheduler::Wlc)
    };
    table.apply(&Change::EditService(edited.clone())).unwrap();
    let entry = table.service(&key(80)).unwrap();
    assert_eq!(entry.service(), &edited);
    assert_eq!(entry.destination(&destination("10.0.0.21").key).unwrap().weight, 1);
}

#[test]
fn timeout_of_zero_keeps_the_one_in_force() {
    let mut table = Table::new();
    assert_eq!(table.timeouts(), Timeouts { tcp: 900, tcp_fin: 120, udp: 300 });
    table.apply(&Change::SetTimeouts(Timeouts { tcp: 3600, tcp_fin: 60, udp: 600 })).unwrap();
    table.apply(&Change::SetTimeouts(Timeouts { tcp: 0, tcp_fin: 0, udp: 100 })).unwrap();
    assert_eq!(table.timeouts(), Timeouts { tcp: 3600, tcp_fin: 60, udp: 100 });
}

#[test]
fn flush_empties_the_table_and_keeps_timeouts() {
    let mut table = table_with_service();
    table.apply(&Change::SetTimeouts(Timeouts { tcp: 1, tcp_fin: 0, udp: 0 })).unwrap();
    table.apply(&Change::Flush).unwrap();
    assert_eq!(table.services().len(), 0);
    assert_eq!(table.timeouts().tcp, 1);
}

#[test]
fn round_trips_through_json_with_its_order() {
    let mut table = table_with_service();
    for address in ["10.0.0.23", "10.0.0.21", "10.0.0.22"] {
        add(&mut table, destination(address)).unwrap();
    }
    let text = serde_json::to_string(&table).unwrap();
    let back: Table = serde_json::from_str(&text).unwrap();
    let order =
        |t: &Table| -> Vec<_> { t.service(&key(80)).unwrap().destinations().copied().collect() };
    assert_eq!(order(&back), order(&table));
    assert_eq!(back, table);
}

#[test]
fn mark_rules_keep_their_order_and_outlive_a_flush() {
    let rule = |text: &str| -> MarkRule { text.parse().unwrap() };
    let (web, all) = (rule("--destination 10.0.0.100 --mark 7"), rule("--mark 1"));
    let mut table = table_with_service();
    for rule in [&web, &all] {
        table.apply(&Change::AddMark(rule.clone())).unwrap();
    }
    let before = table.clone();
    assert_eq!(table.apply(&Change::AddMark(web.clone())), Err(ChangeError::MarkRuleExists));
    let unknown = Change::DeleteMark(rule("--mark 2"));
    assert_eq!(table.apply(&unknown), Err(ChangeError::NoSuchMarkRule));
    let portless = MarkRule { source_ports: Some(crate::PortRange::one(1)), ..all.clone() };
    assert!(matches!(table.apply(&Change::AddMark(portless)), Err(ChangeError::Unsupported(_))));
    assert_eq!(table, before);
    table.apply(&Change::Flush).unwrap();
    assert_eq!(table.marks().as_slice(), [web.clone(), all.clone()]);
    table.apply(&Change::DeleteMark(web)).unwrap();
    assert_eq!(table.marks().as_slice(), [all]);
}

#[test]
fn reads_a_table_written_before_there_were_marks() {
    let text = r#"{"services":[],"timeouts":{"tcp":900,"tcp_fin":120,"udp":300}}"#;
    assert_eq!(serde_json::from_str::<Table>(text).unwrap(), Table::new());
}
