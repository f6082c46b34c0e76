//! `elvs realserver toa`: a listener's accept() and getpeername() name the client that the TCP option names, and only
//! when a trusted source sent it in time.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail loudly"
)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::time::Duration;

use elvs_lab::toa::{counters_of, pins};
use elvs_lab::wire::{self, Mark, Segments};
use elvs_lab::{Cgroup, Toa, Wire, output_of, wait_until};
use nix::sys::socket::sockopt::{Linger, ReceiveTimeout, ReuseAddr};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket,
};
use nix::sys::time::{TimeVal, TimeValLike};

const PORT: u16 = 8080;
/// The clients of the options; no packet comes from them.
const CLIENT4: (Ipv4Addr, u16) = (Ipv4Addr::new(198, 51, 100, 7), 4321);
const CLIENT6: (Ipv6Addr, u16) = (Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 7), 4321);
const TRUSTED: &[&str] = &["192.0.2.1", "2001:db8::/64"];

/// The option as DPVS writes it: kind, length, port, address.
fn option4((address, port): (Ipv4Addr, u16)) -> Vec<u8> {
    [&[254, 8][..], &port.to_be_bytes(), &address.octets()].concat()
}

fn option6((address, port): (Ipv6Addr, u16)) -> Vec<u8> {
    [&[254, 20][..], &port.to_be_bytes(), &address.octets()].concat()
}

fn all(option: Vec<u8>) -> Option<Mark> {
    Some(Mark { segments: Segments::All, option })
}

/// Both ends of a connection and what accept() said.
struct Connection {
    client: TcpStream,
    server: TcpStream,
    accepted: SocketAddr,
}

impl Connection {
    fn open(wire: &Wire, listener: &TcpListener, to: IpAddr) -> Self {
        let to = SocketAddr::new(to, PORT);
        let connected = wire.client.run(|| TcpStream::connect_timeout(&to, PATIENCE)).unwrap();
        Self::accepted(listener, connected.unwrap())
    }

    fn accepted(listener: &TcpListener, client: TcpStream) -> Self {
        let (server, accepted) = listener.accept().unwrap();
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { client, server, accepted }
    }

    /// Sends bytes to the server and waits until they are read there.
    fn send(&mut self, bytes: &[u8]) {
        self.client.write_all(bytes).unwrap();
        let mut received = vec![0; bytes.len()];
        self.server.read_exact(&mut received).unwrap();
        assert_eq!(received, bytes);
    }

    fn peer(&self) -> SocketAddr {
        self.server.peer_addr().unwrap()
    }

    /// The address that the client's packets come from.
    fn source(&self) -> SocketAddr {
        self.client.local_addr().unwrap()
    }
}

const PATIENCE: Duration = Duration::from_secs(10);

fn listener(wire: &Wire, on: IpAddr) -> TcpListener {
    let listener = wire.server.run(|| TcpListener::bind((on, PORT))).unwrap().unwrap();
    // accept(2) waits as long.
    setsockopt(&listener, ReceiveTimeout, &TimeVal::seconds(10)).unwrap();
    listener
}

fn counters(rows: &[(&str, u64)]) -> BTreeMap<String, u64> {
    rows.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
}

const ANY4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const ANY6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

#[test]
fn accept_and_getpeername_name_the_client() {
    struct Case {
        name: &'static str,
        listen: IpAddr,
        connect: IpAddr,
        segments: Segments,
        option: Vec<u8>,
        peer: (IpAddr, u16),
    }
    let group = Cgroup::enter("toa-client");
    let wire = Wire::new("toa");
    let toa = Toa::start(&group, TRUSTED);
    let server4 = wire::SERVER.0.into();
    let server6 = wire::SERVER.1.into();
    let mapped = (CLIENT4.0.to_ipv6_mapped().into(), CLIENT4.1);
    let as4 = (CLIENT4.0.into(), CLIENT4.1);
    let as6 = (CLIENT6.0.into(), CLIENT6.1);
    let cases = [
        ("IPv4", ANY4, server4, Segments::All, option4(CLIENT4), as4),
        ("IPv4, last of the handshake", ANY4, server4, Segments::Bare, option4(CLIENT4), as4),
        ("mapped", ANY6, server4, Segments::All, option4(CLIENT4), mapped),
        ("IPv6", ANY6, server6, Segments::All, option6(CLIENT6), as6),
        ("IPv6 client, IPv4 real server", ANY6, server4, Segments::All, option6(CLIENT6), as6),
        ("IPv4 client, IPv6 real server", ANY6, server6, Segments::All, option4(CLIENT4), mapped),
    ];
    let cases = cases.map(|(name, listen, connect, segments, option, peer)| Case {
        name,
        listen,
        connect,
        segments,
        option,
        peer,
    });
    let number = u64::try_from(cases.len()).unwrap();
    for case in cases {
        let listener = listener(&wire, case.listen);
        wire.mark(Some(Mark { segments: case.segments, option: case.option }));
        let mut connection = Connection::open(&wire, &listener, case.connect);
        let peer = SocketAddr::from(case.peer);
        assert_eq!(connection.accepted, peer, "{}: accept()", case.name);
        assert_eq!(connection.peer(), peer, "{}: getpeername()", case.name);
        connection.send(b"as ever");
        assert_eq!(connection.peer(), peer, "{}: after data", case.name);
    }
    assert_eq!(toa.stop(), counters(&[("learned", number), ("answered", 3 * number)]));
}

#[test]
fn syn_cookies_change_nothing() {
    let group = Cgroup::enter("toa-cookies");
    let wire = Wire::new("toa");
    let toa = Toa::start(&group, TRUSTED);
    // 2: always (ip-sysctl.rst).
    wire.server.run(|| elvs_net::sysctl::set("net/ipv4/tcp_syncookies", "2")).unwrap().unwrap();
    for (listen, to, option, peer) in [
        (ANY4, wire::SERVER.0.into(), option4(CLIENT4), SocketAddr::from(CLIENT4)),
        (ANY6, wire::SERVER.1.into(), option6(CLIENT6), SocketAddr::from(CLIENT6)),
    ] {
        let listener = listener(&wire, listen);
        wire.mark(all(option));
        let connection = Connection::open(&wire, &listener, to);
        assert_eq!(connection.accepted, peer);
        assert_eq!(connection.peer(), peer);
    }
    let sent = wire.server.run(|| std::fs::read_to_string("/proc/thread-self/net/netstat"));
    assert!(cookies_sent(&sent.unwrap().unwrap()) >= 2, "cookies were in use");
    assert_eq!(toa.stop(), counters(&[("learned", 2), ("answered", 4)]));
}

/// `TcpExt: SyncookiesSent` of a `netstat`, whose lines come in pairs of names and values.
fn cookies_sent(netstat: &str) -> u64 {
    let mut lines = netstat.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let mut pairs = names.split(' ').zip(values.split(' '));
    pairs.find(|(name, _)| *name == "SyncookiesSent").unwrap().1.parse().unwrap()
}

#[test]
fn a_listener_that_defers_accepts_knows_the_client_from_the_first_data() {
    let group = Cgroup::enter("toa-deferred");
    let wire = Wire::new("toa");
    let toa = Toa::start(&group, TRUSTED);
    let listener = listener(&wire, ANY4);
    defer_accept(&listener);
    wire.mark(Some(Mark { segments: Segments::Data, option: option4(CLIENT4) }));
    let to = SocketAddr::from((wire::SERVER.0, PORT));
    let connected = wire.client.run(|| TcpStream::connect_timeout(&to, PATIENCE));
    let mut client = connected.unwrap().unwrap();
    client.write_all(b"first").unwrap();
    let connection = Connection::accepted(&listener, client);
    assert_eq!(connection.accepted, SocketAddr::from(CLIENT4));
    assert_eq!(toa.stop(), counters(&[("learned", 1), ("answered", 1)]));
}

/// TCP_DEFER_ACCEPT of tcp(7): accept() returns once there is data.
fn defer_accept(listener: &TcpListener) {
    let seconds: libc::c_int = 10;
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap();
    // SAFETY: the value lives as long as the call and is as long as told.
    let result = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const seconds).cast(),
            length,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn connections_without_the_option_are_as_ever() {
    let group = Cgroup::enter("toa-plain");
    let wire = Wire::new("toa");
    let toa = Toa::start(&group, &["198.51.100.0/24"]);
    for (listen, to) in [
        (ANY4, wire::SERVER.0.into()),
        (ANY6, wire::SERVER.0.into()),
        (ANY6, wire::SERVER.1.into()),
    ] {
        let listener = listener(&wire, listen);
        let mut connection = Connection::open(&wire, &listener, to);
        connection.send(b"plain");
        assert_eq!(connection.accepted.ip().to_canonical(), connection.source().ip(), "{listen}");
        assert_eq!(connection.accepted.port(), connection.source().port(), "{listen}");
        assert_eq!(connection.peer(), connection.accepted, "{listen}");
        // The other end is no connection that was listened for.
        assert_eq!(connection.client.peer_addr().unwrap(), SocketAddr::new(to, PORT));
    }
    assert_eq!(toa.stop(), BTreeMap::new(), "nothing is counted");
}

#[test]
fn an_untrusted_source_is_ignored() {
    let group = Cgroup::enter("toa-untrusted");
    let wire = Wire::new("toa");
    // Neighbours of the source on both sides.
    let toa = Toa::start(&group, &["192.0.2.0", "192.0.2.2/31", "2001:db8:1::/48"]);
    wire.mark(all(option4(CLIENT4)));
    for (listen, to) in [(ANY4, wire::SERVER.0.into()), (ANY6, wire::SERVER.1.into())] {
        let listener = listener(&wire, listen);
        let mut connection = Connection::open(&wire, &listener, to);
        connection.send(b"forged");
        assert_eq!(connection.accepted, connection.source());
        assert_eq!(connection.peer(), connection.source());
    }
    assert_eq!(toa.stop(), counters(&[("untrusted", 2)]));
}

#[test]
fn options_that_cannot_be_read_are_counted_and_ignored() {
    let group = Cgroup::enter("toa-malformed");
    let wire = Wire::new("toa");
    let toa = Toa::start(&group, TRUSTED);
    let listener = listener(&wire, ANY4);
    let (port, address) = (CLIENT4.1.to_be_bytes(), CLIENT4.0.octets());
    let rows: [(&str, Vec<u8>); 4] = [
        ("another length", [&[254, 12][..], &port, &address, &[0; 4]].concat()),
        ("port 0", [&[254, 8, 0, 0][..], &address].concat()),
        ("no address", [&[254, 8][..], &port, &[0; 4]].concat()),
        ("passes the end", vec![1, 1, 254, 60]),
    ];
    // The segments that end a connection are as bare as the one that established it: none ends before the last.
    let mut open = Vec::new();
    for (number, (name, option)) in (1..).zip(rows) {
        wire.mark(Some(Mark { segments: Segments::Bare, option }));
        let connection = Connection::open(&wire, &listener, wire::SERVER.0.into());
        assert_eq!(connection.accepted, connection.source(), "{name}");
        assert_eq!(connection.peer(), connection.source(), "{name}");
        assert_eq!(toa.counters().get("malformed"), Some(&number), "{name}");
        open.push(connection);
    }
}

#[test]
fn an_ipv4_socket_keeps_the_directors_address_when_the_client_is_ipv6() {
    let group = Cgroup::enter("toa-unanswerable");
    let wire = Wire::new("toa");
    let toa = Toa::start(&group, TRUSTED);
    let listener = listener(&wire, ANY4);
    wire.mark(all(option6(CLIENT6)));
    let connection = Connection::open(&wire, &listener, wire::SERVER.0.into());
    assert_eq!(connection.accepted, connection.source());
    assert_eq!(toa.stop(), counters(&[("learned", 1), ("unanswerable", 1)]));
}

#[test]
fn an_option_that_comes_with_the_first_data_is_learned_late() {
    let group = Cgroup::enter("toa-late");
    let wire = Wire::new("toa");
    let toa = Toa::start(&group, TRUSTED);
    let listener = listener(&wire, ANY4);
    wire.mark(Some(Mark { segments: Segments::Data, option: option4(CLIENT4) }));
    let mut connection = Connection::open(&wire, &listener, wire::SERVER.0.into());
    assert_eq!(connection.accepted, connection.source(), "nothing is known yet");
    connection.send(b"first");
    assert_eq!(connection.peer(), SocketAddr::from(CLIENT4));
    assert_eq!(toa.stop(), counters(&[("absent", 1), ("learned_late", 1), ("answered", 1)]));
}

#[test]
fn an_option_on_the_syn_alone_is_not_seen_but_missed() {
    let group = Cgroup::enter("toa-syn");
    let wire = Wire::new("toa");
    let toa = Toa::start(&group, TRUSTED);
    let listener = listener(&wire, ANY4);
    wire.mark(Some(Mark { segments: Segments::Syn, option: option4(CLIENT4) }));
    let mut connection = Connection::open(&wire, &listener, wire::SERVER.0.into());
    connection.send(b"as ever");
    assert_eq!(connection.accepted, connection.source());
    assert_eq!(connection.peer(), connection.source());
    assert_eq!(toa.stop(), counters(&[("absent", 1)]));
}

#[test]
fn an_option_after_the_first_data_is_the_clients_own_and_ignored() {
    let group = Cgroup::enter("toa-forged");
    let wire = Wire::new("toa");
    let toa = Toa::start(&group, TRUSTED);
    let listener = listener(&wire, ANY4);
    let mut unknown = Connection::open(&wire, &listener, wire::SERVER.0.into());
    unknown.send(b"first");
    wire.mark(all(option4(CLIENT4)));
    let mut known = Connection::open(&wire, &listener, wire::SERVER.0.into());
    wire.mark(all(option4((Ipv4Addr::new(203, 0, 113, 9), 9))));
    unknown.send(b"forged");
    known.send(b"forged");
    assert_eq!(unknown.peer(), unknown.source());
    assert_eq!(known.peer(), SocketAddr::from(CLIENT4));
    assert_eq!(toa.stop(), counters(&[("absent", 1), ("learned", 1), ("answered", 2)]));
}

#[test]
fn a_client_is_forgotten_with_its_connection() {
    let group = Cgroup::enter("toa-reuse");
    let wire = Wire::new("toa");
    let toa = Toa::start(&group, TRUSTED);
    let listener = listener(&wire, ANY4);
    let other = (Ipv4Addr::new(203, 0, 113, 9), 9);
    for wanted in [Some(CLIENT4), Some(other), None] {
        wire.mark(wanted.map(|client| Mark { segments: Segments::All, option: option4(client) }));
        let client = connect_from(&wire, 40_000);
        let mut connection = Connection::accepted(&listener, client);
        assert_eq!(connection.source().port(), 40_000, "the same four numbers each time");
        let wanted = wanted.map_or_else(|| connection.source(), SocketAddr::from);
        assert_eq!(connection.accepted, wanted);
        connection.send(b"once");
        assert_eq!(connection.peer(), wanted);
        // A reset ends both sockets at once.
        connection.server.shutdown(Shutdown::Write).unwrap();
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        setsockopt(&connection.server, Linger, &linger).unwrap();
        setsockopt(&connection.client, Linger, &linger).unwrap();
    }
    let last = toa.stop();
    assert_eq!(last, counters(&[("learned", 2), ("absent", 1), ("answered", 4)]));
}

/// Connects from a port of choice.
fn connect_from(wire: &Wire, port: u16) -> TcpStream {
    let connected = wire.client.run(|| {
        let socket =
            socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        setsockopt(&socket, ReuseAddr, &true).unwrap();
        let from = SocketAddr::from((wire::CLIENT.0, port));
        bind(socket.as_raw_fd(), &SockaddrStorage::from(from)).unwrap();
        let to = SocketAddr::from((wire::SERVER.0, PORT));
        connect(socket.as_raw_fd(), &SockaddrStorage::from(to)).unwrap();
        socket
    });
    TcpStream::from(connected.unwrap())
}

#[test]
fn ending_the_command_detaches_and_a_listener_of_before_is_served() {
    let group = Cgroup::enter("toa-end");
    let wire = Wire::new("toa");
    let listener = listener(&wire, ANY4);
    wire.mark(all(option4(CLIENT4)));
    let before = Connection::open(&wire, &listener, wire::SERVER.0.into());
    let toa = Toa::start(&group, TRUSTED);
    let during = Connection::open(&wire, &listener, wire::SERVER.0.into());
    assert_eq!(before.accepted, before.source());
    assert_eq!(before.peer(), before.source(), "established before");
    assert_eq!(during.accepted, SocketAddr::from(CLIENT4));
    assert_eq!(toa.stop(), counters(&[("learned", 1), ("answered", 1)]));
    assert_eq!(during.peer(), during.source(), "nobody answers any more");
    let after = Connection::open(&wire, &listener, wire::SERVER.0.into());
    assert_eq!(after.accepted, after.source());
}

#[test]
fn pinned_programs_go_on_until_they_are_cleaned_away() {
    assert!(!pins().exists(), "{} belongs to someone: remove it first", pins().display());
    let group = Cgroup::enter("toa-pin");
    let wire = Wire::new("toa");
    let listener = listener(&wire, ANY4);
    wire.mark(all(option4(CLIENT4)));
    let pin = || {
        let mut command = Toa::command(&["--trust", "192.0.2.0/24", "--pin", "--cgroup"]);
        command.arg(group.path());
        command
    };
    let _cleaner = Cleaner;
    assert!(output_of(pin()).starts_with("pinned: control group "));
    let refused = pin().output().unwrap();
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("are pinned in"), "{refused:?}");

    let connection = Connection::open(&wire, &listener, wire::SERVER.0.into());
    assert_eq!(connection.accepted, SocketAddr::from(CLIENT4));
    let wanted = counters(&[("learned", 1), ("answered", 1)]);
    assert_eq!(counters_of(&output_of(Toa::command(&["--status", "--json"]))), wanted);
    assert_eq!(counters_of(&output_of(Toa::command(&["--clean", "--json"]))), wanted);
    assert!(!pins().exists());
    // The kernel frees what nobody holds any more in its own time.
    wait_until("the programs to be gone", || connection.peer() == connection.source());
    for arguments in [["--status"], ["--clean"]] {
        let refused = Toa::command(&arguments).output().unwrap();
        assert!(!refused.status.success());
        assert!(String::from_utf8_lossy(&refused.stderr).contains("nothing is pinned"));
    }
}

/// Takes pins away when a test fails between pinning and cleaning.
struct Cleaner;

impl Drop for Cleaner {
    fn drop(&mut self) {
        // None are left after a test that passed.
        let _ = Toa::command(&["--clean"]).output();
    }
}

#[test]
fn refusals_name_cause_and_cure() {
    let group = Cgroup::enter("toa-refusal");
    let path = group.path().to_str().unwrap();
    let rows: [(&[&str], bool, &str); 4] = [
        (&["--cgroup", path], true, "--trust <PREFIX>"),
        (
            &["--trust", "192.0.2.1", "--cgroup", "/tmp"],
            true,
            "/tmp is no control group of version 2",
        ),
        (
            &["--trust", "192.0.2.1", "--cgroup", "/nowhere"],
            true,
            "cannot open control group /nowhere",
        ),
        (&["--trust", "192.0.2.1", "--cgroup", path], false, "run as root, or with CAP_BPF"),
    ];
    for (arguments, capable, message) in rows {
        let mut command = Toa::command(arguments);
        if !capable {
            // SAFETY: the closure makes system calls only.
            unsafe { command.pre_exec(drop_capabilities) };
        }
        let refused = command.output().unwrap();
        let text = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && text.contains(message), "{arguments:?}: {text}");
    }
}

/// Takes from the next program what BPF needs: CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF.
fn drop_capabilities() -> std::io::Result<()> {
    for capability in [12, 21, 38, 39] {
        // SAFETY: numbers only.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}
