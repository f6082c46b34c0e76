//! What is done at one run of a check.
//!
//! **Invariant:** there is none of a check that does not run: `BFD_CHECK` is told of its session's changes.
//!
//! Part of [`crate::health`].

use std::time::Duration;

use super::check::{
    AgentCheck, Check, CheckKind, DnsCheck, FileCheck, HttpCheck, MiscCheck, PathCheck, PingCheck,
    SmtpCheck, TcpCheck, UdpCheck,
};

/// What is done at one run of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trial {
    /// `TCP_CHECK`.
    Tcp(TcpCheck),
    /// `HTTP_GET` and `SSL_GET`.
    Http(HttpCheck),
    /// `SMTP_CHECK`.
    Smtp(SmtpCheck),
    /// `DNS_CHECK`.
    Dns(DnsCheck),
    /// `MISC_CHECK`.
    Misc {
        /// What is run.
        check: MiscCheck,
        /// After this the program is ended and the run has failed.
        limit: Duration,
    },
    /// `PING_CHECK`.
    Ping(PingCheck),
    /// `UDP_CHECK`.
    Udp(UdpCheck),
    /// `FILE_CHECK`.
    File(FileCheck),
    /// `PATH_CHECK`.
    Path(PathCheck),
    /// `AGENT_CHECK`.
    Agent(AgentCheck),
}

impl Trial {
    /// What a run of this check does; `None` of one that does not run.
    pub fn of(check: &Check) -> Option<Self> {
        Some(match check.kind.clone() {
            CheckKind::Tcp(tcp) => Self::Tcp(tcp),
            CheckKind::Http(http) => Self::Http(http),
            CheckKind::Smtp(smtp) => Self::Smtp(smtp),
            CheckKind::Dns(dns) => Self::Dns(dns),
            CheckKind::Misc(misc) => {
                let limit = misc.timeout.unwrap_or(check.schedule.delay_loop);
                Self::Misc { check: misc, limit }
            }
            CheckKind::Ping(ping) => Self::Ping(ping),
            CheckKind::Udp(udp) => Self::Udp(udp),
            CheckKind::File(file) => Self::File(file),
            CheckKind::Path(path) => Self::Path(path),
            CheckKind::Agent(agent) => Self::Agent(agent),
            CheckKind::Bfd(_) => return None,
        })
    }
}

#[cfg(test)]
mod tests;
