//! Attaching a program to an interface.
//!
//! **Invariant:** an XDP program that is not ours is never replaced; the mode that came about is reported.
//!
//! Called by the tables for the director, and for the programs of real servers.

use std::io;

use aya::programs::links::FdLink;
use aya::programs::tc::TcAttachOptions;
use aya::programs::xdp::XdpError;
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp};
use elvs_model::XdpMode;

use crate::backend::{AttachError, AttachedMode};

/// A program on an interface, for as long as this lives or its pin.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) link: FdLink,
    pub(crate) mode: AttachedMode,
}

/// Attaches a program: native first unless told otherwise, then generic.
pub(crate) fn attach_program(
    program: &mut Xdp,
    interface: &str,
    mode: XdpMode,
) -> Result<Attachment, AttachError> {
    let name = || interface.to_owned();
    let index = nix::net::if_::if_nametoindex(interface)
        .map_err(|_errno| AttachError::NoInterface { interface: name() })?;
    let modes: &[AttachedMode] = match mode {
        XdpMode::Auto => &[AttachedMode::Native, AttachedMode::Generic],
        XdpMode::Native => &[AttachedMode::Native],
        XdpMode::Generic => &[AttachedMode::Generic],
    };
    let mut refused = Vec::new();
    let mut last = AttachedMode::Native;
    for mode in modes {
        last = *mode;
        match attach_in(program, index, *mode) {
            Ok(link) => return Ok(Attachment { link, mode: *mode }),
            Err(error) => {
                let errno = errno_of(&error);
                if errno == Some(libc::EBUSY) || errno == Some(libc::EEXIST) {
                    return Err(AttachError::Foreign { interface: name() });
                }
                refused.push(format!("{}: {}", mode.name(), reason_of(&error)));
            }
        }
    }
    Err(AttachError::Refused { interface: name(), mode: last.name(), reason: refused.join("; ") })
}

/// Attaches the program that looks at what an interface sends, after those of others.
pub(crate) fn attach_egress(
    program: &mut SchedClassifier,
    interface: &str,
) -> Result<FdLink, AttachError> {
    let name = || interface.to_owned();
    nix::net::if_::if_nametoindex(interface)
        .map_err(|_errno| AttachError::NoInterface { interface: name() })?;
    let refused = |reason: String| AttachError::Egress { interface: name(), reason };
    let order = TcAttachOptions::TcxOrder(LinkOrder::default());
    let id = program
        .attach_with_options(interface, TcAttachType::Egress, order)
        .map_err(|error| refused(reason_of(&error)))?;
    let link = program.take_link(id).map_err(|error| refused(reason_of(&error)))?;
    link.try_into().map_err(|error: aya::programs::links::LinkError| refused(error.to_string()))
}

fn attach_in(program: &mut Xdp, index: u32, mode: AttachedMode) -> Result<FdLink, ProgramError> {
    let flags = match mode {
        AttachedMode::Native => aya::programs::XdpMode::Driver,
        AttachedMode::Generic => aya::programs::XdpMode::Skb,
    };
    let id = program.attach_to_if_index(index, flags)?;
    let link = program.take_link(id)?;
    link.try_into().map_err(|_error| {
        // The old way of attaching leaves nothing to pin, and is undone when the link is dropped.
        ProgramError::SyscallError(aya::sys::SyscallError {
            call: "bpf_link_create",
            io_error: io::Error::from_raw_os_error(libc::EINVAL),
        })
    })
}

/// The kernel's error number.
pub(super) fn errno_of(error: &ProgramError) -> Option<i32> {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return io.raw_os_error();
        }
        source = error.source();
    }
    None
}

fn reason_of(error: &ProgramError) -> String {
    if let ProgramError::SyscallError(error) = error {
        return error.io_error.to_string();
    }
    if let ProgramError::XdpError(XdpError::NetlinkError(error)) = error {
        return error.to_string();
    }
    error.to_string()
}
