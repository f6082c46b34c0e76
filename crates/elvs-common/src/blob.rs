//! The configuration blob: one array of 64-byte lines that holds everything a new connection needs, made whole by
//! the daemon and swapped at once.
//!
//! | lines | content |
//! |---|---|
//! | 0 | header: word 0 service mask (slots - 1), word 1 hash seed, word 2 generation, word 3 [`HeaderFlags`], word 4 first line (low half) and number of the IPv4 firewall-mark rules, word 5 those of IPv6 |
//! | 1..=128 | filter of virtual addresses, and of local addresses of full NAT: 32,768 places of two bits, [`FilterBits`] |
//! | 129..=256 | filter of real-server addresses whose replies are rewritten (NAT), in the same form |
//! | 257.. | service slots, open addressing, power of two |
//! | then | scheduling lists: eight entries of (destination, weight) a line, each list from a line of its own, after the [`PersistenceLine`] of a persistent service, before which lie the [`LocalLine`]s of one by full NAT, and followed by the service's hash table if its scheduler has one: 32 positions in the list a line, 16 bits each |
//! | last | firewall-mark rules: of IPv4 a [`MarkLine`] each, of IPv6 two lines each, a [`WideMark`] |
//!
//! **Invariant:** a blob in force is never written. Byte order inside addresses and ports is network order.

/// One line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Line(pub [u64; 8]);

/// Lines of a blob: 1 MiB.
pub const BLOB_LINES: usize = 16_384;
/// Line of the header.
pub const HEADER_LINE: u32 = 0;
/// Places of one filter.
pub const FILTER_PLACES: u32 = 32_768;
/// Lines of one filter.
pub const FILTER_LINES: u32 = FILTER_PLACES / 256;
/// First line of the filter of virtual addresses.
pub const FILTER_VIP_LINE: u32 = 1;
/// First line of the filter of real-server addresses.
pub const FILTER_REAL_SERVER_LINE: u32 = FILTER_VIP_LINE + FILTER_LINES;
/// First line of the service slots.
pub const SERVICES_LINE: u32 = FILTER_REAL_SERVER_LINE + FILTER_LINES;
/// Slots looked at before a service counts as absent; the daemon never places one further away.
pub const SERVICE_MAX_PROBES: u32 = 8;
/// Entries of a scheduling list in one line.
pub const POOL_ENTRIES_PER_LINE: u32 = 8;

/// Bits of a place in a filter: which tables may know the address.
#[derive(Clone, Copy, Debug)]
pub struct FilterBits;

impl FilterBits {
    /// The table of IPv4 connections.
    pub const NARROW: u64 = 1;
    /// The table of IPv6 and full-NAT connections.
    pub const WIDE: u64 = 2;
}

/// Place of an IPv4 address (network order, as loaded), or of an IPv6 address folded ([`crate::WideAddress::fold`]), in a
/// filter: 0..[`FILTER_PLACES`].
#[inline(always)]
pub const fn filter_place(address: u32) -> u32 {
    address.wrapping_mul(0x9e37_79b1) >> 17
}

/// Line of a place in a filter, after the filter's first one.
#[inline(always)]
pub const fn filter_line(place: u32) -> u32 {
    place >> 8
}

/// Word of a place in its line.
#[inline(always)]
pub const fn filter_word(place: u32) -> u32 {
    place >> 5 & 7
}

/// Lowest bit of a place in its word.
#[inline(always)]
pub const fn filter_shift(place: u32) -> u32 {
    (place & 31) * 2
}

/// Adds [`FilterBits`] of an address to the filter that begins at `first` in the lines of a blob; lines that are not there
/// are left out.
pub fn set_filter(lines: &mut [Line], first: u32, address: u32, bits: u64) {
    let place = filter_place(address);
    let line = lines.get_mut((first + filter_line(place)) as usize);
    if let Some(word) = line.and_then(|line| line.0.get_mut(filter_word(place) as usize)) {
        *word |= bits << filter_shift(place);
    }
}

/// [`FilterBits`] of an address in the filter that begins at `first`.
pub fn filter_bits(lines: &[Line], first: u32, address: u32) -> u64 {
    let place = filter_place(address);
    let line = lines.get((first + filter_line(place)) as usize);
    let word = line.and_then(|line| line.0.get(filter_word(place) as usize));
    word.map_or(0, |word| word >> filter_shift(place) & 3)
}

/// Lines of a hash table of a service: [`TABLE_ENTRIES_PER_LINE`] entries a line.
pub fn table_lines(entries: &[u16]) -> impl Iterator<Item = Line> {
    entries.chunks(TABLE_ENTRIES_PER_LINE as usize).map(|entries| {
        let mut line = Line::default();
        for (word, quarter) in line.0.iter_mut().zip(entries.chunks(4)) {
            *word = quarter.iter().rev().fold(0, |word, entry| word << 16 | *entry as u64);
        }
        line
    })
}

/// First word of a [`ServiceRecord`] as loaded, which tells services apart; 0 is an empty slot.
#[inline(always)]
pub const fn service_key(address: u32, port: u16, protocol: u8, kind: u8) -> u64 {
    u64::from_le(
        address.to_le() as u64
            | (port.to_le() as u64) << 32
            | (protocol as u64) << 48
            | (kind as u64) << 56,
    )
}

/// Hash of a service's address, port and protocol; the slot is the hash and the mask.
#[inline(always)]
pub const fn service_hash(address: u32, port: u16, protocol: u8, seed: u64) -> u32 {
    let mixed = (service_key(address, port, protocol, service_kind::EMPTY) ^ seed)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93) >> 32) as u32
}

/// What a service slot holds.
pub mod service_kind {
    /// Nothing.
    pub const EMPTY: u8 = 0;
    /// A virtual service.
    pub const SERVICE: u8 = 1;
    /// A virtual address: some service or some old connection uses it (port and protocol 0).
    pub const ADDRESS: u8 = 2;
    /// A virtual service of IPv4 by firewall mark, which takes the place of the address (port and protocol 0).
    pub const MARK: u8 = 3;
    /// As [`SERVICE`] with an IPv6 address; its fold takes the place of the address.
    pub const SERVICE6: u8 = 4;
    /// As [`ADDRESS`] with an IPv6 address; its fold takes the place of the address.
    pub const ADDRESS6: u8 = 5;
    /// As [`MARK`], of IPv6.
    pub const MARK6: u8 = 6;
    /// A local address of full NAT, IPv4 (port and protocol 0); `index` is its own.
    pub const LOCAL: u8 = 7;
    /// As [`LOCAL`] with an IPv6 address; its fold takes the place of the address.
    pub const LOCAL6: u8 = 8;
    /// A masqueraded real server of a service with the SIP engine, IPv4: its address and port; `index` is the destination's,
    /// flags and list are the service's.
    pub const SIP_SERVER: u8 = 9;
    /// As [`SIP_SERVER`] with an IPv6 address; its fold takes the place of the address.
    pub const SIP_SERVER6: u8 = 10;
    /// What FTP's data connections to an address go to, under port 21: a persistent FTP service, else the service on all ports,
    /// once more.
    pub const FTP: u8 = 11;
    /// As [`FTP`] with an IPv6 address; its fold takes the place of the address.
    pub const FTP6: u8 = 12;
    /// A masqueraded real server, IPv4, with its port and protocol; `index` is that of a destination which it is.
    pub const REAL_SERVER: u8 = 13;
    /// As [`REAL_SERVER`] with an IPv6 address; its fold takes the place of the address.
    pub const REAL_SERVER6: u8 = 14;
}

/// Scheduler numbers.
pub mod scheduler_id {
    /// Round robin.
    pub const RR: u8 = 0;
    /// Weighted round robin.
    pub const WRR: u8 = 1;
    /// Weighted least connections.
    pub const WLC: u8 = 2;
    /// Least connections.
    pub const LC: u8 = 3;
    /// Shortest expected delay.
    pub const SED: u8 = 4;
    /// Never queue.
    pub const NQ: u8 = 5;
    /// Weighted failover.
    pub const FO: u8 = 6;
    /// Weighted overflow.
    pub const OVF: u8 = 7;
    /// Destination hashing.
    pub const DH: u8 = 8;
    /// Source hashing.
    pub const SH: u8 = 9;
    /// Maglev hashing.
    pub const MH: u8 = 10;
    /// Power of two choices.
    pub const TWOS: u8 = 11;
    /// Locality-based least connections.
    pub const LBLC: u8 = 12;
    /// Locality-based least connections with replication.
    pub const LBLCR: u8 = 13;
    /// Bit in [`super::ServiceRecord::scheduler`]: the service has properties that the program's first stage knows
    /// nothing of, so that those without pay nothing for them.
    pub const CAREFUL: u8 = 0x80;
}

/// Bits of [`ServiceRecord::flags`].
#[derive(Clone, Copy, Debug)]
pub struct ServiceFlags;

impl ServiceFlags {
    /// sh, mh: another destination is probed for when the one that the hash names cannot be used.
    pub const FALLBACK: u8 = 1;
    /// sh, mh: the client's port is hashed with its address.
    pub const PORT: u8 = 2;
    /// Some destination has an upper threshold or is still overloaded by one.
    pub const THRESHOLDS: u8 = 4;
    /// Persistent: the line before the scheduling list is a [`PersistenceLine`].
    pub const PERSISTENT: u8 = 8;
    /// Every packet is scheduled by itself.
    pub const ONE_PACKET: u8 = 16;
    /// Full NAT: its connections are in the wide table, and [`LocalLine`]s lie before its list.
    pub const FULL_NAT: u8 = 32;
    /// Persistent by the Call-ID of SIP messages (`ip_vs_pe_sip`).
    pub const SIP: u8 = 64;
    /// The slot of an FTP service for its data connections; see [`service_kind::FTP`].
    pub const FTP_DATA: u8 = 128;
}

/// Bits of the header's word 3.
#[derive(Clone, Copy, Debug)]
pub struct HeaderFlags;

impl HeaderFlags {
    /// Some real server's replies are rewritten.
    pub const MASQUERADING: u64 = 1;
    /// There are firewall-mark rules of IPv4.
    pub const MARKS: u64 = 2;
    /// There are firewall-mark rules of IPv6.
    pub const MARKS6: u64 = 4;
    /// There are services of the wide table.
    pub const WIDE: u64 = 8;
    /// There are real servers of services with the SIP engine.
    pub const SIP_SERVERS: u64 = 16;
    /// There are FTP services that take their data connections.
    pub const FTP: u64 = 32;
    /// New connections of IPv4 are all left to the stage that schedules: `drop_packet` or `secure_tcp` is set.
    pub const DEFENDED: u64 = 256;
    /// Masqueraded real servers are told of packets that belong to no connection (`nat_icmp_send`); they have slots of their
    /// own ([`service_kind::REAL_SERVER`]).
    pub const TELLS_REAL_SERVERS: u64 = 512;
}

/// A rule that gives packets a firewall mark; one line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MarkLine {
    /// Client's address (low half) and virtual address, network order as loaded.
    pub addresses: u64,
    /// Bits of them that count.
    pub masks: u64,
    /// First (low half) and last client port, host order.
    pub client_ports: u32,
    /// First (low half) and last virtual port, host order.
    pub virtual_ports: u32,
    /// The mark.
    pub mark: u32,
    /// Ingress interface; 0 = any.
    pub ifindex: u32,
    /// IP protocol number; 0 = any.
    pub protocol: u8,
}

impl MarkLine {
    /// As a line.
    pub const fn to_line(self) -> Line {
        let ports = self.client_ports as u64 | (self.virtual_ports as u64) << 32;
        let mark = self.mark as u64 | (self.ifindex as u64) << 32;
        Line([self.addresses, self.masks, ports, mark, self.protocol as u64, 0, 0, 0])
    }

    /// Of a line.
    #[inline(always)]
    pub const fn of_line(line: &Line) -> Self {
        let [addresses, masks, ports, mark, protocol, ..] = line.0;
        Self {
            addresses,
            masks,
            client_ports: (ports & 0xffff_ffff) as u32,
            virtual_ports: (ports >> 32) as u32,
            mark: (mark & 0xffff_ffff) as u32,
            ifindex: (mark >> 32) as u32,
            protocol: (protocol & 0xff) as u8,
        }
    }
}

/// A rule that gives IPv6 packets a firewall mark; two lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WideMark {
    /// Client's address, network order as loaded.
    pub client: [u64; 2],
    /// Bits of it that count.
    pub client_mask: [u64; 2],
    /// Virtual address.
    pub address: [u64; 2],
    /// Bits of it that count.
    pub address_mask: [u64; 2],
    /// The rest; the addresses in it mean nothing.
    pub rest: MarkLine,
}

impl WideMark {
    /// As lines.
    pub const fn to_lines(self) -> [Line; 2] {
        let ([c0, c1], [m0, m1]) = (self.client, self.client_mask);
        let ([a0, a1], [n0, n1]) = (self.address, self.address_mask);
        [self.rest.to_line(), Line([c0, c1, m0, m1, a0, a1, n0, n1])]
    }

    /// Of its two lines.
    #[inline(always)]
    pub const fn of_lines(first: &Line, second: &Line) -> Self {
        let [c0, c1, m0, m1, a0, a1, n0, n1] = second.0;
        Self {
            client: [c0, c1],
            client_mask: [m0, m1],
            address: [a0, a1],
            address_mask: [n0, n1],
            rest: MarkLine::of_line(first),
        }
    }
}

/// What a persistent service's templates go by; in the line before its scheduling list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PersistenceLine {
    /// Bits of a client's address that count, network order.
    pub mask: u32,
    /// Virtual address in a template's key, network order.
    pub address: u32,
    /// Virtual port in a template's key, network order; 0 if all ports of the service share a template.
    pub port: u16,
    /// Protocol number in a template's key before [`crate::template_protocol`].
    pub protocol: u8,
    /// As `mask`, for a service of the wide table.
    pub wide_mask: [u64; 2],
    /// As `address`, for a service of the wide table.
    pub wide_address: [u64; 2],
}

impl PersistenceLine {
    /// As a line.
    pub const fn to_line(self) -> Line {
        let ports = self.port as u64 | (self.protocol as u64) << 16;
        let ([m0, m1], [a0, a1]) = (self.wide_mask, self.wide_address);
        Line([self.mask as u64 | (self.address as u64) << 32, ports, m0, m1, a0, a1, 0, 0])
    }

    /// Of a line.
    #[inline(always)]
    pub const fn of_line(line: &Line) -> Self {
        let [addresses, ports, m0, m1, a0, a1, ..] = line.0;
        Self {
            mask: (addresses & 0xffff_ffff) as u32,
            address: (addresses >> 32) as u32,
            port: (ports & 0xffff) as u16,
            protocol: (ports >> 16 & 0xff) as u8,
            wide_mask: [m0, m1],
            wide_address: [a0, a1],
        }
    }
}

/// Local addresses of a service by full NAT, by their indexes: up to [`LocalLine::FIRST`] in the line before its list (or before
/// its [`PersistenceLine`]), and [`LocalLine::MORE`] in each line further to the front.
#[derive(Clone, Copy, Debug)]
pub struct LocalLine;

impl LocalLine {
    /// Indexes in the line next to the list: its first word is their number in all lines.
    pub const FIRST: u32 = 28;
    /// Indexes in each line before that.
    pub const MORE: u32 = 32;

    /// Lines of so many addresses.
    pub const fn lines(addresses: u32) -> u32 {
        1 + addresses.saturating_sub(Self::FIRST).div_ceil(Self::MORE)
    }

    /// Line, counted to the front from the one next to the list, of the `nth` address; and its place in that line, in
    /// quarters of words.
    #[inline(always)]
    pub const fn place(nth: u32) -> (u32, u32) {
        match nth.checked_sub(Self::FIRST) {
            None => (0, nth + 4),
            Some(further) => (1 + further / Self::MORE, further % Self::MORE),
        }
    }

    /// The lines of these indexes, in the order in which they lie.
    pub fn pack(indexes: &[u16]) -> impl Iterator<Item = Line> {
        let count = indexes.len() as u64;
        let (first, more) = indexes.split_at(indexes.len().min(Self::FIRST as usize));
        let mut nearest = Line([count, 0, 0, 0, 0, 0, 0, 0]);
        for (index, word) in first.chunks(4).zip(nearest.0.iter_mut().skip(1)) {
            *word = index.iter().rev().fold(0, |word, entry| word << 16 | *entry as u64);
        }
        let further = more.chunks(Self::MORE as usize).rev().flat_map(table_lines);
        further.chain([nearest])
    }
}

/// Entries of a hash table of a service in one line; each is the position of a destination in the scheduling list.
pub const TABLE_ENTRIES_PER_LINE: u32 = 32;
/// Entry of a hash table that names no destination.
pub const TABLE_NOBODY: u16 = u16::MAX;

/// A service slot; one line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct ServiceRecord {
    /// Virtual address, network order.
    pub address: u32,
    /// Virtual port, network order.
    pub port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// See [`service_kind`].
    pub kind: u8,
    /// Index of the service, for its scheduler word; stable across swaps.
    pub index: u32,
    /// See [`scheduler_id`], with its bit for careful services.
    pub scheduler: u8,
    /// See [`ServiceFlags`].
    pub flags: u8,
    /// Tag of the initial scheduler word; a word with another tag is from before this blob.
    pub tag: u16,
    /// First line of the scheduling list.
    pub pool_line: u32,
    /// Entries of the scheduling list.
    pub pool_entries: u32,
    /// wrr: greatest common divisor of the weights above 0.
    pub weight_step: u32,
    /// wrr: greatest weight less (step - 1), IPVS's `mw`.
    pub weight_max: u32,
    /// Scheduler word to start from when the one in the map has another tag; twos: the sum of the weights.
    pub start: u64,
    /// Virtual IPv6 address, network order; zero if the service has none.
    pub address6: [u8; 16],
    /// dh, sh, mh: first line of the hash table.
    pub table_line: u32,
    /// dh, sh, mh: entries of the hash table.
    pub table_entries: u32,
}

/// One entry of a scheduling list, in IPVS's list order (newest first).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PoolEntry {
    /// Index of the destination.
    pub destination: u32,
    /// Weight, 0..=2_147_483_647.
    pub weight: u32,
}

/// State of a scheduler: one word, changed by compare-and-swap.
///
/// | bits | field |
/// |---|---|
/// | 0-15 | position: 0 = head of the list, n = entry n - 1 was used last |
/// | 16-46 | wrr: current weight |
/// | 48-63 | tag of the blob it belongs to |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct SchedulerWord(pub u64);

impl SchedulerWord {
    /// A word of its fields.
    #[inline(always)]
    pub const fn new(tag: u16, position: u32, weight: u32) -> Self {
        Self(
            (tag as u64) << 48 | ((weight & 0x7fff_ffff) as u64) << 16 | (position & 0xffff) as u64,
        )
    }

    /// Tag of the blob it belongs to.
    #[inline(always)]
    pub const fn tag(self) -> u16 {
        (self.0 >> 48) as u16
    }

    /// 0 = head of the list, n = entry n - 1 was used last.
    #[inline(always)]
    pub const fn position(self) -> u32 {
        (self.0 & 0xffff) as u32
    }

    /// wrr: current weight.
    #[inline(always)]
    pub const fn weight(self) -> u32 {
        (self.0 >> 16 & 0x7fff_ffff) as u32
    }
}

const _: () = assert!(size_of::<Line>() == 64);
const _: () = assert!(size_of::<ServiceRecord>() == 64);
const _: () = assert!(core::mem::offset_of!(ServiceRecord, start) == 32);
const _: () = assert!(core::mem::offset_of!(ServiceRecord, address6) == 40);
const _: () = assert!(size_of::<PoolEntry>() == 8);

#[cfg(test)]
mod tests {
    use super::{
        FILTER_PLACES, FILTER_REAL_SERVER_LINE, FILTER_VIP_LINE, FilterBits, Line, LocalLine,
        SERVICES_LINE, SchedulerWord, filter_bits, filter_place, set_filter, table_lines,
    };

    #[test]
    fn scheduler_words_round_trip_at_their_limits() {
        let word = SchedulerWord::new(0xffff, 0xffff, 0x7fff_ffff);
        assert_eq!((word.tag(), word.position(), word.weight()), (0xffff, 0xffff, 0x7fff_ffff));
        let word = SchedulerWord::new(1, 0, 0);
        assert_eq!((word.tag(), word.position(), word.weight()), (1, 0, 0));
    }

    #[test]
    fn filters_hold_what_was_set_and_nothing_else() {
        let mut lines = [Line::default(); SERVICES_LINE as usize];
        let addresses = [0, 1, u32::MAX, 0x0a00_0001, 0x0100_000a];
        for address in addresses {
            assert!(filter_place(address) < FILTER_PLACES);
            set_filter(&mut lines, FILTER_VIP_LINE, address, FilterBits::NARROW);
            assert_eq!(filter_bits(&lines, FILTER_VIP_LINE, address), FilterBits::NARROW);
            assert_eq!(filter_bits(&lines, FILTER_REAL_SERVER_LINE, address), 0);
        }
        set_filter(&mut lines, FILTER_VIP_LINE, 1, FilterBits::WIDE);
        assert_eq!(filter_bits(&lines, FILTER_VIP_LINE, 1), 3);
        let bits: u32 = lines.iter().flat_map(|line| line.0).map(u64::count_ones).sum();
        assert_eq!(bits, 6);
    }

    #[test]
    fn local_addresses_are_found_where_they_were_packed() {
        for count in [1, 4, 28, 29, 60, 61, 200] {
            let mut next = 6;
            let indexes: [u16; 200] = core::array::from_fn(|_| {
                next += 1;
                next
            });
            let indexes = &indexes[..count];
            let mut lines = [Line::default(); 8];
            let wanted = LocalLine::lines(count.try_into().unwrap()) as usize;
            assert_eq!(LocalLine::pack(indexes).count(), wanted);
            for (line, packed) in lines.iter_mut().zip(LocalLine::pack(indexes)) {
                *line = packed;
            }
            assert_eq!(lines[wanted - 1].0[0], count as u64);
            for (nth, index) in indexes.iter().enumerate() {
                let (line, place) = LocalLine::place(nth.try_into().unwrap());
                let word = lines[wanted - 1 - line as usize].0[place as usize / 4];
                assert_eq!(word >> (place % 4 * 16) & 0xffff, u64::from(*index), "{count} {nth}");
            }
        }
    }

    #[test]
    fn tables_are_packed_32_entries_a_line() {
        let mut next = 0;
        let entries: [u16; 33] = core::array::from_fn(|_| {
            next += 1;
            next
        });
        let mut lines = table_lines(&entries);
        let first = lines.next().unwrap();
        assert_eq!((first.0[0], first.0[7]), (0x0004_0003_0002_0001, 0x0020_001f_001e_001d));
        assert_eq!(lines.next(), Some(Line([33, 0, 0, 0, 0, 0, 0, 0])));
        assert_eq!(lines.next(), None);
    }
}
