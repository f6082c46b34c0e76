//! Full NAT's packets, whatever they look like: what leaves is what came but for what has to differ, both ways.
//!
//! What has to differ is written down here without the code under test; reading a packet recomputes every checksum.

#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail loudly"
)]

mod support;

use std::net::{IpAddr, SocketAddr};

use elvs_common::{Counter, ToaClient, find_client};
use elvs_dataplane::{FakePlane, MemoryFrame};
use elvs_fastpath::Verdict;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use support::full_nat::{MTU, Site, server_mac};
use support::packet::{
    DESTINATION_OPTIONS, DIRECTOR_MAC, GATEWAY_MAC, HOP_BY_HOP, Packet, ROUTING, extension,
};
use support::{ACK, FIN, NIC, SYN, count};

/// Most bytes of options in a TCP header.
const MOST_OPTIONS: usize = 40;
const PSH: u8 = 0x08;

/// What a packet may look like besides what it is.
#[derive(Clone, Debug)]
struct Shape {
    vlans: Vec<(u16, u16)>,
    tos: u8,
    label: u32,
    ttl: u8,
    id: u32,
    dont_fragment: bool,
    /// Words of IP options, or extension headers.
    extras: Vec<u8>,
    numbers: [u32; 2],
    window: u16,
    options: Vec<u8>,
    udp_checksum: bool,
    payload: Vec<u8>,
    padding: usize,
}

/// One TCP option.
fn option() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => any::<u16>().prop_map(|size| [&[2, 4], &size.to_be_bytes()[..]].concat()),
        2 => Just(vec![1]),
        1 => (0..15_u8).prop_map(|shift| vec![3, 3, shift]),
        1 => Just(vec![4, 2]),
        2 => any::<[u8; 8]>().prop_map(|stamps| [&[8, 10], &stamps[..]].concat()),
        // Somebody who would like to be another.
        1 => any::<[u8; 6]>().prop_map(|client| [&[254, 8], &client[..]].concat()),
        1 => any::<[u8; 18]>().prop_map(|client| [&[254, 20], &client[..]].concat()),
    ]
}

fn options() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(option(), 0..5).prop_map(|options| {
        let mut all = Vec::new();
        for option in options {
            if all.len() + option.len() <= MOST_OPTIONS {
                all.extend(option);
            }
        }
        all.resize(all.len().next_multiple_of(4), 1);
        all
    })
}

fn shape() -> impl Strategy<Value = Shape> {
    let outer = (prop_oneof![Just(0x8100_u16), Just(0x88a8)], any::<u16>());
    let inner = (Just(0x8100_u16), any::<u16>());
    let vlans = prop_oneof![
        Just(Vec::new()),
        inner.prop_map(|tag| vec![tag]),
        (outer, inner).prop_map(|(outer, inner)| vec![outer, inner]),
    ];
    let ip = (any::<u8>(), 0..1_u32 << 20, 2..=255_u8, any::<u16>(), any::<bool>());
    let extras = prop_oneof![
        3 => Just(Vec::new()),
        1 => prop::collection::vec(any::<u8>(), 1..4),
    ];
    let length = prop_oneof![0..20_usize, 0..1_460_usize, 1_380..1_460_usize];
    // Bytes of a linear congruential generator: a strategy for each would take longer than all else.
    let payload = (length, any::<u32>()).prop_map(|(length, seed)| {
        let next = |state: &u32| Some(state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
        let states = std::iter::successors(Some(seed), next);
        states.map(|state| (state >> 24) as u8).take(length).collect::<Vec<_>>()
    });
    let tcp = (any::<[u32; 2]>(), any::<u16>(), options());
    let rest = (extras, any::<bool>(), payload, 0..20_usize);
    (vlans, ip, tcp, rest).prop_map(|(vlans, ip, tcp, rest)| Shape {
        vlans,
        tos: ip.0,
        label: ip.1,
        ttl: ip.2,
        id: ip.3.into(),
        dont_fragment: ip.4,
        extras: rest.0,
        numbers: tcp.0,
        window: tcp.1,
        options: tcp.2,
        udp_checksum: rest.1,
        payload: rest.2,
        padding: rest.3,
    })
}

impl Shape {
    /// A packet with this shape that fits the way.
    fn on(&self, packet: Packet) -> Packet {
        let (v4, tcp) = (packet.from.is_ipv4(), packet.protocol == elvs_common::TCP);
        let numbers = [HOP_BY_HOP, DESTINATION_OPTIONS, ROUTING];
        let units = |word: &u8| extension(numbers[usize::from(word % 3)], 1 + word % 2 * 2);
        let mut shaped = Packet {
            vlans: self.vlans.clone(),
            tos: self.tos,
            label: if v4 { 0 } else { self.label },
            ttl: self.ttl,
            id: if v4 { self.id } else { 0 },
            dont_fragment: v4 && self.dont_fragment,
            // No-operation options.
            ip_options: if v4 { vec![1; self.extras.len() * 4] } else { Vec::new() },
            extensions: if v4 { Vec::new() } else { self.extras.iter().map(units).collect() },
            numbers: if tcp { self.numbers } else { [0; 2] },
            window: if tcp { self.window } else { 0 },
            tcp_options: if tcp { self.options.clone() } else { Vec::new() },
            udp_checksum: !tcp && (!v4 || self.udp_checksum),
            payload: self.payload.clone(),
            padding: self.padding,
            ..packet
        };
        let over = shaped.ip().len().saturating_sub(MTU as usize);
        shaped.payload.truncate(shaped.payload.len() - over);
        shaped
    }
}

/// The option that names a client, written down from the documentation.
fn toa(client: SocketAddr) -> Vec<u8> {
    let port = client.port().to_be_bytes();
    match client.ip() {
        IpAddr::V4(address) => [&[254, 8], &port[..], &address.octets()].concat(),
        IpAddr::V6(address) => [&[254, 20], &port[..], &address.octets()].concat(),
    }
}

/// What the repository's own parser, a real server's, makes of options.
fn named_by(options: &[u8]) -> Option<SocketAddr> {
    let ToaClient { address, port } = find_client(options, options.len()).ok()??;
    let bytes: Vec<u8> = address.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let [high, low, ..] = port.to_ne_bytes();
    let address = std::net::Ipv6Addr::from(<[u8; 16]>::try_from(bytes).unwrap());
    Some(SocketAddr::new(address.to_canonical(), u16::from_be_bytes([high, low])))
}

/// Segment size in options.
fn segment_size(options: &[u8]) -> Option<u16> {
    match options {
        [2, 4, high, low, ..] => Some(u16::from_be_bytes([*high, *low])),
        [1, rest @ ..] => segment_size(rest),
        [_, length, ..] if usize::from(*length) >= 2 => {
            segment_size(options.get(usize::from(*length)..)?)
        }
        _ => None,
    }
}

fn run(plane: &FakePlane, packet: &Packet) -> (Verdict, Packet) {
    let mut frame = MemoryFrame::new(packet.build(), NIC);
    let verdict = plane.process(&mut frame);
    (verdict, Packet::read(&frame.bytes))
}

/// A client's packet: what leaves if `named` is whether the client has to be; `None` if it may not leave.
fn wanted_request(packet: &Packet, site: &Site, local: SocketAddr, named: bool) -> Option<Packet> {
    let sent = packet.forwarded(server_mac(1), DIRECTOR_MAC);
    let mut sent = Packet { from: local, to: site.mapped(1), ..sent };
    if named {
        let option = toa(packet.from);
        let room = option.len() + packet.tcp_options.len() <= MOST_OPTIONS
            && packet.ip().len() + option.len() <= MTU as usize
            && packet.ip_options.is_empty()
            && packet.extensions.is_empty();
        if room {
            sent.tcp_options.splice(0..0, option);
        } else if packet.flags & SYN == 0 {
            return None;
        }
    }
    Some(sent)
}

/// A real server's packet: what leaves.
fn wanted_reply(packet: &Packet, site: &Site, client: SocketAddr) -> Packet {
    let mut sent =
        Packet { from: site.service(), to: client, ..packet.forwarded(GATEWAY_MAC, DIRECTOR_MAC) };
    let room = if client.is_ipv4() { 8 } else { 20 };
    // The size is the first option wherever a stack sends it; below 256 bytes nothing is taken off.
    if packet.flags & (SYN | ACK) == SYN | ACK
        && let [2, 4, high, low, ..] = &mut sent.tcp_options[..]
        && *high != 0
    {
        [*high, *low] = (u16::from_be_bytes([*high, *low]) - room).to_be_bytes();
    }
    sent
}

/// A conversation, each packet with a shape of its own: the connection opens, is answered, and data goes both ways.
fn converse(site: &Site, client: SocketAddr, shapes: &[Shape]) -> Result<(), TestCaseError> {
    let plane = site.plane();
    let flags = [SYN, ACK, ACK | PSH, ACK, ACK | FIN, ACK];
    let answers = [SYN | ACK, SYN | ACK, ACK, ACK | PSH, ACK | FIN, ACK];
    let mut local = None;
    let mut answered = !site.tcp;
    let mut refused = 0;
    for (two, (flag, answer)) in shapes.chunks(2).zip(flags.into_iter().zip(answers)) {
        let [shape, reply] = two else { break };
        let flag = if site.tcp { flag } else { 0 };
        let request = shape.on(site.packet(client, site.service(), flag));
        let (verdict, sent) = run(&plane, &request);
        let end = *local.get_or_insert(sent.from);
        prop_assert!(end.ip() == site.local(1) && end.port() >= 1_024, "{end}");
        match wanted_request(&request, site, end, !answered) {
            Some(wanted) => {
                prop_assert_eq!((verdict, &sent), (Verdict::Transmit, &wanted));
                if sent.tcp_options.len() > request.tcp_options.len() {
                    prop_assert_eq!(named_by(&sent.tcp_options), Some(client));
                }
            }
            None => {
                refused += 1;
                prop_assert_eq!(verdict, Verdict::Drop);
            }
        }
        prop_assert_eq!(count(&plane, Counter::ToaNoRoom), refused);

        let answer = if site.tcp { answer } else { 0 };
        let reply = reply.on(site.packet(site.mapped(1), end, answer));
        let (verdict, sent) = run(&plane, &reply);
        prop_assert_eq!((verdict, &sent), (Verdict::Transmit, &wanted_reply(&reply, site, client)));
        prop_assert!(segment_size(&sent.tcp_options) <= segment_size(&reply.tcp_options));
        answered |= answer & SYN == 0;
    }
    Ok(())
}

fn client(v6: bool) -> impl Strategy<Value = SocketAddr> {
    (any::<[u8; 8]>(), 1..=u16::MAX).prop_map(move |(rest, port)| {
        let address = if v6 {
            let [a, b, c, d, e, f, g, h] = rest;
            let bytes = [0x20, 1, 0xd, 0xb8, a, b, c, d, e, f, g, h, 0, 0, 0, 1];
            IpAddr::from(bytes)
        } else {
            IpAddr::from([203, rest[0], rest[1], rest[2]])
        };
        // Port 20 is active FTP's, which never opens a connection.
        SocketAddr::new(address, if port == 20 { 21 } else { port })
    })
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 64, rng_seed: RngSeed::Fixed(3), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn segments_of_ipv4_leave_as_they_came_but_for_what_has_to_differ(
        client in client(false),
        shapes in prop::collection::vec(shape(), 12),
    ) {
        converse(&Site { v6: false, tcp: true }, client, &shapes)?;
    }

    #[test]
    fn segments_of_ipv6_leave_as_they_came_but_for_what_has_to_differ(
        client in client(true),
        shapes in prop::collection::vec(shape(), 12),
    ) {
        converse(&Site { v6: true, tcp: true }, client, &shapes)?;
    }

    #[test]
    fn datagrams_leave_as_they_came_but_for_what_has_to_differ(
        clients in (client(false), client(true)),
        shapes in prop::collection::vec(shape(), 12),
    ) {
        converse(&Site { v6: false, tcp: false }, clients.0, &shapes)?;
        converse(&Site { v6: true, tcp: false }, clients.1, &shapes)?;
    }
}

/// Values of the checksum all over: the payload's first word is chosen so that the sum takes them, the two ends included.
#[test]
fn checksums_are_those_of_a_full_recomputation_wherever_the_sum_lies() {
    for (v6, tcp) in [(false, true), (false, false), (true, true), (true, false)] {
        let site = Site { v6, tcp };
        let plane = site.plane();
        let flags = |flags| if tcp { flags } else { 0 };
        let client = site.client(1);
        let open = site.packet(client, site.service(), flags(SYN));
        let local = run(&plane, &open).1.from;
        for word in (0..=u16::MAX).step_by(11).chain([u16::MAX]) {
            let payload = word.to_be_bytes().to_vec();
            let request = site.packet(client, site.service(), flags(ACK));
            let request = Packet { payload: payload.clone(), ..request };
            let sent = run(&plane, &request).1;
            assert_eq!(Some(&sent), wanted_request(&request, &site, local, tcp).as_ref());
            let reply = Packet { payload, ..site.packet(site.mapped(1), local, flags(SYN | ACK)) };
            assert_eq!(run(&plane, &reply).1, wanted_reply(&reply, &site, client));
        }
    }
}
