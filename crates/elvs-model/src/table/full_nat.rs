//! Rules of full NAT, which the kernel's IPVS does not have.
//!
//! **Invariant:** the real servers of a service are all by full NAT or none is; a service by full NAT has a local address of its
//! family, which is no virtual address.
//!
//! Called by [`Table::apply`].

use std::net::IpAddr;

use super::{Table, TableService, is_unicast};
use crate::{
    ChangeError, Destination, Family, ForwardingMethod, FullNatError, FullNatUnfit,
    LocalAddressFault, Protocol, ServiceKey, VirtualService,
};

impl From<FullNatError> for ChangeError {
    fn from(error: FullNatError) -> Self {
        Self::FullNat(error)
    }
}

/// Whether a destination is reached by full NAT.
pub(super) const fn is_full_nat(destination: &Destination) -> bool {
    matches!(destination.method, ForwardingMethod::FullNat)
}

/// Whether a service can be by full NAT.
pub(super) fn check_service(service: &VirtualService) -> Result<(), ChangeError> {
    check_key(&service.key)?;
    if service.one_packet {
        let what = FullNatUnfit::OnePacket;
        return Err(FullNatError::Service { service: service.key, what }.into());
    }
    Ok(())
}

const fn check_key(key: &ServiceKey) -> Result<(), ChangeError> {
    let what = match key {
        ServiceKey::Fwmark { .. } => FullNatUnfit::Fwmark,
        ServiceKey::Address { protocol: Protocol::Sctp, .. } => FullNatUnfit::Sctp,
        ServiceKey::Address { protocol: Protocol::Tcp | Protocol::Udp, .. } => return Ok(()),
    };
    Err(ChangeError::FullNat(FullNatError::Service { service: *key, what }))
}

/// Whether a destination may join its service, or become what it is to be.
pub(super) fn check_destination(
    entry: &TableService,
    destination: &Destination,
) -> Result<(), ChangeError> {
    let service = entry.service.key;
    let by_full_nat = is_full_nat(destination);
    let mut others = entry.destinations.values().filter(|other| other.key != destination.key);
    if by_full_nat {
        check_service(&entry.service)?;
    }
    if others.any(|other| is_full_nat(other) != by_full_nat) {
        return Err(FullNatError::Mixed { service }.into());
    }
    if by_full_nat && entry.local_addresses.is_empty() {
        return Err(FullNatError::NoLocalAddress { service }.into());
    }
    Ok(())
}

impl Table {
    pub(super) fn add_local_address(
        &mut self,
        service: &ServiceKey,
        address: IpAddr,
    ) -> Result<(), ChangeError> {
        let refuse = |why| FullNatError::Address { service: *service, address, why }.into();
        let is_virtual = self.services.keys().any(|key| is_at(key, address));
        let entry = self.services.get_mut(service).ok_or(ChangeError::ServiceNotDefined)?;
        check_key(service)?;
        if Family::of(address) != service.family() {
            return Err(refuse(LocalAddressFault::Family));
        }
        if !is_unicast(address) || is_near(address) {
            return Err(refuse(LocalAddressFault::NotUnicast));
        }
        if is_virtual {
            return Err(refuse(LocalAddressFault::Virtual));
        }
        if !entry.local_addresses.insert(address) {
            return Err(ChangeError::LocalAddressExists);
        }
        Ok(())
    }

    pub(super) fn delete_local_address(
        &mut self,
        service: &ServiceKey,
        address: IpAddr,
    ) -> Result<(), ChangeError> {
        let entry = self.services.get_mut(service).ok_or(ChangeError::ServiceNotDefined)?;
        if !entry.local_addresses.contains(address) {
            return Err(ChangeError::NoSuchLocalAddress);
        }
        if entry.local_addresses.len() == 1 && entry.is_full_nat() {
            return Err(FullNatError::LastLocalAddress { service: *service, address }.into());
        }
        entry.local_addresses.remove(address);
        Ok(())
    }

    /// Refuses a service whose address is a local one of another.
    pub(super) fn check_not_local(&self, key: &ServiceKey) -> Result<(), ChangeError> {
        let mut users = self
            .services
            .values()
            .filter(|entry| entry.local_addresses.iter().any(|address| is_at(key, address)));
        users.next().map_or(Ok(()), |entry| {
            Err(FullNatError::Taken { service: *key, other: entry.service.key }.into())
        })
    }
}

/// Whether a service is on an address.
fn is_at(key: &ServiceKey, wanted: IpAddr) -> bool {
    matches!(key, ServiceKey::Address { address, .. } if *address == wanted)
}

/// Whether only the machine itself or its own link can answer to an address, or it is an IPv4 address in IPv6 form.
const fn is_near(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_link_local(),
        IpAddr::V6(address) => address.is_loopback() || address.to_ipv4_mapped().is_some(),
    }
}
