//! `PATH_CHECK` against real hosts: what keeps a client's packet from a real server is found and named, and what a
//! connection to the real server's own address makes of it.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail loudly"
)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use elvs_lab::bed::{DIRECTOR6, Host, VIP, VIP6};
use elvs_lab::{TUNNEL, Topology, TunnelDevice, method, output_of, wait_until};
use elvs_model::health::{CheckResult, Finding, PathCheck, Trial};
use elvs_model::{ForwardingMethod, Protocol, TunnelChecksum, TunnelKind};
use elvs_net::bed::BedError;
use elvs_net::{Netlink, sysctl};
use elvs_probe::{ProbeSettings, Prober};
use tokio::net::TcpSocket;

/// Longest that a run may take; what is silent takes so long.
const TIMEOUT: Duration = Duration::from_secs(1);

/// A bed with one real server, with IPv6 or without; its links carry.
fn bed(name: &str, method: ForwardingMethod, ipv6: bool) -> Topology {
    let topology = Topology::new(name, method, 1);
    if ipv6 {
        topology.bed().add_ipv6().unwrap();
    }
    let mut checks = vec![check(&topology)];
    if ipv6 {
        let real_server = topology.bed().plan.real_server6(1).into();
        checks.push(PathCheck { vip: VIP6.into(), real_server, ..check(&topology) });
    }
    for check in checks {
        wait_until("neighbours", || !run(&topology, &check).words.contains("not on that link"));
    }
    topology
}

/// The check of the first real server.
fn check(topology: &Topology) -> PathCheck {
    PathCheck {
        vip: VIP.into(),
        port: 80,
        protocol: Protocol::Tcp,
        real_server: topology.real_server(1).address.into(),
        real_port: 80,
        method: topology.bed().plan.method,
        timeout: TIMEOUT,
    }
}

/// Runs a check on the director.
fn run(topology: &Topology, check: &PathCheck) -> Finding {
    let found = topology.bed().director.namespace.with_netlink(async |_: Netlink| {
        let prober = Prober::new(ProbeSettings::default());
        Ok::<_, BedError>(prober.run(&Trial::Path(check.clone())).await)
    });
    found.unwrap()
}

/// Runs the check; it has to pass.
#[track_caller]
fn passes(topology: &Topology, check: &PathCheck) {
    let finding = run(topology, check);
    assert!(matches!(finding.result, CheckResult::Passed(_)), "{finding:?}");
}

/// Runs the check; it has to fail with all of these words.
#[track_caller]
fn fails(topology: &Topology, check: &PathCheck, words: &[&str]) {
    let finding = run(topology, check);
    assert_eq!(finding.result, CheckResult::Failed, "{finding:?}");
    for word in words {
        assert!(finding.words.contains(word), "`{word}` in: {}", finding.words);
    }
}

/// What TCP_CHECK does: whether the real server's own address takes a connection from the director's.
fn connects(topology: &Topology, to: impl Into<SocketAddr>) -> bool {
    let to = to.into();
    let found = topology.bed().director.namespace.with_netlink(async |_: Netlink| {
        let (socket, from) = match to {
            SocketAddr::V4(_) => (TcpSocket::new_v4(), topology.bed().director.address.into()),
            SocketAddr::V6(_) => (TcpSocket::new_v6(), IpAddr::V6(DIRECTOR6)),
        };
        let socket = socket.unwrap();
        socket.bind(SocketAddr::new(from, 0)).unwrap();
        let connected = tokio::time::timeout(TIMEOUT, socket.connect(to)).await;
        Ok::<_, BedError>(matches!(connected, Ok(Ok(_))))
    });
    found.unwrap()
}

fn listen(host: &Host, address: impl Into<IpAddr>) -> TcpListener {
    let address = SocketAddr::new(address.into(), 80);
    host.namespace.run(|| TcpListener::bind(address)).unwrap().unwrap()
}

fn set(host: &Host, key: &str, value: &str) {
    host.namespace.run(|| sysctl::set(key, value)).unwrap().unwrap();
}

/// Runs ip(8) on a host.
fn ip(host: &Host, arguments: &str) {
    let mut command = host.command("ip");
    command.args(arguments.split(' '));
    output_of(command);
}

/// Takes an address from a host.
fn remove(host: &Host, address: IpAddr) {
    let removed = host.namespace.with_netlink(async |netlink: Netlink| {
        let addresses = netlink.addresses().await?;
        let found = addresses.into_iter().find(|a| a.address == address);
        Ok::<_, BedError>(netlink.delete_address(found.expect("the address")).await?)
    });
    removed.unwrap();
}

#[test]
fn direct_routing_names_each_cause() {
    let topology = bed("path-dr", method::DR, false);
    let server = topology.real_server(1);
    let own = SocketAddr::from((server.address, 80));
    let check = check(&topology);

    fails(&topology, &check, &["reset", "nothing listens at 10.0.0.100:80"]);

    let listener = listen(server, server.address);
    fails(&topology, &check, &["listens at the real server's own address only"]);
    assert!(connects(&topology, own), "TCP_CHECK does not see it");
    drop(listener);

    let _listener = listen(server, Ipv4Addr::UNSPECIFIED);
    passes(&topology, &check);

    for (value, words) in [("0", "answers ARP for the VIP"), ("1", "")] {
        set(server, "net/ipv4/conf/all/arp_ignore", value);
        if words.is_empty() {
            passes(&topology, &check);
        } else {
            fails(&topology, &check, &[words, "arp_ignore=1"]);
            assert!(connects(&topology, own), "TCP_CHECK does not see it");
        }
    }

    // The real server has to ask for the director's MAC address, to answer it from the VIP.
    for (value, passing) in [("0", false), ("2", true)] {
        set(server, "net/ipv4/conf/all/arp_announce", value);
        ip(server, "neighbour flush dev eth0");
        if passing {
            passes(&topology, &check);
        } else {
            fails(&topology, &check, &["announces the VIP in ARP requests", "arp_announce=2"]);
        }
    }

    remove(server, VIP.into());
    fails(&topology, &check, &["no answer to a SYN for 10.0.0.100:80 sent to", "is the VIP on lo"]);
    assert!(connects(&topology, own), "TCP_CHECK does not see it");
    set(server, "net/ipv4/ip_forward", "1");
    fails(&topology, &check, &["would have sent it on", "is the VIP on lo"]);
}

#[test]
fn tunnelling_names_each_cause() {
    let topology = bed("path-tun", method::TUN, false);
    let server = topology.real_server(1);
    let own = SocketAddr::from((server.address, 80));
    let check = check(&topology);
    let _listener = listen(server, Ipv4Addr::UNSPECIFIED);

    fails(&topology, &check, &["no IPIP device", "protocol unreachable"]);
    assert!(connects(&topology, own), "TCP_CHECK does not see it");

    let device = TunnelDevice::new(server);
    passes(&topology, &check);
    set(server, &format!("net/ipv4/conf/{TUNNEL}/rp_filter"), "1");
    fails(&topology, &check, &["rp_filter drops what comes out of its IPIP device"]);
    assert!(connects(&topology, own), "TCP_CHECK does not see it");
    set(server, &format!("net/ipv4/conf/{TUNNEL}/rp_filter"), "0");
    passes(&topology, &check);

    remove(server, VIP.into());
    fails(&topology, &check, &["no answer to a SYN", "is the VIP on lo"]);
    assert!(connects(&topology, own), "TCP_CHECK does not see it");
    drop(device);
}

/// Every kind of outer header, by `elvs realserver`.
#[test]
fn tunnels_of_every_kind_pass() {
    let topology = bed("path-kinds", method::TUN, true);
    let server = topology.real_server(1);
    let _listeners = [listen(server, Ipv4Addr::UNSPECIFIED), listen(server, VIP6)];
    let v4: (IpAddr, IpAddr) = (VIP.into(), server.address.into());
    let v6: (IpAddr, IpAddr) = (VIP6.into(), topology.bed().plan.real_server6(1).into());
    let gue = |checksum| TunnelKind::Gue { port: 6080, checksum };
    let kinds = [
        (TunnelKind::Ipip, "IPIP"),
        (gue(TunnelChecksum::None), "GUE (port 6080)"),
        (gue(TunnelChecksum::Csum), "GUE (port 6080)"),
        (TunnelKind::Gre { checksum: TunnelChecksum::None }, "GRE"),
        (TunnelKind::Gre { checksum: TunnelChecksum::Csum }, "GRE"),
    ];
    // IPv4 and IPv6, each in each.
    let families = [v4, v6, (v4.0, v6.1), (v6.0, v4.1)];
    let checks = || {
        families.into_iter().flat_map(|(vip, real_server)| {
            let own = check(&topology);
            kinds.map(|(kind, device)| {
                let method = ForwardingMethod::Tun(kind);
                (PathCheck { vip, real_server, method, ..own.clone() }, device)
            })
        })
    };
    // A host sends a few errors to each destination, and then one a second: too few for twenty checks at once.
    for (family, which) in [("ipv4", "icmp_ratelimit"), ("ipv6", "icmp/ratelimit")] {
        set(server, &format!("net/{family}/{which}"), "0");
    }
    for (check, device) in checks() {
        fails(&topology, &check, &[&format!("no {device} device for")]);
    }
    let _decapsulators = topology.decapsulate();
    for (check, _) in checks() {
        passes(&topology, &check);
    }
    remove(server, VIP.into());
    remove(server, VIP6.into());
    let csum = gue(TunnelChecksum::Csum);
    for (check, _) in checks().filter(|(c, _)| c.method != ForwardingMethod::Tun(csum)) {
        fails(&topology, &check, &["is the VIP on lo"]);
    }
}

#[test]
fn ipv6_names_each_cause() {
    let topology = bed("path-six", method::DR, true);
    let server = topology.real_server(1);
    let own = topology.bed().plan.real_server6(1);
    let six = PathCheck { vip: VIP6.into(), real_server: own.into(), ..check(&topology) };

    let listener = listen(server, own);
    fails(&topology, &six, &["listens at the real server's own address only"]);
    assert!(connects(&topology, (own, 80)), "TCP_CHECK does not see it");
    drop(listener);

    let _listener = listen(server, Ipv6Addr::UNSPECIFIED);
    passes(&topology, &six);

    remove(server, VIP6.into());
    fails(&topology, &six, &["no answer to a SYN for [fd00::100]:80", "is the VIP on lo"]);
    assert!(connects(&topology, (own, 80)), "TCP_CHECK does not see it");

    let added = server.namespace.with_netlink(async |netlink: Netlink| {
        let eth0 = netlink.link("eth0").await?.ifindex;
        Ok::<_, BedError>(netlink.add_address(eth0, VIP6.into(), 128).await?)
    });
    added.unwrap();
    fails(&topology, &six, &["answers neighbour solicitations for the VIP"]);
    assert!(connects(&topology, (own, 80)), "TCP_CHECK does not see it");
}

#[test]
fn datagrams_name_each_cause() {
    let topology = bed("path-udp", method::DR, false);
    let server = topology.real_server(1);
    let udp = PathCheck { protocol: Protocol::Udp, ..check(&topology) };
    let bind = |address: Ipv4Addr| {
        server.namespace.run(|| UdpSocket::bind((address, 80))).unwrap().unwrap()
    };

    fails(&topology, &udp, &["port unreachable", "nothing listens at 10.0.0.100:80"]);
    let socket = bind(server.address);
    fails(&topology, &udp, &["listens at the real server's own address only"]);
    drop(socket);
    let _silent = bind(Ipv4Addr::UNSPECIFIED);
    passes(&topology, &udp);
    remove(server, VIP.into());
    fails(&topology, &udp, &["no answer to a datagram", "is the VIP on lo"]);
}

#[test]
fn masquerading_needs_the_way_back() {
    let topology = bed("path-nat", method::NAT, false);
    let server = topology.real_server(1);
    let check = check(&topology);
    fails(&topology, &check, &["nothing listens at 10.1.0.21:80"]);
    let _listener = listen(server, Ipv4Addr::UNSPECIFIED);
    passes(&topology, &check);
    ip(server, "route delete default");
    fails(&topology, &check, &["make it the default gateway of the real server"]);
    ip(&topology.bed().director, &format!("address delete {VIP}/32 dev eth0"));
    // Another director has the VIP, and is the gateway: this one sees no answers to clients.
    passes(&topology, &check);
}

/// A real server that is not there, and one that is silent.
#[test]
fn what_is_not_there() {
    let topology = bed("path-none", method::DR, false);
    let server = topology.real_server(1);
    let check = check(&topology);
    let nobody = PathCheck { real_server: Ipv4Addr::new(10, 0, 0, 99).into(), ..check.clone() };
    fails(&topology, &nobody, &["no answer to ARP for 10.0.0.99"]);
    let nowhere = PathCheck { real_server: Ipv4Addr::new(192, 0, 2, 1).into(), ..check.clone() };
    fails(&topology, &nowhere, &["no route to 192.0.2.1"]);
    let itself = PathCheck { real_server: topology.bed().director.address.into(), ..check.clone() };
    passes(&topology, &itself);

    let _listener = listen(server, Ipv4Addr::UNSPECIFIED);
    passes(&topology, &check);
    // All that comes by eth0 has its way back elsewhere: strict reverse path filtering drops it.
    let _device = TunnelDevice::new(server);
    let routed = server.namespace.with_netlink(async |netlink: Netlink| {
        let device = netlink.link(TUNNEL).await?.ifindex;
        let director = topology.bed().director.address.into();
        netlink.add_address(device, Ipv4Addr::new(192, 0, 2, 1).into(), 24).await?;
        Ok::<_, BedError>(
            netlink.add_route(director, 32, Ipv4Addr::new(192, 0, 2, 2).into()).await?,
        )
    });
    routed.unwrap();
    set(server, "net/ipv4/conf/eth0/rp_filter", "1");
    fails(&topology, &check, &["drops all of 10.0.0.10's packets (rp_filter or a firewall)"]);
}

/// With the daemon's program attached and the service configured, answers reach the prober, and no connection is counted.
#[test]
fn answers_pass_the_director() {
    for method in [method::DR, method::TUN, method::NAT, ForwardingMethod::FullNat] {
        let to_vip = matches!(method, ForwardingMethod::Dr | ForwardingMethod::Tun(_));
        let topology = bed("path-xdp", method, to_vip);
        let tunnelled = matches!(method, ForwardingMethod::Tun(_));
        let _decapsulators = if tunnelled { topology.decapsulate() } else { Vec::new() };
        let nginx = topology.nginx();
        let daemon = topology.daemon(Some(&topology.config("rr", 1)));
        let check = check(&topology);
        passes(&topology, &check);
        assert_eq!(topology.curl(1), ["rs1"], "the service itself");
        let connections = || daemon.status().services[0].statistics.connections;
        assert_eq!(connections(), 1, "{method:?}: a probe is no connection");
        passes(&topology, &check);
        let drops: Vec<_> = daemon.status().drops.into_iter().filter(|d| d.packets > 0).collect();
        assert_eq!(drops, Vec::new(), "{method:?}: nothing is dropped");
        assert_eq!(connections(), 1, "{method:?}: a probe is no connection");
        if to_vip {
            let real_server = topology.bed().plan.real_server6(1);
            let six =
                PathCheck { vip: VIP6.into(), real_server: real_server.into(), ..check.clone() };
            let how = if tunnelled { "-i" } else { "-g" };
            daemon.adm_ok(&format!("-A -t [{VIP6}]:80 -s rr"));
            daemon.adm_ok(&format!("-a -t [{VIP6}]:80 -r [{real_server}]:80 {how}"));
            daemon.wait_ready();
            passes(&topology, &six);
        }
        drop(nginx);
        fails(&topology, &check, &["nothing listens at"]);
    }
}

/// A host that took the place of another, with its address: frames to the old MAC address are lost, and nobody but the check
/// has a reason to ask for the new one.
#[test]
fn a_replaced_real_server_is_found() {
    let topology = bed("path-new", method::DR, false);
    let server = topology.real_server(1);
    let _listener = listen(server, Ipv4Addr::UNSPECIFIED);
    let check = check(&topology);
    passes(&topology, &check);
    ip(server, "link set dev eth0 address 02:00:00:00:00:99");
    // Without announcements, and past the time for which the director trusts what it knows.
    ip(
        &topology.bed().director,
        &format!("neighbour change {} dev eth0 nud stale", server.address),
    );
    fails(&topology, &check, &["no answer to a SYN"]);
    wait_until("the new MAC address", || {
        matches!(run(&topology, &check).result, CheckResult::Passed(_))
    });
}

/// More checks than there are turns, some of them given up in the middle: each gets an answer of its own.
#[test]
fn many_at_once() {
    let topology = bed("path-many", method::DR, false);
    let server = topology.real_server(1);
    let _listener = listen(server, Ipv4Addr::UNSPECIFIED);
    let good = check(&topology);
    let deaf = PathCheck { port: 81, real_port: 81, ..good.clone() };
    let director = &topology.bed().director.namespace;
    let found = director.with_netlink(async |_: Netlink| {
        let prober = Prober::new(ProbeSettings::default());
        let [good, deaf] = [Trial::Path(good), Trial::Path(deaf)];
        let given_up = (0..600).map(|_| prober.run(&good));
        let soon = Duration::from_micros(500);
        let _none_or_some = tokio::time::timeout(soon, futures::future::join_all(given_up)).await;
        // A configuration that is read again goes on with the same socket.
        let next = prober.renew(ProbeSettings::default());
        drop(prober);
        let checks = (0..600).map(|index| if index % 2 == 0 { &good } else { &deaf });
        let runs = checks.map(|check| next.run(check));
        Ok::<_, BedError>(futures::future::join_all(runs).await)
    });
    for (index, finding) in found.unwrap().into_iter().enumerate() {
        if index % 2 == 0 {
            assert!(matches!(finding.result, CheckResult::Passed(_)), "{index}: {finding:?}");
        } else {
            assert!(
                finding.words.contains("nothing listens at 10.0.0.100:81"),
                "{index}: {finding:?}"
            );
        }
    }
}
