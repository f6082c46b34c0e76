//! The data plane over the real program: opened, pinned, adopted, torn down; a million connections in the mapped table.

#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "tests fail loudly"
)]

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Instant;

use aya::TestRunOptions;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::{ProgramInfo, TestRun, Xdp};
use aya_obj::programs::XdpAttachType;
use elvs_common::{Control, LAYOUT_VERSION, Method, NextHop, TCP, UDP, program_names};
use elvs_dataplane::{
    AttachError, AttachedMode, Backend, DataPlane, Load, OpenError, Opened, Options, Plane, Route,
    Warning, helper, open,
};
use elvs_fastpath::{Eviction, FlowKey, Insertion, NewFlow, flow_hash, insert_flow};
use elvs_lab::require_root;
use elvs_model::{
    Change, ConnectionState, Destination, DestinationKey, ForwardingMethod, OnDelete, Protocol,
    Scheduler, ServiceKey, Setting, Table, Timeouts, VirtualService, XdpMode,
};
use elvs_net::bed::BedError;
use elvs_net::{Namespace, Netlink};

const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
/// Interface that test runs come from.
const LOOPBACK: u32 = 1;

/// Directories of one test, removed with everything in them.
struct Place {
    options: Options,
    _state: tempfile::TempDir,
}

impl Place {
    fn new(name: &str, connections: u32) -> Self {
        require_root();
        let state = tempfile::tempdir().unwrap();
        let options = Options {
            instance: format!("lab-{name}-{}", std::process::id()),
            pin_root: "/sys/fs/bpf/elvs-lab".into(),
            state_dir: state.path().to_path_buf(),
            connections,
            wide_connections: None,
            locals: 1,
        };
        Self { options, _state: state }
    }

    fn open(&self) -> Opened {
        open(&self.options).unwrap()
    }

    fn pins(&self) -> PathBuf {
        let instance = self.options.pin_root.join(&self.options.instance);
        instance.join(format!("v{LAYOUT_VERSION}"))
    }

    /// Runs the pinned program on a frame.
    fn run(&self, frame: &[u8]) -> (u32, Vec<u8>) {
        let director = self.pins().join(program_names::DIRECTOR);
        let program = Xdp::from_pin(director, XdpAttachType::Interface).unwrap();
        let mut out = vec![0; 2048];
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.data_out = Some(&mut out);
        let result = program.test_run(options).unwrap();
        out.truncate(result.data_size_out as usize);
        (result.return_value, out)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A test that failed half way leaves no interface attached.
        if let Ok(mut opened) = open(&self.options) {
            opened.plane.teardown().ok();
        }
        std::fs::remove_dir(&self.options.pin_root).ok();
    }
}

fn service(protocol: Protocol, port: u16) -> ServiceKey {
    ServiceKey::Address { protocol, address: VIP.into(), port }
}

fn server(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

fn destination(last: u8) -> Destination {
    Destination {
        key: DestinationKey { address: server(last).into(), port: 80 },
        method: ForwardingMethod::Dr,
        weight: 1,
        upper_threshold: 0,
        lower_threshold: 0,
    }
}

fn table(services: &[ServiceKey], servers: &[u8]) -> Table {
    let mut table = Table::new();
    for key in services {
        table.apply(&Change::AddService(VirtualService::new(*key, Scheduler::Rr))).unwrap();
        for last in servers {
            let destination = destination(*last);
            table.apply(&Change::AddDestination { service: *key, destination }).unwrap();
        }
    }
    table
}

fn route(last: u8) -> Route {
    let hop = NextHop::new([6, 0, 0, 0, 0, last], [2, 0, 0, 0, 0, 1], LOOPBACK);
    Route { hop: Some(hop), mtu: 1500, ..Route::default() }
}

fn set_routes(plane: &mut DataPlane, servers: &[u8]) {
    for last in servers {
        plane.set_route(server(*last).into(), route(*last));
    }
}

/// A TCP segment from a client to the service.
fn segment(client: Ipv4Addr, port: u16, flags: u8) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend([0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, TCP, 0, 0]);
    frame.extend(client.octets());
    frame.extend(VIP.octets());
    let sum: u32 =
        frame[14..34].chunks(2).map(|h| u32::from(u16::from_be_bytes([h[0], h[1]]))).sum();
    let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame.extend(port.to_be_bytes());
    frame.extend(80_u16.to_be_bytes());
    frame.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 2, 0, 0, 0, 0, 0]);
    frame
}

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

#[test]
fn packets_are_forwarded_and_a_second_daemon_adopts_their_connections() {
    let place = Place::new("adopt", 4_096);
    let key = service(Protocol::Tcp, 80);
    let client = Ipv4Addr::new(203, 0, 113, 5);
    let Opened { mut plane, adopted, warnings } = place.open();
    assert!(!adopted && warnings.is_empty(), "{warnings:?}");
    assert_eq!(place.run(&segment(client, 1000, SYN)).0, XDP_PASS, "there is no service");
    set_routes(&mut plane, &[1, 2]);
    assert!(plane.install(&table(&[key], &[1, 2])).unwrap().swapped);
    assert!(!plane.install(&table(&[key], &[1, 2])).unwrap().swapped, "nothing differs");
    // The newest destination is first in IPVS's list.
    for (port, last) in [(1000, 2), (1001, 1), (1002, 2)] {
        let (action, out) = place.run(&segment(client, port, SYN));
        assert_eq!((action, &out[..6]), (XDP_TX, &[6, 0, 0, 0, 0, last][..]), "port {port}");
    }
    assert_eq!(place.run(&segment(client, 1000, ACK)).0, XDP_TX);
    let listed: Vec<_> = plane.connections().collect();
    assert_eq!(listed.len(), 3);
    let first = listed.iter().find(|c| c.client.port() == 1000).unwrap();
    assert_eq!(first.state, ConnectionState::Established);
    assert_eq!(first.client.ip(), client);
    assert_eq!(first.service.to_string(), "192.0.2.10:80");
    assert_eq!(first.destination.to_string(), "10.0.0.2:80");
    assert!((898..=900).contains(&first.expires_s), "{first:?}");
    let second = plane.destination_index(&key, &destination(2).key).unwrap();
    assert_eq!(plane.destination_load(second), Load { active: 2, inactive: 0 });
    let views = plane.service_views().unwrap();
    assert_eq!((views[0].statistics.connections, views[0].statistics.in_packets), (3, 4));

    let busy = open(&place.options).unwrap_err();
    let OpenError::Busy { pid, .. } = &busy else { panic!("{busy}") };
    assert_eq!(*pid, std::process::id().to_string());

    drop(plane);
    assert_eq!(place.run(&segment(client, 1001, ACK)).0, XDP_TX, "no daemon, same connection");
    let other = Options { connections: 8_192, ..place.options.clone() };
    let Opened { mut plane, adopted, warnings } = open(&other).unwrap();
    assert!(adopted);
    let capacity = |what, configured, existing| Warning::Capacity { what, configured, existing };
    let wanted = [capacity("flow table", 8_192, 4_096), capacity("wide flow table", 2_048, 1_024)];
    assert_eq!(warnings, wanted);
    assert_eq!(plane.table(), &table(&[key], &[1, 2]));
    assert_eq!(plane.connections().count(), 3);
    assert_eq!(plane.destination_index(&key, &destination(2).key), Some(second));
    let statistics = plane.service_statistics(&key).unwrap();
    assert_eq!((statistics.connections, statistics.in_packets), (3, 5));
    assert!(!plane.install(&table(&[key], &[1, 2])).unwrap().swapped);
    let (action, out) = place.run(&segment(client, 1003, SYN));
    assert_eq!((action, out[5]), (XDP_TX, 1), "round robin goes on where it was");

    // A removed destination's packets are dropped; added again, its connections work again.
    plane.install(&table(&[key], &[1])).unwrap();
    assert_eq!(place.run(&segment(client, 1000, ACK)).0, XDP_DROP);
    plane.install(&table(&[key], &[1, 2])).unwrap();
    assert_eq!(place.run(&segment(client, 1000, ACK)).0, XDP_TX);
    assert!(plane.recount().is_empty(), "{:?}", plane.recount());
    let gone = plane.counters().unwrap().into_iter().find(|(c, _)| c.name() == "destination_gone");
    assert_eq!(gone.unwrap().1, 1);
    plane.teardown().unwrap();
    assert!(!place.pins().exists());
}

/// Packets counted by a reason.
fn counted(plane: &DataPlane, reason: &str) -> u64 {
    let counters = plane.counters().unwrap();
    counters.into_iter().find(|(counter, _)| counter.name() == reason).unwrap().1
}

#[test]
fn a_defence_takes_new_connections_away_from_the_first_stage_and_gives_them_back() {
    let place = Place::new("defence", 64);
    let key = service(Protocol::Tcp, 80);
    let client = Ipv4Addr::new(203, 0, 113, 5);
    let mut plane = place.open().plane;
    set_routes(&mut plane, &[1]);
    let with = |settings: &[(Setting, &str)]| {
        let mut table = table(&[key], &[1]);
        for (setting, text) in settings {
            let value = setting.value(text).unwrap();
            table.apply(&Change::Set { setting: *setting, value }).unwrap();
        }
        table
    };
    plane.install(&with(&[])).unwrap();
    assert_eq!(place.run(&segment(client, 1000, SYN)).0, XDP_TX);
    // Of every new connection, so that it does not matter on which CPU a run is counted.
    let every = with(&[(Setting::DropPacket, "3"), (Setting::AmDroprate, "1")]);
    assert!(plane.install(&every).unwrap().swapped);
    assert_eq!(place.run(&segment(client, 1001, SYN)).0, XDP_DROP);
    assert_eq!(place.run(&segment(client, 1000, ACK)).0, XDP_TX, "a known one");
    assert_eq!(counted(&plane, "drop_packet"), 1);
    // Automatic: by what the daemon finds of memory.
    plane.install(&with(&[(Setting::DropPacket, "1"), (Setting::SecureTcp, "1")])).unwrap();
    assert_eq!(plane.defend(Some(0)).drop_rate, 1);
    assert_eq!(place.run(&segment(client, 1001, SYN)).0, XDP_DROP);
    plane.install(&with(&[(Setting::SecureTcp, "1")])).unwrap();
    assert!(plane.defend(Some(0)).secure_tcp);
    assert_eq!(place.run(&segment(client, 1002, SYN)).0, XDP_TX);
    let state = |plane: &DataPlane, port: u16| {
        plane.connections().find(|c| c.client.port() == port).unwrap().state
    };
    assert_eq!(state(&plane, 1002), ConnectionState::SynAck);
    assert_eq!(place.run(&segment(client, 1002, ACK)).0, XDP_TX);
    assert_eq!(state(&plane, 1002), ConnectionState::Established);
    assert!(!plane.defend(Some(u64::MAX)).secure_tcp);
    assert_eq!(place.run(&segment(client, 1003, SYN)).0, XDP_TX);
    assert_eq!(state(&plane, 1003), ConnectionState::SynRecv);
    assert!(plane.recount().is_empty(), "{:?}", plane.recount());
}

#[test]
fn rfc9293_3_10_7_1_a_removed_destinations_client_is_answered_by_a_reset() {
    let place = Place::new("reset", 64);
    let key = service(Protocol::Tcp, 80);
    let client = Ipv4Addr::new(203, 0, 113, 5);
    let mut plane = place.open().plane;
    set_routes(&mut plane, &[1]);
    let with = |servers: &[u8]| {
        let mut table = table(&[key], servers);
        let service = VirtualService::new(key, Scheduler::Rr);
        let service = VirtualService { on_delete: OnDelete::Reset, ..service };
        table.apply(&Change::EditService(service)).unwrap();
        table
    };
    plane.install(&with(&[1])).unwrap();
    assert_eq!(place.run(&segment(client, 1000, SYN)).0, XDP_TX);
    plane.install(&with(&[])).unwrap();
    let mut sent = segment(client, 1000, ACK);
    sent[42..46].copy_from_slice(&[0x12, 0x34, 0x56, 0x78]);
    let (action, out) = place.run(&sent);
    assert_eq!(action, XDP_TX);
    assert_eq!((&out[..6], &out[6..12]), (&sent[6..12], &sent[..6]), "back where it came from");
    assert_eq!((&out[26..30], &out[30..34]), (&VIP.octets()[..], &client.octets()[..]));
    assert_eq!((&out[34..36], &out[36..38]), (&sent[36..38], &sent[34..36]), "ports");
    assert_eq!(out[38..48], [0x12, 0x34, 0x56, 0x78, 0, 0, 0, 0, 0x50, 0x04], "SEQ=SEG.ACK, RST");
    assert_eq!(out.len(), 54);
    assert_eq!(counted(&plane, "reset_sent"), 1);
    assert_eq!(plane.connections().count(), 0, "the connection is over");
    assert_eq!(place.run(&segment(client, 1000, ACK)).0, XDP_PASS, "now it is nobody's");
}

#[test]
fn nat_icmp_send_tells_a_masqueraded_real_server_of_a_packet_of_no_connection() {
    let place = Place::new("stray", 64);
    let key = service(Protocol::Tcp, 80);
    let mut plane = place.open().plane;
    let own = Ipv4Addr::new(10, 0, 0, 250);
    plane.set_route(server(1).into(), Route { tunnel_source: Some(own.into()), ..route(1) });
    let mut table = table(&[key], &[]);
    let masqueraded = Destination { method: ForwardingMethod::Nat, ..destination(1) };
    table.apply(&Change::AddDestination { service: key, destination: masqueraded }).unwrap();
    plane.install(&table).unwrap();
    // The real server's port is that of the service: a segment the other way.
    let mut stray = segment(server(1), 80, ACK);
    stray[36..38].copy_from_slice(&4_711_u16.to_be_bytes());
    stray[30..34].copy_from_slice(&[203, 0, 113, 5]);
    assert_eq!(place.run(&stray).0, XDP_PASS);
    let value = Setting::NatIcmpSend.value("1").unwrap();
    table.apply(&Change::Set { setting: Setting::NatIcmpSend, value }).unwrap();
    plane.install(&table).unwrap();
    let (action, out) = place.run(&stray);
    assert_eq!((action, &out[..6]), (XDP_TX, &stray[6..12]));
    assert_eq!((&out[26..30], &out[30..34]), (&own.octets()[..], &server(1).octets()[..]));
    assert_eq!((out[23], &out[34..36]), (1, &[3, 3][..]), "port unreachable");
    assert_eq!(counted(&plane, "no_connection"), 1);
    stray[47] = 0x04;
    assert_eq!(place.run(&stray).0, XDP_PASS, "a reset is not answered");
}

#[test]
fn schedule_icmp_leads_an_error_of_no_connection_to_a_real_server() {
    let place = Place::new("icmp-open", 64);
    let key = service(Protocol::Tcp, 80);
    let client = Ipv4Addr::new(203, 0, 113, 5);
    let mut plane = place.open().plane;
    set_routes(&mut plane, &[1]);
    let mut table = table(&[key], &[1]);
    plane.install(&table).unwrap();
    // Time exceeded, from a router to the service, about a segment of the service to the client; direct routing looks at
    // no checksum.
    let mut quoted = segment(client, 1000, ACK)[14..42].to_vec();
    quoted[12..16].copy_from_slice(&VIP.octets());
    quoted[16..20].copy_from_slice(&client.octets());
    quoted[20..24].copy_from_slice(&[0, 80, 0x03, 0xe8]);
    let mut error = segment(Ipv4Addr::new(203, 0, 113, 1), 0, 0)[..34].to_vec();
    error[17] = 20 + 8 + 28;
    error[23] = 1;
    error.extend([11, 0, 0, 0, 0, 0, 0, 0]);
    error.extend(quoted);
    assert_eq!(place.run(&error).0, XDP_PASS);
    let value = Setting::ScheduleIcmp.value("1").unwrap();
    table.apply(&Change::Set { setting: Setting::ScheduleIcmp, value }).unwrap();
    plane.install(&table).unwrap();
    let (action, out) = place.run(&error);
    assert_eq!((action, &out[..6]), (XDP_TX, &[6, 0, 0, 0, 0, 1][..]));
    assert_eq!(counted(&plane, "icmp_forwarded"), 1);
    let opened: Vec<_> = plane.connections().map(|c| (c.client.to_string(), c.state)).collect();
    assert_eq!(opened, [("203.0.113.5:1000".to_owned(), ConnectionState::None)]);
    assert_eq!(place.run(&segment(client, 1000, ACK)).0, XDP_TX, "the client's packets follow");
    assert!(plane.recount().is_empty(), "{:?}", plane.recount());
}

#[test]
fn pins_that_cannot_be_adopted_are_replaced_and_named() {
    let place = Place::new("replace", 64);
    drop(place.open());
    std::fs::remove_file(place.pins().join("ELVS_LOADS")).unwrap();
    let stale = place.pins().parent().unwrap().join("v0");
    std::fs::create_dir(&stale).unwrap();
    let Opened { mut plane, adopted, warnings } = place.open();
    assert!(!adopted);
    let [Warning::OtherLayout { directory }, Warning::Replaced { reason }] = &warnings[..] else {
        panic!("{warnings:?}")
    };
    assert_eq!(directory, "v0");
    assert!(reason.contains("ELVS_LOADS"), "{reason}");
    assert!(!stale.exists());
    plane.teardown().unwrap();
}

#[test]
fn another_versions_program_is_replaced_under_its_links() {
    let place = Place::new("upgrade", 64);
    let namespace = Namespace::create(&format!("elvs-lab-up-{}", std::process::id())).unwrap();
    namespace.run(|| upgrade(&place)).unwrap();
}

fn upgrade(place: &Place) {
    let key = service(Protocol::Tcp, 80);
    let client = Ipv4Addr::new(203, 0, 113, 5);
    let director = place.pins().join(program_names::DIRECTOR);
    let runs = || {
        let link = PinnedLink::from_pin(place.pins().join("link-generic-lo")).unwrap();
        FdLink::from(link).info().unwrap().program_id()
    };
    let pinned = || ProgramInfo::from_pin(&director).unwrap().id();
    let Opened { mut plane, .. } = place.open();
    set_routes(&mut plane, &[1]);
    plane.install(&table(&[key], &[1])).unwrap();
    plane.attach("lo", XdpMode::Generic).unwrap();
    assert_eq!(place.run(&segment(client, 1000, SYN)).0, XDP_TX);
    drop(plane);
    let old = pinned();
    assert_eq!(runs(), old);
    // The clock stands for the director of another version: it passes everything.
    std::fs::remove_file(&director).unwrap();
    let clock = place.pins().join(program_names::CLOCK);
    Xdp::from_pin(clock, XdpAttachType::Interface).unwrap().pin(&director).unwrap();
    assert_eq!(place.run(&segment(client, 1000, ACK)).0, XDP_PASS);
    let Opened { mut plane, adopted, warnings } = place.open();
    assert!(adopted);
    assert_eq!(warnings, [Warning::ProgramReplaced]);
    assert_ne!(pinned(), old);
    assert_eq!(runs(), pinned(), "the link runs the new program");
    assert_eq!(place.run(&segment(client, 1000, ACK)).0, XDP_TX, "the connection is still there");
    assert_eq!(place.run(&segment(client, 1001, SYN)).0, XDP_TX, "new ones reach its stages");
    plane.teardown().unwrap();
}

#[test]
fn options_out_of_range_are_refused_by_name() {
    require_root();
    for instance in ["", "a/b", "..", "a b"] {
        let error = open(&Options::new(instance)).unwrap_err();
        assert!(matches!(error, OpenError::Name { .. }), "{error}");
    }
    for connections in [0, u32::MAX] {
        let error = open(&Options { connections, ..Options::new("lab-range") }).unwrap_err();
        assert!(matches!(error, OpenError::Connections { .. }), "{error}");
    }
    let options = Options { pin_root: "/run/elvs-lab-pins".into(), ..Options::new("lab-range") };
    let state = tempfile::tempdir().unwrap();
    let error = open(&Options { state_dir: state.path().into(), ..options }).unwrap_err();
    assert!(error.to_string().contains("BPF file system"), "{error}");
}

#[test]
fn interfaces_are_attached_kept_over_a_restart_and_freed() {
    let place = Place::new("attach", 64);
    let name = format!("elvs-lab-att-{}", std::process::id());
    let namespace = Namespace::create(&name).unwrap();
    namespace
        .with_netlink(async |netlink: Netlink| {
            let near = netlink.add_veth("eth0.7", "peer", &namespace).await?;
            netlink.set_up(near.ifindex).await?;
            netlink.set_up(netlink.link("peer").await?.ifindex).await?;
            Ok::<_, BedError>(())
        })
        .unwrap();
    namespace
        .run(|| {
            let Opened { mut plane, .. } = place.open();
            let error = plane.attach("nosuch", XdpMode::Auto).unwrap_err();
            assert!(matches!(error, AttachError::NoInterface { .. }), "{error}");
            assert_eq!(plane.attach("eth0.7", XdpMode::Auto).unwrap(), AttachedMode::Native);
            assert_eq!(plane.attach("lo", XdpMode::Auto).unwrap(), AttachedMode::Generic);
            assert_eq!(plane.attach("lo", XdpMode::Auto).unwrap(), AttachedMode::Generic);
            let error = plane.attach("peer", XdpMode::Generic).map(drop);
            error.unwrap();
            plane.detach("peer").unwrap();
            let guard = helper::attach(helper::Helper::Pass, "peer", XdpMode::Auto).unwrap();
            assert_eq!(guard.mode(), AttachedMode::Native);
            let error = plane.attach("peer", XdpMode::Auto).unwrap_err();
            assert!(matches!(error, AttachError::Foreign { .. }), "{error}");
            drop(guard);
            let attached = plane.attached();
            assert_eq!(
                attached,
                [
                    ("eth0.7".to_owned(), AttachedMode::Native),
                    ("lo".to_owned(), AttachedMode::Generic)
                ]
            );
            drop(plane);
            let Opened { mut plane, adopted, warnings } = place.open();
            assert!(adopted && warnings.is_empty(), "{warnings:?}");
            assert_eq!(plane.attached(), attached);
            plane.detach("eth0.7").unwrap();
            plane.attach("eth0.7", XdpMode::Native).unwrap();
            drop(plane);
        })
        .unwrap();
    namespace
        .with_netlink(async |netlink: Netlink| {
            let link = netlink.link("peer").await?;
            netlink.delete_link(link.ifindex).await?;
            Ok::<_, BedError>(())
        })
        .unwrap();
    namespace
        .run(|| {
            let Opened { mut plane, warnings, .. } = place.open();
            let interface = "eth0.7".to_owned();
            assert_eq!(warnings, [Warning::InterfaceGone { interface }]);
            assert_eq!(plane.attached(), [("lo".to_owned(), AttachedMode::Generic)]);
            plane.teardown().unwrap();
            assert!(!place.pins().exists());
            let guard = helper::attach(helper::Helper::Decap, "lo", XdpMode::Auto).unwrap();
            let root = &place.options.pin_root;
            assert_eq!(guard.pin(root).unwrap(), AttachedMode::Generic);
            assert_eq!(helper::pinned(root, helper::Helper::Decap).unwrap(), ["lo"]);
            assert!(helper::remove_pinned(root, helper::Helper::Decap, "lo").unwrap());
            assert!(!helper::remove_pinned(root, helper::Helper::Decap, "lo").unwrap());
            std::fs::remove_dir(root.join("realserver")).unwrap();
        })
        .unwrap();
}

#[test]
fn a_million_connections_are_listed_counted_and_expired() {
    const MILLION: u32 = 1_000_000;
    let place = Place::new("million", elvs_dataplane::DEFAULT_CONNECTIONS);
    let keys = [service(Protocol::Tcp, 80), service(Protocol::Udp, 53)];
    let Opened { mut plane, .. } = place.open();
    set_routes(&mut plane, &[1, 2]);
    let mut table = table(&keys, &[1, 2]);
    plane.install(&table).unwrap();
    let index = |key, last| plane.destination_index(&key, &destination(last).key).unwrap();
    let targets = [index(keys[0], 1), index(keys[0], 2), index(keys[1], 1), index(keys[1], 2)];
    let begun = Instant::now();
    let settings = plane.backend().settings();
    let tick = plane.backend().now().tick();
    let virtual_address = u32::from_ne_bytes(VIP.octets());
    for n in 0..MILLION {
        let udp = n % 2 == 1;
        let (protocol, port) = if udp { (UDP, 53_u16) } else { (TCP, 80) };
        let client = (0x0a40_0000 + n / 40_000).to_be();
        let client_port = ((1_024 + n % 40_000) as u16).to_be();
        let key = FlowKey::new(client, virtual_address, client_port, port.to_be(), protocol);
        let destination = targets[(n % 4 / 2 + if udp { 2 } else { 0 }) as usize];
        let flow = NewFlow {
            key,
            hash: flow_hash(client, client_port, protocol, settings.seed),
            control: Control::live(protocol, u8::from(!udp), Method::Dr, udp, tick),
            destination,
        };
        let keep = |_| Eviction::Keep;
        let inserted = insert_flow(plane.backend(), settings.buckets, &flow, &keep);
        assert_eq!(inserted.outcome, Insertion::Done, "connection {n}");
        let unit = elvs_common::DestinationLoad::unit(udp);
        let load = plane.backend().load(destination).unwrap();
        load.fetch_add(unit, std::sync::atomic::Ordering::Relaxed);
    }
    eprintln!("inserted {MILLION} in {:?}", begun.elapsed());
    // The program finds them: the packet of a known connection is forwarded without being a SYN.
    for n in (0..MILLION).step_by(100_000) {
        let client = Ipv4Addr::from(0x0a40_0000 + n / 40_000);
        assert_eq!(place.run(&segment(client, 1_024 + (n % 40_000) as u16, ACK)).0, XDP_TX);
    }
    let begun = Instant::now();
    assert_eq!(plane.connections().count(), MILLION as usize);
    eprintln!("listed in {:?}", begun.elapsed());
    let quarter = MILLION / 4;
    assert_eq!(plane.destination_load(targets[0]), Load { active: quarter, inactive: 0 });
    assert_eq!(plane.destination_load(targets[3]), Load { active: 0, inactive: quarter });
    assert!(plane.recount().is_empty());
    let begun = Instant::now();
    let report = plane.sweep(u32::MAX);
    eprintln!("swept in {:?}", begun.elapsed());
    assert_eq!((report.expired, report.live), (0, u64::from(MILLION)));
    assert_eq!(plane.live_connections(), u64::from(MILLION));
    // A timeout of a second, and a second later everything is over.
    table.apply(&Change::SetTimeouts(Timeouts { tcp: 1, tcp_fin: 1, udp: 1 })).unwrap();
    plane.install(&table).unwrap();
    let mut expired = 0;
    let begun = Instant::now();
    while expired < u64::from(MILLION) && begun.elapsed().as_secs() < 60 {
        let report = plane.sweep(65_536);
        expired += report.expired;
    }
    assert_eq!(expired, u64::from(MILLION));
    assert_eq!(plane.connections().count(), 0);
    for target in targets {
        assert_eq!(plane.destination_load(target), Load::default());
    }
    eprintln!("memory {} MiB", plane.memory_bytes() >> 20);
    plane.teardown().unwrap();
}
