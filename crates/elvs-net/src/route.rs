//! Routes: what the kernel's routing decision for a destination is, and routes of our own making.
//!
//! **Invariant:** a [`Route`] is the kernel's answer for one destination, policy rules included; nothing is decided
//! here.
//!
//! Called by [`Netlink::next_hop`] and by the test bed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::TryStreamExt;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType, RouteVia,
};

use crate::netlink::{Netlink, NetlinkError};

/// How the kernel would send to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Whether the destination is the machine itself.
    pub local: bool,
    /// Interface the packet leaves by; `None` for a route that leads nowhere.
    pub ifindex: Option<u32>,
    /// Router to send to; `None` if the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Source address the kernel would choose.
    pub source: Option<IpAddr>,
    /// Path MTU of the route in bytes, if it sets one.
    pub mtu: Option<u32>,
}

impl Netlink {
    /// The kernel's routing decision for a destination (`ip route get`).
    ///
    /// # Errors
    /// [`NetlinkError::Refused`] with ENETUNREACH or EHOSTUNREACH when there is no route, EACCES for `prohibit`,
    /// EINVAL for `blackhole`.
    pub async fn route(&self, destination: IpAddr) -> Result<Route, NetlinkError> {
        let failed = |e| NetlinkError::of(e, "find a route to", destination);
        let mut request = RouteMessage::default();
        (request.header.address_family, request.header.destination_prefix_length) =
            match destination {
                IpAddr::V4(_) => (AddressFamily::Inet, 32),
                IpAddr::V6(_) => (AddressFamily::Inet6, 128),
            };
        request.attributes.push(RouteAttribute::Destination(destination.into()));
        let mut answers = std::pin::pin!(self.handle.route().get(request).execute());
        match answers.try_next().await.map_err(failed)? {
            Some(message) => Ok(Route::from_message(&message)),
            None => Err(NetlinkError::Unexpected {
                operation: "find a route to",
                answer: "nothing".to_owned(),
            }),
        }
    }

    /// Adds a route to `destination/prefix_len` through a gateway; length 0 makes it the default route.
    ///
    /// # Errors
    /// [`NetlinkError::Refused`] if the gateway is not reachable or the route exists.
    pub async fn add_route(
        &self,
        destination: IpAddr,
        prefix_len: u8,
        gateway: IpAddr,
    ) -> Result<(), NetlinkError> {
        let operation = "add a route to";
        let message = match (destination, gateway) {
            (IpAddr::V4(destination), IpAddr::V4(gateway)) => {
                RouteMessageBuilder::<Ipv4Addr>::new()
                    .destination_prefix(destination, prefix_len)
                    .gateway(gateway)
                    .build()
            }
            (IpAddr::V6(destination), IpAddr::V6(gateway)) => {
                RouteMessageBuilder::<Ipv6Addr>::new()
                    .destination_prefix(destination, prefix_len)
                    .gateway(gateway)
                    .build()
            }
            (IpAddr::V4(destination), IpAddr::V6(gateway)) => {
                RouteMessageBuilder::<Ipv4Addr>::new()
                    .destination_prefix(destination, prefix_len)
                    .via(gateway)
                    .build()
            }
            (IpAddr::V6(_), IpAddr::V4(_)) => {
                return Err(NetlinkError::Refused {
                    operation,
                    object: format!("{destination}/{prefix_len} via {gateway}"),
                    source: std::io::Error::from_raw_os_error(libc::EAFNOSUPPORT),
                });
            }
        };
        let added = self.handle.route().add(message).execute().await;
        added.map_err(|e| {
            NetlinkError::of(e, operation, format!("{destination}/{prefix_len} via {gateway}"))
        })
    }
}

impl Route {
    fn from_message(message: &RouteMessage) -> Self {
        let mut route = Self {
            local: message.header.kind == RouteType::Local,
            ifindex: None,
            gateway: None,
            source: None,
            mtu: None,
        };
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Oif(index) => route.ifindex = Some(*index),
                RouteAttribute::Gateway(address) => route.gateway = ip_of(address),
                RouteAttribute::Via(RouteVia::Inet(address)) => {
                    route.gateway = Some(IpAddr::V4(*address));
                }
                RouteAttribute::Via(RouteVia::Inet6(address)) => {
                    route.gateway = Some(IpAddr::V6(*address));
                }
                RouteAttribute::PrefSource(address) => route.source = ip_of(address),
                RouteAttribute::Metrics(metrics) => {
                    route.mtu = metrics.iter().find_map(|metric| match metric {
                        RouteMetric::Mtu(mtu) => Some(*mtu),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        route
    }
}

fn ip_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}
