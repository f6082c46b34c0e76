//! A service as IPVS keeps it, and whom its scheduler picks, written from IPVS's description.
//!
//! **Invariant:** nothing here calls the code under test.
//!
//! Used by the random histories.

use elvs_common::{ServiceFlags, scheduler_id};

use super::hash::{
    BUCKETS, MaglevShare, PLACES, dh_buckets, first_hash, greatest_divisor, hash_to_bucket,
    maglev_table, sh_buckets,
};

/// A real server, and what is left of it after it was removed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Server {
    pub address: u32,
    pub port: u16,
    pub weight: i64,
    /// Last weight above 0 since it was added; 0 if there was none.
    pub last_weight: i64,
    pub active: i64,
    pub inactive: i64,
    /// Thresholds; 0 = none.
    pub upper: i64,
    pub lower: i64,
    pub overloaded: bool,
}

impl Server {
    const fn is_usable(&self) -> bool {
        self.weight > 0 && !self.overloaded
    }

    /// What an active connection weighs is worth 256 inactive ones more than one that is over.
    fn overhead(&self) -> i128 {
        i128::from(self.active) * 256 + i128::from(self.active + self.inactive)
    }
}

/// Who opens a connection, and to which virtual address.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    pub client: u32,
    pub port: u16,
    pub address: u32,
}

/// A service.
pub struct Model {
    scheduler: u8,
    flags: u8,
    /// Every server there ever was, by its index.
    servers: Vec<Server>,
    /// Those that are there, newest first.
    list: Vec<u32>,
    /// rr and wrr: destination used last; none = head of the list.
    last: Option<u32>,
    /// wrr: current weight.
    current: i64,
    /// dh, sh, mh: positions in the list.
    table: Vec<usize>,
}

impl Model {
    pub const fn new(scheduler: u8, flags: u8) -> Self {
        Self {
            scheduler,
            flags,
            servers: Vec::new(),
            list: Vec::new(),
            last: None,
            current: 0,
            table: Vec::new(),
        }
    }

    pub fn pick(&mut self, opening: &Opening) -> Option<u32> {
        match self.scheduler {
            scheduler_id::RR => self.round_robin(),
            scheduler_id::WRR => self.weighted_round_robin(),
            scheduler_id::LC => self.least(|server| (server.overhead(), 1)),
            scheduler_id::WLC => self.least(|server| (server.overhead(), server.weight)),
            scheduler_id::SED => self.shortest_delay(),
            scheduler_id::NQ => {
                let idle = |server: &Server| server.active == 0;
                self.usable().find(|d| idle(self.server(*d))).or_else(|| self.shortest_delay())
            }
            scheduler_id::FO => self.heaviest(|_| true),
            scheduler_id::OVF => self.heaviest(|server| server.active <= server.weight),
            scheduler_id::DH => self.hashed(0, |_| hash_to_bucket(opening.address)),
            scheduler_id::SH => {
                let sum = self.client_sum(opening);
                self.hashed(BUCKETS, |offset| (offset + hash_to_bucket(sum)) % BUCKETS)
            }
            scheduler_id::MH => {
                let sum = self.client_sum(opening);
                self.hashed(PLACES, |offset| first_hash(sum.wrapping_add(offset)) % PLACES)
            }
            other => panic!("no model of scheduler {other}"),
        }
    }

    /// Next usable destination after the one used last, around the list once.
    fn round_robin(&mut self) -> Option<u32> {
        let start = self.after_last();
        let around = self.list[start..].iter().chain(&self.list[..start]);
        let found = around.copied().find(|d| self.server(*d).is_usable())?;
        self.last = Some(found);
        Some(found)
    }

    /// IPVS's walk, one destination at a time: whoever has at least the current weight takes the connection. At the end of
    /// the list the current weight goes one step down, or from the last step to the greatest. The walk ends without a
    /// destination when a round that everybody with a weight could have taken is over: one from the head to the end, or,
    /// after it went over the top, one back to where it began.
    fn weighted_round_robin(&mut self) -> Option<u32> {
        let step = self.divisor();
        let greatest = self.greatest_step();
        if greatest == 0 {
            return None;
        }
        let begin = self.last;
        let (mut at, mut last_round, mut over_the_top) = (self.after_last(), false, false);
        loop {
            while let Some(destination) = self.list.get(at).copied() {
                let server = self.server(destination);
                if !server.overloaded && server.weight >= self.current {
                    self.last = Some(destination);
                    return Some(destination);
                }
                if last_round && over_the_top && Some(destination) == begin {
                    return None;
                }
                at += 1;
            }
            at = 0;
            self.current -= step;
            if self.current <= 0 {
                self.current = greatest;
                if last_round || begin.is_none() {
                    self.last = None;
                    return None;
                }
                over_the_top = true;
            }
            last_round = self.current <= step;
        }
    }

    /// Whoever has the least cost per weight; the first of equals.
    fn least(&self, cost_and_weight: impl Fn(&Server) -> (i128, i64)) -> Option<u32> {
        let mut best: Option<(u32, i128, i64)> = None;
        for destination in self.usable() {
            let (cost, weight) = cost_and_weight(self.server(destination));
            let better = best.is_none_or(|(_, least, weight_of_least)| {
                cost * i128::from(weight_of_least) < least * i128::from(weight)
            });
            if better {
                best = Some((destination, cost, weight));
            }
        }
        best.map(|(destination, ..)| destination)
    }

    fn shortest_delay(&self) -> Option<u32> {
        self.least(|server| (i128::from(server.active) + 1, server.weight))
    }

    /// Greatest weight of those that will do; the first of equals.
    fn heaviest(&self, will_do: impl Fn(&Server) -> bool) -> Option<u32> {
        let candidates: Vec<u32> = self.usable().filter(|d| will_do(self.server(*d))).collect();
        let greatest = candidates.iter().map(|d| self.server(*d).weight).max()?;
        candidates.into_iter().find(|d| self.server(*d).weight == greatest)
    }

    /// Whoever has the place of the table that a hash says. With the fallback flag one that is unusable is passed over:
    /// the hash is tried with all offsets, from itself on.
    fn hashed(&self, places: u32, place: impl Fn(u32) -> u32) -> Option<u32> {
        let at = |offset| self.table.get(place(offset) as usize).map(|at| self.list[*at]);
        let is_usable = |destination: &u32| self.server(*destination).is_usable();
        let first = at(0)?;
        if is_usable(&first) {
            return Some(first);
        }
        if self.flags & ServiceFlags::FALLBACK == 0 || self.usable().next().is_none() {
            return None;
        }
        (0..places).filter_map(|n| at((n + place(0)) % places)).find(is_usable)
    }

    /// Address of the client, and its port if the flag says so.
    const fn client_sum(&self, opening: &Opening) -> u32 {
        let port = if self.flags & ServiceFlags::PORT == 0 { 0 } else { opening.port as u32 };
        opening.client.wrapping_add(port)
    }

    fn usable(&self) -> impl Iterator<Item = u32> {
        self.list.iter().copied().filter(|d| self.server(*d).is_usable())
    }

    fn after_last(&self) -> usize {
        self.last.map_or(0, |last| self.list.iter().position(|d| *d == last).unwrap() + 1)
    }

    /// Greatest number that divides all weights; 1 if there are none.
    fn divisor(&self) -> i64 {
        let weights = self.list.iter().map(|d| self.server(*d).weight);
        weights.fold(0, |divisor, weight| greatest_divisor(weight, divisor)).max(1)
    }

    /// wrr's greatest current weight: as much less than the greatest weight as makes the last step 1.
    fn greatest_step(&self) -> i64 {
        let greatest = self.list.iter().map(|d| self.server(*d).weight).max().unwrap_or(0);
        if greatest == 0 { 0 } else { greatest - (self.divisor() - 1) }
    }

    /// What a scheduler does when a destination was added, changed or removed.
    fn changed(&mut self) {
        let servers = || self.list.iter().map(|d| self.server(*d));
        match self.scheduler {
            scheduler_id::WRR => {
                self.last = None;
                let (step, greatest) = (self.divisor(), self.greatest_step());
                if self.current == 0 || self.current > greatest {
                    self.current = greatest;
                } else if step > 1 {
                    self.current = self.current / step * step + 1;
                }
            }
            scheduler_id::DH => self.table = dh_buckets(self.list.len()),
            scheduler_id::SH => {
                let weights: Vec<i64> = servers().map(|server| server.weight).collect();
                self.table = sh_buckets(&weights);
            }
            scheduler_id::MH => {
                let share = |server: &Server| MaglevShare {
                    sum: server.address.wrapping_add(server.port.into()),
                    last_weight: server.last_weight,
                };
                let shares: Vec<MaglevShare> = servers().map(share).collect();
                self.table = maglev_table(&shares);
            }
            _ => {}
        }
    }

    /// Gives the service another scheduler, which starts afresh.
    pub fn set_scheduler(&mut self, scheduler: u8, flags: u8) {
        (self.scheduler, self.flags) = (scheduler, flags);
        (self.last, self.current, self.table) = (None, 0, Vec::new());
        self.changed();
    }

    pub fn server(&self, destination: u32) -> &Server {
        &self.servers[destination as usize]
    }

    fn server_mut(&mut self, destination: u32) -> &mut Server {
        &mut self.servers[destination as usize]
    }

    /// Destinations that are there, newest first.
    pub fn list(&self) -> &[u32] {
        &self.list
    }

    /// Adds a destination. One that was there before comes back with its connections.
    pub fn add(&mut self, destination: u32, address: u32, port: u16, weight: i64) {
        if self.servers.len() <= destination as usize {
            self.servers.resize(destination as usize + 1, Server::default());
        }
        let server = self.server_mut(destination);
        *server = Server { address, port, weight, last_weight: weight, ..*server };
        self.list.insert(0, destination);
        self.changed();
    }

    pub fn remove(&mut self, destination: u32) {
        let at = self.list.iter().position(|d| *d == destination).unwrap();
        self.list.remove(at);
        if self.last == Some(destination) {
            self.last = at.checked_sub(1).map(|before| self.list[before]);
        }
        self.changed();
    }

    pub fn set_weight(&mut self, destination: u32, weight: i64) {
        let server = self.server_mut(destination);
        server.weight = weight;
        if weight != 0 {
            server.last_weight = weight;
        }
        self.changed();
    }

    /// Sets thresholds: an upper one that leaves more room than the one before, or none, ends an overload.
    pub fn set_thresholds(&mut self, destination: u32, upper: i64, lower: i64) {
        let server = self.server_mut(destination);
        if upper == 0 || upper > server.upper {
            server.overloaded = false;
        }
        (server.upper, server.lower) = (upper, lower);
    }

    /// Counts a new connection; the one that reaches the upper threshold overloads its destination.
    pub fn opened(&mut self, destination: u32) {
        let server = self.server_mut(destination);
        server.active += 1;
        if server.upper != 0 && server.active + server.inactive >= server.upper {
            server.overloaded = true;
        }
    }

    /// Counts a connection as inactive.
    pub fn closed(&mut self, destination: u32) {
        let server = self.server_mut(destination);
        server.active -= 1;
        server.inactive += 1;
    }

    /// Takes off a connection; below the lower threshold, which is three quarters of the upper one if it is not set, an
    /// overload ends.
    pub fn expired(&mut self, destination: u32, active: bool) {
        let server = self.server_mut(destination);
        *(if active { &mut server.active } else { &mut server.inactive }) -= 1;
        let lower = match server.lower {
            0 => server.upper - server.upper / 4,
            lower => lower,
        };
        if lower == 0 || server.active + server.inactive < lower {
            server.overloaded = false;
        }
    }
}
