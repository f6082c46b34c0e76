//! What a configuration asks to be watched: how real servers are checked, and what follows when they fail or return.
//!
//! **Invariant:** every value is resolved: what a check inherits from its real server, its virtual server or the
//! defaults is filled in, so two checks that do the same thing are equal (and are then run once).
//!
//! Called by the configuration reader, which builds these types; the health monitor and the drivers of checks read them.

mod check;
mod finding;
mod notify;
mod server;
mod trial;
mod view;

pub use check::{
    AgentCheck, BfdCheck, BfdInstance, Check, CheckKind, DnsCheck, DnsType, FileCheck, HttpCheck,
    HttpVersion, MiscCheck, PathCheck, PingCheck, RegexRule, ReplyPattern, Schedule, SmtpCheck,
    StatusRange, Target, TcpCheck, TlsClient, TrackFile, UdpCheck, UrlCheck,
};
pub use finding::{AgentMode, AgentReply, CheckResult, Finding, WeightChange};
pub use notify::{Fifo, Mail, MailServer, Notifications, Script, ScriptUser};
pub use server::{
    Damping, HealthSettings, OnDrift, Passive, ServerHealth, ServiceGroup, ServiceHealth,
    SorryServer, Watched,
};
pub use trial::Trial;
pub use view::{
    BfdSession, BfdSessions, CheckState, CheckView, Drained, HealthView, MailView, ServerState,
    ServerView, SorryServerView, Transition, WatchedView,
};
