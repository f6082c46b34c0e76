//! Runs a script, line by line.
//!
//! **Invariant:** an event's expectation has no influence on what happens; it is compared afterwards.
//!
//! Called by [`super`].

use std::collections::HashMap;

use elvs_model::{Change, Scheduler, ServiceKey};
use serde::Serialize;

use super::clients::Clients;
use super::host::{Fate, Host, Placed};
use super::script::{Action, Flow, Line, Mistake, Place, Script};
use super::shares::{RandomShares, ServiceShares, Shares};
use crate::adm::{self, Command, Director, Names, Streams};

/// So many seconds are waited after a `close` if its entry expires within them.
const SEEN_OFF_S: u32 = 4;

/// How a script is run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// Start of the random numbers.
    pub(super) seed: u64,
    /// Compare with the expectations, and stop at the first difference.
    pub(super) check: bool,
    /// Count the clients that a change of destinations moves.
    pub(super) moved: bool,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub(super) enum Step {
    /// A connection, or a packet.
    Event(Event),
    /// A command printed something.
    Listing {
        /// Its line in the script.
        line: usize,
        /// What it printed.
        text: String,
    },
    /// A change of destinations, and what it did to the clients so far.
    Moved {
        /// Its line in the script.
        line: usize,
        /// The change.
        command: String,
        /// The service.
        service: String,
        /// Clients so far.
        clients: usize,
        /// Those that the scheduler would now send elsewhere.
        moved: usize,
    },
}

/// A connection, or a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Event {
    /// Its line in the script.
    pub(super) line: usize,
    /// The line, without an expectation.
    pub(super) text: String,
    /// `ADDR:PORT` it went to; `null` if it was refused.
    pub(super) place: Option<String>,
    /// Why it was refused: a counter of the data plane, or `no_service`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'static str>,
}

/// What comparing came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Checked {
    /// Events run.
    pub(super) events: usize,
    /// Events compared one by one.
    pub(super) compared: usize,
    /// Events compared by their shares, since their scheduler draws random numbers.
    pub(super) by_shares: usize,
    /// The first difference.
    pub(super) difference: Option<Difference>,
}

/// An expectation that was not met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Difference {
    /// Line in the script.
    pub(super) line: usize,
    /// What differs: the event, or the service whose shares do.
    pub(super) subject: String,
    /// What the script says.
    pub(super) expected: String,
    /// What happened.
    pub(super) got: String,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Report {
    /// What happened, in order.
    pub(super) steps: Vec<Step>,
    /// Who got how many connections.
    pub(super) shares: Vec<ServiceShares>,
    /// What comparing came to.
    pub(super) checked: Checked,
}

/// Runs a script.
///
/// # Errors
/// A line that the data plane refuses: what the table takes may still not fit.
pub(super) fn run(
    script: &Script,
    names: &dyn Names,
    settings: Settings,
) -> Result<Report, Mistake> {
    let mut runner = Runner {
        host: Host::new(script.connections, script.locals, settings.seed),
        names,
        settings,
        open: HashMap::new(),
        clients: Clients::default(),
        shares: Shares::default(),
        random: RandomShares::default(),
        steps: Vec::new(),
        checked: Checked::default(),
    };
    for line in &script.lines {
        runner.line(line).map_err(|message| Mistake { line: line.number, message })?;
        if runner.checked.difference.is_some() {
            break;
        }
    }
    if settings.check && runner.checked.difference.is_none() {
        runner.checked.difference = runner.random.difference();
    }
    Ok(Report {
        shares: runner.shares.of_table(runner.host.table()),
        steps: runner.steps,
        checked: runner.checked,
    })
}

struct Runner<'a> {
    host: Host,
    names: &'a dyn Names,
    settings: Settings,
    /// Connections that stay, those that were refused left out.
    open: HashMap<&'a str, (Flow, Placed)>,
    clients: Clients,
    shares: Shares,
    random: RandomShares,
    steps: Vec<Step>,
    checked: Checked,
}

impl<'a> Runner<'a> {
    fn line(&mut self, line: &'a Line) -> Result<(), String> {
        match &line.action {
            Action::Adm(command) => self.command(line, command),
            Action::Mark(rule) => {
                let change = Change::AddMark(rule.clone());
                self.host.apply(&change).map_err(|error| error.to_string())
            }
            Action::Set(setting, value) => {
                let change = Change::Set { setting: *setting, value: value.clone() };
                self.host.apply(&change).map_err(|error| error.to_string())
            }
            Action::Open(name, flow) => {
                if let Ok(placed) = self.event(line, flow) {
                    self.open.insert(name, (*flow, placed));
                }
                Ok(())
            }
            Action::Close(name) => {
                // One that was refused has no end either.
                if let Some((flow, placed)) = self.open.remove(name.as_str()) {
                    self.host.end(&flow, &placed);
                    return self.see_off(&flow);
                }
                Ok(())
            }
            Action::Short(flow) => {
                if let Ok(placed) = self.event(line, flow) {
                    self.host.end(flow, &placed);
                }
                Ok(())
            }
            Action::Packet(flow) => {
                // Where it went is all there is to it.
                let _: Fate = self.event(line, flow);
                Ok(())
            }
            Action::Wait(seconds) => self.host.wait(*seconds).map_err(|error| error.to_string()),
        }
    }

    /// Waits for the end of a closed connection's entry if that is near, as those did who recorded the kernel's picks:
    /// their scripts shorten a timeout to see what its end changes, and have no line for the wait.
    fn see_off(&mut self, flow: &Flow) -> Result<(), String> {
        let short = self.host.table().timeouts().tcp_fin < SEEN_OFF_S;
        if short && self.host.expires_s(flow).is_some_and(|left| left < SEEN_OFF_S) {
            return self.host.wait(SEEN_OFF_S).map_err(|error| error.to_string());
        }
        Ok(())
    }

    fn command(&mut self, line: &Line, command: &Command) -> Result<(), String> {
        let service = if self.settings.moved { changed_pool(command) } else { None };
        let before = service.map(|key| (key, self.clients.picks(&self.host, &key)));
        let text = self.adm(command)?;
        if !text.is_empty() {
            self.steps.push(Step::Listing { line: line.number, text });
        }
        if let Some((key, Some(before))) = before
            && let Some(after) = self.clients.picks(&self.host, &key)
            && !after.is_empty()
        {
            let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
            self.steps.push(Step::Moved {
                line: line.number,
                command: line.text.clone(),
                service: key.to_string(),
                clients: after.len(),
                moved,
            });
        }
        Ok(())
    }

    /// What a command of ipvsadm prints.
    fn adm(&mut self, command: &Command) -> Result<String, String> {
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let mut nothing: &[u8] = &[];
        let mut streams = Streams { input: &mut nothing, output: &mut output, errors: &mut errors };
        let code = adm::run(command.clone(), "ipvsadm", &mut self.host, self.names, &mut streams)
            .map_err(|error| error.to_string())?;
        if code != 0 {
            return Err(String::from_utf8_lossy(&errors).trim().to_owned());
        }
        Ok(String::from_utf8_lossy(&output).into_owned())
    }

    fn event(&mut self, line: &Line, flow: &Flow) -> Fate {
        let service = self.host.service_of(flow);
        let fate = self.host.begin(flow);
        if let Some(key) = service {
            self.shares.count(key, &fate);
            if self.settings.moved
                && let Some(entry) = self.host.table().service(&key)
            {
                self.clients.seen(entry.service(), flow);
            }
        }
        self.checked.events += 1;
        if self.settings.check {
            self.compare(line, service, &fate);
        }
        self.steps.push(Step::Event(Event {
            line: line.number,
            text: line.text.clone(),
            place: fate.ok().map(|placed| placed.server.to_string()),
            reason: fate.err(),
        }));
        fate
    }

    fn compare(&mut self, line: &Line, service: Option<ServiceKey>, fate: &Fate) {
        let Some(expected) = line.expected else { return };
        let got = fate.map_or(Place::Nobody, |placed| {
            Place::Server(placed.server.ip(), Some(placed.server.port()))
        });
        let entry = service.and_then(|key| self.host.table().service(&key));
        let random = entry.is_some_and(|entry| entry.service().scheduler == Scheduler::Twos);
        if random
            && let (Some(key), Place::Server(wanted, _), Place::Server(found, _)) =
                (service, expected, got)
        {
            self.checked.by_shares += 1;
            self.random.count(line.number, key, wanted, found);
            return;
        }
        self.checked.compared += 1;
        if !meets(got, expected) {
            self.checked.difference = Some(Difference {
                line: line.number,
                subject: line.text.clone(),
                expected: expected.to_string(),
                got: match fate {
                    Ok(_) => got.to_string(),
                    Err(reason) => format!("none ({reason})"),
                },
            });
        }
    }
}

/// The service whose destinations a command adds, edits or deletes.
fn changed_pool(command: &Command) -> Option<ServiceKey> {
    let Command::Change(change) = command else { return None };
    change.of_destination().map(|(service, ..)| service)
}

/// Whether an event went where it should; an expectation without a port means any.
fn meets(got: Place, expected: Place) -> bool {
    match (got, expected) {
        (Place::Server(found, _), Place::Server(wanted, None)) => found == wanted,
        _ => got == expected,
    }
}
