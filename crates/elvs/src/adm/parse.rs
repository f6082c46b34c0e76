//! Command line of ipvsadm 1.31 to [`Command`].
//!
//! **Invariant:** of several mistakes the one that ipvsadm reports is reported: options are read left to right, then
//! leftovers, scheduler flags, legality, and the values together.
//!
//! Called by the runner, once per command and once per line of `-R`.

use elvs_model::{
    Change, Destination, Family, Protocol, SchedulerFlags, ServiceKey, SyncRole, Timeouts,
    VirtualService,
};

use super::command::{Columns, Command, Failure, List, Subject};
use super::draft::Draft;
use super::names::Names;
use super::number;
use super::option::{Kind, Meaning, Rule, Verb, rule};
use super::scan::{ScanError, Scanner};
use super::text;

/// Reads the words after the program's name.
///
/// # Errors
/// What ipvsadm would print and return instead of acting.
pub fn parse(program: &str, words: &[String], names: &dyn Names) -> Result<Command, Failure> {
    let mut scanner = Scanner::new(words);
    let Ok(Some((Meaning::Verb(verb), value))) = scanner.option() else {
        return Err(try_help(program));
    };
    scanner.is_for(verb);
    let mut role = SyncRole::Master;
    match verb {
        Verb::Help => return Ok(Command::Help),
        Verb::Version => return Ok(Command::Version),
        Verb::StartDaemon => role = role_of(value, "illegal start-daemon parameter specified")?,
        Verb::StopDaemon => role = role_of(value, "illegal start_daemon specified")?,
        Verb::AddService
        | Verb::EditService
        | Verb::DeleteService
        | Verb::Flush
        | Verb::AddServer
        | Verb::EditServer
        | Verb::DeleteServer
        | Verb::List
        | Verb::Zero
        | Verb::Restore
        | Verb::Save
        | Verb::AddLocal
        | Verb::DeleteLocal
        | Verb::ListLocal
        | Verb::Set => {}
    }
    let mut draft = Draft::new(names, verb, verb == Verb::List && lists_connections(words));
    while let Some((meaning, value)) = scanner.option().map_err(|e| unreadable(&e))? {
        if matches!(meaning, Meaning::Verb(_)) {
            return Err(fail(format!("invalid option `{}'", scanner.last_word())));
        }
        draft.option(meaning, value)?;
    }
    let mut arguments = scanner.into_arguments().into_iter();
    let timeouts = if verb == Verb::Set { set_timeouts(&mut arguments)? } else { KEEP };
    if let Some(argument) = arguments.next() {
        return Err(fail(format!("unexpected argument {argument}")));
    }
    let flags = draft.scheduler_flags()?;
    check_legality(verb, &draft)?;
    Ok(match verb {
        Verb::AddService => service(false, &draft, flags)?,
        Verb::EditService => service(true, &draft, flags)?,
        Verb::DeleteService => Command::Change(Change::DeleteService(draft.key())),
        Verb::Flush => Command::Change(Change::Flush),
        Verb::AddServer => {
            let (service, destination) = server(&draft)?;
            Command::Change(Change::AddDestination { service, destination })
        }
        Verb::EditServer => {
            let (service, destination) = server(&draft)?;
            Command::Change(Change::EditDestination { service, destination })
        }
        Verb::DeleteServer => {
            let (service, destination) = (draft.key(), draft.server());
            Command::Change(Change::DeleteDestination { service, destination })
        }
        Verb::List => Command::List(list(&draft)?),
        Verb::Zero => Command::Zero(draft.has(Kind::Service).then(|| draft.key())),
        Verb::Restore => Command::Restore,
        Verb::Save => Command::Save { numeric: draft.has(Kind::Numeric) },
        Verb::Set => Command::Change(Change::SetTimeouts(timeouts)),
        Verb::StartDaemon => Command::Change(Change::StartSync(draft.sync_daemon(role))),
        Verb::StopDaemon => Command::Change(Change::StopSync(role)),
        Verb::AddLocal => {
            let service = draft.key();
            let change = |address| Change::AddLocalAddress { service, address };
            Command::Changes(draft.local_addresses().map(change).collect())
        }
        Verb::DeleteLocal => {
            let service = draft.key();
            let change = |address| Change::DeleteLocalAddress { service, address };
            Command::Changes(draft.local_addresses().map(change).collect())
        }
        Verb::ListLocal => Command::List(List {
            subject: Subject::LocalAddresses(draft.has(Kind::Service).then(|| draft.key())),
            numeric: draft.has(Kind::Numeric),
            json: draft.has(Kind::Json),
            ..List::default()
        }),
        Verb::Help => Command::Help,
        Verb::Version => Command::Version,
    })
}

/// Whether a line has `-c`, after which `-r` is legal and may come several times: ELVS's own.
fn lists_connections(words: &[String]) -> bool {
    let mut scanner = Scanner::new(words);
    while let Ok(Some((meaning, _))) = scanner.option() {
        if meaning == Meaning::Kind(Kind::Connection) {
            return true;
        }
    }
    false
}

/// `--set 0 0 0`.
const KEEP: Timeouts = Timeouts { tcp: 0, tcp_fin: 0, udp: 0 };

/// Exit 2 with one line.
pub(super) fn fail(message: impl Into<String>) -> Failure {
    let mut message = message.into();
    message.push('\n');
    Failure { code: 2, message, fatal: true }
}

/// What is printed where no command was given.
pub(super) fn try_help(program: &str) -> Failure {
    Failure { code: 255, message: text::try_help(program), fatal: true }
}

/// libpopt's complaint: `-R` goes on behind such a line.
fn unreadable(error: &ScanError) -> Failure {
    let message = format!("{}: {}\n", error.word, error.problem);
    Failure { code: 255, message, fatal: false }
}

fn role_of(value: Option<&str>, message: &str) -> Result<SyncRole, Failure> {
    value.and_then(SyncRole::from_name).ok_or_else(|| fail(message))
}

fn set_timeouts<'a>(arguments: &mut impl Iterator<Item = &'a str>) -> Result<Timeouts, Failure> {
    let (Some(tcp), Some(tcp_fin), Some(udp)) =
        (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err(fail("--set option requires 3 timeout values"));
    };
    let seconds = |value| timeout(value, 0);
    Ok(Timeouts { tcp: seconds(tcp)?, tcp_fin: seconds(tcp_fin)?, udp: seconds(udp)? })
}

/// Seconds up to 31 days.
pub(super) fn timeout(value: &str, least: u32) -> Result<u32, Failure> {
    const MAX_TIMEOUT_S: u32 = 31 * 86_400;
    number::number(value, least..=MAX_TIMEOUT_S)
        .ok_or_else(|| fail(format!("invalid timeout value `{value}' specified")))
}

fn check_legality(verb: Verb, draft: &Draft<'_>) -> Result<(), Failure> {
    let mut first: Option<Kind> = None;
    for kind in Kind::ALL {
        let (name, command) = (kind.name(), verb.name());
        let chooses = kind == Kind::Server && verb == Verb::List && draft.has(Kind::Connection);
        let rule = if chooses { Rule::Optional } else { rule(verb, kind) };
        match (rule, draft.has(kind)) {
            (Rule::Required, false) => {
                let message =
                    format!("You need to supply the '{name}' option for the '{command}' command");
                return Err(fail(message));
            }
            (Rule::Illegal, true) => {
                return Err(fail(format!("Illegal '{name}' option with the '{command}' command")));
            }
            (Rule::Exclusive, true) => match first {
                None => first = Some(kind),
                Some(first) => {
                    let other = first.name();
                    return Err(fail(format!(
                        "The option '{name}' conflicts with the '{other}' option in the '{command}' command"
                    )));
                }
            },
            (Rule::Required | Rule::Optional, true)
            | (Rule::Optional | Rule::Exclusive | Rule::Illegal, false) => {}
        }
    }
    Ok(())
}

fn service(edit: bool, draft: &Draft<'_>, flags: SchedulerFlags) -> Result<Command, Failure> {
    let key = draft.key();
    if let ServiceKey::Address { protocol, port, .. } = key {
        if port == 0 && draft.persistence.is_none() {
            return Err(fail("Zero port specified for non-persistent service"));
        }
        if draft.has(Kind::OnePacket) && protocol != Protocol::Udp {
            return Err(fail("One-Packet Scheduling is only for UDP virtual services"));
        }
    }
    let Ok(scheduler) = draft.scheduler.parse() else {
        return Ok(Command::UnknownScheduler { edit, service: key });
    };
    let service = VirtualService {
        key,
        scheduler,
        flags,
        persistence: draft.persistence,
        netmask: draft.netmask,
        one_packet: draft.has(Kind::OnePacket),
        on_delete: draft.on_delete,
        engine: (!draft.engine.is_empty()).then(|| draft.engine.to_owned()),
    };
    Ok(Command::Service { edit, service })
}

fn server(draft: &Draft<'_>) -> Result<(ServiceKey, Destination), Failure> {
    let service = draft.key();
    let mut key = draft.server();
    // Direct routing and tunnelling leave the port as it is.
    if let ServiceKey::Address { port, .. } = service
        && !draft.maps_ports()
    {
        key.port = port;
    }
    if Family::of(key.address) != service.family() && !draft.tunnels() {
        return Err(fail("Different address family is allowed only for tunneling servers"));
    }
    let destination = Destination {
        key,
        method: draft.forwarding_method()?,
        weight: draft.weight,
        upper_threshold: draft.upper_threshold,
        lower_threshold: draft.lower_threshold,
    };
    Ok((service, destination))
}

fn list(draft: &Draft<'_>) -> Result<List, Failure> {
    let has = |kind| draft.has(kind);
    let (statistics, rates) = (has(Kind::Stats), has(Kind::Rate));
    let (thresholds, persistent) = (has(Kind::Thresholds), has(Kind::PersistentConn));
    let settings = has(Kind::Timeout) || has(Kind::Daemon);
    let counters = statistics || rates || thresholds;
    if (settings || has(Kind::Connection)) && counters || settings && persistent {
        return Err(fail("options conflicts in the list command"));
    }
    for kind in [Kind::Client, Kind::State] {
        if has(kind) && !has(Kind::Connection) {
            return Err(fail(format!(
                "--{} chooses connections: write it with --connection (-c)",
                kind.name()
            )));
        }
    }
    let subject = match (has(Kind::Connection), has(Kind::Service), has(Kind::Timeout)) {
        (true, _, _) => Subject::Connections(draft.filter.clone()),
        (false, true, _) => Subject::Service(draft.key()),
        (false, false, true) => Subject::Timeouts,
        (false, false, false) if has(Kind::Daemon) => Subject::Daemons,
        (false, false, false) => Subject::All,
    };
    let columns = if statistics {
        Columns::Statistics
    } else if rates {
        Columns::Rates
    } else if thresholds {
        Columns::Thresholds
    } else if persistent {
        Columns::Persistent
    } else if has(Kind::TunInfo) {
        Columns::Tunnels
    } else {
        Columns::Plain
    };
    Ok(List {
        subject,
        columns,
        numeric: has(Kind::Numeric),
        exact: has(Kind::Exact),
        unsorted: has(Kind::NoSort),
        persistent,
        json: has(Kind::Json),
    })
}
