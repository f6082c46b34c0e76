//! `DNS_CHECK` and `UDP_CHECK`.

use std::net::SocketAddr;

use elvs_model::health::{CheckKind, DnsCheck, DnsType, ReplyPattern, Target, UdpCheck};
use tokio::net::UdpSocket;

use super::{hasty, target, words};

/// A server that answers each datagram with those that `answer` makes of it.
async fn serve(answer: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            for datagram in answer(buffer.get(..length).unwrap()) {
                socket.send_to(&datagram, peer).await.unwrap();
            }
        }
    });
    address
}

async fn nowhere() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

async fn dns(target: Target, name: &str) -> String {
    let check = DnsCheck { target, record: DnsType::Soa, name: name.to_owned() };
    words(CheckKind::Dns(check)).await
}

/// The question, with an identifier that is off by so much, and these flags: an answer with one record.
fn answer(question: &[u8], off: u16, flags: u16) -> Vec<u8> {
    let (id, rest) = question.split_first_chunk::<2>().unwrap();
    let id = u16::from_be_bytes(*id).wrapping_add(off);
    let mut answer = [&id.to_be_bytes(), &flags.to_be_bytes()[..]].concat();
    answer.extend([0, 1, 0, 1]);
    answer.extend(rest.get(6..).unwrap());
    answer
}

#[tokio::test]
async fn keepalived_dns_check_asks() {
    const PASSED: &str = "+ DNS answer without error, 1 record";
    for (flags, said) in [
        (0x8180, PASSED),
        (0x8182, "- DNS error: Server Failure"),
        (0x8183, "- DNS error: Non-Existent Domain"),
        (0x8185, "- DNS error: Query Refused"),
    ] {
        let address = serve(move |question| vec![answer(question, 0, flags)]).await;
        assert_eq!(dns(target(address), "example.org").await, said, "{flags:x}");
    }
    let address = serve(|question| {
        vec![answer(question, 1, 0x8182), question.to_vec(), vec![1], answer(question, 0, 0x8180)]
    })
    .await;
    assert_eq!(dns(target(address), ".").await, PASSED, "what is no answer is skipped");
}

#[tokio::test]
async fn dns_check_asks_for_the_name_and_type() {
    let address = serve(|question| {
        let wanted = b"\x07example\x03org\x00\x00\x06\x00\x01";
        let flags = if question.ends_with(wanted) { 0x8180 } else { 0x8181 };
        vec![answer(question, 0, flags)]
    })
    .await;
    assert!(dns(target(address), "example.org").await.starts_with('+'));
    assert!(dns(target(address), "example.org.").await.starts_with('+'));
}

#[tokio::test]
async fn dns_check_says_which_step_came_to_nothing() {
    assert_eq!(dns(target(nowhere().await), ".").await, "- connection refused");
    let mute = serve(|_| Vec::new()).await;
    assert_eq!(dns(hasty(mute), ".").await, "- no DNS answer within 200 ms");
    let garbage = serve(|_| vec![vec![0xff; 600], Vec::new()]).await;
    assert_eq!(dns(hasty(garbage), ".").await, "- no DNS answer within 200 ms");
    assert_eq!(dns(hasty(mute), "a..b").await, "- a..b is no name to ask for");
}

fn udp(target: Target) -> UdpCheck {
    UdpCheck {
        target,
        payload: None,
        require_reply: false,
        reply: None,
        min_length: 0,
        max_length: 255,
    }
}

#[tokio::test]
async fn keepalived_udp_check_waits_for_errors() {
    let refused = CheckKind::Udp(udp(target(nowhere().await)));
    assert_eq!(words(refused).await, "- connection refused");
    let mute = serve(|_| Vec::new()).await;
    assert_eq!(words(CheckKind::Udp(udp(hasty(mute)))).await, "+ no ICMP error within 200 ms");
    let echo = serve(|payload| vec![payload.to_vec()]).await;
    assert_eq!(words(CheckKind::Udp(udp(target(echo)))).await, "+ reply of 32 bytes");
}

#[tokio::test]
async fn keepalived_udp_check_wants_a_reply() {
    let wanting =
        |target| UdpCheck { require_reply: true, payload: Some(vec![1, 2]), ..udp(target) };
    let mute = serve(|_| Vec::new()).await;
    assert_eq!(words(CheckKind::Udp(wanting(hasty(mute)))).await, "- no reply within 200 ms");
    let echo = serve(|payload| vec![payload.to_vec()]).await;
    let pattern = |bytes: &[u8]| {
        let mask = vec![0xff; bytes.len()];
        Some(ReplyPattern { bytes: bytes.to_vec(), mask })
    };
    for (reply, least, said) in [
        (None, 0, "+ reply of 2 bytes"),
        (pattern(&[1, 2]), 0, "+ reply of 2 bytes"),
        (pattern(&[1, 2]), 3, "- reply of 2 bytes, wanted 3 to 255"),
        (
            pattern(&[1, 3]),
            0,
            "- reply begins with \"\\u{1}\\u{2}\", which differs from the wanted one at byte 1",
        ),
    ] {
        let check = UdpCheck { reply, min_length: least, ..wanting(target(echo)) };
        assert_eq!(words(CheckKind::Udp(check)).await, said);
    }
    let large = serve(|_| vec![vec![1; 1000]]).await;
    let check = UdpCheck { reply: pattern(&[1]), ..wanting(target(large)) };
    assert_eq!(words(CheckKind::Udp(check)).await, "- reply of 256 bytes or more, wanted 0 to 255");
}
