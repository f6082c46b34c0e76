//! Names and sizes of maps and programs.

/// Version of every layout in this crate; part of the pin path.
pub const LAYOUT_VERSION: u32 = 6;

/// Destinations there is room for, those that only old connections refer to included.
pub const MAX_DESTINATIONS: u32 = 16_384;

/// Services there is room for.
pub const MAX_SERVICES: u32 = 4_096;

/// Element of the program map that holds the scheduling program.
pub const SCHEDULE_PROGRAM: u32 = 0;
/// Element of the program map that holds the program for frames with VLAN tags or IP options.
pub const GENERAL_PROGRAM: u32 = 1;
/// Element of the program that makes persistence templates in the program map.
pub const PERSIST_PROGRAM: u32 = 2;
/// Element of the program for packets of the wide table.
pub const WIDE_PROGRAM: u32 = 3;
/// Element of the program that schedules new connections of the wide table.
pub const WIDE_OPEN_PROGRAM: u32 = 4;
/// Element of the program that makes persistence templates in the wide table.
pub const WIDE_PERSIST_PROGRAM: u32 = 9;
/// Element of the program that sends a packet of the wide table to the destination that is noted.
pub const WIDE_SEND_PROGRAM: u32 = 10;
/// Element of the program that makes the connection of the wide table whose destination is noted.
pub const WIDE_CONNECT_PROGRAM: u32 = 11;
/// Element of the program for replies to packets of the wide table.
pub const WIDE_REPLY_PROGRAM: u32 = 12;
/// Element of the program that forwards ICMP errors about known connections.
pub const ICMP_PROGRAM: u32 = 5;
/// Element of the program that answers a refused packet by an ICMP error.
pub const REPORT_PROGRAM: u32 = 6;
/// Element of the program for fragments without ports.
pub const FRAGMENT_PROGRAM: u32 = 7;
/// Element of the program that forwards ICMPv6 errors about known connections.
pub const WIDE_ICMP_PROGRAM: u32 = 13;
/// Element of the program for fragments of IPv6.
pub const WIDE_FRAGMENT_PROGRAM: u32 = 14;
/// Element of the program for errors that may concern a connection by full NAT.
pub const FULL_NAT_ICMP_PROGRAM: u32 = 25;
/// Element of the program for fragments that may be of a connection by full NAT.
pub const FULL_NAT_FRAGMENT_PROGRAM: u32 = 26;
/// Element of the program that opens connections of full NAT whose destination is noted.
pub const FULL_NAT_OPEN_PROGRAM: u32 = 16;
/// Element of the program that sends a client's packet on by full NAT.
pub const FULL_NAT_PROGRAM: u32 = 17;
/// Element of the program for replies to local addresses of full NAT.
pub const FULL_NAT_REPLY_PROGRAM: u32 = 18;
/// Element of the program for packets that looked like those of the wide table, but are IPv4's own.
pub const NARROW_PROGRAM: u32 = 19;
/// Element of the program that finds the Call-ID of a SIP message.
pub const SIP_PROGRAM: u32 = 20;
/// Element of the program for SIP messages that masqueraded real servers begin with.
pub const SIP_SERVER_PROGRAM: u32 = 28;
/// Element of the program that sends those on whose template is there.
pub const SIP_SEND_PROGRAM: u32 = 29;
/// Element of the program map that holds the program for tunnels other than IPv4 in IPv4.
pub const TUNNEL_PROGRAM: u32 = 8;
/// Element of the program that answers a packet of a removed destination by a reset.
pub const RESET_PROGRAM: u32 = 23;
/// Element of the program that opens connections for ICMP errors of none.
pub const ICMP_OPEN_PROGRAM: u32 = 24;
/// Element of the program for AH and ESP.
pub const IPSEC_PROGRAM: u32 = 15;
/// Element of the program for new flows during a flood.
pub const FLOOD_PROGRAM: u32 = 21;
/// Element of the program for new flows of the wide table during a flood.
pub const WIDE_FLOOD_PROGRAM: u32 = 22;
/// Elements of the program map.
pub const PROGRAMS: u32 = 32;

/// Local addresses of full NAT that there is room for if nothing else is said.
pub const DEFAULT_LOCALS: u32 = 16;
/// Elements of the port table per local address: one for each port number.
pub const LOCAL_PORTS: u32 = 65_536;
/// First port that full NAT uses; those below may be somebody's service.
pub const FIRST_LOCAL_PORT: u32 = 1_024;

/// Datagrams in fragments that are remembered, of each family.
pub const FRAGMENTS: u32 = 16_384;

/// Largest IP packet between the host's own stack and the director, bytes: a little less than a veth device with a program
/// takes, whose frames lie in one page of 4,096 bytes.
pub const LOCAL_MTU: u32 = 3_400;

/// Elements of the map of next hops between the host's own stack and the director. The two are joined by a pair of
/// interfaces: the stack has one end, the director's program is attached to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalPort {
    /// From the stack to the director: out of the stack's end.
    ToDirector = 0,
    /// From the director to the stack: out of the director's end.
    ToStack = 1,
}

impl LocalPort {
    /// How many there are.
    pub const COUNT: u32 = 2;
}

/// Words that the programs of one packet leave for one another, per CPU.
pub const NOTES: usize = 24;

/// Names of maps; the kernel keeps 15 bytes.
pub mod map_names {
    /// Flow table: buckets of four slots.
    pub const FLOWS: &str = "ELVS_FLOWS";
    /// Wide flow table: buckets of four slots of 64 bytes.
    pub const WIDE_FLOWS: &str = "ELVS_WIDE";
    /// Next hops of IPv6 clients of NAT services.
    pub const WIDE_CLIENTS: &str = "ELVS_CLIENTS6";
    /// Local addresses of full NAT.
    pub const LOCALS: &str = "ELVS_LOCALS";
    /// Their ports: [`super::LOCAL_PORTS`] elements each.
    pub const PORTS: &str = "ELVS_PORTS";
    /// Outer map whose only element is the configuration in force.
    pub const CONFIG: &str = "ELVS_CONFIG";
    /// Destination records.
    pub const DESTINATIONS: &str = "ELVS_DESTS";
    /// Load words of destinations.
    pub const LOADS: &str = "ELVS_LOADS";
    /// Per-CPU statistics of destinations.
    pub const STATS: &str = "ELVS_STATS";
    /// Scheduler words of services.
    pub const SCHEDULERS: &str = "ELVS_SCHEDS";
    /// Per-CPU counters by reason.
    pub const COUNTERS: &str = "ELVS_COUNTERS";
    /// Settings.
    pub const SETTINGS: &str = "ELVS_SETTINGS";
    /// Programs that others go on to.
    pub const PROGRAMS: &str = "ELVS_PROGS";
    /// Words per CPU that a program writes, and itself or the next one reads.
    pub const SCRATCH: &str = "ELVS_SCRATCH";
    /// Next hops of clients of NAT services.
    pub const CLIENTS: &str = "ELVS_CLIENTS";
    /// Datagrams whose first fragment has been forwarded.
    pub const FRAGMENTS: &str = "ELVS_FRAGMENTS";
    /// The same of IPv6.
    pub const WIDE_FRAGMENTS: &str = "ELVS_FRAGS6";

    /// Call-IDs that templates go by, by their [`crate::CallHash`].
    pub const CALLS: &str = "ELVS_CALLS";
    /// Connections of services with the SIP engine, and the [`crate::CallHash`] of the template that each belongs to.
    pub const CALLERS: &str = "ELVS_CALLERS";
    /// A Call-ID per CPU, before it is put among the others.
    pub const CALL_DRAFT: &str = "ELVS_CALL";
    /// Next hops between the host's own stack and the director; see [`crate::LocalPort`].
    pub const LOCAL: &str = "ELVS_LOCAL";

    /// When a core last kept new flows out because of a flood: a word, see [`crate::FloodWord`].
    pub const FLOOD: &str = "ELVS_FLOOD";

    /// All of them.
    pub const ALL: [&str; 22] = [
        FLOOD,
        LOCALS,
        PORTS,
        FLOWS,
        WIDE_FLOWS,
        WIDE_CLIENTS,
        CONFIG,
        DESTINATIONS,
        LOADS,
        STATS,
        SCHEDULERS,
        COUNTERS,
        SETTINGS,
        PROGRAMS,
        SCRATCH,
        CLIENTS,
        FRAGMENTS,
        WIDE_FRAGMENTS,
        CALLS,
        CALLERS,
        CALL_DRAFT,
        LOCAL,
    ];
}

/// Names of programs.
pub mod program_names {
    /// The director's first stage, the one that is attached: packets of known connections.
    pub const DIRECTOR: &str = "elvs_director";
    /// The same for frames with VLAN tags or IP options: element [`super::GENERAL_PROGRAM`] of the program map.
    pub const GENERAL: &str = "elvs_general";
    /// The director's last stage, which schedules new connections: element [`super::SCHEDULE_PROGRAM`].
    pub const SCHEDULE: &str = "elvs_schedule";
    /// The stage between, for new clients of persistent services: element [`super::PERSIST_PROGRAM`].
    pub const PERSIST: &str = "elvs_persist";
    /// Packets of known connections of the wide table: element [`super::WIDE_PROGRAM`].
    pub const WIDE: &str = "elvs_wide";
    /// New connections of the wide table: element [`super::WIDE_OPEN_PROGRAM`].
    pub const WIDE_OPEN: &str = "elvs_wide_open";
    /// New clients of persistent services of the wide table: element [`super::WIDE_PERSIST_PROGRAM`].
    pub const WIDE_PERSIST: &str = "elvs_wide_keep";
    /// Packets that open connections of the wide table: element [`super::WIDE_SEND_PROGRAM`].
    pub const WIDE_SEND: &str = "elvs_wide_send";
    /// New clients' connections of the wide table: element [`super::WIDE_CONNECT_PROGRAM`].
    pub const WIDE_CONNECT: &str = "elvs_wide_join";
    /// Packets that looked like those of the wide table: element [`super::NARROW_PROGRAM`].
    pub const NARROW: &str = "elvs_narrow";
    /// Replies of the wide table: element [`super::WIDE_REPLY_PROGRAM`].
    pub const WIDE_REPLY: &str = "elvs_wide_reply";
    /// ICMP errors about known connections: element [`super::ICMP_PROGRAM`].
    pub const ICMP: &str = "elvs_icmp";
    /// ICMP errors of the director's own: element [`super::REPORT_PROGRAM`].
    pub const REPLY: &str = "elvs_reply";
    /// Fragments without ports: element [`super::FRAGMENT_PROGRAM`].
    pub const FRAGMENT: &str = "elvs_fragment";
    /// ICMPv6 errors about known connections: element [`super::WIDE_ICMP_PROGRAM`].
    pub const WIDE_ICMP: &str = "elvs_icmp6";
    /// Fragments of IPv6: element [`super::WIDE_FRAGMENT_PROGRAM`].
    pub const WIDE_FRAGMENT: &str = "elvs_fragment6";
    /// The stage that wraps packets for tunnels other than IPv4 in IPv4: element [`super::TUNNEL_PROGRAM`].
    pub const TUNNEL: &str = "elvs_tunnel";
    /// New connections by full NAT: element [`super::FULL_NAT_OPEN_PROGRAM`].
    pub const FULL_NAT_OPEN: &str = "elvs_fnat_open";
    /// Clients' packets by full NAT: element [`super::FULL_NAT_PROGRAM`].
    pub const FULL_NAT: &str = "elvs_fnat";
    /// Replies by full NAT: element [`super::FULL_NAT_REPLY_PROGRAM`].
    pub const FULL_NAT_REPLY: &str = "elvs_fnat_reply";
    /// AH and ESP after their IKE flows: element [`super::IPSEC_PROGRAM`].
    pub const IPSEC: &str = "elvs_ipsec";
    /// Errors about connections by full NAT: element [`super::FULL_NAT_ICMP_PROGRAM`].
    pub const FULL_NAT_ICMP: &str = "elvs_fnat_icmp";
    /// Fragments of connections by full NAT: element [`super::FULL_NAT_FRAGMENT_PROGRAM`].
    pub const FULL_NAT_FRAGMENT: &str = "elvs_fnat_frag";
    /// The Call-ID of a SIP message: element [`super::SIP_PROGRAM`].
    pub const SIP: &str = "elvs_sip";
    /// SIP messages that masqueraded real servers begin with: element [`super::SIP_SERVER_PROGRAM`].
    pub const SIP_SERVER: &str = "elvs_sip_out";
    /// Those of them whose template is there: element [`super::SIP_SEND_PROGRAM`].
    pub const SIP_SEND: &str = "elvs_sip_send";
    /// Connections for ICMP errors of none: element [`super::ICMP_OPEN_PROGRAM`].
    pub const ICMP_OPEN: &str = "elvs_icmp_open";
    /// Resets of the director's own: element [`super::RESET_PROGRAM`].
    pub const RESET: &str = "elvs_reset";
    /// New flows during a flood: element [`super::FLOOD_PROGRAM`].
    pub const FLOOD: &str = "elvs_flood";
    /// New flows of the wide table during a flood: element [`super::WIDE_FLOOD_PROGRAM`].
    pub const WIDE_FLOOD: &str = "elvs_wide_flood";
    /// The director's stages in the program map: element and name.
    pub const STAGES: [(u32, &str); 29] = [
        (super::SCHEDULE_PROGRAM, SCHEDULE),
        (super::GENERAL_PROGRAM, GENERAL),
        (super::PERSIST_PROGRAM, PERSIST),
        (super::WIDE_PROGRAM, WIDE),
        (super::WIDE_OPEN_PROGRAM, WIDE_OPEN),
        (super::WIDE_PERSIST_PROGRAM, WIDE_PERSIST),
        (super::WIDE_SEND_PROGRAM, WIDE_SEND),
        (super::WIDE_REPLY_PROGRAM, WIDE_REPLY),
        (super::WIDE_CONNECT_PROGRAM, WIDE_CONNECT),
        (super::NARROW_PROGRAM, NARROW),
        (super::ICMP_PROGRAM, ICMP),
        (super::REPORT_PROGRAM, REPLY),
        (super::FRAGMENT_PROGRAM, FRAGMENT),
        (super::WIDE_ICMP_PROGRAM, WIDE_ICMP),
        (super::WIDE_FRAGMENT_PROGRAM, WIDE_FRAGMENT),
        (super::TUNNEL_PROGRAM, TUNNEL),
        (super::FULL_NAT_OPEN_PROGRAM, FULL_NAT_OPEN),
        (super::FULL_NAT_PROGRAM, FULL_NAT),
        (super::FULL_NAT_ICMP_PROGRAM, FULL_NAT_ICMP),
        (super::FULL_NAT_FRAGMENT_PROGRAM, FULL_NAT_FRAGMENT),
        (super::FULL_NAT_REPLY_PROGRAM, FULL_NAT_REPLY),
        (super::RESET_PROGRAM, RESET),
        (super::ICMP_OPEN_PROGRAM, ICMP_OPEN),
        (super::IPSEC_PROGRAM, IPSEC),
        (super::SIP_PROGRAM, SIP),
        (super::SIP_SERVER_PROGRAM, SIP_SERVER),
        (super::SIP_SEND_PROGRAM, SIP_SEND),
        (super::FLOOD_PROGRAM, FLOOD),
        (super::WIDE_FLOOD_PROGRAM, WIDE_FLOOD),
    ];
    /// Looks at what the host itself sends, and hands the director its business; a classifier, where the others are XDP
    /// programs.
    pub const EGRESS: &str = "elvs_egress";
    /// Removes the outer header on a tunnelled real server.
    pub const DECAP: &str = "elvs_decap";
    /// Passes every frame; put on a veth peer so that it accepts redirected frames.
    pub const PASS: &str = "elvs_pass";
    /// Reads the kernel's clock; run by the daemon.
    pub const CLOCK: &str = "elvs_clock";
}
