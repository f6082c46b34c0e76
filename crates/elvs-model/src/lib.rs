//! Domain types of ELVS: what a virtual service and a destination are, the table they form, and how it changes.
//!
//! **Invariant:** nothing here does I/O, reads a clock or knows how a packet is forwarded. Every value that can be
//! built is meaningful: ranges are checked where text or JSON becomes a type.
//!
//! Called by the configuration reader (which builds a [`Desired`]), by the `ipvsadm` front end (which builds
//! [`Change`]s), and by the daemon, which keeps the one [`Table`] and hands it to the data plane.

mod capability;
mod change;
mod desired;
mod diff;
mod filter;
pub mod health;
mod local;
mod mark;
mod service;
mod setting;
mod sync;
mod table;
mod view;

pub use capability::in_effect;
pub use change::{Change, ChangeError, FullNatError, FullNatUnfit, LocalAddressFault};
pub use desired::{DataPlaneSettings, Desired, DesiredService, Timeouts, XdpMode};
pub use diff::diff;
pub use filter::{ConnectionFilter, EndpointFilter, FilterError};
pub use local::{LocalAddresses, LocalRange, LocalRangeError, with_last_part};
pub use mark::{
    InterfaceName, IpProtocol, Mark, MarkRule, MarkRuleError, MarkRuleSyntaxError, MarkRules,
    MarkSyntaxError, MarkedPacket, PortRange, Prefix,
};
pub use service::{
    Destination, DestinationKey, Family, ForwardingMethod, Netmask, OnDelete, Persistence,
    Protocol, Scheduler, SchedulerFlags, ServiceKey, TunnelChecksum, TunnelKind, UnknownName,
    VirtualService,
};
pub use setting::{
    MAGLEV_PRIMES, Setting, SettingError, SettingSupport, SettingValue, SettingView, Settings,
};
pub use sync::{SyncDaemon, SyncDaemons, SyncRole};
pub use table::{INITIAL_TIMEOUTS, Table, TableService};
pub use view::{
    ConnectionState, ConnectionView, DestinationView, LocalAddressView, NodeInfo, Rates,
    ServiceView, Statistics,
};
