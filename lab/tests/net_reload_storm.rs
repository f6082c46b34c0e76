//! A thousand services, ten thousand real servers, and reload after reload: no flow is lost, no check falls silent, the
//! table is the file, and memory stays as it is.
//!
//! CI reloads [`RELOADS`] times; `ELVS_STORM_RELOADS=1000` is the full storm, best with `ELVS_BIN` naming a release build.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that measures, and fails loudly"
)]

use std::collections::{BTreeMap, HashMap};
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use elvs_api::Client;
use elvs_lab::bed::VIP;
use elvs_lab::{Daemon, Nginx, Topology, method, wait_until};
use elvs_model::ServiceKey;

/// Reloads unless `ELVS_STORM_RELOADS` says otherwise.
const RELOADS: usize = 20;
const SERVICES: usize = 1_000;
const SERVERS: usize = 10;
const FIRST_PORT: u16 = 10_000;
/// Services that keep their real servers, so that their connections must live.
const STEADY: usize = 50;
/// Seconds between two runs of a check: all of them together are a thousand a second.
const DELAY_LOOP: usize = 10;

/// A real server of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Server {
    present: bool,
    weight: u32,
    delay_loop: usize,
}

#[derive(Clone, Debug)]
struct Service {
    present: bool,
    scheduler: &'static str,
    servers: Vec<Server>,
}

/// What the file says.
struct Plan {
    services: Vec<Service>,
    addresses: Vec<IpAddr>,
    random: u64,
}

impl Plan {
    fn new(topology: &Topology) -> Self {
        let server = Server { present: true, weight: 1, delay_loop: DELAY_LOOP };
        let service = Service { present: true, scheduler: "rr", servers: vec![server; SERVERS] };
        let addresses = (1..=SERVERS).map(|number| topology.real_server(number).address.into());
        let services = vec![service; SERVICES];
        Self { services, addresses: addresses.collect(), random: 0x9e37_79b9_7f4a_7c15 }
    }

    /// Xorshift (Marsaglia 2003): the same edits in every run.
    fn next(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random % below as u64).unwrap()
    }

    fn edit(&mut self) {
        let (service, server) = (self.next(SERVICES), self.next(SERVERS));
        let weight = u32::try_from(1 + self.next(9)).unwrap();
        let kind = if service < STEADY { self.next(3) } else { self.next(6) };
        let service = &mut self.services[service];
        let server = &mut service.servers[server];
        match kind {
            0 => server.weight = weight,
            1 => service.scheduler = if service.scheduler == "rr" { "wrr" } else { "rr" },
            2 => server.delay_loop = 2 * DELAY_LOOP - server.delay_loop + 1,
            3 | 4 => server.present = !server.present,
            _ => service.present = !service.present,
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (number, service) in self.services.iter().enumerate().filter(|(_, s)| s.present) {
            let port = port(number);
            let scheduler = service.scheduler;
            writeln!(
                text,
                "virtual_server {VIP} {port} {{\n    lvs_sched {scheduler}\n    lvs_method DR\n    protocol TCP"
            )
            .unwrap();
            let servers = self.addresses.iter().zip(&service.servers);
            for (address, server) in servers.filter(|(_, server)| server.present) {
                let Server { weight, delay_loop, .. } = server;
                writeln!(
                    text,
                    "    real_server {address} {port} {{\n        weight {weight}\n        TCP_CHECK {{\n            connect_timeout 5\n            delay_loop {delay_loop}\n            retry 3\n        }}\n    }}"
                )
                .unwrap();
            }
            text.push_str("}\n");
        }
        text
    }

    /// The table that this makes.
    fn table(&self) -> BTreeMap<u16, (String, BTreeMap<IpAddr, u32>)> {
        let present = self.services.iter().enumerate().filter(|(_, service)| service.present);
        let of = |service: &Service| {
            let servers = self.addresses.iter().zip(&service.servers);
            let there = servers.filter(|(_, server)| server.present);
            there.map(|(address, server)| (*address, server.weight)).collect()
        };
        let entry = |(number, service): (usize, &Service)| {
            (port(number), (service.scheduler.to_owned(), of(service)))
        };
        present.map(entry).collect()
    }
}

fn port(service: usize) -> u16 {
    FIRST_PORT + u16::try_from(service).unwrap()
}

fn table(daemon: &Daemon) -> BTreeMap<u16, (String, BTreeMap<IpAddr, u32>)> {
    let mut client = Client::connect(daemon.socket()).expect("a daemon");
    let services = client.services().expect("its table");
    let mut table = BTreeMap::new();
    for view in services {
        let ServiceKey::Address { port, .. } = view.service.key else { panic!("no marks") };
        let destinations = view.destinations.iter().map(|d| &d.destination);
        let servers = destinations.map(|d| (d.key.address, d.weight)).collect();
        table.insert(port, (view.service.scheduler.to_string(), servers));
    }
    table
}

/// Resident memory of the daemon in KiB.
fn memory(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.process.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn connect(port: u16) -> TcpStream {
    let to = SocketAddr::from((VIP, port));
    let stream = TcpStream::connect_timeout(&to, Duration::from_secs(10)).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// One request; answers the body, which is the server's name.
fn request(stream: &mut TcpStream) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: storm\r\n\r\n").expect("a request");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\n") || !answer.windows(6).any(|end| end == b"\r\n\r\nrs") {
        let mut buffer = [0; 1_024];
        let read = stream.read(&mut buffer).expect("an answer");
        assert_ne!(read, 0, "the connection was closed");
        answer.extend_from_slice(&buffer[..read]);
    }
    let text = String::from_utf8(answer).unwrap();
    text.rsplit("\r\n\r\n").next().unwrap().trim().to_owned()
}

/// New connections to steady services, one after the other, until told to stop; answers how many.
fn traffic(topology: &Topology, stop: &Arc<AtomicBool>) -> thread::JoinHandle<u64> {
    let namespace = elvs_net::Namespace::open(&format!("elvs-lab-{}.client", topology.name()));
    let (namespace, stop) = (namespace.expect("the client's namespace"), stop.clone());
    let made = Arc::new(AtomicU64::new(0));
    thread::spawn(move || {
        let counted = made.clone();
        let work = move || {
            for service in (0..STEADY).cycle() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                request(&mut connect(port(service)));
                counted.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(2));
            }
        };
        namespace.run(work).expect("the namespace");
        made.load(Ordering::Relaxed)
    })
}

fn reload(daemon: &Daemon) -> (usize, Duration) {
    let begin = Instant::now();
    let changes = daemon.reload().expect("a reload");
    (changes, begin.elapsed())
}

/// Median and longest.
fn figures(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    format!("median {median:.1?}, longest {:.1?}", times.last().copied().unwrap_or_default())
}

/// Runs of each check, by service and real server.
fn runs(daemon: &Daemon) -> HashMap<(ServiceKey, IpAddr), u64> {
    let view = daemon.health();
    let mut runs = HashMap::new();
    for watched in &view.watched {
        for server in &watched.servers {
            let key = (watched.services[0], server.key.address);
            runs.insert(key, server.checks.iter().map(|check| check.runs).sum());
        }
    }
    runs
}

#[test]
fn reloads_disturb_nothing() {
    let reloads = env::var("ELVS_STORM_RELOADS").map_or(RELOADS, |n| n.parse().expect("a number"));
    let topology = Topology::new("storm", method::DR, u8::try_from(SERVERS).unwrap());
    let ports = format!("listen {FIRST_PORT}-{};", port(SERVICES - 1));
    let hosts = &topology.bed().real_servers;
    let _nginx: Vec<Nginx> =
        hosts.iter().map(|host| Nginx::start_with(host, topology.directory(), &ports)).collect();
    let mut plan = Plan::new(&topology);
    let begin = Instant::now();
    let daemon = topology.daemon(Some(&plan.text()));
    println!("started in {:.1?} with {SERVICES} services of {SERVERS}", begin.elapsed());
    assert_eq!(table(&daemon), plan.table());

    let unchanged: Vec<_> = (0..5).map(|_| reload(&daemon)).collect();
    assert!(unchanged.iter().all(|(changes, _)| *changes == 0), "{unchanged:?}");
    println!("unchanged reload: {}", figures(unchanged.into_iter().map(|(_, t)| t).collect()));
    let mut one_line = Vec::new();
    for weight in 2..7 {
        plan.services[SERVICES - 1].servers[0].weight = weight;
        daemon.write_config(&plan.text());
        let (changes, took) = reload(&daemon);
        assert_eq!(changes, 1);
        one_line.push(took);
    }
    println!("one-line reload: {}", figures(one_line));

    let stop = Arc::new(AtomicBool::new(false));
    let connections = traffic(&topology, &stop);
    let client = &topology.bed().client.namespace;
    let open = |service: usize| client.run(|| connect(port(service))).expect("the namespace");
    let mut flows: Vec<TcpStream> = (0..STEADY).map(open).collect();
    let servers: Vec<String> = flows.iter_mut().map(request).collect();
    let mut storm = Vec::new();
    let mut early = 0;
    for number in 0..reloads {
        for _ in 0..=plan.next(5) {
            plan.edit();
        }
        daemon.write_config(&plan.text());
        storm.push(reload(&daemon).1);
        let flow = number % STEADY;
        assert_eq!(request(&mut flows[flow]), servers[flow], "reload {number}: a flow's server");
        if number % 50 == 49 {
            assert_eq!(table(&daemon), plan.table(), "reload {number}");
        }
        if number == reloads / 5 {
            early = memory(&daemon);
        }
    }
    let late = memory(&daemon);
    println!("{reloads} reloads of 1 to 5 edits: {}", figures(storm));
    println!("memory: {early} KiB after a fifth of them, {late} KiB after all");
    for (flow, server) in flows.iter_mut().zip(&servers) {
        assert_eq!(request(flow), *server);
    }
    stop.store(true, Ordering::Relaxed);
    println!("{} connections were made meanwhile", connections.join().expect("none failed"));
    assert_eq!(table(&daemon), plan.table());
    assert!(late <= early + early / 5, "memory grew from {early} to {late} KiB");

    let before = runs(&daemon);
    wait_until("every check to run again", || {
        let now = runs(&daemon);
        before.iter().all(|(key, runs)| now.get(key).is_some_and(|now| now > runs))
    });
    let status = daemon.status();
    let dropped: Vec<_> = status.drops.iter().collect();
    assert!(dropped.is_empty(), "{dropped:?}");
}
