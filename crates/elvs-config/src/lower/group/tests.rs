use elvs_model::health::{CheckKind, ServiceGroup};
use elvs_model::{Protocol, ServiceKey};

use crate::lower::tests::{LEAST, read_text, read_with, shown};

/// A group with `lines` and a virtual server for it with one real server and `more`.
fn file(lines: &str, more: &str) -> String {
    format!(
        "virtual_server_group G {{\n{lines}\n}}\nvirtual_server group G {{\nlvs_sched rr\nlvs_method NAT\nprotocol TCP\nreal_server 192.0.2.99 8080 {{\nTCP_CHECK {{\n}}\n}}\n{more}\n}}\n"
    )
}

fn keys(lines: &str) -> Vec<String> {
    let outcome = read_text(&file(lines, ""));
    let found = shown(&outcome);
    let desired = outcome.desired.unwrap_or_else(|| panic!("{lines}: {found:?}"));
    desired.services.iter().map(|service| service.service.key.to_string()).collect()
}

#[test]
fn ranges_expand_to_one_service_for_each_address() {
    let cases: [(&str, &[&str]); 6] = [
        ("192.0.2.1 80", &["TCP 192.0.2.1:80"]),
        ("192.0.2.1-3 80", &["TCP 192.0.2.1:80", "TCP 192.0.2.2:80", "TCP 192.0.2.3:80"]),
        (
            "192.0.2.255-192.0.3.1 80",
            &["TCP 192.0.2.255:80", "TCP 192.0.3.0:80", "TCP 192.0.3.1:80"],
        ),
        // Unlike local addresses, every address of a prefix counts, as in keepalived.
        ("192.0.2.8/31 80", &["TCP 192.0.2.8:80", "TCP 192.0.2.9:80"]),
        ("192.0.2.9/32 80", &["TCP 192.0.2.9:80"]),
        ("192.0.2.1 80\n192.0.2.1 81", &["TCP 192.0.2.1:80", "TCP 192.0.2.1:81"]),
    ];
    for (lines, want) in cases {
        assert_eq!(keys(lines), want, "{lines}");
    }
    assert_eq!(keys("192.0.2.0-63 80").len(), 64);
    let six =
        file("2001:db8::fffe-ffff 80\n2001:db8:1::/127", "").replace("192.0.2.99", "2001:db8::9");
    let desired = read_text(&six).desired.unwrap();
    let keys: Vec<_> = desired.services.iter().map(|s| s.service.key.to_string()).collect();
    assert_eq!(
        keys,
        [
            "TCP [2001:db8::fffe]:80",
            "TCP [2001:db8::ffff]:80",
            "TCP [2001:db8:1::]:0",
            "TCP [2001:db8:1::1]:0"
        ]
    );
}

#[test]
fn services_of_a_group_are_watched_as_one_with_the_same_checks() {
    let desired = read_text(&file("192.0.2.1-2 80\nfwmark 7", "")).desired.unwrap();
    assert_eq!(desired.services.len(), 3);
    let group = ServiceGroup { name: "G".to_owned(), protocol: Some(Protocol::Tcp) };
    for service in &desired.services {
        assert_eq!(service.health.group.as_ref(), Some(&group));
        assert_eq!(service.health.servers, desired.services[0].health.servers);
    }
    assert!(matches!(desired.services[2].service.key, ServiceKey::Fwmark { mark: 7, .. }));
    let of_marks = file("fwmark 7 inet", "").replace("protocol TCP\n", "");
    let desired = read_text(&of_marks).desired.unwrap();
    assert_eq!(desired.services[0].health.group.as_ref().unwrap().protocol, None);
}

#[test]
fn path_checks_of_a_group_differ_by_their_address() {
    let text = file("192.0.2.1-2 80", "").replace("TCP_CHECK", "PATH_CHECK");
    let desired = read_text(&text).desired.unwrap();
    let vips: Vec<_> = desired
        .services
        .iter()
        .map(|service| {
            let kind = &service.health.servers[0].checks[0].kind;
            let CheckKind::Path(path) = kind else { panic!("{kind:?}") };
            path.vip.to_string()
        })
        .collect();
    assert_eq!(vips, ["192.0.2.1", "192.0.2.2"]);
}

#[test]
fn direct_routing_keeps_the_port_of_each_address() {
    let text = file("192.0.2.1 80\n192.0.2.1 81", "").replace("NAT", "DR");
    let outcome = read_text(&text);
    let found = shown(&outcome);
    assert_eq!(
        found,
        [
            "f:9:24: warning: DR cannot change the port: 80 is used, not 8080",
            "f:9:24: warning: DR cannot change the port: 81 is used, not 8080",
        ]
    );
    let ports = |service: &elvs_model::DesiredService| service.destinations[0].key.port;
    assert_eq!(outcome.desired.unwrap().services.iter().map(ports).collect::<Vec<_>>(), [80, 81]);
}

#[test]
fn lines_that_cannot_be_meant_are_refused() {
    let cases = [
        ("", "f:1:1: error: virtual server group `G` is empty"),
        ("192.0.2.1 80 90", "f:2:14: error: `90` is one word too many in a line of a group"),
        ("192.0.2.1 http", "f:2:11: error: port `http` is not a number"),
        ("192.0.2.9-8 80", "f:2:1: error: range `192.0.2.9-8` does not end after its start"),
        ("192.0.2.9-9 80", "f:2:1: error: range `192.0.2.9-9` does not end after its start"),
        ("192.0.2.1-256 80", "f:2:1: error: range `192.0.2.1-256` has no end of its family"),
        ("192.0.2.1-::1 80", "f:2:1: error: range `192.0.2.1-::1` has no end of its family"),
        ("192.0.2.1/29 80", "f:2:1: error: `192.0.2.1/29` does not begin at the start of a prefix"),
        ("192.0.2.0/33 80", "f:2:1: error: `192.0.2.0/33` does not begin at the start of a prefix"),
        (
            "192.0.0.0/16 80",
            "f:2:1: error: range `192.0.0.0/16` has 65536 addresses, more than 4096",
        ),
        (
            "web.example.org 80",
            "f:2:1: error: virtual address `web.example.org` is not an IP address",
        ),
        ("fwmark", "f:2:1: error: `fwmark` has no MARK"),
        ("fwmark 0", "f:2:8: error: firewall mark 0 is below 1"),
        ("fwmark 1 inet4", "f:2:10: error: unknown address family `inet4`"),
    ];
    for (lines, want) in cases {
        let outcome = read_text(&file(lines, ""));
        assert!(outcome.desired.is_none(), "{lines}");
        assert_eq!(shown(&outcome), [want], "{lines}");
    }
}

#[test]
fn groups_are_named_once_and_services_are_there_once() {
    let twice = file("192.0.2.1 80", "") + "virtual_server_group G {\n192.0.2.5 80\n}\n";
    let found = shown(&read_text(&twice));
    assert_eq!(found, ["f:14:1: error: virtual server group `G` is defined twice"]);
    let unknown = file("192.0.2.1 80", "").replace("_group G", "_group GG");
    assert_eq!(
        shown(&read_text(&unknown)),
        ["f:4:22: error: there is no virtual server group `G`"]
    );
    let overlap = file("192.0.2.1-9 80\n192.0.2.4-12 80", "");
    let found = shown(&read_text(&overlap));
    assert_eq!(found, ["f:3:1: error: virtual server TCP 192.0.2.4:80 is defined twice"]);
}

#[test]
fn an_error_of_one_address_is_said_though_the_first_is_well() {
    let mixed = file("192.0.2.1-2 80\n2001:db8::1 80", "");
    assert_eq!(
        shown(&read_text(&mixed)),
        ["f:9:13: error: real server 192.0.2.99 is IPv4 in a virtual server of IPv6"]
    );
}

#[test]
fn a_real_server_in_its_own_group_is_left_out_there() {
    let outcome = read_text(&file("192.0.2.98-100 80", ""));
    assert_eq!(
        shown(&outcome),
        [
            "f:8:13: warning: real server 192.0.2.99 is an address of the group: the service there goes without it"
        ]
    );
    let servers = |s: &elvs_model::DesiredService| (s.destinations.len(), s.health.servers.len());
    let counts: Vec<_> = outcome.desired.unwrap().services.iter().map(servers).collect();
    assert_eq!(counts, [(1, 1), (0, 0), (1, 1)]);
}

#[test]
fn services_beyond_the_room_are_refused() {
    let lines = "10.0.0.0/20 80";
    assert_eq!(keys(lines).len(), 4096);
    let one_more = read_text(&file("10.0.0.0/20 80\n10.1.0.0 80", ""));
    assert_eq!(
        shown(&one_more),
        ["f:5:1: error: there are more than 4096 virtual services from here on"]
    );
}

#[test]
fn groups_do_not_grow_without_bound() {
    let servers: String = (0..5).map(|n| format!("real_server 10.9.0.{n} 80 {{\n}}\n")).collect();
    assert_eq!(
        shown(&read_text(&file("10.0.0.0/20 80", &servers))),
        [
            "f:4:1: error: there are more than 16384 real servers from here on, each counted in every virtual service"
        ]
    );
    let long = format!("virtualhost {}", "a".repeat(16_384));
    assert_eq!(
        shown(&read_text(&file("10.0.0.0/20 80", &long))),
        ["f:4:1: error: 4096 services of a block this long exceed the limit of 67108864 bytes"]
    );
    assert!(read_text(&file("10.0.0.0/22 80", &long)).desired.is_some());
}

#[test]
fn any_port_of_a_group_makes_it_persistent() {
    let outcome = read_text(&file("192.0.2.1 80\n192.0.2.2", ""));
    assert_eq!(
        shown(&outcome),
        ["f:5:1: warning: a service on every port is persistent: 360 seconds are used"]
    );
    let persistent = |s: &elvs_model::DesiredService| s.service.persistence.is_some();
    assert!(outcome.desired.unwrap().services.iter().all(persistent));
}

#[test]
fn marks_of_a_group_are_left_out_where_they_are_not_in_effect() {
    let outcome = read_with(&file("192.0.2.1 80\nfwmark 5", ""), LEAST);
    assert_eq!(
        shown(&outcome),
        ["f:3:1: warning: services by firewall mark are not yet in effect: this one is left out"]
    );
    assert_eq!(outcome.desired.unwrap().services.len(), 1);
}
