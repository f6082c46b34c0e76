//! `elvs demo`: exact shares in every mode, and nothing left behind however it ends.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests fail loudly")]

use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

use elvs_lab::{Process, program, require_root, wait_until};
use elvs_net::Namespace;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// One demo at a time: its names are fixed.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    require_root();
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn demo(arguments: &str) -> Output {
    let mut command = Command::new(program());
    command.arg("demo").args(arguments.split_whitespace());
    command.output().expect("the program under test")
}

fn text(output: &Output) -> String {
    format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn assert_nothing_left() {
    assert_eq!(Namespace::list("elvs-demo-").unwrap(), Vec::<String>::new(), "namespaces");
    assert!(!Path::new("/run/elvs/demo").exists(), "files");
    assert!(!Path::new("/sys/fs/bpf/elvs/demo").exists(), "pins");
}

#[test]
fn gives_every_real_server_what_the_scheduler_owes_it() {
    const CASES: &[(&str, &[u64])] = &[
        ("--scheduler rr", &[100, 100, 100]),
        ("--scheduler wrr --weights 3,2,1", &[150, 100, 50]),
        ("--scheduler wlc --weights 3,2,1", &[150, 100, 50]),
        ("--scheduler wlc --real-servers 4", &[75, 75, 75, 75]),
    ];
    let _alone = alone();
    for mode in ["dr", "nat", "tun"] {
        for (arguments, shares) in CASES {
            let line = format!("--mode {mode} {arguments} --json");
            let output = demo(&line);
            assert_eq!(output.status.code(), Some(0), "{line}: {}", text(&output));
            let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
            let servers = report["real_servers"].as_array().expect("a list");
            let connections: Vec<_> = servers.iter().map(|s| s["connections"].clone()).collect();
            assert_eq!(json!(connections), json!(shares), "{line}");
            assert_eq!(
                (&report["mode"], &report["succeeded"], &report["failed"]),
                (&json!(mode), &json!(300), &json!(0)),
                "{line}"
            );
            let director = &report["director"];
            assert_eq!(director["xdp_mode"], "native", "{line}");
            assert_eq!(director["drops"], json!({}), "{line}");
            let through = director["replies_through_director"].as_u64().expect("a number");
            // SYN-ACK, the answer and the FIN are at least three packets a request.
            assert_eq!(through >= 900, mode == "nat", "{line}: {through} replies");
            assert_eq!(through == 0, mode != "nat", "{line}: {through} replies");
        }
    }
    assert_nothing_left();
}

/// What fails gets nothing once the director knows, and then no request fails; without any real server the sorry server
/// answers; what comes back gets its share again.
#[test]
fn traffic_leaves_what_fails_and_comes_back() {
    let _alone = alone();
    for mode in ["dr", "nat"] {
        let line = format!("--fail rs2 --mode {mode} --requests 60 --json");
        let output = demo(&line);
        assert_eq!(output.status.code(), Some(0), "{line}: {}", text(&output));
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(report["complaints"], json!([]), "{line}");
        let acts = report["acts"].as_array().expect("acts");
        let after: Vec<_> = acts.iter().map(|act| &act["after"]).collect();
        let thirds = json!({ "rs1": 20, "rs2": 20, "rs3": 20 });
        let shares =
            [thirds.clone(), json!({ "rs1": 30, "rs3": 30 }), json!({ "sorry": 60 }), thirds];
        for (after, shares) in after.iter().zip(&shares) {
            assert_eq!((&after["answered"], &after["failed"]), (shares, &json!(0)), "{line}");
        }
        // Requests that met the failure, until it was found, are what the demo is about.
        assert!(acts[1]["before"]["failed"].as_u64().is_some_and(|failed| failed > 0), "{line}");
    }
    assert_nothing_left();
}

#[test]
fn cleans_up_after_ctrl_c() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 130)] {
        let mut process = running(directory.path());
        process.signal(signal);
        assert_eq!(process.wait(), Some(code), "{signal}: {}", process.log());
        assert_nothing_left();
    }
}

#[test]
fn cleans_up_after_a_crash_of_an_earlier_run() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let mut process = running(directory.path());
    let second = demo("--requests 10");
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second).contains("another `elvs demo` is running"), "{}", text(&second));
    process.signal(Signal::SIGKILL);
    assert_eq!(process.wait(), None);
    assert_ne!(Namespace::list("elvs-demo-").unwrap(), Vec::<String>::new(), "what a crash leaves");
    let output = demo("--requests 30");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_nothing_left();
}

#[test]
fn keeps_everything_running_until_it_is_cleaned() {
    let _alone = alone();
    let output = demo("--mode nat --requests 30 --keep");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("elvs demo --clean"), "{}", text(&output));
    let client = Namespace::open("elvs-demo-client").unwrap();
    let answer = client.command("curl").args(["-sS", "http://10.0.0.100/"]).output().unwrap();
    assert!(text(&answer).contains("\"server\":\"rs3\""), "{}", text(&answer));
    let mut listing = Command::new(program());
    listing.args(["--socket", "/run/elvs/demo/elvs.sock", "adm", "-Ln"]);
    let listing = listing.output().unwrap();
    assert!(text(&listing).contains("TCP  10.0.0.100:80 rr"), "{}", text(&listing));
    let cleaned = demo("--clean");
    assert_eq!(cleaned.status.code(), Some(0), "{}", text(&cleaned));
    assert!(text(&cleaned).contains("elvs-demo-director"), "{}", text(&cleaned));
    assert_nothing_left();
}

/// A demo in the middle of its requests.
fn running(directory: &Path) -> Process {
    let log = directory.join("demo.log");
    let mut command = Command::new(program());
    command.args(["demo", "--requests", "50000"]);
    let process = Process::spawn(command, &log);
    // The socket is there once the director runs; the requests follow at once and take seconds.
    wait_until("the demo's director", || Path::new("/run/elvs/demo/elvs.sock").exists());
    process
}
