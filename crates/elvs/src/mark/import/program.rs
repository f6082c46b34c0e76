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

use super::cell::{Cell, Packets, covers};

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
    pub packets: Packets,
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
        // What left the last hook is at the start of this one.
        walk.resume(0);
        walk.chain(chain, &Packets::of(vec![entering.clone()]), BASE);
    }
    walk.finish()
}

/// What became of some packets so far.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    /// Their mark; 0 = none.
    mark: u32,
    place: Place,
    /// A rule that sends some of them elsewhere, nobody can say which; and where they would go on.
    doubt: Option<(usize, usize)>,
}

/// Where packets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// At the rule that is walked.
    Here,
    /// On their way back to the chain at this depth; 0 = out of the hook.
    Leaving(usize),
    /// Nowhere.
    Dropped,
}

/// A chain that is walked.
#[derive(Clone, Copy, Debug)]
struct Frame {
    depth: usize,
    /// Depth of the chain that RETURN leads to.
    back: usize,
}

/// A chain of a hook.
const BASE: Frame = Frame { depth: 1, back: 0 };

struct Walk<'a> {
    program: &'a Program,
    /// Chains in which, or below which, something happens to marks or to packets.
    relevant: BTreeSet<&'a ChainId>,
    /// What became of every packet: the first cell that it is in says it.
    states: Vec<(Cell, State)>,
    skipped: BTreeMap<usize, String>,
    met: BTreeSet<usize>,
    steps: usize,
}

impl<'a> Walk<'a> {
    fn new(program: &'a Program) -> Self {
        let start = State { mark: 0, place: Place::Here, doubt: None };
        Self {
            program,
            relevant: relevant(program),
            states: vec![(Cell::default(), start)],
            skipped: BTreeMap::new(),
            met: BTreeSet::new(),
            steps: 0,
        }
    }

    fn chain(&mut self, id: &ChainId, entering: &Packets, frame: Frame) {
        for &index in self.program.chains.get(id).map_or(&[][..], Vec::as_slice) {
            let Some(rule) = self.program.rules.get(index) else { continue };
            self.met.insert(index);
            self.steps += 1;
            if self.steps > MAX_STEPS || frame.depth > MAX_DEPTH {
                self.skip(index, "chains lead to each other too often");
                return;
            }
            let Some(packets) = entering.and(&rule.packets) else {
                self.skip(index, TOO_MANY);
                continue;
            };
            for action in &rule.actions {
                self.action(index, rule, action, &packets, frame);
            }
        }
    }

    fn action(
        &mut self,
        index: usize,
        rule: &Rule,
        action: &Action,
        packets: &Packets,
        frame: Frame,
    ) {
        match action {
            Action::Return => self.send(index, rule, packets, Place::Leaving(frame.back)),
            Action::Accept => self.send(index, rule, packets, Place::Leaving(0)),
            Action::Drop => self.send(index, rule, packets, Place::Dropped),
            Action::Unknown(reason) => self.skip(index, reason),
            Action::Mark { value, mask } => match &rule.inexact {
                Some(reason) => self.skip(index, reason),
                None => self.mark(index, packets, *value, *mask),
            },
            Action::Jump(to) => self.enter(index, rule, to, packets, frame, frame.depth),
            Action::Goto(to) => {
                self.enter(index, rule, to, packets, frame, frame.back);
                self.send(index, rule, packets, Place::Leaving(frame.back));
            }
        }
    }

    /// Walks through another chain, from which RETURN leads to the depth `back`.
    fn enter(
        &mut self,
        index: usize,
        rule: &Rule,
        to: &ChainId,
        packets: &Packets,
        frame: Frame,
        back: usize,
    ) {
        if !self.relevant.contains(to) {
            if !self.program.chains.contains_key(to) {
                self.skip(index, format!("there is no chain {}", to.name));
            }
        } else if let Some(reason) = &rule.inexact {
            self.skip(index, reason);
        } else {
            self.chain(to, packets, Frame { depth: frame.depth + 1, back });
            self.resume(frame.depth);
        }
    }

    /// Packets that were on their way to this depth are there.
    fn resume(&mut self, depth: usize) {
        for (_, state) in &mut self.states {
            if state.place == Place::Leaving(depth) {
                state.place = Place::Here;
            }
            state.doubt = state.doubt.filter(|(_, to)| *to < depth);
        }
    }

    fn skip(&mut self, rule: usize, reason: impl Into<String>) {
        self.skipped.entry(rule).or_insert_with(|| reason.into());
    }

    fn mark(&mut self, index: usize, packets: &Packets, value: u32, mask: u32) {
        let mut doubts = BTreeSet::new();
        self.change(index, packets, |state| {
            doubts.extend(state.doubt.map(|(rule, _)| rule));
            State { mark: (state.mark & !mask) ^ value, ..state.clone() }
        });
        for doubtful in doubts {
            let reason = self.program.rules.get(doubtful).and_then(|rule| rule.inexact.as_ref());
            let reason = reason.map_or("", String::as_str);
            self.skip(doubtful, format!("{reason}; its packets get the marks that follow it"));
        }
    }

    /// Packets go elsewhere.
    fn send(&mut self, index: usize, rule: &Rule, packets: &Packets, place: Place) {
        if rule.inexact.is_none() {
            return self.change(index, packets, |state| State { place, ..state.clone() });
        }
        let to = match place {
            Place::Leaving(depth) => depth,
            Place::Here | Place::Dropped => 0,
        };
        let mut marked = false;
        self.change(index, packets, |state| {
            marked |= state.mark != 0;
            State { doubt: state.doubt.or(Some((index, to))), ..state.clone() }
        });
        if let (Place::Dropped, true, Some(reason)) = (place, marked, &rule.inexact) {
            self.skip(index, format!("{reason}; its packets keep the marks before it"));
        }
    }

    /// Changes what became of the packets that are here; if mark rules cannot say it, the rule is skipped.
    fn change(&mut self, index: usize, packets: &Packets, mut change: impl FnMut(&State) -> State) {
        // Packets that are elsewhere stay before the others, so no rule need say again that it is not about them.
        let away = self.states.iter().take_while(|(_, state)| state.place != Place::Here).count();
        let (away, present) = self.states.split_at(away);
        let mut newer: Vec<(Cell, State)> = Vec::new();
        for (cell, match_) in &packets.0 {
            if away.iter().any(|(gone, _)| covers(gone, cell)) {
                continue;
            }
            let begin = newer.len();
            for (known, state) in present {
                let Some(common) = cell.intersect(known) else { continue };
                let here = *match_ && state.place == Place::Here;
                let state = if here { change(state) } else { state.clone() };
                let whole = common == *cell;
                if !newer.iter().any(|(first, _)| covers(first, &common)) {
                    newer.push((common, state));
                }
                if whole {
                    break;
                }
            }
            shorten(&mut newer, begin, cell);
        }
        if newer.len() + self.states.len() > 2 * MAX_RULES {
            return self.skip(index, TOO_MANY);
        }
        let mut states = away.to_vec();
        let kept = present.iter().filter(|(known, _)| !newer.iter().any(|(n, _)| covers(n, known)));
        let kept: Vec<_> = kept.cloned().collect();
        states.extend(newer);
        states.extend(kept);
        self.states = states;
    }

    fn finish(self) -> Converted {
        let place = |index: &usize, reason: String| {
            let rule = self.program.rules.get(*index)?;
            Some(Skipped { place: rule.place.clone(), text: rule.text.clone(), reason })
        };
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
            rules: rules(&self.states),
            elsewhere: elsewhere.collect(),
            skipped: self
                .skipped
                .iter()
                .filter_map(|(index, reason)| place(index, reason.clone()))
                .collect(),
        }
    }
}

/// Makes one cell of the last parts of `cell` that share a state.
fn shorten(states: &mut Vec<(Cell, State)>, begin: usize, cell: &Cell) {
    let Some((_, last)) = states.get(begin..).and_then(<[_]>::last).cloned() else { return };
    while states.len() > begin && states.last().is_some_and(|(_, state)| *state == last) {
        states.pop();
    }
    states.push((cell.clone(), last));
}

/// The rules that say what became of packets, without those that later ones say too.
fn rules(states: &[(Cell, State)]) -> Vec<MarkRule> {
    // From the last to the first.
    let mut kept: Vec<(&Cell, u32)> = Vec::new();
    for (cell, state) in states.iter().rev() {
        let mark = if state.place == Place::Dropped { 0 } else { state.mark };
        if differs(cell, mark, &kept) {
            kept.push((cell, mark));
        }
    }
    kept.into_iter().rev().map(|(cell, mark)| cell.rule(Mark(mark))).collect()
}

/// Whether packets of a cell get another mark by the rules behind it, which stand from the last to the first.
fn differs(cell: &Cell, mark: u32, behind: &[(&Cell, u32)]) -> bool {
    for (known, theirs) in behind.iter().rev() {
        if *theirs != mark && known.intersect(cell).is_some() {
            return true;
        }
        if covers(known, cell) {
            return false;
        }
    }
    mark != 0
}

/// Why a rule that multiplies is not taken over.
pub(super) const TOO_MANY: &str = "it would take more than 4096 mark rules";

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
