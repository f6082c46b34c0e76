//! What this release's data plane forwards, out of everything IPVS can be told.
//!
//! **Invariant:** whatever is not forwarded is refused by name; nothing is accepted and then ignored.
//!
//! Called by the daemon before a change reaches the [`Table`](crate::Table).

use std::net::IpAddr;

use crate::{Change, ChangeError, ServiceKey, VirtualService};

/// Whether a service is forwarded by this release.
///
/// # Errors
/// [`ChangeError::Unsupported`] that names the first value that is not, and what is.
pub fn in_effect(service: &VirtualService) -> Result<(), ChangeError> {
    match service.key {
        ServiceKey::Address { address, .. } => address_in_effect(address),
        ServiceKey::Fwmark { .. } => Ok(()),
    }
}

impl Change {
    /// Whether this release forwards what the change asks for.
    ///
    /// Deletions, flushes and timeouts are always in effect, and so are destinations: what is not forwarded of those
    /// the table refuses as the kernel does. Settings are kept whether they are or not:
    /// [`Setting::warning`](crate::Setting::warning) says which.
    ///
    /// # Errors
    /// As [`in_effect`].
    pub fn in_effect(&self) -> Result<(), ChangeError> {
        match self {
            Self::AddService(service) | Self::EditService(service) => in_effect(service),
            Self::AddDestination { .. }
            | Self::EditDestination { .. }
            | Self::AddMark(_)
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

/// An IPv4 address in IPv6 form (RFC 4291 section 2.5.5.2) is in no packet.
fn address_in_effect(address: IpAddr) -> Result<(), ChangeError> {
    match address {
        IpAddr::V6(mapped) => mapped.to_ipv4_mapped().map_or(Ok(()), |plain| {
            refuse(&format!("IPv4-mapped address {mapped} is"), &plain.to_string())
        }),
        IpAddr::V4(_) => Ok(()),
    }
}

fn refuse(what: &str, instead: &str) -> Result<(), ChangeError> {
    let message = format!("{what} not in effect in this release: what works is {instead}");
    Err(ChangeError::Unsupported(message))
}

#[cfg(test)]
mod tests;
