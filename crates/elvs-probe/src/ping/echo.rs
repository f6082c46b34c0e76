//! ICMP echo messages (RFC 792, RFC 4443 4.1).
//!
//! **Invariant:** total: any bytes are the reply that was waited for, or they are not.
//!
//! Called by the driver of `PING_CHECK`.

/// An echo that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Echo {
    /// ICMPv6 in place of ICMP.
    pub(super) v6: bool,
    /// Identifier; `None` = the kernel's own, which then knows it and gives us nothing but our replies.
    pub(super) identifier: Option<u16>,
    /// Sequence number.
    pub(super) sequence: u16,
    /// What makes this run's echo differ from all others.
    pub(super) nonce: u64,
}

impl Echo {
    /// The request. The kernel fills in the checksum of ICMPv6, and of ICMP where it has the identifier.
    pub(super) fn request(&self) -> Vec<u8> {
        let kind = if self.v6 { V6_REQUEST } else { V4_REQUEST };
        let mut message = vec![kind, 0, 0, 0];
        message.extend(self.identifier.unwrap_or(0).to_be_bytes());
        message.extend(self.sequence.to_be_bytes());
        message.extend(self.nonce.to_be_bytes());
        message.extend(TEXT);
        if !self.v6 {
            let sum = checksum(&message).to_be_bytes();
            message.splice(2..4, sum);
        }
        message
    }

    /// Whether a message, without IP header, answers this one.
    pub(super) fn is_answered_by(&self, message: &[u8]) -> bool {
        let kind = if self.v6 { V6_REPLY } else { V4_REPLY };
        let [got, 0, _, _, id @ .., _, _] = message.get(..8).unwrap_or_default() else {
            return false;
        };
        let known = self.identifier.is_none_or(|own| own.to_be_bytes() == *id);
        let payload = [&self.sequence.to_be_bytes()[..], &self.nonce.to_be_bytes(), TEXT].concat();
        *got == kind && known && message.get(6..) == Some(&payload)
    }
}

/// A datagram of IPv4 without its header; empty if it has none.
pub(super) fn without_header(datagram: &[u8]) -> &[u8] {
    let words = datagram.first().map_or(0, |first| usize::from(first & 0x0f));
    datagram.get(words * 4..).unwrap_or_default()
}

/// RFC 1071, over an even number of bytes.
fn checksum(message: &[u8]) -> u16 {
    let (pairs, _) = message.as_chunks::<2>();
    let sum = pairs.iter().fold(0_u16, |sum, pair| {
        let (sum, carry) = sum.overflowing_add(u16::from_be_bytes(*pair));
        sum + u16::from(carry)
    });
    !sum
}

const V4_REQUEST: u8 = 8;
const V4_REPLY: u8 = 0;
const V6_REQUEST: u8 = 128;
const V6_REPLY: u8 = 129;

/// Fills the message, for whoever looks at the wire.
const TEXT: &[u8] = b"elvs check";

#[cfg(test)]
mod tests;
