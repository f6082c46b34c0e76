//! Firewall marks: which packets belong to a service that is named by a mark.
//!
//! **Invariant:** rules are tried in order; the first that fits gives the mark.
//!
//! Called by [`crate::service`], for packets that may open a connection only.

use elvs_common::{HEADER_LINE, MarkLine, WideMark};

use crate::flow::{FlowKey, Step, WideValue};
use crate::host::Host;
use crate::service::low;

/// Search for the first rule that fits.
struct Classify<'a, H> {
    host: &'a H,
    first_line: u64,
    addresses: u64,
    /// Ports in host order: client's in the low half, virtual one above.
    ports: u64,
    /// Protocol (low byte) and ingress interface (high half).
    arrival: u64,
    mark: u64,
}

impl<H: Host> Step for Classify<'_, H> {
    #[inline(always)]
    fn step(&mut self, index: u32) -> bool {
        let Some(line) = self.host.line(low(self.first_line).wrapping_add(index)) else {
            return false;
        };
        let rule = MarkLine::of_line(line);
        let fits = (self.addresses ^ rule.addresses) & rule.masks == 0
            && fits_rest(&rule, self.ports, self.arrival);
        if fits {
            self.mark = rule.mark as u64;
        }
        !fits
    }
}

/// Whether a rule fits a packet, addresses apart; see [`Classify`] for the words.
#[inline(always)]
const fn fits_rest(rule: &MarkLine, ports: u64, arrival: u64) -> bool {
    (rule.protocol == 0 || rule.protocol as u64 == arrival & 0xff)
        && (rule.ifindex == 0 || rule.ifindex as u64 == arrival >> 32)
        && within(ports & 0xffff, rule.client_ports)
        && within(ports >> 16, rule.virtual_ports)
}

/// Ports of a key in host order: client's in the low half, virtual one above.
#[inline(always)]
const fn host_order(ports: u32) -> u64 {
    let [c0, c1, v0, v1] = ports.to_ne_bytes();
    u16::from_be_bytes([c0, c1]) as u64 | (u16::from_be_bytes([v0, v1]) as u64) << 16
}

/// Whether a port lies between the first (low half) and the last one of a range.
#[inline(always)]
const fn within(port: u64, range: u32) -> bool {
    port >= (range & 0xffff) as u64 && port <= (range >> 16) as u64
}

/// Mark of a packet that arrived by an interface; 0 = none.
#[inline(always)]
pub(crate) fn mark_of<H: Host>(host: &H, packet: &FlowKey, ingress: u32) -> u32 {
    let Some(header) = host.line(HEADER_LINE) else { return 0 };
    let [_, _, _, _, rules, ..] = header.0;
    let mut classify = Classify {
        host,
        first_line: rules & 0xffff_ffff,
        addresses: packet.addresses,
        ports: host_order(packet.ports),
        arrival: packet.protocol as u64 | (ingress as u64) << 32,
        mark: 0,
    };
    host.repeat((rules >> 32) as u32, &mut classify);
    low(classify.mark)
}

/// Search for the first rule of IPv6 that fits.
struct WideClassify<'a, H> {
    host: &'a H,
    first_line: u64,
    addresses: WideValue,
    /// As in [`Classify`].
    ports: u64,
    /// As in [`Classify`].
    arrival: u64,
    mark: u64,
}

impl<H: Host> Step for WideClassify<'_, H> {
    #[inline(always)]
    fn step(&mut self, index: u32) -> bool {
        let at = low(self.first_line).wrapping_add(index.wrapping_mul(2));
        let Some(first) = self.host.line(at) else { return false };
        let Some(second) = self.host.line(at.wrapping_add(1)) else { return false };
        let rule = WideMark::of_lines(first, second);
        let [c0, c1, a0, a1, _] = self.addresses;
        let ([d0, d1], [m0, m1]) = (rule.client, rule.client_mask);
        let ([b0, b1], [n0, n1]) = (rule.address, rule.address_mask);
        let differ = (c0 ^ d0) & m0 | (c1 ^ d1) & m1 | (a0 ^ b0) & n0 | (a1 ^ b1) & n1;
        let fits = differ == 0 && fits_rest(&rule.rest, self.ports, self.arrival);
        if fits {
            self.mark = rule.rest.mark as u64;
        }
        !fits
    }
}

/// As [`mark_of`], of an IPv6 packet.
#[inline(always)]
pub(crate) fn wide_mark_of<H: Host>(host: &H, packet: &FlowKey<WideValue>, ingress: u32) -> u32 {
    let Some(header) = host.line(HEADER_LINE) else { return 0 };
    let [_, _, _, _, _, rules, ..] = header.0;
    let mut classify = WideClassify {
        host,
        first_line: rules & 0xffff_ffff,
        addresses: packet.addresses,
        ports: host_order(packet.ports),
        arrival: packet.protocol as u64 | (ingress as u64) << 32,
        mark: 0,
    };
    host.repeat((rules >> 32) as u32, &mut classify);
    low(classify.mark)
}
