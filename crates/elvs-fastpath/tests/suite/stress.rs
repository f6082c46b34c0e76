//! Several CPUs and the daemon on one flow table at once, with real threads: what the model check cannot reach for size.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use elvs_common::{Control, Counter, DestinationLoad, Method, TCP, UDP, scheduler_id};
use elvs_fastpath::{
    Eviction, FlowKey, Host, Insertion, NewFlow, destination_of, find_flow, flow_hash, insert_flow,
    ports_of, process, release_flow,
};

use crate::support::{
    ACK, Director, FIN, MemoryFrame, Packet, RST, Random, SYN, Table, check_flows,
};

const CPUS: u64 = 4;
const ROUNDS: u32 = 40_000;

/// A connection whose destination is its number, so that a mixed-up slot shows.
fn flow(number: u32, tick: u32) -> NewFlow {
    let port = (number as u16).to_be();
    NewFlow {
        key: FlowKey::new(number, !number, port, 80, TCP),
        hash: flow_hash(number, port, TCP, [3, 5]),
        control: Control::live(TCP, 0, Method::Dr, false, tick),
        destination: number,
    }
}

/// Connections with an even tick are half-open, so that a full chain has some that may go.
fn judge(control: Control) -> Eviction {
    if control.tick().is_multiple_of(2) { Eviction::HalfOpen } else { Eviction::Keep }
}

#[derive(Default)]
struct Tally {
    inserted: AtomicU64,
    evicted: AtomicU64,
    released: AtomicU64,
    touched: AtomicU64,
    found: AtomicU64,
}

fn cpu(director: &Director, seed: u64, numbers: u32, tally: &Tally) {
    let mut random = Random::new(seed);
    for round in 0..ROUNDS {
        let flow = flow(random.below(numbers as usize) as u32, round);
        let matches = |_: Control, addresses: u64, ports_destination: u64| {
            addresses == flow.key.addresses && ports_of(ports_destination) == flow.key.ports
        };
        let buckets = director.settings.buckets;
        if let Some(found) = find_flow(director, flow.hash, buckets, TCP, &matches) {
            assert_eq!(destination_of(found.ports_destination), flow.destination);
            tally.found.fetch_add(1, Ordering::Relaxed);
            let touched = found.control.with_tick(round).0;
            let old = found.control.0;
            let swap = |word: &AtomicU64| {
                word.compare_exchange(old, touched, Ordering::AcqRel, Ordering::Acquire)
            };
            if swap(&found.slot.control).is_ok() {
                tally.touched.fetch_add(1, Ordering::Relaxed);
            }
            continue;
        }
        let inserted = insert_flow(director, buckets, &flow, &judge);
        match inserted.outcome {
            Insertion::Done => {
                tally.inserted.fetch_add(1, Ordering::Relaxed);
            }
            Insertion::EvictedHalfOpen => {
                tally.inserted.fetch_add(1, Ordering::Relaxed);
                tally.evicted.fetch_add(1, Ordering::Relaxed);
            }
            Insertion::Exists => assert_eq!(inserted.destination, flow.destination),
            Insertion::Full | Insertion::Contended => {}
            Insertion::EvictedExpired => panic!("nothing expires here"),
        }
    }
}

/// Frees connections by the slots it sees, as the daemon does, until it is told to stop.
fn daemon(director: &Director, stop: &AtomicBool, mut freed: impl FnMut(Control, u32)) {
    let mut random = Random::new(99);
    while !stop.load(Ordering::Acquire) {
        for (index, bucket) in (0..).zip(&director.flows) {
            for slot in &bucket.slots {
                let control = Control(slot.control.load(Ordering::Acquire));
                if !control.is_live() || random.below(4) != 0 {
                    continue;
                }
                let destination = destination_of(slot.ports_destination.load(Ordering::Acquire));
                if release_flow(director, index, slot, control) {
                    freed(control, destination);
                }
            }
        }
        thread::yield_now();
    }
}

/// Runs `work` on every CPU while `sweep` runs in the background.
fn with_daemon(work: impl Fn(u64) + Sync, sweep: impl FnOnce(&AtomicBool) + Send) {
    let (stop, start) = (AtomicBool::new(false), Barrier::new(CPUS as usize));
    thread::scope(|scope| {
        let (work, start, stop) = (&work, &start, &stop);
        scope.spawn(move || sweep(stop));
        let cpus: Vec<_> = (0..CPUS)
            .map(|cpu| {
                scope.spawn(move || {
                    start.wait();
                    work(cpu);
                })
            })
            .collect();
        let failed = cpus.into_iter().filter_map(|cpu| cpu.join().err()).next();
        stop.store(true, Ordering::Release);
        if let Some(panic) = failed {
            std::panic::resume_unwind(panic);
        }
    });
}

#[test]
fn cpus_and_the_sweeper_lose_and_duplicate_no_connection() {
    // More connections than there is room for, then fewer.
    for (buckets, numbers) in [(2, 1_500), (64, 300)] {
        let director = Director::new(buckets);
        let tally = Tally::default();
        with_daemon(
            |number| cpu(&director, number, numbers, &tally),
            |stop| {
                daemon(&director, stop, |_, _| {
                    tally.released.fetch_add(1, Ordering::Relaxed);
                });
            },
        );
        check_flows(&director);
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let left = read(&tally.inserted) - read(&tally.released) - read(&tally.evicted);
        assert_eq!(director.live().count() as u64, left);
        for count in [&tally.inserted, &tally.found, &tally.touched] {
            assert!(read(count) > 100, "too little happened");
        }
    }
}

#[test]
fn loads_are_those_of_the_slots_after_concurrent_traffic() {
    let mut table = Table::new(8);
    for (protocol, method) in [(TCP, Method::Nat), (UDP, Method::Dr)] {
        let id = table.add_service(protocol, "10.0.0.100:80", scheduler_id::WLC);
        for server in 1..=3 {
            table.add_destination(id, &format!("10.1.0.{server}:8080"), method, server);
        }
    }
    let director = &table.director;
    let traffic = |cpu: u64| {
        let mut random = Random::new(cpu + 10);
        for _ in 0..ROUNDS / 2 {
            let client = format!("192.0.2.7:{}", 1_024 + random.below(900));
            let vip = "10.0.0.100:80";
            let packet = match random.below(8) {
                0 => Packet::udp(&client, vip),
                1 => {
                    let server = format!("10.1.0.{}:8080", 1 + random.below(3));
                    Packet::tcp(&server, &client, *random.of(&[SYN | ACK, ACK, FIN | ACK, RST]))
                }
                _ => Packet::tcp(&client, vip, *random.of(&[SYN, SYN, ACK, ACK, FIN | ACK, RST])),
            };
            process(director, &mut MemoryFrame::new(packet.build()));
            director.advance_ticks(u32::from(random.below(50) == 0));
        }
    };
    let sweep = |stop: &AtomicBool| {
        daemon(director, stop, |control, destination| {
            let unit = DestinationLoad::unit(control.inactive());
            let load = director.load(destination).unwrap();
            load.fetch_sub(unit, Ordering::Relaxed);
        });
    };
    with_daemon(traffic, sweep);
    director.check_tables();
    assert_eq!(director.counter(Counter::Bug), 0);
    let opened: u64 = (0..6).map(|d| director.stats(d).connections).sum();
    assert!(opened > 1_000, "only {opened} connections");
}
