use super::*;

#[test]
fn compares_addresses_by_the_sign_of_their_difference() {
    let mut addresses: Vec<IpAddr> =
        ["10.0.0.1", "192.0.2.1", "127.0.0.1", "203.0.113.9", "172.16.0.1"]
            .map(|a| a.parse().unwrap())
            .to_vec();
    merge_sort(&mut addresses, &|a, b| compare_addresses(*a, *b));
    let expected: Vec<IpAddr> = ["127.0.0.1", "172.16.0.1", "192.0.2.1", "203.0.113.9", "10.0.0.1"]
        .map(|a| a.parse().unwrap())
        .to_vec();
    assert_eq!(addresses, expected);
}

#[test]
fn lists_services_by_mark_family_protocol_address_and_port() {
    use elvs_model::Protocol::{Sctp, Tcp, Udp};
    let key = |protocol, address: &str, port| ServiceKey::Address {
        protocol,
        address: address.parse().unwrap(),
        port,
    };
    let mark = |mark, family| ServiceKey::Fwmark { mark, family };
    let expected = vec![
        // A mark above 2^31 is negative.
        mark(u32::MAX, Family::Inet),
        key(Tcp, "10.0.0.1", 80),
        key(Tcp, "10.0.0.1", 443),
        key(Tcp, "10.0.0.2", 1),
        key(Udp, "10.0.0.1", 53),
        key(Sctp, "10.0.0.1", 1),
        key(Tcp, "2001:db8::1", 80),
        key(Tcp, "2001:db8::2", 80),
        mark(1, Family::Inet),
        mark(1, Family::Inet6),
        mark(2, Family::Inet),
    ];
    let mut keys: Vec<ServiceKey> = expected.iter().rev().copied().collect();
    merge_sort(&mut keys, &compare_services);
    assert_eq!(keys, expected);
}

#[test]
fn lists_destinations_by_address_and_port_with_families_mixed() {
    let key = |text: &str| {
        let socket: std::net::SocketAddr = text.parse().unwrap();
        DestinationKey { address: socket.ip(), port: socket.port() }
    };
    let expected =
        ["[fd00::21]:80", "10.0.0.21:80", "10.0.0.21:8080", "10.0.0.22:1", "127.0.0.1:80"].map(key);
    let mut keys = expected.to_vec();
    keys.reverse();
    merge_sort(&mut keys, &compare_destinations);
    assert_eq!(keys, expected);
}
