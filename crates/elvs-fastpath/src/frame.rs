//! Access to a packet's bytes, and what becomes of it.

use elvs_common::{
    FLOOD_PROGRAM, FRAGMENT_PROGRAM, FULL_NAT_FRAGMENT_PROGRAM, FULL_NAT_ICMP_PROGRAM,
    FULL_NAT_OPEN_PROGRAM, FULL_NAT_PROGRAM, FULL_NAT_REPLY_PROGRAM, GENERAL_PROGRAM,
    ICMP_OPEN_PROGRAM, ICMP_PROGRAM, IPSEC_PROGRAM, NARROW_PROGRAM, PERSIST_PROGRAM,
    REPORT_PROGRAM, RESET_PROGRAM, SCHEDULE_PROGRAM, SIP_PROGRAM, SIP_SEND_PROGRAM,
    SIP_SERVER_PROGRAM, TUNNEL_PROGRAM, WIDE_CONNECT_PROGRAM, WIDE_FLOOD_PROGRAM,
    WIDE_FRAGMENT_PROGRAM, WIDE_ICMP_PROGRAM, WIDE_OPEN_PROGRAM, WIDE_PERSIST_PROGRAM,
    WIDE_PROGRAM, WIDE_REPLY_PROGRAM, WIDE_SEND_PROGRAM,
};

use crate::flow::Step;

/// A frame as received, Ethernet header first.
pub trait Frame {
    /// The `N` bytes at `offset`, if the frame has them.
    ///
    /// The kernel's verifier wants one bounds check per access window with a bounded offset; that is all this does.
    fn window<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]>;

    /// The four bytes at `offset` as loaded, if the frame has them. The kernel's side is one load: taken out of a
    /// window, compilers would load the parts that are wanted one by one.
    #[inline(always)]
    fn word(&mut self, offset: usize) -> Option<u32> {
        self.window::<4>(offset).map(|bytes| u32::from_ne_bytes(*bytes))
    }

    /// The two bytes at `offset` as loaded; see [`Self::word`].
    #[inline(always)]
    fn half(&mut self, offset: usize) -> Option<u16> {
        self.window::<2>(offset).map(|bytes| u16::from_ne_bytes(*bytes))
    }

    /// The byte at `offset`, if the frame has it.
    #[inline(always)]
    fn byte(&mut self, offset: usize) -> Option<u8> {
        self.window::<1>(offset).map(|[byte]| *byte)
    }

    /// Makes the compiler forget which windows it has seen to be there: it drops checks that the ones before imply,
    /// and the kernel's verifier does not always see that they do.
    fn forget(&mut self) {}

    /// Bytes of the frame.
    fn length(&self) -> usize;

    /// Makes room for `N` bytes in front; false if there is none, and then nothing changed.
    fn grow_front<const N: usize>(&mut self) -> bool;

    /// Takes `N` bytes off the front; false if that cannot be, and then nothing changed.
    fn shrink_front<const N: usize>(&mut self) -> bool;

    /// Cuts the frame to a length that it exceeds, or has; false if that cannot be, and then nothing changed.
    fn truncate(&mut self, length: usize) -> bool;
    /// As [`Self::grow_front`], for as many bytes as outer headers of tunnels take.
    #[inline(always)]
    fn grow_front_by(&mut self, bytes: usize) -> bool {
        match bytes {
            20 => self.grow_front::<20>(),
            24 => self.grow_front::<24>(),
            28 => self.grow_front::<28>(),
            32 => self.grow_front::<32>(),
            40 => self.grow_front::<40>(),
            44 => self.grow_front::<44>(),
            48 => self.grow_front::<48>(),
            52 => self.grow_front::<52>(),
            _ => false,
        }
    }

    /// Sum of the `N` words of four bytes at `offset`, as loaded, if the frame has them.
    #[inline(always)]
    fn sum<const N: usize>(&mut self, offset: usize) -> Option<u64> {
        let mut sum = 0;
        let mut word = 0;
        while word < N {
            sum += self.word(offset + word * 4)? as u64;
            word += 1;
        }
        Some(sum)
    }

    /// A loop over a frame of which `step` holds a reference; see [`crate::FlowMemory::repeat`].
    #[inline(always)]
    fn repeat<S: Step>(times: u32, step: &mut S) {
        let mut index = 0;
        while index < times && step.step(index) {
            index += 1;
        }
    }

    /// Index of the interface it came from.
    fn ingress(&self) -> u32;
}

/// A frame that bytes can be taken off.
pub trait ShrinkFrame: Frame {
    /// Takes bytes off the front; false if that cannot be, and then nothing changed.
    fn shrink_front_by(&mut self, bytes: usize) -> bool;
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// To the host's network stack, unchanged.
    Pass,
    /// Dropped; a counter says why.
    Drop,
    /// Out of the interface it came from.
    Transmit,
    /// Out of another interface.
    Redirect(u32),
}

/// A verdict in one word. The decision core hands this around, because of an enum with a payload the compiler moves
/// registers that were never set, which the kernel's verifier refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action(u64);

impl Action {
    /// [`Verdict::Pass`].
    pub const PASS: Self = Self(0);
    /// [`Verdict::Drop`].
    pub const DROP: Self = Self(1);
    /// [`Verdict::Transmit`].
    pub const TRANSMIT: Self = Self(2);
    /// Not decided yet: the packet belongs to no known connection.
    pub const SCHEDULE: Self = Self::stage(SCHEDULE_PROGRAM);
    /// Not decided yet: the frame has VLAN tags or IP options.
    pub const GENERAL: Self = Self::stage(GENERAL_PROGRAM);
    /// Not decided yet: the client has no persistence template.
    pub const PERSIST: Self = Self::stage(PERSIST_PROGRAM);
    /// Not decided yet: the packet may be one of the wide table.
    pub const WIDE: Self = Self::stage(WIDE_PROGRAM);
    /// Not decided yet: the packet may be a reply to one of the wide table.
    pub const WIDE_REPLY: Self = Self::stage(WIDE_REPLY_PROGRAM);
    /// Not decided yet: an IPv4 packet that looked like one of the wide table is none.
    pub const NARROW: Self = Self::stage(NARROW_PROGRAM);
    /// As [`Self::SCHEDULE`], for the wide table.
    pub const WIDE_OPEN: Self = Self::stage(WIDE_OPEN_PROGRAM);
    /// As [`Self::PERSIST`], for the wide table.
    pub const WIDE_PERSIST: Self = Self::stage(WIDE_PERSIST_PROGRAM);
    /// Not decided yet, but the destination of a new connection is noted.
    pub const WIDE_CONNECT: Self = Self::stage(WIDE_CONNECT_PROGRAM);
    /// Not decided yet, but the destination is noted.
    pub const WIDE_SEND: Self = Self::stage(WIDE_SEND_PROGRAM);
    /// Not decided yet: an ICMP message, maybe an error about a known connection.
    pub const ICMP: Self = Self::stage(ICMP_PROGRAM);
    /// Refused and counted; its sender is to be told.
    pub const REPORT: Self = Self::stage(REPORT_PROGRAM);
    /// Not decided yet: a fragment without ports.
    pub const FRAGMENT: Self = Self::stage(FRAGMENT_PROGRAM);
    /// Not decided yet: an ICMPv6 message, maybe an error about a known connection.
    pub const WIDE_ICMP: Self = Self::stage(WIDE_ICMP_PROGRAM);
    /// Not decided yet: a fragment of IPv6; where its first one goes is noted.
    pub const WIDE_FRAGMENT: Self = Self::stage(WIDE_FRAGMENT_PROGRAM);
    /// Not decided yet: the packet is to be wrapped for the tunnel of the destination in [`crate::Note::Destination`].
    pub const TUNNEL: Self = Self::stage(TUNNEL_PROGRAM);
    /// Not decided yet: a new connection by full NAT to the destination that is noted.
    pub const FULL_NAT_OPEN: Self = Self::stage(FULL_NAT_OPEN_PROGRAM);
    /// Not decided yet: to be sent by full NAT, by what is noted.
    pub const FULL_NAT: Self = Self::stage(FULL_NAT_PROGRAM);
    /// Not decided yet: the packet may be a reply to the local address that is noted.
    pub const FULL_NAT_REPLY: Self = Self::stage(FULL_NAT_REPLY_PROGRAM);
    /// Refused and counted; its sender is to be answered by a reset.
    pub const RESET: Self = Self::stage(RESET_PROGRAM);
    /// Not decided yet: an ICMP error about a packet of no known connection.
    pub const ICMP_OPEN: Self = Self::stage(ICMP_OPEN_PROGRAM);
    /// Not decided yet: AH or ESP, maybe after a known IKE flow.
    pub const IPSEC: Self = Self::stage(IPSEC_PROGRAM);
    /// Not decided yet: an error that may concern a connection by full NAT, or one of IPv4 over SCTP.
    pub const FULL_NAT_ICMP: Self = Self::stage(FULL_NAT_ICMP_PROGRAM);
    /// Not decided yet: a fragment that may be of a connection by full NAT.
    pub const FULL_NAT_FRAGMENT: Self = Self::stage(FULL_NAT_FRAGMENT_PROGRAM);
    /// Not decided yet: the Call-ID of a SIP message is to be found, for a service that goes by it.
    pub const SIP: Self = Self::stage(SIP_PROGRAM);
    /// Not decided yet: a masqueraded real server may begin a call.
    pub const SIP_SERVER: Self = Self::stage(SIP_SERVER_PROGRAM);
    /// Not decided yet, but the template of a call that a masqueraded real server may have begun is there.
    pub const SIP_SEND: Self = Self::stage(SIP_SEND_PROGRAM);
    /// Not decided yet: a packet of no known flow during a flood.
    pub const FLOOD: Self = Self::stage(FLOOD_PROGRAM);
    /// As [`Self::FLOOD`], for the wide table.
    pub const WIDE_FLOOD: Self = Self::stage(WIDE_FLOOD_PROGRAM);
    const REDIRECT: u64 = 3;
    const STAGE: u64 = 4;

    /// Not decided yet: another stage is to decide, by its element in the map of programs.
    const fn stage(program: u32) -> Self {
        Self(Self::STAGE | (program as u64) << 32)
    }

    /// [`Verdict::Redirect`].
    #[inline(always)]
    pub const fn redirect(ifindex: u32) -> Self {
        Self(Self::REDIRECT | (ifindex as u64) << 32)
    }

    /// Interface to leave by, if it is another one than the frame came from.
    #[inline(always)]
    pub const fn ifindex(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Whether another stage is to decide; [`Self::program`] says which.
    #[inline(always)]
    pub const fn is_stage(self) -> bool {
        self.0 & 0xffff_ffff == Self::STAGE
    }

    /// Element of the stage that is to decide in the map of programs.
    #[inline(always)]
    pub const fn program(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// As an enum.
    #[inline(always)]
    pub const fn verdict(self) -> Verdict {
        match self {
            Self::PASS => Verdict::Pass,
            Self::DROP => Verdict::Drop,
            Self::TRANSMIT => Verdict::Transmit,
            Self(word) if word & 0xffff_ffff == Self::STAGE => Verdict::Pass,
            Self(_) => Verdict::Redirect(self.ifindex()),
        }
    }
}
