//! `elvs simulate` as it is started: recordings of the kernel's picks pass, changed ones do not, mistakes are named.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests fail loudly")]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

struct Run {
    stdout: String,
    stderr: String,
    code: i32,
}

/// Runs `elvs simulate ARGS` with a script on standard input.
fn simulate(args: &[&str], script: &str) -> Run {
    let mut child = Command::new(env!("CARGO_BIN_EXE_elvs"))
        .arg("simulate")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run {
        stdout: text(output.stdout),
        stderr: text(output.stderr),
        code: output.status.code().unwrap(),
    }
}

fn recordings() -> Vec<PathBuf> {
    recordings_in("../elvs-fastpath/tests/golden/sched")
}

fn recordings_in(directory: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    files.collect()
}

fn assert_passes(file: &Path) {
    let run = simulate(&["--check", file.to_str().unwrap()], "");
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert_eq!(run.stdout.lines().count(), 1, "{}", run.stdout);
    assert!(run.stdout.contains(": ok: "), "{}", run.stdout);
}

/// Event lines of an output.
fn events(output: &str) -> Vec<&str> {
    let begins = |line: &&str| ["open ", "short ", "packet "].iter().any(|w| line.starts_with(w));
    output.lines().filter(begins).collect()
}

fn json(run: &Run) -> serde_json::Value {
    serde_json::from_str(&run.stdout).unwrap()
}

const THREE: &str = "\
ipvsadm -A -t 192.0.2.1:80 -s rr
ipvsadm -a -t 192.0.2.1:80 -r 10.0.0.1:80 -g
ipvsadm -a -t 192.0.2.1:80 -r 10.0.0.2:8080 -m -w 2
ipvsadm -a -t 192.0.2.1:80 -r 10.0.0.3:80 -i
";

#[test]
fn recordings_of_the_kernel_pass() {
    let files = recordings();
    assert!(files.len() > 150, "only {} recordings", files.len());
    for file in files {
        assert_passes(&file);
    }
}

#[test]
fn recordings_of_ipv6_pass() {
    let files = recordings_in("tests/golden/sched");
    assert_eq!(files.len(), 12);
    for file in files {
        assert_passes(&file);
    }
}

/// An IPv6 address that schedulers see as an IPv4 one: its words, exclusive-ored, are that.
fn widened(address: Ipv4Addr) -> Ipv6Addr {
    let last = u128::from(u32::from(address));
    Ipv6Addr::from(0xfd00_0000_fd00_0000_0000_0000_0000_0000 | last)
}

/// A script of IPv4 as one of IPv6.
fn widened_script(text: &str) -> String {
    let mut script = String::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let mut before = "";
        for word in line.split_whitespace() {
            let prefix = word.split_once('/').and_then(|(address, length)| {
                Some((address.parse().ok()?, length.parse::<u8>().ok()?))
            });
            if let Ok(end) = word.parse::<SocketAddrV4>() {
                write!(script, "[{}]:{} ", widened(*end.ip()), end.port()).unwrap();
            } else if let Some((address, length)) = prefix {
                write!(script, "{}/{} ", widened(address), 96 + length).unwrap();
            } else if let (Ok(mask), "-M") = (word.parse::<Ipv4Addr>(), before) {
                write!(script, "{} ", 96 + mask.to_bits().leading_ones()).unwrap();
            } else if let Ok(address) = word.parse::<Ipv4Addr>() {
                write!(script, "{} ", widened(address)).unwrap();
            } else {
                let family = if before == "-f" { "-6 " } else { "" };
                write!(script, "{word} {family}").unwrap();
            }
            before = word;
        }
        script.push('\n');
    }
    script
}

#[test]
fn recordings_of_ipv4_pass_with_ipv6_addresses() {
    for file in recordings() {
        let text = std::fs::read_to_string(&file).unwrap();
        let script = widened_script(&text);
        let run = simulate(&["--check", "-"], &script);
        assert_eq!(run.code, 0, "{}: {}{}", file.display(), run.stdout, run.stderr);
    }
}

/// Schedulers see 32 bits of an address, those of IPv6 exclusive-ored: with IPv4 addresses of the same value the picks are
/// the same.
#[test]
fn recordings_of_ipv6_pass_folded() {
    for file in recordings_in("tests/golden/sched") {
        let text = std::fs::read_to_string(&file).unwrap();
        let mut folded = String::new();
        for (at, part) in text.split("fd00::").enumerate() {
            let end = part.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(part.len());
            let (digits, rest) = part.split_at(if at == 0 { 0 } else { end });
            if let Ok(last) = u16::from_str_radix(digits, 16) {
                write!(folded, "253.0.{}.{}", last >> 8, last & 0xff).unwrap();
            }
            folded.push_str(rest);
        }
        let folded = folded.replace(['[', ']'], "");
        let run = simulate(&["--check", "-"], &folded);
        assert_eq!(run.code, 0, "{}: {}{}", file.display(), run.stdout, run.stderr);
    }
}

#[test]
fn a_changed_expectation_is_found_and_both_are_shown() {
    let name = "wrr-w123-tcp.script";
    let files = recordings();
    let file = files.iter().find(|file| file.ends_with("held-wlc-w4321.script")).unwrap();
    let text = std::fs::read_to_string(file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let at = lines.iter().position(|line| line.starts_with("open h20 ")).unwrap();
    let (event, place) = lines[at].split_once(" -> ").unwrap();
    for wrong in ["10.0.0.99", "none", &format!("{place}:5001")] {
        let mut changed = lines.clone();
        let line = format!("{event} -> {wrong}");
        changed[at] = &line;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        std::fs::write(&path, changed.join("\n")).unwrap();
        let run = simulate(&["--check", path.to_str().unwrap()], "");
        assert_eq!(run.code, 1, "{wrong}: {}", run.stdout);
        let expected = format!(
            "{}:{}: {event}\n  expected {wrong}\n  got      {place}:5000\n",
            path.display(),
            at + 1
        );
        assert_eq!(run.stdout, expected);
        let run = simulate(&["--check", "--json", path.to_str().unwrap()], "");
        assert_eq!(run.code, 1);
        let difference = &json(&run)["check"]["difference"];
        assert_eq!(difference["line"], at + 1);
        assert_eq!(difference["expected"], wrong);
    }
}

#[test]
fn output_is_an_expectation() {
    let script = format!(
        "{THREE}open a tcp 198.51.100.1:1 192.0.2.1:80\nshort tcp 198.51.100.1:2 192.0.2.1:80\n\
         open b tcp 198.51.100.1:3 192.0.2.1:80 -> 1.2.3.4\nshort udp 198.51.100.1:4 192.0.2.1:80\n"
    );
    let run = simulate(&["-"], &script);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let events = events(&run.stdout);
    assert_eq!(
        events,
        [
            "open a tcp 198.51.100.1:1 192.0.2.1:80 -> 10.0.0.3:80",
            "short tcp 198.51.100.1:2 192.0.2.1:80 -> 10.0.0.2:8080",
            "open b tcp 198.51.100.1:3 192.0.2.1:80 -> 10.0.0.1:80",
            "short udp 198.51.100.1:4 192.0.2.1:80 -> none",
        ]
    );
    let again = simulate(&["--check", "-"], &format!("{THREE}{}\n", events.join("\n")));
    assert_eq!(again.code, 0, "{}", again.stdout);
    assert_eq!(again.stdout, "-: ok: 4 of 4 events went where they should\n");
}

#[test]
fn connections_become_inactive_and_expire() {
    let rows = |output: &str| -> Vec<String> {
        let rows = output.lines().filter(|line| line.contains("Route") || line.contains("Masq"));
        rows.map(|row| row.split_whitespace().skip(4).collect::<Vec<_>>().join(" ")).collect()
    };
    let script = "\
ipvsadm -A -t 192.0.2.1:80 -s rr
ipvsadm -a -t 192.0.2.1:80 -r 10.0.0.1:80 -g
ipvsadm -a -t 192.0.2.1:80 -r 10.0.0.2:80 -m
open a tcp 198.51.100.1:1 192.0.2.1:80
open b tcp 198.51.100.1:2 192.0.2.1:80
list
close a
close b
list
ipvsadm -Lnc
wait 119
list
wait 1
list
";
    let run = simulate(&["-"], script);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(rows(&run.stdout), ["1 0", "1 0", "0 1", "0 1", "0 1", "0 1", "0 0", "0 0"]);
    let state = |line: &&str| line.contains(" 198.51.100.1:");
    let states: Vec<_> = run.stdout.lines().filter(state).collect();
    assert!(states.iter().any(|line| line.contains("02:00  FIN_WAIT ")), "{states:?}");
    assert!(states.iter().any(|line| line.contains("02:00  TIME_WAIT ")), "{states:?}");
}

#[test]
fn a_client_stays_with_its_server_until_its_template_is_gone() {
    let script = "\
ipvsadm -A -t 192.0.2.1:80 -s rr -p 60
ipvsadm -a -t 192.0.2.1:80 -r 10.0.0.1
ipvsadm -a -t 192.0.2.1:80 -r 10.0.0.2
short tcp 198.51.100.1:1 192.0.2.1:80 -> 10.0.0.2
wait 59
short tcp 198.51.100.1:2 192.0.2.1:80 -> 10.0.0.2
# The template has connections that are not gone yet.
wait 119
short tcp 198.51.100.1:3 192.0.2.1:80 -> 10.0.0.2
wait 300
short tcp 198.51.100.1:4 192.0.2.1:80 -> 10.0.0.1
# As long as a wait may be: nothing of it is left.
wait 2678400
short tcp 198.51.100.1:5 192.0.2.1:80 -> 10.0.0.2
";
    let run = simulate(&["--check", "-"], script);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
}

#[test]
fn all_mistakes_are_named_with_their_place() {
    let script = "fly\nipvsadm -A -t 192.0.2.1:80 -s best\nwait x\n";
    let run = simulate(&["-"], script);
    assert_eq!((run.code, run.stdout.as_str()), (2, ""));
    let lines: Vec<_> = run.stderr.lines().map(|line| line.split_once(' ').unwrap().0).collect();
    assert_eq!(lines, ["-:1:", "-:2:", "-:3:"]);
    let run = simulate(&["--json", "-"], script);
    assert_eq!(run.code, 2);
    assert_eq!(json(&run)["mistakes"][2]["line"], 3);
    let run = simulate(&["/nowhere/at/all"], "");
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("script /nowhere/at/all cannot be read"), "{}", run.stderr);
    let run = simulate(&["--check", "-"], THREE);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("there is nothing to check"), "{}", run.stderr);
}

#[test]
fn json_has_events_shares_and_reasons() {
    let script = format!(
        "{THREE}short tcp 198.51.100.1:1 192.0.2.1:80\npacket udp 198.51.100.1:1 192.0.2.9:80\n\
         ipvsadm -d -t 192.0.2.1:80 -r 10.0.0.3:80\nipvsadm -e -t 192.0.2.1:80 -r 10.0.0.1:80 -g -w 0\n\
         ipvsadm -e -t 192.0.2.1:80 -r 10.0.0.2:8080 -m -w 0\nopen x tcp 198.51.100.1:2 192.0.2.1:80\nlist\n"
    );
    let run = simulate(&["--json", "--seed", "9", "-"], &script);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let report = json(&run);
    assert_eq!(report["seed"], 9);
    assert_eq!(report["steps"][0]["place"], "10.0.0.3:80");
    assert_eq!(report["steps"][0]["line"], 5);
    assert_eq!(report["steps"][1]["place"], serde_json::Value::Null);
    assert_eq!(report["steps"][1]["reason"], "no_service");
    assert_eq!(report["steps"][2]["reason"], "no_destination");
    assert!(report["steps"][3]["text"].as_str().unwrap().contains("10.0.0.2:8080"));
    let shares = &report["shares"][0];
    assert_eq!(shares["service"], "TCP 192.0.2.1:80");
    assert_eq!(shares["refused"], 1);
    let removed = &shares["destinations"][2];
    assert_eq!(
        (&removed["connections"], &removed["weight"]),
        (&1.into(), &serde_json::Value::Null)
    );
    assert_eq!(removed["share_per_10000"], 10_000);
}

#[test]
fn random_picks_are_compared_by_their_shares() {
    let mut script = String::from("ipvsadm -A -u 192.0.2.1:53 -s twos -o\n");
    for server in 1..=3 {
        writeln!(script, "ipvsadm -a -u 192.0.2.1:53 -r 10.0.0.{server}:53 -g -w {server}")
            .unwrap();
    }
    let table = script.clone();
    for port in 1..=600 {
        writeln!(script, "packet udp 198.51.100.1:{port} 192.0.2.1:53").unwrap();
    }
    let one = simulate(&["--seed", "1", "-"], &script);
    let same = simulate(&["--seed", "1", "-"], &script);
    let other = simulate(&["--seed", "2", "-"], &script);
    assert_eq!(one.stdout, same.stdout);
    assert_ne!(events(&one.stdout), events(&other.stdout));
    let recorded = events(&one.stdout).join("\n");
    let run = simulate(&["--check", "--seed", "2", "-"], &format!("{table}{recorded}\n"));
    assert_eq!(run.code, 0, "{}", run.stdout);
    assert!(
        run.stdout
            .ends_with("0 of 600 events went where they should, 600 compared by their shares\n")
    );
    let swapped = recorded.replace("10.0.0.1:", "10.0.0.9:").replace("10.0.0.3:", "10.0.0.1:");
    let run = simulate(&["--check", "--seed", "2", "-"], &format!("{table}{swapped}\n"));
    assert_eq!(run.code, 1, "{}", run.stdout);
    assert!(
        run.stdout.starts_with("-:5: shares of UDP 192.0.2.1:53\n  expected 10.0.0.1 "),
        "{}",
        run.stdout
    );
}

#[test]
fn moved_clients_are_those_that_come_out_elsewhere() {
    let table = "\
ipvsadm -A -u 192.0.2.1:53 -s mh -o
ipvsadm -a -u 192.0.2.1:53 -r 10.0.0.1:53 -g
ipvsadm -a -u 192.0.2.1:53 -r 10.0.0.2:53 -g
ipvsadm -a -u 192.0.2.1:53 -r 10.0.0.3:53 -g
";
    let clients: String = (0..200).fold(String::new(), |mut text, client| {
        writeln!(text, "packet udp 198.51.100.{client}:9 192.0.2.1:53").unwrap();
        text
    });
    let delete = "ipvsadm -d -u 192.0.2.1:53 -r 10.0.0.2:53";
    let script = format!("{table}{clients}{delete}\n{clients}");
    let run = simulate(&["--moved", "-"], &script);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let events = events(&run.stdout);
    let (before, after) = events.split_at(200);
    let moved = before.iter().zip(after).filter(|(before, after)| before != after).count();
    let gone = before.iter().filter(|event| event.contains("-> 10.0.0.2:")).count();
    assert!(gone > 20 && moved >= gone && moved < 150, "{gone} {moved}");
    let line = format!("# {moved} of 200 clients of UDP 192.0.2.1:53 moved: {delete}");
    assert!(run.stdout.lines().any(|found| found == line), "{line}");
    let run = simulate(&["--moved", "-"], &widened_script(&script));
    let line = format!("# {moved} of 200 clients of UDP [fd00:0:fd00::c000:201]:53 moved: ");
    assert!(run.stdout.lines().any(|found| found.starts_with(&line)), "{line}{}", run.stdout);
}

#[test]
fn many_connections_are_shared_out_exactly() {
    let mut script = String::from("ipvsadm -A -t 192.0.2.1:80 -s wlc\n");
    for server in 1..=4 {
        writeln!(script, "ipvsadm -a -t 192.0.2.1:80 -r 10.0.0.{server}:80 -g -w {server}")
            .unwrap();
    }
    for connection in 0..20_000 {
        let (client, port) = (connection / 1_000, 1_024 + connection % 1_000);
        writeln!(script, "open c{connection} tcp 198.51.100.{client}:{port} 192.0.2.1:80").unwrap();
    }
    let run = simulate(&["--json", "-"], &script);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let report = json(&run);
    let shares: HashMap<String, u64> = report["shares"][0]["destinations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| (d["server"].as_str().unwrap().to_owned(), d["connections"].as_u64().unwrap()))
        .collect();
    for server in 1..=4_u64 {
        let got = shares[&format!("10.0.0.{server}:80")];
        assert_eq!(got, server * 2_000, "server {server}");
    }
}

#[test]
fn new_connections_are_dropped_by_drop_packet_and_known_ones_are_not() {
    let mut script =
        "ipvsadm -A -t 192.0.2.1:80 -s rr\nipvsadm -a -t 192.0.2.1:80 -r 10.0.0.21 -m\n\
         elvs set drop_packet 3\nelvs set am_droprate 3\n"
            .to_owned();
    for port in 1..=7 {
        writeln!(script, "open c{port} tcp 10.9.0.1:{port} 192.0.2.1:80").unwrap();
    }
    let run = simulate(&["--json", "-"], &script);
    let report = json(&run);
    let steps = report["steps"].as_array().unwrap().iter();
    let reasons: Vec<_> = steps.map(|step| step["reason"].as_str().unwrap_or("-")).collect();
    assert_eq!(reasons.join(" "), "drop_packet - - drop_packet - - drop_packet");
}

#[test]
fn half_open_and_idle_entries_end_by_drop_entry() {
    let script = "ipvsadm -A -u 192.0.2.1:53 -s rr\nipvsadm -a -u 192.0.2.1:53 -r 10.0.0.21 -m\n\
         elvs set drop_entry 3\npacket udp 10.9.0.1:1 192.0.2.1:53\nwait 50\nlist\nwait 240\nlist\n";
    let run = simulate(&["-"], script);
    let counts: Vec<&str> = run
        .stdout
        .lines()
        .filter(|line| line.trim_start().starts_with("-> 10.0.0.21"))
        .map(|line| line.split_whitespace().last().unwrap())
        .collect();
    assert_eq!(counts, ["1", "0"], "before its 300 seconds are over: {}{}", run.stdout, run.stderr);
}
