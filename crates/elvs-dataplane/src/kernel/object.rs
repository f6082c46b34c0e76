//! The built object with the kernel's programs, and loading it.
//!
//! **Invariant:** what is loaded is the object this binary was built with; constants of the programs are those in the
//! settings map.
//!
//! Called when tables are opened, and for the programs of real servers.

use std::path::Path;

use aya::programs::{Program, ProgramError, ProgramInfo, Xdp};
use aya::{Ebpf, EbpfError, EbpfLoader};
use elvs_common::{LOCAL_PORTS, Settings, TAIL_BUCKETS, map_names};

/// The object.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../bpf/elvs.bpf.o");

/// Lines of the verifier's log that are shown.
const LOG_LINES: usize = 6;

/// Why the programs could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The object or its maps.
    #[error("loading the XDP object: {0}{hint}", hint = hint_of(.0))]
    Object(#[from] EbpfError),
    /// A program of it.
    #[error("loading program {name}: {reason}")]
    Program {
        /// Its name.
        name: &'static str,
        /// The kernel's words.
        reason: String,
    },
    /// The object does not hold a program.
    #[error("the XDP object has no program {0}: rebuild it with `cargo xtask bpf`")]
    Missing(&'static str),
}

/// What to do about errors whose cause is not in their text.
fn hint_of(error: &EbpfError) -> &'static str {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return match io.raw_os_error() {
                Some(libc::ENOMEM) => " (lower `data_plane { connections N }`)",
                Some(libc::EPERM) => {
                    " (run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON)"
                }
                Some(_) | None => "",
            };
        }
        source = error.source();
    }
    ""
}

fn program_error(name: &'static str, error: &ProgramError) -> LoadError {
    let ProgramError::LoadError { io_error, verifier_log } = error else {
        return LoadError::Program { name, reason: error.to_string() };
    };
    let log = verifier_log.to_string();
    let lines: Vec<&str> = log.lines().collect();
    let tail = lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default();
    let reason = format!("{io_error}; the verifier's last words: {}", tail.join(" | "));
    LoadError::Program { name, reason }
}

/// An XDP program of a loaded object.
pub(super) fn program<'a>(
    object: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut Xdp, LoadError> {
    let program = object.program_mut(name).ok_or(LoadError::Missing(name))?;
    program.try_into().map_err(|error| program_error(name, &error))
}

fn load_program(object: &mut Ebpf, name: &'static str) -> Result<(), LoadError> {
    let program = any_program(object, name)?;
    let loaded = if let Program::SchedClassifier(program) = program {
        program.load()
    } else {
        <&mut Xdp>::try_from(program).and_then(Xdp::load)
    };
    loaded.map_err(|error| program_error(name, &error))
}

fn any_program<'a>(object: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Program, LoadError> {
    object.program_mut(name).ok_or(LoadError::Missing(name))
}

/// Pins a loaded program of any type.
pub(super) fn pin_program(
    object: &mut Ebpf,
    name: &'static str,
    path: &Path,
) -> Result<(), LoadError> {
    let refused =
        |error: &dyn std::fmt::Display| LoadError::Program { name, reason: error.to_string() };
    any_program(object, name)?.pin(path).map_err(|error| refused(&error))
}

/// What the kernel says of a loaded program of any type.
pub(super) fn program_info(
    object: &mut Ebpf,
    name: &'static str,
) -> Result<ProgramInfo, LoadError> {
    any_program(object, name)?.info().map_err(|error| program_error(name, &error))
}

/// Loads one program that uses none of the tables; `gue_port` is for that of a real server.
pub(crate) fn load_helper(name: &'static str, gue_port: u16) -> Result<Ebpf, LoadError> {
    let mut loader = EbpfLoader::new();
    let mut object = loader.override_global("ELVS_GUE_PORT", &gue_port, true).load(OBJECT)?;
    load_program(&mut object, name)?;
    Ok(object)
}

/// Loads the director's programs. Maps that are pinned in `directory` are used; the others are made and pinned there.
pub(super) fn load_director(directory: &Path, settings: &Settings) -> Result<Ebpf, LoadError> {
    let mut loader = EbpfLoader::new();
    loader
        .map_max_entries(map_names::FLOWS, settings.buckets.saturating_add(TAIL_BUCKETS))
        .map_max_entries(map_names::WIDE_FLOWS, settings.wide_buckets.saturating_add(TAIL_BUCKETS))
        .map_max_entries(map_names::LOCALS, settings.locals)
        .map_max_entries(map_names::PORTS, settings.locals.saturating_mul(LOCAL_PORTS))
        .override_global("ELVS_WIDE_BUCKETS", &settings.wide_buckets, true)
        .override_global("ELVS_BUCKETS", &settings.buckets, true)
        .override_global("ELVS_SEED", &settings.seed, true)
        .override_global("ELVS_TICK_SHIFT", &settings.tick_shift, true);
    for name in map_names::ALL {
        loader.map_pin_path(name, directory.join(name));
    }
    let mut object = loader.load(OBJECT)?;
    for name in super::paths::pinned_programs() {
        load_program(&mut object, name)?;
    }
    Ok(object)
}
