//! Configurations made by rules: each keyword of the LVS part with good and bad values, mistakes of form, the language's own
//! features, and whole files of chance.
//!
//! The same files every time: chance is a generator with a fixed seed.

use std::fmt::Write as _;

/// One configuration: the main file, and what it includes.
pub struct Case {
    /// File name without `.conf`.
    pub name: String,
    /// The main file.
    pub text: String,
}

/// Where a keyword stands, with values that keepalived takes and values that are wrong.
type Row = (&'static str, &'static [&'static str], &'static [&'static str]);

const VIRTUAL: &[Row] = &[
    ("delay_loop", &["6", "2.5", "0.001"], &["x", "-1", "1e3", ""]),
    (
        "lvs_sched",
        &["rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "mh", "dh", "sed", "nq", "fo", "ovf"],
        &["xx", ""],
    ),
    ("lb_algo", &["rr"], &["least"]),
    (
        "lvs_method",
        &[
            "NAT",
            "DR",
            "TUN",
            "TUN type ipip",
            "TUN type gue port 6080",
            "TUN type gue port 6080 nocsum",
            "TUN type gre",
            "TUN type gre csum",
        ],
        &["XX", "", "TUN type gue", "TUN type vxlan", "TUN type gue port 0"],
    ),
    ("lb_kind", &["DR"], &["dr"]),
    ("persistence_timeout", &["50", "", "2678400"], &["x", "0", "-5", "99999999"]),
    ("persistence_granularity", &["255.255.255.0"], &["255.255.255.300", ""]),
    ("persistence_engine", &["sip"], &[""]),
    ("protocol", &["TCP", "UDP", "SCTP"], &["ICMP", "tcp", ""]),
    ("ha_suspend", &[""], &[]),
    ("alpha", &["", "on", "off"], &["maybe"]),
    ("omega", &["", "true"], &["2"]),
    ("quorum", &["1", "2"], &["0", "x", "-1", "4294967296"]),
    ("hysteresis", &["0", "1"], &["x", "-1"]),
    (
        "quorum_up",
        &["\"/bin/true up\"", "/bin/true", "\"/bin/true up\" root"],
        &["", "\"/bin/true"],
    ),
    ("quorum_down", &["\"/bin/true down\""], &[]),
    ("retry", &["3", "0"], &["x", "-1"]),
    ("delay_before_retry", &["2", "0.5"], &["x"]),
    ("warmup", &["5", "0"], &["x"]),
    ("connect_timeout", &["4", "0.5"], &["x", "-2"]),
    ("virtualhost", &["www.example.com"], &[""]),
    ("smtp_alert", &["", "on", "no"], &["maybe"]),
    ("weight", &["3"], &["x"]),
    ("inhibit_on_failure", &[""], &[]),
    ("sorry_server", &["192.0.2.250 80"], &["192.0.2.300 80", "192.0.2.250 70000", ""]),
    ("sorry_server_inhibit", &[""], &[]),
    ("hashed", &[""], &[]),
    ("flag-1", &[""], &[]),
    ("snmp_name", &["web"], &[]),
];

const REAL: &[Row] = &[
    ("weight", &["0", "1", "65535"], &["x", "-1", ""]),
    ("lvs_method", &["NAT", "DR", "TUN"], &["XX"]),
    ("uthreshold", &["100"], &["x", "-1"]),
    ("lthreshold", &["10"], &["x"]),
    ("inhibit_on_failure", &[""], &[]),
    ("notify_up", &["\"/bin/true up\"", "\"/bin/true up\" root", "\"/bin/true 'a b'\""], &[""]),
    ("notify_down", &["/bin/true"], &[]),
    ("alpha", &["", "yes"], &["maybe"]),
    ("retry", &["3"], &["x"]),
    ("delay_before_retry", &["2"], &["x"]),
    ("warmup", &["5"], &["x"]),
    ("connect_timeout", &["4"], &["0x4"]),
    ("delay_loop", &["6"], &["x"]),
    ("smtp_alert", &["on"], &["maybe"]),
    ("virtualhost", &["www.example.com"], &[]),
    ("snmp_name", &["rs"], &[]),
];

/// Options that checkers with a connection have in common.
const CONNECTING: &[Row] = &[
    ("connect_ip", &["192.0.2.9"], &["192.0.2.999"]),
    ("connect_port", &["8080"], &["0", "70000", "x"]),
    ("bindto", &["192.0.2.8"], &["here"]),
    ("bind_port", &["1025"], &["70000"]),
    ("bind_if", &["eth0"], &[""]),
    ("fwmark", &["7"], &["x"]),
    ("connect_timeout", &["3"], &["x"]),
    ("retry", &["2"], &["x"]),
    ("delay_before_retry", &["2"], &["x"]),
    ("warmup", &["0"], &["x"]),
    ("delay_loop", &["4"], &["x"]),
    ("alpha", &[""], &["maybe"]),
    ("log_all_failures", &["on"], &["maybe"]),
];

/// A checker, what must be in it, and options of its own.
const CHECKERS: &[(&str, &str, &[Row])] = &[
    ("TCP_CHECK", "", &[]),
    (
        "HTTP_GET",
        "url {\npath /\nstatus_code 200\n}",
        &[
            ("http_protocol", &["1.0", "1.1", "1.0C"], &["2"]),
            ("virtualhost", &["www.example.com"], &[""]),
            ("fast_recovery", &[""], &[]),
            (
                "url {\npath /x\n",
                &[
                    "digest 9b3a0c85a887a256d6939da88aabd8cd\n}",
                    "status_code 200-299 301\n}",
                    "virtualhost a.example\n}",
                    "regex ^ok\n}",
                    "regex ^ok\nregex_no_match\n}",
                    "regex ok\nregex_options caseless\n}",
                    "regex ok\nregex_min_offset 2\nregex_max_offset 20\n}",
                ],
                &[
                    "digest 12\n}",
                    "status_code 99\n}",
                    "status_code 300-200\n}",
                    "status_code x\n}",
                    "bogus 1\n}",
                    "regex (\n}",
                    "regex ok\nregex_options wild\n}",
                ],
            ),
        ],
    ),
    (
        "SSL_GET",
        "url {\npath /\nstatus_code 200\n}",
        &[
            ("enable_sni", &[""], &[]),
            ("sni_name", &["www.example.com"], &[]),
            ("tls_compliant", &[""], &[]),
        ],
    ),
    (
        "SMTP_CHECK",
        "",
        &[
            ("helo_name", &["lb.example.com"], &[""]),
            ("host {\n", &["connect_ip 192.0.2.9\nconnect_port 25\n}"], &["path /\n}"]),
        ],
    ),
    (
        "DNS_CHECK",
        "",
        &[("type", &["A", "SOA", "AAAA", "txt"], &["X"]), ("name", &["example.com"], &[""])],
    ),
    (
        "MISC_CHECK",
        "misc_path \"/bin/true x\"",
        &[
            ("misc_timeout", &["5"], &["x", "-1"]),
            ("misc_dynamic", &[""], &["maybe"]),
            ("user", &["root", "root root"], &["nosuchuser"]),
        ],
    ),
    ("PING_CHECK", "", &[]),
    (
        "UDP_CHECK",
        "",
        &[
            ("payload", &["0123ff", "\"01 23\""], &["012", "xyz"]),
            ("require_reply", &["", "01", "0?"], &["0g"]),
            ("min_reply_length", &["3"], &["x", "70000"]),
            ("max_reply_length", &["300"], &["x"]),
        ],
    ),
];

const GLOBAL: &[Row] = &[
    ("router_id", &["lb1"], &[""]),
    ("notification_email_from", &["a@example.com"], &[""]),
    ("smtp_server", &["127.0.0.1", "127.0.0.1 2525"], &["127.0.0.1 70000"]),
    ("smtp_helo_name", &["lb.example.com"], &[]),
    ("smtp_connect_timeout", &["30"], &["x"]),
    ("notification_email {\n", &["a@example.com\nb@example.com\n}"], &[]),
    ("smtp_alert", &["", "on"], &["maybe"]),
    ("smtp_alert_checker", &["on"], &[]),
    ("checker_log_all_failures", &["on"], &[]),
    (
        "lvs_timeouts",
        &["tcp 900", "tcp 900 tcpfin 120 udp 300"],
        &["", "tcp", "tcp x", "icmp 5", "tcp 99999999"],
    ),
    ("lvs_flush", &[""], &[]),
    ("lvs_flush_on_stop", &["", "VS"], &["RS"]),
    ("script_user", &["root"], &["nosuchuser"]),
    ("rs_init_notifies", &[""], &[]),
    ("no_checker_emails", &[""], &[]),
    ("startup_script", &["\"/bin/true x\""], &[]),
    ("startup_script_timeout", &["5"], &["0", "x"]),
    ("lvs_notify_fifo", &["/run/lvs.fifo"], &[""]),
    (
        "lvs_sync_daemon",
        &["eth0", "eth0 id 7 maxlen 1400 port 8849 ttl 2 group 239.0.0.1"],
        &["", "eth0 id 300", "eth0 bogus 1"],
    ),
    ("include_check", &["", "match wildcard_match"], &["everything"]),
    ("nosuchkeyword", &[], &["1"]),
];

/// What stands before every service, so that scripts and mail are not complained of.
const PREAMBLE: &str = "global_defs {\nscript_user root\nenable_script_security\n}\n";

/// Chance that is the same every time (splitmix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(n.max(1)).unwrap()).unwrap()
    }

    fn of<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }
}

/// A service that both take as it is; `virtual_lines`, `real_lines` and `checker` are put in.
fn service(virtual_lines: &str, real_lines: &str, checker: &str) -> String {
    let own = |word: &str, line: &str| {
        if virtual_lines.contains(word) { String::new() } else { line.to_owned() }
    };
    let (sched, method) =
        (own("lvs_sched", "lvs_sched rr\n"), own("lvs_method", "lvs_method NAT\n"));
    let (sched, method) = (
        if virtual_lines.contains("lb_algo") { String::new() } else { sched },
        if virtual_lines.contains("lb_kind") { String::new() } else { method },
    );
    let protocol = own("protocol", "protocol TCP\n");
    let weight = if real_lines.contains("weight") { "" } else { "weight 1\n" };
    format!(
        "virtual_server 192.0.2.1 80 {{\n{sched}{method}{protocol}{virtual_lines}\nreal_server 192.0.2.10 80 {{\n{weight}{real_lines}\n{checker}\n}}\nreal_server 192.0.2.11 80 {{\nweight 1\n}}\n}}\n"
    )
}

fn statement(keyword: &str, value: &str) -> String {
    format!("{keyword} {value}").trim_end().to_owned()
}

/// A file for each value of each keyword.
fn keywords(out: &mut Vec<(String, String)>) {
    let mut rows = |place: &str, rows: &[Row], build: &dyn Fn(&str) -> String| {
        for (keyword, good, bad) in rows {
            for (kind, values) in [("good", good), ("bad", bad)] {
                for value in *values {
                    let word = keyword.split_whitespace().next().unwrap();
                    out.push((format!("{place}-{word}-{kind}"), build(&statement(keyword, value))));
                }
            }
        }
    };
    rows("virtual_server", VIRTUAL, &|line| PREAMBLE.to_owned() + &service(line, "", ""));
    rows("real_server", REAL, &|line| PREAMBLE.to_owned() + &service("", line, ""));
    rows("global_defs", GLOBAL, &|line| {
        let script = if line.starts_with("script_user") { "" } else { "script_user root\n" };
        format!("global_defs {{\n{script}enable_script_security\n{line}\n}}\n")
            + &service("", "", "")
    });
    for (name, needed, own) in CHECKERS {
        let checker = |line: &str| {
            let needed = if line.starts_with("url") { "" } else { needed };
            let block = format!("{name} {{\n{needed}\n{line}\n}}");
            let dns = if *name == "DNS_CHECK" { "protocol UDP" } else { "" };
            PREAMBLE.to_owned() + &service(dns, "", &block)
        };
        rows(name, own, &checker);
        if *name != "MISC_CHECK" {
            rows(name, CONNECTING, &checker);
        }
    }
}

/// Mistakes of form, and features of the language.
const LANGUAGE: &[(&str, &str)] = &[
    ("empty", ""),
    ("comments", "# a\n! b\n  # c\nvirtual_server_group G { # d\n192.0.2.1 80 ! e\n}\n"),
    ("unknown-root", "nosuchblock {\n}\n"),
    ("unknown-word", "hello\n"),
    ("close-too-many", "<VS>}\n"),
    (
        "close-missing",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\n}\n",
    ),
    ("open-without-keyword", "{\n}\n<VS>"),
    (
        "open-on-next-line",
        "virtual_server 192.0.2.1 80\n{\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80\n{\nweight 1\n}\n}\n",
    ),
    (
        "one-line",
        "virtual_server 192.0.2.1 80 { protocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 { weight 1\n} }\n",
    ),
    ("quote-open", "global_defs {\nrouter_id \"lb\n}\n<VS>"),
    ("quoted-value", "global_defs {\nrouter_id \"lb one\"\n}\n<VS>"),
    ("comment-in-quotes", "global_defs {\nrouter_id \"lb # ! one\"\n}\n<VS>"),
    (
        "parameter",
        "$W=3\nvirtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight $W\n}\n}\n",
    ),
    (
        "parameter-undefined",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight ${W}\n}\n}\n",
    ),
    (
        "parameter-recursive",
        "$NET=192.0.${SUB}\n$SUB=2\nvirtual_server ${NET}.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server ${NET}.2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "parameter-multi-line",
        "$RS= \\\nreal_server 192.0.2.${N} 80 { \\\nweight 1 \\\n}\nvirtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\n$N=2\n$RS\n$N=3\n$RS\n}\n",
    ),
    ("continued-line", "global_defs {\nrouter_id \\\nlb\n}\n<VS>"),
    ("condition", "global_defs {\n@main router_id one\n@back router_id two\n@^main bogus\n}\n<VS>"),
    ("condition-bad", "global_defs {\n@main bogus 1\n}\n<VS>"),
    (
        "condition-of-definition",
        "@main $W=3\n@back $W=x\nvirtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight $W\n}\n}\n",
    ),
    (
        "seq",
        "$RS= \\\nreal_server 192.0.2.${N} 80 { \\\nweight 1 \\\n}\nvirtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\n~SEQ(N, 2, 9) $RS\n}\n",
    ),
    (
        "seq-hex",
        "$RS= \\\nreal_server 2001:db8::${N} 80 { \\\nweight 1 \\\n}\nvirtual_server 2001:db8:1::1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\n~SEQx(N, 0x90, 0x10, 0xc0) $RS\n}\n",
    ),
    ("seq-no-end", "~SEQ(N) router_id x\n<VS>"),
    ("seq-never", "~SEQ(N,1,-1,3) bogus\n<VS>"),
    ("seq-not-a-number", "~SEQ(N,1,x) bogus\n<VS>"),
    ("seq-number-left-out", "~SEQ(N,,2) $A=$N\n<VS>"),
    ("lst", "virtual_server_group G {\n~LST({A,P}, {192.0.2.1,80}, {192.0.2.2,81}) $A $P\n}\n"),
    (
        "lst-nested",
        "virtual_server_group G {\n~LST(A, 192.0.2.1, 192.0.2.2) ~SEQ(P, 80, 82) $A $P\n}\n",
    ),
    ("lst-too-many", "~LST(A, {1,2}) bogus\n<VS>"),
    ("lst-no-values", "~LST(A) bogus\n<VS>"),
    (
        "random",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight ${_RANDOM 1 9}\n}\n}\n",
    ),
    ("builtins", "global_defs {\nrouter_id ${_INSTANCE}\n}\n<VS>"),
    ("hash", "global_defs {\nrouter_id \"a${_HASH}b${_BANG}\"\n}\n<VS>"),
    ("include", "include part.inc\n"),
    ("include-missing", "include none.inc\n<VS>"),
    ("include-glob", "include p*.inc\n"),
    ("include-braces", "include {part,none}.inc\n"),
    ("includer-missing", "includer none.inc\n<VS>"),
    ("includem-missing", "includem none.inc\n<VS>"),
    ("includem-glob-missing", "includem none*.inc\n<VS>"),
    ("includew-missing", "includew none*.inc\n<VS>"),
    ("includeb-missing", "includeb {part,none}.inc\n<VS>"),
    ("includeb", "includeb {part,part}.inc\n"),
    ("includea-missing", "includea none*.inc\n<VS>"),
    ("includea", "includea part.inc\n"),
    ("include-check", "global_defs {\ninclude_check\n}\ninclude none.inc\n<VS>"),
    ("include-of-broken", "include broken.inc\n<VS>"),
    ("include-conditional", "@main include part.inc\n"),
    ("include-of-itself", "include loop.inc\n<VS>"),
    ("utf8", "global_defs {\nrouter_id münchen # größe\n}\n<VS>"),
    ("crlf", "global_defs {\r\nrouter_id lb\r\n}\r\n<VS>"),
    (
        "vs-without-port",
        "virtual_server 192.0.2.1 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\npersistence_timeout 50\nreal_server 192.0.2.2 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-bad-address",
        "virtual_server 192.0.2.999 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-bad-port",
        "virtual_server 192.0.2.1 99999 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\n}\n}\n",
    ),
    ("vs-no-address", "virtual_server {\nprotocol TCP\n}\n"),
    ("vs-twice", "<VS><VS>"),
    (
        "vs-no-real-server",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\n}\n",
    ),
    (
        "vs-sorry-only",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nsorry_server 192.0.2.9 80\n}\n",
    ),
    (
        "vs-no-protocol",
        "virtual_server 192.0.2.1 80 {\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-no-scheduler",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-no-method",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nreal_server 192.0.2.2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-sched-twice",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_sched wrr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-ipv6",
        "virtual_server 2001:db8::1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 2001:db8::2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-mixed-nat",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 2001:db8::2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-mixed-tun",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method TUN\nreal_server 2001:db8::2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-ops-tcp",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nops\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-ops-udp",
        "virtual_server 192.0.2.1 53 {\nprotocol UDP\nops\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 53 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-sh-flags",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched sh\nsh-port\nsh-fallback\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-fwmark",
        "virtual_server fwmark 7 {\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-fwmark-protocol",
        "virtual_server fwmark 7 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-fwmark-zero",
        "virtual_server fwmark 0 {\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-fwmark-bad",
        "virtual_server fwmark x {\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-fwmark-ip6",
        "virtual_server fwmark 7 {\nip_family inet6\nlvs_sched rr\nlvs_method NAT\nreal_server 2001:db8::2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-group",
        "virtual_server_group G {\n192.0.2.1 80\n192.0.2.5-9 81\nfwmark 5\n}\nvirtual_server group G {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-group-undefined",
        "virtual_server group G {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-group-bad-address",
        "virtual_server_group G {\n192.0.2.900 80\n}\nvirtual_server group G {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-group-bad-range",
        "virtual_server_group G {\n192.0.2.9-3 80\n}\nvirtual_server group G {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-group-cidr",
        "virtual_server_group G {\n192.0.2.0/29 80\n}\nvirtual_server group G {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.100 80 {\nweight 1\n}\n}\n",
    ),
    (
        "vs-group-twice",
        "virtual_server_group G {\n192.0.2.1 80\n}\nvirtual_server_group G {\n192.0.2.2 80\n}\n<VS>",
    ),
    ("vs-group-empty", "virtual_server_group G {\n}\n<VS>"),
    (
        "rs-bad-address",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.x 80 {\nweight 1\n}\n}\n",
    ),
    (
        "rs-bad-port",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 x {\nweight 1\n}\n}\n",
    ),
    (
        "rs-twice",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\n}\nreal_server 192.0.2.2 80 {\nweight 2\n}\n}\n",
    ),
    ("rs-outside", "real_server 192.0.2.2 80 {\nweight 1\n}\n<VS>"),
    (
        "rs-other-port-dr",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method DR\nreal_server 192.0.2.2 8080 {\nweight 1\n}\n}\n",
    ),
    (
        "checker-in-vs",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nTCP_CHECK {\n}\nreal_server 192.0.2.2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "checkers-two",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\nTCP_CHECK {\n}\nPING_CHECK {\n}\n}\n}\n",
    ),
    (
        "quorum-larger-than-weight",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nquorum 9\nreal_server 192.0.2.2 80 {\nweight 1\n}\n}\n",
    ),
    (
        "hysteresis-of-quorum",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nquorum 1\nhysteresis 3\nreal_server 192.0.2.2 80 {\nweight 5\n}\n}\n",
    ),
    (
        "http-without-url",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\nHTTP_GET {\n}\n}\n}\n",
    ),
    (
        "misc-without-path",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\nMISC_CHECK {\n}\n}\n}\n",
    ),
    (
        "script-without-security",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\nnotify_up \"/bin/true\"\n}\n}\n",
    ),
    (
        "script-missing",
        "global_defs {\nscript_user root\nenable_script_security\n}\nvirtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\nnotify_up \"/no/such/script\"\n}\n}\n",
    ),
    (
        "ssl",
        "SSL {\npassword secret\nca /etc/ssl/ca.pem\ncertificate /etc/ssl/cert.pem\nkey /etc/ssl/key.pem\n}\n<VS>",
    ),
    ("ssl-unknown", "SSL {\ncipher x\n}\n<VS>"),
    (
        "bfd-check",
        "bfd_instance B {\nneighbor_ip 192.0.2.2\n}\nvirtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\nBFD_CHECK {\nname B\n}\n}\n}\n",
    ),
    (
        "bfd-check-undefined",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\nBFD_CHECK {\nname B\n}\n}\n}\n",
    ),
    ("bfd-bad", "bfd_instance B {\nneighbor_ip x\n}\n<VS>"),
    (
        "file-check",
        "track_file F {\nfile /tmp/elvs-none\n}\nvirtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\nFILE_CHECK {\ntrack_file F\nweight 2\n}\n}\n}\n",
    ),
    (
        "file-check-undefined",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\nFILE_CHECK {\ntrack_file F\n}\n}\n}\n",
    ),
    (
        "block-nested-wrong",
        "virtual_server 192.0.2.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.2 80 {\nweight 1\nglobal_defs {\n}\n}\n}\n",
    ),
];

/// Whole files of chance: services with several keywords each, of which every third file then has one mistake.
fn by_chance(out: &mut Vec<(String, String)>) {
    let mut chance = Chance(4);
    for n in 0..150 {
        let mut lines = |rows: &[Row], most: usize| {
            let mut used = Vec::new();
            let mut text = String::new();
            for _ in 0..chance.below(most + 1) {
                let (keyword, good, _) = &rows[chance.below(rows.len())];
                // These are said once by `service`, and have an effect on what goes with them.
                let fixed = [
                    "lvs_sched",
                    "lb_algo",
                    "lvs_method",
                    "lb_kind",
                    "protocol",
                    "sorry_server_inhibit",
                    "persistence_engine",
                    "weight",
                    "lthreshold",
                    "hysteresis",
                ];
                if !good.is_empty() && !used.contains(keyword) && !fixed.contains(keyword) {
                    used.push(*keyword);
                    let _ = writeln!(text, "{}", statement(keyword, chance.of(good)));
                }
            }
            text
        };
        let (virtual_lines, real_lines) = (lines(VIRTUAL, 6), lines(REAL, 4));
        let common = lines(CONNECTING, 3);
        let (name, needed, _) = CHECKERS[chance.below(CHECKERS.len())];
        let common = if name == "MISC_CHECK" { String::new() } else { common };
        let checker = format!("{name} {{\n{needed}\n{common}}}");
        let mut text = PREAMBLE.to_owned() + &service(&virtual_lines, &real_lines, &checker);
        if n % 3 == 0 {
            text = mistake(&mut chance, &text);
        }
        out.push((format!("chance-{n:03}"), text));
    }
}

/// One line left out, doubled, misspelt or given a word too many, or a brace lost.
fn mistake(chance: &mut Chance, text: &str) -> String {
    let mut lines: Vec<String> =
        text.lines().filter(|l| !l.is_empty()).map(str::to_owned).collect();
    let at = chance.below(lines.len());
    match chance.below(5) {
        0 => drop(lines.remove(at)),
        1 => lines.insert(at, lines[at].clone()),
        2 => lines[at].insert(0, 'x'),
        3 => lines[at].push_str(" extra"),
        _ => lines[at] = lines[at].replace(['{', '}'], ""),
    }
    lines.join("\n") + "\n"
}

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    keywords(&mut all);
    for (name, text) in LANGUAGE {
        let text = text.replace("<VS>", &service("", "", ""));
        all.push((format!("language-{name}"), text));
    }
    by_chance(&mut all);
    let number = |(n, (name, text)): (usize, (String, String))| Case {
        name: format!("{n:03}-{}", name.replace(['{', '\n'], "").trim()),
        text,
    };
    all.into_iter().enumerate().map(number).collect()
}
