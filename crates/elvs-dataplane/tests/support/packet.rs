//! A packet of either family by its fields: what [`Packet::read`] reads, [`Packet::build`] writes again, byte for byte.
//!
//! **Invariant:** nothing here calls the code under test; every checksum is computed in full, and reading a packet whose
//! checksums are wrong fails.

use std::net::{IpAddr, SocketAddr};

use elvs_common::{ICMP, ICMPV6, TCP, UDP};

/// MAC address of the director.
pub const DIRECTOR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 10];
/// MAC address that clients' frames come from.
pub const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// IPv6's extension headers.
pub const HOP_BY_HOP: u8 = 0;
pub const ROUTING: u8 = 43;
pub const FRAGMENT: u8 = 44;
pub const DESTINATION_OPTIONS: u8 = 60;

/// A frame with one packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub to_mac: [u8; 6],
    pub from_mac: [u8; 6],
    /// Ethernet type and tag, outermost first.
    pub vlans: Vec<(u16, u16)>,
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub protocol: u8,
    pub ttl: u8,
    /// Type of service, or traffic class.
    pub tos: u8,
    /// Flow label of IPv6.
    pub label: u32,
    /// Identification of IPv4 (16 bits), or of a fragment of IPv6.
    pub id: u32,
    /// Of IPv4.
    pub dont_fragment: bool,
    /// Offset in units of eight bytes, and whether more follow.
    pub fragment: Option<(u16, bool)>,
    /// Of IPv4, a multiple of four bytes.
    pub ip_options: Vec<u8>,
    /// Of IPv6, the fragment header apart, which comes last: number, and what follows the first byte, 8n+7 bytes.
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// TCP's sequence and acknowledgement numbers.
    pub numbers: [u32; 2],
    pub flags: u8,
    pub window: u16,
    /// A multiple of four bytes.
    pub tcp_options: Vec<u8>,
    /// Of IPv4.
    pub udp_checksum: bool,
    /// What follows the transport header; of fragments but the first and of other protocols what follows the IP header.
    pub payload: Vec<u8>,
    /// Bytes of the frame after the packet.
    pub padding: usize,
}

impl Packet {
    pub fn new(protocol: u8, from: SocketAddr, to: SocketAddr) -> Self {
        Self {
            to_mac: DIRECTOR_MAC,
            from_mac: GATEWAY_MAC,
            vlans: Vec::new(),
            from,
            to,
            protocol,
            ttl: 64,
            tos: 0,
            label: 0,
            id: if from.is_ipv4() { 0x1234 } else { 0 },
            dont_fragment: from.is_ipv4(),
            fragment: None,
            ip_options: Vec::new(),
            extensions: Vec::new(),
            numbers: if protocol == TCP { [1, 2] } else { [0; 2] },
            flags: 0,
            window: if protocol == TCP { 0xfaf0 } else { 0 },
            tcp_options: Vec::new(),
            udp_checksum: protocol == UDP,
            payload: Vec::new(),
            padding: 0,
        }
    }

    pub fn tcp(from: SocketAddr, to: SocketAddr, flags: u8) -> Self {
        Self { flags, ..Self::new(TCP, from, to) }
    }

    pub fn udp(from: SocketAddr, to: SocketAddr) -> Self {
        Self { payload: b"datagram".to_vec(), ..Self::new(UDP, from, to) }
    }

    /// An ICMP or ICMPv6 message.
    pub fn icmp(from: IpAddr, to: IpAddr, kind: u8, code: u8, rest: u32, quoted: &[u8]) -> Self {
        let protocol = if from.is_ipv4() { ICMP } else { ICMPV6 };
        let packet = Self::new(protocol, SocketAddr::new(from, 0), SocketAddr::new(to, 0));
        let mut payload = vec![kind, code, 0, 0];
        payload.extend(rest.to_be_bytes());
        payload.extend(quoted);
        let sum = if from.is_ipv4() { sum_of(&payload, 0) } else { packet.sum(&payload) };
        payload[2..4].copy_from_slice(&(!sum).to_be_bytes());
        Self { payload, dont_fragment: false, ..packet }
    }

    /// The same packet after a hop, to a MAC address from another.
    pub fn forwarded(&self, to_mac: [u8; 6], from_mac: [u8; 6]) -> Self {
        Self { to_mac, from_mac, ttl: self.ttl - 1, ..self.clone() }
    }

    fn has_header(&self) -> bool {
        self.fragment.is_none_or(|(offset, _)| offset == 0)
    }

    /// The frame.
    pub fn build(&self) -> Vec<u8> {
        let mut frame = [self.to_mac, self.from_mac].concat();
        for (ethertype, tag) in &self.vlans {
            frame.extend(ethertype.to_be_bytes());
            frame.extend(tag.to_be_bytes());
        }
        frame.extend(if self.from.is_ipv4() { [8, 0] } else { [0x86, 0xdd] });
        frame.extend(self.ip());
        frame.resize(frame.len() + self.padding, 0);
        frame
    }

    /// The packet without its Ethernet header.
    pub fn ip(&self) -> Vec<u8> {
        let body = self.body();
        match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let header = 20 + self.ip_options.len();
                let length = u16::try_from(header + body.len()).unwrap();
                let (offset, more) = self.fragment.unwrap_or_default();
                let flags =
                    u16::from(self.dont_fragment) << 14 | u16::from(more) << 13 | offset & 0x1fff;
                let mut packet = vec![0x40 | u8::try_from(header / 4).unwrap(), self.tos];
                packet.extend(length.to_be_bytes());
                packet.extend(u16::try_from(self.id).unwrap().to_be_bytes());
                packet.extend(flags.to_be_bytes());
                packet.extend([self.ttl, self.protocol, 0, 0]);
                packet.extend(from.octets());
                packet.extend(to.octets());
                packet.extend(&self.ip_options);
                let sum = !sum_of(&packet, 0);
                packet[10..12].copy_from_slice(&sum.to_be_bytes());
                packet.extend(body);
                packet
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let mut headers = self.extensions.clone();
                if let Some((offset, more)) = self.fragment {
                    let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
                    let mut rest = vec![0, high, low];
                    rest.extend(self.id.to_be_bytes());
                    headers.push((FRAGMENT, rest));
                }
                let (mut next, mut following) = (self.protocol, body);
                for (number, rest) in headers.iter().rev() {
                    following.splice(0..0, [&[next], &rest[..]].concat());
                    next = *number;
                }
                let first = 0x6000_0000 | u32::from(self.tos) << 20 | self.label;
                let mut packet = first.to_be_bytes().to_vec();
                packet.extend(u16::try_from(following.len()).unwrap().to_be_bytes());
                packet.extend([next, self.ttl]);
                packet.extend(from.octets());
                packet.extend(to.octets());
                packet.extend(following);
                packet
            }
            _ => panic!("families differ: {self:?}"),
        }
    }

    fn body(&self) -> Vec<u8> {
        if !self.has_header() || !matches!(self.protocol, TCP | UDP) {
            return self.payload.clone();
        }
        let mut segment = self.from.port().to_be_bytes().to_vec();
        segment.extend(self.to.port().to_be_bytes());
        let (at, needs_sum) = if self.protocol == TCP {
            segment.extend(self.numbers[0].to_be_bytes());
            segment.extend(self.numbers[1].to_be_bytes());
            let words = u8::try_from(5 + self.tcp_options.len() / 4).unwrap();
            segment.extend([words << 4, self.flags]);
            segment.extend(self.window.to_be_bytes());
            segment.extend([0; 4]);
            segment.extend(&self.tcp_options);
            (16, true)
        } else {
            segment.extend(u16::try_from(8 + self.payload.len()).unwrap().to_be_bytes());
            segment.extend([0; 2]);
            (6, self.udp_checksum)
        };
        segment.extend(&self.payload);
        if needs_sum {
            let sum = !self.sum(&segment);
            // RFC 768: a sum of 0 is sent as all ones.
            let sum = if self.protocol == UDP && sum == 0 { 0xffff } else { sum };
            segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        segment
    }

    /// Sum over a transport part and its pseudo header (RFC 9293 section 3.1, RFC 8200 section 8.1).
    fn sum(&self, segment: &[u8]) -> u16 {
        let mut pseudo = Vec::new();
        for end in [self.from, self.to] {
            match end.ip() {
                IpAddr::V4(address) => pseudo.extend(address.octets()),
                IpAddr::V6(address) => pseudo.extend(address.octets()),
            }
        }
        pseudo.extend(u32::try_from(segment.len()).unwrap().to_be_bytes());
        pseudo.extend([0, 0, 0, self.protocol]);
        sum_of(segment, sum_of(&pseudo, 0))
    }

    /// Reads a frame.
    pub fn read(frame: &[u8]) -> Self {
        let mut at = 12;
        let mut vlans = Vec::new();
        while !matches!(half(frame, at), 0x0800 | 0x86dd) {
            vlans.push((half(frame, at), half(frame, at + 2)));
            at += 4;
        }
        let packet = &frame[at + 2..];
        let read =
            if half(frame, at) == 0x0800 { Self::read_v4(packet) } else { Self::read_v6(packet) };
        let read = Self {
            to_mac: frame[..6].try_into().unwrap(),
            from_mac: frame[6..12].try_into().unwrap(),
            vlans,
            ..read
        };
        assert_eq!(read.build(), frame, "checksums and all else: {read:?}");
        read
    }

    fn read_v4(packet: &[u8]) -> Self {
        let header = usize::from(packet[0] & 15) * 4;
        let length = usize::from(half(packet, 2));
        let address = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&packet[at..at + 4]).unwrap());
        let flags = half(packet, 6);
        let fragment = (flags & 0x3fff != 0).then_some((flags & 0x1fff, flags & 0x2000 != 0));
        let ends = [address(12), address(16)];
        let read = Self::of_body(packet[9], ends, fragment, &packet[header..length]);
        Self {
            tos: packet[1],
            id: half(packet, 4).into(),
            dont_fragment: flags & 0x4000 != 0,
            ttl: packet[8],
            ip_options: packet[20..header].to_vec(),
            padding: packet.len() - length,
            ..read
        }
    }

    fn read_v6(packet: &[u8]) -> Self {
        let length = 40 + usize::from(half(packet, 4));
        let address = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).unwrap());
        let (mut protocol, mut at, mut fragment, mut id) = (packet[6], 40, None, 0);
        let mut extensions = Vec::new();
        while matches!(protocol, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS) {
            let units = if protocol == FRAGMENT { 1 } else { usize::from(packet[at + 1]) + 1 };
            let header = &packet[at..at + units * 8];
            if protocol == FRAGMENT {
                fragment = Some((half(header, 2) >> 3, header[3] & 1 != 0));
                id = u32::from_be_bytes(header[4..].try_into().unwrap());
            } else {
                extensions.push((protocol, header[1..].to_vec()));
            }
            protocol = header[0];
            at += units * 8;
        }
        let ends = [address(8), address(24)];
        let read = Self::of_body(protocol, ends, fragment, &packet[at..length]);
        let first = u32::from_be_bytes(packet[..4].try_into().unwrap());
        Self {
            tos: (first >> 20 & 0xff) as u8,
            label: first & 0xf_ffff,
            id,
            ttl: packet[7],
            extensions,
            padding: packet.len() - length,
            ..read
        }
    }

    fn of_body(
        protocol: u8,
        [from, to]: [IpAddr; 2],
        fragment: Option<(u16, bool)>,
        body: &[u8],
    ) -> Self {
        let later = fragment.is_some_and(|(offset, _)| offset != 0);
        let ports = !later && matches!(protocol, TCP | UDP);
        let port = |at| if ports { half(body, at) } else { 0 };
        let packet =
            Self::new(protocol, SocketAddr::new(from, port(0)), SocketAddr::new(to, port(2)));
        let packet = Self { fragment, udp_checksum: false, ..packet };
        if !ports {
            let (numbers, window) = ([0; 2], 0);
            return Self { numbers, window, payload: body.to_vec(), ..packet };
        }
        if protocol == UDP {
            let udp_checksum = half(body, 6) != 0;
            return Self { udp_checksum, payload: body[8..].to_vec(), ..packet };
        }
        let word = |at: usize| u32::from_be_bytes(body[at..at + 4].try_into().unwrap());
        let header = usize::from(body[12] >> 4) * 4;
        Self {
            numbers: [word(4), word(8)],
            flags: body[13],
            window: half(body, 14),
            tcp_options: body[20..header].to_vec(),
            payload: body[header..].to_vec(),
            ..packet
        }
    }
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Sum of RFC 1071, written down plainly.
pub fn sum_of(bytes: &[u8], start: u16) -> u16 {
    let mut sum = u64::from(start);
    for pair in bytes.chunks(2) {
        sum += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

/// An extension header of `units` eight bytes, filled with padding options (RFC 8200 section 4.2) or with zeros.
pub fn extension(number: u8, units: u8) -> (u8, Vec<u8>) {
    let mut rest = vec![units - 1];
    let mut room = usize::from(units) * 8 - 2;
    while number != ROUTING && room > 1 {
        let inner = (room - 2).min(253);
        rest.extend([1, u8::try_from(inner).unwrap()]);
        rest.resize(rest.len() + inner, 0);
        room -= inner + 2;
    }
    rest.resize(rest.len() + room, 0);
    (number, rest)
}
