//! What the monitor shows.
//!
//! **Invariant:** nothing is changed by being shown.
//!
//! Part of [`crate::Monitor`].

use elvs_model::health::{
    BfdSessions, CheckKind, CheckView, HealthView, MailView, ServerState, ServerView,
    SorryServerView, Target, WatchedView,
};

use super::Monitor;
use crate::agenda::UnitId;
use crate::check::Checker;
use crate::clock::Clock;
use crate::history;
use crate::server::Server;
use crate::unit::Unit;

impl Monitor {
    pub(super) fn shown(&self, clock: Clock) -> HealthView {
        let units = self.order.iter().filter_map(|id: &UnitId| self.units.get(id));
        HealthView {
            bfd: BfdSessions::default(),
            mail: MailView::default(),
            drained: Vec::new(),
            watched: units.map(|unit| self.shown_unit(unit, clock)).collect(),
            checks: self.checkers.len(),
            wanted: self.checkers.values().map(|checker| checker.shared_by.len()).sum(),
        }
    }

    fn shown_unit(&self, unit: &Unit, clock: Clock) -> WatchedView {
        let sorry = unit.health().and_then(|health| health.sorry_server.as_ref());
        let in_use = unit.sorry_in_use();
        let server = |server: &Server| self.shown_server(unit, server, clock);
        WatchedView {
            watched: unit.watched.clone(),
            name: unit.name.clone(),
            services: unit.services().copied().collect(),
            up: unit.up,
            since: clock.wall_of(unit.since),
            quorum: unit.quorum,
            hysteresis: unit.hysteresis,
            weight: unit.weight(),
            sorry_server: sorry.map(|s| SorryServerView { key: s.destination.key, in_use }),
            suspended: unit.suspended,
            servers: unit.servers.iter().map(server).collect(),
            history: history::shown(&unit.history, clock),
        }
    }

    fn shown_server(&self, unit: &Unit, server: &Server, clock: Clock) -> ServerView {
        let times = &server.times;
        let until = match server.state {
            ServerState::Suspect => times.suspect_until,
            ServerState::HeldDown => times.held_until,
            ServerState::Leaving => times.leaving,
            ServerState::SlowStart => times
                .ramp
                .map(|ramp| clock.now + ramp.whole.saturating_sub(ramp.began.until(clock.now))),
            ServerState::Up
            | ServerState::Draining
            | ServerState::Down
            | ServerState::Maintenance => None,
        };
        let checkers = server.asked().filter_map(|id| self.checkers.get(&id));
        ServerView {
            key: server.key(),
            name: server.name.clone(),
            state: server.state,
            since: clock.wall_of(server.since),
            reason: server.reason.clone(),
            weight: unit.weight_in_table(server),
            configured_weight: server.configured_weight(),
            until: until.map(|until| clock.wall_at(until)),
            checks: checkers.map(|checker| shown_check(checker, clock)).collect(),
            history: history::shown(&server.history, clock),
        }
    }
}

fn shown_check(checker: &Checker, clock: Clock) -> CheckView {
    let record = &checker.record;
    CheckView {
        kind: checker.check.kind.name().to_owned(),
        target: target(&checker.check.kind),
        state: checker.state(),
        since: clock.wall_of(record.since),
        words: record.words.clone(),
        last_run: record.ended.map(|ended| clock.wall_of(ended)),
        latency_us: record.took.map(|took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX)),
        next_run: checker.next.map(|next| clock.wall_at(next)),
        runs: record.runs,
        failures: record.failures,
        failures_in_row: record.failures_in_row,
        shared_by: checker.shared_by.len(),
    }
}

fn target(kind: &CheckKind) -> String {
    let address = |target: &Target| match target.address.port() {
        0 => target.address.ip().to_string(),
        _ => target.address.to_string(),
    };
    match kind {
        CheckKind::Tcp(check) => address(&check.target),
        CheckKind::Http(check) => {
            let paths: Vec<&str> = check.urls.iter().map(|url| url.path.as_str()).collect();
            format!("{} {}", address(&check.target), paths.join(" "))
        }
        CheckKind::Smtp(check) => {
            check.targets.iter().map(address).collect::<Vec<String>>().join(" ")
        }
        CheckKind::Dns(check) => format!("{} {}", address(&check.target), check.name),
        CheckKind::Misc(check) => check.script.words.join(" "),
        CheckKind::Ping(check) => address(&check.target),
        CheckKind::Udp(check) => address(&check.target),
        CheckKind::File(check) => check.file.path.display().to_string(),
        CheckKind::Bfd(check) => check.instance.clone(),
        CheckKind::Path(check) => {
            format!("{} by {}", check.vip, check.real_server)
        }
        CheckKind::Agent(check) => address(&check.target),
    }
}
