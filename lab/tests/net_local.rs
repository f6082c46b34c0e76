//! The director's own host: a client of its virtual services, and a real server of them.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests fail loudly")]

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::process::Command;

use elvs_lab::bed::{
    DIRECTOR, DIRECTOR_INSIDE, DIRECTOR_INSIDE6, DIRECTOR6, LOCAL, LOCAL6, VIP, VIP6,
};
use elvs_lab::{Daemon, Nginx, Topology, method, output_of, wait_until};
use elvs_model::ForwardingMethod;
use nix::sys::signal::Signal;

/// Answers of so many requests to a virtual address and port, counted by the server that gave them.
fn shares_of(
    mut curl: Command,
    vip: impl Into<IpAddr> + Copy,
    port: u16,
    number: u32,
) -> BTreeMap<String, u32> {
    curl.args(["-sS", "--fail", "--max-time", "10", "-H", "Connection: close", "--globoff"]);
    for request in 0..number {
        curl.arg(format!("http://{}/?{request}", SocketAddr::new(vip.into(), port)));
    }
    let mut shares = BTreeMap::new();
    for answer in output_of(curl).lines() {
        *shares.entry(answer.to_owned()).or_default() += 1;
    }
    shares
}

/// As [`shares_of`] the bed's virtual address of IPv4.
fn shares(curl: Command, port: u16, number: u32) -> BTreeMap<String, u32> {
    shares_of(curl, VIP, port, number)
}

fn each(names: &[&str], number: u32) -> BTreeMap<String, u32> {
    names.iter().map(|name| ((*name).to_owned(), number)).collect()
}

/// `virtual_server VIP port` by rr with some real servers.
fn config<A: Copy + Into<IpAddr>>(kind: &str, port: u16, real_servers: &[(A, u16)]) -> String {
    config_of(VIP.into(), kind, port, real_servers)
}

/// As [`config`], of any virtual address.
fn config_of<A: Copy + Into<IpAddr>>(
    vip: IpAddr,
    kind: &str,
    port: u16,
    real_servers: &[(A, u16)],
) -> String {
    let mut text =
        format!("virtual_server {vip} {port} {{\n lb_algo rr\n lb_kind {kind}\n protocol TCP\n");
    for (address, port) in real_servers {
        let address: IpAddr = (*address).into();
        text += &format!(" real_server {address} {port} {{\n weight 1\n }}\n");
    }
    text + "}\n"
}

/// Connections that each real server got, by `ipvsadm -Ln --stats`.
fn connections(daemon: &Daemon) -> Vec<u32> {
    let listing = daemon.adm_ok("-Ln --stats --exact");
    let rows = listing.lines().filter(|line| line.trim_start().starts_with("->"));
    rows.filter_map(|row| row.split_whitespace().nth(2)?.parse().ok()).collect()
}

/// What a program says in the director's namespace.
fn director(topology: &Topology, program: &str, arguments: &str) -> String {
    let mut command = topology.bed().director.command(program);
    command.args(arguments.split_whitespace());
    output_of(command)
}

/// Pinned links at the egress of the director's interfaces, and interfaces made for its own traffic.
fn traces(topology: &Topology) -> (usize, usize) {
    let layouts = fs::read_dir(format!("/sys/fs/bpf/elvs/lab-{}", topology.name()));
    let directories = layouts.into_iter().flatten().map(|entry| entry.expect("a directory"));
    let pins = directories.flat_map(|directory| fs::read_dir(directory.path()).expect("pins"));
    let names = pins.map(|pin| pin.expect("a pin").file_name());
    let hooks = names.filter(|name| name.to_string_lossy().starts_with("egress-")).count();
    let links = director(topology, "ip", "-o link");
    (hooks, links.lines().filter(|line| line.contains(": elvs")).count())
}

#[test]
fn the_director_is_a_client_and_a_real_server_of_a_masqueraded_service() {
    let topology = Topology::new("local1", method::NAT, 2);
    let mut nginx = topology.nginx();
    nginx.push(Nginx::start(&topology.bed().director, topology.directory()));
    let real_servers = [
        (topology.real_server(1).address, 80),
        (topology.real_server(2).address, 80),
        (DIRECTOR_INSIDE, 80),
    ];
    let text = config("NAT", 8080, &real_servers);
    let daemon = topology.daemon(Some(&text));
    let everyone = each(&["rs1", "rs2", "director"], 10);
    wait_until("the hooks", || daemon.status().local_traffic == ["eth0", "eth1", "lo"]);

    assert_eq!(shares(topology.client("curl"), 8080, 30), everyone, "a client elsewhere");
    let own = || topology.bed().director.command("curl");
    assert_eq!(shares(own(), 8080, 30), everyone, "the director itself");
    assert_eq!(connections(&daemon), [20, 20, 20]);
    let listed = daemon.adm_ok("-Lnc");
    let closed = listed.lines().filter(|line| line.contains(&format!(" {VIP}:8080 ")));
    assert_eq!(closed.count(), 60, "{listed}");
    // What is no service's is no business of the director's: nginx itself answers on the VIP.
    assert_eq!(shares(own(), 80, 5), each(&["director"], 5));
    assert_eq!(connections(&daemon), [20, 20, 20]);

    // Forwarding outlives the daemon, and the next one takes over.
    daemon.process.signal(Signal::SIGKILL);
    drop(daemon);
    assert_eq!(shares(own(), 8080, 30), everyone, "without a daemon");
    let daemon = topology.daemon(Some(&text));
    assert_eq!(shares(own(), 8080, 30), everyone, "with another daemon");
    assert_eq!(shares(topology.client("curl"), 8080, 30), everyone);
    assert_eq!(connections(&daemon), [50, 50, 50]);
    let status = daemon.status();
    assert_eq!(status.local_traffic, ["eth0", "eth1", "lo"]);
    assert!(status.interfaces.iter().all(|interface| interface.name.starts_with("eth")));
    assert_eq!(traces(&topology), (3, 2));

    let mut daemon = daemon;
    daemon.process.signal(Signal::SIGTERM);
    wait_until("the end", || !daemon.process.is_running());
    assert_eq!(traces(&topology), (0, 0));
}

#[test]
fn the_director_is_a_client_and_a_real_server_of_a_direct_routed_service() {
    let topology = Topology::new("local2", method::DR, 2);
    let mut nginx = topology.nginx();
    nginx.push(Nginx::start(&topology.bed().director, topology.directory()));
    // Real servers answer from the VIP, which is the director's own address too.
    director(&topology, "sysctl", "-qw net.ipv4.conf.eth0.accept_local=1");
    let real_servers = [
        (topology.real_server(1).address, 80),
        (topology.real_server(2).address, 80),
        (DIRECTOR, 80),
    ];
    let daemon = topology.daemon(Some(&config("DR", 80, &real_servers)));
    let everyone = each(&["rs1", "rs2", "director"], 10);

    assert_eq!(shares(topology.client("curl"), 80, 30), everyone, "a client elsewhere");
    // By itself the kernel takes the VIP as source, from which real servers refuse packets: it is their own address.
    let own = || {
        let mut curl = topology.bed().director.command("curl");
        curl.args(["--interface", &DIRECTOR.to_string()]);
        curl
    };
    assert_eq!(shares(own(), 80, 30), everyone, "the director itself");
    assert_eq!(connections(&daemon), [20, 20, 20]);
    assert_eq!(daemon.status().local_traffic, ["lo"]);
}

#[test]
fn the_director_is_a_client_and_a_real_server_of_ipv6() {
    for (name, method, kind, port, own_address) in [
        ("local4", method::NAT, "NAT", 8080, DIRECTOR_INSIDE6),
        ("local5", method::DR, "DR", 80, DIRECTOR6),
    ] {
        let topology = Topology::new(name, method, 2);
        topology.bed().add_ipv6().expect("IPv6");
        let mut nginx = topology.nginx();
        nginx.push(Nginx::start(&topology.bed().director, topology.directory()));
        let own_servers: [Ipv6Addr; 3] =
            [topology.bed().plan.real_server6(1), topology.bed().plan.real_server6(2), own_address];
        let real_servers = own_servers.map(|address| (address, 80));
        let daemon = topology.daemon(Some(&config_of(VIP6.into(), kind, port, &real_servers)));
        let everyone = each(&["rs1", "rs2", "director"], 10);
        let hooks: &[&str] = if kind == "NAT" { &["eth0", "eth1", "lo"] } else { &["lo"] };
        wait_until("the hooks", || daemon.status().local_traffic == hooks);

        let elsewhere = topology.client("curl");
        assert_eq!(shares_of(elsewhere, VIP6, port, 30), everyone, "{kind}: a client elsewhere");
        let own = || {
            let mut curl = topology.bed().director.command("curl");
            // As with IPv4: real servers by direct routing have the virtual address themselves.
            if kind == "DR" {
                curl.args(["--interface", &DIRECTOR6.to_string()]);
            }
            curl
        };
        assert_eq!(shares_of(own(), VIP6, port, 30), everyone, "{kind}: the director itself");
        assert_eq!(connections(&daemon), [20, 20, 20], "{kind}");
        let dropped: Vec<_> = daemon.status().drops.into_iter().filter(|d| d.packets > 0).collect();
        assert_eq!(dropped, [], "{kind}");

        // Forwarding outlives the daemon.
        daemon.process.signal(Signal::SIGKILL);
        drop(daemon);
        assert_eq!(shares_of(own(), VIP6, port, 30), everyone, "{kind}: without a daemon");
    }
}

#[test]
fn the_director_is_a_client_of_services_by_full_nat() {
    let topology = Topology::new("local6", ForwardingMethod::FullNat, 2);
    topology.bed().add_ipv6().expect("IPv6");
    let _nginx = topology.nginx();
    let (bed, mut text) = (topology.bed(), String::new());
    let group =
        |name: &str, address: IpAddr| format!("local_address_group {name} {{\n {address}\n}}\n");
    text += &(group("four", LOCAL.into()) + &group("six", LOCAL6.into()));
    let servers = [1, 2].map(|number| (topology.real_server(number).address, 80));
    let servers6 = [1, 2].map(|number| (bed.plan.real_server6(number), 80));
    for (name, service) in [
        ("four", config_of(VIP.into(), "FNAT", 80, &servers)),
        ("six", config_of(VIP6.into(), "FNAT", 80, &servers6)),
    ] {
        text += &service
            .replace("protocol TCP\n", &format!("protocol TCP\n laddr_group_name {name}\n"));
    }
    let daemon = topology.daemon(Some(&text));
    wait_until("the hooks", || daemon.status().local_traffic == ["lo"]);
    let both = each(&["rs1", "rs2"], 10);
    for vip in [IpAddr::from(VIP), IpAddr::from(VIP6)] {
        let own = bed.director.command("curl");
        assert_eq!(shares_of(own, vip, 80, 20), both, "{vip}: the director itself");
        assert_eq!(shares_of(topology.client("curl"), vip, 80, 20), both, "{vip}: elsewhere");
    }
    assert_eq!(connections(&daemon), [20, 20, 20, 20]);
}

#[test]
fn local_traffic_can_be_left_alone() {
    let topology = Topology::new("local3", method::DR, 1);
    let mut nginx = topology.nginx();
    nginx.push(Nginx::start(&topology.bed().director, topology.directory()));
    let text = config("DR", 80, &[(topology.real_server(1).address, 80)]);
    let daemon = topology.daemon(Some(&text));
    assert_eq!(traces(&topology), (1, 2));
    daemon.write_config(&format!("{text}data_plane {{\n local_traffic off\n}}\n"));
    daemon.reload().expect("a reload");
    assert_eq!(traces(&topology), (0, 0));
    assert!(daemon.status().local_traffic.is_empty());
    let own = topology.bed().director.command("curl");
    assert_eq!(shares(own, 80, 3), each(&["director"], 3));
    assert_eq!(connections(&daemon), [0]);
}
