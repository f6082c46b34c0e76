//! Who a program runs as.
//!
//! **Invariant:** a program runs with the user, group and supplementary groups of its user, or not at all.
//!
//! Called by the driver of `MISC_CHECK`; looked up once for each user and kept.

use std::ffi::CString;
use std::io;

use elvs_model::health::ScriptUser;
use nix::unistd::{Gid, Group, Uid, User, getgrouplist, setgid, setgroups, setuid};
use thiserror::Error;
use tokio::process::Command;

/// User, group and supplementary groups of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
    /// Whether the daemon is somebody else, and root, who can become anybody.
    change: bool,
}

/// Why a program has no identity.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum IdentityError {
    /// Not in the system's list.
    #[error("there is no {what} {name}")]
    Unknown { what: &'static str, name: String },
    /// The list could not be read.
    #[error("{what} {name} could not be looked up: {source}")]
    Lookup { what: &'static str, name: String, source: nix::Error },
    /// Only root may become somebody else.
    #[error("running as user {0} needs a daemon that runs as root")]
    NotRoot(String),
}

impl Identity {
    /// The identity of `user`, else the one that keepalived takes: `keepalived_script`, else root.
    ///
    /// # Errors
    /// There is no such user or group, or the daemon may not become it.
    pub(crate) fn new(user: Option<&ScriptUser>) -> Result<Self, IdentityError> {
        let Some(wanted) = user else {
            return match lookup(DEFAULT) {
                Ok(user) if Uid::effective().is_root() => Self::of(&user, None),
                _ if Uid::effective().is_root() => Self::of(&lookup("root")?, None),
                _ => Ok(Self::own()),
            };
        };
        let user = lookup(&wanted.user)?;
        Self::of(&user, wanted.group.as_deref())
    }

    /// Whether it is the superuser.
    pub(crate) const fn is_root(&self) -> bool {
        self.uid.is_root()
    }

    /// Makes a command run as this identity.
    pub(crate) fn assume(&self, command: &mut Command) {
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

    fn own() -> Self {
        Self { uid: Uid::effective(), gid: Gid::effective(), groups: Vec::new(), change: false }
    }

    fn of(user: &User, group: Option<&str>) -> Result<Self, IdentityError> {
        let gid = group.map_or(Ok(user.gid), group_id)?;
        if !Uid::effective().is_root() {
            let own = Self::own();
            let same = own.uid == user.uid && own.gid == gid;
            return if same { Ok(own) } else { Err(IdentityError::NotRoot(user.name.clone())) };
        }
        let failed =
            |source| IdentityError::Lookup { what: "user", name: user.name.clone(), source };
        let name = CString::new(user.name.as_str()).map_err(|_nul| failed(nix::Error::EINVAL))?;
        let groups = getgrouplist(&name, gid).map_err(failed)?;
        Ok(Self { uid: user.uid, gid, groups, change: true })
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
