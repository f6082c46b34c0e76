//! A director in memory, fixed names, and the reader of recordings.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use elvs::adm::{
    Command, ConnectionIter, Director, DirectorError, List, Names, Streams, parse, run,
};
use elvs_model::{
    Change, ChangeError, ConnectionFilter, ConnectionState, ConnectionView, DestinationView,
    LocalAddressView, NodeInfo, Protocol, Rates, ServiceKey, ServiceView, Statistics, SyncDaemon,
    Table, Timeouts,
};

/// What a command printed and returned.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Printed {
    pub stdout: String,
    pub stderr: String,
    pub code: u8,
}

impl fmt::Debug for Printed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[stderr] {}[exit] {}", self.stdout, self.stderr, self.code)
    }
}

/// One command of a recording.
pub struct Recorded {
    pub command: String,
    pub printed: Printed,
}

/// A recording.
pub struct Recording {
    pub setup: Vec<String>,
    pub commands: Vec<Recorded>,
}

/// Reads `tests/golden/cli/NAME.txt`.
pub fn recording(name: &str) -> Recording {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/cli/{name}.txt"));
    let text = std::fs::read_to_string(file).unwrap();
    let (setup, commands) = text.split_once("### recorded\n").unwrap();
    let setup = setup.lines().skip(1).map(str::to_owned).collect();
    let commands = commands.split("\n$ ").map(|one| {
        let one = one.strip_prefix("$ ").unwrap_or(one);
        let (command, rest) = one.split_once("\n--- stdout\n").unwrap();
        let (stdout, rest) = match rest.strip_prefix("--- stderr\n") {
            Some(rest) => ("", rest),
            None => rest.split_once("\n--- stderr\n").unwrap(),
        };
        let (stderr, code) = match rest.strip_prefix("--- exit ") {
            Some(code) => ("", code),
            None => rest.split_once("\n--- exit ").unwrap(),
        };
        let with_end =
            |text: &str| if text.is_empty() { String::new() } else { format!("{text}\n") };
        let code = code.trim().parse().unwrap();
        let printed = Printed { stdout: with_end(stdout), stderr: with_end(stderr), code };
        Recorded { command: command.to_owned(), printed }
    });
    Recording { setup, commands: commands.collect() }
}

/// Runs a command line as a shell would, with an empty standard input.
pub fn invoke(line: &str, director: &mut dyn Director) -> Printed {
    invoke_with_input(line, "", director)
}

/// Runs a command line with `input` on standard input.
pub fn invoke_with_input(line: &str, input: &str, director: &mut dyn Director) -> Printed {
    let mut words = line.split_whitespace().map(str::to_owned);
    let program = words.next().unwrap();
    let words: Vec<String> = words.collect();
    run_words(&program, &words, input, director, &FixedNames)
}

/// Runs a program's words with `input` on standard input.
pub fn run_words(
    program: &str,
    words: &[String],
    input: &str,
    director: &mut dyn Director,
    names: &dyn Names,
) -> Printed {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut input = input.as_bytes();
    let mut streams = Streams { input: &mut input, output: &mut stdout, errors: &mut stderr };
    let parsed = match (program, words) {
        ("ipvsadm-save", words) => Ok(Command::Save { numeric: words == ["-n"] }),
        (_, []) => Ok(Command::List(List::default())),
        (program, words) => parse(program, words, names),
    };
    let code = match parsed {
        Ok(command) => run(command, program, director, names, &mut streams).unwrap(),
        Err(failure) => {
            streams.errors.write_all(failure.message.as_bytes()).unwrap();
            failure.code
        }
    };
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Printed { stdout: text(stdout), stderr: text(stderr), code }
}

/// Services, each with its destinations in the order listed, as a sorted list.
pub fn blocks(listing: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    for line in listing.split_inclusive('\n') {
        match blocks.last_mut() {
            Some(block) if line.starts_with("  -> ") => block.push_str(line),
            Some(_) | None => blocks.push(line.to_owned()),
        }
    }
    blocks.sort();
    blocks
}

/// The names that the recording machine knew.
pub struct FixedNames;

const SERVICES: &[(&str, u16)] = &[
    ("domain", 53),
    ("tftp", 69),
    ("http", 80),
    ("https", 443),
    ("sip", 5060),
    ("http-alt", 8080),
    ("tproxy", 8081),
];

impl Names for FixedNames {
    fn address_of(&self, host: &str) -> Option<Ipv4Addr> {
        (host == "localhost").then_some(Ipv4Addr::LOCALHOST)
    }

    fn host_of(&self, address: IpAddr) -> Option<String> {
        (address == Ipv4Addr::LOCALHOST).then(|| "localhost".to_owned())
    }

    fn port_of(&self, service: &str, _: Protocol) -> Option<u16> {
        SERVICES.iter().find(|(name, _)| *name == service).map(|&(_, port)| port)
    }

    fn service_of(&self, port: u16, _: Protocol) -> Option<String> {
        SERVICES.iter().find(|&&(_, p)| p == port).map(|(name, _)| (*name).to_owned())
    }
}

/// A director in memory: a table, and counters learnt from the recording.
#[derive(Default)]
pub struct Memory {
    pub table: Table,
    pub connections: Vec<ConnectionView>,
    /// Numbers by the name of the service and of the destination ("" for the service's own line).
    numbers: HashMap<(String, String), Numbers>,
}

#[derive(Clone, Copy, Default)]
struct Numbers {
    active: u32,
    inactive: u32,
    persistent: u32,
    statistics: Statistics,
    rates: Rates,
}

impl Memory {
    /// Takes traffic, which no table has by itself, from what was recorded.
    pub fn learn(&mut self, recorded: &Recorded) {
        self.connections = recorded.printed.stdout.lines().filter_map(connection).collect();
        self.numbers.clear();
        let mut service = String::new();
        let command = recorded.command.as_str();
        for line in recorded.printed.stdout.lines() {
            let (name, rest) = match line.strip_prefix("  -> ") {
                Some(rest) => rest.split_once(' ').unwrap_or((rest, "")),
                None => {
                    let end = line.char_indices().filter(|(_, c)| *c == ' ').nth(1);
                    service = line.replace(" IPv6", "").split_whitespace().take(2).collect();
                    ("", end.map_or("", |_| line.get(33..).unwrap_or_default()))
                }
            };
            let fields: Vec<&str> = rest.split_whitespace().collect();
            let numbers = numbers(command, &fields);
            self.numbers.insert((service.clone(), name.to_owned()), numbers);
        }
    }

    fn numbers_of(&self, key: &ServiceKey, destination: &str) -> Numbers {
        let service = match key {
            ServiceKey::Address { .. } => key.to_string().replace(' ', ""),
            ServiceKey::Fwmark { mark, .. } => format!("FWM{mark}"),
        };
        self.numbers.get(&(service, destination.to_owned())).copied().unwrap_or_default()
    }
}

/// Numbers in the columns that the command shows.
fn numbers(command: &str, fields: &[&str]) -> Numbers {
    let mut numbers = Numbers::default();
    let all: Vec<u64> = fields.iter().map_while(|f| scaled(f)).collect();
    let last = |index: usize| fields.iter().rev().nth(index).and_then(|f| f.parse().ok());
    match *all.as_slice() {
        [connections, in_packets, out_packets, in_bytes, out_bytes] => {
            if command.contains("--stats") {
                numbers.statistics =
                    Statistics { connections, in_packets, out_packets, in_bytes, out_bytes };
            } else {
                numbers.rates = Rates { connections, in_packets, out_packets, in_bytes, out_bytes };
            }
        }
        _ => {
            numbers.active = last(1).unwrap_or_default();
            numbers.inactive = last(0).unwrap_or_default();
            numbers.persistent = last(2).unwrap_or_default();
        }
    }
    numbers
}

/// A number with its suffix spelt out.
fn scaled(field: &str) -> Option<u64> {
    let scales = [("K", 1_000), ("M", 1_000_000), ("G", 1_000_000_000)];
    for (suffix, scale) in scales {
        if let Some(number) = field.strip_suffix(suffix) {
            return number.parse::<u64>().ok().map(|number| number * scale);
        }
    }
    field.parse().ok()
}

/// A line of `-Lc`.
fn connection(line: &str) -> Option<ConnectionView> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [protocol, expires, state, client, service, destination] = *fields.as_slice() else {
        return None;
    };
    let protocol = match protocol {
        "TCP" => 6,
        "UDP" => 17,
        "IP" => 0,
        _ => return None,
    };
    let (minutes, seconds) = expires.split_once(':')?;
    let (minutes, seconds): (u32, u32) = (minutes.parse().ok()?, seconds.parse().ok()?);
    let state = [
        ConnectionState::None,
        ConnectionState::Established,
        ConnectionState::SynRecv,
        ConnectionState::FinWait,
        ConnectionState::TimeWait,
        ConnectionState::Udp,
        ConnectionState::Assured,
    ]
    .into_iter()
    .find(|known| known.name() == state)
    .unwrap();
    Some(ConnectionView {
        protocol,
        expires_s: minutes * 60 + seconds,
        state,
        client: end(client),
        service: end(service),
        destination: end(destination),
        engine: None,
    })
}

fn end(text: &str) -> SocketAddr {
    let (host, port) = text.rsplit_once(':').unwrap();
    let port =
        FixedNames.port_of(port, Protocol::Tcp).map_or_else(|| port.to_owned(), |p| p.to_string());
    format!("{host}:{port}").parse().unwrap()
}

/// A local address of which three ports are in use.
const fn local_view(address: IpAddr) -> LocalAddressView {
    LocalAddressView { address, in_use: 3, free: 64_509, exhausted: 7 }
}

impl Director for Memory {
    fn info(&mut self) -> Result<NodeInfo, DirectorError> {
        Ok(NodeInfo { version: "test".to_owned(), connection_table_size: 4096 })
    }

    fn services(&mut self) -> Result<Vec<ServiceView>, DirectorError> {
        let view = |entry: &elvs_model::TableService| {
            let key = entry.service().key;
            let destinations = entry.destinations().map(|&destination| {
                let name = SocketAddr::new(destination.key.address, destination.key.port);
                let numbers = self.numbers_of(&key, &name.to_string());
                DestinationView {
                    destination,
                    active: numbers.active,
                    inactive: numbers.inactive,
                    persistent: numbers.persistent,
                    statistics: numbers.statistics,
                    rates: numbers.rates,
                }
            });
            let own = self.numbers_of(&key, "");
            ServiceView {
                service: entry.service().clone(),
                statistics: own.statistics,
                rates: own.rates,
                destinations: destinations.collect(),
                local_addresses: entry.local_addresses().iter().map(local_view).collect(),
            }
        };
        Ok(self.table.services().map(view).collect())
    }

    fn timeouts(&mut self) -> Result<Timeouts, DirectorError> {
        Ok(self.table.timeouts())
    }

    fn sync_daemons(&mut self) -> Result<Vec<SyncDaemon>, DirectorError> {
        Ok(self.table.sync_daemons().iter().cloned().collect())
    }

    fn connections(
        &mut self,
        filter: &ConnectionFilter,
    ) -> Result<ConnectionIter<'_>, DirectorError> {
        let filter = filter.clone();
        let passing = self.connections.iter().filter(move |view| filter.passes(view));
        Ok(Box::new(passing.cloned().map(Ok)))
    }

    fn apply(&mut self, change: &Change) -> Result<(), DirectorError> {
        let Change::StartSync(daemon) = change else {
            return Ok(self.table.apply(change)?);
        };
        // Interfaces of the recording machine, with their MTU.
        let interfaces = [("eth0", 1_500), ("eth1", 1_500), ("lo", 65_536)];
        let link = interfaces.iter().find(|(name, _)| *name == daemon.interface);
        Ok(self.table.start_sync(daemon.clone(), link.map(|(_, mtu)| *mtu))?)
    }

    fn apply_all(&mut self, changes: &[Change]) -> Result<(), DirectorError> {
        let mut table = self.table.clone();
        for change in changes {
            table.apply(change)?;
        }
        self.table = table;
        Ok(())
    }

    fn zero(&mut self, service: Option<ServiceKey>) -> Result<(), DirectorError> {
        match service {
            Some(key) if self.table.service(&key).is_none() => {
                Err(ChangeError::NoSuchService.into())
            }
            Some(_) | None => Ok(()),
        }
    }
}
