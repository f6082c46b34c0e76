//! Checks on the screen.
//!
//! **Invariant:** every state stands beside how long it has lasted and its reason in words; a line begins with what it is
//! about, and what may be long has a line of its own.
//!
//! Called by `elvs status`.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::net::SocketAddr;

use elvs_model::health::{
    BfdSession, BfdSessions, CheckState, CheckView, Drained, HealthView, MailView, ServerState,
    ServerView, Transition, WatchedView,
};
use elvs_model::{DestinationKey, ServiceKey};

use super::duration;

/// Last changes that are shown of each object.
const CHANGES: usize = 8;

/// What is known of a service's health, by service.
pub(super) struct Health<'a> {
    view: &'a HealthView,
    by_service: HashMap<ServiceKey, &'a WatchedView>,
    drained: HashSet<Drained>,
    /// Unix milliseconds.
    now: u64,
}

impl<'a> Health<'a> {
    pub(super) fn new(view: &'a HealthView, now: u64) -> Self {
        let watched = view.watched.iter();
        let by_service = watched.flat_map(|w| w.services.iter().map(move |key| (*key, w)));
        let drained = view.drained.iter().copied().collect();
        Self { view, by_service: by_service.collect(), drained, now }
    }

    /// One line for all checks, and one for each virtual server that does not work.
    pub(super) fn summary(&self, out: &mut impl Write) -> io::Result<()> {
        let HealthView { watched, checks, wanted, bfd: _, mail, drained: _ } = self.view;
        if *wanted == 0 {
            return Ok(());
        }
        let servers = || watched.iter().flat_map(|watched| &watched.servers);
        let alive = servers().filter(|server| server.state.alive()).count();
        let all = servers().count();
        writeln!(out, "checks         {checks} run for {all} real servers, of which {alive} work")?;
        for down in watched.iter().filter(|watched| !watched.up) {
            let since = self.since(down.since);
            let weight = format!("weight {} of {}", down.weight, down.quorum);
            let sorry = match &down.sorry_server {
                Some(sorry) if sorry.in_use => {
                    format!(", sorry server {} serves", address(&sorry.key))
                }
                Some(_) | None => String::new(),
            };
            let name = &down.name;
            writeln!(out, "PROBLEM        {name} has no quorum for {since}: {weight}{sorry}")?;
        }
        if let Some(trouble) = &mail.trouble {
            writeln!(out, "PROBLEM        mail: {trouble}")?;
        }
        Ok(())
    }

    /// What a real server's line says of its health, if there is something to say.
    pub(super) fn word(&self, service: &ServiceKey, server: &DestinationKey) -> String {
        let drained = Drained { service: *service, destination: *server };
        let drains = if self.drained.contains(&drained) { "  drained by hand" } else { "" };
        let Some(watched) = self.by_service.get(service) else { return drains.to_owned() };
        if watched.sorry_server.is_some_and(|sorry| sorry.key == *server && sorry.in_use) {
            return "  sorry server".to_owned();
        }
        let found = watched.servers.iter().find(|found| found.key == *server);
        match found {
            Some(found) if !found.checks.is_empty() || found.state != ServerState::Up => {
                format!("  {} {}{drains}", found.state.name(), self.since(found.since))
            }
            Some(_) | None => drains.to_owned(),
        }
    }

    /// Real servers of a service that are not in the table, and those of which there is more to say than a word.
    pub(super) fn absent(&self, out: &mut impl Write, service: &ServiceKey) -> io::Result<()> {
        let Some(watched) = self.by_service.get(service) else { return Ok(()) };
        if watched.suspended {
            writeln!(out, "  not checked: the address is not on this host (ha_suspend)")?;
        }
        for server in &watched.servers {
            if server.weight.is_none() || !server.state.alive() {
                let (state, since) = (server.state.name(), self.since(server.since));
                let address = address(&server.key);
                writeln!(out, "  {address:<24} {state} for {since}: {}", server.reason)?;
            }
        }
        Ok(())
    }

    /// Everything.
    pub(super) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        if self.view.watched.is_empty() {
            return writeln!(out, "nothing is checked");
        }
        self.summary(out)?;
        for watched in &self.view.watched {
            self.print_watched(out, watched)?;
        }
        self.print_sessions(out)?;
        self.print_mail(out)
    }

    fn print_mail(&self, out: &mut impl Write) -> io::Result<()> {
        let MailView { waiting, sent, tried_again, dropped, trouble } = &self.view.mail;
        if self.view.mail == MailView::default() {
            return Ok(());
        }
        writeln!(out, "\nmail, {sent} sent, {waiting} wait, {tried_again} tried again")?;
        for (why, number) in dropped {
            writeln!(out, "  {number} not sent: {why}")?;
        }
        if let Some(trouble) = trouble {
            writeln!(out, "  the last try: {trouble}")?;
        }
        Ok(())
    }

    fn print_sessions(&self, out: &mut impl Write) -> io::Result<()> {
        let BfdSessions { sessions, received, refused, closed_ports } = &self.view.bfd;
        if sessions.is_empty() {
            return Ok(());
        }
        writeln!(out, "\nBFD, {received} packets received")?;
        for (why, number) in refused {
            writeln!(out, "  {number} refused: {why}")?;
        }
        for port in closed_ports {
            writeln!(out, "  PROBLEM nothing is received: {port}")?;
        }
        for session in sessions {
            let BfdSession { instance, neighbor, state, neighbor_state, .. } = session;
            let since = self.since(session.since);
            writeln!(
                out,
                "  {instance} {neighbor}  {state} for {since}, the neighbour {neighbor_state}"
            )?;
            let times = format!(
                "a packet every {}, down after {} of silence",
                milliseconds(session.transmit_us),
                milliseconds(session.detection_us)
            );
            writeln!(
                out,
                "    {times}; {} sent; last diagnostic: {}",
                session.sent, session.diagnostic
            )?;
            if let Some(trouble) = &session.trouble {
                writeln!(out, "    {} not sent: {trouble}", session.unsent)?;
            }
        }
        Ok(())
    }

    fn print_watched(&self, out: &mut impl Write, watched: &WatchedView) -> io::Result<()> {
        let state = if watched.up { "up" } else { "DOWN" };
        let WatchedView { name, weight, quorum, .. } = watched;
        let since = self.since(watched.since);
        let hysteresis = match watched.hysteresis {
            0 => String::new(),
            hysteresis => format!(", hysteresis {hysteresis}"),
        };
        writeln!(
            out,
            "\n{name}  {state} for {since}, weight {weight}, quorum {quorum}{hysteresis}"
        )?;
        if watched.suspended {
            writeln!(out, "  not checked: the address is not on this host (ha_suspend)")?;
        }
        if let Some(sorry) = &watched.sorry_server {
            let used = if sorry.in_use { "serves" } else { "waits" };
            writeln!(out, "  sorry server {} {used}", address(&sorry.key))?;
        }
        let state = |up: &bool| if *up { "up" } else { "down" };
        self.print_history(out, "  ", &watched.history, state)?;
        for server in &watched.servers {
            self.print_server(out, watched, server)?;
        }
        Ok(())
    }

    fn print_server(
        &self,
        out: &mut impl Write,
        watched: &WatchedView,
        server: &ServerView,
    ) -> io::Result<()> {
        let name = address(&server.key);
        let (state, since) = (server.state.name(), self.since(server.since));
        let weight = match server.weight {
            None => "not in the table".to_owned(),
            Some(weight) if weight == server.configured_weight => format!("weight {weight}"),
            Some(weight) => format!("weight {weight} of {}", server.configured_weight),
        };
        let until = server.until.map(|until| format!(", for {} more", self.until(until)));
        let until = until.unwrap_or_default();
        writeln!(out, "  {name}  {state} for {since}{until}, {weight}")?;
        if !server.reason.is_empty() {
            writeln!(out, "    {}", server.reason)?;
        }
        for &service in &watched.services {
            if self.drained.contains(&Drained { service, destination: server.key }) {
                writeln!(out, "    drained by hand from {service}, until `elvs drain --off`")?;
            }
        }
        for check in &server.checks {
            self.print_check(out, check)?;
        }
        self.print_history(out, "    ", &server.history, |state| state.name())
    }

    fn print_check(&self, out: &mut impl Write, check: &CheckView) -> io::Result<()> {
        let (state, since) = (check.state.name(), self.since(check.since));
        write!(out, "    {} {}  {state} for {since}", check.kind, check.target)?;
        if check.shared_by > 1 {
            write!(out, ", shared by {} real servers", check.shared_by)?;
        }
        writeln!(out)?;
        let mut parts = Vec::new();
        if let Some(ran) = check.last_run {
            let took = check.latency_us.map_or_else(String::new, latency);
            parts.push(format!("ran {} ago{took}: {}", self.since(ran), check.words));
        } else if check.state == CheckState::Unknown {
            parts.push("has not run yet".to_owned());
        }
        if check.failures_in_row > 0 {
            parts.push(format!("failed {} times in a row", check.failures_in_row));
        }
        match check.next_run {
            Some(next) => parts.push(format!("next in {}", self.until(next))),
            None if check.last_run.is_none() => {}
            None => parts.push("runs now, or is told of changes".to_owned()),
        }
        parts.push(format!("{} of {} runs failed", check.failures, check.runs));
        writeln!(out, "      {}", parts.join("; "))
    }

    fn print_history<S>(
        &self,
        out: &mut impl Write,
        indent: &str,
        history: &[Transition<S>],
        name: impl Fn(&S) -> &'static str,
    ) -> io::Result<()> {
        for change in history.iter().rev().take(CHANGES) {
            let (since, state) = (self.since(change.at), name(&change.state));
            writeln!(out, "{indent}{since} ago: {state}: {}", change.reason)?;
        }
        Ok(())
    }

    fn since(&self, at: u64) -> String {
        duration(self.now.saturating_sub(at) / 1_000)
    }

    fn until(&self, at: u64) -> String {
        duration(at.saturating_sub(self.now).div_ceil(1_000))
    }
}

fn address(key: &DestinationKey) -> String {
    SocketAddr::new(key.address, key.port).to_string()
}

fn milliseconds(microseconds: u64) -> String {
    format!("{}.{} ms", microseconds / 1_000, microseconds % 1_000 / 100)
}

fn latency(microseconds: u64) -> String {
    match microseconds {
        0..10_000 => format!(" in {}.{} ms", microseconds / 1_000, microseconds % 1_000 / 100),
        10_000..10_000_000 => format!(" in {} ms", microseconds / 1_000),
        _ => format!(" in {} s", microseconds / 1_000_000),
    }
}

#[cfg(test)]
mod tests;
