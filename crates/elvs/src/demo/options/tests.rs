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
    ];
    for (line, expected) in CASES {
        let error = settings(line).unwrap_err();
        assert!(error.contains(expected), "{line}: {error}");
    }
    let many = vec!["1"; 33].join(",");
    let error = settings(&format!("--weights {many}")).unwrap_err();
    assert!(error.contains("33 weights: at most 32"), "{error}");
}
