//! The output of `iptables-save` and `ip6tables-save`.
//!
//! **Invariant:** every line is understood, or named as skipped; counters and comments say nothing about marks.
//!
//! Called by [`convert`](super::convert()).

use core::net::IpAddr;
use std::collections::BTreeMap;

use elvs_model::{Family, PortRange, Prefix};

use super::ReadError;
use super::cell::{self, Cell, Packets};
use super::program::{Action, ChainId, MAX_RULES, Program, Rule, TOO_MANY};
use super::values::{self, words};

/// Reads a text; `family` is that of tables which do not say.
pub(super) fn read(text: &str, family: Option<Family>) -> Result<Program, ReadError> {
    let mut reader = Reader { given: family, ..Reader::default() };
    reader.program.entry = "PREROUTING of table mangle";
    for (number, line) in text.lines().enumerate() {
        reader.line(number + 1, line.trim())?;
    }
    reader.end_table()?;
    Ok(reader.program)
}

#[derive(Default)]
struct Reader {
    given: Option<Family>,
    program: Program,
    /// Family that the last comment names.
    named: Option<Family>,
    /// The table that is read.
    table: Option<Table>,
}

/// A table whose end is not reached.
struct Table {
    name: String,
    line: usize,
    family: Option<Family>,
    /// Chains that exist, with their policies.
    chains: BTreeMap<String, (usize, String)>,
    /// Lines that add a rule.
    rules: Vec<(usize, String)>,
}

impl Reader {
    fn line(&mut self, number: usize, line: &str) -> Result<(), ReadError> {
        if let Some(comment) = line.strip_prefix('#') {
            if comment.contains("ip6tables-save") {
                self.named = Some(Family::Inet6);
            } else if comment.contains("iptables-save") {
                self.named = Some(Family::Inet);
            }
            return Ok(());
        }
        if let Some(name) = line.strip_prefix('*') {
            self.end_table()?;
            let (chains, rules) = (BTreeMap::new(), Vec::new());
            let name = name.to_owned();
            self.table = Some(Table { name, line: number, family: self.named, chains, rules });
            return Ok(());
        }
        match (line, &mut self.table) {
            ("", _) => Ok(()),
            ("COMMIT", _) => self.end_table(),
            (_, None) => Err(ReadError::Line { number, text: line.to_owned() }),
            (_, Some(table)) => {
                if let Some(chain) = line.strip_prefix(':') {
                    let mut words = chain.split_whitespace();
                    let name = words.next().unwrap_or_default().to_owned();
                    let policy = words.next().unwrap_or_default().to_owned();
                    table.chains.insert(name, (number, policy));
                } else if line.starts_with("-A ") || line.starts_with('[') {
                    table.rules.push((number, line.to_owned()));
                } else {
                    return Err(ReadError::Line { number, text: line.to_owned() });
                }
                Ok(())
            }
        }
    }

    fn end_table(&mut self) -> Result<(), ReadError> {
        let Some(table) = self.table.take() else { return Ok(()) };
        let family = match (table.family, self.given) {
            // Asked for the other family alone.
            (Some(said), Some(given)) if said != given => return Ok(()),
            (Some(said), _) => said,
            (None, Some(given)) => given,
            (None, None) => match guess(&table) {
                Some(family) => family,
                None if table.name != MANGLE || table.rules.is_empty() => Family::Inet,
                None => return Err(ReadError::NoFamily { line: table.line }),
            },
        };
        let shown = match family {
            Family::Inet => table.name.clone(),
            Family::Inet6 => format!("{} (IPv6)", table.name),
        };
        let id = |name: &str| ChainId { table: shown.clone(), name: name.to_owned() };
        for name in table.chains.keys() {
            self.program.chains.entry(id(name)).or_default();
        }
        for (number, line) in &table.rules {
            let parsed = parse(line, family, &table, &id);
            let (chain, packets, inexact, actions) = parsed.map_err(|reason| ReadError::Rule {
                number: *number,
                text: line.clone(),
                reason,
            })?;
            let rules = &mut self.program.rules;
            let text = without_counters(line).to_owned();
            self.program.chains.entry(id(&chain)).or_default().push(rules.len());
            rules.push(Rule { place: format!("line {number}"), text, packets, inexact, actions });
        }
        if table.name == MANGLE {
            self.policy(&table, &id("PREROUTING"), family);
            self.program.hooks.push((id("PREROUTING"), Cell::family(family)));
        }
        Ok(())
    }

    /// A chain that lets nothing through by default ends in a rule of its own.
    fn policy(&mut self, table: &Table, chain: &ChainId, family: Family) {
        let Some((number, policy)) = table.chains.get(&chain.name) else { return };
        if policy != "DROP" {
            return;
        }
        let rules = &mut self.program.rules;
        self.program.chains.entry(chain.clone()).or_default().push(rules.len());
        rules.push(Rule {
            place: format!("line {number}"),
            text: format!(":{} {policy}", chain.name),
            packets: Packets::of(vec![Cell::family(family)]),
            inexact: None,
            actions: vec![Action::Drop],
        });
    }
}

/// The family of the first address in a table.
fn guess(table: &Table) -> Option<Family> {
    let mut words = table.rules.iter().flat_map(|(_, line)| line.split_whitespace());
    words.find_map(|word| {
        let address = word.split('/').next().unwrap_or_default();
        Some(Family::of(address.parse::<IpAddr>().ok()?))
    })
}

fn without_counters(line: &str) -> &str {
    match line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((_, rest)) => rest.trim_start(),
        None => line,
    }
}

type Parsed = (String, Packets, Option<String>, Vec<Action>);

/// One `-A` line.
///
/// # Errors
/// Why its words cannot be told apart at all.
fn parse(
    line: &str,
    family: Family,
    table: &Table,
    id: &dyn Fn(&str) -> ChainId,
) -> Result<Parsed, String> {
    let words = words(without_counters(line)).ok_or("a quote is not closed")?;
    let mut words = words.iter().map(String::as_str);
    let (Some("-A"), Some(chain)) = (words.next(), words.next()) else {
        return Err("it is no `-A CHAIN ...`".to_owned());
    };
    let mut matching = Matching::new(family);
    let mut target = Target::default();
    let mut negated = false;
    while let Some(word) = words.next() {
        if word == "!" {
            negated = true;
            continue;
        }
        let not = std::mem::take(&mut negated);
        if let Some(name) = &target.name {
            let value = words.clone().next().filter(|next| !next.starts_with("--"));
            target.options.push((word.to_owned(), value.map(str::to_owned)));
            if value.is_some() {
                words.next();
            }
            if name.is_empty() {
                return Err("`-j` has no target".to_owned());
            }
            continue;
        }
        match word {
            "-j" | "--jump" | "-g" | "--goto" => {
                target.name = Some(words.next().ok_or("`-j` has no target")?.to_owned());
                target.goes = word == "-g" || word == "--goto";
            }
            "-c" | "--set-counters" => {
                words.next();
                words.next();
            }
            "--comment" => {
                words.next();
            }
            "-m" | "--match" => matching.module(words.next().ok_or("`-m` has no name")?),
            _ => matching.option(word, not, &mut words)?,
        }
    }
    let actions = target.actions(table, id);
    let (packets, inexact) = matching.finish();
    Ok((chain.to_owned(), packets, inexact, actions))
}

/// What a rule matches, as far as it was read.
struct Matching {
    cells: Vec<Cell>,
    /// Packets that do not match.
    without: Vec<Cell>,
    inexact: Option<String>,
}

impl Matching {
    fn new(family: Family) -> Self {
        Self { cells: vec![Cell::family(family)], without: Vec::new(), inexact: None }
    }

    fn inexact(&mut self, reason: impl Into<String>) {
        self.inexact.get_or_insert_with(|| reason.into());
    }

    fn module(&mut self, name: &str) {
        if !matches!(name, "tcp" | "udp" | "sctp" | "multiport" | "comment" | "iprange") {
            self.inexact(format!("a mark rule cannot say `-m {name}`"));
        }
    }

    fn option<'w>(
        &mut self,
        option: &str,
        mut not: bool,
        words: &mut (impl Iterator<Item = &'w str> + Clone),
    ) -> Result<(), String> {
        let known = matches!(
            option,
            "-s" | "--source"
                | "-d"
                | "--destination"
                | "-p"
                | "--protocol"
                | "-i"
                | "--in-interface"
                | "--sport"
                | "--source-port"
                | "--dport"
                | "--destination-port"
                | "--sports"
                | "--source-ports"
                | "--dports"
                | "--destination-ports"
                | "--ports"
                | "--src-range"
                | "--dst-range"
        );
        if !known {
            // Its values go with it.
            while words.clone().next().is_some_and(|next| !next.starts_with('-') && next != "!") {
                words.next();
            }
            self.inexact(format!("a mark rule cannot say `{option}`"));
            return Ok(());
        }
        let mut value = words.next();
        if value == Some("!") {
            // As iptables wrote it before 1.4.3.
            not = !not;
            value = words.next();
        }
        let value = value.ok_or_else(|| format!("`{option}` has no value"))?;
        let shown = if not { format!("! {option} {value}") } else { format!("{option} {value}") };
        match cells(option, value) {
            Ok(cells) if not => self.without.extend(cells),
            Ok(cells) => self.cells = cell::intersect(&self.cells, &cells),
            Err(reason) => self.inexact(format!("`{shown}`: {reason}")),
        }
        if self.cells.len() > MAX_RULES {
            self.cells = vec![Cell::default()];
            self.inexact(TOO_MANY);
        }
        Ok(())
    }

    fn finish(mut self) -> (Packets, Option<String>) {
        let ported = |cell: &Cell| cell.source_ports.is_some() || cell.destination_ports.is_some();
        let portless = |cell: &Cell| cell.protocol.is_none_or(|p| p.transport().is_none());
        if self.cells.iter().any(|cell| ported(cell) && portless(cell)) {
            self.inexact("a mark rule has ports of tcp, udp and sctp alone");
        }
        (Packets::but(&self.cells, &self.without), self.inexact)
    }
}

/// Packets that one option and its value mean.
fn cells(option: &str, value: &str) -> Result<Vec<Cell>, String> {
    let one = |cell: Cell| Ok(vec![cell]);
    match option {
        "-s" | "--source" => prefixes(value, Cell::source),
        "-d" | "--destination" => prefixes(value, Cell::destination),
        "--src-range" => range(value, Cell::source),
        "--dst-range" => range(value, Cell::destination),
        "-p" | "--protocol" => match values::protocol(value)? {
            Some(protocol) => one(Cell::protocol(protocol)),
            None => one(Cell::default()),
        },
        "-i" | "--in-interface" => match value {
            // The pattern of every interface.
            "+" => one(Cell::default()),
            _ => one(Cell::interface(value.parse().ok().ok_or(PATTERN)?)),
        },
        "--sport" | "--source-port" | "--sports" | "--source-ports" => {
            ports(value, &[Cell::source_ports])
        }
        "--ports" => ports(value, &[Cell::source_ports, Cell::destination_ports]),
        _ => ports(value, &[Cell::destination_ports]),
    }
}

/// The table whose rules set marks before routing.
const MANGLE: &str = "mangle";

/// Why `eth+` is not taken.
const PATTERN: &str = "a mark rule names one interface, not a pattern";

fn prefixes(value: &str, cell: fn(Prefix) -> Cell) -> Result<Vec<Cell>, String> {
    value.split(',').map(|one| Ok(cell(prefix(one)?))).collect()
}

/// An address, with a length or a mask or without.
fn prefix(text: &str) -> Result<Prefix, String> {
    let wrong = || format!("{text} is no address");
    let (address, mask) = text.split_once('/').unwrap_or((text, ""));
    let address: IpAddr = address.parse().ok().ok_or_else(wrong)?;
    let full = if address.is_ipv4() { 32 } else { 128 };
    let length = match mask.parse::<u8>() {
        Ok(length) => length,
        Err(_) if mask.is_empty() => full,
        Err(_) => {
            let mask: IpAddr = mask.parse().ok().ok_or_else(wrong)?;
            values::mask_length(mask).ok_or("a mark rule has prefixes, not masks with holes")?
        }
    };
    Prefix::new(address, length).ok_or_else(wrong)
}

/// Addresses from one to another.
fn range(value: &str, cell: fn(Prefix) -> Cell) -> Result<Vec<Cell>, String> {
    let (first, last) = value.split_once('-').unwrap_or((value, value));
    Ok(values::between(first, last)?.into_iter().map(cell).collect())
}

/// Ports and ranges behind commas; each may stand in any of the places.
fn ports(value: &str, places: &[fn(PortRange) -> Cell]) -> Result<Vec<Cell>, String> {
    let mut cells = Vec::new();
    for one in value.split(',') {
        let (first, last) = one.split_once(':').unwrap_or((one, one));
        let first = if first.is_empty() { "0" } else { first };
        let last = if last.is_empty() { "65535" } else { last };
        let range = format!("{first}:{last}").parse().ok();
        let range = range.ok_or_else(|| format!("{one} is no port"))?;
        cells.extend(places.iter().map(|place| place(range)));
    }
    Ok(cells)
}

/// What comes after the match.
#[derive(Default)]
struct Target {
    name: Option<String>,
    /// `-g` instead of `-j`.
    goes: bool,
    options: Vec<(String, Option<String>)>,
}

impl Target {
    fn actions(&self, table: &Table, id: &dyn Fn(&str) -> ChainId) -> Vec<Action> {
        let Some(name) = self.name.as_deref() else { return Vec::new() };
        if table.chains.contains_key(name) {
            return vec![if self.goes { Action::Goto(id(name)) } else { Action::Jump(id(name)) }];
        }
        let has = |option: &str| self.options.iter().any(|(name, _)| name == option);
        let unknown = |reason: String| vec![Action::Unknown(reason)];
        match name {
            "ACCEPT" => vec![Action::Accept],
            "DROP" | "REJECT" => vec![Action::Drop],
            "RETURN" => vec![Action::Return],
            "MARK" => vec![self.mark()],
            "CONNMARK" if has("--restore-mark") => {
                unknown("a mark rule cannot take the mark of a connection".to_owned())
            }
            _ if HARMLESS.contains(&name) => Vec::new(),
            "TPROXY" | "HMARK" => unknown(format!("target {name} sets marks of its own")),
            "NFQUEUE" | "QUEUE" => {
                unknown(format!("target {name} leaves the packet to another program"))
            }
            _ => unknown(format!("target {name} is not known")),
        }
    }

    /// Options of `MARK`, as libxt_MARK.man(8) has them.
    fn mark(&self) -> Action {
        let [(option, Some(value))] = self.options.as_slice() else {
            return Action::Unknown("`MARK` has not one option with a value".to_owned());
        };
        let (value, mask) =
            value.split_once('/').map_or((value.as_str(), None), |(v, m)| (v, Some(m)));
        let (Some(value), Some(mask)) = (number(value), mask.map_or(Some(u32::MAX), number)) else {
            return Action::Unknown(format!("`{option}` has no number"));
        };
        match option.as_str() {
            "--set-xmark" => Action::Mark { value, mask },
            "--set-mark" => Action::Mark { value, mask: mask | value },
            "--or-mark" => Action::Mark { value, mask: value },
            "--and-mark" => Action::Mark { value: 0, mask: !value },
            "--xor-mark" => Action::Mark { value, mask: 0 },
            _ => Action::Unknown(format!("option `{option}` of MARK is not known")),
        }
    }
}

/// Targets that neither change the mark nor end the chain.
const HARMLESS: &[&str] = &[
    "AUDIT",
    "CHECKSUM",
    "CLASSIFY",
    "CONNMARK",
    "CONNSECMARK",
    "CT",
    "DSCP",
    "ECN",
    "HL",
    "IDLETIMER",
    "LED",
    "LOG",
    "NFLOG",
    "NOTRACK",
    "RATEEST",
    "SECMARK",
    "SET",
    "TCPMSS",
    "TCPOPTSTRIP",
    "TEE",
    "TOS",
    "TRACE",
    "TTL",
    "ULOG",
];

/// A number as iptables writes it.
fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}
