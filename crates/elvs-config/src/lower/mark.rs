//! `mark`: rules that give packets a firewall mark.
//!
//! **Invariant:** every rule that is lowered can match some packet, and no two are the same.
//!
//! Called by the lowering of the root statements.

use core::str::FromStr;
use std::collections::{BTreeSet, HashMap};

use elvs_model::{
    DesiredService, Family, InterfaceName, IpProtocol, Mark, MarkRule, MarkRules, MarkSyntaxError,
    PortRange, Prefix, ServiceKey,
};

use crate::capabilities::Capabilities;
use crate::diagnostic::{Code, Reporter};
use crate::keywords::Feature;
use crate::lexer::Word;
use crate::sources::Extent;
use crate::text::quote;
use crate::tree::Item;

/// Most rules of one configuration: a packet of a new connection is compared with them one by one.
const MAX_RULES: usize = 4096;

/// Every `mark` block.
#[derive(Default)]
pub(super) struct Marks {
    rules: Vec<(MarkRule, Extent)>,
    /// Where each mark is first given.
    places: HashMap<Mark, Extent>,
}

/// What one block names; of each sort any may match.
#[derive(Default)]
struct Criteria {
    sources: Vec<Prefix>,
    destinations: Vec<Prefix>,
    protocols: Vec<IpProtocol>,
    source_ports: Vec<PortRange>,
    destination_ports: Vec<PortRange>,
    interfaces: Vec<InterfaceName>,
    /// The first statement about ports.
    ports_at: Option<Extent>,
    /// A value was refused, so that rules without it would match more than is meant.
    refused: bool,
}

impl Marks {
    pub fn read(&mut self, item: &Item, capabilities: &Capabilities, reporter: &mut Reporter) {
        let criteria = Criteria::read(item, reporter);
        let mark = item.arguments.first().and_then(|word| value::<Mark>(word, reporter));
        let Some(mark) = mark.filter(|_| !criteria.refused) else { return };
        if !criteria.check_ports(item, reporter) {
            return;
        }
        let at = item.head();
        let Some(rules) = criteria.rules(mark, MAX_RULES.saturating_sub(self.rules.len())) else {
            let message = format!("more than {MAX_RULES} mark rules: values multiply in a block");
            reporter
                .error(Code::OutOfRange, at, message)
                .help("join ports to ranges and addresses to prefixes");
            return;
        };
        if rules.is_empty() {
            reporter
                .error(Code::MixedFamilies, at, "no packet has a source and a destination of these")
                .help("give source and destination of one family");
            return;
        }
        if !capabilities.features.contains(&Feature::Fwmark) {
            return;
        }
        let foreign =
            |rule: &MarkRule| rule.family().filter(|f| !capabilities.families.contains(f));
        if let Some(family) = rules.iter().find_map(foreign) {
            let name = family_name(family);
            let message =
                format!("mark rules with {name} addresses are not in effect in this release");
            reporter
                .error(Code::NotInEffect, at, message)
                .help("give prefixes of the other family, or comment the block out");
            return;
        }
        if mark != Mark::NONE {
            self.places.entry(mark).or_insert(at);
        }
        for rule in rules {
            self.add(rule, at, reporter);
        }
    }

    fn add(&mut self, rule: MarkRule, at: Extent, reporter: &mut Reporter) {
        if let Some((_, first)) = self.rules.iter().find(|(known, _)| *known == rule) {
            let message = format!("this rule is there already: {rule}");
            reporter
                .warning(Code::Duplicate, at, message)
                .help("remove one of the two")
                .related(*first, "first given here");
            return;
        }
        let before = self.rules.iter().find(|(known, _)| known.covers(&rule));
        if let Some((known, first)) = before
            && known.mark != rule.mark
        {
            let message = format!("this rule is never reached: {rule}");
            reporter
                .warning(Code::NoEffect, at, message)
                .help("the first rule that matches counts: put the narrower block first")
                .related(*first, format!("all its packets get mark {} here", known.mark));
        }
        self.rules.push((rule, at));
    }

    /// Says which services no packet reaches, and which marks lead nowhere.
    pub fn compare(
        &self,
        services: &[DesiredService],
        places: &HashMap<ServiceKey, Extent>,
        reporter: &mut Reporter,
    ) {
        let served: BTreeSet<u32> =
            services.iter().filter_map(mark_of).map(|(mark, _)| mark).collect();
        let mut unserved: Vec<_> =
            self.places.iter().filter(|(mark, _)| !served.contains(&mark.get())).collect();
        unserved.sort_unstable();
        for (mark, at) in unserved {
            let message = format!("no virtual server has mark {mark}: its packets pass untouched");
            reporter
                .warning(Code::NoEffect, *at, message)
                .help(format!("add `virtual_server fwmark {mark} {{`, or remove this block"));
        }
        let given = |mark: u32| self.places.keys().any(|known| known.get() == mark);
        for desired in services {
            let Some((mark, family)) = mark_of(desired) else { continue };
            let reached = |rule: &MarkRule| {
                rule.mark.get() == mark && rule.family().is_none_or(|of| of == family)
            };
            if self.rules.iter().any(|(rule, _)| reached(rule)) {
                continue;
            }
            let Some(at) = places.get(&desired.service.key).copied() else { continue };
            let message = if given(mark) {
                let name = family_name(family);
                format!(
                    "no `mark` block gives mark {mark} to {name}: no packet reaches this service"
                )
            } else {
                format!("no `mark` block gives mark {mark}: no packet reaches this service")
            };
            reporter
                .warning(Code::NoEffect, at, message)
                .help("marks of iptables and nftables come too late for XDP; `elvs mark import` reads their rules");
        }
    }

    pub fn finish(self) -> MarkRules {
        self.rules.into_iter().map(|(rule, _)| rule).collect()
    }
}

/// Mark and family of a service by firewall mark.
const fn mark_of(service: &DesiredService) -> Option<(u32, Family)> {
    match service.service.key {
        ServiceKey::Fwmark { mark, family } => Some((mark, family)),
        ServiceKey::Address { .. } => None,
    }
}

const fn family_name(family: Family) -> &'static str {
    match family {
        Family::Inet => "IPv4",
        Family::Inet6 => "IPv6",
    }
}

impl Criteria {
    fn read(item: &Item, reporter: &mut Reporter) -> Self {
        let mut criteria = Self::default();
        for item in item.items() {
            if reporter.is_full() {
                break;
            }
            let refused = &mut criteria.refused;
            match item.keyword.text.as_str() {
                "source" => values(item, &mut criteria.sources, refused, reporter),
                "destination" => values(item, &mut criteria.destinations, refused, reporter),
                "protocol" => values(item, &mut criteria.protocols, refused, reporter),
                "source_port" => {
                    criteria.ports_at.get_or_insert_with(|| item.head());
                    values(item, &mut criteria.source_ports, refused, reporter);
                }
                "destination_port" => {
                    criteria.ports_at.get_or_insert_with(|| item.head());
                    values(item, &mut criteria.destination_ports, refused, reporter);
                }
                "interface" => values(item, &mut criteria.interfaces, refused, reporter),
                _ => {}
            }
        }
        criteria
    }

    /// Whether ports, if there are any, stand beside protocols that have some; says so if not.
    fn check_ports(&self, item: &Item, reporter: &mut Reporter) -> bool {
        let Some(at) = self.ports_at else { return true };
        if let Some(without) = self.protocols.iter().find(|p| p.transport().is_none()) {
            reporter
                .error(Code::InvalidValue, at, format!("protocol {without} has no ports"))
                .help("write a `mark` block of its own for it");
            return false;
        }
        if self.protocols.is_empty() {
            let message = "ports without a protocol";
            let help = "add `protocol tcp`, `protocol udp` or `protocol sctp`, or several of them";
            let finding = reporter.error(Code::MissingArgument, at, message);
            finding.help(help).related(item.head(), "in this block");
            return false;
        }
        true
    }

    /// One rule for each combination; `None` if there are more than `most`.
    fn rules(&self, mark: Mark, most: usize) -> Option<Vec<MarkRule>> {
        let mut rules = vec![MarkRule::new(mark)];
        multiply(&mut rules, &self.sources, most, |rule, source| rule.source = Some(source))?;
        multiply(&mut rules, &self.destinations, most, |rule, destination| {
            rule.destination = Some(destination);
        })?;
        rules.retain(|rule| rule.check().is_ok());
        multiply(&mut rules, &self.protocols, most, |rule, protocol| {
            rule.protocol = Some(protocol);
        })?;
        multiply(&mut rules, &self.source_ports, most, |rule, ports| {
            rule.source_ports = Some(ports);
        })?;
        multiply(&mut rules, &self.destination_ports, most, |rule, ports| {
            rule.destination_ports = Some(ports);
        })?;
        multiply(&mut rules, &self.interfaces, most, |rule, name| rule.interface = Some(name))?;
        Some(rules)
    }
}

/// Replaces each rule by one with each of `values`; with none the rules stay. `None` if there would be more than `most`.
fn multiply<T: Clone>(
    rules: &mut Vec<MarkRule>,
    values: &[T],
    most: usize,
    set: impl Fn(&mut MarkRule, T),
) -> Option<()> {
    if rules.len().saturating_mul(values.len().max(1)) > most {
        return None;
    }
    if !values.is_empty() {
        let with = |rule: MarkRule| {
            let set = &set;
            values.iter().map(move |value| {
                let mut rule = rule.clone();
                set(&mut rule, value.clone());
                rule
            })
        };
        *rules = core::mem::take(rules).into_iter().flat_map(with).collect();
    }
    Some(())
}

/// The arguments of a statement.
fn values<T: FromStr<Err = MarkSyntaxError> + PartialEq>(
    item: &Item,
    place: &mut Vec<T>,
    refused: &mut bool,
    reporter: &mut Reporter,
) {
    for word in &item.arguments {
        match value(word, reporter) {
            Some(value) if place.contains(&value) => {
                let message = format!("{} is given twice in this block", quote(&word.text));
                reporter.warning(Code::Duplicate, word.extent, message).help("remove one");
            }
            Some(value) => place.push(value),
            None => *refused = true,
        }
    }
}

/// A value, whose refusal says what to write instead.
fn value<T: FromStr<Err = MarkSyntaxError>>(word: &Word, reporter: &mut Reporter) -> Option<T> {
    let error = match word.text.parse() {
        Ok(value) => return Some(value),
        Err(error) => error,
    };
    let message = error.to_string().replacen(&format!("`{}`", word.text), &quote(&word.text), 1);
    let (message, help) = match message.rsplit_once(": write ") {
        Some((message, help)) => (message.to_owned(), Some(format!("write {help}"))),
        None => (message, None),
    };
    reporter.error(Code::InvalidValue, word.extent, message).help_if(help);
    None
}
