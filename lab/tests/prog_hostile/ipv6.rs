//! IPv6's part: services, packets, and what a packet has to be before it may be sent on.

use std::net::{Ipv4Addr, Ipv6Addr};

use elvs_common::{TCP, UDP, filter_place};
use elvs_lab::method;
use elvs_model::{Destination, DestinationKey, ForwardingMethod, Protocol, ServiceKey};

use crate::support::{
    ACK, DESTINATION_OPTIONS, FIN, FRAGMENT, HOP_BY_HOP, Packet6, ROUTING, RST, SYN, extension,
    folded, fragment,
};

pub const CLIENT: &str = "[2001:db8::7]:40000";
pub const NAT_VIP: &str = "[fd00::100]:80";
pub const DR_VIP: &str = "[fd00::101]:80";
/// Its fold is that of [`NAT_VIP`].
pub const TWIN_VIP: &str = "[fd00:0:0:5:0:5:0:100]:80";
/// All its real servers have weight 0.
const QUIET_VIP: &str = "[fd00::103]:80";
/// Nobody knows the way to its real server.
const LOST_VIP: &str = "[fd00::104]:80";
/// Its real server is removed half way.
pub const LEFT_VIP: &str = "[fd00::105]:80";
const FULL_NAT_VIP: &str = "[fd00::106]:80";
const NAT_SERVER: &str = "[fd01::21]:8080";
/// Of the service by full NAT.
const FULL_NAT_SERVER: &str = "[fd01::21]:80";
/// Its local address with the first of its ports, which the first connection gets.
pub const LOCAL: &str = "[fd00::201]:1024";

/// A virtual address with its method, and its real servers by last number and weight.
type Service = (&'static str, ForwardingMethod, &'static [(u8, u32)]);

/// Each virtual address.
pub const SERVICES: [Service; 7] = [
    (NAT_VIP, method::NAT, &[(0x21, 1)]),
    (DR_VIP, method::DR, &[(0x21, 2), (0x22, 1)]),
    (TWIN_VIP, method::NAT, &[(0x22, 1)]),
    (QUIET_VIP, method::DR, &[(0x21, 0), (0x22, 0)]),
    (LOST_VIP, method::DR, &[(0x29, 1)]),
    (LEFT_VIP, method::DR, &[(0x21, 1)]),
    (FULL_NAT_VIP, ForwardingMethod::FullNat, &[(0x21, 1), (0x22, 1)]),
];

pub fn server(last: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, last.into())
}

/// An IPv4 address whose place in the filter of virtual addresses is that of [`NAT_VIP`]'s fold.
pub fn colliding() -> Ipv4Addr {
    let vip: std::net::SocketAddr = NAT_VIP.parse().unwrap();
    let place = filter_place(folded(vip.ip()));
    (0x0b00_0000_u32..).find(|address| filter_place(address.to_be()) == place).unwrap().into()
}

pub fn key(vip: &str, protocol: Protocol) -> ServiceKey {
    let vip: std::net::SocketAddr = vip.parse().unwrap();
    ServiceKey::Address { protocol, address: vip.ip(), port: vip.port() }
}

pub fn destination(last: u8, method: ForwardingMethod, weight: u32) -> Destination {
    let port = if method == method::NAT { 8_080 } else { 80 };
    Destination {
        key: DestinationKey { address: server(last).into(), port },
        method,
        weight,
        upper_threshold: 0,
        lower_threshold: 0,
    }
}

/// Good packets of every kind: methods, protocols, tags, extension headers, replies.
pub fn packets() -> Vec<Packet6> {
    let extensions = [
        vec![],
        vec![extension(HOP_BY_HOP, 1)],
        vec![extension(DESTINATION_OPTIONS, 2), extension(ROUTING, 3), fragment(0, false)],
        vec![extension(DESTINATION_OPTIONS, 1); 7],
        vec![fragment(0, true)],
        vec![extension(HOP_BY_HOP, 1), fragment(100, false)],
    ];
    let mut packets = Vec::new();
    for (vip, ..) in SERVICES {
        for vlans in [vec![], vec![(0x8100, 5)], vec![(0x88a8, 5), (0x8100, 6)]] {
            for extensions in &extensions {
                let (vlans, extensions) = (vlans.clone(), extensions.clone());
                let tcp = Packet6 { vlans, extensions, ..Packet6::tcp(CLIENT, vip, SYN) };
                packets.push(Packet6 { payload: b"data".to_vec(), ..tcp.clone() });
                packets.push(Packet6 { protocol: UDP, padding: 6, ..tcp });
            }
        }
        for flags in [ACK, FIN | ACK, RST, SYN | ACK] {
            packets.push(Packet6::tcp(CLIENT, vip, flags));
        }
        packets.push(Packet6 { hop_limit: 1, ..Packet6::udp(CLIENT, vip) });
        packets.push(Packet6 { payload: vec![7; 1_440], ..Packet6::udp(CLIENT, vip) });
        let echo = vec![128, 0, 0, 0, 0, 1, 0, 1];
        packets.push(Packet6 { protocol: 58, payload: echo, ..Packet6::udp(CLIENT, vip) });
        packets.push(Packet6::tcp("[2001:db8::7]:20", vip, SYN));
        packets.push(Packet6::tcp("[::ffff:192.0.2.7]:40000", vip, SYN));
        // The fold of one of the virtual addresses.
        packets.push(Packet6::tcp("[fd00:0:0:7:0:7:0:100]:40000", vip, SYN));
    }
    for client in [CLIENT, "[fd00:0:0:7:0:7:0:100]:40000"] {
        packets.push(Packet6::tcp(NAT_SERVER, client, SYN | ACK));
        packets.push(Packet6::udp(NAT_SERVER, client));
        packets.push(Packet6 { hop_limit: 1, ..Packet6::tcp(NAT_SERVER, client, ACK) });
        packets.push(Packet6 { vlans: vec![(0x8100, 5)], ..Packet6::udp(NAT_SERVER, client) });
    }
    for extensions in [vec![], vec![fragment(0, true)], vec![fragment(100, false)]] {
        for flags in [SYN | ACK, ACK] {
            let extensions = extensions.clone();
            packets.push(Packet6 { extensions, ..Packet6::tcp(FULL_NAT_SERVER, LOCAL, flags) });
        }
        packets.push(Packet6 { extensions, ..Packet6::udp(FULL_NAT_SERVER, LOCAL) });
    }
    packets.push(Packet6::tcp(CLIENT, "[fd00::200]:80", SYN));
    packets
}

/// What an IPv6 packet has to be, by RFC 8200, 9293 and 768; written without the code under test.
pub fn is_well_formed(packet: &[u8]) -> bool {
    if packet.len() < 40 || packet[0] >> 4 != 6 {
        return false;
    }
    let length = 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]]));
    let Some(packet) = packet.get(..length) else { return false };
    let (mut protocol, mut at) = (packet[6], 40);
    while matches!(protocol, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS) {
        let Some(header) = packet.get(at..at + 8) else { return false };
        if protocol == FRAGMENT {
            // A later fragment has no ports; the first one has all headers (RFC 7112).
            if u16::from_be_bytes([header[2], header[3]]) & 0xfff8 != 0 {
                return true;
            }
            at += 8;
        } else {
            at += 8 * (usize::from(header[1]) + 1);
        }
        protocol = header[0];
    }
    let least = match protocol {
        TCP => 20,
        UDP => 8,
        _ => return false,
    };
    at + least <= packet.len()
}
