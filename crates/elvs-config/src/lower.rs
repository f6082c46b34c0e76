//! The tree to the model: what the statements in effect ask of the director.
//!
//! **Invariant:** a value is either meaningful and lowered, or reported as an error; with an error reported, the result
//! is thrown away by [`crate::read`], so nothing half-meant is ever applied.
//!
//! Called after the checker, which has reported unknown keywords and missing or extra arguments: those are passed over here.

mod care;
mod checks;
mod global;
mod global_defs;
mod group;
mod ipvs;
mod local;
mod mark;
mod method;
mod real_server;
mod script;
mod service;
mod shared;
mod tally;
mod timing;
mod track;
mod value;
mod vrrp;

use elvs_model::Desired;
use elvs_model::health::HealthSettings;

use self::service::Lowered;
use self::shared::Shared;

use crate::capabilities::Capabilities;
use crate::diagnostic::{Code, Reporter};
use crate::lexer::Word;
use crate::sources::Extent;
use crate::text::quote;
use crate::tree::Item;

/// Most services of a director: room in the data plane's table.
pub(crate) const MAX_SERVICES: usize = 4_096;
/// Most destinations of a director, each counted in every service: room in the data plane's table.
pub(crate) const MAX_DESTINATIONS: usize = 16_384;

/// Lowers the statements of a whole configuration.
pub(crate) fn lower(
    items: &[Item],
    capabilities: &Capabilities,
    reporter: &mut Reporter,
) -> Desired {
    let shared = Shared::read(items, capabilities, reporter);
    let mut services = service::Services::default();
    let mut timeouts = global::TimeoutSettings::default();
    let mut data_plane = global::DataPlane::default();
    let mut marks = mark::Marks::default();
    let mut settings = ipvs::IpvsSettings::default();
    for item in items {
        if reporter.is_full() {
            // Nothing further could be said, and nothing is applied without being said.
            break;
        }
        match item.keyword.text.as_str() {
            "global_defs" => timeouts.read(item, reporter),
            "data_plane" => data_plane.read(item, reporter),
            "ipvs" => settings.read(item, reporter),
            "mark" => marks.read(item, capabilities, reporter),
            "virtual_server" => services.read(item, &shared, reporter),
            _ => {}
        }
    }
    let Lowered { services, local_places, places, alert_at } = services.finish(reporter);
    local::compare(&services, &local_places, data_plane.local_addresses(), reporter);
    marks.compare(&services, &places, reporter);
    vrrp::check_preemption(items, reporter);
    vrrp::check_addresses(items, &services, &places, reporter);
    shared.global.compare_mail(alert_at, reporter);
    Desired {
        services,
        timeouts: timeouts.finish(),
        marks: marks.finish(),
        settings: settings.finish(),
        health: HealthSettings {
            notifications: shared.global.notifications(),
            bfd: shared.sessions,
            on_drift: data_plane.on_drift(),
            flush_at_start: shared.global.flush_at_start(),
            flush_at_stop: shared.global.flush_at_stop(),
        },
        data_plane: data_plane.finish(),
    }
}

/// Reports that a block of this name is there already; `places` are those of the first one and of this one.
fn defined_twice(
    what: &str,
    name: &Word,
    cure: &str,
    [first, at]: [Extent; 2],
    reporter: &mut Reporter,
) {
    let message = format!("{what} {} is defined twice", quote(&name.text));
    reporter.error(Code::Duplicate, at, message).help(cure).related(first, "first defined here");
}

/// A setting that a block has once.
#[derive(Clone, Debug)]
struct Once<T>(Option<(T, Extent)>);

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Once<T> {
    /// Takes the value; as in keepalived the last one counts, and here that is said.
    fn set(&mut self, item: &Item, value: T, reporter: &mut Reporter) {
        let at = item.head();
        if let Some((_, first)) = self.0.replace((value, at)) {
            let message = format!("`{}` is given again; this one counts", item.keyword.text);
            reporter
                .warning(Code::Duplicate, at, message)
                .help("remove the one that is not meant")
                .related(first, "first given here");
        }
    }

    /// Takes the value if it is the first: what keepalived does with scripts and pipes, and here that is said.
    fn keep(&mut self, item: &Item, value: T, reporter: &mut Reporter) {
        let at = item.head();
        let Some((_, first)) = &self.0 else {
            self.0 = Some((value, at));
            return;
        };
        let message = format!("`{}` is given again; the first one counts", item.keyword.text);
        reporter
            .warning(Code::Duplicate, at, message)
            .help("remove the one that is not meant")
            .related(*first, "first given here");
    }

    fn get(&self) -> Option<&T> {
        self.0.as_ref().map(|(value, _)| value)
    }

    fn place(&self) -> Option<Extent> {
        self.0.as_ref().map(|(_, at)| *at)
    }
}

#[cfg(test)]
mod tests;
