//! Persistence against a model: a client's connections go to the server of its template for as long as that is there.
//!
//! **Invariant:** as for the histories of schedulers; the scheduler's part is their model.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use elvs_common::{Counter, Method, ServiceFlags, TCP, scheduler_id, template_protocol};
use elvs_fastpath::{Asked, FlowKey, Narrow, Pick, Verdict, pick};

use super::history::socket;
use super::model::{Model, Opening};
use crate::support::{NIC, Packet, Random, SYN, Seen, ServiceId, Table, server_mac};

const EVENTS: u16 = 10_000;
const ADDRESS: u32 = 0xc612_0000;
const WEIGHTS: [u32; 6] = [0, 1, 1, 2, 3, 9];
const DESTINATIONS: u32 = 8;

/// What a history is about.
#[derive(Clone, Copy, Debug)]
struct Shape {
    scheduler: u8,
    flags: u8,
    mask: Ipv4Addr,
    /// Port of the service; 0 = all of them, and they share a client's template.
    port: u16,
    thresholds: bool,
    seed: u64,
}

struct History {
    shape: Shape,
    random: Random,
    table: Table,
    service: ServiceId,
    model: Model,
    /// Template of every client, as the mask leaves it.
    templates: HashMap<u32, u32>,
    live: Vec<(Packet, u32)>,
    number: u16,
    /// Connections by a template, by the scheduler, refused.
    counts: [u32; 3],
}

impl History {
    fn new(shape: Shape) -> Self {
        let mut table = Table::new(2_048);
        let service = table.add_service(TCP, &socket(ADDRESS, shape.port), shape.scheduler);
        table.set_scheduler(service, shape.scheduler, shape.flags);
        table.set_persistence(service, Some(shape.mask));
        let model = Model::new(shape.scheduler, shape.flags);
        Self {
            shape,
            random: Random::new(shape.seed),
            table,
            service,
            model,
            templates: HashMap::new(),
            live: Vec::new(),
            number: 0,
            counts: [0; 3],
        }
    }

    fn happen(&mut self) {
        match self.random.below(60) {
            0..2 => self.add(),
            2 => self.remove(),
            3..5 => self.edit(),
            5..7 => self.end_template(),
            7..26 => self.expire(),
            _ => self.open(),
        }
    }

    fn at(&self) -> String {
        format!("{:?}, event {}", self.shape, self.number)
    }

    /// One of 8 clients in each of 32 networks of 1,024 addresses.
    fn client(&mut self) -> Opening {
        let [network, host] = [self.random.below(32) as u32, self.random.below(8) as u32];
        let client = 0x0b00_0000 + (network << 10) + host;
        Opening { client, port: 1_024 + self.number, address: ADDRESS }
    }

    fn virtual_port(&mut self) -> u16 {
        if self.shape.port == 0 { 1 + self.random.below(4) as u16 } else { self.shape.port }
    }

    const fn network(&self, client: u32) -> u32 {
        client & self.shape.mask.to_bits()
    }

    /// Destination of a client's template; one whose destination was removed ends when it is looked for.
    fn template(&mut self, client: u32) -> Option<u32> {
        let network = self.network(client);
        let destination = *self.templates.get(&network)?;
        if self.model.list().contains(&destination) {
            return Some(destination);
        }
        self.templates.remove(&network);
        None
    }

    fn open(&mut self) {
        let opening = self.client();
        let service = socket(ADDRESS, self.virtual_port());
        let packet = Packet::tcp(&socket(opening.client, opening.port), &service, SYN);
        let outcome = self.table.director.run(packet.build());
        let known = self.template(opening.client);
        let Some(destination) = known.or_else(|| self.model.pick(&opening)) else {
            assert!(outcome.counted.contains(&Counter::NoDestination), "{}", self.at());
            self.counts[2] += 1;
            return;
        };
        assert_eq!(outcome.verdict, Verdict::Transmit, "{}", self.at());
        let sent_to = Seen::read(&outcome.frame.bytes).destination_mac;
        assert_eq!(sent_to, server_mac(destination), "{}, {opening:?}, {known:?}", self.at());
        self.counts[usize::from(known.is_none())] += 1;
        self.templates.insert(self.network(opening.client), destination);
        self.model.opened(destination);
        self.live.push((packet, destination));
    }

    /// Asks for the template of a client without opening a connection.
    fn ask(&mut self) {
        let opening = self.client();
        let port = self.virtual_port();
        let key = FlowKey::new(
            opening.client.to_be(),
            opening.address.to_be(),
            opening.port.to_be(),
            port.to_be(),
            TCP,
        );
        let wanted = self.template(opening.client).map_or(Pick::NoTemplate, Pick::Destination);
        assert_eq!(
            pick::<Narrow, _>(&self.table.director, &key, NIC, Asked::Destination),
            wanted,
            "{}",
            self.at()
        );
    }

    fn expire(&mut self) {
        if !self.live.is_empty() {
            let (packet, destination) = self.live.swap_remove(self.random.below(self.live.len()));
            assert!(self.table.director.expire(packet.key()), "{}", self.at());
            self.model.expired(destination, true);
        }
    }

    /// Ends a client's template, as its timeout does.
    fn end_template(&mut self) {
        let client = self.client().client;
        let network = self.network(client);
        let port = self.shape.port.to_be();
        let protocol = template_protocol(TCP);
        let key = FlowKey::new(network.to_be(), ADDRESS.to_be(), 0, port, protocol);
        let known = self.templates.remove(&network).is_some();
        assert_eq!(self.table.director.expire(key), known, "{}", self.at());
    }

    fn add(&mut self) {
        let number = self.random.below(DESTINATIONS as usize) as u32;
        let address = 0x0ac8_0001 + number;
        if self.model.list().iter().any(|d| self.model.server(*d).address == address) {
            return;
        }
        let weight = *self.random.of(&WEIGHTS);
        let port = self.shape.port;
        let name = socket(address, port);
        let destination = self.table.add_destination(self.service, &name, Method::Dr, weight);
        self.model.add(destination, address, port, weight.into());
        if self.shape.thresholds {
            let upper = 1 + self.random.below(40) as u32;
            self.table.set_thresholds(destination, upper, 0);
            self.model.set_thresholds(destination, upper.into(), 0);
        }
    }

    fn remove(&mut self) {
        if !self.model.list().is_empty() {
            let destination = *self.random.of(self.model.list());
            self.table.remove_destination(self.service, destination);
            self.model.remove(destination);
        }
    }

    /// Changes a weight; clients with templates of a server of weight 0 still go there.
    fn edit(&mut self) {
        if self.model.list().is_empty() {
            return;
        }
        let destination = *self.random.of(self.model.list());
        let weight = *self.random.of(&WEIGHTS);
        if self.model.server(destination).weight != i64::from(weight) {
            self.table.set_weight(self.service, destination, weight);
            self.model.set_weight(destination, weight.into());
        }
    }
}

fn same_picks(shape: Shape) {
    let mut history = History::new(shape);
    for number in 0..EVENTS {
        history.number = number;
        history.happen();
        history.ask();
    }
    let director = &history.table.director;
    director.check_tables();
    for counter in [Counter::EvictedHalfOpen, Counter::EvictedExpired, Counter::Bug] {
        assert_eq!(director.counter(counter), 0, "{shape:?}: {counter:?}");
    }
    assert!(director.counter(Counter::TemplateReplaced) > 0, "{shape:?}");
    let [by_template, by_scheduler, refused] = history.counts;
    assert!(
        by_template > 500 && by_scheduler > 50 && refused > 0,
        "{shape:?}: {by_template} by templates, {by_scheduler} by the scheduler, {refused} refused"
    );
}

#[test]
fn clients_go_where_their_templates_say() {
    use scheduler_id::{MH, RR, SH, WLC, WRR};
    let (none, port, fallback) = (0, ServiceFlags::PORT, ServiceFlags::FALLBACK);
    let masks = [
        (RR, none, [255, 255, 255, 255], 80, false),
        (WRR, none, [255, 255, 255, 0], 80, true),
        (WLC, none, [255, 255, 252, 0], 80, true),
        (SH, port | fallback, [255, 255, 255, 248], 0, false),
        (MH, none, [255, 255, 255, 255], 0, true),
        // What `ipvsadm -M 24` makes of its argument.
        (WLC, none, [0, 0, 0, 24], 80, false),
    ];
    for (seed, (scheduler, flags, mask, port, thresholds)) in (1..).zip(masks) {
        let mask = Ipv4Addr::from(mask);
        same_picks(Shape { scheduler, flags, mask, port, thresholds, seed });
    }
}
