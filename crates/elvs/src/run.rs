//! `elvs run`: the daemon in the foreground.
//!
//! Checks of real servers have a thread of their own (`health`). Tasks, all on one thread: the API's server; the ticker, which expires connections, keeps the defence level, moves rates
//! and gives up what is no longer used; the router, which learns next hops from the kernel; the one that puts in force what
//! checks decide; the one that undoes drift; the one that looks for what this host lacks; and the main task, which waits
//! for signals.
//! The table is changed under one lock, by the API or by a reload, never by both at once. Any task may be cancelled
//! at any await: what packets need is in the kernel, and the state file is written before the kernel's tables change.
//!
//! **Invariant:** there is one daemon per instance; what ran before a refused reload runs on.
//!
//! Called by the command line.

mod api;
mod health;
mod interfaces;
mod local;
mod logging;
mod memory;
mod node;
mod notify;
mod routes;

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use elvs_common::DEFAULT_LOCALS;
use elvs_config::{Diagnostic, Severity, render};
use elvs_dataplane::{DEFAULT_CONNECTIONS, Defence, Estimator, PIN_ROOT, Plane, STATE_ROOT};
use elvs_model::Desired;
use elvs_net::Netlink;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::UnixListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use crate::files;
use api::Api;
pub(crate) use api::CONNECTION_TABLE_SIZE;
use health::Health;
use node::Node;

/// Configuration that is read when no file is named and it exists.
pub const DEFAULT_CONFIG: &str = "/etc/elvs/elvs.conf";

/// How long scripts and mails of the last moment (`omega`) may take.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Options of `elvs run`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Configuration file [default: /etc/elvs/elvs.conf if it exists, else an empty table]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Name for which `@id` lines count [default: the first label of this host's name]
    #[arg(short = 'i', long, value_name = "ID")]
    config_id: Option<String>,
    /// Name of this director; its pins and its state have their own directories
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = instance_name)]
    instance: String,
    /// On SIGTERM leave the data plane forwarding, to be taken over by the next daemon
    #[arg(long)]
    leave_running: bool,
    /// Log lines of at least this level: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "info", env = "ELVS_LOG")]
    log_level: tracing::Level,
}

/// A name that is one directory.
fn instance_name(name: &str) -> Result<String, String> {
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > 32 || !name.chars().all(valid) {
        return Err("an instance is named by 1 to 32 letters, digits, `-` and `_`".to_owned());
    }
    Ok(name.to_owned())
}

/// Runs the daemon until SIGTERM or SIGINT.
///
/// # Errors
/// What kept it from starting: no root, a configuration with errors, another daemon, a kernel that refuses.
pub fn run(options: &Options, socket: &Path) -> Result<ExitCode> {
    logging::start(options.log_level)?;
    if !nix::unistd::geteuid().is_root() {
        bail!("elvs run needs root (CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON): try `sudo elvs run`");
    }
    let file = options
        .file
        .clone()
        .or_else(|| Path::new(DEFAULT_CONFIG).exists().then(|| DEFAULT_CONFIG.into()));
    let file = file.map(|path| ConfigFile { path, id: options.config_id.clone() });
    let desired = match &file {
        Some(file) => read_config(file)?,
        None => Desired::default(),
    };
    let state_dir = Path::new(STATE_ROOT).join(&options.instance);
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(options, socket, file, desired, &state_dir))
}

/// A check that runs holds a socket, and thousands may run at a time.
fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        warn!(
            "the number of open files stays as it was, which limits checks that run at a time: {error}"
        );
    }
}

async fn serve(
    options: &Options,
    socket: &Path,
    file: Option<ConfigFile>,
    desired: Desired,
    state_dir: &Path,
) -> Result<ExitCode> {
    // Registered first, so that no signal during the start is lost or kills the process half way.
    let mut signals = Signals::new()?;
    let netlink = Netlink::new()?;
    let notifications = desired.health.notifications.clone();
    notify::run_own("startup_script", notifications.startup.as_ref(), &notifications).await;
    let opened = elvs_dataplane::open(&elvs_dataplane::Options {
        instance: options.instance.clone(),
        pin_root: PIN_ROOT.into(),
        state_dir: STATE_ROOT.into(),
        connections: desired.data_plane.connections.unwrap_or(DEFAULT_CONNECTIONS),
        wide_connections: desired.data_plane.wide_connections,
        locals: room_for_locals(&desired),
    })?;
    for warning in &opened.warnings {
        warn!("{warning}");
    }
    let plane: Box<dyn Plane> = Box::new(opened.plane);
    let (connections, memory) = (plane.capacity(), plane.memory_bytes());
    info!(
        instance = options.instance,
        adopted = opened.adopted,
        "data plane ready: room for {connections} connections, tables take {} MiB",
        memory.div_ceil(1 << 20)
    );
    let health = Health::start(state_dir)?;
    let node = Arc::new(Node::new(plane, netlink, health, &options.instance, file, state_dir));
    let listener = match begin(&node, desired, socket).await {
        Ok(listener) => listener,
        Err(error) => {
            // What an earlier daemon left forwarding stays; what this one made goes.
            if !opened.adopted
                && let Err(left) = node.teardown().await
            {
                warn!("the data plane is left behind: {left:#}");
            }
            return Err(error);
        }
    };
    let api = tokio::spawn(elvs_api::serve(
        listener,
        Arc::new(Api(node.clone())),
        std::future::pending(),
    ));
    let ticker = tokio::spawn(tick(node.clone()));
    let router = tokio::spawn(routes::keep(node.clone()));
    let effects = tokio::spawn(node::carry_out_effects(node.clone()));
    let drift = tokio::spawn(node::restore_drift(node.clone()));
    let passive = tokio::spawn(node::sample_connections(node.clone()));
    let host = tokio::spawn(node::keep_looking_at_host(node.clone()));
    info!(socket = %socket.display(), "ready");
    let well = obey(&node, &mut signals).await;
    for task in [router, effects, drift, passive, host, ticker] {
        task.abort();
    }
    api.abort();
    let _ = std::fs::remove_file(socket);
    if !well {
        bail!(
            "checks do not run any more, because of a fault in them: the data plane goes on forwarding for the next daemon"
        );
    }
    let last = node.stop(STOP_LIMIT, options.leave_running).await;
    if options.leave_running {
        node.flush_if_asked().await?;
        info!("stopped; the data plane goes on forwarding");
    } else {
        node.teardown().await?;
        info!("stopped; the program is detached and its tables are gone");
    }
    notify::run_own("shutdown_script", last.shutdown.as_ref(), &last).await;
    Ok(ExitCode::SUCCESS)
}

/// Answers signals until one of them ends the daemon; false if checks broke down before.
async fn obey(node: &Node, signals: &mut Signals) -> bool {
    loop {
        let asked = tokio::select! {
            asked = signals.next() => asked,
            () = node.health.broken.notified() => return false,
        };
        match asked {
            Asked::Stop => return true,
            Asked::Reload => match node.reload().await {
                Ok(0) => info!("reloaded: nothing changed"),
                Ok(changes) => info!(changes, "reloaded"),
                Err(error) => error!("reload refused, everything stays as it is: {error:#}"),
            },
        }
    }
}

/// Local addresses of full NAT to make room for.
fn room_for_locals(desired: &Desired) -> u32 {
    let all: HashSet<IpAddr> =
        desired.services.iter().flat_map(|service| service.local_addresses.iter()).collect();
    let there = u32::try_from(all.len()).unwrap_or(u32::MAX);
    desired.data_plane.local_addresses.unwrap_or_else(|| there.max(DEFAULT_LOCALS))
}

/// Listens on the socket and puts the configuration in force; a failure leaves no socket.
async fn begin(node: &Node, desired: Desired, socket: &Path) -> Result<UnixListener> {
    let listener = elvs_api::bind(socket)?;
    if let Err(error) = node.start(desired).await {
        let _ = std::fs::remove_file(socket);
        return Err(error);
    }
    Ok(listener)
}

/// A configuration file, and as whose it is read.
#[derive(Clone, Debug)]
struct ConfigFile {
    path: PathBuf,
    /// What `@id` lines are compared with; `None` = the first label of the host's name.
    id: Option<String>,
}

/// Reads a configuration; errors are answered, every other finding goes to the log.
fn read_config(file: &ConfigFile) -> Result<Desired> {
    let (desired, findings) = read_file(file)?;
    log_findings(&findings);
    Ok(desired)
}

/// Reads a configuration with all that there is to say of it; errors are answered.
fn read_file(file: &ConfigFile) -> Result<(Desired, Vec<Diagnostic>)> {
    let path = file.path.to_string_lossy();
    let outcome = match &file.id {
        Some(id) => files::read_as(&path, id.clone()),
        None => files::read(&path),
    };
    match outcome.desired {
        Some(desired) => Ok((desired, outcome.diagnostics)),
        None => {
            log_findings(&outcome.diagnostics);
            let errors: Vec<Diagnostic> =
                outcome.diagnostics.into_iter().filter(|d| d.severity == Severity::Error).collect();
            bail!("{path} has errors\n{}", render(&errors, &outcome.sources, false))
        }
    }
}

/// Logs warnings and notes; errors are for whoever refuses because of them.
fn log_findings(diagnostics: &[Diagnostic]) {
    for diagnostic in diagnostics {
        match diagnostic.severity {
            Severity::Error => {}
            Severity::Warning => warn!("{diagnostic}"),
            Severity::Note => info!("{diagnostic}"),
        }
    }
}

/// Expires connections slice by slice, so that a pass takes about a second and the API never waits long.
async fn tick(node: Arc<Node>) {
    const SLICES: u32 = 16;
    let mut slices = interval(Duration::from_millis(1_000 / u64::from(SLICES)));
    slices.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut rates = interval(Estimator::PERIOD);
    let mut defence = interval(Duration::from_secs(1));
    let mut collection = interval(Duration::from_secs(60));
    let mut level = Defence::default();
    let mut flood = FloodWatch::default();
    loop {
        tokio::select! {
            _ = slices.tick() => node.with_plane(|plane| {
                let buckets = plane.buckets().div_ceil(SLICES);
                plane.sweep(buckets);
                flood.look(plane);
            }),
            _ = rates.tick() => {
                if let Err(error) = node.with_plane(|plane| plane.estimate()) {
                    warn!("rates cannot be read: {error}");
                }
            }
            _ = defence.tick() => {
                let before = std::mem::replace(&mut level, defend(&node));
                if before != level {
                    info!(
                        drop_entry = level.drop_entry,
                        drop_packet = level.drop_rate,
                        secure_tcp = level.secure_tcp,
                        "defence level changed"
                    );
                }
            }
            _ = collection.tick() => {
                if let Err(error) = node.with_plane(|plane| plane.collect()) {
                    warn!("removed destinations cannot be given up: {error}");
                }
            }
        }
    }
}

/// Puts the defence level of this moment in force.
fn defend(node: &Node) -> Defence {
    let asks = node.with_plane(|plane| plane.asks_for_memory());
    let free_pages = if asks { memory::free_pages() } else { None };
    node.with_plane(|plane| plane.defend(free_pages))
}

/// Tells the log of floods, once as each begins and ends.
#[derive(Default)]
struct FloodWatch {
    on: bool,
}

impl FloodWatch {
    fn look(&mut self, plane: &dyn Plane) {
        let on = plane.is_flooded();
        if on == self.on {
            return;
        }
        self.on = on;
        let connections = plane.live_connections();
        if on {
            warn!(
                connections,
                "flood: half-open flows are kept out of the flow table (docs/flood-defence.md)"
            );
        } else {
            info!(connections, "the flood is over");
        }
    }
}

/// What a signal asks for.
enum Asked {
    Reload,
    Stop,
}

/// The signals the daemon answers.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let register = |kind| signal(kind).context("cannot register for signals");
        Ok(Self {
            hangup: register(SignalKind::hangup())?,
            terminate: register(SignalKind::terminate())?,
            interrupt: register(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.hangup.recv() => Asked::Reload,
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::instance_name;

    #[test]
    fn an_instance_is_named_by_one_plain_word() {
        assert_eq!(instance_name("web-1_a"), Ok("web-1_a".to_owned()));
        for name in ["", "..", "a/b", "a b", "ä", &"x".repeat(33)] {
            assert!(instance_name(name).is_err(), "{name:?}");
        }
    }
}
