//! `UDP_CHECK`: no ICMP error comes back, or a datagram does.
//!
//! **Invariant:** the whole check ends within `connect_timeout`.
//!
//! Called by [`crate::Prober`].

mod reply;

use std::io;

use elvs_model::health::{Finding, UdpCheck};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::{connect, words};

/// Runs the check once.
pub(crate) async fn run(check: &UdpCheck) -> Finding {
    let socket = match connect::udp(&check.target) {
        Ok(socket) => socket,
        Err(error) => return Finding::failed(error.to_string()),
    };
    let after = words::time(check.target.timeout);
    match timeout(check.target.timeout, exchange(&socket, check)).await {
        Ok(Ok(datagram)) => match reply::judge(check, &datagram) {
            Ok(()) => Finding::passed(format!("reply of {} bytes", datagram.len())),
            Err(mismatch) => Finding::failed(mismatch.to_string()),
        },
        Ok(Err(error)) => Finding::failed(words::error(&error)),
        Err(_elapsed) if check.require_reply => Finding::failed(format!("no reply within {after}")),
        Err(_elapsed) => Finding::passed(format!("no ICMP error within {after}")),
    }
}

/// Sends the payload and waits for a datagram, or for an error of the socket.
async fn exchange(socket: &UdpSocket, check: &UdpCheck) -> io::Result<Vec<u8>> {
    socket.send(check.payload.as_deref().unwrap_or(PAYLOAD)).await?;
    // One byte more than may come shows that more came.
    let mut buffer = vec![0; usize::from(check.max_length) + 1];
    let length = connect::datagram(socket, &mut buffer).await?;
    buffer.truncate(length);
    Ok(buffer)
}

/// What keepalived sends where no `payload` is given: 32 bytes of this.
const PAYLOAD: &[u8; 32] = b"keepalived check - keepalived ch";
