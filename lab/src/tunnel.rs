//! A real server's tunnel device as the kernel's `tunl0` is one, for kernels that have none.
//!
//! **Invariant:** what comes out of the tunnel comes in by a device of its own, so that device's `rp_filter` applies; the
//! device and the thread end with the [`TunnelDevice`].
//!
//! Called by the tests of path checks. A raw socket takes IP in IP (RFC 2003), and a TUN device gets what was in it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::thread::JoinHandle;

use elvs_net::bed::{BedError, Host};
use elvs_net::{Netlink, sysctl};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::wire::open_tun;

/// Name of the device.
pub const TUNNEL: &str = "tunl9";

/// An IPIP device of a host.
#[derive(Debug)]
pub struct TunnelDevice {
    /// Closed to end the thread.
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl TunnelDevice {
    /// Makes the device on a host; its `rp_filter` is 0.
    ///
    /// # Panics
    /// Without root or without TUN devices.
    pub fn new(host: &Host) -> Self {
        let device = host.namespace.run(|| open_tun(TUNNEL)).expect("the namespace");
        let mut device = device.expect("a TUN device");
        let socket = host.namespace.run(ipip).expect("the namespace").expect("a raw socket");
        let configured = host.namespace.with_netlink(async |netlink: Netlink| {
            let index = netlink.link(TUNNEL).await?.ifindex;
            sysctl::set(&format!("net/ipv4/conf/{TUNNEL}/rp_filter"), "0")?;
            netlink.set_up(index).await?;
            Ok::<_, BedError>(())
        });
        configured.expect("a device that is up");
        let (stopped, stop) = nix::unistd::pipe().expect("a pipe");
        let thread = std::thread::spawn(move || unwrap(&mut device, &socket, &stopped));
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for TunnelDevice {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the tunnel broke");
        }
    }
}

/// A socket that gets every packet of IP in IP.
fn ipip() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: socket(2) takes no pointers.
    let socket = unsafe { libc::socket(libc::AF_INET, kind, libc::IPPROTO_IPIP) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) })
}

/// Takes outer headers off until the other end of `stopped` is closed.
fn unwrap(device: &mut File, socket: &OwnedFd, stopped: &OwnedFd) {
    let mut buffer = [0; 65_536];
    loop {
        let mut wait = [
            PollFd::new(socket.as_fd(), PollFlags::POLLIN),
            PollFd::new(stopped.as_fd(), PollFlags::POLLIN),
        ];
        poll(&mut wait, PollTimeout::NONE).expect("poll");
        let [ready, stop] = wait;
        if stop.any() == Some(true) {
            return;
        }
        if ready.any() == Some(true) {
            let length = nix::unistd::read(socket.as_fd(), &mut buffer).expect("a packet");
            let header = usize::from(buffer.first().map_or(0, |first| first & 15)) * 4;
            if let Some(inner) = buffer.get(header..length) {
                // What the kernel refuses is not a packet: it is dropped, as a tunnel device does.
                let _ = device.write(inner);
            }
        }
    }
}
