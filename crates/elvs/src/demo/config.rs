//! The keepalived.conf that the demo's director runs with.
//!
//! **Invariant:** it is a complete configuration in keepalived's own words: what the operator would write by hand.
//!
//! Called by the stage.

use std::fmt::Write;

use elvs_net::bed::VIP;

use super::options::{Mode, Settings};

/// The configuration file's text.
pub(super) fn write(settings: &Settings) -> String {
    let plan = settings.plan();
    let scheduler = settings.scheduler.scheduler();
    let method = match settings.mode {
        Mode::Dr => "DR",
        Mode::Nat => "NAT",
        Mode::Tun => "TUN",
    };
    let mut text = format!(
        "virtual_server {VIP} {PORT} {{\n    lvs_sched {scheduler}\n    lvs_method {method}\n    protocol TCP\n"
    );
    for (number, weight) in (1_u8..).zip(&settings.weights) {
        let address = plan.real_server(number);
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n    real_server {address} {PORT} {{\n        weight {weight}\n    }}\n"
        );
    }
    text.push_str("}\n");
    text
}

/// Port of the service and of the real servers.
pub(super) const PORT: u16 = 80;
