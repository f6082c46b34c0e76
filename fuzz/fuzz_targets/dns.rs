//! Any datagram is an answer to a question, an error or something else.

#![no_main]

use elvs_probe::DnsReply;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let id = bytes.first_chunk().map_or(0, |id| u16::from_be_bytes(*id));
    let short = bytes.len() < 12;
    assert!(!short || DnsReply::parse(bytes, id) == DnsReply::Other);
});
