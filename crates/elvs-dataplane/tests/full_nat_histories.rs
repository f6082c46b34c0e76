//! Full NAT over time: who has which port, and what changes of the table leave as it is.
//!
//! A model that calls nothing of the code under test goes along: free ports of each local address in the order in which
//! they were given back, and the local end of each connection.

#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail loudly"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use elvs_common::{Counter, FIRST_LOCAL_PORT};
use elvs_dataplane::{Backend, FakePlane, MemoryFrame, Plane};
use elvs_fastpath::{Verdict, WideMemory, free_ports};
use elvs_model::{
    Change, Destination, Persistence, Scheduler, Setting, SettingValue, Table, Timeouts,
    VirtualService,
};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use support::full_nat::Site;
use support::packet::Packet;
use support::{ACK, NIC, RST, SYN, add_service, apply, count, sweep};

/// Ports that each local address is left with.
const PORTS: u64 = 6;
/// Seconds that every connection outlives, and seconds that none does, whatever state it is in.
const SHORTEST: u32 = 9;
const LONGEST: u32 = 902;

fn run(plane: &FakePlane, packet: &Packet) -> (Verdict, Packet) {
    let mut frame = MemoryFrame::new(packet.build(), NIC);
    let verdict = plane.process(&mut frame);
    (verdict, Packet::read(&frame.bytes))
}

/// What happens to a connection, by the last number of its client's address.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// The client's SYN, or datagram.
    Open(u8),
    /// A packet of the client's that opens nothing.
    Data(u8),
    /// A packet of the real server's.
    Answer(u8),
    /// The client ends it at once.
    Reset(u8),
    /// Seconds pass.
    Wait(u32),
    /// The daemon looks at the whole table.
    Sweep,
}

fn event() -> impl Strategy<Value = Event> {
    let client = 1..=16_u8;
    prop_oneof![
        6 => client.clone().prop_map(Event::Open),
        3 => client.clone().prop_map(Event::Data),
        3 => client.clone().prop_map(Event::Answer),
        3 => client.prop_map(Event::Reset),
        1 => prop_oneof![0..20_u32, Just(70), Just(310), Just(1_000)].prop_map(Event::Wait),
        2 => Just(Event::Sweep),
    ]
}

/// One connection of the model.
#[derive(Clone, Copy, Debug)]
struct Life {
    end: SocketAddr,
    /// When its last packet came.
    seen: u32,
    /// Somebody has acknowledged something.
    established: bool,
    /// Over: a SYN opens it anew.
    over: bool,
}

struct Model {
    site: Site,
    plane: FakePlane,
    now: u32,
    /// Free ports of each local address, those given back first in front; of one set nobody knows the order.
    free: [VecDeque<BTreeSet<u16>>; 2],
    lives: BTreeMap<u8, Life>,
    exhausted: u64,
}

impl Model {
    fn new(site: Site) -> Self {
        let mut table = site.table(1);
        let address = site.local(2);
        apply(&mut table, [Change::AddLocalAddress { service: site.key(), address }]);
        let plane = site.plane_with(&table);
        // All but the last ports are somebody's.
        let free = [0, 1].map(|index| {
            let wide = Backend::wide(plane.backend());
            let local = wide.local(index).unwrap();
            let tail = local.tail.load(Ordering::Relaxed);
            local.head.store(tail - PORTS, Ordering::Relaxed);
            let ports = tail - PORTS..tail;
            ports
                .map(|turn| BTreeSet::from([(turn + u64::from(FIRST_LOCAL_PORT)) as u16]))
                .collect()
        });
        Self { site, plane, now: 0, free, lives: BTreeMap::new(), exhausted: 0 }
    }

    fn local_of(&self, end: SocketAddr) -> usize {
        usize::from(end.ip() != self.site.local(1))
    }

    fn packet(&self, client: u8, flags: u8) -> Packet {
        let flags = if self.site.tcp { flags } else { 0 };
        self.site.packet(self.site.client(client), self.site.service(), flags)
    }

    fn apply(&mut self, event: Event) -> Result<(), TestCaseError> {
        match event {
            Event::Open(client) => self.client_sends(client, SYN)?,
            Event::Data(client) => self.client_sends(client, ACK)?,
            Event::Reset(client) => self.client_sends(client, ACK | RST)?,
            Event::Answer(client) => self.server_sends(client)?,
            Event::Wait(seconds) => {
                self.plane.backend().advance_seconds(seconds);
                self.now += seconds;
            }
            Event::Sweep => self.sweep()?,
        }
        self.check()
    }

    fn client_sends(&mut self, client: u8, flags: u8) -> Result<(), TestCaseError> {
        let tcp = self.site.tcp;
        let opens = !tcp || flags == SYN;
        let packet = self.packet(client, flags);
        let (verdict, sent) = run(&self.plane, &packet);
        let known = self.lives.get(&client).copied().filter(|life| !(life.over && flags == SYN));
        if let Some(life) = known {
            prop_assert_eq!((verdict, sent.from), (Verdict::Transmit, life.end));
        } else {
            if let Some(life) = self.lives.remove(&client) {
                self.give_back([life.end]);
            }
            if !opens {
                prop_assert_eq!((verdict, &sent), (Verdict::Pass, &packet));
                return Ok(());
            }
            if self.free.iter().all(VecDeque::is_empty) {
                self.exhausted += 1;
                prop_assert_eq!((verdict, &sent), (Verdict::Drop, &packet));
                return Ok(());
            }
            prop_assert_eq!(verdict, Verdict::Transmit);
            self.take(sent.from)?;
        }
        let (established, over) =
            known.map_or((false, false), |life| (life.established, life.over));
        // The kernel's table: a reset does not end what is not established.
        let over = over || tcp && flags & RST != 0 && established;
        let established = established || tcp && flags == ACK;
        self.lives.insert(client, Life { end: sent.from, seen: self.now, established, over });
        Ok(())
    }

    /// A packet of the real server's to the connection's local end, or to one that has been free for long.
    fn server_sends(&mut self, client: u8) -> Result<(), TestCaseError> {
        let flags = if self.site.tcp { ACK } else { 0 };
        let Some(life) = self.lives.get_mut(&client) else {
            for (index, free) in self.free.iter().enumerate() {
                for port in free.iter().flatten() {
                    let end = SocketAddr::new(self.site.local(index as u8 + 1), *port);
                    let stray = self.site.packet(self.site.mapped(1), end, flags);
                    prop_assert_eq!(run(&self.plane, &stray), (Verdict::Pass, stray));
                }
            }
            return Ok(());
        };
        (life.seen, life.established) = (self.now, self.site.tcp);
        let answer = self.site.packet(self.site.mapped(1), life.end, flags);
        let (verdict, sent) = run(&self.plane, &answer);
        let ends = (self.site.service(), self.site.client(client));
        prop_assert_eq!((verdict, sent.from, sent.to), (Verdict::Transmit, ends.0, ends.1));
        Ok(())
    }

    /// The port that was free for longest, of either address.
    fn take(&mut self, end: SocketAddr) -> Result<(), TestCaseError> {
        let free = &mut self.free[self.local_of(end)];
        let first = free.front_mut();
        prop_assert!(first.is_some_and(|ports| ports.remove(&end.port())), "{end} was not next");
        if free.front().is_some_and(BTreeSet::is_empty) {
            free.pop_front();
        }
        Ok(())
    }

    /// Ports given back at once, in no known order.
    fn give_back(&mut self, ends: impl IntoIterator<Item = SocketAddr>) {
        let mut given = [BTreeSet::new(), BTreeSet::new()];
        for end in ends {
            given[self.local_of(end)].insert(end.port());
        }
        for (free, given) in self.free.iter_mut().zip(given) {
            if !given.is_empty() {
                free.push_back(given);
            }
        }
    }

    fn sweep(&mut self) -> Result<(), TestCaseError> {
        let ended = sweep(&mut self.plane);
        let left: BTreeSet<_> = self.plane.connections().map(|c| c.client).collect();
        let site = self.site;
        let (kept, gone): (BTreeMap<u8, Life>, BTreeMap<u8, Life>) =
            std::mem::take(&mut self.lives)
                .into_iter()
                .partition(|(last, _)| left.contains(&site.client(*last)));
        prop_assert_eq!(gone.len() as u64, ended);
        for life in gone.values() {
            prop_assert!(self.now - life.seen > SHORTEST, "{life:?} at {}", self.now);
        }
        for life in kept.values() {
            prop_assert!(self.now - life.seen < LONGEST, "{life:?} at {}", self.now);
        }
        let ends: Vec<_> = gone.values().map(|life| life.end).collect();
        self.lives = kept;
        self.give_back(ends);
        prop_assert!(self.plane.recount().is_empty(), "loads are those of the connections");
        Ok(())
    }

    /// Every port is free or one connection's.
    fn check(&self) -> Result<(), TestCaseError> {
        let ends: BTreeSet<_> = self.lives.values().map(|life| life.end).collect();
        prop_assert_eq!(ends.len(), self.lives.len(), "two connections have one port");
        prop_assert_eq!(self.plane.connections().count(), self.lives.len());
        for (index, free) in self.free.iter().enumerate() {
            let taken = ends.iter().filter(|end| self.local_of(**end) == index).count() as u64;
            let free = free.iter().map(|ports| ports.len() as u64).sum::<u64>();
            prop_assert_eq!(taken + free, PORTS);
            let local = Backend::wide(self.plane.backend()).local(index as u32).unwrap();
            prop_assert_eq!(free_ports(local), free, "local address {}", index);
        }
        prop_assert_eq!(count(&self.plane, Counter::LocalPortsExhausted), self.exhausted);
        Ok(())
    }
}

/// Changes of the table that are none of a known connection's business.
#[derive(Clone, Copy, Debug)]
enum Unrelated {
    AddService(u8),
    DeleteService(u8),
    /// A real server that no connection has, of the very service.
    AddServer(u8),
    DeleteServer(u8),
    /// Of a real server that connections have.
    Weight(u8, u32),
    Thresholds(u8, u32),
    AddLocal(u8),
    /// Even of the address that connections use.
    DeleteLocal(u8),
    Scheduler(u8),
    Persistence(bool),
    Timeouts(u32),
    Reuse(i64),
    Collect,
    Sweep,
}

fn unrelated() -> impl Strategy<Value = Unrelated> {
    prop_oneof![
        (0..4_u8).prop_map(Unrelated::AddService),
        (0..4_u8).prop_map(Unrelated::DeleteService),
        (4..7_u8).prop_map(Unrelated::AddServer),
        (4..7_u8).prop_map(Unrelated::DeleteServer),
        (1..=3_u8, 0..4_u32).prop_map(|(last, weight)| Unrelated::Weight(last, weight)),
        (1..=3_u8, 0..4_u32).prop_map(|(last, upper)| Unrelated::Thresholds(last, upper)),
        (1..=2_u8).prop_map(Unrelated::AddLocal),
        (1..=2_u8).prop_map(Unrelated::DeleteLocal),
        (0..6_u8).prop_map(Unrelated::Scheduler),
        any::<bool>().prop_map(Unrelated::Persistence),
        (100..2_000_u32).prop_map(Unrelated::Timeouts),
        (0..4_i64).prop_map(Unrelated::Reuse),
        Just(Unrelated::Collect),
        Just(Unrelated::Sweep),
    ]
}

const SCHEDULERS: [Scheduler; 6] =
    [Scheduler::Rr, Scheduler::Wrr, Scheduler::Wlc, Scheduler::Sh, Scheduler::Mh, Scheduler::Fo];

/// The change that it comes to in a table, if it is one of the table's.
fn change_of(site: Site, table: &Table, unrelated: Unrelated) -> Option<Change> {
    let service = site.key();
    let other =
        |nth: u8| site.key_on(nth.is_multiple_of(2) == site.tcp, 80 + u16::from(nth / 2) * 363);
    let edited = || table.service(&service).unwrap().service().clone();
    let edit = |destination: Destination| Change::EditDestination { service, destination };
    Some(match unrelated {
        // The first of them would be the service itself.
        Unrelated::AddService(nth) => add_service(other(nth + 1), Scheduler::Rr),
        Unrelated::DeleteService(nth) => Change::DeleteService(other(nth + 1)),
        Unrelated::AddServer(last) => {
            Change::AddDestination { service, destination: site.destination(last, 1) }
        }
        Unrelated::DeleteServer(last) => {
            Change::DeleteDestination { service, destination: site.destination(last, 1).key }
        }
        Unrelated::Weight(last, weight) => edit(site.destination(last, weight)),
        Unrelated::Thresholds(last, upper_threshold) => {
            edit(Destination { upper_threshold, ..site.destination(last, 1) })
        }
        Unrelated::AddLocal(last) => Change::AddLocalAddress { service, address: site.local(last) },
        Unrelated::DeleteLocal(last) => {
            Change::DeleteLocalAddress { service, address: site.local(last) }
        }
        Unrelated::Scheduler(nth) => {
            let scheduler = SCHEDULERS[usize::from(nth)];
            Change::EditService(VirtualService { scheduler, ..edited() })
        }
        Unrelated::Persistence(persistent) => {
            let persistence = persistent.then_some(Persistence { timeout: 300 });
            Change::EditService(VirtualService { persistence, ..edited() })
        }
        Unrelated::Timeouts(seconds) => {
            Change::SetTimeouts(Timeouts { tcp: seconds, tcp_fin: seconds, udp: seconds })
        }
        Unrelated::Reuse(mode) => {
            Change::Set { setting: Setting::ConnReuseMode, value: SettingValue::Number(mode) }
        }
        Unrelated::Collect | Unrelated::Sweep => return None,
    })
}

/// Every connection's packets go where they went, both ways.
fn stay(
    site: Site,
    plane: &FakePlane,
    flows: &BTreeMap<SocketAddr, (SocketAddr, SocketAddr)>,
) -> Result<(), TestCaseError> {
    let flags = if site.tcp { ACK } else { 0 };
    for (client, (local, server)) in flows {
        let (verdict, sent) = run(plane, &site.packet(*client, site.service(), flags));
        prop_assert_eq!((verdict, sent.from, sent.to), (Verdict::Transmit, *local, *server));
        let (verdict, sent) = run(plane, &site.packet(*server, *local, flags));
        let ends = (sent.from, sent.to);
        prop_assert_eq!((verdict, ends), (Verdict::Transmit, (site.service(), *client)));
    }
    Ok(())
}

/// Connections to three real servers over changes of the table.
fn outlive(site: Site, changes: &[Unrelated]) -> Result<(), TestCaseError> {
    let mut table = site.table(3);
    let mut plane = site.plane_with(&table);
    let flags = if site.tcp { SYN } else { 0 };
    let mut flows = BTreeMap::new();
    for last in 1..=6 {
        let client = site.client(last);
        let (verdict, sent) = run(&plane, &site.packet(client, site.service(), flags));
        prop_assert_eq!(verdict, Verdict::Transmit);
        flows.insert(client, (sent.from, sent.to));
    }
    let servers: BTreeSet<_> = flows.values().map(|(_, server)| *server).collect();
    prop_assert_eq!(servers.len(), 3);
    for unrelated in changes {
        match (unrelated, change_of(site, &table, *unrelated)) {
            (_, Some(change)) => {
                // What the table refuses, the last local address to go for one, changes nothing.
                if table.apply(&change).is_ok() {
                    plane.install(&table).unwrap();
                }
            }
            (Unrelated::Collect, None) => drop(plane.collect().unwrap()),
            (_, None) => prop_assert_eq!(sweep(&mut plane), 0),
        }
        stay(site, &plane, &flows)?;
    }
    prop_assert_eq!(plane.live_connections(), flows.len() as u64);
    Ok(())
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 24, rng_seed: RngSeed::Fixed(8), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_port_is_free_or_one_connections_at_any_time(
        events in prop::collection::vec(event(), 150..300),
        v6 in any::<bool>(),
        tcp in any::<bool>(),
    ) {
        let mut model = Model::new(Site { v6, tcp });
        for event in events {
            model.apply(event)?;
        }
    }

    #[test]
    fn a_connection_keeps_real_server_and_local_end_while_the_table_changes(
        changes in prop::collection::vec(unrelated(), 20..60),
        v6 in any::<bool>(),
        tcp in any::<bool>(),
    ) {
        outlive(Site { v6, tcp }, &changes)?;
    }
}

/// All connections over a local address at once, one more than there is room for, and all of them over.
#[test]
fn every_port_is_given_once_and_comes_back() {
    for site in [Site { v6: false, tcp: true }, Site { v6: true, tcp: false }] {
        let mut model = Model::new(site);
        for client in 1..=(PORTS * 2) as u8 {
            model.apply(Event::Open(client)).unwrap();
        }
        assert_eq!(model.lives.len(), 2 * PORTS as usize);
        model.apply(Event::Open(100)).unwrap();
        assert_eq!(model.exhausted, 1);
        model.apply(Event::Wait(1_000)).unwrap();
        model.apply(Event::Sweep).unwrap();
        assert!(model.lives.is_empty());
        assert_eq!(model.free.iter().flatten().flatten().count() as u64, PORTS * 2);
    }
}
