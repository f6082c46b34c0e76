//! Keywords of the LVS part with values that keepalived takes and values that are wrong.

/// Where a keyword stands, with values that keepalived takes and values that are wrong.
pub type Row = (&'static str, &'static [&'static str], &'static [&'static str]);

/// Of `virtual_server`.
pub const VIRTUAL: &[Row] = &[
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

/// Of `real_server`.
pub const REAL: &[Row] = &[
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
pub const CONNECTING: &[Row] = &[
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
pub const CHECKERS: &[(&str, &str, &[Row])] = &[
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

/// Of `global_defs`.
pub const GLOBAL: &[Row] = &[
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
