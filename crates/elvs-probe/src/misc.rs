//! `MISC_CHECK`: a program ends with 0.
//!
//! **Invariant:** of the program nothing is left after the time it is given, nor after the run was dropped.
//!
//! Called by [`crate::Prober`].

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use elvs_model::health::{CheckResult, Finding, MiscCheck, WeightChange};
use nix::sys::signal::Signal;

use crate::script::{Ended, Program, Running, StartError};
use crate::{Prober, words};

/// Runs the check once, for no longer than `limit`.
pub(crate) async fn run(prober: &Prober, check: &MiscCheck, limit: Duration) -> Finding {
    match start(prober, check) {
        Ok(running) => match running.end(limit).await {
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

fn start(prober: &Prober, check: &MiscCheck) -> Result<Running, StartError> {
    let identity = prober.identity(check.script.user.as_ref())?;
    Program::find(&check.script, &identity, prober.settings().script_security)?.start()
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

#[cfg(test)]
mod tests;
