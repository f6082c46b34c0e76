use std::net::IpAddr;

use elvs_model::{TunnelChecksum, TunnelKind};
use etherparse::{IpNumber, NetSlice, SlicedPacket, TransportSlice};

use super::{
    Ends, FAR, NEAR, arp_request, datagram, echo, reset, solicitation, strange, syn, wrap,
};

const V4: [&str; 2] = ["192.0.2.1", "198.51.100.7"];
const V6: [&str; 2] = ["2001:db8::1", "2001:db8:1::7"];

fn ends([from, to]: [&str; 2]) -> Ends {
    let [from, to] = [from, to].map(|text| text.parse::<IpAddr>().unwrap());
    Ends { from, to, hops: NEAR, number: 0xf123 }
}

/// Checks the IP header and the transport's checksum; returns protocol and payload.
fn open(packet: &[u8], ends: Ends) -> (IpNumber, Vec<u8>) {
    let sliced = SlicedPacket::from_ip(packet).unwrap();
    let (from, to, hops, number): (IpAddr, IpAddr, u8, u32) = match sliced.net.as_ref().unwrap() {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            assert_eq!(header.header_checksum(), header.to_header().calc_header_checksum());
            assert!(header.dont_fragment());
            let id = header.identification().into();
            (header.source_addr().into(), header.destination_addr().into(), header.ttl(), id)
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            let label = header.flow_label().value();
            (
                header.source_addr().into(),
                header.destination_addr().into(),
                header.hop_limit(),
                label,
            )
        }
        NetSlice::Arp(_) => panic!("IP is wanted"),
    };
    assert_eq!((from, to, hops, number), (ends.from, ends.to, ends.hops, ends.number.into()));
    let payload = sliced.ip_payload().unwrap();
    (payload.ip_number, payload.payload.to_vec())
}

/// The Internet checksum of a transport with its pseudo header: 0 if it is right.
fn sum(ends: Ends, protocol: u8, payload: &[u8]) -> u16 {
    let octets = |address| match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    let pseudo = [&octets(ends.from)[..], &octets(ends.to), &[0, protocol], &length].concat();
    let mut all = [pseudo, payload.to_vec()].concat();
    all.resize(all.len().next_multiple_of(2), 0);
    let words = all.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum = words.sum::<u32>();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap()
}

#[test]
fn probes_are_whole_packets() {
    for ends in [ends(V4), ends(V6)] {
        let packet = syn(ends, 80, 7).unwrap();
        let (protocol, payload) = open(&packet, ends);
        assert_eq!((protocol, sum(ends, 6, &payload)), (IpNumber::TCP, 0));
        let Some(TransportSlice::Tcp(tcp)) = SlicedPacket::from_ip(&packet).unwrap().transport
        else {
            panic!("TCP is wanted");
        };
        assert_eq!((tcp.source_port(), tcp.destination_port()), (0xf123, 80));
        assert!(tcp.syn() && !tcp.ack() && !tcp.rst() && tcp.sequence_number() == 7);

        let packet = reset(ends, 80, 8).unwrap();
        let (_, payload) = open(&packet, ends);
        assert_eq!(sum(ends, 6, &payload), 0);
        let Some(TransportSlice::Tcp(tcp)) = SlicedPacket::from_ip(&packet).unwrap().transport
        else {
            panic!("TCP is wanted");
        };
        assert!(tcp.rst() && !tcp.syn() && tcp.sequence_number() == 8);

        let (protocol, payload) = open(&datagram(ends, 53).unwrap(), ends);
        assert_eq!((protocol, sum(ends, 17, &payload)), (IpNumber::UDP, 0));
        assert_eq!(payload[..6], [0xf1, 0x23, 0, 53, 0, 8]);
    }
    let (protocol, payload) = open(&echo(ends(V4)).unwrap(), ends(V4));
    assert_eq!((protocol, &payload[4..]), (IpNumber::ICMP, &[0xf1, 0x23, 0, 1][..]));
    let (protocol, payload) = open(&echo(ends(V6)).unwrap(), ends(V6));
    assert_eq!((protocol, sum(ends(V6), 58, &payload)), (IpNumber::IPV6_ICMP, 0));
    assert_eq!((payload[0], &payload[4..]), (128, &[0xf1, 0x23, 0, 1][..]));
}

#[test]
fn rejects_ends_of_two_families() {
    let mixed = ends([V4[0], V6[1]]);
    assert_eq!(syn(mixed, 80, 0), None);
    assert_eq!(echo(mixed), None);
    assert_eq!(wrap(mixed, TunnelKind::Ipip, &echo(ends(V4)).unwrap()), None);
}

/// The headers of RFC 2003, RFC 2784 and draft-ietf-intarea-gue, variant 0.
#[test]
fn outer_headers() {
    use TunnelChecksum::{Csum, None, Remcsum};
    let gue = |checksum| TunnelKind::Gue { port: 6080, checksum };
    let gre = |checksum| TunnelKind::Gre { checksum };
    for outer in [ends(V4), ends(V6)] {
        let outer = Ends { hops: FAR, ..outer };
        for (inner, own, ethertype) in [(ends(V4), 4, [8, 0]), (ends(V6), 41, [0x86, 0xdd])] {
            let inner = echo(inner).unwrap();
            let wrapped = |kind| open(&wrap(outer, kind, &inner).unwrap(), outer);

            assert_eq!(wrapped(TunnelKind::Ipip), (IpNumber(own), inner.clone()));

            let (protocol, payload) = wrapped(gre(None));
            assert_eq!(
                (protocol, &payload[..4]),
                (IpNumber::GRE, &[&[0, 0], &ethertype[..]].concat()[..])
            );
            assert_eq!(payload[4..], inner);
            let (_, payload) = wrapped(gre(Csum));
            assert_eq!(payload[..4], [&[0x80, 0], &ethertype[..]].concat());
            assert_eq!(payload[8..], inner);
            // There is no pseudo header, so a right sum adds nothing to that of zeros in its place.
            let zeros = vec![0; payload.len()];
            assert_eq!(sum(outer, 0, &payload), sum(outer, 0, &zeros));

            for (checksum, sums) in [(None, false), (Csum, true), (Remcsum, true)] {
                let (protocol, payload) = wrapped(gue(checksum));
                assert_eq!(protocol, IpNumber::UDP);
                assert_eq!(payload[..4], [0xf1, 0x23, 0x17, 0xc0]);
                assert_eq!(payload[8..12], [0, own, 0, 0]);
                assert_eq!(payload[12..], inner);
                if sums {
                    assert_eq!(sum(outer, 17, &payload), 0);
                } else {
                    assert_eq!(payload[6..8], [0, 0]);
                }
            }
        }
    }
}

#[test]
fn what_nobody_takes() {
    let gue = TunnelKind::Gue { port: 6080, checksum: TunnelChecksum::None };
    let (protocol, _) = open(&strange(ends(V4), TunnelKind::Ipip).unwrap(), ends(V4));
    assert_eq!(protocol, IpNumber(253));
    let (_, payload) = open(&strange(ends(V4), gue).unwrap(), ends(V4));
    assert_eq!(payload[2..4], 1021_u16.to_be_bytes());
}

#[test]
fn questions_for_an_address() {
    let mac = [2, 0, 0, 0, 0, 1];
    let request = arp_request(mac, [192, 0, 2, 1].into(), [192, 0, 2, 9].into());
    let arp = etherparse::ArpPacketSlice::from_slice(&request).unwrap();
    assert_eq!(arp.operation(), etherparse::ArpOperation::REQUEST);
    assert_eq!(arp.sender_hw_addr(), mac);
    assert_eq!(arp.sender_protocol_addr(), [192, 0, 2, 1]);
    assert_eq!(arp.target_protocol_addr(), [192, 0, 2, 9]);

    let ends = Ends { hops: 255, number: 0, ..ends(V6) };
    let [from, to] = V6.map(|text| text.parse().unwrap());
    let (protocol, payload) = open(&solicitation(mac, from, to).unwrap(), ends);
    assert_eq!((protocol, sum(ends, 58, &payload)), (IpNumber::IPV6_ICMP, 0));
    let asked = [&[135, 0][..], &payload[2..4], &[0; 4], &to.octets(), &[1, 1], &mac].concat();
    assert_eq!(payload, asked);
}
