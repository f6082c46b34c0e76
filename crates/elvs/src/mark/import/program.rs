//! Chains of rules, as iptables and nftables run them, turned into mark rules.
//!
//! Setting a mark ends no chain there, so the last rule that matches counts; of mark rules the first one does. So the walk
//! goes through the rules in the order in which a packet meets them and puts what each one does before what came earlier.
//!
//! **Invariant:** the mark rules give every packet the mark that the chains give it, but for the rules that are named as
//! skipped.
//!
//! Called by [`convert`](super::convert()) with what a reader made of its text.

use std::collections::{BTreeMap, BTreeSet};

use elvs_model::{Mark, MarkRule};

use super::cell::{self, Cell};

/// Most rules that one conversion makes, and most that one rule may become on the way.
pub(super) const MAX_RULES: usize = 4096;
/// Chains within chains.
const MAX_DEPTH: usize = 64;
/// Rules met, those of a chain that is jumped to twice counted twice.
const MAX_STEPS: usize = 200_000;

/// What a reader made of its text.
#[derive(Clone, Debug, Default)]
pub(super) struct Program {
    pub rules: Vec<Rule>,
    /// Rules of each chain, in order.
    pub chains: BTreeMap<ChainId, Vec<usize>>,
    /// Chains where packets enter before routing, in the order in which they run, with the packets that do.
    pub hooks: Vec<(ChainId, Cell)>,
    /// What those chains are, in a word.
    pub entry: &'static str,
}

/// A chain in its table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ChainId {
    pub table: String,
    pub name: String,
}

/// One rule.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// Where it stands: `line 12`, or `handle 4`.
    pub place: String,
    /// As it was written.
    pub text: String,
    /// Packets that match; too many if it is not exact.
    pub cells: Vec<Cell>,
    /// A part of the match that cells cannot say.
    pub inexact: Option<String>,
    /// What happens to them, in order.
    pub actions: Vec<Action>,
}

/// What happens to packets that match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// The mark becomes what it is without the bits of `mask`, and then `value` by exclusive or.
    Mark { value: u32, mask: u32 },
    /// The other chain, and then back.
    Jump(ChainId),
    /// The other chain, and not back.
    Goto(ChainId),
    /// Back to the chain before.
    Return,
    /// To the next hook.
    Accept,
    /// Nowhere.
    Drop,
    /// It sets a mark, or sends packets elsewhere, in a way that mark rules cannot.
    Unknown(String),
}

/// A rule that was not taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Where it stands: `line 12`, or `handle 4`.
    pub place: String,
    /// As it was written.
    pub text: String,
    /// Why.
    pub reason: String,
}

/// What became of a whole rule set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Converted {
    /// The rules, first to be tried first.
    pub rules: Vec<MarkRule>,
    /// Rules that matter and could not be taken over.
    pub skipped: Vec<Skipped>,
    /// Rules that set marks where packets to virtual services do not come by, or not before routing.
    pub elsewhere: Vec<Skipped>,
}

/// Turns the rules that packets meet before routing into mark rules.
pub(super) fn run(program: &Program) -> Converted {
    let mut walk = Walk::new(program);
    for (chain, entering) in &program.hooks {
        walk.accepted.clear();
        walk.chain(chain, std::slice::from_ref(entering), 0);
    }
    walk.finish()
}

/// Packets that are past the rules that follow.
#[derive(Clone, Debug)]
struct Gone {
    /// Too many, if there is a doubt.
    cells: Vec<Cell>,
    rule: usize,
    doubt: Option<Doubt>,
}

/// A rule of which cells cannot say which packets it sends elsewhere.
#[derive(Clone, Debug)]
struct Doubt {
    rule: usize,
    reason: String,
}

/// Why a rule that multiplies is not taken over.
pub(super) const TOO_MANY: &str = "it would take more than 4096 mark rules";

struct Walk<'a> {
    program: &'a Program,
    /// Chains in which, or below which, something happens to marks or to packets.
    relevant: BTreeSet<&'a ChainId>,
    /// What packets have so far: the first cell that one is in gives its mark, which may be 0.
    marks: Vec<(Cell, u32)>,
    /// Packets that went back from the chain that is walked.
    returned: Vec<Gone>,
    /// Packets that left the hook.
    accepted: Vec<Gone>,
    /// Packets that are no more.
    dropped: Vec<Gone>,
    skipped: BTreeMap<usize, String>,
    met: BTreeSet<usize>,
    steps: usize,
}

impl<'a> Walk<'a> {
    fn new(program: &'a Program) -> Self {
        Self {
            program,
            relevant: relevant(program),
            marks: Vec::new(),
            returned: Vec::new(),
            accepted: Vec::new(),
            dropped: Vec::new(),
            skipped: BTreeMap::new(),
            met: BTreeSet::new(),
            steps: 0,
        }
    }

    fn chain(&mut self, id: &ChainId, entering: &[Cell], depth: usize) {
        let before = self.returned.len();
        for &index in self.program.chains.get(id).map_or(&[][..], Vec::as_slice) {
            let Some(rule) = self.program.rules.get(index) else { continue };
            self.met.insert(index);
            self.steps += 1;
            if self.steps > MAX_STEPS || depth > MAX_DEPTH {
                self.skip(index, "chains lead to each other too often");
                break;
            }
            let cells = cell::intersect(entering, &rule.cells);
            if cells.is_empty() {
                continue;
            }
            if cells.len() > MAX_RULES {
                self.skip(index, TOO_MANY);
                continue;
            }
            for action in &rule.actions {
                self.action(index, rule, action, &cells, depth);
            }
        }
        self.returned.truncate(before);
    }

    fn action(&mut self, index: usize, rule: &Rule, action: &Action, cells: &[Cell], depth: usize) {
        match action {
            Action::Return => {
                let gone = self.leaving(index, rule, cells);
                self.returned.push(gone);
            }
            Action::Accept => {
                let gone = self.leaving(index, rule, cells);
                self.accepted.push(gone);
            }
            Action::Drop => {
                let gone = self.leaving(index, rule, cells);
                self.unmark(&gone);
                self.dropped.push(gone);
            }
            Action::Unknown(reason) => self.skip(index, reason),
            Action::Mark { .. } | Action::Jump(_) | Action::Goto(_) => {
                if let (Action::Jump(to) | Action::Goto(to), false) =
                    (action, self.leads_to_something(action))
                {
                    if !self.program.chains.contains_key(to) {
                        self.skip(index, format!("there is no chain {}", to.name));
                    }
                } else if let Some(reason) = &rule.inexact {
                    self.skip(index, reason);
                } else if let Action::Mark { value, mask } = *action {
                    self.mark(index, cells, value, mask);
                } else if let Action::Jump(to) | Action::Goto(to) = action {
                    self.chain(to, cells, depth + 1);
                }
                if let Action::Goto(_) = action {
                    let gone = self.leaving(index, rule, cells);
                    self.returned.push(gone);
                }
            }
        }
    }

    fn leads_to_something(&self, action: &Action) -> bool {
        match action {
            Action::Jump(to) | Action::Goto(to) => self.relevant.contains(to),
            Action::Mark { .. }
            | Action::Return
            | Action::Accept
            | Action::Drop
            | Action::Unknown(_) => true,
        }
    }

    fn skip(&mut self, rule: usize, reason: impl Into<String>) {
        self.skipped.entry(rule).or_insert_with(|| reason.into());
    }

    /// Those of `cells` that have not gone elsewhere, and what cannot be told of that.
    fn present(&self, cells: &[Cell]) -> (Vec<Cell>, Vec<Doubt>) {
        let mut present = cells.to_vec();
        let mut doubts = Vec::new();
        for gone in [&self.returned, &self.accepted, &self.dropped].into_iter().flatten() {
            for away in &gone.cells {
                if !present.iter().any(|cell| cell.intersect(away).is_some()) {
                    continue;
                }
                if let Some(doubt) = &gone.doubt {
                    doubts.push(doubt.clone());
                    break;
                }
                match cell::subtract(&present, away) {
                    Ok(rest) if rest.len() <= MAX_RULES => present = rest,
                    Ok(_) => doubts.push(Doubt { rule: gone.rule, reason: TOO_MANY.to_owned() }),
                    Err(reason) => {
                        doubts.push(Doubt { rule: gone.rule, reason: reason.to_owned() });
                    }
                }
            }
        }
        (present, doubts)
    }

    /// Packets of `cells` that a rule sends elsewhere for good: not those that were gone before.
    fn leaving(&self, index: usize, rule: &Rule, cells: &[Cell]) -> Gone {
        let (cells, doubts) = self.present(cells);
        let inexact = rule.inexact.clone().map(|reason| Doubt { rule: index, reason });
        Gone { cells, rule: index, doubt: inexact.or_else(|| doubts.into_iter().next()) }
    }

    fn mark(&mut self, rule: usize, cells: &[Cell], value: u32, mask: u32) {
        let change = |old: u32| (old & !mask) ^ value;
        let (present, doubts) = self.present(cells);
        for Doubt { rule, reason } in doubts {
            self.skip(rule, format!("{reason}; its packets get the marks that follow it"));
        }
        let mut marks: Vec<(Cell, u32)> = Vec::new();
        if mask != u32::MAX {
            for (known, old) in &self.marks {
                let common = present.iter().filter_map(|cell| cell.intersect(known));
                marks.extend(common.map(|cell| (cell, change(*old))));
            }
        }
        marks.extend(present.into_iter().map(|cell| (cell, change(0))));
        self.replace(rule, &marks);
    }

    /// Packets that are dropped have no mark, whatever was set before.
    fn unmark(&mut self, gone: &Gone) {
        let touched = |cell: &Cell| gone.cells.iter().any(|away| away.intersect(cell).is_some());
        if !self.marks.iter().any(|(cell, _)| touched(cell)) {
            return;
        }
        if let Some(Doubt { rule, reason }) = &gone.doubt {
            return self.skip(*rule, format!("{reason}; its packets keep the marks before it"));
        }
        let marks: Vec<_> = gone.cells.iter().map(|cell| (cell.clone(), 0)).collect();
        self.replace(gone.rule, &marks);
    }

    /// Puts marks in force if mark rules can say them; else the rule that makes them so is skipped.
    fn replace(&mut self, rule: usize, newer: &[(Cell, u32)]) {
        match settled(newer, &self.marks) {
            Ok(marks) => self.marks = marks,
            Err(reason) => self.skip(rule, reason),
        }
    }

    fn finish(self) -> Converted {
        let place = |index: &usize, reason: String| {
            let rule = self.program.rules.get(*index)?;
            Some(Skipped { place: rule.place.clone(), text: rule.text.clone(), reason })
        };
        let marks = self.marks.iter().filter_map(|(cell, mark)| {
            let mark = core::num::NonZeroU32::new(*mark)?;
            Some(cell.rule(Mark(mark)))
        });
        let chains = self.program.chains.iter();
        let chain_of: BTreeMap<usize, &ChainId> =
            chains.flat_map(|(id, rules)| rules.iter().map(move |index| (*index, id))).collect();
        let unmet = self.program.rules.iter().enumerate().filter(|(index, rule)| {
            let marking = |action: &Action| matches!(action, Action::Mark { .. });
            !self.met.contains(index) && rule.actions.iter().any(marking)
        });
        let elsewhere = unmet.filter_map(|(index, _)| {
            let ChainId { table, name } = chain_of.get(&index)?;
            let entry = self.program.entry;
            place(&index, format!("{entry} does not lead to chain {name} of table {table}"))
        });
        Converted {
            rules: marks.collect(),
            elsewhere: elsewhere.collect(),
            skipped: self
                .skipped
                .iter()
                .filter_map(|(index, reason)| place(index, reason.clone()))
                .collect(),
        }
    }
}

/// `newer` before `older`, without marks of 0 and without those that are never reached; `older` has none of either.
///
/// # Errors
/// Why packets that lost their mark cannot be told from those that keep it, or that there are too many.
fn settled(newer: &[(Cell, u32)], older: &[(Cell, u32)]) -> Result<Vec<(Cell, u32)>, String> {
    let mut settled: Vec<(Cell, u32)> = Vec::with_capacity(newer.len() + older.len());
    let mut cleared: Vec<&Cell> = Vec::new();
    let mut of_newer = 0;
    for (index, (cell, mark)) in newer.iter().chain(older).enumerate() {
        if index <= newer.len() {
            of_newer = settled.len();
        }
        if *mark == 0 {
            cleared.push(cell);
            continue;
        }
        let mut parts = vec![cell.clone()];
        for cleared in &cleared {
            parts = cell::subtract(&parts, cleared)?;
        }
        parts.retain(|part| !settled.iter().take(of_newer).any(|(known, _)| covers(known, part)));
        settled.extend(parts.into_iter().map(|part| (part, *mark)));
        if settled.len() > MAX_RULES {
            return Err(TOO_MANY.to_owned());
        }
    }
    Ok(settled)
}

fn covers(outer: &Cell, inner: &Cell) -> bool {
    outer.intersect(inner).as_ref() == Some(inner)
}

/// Chains in which, or below which, something happens that a walk must see.
fn relevant(program: &Program) -> BTreeSet<&ChainId> {
    let acts = |action: &Action, relevant: &BTreeSet<&ChainId>| match action {
        Action::Mark { .. } | Action::Accept | Action::Drop | Action::Unknown(_) => true,
        // It only leads back to where the walk is.
        Action::Return => false,
        Action::Jump(to) | Action::Goto(to) => relevant.contains(to),
    };
    let mut relevant = BTreeSet::new();
    loop {
        let found: Vec<_> = program
            .chains
            .iter()
            .filter(|(id, _)| !relevant.contains(id))
            .filter(|(_, rules)| {
                let rules = rules.iter().filter_map(|index| program.rules.get(*index));
                rules.flat_map(|rule| &rule.actions).any(|action| acts(action, &relevant))
            })
            .map(|(id, _)| id)
            .collect();
        if found.is_empty() {
            return relevant;
        }
        relevant.extend(found);
    }
}
