//! Programs of the configuration: found, examined, started as their user, ended when their time is over.
//!
//! **Invariant:** no shell sees the words; a program has a process group of its own, of which nothing is left after the
//! time it is given, nor after the value that stands for it was dropped.
//!
//! Called by the driver of `MISC_CHECK` and by the daemon for notify scripts; examined without a run by `elvs check`.

mod identity;
mod security;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use elvs_model::health::{Script, ScriptUser};
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use thiserror::Error;
use tokio::process::{Child, Command};
use tokio::time::timeout;

pub use self::identity::{Identity, IdentityError};
pub use self::security::Insecure;
use crate::words;

/// Why a program was not started.
#[derive(Debug, Error)]
pub enum StartError {
    /// The script has no words.
    #[error("no program is named")]
    Nothing,
    /// Whom it should run as.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// `enable_script_security` forbids it.
    #[error(transparent)]
    Insecure(#[from] Insecure),
    /// It is not there, or the system does not run it.
    #[error("program {program} cannot be run: {}", words::error(.source))]
    Spawn {
        /// The program, as it stands in the configuration.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// Its mode, or that of a directory on the way to it.
    #[error("program {program} cannot be run by user {user}: the mode of {} forbids it", .path.display())]
    Mode {
        /// The program, as it stands in the configuration.
        program: String,
        /// Number of the user.
        user: u32,
        /// What it may not execute or go through.
        path: PathBuf,
    },
}

/// A program that may be run.
#[derive(Debug)]
pub struct Program<'a> {
    /// As it stands in the configuration.
    name: &'a str,
    arguments: &'a [String],
    path: PathBuf,
    identity: &'a Identity,
}

impl<'a> Program<'a> {
    /// Looks for the program of a script: a path is taken as it is, a bare name is looked for in `PATH`.
    ///
    /// With `security` (`enable_script_security`) everything on the way to it is examined if root would run it; this is
    /// done before each run, because modes change while the daemon runs.
    ///
    /// # Errors
    /// It is not there, or may not be run.
    pub fn find(
        script: &'a Script,
        identity: &'a Identity,
        security: bool,
    ) -> Result<Self, StartError> {
        let [name, arguments @ ..] = script.words.as_slice() else {
            return Err(StartError::Nothing);
        };
        let spawn = |source| StartError::Spawn { program: name.clone(), source };
        let path = look_for(name).map_err(spawn)?;
        if security && identity.is_root() {
            security::examine(&path)?;
        }
        // It is started in the root directory.
        let path = std::path::absolute(path).map_err(spawn)?;
        Ok(Self { name, arguments, path, identity })
    }

    /// Starts it, with nothing of the daemon's but its environment.
    ///
    /// # Errors
    /// The system does not run it.
    pub fn start(&self) -> Result<Running, StartError> {
        let mut command = Command::new(&self.path);
        command
            .args(self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // As keepalived: what changes how programs are loaded and words are split is not inherited.
            .env_remove("IFS")
            .env_remove("LD_PRELOAD")
            .env_remove("LD_LIBRARY_PATH")
            .current_dir("/")
            .kill_on_drop(true)
            .process_group(0);
        self.identity.assume(&mut command);
        let child = command.spawn().map_err(|source| self.spawn_error(source))?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        Ok(Running { child, group: pid, pid: pid.map_or(0, Pid::as_raw) })
    }

    /// Whether modes let its user run it. Access control lists are not looked at, so this is a word of warning, not a
    /// reason not to try.
    fn examine_modes(&self) -> Result<(), StartError> {
        let real = self.path.canonicalize().map_err(|source| self.spawn_error(source))?;
        let denied = |path: &&Path| {
            let found = fs::metadata(path);
            let program = *path == real;
            // Of what cannot be looked at nothing is known.
            found.is_ok_and(|found| {
                !self.identity.may_execute(&found) || (program && !found.is_file())
            })
        };
        match real.ancestors().find(denied) {
            None => Ok(()),
            Some(path) => Err(StartError::Mode {
                program: self.name.to_owned(),
                user: self.identity.uid().as_raw(),
                path: path.to_owned(),
            }),
        }
    }

    fn spawn_error(&self, source: io::Error) -> StartError {
        StartError::Spawn { program: self.name.to_owned(), source }
    }
}

/// Says why a script would not run, without running it: as a daemon finds it that runs as root, whoever asks. What the
/// one who asks may not look at is taken for good.
///
/// `default` is the configuration's `script_user`, `security` its `enable_script_security`.
///
/// # Errors
/// The reason.
pub fn examine(
    script: &Script,
    default: Option<&ScriptUser>,
    security: bool,
) -> Result<(), StartError> {
    let identity = Identity::of_daemon(script.user.as_ref().or(default))?;
    let found =
        Program::find(script, &identity, security).and_then(|program| program.examine_modes());
    match found {
        Err(
            StartError::Spawn { source, .. }
            | StartError::Insecure(Insecure::Unknown { source, .. }),
        ) if source.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        other => other,
    }
}

/// A program that runs; it and what it started are killed when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// `None` once the program has ended.
    group: Option<Pid>,
    pid: i32,
}

/// How a program came to its end.
#[derive(Debug)]
pub enum Ended {
    /// By itself.
    ByItself(ExitStatus),
    /// By this signal, because its time was over; with all that it had started.
    ByUs(Signal),
    /// Not even by SIGKILL.
    Never,
}

impl Running {
    /// Number of the process.
    pub const fn pid(&self) -> i32 {
        self.pid
    }

    /// Waits for its end; what it left running in the background may go on.
    ///
    /// # Errors
    /// Nobody knows how it ended.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        self.group = None;
        status
    }

    /// Waits for its end, and ends it after `limit`.
    ///
    /// # Errors
    /// Nobody knows how it ended.
    pub async fn end(mut self, limit: Duration) -> io::Result<Ended> {
        if let Ok(status) = timeout(limit, self.child.wait()).await {
            self.group = None;
            return Ok(Ended::ByItself(status?));
        }
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            self.signal(signal);
            if let Ok(status) = timeout(GRACE, self.child.wait()).await {
                status?;
                // What it has started may live on.
                self.signal(Signal::SIGKILL);
                self.group = None;
                return Ok(Ended::ByUs(signal));
            }
        }
        Ok(Ended::Never)
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // Only an empty group can refuse; then there is nothing left to do.
            let _ = killpg(group, signal);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}

/// The program's file: a path as it is, a bare name by `PATH` as execvp(3) looks for it.
fn look_for(program: &str) -> io::Result<PathBuf> {
    if program.contains('/') {
        fs::metadata(program)?;
        return Ok(program.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    let mut found = std::env::split_paths(&path).map(|directory| directory.join(program));
    found.find(|file| is_program(file)).ok_or_else(|| Errno::ENOENT.into())
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;

    fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Where programs are looked for when the daemon has no `PATH`.
const DEFAULT_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// From SIGTERM to SIGKILL, and from there to giving up; keepalived's.
const GRACE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
