//! What operators get wrong: every mistake is named, nothing is half done, what forwards goes on forwarding.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail loudly"
)]

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use elvs_lab::bed::VIP;
use elvs_lab::{Topology, method, output_of, wait_until};
use elvs_net::Netlink;
use elvs_net::bed::BedError;
use nix::sys::signal::Signal;

/// The program under test on the director, not as a daemon that is waited for.
fn elvs(topology: &Topology) -> Command {
    let mut command = topology.bed().director.command(elvs_lab::program());
    command.arg("--socket").arg(socket(topology));
    command
}

fn socket(topology: &Topology) -> PathBuf {
    topology.directory().join("refused.sock")
}

fn run_arguments(topology: &Topology, config: &str) -> Vec<String> {
    let file = topology.directory().join("refused.conf");
    fs::write(&file, config).unwrap();
    let instance = format!("lab-{}", topology.name());
    ["run", "--instance", &instance, "-f", file.to_str().unwrap()].map(str::to_owned).into()
}

fn pins(topology: &Topology) -> PathBuf {
    Path::new("/sys/fs/bpf/elvs").join(format!("lab-{}", topology.name()))
}

/// Everything a command wrote; fails unless it ended by itself with that code.
fn said(output: &Output, code: i32) -> String {
    let text =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat();
    assert_eq!(output.status.code(), Some(code), "{text}");
    text
}

/// The daemon refuses to start, says all of `words`, and leaves neither pins nor socket.
fn refuses(topology: &Topology, mut command: Command, words: &[&str]) {
    let text = said(&command.output().unwrap(), 1);
    for word in words {
        assert!(text.contains(word), "`{word}` in:\n{text}");
    }
    assert!(!pins(topology).exists(), "pins are left after:\n{text}");
    assert!(!socket(topology).exists(), "a socket is left after:\n{text}");
}

#[test]
fn a_configuration_with_errors_is_refused_with_every_place() {
    let topology = Topology::new("bad-conf", method::DR, 1);
    let config = format!(
        "\
virtual_server {VIP} 80 {{
    lb_algo rr
    lb_kind DR
    protocol TCP
    real_server 10.0.0.21 80 {{
        weight heavy
    }}
    real_server {VIP} 80 {{
        weight 1
    }}
}}
virtual_server {VIP} 65536 {{
    lb_algo rr
    lb_kind DR
    protocol TCP
}}
virtual_server {VIP} 80 {{
    lb_algo rr
    lb_kind DR
    protocol TCP
    real_server 10.0.0.21 80 {{ weight 1 }}
}}
"
    );
    let arguments = run_arguments(&topology, &config);
    // file:line:column of every mistake, by the daemon and by the check alone.
    let places = [
        "refused.conf:6:16: error: ",
        "refused.conf:8:17: error: real server 10.0.0.100 is the VIP itself",
        "refused.conf:12:27: error: ",
        "refused.conf:17:1: error: virtual server TCP 10.0.0.100:80 is defined twice",
        "heavy",
        "65536",
    ];
    let mut run = elvs(&topology);
    run.args(&arguments);
    refuses(&topology, run, &places);
    let mut check = elvs(&topology);
    check.args(["check", "-f", &arguments[4]]);
    refuses(&topology, check, &places);
}

#[test]
fn an_interface_that_does_not_exist_is_named() {
    let topology = Topology::new("bad-link", method::DR, 1);
    let named = |name: &str| {
        format!("data_plane {{\n    interface {name}\n}}\n{}", topology.config("rr", 1))
    };
    let mut run = elvs(&topology);
    run.args(run_arguments(&topology, &named("nosuch0")));
    refuses(&topology, run, &["interface nosuch0"]);

    // A reload that names one leaves everything as it is.
    let _nginx = topology.nginx();
    let daemon = topology.daemon(Some(&named("eth0")));
    assert_eq!(topology.curl(3).len(), 3);
    let before = (daemon.adm_ok("-Ln --stats --exact"), daemon.status().interfaces);
    daemon.write_config(&named("nosuch0"));
    daemon.process.signal(Signal::SIGHUP);
    wait_until("the refusal in the log", || daemon.process.log().contains("interface nosuch0"));
    assert!(daemon.process.log().contains("everything stays as it is"), "{}", daemon.process.log());
    assert_eq!((daemon.adm_ok("-Ln --stats --exact"), daemon.status().interfaces), before);
    assert_eq!(topology.curl(3).len(), 3);
}

#[test]
fn missing_rights_are_named() {
    let topology = Topology::new("bad-caps", method::DR, 1);
    // A user of no rights has to reach the program at all, wherever it was built.
    let program = topology.directory().join("elvs");
    fs::copy(elvs_lab::program(), &program).unwrap();
    fs::set_permissions(topology.directory(), Permissions::from_mode(0o755)).unwrap();
    let as_somebody = |rights: &[&str]| {
        let mut command = topology.bed().director.command("setpriv");
        command.args(rights).arg("--").arg(&program).arg("--socket").arg(socket(&topology));
        command.args(run_arguments(&topology, &topology.config("rr", 1)));
        command
    };
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    refuses(&topology, as_somebody(&nobody), &["needs root", "CAP_BPF", "CAP_NET_ADMIN"]);
    let bare_root = ["--inh-caps=-all", "--bounding-set=-all"];
    refuses(
        &topology,
        as_somebody(&bare_root),
        &["missing capability", "CAP_BPF", "CAP_NET_ADMIN"],
    );
}

#[test]
fn wrong_commands_are_refused_and_change_nothing() {
    let topology = Topology::new("bad-adm", method::DR, 2);
    let _nginx = topology.nginx();
    let daemon = topology.daemon(Some(&topology.config("rr", 2)));
    assert_eq!(topology.curl_shares(4).len(), 2);
    let before = daemon.adm_ok("-Ln --stats --exact");
    let service = format!("-t {VIP}:80");
    let wrong = [
        (format!("-A -t {VIP}:65536 -s rr"), "illegal virtual server address[:port] specified"),
        (format!("-e {service} -r 10.0.0.21:80 -g -w heavy"), "illegal weight specified"),
        (format!("-A {service} -s rr"), "Service already exists"),
        (format!("-a {service} -r 10.0.0.21:80 -g"), "Destination already exists"),
        (format!("-d {service} -r 10.0.0.99:80"), "No such destination"),
        (format!("-A -t {VIP}:81 -s nosuch"), "Scheduler or persistence engine not found"),
        (format!("-D -t {VIP}:81"), "No such service"),
    ];
    for (arguments, word) in &wrong {
        let output = daemon.adm(arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "`{arguments}` was taken");
        assert!(text.contains(word), "`{word}` in the answer to `{arguments}`: {text}");
        assert_eq!(daemon.adm_ok("-Ln --stats --exact"), before, "after `{arguments}`");
    }
    let shares = topology.curl_shares(10);
    assert_eq!(shares, BTreeMap::from([("rs1".to_owned(), 5), ("rs2".to_owned(), 5)]));
}

#[test]
fn commands_without_a_daemon_say_how_to_start_one() {
    let topology = Topology::new("bad-none", method::DR, 1);
    let socket = socket(&topology).display().to_string();
    for arguments in [["adm", "-Ln"].as_slice(), &["status"]] {
        let text = said(&elvs(&topology).args(arguments).output().unwrap(), 2);
        assert!(text.contains(&socket), "{arguments:?}: {text}");
        assert!(text.contains("elvs run"), "{arguments:?}: {text}");
    }
}

/// Requests one after the other, each given a second; how many were answered.
fn answered(topology: &Topology, number: u32) -> u32 {
    let one = |_| {
        let mut curl = topology.client("curl");
        curl.args(["-s", "--max-time", "1", "-H", "Connection: close"]);
        curl.arg(format!("http://{VIP}/")).output().unwrap().status.success()
    };
    (0..number).map(one).map(u32::from).sum()
}

#[test]
fn a_real_server_that_does_not_answer_is_named_and_the_others_serve() {
    let topology = Topology::new("bad-hop", method::DR, 2);
    let _nginx = topology.nginx();
    let daemon = topology.daemon(Some(&topology.config("rr", 2)));
    daemon.adm_ok(&format!("-a -t {VIP}:80 -r 10.0.0.250:80 -g"));
    let lost = "10.0.0.250:80";
    wait_until("the problem", || !daemon.status().unresolved.is_empty());
    let status = daemon.status();
    let [problem] = &status.unresolved[..] else { panic!("{:?}", status.unresolved) };
    assert_eq!(problem.destination.to_string(), lost);
    assert_eq!(problem.next_hop, Some("10.0.0.250".parse().unwrap()));

    // rr gives it every third connection; the others are answered.
    assert_eq!(answered(&topology, 6), 4);
    let drops = daemon.counted("no_next_hop");
    assert!(drops >= 2, "{drops} packets counted as no_next_hop");
    let screen = output_of({
        let mut status = daemon.elvs();
        status.arg("status");
        status
    });
    let problem = screen.lines().find(|line| line.starts_with("PROBLEM"));
    let problem = problem.unwrap_or_else(|| panic!("no problem on:\n{screen}"));
    assert!(problem.contains(lost) && problem.contains("ARP"), "{problem}");
    let named = format!("no_next_hop {drops}");
    assert!(
        screen.lines().any(|line| line.trim_end().ends_with(&named)),
        "`{named}` in:\n{screen}"
    );

    // It comes up: nobody has to tell the director.
    let host = topology.real_server(1);
    let added = host.namespace.with_netlink(async |netlink: Netlink| {
        let eth0 = netlink.link("eth0").await?.ifindex;
        netlink.add_address(eth0, "10.0.0.250".parse().unwrap(), 32).await?;
        Ok::<_, BedError>(())
    });
    added.unwrap();
    daemon.wait_ready();
    assert_eq!(topology.curl(30).len(), 30);
    let log = daemon.process.log();
    assert!(log.contains("10.0.0.250 can be reached"), "{log}");
}
