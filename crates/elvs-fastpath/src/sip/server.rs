//! Messages that masqueraded real servers begin with: their clients' answers come back to them, by connection or by Call-ID
//! (`ip_vs_sip_conn_out`).
//!
//! **Invariant:** what is none of a service's, or has no Call-ID, leaves as it came.
//!
//! Called by [`crate::director`] for datagrams of no known connection, if there are services with the engine.

use elvs_common::{
    Counter, DestinationFlags, DestinationStats, Method, PersistenceLine, ServiceFlags,
    ServiceRecord, UDP, WideAddress,
};

use super::{keep_caller, note_call};
use crate::flow::{FlowKey, WideValue};
use crate::frame::{Action, Frame};
use crate::host::{ClientHop, Host, Note, drop, give_load};
use crate::open::{Remembered, opened};
use crate::packet::Transport;
use crate::report::{Report, refuse_and_tell_wide};
use crate::schedule::{Asked, Pick};
use crate::service::{find_call_server, service_record};
use crate::tcp::TcpFlags;
use crate::wide::{Ends, WidePacket, own_address, parse_datagram, readdress};

/// A masqueraded real server of a service with the engine, and the service.
struct Server {
    index: u32,
    once: bool,
    /// What the service's templates go by.
    service: PersistenceLine,
}

impl Server {
    /// The sender of a packet.
    #[inline(always)]
    fn of<H: Host>(host: &H, packet: &WidePacket, transport: &Transport) -> Option<Self> {
        let line = find_call_server(host, packet.source, transport.source_port())?;
        let ServiceRecord { index, flags, pool_line, .. } = service_record(line);
        let service = PersistenceLine::of_line(host.line(pool_line.wrapping_sub(1))?);
        let destination = host.destination(index)?;
        let present = destination.flags & DestinationFlags::AVAILABLE != 0;
        let once = flags & ServiceFlags::ONE_PACKET != 0;
        (present && destination.method == Method::Nat as u32).then_some(Self {
            index,
            once,
            service,
        })
    }

    /// Key of the connection that its packet is of.
    #[inline(always)]
    const fn key(&self, packet: &WidePacket, transport: &Transport) -> FlowKey<WideValue> {
        let address = WideAddress(self.service.wide_address);
        let (client_port, port) = (transport.destination_port(), self.service.port);
        FlowKey::wide(packet.destination, address, client_port, port, UDP)
    }
}

/// The stage for datagrams of masqueraded real servers: the template of the Call-ID is made as if the receiver had asked first. The
/// rest is left to [`send_for_server`].
#[inline(always)]
pub fn open_for_server<H: Host, F: Frame>(host: &H, frame: &mut F) -> Action {
    let Some((packet, transport)) = parse_datagram(host, frame) else { return Action::PASS };
    let Some(server) = Server::of(host, &packet, &transport) else { return Action::PASS };
    let (WideAddress([first, second]), [m0, m1]) = (packet.destination, server.service.wide_mask);
    let hash = note_call(host, frame, &packet, WideAddress([first & m0, second & m1]));
    if hash == 0 {
        return Action::PASS;
    }
    // Looked up anew: kept over the search, it would take more than the kernel's stack has.
    frame.forget();
    let Some((packet, transport)) = parse_datagram(host, frame) else { return Action::PASS };
    let Some(server) = Server::of(host, &packet, &transport) else { return Action::PASS };
    let key = server.key(&packet, &transport);
    if !take_template(host, &key, frame.ingress(), server.index) {
        return drop(host, Counter::TableFull);
    }
    Action::SIP_SEND
}

/// The stage after [`open_for_server`]: makes the connection, or without connections (one-packet scheduling) sends the datagram
/// as if it were known.
#[inline(always)]
pub fn send_for_server<H: Host, F: Frame>(host: &H, frame: &mut F) -> Action {
    let Some((packet, transport)) = parse_datagram(host, frame) else { return Action::PASS };
    let Some(server) = Server::of(host, &packet, &transport) else { return Action::PASS };
    if !server.once {
        let key = server.key(&packet, &transport);
        keep_caller(host, &key, host.noted(Note::Call));
        if !connect(host, &key, server.index) {
            return drop(host, Counter::TableFull);
        }
        // The reply of a known connection now.
        return if packet.ipv6 { Action::WIDE_REPLY } else { Action::GENERAL };
    }
    if packet.ttl <= 1 {
        let source = host.destination(server.index).map_or(WideAddress([0; 2]), own_address);
        return refuse_and_tell_wide(host, Counter::TtlExpired, Report::TIME_EXCEEDED, source);
    }
    let ClientHop::Known(hop) = host.wide_client_hop(packet.destination, None) else {
        return drop(host, Counter::NoNextHop);
    };
    let stats =
        DestinationStats { connections: 1, ..DestinationStats::output(packet.length as u64) };
    host.add_stats(server.index, stats);
    let ends = Ends {
        source: WideAddress(server.service.wide_address),
        source_port: server.service.port,
        destination: packet.destination,
        destination_port: transport.destination_port(),
    };
    readdress(host, frame, &packet, &transport, &hop, &ends)
        .unwrap_or_else(|| drop(host, Counter::Bug))
}

/// Renews the template of the Call-ID that is noted, or makes it; false if there is no room.
#[inline(always)]
fn take_template<H: Host>(
    host: &H,
    key: &FlowKey<WideValue>,
    ingress: u32,
    destination: u32,
) -> bool {
    let narrow = key.wide_address().is_v4();
    let picked = if narrow {
        host.pick(&key.fold(), ingress, Asked::Call)
    } else {
        host.wide_pick(key, ingress, Asked::Call)
    };
    if picked != Pick::NoTemplate {
        return true;
    }
    let made = if narrow {
        host.memorize(&key.fold(), ingress, destination, 0)
    } else {
        host.wide_memorize(key, ingress, destination, 0)
    };
    made != Remembered::Full && made != Remembered::Contended
}

/// Makes the connection; false if there is no room.
#[inline(always)]
fn connect<H: Host>(host: &H, key: &FlowKey<WideValue>, index: u32) -> bool {
    let control = opened(host, UDP, TcpFlags(0), Method::Nat as u32, false);
    let remembered = if key.wide_address().is_v4() {
        host.remember(&key.fold(), control, index)
    } else {
        host.wide_remember(key, control, index)
    };
    if remembered == Remembered::New {
        give_load(host, index, control.inactive());
        host.add_stats(index, DestinationStats { connections: 1, ..DestinationStats::default() });
    }
    remembered != Remembered::Full && remembered != Remembered::Contended
}
