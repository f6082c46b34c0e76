//! Names and sizes of maps and programs.

/// Version of every layout in this crate; part of the pin path.
pub const LAYOUT_VERSION: u32 = 5;

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
/// Element of the program map that holds the program for tunnels other than IPv4 in IPv4.
pub const TUNNEL_PROGRAM: u32 = 8;

/// Elements of the program map: one more than the highest above.
pub const PROGRAMS: u32 = 9;

/// Words that the programs of one packet leave for one another, per CPU.
pub const NOTES: usize = 16;

/// Names of maps; the kernel keeps 15 bytes.
pub mod map_names {
    /// Flow table: buckets of four slots.
    pub const FLOWS: &str = "ELVS_FLOWS";
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

    /// All of them.
    pub const ALL: [&str; 11] = [
        FLOWS,
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
    /// The stage that wraps packets for tunnels other than IPv4 in IPv4: element [`super::TUNNEL_PROGRAM`].
    pub const TUNNEL: &str = "elvs_tunnel";
    /// The director's stages in the program map: element and name.
    pub const STAGES: [(u32, &str); 4] = [
        (super::SCHEDULE_PROGRAM, SCHEDULE),
        (super::GENERAL_PROGRAM, GENERAL),
        (super::PERSIST_PROGRAM, PERSIST),
        (super::TUNNEL_PROGRAM, TUNNEL),
    ];
    /// Removes the outer header on a tunnelled real server.
    pub const DECAP: &str = "elvs_decap";
    /// Passes every frame; put on a veth peer so that it accepts redirected frames.
    pub const PASS: &str = "elvs_pass";
    /// Reads the kernel's clock; run by the daemon.
    pub const CLOCK: &str = "elvs_clock";
}
