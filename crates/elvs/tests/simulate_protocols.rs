//! `elvs simulate` with SCTP and full NAT: the kernel's picks pass with either, and states, timeouts and ports are theirs.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests fail loudly")]

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Output, errors and exit code of `elvs simulate ARGS -`.
fn simulate(args: &[&str], script: &str) -> (String, String, i32) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_elvs"))
        .arg("simulate")
        .args(args)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code().unwrap())
}

/// Output of a script that runs.
fn output(script: &str) -> String {
    let (stdout, stderr, code) = simulate(&[], script);
    assert_eq!(code, 0, "{stderr}{stdout}");
    stdout
}

/// Checks the expectations of a script.
fn check(script: &str, name: &str) {
    let (stdout, stderr, code) = simulate(&["--check"], script);
    assert_eq!(code, 0, "{name}: {stdout}{stderr}");
}

/// Recordings of the kernel's picks, changed line by line. Those in which closed connections are gone at once, which takes
/// a timeout that only some have, wait `end_s` seconds instead.
fn changed(
    directory: &str,
    end_s: u32,
    change: impl Fn(&str) -> Option<String>,
) -> Vec<(String, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let scripts = files.filter_map(|file| {
        let text = std::fs::read_to_string(&file).unwrap();
        let waits = text.contains("\nipvsadm --set 0 1 0\n");
        let mut script = String::new();
        for line in text.lines() {
            writeln!(script, "{}", change(line)?).unwrap();
            if line.starts_with("close ") && waits {
                writeln!(script, "wait {end_s}").unwrap();
            }
        }
        Some((file.file_name().unwrap().to_str().unwrap().to_owned(), script))
    });
    scripts.collect()
}

const RECORDINGS: [&str; 2] = ["../elvs-fastpath/tests/golden/sched", "tests/golden/sched"];

/// A line with services by full NAT; services by mark and of single packets have none.
fn by_full_nat(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match *words.as_slice() {
        // What is open stays meanwhile.
        ["ipvsadm", "--set", "0", "1", "0"] => Some("ipvsadm --set 10000 1 0".to_owned()),
        ["ipvsadm", "-A" | "-a" | "-e", "-f", ..] => None,
        ["ipvsadm", "-A", kind, service, ..] if !words.contains(&"-o") => {
            let locals = if service.starts_with('[') { "fd07::1-4" } else { "10.7.0.1-4" };
            Some(format!("{line}\nipvsadm --add-laddr {kind} {service} -z {locals}"))
        }
        ["ipvsadm", "-A", ..] => None,
        ["ipvsadm", "-a" | "-e", ..] => {
            let words = words.into_iter().map(|word| match word {
                "-g" | "-m" | "-i" => "--fullnat",
                other => other,
            });
            Some(words.collect::<Vec<_>>().join(" "))
        }
        _ => Some(line.to_owned()),
    }
}

#[test]
fn recordings_of_the_kernel_pass_by_full_nat() {
    for (directory, least) in RECORDINGS.into_iter().zip([90, 4]) {
        let scripts = changed(directory, 121, by_full_nat);
        let by_full_nat = scripts.iter().filter(|(_, script)| script.contains("--fullnat"));
        assert!(by_full_nat.count() >= least, "{directory}: {} recordings", scripts.len());
        for (name, script) in scripts {
            check(&script, &name);
        }
    }
}

/// A line with SCTP for TCP.
fn of_sctp(line: &str) -> Option<String> {
    let words = line.split(' ').map(|word| match word {
        "tcp" => "sctp",
        "-t" => "--sctp-service",
        other => other,
    });
    Some(words.collect::<Vec<_>>().join(" "))
}

#[test]
fn recordings_of_the_kernel_pass_with_sctp() {
    for (directory, least) in RECORDINGS.into_iter().zip([90, 4]) {
        let mut scripts = changed(directory, 62, of_sctp);
        scripts.retain(|(_, script)| script.contains(" sctp "));
        assert!(scripts.len() >= least, "{directory}: {} recordings", scripts.len());
        for (name, script) in scripts {
            check(&script, &name);
        }
    }
}

/// The numbers of connections that each `list` shows of each real server, active and inactive.
fn counts(output: &str) -> Vec<String> {
    let rows = output.lines().filter_map(|row| match *row.split_whitespace().collect::<Vec<_>>() {
        ["->", _, "Route" | "Masq" | "Tunnel" | "FullNat", _, active, inactive] => {
            Some(format!("{active} {inactive}"))
        }
        _ => None,
    });
    rows.collect()
}

/// What the kernel's own SCTP module did: its picks, and the numbers of connections that it showed afterwards.
#[test]
fn recordings_of_the_kernel_with_sctp_pass() {
    let scripts = changed("tests/golden/sctp", 0, |line| Some(line.to_owned()));
    assert_eq!(scripts.len(), 4);
    for (name, script) in scripts {
        check(&script, &name);
        let rows = script.lines().filter_map(|line| line.strip_prefix("# "));
        let recorded = counts(&rows.collect::<Vec<_>>().join("\n"));
        assert_eq!(recorded.len(), 4, "{name}");
        assert_eq!(counts(&output(&format!("{script}list\n"))), recorded, "{name}");
    }
}

/// State and time left of the connections that `ipvsadm -Lnc` shows.
fn states(output: &str) -> Vec<String> {
    let rows = output.lines().filter(|line| line.starts_with("SCTP ") || line.starts_with("TCP "));
    let rows = rows.filter_map(|row| match *row.split_whitespace().collect::<Vec<_>>() {
        [_, left, state, _, _, _] => Some(format!("{left} {state}")),
        _ => None,
    });
    rows.collect()
}

/// A script with a service of each family and a connection to each of its real servers: all are closed, and their entries are
/// there for `end_s` seconds more.
fn lives(service: &str, protocol: &str, methods: &[&str], end_s: u32) -> String {
    let mut script = String::new();
    for (family, address) in ["192.0.2.1:80", "[fd00::1]:80"].into_iter().enumerate() {
        writeln!(script, "ipvsadm -A {service} {address} -s rr").unwrap();
        if methods == ["--fullnat"] {
            let locals = ["192.0.2.200-201", "fd00::200"][family];
            writeln!(script, "ipvsadm --add-laddr {service} {address} -z {locals}").unwrap();
        }
        for (number, method) in methods.iter().enumerate() {
            // Direct routing and tunnels keep the port.
            let port = if ["-m", "--fullnat"].contains(method) { 8_080 } else { 80 };
            let server = ["10.0.0.2", "[fd00::2"][family];
            let end = ["", "]"][family];
            writeln!(
                script,
                "ipvsadm -a {service} {address} -r {server}{number}{end}:{port} {method}"
            )
            .unwrap();
        }
        let client = ["198.51.100.1:", "[fd01::1]:"][family];
        for number in 0..methods.len() {
            let name = format!("{family}.{number}");
            writeln!(script, "open {name} {protocol} {client}{} {address}", 40_000 + number)
                .unwrap();
        }
    }
    script.push_str("list\nipvsadm -Lnc\n");
    for family in 0..2 {
        for number in 0..methods.len() {
            writeln!(script, "close {family}.{number}").unwrap();
        }
    }
    writeln!(script, "list\nipvsadm -Lnc\nwait {}\nlist\nwait 1\nlist", end_s - 1).unwrap();
    script
}

#[test]
fn associations_are_established_and_closed_by_every_method() {
    let output = output(&lives("--sctp-service", "sctp", &["-g", "-m", "-i"], 61));
    let wanted = ["1 0", "0 1", "0 1", "0 0"].map(|count| vec![count; 6]);
    assert_eq!(counts(&output), wanted.concat(), "{output}");
    let wanted = ["15:00 ESTABLISHED", "01:01 CLOSED"].map(|state| vec![state; 6]);
    assert_eq!(states(&output), wanted.concat(), "{output}");
}

#[test]
fn connections_by_full_nat_end_as_those_by_nat() {
    let output = output(&lives("-t", "tcp", &["--fullnat"], 120));
    let wanted = ["1 0", "0 1", "0 1", "0 0"].map(|count| vec![count; 2]);
    assert_eq!(counts(&output), wanted.concat(), "{output}");
    let wanted = ["15:00 ESTABLISHED", "02:00 TIME_WAIT"].map(|state| vec![state; 2]);
    assert_eq!(states(&output), wanted.concat(), "{output}");
}

#[test]
fn an_association_stays_where_it_is_until_it_is_closed() {
    let script = "\
ipvsadm -A --sctp-service 192.0.2.1:80 -s rr
ipvsadm -a --sctp-service 192.0.2.1:80 -r 10.0.0.1:80
ipvsadm -a --sctp-service 192.0.2.1:80 -r 10.0.0.2:80
open a sctp 198.51.100.1:1 192.0.2.1:80 -> 10.0.0.2
open again sctp 198.51.100.1:1 192.0.2.1:80 -> 10.0.0.2
close a
# Its entry is there still, but an INIT begins anew.
open b sctp 198.51.100.1:1 192.0.2.1:80 -> 10.0.0.1
short tcp 198.51.100.1:1 192.0.2.1:80 -> none
";
    check(script, "association");
}

#[test]
fn persistence_and_marks_work_with_both() {
    let script = "\
ipvsadm -A --sctp-service 192.0.2.1:80 -s rr -p 60
ipvsadm -a --sctp-service 192.0.2.1:80 -r 10.0.0.1 -m
ipvsadm -a --sctp-service 192.0.2.1:80 -r 10.0.0.2 -m
short sctp 198.51.100.1:1 192.0.2.1:80 -> 10.0.0.2
short sctp 198.51.100.1:2 192.0.2.1:80 -> 10.0.0.2
short sctp 198.51.100.2:1 192.0.2.1:80 -> 10.0.0.1
wait 300
short sctp 198.51.100.1:3 192.0.2.1:80 -> 10.0.0.2
elvs mark add --destination 192.0.2.9 --mark 7
ipvsadm -A -f 7 -s rr
ipvsadm -a -f 7 -r 10.0.0.3
ipvsadm -a -f 7 -r 10.0.0.4
short sctp 198.51.100.1:1 192.0.2.9:80 -> 10.0.0.4:80
short tcp 198.51.100.1:1 192.0.2.9:81 -> 10.0.0.3:81
ipvsadm -A -t 192.0.2.2:80 -s rr -p 60
ipvsadm --add-laddr -t 192.0.2.2:80 -z 192.0.2.200
ipvsadm -a -t 192.0.2.2:80 -r 10.0.0.1:8080 --fullnat
ipvsadm -a -t 192.0.2.2:80 -r 10.0.0.2:8080 --fullnat
short tcp 198.51.100.1:1 192.0.2.2:80 -> 10.0.0.2:8080
short tcp 198.51.100.1:2 192.0.2.2:80 -> 10.0.0.2:8080
short tcp 198.51.100.2:1 192.0.2.2:80 -> 10.0.0.1:8080
";
    check(script, "persistence");
}

/// Rows of `ipvsadm --list-laddr`: ports in use, free, and refused connections.
fn ports(output: &str) -> Vec<String> {
    let rows = output.lines().filter_map(|row| match *row.split_whitespace().collect::<Vec<_>>() {
        ["->", address, used, free, exhausted] if address.starts_with("192.0.2.") => {
            Some(format!("{used} {free} {exhausted}"))
        }
        _ => None,
    });
    rows.collect()
}

#[test]
fn a_local_address_without_a_free_port_refuses_until_connections_end() {
    let mut script = "\
ipvsadm -A -u 192.0.2.1:53 -s rr
ipvsadm --add-laddr -u 192.0.2.1:53 -z 192.0.2.200
ipvsadm -a -u 192.0.2.1:53 -r 10.0.0.1:53 --fullnat
"
    .to_owned();
    for client in 0..64_513_u32 {
        let (host, port) = (client / 30_000, 1_024 + client % 30_000);
        writeln!(script, "packet udp 198.51.100.{host}:{port} 192.0.2.1:53").unwrap();
    }
    script.push_str("ipvsadm --list-laddr\nwait 300\nipvsadm --list-laddr\n");
    let (stdout, stderr, code) = simulate(&["--json"], &script);
    assert_eq!(code, 0, "{stderr}");
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let steps = report["steps"].as_array().unwrap();
    let refused: Vec<_> = steps.iter().filter_map(|step| step["reason"].as_str()).collect();
    assert_eq!(refused, ["local_ports_exhausted"]);
    let tables = steps.iter().filter_map(|step| step["text"].as_str()).flat_map(ports);
    assert_eq!(tables.collect::<Vec<_>>(), ["64512 0 1", "0 64512 1"]);
}

#[test]
fn what_full_nat_cannot_be_is_named() {
    let script = "\
ipvsadm -A -t 192.0.2.1:80 -s rr
ipvsadm -a -t 192.0.2.1:80 -r 10.0.0.1:80 --fullnat
ipvsadm --add-laddr -t 192.0.2.1:80 -z 192.0.2.1
ipvsadm -A --sctp-service 192.0.2.2:80 -s rr
ipvsadm --add-laddr --sctp-service 192.0.2.2:80 -z 192.0.2.200
ipvsadm --add-laddr -t 192.0.2.3:80 -z 192.0.2.200
ipvsadm -A -t 192.0.2.4:80 -s rr
ipvsadm --add-laddr -t 192.0.2.4:80 -z 10.9.0.0-10.9.1.0
ipvsadm --add-laddr -t 192.0.2.4:80 -z 10.9.2.0-255
ipvsadm -a -t 192.0.2.4:80 -r 10.0.0.1:80 --fullnat
ipvsadm --del-laddr -t 192.0.2.4:80 -z 10.9.3.0
";
    let (_, stderr, code) = simulate(&[], script);
    assert_eq!(code, 2, "{stderr}");
    let parts = [
        "-:2: `ipvsadm -a -t 192.0.2.1:80 -r 10.0.0.1:80 --fullnat`: ",
        "-:3: `ipvsadm --add-laddr -t 192.0.2.1:80 -z 192.0.2.1`: ",
        "-:5: `ipvsadm --add-laddr --sctp-service 192.0.2.2:80 -z 192.0.2.200`: ",
        "-:6: `ipvsadm --add-laddr -t 192.0.2.3:80 -z 192.0.2.200`: ",
        "-:8: `ipvsadm --add-laddr -t 192.0.2.4:80 -z 10.9.0.0-10.9.1.0`: that makes 257 local addresses: \
         a script has at most 256",
        "-:11: `ipvsadm --del-laddr -t 192.0.2.4:80 -z 10.9.3.0`: ",
    ];
    let lines: Vec<&str> = stderr.lines().collect();
    assert_eq!(lines.len(), parts.len(), "{stderr}");
    for (line, part) in lines.into_iter().zip(parts) {
        assert!(line.starts_with(part), "{line}");
    }
}

#[test]
fn there_is_room_for_all_of_a_script_in_the_wide_table() {
    let mut script = "\
ipvsadm -A --sctp-service 192.0.2.1:80 -s rr
ipvsadm -a --sctp-service 192.0.2.1:80 -r 10.0.0.1:80 -m
"
    .to_owned();
    for client in 0..12_000 {
        let (host, port) = (client / 6_000, 1_024 + client % 6_000);
        writeln!(script, "open c{client} sctp 198.51.100.{host}:{port} 192.0.2.1:80").unwrap();
    }
    script.push_str("list\n");
    assert_eq!(counts(&output(&script)), ["12000 0"]);
}

#[test]
fn moved_clients_are_counted_with_both() {
    let table = "\
ipvsadm -A -t 192.0.2.1:80 -s mh
ipvsadm -a -t 192.0.2.1:80 -r 10.0.0.1:80 -m
ipvsadm -a -t 192.0.2.1:80 -r 10.0.0.2:80 -m
ipvsadm -a -t 192.0.2.1:80 -r 10.0.0.3:80 -m
";
    let mut script = table.to_owned();
    for client in 0..200 {
        writeln!(script, "short tcp 198.51.100.{client}:9 192.0.2.1:80").unwrap();
    }
    script.push_str("ipvsadm -d -t 192.0.2.1:80 -r 10.0.0.2:80\n");
    let moved = |change: fn(&str) -> Option<String>| {
        let lines: Vec<_> = script.lines().map(|line| change(line).unwrap()).collect();
        let (stdout, stderr, code) = simulate(&["--moved"], &lines.join("\n"));
        assert_eq!(code, 0, "{stderr}");
        let line = stdout.lines().find(|line| line.starts_with("# ")).unwrap();
        let words: Vec<u32> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
        assert_eq!(words.last(), Some(&200), "{line}");
        words[0]
    };
    let by_nat = moved(|line| Some(line.to_owned()));
    assert!((20..150).contains(&by_nat), "{by_nat}");
    assert_eq!(moved(by_full_nat), by_nat);
    assert_eq!(moved(of_sctp), by_nat);
}
