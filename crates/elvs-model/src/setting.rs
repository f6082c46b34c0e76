//! The settings that IPVS has under `net.ipv4.vs`, and those of ELVS's own beside them: names, defaults, values, and what
//! becomes of each here.
//!
//! **Invariant:** [`Setting::ALL`] has every setting of Linux 6.12 once (`Documentation/networking/ipvs-sysctl.rst`,
//! `net/netfilter/ipvs/ip_vs_ctl.c`); a [`Settings`] holds only values that the kernel would take.
//!
//! Called by the table, the configuration reader, the commands `elvs set` and `elvs get`, and the data plane.

use core::fmt;
use core::str::FromStr;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(
    missing_docs,
    reason = "what each one does is in its row of `ROWS`, which is what operators read"
)]
pub enum Setting {
    AmDroprate,
    Amemthresh,
    BackupOnly,
    CacheBypass,
    ConnReuseMode,
    Conntrack,
    DebugLevel,
    DropEntry,
    DropPacket,
    EstCpulist,
    EstNice,
    ExpireNodestConn,
    ExpireQuiescentTemplate,
    IgnoreTunneled,
    LblcExpiration,
    LblcrExpiration,
    MhTableSize,
    NatIcmpSend,
    PmtuDisc,
    RunEstimation,
    ScheduleIcmp,
    SecureTcp,
    SloppySctp,
    SloppyTcp,
    SnatReroute,
    SyncPersistMode,
    SyncPorts,
    SyncQlenMax,
    SyncRefreshPeriod,
    SyncRetries,
    SyncSockSize,
    SyncThreshold,
    SyncVersion,
}

/// What becomes of a setting in this release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SettingSupport {
    /// It does what it does in the kernel.
    InEffect,
    /// It is kept and does nothing yet.
    NotYet,
    /// It is kept and will never do anything: what it is about does not exist on XDP.
    NotOnXdp,
}

impl SettingSupport {
    /// The words shown.
    pub const fn words(self) -> &'static str {
        match self {
            Self::InEffect => "in effect",
            Self::NotYet => "not in effect yet",
            Self::NotOnXdp => "no meaning on XDP",
        }
    }
}

/// One row of the table.
struct Row {
    setting: Setting,
    name: &'static str,
    default: Initial,
    kind: Kind,
    support: SettingSupport,
    /// What it does.
    about: &'static str,
    /// What is so instead, or why; empty if it is in effect.
    instead: &'static str,
}

/// The value that a kernel starts with.
#[derive(Clone, Copy)]
enum Initial {
    Number(i64),
    Pair(u32, u32),
    NoCpus,
}

/// Which values a setting takes.
#[derive(Clone, Copy)]
enum Kind {
    /// A number from the first to the second.
    Number(i64, i64),
    /// 0, or anything above for on.
    Switch,
    /// A number of threads: a power of two up to 64.
    Power,
    /// A count and a period, the count below the period.
    Threshold,
    /// One of [`MAGLEV_PRIMES`].
    Prime,
    /// A list of CPUs, such as `0-3,8`.
    Cpus,
}

/// Sizes of mh's table that a kernel can be built with (`CONFIG_IP_VS_MH_TAB_INDEX` 8 to 17).
pub const MAGLEV_PRIMES: [u32; 10] =
    [251, 509, 1021, 2039, 4093, 8191, 16_381, 32_749, 65_521, 131_071];

/// Largest `int` of the kernel.
const MAX: i64 = i32::MAX as i64;

use SettingSupport::{InEffect, NotOnXdp, NotYet};

const fn row(
    setting: Setting,
    name: &'static str,
    default: i64,
    kind: Kind,
    support: SettingSupport,
    about: &'static str,
    instead: &'static str,
) -> Row {
    Row { setting, name, default: Initial::Number(default), kind, support, about, instead }
}

/// Every setting, by name.
#[rustfmt::skip]
const ROWS: [Row; 33] = [
    row(Setting::AmDroprate, "am_droprate", 10, Kind::Number(0, MAX), InEffect, "with drop_packet 3, one of so many new connections is dropped", ""),
    row(Setting::Amemthresh, "amemthresh", 1024, Kind::Number(0, MAX), InEffect, "pages of free memory below which drop_entry, drop_packet and secure_tcp 1 and 2 act; a flow table with a sixteenth of its connections free counts as so many", ""),
    row(Setting::BackupOnly, "backup_only", 0, Kind::Switch, NotYet, "a director that receives synchronisation forwards nothing", "there is no synchronisation, so no director is a backup in its sense"),
    row(Setting::CacheBypass, "cache_bypass", 0, Kind::Switch, InEffect, "packets for a mark service without destinations go on to their own destination: the host routes them", ""),
    row(Setting::ConnReuseMode, "conn_reuse_mode", 1, Kind::Number(0, 3), InEffect, "how a SYN from a port that was used before is scheduled: 0 as the old connection, 1 anew when that is over, 2 also in FIN_WAIT", ""),
    row(Setting::Conntrack, "conntrack", 0, Kind::Switch, NotOnXdp, "netfilter tracks connections of IPVS", "packets are forwarded before netfilter sees them"),
    row(Setting::DebugLevel, "debug_level", 0, Kind::Number(0, 12), NotOnXdp, "how much goes to the kernel's log", "the program writes no log; `elvs run --log-level` is the daemon's"),
    row(Setting::DropEntry, "drop_entry", 0, Kind::Number(0, 3), InEffect, "half-open and idle connections are dropped: 1 and 2 when memory is low, 3 always", ""),
    row(Setting::DropPacket, "drop_packet", 0, Kind::Number(0, 3), InEffect, "new connections are dropped: 1 and 2 when memory is low, 3 always", ""),
    Row { setting: Setting::EstCpulist, name: "est_cpulist", default: Initial::NoCpus, kind: Kind::Cpus, support: NotOnXdp, about: "CPUs for the kernel threads that estimate rates", instead: "the daemon estimates rates; taskset(1) says where it runs" },
    row(Setting::EstNice, "est_nice", 0, Kind::Number(-20, 19), NotOnXdp, "nice value of the kernel threads that estimate rates", "the daemon estimates rates; nice(1) says how it runs"),
    row(Setting::ExpireNodestConn, "expire_nodest_conn", 0, Kind::Switch, InEffect, "a packet of a connection whose destination is gone ends the connection and is scheduled anew", ""),
    row(Setting::ExpireQuiescentTemplate, "expire_quiescent_template", 0, Kind::Switch, InEffect, "a persistent client leaves a destination of weight 0", ""),
    row(Setting::IgnoreTunneled, "ignore_tunneled", 0, Kind::Switch, NotOnXdp, "packets that came out of a tunnel are not scheduled", "ELVS acts as with 1: the program sees tunnelled packets only inside their tunnel"),
    row(Setting::LblcExpiration, "lblc_expiration", 86_400, Kind::Number(0, MAX), InEffect, "seconds until lblc forgets an address", ""),
    row(Setting::LblcrExpiration, "lblcr_expiration", 86_400, Kind::Number(0, MAX), InEffect, "seconds until lblcr forgets an address", ""),
    row(Setting::MhTableSize, "mh_table_size", 4093, Kind::Prime, InEffect, "entries of mh's tables, which the kernel has fixed when it is built (CONFIG_IP_VS_MH_TAB_INDEX); ELVS's own", ""),
    row(Setting::NatIcmpSend, "nat_icmp_send", 0, Kind::Switch, InEffect, "a masqueraded real server's packet of no connection is answered by port unreachable", ""),
    row(Setting::PmtuDisc, "pmtu_disc", 1, Kind::Switch, NotOnXdp, "a packet too large for a tunnel is answered by fragmentation needed", "ELVS acts as with 1: a program in the driver cannot fragment"),
    row(Setting::RunEstimation, "run_estimation", 1, Kind::Switch, InEffect, "rates are estimated", ""),
    row(Setting::ScheduleIcmp, "schedule_icmp", 0, Kind::Switch, InEffect, "ICMP errors of no connection are scheduled by the packet that they quote", ""),
    row(Setting::SecureTcp, "secure_tcp", 0, Kind::Number(0, 3), InEffect, "new TCP connections go by the state table for attacks: 1 and 2 when memory is low, 3 always", ""),
    row(Setting::SloppySctp, "sloppy_sctp", 0, Kind::Switch, InEffect, "any SCTP packet but an abort opens a connection", ""),
    row(Setting::SloppyTcp, "sloppy_tcp", 0, Kind::Switch, InEffect, "any TCP packet but a reset opens a connection", ""),
    row(Setting::SnatReroute, "snat_reroute", 1, Kind::Switch, NotOnXdp, "masqueraded replies are routed again by their new source", "a reply is routed once, after its source was rewritten"),
    row(Setting::SyncPersistMode, "sync_persist_mode", 0, Kind::Switch, NotYet, "of persistent services only templates are synchronised", "there is no synchronisation"),
    row(Setting::SyncPorts, "sync_ports", 1, Kind::Power, NotYet, "threads and ports of synchronisation", "there is no synchronisation"),
    row(Setting::SyncQlenMax, "sync_qlen_max", 32_768, Kind::Number(0, MAX), NotYet, "messages that wait for synchronisation; the kernel's default is a 32nd of its free pages", "there is no synchronisation"),
    row(Setting::SyncRefreshPeriod, "sync_refresh_period", 0, Kind::Number(0, MAX), NotYet, "seconds after which a connection is synchronised again", "there is no synchronisation"),
    row(Setting::SyncRetries, "sync_retries", 0, Kind::Number(0, 3), NotYet, "how often a synchronisation message is repeated", "there is no synchronisation"),
    row(Setting::SyncSockSize, "sync_sock_size", 0, Kind::Number(0, MAX), NotYet, "bytes of the sockets' buffers of synchronisation; 0 = the kernel's default", "there is no synchronisation"),
    Row { setting: Setting::SyncThreshold, name: "sync_threshold", default: Initial::Pair(3, 50), kind: Kind::Threshold, support: NotYet, about: "packets of a connection after which it is synchronised, and the period in packets", instead: "there is no synchronisation" },
    row(Setting::SyncVersion, "sync_version", 1, Kind::Number(0, 1), NotYet, "version of the synchronisation protocol", "there is no synchronisation"),
];

impl Setting {
    /// Every setting, by name.
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        ROWS.iter().map(|row| row.setting)
    }

    /// Name in `net.ipv4.vs`, where the kernel has it.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// What it does, in the kernel.
    pub fn about(self) -> &'static str {
        self.row().about
    }

    /// What becomes of it in this release.
    pub fn support(self) -> SettingSupport {
        self.row().support
    }

    /// What is so instead, or why it means nothing; empty if it is in effect.
    pub fn instead(self) -> &'static str {
        self.row().instead
    }

    /// What an operator is told who sets it; `None` if it is in effect.
    pub fn warning(self) -> Option<String> {
        let Row { name, instead, support, .. } = self.row();
        match support {
            SettingSupport::InEffect => None,
            NotYet => Some(format!("{name} is kept, and not in effect in this release: {instead}")),
            NotOnXdp => Some(format!("{name} is kept, and has no meaning on XDP: {instead}")),
        }
    }

    /// The value that a kernel starts with.
    pub fn default_value(self) -> SettingValue {
        match self.row().default {
            Initial::Number(number) => SettingValue::Number(number),
            Initial::Pair(count, period) => SettingValue::Pair(count, period),
            Initial::NoCpus => SettingValue::Cpus(String::new()),
        }
    }

    /// What values it takes, in words.
    pub fn range(self) -> String {
        match self.row().kind {
            Kind::Number(min, max) => format!("a number from {min} to {max}"),
            Kind::Switch => "0 for off, or 1 for on".to_owned(),
            Kind::Power => "1, 2, 4, 8, 16, 32 or 64".to_owned(),
            Kind::Threshold => {
                "two numbers, the first below the second unless that is 0, such as 3 50".to_owned()
            }
            Kind::Prime => {
                format!(
                    "one of the primes {}",
                    MAGLEV_PRIMES.map(|prime| prime.to_string()).join(", ")
                )
            }
            Kind::Cpus => "a list of CPUs, such as 0-3,8".to_owned(),
        }
    }

    /// Reads a value as sysctl(8) takes it.
    ///
    /// # Errors
    /// A value that the kernel refuses.
    pub fn value(self, text: &str) -> Result<SettingValue, SettingError> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let value = match (self.row().kind, words.as_slice()) {
            (Kind::Cpus, []) => Some(SettingValue::Cpus(String::new())),
            (Kind::Cpus, [list]) => Some(SettingValue::Cpus((*list).to_owned())),
            (Kind::Threshold, [count, period]) => {
                let pair = count.parse().ok().zip(period.parse().ok());
                pair.map(|(count, period)| SettingValue::Pair(count, period))
            }
            (Kind::Number(..) | Kind::Switch | Kind::Power | Kind::Prime, [number]) => {
                number.parse().ok().map(SettingValue::Number)
            }
            _ => None,
        };
        let shown = || text.to_owned();
        let refused = || SettingError::Value { setting: self, given: shown(), range: self.range() };
        value.filter(|value| self.takes(value)).ok_or_else(refused)
    }

    /// Whether the kernel takes a value.
    pub fn takes(self, value: &SettingValue) -> bool {
        match (self.row().kind, value) {
            (Kind::Number(min, max), SettingValue::Number(number)) => (min..=max).contains(number),
            // The kernel takes any number for "on".
            (Kind::Switch, SettingValue::Number(number)) => (0..=MAX).contains(number),
            (Kind::Power, SettingValue::Number(number)) => {
                (1..=64).contains(number) && number.count_ones() == 1
            }
            (Kind::Prime, SettingValue::Number(number)) => {
                MAGLEV_PRIMES.iter().any(|prime| i64::from(*prime) == *number)
            }
            (Kind::Threshold, SettingValue::Pair(count, period)) => {
                let fits = |number: u32| i64::from(number) <= MAX;
                fits(*count) && fits(*period) && (count < period || *period == 0)
            }
            (Kind::Cpus, SettingValue::Cpus(list)) => list.is_empty() || is_cpu_list(list),
            (
                Kind::Number(..)
                | Kind::Switch
                | Kind::Power
                | Kind::Threshold
                | Kind::Prime
                | Kind::Cpus,
                SettingValue::Number(_) | SettingValue::Pair(..) | SettingValue::Cpus(_),
            ) => false,
        }
    }

    fn row(self) -> &'static Row {
        // Rows stand in the order of the variants, which a test checks.
        let [first, ..] = &ROWS;
        ROWS.get(self as usize).unwrap_or(first)
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Setting {
    type Err = SettingError;

    /// The name, with or without `net.ipv4.vs.` or `net/ipv4/vs/` before it.
    fn from_str(text: &str) -> Result<Self, SettingError> {
        let stripped = text.strip_prefix("net.ipv4.vs.");
        let name = stripped.or_else(|| text.strip_prefix("net/ipv4/vs/")).unwrap_or(text);
        let row = ROWS.iter().find(|row| row.name == name);
        row.map(|row| row.setting).ok_or_else(|| SettingError::Unknown(text.to_owned()))
    }
}

/// The value of a setting.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SettingValue {
    /// A number; 0 is off where it is a switch.
    Number(i64),
    /// A count and a period.
    Pair(u32, u32),
    /// CPUs; empty = all.
    Cpus(String),
}

impl fmt::Display for SettingValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Pair(count, period) => write!(f, "{count} {period}"),
            Self::Cpus(list) => f.write_str(list),
        }
    }
}

/// Why a setting cannot be set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingError {
    /// A name that IPVS has not.
    #[error("there is no setting `{0}`: `elvs get` lists those there are")]
    Unknown(String),
    /// A value that the setting does not take.
    #[error("`{given}` is no value of {setting}: write {range}")]
    Value {
        /// The setting.
        setting: Setting,
        /// The text.
        given: String,
        /// What it takes.
        range: String,
    },
}

/// A setting as listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingView {
    /// Which one.
    pub setting: Setting,
    /// The value in force.
    pub value: SettingValue,
    /// The value that a kernel starts with.
    pub default: SettingValue,
    /// What becomes of it.
    pub support: SettingSupport,
    /// What it does, in the kernel.
    pub about: String,
    /// What is so instead, or why it means nothing; empty if it is in effect.
    pub note: String,
}

/// Settings in force: those that differ from the defaults, and the defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<Setting, SettingValue>", into = "BTreeMap<Setting, SettingValue>")]
pub struct Settings(BTreeMap<Setting, SettingValue>);

impl Settings {
    /// The value of a setting.
    pub fn value(&self, setting: Setting) -> SettingValue {
        self.0.get(&setting).cloned().unwrap_or_else(|| setting.default_value())
    }

    /// The number of a setting that has one; 0 of one that has none.
    pub fn number(&self, setting: Setting) -> i64 {
        match self.value(setting) {
            SettingValue::Number(number) => number,
            SettingValue::Pair(..) | SettingValue::Cpus(_) => 0,
        }
    }

    /// Whether a switch is on.
    pub fn is_on(&self, setting: Setting) -> bool {
        self.number(setting) != 0
    }

    /// Settings that differ from their defaults, by name.
    pub fn changed(&self) -> impl Iterator<Item = (Setting, &SettingValue)> {
        self.0.iter().map(|(setting, value)| (*setting, value))
    }

    /// Every setting, as listed.
    pub fn views(&self) -> Vec<SettingView> {
        let view = |setting: Setting| SettingView {
            setting,
            value: self.value(setting),
            default: setting.default_value(),
            support: setting.support(),
            about: setting.about().to_owned(),
            note: setting.instead().to_owned(),
        };
        Setting::all().map(view).collect()
    }

    /// Sets one.
    ///
    /// # Errors
    /// A value that it does not take; the one in force stays.
    pub fn set(&mut self, setting: Setting, value: SettingValue) -> Result<(), SettingError> {
        if !setting.takes(&value) {
            let (given, range) = (value.to_string(), setting.range());
            return Err(SettingError::Value { setting, given, range });
        }
        if value == setting.default_value() {
            self.0.remove(&setting);
        } else {
            self.0.insert(setting, value);
        }
        Ok(())
    }
}

impl TryFrom<BTreeMap<Setting, SettingValue>> for Settings {
    type Error = SettingError;

    fn try_from(values: BTreeMap<Setting, SettingValue>) -> Result<Self, SettingError> {
        let mut settings = Self(BTreeMap::new());
        for (setting, value) in values {
            settings.set(setting, value)?;
        }
        Ok(settings)
    }
}

impl From<Settings> for BTreeMap<Setting, SettingValue> {
    fn from(settings: Settings) -> Self {
        settings.0
    }
}

/// Whether a text is what `cpulist_parse` (`lib/bitmap.c`) takes, in its plain form: numbers and ranges.
fn is_cpu_list(text: &str) -> bool {
    let cpu = |word: &str| -> Option<u16> {
        let digits = !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| word.parse().ok()).flatten()
    };
    text.split(',').all(|part| match part.split_once('-') {
        Some((first, last)) => cpu(first).zip(cpu(last)).is_some_and(|(a, b)| a <= b),
        None => cpu(part).is_some(),
    })
}

#[cfg(test)]
mod tests;
