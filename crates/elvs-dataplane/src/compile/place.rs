//! What names a service or a virtual address in its slot, and what the templates of a service go by.
//!
//! **Invariant:** two keys have the same place only if they are the same.
//!
//! Called by [`super::compile()`], and by the assignments, which refuse what has no place.

use std::net::IpAddr;

use elvs_common::{MARKED, PersistenceLine, ServiceRecord, WideAddress, service_kind};
use elvs_model::{Family, Netmask, ServiceKey};

use crate::assignments::PersistenceSlot;
use crate::route::folded;

/// Virtual address of a service that is not by firewall mark.
pub(crate) const fn virtual_address(key: &ServiceKey) -> Option<IpAddr> {
    match key {
        ServiceKey::Address { address, .. } => Some(*address),
        ServiceKey::Fwmark { .. } => None,
    }
}

/// What names a service, as its slot has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Virtual address, its fold if it is one of IPv6, or the mark.
    address: u32,
    address6: WideAddress,
    port: u16,
    protocol: u8,
    kind: u8,
}

impl Place {
    pub(crate) const fn of(key: &ServiceKey) -> Self {
        match key {
            ServiceKey::Address { protocol, address, port } => Self {
                port: port.to_be(),
                protocol: protocol.number(),
                ..Self::of_address(*address, service_kind::SERVICE, service_kind::SERVICE6)
            },
            ServiceKey::Fwmark { mark, family } => Self {
                address: *mark,
                address6: WideAddress([0; 2]),
                port: 0,
                protocol: 0,
                kind: match family {
                    Family::Inet => service_kind::MARK,
                    Family::Inet6 => service_kind::MARK6,
                },
            },
        }
    }

    /// That of an address, of one kind in IPv4 and another in IPv6.
    pub(super) const fn of_address(address: IpAddr, kind: u8, kind6: u8) -> Self {
        let (address6, kind) = match address {
            IpAddr::V4(_) => (WideAddress([0; 2]), kind),
            IpAddr::V6(address) => (WideAddress::of_bytes(address.octets()), kind6),
        };
        Self { address: folded(address), address6, port: 0, protocol: 0, kind }
    }

    /// The service slot, as far as it is named by this.
    pub(super) fn record(&self) -> ServiceRecord {
        ServiceRecord {
            address: self.address,
            address6: self.address6.bytes(),
            port: self.port,
            protocol: self.protocol,
            kind: self.kind,
            ..ServiceRecord::default()
        }
    }

    /// What a persistent service's templates go by. That of a mark stands where an IPv4 address would (`ip_vs_sched_persist`).
    pub(super) fn templates(&self, persistence: PersistenceSlot) -> PersistenceLine {
        let marked = matches!(self.kind, service_kind::MARK | service_kind::MARK6);
        let mut line = PersistenceLine {
            port: if persistence.shared { 0 } else { self.port },
            protocol: if marked { MARKED } else { self.protocol },
            ..PersistenceLine::default()
        };
        let address = if marked { self.address.to_be() } else { self.address };
        match persistence.mask {
            Netmask::V4(mask) => {
                (line.mask, line.address) = (mask.to_be(), address);
                // Of a service by full NAT or one of SCTP, whose templates are in the wide table.
                let WideAddress([_, low]) = WideAddress::of_v4(mask.to_be());
                line.wide_mask = [u64::MAX, low | MAPPED];
                line.wide_address = WideAddress::of_v4(address).0;
            }
            Netmask::V6(prefix) => {
                line.wide_mask = wide_mask(prefix).0;
                let mark = WideAddress::of_bytes(marked_address(address));
                line.wide_address = if marked { mark.0 } else { self.address6.0 };
            }
        }
        line
    }
}

/// Bits before the IPv4 address in the second word of one in IPv6 form.
const MAPPED: u64 = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);

/// The address that stands for a mark, network order, in the templates of IPv6.
const fn marked_address(mark: u32) -> [u8; 16] {
    let [a, b, c, d] = mark.to_ne_bytes();
    [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// Netmask of the length of a prefix of IPv6.
pub(crate) fn wide_mask(prefix: u8) -> WideAddress {
    let bits = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
    WideAddress::of_bytes(bits.to_be_bytes())
}
