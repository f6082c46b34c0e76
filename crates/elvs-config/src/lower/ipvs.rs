//! `ipvs`: the settings of `net.ipv4.vs`.
//!
//! **Invariant:** every value that is lowered is one that the kernel takes; what is not in effect was noted by the checker.
//!
//! Called by the lowering of the root statements.

use std::collections::HashMap;

use elvs_model::{Setting, Settings};

use crate::diagnostic::{Code, Reporter};
use crate::sources::Extent;
use crate::text::quote;
use crate::tree::Item;

/// Every `ipvs` block.
#[derive(Default)]
pub(super) struct IpvsSettings {
    settings: Settings,
    places: HashMap<Setting, Extent>,
}

impl IpvsSettings {
    pub fn read(&mut self, item: &Item, reporter: &mut Reporter) {
        for item in item.items() {
            if reporter.is_full() {
                break;
            }
            // Other words and missing values were reported by the checker.
            if let Ok(setting) = item.keyword.text.parse::<Setting>()
                && !item.arguments.is_empty()
            {
                self.setting(setting, item, reporter);
            }
        }
    }

    fn setting(&mut self, setting: Setting, item: &Item, reporter: &mut Reporter) {
        let words: Vec<&str> = item.arguments.iter().map(|word| word.text.as_str()).collect();
        let text = words.join(" ");
        let set = setting.value(&text).and_then(|value| self.settings.set(setting, value));
        if set.is_err() {
            let help = format!("write {}", setting.range());
            let at = item.arguments.first().map_or_else(
                || item.head(),
                |word| {
                    item.arguments.last().map_or(word.extent, |last| word.extent.to(last.extent))
                },
            );
            let message = format!("{} is no value of `{setting}`", quote(&text));
            reporter.error(Code::OutOfRange, at, message).help(help);
            return;
        }
        if let Some(first) = self.places.insert(setting, item.head()) {
            let message = format!("`{setting}` is given again; this one counts");
            reporter
                .warning(Code::Duplicate, item.head(), message)
                .help("remove the one that is not meant")
                .related(first, "first given here");
        }
    }

    pub fn finish(self) -> Settings {
        self.settings
    }
}
