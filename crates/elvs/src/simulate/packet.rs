//! Frames of a simulated conversation, and where the director sent them.
//!
//! **Invariant:** a frame made here is whole: lengths and checksums are right, as a network card would hand it over.
//!
//! Called by [`super::host`].

use std::net::{Ipv4Addr, SocketAddrV4};

use elvs_common::{NextHop, TCP};
use elvs_dataplane::MemoryFrame;

/// The interface that everything comes from and goes to.
pub(super) const INTERFACE: u32 = 1;
/// FIN flag.
pub(super) const FIN: u8 = 0x01;
/// SYN flag.
pub(super) const SYN: u8 = 0x02;
/// ACK flag.
pub(super) const ACK: u8 = 0x10;

const DIRECTOR: [u8; 6] = [2, 0, 0, 0, 0, 1];
const NEIGHBOUR: [u8; 6] = [2, 0, 0, 0, 0, 2];
const ETHERNET: usize = 14;
const IPIP: u8 = 4;

/// The way to a real server: its address is in its MAC address, so that a frame says where it went.
pub(super) const fn hop_to(server: Ipv4Addr) -> NextHop {
    let [a, b, c, d] = server.octets();
    NextHop::new([2, 1, a, b, c, d], DIRECTOR, INTERFACE)
}

/// A TCP segment, or with another protocol number a UDP datagram without payload.
pub(super) fn frame(
    protocol: u8,
    from: SocketAddrV4,
    to: SocketAddrV4,
    tcp_flags: u8,
) -> MemoryFrame {
    let mut transport = Vec::with_capacity(20);
    transport.extend(from.port().to_be_bytes());
    transport.extend(to.port().to_be_bytes());
    if protocol == TCP {
        // Sequence and acknowledgement numbers, five words of header, window, checksum, no urgent data.
        transport.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, tcp_flags, 0xfa, 0xf0, 0, 0, 0, 0]);
    } else {
        transport.extend([0, 8, 0, 0]);
    }
    let [length_high, length_low] = if protocol == TCP { [0, 20] } else { [0, 8] };
    let pseudo = [0, protocol, length_high, length_low];
    let sum = checksum(&[&from.ip().octets(), &to.ip().octets(), &pseudo, &transport]);
    let field = if protocol == TCP { 16..18 } else { 6..8 };
    // RFC 768: a sum of 0 is sent as all ones.
    let sum = if sum == 0 { 0xffff } else { sum };
    if let Some(place) = transport.get_mut(field) {
        place.copy_from_slice(&sum.to_be_bytes());
    }

    let total = 20 + length_low;
    let head = [0x45, 0, 0, total, 0, 1, 0x40, 0, 64, protocol];
    let header_sum = checksum(&[&head, &from.ip().octets(), &to.ip().octets()]);
    let mut bytes = Vec::with_capacity(ETHERNET + usize::from(total));
    bytes.extend(DIRECTOR);
    bytes.extend(NEIGHBOUR);
    bytes.extend([8, 0]);
    bytes.extend(head);
    bytes.extend(header_sum.to_be_bytes());
    bytes.extend(from.ip().octets());
    bytes.extend(to.ip().octets());
    bytes.extend(transport);
    MemoryFrame::new(bytes, INTERFACE)
}

/// Real server that a frame left for, and the port that it reaches there.
pub(super) fn sent_to(frame: &MemoryFrame) -> Option<SocketAddrV4> {
    let [2, 1, a, b, c, d] = *frame.bytes.first_chunk()? else { return None };
    let mut header = frame.bytes.get(ETHERNET..)?;
    if protocol_of(header)? == IPIP {
        header = behind(header)?;
    }
    let [_, _, high, low] = *behind(header)?.first_chunk()?;
    Some(SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])))
}

fn protocol_of(header: &[u8]) -> Option<u8> {
    header.get(9).copied()
}

/// What follows an IPv4 header.
fn behind(header: &[u8]) -> Option<&[u8]> {
    header.get(usize::from(header.first()? & 15) * 4..)
}

/// Internet checksum (RFC 1071); every part but the last has an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let pairs = parts.iter().flat_map(|part| part.chunks(2));
    let sum = pairs.fold(0_u32, |sum, pair| {
        let word = match *pair {
            [high, low] => u16::from_be_bytes([high, low]),
            [high] => u16::from_be_bytes([high, 0]),
            _ => 0,
        };
        let sum = sum + u32::from(word);
        (sum & 0xffff) + (sum >> 16)
    });
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use elvs_common::UDP;

    use super::*;

    #[test]
    fn checksums_add_up_to_nothing() {
        let (from, to) = ("10.0.0.1:40000".parse().unwrap(), "10.0.0.100:80".parse().unwrap());
        for (protocol, length) in [(TCP, 20_u8), (UDP, 8)] {
            let bytes = frame(protocol, from, to, SYN).bytes;
            assert_eq!(checksum(&[&bytes[14..34]]), 0);
            let pseudo = [0, protocol, 0, length];
            let sum = checksum(&[&bytes[26..34], &pseudo, &bytes[34..]]);
            assert!(sum == 0 || sum == 0xffff, "{sum:04x}");
            assert_eq!(bytes.len(), 34 + usize::from(length));
        }
    }

    #[test]
    fn a_frame_says_where_it_went() {
        let (from, to) = ("10.0.0.1:40000".parse().unwrap(), "10.0.0.100:80".parse().unwrap());
        let mut frame = frame(TCP, from, to, SYN);
        assert_eq!(sent_to(&frame), None, "still the director's");
        frame.bytes[..6].copy_from_slice(&[2, 1, 10, 0, 0, 21]);
        assert_eq!(sent_to(&frame), Some("10.0.0.21:80".parse().unwrap()));
        let outer = [0x45, 0, 0, 60, 0, 1, 0, 0, 64, IPIP, 0, 0, 10, 0, 0, 10, 10, 0, 0, 21];
        frame.bytes.splice(14..14, outer);
        assert_eq!(sent_to(&frame), Some("10.0.0.21:80".parse().unwrap()), "tunnelled");
    }
}
