//! Power of two choices: shares of many picks against the probabilities that the description of it gives.
//!
//! **Invariant:** nothing here calls the code under test to know a probability.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use elvs_common::{Method, TCP, scheduler_id};
use elvs_fastpath::{MAX_POOL, Pick};

use super::history::socket;
use crate::support::{Random, Table};

const PICKS: u32 = 100_000;

/// A destination: weight, active and inactive connections, and whether it has reached its threshold.
type Server = (u32, u32, u32, bool);

/// Probability of each of a list (newest first) to be picked.
///
/// Twice a number from 0 to the sum of the weights, both included, is drawn and the list walked until the weights reach it;
/// the second one drawn takes the connection if its connections per weight are fewer than those of the first one.
fn probabilities(list: &[Server]) -> Vec<f64> {
    let weight = |server: &Server| if server.3 { 0.0 } else { f64::from(server.0) };
    let total: f64 = list.iter().map(weight).sum();
    let first = list.iter().position(|server| weight(server) > 0.0);
    let drawn: Vec<f64> = list
        .iter()
        .enumerate()
        .map(|(at, server)| {
            // 0 is one number more for the first one.
            (weight(server) + f64::from(u8::from(Some(at) == first))) / (total + 1.0)
        })
        .collect();
    let overhead =
        |(_, active, inactive, _): Server| u128::from(active) * 257 + u128::from(inactive);
    let less_loaded = |one: Server, other: Server| {
        overhead(one) * u128::from(other.0) < overhead(other) * u128::from(one.0)
    };
    let mut picked = vec![0.0; list.len()];
    for (a, one) in list.iter().enumerate().filter(|(a, _)| drawn[*a] > 0.0) {
        for (b, other) in list.iter().enumerate() {
            let winner = if less_loaded(*other, *one) { b } else { a };
            picked[winner] += drawn[a] * drawn[b];
        }
    }
    picked
}

/// Shares lie within five standard deviations, and one pick, of what is expected.
fn shares_as_expected(list: &[Server]) {
    let mut table = Table::new(16);
    let service = table.add_service(TCP, "192.0.2.1:80", scheduler_id::FO);
    let mut indexes = Vec::new();
    for (number, (weight, active, inactive, full)) in (1..).zip(list.iter().rev()) {
        let name = socket(0x0ac8_0000 + number, 80);
        let index = table.add_destination(service, &name, Method::Dr, *weight);
        let load = u64::from(*active) << 32 | u64::from(*inactive);
        let overload = if *full { elvs_common::DestinationLoad::OVERLOAD } else { 0 };
        table.director.loads[index as usize].store(load | overload, Ordering::Relaxed);
        indexes.insert(0, index);
    }
    if let Some(full) = list.iter().position(|server| server.3) {
        // The service knows that it has thresholds; a destination that is full stays so.
        table.director.destinations[indexes[full] as usize].upper_threshold = 1;
    }
    table.set_scheduler(service, scheduler_id::TWOS, 0);
    let mut counts: HashMap<u32, u32> = HashMap::new();
    for _ in 0..PICKS {
        let Pick::Destination(destination) = table.pick(service) else {
            panic!("nobody: {list:?}")
        };
        *counts.entry(destination).or_default() += 1;
    }
    for ((at, index), probability) in indexes.iter().enumerate().zip(probabilities(list)) {
        let count = f64::from(counts.get(index).copied().unwrap_or(0));
        if probability == 0.0 {
            assert_eq!(count, 0.0, "{at} of {list:?}");
        }
        let expected = probability * f64::from(PICKS);
        let bound = 5.0 * (expected * (1.0 - probability)).sqrt() + 1.0;
        assert!(
            (count - expected).abs() <= bound,
            "{at} of {list:?}: {count}, {expected} ± {bound}"
        );
    }
}

#[test]
fn twos_has_its_shares() {
    let lists: &[&[Server]] = &[
        &[(1, 0, 0, false)],
        &[(1, 0, 0, false), (1, 0, 0, false)],
        &[(1, 0, 1, false), (1, 0, 0, false)],
        &[(3, 0, 0, false), (2, 0, 0, false), (1, 0, 0, false)],
        // 257 of one that is active against 256 and 257 that are not.
        &[(5, 1, 0, false), (5, 0, 256, false), (5, 0, 257, false)],
        &[
            (0, 0, 0, false),
            (4, 3, 9, false),
            (2, 1, 30, false),
            (9, 8, 0, false),
            (0, 0, 0, false),
        ],
        &[(4, 0, 0, true), (4, 1, 0, false), (1, 0, 5, false), (8, 0, 0, true)],
        &[(i32::MAX as u32, 7, 0, false), (i32::MAX as u32, 6, 0, false), (1, 0, 0, false)],
    ];
    for list in lists {
        shares_as_expected(list);
    }
}

#[test]
fn twos_has_its_shares_in_random_pools() {
    let mut random = Random::new(7);
    for (servers, full) in [(2, false), (16, false), (16, true), (MAX_POOL, false)] {
        let mut list: Vec<Server> = (0..servers)
            .map(|_| {
                let weight = *random.of(&[0, 1, 1, 2, 3, 4, 100]);
                let [active, inactive] = [8, 300].map(|limit| random.below(limit) as u32);
                (weight, active, inactive, full && random.below(3) == 0)
            })
            .collect();
        list.push((2, 1, 1, false));
        list.truncate(MAX_POOL as usize);
        shares_as_expected(&list);
    }
}

#[test]
fn twos_refuses_when_nobody_is_usable() {
    for weights in [&[][..], &[0], &[0, 0]] {
        let mut table = Table::new(16);
        let service = table.add_service(TCP, "192.0.2.1:80", scheduler_id::TWOS);
        for (number, weight) in (1..).zip(weights) {
            let name = socket(0x0ac8_0000 + number, 80);
            table.add_destination(service, &name, Method::Dr, *weight);
        }
        assert_eq!(table.pick(service), Pick::Nobody, "{weights:?}");
    }
}
