//! A wire between a client and a server on which a director could sit: it puts an option into TCP segments.
//!
//! **Invariant:** what passes the wire is what went in, except for the option that the test asked for, its padding, the
//! lengths and the checksums; namespaces, devices and the thread end with the [`Wire`].
//!
//! Called by the tests of a real server's side of FULLNAT. Both ends are TUN devices, so that every packet passes
//! through this process.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use elvs_net::bed::BedError;
use elvs_net::{Namespace, NamespaceGuard, Netlink};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::require_root;

/// The client's addresses.
pub const CLIENT: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(192, 0, 2, 1), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
/// The server's addresses.
pub const SERVER: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(192, 0, 2, 2), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2));

/// The client's segments that are marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segments {
    /// All.
    All,
    /// SYN only.
    Syn,
    /// Those with neither SYN nor data.
    Bare,
    /// Those with data.
    Data,
}

/// What the wire does to the client's segments.
#[derive(Clone, Debug)]
pub struct Mark {
    /// Which.
    pub segments: Segments,
    /// The bytes put in front of their options.
    pub option: Vec<u8>,
}

/// A client, a server and the wire.
#[derive(Debug)]
pub struct Wire {
    /// Where the client is.
    pub client: NamespaceGuard,
    /// Where the server is.
    pub server: NamespaceGuard,
    mark: Arc<Mutex<Option<Mark>>>,
    /// Closed to end the thread.
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Wire {
    /// Lays a wire.
    ///
    /// # Panics
    /// Without root or without TUN devices.
    pub fn new(name: &str) -> Self {
        require_root();
        let (client, client_tun) = end(&format!("elvs-lab-{name}-client"), CLIENT);
        let (server, server_tun) = end(&format!("elvs-lab-{name}-server"), SERVER);
        let mark = Arc::new(Mutex::new(None));
        let (stopped, stop) = nix::unistd::pipe().expect("a pipe");
        let thread = {
            let mark = Arc::clone(&mark);
            std::thread::spawn(move || carry(&client_tun, &server_tun, &stopped, &mark))
        };
        Self { client, server, mark, stop: Some(stop), thread: Some(thread) }
    }

    /// Marks segments from now on, or none.
    ///
    /// # Panics
    /// If the wire is broken.
    pub fn mark(&self, mark: Option<Mark>) {
        *self.mark.lock().expect("a whole wire") = mark;
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the wire broke");
        }
    }
}

/// A namespace whose only device leads into this process.
fn end(name: &str, addresses: (Ipv4Addr, Ipv6Addr)) -> (NamespaceGuard, File) {
    let _leftover_or_none = Namespace::delete(name);
    let namespace = Namespace::create(name).expect("a namespace");
    let tun = namespace.run(|| open_tun(DEVICE)).expect("the namespace").expect("a TUN device");
    let configured = namespace.with_netlink(async |netlink: Netlink| {
        for device in ["lo", DEVICE] {
            let index = netlink.link(device).await?.ifindex;
            netlink.set_up(index).await?;
        }
        let index = netlink.link(DEVICE).await?.ifindex;
        netlink.add_address(index, IpAddr::V4(addresses.0), 24).await?;
        netlink.add_address(index, IpAddr::V6(addresses.1), 64).await?;
        Ok::<_, BedError>(())
    });
    configured.expect("addresses");
    (namespace, tun)
}

/// Name of the device in both namespaces.
const DEVICE: &str = "tun0";

mod ioctl {
    nix::ioctl_write_ptr_bad!(tunsetiff, nix::libc::TUNSETIFF, nix::libc::ifreq);
}

/// Opens a TUN device of the calling thread's namespace, made for the caller alone.
pub(crate) fn open_tun(name: &str) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK)
        .open("/dev/net/tun")?;
    // SAFETY: all bytes 0 are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::try_from(from).map_err(io::Error::other)?;
    }
    // Both flags fit: they are 0x0001 and 0x1000.
    let flags = libc::c_short::try_from(libc::IFF_TUN | libc::IFF_NO_PI);
    request.ifr_ifru.ifru_flags = flags.map_err(io::Error::other)?;
    // SAFETY: the request is whole and lives as long as the call.
    unsafe { ioctl::tunsetiff(file.as_raw_fd(), &raw const request) }?;
    Ok(file)
}

/// Carries packets both ways until the other end of `stopped` is closed.
fn carry(mut client: &File, mut server: &File, stopped: &OwnedFd, mark: &Mutex<Option<Mark>>) {
    let mut buffer = vec![0; 65_536];
    loop {
        let mut wanted = [client.as_fd(), server.as_fd(), stopped.as_fd()]
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        poll(&mut wanted, PollTimeout::NONE).expect("poll");
        let [from_client, from_server, stop] =
            wanted.map(|fd| fd.revents().is_some_and(|events| !events.is_empty()));
        if stop {
            return;
        }
        if from_client && let Some(packet) = receive(&mut client, &mut buffer) {
            let mark = mark.lock().expect("a test that goes on").clone();
            let marked = mark.and_then(|mark| marked(packet, &mark));
            server.write_all(marked.as_deref().unwrap_or(packet)).expect("room for a packet");
        }
        if from_server && let Some(packet) = receive(&mut server, &mut buffer) {
            client.write_all(packet).expect("room for a packet");
        }
    }
}

fn receive<'a>(from: &mut &File, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    match from.read(buffer) {
        Ok(length) => buffer.get(..length),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(error) => panic!("reading a packet: {error}"),
    }
}

/// The packet with the option, if it is a TCP segment that shall have it and has room.
pub fn marked(packet: &[u8], mark: &Mark) -> Option<Vec<u8>> {
    let ip = match packet.first()? >> 4 {
        4 if *packet.get(9)? == TCP => usize::from(packet.first()? & 15) * 4,
        6 if *packet.get(6)? == TCP => 40,
        _ => return None,
    };
    let tcp = packet.get(ip..)?;
    let header = usize::from(tcp.get(12)? >> 4) * 4;
    let syn = tcp.get(13)? & 2 != 0;
    let data = tcp.len() > header;
    let wanted = match mark.segments {
        Segments::All => true,
        Segments::Syn => syn,
        Segments::Bare => !syn && !data,
        Segments::Data => data,
    };
    let room = mark.option.len().next_multiple_of(4);
    if !wanted || header + room > 60 {
        return None;
    }
    let mut new = packet.get(..ip + 20)?.to_vec();
    new.extend(&mark.option);
    new.resize(ip + 20 + room, NO_OPERATION);
    new.extend(packet.get(ip + 20..)?);
    *new.get_mut(ip + 12)? = u8::try_from(((header + room) / 4) << 4).ok()?;
    let whole = u16::try_from(new.len()).ok()?.to_be_bytes();
    if ip == 40 {
        let payload = u16::try_from(new.len() - 40).ok()?.to_be_bytes();
        new.get_mut(4..6)?.copy_from_slice(&payload);
    } else {
        new.get_mut(2..4)?.copy_from_slice(&whole);
        put_checksum(&mut new, 10, ip, 0)?;
    }
    put_transport_checksum(&mut new, ip)?;
    Some(new)
}

/// RFC 9293 section 3.1: over the pseudo header, too.
fn put_transport_checksum(packet: &mut [u8], ip: usize) -> Option<()> {
    let addresses = if packet.first()? >> 4 == 4 { 12..20 } else { 8..40 };
    let length = u64::try_from(packet.len() - ip).ok()?;
    let pseudo = sum(packet.get(addresses)?) + u64::from(TCP) + length;
    let (_, segment) = packet.split_at_mut_checked(ip)?;
    let end = segment.len();
    put_checksum(segment, 16, end, pseudo)
}

/// Puts the internet checksum (RFC 1071) of the first `end` bytes, and of what `more` stands for, into two of them.
fn put_checksum(bytes: &mut [u8], at: usize, end: usize, more: u64) -> Option<()> {
    bytes.get_mut(at..at + 2)?.fill(0);
    let mut total = sum(bytes.get(..end)?) + more;
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    let checksum = !u16::try_from(total).ok()?;
    bytes.get_mut(at..at + 2)?.copy_from_slice(&checksum.to_be_bytes());
    Some(())
}

fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks(2).map(|pair| match pair {
        [high, low] => u64::from(u16::from_be_bytes([*high, *low])),
        [high, ..] => u64::from(*high) << 8,
        [] => 0,
    });
    words.sum()
}

const TCP: u8 = 6;
/// Padding of one byte.
const NO_OPERATION: u8 = 1;

#[cfg(test)]
mod tests;
