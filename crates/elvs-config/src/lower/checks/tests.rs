use std::time::Duration;

use elvs_model::health::{
    AgentCheck, Check, CheckKind, DnsType, HttpVersion, PathCheck, Schedule, StatusRange, Target,
};
use elvs_model::{ForwardingMethod, Protocol};

use crate::lower::tests::{read_text, shown};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A file with one real server, whose block has `lines`; `outer` stands in the virtual server, `root` before it.
fn file(root: &str, outer: &str, lines: &str) -> String {
    format!(
        "{root}\nvirtual_server 192.0.2.1 80 {{\nlvs_sched rr\nlvs_method NAT\nprotocol TCP\n{outer}\nreal_server 192.0.2.9 8080 {{\n{lines}\n}}\n}}\n"
    )
}

/// The checks of the real server of [`file`].
fn checks(root: &str, outer: &str, lines: &str) -> Vec<Check> {
    let outcome = read_text(&file(root, outer, lines));
    let found = shown(&outcome);
    let desired = outcome.desired.unwrap_or_else(|| panic!("{lines}: {found:?}"));
    desired.services[0].health.servers[0].checks.clone()
}

fn check(lines: &str) -> Check {
    let [check] = checks("", "", lines).try_into().unwrap();
    check
}

/// The first error or warning of [`file`] with `lines` in the real server, without its place.
fn finding(lines: &str) -> String {
    let outcome = read_text(&file("", "", lines));
    let first = shown(&outcome).into_iter().find(|line| !line.contains(": note: "));
    let first = first.unwrap_or_default();
    match first.split_once(": ") {
        Some((_, rest)) => rest.to_owned(),
        None => first,
    }
}

fn target(address: &str) -> Target {
    Target {
        address: address.parse().unwrap(),
        source: None,
        source_port: None,
        interface: None,
        mark: 0,
        timeout: secs(5),
    }
}

#[test]
fn keepalived_3_9_defaults_of_each_kind() {
    let usual = Schedule {
        delay_loop: secs(60),
        retry: 1,
        delay_before_retry: secs(1),
        warmup: None,
        alpha: false,
        log_all_failures: false,
    };
    let http = Schedule { delay_before_retry: secs(3), ..usual.clone() };
    let dns = Schedule { retry: 3, delay_before_retry: secs(60), ..usual.clone() };
    let misc = Schedule { retry: 0, ..usual.clone() };
    let watched =
        Schedule { delay_loop: secs(1), retry: 0, warmup: Some(Duration::ZERO), ..usual.clone() };
    let cases = [
        ("TCP_CHECK { }", &usual),
        ("HTTP_GET { url { path / } }", &http),
        ("SSL_GET { url { path / } }", &http),
        ("SMTP_CHECK { }", &usual),
        ("DNS_CHECK { }", &dns),
        ("MISC_CHECK { misc_path /bin/true }", &misc),
        ("PING_CHECK { }", &usual),
        ("UDP_CHECK { }", &usual),
        ("PATH_CHECK { }", &usual),
        ("AGENT_CHECK { connect_port 1 }", &usual),
        ("BFD_CHECK { name peer }", &watched),
        ("FILE_CHECK { track_file f }", &watched),
    ];
    let root = "bfd_instance peer {\nneighbor_ip 192.0.2.2\n}\ntrack_file f {\nfile /run/f\n}";
    for (line, want) in cases {
        let text = line.replace("{ ", "{\n").replace(" }", "\n}");
        let found = checks(root, "", &text);
        assert_eq!(found.len(), 1, "{line}");
        assert_eq!(found[0].schedule, *want, "{line}");
        assert!(line.starts_with(found[0].kind.name()), "{line}");
    }
}

#[test]
fn times_are_inherited_from_the_virtual_to_the_real_server_to_the_check() {
    let all = |n: u64| {
        format!(
            "retry {n}\ndelay_before_retry {n}.5\nwarmup {n}\nconnect_timeout {n}\ndelay_loop {n}0\nalpha\n"
        )
    };
    let of = |n: u64| {
        let schedule = Schedule {
            delay_loop: secs(n * 10),
            retry: u32::try_from(n).unwrap(),
            delay_before_retry: secs(n) + Duration::from_millis(500),
            warmup: Some(secs(n)),
            alpha: true,
            log_all_failures: false,
        };
        (schedule, secs(n))
    };
    let found = |outer: &str, lines: &str| {
        let [check] = checks("", outer, lines).try_into().unwrap();
        let CheckKind::Tcp(tcp) = check.kind else { panic!("{:?}", check.kind) };
        (check.schedule, tcp.target.timeout)
    };
    let own = format!("TCP_CHECK {{\n{}}}", all(3));
    assert_eq!(found(&all(1), "TCP_CHECK {\n}"), of(1));
    assert_eq!(found(&all(1), &(all(2) + "TCP_CHECK {\n}")), of(2));
    assert_eq!(found(&all(1), &(all(2) + &own)), of(3));
    // Nearer blocks say but one thing.
    let (schedule, timeout) =
        found(&all(1), "retry 9\nTCP_CHECK {\nalpha off\nconnect_timeout 4\n}");
    assert_eq!(schedule, Schedule { retry: 9, alpha: false, ..of(1).0 });
    assert_eq!(timeout, secs(4));
}

#[test]
fn every_failure_is_logged_where_it_is_asked_for() {
    let root = "global_defs {\nchecker_log_all_failures\n}";
    let logged = |root, lines| checks(root, "", lines)[0].schedule.log_all_failures;
    assert!(!logged("", "TCP_CHECK {\n}"));
    assert!(logged(root, "TCP_CHECK {\n}"));
    assert!(!logged(root, "TCP_CHECK {\nlog_all_failures no\n}"));
    assert!(logged("", "TCP_CHECK {\nlog_all_failures\n}"));
}

#[test]
fn connections_are_as_written() {
    let CheckKind::Tcp(tcp) = check("TCP_CHECK {\n}").kind else { panic!() };
    assert_eq!(tcp.target, target("192.0.2.9:8080"));
    let lines = "TCP_CHECK {\nconnect_ip 2001:db8::1\nconnect_port 81\nbindto 2001:db8::2\nbind_port 4000\nbind_if eth0\nfwmark 7\nconnect_timeout 0.25\n}";
    let CheckKind::Tcp(tcp) = check(lines).kind else { panic!() };
    let want = Target {
        source: Some("2001:db8::2".parse().unwrap()),
        source_port: Some(4000),
        interface: Some("eth0".to_owned()),
        mark: 7,
        timeout: Duration::from_millis(250),
        ..target("[2001:db8::1]:81")
    };
    assert_eq!(tcp.target, want);
    let CheckKind::Ping(ping) = check("PING_CHECK {\n}").kind else { panic!() };
    assert_eq!(ping.target, target("192.0.2.9:0"));
}

/// The port that is written counts for the check even where the method keeps the service's for the traffic, as in keepalived.
#[test]
fn a_check_connects_to_the_port_of_the_real_server() {
    let port = |method: &str, server: &str| {
        let text = format!(
            "virtual_server 192.0.2.1 80 {{\nlvs_sched rr\nlvs_method {method}\nprotocol TCP\nreal_server {server} {{\nTCP_CHECK {{\n}}\n}}\n}}\n"
        );
        let desired = read_text(&text).desired.unwrap();
        let CheckKind::Tcp(tcp) = &desired.services[0].health.servers[0].checks[0].kind else {
            panic!()
        };
        tcp.target.address.port()
    };
    assert_eq!(port("NAT", "192.0.2.9 8080"), 8080);
    assert_eq!(port("NAT", "192.0.2.9"), 80);
    assert_eq!(port("DR", "192.0.2.9 8080"), 8080);
    assert_eq!(port("DR", "192.0.2.9"), 80);
}

#[test]
fn a_check_without_any_port_is_refused() {
    let text = "mark 1 {\n}\nvirtual_server fwmark 1 {\nlvs_sched rr\nlvs_method DR\nreal_server 192.0.2.9 {\nTCP_CHECK {\n}\n}\n}\n";
    let outcome = read_text(text);
    assert!(outcome.desired.is_none());
    assert!(
        shown(&outcome).contains(&"f:7:1: error: TCP_CHECK has no port to connect to".to_owned())
    );
    let with = text.replace("TCP_CHECK {", "TCP_CHECK {\nconnect_port 80");
    assert!(!shown(&read_text(&with)).iter().any(|line| line.contains("error")));
}

#[test]
fn http_is_as_written() {
    let CheckKind::Http(http) = check("HTTP_GET {\nurl {\npath /\n}\n}").kind else { panic!() };
    assert_eq!((http.tls, http.version, http.virtual_host), (None, HttpVersion::V1_0, None));
    assert_eq!(http.urls[0].status, [StatusRange { first: 200, last: 299 }]);
    let lines = "virtualhost rs.example.org\nHTTP_GET {\nhttp_protocol 1.1\nfast_recovery\nnb_get_retry 4\nurl {\npath /a\ndigest 000102030405060708090a0b0c0d0e0f\nstatus_code 404 500-503\nregex \"a b\"\nregex_no_match\nregex_options \"multiline caseless\"\nregex_min_offset 3\nregex_max_offset 9\n}\nurl {\npath /b\nvirtualhost b.example.org\n}\n}";
    let Check { kind: CheckKind::Http(http), schedule } = check(lines) else { panic!() };
    assert_eq!(schedule.retry, 4);
    assert!(http.fast_recovery);
    assert_eq!(http.version, HttpVersion::V1_1);
    assert_eq!(http.virtual_host.as_deref(), Some("rs.example.org"));
    let [a, b] = http.urls.as_slice() else { panic!() };
    assert_eq!(a.digest.unwrap(), core::array::from_fn(|i| u8::try_from(i).unwrap()));
    let codes = [(404, 404), (500, 503)].map(|(first, last)| StatusRange { first, last });
    assert_eq!(a.status, codes);
    let rule = a.regex.as_ref().unwrap();
    assert_eq!((rule.pattern.as_str(), rule.must_not_match), ("a b", true));
    assert_eq!(rule.options, ["caseless", "multiline"]);
    // The last byte that is written counts; the model has the first that does not.
    assert_eq!((rule.min_offset, rule.max_offset), (3, 10));
    assert_eq!(b.virtual_host.as_deref(), Some("b.example.org"));
}

#[test]
fn names_of_http_are_inherited() {
    let name = |outer: &str, lines: &str| {
        let [check] = checks("", outer, lines).try_into().unwrap();
        let CheckKind::Http(http) = check.kind else { panic!() };
        http.virtual_host
    };
    let get = "HTTP_GET {\nurl {\npath /\n}\n}";
    assert_eq!(name("virtualhost vs", get).as_deref(), Some("vs"));
    assert_eq!(name("virtualhost vs", &format!("virtualhost rs\n{get}")).as_deref(), Some("rs"));
    let own = get.replace("url {", "virtualhost own\nurl {");
    assert_eq!(name("virtualhost vs", &own).as_deref(), Some("own"));
}

#[test]
fn tls_has_the_files_of_the_ssl_block_and_the_name_that_is_asked_for() {
    let root = "SSL {\npassword p\nca /ca\ncertificate /cert\nkey /key\n}";
    let tls = |lines: &str| {
        let [check] = checks(root, "", lines).try_into().unwrap();
        let CheckKind::Http(http) = check.kind else { panic!() };
        http.tls.unwrap()
    };
    let get =
        |lines: &str| format!("SSL_GET {{\n{lines}\nurl {{\npath /\nvirtualhost u:443\n}}\n}}");
    let plain = tls(&get(""));
    assert_eq!(plain.server_name, None);
    assert!(!plain.compliant);
    assert_eq!(plain.ca.unwrap().to_str(), Some("/ca"));
    assert_eq!(plain.certificate.unwrap().to_str(), Some("/cert"));
    assert_eq!(plain.key.unwrap().to_str(), Some("/key"));
    assert_eq!(plain.password.as_deref(), Some("p"));
    assert_eq!(tls(&get("enable_sni")).server_name.as_deref(), Some("u"));
    assert_eq!(tls(&get("enable_sni\nvirtualhost v")).server_name.as_deref(), Some("v"));
    assert_eq!(tls(&get("sni_name s\nvirtualhost v")).server_name.as_deref(), Some("s"));
    assert!(tls(&get("tls_compliant")).compliant);
}

#[test]
fn mail_and_name_servers_are_checked_as_written() {
    let smtp = |lines: &str| {
        let CheckKind::Smtp(smtp) = check(lines).kind else { panic!() };
        let targets = smtp.targets.iter().map(|t| (t.address.to_string(), t.timeout.as_secs()));
        (smtp.helo_name.clone(), targets.collect::<Vec<_>>())
    };
    let (helo, targets) = smtp("SMTP_CHECK {\n}");
    assert_eq!(helo, "smtpchecker.keepalived.org");
    assert_eq!(targets, [("192.0.2.9:8080".to_owned(), 5)]);
    let hosts = "host {\nconnect_ip 192.0.2.7\nconnect_port 25\n}\nhost {\nconnect_port 26\nconnect_timeout 9\n}\n";
    let seven = ("192.0.2.7:25".to_owned(), 5);
    let nine = ("192.0.2.9:26".to_owned(), 9);
    let (helo, targets) = smtp(&format!("SMTP_CHECK {{\nhelo_name a.b\n{hosts}}}"));
    assert_eq!((helo.as_str(), targets), ("a.b", vec![seven.clone(), nine.clone()]));
    // Something said of the connection itself means the real server too.
    let (_, targets) = smtp(&format!("SMTP_CHECK {{\nconnect_port 25\n{hosts}}}"));
    assert_eq!(targets, [("192.0.2.9:25".to_owned(), 5), seven, nine]);
    let CheckKind::Dns(dns) = check("DNS_CHECK {\n}").kind else { panic!() };
    assert_eq!((dns.record, dns.name.as_str()), (DnsType::Soa, "."));
    let CheckKind::Dns(dns) = check("DNS_CHECK {\ntype dnskey\nname example.org\n}").kind else {
        panic!()
    };
    assert_eq!((dns.record, dns.name.as_str()), (DnsType::Dnskey, "example.org"));
}

#[test]
fn programs_are_run_as_written() {
    let misc = |lines: &str| {
        let CheckKind::Misc(misc) = check(lines).kind else { panic!() };
        misc
    };
    let plain = misc("MISC_CHECK {\nmisc_path /bin/a\nmisc_timeout 0\n}");
    assert_eq!(plain.script.words, ["/bin/a"]);
    assert_eq!((plain.script.user, plain.timeout, plain.dynamic), (None, None, false));
    let full = misc(
        "MISC_CHECK {\nmisc_path \"/bin/a 'b c' d\"\nmisc_timeout 7\nmisc_dynamic\nuser u g\n}",
    );
    assert_eq!(full.script.words, ["/bin/a", "b c", "d"]);
    let user = full.script.user.unwrap();
    assert_eq!((user.user.as_str(), user.group.as_deref()), ("u", Some("g")));
    assert_eq!((full.timeout, full.dynamic), (Some(secs(7)), true));
}

#[test]
fn udp_strings_are_read_as_keepalived_reads_them() {
    let udp = |lines: &str| {
        let CheckKind::Udp(udp) = check(&format!("UDP_CHECK {{\n{lines}\n}}")).kind else {
            panic!()
        };
        udp
    };
    let plain = udp("");
    assert_eq!((plain.payload, plain.require_reply, plain.reply), (None, false, None));
    assert_eq!((plain.min_length, plain.max_length), (0, 255));
    // The example of keepalived.conf(5).
    let bytes = [0xab, 0x12, 0x0f, 0x03, 0x45, 0x06, 0x54, 0x64, 0x43, 0x12, 0x03];
    assert_eq!(udp("payload Ab12f 3 456 546443123").payload.unwrap(), bytes);
    assert_eq!(udp("payload \"Ab12f 3 456 546443123\"").payload.unwrap(), bytes);
    let any = udp("require_reply");
    assert_eq!((any.require_reply, any.reply), (true, None));
    let masked = udp("require_reply 1x Xf xx x\nmin_reply_length 2\nmax_reply_length 65535");
    let reply = masked.reply.unwrap();
    assert_eq!(reply.bytes, [0x10, 0x0f, 0, 0]);
    assert_eq!(reply.mask, [0xf0, 0x0f, 0, 0xf0]);
    assert_eq!((masked.min_length, masked.max_length), (2, 65535));
}

#[test]
fn path_checks_send_what_a_client_sends() {
    let path = |text: &str| {
        let outcome = read_text(text);
        let found = shown(&outcome);
        let desired = outcome.desired.unwrap_or_else(|| panic!("{found:?}"));
        let CheckKind::Path(path) = &desired.services[0].health.servers[0].checks[0].kind else {
            panic!()
        };
        path.clone()
    };
    let want = PathCheck {
        vip: "192.0.2.1".parse().unwrap(),
        port: 80,
        protocol: Protocol::Tcp,
        real_server: "192.0.2.9".parse().unwrap(),
        real_port: 8080,
        method: ForwardingMethod::Nat,
        timeout: secs(2),
    };
    assert_eq!(path(&file("", "", "PATH_CHECK {\nconnect_timeout 2\n}")), want);
    let marked = |lines: &str| {
        format!(
            "mark 1 {{\n}}\nvirtual_server fwmark 1 {{\nlvs_sched rr\nlvs_method DR\nreal_server 192.0.2.9 {{\nPATH_CHECK {{\n{lines}\n}}\n}}\n}}\n"
        )
    };
    let all = "virtual_ip 192.0.2.1\nvirtual_port 53\nprotocol udp";
    let want = PathCheck {
        port: 53,
        real_port: 53,
        protocol: Protocol::Udp,
        method: ForwardingMethod::Dr,
        timeout: secs(5),
        ..want
    };
    assert_eq!(path(&marked(all)), want);
    for missing in ["virtual_ip 192.0.2.1\n", "virtual_port 53\n", "\nprotocol udp"] {
        let outcome = read_text(&marked(&all.replace(missing, "")));
        let said = "error: PATH_CHECK does not know which packet to send";
        assert!(shown(&outcome).iter().any(|line| line.ends_with(said)), "{missing}");
    }
}

#[test]
fn agents_have_a_port_of_their_own() {
    let CheckKind::Agent(agent) = check("AGENT_CHECK {\nconnect_port 9\n}").kind else { panic!() };
    assert_eq!(agent, AgentCheck { target: target("192.0.2.9:9"), send: None });
    let CheckKind::Agent(agent) = check("AGENT_CHECK {\nconnect_port 9\nsend \"a b\\n\"\n}").kind
    else {
        panic!()
    };
    assert_eq!(agent.send.as_deref(), Some("a b\n"));
}

#[test]
fn what_cannot_be_meant_is_refused_or_said() {
    let cases = [
        ("TCP_CHECK {\nconnect_port 0\n}", "error: connect_port 0 is below 1"),
        ("TCP_CHECK {\nconnect_port 65536\n}", "error: connect_port 65536 exceeds 65535"),
        ("TCP_CHECK {\nconnect_ip nowhere\n}", "error: connect_ip `nowhere` is not an IP address"),
        ("TCP_CHECK {\nbindto ::1\n}", "error: bindto ::1 is not of the family of 192.0.2.9"),
        (
            "TCP_CHECK {\nconnect_ip fe80::1\n}",
            "error: fe80::1 is a link-local address: on which interface is it?",
        ),
        ("TCP_CHECK {\nbind_if a/b\n}", "error: `a/b` is no interface name"),
        ("TCP_CHECK {\nfwmark -1\n}", "error: fwmark -1 is below 0"),
        ("TCP_CHECK {\nretry x\n}", "error: retry `x` is not a number"),
        ("retry 0\nTCP_CHECK {\n}", "error: retry 0 is below 1"),
        (
            "TCP_CHECK {\ndelay_loop 0\n}",
            "error: delay_loop `0` is not within 0.000001 to 31536000 seconds",
        ),
        (
            "TCP_CHECK {\nconnect_timeout 4295\n}",
            "error: connect_timeout `4295` is not within 0.000001 to 4294.967295 seconds",
        ),
        ("TCP_CHECK {\nwarmup 1s\n}", "error: warmup `1s` is not a number of seconds"),
        (
            "TCP_CHECK {\ndelay_before_retry .\n}",
            "error: delay_before_retry `.` is not a number of seconds",
        ),
        (
            "TCP_CHECK {\ndelay_before_retry 0\n}",
            "warning: a check cannot be retried without pause: 0.001 seconds are used",
        ),
        (
            "TCP_CHECK {\nwarmup 1.0000004\n}",
            "warning: warmup `1.0000004` is finer than a microsecond: 1 is used",
        ),
        ("TCP_CHECK {\nretry 2\nretry 3\n}", "warning: `retry` is given again; this one counts"),
        ("TCP_CHECK {\nalpha maybe\n}", "error: unknown value of `alpha` `maybe`"),
        ("HTTP_GET {\n}", "error: HTTP_GET has no url"),
        ("HTTP_GET {\nurl {\n}\n}", "error: the url has no path"),
        (
            "HTTP_GET {\nurl {\npath index\n}\n}",
            "error: path `index` does not begin with `/`, or has blanks",
        ),
        (
            "HTTP_GET {\nurl {\npath /\nstatus_code 99\n}\n}",
            "error: `99` is no status code or range of them",
        ),
        (
            "HTTP_GET {\nurl {\npath /\nstatus_code 300-200\n}\n}",
            "error: `300-200` is no status code or range of them",
        ),
        (
            "HTTP_GET {\nurl {\npath /\ndigest 12\n}\n}",
            "error: digest `12` is no MD5 sum of 32 hexadecimal digits",
        ),
        (
            "HTTP_GET {\nurl {\npath /\nregex a\nregex_options caseles\n}\n}",
            "warning: unknown regex option `caseles` is left out",
        ),
        (
            "HTTP_GET {\nurl {\npath /\nregex_no_match\n}\n}",
            "warning: there is no `regex` that this belongs to",
        ),
        (
            "HTTP_GET {\nurl {\npath /\nregex a\nregex_min_offset 5\nregex_max_offset 4\n}\n}",
            "warning: regex_min_offset 5 exceeds regex_max_offset 4: neither is used",
        ),
        ("HTTP_GET {\nhttp_protocol 2\nurl {\npath /\n}\n}", "error: unknown HTTP version `2`"),
        (
            "HTTP_GET {\nenable_sni\nurl {\npath /\n}\n}",
            "warning: `enable_sni` has no meaning without TLS",
        ),
        ("SSL_GET {\nenable_sni\nurl {\npath /\n}\n}", "warning: `enable_sni` has no name to send"),
        ("HTTP_GET {\nvirtualhost \"a b\"\nurl {\npath /\n}\n}", "error: `a b` is no host name"),
        ("SMTP_CHECK {\nhelo_name \"a b\"\n}", "error: helo_name `a b` is no host name"),
        ("DNS_CHECK {\ntype SPF\n}", "error: unknown DNS type `SPF`"),
        ("DNS_CHECK {\nname a..b\n}", "error: DNS name `a..b` has an empty label"),
        ("MISC_CHECK {\n}", "error: MISC_CHECK has no program to run"),
        ("MISC_CHECK {\nmisc_path /bin/a b\n}", "warning: `b` does not reach the program"),
        ("MISC_CHECK {\nmisc_path \" \"\n}", "error: command ` ` names no program"),
        (
            "MISC_CHECK {\nmisc_path /bin/a\nmisc_timeout 4295\n}",
            "error: misc_timeout 4295 exceeds 4294",
        ),
        ("PING_CHECK {\nconnect_port 80\n}", "warning: an echo request has no port"),
        ("UDP_CHECK {\npayload 0g\n}", "error: `0g` is not made of hexadecimal digits"),
        ("UDP_CHECK {\npayload 0x\n}", "error: `0x` is not made of hexadecimal digits"),
        (
            "UDP_CHECK {\nrequire_reply\nmin_reply_length 256\n}",
            "error: min_reply_length 256 exceeds max_reply_length 255",
        ),
        (
            "UDP_CHECK {\nmin_reply_length 1\n}",
            "warning: the length of a reply matters only with `require_reply`",
        ),
        ("BFD_CHECK {\nname peer\n}", "error: there is no bfd_instance `peer`"),
        ("BFD_CHECK {\n}", "error: BFD_CHECK names nothing to watch"),
        ("FILE_CHECK {\ntrack_file f\n}", "error: there is no track_file `f`"),
        (
            "PATH_CHECK {\nvirtual_ip 192.0.2.1\n}",
            "warning: `virtual_ip` is for services by firewall mark: the service's own is used",
        ),
        ("PATH_CHECK {\nprotocol SCTP\n}", "error: unknown protocol `SCTP`"),
        (
            "TCP_CHECK {\n}\nTCP_CHECK {\nretry 1\n}",
            "warning: this TCP_CHECK is in the real server already",
        ),
        ("AGENT_CHECK {\n}", "error: AGENT_CHECK has no `connect_port`"),
    ];
    for (lines, want) in cases {
        assert_eq!(finding(lines), want, "{lines}");
    }
}

#[test]
fn checks_slower_than_their_interval_are_noted_once_for_a_file() {
    let lines = "TCP_CHECK {\ndelay_loop 6\nconnect_timeout 3\nretry 1\n}\n";
    let three = ["", "connect_port 1\n", "connect_port 2\n"]
        .map(|more| lines.replace("retry 1\n", &format!("retry 1\n{more}")));
    let outcome = read_text(&file("", "", &three.concat()));
    let notes: Vec<_> = shown(&outcome).into_iter().filter(|l| l.contains("delay_loop")).collect();
    assert_eq!(
        notes,
        [
            "f:8:1: note: a server that does not answer is found down after 7 s, while `delay_loop` is 6 s (3 checks, the first one here)"
        ]
    );
    // 3 + 1 + 3 seconds are not longer than 7.
    let enough = read_text(&file("", "", &lines.replace("delay_loop 6", "delay_loop 7")));
    assert_eq!(shown(&enough), Vec::<String>::new());
}
