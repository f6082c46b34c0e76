//! Transfers of which every byte is compared.
//!
//! **Invariant:** what a transfer sends differs at every place of a packet's length, so that bytes that are lost, doubled
//! or swapped are seen; an [`Echo`] sends back what it gets, from the address it was sent to, and ends with its guard.
//!
//! Called by the lab's tests.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use elvs_net::bed::Host;

use crate::Topology;

/// Bytes of a transfer.
pub const TRANSFER: usize = 10_000_000;
/// Bytes of a datagram's payload: a full packet of 1,500 bytes in IPv6.
const DATAGRAM: usize = 1_452;
/// Datagrams under way: what a socket's buffer holds without loss.
const WINDOW: usize = 16;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks whether a server shall end.
const PAUSE: Duration = Duration::from_millis(20);

/// The bytes of a transfer: xorshift64 (Marsaglia 2003), so no part is like another.
pub fn bytes(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut all = Vec::with_capacity(TRANSFER + 8);
    while all.len() < TRANSFER {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        all.extend(state.to_be_bytes());
    }
    all.truncate(TRANSFER);
    all
}

/// A server of TCP and UDP that sends everything back.
#[derive(Debug)]
pub struct Echo {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Echo {
    /// Starts the server of a host at one of its addresses.
    ///
    /// # Panics
    /// If the address cannot be used.
    pub fn start(host: &Host, address: SocketAddr) -> Self {
        let bound = host.namespace.run(|| {
            let listener = TcpListener::bind(address).expect("an address to listen on");
            (listener, UdpSocket::bind(address).expect("an address for datagrams"))
        });
        let (listener, socket) = bound.expect("the host's namespace");
        listener.set_nonblocking(true).expect("a listener that does not block");
        socket.set_read_timeout(Some(PAUSE)).expect("a time limit");
        let stop = Arc::new(AtomicBool::new(false));
        let (first, second) = (Arc::clone(&stop), Arc::clone(&stop));
        let threads = vec![
            thread::spawn(move || accept(&listener, &first)),
            thread::spawn(move || reflect(&socket, &second)),
        ];
        Self { stop, threads }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "the echo server broke");
        }
    }
}

fn is_pause(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn accept(listener: &TcpListener, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                // Ends with its client's connection.
                thread::spawn(move || echo(stream));
            }
            Err(error) if is_pause(&error) => thread::sleep(PAUSE),
            Err(error) => panic!("accept: {error}"),
        }
    }
}

/// Sends back what comes until the client has ended; one that breaks off is the client's to report.
fn echo(mut stream: TcpStream) {
    let mut buffer = vec![0; 65_536];
    if stream.set_nonblocking(false).is_err() {
        return;
    }
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        let Some(part) = buffer.get(..length) else { return };
        if stream.write_all(part).is_err() {
            return;
        }
    }
}

fn reflect(socket: &UdpSocket, stop: &AtomicBool) {
    let mut buffer = vec![0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        match socket.recv_from(&mut buffer) {
            Ok((length, client)) => {
                let part = buffer.get(..length).unwrap_or_default();
                socket.send_to(part, client).expect("a datagram sent back");
            }
            Err(error) if is_pause(&error) => {}
            Err(error) => panic!("recvfrom: {error}"),
        }
    }
}

impl Topology {
    /// Has the client connect to an address.
    ///
    /// # Panics
    /// If that is refused.
    pub fn connect(&self, to: SocketAddr) -> TcpStream {
        let connect = || TcpStream::connect_timeout(&to, PATIENCE);
        let connected = self.bed().client.namespace.run(connect).expect("the client's namespace");
        let stream = connected.unwrap_or_else(|e| panic!("connecting to {to}: {e}"));
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        stream.set_write_timeout(Some(PATIENCE)).expect("a time limit");
        stream
    }

    /// Sends the bytes of a transfer to an [`Echo`] on one TCP connection, both ways at a time, and compares what comes
    /// back. `halfway` is called when half of it has come back; the other half is not sent before it has returned.
    ///
    /// # Panics
    /// If the connection breaks or a byte differs.
    pub fn transfer_tcp(&self, to: SocketAddr, seed: u64, halfway: impl FnOnce()) {
        let sent = bytes(seed);
        let mut stream = self.connect(to);
        let mut writer = stream.try_clone().expect("a second descriptor");
        let (first, second) = sent.split_at(TRANSFER / 2);
        let (go_on, may_go_on) = mpsc::channel::<()>();
        thread::scope(|scope| {
            scope.spawn(move || {
                writer.write_all(first).expect("the first half sent");
                // One whose other end has failed has nothing to wait for.
                let _ = may_go_on.recv();
                writer.write_all(second).expect("the second half sent");
                writer.shutdown(Shutdown::Write).expect("the end sent");
            });
            let mut got = vec![0; first.len()];
            stream.read_exact(&mut got).expect("the first half");
            halfway();
            drop(go_on);
            stream.read_to_end(&mut got).expect("the second half");
            compare(&sent, &got, "TCP", to);
        });
    }

    /// As [`Topology::transfer_tcp`], in datagrams of one socket.
    ///
    /// # Panics
    /// If a datagram is lost or a byte differs.
    pub fn transfer_udp(&self, to: SocketAddr, seed: u64) {
        let sent = bytes(seed);
        let any: SocketAddr =
            if to.is_ipv6() { ([0_u16; 8], 0).into() } else { ([0; 4], 0).into() };
        let bound = self.bed().client.namespace.run(|| UdpSocket::bind(any));
        let socket = bound.expect("the client's namespace").expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        socket.connect(to).expect("a way to the service");
        let mut under_way = 0;
        let mut got = Vec::new();
        let mut buffer = vec![0; 65_536];
        let mut receive = |got: &mut Vec<u8>| {
            let length = socket.recv(&mut buffer).expect("a datagram that comes back");
            got.extend_from_slice(buffer.get(..length).unwrap_or_default());
        };
        for datagram in sent.chunks(DATAGRAM) {
            if under_way == WINDOW {
                receive(&mut got);
                under_way -= 1;
            }
            socket.send(datagram).expect("a datagram sent");
            under_way += 1;
        }
        for _ in 0..under_way {
            receive(&mut got);
        }
        compare(&sent, &got, "UDP", to);
    }

    /// Packets that any host has refused because of a wrong checksum, of IPv4, ICMP, TCP and UDP in either family.
    ///
    /// # Panics
    /// If the kernel's counters cannot be read.
    pub fn checksum_errors(&self) -> u64 {
        self.bed().hosts().map(checksum_errors).sum()
    }
}

fn compare(sent: &[u8], got: &[u8], protocol: &str, to: SocketAddr) {
    let differs = sent.iter().zip(got).position(|(a, b)| a != b);
    assert_eq!(differs, None, "first byte of {protocol} to {to} that came back another one");
    assert_eq!(got.len(), sent.len(), "bytes of {protocol} to {to} that came back");
}

/// Sum of the counters `InCsumErrors` of a host (RFC 4293 names the others of these files).
fn checksum_errors(host: &Host) -> u64 {
    let read = || {
        // `self` would be the process, whose first thread is in another namespace.
        let snmp = fs::read_to_string("/proc/thread-self/net/snmp").expect("counters of IPv4");
        (snmp, fs::read_to_string("/proc/thread-self/net/snmp6").unwrap_or_default())
    };
    let (snmp, snmp6) = host.namespace.run(read).expect("the host's namespace");
    let mut total = 0;
    let lines: Vec<&str> = snmp.lines().collect();
    for pair in lines.chunks(2) {
        let [names, values] = pair else { panic!("half a pair of lines in\n{snmp}") };
        for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
            if name == "InCsumErrors" {
                total += value.parse::<u64>().expect("a count");
            }
        }
    }
    for line in snmp6.lines().filter(|line| line.contains("InCsumErrors")) {
        let value = line.split_whitespace().nth(1).expect("a count");
        total += value.parse::<u64>().expect("a count");
    }
    total
}
