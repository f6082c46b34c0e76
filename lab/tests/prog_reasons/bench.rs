//! What a fixture works with: tables for one service and its real servers, frames, and what they are to come to.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use elvs_common::{Counter, NextHop, TCP, UDP};
use elvs_dataplane::{MemoryFrame, Plane, Route};
use elvs_fastpath::Verdict;
use elvs_model::{
    Change, Destination, DestinationKey, ForwardingMethod, Protocol, Scheduler, ServiceKey,
    Setting, SettingValue, Table, VirtualService,
};

use crate::both::{Both, INGRESS, Ran, verdict_name};
use crate::packet::{DIRECTOR_MAC, GATEWAY_MAC, Packet};
use crate::tamper::{self, Forget};
use crate::way::Way;

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const ACK: u8 = 0x10;

/// An interface that test runs do not come from.
pub const ELSEWHERE: u32 = 7;
/// Longest packet on the way to every real server.
pub const MTU: u32 = 1_500;
const CONNECTIONS: u32 = 4_096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    V4,
    V6,
}

/// A fixture: configuration, frames, what they come to.
pub type Fixture = (&'static str, fn(&mut Bench));

pub struct Bench {
    pub both: Both,
    pub family: Family,
    /// The way to a real server that the daemon knows none to.
    pub way: Way,
    table: Table,
    /// Number of the fixture that runs: its client and its virtual address are nobody else's.
    number: u8,
    /// Verdicts and counters met so far, by family, with the fixtures that met them.
    pub seen: BTreeMap<(String, Family), Vec<&'static str>>,
    fixture: &'static str,
    /// Times that the fixture has begun anew.
    round: u16,
}

impl Bench {
    pub fn new(way: Way) -> Self {
        Self {
            both: Both::new("reasons", CONNECTIONS),
            family: Family::V4,
            way,
            table: Table::new(),
            number: 0,
            seen: BTreeMap::new(),
            fixture: "",
            round: 0,
        }
    }

    /// Runs a fixture for one family from empty tables.
    pub fn run_fixture(&mut self, (name, fixture): Fixture, family: Family) {
        eprintln!("{name} {family:?}");
        (self.fixture, self.family) = (name, family);
        self.number += 1;
        self.round = 0;
        self.table = Table::new();
        self.both.renew_budgets();
        tamper::everywhere(&self.both, &Forget);
        tamper::forget_calls(&mut self.both);
        let tunnel_source = Some(self.director());
        for last in 1..=2 {
            let route = Route { hop: Some(self.hop(last)), mtu: MTU, tunnel_source, local: false };
            self.both.set_route(self.server(last), route);
        }
        fixture(self);
    }

    fn address(&self, v4: [u8; 4], last: u16) -> IpAddr {
        match self.family {
            Family::V4 => Ipv4Addr::from(v4).into(),
            Family::V6 => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, v4[2].into(), last).into(),
        }
    }

    pub fn vip(&self) -> IpAddr {
        self.address([192, 0, 2, self.number], self.number.into())
    }

    /// The service's end.
    pub fn service(&self) -> SocketAddr {
        SocketAddr::new(self.vip(), 80)
    }

    pub fn client(&self) -> SocketAddr {
        SocketAddr::new(
            self.address([203, 0, 113, self.number], self.number.into()),
            40_000 + self.round * 16,
        )
    }

    pub fn director(&self) -> IpAddr {
        self.address([10, 0, 0, 10], 0x10)
    }

    /// A router somewhere.
    pub fn router(&self) -> IpAddr {
        self.address([198, 51, 100, 1], 1)
    }

    pub fn server(&self, last: u8) -> IpAddr {
        self.address([10, 0, 1, last], last.into())
    }

    /// A real server's end behind NAT.
    pub fn mapped(&self, last: u8) -> SocketAddr {
        SocketAddr::new(self.server(last), 8_080)
    }

    /// Local address of full NAT.
    pub fn local(&self) -> IpAddr {
        self.address([10, 0, 3, 1], 1)
    }

    pub fn hop(&self, last: u8) -> NextHop {
        let ifindex = if last == 1 { INGRESS } else { ELSEWHERE };
        NextHop::new([6, 0, 0, 0, 0, last], DIRECTOR_MAC, ifindex)
    }

    pub fn key(&self, protocol: u8) -> ServiceKey {
        let protocol = if protocol == TCP { Protocol::Tcp } else { Protocol::Udp };
        ServiceKey::Address { protocol, address: self.vip(), port: 80 }
    }

    pub fn change(&mut self, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            self.table.apply(&change).unwrap();
        }
        self.both.install(&self.table);
    }

    /// No services from the next change on, and another port of the client.
    pub fn begin_anew(&mut self) {
        self.round += 1;
        self.table.apply(&Change::Flush).unwrap();
    }

    pub fn destination(&self, method: ForwardingMethod, last: u8, weight: u32) -> Destination {
        let mapped = matches!(method, ForwardingMethod::Nat | ForwardingMethod::FullNat);
        let port = if mapped { 8_080 } else { 80 };
        Destination {
            key: DestinationKey { address: self.server(last), port },
            method,
            weight,
            upper_threshold: 0,
            lower_threshold: 0,
        }
    }

    /// The services over TCP and UDP with one real server each.
    pub fn serve(&mut self, method: ForwardingMethod, last: u8) {
        self.serve_with(|service| service, |_| (), method, last, 1);
    }

    /// The same with other properties.
    pub fn serve_with(
        &mut self,
        service: impl Fn(VirtualService) -> VirtualService,
        destination: impl Fn(&mut Destination),
        method: ForwardingMethod,
        last: u8,
        weight: u32,
    ) {
        let mut changes = Vec::new();
        for protocol in [TCP, UDP] {
            let key = self.key(protocol);
            let mut added = self.destination(method, last, weight);
            destination(&mut added);
            let virtual_service = service(VirtualService::new(key, Scheduler::Rr));
            changes.push(Change::AddService(virtual_service));
            if method == ForwardingMethod::FullNat {
                let address = self.local();
                changes.push(Change::AddLocalAddress { service: key, address });
            }
            changes.push(Change::AddDestination { service: key, destination: added });
        }
        self.change(changes);
    }

    /// Removes the real server from both services.
    pub fn remove(&mut self, method: ForwardingMethod, last: u8) {
        let destination = self.destination(method, last, 1).key;
        let services = [TCP, UDP].map(|protocol| self.key(protocol));
        self.change(services.map(|service| Change::DeleteDestination { service, destination }));
    }

    pub fn set(&mut self, setting: Setting, value: i64) {
        self.change([Change::Set { setting, value: SettingValue::Number(value) }]);
    }

    /// A segment from the client.
    pub fn tcp(&self, flags: u8) -> Packet {
        Packet::tcp(self.client(), self.service(), flags)
    }

    pub fn udp(&self) -> Packet {
        Packet::udp(self.client(), self.service())
    }

    /// A packet as it is to leave for a real server.
    pub fn to_server(&self, packet: &Packet, last: u8) -> Packet {
        packet.forwarded([6, 0, 0, 0, 0, last], DIRECTOR_MAC)
    }

    /// A packet as it is to leave for the client, by the way that its first one came.
    pub fn to_client(&self, packet: &Packet) -> Packet {
        packet.forwarded(GATEWAY_MAC, DIRECTOR_MAC)
    }

    /// Indexes of a service's real server, of the program and of the host.
    pub fn indexes(&self, protocol: u8, method: ForwardingMethod, last: u8) -> [u32; 2] {
        let (service, key) = (self.key(protocol), self.destination(method, last, 1).key);
        let planes: [&dyn Plane; 2] = [&self.both.kernel, &self.both.host];
        planes.map(|plane| plane.destination_index(&service, &key).unwrap())
    }

    /// An answer of the director's own about a packet.
    pub fn answer(&self, about: &Packet, code: [u8; 2], rest: u32) -> Packet {
        self.answer_from(about.to.ip(), about, code, rest)
    }

    /// The same from an address of its own.
    pub fn answer_from(
        &self,
        from: IpAddr,
        about: &Packet,
        [kind, code]: [u8; 2],
        rest: u32,
    ) -> Packet {
        let quoted = about.ip();
        let (most, whole) = match self.family {
            Family::V4 => (548, !3),
            Family::V6 => (1_232, !0),
        };
        let quoted = &quoted[..quoted.len().min(most) & whole];
        let answer = Packet::icmp(from, about.from.ip(), kind, code, rest, quoted);
        Packet {
            to_mac: about.from_mac,
            from_mac: about.to_mac,
            vlans: about.vlans.clone(),
            tos: if self.family == Family::V4 { about.tos & 0x1e | 0xc0 } else { about.tos },
            id: about.id,
            ..answer
        }
    }

    /// "Time exceeded", "port unreachable", "fragmentation needed" of the family.
    pub fn codes(&self) -> [[u8; 2]; 3] {
        match self.family {
            Family::V4 => [[11, 0], [3, 3], [3, 4]],
            Family::V6 => [[3, 0], [1, 4], [2, 0]],
        }
    }

    /// A frame is dropped as it came, and that counted.
    pub fn drops(&mut self, packet: &Packet, counted: &[Counter]) {
        let frame = packet.build();
        self.expect(&frame, Verdict::Drop, &frame, counted);
    }

    /// A frame is dropped, after some of it was rewritten, and that counted.
    pub fn drops_rewritten(&mut self, packet: &Packet, counted: &[Counter]) {
        let [kernel, host] = self.run(&packet.build());
        self.check(&kernel, "the program", Verdict::Drop, &host.frame, counted);
        self.check(&host, "the host", Verdict::Drop, &host.frame, counted);
        self.note(Verdict::Drop, counted);
    }

    /// A frame goes to the host's stack as it came, and that counted.
    pub fn passes(&mut self, packet: &Packet, counted: &[Counter]) {
        let frame = packet.build();
        self.expect(&frame, Verdict::Pass, &frame, counted);
    }

    /// A frame leaves by the interface it came from as another one, and that counted.
    pub fn sends(&mut self, packet: &Packet, wanted: &Packet, counted: &[Counter]) {
        self.expect(&packet.build(), Verdict::Transmit, &wanted.build(), counted);
    }

    /// A frame leaves by another interface than it came from, and that counted.
    pub fn redirects(&mut self, packet: &Packet, wanted: &Packet, counted: &[Counter]) {
        self.expect(&packet.build(), Verdict::Redirect(ELSEWHERE), &wanted.build(), counted);
    }

    /// A frame comes to a verdict and leaves as wanted, with the same of the program and of the host.
    pub fn expect(&mut self, frame: &[u8], verdict: Verdict, wanted: &[u8], counted: &[Counter]) {
        let [kernel, host] = self.run(frame);
        self.check(&kernel, "the program", verdict, wanted, counted);
        self.check(&host, "the host", verdict, wanted, counted);
        self.note(verdict, counted);
    }

    /// A client's packet leaves by full NAT, with the option that names the client if it is `named`. Local end it got.
    pub fn full_nat(&mut self, packet: &Packet, last: u8, named: bool) -> SocketAddr {
        let frame = packet.build();
        let [kernel, host] = self.run(&frame);
        assert!(kernel.counted.is_empty(), "{}: {kernel:?}", self.fixture);
        let from = Packet::read(&kernel.frame).from;
        assert!(from.ip() == self.local() && from.port() >= 1_024, "{from}");
        let mut tcp_options = packet.tcp_options.clone();
        if named {
            tcp_options.splice(0..0, toa(packet.from));
        }
        let sent = Packet { from, to: self.mapped(last), tcp_options, ..packet.clone() };
        let wanted = self.to_server(&sent, last).build();
        let verdict = if last == 1 { Verdict::Transmit } else { Verdict::Redirect(ELSEWHERE) };
        self.check(&kernel, "the program", verdict, &wanted, &[]);
        self.check(&host, "the host", verdict, &wanted, &[]);
        self.note(verdict, &[]);
        from
    }

    /// A client's first fragment leaves by full NAT for the first real server, its datagram with a number of the director's
    /// own. What left.
    pub fn full_nat_fragment(&mut self, packet: &Packet) -> Packet {
        let [kernel, host] = self.run(&packet.build());
        let Packet { from, id, .. } = Packet::read(&kernel.frame);
        assert!(from.ip() == self.local() && from.port() >= 1_024, "{from}");
        let sent = Packet { from, to: self.mapped(1), id, ..self.to_server(packet, 1) };
        let wanted = sent.build();
        self.check(&kernel, "the program", Verdict::Transmit, &wanted, &[]);
        self.check(&host, "the host", Verdict::Transmit, &wanted, &[]);
        self.note(Verdict::Transmit, &[]);
        sent
    }

    /// Runs a frame through both; nothing is compared.
    pub fn run(&self, frame: &[u8]) -> [Ran; 2] {
        let host = self.both.run_host(MemoryFrame::new(frame.to_vec(), INGRESS));
        [self.both.run_kernel(frame, 0), host]
    }

    pub fn check(
        &self,
        ran: &Ran,
        whose: &str,
        verdict: Verdict,
        wanted: &[u8],
        counted: &[Counter],
    ) {
        let what = format!("{} {:?}: {whose}", self.fixture, self.family);
        let mut counted = counted.to_vec();
        counted.sort_unstable();
        assert_eq!(ran.counted, counted, "{what}: counters of {ran:02x?}");
        let same = verdict_name(ran.verdict) == verdict_name(verdict);
        assert!(same, "{what}: {:?}, not {verdict:?}", ran.verdict);
        assert_eq!(hex(&ran.frame), hex(wanted), "{what}: bytes after {verdict:?}");
    }

    /// Remembers what a fixture has met.
    pub fn note(&mut self, verdict: Verdict, counted: &[Counter]) {
        self.note_name(verdict_name(verdict));
        for counter in counted {
            self.note_counter(*counter);
        }
    }

    /// Remembers a counter that no packet raised.
    pub fn note_counter(&mut self, counter: Counter) {
        self.note_name(counter.name());
    }

    fn note_name(&mut self, name: &str) {
        let met = self.seen.entry((name.to_owned(), self.family)).or_default();
        met.push(self.fixture);
    }
}

/// The option that names a client: kind 254, length, port, address.
pub fn toa(client: SocketAddr) -> Vec<u8> {
    let [high, low] = client.port().to_be_bytes();
    match client.ip() {
        IpAddr::V4(address) => [&[254, 8, high, low], &address.octets()[..]].concat(),
        IpAddr::V6(address) => [&[254, 20, high, low], &address.octets()[..]].concat(),
    }
}

fn hex(bytes: &[u8]) -> String {
    let lines = bytes.chunks(16).map(|line| format!("{line:02x?}\n"));
    lines.collect()
}
