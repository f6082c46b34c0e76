//! lblc and lblcr against a model of IPVS's, written from its description: random histories, the same picks.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests fail loudly")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

/// Real servers that may be destinations, and addresses that connections come to.
const SERVERS: usize = 9;
const ADDRESSES: usize = 40;
const EVENTS: u32 = 10_000;
/// Seconds of a wait: the entries of closed connections are gone after one, those of open ones after seven.
const WAIT_S: u32 = 130;
const OPEN_WAITS: u32 = 7;
/// Seconds after which a set shrinks: every address is used more often, and none of the waits is on the point.
const EXPIRATION_S: u32 = 2_650;
const EXPIRATION_WAITS: f64 = 2_650.0 / 130.0;
const WEIGHTS: [u64; 8] = [0, 0, 1, 1, 2, 3, 6, 12];

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ mixed >> 31) % u64::try_from(limit).unwrap()).unwrap()
    }
}

#[derive(Clone, Copy, Default)]
struct Server {
    weight: u64,
    active: u64,
    inactive: u64,
}

impl Server {
    fn overhead(&self) -> u64 {
        self.active * 256 + self.active + self.inactive
    }
}

/// A service.
struct Model {
    /// lblcr: an address has a set of servers, else one.
    sets: bool,
    servers: [Server; SERVERS],
    /// Those that are there, newest first.
    list: Vec<usize>,
    /// Servers of each address, also such as are not there at the time, newest first.
    memory: BTreeMap<usize, Vec<usize>>,
    /// When servers of an address last came or went, in waits.
    modified: BTreeMap<usize, u32>,
    now: u32,
}

impl Model {
    /// Whoever of some servers is there, has a weight, and the least overhead for it; the first of equals.
    fn least(&self, of: &[usize]) -> Option<usize> {
        let mut best: Option<usize> = None;
        for number in of.iter().copied().filter(|number| self.list.contains(number)) {
            let server = self.servers[number];
            let better = best.is_none_or(|best| {
                let best = self.servers[best];
                server.overhead() * best.weight < best.overhead() * server.weight
            });
            if server.weight > 0 && better {
                best = Some(number);
            }
        }
        best
    }

    /// Whether a server has more active connections than its weight, while another one has room for half of its own.
    fn is_overloaded(&self, number: usize) -> bool {
        let idle = |number: &usize| self.servers[*number].active * 2 < self.servers[*number].weight;
        self.servers[number].active > self.servers[number].weight && self.list.iter().any(idle)
    }

    /// An address whose set was looked up, and has not changed for long, loses its most loaded server; the first of equals.
    /// The kernel looks before the connection counts, the director within seconds after it.
    fn shrink(&mut self, address: usize) {
        let Some(servers) = self.memory.get(&address).filter(|servers| servers.len() > 1) else {
            return;
        };
        if !self.sets || f64::from(self.now - self.modified[&address]) <= EXPIRATION_WAITS {
            return;
        }
        let mut most: Option<usize> = None;
        for number in servers.iter().copied().filter(|number| self.list.contains(number)) {
            let server = self.servers[number];
            let more = most.is_none_or(|most| {
                let most = self.servers[most];
                most.overhead() * server.weight < server.overhead() * most.weight
            });
            if server.weight > 0 && more {
                most = Some(number);
            }
        }
        if let Some(most) = most {
            self.memory.entry(address).or_default().retain(|number| *number != most);
            self.modified.insert(address, self.now);
        }
    }

    fn pick(&mut self, address: usize) -> Option<usize> {
        let known = self.memory.get(&address).and_then(|servers| self.least(servers));
        if let Some(known) = known.filter(|known| !self.is_overloaded(*known)) {
            return Some(known);
        }
        let chosen = self.least(&self.list)?;
        let servers = self.memory.entry(address).or_default();
        if !self.sets {
            servers.clear();
        }
        if !servers.contains(&chosen) {
            servers.insert(0, chosen);
            self.modified.insert(address, self.now);
        }
        Some(chosen)
    }
}

struct Connection {
    name: String,
    server: usize,
    active: bool,
    /// Waits since its last packet.
    waits: u32,
}

struct History {
    random: Random,
    model: Model,
    live: Vec<Connection>,
    lines: Vec<String>,
    number: u32,
}

impl History {
    fn write(scheduler: &str, seed: u64) -> String {
        let model = Model {
            sets: scheduler == "lblcr",
            servers: [Server::default(); SERVERS],
            list: Vec::new(),
            memory: BTreeMap::new(),
            modified: BTreeMap::new(),
            now: 0,
        };
        let lines = vec![
            "elvs mark add --destination 198.18.0.0/24 --mark 7".to_owned(),
            format!("elvs set lblcr_expiration {EXPIRATION_S}"),
            format!("ipvsadm -A -f 7 -s {scheduler}"),
        ];
        let mut history = Self { random: Random(seed), model, live: Vec::new(), lines, number: 0 };
        for number in 0..EVENTS {
            history.number = number;
            match history.random.below(60) {
                0..36 => history.open(),
                36..50 => history.close(),
                50 => history.wait(),
                51..54 => history.add(),
                54..56 => history.remove(),
                _ => history.edit(),
            }
        }
        history.lines.join("\n")
    }

    fn open(&mut self) {
        let address = self.random.below(ADDRESSES);
        let picked = self.model.pick(address);
        let place = picked.map_or_else(|| "none".to_owned(), |server| format!("10.0.0.{server}"));
        let (name, port) = (format!("c{}", self.number), self.number + 1_024);
        let ends = format!("192.0.2.1:{port} 198.18.0.{address}:80");
        self.lines.push(format!("open {name} tcp {ends} -> {place}"));
        if let Some(server) = picked {
            self.model.servers[server].active += 1;
            self.live.push(Connection { name, server, active: true, waits: 0 });
            self.model.shrink(address);
        }
    }

    fn close(&mut self) {
        if self.live.is_empty() {
            return;
        }
        let at = self.random.below(self.live.len());
        let Connection { name, server, active, waits } = &mut self.live[at];
        // Packets for a server that is not there change nothing.
        if !*active || !self.model.list.contains(server) {
            return;
        }
        (*active, *waits) = (false, 0);
        self.lines.push(format!("close {name}"));
        self.model.servers[*server].active -= 1;
        self.model.servers[*server].inactive += 1;
    }

    fn wait(&mut self) {
        self.lines.push(format!("wait {WAIT_S}"));
        self.model.now += 1;
        let servers = &mut self.model.servers;
        self.live.retain_mut(|connection| {
            connection.waits += 1;
            let server = &mut servers[connection.server];
            if connection.active && connection.waits == OPEN_WAITS {
                server.active -= 1;
            } else if connection.active {
                return true;
            } else {
                server.inactive -= 1;
            }
            false
        });
    }

    fn weight(&mut self) -> u64 {
        WEIGHTS[self.random.below(WEIGHTS.len())]
    }

    fn add(&mut self) {
        let server = self.random.below(SERVERS);
        if !self.model.list.contains(&server) {
            let weight = self.weight();
            self.lines.push(format!("ipvsadm -a -f 7 -r 10.0.0.{server}:0 -g -w {weight}"));
            self.model.servers[server].weight = weight;
            self.model.list.insert(0, server);
        }
    }

    fn remove(&mut self) {
        if !self.model.list.is_empty() {
            let at = self.random.below(self.model.list.len());
            let server = self.model.list.remove(at);
            self.lines.push(format!("ipvsadm -d -f 7 -r 10.0.0.{server}:0"));
        }
    }

    fn edit(&mut self) {
        if !self.model.list.is_empty() {
            let at = self.random.below(self.model.list.len());
            let (server, weight) = (self.model.list[at], self.weight());
            self.lines.push(format!("ipvsadm -e -f 7 -r 10.0.0.{server}:0 -g -w {weight}"));
            self.model.servers[server].weight = weight;
        }
    }
}

/// Has a script of expectations checked.
fn check(script: &str, what: &str) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_elvs"))
        .args(["simulate", "--check", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {text}{errors}");
}

fn passes(scheduler: &str) {
    for seed in [1, 2_000] {
        let script = History::write(scheduler, seed);
        let refused = script.matches("-> none").count();
        assert!((1..1_000).contains(&refused), "{refused} refusals");
        check(&script, &format!("{scheduler}, seed {seed}"));
    }
}

#[test]
fn lblc_picks_as_ipvs() {
    passes("lblc");
}

#[test]
fn lblcr_picks_as_ipvs() {
    passes("lblcr");
}

/// `ip_vs_unbind_scheduler`: another scheduler's coming ends what the old one remembered, an edit of anything else does not.
#[test]
fn another_scheduler_forgets() {
    for (service, vip) in
        [("-t 10.0.0.100:80", "10.0.0.100:80"), ("-t [fd00::100]:80", "[fd00::100]:80")]
    {
        let (client, one, two) = if vip.starts_with('[') {
            ("[2001:db8::1]", "[fd01::1]", "[fd01::2]")
        } else {
            ("192.0.2.1", "10.0.0.1", "10.0.0.2")
        };
        for scheduler in ["lblc", "lblcr"] {
            let start = format!(
                "ipvsadm -A {service} -s {scheduler}\nipvsadm -a {service} -r {one}:80 -g -w 9\n\
                 open a tcp {client}:1001 {vip} -> {one}:80\n\
                 ipvsadm -a {service} -r {two}:80 -g -w 9\n\
                 open b tcp {client}:1002 {vip} -> {one}:80\n"
            );
            let same = format!(
                "ipvsadm -E {service} -s {scheduler} -p 60\nipvsadm -E {service} -s {scheduler}\n"
            );
            let kept = format!("{start}{same}open c tcp {client}:1003 {vip} -> {one}:80\n");
            check(&kept, "an edit");
            let other =
                format!("ipvsadm -E {service} -s rr\nipvsadm -E {service} -s {scheduler}\n");
            let forgotten = format!("{start}{other}open c tcp {client}:1003 {vip} -> {two}:80\n");
            check(&forgotten, "another scheduler");
        }
    }
}
