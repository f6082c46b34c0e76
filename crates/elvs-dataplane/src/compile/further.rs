//! Slots that services have beside their own: for FTP's data connections, and for real servers that begin calls.
//!
//! **Invariant:** no two slots have the same key: who is first in the order of services has it.
//!
//! Called by [`super::compile()`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use elvs_common::{HeaderFlags, ServiceFlags, ServiceRecord, UDP, service_kind};
use elvs_model::{Family, Protocol, ServiceKey};

use super::place::{Place, virtual_address};
use crate::assignments::{FTP, ServiceSlot, mapped};

/// Further slots of all services.
pub(super) struct Further {
    /// What FTP's data connections go to.
    ftp: Vec<ServiceKey>,
    /// Real servers that may begin calls, by address and port.
    servers: BTreeMap<(IpAddr, u16), ServiceKey>,
}

impl Further {
    pub(super) fn of(services: &[ServiceSlot]) -> Self {
        let mut servers = BTreeMap::new();
        for service in services.iter().filter(|service| goes_by_calls(service)) {
            for entry in &service.pool {
                servers.entry((entry.address, entry.port)).or_insert(service.key);
            }
        }
        Self { ftp: ftp_services(services), servers }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.ftp.len() + self.servers.len()
    }

    /// [`HeaderFlags`] that say so.
    pub(super) fn flags(&self) -> u64 {
        let ftp = if self.ftp.is_empty() { 0 } else { HeaderFlags::FTP };
        let servers = if self.servers.is_empty() { 0 } else { HeaderFlags::SIP_SERVERS };
        ftp | servers
    }

    /// Those of a service whose own slot is given.
    pub(super) fn slots<'a>(
        &'a self,
        service: &'a ServiceSlot,
        own: &'a ServiceRecord,
    ) -> impl Iterator<Item = ServiceRecord> + 'a {
        let ftp = self.ftp.contains(&service.key).then(|| ftp_slot(service, own));
        let entries = service
            .pool
            .iter()
            .filter(|entry| self.servers.get(&(entry.address, entry.port)) == Some(&service.key));
        let kinds = (service_kind::SIP_SERVER, service_kind::SIP_SERVER6);
        let servers = entries.map(move |entry| ServiceRecord {
            address6: mapped(entry.address),
            port: entry.port.to_be(),
            protocol: UDP,
            index: entry.destination,
            flags: own.flags,
            pool_line: own.pool_line,
            ..Place::of_address(entry.address, kinds.0, kinds.1).record()
        });
        ftp.into_iter().chain(servers)
    }
}

/// FTP services that take their data connections, and on addresses without one services on all ports. None if there are none of
/// the former.
fn ftp_services(services: &[ServiceSlot]) -> Vec<ServiceKey> {
    let own = services.iter().filter(|service| service.takes_ftp_data).map(|service| service.key);
    let own: Vec<ServiceKey> = own.collect();
    if own.is_empty() {
        return own;
    }
    let served: BTreeSet<IpAddr> = own.iter().filter_map(virtual_address).collect();
    let all = services.iter().map(|service| service.key).filter(|key| {
        let all = matches!(key, ServiceKey::Address { protocol: Protocol::Tcp, port: 0, .. });
        all && virtual_address(key).is_some_and(|address| !served.contains(&address))
    });
    own.iter().copied().chain(all).collect()
}

/// The slot by which FTP's data connections find a service.
fn ftp_slot(service: &ServiceSlot, own: &ServiceRecord) -> ServiceRecord {
    let kind = match service.key.family() {
        Family::Inet => service_kind::FTP,
        Family::Inet6 => service_kind::FTP6,
    };
    let data = if service.takes_ftp_data { ServiceFlags::FTP_DATA } else { 0 };
    ServiceRecord { kind, port: FTP.to_be(), flags: own.flags | data, ..*own }
}

/// Whether the real servers of a service may begin calls: their packets name it only if it has an address and a port.
const fn goes_by_calls(service: &ServiceSlot) -> bool {
    let named =
        matches!(service.key, ServiceKey::Address { protocol: Protocol::Udp, port: 1.., .. });
    named && service.flags & ServiceFlags::SIP != 0
}
