//! Full NAT with one local address and one real server, to the last port: as many connections of real sockets as the
//! address has ports live at once, the next one is refused and counted, and when all are over all ports are free.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail loudly"
)]

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use elvs_common::{FIRST_LOCAL_PORT, LOCAL_PORTS};
use elvs_lab::bed::{BedError, LOCAL, VIP};
use elvs_lab::{Daemon, Topology, wait_until};
use elvs_model::{ForwardingMethod, LocalAddressView};
use elvs_net::Netlink;
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::sockopt::{Linger, SocketError};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, getsockopt, setsockopt, socket,
};

/// Ports of a local address.
const PORTS: usize = (LOCAL_PORTS - FIRST_LOCAL_PORT) as usize;
/// Connections opened at a time: fewer frames than a veth's ring holds.
const BATCH: usize = 96;
/// Ports of each of the client's addresses.
const PORTS_EACH: usize = 13_000;
/// Descriptors that a thread may have for something else.
const SPARE: usize = 300;
/// Addresses of the client from here on.
const FIRST_CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const SERVICE: SocketAddrV4 = SocketAddrV4::new(VIP, 80);
/// Nothing takes that long; who waits longer waits in vain.
const PATIENCE: Duration = Duration::from_secs(30);

/// Connections and both their ends, in a table of descriptors that is the thread's own.
struct Held<'a> {
    topology: &'a Topology,
    listener: &'a TcpListener,
    /// Number of the first client.
    first: usize,
    clients: Vec<OwnedFd>,
    servers: Vec<TcpStream>,
    /// Of each batch the place of a client and that of the server it talks to.
    pairs: Vec<(usize, usize)>,
}

/// A socket of client number `n` on its way to the service.
fn begin(n: usize) -> OwnedFd {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap();
    // Its end is a reset: no port of the client's waits for segments that are late.
    setsockopt(&fd, Linger, &libc::linger { l_onoff: 1, l_linger: 0 }).unwrap();
    let address = FIRST_CLIENT.to_bits() + u32::try_from(n / PORTS_EACH).unwrap();
    let port = 2_000 + u16::try_from(n % PORTS_EACH).unwrap();
    let own = SocketAddrV4::new(address.into(), port);
    bind(fd.as_raw_fd(), &SockaddrIn::from(own)).unwrap();
    let begun = connect(fd.as_raw_fd(), &SockaddrIn::from(SERVICE));
    assert_eq!(begun, Err(Errno::EINPROGRESS), "client {n}");
    fd
}

/// Waits until one of a set can be written to or read from; the flags of each.
fn look(fds: &[impl AsFd], wanted: PollFlags) -> Vec<bool> {
    let mut polled: Vec<PollFd> = fds.iter().map(|fd| PollFd::new(fd.as_fd(), wanted)).collect();
    let timeout = PollTimeout::try_from(PATIENCE).unwrap();
    assert_ne!(poll(&mut polled, timeout).unwrap(), 0, "nothing came of {} sockets", fds.len());
    polled.iter().map(|fd| fd.any().unwrap()).collect()
}

/// Waits until all of a set are connected.
fn connected(fds: &[OwnedFd]) {
    for fd in fds {
        look(&[fd], PollFlags::POLLOUT);
        let error = getsockopt(fd, SocketError).unwrap();
        assert_eq!(error, 0, "a connection: {}", std::io::Error::from_raw_os_error(error));
    }
}

fn stream_of(fd: &OwnedFd) -> TcpStream {
    let stream = TcpStream::from(fd.try_clone().unwrap());
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

impl<'a> Held<'a> {
    fn new(topology: &'a Topology, listener: &'a TcpListener, first: usize) -> Self {
        // However few descriptors a process may have, each thread may have so many.
        unshare(CloneFlags::CLONE_FILES).unwrap();
        let (clients, servers, pairs) = (Vec::new(), Vec::new(), Vec::new());
        Self { topology, listener, first, clients, servers, pairs }
    }

    /// So many connections more. The first of each batch asks something, and is answered.
    fn open(&mut self, number: usize) {
        let client = &self.topology.bed().client.namespace;
        let end = self.clients.len() + number;
        while self.clients.len() < end {
            let start = self.clients.len();
            let last = (start + BATCH).min(end);
            let numbers = self.first + start..self.first + last;
            let batch: Vec<OwnedFd> = client.run(|| numbers.map(begin).collect()).unwrap();
            connected(&batch);
            self.clients.extend(batch);
            self.accept(last);
            stream_of(&self.clients[start]).write_all(b"who?").unwrap();
            let asked = look(&self.servers[start..], PollFlags::POLLIN);
            let asked: Vec<usize> =
                (start..).zip(asked).filter(|(_, hit)| *hit).map(|(place, _)| place).collect();
            assert_eq!(asked.len(), 1, "real server's sockets that client {start} asks");
            self.pairs.push((start, asked[0]));
            self.answer(start, asked[0]);
        }
    }

    /// Accepts until there are so many.
    fn accept(&mut self, number: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.servers.len() < number {
            match self.listener.accept() {
                Ok((stream, peer)) => {
                    assert_eq!(peer.ip(), LOCAL, "the real server sees the director");
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    self.servers.push(stream);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    assert!(Instant::now() < deadline, "{number} connections to accept");
                    look(&[self.listener], PollFlags::POLLIN);
                }
                Err(error) => panic!("accept: {error}"),
            }
        }
    }

    /// What a client has asked is answered by its server.
    fn answer(&self, client: usize, server: usize) {
        let mut buffer = [0; 4];
        let mut server = &self.servers[server];
        server.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"who?");
        let answer = u32::try_from(self.first + client).unwrap().to_be_bytes();
        server.write_all(&answer).unwrap();
        stream_of(&self.clients[client]).read_exact(&mut buffer).unwrap();
        assert_eq!(buffer, answer, "client {client}");
    }

    /// One connection of each batch still works.
    fn talk(&self) {
        for (client, server) in &self.pairs {
            stream_of(&self.clients[*client]).write_all(b"who?").unwrap();
            self.answer(*client, *server);
        }
    }
}

/// Threads that hold connections.
struct Holders {
    /// A message has a thread's connections talk; they end when the other end is gone.
    orders: Vec<Sender<()>>,
    /// What was ordered is done.
    done: Vec<Receiver<()>>,
}

impl Holders {
    /// Opens so many connections, of each thread as many as it may have.
    fn open<'scope>(
        scope: &'scope Scope<'scope, '_>,
        topology: &'scope Topology,
        listener: &'scope TcpListener,
        number: usize,
    ) -> Self {
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
        let each = (usize::try_from(most).unwrap() - SPARE) / 2;
        let mut holders = Self { orders: Vec::new(), done: Vec::new() };
        for first in (0..number).step_by(each) {
            let share = each.min(number - first);
            let (orders, ordered) = channel();
            let (told, done) = channel();
            scope.spawn(move || {
                let mut held = Held::new(topology, listener, first);
                held.open(share);
                told.send(()).unwrap();
                while ordered.recv().is_ok() {
                    held.talk();
                    told.send(()).unwrap();
                }
            });
            // One after the other, as whoever accepts has to be who connects.
            done.recv().expect("connections opened");
            holders.orders.push(orders);
            holders.done.push(done);
        }
        holders
    }

    /// One connection of each batch still works.
    fn talk(&self) {
        for (order, done) in self.orders.iter().zip(&self.done) {
            order.send(()).expect("a thread with connections");
            done.recv().expect("connections that work");
        }
    }
}

/// The ports of the local address: as the daemon has them, and as `--list-laddr` shows them.
fn ports(daemon: &Daemon) -> LocalAddressView {
    let view = daemon.status().services[0].local_addresses[0];
    let shown =
        format!("  -> {LOCAL:<28} {:<10} {:<10} {}\n", view.in_use, view.free, view.exhausted);
    let listed = daemon.adm_ok("--list-laddr");
    assert!(listed.ends_with(&shown), "{shown} in\n{listed}");
    view
}

fn exhausted(daemon: &Daemon) -> u64 {
    let drops = daemon.status().drops;
    let mut drops = drops.iter().filter(|drop| drop.packets > 0);
    let first = drops.next();
    assert_eq!(drops.next(), None, "nothing else is dropped");
    first.map_or(0, |drop| {
        assert_eq!(drop.reason, "local_ports_exhausted");
        drop.packets
    })
}

#[test]
fn one_address_serves_as_many_connections_as_it_has_ports() {
    let topology = Topology::new("fnat-ports", ForwardingMethod::FullNat, 1);
    let addressed = topology.bed().client.namespace.with_netlink(async |netlink: Netlink| {
        let ifindex = netlink.link("eth0").await?.ifindex;
        for n in 0..=u32::try_from(PORTS / PORTS_EACH).unwrap() {
            let address = Ipv4Addr::from_bits(FIRST_CLIENT.to_bits() + n);
            netlink.add_address(ifindex, address.into(), 24).await?;
        }
        Ok::<_, BedError>(())
    });
    addressed.unwrap();
    let daemon = topology.daemon(Some(&topology.config("rr", 1)));
    let server = topology.real_server(1);
    let bound = server.namespace.run(|| TcpListener::bind((server.address, 80)).unwrap());
    let listener = bound.unwrap();
    listener.set_nonblocking(true).unwrap();
    let all = u32::try_from(PORTS).unwrap();
    assert_eq!((ports(&daemon).in_use, ports(&daemon).free), (0, all));

    let full = thread::scope(|scope| {
        let holders = Holders::open(scope, &topology, &listener, PORTS);
        let full = ports(&daemon);
        assert_eq!((full.in_use, full.free, full.exhausted), (all, 0, 0));
        assert_eq!(exhausted(&daemon), 0);
        let destination = daemon.status().services[0].destinations[0].clone();
        assert_eq!((destination.active, destination.inactive), (all, 0));

        // Whoever comes now is refused, again with every SYN, and nobody else notices.
        let client = &topology.bed().client.namespace;
        let refused = client.run(|| begin(PORTS)).unwrap();
        wait_until("the refusal to be counted", || exhausted(&daemon) > 0);
        holders.talk();
        assert!(listener.accept().is_err(), "it came through");
        drop(refused);
        let full = ports(&daemon);
        assert_eq!((full.in_use, full.free, full.exhausted), (all, 0, exhausted(&daemon)));
        full
    });

    daemon.adm_ok("--set 1 1 1");
    wait_until("all connections to be over", || {
        let service = &daemon.status().services[0];
        let destination = &service.destinations[0];
        let left = destination.active + destination.inactive;
        (left, service.local_addresses[0].free) == (0, all)
    });
    let free = ports(&daemon);
    assert_eq!((free.in_use, free.free, free.exhausted), (0, all, full.exhausted));

    daemon.adm_ok("--set 900 120 300");
    thread::scope(|scope| {
        let holders = Holders::open(scope, &topology, &listener, 3 * BATCH);
        holders.talk();
        assert_eq!(ports(&daemon).in_use, u32::try_from(3 * BATCH).unwrap());
    });
    assert_eq!(exhausted(&daemon), full.exhausted, "none was refused");
    assert_eq!(topology.checksum_errors(), 0);
}
