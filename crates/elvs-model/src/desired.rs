//! What a configuration file asks for.

use serde::{Deserialize, Serialize};

use crate::health::{HealthSettings, ServiceHealth, Watched};
use crate::{Destination, LocalAddresses, MarkRules, Settings, VirtualService};

/// Everything a configuration asks of a director, with defaults left open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// Virtual services in the order of the file; no two have the same key.
    pub services: Vec<DesiredService>,
    /// `lvs_timeouts`, if given.
    pub timeouts: Option<Timeouts>,
    /// `data_plane { ... }`.
    pub data_plane: DataPlaneSettings,
    /// `mark` blocks, in the order of the file; no two are the same.
    #[serde(default)]
    pub marks: MarkRules,
    /// `ipvs { ... }`.
    #[serde(default)]
    pub settings: Settings,
    /// What concerns checks and those who are told of their results.
    #[serde(default)]
    pub health: HealthSettings,
}

/// One virtual service with its destinations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredService {
    /// The service.
    pub service: VirtualService,
    /// Destinations in the order of the file (the order in which they are added).
    pub destinations: Vec<Destination>,
    /// Local addresses of full NAT.
    #[serde(default, skip_serializing_if = "LocalAddresses::is_empty")]
    pub local_addresses: LocalAddresses,
    /// How the service and its real servers are watched.
    #[serde(default, skip_serializing_if = "ServiceHealth::is_default")]
    pub health: ServiceHealth,
}

impl DesiredService {
    /// What the service is watched as.
    pub fn watched(&self) -> Watched {
        let service = || Watched::Service(self.service.key);
        self.health.group.clone().map_or_else(service, Watched::Group)
    }
}

/// Timeouts of `ipvsadm --set` and `lvs_timeouts`, in seconds; 0 keeps the value in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Timeouts {
    /// Established TCP connections.
    pub tcp: u32,
    /// TCP connections after a FIN.
    pub tcp_fin: u32,
    /// UDP flows.
    pub udp: u32,
}

/// The `data_plane` block: what keepalived has no word for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataPlaneSettings {
    /// Interfaces to attach to; empty = found from the routing table.
    pub interfaces: Vec<String>,
    /// Connections the flow table is made for; `None` = 1,048,576.
    pub connections: Option<u32>,
    /// Connections of IPv6 and full NAT that the wide flow table is made for; `None` = a quarter of `connections`.
    pub wide_connections: Option<u32>,
    /// Local addresses of full NAT that there is room for, 1 MiB each; `None` = those of the configuration at the start, and at
    /// least 16.
    #[serde(default)]
    pub local_addresses: Option<u32>,
    /// New flows per second and core above which half-open ones are kept out of the flow table; 0 = any number, `None` =
    /// [`Self::FLOOD_THRESHOLD`].
    #[serde(default)]
    pub flood_threshold: Option<u32>,
    /// How the program is attached.
    pub xdp_mode: XdpMode,
    /// Whether the host's own traffic to its services, and that of real servers on the host itself, is left alone.
    #[serde(default)]
    pub without_local_traffic: bool,
}

impl DataPlaneSettings {
    /// [`Self::flood_threshold`] if it is not given: Katran's (`MAX_CONN_RATE`).
    pub const FLOOD_THRESHOLD: u32 = 125_000;
}

/// How the XDP program is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum XdpMode {
    /// Native where the driver has it, generic otherwise.
    #[default]
    Auto,
    /// Native or fail.
    Native,
    /// Generic.
    Generic,
}
