//! Changes of links, addresses, routes and neighbours as a stream of typed events.
//!
//! **Invariant:** no change is lost in silence: when the kernel had to drop notifications, [`Event::Lost`] says so and
//! the reader must read everything again.
//!
//! Called by the daemon, which keeps next hops true with it.

use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;
use futures::StreamExt;
use futures::stream::BoxStream;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use tokio::task::JoinHandle;

use crate::address::Address;
use crate::link::Link;
use crate::neighbour::Neighbour;
use crate::netlink::{Netlink, NetlinkError};

/// A change in the namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An interface appeared or changed.
    LinkChanged(Link),
    /// An interface went away.
    LinkRemoved {
        /// Its index.
        ifindex: u32,
    },
    /// An address was added or changed.
    AddressAdded(Address),
    /// An address was removed.
    AddressRemoved(Address),
    /// The routing table changed: next hops may be other ones now.
    RouteChanged,
    /// A neighbour entry appeared or changed.
    NeighbourChanged(Neighbour),
    /// A neighbour entry went away.
    NeighbourRemoved {
        /// Interface it was on.
        ifindex: u32,
        /// Its IP address.
        address: IpAddr,
    },
    /// The kernel dropped notifications because they were read too slowly: read everything again.
    Lost,
}

/// The stream that [`Netlink::watch`] returns; ends only when the socket fails.
pub struct Events {
    events: BoxStream<'static, Event>,
    driver: JoinHandle<()>,
}

impl Netlink {
    /// Watches the calling thread's network namespace from now on.
    ///
    /// Subscribe first and read the state afterwards, so that no change falls between the two.
    ///
    /// # Errors
    /// [`NetlinkError::Open`] if the kernel gives no socket.
    pub fn watch() -> Result<Events, NetlinkError> {
        let (connection, handle, messages) = rtnetlink::new_multicast_connection(&[
            MulticastGroup::Link,
            MulticastGroup::Neigh,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
        ])
        .map_err(NetlinkError::Open)?;
        let driver = tokio::spawn(connection);
        let events = messages.filter_map(move |(message, _)| {
            // The connection ends with its last handle, so the stream keeps this one.
            let _open = &handle;
            std::future::ready(Event::from_message(message))
        });
        Ok(Events { events: events.boxed(), driver })
    }
}

impl Event {
    fn from_message(message: NetlinkMessage<RouteNetlinkMessage>) -> Option<Self> {
        let message = match message.payload {
            NetlinkPayload::InnerMessage(message) => message,
            NetlinkPayload::Overrun(_) => return Some(Self::Lost),
            _ => return None,
        };
        match message {
            RouteNetlinkMessage::NewLink(m) => Some(Self::LinkChanged(Link::from_message(&m))),
            RouteNetlinkMessage::DelLink(m) => Some(Self::LinkRemoved { ifindex: m.header.index }),
            RouteNetlinkMessage::NewAddress(m) => Address::from_message(&m).map(Self::AddressAdded),
            RouteNetlinkMessage::DelAddress(m) => {
                Address::from_message(&m).map(Self::AddressRemoved)
            }
            RouteNetlinkMessage::NewRoute(_) | RouteNetlinkMessage::DelRoute(_) => {
                Some(Self::RouteChanged)
            }
            RouteNetlinkMessage::NewNeighbour(m) => {
                Neighbour::from_message(&m).map(Self::NeighbourChanged)
            }
            RouteNetlinkMessage::DelNeighbour(m) => Neighbour::from_message(&m)
                .map(|n| Self::NeighbourRemoved { ifindex: n.ifindex, address: n.address }),
            _ => None,
        }
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.events.poll_next_unpin(context)
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
