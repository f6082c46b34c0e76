//! Frames of a simulated conversation, and where the director sent them.
//!
//! **Invariant:** a frame made here is whole: lengths and checksums are right, as a network card would hand it over.
//!
//! Called by [`super::host`].

use std::net::{IpAddr, SocketAddr};

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
/// Protocol numbers of IPv4 and IPv6 within another packet.
const INNER: [u8; 2] = [4, 41];

/// The way to a real server: its number is in its MAC address, so that a frame says where it went.
pub(super) const fn hop_to(server: u32) -> NextHop {
    let [a, b, c, d] = server.to_be_bytes();
    NextHop::new([2, 1, a, b, c, d], DIRECTOR, INTERFACE)
}

/// A TCP segment, or with another protocol number a UDP datagram without payload. Both ends are of one family.
pub(super) fn frame(protocol: u8, from: SocketAddr, to: SocketAddr, tcp_flags: u8) -> MemoryFrame {
    let mut transport = Vec::with_capacity(20);
    transport.extend(from.port().to_be_bytes());
    transport.extend(to.port().to_be_bytes());
    if protocol == TCP {
        // Sequence and acknowledgement numbers, five words of header, window, checksum, no urgent data.
        transport.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, tcp_flags, 0xfa, 0xf0, 0, 0, 0, 0]);
    } else {
        transport.extend([0, 8, 0, 0]);
    }
    let length = if protocol == TCP { 20 } else { 8 };
    let addresses = [octets(from.ip()), octets(to.ip())].concat();
    // Both families' pseudo headers add up to the same.
    let sum = checksum(&[&addresses, &[0, protocol, 0, length], &transport]);
    let field = if protocol == TCP { 16..18 } else { 6..8 };
    // RFC 768: a sum of 0 is sent as all ones.
    let sum = if sum == 0 { 0xffff } else { sum };
    if let Some(place) = transport.get_mut(field) {
        place.copy_from_slice(&sum.to_be_bytes());
    }

    let mut bytes = Vec::with_capacity(ETHERNET + 40 + usize::from(length));
    bytes.extend(DIRECTOR);
    bytes.extend(NEIGHBOUR);
    if from.is_ipv4() {
        let head = [0x45, 0, 0, 20 + length, 0, 1, 0x40, 0, 64, protocol];
        bytes.extend([8, 0]);
        bytes.extend(head);
        bytes.extend(checksum(&[&head, &addresses]).to_be_bytes());
    } else {
        bytes.extend([0x86, 0xdd]);
        bytes.extend([0x60, 0, 0, 0, 0, length, protocol, 64]);
    }
    bytes.extend(addresses);
    bytes.extend(transport);
    MemoryFrame::new(bytes, INTERFACE)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Number of the real server that a frame left for, and the port that it reaches there.
pub(super) fn sent_to(frame: &MemoryFrame) -> Option<(u32, u16)> {
    let [2, 1, a, b, c, d] = *frame.bytes.first_chunk()? else { return None };
    let (mut protocol, mut rest) = parted(frame.bytes.get(ETHERNET..)?)?;
    if INNER.contains(&protocol) {
        (protocol, rest) = parted(rest)?;
    }
    if INNER.contains(&protocol) {
        return None;
    }
    let [_, _, high, low] = *rest.first_chunk()?;
    Some((u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([high, low])))
}

/// Protocol number in an IP header, and what follows it.
fn parted(header: &[u8]) -> Option<(u8, &[u8])> {
    let first = header.first()?;
    let (protocol, length) =
        if first >> 4 == 4 { (9, usize::from(first & 15) * 4) } else { (6, 40) };
    Some((*header.get(protocol)?, header.get(length..)?))
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

    const FAMILIES: [(&str, &str); 2] =
        [("10.0.0.1:40000", "10.0.0.100:80"), ("[fd00::1]:40000", "[fd00::100]:80")];

    #[test]
    fn checksums_add_up_to_nothing() {
        for (from, to) in FAMILIES {
            let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
            let (addresses, payload) = if from.is_ipv4() { (26, 34) } else { (22, 54) };
            for (protocol, length) in [(TCP, 20_u8), (UDP, 8)] {
                let bytes = frame(protocol, from, to, SYN).bytes;
                if from.is_ipv4() {
                    assert_eq!(checksum(&[&bytes[14..34]]), 0);
                }
                let pseudo = [0, protocol, 0, length];
                let sum = checksum(&[&bytes[addresses..payload], &pseudo, &bytes[payload..]]);
                assert!(sum == 0 || sum == 0xffff, "{sum:04x}");
                assert_eq!(bytes.len(), payload + usize::from(length));
            }
        }
    }

    #[test]
    fn a_frame_says_where_it_went() {
        let outer4 = [0x45, 0, 0, 60, 0, 1, 0, 0, 64, 0, 0, 0, 10, 0, 0, 10, 10, 0, 0, 21];
        let outer6: [u8; 40] = core::array::from_fn(|at| if at == 0 { 0x60 } else { 0 });
        for ((from, to), inner) in FAMILIES.into_iter().zip(INNER) {
            let mut plain = frame(TCP, from.parse().unwrap(), to.parse().unwrap(), SYN);
            assert_eq!(sent_to(&plain), None, "still the director's");
            plain.bytes[..6].copy_from_slice(&[2, 1, 0, 0, 1, 21]);
            assert_eq!(sent_to(&plain), Some((277, 80)));
            for (outer, protocol) in [(&outer4[..], 9), (&outer6[..], 6)] {
                let mut tunnelled = plain.bytes.clone();
                tunnelled.splice(14..14, outer.iter().copied());
                tunnelled[14 + protocol] = inner;
                let sent = sent_to(&MemoryFrame::new(tunnelled, INTERFACE));
                assert_eq!(sent, Some((277, 80)), "{to} in {outer:?}");
            }
        }
    }
}
