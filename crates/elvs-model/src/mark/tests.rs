use proptest::prelude::*;

use super::*;

fn rule(text: &str) -> MarkRule {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

const PACKET: MarkedPacket<'static> = MarkedPacket {
    source: IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 2, 3)),
    destination: IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 100)),
    protocol: 6,
    source_port: 40_000,
    destination_port: 443,
    interface: "eth0",
};

#[test]
fn matches_what_fits_everything_it_names() {
    let cases = [
        ("--mark 1", true),
        ("--source 10.0.0.0/8 --mark 1", true),
        ("--source 10.1.2.4 --mark 1", false),
        ("--source ::/0 --mark 1", false),
        ("--destination 192.0.2.100/32 --mark 1", true),
        ("--destination 192.0.2.101 --mark 1", false),
        ("--destination 0.0.0.0/0 --mark 1", true),
        ("--protocol tcp --mark 1", true),
        ("--protocol 17 --mark 1", false),
        ("--protocol tcp --destination-port 443 --mark 1", true),
        ("--protocol tcp --destination-port 444:65535 --mark 1", false),
        ("--protocol tcp --destination-port 0:443 --mark 1", true),
        ("--protocol tcp --source-port 40000:40001 --mark 1", true),
        ("--protocol tcp --source-port 39999 --mark 1", false),
        ("--interface eth0 --mark 1", true),
        ("--interface eth1 --mark 1", false),
        (
            "--source 10.0.0.0/8 --destination 192.0.2.100 --protocol tcp --interface eth1 --mark 1",
            false,
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(rule(text).matches(&PACKET), expected, "{text}");
    }
}

#[test]
fn the_first_rule_that_matches_gives_the_mark() {
    let rules: MarkRules = ["--source 10.9.0.0/16 --mark 1", "--protocol tcp --mark 2", "--mark 3"]
        .into_iter()
        .map(rule)
        .collect();
    assert_eq!(rules.mark_of(&PACKET), Mark(2));
    let other = MarkedPacket { protocol: 17, ..PACKET };
    assert_eq!(rules.mark_of(&other), Mark(3));
    assert_eq!(MarkRules::default().mark_of(&PACKET), Mark::NONE);
    let but_tcp: MarkRules =
        ["--protocol tcp --mark none", "--mark 3"].into_iter().map(rule).collect();
    assert_eq!(but_tcp.mark_of(&PACKET), Mark::NONE);
    assert_eq!(but_tcp.mark_of(&other), Mark(3));
}

#[test]
fn one_text_for_each_rule() {
    let cases = [
        ("--mark 0x10", "--mark 16"),
        ("--mark 4294967295", "--mark 4294967295"),
        ("--mark none --protocol udp", "--protocol udp --mark none"),
        ("--destination 192.0.2.100 --mark 7", "--destination 192.0.2.100/32 --mark 7"),
        ("--mark 7 --destination 2001:DB8:0::/32", "--destination 2001:db8::/32 --mark 7"),
        (
            "--protocol 6 --destination-port 5000-5010 --mark 7",
            "--protocol tcp --destination-port 5000:5010 --mark 7",
        ),
        ("--protocol SCTP --source-port 9:9 --mark 7", "--protocol sctp --source-port 9 --mark 7"),
        (
            "--protocol 47 --interface eth0.10 --mark 7",
            "--protocol 47 --interface eth0.10 --mark 7",
        ),
    ];
    for (text, canonical) in cases {
        assert_eq!(rule(text).to_string(), canonical, "{text}");
    }
}

#[test]
fn refuses_with_value_limit_and_cure() {
    let cases = [
        ("", "a mark rule needs --mark N"),
        ("--mark 0", "`0` is no mark: write a number from 1 to 4294967295"),
        ("--mark 4294967296", "`4294967296` is no mark"),
        ("--mark 0x", "`0x` is no mark"),
        ("--mark +1", "`+1` is no mark"),
        ("--mark 0x+1", "`0x+1` is no mark"),
        ("--mark", "`--mark` has no value"),
        ("--mark 1 --mark 2", "`--mark` is given twice"),
        ("--mark 1 --dport 80", "`--dport` is no option of a mark rule"),
        ("--mark 1 --source 10.0.0.1/8", "write `10.0.0.0/8`, or `10.0.0.1` for the one address"),
        ("--mark 1 --source 10.0.0.0/33", "`10.0.0.0/33` is no prefix"),
        ("--mark 1 --source web1", "`web1` is no prefix"),
        ("--mark 1 --protocol 0", "`0` is no protocol"),
        ("--mark 1 --protocol 256", "`256` is no protocol"),
        ("--mark 1 --protocol tcp --source-port 65536", "`65536` is no port"),
        ("--mark 1 --protocol tcp --source-port 9:", "`9:` is no port"),
        ("--mark 1 --protocol tcp --source-port 9:8", "`9:8` end before they start"),
        ("--mark 1 --source-port 9", "ports need protocol tcp, udp or sctp"),
        ("--mark 1 --protocol 47 --destination-port 9", "ports need protocol tcp, udp or sctp"),
        ("--mark 1 --interface eth+", "`eth+` is no interface name"),
        ("--mark 1 --interface sixteen-letters-", "`sixteen-letters-` is no interface name"),
        ("--mark 1 --interface a/b", "`a/b` is no interface name"),
        ("--mark 1 --source 10.0.0.0/8 --destination ::/0", "of different families"),
    ];
    for (text, expected) in cases {
        let error = text.parse::<MarkRule>().map(|rule| rule.to_string());
        let message = error.expect_err(text).to_string();
        assert!(message.contains(expected), "{text}: {message}");
    }
}

#[test]
fn json_is_the_same_words_and_refuses_unknown_ones() {
    let json =
        r#"{"destination":"192.0.2.100/32","protocol":"tcp","destination_ports":"80:90","mark":7}"#;
    let text = "--destination 192.0.2.100/32 --protocol tcp --destination-port 80:90 --mark 7";
    assert_eq!(serde_json::to_string(&rule(text)).unwrap(), json);
    assert_eq!(serde_json::from_str::<MarkRule>(json).unwrap(), rule(text));
    for wrong in [
        r#"{"mark":-1}"#,
        r#"{"mark":7,"destination":"10.0.0.1/8"}"#,
        r#"{"mark":7,"dport":"80"}"#,
        r#"{"destination":"10.0.0.0/8"}"#,
    ] {
        assert!(serde_json::from_str::<MarkRule>(wrong).is_err(), "{wrong}");
    }
}

fn any_prefix() -> impl Strategy<Value = Prefix> {
    // Few distinct ones, so that they cover each other often.
    let v4 = (0u8..4, 0u8..=32).prop_map(|(bits, length)| {
        Prefix::new(IpAddr::from([bits << 6, 0, 2, bits]), length).unwrap()
    });
    let v6 = (any::<u128>(), 0u8..=128)
        .prop_map(|(bits, length)| Prefix::new(IpAddr::V6(bits.into()), length).unwrap());
    prop_oneof![3 => v4, 1 => v6]
}

fn any_ports() -> impl Strategy<Value = PortRange> {
    prop_oneof![
        (0u16..4, 0u16..4).prop_map(|(a, b)| PortRange::new(a.min(b), a.max(b)).unwrap()),
        (any::<u16>(), any::<u16>()).prop_map(|(a, b)| PortRange::new(a.min(b), a.max(b)).unwrap()),
    ]
}

prop_compose! {
    fn any_rule()(
        source in proptest::option::of(any_prefix()),
        destination in proptest::option::of(any_prefix()),
        protocol in proptest::option::of(1u8..=255),
        source_ports in proptest::option::of(any_ports()),
        destination_ports in proptest::option::of(any_ports()),
        interface in proptest::option::of("[a-z]{1,13}[0-9]"),
        mark in prop_oneof![Just(0u32), any::<u32>()],
    ) -> MarkRule {
        let same = source.is_none_or(|s: Prefix| destination.is_none_or(|d: Prefix| d.family() == s.family()));
        let ported = source_ports.is_some() || destination_ports.is_some();
        let protocol = if ported { Some(6) } else { protocol };
        MarkRule {
            source: source.filter(|_| same),
            destination,
            protocol: protocol.map(|number| IpProtocol(number.try_into().unwrap())),
            source_ports,
            destination_ports,
            interface: interface.map(|name| name.parse().unwrap()),
            mark: Mark(mark),
        }
    }
}

proptest! {
    #[test]
    fn text_and_json_read_back_as_the_same_rule(rule in any_rule()) {
        prop_assert_eq!(rule.to_string().parse::<MarkRule>().unwrap(), rule.clone());
        let json = serde_json::to_string(&rule).unwrap();
        prop_assert_eq!(serde_json::from_str::<MarkRule>(&json).unwrap(), rule);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,60}") {
        let _ = text.parse::<MarkRule>();
        let _ = text.parse::<Prefix>();
        let _ = text.parse::<PortRange>();
    }

    /// Packets are drawn from the corners of the covered rule, where a wrong comparison shows.
    #[test]
    fn a_rule_behind_one_that_covers_it_is_never_reached(first in any_rule(), second in any_rule()) {
        let first = MarkRule { interface: None, protocol: first.source_ports.or(first.destination_ports).and(first.protocol), ..first };
        if first.covers(&second) {
            let family = second.family().or_else(|| first.family()).unwrap_or(Family::Inet);
            let address = |prefix: Option<Prefix>| prefix.unwrap_or_else(|| Prefix::all(family)).address();
            for high in [false, true] {
                let port = |ports: Option<PortRange>| {
                    let ports = ports.unwrap_or(PortRange::ALL);
                    if high { ports.last() } else { ports.first() }
                };
                let packet = MarkedPacket {
                    source: address(second.source),
                    destination: address(second.destination),
                    protocol: second.protocol.map_or(99, IpProtocol::number),
                    source_port: port(second.source_ports),
                    destination_port: port(second.destination_ports),
                    interface: second.interface.as_ref().map_or("eth9", InterfaceName::as_str),
                };
                prop_assert!(second.matches(&packet));
                prop_assert!(first.matches(&packet), "{} / {}", first, second);
            }
        }
    }
}
