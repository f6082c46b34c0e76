//! Which way replies come: counted at the client, by the MAC address that sent them.
//!
//! **Invariant:** it only listens; what it says does not depend on what the director says of itself.
//!
//! Called by the demo.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use elvs_net::bed::{Host, VIP};
use nix::errno::Errno;
use nix::sys::socket::sockopt::{RcvBufForce, ReceiveTimeout};
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
};
use nix::sys::time::{TimeVal, TimeValLike};

/// Counts the service's replies as the client receives them.
pub(super) struct Witness {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Replies, Errno>>,
}

/// Reply packets of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Replies {
    /// The director sent them.
    pub through_director: u64,
    /// Somebody else did: a real server.
    pub direct: u64,
}

impl Witness {
    /// Starts to count on the client.
    pub fn start(client: &Host, director: [u8; 6]) -> Result<Self> {
        // A socket stays in the namespace in which it was made.
        let socket =
            client.namespace.run(open)?.context("cannot listen to the client's packets")?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = thread::spawn(move || count(&socket, director, &stopping));
        Ok(Self { stop, thread })
    }

    /// Reads what has arrived until now and says what it was.
    pub fn finish(self) -> Result<Replies> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(replies) => replies.context("cannot listen to the client's packets"),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

fn open() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let protocol = SockProtocol::EthIp;
    let socket = socket(AddressFamily::Packet, SockType::Datagram, flags, protocol)?;
    setsockopt(&socket, RcvBufForce, &BUFFER_BYTES)?;
    setsockopt(&socket, ReceiveTimeout, &TimeVal::milliseconds(POLL_MS))?;
    Ok(socket)
}

/// Counts until nothing comes any more after `stop`.
fn count(socket: &OwnedFd, director: [u8; 6], stop: &AtomicBool) -> Result<Replies, Errno> {
    let mut replies = Replies::default();
    let mut packet = [0; 64];
    loop {
        // Asked before the read, so that what arrived before `finish` is read.
        let last = stop.load(Ordering::Relaxed);
        match recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut packet) {
            Ok((length, sender)) => {
                if is_reply(packet.get(..length.min(packet.len())).unwrap_or_default()) {
                    let sender = sender.and_then(|address| address.addr());
                    if sender == Some(director) {
                        replies.through_director += 1;
                    } else {
                        replies.direct += 1;
                    }
                }
            }
            Err(Errno::EAGAIN) if last => return Ok(replies),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(e) => return Err(e),
        }
    }
}

/// Whether an IPv4 packet comes from the service's address.
fn is_reply(packet: &[u8]) -> bool {
    // RFC 791: the source address is the fourth word.
    let Some(Ok(source)) = packet.get(12..16).map(<[u8; 4]>::try_from) else {
        return false;
    };
    packet.first().is_some_and(|byte| byte >> 4 == 4) && Ipv4Addr::from(source) == VIP
}

/// Room for the packets of some thousand requests.
const BUFFER_BYTES: usize = 16 << 20;

/// How long a read waits before it asks whether to stop, milliseconds.
const POLL_MS: i64 = 50;

#[cfg(test)]
mod tests;
