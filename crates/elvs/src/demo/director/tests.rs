use super::*;

fn facts(interfaces: &[(&str, &'static str)], packets: u64, drops: &[(&str, u64)]) -> Facts {
    Facts {
        interfaces: interfaces.iter().map(|(name, mode)| ((*name).to_owned(), *mode)).collect(),
        packets,
        drops: drops.iter().map(|(reason, packets)| ((*reason).to_owned(), *packets)).collect(),
    }
}

#[test]
fn counts_only_what_came_to_pass_between_two_looks() {
    let before = facts(&[("eth0", "native")], 10, &[("no_neighbour", 4), ("malformed", 1)]);
    let after =
        facts(&[("eth0", "native")], 25, &[("no_neighbour", 4), ("malformed", 3), ("ttl", 1)]);
    let expected = facts(&[("eth0", "native")], 15, &[("malformed", 2), ("ttl", 1)]);
    assert_eq!(after.since(&before), expected);
}

#[test]
fn names_the_xdp_mode() {
    const CASES: &[(&[(&str, &str)], &str)] = &[
        (&[], "none"),
        (&[("eth0", "native")], "native"),
        (&[("eth0", "generic"), ("eth1", "generic")], "generic"),
        (&[("eth0", "native"), ("eth1", "generic")], "eth0 native, eth1 generic"),
    ];
    for (interfaces, expected) in CASES {
        assert_eq!(facts(interfaces, 0, &[]).xdp_mode(), *expected);
    }
}
