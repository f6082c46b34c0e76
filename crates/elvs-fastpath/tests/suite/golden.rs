//! Picks of the real kernel, connection by connection: recordings of Linux 6.12.100 with IPVS replayed here.
//!
//! The form of a recording: `ipvsadm` commands change the table; `short tcp SRC DST -> ADDR` is a connection opened and
//! closed again, `open NAME tcp ..` one that stays, `close NAME` its end, `packet udp ..` one datagram of a one-packet
//! service; `-> none` means that the client was refused.

use std::collections::HashMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use elvs_common::{Counter, Method, ServiceFlags, TCP, TcpState, UDP, scheduler_id};
use elvs_fastpath::Verdict;

use crate::support::{ACK, FIN, Packet, SYN, Seen, ServiceId, Table, server_mac};

/// What recordings that are not replayed here have in their name, and why.
const SKIPPED: &[(&str, &str)] = &[("ipv6", "IPv6"), ("twos", "random numbers")];

const SCHEDULERS: &[(&str, u8)] = &[
    ("rr", scheduler_id::RR),
    ("wrr", scheduler_id::WRR),
    ("lc", scheduler_id::LC),
    ("wlc", scheduler_id::WLC),
    ("lblc", scheduler_id::LBLC),
    ("lblcr", scheduler_id::LBLCR),
    ("dh", scheduler_id::DH),
    ("sh", scheduler_id::SH),
    ("mh", scheduler_id::MH),
    ("sed", scheduler_id::SED),
    ("nq", scheduler_id::NQ),
    ("fo", scheduler_id::FO),
    ("ovf", scheduler_id::OVF),
];

struct Replay {
    table: Table,
    service: Option<(ServiceId, String, u8)>,
    /// A closed connection expires before the next line.
    expires: bool,
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
            expires: false,
            open: HashMap::new(),
            compared: 0,
            at: String::new(),
        }
    }

    fn line(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] | ["#", ..] => {}
            // The recording waited for the end of each closed connection.
            ["ipvsadm", "--set", _, "1", _] => self.expires = true,
            ["elvs", "mark", "add", "--destination", prefix, "--mark", mark] => {
                let (address, length) = prefix.split_once('/').unwrap();
                let mask = u32::MAX << (32 - length.parse::<u32>().unwrap());
                let address = address.parse().unwrap();
                self.table.add_mark(address, Ipv4Addr::from(mask), mark.parse().unwrap());
            }
            ["ipvsadm", command, protocol, address, rest @ ..] => {
                self.ipvsadm(command, protocol, address, rest);
            }
            ["short", "tcp", from, to, "->", server] => {
                if self.connection(from, to, server) {
                    self.finish(from, to);
                }
            }
            ["open", name, "tcp", from, to, "->", server] => {
                if self.connection(from, to, server) {
                    self.open.insert((*name).to_owned(), ((*from).to_owned(), (*to).to_owned()));
                }
            }
            ["close", name] => {
                // One that was refused has no end either.
                if let Some((from, to)) = self.open.remove(*name) {
                    self.finish(&from, &to);
                    if self.expires {
                        assert!(self.table.director.expire(Packet::tcp(&from, &to, 0).key()));
                    }
                }
            }
            ["packet", "udp", from, to, "->", server] => self.datagram(from, to, server),
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
            let (_, scheduler) = SCHEDULERS.iter().find(|(known, _)| *known == name).unwrap();
            let flags = value("-b").map_or(0, |names| {
                names.split(',').fold(0, |flags, name| {
                    flags
                        | if name.ends_with("-port") {
                            ServiceFlags::PORT
                        } else {
                            ServiceFlags::FALLBACK
                        }
                })
            });
            let id = match &self.service {
                Some((id, ..)) => *id,
                None => {
                    let mark = (protocol == "-f").then(|| address.parse().unwrap());
                    let protocol = if protocol == "-u" { UDP } else { TCP };
                    let id = match mark {
                        Some(mark) => self.table.add_marked_service(mark, *scheduler),
                        None => self.table.add_service(protocol, address, *scheduler),
                    };
                    self.service = Some((id, address.to_owned(), protocol));
                    id
                }
            };
            let once = if rest.contains(&"-o") { ServiceFlags::ONE_PACKET } else { 0 };
            self.table.set_scheduler(id, *scheduler, flags | once);
            let mask = value("-M").map_or(Ipv4Addr::BROADCAST, |mask| mask.parse().unwrap());
            self.table.set_persistence(id, rest.contains(&"-p").then_some(mask));
            return;
        }
        let (id, service, _) = self.service.as_ref().unwrap();
        assert_eq!(service, address);
        let server = value("-r").unwrap();
        match command {
            "-a" => {
                assert!(rest.contains(&"-g"));
                let index = self.table.add_destination(*id, &server, Method::Dr, weight());
                let threshold = |name| value(name).map_or(0, |value| value.parse().unwrap());
                self.table.set_thresholds(index, threshold("-x"), threshold("-y"));
            }
            "-e" => self.table.set_weight(*id, self.table.destination(*id, &server), weight()),
            "-d" => self.table.remove_destination(*id, self.table.destination(*id, &server)),
            _ => panic!("cannot replay ipvsadm {command}"),
        }
    }

    /// Opens a connection and compares where it went; false if it was refused, as recorded, or is not replayed.
    fn connection(&mut self, from: &str, to: &str, server: &str) -> bool {
        self.compared += 1;
        let syn = Packet::tcp(from, to, SYN);
        let outcome = self.table.director.run(syn.build());
        if server == "none" {
            assert_eq!(outcome.counted, [Counter::NoDestination, Counter::IcmpSent], "{}", self.at);
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

    /// A datagram.
    fn datagram(&mut self, from: &str, to: &str, server: &str) {
        self.compared += 1;
        let packet = Packet::udp(from, to);
        let outcome = self.table.director.run(packet.build());
        if server == "none" {
            assert_eq!(outcome.counted, [Counter::NoDestination, Counter::IcmpSent], "{}", self.at);
        } else {
            let wanted = server_mac(self.index_of(server));
            let sent_to = Seen::read(&outcome.frame.bytes).destination_mac;
            assert_eq!(sent_to, wanted, "{}", self.at);
        }
    }

    fn index_of(&self, server: &str) -> u32 {
        let (id, service, _) = self.service.as_ref().unwrap();
        // One by firewall mark has no port, nor have its real servers.
        let port = service.split_once(':').map_or("0", |(_, port)| port);
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
    for file in recordings() {
        let name = file.file_stem().unwrap().to_str().unwrap();
        for (part, why) in SKIPPED {
            assert!(!name.contains(part), "{name} is here although it is skipped for {why}");
        }
    }
}
