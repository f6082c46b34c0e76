//! The director's cable, with a hand on it: frames are put on it and what the director sends is seen.
//!
//! **Invariant:** what the director sends goes on into the switch as it would without a [`Tap`]; frames that are put on
//! the cable reach the director in order.
//!
//! Called by the lab's tests that play connections without the stacks of clients.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use elvs_net::Netlink;
use elvs_net::bed::BedError;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send};

use crate::Topology;
use crate::tagger::raw;

/// Longest wait for a frame, in milliseconds.
const PATIENCE_MS: u16 = 10_000;
/// Bytes of an Ethernet header without tags.
const ETHERNET: usize = 14;

/// A socket on the switch's end of the director's `eth0`.
#[derive(Debug)]
pub struct Tap {
    socket: OwnedFd,
    /// Receiver and sender of frames to the director.
    addresses: [[u8; 6]; 2],
}

/// A TCP or UDP packet without tags and extension headers that the director sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// MAC address of whom it is for.
    pub receiver: [u8; 6],
    /// Protocol number.
    pub protocol: u8,
    /// Sender.
    pub source: SocketAddr,
    /// Receiver.
    pub destination: SocketAddr,
}

impl Topology {
    /// Taps the director's `eth0`; frames put on it come from the client's MAC address.
    ///
    /// # Panics
    /// If the kernel refuses a step.
    pub fn tap(&self) -> Tap {
        let socket = self.bed().switch.with_netlink(async |netlink: Netlink| {
            Ok::<_, BedError>(raw(netlink.link("director").await?.ifindex))
        });
        let mac = |host: &elvs_net::bed::Host| host.mac("eth0").expect("eth0").expect("a MAC");
        let addresses = [mac(&self.bed().director), mac(&self.bed().client)];
        Tap { socket: socket.expect("the director's port"), addresses }
    }
}

impl Tap {
    /// Puts an Ethernet frame on the cable; its MAC addresses are replaced.
    ///
    /// # Panics
    /// If the kernel refuses it.
    pub fn put(&self, frame: &[u8]) {
        let rest = frame.get(12..).expect("an Ethernet frame");
        let whole = [self.addresses.as_flattened(), rest].concat();
        let sent = send(self.socket.as_raw_fd(), &whole, MsgFlags::empty()).expect("a frame sent");
        assert_eq!(sent, whole.len(), "bytes of a frame sent");
    }

    /// The next TCP or UDP packet that the director sends.
    ///
    /// # Panics
    /// If none comes.
    pub fn next(&self) -> Sent {
        let mut buffer = [0; 2_048];
        loop {
            let mut wanted = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            let ready = poll(&mut wanted, PollTimeout::from(PATIENCE_MS)).expect("poll");
            assert_ne!(ready, 0, "waited {PATIENCE_MS} ms for a frame from the director");
            let length = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty());
            let length = length.expect("a frame from the director");
            let frame = buffer.get(..length).unwrap_or_default();
            if let Some(sent) = Sent::read(frame) {
                return sent;
            }
        }
    }
}

impl Sent {
    /// Reads a frame; `None` if it holds neither TCP nor UDP.
    fn read(frame: &[u8]) -> Option<Self> {
        let receiver = *frame.first_chunk()?;
        let packet = frame.get(ETHERNET..)?;
        let (protocol, header, source, destination): (_, _, IpAddr, IpAddr) =
            match frame.get(12..ETHERNET)? {
                [0x08, 0x00] => {
                    let address = |at| <[u8; 4]>::try_from(packet.get(at..at + 4)?).ok();
                    let header = usize::from(packet.first()? & 15) * 4;
                    (packet.get(9)?, header, address(12)?.into(), address(16)?.into())
                }
                [0x86, 0xdd] => {
                    let address = |at| <[u8; 16]>::try_from(packet.get(at..at + 16)?).ok();
                    (packet.get(6)?, 40, address(8)?.into(), address(24)?.into())
                }
                _ => return None,
            };
        let ports = packet.get(header..)?.first_chunk::<4>()?;
        let [a, b, c, d] = *ports;
        matches!(protocol, 6 | 17).then(|| Self {
            receiver,
            protocol: *protocol,
            source: (source, u16::from_be_bytes([a, b])).into(),
            destination: (destination, u16::from_be_bytes([c, d])).into(),
        })
    }
}
