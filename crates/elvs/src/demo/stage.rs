//! The hosts around the director: bed, real servers, and the configuration file.
//!
//! **Invariant:** when a stage exists, every real server answers on its own address.
//!
//! Called by the demo.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};

use anyhow::{Context, Result};
use elvs_net::bed::{Bed, Host};

use super::config;
use super::director::Director;
use super::options::{Mode, Settings};
use super::process::Process;
use super::state::{self, State};
use super::stop::Stop;

/// Client and real servers, ready for a director.
pub(super) struct Stage {
    // Dropped in this order: processes before the namespaces they are in.
    /// One for each real server, `rs1` first; `None` has failed.
    servers: Vec<Option<Process>>,
    bed: Bed,
    config: String,
    /// Real servers that get traffic at the beginning.
    real_servers: usize,
    keep: bool,
}

impl Stage {
    /// Builds the bed and starts the real servers.
    pub fn build(settings: &Settings, state: &mut State, stop: &Stop) -> Result<Self> {
        let bed = Bed::build(settings.plan()).context("cannot build the network")?;
        let mut stage = Self {
            servers: Vec::new(),
            bed,
            config: config::write(settings),
            real_servers: settings.weights.len(),
            keep: settings.keep,
        };
        fs::write(state::path(CONFIG), &stage.config).context("cannot write the configuration")?;
        for (number, host) in (1_u8..).zip(&stage.bed.real_servers) {
            stop.check()?;
            let server = start_server(host, &settings.name(number), settings, state)?;
            stage.servers.push(Some(server));
        }
        for server in stage.servers.iter_mut().flatten() {
            wait_ready(server)?;
        }
        Ok(stage)
    }

    /// Ends a real server's program; its host stays.
    pub fn fail(&mut self, number: u8) {
        if let Some(server) = self.servers.get_mut(usize::from(number.saturating_sub(1))) {
            *server = None;
        }
    }

    /// Starts a real server's program again, if it does not run.
    pub fn restore(&mut self, number: u8, settings: &Settings, state: &mut State) -> Result<()> {
        let index = usize::from(number.saturating_sub(1));
        let (Some(host), Some(place @ None)) =
            (self.bed.real_servers.get(index), self.servers.get_mut(index))
        else {
            return Ok(());
        };
        let mut server = start_server(host, &settings.name(number), settings, state)?;
        wait_ready(&mut server)?;
        *place = Some(server);
        Ok(())
    }

    /// Starts `elvs run` in the director and waits until it forwards.
    pub fn start_director(&self, state: &mut State, stop: &Stop) -> Result<Director> {
        let mut command = self.bed.director.command(own_program()?);
        let socket = state::path(SOCKET);
        command.arg("--socket").arg(&socket).arg("run");
        command.arg("-f").arg(state::path(CONFIG)).args(["--instance", state::INSTANCE]);
        let process = Process::spawn(command, "director", state, self.keep)?;
        Director::wait_ready(process, &socket, self.real_servers, stop)
    }

    /// Where requests come from.
    pub fn client(&self) -> &Host {
        &self.bed.client
    }

    /// MAC address that the director's frames to the client bear.
    pub fn director_mac(&self) -> Result<[u8; 6]> {
        self.bed.director.mac("eth0")?.context("the director's eth0 has no MAC address")
    }

    /// Text of the configuration file.
    pub fn config(&self) -> &str {
        &self.config
    }

    /// Lets everything stay.
    pub fn keep(self) {
        self.servers.into_iter().flatten().for_each(Process::keep);
        self.bed.keep();
    }
}

fn start_server(
    host: &Host,
    name: &str,
    settings: &Settings,
    state: &mut State,
) -> Result<Process> {
    let mut command = host.command(own_program()?);
    command.args(["demo-server", "--name", name, "--listen"]);
    command.arg(format!("0.0.0.0:{}", config::PORT));
    if settings.mode == Mode::Tun {
        command.args(["--decapsulate", "eth0"]);
    }
    Process::spawn(command, &host.name, state, settings.keep)
}

/// Waits for the line that says that the server answers, or for its end.
fn wait_ready(server: &mut Process) -> Result<()> {
    let mut line = String::new();
    if let Some(stdout) = server.take_stdout() {
        BufReader::new(stdout).read_line(&mut line).context("cannot hear a real server")?;
    }
    if line.trim_end() == "ready" {
        return Ok(());
    }
    Err(server.failure("does not start"))
}

/// The file of this program.
fn own_program() -> Result<OsString> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    Ok(program.into_os_string())
}

/// Configuration file of the director.
pub(super) const CONFIG: &str = "keepalived.conf";

/// Socket of the director.
pub(super) const SOCKET: &str = "elvs.sock";
