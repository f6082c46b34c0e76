//! Bytes that nobody should send, through the real program in the kernel: truncated, contradictory, random.
//!
//! Every frame goes through the pinned program and through the decision core on the host, over tables that the same
//! code wrote: verdict, bytes and counters must be the same, and nothing but a well-formed packet is ever sent.

#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail loudly"
)]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use elvs_common::{Counter, CounterKind, ICMP, NextHop, TCP, UDP};
use elvs_dataplane::{MemoryFrame, Route};
use elvs_fastpath::Verdict;
use elvs_lab::{method, require_root};
use elvs_model::{
    Change, Destination, DestinationKey, ForwardingMethod, Protocol, Scheduler, ServiceKey, Table,
    VirtualService,
};
use elvs_net::Namespace;

#[path = "prog_both/mod.rs"]
mod both;
#[path = "prog_hostile/ipv6.rs"]
mod ipv6;
#[path = "../../crates/elvs-fastpath/tests/support/mod.rs"]
mod support;

use both::{Both, INGRESS, verdict_name};
use support::{ACK, FIN, Packet, Packet6, RST, Random, SYN, Seen, Seen6};

const CLIENT: &str = "192.0.2.7:40000";
const NAT_VIP: &str = "10.0.0.100:80";
const DR_VIP: &str = "10.0.0.101:80";
const TUN_VIP: &str = "10.0.0.102:80";
/// All its real servers have weight 0.
const QUIET_VIP: &str = "10.0.0.103:80";
/// Nobody knows the way to its real server.
const LOST_VIP: &str = "10.0.0.104:80";
/// Its real server is removed half way.
const LEFT_VIP: &str = "10.0.0.105:80";
const FULL_NAT_VIP: &str = "10.0.0.106:80";
const VIPS: [&str; 7] = [NAT_VIP, DR_VIP, TUN_VIP, QUIET_VIP, LOST_VIP, LEFT_VIP, FULL_NAT_VIP];
const NAT_SERVER: &str = "10.1.0.21:8080";
/// Of the service by full NAT.
const FULL_NAT_SERVER: &str = "10.1.0.21:80";
/// Its local address with the first of its ports, which the first connection gets.
const LOCAL: &str = "10.0.0.200:1024";
const DIRECTOR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
const ELSEWHERE: u32 = 7;
const CONNECTIONS: u32 = 65_536;
/// Frames of each kind of damage.
const DAMAGED: usize = 6_000;

/// The real program and the decision core on the host, and what both have come to.
struct Hostile {
    both: Both,
    runs: u32,
    /// How often each verdict and counter came.
    seen: BTreeMap<&'static str, u32>,
    since: Instant,
    /// Milliseconds since then that the host knows of.
    passed: u64,
}

impl Hostile {
    fn new() -> Self {
        let both = Both::new("hostile", CONNECTIONS);
        Self { both, runs: 0, seen: BTreeMap::new(), since: Instant::now(), passed: 0 }
    }

    /// Has as much time pass on the host as in the kernel: datagrams in fragments and connections are forgotten in time.
    fn keep_time(&mut self) {
        let passed = self.since.elapsed().as_millis();
        let passed = u64::try_from(passed).unwrap() - self.passed;
        self.passed += passed;
        self.both.host.backend().advance_jiffies(passed);
    }

    /// Fills both budgets of answers from time to time, so that a limit is met by neither.
    fn renew_budgets(&mut self) {
        self.runs += 1;
        if self.runs.is_multiple_of(1_000) {
            self.both.renew_budgets();
        }
    }

    fn set_route(&mut self, last: u8, ifindex: u32) {
        let hop = NextHop::new([6, 0, 0, 0, 0, last], [2, 0, 0, 0, 0, 10], ifindex);
        let tunnel_source = Some(DIRECTOR.into());
        let route = Route { hop: Some(hop), mtu: 1_500, tunnel_source, local: false };
        let route6 = Route { tunnel_source: None, ..route };
        self.both.set_route(Ipv4Addr::new(10, 1, 0, last).into(), route);
        self.both.set_route(ipv6::server(last - 21 + 0x21).into(), route6);
    }

    /// Runs a frame through both, checks what holds for every frame, and returns what became of it.
    fn run(&mut self, frame: &[u8], what: &dyn Fn() -> String) -> (Verdict, Vec<u8>) {
        self.renew_budgets();
        self.keep_time();
        let kernel = self.both.run_kernel(frame, 0);
        let host = self.both.run_host(MemoryFrame::new(frame.to_vec(), INGRESS));
        let (counted, sent, verdict) = (kernel.counted, kernel.frame, host.verdict);
        assert_eq!(counted, host.counted, "counters: {}", what());
        let name = verdict_name(verdict);
        assert_eq!(verdict_name(kernel.verdict), name, "the host's is right: {}", what());
        if let Verdict::Redirect(ifindex) = verdict {
            assert_eq!(ifindex, ELSEWHERE, "{}", what());
        }
        assert_eq!(sent, host.frame, "bytes after {name}: {}", what());

        let of_kind = |kind| counted.iter().filter(|c| c.kind() == kind).count();
        let (drops, passes) = (of_kind(CounterKind::Drop), of_kind(CounterKind::Pass));
        match verdict {
            Verdict::Pass => assert_eq!(drops, 0, "passed, but {counted:?}: {}", what()),
            Verdict::Drop => assert_eq!((drops, passes), (1, 0), "{counted:?}: {}", what()),
            Verdict::Transmit | Verdict::Redirect(_) => {
                // An answer takes the place of a packet that was refused, or of a tunnel's error.
                let answer = counted.contains(&Counter::IcmpSent);
                let refused = usize::from(answer && !counted.contains(&Counter::IcmpTunnel));
                assert_eq!((drops, passes), (refused, 0), "sent, but {counted:?}: {}", what());
                assert!(is_well_formed(frame), "sent: {}", what());
                // Reading it checks its checksums.
                match sent.get(12..).and_then(ethertype) {
                    _ if !answer => {}
                    Some(0x86dd) => drop(Seen6::read(&sent)),
                    _ => drop(Seen::read(&sent)),
                }
            }
        }
        // By full NAT a segment is looked at again when it is ready to leave.
        let late = counted.contains(&Counter::ToaNoRoom);
        if matches!(verdict, Verdict::Pass | Verdict::Drop) && !late {
            assert_eq!(sent, frame, "changed, though {name}: {}", what());
        }
        assert!(!counted.contains(&Counter::Bug), "tables contradict: {}", what());
        *self.seen.entry(name).or_default() += 1;
        for counter in counted {
            *self.seen.entry(counter.name()).or_default() += 1;
        }
        (verdict, sent)
    }

    /// Compares what both remember.
    fn compare_tables(&mut self) {
        let [kernel, host] = self.both.planes().map(|plane| {
            let mut connections: Vec<String> = plane
                .connections()
                .map(|c| {
                    let ends = (c.client, c.service, c.destination);
                    format!("{} {ends:?} {}", c.protocol, c.state.name())
                })
                .collect();
            connections.sort_unstable();
            assert_eq!(plane.recount(), [], "loads are those of the connections");
            (connections, plane.service_views().unwrap())
        });
        assert!(kernel.0.len() > 100, "{} connections", kernel.0.len());
        assert_eq!(kernel.0, host.0, "connections");
        assert_eq!(kernel.1, host.1, "services, loads and statistics");
    }
}

/// What an IP packet has to be before it may be sent on, by RFC 791, 793 and 768; written without the code under test.
fn is_well_formed(frame: &[u8]) -> bool {
    let half = |at: usize| frame.get(at..at + 2).map(|b| u16::from_be_bytes([b[0], b[1]]));
    let mut at = 12;
    for _ in 0..2 {
        if matches!(half(at), Some(0x8100 | 0x88a8)) {
            at += 4;
        }
    }
    if half(at) == Some(0x86dd) {
        return frame.get(at + 2..).is_some_and(ipv6::is_well_formed);
    }
    if half(at) != Some(0x0800) {
        return false;
    }
    let Some(packet) = frame.get(at + 2..).filter(|packet| packet.len() >= 20) else {
        return false;
    };
    let header = usize::from(packet[0] & 15) * 4;
    let length = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    let transport = match packet[9] {
        TCP => 20,
        UDP | ICMP => 8,
        _ => return false,
    };
    // A fragment without ports needs no header.
    let later = u16::from_be_bytes([packet[6], packet[7]]) & 0x1fff != 0;
    let transport = if later { 0 } else { transport };
    packet[0] >> 4 == 4 && header >= 20 && length >= header + transport && length <= packet.len()
}

fn key(vip: &str, protocol: Protocol) -> ServiceKey {
    let (address, port) = vip.split_once(':').unwrap();
    ServiceKey::Address { protocol, address: address.parse().unwrap(), port: port.parse().unwrap() }
}

fn destination(last: u8, method: ForwardingMethod, weight: u32) -> Destination {
    let port = if method == method::NAT { 8_080 } else { 80 };
    Destination {
        key: DestinationKey { address: Ipv4Addr::new(10, 1, 0, last).into(), port },
        method,
        weight,
        upper_threshold: 0,
        lower_threshold: 0,
    }
}

/// Last number of a real server's address, and its weight.
type Server = (u8, u32);

/// Each virtual address with its real servers, over TCP and UDP.
fn table() -> Table {
    let services: [(&str, ForwardingMethod, &[Server]); 7] = [
        (NAT_VIP, method::NAT, &[(21, 1)]),
        (DR_VIP, method::DR, &[(21, 2), (22, 1)]),
        (TUN_VIP, method::TUN, &[(21, 1), (22, 1)]),
        (QUIET_VIP, method::DR, &[(21, 0), (22, 0)]),
        (LOST_VIP, method::DR, &[(29, 1)]),
        (LEFT_VIP, method::DR, &[(21, 1)]),
        (FULL_NAT_VIP, ForwardingMethod::FullNat, &[(21, 1), (22, 1)]),
    ];
    let local = |service, local: &str| {
        let address = local.parse::<SocketAddr>().unwrap().ip();
        Change::AddLocalAddress { service, address }
    };
    let mut table = Table::new();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        for (vip, method, servers) in services {
            let service = key(vip, protocol);
            table.apply(&Change::AddService(VirtualService::new(service, Scheduler::Wrr))).unwrap();
            if method == ForwardingMethod::FullNat {
                table.apply(&local(service, LOCAL)).unwrap();
            }
            for (last, weight) in servers {
                let destination = destination(*last, method, *weight);
                table.apply(&Change::AddDestination { service, destination }).unwrap();
            }
        }
        for (vip, method, servers) in ipv6::SERVICES {
            let service = ipv6::key(vip, protocol);
            table.apply(&Change::AddService(VirtualService::new(service, Scheduler::Wrr))).unwrap();
            if method == ForwardingMethod::FullNat {
                table.apply(&local(service, ipv6::LOCAL)).unwrap();
            }
            for (last, weight) in servers {
                let destination = ipv6::destination(*last, method, *weight);
                table.apply(&Change::AddDestination { service, destination }).unwrap();
            }
        }
    }
    table
}

/// Good packets of every kind: methods, protocols, tags, options, replies.
fn packets() -> Vec<Packet> {
    let mut packets = Vec::new();
    for vip in VIPS {
        for vlans in [vec![], vec![(0x8100, 5)], vec![(0x88a8, 5), (0x8100, 6)]] {
            for options in [vec![], vec![1; 8], vec![1; 40]] {
                let tcp = Packet { vlans: vlans.clone(), options, ..Packet::tcp(CLIENT, vip, SYN) };
                packets.push(Packet { payload: b"data".to_vec(), ..tcp.clone() });
                packets.push(Packet { protocol: UDP, padding: 6, ..tcp.clone() });
            }
        }
        for flags in [ACK, FIN | ACK, RST, SYN | ACK] {
            packets.push(Packet::tcp(CLIENT, vip, flags));
        }
        packets.push(Packet { ttl: 1, ..Packet::udp(CLIENT, vip) });
        packets.push(Packet { fragment: 0x2000, ..Packet::udp(CLIENT, vip) });
        packets.push(Packet { fragment: 0x00b9, ..Packet::udp(CLIENT, vip) });
        packets.push(Packet { udp_checksum: false, ..Packet::udp(CLIENT, vip) });
        packets.push(Packet { payload: vec![7; 1_470], ..Packet::udp(CLIENT, vip) });
        packets.push(Packet { protocol: 1, ..Packet::udp(CLIENT, vip) });
        packets.push(Packet::tcp("192.0.2.7:20", vip, SYN));
    }
    packets.extend(errors());
    packets.push(Packet::tcp(NAT_SERVER, CLIENT, SYN | ACK));
    for fragment in [0x2000, 0x00b9] {
        packets.push(Packet { fragment, ..Packet::udp(NAT_SERVER, CLIENT) });
        packets.push(Packet { fragment, ..Packet::udp(FULL_NAT_SERVER, LOCAL) });
    }
    for flags in [SYN | ACK, ACK] {
        packets.push(Packet::tcp(FULL_NAT_SERVER, LOCAL, flags));
    }
    packets.push(Packet::udp(FULL_NAT_SERVER, LOCAL));
    packets.push(Packet { ttl: 1, ..Packet::udp(FULL_NAT_SERVER, LOCAL) });
    packets.push(Packet::udp(NAT_SERVER, CLIENT));
    packets.push(Packet { ttl: 1, ..Packet::tcp(NAT_SERVER, CLIENT, ACK) });
    packets.push(Packet::tcp(CLIENT, "10.0.0.200:80", SYN));
    // Clients that look like an IPv6 service's address to the filter.
    let client = format!("{}:40000", ipv6::colliding());
    for vlans in [vec![], vec![(0x8100, 5)]] {
        let with = |packet| Packet { vlans: vlans.clone(), ..packet };
        packets.push(with(Packet::tcp(&client, NAT_VIP, SYN)));
        packets.push(with(Packet::tcp(NAT_SERVER, &client, SYN | ACK)));
        packets.push(with(Packet::udp(NAT_SERVER, &client)));
        packets.push(with(Packet { fragment: 0x2000, ..Packet::udp(NAT_SERVER, &client) }));
        packets.push(with(Packet { fragment: 0x00b9, ..Packet::udp(NAT_SERVER, &client) }));
    }
    packets
}

/// ICMP errors about what the services, a client, a tunnel's end have sent.
fn errors() -> Vec<Packet> {
    const ROUTER: &str = "203.0.113.1";
    let address = |socket: &str| socket.split(':').next().unwrap().to_owned();
    let mut errors = Vec::new();
    for (kind, code, rest) in [(3, 4, 1_400), (11, 0, 0), (8, 0, 7)] {
        let mut error = |to: &str, quoted: &[u8]| {
            let error = Packet::icmp(ROUTER, &address(to), kind, code, rest, quoted);
            errors.push(Packet { vlans: vec![(0x8100, 5)], ..error.clone() });
            errors.push(Packet { options: vec![1; 8], ..error.clone() });
            errors.push(error);
        };
        for vip in VIPS {
            for packet in [Packet::tcp(vip, CLIENT, ACK), Packet::udp(vip, CLIENT)] {
                let quoted = Packet { payload: vec![7; 90], ..packet }.ip_packet();
                error(vip, &quoted[..28]);
                error(vip, &quoted);
            }
        }
        error(CLIENT, &Packet::tcp(CLIENT, NAT_SERVER, ACK).ip_packet());
        error(LOCAL, &Packet::tcp(LOCAL, FULL_NAT_SERVER, ACK).ip_packet());
        let inner = Packet { payload: vec![7; 90], ..Packet::tcp(CLIENT, TUN_VIP, ACK) };
        for last in [21, 22] {
            let (director, server) = (format!("{DIRECTOR}:0"), format!("10.1.0.{last}:0"));
            let outer = Packet::udp(&director, &server);
            let outer = Packet { protocol: 4, payload: inner.ip_packet(), ..outer };
            error(&director, &outer.ip_packet());
        }
    }
    errors
}

/// First byte that damage may change: the MAC addresses are learned from clients' frames, not judged.
const FIRST: usize = 12;
/// Shortest frame that a test run takes.
const ETHERNET: usize = 14;

/// Overwrites some bytes, in some cases with values that parsers trip over, and cuts some frames.
fn damage(frame: &mut Vec<u8>, random: &mut Random) {
    const NASTY: [u8; 12] = [0, 1, 4, 5, 6, 8, 17, 0x44, 0x4f, 0x7f, 0x81, 0xff];
    for _ in 0..=random.below(5) {
        let at = FIRST + random.below(frame.len() - FIRST);
        frame[at] = match random.below(3) {
            0 => *random.of(&NASTY),
            1 => frame[at] ^ 1 << random.below(8),
            _ => random.next() as u8,
        };
    }
    match random.below(4) {
        0 => frame.truncate(ETHERNET + random.below(frame.len() - ETHERNET)),
        1 => frame.resize(frame.len() + random.below(40), 0xff),
        _ => {}
    }
}

fn noise(random: &mut Random) -> Vec<u8> {
    let mut frame: Vec<u8> =
        (0..ETHERNET + random.below(180)).map(|_| random.next() as u8).collect();
    let ethertype = [[8, 0], [0x81, 0], [0x88, 0xa8], [0x86, 0xdd]][random.below(4)];
    frame[..FIRST].fill(2);
    frame[FIRST..ETHERNET].copy_from_slice(&ethertype);
    frame
}

#[test]
fn hostile_frames_are_judged_as_on_the_host_and_only_good_ones_are_sent() {
    require_root();
    // A namespace without routes: the kernel's routing table must not decide for the program.
    let namespace = Namespace::create(&format!("elvs-lab-hostile-{}", std::process::id())).unwrap();
    namespace.run(hostile).unwrap();
}

fn hostile() {
    let mut both = Hostile::new();
    for (last, ifindex) in [(21, INGRESS), (22, ELSEWHERE)] {
        both.set_route(last, ifindex);
    }
    let mut table = table();
    both.both.install(&table);
    let good: Vec<_> =
        packets().iter().map(|packet| (packet.build(), format!("{packet:?}"))).collect();
    let good6 = ipv6::packets();
    let good6 = good6.iter().map(|packet| (packet.build(), format!("{packet:?}")));
    let good: Vec<_> = good.into_iter().chain(good6).collect();

    // Cut anywhere, before and after their connections are known.
    for (frame, packet) in &good {
        for length in ETHERNET..=frame.len() {
            // The payload of a big packet is cut in steps.
            if length < 140 || length % 97 == 0 || length == frame.len() {
                both.run(&frame[..length], &|| format!("cut to {length}: {packet}"));
            }
        }
    }
    let mut random = Random::new(0xbad);
    let damaged = |both: &mut Hostile, random: &mut Random| {
        for _ in 0..DAMAGED {
            let (frame, packet) = random.of(&good);
            let mut frame = frame.clone();
            damage(&mut frame, random);
            both.run(&frame, &|| format!("{frame:02x?} from {packet}"));
        }
    };
    damaged(&mut both, &mut random);
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let (service, key) = (key(LEFT_VIP, protocol), destination(21, method::DR, 1).key);
        table.apply(&Change::DeleteDestination { service, destination: key }).unwrap();
        let (service, key) =
            (ipv6::key(ipv6::LEFT_VIP, protocol), ipv6::destination(0x21, method::DR, 1).key);
        table.apply(&Change::DeleteDestination { service, destination: key }).unwrap();
    }
    both.both.install(&table);
    damaged(&mut both, &mut random);
    for _ in 0..DAMAGED {
        let frame = noise(&mut random);
        both.run(&frame, &|| format!("{frame:02x?}"));
    }

    // After all that a good packet is still sent as it should be.
    for vip in [NAT_VIP, DR_VIP, TUN_VIP, FULL_NAT_VIP] {
        let frame = Packet::tcp("198.51.100.9:5555", vip, SYN).build();
        let (verdict, sent) = both.run(&frame, &|| format!("a good packet to {vip}"));
        assert!(matches!(verdict, Verdict::Transmit | Verdict::Redirect(_)), "{vip}: {verdict:?}");
        let sent = Seen::read(&sent);
        if vip == TUN_VIP {
            sent.inner();
        }
    }
    let client = format!("{}:5556", ipv6::colliding());
    for (source, to, wanted) in
        [(&client[..], NAT_VIP, &client[..]), (NAT_SERVER, &client, NAT_VIP)]
    {
        let frame = Packet::tcp(source, to, SYN).build();
        let (verdict, sent) = both.run(&frame, &|| format!("{source} to {to}"));
        assert!(matches!(verdict, Verdict::Transmit | Verdict::Redirect(_)), "{to}: {verdict:?}");
        assert_eq!(Seen::read(&sent).source().to_string(), wanted);
    }
    for vip in [ipv6::NAT_VIP, ipv6::DR_VIP, ipv6::TWIN_VIP] {
        let frame = Packet6::tcp("[2001:db8::9]:5555", vip, SYN).build();
        let (verdict, sent) = both.run(&frame, &|| format!("a good packet to {vip}"));
        assert!(matches!(verdict, Verdict::Transmit | Verdict::Redirect(_)), "{vip}: {verdict:?}");
        Seen6::read(&sent);
    }
    both.compare_tables();
    let all = [
        ["XDP_DROP", "XDP_PASS", "XDP_TX", "XDP_REDIRECT"].as_slice(),
        &["destination_gone", "no_destination", "no_next_hop", "fragment", "ttl_expired"],
        &["tunnel_too_big", "malformed", "not_syn", "reused", "icmp_forwarded", "icmp_returned"],
        &["icmp_tunnel", "icmp_sent", "fragment_forwarded", "fragment_refused", "toa_no_room"],
    ];
    for name in all.concat() {
        assert!(both.seen.contains_key(name), "no frame met {name}: {:?}", both.seen);
    }
}

/// Ethernet type behind the VLAN tags of what follows the MAC addresses.
fn ethertype(tags: &[u8]) -> Option<u16> {
    match u16::from_be_bytes([*tags.first()?, *tags.get(1)?]) {
        0x8100 | 0x88a8 => ethertype(tags.get(4..)?),
        other => Some(other),
    }
}
