//! `elvs realserver toa` under test.
//!
//! **Invariant:** when it is started, its programs are attached; counters are those of the moment they are asked for.
//!
//! Called by the tests of a real server's side of FULLNAT.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::daemon::program;
use crate::{Cgroup, Process, wait_until};

/// The running command.
#[derive(Debug)]
pub struct Toa {
    process: Process,
    _directory: TempDir,
}

impl Toa {
    /// Attaches to a group, believing a prefix.
    ///
    /// # Panics
    /// If that fails.
    pub fn start(group: &Cgroup, trust: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut command = Self::command(&["--json", "--cgroup"]);
        command.arg(group.path());
        for prefix in trust {
            command.args(["--trust", prefix]);
        }
        let process = Process::spawn(command, &directory.path().join("toa.log"));
        let mut toa = Self { process, _directory: directory };
        wait_until("the programs to be attached", || {
            assert!(toa.process.is_running(), "it ended: {}", toa.process.log());
            toa.reports().len() == 1
        });
        toa
    }

    /// A command line of it.
    pub fn command(arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(["realserver", "toa"]).args(arguments);
        command
    }

    /// Counters that are not 0.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn counters(&self) -> BTreeMap<String, u64> {
        let before = self.reports().len();
        self.process.signal(Signal::SIGUSR1);
        wait_until("a report", || self.reports().len() > before);
        counters_of(self.reports().last().expect("a report"))
    }

    /// Ends it, which detaches its programs; returns the last counters.
    ///
    /// # Panics
    /// If it does not end well.
    pub fn stop(mut self) -> BTreeMap<String, u64> {
        self.process.signal(Signal::SIGINT);
        assert_eq!(self.process.wait(), Some(0), "{}", self.process.log());
        let last = self.reports().pop().expect("a report");
        assert!(last.contains("\"detached\""), "{last}");
        counters_of(&last)
    }

    /// Whole lines that it wrote.
    fn reports(&self) -> Vec<String> {
        let log = self.process.log();
        log.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(str::to_owned).collect()
    }
}

/// Counters of a JSON report that are not 0.
///
/// # Panics
/// If the text is none.
pub fn counters_of(report: &str) -> BTreeMap<String, u64> {
    let report: serde_json::Value = serde_json::from_str(report).expect("JSON");
    let counters = report.get("counters").and_then(serde_json::Value::as_object);
    let values = counters.expect("counters").iter();
    let values = values.map(|(name, value)| (name.clone(), value.as_u64().expect("a number")));
    values.filter(|(_, value)| *value != 0).collect()
}

/// Pins of the command, which belong to the whole machine.
pub fn pins() -> &'static Path {
    Path::new("/sys/fs/bpf/elvs/realserver/toa")
}
