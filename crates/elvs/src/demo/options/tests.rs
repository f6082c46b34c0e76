use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
}

fn settings(line: &str) -> Result<Settings, String> {
    let words = std::iter::once("demo").chain(line.split_whitespace());
    let line = Line::try_parse_from(words).map_err(|e| e.to_string())?;
    Settings::try_from(&line.options).map_err(|e| e.to_string())
}

#[test]
fn reads_settings() {
    const CASES: &[(&str, Mode, DemoScheduler, &[u32], u16)] = &[
        ("", Mode::Dr, DemoScheduler::Rr, &[1, 1, 1], 300),
        ("--mode nat --real-servers 2", Mode::Nat, DemoScheduler::Rr, &[1, 1], 300),
        ("--scheduler wrr --weights 3,2,1", Mode::Dr, DemoScheduler::Wrr, &[3, 2, 1], 300),
        (
            "--mode tun --scheduler wlc --real-servers 2 --weights 5,0 --requests 7",
            Mode::Tun,
            DemoScheduler::Wlc,
            &[5, 0],
            7,
        ),
    ];
    for (line, mode, scheduler, weights, requests) in CASES {
        let settings = settings(line).unwrap();
        assert_eq!(settings.mode, *mode, "{line}");
        assert_eq!(settings.scheduler, *scheduler, "{line}");
        assert_eq!(settings.weights, *weights, "{line}");
        assert_eq!(settings.requests, *requests, "{line}");
    }
}

#[test]
fn a_demo_of_failures_has_one_host_more() {
    let settings = settings("--fail rs2").unwrap();
    assert_eq!((settings.plan().real_servers, settings.weights.len()), (4, 3));
    assert_eq!((settings.name(3), settings.name(4)), ("rs3".to_owned(), "sorry".to_owned()));
}

/// Each refusal names the value and the limit.
#[test]
fn refuses_what_cannot_be_run() {
    const CASES: &[(&str, &str)] = &[
        ("--real-servers 0", "1..=32"),
        ("--real-servers 33", "1..=32"),
        ("--real-servers x", "invalid digit"),
        ("--requests 0", "1..=50000"),
        ("--requests 50001", "1..=50000"),
        ("--weights 1,65536", "0..=65535"),
        ("--weights 1,,2", "--weights"),
        ("--weights 0,0", "every weight is 0"),
        ("--weights 1,2 --real-servers 3", "--real-servers 3 and 2 weights"),
        ("--mode fullnat", "dr, nat, tun"),
        ("--scheduler sh", "rr, wrr, wlc"),
        ("--keep --clean", "cannot be used with"),
        ("--fail 2", "rs1, rs2"),
        ("--fail rs4", "there are rs1 to rs3"),
        ("--fail rs0", "there are rs1 to rs3"),
        ("--fail rs1 --real-servers 1", "2 to 31 real servers"),
        ("--fail rs1 --real-servers 32", "2 to 31 real servers"),
        ("--fail rs1 --requests 5001", "at most 5000"),
        ("--fail rs1 --keep", "cannot be used with"),
    ];
    for (line, expected) in CASES {
        let error = settings(line).unwrap_err();
        assert!(error.contains(expected), "{line}: {error}");
    }
    let many = vec!["1"; 33].join(",");
    let error = settings(&format!("--weights {many}")).unwrap_err();
    assert!(error.contains("33 weights: at most 32"), "{error}");
}
