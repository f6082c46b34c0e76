//! Drivers of checks: one run of a check against a real server, and what it found.
//!
//! **Invariant:** a run ends within its timeouts, whatever the server does, and never panics on what it sends; a run
//! that is dropped before its end leaves nothing behind, neither a socket nor a process.
//!
//! Called by the daemon, when the health monitor says that a check is due.

mod agent;
pub mod bfd;
mod connect;
mod dns;
mod file;
mod http;
mod lines;
mod misc;
mod path;
mod ping;
mod prober;
mod regex;
pub mod script;
mod smtp;
mod tcp;
mod tls;
mod udp;
mod words;

pub use agent::{AgentFault, AgentLine};
pub use dns::DnsReply;
pub use prober::{ProbeSettings, Prober};
pub use smtp::{SmtpFault, SmtpReply};
