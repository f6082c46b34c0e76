//! Each checker against a real server of its kind: up, down by each distinct cause, and up again.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "tests fail loudly")]

#[path = "net_checks/servers.rs"]
mod servers;

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use elvs_lab::{Topology, output_of, require_root, wait_until};
use elvs_model::ForwardingMethod;
use elvs_model::health::{
    Check, CheckKind, CheckResult, DnsCheck, DnsType, HttpCheck, HttpVersion, MiscCheck, PingCheck,
    RegexRule, ReplyPattern, Schedule, Script, ScriptUser, SmtpCheck, StatusRange, Target,
    TcpCheck, TlsClient, Trial, UdpCheck, UrlCheck,
};
use elvs_net::bed::{BedError, Host};
use elvs_net::{Namespace, Netlink};
use elvs_probe::{ProbeSettings, Prober};
use nix::sys::signal::Signal;

/// Runs a check in this thread's namespace; its words, with a mark for whether it passed.
fn words(kind: CheckKind) -> String {
    words_with(kind, ProbeSettings::default())
}

fn words_with(kind: CheckKind, settings: ProbeSettings) -> String {
    let schedule = Schedule {
        delay_loop: PATIENCE,
        retry: 0,
        delay_before_retry: Duration::from_secs(1),
        warmup: None,
        alpha: false,
        log_all_failures: false,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let trial = Trial::of(&Check { kind, schedule }).unwrap();
    let finding = runtime.block_on(Prober::new(settings).run(&trial));
    let mark = if finding.result == CheckResult::Failed { '-' } else { '+' };
    format!("{mark} {}", finding.words)
}

/// Runs a check on the director.
fn probe(topology: &Topology, kind: &CheckKind) -> String {
    topology.bed().director.namespace.run(|| words(kind.clone())).unwrap()
}

fn target(host: &Host, port: u16) -> Target {
    let address = SocketAddr::from((host.address, port));
    let timeout = PATIENCE;
    Target { address, source: None, source_port: None, interface: None, mark: 0, timeout }
}

/// A target whose timeout is waited for.
fn hasty(host: &Host, port: u16) -> Target {
    Target { timeout: Duration::from_secs(1), ..target(host, port) }
}

/// What a server on this machine keeps, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(20);

/// Cuts the cable of a host, or mends it; either way the director forgets whom it knows.
fn cable(topology: &Topology, host: &Host, up: bool) {
    let state = if up { "up" } else { "down" };
    let director = &topology.bed().director;
    for (on, arguments) in [
        (host, &["link", "set", "eth0", state][..]),
        (director, &["neigh", "flush", "dev", "eth0"]),
    ] {
        let mut command = on.command("ip");
        command.args(arguments);
        output_of(command);
    }
}

#[test]
fn tcp_check_finds_each_cause() {
    let topology = Topology::new("checks-tcp", ForwardingMethod::Dr, 1);
    let host = topology.real_server(1);
    let tcp = |target| CheckKind::Tcp(TcpCheck { target });
    let check = tcp(target(host, 80));
    assert_eq!(probe(&topology, &check), "- connection refused");
    let servers = topology.nginx();
    assert_eq!(probe(&topology, &check), "+ connected");
    let device = tcp(Target { interface: Some("eth0".to_owned()), ..target(host, 80) });
    assert_eq!(probe(&topology, &device), "+ connected");
    let device = tcp(Target { interface: Some("lo".to_owned()), ..hasty(host, 80) });
    assert!(probe(&topology, &device).starts_with("- "), "there is no way by lo");
    let marked = tcp(Target { mark: 7, ..target(host, 80) });
    assert_eq!(probe(&topology, &marked), "+ connected");
    let mut rule = topology.bed().director.command("ip");
    rule.args(["rule", "add", "fwmark", "7", "unreachable"]);
    output_of(rule);
    assert_eq!(probe(&topology, &marked), "- network is unreachable");
    assert_eq!(probe(&topology, &check), "+ connected", "only the marked one is meant");
    cable(&topology, host, false);
    assert_eq!(probe(&topology, &tcp(hasty(host, 80))), "- connect timed out after 1 s");
    assert_eq!(probe(&topology, &check), "- no route to host", "once nobody answers ARP");
    cable(&topology, host, true);
    wait_until("recovery", || probe(&topology, &check) == "+ connected");
    drop(servers);
    assert_eq!(probe(&topology, &check), "- connection refused");
}

/// A certificate that signs itself, and its key, in files.
fn certificate(directory: &Path, name: &str) -> (PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let (certificate, key) = (directory.join("cert.pem"), directory.join("key.pem"));
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (certificate, key)
}

fn url(path: &str) -> UrlCheck {
    UrlCheck {
        path: path.to_owned(),
        virtual_host: None,
        status: vec![StatusRange { first: 200, last: 299 }],
        digest: None,
        regex: None,
        tls_compliant: false,
    }
}

fn get(target: Target, tls: Option<TlsClient>, url: UrlCheck) -> CheckKind {
    CheckKind::Http(HttpCheck {
        target,
        tls,
        version: HttpVersion::V1_1,
        virtual_host: None,
        fast_recovery: false,
        urls: vec![url],
    })
}

#[test]
fn http_get_and_ssl_get_find_each_cause() {
    let topology = Topology::new("checks-http", ForwardingMethod::Dr, 1);
    let host = topology.real_server(1);
    let directory = servers::directory(&topology, "tls");
    let (cert, key) = certificate(&directory, "www.example.test");
    let other = servers::directory(&topology, "other");
    let (foreign, _) = certificate(&other, "www.example.test");
    let server = servers::nginx(&topology, host, &cert, &key);
    // echo -n hello | md5sum
    let hello = 0x5d41_402a_bc4b_2a76_b971_9d91_1017_c592_u128.to_be_bytes();
    let rule = |pattern: &str| {
        Some(RegexRule {
            pattern: pattern.to_owned(),
            must_not_match: false,
            options: Vec::new(),
            min_offset: 0,
            max_offset: 0,
        })
    };
    for tls in [None, Some(TlsClient::default())] {
        let port = if tls.is_some() { 443 } else { 80 };
        for (url, said) in [
            (url("/"), "+ HTTP 200"),
            (url("/busy"), "- HTTP 503, wanted 200-299"),
            (url("/moved"), "- HTTP 302, wanted 200-299"),
            (UrlCheck { digest: Some(hello), ..url("/") }, "+ HTTP 200"),
            (
                UrlCheck { digest: Some([0; 16]), ..url("/") },
                "- digest 5d41402abc4b2a76b9719d911017c592, wanted 00000000000000000000000000000000",
            ),
            (UrlCheck { regex: rule("^h.*o$"), ..url("/") }, "+ HTTP 200"),
            (
                UrlCheck { regex: rule("world"), ..url("/") },
                "- regex \"world\" matches nothing in the 5 bytes of the body",
            ),
        ] {
            let check = get(target(host, port), tls.clone(), url);
            assert_eq!(probe(&topology, &check), said, "port {port}");
        }
    }
    let trusting = |ca: &Path, name: &str| {
        let tls = TlsClient {
            server_name: Some(name.to_owned()),
            ca: Some(ca.to_owned()),
            ..TlsClient::default()
        };
        let host_seen = rule("www.example.test www.example.test");
        let virtual_host = Some("www.example.test".to_owned());
        let url = UrlCheck { regex: host_seen, virtual_host, ..url("/host") };
        probe(&topology, &get(target(host, 443), Some(tls), url))
    };
    assert_eq!(trusting(&cert, "www.example.test"), "+ HTTP 200");
    let words = trusting(&cert, "mail.example.test");
    assert!(words.contains("not valid for name"), "{words}");
    let words = trusting(&foreign, "www.example.test");
    assert!(words.starts_with("- TLS handshake: invalid peer certificate: "), "{words}");
    let plain = get(target(host, 80), Some(TlsClient::default()), url("/"));
    let words = probe(&topology, &plain);
    assert!(words.starts_with("- TLS handshake: "), "{words}");
    let check = get(hasty(host, 80), None, url("/"));
    server.signal(Signal::SIGSTOP);
    assert_eq!(probe(&topology, &check), "- response header took longer than 1 s");
    server.signal(Signal::SIGCONT);
    assert_eq!(probe(&topology, &get(target(host, 80), None, url("/"))), "+ HTTP 200");
    drop(server);
    assert_eq!(probe(&topology, &check), "- connection refused");
}

#[test]
fn dns_check_finds_each_cause() {
    let topology = Topology::new("checks-dns", ForwardingMethod::Dr, 1);
    let host = topology.real_server(1);
    let ask = |target: Target, record, name: &str| {
        probe(&topology, &CheckKind::Dns(DnsCheck { target, record, name: name.to_owned() }))
    };
    let usual = |target: Target| ask(target, DnsType::Soa, "example.test");
    assert_eq!(usual(target(host, 53)), "- connection refused");
    let server = servers::unbound(&topology, host);
    assert_eq!(usual(target(host, 53)), "+ DNS answer without error, 1 record");
    let www = ask(target(host, 53), DnsType::A, "www.example.test");
    assert_eq!(www, "+ DNS answer without error, 1 record");
    let empty = ask(target(host, 53), DnsType::Mx, "www.example.test");
    assert_eq!(empty, "+ DNS answer without error, 0 records");
    let missing = ask(target(host, 53), DnsType::A, "nowhere.example.test");
    assert_eq!(missing, "- DNS error: Non-Existent Domain");
    assert_eq!(ask(target(host, 53), DnsType::A, "refused.test"), "- DNS error: Query Refused");
    server.signal(Signal::SIGSTOP);
    assert_eq!(usual(hasty(host, 53)), "- no DNS answer within 1 s");
    server.signal(Signal::SIGCONT);
    assert_eq!(usual(target(host, 53)), "+ DNS answer without error, 1 record");
    // The same server by UDP_CHECK: a question, and the beginning of its answer but for the flags.
    let question =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x04test\x00\x00\x06\x00\x01";
    let udp = |target: Target, id: u8| {
        let bytes = vec![0x12, id, 0x80];
        CheckKind::Udp(UdpCheck {
            target,
            payload: Some(question.to_vec()),
            require_reply: true,
            reply: Some(ReplyPattern { bytes, mask: vec![0xff, 0xff, 0x80] }),
            min_length: 12,
            max_length: 512,
        })
    };
    assert!(probe(&topology, &udp(target(host, 53), 0x34)).starts_with("+ reply of "));
    let differs = probe(&topology, &udp(target(host, 53), 0x35));
    assert!(differs.ends_with("which differs from the wanted one at byte 1"), "{differs}");
    drop(server);
    assert_eq!(usual(target(host, 53)), "- connection refused");
    assert_eq!(probe(&topology, &udp(target(host, 53), 0x34)), "- connection refused");
    cable(&topology, host, false);
    assert_eq!(probe(&topology, &udp(hasty(host, 53), 0x34)), "- no reply within 1 s");
    assert_eq!(probe(&topology, &udp(target(host, 53), 0x34)), "- no route to host");
}

#[test]
fn smtp_check_finds_each_cause() {
    const PASSED: &str = "+ greeted with 220, HELO answered with 250";
    let topology = Topology::new("checks-smtp", ForwardingMethod::Dr, 1);
    let host = topology.real_server(1);
    let smtp = |target: Target| {
        let helo_name = "director.example.test".to_owned();
        probe(&topology, &CheckKind::Smtp(SmtpCheck { targets: vec![target], helo_name }))
    };
    assert_eq!(smtp(target(host, 25)), "- connection refused");
    let server = servers::postfix(&topology, host, None);
    assert_eq!(smtp(target(host, 25)), PASSED);
    drop(server);
    // Its children go after it.
    wait_until("its end", || smtp(target(host, 25)) == "- connection refused");
    let server = servers::postfix(&topology, host, Some("450 later"));
    let words = smtp(target(host, 25));
    assert!(words.starts_with("- reply to HELO: SMTP 450 "), "{words}");
    drop(server);
    wait_until("its end", || smtp(target(host, 25)) == "- connection refused");
    let _server = servers::postfix(&topology, host, None);
    assert_eq!(smtp(target(host, 25)), PASSED);
    // A server of another kind waits for its client to begin.
    let _web = topology.nginx();
    assert_eq!(smtp(hasty(host, 80)), "- no greeting within 1 s");
}

#[test]
fn ping_check_finds_each_cause() {
    let topology = Topology::new("checks-ping", ForwardingMethod::Dr, 1);
    let host = topology.real_server(1);
    let ping = |target: Target| probe(&topology, &CheckKind::Ping(PingCheck { target }));
    for range in ["0 2147483647", "1 0"] {
        // The kernel's own echo socket is open to all, or to nobody.
        let set = || elvs_net::sysctl::set("net/ipv4/ping_group_range", range).unwrap();
        topology.bed().director.namespace.run(set).unwrap();
        assert_eq!(ping(target(host, 0)), "+ echo reply", "{range}");
        let interface = Some("eth0".to_owned());
        assert_eq!(ping(Target { interface, ..target(host, 0) }), "+ echo reply", "{range}");
        cable(&topology, host, false);
        assert_eq!(ping(hasty(host, 0)), "- no echo reply within 1 s", "{range}");
        assert_eq!(ping(target(host, 0)), "- no route to host", "{range}");
        cable(&topology, host, true);
        wait_until("recovery", || ping(target(host, 0)) == "+ echo reply");
    }
}

#[test]
fn ping_check_speaks_icmpv6() {
    require_root();
    let namespace = Namespace::create("elvs-lab-checks-ping6").unwrap();
    namespace
        .with_netlink(async |netlink: Netlink| {
            let lo = netlink.link("lo").await?.ifindex;
            Ok::<_, BedError>(netlink.set_up(lo).await?)
        })
        .unwrap();
    let timeout = PATIENCE;
    let address = SocketAddr::new(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]), 0);
    let target =
        Target { address, source: None, source_port: None, interface: None, mark: 0, timeout };
    for range in ["0 2147483647", "1 0"] {
        let check = CheckKind::Ping(PingCheck { target: target.clone() });
        let run = || {
            elvs_net::sysctl::set("net/ipv4/ping_group_range", range).unwrap();
            words(check)
        };
        assert_eq!(namespace.run(run).unwrap(), "+ echo reply", "{range}");
    }
}

#[test]
fn misc_check_becomes_its_user() {
    require_root();
    let shell = |text: &str, user: Option<(&str, Option<&str>)>| {
        let user = user.map(|(user, group)| ScriptUser {
            user: user.to_owned(),
            group: group.map(str::to_owned),
        });
        let words = ["/bin/sh", "-c", text].map(str::to_owned).to_vec();
        CheckKind::Misc(MiscCheck { script: Script { words, user }, timeout: None, dynamic: false })
    };
    let identity = "test \"$(id -u) $(id -g) $(id -G)\" = ";
    let nobody = format!("{identity}'65534 65534 65534'");
    assert_eq!(words(shell(&nobody, Some(("nobody", None)))), "+ exit code 0");
    assert_eq!(words(shell(&nobody, Some(("65534", None)))), "+ exit code 0");
    let daemon = format!(
        "{identity}\"65534 $(getent group daemon | cut -d: -f3) $(getent group daemon | cut -d: -f3)\""
    );
    assert_eq!(words(shell(&daemon, Some(("nobody", Some("daemon"))))), "+ exit code 0");
    let settings = ProbeSettings {
        script_user: Some(ScriptUser { user: "nobody".to_owned(), group: None }),
        script_security: true,
    };
    assert_eq!(words_with(shell(&nobody, None), settings), "+ exit code 0");
}

#[test]
fn keepalived_conf_enable_script_security() {
    require_root();
    let directory = tempfile::Builder::new().prefix("elvs-lab-").tempdir_in("/root").unwrap();
    let script = directory.path().join("check");
    fs::write(&script, "#!/bin/sh\nexit 0\n").unwrap();
    let settings = ProbeSettings {
        script_user: Some(ScriptUser { user: "root".to_owned(), group: None }),
        script_security: true,
    };
    let run = |path: &Path| {
        let script = Script { words: vec![path.to_str().unwrap().to_owned()], user: None };
        let misc = MiscCheck { script, timeout: None, dynamic: false };
        words_with(CheckKind::Misc(misc), settings.clone())
    };
    let mode = |mode| fs::set_permissions(&script, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o755);
    assert_eq!(run(&script), "+ exit code 0");
    mode(0o777);
    let insecure = format!(
        "- script security: {} may be written to by others than root (mode 777)",
        script.display()
    );
    assert_eq!(run(&script), insecure);
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&script, &link).unwrap();
    assert_eq!(run(&link), insecure, "a link leads there");
    mode(0o755);
    std::os::unix::fs::chown(&script, Some(65534), None).unwrap();
    let owned =
        format!("- script security: {} belongs to user 65534, not to root", script.display());
    assert_eq!(run(&script), owned);
    assert_eq!(run(Path::new("true")), "+ exit code 0", "a bare name is looked for in PATH");
    let relative = run(Path::new("./Cargo.toml"));
    assert_eq!(relative, "- script security: ./Cargo.toml is not an absolute path");
}
