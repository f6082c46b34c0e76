//! A real server that only the kernel's routing table knows the way to, in a namespace of its own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use elvs_net::bed::BedError;
use elvs_net::{Namespace, NamespaceGuard, Netlink};

/// Last number of its addresses.
pub const LAST: u8 = 7;
/// Times that its MAC address is looked for in the neighbour table, [`PAUSE`] apart.
const LOOKS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(50);

/// The way there.
pub struct Way {
    /// MAC address of the director's interface.
    pub near: [u8; 6],
    /// MAC address of the real server.
    pub far: [u8; 6],
    _server: NamespaceGuard,
}

impl Way {
    /// Joins a namespace to that of a real server, whose MAC address it learns.
    pub fn make(director: &Namespace) -> Self {
        let name = format!("elvs-lab-reasons-rs-{}", std::process::id());
        let server = Namespace::create(&name).unwrap();
        let addresses = |last: u8| {
            let v6 = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 1, last.into());
            [(IpAddr::from(Ipv4Addr::new(10, 0, 1, last)), 24), (v6.into(), 112)]
        };
        let near = director
            .with_netlink(async |netlink: Netlink| {
                let near = netlink.add_veth("way", "eth0", &server).await?;
                netlink.set_up(near.ifindex).await?;
                for (address, prefix) in addresses(254) {
                    netlink.add_address(near.ifindex, address, prefix).await?;
                }
                Ok::<_, BedError>(near)
            })
            .unwrap();
        let far = server
            .with_netlink(async |netlink: Netlink| {
                let far = netlink.link("eth0").await?;
                netlink.set_up(far.ifindex).await?;
                for (address, prefix) in addresses(LAST) {
                    netlink.add_address(far.ifindex, address, prefix).await?;
                }
                Ok::<_, BedError>(far)
            })
            .unwrap();
        for (address, _) in addresses(LAST) {
            director
                .with_netlink(async |netlink: Netlink| {
                    learn(&netlink, near.ifindex, address).await;
                    Ok::<_, BedError>(())
                })
                .unwrap();
        }
        Self { near: near.mac.unwrap(), far: far.mac.unwrap(), _server: server }
    }
}

async fn learn(netlink: &Netlink, ifindex: u32, address: IpAddr) {
    for _ in 0..LOOKS {
        netlink.resolve(ifindex, address).await.unwrap();
        let found = netlink.neighbour(ifindex, address).await.unwrap();
        if found.is_some_and(|neighbour| neighbour.mac.is_some()) {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
    panic!("{address} does not answer");
}
