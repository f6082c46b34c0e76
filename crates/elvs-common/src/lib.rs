//! What the program in the kernel and the daemon agree on: map names, memory layouts, counter ids.
//!
//! **Invariant:** every type that lies in a map is `#[repr(C)]`, made of integers and arrays only, without hidden
//! padding, and its size and offsets are asserted at compile time. A change of any layout raises
//! [`LAYOUT_VERSION`], which is part of the pin path, so that two versions never share a map.
//!
//! Used by `elvs-fastpath` (which reads and writes these layouts), by the BPF program and by `elvs-dataplane`.
#![no_std]
#![forbid(unsafe_code)]

mod blob;
mod call;
mod control;
mod counter;
mod destination;
mod maps;
mod settings;
mod state;
mod toa;
mod wide;

pub use blob::{
    BLOB_LINES, FILTER_LINES, FILTER_PLACES, FILTER_REAL_SERVER_LINE, FILTER_VIP_LINE, FilterBits,
    HEADER_LINE, HeaderFlags, Line, LocalLine, MarkLine, POOL_ENTRIES_PER_LINE, PersistenceLine,
    PoolEntry, SERVICE_MAX_PROBES, SERVICES_LINE, SchedulerWord, ServiceFlags, ServiceRecord,
    TABLE_ENTRIES_PER_LINE, TABLE_NOBODY, WideMark, filter_bits, filter_line, filter_place,
    filter_shift, filter_word, scheduler_id, service_hash, service_key, service_kind, set_filter,
    table_lines,
};
pub use call::{CALL_ID_LENGTH, CALLS, Call, CallHash, Caller, caller};
pub use control::{Control, Method, Phase};
pub use counter::{COUNTERS, Counter, CounterKind};
pub use destination::{
    DestinationFlags, DestinationLoad, DestinationRecord, DestinationStats, NextHop, TunnelFlags,
    TunnelKind,
};
pub use maps::{
    DEFAULT_LOCALS, FIRST_LOCAL_PORT, FLOOD_PROGRAM, FRAGMENT_PROGRAM, FRAGMENTS,
    FULL_NAT_FRAGMENT_PROGRAM, FULL_NAT_ICMP_PROGRAM, FULL_NAT_OPEN_PROGRAM, FULL_NAT_PROGRAM,
    FULL_NAT_REPLY_PROGRAM, GENERAL_PROGRAM, ICMP_OPEN_PROGRAM, ICMP_PROGRAM, IPSEC_PROGRAM,
    LAYOUT_VERSION, LOCAL_MTU, LOCAL_PORTS, LocalPort, MAX_DESTINATIONS, MAX_SERVICES,
    NARROW_PROGRAM, NOTES, PERSIST_PROGRAM, PROGRAMS, REPORT_PROGRAM, RESET_PROGRAM,
    SCHEDULE_PROGRAM, SIP_PROGRAM, SIP_SEND_PROGRAM, SIP_SERVER_PROGRAM, TUNNEL_PROGRAM,
    WIDE_CONNECT_PROGRAM, WIDE_FLOOD_PROGRAM, WIDE_FRAGMENT_PROGRAM, WIDE_ICMP_PROGRAM,
    WIDE_OPEN_PROGRAM, WIDE_PERSIST_PROGRAM, WIDE_PROGRAM, WIDE_REPLY_PROGRAM, WIDE_SEND_PROGRAM,
    map_names, program_names,
};
pub use settings::{FLOOD_WINDOW, FloodWord, SettingFlags, Settings, ticks_from_seconds};
pub use state::{SCTP_STATES, SECURE_SYN_RECV, SctpState, TCP_STATES, TcpState};
pub use toa::{
    MAX_OPTIONS, OPTIONS_BUFFER, OptionBytes, TOA_COUNTERS, TOA_IPV4_LENGTH, TOA_IPV6_LENGTH,
    TOA_KIND, TOA_MAX_TRUSTED, ToaClient, ToaCounter, ToaError, find_client, toa_maps,
    toa_programs,
};
pub use wide::WideAddress;

/// IP protocol number of ICMP.
pub const ICMP: u8 = 1;
/// IP protocol number of ICMPv6.
pub const ICMPV6: u8 = 58;
/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;
/// IP protocol number of SCTP.
pub const SCTP: u8 = 132;
/// IP protocol number of ESP.
pub const ESP: u8 = 50;
/// IP protocol number of AH.
pub const AH: u8 = 51;
/// Protocol number in the templates of services by firewall mark, which are for all protocols.
pub const MARKED: u8 = 0;
/// Protocol number in the entries of the schedulers that go by locality: reserved (RFC 3692), and never a connection's.
pub const LOCALITY: u8 = 255;
/// Ports in the key of the only entry of an address with lblc; with lblcr it is the index of each destination.
pub const LBLC_PORTS: u32 = u32::MAX;

/// Protocol number under which a persistence template for connections of `protocol`, or another entry that is no
/// connection, lies in the flow table.
///
/// These are numbers of protocols that are not balanced, so no packet's connection is taken for a template.
#[inline(always)]
pub const fn template_protocol(protocol: u8) -> u8 {
    protocol ^ 0x80
}

/// Whether a protocol number in the flow table is that of an entry that is no connection: a persistence template, or
/// what a scheduler that goes by locality remembers.
#[inline(always)]
pub const fn is_template(protocol: u8) -> bool {
    let of = template_protocol(protocol);
    of == TCP || of == UDP || of == SCTP || of == MARKED || of == LOCALITY
}

/// Slots in one bucket of the flow table: four of 32 bytes, so that a slot never crosses a cache line and a
/// bucket is two adjacent lines.
pub const BUCKET_SLOTS: usize = 4;

/// Buckets that one connection may lie in: the chain of its home bucket.
pub const CHAIN_BUCKETS: u32 = 16;

/// Buckets after the last home bucket, so that no chain runs out of the table.
pub const TAIL_BUCKETS: u32 = chain_offset(CHAIN_BUCKETS - 1);

/// Where the `distance`th bucket of a chain lies after the home bucket: triangular numbers, so that the chains of
/// neighbours spread instead of running into one another.
#[inline(always)]
pub const fn chain_offset(distance: u32) -> u32 {
    distance.wrapping_mul(distance.wrapping_add(1)) / 2
}

/// A packet renews its connection's tick when that is at least this old: about half a second. So a busy connection
/// costs two writes a second instead of one per packet, and one expires up to that much late.
pub const REFRESH_TICKS: u32 = 8;

/// Ticks since `then`; 0 for a tick after `now`, which another CPU may have written meanwhile.
#[inline(always)]
pub const fn idle_ticks(now: u32, then: u32) -> u32 {
    let idle = now.wrapping_sub(then);
    if idle >> 31 == 0 { idle } else { 0 }
}

/// Bytes of one slot of the flow table.
pub const SLOT_BYTES: usize = 32;
