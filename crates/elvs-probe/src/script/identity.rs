//! Who a program runs as.
//!
//! **Invariant:** a program runs with the user, group and supplementary groups of its user, or not at all.
//!
//! Part of [`crate::script`]; the driver of `MISC_CHECK` looks each user up once and keeps it.

use std::ffi::CString;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use elvs_model::health::ScriptUser;
use nix::unistd::{Gid, Group, Uid, User, getgrouplist, setgid, setgroups, setuid};
use thiserror::Error;
use tokio::process::Command;

/// User, group and supplementary groups of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
    /// Whether the daemon is somebody else, and root, who can become anybody.
    change: bool,
}

/// Why a program has no identity.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IdentityError {
    /// Not in the system's list.
    #[error("there is no {what} {name}")]
    Unknown {
        /// `user` or `group`.
        what: &'static str,
        /// What it was looked for by.
        name: String,
    },
    /// The list could not be read.
    #[error("{what} {name} could not be looked up: {source}")]
    Lookup {
        /// `user` or `group`.
        what: &'static str,
        /// What it was looked for by.
        name: String,
        /// The system's answer.
        source: nix::Error,
    },
    /// Only root may become somebody else.
    #[error("running as user {0} needs a daemon that runs as root")]
    NotRoot(String),
}

impl Identity {
    /// The identity of `user`, else the one that keepalived takes: `keepalived_script`, else root; a daemon that does not
    /// run as root can only be itself.
    ///
    /// # Errors
    /// There is no such user or group, or the daemon may not become it.
    pub fn new(user: Option<&ScriptUser>) -> Result<Self, IdentityError> {
        if Uid::effective().is_root() {
            return Self::of_daemon(user);
        }
        let own = Self {
            uid: Uid::effective(),
            gid: Gid::effective(),
            groups: Vec::new(),
            change: false,
        };
        let Some(user) = user else { return Ok(own) };
        let wanted = Self::of_daemon(Some(user))?;
        let same = own.uid == wanted.uid && own.gid == wanted.gid;
        if same { Ok(own) } else { Err(IdentityError::NotRoot(user.user.clone())) }
    }

    /// The identity that a daemon gives which runs as root.
    ///
    /// # Errors
    /// There is no such user or group.
    pub fn of_daemon(user: Option<&ScriptUser>) -> Result<Self, IdentityError> {
        let (user, group) = match user {
            Some(wanted) => (lookup(&wanted.user)?, wanted.group.as_deref()),
            None => (lookup(DEFAULT).or_else(|_nobody| lookup("root"))?, None),
        };
        let gid = group.map_or(Ok(user.gid), group_id)?;
        let failed =
            |source| IdentityError::Lookup { what: "user", name: user.name.clone(), source };
        let name = CString::new(user.name.as_str()).map_err(|_nul| failed(nix::Error::EINVAL))?;
        let groups = getgrouplist(&name, gid).map_err(failed)?;
        Ok(Self { uid: user.uid, gid, groups, change: true })
    }

    /// The user.
    pub const fn uid(&self) -> Uid {
        self.uid
    }

    /// The group.
    pub const fn gid(&self) -> Gid {
        self.gid
    }

    /// Whether it is the superuser.
    pub const fn is_root(&self) -> bool {
        self.uid.is_root()
    }

    /// Makes a command run as this identity.
    pub(super) fn assume(&self, command: &mut Command) {
        if !self.change {
            return;
        }
        let Self { uid, gid, groups, .. } = self.clone();
        let become_user = move || {
            setgroups(&groups)?;
            setgid(gid)?;
            setuid(uid)?;
            Ok::<(), io::Error>(())
        };
        // SAFETY: between fork and exec only system calls are made; nothing is allocated, locked or freed.
        unsafe { command.pre_exec(become_user) };
    }

    /// Whether a file's mode lets it run the file, or go through the directory.
    pub(super) fn may_execute(&self, file: &Metadata) -> bool {
        let mode = file.mode();
        let own = |gid: &Gid| gid.as_raw() == file.gid();
        if self.is_root() {
            file.is_dir() || mode & 0o111 != 0
        } else if self.uid.as_raw() == file.uid() {
            mode & 0o100 != 0
        } else if own(&self.gid) || self.groups.iter().any(own) {
            mode & 0o010 != 0
        } else {
            mode & 0o001 != 0
        }
    }
}

/// A user by name or number.
fn lookup(name: &str) -> Result<User, IdentityError> {
    let found = match name.parse() {
        Ok(number) => User::from_uid(Uid::from_raw(number)),
        Err(_not_a_number) => User::from_name(name),
    };
    found
        .map_err(|source| IdentityError::Lookup { what: "user", name: name.to_owned(), source })?
        .ok_or_else(|| IdentityError::Unknown { what: "user", name: name.to_owned() })
}

/// A group by name or number; a number need not be in the list.
fn group_id(name: &str) -> Result<Gid, IdentityError> {
    if let Ok(number) = name.parse() {
        return Ok(Gid::from_raw(number));
    }
    Group::from_name(name)
        .map_err(|source| IdentityError::Lookup { what: "group", name: name.to_owned(), source })?
        .map(|group| group.gid)
        .ok_or_else(|| IdentityError::Unknown { what: "group", name: name.to_owned() })
}

/// The user that keepalived looks for when none is configured.
const DEFAULT: &str = "keepalived_script";
