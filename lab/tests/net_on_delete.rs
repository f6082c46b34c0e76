//! Clients whose real server is deleted: with `on_delete reset` they are told at once, and connect anew; without, as with
//! IPVS, they wait in vain.

#![allow(clippy::panic, clippy::unwrap_used, reason = "tests fail loudly")]

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use elvs_lab::{Daemon, Echo, Topology, method, wait_until};
use elvs_model::{Family, ForwardingMethod};
use elvs_net::bed::{LOCAL, LOCAL6, VIP, VIP6};

const PORT: u16 = 7_000;
/// Nothing here takes that long; who waits longer waits in vain.
const PATIENCE: Duration = Duration::from_secs(20);

/// A bed of two real servers, its service, and what sends back what it gets on each of them.
struct Bed {
    topology: Topology,
    vip: IpAddr,
    servers: [IpAddr; 2],
    _echoes: Vec<Echo>,
}

impl Bed {
    fn new(name: &str, method: ForwardingMethod, family: Family) -> Self {
        let topology = Topology::new(name, method, 2);
        let plan = &topology.bed().plan;
        let (vip, servers): (IpAddr, [IpAddr; 2]) = if family == Family::Inet6 {
            topology.bed().add_ipv6().unwrap();
            (VIP6.into(), [1, 2].map(|n| plan.real_server6(n).into()))
        } else {
            (VIP.into(), [1, 2].map(|n| plan.real_server(n).into()))
        };
        let own = matches!(method, ForwardingMethod::Nat | ForwardingMethod::FullNat);
        let hosts = topology.bed().real_servers.iter().zip(servers);
        let listen = |(host, server)| {
            // By direct routing and tunnelling a real server answers as the virtual address.
            Echo::start(host, SocketAddr::from((if own { server } else { vip }, PORT)))
        };
        let echoes = hosts.map(listen).collect();
        Self { topology, vip, servers, _echoes: echoes }
    }

    fn service(&self) -> SocketAddr {
        (self.vip, PORT).into()
    }

    /// The director with the first real server, over a protocol (`t` or `u`).
    fn director(&self, protocol: char, options: &str) -> Daemon {
        let (daemon, service) = (self.topology.daemon(None), self.service());
        daemon.adm_ok(&format!("-A -{protocol} {service} -s rr {options}"));
        if self.topology.bed().plan.method == ForwardingMethod::FullNat {
            let local: IpAddr = if self.vip.is_ipv4() { LOCAL.into() } else { LOCAL6.into() };
            daemon.adm_ok(&format!("--add-laddr -z {local} -{protocol} {service}"));
        }
        self.add(&daemon, protocol, self.servers[0]);
        daemon.wait_ready();
        daemon
    }

    fn add(&self, daemon: &Daemon, protocol: char, server: IpAddr) {
        let flag = match self.topology.bed().plan.method {
            ForwardingMethod::Dr => "-g",
            ForwardingMethod::Nat => "-m",
            ForwardingMethod::Tun(_) => "-i",
            ForwardingMethod::FullNat => "--fullnat",
        };
        let server = SocketAddr::from((server, PORT));
        daemon.adm_ok(&format!("-a -{protocol} {} -r {server} {flag}", self.service()));
        daemon.wait_ready();
    }

    /// Has the second real server take the place of the first.
    fn replace(&self, daemon: &Daemon, protocol: char) {
        let [first, second] = self.servers;
        self.add(daemon, protocol, second);
        let first = SocketAddr::from((first, PORT));
        daemon.adm_ok(&format!("-d -{protocol} {} -r {first}", self.service()));
    }
}

fn says(stream: &mut TcpStream, text: &[u8; 5]) -> std::io::Result<()> {
    stream.write_all(text)?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    assert_eq!(&answer, text);
    Ok(())
}

/// A client with an established connection is reset by its next packet, and connects anew at once.
fn resets(name: &str, method: ForwardingMethod, family: Family) {
    let bed = Bed::new(name, method, family);
    let _decap = match method {
        ForwardingMethod::Tun(_) => bed.topology.decapsulate(),
        ForwardingMethod::Dr | ForwardingMethod::Nat | ForwardingMethod::FullNat => Vec::new(),
    };
    let daemon = bed.director('t', "--on-delete reset");
    let mut stream = bed.topology.connect(bed.service());
    says(&mut stream, b"first").unwrap();
    bed.replace(&daemon, 't');
    let error = says(&mut stream, b"again").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    assert_eq!(daemon.counted("reset_sent"), 1, "{:?}", daemon.status());
    let status = daemon.status();
    assert_eq!(status.connections, 0, "it is over: {status:?}");
    says(&mut bed.topology.connect(bed.service()), b"other").unwrap();
    assert_eq!(bed.topology.checksum_errors(), 0, "packets with wrong checksums");
}

#[test]
fn direct_routing_of_ipv4() {
    resets("del-dr4", method::DR, Family::Inet);
}

#[test]
fn direct_routing_of_ipv6() {
    resets("del-dr6", method::DR, Family::Inet6);
}

#[test]
fn masquerading_of_ipv4() {
    resets("del-nat4", method::NAT, Family::Inet);
}

#[test]
fn masquerading_of_ipv6() {
    resets("del-nat6", method::NAT, Family::Inet6);
}

#[test]
fn tunnelling_of_ipv4() {
    resets("del-tun4", method::TUN, Family::Inet);
}

#[test]
fn full_nat_of_ipv4() {
    resets("del-fnat4", ForwardingMethod::FullNat, Family::Inet);
}

#[test]
fn full_nat_of_ipv6() {
    resets("del-fnat6", ForwardingMethod::FullNat, Family::Inet6);
}

#[test]
fn a_reload_that_leaves_a_real_server_out_resets_its_connections() {
    let bed = Bed::new("del-file", method::DR, Family::Inet);
    let config = |server: IpAddr| {
        format!(
            "virtual_server {VIP} {PORT} {{\n lb_algo rr\n lb_kind DR\n protocol TCP\n on_delete reset\n real_server {server} {PORT} {{ }}\n}}\n"
        )
    };
    let daemon = bed.topology.daemon(Some(&config(bed.servers[0])));
    daemon.wait_ready();
    let mut stream = bed.topology.connect(bed.service());
    says(&mut stream, b"first").unwrap();
    daemon.write_config(&config(bed.servers[1]));
    daemon.reload().unwrap();
    let error = says(&mut stream, b"again").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    daemon.wait_ready();
    says(&mut bed.topology.connect(bed.service()), b"other").unwrap();
}

#[test]
fn without_it_packets_are_dropped_as_with_ipvs() {
    let bed = Bed::new("del-drop", method::DR, Family::Inet);
    let daemon = bed.director('t', "");
    let mut stream = bed.topology.connect(bed.service());
    says(&mut stream, b"first").unwrap();
    bed.replace(&daemon, 't');
    stream.write_all(b"again").unwrap();
    wait_until("a dropped packet", || daemon.counted("destination_gone") > 0);
    assert_eq!(daemon.counted("reset_sent"), 0);
    // The real server comes back: its connection goes on, since nobody has ended it.
    bed.add(&daemon, 't', bed.servers[0]);
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"again");
}

/// A client of UDP is told by an ICMP error, and its next datagram goes to another real server.
fn tells_udp(name: &str, family: Family) {
    let bed = Bed::new(name, method::NAT, family);
    let daemon = bed.director('u', "--on-delete reset");
    let any: IpAddr = match family {
        Family::Inet => Ipv4Addr::UNSPECIFIED.into(),
        Family::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
    };
    let bind = || UdpSocket::bind((any, 0));
    let socket = bed.topology.bed().client.namespace.run(bind).unwrap().unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(bed.service()).unwrap();
    let mut buffer = [0; 16];
    let mut says = |text: &[u8]| {
        socket.send(text)?;
        let length = socket.recv(&mut buffer)?;
        assert_eq!(buffer.get(..length), Some(text));
        Ok::<_, std::io::Error>(())
    };
    says(b"first").unwrap();
    bed.replace(&daemon, 'u');
    let error = says(b"again").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    says(b"other").unwrap();
}

#[test]
fn udp_of_ipv4_is_told_by_port_unreachable() {
    tells_udp("del-udp4", Family::Inet);
}

#[test]
fn udp_of_ipv6_is_told_by_port_unreachable() {
    tells_udp("del-udp6", Family::Inet6);
}
