//! VLAN tags between a bed's switch and its director, for machines whose kernel has no device for them.
//!
//! **Invariant:** of what passes, TCP and UDP only are tagged, towards the director; what comes from there goes on without
//! tags, and whatever of TCP or UDP had not the tags it should have is counted. Sockets and threads end with the
//! [`Tagger`].
//!
//! Called by the lab's tests.

use std::io;
use std::mem::size_of_val;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use elvs_model::ForwardingMethod;
use elvs_net::Netlink;
use elvs_net::bed::BedError;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike, bind, send,
    socket,
};

use crate::Topology;

/// VLAN tags, outermost first: Ethernet type and tag.
pub type Tags = &'static [(u16, u16)];

/// Threads that carry frames between the switch and the director.
#[derive(Debug)]
pub struct Tagger {
    counts: Arc<Counts>,
    /// Closed to end the threads.
    stop: Option<OwnedFd>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Counts {
    right: AtomicU64,
    wrong: AtomicU64,
}

impl Tagger {
    /// Packets of TCP and UDP that came from the director with the tags they should have, and without.
    pub fn counts(&self) -> (u64, u64) {
        (self.counts.right.load(Ordering::Relaxed), self.counts.wrong.load(Ordering::Relaxed))
    }
}

impl Drop for Tagger {
    fn drop(&mut self) {
        self.stop.take();
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the tagger broke");
        }
    }
}

impl Topology {
    /// Tags what the director gets, on each of its interfaces.
    ///
    /// # Panics
    /// If the kernel refuses a step.
    pub fn tagged(&self, tags: Tags) -> Tagger {
        let (stopped, stop) = nix::unistd::pipe().expect("a pipe");
        let (stopped, counts) = (Arc::new(stopped), Arc::new(Counts::default()));
        let outside = ("director", "eth0", "br0");
        let ports = match self.bed().plan.method {
            ForwardingMethod::Nat => vec![outside, ("director-eth1", "eth1", "br1")],
            ForwardingMethod::Dr | ForwardingMethod::Tun(_) | ForwardingMethod::FullNat => {
                vec![outside]
            }
        };
        let threads = ports.into_iter().map(|(port, interface, bridge)| {
            let (switch, director) = self.cut(port, interface, bridge);
            let (stopped, counts) = (Arc::clone(&stopped), Arc::clone(&counts));
            std::thread::spawn(move || carry(&switch, &director, &stopped, tags, &counts))
        });
        Tagger { threads: threads.collect(), counts, stop: Some(stop) }
    }

    /// Takes the port of one of the director's interfaces off its bridge; returns a socket on a cable to the bridge, and one on
    /// the port. Both ends of the port take two tags more than a full packet.
    fn cut(&self, port: &str, interface: &str, bridge: &str) -> (OwnedFd, OwnedFd) {
        let widened = self.bed().director.namespace.with_netlink(async |netlink: Netlink| {
            let index = netlink.link(interface).await?.ifindex;
            Ok::<_, BedError>(netlink.set_mtu(index, WITH_TAGS).await?)
        });
        widened.expect("a larger MTU of the director");
        let namespace = &self.bed().switch;
        let (near, far) = (format!("{bridge}-tag"), format!("{bridge}-end"));
        let sockets = namespace.with_netlink(async |netlink: Netlink| {
            let bridge = netlink.link(bridge).await?.ifindex;
            let port = netlink.link(port).await?.ifindex;
            let cable = netlink.add_veth(&near, &far, namespace).await?.ifindex;
            let end = netlink.link(&far).await?.ifindex;
            netlink.set_bridge(port, 0).await?;
            netlink.set_mtu(port, WITH_TAGS).await?;
            netlink.set_bridge(cable, bridge).await?;
            netlink.set_up(cable).await?;
            netlink.set_up(end).await?;
            Ok::<_, BedError>((raw(end), raw(port)))
        });
        sockets.expect("a cable into the switch")
    }
}

/// MTU with room for the tags, which Linux takes for a part of the packet.
const WITH_TAGS: u32 = 1_508;

/// A socket for all frames of an interface but those it sends itself, with their tags beside them.
pub(crate) fn raw(ifindex: u32) -> OwnedFd {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)
        .expect("a packet socket");
    let family = libc::sa_family_t::try_from(libc::AF_PACKET).expect("a family");
    let protocol = u16::try_from(libc::ETH_P_ALL).expect("a protocol").to_be();
    let address = libc::sockaddr_ll {
        sll_family: family,
        sll_protocol: protocol,
        sll_ifindex: i32::try_from(ifindex).expect("an index"),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = libc::socklen_t::try_from(size_of_val(&address)).expect("a length");
    // SAFETY: the pointer is to a whole sockaddr_ll that lives until the call returns.
    let address = unsafe { LinkAddr::from_raw((&raw const address).cast(), Some(length)) };
    bind(fd.as_raw_fd(), &address.expect("an address")).expect("an interface of its own");
    let promiscuous = libc::packet_mreq {
        mr_ifindex: i32::try_from(ifindex).expect("an index"),
        mr_type: u16::try_from(libc::PACKET_MR_PROMISC).expect("a type"),
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set(&fd, libc::PACKET_ADD_MEMBERSHIP, &promiscuous);
    set(&fd, libc::PACKET_IGNORE_OUTGOING, &1_i32);
    set(&fd, libc::PACKET_AUXDATA, &1_i32);
    fd
}

fn set<T>(fd: &OwnedFd, option: i32, value: &T) {
    let length = libc::socklen_t::try_from(size_of_val(value)).expect("a length");
    // SAFETY: the value is whole, of the length given, and lives until the call returns.
    let done = unsafe {
        let value = std::ptr::from_ref(value).cast();
        libc::setsockopt(fd.as_raw_fd(), libc::SOL_PACKET, option, value, length)
    };
    assert_eq!(done, 0, "packet socket option {option}: {}", io::Error::last_os_error());
}

/// Carries frames both ways until the other end of `stopped` is closed.
fn carry(switch: &OwnedFd, director: &OwnedFd, stopped: &OwnedFd, tags: Tags, counts: &Counts) {
    loop {
        let mut wanted = [switch.as_fd(), director.as_fd(), stopped.as_fd()]
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        poll(&mut wanted, PollTimeout::NONE).expect("poll");
        let [from_switch, from_director, stop] =
            wanted.map(|fd| fd.revents().is_some_and(|events| !events.is_empty()));
        if stop {
            return;
        }
        if from_switch && let Some((_, frame)) = receive(switch) {
            let tags = if is_transport(&frame) { tags } else { &[] };
            deliver(director, &with_tags(&frame, tags));
        }
        if from_director && let Some((outer, frame)) = receive(director) {
            let whole = with_tags(&frame, outer.as_slice());
            let bare = without_tags(&whole);
            if is_transport(&bare) {
                let right = whole == with_tags(&bare, tags);
                let count = if right { &counts.right } else { &counts.wrong };
                count.fetch_add(1, Ordering::Relaxed);
            }
            deliver(switch, &bare);
        }
    }
}

/// A full queue loses frames, as any switch does.
fn deliver(to: &OwnedFd, frame: &[u8]) {
    match send(to.as_raw_fd(), frame, MsgFlags::empty()) {
        Ok(_) | Err(nix::Error::EAGAIN | nix::Error::ENOBUFS) => {}
        Err(error) => panic!("sending {} bytes: {error}", frame.len()),
    }
}

/// Whether an untagged frame holds TCP or UDP.
fn is_transport(frame: &[u8]) -> bool {
    let protocol = match frame.get(12..14) {
        Some([0x08, 0x00]) => frame.get(23),
        Some([0x86, 0xdd]) => frame.get(20),
        _ => None,
    };
    matches!(protocol, Some(6 | 17))
}

fn with_tags(frame: &[u8], tags: &[(u16, u16)]) -> Vec<u8> {
    let (addresses, rest) = frame.split_at(12);
    let tags = tags.iter().flat_map(|(ethertype, tag)| [*ethertype, *tag]);
    let tags: Vec<u8> = tags.flat_map(u16::to_be_bytes).collect();
    [addresses, &tags, rest].concat()
}

fn without_tags(frame: &[u8]) -> Vec<u8> {
    let (addresses, mut rest) = frame.split_at(12);
    while let [0x81, 0x00, _, _, after @ ..] | [0x88, 0xa8, _, _, after @ ..] = rest {
        rest = after;
    }
    [addresses, rest].concat()
}

/// The outermost tag, which the kernel has taken off a frame, and the frame.
type Received = (Vec<(u16, u16)>, Vec<u8>);

fn receive(from: &OwnedFd) -> Option<Received> {
    let mut frame = vec![0_u8; 2_048];
    let mut control = [0_u64; 8];
    let mut part = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() };
    // SAFETY: all bytes 0 are a valid `msghdr`.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: the message points to buffers of the lengths it names, which live until the call returns.
    let received = unsafe { libc::recvmsg(from.as_raw_fd(), &raw mut message, 0) };
    let Ok(length) = usize::try_from(received) else {
        let error = io::Error::last_os_error();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "receiving a frame: {error}");
        return None;
    };
    frame.truncate(length);
    let mut tag = Vec::new();
    // SAFETY: the kernel has filled the message in.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    // SAFETY: the first header, which lies in the buffer, or null.
    if unsafe { header.as_ref() }.is_some_and(|header| header.cmsg_type == libc::PACKET_AUXDATA) {
        // SAFETY: as above; its data follow it.
        let data = unsafe { libc::CMSG_DATA(header) }.cast::<libc::tpacket_auxdata>();
        // SAFETY: a message of this type holds one of these, which may lie at any address.
        let data = unsafe { data.read_unaligned() };
        if data.tp_status & libc::TP_STATUS_VLAN_VALID != 0 {
            tag.push((data.tp_vlan_tpid, data.tp_vlan_tci));
        }
    }
    (length >= 14).then_some((tag, frame))
}
