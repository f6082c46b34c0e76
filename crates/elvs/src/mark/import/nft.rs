//! The output of `nft -j list ruleset`, as libnftables-json(5) describes it.
//!
//! **Invariant:** every statement is understood, or makes its rule one that is named as skipped.
//!
//! Called by [`convert`](super::convert()).

use std::collections::HashMap;

use elvs_model::{Family, PortRange, Prefix};
use serde_json::Value;

use super::ReadError;
use super::cell::{self, Cell, Packets};
use super::program::{Action, ChainId, MAX_RULES, Program, Rule, TOO_MANY};
use super::values;

/// Reads a text.
pub(super) fn read(text: &str) -> Result<Program, ReadError> {
    let document: Value = serde_json::from_str(text).map_err(ReadError::Json)?;
    let items = document.get("nftables").and_then(Value::as_array).ok_or(ReadError::NoRuleset)?;
    let mut program = Program { entry: "a prerouting hook of type filter", ..Program::default() };
    let mut sets = Sets::new();
    let mut hooks: Vec<(i64, ChainId, Cell)> = Vec::new();
    for item in items {
        if let Some(set) = item.get("set")
            && let Some(name) = set.get("name").and_then(Value::as_str)
        {
            sets.insert(ChainId { table: table(set), name: name.to_owned() }, set);
        }
        if let Some(chain) = item.get("chain")
            && let Some(name) = chain.get("name").and_then(Value::as_str)
        {
            let id = ChainId { table: table(chain), name: name.to_owned() };
            program.chains.entry(id.clone()).or_default();
            if let Some(entering) = entering(chain) {
                let priority = chain.get("prio").and_then(Value::as_i64).unwrap_or_default();
                hooks.push((priority, id, entering));
            }
        }
    }
    for rule in items.iter().filter_map(|item| item.get("rule")) {
        let chain = rule.get("chain").and_then(Value::as_str).unwrap_or_default();
        let id = ChainId { table: table(rule), name: chain.to_owned() };
        program.chains.entry(id.clone()).or_default().push(program.rules.len());
        program.rules.push(read_rule(rule, &id, &sets));
    }
    for chain in items.iter().filter_map(|item| item.get("chain")) {
        add_policy(chain, &mut program);
    }
    hooks.sort_by_key(|(priority, _, _)| *priority);
    program.hooks = hooks.into_iter().map(|(_, id, entering)| (id, entering)).collect();
    Ok(program)
}

/// Named sets, by table.
type Sets<'a> = HashMap<ChainId, &'a Value>;

/// Family and name of the table that an object belongs to.
fn table(object: &Value) -> String {
    let word = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    format!("{} {}", word("family"), word("table"))
}

/// The packets that enter at a chain, if it hooks in before routing.
fn entering(chain: &Value) -> Option<Cell> {
    if chain.get("hook").and_then(Value::as_str) != Some("prerouting")
        || chain.get("type").and_then(Value::as_str) != Some("filter")
    {
        return None;
    }
    match chain.get("family").and_then(Value::as_str) {
        Some("ip") => Some(Cell::family(Family::Inet)),
        Some("ip6") => Some(Cell::family(Family::Inet6)),
        Some("inet") => Some(Cell::default()),
        _ => None,
    }
}

/// A chain that drops by default ends in a rule of its own.
fn add_policy(chain: &Value, program: &mut Program) {
    let (Some(entering), Some(name)) = (entering(chain), chain.get("name").and_then(Value::as_str))
    else {
        return;
    };
    if chain.get("policy").and_then(Value::as_str) != Some("drop") {
        return;
    }
    let id = ChainId { table: table(chain), name: name.to_owned() };
    program.chains.entry(id.clone()).or_default().push(program.rules.len());
    program.rules.push(Rule {
        place: format!("table {} chain {name}", id.table),
        text: "policy drop".to_owned(),
        packets: Packets::of(vec![entering]),
        inexact: None,
        actions: vec![Action::Drop],
    });
}

fn read_rule(rule: &Value, id: &ChainId, sets: &Sets<'_>) -> Rule {
    let handle = rule.get("handle").and_then(Value::as_u64);
    let handle = handle.map_or_else(String::new, |handle| format!(" handle {handle}"));
    let expressions = rule.get("expr").and_then(Value::as_array);
    let text = rule.get("expr").map_or_else(String::new, Value::to_string);
    let mut reading = Reading {
        table: &id.table,
        sets,
        cells: vec![Cell::default()],
        without: Vec::new(),
        inexact: None,
        actions: Vec::new(),
    };
    for statement in expressions.map_or(&[][..], Vec::as_slice) {
        reading.statement(statement);
    }
    reading.finish(format!("table {} chain {}{handle}", id.table, id.name), text)
}

/// A rule as far as it was read.
struct Reading<'a> {
    table: &'a str,
    sets: &'a Sets<'a>,
    cells: Vec<Cell>,
    without: Vec<Cell>,
    inexact: Option<String>,
    actions: Vec<Action>,
}

impl Reading<'_> {
    fn inexact(&mut self, reason: impl Into<String>) {
        self.inexact.get_or_insert_with(|| reason.into());
    }

    fn statement(&mut self, statement: &Value) {
        let Some((name, body)) = statement.as_object().and_then(|object| object.iter().next())
        else {
            return self.inexact("a statement that is not known");
        };
        let target = || {
            let name = body.get("target").and_then(Value::as_str).unwrap_or_default();
            ChainId { table: self.table.to_owned(), name: name.to_owned() }
        };
        let action = match name.as_str() {
            "match" => {
                if !self.actions.is_empty() {
                    self.inexact("a match behind another statement is not read");
                }
                return self.matching(body);
            }
            "mangle" => match mangle(body) {
                Some(action) => action,
                None => return,
            },
            "accept" => Action::Accept,
            "drop" | "reject" => Action::Drop,
            "return" => Action::Return,
            "jump" => Action::Jump(target()),
            "goto" => Action::Goto(target()),
            "limit" | "quota" | "ct count" | "meter" => {
                return self.inexact(format!("a mark rule cannot say `{name}`"));
            }
            // They neither change the mark nor send the packet elsewhere.
            "counter" | "log" | "notrack" | "continue" | "set" | "map" | "ct helper"
            | "ct timeout" | "ct expectation" | "secmark" | "synproxy" | "flow" | "last"
            | "dup" => return,
            "xt" if body.get("type").and_then(Value::as_str) == Some("match") => {
                let what = body.get("name").and_then(Value::as_str).unwrap_or("?");
                return self
                    .inexact(format!("`xt match {what}` is no statement of nftables: {SAVE}"));
            }
            "xt" => Action::Unknown(format!("`xt` is no statement of nftables: {SAVE}")),
            "vmap" => Action::Unknown("a verdict map is not read: write its rules out".to_owned()),
            _ => Action::Unknown(format!("statement `{name}` is not known")),
        };
        self.actions.push(action);
    }

    fn matching(&mut self, body: &Value) {
        let (Some(left), Some(right)) = (body.get("left"), body.get("right")) else {
            return self.inexact("a match without two sides");
        };
        let (negated, found) = match body.get("op").and_then(Value::as_str) {
            None | Some("==" | "in") => (false, self.sides(left, right)),
            Some("!=") => (true, self.sides(left, right)),
            Some(op) => (false, compared(left, op, right)),
        };
        match found {
            Ok(cells) if negated => {
                // What has no such field does not match either way.
                self.cells = cell::intersect(&self.cells, &[implied(left)]);
                self.without.extend(cells);
            }
            Ok(cells) => self.cells = cell::intersect(&self.cells, &cells),
            Err(reason) => self.inexact(reason),
        }
        if self.cells.len() > MAX_RULES {
            self.cells = vec![Cell::default()];
            self.inexact(TOO_MANY);
        }
    }

    /// Packets whose `left` is `right`, or one of what `right` lists.
    fn sides(&self, left: &Value, right: &Value) -> Result<Vec<Cell>, String> {
        if let Some(name) = right.as_str().and_then(|text| text.strip_prefix('@')) {
            let id = ChainId { table: self.table.to_owned(), name: name.to_owned() };
            let set = self.sets.get(&id).ok_or_else(|| format!("there is no set {name}"))?;
            let flags = set.get("flags").and_then(Value::as_array);
            let changes = |flag: &Value| matches!(flag.as_str(), Some("dynamic" | "timeout"));
            if flags.is_some_and(|flags| flags.iter().any(changes)) {
                return Err(format!("set {name} changes by itself"));
            }
            let elements = set.get("elem").and_then(Value::as_array);
            return one_of(left, elements.map_or(&[][..], Vec::as_slice));
        }
        let right = right.get("set").unwrap_or(right);
        match right.as_array() {
            Some(elements) => one_of(left, elements),
            None => equal(left, right),
        }
    }

    fn finish(mut self, place: String, text: String) -> Rule {
        let ported = |cell: &Cell| cell.source_ports.is_some() || cell.destination_ports.is_some();
        let portless = |cell: &Cell| cell.protocol.is_none_or(|p| p.transport().is_none());
        if self.cells.iter().any(|cell| ported(cell) && portless(cell)) {
            self.inexact("a mark rule has ports of tcp, udp and sctp alone, and names which");
        }
        let packets = Packets::but(&self.cells, &self.without);
        Rule { place, text, packets, inexact: self.inexact, actions: self.actions }
    }
}

/// What helps where iptables wrote the rules of nftables.
const SAVE: &str = "import the output of iptables-save instead";

/// A `mangle` statement: the mark, or `None` if it sets something else.
fn mangle(body: &Value) -> Option<Action> {
    let key = body.get("key")?;
    if meta(key) != Some("mark") {
        return None;
    }
    let marked = body.get("value").and_then(change);
    Some(match marked {
        Some((value, mask)) => Action::Mark { value, mask },
        None => Action::Unknown("a mark rule cannot compute its mark".to_owned()),
    })
}

/// Value and mask of an expression over the mark that is there.
fn change(value: &Value) -> Option<(u32, u32)> {
    if let Some(number) = number(value) {
        return Some((number, u32::MAX));
    }
    if meta(value) == Some("mark") {
        return Some((0, 0));
    }
    let (operator, operands) = value.as_object()?.iter().next()?;
    let [left, right] = operands.as_array()?.as_slice() else { return None };
    let ((value, mask), operand) = match (change(left), number(right)) {
        (Some(inner), Some(operand)) => (inner, operand),
        _ => (change(right)?, number(left)?),
    };
    // The mark so far is `(old & !mask) ^ value`.
    match operator.as_str() {
        "&" => Some((value & operand, mask | !operand)),
        "|" => Some(((value & !operand) | operand, mask | operand)),
        "^" => Some((value ^ operand, mask)),
        _ => None,
    }
}

fn number(value: &Value) -> Option<u32> {
    value.as_u64()?.try_into().ok()
}

/// The key of a `meta` expression.
fn meta(value: &Value) -> Option<&str> {
    value.get("meta")?.get("key")?.as_str()
}

/// Packets whose `left` is one of `elements`.
fn one_of(left: &Value, elements: &[Value]) -> Result<Vec<Cell>, String> {
    let mut cells = Vec::new();
    for element in elements {
        // An element with a comment or a counter is wrapped.
        let element = element.get("elem").and_then(|elem| elem.get("val")).unwrap_or(element);
        cells.extend(equal(left, element)?);
    }
    Ok(cells)
}

/// Packets whose `left` is `right`.
fn equal(left: &Value, right: &Value) -> Result<Vec<Cell>, String> {
    if let Some(parts) = left.get("concat").and_then(Value::as_array) {
        let values = right.get("concat").and_then(Value::as_array);
        let values = values.filter(|values| values.len() == parts.len());
        let values = values.ok_or_else(|| unread(left))?;
        let mut cells = vec![Cell::default()];
        for (part, value) in parts.iter().zip(values) {
            cells = cell::intersect(&cells, &equal(part, value)?);
        }
        return Ok(cells);
    }
    let word = || match (right.as_str(), right.as_u64()) {
        (Some(text), _) => Ok(text.to_owned()),
        (None, Some(number)) => Ok(number.to_string()),
        (None, None) => Err(unread(right)),
    };
    match field(left) {
        Some(Field::Address(place)) => Ok(addresses(right)?.into_iter().map(place).collect()),
        Some(Field::Ports(protocol, place)) => {
            let (first, last) = ends(right).unwrap_or((right, right));
            let ports = port(first).zip(port(last)).and_then(|(a, b)| PortRange::new(a, b));
            let ports = place(ports.ok_or_else(|| unread(right))?);
            Ok(vec![with_protocol(ports, protocol)?])
        }
        Some(Field::Protocol) => {
            let protocol = values::protocol(&word()?)?.ok_or_else(|| unread(right))?;
            Ok(vec![Cell::protocol(protocol)])
        }
        Some(Field::Interface) => {
            let name = word()?;
            let interface = name.parse().ok();
            let interface = interface.ok_or_else(|| format!("interface {name} is a pattern"))?;
            Ok(vec![Cell::interface(interface)])
        }
        Some(Field::Family) => match word()?.as_str() {
            "ipv4" | "ip" => Ok(vec![Cell::family(Family::Inet)]),
            "ipv6" | "ip6" => Ok(vec![Cell::family(Family::Inet6)]),
            _ => Err(unread(right)),
        },
        None => Err(unread(left)),
    }
}

/// Packets whose `left` is below or above `right`: ports alone have an order that matters.
fn compared(left: &Value, op: &str, right: &Value) -> Result<Vec<Cell>, String> {
    let (Some(Field::Ports(protocol, place)), Some(bound)) = (field(left), port(right)) else {
        return Err(unread(left));
    };
    let ports = match op {
        "<=" => PortRange::new(0, bound),
        "<" => bound.checked_sub(1).and_then(|last| PortRange::new(0, last)),
        ">=" => PortRange::new(bound, u16::MAX),
        ">" => bound.checked_add(1).and_then(|first| PortRange::new(first, u16::MAX)),
        _ => return Err(format!("operator `{op}` is not known")),
    };
    ports.map_or(Ok(Vec::new()), |ports| Ok(vec![with_protocol(place(ports), protocol)?]))
}

/// Packets that have what `left` looks at.
fn implied(left: &Value) -> Cell {
    if let Some(parts) = left.get("concat").and_then(Value::as_array) {
        let parts = parts.iter().map(implied);
        return parts.fold(Cell::default(), |all, part| all.intersect(&part).unwrap_or(part));
    }
    let protocol = left.get("payload").and_then(|payload| payload.get("protocol"));
    match protocol.and_then(Value::as_str) {
        Some("ip") => Cell::family(Family::Inet),
        Some("ip6") => Cell::family(Family::Inet6),
        Some(name) => {
            values::protocol(name).ok().flatten().map_or_else(Cell::default, Cell::protocol)
        }
        None => Cell::default(),
    }
}

/// What a match looks at.
enum Field {
    Address(fn(Prefix) -> Cell),
    /// Ports, with the protocol that they imply.
    Ports(Option<&'static str>, fn(PortRange) -> Cell),
    Protocol,
    Interface,
    Family,
}

fn field(left: &Value) -> Option<Field> {
    if let Some(key) = meta(left) {
        return match key {
            "l4proto" => Some(Field::Protocol),
            "iifname" | "iif" => Some(Field::Interface),
            "nfproto" | "protocol" => Some(Field::Family),
            _ => None,
        };
    }
    let payload = left.get("payload")?;
    let word = |key: &str| payload.get(key).and_then(Value::as_str);
    let implied = match word("protocol")? {
        "tcp" => Some("tcp"),
        "udp" => Some("udp"),
        "sctp" => Some("sctp"),
        "ip" | "ip6" | "th" => None,
        _ => return None,
    };
    match (word("protocol")?, word("field")?) {
        ("ip" | "ip6", "saddr") => Some(Field::Address(Cell::source)),
        ("ip" | "ip6", "daddr") => Some(Field::Address(Cell::destination)),
        ("ip", "protocol") | ("ip6", "nexthdr") => Some(Field::Protocol),
        ("tcp" | "udp" | "sctp" | "th", "sport") => Some(Field::Ports(implied, Cell::source_ports)),
        ("tcp" | "udp" | "sctp" | "th", "dport") => {
            Some(Field::Ports(implied, Cell::destination_ports))
        }
        _ => None,
    }
}

fn with_protocol(cell: Cell, protocol: Option<&str>) -> Result<Cell, String> {
    Ok(match protocol {
        Some(name) => Cell { protocol: values::protocol(name)?, ..cell },
        None => cell,
    })
}

/// An address, a prefix or a range.
fn addresses(right: &Value) -> Result<Vec<Prefix>, String> {
    if let Some(prefix) = right.get("prefix") {
        let address = prefix.get("addr").and_then(Value::as_str);
        let length = prefix.get("len").and_then(Value::as_u64);
        let address = address.and_then(|address| address.parse().ok());
        let length = length.and_then(|length| length.try_into().ok());
        let prefix = address.zip(length).and_then(|(address, length)| Prefix::new(address, length));
        return prefix.map(|prefix| vec![prefix]).ok_or_else(|| unread(right));
    }
    let (first, last) = ends(right).unwrap_or((right, right));
    match (first.as_str(), last.as_str()) {
        (Some(first), Some(last)) => values::between(first, last),
        _ => Err(unread(right)),
    }
}

/// The two ends of a range.
fn ends(value: &Value) -> Option<(&Value, &Value)> {
    let [first, last] = value.get("range")?.as_array()?.as_slice() else { return None };
    Some((first, last))
}

fn port(value: &Value) -> Option<u16> {
    value.as_u64()?.try_into().ok()
}

fn unread(value: &Value) -> String {
    format!("a mark rule cannot say `{value}`")
}
