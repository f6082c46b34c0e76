//! `elvs mark import`: marks that iptables or nftables set before routing, as mark rules.
//!
//! **Invariant:** every rule of the text that matters and is not taken over is named, with its place and the reason.
//!
//! Called by `elvs mark`; [`convert()`] is what it does without a director.

mod cell;
mod iptables;
mod nft;
mod program;
mod values;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use elvs_api::Client;
use elvs_model::{Family, MarkRule};

use cell::Cell;
pub use program::{Converted, Skipped};

/// Options of `elvs mark import`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Print the rules and add none
    #[arg(long)]
    dry_run: bool,
    /// Take rules for packets of this family alone; it has to be given for iptables rules that do not say theirs
    #[arg(long, value_enum, value_name = "inet|inet6")]
    family: Option<FamilyName>,
    /// Output of `iptables-save`, `ip6tables-save` or `nft -j list ruleset`; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum FamilyName {
    #[value(alias = "ipv4")]
    Inet,
    #[value(alias = "ipv6")]
    Inet6,
}

/// Largest text that is read.
const MAX_BYTES: u64 = 64 << 20;

/// Reads a file, adds its rules behind those there are, and names what could not be taken over: on `errors`, and by exit
/// status 1.
///
/// # Errors
/// A file that cannot be read or is none of the three, no daemon, or a daemon that refuses the rules.
pub(super) fn run(
    options: &Options,
    socket: &Path,
    out: &mut impl Write,
    errors: &mut impl Write,
) -> Result<ExitCode> {
    let family = options.family.map(|name| match name {
        FamilyName::Inet => Family::Inet,
        FamilyName::Inet6 => Family::Inet6,
    });
    let text = text(&options.file)?;
    let shown = options.file.display();
    let converted = convert(&text, family).with_context(|| format!("cannot import {shown}"))?;
    let mut rules = converted.rules.clone();
    if !options.dry_run {
        let mut client = Client::connect(socket)?;
        let known = client.marks()?;
        rules.retain(|rule| !known.iter().any(|known| known == rule));
        super::add(&mut client, &rules)?;
    }
    report(&converted, &rules, options.dry_run, out, errors)?;
    Ok(if converted.skipped.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The rules on `out`; what was not taken over, and the sum, on `errors`.
fn report(
    converted: &Converted,
    added: &[MarkRule],
    dry_run: bool,
    out: &mut impl Write,
    errors: &mut impl Write,
) -> io::Result<()> {
    for rule in added {
        writeln!(out, "{rule}")?;
    }
    for (word, skipped) in
        [("not imported", &converted.skipped), ("left alone", &converted.elsewhere)]
    {
        for Skipped { place, text, reason } in skipped {
            writeln!(errors, "{place}: {word}: {}\n  {}", printable(reason), printable(text))?;
        }
    }
    let known = converted.rules.len() - added.len();
    let known = if known == 0 { String::new() } else { format!(", {known} were there already") };
    let verb = if dry_run { "would be added" } else { "added" };
    writeln!(
        errors,
        "{} {verb}{known}; {} of the file not imported",
        count(added.len()),
        count(converted.skipped.len())
    )
}

fn count(rules: usize) -> String {
    if rules == 1 { "1 rule".to_owned() } else { format!("{rules} rules") }
}

/// Text of a foreign file, which shall not steer the terminal.
fn printable(text: &str) -> String {
    let shown =
        |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}

fn text(file: &Path) -> Result<String> {
    let shown = file.display();
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        io::stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    } else {
        let open = File::open(file).with_context(|| format!("cannot open {shown}"))?;
        let read = open.take(MAX_BYTES + 1).read_to_end(&mut bytes);
        read.with_context(|| format!("cannot read {shown}"))?;
    }
    if bytes.len() as u64 > MAX_BYTES {
        bail!("{shown} has more than {MAX_BYTES} bytes");
    }
    String::from_utf8(bytes).with_context(|| format!("{shown} is no text"))
}

/// Why a text is none that rules can be taken from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// nftables' own notation.
    #[error("this is the output of `nft list ruleset`: give that of `nft -j list ruleset`")]
    NativeNft,
    /// JSON that is broken.
    #[error("it starts as JSON and is none")]
    Json(#[source] serde_json::Error),
    /// JSON of something else.
    #[error("it has no list `nftables`: give the output of `nft -j list ruleset`")]
    NoRuleset,
    /// A line that iptables-save does not write.
    #[error("line {number} is not of iptables-save: {text}")]
    Line {
        /// Number of the line.
        number: usize,
        /// The line.
        text: String,
    },
    /// A rule whose words cannot be told apart.
    #[error("line {number}: {reason}: {text}")]
    Rule {
        /// Number of the line.
        number: usize,
        /// The line.
        text: String,
        /// What is wrong.
        reason: String,
    },
    /// Neither the file nor the command says which family a table is of.
    #[error(
        "table mangle at line {line} may be of iptables or of ip6tables: say --family inet or --family inet6"
    )]
    NoFamily {
        /// Line at which the table starts.
        line: usize,
    },
}

/// Turns the output of `iptables-save`, `ip6tables-save` or `nft -j list ruleset` into mark rules, for packets of `family`
/// alone if it is given; it is also that of iptables rules which do not say theirs.
///
/// # Errors
/// A text that is none of the three.
pub fn convert(text: &str, family: Option<Family>) -> Result<Converted, ReadError> {
    let start = text.trim_start();
    let mut program = if start.starts_with('{') {
        nft::read(text)?
    } else if start.starts_with("table ") {
        return Err(ReadError::NativeNft);
    } else {
        iptables::read(text, family)?
    };
    if let Some(family) = family {
        let family = Cell::family(family);
        program.hooks = core::mem::take(&mut program.hooks)
            .into_iter()
            .filter_map(|(chain, entering)| Some((chain, entering.intersect(&family)?)))
            .collect();
    }
    Ok(program::run(&program))
}

#[cfg(test)]
mod tests;
