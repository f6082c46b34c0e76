use std::collections::{HashMap, HashSet};
use std::fs;

use super::facts::Way;
use super::*;
use crate::files;

/// What a configuration of that text asks for.
fn desired(text: &str) -> Desired {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    let outcome = files::read(file.path().to_str().unwrap());
    outcome.desired.unwrap_or_else(|| panic!("{:?}", outcome.diagnostics))
}

fn service(vip: &str, method: &str, body: &str) -> String {
    format!(
        "virtual_server {vip} 80 {{\nlvs_sched rr\nlvs_method {method}\nprotocol TCP\n{body}\n}}\n"
    )
}

fn server(address: &str, body: &str) -> String {
    format!("real_server {address} 80 {{\nweight 1\n{body}\n}}\n")
}

/// A host with eth0 that has 192.0.2.1.
fn host(ways: &[(&str, Way)]) -> Facts {
    let ways = ways.iter().map(|(address, way)| (address.parse().unwrap(), way.clone()));
    Facts {
        interfaces: HashSet::from(["eth0".to_owned()]),
        own: HashSet::from(["192.0.2.1".parse().unwrap()]),
        ways: ways.collect::<HashMap<_, _>>(),
    }
}

#[test]
fn direct_routing_needs_a_network_of_this_host() {
    let servers =
        ["198.51.100.1", "198.51.100.2", "192.0.2.2"].map(|address| server(address, "")).concat();
    let mut text = service("192.0.2.1", "DR", &format!("{servers}\nsorry_server 198.51.100.3 80"));
    text += &service("192.0.2.1", "DR", &server("198.51.100.1", "")).replace(" 80 ", " 443 ");
    text += &service("192.0.2.1", "TUN", &server("198.51.100.1", "")).replace("1 80 ", "1 81 ");
    let gateway = Way::Gateway("192.0.2.254".parse().unwrap());
    let facts = host(&[
        ("198.51.100.1", gateway.clone()),
        ("198.51.100.2", Way::None("no route to 198.51.100.2".to_owned())),
        ("198.51.100.3", gateway),
        ("192.0.2.2", Way::Direct),
    ]);
    let findings = judge(&desired(&text), &facts);
    let needs = "is behind gateway 192.0.2.254: direct routing needs it on a network of this host; use TUN or FNAT";
    let behind = [
        format!("real server 198.51.100.1 {needs} (TCP 192.0.2.1:80, and 1 more place)"),
        format!("sorry server 198.51.100.3 {needs} (TCP 192.0.2.1:80)"),
    ];
    let unreachable =
        "real server 198.51.100.2 cannot be reached: no route to 198.51.100.2 (TCP 192.0.2.1:80)";
    let all = [unreachable.to_owned(), behind[0].clone(), behind[1].clone()];
    assert_eq!(findings.lines(), all);
    assert_eq!(findings.without(Kind::Unreachable).lines(), behind);
}

#[test]
fn addresses_and_interfaces_are_looked_for() {
    let check = "TCP_CHECK {\nbind_if eth7\nbindto 192.0.2.9\n}";
    let mut text = service("192.0.2.1", "DR", &server("192.0.2.2", check));
    text += &service("203.0.113.1", "DR", &server("192.0.2.2", "TCP_CHECK {\nbind_if eth0\n}"));
    assert_eq!(
        judge(&desired(&text), &host(&[])).lines(),
        [
            "virtual address 203.0.113.1 is on no interface of this host, and `vrrp_instance` does not put it there yet: `ip address add 203.0.113.1/32 dev INTERFACE` (TCP 203.0.113.1:80)",
            "address 192.0.2.9, which checks are sent from, is on no interface of this host (bindto of TCP_CHECK of real server 192.0.2.2 in TCP 192.0.2.1:80)",
            "interface eth7 does not exist (bind_if of TCP_CHECK of real server 192.0.2.2 in TCP 192.0.2.1:80)",
        ]
    );
}

#[test]
fn of_each_kind_no_more_are_said_than_a_screen_takes() {
    let server = server("192.0.2.2", "");
    let vips = (1..=30).map(|n| service(&format!("203.0.113.{n}"), "DR", &server));
    let vips = vips.collect::<String>();
    let lines = judge(&desired(&vips), &host(&[])).lines();
    assert_eq!(lines.len(), 11);
    assert!(lines[9].starts_with("virtual address 203.0.113.10 "), "{}", lines[9]);
    assert_eq!(lines[10], "20 more addresses are not on this host");
}

#[test]
fn programs_expressions_and_files_are_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    let (pipe, file) = (directory.path().join("none/fifo"), directory.path().join("file"));
    fs::write(&file, "").unwrap();
    let global = format!(
        "global_defs {{\nscript_user no-such-user\nlvs_notify_fifo {}\nnotify_fifo {}\n}}\nSSL {{\nca /nonexistent/ca\n}}\n",
        pipe.display(),
        file.display()
    );
    let checks = "notify_up \"/nonexistent/up a\" root\nSSL_GET {\nurl {\npath /\nregex \"(\"\n}\n}\nMISC_CHECK {\nmisc_path /nonexistent/up\nuser root\n}";
    let servers =
        [server("192.0.2.2", checks), server("192.0.2.3", checks), server("192.0.2.4", checks)];
    let text = global + &service("192.0.2.1", "DR", &servers.concat());
    let lines = judge(&desired(&text), &host(&[])).lines();
    let first = "of real server 192.0.2.2 in TCP 192.0.2.1:80, and";
    assert_eq!(
        lines,
        [
            "there is no user no-such-user (script_user)".to_owned(),
            format!(
                "program /nonexistent/up cannot be run: no such file or directory (notify_up {first} 5 more places)"
            ),
            format!(
                "regex \"(\": invalid regex at byte 1: missing closing parenthesis (SSL_GET {first} 2 more places)"
            ),
            format!("/nonexistent/ca: no such file or directory (SSL_GET {first} 2 more places)"),
            format!(
                "directory {} does not exist (lvs_notify_fifo)",
                pipe.parent().unwrap().display()
            ),
            format!("{} is no FIFO: remove it, or name another path (notify_fifo)", file.display()),
        ]
    );
}

#[test]
fn the_host_itself_is_asked() {
    let text =
        service("127.0.0.1", "DR", &server("127.0.0.2", "TCP_CHECK {\nbind_if no-such-if\n}"));
    let lines = of_this(&desired(&text));
    let missing = "interface no-such-if does not exist (bind_if of TCP_CHECK of real server 127.0.0.2 in TCP 127.0.0.1:80)";
    assert_eq!(lines, [missing], "the loopback addresses are its own");
}
