//! One run of a program that tells others.
//!
//! **Invariant:** as [`elvs_probe::script`]; a program whose time is over is ended with all that it started.
//!
//! Called by the notifier.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use elvs_model::health::{Notifications, Script};
use elvs_probe::script::{Ended, Identity, Program, Running, StartError};

/// Why a program was not run, or did not do well.
#[derive(Debug, thiserror::Error)]
pub(super) enum ScriptError {
    /// It was not started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It failed.
    #[error("{program} ended with {status}")]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// Nobody knows how it ended.
    #[error("{program} cannot be waited for: {source}")]
    Lost {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
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

/// Starts a program.
pub(super) fn start(script: &Script, settings: &Notifications) -> Result<Running, StartError> {
    let identity = Identity::new(script.user.as_ref().or(settings.script_user.as_ref()))?;
    Program::find(script, &identity, settings.script_security)?.start()
}

/// Runs a program to its end, for at most `limit`.
pub(super) async fn run(
    script: &Script,
    settings: &Notifications,
    limit: Duration,
) -> Result<(), ScriptError> {
    let running = start(script, settings)?;
    let program = || script.words.join(" ");
    match running.end(limit).await {
        Ok(Ended::ByItself(status)) if status.success() => Ok(()),
        Ok(Ended::ByItself(status)) => Err(ScriptError::Failed { program: program(), status }),
        Ok(Ended::ByUs(_) | Ended::Never) => {
            Err(ScriptError::Timeout { program: program(), seconds: limit.as_secs() })
        }
        Err(source) => Err(ScriptError::Lost { program: program(), source }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use elvs_model::health::{Notifications, Script};

    use super::{ScriptError, run};

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
        assert_eq!(
            missing.to_string(),
            "program /nonexistent cannot be run: no such file or directory"
        );
    }
}
