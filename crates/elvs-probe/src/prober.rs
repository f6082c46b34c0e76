//! One run of any check: who drives it, and what all runs share.
//!
//! **Invariant:** runs do not know of each other; what they share is read only, a cache or a counter.
//!
//! Called by the daemon.

use std::collections::HashMap;
use std::hash::Hash;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use elvs_model::health::{
    CheckKind, Finding, HealthSettings, RegexRule, ScriptUser, Target, TlsClient, Trial,
};
use rustls::ClientConfig;

use crate::path::{OpenError, PathProber};
use crate::regex::{Regex, RegexError};
use crate::script::{Identity, IdentityError};
use crate::tls::TlsError;
use crate::{agent, dns, file, http, misc, ping, smtp, tcp, tls, udp, words};

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

/// Runs checks; made anew when the configuration is read again, because files of keys and certificates, users and
/// expressions are kept as they were at their first use.
#[derive(Debug, Default)]
pub struct Prober {
    settings: ProbeSettings,
    tls: Cache<TlsClient, Arc<ClientConfig>>,
    regexes: Cache<RegexRule, Arc<Regex>>,
    identities: Cache<Option<ScriptUser>, Identity>,
    nonce: AtomicU64,
    /// From the first `PATH_CHECK` on.
    path: Mutex<Option<Arc<PathProber>>>,
}

impl Prober {
    /// A prober with these settings. Reads and opens nothing yet.
    pub fn new(settings: ProbeSettings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// A prober with other settings that goes on with what this one has opened for checks of paths.
    #[must_use]
    pub fn renew(&self, settings: ProbeSettings) -> Self {
        let path = lock(&self.path).clone();
        Self { settings, path: Mutex::new(path), ..Self::default() }
    }

    /// Runs a check once. Needs a tokio runtime with I/O and time; a run that is dropped closes its socket and kills
    /// its program.
    ///
    /// `PATH_CHECK` is run in the network namespace of the thread that ran the first one.
    pub async fn run(&self, trial: &Trial) -> Finding {
        match trial {
            Trial::Tcp(tcp) => tcp::run(tcp).await,
            // The large ones have a box of their own, so that thousands of the others stay small.
            Trial::Http(http) => Box::pin(http::run(self, http)).await,
            Trial::Smtp(smtp) => Box::pin(smtp::run(smtp)).await,
            Trial::Dns(dns) => Box::pin(dns::run(dns)).await,
            Trial::Misc { check, limit } => Box::pin(misc::run(self, check, *limit)).await,
            Trial::Ping(ping) => ping::run(self, ping).await,
            Trial::Udp(udp) => udp::run(udp).await,
            Trial::File(file) => file::run(file).await,
            Trial::Agent(agent) => agent::run(agent).await,
            Trial::Path(path) => match self.path() {
                Ok(prober) => Box::pin(prober.run(path)).await,
                Err(error) => Finding::failed(error.to_string()),
            },
        }
    }

    /// What keeps a check from passing whatever its server does: expressions that do not compile, files of TLS that
    /// cannot be used. Nothing is run; a file that the caller may not read is taken for good. A program of `MISC_CHECK` is
    /// for [`crate::script::examine`].
    pub fn faults(&self, kind: &CheckKind) -> Vec<String> {
        let CheckKind::Http(http) = kind else { return Vec::new() };
        let rules = http.urls.iter().filter_map(|url| url.regex.as_ref());
        let regexes = rules.filter_map(|rule| {
            let error = self.regex(rule).err()?;
            Some(format!("regex {:?}: {error}", rule.pattern))
        });
        let tls = http.tls.as_ref().and_then(|client| self.tls_fault(client, &http.target));
        regexes.chain(tls).collect()
    }

    fn tls_fault(&self, client: &TlsClient, target: &Target) -> Option<String> {
        let files = [&client.ca, &client.certificate, &client.key].into_iter().flatten();
        for path in files {
            match std::fs::metadata(path) {
                // A pipe would be waited for.
                Ok(found) if !found.is_file() => {
                    return Some(format!("{} is no regular file", path.display()));
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::PermissionDenied => return None,
                Err(error) => return Some(format!("{}: {}", path.display(), words::error(&error))),
            }
            let opened = std::fs::File::open(path);
            if opened.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied) {
                return None;
            }
        }
        let name = tls::name(client, target.address.ip()).map(drop);
        let fault = name.and_then(|()| self.tls(client).map(drop)).err()?;
        Some(fault.to_string())
    }

    pub(crate) const fn settings(&self) -> &ProbeSettings {
        &self.settings
    }

    /// The TLS configuration for these settings.
    pub(crate) fn tls(&self, client: &TlsClient) -> Result<Arc<ClientConfig>, TlsError> {
        self.tls.get(client, || tls::config(client).map(Arc::new))
    }

    /// The compiled expression of a rule.
    pub(crate) fn regex(&self, rule: &RegexRule) -> Result<Arc<Regex>, RegexError> {
        self.regexes.get(rule, || Regex::new(rule).map(Arc::new))
    }

    /// Who a program with this `user` runs as.
    pub(crate) fn identity(&self, user: Option<&ScriptUser>) -> Result<Identity, IdentityError> {
        let user = user.or(self.settings.script_user.as_ref());
        self.identities.get(&user.cloned(), || Identity::new(user))
    }

    /// Who runs checks of paths. It is opened at the first of them, and tried again by the next one if that fails.
    fn path(&self) -> Result<Arc<PathProber>, OpenError> {
        let mut path = lock(&self.path);
        if let Some(prober) = &*path {
            return Ok(prober.clone());
        }
        let prober = Arc::new(PathProber::open()?);
        *path = Some(prober.clone());
        Ok(prober)
    }

    /// A number that no other run of this prober has.
    pub(crate) fn nonce(&self) -> u64 {
        self.nonce.fetch_add(1, Ordering::Relaxed)
    }
}

/// Values made at their first use. As many as the configuration has keys; failures are not kept.
#[derive(Debug)]
struct Cache<K, V>(Mutex<HashMap<K, V>>);

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Cache<K, V> {
    fn get<E>(&self, key: &K, make: impl FnOnce() -> Result<V, E>) -> Result<V, E> {
        let mut values = lock(&self.0);
        if let Some(value) = values.get(key) {
            return Ok(value.clone());
        }
        let value = make()?;
        values.insert(key.clone(), value.clone());
        Ok(value)
    }
}

/// A value is whole or absent, so a panic elsewhere has broken nothing.
fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
