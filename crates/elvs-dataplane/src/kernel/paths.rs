//! Where an instance's pins and files are.
//!
//! **Invariant:** a name in the pin directory says what it is: map and program names as they are, links as
//! `link-<mode>-<interface>`,
//! those of the program that looks at what an interface sends as `egress-<interface>`.
//!
//! Called by the other modules of the kernel backend.

use std::path::{Path, PathBuf};

use elvs_common::{LAYOUT_VERSION, map_names, program_names};

use super::open::Options;
use crate::backend::AttachedMode;

/// Directories of an instance.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    /// Root of all pins; a BPF file system, or to become one.
    pub(super) root: PathBuf,
    /// Pins of the instance, one directory per layout.
    pub(super) instance: PathBuf,
    /// Pins of this layout.
    pub(super) pins: PathBuf,
    /// Pins of a load in progress.
    pub(super) loading: PathBuf,
    /// State directory of the instance.
    pub(super) state: PathBuf,
    /// Lock of the instance.
    pub(super) lock: PathBuf,
}

impl Paths {
    pub(super) fn of(options: &Options) -> Self {
        let instance = options.pin_root.join(&options.instance);
        let state = options.state_dir.join(&options.instance);
        Self {
            root: options.pin_root.clone(),
            pins: instance.join(format!("v{LAYOUT_VERSION}")),
            loading: instance.join("loading"),
            instance,
            lock: state.join("lock"),
            state,
        }
    }
}

/// Programs that are pinned.
pub(super) fn pinned_programs() -> impl Iterator<Item = &'static str> {
    let stages = program_names::STAGES.iter().map(|(_, name)| *name);
    [program_names::DIRECTOR, program_names::CLOCK, program_names::EGRESS].into_iter().chain(stages)
}

/// Names that a complete pin directory has.
pub(super) fn complete_set() -> impl Iterator<Item = &'static str> {
    map_names::ALL.into_iter().chain(pinned_programs())
}

/// Path of the pin of a link.
pub(super) fn link_pin(directory: &Path, mode: AttachedMode, interface: &str) -> PathBuf {
    directory.join(format!("link-{}-{}", mode.name(), escape(interface)))
}

/// Path of the pin of the link by which what an interface sends is looked at.
pub(super) fn egress_pin(directory: &Path, interface: &str) -> PathBuf {
    directory.join(format!("egress-{}", escape(interface)))
}

/// Interface of such a pin, if it is one.
pub(super) fn egress_of(name: &str) -> Option<String> {
    unescape(name.strip_prefix("egress-")?)
}

/// Mode and interface of a pin, if it is that of a link.
pub(super) fn link_of(name: &str) -> Option<(AttachedMode, String)> {
    let rest = name.strip_prefix("link-")?;
    let (mode, interface) = rest.split_once('-')?;
    let modes = [AttachedMode::Native, AttachedMode::Generic];
    let mode = modes.into_iter().find(|known| known.name() == mode)?;
    Some((mode, unescape(interface)?))
}

/// An interface name without what a BPF file system takes in no name (a dot, as in `eth0.100`).
pub(crate) fn escape(interface: &str) -> String {
    let mut name = String::new();
    for byte in interface.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02x}"));
        }
    }
    name
}

/// The interface of an escaped name.
pub(crate) fn unescape(name: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = name.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            let digits = std::str::from_utf8(&digits).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{AttachedMode, link_of, link_pin};

    #[test]
    fn interface_names_survive_the_way_through_a_pin_name() {
        for interface in ["eth0", "eth0.100", "br-lan", "wg_0", "a%b", "p4p1:0", "ü"] {
            for mode in [AttachedMode::Native, AttachedMode::Generic] {
                let path = link_pin(Path::new("/x"), mode, interface);
                let name = path.file_name().unwrap().to_str().unwrap();
                assert!(!name.contains('.'), "{name}");
                assert_eq!(link_of(name), Some((mode, interface.to_owned())));
            }
        }
        for name in ["link-", "link-native", "link-turbo-eth0", "ELVS_FLOWS", "link-native-%zz"] {
            assert_eq!(link_of(name), None, "{name}");
        }
    }
}
