//! Random histories: the same events for the code under test and for the model, the same picks after each of them.
//!
//! **Invariant:** a history is the same on every run; what it does next depends on its seed and on the model only.

use elvs_common::{Counter, Method, ServiceFlags, TCP, scheduler_id};
use elvs_fastpath::{Asked, FlowKey, Narrow, Pick, Verdict, pick};

use super::model::{Model, Opening};
use crate::support::{ACK, FIN, NIC, Packet, Random, SYN, Seen, ServiceId, Table, server_mac};

const EVENTS: u32 = 10_000;
/// Virtual address of services that are not by firewall mark, and the first one of the marked ones.
const ADDRESS: u32 = 0xc612_0000;
const PORT: u16 = 80;
const MARK: u32 = 7;

const WEIGHTS: [u32; 12] = [0, 0, 1, 1, 2, 3, 4, 6, 9, 12, 100, 300];
/// A weight as large as can be makes wrr's walk as long.
const ANY_WEIGHTS: [u32; 12] = [0, 0, 1, 1, 2, 3, 4, 6, 9, 12, 300, i32::MAX as u32];
const UPPER_THRESHOLDS: [u32; 8] = [0, 0, 1, 2, 3, 5, 20, 100];

#[derive(Clone, Copy, Debug)]
enum Event {
    Open,
    Close,
    Expire,
    Edit,
    Add,
    Remove,
}

/// Mostly traffic, now and then a change.
const MIX: [Event; 24] = {
    use Event::{Add, Close, Edit, Expire, Open, Remove};
    [
        Open, Open, Open, Open, Open, Open, Open, Open, Open, Open, Open, Open, Open, Open, Close,
        Close, Close, Close, Close, Expire, Expire, Edit, Add, Remove,
    ]
};

/// What a history is about.
#[derive(Clone, Copy, Debug)]
struct Shape {
    scheduler: u8,
    /// Those of [`ServiceFlags`] that the scheduler knows.
    flags: u8,
    /// Destinations at the start.
    start: u32,
    /// Destinations at most.
    limit: u32,
    /// Whether destinations have thresholds.
    thresholds: bool,
    seed: u64,
}

/// Histories of a scheduler: pools that come and go, and pools of 1, 2, 16 and 1,024 destinations.
fn all_histories(scheduler: u8, flags: u8) {
    let largest = elvs_fastpath::MAX_POOL;
    let pools = [
        (0, 12, false, 1),
        (0, 12, true, 20),
        (1, 1, true, 300),
        (2, 2, false, 4_000),
        (16, 16, true, 50_000),
        (largest, largest, true, 600_000),
    ];
    for (start, limit, thresholds, seed) in pools {
        same_picks(Shape { scheduler, flags, start, limit, thresholds, seed });
    }
}

fn same_picks(shape: Shape) {
    let mut history = History::new(shape);
    for number in 0..EVENTS {
        history.number = number;
        let event = *history.random.of(&MIX);
        history.happen(event);
        history.ask();
    }
    history.table.director.check_tables();
    for counter in [Counter::EvictedHalfOpen, Counter::EvictedExpired, Counter::Bug] {
        assert_eq!(history.table.director.counter(counter), 0, "{shape:?}: {counter:?}");
    }
    let (picks, refusals) = (history.picks, history.refusals);
    assert!(picks > 1_000, "{shape:?}: only {picks} connections");
    assert!(refusals > 0 || shape.limit > 2, "{shape:?}: nobody was refused");
}

struct Connection {
    packet: Packet,
    destination: u32,
    active: bool,
}

struct History {
    shape: Shape,
    random: Random,
    table: Table,
    service: ServiceId,
    model: Model,
    live: Vec<Connection>,
    number: u32,
    picks: u32,
    refusals: u32,
}

impl History {
    fn new(shape: Shape) -> Self {
        let mut table = Table::new(512);
        // Destinations are added before there is a scheduler that makes a table of them each time.
        let service = if shape.scheduler == scheduler_id::DH {
            let service = table.add_marked_service(MARK, scheduler_id::FO);
            table.add_mark(ADDRESS.into(), 0xfffe_0000.into(), MARK);
            service
        } else {
            table.add_service(TCP, &socket(ADDRESS, PORT), scheduler_id::FO)
        };
        let mut history = Self {
            shape,
            random: Random::new(shape.seed),
            table,
            service,
            model: Model::new(scheduler_id::FO, 0),
            live: Vec::new(),
            number: 0,
            picks: 0,
            refusals: 0,
        };
        while history.model.list().len() < shape.start as usize {
            history.add();
        }
        history.table.set_scheduler(service, shape.scheduler, shape.flags);
        history.model.set_scheduler(shape.scheduler, shape.flags);
        history
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Open => self.open(),
            Event::Close => self.close(),
            Event::Expire => {
                for _ in 0..=self.random.below(11) {
                    self.expire();
                }
            }
            Event::Edit => self.edit(),
            Event::Add => self.add(),
            Event::Remove => {
                if !self.model.list().is_empty() {
                    let destination = *self.random.of(self.model.list());
                    self.table.remove_destination(self.service, destination);
                    self.model.remove(destination);
                }
            }
        }
    }

    fn at(&self) -> String {
        format!("{:?}, event {}", self.shape, self.number)
    }

    /// Some client: one of few, or one of many. No two connections of a history are from the same port.
    fn client(&mut self) -> Opening {
        let many = self.random.below(2) == 0;
        let client = 0x0b00_0000 + self.random.below(if many { 0x7000_0000 } else { 30 }) as u32;
        let some = if self.shape.scheduler == scheduler_id::DH { 0x0002_0000 } else { 1 };
        let address = ADDRESS + self.random.below(some) as u32;
        Opening { client, port: 1_024 + self.number as u16, address }
    }

    /// Asks for a client without opening a connection.
    fn ask(&mut self) {
        let Opening { port, .. } = self.client();
        let opening = Opening { port: port ^ self.random.below(64) as u16, ..self.client() };
        let key = FlowKey::new(
            opening.client.to_be(),
            opening.address.to_be(),
            opening.port.to_be(),
            PORT.to_be(),
            TCP,
        );
        let wanted = self.model.pick(&opening).map_or(Pick::Nobody, Pick::Destination);
        let found = pick::<Narrow, _>(&self.table.director, &key, NIC, Asked::Destination);
        assert_eq!(found, wanted, "{}, {opening:?}", self.at());
    }

    fn open(&mut self) {
        let opening = self.client();
        let packet =
            Packet::tcp(&socket(opening.client, opening.port), &socket(opening.address, PORT), SYN);
        let outcome = self.table.director.run(packet.build());
        let Some(destination) = self.model.pick(&opening) else {
            let told = outcome.counted.contains(&Counter::NoDestination);
            assert!(told, "{:?}, {}, {opening:?}", outcome.counted, self.at());
            self.refusals += 1;
            return;
        };
        assert_eq!(outcome.verdict, Verdict::Transmit, "{}, {opening:?}", self.at());
        let sent_to = Seen::read(&outcome.frame.bytes).destination_mac;
        assert_eq!(sent_to, server_mac(destination), "{}, {opening:?}", self.at());
        self.model.opened(destination);
        self.live.push(Connection { packet, destination, active: true });
        self.picks += 1;
    }

    fn close(&mut self) {
        if self.live.is_empty() {
            return;
        }
        let at = self.at();
        let connection = self.random.below(self.live.len());
        let connection = &mut self.live[connection];
        // Packets of a removed destination's connections are dropped and change no state.
        if !connection.active || !self.model.list().contains(&connection.destination) {
            return;
        }
        for flags in [ACK, FIN | ACK] {
            let packet = Packet { flags, ..connection.packet.clone() };
            assert_eq!(self.table.director.run(packet.build()).verdict, Verdict::Transmit, "{at}");
        }
        connection.active = false;
        self.model.closed(connection.destination);
    }

    fn expire(&mut self) {
        if self.live.is_empty() {
            return;
        }
        let connection = self.live.swap_remove(self.random.below(self.live.len()));
        assert!(self.table.director.expire(connection.packet.key()), "{}", self.at());
        self.model.expired(connection.destination, connection.active);
    }

    fn weight(&mut self) -> u32 {
        *self.random.of(match self.shape.scheduler {
            scheduler_id::WRR => &WEIGHTS,
            _ => &ANY_WEIGHTS,
        })
    }

    /// Changes a weight, and perhaps the thresholds with it. A change to the same weight is none.
    fn edit(&mut self) {
        if self.model.list().is_empty() {
            return;
        }
        let destination = *self.random.of(self.model.list());
        let weight = self.weight();
        if self.model.server(destination).weight == i64::from(weight) {
            return;
        }
        self.table.set_weight(self.service, destination, weight);
        self.model.set_weight(destination, weight.into());
        if self.random.below(2) == 0 {
            self.thresholds(destination);
        }
    }

    fn thresholds(&mut self, destination: u32) {
        if self.shape.thresholds {
            let upper = *self.random.of(&UPPER_THRESHOLDS);
            let lower = self.random.below(upper as usize + 1) as u32;
            self.table.set_thresholds(destination, upper, lower);
            self.model.set_thresholds(destination, upper.into(), lower.into());
        }
    }

    /// Adds a destination, a new one or one that was there before.
    fn add(&mut self) {
        if self.model.list().len() >= self.shape.limit as usize {
            return;
        }
        let number = self.random.below(2 * self.shape.limit as usize) as u32;
        let (address, port) =
            (0x0ac8_0001 + number, if number.is_multiple_of(3) { 8_080 } else { 80 });
        let there = |d: &u32| self.model.server(*d).address == address;
        if self.model.list().iter().any(there) {
            return;
        }
        let weight = self.weight();
        let name = socket(address, port);
        let destination = self.table.add_destination(self.service, &name, Method::Dr, weight);
        self.model.add(destination, address, port, weight.into());
        self.thresholds(destination);
    }
}

pub fn socket(address: u32, port: u16) -> String {
    std::net::SocketAddrV4::new(address.into(), port).to_string()
}

#[test]
fn lc_picks_as_ipvs() {
    all_histories(scheduler_id::LC, 0);
}

#[test]
fn wlc_picks_as_ipvs() {
    all_histories(scheduler_id::WLC, 0);
}

#[test]
fn sed_picks_as_ipvs() {
    all_histories(scheduler_id::SED, 0);
}

#[test]
fn nq_picks_as_ipvs() {
    all_histories(scheduler_id::NQ, 0);
}

#[test]
fn fo_picks_as_ipvs() {
    all_histories(scheduler_id::FO, 0);
}

#[test]
fn ovf_picks_as_ipvs() {
    all_histories(scheduler_id::OVF, 0);
}

#[test]
fn rr_picks_as_ipvs() {
    all_histories(scheduler_id::RR, 0);
}

#[test]
fn wrr_picks_as_ipvs() {
    all_histories(scheduler_id::WRR, 0);
}

#[test]
fn dh_picks_as_ipvs() {
    all_histories(scheduler_id::DH, 0);
}

#[test]
fn sh_picks_as_ipvs() {
    all_histories(scheduler_id::SH, 0);
}

#[test]
fn sh_with_ports_picks_as_ipvs() {
    all_histories(scheduler_id::SH, ServiceFlags::PORT);
}

#[test]
fn sh_with_fallback_picks_as_ipvs() {
    all_histories(scheduler_id::SH, ServiceFlags::FALLBACK);
}

#[test]
fn sh_with_ports_and_fallback_picks_as_ipvs() {
    all_histories(scheduler_id::SH, ServiceFlags::PORT | ServiceFlags::FALLBACK);
}

#[test]
fn mh_picks_as_ipvs() {
    all_histories(scheduler_id::MH, 0);
}

#[test]
fn mh_with_ports_picks_as_ipvs() {
    all_histories(scheduler_id::MH, ServiceFlags::PORT);
}

#[test]
fn mh_with_fallback_picks_as_ipvs() {
    all_histories(scheduler_id::MH, ServiceFlags::FALLBACK);
}

#[test]
fn mh_with_ports_and_fallback_picks_as_ipvs() {
    all_histories(scheduler_id::MH, ServiceFlags::PORT | ServiceFlags::FALLBACK);
}
