//! A bed for one test, with a directory for its files.
//!
//! **Invariant:** the test's name is its own: two topologies of a name never live at the same time.
//!
//! Called by the lab's tests.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use elvs_model::ForwardingMethod;
use elvs_net::bed::{self, Bed, Host, LOCAL, Plan, VIP};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::daemon::program;
use crate::{Daemon, Nginx, Process, Vsftpd, require_root, wait_until};

/// Client, director and real servers of one test.
#[derive(Debug)]
pub struct Topology {
    name: String,
    bed: Bed,
    directory: TempDir,
}

impl Topology {
    /// Builds a bed; what a crashed run of the same test left is removed first.
    ///
    /// # Panics
    /// Without root, or if the kernel refuses a step.
    pub fn new(name: &str, method: ForwardingMethod, real_servers: u8) -> Self {
        require_root();
        // No name of a bed begins with another's and this dot, so no bed takes what lives for leftovers of its own.
        let prefix = format!("elvs-lab-{name}.");
        for pid in bed::processes_in(&prefix).expect("a list of namespaces") {
            // One that ends by itself meanwhile is what was wanted.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        Bed::remove_leftovers(&prefix).expect("no leftovers");
        let bed = Bed::build(Plan { prefix, method, real_servers });
        let bed = bed.unwrap_or_else(|e| panic!("cannot build the bed of {name}: {e:?}"));
        // What checks of an earlier run found is no concern of this one, nor are its connections and counters.
        remove_state(name);
        let directory = tempfile::Builder::new().prefix("elvs-lab-").tempdir();
        Self { name: name.to_owned(), bed, directory: directory.expect("a directory") }
    }

    /// The test's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The bed.
    pub fn bed(&self) -> &Bed {
        &self.bed
    }

    /// A directory that goes with the topology.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A real server, counted from 1 as its name is.
    ///
    /// # Panics
    /// If there is none of that number.
    pub fn real_server(&self, number: usize) -> &Host {
        let index = number.checked_sub(1).expect("real servers are counted from 1");
        self.bed.real_servers.get(index).expect("a real server of the plan")
    }

    /// A command of the client.
    pub fn client(&self, program: &str) -> Command {
        self.bed.client.command(program)
    }

    /// nginx on every real server, answering with the server's name.
    pub fn nginx(&self) -> Vec<Nginx> {
        let hosts = self.bed.real_servers.iter();
        hosts.map(|host| Nginx::start(host, self.directory.path())).collect()
    }

    /// vsftpd on every real server.
    pub fn vsftpd(&self) -> Vec<Vsftpd> {
        let hosts = self.bed.real_servers.iter();
        hosts.map(|host| Vsftpd::start(host, self.directory.path())).collect()
    }

    /// `elvs realserver` on every real server, which takes the outer header off tunnelled packets.
    ///
    /// # Panics
    /// If it does not start.
    pub fn decapsulate(&self) -> Vec<Process> {
        let start = |host: &Host| {
            let mut command = host.command(program());
            command.args(["realserver", "--decap", "eth0"]);
            let log = self.directory().join(format!("{}-decap.log", host.name));
            let mut process = Process::spawn(command, &log);
            wait_until("decapsulation", || {
                assert!(process.is_running(), "it ended: {}", process.log());
                process.log().contains("decapsulating")
            });
            process
        };
        self.bed.real_servers.iter().map(start).collect()
    }

    /// A keepalived.conf with one virtual service on the VIP's port 80 and the first `real_servers` real servers.
    pub fn config(&self, scheduler: &str, real_servers: usize) -> String {
        let kind = match self.bed.plan.method {
            ForwardingMethod::Dr => "DR",
            ForwardingMethod::Nat => "NAT",
            ForwardingMethod::Tun(_) => "TUN",
            ForwardingMethod::FullNat => "FNAT",
        };
        let locals = if kind == "FNAT" {
            format!("local_address_group local {{\n    {LOCAL}\n}}\n")
        } else {
            String::new()
        };
        let group = if locals.is_empty() { "" } else { "    laddr_group_name local\n" };
        let mut text = format!(
            "{locals}virtual_server {VIP} 80 {{\n    lb_algo {scheduler}\n    lb_kind {kind}\n{group}    protocol TCP\n"
        );
        for host in self.bed.real_servers.iter().take(real_servers) {
            text += &format!("    real_server {} 80 {{\n        weight 1\n    }}\n", host.address);
        }
        text + "}\n"
    }

    /// The daemon on the director, with a configuration file if `config` is given.
    pub fn daemon(&self, config: Option<&str>) -> Daemon {
        Daemon::start(self, config)
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        remove_state(&self.name);
    }
}

/// Removes what an instance keeps beyond the daemon's end: pinned programs and tables, and files under `/run`. A daemon
/// that was killed leaves them for the next one.
fn remove_state(name: &str) {
    for root in ["/sys/fs/bpf/elvs", "/run/elvs"] {
        let directory = Path::new(root).join(format!("lab-{name}"));
        match std::fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != ErrorKind::NotFound && !std::thread::panicking() => {
                panic!("cannot remove {}: {error}", directory.display());
            }
            _ => {}
        }
    }
}
