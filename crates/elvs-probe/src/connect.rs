//! Sockets with the options of [`Target`], and what it is called when one cannot be had.
//!
//! **Invariant:** every socket is non-blocking, closed on exec and closed when dropped; a TCP socket closes with a
//! reset, so that ten thousand checks a second leave no `TIME_WAIT` behind.
//!
//! Called by every driver that talks to a server.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd as _};
use std::time::Duration;

use elvs_model::health::Target;
use nix::sys::socket::sockopt::{Ipv4RecvErr, Ipv6RecvErr};
use nix::sys::socket::{MsgFlags, recv, setsockopt};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use thiserror::Error;
use tokio::io::Interest;
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::words;

/// Why a check has no connection.
#[derive(Debug, Error)]
pub(crate) enum ConnectError {
    /// No socket.
    #[error("this host made no socket: {}", words::error(.0))]
    Socket(#[source] io::Error),
    /// `fwmark`.
    #[error("this host could not set fwmark {mark}: {}", words::error(.source))]
    Mark { mark: u32, source: io::Error },
    /// `bind_if`.
    #[error("this host could not bind to interface {name}: {}", words::error(.source))]
    Interface { name: String, source: io::Error },
    /// `bindto`, `bind_port`.
    #[error("this host could not bind to {address}: {}", words::error(.source))]
    Bind { address: SocketAddr, source: io::Error },
    /// The server, or the way there.
    #[error("{}", words::error(.0))]
    Refused(#[source] io::Error),
    /// `connect_timeout`.
    #[error("connect timed out after {}", words::time(*.0))]
    Timeout(Duration),
}

/// A TCP connection to the target.
///
/// # Errors
/// What stood in the way, within the target's timeout.
pub(crate) async fn tcp(target: &Target) -> Result<TcpStream, ConnectError> {
    let socket = prepared(target, Type::STREAM, Protocol::TCP)?;
    socket.set_linger(Some(Duration::ZERO)).map_err(ConnectError::Socket)?;
    socket.set_tcp_nodelay(true).map_err(ConnectError::Socket)?;
    let socket = TcpSocket::from_std_stream(socket.into());
    match timeout(target.timeout, socket.connect(target.address)).await {
        Ok(connected) => connected.map_err(ConnectError::Refused),
        Err(_elapsed) => Err(ConnectError::Timeout(target.timeout)),
    }
}

/// A UDP socket connected to the target, so that ICMP errors about it are errors of the socket.
///
/// # Errors
/// What stood in the way.
pub(crate) fn udp(target: &Target) -> Result<UdpSocket, ConnectError> {
    let socket = prepared(target, Type::DGRAM, Protocol::UDP)?;
    want_icmp_errors(&socket, target.address).map_err(ConnectError::Socket)?;
    socket.connect(&SockAddr::from(target.address)).map_err(ConnectError::Refused)?;
    UdpSocket::from_std(socket.into()).map_err(ConnectError::Socket)
}

/// A socket with the mark, interface and source of the target.
///
/// # Errors
/// What stood in the way.
pub(crate) fn prepared(
    target: &Target,
    kind: Type,
    protocol: Protocol,
) -> Result<Socket, ConnectError> {
    let domain = Domain::for_address(target.address);
    let socket = Socket::new(domain, kind.nonblocking(), Some(protocol));
    let socket = socket.map_err(ConnectError::Socket)?;
    if target.mark != 0 {
        let mark = target.mark;
        socket.set_mark(mark).map_err(|source| ConnectError::Mark { mark, source })?;
    }
    if let Some(name) = &target.interface {
        socket
            .bind_device(Some(name.as_bytes()))
            .map_err(|source| ConnectError::Interface { name: name.clone(), source })?;
    }
    if let Some(address) = source(target) {
        // Checks that share a `bind_port` go to different servers, so their connections differ.
        socket.set_reuse_address(true).map_err(ConnectError::Socket)?;
        socket
            .bind(&SockAddr::from(address))
            .map_err(|source| ConnectError::Bind { address, source })?;
    }
    Ok(socket)
}

/// Makes errors of the socket of all ICMP errors, and not only of those that end a connection (ip(7), `IP_RECVERR`).
///
/// # Errors
/// The system's.
pub(crate) fn want_icmp_errors(socket: &impl AsFd, address: SocketAddr) -> io::Result<()> {
    let set = match address {
        SocketAddr::V4(_) => setsockopt(socket, Ipv4RecvErr, &true),
        SocketAddr::V6(_) => setsockopt(socket, Ipv6RecvErr, &true),
    };
    Ok(set?)
}

/// Receives a datagram, or the error that the socket has: an ICMP error makes a socket erroneous, but not readable.
///
/// # Errors
/// The socket's.
pub(crate) async fn datagram(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<usize> {
    let either = Interest::READABLE | Interest::ERROR;
    let receive = || Ok(recv(socket.as_raw_fd(), buffer, MsgFlags::empty())?);
    socket.async_io(either, receive).await
}

/// Where to connect from, if it matters.
fn source(target: &Target) -> Option<SocketAddr> {
    let any = match target.address {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    (target.source.is_some() || target.source_port.is_some())
        .then(|| SocketAddr::new(target.source.unwrap_or(any), target.source_port.unwrap_or(0)))
}
