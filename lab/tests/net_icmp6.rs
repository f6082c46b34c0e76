//! Path MTU discovery over IPv6 through the director, and datagrams in fragments, with real stacks at both ends.
//!
//! A router with a link of 1,400 bytes is put on the way to the client. Segments of 1,500 bytes get through only if the
//! real server, which the router does not know, learns of it.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "tests fail loudly")]

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use elvs_lab::{Daemon, Topology, method};
use elvs_model::ForwardingMethod;
use elvs_net::bed::{BedError, LOCAL6, VIP6};
use elvs_net::{Namespace, NamespaceGuard, Netlink, offload, sysctl};

/// The router's address in the bed's outer network.
const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x30);
/// The narrow link's network.
const FAR_NETWORK: Ipv6Addr = Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, 0);
/// The router's address on the narrow link.
const FAR_ROUTER: Ipv6Addr = Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, 1);
/// The client's address on the narrow link.
const FAR_CLIENT: Ipv6Addr = Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, 0x21);
/// Name of the client's interface there.
const FAR: &str = "far0";
/// The narrow link, as the router sees it. The client's end is wider, so that it announces segments as large as ever.
const NARROW: u32 = 1_400;
const PORT: u16 = 7_000;
/// Bytes of a transfer.
const TRANSFER: usize = 3_000_000;
/// Nothing here takes that long; who waits longer waits in vain.
const PATIENCE: Duration = Duration::from_secs(20);

/// A bed with both families and one real server.
fn bed(name: &str, method: ForwardingMethod) -> Topology {
    let topology = Topology::new(name, method, 1);
    topology.bed().add_ipv6().unwrap();
    topology
}

/// Puts a router between the bed's outer network and the client, which gets an interface for it.
fn add_router(topology: &Topology) -> NamespaceGuard {
    let bed = topology.bed();
    let router = Namespace::create(&format!("{}router", bed.plan.prefix)).unwrap();
    let on = |namespace: &NamespaceGuard, name: &'static str, address: Ipv6Addr, mtu: u32| {
        let configured = namespace.with_netlink(async |netlink: Netlink| {
            for what in [offload::Offload::TxChecksum, offload::Offload::Tso, offload::Offload::Gso]
            {
                offload::set(name, what, false)?;
            }
            for key in ["accept_dad", "accept_ra", "disable_ipv6"] {
                sysctl::set(&format!("net/ipv6/conf/all/{key}"), "0")?;
                sysctl::set(&format!("net/ipv6/conf/{name}/{key}"), "0")?;
            }
            let index = netlink.link(name).await?.ifindex;
            netlink.set_mtu(index, mtu).await?;
            netlink.set_up(index).await?;
            Ok::<_, BedError>(netlink.add_address(index, address.into(), 64).await?)
        });
        configured.unwrap_or_else(|e| panic!("{name}: {e}"));
    };
    let cabled = bed.switch.with_netlink(async |netlink: Netlink| {
        let bridge = netlink.link("br0").await?.ifindex;
        let port = netlink.add_veth("router", "eth0", &router).await?.ifindex;
        netlink.set_bridge(port, bridge).await?;
        Ok::<_, BedError>(netlink.set_up(port).await?)
    });
    cabled.unwrap();
    on(&router, "eth0", ROUTER, 1_500);
    let cabled = router.with_netlink(async |netlink: Netlink| {
        netlink.add_veth("eth1", FAR, &bed.client.namespace).await?;
        Ok::<_, BedError>(sysctl::set("net/ipv6/conf/all/forwarding", "1")?)
    });
    cabled.unwrap();
    on(&router, "eth1", FAR_ROUTER, NARROW);
    on(&bed.client.namespace, FAR, FAR_CLIENT, 1_500);
    add_route(&bed.client.namespace, VIP6, 128, FAR_ROUTER);
    add_route(&bed.director.namespace, FAR_NETWORK, 64, ROUTER);
    router
}

fn add_route(namespace: &NamespaceGuard, to: Ipv6Addr, length: u8, gateway: Ipv6Addr) {
    let added = namespace.with_netlink(async |netlink: Netlink| {
        Ok::<_, BedError>(netlink.add_route(to.into(), length, gateway.into()).await?)
    });
    added.unwrap();
}

/// The MTU of the way to an address that a host has learned.
fn path_mtu(namespace: &NamespaceGuard, to: Ipv6Addr) -> Option<u32> {
    let route = namespace.with_netlink(async |netlink: Netlink| {
        Ok::<_, BedError>(netlink.route(IpAddr::V6(to)).await?)
    });
    route.unwrap().mtu
}

/// A service on the virtual address with one real server.
fn serve(topology: &Topology, protocol: char) -> Daemon {
    let daemon = topology.daemon(None);
    let flag = match topology.bed().plan.method {
        ForwardingMethod::Nat => "-m",
        ForwardingMethod::FullNat => "--fullnat",
        ForwardingMethod::Dr | ForwardingMethod::Tun(_) => "-g",
    };
    let server = topology.bed().plan.real_server6(1);
    daemon.adm_ok(&format!("-A -{protocol} [{VIP6}]:{PORT} -s rr"));
    if topology.bed().plan.method == ForwardingMethod::FullNat {
        daemon.adm_ok(&format!("--add-laddr -z {LOCAL6} -{protocol} [{VIP6}]:{PORT}"));
    }
    daemon.adm_ok(&format!("-a -{protocol} [{VIP6}]:{PORT} -r [{server}]:{PORT} {flag}"));
    daemon.wait_ready();
    daemon
}

/// Every byte says where it belongs.
fn pattern(length: usize, start: u8) -> Vec<u8> {
    (start..=250).chain(0..start.min(251)).cycle().take(length).collect()
}

/// The client asks the service, which sends [`TRANSFER`] bytes.
fn transfer(topology: &Topology) {
    let (client, server) = (&topology.bed().client, topology.real_server(1));
    let listen = || TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT));
    let listener = server.namespace.run(listen).unwrap().unwrap();
    let serving = thread::spawn(move || -> io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.read_exact(&mut [0; 1_000])?;
        stream.write_all(&pattern(TRANSFER, 100))
    });
    let connect = || TcpStream::connect_timeout(&SocketAddr::from((VIP6, PORT)), PATIENCE);
    let mut stream = client.namespace.run(connect).unwrap().expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The router's end of the link takes no full segment of the client's.
    stream.write_all(&pattern(1_000, 0)).expect("all bytes sent");
    let mut received = vec![0; TRANSFER];
    stream.read_exact(&mut received).expect("all bytes received");
    assert!(received == pattern(TRANSFER, 100), "bytes were changed on the way");
    serving.join().unwrap().expect("the server's end");
}

/// The router tells the virtual address that a packet is too big, and the real server learns it.
fn narrow_link_to_the_client(name: &str, method: ForwardingMethod) {
    let topology = bed(name, method);
    let _router = add_router(&topology);
    let server = &topology.real_server(1).namespace;
    if method == method::DR {
        add_route(server, FAR_NETWORK, 64, ROUTER);
    }
    let daemon = serve(&topology, 't');
    transfer(&topology);
    assert!(daemon.counted("icmp_forwarded") > 0, "{:?}", daemon.status());
    assert_eq!(path_mtu(server, FAR_CLIENT), Some(NARROW));
}

#[test]
fn a_real_server_behind_direct_routing_finds_out_a_narrow_link_to_the_client() {
    narrow_link_to_the_client("icmp6-dr", method::DR);
}

#[test]
fn a_masqueraded_real_server_finds_out_a_narrow_link_to_the_client() {
    narrow_link_to_the_client("icmp6-nat", method::NAT);
}

/// Datagrams of 8,000 bytes there and back.
fn datagrams(name: &str, method: ForwardingMethod) {
    const DATAGRAMS: u8 = 50;
    let topology = bed(name, method);
    let returns = method != method::DR;
    let daemon = serve(&topology, 'u');
    // It answers from the address that it was bound to.
    let own = if returns { topology.bed().plan.real_server6(1) } else { VIP6 };
    let bind = || UdpSocket::bind((own, PORT));
    let socket = topology.real_server(1).namespace.run(bind).unwrap().unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let serving = thread::spawn(move || -> io::Result<()> {
        let mut buffer = vec![0; 65_536];
        for _ in 0..DATAGRAMS {
            let (length, from) = socket.recv_from(&mut buffer)?;
            socket.send_to(buffer.get(..length).unwrap_or_default(), from)?;
        }
        Ok(())
    });
    let bind = || UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0));
    let socket = topology.bed().client.namespace.run(bind).unwrap().unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect((VIP6, PORT)).unwrap();
    for number in 0..DATAGRAMS {
        let sent = pattern(8_000, number);
        socket.send(&sent).unwrap();
        let mut received = vec![0; 65_536];
        let length = socket.recv(&mut received).expect("an answer");
        assert!(received.get(..length) == Some(&sent[..]), "datagram {number} was changed");
    }
    serving.join().unwrap().expect("the server's end");
    // Six fragments, of which five follow; by NAT and full NAT those of the answer pass the director too.
    let ways = if returns { 2 } else { 1 };
    let wanted = u64::from(DATAGRAMS) * 5 * ways;
    assert_eq!(daemon.counted("fragment_forwarded"), wanted, "{:?}", daemon.status());
    assert_eq!(daemon.counted("fragment"), 0, "{:?}", daemon.status());
}

#[test]
fn large_datagrams_pass_by_direct_routing() {
    datagrams("frag6-dr", method::DR);
}

#[test]
fn large_datagrams_pass_by_masquerading() {
    datagrams("frag6-nat", method::NAT);
}

#[test]
fn large_datagrams_pass_by_full_nat() {
    datagrams("frag6-fnat", ForwardingMethod::FullNat);
}

#[test]
fn a_service_without_real_servers_is_refused_at_once() {
    let topology = bed("icmp6-none", method::DR);
    let daemon = topology.daemon(None);
    daemon.adm_ok(&format!("-A -t [{VIP6}]:{PORT} -s rr"));
    daemon.wait_ready();
    let connect = || TcpStream::connect_timeout(&SocketAddr::from((VIP6, PORT)), PATIENCE);
    let connected = topology.bed().client.namespace.run(connect).unwrap();
    let error = connected.expect_err("there is no real server");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{error}");
    assert!(daemon.counted("no_destination") > 0 && daemon.counted("icmp_sent") > 0);
}
