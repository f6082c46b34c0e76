//! What a command line means.
//!
//! **Invariant:** a [`Command`] obeys every rule of ipvsadm; only the director can still refuse it.
//!
//! Built by the argument reader, carried out by the runner.

use elvs_model::{Change, ConnectionFilter, ServiceKey, VirtualService};

/// A command ready to be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `-A` or `-E` with a scheduler that exists.
    Service {
        /// `-E`.
        edit: bool,
        /// The service as it shall be.
        service: VirtualService,
    },
    /// `-A` or `-E` with a scheduler that does not: the director still decides which error comes first.
    UnknownScheduler {
        /// `-E`.
        edit: bool,
        /// The service it was for.
        service: ServiceKey,
    },
    /// `-D`, `-C`, `-a`, `-e`, `-d`, `--set`, `--start-daemon`, `--stop-daemon`.
    Change(Change),
    /// `--add-laddr`, `--del-laddr`: all of them or none.
    Changes(Vec<Change>),
    /// `-L`.
    List(List),
    /// `-S`.
    Save {
        /// `-n`.
        numeric: bool,
    },
    /// `-R`.
    Restore,
    /// `-Z`.
    Zero(Option<ServiceKey>),
    /// `-h`.
    Help,
    /// `-v`.
    Version,
}

/// `-L` and its modifiers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// What is listed.
    pub subject: Subject,
    /// Columns of services and destinations.
    pub columns: Columns,
    /// `-n`: neither hosts nor services are looked up.
    pub numeric: bool,
    /// `--exact`: numbers are not shortened.
    pub exact: bool,
    /// `--nosort`: the kernel's order.
    pub unsorted: bool,
    /// `--persistent-conn`, which also widens the listing of connections.
    pub persistent: bool,
    /// `--json`: ELVS's own.
    pub json: bool,
}

/// What `-L` lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Subject {
    /// Every service.
    #[default]
    All,
    /// One service.
    Service(ServiceKey),
    /// `-c`, those that pass the filter.
    Connections(ConnectionFilter),
    /// `--timeout`.
    Timeouts,
    /// `--daemon`.
    Daemons,
    /// `--list-laddr`, of one service or of all.
    LocalAddresses(Option<ServiceKey>),
}

/// Columns of services and destinations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Columns {
    /// Forwarding method, weight, connections.
    #[default]
    Plain,
    /// `--stats`.
    Statistics,
    /// `--rate`.
    Rates,
    /// `--thresholds`.
    Thresholds,
    /// `--persistent-conn`.
    Persistent,
    /// `--tun-info`.
    Tunnels,
}

/// Why a command line was refused: what to print on stderr, and how to exit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Exit code.
    pub code: u8,
    /// Text for stderr, line ends included.
    pub message: String,
    /// Whether `-R` stops at such a line.
    pub fatal: bool,
}
