//! A packet socket: frames out by any interface, and of what comes in by any what a run may want to hear.
//!
//! **Invariant:** never blocks; what the filter does not name never leaves the kernel.
//!
//! Called by the prober. The socket stands before the IP stack, which would drop an answer from the VIP where the director
//! holds that address itself, and behind the director's XDP program, which passes what belongs to no connection.

use std::io;
use std::mem::{size_of, size_of_val, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::probe::{ARP, FIRST_NUMBER, IPV4, IPV6};

/// A packet socket of the network namespace in which it was opened (packet(7), cooked: without link header).
#[derive(Debug)]
pub(super) struct PacketSocket {
    socket: AsyncFd<OwnedFd>,
}

/// A packet that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Received {
    /// Its bytes, from the IP or ARP header on.
    pub(super) length: usize,
    pub(super) ethertype: u16,
    /// Who sent it on its link; zeros on a link without Ethernet addresses.
    pub(super) mac: [u8; 6],
}

impl PacketSocket {
    /// Opens the socket; needs CAP_NET_RAW and a tokio runtime.
    pub(super) fn open() -> io::Result<Self> {
        let kind = libc::SOCK_DGRAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: socket(2) takes no pointers. Protocol 0: nothing comes in before the filter is there.
        let socket = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        let filter = filter();
        let program = libc::sock_fprog {
            len: u16::try_from(filter.len()).map_err(io::Error::other)?,
            filter: filter.as_ptr().cast_mut(),
        };
        let fd = socket.as_raw_fd();
        set_option(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)?;
        set_option(fd, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1_i32)?;
        let every = link_address(0, ETH_P_ALL, [0; 6]);
        // SAFETY: bind(2) reads the address, which is whole and outlives the call.
        let bound = unsafe { libc::bind(fd, (&raw const every).cast(), ADDRESS_LENGTH) };
        if bound < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: an `OwnedFd` keeps its descriptor open, and the same, for as long as it lives.
        let socket = unsafe { AsyncFd::register(socket) }?;
        Ok(Self { socket })
    }

    /// Sends a packet to a MAC address by an interface.
    pub(super) async fn send(
        &self,
        ifindex: u32,
        mac: [u8; 6],
        ethertype: u16,
        packet: &[u8],
    ) -> io::Result<()> {
        let to = link_address(i32::try_from(ifindex).map_err(io::Error::other)?, ethertype, mac);
        self.socket
            .async_io(Interest::WRITABLE, |socket| {
                // SAFETY: sendto(2) reads the packet and the address, both whole and alive for the call.
                let sent = unsafe {
                    libc::sendto(
                        socket.as_raw_fd(),
                        packet.as_ptr().cast(),
                        packet.len(),
                        0,
                        (&raw const to).cast(),
                        ADDRESS_LENGTH,
                    )
                };
                if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
            })
            .await
    }

    /// Waits for a packet; one longer than the buffer is cut.
    pub(super) async fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        self.socket.async_io(Interest::READABLE, |socket| receive(socket, buffer)).await
    }
}

fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Received> {
    let mut from = link_address(0, 0, [0; 6]);
    let mut length = ADDRESS_LENGTH;
    // SAFETY: recvfrom(2) writes at most as many bytes as the buffer and the address have.
    let received = unsafe {
        libc::recvfrom(
            socket.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            0,
            (&raw mut from).cast(),
            &raw mut length,
        )
    };
    let Ok(length) = usize::try_from(received) else { return Err(io::Error::last_os_error()) };
    let [a, b, c, d, e, f, ..] = from.sll_addr;
    let mac = [a, b, c, d, e, f];
    Ok(Received { length, ethertype: u16::from_be(from.sll_protocol), mac })
}

fn set_option<T>(fd: RawFd, level: i32, option: i32, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of_val(value)).map_err(io::Error::other)?;
    // SAFETY: setsockopt(2) reads `length` bytes of the value, and for a filter the instructions it points to.
    let set = unsafe { libc::setsockopt(fd, level, option, (&raw const *value).cast(), length) };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn link_address(ifindex: i32, ethertype: u16, mac: [u8; 6]) -> libc::sockaddr_ll {
    // SAFETY: all bytes 0 are a valid `sockaddr_ll`.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = FAMILY;
    address.sll_protocol = ethertype.to_be();
    address.sll_ifindex = ifindex;
    address.sll_halen = 6;
    for (to, from) in address.sll_addr.iter_mut().zip(mac) {
        *to = from;
    }
    address
}

/// What is let through: ARP, neighbour advertisements, echo replies and ICMP errors, and TCP and UDP to a probe's port.
///
/// Classic BPF (Documentation/networking/filter.rst); offsets count from the network header.
fn filter() -> Vec<libc::sock_filter> {
    let ports = |load| [vec![load], accept_from(FIRST_NUMBER.into()), vec![REFUSE]].concat();
    // Echo reply; unreachable, time exceeded, parameter problem.
    let icmp = [vec![load(BYTE_BEHIND, 0)], accept(0), accept(3), accept(11), accept(12)].concat();
    let v4 = [
        // A later fragment has no ports.
        vec![
            load(HALF, 6),
            jump(JSET, 0x1fff, 0, 1),
            REFUSE,
            load(HEADER_LENGTH, 0),
            load(BYTE, 9),
        ],
        when(1, &[icmp, vec![REFUSE]].concat()),
        when(6, &ports(load(HALF_BEHIND, 2))),
        when(17, &ports(load(HALF_BEHIND, 2))),
        vec![REFUSE],
    ];
    // Errors are below 128; echo reply; neighbour advertisement.
    let errors = vec![jump(JGE, 128, 0, 1), REFUSE, ACCEPT];
    let icmp6 = [vec![load(BYTE, 40)], accept(129), accept(136), errors].concat();
    let v6 = [
        vec![load(BYTE, 6)],
        when(58, &icmp6),
        when(6, &ports(load(HALF, 42))),
        when(17, &ports(load(HALF, 42))),
        vec![REFUSE],
    ];
    [
        vec![load(WORD, ETHERTYPE)],
        accept(ARP.into()),
        when(IPV4.into(), &v4.concat()),
        when(IPV6.into(), &v6.concat()),
        vec![REFUSE],
    ]
    .concat()
}

/// Accepts the packet if the value read last is this one.
fn accept(value: u32) -> Vec<libc::sock_filter> {
    when(value, &[ACCEPT])
}

/// Accepts the packet if the value read last is this one or above.
fn accept_from(value: u32) -> Vec<libc::sock_filter> {
    vec![jump(JGE, value, 0, 1), ACCEPT]
}

/// Steps that follow only on this value; the last of them ends the program.
fn when(value: u32, steps: &[libc::sock_filter]) -> Vec<libc::sock_filter> {
    let beyond = u8::try_from(steps.len()).unwrap_or(u8::MAX);
    [&[jump(JEQ, value, 0, beyond)], steps].concat()
}

const fn load(code: u32, k: u32) -> libc::sock_filter {
    jump(code, k, 0, 0)
}

/// `yes` and `no` steps are left out.
const fn jump(code: u32, k: u32, yes: u8, no: u8) -> libc::sock_filter {
    #[expect(clippy::cast_possible_truncation, reason = "codes of classic BPF have 16 bits")]
    let code = code as u16;
    libc::sock_filter { code, jt: yes, jf: no, k }
}

const WORD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
const BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
/// Behind the IPv4 header.
const HALF_BEHIND: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_IND;
const BYTE_BEHIND: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_IND;
/// Four times the low half of a byte, as IPv4 has its header's length.
const HEADER_LENGTH: u32 = libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH;
const JEQ: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const JGE: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
const JSET: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
const ACCEPT: libc::sock_filter = load(libc::BPF_RET | libc::BPF_K, u32::MAX);
const REFUSE: libc::sock_filter = load(libc::BPF_RET | libc::BPF_K, 0);
/// SKF_AD_OFF + SKF_AD_PROTOCOL: the packet's Ethernet type.
const ETHERTYPE: u32 = 0xffff_f000;
/// ETH_P_ALL (include/uapi/linux/if_ether.h).
const ETH_P_ALL: u16 = 3;
/// `sll_family`.
const FAMILY: u16 = 17;
const _: () = assert!(FAMILY as i32 == libc::AF_PACKET);
/// Bytes of a `sockaddr_ll`.
const ADDRESS_LENGTH: libc::socklen_t = 20;
const _: () = assert!(size_of::<libc::sockaddr_ll>() == ADDRESS_LENGTH as usize);

#[cfg(test)]
mod tests;
