//! The virtual server table as the daemon keeps it, and the configuration blob made from it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::sync::atomic::Ordering;

use elvs_common::{
    DestinationFlags, DestinationLoad, DestinationRecord, FILTER_REAL_SERVER_LINE, FILTER_VIP_LINE,
    FilterBits, HEADER_LINE, HeaderFlags, Line, MarkLine, Method, NextHop, POOL_ENTRIES_PER_LINE,
    PersistenceLine, SERVICE_MAX_PROBES, SERVICES_LINE, SchedulerWord, ServiceFlags, ServiceRecord,
    TCP, UDP, WideAddress, WideMark, scheduler_id, service_hash, service_kind, set_filter,
    table_lines,
};
use elvs_fastpath::{
    Addresses, Asked, FlowKey, MaglevEntry, MaglevProgress, Pick, carry_over, dh_table, mh_table,
    pick, sh_table, wrr_parameters,
};

use super::director::Director;
use super::frame::NIC;
use super::packet::{ip, port};

/// Address of the director towards the real servers.
pub const DIRECTOR_ADDRESS: &str = "10.0.0.10";
/// MAC address of the director.
pub const DIRECTOR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 10];
/// MAC address that clients' frames come from.
pub const CLIENT_GATEWAY: [u8; 6] = [2, 0, 0, 0, 0, 1];

const HASH_SEED: u64 = 0x5eed_5eed_5eed_5eed;

/// MAC address of the real server behind a destination.
pub const fn server_mac(destination: u32) -> [u8; 6] {
    let [a, b, c, d] = destination.to_be_bytes();
    [6, 0, a, b, c, d]
}

/// A service of a [`Table`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceId(usize);

struct Service {
    address: SocketAddr,
    /// Mark of a service by firewall mark, 0 of others.
    mark: u32,
    protocol: u8,
    scheduler: u8,
    /// See `ServiceFlags`.
    flags: u8,
    /// Mask of a persistent service.
    persistence: Option<Ipv4Addr>,
    /// Length of the prefix of a persistent service of IPv6.
    prefix: Option<u8>,
    present: bool,
    /// Destinations and weights in list order: newest first.
    list: Vec<(u32, u32)>,
    tag: u16,
    initial: SchedulerWord,
}

/// A director and its virtual server table. Every change is in force when its call returns.
pub struct Table {
    /// Its memory.
    pub director: Director,
    services: Vec<Service>,
    /// Last weight above 0 of every destination.
    last_weights: Vec<u32>,
    /// Service and address of every destination there ever was.
    homes: Vec<(usize, SocketAddr)>,
    records: Vec<Line>,
    marks: Vec<MarkLine>,
    wide_marks: Vec<WideMark>,
    next_tag: u16,
    tells_real_servers: bool,
}

impl Table {
    /// A director without services.
    pub fn new(buckets: u32) -> Self {
        let mut table = Self {
            director: Director::new(buckets),
            services: Vec::new(),
            last_weights: Vec::new(),
            homes: Vec::new(),
            records: Vec::new(),
            marks: Vec::new(),
            wide_marks: Vec::new(),
            next_tag: 1,
            tells_real_servers: false,
        };
        table.write_blob();
        table
    }

    /// Adds a service.
    pub fn add_service(&mut self, protocol: u8, address: &str, scheduler: u8) -> ServiceId {
        self.services.push(Service {
            address: address.parse().unwrap(),
            mark: 0,
            protocol,
            scheduler,
            flags: 0,
            persistence: None,
            prefix: None,
            present: true,
            list: Vec::new(),
            tag: 0,
            initial: SchedulerWord::default(),
        });
        self.director.schedulers.push(0.into());
        self.records.push(Line::default());
        let id = ServiceId(self.services.len() - 1);
        self.start_scheduler(id);
        id
    }

    /// Adds a service by firewall mark.
    pub fn add_marked_service(&mut self, mark: u32, scheduler: u8) -> ServiceId {
        let id = self.add_service(TCP, "0.0.0.0:0", scheduler);
        self.services[id.0].mark = mark;
        self.write_blob();
        id
    }

    /// Gives a firewall mark to packets that go to addresses; every address counts as virtual from then on.
    pub fn add_mark(&mut self, destination: Ipv4Addr, mask: Ipv4Addr, mark: u32) {
        let word = |address: Ipv4Addr| u64::from(ip(&address.to_string())) << 32;
        self.marks.push(MarkLine {
            addresses: word(destination),
            masks: word(mask),
            client_ports: 0xffff_0000,
            virtual_ports: 0xffff_0000,
            mark,
            ..MarkLine::default()
        });
        self.write_blob();
    }

    /// Adds a service by firewall mark of IPv6.
    pub fn add_marked_service6(&mut self, mark: u32, scheduler: u8) -> ServiceId {
        let id = self.add_service(TCP, "[::]:0", scheduler);
        self.services[id.0].mark = mark;
        self.write_blob();
        id
    }

    /// Gives a firewall mark to IPv6 packets from a prefix to a prefix; every address counts as virtual from then on.
    pub fn add_mark6(&mut self, client: (Ipv6Addr, u8), destination: (Ipv6Addr, u8), mark: u32) {
        let word = |address: Ipv6Addr| WideAddress::of_bytes(address.octets()).0;
        self.wide_marks.push(WideMark {
            client: word(client.0),
            client_mask: mask6(client.1),
            address: word(destination.0),
            address_mask: mask6(destination.1),
            rest: MarkLine {
                client_ports: 0xffff_0000,
                virtual_ports: 0xffff_0000,
                mark,
                ..MarkLine::default()
            },
        });
        self.write_blob();
    }

    /// Makes a service of IPv6 persistent, by clients' prefixes of that length.
    pub fn set_persistence6(&mut self, id: ServiceId, prefix: Option<u8>) {
        self.services[id.0].prefix = prefix;
        self.write_blob();
    }

    /// Replaces a service's scheduler and its flags; it starts afresh.
    pub fn set_scheduler(&mut self, id: ServiceId, scheduler: u8, flags: u8) {
        self.services[id.0].scheduler = scheduler;
        self.services[id.0].flags = flags;
        self.start_scheduler(id);
    }

    /// Makes a service persistent, with that netmask.
    pub fn set_persistence(&mut self, id: ServiceId, mask: Option<Ipv4Addr>) {
        self.services[id.0].persistence = mask;
        self.write_blob();
    }

    /// Sets a destination's thresholds.
    pub fn set_thresholds(&mut self, destination: u32, upper: u32, lower: u32) {
        let record = &mut self.director.destinations[destination as usize];
        let more_room = upper == 0 || upper > record.upper_threshold;
        (record.upper_threshold, record.lower_threshold) = (upper, lower);
        if more_room {
            self.director.loads[destination as usize]
                .fetch_and(!DestinationLoad::OVERLOAD, Ordering::Relaxed);
        }
        self.write_blob();
    }

    fn start_scheduler(&mut self, id: ServiceId) {
        let tag = self.tag();
        let service = &mut self.services[id.0];
        service.tag = tag;
        service.initial = carry_over(
            service.scheduler,
            SchedulerWord::default(),
            &[],
            &[],
            wrr_parameters(service.list.iter().map(|(_, weight)| *weight)),
            true,
            tag,
        );
        self.write_blob();
    }

    /// Removes a service; its connections stay, their destinations are gone.
    pub fn remove_service(&mut self, id: ServiceId) {
        for (destination, _) in self.services[id.0].list.clone() {
            self.remove_destination(id, destination);
        }
        self.services[id.0].present = false;
        self.write_blob();
    }

    /// Adds a destination at the head of its service's list and returns its index. One that was there before is
    /// revived with its connections.
    pub fn add_destination(
        &mut self,
        id: ServiceId,
        address: &str,
        method: Method,
        weight: u32,
    ) -> u32 {
        let address: SocketAddr = address.parse().unwrap();
        let known = self.homes.iter().position(|home| *home == (id.0, address));
        let index = known.unwrap_or_else(|| {
            self.homes.push((id.0, address));
            self.last_weights.push(0);
            self.director.destinations.push(DestinationRecord::default());
            self.director.loads.push(0.into());
            self.homes.len() - 1
        });
        self.last_weights[index] = weight;
        let destination = u32::try_from(index).unwrap();
        let hop = NextHop::new(server_mac(destination), DIRECTOR_MAC, NIC);
        self.director.destinations[index] = DestinationRecord {
            flags: DestinationFlags::AVAILABLE
                | if address.is_ipv6() { DestinationFlags::IPV6 } else { 0 },
            method: method as u32,
            port: address.port().to_be(),
            address: folded(address.ip()),
            address6: bytes6(address.ip()),
            tunnel_source: ip(DIRECTOR_ADDRESS),
            next_hop: [hop, NextHop::default()],
            mtu: 1_500,
            service: u32::try_from(id.0).unwrap(),
            // Those of one that was there before stay until they are set.
            upper_threshold: self.director.destinations[index].upper_threshold,
            lower_threshold: self.director.destinations[index].lower_threshold,
            ..DestinationRecord::default()
        };
        self.change(id, |list| list.insert(0, (destination, weight)));
        destination
    }

    /// Adds many destinations of one method and weight with one change; the last one becomes the head.
    pub fn add_pool(&mut self, id: ServiceId, count: u32, weight: u32) -> Vec<u32> {
        let base = self.homes.len();
        let mut added = Vec::new();
        for n in 0..count {
            let address = SocketAddrV4::new((0x0a01_0000 + n).into(), 80);
            self.homes.push((id.0, address.into()));
            self.last_weights.push(weight);
            self.director.destinations.push(DestinationRecord {
                flags: DestinationFlags::AVAILABLE,
                method: Method::Dr as u32,
                address: u32::from(*address.ip()).to_be(),
                ..DestinationRecord::default()
            });
            self.director.loads.push(0.into());
            added.push((u32::try_from(base).unwrap() + n, weight));
        }
        let indexes = added.iter().map(|(index, _)| *index).collect();
        added.reverse();
        self.change(id, |list| {
            added.extend_from_slice(list);
            *list = added;
        });
        indexes
    }

    /// Changes a weight.
    pub fn set_weight(&mut self, id: ServiceId, destination: u32, weight: u32) {
        if weight != 0 {
            self.last_weights[destination as usize] = weight;
        }
        self.change(id, |list| {
            list.iter_mut().find(|(index, _)| *index == destination).unwrap().1 = weight;
        });
    }

    /// Removes a destination; its connections stay and find it gone.
    pub fn remove_destination(&mut self, id: ServiceId, destination: u32) {
        self.director.destinations[destination as usize].flags &= !DestinationFlags::AVAILABLE;
        self.change(id, |list| list.retain(|(index, _)| *index != destination));
    }

    /// Has connections answered by a reset when their destination is removed (`on_delete reset`).
    pub fn set_reset(&mut self, destination: u32) {
        self.director.destinations[destination as usize].flags |= DestinationFlags::RESET;
    }

    /// Has masqueraded real servers told of packets of no connection (`nat_icmp_send`), by TCP and UDP.
    pub fn tell_real_servers(&mut self) {
        self.tells_real_servers = true;
        self.write_blob();
    }

    /// Says that a defence may be in the way of new connections.
    pub fn defend(&mut self) {
        self.director.blob[HEADER_LINE as usize].0[3] |= HeaderFlags::DEFENDED;
    }

    /// Index of a destination of a service by its address.
    pub fn destination(&self, id: ServiceId, address: &str) -> u32 {
        let address: SocketAddr = address.parse().unwrap();
        u32::try_from(self.homes.iter().position(|home| *home == (id.0, address)).unwrap()).unwrap()
    }

    /// Address of a destination.
    pub fn address(&self, destination: u32) -> SocketAddr {
        self.homes[destination as usize].1
    }

    /// Asks a service's scheduler, without opening a connection, for some client.
    pub fn pick(&self, id: ServiceId) -> Pick {
        self.pick_for(id, "198.51.100.1:40000")
    }

    /// Asks a service's scheduler, without opening a connection, for a client.
    pub fn pick_for(&self, id: ServiceId, client: &str) -> Pick {
        let client: SocketAddrV4 = client.parse().unwrap();
        let service = &self.services[id.0];
        let key = FlowKey::new(
            ip(&client.ip().to_string()),
            folded(service.address.ip()),
            port(client.port()),
            port(service.address.port()),
            service.protocol,
        );
        pick::<elvs_fastpath::Narrow, _>(&self.director, &key, NIC, Asked::Destination)
    }

    /// Hash table of a service, of positions in its list.
    fn hash_table(&self, service: &Service) -> Vec<u16> {
        match service.scheduler {
            scheduler_id::DH => dh_table(service.list.len()).collect(),
            scheduler_id::SH => {
                sh_table(&service.list.iter().map(|(_, weight)| *weight).collect::<Vec<_>>())
                    .collect()
            }
            scheduler_id::MH => {
                let entry = |(index, _): &(u32, u32)| {
                    let address = self.homes[*index as usize].1;
                    MaglevEntry {
                        address: u32::from_be(folded(address.ip())),
                        port: address.port(),
                        last_weight: self.last_weights[*index as usize],
                    }
                };
                let list: Vec<_> = service.list.iter().map(entry).collect();
                let mut table = vec![0; 4093];
                mh_table(&list, &mut vec![MaglevProgress::default(); list.len()], &mut table);
                table
            }
            _ => Vec::new(),
        }
    }

    /// Destinations and weights of a service, newest first.
    pub fn list(&self, id: ServiceId) -> &[(u32, u32)] {
        &self.services[id.0].list
    }

    fn change(&mut self, id: ServiceId, edit: impl FnOnce(&mut Vec<(u32, u32)>)) {
        let tag = self.tag();
        let service = &mut self.services[id.0];
        let in_map = SchedulerWord(self.director.schedulers[id.0].load(Ordering::Relaxed));
        let old = if in_map.tag() == service.tag { in_map } else { service.initial };
        let indexes =
            |list: &[(u32, u32)]| list.iter().map(|(index, _)| *index).collect::<Vec<_>>();
        let before = service.list.clone();
        edit(&mut service.list);
        service.initial = carry_over(
            service.scheduler,
            old,
            &indexes(&before),
            &indexes(&service.list),
            wrr_parameters(service.list.iter().map(|(_, weight)| *weight)),
            before != service.list,
            tag,
        );
        service.tag = tag;
        self.write_blob();
    }

    fn tag(&mut self) -> u16 {
        let tag = self.next_tag;
        self.next_tag = self.next_tag.wrapping_add(1);
        tag
    }

    /// Places the real servers of a service with the SIP engine.
    fn place_call_servers(
        &self,
        blob: &mut [Line],
        slots: u32,
        service: &Service,
        record: &ServiceRecord,
    ) -> bool {
        blob[0].0[3] |= HeaderFlags::SIP_SERVERS;
        service.list.iter().all(|(destination, _)| {
            let home = self.homes[*destination as usize].1;
            let server = ServiceRecord {
                address: folded(home.ip()),
                address6: mapped6(home.ip()),
                port: port(home.port()),
                protocol: UDP,
                kind: kind_of(home.ip(), service_kind::SIP_SERVER, service_kind::SIP_SERVER6),
                index: *destination,
                flags: record.flags,
                pool_line: record.pool_line,
                ..ServiceRecord::default()
            };
            let hash = service_hash(server.address, server.port, UDP, HASH_SEED);
            place(blob, slots, hash, line_of(&server))
        })
    }

    fn write_blob(&mut self) {
        let mut slots = 8_u32;
        while !self.try_write_blob(slots) {
            slots *= 2;
        }
    }

    /// Writes the blob with that many service slots; false if some service would be too far from its place.
    fn try_write_blob(&mut self, slots: u32) -> bool {
        let mut blob = vec![Line::default(); (SERVICES_LINE + slots) as usize];
        blob[0].0[0] = u64::from(slots - 1);
        blob[0].0[1] = HASH_SEED;
        let old = self
            .director
            .live()
            .map(|(_, slot)| u32::try_from(slot.addresses.load(Ordering::Relaxed) >> 32).unwrap());
        let old = old.map(|address| IpAddr::from(address.to_ne_bytes()));
        let old_wide = self.director.live_wide().map(|(_, slot)| {
            let [_, _, first, second, _] = slot.addresses.read();
            IpAddr::from(WideAddress([first, second]).bytes())
        });
        let present = self.services.iter().filter(|service| service.present);
        let mut addresses: Vec<IpAddr> =
            present.map(|service| service.address.ip()).chain(old).chain(old_wide).collect();
        addresses.sort_unstable();
        addresses.dedup();
        for address in addresses {
            set_filter(&mut blob, FILTER_VIP_LINE, folded(address), bits_of(address));
            let record = ServiceRecord {
                address: folded(address),
                address6: bytes6(address),
                kind: kind_of(address, service_kind::ADDRESS, service_kind::ADDRESS6),
                ..ServiceRecord::default()
            };
            let hash = service_hash(record.address, 0, 0, HASH_SEED);
            if !place(&mut blob, slots, hash, line_of(&record)) {
                return false;
            }
            if address.is_ipv6() {
                blob[0].0[3] |= HeaderFlags::WIDE;
            }
        }
        for (record, (_, home)) in self.director.destinations.iter().zip(&self.homes) {
            if record.method == Method::Nat as u32 {
                let bits = bits_of(home.ip());
                set_filter(&mut blob, FILTER_REAL_SERVER_LINE, record.address, bits);
                blob[0].0[3] |= HeaderFlags::MASQUERADING;
            }
        }
        let homes = self.homes.iter().enumerate().filter(|_| self.tells_real_servers);
        for (index, (_, home)) in homes {
            let kinds = (service_kind::REAL_SERVER, service_kind::REAL_SERVER6);
            for protocol in [TCP, UDP] {
                let record = ServiceRecord {
                    address: folded(home.ip()),
                    address6: bytes6(home.ip()),
                    port: port(home.port()),
                    protocol,
                    kind: kind_of(home.ip(), kinds.0, kinds.1),
                    index: index as u32,
                    ..ServiceRecord::default()
                };
                let hash = service_hash(record.address, record.port, protocol, HASH_SEED);
                if !place(&mut blob, slots, hash, line_of(&record)) {
                    return false;
                }
            }
            blob[0].0[3] |= HeaderFlags::TELLS_REAL_SERVERS;
        }
        for (index, service) in self.services.iter().enumerate().filter(|(_, s)| s.present) {
            let mut flags = service.flags;
            if let Some(mask) = service.persistence {
                flags |= ServiceFlags::PERSISTENT;
                let line = PersistenceLine {
                    mask: ip(&mask.to_string()),
                    address: folded(service.address.ip()),
                    port: port(service.address.port()),
                    protocol: service.protocol,
                    wide_mask: WideAddress::of_bytes(mask4(mask)).0,
                    wide_address: WideAddress::of_bytes(mapped6(service.address.ip())).0,
                };
                blob.push(line.to_line());
            }
            if let Some(prefix) = service.prefix {
                flags |= ServiceFlags::PERSISTENT;
                let line = PersistenceLine {
                    wide_mask: mask6(prefix),
                    wide_address: WideAddress::of_bytes(bytes6(service.address.ip())).0,
                    port: port(service.address.port()),
                    protocol: service.protocol,
                    ..PersistenceLine::default()
                };
                blob.push(line.to_line());
            }
            let upper = |index: u32| self.director.destinations[index as usize].upper_threshold;
            if service.list.iter().any(|(index, _)| upper(*index) != 0) {
                flags |= ServiceFlags::THRESHOLDS;
            }
            let careful = flags & !(ServiceFlags::FALLBACK | ServiceFlags::PORT) != 0;
            let pool_line = blob.len();
            for entries in service.list.chunks(POOL_ENTRIES_PER_LINE as usize) {
                let mut line = Line::default();
                for (word, (destination, weight)) in line.0.iter_mut().zip(entries) {
                    *word = u64::from(*destination) | u64::from(*weight) << 32;
                }
                blob.push(line);
            }
            let table = self.hash_table(service);
            let table_line = blob.len();
            blob.extend(table_lines(&table));
            let (step, greatest) = wrr_parameters(service.list.iter().map(|(_, weight)| *weight));
            let (address, protocol, kind) = if service.mark == 0 {
                let kinds = (service_kind::SERVICE, service_kind::SERVICE6);
                let address = service.address.ip();
                (folded(address), service.protocol, kind_of(address, kinds.0, kinds.1))
            } else {
                let kinds = (service_kind::MARK, service_kind::MARK6);
                (service.mark, 0, kind_of(service.address.ip(), kinds.0, kinds.1))
            };
            let address6 = if service.mark == 0 { bytes6(service.address.ip()) } else { [0; 16] };
            let record = ServiceRecord {
                address,
                address6,
                port: port(service.address.port()),
                protocol,
                kind,
                index: u32::try_from(index).unwrap(),
                scheduler: service.scheduler | if careful { scheduler_id::CAREFUL } else { 0 },
                tag: service.tag,
                pool_line: u32::try_from(pool_line).unwrap(),
                pool_entries: u32::try_from(service.list.len()).unwrap(),
                weight_step: step,
                weight_max: greatest,
                start: if service.scheduler == scheduler_id::TWOS {
                    service.list.iter().map(|(_, weight)| u64::from(*weight)).sum()
                } else {
                    service.initial.0
                },
                flags,
                table_line: u32::try_from(table_line).unwrap(),
                table_entries: u32::try_from(table.len()).unwrap(),
            };
            self.records[index] = line_of(&record);
            let hash = service_hash(record.address, record.port, record.protocol, HASH_SEED);
            if !place(&mut blob, slots, hash, line_of(&record)) {
                return false;
            }
            if flags & ServiceFlags::SIP != 0
                && !self.place_call_servers(&mut blob, slots, service, &record)
            {
                return false;
            }
        }
        if !self.marks.is_empty() {
            blob[0].0[3] |= HeaderFlags::MARKS;
            blob[0].0[4] = blob.len() as u64 | (self.marks.len() as u64) << 32;
            blob.extend(self.marks.iter().map(|mark| mark.to_line()));
            for line in &mut blob[FILTER_VIP_LINE as usize..FILTER_REAL_SERVER_LINE as usize] {
                line.0.iter_mut().for_each(|word| *word |= 0x5555_5555_5555_5555);
            }
        }
        if !self.wide_marks.is_empty() {
            blob[0].0[3] |= HeaderFlags::MARKS6 | HeaderFlags::WIDE;
            blob[0].0[5] = blob.len() as u64 | (self.wide_marks.len() as u64) << 32;
            blob.extend(self.wide_marks.iter().flat_map(|mark| mark.to_lines()));
            for line in &mut blob[FILTER_VIP_LINE as usize..FILTER_REAL_SERVER_LINE as usize] {
                line.0.iter_mut().for_each(|word| *word |= 0xaaaa_aaaa_aaaa_aaaa);
            }
        }
        self.director.blob = blob;
        true
    }
}

/// An address where there is room for 32 bits; of IPv6 written down plainly from `ip_vs_sh_hashkey`.
pub fn folded(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(address) => u32::from_ne_bytes(address.octets()),
        IpAddr::V6(address) => {
            let words = address.octets();
            words
                .chunks(4)
                .fold(0, |fold, word| fold ^ u32::from_ne_bytes(word.try_into().unwrap()))
        }
    }
}

/// The bytes of an IPv6 address, zeros for IPv4.
fn bytes6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(_) => [0; 16],
        IpAddr::V6(address) => address.octets(),
    }
}

/// The bits of a prefix's length.
fn mask6(prefix: u8) -> [u64; 2] {
    let mut bytes = [0_u8; 16];
    for bit in 0..usize::from(prefix) {
        bytes[bit / 8] |= 0x80 >> (bit % 8);
    }
    WideAddress::of_bytes(bytes).0
}

const fn bits_of(address: IpAddr) -> u64 {
    if address.is_ipv4() { FilterBits::NARROW } else { FilterBits::WIDE }
}

const fn kind_of(address: IpAddr, kind: u8, kind6: u8) -> u8 {
    if address.is_ipv4() { kind } else { kind6 }
}

/// A line in the layout of a [`ServiceRecord`].
fn line_of(record: &ServiceRecord) -> Line {
    let mut bytes = Vec::new();
    bytes.extend(record.address.to_ne_bytes());
    bytes.extend(record.port.to_ne_bytes());
    bytes.extend([record.protocol, record.kind]);
    bytes.extend(record.index.to_ne_bytes());
    bytes.extend([record.scheduler, record.flags]);
    bytes.extend(record.tag.to_ne_bytes());
    for word in [record.pool_line, record.pool_entries, record.weight_step, record.weight_max] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes.extend(record.start.to_ne_bytes());
    bytes.extend(record.address6);
    bytes.extend(record.table_line.to_ne_bytes());
    bytes.extend(record.table_entries.to_ne_bytes());
    let mut line = Line::default();
    for (word, bytes) in line.0.iter_mut().zip(bytes.chunks(8)) {
        *word = u64::from_ne_bytes(bytes.try_into().unwrap());
    }
    line
}

/// An address in IPv6 form.
fn mapped6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// A netmask in that form.
fn mask4(mask: Ipv4Addr) -> [u8; 16] {
    let mut bytes = [0xff; 16];
    bytes[12..].copy_from_slice(&mask.octets());
    bytes
}

fn place(blob: &mut [Line], slots: u32, hash: u32, record: Line) -> bool {
    let free = (0..SERVICE_MAX_PROBES)
        .map(|probe| (SERVICES_LINE + (hash.wrapping_add(probe) & (slots - 1))) as usize)
        .find(|line| blob[*line] == Line::default());
    free.inspect(|line| blob[*line] = record).is_some()
}
