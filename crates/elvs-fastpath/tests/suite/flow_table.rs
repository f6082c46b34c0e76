//! The flow table against a model of it, on tables so small that chains overlap and fill up.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use elvs_common::{BUCKET_SLOTS, CHAIN_BUCKETS, Control, Method, TCP, UDP, chain_offset};
use elvs_fastpath::{
    Eviction, FlowKey, Insertion, NewFlow, destination_of, find_flow, flow_hash, home_bucket,
    insert_flow, ports_of, release_flow,
};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::support::{Director, check_flows};

/// What a connection of these tests is judged by: its tick.
const EXPIRED: u32 = 0;
const HALF_OPEN: u32 = 1;
const STAYS: u32 = 2;

fn judge(control: Control) -> Eviction {
    match control.tick() {
        EXPIRED => Eviction::Expired,
        HALF_OPEN => Eviction::HalfOpen,
        _ => Eviction::Keep,
    }
}

/// A hash whose home is `home` in a table of `buckets`, and whose low bits vary with `number`.
fn hash_to(home: u32, buckets: u32, number: u32) -> u64 {
    let high = (u64::from(home) << 32).div_ceil(u64::from(buckets));
    let hash = high << 32 | u64::from(number);
    assert_eq!(home_bucket(hash, buckets), home);
    hash
}

fn flow(number: u32, home: u32, buckets: u32, tick: u32) -> NewFlow {
    // The protocol is part of the key: of two neighbours only that tells them apart.
    let protocol = if number.is_multiple_of(2) { TCP } else { UDP };
    NewFlow {
        key: FlowKey::new(7, 9, (number / 2) as u16, 80, protocol),
        hash: hash_to(home, buckets, number),
        control: Control::live(protocol, 0, Method::Dr, false, tick),
        destination: number,
    }
}

/// Control word, bucket and destination of a connection as the code under test finds it.
fn find(director: &Director, flow: &NewFlow) -> Option<(Control, u32, u32)> {
    let matches = |_: Control, addresses: u64, ports_destination: u64| {
        addresses == flow.key.addresses && ports_of(ports_destination) == flow.key.ports
    };
    let buckets = director.settings.buckets;
    find_flow(director, flow.hash, buckets, flow.key.protocol, &matches)
        .map(|found| (found.control, found.bucket, destination_of(found.ports_destination)))
}

/// Buckets of the chain of a home bucket, in order.
fn chain(home: u32) -> impl Iterator<Item = u32> {
    (0..CHAIN_BUCKETS).map(move |distance| home + chain_offset(distance))
}

/// Connections that the chain of one home bucket holds.
const CAPACITY: u32 = CHAIN_BUCKETS * BUCKET_SLOTS as u32;

fn release(director: &Director, flow: &NewFlow, control: Control) -> bool {
    let Some((bucket, slot)) = director.place(flow.key) else { return false };
    release_flow(director, bucket, slot, control)
}

/// The table as it should be: bucket and tick by number of the flow.
struct Model {
    buckets: u32,
    live: HashMap<u32, (u32, u32)>,
}

impl Model {
    fn free_in(&self, bucket: u32) -> usize {
        BUCKET_SLOTS - self.live.values().filter(|(b, _)| *b == bucket).count()
    }

    fn chain_has(&self, home: u32, tick: u32) -> bool {
        self.live.values().any(|(b, t)| *t == tick && chain(home).any(|bucket| bucket == *b))
    }
}

#[derive(Clone, Debug)]
enum Op {
    Insert { number: u32, tick: u32 },
    Release { number: u32 },
    ReleaseWithOldWord { number: u32 },
    Touch { number: u32, tick: u32 },
}

const NUMBERS: u32 = 400;

fn op() -> impl Strategy<Value = Op> {
    let number = 0..NUMBERS;
    prop_oneof![
        8 => (number.clone(), 0..=STAYS).prop_map(|(number, tick)| Op::Insert { number, tick }),
        2 => number.clone().prop_map(|number| Op::Release { number }),
        1 => number.clone().prop_map(|number| Op::ReleaseWithOldWord { number }),
        1 => (number, 0..=STAYS).prop_map(|(number, tick)| Op::Touch { number, tick }),
    ]
}

/// Homes are crowded towards the low buckets, so that connections are displaced.
const fn home_of(number: u32, buckets: u32) -> u32 {
    (number % 7) * (number % 5) % buckets
}

fn apply(director: &Director, model: &mut Model, op: &Op) {
    let buckets = model.buckets;
    match *op {
        Op::Insert { number, tick } => {
            let home = home_of(number, buckets);
            let flow = flow(number, home, buckets, tick);
            let inserted = insert_flow(director, buckets, &flow, &judge);
            let nearest = chain(home).find(|bucket| model.free_in(*bucket) > 0);
            if model.live.contains_key(&number) {
                assert_eq!((inserted.outcome, inserted.destination), (Insertion::Exists, number));
            } else if let Some(nearest) = nearest {
                assert_eq!(inserted.outcome, Insertion::Done);
                let (_, bucket, _) = find(director, &flow).unwrap();
                assert_eq!(bucket, nearest, "the first bucket of the chain with room");
                model.live.insert(number, (bucket, tick));
            } else {
                let (outcome, victims) = if model.chain_has(home, EXPIRED) {
                    (Insertion::EvictedExpired, EXPIRED)
                } else if model.chain_has(home, HALF_OPEN) {
                    (Insertion::EvictedHalfOpen, HALF_OPEN)
                } else {
                    assert_eq!(inserted.outcome, Insertion::Full);
                    return;
                };
                assert_eq!(inserted.outcome, outcome);
                let (bucket, tick_of_victim) = model.live.remove(&inserted.destination).unwrap();
                assert_eq!(tick_of_victim, victims);
                assert_eq!(inserted.control.tick(), victims);
                model.live.insert(number, (bucket, tick));
            }
        }
        Op::Release { number } => {
            let flow = flow(number, home_of(number, buckets), buckets, 0);
            let control = find(director, &flow).map(|(control, ..)| control);
            assert_eq!(control.is_some(), model.live.remove(&number).is_some());
            if let Some(control) = control {
                assert!(release(director, &flow, control));
            }
        }
        Op::ReleaseWithOldWord { number } => {
            let flow = flow(number, home_of(number, buckets), buckets, 0);
            if let Some((control, ..)) = find(director, &flow) {
                let old = control.with_tick(control.tick().wrapping_sub(1));
                assert!(!release(director, &flow, old), "freed on an outdated decision");
            }
        }
        Op::Touch { number, tick } => {
            let flow = flow(number, home_of(number, buckets), buckets, 0);
            if let Some((control, ..)) = find(director, &flow) {
                let (_, slot) = director.place(flow.key).unwrap();
                slot.control.store(control.with_tick(tick).0, Ordering::Relaxed);
                model.live.get_mut(&number).unwrap().1 = tick;
            }
        }
    }
}

fn compare(director: &Director, model: &Model) {
    check_flows(director);
    assert_eq!(director.live().count(), model.live.len());
    for number in 0..NUMBERS {
        let wanted = model.live.get(&number).map(|(bucket, tick)| (*bucket, *tick, number));
        let flow = flow(number, home_of(number, model.buckets), model.buckets, 0);
        let found = find(director, &flow)
            .map(|(control, bucket, destination)| (bucket, control.tick(), destination));
        assert_eq!(found, wanted, "flow {number}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        rng_seed: RngSeed::Fixed(0xf10),
        ..ProptestConfig::default()
    })]

    #[test]
    fn random_operations_are_those_of_the_model(
        buckets in 1_u32..6,
        ops in proptest::collection::vec(op(), 1..800),
    ) {
        let director = Director::new(buckets);
        let mut model = Model { buckets, live: HashMap::new() };
        for op in &ops {
            apply(&director, &mut model, op);
        }
        compare(&director, &model);
    }

    #[test]
    fn homes_are_in_the_table(
        client in any::<u32>(), port in any::<u16>(), protocol in any::<u8>(),
        seed in any::<[u64; 2]>(), buckets in 1_u32..,
    ) {
        prop_assert!(home_bucket(flow_hash(client, port, protocol, seed), buckets) < buckets);
    }
}

#[test]
fn every_step_of_a_long_run_is_that_of_the_model() {
    let director = Director::new(3);
    let mut model = Model { buckets: 3, live: HashMap::new() };
    let mut random = crate::support::Random::new(5);
    for _ in 0..3_000 {
        let number = random.below(NUMBERS as usize) as u32;
        let tick = random.below(3) as u32;
        let op = match random.below(8) {
            0 => Op::Release { number },
            1 => Op::ReleaseWithOldWord { number },
            2 => Op::Touch { number, tick },
            _ => Op::Insert { number, tick },
        };
        apply(&director, &mut model, &op);
        compare(&director, &model);
    }
}

/// A full chain in which slot `odd` has another tick than the rest.
fn full_chain(rest: u32, odd: Option<(u32, u32)>) -> Director {
    let director = Director::new(1);
    for number in 0..CAPACITY {
        let tick = odd.filter(|(at, _)| *at == number).map_or(rest, |(_, tick)| tick);
        let inserted = insert_flow(&director, 1, &flow(number, 0, 1, tick), &judge);
        assert_eq!(inserted.outcome, Insertion::Done, "flow {number}");
    }
    director
}

#[test]
fn a_full_chain_refuses_when_all_its_connections_stay() {
    let director = full_chain(STAYS, None);
    let late = flow(999, 0, 1, STAYS);
    assert_eq!(insert_flow(&director, 1, &late, &judge).outcome, Insertion::Full);
    assert!(find(&director, &late).is_none());
    check_flows(&director);
}

#[test]
fn a_full_chain_gives_up_its_only_half_open_connection_wherever_it_lies() {
    for at in 0..CAPACITY {
        let director = full_chain(STAYS, Some((at, HALF_OPEN)));
        let late = flow(999, 0, 1, STAYS);
        let inserted = insert_flow(&director, 1, &late, &judge);
        assert_eq!(
            (inserted.outcome, inserted.destination),
            (Insertion::EvictedHalfOpen, at),
            "slot {at}"
        );
        assert_eq!(find(&director, &late).unwrap().2, 999);
        check_flows(&director);
    }
}

#[test]
fn an_expired_connection_goes_before_a_half_open_one_wherever_it_lies() {
    for at in 0..CAPACITY {
        let director = full_chain(HALF_OPEN, Some((at, EXPIRED)));
        let inserted = insert_flow(&director, 1, &flow(999, 0, 1, STAYS), &judge);
        assert_eq!(
            (inserted.outcome, inserted.destination),
            (Insertion::EvictedExpired, at),
            "slot {at}"
        );
        check_flows(&director);
    }
}

#[test]
fn the_generation_rises_whenever_a_slot_is_freed_and_wraps() {
    let director = Director::new(1);
    let flow = flow(4, 0, 1, STAYS);
    for round in 0..600_u32 {
        assert_eq!(insert_flow(&director, 1, &flow, &judge).outcome, Insertion::Done);
        let (control, ..) = find(&director, &flow).unwrap();
        assert_eq!(control.0 >> 24 & 0xff, u64::from(round % 256), "generation in round {round}");
        assert!(release(&director, &flow, control));
        assert!(find(&director, &flow).is_none());
    }
}

#[test]
fn an_abandoned_lock_refuses_and_does_not_hang() {
    let director = Director::new(1);
    director.flows[0].slots[0].aux.store(1, Ordering::Relaxed);
    let inserted = insert_flow(&director, 1, &flow(1, 0, 1, STAYS), &judge);
    assert_eq!(inserted.outcome, Insertion::Contended);
}

#[test]
fn homes_spread_evenly_over_clients_that_differ_in_little() {
    const BUCKETS: u32 = 1_024;
    let mut counts = vec![0_u32; BUCKETS as usize];
    for client in 0..16_u32 {
        for port in 0..4_096_u16 {
            let address = (0x0a00_0100 + client).to_be();
            let hash = flow_hash(address, (1_024 + port).to_be(), TCP, [11, 12]);
            counts[home_bucket(hash, BUCKETS) as usize] += 1;
        }
    }
    // 65,536 keys, 64 a bucket expected, standard deviation 8: more than 6 of them off would be a bad hash.
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(*least > 16 && *most < 112, "{least}..{most} a bucket");
}
