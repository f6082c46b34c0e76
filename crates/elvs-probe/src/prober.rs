//! One run of any check: who drives it, and what all runs share.
//!
//! **Invariant:** runs do not know of each other; what they share is read only or a cache.
//!
//! Called by the daemon.

use elvs_model::health::{Check, CheckKind, Finding, HealthSettings, ScriptUser};

use crate::tcp;

/// What runs of checks need to know of the director's settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeSettings {
    /// `script_user`: who runs the program of a `MISC_CHECK` that names nobody.
    pub script_user: Option<ScriptUser>,
    /// `enable_script_security`: no program runs as root whose path others than root may write to.
    pub script_security: bool,
}

impl From<&HealthSettings> for ProbeSettings {
    fn from(settings: &HealthSettings) -> Self {
        Self {
            script_user: settings.notifications.script_user.clone(),
            script_security: settings.notifications.script_security,
        }
    }
}

/// Runs checks; made anew when the settings change, because files of keys and certificates are then read again.
#[derive(Debug)]
pub struct Prober {
    settings: ProbeSettings,
}

impl Prober {
    /// A prober with these settings. Reads nothing yet.
    pub fn new(settings: ProbeSettings) -> Self {
        Self { settings }
    }

    /// Runs a check once. Needs a tokio runtime with I/O and time; a run that is dropped closes its socket and kills
    /// its program.
    pub async fn run(&self, check: &Check) -> Finding {
        match &check.kind {
            CheckKind::Tcp(tcp) => tcp::run(tcp).await,
            other => Finding::failed(format!("{} has no driver", other.name())),
        }
    }
}
