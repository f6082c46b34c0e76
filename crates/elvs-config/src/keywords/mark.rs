//! Keywords of `mark`, which keepalived does not have.
//!
//! **Invariant:** rows only; what a row means is said in the parent module.
//!
//! Part of the table that [`super::KEYWORDS`] joins.

use super::{Context, Feature, Keyword};

const ROOT: &[Context] = &[Context::Root];
const MARK: &[Context] = &[Context::Mark];

/// The rows.
pub(super) const ROWS: &[Keyword] = &[
    Keyword::new("mark", ROOT).takes(1, 1, "N|none").block(Context::Mark).needs(Feature::Fwmark).note("keepalived does not have it: packets that get firewall mark N, for `virtual_server fwmark N`, or none; the first block that matches counts"),
    Keyword::new("source", MARK).from(1, "PREFIX...").needs(Feature::Fwmark).note("any of these; every source if not given"),
    Keyword::new("destination", MARK).from(1, "PREFIX...").needs(Feature::Fwmark).note("any of these; every destination if not given"),
    Keyword::new("protocol", MARK).from(1, "tcp|udp|sctp|N...").needs(Feature::Fwmark).note("any of these; every protocol if not given"),
    Keyword::new("source_port", MARK).from(1, "PORT|FIRST-LAST...").needs(Feature::Fwmark).note("any of these; needs `protocol`"),
    Keyword::new("destination_port", MARK).from(1, "PORT|FIRST-LAST...").needs(Feature::Fwmark).note("any of these; needs `protocol`"),
    Keyword::new("interface", MARK).from(1, "NAME...").needs(Feature::Fwmark).note("any of these: interfaces that carry the program, below VLANs and bridges"),
];
