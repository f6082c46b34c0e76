//! What this release's data plane forwards, out of everything IPVS can be told.
//!
//! **Invariant:** whatever is not forwarded is refused by name; nothing is accepted and then ignored.
//!
//! Called by the daemon before a change reaches the [`Table`](crate::Table).

use std::net::IpAddr;

use crate::{Change, ChangeError, Destination, ServiceKey, Table, VirtualService};

/// Whether a service, and a destination in it if given, is forwarded by this release.
///
/// # Errors
/// [`ChangeError::Unsupported`] that names the first value that is not, and what is.
pub fn in_effect(
    service: &VirtualService,
    destination: Option<&Destination>,
) -> Result<(), ChangeError> {
    key_in_effect(&service.key)?;
    service_in_effect(service)?;
    destination.map_or(Ok(()), destination_in_effect)
}

impl Change {
    /// Whether this release forwards what the change asks for; `table` is the one it would be applied to.
    ///
    /// Deletions, flushes and timeouts are always in effect. Settings are kept whether they are or not:
    /// [`Setting::warning`](crate::Setting::warning) says which.
    ///
    /// # Errors
    /// As [`in_effect`].
    pub fn in_effect(&self, table: &Table) -> Result<(), ChangeError> {
        match self {
            Self::AddService(service) | Self::EditService(service) => in_effect(service, None),
            Self::AddDestination { service, destination }
            | Self::EditDestination { service, destination } => {
                // An unknown service is for the table to refuse.
                if table.service(service).is_none() {
                    return Ok(());
                }
                destination_in_effect(destination)
            }
            Self::AddMark(_)
            | Self::DeleteService(_)
            | Self::DeleteDestination { .. }
            | Self::AddLocalAddress { .. }
            | Self::DeleteLocalAddress { .. }
            | Self::Flush
            | Self::SetTimeouts(_)
            | Self::DeleteMark(_)
            | Self::StartSync(_)
            | Self::StopSync(_)
            | Self::Set { .. } => Ok(()),
        }
    }
}

fn key_in_effect(key: &ServiceKey) -> Result<(), ChangeError> {
    match key {
        ServiceKey::Address { address, .. } => address_in_effect(*address),
        ServiceKey::Fwmark { .. } => Ok(()),
    }
}

/// An IPv4 address in IPv6 form (RFC 4291 section 2.5.5.2) is in no packet.
fn address_in_effect(address: IpAddr) -> Result<(), ChangeError> {
    match address {
        IpAddr::V6(mapped) => mapped.to_ipv4_mapped().map_or(Ok(()), |plain| {
            refuse(&format!("IPv4-mapped address {mapped} is"), &plain.to_string())
        }),
        IpAddr::V4(_) => Ok(()),
    }
}

fn service_in_effect(service: &VirtualService) -> Result<(), ChangeError> {
    if let Some(engine) = &service.engine {
        return refuse(&format!("persistence engine {engine} is"), "services without --pe");
    }
    Ok(())
}

fn destination_in_effect(destination: &Destination) -> Result<(), ChangeError> {
    address_in_effect(destination.key.address)
}

fn refuse(what: &str, instead: &str) -> Result<(), ChangeError> {
    let message = format!("{what} not in effect in this release: what works is {instead}");
    Err(ChangeError::Unsupported(message))
}

#[cfg(test)]
mod tests;
