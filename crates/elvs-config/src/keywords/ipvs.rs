//! Keywords of `ipvs`, which keepalived does not have: the settings of `net.ipv4.vs`.
//!
//! **Invariant:** one row for each setting of the model, with its name and what becomes of it there.
//!
//! Part of the table that [`super::KEYWORDS`] joins.

use elvs_model::{Setting, SettingSupport, SettingValue};

use super::{Arguments, Context, Keyword, Support};

const ROOT: &[Context] = &[Context::Root];
const IPVS: &[Context] = &[Context::Ipvs];

/// The block itself.
const BLOCK: Keyword = Keyword::new("ipvs", ROOT)
    .takes(0, 0, "")
    .block(Context::Ipvs)
    .applied()
    .note("keepalived does not have it: the settings of net.ipv4.vs, each by its own name");

/// The rows.
pub(super) fn rows() -> Vec<Keyword> {
    let settings = Setting::all().map(|setting| Keyword {
        arguments: match setting.default_value() {
            SettingValue::Pair(..) => Arguments { min: 2, max: Some(2), usage: "COUNT PERIOD" },
            SettingValue::Number(_) => Arguments { min: 1, max: Some(1), usage: "N" },
            SettingValue::Cpus(_) => Arguments { min: 1, max: Some(1), usage: "CPUS" },
        },
        support: match setting.support() {
            SettingSupport::InEffect => Support::Applied,
            SettingSupport::NotYet => Support::NotYet,
            SettingSupport::NotOnXdp => Support::NoEffect,
        },
        note: match setting.instead() {
            "" => setting.about(),
            instead => instead,
        },
        ..Keyword::new(setting.name(), IPVS)
    });
    core::iter::once(BLOCK).chain(settings).collect()
}
