//! The schedulers against models of IPVS's written from their description, not from the code under test.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::thread;

use elvs_common::{Counter, Method, TCP, scheduler_id};
use elvs_fastpath::{Pick, Verdict, wrr_parameters};

use crate::support::{ACK, FIN, Packet, Random, SYN, Table};

/// A service as IPVS keeps it: destinations newest first, connections per destination, the scheduler's state.
#[derive(Default)]
struct Model {
    list: Vec<u32>,
    weights: HashMap<u32, i64>,
    active: HashMap<u32, i64>,
    inactive: HashMap<u32, i64>,
    /// rr and wrr: destination used last; none = head of the list.
    last: Option<u32>,
    /// wrr: current weight.
    current: i64,
}

impl Model {
    fn pick(&mut self, scheduler: u8) -> Option<u32> {
        match scheduler {
            scheduler_id::RR => self.round_robin(),
            scheduler_id::WRR => self.weighted_round_robin(),
            _ => self.least_connections(),
        }
    }

    /// Next usable destination after the one used last, around the list once.
    fn round_robin(&mut self) -> Option<u32> {
        let start = self.after_last();
        let around = self.list[start..].iter().chain(&self.list[..start]);
        let found = around.copied().find(|d| self.weights[d] > 0)?;
        self.last = Some(found);
        Some(found)
    }

    /// IPVS's walk: one destination at a time, the current weight lowered at each end of the list.
    fn weighted_round_robin(&mut self) -> Option<u32> {
        let greatest = self.weights_in_list().max().unwrap_or(0) - (self.divisor() - 1);
        if greatest <= 0 {
            return None;
        }
        let mut at = self.after_last();
        for _ in 0..self.list.len() * 3 + 3 {
            if let Some(destination) = self.list.get(at) {
                if self.weights[destination] >= self.current {
                    self.last = Some(*destination);
                    return Some(*destination);
                }
                at += 1;
            } else {
                at = 0;
                self.current -= self.divisor();
                if self.current <= 0 {
                    self.current = greatest;
                }
            }
        }
        None
    }

    /// Least (256 active + active + inactive) / weight; the first of equals.
    fn least_connections(&self) -> Option<u32> {
        let cost = |d: &u32| 257 * i128::from(self.active[d]) + i128::from(self.inactive[d]);
        let mut best: Option<u32> = None;
        for d in self.list.iter().filter(|d| self.weights[*d] > 0) {
            let better = best.is_none_or(|b| {
                cost(d) * i128::from(self.weights[&b]) < cost(&b) * i128::from(self.weights[d])
            });
            if better {
                best = Some(*d);
            }
        }
        best
    }

    fn after_last(&self) -> usize {
        self.last.map_or(0, |last| self.list.iter().position(|d| *d == last).unwrap() + 1)
    }

    fn weights_in_list(&self) -> impl Iterator<Item = i64> {
        self.list.iter().map(|d| self.weights[d])
    }

    /// Greatest number that divides all weights, tried one by one; 1 if there are none.
    fn divisor(&self) -> i64 {
        let weights: Vec<i64> = self.weights_in_list().filter(|w| *w > 0).collect();
        let Some(least) = weights.iter().copied().min() else { return 1 };
        (1..=least).rev().find(|n| weights.iter().all(|w| w % n == 0)).unwrap()
    }

    /// What wrr does when a destination was added, changed or removed.
    fn changed(&mut self, scheduler: u8) {
        if scheduler != scheduler_id::WRR {
            return;
        }
        self.last = None;
        let divisor = self.divisor();
        let greatest = self.weights_in_list().max().unwrap_or(0) - (divisor - 1);
        if self.current == 0 || self.current > greatest {
            self.current = greatest;
        } else if divisor > 1 {
            self.current = self.current / divisor * divisor + 1;
        }
    }

    fn add(&mut self, scheduler: u8, destination: u32, weight: u32) {
        self.list.insert(0, destination);
        self.weights.insert(destination, weight.into());
        self.active.entry(destination).or_default();
        self.inactive.entry(destination).or_default();
        self.changed(scheduler);
    }

    fn remove(&mut self, scheduler: u8, destination: u32) {
        let at = self.list.iter().position(|d| *d == destination).unwrap();
        self.list.remove(at);
        if self.last == Some(destination) {
            self.last = at.checked_sub(1).map(|before| self.list[before]);
        }
        self.changed(scheduler);
    }
}

const SERVICE: &str = "192.0.2.1:80";
const WEIGHTS: [u32; 12] = [0, 0, 1, 1, 2, 3, 4, 6, 9, 12, 100, 300];
const EVENTS: u32 = 10_000;

#[derive(Clone, Copy, Debug)]
enum Event {
    Open,
    Close,
    Expire,
    Weight,
    Add,
    Remove,
}

/// Mostly traffic, now and then a change.
const MIX: [Event; 24] = {
    use Event::{Add, Close, Expire, Open, Remove, Weight};
    [
        Open, Open, Open, Open, Open, Open, Open, Open, Open, Open, Open, Open, Open, Open, Close,
        Close, Close, Close, Close, Expire, Expire, Weight, Add, Remove,
    ]
};

fn client(number: u32) -> String {
    let [_, a, b, c] = (number / 20_000).to_be_bytes();
    format!("10.{a}.{b}.{c}:{}", 1_024 + number % 20_000)
}

fn same_picks_as_the_model(scheduler: u8, seed: u64) {
    let mut random = Random::new(seed);
    let mut table = Table::new(2_048);
    let service = table.add_service(TCP, SERVICE, scheduler);
    let mut model = Model::default();
    let (mut open, mut closed) = (Vec::new(), Vec::new());
    let (mut picks, mut refusals) = (0, 0);
    for number in 0..EVENTS {
        let at = format!("scheduler {scheduler}, seed {seed}, event {number}");
        match random.of(&MIX) {
            Event::Open => {
                let syn = Packet::tcp(&client(number), SERVICE, SYN);
                let outcome = table.director.run(syn.build());
                match model.pick(scheduler) {
                    Some(wanted) => {
                        let found = table.director.destination_of_key(syn.key());
                        assert_eq!(found, Some(wanted), "{at}");
                        *model.active.get_mut(&wanted).unwrap() += 1;
                        open.push((number, wanted));
                        picks += 1;
                    }
                    None => {
                        assert_eq!(outcome.counted, [Counter::NoDestination], "{at}");
                        refusals += 1;
                    }
                }
            }
            Event::Close if !open.is_empty() => {
                let (number, destination) = open.swap_remove(random.below(open.len()));
                // Packets of a removed destination's connections are dropped and change no state.
                if model.list.contains(&destination) {
                    for flags in [ACK, FIN | ACK] {
                        let packet = Packet::tcp(&client(number), SERVICE, flags);
                        assert_eq!(
                            table.director.run(packet.build()).verdict,
                            Verdict::Transmit,
                            "{at}"
                        );
                    }
                    *model.active.get_mut(&destination).unwrap() -= 1;
                    *model.inactive.get_mut(&destination).unwrap() += 1;
                    closed.push((number, destination));
                } else {
                    open.push((number, destination));
                }
            }
            Event::Expire if !closed.is_empty() => {
                let (number, destination) = closed.swap_remove(random.below(closed.len()));
                assert!(table.director.expire(Packet::tcp(&client(number), SERVICE, 0).key()));
                *model.inactive.get_mut(&destination).unwrap() -= 1;
            }
            Event::Weight if !model.list.is_empty() => {
                let destination = *random.of(&model.list);
                let weight = *random.of(&WEIGHTS);
                // A change to the same weight is none: the daemon applies differences only.
                if model.weights[&destination] != i64::from(weight) {
                    table.set_weight(service, destination, weight);
                    model.weights.insert(destination, weight.into());
                    model.changed(scheduler);
                }
            }
            Event::Add if model.list.len() < 12 => {
                let address = format!("10.200.0.{}:80", 1 + random.below(20));
                let weight = *random.of(&WEIGHTS);
                let there = model.list.iter().any(|d| table.address(*d).to_string() == address);
                if !there {
                    let destination = table.add_destination(service, &address, Method::Dr, weight);
                    model.add(scheduler, destination, weight);
                }
            }
            Event::Remove if !model.list.is_empty() => {
                let destination = *random.of(&model.list);
                table.remove_destination(service, destination);
                model.remove(scheduler, destination);
            }
            Event::Close | Event::Expire | Event::Weight | Event::Add | Event::Remove => {}
        }
    }
    table.director.check_tables();
    assert!(picks > 4_000 && refusals > 0, "{picks} picks, {refusals} refusals: too few of one");
}

const SEEDS: [u64; 3] = [1, 20, 300];

#[test]
fn rr_picks_as_ipvs_through_random_events() {
    for seed in SEEDS {
        same_picks_as_the_model(scheduler_id::RR, seed);
    }
}

#[test]
fn wrr_picks_as_ipvs_through_random_events() {
    for seed in SEEDS {
        same_picks_as_the_model(scheduler_id::WRR, seed);
    }
}

#[test]
fn wlc_picks_as_ipvs_through_random_events() {
    for seed in SEEDS {
        same_picks_as_the_model(scheduler_id::WLC, seed);
    }
}

#[test]
fn the_largest_pool_is_scanned_to_its_end() {
    for scheduler in [scheduler_id::RR, scheduler_id::WRR, scheduler_id::WLC] {
        let mut table = Table::new(16);
        let service = table.add_service(TCP, SERVICE, scheduler);
        let last = table.add_destination(service, "10.200.0.1:80", Method::Dr, 1);
        table.add_pool(service, elvs_fastpath::MAX_POOL - 1, 0);
        for _ in 0..3 {
            assert_eq!(table.pick(service), Pick::Destination(last), "{scheduler}");
        }
        table.set_weight(service, last, 0);
        assert_eq!(table.pick(service), Pick::Nobody, "{scheduler}");
    }
}

#[test]
fn wlc_weighs_the_largest_loads_and_weights() {
    let mut table = Table::new(16);
    let service = table.add_service(TCP, SERVICE, scheduler_id::WLC);
    let heavy = table.add_destination(service, "10.200.0.1:80", Method::Dr, i32::MAX as u32);
    let light = table.add_destination(service, "10.200.0.2:80", Method::Dr, 1);
    let load = |destination: u32, word: u64| {
        table.director.loads[destination as usize].store(word, Ordering::Relaxed);
    };
    load(heavy, 16_000_000 << 32);
    load(light, 1);
    assert_eq!(table.pick(service), Pick::Destination(light));
    load(light, 2);
    assert_eq!(table.pick(service), Pick::Destination(heavy), "2 > 257 * 16e6 / 2^31");
}

/// The point of the formula where 256 and 257 for an active connection part ways.
#[test]
fn wlc_counts_an_active_connection_as_257_inactive_ones() {
    let mut table = Table::new(16);
    let service = table.add_service(TCP, SERVICE, scheduler_id::WLC);
    let idle = table.add_destination(service, "10.200.0.1:80", Method::Dr, 1);
    let busy = table.add_destination(service, "10.200.0.2:80", Method::Dr, 1);
    let load = |destination: u32, word: u64| {
        table.director.loads[destination as usize].store(word, Ordering::Relaxed);
    };
    load(busy, 1 << 32);
    for (inactive, wanted) in [(256, idle), (257, busy), (258, busy)] {
        load(idle, inactive);
        assert_eq!(table.pick(service), Pick::Destination(wanted), "{inactive} inactive");
    }
}

#[test]
fn wrr_parameters_are_divisor_and_greatest_weight_on_its_grid() {
    const CASES: &[(&[u32], (u32, u32))] = &[
        (&[], (1, 0)),
        (&[0, 0], (1, 0)),
        (&[1, 2, 3], (1, 3)),
        (&[4, 0, 8], (4, 5)),
        (&[6, 9], (3, 7)),
        (&[7], (7, 1)),
        (&[0x7fff_ffff, 1], (1, 0x7fff_ffff)),
        (&[0x7fff_ffff], (0x7fff_ffff, 1)),
    ];
    for (weights, wanted) in CASES {
        assert_eq!(wrr_parameters(weights.iter().copied()), *wanted, "{weights:?}");
    }
}

/// Picks of several CPUs at once, each counted once: nobody is skipped and nobody is picked twice.
fn shares_on_four_cpus(scheduler: u8, weights: &[u32], rounds: u32) -> Vec<u32> {
    let mut table = Table::new(16);
    let service = table.add_service(TCP, SERVICE, scheduler);
    for (number, weight) in weights.iter().enumerate() {
        table.add_destination(service, &format!("10.200.0.{number}:80"), Method::Dr, *weight);
    }
    let total = rounds * if scheduler == scheduler_id::RR { 3 } else { weights.iter().sum() };
    let counts = Mutex::new(vec![0; weights.len()]);
    let start = std::sync::Barrier::new(4);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                start.wait();
                let mut mine = vec![0; weights.len()];
                let mut left = total / 4;
                while left > 0 {
                    match table.pick(service) {
                        Pick::Destination(destination) => {
                            mine[destination as usize] += 1;
                            left -= 1;
                        }
                        Pick::Contended => {}
                        other @ (Pick::Once(_)
                        | Pick::Nobody
                        | Pick::NoTemplate
                        | Pick::NoService) => panic!("{other:?}"),
                    }
                }
                let mut all = counts.lock().unwrap();
                all.iter_mut().zip(mine).for_each(|(all, mine)| *all += mine);
            });
        }
    });
    counts.into_inner().unwrap()
}

#[test]
fn shares_are_exact_when_four_cpus_pick_at_once() {
    assert_eq!(shares_on_four_cpus(scheduler_id::RR, &[1, 1, 1], 4_000), [4_000; 3]);
    assert_eq!(shares_on_four_cpus(scheduler_id::WRR, &[1, 2, 3], 4_000), [4_000, 8_000, 12_000]);
}
