//! Opening the data plane: adopts what a former daemon left forwarding, or loads it anew.
//!
//! **Invariant:** only one process has an instance open; a load that fails leaves nothing behind.
//!
//! Called by the daemon at its start.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::maps::{Map, MapData, ProgramArray};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::SchedClassifierLink;
use aya::programs::xdp::XdpLink;
use aya::programs::{ProgramInfo, SchedClassifier, Xdp};
use elvs_common::{DEFAULT_LOCALS, Settings, map_names, program_names};
use elvs_model::Table;

use super::clock::{self, ClockError};
use super::link::errno_of;
use super::object::{LoadError, load_director, pin_program, program, program_info};
use super::paths::{Paths, egress_pin, link_pin, pinned_programs};
use super::permission::{PermissionError, check_capabilities, ensure_bpf_fs};
use super::pins;
use super::tables::{Attached, DataPlane, Kernel, TableError, settings_for, wide_for};
use crate::backend::AttachedMode;
use crate::director::{Director, InstallError};
use crate::plane::{LoadDifference, Plane};
use crate::state::{State, StateError, Store};

/// Directory of all pins.
pub const PIN_ROOT: &str = "/sys/fs/bpf/elvs";
/// Directory of all state files.
pub const STATE_ROOT: &str = "/run/elvs";
/// Connections that a table is made for if nothing else is said.
pub const DEFAULT_CONNECTIONS: u32 = 1 << 20;
/// Most connections of a table: 16 GiB.
const MOST_CONNECTIONS: u32 = 1 << 28;

/// What to open.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of the instance: letters, digits, `-` and `_`.
    pub instance: String,
    /// Directory of all pins.
    pub pin_root: PathBuf,
    /// Directory of all state files.
    pub state_dir: PathBuf,
    /// Connections that the flow table is made for, if it has to be made.
    pub connections: u32,
    /// Connections of IPv6 and full NAT that the wide flow table is made for; `None` = a quarter of `connections`.
    pub wide_connections: Option<u32>,
    /// Local addresses of full NAT that there is room for.
    pub locals: u32,
}

impl Options {
    /// An instance in the usual places with the usual size.
    pub fn new(instance: impl Into<String>) -> Self {
        Self {
            instance: instance.into(),
            pin_root: PIN_ROOT.into(),
            state_dir: STATE_ROOT.into(),
            connections: DEFAULT_CONNECTIONS,
            wide_connections: None,
            locals: DEFAULT_LOCALS,
        }
    }

    fn wide(&self) -> u32 {
        self.wide_connections.unwrap_or_else(|| wide_for(self.connections))
    }
}

/// An open data plane.
#[derive(Debug)]
pub struct Opened {
    /// The data plane. Its table is the one that was in force, empty for a new one.
    pub plane: DataPlane,
    /// Whether tables and links of a former daemon were adopted.
    pub adopted: bool,
    /// What the operator should know.
    pub warnings: Vec<Warning>,
}

/// Something that went otherwise than the configuration says, or that an operator should know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Warning {
    /// The BPF file system was not mounted.
    #[error(
        "mounted the BPF file system at /sys/fs/bpf; in a mount namespace of its own (`ip netns exec`), forwarding ends with the daemon's last process"
    )]
    Mounted,
    /// The adopted table has another size.
    #[error(
        "the {what} in force was made for {existing} connections and stays; {configured} take effect after a stop and a start"
    )]
    Capacity {
        /// Which table.
        what: &'static str,
        /// As configured.
        configured: u32,
        /// As it is.
        existing: u32,
    },
    /// The adopted tables have less room for local addresses of full NAT.
    #[error(
        "the tables in force have room for {existing} local addresses and stay; {configured} take effect after a stop and a start"
    )]
    LocalAddresses {
        /// As configured.
        configured: u32,
        /// As it is.
        existing: u32,
    },
    /// Pins of another layout were removed.
    #[error("removed the pins {directory} of another version of ELVS; its connections are lost")]
    OtherLayout {
        /// Name of their directory.
        directory: String,
    },
    /// Pins could not be adopted.
    #[error(
        "the pinned tables could not be adopted and were replaced, connections are lost: {reason}"
    )]
    Replaced {
        /// Why.
        reason: String,
    },
    /// The pinned program stays.
    #[error("the program in force stays, since this version's could not be loaded: {reason}")]
    ProgramKept {
        /// Why.
        reason: String,
    },
    /// The program in force was another one.
    #[error("replaced the program in force by this version's; connections are kept")]
    ProgramReplaced,
    /// An interface is gone.
    #[error("interface {interface} is gone since the program was attached to it")]
    InterfaceGone {
        /// Its name.
        interface: String,
    },
    /// Load words and connections disagree.
    #[error("destination index {} records {:?}, its connections add up to {:?}", .0.index, .0.recorded, .0.counted)]
    Load(LoadDifference),
}

/// Why the data plane could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The instance has no usable name.
    #[error("instance name {name:?}: use letters, digits, - and _")]
    Name {
        /// The name.
        name: String,
    },
    /// The table would be too small or too big.
    #[error("data_plane {{ {keyword} {connections} }}: the limits are 1 and {MOST_CONNECTIONS}")]
    Connections {
        /// Which table.
        keyword: &'static str,
        /// What was asked for.
        connections: u32,
    },
    /// A permission or a mount is missing.
    #[error(transparent)]
    Permission(#[from] PermissionError),
    /// Another process has the instance.
    #[error(
        "instance {instance} is in use by process {pid}; stop it first, or choose another instance"
    )]
    Busy {
        /// The instance.
        instance: String,
        /// The process as it wrote itself down.
        pid: String,
    },
    /// A file operation failed.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// The operation.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The state file.
    #[error(transparent)]
    State(#[from] StateError),
    /// The object.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The kernel's clock.
    #[error("{0}")]
    Clock(String),
    /// The tables.
    #[error("table {0}")]
    Table(String),
    /// The first configuration.
    #[error(transparent)]
    Install(#[from] InstallError),
}

impl From<TableError> for OpenError {
    fn from(error: TableError) -> Self {
        Self::Table(error.to_string())
    }
}

impl From<ClockError> for OpenError {
    fn from(error: ClockError) -> Self {
        Self::Clock(error.to_string())
    }
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_path_buf();
    move |source| OpenError::Io { what, path, source }
}

/// Opens an instance's data plane.
///
/// # Errors
///
/// [`OpenError`] names the cause and, where there is one, the cure. Nothing is left behind then that was not there.
pub fn open(options: &Options) -> Result<Opened, OpenError> {
    check(options)?;
    check_capabilities()?;
    let paths = Paths::of(options);
    let store = Store::new(&paths.state)?;
    let lock = lock(&paths.lock, &options.instance)?;
    let mut warnings = Vec::new();
    if ensure_bpf_fs(&paths.root)? {
        warnings.push(Warning::Mounted);
    }
    fs::create_dir_all(&paths.instance).map_err(io_error("create", &paths.instance))?;
    remove_others(&paths, &mut warnings)?;
    let there = paths.pins.exists();
    if there {
        match adoptable(&paths, &store)? {
            Ok(state) => return adopt(options, paths, store, lock, state, warnings),
            Err(reason) => warnings.push(Warning::Replaced { reason }),
        }
        pins::remove_all(&paths.pins).map_err(io_error("remove", &paths.pins))?;
    }
    load(options, &paths).inspect_err(|_| {
        // The load's own error says more than that of clearing up after it.
        drop(pins::remove_all(&paths.loading));
        drop(fs::remove_dir(&paths.instance));
    })?;
    let pins = paths.pins.clone();
    let plane = start(paths, store, lock).inspect_err(|_| drop(pins::remove_all(&pins)))?;
    Ok(Opened { plane, adopted: false, warnings })
}

/// A data plane over tables that were just made, with an empty configuration.
fn start(paths: Paths, store: Store, lock: File) -> Result<DataPlane, OpenError> {
    let pins = paths.pins.clone();
    let backend = Kernel::open(&pins, paths, lock, Attached::default())?;
    let mut plane = Director::new(backend, Some(store));
    plane.install(&Table::new())?;
    Ok(plane)
}

fn check(options: &Options) -> Result<(), OpenError> {
    let name = &options.instance;
    let usable = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if name.is_empty() || !name.bytes().all(usable) {
        return Err(OpenError::Name { name: name.clone() });
    }
    for (keyword, connections) in
        [("connections", options.connections), ("wide_connections", options.wide())]
    {
        if connections == 0 || connections > MOST_CONNECTIONS {
            return Err(OpenError::Connections { keyword, connections });
        }
    }
    Ok(())
}

/// Takes the instance's lock, which ends with the process.
fn lock(path: &Path, instance: &str) -> Result<File, OpenError> {
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(io_error("open", path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid).map_err(io_error("read", path))?;
            let pid = pid.trim().to_owned();
            return Err(OpenError::Busy { instance: instance.to_owned(), pid });
        }
        Err(TryLockError::Error(error)) => return Err(io_error("lock", path)(error)),
    }
    file.set_len(0).map_err(io_error("write", path))?;
    writeln!(file, "{}", std::process::id()).map_err(io_error("write", path))?;
    Ok(file)
}

/// Removes what other layouts and interrupted loads left.
fn remove_others(paths: &Paths, warnings: &mut Vec<Warning>) -> Result<(), OpenError> {
    let names = pins::names(&paths.instance).map_err(io_error("read", &paths.instance))?;
    for name in names {
        let directory = paths.instance.join(&name);
        if directory == paths.pins {
            continue;
        }
        pins::remove_all(&directory).map_err(io_error("remove", &directory))?;
        if directory != paths.loading {
            warnings.push(Warning::OtherLayout { directory: name });
        }
    }
    Ok(())
}

/// The state of pins that can be adopted, or why they cannot.
fn adoptable(paths: &Paths, store: &Store) -> Result<Result<State, String>, OpenError> {
    let missing = pins::missing(&paths.pins).map_err(io_error("read", &paths.pins))?;
    if !missing.is_empty() {
        return Ok(Err(format!("{} lacks {}", paths.pins.display(), missing.join(", "))));
    }
    Ok(match store.load() {
        Ok(Some(state)) => Ok(state),
        Ok(None) => Err(format!("{} has no state file", paths.state.display())),
        Err(error) => Err(error.to_string()),
    })
}

/// Loads programs and tables and pins them.
fn load(options: &Options, paths: &Paths) -> Result<(), OpenError> {
    let rate = clock::rate()?;
    let settings = settings_for(
        options.connections,
        options.wide(),
        options.locals.max(1),
        rate,
        clock::tick_shift(rate),
        random_seed()?,
    );
    let loading = &paths.loading;
    fs::create_dir(loading).map_err(io_error("create", loading))?;
    let mut object = load_director(loading, &settings)?;
    for name in pinned_programs() {
        pin_program(&mut object, name, &loading.join(name))?;
    }
    set_stages(&mut object, loading)?;
    Kernel::write_settings_at(loading, &settings)?;
    fs::rename(loading, &paths.pins).map_err(io_error("move pins to", &paths.pins))
}

/// Puts the director's further stages into the program map.
fn set_stages(object: &mut Ebpf, directory: &Path) -> Result<(), OpenError> {
    let path = directory.join(map_names::PROGRAMS);
    let refused = |error: &dyn std::fmt::Display| {
        OpenError::Table(format!("{}: {error}", map_names::PROGRAMS))
    };
    let data = MapData::from_pin(&path).map_err(|error| refused(&error))?;
    let map = Map::from_map_data(data).map_err(|error| refused(&error))?;
    let mut stages = ProgramArray::try_from(map).map_err(|error| refused(&error))?;
    for (index, name) in program_names::STAGES {
        let fd = program(object, name)?.fd().map_err(|error| refused(&error))?;
        stages.set(index, fd, 0).map_err(|error| refused(&error))?;
    }
    Ok(())
}

fn random_seed() -> Result<[u64; 2], OpenError> {
    let path = Path::new("/dev/urandom");
    let mut bytes = [0; 16];
    let mut file = File::open(path).map_err(io_error("open", path))?;
    file.read_exact(&mut bytes).map_err(io_error("read", path))?;
    let [a, b, c, d, e, f, g, h, rest @ ..] = bytes;
    Ok([u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u64::from_ne_bytes(rest)])
}

/// Takes over what a former daemon left.
fn adopt(
    options: &Options,
    paths: Paths,
    store: Store,
    lock: File,
    state: State,
    mut warnings: Vec<Warning>,
) -> Result<Opened, OpenError> {
    let pins = paths.pins.clone();
    let settings = Kernel::settings_at(&pins)?;
    for (what, configured, existing) in [
        ("flow table", options.connections, settings.connections),
        ("wide flow table", options.wide(), settings.wide_connections),
    ] {
        if configured != existing {
            warnings.push(Warning::Capacity { what, configured, existing });
        }
    }
    if options.locals > settings.locals {
        let (configured, existing) = (options.locals, settings.locals);
        warnings.push(Warning::LocalAddresses { configured, existing });
    }
    match replace_programs(&pins, &settings) {
        Ok(true) => warnings.push(Warning::ProgramReplaced),
        Ok(false) => {}
        Err(error) => warnings.push(Warning::ProgramKept { reason: error.to_string() }),
    }
    let links = pins::links(&pins).map_err(io_error("read", &pins))?;
    let mut attached = links.clone();
    for (interface, mode) in links {
        if !follow_link(&pins, &interface, mode)? {
            attached.remove(&interface);
            warnings.push(Warning::InterfaceGone { interface });
        }
    }
    let mut egress = pins::egress_links(&pins).map_err(io_error("read", &pins))?;
    for interface in egress.clone() {
        if !follow_egress(&pins, &interface)? {
            egress.remove(&interface);
            warnings.push(Warning::InterfaceGone { interface });
        }
    }
    let backend = Kernel::open(&pins, paths, lock, Attached { links: attached, egress })?;
    let table = state.table.clone();
    let mut plane = Director::adopt(backend, Some(store), state);
    plane.install(&table)?;
    warnings.extend(plane.recount().into_iter().map(Warning::Load));
    Ok(Opened { plane, adopted: true, warnings })
}

/// Puts this version's programs in place of the pinned ones, if they differ; whether they did.
fn replace_programs(pins: &Path, settings: &Settings) -> Result<bool, OpenError> {
    let mut object = load_director(pins, settings)?;
    let mut differ = false;
    for name in pinned_programs() {
        let refused = |error: &dyn std::fmt::Display| OpenError::Table(format!("{name}: {error}"));
        let new = program_info(&mut object, name)?;
        let old = ProgramInfo::from_pin(pins.join(name)).map_err(|error| refused(&error))?;
        differ |= new.tag() != old.tag();
    }
    if !differ {
        return Ok(false);
    }
    set_stages(&mut object, pins)?;
    for name in pinned_programs() {
        let fresh = pins.join(format!("new-{name}"));
        if fresh.exists() {
            fs::remove_file(&fresh).map_err(io_error("remove", &fresh))?;
        }
        pin_program(&mut object, name, &fresh)?;
        let path = pins.join(name);
        fs::rename(&fresh, &path).map_err(io_error("replace", &path))?;
    }
    Ok(true)
}

/// Lets a pinned link run the pinned program; false if its interface is gone, and then the pin is removed.
fn follow_link(pins: &Path, interface: &str, mode: AttachedMode) -> Result<bool, OpenError> {
    let path = link_pin(pins, mode, interface);
    let refused =
        |error: &dyn std::fmt::Display| OpenError::Table(format!("link of {interface}: {error}"));
    let director = pins.join(program_names::DIRECTOR);
    let mut program = Xdp::from_pin(director, aya_obj::programs::XdpAttachType::Interface)
        .map_err(|error| refused(&error))?;
    let link = FdLink::from(PinnedLink::from_pin(&path).map_err(|error| refused(&error))?);
    let link = XdpLink::try_from(link).map_err(|error| refused(&error))?;
    match program.attach_to_link(link) {
        Ok(_) => Ok(true),
        Err(error) if errno_of(&error) == Some(libc::ENOLINK) => {
            fs::remove_file(&path).map_err(io_error("remove", &path))?;
            Ok(false)
        }
        Err(error) => Err(refused(&error)),
    }
}

/// As [`follow_link`], of the link of the program that looks at what an interface sends.
fn follow_egress(pins: &Path, interface: &str) -> Result<bool, OpenError> {
    let path = egress_pin(pins, interface);
    let refused =
        |error: &dyn std::fmt::Display| OpenError::Table(format!("egress of {interface}: {error}"));
    let mut program = SchedClassifier::from_pin(pins.join(program_names::EGRESS))
        .map_err(|error| refused(&error))?;
    let link = FdLink::from(PinnedLink::from_pin(&path).map_err(|error| refused(&error))?);
    let link = SchedClassifierLink::try_from(link).map_err(|error| refused(&error))?;
    match program.attach_to_link(link) {
        Ok(_) => Ok(true),
        Err(error) if errno_of(&error) == Some(libc::ENOLINK) => {
            fs::remove_file(&path).map_err(io_error("remove", &path))?;
            Ok(false)
        }
        Err(error) => Err(refused(&error)),
    }
}
