use std::net::Ipv4Addr;

use elvs_model::health::CheckKind;
use elvs_model::{
    Destination, DestinationKey, Family, ForwardingMethod, Netmask, OnDelete, Persistence,
    Protocol, Scheduler, SchedulerFlags, ServiceKey, Setting, Timeouts, TunnelChecksum, TunnelKind,
    XdpMode,
};

use crate::{Capabilities, Code, Feature, MapSource, Options, Outcome, Severity, read};

/// A release without any feature that keywords may need.
pub(in crate::lower) const LEAST: Capabilities = Capabilities {
    schedulers: &[Scheduler::Rr, Scheduler::Wrr, Scheduler::Wlc],
    protocols: &[Protocol::Tcp, Protocol::Udp],
    families: &[Family::Inet],
    any_port: false,
    features: &[],
    ..Capabilities::THIS_RELEASE
};

/// Capabilities of a data plane that can do everything the model can say.
const EVERYTHING: Capabilities = Capabilities {
    schedulers: &Scheduler::ALL,
    protocols: &[Protocol::Tcp, Protocol::Udp, Protocol::Sctp],
    families: &[Family::Inet, Family::Inet6],
    gue: true,
    gre: true,
    any_port: true,
    features: &[
        Feature::Fwmark,
        Feature::Persistence,
        Feature::PersistenceEngine,
        Feature::OnePacket,
        Feature::SchedulerFlags,
        Feature::Thresholds,
    ],
};

pub(in crate::lower) fn read_with(text: &str, capabilities: Capabilities) -> Outcome {
    let options = Options { capabilities, ..Options::default() };
    read(&MapSource::single("f", text), "f", &options)
}

pub(in crate::lower) fn read_text(text: &str) -> Outcome {
    read_with(text, Capabilities::THIS_RELEASE)
}

pub(in crate::lower) fn shown(outcome: &Outcome) -> Vec<String> {
    outcome.diagnostics.iter().map(ToString::to_string).collect()
}

/// A service whose block is complete but for `lines`.
pub(in crate::lower) fn service(head: &str, lines: &str) -> String {
    format!(
        "virtual_server {head} {{\n{lines}\nlvs_sched rr\nlvs_method NAT\nprotocol TCP\nreal_server 192.0.2.9 80 {{\n}}\n}}\n"
    )
}

#[test]
fn keepalived_conf_services_are_lowered_as_written() {
    let text = "\
virtual_server 192.0.2.1 80 {
  lb_algo wrr
  lb_kind DR
  protocol tcp
  weight 7
  real_server 192.0.2.11 80 {
    weight 3
  }
  real_server 192.0.2.12 {
  }
  real_server 192.0.2.13 80 {
    weight 0
    lvs_method TUN
  }
}
virtual_server 192.0.2.1 53 {
  lvs_sched wlc
  lvs_method NAT
  protocol UDP
  real_server 192.0.2.11 5353 { }
  real_server 192.0.2.11 5354 { weight 2147483647 }
  real_server 192.0.2.12 0 { lvs_method DR }
}
";
    let outcome = read_text(text);
    assert_eq!(shown(&outcome), Vec::<String>::new());
    let desired = outcome.desired.unwrap();
    assert_eq!((desired.services.len(), desired.timeouts), (2, None));
    let address = |last: u8| Ipv4Addr::new(192, 0, 2, last).into();
    let key = |protocol, port| ServiceKey::Address { protocol, address: address(1), port };
    let destination = |last, port, method, weight| Destination {
        key: DestinationKey { address: address(last), port },
        method,
        weight,
        upper_threshold: 0,
        lower_threshold: 0,
    };
    let web = &desired.services[0];
    assert_eq!((web.service.key, web.service.scheduler), (key(Protocol::Tcp, 80), Scheduler::Wrr));
    let ipip = ForwardingMethod::Tun(TunnelKind::Ipip);
    let dr = ForwardingMethod::Dr;
    assert_eq!(
        web.destinations,
        [destination(11, 80, dr, 3), destination(12, 80, dr, 7), destination(13, 80, ipip, 0)]
    );
    let dns = &desired.services[1];
    assert_eq!((dns.service.key, dns.service.scheduler), (key(Protocol::Udp, 53), Scheduler::Wlc));
    let nat = ForwardingMethod::Nat;
    assert_eq!(
        dns.destinations,
        [
            destination(11, 5353, nat, 1),
            destination(11, 5354, nat, 2_147_483_647),
            destination(12, 53, dr, 1)
        ]
    );
}

#[test]
fn keepalived_conf_defaults_are_used_and_said() {
    let outcome = read_text("virtual_server 192.0.2.1 80 {\n real_server 192.0.2.2 8080 { }\n}\n");
    assert_eq!(
        shown(&outcome),
        [
            "f:1:1: warning: no forwarding method is given: NAT is used for `192.0.2.2`",
            "f:1:1: warning: no protocol is given: UDP is served",
            "f:1:1: warning: no scheduler is given: wlc is used",
        ]
    );
    let service = &outcome.desired.unwrap().services[0];
    assert_eq!(service.service.scheduler, Scheduler::Wlc);
    assert!(matches!(service.service.key, ServiceKey::Address { protocol: Protocol::Udp, .. }));
    assert_eq!(service.destinations[0].method, ForwardingMethod::Nat);
}

#[test]
fn values_out_of_their_limits_are_errors() {
    // Each line goes into a complete service; the finding is on line 2.
    let cases: &[(&str, &str)] = &[
        ("weight x", "2:8: error: weight `x` is not a number"),
        ("weight \"\"", "2:8: error: weight `` is not a number"),
        ("weight 1.5", "2:8: error: weight `1.5` is not a number"),
        ("weight 0", "2:8: error: weight 0 is below 1"),
        ("weight -1", "2:8: error: weight -1 is below 1"),
        ("weight 2147483648", "2:8: error: weight 2147483648 exceeds 2147483647"),
        (
            "weight 99999999999999999999999999999999999999999",
            "2:8: error: weight 99999999999999999999999999999999999999999 exceeds 2147483647",
        ),
        ("persistence_timeout 0", "2:21: error: persistence_timeout 0 is below 1"),
        ("persistence_timeout 2678401", "2:21: error: persistence_timeout 2678401 exceeds 2678400"),
        (
            "persistence_granularity 129",
            "2:25: error: `129` is neither a netmask nor a prefix length",
        ),
        ("ip_family inet4", "2:11: error: unknown ip_family `inet4`"),
        (
            "real_server 192.0.2.300 80 { }",
            "2:13: error: real server `192.0.2.300` is not an IP address",
        ),
        (
            "real_server 192.0.2.2:80 { }",
            "2:13: error: real server `192.0.2.2:80` is not an IP address",
        ),
        ("real_server web1 80 { }", "2:13: error: real server `web1` is not an IP address"),
        (
            "real_server 192.0.2.2-9 80 { }",
            "2:13: error: real server `192.0.2.2-9` is not an IP address",
        ),
        ("real_server 192.0.2.2 65536 { }", "2:23: error: port 65536 exceeds 65535"),
        ("real_server 192.0.2.2 -1 { }", "2:23: error: port -1 is below 1"),
        ("real_server 192.0.2.2 http { }", "2:23: error: port `http` is not a number"),
        (
            "real_server 0.0.0.0 80 { }",
            "2:13: error: real server 0.0.0.0 is the unspecified address",
        ),
        (
            "real_server 224.0.0.1 80 { }",
            "2:13: error: real server 224.0.0.1 is a multicast address",
        ),
        (
            "real_server 255.255.255.255 80 { }",
            "2:13: error: real server 255.255.255.255 is the broadcast address",
        ),
        ("real_server 192.0.2.1 80 { }", "2:13: error: real server 192.0.2.1 is the VIP itself"),
        (
            "real_server 192.0.2.9 80 { }",
            "6:1: error: real server 192.0.2.9:80 is in this virtual server twice",
        ),
        (
            "real_server 2001:db8::1 80 { }",
            "2:13: error: real server 2001:db8::1 is IPv6 in a virtual server of IPv4",
        ),
        (
            "real_server ::ffff:192.0.2.2 80 { }",
            "2:13: error: real server ::ffff:192.0.2.2 is an IPv4 address in IPv6 form, which is in no packet",
        ),
        (
            "real_server fe80::2 80 { lvs_method TUN }",
            "2:13: error: real server fe80::2 is a link-local address",
        ),
        ("real_server 192.0.2.2 80 { weight many }", "2:35: error: weight `many` is not a number"),
        (
            "real_server 192.0.2.2 80 { lvs_method FOO }",
            "2:39: error: unknown forwarding method `FOO`",
        ),
        (
            "real_server 192.0.2.2 80 { lthreshold 9 }",
            "2:28: error: lthreshold 9 exceeds uthreshold 0",
        ),
    ];
    for (line, want) in cases {
        let outcome = read_text(&service("192.0.2.1 80", line));
        let errors: Vec<_> = outcome
            .diagnostics
            .iter()
            .filter(|d| d.severity == Severity::Error)
            .map(ToString::to_string)
            .collect();
        assert_eq!(errors, [format!("f:{want}")], "{line}");
        assert!(outcome.desired.is_none(), "{line}");
        for error in outcome.diagnostics.iter().filter(|d| d.severity == Severity::Error) {
            assert!(error.help.is_some(), "{line}: no cure");
        }
    }
}

#[test]
fn heads_of_services_are_checked() {
    let cases: &[(&str, &str)] = &[
        ("192.0.2.1 65536", "1:26: error: port 65536 exceeds 65535"),
        ("192.0.2.1 eighty", "1:26: error: port `eighty` is not a number"),
        ("224.0.0.1 80", "1:16: error: virtual server 224.0.0.1 is a multicast address"),
        ("192.0.2 80", "1:16: error: virtual server `192.0.2` is not an IP address"),
        ("192.0.2.1 80 tcp", "1:29: error: `tcp` is one argument too many for `virtual_server`"),
        ("fwmark 0", "1:23: error: firewall mark 0 is below 1"),
        ("fwmark", "1:1: error: `fwmark` has no MARK"),
        ("group", "1:1: error: `group` has no NAME"),
    ];
    for (head, want) in cases {
        let outcome = read_text(&service(head, ""));
        let errors: Vec<_> = outcome
            .diagnostics
            .iter()
            .filter(|d| d.severity == Severity::Error)
            .map(ToString::to_string)
            .collect();
        assert_eq!(errors, [format!("f:{want}")], "{head}");
    }
    let outcome = read_text(&service("192.0.2.1/24 80", ""));
    assert_eq!(
        shown(&outcome),
        ["f:1:16: warning: virtual server is one address: `/24` has no meaning"]
    );
    assert!(outcome.desired.is_some());
}

#[test]
fn forwarding_methods_and_tunnels() {
    use TunnelChecksum::{Csum, None as Nocsum, Remcsum};
    let gue = |port, checksum| ForwardingMethod::Tun(TunnelKind::Gue { port, checksum });
    let gre = |checksum| ForwardingMethod::Tun(TunnelKind::Gre { checksum });
    let good = [
        ("NAT", ForwardingMethod::Nat),
        ("DR", ForwardingMethod::Dr),
        ("TUN", ForwardingMethod::Tun(TunnelKind::Ipip)),
        ("TUN type ipip", ForwardingMethod::Tun(TunnelKind::Ipip)),
        ("TUN type ipip nocsum", ForwardingMethod::Tun(TunnelKind::Ipip)),
        ("TUN type gue port 6080", gue(6080, Nocsum)),
        ("TUN type gue port 6080 remcsum", gue(6080, Remcsum)),
        ("TUN port 6080 csum type gue", gue(6080, Csum)),
        ("TUN type gre", gre(Nocsum)),
        ("TUN type gre csum", gre(Csum)),
    ];
    let text = |method: &str| {
        format!(
            "virtual_server 192.0.2.1 80 {{\nlb_kind {method}\nlb_algo rr\nprotocol TCP\nreal_server 192.0.2.2 80 {{}}\n}}"
        )
    };
    for (method, want) in good {
        let outcome = read_with(&text(method), EVERYTHING);
        assert_eq!(shown(&outcome), Vec::<String>::new(), "{method}");
        assert_eq!(outcome.desired.unwrap().services[0].destinations[0].method, want, "{method}");
    }
    let bad = [
        ("dr", "2:9: error: unknown forwarding method `dr`"),
        ("NAT type ipip", "2:13: error: `type` belongs to TUN, not to NAT"),
        ("TUN type", "2:13: error: `type` has no value"),
        ("TUN type gue", "2:1: error: a gue tunnel needs a port"),
        ("TUN type gue port", "2:22: error: `port` has no value"),
        ("TUN type gue port 0", "2:27: error: tunnel port 0 is below 1"),
        ("TUN type ipip port 1", "2:28: error: port 1 belongs to a gue tunnel"),
        ("TUN type ipip csum", "2:23: error: `csum` is not for ipip tunnels"),
        ("TUN type gre remcsum", "2:22: error: `remcsum` is not for gre tunnels"),
        ("TUN type vxlan", "2:18: error: unknown tunnel type `vxlan`"),
        ("TUN gre", "2:13: error: unknown tunnel option `gre`"),
    ];
    for (method, want) in bad {
        let outcome = read_with(&text(method), EVERYTHING);
        assert_eq!(shown(&outcome), [format!("f:{want}")], "{method}");
    }
}

#[test]
fn dr_and_tun_keep_the_port_of_the_service() {
    for (method, port) in [("DR", 80), ("TUN", 80), ("NAT", 8080)] {
        let text = format!(
            "virtual_server 192.0.2.1 80 {{\nprotocol TCP\nlb_algo rr\nlb_kind {method}\nreal_server 192.0.2.2 8080 {{}}\n}}"
        );
        let outcome = read_text(&text);
        let destination = outcome.desired.as_ref().unwrap().services[0].destinations[0];
        assert_eq!(destination.key.port, port, "{method}");
        let warned = shown(&outcome);
        match method {
            "NAT" => assert_eq!(warned, Vec::<String>::new()),
            _ => assert_eq!(
                warned,
                [format!("f:5:23: warning: {method} cannot change the port: 80 is used, not 8080")]
            ),
        }
    }
    let twice = "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlb_algo rr\nlb_kind DR\nreal_server 192.0.2.2 80 {}\nreal_server 192.0.2.2 81 {}\n}";
    let found = shown(&read_text(twice));
    assert!(
        found.iter().any(|f| f.contains("192.0.2.2:80 is in this virtual server twice")),
        "{found:?}"
    );
}

#[test]
fn duplicate_services_show_both_places() {
    let text = service("192.0.2.1 80", "") + &service("192.0.2.1 80", "");
    let outcome = read_text(&text);
    assert_eq!(shown(&outcome), ["f:9:1: error: virtual server TCP 192.0.2.1:80 is defined twice"]);
    let related = &outcome.diagnostics[0].related[0];
    assert_eq!((related.span.line, related.message.as_str()), (1, "first defined here"));
    let other_protocol =
        service("192.0.2.1 80", "") + &service("192.0.2.1 80", "").replace("TCP", "UDP");
    assert_eq!(read_text(&other_protocol).desired.unwrap().services.len(), 2);
}

#[test]
fn the_last_of_two_settings_counts_and_is_warned_of() {
    let outcome = read_text(&service("192.0.2.1 80", "lvs_sched wrr\nprotocol UDP"));
    let codes: Vec<_> = outcome.diagnostics.iter().map(|d| (d.code, d.span.line)).collect();
    assert_eq!(codes, [(Code::Duplicate, 4), (Code::Duplicate, 6)]);
    let desired = outcome.desired.unwrap();
    assert_eq!(desired.services[0].service.scheduler, Scheduler::Rr);
}

#[test]
fn what_would_change_who_gets_the_traffic_is_an_error() {
    let cases: &[(&str, &str, &str, Option<&str>)] = &[
        (
            "192.0.2.1 80",
            "lvs_sched mh",
            "scheduler `mh` is not in effect",
            Some("use `rr`, `wrr` or `wlc`"),
        ),
        (
            "192.0.2.1 80",
            "protocol SCTP",
            "SCTP services are not in effect",
            Some("use `TCP` or `UDP`"),
        ),
        ("2001:db8::1 80", "", "virtual servers on IPv6 are not in effect", None),
        ("192.0.2.1 0", "", "virtual servers on every port", None),
        ("192.0.2.1", "", "virtual servers on every port", None),
    ];
    for (head, line, message, help) in cases {
        let word = line.split(' ').next().unwrap_or("");
        // Without the complete block's own line for the same setting.
        let text: String = service(head, "")
            .lines()
            .filter(|l| word.is_empty() || !l.starts_with(word))
            .map(|l| format!("{l}\n"))
            .collect();
        let text = text.replacen("{\n", &format!("{{\n{line}\n"), 1);
        let outcome = read_with(&text, LEAST);
        let found = outcome.diagnostics.iter().find(|d| d.code == Code::NotInEffect);
        let found = found.unwrap_or_else(|| panic!("{head} {line}: {:?}", shown(&outcome)));
        assert_eq!(found.severity, Severity::Error);
        assert!(found.message.contains(message), "{found}");
        assert!(help.is_none() || found.help.as_deref() == *help, "{found:?}");
        assert!(outcome.desired.is_none());
        assert!(
            read_with(
                &text.replace(
                    "192.0.2.9",
                    if head.contains(':') { "2001:db8::9" } else { "192.0.2.9" }
                ),
                EVERYTHING
            )
            .desired
            .is_some(),
            "{head} {line}"
        );
    }
}

#[test]
fn services_by_mark_are_left_out_with_a_warning_where_they_are_not_in_effect() {
    let text = service("192.0.2.1 80", "")
        + "virtual_server fwmark 3 {\nlb_algo mh\nlb_kind TUN\nreal_server 192.0.2.3 { }\n}\n"
        + "virtual_server group G {\nlb_algo rr\nlb_kind DR\nprotocol TCP\nreal_server 192.0.2.3 80 { }\n}\n"
        + "virtual_server_group G {\n192.0.2.8-9 80\nfwmark 5\n}\n";
    let outcome = read_with(&text, LEAST);
    assert_eq!(
        shown(&outcome),
        [
            "f:9:1: warning: services by firewall mark are not yet in effect: this one is left out",
            "f:22:1: warning: services by firewall mark are not yet in effect: this one is left out",
        ]
    );
    assert_eq!(outcome.desired.unwrap().services.len(), 3, "the group's addresses are in effect");
    let bad = "virtual_server group G {\nlb_algo rrr\n}\n";
    assert!(read_text(bad).desired.is_none(), "values are checked all the same");
}

#[test]
fn a_service_without_real_servers_is_left_out_as_in_keepalived() {
    let outcome = read_text("virtual_server 192.0.2.1 80 {\nlb_algo rr\nprotocol TCP\n}\n");
    assert_eq!(
        shown(&outcome),
        ["f:1:1: warning: virtual server TCP 192.0.2.1:80 has no real servers and is left out"]
    );
    assert!(outcome.desired.unwrap().services.is_empty());
}

#[test]
fn features_are_lowered_where_the_release_has_them() {
    let text = "\
virtual_server 192.0.2.1 53 {
  lvs_sched mh
  mh-port
  mh-fallback
  lvs_method DR
  protocol UDP
  ops
  persistence_timeout
  persistence_granularity 255.255.255.0
  persistence_engine sip
  real_server 192.0.2.2 53 {
    uthreshold 100
    lthreshold 50
  }
}
virtual_server fwmark 7 {
  ip_family inet6
  lvs_sched rr
  lvs_method NAT
  persistence_timeout 50
  persistence_granularity 64
  real_server 2001:db8::1 80 { }
}
virtual_server 192.0.2.1 {
  lvs_sched rr
  lvs_method DR
  protocol TCP
  real_server 192.0.2.2 { }
}
";
    let outcome = read_with(text, EVERYTHING);
    let want = [
        "f:16:1: warning: no `mark` block gives mark 7: no packet reaches this service",
        "f:24:1: warning: a service on every port is persistent: 360 seconds are used",
    ];
    assert_eq!(shown(&outcome), want);
    let desired = outcome.desired.unwrap();
    let [dns, mark, every] = &desired.services[..] else { panic!("{desired:?}") };
    assert_eq!(dns.service.persistence, Some(Persistence { timeout: 360 }));
    assert_eq!(dns.service.netmask, Netmask::V4(0xffff_ff00));
    assert_eq!(dns.service.flags, SchedulerFlags(0x18));
    assert_eq!(dns.service.engine.as_deref(), Some("sip"));
    assert!(dns.service.one_packet);
    let destination = dns.destinations[0];
    assert_eq!((destination.upper_threshold, destination.lower_threshold), (100, 50));
    assert_eq!(mark.service.key, ServiceKey::Fwmark { mark: 7, family: Family::Inet6 });
    assert_eq!(mark.service.netmask, Netmask::V6(64));
    assert_eq!(every.service.persistence, Some(Persistence { timeout: 360 }));
    assert_eq!(every.destinations[0].key.port, 0);

    let text = text.split_inclusive("}\n}\n").next().unwrap().replace("mh\n", "rr\n");
    let plain = read_with(&text, LEAST).desired.unwrap();
    let service = &plain.services[0].service;
    assert_eq!((service.persistence, service.one_packet), (None, false));
    assert_eq!((service.flags, service.netmask), (SchedulerFlags(0), Netmask::V4(u32::MAX)));
    assert_eq!(plain.services[0].destinations[0].upper_threshold, 0);
}

#[test]
fn on_delete_is_reset_or_drop_and_drop_if_not_given() {
    let read = |line: &str| {
        let text =
            "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method DR\nLINE\n";
        read_text(&format!("{}real_server 10.0.0.1 80 {{ }}\n}}\n", text.replace("LINE", line)))
    };
    for (line, wanted) in [
        ("", OnDelete::Drop),
        ("on_delete drop", OnDelete::Drop),
        ("on_delete reset", OnDelete::Reset),
    ] {
        let outcome = read(line);
        assert_eq!(shown(&outcome), Vec::<String>::new(), "{line}");
        assert_eq!(outcome.desired.unwrap().services[0].service.on_delete, wanted, "{line}");
    }
    for line in ["on_delete", "on_delete abort", "on_delete reset now"] {
        let outcome = read(line);
        assert!(outcome.desired.is_none(), "{line}");
        assert_eq!(outcome.diagnostics[0].span.line, 5, "{line}");
    }
}

#[test]
fn ops_and_netmask_must_fit_the_service() {
    let text = service("192.0.2.1 80", "ops\npersistence_timeout 50\npersistence_granularity 64");
    let outcome = read_with(&text, EVERYTHING);
    assert_eq!(
        shown(&outcome),
        [
            "f:2:1: warning: `ops` is for UDP services and has no meaning here",
            "f:4:1: error: the netmask is not of the service's family",
        ]
    );
}

#[test]
fn keepalived_a_granularity_alone_makes_a_service_persistent() {
    let persistence = |line: &str| {
        let outcome = read_with(&service("192.0.2.1 80", line), EVERYTHING);
        let said = shown(&outcome);
        let service = outcome.desired.unwrap().services.remove(0).service;
        (service.persistence.map(|persistence| persistence.timeout), service.netmask, said)
    };
    let mask = Netmask::V4(0xffff_0000);
    let said = "f:2:1: warning: `persistence_granularity` makes a service persistent: 360 seconds are used";
    assert_eq!(
        persistence("persistence_granularity 255.255.0.0"),
        (Some(360), mask, vec![said.to_owned()])
    );
    assert_eq!(
        persistence("persistence_granularity 255.255.0.0\npersistence_timeout 50"),
        (Some(50), mask, Vec::new())
    );
}

#[test]
fn lvs_timeouts_are_read() {
    let of = |line: &str| read_text(&format!("global_defs {{\nlvs_timeouts {line}\n}}\n"));
    let good = [
        ("tcp 900", (900, 0, 0)),
        ("tcp 900 tcpfin 120 udp 300", (900, 120, 300)),
        ("udp 2678400 tcp 0", (0, 0, 2_678_400)),
    ];
    for (line, (tcp, tcp_fin, udp)) in good {
        let outcome = of(line);
        assert_eq!(shown(&outcome), Vec::<String>::new(), "{line}");
        assert_eq!(outcome.desired.unwrap().timeouts, Some(Timeouts { tcp, tcp_fin, udp }));
    }
    let bad = [
        ("tcp 2678401", "2:18: error: tcp timeout 2678401 exceeds 2678400"),
        ("tcp x", "2:18: error: tcp timeout `x` is not a number"),
        ("tcp 1 udp", "2:20: error: timeout `udp` has no value"),
        ("tpc 1", "2:14: error: unknown timeout `tpc`"),
        ("tcp", "2:1: error: `lvs_timeouts` has only 1 argument"),
    ];
    for (line, want) in bad {
        assert_eq!(shown(&of(line)), [format!("f:{want}")], "{line}");
    }
}

#[test]
fn data_plane_settings_are_read() {
    let of = |lines: &str| read_text(&format!("data_plane {{\n{lines}\n}}\n"));
    let outcome = of("interface eth0 eth1\ninterface bond0.7\nconnections 4096\nxdp_mode native");
    assert_eq!(shown(&outcome), Vec::<String>::new());
    let settings = outcome.desired.unwrap().data_plane;
    assert_eq!(settings.interfaces, ["eth0", "eth1", "bond0.7"]);
    assert_eq!((settings.connections, settings.xdp_mode), (Some(4096), XdpMode::Native));
    let none = read_text("").desired.unwrap().data_plane;
    assert_eq!((none.connections, none.xdp_mode), (None, XdpMode::Auto));
    let bad = [
        (
            "interface abcdefghijklmnop",
            "2:11: error: interface name `abcdefghijklmnop` has 16 bytes, more than 15",
        ),
        ("interface a/b", "2:11: error: `a/b` is no interface name"),
        ("interface \"a b\"", "2:11: error: `a b` is no interface name"),
        ("interface \"\"", "2:11: error: `` is no interface name"),
        ("interface ..", "2:11: error: `..` is no interface name"),
        ("interface", "2:1: error: `interface` has no argument"),
        ("interface eth0 eth0", "2:16: warning: interface `eth0` is named twice"),
        ("connections 1023", "2:13: error: connections 1023 is below 1024"),
        ("connections 268435457", "2:13: error: connections 268435457 exceeds 268435456"),
        ("connections 1M", "2:13: error: connections `1M` is not a number"),
        ("xdp_mode nativ", "2:10: error: unknown xdp_mode `nativ`"),
    ];
    for (lines, want) in bad {
        assert_eq!(shown(&of(lines)), [format!("f:{want}")], "{lines}");
    }
    assert!(of("connections 1024").desired.is_some());
    assert!(of("connections 268435456").desired.is_some());
}

#[test]
fn a_virtual_server_with_a_bad_line_still_has_its_real_servers_checked() {
    let text = "\
virtual_server 192.0.2.10 99999 {
  lvs_method DR
  real_server 192.0.2.21 80 { weight ten }
  real_server 192.0.2.10 80 { }
}
";
    let outcome = read_text(text);
    let errors: Vec<String> =
        shown(&outcome).into_iter().filter(|line| line.contains("error")).collect();
    let told = |what: &str| errors.iter().any(|line| line.contains(what));
    assert!(told("port 99999") && told("weight `ten`") && told("VIP itself"), "{errors:?}");
    assert_eq!(errors.len(), 3, "{errors:?}");
    assert_eq!(outcome.desired, None);
}

fn marks(text: &str) -> Vec<String> {
    let outcome = read_with(text, EVERYTHING);
    let desired = outcome.desired.unwrap_or_else(|| panic!("{:?}", outcome.diagnostics));
    desired.marks.iter().map(ToString::to_string).collect()
}

#[test]
fn a_mark_block_is_one_rule_for_each_combination() {
    let text = "\
mark 7 {
  source 10.0.0.0/8
  destination 192.0.2.100
  destination 192.0.2.101/32
  protocol tcp
  destination_port 80 5000-5010
  interface eth0
}
mark 0x8 {
  destination 2001:db8::/32 192.0.2.0/24
  source ::/0
}
mark none {
  interface eth1
}
mark 9 {
}
";
    assert_eq!(
        marks(text),
        [
            "--source 10.0.0.0/8 --destination 192.0.2.100/32 --protocol tcp --destination-port 80 --interface eth0 --mark 7",
            "--source 10.0.0.0/8 --destination 192.0.2.100/32 --protocol tcp --destination-port 5000:5010 --interface eth0 --mark 7",
            "--source 10.0.0.0/8 --destination 192.0.2.101/32 --protocol tcp --destination-port 80 --interface eth0 --mark 7",
            "--source 10.0.0.0/8 --destination 192.0.2.101/32 --protocol tcp --destination-port 5000:5010 --interface eth0 --mark 7",
            "--source ::/0 --destination 2001:db8::/32 --mark 8",
            "--interface eth1 --mark none",
            "--mark 9",
        ]
    );
    assert!(read_with(text, LEAST).desired.unwrap().marks.is_empty(), "not in effect there");
}

#[test]
fn mark_blocks_are_refused_by_place_value_and_cure() {
    let cases = [
        ("mark 0 {\n}\n", 1, Code::InvalidValue, "`0` is no mark"),
        ("mark x {\n}\n", 1, Code::InvalidValue, "`x` is no mark"),
        ("mark {\n}\n", 1, Code::MissingArgument, "`mark` has no argument"),
        ("mark 7\n", 1, Code::MissingBlock, "`mark` needs a block"),
        ("mark 7 {\nsource 10.0.0.1/8\n}\n", 2, Code::InvalidValue, "`10.0.0.1/8` has bits behind"),
        ("mark 7 {\ndestination web\n}\n", 2, Code::InvalidValue, "`web` is no prefix"),
        ("mark 7 {\nprotocol 0\n}\n", 2, Code::InvalidValue, "`0` is no protocol"),
        (
            "mark 7 {\nprotocol tcp\ndestination_port 80-79\n}\n",
            3,
            Code::InvalidValue,
            "ports `80-79` end before they start",
        ),
        (
            "mark 7 {\nprotocol tcp\ndestination_port 80 70000\n}\n",
            3,
            Code::InvalidValue,
            "`70000` is no port",
        ),
        ("mark 7 {\nsource_port 80\n}\n", 2, Code::MissingArgument, "ports without a protocol"),
        (
            "mark 7 {\nprotocol tcp 47\nsource_port 80\n}\n",
            3,
            Code::InvalidValue,
            "protocol 47 has no ports",
        ),
        ("mark 7 {\ninterface eth+\n}\n", 2, Code::InvalidValue, "`eth+` is no interface name"),
        (
            "mark 7 {\nsource ::/0\ndestination 10.0.0.1\n}\n",
            1,
            Code::MixedFamilies,
            "no packet has a source and a destination of these",
        ),
        ("mark 7 {\nport 80\n}\n", 2, Code::UnknownKeyword, "unknown keyword `port`"),
    ];
    for (text, line, code, message) in cases {
        let outcome = read_with(text, EVERYTHING);
        assert!(outcome.desired.is_none(), "{text} was accepted");
        let errors = outcome.diagnostics.iter().filter(|d| d.severity == Severity::Error);
        let found: Vec<_> = errors.map(|d| (d.span.line, d.code, d.message.as_str())).collect();
        let [(at, what, said)] = found.as_slice() else { panic!("{text}: {found:?}") };
        assert_eq!((*at, *what), (line, code), "{text}: {said}");
        assert!(said.starts_with(message), "{text}: {said}");
    }
}

#[test]
fn refuses_mark_rules_without_bound() {
    let ports: Vec<String> = (0..65u32).map(|port| port.to_string()).collect();
    let ports = ports.join(" ");
    let text =
        format!("mark 7 {{\nprotocol tcp\nsource_port {ports}\ndestination_port {ports}\n}}\n");
    let outcome = read_with(&text, EVERYTHING);
    assert!(outcome.desired.is_none());
    assert!(shown(&outcome).iter().any(|d| d.contains("more than 4096 mark rules")), "{outcome:?}");
}

#[test]
fn warns_of_mark_rules_that_do_nothing() {
    let fwmark = service("fwmark 8", "").replace("protocol TCP\n", "");
    let text = format!(
        "mark 7 {{\ndestination 10.0.0.0/8\n}}\nmark 7 {{\ndestination 10.0.0.0/8\n}}\nmark 9 {{\ndestination 10.1.0.0/16 10.1.0.0/16\n}}\n{fwmark}"
    );
    let outcome = read_with(&text, EVERYTHING);
    assert_eq!(outcome.desired.as_ref().unwrap().marks.len(), 2);
    let expected = [
        "f:1:1: warning: no virtual server has mark 7: its packets pass untouched",
        "f:4:1: warning: this rule is there already: --destination 10.0.0.0/8 --mark 7",
        "f:7:1: warning: this rule is never reached: --destination 10.1.0.0/16 --mark 9",
        "f:7:1: warning: no virtual server has mark 9: its packets pass untouched",
        "f:8:25: warning: `10.1.0.0/16` is given twice in this block",
        "f:10:1: warning: no `mark` block gives mark 8: no packet reaches this service",
    ];
    assert_eq!(shown(&outcome), expected);
}

#[test]
fn keepalived_ports_of_a_firewall_mark_service_count_with_nat_alone() {
    let ports = |method: &str| {
        let text = format!(
            "mark 7 {{\n  destination 192.0.2.1\n}}\nvirtual_server fwmark 7 {{\n  lvs_sched rr\n  lvs_method {method}\n  \
             sorry_server 192.0.2.8 443\n  real_server 192.0.2.9 80 {{\n    TCP_CHECK {{ }}\n  }}\n  real_server 192.0.2.10 {{ }}\n}}\n"
        );
        let outcome = read_with(&text, EVERYTHING);
        let said = shown(&outcome);
        let service = outcome.desired.unwrap().services.remove(0);
        let sorry = service.health.sorry_server.unwrap().destination.key.port;
        let ports: Vec<u16> = service.destinations.iter().map(|d| d.key.port).collect();
        // Checks go to the port that is written all the same.
        let CheckKind::Tcp(check) = &service.health.servers[0].checks[0].kind else {
            panic!("a TCP_CHECK")
        };
        assert_eq!(check.target.address.port(), 80, "{method}");
        (ports, sorry, said)
    };
    assert_eq!(ports("NAT"), (vec![80, 0], 443, Vec::new()));
    for method in ["DR", "TUN"] {
        let (ports, sorry, said) = ports(method);
        assert_eq!((ports, sorry), (vec![0, 0], 0), "{method}");
        let ignored =
            |port| format!("{method} by firewall mark cannot change the port: {port} is ignored");
        let count = |port| said.iter().filter(|line| line.ends_with(&ignored(port))).count();
        assert_eq!((count(80), count(443), said.len()), (1, 1, 2), "{said:?}");
    }
}

#[test]
fn keepalived_marks_of_a_group_have_no_port() {
    let text = "\
mark 7 {
  destination 192.0.2.1
}
virtual_server_group G {
  192.0.2.1 80
  fwmark 7
}
virtual_server group G {
  lvs_sched rr
  lvs_method DR
  protocol TCP
  real_server 192.0.2.9 80 { }
}
";
    let outcome = read_with(text, EVERYTHING);
    assert_eq!(shown(&outcome), Vec::<String>::new());
    let services = outcome.desired.unwrap().services;
    let ports = services.iter().map(|service| service.destinations[0].key.port);
    assert_eq!(ports.collect::<Vec<u16>>(), [80, 0]);
}

#[test]
fn firewall_mark_services_keep_to_the_families_in_effect() {
    let v4_alone = Capabilities { families: &[Family::Inet], ..EVERYTHING };
    let block = |lines: &str, server: &str| {
        format!(
            "mark 7 {{\n}}\nvirtual_server fwmark 7 {{\nlvs_sched rr\n{lines}\nreal_server {server} {{ }}\n}}\n"
        )
    };
    let cases = [
        (block("lvs_method DR", "2001:db8::1"), "firewall-mark services of IPv6 are not in effect"),
        (
            block("ip_family inet\nlvs_method TUN", "2001:db8::1"),
            "IPv6 real servers are not in effect",
        ),
    ];
    for (text, expected) in cases {
        let outcome = read_with(&text, v4_alone.clone());
        assert!(outcome.desired.is_none(), "{text}");
        assert!(shown(&outcome).iter().any(|d| d.contains(expected)), "{:?}", shown(&outcome));
        assert!(read_with(&text, EVERYTHING).desired.is_some(), "{text}");
    }
}

#[test]
fn a_firewall_mark_service_without_rules_of_its_family_is_warned_of() {
    let text = |destination: &str| {
        format!(
            "mark 7 {{\n{destination}\n}}\nvirtual_server fwmark 7 {{\nlvs_sched rr\nlvs_method DR\nreal_server 2001:db8::1 {{ }}\n}}\n"
        )
    };
    let outcome = read_text(&text("destination 192.0.2.1"));
    assert!(outcome.desired.is_some());
    let wanted =
        "f:4:1: warning: no `mark` block gives mark 7 to IPv6: no packet reaches this service";
    assert_eq!(shown(&outcome), [wanted]);
    for destination in ["destination 2001:db8::9", "destination 192.0.2.1 2001:db8::9", ""] {
        let outcome = read_text(&text(destination));
        assert_eq!(shown(&outcome), Vec::<String>::new(), "{destination}");
        assert!(outcome.desired.is_some());
    }
}

#[test]
fn ipvs_settings_are_read_and_checked() {
    let text = "ipvs {\n  sloppy_tcp 1\n  sync_threshold 5 60\n  pmtu_disc 1\n}\n";
    let outcome = read_text(text);
    let settings = outcome.desired.unwrap().settings;
    let changed: Vec<String> = settings.changed().map(|(s, v)| format!("{s}={v}")).collect();
    assert_eq!(changed, ["sloppy_tcp=1", "sync_threshold=5 60"]);
    // What is not in effect is said, each by name.
    let noted = |name: &str| outcome.diagnostics.iter().any(|d| d.message.contains(name));
    for setting in [Setting::SloppyTcp, Setting::SyncThreshold, Setting::PmtuDisc] {
        assert_eq!(noted(setting.name()), setting.warning().is_some(), "{setting}");
    }
    let cases = [
        ("drop_entry 4", Code::OutOfRange, "`4` is no value of `drop_entry`"),
        ("drop_entry x", Code::OutOfRange, "`x` is no value of `drop_entry`"),
        ("drop_entry", Code::MissingArgument, "`drop_entry` has no argument"),
        ("sync_threshold 5", Code::MissingArgument, "`sync_threshold` has only 1 argument"),
        ("sync_threshold 60 5", Code::OutOfRange, "`60 5` is no value of `sync_threshold`"),
        ("net.ipv4.vs.drop_entry 1", Code::UnknownKeyword, "unknown keyword"),
        ("nonsense 1", Code::UnknownKeyword, "unknown keyword `nonsense` in a `ipvs` block"),
    ];
    for (line, code, message) in cases {
        let outcome = read_text(&format!("ipvs {{\n{line}\n}}\n"));
        assert!(outcome.desired.is_none(), "{line}");
        let first = &outcome.diagnostics[0];
        assert_eq!((first.code, first.span.line), (code, 2), "{line}: {first}");
        assert!(first.message.starts_with(message), "{line}: {first}");
    }
    let twice = read_text("ipvs {\ndrop_entry 1\n}\nipvs {\ndrop_entry 2\n}\n");
    assert!(shown(&twice)[0].contains("`drop_entry` is given again; this one counts"));
    assert_eq!(twice.desired.unwrap().settings.number(Setting::DropEntry), 2);
}
