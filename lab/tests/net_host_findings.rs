//! What a configuration asks for and the director's host does not have, said by `elvs check` and by the daemon.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail loudly"
)]

use std::fs;
use std::net::IpAddr;

use elvs_lab::{Topology, bed, method, output_of, program, wait_until};
use elvs_net::Netlink;

/// A real server by direct routing behind the first one, which is taken for a router.
const BEHIND: &str = "real_server 10.9.0.2 80 {\n weight 1\n}\n";
/// One in a network of nobody.
const UNREACHABLE: &str = "real_server 10.8.0.2 80 {\n weight 1\n}\n";

fn topology(name: &str) -> Topology {
    let topology = Topology::new(name, method::DR, 1);
    let gateway = topology.real_server(1).address;
    let route = async |netlink: Netlink| {
        netlink.add_route(IpAddr::from([10, 9, 0, 0]), 24, gateway.into()).await?;
        Ok::<_, bed::BedError>(())
    };
    topology.bed().director.namespace.with_netlink(route).unwrap();
    topology
}

/// The bed's configuration with more real servers.
fn config(topology: &Topology, servers: &[&str]) -> String {
    let config = topology.config("rr", 1);
    let end = config.rfind('}').unwrap();
    format!("{}{}}}\n", &config[..end], servers.concat())
}

fn behind(topology: &Topology) -> String {
    let gateway = topology.real_server(1).address;
    format!(
        "real server 10.9.0.2 is behind gateway {gateway}: direct routing needs it on a network of this host; use TUN or FNAT (TCP {}:80)",
        bed::VIP
    )
}

#[test]
fn check_says_what_this_host_lacks() {
    let topology = topology("host-check");
    let config = config(&topology, &[BEHIND, UNREACHABLE]);
    let file = topology.directory().join("elvs.conf");
    let check = |text: &str, more: &[&str]| {
        fs::write(&file, text).unwrap();
        let mut command = topology.bed().director.command(program());
        output_of({
            command.arg("check").args(more).arg("-f").arg(&file);
            command
        })
    };
    let unreachable = format!(
        "real server 10.8.0.2 cannot be reached: no route to 10.8.0.2 (TCP {}:80)",
        bed::VIP
    );
    let said = check(&config, &[]);
    let want = format!("\non this host:\nwarning: {unreachable}\nwarning: {}\n", behind(&topology));
    assert!(said.ends_with(&want), "{said}");
    assert!(!check(&config, &["--no-host"]).contains("on this host"));
    // A tunnel may lead through a gateway, and the bed has all else that this file needs.
    let tunnelled = config.replace("lb_kind DR", "lb_kind TUN").replace("10.8.0.2", "10.9.0.3");
    let said = check(&tunnelled, &[]);
    assert!(!said.contains("on this host"), "{said}");
}

#[test]
fn the_daemon_says_it_once() {
    let topology = topology("host-daemon");
    let daemon = topology.daemon(Some(&config(&topology, &[BEHIND])));
    let count = |text: &str| daemon.process.log().matches(text).count();
    let behind = behind(&topology);
    wait_until("the gateway in the log", || count(&behind) == 1);
    let stop =
        "program /nonexistent/stop cannot be run: no such file or directory (shutdown_script)";
    let global = "global_defs {\n shutdown_script /nonexistent/stop\n}\n";
    daemon.write_config(&format!("{global}{}", config(&topology, &[BEHIND, UNREACHABLE])));
    daemon.reload().unwrap();
    wait_until("the script in the log", || count(stop) == 1);
    assert_eq!(count(&behind), 1, "{}", daemon.process.log());
    // The router says by itself what cannot be reached.
    assert_eq!(count("10.8.0.2 cannot be reached: no route"), 1, "{}", daemon.process.log());
}
