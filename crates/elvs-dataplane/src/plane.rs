//! The data plane as the daemon's upper half sees it.
//!
//! **Invariant:** a refused call leaves tables, indexes and state file as they were.
//!
//! Implemented once, by [`Director`] over any [`Backend`]; called by the daemon, which holds a `Box<dyn Plane>`.

use std::collections::HashMap;
use std::net::IpAddr;

use elvs_common::{Counter, DestinationLoad, FLOOD_WINDOW, LocalPort, NextHop, TAIL_BUCKETS};
use elvs_fastpath::Atomic64;
use elvs_model::{
    DestinationKey, Rates, ServiceKey, ServiceView, Settings, Statistics, Table, XdpMode,
};

use crate::backend::{AttachError, AttachedMode, Backend, BackendError};
use crate::connection::{Connection, Connections};
use crate::defence::Defence;
use crate::director::{Director, InstallError, Installed};
use crate::route::Route;
use crate::statistics::since;
use crate::sweep::SweepReport;

/// What became of the connections of a destination in some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fates {
    /// Connections opened.
    pub opened: u64,
    /// Connections of TCP that stayed half-open for a second, or were reset by a real server behind NAT.
    pub failed: u64,
}

/// Connections of a destination, as schedulers weigh them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Active connections.
    pub active: u32,
    /// Inactive connections.
    pub inactive: u32,
}

impl Load {
    pub(crate) const fn of(word: u64) -> Self {
        Self { active: DestinationLoad::active(word), inactive: DestinationLoad::inactive(word) }
    }
}

/// A destination whose load word is not what its connections add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadDifference {
    /// Index of the destination.
    pub index: u32,
    /// What its connections add up to.
    pub counted: Load,
    /// What its load word says.
    pub recorded: Load,
}

/// A data plane.
pub trait Plane: Send {
    /// The table in force.
    fn table(&self) -> &Table;

    /// Puts a table in force. What does not differ is not touched; connections keep their real servers.
    ///
    /// # Errors
    ///
    /// [`InstallError`]: the old table then stays in force.
    fn install(&mut self, table: &Table) -> Result<Installed, InstallError>;

    /// Says how frames reach a real server's address, for all destinations with that address, now and later.
    ///
    /// Called before the table that needs it is installed, so that the first packet finds its way.
    fn set_route(&mut self, address: IpAddr, route: Route);

    /// Says which interfaces there are, with their indexes, for firewall-mark rules that name one. A rule whose interface
    /// is not among them fits no packet.
    ///
    /// # Errors
    ///
    /// [`InstallError`]: the rules then are as they were.
    fn set_interfaces(&mut self, interfaces: HashMap<String, u32>) -> Result<(), InstallError>;

    /// Attaches the program to an interface; one that has it already keeps it as it is.
    ///
    /// # Errors
    ///
    /// [`AttachError`] names the interface, the mode, the kernel's reason and the cure.
    fn attach(&mut self, interface: &str, mode: XdpMode) -> Result<AttachedMode, AttachError>;

    /// Takes the program off an interface.
    ///
    /// # Errors
    ///
    /// [`BackendError`] if the kernel refuses.
    fn detach(&mut self, interface: &str) -> Result<(), BackendError>;

    /// Interfaces that have the program, by name.
    fn attached(&self) -> Vec<(String, AttachedMode)>;

    /// Says how frames go between the host's own stack and the director; interface 0 = they do not.
    ///
    /// # Errors
    ///
    /// [`BackendError`] if the kernel refuses.
    fn set_local_hop(&mut self, port: LocalPort, hop: &NextHop) -> Result<(), BackendError>;

    /// Has what the host itself sends by an interface looked at, for the director's business.
    ///
    /// # Errors
    ///
    /// [`AttachError`] names the interface and the cure.
    fn attach_egress(&mut self, interface: &str) -> Result<(), AttachError>;

    /// Ends that.
    ///
    /// # Errors
    ///
    /// [`BackendError`] if the kernel refuses.
    fn detach_egress(&mut self, interface: &str) -> Result<(), BackendError>;

    /// Interfaces where what the host sends is looked at, by name.
    fn attached_egress(&self) -> Vec<String>;

    /// Walks up to `buckets` buckets of the flow table on from where the last call stopped, and ends what has expired.
    ///
    /// A bucket is 128 bytes; [`Self::buckets`] of them are a pass, which is due about once a second.
    fn sweep(&mut self, buckets: u32) -> SweepReport;

    /// What became of the connections of some destinations since the last call; nothing of those that were not asked for then.
    /// Failures show up to two passes of [`Self::sweep`] later.
    fn fates(&mut self, of: &[(ServiceKey, DestinationKey)]) -> Vec<Fates>;

    /// Puts the defence level of this moment in force (`drop_entry`, `drop_packet`, `secure_tcp`), and drops entries if it asks
    /// for that; due once a second. `free_pages` are the host's, if known; see [`Self::asks_for_memory`].
    fn defend(&mut self, free_pages: Option<u64>) -> Defence;

    /// Whether the defence level depends on how much memory the host has.
    fn asks_for_memory(&self) -> bool;

    /// Settings as the kernel shows them: the automatic modes of the defence as 2 while they act.
    fn settings(&self) -> Settings;

    /// Buckets of the flow table.
    fn buckets(&self) -> u32;

    /// Connections that the flow table was made for.
    fn capacity(&self) -> u32;

    /// Gives up indexes and addresses of removed destinations that nothing refers to any more; due every minute.
    /// How many were given up.
    ///
    /// # Errors
    ///
    /// [`InstallError`]: nothing was given up.
    fn collect(&mut self) -> Result<usize, InstallError>;

    /// Moves the rates on; due every [`crate::Estimator::PERIOD`].
    ///
    /// # Errors
    ///
    /// [`BackendError`] if the statistics cannot be read.
    fn estimate(&mut self) -> Result<(), BackendError>;

    /// Sets how many new flows per second and core there may be before half-open ones are kept out of the table; 0 = any number.
    fn set_flood_threshold(&mut self, flows: u32);

    /// Whether some core has kept new flows out of the table in the last seconds, because of a flood.
    fn is_flooded(&self) -> bool;

    /// Connections in table order.
    fn connections(&self) -> Box<dyn Iterator<Item = Connection> + '_>;

    /// Connections in `buckets` buckets from bucket `first` on, for listings that must not hold the plane for long.
    fn connections_in(&self, first: u32, buckets: u32) -> Vec<Connection>;

    /// Buckets that connections lie in: those of [`Self::buckets`] and the tail that chains run into.
    fn table_buckets(&self) -> u32 {
        self.buckets().saturating_add(2 * TAIL_BUCKETS)
    }

    /// Connections of all destinations, removed ones included.
    fn live_connections(&self) -> u64;

    /// Services with destinations, counters and rates, in the table's order.
    ///
    /// # Errors
    ///
    /// [`BackendError`] if the statistics cannot be read.
    fn service_views(&self) -> Result<Vec<ServiceView>, BackendError>;

    /// Index of a destination, if it has one: in the table, or removed with connections left.
    fn destination_index(&self, service: &ServiceKey, key: &DestinationKey) -> Option<u32>;

    /// Connections of a destination.
    fn destination_load(&self, index: u32) -> Load;

    /// Statistics of a destination since it was added or zeroed.
    ///
    /// # Errors
    ///
    /// [`BackendError`] if they cannot be read.
    fn destination_statistics(
        &self,
        service: &ServiceKey,
        key: &DestinationKey,
    ) -> Result<Statistics, BackendError>;

    /// Rates of a destination.
    fn destination_rates(&self, index: u32) -> Rates;

    /// Statistics of a service, those of its removed destinations included.
    ///
    /// # Errors
    ///
    /// [`BackendError`] if they cannot be read.
    fn service_statistics(&self, service: &ServiceKey) -> Result<Statistics, BackendError>;

    /// Starts the statistics of a service, or of all, again from 0 (`ipvsadm -Z`).
    ///
    /// # Errors
    ///
    /// [`InstallError`] if they cannot be read, or the state file not written; then nothing is changed.
    fn zero(&mut self, service: Option<&ServiceKey>) -> Result<(), InstallError>;

    /// Every counter with its value.
    ///
    /// # Errors
    ///
    /// [`BackendError`] if they cannot be read.
    fn counters(&self) -> Result<Vec<(Counter, u64)>, BackendError>;

    /// Counts the connections of every destination and compares with the load words. A destination whose load changed
    /// meanwhile is left out: nothing can be said of it.
    fn recount(&self) -> Vec<LoadDifference>;

    /// Memory of all tables, bytes.
    fn memory_bytes(&self) -> u64;

    /// Detaches the program everywhere and removes tables, pins and state file. Dropping the plane without this leaves
    /// everything forwarding, to be adopted by the next daemon.
    ///
    /// # Errors
    ///
    /// The first [`BackendError`]; the rest is removed nevertheless.
    fn teardown(&mut self) -> Result<(), BackendError>;
}

impl<B: Backend + Send> Plane for Director<B> {
    fn table(&self) -> &Table {
        self.table_in_force()
    }

    fn install(&mut self, table: &Table) -> Result<Installed, InstallError> {
        self.put_in_force(table)
    }

    fn set_route(&mut self, address: IpAddr, route: Route) {
        self.keep_route(address, route);
    }

    fn set_interfaces(&mut self, interfaces: HashMap<String, u32>) -> Result<(), InstallError> {
        self.keep_interfaces(interfaces)
    }

    fn attach(&mut self, interface: &str, mode: XdpMode) -> Result<AttachedMode, AttachError> {
        self.backend_mut().attach(interface, mode)
    }

    fn detach(&mut self, interface: &str) -> Result<(), BackendError> {
        self.backend_mut().detach(interface)
    }

    fn attached(&self) -> Vec<(String, AttachedMode)> {
        self.backend().attached()
    }

    fn set_local_hop(&mut self, port: LocalPort, hop: &NextHop) -> Result<(), BackendError> {
        self.backend_mut().set_local_hop(port, hop)
    }

    fn attach_egress(&mut self, interface: &str) -> Result<(), AttachError> {
        self.backend_mut().attach_egress(interface)
    }

    fn detach_egress(&mut self, interface: &str) -> Result<(), BackendError> {
        self.backend_mut().detach_egress(interface)
    }

    fn attached_egress(&self) -> Vec<String> {
        self.backend().attached_egress()
    }

    fn sweep(&mut self, buckets: u32) -> SweepReport {
        self.sweep_slice(buckets, 0)
    }

    fn fates(&mut self, of: &[(ServiceKey, DestinationKey)]) -> Vec<Fates> {
        self.take_fates(of)
    }

    fn defend(&mut self, free_pages: Option<u64>) -> Defence {
        self.keep_defence(free_pages)
    }

    fn asks_for_memory(&self) -> bool {
        Self::asks_for_memory(self)
    }

    fn settings(&self) -> Settings {
        self.shown_settings()
    }

    fn buckets(&self) -> u32 {
        let settings = self.backend().settings();
        settings.buckets.saturating_add(settings.wide_buckets)
    }

    fn capacity(&self) -> u32 {
        self.backend().settings().connections
    }

    fn collect(&mut self) -> Result<usize, InstallError> {
        self.collect_removed()
    }

    fn estimate(&mut self) -> Result<(), BackendError> {
        self.move_rates()
    }

    fn set_flood_threshold(&mut self, flows: u32) {
        let old = self.backend().settings();
        if old.flood_threshold != flows {
            let settings = elvs_common::Settings { flood_threshold: flows, ..old };
            self.backend_mut().write_settings(&settings);
        }
    }

    fn is_flooded(&self) -> bool {
        // Flood mode renews the word with each new flow, and lasts a window at least.
        self.backend().flood().within(self.backend().now().tick(), 2 * FLOOD_WINDOW)
    }

    fn connections(&self) -> Box<dyn Iterator<Item = Connection> + '_> {
        Box::new(Connections::new(self.backend()))
    }

    fn connections_in(&self, first: u32, buckets: u32) -> Vec<Connection> {
        Connections::between(self.backend(), first, first.saturating_add(buckets)).collect()
    }

    fn live_connections(&self) -> u64 {
        let loads = self.assignments().destinations().map(|(_, _, slot)| slot.index);
        let loads =
            loads.filter_map(|index| self.backend().load(index)).map(Atomic64::load).map(Load::of);
        loads.map(|load| u64::from(load.active) + u64::from(load.inactive)).sum()
    }

    fn service_views(&self) -> Result<Vec<ServiceView>, BackendError> {
        self.views()
    }

    fn destination_index(&self, service: &ServiceKey, key: &DestinationKey) -> Option<u32> {
        self.assignments().destination(service, key).map(|slot| slot.index)
    }

    fn destination_load(&self, index: u32) -> Load {
        Load::of(self.backend().load(index).map_or(0, Atomic64::load))
    }

    fn destination_statistics(
        &self,
        service: &ServiceKey,
        key: &DestinationKey,
    ) -> Result<Statistics, BackendError> {
        match self.assignments().destination(service, key) {
            Some(slot) => Ok(since(&self.backend().statistics(slot.index)?, &slot.baseline)),
            None => Ok(Statistics::default()),
        }
    }

    fn destination_rates(&self, index: u32) -> Rates {
        self.rates_of(index)
    }

    fn service_statistics(&self, service: &ServiceKey) -> Result<Statistics, BackendError> {
        let totals = self.assignments().service_statistics(self.backend())?;
        Ok(totals.get(service).copied().unwrap_or_default())
    }

    fn zero(&mut self, service: Option<&ServiceKey>) -> Result<(), InstallError> {
        self.zero_statistics(service)
    }

    fn counters(&self) -> Result<Vec<(Counter, u64)>, BackendError> {
        self.all_counters()
    }

    fn recount(&self) -> Vec<LoadDifference> {
        self.load_differences()
    }

    fn memory_bytes(&self) -> u64 {
        self.backend().memory_bytes()
    }

    fn teardown(&mut self) -> Result<(), BackendError> {
        self.remove_everything()
    }
}
