//! The bed carries native XDP: a frame that the director sends back by `XDP_TX` reaches the client through the bridge.
//!
//! Written in BPF instructions, so that a fault here is the bed's or the kernel's and not the data plane's.

#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail loudly"
)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use elvs_lab::{Topology, method};
use elvs_net::Netlink;
use elvs_net::bed::BedError;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike, bind, recv,
    send, setsockopt, socket,
};
use nix::sys::time::{TimeVal, TimeValLike};

/// IEEE 802: EtherType for local experiments; the program leaves all others alone.
const EXPERIMENT: u16 = 0x88b5;

#[test]
fn a_frame_sent_by_xdp_tx_comes_back_through_the_bridge() {
    let topology = Topology::new("xdp", method::DR, 1);
    let director = &topology.bed().director;
    let client = &topology.bed().client;
    let to = director.mac("eth0").unwrap().unwrap();
    let from = client.mac("eth0").unwrap().unwrap();

    let link = director.namespace.with_netlink(async |netlink: Netlink| {
        let ifindex = netlink.link("eth0").await?.ifindex;
        Ok::<_, BedError>(attach_native(ifindex).expect("native XDP on veth"))
    });
    let _link = link.unwrap();

    let received = client.namespace.with_netlink(async |netlink: Netlink| {
        let ifindex = netlink.link("eth0").await?.ifindex;
        Ok::<_, BedError>(echo(ifindex, from, to))
    });
    let (destination, payload) = received.unwrap();
    assert_eq!(destination, from, "sent back to the client");
    assert_eq!(payload, b"ping");
}

/// Sends a frame and returns destination and payload of the one that comes back.
fn echo(ifindex: u32, from: [u8; 6], to: [u8; 6]) -> ([u8; 6], Vec<u8>) {
    let socket =
        socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)
            .unwrap();
    setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(10)).unwrap();
    let raw = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: i32::try_from(ifindex).unwrap(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the pointer is to a whole sockaddr_ll that lives until the call returns.
    let address = unsafe {
        LinkAddr::from_raw((&raw const raw).cast(), Some(size_of_val(&raw) as libc::socklen_t))
    };
    bind(socket.as_raw_fd(), &address.unwrap()).unwrap();
    let mut frame = [to.as_slice(), &from, &EXPERIMENT.to_be_bytes(), b"ping"].concat();
    // The bridge may not have brought the ports up yet; the time limit of the socket ends a wait in vain.
    send(socket.as_raw_fd(), &frame, MsgFlags::empty()).unwrap();
    frame.resize(1514, 0);
    loop {
        let length = recv(socket.as_raw_fd(), &mut frame, MsgFlags::empty()).expect("the echo");
        let received = frame.get(..length).unwrap();
        let source = received.get(6..12).unwrap();
        if received.get(12..14).unwrap() == EXPERIMENT.to_be_bytes() && source == to {
            let destination = received.get(..6).unwrap().try_into().unwrap();
            return (destination, received.get(14..18).unwrap().to_vec());
        }
    }
}

/// `struct bpf_insn` (include/uapi/linux/bpf.h): opcode, registers (source high, destination low), offset, immediate.
#[repr(C)]
struct Instruction(u8, u8, i16, i32);

/// Swaps the MAC addresses of experimental frames and sends them back; passes all others.
const PROGRAM: [Instruction; 19] = [
    Instruction(0x61, 0x12, 0, 0),  // r2 = *(u32 *)(r1 + 0)     data
    Instruction(0x61, 0x13, 4, 0),  // r3 = *(u32 *)(r1 + 4)     data_end
    Instruction(0xbf, 0x24, 0, 0),  // r4 = r2
    Instruction(0x07, 0x04, 0, 14), // r4 += 14
    Instruction(0x2d, 0x34, 12, 0), // if r4 > r3 goto pass
    Instruction(0x69, 0x25, 12, 0), // r5 = *(u16 *)(r2 + 12)    EtherType
    Instruction(0x55, 0x05, 10, EXPERIMENT.to_be() as i32), // if r5 != EXPERIMENT goto pass
    Instruction(0x61, 0x25, 0, 0),  // r5 = *(u32 *)(r2 + 0)
    Instruction(0x69, 0x26, 4, 0),  // r6 = *(u16 *)(r2 + 4)
    Instruction(0x61, 0x27, 6, 0),  // r7 = *(u32 *)(r2 + 6)
    Instruction(0x69, 0x28, 10, 0), // r8 = *(u16 *)(r2 + 10)
    Instruction(0x63, 0x72, 0, 0),  // *(u32 *)(r2 + 0) = r7
    Instruction(0x6b, 0x82, 4, 0),  // *(u16 *)(r2 + 4) = r8
    Instruction(0x63, 0x52, 6, 0),  // *(u32 *)(r2 + 6) = r5
    Instruction(0x6b, 0x62, 10, 0), // *(u16 *)(r2 + 10) = r6
    Instruction(0xb7, 0x00, 0, 3),  // r0 = XDP_TX
    Instruction(0x95, 0x00, 0, 0),  // exit
    Instruction(0xb7, 0x00, 0, 2),  // pass: r0 = XDP_PASS
    Instruction(0x95, 0x00, 0, 0),  // exit
];

/// Loads the program and attaches it in the driver; it goes with the descriptor.
fn attach_native(ifindex: u32) -> io::Result<OwnedFd> {
    const BPF_PROG_LOAD: i64 = 5;
    const BPF_LINK_CREATE: i64 = 28;
    const BPF_PROG_TYPE_XDP: u32 = 6;
    const BPF_XDP: u32 = 37;
    const XDP_FLAGS_DRV_MODE: u32 = 4;

    /// The part of `union bpf_attr` that BPF_PROG_LOAD needs.
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
    }
    /// The part of `union bpf_attr` that BPF_LINK_CREATE needs.
    #[repr(C)]
    struct Create {
        program: u32,
        ifindex: u32,
        attach_type: u32,
        flags: u32,
    }

    let load = Load {
        kind: BPF_PROG_TYPE_XDP,
        count: PROGRAM.len() as u32,
        instructions: PROGRAM.as_ptr().expose_provenance() as u64,
        license: c"Dual MIT/GPL".as_ptr().expose_provenance() as u64,
    };
    let program = bpf(BPF_PROG_LOAD, &load)?;
    let create = Create {
        program: program.as_raw_fd().unsigned_abs(),
        ifindex,
        attach_type: BPF_XDP,
        flags: XDP_FLAGS_DRV_MODE,
    };
    bpf(BPF_LINK_CREATE, &create)
}

/// bpf(2) with a command that returns a descriptor.
fn bpf<T>(command: i64, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads as many bytes as it is told, and what they point to outlives the call.
    let fd =
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attributes, size_of::<T>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
