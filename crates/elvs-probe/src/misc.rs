//! `MISC_CHECK`: a program ends with 0.
//!
//! **Invariant:** no shell; the program has a process group of its own, of which nothing is left after the time it is
//! given, nor after the run was dropped.
//!
//! Called by [`crate::Prober`].

mod identity;
mod security;

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use elvs_model::health::{CheckResult, Finding, MiscCheck, WeightChange};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use thiserror::Error;
use tokio::process::{Child, Command};
use tokio::time::timeout;

pub(crate) use self::identity::{Identity, IdentityError};
use self::security::Insecure;
use crate::{Prober, words};

/// Runs the check once; `limit` is its time where it has none of its own.
pub(crate) async fn run(prober: &Prober, check: &MiscCheck, limit: Duration) -> Finding {
    let limit = check.timeout.unwrap_or(limit);
    match start(prober, check) {
        Ok((child, group)) => match end(child, group, limit).await {
            Ok(Ended::ByItself(status)) => judge(status, check.dynamic),
            Ok(Ended::ByUs(signal)) => Finding::failed(format!(
                "timed out after {}, ended by {}",
                words::time(limit),
                signal.as_str()
            )),
            Ok(Ended::Never) => Finding::failed(format!(
                "timed out after {} and did not even end by SIGKILL",
                words::time(limit)
            )),
            Err(error) => Finding::failed(format!("program was lost: {}", words::error(&error))),
        },
        Err(error) => Finding::failed(error.to_string()),
    }
}

/// Why a program was not started.
#[derive(Debug, Error)]
enum StartError {
    #[error("no program is named")]
    Nothing,
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Insecure(#[from] Insecure),
    #[error("program {program} cannot be run: {}", words::error(.source))]
    Spawn { program: String, source: io::Error },
}

/// How a program came to its end.
enum Ended {
    ByItself(ExitStatus),
    ByUs(Signal),
    Never,
}

fn start(prober: &Prober, check: &MiscCheck) -> Result<(Child, Group), StartError> {
    let [program, arguments @ ..] = check.script.words.as_slice() else {
        return Err(StartError::Nothing);
    };
    let identity = prober.identity(check.script.user.as_ref())?;
    if prober.settings().script_security && identity.is_root() {
        security::examine(program.as_ref())?;
    }
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // As keepalived: what changes how programs are loaded and words are split is not inherited.
        .env_remove("IFS")
        .env_remove("LD_PRELOAD")
        .env_remove("LD_LIBRARY_PATH")
        .process_group(0);
    identity.assume(&mut command);
    let spawn = |source| StartError::Spawn { program: program.clone(), source };
    let child = command.spawn().map_err(spawn)?;
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    Ok((child, Group(pid)))
}

/// Waits for the program, and ends it when its time is over.
async fn end(mut child: Child, mut group: Group, limit: Duration) -> io::Result<Ended> {
    if let Ok(status) = timeout(limit, child.wait()).await {
        group.0 = None;
        return Ok(Ended::ByItself(status?));
    }
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        group.signal(signal);
        if let Ok(status) = timeout(GRACE, child.wait()).await {
            status?;
            // What it has started may live on.
            group.signal(Signal::SIGKILL);
            group.0 = None;
            return Ok(Ended::ByUs(signal));
        }
    }
    Ok(Ended::Never)
}

/// Judges how a program has ended by itself (keepalived.conf(5), `MISC_CHECK`).
fn judge(status: ExitStatus, dynamic: bool) -> Finding {
    match (status.code().and_then(|code| u32::try_from(code).ok()), status.signal()) {
        (Some(0), _) => Finding::passed("exit code 0"),
        (Some(code @ 2..), _) if dynamic => Finding {
            result: CheckResult::Passed(WeightChange::Set(code - 2)),
            words: format!("exit code {code}, weight {}", code - 2),
        },
        (Some(code), _) => Finding::failed(format!("exit code {code}, wanted 0")),
        (None, Some(number)) => Finding::failed(match Signal::try_from(number) {
            Ok(signal) => format!("killed by {}", signal.as_str()),
            Err(_unknown) => format!("killed by signal {number}"),
        }),
        (None, None) => Finding::failed("ended without a status"),
    }
}

/// The process group of a program, killed when dropped; `None` once the program has ended.
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // Only an empty group can refuse; then there is nothing left to do.
            let _ = killpg(group, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}

/// From SIGTERM to SIGKILL, and from there to giving up; keepalived's.
const GRACE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
