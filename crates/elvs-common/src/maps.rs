//! Names and sizes of maps and programs.

/// Version of every layout in this crate; part of the pin path.
pub const LAYOUT_VERSION: u32 = 1;

/// Destinations there is room for, those that only old connections refer to included.
pub const MAX_DESTINATIONS: u32 = 16_384;

/// Services there is room for.
pub const MAX_SERVICES: u32 = 4_096;

/// Element of the program map that holds the scheduling program.
pub const SCHEDULE_PROGRAM: u32 = 0;

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
    /// Next hops of clients of NAT services.
    pub const CLIENTS: &str = "ELVS_CLIENTS";

    /// All of them.
    pub const ALL: [&str; 10] = [
        FLOWS,
        CONFIG,
        DESTINATIONS,
        LOADS,
        STATS,
        SCHEDULERS,
        COUNTERS,
        SETTINGS,
        PROGRAMS,
        CLIENTS,
    ];
}

/// Names of programs.
pub mod program_names {
    /// The director: packets of known connections.
    pub const DIRECTOR: &str = "elvs_director";
    /// The director's second half, which schedules new connections: element [`super::SCHEDULE_PROGRAM`] of the program
    /// map.
    pub const SCHEDULE: &str = "elvs_schedule";
    /// Removes the outer header on a tunnelled real server.
    pub const DECAP: &str = "elvs_decap";
    /// Passes every frame; put on a veth peer so that it accepts redirected frames.
    pub const PASS: &str = "elvs_pass";
    /// Reads the kernel's clock; run by the daemon.
    pub const CLOCK: &str = "elvs_clock";
}
