//! Model check of the flow table's slot protocol: a few small scenes in their interleavings, weak memory included.
//!
//! Run it with `RUSTFLAGS="--cfg loom" cargo test -p elvs-fastpath --test loom_flow --release`; without that flag this
//! file is empty. The word below has the orderings of the host's `AtomicU64`.
#![allow(unexpected_cfgs, reason = "cfg(loom) is set by hand, see above")]
#![cfg(loom)]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected shall fail"
)]

use elvs_common::{BUCKET_SLOTS, Control, Method, TCP, chain_offset};
use elvs_fastpath::{
    Atomic64, Bucket, Eviction, FlowKey, FlowMemory, Insertion, NewFlow, Slot, claim_at_home,
    destination_of, find_flow, home_bucket, insert_flow, ports_of, release_flow,
};
use loom::sync::Arc;
use loom::sync::atomic::AtomicU64;
use loom::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use loom::thread;

#[derive(Debug, Default)]
struct Word {
    value: AtomicU64,
    /// Written with every access, reads included. Loom remembers only the last access of an atomic, so of a read by one
    /// thread, a read and then a write by another it would not try the first read after the write; with this it does.
    accesses: AtomicU64,
}

impl Word {
    fn accessed(&self) -> &AtomicU64 {
        self.accesses.fetch_add(1, Relaxed);
        &self.value
    }
}

impl Atomic64 for Word {
    fn load(&self) -> u64 {
        self.accessed().load(Acquire)
    }

    fn store(&self, value: u64) {
        self.accessed().store(value, Release);
    }

    fn compare_exchange(&self, current: u64, new: u64) -> Result<(), u64> {
        let result = self.accessed().compare_exchange(current, new, AcqRel, Acquire).map(|_| ());
        if result.is_err() {
            // A lock that is taken: whoever has it must be given a turn.
            thread::yield_now();
        }
        result
    }

    fn swap(&self, value: u64) -> u64 {
        self.accessed().swap(value, AcqRel)
    }

    fn fetch_add(&self, value: u64) -> u64 {
        self.accessed().fetch_add(value, AcqRel)
    }
}

/// A table with fewer buckets than a chain may have: what lies behind the last one does not exist.
struct Memory(Vec<Bucket<Word>>);

impl FlowMemory for Memory {
    type Word = Word;
    type Addresses = Word;

    fn bucket(&self, index: u32) -> Option<&Bucket<Word>> {
        self.0.get(index as usize)
    }
}

/// Buckets that hashes are spread over.
const HOMES: u32 = 2;
const STAYS: u32 = 2;
const HALF_OPEN: u32 = 1;
const TOUCHED: u32 = 3;

fn judge(control: Control) -> Eviction {
    if control.tick() == HALF_OPEN { Eviction::HalfOpen } else { Eviction::Keep }
}

/// A connection whose every word is made from its number, with home 0 or 1.
fn flow(number: u16, home: u32) -> NewFlow {
    NewFlow {
        key: FlowKey::new(u32::from(number), u32::from(number), number, number, TCP),
        hash: u64::from(home) << 63,
        control: Control::live(TCP, 0, Method::Dr, false, STAYS),
        destination: u32::from(number),
    }
}

impl Memory {
    /// A table of `buckets`, into which `flows` have been put one after the other.
    fn new(buckets: usize, flows: &[NewFlow]) -> Arc<Self> {
        let memory = Self((0..buckets).map(|_| Bucket::default()).collect());
        for flow in flows {
            assert_eq!(memory.insert(flow), Insertion::Done);
        }
        Arc::new(memory)
    }

    fn insert(&self, flow: &NewFlow) -> Insertion {
        insert_flow(self, HOMES, flow, &judge).outcome
    }

    /// As the first packet of a connection goes through the plain stage: look, claim, publish; the long way if that fails.
    fn insert_at_once(&self, flow: &NewFlow) -> Insertion {
        let bucket = self.bucket(home_bucket(flow.hash, HOMES)).unwrap();
        let insertions = bucket.insertions();
        if self.find(flow).is_some() {
            return Insertion::Exists;
        }
        if bucket.displaced().load() == 0 {
            let claim = claim_at_home(bucket, insertions);
            if claim.taken {
                claim.publish(&flow.key, flow.control, flow.destination);
                return Insertion::Done;
            }
        }
        self.insert(flow)
    }

    /// Control word and destination of a connection.
    fn find(&self, flow: &NewFlow) -> Option<(Control, u32)> {
        let matches = |_: Control, addresses: u64, ports_destination: u64| {
            addresses == flow.key.addresses && ports_of(ports_destination) == flow.key.ports
        };
        find_flow(self, flow.hash, HOMES, flow.key.protocol, &matches)
            .map(|found| (found.control, destination_of(found.ports_destination)))
    }

    /// Bucket and slot of a connection; called while no other thread runs.
    fn place(&self, flow: &NewFlow) -> (u32, &Slot<Word>) {
        self.live().find(|(_, slot)| slot.addresses.load() == flow.key.addresses).unwrap()
    }

    fn live(&self) -> impl Iterator<Item = (u32, &Slot<Word>)> {
        (0..).zip(&self.0).flat_map(|(index, bucket)| {
            let live = |slot: &&Slot<Word>| Control(slot.control.load()).is_live();
            bucket.slots.iter().filter(live).map(move |slot| (index, slot))
        })
    }

    /// What holds when all threads have ended: words of one slot belong together, displaced counters are right, locks
    /// are open, nothing stays claimed.
    fn check(&self) {
        let mut displaced = vec![0; self.0.len()];
        for (index, slot) in self.live() {
            assert_whole(slot.addresses.load(), slot.ports_destination.load());
            let distance = Control(slot.control.load()).distance();
            let home = index - chain_offset(distance);
            for passed in 0..distance {
                displaced[(home + chain_offset(passed)) as usize] += 1;
            }
        }
        for (bucket, wanted) in self.0.iter().zip(displaced) {
            assert_eq!(bucket.displaced().load(), wanted);
            assert_eq!(bucket.slots[0].aux.load() & 1, 0, "lock");
            for slot in &bucket.slots {
                let control = Control(slot.control.load());
                assert!(control.is_live() || control.is_free());
            }
        }
    }
}

/// Checks that the words are of one [`flow`].
fn assert_whole(addresses: u64, ports_destination: u64) {
    let number = addresses & 0xffff;
    assert_eq!(addresses, number << 32 | number);
    assert_eq!(ports_destination, number << 32 | number << 16 | number, "words of two connections");
}

/// Runs a scene in its interleavings: all of them, or where there are too many, all with so many preemptions.
fn check(preemptions: Option<usize>, scene: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = preemptions;
    model.max_branches = 10_000;
    model.check(scene);
}

#[test]
fn two_cpus_that_insert_the_same_connection_make_one() {
    check(None, || {
        let memory = Memory::new(1, &[]);
        let other = {
            let memory = memory.clone();
            thread::spawn(move || memory.insert(&flow(5, 0)))
        };
        let mut outcomes = [memory.insert(&flow(5, 0)), other.join().unwrap()];
        if outcomes[0] == Insertion::Exists {
            outcomes.reverse();
        }
        assert_eq!(outcomes, [Insertion::Done, Insertion::Exists]);
        assert_eq!(memory.live().count(), 1);
        memory.check();
    });
}

/// Two threads that insert the same connection, each in its own way: there is one, and one thread made it.
fn race(first: fn(&Memory, &NewFlow) -> Insertion, second: fn(&Memory, &NewFlow) -> Insertion) {
    check(Some(3), move || {
        let memory = Memory::new(1, &[]);
        let other = {
            let memory = memory.clone();
            thread::spawn(move || second(&memory, &flow(5, 0)))
        };
        let mut outcomes = [first(&memory, &flow(5, 0)), other.join().unwrap()];
        if outcomes[0] == Insertion::Exists {
            outcomes.reverse();
        }
        assert_eq!(outcomes, [Insertion::Done, Insertion::Exists]);
        assert_eq!(memory.live().count(), 1);
        memory.check();
    });
}

#[test]
fn two_cpus_that_claim_for_the_same_connection_make_one() {
    race(Memory::insert_at_once, Memory::insert_at_once);
}

#[test]
fn a_claim_and_an_insertion_of_the_same_connection_make_one() {
    race(Memory::insert_at_once, Memory::insert);
}

#[test]
fn a_claim_that_is_given_back_leaves_room_for_another() {
    check(Some(3), || {
        let memory = Memory::new(1, &[]);
        let other = {
            let memory = memory.clone();
            thread::spawn(move || memory.insert(&flow(6, 0)))
        };
        let bucket = &memory.0[0];
        let claim = claim_at_home(bucket, bucket.insertions());
        if claim.taken {
            claim.give_back();
        }
        assert_eq!(other.join().unwrap(), Insertion::Done);
        assert_eq!(memory.live().count(), 1);
        memory.check();
    });
}

#[test]
fn a_packet_and_the_sweeper_never_both_win() {
    check(None, || {
        let old = flow(5, 0);
        let memory = Memory::new(1, &[old]);
        let (control, _) = memory.find(&old).unwrap();
        let daemon = {
            let memory = memory.clone();
            thread::spawn(move || {
                let (bucket, slot) = memory.place(&old);
                release_flow(&*memory, bucket, slot, control)
            })
        };
        let slot = &memory.0[0].slots[0];
        let touched = slot.control.compare_exchange(control.0, control.with_tick(TOUCHED).0);
        let freed = daemon.join().unwrap();
        assert_ne!(touched.is_ok(), freed);
        assert_eq!(memory.find(&old).is_some(), touched.is_ok());
        memory.check();
    });
}

#[test]
fn a_reader_never_sees_words_of_two_connections() {
    check(Some(3), || {
        let old = flow(5, 0);
        let memory = Memory::new(1, &[old]);
        let (control, _) = memory.find(&old).unwrap();
        let changer = {
            let memory = memory.clone();
            thread::spawn(move || {
                let (bucket, slot) = (0, &memory.0[0].slots[0]);
                assert!(release_flow(&*memory, bucket, slot, control));
                assert_eq!(memory.insert(&flow(6, 0)), Insertion::Done);
            })
        };
        let any = |_: Control, _: u64, _: u64| true;
        if let Some(found) = find_flow(&*memory, old.hash, HOMES, TCP, &any) {
            assert_whole(found.addresses, found.ports_destination);
        }
        if let Some((_, destination)) = memory.find(&old) {
            assert_eq!(destination, old.destination);
        }
        changer.join().unwrap();
        memory.check();
    });
}

#[test]
fn a_displaced_connection_is_found_while_its_neighbours_come_and_go() {
    check(Some(2), || {
        let full: Vec<NewFlow> = (0..6).map(|number| flow(number + 1, 0)).collect();
        let memory = Memory::new(2, &full);
        let (leaves, stays) = (full[4], full[5]);
        let (control, _) = memory.find(&leaves).unwrap();
        let daemon = {
            let memory = memory.clone();
            thread::spawn(move || {
                let slot = &memory.0[1].slots[0];
                assert!(release_flow(&*memory, 1, slot, control));
            })
        };
        let cpu = {
            let memory = memory.clone();
            thread::spawn(move || memory.insert(&flow(9, 0)))
        };
        let (_, destination) = memory.find(&stays).expect("a live connection is always found");
        assert_eq!(destination, stays.destination);
        daemon.join().unwrap();
        assert_eq!(cpu.join().unwrap(), Insertion::Done);
        assert!(memory.find(&flow(9, 0)).is_some());
        assert!(memory.find(&leaves).is_none());
        memory.check();
    });
}

#[test]
fn two_homes_that_compete_for_the_last_slot_get_it_once() {
    check(Some(3), || {
        let mut full: Vec<NewFlow> = (0..4).map(|number| flow(number + 1, 0)).collect();
        full.extend((4..7).map(|number| flow(number + 1, 1)));
        let memory = Memory::new(2, &full);
        let other = {
            let memory = memory.clone();
            thread::spawn(move || memory.insert(&flow(9, 0)))
        };
        let mine = memory.insert(&flow(10, 1));
        let outcomes = [mine, other.join().unwrap()];
        assert!(outcomes.contains(&Insertion::Done) && outcomes.contains(&Insertion::Full));
        assert_eq!(memory.live().count(), 2 * BUCKET_SLOTS);
        memory.check();
    });
}

#[test]
fn a_half_open_connection_is_either_established_or_replaced() {
    check(Some(4), || {
        let mut full: Vec<NewFlow> = (0..4).map(|number| flow(number + 1, 0)).collect();
        full[2].control = full[2].control.with_tick(HALF_OPEN);
        let half_open = full[2];
        let memory = Memory::new(1, &full);
        let (control, _) = memory.find(&half_open).unwrap();
        let cpu = {
            let memory = memory.clone();
            thread::spawn(move || memory.insert(&flow(9, 0)))
        };
        let slot = memory.0[0].slots.iter().find(|slot| slot.control.load() == control.0);
        let touched = slot.is_some_and(|slot| {
            slot.control.compare_exchange(control.0, control.with_tick(TOUCHED).0).is_ok()
        });
        let outcome = cpu.join().unwrap();
        assert_eq!(outcome, if touched { Insertion::Full } else { Insertion::EvictedHalfOpen });
        assert_eq!(memory.find(&half_open).is_some(), touched);
        assert_eq!(memory.find(&flow(9, 0)).is_some(), !touched);
        memory.check();
    });
}

#[test]
fn a_connection_that_is_live_is_found_from_its_key() {
    check(Some(4), || {
        let full: Vec<NewFlow> = (0..4).map(|number| flow(number + 1, 0)).collect();
        let memory = Memory::new(2, &full);
        let new = flow(9, 0);
        let cpu = {
            let memory = memory.clone();
            thread::spawn(move || memory.insert(&new))
        };
        if memory.live().count() > full.len() {
            assert!(memory.find(&new).is_some(), "published before it could be found");
        }
        assert_eq!(cpu.join().unwrap(), Insertion::Done);
        assert_eq!(memory.find(&new).map(|(_, destination)| destination), Some(9));
        memory.check();
    });
}
