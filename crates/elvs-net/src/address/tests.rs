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
