use super::*;

fn entry(state: NeighbourState) -> NeighbourMessage {
    let mut message = message_for(7, "10.0.0.21".parse().unwrap());
    message.header.state = state;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(vec![2, 0, 0, 0, 0, 1]));
    message
}

/// A MAC address is handed out in the states of the kernel's NUD_VALID and in no other.
#[test]
fn gives_a_mac_address_only_while_it_is_valid() {
    const CASES: &[(NeighbourState, bool)] = &[
        (NeighbourState::None, false),
        (NeighbourState::Incomplete, false),
        (NeighbourState::Reachable, true),
        (NeighbourState::Stale, true),
        (NeighbourState::Delay, true),
        (NeighbourState::Probe, true),
        (NeighbourState::Failed, false),
        (NeighbourState::Noarp, true),
        (NeighbourState::Permanent, true),
        (NeighbourState::Other(0x200), false),
    ];
    for (state, valid) in CASES {
        let neighbour = Neighbour::from_message(&entry(*state)).unwrap();
        assert_eq!(neighbour.mac.is_some(), *valid, "{state:?}");
        assert_eq!(neighbour.failed, *state == NeighbourState::Failed, "{state:?}");
        assert_eq!((neighbour.ifindex, neighbour.address), (7, "10.0.0.21".parse().unwrap()));
    }
}

#[test]
fn rejects_addresses_that_are_no_ethernet_address() {
    let mut message = entry(NeighbourState::Reachable);
    message.attributes.pop();
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(vec![1; 20]));
    assert_eq!(Neighbour::from_message(&message).unwrap().mac, None);
    message.attributes.remove(0);
    assert_eq!(Neighbour::from_message(&message), None, "an entry without an IP address");
}
