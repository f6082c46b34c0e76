//! Destinations as the program in the kernel sees them.
//!
//! A destination keeps its index for as long as a connection refers to it. The daemon writes records in place
//! through mapped memory while packets are read against them, so what changes together is written to the copy that
//! is not in use, and then one word is flipped.

/// Where frames for a destination go: the twelve bytes that replace the Ethernet addresses, and the interface.
///
/// The bytes are kept as two words, as they go into a frame: compilers load, keep and store single bytes singly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NextHop {
    /// First eight of the twelve bytes, as loaded: MAC address of the next hop, first two bytes of our own.
    pub first: u64,
    /// The other four, as loaded.
    pub second: u32,
    /// Egress interface; 0 = not resolved.
    pub ifindex: u32,
}

impl NextHop {
    /// Next hop of the MAC addresses of its neighbour and of our interface, and the latter's index.
    #[inline(always)]
    pub const fn new(destination_mac: [u8; 6], source_mac: [u8; 6], ifindex: u32) -> Self {
        let [d0, d1, d2, d3, d4, d5] = destination_mac;
        let [s0, s1, s2, s3, s4, s5] = source_mac;
        Self {
            first: u64::from_ne_bytes([d0, d1, d2, d3, d4, d5, s0, s1]),
            second: u32::from_ne_bytes([s2, s3, s4, s5]),
            ifindex,
        }
    }

    /// The twelve bytes at the front of a frame.
    #[inline(always)]
    pub const fn addresses(&self) -> [u8; 12] {
        let [d0, d1, d2, d3, d4, d5, s0, s1] = self.first.to_ne_bytes();
        let [s2, s3, s4, s5] = self.second.to_ne_bytes();
        [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5]
    }
}

/// Bits of [`DestinationRecord::flags`].
#[derive(Clone, Copy, Debug)]
pub struct DestinationFlags;

impl DestinationFlags {
    /// In its service's table; cleared when it is removed while connections still refer to it.
    pub const AVAILABLE: u32 = 1;
    /// The address is the director's own: packets go to the host's stack.
    pub const LOCAL: u32 = 2;
    /// The persistence templates of its service are for all ports.
    pub const SHARED_TEMPLATE: u32 = 4;
    /// Its weight is 0.
    pub const QUIESCED: u32 = 8;
    /// Its address is `address6`; else `address`.
    pub const IPV6: u32 = 16;
    /// Its service is of IPv6: its templates go by `persistence_prefix`.
    pub const IPV6_SERVICE: u32 = 32;
    /// Packets for it are wrapped by the stage for tunnels: it has a tunnel other than IPv4 in IPv4.
    pub const ENCAPSULATED: u32 = 64;
    /// The templates of its service go by Call-IDs.
    pub const SIP: u32 = 128;
    /// Once it is removed, its connections are answered by a reset (`on_delete reset` of its service).
    pub const RESET: u32 = 1024;
}

/// Values of [`DestinationRecord::tunnel_kind`].
#[derive(Clone, Copy, Debug)]
pub struct TunnelKind;

impl TunnelKind {
    /// IP in IP (RFC 2003, RFC 2473).
    pub const IPIP: u16 = 0;
    /// Generic UDP encapsulation (draft-ietf-intarea-gue), variant 0.
    pub const GUE: u16 = 1;
    /// Generic routing encapsulation (RFC 2784).
    pub const GRE: u16 = 2;
}

/// Bits of [`DestinationRecord::tunnel_flags`]; the numbers are the kernel's `IP_VS_TUNNEL_ENCAP_FLAG_*`.
#[derive(Clone, Copy, Debug)]
pub struct TunnelFlags;

impl TunnelFlags {
    /// The tunnel's own header has a checksum over everything in it.
    pub const CSUM: u16 = 1;
    /// The same for packets that come with their checksum complete, which are all that this program sees.
    pub const REMCSUM: u16 = 2;
}

/// One destination. 128 bytes: what IPv4 needs lies in the first cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct DestinationRecord {
    /// Which of the two next hops is in use, 0 or 1.
    pub selector: u32,
    /// See [`DestinationFlags`].
    pub flags: u32,
    /// [`crate::Method`] of new connections.
    pub method: u32,
    /// Port, network order.
    pub port: u16,
    /// See [`TunnelKind`].
    pub tunnel_kind: u16,
    /// IPv4 address, network order.
    pub address: u32,
    /// IPv4 source of the outer header, network order.
    pub tunnel_source: u32,
    /// Two copies; `selector` names the one in use.
    pub next_hop: [NextHop; 2],
    /// Longest IP packet that leaves towards it, bytes; 0 = unknown.
    pub mtu: u32,
    /// Index of the service it belongs to.
    pub service: u32,
    /// IPv6 address, network order; zero for an IPv4 destination.
    pub address6: [u8; 16],
    /// IPv6 source of the outer header, network order.
    pub tunnel_source6: [u8; 16],
    /// Connections from which on it is overloaded; 0 = never.
    pub upper_threshold: u32,
    /// Connections below which it is so no more; 0 = three quarters of the upper threshold.
    pub lower_threshold: u32,
    /// Idle time after which a persistence template of its service expires, ticks; 0 = the service is not persistent.
    pub persistence_ticks: u32,
    /// Bits of a client's address that the templates of its service go by, network order.
    pub persistence_mask: u32,
    /// Virtual address in their keys, network order; 0 = that of the connection.
    pub template_address: u32,
    /// Length of the prefix of a client's IPv6 address that the templates of its service go by.
    pub persistence_prefix: u32,
    /// UDP port of a GUE tunnel, network order.
    pub tunnel_port: u16,
    /// See [`TunnelFlags`].
    pub tunnel_flags: u16,
    /// Zero.
    pub pad: u32,
}

/// What schedulers weigh: connections per destination, changed by atomic addition.
///
/// `active` is the upper half of the word and `inactive` the lower one, so that a connection moves from one to the
/// other in a single addition.
#[derive(Clone, Copy, Debug)]
pub struct DestinationLoad;

impl DestinationLoad {
    /// Adds one active connection.
    pub const ACTIVE: u64 = 1 << 32;
    /// Adds one inactive connection.
    pub const INACTIVE: u64 = 1;
    /// Its upper threshold was reached: it gets no new connections (`IP_VS_DEST_F_OVERLOAD`).
    pub const OVERLOAD: u64 = 1 << 63;

    /// Unit of a connection.
    #[inline(always)]
    pub const fn unit(inactive: bool) -> u64 {
        if inactive { Self::INACTIVE } else { Self::ACTIVE }
    }

    /// Active connections in a load word.
    #[inline(always)]
    pub const fn active(word: u64) -> u32 {
        (word >> 32 & 0x7fff_ffff) as u32
    }

    /// Inactive connections in a load word.
    #[inline(always)]
    pub const fn inactive(word: u64) -> u32 {
        (word & 0xffff_ffff) as u32
    }

    /// Connections in a load word.
    #[inline(always)]
    pub const fn total(word: u64) -> u64 {
        Self::active(word) as u64 + Self::inactive(word) as u64
    }

    /// The word after a connection was added, with [`Self::OVERLOAD`] if that reached the upper threshold
    /// (`ip_vs_bind_dest`).
    #[inline(always)]
    pub const fn judge_added(word: u64, upper: u32) -> u64 {
        if upper != 0 && Self::total(word) >= upper as u64 { word | Self::OVERLOAD } else { word }
    }

    /// The word after a connection was taken off, without [`Self::OVERLOAD`] if it is now below the lower threshold
    /// (`ip_vs_unbind_dest`).
    #[inline(always)]
    pub const fn judge_removed(word: u64, upper: u32, lower: u32) -> u64 {
        let total = Self::total(word);
        let stays = if lower != 0 {
            total >= lower as u64
        } else {
            upper != 0 && total * 4 >= upper as u64 * 3
        };
        if stays { word } else { word & !Self::OVERLOAD }
    }
}

/// Per-CPU counters of one destination; the order is that of `ipvsadm -L --stats`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct DestinationStats {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets from the real server (NAT).
    pub out_packets: u64,
    /// Bytes from clients: IP packet lengths.
    pub in_bytes: u64,
    /// Bytes from the real server: IP packet lengths.
    pub out_bytes: u64,
}

impl DestinationStats {
    /// One packet from a client, of so many bytes.
    #[inline(always)]
    pub const fn input(bytes: u64) -> Self {
        Self { connections: 0, in_packets: 1, out_packets: 0, in_bytes: bytes, out_bytes: 0 }
    }

    /// One packet from a real server, of so many bytes.
    #[inline(always)]
    pub const fn output(bytes: u64) -> Self {
        Self { connections: 0, in_packets: 0, out_packets: 1, in_bytes: 0, out_bytes: bytes }
    }
}

const _: () = assert!(size_of::<NextHop>() == 16);
const _: () = assert!(size_of::<DestinationRecord>() == 128);
const _: () = assert!(core::mem::offset_of!(DestinationRecord, next_hop) == 24);
const _: () = assert!(core::mem::offset_of!(DestinationRecord, address6) == 64);
const _: () = assert!(size_of::<DestinationStats>() == 40);
