//! Picks of the real kernel, connection by connection: recordings of Linux 6.12.100 with IPVS replayed here.
//!
//! The form of a recording: `ipvsadm` commands change the table; `short tcp SRC DST -> ADDR` is a connection opened and
//! closed again, `open NAME tcp ..` one that stays, `close NAME` its end, `packet udp ..` one datagram of a one-packet
//! service; `-> none` means that the client was refused.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::PathBuf;

use elvs_common::{Counter, Method, TCP, TcpState, UDP, scheduler_id};
use elvs_fastpath::{Pick, Verdict};

use crate::support::{ACK, FIN, Packet, SYN, Seen, ServiceId, Table, server_mac};

/// Recordings of rr, wrr and wlc that are not replayed here, and why.
const SKIPPED: &[(&str, &str)] = &[
    ("dest-rr-w012", "firewall marks"),
    ("dest-rr-w111", "firewall marks"),
    ("dest-rr-w123", "firewall marks"),
    ("dest-rr-w531", "firewall marks"),
    ("persist-rr-p300-m255.255.255.248", "persistence"),
    ("persist-wlc-p300", "persistence"),
    ("threshold-recover-wlc-y0", "connection thresholds"),
    ("threshold-recover-wlc-y1", "connection thresholds"),
    ("threshold-recover-wlc-y2", "connection thresholds"),
    ("threshold-wrr", "connection thresholds"),
    ("wlc-w123-tcp-ipv6", "IPv6"),
    ("wrr-w123-tcp-ipv6", "IPv6"),
];

/// Schedulers that a recording may start with before it comes to one of ours: their connections are not replayed.
/// What follows does not depend on them, because rr and wrr do not look at loads.
const FOREIGN: &[&str] = &["dh", "lc", "mh", "ovf", "twos"];

struct Replay {
    table: Table,
    service: Option<(ServiceId, String, u8)>,
    compares: bool,
    one_packet: bool,
    open: HashMap<String, (String, String)>,
    compared: usize,
    /// Place in the recording.
    at: String,
}

impl Replay {
    fn new() -> Self {
        Self {
            table: Table::new(256),
            service: None,
            compares: true,
            one_packet: false,
            open: HashMap::new(),
            compared: 0,
            at: String::new(),
        }
    }

    fn line(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] | ["#", ..] => {}
            ["ipvsadm", command, protocol, address, rest @ ..] => {
                self.ipvsadm(command, protocol, address, rest);
            }
            ["short", "tcp", from, to, "->", server] => {
                if self.connection(from, to, server) {
                    self.finish(from, to);
                }
            }
            ["open", name, "tcp", from, to, "->", server] => {
                assert!(self.connection(from, to, server), "{}", self.at);
                self.open.insert((*name).to_owned(), ((*from).to_owned(), (*to).to_owned()));
            }
            ["close", name] => {
                let (from, to) = self.open.remove(*name).unwrap();
                self.finish(&from, &to);
            }
            ["packet", "udp", _, to, "->", server] => self.datagram(to, server),
            _ => panic!("cannot replay {line:?}"),
        }
    }

    fn ipvsadm(&mut self, command: &str, protocol: &str, address: &str, rest: &[&str]) {
        let value = |name: &str| {
            rest.iter().position(|word| *word == name).map(|at| rest[at + 1].to_owned())
        };
        let weight = || value("-w").unwrap().parse().unwrap();
        if command == "-A" || command == "-E" {
            let name = value("-s").unwrap();
            self.compares = !FOREIGN.contains(&name.as_str());
            self.one_packet = rest.contains(&"-o");
            let scheduler = match name.as_str() {
                "wrr" => scheduler_id::WRR,
                "wlc" => scheduler_id::WLC,
                _ => scheduler_id::RR,
            };
            match &self.service {
                Some((id, ..)) => self.table.set_scheduler(*id, scheduler),
                None => {
                    let protocol = if protocol == "-u" { UDP } else { TCP };
                    let id = self.table.add_service(protocol, address, scheduler);
                    self.service = Some((id, address.to_owned(), protocol));
                }
            }
            return;
        }
        let (id, service, _) = self.service.as_ref().unwrap();
        assert_eq!(service, address);
        let server = value("-r").unwrap();
        match command {
            "-a" => {
                assert!(rest.contains(&"-g"));
                self.table.add_destination(*id, &server, Method::Dr, weight());
            }
            "-e" => self.table.set_weight(*id, self.table.destination(*id, &server), weight()),
            "-d" => self.table.remove_destination(*id, self.table.destination(*id, &server)),
            _ => panic!("cannot replay ipvsadm {command}"),
        }
    }

    /// Opens a connection and compares where it went; false if it was refused, as recorded, or is not replayed.
    fn connection(&mut self, from: &str, to: &str, server: &str) -> bool {
        if !self.compares {
            return false;
        }
        self.compared += 1;
        let syn = Packet::tcp(from, to, SYN);
        let outcome = self.table.director.run(syn.build());
        if server == "none" {
            assert_eq!(outcome.counted, [Counter::NoDestination], "{}", self.at);
            return false;
        }
        assert_eq!(outcome.verdict, Verdict::Transmit, "{}", self.at);
        let sent_to = Seen::read(&outcome.frame.bytes).destination_mac;
        let wanted = self.index_of(server);
        assert_eq!(sent_to, server_mac(wanted), "{}", self.at);
        assert_eq!(self.table.director.state(syn.key()), Some(TcpState::SynRecv), "{}", self.at);
        self.follow(from, to, ACK, wanted, TcpState::Established);
        true
    }

    fn finish(&mut self, from: &str, to: &str) {
        let key = Packet::tcp(from, to, 0).key();
        let destination = self.table.director.destination_of_key(key).unwrap();
        self.follow(from, to, FIN | ACK, destination, TcpState::FinWait);
    }

    fn follow(&mut self, from: &str, to: &str, flags: u8, destination: u32, state: TcpState) {
        let packet = Packet::tcp(from, to, flags);
        let outcome = self.table.director.run(packet.build());
        assert_eq!(
            Seen::read(&outcome.frame.bytes).destination_mac,
            server_mac(destination),
            "{}",
            self.at
        );
        assert_eq!(self.table.director.state(packet.key()), Some(state), "{}", self.at);
    }

    /// One-packet scheduling keeps no connection, so it is the scheduler alone that is asked.
    fn datagram(&mut self, to: &str, server: &str) {
        assert!(self.one_packet);
        self.compared += 1;
        let (id, service, protocol) = self.service.as_ref().unwrap();
        assert_eq!((service.as_str(), *protocol), (to, UDP), "{}", self.at);
        let wanted =
            if server == "none" { Pick::Nobody } else { Pick::Destination(self.index_of(server)) };
        assert_eq!(self.table.pick(*id), wanted, "{}", self.at);
    }

    fn index_of(&self, server: &str) -> u32 {
        let (id, service, _) = self.service.as_ref().unwrap();
        let port = service.split(':').next_back().unwrap();
        self.table.destination(*id, &format!("{server}:{port}"))
    }
}

fn recordings() -> Vec<PathBuf> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sched");
    let mut files: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn ipvs_recordings_have_the_same_picks() {
    let mut compared = 0;
    for file in recordings() {
        let name = file.file_name().unwrap().to_str().unwrap();
        let mut replay = Replay::new();
        for (number, line) in fs::read_to_string(&file).unwrap().lines().enumerate() {
            replay.at = format!("{name}:{}: {line}", number + 1);
            replay.line(line);
        }
        assert!(replay.compared > 0, "{name}: nothing compared");
        replay.table.director.check_tables();
        compared += replay.compared;
    }
    assert!(compared > 1_500, "only {compared} picks compared");
}

#[test]
fn skipped_recordings_are_not_here() {
    let here: BTreeSet<String> = recordings()
        .iter()
        .map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    for (name, why) in SKIPPED {
        assert!(!here.contains(*name), "{name} is here although it is skipped for {why}");
    }
}
