//! Replays recordings of ipvsadm 1.31 on a real kernel against a table in memory, byte for byte.

#![expect(clippy::unwrap_used, reason = "a recording that cannot be read fails the test")]

mod adm_support;

use adm_support::{Memory, Printed, Recorded, blocks, invoke, recording};
use elvs_model::SyncDaemon;

/// Commands of which nothing is compared, and why.
const SKIPPED: &[(&str, &str)] = &[
    ("cat /proc/net/", "the kernel's files are no part of ipvsadm"),
    ("ip -o addr", "the machine's addresses are no part of ipvsadm"),
];

/// `errors` holds every second command of a list: what the others did to the table, where it shows later, each with
/// the command before which it must have happened.
const LEFT_OUT: &[(&str, &str)] = &[
    ("ipvsadm -L --rate", "ipvsadm -A -t 10.0.0.100:443 -s rr"),
    ("ipvsadm -L --rate", "ipvsadm -A -t 10.0.0.100:83"),
    ("ipvsadm -L --rate", "ipvsadm -A -t 10.0.0.100:92 -s rr"),
    ("ipvsadm -L --rate", "ipvsadm -A -t 10.0.0.100:94 -p 60 -M 24"),
    ("ipvsadm -L --rate", "ipvsadm -A -u 10.0.0.100:86 --pe sip"),
    ("ipvsadm -L --rate", "ipvsadm -a -f 9 -r 10.0.0.21:8080"),
    ("ipvsadm -a -t 10.0.0.100:80 -r 10.0.0.23:81", "ipvsadm -a -t 10.0.0.100:80 -r 10.0.0.22"),
    ("ipvsadm -a -t 10.0.0.100:80 -r 10.0.0.32", "ipvsadm -a -t 10.0.0.100:80 -r 10.0.0.24:81 -m"),
    (
        "ipvsadm -a -t 10.0.0.100:80 -r 10.0.0.25",
        "ipvsadm -a -t 10.0.0.100:80 -r 10.0.0.24 -w 65536",
    ),
    ("ipvsadm -a -t 10.0.0.100:80 -r 10.0.0.10", "ipvsadm -a -t 10.0.0.100:80 -r [fd00::21]:80 -i"),
    ("ipvsadm -a -t 10.0.0.100:80 -r 10.0.0.10", "ipvsadm -a -t 10.0.0.100:80 -r 127.0.0.1:80"),
    ("ipvsadm -At 10.0.0.100:89", "ipvsadm -A -t 10.0.0.100:90 -s rr"),
];

/// Thresholds that `-S` writes and ipvsadm 1.31 forgets (its man page promises that `-R` restores what `-S` saved).
const THRESHOLDS: &[&str] = &[" -x 1000 -y 800", " -x 65536", " -x 10 -y 10", " -x 10"];

#[test]
fn lists_an_empty_table() {
    replay("empty", &mut Memory::default());
}

#[test]
fn lists_one_of_everything() {
    replay("every", &mut Memory::default());
}

#[test]
fn edits_in_order() {
    replay("change", &mut Memory::default());
}

#[test]
fn refuses_mistakes() {
    replay("errors", &mut Memory::default());
}

#[test]
fn lists_counters_rates_and_connections() {
    replay("traffic", &mut Memory::default());
}

#[test]
fn lists_connections_of_both_families_by_each_method() {
    for name in ["mode-dr", "mode-nat", "mode-tun"] {
        replay(name, &mut Memory::default());
    }
}

#[test]
fn goes_on_as_ipvsadm_does_through_three_hundred_lines() {
    replay("further", &mut Memory::default());
}

#[test]
fn starts_and_stops_sync_daemons() {
    replay("daemon", &mut Memory::default());
}

/// Runs a recording's setup, then each of its commands, and reports every difference at the end.
fn replay(name: &str, director: &mut Memory) {
    let recording = recording(name);
    for line in &recording.setup {
        if line.starts_with("ipvsadm ") {
            let printed = invoke(line, director);
            assert_eq!(printed, Printed::default(), "setup: {line}");
        }
    }
    let mut differences = Vec::new();
    for recorded in &recording.commands {
        let command = recorded.command.as_str();
        if SKIPPED.iter().any(|(start, _)| command.starts_with(start)) {
            continue;
        }
        if name == "errors" {
            for (_, line) in LEFT_OUT.iter().filter(|(before, _)| command.starts_with(before)) {
                assert_eq!(invoke(line, director), Printed::default(), "left out: {line}");
            }
        }
        director.learn(recorded);
        let mut printed = invoke(command, director);
        if command.starts_with("ipvsadm -S") || command.starts_with("ipvsadm-save") {
            for thresholds in THRESHOLDS {
                printed.stdout = printed.stdout.replace(thresholds, "");
            }
        }
        if command.starts_with("ipvsadm --start-daemon") && printed.code == 0 {
            // No daemon is started in silence that synchronises nothing.
            assert_eq!(printed.stderr, format!("ipvsadm: warning: {}\n", SyncDaemon::WARNING));
            printed.stderr.clear();
        }
        compare(recorded, &printed, &mut differences);
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn compare(recorded: &Recorded, printed: &Printed, differences: &mut Vec<String>) {
    // The kernel's own order is that of its hash table: only what belongs together is compared.
    let same = if recorded.command.contains("--nosort") {
        blocks(&recorded.printed.stdout) == blocks(&printed.stdout)
    } else {
        recorded.printed.stdout == printed.stdout
    };
    if !same || recorded.printed.stderr != printed.stderr || recorded.printed.code != printed.code {
        let (was, is) = (format!("{:?}", recorded.printed), format!("{printed:?}"));
        let gone = was.lines().filter(|line| !is.lines().any(|l| l == *line));
        let new = is.lines().filter(|line| !was.lines().any(|l| l == *line));
        let lines = gone.map(|l| format!("-{l}")).chain(new.map(|l| format!("+{l}")));
        let lines: Vec<_> = lines.collect();
        differences.push(format!("$ {}\n{}", recorded.command, lines.join("\n")));
    }
}
