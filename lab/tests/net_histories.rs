//! Histories of every scheduler, played twice: by `elvs simulate`, and as frames on a veth through the program of a running
//! daemon that gets the same commands. Every connection goes to the same real server, every listing is the same.
//!
//! What `elvs simulate` answers is compared with models of IPVS and with recordings of its kernel elsewhere.

#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail loudly"
)]

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use elvs_common::{TCP, UDP};
use elvs_lab::bed::{VIP, VIP6};
use elvs_lab::{Daemon, Sent, Tap, Topology, method, output_of, program, wait_until};
use serde_json::Value;

#[path = "net_histories/script.rs"]
mod script;
#[path = "../../crates/elvs-fastpath/tests/support/mod.rs"]
mod support;

use script::{Shape, Writer, marker};
use support::{ACK, FIN, Packet, Packet6, SYN};

const REAL_SERVERS: u8 = 6;

/// What came of a script, by number of the line.
#[derive(Debug, Default)]
struct Outcome {
    /// Real servers of connections; none if the client was refused.
    places: BTreeMap<usize, Option<IpAddr>>,
    /// Lines of `-Ln` without the first, which names the size of the table.
    listings: BTreeMap<usize, Vec<String>>,
}

fn listing(text: &str) -> Vec<String> {
    text.lines().skip(1).map(str::to_owned).collect()
}

/// Has `elvs simulate` run a script.
fn simulated(topology: &Topology, lines: &[String]) -> Outcome {
    let file = topology.directory().join("script");
    fs::write(&file, lines.join("\n")).unwrap();
    let mut command = Command::new(program());
    command.args(["simulate", "--json"]).arg(&file);
    let report: Value = serde_json::from_str(&output_of(command)).unwrap();
    let mut outcome = Outcome::default();
    for step in report["steps"].as_array().unwrap() {
        let line = usize::try_from(step["line"].as_u64().unwrap()).unwrap();
        if step["kind"] == "listing" {
            outcome.listings.insert(line, listing(step["text"].as_str().unwrap()));
        } else {
            let place =
                step["place"].as_str().map(|place| place.parse::<SocketAddr>().unwrap().ip());
            outcome.places.insert(line, place);
        }
    }
    outcome
}

/// The real thing.
struct Player<'a> {
    shape: &'a Shape,
    daemon: &'a Daemon,
    tap: Tap,
    servers: HashMap<[u8; 6], IpAddr>,
    /// Connections that were not refused: the client's end and the service's.
    open: HashMap<String, (SocketAddr, SocketAddr)>,
    outcome: Outcome,
}

fn frame(protocol: u8, from: SocketAddr, to: SocketAddr, flags: u8) -> Vec<u8> {
    let (from, to, v6) = (from.to_string(), to.to_string(), from.is_ipv6());
    match (v6, protocol) {
        (false, TCP) => Packet::tcp(&from, &to, flags).build(),
        (false, _) => Packet::udp(&from, &to).build(),
        (true, TCP) => Packet6::tcp(&from, &to, flags).build(),
        (true, _) => Packet6::udp(&from, &to).build(),
    }
}

impl<'a> Player<'a> {
    fn new(shape: &'a Shape, topology: &'a Topology, daemon: &'a Daemon) -> Self {
        let hosts = topology.bed().real_servers.iter().zip(&shape.servers);
        let servers = hosts.map(|(host, address)| (host.mac("eth0").unwrap().unwrap(), *address));
        Self {
            shape,
            daemon,
            tap: topology.tap(),
            servers: servers.collect(),
            open: HashMap::new(),
            outcome: Outcome::default(),
        }
    }

    /// Where the director sends a packet. A datagram of a connection that is always there follows it: when that is
    /// through, so is the packet.
    fn put(&self, protocol: u8, from: SocketAddr, to: SocketAddr, flags: u8) -> Option<IpAddr> {
        let (marker_from, marker_to) = marker(self.shape);
        self.tap.put(&frame(protocol, from, to, flags));
        self.tap.put(&frame(UDP, marker_from, marker_to, 0));
        let mut found = None;
        loop {
            let sent = self.tap.next();
            let ends = (sent.protocol, sent.source, sent.destination);
            if ends == (protocol, from, to) {
                assert_eq!(found, None, "one packet was sent twice: {sent:?}");
                found = Some(self.server(&sent));
            } else if ends == (UDP, marker_from, marker_to) {
                return found;
            }
        }
    }

    fn server(&self, sent: &Sent) -> IpAddr {
        let server = self.servers.get(&sent.receiver);
        *server.unwrap_or_else(|| panic!("{sent:?} is for nobody of the bed"))
    }

    /// One line of a script; what `elvs simulate` listed at the line is waited for after a `wait`.
    fn line(&mut self, number: usize, line: &str, wanted: &Outcome) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ends = |from: &str, to: &str| (from.parse().unwrap(), to.parse().unwrap());
        match words[..] {
            ["ipvsadm", ..] => {
                self.daemon.adm_ok(line.strip_prefix("ipvsadm ").unwrap());
                if words[1] == "-a" {
                    self.daemon.wait_ready();
                }
            }
            ["elvs", ..] => {
                let mut command = self.daemon.elvs();
                command.args(&words[1..]);
                output_of(command);
            }
            ["open", name, "tcp", from, to] => {
                let (from, to) = ends(from, to);
                if self.begin(number, from, to) {
                    self.open.insert(name.to_owned(), (from, to));
                }
            }
            ["short", "tcp", from, to] => {
                let (from, to) = ends(from, to);
                if self.begin(number, from, to) {
                    self.end(from, to);
                }
            }
            ["packet", "udp", from, to] => {
                let (from, to) = ends(from, to);
                // The marker would be its own marker.
                let place = if (from, to) == marker(self.shape) {
                    self.tap.put(&frame(UDP, from, to, 0));
                    Some(self.server(&self.tap.next()))
                } else {
                    self.put(UDP, from, to, 0)
                };
                self.outcome.places.insert(number, place);
            }
            ["close", name] => {
                if let Some((from, to)) = self.open.remove(name) {
                    self.end(from, to);
                }
            }
            ["wait", _] => {
                let listed = wanted.listings.get(&(number + 1)).unwrap();
                // Those of deleted destinations, which no destination's counts show, too.
                wait_until("connections to expire", || {
                    self.daemon.adm_ok("-Lnc").lines().count() == 2
                        && listing(&self.daemon.adm_ok("-Ln")) == *listed
                });
            }
            ["list"] => {
                let listed = listing(&self.daemon.adm_ok("-Ln"));
                self.outcome.listings.insert(number, listed);
            }
            _ => panic!("line {number}: {line}"),
        }
    }

    /// A handshake as the director sees it in direct routing; whether the client was not refused.
    fn begin(&mut self, number: usize, from: SocketAddr, to: SocketAddr) -> bool {
        let place = self.put(TCP, from, to, SYN);
        self.outcome.places.insert(number, place);
        if place.is_some() {
            assert_eq!(self.put(TCP, from, to, ACK), place, "line {number}: its second packet");
        }
        place.is_some()
    }

    /// The client's part of a connection's end.
    fn end(&self, from: SocketAddr, to: SocketAddr) {
        // Nothing comes through if the destination was deleted meanwhile.
        let place = self.put(TCP, from, to, FIN | ACK);
        assert_eq!(self.put(TCP, from, to, ACK), place, "its last packet");
    }
}

/// Plays a script on a bed of its own.
fn played(
    name: &str,
    scheduler: &'static str,
    change: impl FnOnce(&mut Shape),
) -> (Shape, Vec<String>, Outcome, Outcome) {
    let topology = Topology::new(&format!("hist-{name}"), method::DR, REAL_SERVERS);
    let hosts = topology.bed().real_servers.iter();
    let seed = name.bytes().fold(0, |seed, byte| seed * 251 + u64::from(byte));
    let mut shape = Shape {
        scheduler,
        vip: VIP.into(),
        marked: false,
        thresholds: true,
        removes: true,
        servers: hosts.map(|host| host.address.into()).collect(),
        seed,
    };
    change(&mut shape);
    if shape.vip.is_ipv6() {
        topology.bed().add_ipv6().unwrap();
        let plan = &topology.bed().plan;
        shape.servers = (1..=REAL_SERVERS).map(|n| plan.real_server6(n).into()).collect();
    }
    let daemon = topology.daemon(None);
    let lines = Writer::write(shape.clone());
    let wanted = simulated(&topology, &lines);
    let mut player = Player::new(&shape, &topology, &daemon);
    for (number, line) in (1..).zip(&lines) {
        player.line(number, line, &wanted);
    }
    let outcome = player.outcome;
    (shape, lines, wanted, outcome)
}

/// The same picks, the same refusals, the same active and inactive connections.
fn same(name: &str, scheduler: &'static str, change: impl FnOnce(&mut Shape)) {
    let (_, lines, wanted, found) = played(name, scheduler, change);
    for (number, line) in (1..).zip(&lines) {
        let at = format!("{scheduler}, line {number}: {line}");
        assert_eq!(found.places.get(&number), wanted.places.get(&number), "{at}");
        assert_eq!(found.listings.get(&number), wanted.listings.get(&number), "{at}");
    }
    let placed = wanted.places.values().flatten();
    let mut shares: BTreeMap<_, usize> = BTreeMap::new();
    for server in placed {
        *shares.entry(server).or_default() += 1;
    }
    assert!(shares.len() > 3, "a history of {scheduler} with few real servers: {shares:?}");
    assert!(shares.values().sum::<usize>() > 80, "{scheduler}: {shares:?}");
    assert!(wanted.listings.len() > 10, "{scheduler}: {} listings", wanted.listings.len());
}

#[test]
fn rr() {
    same("rr", "rr", |_| ());
}

#[test]
fn wrr() {
    same("wrr", "wrr", |_| ());
}

#[test]
fn lc() {
    same("lc", "lc", |_| ());
}

#[test]
fn wlc() {
    same("wlc", "wlc", |_| ());
}

#[test]
fn wlc_over_ipv6() {
    same("wlc6", "wlc", |shape| shape.vip = VIP6.into());
}

#[test]
fn sed() {
    same("sed", "sed", |_| ());
}

#[test]
fn nq() {
    same("nq", "nq", |_| ());
}

#[test]
fn fo() {
    same("fo", "fo", |_| ());
}

#[test]
fn ovf() {
    same("ovf", "ovf", |_| ());
}

#[test]
fn dh() {
    same("dh", "dh", |shape| shape.marked = true);
}

#[test]
fn lblc() {
    same("lblc", "lblc", |shape| shape.marked = true);
}

#[test]
fn lblcr() {
    same("lblcr", "lblcr", |shape| shape.marked = true);
}

#[test]
fn sh() {
    same("sh", "sh", |_| ());
}

#[test]
fn sh_with_its_flags() {
    same("shf", "sh -b sh-port,sh-fallback", |_| ());
}

#[test]
fn mh() {
    same("mh", "mh", |_| ());
}

#[test]
fn mh_over_ipv6_with_its_flags() {
    same("mh6", "mh -b mh-port,mh-fallback", |shape| shape.vip = VIP6.into());
}

/// Who has the same number of connections of each kind, in each service.
fn loads(listing: &[String]) -> BTreeMap<String, (u32, u32)> {
    let mut loads: BTreeMap<String, (u32, u32)> = BTreeMap::new();
    let mut service = String::new();
    for line in listing.iter().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if let ["->", _, "Route", _, active, inactive] = fields[..] {
            let load = loads.get_mut(&service).unwrap();
            load.0 += active.parse::<u32>().unwrap();
            load.1 += inactive.parse::<u32>().unwrap();
        } else {
            service.clone_from(line);
            loads.insert(service.clone(), (0, 0));
        }
    }
    loads
}

/// twos draws lots: what is the same are the refusals, each service's connections, and that everybody has a part.
#[test]
fn twos_by_its_sums_and_shares() {
    let (_, lines, wanted, found) = played("twos", "twos", |shape| {
        // Whom a threshold closes and whose connections go with it depend on the lot.
        shape.thresholds = false;
        shape.removes = false;
    });
    let mut shares = [BTreeMap::new(), BTreeMap::new()];
    for (number, line) in (1..).zip(&lines) {
        let places = [&wanted, &found].map(|outcome| outcome.places.get(&number));
        assert_eq!(
            places.map(|place| place.map(Option::is_some)),
            [places[0].map(Option::is_some); 2],
            "line {number}: {line}"
        );
        for (shares, place) in shares.iter_mut().zip(places) {
            if let Some(Some(server)) = place {
                *shares.entry(*server).or_insert(0_u32) += 1;
            }
        }
        let listed = [&wanted, &found].map(|o| o.listings.get(&number).map(|l| loads(l)));
        assert_eq!(listed[1], listed[0], "line {number}: {line}");
    }
    for (server, share) in &shares[0] {
        let real = shares[1].get(server).copied().unwrap_or_default();
        // Far beyond what chance does to some hundred connections, far within what a wrong weight does.
        assert!(
            real.abs_diff(*share) < 40,
            "{server}: {share} of elvs simulate, {real} of the kernel"
        );
    }
}
