//! Counters by reason: every drop, refusal and rare event of the data plane has one.
//!
//! **Invariant:** one enum variant, one slot of the per-CPU counter map, one name in the API, one doc line.

/// What a counter says about its packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterKind {
    /// The packet was dropped.
    Drop,
    /// The packet went to the host's own network stack although it met a virtual service.
    Pass,
    /// Something worth knowing happened; the packet was forwarded.
    Event,
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $variant:ident = $kind:ident $name:literal,)+) => {
        /// A reason to count.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Counter {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Counter {
            /// Every counter, in the order of its map index.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Name in the API and in metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What it says about its packet.
            pub const fn kind(self) -> CounterKind {
                match self { $(Self::$variant => CounterKind::$kind,)+ }
            }

            /// One line for operators: what happened and, for faults, what to look at.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}

counters! {
    /// Connection's destination was removed from its service; IPVS drops such packets until the connection expires.
    DestinationGone = Drop "destination_gone",
    /// No destination of the service can take a new connection (all have weight 0, or there are none).
    NoDestination = Drop "no_destination",
    /// MAC address of the next hop is not known; look at the real server's link and ARP.
    NoNextHop = Drop "no_next_hop",
    /// Every slot the new connection could use holds an established one; raise `data_plane { connections N }`.
    TableFull = Drop "table_full",
    /// Time to live would reach 0 at the director.
    TtlExpired = Drop "ttl_expired",
    /// Packet with its outer header exceeds the MTU of the way to the real server, and may not be fragmented; its sender is told.
    TunnelTooBig = Drop "tunnel_too_big",
    /// Packet exceeds the MTU of the way to the real server, and may not be fragmented; its sender is told.
    TooBig = Drop "too_big",
    /// Packet exceeds the MTU of the way to the real server and would have to be fragmented, which the director cannot do; raise the MTU.
    NotFragmented = Drop "not_fragmented",
    /// Headers are truncated or contradict each other in a packet for a virtual address.
    Malformed = Drop "malformed",
    /// Another CPU was inserting into the same part of the flow table for too long.
    InsertContended = Drop "insert_contended",
    /// Other CPUs changed the scheduler's state too often while this packet was scheduled.
    SchedulerContended = Drop "scheduler_contended",
    /// New connection was refused on purpose, to save memory (drop_packet).
    DropPacket = Drop "drop_packet",
    /// Masqueraded real server sent a packet of no connection, and is told so (nat_icmp_send).
    NoConnection = Drop "no_connection",
    /// Segment of TCP in fragments: by full NAT it would have no room for the client's address; let the network carry whole packets.
    FragmentRefused = Drop "fragment_refused",
    /// SCTP, AH and ESP are not forwarded by full NAT; give them a service of another method.
    ProtocolRefused = Drop "protocol_refused",
    /// Every port of the service's local addresses is in use (full NAT); add local addresses.
    LocalPortsExhausted = Drop "local_ports_exhausted",
    /// No room in a client's segment for the option that names it (full NAT, TOA).
    ToaNoRoom = Drop "toa_no_room",
    /// Packet for a service with the SIP persistence engine is no UDP datagram with a Call-ID; IPVS drops such packets.
    NoCallId = Drop "no_call_id",
    /// No room in front of the packet for the outer header.
    NoHeadroom = Drop "no_headroom",
    /// A table contradicts itself; a bug of ELVS.
    Bug = Drop "bug",
    /// TCP packet of no known connection that is no SYN, or SCTP packet that is no INIT; it goes to the host's stack, as with IPVS.
    NotSyn = Pass "not_syn",
    /// Fragment whose datagram is not known: its first one has not come yet, was not forwarded, or is long past.
    Fragment = Pass "fragment",
    /// Packet for a firewall mark without destinations was left to the host to route to its own destination (cache_bypass).
    CacheBypass = Pass "cache_bypass",
    /// Expired connection was replaced because its bucket was full before the daemon came by.
    EvictedExpired = Event "evicted_expired",
    /// Half-open connection was replaced by a new one because its bucket was full.
    EvictedHalfOpen = Event "evicted_half_open",
    /// Connection ended because its destination was removed: its packet was looked at anew (expire_nodest_conn 1), or its client is told (on_delete reset).
    ExpiredNodest = Event "expired_nodest",
    /// SYN, or INIT of SCTP, came for a connection that is over, so it was scheduled anew (conn_reuse_mode).
    Reused = Event "reused",
    /// Half-open or idle connection was dropped by the daemon to save room (drop_entry).
    DropEntry = Event "drop_entry",
    /// Two CPUs met the same new connection; the second used the first one's entry.
    InsertRace = Event "insert_race",
    /// Other CPUs changed a destination's connections too often for its thresholds to be judged; the next one judges again.
    JudgeContended = Event "judge_contended",
    /// Persistence template was replaced because its destination was removed.
    TemplateReplaced = Event "template_replaced",
    /// No room to keep a Call-ID or its connection: the template is listed without, or may end before the connection.
    CallsFull = Event "calls_full",
    /// Kernel's routing table was asked, because the daemon had no next hop for the packet.
    FibFallback = Event "fib_fallback",
    /// ICMP error about a packet of a known connection was sent on to its real server.
    IcmpForwarded = Event "icmp_forwarded",
    /// ICMP error about a packet to a masqueraded real server was sent on to the client.
    IcmpReturned = Event "icmp_returned",
    /// ICMP error about a tunnel's outer packet was turned into one for the client.
    IcmpTunnel = Event "icmp_tunnel",
    /// Refused packet was answered by an ICMP error.
    IcmpSent = Event "icmp_sent",
    /// Refused packet was not answered, because too many were answered before it (about 1,000 per second and CPU).
    IcmpLimited = Event "icmp_limited",
    /// Refused packet was not answered, because RFC 1122 forbids it, or no address, way or room was there for an answer.
    IcmpWithheld = Event "icmp_withheld",
    /// Packet of a connection whose destination was removed was answered by a TCP reset (on_delete reset).
    ResetSent = Event "reset_sent",
    /// Fragment without ports followed the first one of its datagram.
    FragmentForwarded = Event "fragment_forwarded",
    /// A core began to keep half-open flows out of the table: more new flows in a second than `data_plane { flood_threshold N }`, or a part of the table full of half-open ones.
    FloodEntered = Event "flood_entered",
    /// A core ended that: fewer new flows than half of the threshold in a second.
    FloodLeft = Event "flood_left",
    /// Packet of a flow that is not in the table was sent to the real server that a hash names (flood).
    FloodStateless = Event "flood_stateless",
    /// New flow got one of the places for half-open ones, which it loses to the next one unless its client goes on (flood).
    FloodProvisional = Event "flood_provisional",
}

/// Number of counters.
pub const COUNTERS: usize = Counter::ALL.len();

#[cfg(test)]
mod tests {
    use super::Counter;

    #[test]
    fn names_are_unique_and_indexes_are_dense() {
        for (i, a) in Counter::ALL.iter().enumerate() {
            assert_eq!(*a as usize, i);
            assert!(!a.help().is_empty());
            assert_eq!(Counter::ALL.iter().filter(|b| b.name() == a.name()).count(), 1, "{a:?}");
        }
    }
}
