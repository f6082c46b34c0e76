use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use elvs_model::{MarkedPacket, Protocol};
use proptest::prelude::*;

use super::*;

/// Few values, so that cells overlap often; the packets below are every combination of them.
fn any_cell() -> impl Strategy<Value = Cell> {
    let prefix = |address: u8, length: u8| {
        Prefix::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, address)), length).unwrap()
    };
    let prefixes =
        || proptest::option::of((0u8..4, 29u8..=32).prop_map(move |(a, l)| prefix(a, l)));
    let ports = || {
        let range = (0u16..3, 0u16..3);
        proptest::option::of(range.prop_map(|(a, b)| PortRange::new(a.min(b), a.max(b)).unwrap()))
    };
    let family = proptest::option::of(prop_oneof![Just(Family::Inet), Just(Family::Inet6)]);
    (family, prefixes(), prefixes(), ports(), ports(), any::<bool>(), any::<bool>()).prop_map(
        |(family, source, destination, source_ports, destination_ports, udp, named)| Cell {
            family: if source.or(destination).is_some() { Some(Family::Inet) } else { family },
            source,
            destination,
            protocol: Some(if udp { Protocol::Udp } else { Protocol::Tcp }.into()),
            source_ports,
            destination_ports,
            interface: named.then(|| "eth0".parse().unwrap()),
        },
    )
}

fn packets() -> Vec<MarkedPacket<'static>> {
    let mut packets = Vec::new();
    for (source, destination) in (0..64u8).map(|n| (n / 8, n % 8)) {
        for (source_port, destination_port) in (0..16u16).map(|n| (n / 4, n % 4)) {
            packets.push(MarkedPacket {
                source: IpAddr::V4(Ipv4Addr::new(10, 0, 0, source)),
                destination: IpAddr::V4(Ipv4Addr::new(10, 0, 0, destination)),
                protocol: 6,
                source_port,
                destination_port,
                interface: "eth0",
            });
        }
    }
    let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
    packets.push(MarkedPacket { source: v6, destination: v6, ..packets[0].clone() });
    packets
}

fn has(cell: &Cell, packet: &MarkedPacket<'_>) -> bool {
    cell.rule(Mark(1.try_into().unwrap())).matches(packet)
}

proptest! {
    #[test]
    fn an_intersection_has_the_packets_of_both(a in any_cell(), b in any_cell()) {
        let common = a.intersect(&b);
        for packet in packets() {
            let expected = has(&a, &packet) && has(&b, &packet);
            prop_assert_eq!(common.as_ref().is_some_and(|c| has(c, &packet)), expected, "{:?}", packet);
        }
    }

    #[test]
    fn a_difference_has_each_packet_of_the_one_and_not_the_other_once(a in any_cell(), b in any_cell()) {
        // What is refused is refused for a reason: the other names an interface that this one does not.
        match a.subtract(&b) {
            Ok(parts) => for packet in packets() {
                let expected = usize::from(has(&a, &packet) && !has(&b, &packet));
                let found = parts.iter().filter(|part| has(part, &packet)).count();
                prop_assert_eq!(found, expected, "{:?} in {:?}", packet, parts);
            },
            Err(reason) => {
                prop_assert!(reason.contains("interface"), "{}", reason);
                prop_assert!(a.interface.is_none() && b.interface.is_some());
            }
        }
    }
}

#[test]
fn refuses_every_protocol_but_one() {
    let tcp = Cell::protocol(Protocol::Tcp.into());
    assert!(Cell::default().subtract(&tcp).unwrap_err().contains("every protocol but one"));
    assert_eq!(tcp.subtract(&tcp), Ok(Vec::new()));
}

#[test]
fn a_cell_of_a_family_alone_names_all_its_addresses() {
    let mark = Mark(7.try_into().unwrap());
    assert_eq!(Cell::family(Family::Inet6).rule(mark).to_string(), "--destination ::/0 --mark 7");
    let source = Cell::source("10.0.0.0/8".parse().unwrap());
    assert_eq!(source.rule(mark).to_string(), "--source 10.0.0.0/8 --mark 7");
}
