//! IPv6 next hops against a real kernel: neighbours found by solicitation, routes, the director's own addresses, and what
//! the daemon makes of them.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests fail loudly")]

use std::net::IpAddr;

use elvs_lab::{Topology, method, output_of, wait_until};
use elvs_net::bed::{BedError, CLIENT6, DIRECTOR_INSIDE6, DIRECTOR6, VIP6};
use elvs_net::{Netlink, NextHopError};

/// Asks for a neighbour until it has answered.
async fn resolved(netlink: &Netlink, address: IpAddr) -> Option<[u8; 6]> {
    for _ in 0..100 {
        let hop = netlink.next_hop(address).await.unwrap();
        if hop.destination_mac.is_some() {
            return hop.destination_mac;
        }
        netlink.keep_resolved(hop.ifindex, hop.neighbour(address)).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    None
}

#[test]
fn finds_next_hops_of_ipv6_without_traffic() {
    let topology = Topology::new("ipv6-hop", method::DR, 1);
    let bed = topology.bed();
    bed.add_ipv6().unwrap();
    let real_server = IpAddr::V6(bed.plan.real_server6(1));
    let expected = bed.real_servers[0].mac("eth0").unwrap();
    let router = bed.client.mac("eth0").unwrap();
    let done = bed.director.namespace.with_netlink(async |netlink: Netlink| {
        let hop = netlink.next_hop(real_server).await.unwrap();
        assert_eq!((hop.gateway, hop.mtu), (None, 1500));
        assert!([DIRECTOR6.into(), VIP6.into()].contains(&hop.source), "{hop:?}");
        assert_eq!(resolved(&netlink, real_server).await, expected);
        let error = netlink.next_hop(VIP6.into()).await.unwrap_err();
        assert!(matches!(error, NextHopError::Local { .. }), "{error}");
        let far: IpAddr = "2001:db8::9".parse().unwrap();
        let error = netlink.next_hop(far).await.unwrap_err();
        assert!(matches!(error, NextHopError::NoRoute { .. }), "{error}");
        netlink.add_route("::".parse().unwrap(), 0, CLIENT6.into()).await?;
        assert_eq!(netlink.next_hop(far).await.unwrap().gateway, Some(CLIENT6.into()));
        assert_eq!(resolved(&netlink, far).await, router);
        let eth0 = netlink.link("eth0").await?.ifindex;
        let subnet = netlink.subnet_of(VIP6.into()).await?.unwrap();
        assert_eq!((subnet.ifindex, subnet.prefix_len), (eth0, 64));
        Ok::<_, BedError>(())
    });
    done.unwrap();
}

/// Configuration of a service of IPv6.
fn config(method: &str, servers: &[IpAddr]) -> String {
    let servers: String = servers.iter().map(|s| format!(" real_server {s} 80 {{ }}\n")).collect();
    format!(
        "virtual_server {VIP6} 80 {{\n lvs_sched rr\n protocol TCP\n lvs_method {method}\n{servers}}}\n"
    )
}

#[test]
fn the_daemon_reaches_real_servers_of_ipv6_and_names_those_it_cannot() {
    let topology = Topology::new("ipv6-run", method::NAT, 2);
    let bed = topology.bed();
    bed.add_ipv6().unwrap();
    let nobody: IpAddr = "fd01::99".parse().unwrap();
    let servers = [1, 2].map(|number| IpAddr::V6(bed.plan.real_server6(number)));
    let daemon = topology.daemon(Some(&config("NAT", &servers)));
    let status = daemon.status();
    let names: Vec<&str> = status.interfaces.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(names, ["eth0", "eth1"], "the VIP's subnet, and the real servers'");
    daemon.adm_ok(&format!("-a -t [{VIP6}]:80 -r [{nobody}]:80 -m"));
    daemon.adm_ok(&format!("-a -t [{VIP6}]:80 -r [{DIRECTOR_INSIDE6}]:80 -m"));
    let problem = "does not answer neighbour solicitations";
    wait_until("the problem", || {
        let problems = daemon.status().unresolved;
        problems.len() == 1 && problems[0].problem.contains(problem)
    });
    assert_eq!(daemon.status().unresolved[0].destination.ip(), nobody);
    let mut status = daemon.elvs();
    status.arg("status");
    let shown = output_of(status);
    assert!(shown.contains("TCP [fd00::100]:80 -> [fd01::99]:80: next hop fd01::99"), "{shown}");
    assert!(shown.contains("\n  [fd01::21]:80 "), "{shown}");
    let listed = daemon.adm_ok("-Ln");
    let wanted = "TCP  [fd00::100]:80 rr\n  -> [fd01::10]:80                Masq    1      0          0         \n";
    assert!(listed.contains(wanted), "{listed}");
    let refused = daemon.adm(&format!("-a -t [{VIP6}]:80 -r 10.1.0.21:80 -m"));
    assert!(!refused.status.success());
    daemon.adm_ok("-A -f 7 -6 -s rr -p 60 -M 64");
    daemon.adm_ok(&format!("-a -f 7 -6 -r [{}]:0 -m", servers[0]));
    let mut mark = daemon.elvs();
    mark.args(["mark", "add", "--destination", "fd00::/64", "--protocol", "udp", "--mark", "7"]);
    output_of(mark);
    let saved = daemon.adm_ok("-Sn");
    assert!(
        saved.contains("-A -f 7 -6 -s rr -p 60 -M 64\n-a -f 7 -6 -r [fd01::21]:0 -m -w 1"),
        "{saved}"
    );
}
