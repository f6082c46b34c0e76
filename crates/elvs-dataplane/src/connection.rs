//! Connections as they are listed, read from the flow table while packets change it.
//!
//! **Invariant:** what is shown of a connection was true of it at one moment: its words are read between two reads of
//! its control word that agree on phase and generation.
//!
//! Called by [`crate::Director`]; order is that of the table.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use elvs_common::{
    Control, DestinationFlags, DestinationRecord, SCTP, SctpState, Settings, TAIL_BUCKETS, TCP,
    TcpState, UDP, WideAddress, template_protocol,
};
use elvs_fastpath::{
    AddressValue, Addresses, Atomic64, FlowMemory, Slot, WideValue, client_port_of, destination_of,
    virtual_port_of,
};
use elvs_model::{ConnectionState, ConnectionView};

use crate::assignments::{FTP, SIP_ENGINE};
use crate::backend::{Backend, Now};
use crate::calls::call_of_template;
use crate::sweep::template_ticks;

/// Times a slot is read again when packets change it meanwhile.
const TRIES: u32 = 8;

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// IP protocol number; [`elvs_common::MARKED`] for a template of a service by firewall mark.
    pub protocol: u8,
    /// Whether it is a persistence template.
    pub template: bool,
    /// Its state.
    pub state: ConnectionState,
    /// Whole seconds until it expires if no packet comes.
    pub expires_s: u32,
    /// Client.
    pub client: SocketAddr,
    /// Virtual service.
    pub service: SocketAddr,
    /// Real server.
    pub destination: SocketAddr,
    /// Index of the destination.
    pub index: u32,
    /// Call-ID that a template goes by.
    pub call_id: Option<Box<[u8]>>,
}

impl From<Connection> for ConnectionView {
    fn from(connection: Connection) -> Self {
        let Connection {
            protocol,
            template: _,
            state,
            expires_s,
            client,
            service,
            destination,
            index: _,
            call_id,
        } = connection;
        let engine =
            call_id.map(|id| (SIP_ENGINE.to_owned(), String::from_utf8_lossy(&id).into_owned()));
        Self { protocol, expires_s, state, client, service, destination, engine }
    }
}

/// The words of a live slot at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Live {
    pub(crate) control: Control,
    /// As the wide table has them.
    pub(crate) addresses: WideValue,
    pub(crate) ports_destination: u64,
}

impl Live {
    /// Client's address.
    pub(crate) const fn client(&self) -> WideAddress {
        let [first, second, ..] = self.addresses;
        WideAddress([first, second])
    }

    /// Virtual address.
    pub(crate) const fn address(&self) -> WideAddress {
        let [_, _, first, second, _] = self.addresses;
        WideAddress([first, second])
    }
}

/// Reads a slot; `None` if it holds no connection, or a new one each time it is looked at.
pub(crate) fn read<W: Atomic64, A: Addresses>(slot: &Slot<W, A>) -> Option<Live> {
    for _ in 0..TRIES {
        let control = Control(slot.control.load());
        if !control.is_live() {
            return None;
        }
        let addresses = slot.addresses.read().widened();
        let ports_destination = slot.ports_destination.load();
        let again = Control(slot.control.load());
        if control.same_connection(again) {
            return Some(Live { control: again, addresses, ports_destination });
        }
    }
    None
}

/// The live entries of the buckets from `first` to before `end`, in both tables: those of the wide one come after those of
/// the other.
pub(crate) fn entries<B: Backend>(
    backend: &B,
    first: u32,
    end: u32,
) -> impl Iterator<Item = Live> + '_ {
    let narrow = (first..end).map_while(|index| backend.bucket(index));
    let before = narrow_buckets(backend);
    let wide =
        (first.max(before)..end).map_while(move |index| backend.wide().bucket(index - before));
    narrow
        .flat_map(|bucket| bucket.slots.iter().filter_map(read))
        .chain(wide.flat_map(|bucket| bucket.slots.iter().filter_map(read)))
}

/// Buckets of the table of IPv4 connections, its tail included.
pub(crate) fn narrow_buckets<B: Backend>(backend: &B) -> u32 {
    backend.settings().buckets.saturating_add(TAIL_BUCKETS)
}

/// All connections, in table order.
pub struct Connections<'a, B> {
    backend: &'a B,
    settings: Settings,
    now: Now,
    entries: Box<dyn Iterator<Item = Live> + 'a>,
}

impl<B> std::fmt::Debug for Connections<'_, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connections").field("now", &self.now).finish_non_exhaustive()
    }
}

impl<'a, B: Backend> Connections<'a, B> {
    pub(crate) fn new(backend: &'a B) -> Self {
        Self::between(backend, 0, u32::MAX)
    }

    /// Those in the buckets `first..end`; see [`entries`].
    pub(crate) fn between(backend: &'a B, first: u32, end: u32) -> Self {
        let (settings, now) = (backend.settings(), backend.now());
        Self { backend, settings, now, entries: Box::new(entries(backend, first, end)) }
    }

    fn show(&self, live: &Live) -> Connection {
        let index = destination_of(live.ports_destination);
        let record = self.backend.record(index).unwrap_or_default();
        let virtual_port = virtual_port_of(live.ports_destination);
        // A destination on all ports gets the virtual one, and so does every data connection of FTP.
        let port = if record.port == 0 || takes_ftp_data(&record) && virtual_port != FTP.to_be() {
            virtual_port
        } else {
            record.port
        };
        let template = live.control.is_template();
        let (protocol, state, ticks) = if template {
            let protocol = template_protocol(live.control.protocol());
            let assured = live.control.assured();
            let state = if assured { ConnectionState::Assured } else { ConnectionState::None };
            (protocol, state, template_ticks(self.backend, &self.settings, live))
        } else {
            let protocol = live.control.protocol();
            let number = live.control.state();
            (protocol, state(protocol, number), self.settings.timeout(protocol, number))
        };
        let mut client = socket(live.client(), client_port_of(live.ports_destination));
        let mut call_id = None;
        if let Some(hash) = call_of_template(live) {
            let call = self.backend.call(hash);
            let address = call.map_or_else(|| unspecified(live), |call| call.client);
            client = socket(address, 0);
            call_id = call.map(|call| call.id().into());
        }
        Connection {
            protocol,
            template,
            state,
            expires_s: self.expires(live.control, ticks),
            client,
            service: socket(live.address(), virtual_port_of(live.ports_destination)),
            destination: socket(address_of(&record), port),
            index,
            call_id,
        }
    }

    /// Whole seconds left, as the kernel prints them: `(expires - jiffies) / HZ`.
    fn expires(&self, control: Control, ticks: u32) -> u32 {
        let hz = u64::from(self.settings.jiffies_per_second.max(1));
        // Timeouts are whole seconds; their ticks were rounded up.
        let timeout = (u64::from(ticks) << self.now.tick_shift) / hz * hz;
        let left = timeout.saturating_sub(self.now.idle_jiffies(control.tick()));
        u32::try_from(left / hz).unwrap_or(u32::MAX)
    }
}

impl<B: Backend> Iterator for Connections<'_, B> {
    type Item = Connection;

    fn next(&mut self) -> Option<Connection> {
        let live = self.entries.find(|live| !live.control.is_locality())?;
        Some(self.show(&live))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, None)
    }
}

/// Whether a destination's service may take FTP's data connections: its templates are for all ports, though it has one.
const fn takes_ftp_data(record: &DestinationRecord) -> bool {
    record.flags & DestinationFlags::SHARED_TEMPLATE != 0 && record.template_address == 0
}

/// The unspecified address of the family of an entry's service.
const fn unspecified(live: &Live) -> WideAddress {
    if live.address().is_v4() { WideAddress::of_v4(0) } else { WideAddress([0; 2]) }
}

/// Address of a destination.
fn address_of(record: &DestinationRecord) -> WideAddress {
    if record.flags & DestinationFlags::IPV6 != 0 {
        WideAddress::of_bytes(record.address6)
    } else {
        WideAddress::of_v4(record.address)
    }
}

fn socket(address: WideAddress, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::from(address.bytes())).to_canonical(), u16::from_be(port))
}

/// State of a protocol's number; what is neither TCP nor SCTP has the one state of UDP.
fn state(protocol: u8, number: u8) -> ConnectionState {
    debug_assert!([TCP, UDP, SCTP].contains(&protocol), "protocol {protocol} is in the flow table");
    match protocol {
        TCP => tcp_state(number),
        SCTP => sctp_state(number),
        _ => ConnectionState::Udp,
    }
}

fn tcp_state(number: u8) -> ConnectionState {
    match TcpState::of_bits(number) {
        TcpState::Established => ConnectionState::Established,
        TcpState::SynSent => ConnectionState::SynSent,
        TcpState::SynRecv => ConnectionState::SynRecv,
        TcpState::FinWait => ConnectionState::FinWait,
        TcpState::TimeWait => ConnectionState::TimeWait,
        TcpState::Close => ConnectionState::Close,
        TcpState::CloseWait => ConnectionState::CloseWait,
        TcpState::LastAck => ConnectionState::LastAck,
        TcpState::Listen => ConnectionState::Listen,
        TcpState::SynAck => ConnectionState::SynAck,
        TcpState::None => ConnectionState::None,
    }
}

fn sctp_state(number: u8) -> ConnectionState {
    match SctpState::ALL.get(usize::from(number)) {
        Some(SctpState::Init1) => ConnectionState::Init1,
        Some(SctpState::Init) => ConnectionState::Init,
        Some(SctpState::CookieSent) => ConnectionState::CookieSent,
        Some(SctpState::CookieReplied) => ConnectionState::CookieReplied,
        Some(SctpState::CookieWait) => ConnectionState::CookieWait,
        Some(SctpState::Cookie) => ConnectionState::Cookie,
        Some(SctpState::CookieEchoed) => ConnectionState::CookieEchoed,
        Some(SctpState::Established) => ConnectionState::Established,
        Some(SctpState::ShutdownSent) => ConnectionState::ShutdownSent,
        Some(SctpState::ShutdownReceived) => ConnectionState::ShutdownReceived,
        Some(SctpState::ShutdownAckSent) => ConnectionState::ShutdownAckSent,
        Some(SctpState::Rejected) => ConnectionState::Rejected,
        Some(SctpState::Closed) => ConnectionState::Closed,
        Some(SctpState::None) | None => ConnectionState::None,
    }
}
