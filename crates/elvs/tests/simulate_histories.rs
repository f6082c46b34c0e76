//! `elvs simulate` against histories that a kernel was put through: weights and services edited, servers that leave and
//! come back, connections that end, ports used again, and time. After each `list` its rows are recorded as well:
//! `#= ADDR:PORT ACTIVE INACTIVE`.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests fail loudly")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A row of a list: real server, active and inactive connections.
type Row = [String; 3];

fn recordings() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/histories");
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    files.collect()
}

/// What `elvs simulate` prints and answers.
fn simulate(args: &[&str]) -> (String, i32) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_elvs")).arg("simulate").args(args).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8(text).unwrap(), output.status.code().unwrap())
}

fn row(words: &[&str]) -> Row {
    [words[0], words[1], words[2]].map(str::to_owned)
}

/// Rows that were recorded after each `list`, by its line.
fn recorded(text: &str) -> BTreeMap<u64, Vec<Row>> {
    let mut lists: BTreeMap<u64, Vec<Row>> = BTreeMap::new();
    let mut last = 0;
    for (number, line) in (1..).zip(text.lines()) {
        if line == "list" {
            last = number;
            lists.insert(number, Vec::new());
        } else if let Some(rest) = line.strip_prefix("#= ") {
            let words: Vec<&str> = rest.split_whitespace().collect();
            lists.get_mut(&last).unwrap().push(row(&words));
        }
    }
    lists
}

/// Rows of the lists that a run printed, by line.
fn printed(report: &str) -> BTreeMap<u64, Vec<Row>> {
    let report: serde_json::Value = serde_json::from_str(report).unwrap();
    let steps = report["steps"].as_array().unwrap().iter();
    let listings = steps.filter(|step| step["kind"] == "listing");
    let rows = |step: &serde_json::Value| {
        let lines = step["text"].as_str().unwrap().lines();
        let words = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
        let rows = words.filter(|words| words.len() == 6 && words[0] == "->");
        rows.filter(|words| words[1] != "RemoteAddress:Port")
            .map(|words| row(&[words[1], words[4], words[5]]))
            .collect()
    };
    listings.map(|step| (step["line"].as_u64().unwrap(), rows(step))).collect()
}

#[test]
fn histories_of_the_kernel_pass() {
    let files = recordings();
    assert!(files.len() >= 70, "only {} recordings", files.len());
    for file in files {
        let (output, code) = simulate(&["--check", file.to_str().unwrap()]);
        assert_eq!(code, 0, "{output}");
        assert!(output.contains(": ok: "), "{output}");
    }
}

#[test]
fn their_lists_are_those_of_the_kernel() {
    let mut compared = 0;
    for file in recordings() {
        let lists = recorded(&std::fs::read_to_string(&file).unwrap());
        let (report, code) = simulate(&["--json", file.to_str().unwrap()]);
        assert_eq!(code, 0, "{report}");
        assert_eq!(printed(&report), lists, "{}", file.display());
        compared += lists.len();
    }
    assert!(compared > 250, "only {compared} lists");
}
