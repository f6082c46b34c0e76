//! BFD against other implementations: bird over IPv4, IPv6 and several hops, and keepalived.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail loudly"
)]

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use elvs_lab::{Process, Topology, method, output_of, wait_until};
use elvs_model::health::BfdInstance;
use elvs_net::Netlink;
use elvs_net::bed::{BedError, CLIENT, DIRECTOR, DIRECTOR6, Host, VIP};
use elvs_probe::bfd::{Bfd, BfdView, Change, SessionReport, Standing};
use nix::sys::signal::Signal;
use tokio::sync::mpsc;

/// keepalived's defaults, but for intervals of 20 ms and a hop limit that IPv6 neighbours take (RFC 5881 section 5).
fn instance(name: &str, neighbor: impl Into<IpAddr>) -> BfdInstance {
    BfdInstance {
        name: name.to_owned(),
        neighbor: neighbor.into(),
        source: None,
        min_rx: Duration::from_millis(20),
        min_tx: Duration::from_millis(20),
        idle_tx: Duration::from_secs(1),
        multiplier: 5,
        passive: false,
        ttl: 255,
        max_hops: 0,
        multihop: false,
    }
}

/// Our side, on one host.
struct Ours {
    bfd: Bfd,
    taken: mpsc::Receiver<Change>,
    said: Vec<Change>,
    runtime: tokio::runtime::Runtime,
}

impl Ours {
    fn start(host: &Host, instances: &[BfdInstance]) -> Self {
        let (changes, taken) = mpsc::channel(4);
        let bfd = host.namespace.run(|| Bfd::spawn(instances.to_vec(), changes)).unwrap().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Self { bfd, taken, said: Vec::new(), runtime }
    }

    fn configure(&self, instances: &[BfdInstance]) {
        self.runtime.block_on(self.bfd.configure(instances.to_vec())).unwrap();
    }

    fn view(&self) -> BfdView {
        self.runtime.block_on(self.bfd.view()).unwrap()
    }

    fn session(&self, name: &str) -> SessionReport {
        let mut sessions = self.view().sessions;
        sessions.retain(|report| report.session.instance == name);
        assert_eq!(sessions.len(), 1, "{name}");
        sessions.remove(0)
    }

    /// Waits until an instance's newest change has this standing; its words. Earlier ones are forgotten.
    fn wait(&mut self, name: &str, standing: Standing) -> String {
        let mut words = None;
        wait_until(&format!("{name} to be {standing:?}"), || {
            while let Ok(change) = self.taken.try_recv() {
                self.said.push(change);
            }
            let found = self.said.iter().rposition(|c| c.instance == name);
            words = found.map(|at| self.said[at].clone()).filter(|c| c.standing == standing);
            words.is_some()
        });
        self.said.retain(|change| change.instance != name);
        words.unwrap().words
    }
}

/// bird with a BFD protocol alone, as a neighbour.
struct Bird {
    process: Process,
    control: PathBuf,
}

impl Bird {
    fn start(topology: &Topology, host: &Host, neighbors: &str) -> Self {
        let directory = topology.directory().join(format!("{}-bird", host.name));
        fs::create_dir_all(&directory).unwrap();
        let (file, control) = (directory.join("bird.conf"), directory.join("bird.ctl"));
        let interval = "min rx interval 20 ms; min tx interval 20 ms; multiplier 5;";
        let config = format!(
            "log stderr all;\nrouter id 10.0.0.99;\nprotocol device {{}}\nprotocol bfd peer {{\n\
             interface \"*\" {{ {interval} }};\nmultihop {{ {interval} }};\n{neighbors}}}\n"
        );
        fs::write(&file, config).unwrap();
        let mut command = host.command("bird");
        command.arg("-f").arg("-c").arg(file).arg("-s").arg(&control);
        command.arg("-P").arg(directory.join("bird.pid"));
        let process = Process::spawn(command, &directory.join("bird.log"));
        Self { process, control }
    }

    /// What `birdc` answers to a command.
    fn ask(&self, words: &str) -> String {
        let mut command = std::process::Command::new("birdc");
        command.arg("-s").arg(&self.control).args(words.split_whitespace());
        output_of(command)
    }

    /// Waits until bird lists the session with an address in a state.
    fn wait(&self, address: impl Into<IpAddr>, state: &str) {
        let address = address.into().to_string();
        wait_until(&format!("bird to list {address} {state}"), || {
            self.ask("show bfd sessions").lines().any(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                words.first() == Some(&address.as_str()) && words.contains(&state)
            })
        });
    }
}

/// Takes a host's cable out at the switch, or puts it back.
fn cable(topology: &Topology, host: &Host, plugged: bool) {
    let done = topology.bed().switch.with_netlink(async |netlink: Netlink| {
        let port = netlink.link(&host.name).await?.ifindex;
        if plugged {
            netlink.set_up(port).await?
        } else {
            netlink.set_down(port).await?
        }
        Ok::<_, BedError>(())
    });
    done.unwrap();
}

#[test]
fn with_bird_over_ipv4_and_ipv6() {
    let topology = Topology::new("bfd", method::DR, 1);
    topology.bed().add_ipv6().unwrap();
    let server = topology.real_server(1);
    let server6 = topology.bed().plan.real_server6(1);
    let neighbors = format!("neighbor {DIRECTOR};\nneighbor {DIRECTOR6} dev \"eth0\";\n");
    let bird = Bird::start(&topology, server, &neighbors);
    let instances = [instance("four", server.address), instance("six", server6)];
    let mut ours = Ours::start(&topology.bed().director, &instances);
    for (name, own) in [("four", IpAddr::from(DIRECTOR)), ("six", DIRECTOR6.into())] {
        ours.wait(name, Standing::Up);
        bird.wait(own, "Up");
    }
    // Both Poll Sequences have ended: 5 x 20 ms.
    for name in ["four", "six"] {
        let wanted = (Duration::from_millis(20), Duration::from_millis(100));
        wait_until("the intervals agreed on", || {
            let session = ours.session(name).session;
            (session.transmit_interval, session.detection_time) == wanted
        });
    }

    bird.process.signal(Signal::SIGSTOP);
    for (name, address) in [("four", IpAddr::from(server.address)), ("six", server6.into())] {
        let words = ours.wait(name, Standing::Down);
        let wanted = format!("{address}: nothing received for 100ms, the detection time");
        assert_eq!(words, wanted);
    }
    bird.process.signal(Signal::SIGCONT);
    ours.wait("four", Standing::Up);
    ours.wait("six", Standing::Up);

    cable(&topology, server, false);
    ours.wait("four", Standing::Down);
    ours.wait("six", Standing::Down);
    cable(&topology, server, true);
    ours.wait("four", Standing::Up);
    ours.wait("six", Standing::Up);
    let view = ours.view();
    assert_eq!(view.closed_ports, [""; 0]);
    assert!(view.received > 10, "{view:?}");
    // While it was down, bird answered sessions of ours by their old numbers at most.
    assert!(view.refused.iter().all(|(reason, _)| *reason == "unknown_discriminator"), "{view:?}");
}

#[test]
fn an_operator_takes_sessions_out_of_service_on_either_side() {
    let topology = Topology::new("bfd-admin", method::DR, 1);
    let server = topology.real_server(1);
    let bird = Bird::start(&topology, server, &format!("neighbor {DIRECTOR};\n"));
    let own = instance("peer", server.address);
    let mut ours = Ours::start(&topology.bed().director, std::slice::from_ref(&own));
    ours.wait("peer", Standing::Up);
    bird.wait(DIRECTOR, "Up");
    let number = ours.session("peer").session.discriminator;

    // A reload that changes another instance alone, and one that changes intervals, keep the session.
    let other = instance("other", [10, 0, 0, 250]);
    ours.configure(&[own.clone(), other]);
    ours.wait("other", Standing::Down);
    let slower =
        BfdInstance { min_tx: Duration::from_millis(50), min_rx: Duration::from_millis(40), ..own };
    ours.configure(std::slice::from_ref(&slower));
    wait_until("the Final of bird", || {
        let session = ours.session("peer").session;
        session.transmit_interval == slower.min_tx && session.detection_time == 5 * slower.min_rx
    });
    assert_eq!(ours.session("peer").session.discriminator, number);

    // Ours is removed: bird is told, before its detection time is over.
    ours.configure(&[]);
    bird.wait(DIRECTOR, "Down");
    let log = bird.process.log();
    assert!(!log.contains("expired"), "{log}");
    ours.configure(std::slice::from_ref(&slower));
    ours.wait("peer", Standing::Up);
}

#[test]
fn with_bird_over_several_hops() {
    let topology = Topology::new("bfd-multihop", method::NAT, 1);
    let (client, server) = (&topology.bed().client, topology.real_server(1));
    let routed = client.namespace.with_netlink(async |netlink: Netlink| {
        netlink.add_route([10, 1, 0, 0].into(), 24, DIRECTOR.into()).await?;
        Ok::<_, BedError>(())
    });
    routed.unwrap();
    let local = server.address;
    let bird =
        Bird::start(&topology, server, &format!("neighbor {CLIENT} local {local} multihop;\n"));
    // RFC 5883 says nothing of TTLs, and bird's begin at 64.
    let near = BfdInstance { multihop: true, ttl: 64, ..instance("peer", server.address) };
    let mut ours = Ours::start(client, std::slice::from_ref(&near));
    // max_hops 0 is too few: the director between the two takes one.
    wait_until("packets that came too far", || {
        ours.view().refused.iter().any(|(reason, _)| *reason == "hop_limit")
    });
    assert_eq!(ours.session("peer").session.neighbor_state.to_string(), "Down");
    let words = ours.wait("peer", Standing::Down);
    assert_eq!(words, format!("{local}: no session yet"));
    ours.configure(&[BfdInstance { max_hops: 1, ..near }]);
    ours.wait("peer", Standing::Up);
    bird.wait(CLIENT, "Up");
    drop(bird);
    ours.wait("peer", Standing::Down);
}

#[test]
fn with_keepalived() {
    let topology = Topology::new("bfd-keepalived", method::DR, 1);
    let server = topology.real_server(1);
    let directory = topology.directory();
    let file = directory.join("keepalived.conf");
    let config = format!(
        "global_defs {{\n router_id lab\n}}\nbfd_instance director {{\n neighbor_ip {DIRECTOR}\n \
         source_ip {}\n min_rx 20\n min_tx 20\n passive\n}}\n",
        server.address
    );
    fs::write(&file, config).unwrap();
    let mut command = server.command("keepalived");
    command.args(["--dont-fork", "--log-console", "--log-detail", "--use-file"]).arg(file);
    for (option, name) in [("--pid", "main"), ("--vrrp_pid", "vrrp"), ("--checkers_pid", "check")] {
        command.arg(option).arg(directory.join(format!("{name}.pid")));
    }
    command.arg("--bfd_pid").arg(directory.join("bfd.pid"));
    let keepalived = Process::spawn(command, &directory.join("keepalived.log"));
    let mut ours = Ours::start(&topology.bed().director, &[instance("peer", server.address)]);
    ours.wait("peer", Standing::Up);
    wait_until("keepalived to be up", || keepalived.log().contains("Entering Up state"));
    drop(ours);
    wait_until("keepalived to be down", || keepalived.log().contains("Entering Down state"));
    let log = keepalived.log();
    assert!(log.contains("Neighbor Signaled Session Down"), "{log}");
    let mut ours = Ours::start(&topology.bed().director, &[instance("peer", server.address)]);
    ours.wait("peer", Standing::Up);
    drop(keepalived);
    ours.wait("peer", Standing::Down);
}

/// The daemon with a file of keepalived's words: a real server is in the table while its host is heard.
#[test]
fn a_bfd_check_takes_a_real_server_out_and_back() {
    let topology = Topology::new("bfd-check", method::DR, 2);
    let (first, second) = (topology.real_server(1), topology.real_server(2));
    let birds = [first, second]
        .map(|host| Bird::start(&topology, host, &format!("neighbor {DIRECTOR};\n")));
    let mut config = String::new();
    for host in [first, second] {
        let (name, address) = (&host.name, host.address);
        config += &format!("bfd_instance {name} {{\n neighbor_ip {address}\n min_rx 20\n}}\n");
    }
    config += &format!("virtual_server {VIP} 80 {{\n lvs_sched rr\n lvs_method DR\n");
    for host in [first, second] {
        let (name, address) = (&host.name, host.address);
        config += &format!(" real_server {address} 80 {{ BFD_CHECK {{\n name {name}\n }}\n }}\n");
    }
    let daemon = topology.daemon(Some(&(config + "}\n")));
    let is_listed = |host: &Host| daemon.adm_ok("-Ln").contains(&format!("{}:80", host.address));
    wait_until("both in the table", || is_listed(first) && is_listed(second));
    birds[0].process.signal(Signal::SIGSTOP);
    wait_until("the silent one to be out", || !is_listed(first));
    assert!(is_listed(second));
    birds[0].process.signal(Signal::SIGCONT);
    wait_until("it to be back", || is_listed(first));
    let log = daemon.process.log();
    let words = format!("{}: nothing received for 100ms, the detection time", first.address);
    assert!(log.contains(&words), "{log}");
}

/// RFC 5882 section 4.2: what the one that goes away says is no failure, and what it leaves unsaid is.
#[test]
fn with_another_director_that_ends_in_order_and_comes_back() {
    let topology = Topology::new("bfd-pair", method::DR, 1);
    let (director, server) = (&topology.bed().director, topology.real_server(1));
    let theirs = BfdInstance { passive: true, ..instance("director", DIRECTOR) };
    let mut other = Ours::start(server, std::slice::from_ref(&theirs));
    let mut ours = Ours::start(director, &[instance("peer", server.address)]);
    for _ in 0..2 {
        ours.wait("peer", Standing::Up);
        other.wait("director", Standing::Up);
        other.bfd.shut_down();
        let words = ours.wait("peer", Standing::Suspended);
        assert!(words.contains("has taken the session out of service"), "{words}");
        assert_eq!(ours.session("peer").session.state.to_string(), "Down");
        other = Ours::start(server, std::slice::from_ref(&theirs));
    }
    ours.wait("peer", Standing::Up);
    cable(&topology, server, false);
    let words = ours.wait("peer", Standing::Down);
    assert!(words.contains("nothing received for"), "{words}");
    other.wait("director", Standing::Down);
}

#[test]
fn a_packet_from_beyond_the_link_is_refused_and_counted() {
    let topology = Topology::new("bfd-ttl", method::DR, 1);
    let server = topology.real_server(1);
    let ours = Ours::start(&topology.bed().director, &[instance("peer", server.address)]);
    // State Down, multiplier 3, discriminators 1 and 0, a second, a second, no echo.
    let packet = [
        0x20, 0x40, 3, 24, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0x0f, 0x42, 0x40, 0, 0x0f, 0x42, 0x40, 0, 0,
        0, 0,
    ];
    let sent = server.namespace.run(|| {
        let socket = UdpSocket::bind((server.address, 49152)).unwrap();
        let send = |ttl, bytes: &[u8]| {
            socket.set_ttl(ttl).unwrap();
            socket.send_to(bytes, (DIRECTOR, 3784)).unwrap();
        };
        send(254, &packet);
        send(255, &packet[..20]);
        send(255, b"");
        send(255, &packet);
    });
    sent.unwrap();
    wait_until("the last packet", || ours.view().received == 1);
    assert_eq!(ours.view().refused, [("hop_limit", 1), ("short", 2)]);
    assert_eq!(ours.session("peer").session.state.to_string(), "Init");
}

/// The port is taken while the director starts, and free a little later.
#[test]
fn a_port_that_is_taken_is_tried_again() {
    let topology = Topology::new("bfd-port", method::DR, 1);
    let server = topology.real_server(1);
    let bird = Bird::start(&topology, server, &format!("neighbor {DIRECTOR};\n"));
    let director = &topology.bed().director;
    let taken = director.namespace.run(|| UdpSocket::bind("0.0.0.0:3784")).unwrap().unwrap();
    let mut ours = Ours::start(director, &[instance("peer", server.address)]);
    let words = ours.wait("peer", Standing::Down);
    assert!(words.starts_with("cannot receive on UDP port 3784 of IPv4: "), "{words}");
    assert_eq!(ours.view().closed_ports, [words]);
    drop(taken);
    ours.wait("peer", Standing::Up);
    bird.wait(DIRECTOR, "Up");
    assert_eq!(ours.view().closed_ports, [""; 0]);
}
