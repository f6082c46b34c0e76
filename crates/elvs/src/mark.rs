//! `elvs mark`: the rules by which packets get a firewall mark.
//!
//! **Invariant:** what is printed for a rule is what `elvs mark add` takes to make it; several changes of one command are
//! made together or not at all.
//!
//! Called by the command line.

mod import;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use elvs_api::{Client, Outcome};
use elvs_model::{Change, InterfaceName, IpProtocol, Mark, MarkRule, PortRange, Prefix};

pub use import::{Converted, ReadError, Skipped, convert};

/// Options of `elvs mark`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Action {
    /// Add a rule behind the others: the first rule that matches a packet gives its mark
    Add(Rule),
    /// Delete a rule, or with --mark alone every rule that gives this mark
    #[command(visible_alias = "delete")]
    Del(Rule),
    /// Print the rules in the order in which they are tried
    List {
        /// Print them as JSON
        #[arg(long)]
        json: bool,
    },
    /// Read the marks that iptables or nftables set before routing, and add rules that set the same
    Import(import::Options),
}

/// A rule as it is typed.
#[derive(Clone, Debug, clap::Args)]
struct Rule {
    /// Addresses that packets come from
    #[arg(long, value_name = "PREFIX")]
    source: Option<Prefix>,
    /// Addresses that packets go to
    #[arg(long, value_name = "PREFIX")]
    destination: Option<Prefix>,
    /// tcp, udp, sctp or a number from 1 to 255
    #[arg(long, value_name = "PROTOCOL")]
    protocol: Option<IpProtocol>,
    /// Ports that packets come from
    #[arg(long, value_name = "PORT[:PORT]")]
    source_port: Option<PortRange>,
    /// Ports that packets go to
    #[arg(long, value_name = "PORT[:PORT]")]
    destination_port: Option<PortRange>,
    /// Interface that packets arrive on: the one that carries the program, below any VLAN or bridge
    #[arg(long, value_name = "NAME")]
    interface: Option<InterfaceName>,
    /// The mark, decimal or 0x hexadecimal; with none packets stay unmarked, whatever later rules say
    #[arg(long, value_name = "N|none")]
    mark: Mark,
}

impl Rule {
    fn rule(&self) -> Result<MarkRule> {
        let rule = MarkRule {
            source: self.source,
            destination: self.destination,
            protocol: self.protocol,
            source_ports: self.source_port,
            destination_ports: self.destination_port,
            interface: self.interface.clone(),
            mark: self.mark,
        };
        rule.check()?;
        Ok(rule)
    }
}

/// Does it, on the daemon on `socket`.
///
/// # Errors
/// No daemon, a change that it refuses, a file that cannot be read, or output that cannot be written.
pub fn run(options: &Options, socket: &Path) -> Result<ExitCode> {
    let mut out = io::stdout().lock();
    let code = match &options.action {
        Action::Add(rule) => {
            let rule = rule.rule()?;
            add(&mut Client::connect(socket)?, &[rule])?;
            ExitCode::SUCCESS
        }
        Action::Del(rule) => {
            delete(&mut Client::connect(socket)?, &rule.rule()?, &mut out)?;
            ExitCode::SUCCESS
        }
        Action::List { json } => {
            list(&mut Client::connect(socket)?, *json, &mut out)?;
            ExitCode::SUCCESS
        }
        Action::Import(options) => {
            import::run(options, socket, &mut out, &mut io::stderr().lock())?
        }
    };
    out.flush()?;
    Ok(code)
}

/// Adds rules, all or none.
fn add(client: &mut Client, rules: &[MarkRule]) -> Result<()> {
    let changes: Vec<Change> = rules.iter().cloned().map(Change::AddMark).collect();
    apply(client, &changes)
}

/// Deletes a rule; one that names nothing but a mark stands for all of that mark, and those are printed.
fn delete(client: &mut Client, rule: &MarkRule, out: &mut impl Write) -> Result<()> {
    if *rule != MarkRule::new(rule.mark) {
        return apply(client, &[Change::DeleteMark(rule.clone())]);
    }
    let rules = client.marks()?;
    let doomed: Vec<&MarkRule> = rules.iter().filter(|known| known.mark == rule.mark).collect();
    if doomed.is_empty() {
        bail!("no rule gives mark {}: `elvs mark list` shows those there are", rule.mark);
    }
    for rule in &doomed {
        writeln!(out, "deleting {rule}")?;
    }
    let changes: Vec<Change> = doomed.into_iter().cloned().map(Change::DeleteMark).collect();
    apply(client, &changes)
}

fn list(client: &mut Client, json: bool, out: &mut impl Write) -> Result<()> {
    let rules = client.marks()?;
    if json {
        serde_json::to_writer_pretty(&mut *out, &rules)?;
        writeln!(out)?;
    } else {
        for rule in &rules {
            writeln!(out, "{rule}")?;
        }
    }
    Ok(())
}

/// Makes changes, all or none.
fn apply(client: &mut Client, changes: &[Change]) -> Result<()> {
    let outcomes = client.apply(changes, true)?;
    for (outcome, change) in outcomes.into_iter().zip(changes) {
        if let Outcome::Refused { message, .. } = outcome {
            if let Change::AddMark(rule) | Change::DeleteMark(rule) = change {
                bail!("{rule}: {message}");
            }
            bail!(message);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
