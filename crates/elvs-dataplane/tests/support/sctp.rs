//! SCTP, AH and ESP as a real server and a client see them, on any data plane: the director in memory, or the real program.

use std::net::{IpAddr, SocketAddr};

use elvs_common::{Counter, NextHop};
use elvs_dataplane::{Load, Plane, Route};
use elvs_model::{
    Change, ConnectionState, Destination, DestinationKey, ForwardingMethod, Netmask, Persistence,
    Protocol, Scheduler, ServiceKey, Setting, SettingValue, Table, VirtualService,
};

const SCTP: u8 = 132;
const ESP: u8 = 50;
const AH: u8 = 51;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;

const SERVER_MAC: [u8; 6] = [6, 0, 0, 0, 0, 1];
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const DIRECTOR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// VLAN 5.
const TAG: [u8; 4] = [0x81, 0, 0, 5];

/// What became of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Went {
    /// Out of the interface it came from.
    Out(Vec<u8>),
    /// To the stack.
    Passed,
    /// Nowhere.
    Dropped,
}

/// Addresses of one family.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    client: IpAddr,
    vip: IpAddr,
    server: IpAddr,
}

/// Both families.
pub fn families() -> [Family; 2] {
    let family = |client: &str, vip: &str, server: &str| Family {
        client: client.parse().unwrap(),
        vip: vip.parse().unwrap(),
        server: server.parse().unwrap(),
    };
    [
        family("203.0.113.5", "192.0.2.10", "10.0.0.1"),
        family("2001:db8:5::5", "2001:db8::10", "fd00::1"),
    ]
}

impl Family {
    fn client(&self) -> SocketAddr {
        SocketAddr::new(self.client, 40_000)
    }

    fn vip(&self) -> SocketAddr {
        SocketAddr::new(self.vip, 9_899)
    }

    fn server(&self) -> SocketAddr {
        SocketAddr::new(self.server, 38_412)
    }
}

/// A packet as seen on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    mac: [u8; 6],
    source: IpAddr,
    destination: IpAddr,
    ttl: u8,
    body: Vec<u8>,
}

impl Seen {
    /// Reads a frame; panics on a wrong checksum of IPv4.
    fn read(frame: &[u8]) -> Self {
        let mac = frame[..6].try_into().unwrap();
        let tagged = usize::from(frame[12..14] == TAG[..2]) * TAG.len();
        let packet = &frame[14 + tagged..];
        if packet[0] >> 4 == 6 {
            let address =
                |at: usize| IpAddr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).unwrap());
            let length = usize::from(u16::from_be_bytes([packet[4], packet[5]]));
            let (source, destination) = (address(8), address(24));
            let body = packet[40..40 + length].to_vec();
            return Self { mac, source, destination, ttl: packet[7], body };
        }
        assert_eq!(internet_sum(&packet[..20]), 0, "checksum of {:02x?}", &packet[..20]);
        let address = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&packet[at..at + 4]).unwrap());
        let length = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
        let (source, destination) = (address(12), address(16));
        let body = packet[20..length].to_vec();
        Self { mac, source, destination, ttl: packet[8], body }
    }

    fn source(&self) -> SocketAddr {
        SocketAddr::new(self.source, u16::from_be_bytes([self.body[0], self.body[1]]))
    }

    fn destination(&self) -> SocketAddr {
        SocketAddr::new(self.destination, u16::from_be_bytes([self.body[2], self.body[3]]))
    }

    /// Whether an SCTP packet's checksum is right.
    fn is_whole(&self) -> bool {
        let mut body = self.body.clone();
        let sum = u32::from_le_bytes(body[8..12].try_into().unwrap());
        body[8..12].fill(0);
        crc32c(&body) == sum
    }
}

/// CRC-32C bit by bit, as RFC 9260 appendix A has it.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 0 { sum >> 1 } else { sum >> 1 ^ 0x82f6_3b78 };
        }
    }
    !sum
}

fn internet_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

fn frame(protocol: u8, source: IpAddr, destination: IpAddr, body: &[u8]) -> Vec<u8> {
    let mut frame = [DIRECTOR_MAC, CLIENT_MAC].concat();
    let length = u16::try_from(body.len()).unwrap();
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut header = vec![0x45, 0];
            header.extend((length + 20).to_be_bytes());
            header.extend([0, 1, 0x40, 0, 64, protocol, 0, 0]);
            header.extend(source.octets());
            header.extend(destination.octets());
            let sum = internet_sum(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            frame.extend([8, 0]);
            frame.extend(header);
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(length.to_be_bytes());
            frame.extend([protocol, 64]);
            frame.extend(source.octets());
            frame.extend(destination.octets());
        }
        mixed => panic!("two families: {mixed:?}"),
    }
    frame.extend(body);
    frame
}

/// An SCTP packet of chunks of 12 bytes each, the last one with `extra` bytes more.
fn packet(source: SocketAddr, destination: SocketAddr, chunks: &[u8], extra: usize) -> Vec<u8> {
    let mut body = source.port().to_be_bytes().to_vec();
    body.extend(destination.port().to_be_bytes());
    body.extend([0, 0, 0, 7, 0, 0, 0, 0]);
    for chunk in chunks {
        body.extend([*chunk, 0, 0, 12, 1, 2, 3, 4, 5, 6, 7, 8]);
    }
    body.extend((0..=250).cycle().take(extra));
    let sum = crc32c(&body);
    body[8..12].copy_from_slice(&sum.to_le_bytes());
    frame(SCTP, source.ip(), destination.ip(), &body)
}

/// "Fragmentation needed", or "packet too big", about the beginning of a packet, from a router to whoever sent that.
fn too_big(router: IpAddr, about: &[u8]) -> Vec<u8> {
    let quoted = &about[14..];
    let to = Seen::read(about).source;
    let v4 = router.is_ipv4();
    let mut message =
        if v4 { vec![3, 4, 0, 0, 0, 0, 5, 120] } else { vec![2, 0, 0, 0, 0, 0, 5, 120] };
    // The ports and the tag that follows them, of which RFC 792 is content.
    message.extend(&quoted[..if v4 { 28 } else { 48 }]);
    let sum = internet_sum(&[pseudo_header(router, to, message.len()), message.clone()].concat());
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    frame(if v4 { ICMP } else { ICMPV6 }, router, to, &message)
}

/// What a message's checksum covers besides it (RFC 4443 section 2.3); nothing in IPv4.
fn pseudo_header(source: IpAddr, destination: IpAddr, length: usize) -> Vec<u8> {
    match (source, destination) {
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut header = [source.octets(), destination.octets()].concat();
            header.extend([0, 0, 0, u8::try_from(length).unwrap(), 0, 0, 0, ICMPV6]);
            header
        }
        _ => Vec::new(),
    }
}

/// What an error quotes, with a MAC header of no meaning; its own checksum has to be right.
fn quoted(error: &Seen) -> Seen {
    let covered = pseudo_header(error.source, error.destination, error.body.len());
    assert_eq!(internet_sum(&[covered, error.body.clone()].concat()), 0, "checksum of {error:?}");
    let mut packet = error.body[8..].to_vec();
    if packet[0] >> 4 == 6 {
        packet[4..6].copy_from_slice(&8_u16.to_be_bytes());
    } else {
        assert_eq!(internet_sum(&packet[..20]), 0, "checksum of the quoted header");
        packet[2..4].copy_from_slice(&28_u16.to_be_bytes());
        packet[10..12].fill(0);
        let sum = internet_sum(&packet[..20]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    Seen::read(&[vec![0; 12], vec![8, 0], packet].concat())
}

fn datagram(source: IpAddr, destination: IpAddr, port: u16) -> Vec<u8> {
    let [a, b] = port.to_be_bytes();
    frame(UDP, source, destination, &[a, b, a, b, 0, 8, 0, 0])
}

/// A data plane that a test runs frames through.
pub struct Bed<'a, P> {
    pub plane: &'a mut P,
    /// Interface that frames come from.
    pub ingress: u32,
    pub run: &'a dyn Fn(&P, Vec<u8>) -> Went,
}

impl<P: Plane> Bed<'_, P> {
    fn send(&self, frame: Vec<u8>) -> Went {
        (self.run)(self.plane, frame)
    }

    fn sent(&self, frame: Vec<u8>) -> Seen {
        match self.send(frame.clone()) {
            Went::Out(out) => Seen::read(&out),
            other @ (Went::Passed | Went::Dropped) => panic!("{other:?} of {frame:02x?}"),
        }
    }

    /// Puts one service with one real server into effect.
    fn serve(&mut self, family: Family, key: ServiceKey, method: ForwardingMethod) {
        let ServiceKey::Address { protocol, port, .. } = key else { panic!("{key}") };
        let hop = NextHop::new(SERVER_MAC, DIRECTOR_MAC, self.ingress);
        self.plane
            .set_route(family.server, Route { hop: Some(hop), mtu: 16_000, ..Route::default() });
        let elsewhere = protocol == Protocol::Sctp && method == ForwardingMethod::Nat;
        let port = if elsewhere { family.server().port() } else { port };
        let destination = Destination {
            key: DestinationKey { address: family.server, port },
            method,
            weight: 1,
            upper_threshold: 0,
            lower_threshold: 0,
        };
        let mut table = Table::new();
        table.apply(&Change::AddService(VirtualService::new(key, Scheduler::Rr))).unwrap();
        table.apply(&Change::AddDestination { service: key, destination }).unwrap();
        self.plane.install(&table).unwrap();
    }

    fn load(&self, key: ServiceKey) -> (u32, u32) {
        let view = self.plane.service_views().unwrap();
        let destination = view.iter().find(|view| view.service.key == key).unwrap();
        let of = destination.destinations[0].destination.key;
        let index = self.plane.destination_index(&key, &of).unwrap();
        let Load { active, inactive } = self.plane.destination_load(index);
        (active, inactive)
    }

    fn state(&self, client: SocketAddr) -> (ConnectionState, u32) {
        let found: Vec<_> = self.plane.connections().filter(|c| c.client == client).collect();
        let [connection] = found.as_slice() else { panic!("{client}: {found:?}") };
        (connection.state, connection.expires_s)
    }

    fn count(&self, counter: Counter) -> u64 {
        let counters = self.plane.counters().unwrap();
        counters.into_iter().find(|(of, _)| *of == counter).unwrap().1
    }
}

fn sctp(family: Family) -> ServiceKey {
    ServiceKey::Address { protocol: Protocol::Sctp, address: family.vip, port: family.vip().port() }
}

/// Masquerading rewrites ports and checksum both ways, and both ways are tracked.
pub fn masqueraded<P: Plane>(mut bed: Bed<'_, P>, family: Family) {
    let key = sctp(family);
    bed.serve(family, key, ForwardingMethod::Nat);
    let (client, vip, server) = (family.client(), family.vip(), family.server());
    /// Whether the client sends it, its chunks, and what is listed then: state, seconds, load.
    type Row<'a> = (bool, &'a [u8], ConnectionState, u32, (u32, u32));
    let steps: [Row<'_>; 8] = [
        (true, &[INIT], ConnectionState::Init1, 4, (0, 1)),
        (false, &[INIT_ACK], ConnectionState::CookieSent, 61, (0, 1)),
        (true, &[COOKIE_ECHO, DATA], ConnectionState::CookieReplied, 61, (0, 1)),
        (false, &[COOKIE_ACK], ConnectionState::Established, 900, (1, 0)),
        (true, &[DATA, DATA], ConnectionState::Established, 900, (1, 0)),
        (true, &[SHUTDOWN], ConnectionState::ShutdownReceived, 61, (0, 1)),
        (false, &[SHUTDOWN_ACK], ConnectionState::ShutdownAckSent, 61, (0, 1)),
        (true, &[SHUTDOWN_COMPLETE], ConnectionState::Closed, 61, (0, 1)),
    ];
    for (at, (request, chunks, state, seconds, load)) in steps.into_iter().enumerate() {
        for extra in [0, 1, 1_437] {
            let (from, to) = if request { (client, vip) } else { (server, client) };
            let seen = bed.sent(packet(from, to, chunks, extra));
            let wanted = if request { (client, server) } else { (vip, client) };
            assert_eq!((seen.source(), seen.destination()), wanted, "step {at}");
            assert!(seen.is_whole(), "checksum of step {at} with {extra} bytes more");
            assert_eq!(seen.ttl, 63);
            assert_eq!(seen.mac, if request { SERVER_MAC } else { CLIENT_MAC });
            if request && chunks == [INIT] {
                // A second INIT is another state.
                break;
            }
        }
        let (now, left) = bed.state(client);
        assert_eq!((now, bed.load(key)), (state, load), "step {at}");
        assert!((seconds - 2..=seconds).contains(&left), "step {at}: {left}");
    }
    // An association that is over begins anew, and a wrong checksum stays wrong.
    bed.sent(packet(client, vip, &[INIT], 0));
    assert_eq!(bed.state(client).0, ConnectionState::Init1);
    assert_eq!(bed.count(Counter::Reused), 1);
    let mut damaged = packet(client, vip, &[DATA], 100);
    *damaged.last_mut().unwrap() ^= 1;
    let seen = bed.sent(damaged);
    assert_eq!(seen.destination(), server);
    assert!(!seen.is_whole());
    assert!(bed.plane.recount().is_empty());
}

/// Direct routing sees one side alone, and changes nothing but the time to live.
pub fn direct<P: Plane>(mut bed: Bed<'_, P>, family: Family) {
    let key = sctp(family);
    bed.serve(family, key, ForwardingMethod::Dr);
    let (client, vip) = (family.client(), family.vip());
    let early = bed.count(Counter::NotSyn);
    for chunks in [&[DATA][..], &[COOKIE_ECHO], &[ABORT]] {
        assert_eq!(bed.send(packet(client, vip, chunks, 0)), Went::Passed, "{chunks:?}");
    }
    assert_eq!(bed.count(Counter::NotSyn) - early, 3);
    let steps: [(&[u8], ConnectionState, (u32, u32)); 6] = [
        (&[INIT], ConnectionState::Init1, (0, 1)),
        (&[INIT], ConnectionState::Init, (0, 1)),
        (&[COOKIE_ECHO], ConnectionState::Established, (1, 0)),
        (&[DATA], ConnectionState::Established, (1, 0)),
        (&[SHUTDOWN], ConnectionState::ShutdownReceived, (0, 1)),
        (&[COOKIE_ACK, ABORT], ConnectionState::Closed, (0, 1)),
    ];
    for (chunks, state, load) in steps {
        let sent = packet(client, vip, chunks, 33);
        let seen = bed.sent(sent.clone());
        assert_eq!(seen, Seen { mac: SERVER_MAC, ttl: 63, ..Seen::read(&sent) });
        assert_eq!((bed.state(client).0, bed.load(key)), (state, load), "{chunks:?}");
    }
    let mut tagged = packet(client, vip, &[DATA], 0);
    tagged.splice(12..12, TAG);
    let seen = bed.sent(tagged);
    assert_eq!((seen.mac, seen.destination(), seen.ttl), (SERVER_MAC, vip, 63));
    if family.vip.is_ipv4() {
        let mut first = packet(client, vip, &[DATA], 0);
        first[20] = 0x20;
        let mut later = first.clone();
        (later[20], later[21]) = (0, 5);
        let known = bed.count(Counter::Fragment);
        for mut fragment in [first, later] {
            fragment[24..26].fill(0);
            let sum = internet_sum(&fragment[14..34]);
            fragment[24..26].copy_from_slice(&sum.to_be_bytes());
            assert_eq!(bed.send(fragment), Went::Passed);
        }
        assert_eq!(bed.count(Counter::Fragment) - known, 2);
    }
    // Too short for a chunk.
    let short = frame(SCTP, family.client, family.vip, &[0x9c, 0x40, 0x26, 0xab, 0, 0, 0, 0]);
    let malformed = bed.count(Counter::Malformed);
    assert_eq!(bed.send(short), Went::Dropped);
    assert_eq!(bed.count(Counter::Malformed) - malformed, 1);
    // Neither the address nor the port of a service.
    let elsewhere = SocketAddr::new(family.vip, 9);
    assert_eq!(bed.send(packet(client, elsewhere, &[INIT], 0)), Went::Passed);
    assert_eq!(bed.send(packet(client, family.server(), &[INIT], 0)), Went::Passed);
}

/// Errors of routers on either side find the association that they are about.
pub fn errors<P: Plane>(mut bed: Bed<'_, P>, family: Family, method: ForwardingMethod) {
    let key = sctp(family);
    let (client, vip, server) = (family.client(), family.vip(), family.server());
    let router = if family.vip.is_ipv4() { "198.51.100.1" } else { "2001:db8:6::1" };
    let router: IpAddr = router.parse().unwrap();
    let nat = method == ForwardingMethod::Nat;
    let to = if nat { server } else { vip };
    bed.serve(family, key, method);
    let reply = packet(vip, client, &[DATA], 1_400);
    assert_eq!(bed.send(too_big(router, &reply)), Went::Passed, "of nobody");
    bed.sent(packet(client, vip, &[INIT], 0));
    // About what the service sent, to the real server.
    let error = bed.sent(too_big(router, &reply));
    assert_eq!((error.mac, error.source, error.destination), (SERVER_MAC, router, to.ip()));
    assert_eq!(error.ttl, 63);
    let about = quoted(&error);
    assert_eq!((about.source(), about.destination()), (to, client));
    assert_eq!(bed.count(Counter::IcmpForwarded), 1);
    // About what the client sent to a masqueraded real server, to the client.
    let request = packet(client, server, &[DATA], 1_400);
    if nat {
        let error = bed.sent(too_big(router, &request));
        assert_eq!((error.mac, error.destination), (CLIENT_MAC, client.ip()));
        assert_eq!(error.source, vip.ip(), "as far as the client knows");
        let about = quoted(&error);
        assert_eq!((about.source(), about.destination()), (client, vip));
    } else {
        assert_eq!(bed.send(too_big(router, &request)), Went::Passed);
    }
    assert_eq!(bed.count(Counter::IcmpReturned), u64::from(nat));
    let stranger = SocketAddr::new(client.ip(), 41_000);
    let about_stranger = too_big(router, &packet(vip, stranger, &[DATA], 0));
    assert_eq!(bed.send(about_stranger.clone()), Went::Passed);
    // With `schedule_icmp` one of nobody opens an association.
    let mut table = bed.plane.table().clone();
    let on = SettingValue::Number(1);
    table.apply(&Change::Set { setting: Setting::ScheduleIcmp, value: on }).unwrap();
    bed.plane.install(&table).unwrap();
    let error = bed.sent(about_stranger);
    assert_eq!((error.mac, error.destination), (SERVER_MAC, to.ip()));
    assert_eq!(bed.state(stranger).0, ConnectionState::None);
    assert_eq!(bed.load(key), (0, 2));
}

/// With `sloppy_sctp` any packet opens an association but one that aborts.
pub fn sloppy<P: Plane>(mut bed: Bed<'_, P>, family: Family) {
    let key = sctp(family);
    bed.serve(family, key, ForwardingMethod::Dr);
    let mut table = bed.plane.table().clone();
    let on = SettingValue::Number(1);
    table.apply(&Change::Set { setting: Setting::SloppySctp, value: on }).unwrap();
    bed.plane.install(&table).unwrap();
    let (client, vip) = (family.client(), family.vip());
    assert_eq!(bed.send(packet(client, vip, &[ABORT], 0)), Went::Passed);
    assert_eq!(bed.plane.connections().count(), 0);
    bed.sent(packet(client, vip, &[DATA], 0));
    assert_eq!(bed.state(client).0, ConnectionState::Established);
    assert_eq!(bed.load(key), (1, 0));
}

/// A persistent service leads clients of one network to one real server, and those of another to another.
pub fn persistent<P: Plane>(bed: Bed<'_, P>, family: Family) {
    let key = sctp(family);
    let v4 = family.vip.is_ipv4();
    let (first, second): (IpAddr, IpAddr) = (family.server, next(family.server));
    let mut table = Table::new();
    let netmask = if v4 { Netmask::V4(0xffff_ff00) } else { Netmask::V6(64) };
    let service = VirtualService {
        persistence: Some(Persistence { timeout: 300 }),
        netmask,
        ..VirtualService::new(key, Scheduler::Rr)
    };
    table.apply(&Change::AddService(service)).unwrap();
    for (last, address) in [(1, first), (2, second)] {
        let mac = [6, 0, 0, 0, 0, last];
        let hop = NextHop::new(mac, DIRECTOR_MAC, bed.ingress);
        bed.plane.set_route(address, Route { hop: Some(hop), mtu: 1_500, ..Route::default() });
        let destination = Destination {
            key: DestinationKey { address, port: family.vip().port() },
            method: ForwardingMethod::Dr,
            weight: 1,
            upper_threshold: 0,
            lower_threshold: 0,
        };
        table.apply(&Change::AddDestination { service: key, destination }).unwrap();
    }
    bed.plane.install(&table).unwrap();
    let other: IpAddr = if v4 { "198.51.100.9" } else { "2001:db8:6::9" }.parse().unwrap();
    let went = |client: IpAddr, port: u16| {
        let client = SocketAddr::new(client, port);
        bed.sent(packet(client, family.vip(), &[INIT], 0)).mac
    };
    let (of_first, of_second) = (went(family.client, 1), went(other, 1));
    assert_ne!(of_first, of_second, "round robin");
    for port in 2..5 {
        assert_eq!(went(family.client, port), of_first);
        assert_eq!(went(next(family.client), port), of_first, "of the same network");
        assert_eq!(went(other, port), of_second);
    }
    let templates: Vec<_> = bed
        .plane
        .connections()
        .filter(|c| c.template)
        .map(|c| (c.protocol, c.client.port()))
        .collect();
    assert_eq!(templates, [(SCTP, 0); 2]);
}

/// The address after one.
fn next(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => std::net::Ipv4Addr::from(u32::from(address) + 1).into(),
        IpAddr::V6(address) => std::net::Ipv6Addr::from(u128::from(address) + 1).into(),
    }
}

/// AH and ESP go where the IKE of their ends went, and open nothing.
pub fn ipsec<P: Plane>(mut bed: Bed<'_, P>, family: Family, method: ForwardingMethod) {
    let key = ServiceKey::Address { protocol: Protocol::Udp, address: family.vip, port: 500 };
    let body = [0x11, 0x22, 0x33, 0x44, 0, 0, 0, 1, 0xaa, 0xbb];
    let from_client = |protocol| frame(protocol, family.client, family.vip, &body);
    bed.serve(family, key, method);
    for protocol in [ESP, AH] {
        assert_eq!(bed.send(from_client(protocol)), Went::Passed, "no IKE of {protocol}");
    }
    let ike = bed.sent(datagram(family.client, family.vip, 500));
    assert_eq!(ike.mac, SERVER_MAC);
    let nat = method == ForwardingMethod::Nat;
    for protocol in [ESP, AH] {
        let seen = bed.sent(from_client(protocol));
        assert_eq!(seen.destination, if nat { family.server } else { family.vip });
        assert_eq!((seen.source, seen.mac, seen.ttl), (family.client, SERVER_MAC, 63));
        assert_eq!(seen.body, body, "neither ports nor a checksum");
        let answer = frame(protocol, family.server, family.client, &body);
        if nat {
            let seen = bed.sent(answer);
            assert_eq!((seen.source, seen.destination), (family.vip, family.client));
            assert_eq!((seen.mac, &seen.body[..]), (CLIENT_MAC, &body[..]));
        } else {
            assert_eq!(bed.send(answer), Went::Passed);
        }
    }
    assert_eq!(bed.plane.connections().count(), 1, "they have no entries of their own");
    let statistics = bed.plane.service_statistics(&key).unwrap();
    let replies = if nat { 2 } else { 0 };
    assert_eq!((statistics.in_packets, statistics.out_packets), (3, replies));
    // Another client's are not known, and no other protocol is touched.
    let other = match family.client {
        IpAddr::V4(_) => "203.0.113.6",
        IpAddr::V6(_) => "2001:db8:5::6",
    };
    let other = frame(ESP, other.parse().unwrap(), family.vip, &body);
    assert_eq!(bed.send(other), Went::Passed);
    assert_eq!(bed.send(from_client(47)), Went::Passed, "GRE");
}
