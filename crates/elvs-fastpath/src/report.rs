//! ICMP errors of the director's own: whoever sent a packet that is refused is told why.
//!
//! As with IPVS the answer comes from the address that the packet went to (`icmp_send` takes it where it is the host's
//! own, as virtual addresses are), quotes up to 576 bytes in all (RFC 1812 section 4.3.2.3), and is not given where
//! RFC 1122 section 3.2.2 forbids it. The way back is the way that the packet came.
//!
//! **Invariant:** the packet's own refusal is counted before; here is counted whether it was answered. Answers are limited
//! per CPU, and those that path MTU discovery lives by have a budget of their own, so that no other traffic uses it up.
//!
//! Called by the stages that refuse, and by the program that answers.

use elvs_common::{Counter, WideAddress, idle_ticks};

use crate::checksum::{fold, sum_of};
use crate::frame::{Action, Frame};
use crate::host::{ClientHop, Host, Note, drop};
use crate::packet::{FRAGMENT_OFFSET, parse_ipv4};
use crate::wide::report_wide;

/// Bytes of an IPv4 header without options and an ICMP header.
const HEADERS: usize = 28;
/// Bytes in front of the packet that a tunnel's error is about: IPv4 and ICMP header of the error, IPv4 header of the tunnel.
const TUNNEL_HEADERS: usize = 48;
/// Most bytes quoted.
const MAX_QUOTE: usize = 576 - HEADERS;
/// Answers of a CPU per tick, of which there are about 16 per second.
const ANSWERS_PER_TICK: u32 = 64;
/// Answers of a CPU at once.
const ANSWERS_AT_ONCE: u32 = 1_024;
/// Least path MTU that a router is believed (`ip_rt_min_pmtu`).
const MIN_PATH_MTU: u32 = 552;

/// An ICMP error in one word: type, code, [`Self::TUNNELLED`], and in the high half the second word of its header, host order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Report(u64);

impl Report {
    /// Destination unreachable.
    pub(crate) const UNREACHABLE: u8 = 3;
    /// Time exceeded.
    pub(crate) const EXCEEDED: u8 = 11;
    /// Code of [`Self::UNREACHABLE`]: the packet is too big.
    pub(crate) const FRAGMENTATION_NEEDED: u8 = 4;
    /// Bit: the packet it is about lies in the tunnel's error that has come.
    const TUNNELLED: u64 = 1 << 16;

    /// Time exceeded in transit.
    pub(crate) const TIME_EXCEEDED: Self = Self::new(Self::EXCEEDED, 0, 0);
    /// Port unreachable.
    pub(crate) const PORT_UNREACHABLE: Self = Self::new(Self::UNREACHABLE, 3, 0);

    #[inline(always)]
    const fn new(kind: u8, code: u8, rest: u32) -> Self {
        Self(kind as u64 | (code as u64) << 8 | (rest as u64) << 32)
    }

    /// Fragmentation needed: a packet may have `mtu` bytes.
    #[inline(always)]
    pub(crate) const fn too_big(mtu: u32) -> Self {
        Self::new(Self::UNREACHABLE, Self::FRAGMENTATION_NEEDED, mtu & 0xffff)
    }

    /// As a router's error about a tunnel's outer packet, for the sender of the inner one.
    #[inline(always)]
    pub(crate) const fn tunnelled(kind: u8, code: u8, rest: u32) -> Self {
        Self(Self::new(kind, code, rest).0 | Self::TUNNELLED)
    }

    /// Second word of a router's "fragmentation needed" for the sender of the inner packet: what fits into the tunnel, the
    /// destination's own MTU (0 = unknown) considered.
    #[inline(always)]
    pub(crate) const fn inner_mtu(path_mtu: u32, own_mtu: u32, outer: u32) -> u32 {
        let mtu = if path_mtu < MIN_PATH_MTU { MIN_PATH_MTU } else { path_mtu };
        let mtu = if own_mtu != 0 && own_mtu < mtu { own_mtu } else { mtu };
        mtu.saturating_sub(outer)
    }

    #[inline(always)]
    pub(crate) const fn kind(self) -> u8 {
        (self.0 & 0xff) as u8
    }

    #[inline(always)]
    pub(crate) const fn code(self) -> u8 {
        (self.0 >> 8 & 0xff) as u8
    }

    #[inline(always)]
    pub(crate) const fn rest(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline(always)]
    const fn is_tunnelled(self) -> bool {
        self.0 & Self::TUNNELLED != 0
    }

    #[inline(always)]
    pub(crate) const fn budget(self) -> Note {
        if self.kind() == Self::UNREACHABLE && self.code() == Self::FRAGMENTATION_NEEDED {
            Note::TooBigBudget
        } else {
            Note::ReportBudget
        }
    }
}

/// Refuses a packet, counted, and has its sender told from an address, as loaded; 0 = there is none to tell from.
#[inline(always)]
pub(crate) fn refuse_and_tell<H: Host>(
    host: &H,
    why: Counter,
    report: Report,
    source: u32,
) -> Action {
    host.count(why);
    tell(host, report, source)
}

/// Has the sender told of a packet whose fate is counted.
#[inline(always)]
pub(crate) fn tell<H: Host>(host: &H, report: Report, source: u32) -> Action {
    host.note(Note::Report, report.0);
    host.note(Note::ReportSource, source as u64);
    Action::REPORT
}

/// As [`refuse_and_tell`], of a packet of either family.
#[inline(always)]
pub(crate) fn refuse_and_tell_wide<H: Host>(
    host: &H,
    why: Counter,
    report: Report,
    source: WideAddress,
) -> Action {
    let [first, second] = source.0;
    host.note(Note::Source, first);
    host.note(Note::SourceEnd, second);
    refuse_and_tell(host, why, report, source.v4())
}

/// Stage of [`crate::process`] that turns a refused packet into the answer to its sender, or drops it.
#[inline(always)]
pub fn report<H: Host, F: Frame>(host: &H, frame: &mut F) -> Action {
    let report = Report(host.noted(Note::Report));
    let Some(ip) = parse_ipv4(host, frame) else { return report_wide(host, frame, report) };
    frame.forget();
    // The bytes between the MAC addresses and the IP header: Ethernet type and VLAN tags.
    let answered = match ip.offset {
        14 => answer::<_, _, 2>(host, frame, report),
        18 => answer::<_, _, 6>(host, frame, report),
        _ => answer::<_, _, 10>(host, frame, report),
    };
    answered.unwrap_or_else(|| withhold(host, report, Counter::IcmpWithheld))
}

/// Gives no answer. A tunnel's error, which has not been refused, is the stack's then.
#[inline(always)]
pub(crate) fn withhold<H: Host>(host: &H, report: Report, why: Counter) -> Action {
    host.count(why);
    if report.is_tunnelled() { Action::PASS } else { Action::DROP }
}

/// The packet that an answer is about.
struct Quoted {
    tos: u8,
    id: [u8; 2],
    source: u32,
    /// Bytes that are quoted, a multiple of four.
    length: usize,
}

/// `TAGS` bytes lie between the MAC addresses and the IP header.
#[inline(always)]
fn answer<H: Host, F: Frame, const TAGS: usize>(
    host: &H,
    frame: &mut F,
    report: Report,
) -> Option<Action> {
    let source = (host.noted(Note::ReportSource) & 0xffff_ffff) as u32;
    let at = 12 + TAGS + if report.is_tunnelled() { TUNNEL_HEADERS } else { 0 };
    let quoted = quoted(host, frame, at)?;
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5] = *frame.window::<12>(0)?;
    let tags = *frame.window::<TAGS>(12)?;
    if source == 0 || d0 & 1 != 0 {
        return None;
    }
    let mut addresses = [s0, s1, s2, s3, s4, s5, d0, d1, d2, d3, d4, d5];
    let mut action = Action::TRANSMIT;
    // A router's error came from elsewhere than the packet that it is about. Where the host does not route for itself,
    // that router does.
    if report.is_tunnelled()
        && let ClientHop::Known(hop) = host.client_hop(quoted.source, None)
    {
        addresses = hop.addresses();
        if hop.ifindex != frame.ingress() {
            action = Action::redirect(hop.ifindex);
        }
    }
    if !allowed(host, report.budget()) {
        return Some(withhold(host, report, Counter::IcmpLimited));
    }
    let moved = if report.is_tunnelled() {
        frame.shrink_front::<{ TUNNEL_HEADERS - HEADERS }>()
    } else {
        frame.grow_front::<HEADERS>()
    };
    if !moved {
        return None;
    }
    if !frame.truncate(12 + TAGS + HEADERS + quoted.length) {
        return Some(drop(host, Counter::Bug));
    }
    *frame.window::<12>(0)? = addresses;
    *frame.window::<TAGS>(12)? = tags;
    write_ip::<_, TAGS>(frame, &quoted, source)?;
    write_icmp::<_, _, TAGS>(host, frame, report, quoted.length)?;
    host.count(Counter::IcmpSent);
    Some(action)
}

/// The packet at an offset; `None` if it must not be answered (RFC 1122 section 3.2.2), or too little of it is there.
#[inline(always)]
fn quoted<H: Host, F: Frame>(host: &H, frame: &mut F, at: usize) -> Option<Quoted> {
    // As a number: what compilers make of it else, the verifier refuses.
    let available = (host.forget(frame.length() as u64) & 0xffff) as usize;
    let available = available.saturating_sub(at);
    let [version_ihl, tos, l0, l1, i0, i1, f0, f1, _, _, _, _, s0, s1, s2, s3, d0, ..] =
        *frame.window::<20>(at)?;
    let fragment = u16::from_be_bytes([f0, f1]) & FRAGMENT_OFFSET != 0;
    // Nobody, the host itself, groups and broadcast are never told; nor is who sent to groups or broadcast.
    if version_ihl >> 4 != 4 || fragment || s0 == 0 || s0 == 127 || s0 >= 224 || d0 >= 224 {
        return None;
    }
    let length = (u16::from_be_bytes([l0, l1]) as usize).min(available).min(MAX_QUOTE);
    let enough = ((version_ihl & 15) as usize) * 4 + 8;
    (length >= enough).then_some(Quoted {
        tos,
        id: [i0, i1],
        source: u32::from_ne_bytes([s0, s1, s2, s3]),
        length: length & !3,
    })
}

/// Takes an answer from a CPU's budget; false if none is left.
#[inline(always)]
pub(crate) fn allowed<H: Host>(host: &H, budget: Note) -> bool {
    let word = host.noted(budget);
    let (then, left) = ((word & 0xffff_ffff) as u32, (word >> 32) as u32);
    let tick = host.tick();
    let ticks = idle_ticks(tick, then).min(ANSWERS_AT_ONCE / ANSWERS_PER_TICK);
    let left = left.saturating_add(ticks * ANSWERS_PER_TICK).min(ANSWERS_AT_ONCE);
    let Some(rest) = left.checked_sub(1) else { return false };
    host.note(budget, tick as u64 | (rest as u64) << 32);
    true
}

/// The answer's IP header.
#[inline(always)]
fn write_ip<F: Frame, const TAGS: usize>(
    frame: &mut F,
    quoted: &Quoted,
    source: u32,
) -> Option<()> {
    // RFC 1812 section 4.3.2.5, as `icmp_send` does: the packet's type of service, at precedence 6.
    let tos = quoted.tos & 0x1e | 0xc0;
    let [l0, l1, ..] = (HEADERS + quoted.length).to_le_bytes();
    // Whoever chose it for the packet chose one that it has not used lately.
    let [i0, i1] = quoted.id;
    let [s0, s1, s2, s3] = source.to_ne_bytes();
    let [d0, d1, d2, d3] = quoted.source.to_ne_bytes();
    let (ttl, icmp) = (64, elvs_common::ICMP);
    let word = |a: u8, b: u8| u16::from_ne_bytes([a, b]) as u64;
    let sum = word(0x45, tos)
        + word(l1, l0)
        + word(i0, i1)
        + word(ttl, icmp)
        + word(s0, s1)
        + word(s2, s3)
        + word(d0, d1)
        + word(d2, d3);
    let [c0, c1] = (!fold(sum)).to_ne_bytes();
    *frame.window::<20>(12 + TAGS)? =
        [0x45, tos, l1, l0, i0, i1, 0, 0, ttl, icmp, c0, c1, s0, s1, s2, s3, d0, d1, d2, d3];
    Some(())
}

/// The answer's ICMP header, in front of `quoted` bytes that are there.
#[inline(always)]
fn write_icmp<H: Host, F: Frame, const TAGS: usize>(
    host: &H,
    frame: &mut F,
    report: Report,
    quoted: usize,
) -> Option<()> {
    let start = 12 + TAGS + HEADERS;
    let (kind, code) = (report.kind(), report.code());
    let [r0, r1, r2, r3] = report.rest().to_be_bytes();
    let sum = u16::from_ne_bytes([kind, code]) as u64
        + u16::from_ne_bytes([r0, r1]) as u64
        + u16::from_ne_bytes([r2, r3]) as u64
        + sum_of(|sum| host.forget(sum), frame, start, quoted as u64)?;
    let [c0, c1] = (!fold(sum)).to_ne_bytes();
    *frame.window::<8>(12 + TAGS + 20)? = [kind, code, c0, c1, r0, r1, r2, r3];
    Some(())
}
