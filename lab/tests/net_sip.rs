//! The SIP persistence engine with real datagrams: who has the same Call-ID goes to the same real server.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "tests fail loudly")]

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use elvs_lab::{Daemon, Topology, method, output_of, wait_until};
use elvs_model::ForwardingMethod;
use elvs_net::bed::{CLIENT, VIP, VIP6};

const SIP: u16 = 5_060;
const SERVERS: u8 = 3;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Call-ID of the calls that real servers begin.
const OWN: &str = "own@lab";
/// Between two looks whether a server shall end.
const PAUSE: Duration = Duration::from_millis(20);
/// A second address of the client.
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// Real servers that answer each message with their name and its headers, from the address it was sent to.
struct Servers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Servers {
    fn start(topology: &Topology, address: impl Fn(usize) -> IpAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let hosts = topology.bed().real_servers.iter().enumerate();
        let threads = hosts
            .map(|(number, host)| {
                let own = address(number);
                let bind = move || UdpSocket::bind((own, SIP));
                let socket = host.namespace.run(bind).unwrap().unwrap();
                socket.set_read_timeout(Some(PAUSE)).unwrap();
                let (stop, name) = (Arc::clone(&stop), host.name.clone());
                thread::spawn(move || answer(&socket, &name, &stop))
            })
            .collect();
        Self { stop, threads }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "a real server broke");
        }
    }
}

fn answer(socket: &UdpSocket, name: &str, stop: &AtomicBool) {
    let mut buffer = vec![0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        match socket.recv_from(&mut buffer) {
            Ok((length, from)) => {
                let message = String::from_utf8_lossy(buffer.get(..length).unwrap()).into_owned();
                let (first, headers) = message.split_once("\r\n").unwrap_or_default();
                socket.send_to(format!("{name}\r\n{headers}").as_bytes(), from).unwrap();
                if let Some(other) = first.strip_prefix("CALL ") {
                    let other: SocketAddr = other.parse().unwrap();
                    let own = format!("INVITE sip:a@b SIP/2.0\r\nCall-ID: {OWN}\r\n\r\n");
                    socket.send_to(own.as_bytes(), other).unwrap();
                }
            }
            Err(error) if is_pause(&error) => {}
            Err(error) => panic!("recv: {error}"),
        }
    }
}

fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// A telephone: a socket of the client's.
struct Phone {
    socket: UdpSocket,
    service: SocketAddr,
}

impl Phone {
    fn new(topology: &Topology, own: IpAddr, service: impl Into<SocketAddr>) -> Self {
        let bind = move || UdpSocket::bind((own, 0));
        let socket = topology.bed().client.namespace.run(bind).unwrap().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, service: service.into() }
    }

    /// What comes next from the service.
    fn receive(&self) -> String {
        let mut buffer = [0; 2_048];
        let (length, from) = self.socket.recv_from(&mut buffer).expect("a message");
        assert_eq!(from, self.service, "who sends");
        String::from_utf8_lossy(buffer.get(..length).unwrap()).into_owned()
    }

    /// Sends a message of a call; the real server that answers it.
    fn ask(&self, call: &str) -> String {
        let message = format!("OPTIONS sip:a@b SIP/2.0\r\nVia: x\r\nCall-ID: {call}\r\n\r\n");
        self.socket.send_to(message.as_bytes(), self.service).unwrap();
        let answer = self.receive();
        assert!(answer.ends_with(&format!("Call-ID: {call}\r\n\r\n")), "{answer:?}");
        answer.split_once("\r\n").unwrap().0.to_owned()
    }
}

fn bed(name: &str, method: ForwardingMethod) -> Topology {
    let topology = Topology::new(name, method, SERVERS);
    let mut add = topology.client("ip");
    add.args(["address", "add", &format!("{SECOND}/24"), "dev", "eth0"]);
    output_of(add);
    topology
}

fn add_all(topology: &Topology, daemon: &Daemon, service: &str, flag: &str) {
    for host in &topology.bed().real_servers {
        daemon.adm_ok(&format!("-a {service} -r {}:{SIP} {flag}", host.address));
    }
}

#[test]
fn calls_stay_together_whoever_sends_their_messages() {
    let topology = bed("sip-dr", method::DR);
    let _servers = Servers::start(&topology, |_| VIP.into());
    let daemon = topology.daemon(None);
    let service = format!("-u {VIP}:{SIP}");
    daemon.adm_ok(&format!("-A {service} -s rr -p 600 -M 0.0.0.0 --pe sip -o"));
    add_all(&topology, &daemon, &service, "-g");
    daemon.wait_ready();
    let phones = [CLIENT, CLIENT, SECOND].map(|own| Phone::new(&topology, own.into(), (VIP, SIP)));
    let calls = ["one@lab", "two@lab", "three@lab"];
    let firsts = calls.map(|call| phones[0].ask(call));
    let mut servers = firsts.to_vec();
    servers.sort();
    assert_eq!(servers, ["rs1", "rs2", "rs3"], "each new call is rr's next turn");
    for phone in &phones {
        for _ in 0..3 {
            assert_eq!(calls.map(|call| phone.ask(call)), firsts);
        }
    }
    // As ipvsadm lists them.
    assert!(
        daemon
            .adm_ok("-Ln")
            .contains(&format!("UDP  {VIP}:{SIP} rr persistent 600 mask 0.0.0.0 pe sip ops"))
    );
    assert!(
        daemon
            .adm_ok("-Sn")
            .contains(&format!("-A -u {VIP}:{SIP} -s rr -p 600 -M 0.0.0.0 --pe sip -o"))
    );
    let listed = daemon.adm_ok("-Lnc --persistent-conn");
    for (call, server) in calls.iter().zip(&firsts) {
        let host = topology.bed().real_servers.iter().find(|host| host.name == *server).unwrap();
        let ends = format!(
            "NONE        {:<18} {:<18} {:<16} {:<18} {call}",
            "0.0.0.0:0",
            format!("{VIP}:{SIP}"),
            format!("{}:{SIP}", host.address),
            "sip",
        );
        let line = listed.lines().find(|line| line.ends_with(&ends));
        assert!(
            line.is_some_and(
                |line| line.starts_with("UDP 09:5") || line.starts_with("UDP 10:00  ")
            ),
            "{ends:?} in\n{listed}"
        );
    }
    assert_eq!(listed.lines().count(), 2 + calls.len(), "{listed}");
    // What is no SIP is dropped, and named.
    assert_eq!(daemon.counted("no_call_id"), 0);
    phones[0].socket.send_to(b"keep alive", (VIP, SIP)).unwrap();
    wait_until("the datagram to be counted", || daemon.counted("no_call_id") == 1);
}

#[test]
fn real_servers_behind_nat_answer_and_call_from_the_virtual_address() {
    let topology = bed("sip-nat", method::NAT);
    let plan = &topology.bed().plan;
    let own = |number: usize| plan.real_server(u8::try_from(number).unwrap() + 1).into();
    let _servers = Servers::start(&topology, own);
    let daemon = topology.daemon(None);
    let service = format!("-u {VIP}:{SIP}");
    daemon.adm_ok(&format!("-A {service} -s rr -p 600 -M 0.0.0.0 --pe sip -o"));
    add_all(&topology, &daemon, &service, "-m");
    daemon.wait_ready();
    let [first, second] = [CLIENT, SECOND].map(|own| Phone::new(&topology, own.into(), (VIP, SIP)));
    let servers = ["one@lab", "two@lab", "three@lab"].map(|call| first.ask(call));
    assert_eq!(["one@lab", "two@lab", "three@lab"].map(|call| second.ask(call)), servers);
    // A call that a real server begins comes back to it, whoever sends its messages.
    let other = second.socket.local_addr().unwrap();
    let request = format!("CALL {other}\r\nCall-ID: two@lab\r\n\r\n");
    first.socket.send_to(request.as_bytes(), (VIP, SIP)).unwrap();
    assert!(first.receive().starts_with("rs"));
    assert!(second.receive().contains(OWN));
    let [_, caller, _] = servers;
    assert_eq!([first.ask(OWN), second.ask(OWN)], [caller.clone(), caller]);
    let listed = daemon.adm_ok("-Lnc --persistent-conn");
    assert_eq!(listed.lines().filter(|line| line.contains(" sip ")).count(), 4, "{listed}");
    assert_eq!(listed.lines().count(), 6, "templates only\n{listed}");
    assert_eq!(topology.checksum_errors(), 0);
}

#[test]
fn a_connection_of_a_call_needs_no_further_call_id() {
    let topology = bed("sip-conn", method::NAT);
    let plan = &topology.bed().plan;
    let own = |number: usize| plan.real_server(u8::try_from(number).unwrap() + 1).into();
    let _servers = Servers::start(&topology, own);
    let daemon = topology.daemon(None);
    let service = format!("-u {VIP}:{SIP}");
    daemon.adm_ok(&format!("-A {service} -s rr -p 600 --pe sip"));
    add_all(&topology, &daemon, &service, "-m");
    daemon.wait_ready();
    let phone = Phone::new(&topology, CLIENT.into(), (VIP, SIP));
    let first = phone.ask("one@lab");
    assert_eq!(phone.ask("another@lab"), first, "the connection's");
    let second = Phone::new(&topology, SECOND.into(), (VIP, SIP));
    assert_ne!(second.ask("one@lab"), first, "the mask tells the clients apart");
    assert_eq!(Phone::new(&topology, CLIENT.into(), (VIP, SIP)).ask("one@lab"), first);
    wait_until("the templates to be assured", || {
        let listed = daemon.adm_ok("-Lnc --persistent-conn");
        listed.lines().filter(|line| line.contains("ASSURED") && line.ends_with("one@lab")).count()
            == 2
    });
    let listed = daemon.adm_ok("-Lnc");
    assert_eq!(listed.lines().filter(|line| line.contains(" UDP  ")).count(), 3, "{listed}");
}

#[test]
fn calls_stay_together_over_ipv6() {
    let topology = Topology::new("sip-six", method::DR, SERVERS);
    topology.bed().add_ipv6().unwrap();
    let _servers = Servers::start(&topology, |_| VIP6.into());
    let config = format!(
        "virtual_server {VIP6} {SIP} {{\n lb_algo rr\n lb_kind DR\n protocol UDP\n ops\n persistence_timeout 60\n persistence_engine sip\n{} }}\n",
        (1..=SERVERS)
            .map(|number| format!(
                " real_server {} {SIP} {{ weight 1 }}\n",
                topology.bed().plan.real_server6(number)
            ))
            .collect::<String>()
    );
    let daemon = topology.daemon(Some(&config));
    let own = elvs_net::bed::CLIENT6;
    let phones = [0; 3].map(|_| Phone::new(&topology, own.into(), (VIP6, SIP)));
    let first = phones[0].ask("one@lab");
    assert_ne!(phones[1].ask("two@lab"), first);
    assert!(phones.iter().all(|phone| phone.ask("one@lab") == first));
    let listed = daemon.adm_ok("-Lnc --persistent-conn");
    assert!(listed.contains(&format!("[{own}]:0")) && listed.contains("one@lab"), "{listed}");
}
