//! Replays what ipvsadm 1.31 did in a campaign of random command lines: on a real kernel, and with tables and counters
//! given to it.
//!
//! Each line of `golden/campaign.jsonl` starts from an empty director; each of `golden/listings.jsonl` is a table with
//! everything that was listed of it.

#![expect(clippy::unwrap_used, reason = "a recording that cannot be read fails the test")]

#[expect(dead_code, reason = "other tests of this crate use the rest")]
mod adm_support;

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use adm_support::{Memory, Printed, run_words};
use elvs::adm::{ConnectionIter, Director, DirectorError, Names};
use elvs_model::{
    Change, ChangeError, ConnectionFilter, ConnectionView, NodeInfo, Protocol, ServiceKey,
    ServiceView, SyncDaemon, Timeouts,
};
use serde::Deserialize;

fn golden(name: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    std::fs::read_to_string(file).unwrap()
}

/// `/etc/hosts` and `/etc/services` of the recording machine, as far as they matter.
#[derive(Deserialize)]
struct Known {
    hosts: Vec<Host>,
    services: Vec<Service>,
}

#[derive(Deserialize)]
struct Host {
    address: IpAddr,
    names: Vec<String>,
}

#[derive(Deserialize)]
struct Service {
    names: Vec<String>,
    port: u16,
    protocol: Protocol,
}

impl Names for Known {
    fn address_of(&self, host: &str) -> Option<Ipv4Addr> {
        let named = |known: &&Host| known.names.iter().any(|name| name.eq_ignore_ascii_case(host));
        self.hosts.iter().filter(named).find_map(|known| match known.address {
            IpAddr::V4(address) => Some(address),
            // What the C library makes of ::1 where IPv4 was asked for.
            IpAddr::V6(address) => address.is_loopback().then_some(Ipv4Addr::LOCALHOST),
        })
    }

    fn host_of(&self, address: IpAddr) -> Option<String> {
        let known = self.hosts.iter().find(|known| known.address == address)?;
        known.names.first().cloned()
    }

    fn port_of(&self, service: &str, protocol: Protocol) -> Option<u16> {
        let known = self.services.iter().filter(|known| known.protocol == protocol);
        known.clone().find(|known| known.names.iter().any(|name| name == service)).map(|s| s.port)
    }

    fn service_of(&self, port: u16, protocol: Protocol) -> Option<String> {
        let mut known = self.services.iter().filter(|known| known.protocol == protocol);
        known.find(|known| known.port == port)?.names.first().cloned()
    }
}

#[derive(Deserialize)]
struct Scenario {
    commands: Vec<Command>,
}

#[derive(Deserialize)]
struct Command {
    words: Vec<String>,
    #[serde(default)]
    input: String,
    code: u8,
    #[serde(default)]
    stdout: String,
    #[serde(default)]
    stderr: String,
}

#[test]
fn does_what_ipvsadm_did_on_a_real_kernel() {
    let names: Known = serde_json::from_str(&golden("names.json")).unwrap();
    let mut differences = Vec::new();
    let mut compared = 0;
    for line in golden("campaign.jsonl").lines() {
        let scenario: Scenario = serde_json::from_str(line).unwrap();
        let mut director = Memory::default();
        for command in scenario.commands {
            let mut printed =
                run_words("ipvsadm", &command.words, &command.input, &mut director, &names);
            // No daemon is started in silence that synchronises nothing.
            let warning = format!("ipvsadm: warning: {}\n", SyncDaemon::WARNING);
            printed.stderr = printed.stderr.replace(&warning, "");
            let recorded =
                Printed { stdout: command.stdout, stderr: command.stderr, code: command.code };
            compare(&command.words, recorded, printed, &mut differences);
            compared += 1;
        }
    }
    assert!(compared > 1_000, "{compared}");
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[derive(Deserialize)]
struct Listed {
    services: Vec<ServiceView>,
    connections: Vec<ConnectionView>,
    listings: Vec<Listing>,
}

#[derive(Deserialize)]
struct Listing {
    words: Vec<String>,
    stdout: String,
}

#[test]
fn lists_tables_of_every_shape_as_ipvsadm_does() {
    let names: Known = serde_json::from_str(&golden("names.json")).unwrap();
    let mut differences = Vec::new();
    for line in golden("listings.jsonl").lines() {
        let Listed { services, connections, listings } = serde_json::from_str(line).unwrap();
        let mut director = Shown { services, connections };
        for listing in listings {
            let printed = run_words("ipvsadm", &listing.words, "", &mut director, &names);
            let recorded = Printed { stdout: listing.stdout, ..Printed::default() };
            compare(&listing.words, recorded, printed, &mut differences);
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn compare(
    words: &[String],
    mut recorded: Printed,
    mut printed: Printed,
    differences: &mut Vec<String>,
) {
    // Saved are thresholds, too, which ipvsadm forgets.
    printed.stdout = printed.stdout.split_inclusive('\n').map(without_thresholds).collect();
    if words.iter().any(|word| word == "--nosort") {
        // The kernel's own order is that of its hash table.
        for listing in [&mut recorded.stdout, &mut printed.stdout] {
            *listing = adm_support::blocks(listing).concat();
        }
    }
    if recorded != printed {
        differences.push(format!("$ ipvsadm {}\n{recorded:?}\n{printed:?}", words.join(" ")));
    }
}

/// A line of `-S` without `-x` and `-y`, which come last on it.
fn without_thresholds(line: &str) -> String {
    if !line.starts_with("-a ") {
        return line.to_owned();
    }
    let end = line.find(" -x ").or_else(|| line.find(" -y ")).map(|end| line.get(..end).unwrap());
    end.map_or_else(|| line.to_owned(), |start| format!("{start}\n"))
}

/// A director that shows what it was given.
struct Shown {
    services: Vec<ServiceView>,
    connections: Vec<ConnectionView>,
}

fn only_listed() -> DirectorError {
    ChangeError::Unsupported("only services and connections are listed".to_owned()).into()
}

impl Director for Shown {
    fn info(&mut self) -> Result<NodeInfo, DirectorError> {
        Ok(NodeInfo { version: "test".to_owned(), connection_table_size: 4096 })
    }

    fn services(&mut self) -> Result<Vec<ServiceView>, DirectorError> {
        Ok(self.services.clone())
    }

    fn timeouts(&mut self) -> Result<Timeouts, DirectorError> {
        Err(only_listed())
    }

    fn sync_daemons(&mut self) -> Result<Vec<SyncDaemon>, DirectorError> {
        Err(only_listed())
    }

    fn connections(&mut self, _: &ConnectionFilter) -> Result<ConnectionIter<'_>, DirectorError> {
        Ok(Box::new(self.connections.iter().cloned().map(Ok)))
    }

    fn apply(&mut self, _: &Change) -> Result<(), DirectorError> {
        Err(only_listed())
    }

    fn apply_all(&mut self, _: &[Change]) -> Result<(), DirectorError> {
        Err(only_listed())
    }

    fn zero(&mut self, _: Option<ServiceKey>) -> Result<(), DirectorError> {
        Err(only_listed())
    }
}
