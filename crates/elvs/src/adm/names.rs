//! Names of hosts and services.
//!
//! **Invariant:** parsing and printing reach the resolver only through [`Names`], so tests need neither DNS nor
//! `/etc/services`.
//!
//! Called by the argument reader (`-t www:http`) and by every listing without `-n`.

use std::ffi::{CStr, CString};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use dns_lookup::AddrInfoHints;
use elvs_model::Protocol;

/// Looks names up.
pub trait Names {
    /// First IPv4 address of a host.
    fn address_of(&self, host: &str) -> Option<Ipv4Addr>;
    /// Name of an address.
    fn host_of(&self, address: IpAddr) -> Option<String>;
    /// Port of a service name, host order.
    fn port_of(&self, service: &str, protocol: Protocol) -> Option<u16>;
    /// Service name of a port in host order.
    fn service_of(&self, port: u16, protocol: Protocol) -> Option<String>;
}

/// The C library's resolver: `/etc/hosts`, DNS, `/etc/services`, whatever `nsswitch.conf` says.
///
/// Its service look-ups share a static buffer of the C library: one thread only.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemNames;

impl Names for SystemNames {
    fn address_of(&self, host: &str) -> Option<Ipv4Addr> {
        // Asked for IPv4 alone, the C library answers as `gethostbyname` does: 127.0.0.1 for a name that `/etc/hosts`
        // has for ::1 only.
        let hints = AddrInfoHints {
            address: libc::AF_INET,
            socktype: libc::SOCK_STREAM,
            ..AddrInfoHints::default()
        };
        let mut found = dns_lookup::getaddrinfo(Some(host), None, Some(hints)).ok()?;
        found.find_map(|entry| match entry.ok()?.sockaddr.ip() {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        })
    }

    fn host_of(&self, address: IpAddr) -> Option<String> {
        let socket = SocketAddr::new(address, 0);
        let flags = libc::NI_NAMEREQD | libc::NI_NUMERICSERV;
        dns_lookup::getnameinfo(&socket, flags).ok().map(|(host, _)| host)
    }

    fn port_of(&self, service: &str, protocol: Protocol) -> Option<u16> {
        let name = CString::new(service).ok()?;
        // SAFETY: both arguments are NUL-terminated strings that outlive the call.
        let entry = unsafe { libc::getservbyname(name.as_ptr(), protocol_name(protocol).as_ptr()) };
        // SAFETY: the entry is null or points to the library's static entry, which nothing overwrites before the
        // port is copied: there is no other thread.
        let port = unsafe { entry.as_ref() }?.s_port;
        // The low 16 bits hold the port in network order.
        u16::try_from(port & 0xffff).ok().map(u16::from_be)
    }

    fn service_of(&self, port: u16, protocol: Protocol) -> Option<String> {
        let protocol = protocol_name(protocol);
        // SAFETY: the protocol is a NUL-terminated string that outlives the call.
        let entry = unsafe { libc::getservbyport(i32::from(port.to_be()), protocol.as_ptr()) };
        // SAFETY: as in `port_of`.
        let name = unsafe { entry.as_ref() }?.s_name;
        // SAFETY: an entry's name is a NUL-terminated string in the same static buffer.
        let name = unsafe { CStr::from_ptr(name) };
        Some(name.to_string_lossy().into_owned())
    }
}

/// Name of a protocol as `/etc/services` writes it.
const fn protocol_name(protocol: Protocol) -> &'static CStr {
    match protocol {
        Protocol::Tcp => c"tcp",
        Protocol::Udp => c"udp",
        Protocol::Sctp => c"sctp",
    }
}
