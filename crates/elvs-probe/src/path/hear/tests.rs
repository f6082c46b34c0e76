use std::net::IpAddr;

use etherparse::PacketBuilder;

use super::{Answer, Claim, News, Refusal, hear};
use crate::path::packet::{self, Ends};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn answer(number: u16, from: &str, what: Answer) -> Option<News> {
    Some(News::Answer { number, from: ip(from), what })
}

fn built(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes);
    bytes
}

#[test]
fn segments_and_datagrams() {
    let four = || PacketBuilder::ipv4([192, 0, 2, 9], [192, 0, 2, 1], 64);
    let tcp = || four().tcp(80, 0xf001, 5, 100);
    let cases = [
        (
            built(|b| tcp().syn().ack(7).write(b, &[]).unwrap()),
            Answer::Segment { opens: true, acknowledged: 7 },
        ),
        (
            built(|b| tcp().ack(7).write(b, b"data").unwrap()),
            Answer::Segment { opens: false, acknowledged: 7 },
        ),
        (built(|b| tcp().rst().ack(7).write(b, &[]).unwrap()), Answer::Reset { acknowledged: 7 }),
        (built(|b| four().udp(53, 0xf001).write(b, b"data").unwrap()), Answer::Datagram),
        (built(|b| four().icmpv4_echo_reply(0xf001, 1).write(b, &[]).unwrap()), Answer::Echo),
    ];
    for (packet, what) in cases {
        assert_eq!(hear(IPV4, MAC, &packet), answer(0xf001, "192.0.2.9", what));
    }
    let six = PacketBuilder::ipv6(
        [0x20, 1, 13, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9],
        [0x20, 1, 13, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        64,
    );
    let echo = built(|b| six.icmpv6_echo_reply(0xf001, 1).write(b, &[]).unwrap());
    assert_eq!(hear(IPV6, MAC, &echo), answer(0xf001, "2001:db8::9", Answer::Echo));
}

/// An error of each kind about a probe, quoted whole and as short as RFC 792 lets it be.
#[test]
fn errors_by_what_they_quote() {
    let four = Ends { from: ip("192.0.2.1"), to: ip("192.0.2.9"), hops: 1, number: 0xf002 };
    let six = Ends { from: ip("2001:db8::1"), to: ip("2001:db8::9"), ..four };
    for (kind, code, refusal) in [
        (3, 2, Refusal::Protocol),
        (3, 3, Refusal::Port),
        (3, 13, Refusal::Prohibited),
        (3, 1, Refusal::Unreachable),
        (3, 4, Refusal::Other { kind: 3, code: 4 }),
        (11, 0, Refusal::Hops),
    ] {
        let probe = packet::syn(four, 80, 0).unwrap();
        for quoted in [&probe[..], &probe[..28]] {
            let packet = built(|b| {
                let builder = PacketBuilder::ipv4([203, 0, 113, 1], [192, 0, 2, 1], 64);
                builder.icmpv4_raw(kind, code, [0; 4]).write(b, quoted).unwrap();
            });
            let what = Answer::Refused { refusal, quoted_to: four.to };
            assert_eq!(hear(IPV4, MAC, &packet), answer(0xf002, "203.0.113.1", what));
        }
    }
    for (kind, code, refusal) in [
        (1, 4, Refusal::Port),
        (1, 1, Refusal::Prohibited),
        (1, 3, Refusal::Unreachable),
        (3, 0, Refusal::Hops),
        (4, 1, Refusal::Protocol),
        (2, 0, Refusal::Other { kind: 2, code: 0 }),
    ] {
        let probe = packet::syn(six, 80, 0).unwrap();
        let packet = built(|b| {
            let builder = PacketBuilder::ipv6([9; 16], [8; 16], 64);
            builder.icmpv6_raw(kind, code, [0; 4]).write(b, &probe).unwrap();
        });
        let what = Answer::Refused { refusal, quoted_to: six.to };
        let from = IpAddr::from([9; 16]).to_string();
        assert_eq!(hear(IPV6, MAC, &packet), answer(0xf002, &from, what));
    }
}

#[test]
fn claims_of_an_address() {
    let request = packet::arp_request(MAC, [192, 0, 2, 9].into(), [192, 0, 2, 1].into());
    let claim = |asking| Some(News::Claim(Claim { address: ip("192.0.2.9"), mac: MAC, asking }));
    assert_eq!(hear(0x0806, [0; 6], &request), claim(true));
    let mut reply = request;
    reply[7] = 2;
    assert_eq!(hear(0x0806, [0; 6], &reply), claim(false));

    let advertisement = built(|b| {
        let target = [0x20, 1, 13, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
        let builder = PacketBuilder::ipv6([9; 16], [8; 16], 255);
        builder.icmpv6_raw(136, 0, [0x60, 0, 0, 0]).write(b, &target).unwrap();
    });
    let address = ip("2001:db8::9");
    let claim = News::Claim(Claim { address, mac: MAC, asking: false });
    assert_eq!(hear(IPV6, MAC, &advertisement), Some(claim));
}

/// Any beginning of a packet, and any byte of it changed, is heard as something or nothing.
#[test]
fn survives_broken_packets() {
    let four = Ends { from: ip("192.0.2.1"), to: ip("192.0.2.9"), hops: 1, number: 0xf002 };
    let six = Ends { from: ip("2001:db8::1"), to: ip("2001:db8::9"), ..four };
    let quoted = |ends| packet::syn(ends, 80, 0).unwrap();
    let error = built(|b| {
        let builder = PacketBuilder::ipv4([1; 4], [2; 4], 64);
        builder.icmpv4_raw(3, 3, [0; 4]).write(b, &quoted(four)).unwrap();
    });
    let arp = packet::arp_request(MAC, [192, 0, 2, 9].into(), [192, 0, 2, 1].into());
    for (ethertype, packet) in
        [(IPV4, quoted(four)), (IPV6, quoted(six)), (IPV4, error), (0x0806, arp)]
    {
        for length in 0..packet.len() {
            let _ = hear(ethertype, MAC, &packet[..length]);
        }
        for (at, value) in (0..packet.len()).flat_map(|at| [0, 1, 0x7f, 0xff].map(|v| (at, v))) {
            let mut packet = packet.clone();
            packet[at] = value;
            let _ = hear(ethertype, MAC, &packet);
        }
        assert_eq!(hear(0x88cc, MAC, &packet[..0]), None);
    }
}
