//! Changes of the table: what `ipvsadm` commands and reloads are made of.

use serde::{Deserialize, Serialize};

use crate::{
    Destination, DestinationKey, MarkRule, ServiceKey, Setting, SettingValue, SyncDaemon, SyncRole,
    Timeouts, VirtualService,
};

/// One change of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// `ipvsadm -A`.
    AddService(VirtualService),
    /// `ipvsadm -E`: replaces everything but the key.
    EditService(VirtualService),
    /// `ipvsadm -D`.
    DeleteService(ServiceKey),
    /// `ipvsadm -a`.
    AddDestination {
        /// The service it joins.
        service: ServiceKey,
        /// The new destination.
        destination: Destination,
    },
    /// `ipvsadm -e`: replaces everything but the key.
    EditDestination {
        /// The service it is in.
        service: ServiceKey,
        /// The destination as it shall be.
        destination: Destination,
    },
    /// `ipvsadm -d`.
    DeleteDestination {
        /// The service it is in.
        service: ServiceKey,
        /// Which one.
        destination: DestinationKey,
    },
    /// `ipvsadm -C`.
    Flush,
    /// `ipvsadm --set`.
    SetTimeouts(Timeouts),
    /// `elvs mark add`: the rule is tried after those that are there.
    AddMark(MarkRule),
    /// `elvs mark del`.
    DeleteMark(MarkRule),
    /// `elvs set`.
    Set {
        /// Which setting.
        setting: Setting,
        /// Its value.
        value: SettingValue,
    },
    /// `ipvsadm --start-daemon`.
    StartSync(SyncDaemon),
    /// `ipvsadm --stop-daemon`.
    StopSync(SyncRole),
}

/// Why a change was refused. Each variant is one `errno` of the kernel's IPVS, a rule of mark rules, or a
/// bound of this data plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ChangeError {
    /// EEXIST of add service.
    #[error("Service already exists")]
    ServiceExists,
    /// ESRCH of edit, delete, zero and get service.
    #[error("No such service")]
    NoSuchService,
    /// ESRCH of add, edit and delete server.
    #[error("Service not defined")]
    ServiceNotDefined,
    /// EEXIST of add server.
    #[error("Destination already exists")]
    DestinationExists,
    /// ENOENT of edit and delete server.
    #[error("No such destination")]
    NoSuchDestination,
    /// ENOENT of add and edit service.
    #[error("Scheduler or persistence engine not found")]
    SchedulerNotFound,
    /// ERANGE: weight below 0, lower threshold above the upper one.
    #[error("Numerical result out of range")]
    OutOfRange,
    /// EINVAL.
    #[error("Invalid operation.  Possibly wrong module version, address not unicast, ...")]
    Invalid,
    /// EEXIST of start daemon.
    #[error("Daemon has already run")]
    SyncDaemonRuns,
    /// ESRCH of stop daemon.
    #[error("No daemon is running")]
    NoSyncDaemon,
    /// ENODEV of start daemon.
    #[error("No such device")]
    NoSuchDevice,
    /// A mark rule that is there already.
    #[error("mark rule already exists")]
    MarkRuleExists,
    /// A mark rule that is not there.
    #[error("no such mark rule: `elvs mark list` shows those there are")]
    NoSuchMarkRule,
    /// What this data plane does not forward yet; the text names it.
    #[error("{0}")]
    Unsupported(String),
}
