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
    cell.rule(Mark(1)).matches(packet)
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
    fn lists_of_cells_are_joined_packet_by_packet(
        a in (any_cells(), any_cells()),
        b in (any_cells(), any_cells()),
    ) {
        let (first, second) = (Packets::but(&a.0, &a.1), Packets::but(&b.0, &b.1));
        let joined = first.and(&second).unwrap();
        let any = |cells: &[Cell], packet: &MarkedPacket<'_>| cells.iter().any(|cell| has(cell, packet));
        for packet in packets() {
            let in_first = any(&a.0, &packet) && !any(&a.1, &packet);
            let in_second = any(&b.0, &packet) && !any(&b.1, &packet);
            prop_assert_eq!(matches(&first, &packet), in_first);
            prop_assert_eq!(matches(&joined, &packet), in_first && in_second, "{:?}", packet);
        }
    }
}

fn any_cells() -> impl Strategy<Value = Vec<Cell>> {
    proptest::collection::vec(any_cell(), 0..4)
}

fn matches(packets: &Packets, packet: &MarkedPacket<'_>) -> bool {
    packets.0.iter().find(|(cell, _)| has(cell, packet)).is_some_and(|(_, matches)| *matches)
}

#[test]
fn a_cell_of_a_family_alone_names_all_its_addresses() {
    let mark = Mark(7);
    assert_eq!(Cell::family(Family::Inet6).rule(mark).to_string(), "--destination ::/0 --mark 7");
    let source = Cell::source("10.0.0.0/8".parse().unwrap());
    assert_eq!(source.rule(mark).to_string(), "--source 10.0.0.0/8 --mark 7");
}
