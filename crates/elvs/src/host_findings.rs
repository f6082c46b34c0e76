//! What a configuration asks for and this host does not have: a real server by direct routing behind a gateway, a program
//! that cannot be run, a virtual address on no interface.
//!
//! **Invariant:** nothing is changed and nothing run; each finding is said once with the first place it concerns, and of
//! each kind no more than a screen takes.
//!
//! Called by `elvs check`, and by the daemon when it starts and reloads.

mod facts;
mod files;
mod found;
mod network;

use std::fmt;
use std::net::IpAddr;

use elvs_model::health::{CheckKind, ServerHealth};
use elvs_model::{Desired, DesiredService, MarkRule, ServiceKey};
use elvs_net::Netlink;

pub(crate) use self::facts::Facts;
pub(crate) use self::found::{Findings, Kind};

/// What the host lacks on which this runs, in words. Needs no root, and takes for good what only root may look at.
pub(crate) fn of_this(desired: &Desired) -> Vec<String> {
    let looked = || -> anyhow::Result<Findings> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let facts = runtime.block_on(async { Facts::ask(&Netlink::new()?, desired).await })?;
        Ok(judge(desired, &facts))
    };
    match looked() {
        Ok(findings) => findings.lines(),
        Err(error) => vec![format!("this host cannot be looked at: {error:#}")],
    }
}

/// What a host of these facts lacks. Looks at files, which may take a moment.
pub(crate) fn judge(desired: &Desired, facts: &Facts) -> Findings {
    let mut findings = Findings::default();
    network::judge(desired, facts, &mut findings);
    files::judge(desired, &mut findings);
    findings
}

/// Where in the configuration something stands.
#[derive(Clone, Copy, Debug)]
enum Place<'a> {
    /// A keyword or block outside of services.
    Setting(&'static str),
    /// A `bfd_instance`.
    Bfd(&'a str),
    /// A rule of a `mark` block.
    Mark(&'a MarkRule),
    /// A service.
    Service(&'a ServiceKey),
    /// A keyword of a service.
    InService(&'static str, &'a ServiceKey),
    /// A keyword of a real server.
    InServer(&'static str, IpAddr, &'a ServiceKey),
    /// A keyword of a check of a real server.
    InCheck(&'static str, &'static str, IpAddr, &'a ServiceKey),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting(name) => f.write_str(name),
            Self::Bfd(name) => write!(f, "bfd_instance {name}"),
            Self::Mark(rule) => write!(f, "mark rule {rule}"),
            Self::Service(key) => key.fmt(f),
            Self::InService(keyword, key) => write!(f, "{keyword} of {key}"),
            Self::InServer(keyword, server, key) => {
                write!(f, "{keyword} of real server {server} in {key}")
            }
            Self::InCheck(keyword, check, server, key) => {
                write!(f, "{keyword} of {check} of real server {server} in {key}")
            }
        }
    }
}

/// Every check of a real server, with its service.
fn checks(desired: &Desired) -> impl Iterator<Item = (&DesiredService, &ServerHealth, &CheckKind)> {
    desired.services.iter().flat_map(|service| {
        service.health.servers.iter().flat_map(move |server| {
            server.checks.iter().map(move |check| (service, server, &check.kind))
        })
    })
}

#[cfg(test)]
mod tests;
