//! What a scheduler owes each real server after so many connections, each closed before the next.
//!
//! **Invariant:** written from IPVS's rules and its recorded picks, independently of the data plane's code, because it
//! is what the data plane is judged by.
//!
//! Called by the report.

use super::options::DemoScheduler;

/// Connections each real server must have got, in the order of `weights`.
pub(super) fn owed(scheduler: DemoScheduler, weights: &[u32], connections: u16) -> Vec<u64> {
    let mut model = Model::new(scheduler, weights);
    let mut counts = vec![0; weights.len()];
    for _ in 0..connections {
        if let Some(count) = model.pick().and_then(|number| counts.get_mut(number)) {
            *count += 1;
        }
    }
    counts
}

/// One real server in the kernel's list.
struct Entry {
    /// Its place in the order in which servers were added.
    number: usize,
    weight: u64,
    /// Connections it got: all closed, so each counts 1 (`overhead = 257 * active + inactive`).
    closed: u64,
}

/// A service to which the servers were added one by one, as keepalived and ipvsadm do.
struct Model {
    scheduler: DemoScheduler,
    /// Newest first: IPVS adds at the head.
    list: Vec<Entry>,
    /// Place in `list` after the last pick: where rr and wrr go on.
    next: usize,
    /// wrr: the weight a server must have in this pass.
    current: u64,
}

impl Model {
    fn new(scheduler: DemoScheduler, weights: &[u32]) -> Self {
        let mut model = Self { scheduler, list: Vec::new(), next: 0, current: 0 };
        for (number, weight) in weights.iter().enumerate() {
            model.list.insert(0, Entry { number, weight: (*weight).into(), closed: 0 });
            model.adjust();
        }
        model
    }

    /// What wrr does when a server is added: the pass starts over, its weight is kept if it still can occur.
    fn adjust(&mut self) {
        let (step, top) = (self.step(), self.top());
        if self.current > top || self.current == 0 {
            self.current = top;
        } else if step > 1 {
            self.current = self.current / step * step + 1;
        }
    }

    /// Greatest common divisor of the weights; 1 without weights.
    fn step(&self) -> u64 {
        let divisor = self.list.iter().map(|entry| entry.weight).fold(0, gcd);
        divisor.max(1)
    }

    /// Weight the first pass asks for.
    fn top(&self) -> u64 {
        let highest = self.list.iter().map(|entry| entry.weight).max().unwrap_or(0);
        (highest + 1).saturating_sub(self.step())
    }

    /// The real server that gets the next connection.
    fn pick(&mut self) -> Option<usize> {
        let place = match self.scheduler {
            DemoScheduler::Rr => self.pick_rr(),
            DemoScheduler::Wrr => self.pick_wrr(),
            DemoScheduler::Wlc => self.pick_wlc(),
        }?;
        let entry = self.list.get_mut(place)?;
        entry.closed += 1;
        Some(entry.number)
    }

    fn pick_rr(&mut self) -> Option<usize> {
        let length = self.list.len();
        let places = (0..length).map(|step| (self.next + step) % length);
        let found = { places }.find(|place| self.list.get(*place).is_some_and(|e| e.weight > 0))?;
        self.next = found + 1;
        Some(found)
    }

    fn pick_wrr(&mut self) -> Option<usize> {
        let top = self.top();
        if top == 0 {
            return None;
        }
        loop {
            let rest = self.list.iter().enumerate().skip(self.next);
            let found = { rest }.find(|(_, entry)| entry.weight >= self.current);
            if let Some((place, _)) = found {
                self.next = place + 1;
                return Some(place);
            }
            self.next = 0;
            self.current = match self.current.saturating_sub(self.step()) {
                0 => top,
                lower => lower,
            };
        }
    }

    fn pick_wlc(&self) -> Option<usize> {
        let mut usable = self.list.iter().enumerate().filter(|(_, entry)| entry.weight > 0);
        let mut least = usable.next()?;
        for candidate in usable {
            // Strictly less: of equals the first in the list wins.
            if candidate.1.closed * least.1.weight < least.1.closed * candidate.1.weight {
                least = candidate;
            }
        }
        Some(least.0)
    }
}

/// Euclid's algorithm; 0 is the neutral element.
const fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests;
