//! One run of a program of the configuration.
//!
//! **Invariant:** no shell sees the words; the program runs in a process group of its own, as the user it is meant to
//! run as, and the whole group ends when its time is over.
//!
//! Called by the notifier.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use elvs_model::health::{Notifications, Script, ScriptUser};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Gid, Group, Pid, Uid, User};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// User that scripts run as if there is one and no other is named (keepalived.conf(5), `script_user`).
const DEFAULT_USER: &str = "keepalived_script";

/// Why a program was not run, or did not do well.
#[derive(Debug, thiserror::Error)]
pub(super) enum ScriptError {
    /// The program is not where it should be.
    #[error("cannot find {program}: {source}")]
    Missing {
        /// As it stands in the configuration.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// There is no such user.
    #[error("{program}: there is no user or group {name}")]
    User {
        /// The program.
        program: String,
        /// The name.
        name: String,
    },
    /// `enable_script_security` forbids it.
    #[error(
        "{program} is not run: it would run as root, and others than root may write {}: change that, name a script_user, or leave out enable_script_security",
        path.display()
    )]
    Insecure {
        /// The program.
        program: String,
        /// The file or directory.
        path: PathBuf,
    },
    /// It cannot be started.
    #[error("cannot run {program}: {source}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It failed.
    #[error("{program} {ended}")]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        ended: String,
    },
    /// It took too long.
    #[error("{program} did not end within {seconds} s and was ended")]
    Timeout {
        /// The program.
        program: String,
        /// The limit.
        seconds: u64,
    },
}

/// Runs a program to its end, for at most `limit`.
pub(super) async fn run(
    script: &Script,
    settings: &Notifications,
    limit: Duration,
) -> Result<(), ScriptError> {
    let mut running = Running::start(script, settings)?;
    let program = || script.words.join(" ");
    match timeout(limit, running.wait()).await {
        Ok(Ended::Well) => Ok(()),
        Ok(ended) => Err(ScriptError::Failed { program: program(), ended: ended.to_string() }),
        Err(_) => Err(ScriptError::Timeout { program: program(), seconds: limit.as_secs() }),
    }
}

/// How a program ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// With exit code 0.
    Well,
    /// Otherwise.
    Badly(ExitStatus),
    /// Nobody knows.
    Unknown(io::Error),
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Well => f.write_str("ended"),
            Self::Badly(status) => write!(f, "ended with {status}"),
            Self::Unknown(error) => write!(f, "cannot be waited for: {error}"),
        }
    }
}

/// A program that runs; it and what it started end with this value.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    group: Option<Pid>,
}

impl Running {
    /// Starts a program.
    pub(super) fn start(script: &Script, settings: &Notifications) -> Result<Self, ScriptError> {
        let program = script.words.first().cloned().unwrap_or_default();
        let path = find(&program)?;
        let (uid, gid) = user(&program, script.user.as_ref().or(settings.script_user.as_ref()))?;
        if settings.script_security
            && uid.is_root()
            && let Some(path) = writable_by_others(&path)
        {
            return Err(ScriptError::Insecure { program, path });
        }
        let mut command = Command::new(&path);
        command.args(script.words.iter().skip(1));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.process_group(0).kill_on_drop(true).current_dir("/");
        if !uid.is_root() || gid.as_raw() != 0 {
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
        let child = command.spawn().map_err(|source| ScriptError::Start { program, source })?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        Ok(Self { child, group })
    }

    /// Id of the process.
    pub(super) fn pid(&self) -> i32 {
        self.group.map_or(0, Pid::as_raw)
    }

    /// Asks it and what it started to end.
    pub(super) fn terminate(&self) {
        if let Some(group) = self.group {
            // One that ends by itself meanwhile is what was wanted.
            let _ = killpg(group, Signal::SIGTERM);
        }
    }

    /// Waits for its end; what it left running in the background may go on.
    pub(super) async fn wait(&mut self) -> Ended {
        let ended = self.child.wait().await;
        self.group = None;
        match ended {
            Ok(status) if status.success() => Ended::Well,
            Ok(status) => Ended::Badly(status),
            Err(error) => Ended::Unknown(error),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            // The leader was not waited for, so the number is still the group's.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

/// The program's file: a path as it is, a bare name by `PATH`.
fn find(program: &str) -> Result<PathBuf, ScriptError> {
    let missing = |source| ScriptError::Missing { program: program.to_owned(), source };
    if program.contains('/') {
        return match fs::metadata(program) {
            Ok(_) => Ok(program.into()),
            Err(error) => Err(missing(error)),
        };
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
    let found = std::env::split_paths(&path).map(|directory| directory.join(program));
    let found = { found }.find(|file| file.is_file());
    found.ok_or_else(|| missing(io::Error::from(io::ErrorKind::NotFound)))
}

/// The user and group that a program runs as.
pub(super) fn user(program: &str, wanted: Option<&ScriptUser>) -> Result<(Uid, Gid), ScriptError> {
    let unknown =
        |name: &str| ScriptError::User { program: program.to_owned(), name: name.to_owned() };
    let Some(wanted) = wanted else {
        return Ok(match User::from_name(DEFAULT_USER) {
            Ok(Some(user)) => (user.uid, user.gid),
            Ok(None) | Err(_) => (Uid::from_raw(0), Gid::from_raw(0)),
        });
    };
    let named = match wanted.user.parse() {
        Ok(number) => User::from_uid(Uid::from_raw(number)),
        Err(_) => User::from_name(&wanted.user),
    };
    let found = named.ok().flatten().ok_or_else(|| unknown(&wanted.user))?;
    let Some(group) = &wanted.group else { return Ok((found.uid, found.gid)) };
    let named = match group.parse() {
        Ok(number) => Group::from_gid(Gid::from_raw(number)),
        Err(_) => Group::from_name(group),
    };
    let group = named.ok().flatten().ok_or_else(|| unknown(group))?;
    Ok((found.uid, group.gid))
}

/// The first part of a path, as written and with links followed, that others than root may write.
fn writable_by_others(path: &Path) -> Option<PathBuf> {
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let parts = path.ancestors().chain(real.ancestors());
    let mut parts = parts.filter(|part| !part.as_os_str().is_empty());
    let open = |part: &&Path| {
        let Ok(found) = fs::metadata(part) else { return true };
        let mode = found.mode();
        let owner = found.uid() != 0 && mode & 0o200 != 0;
        let group = found.gid() != 0 && mode & 0o020 != 0;
        // Nobody but its owner replaces a file in a directory with the sticky bit.
        let others = mode & 0o002 != 0 && !(found.is_dir() && mode & 0o1000 != 0);
        owner || group || others
    };
    parts.find(open).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::time::Duration;

    use elvs_model::health::{Notifications, Script, ScriptUser};

    use super::{ScriptError, find, run, user, writable_by_others};

    fn script(words: &[&str]) -> Script {
        Script { words: words.iter().map(|word| (*word).to_owned()).collect(), user: None }
    }

    #[tokio::test]
    async fn a_program_that_fails_or_takes_too_long_is_named() {
        let (settings, limit) = (Notifications::default(), Duration::from_secs(10));
        run(&script(&["true"]), &settings, limit).await.unwrap();
        let failed = run(&script(&["false"]), &settings, limit).await.unwrap_err();
        assert_eq!(failed.to_string(), "false ended with exit status: 1");
        let slow = script(&["sleep", "1000"]);
        let slow = run(&slow, &settings, Duration::from_millis(10)).await.unwrap_err();
        assert!(matches!(slow, ScriptError::Timeout { .. }), "{slow}");
        let missing = run(&script(&["/nonexistent"]), &settings, limit).await.unwrap_err();
        assert!(matches!(missing, ScriptError::Missing { .. }), "{missing}");
    }

    #[test]
    fn users_go_by_name_or_number() {
        let wanted = |user: &str, group: Option<&str>| ScriptUser {
            user: user.to_owned(),
            group: group.map(str::to_owned),
        };
        for (name, group) in [("root", None), ("0", Some("root")), ("root", Some("0"))] {
            let (uid, gid) = user("x", Some(&wanted(name, group))).unwrap();
            assert_eq!((uid.as_raw(), gid.as_raw()), (0, 0), "{name}");
        }
        let error = user("x", Some(&wanted("no-such-user", None))).unwrap_err();
        assert_eq!(error.to_string(), "x: there is no user or group no-such-user");
    }

    #[test]
    fn a_path_that_others_may_write_is_found() {
        let program = find("true").unwrap();
        assert_eq!(writable_by_others(&program), None);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("script");
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(writable_by_others(&file).as_deref(), Some(file.as_path()));
        assert!(writable_by_others(Path::new("/nonexistent/x")).is_some());
    }
}
