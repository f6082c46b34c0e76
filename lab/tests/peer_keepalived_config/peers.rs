//! What `keepalived -t` and `elvs check` say of a file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use elvs_lab::program;
use serde_json::Value;

/// What one side says of a file.
#[derive(Debug)]
pub struct Verdict {
    /// Whether it takes the file.
    pub takes: bool,
    /// What it says, each thing once; of `elvs check` the errors.
    pub complaints: Vec<String>,
    /// Whether it says anything at all.
    pub speaks: bool,
}

/// Interfaces that configurations name: two pairs of veth, made in a network namespace that ends with the shell.
const INTERFACES: &str = "ip link set lo up
ip link add eth0 type veth peer name eth1
ip link add eth2 type veth peer name eth3
for i in eth0 eth1 eth2 eth3; do ip link set $i up; done
for f; do
  timeout 20 keepalived -t -l -i main -f \"$f\" >\"$OUT/$(basename \"$f\").said\" 2>&1
  echo $? >\"$OUT/$(basename \"$f\").code\"
done";

/// What `keepalived -t` says of each file; `directory` is for its words.
pub fn keepalived_verdicts(directory: &Path, files: &[PathBuf]) -> Vec<Verdict> {
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", INTERFACES, "sh"]).args(files).env("OUT", directory);
    let output = command.output().expect("unshare(1) of util-linux");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    files.iter().map(|file| keepalived_verdict(directory, file)).collect()
}

fn keepalived_verdict(directory: &Path, file: &Path) -> Verdict {
    let name = file.file_name().unwrap().to_string_lossy();
    let read = |kind: &str| fs::read(directory.join(format!("{name}.{kind}"))).unwrap();
    let code: i32 = String::from_utf8(read("code")).unwrap().trim().parse().unwrap();
    // 2: a keyword without a value ends it; 4 and 5: it complains of the file; 6: of scripts; 139: it crashes.
    assert!([0, 2, 4, 5, 6, 139].contains(&code), "keepalived -t of {name} ended with {code}");
    let said = String::from_utf8_lossy(&read("said")).into_owned();
    let mut complaints: Vec<String> = said.lines().map(without_place).collect();
    complaints.sort();
    complaints.dedup();
    Verdict { takes: code == 0, speaks: !complaints.is_empty(), complaints }
}

/// A line without `(FILE: Line N) ` before it.
fn without_place(line: &str) -> String {
    let rest = line.strip_prefix('(').and_then(|l| l.split_once(") "));
    let placed = rest.filter(|(place, _)| place.contains("Line "));
    placed.map_or(line, |(_, rest)| rest).to_owned()
}

/// What `elvs check` says of a file.
pub fn elvs_verdict(file: &Path) -> Verdict {
    let report = elvs_report(file);
    let found = report["diagnostics"].as_array().unwrap();
    let errors = found.iter().filter(|d| d["severity"] == "error");
    let words =
        |d: &Value| format!("{}: {}", d["code"].as_str().unwrap(), d["message"].as_str().unwrap());
    Verdict {
        takes: report["ok"].as_bool().unwrap(),
        complaints: errors.map(words).collect(),
        speaks: !found.is_empty(),
    }
}

/// The JSON of `elvs check`.
pub fn elvs_report(file: &Path) -> Value {
    let mut command = Command::new(program());
    command
        .args(["check", "--no-host", "--json", "--explain", "--config-id", "main", "--file"])
        .arg(file);
    let output = command.output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| {
        panic!("{e}: {}", String::from_utf8_lossy(&output.stderr));
    });
    let code = if report["ok"] == true { 0 } else { 1 };
    assert_eq!(output.status.code(), Some(code), "{}", file.display());
    report
}
