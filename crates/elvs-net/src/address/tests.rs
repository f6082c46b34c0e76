use super::*;

#[test]
fn covers_by_prefix() {
    const CASES: &[(&str, u8, &str, bool)] = &[
        ("10.0.0.10", 24, "10.0.0.100", true),
        ("10.0.0.10", 24, "10.0.1.100", false),
        ("10.0.0.10", 32, "10.0.0.10", true),
        ("10.0.0.10", 32, "10.0.0.11", false),
        ("10.0.0.10", 0, "192.0.2.1", true),
        ("10.0.0.10", 24, "fd00::1", false),
        ("fd00::10", 64, "fd00::1", true),
        ("fd00::10", 64, "fd00:0:0:1::1", false),
        ("fd00::10", 0, "2001:db8::1", true),
    ];
    for (mine, prefix_len, other, expected) in CASES {
        let address =
            Address { ifindex: 1, address: mine.parse().unwrap(), prefix_len: *prefix_len };
        assert_eq!(
            address.covers(other.parse().unwrap()),
            *expected,
            "{other} in {mine}/{prefix_len}"
        );
    }
}

#[test]
fn the_narrowest_subnet_wins_and_a_host_address_is_the_last_resort() {
    let address = |text: &str, prefix_len, ifindex| Address {
        ifindex,
        address: text.parse().unwrap(),
        prefix_len,
    };
    let host = address("192.0.2.7", 32, 4);
    let subnets = Subnets {
        wide: vec![address("10.0.0.10", 24, 1), address("10.1.2.3", 8, 2)],
        hosts: [(host.address, host)].into(),
    };
    let of = |text: &str| subnets.of(text.parse().unwrap()).map(|found| found.ifindex);
    assert_eq!(of("10.0.0.100"), Some(1));
    assert_eq!(of("10.9.9.9"), Some(2));
    assert_eq!(of("192.0.2.7"), Some(4));
    assert_eq!(of("192.0.2.8"), None);
}
