//! Random histories as scripts of `elvs simulate`.
//!
//! **Invariant:** a history is the same on every run: what it does next depends on its seed alone.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use crate::support::Random;

/// Between two listings.
const CHECKPOINT: u32 = 30;
const WEIGHTS: [u32; 10] = [0, 1, 1, 1, 2, 3, 4, 6, 9, 100];
const UPPER_THRESHOLDS: [u32; 6] = [0, 0, 2, 5, 10, 30];
/// Events of each half of a history; between them all connections expire.
const HALF: u32 = 170;

#[derive(Clone, Copy, Debug)]
enum Event {
    Open,
    Close,
    Short,
    Packet,
    Edit,
    Add,
    Remove,
}

/// Mostly traffic, now and then a change.
const MIX: [Event; 26] = {
    use Event::{Add, Close, Edit, Open, Packet, Remove, Short};
    [
        Open, Open, Open, Open, Open, Open, Open, Open, Open, Close, Close, Close, Close, Short,
        Short, Short, Short, Packet, Packet, Packet, Edit, Edit, Add, Add, Add, Remove,
    ]
};

/// What a history is about.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Scheduler, with its flags.
    pub scheduler: &'static str,
    /// Virtual address; that of services by mark is the first of a network.
    pub vip: IpAddr,
    /// Whether one service by firewall mark has all connections, which come to many addresses.
    pub marked: bool,
    /// Whether destinations have thresholds.
    pub thresholds: bool,
    /// Whether destinations are deleted.
    pub removes: bool,
    /// Real servers that can be destinations.
    pub servers: Vec<IpAddr>,
    /// Start of the random numbers.
    pub seed: u64,
}

/// A service as commands name it.
struct Service {
    name: String,
    port: u16,
    pool: BTreeSet<IpAddr>,
}

/// Writes a history down.
pub struct Writer {
    shape: Shape,
    random: Random,
    /// Of TCP and of UDP, or one of both.
    services: Vec<Service>,
    open: Vec<String>,
    number: u16,
    lines: Vec<String>,
}

/// A datagram of the connection that shows that everything before it is through.
pub fn marker(shape: &Shape) -> (SocketAddr, SocketAddr) {
    (client(shape, 0, 9), SocketAddr::new(shape.vip, 9))
}

/// A client's address of the network that no host of the bed has a way to.
fn client(shape: &Shape, number: u32, port: u16) -> SocketAddr {
    let address: IpAddr = match shape.vip {
        IpAddr::V4(_) => std::net::Ipv4Addr::from(0xac10_0001 + number).into(),
        IpAddr::V6(_) => {
            std::net::Ipv6Addr::from((0x2001_0db8 << 96) + 1 + u128::from(number)).into()
        }
    };
    SocketAddr::new(address, port)
}

impl Writer {
    /// A whole history.
    pub fn write(shape: Shape) -> Vec<String> {
        let random = Random::new(shape.seed);
        let mut writer = Self {
            shape,
            random,
            services: Vec::new(),
            open: Vec::new(),
            number: 1_024,
            lines: Vec::new(),
        };
        writer.begin();
        for half in 0..2 {
            writer.mark();
            for event in 0..HALF {
                let kind = *writer.random.of(&MIX);
                writer.happen(kind);
                if event % CHECKPOINT == CHECKPOINT - 1 {
                    writer.line("list".to_owned());
                }
            }
            writer.open.clear();
            // Whatever is left is at its end within seconds, and a second half begins without connections.
            if half == 0 {
                writer.line("ipvsadm --set 1 1 1".to_owned());
                writer.line("wait 5".to_owned());
                writer.line("list".to_owned());
                writer.line("ipvsadm --set 900 120 300".to_owned());
            }
        }
        writer.lines
    }

    fn line(&mut self, line: String) {
        self.lines.push(line);
    }

    fn mark(&mut self) {
        let (from, to) = marker(&self.shape);
        self.line(format!("packet udp {from} {to}"));
    }

    /// Services, with a few destinations each, and the marker's.
    fn begin(&mut self) {
        let vip = self.shape.vip;
        let scheduler = self.shape.scheduler;
        let server = SocketAddr::new(*self.shape.servers.first().unwrap(), 9);
        let (_, marker) = marker(&self.shape);
        self.line(format!("ipvsadm -A -u {marker} -s fo"));
        self.line(format!("ipvsadm -a -u {marker} -r {server} -g"));
        let service = |name, port| Service { name, port, pool: BTreeSet::new() };
        if self.shape.marked {
            // The marker's address has no mark.
            self.line("elvs mark add --destination 198.18.0.0/15 --mark 7".to_owned());
            self.services.push(service("-f 7".to_owned(), 0));
        } else {
            self.services.push(service(format!("-t {}", SocketAddr::new(vip, 80)), 80));
            self.services.push(service(format!("-u {}", SocketAddr::new(vip, 53)), 53));
        }
        for at in 0..self.services.len() {
            let name = self.services[at].name.clone();
            self.line(format!("ipvsadm -A {name} -s {scheduler}"));
            for _ in 0..3 {
                self.add(at);
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Open => {
                let ends = self.ends(0);
                let name = format!("c{}", self.number);
                self.line(format!("open {name} tcp {ends}"));
                self.open.push(name);
            }
            Event::Short => {
                let ends = self.ends(0);
                self.line(format!("short tcp {ends}"));
            }
            Event::Packet => {
                let ends = self.ends(self.services.len() - 1);
                self.line(format!("packet udp {ends}"));
            }
            Event::Close => {
                if !self.open.is_empty() {
                    let at = self.random.below(self.open.len());
                    let name = self.open.swap_remove(at);
                    self.line(format!("close {name}"));
                }
            }
            Event::Edit => {
                let at = self.service();
                if let Some(server) = self.member(at) {
                    self.pool_command("-e", at, server);
                }
            }
            Event::Add => {
                let at = self.service();
                self.add(at);
            }
            Event::Remove => {
                let at = self.service();
                if let Some(server) = self.member(at).filter(|_| self.shape.removes) {
                    let service = &mut self.services[at];
                    service.pool.remove(&server);
                    let line = format!(
                        "ipvsadm -d {} -r {}",
                        service.name,
                        SocketAddr::new(server, service.port)
                    );
                    self.line(line);
                }
            }
        }
    }

    fn service(&mut self) -> usize {
        self.random.below(self.services.len())
    }

    fn member(&mut self, service: usize) -> Option<IpAddr> {
        let members: Vec<IpAddr> = self.services[service].pool.iter().copied().collect();
        (!members.is_empty()).then(|| *self.random.of(&members))
    }

    /// Some client, one of few or one of many, at a port of its own, and the address it wants.
    fn ends(&mut self, service: usize) -> String {
        let many = self.random.below(2) == 0;
        let number = self.random.below(if many { 0xf_0000 } else { 12 });
        self.number += 1;
        let client = client(&self.shape, u32::try_from(1 + number).unwrap(), self.number);
        let (vip, port) = (self.shape.vip, self.services[service].port);
        let service = if self.shape.marked {
            let some = u32::try_from(self.random.below(24)).unwrap();
            SocketAddr::new(std::net::Ipv4Addr::from(0xc612_0101 + some * 0x0301).into(), 80)
        } else {
            SocketAddr::new(vip, port)
        };
        format!("{client} {service}")
    }

    fn add(&mut self, service: usize) {
        let server = *self.random.of(&self.shape.servers);
        if self.services[service].pool.insert(server) {
            self.pool_command("-a", service, server);
        }
    }

    fn pool_command(&mut self, command: &str, service: usize, server: IpAddr) {
        let Service { name, port, .. } = &self.services[service];
        let server = SocketAddr::new(server, *port);
        let mut line =
            format!("ipvsadm {command} {name} -r {server} -g -w {}", self.random.of(&WEIGHTS));
        if self.shape.thresholds && self.random.below(2) == 0 {
            let upper = *self.random.of(&UPPER_THRESHOLDS);
            let lower = self.random.below(usize::try_from(upper).unwrap() + 1);
            line += &format!(" -x {upper} -y {lower}");
        }
        self.lines.push(line);
    }
}
