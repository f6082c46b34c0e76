//! The neighbour table: IP address to MAC address on one link, and how to make the kernel fill it.
//!
//! **Invariant:** MAC addresses come from the kernel alone; this module asks it to resolve, and never answers itself.
//!
//! Called by the daemon, whose XDP program forwards frames the kernel's stack never sees and so never resolves for.

use std::net::IpAddr;

use futures::StreamExt;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage,
    NeighbourState,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::netlink::{Netlink, NetlinkError};

/// An entry of the neighbour table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Interface it is on.
    pub ifindex: u32,
    /// Its IP address.
    pub address: IpAddr,
    /// Its MAC address; `None` while unresolved, failed, or on a link without Ethernet addresses.
    pub mac: Option<[u8; 6]>,
    /// Whether the kernel gave up (NUD_FAILED): it asked and nobody answered.
    pub failed: bool,
    /// Whether its MAC address was set by hand or needs no asking (NUD_PERMANENT, NUD_NOARP).
    pub fixed: bool,
}

impl Netlink {
    /// The neighbour table of the namespace, both families.
    ///
    /// # Errors
    /// [`NetlinkError`] of the request.
    pub async fn neighbours(&self) -> Result<Vec<Neighbour>, NetlinkError> {
        let found = self.list(|| self.handle.neighbours().get().execute(), "neighbours").await?;
        Ok(found.iter().filter_map(Neighbour::from_message).collect())
    }

    /// One entry of the neighbour table, `None` if there is none.
    ///
    /// # Errors
    /// [`NetlinkError`] of the request.
    pub async fn neighbour(
        &self,
        ifindex: u32,
        address: IpAddr,
    ) -> Result<Option<Neighbour>, NetlinkError> {
        let message = message_for(ifindex, address);
        let request = RouteNetlinkMessage::GetNeighbour(message);
        match self.neighbour_request(request, 0, "read neighbour", address).await {
            Ok(answer) => Ok(answer.as_ref().and_then(Neighbour::from_message)),
            Err(e) if e.errno() == Some(libc::ENOENT) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Makes the kernel resolve a neighbour now, as if a packet waited for it (`ip neigh ... use`).
    ///
    /// Returns at once; the answer arrives as [`Event::NeighbourChanged`](crate::Event::NeighbourChanged).
    ///
    /// # Errors
    /// [`NetlinkError::Refused`] without CAP_NET_ADMIN, or on a permanent entry.
    pub async fn resolve(&self, ifindex: u32, address: IpAddr) -> Result<(), NetlinkError> {
        let mut message = message_for(ifindex, address);
        message.header.flags = NeighbourFlags::Use;
        self.set_neighbour(message, "resolve neighbour", address).await
    }

    /// Makes the kernel resolve a neighbour now and keep it resolved (NTF_EXT_MANAGED, Linux 5.16).
    ///
    /// The kernel then probes it by itself every `interval_probe_time_ms` (5 s) and never collects the entry.
    /// Returns at once, as [`Netlink::resolve`] does. An entry that was set by hand is left as it is: the kernel would
    /// forget its MAC address and ask for it.
    ///
    /// # Errors
    /// [`NetlinkError::Refused`] without CAP_NET_ADMIN.
    pub async fn keep_resolved(&self, ifindex: u32, address: IpAddr) -> Result<(), NetlinkError> {
        if self.neighbour(ifindex, address).await?.is_some_and(|neighbour| neighbour.fixed) {
            return Ok(());
        }
        let mut message = message_for(ifindex, address);
        message.attributes.push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
        self.set_neighbour(message, "keep resolved neighbour", address).await
    }

    /// Ends [`Netlink::keep_resolved`]: the entry stays and ages as others do.
    ///
    /// # Errors
    /// [`NetlinkError::Refused`] without CAP_NET_ADMIN.
    pub async fn release(&self, ifindex: u32, address: IpAddr) -> Result<(), NetlinkError> {
        let mut message = message_for(ifindex, address);
        message.header.flags = NeighbourFlags::Use;
        message.attributes.push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::empty()));
        self.set_neighbour(message, "release neighbour", address).await
    }

    async fn set_neighbour(
        &self,
        message: NeighbourMessage,
        operation: &'static str,
        address: IpAddr,
    ) -> Result<(), NetlinkError> {
        let request = RouteNetlinkMessage::NewNeighbour(message);
        self.neighbour_request(request, NLM_F_ACK | NLM_F_CREATE, operation, address).await?;
        Ok(())
    }

    /// Sends one request and returns the entry that answers it, if any.
    ///
    /// Written out because the library's requests can neither ask for one entry nor leave a MAC address alone.
    async fn neighbour_request(
        &self,
        request: RouteNetlinkMessage,
        flags: u16,
        operation: &'static str,
        address: IpAddr,
    ) -> Result<Option<NeighbourMessage>, NetlinkError> {
        let failed = |e| NetlinkError::of(e, operation, address);
        let mut message = NetlinkMessage::from(request);
        message.header.flags = NLM_F_REQUEST | flags;
        let mut answers = self.handle.clone().request(message).map_err(failed)?;
        let mut entry = None;
        while let Some(answer) = answers.next().await {
            match answer.payload {
                NetlinkPayload::Error(e) => {
                    return Err(failed(rtnetlink::Error::NetlinkError(e)));
                }
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(found)) => {
                    entry = Some(found);
                }
                _ => {}
            }
        }
        Ok(entry)
    }
}

impl Neighbour {
    pub(crate) fn from_message(message: &NeighbourMessage) -> Option<Self> {
        let mut address = None;
        let mut mac = None;
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => {
                    address = Some(IpAddr::V4(*v4));
                }
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
                    address = Some(IpAddr::V6(*v6));
                }
                NeighbourAttribute::LinkLayerAddress(bytes) => {
                    mac = bytes.as_slice().try_into().ok();
                }
                _ => {}
            }
        }
        Some(Self {
            ifindex: message.header.ifindex,
            address: address?,
            mac: mac.filter(|_| is_valid(message.header.state)),
            failed: message.header.state == NeighbourState::Failed,
            fixed: matches!(
                message.header.state,
                NeighbourState::Permanent | NeighbourState::Noarp
            ),
        })
    }
}

/// NUD_VALID of the kernel (include/net/neighbour.h): states in which the MAC address may be used.
fn is_valid(state: NeighbourState) -> bool {
    matches!(
        state,
        NeighbourState::Permanent
            | NeighbourState::Noarp
            | NeighbourState::Reachable
            | NeighbourState::Probe
            | NeighbourState::Stale
            | NeighbourState::Delay
    )
}

fn message_for(ifindex: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    let (family, address) = match address {
        IpAddr::V4(v4) => (AddressFamily::Inet, NeighbourAddress::Inet(v4)),
        IpAddr::V6(v6) => (AddressFamily::Inet6, NeighbourAddress::Inet6(v6)),
    };
    message.header.family = family;
    message.header.ifindex = ifindex;
    message.attributes.push(NeighbourAttribute::Destination(address));
    message
}

#[cfg(test)]
mod tests;
