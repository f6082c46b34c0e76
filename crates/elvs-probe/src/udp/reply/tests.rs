use std::net::SocketAddr;
use std::time::Duration;

use elvs_model::health::{ReplyPattern, Target};

use super::*;

fn check(reply: Option<(&[u8], &[u8])>, lengths: (u16, u16)) -> UdpCheck {
    UdpCheck {
        target: Target {
            address: SocketAddr::from(([192, 0, 2, 1], 9)),
            source: None,
            source_port: None,
            interface: None,
            mark: 0,
            timeout: Duration::from_secs(1),
        },
        payload: None,
        require_reply: true,
        reply: reply
            .map(|(bytes, mask)| ReplyPattern { bytes: bytes.to_vec(), mask: mask.to_vec() }),
        min_length: lengths.0,
        max_length: lengths.1,
    }
}

#[test]
fn keepalived_udp_check_judges_replies() {
    let exact: Option<(&[u8], &[u8])> = Some((b"\x01\x02", b"\xff\xff"));
    let loose: Option<(&[u8], &[u8])> = Some((b"\x01\x02", b"\xff\xf0"));
    for (check, bytes, words) in [
        (check(None, (4, 8)), &b"x"[..], "ok"),
        (check(exact, (0, 255)), b"\x01\x02\x03", "ok"),
        (check(exact, (0, 255)), b"\x01", "ok"),
        (check(exact, (0, 255)), b"", "ok"),
        (check(exact, (1, 255)), b"", "reply of 0 bytes, wanted 1 to 255"),
        (check(exact, (0, 2)), b"\x01\x02\x03", "reply of 3 bytes or more, wanted 0 to 2"),
        (
            check(exact, (0, 255)),
            b"\x01A",
            "reply begins with \"\\u{1}A\", which differs from the wanted one at byte 1",
        ),
        (check(loose, (0, 255)), b"\x01\x0f", "ok"),
        (
            check(loose, (0, 255)),
            b"ab",
            "reply begins with \"ab\", which differs from the wanted one at byte 0",
        ),
    ] {
        let said =
            judge(&check, bytes).map_or_else(|fault| fault.to_string(), |()| "ok".to_owned());
        assert_eq!(said, words, "{bytes:x?}");
    }
}
