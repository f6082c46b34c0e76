use std::net::IpAddr;
use std::time::Duration;

use elvs_model::health::PathCheck;
use elvs_model::{ForwardingMethod, Protocol};
use elvs_net::{Address, NextHop};

use super::{NoWay, Sources, owns};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn check(vip: &str, real_server: &str) -> PathCheck {
    PathCheck {
        vip: ip(vip),
        port: 80,
        protocol: Protocol::Tcp,
        real_server: ip(real_server),
        real_port: 80,
        method: ForwardingMethod::Dr,
        timeout: Duration::from_secs(1),
    }
}

fn hop(source: &str) -> NextHop {
    NextHop {
        ifindex: 2,
        source: ip(source),
        gateway: None,
        source_mac: [2; 6],
        destination_mac: None,
        mtu: 1500,
    }
}

/// `INTERFACE ADDRESS/LENGTH`, one a word pair.
fn addresses(text: &str) -> Vec<Address> {
    let lines = text.split(", ").map(|line| line.split_once(' ').unwrap());
    let parsed = lines.map(|(ifindex, address)| {
        let (address, prefix_len) = address.split_once('/').unwrap();
        Address {
            ifindex: ifindex.parse().unwrap(),
            address: ip(address),
            prefix_len: prefix_len.parse().unwrap(),
        }
    });
    parsed.collect()
}

#[test]
fn sources_are_the_directors_own() {
    const OWN: &str = "1 127.0.0.1/8, 2 192.0.2.1/24, 2 192.0.2.100/32, 3 198.51.100.1/24";
    const SIX: &str = "1 ::1/128, 2 2001:db8::1/64, 2 2001:db8::100/128, 2 fe80::1/64";
    let both = [OWN, SIX].join(", ");
    for (name, vip, server, source, has, outer, inner, other) in [
        (
            "the kernel's",
            "192.0.2.100",
            "192.0.2.21",
            "192.0.2.1",
            OWN,
            "192.0.2.1",
            "192.0.2.1",
            Some("198.51.100.1"),
        ),
        (
            "not the VIP",
            "192.0.2.100",
            "192.0.2.21",
            "192.0.2.100",
            "2 192.0.2.100/24, 2 192.0.2.1/24",
            "192.0.2.1",
            "192.0.2.1",
            None,
        ),
        (
            "not another VIP",
            "2001:db8::200",
            "2001:db8::21",
            "2001:db8::100",
            SIX,
            "2001:db8::1",
            "2001:db8::1",
            None,
        ),
        (
            "a host address, where there is no other",
            "203.0.113.1",
            "192.0.2.21",
            "192.0.2.7",
            "2 192.0.2.8/32, 2 192.0.2.7/32",
            "192.0.2.7",
            "192.0.2.7",
            None,
        ),
        (
            "one of each family",
            "192.0.2.100",
            "2001:db8::21",
            "2001:db8::1",
            &both,
            "2001:db8::1",
            "192.0.2.1",
            Some("198.51.100.1"),
        ),
    ] {
        let chosen = Sources::choose(&check(vip, server), &hop(source), &addresses(has));
        let wanted = Sources { outer: ip(outer), inner: ip(inner), other: other.map(ip) };
        assert_eq!(chosen.unwrap(), wanted, "{name}");
    }
}

#[test]
fn a_director_without_an_address_of_its_own_says_so() {
    let has = addresses("1 127.0.0.1/8, 2 192.0.2.100/24");
    let chosen = Sources::choose(&check("192.0.2.100", "192.0.2.21"), &hop("192.0.2.100"), &has);
    assert!(matches!(chosen, Err(NoWay::NoSource { family: "IPv4" })), "{chosen:?}");
}

/// A real server's claim of the VIP matters where this director has the VIP and hosts on the real server's link look for it.
#[test]
fn the_vip_is_owned_where_it_is_asked_for() {
    for (name, has, owned) in [
        ("on the interface", "2 192.0.2.1/24, 2 192.0.2.100/32", true),
        ("on lo, its subnet on the interface", "1 192.0.2.100/32, 2 192.0.2.1/24", true),
        ("on another link", "3 192.0.2.100/24, 2 10.0.0.1/24", false),
        ("routed to lo", "1 192.0.2.100/32, 2 10.0.0.1/24", false),
        ("another director's", "2 192.0.2.1/24", false),
    ] {
        assert_eq!(owns(ip("192.0.2.100"), 2, &addresses(has)), owned, "{name}");
    }
}
