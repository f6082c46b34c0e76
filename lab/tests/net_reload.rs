//! SIGHUP: the daemon takes over differences, and nothing else.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests fail loudly")]

use elvs_lab::{Daemon, Session, Topology, method, wait_until};
use nix::sys::signal::Signal;

/// Sessions to three different real servers, in rr's order.
fn sessions(topology: &Topology) -> Vec<(Session, String)> {
    let sessions = (0..3).map(|_| {
        let mut session = topology.session();
        let server = session.get();
        (session, server)
    });
    let sessions: Vec<_> = sessions.collect();
    let mut servers: Vec<&str> = sessions.iter().map(|(_, server)| server.as_str()).collect();
    servers.sort_unstable();
    assert_eq!(servers, ["rs1", "rs2", "rs3"]);
    sessions
}

fn connections(daemon: &Daemon) -> usize {
    daemon.adm_ok("-Lnc").lines().filter(|line| line.starts_with("TCP ")).count()
}

#[test]
fn an_unchanged_file_changes_nothing() {
    let topology = Topology::new("reload1", method::DR, 3);
    let _nginx = topology.nginx();
    let daemon = topology.daemon(Some(&topology.config("rr", 3)));
    let mut open = sessions(&topology);
    assert_eq!(topology.curl(29).len(), 29);
    // The state file holds the number of tables put in force so far, and everybody's index in them.
    let state = || std::fs::read("/run/elvs/lab-reload1/table.json").expect("a state file");
    let before = (daemon.adm_ok("-Ln --stats --exact"), connections(&daemon), state());

    daemon.process.signal(Signal::SIGHUP);
    wait_until("the reload", || daemon.process.log().contains("reloaded: nothing changed"));
    assert_eq!(daemon.reload().expect("a reload"), 0, "changes");
    assert_eq!((daemon.adm_ok("-Ln --stats --exact"), connections(&daemon), state()), before);
    let mut next = topology.curl(1);
    // 32 connections before: rr goes on with the 33rd, as if nothing had been.
    assert_eq!(next.pop(), Some("rs1".to_owned()));
    for (session, server) in &mut open {
        assert_eq!(session.get(), *server);
    }
}

#[test]
fn a_removed_real_server_leaves_the_others_their_connections() {
    let topology = Topology::new("reload2", method::DR, 3);
    let _nginx = topology.nginx();
    let daemon = topology.daemon(Some(&topology.config("rr", 3)));
    let mut open = sessions(&topology);

    daemon.write_config(&topology.config("rr", 2));
    daemon.process.signal(Signal::SIGHUP);
    let gone = topology.real_server(3).address.to_string();
    wait_until("the change", || !daemon.adm_ok("-Ln").contains(&gone));
    for (session, server) in open.iter_mut().filter(|(_, server)| server != "rs3") {
        assert_eq!(session.get(), *server);
    }
    let shares = topology.curl_shares(20);
    assert_eq!(shares, [("rs1".to_owned(), 10), ("rs2".to_owned(), 10)].into());
}

#[test]
fn a_broken_file_changes_nothing_and_the_log_says_why() {
    let topology = Topology::new("reload3", method::DR, 3);
    let _nginx = topology.nginx();
    let daemon = topology.daemon(Some(&topology.config("rr", 3)));
    let mut open = sessions(&topology);
    let before = daemon.adm_ok("-Ln");

    let broken = topology.config("rr", 2).replace("lb_algo", "lb_alga");
    daemon.write_config(&broken);
    daemon.process.signal(Signal::SIGHUP);
    wait_until("the reason in the log", || daemon.process.log().contains("lb_alga"));
    let log = daemon.process.log();
    assert!(log.contains("keepalived.conf:2:5: error: "), "file, line and column in:\n{log}");
    assert!(log.contains("everything stays as it is"), "{log}");
    assert!(daemon.reload().is_err(), "the same by the API");
    assert_eq!(daemon.adm_ok("-Ln"), before);
    for (session, server) in &mut open {
        assert_eq!(session.get(), *server);
    }
    assert_eq!(topology.curl_shares(30).len(), 3);
}
