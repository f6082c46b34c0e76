//! Destination records as the words of 64 bits they are written in.
//!
//! **Invariant:** what a packet must see together lies in one word, or in the copy that is not in use; the word with
//! the selector and the flags is written last.
//!
//! Called by the backends.

use elvs_common::{DestinationRecord, NextHop};

/// Words of a record.
pub(crate) const RECORD_WORDS: usize = 16;

/// A record's words in memory order.
pub(crate) fn to_words(record: &DestinationRecord) -> [u64; RECORD_WORDS] {
    let [first, second] = &record.next_hop;
    let [first_low, first_high] = hop_words(first);
    let [second_low, second_high] = hop_words(second);
    let [address_low, address_high] = wide(record.address6);
    let [source_low, source_high] = wide(record.tunnel_source6);
    [
        pair(record.selector, record.flags),
        pair(record.method, quarters(record.port, record.tunnel_kind)),
        pair(record.address, record.tunnel_source),
        first_low,
        first_high,
        second_low,
        second_high,
        pair(record.mtu, record.service),
        address_low,
        address_high,
        source_low,
        source_high,
        pair(record.upper_threshold, record.lower_threshold),
        pair(record.persistence_ticks, record.persistence_mask),
        pair(record.template_address, record.persistence_prefix),
        pair(quarters(record.tunnel_port, record.tunnel_flags), record.pad),
    ]
}

/// The record in words of memory.
pub(crate) fn from_words(words: [u64; RECORD_WORDS]) -> DestinationRecord {
    let [w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12, w13, w14, w15] = words;
    let (selector, flags) = unpair(w0);
    let (method, ports) = unpair(w1);
    let (port, tunnel_kind) = unquarter(ports);
    let (address, tunnel_source) = unpair(w2);
    let (mtu, service) = unpair(w7);
    let (upper_threshold, lower_threshold) = unpair(w12);
    let (persistence_ticks, persistence_mask) = unpair(w13);
    let ((template_address, persistence_prefix), (tunnel, pad)) = (unpair(w14), unpair(w15));
    let (tunnel_port, tunnel_flags) = unquarter(tunnel);
    DestinationRecord {
        selector,
        flags,
        method,
        port,
        tunnel_kind,
        address,
        tunnel_source,
        next_hop: [hop(w3, w4), hop(w5, w6)],
        mtu,
        service,
        address6: narrow(w8, w9),
        tunnel_source6: narrow(w10, w11),
        upper_threshold,
        lower_threshold,
        persistence_ticks,
        persistence_mask,
        template_address,
        persistence_prefix,
        tunnel_port,
        tunnel_flags,
        pad,
    }
}

const fn pair(first: u32, second: u32) -> u64 {
    let [a, b, c, d] = first.to_ne_bytes();
    let [e, f, g, h] = second.to_ne_bytes();
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

const fn unpair(word: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = word.to_ne_bytes();
    (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]))
}

const fn quarters(first: u16, second: u16) -> u32 {
    let [a, b] = first.to_ne_bytes();
    let [c, d] = second.to_ne_bytes();
    u32::from_ne_bytes([a, b, c, d])
}

const fn unquarter(half: u32) -> (u16, u16) {
    let [a, b, c, d] = half.to_ne_bytes();
    (u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d]))
}

const fn hop_words(hop: &NextHop) -> [u64; 2] {
    let [a, b, c, d] = hop.second.to_ne_bytes();
    let [e, f, g, h] = hop.ifindex.to_ne_bytes();
    [hop.first, u64::from_ne_bytes([a, b, c, d, e, f, g, h])]
}

const fn hop(first: u64, rest: u64) -> NextHop {
    let [a, b, c, d, e, f, g, h] = rest.to_ne_bytes();
    NextHop {
        first,
        second: u32::from_ne_bytes([a, b, c, d]),
        ifindex: u32::from_ne_bytes([e, f, g, h]),
    }
}

const fn wide(bytes: [u8; 16]) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
    [u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u64::from_ne_bytes([i, j, k, l, m, n, o, p])]
}

const fn narrow(low: u64, high: u64) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h] = low.to_ne_bytes();
    let [i, j, k, l, m, n, o, p] = high.to_ne_bytes();
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use elvs_common::{DestinationRecord, NextHop};

    use super::{from_words, to_words};

    fn sample() -> DestinationRecord {
        DestinationRecord {
            selector: 1,
            flags: 3,
            method: 2,
            port: 0x5000,
            tunnel_kind: 7,
            address: 0x0a00_0001,
            tunnel_source: 0x0a00_0002,
            next_hop: [
                NextHop::new([1, 2, 3, 4, 5, 6], [7; 6], 9),
                NextHop::new([8; 6], [9, 8, 7, 6, 5, 4], 10),
            ],
            mtu: 1500,
            service: 77,
            address6: [0xab; 16],
            tunnel_source6: [0xcd; 16],
            upper_threshold: 100,
            lower_threshold: 50,
            persistence_ticks: 5625,
            persistence_mask: 0x00ff_ffff,
            template_address: 7,
            persistence_prefix: 64,
            tunnel_port: 0x1c17,
            tunnel_flags: 5,
            pad: 8,
        }
    }

    #[test]
    fn words_carry_every_field_there_and_back() {
        assert_eq!(from_words(to_words(&sample())), sample());
    }

    #[test]
    fn fields_lie_where_the_kernel_reads_them() {
        let record = sample();
        let bytes: Vec<u8> = to_words(&record).iter().flat_map(|w| w.to_ne_bytes()).collect();
        let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!(word(offset_of!(DestinationRecord, selector)), 1);
        assert_eq!(word(offset_of!(DestinationRecord, flags)), 3);
        assert_eq!(word(offset_of!(DestinationRecord, method)), 2);
        let port = offset_of!(DestinationRecord, port);
        assert_eq!(bytes[port..port + 2], 0x5000_u16.to_ne_bytes());
        let kind = offset_of!(DestinationRecord, tunnel_kind);
        assert_eq!(bytes[kind..kind + 2], 7_u16.to_ne_bytes());
        assert_eq!(word(offset_of!(DestinationRecord, address)), 0x0a00_0001);
        assert_eq!(word(offset_of!(DestinationRecord, tunnel_source)), 0x0a00_0002);
        let hops = offset_of!(DestinationRecord, next_hop);
        assert_eq!(bytes[hops..hops + 6], [1, 2, 3, 4, 5, 6]);
        assert_eq!(bytes[hops + 6..hops + 12], [7; 6]);
        assert_eq!(word(hops + 12), 9);
        assert_eq!(bytes[hops + 16..hops + 22], [8; 6]);
        assert_eq!(word(hops + 28), 10);
        assert_eq!(word(offset_of!(DestinationRecord, mtu)), 1500);
        assert_eq!(word(offset_of!(DestinationRecord, service)), 77);
        let address6 = offset_of!(DestinationRecord, address6);
        assert_eq!(bytes[address6..address6 + 16], [0xab; 16]);
        let source6 = offset_of!(DestinationRecord, tunnel_source6);
        assert_eq!(bytes[source6..source6 + 16], [0xcd; 16]);
        assert_eq!(word(offset_of!(DestinationRecord, upper_threshold)), 100);
        assert_eq!(word(offset_of!(DestinationRecord, lower_threshold)), 50);
        assert_eq!(word(offset_of!(DestinationRecord, persistence_ticks)), 5625);
        assert_eq!(word(offset_of!(DestinationRecord, persistence_mask)), 0x00ff_ffff);
        assert_eq!(word(offset_of!(DestinationRecord, template_address)), 7);
        assert_eq!(word(offset_of!(DestinationRecord, persistence_prefix)), 64);
        let port = offset_of!(DestinationRecord, tunnel_port);
        assert_eq!(bytes[port..port + 2], 0x1c17_u16.to_ne_bytes());
        assert_eq!(word(offset_of!(DestinationRecord, pad)), 8);
    }
}
