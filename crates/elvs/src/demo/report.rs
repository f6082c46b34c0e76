//! What the demo tells: the stage before, the result after.
//!
//! **Invariant:** every number was counted by one of three: the client (answers), the real servers (addresses seen),
//! the director (packets, drops); what is owed comes from [`super::owed`] alone.
//!
//! Called by the demo.

mod drawing;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use elvs_net::bed::{CLIENT, VIP};
use serde::Serialize;

use super::client::Outcome;
use super::config::PORT;
use super::director::Facts;
use super::options::{Mode, Settings};
use super::owed::owed;
use super::witness::Replies;
use super::{PREFIX, stage, state};

/// How the demo went.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Report {
    mode: Mode,
    scheduler: &'static str,
    requests: u16,
    succeeded: u64,
    failed: u64,
    first_failure: Option<String>,
    real_servers: Vec<RealServer>,
    seen: BTreeSet<IpAddr>,
    replies: Replies,
    facts: Facts,
    elapsed: Duration,
}

/// What one real server got.
#[derive(Clone, Debug, PartialEq, Eq)]
struct RealServer {
    name: String,
    address: Ipv4Addr,
    weight: u32,
    connections: u64,
    owed: u64,
}

/// The report of `--json`.
#[derive(Clone, Debug, Serialize)]
pub(super) struct JsonReport<'a> {
    mode: &'static str,
    scheduler: &'static str,
    requests: u16,
    succeeded: u64,
    failed: u64,
    real_servers: Vec<JsonRealServer>,
    director: JsonDirector<'a>,
}

#[derive(Clone, Debug, Serialize)]
struct JsonRealServer {
    address: Ipv4Addr,
    weight: u32,
    connections: u64,
}

#[derive(Clone, Debug, Serialize)]
struct JsonDirector<'a> {
    xdp_mode: String,
    replies_through_director: u64,
    packets: u64,
    drops: &'a BTreeMap<String, u64>,
}

impl Report {
    /// Puts together what client, real servers and director counted.
    pub fn new(settings: &Settings, outcome: Outcome, replies: Replies, facts: Facts) -> Self {
        let plan = settings.plan();
        let scheduler = settings.scheduler;
        let owed = owed(scheduler, &settings.weights, settings.requests);
        let servers = (1_u8..).zip(&settings.weights).zip(owed);
        let real_servers = servers.map(|((number, weight), owed)| {
            let name = format!("rs{number}");
            let connections = outcome.answers.get(&name).copied().unwrap_or(0);
            RealServer {
                name,
                address: plan.real_server(number),
                weight: *weight,
                connections,
                owed,
            }
        });
        Self {
            mode: settings.mode,
            scheduler: scheduler.scheduler().name(),
            requests: settings.requests,
            succeeded: outcome.succeeded(),
            failed: outcome.failed,
            first_failure: outcome.first_failure,
            real_servers: real_servers.collect(),
            seen: outcome.seen,
            replies,
            facts,
            elapsed: outcome.elapsed,
        }
    }

    /// Whether every request was answered and every real server got exactly what it is owed.
    pub fn kept_promise(&self) -> bool {
        self.failed == 0 && self.real_servers.iter().all(|server| server.connections == server.owed)
    }

    /// The report as `--json` prints it.
    pub fn json(&self) -> JsonReport<'_> {
        let real_servers = self.real_servers.iter().map(|server| JsonRealServer {
            address: server.address,
            weight: server.weight,
            connections: server.connections,
        });
        JsonReport {
            mode: self.mode.name(),
            scheduler: self.scheduler,
            requests: self.requests,
            succeeded: self.succeeded,
            failed: self.failed,
            real_servers: real_servers.collect(),
            director: JsonDirector {
                xdp_mode: self.facts.xdp_mode(),
                replies_through_director: self.replies.through_director,
                packets: self.facts.packets,
                drops: &self.facts.drops,
            },
        }
    }

    /// The report for people.
    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}\n", self.table())?;
        writeln!(out, "  requests      {} of {} answered", self.succeeded, self.requests)?;
        if let Some(failure) = &self.first_failure {
            writeln!(out, "  first failure {failure}")?;
        }
        writeln!(out, "  replies       {}", self.way_of_replies())?;
        let seen: Vec<String> = self.seen.iter().map(ToString::to_string).collect();
        let whose =
            if self.seen.iter().eq([&IpAddr::V4(CLIENT)]) { ", its own address" } else { "" };
        writeln!(out, "  client        the real servers saw {}{whose}", or_none(&seen))?;
        writeln!(out, "  XDP           {}", self.facts.xdp_mode())?;
        let rate = per_second(self.facts.packets, self.elapsed);
        writeln!(
            out,
            "  director      {} packets in {:.2} s, {rate} packets/s (one client, one connection at a time)",
            self.facts.packets,
            self.elapsed.as_secs_f64()
        )?;
        let drops: Vec<String> = self
            .facts
            .drops
            .iter()
            .map(|(reason, packets)| format!("{packets} {reason}"))
            .collect();
        writeln!(out, "  drops         {}", or_none(&drops))?;
        writeln!(out, "\n{}", self.verdict())
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(TABLE);
        table.set_header([
            "real server",
            "address",
            "weight",
            "connections",
            "share",
            "promised",
            "promised share",
        ]);
        let owed = self.real_servers.iter().map(|server| server.owed).sum();
        for server in &self.real_servers {
            table.add_row([
                server.name.clone(),
                format!("{}:{PORT}", server.address),
                server.weight.to_string(),
                server.connections.to_string(),
                percent(server.connections, self.succeeded),
                server.owed.to_string(),
                percent(server.owed, owed),
            ]);
        }
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    fn way_of_replies(&self) -> String {
        let Replies { through_director, direct } = self.replies;
        match (through_director, direct) {
            (0, 0) => "none came".to_owned(),
            (0, _) => {
                format!("bypassed the director: all {direct} packets came from the real servers")
            }
            (_, 0) => {
                format!("went through the director: all {through_director} packets came from it")
            }
            _ => format!(
                "{direct} packets bypassed the director, {through_director} went through it"
            ),
        }
    }

    fn verdict(&self) -> String {
        let wrong: Vec<String> = self
            .real_servers
            .iter()
            .filter(|server| server.connections != server.owed)
            .map(|s| format!("{} got {} and is owed {}", s.name, s.connections, s.owed))
            .collect();
        match (self.failed, wrong.is_empty()) {
            (0, true) => format!(
                "Every request was answered, and every real server got exactly what {} owes it.",
                self.scheduler
            ),
            (0, false) => format!("NOT what {} owes: {}.", self.scheduler, wrong.join("; ")),
            (failed, true) => format!("{failed} requests FAILED."),
            (failed, false) => format!(
                "{failed} requests FAILED, and it is not what {} owes: {}.",
                self.scheduler,
                wrong.join("; ")
            ),
        }
    }
}

/// Says what is about to happen: topology and configuration.
pub(super) fn introduce(out: &mut impl Write, settings: &Settings, config: &str) -> io::Result<()> {
    out.write_all(drawing::draw(settings).as_bytes())?;
    writeln!(out, "\nThe director runs `elvs run -f {}`:\n", state::path(stage::CONFIG).display())?;
    for line in config.lines() {
        writeln!(out, "{}", format!("    {line}").trim_end())?;
    }
    writeln!(out)?;
    out.flush()
}

/// Says how to look at what is left running.
pub(super) fn explain_keep(out: &mut impl Write) -> io::Result<()> {
    let elvs = format!("elvs --socket {}", state::path(stage::SOCKET).display());
    let commands = [
        (format!("ip netns exec {PREFIX}client curl -s http://{VIP}/"), "another request"),
        (format!("{elvs} adm -Ln"), "the table, as ipvsadm lists it"),
        (format!("{elvs} adm -Lnc"), "connections"),
        (format!("{elvs} status"), "the node on one screen"),
        (format!("ip netns exec {PREFIX}rs1 tcpdump -ni eth0"), "packets of a real server"),
        (format!("less {}", state::path("director.log").display()), "what the director says"),
        ("elvs demo --clean".to_owned(), "removes all of it"),
    ];
    writeln!(out, "\nIt is left running. As root:")?;
    commands.iter().try_for_each(|(command, what)| writeln!(out, "  {command:<56} {what}"))
}

/// One line, under the header.
pub(super) const TABLE: TableStyle =
    TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// A share in per cent, one digit.
fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    // Whole numbers, so that the printed digits are exact: tenths of a per cent, rounded half up.
    let tenths = (part * 2000 + whole) / (whole * 2);
    format!("{}.{}%", tenths / 10, tenths % 10)
}

fn per_second(packets: u64, elapsed: Duration) -> u128 {
    u128::from(packets) * 1_000_000 / elapsed.as_micros().max(1)
}

fn or_none(words: &[String]) -> String {
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

#[cfg(test)]
mod tests;
