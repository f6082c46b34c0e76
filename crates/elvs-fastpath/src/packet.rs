//! Reading a packet: Ethernet with up to two VLAN tags, IPv4, TCP and UDP.

use elvs_common::{AH, ESP, SCTP, TCP, UDP};

use crate::frame::Frame;
use crate::host::Host;
use crate::tcp::TcpFlags;

/// An IPv4 packet's addresses and where it lies. Addresses are as loaded (network order in memory).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ipv4 {
    /// Offset of the IP header: 14, 18 or 22.
    pub(crate) offset: usize,
    /// Offset of what follows it.
    pub(crate) payload: usize,
    pub(crate) source: u32,
    pub(crate) destination: u32,
    pub(crate) protocol: u8,
    pub(crate) ttl: u8,
    /// Total length, bytes.
    pub(crate) length: u16,
    /// Whether it is a fragment, the first included.
    pub(crate) fragment: bool,
    /// Whether it is a fragment but the first: without ports.
    pub(crate) later: bool,
    /// Whether the header's own lengths contradict each other or the frame.
    pub(crate) malformed: bool,
}

/// Ports of TCP, UDP or SCTP, and what a packet does to its connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transport {
    /// Source port (low half), destination port (high half), as loaded.
    pub(crate) ports: u32,
    /// TCP flags; what SCTP's chunks say ([`crate::sctp`]); 0 for UDP.
    pub(crate) flags: TcpFlags,
}

impl Transport {
    #[inline(always)]
    pub(crate) const fn source_port(&self) -> u16 {
        (self.ports & 0xffff) as u16
    }

    #[inline(always)]
    pub(crate) const fn destination_port(&self) -> u16 {
        (self.ports >> 16) as u16
    }
}

pub(crate) const IPV4: u16 = 0x0800;
/// Ethernet type of IPv6.
pub(crate) const IPV6: u16 = 0x86dd;
const VLAN: u16 = 0x8100;
const SERVICE_VLAN: u16 = 0x88a8;

/// "More fragments" and the offset in the IP header's seventh and eighth byte (RFC 791): 0 of a packet that is whole.
pub(crate) const FRAGMENT: u16 = 0x3fff;
/// The offset alone: 0 of the first fragment too.
pub(crate) const FRAGMENT_OFFSET: u16 = 0x1fff;
/// What lies in front of a frame's packet besides the two MAC addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    /// Offset of the packet: 14, 18 or 22.
    pub(crate) offset: usize,
    /// Ethernet type of the packet.
    pub(crate) ethertype: u16,
    /// Up to two VLAN tags with their Ethernet types, as loaded.
    tags: [u32; 2],
}

impl Link {
    #[inline(always)]
    pub(crate) fn read<F: Frame>(frame: &mut F) -> Option<Self> {
        let ethertype = u16::from_be(frame.half(12)?);
        if ethertype != VLAN && ethertype != SERVICE_VLAN {
            return Some(Self { offset: 14, ethertype, tags: [0; 2] });
        }
        let outer = frame.word(12)?;
        let ethertype = u16::from_be(frame.half(16)?);
        if ethertype != VLAN {
            return Some(Self { offset: 18, ethertype, tags: [outer, 0] });
        }
        let inner = frame.word(16)?;
        let ethertype = u16::from_be(frame.half(20)?);
        Some(Self { offset: 22, ethertype, tags: [outer, inner] })
    }

    /// Writes it in front of another packet at the same offset, `offset`.
    #[inline(always)]
    pub(crate) fn write<F: Frame>(
        &self,
        frame: &mut F,
        offset: usize,
        addresses: [u8; 12],
        ethertype: u16,
    ) -> Option<()> {
        let [outer, inner] = self.tags;
        *frame.window::<12>(0)? = addresses;
        if offset >= 18 {
            *frame.window::<4>(12)? = outer.to_ne_bytes();
        }
        if offset >= 22 {
            *frame.window::<4>(16)? = inner.to_ne_bytes();
        }
        let [e0, e1] = ethertype.to_be_bytes();
        match offset {
            14 => *frame.window::<2>(12)? = [e0, e1],
            18 => *frame.window::<2>(16)? = [e0, e1],
            _ => *frame.window::<2>(20)? = [e0, e1],
        }
        Some(())
    }
}

/// What a frame looks like at first sight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// IPv4 without VLAN tags and options.
    Plain,
    /// IPv4 with options, or anything with VLAN tags.
    General,
    /// IPv6.
    Wide,
    /// Something else.
    Other,
}

/// First sight of a frame.
#[inline(always)]
pub(crate) fn kind<F: Frame>(frame: &mut F) -> Kind {
    let Some([_, _, _, _, _, _, _, _, _, _, _, _, e0, e1, version_ihl, ..]) = frame.window::<34>(0)
    else {
        return Kind::Other;
    };
    if u16::from_ne_bytes([*e0, *e1]) == IPV4.to_be() && *version_ihl == 0x45 {
        return Kind::Plain;
    }
    match (u16::from_be_bytes([*e0, *e1]), *version_ihl) {
        (IPV4 | VLAN | SERVICE_VLAN, _) => Kind::General,
        (IPV6, _) => Kind::Wide,
        _ => Kind::Other,
    }
}

/// Source and destination of a frame of kind [`Kind::Plain`].
#[inline(always)]
pub(crate) fn plain_addresses<F: Frame>(frame: &mut F) -> Option<(u32, u32)> {
    let [s0, s1, s2, s3, d0, d1, d2, d3] = *frame.window::<8>(26)?;
    Some((u32::from_ne_bytes([s0, s1, s2, s3]), u32::from_ne_bytes([d0, d1, d2, d3])))
}

/// Protocol of a frame of kind [`Kind::Plain`].
#[inline(always)]
pub(crate) fn plain_protocol<F: Frame>(frame: &mut F) -> Option<u8> {
    frame.window::<1>(23).map(|[protocol]| *protocol)
}

/// Whether the packet in a frame of kind [`Kind::Plain`] is a fragment.
#[inline(always)]
pub(crate) fn plain_is_fragment<F: Frame>(frame: &mut F) -> bool {
    frame.half(20).is_some_and(|half| half & FRAGMENT.to_be() != 0)
}

/// The IPv4 packet of a protocol in a frame of kind [`Kind::Plain`], where every offset is a constant; `None` of a
/// fragment, and of a header that contradicts the frame.
#[inline(always)]
pub(crate) fn parse_plain<F: Frame>(frame: &mut F, protocol: u8) -> Option<Ipv4> {
    let frame_length = frame.length();
    if frame.half(20)? & FRAGMENT.to_be() != 0 {
        return None;
    }
    let [_, _, l0, l1, _, _, _, _, ttl, _, _, _, s0, s1, s2, s3, d0, d1, d2, d3] =
        *frame.window::<20>(14)?;
    let length = u16::from_be_bytes([l0, l1]);
    if length < 20 || 14 + length as usize > frame_length {
        return None;
    }
    Some(Ipv4 {
        offset: 14,
        payload: 34,
        source: u32::from_ne_bytes([s0, s1, s2, s3]),
        destination: u32::from_ne_bytes([d0, d1, d2, d3]),
        protocol,
        ttl,
        length,
        fragment: false,
        later: false,
        malformed: false,
    })
}

/// The IPv4 packet in a frame; `None` if it holds something else or too little to tell its addresses.
#[inline(always)]
pub(crate) fn parse_ipv4<H: Host, F: Frame>(host: &H, frame: &mut F) -> Option<Ipv4> {
    match ip_start(host, frame)? {
        (IPV4, offset) => parse_header(frame, offset),
        _ => None,
    }
}

/// Ethernet type after up to two VLAN tags, and offset of what follows it.
#[inline(always)]
pub(crate) fn ip_start<H: Host, F: Frame>(host: &H, frame: &mut F) -> Option<(u16, usize)> {
    let [.., e0, e1] = *frame.window::<14>(0)?;
    let mut ethertype = u16::from_be_bytes([e0, e1]);
    let mut offset = 14_u64;
    if ethertype == VLAN || ethertype == SERVICE_VLAN {
        let [_, _, e0, e1] = *frame.window::<4>(14)?;
        ethertype = u16::from_be_bytes([e0, e1]);
        offset = 18;
        if ethertype == VLAN {
            let [_, _, e0, e1] = *frame.window::<4>(18)?;
            ethertype = u16::from_be_bytes([e0, e1]);
            offset = 22;
        }
    }
    Some((ethertype, (host.forget(offset) & 0x1f) as usize))
}

#[inline(always)]
fn parse_header<F: Frame>(frame: &mut F, offset: usize) -> Option<Ipv4> {
    let frame_length = frame.length();
    let [version_ihl, _, l0, l1, _, _, f0, f1, ttl, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] =
        *frame.window::<20>(offset)?;
    let header = ((version_ihl & 15) as usize) * 4;
    let length = u16::from_be_bytes([l0, l1]);
    if version_ihl >> 4 != 4 {
        return None;
    }
    Some(Ipv4 {
        offset,
        payload: offset + header,
        source: u32::from_ne_bytes([s0, s1, s2, s3]),
        destination: u32::from_ne_bytes([d0, d1, d2, d3]),
        protocol,
        ttl,
        length,
        fragment: u16::from_be_bytes([f0, f1]) & FRAGMENT != 0,
        later: u16::from_be_bytes([f0, f1]) & FRAGMENT_OFFSET != 0,
        malformed: header < 20
            || (length as usize) < header
            || offset + length as usize > frame_length,
    })
}

/// Ports and flags; `None` if the packet is too short for its protocol's header.
#[inline(always)]
pub(crate) fn parse_transport<F: Frame>(frame: &mut F, ip: &Ipv4) -> Option<Transport> {
    let length = ip.length as usize;
    let header = ip.payload - ip.offset;
    transport_at(frame, ip.protocol, ip.payload, header, length)
}

/// As [`parse_transport`], of a header at an offset: of a packet of `length` bytes, behind `header` bytes of it.
#[inline(always)]
pub(crate) fn transport_at<F: Frame>(
    frame: &mut F,
    protocol: u8,
    offset: usize,
    header: usize,
    length: usize,
) -> Option<Transport> {
    if protocol == TCP {
        if length < header + 20 {
            return None;
        }
        let [.., flags] = *frame.window::<14>(offset)?;
        Some(Transport { ports: frame.word(offset)?, flags: TcpFlags(flags) })
    } else {
        if length < header + 8 {
            return None;
        }
        Some(Transport { ports: frame.word(offset)?, flags: TcpFlags(0) })
    }
}

/// Whether a protocol is balanced by the table of IPv4 connections.
#[inline(always)]
pub(crate) const fn is_balanced(protocol: u8) -> bool {
    protocol == TCP || protocol == UDP
}

/// Whether the wide stages have packets of a protocol over IPv4 too.
#[inline(always)]
pub(crate) const fn is_wide_protocol(protocol: u8) -> bool {
    protocol == SCTP || protocol == AH || protocol == ESP
}
