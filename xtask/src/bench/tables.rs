//! The program under test with one service, and the wrapper before it.

use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use aya::maps::{Array, ArrayOfMaps, Map, MapData, PerCpuArray, ProgramArray};
use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader, Pod};
use elvs_common::{
    BLOB_LINES, Counter, CounterKind, DestinationFlags, FILTER_REAL_SERVER_LINE, FILTER_VIP_LINE,
    FilterBits, HEADER_LINE, HeaderFlags, Line, MarkLine, Method, NextHop, PersistenceLine,
    SERVICES_LINE, Settings, TAIL_BUCKETS, TCP, UDP, map_names, program_names, scheduler_id,
    service_hash, service_key, service_kind, set_filter, table_lines,
};

use elvs_fastpath::{MaglevEntry, MaglevProgress, flow_hash, home_bucket, mh_table, sh_table};

use super::packets::{FRAME, Packet, Profile, REAL_SERVER, RPORT, Service, VIP, VPORT};

const BUCKETS: u32 = 1 << 19;
const BUCKET_BYTES: usize = 128;
const SEED: [u64; 2] = [0x1234_5678_9abc_def0, 0x0fed_cba9_8765_4321];
/// First client address of the wrapper, host order.
const CLIENTS: u32 = 0x0a40_0000;
/// Interface that test runs say packets come from: the loopback device.
const INGRESS: u32 = 1;
/// After the slots, and a line for what templates go by.
const POOL_LINE: u32 = SERVICES_LINE + 9;
/// Mark of the service by firewall mark.
const MARK: u32 = 7;
const DESTINATION: u32 = 1;

/// The wrapper's job; the layout is that of the wrapper.
#[derive(Clone, Copy)]
#[repr(C)]
struct Job {
    template: [u8; FRAME],
    next: u64,
    mask: u64,
    address_at: u64,
    port_at: u64,
}

// SAFETY: integers only, no padding.
unsafe impl Pod for Job {}

#[derive(Clone, Copy)]
#[repr(transparent)]
struct Words<const N: usize>([u64; N]);

// SAFETY: integers only, no padding.
unsafe impl<const N: usize> Pod for Words<N> {}

/// Loaded programs and their maps.
pub struct Tables {
    director: Ebpf,
    wrapper: Ebpf,
    targets: ProgramArray<MapData>,
    flows: Mapping,
    /// Keeps the director's other stages reachable.
    _programs: ProgramArray<MapData>,
}

impl Tables {
    /// Loads both objects.
    pub fn load(objects: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = objects.join(name);
            std::fs::read(&path)
                .with_context(|| format!("{}: build it with `cargo xtask bpf`", path.display()))
        };
        let mut director = EbpfLoader::new()
            .map_max_entries(map_names::FLOWS, BUCKETS + TAIL_BUCKETS)
            .override_global("ELVS_BUCKETS", &BUCKETS, true)
            .override_global("ELVS_SEED", &SEED, true)
            .override_global("ELVS_TICK_SHIFT", &4u32, true)
            .load(&read("elvs.bpf.o")?)
            .context("loading elvs.bpf.o")?;
        program(&mut director, program_names::DIRECTOR)?.load().context("loading the director")?;
        let mut programs = ProgramArray::try_from(take(&mut director, map_names::PROGRAMS)?)?;
        for (element, name) in program_names::STAGES {
            let stage = program(&mut director, name)?;
            stage.load().with_context(|| format!("loading {name}"))?;
            programs.set(element, stage.fd()?, 0)?;
        }
        let mut wrapper =
            EbpfLoader::new().load(&read("bench.bpf.o")?).context("loading bench.bpf.o")?;
        for name in ["bench_wrap", "bench_floor"] {
            program(&mut wrapper, name)?.load().with_context(|| format!("loading {name}"))?;
        }
        let targets = ProgramArray::try_from(take(&mut wrapper, "BENCH_PROGS")?)?;
        let Map::Array(flows) = director.map(map_names::FLOWS).context("no flow table")? else {
            bail!("the flow table is no array");
        };
        let flows =
            Mapping::new(flows.fd().as_fd(), (BUCKETS + TAIL_BUCKETS) as usize * BUCKET_BYTES)?;
        let mut tables = Self { director, wrapper, targets, flows, _programs: programs };
        tables.settings()?;
        Ok(tables)
    }

    fn settings(&mut self) -> Result<()> {
        let mut settings = [0u32; size_of::<Settings>() / 4];
        settings.iter_mut().take(17).for_each(|timeout| *timeout = u32::MAX);
        let mut words = [0; size_of::<Settings>() / 8];
        for (word, pair) in words.iter_mut().zip(settings.chunks_exact(2)) {
            if let [low, high] = pair {
                *word = u64::from(*low) | u64::from(*high) << 32;
            }
        }
        self.set(map_names::SETTINGS, 0, words)
    }

    /// Puts a service in force whose destinations are of a forwarding method.
    pub fn configure(&mut self, method: Method, service: &Service) -> Result<()> {
        let address = u32::from_ne_bytes(REAL_SERVER);
        let hop = NextHop::new([2, 0, 0, 0, 0, 3], [2, 0, 0, 0, 0, 1], INGRESS);
        let mut record = [0u64; 16];
        record[0] = u64::from(DestinationFlags::AVAILABLE) << 32;
        record[1] = method as u64
            | u64::from(if method == Method::Nat { RPORT.to_be() } else { VPORT.to_be() }) << 32;
        record[2] = u64::from(address) | u64::from(u32::from_ne_bytes([10, 0, 0, 10])) << 32;
        record[3] = hop.first;
        record[4] = u64::from(hop.second) | u64::from(hop.ifindex) << 32;
        for destination in 0..service.destinations {
            self.set(map_names::DESTINATIONS, DESTINATION + destination, record)?;
            self.set(map_names::LOADS, DESTINATION + destination, [0])?;
        }
        self.install(address, method, service)
    }

    fn install(&mut self, real_server: u32, method: Method, service: &Service) -> Result<()> {
        let vip = u32::from_ne_bytes(VIP);
        let mut lines = vec![Line::default(); BLOB_LINES];
        lines[HEADER_LINE as usize].0[0] = 7;
        set_filter(&mut lines, FILTER_VIP_LINE, vip, FilterBits::NARROW);
        if method == Method::Nat {
            set_filter(&mut lines, FILTER_REAL_SERVER_LINE, real_server, FilterBits::NARROW);
            lines[HEADER_LINE as usize].0[3] |= HeaderFlags::MASQUERADING;
        }
        let pool: Vec<u64> = (0..service.destinations)
            .map(|destination| u64::from(DESTINATION + destination) | 1 << 32)
            .collect();
        let mut next = POOL_LINE as usize;
        for entries in pool.chunks(8) {
            lines[next].0[..entries.len()].copy_from_slice(entries);
            next += 1;
        }
        let (table_line, table) = (next, hash_table(service)?);
        for line in table_lines(&table) {
            lines[next] = line;
            next += 1;
        }
        let careful = service.flags != 0;
        let scheduler = service.scheduler | if careful { scheduler_id::CAREFUL } else { 0 };
        for protocol in [TCP, UDP] {
            let (address, port, protocol, kind) = if service.marked {
                (MARK, 0, 0, service_kind::MARK)
            } else {
                (vip, VPORT.to_be(), protocol, service_kind::SERVICE)
            };
            let mut slot = service_hash(address, port, protocol, 0) & 7;
            while lines[(SERVICES_LINE + slot) as usize].0[0] != 0 {
                slot = (slot + 1) & 7;
            }
            let line = &mut lines[(SERVICES_LINE + slot) as usize];
            line.0[0] = service_key(address, port, protocol, kind);
            line.0[1] = u64::from(protocol)
                | u64::from(scheduler) << 32
                | u64::from(service.flags) << 40
                | 1 << 48;
            line.0[2] = u64::from(POOL_LINE) | u64::from(service.destinations) << 32;
            line.0[4] = 1 << 48;
            line.0[7] = u64::try_from(table_line)? | u64::try_from(table.len())? << 32;
        }
        let templates = PersistenceLine {
            mask: u32::MAX,
            address: vip,
            port: VPORT.to_be(),
            protocol: TCP,
            ..PersistenceLine::default()
        };
        lines[POOL_LINE as usize - 1] = templates.to_line();
        if service.marked {
            let addresses = u64::from(vip) << 32;
            let every_port = 0xffff_0000;
            lines[next] = MarkLine {
                addresses,
                masks: u64::from(u32::MAX) << 32,
                client_ports: every_port,
                virtual_ports: every_port,
                mark: MARK,
                ..MarkLine::default()
            }
            .to_line();
            lines[HEADER_LINE as usize].0[3] |= HeaderFlags::MARKS;
            lines[HEADER_LINE as usize].0[4] = u64::try_from(next)? | 1 << 32;
        }
        // The flag makes the map one that the outer map takes.
        let mut inner: Array<MapData, Words<8>> =
            Array::create(u32::try_from(BLOB_LINES)?, aya_mmapable())?;
        for (index, line) in lines.iter().enumerate().filter(|(_, line)| line.0 != [0; 8]) {
            inner.set(u32::try_from(index)?, Words(line.0), 0)?;
        }
        let outer = self.director.map_mut(map_names::CONFIG).context("no configuration map")?;
        let mut outer: ArrayOfMaps<&mut MapData, Array<MapData, Words<8>>> =
            ArrayOfMaps::try_from(outer)?;
        outer.set(0, &inner, 0)?;
        Ok(())
    }

    /// Nanoseconds of one load from the home bucket of one of `flows` connections, in an order that no prefetcher
    /// follows, when each load has to wait for the one before: what a packet cannot be faster than if its bucket is in no
    /// cache.
    pub fn load_time(&self, flows: u64, loads: u64) -> Result<f64> {
        let mask = flows - 1;
        let mut offsets = Vec::new();
        for number in 0..loads {
            let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) & mask;
            let flow = u32::try_from((mixed ^ mixed >> 9) & mask)?;
            offsets.push(home_of(flow, TCP)? * BUCKET_BYTES);
        }
        let started = Instant::now();
        let last = offsets.iter().fold(0, |waited, offset| self.flows.word(offset | waited));
        let elapsed = started.elapsed();
        ensure!(last == 0, "the flow table is not empty");
        Ok(elapsed.as_secs_f64() * 1e9 / f64::from(u32::try_from(loads)?))
    }

    /// Takes the flows of a job out of the flow table. Of few flows only their own buckets are touched, so that caches
    /// stay as the packets left them.
    pub fn clear_flows(&mut self, protocol: u8, flows: u64) -> Result<()> {
        if flows > 65_536 {
            self.flows.clear(0, self.flows.length);
            return Ok(());
        }
        for flow in 0..u32::try_from(flows)? {
            // Nearly all of them lie in their home bucket; the few others are found there by the next run.
            self.flows.clear(home_of(flow, protocol)? * BUCKET_BYTES, BUCKET_BYTES);
        }
        Ok(())
    }

    /// Empties the flow table.
    pub fn clear_all(&mut self) {
        self.flows.clear(0, self.flows.length);
    }

    /// Sets the wrapper's job.
    pub fn job(&mut self, template: &[u8; FRAME], packet: &Packet, flows: u64) -> Result<()> {
        ensure!(flows.is_power_of_two(), "{flows} flows are no power of two");
        let job = Job {
            template: *template,
            next: 0,
            mask: flows - 1,
            address_at: packet.address_at(),
            port_at: packet.port_at(),
        };
        let map = self.wrapper.map_mut("BENCH_JOB").context("no job map")?;
        Array::<_, Job>::try_from(map)?.set(0, job, 0)?;
        Ok(())
    }

    /// Puts the program under test, or the one that does nothing, behind the wrapper.
    pub fn target(&mut self, real: bool) -> Result<()> {
        let fd = if real {
            program(&mut self.director, program_names::DIRECTOR)?.fd()?.try_clone()?
        } else {
            program(&mut self.wrapper, "bench_floor")?.fd()?.try_clone()?
        };
        self.targets.set(0, &fd, 0)?;
        Ok(())
    }

    /// The wrapper.
    pub fn wrapper(&self) -> Result<&Xdp> {
        Ok(self.wrapper.program("bench_wrap").context("no wrapper")?.try_into()?)
    }

    /// Checks that nothing was dropped.
    pub fn check(&self, profile: &Profile) -> Result<()> {
        let dropped: Vec<_> =
            self.counters()?.into_iter().filter(|(c, _)| c.kind() == CounterKind::Drop).collect();
        if !dropped.is_empty() {
            bail!("profile {}: packets were dropped: {dropped:?}", profile.name);
        }
        Ok(())
    }

    /// Counters that are not 0.
    pub fn counters(&self) -> Result<Vec<(Counter, u64)>> {
        let map = self.director.map(map_names::COUNTERS).context("no counters")?;
        let counts: PerCpuArray<_, u64> = PerCpuArray::try_from(map)?;
        let mut found = Vec::new();
        for counter in Counter::ALL {
            let count = counts.get(&(*counter as u32), 0)?.iter().sum();
            if count != 0 {
                found.push((*counter, count));
            }
        }
        Ok(found)
    }

    fn set<const N: usize>(&mut self, name: &str, index: u32, words: [u64; N]) -> Result<()> {
        let map = self.director.map_mut(name).with_context(|| format!("no map {name}"))?;
        Array::<_, Words<N>>::try_from(map)?.set(index, Words(words), 0)?;
        Ok(())
    }
}

/// Hash table of a service's scheduler; empty without one.
fn hash_table(service: &Service) -> Result<Vec<u16>> {
    let length = usize::try_from(service.destinations)?;
    Ok(match service.scheduler {
        scheduler_id::SH => sh_table(&vec![1; length]).collect(),
        scheduler_id::MH => {
            let entry = |address| MaglevEntry { address, port: RPORT, last_weight: 1 };
            let list: Vec<_> = (0..service.destinations).map(entry).collect();
            let mut table = vec![0; 4_093];
            mh_table(&list, &mut vec![MaglevProgress::default(); length], &mut table);
            table
        }
        _ => Vec::new(),
    })
}

/// Home bucket of one of the wrapper's flows.
fn home_of(flow: u32, protocol: u8) -> Result<usize> {
    let client = (CLIENTS + (flow >> 10)).to_be();
    let port = u16::try_from(0x4000 + (flow & 1023))?.to_be();
    Ok(home_bucket(flow_hash(client, port, protocol, SEED), BUCKETS) as usize)
}

const fn aya_mmapable() -> u32 {
    1 << 10
}

fn program<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    Ok(object.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?)
}

fn take(object: &mut Ebpf, name: &str) -> Result<Map> {
    object.take_map(name).with_context(|| format!("no map {name}"))
}

/// The flow table in this process's memory.
struct Mapping {
    start: *mut u8,
    length: usize,
}

impl Mapping {
    fn new(fd: std::os::fd::BorrowedFd<'_>, length: usize) -> Result<Self> {
        // SAFETY: a fresh mapping of the whole map; the kernel checks the length.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error()).context("mapping the flow table");
        }
        Ok(Self { start: start.cast(), length })
    }

    /// The word at an offset of a multiple of eight bytes.
    fn word(&self, offset: usize) -> usize {
        assert!(offset + 8 <= self.length, "{offset} is outside the flow table");
        // SAFETY: the word is inside the mapping.
        let word = unsafe { self.start.add(offset) }.cast::<usize>();
        // SAFETY: as above, and aligned; volatile, since it is the load that counts.
        unsafe { word.read_volatile() }
    }

    fn clear(&mut self, offset: usize, bytes: usize) {
        assert!(
            offset + bytes <= self.length,
            "{bytes} bytes at {offset} are outside the flow table"
        );
        // SAFETY: the range is inside the mapping, which is ours and writable.
        let start = unsafe { self.start.add(offset) };
        // SAFETY: as above; no packet is in flight.
        unsafe { std::ptr::write_bytes(start, 0, bytes) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length.
        unsafe { libc::munmap(self.start.cast(), self.length) };
    }
}
