//! Settings that both sides read.

/// The only element of the settings map. The daemon writes it through mapped memory.
///
/// Times are in ticks: a tick is `1 << tick_shift` jiffies, about 64 ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Settings {
    /// Idle time after which a TCP connection expires, by state, ticks.
    pub tcp_timeouts: [u32; 16],
    /// Idle time after which a UDP flow expires, ticks.
    pub udp_timeout: u32,
    /// Buckets of the flow table that hash values map to (without the tail that chains run into).
    pub buckets: u32,
    /// Jiffies per second.
    pub jiffies_per_second: u32,
    /// Tick = jiffies >> this.
    pub tick_shift: u32,
    /// Connections that the table was configured for.
    pub connections: u32,
    /// See [`SettingFlags`].
    pub flags: u32,
    /// As `buckets`, of the wide flow table.
    pub wide_buckets: u32,
    /// As `connections`, of the wide flow table.
    pub wide_connections: u32,
    /// Local addresses of full NAT that there is room for.
    pub locals: u32,
    /// Zero.
    pub pad: u32,
    /// Secret of the flow hash.
    pub seed: [u64; 2],
    /// Idle time after which an SCTP association expires, by state, ticks.
    pub sctp_timeouts: [u32; 16],
    /// One of so many new connections is dropped (`drop_packet`); 0 = none.
    pub drop_rate: u32,
    /// New flows per second and core above which half-open ones are kept out of the table; 0 = never.
    pub flood_threshold: u32,
}

/// The word that says when a core last kept new flows out of the table because of a flood: its tick, and a bit above it that
/// makes it no 0, which means never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FloodWord(pub u64);

impl FloodWord {
    const EVER: u64 = 1 << 32;

    /// At a tick.
    #[inline(always)]
    pub const fn at(tick: u32) -> Self {
        Self(tick as u64 | Self::EVER)
    }

    /// Whether it happened in the `ticks` before `now`.
    #[inline(always)]
    pub const fn within(self, now: u32, ticks: u32) -> bool {
        #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
        let tick = self.0 as u32;
        self.0 != 0 && crate::idle_ticks(now, tick) <= ticks
    }
}

/// Ticks of a window in which new flows are counted against [`Settings::flood_threshold`]: about a second.
pub const FLOOD_WINDOW: u32 = 16;

/// Bits of [`Settings::flags`]: settings of `net.ipv4.vs` that packets depend on.
#[derive(Clone, Copy, Debug)]
pub struct SettingFlags;

impl SettingFlags {
    /// `sloppy_tcp`: any TCP packet but a reset may open a connection.
    pub const SLOPPY_TCP: u32 = 1;
    /// `expire_nodest_conn`: connections end whose destination is gone, and a SYN leaves one of weight 0.
    pub const EXPIRE_NODEST_CONN: u32 = 2;
    /// `expire_quiescent_template`: templates end whose destination has weight 0.
    pub const EXPIRE_QUIESCENT_TEMPLATE: u32 = 4;
    /// `conn_reuse_mode` 0: a SYN of a known connection never is a new one.
    pub const NO_REUSE: u32 = 8;
    /// `conn_reuse_mode` 2 and 3: one in FIN_WAIT is over as well, if its replies do not pass the director.
    pub const REUSE_FIN_WAIT: u32 = 16;
    /// `sloppy_sctp`: any SCTP packet but one that aborts may open an association.
    pub const SLOPPY_SCTP: u32 = 32;
    /// `secure_tcp` acts: new TCP connections go by the kernel's state table for attacks.
    pub const SECURE_TCP: u32 = 256;
    /// `cache_bypass`: packets for a firewall mark without destinations go on to their own.
    pub const CACHE_BYPASS: u32 = 512;
    /// `schedule_icmp`: ICMP errors of no connection go to a destination by the packet that they quote.
    pub const SCHEDULE_ICMP: u32 = 1024;
}

impl Settings {
    /// IPVS's default timeouts in seconds by TCP state (`ip_vs_proto_tcp.c`, `tcp_timeouts`), the last one
    /// for [`crate::SECURE_SYN_RECV`].
    pub const TCP_SECONDS: [u32; 12] = [2, 900, 120, 60, 120, 120, 10, 60, 30, 120, 120, 60];
    /// IPVS's timeouts in seconds by SCTP state (`ip_vs_proto_sctp.c`, `sctp_timeouts`).
    pub const SCTP_SECONDS: [u32; 14] = [2, 4, 61, 61, 61, 61, 61, 61, 900, 61, 61, 61, 4, 61];
    /// IPVS's default UDP timeout in seconds.
    pub const UDP_SECONDS: u32 = 300;

    /// Timeout of a connection in ticks.
    #[inline(always)]
    pub fn timeout(&self, protocol: u8, state: u8) -> u32 {
        if protocol == crate::TCP {
            self.tcp_timeouts.get(state as usize).copied().unwrap_or(0)
        } else if protocol == crate::SCTP {
            self.sctp_timeouts.get(state as usize).copied().unwrap_or(0)
        } else {
            self.udp_timeout
        }
    }
}

/// Ticks in `seconds`, rounded up, so that nothing expires early.
pub const fn ticks_from_seconds(seconds: u32, jiffies_per_second: u32, tick_shift: u32) -> u32 {
    let jiffies = seconds as u64 * jiffies_per_second as u64;
    let ticks = jiffies.div_ceil(1 << tick_shift);
    #[expect(clippy::cast_possible_truncation, reason = "bounded by the comparison")]
    let ticks = if ticks > u32::MAX as u64 { u32::MAX } else { ticks as u32 };
    ticks
}

const _: () = assert!(size_of::<Settings>() == 192);
const _: () = assert!(core::mem::offset_of!(Settings, seed) == 104);

#[cfg(test)]
mod tests {
    use super::ticks_from_seconds;

    #[test]
    fn ticks_round_up_and_saturate() {
        assert_eq!(ticks_from_seconds(900, 1000, 6), 14_063);
        assert_eq!(ticks_from_seconds(1, 250, 4), 16);
        assert_eq!(ticks_from_seconds(0, 1000, 6), 0);
        assert_eq!(ticks_from_seconds(u32::MAX, 1000, 0), u32::MAX);
    }
}
