//! From services and destinations to the configuration blob that packets are decided by.
//!
//! **Invariant:** every service lies within [`SERVICE_MAX_PROBES`] slots of its hash, every scheduling list within the
//! blob; the same input gives the same lines.
//!
//! Called by [`crate::Director`] before each swap.

mod further;
mod place;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use elvs_common::{
    BLOB_LINES, FILTER_LINES, FILTER_REAL_SERVER_LINE, FILTER_VIP_LINE, FilterBits, HEADER_LINE,
    HeaderFlags, Line, LocalLine, MAX_SERVICES, MarkLine, POOL_ENTRIES_PER_LINE,
    SERVICE_MAX_PROBES, SERVICES_LINE, ServiceFlags, ServiceRecord, TABLE_ENTRIES_PER_LINE,
    WideMark, scheduler_id, service_hash, service_kind, set_filter, table_lines,
};
use elvs_fastpath::{MAX_POOL, service_record, wrr_parameters};
use elvs_model::{Family, Protocol, ServiceKey};

use crate::assignments::{ServiceSlot, mapped};
use crate::route::folded;

use self::further::Further;
pub(crate) use self::place::{Place, virtual_address, wide_mask};

/// Fewest service slots.
const LEAST_SLOTS: u32 = 8;
/// Hash seeds tried before the number of slots is doubled.
const SEEDS: u64 = 16;

/// A compiled configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Its lines; those after them are zero.
    pub lines: Vec<Line>,
}

/// Why a configuration cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// Too many services.
    #[error("{count} virtual services: this release has room for {limit}")]
    TooManyServices {
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: u32,
    },
    /// Too many destinations in one service.
    #[error(
        "{service} has {count} real servers: a service has room for {limit}; split it over several virtual services"
    )]
    TooManyDestinations {
        /// The service.
        service: ServiceKey,
        /// How many it has.
        count: usize,
        /// How many it may have.
        limit: u32,
    },
    /// It all together needs more room than a blob has.
    #[error(
        "{services} virtual services on {addresses} addresses with {destinations} real servers need {lines} lines of configuration, {tables} of them for the tables of dh, sh and mh: there are {limit} (a smaller mh_table_size needs fewer)"
    )]
    TooBig {
        /// Services.
        services: usize,
        /// Virtual addresses.
        addresses: usize,
        /// Destinations, counted once per service.
        destinations: usize,
        /// Lines of the schedulers' hash tables.
        tables: usize,
        /// Lines that were needed.
        lines: usize,
        /// Lines there are.
        limit: usize,
    },
}

/// Compiles services into a blob.
///
/// `known` are further addresses, `generation` counts swaps.
///
/// # Errors
///
/// [`CompileError`] names the limit that was passed.
pub fn compile(
    services: &[ServiceSlot],
    known: &Known,
    marks: &Marks,
    generation: u64,
) -> Result<Blob, CompileError> {
    let limit = usize::try_from(MAX_SERVICES).unwrap_or(usize::MAX);
    if services.len() > limit {
        return Err(CompileError::TooManyServices { count: services.len(), limit: MAX_SERVICES });
    }
    let mut addresses = known.addresses.clone();
    for service in services {
        if let Some(address) = virtual_address(&service.key) {
            let tables = if is_wide(service) { FilterBits::WIDE } else { FilterBits::NARROW };
            *addresses.entry(address).or_default() |= tables;
        }
        let longest = usize::try_from(MAX_POOL).unwrap_or(usize::MAX);
        if service.pool.len() > longest {
            let count = service.pool.len();
            return Err(CompileError::TooManyDestinations {
                service: service.key,
                count,
                limit: MAX_POOL,
            });
        }
    }
    let further = Further::of(services);
    let entries =
        services.len() + addresses.len() + known.locals.len() + known.told.len() + further.len();
    let pools = services.iter().map(lines_of).sum::<usize>() + marks.lines();
    let mut slots = u32::try_from(entries + entries / 4).unwrap_or(u32::MAX / 2).max(LEAST_SLOTS);
    loop {
        slots = slots.next_power_of_two();
        let lines = line(SERVICES_LINE) + line(slots) + pools;
        if lines > BLOB_LINES {
            return Err(CompileError::TooBig {
                services: services.len(),
                addresses: addresses.len(),
                destinations: services.iter().map(|s| s.pool.len()).sum(),
                tables: services.iter().map(|s| hash_table_lines(s.table_entries())).sum(),
                lines,
                limit: BLOB_LINES,
            });
        }
        for seed in 1..=SEEDS {
            let seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut builder = Builder::new(slots, seed, generation);
            if builder.fill(services, &addresses, &known.locals, &further)
                && builder.fill_told(&known.told)
            {
                let masquerading = !known.masqueraded.is_empty();
                // Old connections of the wide table are there, whether there is a service for new ones or not.
                let old = |tables: &u64| tables & FilterBits::WIDE != 0;
                let wide = services.iter().any(|service| is_wide(service) || is_sctp(service))
                    || addresses.values().any(old)
                    || !known.locals.is_empty();
                builder.set_flags(wide, masquerading, &further, marks);
                for (address, tables) in &known.masqueraded {
                    builder.set_filter(FILTER_REAL_SERVER_LINE, *address, *tables);
                }
                return Ok(Blob { lines: builder.lines });
            }
        }
        slots += 1;
    }
}

/// Addresses that packets may have apart from those of the services.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Virtual addresses that connections were or are made by, of services that are gone too, with the [`FilterBits`] of the
    /// tables that these are in.
    pub addresses: BTreeMap<IpAddr, u64>,
    /// Real servers whose replies are rewritten, with the same.
    pub masqueraded: BTreeMap<IpAddr, u64>,
    /// Local addresses of full NAT, removed ones that connections use included, with their indexes.
    pub locals: BTreeMap<IpAddr, u16>,
    /// Masqueraded real servers that are told of packets of no connection (`nat_icmp_send`): address, port and protocol,
    /// with a destination's index.
    pub told: BTreeMap<(IpAddr, u16, u8), u32>,
}

impl Known {
    /// Keeps what is served.
    pub(crate) fn retain(&mut self, served: impl Fn(&IpAddr) -> bool) {
        self.addresses.retain(|address, _| served(address));
        self.masqueraded.retain(|address, _| served(address));
        self.locals.retain(|address, _| served(address));
        self.told.retain(|(address, ..), _| served(address));
    }
}

/// Firewall-mark rules, and what clients may send to by them.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    /// The rules of IPv4 in order.
    pub rules: Vec<MarkLine>,
    /// Those of IPv6.
    pub wide_rules: Vec<WideMark>,
    /// Virtual addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// Every IPv4 address may be a virtual one.
    pub every_address: bool,
    /// Every IPv6 address may be a virtual one.
    pub every_wide_address: bool,
}

impl Marks {
    /// Lines of the rules.
    const fn lines(&self) -> usize {
        self.rules.len() + 2 * self.wide_rules.len()
    }
}

/// Whether whatever goes to a service's address is looked for in the wide table.
const fn is_wide(service: &ServiceSlot) -> bool {
    matches!(service.key.family(), Family::Inet6) || service.flags & ServiceFlags::FULL_NAT != 0
}

/// Whether a service is one of SCTP. Its connections are in the wide table also over IPv4; its address is in the filter of its
/// family, so that what else has that address need not pass the wide stages.
const fn is_sctp(service: &ServiceSlot) -> bool {
    matches!(service.key, ServiceKey::Address { protocol: Protocol::Sctp, .. })
}

fn pool_lines(entries: usize) -> usize {
    entries.div_ceil(line(POOL_ENTRIES_PER_LINE))
}

/// Lines of a service apart from its slot.
fn lines_of(service: &ServiceSlot) -> usize {
    pool_lines(service.pool.len())
        + hash_table_lines(service.table_entries())
        + usize::from(service.persistence.is_some())
        + local_lines(service)
}

/// Lines of a service's local addresses.
fn local_lines(service: &ServiceSlot) -> usize {
    if service.flags & ServiceFlags::FULL_NAT == 0 {
        return 0;
    }
    line(LocalLine::lines(u32::try_from(service.locals.len()).unwrap_or(u32::MAX)))
}

fn hash_table_lines(entries: u32) -> usize {
    line(entries.div_ceil(TABLE_ENTRIES_PER_LINE))
}

/// First line and number of some rules, as the header has them.
fn span(first: usize, count: usize) -> u64 {
    let word = |value: usize| u64::from(u32::try_from(value).unwrap_or(u32::MAX));
    word(first) | word(count) << 32
}

/// An index of a line; those of a blob fit any machine's word.
fn line(index: u32) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}

struct Builder {
    lines: Vec<Line>,
    slots: u32,
    seed: u64,
}

impl Builder {
    fn new(slots: u32, seed: u64, generation: u64) -> Self {
        let mut lines = vec![Line::default(); line(SERVICES_LINE + slots)];
        if let Some(header) = lines.get_mut(line(HEADER_LINE)) {
            header.0 = [u64::from(slots - 1), seed, generation, 0, 0, 0, 0, 0];
        }
        Self { lines, slots, seed }
    }

    /// Writes what the header says of all services, and the firewall-mark rules.
    fn set_flags(&mut self, wide: bool, masquerading: bool, further: &Further, marks: &Marks) {
        let first = self.lines.len();
        let wide_first = first + marks.rules.len();
        let mut flags = further.flags();
        if masquerading {
            flags |= HeaderFlags::MASQUERADING;
        }
        if wide {
            flags |= HeaderFlags::WIDE;
        }
        if !marks.rules.is_empty() {
            flags |= HeaderFlags::MARKS;
        }
        if !marks.wide_rules.is_empty() {
            flags |= HeaderFlags::MARKS6;
        }
        if let Some(Line([_, _, _, word, rules, wide_rules, ..])) =
            self.lines.get_mut(line(HEADER_LINE))
        {
            *word |= flags;
            *rules = span(first, marks.rules.len());
            *wide_rules = span(wide_first, marks.wide_rules.len());
        }
        self.lines.extend(marks.rules.iter().map(|rule| rule.to_line()));
        self.lines.extend(marks.wide_rules.iter().flat_map(|rule| rule.to_lines()));
        for address in &marks.addresses {
            self.set_filter(FILTER_VIP_LINE, *address, own_table(*address));
        }
        if marks.every_address {
            self.fill_filter(FilterBits::NARROW);
        }
        if marks.every_wide_address {
            self.fill_filter(FilterBits::WIDE);
        }
    }

    /// Says of every address that it may be a virtual one of the tables that `bits` name.
    fn fill_filter(&mut self, bits: u64) {
        let filter = line(FILTER_VIP_LINE)..line(FILTER_VIP_LINE + FILTER_LINES);
        for word in self.lines.get_mut(filter).into_iter().flatten().flat_map(|line| &mut line.0) {
            *word |= bits * EVERY_PLACE;
        }
    }

    /// Places everything; false if some slot would be too far from its hash.
    fn fill(
        &mut self,
        services: &[ServiceSlot],
        addresses: &BTreeMap<IpAddr, u64>,
        locals: &BTreeMap<IpAddr, u16>,
        further: &Further,
    ) -> bool {
        for (address, index) in locals {
            self.set_filter(FILTER_VIP_LINE, *address, FilterBits::WIDE);
            let kinds = (service_kind::LOCAL, service_kind::LOCAL6);
            let record = ServiceRecord {
                index: u32::from(*index),
                address6: mapped(*address),
                ..Place::of_address(*address, kinds.0, kinds.1).record()
            };
            if !self.place(&record) {
                return false;
            }
        }
        for (address, tables) in addresses {
            self.set_filter(FILTER_VIP_LINE, *address, *tables);
            let kinds = (service_kind::ADDRESS, service_kind::ADDRESS6);
            if !self.place(&Place::of_address(*address, kinds.0, kinds.1).record()) {
                return false;
            }
        }
        for service in services {
            let place = Place::of(&service.key);
            let (weight_step, weight_max) =
                wrr_parameters(service.pool.iter().map(|entry| entry.weight));
            if service.flags & ServiceFlags::FULL_NAT != 0 {
                self.lines.extend(LocalLine::pack(&service.locals));
            }
            if let Some(persistence) = service.persistence {
                self.lines.push(place.templates(persistence).to_line());
            }
            let careful = service.flags & CAREFUL_FLAGS != 0;
            let record = ServiceRecord {
                index: service.index,
                scheduler: service.scheduler | if careful { scheduler_id::CAREFUL } else { 0 },
                tag: service.tag,
                pool_line: u32::try_from(self.lines.len()).unwrap_or(u32::MAX),
                pool_entries: u32::try_from(service.pool.len()).unwrap_or(u32::MAX),
                weight_step,
                weight_max,
                start: service.start(),
                flags: service.flags,
                table_line: u32::try_from(self.lines.len() + pool_lines(service.pool.len()))
                    .unwrap_or(u32::MAX),
                table_entries: service.table_entries(),
                ..place.record()
            };
            let mut slots = further.slots(service, &record);
            if !self.place(&record) || !slots.all(|slot| self.place(&slot)) {
                return false;
            }
            for entries in service.pool.chunks(line(POOL_ENTRIES_PER_LINE)) {
                let mut pool = Line::default();
                for (word, entry) in pool.0.iter_mut().zip(entries) {
                    *word = u64::from(entry.destination) | u64::from(entry.weight) << 32;
                }
                self.lines.push(pool);
            }
            self.lines.extend(table_lines(&service.table()));
        }
        true
    }

    /// Places the real servers that are told of packets of no connection; false if some slot would be too far from its hash.
    fn fill_told(&mut self, told: &BTreeMap<(IpAddr, u16, u8), u32>) -> bool {
        if !told.is_empty()
            && let Some(Line([_, _, _, flags, ..])) = self.lines.get_mut(line(HEADER_LINE))
        {
            *flags |= HeaderFlags::TELLS_REAL_SERVERS;
        }
        told.iter().all(|((address, port, protocol), index)| {
            let kinds = (service_kind::REAL_SERVER, service_kind::REAL_SERVER6);
            let place = Place::of_address(*address, kinds.0, kinds.1);
            self.place(&ServiceRecord {
                port: port.to_be(),
                protocol: *protocol,
                index: *index,
                ..place.record()
            })
        })
    }

    /// Slot that a record's hash names.
    const fn home(&self, record: &ServiceRecord) -> u32 {
        service_hash(record.address, record.port, record.protocol, self.seed) & (self.slots - 1)
    }

    /// Puts a record into a slot near its home. Whoever is nearer to its own home than the newcomer gives way and is
    /// put further on (robin hood hashing), which keeps all of them near.
    fn place(&mut self, record: &ServiceRecord) -> bool {
        let mut carried = *record;
        let mut distance = 0;
        while distance < SERVICE_MAX_PROBES {
            let slot = self.home(&carried).wrapping_add(distance) & (self.slots - 1);
            let at = line(SERVICES_LINE + slot);
            let Some(found) = self.lines.get(at).copied() else { return false };
            let resident = service_record(&found);
            let empty = resident.kind == service_kind::EMPTY;
            let its_distance = slot.wrapping_sub(self.home(&resident)) & (self.slots - 1);
            if (empty || its_distance < distance)
                && let Some(place) = self.lines.get_mut(at)
            {
                *place = service_line(&carried);
                if empty {
                    return true;
                }
                carried = resident;
                distance = its_distance;
            }
            distance += 1;
        }
        false
    }

    fn set_filter(&mut self, first: u32, address: IpAddr, tables: u64) {
        set_filter(&mut self.lines, first, folded(address), tables);
    }
}

/// [`FilterBits`] of the table of an address's family.
const fn own_table(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(_) => FilterBits::NARROW,
        IpAddr::V6(_) => FilterBits::WIDE,
    }
}

/// Lowest bit of every place in a word of a filter.
const EVERY_PLACE: u64 = 0x5555_5555_5555_5555;

/// Properties that the program's first stage knows nothing of.
const CAREFUL_FLAGS: u8 =
    ServiceFlags::THRESHOLDS | ServiceFlags::PERSISTENT | ServiceFlags::ONE_PACKET;

/// A service slot as the line it is read from; see [`elvs_fastpath::service_record`].
fn service_line(record: &ServiceRecord) -> Line {
    let [a0, a1, a2, a3] = record.address.to_ne_bytes();
    let [p0, p1] = record.port.to_ne_bytes();
    let [i0, i1, i2, i3] = record.index.to_ne_bytes();
    let [t0, t1] = record.tag.to_ne_bytes();
    let pair = |first: u32, second: u32| {
        let [a, b, c, d] = first.to_ne_bytes();
        let [e, f, g, h] = second.to_ne_bytes();
        u64::from_ne_bytes([a, b, c, d, e, f, g, h])
    };
    let [low, high] = {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = record.address6;
        [[a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]]
    };
    Line([
        u64::from_ne_bytes([a0, a1, a2, a3, p0, p1, record.protocol, record.kind]),
        u64::from_ne_bytes([i0, i1, i2, i3, record.scheduler, record.flags, t0, t1]),
        pair(record.pool_line, record.pool_entries),
        pair(record.weight_step, record.weight_max),
        record.start,
        u64::from_ne_bytes(low),
        u64::from_ne_bytes(high),
        pair(record.table_line, record.table_entries),
    ])
}

#[cfg(test)]
mod tests;
