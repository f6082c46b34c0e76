use super::*;
use crate::{Change, DestinationKey, Scheduler};

const fn key(protocol: Protocol, port: u16) -> ServiceKey {
    let address = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 10));
    ServiceKey::Address { protocol, address, port }
}

const WEB: ServiceKey = key(Protocol::Tcp, 80);

fn service(key: ServiceKey) -> Change {
    Change::AddService(VirtualService::new(key, Scheduler::Rr))
}

fn local(service: ServiceKey, address: &str) -> Change {
    Change::AddLocalAddress { service, address: address.parse().unwrap() }
}

fn without(service: ServiceKey, address: &str) -> Change {
    Change::DeleteLocalAddress { service, address: address.parse().unwrap() }
}

fn destination(last: u8, method: ForwardingMethod) -> Destination {
    Destination {
        key: DestinationKey { address: [10, 0, 0, last].into(), port: 8080 },
        method,
        weight: 1,
        upper_threshold: 0,
        lower_threshold: 0,
    }
}

fn add(service: ServiceKey, last: u8, method: ForwardingMethod) -> Change {
    Change::AddDestination { service, destination: destination(last, method) }
}

fn table(changes: &[Change]) -> Table {
    let mut table = Table::new();
    changes.iter().for_each(|change| table.apply(change).unwrap());
    table
}

/// What the last of these changes is refused with; it leaves the table as it was.
fn refusal(changes: &[Change]) -> String {
    let (last, before) = changes.split_last().unwrap();
    let mut table = table(before);
    let kept = table.clone();
    let error = table.apply(last).unwrap_err();
    assert_eq!(table, kept);
    error.to_string()
}

const FULL: ForwardingMethod = ForwardingMethod::FullNat;
const NAT: ForwardingMethod = ForwardingMethod::Nat;

#[test]
fn a_service_by_full_nat_has_local_addresses_in_their_order() {
    let mut table = table(&[
        service(WEB),
        local(WEB, "10.0.0.201"),
        local(WEB, "10.0.0.200"),
        add(WEB, 1, FULL),
        add(WEB, 2, FULL),
    ]);
    let locals = |table: &Table| -> Vec<String> {
        let entry = table.service(&WEB).unwrap();
        entry.local_addresses().iter().map(|address| address.to_string()).collect()
    };
    assert_eq!(locals(&table), ["10.0.0.201", "10.0.0.200"]);
    // An edited service keeps them.
    let edited = VirtualService::new(WEB, Scheduler::Wlc);
    table.apply(&Change::EditService(edited)).unwrap();
    table.apply(&without(WEB, "10.0.0.201")).unwrap();
    assert_eq!(locals(&table), ["10.0.0.200"]);
    assert!(table.service(&WEB).unwrap().is_full_nat());
    let json = serde_json::to_string(&table).unwrap();
    assert_eq!(serde_json::from_str::<Table>(&json).unwrap(), table);
    // The last one goes with the last real server.
    for last in [1, 2] {
        let destination = destination(last, FULL).key;
        table.apply(&Change::DeleteDestination { service: WEB, destination }).unwrap();
    }
    table.apply(&without(WEB, "10.0.0.200")).unwrap();
}

#[test]
fn methods_are_not_mixed_with_full_nat() {
    let base = [service(WEB), local(WEB, "10.0.0.200")];
    let with = |changes: &[Change]| [&base[..], changes].concat();
    let mixed = "TCP 192.0.2.10:80: FULLNAT cannot be mixed with another forwarding method in one service; give all its real servers the same, or remove the others first";
    assert_eq!(refusal(&with(&[add(WEB, 1, FULL), add(WEB, 2, NAT)])), mixed);
    assert_eq!(refusal(&with(&[add(WEB, 1, NAT), add(WEB, 2, FULL)])), mixed);
    let edit = |last, method| Change::EditDestination {
        service: WEB,
        destination: destination(last, method),
    };
    assert_eq!(refusal(&with(&[add(WEB, 1, NAT), add(WEB, 2, NAT), edit(2, FULL)])), mixed);
    // The only real server may change over, both ways.
    let table = table(&with(&[add(WEB, 1, NAT), edit(1, FULL), edit(1, NAT)]));
    assert!(!table.service(&WEB).unwrap().is_full_nat());
}

#[test]
fn what_full_nat_cannot_be_is_refused_by_name_and_cure() {
    let marked = ServiceKey::Fwmark { mark: 7, family: Family::Inet };
    let sctp = key(Protocol::Sctp, 80);
    let dns = key(Protocol::Udp, 53);
    let once = VirtualService { one_packet: true, ..VirtualService::new(dns, Scheduler::Rr) };
    let other = ServiceKey::Address {
        protocol: Protocol::Tcp,
        address: "10.0.0.200".parse().unwrap(),
        port: 80,
    };
    let with_local = [service(dns), local(dns, "10.0.0.200"), add(dns, 1, FULL)];
    let cases: [(&[Change], &str); 13] = [
        (&[service(WEB), add(WEB, 1, FULL)], "needs a local address; give the service one first"),
        (
            &[service(marked), local(marked, "10.0.0.200")],
            "FWM 7: FULLNAT is for TCP and UDP services by address, not for services by firewall mark",
        ),
        (&[service(marked), add(marked, 1, FULL)], "not for services by firewall mark"),
        (&[service(sctp), local(sctp, "10.0.0.200")], "not for SCTP"),
        (
            &[Change::AddService(once.clone()), local(dns, "10.0.0.200"), add(dns, 1, FULL)],
            "not for one-packet scheduling (-o, ops)",
        ),
        (
            &[&with_local[..], &[Change::EditService(once)]].concat(),
            "not for one-packet scheduling (-o, ops)",
        ),
        (
            &[service(WEB), local(WEB, "fd00::1")],
            "fd00::1 cannot be a local address: it is not of the service's address family",
        ),
        (&[service(WEB), local(WEB, "224.0.0.1")], "is not a unicast address"),
        (&[service(WEB), local(WEB, "127.0.0.1")], "is not a unicast address"),
        (&[service(WEB), local(WEB, "192.0.2.10")], "it is the address of a virtual service"),
        (
            &[&with_local[..], &[service(other)]].concat(),
            "TCP 10.0.0.200:80: its address is a local address of UDP 192.0.2.10:53",
        ),
        (
            &[service(WEB), local(WEB, "10.0.0.200"), local(WEB, "10.0.0.200")],
            "Local address already exists",
        ),
        (&[service(WEB), without(WEB, "10.0.0.200")], "No such local address"),
    ];
    for (changes, wanted) in cases {
        let found = refusal(changes);
        assert!(found.contains(wanted), "{wanted}: {found}");
    }
    let last = refusal(&[&with_local[..], &[without(dns, "10.0.0.200")]].concat());
    assert!(last.contains("10.0.0.200 is the last local address of a FULLNAT service"), "{last}");
    assert_eq!(refusal(&[local(WEB, "10.0.0.200")]), "Service not defined");
}

#[test]
fn services_may_share_a_local_address() {
    let dns = key(Protocol::Udp, 53);
    table(&[
        service(WEB),
        service(dns),
        local(WEB, "10.0.0.200"),
        local(dns, "10.0.0.200"),
        add(WEB, 1, FULL),
        add(dns, 1, FULL),
    ]);
}
