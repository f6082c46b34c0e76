//! The daemon's checks: what fails leaves the table, what works returns, and neither reload nor crash forgets it.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "tests fail loudly"
)]

use std::fmt::Write;
use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::net::{IpAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use elvs_api::Client;
use elvs_lab::bed::{BedError, DIRECTOR, Host, VIP};
use elvs_lab::{Daemon, Nginx, Session, Topology, method, output_of, wait_until};
use elvs_model::Change;
use elvs_model::health::{BfdInstance, CheckState, HealthView, ServerState};
use elvs_net::Netlink;
use elvs_probe::bfd::Bfd;
use nix::sys::signal::Signal;

/// A check that sees a failure within a few seconds.
const CHECK: &str = "TCP_CHECK {
            connect_timeout 1
            delay_loop 1
            retry 1
            delay_before_retry 1
            warmup 0
        }";

/// A service with checked real servers; `service` and `server` are further lines of both.
fn config(topology: &Topology, servers: usize, service: &str, server: &str) -> String {
    let mut text = format!(
        "virtual_server {VIP} 80 {{\n    lvs_sched rr\n    lvs_method DR\n    protocol TCP\n    {service}\n"
    );
    for number in 1..=servers {
        let address = topology.real_server(number).address;
        let server = server.replace("NAME", &format!("rs{number}"));
        writeln!(
            text,
            "    real_server {address} 80 {{\n        weight 1\n        {server}\n        {CHECK}\n    }}"
        )
        .unwrap();
    }
    text + "}\n"
}

fn state(view: &HealthView, topology: &Topology, number: usize) -> ServerState {
    let address = topology.real_server(number).address;
    let server = view.watched[0].servers.iter().find(|server| server.key.address == address);
    server.expect("the real server").state
}

fn wait_state(daemon: &Daemon, topology: &Topology, number: usize, wanted: ServerState) {
    wait_until(&format!("rs{number} to be {}", wanted.name()), || {
        state(&daemon.health(), topology, number) == wanted
    });
    // The table follows at once.
    let address = format!("{}:80", topology.real_server(number).address);
    if wanted == ServerState::Up {
        wait_until("the table", || daemon.adm_ok("-Ln").contains(&address));
    }
}

/// Waits until every check has run.
fn wait_checked(daemon: &Daemon) {
    wait_until("every check to have run", || {
        let view = daemon.health();
        let mut checks = view.watched[0].servers.iter().flat_map(|server| &server.checks);
        checks.all(|check| check.last_run.is_some())
    });
}

fn in_table(daemon: &Daemon, topology: &Topology, number: usize) -> Option<u32> {
    let address = topology.real_server(number).address;
    let status = daemon.status();
    let mut destinations = status.services[0].destinations.iter();
    let found = destinations.find(|view| view.destination.key.address == address);
    found.map(|view| view.destination.weight)
}

fn sessions(topology: &Topology) -> Vec<(Session, String)> {
    let open = (0..3).map(|_| {
        let mut session = topology.session();
        let server = session.get();
        (session, server)
    });
    open.collect()
}

#[test]
fn a_real_server_that_fails_leaves_and_returns() {
    let topology = Topology::new("health1", method::DR, 3);
    let mut nginx = topology.nginx();
    let daemon = topology.daemon(Some(&config(&topology, 3, "", "")));
    wait_checked(&daemon);
    let mut open = sessions(&topology);

    drop(nginx.remove(1));
    wait_state(&daemon, &topology, 2, ServerState::Down);
    wait_until("the table", || in_table(&daemon, &topology, 2).is_none());
    // No request fails once it is out.
    let shares = topology.curl_shares(20);
    assert_eq!(shares, [("rs1".to_owned(), 10), ("rs3".to_owned(), 10)].into());
    for (session, server) in open.iter_mut().filter(|(_, server)| server != "rs2") {
        assert_eq!(session.get(), *server);
    }
    let view = daemon.health();
    let server = view.watched[0].servers.iter().find(|s| s.state == ServerState::Down).unwrap();
    assert_eq!(server.weight, None);
    assert!(server.checks[0].words.contains("refused"), "{:?}", server.checks[0]);
    let text = output_of({
        let mut command = daemon.elvs();
        command.args(["status", "--health"]);
        command
    });
    assert!(text.contains("not in the table") && text.contains("refused"), "{text}");

    nginx.push(Nginx::start(topology.real_server(2), topology.directory()));
    wait_state(&daemon, &topology, 2, ServerState::Up);
    let shares = topology.curl_shares(30);
    assert_eq!(shares.values().copied().collect::<Vec<_>>(), [10, 10, 10], "{shares:?}");
    for (session, server) in open.iter_mut().filter(|(_, server)| server != "rs2") {
        assert_eq!(session.get(), *server);
    }
}

#[test]
fn an_inhibited_real_server_stays_with_weight_0() {
    let topology = Topology::new("health2", method::DR, 2);
    let mut nginx = topology.nginx();
    let daemon = topology.daemon(Some(&config(&topology, 2, "", "inhibit_on_failure")));
    wait_checked(&daemon);
    drop(nginx.pop());
    wait_state(&daemon, &topology, 2, ServerState::Down);
    wait_until("the table", || in_table(&daemon, &topology, 2) == Some(0));
    assert_eq!(topology.curl_shares(10), [("rs1".to_owned(), 10)].into());
    nginx.push(Nginx::start(topology.real_server(2), topology.directory()));
    wait_until("the table", || in_table(&daemon, &topology, 2) == Some(1));
}

#[test]
fn below_the_quorum_the_sorry_server_serves() {
    let topology = Topology::new("health3", method::DR, 3);
    let mut nginx = topology.nginx();
    let sorry = topology.real_server(3).address;
    let service = format!("quorum 2\n    sorry_server {sorry} 80");
    let daemon = topology.daemon(Some(&config(&topology, 2, &service, "")));
    wait_checked(&daemon);
    assert_eq!(topology.curl_shares(10).len(), 2);
    drop(nginx.remove(1));
    wait_until("the sorry server", || in_table(&daemon, &topology, 3) == Some(1));
    assert_eq!(topology.curl_shares(10), [("rs3".to_owned(), 10)].into());
    assert!(!daemon.health().watched[0].up);
    nginx.push(Nginx::start(topology.real_server(2), topology.directory()));
    wait_until("the real servers", || in_table(&daemon, &topology, 3).is_none());
    let shares = topology.curl_shares(10);
    assert_eq!(shares, [("rs1".to_owned(), 5), ("rs2".to_owned(), 5)].into());
}

#[test]
fn a_failed_real_server_stays_failed_over_reload_kill_and_stop() {
    let topology = Topology::new("health4", method::DR, 3);
    let mut nginx = topology.nginx();
    let first = config(&topology, 3, "", "");
    let mut daemon = topology.daemon(Some(&first));
    wait_checked(&daemon);
    drop(nginx.remove(1));
    wait_state(&daemon, &topology, 2, ServerState::Down);
    let history = |daemon: &Daemon| -> Vec<_> {
        let view = daemon.health();
        let changes = view.watched[0].servers[1].history.iter();
        changes.map(|change| (change.state, change.reason.clone())).collect()
    };
    let before = history(&daemon);

    let second = first.replacen("weight 1", "weight 5", 1);
    daemon.write_config(&second);
    // What a reload would do is said before, and leaves everything as it is.
    let plan = Client::connect(daemon.socket()).unwrap().plan(None).expect("a plan");
    assert!(
        matches!(plan.changes[..], [Change::EditDestination { destination, .. }] if destination.weight == 5),
        "{plan:?}"
    );
    assert_eq!(in_table(&daemon, &topology, 1), Some(1));
    assert_eq!(daemon.reload().expect("a reload"), 1);
    assert_eq!(in_table(&daemon, &topology, 1), Some(5));
    assert_eq!(in_table(&daemon, &topology, 2), None);
    assert_eq!(history(&daemon), before, "no change");

    // What was found is written within a second.
    let file = Path::new("/run/elvs/lab-health4/health.json");
    wait_until("the state", || fs::read_to_string(file).is_ok_and(|text| text.contains("refused")));
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        daemon.process.signal(signal);
        daemon.process.wait();
        daemon = topology.daemon(Some(&second));
        assert_eq!(in_table(&daemon, &topology, 2), None, "after {signal}");
        // It was checked since, and that changed nothing.
        wait_checked(&daemon);
        assert_eq!(history(&daemon), before, "after {signal}");
        assert_eq!(state(&daemon.health(), &topology, 2), ServerState::Down);
        assert_eq!(in_table(&daemon, &topology, 1), Some(5));
    }
    nginx.push(Nginx::start(topology.real_server(2), topology.directory()));
    wait_state(&daemon, &topology, 2, ServerState::Up);
}

#[test]
fn changes_by_hand_are_kept_over_checks_and_reloads_until_the_file_changes() {
    let topology = Topology::new("health5", method::DR, 2);
    let mut nginx = topology.nginx();
    let first = config(&topology, 2, "", "");
    let mut daemon = topology.daemon(Some(&first));
    wait_checked(&daemon);
    let address = topology.real_server(2).address;
    daemon.adm_ok(&format!("-e -t {VIP}:80 -r {address}:80 -g -w 0"));
    assert!(daemon.process.log().contains("on_drift keep"), "{}", daemon.process.log());
    assert_eq!(daemon.reload().expect("a reload"), 0);
    assert_eq!(in_table(&daemon, &topology, 2), Some(0));
    daemon.process.signal(Signal::SIGKILL);
    daemon.process.wait();
    let daemon = topology.daemon(Some(&first));
    wait_checked(&daemon);
    assert_eq!(in_table(&daemon, &topology, 2), Some(0));
    // It fails, and comes back as it was.
    drop(nginx.pop());
    wait_until("the table", || in_table(&daemon, &topology, 2).is_none());
    nginx.push(Nginx::start(topology.real_server(2), topology.directory()));
    wait_until("the table", || in_table(&daemon, &topology, 2) == Some(0));
    daemon.write_config(&first.replace("weight 1", "weight 7"));
    assert_eq!(daemon.reload().expect("a reload"), 2);
    assert_eq!(in_table(&daemon, &topology, 2), Some(7));
}

#[test]
fn a_service_deleted_by_hand_stays_away_over_a_crash_until_the_file_changes() {
    let topology = Topology::new("health9", method::DR, 2);
    let _nginx = topology.nginx();
    let first = config(&topology, 2, "", "");
    let mut daemon = topology.daemon(Some(&first));
    wait_checked(&daemon);
    daemon.adm_ok(&format!("-D -t {VIP}:80"));
    assert_eq!(daemon.reload().expect("a reload"), 0);
    daemon.process.signal(Signal::SIGKILL);
    daemon.process.wait();
    let daemon = topology.daemon(Some(&first));
    wait_checked(&daemon);
    let table = daemon.adm_ok("-Ln");
    assert!(!table.contains(&format!("{VIP}:80")), "it came back:\n{table}");
    daemon.write_config(&first.replace("weight 1", "weight 7"));
    assert_eq!(daemon.reload().expect("a reload"), 3, "the service and its real servers");
    assert_eq!(in_table(&daemon, &topology, 2), Some(7));
}

#[test]
fn a_drained_real_server_gets_nothing_new_until_it_is_let_in_again() {
    let topology = Topology::new("health10", method::DR, 2);
    let _nginx = topology.nginx();
    let first = config(&topology, 2, "", "");
    let mut daemon = topology.daemon(Some(&first));
    wait_checked(&daemon);
    let address = topology.real_server(2).address;
    let drain = |daemon: &Daemon, more: &[&str]| {
        let mut command = daemon.elvs();
        command.args(["drain", &format!("{VIP}:80"), &format!("{address}:80")]).args(more);
        output_of(command)
    };
    drain(&daemon, &[]);
    assert_eq!(in_table(&daemon, &topology, 2), Some(0));
    let mut status = daemon.elvs();
    status.args(["status", "--health"]);
    let status = output_of(status);
    assert!(status.contains(&format!("drained by hand from TCP {VIP}:80")), "{status}");
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        daemon.process.signal(signal);
        daemon.process.wait();
        daemon = topology.daemon(Some(&first));
        wait_checked(&daemon);
        assert_eq!(in_table(&daemon, &topology, 2), Some(0), "after {signal}");
    }
    daemon.write_config(&first.replace("weight 1", "weight 7"));
    daemon.reload().expect("a reload");
    let both = |daemon: &Daemon| [1, 2].map(|number| in_table(daemon, &topology, number));
    assert_eq!(both(&daemon), [Some(7), Some(0)]);
    assert_eq!(topology.curl(4).into_iter().filter(|answer| answer == "rs2").count(), 0);
    drain(&daemon, &["--off"]);
    assert_eq!(both(&daemon), [Some(7), Some(7)]);
}

#[test]
fn changes_by_hand_are_undone_if_the_file_wants_that() {
    let topology = Topology::new("health6", method::DR, 2);
    let _nginx = topology.nginx();
    let text = format!("data_plane {{\n    on_drift restore\n}}\n{}", config(&topology, 2, "", ""));
    let daemon = topology.daemon(Some(&text));
    wait_checked(&daemon);
    let table = |daemon: &Daemon| {
        [1, 2].map(|number| in_table(daemon, &topology, number)) == [Some(1), Some(1)]
    };
    let address = topology.real_server(2).address;
    for change in [
        format!("-e -t {VIP}:80 -r {address}:80 -g -w 0"),
        format!("-d -t {VIP}:80 -r {address}:80"),
        format!("-a -t {VIP}:80 -r {DIRECTOR}:80 -g"),
        format!("-D -t {VIP}:80"),
        "-C".to_owned(),
    ] {
        daemon.adm_ok(&change);
        wait_until(&format!("{change} to be undone"), || {
            daemon.adm_ok("-Ln").lines().count() == 6 && table(&daemon)
        });
    }
    // What the file does not speak of stays.
    daemon.adm_ok(&format!("-A -t {VIP}:81 -s rr"));
    daemon.adm_ok(&format!("-d -t {VIP}:80 -r {address}:80"));
    wait_until("the real server", || table(&daemon));
    assert!(daemon.adm_ok("-Ln").contains(":81"));
    assert!(daemon.process.log().contains("drift: restored"), "{}", daemon.process.log());
}

#[test]
fn a_real_server_whose_connections_do_not_come_about_is_suspect() {
    let topology = Topology::new("health9", method::DR, 2);
    let mut nginx = topology.nginx();
    let passive = "passive least 4 percent 50 window 10 hold 600";
    let text = config(&topology, 2, "", passive).replace(CHECK, "");
    let daemon = topology.daemon(Some(&text));
    assert_eq!(topology.curl_shares(20).len(), 2);
    drop(nginx.pop());
    let mut client = topology.client("curl");
    client.args(["-sS", "--max-time", "5", "-H", "Connection: close"]);
    client.arg(format!("http://{VIP}/?[1-20]"));
    let output = client.output().expect("curl");
    let answers = String::from_utf8_lossy(&output.stdout).lines().count();
    assert_eq!(answers, 10, "half of the requests fail: nothing checks the real server");
    wait_state(&daemon, &topology, 2, ServerState::Suspect);
    wait_until("the table", || in_table(&daemon, &topology, 2).unwrap_or(0) == 0);
    assert_eq!(topology.curl_shares(10), [("rs1".to_owned(), 10)].into());
}

#[test]
fn nothing_is_checked_while_the_address_is_elsewhere() {
    let topology = Topology::new("health10", method::DR, 2);
    let mut nginx = topology.nginx();
    let daemon = topology.daemon(Some(&config(&topology, 2, "ha_suspend", "")));
    wait_checked(&daemon);
    let director = &topology.bed().director;
    let vip = director.namespace.with_netlink(async |netlink: Netlink| {
        let mut addresses = netlink.addresses().await?.into_iter();
        let vip = addresses.find(|address| address.address == IpAddr::from(VIP)).expect("the VIP");
        netlink.delete_address(vip).await?;
        Ok::<_, BedError>(vip)
    });
    let vip = vip.expect("an address less");
    wait_until("checks to rest", || daemon.health().watched[0].suspended);
    drop(nginx.pop());
    let runs = |daemon: &Daemon| daemon.health().watched[0].servers[1].checks[0].runs;
    let before = runs(&daemon);
    // Two of its periods.
    thread::sleep(Duration::from_secs(2));
    assert_eq!(runs(&daemon), before, "no check runs");
    assert_eq!(state(&daemon.health(), &topology, 2), ServerState::Up);
    let added = director.namespace.with_netlink(async |netlink: Netlink| {
        Ok::<_, BedError>(netlink.add_address(vip.ifindex, vip.address, vip.prefix_len).await?)
    });
    added.expect("the address again");
    wait_state(&daemon, &topology, 2, ServerState::Down);
}

/// Takes the VIP from a host's loopback device.
fn without_vip(host: &Host) {
    let deleted = host.namespace.with_netlink(async |netlink: Netlink| {
        let mut addresses = netlink.addresses().await?.into_iter();
        let vip = addresses.find(|address| address.address == IpAddr::from(VIP)).expect("the VIP");
        Ok::<_, BedError>(netlink.delete_address(vip).await?)
    });
    deleted.expect("an address less");
}

#[test]
fn a_check_through_the_data_path_finds_what_tcp_check_misses() {
    let topology = Topology::new("health11", method::DR, 2);
    let _nginx = topology.nginx();
    let path = CHECK.replace("TCP_CHECK", "PATH_CHECK");
    let daemon = topology.daemon(Some(&config(&topology, 2, "", &path)));
    wait_checked(&daemon);
    assert_eq!(topology.curl_shares(10).len(), 2);
    without_vip(topology.real_server(2));
    wait_state(&daemon, &topology, 2, ServerState::Down);
    wait_until("the table", || in_table(&daemon, &topology, 2).is_none());
    assert_eq!(topology.curl_shares(10), [("rs1".to_owned(), 10)].into());
    let view = daemon.health();
    let [path, tcp] = &view.watched[0].servers[1].checks[..] else { panic!("{view:?}") };
    assert_eq!((path.state, tcp.state), (CheckState::Down, CheckState::Up), "{path:?} {tcp:?}");
    assert!(path.words.contains(&VIP.to_string()), "{path:?}");
}

#[test]
fn a_session_of_bfd_takes_a_real_server_out_and_back() {
    let topology = Topology::new("health12", method::DR, 2);
    let _nginx = topology.nginx();
    let host = topology.real_server(2);
    let timing = "min_rx 100\n    min_tx 100\n    idle_tx 1000\n    multiplier 3";
    let instance = format!(
        "bfd_instance two {{\n    neighbor_ip {}\n    source_ip {DIRECTOR}\n    {timing}\n}}\n",
        host.address
    );
    let bfd = "BFD_CHECK {\n            name two\n        }";
    let text = instance + &config(&topology, 2, "", "").replacen(CHECK, "", 2);
    let first = text.rfind("weight 1").expect("the second real server");
    let mut text = text;
    text.insert_str(first, &format!("{bfd}\n        "));
    let daemon = topology.daemon(Some(&text));
    wait_state(&daemon, &topology, 2, ServerState::Down);
    assert_eq!(topology.curl_shares(10), [("rs1".to_owned(), 10)].into());

    let peer = BfdInstance {
        name: "director".to_owned(),
        neighbor: DIRECTOR.into(),
        source: Some(host.address.into()),
        min_rx: Duration::from_millis(100),
        min_tx: Duration::from_millis(100),
        idle_tx: Duration::from_millis(100),
        multiplier: 3,
        passive: false,
        ttl: 255,
        max_hops: 0,
        multihop: false,
    };
    let (changes, _unread) = tokio::sync::mpsc::channel(16);
    let spawn = || Bfd::spawn(vec![peer], changes).expect("a session");
    let session = host.namespace.run(spawn).expect("the namespace");
    wait_state(&daemon, &topology, 2, ServerState::Up);
    assert_eq!(topology.curl_shares(10).len(), 2);
    // As if the host were gone: nobody says goodbye.
    host.namespace
        .with_netlink(async |netlink: Netlink| {
            let link = netlink.link("eth0").await?;
            Ok::<_, BedError>(netlink.set_down(link.ifindex).await?)
        })
        .expect("a host that is gone");
    wait_state(&daemon, &topology, 2, ServerState::Down);
    drop(session);
}

/// A program that notes its arguments in `log`, slowly where it is told that something goes down.
fn noting(directory: &Path, log: &Path) -> String {
    let file = directory.join("notify.sh");
    let text = format!(
        "#!/bin/sh\ncase \"$*\" in *down*) sleep 0.5;; esac\necho \"$*\" >> {}\n",
        log.display()
    );
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    file.to_string_lossy().into_owned()
}

#[test]
fn others_are_told_in_order() {
    let topology = Topology::new("health7", method::DR, 2);
    let mut nginx = topology.nginx();
    let (log, fifo) = (topology.directory().join("notified"), topology.directory().join("fifo"));
    let script = noting(topology.directory(), &log);
    let global = format!(
        "global_defs {{\n    router_id lab\n    script_user root\n    startup_script \"{script} startup\"\n    shutdown_script \"{script} shutdown\"\n    lvs_notify_fifo {}\n}}\n",
        fifo.display()
    );
    let service =
        format!("quorum_up \"{script} vs up\"\n    quorum_down \"{script} vs down\"\n    omega");
    let server = format!("notify_up \"{script} NAME up\"\n    notify_down \"{script} NAME down\"");
    let mut daemon = topology.daemon(Some(&(global + &config(&topology, 2, &service, &server))));
    wait_checked(&daemon);
    let reader = {
        let fifo = fs::File::open(&fifo).expect("the FIFO was made");
        thread::spawn(move || {
            BufReader::new(fifo).lines().map_while(Result::ok).collect::<Vec<_>>()
        })
    };
    for _ in 0..2 {
        drop(nginx.remove(1));
        wait_state(&daemon, &topology, 2, ServerState::Down);
        nginx.push(Nginx::start(topology.real_server(2), topology.directory()));
        wait_state(&daemon, &topology, 2, ServerState::Up);
    }
    drop(nginx);
    wait_until("the quorum to be lost", || !daemon.health().watched[0].up);
    daemon.process.signal(Signal::SIGTERM);
    assert_eq!(daemon.process.wait(), Some(0), "{}", daemon.process.log());

    let text = fs::read_to_string(&log).unwrap();
    let about = |name: &str| text.lines().filter(|line| line.starts_with(name)).collect::<Vec<_>>();
    let down_and_up = ["rs2 down", "rs2 up", "rs2 down", "rs2 up", "rs2 down"];
    assert_eq!(about("rs2"), down_and_up, "{text}");
    assert!(about("vs").ends_with(&["vs down"]), "{text}");
    assert!(text.starts_with("startup\n") && text.ends_with("\nshutdown\n"), "{text}");
    let lines = reader.join().unwrap();
    let name = format!("RS [{}]:tcp:80 [{VIP}]:tcp:80", topology.real_server(2).address);
    let of_server: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix(&name)).collect();
    assert_eq!(of_server, [" DOWN", " UP", " DOWN", " UP", " DOWN"], "{lines:?}");
    assert!(lines.contains(&format!("VS [{VIP}]:tcp:80 DOWN")), "{lines:?}");
    assert!(!fifo.exists(), "the FIFO goes with the daemon");
}

/// A mail server that takes everything; returns the subjects of so many mails.
fn mail_server(topology: &Topology, mails: usize) -> thread::JoinHandle<Vec<String>> {
    let bind = || TcpListener::bind((DIRECTOR, 2525)).expect("a port");
    let listener = topology.bed().director.namespace.run(bind).expect("the namespace");
    thread::spawn(move || {
        let mut subjects = Vec::new();
        while subjects.len() < mails {
            let (stream, _) = listener.accept().expect("a connection");
            let mut out = stream.try_clone().expect("a second descriptor");
            out.write_all(b"220 sink\r\n").unwrap();
            let mut data = false;
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                let answer: &[u8] = match line.as_str() {
                    "." if data => {
                        data = false;
                        b"250 taken\r\n"
                    }
                    line if data => {
                        subjects.extend(line.strip_prefix("Subject: ").map(str::to_owned));
                        continue;
                    }
                    "DATA" => {
                        data = true;
                        b"354 go on\r\n"
                    }
                    "QUIT" => b"221 bye\r\n",
                    _ => b"250 ok\r\n",
                };
                out.write_all(answer).unwrap();
            }
        }
        subjects
    })
}

#[test]
fn mails_bear_keepaliveds_subjects() {
    let topology = Topology::new("health8", method::DR, 2);
    let mut nginx = topology.nginx();
    let mails = mail_server(&topology, 2);
    let global = format!(
        "global_defs {{\n    router_id lab\n    notification_email {{\n        ops@example.org\n    }}\n    notification_email_from lvs@example.org\n    smtp_server {DIRECTOR} 2525\n    smtp_connect_timeout 5\n}}\n"
    );
    let daemon = topology.daemon(Some(&(global + &config(&topology, 2, "", ""))));
    wait_checked(&daemon);
    drop(nginx.pop());
    wait_state(&daemon, &topology, 2, ServerState::Down);
    nginx.push(Nginx::start(topology.real_server(2), topology.directory()));
    wait_until("both mails", || mails.is_finished());
    let server = topology.real_server(2).address;
    let subject = format!("[lab] Realserver [{server}]:tcp:80 of virtual server [{VIP}]:tcp:80 -");
    assert_eq!(mails.join().unwrap(), [format!("{subject} DOWN"), format!("{subject} UP")]);
}
