//! A million connections at once, made by the program of a running daemon: listed, counted, kept over a restart,
//! expired, to the last one.

#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail loudly"
)]

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;

use aya::TestRunOptions;
use aya::programs::{TestRun, Xdp};
use aya_obj::programs::XdpAttachType;
use elvs_common::{LAYOUT_VERSION, program_names};
use elvs_lab::bed::VIP;
use elvs_lab::{Daemon, Topology, method, wait_until};
use elvs_model::{Protocol, ServiceKey};
use nix::sys::signal::Signal;

#[path = "../../crates/elvs-fastpath/tests/support/mod.rs"]
mod support;

use support::{ACK, Packet, SYN};

const NAME: &str = "million";
const MILLION: u32 = 1_000_000;
const REAL_SERVERS: u32 = 2;
/// Memory of its own that a process may take for listing: far below a million connections' worth.
const BOUND_KIB: u64 = 16 << 10;
const XDP_REDIRECT: u32 = 4;

/// TCP to port 80 and UDP to port 53, half a million connections each.
const CONFIG: &str = "
data_plane {
    flood_threshold off
}
virtual_server 10.0.0.100 80 {
    lb_algo rr
    lb_kind DR
    protocol TCP
    real_server 10.0.0.21 80 { }
    real_server 10.0.0.22 80 { }
}
virtual_server 10.0.0.100 53 {
    lb_algo rr
    lb_kind DR
    protocol UDP
    real_server 10.0.0.21 53 { }
    real_server 10.0.0.22 53 { }
}
";

/// The frame of a kind of packet, to be made one of many clients'.
struct Template {
    frame: Vec<u8>,
    protocol: u8,
}

impl Template {
    fn new(packet: &Packet) -> Self {
        Self { frame: packet.build(), protocol: packet.protocol }
    }

    /// The frame of client number `n`: addresses from 10.64.0.0 on, 40,000 ports each.
    fn of(&mut self, n: u32) -> &[u8] {
        let address = Ipv4Addr::from(0x0a40_0000 + n / 40_000);
        let port = (1_024 + n % 40_000) as u16;
        self.frame[26..30].copy_from_slice(&address.octets());
        self.frame[34..36].copy_from_slice(&port.to_be_bytes());
        &self.frame
    }
}

/// Sends half a million connections' packets through the pinned program while the daemon runs.
fn insert(program: &Xdp, templates: &mut [Template]) {
    for n in 0..MILLION / 2 {
        for template in &mut *templates {
            let protocol = template.protocol;
            let mut options = TestRunOptions::new();
            options.data_in = Some(template.of(n));
            let verdict = program.test_run(options).unwrap().return_value;
            assert_eq!(verdict, XDP_REDIRECT, "packet of client {n}, protocol {protocol}");
        }
    }
}

/// Memory of a process that is its own: not files, not the tables it shares with the kernel.
fn own_memory_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// What `elvs adm -Lnc` shows.
#[derive(Debug, Default, PartialEq, Eq)]
struct Listed {
    /// Connections by protocol, state and real server.
    shares: BTreeMap<(String, String, String), u32>,
    distinct: usize,
}

/// Lists the connections and watches how much memory daemon and client take meanwhile.
fn list(daemon: &Daemon) -> Listed {
    let mut command = daemon.elvs();
    command.args(["adm", "-Lnc"]).stdout(Stdio::piped());
    let mut client = command.spawn().unwrap();
    let before = own_memory_kib(daemon.process.pid());
    let mut listed = Listed::default();
    let mut sources = HashSet::new();
    for (number, line) in BufReader::new(client.stdout.take().unwrap()).lines().enumerate() {
        let line = line.unwrap();
        if number % 20_000 == 10_000 {
            for (who, pid) in [("daemon", daemon.process.pid()), ("client", client.id())] {
                let now = own_memory_kib(pid);
                assert!(now < before + BOUND_KIB, "{who} takes {now} KiB");
            }
        }
        if number < 2 {
            continue;
        }
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [protocol, _expires, state, source, _virtual, server] = fields[..] else {
            panic!("line {number}: {line}");
        };
        sources.insert(format!("{protocol}{source}"));
        let share = [protocol, state, server].map(str::to_owned).into();
        *listed.shares.entry(share).or_default() += 1;
    }
    assert!(client.wait().unwrap().success());
    listed.distinct = sources.len();
    listed
}

/// Active and inactive connections by destination, as `elvs adm -Ln` shows them.
fn loads(daemon: &Daemon) -> BTreeMap<String, (u32, u32)> {
    let listing = daemon.adm_ok("-Ln");
    let lines = listing.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let ["->", server, "Route", "1", active, inactive] = fields[..] else { return None };
        Some((server.to_owned(), (active.parse().unwrap(), inactive.parse().unwrap())))
    });
    lines.collect()
}

fn every(shares: &[(&str, (u32, u32))]) -> BTreeMap<String, (u32, u32)> {
    let all = shares.iter().flat_map(|(port, load)| {
        (1..=REAL_SERVERS).map(move |n| (format!("10.0.0.{}:{port}", 20 + n), *load))
    });
    all.collect()
}

#[test]
fn a_million_connections_are_listed_kept_and_expired_to_the_last_one() {
    let topology = Topology::new(NAME, method::DR, REAL_SERVERS as u8);
    let mut daemon = topology.daemon(Some(CONFIG));
    let pins = format!("/sys/fs/bpf/elvs/lab-{NAME}/v{LAYOUT_VERSION}");
    let pin = Path::new(&pins).join(program_names::DIRECTOR);
    let program = Xdp::from_pin(pin, XdpAttachType::Interface).unwrap();
    let tcp = |flags| Template::new(&Packet::tcp("10.64.0.0:1", &format!("{VIP}:80"), flags));
    let udp = Template::new(&Packet::udp("10.64.0.0:1", &format!("{VIP}:53")));
    insert(&program, &mut [tcp(SYN), tcp(ACK), udp]);

    let quarter = MILLION / 4;
    let loaded = every(&[("80", (quarter, 0)), ("53", (0, quarter))]);
    assert_eq!(loads(&daemon), loaded);
    let listed = list(&daemon);
    assert_eq!(listed.distinct, MILLION as usize, "distinct clients");
    assert_eq!(listed.shares.len(), 4, "{:?}", listed.shares);
    for ((protocol, state, server), number) in &listed.shares {
        assert_eq!(*number, quarter, "{protocol} {state} {server}");
        let states = if protocol == "TCP" { "ESTABLISHED" } else { "UDP" };
        assert_eq!(state, states, "{protocol}");
    }
    let chosen = |filters: &str| daemon.adm_ok(&format!("-Lnc {filters}")).lines().skip(2).count();
    assert_eq!(chosen("--client 10.64.0.3"), 80_000);
    assert_eq!(chosen("--client 10.64.0.3:1500 --client 10.64.0.4:1501"), 4);
    assert_eq!(chosen("--client 10.64.0.3:1500 --state ESTABLISHED"), 1);
    assert_eq!(chosen("--real-server 10.0.0.21:53 --client 10.64.0.0/15"), quarter as usize);
    assert_eq!(chosen("--state TIME_WAIT"), 0);
    wait_until("a pass over the table", || daemon.status().connections == u64::from(MILLION));

    daemon.process.signal(Signal::SIGKILL);
    assert_eq!(daemon.process.wait(), None, "ended by the signal");
    let daemon = topology.daemon(Some(CONFIG));
    assert_eq!(list(&daemon), listed, "after a restart");
    assert_eq!(loads(&daemon), loaded, "after a restart");
    let log = daemon.process.log();
    assert!(!log.contains("add up to"), "loads differ from connections:\n{log}");

    daemon.adm_ok("--set 1 1 1");
    wait_until("the end of all connections", || daemon.status().connections == 0);
    assert_eq!(list(&daemon), Listed::default());
    assert_eq!(loads(&daemon), every(&[("80", (0, 0)), ("53", (0, 0))]));
    for service in daemon.status().services {
        let statistics = service.statistics;
        let tcp =
            matches!(service.service.key, ServiceKey::Address { protocol: Protocol::Tcp, .. });
        let packets = if tcp { 2 } else { 1 };
        assert_eq!(statistics.connections, u64::from(MILLION / 2), "{}", service.service.key);
        assert_eq!(statistics.in_packets, u64::from(MILLION / 2 * packets));
    }
    let status = daemon.status();
    let counted: Vec<_> = status.drops.iter().chain(&status.events).collect();
    assert!(counted.is_empty(), "nothing is dropped, nothing evicted: {counted:?}");
}
