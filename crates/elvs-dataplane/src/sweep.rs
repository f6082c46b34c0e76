//! Expiry: walks the flow table in slices and ends the connections that no packet has come for.
//!
//! **Invariant:** a connection ends only if its control word is still the one that was judged; its load is taken off
//! its destination exactly once, by whoever ended it.
//!
//! Called by the daemon about once a second through [`crate::Plane`].

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicU64;

use elvs_common::{
    Control, DestinationFlags, DestinationLoad, LBLC_PORTS, MARKED, REFRESH_TICKS, Settings, TCP,
    TcpState, template_protocol, ticks_from_seconds,
};
use elvs_fastpath::{
    Atomic64, FlowKey, Slot, client_of, destination_of, find_key, ports_of, release_flow,
    virtual_of, virtual_port_of,
};

use crate::backend::{Backend, Now};
use crate::connection::{Live, read};

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
}

impl Sweeper {
    /// Walks up to `buckets` buckets on, at a moment `ahead` ticks from now.
    pub(crate) fn slice<B: Backend>(
        &mut self,
        backend: &B,
        buckets: u32,
        ahead: u32,
        lifetimes: Lifetimes,
    ) -> SweepReport {
        let settings = backend.settings();
        let now = backend.now().later(ahead);
        let mut report = SweepReport::default();
        for _ in 0..buckets {
            let Some(bucket) = backend.bucket(self.bucket) else {
                self.add(&report);
                report.pass = Some(self.pass);
                (self.bucket, self.pass) = (0, Pass::default());
                self.templates.next_pass();
                return report;
            };
            for slot in &bucket.slots {
                let Some(live) = read(slot) else { continue };
                let over = if live.control.is_locality() {
                    lifetimes.are_over(backend, &settings, now, &live)
                } else if live.control.is_template() {
                    self.templates.is_over(backend, &settings, now, slot, &live)
                } else {
                    if let Some(template) = template_of(backend, &live) {
                        self.templates.mark(&template);
                        assure(backend, &settings, slot, &live, &template);
                    }
                    has_expired(&settings, now, live.control)
                };
                if over && release_flow(backend, self.bucket, slot, live.control) {
                    report.expired += 1;
                    take_load(backend, &live);
                } else {
                    report.live += 1;
                }
            }
            self.bucket += 1;
        }
        self.add(&report);
        report
    }

    const fn add(&mut self, report: &SweepReport) {
        self.pass.expired += report.expired;
        self.pass.live += report.live;
    }
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

/// Key of a connection's persistence template, if its service is persistent.
fn template_of<B: Backend>(backend: &B, live: &Live) -> Option<FlowKey> {
    let record = backend.record(destination_of(live.ports_destination))?;
    if record.persistence_ticks == 0 {
        return None;
    }
    let marked = record.template_address != 0;
    let address = if marked { record.template_address } else { virtual_of(live.addresses) };
    let shared = record.flags & DestinationFlags::SHARED_TEMPLATE != 0;
    let port = if shared { 0 } else { virtual_port_of(live.ports_destination) };
    let protocol = if marked { MARKED } else { live.control.protocol() };
    let client = client_of(live.addresses) & record.persistence_mask;
    Some(FlowKey::new(client, address, 0, port, template_protocol(protocol)))
}

/// Tells a connection's template that it was established, once (`ip_vs_control_assure_ct`).
fn assure<B: Backend>(
    backend: &B,
    settings: &Settings,
    slot: &Slot<AtomicU64>,
    live: &Live,
    key: &FlowKey,
) {
    let established = live.control.protocol() != TCP
        || [TcpState::Established, TcpState::FinWait, TcpState::CloseWait, TcpState::TimeWait]
            .iter()
            .any(|state| *state as u8 == live.control.state());
    if !established || live.control.assured() {
        return;
    }
    // Whoever changes one of the two meanwhile is met again in the next pass.
    if let Some(found) = find_key(backend, key, settings.buckets, settings.seed) {
        let assured = found.control.with_assured();
        let _ = Atomic64::compare_exchange(&found.slot.control, found.control.0, assured.0);
    }
    let told = live.control.with_assured();
    let _ = Atomic64::compare_exchange(&slot.control, live.control.0, told.0);
}

/// What a persistence template goes by: its words in the table without the destination.
type TemplateKey = (u64, u32, u8);

/// Seconds that a template lives on at a time while it has connections (`ip_vs_conn_expire`).
const CONTROLLED_S: u64 = 60;

/// Seconds after its last use that an address forgets a destination.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetimes {
    /// `lblc_expiration`.
    pub(crate) lblc: u32,
    /// `lblcr_expiration`.
    pub(crate) lblcr: u32,
}

impl Lifetimes {
    /// Whether an entry of lblc or lblcr is to end.
    fn are_over<B: Backend>(self, backend: &B, settings: &Settings, now: Now, live: &Live) -> bool {
        let record = backend.record(destination_of(live.ports_destination)).unwrap_or_default();
        let single = ports_of(live.ports_destination) == LBLC_PORTS;
        let seconds = if single { self.lblc } else { self.lblcr };
        let ticks = ticks_from_seconds(seconds, settings.jiffies_per_second, settings.tick_shift);
        record.flags & DestinationFlags::AVAILABLE == 0 || now.idle(live.control.tick()) > ticks
    }
}

/// Persistence templates whose time is over, and whether connections keep them: a template lives at least as long as
/// the connections it led to (`n_control` in IPVS).
///
/// **Invariant:** a template ends only after a whole pass in which none of its connections was met.
#[derive(Clone, Debug, Default)]
struct Templates {
    /// Found to be due in this pass.
    due: HashSet<TemplateKey>,
    /// Found to be due in the pass before; true once a connection was met in this one.
    watched: HashMap<TemplateKey, bool>,
    /// As `watched` was at the end of the pass before.
    judged: HashMap<TemplateKey, bool>,
}

impl Templates {
    fn next_pass(&mut self) {
        self.judged = std::mem::take(&mut self.watched);
        self.watched = self.due.drain().map(|key| (key, false)).collect();
    }

    /// Meets a connection of a template.
    fn mark(&mut self, key: &FlowKey) {
        if let Some(met) = self.watched.get_mut(&(key.addresses, key.ports, key.protocol)) {
            *met = true;
        }
    }

    /// Meets a template; whether it is to end.
    fn is_over<B: Backend>(
        &mut self,
        backend: &B,
        settings: &Settings,
        now: Now,
        slot: &Slot<AtomicU64>,
        live: &Live,
    ) -> bool {
        let destination = destination_of(live.ports_destination);
        let ticks = backend.record(destination).map_or(0, |record| record.persistence_ticks);
        if now.idle(live.control.tick()) <= ticks {
            return false;
        }
        let key = (live.addresses, ports_of(live.ports_destination), live.control.protocol());
        match self.judged.get(&key) {
            Some(false) => return true,
            Some(true) => {
                let jiffies = CONTROLLED_S * u64::from(settings.jiffies_per_second);
                let more = u32::try_from(jiffies >> now.tick_shift).unwrap_or(u32::MAX);
                let tick = now.tick().wrapping_sub(ticks).wrapping_add(more.min(ticks));
                // If a packet was first, it has renewed the template itself.
                let _ = Atomic64::compare_exchange(
                    &slot.control,
                    live.control.0,
                    live.control.with_tick(tick).0,
                );
            }
            None if !self.watched.contains_key(&key) => {
                self.due.insert(key);
            }
            None => {}
        }
        false
    }
}
