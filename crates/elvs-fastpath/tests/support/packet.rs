//! Packets: made with right checksums, and read back with every checksum recomputed in full.

use std::net::{Ipv4Addr, SocketAddrV4};

use elvs_common::{TCP, UDP};
use elvs_fastpath::FlowKey;

use super::table::{CLIENT_GATEWAY, DIRECTOR_MAC};

/// FIN flag.
pub const FIN: u8 = 0x01;
/// SYN flag.
pub const SYN: u8 = 0x02;
/// RST flag.
pub const RST: u8 = 0x04;
/// ACK flag.
pub const ACK: u8 = 0x10;

/// An address as loaded from a packet.
pub fn ip(address: &str) -> u32 {
    let address: Ipv4Addr = address.parse().unwrap();
    u32::from_ne_bytes(address.octets())
}

/// A port as loaded from a packet.
pub const fn port(number: u16) -> u16 {
    number.to_be()
}

/// A packet to be made.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Sender.
    pub source: SocketAddrV4,
    /// Receiver.
    pub destination: SocketAddrV4,
    /// IP protocol number; TCP, UDP, or anything else for a packet without a header of its own.
    pub protocol: u8,
    /// TCP flags.
    pub flags: u8,
    /// Time to live.
    pub ttl: u8,
    /// Type of service.
    pub tos: u8,
    /// Identification.
    pub id: u16,
    /// Flags and fragment offset of the IP header.
    pub fragment: u16,
    /// IP options, a multiple of four bytes.
    pub options: Vec<u8>,
    /// What follows the TCP or UDP header.
    pub payload: Vec<u8>,
    /// VLAN tags, outermost first: Ethernet type and tag.
    pub vlans: Vec<(u16, u16)>,
    /// Whether UDP carries a checksum.
    pub udp_checksum: bool,
    /// Bytes after the packet that belong to the frame only.
    pub padding: usize,
}

impl Packet {
    /// A TCP segment.
    pub fn tcp(source: &str, destination: &str, flags: u8) -> Self {
        Self {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            protocol: TCP,
            flags,
            ttl: 64,
            tos: 0,
            id: 0x1234,
            fragment: 0x4000,
            options: Vec::new(),
            payload: Vec::new(),
            vlans: Vec::new(),
            udp_checksum: true,
            padding: 0,
        }
    }

    /// A UDP datagram.
    pub fn udp(source: &str, destination: &str) -> Self {
        let payload = b"datagram".to_vec();
        Self { protocol: UDP, flags: 0, payload, ..Self::tcp(source, destination, 0) }
    }

    /// Key of its connection, if it goes from client to service.
    pub fn key(&self) -> FlowKey {
        FlowKey::new(
            u32::from_ne_bytes(self.source.ip().octets()),
            u32::from_ne_bytes(self.destination.ip().octets()),
            port(self.source.port()),
            port(self.destination.port()),
            self.protocol,
        )
    }

    /// Key of its connection, if it is the reply of a real server behind NAT to a request to `service`.
    pub fn reply_key(&self, service: &str) -> FlowKey {
        let client = self.destination;
        let service = service.parse().unwrap();
        Self { source: client, destination: service, ..self.clone() }.key()
    }

    /// The frame.
    pub fn build(&self) -> Vec<u8> {
        let mut frame = [DIRECTOR_MAC, CLIENT_GATEWAY].concat();
        for (ethertype, tag) in &self.vlans {
            frame.extend(ethertype.to_be_bytes());
            frame.extend(tag.to_be_bytes());
        }
        frame.extend([8, 0]);
        frame.extend(self.ip_packet());
        frame.resize(frame.len() + self.padding, 0);
        frame
    }

    /// An ICMP message.
    pub fn icmp(
        source: &str,
        destination: &str,
        kind: u8,
        code: u8,
        rest: u32,
        quoted: &[u8],
    ) -> Self {
        let mut payload = vec![kind, code, 0, 0];
        payload.extend(rest.to_be_bytes());
        payload.extend(quoted);
        let sum = checksum(&[&payload]);
        payload[2..4].copy_from_slice(&sum.to_be_bytes());
        let ends = [source, destination].map(|address| format!("{address}:0"));
        Self { protocol: 1, fragment: 0, payload, ..Self::tcp(&ends[0], &ends[1], 0) }
    }

    /// The packet without its Ethernet header.
    pub fn ip_packet(&self) -> Vec<u8> {
        let transport = self.transport();
        let header = 20 + self.options.len();
        let length = u16::try_from(header + transport.len()).unwrap();
        let mut packet = vec![0x40 | u8::try_from(header / 4).unwrap(), self.tos];
        packet.extend(length.to_be_bytes());
        packet.extend(self.id.to_be_bytes());
        packet.extend(self.fragment.to_be_bytes());
        packet.extend([self.ttl, self.protocol, 0, 0]);
        packet.extend(self.source.ip().octets());
        packet.extend(self.destination.ip().octets());
        packet.extend(&self.options);
        let checksum = checksum(&[&packet]);
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        packet.extend(transport);
        packet
    }

    fn transport(&self) -> Vec<u8> {
        let mut segment = Vec::new();
        let at = match self.protocol {
            TCP => {
                segment.extend(self.source.port().to_be_bytes());
                segment.extend(self.destination.port().to_be_bytes());
                segment.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, self.flags, 0xfa, 0xf0, 0, 0, 0, 0]);
                16
            }
            UDP => {
                segment.extend(self.source.port().to_be_bytes());
                segment.extend(self.destination.port().to_be_bytes());
                segment.extend(u16::try_from(8 + self.payload.len()).unwrap().to_be_bytes());
                segment.extend([0, 0]);
                6
            }
            _ => return self.payload.clone(),
        };
        segment.extend(&self.payload);
        if self.protocol != UDP || self.udp_checksum {
            let ends = (*self.source.ip(), *self.destination.ip());
            let mut sum = transport_checksum(ends, self.protocol, &segment);
            if self.protocol == UDP && sum == 0 {
                sum = 0xffff;
            }
            segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        segment
    }
}

/// A packet as seen on the wire. Reading one panics unless all its checksums are right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// MAC address it goes to.
    pub destination_mac: [u8; 6],
    /// MAC address it comes from.
    pub source_mac: [u8; 6],
    /// VLAN tags with their Ethernet types, outermost first, and the Ethernet type of the packet.
    pub tags: Vec<u8>,
    /// Bytes of the IP header.
    pub header: Vec<u8>,
    /// What follows it.
    pub body: Vec<u8>,
    /// Bytes after the packet.
    pub padding: usize,
}

impl Seen {
    /// Reads a frame.
    pub fn read(frame: &[u8]) -> Self {
        let mut at = 12;
        while frame[at..at + 2] != [8, 0] {
            at += 4;
        }
        let packet = &frame[at + 2..];
        let header = usize::from(packet[0] & 15) * 4;
        let length = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
        let seen = Self {
            destination_mac: frame[..6].try_into().unwrap(),
            source_mac: frame[6..12].try_into().unwrap(),
            tags: frame[12..at + 2].to_vec(),
            header: packet[..header].to_vec(),
            body: packet[header..length].to_vec(),
            padding: packet.len() - length,
        };
        seen.check();
        seen
    }

    fn check(&self) {
        assert_eq!(checksum(&[&self.header]), 0, "IP checksum of {:02x?}", self.header);
        if self.header[6] & 0x3f != 0 || self.header[7] != 0 {
            return;
        }
        let sum = transport_checksum(self.ends(), self.header[9], &self.body);
        match self.header[9] {
            1 => assert_eq!(checksum(&[&self.body]), 0, "ICMP checksum of {:02x?}", self.body),
            TCP => assert_eq!(sum, 0, "TCP checksum of {:02x?}", self.body),
            UDP if self.body[6..8] != [0, 0] => {
                assert_eq!(sum, 0, "UDP checksum of {:02x?}", self.body);
            }
            _ => {}
        }
    }

    fn ends(&self) -> (Ipv4Addr, Ipv4Addr) {
        let address = |at: usize| -> Ipv4Addr {
            <[u8; 4]>::try_from(&self.header[at..at + 4]).unwrap().into()
        };
        (address(12), address(16))
    }

    /// Sender.
    pub fn source(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.ends().0, u16::from_be_bytes([self.body[0], self.body[1]]))
    }

    /// Receiver.
    pub fn destination(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.ends().1, u16::from_be_bytes([self.body[2], self.body[3]]))
    }

    /// Time to live.
    pub fn ttl(&self) -> u8 {
        self.header[8]
    }

    /// The packet inside an IPIP packet; panics if it is none, or if the inner packet's checksums are wrong.
    pub fn inner(&self) -> Self {
        assert_eq!(self.header[9], 4, "IP protocol");
        let mut frame = [self.destination_mac, self.source_mac].concat();
        frame.extend([8, 0]);
        frame.extend(&self.body);
        Self::read(&frame)
    }
}

fn transport_checksum(ends: (Ipv4Addr, Ipv4Addr), protocol: u8, segment: &[u8]) -> u16 {
    let length = u16::try_from(segment.len()).unwrap().to_be_bytes();
    checksum(&[&ends.0.octets(), &ends.1.octets(), &[0, protocol], &length, segment])
}

/// RFC 1071, written down plainly; every part but the last has an even length.
pub(super) fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
    }
    !u16::try_from(sum).unwrap()
}
