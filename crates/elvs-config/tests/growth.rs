//! Reading costs in proportion to what is read: counted in bytes allocated, never in time.

#![expect(clippy::indexing_slicing, reason = "a test's helpers may fail the test")]

use std::alloc::System;

use elvs_config::{MAX_FILE_BYTES, MapSource, Options, Outcome, Severity, read, render};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn outcome(source: &MapSource) -> Outcome {
    let outcome = read(source, "d/f", &Options { config_id: "a".to_owned(), ..Options::default() });
    render(&outcome.diagnostics, &outcome.sources, false);
    outcome
}

/// Bytes that reading and showing the findings allocates.
fn cost(source: &MapSource) -> usize {
    let region = Region::new(ALLOCATOR);
    outcome(source);
    region.change().bytes_allocated
}

fn service(n: usize) -> String {
    let (high, low) = (n / 250, n % 250 + 1);
    format!(
        "virtual_server 10.0.{high}.{low} 80 {{\nlvs_sched rr\nlvs_method NAT\nprotocol TCP\nreal_server 10.1.{high}.{low} 80 {{\nweight 1\nTCP_CHECK {{\nconnect_timeout 3\n}}\n}}\n}}\n"
    )
}

/// A file that grows with a number.
type Text = Box<dyn Fn(usize) -> String>;

/// Kinds of them.
fn kinds() -> Vec<(&'static str, Text)> {
    let times =
        |text: &'static str| -> Box<dyn Fn(usize) -> String> { Box::new(|n| text.repeat(n)) };
    vec![
        ("services", Box::new(|n| (0..n).map(service).collect())),
        ("one service, many times", Box::new(|n| service(1).repeat(n))),
        (
            "real servers of one service",
            Box::new(|n| {
                let servers: String = (0..n)
                    .map(|n| {
                        format!(
                            "real_server 10.1.{}.{} 80 {{\nweight 1\n}}\n",
                            n / 250,
                            n % 250 + 1
                        )
                    })
                    .collect();
                format!(
                    "virtual_server 10.0.0.1 80 {{\nlvs_sched rr\nlvs_method NAT\nprotocol TCP\n{servers}}}\n"
                )
            }),
        ),
        ("unknown words", times("nothing of the kind\n")),
        ("words of one line", times("word ")),
        ("quotes", times("\"a\" ")),
        ("open quotes", times("\"a\n")),
        ("braces", times("{ ")),
        ("open blocks", times("virtual_server 10.0.0.1 80 {\n")),
        ("closed blocks", times("}\n")),
        ("dollars of one line", times("$")),
        ("references of one line", times("${A} ")),
        ("references that are not closed", times("${A ")),
        ("definitions and uses", times("$A=x\ny $A ${A}\n")),
        ("conditions of one line", times("@a ")),
        ("heads of sequences", times("~SEQ(I,1,1) ")),
        ("a sequence", Box::new(|n| format!("~SEQ(I,1,{n}) word $I ${{I}}\n"))),
        ("a list", Box::new(|n| format!("~LST(I{}) $I\n", ",a".repeat(n)))),
        (
            "a multi-line parameter",
            Box::new(|n| format!("$A= \\\n{}b\n$A\n", "word x \\\n".repeat(n))),
        ),
        (
            "uses of a multi-line parameter",
            Box::new(|n| format!("$A= \\\na \\\nb\n{}", "$A\n".repeat(n))),
        ),
        ("comments", times("# nothing\n! at all\n")),
        ("backslashes", times("\\\\")),
        ("include lines", times("include g\n")),
        ("include lines of nothing", times("include none\n")),
        ("escapes", Box::new(|n| format!("regex {}\n", "\\d".repeat(n)))),
    ]
}

/// Four times as much costs four times as much, and a third more for what grows in steps.
#[test]
fn cost_grows_with_the_input_and_no_faster() {
    let mut faster = Vec::new();
    for (kind, text) in kinds() {
        let source = |n: usize| MapSource::single("d/f", text(n)).with_file("d/g", "weight 1\n");
        let costs = [125, 500, 2000].map(|n| cost(&source(n)));
        let grows = |less: usize, more: usize| more > less * 16 / 3 + 100_000;
        if grows(costs[0], costs[1]) || grows(costs[1], costs[2]) {
            faster.push(format!("{kind}: {costs:?} bytes for 125, 500 and 2000"));
        }
    }
    assert!(faster.is_empty(), "{}", faster.join("\n"));
    files_beyond_the_limits_are_refused_in_words();
}

/// Not a test of its own: the allocator counts what runs beside it too.
fn files_beyond_the_limits_are_refused_in_words() {
    let large = MapSource::single("d/f", vec![b'a'; 50 << 20]);
    let region = Region::new(ALLOCATOR);
    let refused = outcome(&large);
    let beyond = region.change().bytes_allocated - (50 << 20);
    assert!(beyond < 1 << 20, "{beyond} bytes beside the file itself");
    assert_eq!(said(&refused), ["d/f has more than 8388608 bytes, the limit"]);

    let full = MapSource::single("d/f", vec![b'#'; MAX_FILE_BYTES]);
    assert_eq!(said(&outcome(&full)), ["line has 8388608 bytes, more than 65536"]);

    let mut deep = MapSource::single("d/f", "include 1\n");
    for n in 1..=100 {
        deep = deep.with_file(&format!("d/{n}"), format!("include {}\n", n + 1));
    }
    let refused = outcome(&deep);
    assert_eq!(said(&refused), ["`include` is nested more than 16 deep"]);
    assert_eq!(refused.diagnostics[0].span.file, "d/15");

    // Words that take the most memory for their length.
    let words =
        MapSource::single("d/f", "a ".repeat(MAX_FILE_BYTES / 2).replace(" a a a a", " a a a\n"));
    let region = Region::new(ALLOCATOR);
    let refused = outcome(&words);
    assert!(region.change().bytes_allocated < 2 << 30, "{}", region.change().bytes_allocated);
    assert_eq!(said(&refused), ["the configuration has more than 4194304 words"]);
}

/// Messages of the errors.
fn said(outcome: &Outcome) -> Vec<&str> {
    assert!(outcome.desired.is_none());
    let errors = outcome.diagnostics.iter().filter(|d| d.severity == Severity::Error);
    errors.map(|d| d.message.as_str()).collect()
}
