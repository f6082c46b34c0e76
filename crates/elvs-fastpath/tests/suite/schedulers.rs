//! The schedulers against models of IPVS's written from their description, not from the code under test.

mod hash;
mod history;
mod model;
mod persistence;
mod twos;

use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::thread;

use elvs_common::{Method, TCP, scheduler_id};
use elvs_fastpath::{Pick, wrr_parameters};

use crate::support::Table;

const SERVICE: &str = "192.0.2.1:80";

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
                        | Pick::NoService
                        | Pick::Shed
                        | Pick::Bypass
                        | Pick::ByCall
                        | Pick::OnceByCall) => panic!("{other:?}"),
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
