use std::net::IpAddr;

use super::{
    ACCEPT, BYTE, BYTE_BEHIND, ETHERTYPE, HALF, HALF_BEHIND, HEADER_LENGTH, JEQ, JGE, JSET,
};
use super::{WORD, filter};
use crate::path::packet::{self, Ends};

/// Runs the filter as the kernel does: whether it lets a packet through. A load beyond the end refuses.
fn lets_through(ethertype: u16, packet: &[u8]) -> bool {
    let program = filter();
    let (mut a, mut x, mut at) = (0_u32, 0_usize, 0_usize);
    let byte = |at: usize| packet.get(at).copied().map(u32::from);
    loop {
        let step = program[at];
        let (code, k) = (u32::from(step.code), step.k);
        let place = k as usize;
        at += 1;
        let loaded = match code {
            WORD if k == ETHERTYPE => Some(u32::from(ethertype)),
            BYTE => byte(place),
            HALF => byte(place).zip(byte(place + 1)).map(|(h, l)| h << 8 | l),
            BYTE_BEHIND => byte(x + place),
            HALF_BEHIND => byte(x + place).zip(byte(x + place + 1)).map(|(h, l)| h << 8 | l),
            HEADER_LENGTH => {
                let Some(first) = byte(place) else { return false };
                x = (first & 15) as usize * 4;
                Some(a)
            }
            JEQ | JGE | JSET => {
                let holds = match code {
                    JEQ => a == k,
                    JGE => a >= k,
                    _ => a & k != 0,
                };
                at += usize::from(if holds { step.jt } else { step.jf });
                Some(a)
            }
            code => {
                assert_eq!(code, u32::from(ACCEPT.code), "an instruction that the filter has");
                return k != 0;
            }
        };
        let Some(loaded) = loaded else { return false };
        a = loaded;
    }
}

fn ends(from: &str, to: &str, number: u16) -> Ends {
    let [from, to] = [from, to].map(|text| text.parse::<IpAddr>().unwrap());
    Ends { from, to, hops: 1, number }
}

#[test]
fn lets_answers_through_and_nothing_else() {
    let four = ends("192.0.2.9", "192.0.2.1", 80);
    let six = ends("2001:db8::9", "2001:db8::1", 80);
    for (ethertype, ends, icmp, errors, ports) in
        [(0x0800, four, 20, [3, 11, 12], 22), (0x86dd, six, 40, [1, 2, 3], 42)]
    {
        for (port, through) in [(0xefff, false), (0xf000, true), (0xffff, true), (80, false)] {
            for packet in [packet::syn(ends, port, 0), packet::datagram(ends, port)] {
                let packet = packet.unwrap();
                assert_eq!(lets_through(ethertype, &packet), through, "{ends:?} to {port}");
                assert!(!lets_through(0x88cc, &packet), "another protocol");
                assert!(!lets_through(ethertype, &packet[..ports]), "a packet without ports");
            }
        }
        let mut echo = packet::echo(ends).unwrap();
        assert!(!lets_through(ethertype, &echo), "an echo request");
        echo[icmp] = if ethertype == 0x0800 { 0 } else { 129 };
        assert!(lets_through(ethertype, &echo), "an echo reply");
        for kind in errors {
            echo[icmp] = kind;
            assert!(lets_through(ethertype, &echo), "an error of kind {kind}");
        }
        echo[icmp] = if ethertype == 0x0800 { 5 } else { 137 };
        assert!(!lets_through(ethertype, &echo), "a redirect");
    }
    let mut fragment = packet::syn(four, 0xf000, 0).unwrap();
    fragment[7] = 1;
    assert!(!lets_through(0x0800, &fragment), "a later fragment");
    let arp = packet::arp_request([0; 6], [192, 0, 2, 1].into(), [192, 0, 2, 9].into());
    assert!(lets_through(0x0806, &arp));
    let [from, to] = ["2001:db8::1", "2001:db8::9"].map(|text| text.parse().unwrap());
    let mut neighbour = packet::solicitation([0; 6], from, to).unwrap();
    assert!(!lets_through(0x86dd, &neighbour), "a solicitation");
    neighbour[40] = 136;
    assert!(lets_through(0x86dd, &neighbour), "an advertisement");
}
