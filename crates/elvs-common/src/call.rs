//! What the SIP persistence engine keeps beside the flow table: which Call-ID a template goes by, and which template a
//! connection belongs to.
//!
//! **Invariant:** a [`CallHash`] is made of a client's masked address and a Call-ID only, so templates of several services may
//! share what is kept of it.

use crate::WideAddress;

/// Longest Call-ID that a template goes by, bytes (`IP_VS_PEDATA_MAXLEN`).
pub const CALL_ID_LENGTH: u64 = 255;
/// Call-IDs there is room for, and connections of services with the engine.
pub const CALLS: u32 = 262_144;

/// Hash of a Call-ID and its client's masked address, as far as the key of a template has room for it: what takes the place of
/// the client's address (low half) and port. Never 0; no other template has a client's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct CallHash(pub u64);

impl CallHash {
    const MARK: u64 = 1 << 32;

    /// Of the bits of a hash value.
    #[inline(always)]
    pub const fn of_bits(bits: u64) -> Self {
        Self(bits & 0xffff_ffff_ffff | Self::MARK)
    }

    /// Of a template's client and its port, as loaded; `None` if it is none of the engine's.
    #[inline(always)]
    pub const fn of_ends(client: u32, port: u16) -> Option<Self> {
        if port == 0 { None } else { Some(Self(client as u64 | (port as u64) << 32)) }
    }

    /// What takes the place of the client's address.
    #[inline(always)]
    pub const fn client(self) -> u32 {
        (self.0 & 0xffff_ffff) as u32
    }

    /// What takes the place of the client's port.
    #[inline(always)]
    pub const fn port(self) -> u16 {
        (self.0 >> 32 & 0xffff) as u16
    }
}

/// What is kept of a Call-ID, for who lists templates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Call {
    /// The client's masked address.
    pub client: WideAddress,
    /// Bytes of the Call-ID: 1..=[`CALL_ID_LENGTH`].
    pub length: u64,
    /// The Call-ID; what lies behind it means nothing.
    pub id: [u8; 256],
}

impl Call {
    /// Words of one, as programs outside the kernel read it.
    pub const WORDS: usize = 35;

    /// Of its words.
    pub fn of_words(words: &[u64; Self::WORDS]) -> Self {
        let [first, second, length, rest @ ..] = words;
        let mut id = [0; 256];
        for (bytes, word) in id.chunks_exact_mut(8).zip(rest) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        Self { client: WideAddress([*first, *second]), length: *length, id }
    }

    /// The Call-ID.
    pub fn id(&self) -> &[u8] {
        let length = usize::try_from(self.length).unwrap_or(usize::MAX);
        self.id.get(..length).unwrap_or(&self.id)
    }
}

/// A connection, as what is kept of its call is found by: the addresses of client and service, then ports (low half, the
/// client's first) and protocol number.
pub type Caller = [u64; 5];

/// The [`Caller`] of a connection's words.
#[inline(always)]
pub const fn caller(addresses: [u64; 5], ports: u32, protocol: u8) -> Caller {
    let [c0, c1, a0, a1, _] = addresses;
    [c0, c1, a0, a1, ports as u64 | (protocol as u64) << 32]
}

const _: () = assert!(size_of::<Call>() == Call::WORDS * 8);

#[cfg(test)]
mod tests {
    use super::{Call, CallHash};
    use crate::WideAddress;

    #[test]
    fn hashes_pass_through_the_ends_of_a_template() {
        for bits in [0, 1, u64::MAX, 0xffff_0000_0000, 0x1234_5678_9abc_def0] {
            let hash = CallHash::of_bits(bits);
            assert_ne!(hash.port(), 0, "{bits:x}");
            assert_eq!(CallHash::of_ends(hash.client(), hash.port()), Some(hash), "{bits:x}");
        }
        assert_eq!(CallHash::of_ends(7, 0), None);
    }

    #[test]
    fn calls_are_read_from_their_words() {
        let mut words = [0; Call::WORDS];
        (words[0], words[1], words[2]) = (1, 2, 3);
        words[3] = u64::from_ne_bytes(*b"abcdefgh");
        let call = Call::of_words(&words);
        assert_eq!((call.client, call.id()), (WideAddress([1, 2]), &b"abc"[..]));
        words[2] = u64::MAX;
        assert_eq!(Call::of_words(&words).id().len(), 256);
    }
}
