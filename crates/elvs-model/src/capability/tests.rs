use super::*;
use crate::Scheduler;
use crate::{DestinationKey, ForwardingMethod, Netmask, TunnelChecksum, TunnelKind};

fn service(protocol: Protocol, address: &str, port: u16) -> VirtualService {
    let key = ServiceKey::Address { protocol, address: address.parse().unwrap(), port };
    VirtualService::new(key, Scheduler::Wlc)
}

fn destination(address: &str, method: ForwardingMethod) -> Destination {
    Destination {
        key: DestinationKey { address: address.parse().unwrap(), port: 80 },
        method,
        weight: 1,
        upper_threshold: 0,
        lower_threshold: 0,
    }
}

#[test]
fn forwards_what_first_light_promises() {
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        for scheduler in Scheduler::ALL {
            let service = VirtualService { scheduler, ..service(protocol, "10.0.0.100", 80) };
            for method in [
                ForwardingMethod::Nat,
                ForwardingMethod::Dr,
                ForwardingMethod::Tun(TunnelKind::Ipip),
            ] {
                let destination = destination("10.0.0.21", method);
                assert_eq!(in_effect(&service, Some(&destination)), Ok(()));
            }
        }
    }
    // A mask without persistence groups nobody, so it is no lie to accept it.
    let masked =
        VirtualService { netmask: Netmask::V4(0xff), ..service(Protocol::Tcp, "10.0.0.100", 80) };
    assert_eq!(in_effect(&masked, None), Ok(()));
}

#[test]
fn refuses_by_name_what_it_does_not_forward() {
    let plain = || service(Protocol::Tcp, "10.0.0.100", 80);
    let mark = ServiceKey::Fwmark { mark: 7, family: Family::Inet6 };
    let cases = [
        ("IPv6", VirtualService::new(mark, Scheduler::Wlc)),
        ("IPv6", service(Protocol::Tcp, "fd00::100", 80)),
        ("SCTP", service(Protocol::Sctp, "10.0.0.100", 80)),
        ("engine sip", VirtualService { engine: Some("sip".to_owned()), ..plain() }),
    ];
    for (named, service) in cases {
        let Err(ChangeError::Unsupported(message)) = in_effect(&service, None) else {
            panic!("{named} was accepted");
        };
        assert!(message.contains(named), "{message}");
        assert!(message.contains("what works is"), "{message}");
    }
}

#[test]
fn refuses_destinations_it_cannot_reach() {
    let tunnel = ForwardingMethod::Tun(TunnelKind::Ipip);
    let cases = [
        ("fd00::21", destination("fd00::21", ForwardingMethod::Dr)),
        ("fd00::22", destination("fd00::22", tunnel)),
    ];
    let service = service(Protocol::Tcp, "10.0.0.100", 80);
    for (named, destination) in cases {
        let Err(ChangeError::Unsupported(message)) = in_effect(&service, Some(&destination)) else {
            panic!("{named} was accepted");
        };
        assert!(message.contains(named), "{message}");
    }
}

#[test]
fn tunnels_of_every_kind_are_in_effect() {
    let service = service(Protocol::Tcp, "10.0.0.100", 80);
    for checksum in [TunnelChecksum::None, TunnelChecksum::Csum, TunnelChecksum::Remcsum] {
        for kind in [TunnelKind::Gue { port: 6080, checksum }, TunnelKind::Gre { checksum }] {
            let destination = destination("10.0.0.21", ForwardingMethod::Tun(kind));
            assert_eq!(in_effect(&service, Some(&destination)), Ok(()), "{kind:?}");
        }
    }
}

#[test]
fn a_destination_of_an_unknown_service_is_left_to_the_table() {
    let service = service(Protocol::Tcp, "10.0.0.100", 80);
    let destination = destination("fd00::21", ForwardingMethod::Dr);
    let change = Change::AddDestination { service: service.key, destination };
    let mut table = Table::new();
    assert_eq!(change.in_effect(&table), Ok(()));
    table.apply(&Change::AddService(service)).unwrap();
    assert!(matches!(change.in_effect(&table), Err(ChangeError::Unsupported(_))));
    assert_eq!(Change::Flush.in_effect(&table), Ok(()));
}

#[test]
fn mark_rules_of_ipv6_are_refused_by_name_and_can_always_be_deleted() {
    let rule: crate::MarkRule = "--destination fd00::100 --mark 7".parse().unwrap();
    let table = Table::new();
    let Err(ChangeError::Unsupported(message)) = Change::AddMark(rule.clone()).in_effect(&table)
    else {
        panic!("accepted");
    };
    assert!(message.starts_with("mark rules with IPv6 addresses are not in effect"), "{message}");
    assert_eq!(Change::DeleteMark(rule).in_effect(&table), Ok(()));
}
