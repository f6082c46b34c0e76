//! Firewall marks: which packets belong to a service that is named by a mark.
//!
//! **Invariant:** rules are tried in order; the first that fits gives the mark.
//!
//! Called by [`crate::service`], for packets that may open a connection only.

use elvs_common::{HEADER_LINE, MarkLine};

use crate::flow::{FlowKey, Step};
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
            && (rule.protocol == 0 || rule.protocol as u64 == self.arrival & 0xff)
            && (rule.ifindex == 0 || rule.ifindex as u64 == self.arrival >> 32)
            && within(self.ports & 0xffff, rule.client_ports)
            && within(self.ports >> 16, rule.virtual_ports);
        if fits {
            self.mark = rule.mark as u64;
        }
        !fits
    }
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
    let ports =
        u16::from_be(packet.client_port()) as u64 | (u16::from_be(packet.port()) as u64) << 16;
    let mut classify = Classify {
        host,
        first_line: rules & 0xffff_ffff,
        addresses: packet.addresses,
        ports,
        arrival: packet.protocol as u64 | (ingress as u64) << 32,
        mark: 0,
    };
    host.repeat((rules >> 32) as u32, &mut classify);
    low(classify.mark)
}
