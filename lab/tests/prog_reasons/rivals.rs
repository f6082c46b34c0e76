//! What happens only while another CPU is at work: a thread changes a word of a mapped table all the time, and a frame is run
//! until it meets that.
//!
//! **Invariant:** the number of tries is bounded; whether one of them meets the rival depends on nothing but the two running
//! at the same time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use elvs_common::{Control, Counter};
use elvs_dataplane::{Backend, MemoryFrame};
use elvs_fastpath::{Addresses, Bucket, FlowMemory, Verdict};
use elvs_lab::method;
use elvs_model::Destination;

use crate::bench::{Bench, Family, Fixture};
use crate::both::{INGRESS, Ran};
use crate::packet::Packet;

pub const FIXTURES: [Fixture; 1] = [("insert_race", insert_race)];

/// Tries of one fixture.
const TRIES: u32 = 100_000;

/// Whose tables are at stake.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Program,
    Host,
}

impl Whose {
    const BOTH: [Self; 2] = [Self::Program, Self::Host];

    const fn name(self) -> &'static str {
        match self {
            Self::Program => "the program",
            Self::Host => "the host",
        }
    }

    fn run(self, bench: &Bench, frame: &[u8]) -> Ran {
        match self {
            Self::Program => bench.both.run_kernel(frame, 0),
            Self::Host => bench.both.run_host(MemoryFrame::new(frame.to_vec(), INGRESS)),
        }
    }
}

/// Ends the rival, also where a try fails.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Tries until one says that it met the rival, which does its step all the time.
fn against(rival: impl Fn(u64) + Sync, mut attempt: impl FnMut() -> Option<Ran>) -> Ran {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut step = 0;
            while !done.load(Ordering::Acquire) {
                rival(step);
                step += 1;
            }
        });
        let _done = Done(&done);
        (0..TRIES).find_map(|_| attempt()).expect("no try met the rival")
    })
}

/// Another CPU's entry of the connection is there at one moment and not at the other: a packet may miss it, and find it when
/// it inserts its own.
fn insert_race(bench: &mut Bench) {
    let limited = |added: &mut Destination| added.upper_threshold = 1_000_000;
    bench.serve_with(|service| service, limited, method::DR, 1, 1);
    let packet = bench.udp();
    bench.sends(&packet, &bench.to_server(&packet, 1), &[]);
    let sent = bench.to_server(&packet, 1).build();
    for whose in Whose::BOTH {
        let ran = match (whose, bench.family) {
            (Whose::Program, Family::V4) => {
                race(bench, whose, bench.both.kernel.backend(), &packet)
            }
            (Whose::Program, Family::V6) => {
                race(bench, whose, bench.both.kernel.backend().wide(), &packet)
            }
            (Whose::Host, Family::V4) => race(bench, whose, bench.both.host.backend(), &packet),
            (Whose::Host, Family::V6) => {
                race(bench, whose, Backend::wide(bench.both.host.backend()), &packet)
            }
        };
        bench.check(&ran, whose.name(), Verdict::Transmit, &sent, &[Counter::InsertRace]);
    }
    bench.note(Verdict::Transmit, &[Counter::InsertRace]);
}

/// Connections in a bucket from a client's port to one of a service's.
fn entries<'a, A: Addresses>(
    bucket: &'a Bucket<AtomicU64, A>,
    packet: &Packet,
) -> impl Iterator<Item = &'a AtomicU64> {
    let [from, to] = [packet.from, packet.to].map(|end| u64::from(end.port().to_be()));
    let wanted = from | to << 16;
    bucket.slots.iter().filter_map(move |slot| {
        let ports = slot.ports_destination.load(Ordering::SeqCst) & 0xffff_ffff;
        let live = Control(slot.control.load(Ordering::SeqCst)).is_live();
        (live && ports == wanted).then_some(&slot.control)
    })
}

fn race<M: FlowMemory<Word = AtomicU64>>(
    bench: &Bench,
    whose: Whose,
    memory: &M,
    packet: &Packet,
) -> Ran {
    let buckets = (0..).map_while(|index| memory.bucket(index));
    let mut found = buckets.filter_map(|bucket| Some((bucket, entries(bucket, packet).next()?)));
    let (bucket, entry) = found.next().unwrap();
    let there = Control(entry.load(Ordering::SeqCst));
    let rival = |step: u64| {
        let word = if step.is_multiple_of(2) { there.claimed() } else { there };
        entry.store(word.0, Ordering::SeqCst);
    };
    let frame = packet.build();
    let ran = against(rival, || {
        let ran = whose.run(bench, &frame);
        // A packet that missed it both times has made an entry of its own.
        for other in entries(bucket, packet).filter(|other| !std::ptr::eq(*other, entry)) {
            other.store(Control(other.load(Ordering::SeqCst)).freed().0, Ordering::SeqCst);
        }
        ran.counted.contains(&Counter::InsertRace).then_some(ran)
    });
    entry.store(there.0, Ordering::SeqCst);
    ran
}
