//! Tunnels by GUE and GRE, and to real servers of the other family, end to end: the director wraps, `elvs realserver` on the
//! real server unwraps, and 10 MB arrive byte for byte.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail loudly"
)]

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use elvs_lab::bed::{VIP, VIP6};
use elvs_lab::{Daemon, Echo, Topology, method};

/// Longest wait for a byte.
const PATIENCE: Duration = Duration::from_secs(20);

/// 10 MB in which no two packets are alike.
fn payload() -> Vec<u8> {
    (0..2_500_000_u32).flat_map(|word| word.wrapping_mul(0x9e37_79b9).to_be_bytes()).collect()
}

/// Sends 10 MB through the VIP; the real server sends back what it got.
fn transfers(topology: &Topology, daemon: &Daemon, listed: &str) {
    let listing = daemon.adm_ok("-Ln --tun-info");
    assert!(listing.contains(listed), "{listed} in\n{listing}");
    let server = topology.real_server(1);
    let listener = server.namespace.run(|| TcpListener::bind((VIP, 80)).unwrap()).unwrap();
    let sent = payload();
    let echo = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        stream.write_all(&received).unwrap();
    });
    let client = &topology.bed().client.namespace;
    let mut stream = client
        .run(|| TcpStream::connect_timeout(&(VIP, 80).into(), PATIENCE))
        .unwrap()
        .unwrap_or_else(|error| panic!("{listed}: {error}: {:?}", daemon.status().drops));
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&sent).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    echo.join().unwrap();
    assert_eq!(back.len(), sent.len(), "{listed}");
    assert!(back == sent, "{listed}: other bytes");
    let drops: Vec<_> = daemon.status().drops.into_iter().filter(|d| d.packets > 0).collect();
    assert_eq!(drops, Vec::new(), "{listed}: nothing is dropped");
}

/// By commands, one kind after the other with the same real server: what is edited holds for the next connection.
#[test]
fn gue_and_gre_by_commands() {
    let topology = Topology::new("tunnels", method::TUN, 1);
    let _decapsulators = topology.decapsulate();
    let daemon = topology.daemon(None);
    let server = topology.real_server(1).address;
    daemon.adm_ok(&format!("-A -t {VIP}:80 -s rr"));
    daemon.adm_ok(&format!("-a -t {VIP}:80 -r {server}:80 -i"));
    daemon.wait_ready();
    for (options, listed) in [
        ("--tun-type gue --tun-port 6080 --tun-nocsum", "gue:6080:-c"),
        ("--tun-type gue --tun-port 6080 --tun-csum", "gue:6080:+c"),
        ("--tun-type gue --tun-port 6080 --tun-remcsum", "gue:6080:r+c"),
        ("--tun-type gre --tun-nocsum", "gre:-c"),
        ("--tun-type gre --tun-csum", "gre:+c"),
        ("--tun-type ipip", "ipip"),
    ] {
        daemon.adm_ok(&format!("-e -t {VIP}:80 -r {server}:80 -i {options}"));
        transfers(&topology, &daemon, listed);
    }
}

#[test]
fn gue_and_gre_by_file() {
    for (words, listed) in [("type gue port 6080 csum", "gue:6080:+c"), ("type gre csum", "gre:+c")]
    {
        let topology = Topology::new("tunnels-file", method::TUN, 1);
        let _decapsulators = topology.decapsulate();
        let config = topology.config("rr", 1).replace("TUN", &format!("TUN {words}"));
        let daemon = topology.daemon(Some(&config));
        transfers(&topology, &daemon, listed);
    }
}

/// A service of one family whose real server is known by an address of the other; TCP and UDP in packets as large as the
/// client's link takes, with every kind of outer header.
fn other_family(name: &str, vip: IpAddr, server: impl Fn(&Topology) -> IpAddr) {
    let topology = Topology::new(name, method::TUN, 1);
    topology.bed().add_ipv6().unwrap();
    let _decapsulators = topology.decapsulate();
    let service = SocketAddr::new(vip, 7_000);
    let server = SocketAddr::new(server(&topology), 7_000);
    let _echo = Echo::start(topology.real_server(1), service);
    let daemon = topology.daemon(None);
    for protocol in ["-t", "-u"] {
        daemon.adm_ok(&format!("-A {protocol} {service} -s rr"));
        daemon.adm_ok(&format!("-a {protocol} {service} -r {server} -i"));
    }
    daemon.wait_ready();
    for (seed, options, listed) in [
        (1, "--tun-type ipip", "ipip"),
        (2, "--tun-type gue --tun-port 6080 --tun-nocsum", "gue:6080:-c"),
        (3, "--tun-type gue --tun-port 6080 --tun-csum", "gue:6080:+c"),
        (4, "--tun-type gue --tun-port 6080 --tun-remcsum", "gue:6080:r+c"),
        (5, "--tun-type gre --tun-nocsum", "gre:-c"),
        (6, "--tun-type gre --tun-csum", "gre:+c"),
    ] {
        for protocol in ["-t", "-u"] {
            daemon.adm_ok(&format!("-e {protocol} {service} -r {server} -i {options}"));
        }
        let listing = daemon.adm_ok("-Ln --tun-info");
        let shown = listing.lines().filter(|line| line.contains(&format!("-> {server}")));
        assert_eq!(shown.filter(|line| line.contains(listed)).count(), 2, "{listed} in\n{listing}");
        topology.transfer_tcp(service, seed, || ());
        topology.transfer_udp(service, seed);
        let drops: Vec<_> = daemon.status().drops.into_iter().filter(|d| d.packets > 0).collect();
        assert_eq!(drops, Vec::new(), "{listed}: nothing is dropped");
        assert_eq!(topology.checksum_errors(), 0, "{listed}");
    }
    let connections =
        daemon.status().services.iter().map(|s| s.statistics.connections).sum::<u64>();
    assert_eq!(connections, 12, "every transfer went through the director");
}

#[test]
fn ipv6_to_real_servers_of_ipv4() {
    other_family("tun-6in4", VIP6.into(), |topology| topology.real_server(1).address.into());
}

#[test]
fn ipv4_to_real_servers_of_ipv6() {
    other_family("tun-4in6", VIP.into(), |topology| topology.bed().plan.real_server6(1).into());
}
