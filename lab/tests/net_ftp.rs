//! FTP through direct routing, active and passive: as documented, by a service on port 21, by one on all ports and by a firewall
//! mark.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests fail loudly")]

use std::collections::BTreeSet;

use elvs_lab::{Daemon, LARGE, PASSIVE_PORTS, Topology, method, output_of};
use elvs_net::bed::VIP;

/// Clients, beside the bed's own: 10.0.0.101 and the following.
const CLIENTS: u8 = 6;

/// Which side opens the data connection.
#[derive(Clone, Copy, Debug)]
enum Mode {
    /// The client, to a port that the real server names.
    Passive,
    /// The real server, from port 20.
    Active,
}

/// Fetches a file from the VIP.
fn fetch(topology: &Topology, client: u8, mode: Mode, file: &str) -> Vec<u8> {
    let mut curl = topology.client("curl");
    curl.args(["-sS", "--max-time", "20", "--interface", &format!("10.0.0.{}", 100 + client)]);
    if let Mode::Active = mode {
        curl.args(["--ftp-port", "-"]);
    }
    let output = curl.arg(format!("ftp://{VIP}/{file}")).output().expect("curl");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "client {client}, {mode:?}, {file}: {error}");
    output.stdout
}

fn prepare(name: &str) -> (Topology, Vec<elvs_lab::Vsftpd>) {
    let topology = Topology::new(name, method::DR, 3);
    for client in 1..=CLIENTS {
        let mut add = topology.client("ip");
        add.args(["address", "add", &format!("10.0.0.{}/24", 100 + client), "dev", "eth0"]);
        output_of(add);
    }
    let servers = topology.vsftpd();
    (topology, servers)
}

/// Every client has one real server for all its connections, and the clients have all three.
fn check(topology: &Topology, daemon: &Daemon) {
    let expected: Vec<u8> = (0..=u8::MAX).cycle().take(LARGE).collect();
    let mut servers = BTreeSet::new();
    for client in 1..=CLIENTS {
        let name = fetch(topology, client, Mode::Passive, "name");
        for mode in [Mode::Active, Mode::Passive, Mode::Active] {
            assert_eq!(fetch(topology, client, mode, "name"), name, "client {client}, {mode:?}");
        }
        for mode in [Mode::Passive, Mode::Active] {
            assert!(fetch(topology, client, mode, "large") == expected, "{client}, {mode:?}");
        }
        servers.insert(name);
        let listed = daemon.adm_ok(&format!("-Lnc --client 10.0.0.{}", 100 + client));
        let real_servers: BTreeSet<&str> = listed
            .lines()
            .skip(2)
            .filter_map(|line| line.split_whitespace().last()?.split(':').next())
            .collect();
        assert_eq!(real_servers.len(), 1, "client {client}:\n{listed}");
        let active = listed.lines().filter(|line| line.contains(&format!("{VIP}:20 "))).count();
        assert!(active >= 3, "active data connections of client {client}:\n{listed}");
    }
    assert_eq!(servers.len(), 3, "{servers:?}");
}

#[test]
fn a_persistent_service_on_all_ports_carries_active_and_passive_ftp() {
    let (topology, _servers) = prepare("ftp-ports");
    let daemon = topology.daemon(None);
    daemon.adm_ok(&format!("-A -t {VIP}:0 -s rr -p 300"));
    for host in &topology.bed().real_servers {
        daemon.adm_ok(&format!("-a -t {VIP}:0 -r {} -g", host.address));
    }
    check(&topology, &daemon);
}

#[test]
fn a_persistent_service_on_port_21_carries_its_data_connections() {
    let (topology, _servers) = prepare("ftp-21");
    let daemon = topology.daemon(None);
    daemon.adm_ok(&format!("-A -t {VIP}:21 -s rr -p 300"));
    for host in &topology.bed().real_servers {
        daemon.adm_ok(&format!("-a -t {VIP}:21 -r {}:21 -g", host.address));
    }
    check(&topology, &daemon);
}

#[test]
fn a_persistent_mark_carries_active_and_passive_ftp() {
    let (topology, _servers) = prepare("ftp-mark");
    let (first, last) = PASSIVE_PORTS;
    let mut text = format!(
        "mark 21 {{\n destination {VIP}\n protocol tcp\n destination_port 20-21 {first}-{last}\n}}\n\
         virtual_server fwmark 21 {{\n lvs_sched rr\n lvs_method DR\n persistence_timeout 300\n"
    );
    for host in &topology.bed().real_servers {
        text += &format!(" real_server {} {{\n }}\n", host.address);
    }
    text += "}\n";
    let daemon = topology.daemon(Some(&text));
    check(&topology, &daemon);
}
