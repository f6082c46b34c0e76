//! The bed itself: before anything is blamed on the director, the hosts must reach each other and go away again.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail loudly"
)]

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use elvs_lab::{method, require_root};
use elvs_model::ForwardingMethod;
use elvs_net::bed::{self, Bed, Plan};
use elvs_net::offload::{self, Offload};
use elvs_net::{Namespace, Netlink, sysctl};

fn bed_of(prefix: &str, method: ForwardingMethod, real_servers: u8) -> Bed {
    Bed::build(Plan { prefix: prefix.to_owned(), method, real_servers }).unwrap()
}

/// Opens a TCP connection from the client to a real server and says a line both ways.
fn talk(bed: &Bed, number: usize) {
    let host = &bed.real_servers[number];
    let to = SocketAddr::from((host.address, 80));
    let listener = host.namespace.run(|| TcpListener::bind(to).unwrap()).unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, peer) = listener.accept().unwrap();
        let mut line = [0; 5];
        stream.read_exact(&mut line).unwrap();
        stream.write_all(&line).unwrap();
        peer.ip()
    });
    let client = bed.client.namespace.run(|| {
        let timeout = Duration::from_secs(10);
        let mut stream = TcpStream::connect_timeout(&to, timeout).unwrap();
        stream.set_read_timeout(Some(timeout)).unwrap();
        stream.write_all(b"hello").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    assert_eq!(client.unwrap(), "hello", "{}", host.name);
    assert_eq!(server.join().unwrap(), IpAddr::V4(bed::CLIENT), "address that {} saw", host.name);
}

#[test]
fn client_reaches_every_real_server_of_a_direct_routing_bed() {
    require_root();
    let bed = bed_of("elvs-lab-dr-", method::DR, 3);
    (0..3).for_each(|number| talk(&bed, number));
}

/// The client has no way to the inner network but the director, which forwards as a router.
#[test]
fn client_reaches_real_servers_of_a_nat_bed_through_the_director() {
    require_root();
    let bed = bed_of("elvs-lab-nat-", method::NAT, 2);
    bed.client
        .namespace
        .with_netlink(async |netlink: Netlink| {
            let inner = IpAddr::from([10, 1, 0, 0]);
            netlink.add_route(inner, 24, bed::DIRECTOR.into()).await?;
            Ok::<_, bed::BedError>(())
        })
        .unwrap();
    (0..2).for_each(|number| talk(&bed, number));
}

/// In DR and TUN every real server holds the VIP, and only the director answers ARP for it.
#[test]
fn only_the_director_answers_arp_for_the_vip() {
    require_root();
    for (prefix, method) in [("elvs-lab-arp1-", method::DR), ("elvs-lab-arp2-", method::TUN)] {
        let bed = bed_of(prefix, method, 3);
        let director = bed.director.mac("eth0").unwrap();
        let seen = bed.client.namespace.run(|| {
            // One refused connection is enough to make the client ask.
            let _ = TcpStream::connect((bed::VIP, 80));
        });
        seen.unwrap();
        let found = bed.client.namespace.with_netlink(async |netlink: Netlink| {
            let ifindex = netlink.link("eth0").await?.ifindex;
            let found = netlink.neighbour(ifindex, bed::VIP.into()).await?;
            Ok::<_, bed::BedError>(found.and_then(|n| n.mac))
        });
        assert_eq!(found.unwrap(), director, "{method:?}");
        for host in &bed.real_servers {
            let local = host.namespace.with_netlink(async |netlink: Netlink| {
                Ok::<_, bed::BedError>(netlink.is_local(bed::VIP.into()).await?)
            });
            assert!(local.unwrap(), "VIP on {}", host.name);
        }
    }
}

#[test]
fn hosts_send_complete_frames() {
    require_root();
    let bed = bed_of("elvs-lab-off-", method::NAT, 1);
    for host in bed.hosts() {
        host.namespace
            .run(|| {
                for offload in [Offload::TxChecksum, Offload::Tso, Offload::Gso] {
                    assert!(!offload::is_on("eth0", offload).unwrap(), "{offload:?} {}", host.name);
                }
            })
            .unwrap();
    }
    let forward = bed.director.namespace.run(|| sysctl::read("net/ipv4/ip_forward").unwrap());
    assert_eq!(forward.unwrap(), "1");
}

#[test]
fn leaves_nothing_behind() {
    require_root();
    let prefix = "elvs-lab-gone-";
    let bed = bed_of(prefix, method::TUN, 2);
    assert_eq!(Namespace::list(prefix).unwrap().len(), 5, "client, director, rs1, rs2, switch");
    drop(bed);
    assert_eq!(Namespace::list(prefix).unwrap(), Vec::<String>::new());

    let kept = bed_of(prefix, method::DR, 1);
    kept.keep();
    assert_eq!(Namespace::list(prefix).unwrap().len(), 4, "kept");
    let error = Bed::build(Plan { prefix: prefix.to_owned(), method: method::DR, real_servers: 1 });
    assert!(error.is_err(), "names are taken");
    assert_eq!(
        Namespace::list(prefix).unwrap().len(),
        4,
        "a failed build leaves the other bed alone"
    );
    assert_eq!(Bed::remove_leftovers(prefix).unwrap().len(), 4);
    assert_eq!(Namespace::list(prefix).unwrap(), Vec::<String>::new());
}

#[test]
fn refuses_a_bed_without_real_servers_or_with_too_many() {
    for real_servers in [0, bed::MAX_REAL_SERVERS + 1] {
        let plan = Plan { prefix: "elvs-lab-no-".to_owned(), method: method::DR, real_servers };
        assert!(
            matches!(Bed::build(plan), Err(bed::BedError::RealServers { got }) if got == real_servers)
        );
    }
}

#[test]
fn finds_the_processes_of_a_bed() {
    require_root();
    let bed = bed_of("elvs-lab-ps-", method::DR, 1);
    assert_eq!(bed::processes_in("elvs-lab-ps-").unwrap(), Vec::<i32>::new());
    let mut child = bed.director.command("sleep").arg("60").spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let found = bed::processes_in("elvs-lab-ps-").unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(found, vec![pid]);
}

/// `ip netns add` mounts `/run/netns` onto itself unless that was done; our names must survive it and stay removable.
#[test]
fn lives_beside_names_of_ip_netns() {
    require_root();
    let prefix = "elvs-lab-ip-";
    let bed = bed_of(prefix, method::DR, 1);
    let ip = |arguments: &[&str]| {
        let done = std::process::Command::new("ip").arg("netns").args(arguments).status();
        assert!(done.unwrap().success(), "ip netns {arguments:?}");
    };
    ip(&["add", "elvs-lab-ip-foreign"]);
    ip(&["delete", "elvs-lab-ip-client"]);
    ip(&["delete", "elvs-lab-ip-foreign"]);
    assert_eq!(Namespace::list(prefix).unwrap().len(), 3, "director, rs1, switch");
    drop(bed);
    assert_eq!(Namespace::list(prefix).unwrap(), Vec::<String>::new());
}
