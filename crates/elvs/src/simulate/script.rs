//! Reading a script: every line becomes an action, or a mistake that names line, value and cure.
//!
//! **Invariant:** a script without mistakes changes the table only in ways that the table takes: its commands were
//! tried on a table of their own while it was read. All mistakes are found in one reading.
//!
//! Called by [`super`].

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use elvs_model::{
    Change, ChangeError, MarkRule, Protocol, ServiceKey, Setting, SettingError, SettingValue, Table,
};
use serde::Serialize;

use crate::adm::{self, Command, List, Names, Subject};

/// Longest wait: 31 days, the longest timeout of ipvsadm.
const MAX_WAIT_S: u32 = 31 * 86_400;
/// Local addresses of full NAT that there is room for; a mebibyte each.
const MOST_LOCALS: usize = 256;

/// A script that can be run.
#[derive(Debug)]
pub(super) struct Script {
    /// Its lines, without blank ones and comments.
    pub(super) lines: Vec<Line>,
    /// Connections it may make.
    pub(super) connections: usize,
    /// Local addresses of full NAT that it gives to services.
    pub(super) locals: usize,
}

/// One line.
#[derive(Debug)]
pub(super) struct Line {
    /// Number in the file, from 1.
    pub(super) number: usize,
    /// The line without its expectation.
    pub(super) text: String,
    /// What it does.
    pub(super) action: Action,
    /// Where its connection is expected to go.
    pub(super) expected: Option<Place>,
}

/// What a line does.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// A command of ipvsadm, or `list`.
    Adm(Command),
    /// `elvs mark add --destination PREFIX --mark N`
    Mark(MarkRule),
    /// Changes a setting.
    Set(Setting, SettingValue),
    /// `open NAME PROTO SRC:PORT DST:PORT`
    Open(String, Flow),
    /// `close NAME`
    Close(String),
    /// `short PROTO SRC:PORT DST:PORT`
    Short(Flow),
    /// `packet udp SRC:PORT DST:PORT`
    Packet(Flow),
    /// `wait SECONDS`
    Wait(u32),
}

impl Action {
    /// Whether it is printed with the place that it went to.
    const fn is_event(&self) -> bool {
        matches!(self, Self::Open(..) | Self::Short(_) | Self::Packet(_))
    }
}

/// The ends of a connection; both are of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    /// Its protocol.
    pub(super) protocol: Protocol,
    /// The client.
    pub(super) client: SocketAddr,
    /// The virtual service.
    pub(super) service: SocketAddr,
}

/// What follows the arrow of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// `none`: the client is refused.
    Nobody,
    /// A real server, at any port if none is given.
    Server(IpAddr, Option<u16>),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Nobody => f.write_str("none"),
            Self::Server(address, None) => write!(f, "{address}"),
            Self::Server(address, Some(port)) => SocketAddr::new(address, port).fmt(f),
        }
    }
}

/// A line that cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Mistake {
    /// Number of the line, from 1.
    pub(super) line: usize,
    /// What is wrong with which value, and what would be right.
    pub(super) message: String,
}

/// Reads a script.
///
/// # Errors
/// Every mistake in it, in order.
pub(super) fn read(text: &str, names: &dyn Names) -> Result<Script, Vec<Mistake>> {
    let mut reader = Reader {
        names,
        table: Table::new(),
        refused: HashSet::new(),
        locals: BTreeSet::new(),
        open: HashMap::new(),
        number: 0,
    };
    let mut lines = Vec::new();
    let mut mistakes = Vec::new();
    for (index, raw) in text.lines().enumerate() {
        reader.number = index + 1;
        let raw = raw.trim();
        if raw.is_empty() || raw.starts_with('#') {
            continue;
        }
        match reader.line(raw) {
            Ok(line) => lines.push(line),
            Err(message) => mistakes.push(Mistake { line: reader.number, message }),
        }
    }
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let connections = lines.iter().filter(|line| line.action.is_event()).count();
    Ok(Script { lines, connections, locals: reader.locals.len() })
}

struct Reader<'a> {
    names: &'a dyn Names,
    /// The table as the commands so far made it.
    table: Table,
    /// Services that were refused: what is done to them is no further mistake.
    refused: HashSet<ServiceKey>,
    /// Local addresses of full NAT so far, removed ones too.
    locals: BTreeSet<IpAddr>,
    /// Lines at which connections were opened that are not closed yet.
    open: HashMap<String, usize>,
    number: usize,
}

impl Reader<'_> {
    fn line(&mut self, raw: &str) -> Result<Line, String> {
        let (text, place) = match raw.split_once(" -> ") {
            Some((text, place)) => (text.trim_end(), Some(place.trim())),
            None => (raw, None),
        };
        // A bad place does not keep the rest of the line from being read.
        let expected = place.map(self::place).transpose();
        let words: Vec<&str> = text.split_whitespace().collect();
        let action = self.action(&words)?;
        let expected = expected?;
        if expected.is_some() && !action.is_event() {
            return Err(format!(
                "`{text}` goes nowhere: only open, short and packet end in ` -> ADDR` or ` -> none`"
            ));
        }
        Ok(Line { number: self.number, text: text.to_owned(), action, expected })
    }

    fn action(&mut self, words: &[&str]) -> Result<Action, String> {
        Ok(match words {
            ["ipvsadm", words @ ..] => Action::Adm(self.ipvsadm(words)?),
            ["list"] => Action::Adm(Command::List(List { numeric: true, ..List::default() })),
            ["elvs", "mark", "add", words @ ..] => Action::Mark(self.mark(&words.join(" "))?),
            ["elvs", "set", name, value @ ..] => {
                let (setting, value) = self.set(name, &value.join(" "))?;
                Action::Set(setting, value)
            }
            ["elvs", words @ ..] => return Err(extension(words)),
            ["open", name, protocol, client, service] => {
                let flow = flow(protocol, client, service);
                if let Some(line) = self.open.insert((*name).to_owned(), self.number) {
                    return Err(format!(
                        "connection `{name}` is open since line {line}: close it first, or choose another name"
                    ));
                }
                Action::Open((*name).to_owned(), flow?)
            }
            ["close", name] => {
                if self.open.remove(*name).is_none() {
                    return Err(format!(
                        "no connection `{name}` is open: open it with `open {name} PROTO SRC:PORT DST:PORT`"
                    ));
                }
                Action::Close((*name).to_owned())
            }
            ["short", protocol, client, service] => Action::Short(flow(protocol, client, service)?),
            ["packet", "udp", client, service] => Action::Packet(flow("udp", client, service)?),
            ["packet", protocol, _, _] => {
                return Err(format!(
                    "`packet {protocol}`: a single packet is of udp; a connection of another protocol is `open` or `short`"
                ));
            }
            ["wait", seconds] => Action::Wait(wait(seconds)?),
            _ => return Err(form(words)),
        })
    }

    fn ipvsadm(&mut self, words: &[&str]) -> Result<Command, String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        if words.is_empty() {
            return Ok(Command::List(List::default()));
        }
        let text = words.join(" ");
        let command = adm::parse("ipvsadm", &words, self.names).map_err(|failure| {
            let message = failure.message.trim().replace('\n', " ");
            format!("`ipvsadm {text}`: {message} (`elvs adm -h` lists what there is)")
        })?;
        self.try_out(&command).map_err(|error| format!("`ipvsadm {text}`: {error}"))?;
        Ok(command)
    }

    fn mark(&mut self, text: &str) -> Result<MarkRule, String> {
        let rule: MarkRule =
            text.parse().map_err(|error| format!("`elvs mark add {text}`: {error}"))?;
        if rule.interface.is_some() {
            return Err(format!(
                "`elvs mark add {rule}`: a script has no interfaces: leave --interface out"
            ));
        }
        self.change(&Change::AddMark(rule.clone()))
            .map_err(|error| format!("`elvs mark add {rule}`: {error}"))?;
        Ok(rule)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(Setting, SettingValue), String> {
        let refused = |error: SettingError| format!("`elvs set {name} {value}`: {error}");
        let setting: Setting = name.parse().map_err(refused)?;
        let value = setting.value(value).map_err(refused)?;
        // Expectations that rest on it would be compared with what it does not do.
        if let Some(warning) = setting.warning() {
            return Err(format!("`elvs set {name}`: {warning}"));
        }
        self.change(&Change::Set { setting, value: value.clone() })
            .map_err(|error| format!("`elvs set {name}`: {error}"))?;
        Ok((setting, value))
    }

    /// Does to the table what the command will do.
    fn try_out(&mut self, command: &Command) -> Result<(), String> {
        let fate = match command {
            Command::Service { edit: false, service } => {
                self.change(&Change::AddService(service.clone()))
            }
            Command::Service { edit: true, service } => {
                self.change(&Change::EditService(service.clone()))
            }
            Command::Change(Change::StartSync(_) | Change::StopSync(_)) => {
                return Err("there is nobody to synchronise connections with: leave the line out"
                    .to_owned());
            }
            Command::Changes(changes) => {
                let fate = changes.iter().try_for_each(|change| self.change(change));
                if fate.is_ok() {
                    self.add_locals(changes)?;
                }
                fate
            }
            Command::Change(change) => self.change(change),
            Command::UnknownScheduler { service, .. } => {
                self.refused.insert(*service);
                Err(ChangeError::SchedulerNotFound)
            }
            Command::Zero(Some(key))
            | Command::List(List { subject: Subject::Service(key), .. }) => {
                let known = self.table.service(key).is_some() || self.refused.contains(key);
                if known { Ok(()) } else { Err(ChangeError::NoSuchService) }
            }
            Command::Restore => {
                return Err(
                    "a script has no standard input: write the commands as lines of the script"
                        .to_owned(),
                );
            }
            Command::Zero(None)
            | Command::List(_)
            | Command::Save { .. }
            | Command::Help
            | Command::Version => Ok(()),
        };
        fate.map_err(|error| cured(&error))
    }

    /// Counts the local addresses that are added.
    fn add_locals(&mut self, changes: &[Change]) -> Result<(), String> {
        let added = changes.iter().filter_map(local_address);
        let locals: BTreeSet<IpAddr> = self.locals.iter().copied().chain(added).collect();
        if locals.len() > MOST_LOCALS {
            return Err(format!(
                "that makes {} local addresses: a script has at most {MOST_LOCALS}, of 64512 ports each",
                locals.len()
            ));
        }
        self.locals = locals;
        Ok(())
    }

    fn change(&mut self, change: &Change) -> Result<(), ChangeError> {
        if subject(change).is_some_and(|key| self.refused.contains(&key)) {
            return Ok(());
        }
        let fate = told_apart(change)
            .and_then(|()| change.in_effect())
            .and_then(|()| self.table.apply(change));
        if let (Err(_), Change::AddService(service)) = (&fate, change)
            && self.table.service(&service.key).is_none()
        {
            self.refused.insert(service.key);
        }
        fate
    }
}

/// Refuses a service that looks into datagrams, of which a script says nothing.
fn told_apart(change: &Change) -> Result<(), ChangeError> {
    match change {
        Change::AddService(service) | Change::EditService(service) => match &service.engine {
            Some(engine) => Err(ChangeError::Unsupported(format!(
                "persistence engine {engine} looks into datagrams, of which a script says nothing: leave --pe out"
            ))),
            None => Ok(()),
        },
        Change::AddDestination { .. }
        | Change::EditDestination { .. }
        | Change::DeleteService(_)
        | Change::DeleteDestination { .. }
        | Change::AddLocalAddress { .. }
        | Change::DeleteLocalAddress { .. }
        | Change::Flush
        | Change::SetTimeouts(_)
        | Change::AddMark(_)
        | Change::DeleteMark(_)
        | Change::StartSync(_)
        | Change::StopSync(_)
        | Change::Set { .. } => Ok(()),
    }
}

/// The local address that a change adds.
const fn local_address(change: &Change) -> Option<IpAddr> {
    if let Change::AddLocalAddress { address, .. } = change { Some(*address) } else { None }
}

/// The service that a change is about.
const fn subject(change: &Change) -> Option<ServiceKey> {
    match change {
        Change::AddService(service) | Change::EditService(service) => Some(service.key),
        Change::DeleteService(service)
        | Change::AddDestination { service, .. }
        | Change::EditDestination { service, .. }
        | Change::DeleteDestination { service, .. }
        | Change::AddLocalAddress { service, .. }
        | Change::DeleteLocalAddress { service, .. } => Some(*service),
        Change::Flush
        | Change::SetTimeouts(_)
        | Change::AddMark(_)
        | Change::DeleteMark(_)
        | Change::StartSync(_)
        | Change::StopSync(_)
        | Change::Set { .. } => None,
    }
}

/// A refusal in the kernel's words, and what to do about it where the words do not say.
fn cured(error: &ChangeError) -> String {
    let cure = if *error == ChangeError::ServiceExists {
        "edit it with -E, or delete it first with -D"
    } else if *error == ChangeError::NoSuchService || *error == ChangeError::ServiceNotDefined {
        "add it first with -A"
    } else if *error == ChangeError::DestinationExists {
        "edit it with -e, or delete it first with -d"
    } else if *error == ChangeError::NoSuchDestination {
        "add it first with -a"
    } else if *error == ChangeError::SchedulerNotFound {
        "`elvs adm -h` lists the schedulers"
    } else {
        return error.to_string();
    };
    format!("{error}: {cure}")
}

/// Why a line of ELVS's own commands is refused.
fn extension(words: &[&str]) -> String {
    format!(
        "`elvs {}` is no line of a script: `elvs mark add ...` and `elvs set NAME VALUE` are",
        words.join(" ")
    )
}

/// What a line that is none should look like.
fn form(words: &[&str]) -> String {
    let word = words.first().copied().unwrap_or_default();
    let form = match word {
        "open" => "open NAME PROTO SRC:PORT DST:PORT",
        "close" => "close NAME",
        "short" => "short PROTO SRC:PORT DST:PORT",
        "packet" => "packet udp SRC:PORT DST:PORT",
        "wait" => "wait SECONDS",
        "list" => "list",
        _ => {
            return format!(
                "`{word}` begins no line: known are ipvsadm, elvs, open, close, short, packet, wait, list and #"
            );
        }
    };
    format!("`{}` has another form: `{form}`", words.join(" "))
}

fn wait(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(seconds) if seconds <= MAX_WAIT_S => Ok(seconds),
        Ok(_) | Err(_) => {
            Err(format!("`{text}` is no time to wait: whole seconds up to {MAX_WAIT_S} (31 days)"))
        }
    }
}

fn flow(protocol: &str, client: &str, service: &str) -> Result<Flow, String> {
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => {
            return Err(format!(
                "`{protocol}` is no protocol of a connection: tcp, udp and sctp are"
            ));
        }
    };
    let flow = Flow { protocol, client: end(client)?, service: end(service)? };
    if flow.client.is_ipv4() != flow.service.is_ipv4() {
        return Err(format!(
            "`{client}` and `{service}` are of different families: no packet has both"
        ));
    }
    Ok(flow)
}

fn end(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_error| {
        format!("`{text}` is no ADDRESS:PORT, as in 192.0.2.1:40000 and [2001:db8::1]:40000")
    })
}

fn place(text: &str) -> Result<Place, String> {
    if text == "none" {
        return Ok(Place::Nobody);
    }
    if let Ok(address) = text.parse() {
        return Ok(Place::Server(address, None));
    }
    match text.parse::<SocketAddr>() {
        Ok(server) => Ok(Place::Server(server.ip(), Some(server.port()))),
        Err(_) => Err(format!(
            "`{text}` is no place to go: an address, ADDRESS:PORT, or `none` follows the arrow"
        )),
    }
}

#[cfg(test)]
mod tests;
