use proptest::prelude::*;

use super::*;

/// A header (RFC 1035, 4.1.1) with these flags and one answer.
fn header(id: u16, flags: u16) -> Vec<u8> {
    [id, flags, 1, 1, 0, 0].iter().flat_map(|word| word.to_be_bytes()).collect()
}

#[test]
fn keepalived_dns_check_judges_the_header() {
    for (bytes, reply) in [
        (header(7, 0x8180), DnsReply::Answer(1)),
        (header(7, 0x8182), DnsReply::Error(ResponseCode::ServFail)),
        (header(7, 0x8183), DnsReply::Error(ResponseCode::NXDomain)),
        (header(7, 0x8185), DnsReply::Error(ResponseCode::Refused)),
        (header(8, 0x8180), DnsReply::Other),
        (header(7, 0x0100), DnsReply::Other),
        (header(7, 0x8180)[..11].to_vec(), DnsReply::Other),
        (Vec::new(), DnsReply::Other),
        ([header(7, 0x8180), vec![0xff; 40]].concat(), DnsReply::Answer(1)),
    ] {
        assert_eq!(DnsReply::parse(&bytes, 7), reply, "{bytes:x?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_judged(bytes: Vec<u8>, id: u16) {
        let short = bytes.len() < 12;
        prop_assert!(!short || DnsReply::parse(&bytes, id) == DnsReply::Other);
    }
}
