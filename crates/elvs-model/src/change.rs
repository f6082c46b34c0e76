//! Changes of the table: what `ipvsadm` commands and reloads are made of.

use std::net::IpAddr;

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
    /// `ipvsadm --add-laddr` of DPVS: a further local address of full NAT.
    AddLocalAddress {
        /// The service that uses it.
        service: ServiceKey,
        /// The director's own address.
        address: IpAddr,
    },
    /// `ipvsadm --del-laddr` of DPVS.
    DeleteLocalAddress {
        /// The service that used it.
        service: ServiceKey,
        /// Which one.
        address: IpAddr,
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

impl Change {
    /// The destination that it adds, edits or (`None`) deletes, and of which service.
    pub const fn of_destination(
        &self,
    ) -> Option<(ServiceKey, DestinationKey, Option<Destination>)> {
        match self {
            Self::AddDestination { service, destination }
            | Self::EditDestination { service, destination } => {
                Some((*service, destination.key, Some(*destination)))
            }
            Self::DeleteDestination { service, destination } => {
                Some((*service, *destination, None))
            }
            Self::AddService(_)
            | Self::EditService(_)
            | Self::DeleteService(_)
            | Self::AddLocalAddress { .. }
            | Self::DeleteLocalAddress { .. }
            | Self::Flush
            | Self::SetTimeouts(_)
            | Self::AddMark(_)
            | Self::DeleteMark(_)
            | Self::Set { .. }
            | Self::StartSync(_)
            | Self::StopSync(_) => None,
        }
    }
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
    /// A local address that the service has already.
    #[error("Local address already exists")]
    LocalAddressExists,
    /// A local address that the service does not have.
    #[error("No such local address")]
    NoSuchLocalAddress,
    /// What full NAT cannot be.
    #[error(transparent)]
    FullNat(FullNatError),
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

/// Rules of full NAT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FullNatError {
    /// Real servers of one service by full NAT and by another method.
    #[error(
        "{service}: FULLNAT cannot be mixed with another forwarding method in one service; give all its real servers the same, or remove the others first"
    )]
    Mixed {
        /// The service.
        service: ServiceKey,
    },
    /// No local address, or the last one would go.
    #[error(
        "{service}: FULLNAT needs a local address; give the service one first (elvs adm --add-laddr -z ADDRESS, or laddr_group_name in the configuration)"
    )]
    NoLocalAddress {
        /// The service.
        service: ServiceKey,
    },
    /// The last local address of a service by full NAT would go.
    #[error(
        "{service}: {address} is the last local address of a FULLNAT service; remove its real servers first, or add another local address"
    )]
    LastLocalAddress {
        /// The service.
        service: ServiceKey,
        /// The address.
        address: IpAddr,
    },
    /// The service cannot be by full NAT.
    #[error("{service}: FULLNAT is for TCP and UDP services by address, not for {what}")]
    Service {
        /// The service.
        service: ServiceKey,
        /// What it is.
        what: FullNatUnfit,
    },
    /// An address that cannot be a local one.
    #[error("{service}: {address} cannot be a local address: {why}")]
    Address {
        /// The service.
        service: ServiceKey,
        /// The address.
        address: IpAddr,
        /// Why.
        why: LocalAddressFault,
    },
    /// A service on an address that is a local one.
    #[error("{service}: its address is a local address of {other}; full NAT needs one of its own")]
    Taken {
        /// The service.
        service: ServiceKey,
        /// The one by full NAT.
        other: ServiceKey,
    },
}

/// Why a service cannot be by full NAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum FullNatUnfit {
    /// By firewall mark.
    #[error("services by firewall mark")]
    Fwmark,
    /// SCTP.
    #[error("SCTP")]
    Sctp,
    /// One-packet scheduling.
    #[error("one-packet scheduling (-o, ops)")]
    OnePacket,
}

/// Why an address cannot be a local one of full NAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum LocalAddressFault {
    /// Of another family than the service.
    #[error("it is not of the service's address family")]
    Family,
    /// No unicast address, or a link-local or loopback one.
    #[error("it is not a unicast address that real servers could answer to")]
    NotUnicast,
    /// A virtual address.
    #[error("it is the address of a virtual service; full NAT needs one of its own")]
    Virtual,
}
