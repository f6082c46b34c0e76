//! Persistence, services by firewall mark and connection thresholds with real clients and real servers.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests fail loudly")]

use elvs_lab::{Topology, method, output_of, wait_until};
use elvs_net::bed::VIP;
use nix::sys::signal::Signal;

/// Adds every real server of the bed to a service, with further options.
fn add_all(
    topology: &Topology,
    daemon: &elvs_lab::Daemon,
    service: &str,
    port: u16,
    options: &str,
) {
    for host in &topology.bed().real_servers {
        daemon.adm_ok(&format!("-a {service} -r {}:{port} {options}", host.address));
    }
}

#[test]
fn a_client_stays_with_its_real_server_over_a_restart() {
    let topology = Topology::new("stay", method::DR, 3);
    let _nginx = topology.nginx();
    let mut daemon = topology.daemon(None);
    let service = format!("-t {VIP}:80");
    daemon.adm_ok(&format!("-A {service} -s rr -p 600"));
    add_all(&topology, &daemon, &service, 80, "-g");
    let first = topology.curl(1).remove(0);
    assert_eq!(topology.curl_shares(20), [(first.clone(), 20)].into());

    let shown = daemon.adm_ok("-Ln");
    assert!(shown.contains(&format!("TCP  {VIP}:80 rr persistent 600")), "{shown}");
    let listed = daemon.adm_ok("-Lnc");
    let client = topology.bed().client.address;
    let template = listed.lines().find(|line| line.contains(&format!("{client}:0 ")));
    let template = template.unwrap_or_else(|| panic!("no template in\n{listed}"));
    assert!(template.starts_with("TCP 09:59  ") || template.starts_with("TCP 10:00  "));
    wait_until("the template to be assured", || {
        let listed = daemon.adm_ok("-Lnc");
        listed
            .lines()
            .any(|line| line.contains(&format!("{client}:0 ")) && line.contains("ASSURED"))
    });
    let counted = daemon.adm_ok("-Ln --persistent-conn");
    let persistent = counted.lines().filter(|line| {
        // Forwarding, address, weight, persistent connections ...
        line.trim_start().starts_with("->") && line.split_whitespace().nth(3) == Some("1")
    });
    assert_eq!(persistent.count(), 1, "{counted}");

    daemon.process.signal(Signal::SIGKILL);
    assert_eq!(daemon.process.wait(), None, "ended by the signal");
    let _daemon = topology.daemon(None);
    assert_eq!(topology.curl_shares(20), [(first, 20)].into());
}

#[test]
fn a_mark_is_a_service_by_command_and_by_file() {
    let topology = Topology::new("mark", method::DR, 3);
    let _nginx = topology.nginx();
    let daemon = topology.daemon(None);
    let rule = format!("--destination {VIP} --protocol tcp --destination-port 80:90 --mark 7");
    let mut add = daemon.elvs();
    add.args(["mark", "add"]).args(rule.split(' '));
    output_of(add);
    daemon.adm_ok("-A -f 7 -s rr");
    add_all(&topology, &daemon, "-f 7", 0, "-g");
    assert_eq!(topology.curl_shares(30).values().collect::<Vec<_>>(), [&10, &10, &10]);
    drop(daemon);

    let mut text = format!(
        "mark 9 {{\n destination {VIP}\n protocol tcp\n destination_port 80\n}}\nvirtual_server fwmark 9 {{\n lb_algo wlc\n lb_kind DR\n persistence_timeout 60\n"
    );
    for host in &topology.bed().real_servers {
        text += &format!(" real_server {} 0 {{\n  weight 1\n }}\n", host.address);
    }
    text += "}\n";
    let daemon = topology.daemon(Some(&text));
    let shares = topology.curl_shares(12);
    assert_eq!(shares.values().collect::<Vec<_>>(), [&12], "persistent: {shares:?}");
    assert!(daemon.adm_ok("-Ln").contains("FWM  9 wlc persistent 60"));
}

#[test]
fn a_server_at_its_threshold_gets_no_more_until_it_has_fewer() {
    let topology = Topology::new("threshold", method::NAT, 1);
    let _nginx = topology.nginx();
    let daemon = topology.daemon(None);
    let service = format!("-t {VIP}:80");
    daemon.adm_ok(&format!("-A {service} -s wlc"));
    add_all(&topology, &daemon, &service, 80, "-m -x 2");
    let mut open = [topology.session(), topology.session()];
    let attempt = || {
        let mut curl = topology.client("curl");
        curl.args(["-sS", "--max-time", "1", &format!("http://{VIP}/")]);
        curl.output().expect("curl").status.success()
    };
    assert!(!attempt(), "a third connection");
    for session in &mut open {
        assert_eq!(session.get(), "rs1");
    }
    let host = topology.real_server(1).address;
    daemon.adm_ok(&format!("-e {service} -r {host}:80 -m -x 9"));
    assert!(attempt());
    let shown = daemon.adm_ok("-Ln --thresholds");
    assert!(shown.contains(&format!("{host}:80")) && shown.contains(" 9 "), "{shown}");
}
