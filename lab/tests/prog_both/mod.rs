//! The real program in the kernel and the decision core on the host, with the same tables.
//!
//! **Invariant:** both get the same tables by the same code and the same frames; every verdict, byte and counter of the two
//! is compared.
//!
//! Used by the tests that run the program by `BPF_PROG_TEST_RUN`.
#![allow(dead_code, reason = "each user takes the part it needs")]

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use aya::TestRunOptions;
use aya::maps::{Array, Map, MapData, PerCpuArray, PerCpuValues};
use aya::programs::{TestRun, Xdp};
use aya::util::nr_cpus;
use aya_obj::programs::XdpAttachType;
use elvs_common::{Counter, LAYOUT_VERSION, NOTES, map_names, program_names};
use elvs_dataplane::{Backend, DataPlane, FakePlane, MemoryFrame, Options, Plane, Route, open};
use elvs_fastpath::{Host, Note, Verdict};
use elvs_model::Table;

/// Interface that test runs come from: the loopback device.
pub const INGRESS: u32 = 1;

/// Both of them.
pub struct Both {
    pub kernel: DataPlane,
    pub host: FakePlane,
    program: Xdp,
    /// Notes of the kernel's programs.
    notes: PerCpuArray<MapData, [u64; NOTES]>,
    pins: PathBuf,
    pin_root: PathBuf,
    _state: tempfile::TempDir,
}

/// What became of a frame.
#[derive(Debug)]
pub struct Ran {
    /// The verdict; of the real program without the interface that a frame is redirected to.
    pub verdict: Verdict,
    /// The frame after it.
    pub frame: Vec<u8>,
    /// What was counted.
    pub counted: Vec<Counter>,
}

impl Both {
    /// Both, for so many connections, without services.
    pub fn new(name: &str, connections: u32) -> Self {
        let state = tempfile::tempdir().unwrap();
        let pin_root = PathBuf::from(format!("/sys/fs/bpf/elvs-lab-{name}"));
        let options = Options {
            instance: format!("lab-{name}-{}", std::process::id()),
            pin_root: pin_root.clone(),
            state_dir: state.path().to_path_buf(),
            connections,
            wide_connections: None,
            locals: 2,
        };
        let kernel = open(&options).unwrap().plane;
        let pins = pin_root.join(&options.instance).join(format!("v{LAYOUT_VERSION}"));
        let pin = pins.join(program_names::DIRECTOR);
        let program = Xdp::from_pin(pin, XdpAttachType::Interface).unwrap();
        let notes = MapData::from_pin(pins.join(map_names::SCRATCH)).unwrap();
        let notes = Map::PerCpuArray(notes).try_into().unwrap();
        let host = FakePlane::for_connections(connections);
        Self { kernel, program, host, notes, pins, pin_root, _state: state }
    }

    /// Where the real program and its tables are pinned.
    pub fn pins(&self) -> &Path {
        &self.pins
    }

    pub fn planes(&mut self) -> [&mut dyn Plane; 2] {
        [&mut self.kernel, &mut self.host]
    }

    pub fn install(&mut self, table: &Table) {
        for plane in self.planes() {
            plane.install(table).unwrap();
        }
    }

    pub fn set_route(&mut self, address: IpAddr, route: Route) {
        for plane in self.planes() {
            plane.set_route(address, route);
        }
    }

    /// Fills both budgets of answers, so that a limit is met by neither.
    pub fn renew_budgets(&mut self) {
        self.set_budgets([0, 0]);
    }

    /// Leaves no answer in either budget. The time they were last filled is yet to come, so that they stay empty.
    pub fn exhaust_budgets(&mut self) {
        const AHEAD: u32 = 1_000;
        let ticks = [self.kernel.backend().now().tick(), self.host.backend().now().tick()];
        self.set_budgets(ticks.map(|tick| u64::from(tick.wrapping_add(AHEAD))));
    }

    fn set_budgets(&mut self, [kernel, host]: [u64; 2]) {
        let mut notes = [0; NOTES];
        for budget in [Note::TooBigBudget, Note::ReportBudget] {
            notes[budget as usize] = kernel;
            self.host.backend().note(budget, host);
        }
        let notes = vec![notes; nr_cpus().unwrap()];
        self.notes.set(0, PerCpuValues::try_from(notes).unwrap(), 0).unwrap();
    }

    /// Leaves every CPU a window of new flows that began so many ticks ago and is full, and in flood mode if it saw some.
    pub fn fill_windows(&mut self, ago: u32, seen: u64) {
        let full = |tick: u32| u64::from(tick.wrapping_sub(ago)) << 32;
        let mut notes = [0; NOTES];
        notes[Note::NewFlows as usize] = full(self.kernel.backend().now().tick());
        notes[Note::Flood as usize] = seen;
        let notes = vec![notes; nr_cpus().unwrap()];
        self.notes.set(0, PerCpuValues::try_from(notes).unwrap(), 0).unwrap();
        let host = self.host.backend();
        host.note(Note::NewFlows, full(host.now().tick()));
        host.note(Note::Flood, seen);
    }

    /// No flow opens any more in flood mode, nor has any lately, or above so many a second.
    pub fn set_flood_threshold(&mut self, flows: u32) {
        self.kernel.set_flood_threshold(flows);
        self.host.set_flood_threshold(flows);
        let word = MapData::from_pin(self.pins.join(map_names::FLOOD)).unwrap();
        let mut word: Array<_, u64> = Map::Array(word).try_into().unwrap();
        word.set(0, 0, 0).unwrap();
        self.host.backend().flood_word().unwrap().store(0, Ordering::SeqCst);
        self.renew_budgets();
    }

    /// Runs a frame through the real program; `metadata` bytes in front of it are somebody else's.
    pub fn run_kernel(&self, frame: &[u8], metadata: usize) -> Ran {
        let before = counts(&self.kernel);
        let mut input = vec![0; metadata];
        input.extend(frame);
        let mut sent = vec![0; 4_096];
        // struct xdp_md: the packet begins behind the metadata.
        let words = [metadata, input.len(), 0, 0, 0, 0];
        let context: Vec<u8> =
            words.iter().flat_map(|word| u32::try_from(*word).unwrap().to_ne_bytes()).collect();
        let mut options = TestRunOptions::new();
        options.data_in = Some(&input);
        options.data_out = Some(&mut sent);
        options.ctx_in = (metadata != 0).then_some(&context);
        let ran = self.program.test_run(options).unwrap();
        sent.truncate(ran.data_size_out as usize);
        sent.drain(..metadata.min(sent.len()));
        let verdict = match ran.return_value {
            1 => Verdict::Drop,
            2 => Verdict::Pass,
            3 => Verdict::Transmit,
            4 => Verdict::Redirect(0),
            other => panic!("XDP action {other}"),
        };
        Ran { verdict, frame: sent, counted: added(&before, &counts(&self.kernel)) }
    }

    /// Runs a frame through the decision core on the host.
    pub fn run_host(&self, frame: MemoryFrame) -> Ran {
        let before = counts(&self.host);
        let mut frame = frame;
        let verdict = self.host.process(&mut frame);
        Ran { verdict, frame: frame.bytes, counted: added(&before, &counts(&self.host)) }
    }
}

impl Drop for Both {
    fn drop(&mut self) {
        self.kernel.teardown().ok();
        std::fs::remove_dir(&self.pin_root).ok();
    }
}

fn counts(plane: &dyn Plane) -> Vec<(Counter, u64)> {
    plane.counters().unwrap()
}

fn added(before: &[(Counter, u64)], after: &[(Counter, u64)]) -> Vec<Counter> {
    let pairs = before.iter().zip(after);
    pairs.flat_map(|((counter, old), (_, new))| (*old..*new).map(|_| *counter)).collect()
}

/// The name of an XDP action.
pub const fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Drop => "XDP_DROP",
        Verdict::Pass => "XDP_PASS",
        Verdict::Transmit => "XDP_TX",
        Verdict::Redirect(_) => "XDP_REDIRECT",
    }
}
