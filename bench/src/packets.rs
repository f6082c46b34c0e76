//! The packets: their bytes, and where in them flows differ.

use std::net::IpAddr;

use elvs_common::{TCP, UDP};

use crate::services::{Setup, prefix_of, server, stranger};

/// Bytes of a frame: an Ethernet header, IPv6, TCP and a little payload. The wrapper has the same number.
pub const FRAME: usize = 80;
/// Port of every virtual service.
pub const VPORT: u16 = 80;
/// Port of a real server whose method can map it.
pub const RPORT: u16 = 8080;

const ETHERNET: usize = 14;
const IPV6_HEADER: usize = 40;
/// TCP flags.
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// Where a packet comes from and goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// From the client to the virtual address.
    Request,
    /// From the real server to the client, or to what the director put in its place.
    Reply,
    /// To an address that is no virtual one.
    Foreign,
}

/// A packet; the wrapper fills in what tells flows apart.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    protocol: u8,
    flags: u8,
    way: Way,
}

/// A client's first segment.
pub const FIRST: Packet = Packet { protocol: TCP, flags: SYN, way: Way::Request };
/// A client's further segment.
pub const SEGMENT: Packet = Packet { protocol: TCP, flags: ACK, way: Way::Request };
/// A real server's first segment.
pub const FIRST_REPLY: Packet = Packet { protocol: TCP, flags: SYN | ACK, way: Way::Reply };
/// A real server's further segment.
pub const REPLY: Packet = Packet { protocol: TCP, flags: ACK, way: Way::Reply };
/// A client's datagram.
pub const DATAGRAM: Packet = Packet { protocol: UDP, flags: 0, way: Way::Request };
/// A segment that is none of the director's business.
pub const FOREIGN: Packet = Packet { protocol: TCP, flags: ACK, way: Way::Foreign };

impl Packet {
    /// Whether it comes from the real server.
    pub fn is_reply(self) -> bool {
        self.way == Way::Reply
    }

    /// Where address and port lie that tell flows apart, as the wrapper numbers the places.
    pub fn place(self, setup: &Setup) -> u64 {
        u64::from(self.is_reply()) + if setup.wide { 2 } else { 0 }
    }

    /// The frame. Checksums are arbitrary: the director brings them up to date without verifying them.
    pub fn bytes(self, setup: &Setup) -> [u8; FRAME] {
        let local = self.is_reply() && setup.is_full_nat();
        let unset = prefix_of(setup.wide, if local { 2 } else { 0x64 });
        let (source, destination) = match self.way {
            Way::Request => (unset, setup.vip()),
            Way::Foreign => (unset, stranger(setup.wide)),
            Way::Reply => (server(setup.wide, 0), unset),
        };
        let (from, to) = if self.is_reply() { (setup.port(), 0) } else { (0, VPORT) };
        let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        bytes.extend(network_header(self.protocol, source, destination));
        let transport = FRAME - bytes.len();
        bytes.extend(from.to_be_bytes());
        bytes.extend(to.to_be_bytes());
        if self.protocol == UDP {
            bytes.extend(length_of(transport));
            bytes.extend([0x56, 0x78]);
        } else {
            bytes.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, self.flags, 1, 0, 0x56, 0x78, 0, 0]);
        }
        let mut frame = [0; FRAME];
        for (byte, value) in frame.iter_mut().zip(bytes) {
            *byte = value;
        }
        frame
    }
}

/// EtherType and IP header.
fn network_header(protocol: u8, source: IpAddr, destination: IpAddr) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let (IpAddr::V4(source), IpAddr::V4(destination)) = (source, destination) {
        bytes.extend([8, 0, 0x45, 0]);
        bytes.extend(length_of(FRAME - ETHERNET));
        bytes.extend([0, 0, 0x40, 0, 64, protocol, 0x12, 0x34]);
        bytes.extend(source.octets());
        bytes.extend(destination.octets());
    } else {
        bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        bytes.extend(length_of(FRAME - ETHERNET - IPV6_HEADER));
        bytes.extend([protocol, 64]);
        bytes.extend(octets6(source));
        bytes.extend(octets6(destination));
    }
    bytes
}

fn octets6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn length_of(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::{DATAGRAM, FIRST, REPLY};
    use crate::services::PLAIN;

    #[test]
    fn lengths_in_the_headers_are_those_of_the_frame() {
        let frame = DATAGRAM.bytes(&PLAIN);
        assert_eq!((frame[12..16].to_vec(), &frame[16..18]), (vec![8, 0, 0x45, 0], &[0, 66][..]));
        assert_eq!(&frame[36..40], [0, 80, 0, 46]);
        let frame = FIRST.bytes(&PLAIN.of_ipv6());
        assert_eq!(
            (&frame[12..15], &frame[18..22]),
            (&[0x86, 0xdd, 0x60][..], &[0, 26, 6, 64][..])
        );
        assert_eq!((&frame[56..58], frame[67]), (&[0, 80][..], 0x02));
    }

    #[test]
    fn what_tells_flows_apart_is_empty() {
        let (request, reply) = (FIRST.bytes(&PLAIN), REPLY.bytes(&PLAIN));
        assert_eq!(
            (FIRST.place(&PLAIN), &request[26..30], &request[34..36]),
            (0, &[0; 4][..], &[0; 2][..])
        );
        assert_eq!(
            (REPLY.place(&PLAIN), &reply[30..34], &reply[36..38]),
            (1, &[0; 4][..], &[0; 2][..])
        );
        let wide = PLAIN.of_ipv6();
        let (request, reply) = (FIRST.bytes(&wide), REPLY.bytes(&wide));
        assert_eq!(
            (FIRST.place(&wide), &request[34..38], &request[54..56]),
            (2, &[0; 4][..], &[0; 2][..])
        );
        assert_eq!(
            (REPLY.place(&wide), &reply[50..54], &reply[56..58]),
            (3, &[0; 4][..], &[0; 2][..])
        );
    }
}
