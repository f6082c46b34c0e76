//! The daemon under test.
//!
//! **Invariant:** when a daemon is started with a configuration, it is ready to forward; its pins and socket bear the
//! test's name.
//!
//! Called by [`Topology::daemon`](crate::Topology::daemon).

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use elvs_api::{Client, ClientError, Status};
use elvs_model::health::HealthView;

use crate::Topology;
use crate::process::{Process, output_of, wait_until};

/// `elvs run` on a topology's director.
#[derive(Debug)]
pub struct Daemon {
    /// The process, ended with this value.
    pub process: Process,
    config: Option<PathBuf>,
    socket: PathBuf,
    program: PathBuf,
}

impl Daemon {
    /// Starts the daemon and waits until it answers, and with a configuration until it forwards.
    ///
    /// # Panics
    /// If it does not come up.
    pub(crate) fn start(topology: &Topology, config: Option<&str>) -> Self {
        let socket = topology.directory().join("elvs.sock");
        let program = program();
        let file = topology.directory().join("keepalived.conf");
        let mut command = topology.bed().director.command(&program);
        command.arg("--socket").arg(&socket).args(["run", "--instance"]);
        command.arg(format!("lab-{}", topology.name()));
        let config = config.map(|text| {
            fs::write(&file, text).expect("a configuration file");
            command.arg("-f").arg(&file);
            file
        });
        let process = Process::spawn(command, &topology.directory().join("daemon.log"));
        let mut daemon = Self { process, config, socket, program };
        wait_until("the daemon to answer", || {
            assert!(daemon.process.is_running(), "the daemon ended: {}", daemon.process.log());
            Client::connect(&daemon.socket).is_ok()
        });
        if daemon.config.is_some() {
            daemon.wait_ready();
        }
        daemon
    }

    /// Waits until the program is attached and every next hop is resolved.
    ///
    /// # Panics
    /// If that does not come to pass.
    pub fn wait_ready(&self) {
        wait_until("the director to be ready", || {
            let status = self.status();
            !status.interfaces.is_empty() && status.unresolved.is_empty()
        });
    }

    /// What `elvs status` shows.
    ///
    /// # Panics
    /// If the daemon does not answer.
    pub fn status(&self) -> Status {
        let mut client = Client::connect(&self.socket).expect("a daemon that answers");
        client.status().expect("its status")
    }

    /// What checks found.
    ///
    /// # Panics
    /// If the daemon does not answer.
    pub fn health(&self) -> HealthView {
        let mut client = Client::connect(&self.socket).expect("a daemon that answers");
        client.health().expect("what checks found")
    }

    /// Packets counted by a reason, dropped or not.
    ///
    /// # Panics
    /// If the daemon does not answer.
    pub fn counted(&self, reason: &str) -> u64 {
        let status = self.status();
        let all = status.drops.iter().chain(&status.events);
        all.filter(|count| count.reason == reason).map(|count| count.packets).sum()
    }

    /// Runs `elvs adm` with arguments, split at spaces.
    pub fn adm(&self, arguments: &str) -> Output {
        let mut command = self.elvs();
        command.arg("adm").args(arguments.split_whitespace());
        command.output().expect("the program under test")
    }

    /// Runs `elvs adm` and returns its output.
    ///
    /// # Panics
    /// If it fails.
    pub fn adm_ok(&self, arguments: &str) -> String {
        let mut command = self.elvs();
        command.arg("adm").args(arguments.split_whitespace());
        output_of(command)
    }

    /// A command line of the program under test that talks to this daemon.
    pub fn elvs(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--socket").arg(&self.socket);
        command
    }

    /// Writes another text into the configuration file, for a reload.
    ///
    /// # Panics
    /// If the daemon was started without one.
    pub fn write_config(&self, text: &str) {
        let file = self.config.as_ref().expect("a daemon with a configuration file");
        fs::write(file, text).expect("a configuration file");
    }

    /// Has the configuration file read again; returns the number of changes.
    ///
    /// # Errors
    /// What the daemon says against the file.
    ///
    /// # Panics
    /// If the daemon does not answer.
    pub fn reload(&self) -> Result<usize, ClientError> {
        let mut client = Client::connect(&self.socket).expect("a daemon that answers");
        Ok(client.reload()?.changes)
    }

    /// The program under test.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The socket's path.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

/// The program under test: `ELVS_BIN`, or `elvs` in the directory of this test's build.
///
/// # Panics
/// If it was not built.
pub fn program() -> PathBuf {
    let program = env::var_os("ELVS_BIN").map_or_else(
        || {
            let test = env::current_exe().expect("the test's own file");
            // target/PROFILE/deps/TEST
            let profile = test.ancestors().nth(2).expect("a build directory");
            profile.join("elvs")
        },
        PathBuf::from,
    );
    assert!(
        program.is_file(),
        "{} is missing: build it with `cargo build -p elvs` or name it in ELVS_BIN",
        program.display()
    );
    program
}
