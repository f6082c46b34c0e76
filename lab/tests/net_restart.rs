//! The daemon may die: packets go on, connections are remembered.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests fail loudly")]

use std::collections::BTreeSet;

use elvs_lab::{Daemon, Process, Topology, method, wait_until};
use nix::sys::signal::Signal;

/// 2,000 requests at 250 a second; the daemon is killed after 300 answers and is back some five seconds later.
fn survives(topology: &Topology, mut daemon: Daemon, config: Option<&str>) -> Daemon {
    let table = daemon.adm_ok("-Ln").lines().map(without_loads).collect::<Vec<_>>();
    let mut kept = topology.session();
    let server = kept.get();

    let mut curl = topology.client("curl");
    curl.args(["-sS", "--fail", "-N", "--rate", "250/s", "--max-time", "10"]);
    curl.args(["-H", "Connection: close", "http://10.0.0.100/?[1-2000]"]);
    let mut curl = Process::spawn(curl, &topology.directory().join("curl.log"));
    let answers = |curl: &Process| curl.log().lines().filter(|l| l.starts_with("rs")).count();

    wait_until("300 answers", || answers(&curl) >= 300);
    let before = clients(&daemon);
    assert!(before.len() > 200, "{} connections before the kill", before.len());
    daemon.process.signal(Signal::SIGKILL);
    assert_eq!(daemon.process.wait(), None, "ended by the signal");
    wait_until("1,500 answers", || answers(&curl) >= 1500);
    assert_eq!(kept.get(), server, "an open connection, while no daemon runs");
    let daemon = topology.daemon(config);
    assert_eq!(curl.wait(), Some(0), "{}", curl.log());
    assert_eq!(answers(&curl), 2000, "{}", curl.log());

    assert_eq!(kept.get(), server, "an open connection, after the restart");
    let adopted = daemon.adm_ok("-Ln").lines().map(without_loads).collect::<Vec<_>>();
    assert_eq!(adopted, table, "services and real servers");
    let after = clients(&daemon);
    let lost: Vec<_> = before.difference(&after).collect();
    assert!(lost.is_empty(), "connections from before the restart that are not listed: {lost:?}");
    // A client's port that comes again is one connection, or takes the place of one that is over.
    let listed = daemon.adm_ok("-Lnc");
    let connections = listed.lines().filter(|line| line.starts_with("TCP ")).count();
    assert_eq!(connections, after.len(), "each is listed once");
    let status = daemon.status();
    let made: u64 = status.services.iter().map(|service| service.statistics.connections).sum();
    let reused: u64 =
        status.events.iter().filter(|e| e.reason == "reused").map(|e| e.packets).sum();
    assert_eq!(
        u64::try_from(connections).ok(),
        Some(made - reused),
        "all that were made are listed"
    );
    let log = daemon.process.log();
    assert!(!log.contains("add up to"), "traffic is taken for a fault of the tables:\n{log}");
    assert!(made > 1_000, "{made} connections were made");
    let established = listed.lines().filter(|line| line.contains("ESTABLISHED")).count();
    assert_eq!(established, 1, "the one that is open");
    assert_eq!(status.drops, [], "nothing is dropped");
    daemon
}

/// Clients of the connections that `ipvsadm -Lnc` lists.
fn clients(daemon: &Daemon) -> BTreeSet<String> {
    let listed = daemon.adm_ok("-Lnc");
    let connections = listed.lines().filter(|line| line.starts_with("TCP "));
    connections.filter_map(|line| line.split_whitespace().nth(3)).map(str::to_owned).collect()
}

/// A line of `ipvsadm -Ln` without active and inactive connections.
fn without_loads(line: &str) -> String {
    let mut fields: Vec<&str> = line.split_whitespace().collect();
    if let ["->", address, ..] = fields[..]
        && address.starts_with(|c: char| c.is_ascii_digit())
    {
        fields.truncate(fields.len().saturating_sub(2));
    }
    fields.join(" ")
}

#[test]
fn a_killed_daemon_loses_no_packet_and_no_connection() {
    let topology = Topology::new("restart", method::DR, 3);
    let _nginx = topology.nginx();
    let config = topology.config("rr", 3);
    let daemon = topology.daemon(Some(&config));
    survives(&topology, daemon, Some(&config));
}

/// No file says what the table was: the next daemon finds it where the first one left it.
#[test]
fn a_killed_daemon_without_a_file_loses_no_command_either() {
    let topology = Topology::new("restart-cmd", method::NAT, 3);
    let _nginx = topology.nginx();
    let daemon = topology.daemon(None);
    daemon.adm_ok("-A -t 10.0.0.100:80 -s wrr");
    for (number, weight) in [(1, 3), (2, 2), (3, 1)] {
        let address = topology.real_server(number).address;
        daemon.adm_ok(&format!("-a -t 10.0.0.100:80 -r {address}:80 -m -w {weight}"));
    }
    daemon.adm_ok("--set 800 130 310");
    daemon.wait_ready();
    let daemon = survives(&topology, daemon, None);
    let timeouts = daemon.adm_ok("-L --timeout");
    assert_eq!(timeouts.trim_end(), "Timeout (tcp tcpfin udp): 800 130 310");
}

/// SIGTERM is the orderly end: program, pins and socket are gone.
#[test]
fn an_ended_daemon_leaves_nothing() {
    let topology = Topology::new("ended", method::DR, 1);
    let _nginx = topology.nginx();
    let mut daemon = topology.daemon(Some(&topology.config("rr", 1)));
    assert_eq!(topology.curl(3).len(), 3);
    daemon.process.signal(Signal::SIGTERM);
    assert_eq!(daemon.process.wait(), Some(0), "{}", daemon.process.log());
    assert!(!daemon.socket().exists(), "the socket");
    assert!(!std::path::Path::new("/sys/fs/bpf/elvs/lab-ended").exists(), "the pins");
    let link = topology
        .bed()
        .director
        .namespace
        .run(|| std::fs::read_to_string("/proc/net/dev").expect("interfaces"));
    assert!(link.unwrap().contains("eth0"), "the interface itself stays");
}

#[test]
fn a_second_daemon_of_the_instance_is_refused_with_the_first_ones_pid() {
    let topology = Topology::new("second", method::DR, 1);
    let daemon = topology.daemon(Some(&topology.config("rr", 1)));
    let mut second = topology.bed().director.command(daemon.program());
    second.arg("--socket").arg(topology.directory().join("second.sock"));
    second.args(["run", "--instance", "lab-second"]);
    let mut second = Process::spawn(second, &topology.directory().join("second.log"));
    let code = second.wait();
    assert!(code.is_some_and(|code| code != 0), "{code:?}: {}", second.log());
    let pid = daemon.process.pid().to_string();
    assert!(second.log().contains(&pid), "pid {pid} in: {}", second.log());
    assert_eq!(daemon.status().pid, daemon.process.pid());
}
