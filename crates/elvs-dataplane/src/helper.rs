//! Programs for the other end of the wire: decapsulation on tunnelled real servers, and the program that lets a veth
//! peer take redirected frames.
//!
//! **Invariant:** the program runs for as long as its guard lives or its pin is there, and on no other interface.
//!
//! Called by `elvs realserver`, `elvs demo` and the lab.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aya::programs::Xdp;
use aya::programs::links::FdLink;
use elvs_common::program_names;
use elvs_model::XdpMode;

use crate::backend::{AttachError, AttachedMode};
use crate::kernel::{LoadError, PermissionError, prepare_pins, remove_pinned_link};
use crate::kernel::{attach_program, escape, load_helper, unescape};

/// A program for a real server's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Helper {
    /// Takes the outer headers off packets that came by IP in IP, GRE or GUE, the latter to UDP port [`GUE_PORT`] unless
    /// [`attach_decap`] names another.
    Decap,
    /// Passes every frame.
    Pass,
}

impl Helper {
    const fn program(self) -> &'static str {
        match self {
            Self::Decap => program_names::DECAP,
            Self::Pass => program_names::PASS,
        }
    }

    /// Start of its pins' names.
    const fn prefix(self) -> &'static str {
        match self {
            Self::Decap => "decap-",
            Self::Pass => "pass-",
        }
    }
}

/// Why a helper could not be attached, pinned or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HelperError {
    /// It could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// It could not be attached.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// A permission or a mount is missing.
    #[error(transparent)]
    Permission(#[from] PermissionError),
    /// The pin.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// The operation.
        what: &'static str,
        /// The pin.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Default UDP port of GUE: what the documentation of ipvsadm and keepalived names.
pub const GUE_PORT: u16 = 6080;

/// A program on an interface; detached when dropped.
#[derive(Debug)]
pub struct Guard {
    link: FdLink,
    mode: AttachedMode,
    interface: String,
    helper: Helper,
}

/// Attaches a helper to an interface: native if the driver can, else generic.
///
/// # Errors
///
/// [`HelperError`] names the interface and the cause.
pub fn attach(helper: Helper, interface: &str, mode: XdpMode) -> Result<Guard, HelperError> {
    attach_with(helper, interface, mode, GUE_PORT)
}

/// As [`attach`] of [`Helper::Decap`], for GUE to a UDP port.
///
/// # Errors
///
/// [`HelperError`] names the interface and the cause.
pub fn attach_decap(interface: &str, mode: XdpMode, gue_port: u16) -> Result<Guard, HelperError> {
    attach_with(Helper::Decap, interface, mode, gue_port)
}

fn attach_with(
    helper: Helper,
    interface: &str,
    mode: XdpMode,
    gue_port: u16,
) -> Result<Guard, HelperError> {
    let mut object = load_helper(helper.program(), gue_port)?;
    let missing = || LoadError::Missing(helper.program());
    let program = object.program_mut(helper.program()).ok_or_else(missing)?;
    let program: &mut Xdp = program.try_into().map_err(|_error| missing())?;
    let attachment = attach_program(program, interface, mode)?;
    Ok(Guard {
        link: attachment.link,
        mode: attachment.mode,
        interface: interface.to_owned(),
        helper,
    })
}

impl Guard {
    /// How it is attached.
    pub const fn mode(&self) -> AttachedMode {
        self.mode
    }

    /// Keeps the program on the interface beyond the life of this process; see [`remove_pinned`].
    ///
    /// # Errors
    ///
    /// [`HelperError`] names the pin; the program is then detached.
    pub fn pin(self, root: &Path) -> Result<AttachedMode, HelperError> {
        let Self { link, mode, interface, helper } = self;
        prepare_pins(root)?;
        let path = pin_path(root, helper, &interface);
        let io_error = |what, source| HelperError::Io { what, path: path.clone(), source };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|error| io_error("make the directory of", error))?;
        }
        link.pin(&path).map_err(|error| io_error("pin", io::Error::other(error)))?;
        Ok(mode)
    }
}

/// Takes a pinned helper off its interface; false if there is none.
///
/// # Errors
///
/// [`HelperError::Io`] names the pin.
pub fn remove_pinned(root: &Path, helper: Helper, interface: &str) -> Result<bool, HelperError> {
    let path = pin_path(root, helper, interface);
    if !path.exists() {
        return Ok(false);
    }
    remove_pinned_link(&path).map_err(|source| HelperError::Io { what: "remove", path, source })?;
    Ok(true)
}

/// Interfaces with a pinned helper.
///
/// # Errors
///
/// [`HelperError::Io`] names the directory.
pub fn pinned(root: &Path, helper: Helper) -> Result<Vec<String>, HelperError> {
    let path = directory(root);
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(HelperError::Io { what: "read", path, source }),
    };
    let mut interfaces = Vec::new();
    for entry in entries {
        let entry =
            entry.map_err(|source| HelperError::Io { what: "read", path: path.clone(), source })?;
        let name = entry.file_name();
        let name = name.to_str().and_then(|name| name.strip_prefix(helper.prefix()));
        interfaces.extend(name.and_then(unescape));
    }
    interfaces.sort_unstable();
    Ok(interfaces)
}

fn directory(root: &Path) -> PathBuf {
    root.join("realserver")
}

fn pin_path(root: &Path, helper: Helper, interface: &str) -> PathBuf {
    directory(root).join(format!("{}{}", helper.prefix(), escape(interface)))
}
