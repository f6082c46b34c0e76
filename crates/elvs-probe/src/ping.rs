//! `PING_CHECK`: an echo request is answered.
//!
//! **Invariant:** the whole check ends within `connect_timeout`; a reply counts only from the server itself, to this
//! very request.
//!
//! Called by [`crate::Prober`].

mod echo;

use std::io::{self, ErrorKind};

use elvs_model::health::{Finding, PingCheck, Target};
use socket2::{Protocol, SockAddr, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use self::echo::{Echo, without_header};
use crate::connect::{self, ConnectError};
use crate::{Prober, words};

/// Runs the check once.
pub(crate) async fn run(prober: &Prober, check: &PingCheck) -> Finding {
    let (socket, raw) = match open(&check.target) {
        Ok(opened) => opened,
        Err(error) => return Finding::failed(error.to_string()),
    };
    let nonce = prober.nonce();
    let [.., a, b, c, d] = nonce.to_be_bytes();
    let echo = Echo {
        v6: check.target.address.is_ipv6(),
        identifier: raw.then_some(u16::from_be_bytes([a, b])),
        sequence: u16::from_be_bytes([c, d]),
        nonce,
    };
    let after = check.target.timeout;
    match timeout(after, exchange(socket, raw, &echo)).await {
        Ok(Ok(())) => Finding::passed("echo reply"),
        Ok(Err(error)) => Finding::failed(words::error(&error)),
        Err(_elapsed) => Finding::failed(format!("no echo reply within {}", words::time(after))),
    }
}

/// A socket for echoes, and whether it is a raw one: the kernel's own only where `net.ipv4.ping_group_range` has us.
fn open(target: &Target) -> Result<(Socket, bool), ConnectError> {
    // The port of such a socket would be the identifier.
    let target = Target { source_port: None, ..target.clone() };
    let protocol = if target.address.is_ipv4() { Protocol::ICMPV4 } else { Protocol::ICMPV6 };
    let (socket, raw) = match connect::prepared(&target, Type::DGRAM, protocol) {
        Err(ConnectError::Socket(error)) if error.kind() == ErrorKind::PermissionDenied => {
            (connect::prepared(&target, Type::RAW, protocol)?, true)
        }
        other => (other?, false),
    };
    connect::want_icmp_errors(&socket, target.address).map_err(ConnectError::Socket)?;
    // Of a connected socket only what comes from the server is received.
    socket.connect(&SockAddr::from(target.address)).map_err(ConnectError::Refused)?;
    Ok((socket, raw))
}

async fn exchange(socket: Socket, raw: bool, echo: &Echo) -> io::Result<()> {
    // Of a datagram socket of any protocol this type only sends and receives.
    let socket = UdpSocket::from_std(socket.into())?;
    socket.send(&echo.request()).await?;
    let mut buffer = [0; DATAGRAM];
    loop {
        let length = connect::datagram(&socket, &mut buffer).await?;
        let datagram = buffer.get(..length).unwrap_or_default();
        let message = if raw && !echo.v6 { without_header(datagram) } else { datagram };
        if echo.is_answered_by(message) {
            return Ok(());
        }
    }
}

/// Bytes of a reply that are read; those of ours are fewer, with any header.
const DATAGRAM: usize = 256;
