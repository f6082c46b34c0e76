//! IPv6 through the director: unmodified programs at both ends, listings, the daemon's death, expiry, neighbours, and what
//! must keep going to the director's own stack.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail loudly"
)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

use elvs_lab::{Daemon, Echo, Topology, method, output_of, wait_until};
use elvs_model::ForwardingMethod;
use elvs_net::bed::{CLIENT6, DIRECTOR6, VIP, VIP6};
use nix::sys::signal::Signal;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, recv, sendto,
    setsockopt, socket,
};
use nix::sys::time::{TimeVal, TimeValLike};

const REAL_SERVERS: u8 = 3;
/// Port of the echo servers.
const ECHO: u16 = 7_000;

/// A bed with both families.
fn bed(name: &str, method: ForwardingMethod) -> Topology {
    let topology = Topology::new(name, method, REAL_SERVERS);
    topology.bed().add_ipv6().unwrap();
    topology
}

fn servers(topology: &Topology) -> Vec<Ipv6Addr> {
    (1..=REAL_SERVERS).map(|number| topology.bed().plan.real_server6(number)).collect()
}

/// A configuration file with services on one port of the virtual address, over TCP and UDP.
fn config(topology: &Topology, port: u16) -> String {
    let kind = if topology.bed().plan.method == method::NAT { "NAT" } else { "DR" };
    let mut text = String::new();
    for protocol in ["TCP", "UDP"] {
        text += &format!("virtual_server {VIP6} {port} {{\n lb_algo rr\n lb_kind {kind}\n");
        text += &format!(" protocol {protocol}\n");
        for server in servers(topology) {
            text += &format!(" real_server {server} {port} {{ weight 1 }}\n");
        }
        text += "}\n";
    }
    text
}

/// The same by commands, of TCP alone.
fn commanded(topology: &Topology) -> Daemon {
    let daemon = topology.daemon(None);
    let flag = if topology.bed().plan.method == method::NAT { "-m" } else { "-g" };
    daemon.adm_ok(&format!("-A -t [{VIP6}]:80 -s rr"));
    for server in servers(topology) {
        daemon.adm_ok(&format!("-a -t [{VIP6}]:80 -r [{server}]:80 {flag}"));
    }
    daemon.wait_ready();
    daemon
}

fn echoes(topology: &Topology) -> Vec<Echo> {
    let nat = topology.bed().plan.method == method::NAT;
    let hosts = topology.bed().real_servers.iter().zip(servers(topology));
    hosts
        .map(|(host, own)| Echo::start(host, (if nat { own } else { VIP6 }, ECHO).into()))
        .collect()
}

fn nothing_dropped(daemon: &Daemon) {
    let drops: Vec<_> = daemon.status().drops.into_iter().filter(|d| d.packets > 0).collect();
    assert_eq!(drops, Vec::new(), "nothing is dropped");
}

/// Lines of `-Lnc` of one protocol.
fn connections(daemon: &Daemon, protocol: &str) -> Vec<String> {
    let listed = daemon.adm_ok("-Lnc");
    listed.lines().filter(|line| line.starts_with(protocol)).map(str::to_owned).collect()
}

fn forwards(topology: &Topology, daemon: &Daemon) {
    let even: BTreeMap<String, u32> = (1..=REAL_SERVERS).map(|n| (format!("rs{n}"), 100)).collect();
    assert_eq!(topology.curl_shares_of(VIP6.into(), 300), even, "{}", daemon.adm_ok("-Ln --stats"));
    assert_eq!(topology.curl_to(VIP6.into(), 3_000).len(), 3_000);
    assert_eq!(topology.upload_to(VIP6.into(), 10_000_000), "200");
    nothing_dropped(daemon);
    assert_eq!(topology.checksum_errors(), 0);

    let kind = if topology.bed().plan.method == method::NAT { "Masq" } else { "Route" };
    let listed = daemon.adm_ok("-Ln");
    for server in servers(topology) {
        let wanted = format!("  -> [{server}]:80                {kind:<7} 1      ");
        assert!(listed.contains(&wanted), "{wanted:?} in\n{listed}");
    }
    let tcp = connections(daemon, "TCP");
    // A client's port that comes again is one connection, or takes the place of one that is over.
    let status = daemon.status();
    let reused = status.events.iter().find(|event| event.reason == "reused");
    let reused = usize::try_from(reused.map_or(0, |event| event.packets)).unwrap();
    let made = status.services[0].statistics.connections;
    assert!((3_000..=3_301).contains(&made), "{made} connections");
    let kept = usize::try_from(made).unwrap() - reused;
    assert_eq!(tcp.len(), kept, "every connection is listed until it expires");
    for line in &tcp {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let ["TCP", _, _, client, service, server] = fields[..] else { panic!("{line}") };
        assert!(client.starts_with(&format!("[{CLIENT6}]:")), "{line}");
        assert_eq!(service, format!("[{VIP6}]:80"), "{line}");
        let server: SocketAddr = server.parse().unwrap();
        assert!(servers(topology).iter().any(|own| IpAddr::V6(*own) == server.ip()), "{line}");
    }
    let stats = daemon.adm_ok("-Ln --stats");
    let service = stats.lines().find(|line| line.starts_with("TCP")).unwrap();
    let fields: Vec<&str> = service.split_whitespace().collect();
    assert_eq!(fields[..3], ["TCP", &format!("[{VIP6}]:80"), &made.to_string()], "{stats}");
    let mut status = daemon.elvs();
    status.arg("status");
    let status = output_of(status);
    assert!(status.contains(&format!("[{VIP6}]:80")), "{status}");
}

#[test]
fn direct_routing_by_commands() {
    let topology = bed("ipv6-dr", method::DR);
    let _nginx = topology.nginx();
    let daemon = commanded(&topology);
    forwards(&topology, &daemon);
}

#[test]
fn masquerading_by_commands() {
    let topology = bed("ipv6-nat", method::NAT);
    let _nginx = topology.nginx();
    let daemon = commanded(&topology);
    forwards(&topology, &daemon);
}

/// Both families have a table of connections each; neither sees the other's.
#[test]
fn both_families_share_a_director_and_its_ports() {
    let topology = bed("ipv6-both", method::NAT);
    let _nginx = topology.nginx();
    let text = topology.config("rr", REAL_SERVERS.into()) + &config(&topology, 80);
    let daemon = topology.daemon(Some(&text));
    let even: BTreeMap<String, u32> = (1..=REAL_SERVERS).map(|n| (format!("rs{n}"), 50)).collect();
    for vip in [IpAddr::from(VIP), IpAddr::from(VIP6), IpAddr::from(VIP)] {
        assert_eq!(topology.curl_shares_of(vip, 150), even, "{vip}");
    }
    let listed = connections(&daemon, "TCP");
    let wide = listed.iter().filter(|line| line.contains(&format!("[{VIP6}]:80"))).count();
    assert_eq!((listed.len(), wide), (450, 150));
    nothing_dropped(&daemon);
}

/// The daemon is killed in the middle of a transfer; the next one finds the connection.
#[test]
fn a_killed_daemon_loses_no_byte_and_no_connection() {
    for (name, method) in [("ipv6-kill-dr", method::DR), ("ipv6-kill-nat", method::NAT)] {
        let topology = bed(name, method);
        let _echoes = echoes(&topology);
        let text = config(&topology, ECHO);
        let mut daemon = topology.daemon(Some(&text));
        let mut next = None;
        topology.transfer_tcp((VIP6, ECHO).into(), 1, || {
            let before = connections(&daemon, "TCP");
            assert_eq!(before.len(), 1, "{before:?}");
            assert!(before[0].contains("ESTABLISHED"), "{before:?}");
            daemon.process.signal(Signal::SIGKILL);
            assert_eq!(daemon.process.wait(), None, "ended by the signal");
            topology.transfer_udp((VIP6, ECHO).into(), 2);
            let daemon = topology.daemon(Some(&text));
            let ends = |line: &str| line.split_whitespace().skip(3).collect::<String>();
            let after = connections(&daemon, "TCP");
            assert_eq!(after.len(), 1, "{after:?}");
            assert_eq!(ends(&before[0]), ends(&after[0]));
            next = Some(daemon);
        });
        let daemon = next.unwrap();
        topology.transfer_udp((VIP6, ECHO).into(), 3);
        nothing_dropped(&daemon);
        assert_eq!(topology.checksum_errors(), 0);
        let made: u64 = daemon.status().services.iter().map(|s| s.statistics.connections).sum();
        assert_eq!(made, 3, "one of TCP, two of UDP");
        let log = daemon.process.log();
        assert!(!log.contains("add up to"), "traffic is taken for a fault of the tables:\n{log}");
    }
}

#[test]
fn connections_expire_and_are_taken_off_the_loads() {
    let topology = bed("ipv6-expire", method::NAT);
    let _echoes = echoes(&topology);
    let daemon = topology.daemon(Some(&config(&topology, ECHO)));
    let stream = topology.connect((VIP6, ECHO).into());
    topology.transfer_udp((VIP6, ECHO).into(), 3);
    assert_eq!(connections(&daemon, "").iter().filter(|l| l.contains("[fd00::1]:")).count(), 2);
    let loads = || {
        let services = daemon.status().services;
        let all = services.iter().flat_map(|s| &s.destinations);
        all.fold((0, 0), |(active, inactive), d| (active + d.active, inactive + d.inactive))
    };
    assert_eq!(loads(), (1, 1), "of TCP an active one, of UDP an inactive one");
    daemon.adm_ok("--set 1 1 1");
    wait_until("both to expire", || connections(&daemon, "TCP").is_empty() && loads() == (0, 0));
    wait_until("UDP to expire", || connections(&daemon, "UDP").is_empty());
    drop(stream);
}

/// What the director's kernel knows of its neighbours is thrown away again and again; nothing is sent to the client but
/// through the program, so that nobody asks for it. Replies go where the client's first packet came from.
#[test]
fn replies_reach_a_client_whose_neighbour_entry_is_gone() {
    let topology = bed("ipv6-ndp", method::NAT);
    let _echoes = echoes(&topology);
    let daemon = topology.daemon(Some(&config(&topology, ECHO)));
    let director = &topology.bed().director;
    let mac = director.mac("eth0").unwrap().unwrap();
    let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
    // The client knows the way by heart, so that it never tells the director its own address by asking.
    let mut learn = topology.client("ip");
    learn.args(["-6", "neigh", "replace", &VIP6.to_string(), "lladdr", &mac, "dev", "eth0"]);
    learn.args(["nud", "permanent"]);
    output_of(learn);
    let forget = || {
        let mut forget = director.command("ip");
        forget.args(["-6", "neigh", "flush", "dev", "eth0"]);
        output_of(forget);
    };
    forget();
    topology.transfer_tcp((VIP6, ECHO).into(), 4, forget);
    topology.transfer_udp((VIP6, ECHO).into(), 5);
    nothing_dropped(&daemon);
    let mut known = director.command("ip");
    known.args(["-6", "neigh", "show", "dev", "eth0"]);
    let known = output_of(known);
    assert!(!known.contains(&format!("{CLIENT6} ")), "the client is no neighbour:\n{known}");
}

/// ICMPv6 echo to an address, from the client; returns whether it was answered.
fn ping(topology: &Topology, to: Ipv6Addr) -> bool {
    let asked = topology.bed().client.namespace.run(|| {
        let flags = SockFlag::SOCK_CLOEXEC;
        let protocol = SockProtocol::IcmpV6;
        let raw = socket(AddressFamily::Inet6, SockType::Raw, flags, protocol).unwrap();
        setsockopt(&raw, ReceiveTimeout, &TimeVal::seconds(5)).unwrap();
        // RFC 4443 section 4.1; the kernel fills the checksum in.
        let request = [128, 0, 0, 0, 0x12, 0x34, 0, 1, b'e', b'c', b'h', b'o'];
        let to = SockaddrIn6::from(std::net::SocketAddrV6::new(to, 0, 0, 0));
        sendto(raw.as_raw_fd(), &request, &to, MsgFlags::empty()).unwrap();
        let mut answer = [0; 64];
        loop {
            match recv(raw.as_raw_fd(), &mut answer, MsgFlags::empty()) {
                // Neighbour discovery comes by as well.
                Ok(length) if answer[0] != 129 || length != request.len() => {}
                Ok(length) => return answer[4..length] == request[4..],
                Err(nix::Error::EAGAIN) => return false,
                Err(error) => panic!("recv: {error}"),
            }
        }
    });
    asked.unwrap()
}

/// Neighbour discovery and echo of the virtual address are the director's own stack's.
#[test]
fn icmpv6_keeps_going_to_the_directors_stack() {
    for (name, method) in [("ipv6-icmp-dr", method::DR), ("ipv6-icmp-nat", method::NAT)] {
        let topology = bed(name, method);
        let _nginx = topology.nginx();
        let daemon = commanded(&topology);
        for address in [VIP6, DIRECTOR6] {
            assert!(ping(&topology, address), "{address} answers");
        }
        assert_eq!(topology.curl_to(VIP6.into(), 10).len(), 10);
        let mut forget = topology.client("ip");
        forget.args(["-6", "neigh", "flush", "dev", "eth0"]);
        output_of(forget);
        assert_eq!(topology.curl_to(VIP6.into(), 10).len(), 10, "solicited anew");
        assert!(ping(&topology, VIP6), "with connections, too");
        nothing_dropped(&daemon);
    }
}
