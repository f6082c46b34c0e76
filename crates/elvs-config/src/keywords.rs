//! The keyword table: every word of keepalived's language and of ours, where it may stand, and whether it is in effect.
//!
//! **Invariant:** one row per keyword and meaning; no two rows give one word two meanings in one context. The checker, the
//! hints and `docs/config-compatibility.md` read nothing but this table.
//!
//! Words are those of keepalived 2.2 to 2.4.

mod checkers;
mod global;
mod ipvs;
mod lvs;
mod mark;
mod vrrp;

use std::collections::HashMap;
use std::sync::LazyLock;

/// A block of the language: where a keyword may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Context {
    /// Outside every block.
    Root,
    /// `global_defs`.
    GlobalDefs,
    /// `data_plane`, which keepalived does not have.
    DataPlane,
    /// `ipvs`, which keepalived does not have.
    Ipvs,
    /// `mark`, which keepalived does not have.
    Mark,
    /// `virtual_server`.
    VirtualServer,
    /// `real_server`.
    RealServer,
    /// `TCP_CHECK`.
    TcpCheck,
    /// `HTTP_GET` and `SSL_GET`.
    HttpGet,
    /// `url` of `HTTP_GET` and `SSL_GET`.
    Url,
    /// `SMTP_CHECK`.
    SmtpCheck,
    /// `host` of `SMTP_CHECK`.
    SmtpHost,
    /// `DNS_CHECK`.
    DnsCheck,
    /// `MISC_CHECK`.
    MiscCheck,
    /// `PING_CHECK`.
    PingCheck,
    /// `UDP_CHECK`.
    UdpCheck,
    /// `BFD_CHECK`.
    BfdCheck,
    /// `FILE_CHECK`.
    FileCheck,
    /// `PATH_CHECK`, which keepalived does not have.
    PathCheck,
    /// `AGENT_CHECK`, which keepalived does not have.
    AgentCheck,
    /// `SSL`.
    Ssl,
    /// `vrrp_instance`.
    VrrpInstance,
    /// `authentication` of a `vrrp_instance`.
    Authentication,
    /// `auth_hmac` of a `vrrp_instance`.
    AuthHmac,
    /// `vrrp_sync_group`.
    VrrpSyncGroup,
    /// `vrrp_script`.
    VrrpScript,
    /// `vrrp_track_process`.
    TrackProcess,
    /// `track_file`.
    TrackFile,
    /// `track_group`.
    TrackGroup,
    /// `garp_group`.
    GarpGroup,
    /// `bfd_instance`.
    BfdInstance,
}

impl Context {
    /// Name of the block as it is typed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "(top level)",
            Self::GlobalDefs => "global_defs",
            Self::DataPlane => "data_plane",
            Self::Ipvs => "ipvs",
            Self::Mark => "mark",
            Self::VirtualServer => "virtual_server",
            Self::RealServer => "real_server",
            Self::TcpCheck => "TCP_CHECK",
            Self::HttpGet => "HTTP_GET",
            Self::Url => "url",
            Self::SmtpCheck => "SMTP_CHECK",
            Self::SmtpHost => "host",
            Self::DnsCheck => "DNS_CHECK",
            Self::MiscCheck => "MISC_CHECK",
            Self::PingCheck => "PING_CHECK",
            Self::UdpCheck => "UDP_CHECK",
            Self::BfdCheck => "BFD_CHECK",
            Self::FileCheck => "FILE_CHECK",
            Self::PathCheck => "PATH_CHECK",
            Self::AgentCheck => "AGENT_CHECK",
            Self::Ssl => "SSL",
            Self::VrrpInstance => "vrrp_instance",
            Self::Authentication => "authentication",
            Self::AuthHmac => "auth_hmac",
            Self::VrrpSyncGroup => "vrrp_sync_group",
            Self::VrrpScript => "vrrp_script",
            Self::TrackProcess => "vrrp_track_process",
            Self::TrackFile => "track_file",
            Self::TrackGroup => "track_group",
            Self::GarpGroup => "garp_group",
            Self::BfdInstance => "bfd_instance",
        }
    }

    /// The context in words, after "in" or "belongs".
    pub(crate) fn phrase(self) -> String {
        if self == Self::Root {
            "outside every block".to_owned()
        } else {
            format!("in a `{}` block", self.name())
        }
    }
}

/// How many words follow a keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arguments {
    /// Fewest.
    pub min: usize,
    /// Most; `None` = no limit.
    pub max: Option<usize>,
    /// What they are, for help texts and the documentation.
    pub usage: &'static str,
}

/// Whether a keyword has a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// It has none.
    None,
    /// It has one whose statements are those of the context.
    Block(Context),
    /// It has one whose lines are data, such as addresses or names.
    Lines,
}

/// A feature that a release may have or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Feature {
    /// Client affinity: `persistence_timeout`, `persistence_granularity`.
    Persistence,
    /// Affinity by something other than the address: `persistence_engine`.
    PersistenceEngine,
    /// One-packet scheduling: `ops`.
    OnePacket,
    /// Flags of the schedulers sh and mh.
    SchedulerFlags,
    /// Services by firewall mark: `virtual_server fwmark`, `ip_family`, `mark`.
    Fwmark,
    /// Connection limits of real servers: `uthreshold`, `lthreshold`.
    Thresholds,
}

/// What becomes of a keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// It does what keepalived does.
    Applied,
    /// It is in effect where the release has the feature.
    Needs(Feature),
    /// It is read and checked for form, and not in effect yet.
    NotYet,
    /// It has no meaning for ELVS, which works differently there.
    NoEffect,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Keyword {
    /// The word.
    pub name: &'static str,
    /// Where it may stand.
    pub contexts: &'static [Context],
    /// What follows it.
    pub arguments: Arguments,
    /// Its block.
    pub body: Body,
    /// What becomes of it.
    pub support: Support,
    /// What an operator should know; empty if there is nothing to say.
    pub note: &'static str,
}

/// Every keyword: ours and keepalived's.
pub static KEYWORDS: LazyLock<Vec<Keyword>> = LazyLock::new(|| {
    let rows = [global::ROWS, lvs::ROWS, mark::ROWS, checkers::ROWS, vrrp::ROWS, &ipvs::rows()];
    rows.concat()
});

/// Rows by word.
static BY_NAME: LazyLock<HashMap<&'static str, Vec<&'static Keyword>>> = LazyLock::new(|| {
    let mut rows: HashMap<_, Vec<_>> = HashMap::new();
    for row in KEYWORDS.iter() {
        rows.entry(row.name).or_default().push(row);
    }
    rows
});

/// The row of `name` in `context`.
pub(crate) fn lookup(name: &str, context: Context) -> Option<&'static Keyword> {
    named(name).iter().find(|row| row.contexts.contains(&context)).copied()
}

/// Every row of `name`.
pub(crate) fn named(name: &str) -> &'static [&'static Keyword] {
    BY_NAME.get(name).map_or(&[], Vec::as_slice)
}

/// Words that may stand in `context`.
pub(crate) fn words(context: Context) -> impl Iterator<Item = &'static str> {
    KEYWORDS.iter().filter(move |row| row.contexts.contains(&context)).map(|row| row.name)
}

/// Whether `name` is a keyword with a block that only stands outside every block.
pub(crate) fn is_root_block(name: &str) -> bool {
    let rows = named(name);
    !rows.is_empty() && rows.iter().all(|r| r.contexts == [Context::Root] && r.body != Body::None)
}

impl Keyword {
    /// A row without block or note, not in effect yet, with any arguments.
    const fn new(name: &'static str, contexts: &'static [Context]) -> Self {
        Self {
            name,
            contexts,
            arguments: Arguments { min: 0, max: None, usage: "" },
            body: Body::None,
            support: Support::NotYet,
            note: "",
        }
    }

    /// With `min` to `max` arguments.
    const fn takes(self, min: usize, max: usize, usage: &'static str) -> Self {
        Self { arguments: Arguments { min, max: Some(max), usage }, ..self }
    }

    /// With at least `min` arguments.
    const fn from(self, min: usize, usage: &'static str) -> Self {
        Self { arguments: Arguments { min, max: None, usage }, ..self }
    }

    /// With a block of statements.
    const fn block(self, context: Context) -> Self {
        Self { body: Body::Block(context), ..self }
    }

    /// With a block of data.
    const fn lines(self) -> Self {
        Self { body: Body::Lines, ..self }
    }

    /// In effect.
    const fn applied(self) -> Self {
        Self { support: Support::Applied, ..self }
    }

    /// In effect where the release has `feature`.
    const fn needs(self, feature: Feature) -> Self {
        Self { support: Support::Needs(feature), ..self }
    }

    /// Without meaning for ELVS.
    const fn no_effect(self) -> Self {
        Self { support: Support::NoEffect, ..self }
    }

    /// With a note.
    const fn note(self, note: &'static str) -> Self {
        Self { note, ..self }
    }
}

#[cfg(test)]
mod tests;
