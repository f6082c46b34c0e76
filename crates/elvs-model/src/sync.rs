//! Synchronisation daemons as `ipvsadm --start-daemon` describes them.
//!
//! **Invariant:** a [`SyncDaemon`] in the table has no value left open: what was not said is what the kernel takes.
//!
//! Called by the table, the daemon and `ipvsadm -L --daemon`. Connections are not synchronised in this release: whoever
//! starts a daemon is told so ([`SyncDaemon::WARNING`]).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::ChangeError;

/// What a synchronisation daemon does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncRole {
    /// It sends connections.
    Master,
    /// It receives them.
    Backup,
}

impl SyncRole {
    /// The word of `ipvsadm --start-daemon` and `-L --daemon`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Backup => "backup",
        }
    }

    /// The role of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Master, Self::Backup].into_iter().find(|role| role.name() == name)
    }
}

/// A synchronisation daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncDaemon {
    /// What it does.
    pub role: SyncRole,
    /// Interface of the multicast packets.
    pub interface: String,
    /// A backup takes messages of this id; 0 = of every id.
    pub syncid: u8,
    /// Most bytes of a message behind the UDP header; 0 = what the kernel chooses.
    pub maxlen: u16,
    /// Multicast group.
    pub group: IpAddr,
    /// UDP port of the first thread.
    pub port: u16,
    /// TTL of the multicast packets.
    pub ttl: u8,
}

impl SyncDaemon {
    /// `IP_VS_SYNC_GROUP` (`ip_vs_sync.c`).
    pub const DEFAULT_GROUP: IpAddr = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 81));
    /// `IP_VS_SYNC_PORT`.
    pub const DEFAULT_PORT: u16 = 8848;
    /// TTL where none is given.
    pub const DEFAULT_TTL: u8 = 1;
    /// What an operator is told who starts one.
    pub const WARNING: &str = "the sync daemon is kept and listed, and not in effect in this release: connections are not \
                               synchronised, so those in progress are lost when another director takes over";

    /// The daemon with the length of messages that the kernel settles on for an interface of this MTU
    /// (`start_sync_thread`): a master fills 1,500 bytes, a backup takes what the interface brings.
    #[must_use]
    pub fn on_interface(mut self, mtu: u32) -> Self {
        const ETHERNET_MTU: u32 = 1_500;
        const LARGEST: u32 = 65_535;
        const LEAST_OF_BACKUP: u32 = 1_024;
        let headers = match self.group {
            IpAddr::V4(_) => 20 + 8,
            IpAddr::V6(_) => 40 + 8,
        };
        let (least, mtu) = match self.role {
            SyncRole::Master => (1, ETHERNET_MTU),
            SyncRole::Backup => (LEAST_OF_BACKUP, mtu.clamp(ETHERNET_MTU, LARGEST)),
        };
        let length = match self.maxlen {
            0 => mtu - headers,
            asked => u32::from(asked).clamp(least, LARGEST - headers),
        };
        self.maxlen = u16::try_from(length).unwrap_or(u16::MAX);
        self
    }
}

/// The daemons that were started, at most one of each role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncDaemons(BTreeMap<SyncRole, SyncDaemon>);

impl SyncDaemons {
    /// Those there are, the master first.
    pub fn iter(&self) -> impl Iterator<Item = &SyncDaemon> {
        self.0.values()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn start(&mut self, daemon: SyncDaemon) -> Result<(), ChangeError> {
        if self.0.contains_key(&daemon.role) {
            return Err(ChangeError::SyncDaemonRuns);
        }
        self.0.insert(daemon.role, daemon);
        Ok(())
    }

    pub(crate) fn stop(&mut self, role: SyncRole) -> Result<(), ChangeError> {
        self.0.remove(&role).map(drop).ok_or(ChangeError::NoSyncDaemon)
    }
}

#[cfg(test)]
mod tests;
