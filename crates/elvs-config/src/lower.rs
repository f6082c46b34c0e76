//! The tree to the model: what the statements in effect ask of the director.
//!
//! **Invariant:** a value is either meaningful and lowered, or reported as an error; with an error reported, the result
//! is thrown away by [`crate::read`], so nothing half-meant is ever applied.
//!
//! Called after the checker, which has reported unknown keywords and missing or extra arguments: those are passed over here.

mod global;
mod ipvs;
mod local;
mod mark;
mod method;
mod real_server;
mod service;
mod value;

use elvs_model::Desired;

use crate::capabilities::Capabilities;
use crate::diagnostic::{Code, Reporter};
use crate::sources::Extent;
use crate::tree::Item;

/// Lowers the statements of a whole configuration.
pub(crate) fn lower(
    items: &[Item],
    capabilities: &Capabilities,
    reporter: &mut Reporter,
) -> Desired {
    let mut desired = Desired::default();
    let mut services = service::Services::new(local::Groups::read(items, reporter));
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
            "virtual_server" => services.read(item, capabilities, reporter),
            _ => {}
        }
    }
    let local_places;
    (desired.services, local_places) = services.finish();
    local::compare(&desired.services, &local_places, data_plane.local_addresses(), reporter);
    desired.timeouts = timeouts.finish();
    desired.data_plane = data_plane.finish();
    marks.compare(&desired.services, items, reporter);
    desired.marks = marks.finish();
    desired.settings = settings.finish();
    desired
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

    fn get(&self) -> Option<&T> {
        self.0.as_ref().map(|(value, _)| value)
    }

    fn place(&self) -> Option<Extent> {
        self.0.as_ref().map(|(_, at)| *at)
    }
}

#[cfg(test)]
mod tests;
