//! Mark rules and settings over restarts and reloads, with real traffic by mark.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests fail loudly")]

use elvs_lab::{Daemon, Topology, method, output_of};
use elvs_net::bed::VIP;
use nix::sys::signal::Signal;

/// What a command of the program under test prints.
fn elvs(daemon: &Daemon, arguments: &str) -> String {
    let mut command = daemon.elvs();
    command.args(arguments.split_whitespace());
    output_of(command)
}

/// A service by mark 9, with packets to one port of the VIP.
fn config(topology: &Topology, port: u16, settings: &str) -> String {
    let servers = topology.bed().real_servers.iter();
    let servers: String =
        servers.map(|host| format!(" real_server {} 80 {{\n }}\n", host.address)).collect();
    format!(
        "ipvs {{\n{settings}\n}}\nmark 9 {{\n destination {VIP}\n protocol tcp\n destination_port {port}\n}}\n\
         virtual_server fwmark 9 {{\n lvs_sched rr\n lvs_method DR\n{servers}}}\n"
    )
}

#[test]
fn rules_and_settings_outlive_the_daemon_and_a_reload_makes_the_difference() {
    let topology = Topology::new("marks", method::DR, 3);
    let _nginx = topology.nginx();
    let text = config(&topology, 80, "sync_retries 2");
    let mut daemon = topology.daemon(Some(&text));
    let of_file = format!("--destination {VIP}/32 --protocol tcp --destination-port 80 --mark 9\n");
    assert_eq!(elvs(&daemon, "mark list"), of_file);
    assert_eq!(topology.curl_shares(30).values().collect::<Vec<_>>(), [&10, &10, &10]);

    let rules = topology.directory().join("rules");
    let rule =
        "-A PREROUTING -d 192.0.2.9/32 -p udp -m udp --dport 53 -j MARK --set-xmark 0x8/0xffffffff";
    std::fs::write(&rules, format!("*mangle\n:PREROUTING ACCEPT [0:0]\n{rule}\nCOMMIT\n")).unwrap();
    let imported = elvs(&daemon, &format!("mark import {}", rules.display()));
    let of_import = "--destination 192.0.2.9/32 --protocol udp --destination-port 53 --mark 8\n";
    assert_eq!(imported, of_import);
    elvs(&daemon, "set est_nice -5");
    let both = [of_file.as_str(), of_import].concat();
    assert_eq!(elvs(&daemon, "mark list"), both);

    daemon.process.signal(Signal::SIGKILL);
    assert_eq!(daemon.process.wait(), None, "ended by the signal");
    assert_eq!(topology.curl(3).len(), 3, "while no daemon runs");
    let daemon = topology.daemon(Some(&text));
    assert_eq!(elvs(&daemon, "mark list"), both);
    assert_eq!(elvs(&daemon, "get est_nice"), "-5\n");
    assert_eq!(elvs(&daemon, "get sync_retries"), "2\n");
    assert_eq!(topology.curl(3).len(), 3, "after the restart");

    let client = topology.bed().client.address;
    daemon.write_config(&format!("mark none {{\n source {client}\n}}\n{text}"));
    // The rule of the file is behind the new one now.
    assert_eq!(daemon.reload().expect("a reload"), 3, "changes");
    let mut curl = topology.client("curl");
    curl.args(["-sS", "--max-time", "2"]).arg(format!("http://{VIP}/"));
    let answer = curl.output().expect("curl");
    assert!(!answer.status.success(), "a client without a mark reaches no real server");

    daemon.write_config(&text);
    assert_eq!(daemon.reload().expect("a reload"), 1, "changes");
    assert_eq!(topology.curl(3).len(), 3, "with the mark again");

    daemon.write_config(&config(&topology, 81, ""));
    // A rule that goes, one that comes, and a setting that has its default again.
    assert_eq!(daemon.reload().expect("a reload"), 3, "changes");
    let changed = of_file.replace("80", "81");
    assert_eq!(elvs(&daemon, "mark list"), [of_import, &changed].concat());
    assert_eq!(elvs(&daemon, "get sync_retries"), "0\n");
    assert_eq!(elvs(&daemon, "get est_nice"), "-5\n");
    assert_eq!(elvs(&daemon, "mark del --mark 9"), format!("deleting {changed}"));
    assert_eq!(elvs(&daemon, "mark list"), of_import);
}

#[test]
fn sync_daemons_are_kept_over_a_restart_and_say_what_they_do_not_do() {
    let topology = Topology::new("sync", method::DR, 1);
    let mut daemon = topology.daemon(None);
    let missing = daemon.adm("--start-daemon master --mcast-interface nosuch");
    assert_eq!(missing.status.code(), Some(255));
    assert_eq!(String::from_utf8_lossy(&missing.stderr), "No such device\n");
    let started = daemon.adm("--start-daemon backup --mcast-interface lo --syncid 7");
    assert!(started.status.success());
    let warning = String::from_utf8_lossy(&started.stderr).into_owned();
    assert!(warning.contains("connections are not synchronised"), "{warning}");
    let expected = "backup sync daemon (mcast=lo, syncid=7, maxlen=65507, group=224.0.0.81, port=8848, ttl=1)\n";
    assert_eq!(daemon.adm_ok("-L --daemon"), expected);
    assert!(daemon.process.log().contains("connections are not synchronised"));

    daemon.process.signal(Signal::SIGKILL);
    assert_eq!(daemon.process.wait(), None, "ended by the signal");
    let daemon = topology.daemon(None);
    assert_eq!(daemon.adm_ok("-L --daemon"), expected);
    let mixed = format!("-a -t {VIP}:80 -r [fd00::21]:80 -i");
    daemon.adm_ok(&format!("-A -t {VIP}:80"));
    assert!(!daemon.adm(&mixed).status.success());
    daemon.adm_ok("--stop-daemon backup");
    assert_eq!(daemon.adm_ok("-L --daemon"), "");
}
