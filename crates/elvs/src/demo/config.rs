//! The keepalived.conf that the demo's director runs with.
//!
//! **Invariant:** it is a complete configuration in keepalived's own words: what the operator would write by hand.
//!
//! Called by the stage.

use std::fmt::Write;
use std::time::Duration;

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
        let check = if settings.fail.is_some() { CHECK } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n    real_server {address} {PORT} {{\n        weight {weight}\n{check}    }}\n"
        );
    }
    if let Some(sorry) = settings.sorry_server() {
        let _ = write!(text, "\n    sorry_server {} {PORT}\n", plan.real_server(sorry));
    }
    text.push_str("}\n");
    text
}

/// How real servers are watched in a demo of failures.
const CHECK: &str = "        HTTP_GET {
            url {
                path /
                status_code 200
            }
            delay_loop 1
            connect_timeout 1
            retry 1
            delay_before_retry 1
        }
";

/// How long the director may take to see that a real server does not answer any more: the pause before the next check,
/// the one retry after its pause, each try with its time limit, and half a second for the machine.
pub(super) const DETECTION: Duration = Duration::from_millis(1_000 + 1_000 + 1_000 + 1_000 + 500);

/// Port of the service and of the real servers.
pub(super) const PORT: u16 = 80;
