//! Network interfaces: read, made, brought up, removed.
//!
//! **Invariant:** a [`Link`] is what the kernel said at one moment; only the ifindex stays true while it lives.
//!
//! Called by the daemon (names, MAC addresses, MTU) and by the test bed (veth pairs, bridges).

use std::os::fd::AsRawFd;

use futures::TryStreamExt;
use rtnetlink::packet_route::link::{
    InfoData, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth};

use crate::namespace::Namespace;
use crate::netlink::{Netlink, NetlinkError};

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Index, unique in its namespace.
    pub ifindex: u32,
    /// Name, at most 15 bytes.
    pub name: String,
    /// Ethernet address; `None` for devices that have none (tunnels, raw IP).
    pub mac: Option<[u8; 6]>,
    /// Largest IP packet in bytes.
    pub mtu: u32,
    /// Administratively up (IFF_UP).
    pub up: bool,
    /// Carrier present (IFF_LOWER_UP).
    pub carrier: bool,
    /// IFF_LOOPBACK.
    pub loopback: bool,
    /// Index of the bridge or bond it belongs to.
    pub controller: Option<u32>,
    /// Kind of a virtual device (`veth`, `bridge`, `vlan`); `None` for hardware.
    pub kind: Option<String>,
}

impl Netlink {
    /// All interfaces of the namespace.
    ///
    /// # Errors
    /// [`NetlinkError`] of the request.
    pub async fn links(&self) -> Result<Vec<Link>, NetlinkError> {
        let found = self.list(|| self.handle.link().get().execute(), "interfaces").await?;
        Ok(found.iter().map(Link::from_message).collect())
    }

    /// The interface of that name.
    ///
    /// # Errors
    /// [`NetlinkError::NoSuchInterface`] if there is none.
    pub async fn link(&self, name: &str) -> Result<Link, NetlinkError> {
        let missing = || NetlinkError::NoSuchInterface { name: name.to_owned() };
        // The kernel refuses longer names with ERANGE; to the operator that is "no such interface" as well.
        if name.is_empty() || name.len() >= libc::IFNAMSIZ {
            return Err(missing());
        }
        let mut messages =
            std::pin::pin!(self.handle.link().get().match_name(name.to_owned()).execute());
        match messages.try_next().await {
            Ok(Some(message)) => Ok(Link::from_message(&message)),
            Ok(None) => Err(missing()),
            Err(e) => match NetlinkError::of(e, "read interface", name) {
                refused if refused.errno() == Some(libc::ENODEV) => Err(missing()),
                other => Err(other),
            },
        }
    }

    /// The interface with that index.
    ///
    /// # Errors
    /// [`NetlinkError::NoSuchIndex`] if there is none.
    pub async fn link_by_index(&self, ifindex: u32) -> Result<Link, NetlinkError> {
        let missing = NetlinkError::NoSuchIndex { ifindex };
        let mut messages = std::pin::pin!(self.handle.link().get().match_index(ifindex).execute());
        match messages.try_next().await {
            Ok(Some(message)) => Ok(Link::from_message(&message)),
            Ok(None) => Err(missing),
            Err(e) => match NetlinkError::of(e, "read interface index", ifindex) {
                refused if refused.errno() == Some(libc::ENODEV) => Err(missing),
                other => Err(other),
            },
        }
    }

    /// Brings an interface up.
    ///
    /// # Errors
    /// [`NetlinkError::Refused`] if the kernel does not.
    pub async fn set_up(&self, ifindex: u32) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(ifindex).up().build();
        self.change_link(message, "bring up interface index", ifindex).await
    }

    /// Takes an interface down.
    ///
    /// # Errors
    /// [`NetlinkError::Refused`] if the kernel does not.
    pub async fn set_down(&self, ifindex: u32) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(ifindex).down().build();
        self.change_link(message, "take down interface index", ifindex).await
    }

    /// Sets the largest IP packet of an interface, in bytes.
    ///
    /// # Errors
    /// [`NetlinkError::Refused`] if the device does not take it.
    pub async fn set_mtu(&self, ifindex: u32, mtu: u32) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(ifindex).mtu(mtu).build();
        self.change_link(message, "set the MTU of interface index", ifindex).await
    }

    /// Makes an interface a port of a bridge.
    ///
    /// # Errors
    /// [`NetlinkError::Refused`] if the kernel does not.
    pub async fn set_bridge(&self, ifindex: u32, bridge: u32) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(ifindex).controller(bridge).build();
        self.change_link(message, "add to the bridge interface index", ifindex).await
    }

    /// Makes a bridge without spanning tree, so that its ports forward at once, and brings it up.
    ///
    /// # Errors
    /// [`NetlinkError::Refused`] if the name is taken.
    pub async fn add_bridge(&self, name: &str) -> Result<Link, NetlinkError> {
        let message = LinkBridge::new(name).forward_delay(0).mcast_snooping(false).up().build();
        let added = self.handle.link().add(message).execute().await;
        added.map_err(|e| NetlinkError::of(e, "add bridge", name))?;
        self.link(name).await
    }

    /// Makes a veth pair: `name` here, `peer` in the namespace `into`. Both ends are down.
    ///
    /// # Errors
    /// [`NetlinkError::Refused`] if a name is taken.
    pub async fn add_veth(
        &self,
        name: &str,
        peer: &str,
        into: &Namespace,
    ) -> Result<Link, NetlinkError> {
        let far = LinkMessageBuilder::<LinkUnspec>::new()
            .name(peer)
            .setns_by_fd(into.as_raw_fd())
            .build();
        let message = LinkMessageBuilder::<LinkVeth>::new(name, peer)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(far)))
            .build();
        let added = self.handle.link().add(message).execute().await;
        added.map_err(|e| NetlinkError::of(e, "add veth", name))?;
        self.link(name).await
    }

    /// Makes a veth pair whose ends are both here. Both are down.
    ///
    /// # Errors
    /// [`NetlinkError::Refused`] if a name is taken.
    pub async fn add_veth_pair(&self, name: &str, peer: &str) -> Result<(), NetlinkError> {
        let added = self.handle.link().add(LinkVeth::new(name, peer).build()).execute().await;
        added.map_err(|e| NetlinkError::of(e, "add veth", name))
    }

    /// Removes an interface (and a veth's other end with it).
    ///
    /// # Errors
    /// [`NetlinkError::Refused`] if it is gone or cannot be removed.
    pub async fn delete_link(&self, ifindex: u32) -> Result<(), NetlinkError> {
        let deleted = self.handle.link().del(ifindex).execute().await;
        deleted.map_err(|e| NetlinkError::of(e, "delete interface index", ifindex))
    }

    pub(crate) async fn change_link(
        &self,
        message: LinkMessage,
        operation: &'static str,
        ifindex: u32,
    ) -> Result<(), NetlinkError> {
        let changed = self.handle.link().change(message).execute().await;
        changed.map_err(|e| NetlinkError::of(e, operation, ifindex))
    }
}

impl Link {
    pub(crate) fn from_message(message: &LinkMessage) -> Self {
        let flags = message.header.flags;
        let mut link = Self {
            ifindex: message.header.index,
            name: String::new(),
            mac: None,
            mtu: 0,
            up: flags.contains(LinkFlags::Up),
            carrier: flags.contains(LinkFlags::LowerUp),
            loopback: flags.contains(LinkFlags::Loopback),
            controller: None,
            kind: None,
        };
        for attribute in &message.attributes {
            link.read(attribute);
        }
        link
    }

    fn read(&mut self, attribute: &LinkAttribute) {
        match attribute {
            LinkAttribute::IfName(name) => self.name.clone_from(name),
            LinkAttribute::Address(bytes) => self.mac = bytes.as_slice().try_into().ok(),
            LinkAttribute::Mtu(mtu) => self.mtu = *mtu,
            LinkAttribute::Controller(index) => self.controller = Some(*index),
            LinkAttribute::LinkInfo(infos) => {
                self.kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
            }
            _ => {}
        }
    }
}
