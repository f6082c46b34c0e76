//! Service lookup in the configuration blob.

use elvs_common::{
    FILTER_REAL_SERVER_LINE, FILTER_VIP_LINE, FilterBits, HEADER_LINE, HeaderFlags, Line, SCTP,
    SERVICE_MAX_PROBES, SERVICES_LINE, ServiceFlags, ServiceRecord, TCP, UDP, WideAddress,
    filter_line, filter_place, filter_shift, filter_word, service_hash, service_key, service_kind,
};

use crate::flow::{FlowKey, WideValue, virtual_port_of};
use crate::host::Host;
use crate::mark::{mark_of, wide_mark_of};

/// Which tables may know an address as a virtual one, as [`FilterBits`] and bits above them that mean nothing (a filter: it
/// can err towards yes).
#[inline(always)]
pub(crate) fn virtual_tables<H: Host>(host: &H, address: u32) -> u64 {
    filter_bits(host, FILTER_VIP_LINE, address)
}

/// Whether there are services of the wide table.
#[inline(always)]
pub(crate) fn has_wide<H: Host>(host: &H) -> bool {
    host.line(HEADER_LINE).is_some_and(|header| {
        let [_, _, _, flags, ..] = header.0;
        flags & HeaderFlags::WIDE != 0
    })
}

/// Whether there are masqueraded real servers of services with the SIP engine.
#[inline(always)]
pub(crate) fn has_call_servers<H: Host>(host: &H) -> bool {
    host.line(HEADER_LINE).is_some_and(|header| {
        let [_, _, _, flags, ..] = header.0;
        flags & HeaderFlags::SIP_SERVERS != 0
    })
}

/// Whether an address may be that of a real server whose replies are rewritten (a filter).
#[inline(always)]
pub(crate) fn may_be_real_server<H: Host>(host: &H, address: u32) -> bool {
    filter_bits(host, FILTER_REAL_SERVER_LINE, address) & FilterBits::NARROW != 0
}

/// [`FilterBits`] of an address in a filter.
#[inline(always)]
fn filter_bits<H: Host>(host: &H, first_line: u32, address: u32) -> u64 {
    let place = filter_place(address);
    let Some(line) = host.line(first_line + filter_line(place)) else { return 0 };
    let Some(word) = line.0.get(filter_word(place) as usize) else { return 0 };
    word >> filter_shift(place)
}

/// Line of the virtual service that a packet is for, if it opens a connection; see [`service_record`]. A service by the
/// packet's firewall mark comes first, then one on its port, then a persistent one of FTP for its data connections, then one on
/// all ports (port 0), as in `ip_vs_service_find`.
#[inline(always)]
pub fn find_service<'a, H: Host>(host: &'a H, packet: &FlowKey, ingress: u32) -> Option<&'a Line> {
    find_service_by::<false, _>(host, packet, ingress)
}

/// [`find_service`], or if `EXACT` only those by mark or on the packet's own port, as all are that are not persistent.
#[inline(always)]
pub(crate) fn find_service_by<'a, const EXACT: bool, H: Host>(
    host: &'a H,
    packet: &FlowKey,
    ingress: u32,
) -> Option<&'a Line> {
    let header = host.line(HEADER_LINE)?;
    let [_, _, _, flags, ..] = header.0;
    if flags & HeaderFlags::MARKS != 0 {
        let mark = mark_of(host, packet, ingress);
        if mark != 0
            && let Some(found) = host.opaque(find(host, mark, 0, 0, service_kind::MARK))
        {
            return Some(found);
        }
    }
    let (address, protocol) = (packet.address(), packet.protocol);
    let port = packet.port();
    match host.opaque(find(host, address, port, protocol, service_kind::SERVICE)) {
        None if !EXACT => {
            let kinds = [service_kind::SERVICE, service_kind::FTP];
            let (port, kind) = second_choice(flags, protocol, port, kinds);
            host.opaque(find(host, address, port, protocol, kind))
        }
        found => found,
    }
}

/// Port and kind of the slot of a service that takes packets to a port for which there is none. `kinds` are those of services
/// and of what FTP's data connections go to.
#[inline(always)]
const fn second_choice(flags: u64, protocol: u8, port: u16, kinds: [u8; 2]) -> (u16, u8) {
    let [service, ftp] = kinds;
    if flags & HeaderFlags::FTP != 0 && may_be_ftp_data(protocol, port) {
        (FTP, ftp)
    } else {
        (0, service)
    }
}

/// Port 21, as loaded.
const FTP: u16 = 21u16.to_be();
/// Port 20, as loaded.
const FTP_DATA: u16 = 20u16.to_be();
/// First port that needs no privileges.
const UNPRIVILEGED: u16 = 1_024;

/// Whether a connection to a port may be one of FTP's data connections (`ip_vs_service_find`).
#[inline(always)]
const fn may_be_ftp_data(protocol: u8, port: u16) -> bool {
    protocol == TCP && (port == FTP_DATA || u16::from_be(port) >= UNPRIVILEGED)
}

/// As [`find_service`], of a packet of either family; of IPv4 those by full NAT and those of SCTP only.
#[inline(always)]
pub fn find_wide_service<'a, H: Host>(
    host: &'a H,
    packet: &FlowKey<WideValue>,
    ingress: u32,
) -> Option<&'a Line> {
    find_wide_service_by::<false, _>(host, packet, ingress)
}

/// As [`find_service_by`], of a packet of either family.
#[inline(always)]
pub(crate) fn find_wide_service_by<'a, const EXACT: bool, H: Host>(
    host: &'a H,
    packet: &FlowKey<WideValue>,
    ingress: u32,
) -> Option<&'a Line> {
    let address = packet.wide_address();
    if address.is_v4() {
        let found = find_service_by::<EXACT, _>(host, &packet.fold(), ingress)?;
        let wide = service_record(found).flags & ServiceFlags::FULL_NAT != 0;
        return if wide || packet.protocol == SCTP { Some(found) } else { None };
    }
    let header = host.line(HEADER_LINE)?;
    let [_, _, _, flags, ..] = header.0;
    if flags & HeaderFlags::MARKS6 != 0 {
        let mark = wide_mark_of(host, packet, ingress);
        if mark != 0
            && let Some(found) = host.opaque(find(host, mark, 0, 0, service_kind::MARK6))
        {
            return Some(found);
        }
    }
    let port = virtual_port_of(packet.ports as u64);
    let protocol = packet.protocol;
    match host.opaque(find_wide(host, address, port, protocol, service_kind::SERVICE6)) {
        None if !EXACT => {
            let kinds = [service_kind::SERVICE6, service_kind::FTP6];
            let (port, kind) = second_choice(flags, protocol, port, kinds);
            host.opaque(find_wide(host, address, port, protocol, kind))
        }
        found => found,
    }
}

/// As [`find_service`], if the service lies in the first slot of its key (another one may be in its place), if there are no
/// firewall marks, if no defence may be in the way of new connections, and if no real server's replies are rewritten or `source`, as that filter says, is none: a packet could
/// be such a reply as well.
#[inline(always)]
pub(crate) fn find_service_at_once<H: Host>(
    host: &H,
    source: u32,
    address: u32,
    port: u16,
    protocol: u8,
) -> Option<&Line> {
    let header = host.line(HEADER_LINE)?;
    let [mask, seed, _, flags, ..] = header.0;
    const LEFT: u64 = HeaderFlags::MARKS | HeaderFlags::DEFENDED;
    let narrow = flags & (LEFT | HeaderFlags::MASQUERADING);
    if narrow != 0 && (narrow & LEFT != 0 || may_be_real_server(host, source)) {
        return None;
    }
    let slot = service_hash(address, port, protocol, seed) & low(mask);
    let line = host.line(SERVICES_LINE.wrapping_add(slot))?;
    let [key, ..] = line.0;
    (key == service_key(address, port, protocol, service_kind::SERVICE)).then_some(line)
}

/// Whether an address is exactly a virtual one.
#[inline(always)]
pub(crate) fn is_virtual<H: Host>(host: &H, address: u32) -> bool {
    find(host, address, 0, 0, service_kind::ADDRESS).is_some()
}

/// As [`is_virtual`], of IPv6.
#[inline(always)]
pub(crate) fn is_wide_virtual<H: Host>(host: &H, address: WideAddress) -> bool {
    find_wide(host, address, 0, 0, service_kind::ADDRESS6).is_some()
}

/// Whether an address of either family is exactly a virtual one.
#[inline(always)]
pub(crate) fn is_any_virtual<H: Host>(host: &H, address: WideAddress) -> bool {
    if address.is_v4() { is_virtual(host, address.fold()) } else { is_wide_virtual(host, address) }
}

/// [`FilterBits::WIDE`] of an address in the filter of virtual and local addresses.
#[inline(always)]
pub(crate) fn may_be_wide<H: Host>(host: &H, address: WideAddress) -> bool {
    filter_bits(host, FILTER_VIP_LINE, address.fold()) & FilterBits::WIDE != 0
}

/// As [`may_be_wide`] and [`may_be_wide_real_server`], of the protocols whose IPv4 packets are the wide stage's although their
/// addresses are those of services of the other table.
#[inline(always)]
pub(crate) fn may_be_either<H: Host>(host: &H, address: WideAddress, line: u32) -> bool {
    let bits =
        if address.is_v4() { FilterBits::NARROW | FilterBits::WIDE } else { FilterBits::WIDE };
    filter_bits(host, line, address.fold()) & bits != 0
}

/// Whether an address may be that of a real server whose replies are rewritten by the wide table (a filter).
#[inline(always)]
pub(crate) fn may_be_wide_real_server<H: Host>(host: &H, address: WideAddress) -> bool {
    filter_bits(host, FILTER_REAL_SERVER_LINE, address.fold()) & FilterBits::WIDE != 0
}

/// Whether real servers are told of packets that belong to no connection.
#[inline(always)]
pub(crate) fn tells_real_servers<H: Host>(host: &H) -> bool {
    host.line(HEADER_LINE).is_some_and(|header| {
        let [_, _, _, flags, ..] = header.0;
        flags & HeaderFlags::TELLS_REAL_SERVERS != 0
    })
}

/// Index of a destination that is a masqueraded real server's, by its port and protocol (`ip_vs_has_real_service`).
#[inline(always)]
pub(crate) fn find_real_server<H: Host>(
    host: &H,
    address: u32,
    port: u16,
    protocol: u8,
) -> Option<u32> {
    let found = host.opaque(find(host, address, port, protocol, service_kind::REAL_SERVER));
    Some(service_record(found?).index)
}

/// As [`find_real_server`], of IPv6.
#[inline(always)]
pub(crate) fn find_wide_real_server<H: Host>(
    host: &H,
    address: WideAddress,
    port: u16,
    protocol: u8,
) -> Option<u32> {
    let found = host.opaque(find_wide(host, address, port, protocol, service_kind::REAL_SERVER6));
    Some(service_record(found?).index)
}

/// Whether a packet is for a service by full NAT.
#[inline(always)]
pub(crate) fn is_full_nat<H: Host>(host: &H, packet: &FlowKey<WideValue>, ingress: u32) -> bool {
    find_wide_service(host, packet, ingress)
        .is_some_and(|line| service_record(line).flags & ServiceFlags::FULL_NAT != 0)
}

/// Index of a local address of full NAT.
#[inline(always)]
pub(crate) fn find_local<H: Host>(host: &H, address: WideAddress) -> Option<u32> {
    let kind = if address.is_v4() { service_kind::LOCAL } else { service_kind::LOCAL6 };
    Some(service_record(find_wide(host, address, 0, 0, kind)?).index)
}

/// Line of the masqueraded real server of a service with the SIP engine that has an address and a UDP port.
#[inline(always)]
pub(crate) fn find_call_server<H: Host>(
    host: &H,
    address: WideAddress,
    port: u16,
) -> Option<&Line> {
    let v4 = address.is_v4();
    let kind = if v4 { service_kind::SIP_SERVER } else { service_kind::SIP_SERVER6 };
    host.opaque(find_wide(host, address, port, UDP, kind))
}

/// As [`find`], by an IPv6 address: others may have the same fold.
#[inline(always)]
fn find_wide<H: Host>(
    host: &H,
    address: WideAddress,
    port: u16,
    protocol: u8,
    kind: u8,
) -> Option<&Line> {
    let header = host.line(HEADER_LINE)?;
    let [mask, seed, ..] = header.0;
    let fold = address.fold();
    let hash = service_hash(fold, port, protocol, seed);
    let wanted = service_key(fold, port, protocol, kind);
    let [first, second] = address.0;
    let mut probe = 0;
    while probe < SERVICE_MAX_PROBES {
        let slot = hash.wrapping_add(probe) & low(mask);
        let line = host.line(SERVICES_LINE.wrapping_add(slot))?;
        let [key, _, _, _, _, a0, a1, _] = line.0;
        if key == wanted && a0 == first && a1 == second {
            return Some(line);
        }
        if key == 0 {
            return None;
        }
        probe += 1;
    }
    None
}

/// The line of a service slot.
#[inline(always)]
fn find<H: Host>(host: &H, address: u32, port: u16, protocol: u8, kind: u8) -> Option<&Line> {
    let header = host.line(HEADER_LINE)?;
    let [mask, seed, ..] = header.0;
    let hash = service_hash(address, port, protocol, seed);
    let wanted = service_key(address, port, protocol, kind);
    let mut probe = 0;
    while probe < SERVICE_MAX_PROBES {
        let slot = hash.wrapping_add(probe) & low(mask);
        let line = host.line(SERVICES_LINE.wrapping_add(slot))?;
        let [key, ..] = line.0;
        if key == wanted {
            return Some(line);
        }
        if key == 0 {
            return None;
        }
        probe += 1;
    }
    None
}

#[inline(always)]
pub(crate) const fn low(word: u64) -> u32 {
    (word & 0xffff_ffff) as u32
}

/// Reads a line as a service slot.
#[inline(always)]
pub fn service_record(line: &Line) -> ServiceRecord {
    let [w0, w1, w2, w3, w4, w5, w6, w7] = line.0;
    let [a0, a1, a2, a3, p0, p1, protocol, kind] = w0.to_ne_bytes();
    let [i0, i1, i2, i3, scheduler, flags, t0, t1] = w1.to_ne_bytes();
    let [l0, l1, l2, l3, e0, e1, e2, e3] = w2.to_ne_bytes();
    let [s0, s1, s2, s3, m0, m1, m2, m3] = w3.to_ne_bytes();
    let [h0, h1, h2, h3, n0, n1, n2, n3] = w7.to_ne_bytes();
    let mut address6 = [0; 16];
    let (low, high) = address6.split_at_mut(8);
    low.copy_from_slice(&w5.to_ne_bytes());
    high.copy_from_slice(&w6.to_ne_bytes());
    ServiceRecord {
        address: u32::from_ne_bytes([a0, a1, a2, a3]),
        port: u16::from_ne_bytes([p0, p1]),
        protocol,
        kind,
        index: u32::from_ne_bytes([i0, i1, i2, i3]),
        scheduler,
        flags,
        tag: u16::from_ne_bytes([t0, t1]),
        pool_line: u32::from_ne_bytes([l0, l1, l2, l3]),
        pool_entries: u32::from_ne_bytes([e0, e1, e2, e3]),
        weight_step: u32::from_ne_bytes([s0, s1, s2, s3]),
        weight_max: u32::from_ne_bytes([m0, m1, m2, m3]),
        start: w4,
        address6,
        table_line: u32::from_ne_bytes([h0, h1, h2, h3]),
        table_entries: u32::from_ne_bytes([n0, n1, n2, n3]),
    }
}
