//! The programs of a real server behind FULLNAT: loading, attaching, pinning, counting.
//!
//! **Invariant:** the prefixes are in place before the first program runs; programs that answer run before the one
//! that learns, so that nothing learned is left unsaid. Pins are there all or not at all.
//!
//! Called by [`super::run`].

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use aya::maps::lpm_trie::Key;
use aya::maps::{LpmTrie, Map, MapData, PerCpuArray};
use aya::programs::links::FdLink;
use aya::programs::{CgroupAttachMode, CgroupSockAddr, Program, ProgramError};
use aya::{Ebpf, EbpfLoader};
use elvs_common::{TOA_MAX_TRUSTED, ToaCounter, toa_maps, toa_programs};
use elvs_dataplane::PIN_ROOT;
use ipnet::IpNet;

use super::cgroup::Cgroup;

/// The built programs.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../../elvs-dataplane/bpf/toa.bpf.o");

/// The programs in the order in which they are attached.
const PROGRAMS: [&str; 3] = [toa_programs::PEER4, toa_programs::PEER6, toa_programs::LEARN];

/// Programs in the kernel; detached when dropped.
pub(super) struct Attached {
    links: Vec<(&'static str, FdLink)>,
    /// Their counters.
    pub counters: Counters,
}

impl Attached {
    /// Attaches the programs to a control group.
    pub fn attach(group: &Cgroup, trust: &[IpNet]) -> Result<Self> {
        let mut object = EbpfLoader::new()
            .load(OBJECT)
            .map_err(|error| refused("loading the programs", error))?;
        believe(&mut object, trust)?;
        let mut links = Vec::new();
        for name in PROGRAMS {
            let program =
                object.program_mut(name).with_context(|| format!("the object has no {name}"))?;
            let link = attach(program, group).with_context(|| {
                format!("cannot attach {name} to control group {}", group.path.display())
            })?;
            links.push((name, link));
        }
        let counters = object.take_map(toa_maps::COUNTERS).context("the object has no counters")?;
        Ok(Self { links, counters: Counters::of(counters)? })
    }

    /// Keeps the programs attached beyond the life of this process; see [`Pins::remove`].
    pub fn pin(self, pins: &Pins) -> Result<Counters> {
        let Self { links, counters } = self;
        let pinned = pins.make(links, counters).and_then(|()| Counters::pinned(pins));
        if pinned.is_err() {
            // The first error is the one to report; what was pinned goes with the directory.
            let _ = pins.remove();
        }
        pinned
    }
}

fn believe(object: &mut Ebpf, trust: &[IpNet]) -> Result<()> {
    ensure!(
        u32::try_from(trust.len()).is_ok_and(|number| number <= TOA_MAX_TRUSTED),
        "{} prefixes exceed {TOA_MAX_TRUSTED}: join some",
        trust.len()
    );
    let map = object.map_mut(toa_maps::TRUSTED).context("the object has no prefixes")?;
    let mut trusted: LpmTrie<_, [u8; 16], u32> = map.try_into()?;
    for net in trust {
        trusted
            .insert(&key(*net), 1, 0)
            .map_err(|error| refused(&format!("adding prefix {net}"), error))?;
    }
    Ok(())
}

/// A prefix of mapped addresses (RFC 4291 section 2.5.5.2).
fn key(net: IpNet) -> Key<[u8; 16]> {
    let length = u32::from(net.prefix_len());
    match net.network() {
        IpAddr::V4(address) => Key::new(96 + length, address.to_ipv6_mapped().octets()),
        IpAddr::V6(address) => Key::new(length, address.octets()),
    }
}

/// Beside programs that others attached to the same group, and to groups below.
fn attach(program: &mut Program, group: &Cgroup) -> Result<FdLink> {
    // Not `AllowMultiple`: links always do that, and the kernel refuses the flag (kernel/bpf/cgroup.c,
    // cgroup_bpf_link_attach).
    const MODE: CgroupAttachMode = CgroupAttachMode::Single;
    if let Program::SockOps(program) = program {
        program.load().map_err(not_loaded)?;
        let id =
            program.attach(&group.directory, MODE).map_err(|error| refused("attaching", error))?;
        return Ok(program.take_link(id)?.try_into()?);
    }
    let program: &mut CgroupSockAddr = program.try_into()?;
    program.load().map_err(not_loaded)?;
    let id = program.attach(&group.directory, MODE).map_err(|error| refused("attaching", error))?;
    Ok(program.take_link(id)?.try_into()?)
}

/// As [`refused`], without most of the verifier's log.
fn not_loaded(error: ProgramError) -> anyhow::Error {
    const LINES: usize = 4;
    let ProgramError::LoadError { io_error, verifier_log } = error else {
        return refused("loading", error);
    };
    let log = verifier_log.to_string();
    let lines: Vec<&str> = log.lines().collect();
    let last = lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default().join(" | ");
    let what = if last.is_empty() { "loading".to_owned() } else { format!("loading ({last})") };
    refused(&what, io_error)
}

/// The kernel's refusal, with what to do about it.
fn refused(what: &str, error: impl Into<anyhow::Error>) -> anyhow::Error {
    let error = error.into();
    let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    let cure = match io.and_then(io::Error::raw_os_error) {
        Some(libc::EPERM) => {
            "; run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON; or another program \
             holds the control group for itself"
        }
        Some(libc::EINVAL | libc::EOPNOTSUPP) => {
            "; this needs CONFIG_CGROUP_BPF, and is known to work from Linux 6.1 on"
        }
        Some(_) | None => "",
    };
    let text = format!("{error:#}");
    anyhow!("{what}: {text}{cure}")
}

/// Counters of attached programs.
pub(super) struct Counters(PerCpuArray<MapData, u64>);

impl Counters {
    fn of(map: Map) -> Result<Self> {
        Ok(Self(map.try_into()?))
    }

    /// Those of programs that are pinned.
    pub fn pinned(pins: &Pins) -> Result<Self> {
        pins.ensure_present()?;
        let path = pins.directory.join(toa_maps::COUNTERS);
        let data = MapData::from_pin(&path)
            .map_err(|error| refused(&format!("opening {}", path.display()), error))?;
        Self::of(Map::from_map_data(data)?)
    }

    /// All counters, summed over CPUs.
    pub fn read(&self) -> Result<Vec<(ToaCounter, u64)>> {
        let each = ToaCounter::ALL.iter().map(|counter| {
            let values = self
                .0
                .get(&(*counter as u32), 0)
                .with_context(|| format!("cannot read counter {}", counter.name()))?;
            Ok((*counter, values.iter().fold(0, |sum: u64, value| sum.wrapping_add(*value))))
        });
        each.collect()
    }
}

/// Where programs and counters are pinned.
#[derive(Debug)]
pub(super) struct Pins {
    directory: PathBuf,
}

impl Pins {
    /// The place below the root of all pins.
    pub fn standard() -> Self {
        Self { directory: Path::new(PIN_ROOT).join("realserver/toa") }
    }

    /// Refuses if something is pinned.
    pub fn ensure_absent(&self) -> Result<()> {
        ensure!(
            !self.directory.exists(),
            "programs are pinned in {} already: `elvs realserver toa --clean` takes them away",
            self.directory.display()
        );
        Ok(())
    }

    fn ensure_present(&self) -> Result<()> {
        ensure!(
            self.directory.exists(),
            "nothing is pinned in {}: `elvs realserver toa --trust PREFIX --pin` does that",
            self.directory.display()
        );
        Ok(())
    }

    fn make(&self, links: Vec<(&'static str, FdLink)>, counters: Counters) -> Result<()> {
        let place = self.directory.display();
        let hint = "is the BPF file system mounted? `mount -t bpf bpf /sys/fs/bpf`";
        fs::create_dir_all(&self.directory)
            .with_context(|| format!("cannot make {place}; {hint}"))?;
        counters
            .0
            .pin(self.directory.join(toa_maps::COUNTERS))
            .with_context(|| format!("cannot pin the counters in {place}; {hint}"))?;
        for (name, link) in links {
            link.pin(self.directory.join(name))
                .with_context(|| format!("cannot pin {name} in {place}; {hint}"))?;
        }
        Ok(())
    }

    /// Detaches what is pinned.
    pub fn remove(&self) -> Result<()> {
        self.ensure_present()?;
        let gone = |path: &Path, error: io::Error| {
            anyhow::Error::new(error).context(format!("cannot remove {}", path.display()))
        };
        // The one that learns first: whoever is known stays known until the end.
        let names = PROGRAMS.into_iter().rev().chain([toa_maps::COUNTERS]);
        for path in names.map(|name| self.directory.join(name)) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(gone(&path, error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        fs::remove_dir(&self.directory).map_err(|error| gone(&self.directory, error))?;
        if let Some(parent) = self.directory.parent() {
            // It stays if there are pins of other programs of a real server.
            let _ = fs::remove_dir(parent);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::key;

    #[test]
    fn prefixes_of_both_families_are_keys_of_one_tree() {
        let mapped = |last: [u8; 4]| {
            let [a, b, c, d] = last;
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
        };
        let mut documentation = [0; 16];
        documentation[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        let rows = [
            ("192.0.2.1/32", 128, mapped([192, 0, 2, 1])),
            ("192.0.2.0/24", 120, mapped([192, 0, 2, 0])),
            ("0.0.0.0/0", 96, mapped([0; 4])),
            ("2001:db8::/32", 32, documentation),
            ("::/0", 0, [0; 16]),
        ];
        for (text, length, data) in rows {
            let key = key(text.parse().unwrap());
            assert_eq!((key.prefix_len(), key.data()), (length, data), "{text}");
        }
    }
}
