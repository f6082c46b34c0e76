//! Programs, users, FIFOs, and what checks read from files.
//!
//! **Invariant:** nothing is run, and nothing is opened that could make whoever asks wait.
//!
//! Part of [`super`].

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use elvs_model::Desired;
use elvs_model::health::{CheckKind, Fifo, Notifications, Script};
use elvs_probe::script::{Identity, examine};
use elvs_probe::{ProbeSettings, Prober};

use super::{Findings, Kind, Place, checks};

/// Says what is not there or cannot be used.
pub(super) fn judge(desired: &Desired, findings: &mut Findings) {
    let settings = &desired.health.notifications;
    if let Some(user) = &settings.script_user
        && let Err(error) = Identity::of_daemon(Some(user))
    {
        findings.add(Kind::Program, error.to_string(), &Place::Setting("script_user"));
    }
    // Many places name the same program.
    let mut known: HashMap<&Script, Option<String>> = HashMap::new();
    for (script, place) in scripts(desired) {
        let fault = known.entry(script).or_insert_with(|| fault_of(script, settings));
        if let Some(text) = fault {
            findings.add(Kind::Program, text.clone(), &place);
        }
    }
    let prober = Prober::new(ProbeSettings::from(&desired.health));
    for (service, server, kind) in checks(desired) {
        for text in prober.faults(kind) {
            let place = Place::InServer(kind.name(), server.key.address, &service.service.key);
            findings.add(Kind::Check, text, &place);
        }
    }
    for (fifo, keyword) in fifos(settings) {
        let user = fifo.user.as_ref().map(|user| Identity::of_daemon(Some(user)));
        if let Some(Err(error)) = user {
            findings.add(Kind::Program, error.to_string(), &Place::Setting(keyword));
        }
        if let Some(text) = fifo_fault(&fifo.path) {
            findings.add(Kind::Fifo, text, &Place::Setting(keyword));
        }
    }
}

fn fault_of(script: &Script, settings: &Notifications) -> Option<String> {
    let examined = examine(script, settings.script_user.as_ref(), settings.script_security);
    examined.err().map(|error| error.to_string())
}

/// Every program that the configuration names.
fn scripts(desired: &Desired) -> impl Iterator<Item = (&Script, Place<'_>)> {
    let settings = &desired.health.notifications;
    let own = [("startup_script", &settings.startup), ("shutdown_script", &settings.shutdown)];
    let own = own.into_iter().filter_map(|(keyword, script)| {
        let (script, _limit) = script.as_ref()?;
        Some((script, Place::Setting(keyword)))
    });
    let readers = fifos(settings)
        .filter_map(|(fifo, keyword)| Some((fifo.script.as_ref()?, Place::Setting(keyword))));
    let services = desired.services.iter().flat_map(|service| {
        let (key, health) = (&service.service.key, &service.health);
        let of_service = [("quorum_up", &health.quorum_up), ("quorum_down", &health.quorum_down)];
        let of_service = of_service.into_iter().filter_map(move |(keyword, script)| {
            Some((script.as_ref()?, Place::InService(keyword, key)))
        });
        let of_servers = health.servers.iter().flat_map(move |server| {
            let both = [("notify_up", &server.notify_up), ("notify_down", &server.notify_down)];
            both.into_iter().filter_map(move |(keyword, script)| {
                Some((script.as_ref()?, Place::InServer(keyword, server.key.address, key)))
            })
        });
        of_service.chain(of_servers)
    });
    let checks = checks(desired).filter_map(|(service, server, kind)| {
        let CheckKind::Misc(check) = kind else { return None };
        let place = Place::InServer(kind.name(), server.key.address, &service.service.key);
        Some((&check.script, place))
    });
    own.chain(readers).chain(services).chain(checks)
}

fn fifos(settings: &Notifications) -> impl Iterator<Item = (&Fifo, &'static str)> {
    let both = [(&settings.lvs_fifo, "lvs_notify_fifo"), (&settings.fifo, "notify_fifo")];
    both.into_iter().filter_map(|(fifo, keyword)| Some((fifo.as_ref()?, keyword)))
}

/// Why a FIFO can neither be opened nor made.
fn fifo_fault(path: &Path) -> Option<String> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_fifo() => return None,
        Ok(_) => {
            let path = path.display();
            return Some(format!("{path} is no FIFO: remove it, or name another path"));
        }
        // Of what may not be looked at nothing is known.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return None,
        Err(_absent) => {}
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty())?;
    let missing = || format!("directory {} does not exist", directory.display());
    (!directory.is_dir()).then(missing)
}
