//! Frames of a simulated conversation, and where the director sent them.
//!
//! **Invariant:** a frame made here is whole: lengths and checksums are right, as a network card would hand it over.
//!
//! Called by [`super::host`].

use std::net::{IpAddr, SocketAddr};

use elvs_common::{NextHop, SCTP, TCP, UDP};
use elvs_dataplane::MemoryFrame;
use elvs_fastpath::checksum_change;

/// The interface that everything comes from and goes to.
pub(super) const INTERFACE: u32 = 1;
/// FIN flag.
pub(super) const FIN: u8 = 0x01;
/// SYN flag.
pub(super) const SYN: u8 = 0x02;
/// ACK flag.
pub(super) const ACK: u8 = 0x10;

/// Types of SCTP's chunks (RFC 9260 section 3.2).
pub(super) const INIT: u8 = 1;
pub(super) const INIT_ACK: u8 = 2;
pub(super) const SHUTDOWN: u8 = 7;
pub(super) const SHUTDOWN_ACK: u8 = 8;
pub(super) const COOKIE_ECHO: u8 = 10;
pub(super) const COOKIE_ACK: u8 = 11;
pub(super) const SHUTDOWN_COMPLETE: u8 = 14;

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

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// A TCP segment with these flags.
    Segment(u8),
    /// A UDP datagram without payload.
    Datagram,
    /// An SCTP packet of one chunk of this type.
    Chunk(u8),
}

impl Content {
    const fn protocol(self) -> u8 {
        match self {
            Self::Segment(_) => TCP,
            Self::Datagram => UDP,
            Self::Chunk(_) => SCTP,
        }
    }

    /// What follows the ports, with nothing where the checksum goes, and that place.
    fn rest(self) -> (Vec<u8>, usize) {
        match self {
            // Sequence and acknowledgement numbers, five words of header, window, checksum, no urgent data.
            Self::Segment(flags) => {
                (vec![0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0xfa, 0xf0, 0, 0, 0, 0], 12)
            }
            Self::Datagram => (vec![0, 8, 0, 0], 2),
            Self::Chunk(kind) => {
                let value = value_of(kind);
                // The tag of who is asked, who has told none before the INIT (RFC 9260 section 8.5.1); the checksum.
                let mut rest = vec![0, 0, 0, u8::from(kind != INIT), 0, 0, 0, 0];
                rest.extend([kind, 0, 0, u8::try_from(value.len()).unwrap_or(0) + 4]);
                rest.extend(value);
                (rest, 4)
            }
        }
    }
}

/// Value of a chunk of SCTP (RFC 9260 section 3.3).
const fn value_of(kind: u8) -> &'static [u8] {
    match kind {
        // Tag, window, streams out and in, first number.
        INIT => &[0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1],
        // The same with a cookie of four bytes.
        INIT_ACK => &[0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 7, 0, 8, 0, 0, 0, 1],
        // The cookie; the number up to which everything has come.
        COOKIE_ECHO | SHUTDOWN => &[0, 0, 0, 1],
        _ => &[],
    }
}

/// A packet. Both ends are of one family.
pub(super) fn frame(content: Content, from: SocketAddr, to: SocketAddr) -> MemoryFrame {
    let protocol = content.protocol();
    let (rest, field) = content.rest();
    let mut transport = Vec::with_capacity(4 + rest.len());
    transport.extend(from.port().to_be_bytes());
    transport.extend(to.port().to_be_bytes());
    transport.extend(rest);
    let length = u8::try_from(transport.len()).unwrap_or(u8::MAX);
    let addresses = [octets(from.ip()), octets(to.ip())].concat();
    let sum = if protocol == SCTP {
        crc32c(&transport).to_le_bytes().to_vec()
    } else {
        // Both families' pseudo headers add up to the same.
        let sum = checksum(&[&addresses, &[0, protocol, 0, length], &transport]);
        // RFC 768: a sum of 0 is sent as all ones.
        (if sum == 0 { 0xffff } else { sum }).to_be_bytes().to_vec()
    };
    for (place, byte) in transport.iter_mut().skip(4 + field).zip(sum) {
        *place = byte;
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

/// CRC32c (RFC 9260 appendix A) of whole words of four bytes: what each changes the sum of a packet by that begins with it.
fn crc32c(bytes: &[u8]) -> u32 {
    let (words, _) = bytes.as_chunks::<4>();
    let lengths = (1_u32..=u32::try_from(words.len()).unwrap_or(0)).rev().map(|left| left * 4);
    // It begins with all ones, which are as good as a change of the first word.
    let first = std::iter::once(u32::MAX).chain(std::iter::repeat(0));
    let words = words.iter().map(|word| u32::from_ne_bytes(*word)).zip(first);
    !words
        .zip(lengths)
        .fold(0, |sum, ((word, ones), left)| sum ^ checksum_change(word ^ ones, left))
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Where the director sent a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    /// Number of the real server.
    pub(super) server: u32,
    /// The port that it reaches there.
    pub(super) port: u16,
    /// Whom the real server takes for the client.
    pub(super) client: SocketAddr,
}

/// Where a frame left for.
pub(super) fn sent_to(frame: &MemoryFrame) -> Option<Sent> {
    let [2, 1, a, b, c, d] = *frame.bytes.first_chunk()? else { return None };
    let mut packet = parted(frame.bytes.get(ETHERNET..)?)?;
    if INNER.contains(&packet.0) {
        packet = parted(packet.2)?;
    }
    let (protocol, source, rest) = packet;
    if INNER.contains(&protocol) {
        return None;
    }
    let [p0, p1, p2, p3] = *rest.first_chunk()?;
    Some(Sent {
        server: u32::from_be_bytes([a, b, c, d]),
        port: u16::from_be_bytes([p2, p3]),
        client: SocketAddr::new(source, u16::from_be_bytes([p0, p1])),
    })
}

/// Protocol number and source in an IP header, and what follows it.
fn parted(header: &[u8]) -> Option<(u8, IpAddr, &[u8])> {
    let first = header.first()?;
    if first >> 4 == 4 {
        let source: [u8; 4] = *header.get(12..)?.first_chunk()?;
        return Some((*header.get(9)?, source.into(), header.get(usize::from(first & 15) * 4..)?));
    }
    let source: [u8; 16] = *header.get(8..)?.first_chunk()?;
    Some((*header.get(6)?, source.into(), header.get(40..)?))
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
    use super::*;

    const FAMILIES: [(&str, &str); 2] =
        [("10.0.0.1:40000", "10.0.0.100:80"), ("[fd00::1]:40000", "[fd00::100]:80")];

    #[test]
    fn checksums_add_up_to_nothing() {
        for (from, to) in FAMILIES {
            let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
            let (addresses, payload) = if from.is_ipv4() { (26, 34) } else { (22, 54) };
            for (content, length) in [(Content::Segment(SYN), 20_u8), (Content::Datagram, 8)] {
                let bytes = frame(content, from, to).bytes;
                if from.is_ipv4() {
                    assert_eq!(checksum(&[&bytes[14..34]]), 0);
                }
                let pseudo = [0, content.protocol(), 0, length];
                let sum = checksum(&[&bytes[addresses..payload], &pseudo, &bytes[payload..]]);
                assert!(sum == 0 || sum == 0xffff, "{sum:04x}");
                assert_eq!(bytes.len(), payload + usize::from(length));
            }
        }
    }

    /// Written down plainly, one bit after the other.
    fn plain_crc32c(bytes: &[u8]) -> u32 {
        let mut sum = u32::MAX;
        for byte in bytes {
            sum ^= u32::from(*byte);
            for _ in 0..8 {
                sum = sum >> 1 ^ 0x82f6_3b78 & (sum & 1).wrapping_neg();
            }
        }
        !sum
    }

    #[test]
    fn chunks_are_whole_and_their_checksum_right() {
        // RFC 3720 section B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(plain_crc32c(&[0; 32]), 0x8a91_36aa);
        let lengths = [
            (INIT, 20),
            (INIT_ACK, 28),
            (SHUTDOWN, 8),
            (SHUTDOWN_ACK, 4),
            (COOKIE_ECHO, 8),
            (COOKIE_ACK, 4),
            (SHUTDOWN_COMPLETE, 4),
        ];
        for (from, to) in FAMILIES {
            let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
            for (kind, length) in lengths {
                let mut packet = frame(Content::Chunk(kind), from, to).bytes;
                packet.drain(..if from.is_ipv4() { 34 } else { 54 });
                assert_eq!(packet[12..16], [kind, 0, 0, length]);
                assert_eq!(packet.len(), 12 + usize::from(length));
                let sum: Vec<u8> = packet.splice(8..12, [0; 4]).collect();
                assert_eq!(sum, plain_crc32c(&packet).to_le_bytes(), "{kind}");
            }
        }
    }

    #[test]
    fn a_frame_says_where_it_went() {
        let outer4 = [0x45, 0, 0, 60, 0, 1, 0, 0, 64, 0, 0, 0, 10, 0, 0, 10, 10, 0, 0, 21];
        let outer6: [u8; 40] = core::array::from_fn(|at| if at == 0 { 0x60 } else { 0 });
        for ((from, to), inner) in FAMILIES.into_iter().zip(INNER) {
            let client = from.parse().unwrap();
            let mut plain = frame(Content::Segment(SYN), client, to.parse().unwrap());
            assert_eq!(sent_to(&plain), None, "still the director's");
            plain.bytes[..6].copy_from_slice(&[2, 1, 0, 0, 1, 21]);
            let wanted = Some(Sent { server: 277, port: 80, client });
            assert_eq!(sent_to(&plain), wanted);
            for (outer, protocol) in [(&outer4[..], 9), (&outer6[..], 6)] {
                let mut tunnelled = plain.bytes.clone();
                tunnelled.splice(14..14, outer.iter().copied());
                tunnelled[14 + protocol] = inner;
                let sent = sent_to(&MemoryFrame::new(tunnelled, INTERFACE));
                assert_eq!(sent, wanted, "{to} in {outer:?}");
            }
        }
    }
}
