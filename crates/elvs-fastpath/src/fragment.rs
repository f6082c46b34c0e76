//! Fragments: those without ports follow the first one of their datagram, which has them.
//!
//! The first fragment goes the way of a whole packet and leaves behind where it went; IPVS reassembles instead, which
//! a program in the driver cannot do. One that comes before the first, or whose first was not forwarded, is left to
//! the host's stack: there it completes a datagram for the host itself, and else is forgotten in time.
//!
//! **Invariant:** a fragment goes where the first one of its datagram went, by the same forwarding method, or nowhere.
//!
//! Called by [`crate::director`], and by the program of the stage.

use elvs_common::{
    Counter, DestinationFlags, DestinationRecord, DestinationStats, Method, idle_ticks,
};

use crate::checksum::Delta;
use crate::forward::{address_frame, age, fits, next_hop, send_to};
use crate::frame::{Action, Frame};
use crate::host::{ClientHop, Host, drop};
use crate::packet::{Ipv4, parse_ipv4};
use crate::service::is_virtual;

/// Ticks for which a datagram is remembered: the 30 seconds that the kernel waits for fragments (`ipfrag_time`).
const FRESH_TICKS: u32 = 470;

/// What names a datagram in fragments (RFC 791): addresses, protocol, identification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(C)]
pub struct FragmentKey {
    /// Source (low half) and destination, network order as loaded.
    pub addresses: u64,
    /// Identification as loaded (low half-word), protocol (next byte).
    pub datagram: u64,
}

/// Where the fragments of a datagram go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Fragment {
    /// Index of the destination (low half), tick of the first fragment.
    pub destination_tick: u64,
    /// Bits of the forwarding method (low byte), whether there is one (bit 8), whether it is a reply (bit 9), and the virtual
    /// address of a reply (high half); 0 = none.
    pub way: u64,
}

impl Fragment {
    /// None.
    pub const NONE: Self = Self { destination_tick: 0, way: 0 };
    /// Bit of [`Self::way`]: the other words mean something.
    const KNOWN: u64 = 1 << 8;
    /// Bit of [`Self::way`]: the datagram comes from a masqueraded real server.
    pub(crate) const REPLY: u64 = 1 << 9;

    #[inline(always)]
    pub(crate) const fn new(destination: u32, tick: u32, way: u64) -> Self {
        Self { destination_tick: destination as u64 | (tick as u64) << 32, way: way | Self::KNOWN }
    }

    /// Whether the other words mean something, and the datagram is not long past.
    #[inline(always)]
    pub(crate) const fn is_known(&self, now: u32) -> bool {
        self.way != 0 && idle_ticks(now, self.tick()) <= FRESH_TICKS
    }

    #[inline(always)]
    pub(crate) const fn destination(&self) -> u32 {
        (self.destination_tick & 0xffff_ffff) as u32
    }

    #[inline(always)]
    const fn tick(&self) -> u32 {
        (self.destination_tick >> 32) as u32
    }

    #[inline(always)]
    pub(crate) const fn method(&self) -> u32 {
        (self.way & 0xff) as u32
    }

    /// Whether the datagram goes by full NAT.
    #[inline(always)]
    pub(crate) const fn is_full_nat(&self) -> bool {
        self.method() == Method::FullNat as u32
    }

    /// Number that the director has given a client's datagram by full NAT.
    #[inline(always)]
    pub(crate) const fn number(&self) -> u32 {
        (self.way >> 32) as u32
    }

    /// Virtual address of a reply.
    #[inline(always)]
    const fn address(&self) -> u32 {
        (self.way >> 32) as u32
    }
}

/// Remembers where a client's first fragment goes.
#[inline(always)]
pub(crate) fn lead_request<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    ip: &Ipv4,
    destination: u32,
    method: u32,
) {
    let Some(key) = key(frame, ip) else { return };
    host.remember_fragment(&key, &Fragment::new(destination, host.tick(), method as u64));
}

/// Remembers what becomes of a real server's first fragment.
#[inline(always)]
pub(crate) fn lead_reply<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    ip: &Ipv4,
    destination: u32,
    address: u32,
) {
    let Some(key) = key(frame, ip) else { return };
    let way = Fragment::REPLY | (address as u64) << 32;
    host.remember_fragment(&key, &Fragment::new(destination, host.tick(), way));
}

#[inline(always)]
fn key<F: Frame>(frame: &mut F, ip: &Ipv4) -> Option<FragmentKey> {
    frame.forget();
    let id = frame.half(ip.offset + 4)?;
    Some(FragmentKey {
        addresses: ip.source as u64 | (ip.destination as u64) << 32,
        datagram: id as u64 | (ip.protocol as u64) << 16,
    })
}

/// Stage of [`crate::process`] for fragments without ports.
#[inline(always)]
pub fn forward_fragment<H: Host, F: Frame>(host: &H, frame: &mut F) -> Action {
    let Some(ip) = parse_ipv4(host, frame) else { return Action::PASS };
    let Some(key) = key(frame, &ip) else { return Action::PASS };
    let found = host.fragment(&key);
    if !found.is_known(host.tick()) {
        if is_virtual(host, ip.destination) {
            host.count(Counter::Fragment);
        }
        return Action::PASS;
    }
    let Some(destination) = host.destination(found.destination()) else {
        return drop(host, Counter::Bug);
    };
    if found.way & Fragment::REPLY != 0 {
        return reply(host, frame, &ip, &found);
    }
    request(host, frame, &ip, &found, destination)
}

/// A client's fragment.
#[inline(always)]
fn request<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    ip: &Ipv4,
    found: &Fragment,
    destination: &DestinationRecord,
) -> Action {
    if destination.flags & DestinationFlags::LOCAL != 0 {
        return Action::PASS;
    }
    if destination.flags & DestinationFlags::AVAILABLE == 0 {
        return drop(host, Counter::DestinationGone);
    }
    // RFC 1122 section 3.2.2: only the first fragment is answered.
    if ip.ttl <= 1 {
        return drop(host, Counter::TtlExpired);
    }
    let method = found.method();
    if !fits(ip, method, destination) {
        return drop(host, Counter::NotFragmented);
    }
    let Some(hop) = next_hop(host, destination) else { return drop(host, Counter::NoNextHop) };
    host.count(Counter::FragmentForwarded);
    host.add_stats(found.destination(), DestinationStats::input(ip.length as u64));
    if method != Method::Nat as u32 {
        return send_to::<false, _, _>(host, frame, ip, method, destination, &hop);
    }
    if !readdress(frame, ip, destination.address, false) {
        return drop(host, Counter::Bug);
    }
    frame.forget();
    address_frame(frame, &hop).unwrap_or(Action::DROP)
}

/// A real server's fragment.
#[inline(always)]
fn reply<H: Host, F: Frame>(host: &H, frame: &mut F, ip: &Ipv4, found: &Fragment) -> Action {
    if ip.ttl <= 1 {
        return drop(host, Counter::TtlExpired);
    }
    let ClientHop::Known(hop) = host.client_hop(ip.destination, None) else {
        return drop(host, Counter::NoNextHop);
    };
    host.count(Counter::FragmentForwarded);
    host.add_stats(found.destination(), DestinationStats::output(ip.length as u64));
    if !readdress(frame, ip, found.address(), true) {
        return drop(host, Counter::Bug);
    }
    frame.forget();
    address_frame(frame, &hop).unwrap_or(Action::DROP)
}

/// Replaces one address of a packet, and ages it; checksums of what follows the header are not touched. False, and nothing
/// is changed, if the header is not there.
#[inline(always)]
pub(crate) fn readdress<F: Frame>(frame: &mut F, ip: &Ipv4, address: u32, source: bool) -> bool {
    let Some(header) = frame.window::<20>(ip.offset) else { return false };
    let [a0, a1, a2, a3] = address.to_ne_bytes();
    let [_, _, _, _, _, _, _, _, _, _, c0, c1, s0, s1, s2, s3, d0, d1, d2, d3] = header;
    let old = if source {
        (*s0, *s1, *s2, *s3) = (a0, a1, a2, a3);
        ip.source
    } else {
        (*d0, *d1, *d2, *d3) = (a0, a1, a2, a3);
        ip.destination
    };
    let checksum = u16::from_ne_bytes([*c0, *c1]);
    [*c0, *c1] = Delta::default().word(old, address).apply(checksum).to_ne_bytes();
    age(header);
    true
}
