use super::*;
use crate::{Destination, DestinationKey, Family, ForwardingMethod, Netmask, Table};
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
            for vip in ["10.0.0.100", "fd00::100"] {
                let service = VirtualService { scheduler, ..service(protocol, vip, 80) };
                assert_eq!(in_effect(&service), Ok(()));
            }
        }
    }
    // A mask without persistence groups nobody, so it is no lie to accept it.
    let masked =
        VirtualService { netmask: Netmask::V4(0xff), ..service(Protocol::Tcp, "10.0.0.100", 80) };
    assert_eq!(in_effect(&masked), Ok(()));
    let by_call = VirtualService {
        engine: Some("sip".to_owned()),
        ..service(Protocol::Udp, "10.0.0.100", 5060)
    };
    assert_eq!(in_effect(&by_call), Ok(()));
}

#[test]
fn refuses_by_name_what_it_does_not_forward() {
    let cases = [("::ffff:10.0.0.100", service(Protocol::Tcp, "::ffff:10.0.0.100", 80))];
    for (named, service) in cases {
        let Err(ChangeError::Unsupported(message)) = in_effect(&service) else {
            panic!("{named} was accepted");
        };
        assert!(message.contains(named), "{message}");
        assert!(message.contains("what works is"), "{message}");
    }
}

#[test]
fn a_destination_is_left_to_the_table_which_refuses_it_as_the_kernel_does() {
    let service = service(Protocol::Tcp, "fd00::100", 80);
    let destination = destination("::ffff:10.0.0.21", ForwardingMethod::Dr);
    let add = Change::AddDestination { service: service.key, destination };
    let edit = Change::EditDestination { service: service.key, destination };
    let mut table = Table::new();
    assert_eq!(add.in_effect(), Ok(()));
    assert_eq!(table.apply(&add), Err(ChangeError::ServiceNotDefined));
    table.apply(&Change::AddService(service)).unwrap();
    assert_eq!(table.apply(&add), Err(ChangeError::Invalid));
    assert_eq!(edit.in_effect(), Ok(()));
    assert_eq!(table.apply(&edit), Err(ChangeError::NoSuchDestination));
    assert_eq!(Change::Flush.in_effect(), Ok(()));
}

#[test]
fn marks_of_both_families_are_in_effect() {
    for family in [Family::Inet, Family::Inet6] {
        let key = ServiceKey::Fwmark { mark: 7, family };
        assert_eq!(in_effect(&VirtualService::new(key, Scheduler::Wlc)), Ok(()));
    }
    for destination in ["fd00::100", "10.0.0.100"] {
        let rule: crate::MarkRule =
            format!("--destination {destination} --mark 7").parse().unwrap();
        assert_eq!(Change::AddMark(rule.clone()).in_effect(), Ok(()));
        assert_eq!(Change::DeleteMark(rule).in_effect(), Ok(()));
    }
}
