//! A program that passes every frame, for the far end of a veth pair whose near end sends by `XDP_TX`.
//!
//! **Invariant:** the program changes nothing and goes with the interface it is attached to.
//!
//! Called by the test bed. GRO gives that end a NAPI instance too, which is enough for redirected frames, but not for
//! `XDP_TX`: drivers/net/veth.c, veth_xdp_flush, wakes the far end only if that has a program (seen on Linux 6.18: the
//! frame stays in the ring until some other frame comes).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use rtnetlink::LinkUnspec;
use rtnetlink::packet_route::link::{LinkAttribute, LinkXdp};

use crate::netlink::{Netlink, NetlinkError};

impl Netlink {
    /// Attaches a program that passes every frame to an interface, in the driver.
    ///
    /// # Errors
    /// [`NetlinkError::Refused`] without CAP_BPF and CAP_NET_ADMIN, or if the driver has no native XDP.
    pub async fn pass_frames(&self, ifindex: u32) -> Result<(), NetlinkError> {
        let program = load().map_err(|source| NetlinkError::Refused {
            operation: "load a program for interface index",
            object: ifindex.to_string(),
            source,
        })?;
        let xdp = vec![LinkXdp::Fd(program.as_raw_fd()), LinkXdp::Flags(XDP_FLAGS_DRV_MODE)];
        let message = LinkUnspec::new_with_index(ifindex)
            .append_extra_attribute(LinkAttribute::Xdp(xdp))
            .build();
        self.change_link(message, "attach a program to interface index", ifindex).await
    }
}

/// `struct bpf_insn` (include/uapi/linux/bpf.h): opcode, registers, offset, immediate.
#[repr(C)]
struct Instruction(u8, u8, i16, i32);

/// `r0 = XDP_PASS; exit`
const PASS: [Instruction; 2] = [Instruction(0xb7, 0, 0, 2), Instruction(0x95, 0, 0, 0)];

/// The part of `union bpf_attr` that BPF_PROG_LOAD needs.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
}

fn load() -> io::Result<OwnedFd> {
    let load = Load {
        kind: BPF_PROG_TYPE_XDP,
        count: 2,
        instructions: address_of(PASS.as_ptr()),
        license: address_of(c"Dual MIT/GPL".as_ptr()),
    };
    // SAFETY: BPF_PROG_LOAD reads `size_of::<Load>()` bytes of `load`, and through its pointers two instructions and a
    // string that ends in 0; all of them outlive the call.
    let fd =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const load, size_of::<Load>()) };
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn address_of<T>(pointer: *const T) -> u64 {
    // A pointer is at most 64 bits wide wherever Linux has BPF.
    u64::try_from(pointer.expose_provenance()).unwrap_or_default()
}

/// include/uapi/linux/bpf.h
const BPF_PROG_LOAD: libc::c_long = 5;
/// include/uapi/linux/bpf.h
const BPF_PROG_TYPE_XDP: u32 = 6;
/// include/uapi/linux/if_link.h
const XDP_FLAGS_DRV_MODE: u32 = 4;
