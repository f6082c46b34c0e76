//! The profiles: which packet is measured, and what has to happen before it.

use elvs_common::{Method, ServiceFlags, scheduler_id};

/// Bytes of a frame: an Ethernet header, IPv4, TCP and a little payload.
pub const FRAME: usize = 64;

/// Virtual address and port of the benchmark's service.
pub const VIP: [u8; 4] = [10, 0, 0, 100];
/// Real server's address.
pub const REAL_SERVER: [u8; 4] = [10, 1, 0, 21];
/// Port of the virtual service.
pub const VPORT: u16 = 80;
/// Port of the real server (NAT maps it).
pub const RPORT: u16 = 8080;

/// A packet; the wrapper fills in the client.
#[derive(Debug)]
pub struct Packet {
    protocol: u8,
    flags: u8,
    /// From the real server to the client instead of the other way round.
    reply: bool,
    /// To an address that is no virtual one.
    foreign: bool,
}

/// The service that packets are for.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// See [`scheduler_id`].
    pub scheduler: u8,
    /// Destinations, all of weight 1.
    pub destinations: u32,
    /// See [`ServiceFlags`].
    pub flags: u8,
    /// By firewall mark, which a rule gives, instead of by address and port.
    pub marked: bool,
}

const PLAIN: Service =
    Service { scheduler: scheduler_id::RR, destinations: 1, flags: 0, marked: false };

/// One profile.
#[derive(Debug)]
pub struct Profile {
    /// Name in the output.
    pub name: &'static str,
    /// Forwarding method of the destinations.
    pub method: Method,
    /// The service.
    pub service: Service,
    /// Packets of every flow that are sent before, without being measured.
    pub prepare: &'static [Packet],
    /// The packet that is measured.
    pub packet: Packet,
    /// Each packet opens a connection, so the table is emptied before each run.
    pub opens: bool,
    /// Whether the program sends it on (else it passes it).
    pub forwarded: bool,
}

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

const fn tcp(flags: u8) -> Packet {
    Packet { protocol: 6, flags, reply: false, foreign: false }
}

const REPLY: Packet = Packet { protocol: 6, flags: ACK, reply: true, foreign: false };
const DATAGRAM: Packet = Packet { protocol: 17, flags: 0, reply: false, foreign: false };
const FOREIGN: Packet = Packet { protocol: 6, flags: ACK, reply: false, foreign: true };

/// Every profile.
pub const PROFILES: &[Profile] = &[
    known("dr-tcp-established", Method::Dr, &[tcp(SYN), tcp(ACK)], tcp(ACK)),
    known("nat-request", Method::Nat, &[tcp(SYN), tcp(ACK)], tcp(ACK)),
    known("nat-reply", Method::Nat, &[tcp(SYN), tcp(ACK)], REPLY),
    known("tun-ipip", Method::Tun, &[tcp(SYN), tcp(ACK)], tcp(ACK)),
    known("udp-established", Method::Dr, &[DATAGRAM], DATAGRAM),
    new("new-flow", PLAIN),
    new("new-wlc-16", scheduled(scheduler_id::WLC, 16)),
    new("new-wlc-1024", scheduled(scheduler_id::WLC, 1_024)),
    new("new-sh-16", scheduled(scheduler_id::SH, 16)),
    new("new-mh-16", scheduled(scheduler_id::MH, 16)),
    new("new-persistent", Service { flags: ServiceFlags::PERSISTENT, ..PLAIN }),
    new("new-fwmark", Service { marked: true, ..PLAIN }),
    Profile {
        name: "not-ours",
        method: Method::Nat,
        service: PLAIN,
        prepare: &[],
        packet: FOREIGN,
        opens: false,
        forwarded: false,
    },
];

const fn known(
    name: &'static str,
    method: Method,
    prepare: &'static [Packet],
    packet: Packet,
) -> Profile {
    Profile { name, method, service: PLAIN, prepare, packet, opens: false, forwarded: true }
}

const fn new(name: &'static str, service: Service) -> Profile {
    let (method, packet) = (Method::Dr, tcp(SYN));
    Profile { name, method, service, prepare: &[], packet, opens: true, forwarded: true }
}

const fn scheduled(scheduler: u8, destinations: u32) -> Service {
    Service { scheduler, destinations, ..PLAIN }
}

impl Packet {
    /// IP protocol number.
    pub const fn protocol(&self) -> u8 {
        self.protocol
    }

    /// Offset of the client's address.
    pub const fn address_at(&self) -> u64 {
        if self.reply { 30 } else { 26 }
    }

    /// Offset of the client's port.
    pub const fn port_at(&self) -> u64 {
        if self.reply { 36 } else { 34 }
    }

    /// The frame.
    pub fn bytes(&self) -> [u8; FRAME] {
        let mut ethernet = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        let destination = if self.foreign { [10, 0, 0, 99] } else { VIP };
        let (source, target) =
            if self.reply { (REAL_SERVER, [0; 4]) } else { ([0; 4], destination) };
        ethernet.extend([0x45, 0, 0, 50, 0, 0, 0x40, 0, 64, self.protocol, 0x12, 0x34]);
        ethernet.extend(source);
        ethernet.extend(target);
        let (from, to) = if self.reply { (RPORT, 0) } else { (0, VPORT) };
        ethernet.extend(from.to_be_bytes());
        ethernet.extend(to.to_be_bytes());
        if self.protocol == 17 {
            ethernet.extend([0, 30, 0x56, 0x78]);
        } else {
            ethernet.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, self.flags, 1, 0, 0x56, 0x78, 0, 0]);
        }
        let mut frame = [0; FRAME];
        for (byte, value) in frame.iter_mut().zip(ethernet) {
            *byte = value;
        }
        frame
    }
}
