//! What the data plane of a release can do: the one place to widen when it learns more.
//!
//! **Invariant:** the reader parses the whole language whatever is set here; capabilities only decide what is refused
//! and what is reported as not yet in effect.
//!
//! Passed in [`crate::Options`] by the daemon and by `elvs check`.

use elvs_model::{Family, Protocol, Scheduler};

use crate::keywords::Feature;

/// What can be put into effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Schedulers that run.
    pub schedulers: &'static [Scheduler],
    /// Protocols of virtual services.
    pub protocols: &'static [Protocol],
    /// Address families of virtual and real servers.
    pub families: &'static [Family],
    /// Tunnels by GUE.
    pub gue: bool,
    /// Tunnels by GRE.
    pub gre: bool,
    /// Services on every port (port 0).
    pub any_port: bool,
    /// Features of keywords.
    pub features: &'static [Feature],
}

impl Capabilities {
    /// What this release's data plane does: all schedulers; TCP, UDP and SCTP over IPv4 and IPv6; NAT, DR and
    /// TUN by ipip, gue and gre.
    pub const THIS_RELEASE: Self = Self {
        schedulers: &Scheduler::ALL,
        protocols: &[Protocol::Tcp, Protocol::Udp, Protocol::Sctp],
        families: &[Family::Inet, Family::Inet6],
        gue: true,
        gre: true,
        any_port: true,
        features: &[
            Feature::SchedulerFlags,
            Feature::Persistence,
            Feature::OnePacket,
            Feature::Thresholds,
            Feature::Fwmark,
        ],
    };
}

impl Default for Capabilities {
    fn default() -> Self {
        Self::THIS_RELEASE
    }
}
