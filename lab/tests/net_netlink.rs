//! The netlink handle against a real kernel: next hops, neighbours and their changes.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail loudly"
)]

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use elvs_lab::{method, require_root};
use elvs_net::bed::{self, Bed, BedError, Plan};
use elvs_net::{Event, Events, Netlink, NextHopError};
use futures::StreamExt;

fn bed_of(prefix: &str, real_servers: u8) -> Bed {
    Bed::build(Plan { prefix: prefix.to_owned(), method: method::DR, real_servers }).unwrap()
}

/// Waits until `wanted` is true of an event; the limit only ends a test that would hang.
async fn wait_for(events: &mut Events, wanted: impl Fn(&Event) -> bool) -> Event {
    let found = async {
        loop {
            let event = events.next().await.expect("the watch ended");
            if wanted(&event) {
                return event;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), found).await.expect("no such event")
}

/// No packet was ever sent: the daemon's request alone makes the kernel ask, and the watch tells the answer.
#[test]
fn resolves_a_next_hop_without_traffic() {
    require_root();
    let bed = bed_of("elvs-lab-nl1-", 1);
    let real_server = IpAddr::V4(bed.real_servers[0].address);
    let expected = bed.real_servers[0].mac("eth0").unwrap();
    let own = bed.director.mac("eth0").unwrap().unwrap();
    let done = bed.director.namespace.with_netlink(async |netlink: Netlink| {
        let mut events = Netlink::watch()?;
        let hop = netlink.next_hop(real_server).await.unwrap();
        assert_eq!(hop.destination_mac, None, "nothing was sent yet");
        assert_eq!((hop.source, hop.gateway), (bed::DIRECTOR.into(), None));
        assert_eq!((hop.source_mac, hop.mtu), (own, 1500));
        assert_eq!(hop.ifindex, netlink.link("eth0").await?.ifindex);

        netlink.keep_resolved(hop.ifindex, real_server).await?;
        let changed = |e: &Event| matches!(e, Event::NeighbourChanged(n) if n.address == real_server && n.mac.is_some());
        let Event::NeighbourChanged(neighbour) = wait_for(&mut events, changed).await else {
            panic!("the filter lets only neighbours pass");
        };
        assert_eq!(neighbour.mac, expected);
        assert_eq!(netlink.next_hop(real_server).await.unwrap().destination_mac, expected);
        // A repeated request is no error: the daemon asks again on every reload.
        netlink.keep_resolved(hop.ifindex, real_server).await?;
        netlink.release(hop.ifindex, real_server).await?;
        assert_eq!(netlink.next_hop(real_server).await.unwrap().destination_mac, expected);
        Ok::<_, BedError>(())
    });
    done.unwrap();
}

/// `resolve` asks once; an address that nobody has ends as failed, which the daemon shows as unreachable.
#[test]
fn reports_a_neighbour_that_does_not_answer() {
    require_root();
    let bed = bed_of("elvs-lab-nl2-", 1);
    let nobody = IpAddr::from([10, 0, 0, 99]);
    let done = bed.director.namespace.with_netlink(async |netlink: Netlink| {
        let mut events = Netlink::watch()?;
        let ifindex = netlink.next_hop(nobody).await.unwrap().ifindex;
        netlink.resolve(ifindex, nobody).await?;
        let failed =
            |e: &Event| matches!(e, Event::NeighbourChanged(n) if n.address == nobody && n.failed);
        wait_for(&mut events, failed).await;
        assert_eq!(netlink.next_hop(nobody).await.unwrap().destination_mac, None);
        Ok::<_, BedError>(())
    });
    done.unwrap();
}

/// A neighbour set by hand keeps its MAC address: where nobody answers ARP it is all there is.
#[test]
fn leaves_a_neighbour_that_was_set_by_hand() {
    require_root();
    let bed = bed_of("elvs-lab-nl6-", 1);
    let nobody = IpAddr::from([10, 0, 0, 99]);
    let mut ip = bed.director.namespace.command("ip");
    ip.args("neigh add 10.0.0.99 lladdr 02:00:00:00:00:99 nud permanent dev eth0".split(' '));
    assert!(ip.status().unwrap().success());
    let done = bed.director.namespace.with_netlink(async |netlink: Netlink| {
        let mac = Some([2, 0, 0, 0, 0, 0x99]);
        let hop = netlink.next_hop(nobody).await.unwrap();
        assert_eq!(hop.destination_mac, mac);
        netlink.keep_resolved(hop.ifindex, nobody).await?;
        let entry = netlink.neighbour(hop.ifindex, nobody).await?.unwrap();
        assert!(entry.fixed && entry.mac == mac, "{entry:?}");
        Ok::<_, BedError>(())
    });
    done.unwrap();
}

#[test]
fn names_why_there_is_no_next_hop() {
    require_root();
    let bed = bed_of("elvs-lab-nl3-", 1);
    let done = bed.director.namespace.with_netlink(async |netlink: Netlink| {
        let far = IpAddr::from([192, 0, 2, 1]);
        let error = netlink.next_hop(far).await.unwrap_err();
        assert!(matches!(error, NextHopError::NoRoute { destination } if destination == far));
        let error = netlink.next_hop(bed::VIP.into()).await.unwrap_err();
        assert!(matches!(error, NextHopError::Local { .. }), "{error}");
        let gateway = IpAddr::V4(bed::CLIENT);
        netlink.add_route(IpAddr::from([0, 0, 0, 0]), 0, gateway).await?;
        assert_eq!(netlink.next_hop(far).await.unwrap().gateway, Some(gateway));
        Ok::<_, BedError>(())
    });
    done.unwrap();
}

/// A VIP that is a /32 belongs to the interface whose subnet covers it.
#[test]
fn finds_the_interface_of_a_vip() {
    require_root();
    let bed = bed_of("elvs-lab-nl4-", 1);
    let done = bed.real_servers[0].namespace.with_netlink(async |netlink: Netlink| {
        let eth0 = netlink.link("eth0").await?;
        let found = netlink.subnet_of(bed::VIP.into()).await?.unwrap();
        assert_eq!((found.ifindex, found.prefix_len), (eth0.ifindex, 24));
        assert_eq!(netlink.subnet_of(IpAddr::from([192, 0, 2, 1])).await?, None);
        assert!(netlink.link("no-such-if").await.is_err());
        assert!(netlink.link_by_index(4_000_000).await.is_err());
        assert_eq!(eth0.kind.as_deref(), Some("veth"));
        Ok::<_, BedError>(())
    });
    done.unwrap();
}

#[test]
fn watches_links_addresses_and_routes() {
    require_root();
    let bed = bed_of("elvs-lab-nl5-", 1);
    let done = bed.director.namespace.with_netlink(async |netlink: Netlink| {
        let mut events = Netlink::watch()?;
        let ifindex = netlink.link("eth0").await?.ifindex;
        let address = IpAddr::from([10, 9, 0, 1]);
        netlink.add_address(ifindex, address, 24).await?;
        let added = wait_for(&mut events, |e| matches!(e, Event::AddressAdded(_))).await;
        let Event::AddressAdded(added) = added else { panic!("the filter lets only this pass") };
        assert_eq!((added.ifindex, added.address, added.prefix_len), (ifindex, address, 24));
        wait_for(&mut events, |e| *e == Event::RouteChanged).await;
        netlink.delete_address(added).await?;
        wait_for(&mut events, |e| *e == Event::AddressRemoved(added)).await;
        netlink.set_down(ifindex).await?;
        wait_for(
            &mut events,
            |e| matches!(e, Event::LinkChanged(l) if l.ifindex == ifindex && !l.up),
        )
        .await;
        netlink.delete_link(ifindex).await?;
        wait_for(&mut events, |e| *e == Event::LinkRemoved { ifindex }).await;
        Ok::<_, BedError>(())
    });
    done.unwrap();
}

/// The kernel lists one thing at a time for a socket; who asks meanwhile has to wait, not to fail.
#[test]
fn lists_are_waited_for() {
    require_root();
    let bed = bed_of("elvs-lab-nl7-", 1);
    let done = bed.director.namespace.with_netlink(async |netlink: Netlink| {
        let netlink = Arc::new(netlink);
        let wanted = netlink.addresses().await?;
        for _ in 0..20 {
            // The second task runs when the first request is on its way, and before anything was read.
            let second = async {
                let netlink = netlink.clone();
                tokio::spawn(async move { netlink.addresses().await }).await.unwrap()
            };
            let (first, second) = tokio::join!(netlink.addresses(), second);
            assert_eq!((first?, second?), (wanted.clone(), wanted.clone()));
            // Somebody who loses interest leaves no trouble behind.
            let unwanted = tokio::spawn({
                let netlink = netlink.clone();
                async move { netlink.addresses().await }
            });
            tokio::task::yield_now().await;
            unwanted.abort();
            assert_eq!(netlink.addresses().await?, wanted);
        }
        Ok::<_, BedError>(())
    });
    done.unwrap();
}
