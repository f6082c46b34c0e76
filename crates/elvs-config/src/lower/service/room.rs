//! How much room services take: in the data plane, and in memory while groups are expanded.
//!
//! **Invariant:** what is let through is no more than the data plane has room for, and a short file never grows without bound.
//!
//! Called for each virtual server before its services are made.

use crate::diagnostic::{Code, Reporter};
use crate::lower::{MAX_DESTINATIONS, MAX_SERVICES};
use crate::tree::Item;

/// Most bytes of text that the services of all groups repeat.
const MAX_REPEATED_BYTES: usize = 64 << 20;
/// What a word of a statement takes beyond its text, about.
const WORD_BYTES: usize = 64;

/// Room that is taken.
#[derive(Default)]
pub(super) struct Room {
    services: usize,
    destinations: usize,
    repeated: usize,
    /// There is none left, which was said.
    full: bool,
}

impl Room {
    /// Takes room for a virtual server that stands for `services`, if there is any.
    pub fn take(
        &mut self,
        item: &Item,
        services: usize,
        servers: usize,
        reporter: &mut Reporter,
    ) -> bool {
        if self.full {
            return false;
        }
        self.services = self.services.saturating_add(services);
        let destinations = services.saturating_mul(servers);
        self.destinations = self.destinations.saturating_add(destinations);
        if services > 1 {
            let repeated = size(item).saturating_mul(services);
            self.repeated = self.repeated.saturating_add(repeated);
        }
        let (message, help) = if self.services > MAX_SERVICES {
            (
                format!("there are more than {MAX_SERVICES} virtual services from here on"),
                "join addresses by firewall marks (`mark`, `virtual_server fwmark`), or use several directors",
            )
        } else if self.destinations > MAX_DESTINATIONS {
            (
                format!(
                    "there are more than {MAX_DESTINATIONS} real servers from here on, each counted in every virtual service"
                ),
                "join addresses by firewall marks (`mark`, `virtual_server fwmark`), or use several directors",
            )
        } else if self.repeated > MAX_REPEATED_BYTES {
            (
                format!(
                    "{services} services of a block this long exceed the limit of {MAX_REPEATED_BYTES} bytes"
                ),
                "give the group fewer addresses, or its real servers fewer checks",
            )
        } else {
            return true;
        };
        self.full = true;
        reporter.error(Code::TooLarge, item.head(), message).help(help);
        false
    }
}

/// Text in a block, about; blocks are no deeper than the tree's limit.
fn size(item: &Item) -> usize {
    let words = core::iter::once(&item.keyword).chain(&item.arguments);
    let own: usize = words.map(|word| word.text.len().saturating_add(WORD_BYTES)).sum();
    item.items().iter().map(size).fold(own, usize::saturating_add)
}
