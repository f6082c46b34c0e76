//! The drawing of the topology.
//!
//! **Invariant:** every address in it comes from the bed's plan.
//!
//! Called by the report.

use elvs_net::bed::{CLIENT, DIRECTOR, DIRECTOR_INSIDE, VIP};

use crate::demo::config::PORT;
use crate::demo::options::{Mode, Settings};

/// The topology with its addresses, a line's end included.
pub(super) fn draw(settings: &Settings) -> String {
    match settings.mode {
        Mode::Dr => one_network(
            settings,
            "direct routing: the director changes MAC addresses, real servers answer the client themselves",
        ),
        Mode::Tun => one_network(
            settings,
            "tunnelling: the director wraps packets in IP, real servers unwrap them and answer the client themselves",
        ),
        Mode::Nat => two_networks(settings),
    }
}

fn one_network(settings: &Settings, title: &str) -> String {
    let mut lines = vec![
        format!("  {title}\n"),
        joined(&format!("  client    {CLIENT} "), '┐'),
        beside("", "  br0, 10.0.0.0/24"),
        joined(&format!("  director  {DIRECTOR} "), '┤'),
        beside(&format!("            VIP {VIP}:{PORT}"), ""),
        beside("            elvs run, XDP on eth0", ""),
    ];
    lines.extend(real_servers(settings));
    lines.push("            VIP also on lo of each, arp_ignore=1 arp_announce=2\n".to_owned());
    lines.join("\n")
}

fn two_networks(settings: &Settings) -> String {
    let mut lines = vec![
        "  masquerading: the director changes addresses both ways, so replies come back through it\n".to_owned(),
        joined(&format!("  client    {CLIENT} "), '┐'),
        beside("", "  br0, 10.0.0.0/24"),
        joined(&format!("  director  {DIRECTOR} "), '┘'),
        format!("            VIP {VIP}:{PORT}"),
        "            elvs run, XDP on eth0 and eth1".to_owned(),
        joined(&format!("            {DIRECTOR_INSIDE} "), '┐'),
        beside("", "  br1, 10.1.0.0/24"),
    ];
    lines.extend(real_servers(settings));
    lines.push("            default route of each: the director\n".to_owned());
    lines.join("\n")
}

/// One line for each real server; the last one ends the network.
fn real_servers(settings: &Settings) -> impl Iterator<Item = String> {
    let plan = settings.plan();
    let last = plan.real_servers;
    (1..=last).map(move |number| {
        let name = settings.name(number);
        let address = plan.real_server(number);
        let end = if number == last { '┘' } else { '┤' };
        let weight = settings.weights.get(usize::from(number - 1));
        let what = weight.map_or_else(String::new, |weight| format!("weight {weight} "));
        joined(&format!("  {name:<9} {address}:{PORT} {what}"), end)
    })
}

/// A host, joined to its network.
fn joined(host: &str, joint: char) -> String {
    format!("{host:─<COLUMN$}{joint}")
}

/// Text to the left and right of a network.
fn beside(left: &str, right: &str) -> String {
    format!("{left:<COLUMN$}│{right}")
}

/// Where the networks are drawn; the longest host is 40 characters.
const COLUMN: usize = 44;
