//! Who is told of changes: scripts, FIFOs and mail.
//!
//! **Invariant:** a script is a list of words, the first a path: no shell ever sees it.
//!
//! Part of [`crate::health`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The user that a script runs as (keepalived.conf(5), `script_user`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ScriptUser {
    /// Name of the user, or its number.
    pub user: String,
    /// Name of the group, or its number; `None` = the user's own.
    #[serde(default)]
    pub group: Option<String>,
}

/// A program to run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Script {
    /// The program and its arguments; never empty.
    pub words: Vec<String>,
    /// Who runs it; `None` = the `script_user` of [`Notifications`].
    #[serde(default)]
    pub user: Option<ScriptUser>,
}

/// A named pipe that gets a line for each change (`lvs_notify_fifo`, `notify_fifo`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fifo {
    /// The pipe; made if it does not exist.
    pub path: PathBuf,
    /// Whose pipe it is when it is made; `None` = the `script_user` of [`Notifications`].
    #[serde(default)]
    pub user: Option<ScriptUser>,
    /// Program that reads it, started with the pipe's path as its last argument.
    #[serde(default)]
    pub script: Option<Script>,
}

/// How mail is sent (`smtp_server` and the settings beside it).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mail {
    /// The mail server.
    pub server: MailServer,
    /// Name given in HELO; `None` = the host's.
    #[serde(default)]
    pub helo_name: Option<String>,
    /// Longest that the whole delivery may take.
    pub timeout: Duration,
    /// Sender.
    pub from: String,
    /// Receivers; never empty.
    pub to: Vec<String>,
}

/// Where mail goes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MailServer {
    /// By address.
    Address(SocketAddr),
    /// By name, resolved for each mail.
    Name {
        /// Host name.
        host: String,
        /// Port.
        port: u16,
    },
}

/// Who is told, and by what name this director calls itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notifications {
    /// `router_id`: stands in the subject of mails; `None` = the host's name.
    pub router_id: Option<String>,
    /// Mail; `None` = none is sent.
    pub mail: Option<Mail>,
    /// `lvs_notify_fifo`: virtual and real servers.
    pub lvs_fifo: Option<Fifo>,
    /// `notify_fifo`: everything.
    pub fifo: Option<Fifo>,
    /// `script_user`; `None` = `keepalived_script` if there is such a user, else root.
    pub script_user: Option<ScriptUser>,
    /// `enable_script_security`: no script runs as root whose path others than root may write to.
    pub script_security: bool,
    /// `rs_init_notifies`: the first state of a real server is told like a change.
    pub initial: bool,
    /// `startup_script`, and how long it may take.
    pub startup: Option<(Script, Duration)>,
    /// `shutdown_script`, and how long it may take.
    pub shutdown: Option<(Script, Duration)>,
}
