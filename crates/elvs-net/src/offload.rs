//! Offloads of an interface, as `ethtool -K` sets them, in the calling thread's network namespace.
//!
//! **Invariant:** the answer of the device counts, not the request: [`set`] fails if the device did not follow.
//!
//! Called by the test bed. XDP sees a frame as the sender's stack left it: with checksum offload the checksum is
//! partial, with segmentation offload the frame is 64 KiB long; on veth nothing between the two completes them.

use std::io;
use std::os::fd::AsRawFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// An offload that can be switched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Offload {
    /// Transmit checksumming (`tx`).
    TxChecksum,
    /// TCP segmentation (`tso`).
    Tso,
    /// Generic segmentation (`gso`).
    Gso,
    /// Generic receive offload (`gro`). On veth it gives the interface a NAPI instance, without which frames that are
    /// redirected to the *other* end are dropped (drivers/net/veth.c, veth_xdp_xmit); for `XDP_TX` it is not enough.
    Gro,
}

/// Why an offload could not be read or switched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OffloadError {
    /// The name is no interface name.
    #[error("`{interface}` is no interface name: 1 to 15 bytes are allowed")]
    BadName {
        /// The name.
        interface: String,
    },
    /// The kernel refused.
    #[error("cannot {operation} offload {offload:?} of {interface}")]
    Refused {
        /// "read" or "set".
        operation: &'static str,
        /// Which one.
        offload: Offload,
        /// On which interface.
        interface: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel took the request, but the device keeps the old setting.
    #[error("{interface} keeps offload {offload:?} {}", if *on { "off" } else { "on" })]
    Kept {
        /// Which one.
        offload: Offload,
        /// On which interface.
        interface: String,
        /// What was asked for.
        on: bool,
    },
}

/// Switches an offload of an interface.
///
/// # Errors
/// [`OffloadError`], [`OffloadError::Kept`] if the device does not follow.
pub fn set(interface: &str, offload: Offload, on: bool) -> Result<(), OffloadError> {
    // A device that cannot change an offload refuses even what it already does.
    if is_on(interface, offload)? == on {
        return Ok(());
    }
    request(interface, offload, "set", offload.commands().set, u32::from(on))?;
    if is_on(interface, offload)? == on {
        return Ok(());
    }
    Err(OffloadError::Kept { offload, interface: interface.to_owned(), on })
}

/// Whether an offload of an interface is on.
///
/// # Errors
/// [`OffloadError`] if there is no such interface.
pub fn is_on(interface: &str, offload: Offload) -> Result<bool, OffloadError> {
    Ok(request(interface, offload, "read", offload.commands().get, 0)? != 0)
}

/// `struct ethtool_value` (include/uapi/linux/ethtool.h).
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

struct Commands {
    get: u32,
    set: u32,
}

impl Offload {
    /// ETHTOOL_G... and ETHTOOL_S... (include/uapi/linux/ethtool.h).
    const fn commands(self) -> Commands {
        match self {
            Self::TxChecksum => Commands { get: 0x16, set: 0x17 },
            Self::Tso => Commands { get: 0x1e, set: 0x1f },
            Self::Gso => Commands { get: 0x23, set: 0x24 },
            Self::Gro => Commands { get: 0x2b, set: 0x2c },
        }
    }
}

/// One SIOCETHTOOL request; returns the value the kernel left.
fn request(
    interface: &str,
    offload: Offload,
    operation: &'static str,
    command: u32,
    data: u32,
) -> Result<u32, OffloadError> {
    let refused = |source: io::Error| OffloadError::Refused {
        operation,
        offload,
        interface: interface.to_owned(),
        source,
    };
    let mut value = EthtoolValue { command, data };
    let mut name: [libc::c_char; libc::IFNAMSIZ] = [0; libc::IFNAMSIZ];
    if interface.is_empty() || interface.len() >= name.len() {
        return Err(OffloadError::BadName { interface: interface.to_owned() });
    }
    for (slot, byte) in name.iter_mut().zip(interface.bytes()) {
        *slot = libc::c_char::from_ne_bytes([byte]);
    }
    let mut ifreq = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: (&raw mut value).cast() },
    };
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .map_err(|e| refused(e.into()))?;
    // SAFETY: SIOCETHTOOL reads and writes the `ifreq` and, through its data pointer, an `ethtool_value` of 8 bytes;
    // both live in this frame for the whole call, and the descriptor is open.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut ifreq) };
    if result < 0 {
        return Err(refused(io::Error::last_os_error()));
    }
    Ok(value.data)
}
