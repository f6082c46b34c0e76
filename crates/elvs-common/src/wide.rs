//! Addresses of either family, as the wide flow table and what goes with it hold them.

/// An IPv6 address, or an IPv4 address mapped into one (RFC 4291 section 2.5.5.2), as two words loaded from network order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WideAddress(pub [u64; 2]);

/// Second word of a mapped IPv4 address, without the address.
const MAPPED: u64 = u64::from_ne_bytes([0, 0, 0xff, 0xff, 0, 0, 0, 0]);
/// Bits of the second word that say whether it is one.
const MAPPED_MASK: u64 = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);

impl WideAddress {
    /// Of the bytes of an IPv6 address.
    #[inline(always)]
    pub const fn of_bytes(bytes: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
        let first = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
        Self([first, u64::from_ne_bytes([i, j, k, l, m, n, o, p])])
    }

    /// Its bytes in network order.
    #[inline(always)]
    pub const fn bytes(self) -> [u8; 16] {
        let [first, second] = self.0;
        let [a, b, c, d, e, f, g, h] = first.to_ne_bytes();
        let [i, j, k, l, m, n, o, p] = second.to_ne_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    /// Of an IPv4 address, network order as loaded.
    #[inline(always)]
    pub const fn of_v4(address: u32) -> Self {
        let [a, b, c, d] = address.to_ne_bytes();
        Self([0, MAPPED | u64::from_ne_bytes([0, 0, 0, 0, a, b, c, d])])
    }

    /// The IPv4 address, network order as loaded, whether it is one or not.
    #[inline(always)]
    pub const fn v4(self) -> u32 {
        let [_, second] = self.0;
        let [_, _, _, _, a, b, c, d] = second.to_ne_bytes();
        u32::from_ne_bytes([a, b, c, d])
    }

    /// Whether it is an IPv4 address.
    #[inline(always)]
    pub const fn is_v4(self) -> bool {
        let [first, second] = self.0;
        first == 0 && second & MAPPED_MASK == MAPPED
    }

    /// What stands for it where there is room for 32 bits: an IPv4 address itself, as loaded, or the four words of an IPv6
    /// address, exclusive-ored as IPVS's schedulers do (`ip_vs_sh_hashkey`).
    #[inline(always)]
    pub const fn fold(self) -> u32 {
        if self.is_v4() {
            return self.v4();
        }
        let [first, second] = self.0;
        let both = first ^ second;
        ((both ^ both >> 32) & 0xffff_ffff) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::WideAddress;

    #[test]
    fn both_families_keep_their_bytes_and_fold_as_ipvs_does() {
        let v4 = u32::from_ne_bytes([192, 0, 2, 1]);
        let mapped = WideAddress::of_v4(v4);
        assert_eq!(mapped.bytes(), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1]);
        assert!(mapped.is_v4());
        assert_eq!((mapped.v4(), mapped.fold()), (v4, v4));
        let bytes = [0xfd, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 1, 0x12];
        let wide = WideAddress::of_bytes(bytes);
        assert_eq!(wide.bytes(), bytes);
        assert!(!wide.is_v4());
        assert_eq!(wide.fold(), u32::from_ne_bytes([0xfd, 0, 1, 0x15]));
    }
}
