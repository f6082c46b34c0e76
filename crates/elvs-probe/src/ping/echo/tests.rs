use proptest::prelude::*;

use super::*;

const ECHO: Echo = Echo { v6: false, identifier: Some(0x1234), sequence: 7, nonce: 99 };

/// The reply that a host gives to a request.
fn reply(echo: &Echo) -> Vec<u8> {
    let mut message = echo.request();
    message[0] = if echo.v6 { V6_REPLY } else { V4_REPLY };
    message
}

#[test]
fn rfc792_request_has_a_checksum() {
    let message = ECHO.request();
    assert_eq!(message[0], 8);
    assert_eq!(checksum(&message), 0);
}

#[test]
fn takes_its_own_reply_only() {
    for echo in [ECHO, Echo { v6: true, ..ECHO }, Echo { identifier: None, ..ECHO }] {
        assert!(echo.is_answered_by(&reply(&echo)));
        assert!(!echo.is_answered_by(&echo.request()), "its own request");
        assert!(!echo.is_answered_by(&reply(&Echo { sequence: 8, ..echo })));
        assert!(!echo.is_answered_by(&reply(&Echo { nonce: 98, ..echo })));
        assert!(!echo.is_answered_by(&reply(&echo)[..8]));
    }
    assert!(!ECHO.is_answered_by(&reply(&Echo { identifier: Some(0x1235), ..ECHO })));
    let unreachable = [&[3, 1, 0, 0, 0, 0, 0, 0][..], &ECHO.request()].concat();
    assert!(!ECHO.is_answered_by(&unreachable));
}

#[test]
fn rfc791_header_ends_where_it_says() {
    let header = |words: u8| vec![0x40 | words; usize::from(words) * 4];
    assert_eq!(without_header(&[header(5), b"icmp".to_vec()].concat()), b"icmp");
    assert_eq!(without_header(&[header(6), b"icmp".to_vec()].concat()), b"icmp");
    assert_eq!(without_header(&header(5)[..7]), b"");
    assert_eq!(without_header(b""), b"");
}

proptest! {
    #[test]
    fn any_bytes_are_judged(bytes: Vec<u8>, v6: bool) {
        let echo = Echo { v6, ..ECHO };
        prop_assert!(!echo.is_answered_by(without_header(&bytes)) || bytes.len() > 20);
    }
}
