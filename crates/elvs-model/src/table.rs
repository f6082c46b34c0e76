//! The table of virtual services and destinations, changed one [`Change`] at a time as the kernel's IPVS does it.
//!
//! **Invariant:** a refused change leaves the table as it was; service and destination keys are unique; destinations
//! are listed newest first, as the kernel keeps them, since the schedulers walk that order.
//!
//! Called by the daemon, which owns the one table and keeps it on disk, and by tests as a director without packets.

mod full_nat;

use std::net::IpAddr;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use self::full_nat::is_full_nat;
use crate::{
    Change, ChangeError, Desired, Destination, DestinationKey, Family, ForwardingMethod,
    LocalAddresses, MarkRule, MarkRules, Netmask, ServiceKey, Settings, SyncDaemon, SyncDaemons,
    Timeouts, TunnelKind, VirtualService,
};

/// Virtual services in order of creation, each with its destinations; the timeouts and settings in force; the mark rules; and
/// the synchronisation daemons that were started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    #[serde(with = "indexmap::map::serde_seq")]
    services: IndexMap<ServiceKey, TableService>,
    timeouts: Timeouts,
    #[serde(default)]
    marks: MarkRules,
    #[serde(default)]
    settings: Settings,
    #[serde(default)]
    sync: SyncDaemons,
}

/// A virtual service in the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableService {
    service: VirtualService,
    /// Oldest first, so that adding is cheap; every accessor shows them newest first.
    #[serde(with = "indexmap::map::serde_seq")]
    destinations: IndexMap<DestinationKey, Destination>,
    #[serde(default)]
    local_addresses: LocalAddresses,
    #[serde(default)]
    edits: Edits,
}

/// How often destinations of a service were edited. Tables are equal whatever came before, so any two are.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
struct Edits(u64);

impl PartialEq for Edits {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for Edits {}

impl TableService {
    /// The service itself.
    pub const fn service(&self) -> &VirtualService {
        &self.service
    }

    /// Its destinations, newest first: the order of the kernel's list and of `ipvsadm -L --nosort`.
    pub fn destinations(
        &self,
    ) -> impl DoubleEndedIterator<Item = &Destination> + ExactSizeIterator + Clone {
        self.destinations.values().rev()
    }

    /// Its local addresses of full NAT.
    pub const fn local_addresses(&self) -> &LocalAddresses {
        &self.local_addresses
    }

    /// Whether its real servers are reached by full NAT.
    pub fn is_full_nat(&self) -> bool {
        self.destinations.values().any(is_full_nat)
    }

    /// How often a destination was edited, be it to what it was before: an edit begins the turn of weighted round robin anew
    /// (`ip_vs_wrr_dest_changed`).
    pub const fn edits(&self) -> u64 {
        self.edits.0
    }

    /// One destination.
    pub fn destination(&self, key: &DestinationKey) -> Option<&Destination> {
        self.destinations.get(key)
    }
}

impl Table {
    /// An empty table with IPVS's initial timeouts.
    pub fn new() -> Self {
        Self {
            services: IndexMap::new(),
            timeouts: INITIAL_TIMEOUTS,
            marks: MarkRules::default(),
            settings: Settings::default(),
            sync: SyncDaemons::default(),
        }
    }

    /// The table that a configuration makes out of an empty one.
    ///
    /// # Errors
    /// The first change that [`Table::apply`] refuses.
    pub fn from_desired(desired: &Desired) -> Result<Self, ChangeError> {
        let mut table = Self::new();
        for change in crate::diff(&Desired::default(), desired) {
            table.apply(&change)?;
        }
        Ok(table)
    }

    /// Services in order of creation.
    pub fn services(&self) -> impl DoubleEndedIterator<Item = &TableService> + ExactSizeIterator {
        self.services.values()
    }

    /// One service.
    pub fn service(&self, key: &ServiceKey) -> Option<&TableService> {
        self.services.get(key)
    }

    /// Timeouts in force, none of them 0.
    pub const fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// Mark rules in the order in which they are tried.
    pub const fn marks(&self) -> &MarkRules {
        &self.marks
    }

    /// Settings in force.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Synchronisation daemons that were started and not stopped.
    pub const fn sync_daemons(&self) -> &SyncDaemons {
        &self.sync
    }

    /// Makes one change.
    ///
    /// # Errors
    /// What the kernel's IPVS answers to the same change (`net/netfilter/ipvs/ip_vs_ctl.c`), or why a mark rule cannot
    /// be; the table is then unchanged.
    pub fn apply(&mut self, change: &Change) -> Result<(), ChangeError> {
        match change {
            Change::AddService(service) => self.add_service(service),
            Change::EditService(service) => {
                let entry =
                    self.services.get_mut(&service.key).ok_or(ChangeError::NoSuchService)?;
                check_service(service)?;
                if entry.is_full_nat() {
                    full_nat::check_service(service)?;
                }
                entry.service = service.clone();
                Ok(())
            }
            Change::DeleteService(key) => {
                self.services.shift_remove(key).map(drop).ok_or(ChangeError::NoSuchService)
            }
            Change::AddDestination { service, destination } => {
                self.add_destination(service, destination)
            }
            Change::EditDestination { service, destination } => {
                self.edit_destination(service, destination)
            }
            Change::DeleteDestination { service, destination } => {
                let entry = self.services.get_mut(service).ok_or(ChangeError::ServiceNotDefined)?;
                let removed = entry.destinations.shift_remove(destination);
                removed.map(drop).ok_or(ChangeError::NoSuchDestination)
            }
            Change::AddLocalAddress { service, address } => {
                self.add_local_address(service, *address)
            }
            Change::DeleteLocalAddress { service, address } => {
                self.delete_local_address(service, *address)
            }
            Change::Flush => {
                self.services.clear();
                Ok(())
            }
            Change::SetTimeouts(timeouts) => self.set_timeouts(*timeouts),
            Change::Set { setting, value } => self
                .settings
                .set(*setting, value.clone())
                .map_err(|error| ChangeError::Unsupported(error.to_string())),
            // Who can look at the interface calls `start_sync` instead.
            Change::StartSync(daemon) => self.start_sync(daemon.clone(), Some(ETHERNET_MTU)),
            Change::StopSync(role) => self.sync.stop(*role),
            Change::AddMark(rule) => self.add_mark(rule),
            Change::DeleteMark(rule) => {
                self.marks.remove(rule).map(drop).ok_or(ChangeError::NoSuchMarkRule)
            }
        }
    }

    /// Starts a synchronisation daemon on an interface of this MTU; `None`: there is no such interface.
    ///
    /// # Errors
    /// What the kernel answers (`ip_vs_genl_new_daemon`, `start_sync_thread`), in its order.
    pub fn start_sync(&mut self, daemon: SyncDaemon, mtu: Option<u32>) -> Result<(), ChangeError> {
        // The protocol has one family for a connection.
        let mixed = |entry: &TableService| {
            let mut destinations = entry.destinations.values();
            destinations.any(|destination| is_mixed(&entry.service.key, destination))
        };
        if self.services.values().any(mixed) {
            return Err(ChangeError::Invalid);
        }
        self.sync.start(daemon.on_interface(mtu.ok_or(ChangeError::NoSuchDevice)?))
    }

    fn add_service(&mut self, service: &VirtualService) -> Result<(), ChangeError> {
        if self.services.contains_key(&service.key) {
            return Err(ChangeError::ServiceExists);
        }
        check_service(service)?;
        self.check_not_local(&service.key)?;
        let entry = TableService {
            service: service.clone(),
            destinations: IndexMap::new(),
            local_addresses: LocalAddresses::default(),
            edits: Edits::default(),
        };
        self.services.insert(service.key, entry);
        Ok(())
    }

    fn add_destination(
        &mut self,
        service: &ServiceKey,
        destination: &Destination,
    ) -> Result<(), ChangeError> {
        let entry = self.services.get_mut(service).ok_or(ChangeError::ServiceNotDefined)?;
        check_destination(service, destination)?;
        if entry.destinations.contains_key(&destination.key) {
            return Err(ChangeError::DestinationExists);
        }
        if !is_unicast(destination.key.address) {
            return Err(ChangeError::Invalid);
        }
        if is_mixed(service, destination) && !self.sync.is_empty() {
            return Err(ChangeError::Invalid);
        }
        full_nat::check_destination(entry, destination)?;
        entry.destinations.insert(destination.key, *destination);
        Ok(())
    }

    fn edit_destination(
        &mut self,
        service: &ServiceKey,
        destination: &Destination,
    ) -> Result<(), ChangeError> {
        let entry = self.services.get_mut(service).ok_or(ChangeError::ServiceNotDefined)?;
        check_destination(service, destination)?;
        if !entry.destinations.contains_key(&destination.key) {
            return Err(ChangeError::NoSuchDestination);
        }
        full_nat::check_destination(entry, destination)?;
        // In place: the order stays.
        entry.destinations.insert(destination.key, *destination);
        entry.edits.0 = entry.edits.0.wrapping_add(1);
        Ok(())
    }

    fn set_timeouts(&mut self, new: Timeouts) -> Result<(), ChangeError> {
        if [new.tcp, new.tcp_fin, new.udp].iter().any(|&seconds| seconds > MAX_TIMEOUT_S) {
            return Err(ChangeError::Invalid);
        }
        self.timeouts = new.or(self.timeouts);
        Ok(())
    }

    fn add_mark(&mut self, rule: &MarkRule) -> Result<(), ChangeError> {
        rule.check().map_err(|error| ChangeError::Unsupported(error.to_string()))?;
        if self.marks.iter().any(|known| known == rule) {
            return Err(ChangeError::MarkRuleExists);
        }
        self.marks.push(rule.clone());
        Ok(())
    }
}

impl Default for Table {
    fn default() -> Self {
        Self::new()
    }
}

impl Timeouts {
    /// These timeouts with every 0 replaced by the one in `force`.
    pub const fn or(self, force: Self) -> Self {
        const fn pick(new: u32, old: u32) -> u32 {
            if new == 0 { old } else { new }
        }
        Self {
            tcp: pick(self.tcp, force.tcp),
            tcp_fin: pick(self.tcp_fin, force.tcp_fin),
            udp: pick(self.udp, force.udp),
        }
    }
}

/// Timeouts that IPVS starts with (`ip_vs_proto_tcp.c`, `ip_vs_proto_udp.c`).
pub const INITIAL_TIMEOUTS: Timeouts = Timeouts { tcp: 900, tcp_fin: 120, udp: 300 };

/// Largest timeout that the kernel takes at 250 ticks a second: `INT_MAX / HZ`.
const MAX_TIMEOUT_S: u32 = (i32::MAX as u32) / 250;

/// MTU that a synchronisation daemon is taken to have where no interface can be looked at.
const ETHERNET_MTU: u32 = 1_500;

/// Largest weight: the kernel's is an `int`.
const MAX_WEIGHT: u32 = i32::MAX as u32;

/// Checks of `ip_vs_add_service` and `ip_vs_edit_service`, in their order.
fn check_service(service: &VirtualService) -> Result<(), ChangeError> {
    if service.engine.as_deref().is_some_and(|engine| engine != "sip") {
        return Err(ChangeError::SchedulerNotFound);
    }
    match (service.key.family(), service.netmask) {
        (Family::Inet, Netmask::V4(_)) | (Family::Inet6, Netmask::V6(1..=128)) => Ok(()),
        (Family::Inet, Netmask::V6(_)) | (Family::Inet6, Netmask::V4(_) | Netmask::V6(_)) => {
            Err(ChangeError::Invalid)
        }
    }
}

/// Checks that adding and editing a destination share, in the kernel's order.
fn check_destination(service: &ServiceKey, destination: &Destination) -> Result<(), ChangeError> {
    if is_mixed(service, destination) && !matches!(destination.method, ForwardingMethod::Tun(_)) {
        return Err(ChangeError::Invalid);
    }
    if destination.weight > MAX_WEIGHT {
        return Err(ChangeError::OutOfRange);
    }
    if destination.lower_threshold > destination.upper_threshold {
        return Err(ChangeError::OutOfRange);
    }
    match destination.method {
        ForwardingMethod::Tun(TunnelKind::Gue { port: 0, .. }) => Err(ChangeError::Invalid),
        ForwardingMethod::Nat
        | ForwardingMethod::Dr
        | ForwardingMethod::FullNat
        | ForwardingMethod::Tun(_) => Ok(()),
    }
}

/// Whether a destination is of another family than its service.
const fn is_mixed(service: &ServiceKey, destination: &Destination) -> bool {
    !matches!(
        (Family::of(destination.key.address), service.family()),
        (Family::Inet, Family::Inet) | (Family::Inet6, Family::Inet6)
    )
}

/// Whether `ip_vs_new_dest` takes the address: unicast, and neither link-local nor IPv4-mapped in IPv6.
const fn is_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => !(a.is_unspecified() || a.is_broadcast() || a.is_multicast()),
        IpAddr::V6(a) => {
            let mapped = a.to_ipv4_mapped().is_some();
            !(a.is_unspecified() || a.is_multicast() || a.is_unicast_link_local() || mapped)
        }
    }
}

#[cfg(test)]
mod tests;
