//! Sockets that control packets are sent from: one for each session, with a source port of its own.
//!
//! **Invariant:** a session keeps its source port while its endpoint stays the same (RFC 5881 section 4).
//!
//! Called by the driver.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU32;

use elvs_health::bfd::{Endpoint, SessionView};
use elvs_wire::bfd::{FIRST_SOURCE_PORT, MULTIHOP_PORT, SINGLE_HOP_PORT};
use nix::sys::socket::{setsockopt, sockopt};

use super::SessionReport;

/// The sockets.
#[derive(Debug)]
pub(super) struct Outbox {
    senders: BTreeMap<NonZeroU32, Sender>,
    /// Port that is tried next.
    port: u16,
}

#[derive(Debug)]
struct Sender {
    endpoint: Endpoint,
    socket: Option<UdpSocket>,
    sent: u64,
    unsent: u64,
    trouble: Option<String>,
}

impl Outbox {
    /// The seed says which port is tried first.
    pub(super) fn new(seed: u64) -> Self {
        let [low, high, ..] = seed.to_le_bytes();
        let port = FIRST_SOURCE_PORT | u16::from_le_bytes([low, high]);
        Self { senders: BTreeMap::new(), port }
    }

    /// Sends a packet; a failure is counted, kept for the view, and logged when it is news.
    pub(super) fn send(&mut self, session: NonZeroU32, endpoint: Endpoint, packet: &[u8]) {
        let sender = self.senders.entry(session).or_insert_with(|| Sender::new(endpoint));
        if sender.endpoint != endpoint {
            sender.endpoint = endpoint;
            sender.socket = None;
        }
        match sender.send(packet, &mut self.port) {
            Ok(()) => {
                sender.sent += 1;
                sender.trouble = None;
            }
            Err(error) => {
                sender.unsent += 1;
                let words = format!("cannot send to {}: {error}", endpoint.neighbor);
                if sender.trouble.as_ref() != Some(&words) {
                    tracing::warn!("BFD {words}");
                    sender.trouble = Some(words);
                }
            }
        }
    }

    /// Closes a session's socket.
    pub(super) fn close(&mut self, session: NonZeroU32) {
        self.senders.remove(&session);
    }

    /// A session with what is known of its packets.
    pub(super) fn report(&self, session: SessionView) -> SessionReport {
        let sender = self.senders.get(&session.discriminator);
        SessionReport {
            sent: sender.map_or(0, |sender| sender.sent),
            unsent: sender.map_or(0, |sender| sender.unsent),
            trouble: sender.and_then(|sender| sender.trouble.clone()),
            session,
        }
    }
}

impl Sender {
    const fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, socket: None, sent: 0, unsent: 0, trouble: None }
    }

    fn send(&mut self, packet: &[u8], port: &mut u16) -> io::Result<()> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => open(self.endpoint, port)?,
        };
        let to = if self.endpoint.multihop { MULTIHOP_PORT } else { SINGLE_HOP_PORT };
        let sent = socket.send_to(packet, (self.endpoint.neighbor, to));
        self.socket = Some(socket);
        sent.map(|_| ())
    }
}

/// A socket with the endpoint's source address and TTL, bound to the first free port from `port` on.
fn open(endpoint: Endpoint, port: &mut u16) -> io::Result<UdpSocket> {
    let any: IpAddr = match endpoint.neighbor {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let source = endpoint.source.unwrap_or(any);
    let socket = bind(source, port)?;
    socket.set_nonblocking(true)?;
    let ttl = i32::from(endpoint.ttl);
    match endpoint.neighbor {
        IpAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4Ttl, &ttl)?,
        IpAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6Ttl, &ttl)?,
    }
    Ok(socket)
}

pub(super) fn bind(source: IpAddr, port: &mut u16) -> io::Result<UdpSocket> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in FIRST_SOURCE_PORT..=u16::MAX {
        // The bits of the first port are those above the range, so or-ing stays within.
        let tried = *port;
        *port = FIRST_SOURCE_PORT | tried.wrapping_add(1);
        match UdpSocket::bind(SocketAddr::new(source, tried)) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
            done => return done,
        }
    }
    Err(last)
}
