use std::net::Ipv4Addr;

use super::*;

#[test]
fn shortens_numbers_from_a_hundred_million_on() {
    let cases = [
        (0, "        0", "        0"),
        (99_999_999, " 99999999", " 99999999"),
        (100_000_000, "  100000K", " 100000000"),
        (999_999_999, "  999999K", " 999999999"),
        (1_000_000_000, "    1000M", " 1000000000"),
        (99_999_999_999, "   99999M", " 99999999999"),
        (109_876_543_210, "     109G", " 109876543210"),
        (99_999_999_999_999, "   99999G", " 99999999999999"),
        (100_000_000_000_000, "     100T", " 100000000000000"),
        (u64::MAX, "18446744T", " 18446744073709551615"),
    ];
    for (number, short, exact) in cases {
        assert_eq!(large(number, false), short, "{number}");
        assert_eq!(large(number, true), exact, "{number} exact");
    }
}

/// Long names for everything.
struct LongNames;

impl Names for LongNames {
    fn address_of(&self, _: &str) -> Option<Ipv4Addr> {
        None
    }

    fn host_of(&self, _: IpAddr) -> Option<String> {
        Some("a-rather-long-host-name-of-forty-characters.example.org".to_owned())
    }

    fn port_of(&self, _: &str, _: Protocol) -> Option<u16> {
        None
    }

    fn service_of(&self, _: u16, _: Protocol) -> Option<String> {
        Some("http-alternative".to_owned())
    }
}

#[test]
fn cuts_long_names_where_ipvsadm_does() {
    let v4 = "10.0.0.100".parse().unwrap();
    let v6 = "fd00::100".parse().unwrap();
    let key = |address| ServiceKey::Address { protocol: Protocol::Tcp, address, port: 8080 };
    let named = Namer::new(&LongNames, false);
    let listed = named.listed_service(&key(v4));
    assert_eq!(listed, "TCP  a-rather-long-host-name-of-f");
    assert_eq!(listed.len(), 33);
    let listed = named.listed_service(&key(v6));
    assert_eq!(listed, "TCP  [a-rather-long-host-name-of-forty-characters.example.org]:h");
    let saved = named.saved_service(&key(v4));
    assert_eq!(saved, "-t a-rather-long-host-name-of-forty-characters.example.org:htt");
    let numeric = Namer::new(&LongNames, true);
    assert_eq!(numeric.saved_service(&key(v6)), "-t [fd00::100]:8080");
    // The port of a firewall-mark service's destination has no protocol, so no name.
    assert!(named.endpoint(v4, 80, None).ends_with(":80"));
}

#[test]
fn writes_ipv6_addresses_as_inet_ntop_does() {
    for text in [
        "::",
        "::1",
        "::ffff",
        "::0.1.0.2",
        "::10.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:0:1:2",
        "64:ff9b::a00:1",
        "1::",
        "2001:db8::1:0:0:1",
        "10.0.0.1",
    ] {
        assert_eq!(address_text(text.parse().unwrap()), text);
    }
}

#[test]
fn names_flags_by_the_scheduler_and_leaves_one_without_a_name() {
    let key = ServiceKey::Fwmark { mark: 1, family: Family::Inet };
    let named = |scheduler, bits| {
        flags(&VirtualService {
            flags: SchedulerFlags(bits),
            ..VirtualService::new(key, scheduler)
        })
    };
    assert_eq!(named(Scheduler::Rr, 0), None);
    assert_eq!(named(Scheduler::Rr, 0x38).as_deref(), Some("flag-1,flag-2,flag-3"));
    assert_eq!(named(Scheduler::Mh, 0x30).as_deref(), Some("mh-port"));
    assert_eq!(named(Scheduler::Sh, 0x20).as_deref(), Some(""));
}
