//! `global_defs`: who is told of changes, and by whom scripts are run.
//!
//! **Invariant:** mail is configured when there is a server and a receiver; a pipe's script has its pipe.
//!
//! Called before virtual servers are read, whose alerts depend on it.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use elvs_model::health::{Fifo, Mail, MailServer, Notifications, Script, ScriptUser};

use super::{Once, script, value};
use crate::diagnostic::{Code, Reporter};
use crate::lexer::Word;
use crate::sources::Extent;
use crate::text::quote;
use crate::tree::Item;

/// Port of mail servers.
const SMTP_PORT: u16 = 25;
/// Sender of mail if none is given; keepalived takes the user and the host, which a file does not know.
const SENDER: &str = "elvs@localhost";
/// Longest that mail may take if no time is given, and greatest time: keepalived's.
const MAIL_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_MAIL_TIMEOUT: u32 = 4_294;
/// How long start and stop scripts may take if no time is given, and greatest time: keepalived's.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_SCRIPT_TIMEOUT: u32 = 1000;

/// Statements of every `global_defs` block.
#[derive(Default)]
pub(super) struct GlobalDefs {
    router_id: Once<String>,
    sender: Once<String>,
    server: Once<MailServer>,
    helo_name: Once<String>,
    timeout: Once<Duration>,
    receivers: Vec<String>,
    known_receivers: HashSet<String>,
    /// Where there are receivers first.
    receivers_at: Option<Extent>,
    alert: Once<bool>,
    alert_checker: Once<bool>,
    log_all_failures: Once<bool>,
    script_user: Once<ScriptUser>,
    security: Once<bool>,
    initial: Once<bool>,
    fifos: [Pipe; 2],
    startup: Timed,
    shutdown: Timed,
    flush_at_start: Once<bool>,
    flush_at_stop: Once<bool>,
}

/// A pipe and the program that reads it.
#[derive(Default)]
struct Pipe {
    path: Once<(PathBuf, Option<ScriptUser>)>,
    script: Once<Script>,
}

/// A script and how long it may take.
#[derive(Default)]
struct Timed {
    script: Once<Script>,
    timeout: Once<Duration>,
}

impl GlobalDefs {
    pub fn read(items: &[Item], reporter: &mut Reporter) -> Self {
        let mut defs = Self::default();
        for block in items.iter().filter(|item| item.keyword.text == "global_defs") {
            for item in block.items() {
                if reporter.is_full() {
                    return defs;
                }
                defs.statement(item, reporter);
            }
        }
        defs.compare(reporter);
        defs
    }

    fn statement(&mut self, item: &Item, reporter: &mut Reporter) {
        let keyword = item.keyword.text.as_str();
        match keyword {
            "smtp_alert"
            | "smtp_alert_checker"
            | "checker_log_all_failures"
            | "rs_init_notifies"
            | "enable_script_security"
            | "lvs_flush"
            | "lvs_flush_on_stop"
            | "lvs_flush_onstop" => {
                self.switch(item, reporter);
            }
            "notify_fifo" | "lvs_notify_fifo" | "notify_fifo_script" | "lvs_notify_fifo_script" => {
                self.pipe(item, reporter);
            }
            "startup_script"
            | "shutdown_script"
            | "startup_script_timeout"
            | "shutdown_script_timeout" => self.timed(item, reporter),
            "notification_email" => self.receivers(item, reporter),
            _ => {
                if let Some(word) = item.arguments.first() {
                    self.value(item, word, reporter);
                }
            }
        }
    }

    fn switch(&mut self, item: &Item, reporter: &mut Reporter) {
        let keyword = item.keyword.text.as_str();
        let stop = matches!(keyword, "lvs_flush_on_stop" | "lvs_flush_onstop");
        let on = match item.arguments.first() {
            // Whether real servers go before their service or with it is the kernel's matter.
            Some(word) if stop && word.text == "VS" => Some(true),
            Some(word) if stop => value::name("kind of flush", word, &[("VS", true)], reporter),
            // It takes no word: the checker has reported one.
            _ if keyword == "lvs_flush" => Some(true),
            _ => value::switch(item, reporter),
        };
        let Some(on) = on else { return };
        let set = match keyword {
            "smtp_alert" => &mut self.alert,
            "smtp_alert_checker" => &mut self.alert_checker,
            "checker_log_all_failures" => &mut self.log_all_failures,
            "rs_init_notifies" => &mut self.initial,
            "enable_script_security" => &mut self.security,
            "lvs_flush" => &mut self.flush_at_start,
            _ => &mut self.flush_at_stop,
        };
        set.set(item, on, reporter);
    }

    fn pipe(&mut self, item: &Item, reporter: &mut Reporter) {
        let keyword = item.keyword.text.as_str();
        let [all, lvs] = &mut self.fifos;
        let pipe = if keyword.starts_with("lvs_") { lvs } else { all };
        if keyword.ends_with("_script") {
            if let Some(script) = script::with_user(item, reporter) {
                pipe.script.keep(item, script, reporter);
            }
        } else if let Some((path, rest)) = item.arguments.split_first() {
            let given = (PathBuf::from(&path.text), script::user(rest));
            pipe.path.keep(item, given, reporter);
        }
    }

    fn timed(&mut self, item: &Item, reporter: &mut Reporter) {
        let keyword = item.keyword.text.as_str();
        let start = keyword.starts_with("startup");
        let timed = if start { &mut self.startup } else { &mut self.shutdown };
        match (keyword.ends_with("_timeout"), item.arguments.first()) {
            (true, Some(word)) => {
                let seconds = value::number(keyword, word, 1, MAX_SCRIPT_TIMEOUT, reporter);
                if let Some(seconds) = seconds {
                    timed.timeout.set(item, Duration::from_secs(seconds.into()), reporter);
                }
            }
            (false, Some(_)) => {
                if let Some(script) = script::with_user(item, reporter) {
                    timed.script.keep(item, script, reporter);
                }
            }
            (_, None) => {}
        }
    }

    fn value(&mut self, item: &Item, word: &Word, reporter: &mut Reporter) {
        match item.keyword.text.as_str() {
            "router_id" => self.router_id.set(item, word.text.clone(), reporter),
            "smtp_helo_name" => self.helo_name.set(item, word.text.clone(), reporter),
            "script_user" => {
                if let Some(user) = script::user(&item.arguments) {
                    self.script_user.set(item, user, reporter);
                }
            }
            "notification_email_from" => {
                if let Some(address) = mailbox(item.arguments.iter(), reporter) {
                    self.sender.set(item, address, reporter);
                }
            }
            "smtp_server" => {
                if let Some(server) = mail_server(item, word, reporter) {
                    self.server.set(item, server, reporter);
                }
            }
            keyword @ "smtp_connect_timeout" => {
                let seconds = value::number(keyword, word, 0, MAX_MAIL_TIMEOUT, reporter);
                if let Some(seconds) = seconds {
                    self.mail_timeout(item, seconds, reporter);
                }
            }
            _ => {}
        }
    }

    fn mail_timeout(&mut self, item: &Item, seconds: u32, reporter: &mut Reporter) {
        if seconds == 0 {
            reporter
                .warning(Code::ValueReplaced, item.head(), "mail needs time: 1 second is used")
                .help("write `smtp_connect_timeout 30`; keepalived takes 1 for 0 too");
        }
        self.timeout.set(item, Duration::from_secs(seconds.max(1).into()), reporter);
    }

    /// `notification_email`: each line a receiver with a name, or bare receivers.
    fn receivers(&mut self, item: &Item, reporter: &mut Reporter) {
        for line in item.items() {
            let words = core::iter::once(&line.keyword).chain(&line.arguments);
            let named = words.clone().any(|word| word.text.ends_with('>'));
            let lines: Vec<Vec<&Word>> =
                if named { vec![words.collect()] } else { words.map(|word| vec![word]).collect() };
            for words in lines {
                let Some(address) = mailbox(words.into_iter(), reporter) else { continue };
                if !self.known_receivers.insert(address.clone()) {
                    let message = format!("receiver {} is named twice", quote(&address));
                    reporter
                        .warning(Code::Duplicate, line.head(), message)
                        .help("remove one of the two");
                    continue;
                }
                self.receivers_at.get_or_insert_with(|| item.head());
                self.receivers.push(address);
            }
        }
        if item.block.is_some() && item.items().is_empty() {
            reporter
                .warning(Code::NoEffect, item.head(), "notification_email has no receiver")
                .help("write one address a line between the braces");
        }
    }

    /// Reports halves of things.
    fn compare(&self, reporter: &mut Reporter) {
        let [all, lvs] = &self.fifos;
        for (pipe, keyword) in [(all, "notify_fifo"), (lvs, "lvs_notify_fifo")] {
            if let (Some(at), None) = (pipe.script.place(), pipe.path.place()) {
                let message = format!("`{keyword}_script` has no pipe to read");
                reporter
                    .warning(Code::NoEffect, at, message)
                    .help(format!("write `{keyword} PATH`, or remove the line"));
            }
        }
        if let (Some((first, _)), Some((second, _)), Some(at)) =
            (all.path.get(), lvs.path.get(), lvs.path.place())
            && first == second
        {
            reporter
                .warning(
                    Code::ValueReplaced,
                    at,
                    "`lvs_notify_fifo` is the pipe of `notify_fifo`, which gets its lines already",
                )
                .help("name another pipe, or remove one of the two; keepalived drops this one too");
        }
        for (timed, keyword) in [(&self.startup, "startup"), (&self.shutdown, "shutdown")] {
            if let (None, Some(at)) = (timed.script.place(), timed.timeout.place()) {
                let message = format!("`{keyword}_script_timeout` has no `{keyword}_script`");
                reporter.warning(Code::NoEffect, at, message).help("remove it");
            }
        }
    }

    /// Reports halves of mail; `alert_at`: where a virtual or real server asks for alerts.
    pub fn compare_mail(&self, alert_at: Option<Extent>, reporter: &mut Reporter) {
        let asked = |alert: &Once<bool>| alert.0.filter(|(on, _)| *on).map(|(_, at)| at);
        let asked = asked(&self.alert).or_else(|| asked(&self.alert_checker));
        let asked = asked.or(alert_at).or(self.receivers_at);
        match (self.server.place(), self.receivers.is_empty()) {
            (Some(at), true) => {
                reporter
                    .warning(Code::NoEffect, at, "no mail is sent: it has no receivers")
                    .help("write `notification_email { ADDRESS }` in global_defs");
            }
            (Some(at), false) if self.sender.get().is_none() => {
                let message = format!("no sender of mail is given: {SENDER} is used");
                reporter
                    .warning(Code::DefaultAssumed, at, message)
                    .help("write `notification_email_from ADDRESS`");
            }
            (None, _) => {
                if let Some(at) = asked {
                    no_mail(at, reporter);
                }
            }
            (Some(_), false) => {}
        }
    }

    /// Whether mail can be sent.
    pub fn has_mail(&self) -> bool {
        self.server.get().is_some() && !self.receivers.is_empty()
    }

    /// Whether a change is mailed, by what the server says itself and `usual` if nobody says anything.
    pub fn mails(&self, own: Option<bool>, usual: bool) -> bool {
        let global = self.alert_checker.get().or_else(|| self.alert.get()).copied();
        self.has_mail() && own.or(global).unwrap_or(usual)
    }

    /// Whether every failed try is logged.
    pub fn log_all_failures(&self) -> Option<bool> {
        self.log_all_failures.get().copied()
    }

    pub fn flush_at_start(&self) -> bool {
        self.flush_at_start.get() == Some(&true)
    }

    pub fn flush_at_stop(&self) -> bool {
        self.flush_at_stop.get() == Some(&true)
    }

    pub fn notifications(&self) -> Notifications {
        let [all, lvs] = &self.fifos;
        let fifo = all.fifo();
        let lvs_fifo =
            lvs.fifo().filter(|lvs| fifo.as_ref().is_none_or(|all| all.path != lvs.path));
        Notifications {
            router_id: self.router_id.get().cloned(),
            mail: self.mail(),
            lvs_fifo,
            fifo,
            script_user: self.script_user.get().cloned(),
            script_security: self.security.get() == Some(&true),
            initial: self.initial.get() == Some(&true),
            startup: self.startup.finish(),
            shutdown: self.shutdown.finish(),
        }
    }

    fn mail(&self) -> Option<Mail> {
        let server = self.server.get().cloned().filter(|_| self.has_mail())?;
        Some(Mail {
            server,
            helo_name: self.helo_name.get().cloned(),
            timeout: self.timeout.get().copied().unwrap_or(MAIL_TIMEOUT),
            from: self.sender.get().cloned().unwrap_or_else(|| SENDER.to_owned()),
            to: self.receivers.clone(),
        })
    }
}

impl Pipe {
    fn fifo(&self) -> Option<Fifo> {
        let (path, user) = self.path.get().cloned()?;
        Some(Fifo { path, user, script: self.script.get().cloned() })
    }
}

impl Timed {
    fn finish(&self) -> Option<(Script, Duration)> {
        let timeout = self.timeout.get().copied().unwrap_or(SCRIPT_TIMEOUT);
        Some((self.script.get().cloned()?, timeout))
    }
}

/// Alerts are asked for, and nobody can be mailed.
fn no_mail(at: Extent, reporter: &mut Reporter) {
    reporter
        .warning(Code::NoEffect, at, "no mail is sent: there is no mail server")
        .help("write `smtp_server ADDRESS` and `notification_email { ADDRESS }` in global_defs");
}

/// An address of mail, with or without a name before it.
fn mailbox<'a>(words: impl Iterator<Item = &'a Word>, reporter: &mut Reporter) -> Option<String> {
    let words: Vec<_> = words.collect();
    let text = words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" ");
    let address = match text.strip_suffix('>').and_then(|text| text.rsplit_once('<')) {
        Some((_, address)) => address,
        None => text.as_str(),
    };
    let bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>');
    if address.is_empty() || address.contains(bad) {
        let at = words.first()?.extent.to(words.last()?.extent);
        let message = format!("{} is no mail address", quote(&text));
        reporter
            .error(Code::InvalidValue, at, message)
            .help("write it as ops@example.org or Name <ops@example.org>");
        return None;
    }
    Some(address.to_owned())
}

/// `smtp_server HOST [PORT]`.
fn mail_server(item: &Item, word: &Word, reporter: &mut Reporter) -> Option<MailServer> {
    let port = match item.arguments.get(1) {
        None => SMTP_PORT,
        Some(word) => {
            let port = value::number("port", word, 1, u16::MAX.into(), reporter)?;
            u16::try_from(port).ok()?
        }
    };
    if let Ok(address) = word.text.parse::<IpAddr>() {
        return Some(MailServer::Address(SocketAddr::new(address, port)));
    }
    let part = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    if word.text.is_empty() || !word.text.chars().all(part) {
        let message = format!("{} is neither an address nor a host name", quote(&word.text));
        reporter
            .error(Code::InvalidValue, word.extent, message)
            .help("write `smtp_server ADDRESS [PORT]`, address and port as two words");
        return None;
    }
    Some(MailServer::Name { host: word.text.clone(), port })
}

#[cfg(test)]
mod tests;
