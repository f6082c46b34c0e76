use super::*;
use crate::{DestinationKey, Family, ForwardingMethod, Netmask, TunnelChecksum, TunnelKind};
use crate::{Protocol, Scheduler};

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
    for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
        for scheduler in Scheduler::ALL {
            for (vip, real) in [("10.0.0.100", "10.0.0.21"), ("fd00::100", "fd00::21")] {
                let service = VirtualService { scheduler, ..service(protocol, vip, 80) };
                for method in [
                    ForwardingMethod::Nat,
                    ForwardingMethod::Dr,
                    ForwardingMethod::Tun(TunnelKind::Ipip),
                ] {
                    let destination = destination(real, method);
                    assert_eq!(in_effect(&service, Some(&destination)), Ok(()));
                }
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
    let cases = [
        ("::ffff:10.0.0.100", service(Protocol::Tcp, "::ffff:10.0.0.100", 80)),
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
    let cases = [("::ffff:10.0.0.21", destination("::ffff:10.0.0.21", ForwardingMethod::Dr))];
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
    let destination = destination("::ffff:10.0.0.21", ForwardingMethod::Dr);
    let change = Change::AddDestination { service: service.key, destination };
    let mut table = Table::new();
    assert_eq!(change.in_effect(&table), Ok(()));
    table.apply(&Change::AddService(service)).unwrap();
    assert!(matches!(change.in_effect(&table), Err(ChangeError::Unsupported(_))));
    assert_eq!(Change::Flush.in_effect(&table), Ok(()));
}

#[test]
fn marks_of_both_families_are_in_effect() {
    let table = Table::new();
    for family in [Family::Inet, Family::Inet6] {
        let key = ServiceKey::Fwmark { mark: 7, family };
        assert_eq!(in_effect(&VirtualService::new(key, Scheduler::Wlc), None), Ok(()));
    }
    for destination in ["fd00::100", "10.0.0.100"] {
        let rule: crate::MarkRule =
            format!("--destination {destination} --mark 7").parse().unwrap();
        assert_eq!(Change::AddMark(rule.clone()).in_effect(&table), Ok(()));
        assert_eq!(Change::DeleteMark(rule).in_effect(&table), Ok(()));
    }
}
