//! Programs that are missing where others go on to them. Nothing works any more afterwards.

use aya::maps::{Map, MapData, ProgramArray};
use elvs_common::{
    Counter, GENERAL_PROGRAM, REPORT_PROGRAM, SCHEDULE_PROGRAM, WIDE_OPEN_PROGRAM, WIDE_PROGRAM,
    map_names,
};
use elvs_fastpath::Verdict;
use elvs_lab::method;

use crate::bench::{Bench, Family, Fixture};
use crate::packet::Packet;

pub const FIXTURES: [Fixture; 3] = [
    ("an answer that nobody gives", without_answers),
    ("scheduler_contended", scheduler_contended),
    ("bug of a missing program", missing),
];

/// A frame is dropped by the program, and that counted; on the host no stage can be missing.
fn drops(bench: &mut Bench, packet: &Packet, counted: &[Counter]) {
    let frame = packet.build();
    let ran = bench.both.run_kernel(&frame, 0);
    bench.check(&ran, "the program", Verdict::Drop, &frame, counted);
    bench.note(Verdict::Drop, counted);
}

fn remove(bench: &Bench, program: u32) {
    let programs = MapData::from_pin(bench.both.pins().join(map_names::PROGRAMS)).unwrap();
    let mut programs = ProgramArray::try_from(Map::ProgramArray(programs)).unwrap();
    programs.clear_index(&program).unwrap();
}

/// What is to be told has been refused and counted before.
fn without_answers(bench: &mut Bench) {
    bench.serve(method::DR, 1);
    if bench.family == Family::V4 {
        remove(bench, REPORT_PROGRAM);
    }
    drops(bench, &Packet { ttl: 1, ..bench.udp() }, &[Counter::TtlExpired]);
}

/// To a stage, the kernel's limit of tail calls and a program that is missing are one: the call returns. The limit is met when
/// other CPUs move a scheduler 33 times while a packet asks it.
fn scheduler_contended(bench: &mut Bench) {
    bench.serve(method::DR, 1);
    let again = if bench.family == Family::V4 { SCHEDULE_PROGRAM } else { WIDE_OPEN_PROGRAM };
    remove(bench, again);
    // Tagged, so that another stage than the first one of all goes on; packets of IPv6 have one more anyhow.
    let vlans = if bench.family == Family::V4 { vec![(0x8100, 5)] } else { Vec::new() };
    drops(bench, &Packet { vlans, ..bench.udp() }, &[Counter::SchedulerContended]);
}

fn missing(bench: &mut Bench) {
    bench.serve(method::DR, 1);
    let (next, vlans) = match bench.family {
        Family::V4 => (GENERAL_PROGRAM, vec![(0x8100, 5)]),
        Family::V6 => (WIDE_PROGRAM, Vec::new()),
    };
    remove(bench, next);
    drops(bench, &Packet { vlans, ..bench.udp() }, &[Counter::Bug]);
}
