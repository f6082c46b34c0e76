//! Ten million bytes through every forwarding method, family and protocol, with and without VLAN tags, byte for byte both ways, with checksums verified
//! by the receiving stacks: no checksum is left to a device, so whoever takes a packet has added it up.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail loudly"
)]

use std::net::{IpAddr, SocketAddr};

use elvs_api::Status;
use elvs_lab::{Daemon, Echo, TRANSFER, Tags, Topology, method};
use elvs_model::{Family, ForwardingMethod};
use elvs_net::bed::{LOCAL, LOCAL6, VIP, VIP6};

const PORT: u16 = 7_000;
const REAL_SERVERS: u8 = 2;

/// Services of TCP and UDP with a real server each turn, by commands.
fn commanded(topology: &Topology, vip: IpAddr, servers: &[IpAddr]) -> Daemon {
    let daemon = topology.daemon(None);
    let flag = match topology.bed().plan.method {
        ForwardingMethod::Dr => "-g",
        ForwardingMethod::Nat => "-m",
        ForwardingMethod::FullNat => "--fullnat",
        ForwardingMethod::Tun(_) => panic!("no tunnels here"),
    };
    let local: IpAddr = if vip.is_ipv4() { LOCAL.into() } else { LOCAL6.into() };
    let service = SocketAddr::from((vip, PORT));
    for protocol in ["-t", "-u"] {
        daemon.adm_ok(&format!("-A {protocol} {service} -s rr"));
        if flag == "--fullnat" {
            daemon.adm_ok(&format!("--add-laddr -z {local} {protocol} {service}"));
        }
        for server in servers {
            let server = SocketAddr::from((*server, PORT));
            daemon.adm_ok(&format!("-a {protocol} {service} -r {server} {flag}"));
        }
    }
    daemon.wait_ready();
    daemon
}

fn transfers(name: &str, method: ForwardingMethod, family: Family, tags: Tags) {
    let topology = Topology::new(name, method, REAL_SERVERS);
    let plan = &topology.bed().plan;
    let (vip, servers): (IpAddr, Vec<IpAddr>) = if family == Family::Inet6 {
        topology.bed().add_ipv6().unwrap();
        (VIP6.into(), (1..=REAL_SERVERS).map(|n| plan.real_server6(n).into()).collect())
    } else {
        (VIP.into(), (1..=REAL_SERVERS).map(|n| plan.real_server(n).into()).collect())
    };
    let tagger = topology.tagged(tags);
    let nat = matches!(method, ForwardingMethod::Nat | ForwardingMethod::FullNat);
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
    let (right, wrong) = tagger.counts();
    let least = 2 * u64::from(REAL_SERVERS) * u64::try_from(TRANSFER / 1_500).unwrap();
    assert!(wrong == 0 && right >= least, "{right} with the right tags, {wrong} without");
}

/// No tags, one (IEEE 802.1Q), two (802.1ad).
const TAGS: [Tags; 3] = [&[], &[(0x8100, 0x2005)], &[(0x88a8, 7), (0x8100, 0x6006)]];

fn transfers_of_all_tags(name: &str, method: ForwardingMethod, family: Family) {
    for (number, tags) in TAGS.into_iter().enumerate() {
        transfers(&format!("{name}-{number}"), method, family, tags);
    }
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
    transfers_of_all_tags("xfer-dr4", method::DR, Family::Inet);
}

#[test]
fn direct_routing_of_ipv6() {
    transfers_of_all_tags("xfer-dr6", method::DR, Family::Inet6);
}

#[test]
fn masquerading_of_ipv4() {
    transfers_of_all_tags("xfer-nat4", method::NAT, Family::Inet);
}

#[test]
fn masquerading_of_ipv6() {
    transfers_of_all_tags("xfer-nat6", method::NAT, Family::Inet6);
}

#[test]
fn full_nat_of_ipv4() {
    transfers_of_all_tags("xfer-fnat4", ForwardingMethod::FullNat, Family::Inet);
}

#[test]
fn full_nat_of_ipv6() {
    transfers_of_all_tags("xfer-fnat6", ForwardingMethod::FullNat, Family::Inet6);
}
