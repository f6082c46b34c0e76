use elvs_model::health::{
    AgentCheck, HttpCheck, HttpVersion, MiscCheck, Schedule, Script, Target, TcpCheck,
};

use super::*;

fn schedule(retry: u32) -> Schedule {
    Schedule {
        delay_loop: Duration::from_secs(10),
        retry,
        delay_before_retry: Duration::from_secs(3),
        warmup: None,
        alpha: false,
        log_all_failures: false,
    }
}

fn target() -> Target {
    Target {
        address: "10.0.0.21:80".parse().unwrap(),
        source: None,
        source_port: None,
        interface: None,
        mark: 0,
        timeout: Duration::from_secs(5),
    }
}

fn tcp(retry: u32) -> Check {
    Check { kind: CheckKind::Tcp(TcpCheck { target: target() }), schedule: schedule(retry) }
}

fn http(retry: u32, fast_recovery: bool) -> Check {
    let kind = CheckKind::Http(HttpCheck {
        target: target(),
        tls: None,
        version: HttpVersion::V1_0,
        virtual_host: None,
        fast_recovery,
        urls: Vec::new(),
    });
    Check { kind, schedule: schedule(retry) }
}

/// Standing and delay after each run: `p` passed, `f` failed; then the standing, and the seconds to the next run.
fn story(check: &Check, mut tries: Tries, runs: &str) -> String {
    let mut story = String::new();
    for run in runs.chars() {
        if run == 'p' {
            tries.passed(check)
        } else {
            tries.failed(check)
        }
        let standing = match tries.standing {
            Standing::Unknown => '?',
            Standing::Up => '+',
            Standing::Down => '-',
        };
        story += &format!("{standing}{} ", tries.delay(check).as_secs());
    }
    story.trim_end().to_owned()
}

#[test]
fn keepalived_3_9_only_failures_of_an_up_check_are_retried() {
    struct Case {
        name: &'static str,
        check: Check,
        runs: &'static str,
        story: &'static str,
    }
    let slow = Check {
        schedule: Schedule { delay_before_retry: Duration::from_secs(30), ..schedule(1) },
        ..http(1, false)
    };
    let cases = [
        Case { name: "first failure is final", check: tcp(2), runs: "f", story: "-10" },
        Case { name: "down: every delay_loop", check: tcp(2), runs: "fff", story: "-10 -10 -10" },
        Case { name: "one success is up", check: tcp(2), runs: "fp", story: "-10 +10" },
        Case {
            name: "retry + 1 failures in a row",
            check: tcp(2),
            runs: "pfff",
            story: "+10 +3 +3 -10",
        },
        Case { name: "no retries", check: tcp(0), runs: "pf", story: "+10 -10" },
        Case {
            name: "a success between them starts the count anew",
            check: tcp(2),
            runs: "pffpffp",
            story: "+10 +3 +3 +10 +3 +3 +10",
        },
        Case {
            name: "after a recovery failures are retried",
            check: tcp(1),
            runs: "fpff",
            story: "-10 +10 +3 -10",
        },
        Case {
            name: "HTTP passes twice: the failed URL, then all",
            check: http(1, false),
            runs: "pffpp",
            story: "+10 +3 -10 -10 +10",
        },
        Case {
            name: "HTTP: a failure in between starts that anew",
            check: http(1, false),
            runs: "fpfpp",
            story: "-10 -10 -10 -10 +10",
        },
        Case { name: "fast_recovery", check: http(1, true), runs: "fp", story: "-10 +10" },
        Case {
            name: "HTTP down: the longer of both delays, until the failed URL passes",
            check: slow,
            runs: "ffpp",
            story: "-30 -30 -10 +10",
        },
    ];
    for case in cases {
        let tries = Tries::new(&case.check);
        assert_eq!(story(&case.check, tries, case.runs), case.story, "{}", case.name);
    }
}

#[test]
fn a_check_that_took_anothers_place_goes_on_counting() {
    let check = tcp(2);
    assert_eq!(story(&check, Tries::lenient(&check, 1), "ff"), "?3 -10");
    assert_eq!(story(&check, Tries::lenient(&check, 9), "f"), "-10", "never more than retry");
    assert_eq!(story(&check, Tries::lenient(&check, 0), "fp"), "?3 +10");
}

#[test]
fn only_scripts_count_from_their_start() {
    let script = Script { words: vec!["/check".to_owned()], user: None };
    let kind = CheckKind::Misc(MiscCheck { script, timeout: None, dynamic: false });
    assert!(counts_from_start(&Check { kind, schedule: schedule(0) }));
    assert!(!counts_from_start(&tcp(1)));
    assert!(!counts_from_start(&http(1, false)));
}

#[test]
fn an_agents_silence_never_counts() {
    let kind = CheckKind::Agent(AgentCheck { target: target(), send: None });
    let agent = Check { kind, schedule: schedule(0) };
    assert_eq!(story(&agent, Tries::new(&agent), "ffpff"), "?10 ?10 +10 +10 +10");
}
