//! Ten million bytes through every forwarding method, family and protocol, byte for byte both ways, with checksums verified
//! by the receiving stacks: no checksum is left to a device, so whoever takes a packet has added it up.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail loudly"
)]

use std::net::{IpAddr, SocketAddr};

use elvs_api::Status;
use elvs_lab::{Daemon, Echo, TRANSFER, Topology, method};
use elvs_model::{Family, ForwardingMethod};
use elvs_net::bed::{VIP, VIP6};

const PORT: u16 = 7_000;
const REAL_SERVERS: u8 = 2;

/// Services of TCP and UDP with a real server each turn, by commands.
fn commanded(topology: &Topology, vip: IpAddr, servers: &[IpAddr]) -> Daemon {
    let daemon = topology.daemon(None);
    let flag = match topology.bed().plan.method {
        ForwardingMethod::Dr => "-g",
        ForwardingMethod::Nat => "-m",
        ForwardingMethod::FullNat => panic!("full NAT has a test of its own"),
        ForwardingMethod::Tun(_) => panic!("no tunnels here"),
    };
    let service = SocketAddr::from((vip, PORT));
    for protocol in ["-t", "-u"] {
        daemon.adm_ok(&format!("-A {protocol} {service} -s rr"));
        for server in servers {
            let server = SocketAddr::from((*server, PORT));
            daemon.adm_ok(&format!("-a {protocol} {service} -r {server} {flag}"));
        }
    }
    daemon.wait_ready();
    daemon
}

fn transfers(name: &str, method: ForwardingMethod, family: Family) {
    let topology = Topology::new(name, method, REAL_SERVERS);
    let plan = &topology.bed().plan;
    let (vip, servers): (IpAddr, Vec<IpAddr>) = if family == Family::Inet6 {
        topology.bed().add_ipv6().unwrap();
        (VIP6.into(), (1..=REAL_SERVERS).map(|n| plan.real_server6(n).into()).collect())
    } else {
        (VIP.into(), (1..=REAL_SERVERS).map(|n| plan.real_server(n).into()).collect())
    };
    let nat = method == ForwardingMethod::Nat;
    // By direct routing a real server answers as the virtual address.
    let own = |server: &IpAddr| SocketAddr::from((if nat { *server } else { vip }, PORT));
    let hosts = topology.bed().real_servers.iter();
    let _echoes: Vec<_> =
        hosts.zip(&servers).map(|(host, server)| Echo::start(host, own(server))).collect();
    let daemon = commanded(&topology, vip, &servers);
    let to = SocketAddr::from((vip, PORT));
    for turn in 0..u64::from(REAL_SERVERS) {
        topology.transfer_tcp(to, turn, || {});
        topology.transfer_udp(to, turn);
    }
    assert_eq!(topology.checksum_errors(), 0, "packets with wrong checksums");
    let status = daemon.status();
    let drops: Vec<_> = status.drops.iter().filter(|drop| drop.packets > 0).collect();
    assert!(drops.is_empty(), "nothing is dropped: {drops:?}");
    counted(&status, nat);
}

/// What went through is counted, at every real server of both services.
fn counted(status: &Status, nat: bool) {
    assert_eq!(status.services.len(), 2, "{:?}", status.services);
    for service in &status.services {
        assert_eq!(service.destinations.len(), usize::from(REAL_SERVERS));
        for destination in &service.destinations {
            let counted = &destination.statistics;
            assert_eq!(counted.connections, 1, "{destination:?}");
            let least = u64::try_from(TRANSFER).unwrap();
            assert!(counted.in_bytes > least, "{destination:?}");
            let least = if nat { least } else { 0 };
            assert!(counted.out_bytes >= least, "{destination:?}");
            assert_eq!(counted.out_packets == 0, !nat, "{destination:?}");
        }
    }
}

#[test]
fn direct_routing_of_ipv4() {
    transfers("xfer-dr4", method::DR, Family::Inet);
}

#[test]
fn direct_routing_of_ipv6() {
    transfers("xfer-dr6", method::DR, Family::Inet6);
}

#[test]
fn masquerading_of_ipv4() {
    transfers("xfer-nat4", method::NAT, Family::Inet);
}

#[test]
fn masquerading_of_ipv6() {
    transfers("xfer-nat6", method::NAT, Family::Inet6);
}
