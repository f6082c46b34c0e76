//! What a virtual server and its real servers ask of the health monitor.
//!
//! **Invariant:** defaults are keepalived's, so a service of which nothing is said is never changed by the monitor.
//!
//! Part of [`crate::health`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::{BfdInstance, Check};
use super::notify::{Notifications, Script};
use crate::{Destination, DestinationKey, Protocol, ServiceKey};

/// What is watched as one: keepalived's virtual server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Watched {
    /// A service by itself.
    Service(ServiceKey),
    /// The services that one `virtual_server group NAME` block makes.
    Group(ServiceGroup),
}

/// A `virtual_server group NAME` block: its services have one state.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ServiceGroup {
    /// Name of the `virtual_server_group`.
    pub name: String,
    /// Protocol of the block, where it has one: a group may be used by one block of each.
    pub protocol: Option<Protocol>,
}

/// Health of a virtual server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceHealth {
    /// The group whose services share one state; `None` = this service alone.
    pub group: Option<ServiceGroup>,
    /// `alpha`: all real servers begin down, until their first check succeeds.
    pub alpha: bool,
    /// `omega`: `quorum_down` and `notify_down` are run when the daemon stops.
    pub omega: bool,
    /// `quorum`: weight that real servers must have together; at least 1.
    pub quorum: u32,
    /// `hysteresis`: how far beyond the quorum before it is gained or lost; below the quorum.
    pub hysteresis: u32,
    /// `quorum_up`.
    pub quorum_up: Option<Script>,
    /// `quorum_down`.
    pub quorum_down: Option<Script>,
    /// `sorry_server`.
    pub sorry_server: Option<SorryServer>,
    /// `ha_suspend`: nothing is checked while the VIP is on no interface of this host.
    pub ha_suspend: bool,
    /// `smtp_alert`: gained and lost quorums are mailed.
    pub mail: bool,
    /// `drain`: how long connections of a removed real server may go on before `on_delete` applies; `None` = for ever.
    pub drain: Option<Duration>,
    /// Real servers, in the order of the file; one for each destination of the service.
    pub servers: Vec<ServerHealth>,
}

impl Default for ServiceHealth {
    fn default() -> Self {
        Self {
            group: None,
            alpha: false,
            omega: false,
            quorum: 1,
            hysteresis: 0,
            quorum_up: None,
            quorum_down: None,
            sorry_server: None,
            ha_suspend: false,
            mail: false,
            drain: None,
            servers: Vec::new(),
        }
    }
}

impl ServiceHealth {
    /// Whether nothing was asked for, and the monitor has nothing to do.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Health of one real server.
    pub fn server(&self, key: &DestinationKey) -> Option<&ServerHealth> {
        self.servers.iter().find(|server| server.key == *key)
    }
}

/// `sorry_server`: takes the traffic while the quorum is lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SorryServer {
    /// The destination, with the method of `sorry_server_lvs_method` and weight 1.
    pub destination: Destination,
    /// `sorry_server_inhibit`: weight 0 instead of removal while it is not needed.
    pub inhibit: bool,
}

/// Health of a real server in one virtual server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerHealth {
    /// Which destination.
    pub key: DestinationKey,
    /// Its checks; it is up when all of them are.
    pub checks: Vec<Check>,
    /// `inhibit_on_failure`: weight 0 instead of removal when it is down.
    pub inhibit_on_failure: bool,
    /// `notify_up`.
    #[serde(default)]
    pub notify_up: Option<Script>,
    /// `notify_down`.
    #[serde(default)]
    pub notify_down: Option<Script>,
    /// `smtp_alert`: changes are mailed.
    #[serde(default)]
    pub mail: bool,
    /// `slow_start`: its weight grows to the full one in this time after it came back.
    #[serde(default)]
    pub slow_start: Option<Duration>,
    /// `passive`: what its connections say.
    #[serde(default)]
    pub passive: Option<Passive>,
    /// `flap_damping`.
    #[serde(default)]
    pub damping: Option<Damping>,
}

impl ServerHealth {
    /// A real server that nothing watches.
    pub const fn unwatched(key: DestinationKey) -> Self {
        Self {
            key,
            checks: Vec::new(),
            inhibit_on_failure: false,
            notify_up: None,
            notify_down: None,
            mail: false,
            slow_start: None,
            passive: None,
            damping: None,
        }
    }
}

/// Passive checks: a real server whose new connections do not come about is suspect and taken for down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passive {
    /// New connections in `window` below which nothing is judged.
    pub least: u32,
    /// Percent of them that must have got no answer or a reset, 1 to 100.
    pub percent: u8,
    /// The time looked back.
    pub window: Duration,
    /// How long a suspect gets no new connections before it is tried again.
    pub hold: Duration,
}

/// Flap damping: each failure soon after a recovery doubles how long the next recovery waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damping {
    /// A failure sooner than this after the recovery counts as a flap.
    pub window: Duration,
    /// How long a recovery is held down after the first flap.
    pub first: Duration,
    /// Longest hold-down.
    pub most: Duration,
}

/// What is done when somebody else changed what the configuration file says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDrift {
    /// The change stays until the file says something else there.
    #[default]
    Keep,
    /// What the file says is restored.
    Restore,
}

/// Settings of the whole director that concern checks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthSettings {
    /// Who is told.
    pub notifications: Notifications,
    /// `bfd_instance` blocks, in the order of the file.
    pub bfd: Vec<BfdInstance>,
    /// `on_drift`.
    pub on_drift: OnDrift,
    /// `lvs_flush`: the table is emptied when the daemon starts.
    pub flush_at_start: bool,
    /// `lvs_flush_on_stop`: the table is emptied when the daemon stops.
    pub flush_at_stop: bool,
}
