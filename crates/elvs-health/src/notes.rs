//! What follows a change, in the order in which keepalived does it.
//!
//! **Invariant:** of one change the log line comes first, then the script, then the FIFO, then the mail (keepalived's
//! `do_rs_notifies` and `do_vs_notifies`).
//!
//! Called by [`crate::unit`].

use elvs_model::health::{CheckKind, Script, ServerHealth, ServiceHealth};

use crate::{Effect, LogLevel, LogLine, Notice};

/// Effects of one virtual server, as they come.
#[derive(Debug)]
pub(crate) struct Notes {
    /// Name of the virtual server.
    service: String,
    effects: Vec<Effect>,
}

/// Why a quorum is told of; stands in the mail.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Occasion {
    /// It was gained or lost.
    Change {
        /// It is the first that is told of the virtual server.
        first: bool,
        quorum: u32,
        hysteresis: u32,
        threshold: u64,
        weight: u64,
    },
    /// The daemon stops.
    Stop,
}

impl Notes {
    /// Nothing yet.
    pub(crate) fn new(service: &str) -> Self {
        Self { service: service.to_owned(), effects: Vec::new() }
    }

    /// The effects so far.
    pub(crate) fn into_effects(self) -> Vec<Effect> {
        self.effects
    }

    /// A log line about the virtual server.
    pub(crate) fn log(&mut self, level: LogLevel, message: String) {
        self.line(level, None, None, message);
    }

    /// A log line about a real server.
    pub(crate) fn log_server(&mut self, level: LogLevel, server: &str, message: String) {
        self.line(level, Some(server), None, message);
    }

    /// A log line about a check of a real server.
    pub(crate) fn log_check(
        &mut self,
        level: LogLevel,
        server: &str,
        check: &'static str,
        message: String,
    ) {
        self.line(level, Some(server), Some(check), message);
    }

    /// Tells of a real server.
    pub(crate) fn server(&mut self, name: &str, health: &ServerHealth, up: bool) {
        let script = if up { &health.notify_up } else { &health.notify_down };
        self.script(format!("{name} of {}", self.service), script);
        self.notice(Notice::Fifo(format!("RS {name} {} {}", self.service, word(up))));
    }

    /// Mails of a real server.
    pub(crate) fn server_mail(&mut self, name: &str, up: bool, body: String) {
        let service = &self.service;
        let subject = format!("Realserver {name} of virtual server {service} - {}", word(up));
        self.notice(Notice::Mail { subject, body });
    }

    /// Tells of a quorum.
    pub(crate) fn quorum(&mut self, health: &ServiceHealth, up: bool, occasion: Occasion) {
        let script = if up { &health.quorum_up } else { &health.quorum_down };
        self.script(self.service.clone(), script);
        self.notice(Notice::Fifo(format!("VS {} {}", self.service, word(up))));
        if health.mail {
            let subject = format!("Virtualserver {} - {}", self.service, word(up));
            self.notice(Notice::Mail { subject, body: occasion.body(up) });
        }
    }

    fn script(&mut self, about: String, script: &Option<Script>) {
        if let Some(script) = script.clone() {
            self.notice(Notice::Script { about, script });
        }
    }

    fn notice(&mut self, notice: Notice) {
        self.effects.push(Effect::Notify(notice));
    }

    fn line(
        &mut self,
        level: LogLevel,
        server: Option<&str>,
        check: Option<&'static str>,
        message: String,
    ) {
        let (service, server) = (self.service.clone(), server.map(str::to_owned));
        self.effects.push(Effect::Log(LogLine { level, service, server, check, message }));
    }
}

impl Occasion {
    /// The mail's body, as keepalived writes it.
    fn body(self, up: bool) -> String {
        let Self::Change { first, quorum, hysteresis, threshold, weight } = self else {
            return SHUTTING_DOWN.to_owned();
        };
        let what = match (first, up) {
            (true, true) => "Starting with quorum up",
            (true, false) => "Starting with quorum down",
            (false, true) => "Gained quorum",
            (false, false) => "Lost quorum",
        };
        format!("=> {what} {quorum}+{hysteresis}={threshold} <= {weight} <=")
    }
}

/// Body of mails when the daemon stops.
pub(crate) const SHUTTING_DOWN: &str = "=> Shutting down <=";

/// Body of mails of a real server that is removed from the configuration.
pub(crate) const REMOVING: &str = "=> Removing <=";

/// Body of the mail of a check that changed, as keepalived writes it; `None` = it mails nothing of such checks.
pub(crate) fn check_mail(kind: &CheckKind, up: bool, words: &str) -> Option<String> {
    let verb = if up { "succeed" } else { "failed" };
    let past = if up { "succeeded" } else { "failed" };
    Some(match kind {
        CheckKind::Tcp(_) => format!("=> TCP CHECK {verb} on service <="),
        CheckKind::Udp(_) => format!("=> UDP CHECK {verb} on service <="),
        CheckKind::Ping(_) => format!("=> ICMP CHECK {verb} on service <="),
        CheckKind::Http(_) if up => "=> CHECK succeed on service <=".to_owned(),
        CheckKind::Http(_) => "=> CHECK failed on service : HTTP/SSL request failed <=".to_owned(),
        CheckKind::Smtp(_) if up => "=> CHECK succeed on service <=".to_owned(),
        CheckKind::Smtp(_) => format!("=> CHECK failed on service : {words} <="),
        CheckKind::Dns(_) => format!("=> DNS_CHECK: {verb} on service <="),
        CheckKind::Misc(_) => format!("=> MISC CHECK {past} on service <="),
        CheckKind::Bfd(bfd) => format!("=> BFD CHECK {} {past} on service <=", bfd.instance),
        CheckKind::Path(_) => format!("=> PATH CHECK {past} on service : {words} <="),
        CheckKind::Agent(_) => format!("=> AGENT CHECK {past} on service : {words} <="),
        CheckKind::File(_) => return None,
    })
}

const fn word(up: bool) -> &'static str {
    if up { "UP" } else { "DOWN" }
}
