//! The program under test with the daemon's own tables, and the wrapper before it.

use std::cell::Cell;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use aya::maps::{Array, Map, MapData, ProgramArray};
use aya::programs::{Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use aya_obj::programs::XdpAttachType;
use elvs_common::{
    Control, Counter, CounterKind, LAYOUT_VERSION, NextHop, TAIL_BUCKETS, TCP, WideAddress,
    program_names,
};
use elvs_dataplane::{Backend, DataPlane, Opened, Options, Plane, Route, open};
use elvs_fastpath::{
    Addresses, Atomic64, Bucket, FlowMemory, LocalEnd, Slot, WideMemory, fill_ring, flow_hash,
    free_ports, home_bucket,
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::packets::{FRAME, Packet};
use crate::profiles::{MOST_FLOWS, Profile};
use crate::services::{LOCALS, OTHER_LOCALS, Setup, director};

/// The wrapper before the program under test.
const WRAPPER: &str = "bench_wrap";
/// The same before a program that does nothing.
const BASE: &str = "bench_base";
/// First client address of the wrapper, host order.
const CLIENTS: u32 = 0x0a40_0000;
/// Interface that test runs say packets come from: the loopback device.
const INGRESS: u32 = 1;
/// Most flows whose buckets are emptied one by one.
const FEW_FLOWS: u64 = 65_536;
/// Ports that have to be free for as many flows, of each local address.
const FEW_PORTS: u64 = 32_768;
/// Words of the wrapper's job: template, number of the next packet, mask, place, bits of the port, whether ends are listed.
const JOB_WORDS: usize = FRAME / 8 + 5;

/// Loaded programs and their maps.
pub struct Tables {
    plane: DataPlane,
    wrapper: Ebpf,
    /// The programs behind the wrappers.
    targets: ProgramArray<MapData>,
    ends: Array<MapData, u64>,
    /// What was in force last.
    setup: Option<Setup>,
    /// Buckets that the flows of a profile are in.
    occupied: Vec<u32>,
    /// Keeps the namespaces that only the wrappers' links refer to.
    _namespaces: Vec<File>,
    place: Place,
}

impl Tables {
    /// Loads the wrappers, and the program under test without services.
    pub fn load(objects: &Path) -> Result<Self> {
        let place = Place::make()?;
        let path = objects.join("bench.bpf.o");
        let object = std::fs::read(&path)
            .with_context(|| format!("{}: build it with `cargo xtask bpf`", path.display()))?;
        let mut wrapper = EbpfLoader::new().load(&object).context("loading bench.bpf.o")?;
        for name in [WRAPPER, BASE, "bench_floor"] {
            program(&mut wrapper, name)?.load().with_context(|| format!("loading {name}"))?;
        }
        let mut targets = ProgramArray::try_from(take(&mut wrapper, "BENCH_PROGS")?)?;
        targets.set(1, program(&mut wrapper, "bench_floor")?.fd()?, 0)?;
        let ends = Array::try_from(take(&mut wrapper, "BENCH_ENDS")?)?;
        let mut namespaces = Vec::new();
        for name in [WRAPPER, BASE] {
            namespaces.push(hold(program(&mut wrapper, name)?)?);
        }
        let plane = place.open(&mut targets)?;
        let (setup, occupied) = (None, Vec::new());
        Ok(Self { plane, wrapper, targets, ends, setup, occupied, _namespaces: namespaces, place })
    }

    /// Puts the services of a profile in force.
    pub fn configure(&mut self, setup: &Setup) -> Result<()> {
        if self.setup.is_some_and(|former| !former.can_precede(setup)) {
            self.plane.teardown()?;
            self.plane = self.place.open(&mut self.targets)?;
        }
        self.setup = Some(*setup);
        for server in setup.servers() {
            let hop = NextHop::new([2, 0, 0, 0, 0, 3], [2, 0, 0, 0, 0, 1], INGRESS);
            let source = director(server.is_ipv6());
            let route = Route {
                hop: Some(hop),
                mtu: 1_500,
                tunnel_source: Some(source),
                ..Route::default()
            };
            self.plane.set_route(server, route);
        }
        self.plane.install(&setup.table()?).context("putting the services in force")?;
        Ok(())
    }

    /// Nanoseconds of one load from the home bucket of one of `flows` connections, in an order that no prefetcher
    /// follows, when each load has to wait for the one before: what a packet cannot be faster than if its bucket is in no
    /// cache.
    pub fn load_time(&self, flows: u64, loads: u64) -> Result<f64> {
        let backend = self.plane.backend();
        let settings = backend.settings();
        let mask = flows - 1;
        let mut homes = Vec::new();
        for number in 0..loads {
            let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) & mask;
            let flow = u32::try_from((mixed ^ mixed >> 9) & mask)?;
            let client = (CLIENTS + (flow >> 10)).to_be();
            let port = u16::try_from(0x4000 + (flow & 1023))?.to_be();
            let hash = flow_hash(client, port, TCP, settings.seed);
            homes.push(home_bucket(hash, settings.buckets));
        }
        let started = Instant::now();
        let mut waited = 0;
        for home in homes {
            let bucket = backend.bucket(home | waited).context("no such bucket")?;
            let [slot, ..] = &bucket.slots;
            waited = u32::try_from(slot.control.load(Ordering::Relaxed))?;
        }
        let elapsed = started.elapsed();
        ensure!(waited == 0, "the flow table is not empty");
        Ok(elapsed.as_secs_f64() * 1e9 / f64::from(u32::try_from(loads)?))
    }

    /// Empties the flow table of a service.
    pub fn clear(&mut self, setup: &Setup) {
        let backend = self.plane.backend();
        if setup.in_wide_table() {
            clear(backend.wide(), 0..u32::MAX);
            self.return_ports();
        } else {
            clear(backend, 0..u32::MAX);
        }
        self.occupied.clear();
    }

    /// Takes the flows of a service out of its flow table before a run that opens them again. Of few flows only the buckets are
    /// touched that they are known to be in, so that caches stay as the packets left them.
    pub fn clear_flows(&mut self, setup: &Setup, flows: u64) {
        if flows > FEW_FLOWS || self.occupied.is_empty() {
            return self.clear(setup);
        }
        let backend = self.plane.backend();
        let places = self.occupied.iter().copied();
        if !setup.in_wide_table() {
            return clear(backend, places);
        }
        clear(backend.wide(), places);
        // Each address is used alike, so one round takes at most half of the ports of each.
        let mut locals = (0..LOCALS).filter_map(|index| backend.wide().local(index));
        if setup.is_full_nat() && locals.any(|local| free_ports(local) < FEW_PORTS) {
            self.return_ports();
        }
    }

    fn return_ports(&self) {
        let wide = self.plane.backend().wide();
        (0..LOCALS).for_each(|index| fill_ring(wide, index));
    }

    /// Notes which buckets a profile's flows are in; how many connections lie there.
    pub fn look_around(&mut self, setup: &Setup) -> u64 {
        let backend = self.plane.backend();
        let (occupied, found) =
            if setup.in_wide_table() { occupied(backend.wide()) } else { occupied(backend) };
        self.occupied = occupied;
        found
    }

    /// Whether the buckets of a profile's flows are still to be noted.
    pub const fn knows_no_place(&self) -> bool {
        self.occupied.is_empty()
    }

    /// Writes down the local ends of a profile's connections by full NAT, in an order that no prefetcher follows.
    pub fn list_ends(&mut self, flows: u64) -> Result<()> {
        let backend = self.plane.backend();
        let wide = backend.wide();
        let mut found = Vec::new();
        for bucket in
            (0..backend.settings().wide_buckets + TAIL_BUCKETS).filter_map(|at| wide.bucket(at))
        {
            for slot in bucket.slots.iter().filter(|slot| is_connection(slot)) {
                let end = LocalEnd(slot.addresses.local_end());
                let local = wide.local(end.index()).context("no such local address")?;
                let address = WideAddress(local.address.each_ref().map(Atomic64::load)).v4();
                found.push(u64::from(address) | u64::from(end.port()) << 32);
            }
        }
        ensure!(u64::try_from(found.len())? == flows, "{} connections, not {flows}", found.len());
        let mask = flows - 1;
        for number in 0..flows {
            let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) & mask;
            let place = usize::try_from((mixed ^ mixed >> 9) & mask)?;
            self.ends.set(u32::try_from(number)?, found[place], 0)?;
        }
        Ok(())
    }

    /// Sets the wrappers' job: packets of so many flows, a power of two, from a number on.
    pub fn job(&mut self, profile: &Profile, packet: Packet, flows: u64, first: u64) -> Result<()> {
        let setup = &profile.setup;
        let mut job = [0_u64; JOB_WORDS];
        for (word, bytes) in job.iter_mut().zip(packet.bytes(setup).as_chunks().0) {
            *word = u64::from_ne_bytes(*bytes);
        }
        let [.., next, mask, place, port_bits, listed] = &mut job;
        *next = first;
        *mask = flows - 1;
        *place = packet.place(setup);
        *port_bits = profile.per_client.ilog2().into();
        *listed = u64::from(packet.is_reply() && setup.is_full_nat());
        let map = self.wrapper.map_mut("BENCH_JOB").context("no job map")?;
        Array::<_, [u64; JOB_WORDS]>::try_from(map)?.set(0, job, 0)?;
        Ok(())
    }

    /// The wrapper before the program under test.
    pub fn wrapper(&self) -> Result<&Xdp> {
        Ok(self.wrapper.program(WRAPPER).context("no wrapper")?.try_into()?)
    }

    /// The wrapper before the program that does nothing.
    pub fn base(&self) -> Result<&Xdp> {
        Ok(self.wrapper.program(BASE).context("no wrapper")?.try_into()?)
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
        Ok(self.plane.counters()?.into_iter().filter(|(_, count)| *count != 0).collect())
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        // The mount namespace is ours: whatever fails here ends with the process.
        self.plane.teardown().ok();
        umount2(self.place.directory.path(), MntFlags::MNT_DETACH).ok();
    }
}

/// Directories of this process alone, and namespaces in which nobody else meets what is done in them.
struct Place {
    /// Instances opened so far.
    opened: Cell<u32>,
    /// A BPF file system of its own.
    directory: tempfile::TempDir,
    state: tempfile::TempDir,
}

impl Place {
    fn make() -> Result<Self> {
        let place = Self {
            opened: Cell::new(0),
            directory: tempfile::tempdir()?,
            state: tempfile::tempdir()?,
        };
        unshare(CloneFlags::CLONE_NEWNS).context("a mount namespace of its own (run as root)")?;
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
            .context("keeping mounts to itself")?;
        mount(Some("bpf"), place.directory.path(), Some("bpf"), MsFlags::empty(), none)
            .context("a BPF file system of its own")?;
        Ok(place)
    }

    /// Opens a new instance, and puts its program behind the wrapper.
    fn open(&self, targets: &mut ProgramArray<MapData>) -> Result<DataPlane> {
        self.opened.set(self.opened.get() + 1);
        let flows = u32::try_from(MOST_FLOWS)?;
        let options = Options {
            instance: self.opened.get().to_string(),
            pin_root: self.directory.path().to_path_buf(),
            state_dir: self.state.path().to_path_buf(),
            connections: flows,
            wide_connections: Some(flows),
            locals: LOCALS + OTHER_LOCALS,
        };
        let Opened { plane, .. } = open(&options).context("opening the data plane")?;
        let pins = options.pin_root.join(&options.instance).join(format!("v{LAYOUT_VERSION}"));
        let director = Xdp::from_pin(pins.join(program_names::DIRECTOR), XdpAttachType::Interface)?;
        targets.set(0, director.fd()?, 0)?;
        Ok(plane)
    }
}

/// Attaches a program to the loopback device of a new network namespace, where no packet comes, and stays there. The host's routes
/// would lead replies out of its interfaces. And each test run of an XDP program that is attached nowhere has the kernel rewrite its
/// dispatcher, twice, and wait until no CPU runs the old one.
fn hold(program: &mut Xdp) -> Result<File> {
    unshare(CloneFlags::CLONE_NEWNET).context("a network namespace of its own")?;
    program.attach_to_if_index(INGRESS, XdpMode::Skb).context("holding a program")?;
    Ok(File::open("/proc/thread-self/ns/net")?)
}

/// Empties those of a table's buckets, up to the first that there is not.
fn clear<M: FlowMemory<Word = AtomicU64>>(memory: &M, buckets: impl Iterator<Item = u32>)
where
    <M::Addresses as Addresses>::Value: Default,
{
    for bucket in buckets.map_while(|index| memory.bucket(index)) {
        for slot in &bucket.slots {
            slot.control.store(0, Ordering::Relaxed);
            slot.addresses.write(Default::default());
            slot.ports_destination.store(0, Ordering::Relaxed);
            slot.aux.store(0, Ordering::Relaxed);
        }
    }
}

/// Indexes of the buckets of a table that anything is in, and how many connections they have.
fn occupied<M: FlowMemory<Word = AtomicU64>>(memory: &M) -> (Vec<u32>, u64) {
    let mut indexes = Vec::new();
    let mut found = 0;
    for (index, bucket) in (0..).map_while(|index| Some((index, memory.bucket(index)?))) {
        let Bucket { slots } = bucket;
        if slots.iter().any(|slot| slot.control.load(Ordering::Relaxed) != 0) {
            indexes.push(index);
        }
        found += slots.iter().map(|slot| u64::from(is_connection(slot))).sum::<u64>();
    }
    (indexes, found)
}

fn is_connection<A>(slot: &Slot<AtomicU64, A>) -> bool {
    let control = Control(slot.control.load(Ordering::Relaxed));
    control.is_live() && !control.is_template()
}

fn program<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    Ok(object.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?)
}

fn take(object: &mut Ebpf, name: &str) -> Result<Map> {
    object.take_map(name).with_context(|| format!("no map {name}"))
}
