//! Expiry: walks the flow table in slices and ends the connections that no packet has come for.
//!
//! **Invariant:** a connection ends only if its control word is still the one that was judged; its load is taken off
//! its destination exactly once, by whoever ended it.
//!
//! Called by the daemon about once a second through [`crate::Plane`].

mod locality;
mod templates;
mod unanswered;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicU64;

use elvs_common::{
    Control, DestinationFlags, DestinationLoad, LBLC_PORTS, MARKED, Method, REFRESH_TICKS, SCTP,
    SctpState, SettingFlags, Settings, TCP, TcpState, WideAddress, caller, template_protocol,
    ticks_from_seconds,
};
use elvs_fastpath::{
    Atomic64, FlowKey, FlowMemory, LocalEnd, WideValue, destination_of, find_key, give_port,
    ports_of, release_flow, virtual_port_of,
};

use self::locality::{Burden, Sets, Verdict};
use self::templates::Templates;
use self::unanswered::Unanswered;
use crate::backend::{Backend, Now};
use crate::calls::Leftovers;
use crate::connection::{Live, narrow_buckets, read};

pub(crate) use self::templates::template_ticks;

/// What one slice of a pass came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Connections ended in this slice.
    pub expired: u64,
    /// Connections that stayed in this slice.
    pub live: u64,
    /// Totals of the pass that this slice completed; the next slice starts again at the first bucket.
    pub pass: Option<Pass>,
}

/// Totals of a pass over the whole table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// Connections ended.
    pub expired: u64,
    /// Connections that stayed.
    pub live: u64,
}

/// Where the walk stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sweeper {
    bucket: u32,
    pass: Pass,
    templates: Templates,
    leftovers: Leftovers,
    sets: Sets,
    unanswered: Unanswered,
    /// Entries of each table: met in this pass so far, and in the whole pass before.
    met: [u64; 2],
    occupied: [u64; 2],
}

impl Sweeper {
    /// Walks up to `buckets` buckets on, at a moment `ahead` ticks from now.
    pub(crate) fn slice<B: Backend>(
        &mut self,
        backend: &B,
        buckets: u32,
        ahead: u32,
        memories: &Memories,
    ) -> SweepReport {
        let settings = backend.settings();
        let now = backend.now().later(ahead);
        let mut report = SweepReport::default();
        let narrow = narrow_buckets(backend);
        let moment = Moment { backend, settings: &settings, now, memories };
        for _ in 0..buckets {
            let met = match self.bucket.checked_sub(narrow) {
                None => self.meet(&moment, backend, Table::Narrow, self.bucket, &mut report),
                Some(index) => self.meet(&moment, backend.wide(), Table::Wide, index, &mut report),
            };
            if !met {
                self.add(&report);
                report.pass = Some(self.pass);
                self.occupied = std::mem::take(&mut self.met);
                (self.bucket, self.pass) = (0, Pass::default());
                self.templates.next_pass();
                self.unanswered.next_pass();
                return report;
            }
            self.bucket += 1;
        }
        self.add(&report);
        report
    }

    /// How many connections of each of some destinations did not come about since the last call; those of others are not
    /// counted until then.
    pub(crate) fn unanswered(&mut self, asked: HashSet<u32>) -> HashMap<u32, u64> {
        self.unanswered.take(asked)
    }

    /// Forgets what is kept of Call-IDs that are over, after a pass.
    pub(crate) fn clear_calls<B: Backend>(&mut self, backend: &mut B) {
        self.leftovers.clear(backend);
    }

    /// Looks at one bucket of a table; false if it has none of that index.
    fn meet<B: Backend, M: FlowMemory<Word = AtomicU64>>(
        &mut self,
        moment: &Moment<'_, B>,
        memory: &M,
        table: Table,
        index: u32,
        report: &mut SweepReport,
    ) -> bool {
        let Some(bucket) = memory.bucket(index) else { return false };
        let backend = moment.backend;
        for slot in &bucket.slots {
            let Some(mut live) = read(slot) else { continue };
            let over = if live.control.is_locality() {
                self.forgets(moment, &slot.control, &live)
            } else if live.control.is_template() {
                self.templates.is_over(moment, &slot.control, &live)
            } else {
                if let Some(template) = template_of(backend, &live) {
                    self.templates.mark(&template);
                    live.control = assure(moment, table, &slot.control, &live, &template);
                }
                self.unanswered.meet(&live, moment.now.idle(live.control.tick()), moment.ticks(1));
                has_expired(moment.settings, moment.now, live.control) || moment.flushes(&live)
            };
            if over && release_flow(memory, index, slot, live.control) {
                report.expired += 1;
                take_load(backend, &live);
                give_local_end(backend, &live);
            } else {
                report.live += 1;
                self.leftovers.meet(&live);
                let [narrow, wide] = &mut self.met;
                *if table == Table::Narrow { narrow } else { wide } += 1;
            }
        }
        true
    }

    /// Whether an entry of lblc or lblcr is to end. That its destination was removed does not end it: the address goes there
    /// again when it is back (`ip_vs_trash_get_dest`).
    fn forgets<B: Backend>(
        &mut self,
        moment: &Moment<'_, B>,
        control: &AtomicU64,
        live: &Live,
    ) -> bool {
        let Memories { lblc, lblcr, orphans } = moment.memories;
        let stale = |seconds| moment.now.idle(live.control.tick()) > moment.ticks(seconds);
        if orphans.contains(&destination_of(live.ports_destination)) {
            return true;
        }
        if ports_of(live.ports_destination) == LBLC_PORTS {
            return stale(*lblc);
        }
        match self.sets.meet(live) {
            Verdict::Stays => false,
            Verdict::Expires => stale(*lblcr),
            Verdict::Leaves => true,
            Verdict::Moves(place) => {
                // A packet that uses it meanwhile leaves it for a later pass.
                let moved = live.control.with_place(place);
                let _ = Atomic64::compare_exchange(control, live.control.0, moved.0);
                false
            }
        }
    }

    /// Judges the sets of lblcr after a pass, `ahead` ticks from now; `weights` are those of the destinations in the table.
    pub(crate) fn judge_sets<B: Backend>(
        &mut self,
        backend: &B,
        ahead: u32,
        expiration_s: u32,
        weights: impl FnOnce() -> HashMap<u32, u32>,
    ) {
        if self.sets.is_empty() {
            return;
        }
        let (weights, settings) = (weights(), backend.settings());
        let ticks =
            ticks_from_seconds(expiration_s, settings.jiffies_per_second, settings.tick_shift);
        self.sets.judge(backend.now().later(ahead), ticks, |destination| {
            let load = backend.load(destination).map_or(0, Atomic64::load);
            Burden {
                weight: weights.get(&destination).copied().unwrap_or_default(),
                overhead: (u64::from(DestinationLoad::active(load)) << 8)
                    + DestinationLoad::total(load),
            }
        });
    }

    /// Entries of each table in the last whole pass.
    pub(crate) const fn occupied(&self) -> [u64; 2] {
        self.occupied
    }

    /// Ends what lblc or lblcr remembers for the services of some indexes.
    pub(crate) fn forget_services<B: Backend>(backend: &B, indexes: &HashSet<u32>) {
        let settings = backend.settings();
        forget_services_in(backend, settings.buckets, indexes);
        forget_services_in(backend.wide(), settings.wide_buckets, indexes);
    }

    /// Looks at a thirty-second of each table, anywhere in it, and ends the entries that the defence against floods drops;
    /// how many (`ip_vs_random_dropentry`). `seed` chooses where.
    pub(crate) fn drop_entries<B: Backend>(backend: &B, seed: u64) -> u64 {
        let (settings, now) = (backend.settings(), backend.now());
        let memories = Memories { lblc: u32::MAX, lblcr: u32::MAX, orphans: HashSet::new() };
        let moment = Moment { backend, settings: &settings, now, memories: &memories };
        let narrow = drop_from(&moment, backend, settings.buckets, seed);
        narrow + drop_from(&moment, backend.wide(), settings.wide_buckets, !seed)
    }

    const fn add(&mut self, report: &SweepReport) {
        self.pass.expired += report.expired;
        self.pass.live += report.live;
    }
}

/// One of the two flow tables; a connection's template is in that of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Table {
    Narrow,
    Wide,
}

/// What a slice goes by.
struct Moment<'a, B> {
    backend: &'a B,
    settings: &'a Settings,
    now: Now,
    memories: &'a Memories,
}

fn forget_services_in<M: FlowMemory<Word = AtomicU64>>(
    memory: &M,
    buckets: u32,
    indexes: &HashSet<u32>,
) {
    for (index, bucket) in (0..buckets).map_while(|index| Some((index, memory.bucket(index)?))) {
        for slot in &bucket.slots {
            let Some(live) = read(slot).filter(|live| live.control.is_locality()) else { continue };
            // Whoever uses it meanwhile goes by the scheduler that was.
            if indexes.contains(&live.client().fold()) {
                let _ = release_flow(memory, index, slot, live.control);
            }
        }
    }
}

/// One bucket of so many is looked at each second.
const DROP_SHARE: u32 = 32;

/// Seconds without a packet after which an entry that is not half-open may be dropped (`todrop_entry`).
const DROP_IDLE_S: u32 = 60;

fn drop_from<B: Backend, M: FlowMemory<Word = AtomicU64>>(
    moment: &Moment<'_, B>,
    memory: &M,
    buckets: u32,
    seed: u64,
) -> u64 {
    let mut dropped = 0;
    for number in 0..u64::from(buckets / DROP_SHARE) {
        let drawn = scatter(seed.wrapping_add(number));
        // The upper half of a product with a random word: any bucket, each as likely.
        let index = u32::try_from(((drawn >> 32) * u64::from(buckets)) >> 32).unwrap_or_default();
        let Some(bucket) = memory.bucket(index) else { continue };
        for slot in &bucket.slots {
            let Some(live) = read(slot).filter(|live| moment.gives_way(live.control)) else {
                continue;
            };
            if release_flow(memory, index, slot, live.control) {
                dropped += 1;
                take_load(moment.backend, &live);
                give_local_end(moment.backend, &live);
            }
        }
    }
    dropped
}

/// The output function of splitmix64.
const fn scatter(number: u64) -> u64 {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

fn has_expired(settings: &Settings, now: Now, control: Control) -> bool {
    // A packet need not have renewed a tick that was younger than that.
    let timeout = settings.timeout(control.protocol(), control.state());
    now.idle(control.tick()) > timeout.saturating_add(REFRESH_TICKS)
}

/// Takes a connection that has ended off its destination's load; one that was overloaded by it may not be so any more.
fn take_load<B: Backend>(backend: &B, ended: &Live) {
    let index = destination_of(ended.ports_destination);
    let Some(load) = backend.load(index).filter(|_| !ended.control.is_template()) else { return };
    let unit = DestinationLoad::unit(ended.control.inactive());
    Atomic64::fetch_add(load, unit.wrapping_neg());
    let Some(record) = backend.record(index) else { return };
    let mut found = Atomic64::load(load);
    loop {
        let judged =
            DestinationLoad::judge_removed(found, record.upper_threshold, record.lower_threshold);
        if judged == found {
            return;
        }
        match Atomic64::compare_exchange(load, found, judged) {
            Ok(()) => return,
            Err(now) => found = now,
        }
    }
}

/// Gives the port of a connection by full NAT that has ended back to its local address.
fn give_local_end<B: Backend>(backend: &B, ended: &Live) {
    let control = ended.control;
    if control.method_bits() == Method::FullNat as u32 && !control.is_template() {
        let [.., local] = ended.addresses;
        give_port(backend.wide(), LocalEnd(local));
    }
}

/// Key of a connection's persistence template, as the wide table has it, if its service is persistent.
fn template_of<B: Backend>(backend: &B, live: &Live) -> Option<FlowKey<WideValue>> {
    let record = backend.record(destination_of(live.ports_destination))?;
    if record.persistence_ticks == 0 {
        return None;
    }
    let ipv6 = record.flags & DestinationFlags::IPV6_SERVICE != 0;
    let marked = record.template_address != 0;
    let address = match (marked, ipv6) {
        (false, _) => live.address(),
        (true, false) => WideAddress::of_v4(record.template_address),
        (true, true) => WideAddress([u64::from(record.template_address.to_le()).to_le(), 0]),
    };
    let shared = record.flags & DestinationFlags::SHARED_TEMPLATE != 0;
    let port = if shared { 0 } else { virtual_port_of(live.ports_destination) };
    let protocol = if marked { MARKED } else { live.control.protocol() };
    if record.flags & DestinationFlags::SIP != 0 {
        let ports = ports_of(live.ports_destination);
        let caller = caller(live.addresses, ports, live.control.protocol());
        if let Some(call) = backend.call_of(&caller) {
            let client = WideAddress::of_v4(call.client());
            let protocol = template_protocol(protocol);
            return Some(FlowKey::wide(client, address, call.port(), port, protocol));
        }
    }
    let client = if ipv6 {
        let bits = u128::from_be_bytes(live.client().bytes());
        let mask = u128::MAX.checked_shl(128 - record.persistence_prefix.min(128)).unwrap_or(0);
        WideAddress::of_bytes((bits & mask).to_be_bytes())
    } else {
        WideAddress::of_v4(live.client().v4() & record.persistence_mask)
    };
    Some(FlowKey::wide(client, address, 0, port, template_protocol(protocol)))
}

/// Tells a connection's template that it was established, once (`ip_vs_control_assure_ct`); the connection's control word then.
fn assure<B: Backend>(
    moment: &Moment<'_, B>,
    table: Table,
    control: &AtomicU64,
    live: &Live,
    key: &FlowKey<WideValue>,
) -> Control {
    if !was_established(live.control) || live.control.assured() {
        return live.control;
    }
    // Whoever changes one of the two meanwhile is met again in the next pass.
    let (backend, settings) = (moment.backend, moment.settings);
    match table {
        Table::Narrow => {
            let found = find_key(backend, &key.fold(), settings.buckets, settings.seed);
            if let Some(found) = found {
                mark_assured(&found.slot.control, found.control);
            }
        }
        Table::Wide => {
            let found = find_key(backend.wide(), key, settings.wide_buckets, settings.seed);
            if let Some(found) = found {
                mark_assured(&found.slot.control, found.control);
            }
        }
    }
    mark_assured(control, live.control)
}

/// Whether a connection's state says that it is established, or was.
fn was_established(control: Control) -> bool {
    let state = control.state();
    match control.protocol() {
        TCP => [TcpState::Established, TcpState::FinWait, TcpState::CloseWait, TcpState::TimeWait]
            .iter()
            .any(|of| *of as u8 == state),
        SCTP => [
            SctpState::Established,
            SctpState::ShutdownSent,
            SctpState::ShutdownReceived,
            SctpState::ShutdownAckSent,
        ]
        .iter()
        .any(|of| *of as u8 == state),
        // A reply establishes it, which no other method has the director see.
        _ => Method::replies_pass(control.method_bits()),
    }
}

/// Marks an entry, unless somebody changes it meanwhile; its control word as far as is known.
fn mark_assured(word: &AtomicU64, found: Control) -> Control {
    let marked = found.with_assured();
    match Atomic64::compare_exchange(word, found.0, marked.0) {
        Ok(()) => marked,
        Err(_) => found,
    }
}

/// When an address forgets destinations.
#[derive(Clone, Debug)]
pub(crate) struct Memories {
    /// `lblc_expiration`: seconds after the last use.
    pub(crate) lblc: u32,
    /// `lblcr_expiration`: the same for the whole set of lblcr.
    pub(crate) lblcr: u32,
    /// Destinations whose service was deleted, and what it remembered with it.
    pub(crate) orphans: HashSet<u32>,
}

impl<B: Backend> Moment<'_, B> {
    /// Whether the defence against floods drops an entry that it meets.
    ///
    /// As `ip_vs_random_dropentry`, but that packets are not counted for each connection: where the kernel drops idle
    /// connections of up to eight packets, an idle UDP flow goes, and an established connection of TCP or SCTP never does. A template
    /// without an established connection goes when those that it was made for are past their time as well.
    fn gives_way(&self, control: Control) -> bool {
        let Settings { jiffies_per_second, tick_shift, .. } = *self.settings;
        let minute = ticks_from_seconds(DROP_IDLE_S, jiffies_per_second, tick_shift);
        let idle = self.now.idle(control.tick()) >= minute;
        if control.is_locality() {
            return false;
        }
        if control.is_template() {
            return idle && !control.assured();
        }
        match control.protocol() {
            TCP => {
                matches!(TcpState::of_bits(control.state()), TcpState::SynRecv | TcpState::SynAck)
            }
            SCTP => [SctpState::Init1 as u8, SctpState::Init as u8].contains(&control.state()),
            _ => idle,
        }
    }

    /// Whether an entry ends since its destination was removed (`ip_vs_expire_nodest_conn_flush`); its template ends as well.
    fn flushes(&self, live: &Live) -> bool {
        self.settings.flags & SettingFlags::EXPIRE_NODEST_CONN != 0
            && self
                .backend
                .record(destination_of(live.ports_destination))
                .is_some_and(|record| record.flags & DestinationFlags::AVAILABLE == 0)
    }

    fn ticks(&self, seconds: u32) -> u32 {
        ticks_from_seconds(seconds, self.settings.jiffies_per_second, self.settings.tick_shift)
    }
}
