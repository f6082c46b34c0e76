//! What a running director shows: services with counters and rates, connections, the node.
//!
//! **Invariant:** views are snapshots; nothing here is read back to decide how a packet is forwarded.
//!
//! Called by the daemon (which fills them), the API and every command that lists something.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{Destination, VirtualService};

/// Counters since the start or the last `ipvsadm -Z`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Statistics {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets to clients that passed the director (NAT).
    pub out_packets: u64,
    /// Bytes from clients, from the IP header on.
    pub in_bytes: u64,
    /// Bytes to clients that passed the director, from the IP header on.
    pub out_bytes: u64,
}

/// Estimated rates, each per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rates {
    /// Connections per second.
    pub connections: u64,
    /// Packets from clients per second.
    pub in_packets: u64,
    /// Packets to clients per second.
    pub out_packets: u64,
    /// Bytes from clients per second.
    pub in_bytes: u64,
    /// Bytes to clients per second.
    pub out_bytes: u64,
}

/// A virtual service as listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceView {
    /// The service.
    pub service: VirtualService,
    /// Counters over all its destinations, past ones included.
    pub statistics: Statistics,
    /// Rates over all its destinations.
    pub rates: Rates,
    /// Its destinations, newest first.
    pub destinations: Vec<DestinationView>,
    /// Its local addresses of full NAT in the order in which they were added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub local_addresses: Vec<LocalAddressView>,
}

/// A local address of full NAT as listed; services may share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalAddressView {
    /// The address.
    pub address: IpAddr,
    /// Ports that connections use.
    pub in_use: u32,
    /// Ports that are free.
    pub free: u32,
    /// Connections that found no free port.
    pub exhausted: u64,
}

/// A destination as listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationView {
    /// The destination.
    pub destination: Destination,
    /// Connections that count as active (lvs: ESTABLISHED, SYN_SENT, SYN_RECV, SYNACK).
    pub active: u32,
    /// The other connections.
    pub inactive: u32,
    /// Persistence templates.
    pub persistent: u32,
    /// Counters.
    pub statistics: Statistics,
    /// Rates.
    pub rates: Rates,
}

/// State of a connection, as `ipvsadm -Lc` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ConnectionState {
    /// No state yet; a template without an established connection.
    None,
    /// TCP and SCTP.
    Established,
    /// TCP.
    SynSent,
    /// TCP.
    SynRecv,
    /// TCP.
    FinWait,
    /// TCP.
    TimeWait,
    /// TCP.
    Close,
    /// TCP.
    CloseWait,
    /// TCP.
    LastAck,
    /// TCP.
    Listen,
    /// TCP.
    #[serde(rename = "SYNACK")]
    SynAck,
    /// SCTP: the client's first INIT.
    Init1,
    /// SCTP: a further INIT.
    Init,
    /// SCTP.
    #[serde(rename = "C-SENT")]
    CookieSent,
    /// SCTP.
    #[serde(rename = "C-REPLIED")]
    CookieReplied,
    /// SCTP.
    #[serde(rename = "C-WAIT")]
    CookieWait,
    /// SCTP.
    Cookie,
    /// SCTP.
    #[serde(rename = "C-ECHOED")]
    CookieEchoed,
    /// SCTP.
    #[serde(rename = "S-SENT")]
    ShutdownSent,
    /// SCTP.
    #[serde(rename = "S-RECEIVED")]
    ShutdownReceived,
    /// SCTP.
    #[serde(rename = "S-ACK-SENT")]
    ShutdownAckSent,
    /// SCTP.
    Rejected,
    /// SCTP.
    Closed,
    /// UDP's only state.
    Udp,
    /// A persistence template that controls an established connection.
    Assured,
}

impl ConnectionState {
    /// Every state.
    pub const ALL: [Self; 25] = [
        Self::None,
        Self::Established,
        Self::SynSent,
        Self::SynRecv,
        Self::FinWait,
        Self::TimeWait,
        Self::Close,
        Self::CloseWait,
        Self::LastAck,
        Self::Listen,
        Self::SynAck,
        Self::Init1,
        Self::Init,
        Self::CookieSent,
        Self::CookieReplied,
        Self::CookieWait,
        Self::Cookie,
        Self::CookieEchoed,
        Self::ShutdownSent,
        Self::ShutdownReceived,
        Self::ShutdownAckSent,
        Self::Rejected,
        Self::Closed,
        Self::Udp,
        Self::Assured,
    ];

    /// The word `ipvsadm -Lc` prints.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Established => "ESTABLISHED",
            Self::SynSent => "SYN_SENT",
            Self::SynRecv => "SYN_RECV",
            Self::FinWait => "FIN_WAIT",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::Listen => "LISTEN",
            Self::SynAck => "SYNACK",
            Self::Init1 => "INIT1",
            Self::Init => "INIT",
            Self::CookieSent => "C-SENT",
            Self::CookieReplied => "C-REPLIED",
            Self::CookieWait => "C-WAIT",
            Self::Cookie => "COOKIE",
            Self::CookieEchoed => "C-ECHOED",
            Self::ShutdownSent => "S-SENT",
            Self::ShutdownReceived => "S-RECEIVED",
            Self::ShutdownAckSent => "S-ACK-SENT",
            Self::Rejected => "REJECTED",
            Self::Closed => "CLOSED",
            Self::Udp => "UDP",
            Self::Assured => "ASSURED",
        }
    }
}

/// A connection, or a persistence template, as listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionView {
    /// IP protocol number: 6, 17, 132; 0 for the template of a firewall-mark service.
    pub protocol: u8,
    /// Seconds until it expires if no packet comes.
    pub expires_s: u32,
    /// Its state.
    pub state: ConnectionState,
    /// Client; port 0 in a template.
    pub client: SocketAddr,
    /// Virtual address; of a firewall-mark template the mark written as an address.
    pub service: SocketAddr,
    /// Destination.
    pub destination: SocketAddr,
    /// Persistence engine's name and its data (SIP: the Call-ID), if one made the entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<(String, String)>,
}

/// What a director says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Version of ELVS.
    pub version: String,
    /// Size that `ipvsadm -L` prints in its first line: buckets of the connection table.
    pub connection_table_size: u32,
}
