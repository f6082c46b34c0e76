//! Path MTU discovery through the director, and datagrams in fragments, with real stacks at both ends.
//!
//! A router with a link of 1,400 bytes is put into the bed: on the way to a tunnelled real server, or on the way to the
//! client of a masqueraded one. Segments of 1,500 bytes get through only if whoever sends them learns of it.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "tests fail loudly")]

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use elvs_lab::{Daemon, Process, Topology, method, program, wait_until};
use elvs_model::ForwardingMethod;
use elvs_net::bed::{BedError, LOCAL, VIP};
use elvs_net::{Namespace, NamespaceGuard, Netlink, offload, sysctl};

/// The router's address in the bed's outer network.
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 30);
/// Its address on the narrow link.
const FAR_ROUTER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
/// Address of the host on the narrow link.
const FAR_HOST: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 21);
/// Name of that host's interface.
const FAR: &str = "far0";
/// The narrow link, as the router sees it. The host's end is wider, so that it announces segments as large as ever.
const NARROW: u32 = 1_400;
const PORT: u16 = 7_000;
/// Bytes of a transfer.
const TRANSFER: usize = 3_000_000;
/// Nothing here takes that long; who waits longer waits in vain.
const PATIENCE: Duration = Duration::from_secs(20);

/// Puts a router between the bed's outer network and a host, which gets an interface for it.
fn add_router(topology: &Topology, host: &NamespaceGuard) -> NamespaceGuard {
    let bed = topology.bed();
    let router = Namespace::create(&format!("{}router", bed.plan.prefix)).unwrap();
    let on = |namespace: &NamespaceGuard, name: &'static str, address: Ipv4Addr, mtu: u32| {
        let configured = namespace.with_netlink(async |netlink: Netlink| {
            for what in [offload::Offload::TxChecksum, offload::Offload::Tso, offload::Offload::Gso]
            {
                offload::set(name, what, false)?;
            }
            let index = netlink.link(name).await?.ifindex;
            netlink.set_mtu(index, mtu).await?;
            netlink.add_address(index, address.into(), 24).await?;
            for (key, value) in [("rp_filter", "0"), ("send_redirects", "0")] {
                sysctl::set(&format!("net/ipv4/conf/{name}/{key}"), value)?;
                sysctl::set(&format!("net/ipv4/conf/all/{key}"), value)?;
            }
            Ok::<_, BedError>(netlink.set_up(index).await?)
        });
        configured.unwrap_or_else(|e| panic!("{name}: {e}"));
    };
    let wide = bed.plan.inner_mtu();
    let cabled = bed.switch.with_netlink(async |netlink: Netlink| {
        let bridge = netlink.link("br0").await?.ifindex;
        let port = netlink.add_veth("router", "eth0", &router).await?.ifindex;
        netlink.set_bridge(port, bridge).await?;
        netlink.set_mtu(port, wide).await?;
        Ok::<_, BedError>(netlink.set_up(port).await?)
    });
    cabled.unwrap();
    on(&router, "eth0", ROUTER, wide);
    let cabled = router.with_netlink(async |netlink: Netlink| {
        netlink.add_veth("eth1", FAR, host).await?;
        Ok::<_, BedError>(sysctl::set("net/ipv4/ip_forward", "1")?)
    });
    cabled.unwrap();
    on(&router, "eth1", FAR_ROUTER, NARROW);
    on(host, FAR, FAR_HOST, 1_500);
    add_route(&bed.director.namespace, Ipv4Addr::new(10, 9, 0, 0), 24, ROUTER);
    router
}

fn add_route(namespace: &NamespaceGuard, to: Ipv4Addr, length: u8, gateway: Ipv4Addr) {
    let added = namespace.with_netlink(async |netlink: Netlink| {
        Ok::<_, BedError>(netlink.add_route(to.into(), length, gateway.into()).await?)
    });
    added.unwrap();
}

/// The MTU of the way to an address that a host has learned.
fn path_mtu(namespace: &NamespaceGuard, to: Ipv4Addr) -> Option<u32> {
    let route = namespace.with_netlink(async |netlink: Netlink| {
        Ok::<_, BedError>(netlink.route(IpAddr::V4(to)).await?)
    });
    route.unwrap().mtu
}

/// A service on the VIP with one real server.
fn serve(topology: &Topology, protocol: char, server: Ipv4Addr) -> Daemon {
    let daemon = topology.daemon(None);
    let flag = match topology.bed().plan.method {
        ForwardingMethod::Dr => "-g",
        ForwardingMethod::Nat => "-m",
        ForwardingMethod::Tun(_) => "-i",
        ForwardingMethod::FullNat => "--fullnat",
    };
    daemon.adm_ok(&format!("-A -{protocol} {VIP}:{PORT} -s rr"));
    if topology.bed().plan.method == ForwardingMethod::FullNat {
        daemon.adm_ok(&format!("--add-laddr -z {LOCAL} -{protocol} {VIP}:{PORT}"));
    }
    daemon.adm_ok(&format!("-a -{protocol} {VIP}:{PORT} -r {server}:{PORT} {flag}"));
    daemon.wait_ready();
    daemon
}

/// Every byte says where it belongs.
fn pattern(length: usize, start: u8) -> Vec<u8> {
    (start..=250).chain(0..start.min(251)).cycle().take(length).collect()
}

/// The client sends so many bytes to the service, which then sends [`TRANSFER`] back.
fn transfer(topology: &Topology, request: usize) {
    let (client, server) = (&topology.bed().client, topology.real_server(1));
    let listen = || TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT));
    let listener = server.namespace.run(listen).unwrap().unwrap();
    let serving = thread::spawn(move || -> io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut received = vec![0; request];
        stream.read_exact(&mut received)?;
        stream.write_all(&received)?;
        stream.write_all(&pattern(TRANSFER, 100))
    });
    let connect = || TcpStream::connect_timeout(&SocketAddr::from((VIP, PORT)), PATIENCE);
    let mut stream = client.namespace.run(connect).unwrap().expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let sent = pattern(request, 0);
    stream.write_all(&sent).expect("all bytes sent");
    let mut received = vec![0; request + TRANSFER];
    stream.read_exact(&mut received).expect("all bytes received");
    assert!(received == [sent, pattern(TRANSFER, 100)].concat(), "bytes were changed on the way");
    serving.join().unwrap().expect("the server's end");
}

#[test]
fn a_tunnel_over_a_narrow_link_is_found_out_by_the_client() {
    let topology = Topology::new("icmp-tun", method::TUN, 1);
    let server = topology.real_server(1);
    let _router = add_router(&topology, &server.namespace);
    let mut command = server.command(program());
    command.args(["realserver", "--decap", FAR]);
    let mut decap = Process::spawn(command, &topology.directory().join("decap.log"));
    wait_until("decapsulation", || {
        assert!(decap.is_running(), "it ended: {}", decap.log());
        decap.log().contains("decapsulating")
    });
    let daemon = serve(&topology, 't', FAR_HOST);
    transfer(&topology, TRANSFER);
    assert!(daemon.counted("icmp_tunnel") > 0, "{:?}", daemon.status());
    assert_eq!(daemon.counted("tunnel_too_big"), 0, "the director's own link is wide enough");
    // The outer header takes 20 bytes.
    assert_eq!(path_mtu(&topology.bed().client.namespace, VIP), Some(NARROW - 20));
}

#[test]
fn a_tunnel_over_the_directors_own_narrow_link_is_found_out_by_the_client() {
    let topology = Topology::new("icmp-own", method::TUN, 1);
    let _decap = topology.decapsulate();
    let narrowed = topology.bed().director.namespace.with_netlink(async |netlink: Netlink| {
        let index = netlink.link("eth0").await?.ifindex;
        Ok::<_, BedError>(netlink.set_mtu(index, 1_500).await?)
    });
    narrowed.unwrap();
    let daemon = serve(&topology, 't', topology.real_server(1).address);
    transfer(&topology, TRANSFER);
    assert!(daemon.counted("tunnel_too_big") > 0, "{:?}", daemon.status());
    assert!(daemon.counted("icmp_sent") > 0, "{:?}", daemon.status());
    assert_eq!(path_mtu(&topology.bed().client.namespace, VIP), Some(1_480));
}

#[test]
fn a_masqueraded_real_server_finds_out_a_narrow_link_to_the_client() {
    let topology = Topology::new("icmp-nat", method::NAT, 1);
    let client = &topology.bed().client.namespace;
    let _router = add_router(&topology, client);
    add_route(client, VIP, 32, FAR_ROUTER);
    let server = topology.real_server(1);
    let daemon = serve(&topology, 't', server.address);
    // The router's end of the link takes no full segment of the client's.
    transfer(&topology, 1_000);
    assert!(daemon.counted("icmp_forwarded") > 0, "{:?}", daemon.status());
    assert_eq!(path_mtu(&server.namespace, FAR_HOST), Some(NARROW));
}

#[test]
fn a_real_server_by_full_nat_finds_out_a_narrow_link_to_the_client() {
    let topology = Topology::new("icmp-fnat", ForwardingMethod::FullNat, 1);
    let client = &topology.bed().client.namespace;
    let _router = add_router(&topology, client);
    add_route(client, VIP, 32, FAR_ROUTER);
    let server = topology.real_server(1);
    let daemon = serve(&topology, 't', server.address);
    transfer(&topology, 1_000);
    assert!(daemon.counted("icmp_forwarded") > 0, "{:?}", daemon.status());
    assert_eq!(path_mtu(&server.namespace, LOCAL), Some(NARROW));
}

#[test]
fn a_client_finds_out_a_narrow_link_to_a_real_server_by_full_nat() {
    let topology = Topology::new("icmp-fnat-rs", ForwardingMethod::FullNat, 1);
    let server = topology.real_server(1);
    let _router = add_router(&topology, &server.namespace);
    let daemon = serve(&topology, 't', FAR_HOST);
    transfer(&topology, TRANSFER);
    assert!(daemon.counted("icmp_returned") > 0, "{:?}", daemon.status());
    assert_eq!(path_mtu(&topology.bed().client.namespace, VIP), Some(NARROW));
}

/// Datagrams of 8,000 bytes there and back.
fn datagrams(name: &str, method: ForwardingMethod, server_binds: Option<Ipv4Addr>) {
    const DATAGRAMS: u8 = 50;
    let topology = Topology::new(name, method, 1);
    let _decap = match method {
        ForwardingMethod::Tun(_) => topology.decapsulate(),
        ForwardingMethod::Dr | ForwardingMethod::Nat | ForwardingMethod::FullNat => Vec::new(),
    };
    let server = topology.real_server(1);
    let daemon = serve(&topology, 'u', server.address);
    // It answers from the address that it was bound to.
    let bind = || UdpSocket::bind((server_binds.unwrap_or(server.address), PORT));
    let socket = server.namespace.run(bind).unwrap().unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let serving = thread::spawn(move || -> io::Result<()> {
        let mut buffer = vec![0; 65_536];
        for _ in 0..DATAGRAMS {
            let (length, from) = socket.recv_from(&mut buffer)?;
            socket.send_to(buffer.get(..length).unwrap_or_default(), from)?;
        }
        Ok(())
    });
    let bind = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0));
    let socket = topology.bed().client.namespace.run(bind).unwrap().unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect((VIP, PORT)).unwrap();
    for number in 0..DATAGRAMS {
        let sent = pattern(8_000, number);
        socket.send(&sent).unwrap();
        let mut received = vec![0; 65_536];
        let length = socket.recv(&mut received).expect("an answer");
        assert!(received.get(..length) == Some(&sent[..]), "datagram {number} was changed");
    }
    serving.join().unwrap().expect("the server's end");
    // Six fragments, of which five follow; by NAT and full NAT those of the answer pass the director too.
    let ways = if server_binds.is_some() { 1 } else { 2 };
    let wanted = u64::from(DATAGRAMS) * 5 * ways;
    assert_eq!(daemon.counted("fragment_forwarded"), wanted, "{:?}", daemon.status());
    assert_eq!(daemon.counted("fragment"), 0, "{:?}", daemon.status());
}

#[test]
fn large_datagrams_pass_by_direct_routing() {
    datagrams("frag-dr", method::DR, Some(VIP));
}

#[test]
fn large_datagrams_pass_by_masquerading() {
    datagrams("frag-nat", method::NAT, None);
}

#[test]
fn large_datagrams_pass_by_full_nat() {
    datagrams("frag-fnat", ForwardingMethod::FullNat, None);
}

#[test]
fn large_datagrams_pass_by_tunnelling() {
    datagrams("frag-tun", method::TUN, Some(VIP));
}

#[test]
fn a_service_without_real_servers_is_refused_at_once() {
    let topology = Topology::new("icmp-none", method::DR, 1);
    let daemon = topology.daemon(None);
    daemon.adm_ok(&format!("-A -t {VIP}:{PORT} -s rr"));
    daemon.wait_ready();
    let connect = || TcpStream::connect_timeout(&SocketAddr::from((VIP, PORT)), PATIENCE);
    let connected = topology.bed().client.namespace.run(connect).unwrap();
    let error = connected.expect_err("there is no real server");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{error}");
    assert!(daemon.counted("no_destination") > 0 && daemon.counted("icmp_sent") > 0);
}
