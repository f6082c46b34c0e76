//! What packets that reach the director say about a probe.
//!
//! **Invariant:** total: any bytes are heard as something or as nothing.
//!
//! Called by the prober for every packet that its socket's filter lets through; [`super::socket`] has the filter.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{
    ArpOperation, ArpPacketSlice, EtherType, LaxNetSlice, LaxSlicedPacket, TransportSlice,
};

/// Something heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// An answer to the probe of a number.
    Answer { number: u16, from: IpAddr, what: Answer },
    /// Somebody says that an address is theirs.
    Claim(Claim),
}

/// ARP or neighbour discovery: this MAC address says that it has that IP address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) address: IpAddr,
    pub(super) mac: [u8; 6],
    /// It said so by asking for another address, and not by answering.
    pub(super) asking: bool,
}

/// An answer to a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// SYN and ACK, or any other segment but a reset; its acknowledgement.
    Segment { opens: bool, acknowledged: u32 },
    /// RST; its acknowledgement.
    Reset { acknowledged: u32 },
    /// A datagram.
    Datagram,
    /// An echo reply.
    Echo,
    /// An ICMP error, and where the packet it quotes was going.
    Refused { refusal: Refusal, quoted_to: IpAddr },
}

/// What an ICMP error says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Port unreachable.
    Port,
    /// Protocol unreachable, or unrecognised next header.
    Protocol,
    /// Time exceeded: the hop limit was 1 and the packet would have been sent on.
    Hops,
    /// Prohibited by somebody's rules.
    Prohibited,
    /// Network or host unreachable.
    Unreachable,
    /// Anything else.
    Other { kind: u8, code: u8 },
}

/// Hears what a packet says: `ethertype` is its link's, `mac` who sent it on that link.
pub(super) fn hear(ethertype: u16, mac: [u8; 6], packet: &[u8]) -> Option<News> {
    if EtherType(ethertype) == EtherType::ARP {
        return hear_arp(packet);
    }
    let packet = LaxSlicedPacket::from_ip(packet).ok()?;
    let from = match packet.net.as_ref()? {
        LaxNetSlice::Ipv4(ip) => IpAddr::from(ip.header().source_addr()),
        LaxNetSlice::Ipv6(ip) => IpAddr::from(ip.header().source_addr()),
        LaxNetSlice::Arp(_) => return None,
    };
    let (number, what) = match packet.transport? {
        TransportSlice::Tcp(tcp) => {
            let acknowledged = tcp.acknowledgment_number();
            let what = if tcp.rst() {
                Answer::Reset { acknowledged }
            } else {
                Answer::Segment { opens: tcp.syn() && tcp.ack(), acknowledged }
            };
            (tcp.destination_port(), what)
        }
        TransportSlice::Udp(udp) => (udp.destination_port(), Answer::Datagram),
        TransportSlice::Icmpv4(icmp) => match (icmp.type_u8(), icmp.code_u8()) {
            (0, _) => (first_half(icmp.bytes5to8()), Answer::Echo),
            (kind @ (3 | 11 | 12), code) => quoted(of_icmp(kind, code), icmp.payload())?,
            _ => return None,
        },
        TransportSlice::Icmpv6(icmp) => match (icmp.type_u8(), icmp.code_u8()) {
            (129, _) => (first_half(icmp.bytes5to8()), Answer::Echo),
            (136, _) => return hear_advertisement(mac, icmp.payload()),
            (kind @ 1..=4, code) => quoted(of_icmp6(kind, code), icmp.payload())?,
            _ => return None,
        },
    };
    Some(News::Answer { number, from, what })
}

fn hear_arp(packet: &[u8]) -> Option<News> {
    let arp = ArpPacketSlice::from_slice(packet).ok()?;
    let address: [u8; 4] = arp.sender_protocol_addr().try_into().ok()?;
    let mac = arp.sender_hw_addr().try_into().ok()?;
    let asking = arp.operation() == ArpOperation::REQUEST;
    Some(News::Claim(Claim { address: Ipv4Addr::from(address).into(), mac, asking }))
}

/// RFC 4861 section 4.4: the address stands behind the flags, which are part of the header here.
fn hear_advertisement(mac: [u8; 6], payload: &[u8]) -> Option<News> {
    let address = Ipv6Addr::from(*payload.first_chunk::<16>()?);
    Some(News::Claim(Claim { address: address.into(), mac, asking: false }))
}

/// What an error quotes: only its IP header is looked at, which names the probe.
fn quoted(refusal: Refusal, quoted: &[u8]) -> Option<(u16, Answer)> {
    let packet = LaxSlicedPacket::from_ip(quoted).ok()?;
    let (number, quoted_to) = match packet.net? {
        LaxNetSlice::Ipv4(ip) => {
            (ip.header().identification(), IpAddr::from(ip.header().destination_addr()))
        }
        LaxNetSlice::Ipv6(ip) => {
            let label = ip.header().flow_label().value();
            (u16::try_from(label).ok()?, IpAddr::from(ip.header().destination_addr()))
        }
        LaxNetSlice::Arp(_) => return None,
    };
    Some((number, Answer::Refused { refusal, quoted_to }))
}

/// RFC 792, RFC 1122 section 3.2.2.1, RFC 1812 section 5.2.7.1.
const fn of_icmp(kind: u8, code: u8) -> Refusal {
    match (kind, code) {
        (3, 2) => Refusal::Protocol,
        (3, 3) => Refusal::Port,
        (3, 9 | 10 | 13) => Refusal::Prohibited,
        (3, 0 | 1 | 5..=8 | 11 | 12) => Refusal::Unreachable,
        (11, 0) => Refusal::Hops,
        _ => Refusal::Other { kind, code },
    }
}

/// RFC 4443 section 3.
const fn of_icmp6(kind: u8, code: u8) -> Refusal {
    match (kind, code) {
        (1, 4) => Refusal::Port,
        (1, 1 | 5) => Refusal::Prohibited,
        (1, 0 | 3) => Refusal::Unreachable,
        (3, 0) => Refusal::Hops,
        (4, 1) => Refusal::Protocol,
        _ => Refusal::Other { kind, code },
    }
}

const fn first_half([a, b, _, _]: [u8; 4]) -> u16 {
    u16::from_be_bytes([a, b])
}

#[cfg(test)]
mod tests;
