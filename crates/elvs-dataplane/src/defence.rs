//! IPVS's defence levels: whether entries and new connections are dropped to save memory, and whether new TCP connections go
//! by the state table for attacks (`update_defense_level` in `ip_vs_ctl.c`).
//!
//! What the kernel compares with `amemthresh` is the host's free memory. Here the flow tables have their memory from the start,
//! and are what a flood fills, so the room in them counts too: a table with a sixteenth of its connections free stands for
//! `amemthresh` pages, one with less for less. The scarcest of the three decides.
//!
//! **Invariant:** a level follows from the settings and what is free, on nothing else; modes 1 and 2 are one mode, of which
//! the kernel shows 2 while it acts.
//!
//! Called by [`crate::Director`] once a second, and when settings change.

use elvs_common::Settings as Record;
use elvs_model::{Setting, SettingValue, Settings};

/// Free connections of a table that stand for `amemthresh` pages: one of so many.
const SHARE: u64 = 16;

/// What a defence level has in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Defence {
    /// Half-open and idle connections are dropped.
    pub drop_entry: bool,
    /// One of so many new connections is dropped; 0 = none.
    pub drop_rate: u32,
    /// New TCP connections go by the state table for attacks.
    pub secure_tcp: bool,
}

impl Defence {
    /// The level by the settings, with so many pages available.
    pub(crate) fn of(settings: &Settings, available: u64) -> Self {
        let threshold = u64::try_from(settings.number(Setting::Amemthresh)).unwrap_or_default();
        let missing = threshold.saturating_sub(available);
        let acts = |setting| match settings.number(setting) {
            0 => false,
            1 | 2 => missing > 0,
            _ => true,
        };
        let drop_rate = match settings.number(Setting::DropPacket) {
            0 => 0,
            1 | 2 => threshold.checked_div(missing).unwrap_or_default(),
            _ => u64::try_from(settings.number(Setting::AmDroprate)).unwrap_or_default(),
        };
        Self {
            drop_entry: acts(Setting::DropEntry),
            drop_rate: u32::try_from(drop_rate).unwrap_or(u32::MAX),
            secure_tcp: acts(Setting::SecureTcp),
        }
    }

    /// The settings as the kernel shows them: the automatic modes as 2 while they act, and as 1 while they do not.
    pub(crate) fn shown(self, settings: &Settings) -> Settings {
        let mut shown = settings.clone();
        let levels = [
            (Setting::DropEntry, self.drop_entry),
            (Setting::DropPacket, self.drop_rate != 0),
            (Setting::SecureTcp, self.secure_tcp),
        ];
        for (setting, acts) in levels {
            if matches!(settings.number(setting), 1 | 2) {
                // 1 and 2 are among the values that these take.
                let _ = shown.set(setting, SettingValue::Number(if acts { 2 } else { 1 }));
            }
        }
        shown
    }
}

/// Whether any packet may be treated otherwise because of the defence, now or when memory runs low: new connections are then
/// all left to the stage that schedules.
pub(crate) fn may_act(settings: &Settings) -> bool {
    settings.is_on(Setting::DropPacket) || settings.is_on(Setting::SecureTcp)
}

/// Whether the level depends on what is free.
pub(crate) fn is_automatic(settings: &Settings) -> bool {
    [Setting::DropEntry, Setting::DropPacket, Setting::SecureTcp]
        .into_iter()
        .any(|setting| matches!(settings.number(setting), 1 | 2))
}

/// Pages available: of the host, if that is known, and by the entries that the two flow tables hold.
pub(crate) fn available(
    settings: &Settings,
    record: &Record,
    occupied: [u64; 2],
    free_pages: Option<u64>,
) -> u64 {
    let threshold = u64::try_from(settings.number(Setting::Amemthresh)).unwrap_or_default();
    let capacities = [record.connections, record.wide_connections].map(u64::from);
    let tables = capacities.into_iter().zip(occupied).filter_map(|(capacity, occupied)| {
        let free = capacity.saturating_sub(occupied);
        (threshold * SHARE).saturating_mul(free).checked_div(capacity)
    });
    tables.chain(free_pages).min().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
