//! Sockets that control packets come to: one for each family and port that an instance uses.
//!
//! **Invariant:** a datagram is handed on with its sender, its destination and its TTL as the kernel gives them.
//!
//! Called by the driver.

use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::task::Poll;

use elvs_health::bfd::Datagram;
use elvs_model::health::BfdInstance;
use elvs_wire::bfd::{MULTIHOP_PORT, SINGLE_HOP_PORT};
use nix::libc;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn,
    SockaddrIn6, SockaddrStorage, bind, recvmsg, setsockopt, socket, sockopt,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// The sockets, and why others are missing.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    open: BTreeMap<Port, UdpSocket>,
    closed: BTreeMap<Port, String>,
}

/// A UDP port of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Port {
    ipv6: bool,
    multihop: bool,
}

impl Port {
    const fn of(instance: &BfdInstance) -> Self {
        Self { ipv6: instance.neighbor.is_ipv6(), multihop: instance.multihop }
    }

    const fn number(self) -> u16 {
        if self.multihop { MULTIHOP_PORT } else { SINGLE_HOP_PORT }
    }

    /// A socket that is bound to it; to be called inside a runtime.
    fn open(self) -> io::Result<UdpSocket> {
        let family = if self.ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(family, SockType::Datagram, flags, SockProtocol::Udp)?;
        // Many neighbours may speak at once; without CAP_NET_ADMIN the kernel gives what it gives everybody.
        if setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).is_err() {
            setsockopt(&socket, sockopt::RcvBuf, &BUFFER)?;
        }
        if self.ipv6 {
            setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
            setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            let any = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, self.number(), 0, 0);
            bind(socket.as_raw_fd(), &SockaddrIn6::from(any))?;
        } else {
            setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
            let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, self.number());
            bind(socket.as_raw_fd(), &SockaddrIn::from(any))?;
        }
        UdpSocket::from_std(socket.into())
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UDP port {} of {}", self.number(), if self.ipv6 { "IPv6" } else { "IPv4" })
    }
}

/// A datagram with its circumstances.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received {
    bytes: [u8; LONGEST],
    length: usize,
    source: IpAddr,
    destination: Option<IpAddr>,
    multihop: bool,
    ttl: Option<u8>,
}

impl Received {
    /// As the sessions want it.
    pub(super) fn datagram(&self) -> Datagram<'_> {
        Datagram {
            bytes: self.bytes.get(..self.length).unwrap_or(&self.bytes),
            source: self.source,
            destination: self.destination,
            multihop: self.multihop,
            ttl: self.ttl,
        }
    }
}

impl Inbox {
    /// Has the sockets that these instances need, and no others. Returns the instances whose port cannot be opened, with
    /// the reason in words, unless that was said before.
    pub(super) fn open<'a>(
        &mut self,
        instances: impl Iterator<Item = &'a BfdInstance>,
    ) -> Vec<(String, String)> {
        let wanted: Vec<(Port, &str)> =
            instances.map(|instance| (Port::of(instance), instance.name.as_str())).collect();
        let is_wanted = |port: &Port| wanted.iter().any(|(other, _)| other == port);
        self.open.retain(|port, _| is_wanted(port));
        self.closed.retain(|port, _| is_wanted(port));
        let mut failed = Vec::new();
        let mut tried: BTreeMap<Port, Option<String>> = BTreeMap::new();
        for (port, name) in wanted {
            if self.open.contains_key(&port) {
                continue;
            }
            let news = tried.entry(port).or_insert_with(|| self.attempt(port));
            failed.extend(news.clone().map(|words| (name.to_owned(), words)));
        }
        failed
    }

    /// Opens a port; why not, unless that was said before.
    fn attempt(&mut self, port: Port) -> Option<String> {
        match port.open() {
            Ok(socket) => {
                self.open.insert(port, socket);
                self.closed.remove(&port);
                None
            }
            Err(error) => {
                let words = format!("cannot receive on {port}: {error}");
                let said = self.closed.insert(port, words.clone());
                (said.as_ref() != Some(&words)).then_some(words)
            }
        }
    }

    /// Ports that cannot be opened, each with the reason.
    pub(super) fn closed(&self) -> impl Iterator<Item = String> + '_ {
        self.closed.values().cloned()
    }

    /// Waits until something has come. May be cancelled.
    pub(super) async fn readable(&self) {
        poll_fn(|context| {
            let mut sockets = self.open.values();
            // An error is met, and told, by reading.
            if sockets.any(|socket| socket.poll_recv_ready(context).is_ready()) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// The next datagram that has come, if any.
    pub(super) fn receive(&self) -> Option<Received> {
        self.open.iter().find_map(|(port, socket)| {
            let read = || read(socket, port.multihop);
            match socket.try_io(Interest::READABLE, read) {
                Ok(received) => Some(received),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
                Err(error) => {
                    tracing::warn!("BFD cannot read from {port}: {error}");
                    None
                }
            }
        })
    }
}

/// Reads a datagram; what is longer than any control packet is cut.
fn read(socket: &UdpSocket, multihop: bool) -> io::Result<Received> {
    let mut bytes = [0; LONGEST];
    let mut space = nix::cmsg_space!(libc::in_pktinfo, libc::in6_pktinfo, libc::c_int);
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(&mut space), flags)?;
    let mut destination = None;
    let mut ttl = None;
    for control in message.cmsgs()? {
        #[expect(clippy::wildcard_enum_match_arm, reason = "nothing else was asked for")]
        match control {
            ControlMessageOwned::Ipv4Ttl(value) | ControlMessageOwned::Ipv6HopLimit(value) => {
                ttl = u8::try_from(value).ok();
            }
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                destination = Some(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)).into());
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                destination = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
            }
            _ => {}
        }
    }
    let sender = message.address.as_ref();
    let ipv4 = sender.and_then(|a| a.as_sockaddr_in()).map(|a| IpAddr::from(a.ip()));
    let ipv6 = || sender.and_then(|a| a.as_sockaddr_in6()).map(|a| IpAddr::from(a.ip()));
    let source = ipv4.or_else(ipv6).ok_or(io::ErrorKind::InvalidData)?;
    let length = message.bytes;
    Ok(Received { bytes, length, source, destination, multihop, ttl })
}

/// Bytes of the receive buffer: some 5,000 packets with what the kernel keeps beside each.
const BUFFER: usize = 4 << 20;
/// Beyond any control packet: 24 bytes, and 28 of the longest authentication section.
const LONGEST: usize = 64;
