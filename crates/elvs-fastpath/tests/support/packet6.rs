//! IPv6 packets: made with right checksums, and read back with every checksum recomputed in full.

use std::net::{Ipv6Addr, SocketAddrV6};

use elvs_common::{ICMPV6, TCP, UDP, WideAddress};
use elvs_fastpath::{FlowKey, WideValue};

use super::packet::{checksum, port};
use super::table::{CLIENT_GATEWAY, DIRECTOR_MAC};

/// Hop-by-hop options header.
pub const HOP_BY_HOP: u8 = 0;
/// Routing header.
pub const ROUTING: u8 = 43;
/// Fragment header.
pub const FRAGMENT: u8 = 44;
/// Destination options header.
pub const DESTINATION_OPTIONS: u8 = 60;

/// An IPv6 packet to be made.
#[derive(Clone, Debug)]
pub struct Packet6 {
    /// Sender.
    pub source: SocketAddrV6,
    /// Receiver.
    pub destination: SocketAddrV6,
    /// Protocol of the transport header; TCP, UDP, or anything else for a packet without a header of its own.
    pub protocol: u8,
    /// TCP flags.
    pub flags: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Traffic class and flow label.
    pub flow: u32,
    /// Extension headers: number, and what follows the first byte, 8n+7 bytes.
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// What follows the TCP or UDP header.
    pub payload: Vec<u8>,
    /// VLAN tags, outermost first: Ethernet type and tag.
    pub vlans: Vec<(u16, u16)>,
    /// Bytes after the packet that belong to the frame only.
    pub padding: usize,
}

/// An extension header of `units` eight bytes, filled with padding options or with zeros.
pub fn extension(number: u8, units: u8) -> (u8, Vec<u8>) {
    let mut rest = vec![units - 1];
    let mut room = usize::from(units) * 8 - 2;
    if number == ROUTING {
        // Type 0 with no segments left, which receivers ignore.
        rest.resize(1 + room, 0);
    } else {
        // PadN options (RFC 8200 section 4.2).
        while room > 1 {
            let inner = (room - 2).min(253);
            rest.extend([1, u8::try_from(inner).unwrap()]);
            rest.resize(rest.len() + inner, 0);
            room -= inner + 2;
        }
        rest.resize(rest.len() + room, 0);
    }
    (number, rest)
}

/// A fragment header with an offset in eight bytes.
pub fn fragment(offset: u16, more: bool) -> (u8, Vec<u8>) {
    let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
    (FRAGMENT, vec![0, high, low, 0xde, 0xad, 0xbe, 0xef])
}

impl Packet6 {
    /// A TCP segment.
    pub fn tcp(source: &str, destination: &str, flags: u8) -> Self {
        Self {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            protocol: TCP,
            flags,
            hop_limit: 64,
            flow: 0,
            extensions: Vec::new(),
            payload: Vec::new(),
            vlans: Vec::new(),
            padding: 0,
        }
    }

    /// A UDP datagram.
    pub fn udp(source: &str, destination: &str) -> Self {
        let payload = b"datagram".to_vec();
        Self { protocol: UDP, payload, ..Self::tcp(source, destination, 0) }
    }

    /// Key of its connection, if it goes from client to service.
    pub fn key(&self) -> FlowKey<WideValue> {
        FlowKey::wide(
            WideAddress::of_bytes(self.source.ip().octets()),
            WideAddress::of_bytes(self.destination.ip().octets()),
            port(self.source.port()),
            port(self.destination.port()),
            self.protocol,
        )
    }

    /// The frame.
    pub fn build(&self) -> Vec<u8> {
        let mut frame = [DIRECTOR_MAC, CLIENT_GATEWAY].concat();
        for (ethertype, tag) in &self.vlans {
            frame.extend(ethertype.to_be_bytes());
            frame.extend(tag.to_be_bytes());
        }
        frame.extend([0x86, 0xdd]);
        frame.extend(self.ip_packet());
        frame.resize(frame.len() + self.padding, 0);
        frame
    }

    /// An ICMPv6 message.
    pub fn icmp(
        source: &str,
        destination: &str,
        kind: u8,
        code: u8,
        rest: u32,
        quoted: &[u8],
    ) -> Self {
        let ends = [source, destination].map(|address| format!("[{address}]:0"));
        let packet = Self { protocol: ICMPV6, ..Self::tcp(&ends[0], &ends[1], 0) };
        let mut payload = vec![kind, code, 0, 0];
        payload.extend(rest.to_be_bytes());
        payload.extend(quoted);
        let ends = (*packet.source.ip(), *packet.destination.ip());
        let sum = pseudo_checksum(ends, ICMPV6, &payload);
        payload[2..4].copy_from_slice(&sum.to_be_bytes());
        Self { payload, ..packet }
    }

    /// The packet without its Ethernet header.
    pub fn ip_packet(&self) -> Vec<u8> {
        let mut following = Vec::new();
        let mut next = self.protocol;
        // From the last header to the first: each names the one after it.
        for (number, rest) in self.extensions.iter().rev() {
            following.splice(0..0, [&[next], &rest[..]].concat());
            next = *number;
        }
        following.extend(self.transport());
        let mut packet = (0x6000_0000 | self.flow).to_be_bytes().to_vec();
        packet.extend(u16::try_from(following.len()).unwrap().to_be_bytes());
        packet.extend([next, self.hop_limit]);
        packet.extend(self.source.ip().octets());
        packet.extend(self.destination.ip().octets());
        packet.extend(following);
        packet
    }

    fn transport(&self) -> Vec<u8> {
        let mut segment = self.source.port().to_be_bytes().to_vec();
        segment.extend(self.destination.port().to_be_bytes());
        let at = match self.protocol {
            TCP => {
                segment.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, self.flags, 0xfa, 0xf0, 0, 0, 0, 0]);
                16
            }
            UDP => {
                segment.extend(u16::try_from(8 + self.payload.len()).unwrap().to_be_bytes());
                segment.extend([0, 0]);
                6
            }
            _ => return self.payload.clone(),
        };
        segment.extend(&self.payload);
        let ends = (*self.source.ip(), *self.destination.ip());
        let mut sum = pseudo_checksum(ends, self.protocol, &segment);
        if self.protocol == UDP && sum == 0 {
            sum = 0xffff;
        }
        segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        segment
    }
}

/// An IPv6 packet as seen on the wire. Reading one panics unless its checksum is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen6 {
    /// MAC address it goes to.
    pub destination_mac: [u8; 6],
    /// MAC address it comes from.
    pub source_mac: [u8; 6],
    /// VLAN tags with their Ethernet types, outermost first, and the Ethernet type of the packet.
    pub tags: Vec<u8>,
    /// Bytes of the IPv6 header.
    pub header: Vec<u8>,
    /// Extension headers as they lie there.
    pub extensions: Vec<u8>,
    /// Protocol of what follows them.
    pub protocol: u8,
    /// What follows them.
    pub body: Vec<u8>,
    /// Bytes after the packet.
    pub padding: usize,
}

impl Seen6 {
    /// Reads a frame.
    pub fn read(frame: &[u8]) -> Self {
        let mut at = 12;
        while frame[at..at + 2] != [0x86, 0xdd] {
            at += 4;
        }
        let packet = &frame[at + 2..];
        let length = 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]]));
        let (mut protocol, mut end, mut whole) = (packet[6], 40, true);
        while matches!(protocol, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS) {
            let units = if protocol == FRAGMENT { 1 } else { usize::from(packet[end + 1]) + 1 };
            whole &= protocol != FRAGMENT || packet[end + 2] == 0 && packet[end + 3] & 0xf9 == 0;
            protocol = packet[end];
            end += units * 8;
        }
        let seen = Self {
            destination_mac: frame[..6].try_into().unwrap(),
            source_mac: frame[6..12].try_into().unwrap(),
            tags: frame[12..at + 2].to_vec(),
            header: packet[..40].to_vec(),
            extensions: packet[40..end].to_vec(),
            protocol,
            body: packet[end..length].to_vec(),
            padding: packet.len() - length,
        };
        if whole && matches!(protocol, TCP | UDP | ICMPV6) {
            let sum = pseudo_checksum(seen.ends(), protocol, &seen.body);
            assert_eq!(sum, 0, "checksum of protocol {protocol}: {:02x?}", seen.body);
        }
        seen
    }

    fn ends(&self) -> (Ipv6Addr, Ipv6Addr) {
        let address =
            |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&self.header[at..at + 16]).unwrap());
        (address(8), address(24))
    }

    /// Sender.
    pub fn source(&self) -> SocketAddrV6 {
        let port = u16::from_be_bytes([self.body[0], self.body[1]]);
        SocketAddrV6::new(self.ends().0, port, 0, 0)
    }

    /// Receiver.
    pub fn destination(&self) -> SocketAddrV6 {
        let port = u16::from_be_bytes([self.body[2], self.body[3]]);
        SocketAddrV6::new(self.ends().1, port, 0, 0)
    }
}

/// Checksum with the pseudo header of RFC 8200 section 8.1.
fn pseudo_checksum(ends: (Ipv6Addr, Ipv6Addr), protocol: u8, segment: &[u8]) -> u16 {
    let length = u32::try_from(segment.len()).unwrap().to_be_bytes();
    let (source, destination) = (ends.0.octets(), ends.1.octets());
    checksum(&[&source, &destination, &length, &[0, 0, 0, protocol], segment])
}
