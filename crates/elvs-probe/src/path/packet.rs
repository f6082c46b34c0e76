//! Packets that probes are made of, from the IP header on.
//!
//! **Invariant:** every packet bears its probe's number (the source port, or the echo's identifier) once more in its
//! identification or flow label, so an ICMP error that quotes no more than an IP header can be told whose it is.
//!
//! Called by [`super::probe`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use elvs_model::{TunnelChecksum, TunnelKind};
use etherparse::checksum::Sum16BitWords;
use etherparse::{
    IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, Ipv6Extensions, Ipv6FlowLabel, Ipv6Header,
    PacketBuilder, TcpOptionElement, UdpHeader,
};

/// Hops of what may have to pass routers.
pub(super) const FAR: u8 = 64;
/// Hops of what ends at the real server: if that does not have the address, it must not send the packet on.
pub(super) const NEAR: u8 = 1;

/// Both ends of a packet, its hop limit and its probe's number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) from: IpAddr,
    pub(super) to: IpAddr,
    pub(super) hops: u8,
    pub(super) number: u16,
}

impl Ends {
    /// The IP header; `None` if the ends are of different families.
    fn header(self) -> Option<IpHeaders> {
        match (self.from, self.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let (from, to) = (from.octets(), to.octets());
                let mut header = Ipv4Header::new(0, self.hops, IpNumber(0), from, to).ok()?;
                header.identification = self.number;
                header.dont_fragment = true;
                Some(IpHeaders::Ipv4(header, Ipv4Extensions::default()))
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let header = Ipv6Header {
                    flow_label: Ipv6FlowLabel::try_new(self.number.into()).ok()?,
                    hop_limit: self.hops,
                    source: from.octets(),
                    destination: to.octets(),
                    ..Ipv6Header::default()
                };
                Some(IpHeaders::Ipv6(header, Ipv6Extensions::default()))
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
        }
    }

    /// The packet with any payload.
    fn packet(self, protocol: IpNumber, payload: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        PacketBuilder::ip(self.header()?).write(&mut bytes, protocol, payload).ok()?;
        Some(bytes)
    }
}

/// A SYN from the probe's port with the sequence number `isn`.
pub(super) fn syn(ends: Ends, port: u16, isn: u32) -> Option<Vec<u8>> {
    let options = [TcpOptionElement::MaximumSegmentSize(1220)];
    let builder = PacketBuilder::ip(ends.header()?).tcp(ends.number, port, isn, WINDOW).syn();
    let mut bytes = Vec::new();
    builder.options(&options).ok()?.write(&mut bytes, &[]).ok()?;
    Some(bytes)
}

/// The reset that ends what a SYN opened; `sequence` is what the answer acknowledged.
pub(super) fn reset(ends: Ends, port: u16, sequence: u32) -> Option<Vec<u8>> {
    let builder = PacketBuilder::ip(ends.header()?).tcp(ends.number, port, sequence, 0).rst();
    let mut bytes = Vec::new();
    builder.write(&mut bytes, &[]).ok()?;
    Some(bytes)
}

/// An empty datagram from the probe's port.
pub(super) fn datagram(ends: Ends, port: u16) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    PacketBuilder::ip(ends.header()?).udp(ends.number, port).write(&mut bytes, &[]).ok()?;
    Some(bytes)
}

/// An echo request with the probe's number as identifier.
pub(super) fn echo(ends: Ends) -> Option<Vec<u8>> {
    let builder = PacketBuilder::ip(ends.header()?);
    let mut bytes = Vec::new();
    match ends.to {
        IpAddr::V4(_) => builder.icmpv4_echo_request(ends.number, 1).write(&mut bytes, &[]),
        IpAddr::V6(_) => builder.icmpv6_echo_request(ends.number, 1).write(&mut bytes, &[]),
    }
    .ok()?;
    Some(bytes)
}

/// What a real server refuses by an ICMP error, if it sends any: a packet of a protocol that no host has (253, RFC 3692), or
/// for GUE a datagram to a port that nobody listens at (IANA has given 1021 to experiments only, RFC 4727).
pub(super) fn strange(ends: Ends, kind: TunnelKind) -> Option<Vec<u8>> {
    match kind {
        TunnelKind::Ipip | TunnelKind::Gre { .. } => ends.packet(IpNumber(253), &[0; 8]),
        TunnelKind::Gue { .. } => datagram(ends, 1021),
    }
}

/// Wraps a packet as the data plane does (`ip_vs_tunnel_xmit` of the kernel).
pub(super) fn wrap(outer: Ends, kind: TunnelKind, inner: &[u8]) -> Option<Vec<u8>> {
    let v6 = inner.first()? >> 4 == 6;
    let own = if v6 { IpNumber::IPV6 } else { IpNumber::IPV4 };
    match kind {
        TunnelKind::Ipip => outer.packet(own, inner),
        TunnelKind::Gre { checksum } => {
            let ethertype: u16 = if v6 { 0x86dd } else { 0x0800 };
            let [p0, p1] = ethertype.to_be_bytes();
            let header: &[u8] = match checksum {
                TunnelChecksum::None => &[0, 0, p0, p1],
                TunnelChecksum::Csum | TunnelChecksum::Remcsum => {
                    let sum = Sum16BitWords::new().add_slice(inner).add_4bytes([0x80, 0, p0, p1]);
                    let [c0, c1] = sum.ones_complement().to_be().to_be_bytes();
                    &[0x80, 0, p0, p1, c0, c1, 0, 0]
                }
            };
            outer.packet(IpNumber::GRE, &[header, inner].concat())
        }
        TunnelKind::Gue { port, checksum } => {
            // Variant 0 without options: the inner protocol, no flags.
            let gue = [&[0, own.0, 0, 0], inner].concat();
            let length = u16::try_from(gue.len().checked_add(8)?).ok()?;
            let mut udp = UdpHeader {
                source_port: outer.number,
                destination_port: port,
                length,
                checksum: 0,
            };
            if checksum != TunnelChecksum::None {
                udp.checksum = match (outer.from, outer.to) {
                    (IpAddr::V4(from), IpAddr::V4(to)) => {
                        udp.calc_checksum_ipv4_raw(from.octets(), to.octets(), &gue).ok()?
                    }
                    (IpAddr::V6(from), IpAddr::V6(to)) => {
                        udp.calc_checksum_ipv6_raw(from.octets(), to.octets(), &gue).ok()?
                    }
                    (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
                };
            }
            outer.packet(IpNumber::UDP, &[&udp.to_bytes()[..], &gue].concat())
        }
    }
}

/// An ARP request (RFC 826).
pub(super) fn arp_request(mac: [u8; 6], from: Ipv4Addr, whose: Ipv4Addr) -> Vec<u8> {
    let head: &[u8] = &[0, 1, 0x08, 0, 6, 4, 0, 1];
    [head, &mac, &from.octets(), &[0; 6], &whose.octets()].concat()
}

/// A neighbour solicitation (RFC 4861 section 4.3).
pub(super) fn solicitation(mac: [u8; 6], from: Ipv6Addr, whose: Ipv6Addr) -> Option<Vec<u8>> {
    // Section 7.1.1: a hop limit of 255 shows that no router has passed it on.
    let ends = Ends { from: from.into(), to: whose.into(), hops: 255, number: 0 };
    let builder = PacketBuilder::ip(ends.header()?).icmpv6_raw(135, 0, [0; 4]);
    let source_link_layer: &[u8] = &[1, 1];
    let payload = [&whose.octets()[..], source_link_layer, &mac].concat();
    let mut bytes = Vec::new();
    builder.write(&mut bytes, &payload).ok()?;
    Some(bytes)
}

/// Window of a SYN: as small as it may be without looking strange.
const WINDOW: u16 = 4096;

#[cfg(test)]
mod tests;
