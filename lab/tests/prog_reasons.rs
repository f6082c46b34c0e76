//! Every verdict and every counter of the data plane, through the real program in the kernel.
//!
//! A fixture is a configuration, frames, and what each of them is to come to: verdict, bytes, and every counter that it
//! raises. Each is run for IPv4 and for IPv6, through the pinned program by `BPF_PROG_TEST_RUN` and through the decision core
//! on the host. A counter without a fixture fails the test.

#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "tests fail loudly"
)]

#[path = "prog_reasons/bench.rs"]
mod bench;
#[path = "prog_both/mod.rs"]
mod both;
#[path = "prog_reasons/calls.rs"]
mod calls;
#[path = "prog_reasons/defences.rs"]
mod defences;
#[path = "prog_reasons/events.rs"]
mod events;
#[path = "../../crates/elvs-dataplane/tests/support/packet.rs"]
#[allow(dead_code, reason = "each user takes the part it needs")]
mod packet;
#[path = "prog_reasons/refusals.rs"]
mod refusals;
#[path = "prog_reasons/rivals.rs"]
mod rivals;
#[path = "prog_reasons/sabotage.rs"]
mod sabotage;
#[path = "prog_reasons/tamper.rs"]
mod tamper;
#[path = "prog_reasons/verdicts.rs"]
mod verdicts;
#[path = "prog_reasons/way.rs"]
mod way;

use elvs_common::Counter;
use elvs_lab::require_root;
use elvs_net::Namespace;

use bench::{Bench, Family, Fixture};
use way::Way;

/// Counters that no fixture raises in a family, and why.
const IMPOSSIBLE: [(Counter, Family, &str); 5] = [
    (
        Counter::ProtocolRefused,
        Family::V4,
        "AH and ESP over IPv4 are looked for among other flows than those of full NAT, and left to the stack",
    ),
    (
        Counter::NotFragmented,
        Family::V6,
        "no router fragments IPv6 (RFC 8200 section 5), so such packets are too_big",
    ),
    (
        Counter::IcmpTunnel,
        Family::V6,
        "errors about a tunnel's outer IPv6 header are the stack's, whose path MTU they concern",
    ),
    (Counter::JudgeContended, Family::V4, EIGHT_IN_A_ROW),
    (Counter::JudgeContended, Family::V6, EIGHT_IN_A_ROW),
];
/// 100,000 packets against a thread that did nothing but change that word did not raise it once.
const EIGHT_IN_A_ROW: &str = "another CPU would have to come in between a load and its compare-and-swap eight times in a row";

#[test]
fn every_verdict_and_every_counter_has_a_fixture_that_raises_it() {
    require_root();
    // A namespace that does not route: the kernel's routing table decides for the program only where it is to.
    let namespace = Namespace::create(&format!("elvs-lab-reasons-{}", std::process::id())).unwrap();
    let way = Way::make(&namespace);
    namespace.run(|| fixtures(way)).unwrap();
}

fn fixtures(way: Way) {
    let rivals = std::thread::available_parallelism().unwrap().get() > 1;
    let mut bench = Bench::new(way);
    let all: [&[Fixture]; 5] = [
        &verdicts::FIXTURES,
        &refusals::FIXTURES,
        &events::FIXTURES,
        &defences::FIXTURES,
        &calls::FIXTURES,
    ];
    let mut all = all.concat();
    if rivals {
        all.extend(rivals::FIXTURES);
    }
    let failed = [run_all(&mut bench, &all), run_all(&mut bench, &sabotage::FIXTURES)].concat();
    assert!(failed.is_empty(), "{failed:?}");
    for family in [Family::V4, Family::V6] {
        for verdict in ["XDP_DROP", "XDP_PASS", "XDP_TX", "XDP_REDIRECT"] {
            assert!(bench.seen.contains_key(&(verdict.to_owned(), family)), "{verdict} {family:?}");
        }
        for counter in Counter::ALL {
            let met = bench.seen.contains_key(&(counter.name().to_owned(), family));
            let impossible = IMPOSSIBLE.iter().find(|(c, f, _)| (*c, *f) == (*counter, family));
            match impossible {
                None if *counter == Counter::InsertRace && !rivals => {
                    eprintln!("{} of {family:?} needs two CPUs", counter.name());
                }
                None => assert!(met, "no fixture raises {} of {family:?}", counter.name()),
                Some((.., why)) => assert!(!met, "{} of {family:?}, though {why}", counter.name()),
            }
        }
    }
}

/// Runs fixtures for both families. Those that fail are all named, not only the first.
fn run_all(bench: &mut Bench, fixtures: &[Fixture]) -> Vec<(&'static str, Family)> {
    let mut failed = Vec::new();
    for family in [Family::V4, Family::V6] {
        for fixture in fixtures {
            let run = std::panic::AssertUnwindSafe(|| bench.run_fixture(*fixture, family));
            if std::panic::catch_unwind(run).is_err() {
                failed.push((fixture.0, family));
            }
        }
    }
    failed
}
