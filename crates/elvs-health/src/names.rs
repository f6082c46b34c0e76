//! Names of virtual and real servers as keepalived writes them in its log, its FIFOs and its mails.
//!
//! **Invariant:** a name depends on the configuration alone.
//!
//! Called where virtual servers are configured.

use elvs_model::health::Watched;
use elvs_model::{DestinationKey, Protocol, ServiceKey};

/// Name of a virtual server; `ordinal` counts the blocks of one group in the order of the file, from 0.
pub(crate) fn watched(watched: &Watched, ordinal: usize) -> String {
    match watched {
        Watched::Service(ServiceKey::Address { protocol, address, port }) => {
            format!("[{address}]:{}:{port}", word(Some(*protocol)))
        }
        Watched::Service(ServiceKey::Fwmark { mark, .. }) => format!("FWM {mark}"),
        Watched::Group(group) => format!("[{}]:{ordinal}", group.name),
    }
}

/// Name of a real server of it.
pub(crate) fn server(watched: &Watched, key: &DestinationKey) -> String {
    let protocol = match watched {
        Watched::Service(ServiceKey::Address { protocol, .. }) => Some(*protocol),
        Watched::Service(ServiceKey::Fwmark { .. }) => None,
        Watched::Group(group) => group.protocol,
    };
    format!("[{}]:{}:{}", key.address, word(protocol), key.port)
}

const fn word(protocol: Option<Protocol>) -> &'static str {
    match protocol {
        Some(Protocol::Tcp) => "tcp",
        Some(Protocol::Udp) => "udp",
        Some(Protocol::Sctp) => "sctp",
        None => "none",
    }
}

#[cfg(test)]
mod tests;
