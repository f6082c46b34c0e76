//! The keyword table as a page for operators: `docs/config-compatibility.md`.
//!
//! **Invariant:** the page says what the table says; it is written by no hand.
//!
//! Called by the test that keeps the page fresh.

use std::fmt::Write as _;

use elvs_model::Family;

use crate::capabilities::Capabilities;
use crate::keywords::{Arguments, Body, Context, Feature, KEYWORDS, Keyword, Support};
use crate::lower::{MAX_DESTINATIONS, MAX_SERVICES};

/// The page, in Markdown, for a release with `capabilities`.
pub fn compatibility_page(capabilities: &Capabilities) -> String {
    let mut rows: Vec<(Context, &Keyword)> = KEYWORDS
        .iter()
        .flat_map(|row| row.contexts.iter().map(move |context| (*context, row)))
        .collect();
    rows.sort_by_key(|(context, row)| (*context, row.name));
    let in_effect = rows.iter().filter(|(_, row)| applied(row, capabilities)).count();
    let mut page = format!(
        "# Configuration compatibility\n\n\
         Every keyword of `keepalived.conf` (keepalived 2.2 to 2.4) and of ELVS's own blocks: {} in all, {in_effect} in effect.\n\
         This page is generated from the keyword table of `elvs-config`; do not edit it.\n\n\
         | Support | What happens |\n|---|---|\n\
         | in effect | it does what keepalived does |\n\
         | not yet | it is recognised, listed by `elvs check`, and does nothing in this release |\n\
         | no effect | it is recognised, listed by `elvs check`, and has no meaning for ELVS, for the reason in its note |\n\n\
         A keyword that is in no table is an error, and so is a value that keepalived itself would drop or that can mean nothing; \
         nothing is applied from a file with errors. \
         What keepalived changes without a word (a quorum beyond the weights, a port under DR) is changed alike, with a warning.\n",
        rows.len(),
    );
    page.push_str(&limits(capabilities));
    let mut last = None;
    for (context, row) in rows {
        if last.replace(context) != Some(context) {
            let title = if context == Context::Root { "Top level" } else { context.name() };
            // Writing to a string cannot fail.
            let _ = write!(page, "\n## {title}\n\n| Keyword | Support | Note |\n|---|---|---|\n");
        }
        let note = row.note.replace('|', "\\|");
        let _ = writeln!(page, "| {} | {} | {note} |", form(row), support(row, capabilities));
    }
    page
}

/// What the values of keywords in effect may be in this release.
fn limits(capabilities: &Capabilities) -> String {
    let list = |names: Vec<&str>| names.join(", ");
    let schedulers = list(capabilities.schedulers.iter().map(|s| s.name()).collect());
    let protocols = list(capabilities.protocols.iter().map(|p| p.name()).collect());
    let families = capabilities.families.iter().map(|f| match f {
        Family::Inet => "IPv4",
        Family::Inet6 => "IPv6",
    });
    let families = list(families.collect());
    let tunnels = [("ipip", true), ("gue", capabilities.gue), ("gre", capabilities.gre)];
    let tunnels = list(tunnels.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect());
    let yes = |has: bool| if has { "yes" } else { "no" };
    format!(
        "\n## Values in effect\n\n\
         A service with another value is an error that says what to use instead; \
         a service by firewall mark that is not in effect is left out with a warning.\n\n\
         | What | In this release |\n|---|---|\n\
         | schedulers | {schedulers} |\n| protocols | {protocols} |\n| address families | {families} |\n\
         | forwarding methods | NAT, DR, FNAT (FULLNAT), TUN by {tunnels} |\n\
         | services on every port (port 0) | {} |\n| services by firewall mark | {} |\n\
         | virtual services, those of groups counted one by one | at most {MAX_SERVICES} |\n\
         | real servers, counted in every virtual service | at most {MAX_DESTINATIONS} |\n",
        yes(capabilities.any_port),
        yes(capabilities.features.contains(&Feature::Fwmark)),
    )
}

/// Keyword and arguments as they are written.
fn form(row: &Keyword) -> String {
    let Arguments { usage, .. } = row.arguments;
    let block = if row.body == Body::None { "" } else { " { }" };
    let space = if usage.is_empty() { "" } else { " " };
    format!("`{}{space}{}{block}`", row.name, usage.replace('|', "\\|"))
}

fn support(row: &Keyword, capabilities: &Capabilities) -> &'static str {
    match row.support {
        _ if applied(row, capabilities) => "in effect",
        Support::NoEffect => "no effect",
        Support::Applied | Support::Needs(_) | Support::NotYet => "not yet",
    }
}

fn applied(row: &Keyword, capabilities: &Capabilities) -> bool {
    match row.support {
        Support::Applied => true,
        Support::Needs(feature) => capabilities.features.contains(&feature),
        Support::NotYet | Support::NoEffect => false,
    }
}
