//! A director in memory that packets are sent through.
//!
//! **Invariant:** what happens to a packet is decided by [`elvs_fastpath::process`] over tables that the daemon's own
//! code wrote; here are only the clients, the real servers' answers, and the clock.
//!
//! Called by [`super::run`].

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use elvs_api::VERSION;
use elvs_common::{REFRESH_TICKS, WideAddress};
use elvs_dataplane::{Backend, Estimator, FakePlane, InstallError, Plane, Route};
use elvs_fastpath::{Asked, FlowKey, Narrow, Pick, Verdict, Wide, WideValue, pick};
use elvs_model::{
    Change, ChangeError, ConnectionFilter, ConnectionView, Destination, DestinationKey, Family,
    ForwardingMethod, MarkedPacket, NodeInfo, Protocol, Scheduler, ServiceKey, ServiceView,
    Setting, SyncDaemon, Table, TableService, Timeouts,
};
use indexmap::IndexSet;

use super::conversation::{self, Speaker, Talk};
use super::packet::{INTERFACE, Sent, frame, hop_to, sent_to};
use super::script::Flow;
use crate::adm::{ConnectionIter, Director, DirectorError};
use crate::run::CONNECTION_TABLE_SIZE;

/// Connections the table has room for at least.
const LEAST_CONNECTIONS: u32 = 4_096;
/// Connections the table has room for at most.
const MOST_CONNECTIONS: u32 = 1 << 24;
/// Seconds between two sweeps: by so many IPVS prolongs a persistence template that has connections.
const STEP_S: u32 = 60;
/// Passes after which a persistence template without connections is gone: one finds it due, one looks for its
/// connections, one ends it.
const TEMPLATE_PASSES: u32 = 3;
/// Seconds after which rates of before are 0: each period of two leaves three quarters of them.
const RATES_S: u32 = 600;
/// Bytes that a packet to a real server may have.
const MTU: u32 = 1_500;

/// Where a connection went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    /// Real server, and the port that it is reached at.
    pub(super) server: SocketAddr,
    /// Whom the real server takes for the client, and answers.
    client: SocketAddr,
    /// The destination, if it is in the table.
    pub(super) destination: Option<Destination>,
    /// Connections that its first packet made: 0 if it belonged to one already.
    pub(super) new: u64,
}

/// What became of the first packet of a connection.
pub(super) type Fate = Result<Placed, &'static str>;

/// The director.
pub(super) struct Host {
    plane: FakePlane,
    /// Addresses of real servers so far; the place of each is its number in frames.
    servers: IndexSet<IpAddr>,
    /// Connections of each destination so far, by index.
    counted: HashMap<u32, u64>,
    /// Seconds since rates were estimated.
    estimated_s: u64,
}

impl Host {
    /// A director without services, with room for so many connections and local addresses of full NAT.
    pub(super) fn new(connections: usize, locals: usize, seed: u64) -> Self {
        let connections = u32::try_from(connections).unwrap_or(MOST_CONNECTIONS);
        let connections = connections.clamp(LEAST_CONNECTIONS, MOST_CONNECTIONS);
        let plane =
            FakePlane::with_room(connections, u32::try_from(locals).unwrap_or(u32::MAX).max(1));
        plane.backend().seed_random(seed);
        Self { plane, servers: IndexSet::new(), counted: HashMap::new(), estimated_s: 0 }
    }

    /// The table in force.
    pub(super) fn table(&self) -> &Table {
        self.plane.table()
    }

    /// The service that a connection belongs to (`ip_vs_service_find`).
    pub(super) fn service_of(&self, flow: &Flow) -> Option<ServiceKey> {
        let Flow { protocol, client, service } = *flow;
        let mark = self.table().marks().mark_of(&MarkedPacket {
            source: client.ip(),
            destination: service.ip(),
            protocol: protocol.number(),
            source_port: client.port(),
            destination_port: service.port(),
            interface: "",
        });
        let by_mark = ServiceKey::Fwmark { mark: mark.get(), family: Family::of(service.ip()) };
        let by_port = |port| ServiceKey::Address { protocol, address: service.ip(), port };
        let ftp = (protocol == Protocol::Tcp && (service.port() == 20 || service.port() >= 1_024))
            .then(|| by_port(21))
            .filter(|key| self.takes_ftp_data(key));
        let keys = [Some(by_mark), Some(by_port(service.port())), ftp, Some(by_port(0))];
        keys.into_iter().flatten().find(|key| self.table().service(key).is_some())
    }

    /// Whether an FTP service takes its clients' data connections.
    fn takes_ftp_data(&self, key: &ServiceKey) -> bool {
        let keeps_port =
            |d: &Destination| matches!(d.method, ForwardingMethod::Dr | ForwardingMethod::Tun(_));
        self.table().service(key).is_some_and(|entry| {
            entry.service().persistence.is_some() && entry.destinations().all(keeps_port)
        })
    }

    /// A client begins a connection: the handshake of TCP or SCTP, or one datagram.
    pub(super) fn begin(&mut self, flow: &Flow) -> Fate {
        let placed = self.first(flow)?;
        self.talk(flow, &placed, conversation::opening(flow.protocol));
        self.keep_sets();
        Ok(placed)
    }

    /// Does what the daemon's sweeper does to the sets of lblcr in the seconds after a packet: one pass judges, one acts.
    fn keep_sets(&mut self) {
        if self.table().services().any(|entry| entry.service().scheduler == Scheduler::Lblcr) {
            for _ in 0..2 {
                self.plane.sweep_ahead(0);
            }
        }
    }

    /// Whole seconds until a connection's entry expires.
    pub(super) fn expires_s(&self, flow: &Flow) -> Option<u32> {
        let mut all = self.plane.connections().map(ConnectionView::from);
        let found = all.find(|connection| {
            connection.protocol == flow.protocol.number()
                && connection.client == flow.client
                && connection.service == flow.service
        });
        found.map(|connection| connection.expires_s)
    }

    /// The client ends it and the real server agrees.
    pub(super) fn end(&self, flow: &Flow, placed: &Placed) {
        self.talk(flow, placed, conversation::ending(flow.protocol));
    }

    /// Lets time pass; what has expired by then is gone.
    pub(super) fn wait(&mut self, seconds: u32) -> Result<(), InstallError> {
        let mut left = seconds;
        let mut live = true;
        while left > 0 {
            let step = if live { left.min(self.until_next_end()) } else { left };
            self.advance(step)?;
            live = self.expire();
            left -= step;
        }
        self.plane.collect().map(drop)
    }

    /// Seconds until the next entry's time is over, and the next sweep at the latest: what an entry keeps depends on who is still
    /// there then.
    fn until_next_end(&self) -> u32 {
        let left = self.plane.connections().map(|connection| connection.expires_s).min();
        left.unwrap_or(STEP_S).clamp(1, STEP_S)
    }

    /// Moves the clock, the defence and the rates on.
    fn advance(&mut self, seconds: u32) -> Result<(), InstallError> {
        // Before that nothing of the rates of now would be left.
        let lively = seconds.min(RATES_S);
        self.plane.backend().advance_seconds(seconds - lively);
        for _ in 0..lively {
            self.plane.backend().advance_seconds(1);
            self.plane.defend(None);
            self.estimated_s += 1;
            if self.estimated_s >= Estimator::PERIOD.as_secs() {
                self.plane.estimate()?;
                self.estimated_s = 0;
            }
        }
        Ok(())
    }

    /// Ends what has expired; whether any entry is left.
    fn expire(&mut self) -> bool {
        // The sweeper grants the time by which a packet may fail to renew its connection's tick, and two ticks of
        // rounding: it comes that much later, so that a connection lives for its timeout and not longer.
        let passes = (0..TEMPLATE_PASSES).map(|_| self.plane.sweep_ahead(REFRESH_TICKS + 2));
        passes.last().is_some_and(|pass| pass.live > 0)
    }

    /// What the scheduler would answer a client, by the index of the destination. Only for schedulers whose picks
    /// change nothing.
    pub(super) fn ask_scheduler(&self, flow: &Flow) -> Option<u32> {
        let backend = self.plane.backend();
        let key = key_of(flow);
        let wide = flow.client.is_ipv6()
            || flow.protocol == Protocol::Sctp
            || self.service_of(flow).is_some_and(|key| self.is_full_nat(&key));
        let picked = if !wide {
            pick::<Narrow, _>(backend, &key.fold(), INTERFACE, Asked::Scheduler)
        } else {
            pick::<Wide, _>(backend, &key, INTERFACE, Asked::Scheduler)
        };
        match picked {
            Pick::Destination(index) | Pick::Once(index) => Some(index),
            Pick::Nobody
            | Pick::Contended
            | Pick::NoService
            | Pick::NoTemplate
            | Pick::ByCall
            | Pick::OnceByCall
            | Pick::Shed
            | Pick::Bypass => None,
        }
    }

    /// Whether the destinations of a service are reached by full NAT.
    fn is_full_nat(&self, key: &ServiceKey) -> bool {
        self.table().service(key).is_some_and(TableService::is_full_nat)
    }

    fn first(&mut self, flow: &Flow) -> Fate {
        let before = self.plane.counters().unwrap_or_default();
        let mut packet = frame(conversation::first(flow.protocol), flow.client, flow.service);
        let verdict = self.plane.process(&mut packet);
        let sent = match verdict {
            Verdict::Transmit | Verdict::Redirect(_) => sent_to(&packet).and_then(|sent| {
                let Sent { server, port, client } = sent;
                let server = self.servers.get_index(usize::try_from(server).ok()?)?;
                Some((SocketAddr::new(*server, port), client))
            }),
            Verdict::Pass | Verdict::Drop => None,
        };
        let Some((server, client)) = sent else {
            let after = self.plane.counters().unwrap_or_default();
            let moved = after.iter().zip(&before).find(|(now, then)| now.1 > then.1);
            return Err(moved.map_or("no_service", |((counter, _), _)| counter.name()));
        };
        let service = self.service_of(flow);
        let destination = service.and_then(|key| self.destination(&key, server));
        let index = service.zip(destination).and_then(|(service, destination)| {
            self.plane.destination_index(&service, &destination.key)
        });
        let new = index.map_or(0, |index| self.newly(index));
        Ok(Placed { server, client, destination, new })
    }

    /// Connections of a destination since the last call.
    fn newly(&mut self, index: u32) -> u64 {
        let total = self.plane.backend().statistics(index).unwrap_or_default().connections;
        let before = self.counted.insert(index, total).unwrap_or(0);
        total.saturating_sub(before)
    }

    fn destination(&self, service: &ServiceKey, server: SocketAddr) -> Option<Destination> {
        let entry = self.table().service(service)?;
        let address = server.ip();
        let exact = entry.destination(&DestinationKey { address, port: server.port() });
        exact.or_else(|| entry.destinations().find(|d| d.key.address == address)).copied()
    }

    /// Both ends of a connection say something; the director sees what the real server says if the way back is through it.
    fn talk(&self, flow: &Flow, placed: &Placed, talk: Talk) {
        let answers = placed.destination.is_some_and(|destination| match destination.method {
            ForwardingMethod::Nat | ForwardingMethod::FullNat => true,
            ForwardingMethod::Dr | ForwardingMethod::Tun(_) => false,
        });
        for (speaker, content) in talk {
            match speaker {
                Speaker::Client => {
                    self.plane.process(&mut frame(*content, flow.client, flow.service));
                }
                Speaker::Server if answers => {
                    self.plane.process(&mut frame(*content, placed.server, placed.client));
                }
                Speaker::Server => {}
            }
        }
    }

    fn install(&mut self, table: &Table) -> Result<(), InstallError> {
        for destination in table.services().flat_map(|entry| entry.destinations()) {
            let address = destination.key.address;
            let (number, new) = self.servers.insert_full(address);
            if !new {
                continue;
            }
            let hop = u32::try_from(number).ok().map(hop_to);
            // Tunnels need a source; any address of the director's will do.
            let tunnel_source = Some(match address {
                IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 1).into(),
                IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
            });
            self.plane.set_route(address, Route { hop, mtu: MTU, tunnel_source, local: false });
        }
        self.plane.install(table).map(drop)
    }
}

impl Director for Host {
    fn info(&mut self) -> Result<NodeInfo, DirectorError> {
        Ok(NodeInfo { version: VERSION.to_owned(), connection_table_size: CONNECTION_TABLE_SIZE })
    }

    fn services(&mut self) -> Result<Vec<ServiceView>, DirectorError> {
        Ok(self.plane.service_views().map_err(refused)?)
    }

    fn timeouts(&mut self) -> Result<Timeouts, DirectorError> {
        Ok(self.table().timeouts())
    }

    fn sync_daemons(&mut self) -> Result<Vec<SyncDaemon>, DirectorError> {
        Ok(self.table().sync_daemons().iter().cloned().collect())
    }

    fn connections(
        &mut self,
        filter: &ConnectionFilter,
    ) -> Result<ConnectionIter<'_>, DirectorError> {
        let filter = filter.clone();
        // Templates are told of their connections' states.
        self.plane.sweep_ahead(0);
        let views = self.plane.connections().map(ConnectionView::from);
        Ok(Box::new(views.filter(move |view| filter.passes(view)).map(Ok)))
    }

    fn apply(&mut self, change: &Change) -> Result<(), DirectorError> {
        self.apply_all(std::slice::from_ref(change))
    }

    fn apply_all(&mut self, changes: &[Change]) -> Result<(), DirectorError> {
        let mut table = self.table().clone();
        for change in changes {
            change.in_effect()?;
            table.apply(change)?;
        }
        self.install(&table).map_err(refused)?;
        if self.table().settings().is_on(Setting::ExpireNodestConn) {
            // Connections of removed destinations end at once.
            self.plane.sweep_ahead(0);
        }
        Ok(())
    }

    fn zero(&mut self, service: Option<ServiceKey>) -> Result<(), DirectorError> {
        if service.is_some_and(|key| self.table().service(&key).is_none()) {
            return Err(ChangeError::NoSuchService.into());
        }
        Ok(self.plane.zero(service.as_ref()).map_err(refused)?)
    }
}

/// The key by which the wide table knows a connection, and whose fold is that of an IPv4 connection.
fn key_of(flow: &Flow) -> FlowKey<WideValue> {
    let address = |end: &SocketAddr| {
        WideAddress::of_bytes(match end.ip() {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        })
    };
    FlowKey::wide(
        address(&flow.client),
        address(&flow.service),
        flow.client.port().to_be(),
        flow.service.port().to_be(),
        flow.protocol.number(),
    )
}

/// A refusal of the data plane in its own words.
fn refused(error: impl std::fmt::Display) -> ChangeError {
    ChangeError::Unsupported(error.to_string())
}
