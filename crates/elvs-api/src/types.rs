//! Bodies that are the API's own; the rest are `elvs-model`'s.
//!
//! **Invariant:** a field is only ever added, so that an older client reads a newer daemon.
//!
//! Called by both sides of the socket.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use elvs_model::health::Drained;
use elvs_model::{Change, ChangeError, ServiceKey, ServiceView};
use serde::{Deserialize, Serialize};

/// Version of the interface: the `1` of `/v1`.
pub const API_VERSION: &str = "1";

/// Version of ELVS, sent in the header `elvs-version`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What became of one change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Outcome {
    /// It is in force.
    Ok,
    /// It was refused; the table is as it was before it.
    Refused {
        /// Why.
        reason: ChangeError,
        /// The reason as a sentence.
        message: String,
    },
    /// Another change of the same atomic request was refused.
    NotApplied,
}

impl From<Result<(), ChangeError>> for Outcome {
    fn from(result: Result<(), ChangeError>) -> Self {
        match result {
            Ok(()) => Self::Ok,
            Err(reason) => Self::Refused { message: reason.to_string(), reason },
        }
    }
}

/// What a reload did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Changes made; 0 when the file says what is already in force.
    pub changes: usize,
}

/// What a reload would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Changes of the table, in the order in which they would be made; empty when nothing would change. What is down stays
    /// down: a real server that failed is not added by a reload.
    pub changes: Vec<Change>,
    /// What the daemon has to say of the file that it read: `FILE:LINE:COLUMN: warning: ...`, and of settings that take effect
    /// at the next start only.
    pub findings: Vec<String>,
}

/// A real server that shall get no new connections, or shall get them again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// Which one.
    #[serde(flatten)]
    pub server: Drained,
    /// Whether it drains.
    pub on: bool,
}

/// A director on one screen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Process id of the daemon.
    pub pid: u32,
    /// Version of ELVS.
    pub version: String,
    /// Name of the instance: pins lie in a directory of this name.
    pub instance: String,
    /// Seconds since the daemon started.
    pub uptime_s: u64,
    /// Configuration file, if it was started with one.
    pub config: Option<PathBuf>,
    /// Interfaces that carry the program.
    pub interfaces: Vec<Interface>,
    /// Interfaces by which what the host itself sends is looked at for the director's business; none = it is not.
    #[serde(default)]
    pub local_traffic: Vec<String>,
    /// Whether half-open flows are kept out of the flow table at the moment, because of a flood.
    #[serde(default)]
    pub flooded: bool,
    /// Bytes of the flow table.
    pub table_bytes: u64,
    /// Connections alive.
    pub connections: u64,
    /// Connections the flow table is made for.
    pub connection_capacity: u64,
    /// Drops by reason since the data plane was loaded; reasons with 0 may be left out.
    pub drops: Vec<DropCount>,
    /// Packets by reason that were not dropped: rare events, and those that went to the host's own stack.
    #[serde(default)]
    pub events: Vec<DropCount>,
    /// Destinations that no packet can reach now because their next hop is unresolved.
    pub unresolved: Vec<DestinationState>,
    /// Local addresses of full NAT that are no address of this host, so that no reply reaches it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub foreign_local_addresses: Vec<LocalAddressState>,
    /// Every service, in order of creation.
    pub services: Vec<ServiceView>,
}

/// An interface with the program on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Name, as `ip link` shows it.
    pub name: String,
    /// Index.
    pub index: u32,
    /// How the program is attached.
    pub mode: XdpAttachment,
}

/// How the program is attached to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum XdpAttachment {
    /// In the driver.
    Native,
    /// In the network stack, after the driver made an `sk_buff`.
    Generic,
}

impl XdpAttachment {
    /// The word shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// One counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropCount {
    /// Reason, in words with underscores.
    pub reason: String,
    /// Packets.
    pub packets: u64,
}

/// A local address and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalAddressState {
    /// The address.
    pub address: IpAddr,
    /// What is wrong, and the cure.
    pub problem: String,
}

/// A destination and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationState {
    /// The service it is in.
    pub service: ServiceKey,
    /// The destination.
    pub destination: SocketAddr,
    /// The next hop that does not answer, if a route was found at all.
    pub next_hop: Option<IpAddr>,
    /// What is wrong, as a sentence.
    pub problem: String,
}
