//! The three classical set-ups of LVS: direct routing, masquerading, tunnelling; by commands alone and by a
//! configuration file alone.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail loudly"
)]

use std::collections::BTreeMap;

use elvs_lab::bed::VIP;
use elvs_lab::{Daemon, Topology, method};
use elvs_model::ForwardingMethod;

/// How a director is told what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Commands,
    File,
}

const REAL_SERVERS: u8 = 3;

/// 20,000 connections of curl, then many at once of wrk; not one may fail.
fn forwards(name: &str, method: ForwardingMethod, by: By) {
    let topology = Topology::new(name, method, REAL_SERVERS);
    let _nginx = topology.nginx();
    let _tunnels = match method {
        ForwardingMethod::Tun(_) => topology.decapsulate(),
        ForwardingMethod::Dr | ForwardingMethod::Nat | ForwardingMethod::FullNat => Vec::new(),
    };
    let daemon = match by {
        By::Commands => commanded(&topology),
        By::File => topology.daemon(Some(&topology.config("rr", REAL_SERVERS.into()))),
    };

    // A fresh service's rr gives each exactly its turn.
    let shares = topology.curl_shares(300);
    let even: BTreeMap<String, u32> = (1..=REAL_SERVERS).map(|n| (format!("rs{n}"), 100)).collect();
    assert_eq!(shares, even, "{}", daemon.adm_ok("-Ln --stats"));

    let answers = topology.curl(20_000);
    assert_eq!(answers.len(), 20_000, "answers of 20,000 requests");
    assert_eq!(topology.upload(3_000_000), "200");
    for keep_alive in [false, true] {
        let wrk = topology.wrk(50, 2, keep_alive);
        assert_eq!((wrk.socket_errors, wrk.refused), (0, 0), "keep-alive {keep_alive}: {wrk:?}");
        assert!(wrk.requests > 100, "keep-alive {keep_alive}: {wrk:?}");
    }
    let drops: Vec<_> = daemon.status().drops.into_iter().filter(|d| d.packets > 0).collect();
    assert_eq!(drops, Vec::new(), "nothing is dropped");
    let listing = daemon.adm_ok("-Ln");
    for number in 1..=usize::from(REAL_SERVERS) {
        let address = topology.real_server(number).address;
        assert!(listing.contains(&format!("-> {address}:80")), "{address} in\n{listing}");
    }
}

fn commanded(topology: &Topology) -> Daemon {
    let daemon = topology.daemon(None);
    let flag = match topology.bed().plan.method {
        ForwardingMethod::Dr => "-g",
        ForwardingMethod::Nat => "-m",
        ForwardingMethod::Tun(_) => "-i",
        ForwardingMethod::FullNat => "--fullnat",
    };
    daemon.adm_ok(&format!("-A -t {VIP}:80 -s rr"));
    for host in &topology.bed().real_servers {
        daemon.adm_ok(&format!("-a -t {VIP}:80 -r {}:80 {flag}", host.address));
    }
    daemon.wait_ready();
    daemon
}

#[test]
fn direct_routing_by_commands() {
    forwards("dr-cmd", method::DR, By::Commands);
}

#[test]
fn direct_routing_by_file() {
    forwards("dr-file", method::DR, By::File);
}

#[test]
fn masquerading_by_commands() {
    forwards("nat-cmd", method::NAT, By::Commands);
}

#[test]
fn masquerading_by_file() {
    forwards("nat-file", method::NAT, By::File);
}

#[test]
fn tunnelling_by_commands() {
    forwards("tun-cmd", method::TUN, By::Commands);
}

#[test]
fn tunnelling_by_file() {
    forwards("tun-file", method::TUN, By::File);
}
