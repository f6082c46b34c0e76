//! What this release's data plane forwards, out of everything IPVS can be told.
//!
//! **Invariant:** whatever is not forwarded is refused by name; nothing is accepted and then ignored.
//!
//! Called by the daemon before a change reaches the [`Table`](crate::Table).

use crate::{
    Change, ChangeError, Destination, Family, Protocol, ServiceKey, Table, VirtualService,
};

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
            Self::AddMark(rule) if rule.family() == Some(Family::Inet6) => {
                refuse("mark rules with IPv6 addresses are", "IPv4")
            }
            Self::AddMark(_)
            | Self::DeleteService(_)
            | Self::DeleteDestination { .. }
            | Self::Flush
            | Self::SetTimeouts(_)
            | Self::DeleteMark(_)
            | Self::Set { .. } => Ok(()),
        }
    }
}

fn key_in_effect(key: &ServiceKey) -> Result<(), ChangeError> {
    if key.family() == Family::Inet6 {
        return refuse("IPv6 services are", "IPv4");
    }
    match key {
        ServiceKey::Address { protocol: Protocol::Sctp, .. } => {
            refuse("SCTP services are", "TCP and UDP")
        }
        ServiceKey::Address { protocol: Protocol::Tcp | Protocol::Udp, .. }
        | ServiceKey::Fwmark { .. } => Ok(()),
    }
}

fn service_in_effect(service: &VirtualService) -> Result<(), ChangeError> {
    if let Some(engine) = &service.engine {
        return refuse(&format!("persistence engine {engine} is"), "services without --pe");
    }
    Ok(())
}

fn destination_in_effect(destination: &Destination) -> Result<(), ChangeError> {
    if Family::of(destination.key.address) == Family::Inet6 {
        let what = format!("IPv6 destination {} is", destination.key.address);
        return refuse(&what, "IPv4");
    }
    Ok(())
}

fn refuse(what: &str, instead: &str) -> Result<(), ChangeError> {
    let message = format!("{what} not in effect in this release: what works is {instead}");
    Err(ChangeError::Unsupported(message))
}

#[cfg(test)]
mod tests;
