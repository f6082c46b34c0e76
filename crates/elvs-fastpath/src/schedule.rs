//! Schedulers: IPVS's picks for the same history (`ip_vs_rr.c` and its neighbours in Linux 6.12).
//!
//! **Invariant:** a pick depends on the scheduling list, the scheduler word, the load words, the client and the random
//! numbers, on nothing else. Lists are in IPVS's order, newest destination first; among equals the first in the list wins.

mod cursor;
mod hash;
mod locality;
mod persist;
mod stable;
mod twos;
mod weigh;

use elvs_common::{
    Line, POOL_ENTRIES_PER_LINE, PoolEntry, SchedulerWord, ServiceFlags, ServiceRecord,
    SettingFlags, scheduler_id, service_kind,
};

use crate::atomic::Atomic64;
use crate::flow::{AddressValue, FlowKey};
use crate::host::{Host, Note};
use crate::service::service_record;
use crate::side::Side;

pub(crate) use cursor::pick_at_once;
pub use hash::{MAGLEV_PRIMES, MaglevEntry, MaglevProgress, dh_table, mh_table, sh_table};
pub(crate) use locality::MEMORY;
pub use locality::{Located, locate};
pub use stable::pick_stable;

/// Most destinations of one service.
pub const MAX_POOL: u32 = 1_024;

/// What [`pick`] is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Asked {
    /// The destination of a new connection.
    Destination = 0,
    /// The scheduler's choice, even where something may be remembered.
    Scheduler = 1,
    /// As [`Self::Destination`], after the Call-ID was found that a service may go by.
    Call = 2,
}

impl Asked {
    /// Of its number; any other one is the first.
    #[inline(always)]
    pub const fn of_bits(bits: u32) -> Self {
        match bits {
            1 => Self::Scheduler,
            2 => Self::Call,
            _ => Self::Destination,
        }
    }
}

/// What a new connection gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// This destination.
    Destination(u32),
    /// This destination, for this packet alone.
    Once(u32),
    /// No destination can take a connection.
    Nobody,
    /// Another CPU moved the scheduler meanwhile: pick again.
    Contended,
    /// There is no such virtual service.
    NoService,
    /// The service is persistent, or goes by locality, and nothing is remembered for the connection.
    NoTemplate,
    /// The service is persistent by the Call-ID of SIP messages, which is to be found before; the client's masked address is
    /// noted.
    ByCall,
    /// The same, and the destination is for this packet alone.
    OnceByCall,
    /// It is one of the new connections that are dropped to save memory (`drop_packet`).
    Shed,
    /// No destination can take a connection, and the packet is to go on to its own one (`cache_bypass`).
    Bypass,
}

/// Bit of [`Pick::Once`] and [`Located::Once`] in a word.
const ONCE: u64 = 1 << 33;

/// A [`Pick`] in one word, as a function of its own returns it in the kernel.
impl From<Pick> for u64 {
    #[inline(always)]
    fn from(pick: Pick) -> Self {
        match pick {
            Pick::Destination(destination) => Choice::of(destination).0,
            Pick::Once(destination) => Choice::of(destination).0 | ONCE,
            Pick::Nobody => 0,
            Pick::Contended => 1,
            Pick::NoService => 2,
            Pick::NoTemplate => 3,
            Pick::ByCall => 4,
            Pick::OnceByCall => 5,
            Pick::Shed => 6,
            Pick::Bypass => 7,
        }
    }
}

impl From<u64> for Pick {
    #[inline(always)]
    fn from(word: u64) -> Self {
        match word {
            0 => Self::Nobody,
            1 => Self::Contended,
            2 => Self::NoService,
            3 => Self::NoTemplate,
            4 => Self::ByCall,
            5 => Self::OnceByCall,
            6 => Self::Shed,
            7 => Self::Bypass,
            word if word & ONCE != 0 => Self::Once(Choice(word).destination()),
            word => Self::Destination(Choice(word).destination()),
        }
    }
}

/// Chooses the destination of a new connection: what is remembered for it (a persistent client's template, an address's
/// destination), or the scheduler's choice. `ingress` is the interface that the packet came by.
#[inline(always)]
pub fn pick<S: Side, H: Host>(
    host: &H,
    opening: &FlowKey<S::Value>,
    ingress: u32,
    asked: Asked,
) -> Pick {
    let Some(record) = record::<S, _>(host, opening, ingress) else { return Pick::NoService };
    if matches!(asked, Asked::Destination) && is_shed(host) {
        return Pick::Shed;
    }
    let persistent = record.flags & ServiceFlags::PERSISTENT != 0;
    let by_locality =
        record.scheduler == scheduler_id::LBLC || record.scheduler == scheduler_id::LBLCR;
    let scheduled = matches!(asked, Asked::Scheduler);
    let picked = if scheduled || !persistent && !by_locality {
        choose(host, &record, &S::fold(opening))
    } else {
        if record.flags & ServiceFlags::SIP != 0 && !matches!(asked, Asked::Call) {
            return by_call::<S, _>(host, &record, opening);
        }
        let found = if persistent {
            persist::find::<S, _>(host, &record, opening)
        } else if record.scheduler == scheduler_id::LBLC {
            locality::find::<S, _>(host, &record, opening)
        } else {
            // For [`locate`].
            Choice::NOBODY
        };
        if !found.is_some() {
            return Pick::NoTemplate;
        }
        Pick::Destination(found.destination())
    };
    match picked {
        // Whatever else comes to the address of an FTP service is not for it to refuse (`ip_vs_leave`).
        Pick::Nobody if record.flags & ServiceFlags::FTP_DATA != 0 => Pick::NoService,
        Pick::Destination(index) if record.flags & ServiceFlags::ONE_PACKET != 0 => {
            Pick::Once(index)
        }
        Pick::Nobody if may_bypass(host, &record) => Pick::Bypass,
        Pick::Destination(_)
        | Pick::Once(_)
        | Pick::Nobody
        | Pick::Contended
        | Pick::NoTemplate
        | Pick::ByCall
        | Pick::OnceByCall
        | Pick::Shed
        | Pick::Bypass
        | Pick::NoService => picked,
    }
}

/// Notes for [`crate::find_call`] what counts of a client's address.
#[inline(always)]
fn by_call<S: Side, H: Host>(
    host: &H,
    service: &ServiceRecord,
    opening: &FlowKey<S::Value>,
) -> Pick {
    let Some(template) = persist::client_key::<S, _>(host, service, opening) else {
        return Pick::NoService;
    };
    let [first, second, ..] = template.addresses.widened();
    host.note(Note::CallClient, first);
    host.note(Note::CallClientEnd, second);
    if service.flags & ServiceFlags::ONE_PACKET != 0 { Pick::OnceByCall } else { Pick::ByCall }
}

/// Whether a new connection is one of those that are dropped: each CPU counts its own down (`ip_vs_todrop`).
#[inline(always)]
fn is_shed<H: Host>(host: &H) -> bool {
    let rate = host.drop_rate();
    if rate == 0 {
        return false;
    }
    // One that is left of another rate may be longer.
    let left = host.noted(Note::DropCountdown).min(rate as u64);
    let shed = left <= 1;
    host.note(Note::DropCountdown, if shed { rate as u64 } else { left - 1 });
    shed
}

/// Whether packets that a service has no destination for go on to their own (`ip_vs_leave`): those by firewall mark do, with
/// `cache_bypass`.
#[inline(always)]
fn may_bypass<H: Host>(host: &H, service: &ServiceRecord) -> bool {
    (service.kind == service_kind::MARK || service.kind == service_kind::MARK6)
        && host.settings() & SettingFlags::CACHE_BYPASS != 0
}

/// Key of the entry that remembers a scheduler's choice, a destination; `None` if the service, which may have changed meanwhile, wants
/// none. A persistent service remembers clients only, whatever its scheduler.
#[inline(always)]
pub fn memory_key<S: Side, H: Host>(
    host: &H,
    opening: &FlowKey<S::Value>,
    ingress: u32,
    destination: u32,
) -> Option<FlowKey<S::Value>> {
    let record = record::<S, _>(host, opening, ingress)?;
    if record.flags & ServiceFlags::PERSISTENT != 0 {
        persist::key::<S, _>(host, &record, opening)
    } else if record.scheduler == scheduler_id::LBLC || record.scheduler == scheduler_id::LBLCR {
        Some(S::locality_key(&record, opening, destination))
    } else {
        None
    }
}

/// The service of a packet, its scheduler without the mark of careful services.
#[inline(always)]
fn record<S: Side, H: Host>(
    host: &H,
    opening: &FlowKey<S::Value>,
    ingress: u32,
) -> Option<ServiceRecord> {
    Some(careless(S::find_service(host, opening, ingress)?))
}

/// A service, its scheduler without the mark of careful ones.
#[inline(always)]
fn careless(line: &Line) -> ServiceRecord {
    let record = service_record(line);
    ServiceRecord { scheduler: record.scheduler & !scheduler_id::CAREFUL, ..record }
}

/// The scheduler's choice.
#[inline(always)]
fn choose<H: Host>(host: &H, service: &ServiceRecord, opening: &FlowKey) -> Pick {
    if service.scheduler == scheduler_id::RR || service.scheduler == scheduler_id::WRR {
        let Some(word) = host.scheduler(service.index) else { return Pick::Nobody };
        let found = word.load();
        let next = cursor::next(host, service, found);
        if next.word.0 != found && word.compare_exchange(found, next.word.0).is_err() {
            return Pick::Contended;
        }
        return if next.is_some() { Pick::Destination(next.destination()) } else { Pick::Nobody };
    }
    let choice = match service.scheduler {
        scheduler_id::DH | scheduler_id::SH | scheduler_id::MH => {
            hash::choose(host, service, opening)
        }
        scheduler_id::TWOS => twos::choose(host, service),
        _ => weigh::choose(host, service),
    };
    if choice.is_some() { Pick::Destination(choice.destination()) } else { Pick::Nobody }
}

/// A destination or none, in one word: of an `Option` the compiler moves registers that were never set, which the
/// kernel's verifier refuses.
#[derive(Clone, Copy)]
struct Choice(u64);

impl Choice {
    const NOBODY: Self = Self(0);
    const SOMEBODY: u64 = 1 << 32;

    #[inline(always)]
    const fn of(destination: u32) -> Self {
        Self(destination as u64 | Self::SOMEBODY)
    }

    #[inline(always)]
    const fn is_some(self) -> bool {
        self.0 & Self::SOMEBODY != 0
    }

    #[inline(always)]
    const fn destination(self) -> u32 {
        (self.0 & 0xffff_ffff) as u32
    }
}

/// Entry of a scheduling list.
#[inline(always)]
fn entry<H: Host>(host: &H, pool_line: u32, index: u32) -> Option<PoolEntry> {
    let line = host.line(pool_line.wrapping_add(index / POOL_ENTRIES_PER_LINE))?;
    let word = line.0.get((index % POOL_ENTRIES_PER_LINE) as usize)?;
    Some(PoolEntry { destination: (word & 0xffff_ffff) as u32, weight: (word >> 32) as u32 })
}

/// `di` and `mw` of a weighted round robin list: greatest common divisor of the weights above 0 (1 if there are
/// none), and the greatest weight less `di - 1`.
pub fn wrr_parameters(weights: impl Iterator<Item = u32> + Clone) -> (u32, u32) {
    let step = weights.clone().filter(|w| *w > 0).fold(0, gcd).max(1);
    let greatest = weights.max().unwrap_or(0);
    (step, if greatest == 0 { 0 } else { greatest - (step - 1) })
}

const fn gcd(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The scheduler word for a changed list, from the word and the list before the change.
///
/// Lists are destination indexes in list order. Round robin keeps its place: it stands at the last used destination,
/// or, if that is gone, at the one before it (`ip_vs_rr_del_dest`). Weighted round robin starts at the head with the
/// current weight adjusted (`ip_vs_wrr_dest_changed`), but only when the list or a weight changed (`changed`).
pub fn carry_over(
    scheduler: u8,
    old: SchedulerWord,
    old_list: &[u32],
    new_list: &[u32],
    parameters: (u32, u32),
    changed: bool,
    tag: u16,
) -> SchedulerWord {
    let (step, greatest) = parameters;
    if scheduler == scheduler_id::WRR && changed {
        let weight = match old.weight() {
            0 => greatest,
            weight if weight > greatest => greatest,
            weight if step > 1 => weight / step * step + 1,
            weight => weight,
        };
        return SchedulerWord::new(tag, 0, weight);
    }
    let used = usize::try_from(old.position()).unwrap_or(0).min(old_list.len());
    let position = old_list
        .iter()
        .take(used)
        .rev()
        .find_map(|destination| new_list.iter().position(|d| d == destination))
        .map_or(0, |index| index + 1);
    SchedulerWord::new(tag, u32::try_from(position).unwrap_or(0), old.weight())
}
