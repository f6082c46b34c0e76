//! A flood of SYNs from made-up clients, as fast as one thread can send, while connections transfer data: none of them breaks, the
//! table does not fill, new clients are served meanwhile.
//!
//! The size is for a small machine; `ELVS_FLOOD_FLOWS` (connections) and `ELVS_FLOOD_SYNS` make it another one. The full
//! size is 1,000 and 3,000,000.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail loudly"
)]

use std::env;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use aya::TestRunOptions;
use aya::programs::{TestRun, Xdp};
use aya_obj::programs::XdpAttachType;
use elvs_common::{LAYOUT_VERSION, program_names};
use elvs_lab::bed::VIP;
use elvs_lab::{Daemon, Echo, Topology, method, output_of, wait_until};
use elvs_model::ForwardingMethod;
use elvs_net::bed::{CLIENT, Host};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

const PORT: u16 = 80;
const REAL_SERVERS: u8 = 2;
/// New flows per second and core: few, so that any machine's flood is one.
const THRESHOLD: u64 = 2_000;
/// Connections that the table is made for; it has half as many buckets.
const CAPACITY: u64 = 65_536;
/// Made-up clients: the addresses of benchmarks (RFC 2544).
const SPOOFED: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
const SPOOFED_MASK: u32 = 0x0001_ffff;
/// Frames handed to the kernel at a time.
const BATCH: usize = 64;
/// Ethernet, IPv4 and TCP headers.
const FRAME: usize = 54;
/// How long an answer may take on a machine that a flood keeps busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// New clients during the flood.
const NEWCOMERS: usize = 20;
const MESSAGE: usize = 512;
const XDP_REDIRECT: u32 = 4;

fn size(name: &str, otherwise: u64) -> u64 {
    env::var(name).ok().map_or(otherwise, |value| value.parse().unwrap())
}

/// Frames with a SYN to the service each.
struct Spoofer {
    socket: OwnedFd,
    frames: Vec<[u8; FRAME]>,
    /// Sum of the words of the IPv4 header, and of pseudo header and TCP header, without what differs.
    sums: (u32, u32),
    random: u64,
}

impl Spoofer {
    fn new(client: &Host, router: [u8; 6]) -> Self {
        let own = client.mac("eth0").unwrap().unwrap();
        let opened = client.namespace.run(|| packet_socket("eth0"));
        let mut frame = [0; FRAME];
        frame[..6].copy_from_slice(&router);
        frame[6..12].copy_from_slice(&own);
        frame[12..14].copy_from_slice(&[8, 0]);
        frame[14..24].copy_from_slice(&[0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6]);
        frame[30..34].copy_from_slice(&VIP.octets());
        frame[36..38].copy_from_slice(&PORT.to_be_bytes());
        frame[46..50].copy_from_slice(&[0x50, 2, 0xff, 0xff]);
        let pseudo = 6 + 20 + sum(&frame[30..34]);
        let sums = (sum(&frame[14..34]), pseudo + sum(&frame[34..54]));
        Self { socket: opened.unwrap().unwrap(), frames: vec![frame; BATCH], sums, random: 1 }
    }

    /// Makes every frame another client's.
    fn renew(&mut self) {
        for frame in &mut self.frames {
            // xorshift64 (Marsaglia 2003).
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            let [a, b, c, d, p, q, s @ ..] = self.random.to_be_bytes();
            let drawn = u32::from_be_bytes([a, b, c, d]);
            let client = (u32::from(SPOOFED) | drawn & SPOOFED_MASK).to_be_bytes();
            let port = (u16::from_be_bytes([p, q]) | 1_024).to_be_bytes();
            frame[26..30].copy_from_slice(&client);
            frame[34..36].copy_from_slice(&port);
            frame[38..40].copy_from_slice(&s);
            let (ip, tcp) = (self.sums.0 + sum(&client), self.sums.1 + sum(&client));
            frame[24..26].copy_from_slice(&checksum(ip));
            frame[50..52].copy_from_slice(&checksum(tcp + sum(&port) + sum(&s)));
        }
    }

    /// Sends a batch; how many frames the kernel took.
    fn send(&mut self) -> u64 {
        self.renew();
        let mut parts: Vec<libc::iovec> = self.frames.iter_mut().map(part).collect();
        let mut messages: Vec<libc::mmsghdr> = parts.iter_mut().map(message).collect();
        let count = u32::try_from(BATCH).unwrap();
        // SAFETY: frames, parts and messages outlive the call.
        let sent =
            unsafe { libc::sendmmsg(self.socket.as_raw_fd(), messages.as_mut_ptr(), count, 0) };
        match u64::try_from(sent) {
            Ok(sent) => sent,
            Err(_) if io::Error::last_os_error().raw_os_error() == Some(libc::ENOBUFS) => 0,
            Err(_) => panic!("sendmmsg: {}", io::Error::last_os_error()),
        }
    }
}

fn part(frame: &mut [u8; FRAME]) -> libc::iovec {
    libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: FRAME }
}

fn message(part: &mut libc::iovec) -> libc::mmsghdr {
    // SAFETY: all bytes 0 are a valid message without address and control data.
    let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
    message.msg_hdr.msg_iov = part;
    message.msg_hdr.msg_iovlen = 1;
    message
}

fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum()
}

fn checksum(mut sum: u32) -> [u8; 2] {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).unwrap()).to_be_bytes()
}

/// A socket that sends whole frames by an interface, past its queueing discipline.
fn packet_socket(interface: &str) -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that is nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let name = std::ffi::CString::new(interface).unwrap();
    // SAFETY: a string that ends with 0.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    // SAFETY: all bytes 0 are a valid address.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).unwrap();
    address.sll_ifindex = i32::try_from(index).unwrap();
    let length = libc::socklen_t::try_from(size_of_val(&address)).unwrap();
    // SAFETY: the address is whole and lives as long as the call.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    let on: libc::c_int = 1;
    // SAFETY: as above.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_QDISC_BYPASS,
            (&raw const on).cast(),
            libc::socklen_t::try_from(size_of_val(&on)).unwrap(),
        )
    };
    if bound < 0 || set < 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
}

/// One exchange with an echo server.
fn exchange(stream: &mut TcpStream, round: u64) -> io::Result<()> {
    let sent: Vec<u8> =
        (0..MESSAGE).map(|at| (round.wrapping_add(at as u64) & 0xff) as u8).collect();
    stream.write_all(&sent)?;
    let mut got = [0; MESSAGE];
    stream.read_exact(&mut got)?;
    assert!(sent == got, "what came back is another message");
    Ok(())
}

/// Busy ticks of all CPUs, and all ticks (`proc(5)`).
fn cpu() -> (u64, u64) {
    let stat = fs::read_to_string("/proc/stat").unwrap();
    let line = stat.lines().next().unwrap();
    let ticks: Vec<u64> =
        line.split_whitespace().skip(1).take(8).map(|word| word.parse().unwrap()).collect();
    let all = ticks.iter().sum::<u64>();
    (all - ticks[3] - ticks[4], all)
}

/// What was seen during a flood.
#[derive(Debug, Default)]
struct Seen {
    sent: AtomicU64,
    most_connections: AtomicU64,
    exchanges: AtomicU64,
}

fn prepare(topology: &Topology) -> Vec<Echo> {
    let bed = topology.bed();
    // Answers to made-up clients go to the client's host, which has no use for them.
    let mut command = bed.director.command("ip");
    command.args(["route", "add", "198.18.0.0/15", "via", &CLIENT.to_string()]);
    output_of(command);
    let nat = bed.plan.method == ForwardingMethod::Nat;
    let start = |host: &Host| {
        let own = if nat { host.address } else { VIP };
        Echo::start(host, SocketAddr::from((own, PORT)))
    };
    bed.real_servers.iter().map(start).collect()
}

fn survives(name: &str, method: ForwardingMethod) {
    let flows = usize::try_from(size("ELVS_FLOOD_FLOWS", 200)).unwrap();
    let syns = size("ELVS_FLOOD_SYNS", 400_000);
    let topology = Topology::new(name, method, REAL_SERVERS);
    let _echoes = prepare(&topology);
    let config = format!(
        "data_plane {{\n connections {CAPACITY}\n flood_threshold {THRESHOLD}\n}}\n{}",
        topology.config("rr", REAL_SERVERS.into())
    );
    let daemon = topology.daemon(Some(&config));
    let vip = SocketAddr::from((VIP, PORT));
    let connect = || {
        let stream = topology.connect(vip);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let mut streams: Vec<TcpStream> = (0..flows).map(|_| connect()).collect();
    for stream in &mut streams {
        exchange(stream, 0).unwrap();
    }
    assert_eq!(daemon.counted("flood_entered"), 0, "before the flood");

    let router = topology.bed().director.mac("eth0").unwrap().unwrap();
    let mut spoofer = Spoofer::new(&topology.bed().client, router);
    let (seen, over) = (Seen::default(), AtomicBool::new(false));
    let (begun, before) = (Instant::now(), cpu());
    let mut took = Duration::ZERO;
    let mut after = before;
    thread::scope(|scope| {
        let flood = scope.spawn(|| {
            while seen.sent.load(Ordering::Relaxed) < syns {
                seen.sent.fetch_add(spoofer.send(), Ordering::Relaxed);
            }
        });
        for part in streams.chunks_mut(flows.div_ceil(4)) {
            scope.spawn(|| {
                let mut round = 0;
                while round == 0 || !over.load(Ordering::Relaxed) {
                    round += 1;
                    for stream in &mut *part {
                        exchange(stream, round).expect("a connection that lives on");
                        seen.exchanges.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        wait_until("flood mode", || daemon.status().flooded);
        for newcomer in 0..NEWCOMERS {
            let mut stream = connect();
            for round in 0..3 {
                exchange(&mut stream, round).unwrap_or_else(|e| panic!("client {newcomer}: {e}"));
            }
        }
        while !flood.is_finished() {
            let connections = daemon.status().connections;
            seen.most_connections.fetch_max(connections, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(100));
        }
        took = begun.elapsed();
        after = cpu();
        over.store(true, Ordering::Relaxed);
    });
    report(name, &daemon, &seen, took, (before, after));
    // Each has lived through the flood, and goes on.
    for stream in &mut streams {
        exchange(stream, 7).expect("a connection that lives on after the flood");
    }
    if method == ForwardingMethod::Dr {
        price(name, &daemon, &mut spoofer);
    }
    // What a window lets in before flood mode, on each CPU and each time, and one of four places of a bucket (NAT).
    let cpus = u64::try_from(thread::available_parallelism().unwrap().get()).unwrap();
    let windows = daemon.counted("flood_entered") + daemon.counted("flood_left") + cpus;
    let provisional = if method == ForwardingMethod::Nat { CAPACITY / 2 } else { 0 };
    let most = seen.most_connections.load(Ordering::Relaxed);
    let bound = (flows + 2 * NEWCOMERS) as u64 + windows * THRESHOLD + provisional;
    assert!(most <= bound, "{most} connections in the table, more than {bound}");
    assert_eq!(daemon.counted("table_full"), 0);
    let log = daemon.process.log();
    assert!(log.contains("flood: half-open flows are kept out"), "{log}");
    // Told once, in the log, when the last core has left flood mode.
    wait_until("the end of the flood", || {
        !daemon.status().flooded && daemon.process.log().contains("the flood is over")
    });
}

/// What a SYN costs in flood mode, from the program's entry to its verdict, by the same program on this thread's CPU.
#[allow(clippy::print_stdout, reason = "a figure for who runs it")]
fn price(name: &str, daemon: &Daemon, spoofer: &mut Spoofer) {
    // A packet lives for as many runs.
    const REPEAT: u32 = 200;
    const CALLS: u32 = 500;
    let pins = format!("/sys/fs/bpf/elvs/lab-{name}/v{LAYOUT_VERSION}");
    let pin = Path::new(&pins).join(program_names::DIRECTOR);
    let program = Xdp::from_pin(pin, XdpAttachType::Interface).unwrap();
    sched_setaffinity(Pid::from_raw(0), &this_cpu()).unwrap();
    let mut run = |repeat| {
        spoofer.renew();
        let mut frame = spoofer.frames[0];
        frame[22] = 255;
        let mut options = TestRunOptions::new();
        (options.data_in, options.repeat) = (Some(&frame[..]), repeat);
        let result = program.test_run(options).unwrap();
        assert_eq!(result.return_value, XDP_REDIRECT);
        result.duration
    };
    for _ in 0..2 * THRESHOLD {
        run(1);
    }
    let before = daemon.counted("flood_stateless");
    let least = (0..CALLS).map(|_| run(REPEAT)).min().unwrap();
    let counted = daemon.counted("flood_stateless") - before;
    println!("{name}: {least:?} for a SYN without entry, {counted} of {} runs", REPEAT * CALLS);
}

/// The CPU that this thread is on.
fn this_cpu() -> CpuSet {
    let mut set = CpuSet::new();
    // SAFETY: no arguments.
    let cpu = unsafe { libc::sched_getcpu() };
    set.set(usize::try_from(cpu).unwrap()).unwrap();
    set
}

#[allow(clippy::print_stdout, reason = "figures for who runs it")]
fn report(name: &str, daemon: &Daemon, seen: &Seen, took: Duration, cpu: ((u64, u64), (u64, u64))) {
    let ((busy, all), (busy_after, all_after)) = cpu;
    let sent = seen.sent.load(Ordering::Relaxed);
    let received: u64 =
        daemon.status().services.iter().map(|service| service.statistics.in_packets).sum();
    println!(
        "{name}: {sent} SYNs in {:.2} s ({:.0}/s), packets to real servers {received}, exchanges {}, CPU {} % of all, at most {} connections of {CAPACITY}",
        took.as_secs_f64(),
        sent as f64 / took.as_secs_f64(),
        seen.exchanges.load(Ordering::Relaxed),
        100 * (busy_after - busy) / (all_after - all).max(1),
        seen.most_connections.load(Ordering::Relaxed),
    );
    let status = daemon.status();
    for count in status.drops.iter().chain(&status.events) {
        println!("{name}: {} {}", count.reason, count.packets);
    }
}

#[test]
fn direct_routing_survives_a_flood() {
    survives("flood-dr", method::DR);
}

#[test]
fn masquerading_survives_a_flood() {
    survives("flood-nat", method::NAT);
}
