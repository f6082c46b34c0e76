//! Reading a packet of either family: IPv6 with its extension headers, or IPv4.

use elvs_common::{SCTP, WideAddress};

use crate::frame::Frame;
use crate::host::Host;
use crate::packet::{IPV6, Transport, ip_start, parse_ipv4, transport_at};
use crate::sctp::parse_sctp;
use crate::tcp::TcpFlags;

/// A packet's addresses and where it lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WidePacket {
    /// Offset of the IP header: 14, 18 or 22.
    pub(crate) offset: usize,
    /// Offset of the transport header.
    pub(crate) payload: usize,
    pub(crate) source: WideAddress,
    pub(crate) destination: WideAddress,
    /// Protocol of the transport header.
    pub(crate) protocol: u8,
    /// Time to live or hop limit.
    pub(crate) ttl: u8,
    /// Bytes of the IP packet, its header included.
    pub(crate) length: u32,
    /// Whether it is IPv6.
    pub(crate) ipv6: bool,
    /// Whether it is a fragment, the first included.
    pub(crate) fragment: bool,
    /// Whether it is a fragment but the first: without ports.
    pub(crate) later: bool,
    /// Whether the header's own lengths contradict each other or the frame.
    pub(crate) malformed: bool,
}

/// Bytes of an IPv6 header.
pub(super) const HEADER: usize = 40;
/// Extension headers that are read over (RFC 8200 section 4.1 recommends an order with at most five of these).
const EXTENSIONS: u32 = 6;

/// Hop-by-hop options, routing, fragment and destination options (RFC 8200 section 4).
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// The packet in a frame; `None` if it holds something else or too little to tell its addresses.
#[inline(always)]
pub(crate) fn parse_wide<H: Host, F: Frame>(host: &H, frame: &mut F) -> Option<WidePacket> {
    let (ethertype, offset) = ip_start(host, frame)?;
    let found = if ethertype == IPV6 {
        parse_ipv6(frame, offset)?
    } else {
        let ip = parse_ipv4(host, frame)?;
        WidePacket {
            offset: ip.offset,
            payload: ip.payload,
            source: WideAddress::of_v4(ip.source),
            destination: WideAddress::of_v4(ip.destination),
            protocol: ip.protocol,
            ttl: ip.ttl,
            length: ip.length as u32,
            ipv6: false,
            fragment: ip.fragment,
            later: ip.later,
            malformed: ip.malformed,
        }
    };
    // One word, so that the kernel's verifier does not go on from each way through the headers by itself.
    let word = found.payload as u64
        | (found.protocol as u64) << 16
        | (found.fragment as u64) << 24
        | (found.malformed as u64) << 25
        | (found.ipv6 as u64) << 26
        | (found.later as u64) << 27
        | (found.length as u64) << 32;
    let word = host.forget(word);
    Some(WidePacket {
        payload: (word & 0x3fff) as usize,
        protocol: (word >> 16 & 0xff) as u8,
        fragment: word >> 24 & 1 != 0,
        malformed: word >> 25 & 1 != 0,
        ipv6: word >> 26 & 1 != 0,
        later: word >> 27 & 1 != 0,
        length: (word >> 32 & 0x1_ffff) as u32,
        ..found
    })
}

#[inline(always)]
fn parse_ipv6<F: Frame>(frame: &mut F, offset: usize) -> Option<WidePacket> {
    let frame_length = frame.length();
    let [version, _, _, _, l0, l1, next, ttl, addresses @ ..] = *frame.window::<HEADER>(offset)?;
    let (source, destination) = two_addresses(addresses);
    // Mapped addresses stand for IPv4 here, and are on no wire (RFC 4291 section 2.5.5.2).
    if version >> 4 != 6 || source.is_v4() || destination.is_v4() {
        return None;
    }
    let length = HEADER + u16::from_be_bytes([l0, l1]) as usize;
    let chain = walk::<false, F>(frame, next, offset + HEADER);
    let malformed = chain.cut || offset + length > frame_length || chain.end > offset + length;
    #[expect(clippy::cast_possible_truncation, reason = "at most 40 + 65535")]
    let length = length as u32;
    Some(WidePacket {
        offset,
        payload: chain.end,
        source,
        destination,
        protocol: chain.protocol,
        ttl,
        length,
        ipv6: true,
        fragment: chain.fragment,
        later: chain.later,
        malformed,
    })
}

/// Where the extension headers of an IPv6 packet lead.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    /// Offset of what follows them.
    pub(super) end: usize,
    /// Protocol of that.
    pub(super) protocol: u8,
    /// Whether there is a fragment header that means something.
    pub(super) fragment: bool,
    /// Whether it is that of a later fragment, behind which are no headers.
    pub(super) later: bool,
    /// Whether the frame ends before they do.
    pub(super) cut: bool,
}

/// Reads over the extension headers from an offset on, of which `next` is the first; up to the fragment header if
/// `TO_FRAGMENT`.
#[inline(always)]
pub(super) fn walk<const TO_FRAGMENT: bool, F: Frame>(
    frame: &mut F,
    next: u8,
    start: usize,
) -> Chain {
    let mut chain = Chain { end: start, protocol: next, fragment: false, later: false, cut: false };
    let mut extension = 0;
    while extension < EXTENSIONS {
        let protocol = chain.protocol;
        if protocol == HOP_BY_HOP || protocol == ROUTING || protocol == DESTINATION_OPTIONS {
            let Some([next, units, ..]) = frame.window::<8>(chain.end) else {
                chain.cut = true;
                break;
            };
            chain.protocol = *next;
            chain.end += (*units as usize + 1) * 8;
        } else if protocol == FRAGMENT && !TO_FRAGMENT {
            let Some([next, _, f0, f1, ..]) = frame.window::<8>(chain.end) else {
                chain.cut = true;
                break;
            };
            let place = u16::from_be_bytes([*f0, *f1]);
            chain.protocol = *next;
            chain.end += 8;
            // RFC 6946: an atomic fragment is a whole packet.
            chain.fragment |= place & 0xfff9 != 0;
            if place & 0xfff8 != 0 {
                chain.later = true;
                break;
            }
        } else {
            break;
        }
        extension += 1;
    }
    chain
}

/// Where the fragment header of an IPv6 packet lies.
#[inline(always)]
pub(super) fn fragment_header<F: Frame>(frame: &mut F, packet: &WidePacket) -> Option<usize> {
    let [_, _, _, _, _, _, next, _] = *frame.window::<8>(packet.offset)?;
    let chain = walk::<true, F>(frame, next, packet.offset + HEADER);
    (chain.protocol == FRAGMENT).then_some(chain.end)
}

/// Source and destination in their bytes.
#[inline(always)]
pub(super) const fn two_addresses(bytes: [u8; 32]) -> (WideAddress, WideAddress) {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, rest @ ..] = bytes;
    let source = WideAddress::of_bytes([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]);
    (source, WideAddress::of_bytes(rest))
}

/// Ports and flags; `None` if the packet is too short for its protocol's header.
#[inline(always)]
pub(crate) fn read_transport<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    packet: &mut WidePacket,
) -> Option<Transport> {
    let transport = parse_transport(frame, packet)?;
    // One word, so that the kernel's verifier does not go on for each protocol by itself.
    let flags = transport.flags.0 as u64;
    let word = host.forget(transport.ports as u64 | flags << 32 | (packet.protocol as u64) << 40);
    packet.protocol = (word >> 40 & 0xff) as u8;
    Some(Transport {
        ports: (word & 0xffff_ffff) as u32,
        flags: TcpFlags((word >> 32 & 0xff) as u8),
    })
}

#[inline(always)]
fn parse_transport<F: Frame>(frame: &mut F, packet: &WidePacket) -> Option<Transport> {
    let header = packet.payload - packet.offset;
    if packet.protocol == SCTP {
        return parse_sctp(frame, packet.payload, packet.length as usize - header);
    }
    transport_at(frame, packet.protocol, packet.payload, header, packet.length as usize)
}
